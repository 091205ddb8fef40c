"""Requests at work: those whose client has left end, and nobody's requests take the service from the others."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest

from app.web.work import LEFT
from tests.support.serving import Api, serving
from tests.support.world import User, World, open_world, refused

LINES = {f"L{number}": {"category": "Cranes"} for number in range(20)}
READS = (
    "rows",
    "rows/L1",
    "kpis?groupBy=category",
    "rows/L1/history",
    "drafts",
)


@contextmanager
def locked(url: str, table: str = "pfa.mirror") -> Iterator[None]:
    """Nobody reads the table meanwhile: whoever asks for it waits, as for a dear statement."""
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def waiting(db: "asyncpg.Pool[Any]", wanted: int) -> None:
    """Until so many statements of the service wait for a lock."""
    async with asyncio.timeout(20):
        while True:
            found = await db.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'vanguard' AND wait_event_type = 'Lock'"
            )
            if found == wanted:
                return
            await asyncio.sleep(0.02)


async def send(api: Api, user: User, path: str) -> asyncio.StreamWriter:
    """A request, over a connection of its own."""
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    target = f"/api/v1/orgs/acme/datasets/pfa/{path}"
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.token}\r\n\r\n".encode())
    await writer.drain()
    return writer


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with serving(database_url, VANGUARD_POOL_SIZE="4", VANGUARD_POOL_TIMEOUT="20") as served:
        await served.world.mirror(LINES)
        yield served


@pytest.mark.parametrize("path", READS)
async def test_a_read_whose_client_has_left_ends_its_statement_too(api: Api, database_url: str, path: str) -> None:
    ann = await api.world.user("ann")
    table = "pfa.history" if "history" in path else "pfa.modification" if path == "drafts" else "pfa.mirror"
    with locked(database_url, table):
        writers = [await send(api, ann, path) for _ in range(3)]
        await waiting(api.world.db, 3)
        for writer in writers:
            writer.close()
        await waiting(api.world.db, 0)
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
        headers = {"Authorization": f"Bearer {ann.token}"}
        assert (await http.get(f"/api/v1/orgs/acme/datasets/pfa/{path}", headers=headers)).status_code == 200
        figures = (await http.get("/metrics")).text
    counted = [line for line in figures.splitlines() if f'status="{LEFT}"' in line and "_count" in line]
    assert [line.rpartition(" ")[2] for line in counted] == ["3.0"], counted


async def test_a_service_that_is_killed_leaves_no_statement_behind(api: Api, database_url: str) -> None:
    ann = await api.world.user("ann")
    with locked(database_url):
        writer = await send(api, ann, "rows")  # a writer that nobody holds is closed, and its client has left
        await waiting(api.world.db, 1)
        await api.kill()
        await waiting(api.world.db, 0)
        writer.close()


async def test_a_write_whose_client_has_left_goes_on(api: Api, database_url: str) -> None:
    ann = await api.world.user("ann")
    body = b'{"modifications": [{"id": "L1", "delta": {"monthlyRate": 7}}]}'
    with locked(database_url):
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = (
            f"POST /api/v1/orgs/acme/datasets/pfa/drafts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.token}\r\n"
        )
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await waiting(api.world.db, 1)
        writer.close()
        await asyncio.sleep(0.2)  # for as long as a read would have taken to end
        await waiting(api.world.db, 1)
    async with asyncio.timeout(20):
        # Nobody is told when it is done: its client has left.
        while not await api.world.db.fetchval("SELECT count(*) FROM pfa.modification"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# -- shares ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def crowded(url: str, **settings: Any) -> AsyncIterator[World]:
    async with open_world(url, **({"pool_size": 4, "user_connections": 2, "user_queue": 2} | settings)) as world:
        for organization in ("acme", "other"):
            await world.organization(organization)
            await world.mirror(LINES, organization)
        yield world


async def test_one_user_has_a_few_connections_and_a_short_queue(database_url: str) -> None:
    async with crowded(database_url) as world:
        ann, bob = await world.user("ann"), await world.user("bob", "other")
        with locked(database_url):
            held = [asyncio.create_task(ann.get("rows")) for _ in range(4)]
            await waiting(world.db, 2)
            answer = await ann.get("rows")
            assert "2 of your requests" in refused(answer, 429, "TOO_MANY_REQUESTS")["detail"]
            assert answer.headers["Retry-After"] == "1"
            others = asyncio.create_task(bob.get("rows"))
            await waiting(world.db, 3)
        assert {(await each).status_code for each in (*held, others)} == {200}


async def test_who_waits_for_their_own_requests_is_told_so_and_not_that_the_database_is_gone(
    database_url: str,
) -> None:
    async with crowded(database_url, pool_timeout=0.1) as world:
        ann = await world.user("ann")
        with locked(database_url):
            held = [asyncio.create_task(ann.get("rows")) for _ in range(2)]
            await waiting(world.db, 2)
            refused(await ann.get("rows"), 429, "TOO_MANY_REQUESTS")
        assert {(await each).status_code for each in held} == {200}


async def test_one_organization_leaves_the_last_connection_to_others(database_url: str) -> None:
    async with crowded(database_url) as world:
        people = [await world.user(f"user{number}") for number in range(3)]
        bob = await world.user("bob", "other")
        with locked(database_url):
            held = [asyncio.create_task(each.get("rows")) for each in people for _ in range(2)]
            await waiting(world.db, 3)
            others = asyncio.create_task(bob.get("rows"))
            await waiting(world.db, 4)
        assert {(await each).status_code for each in (*held, others)} == {200}


async def test_guards_and_readiness_have_connections_of_their_own(database_url: str) -> None:
    async with crowded(database_url, pool_timeout=30) as world:
        people = [await world.user(f"{each}{number}", each) for each in ("acme", "other") for number in range(2)]
        with locked(database_url):
            held = [asyncio.create_task(each.get("rows")) for each in people]
            await waiting(world.db, 4)
            assert (await world.http.get("/health/ready")).status_code == 200
            refused(await people[0].get("/api/v1/orgs/other/datasets/pfa/rows"), 403, "FORBIDDEN")
        assert {(await each).status_code for each in held} == {200}


async def test_a_statement_of_a_read_ends_after_its_time(database_url: str) -> None:
    async with crowded(database_url, read_timeout=0.2) as world:
        ann = await world.user("ann")
        with locked(database_url):
            problem = refused(await ann.get("rows"), 503, "DATABASE_BUSY")
            assert "Narrow the filter" in problem["detail"]
            await waiting(world.db, 0)
        assert (await ann.get("rows")).status_code == 200
        assert world.runtime.database._pool is not None
        assert world.runtime.database._pool.idle == 1
