"""The database goes away and comes back, and so does the process: nothing is half done, and nobody has to repair it."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest

from app.base import exact_json
from app.base.clock import now
from app.base.errors import DatabaseUnavailable
from app.dev.postgres import Server
from app.migrate import migrate
from app.web.auth import Role
from tests.conftest import FAST
from tests.support.children import VANGUARD, child
from tests.support.sessions import begin, edit, edits, ended, shown
from tests.support.world import CONTRACTS, FLEET, SECRET, User, World, line, open_world, refused, vehicle

own_server = pytest.mark.skipif(
    "TEST_DATABASE_URL" in os.environ, reason="the server of TEST_DATABASE_URL is not ours to stop"
)

DRAFTS = {"modifications": [{"id": key, "delta": {"remark": "x"}} for key in ("A", "B")]}
PATCH = {"method": "PATCH", "path": "rows/A", "json": {"remark": "x"}}
REQUESTS: dict[str, dict[str, Any]] = {
    "a list": {"method": "GET", "path": "rows"},
    "a search": {"method": "GET", "path": "rows?search=x"},
    "an estimate": {"method": "GET", "path": "rows?count=estimated&mileage[gt]=1"},
    "a row": {"method": "GET", "path": "rows/A"},
    "the drafts": {"method": "GET", "path": "drafts"},
    "a patch": PATCH,
    "a save": {"method": "POST", "path": "drafts", "json": DRAFTS},
    "a commit": {"method": "POST", "path": "commit", "json": {"all": True}},
    "a discard": {"method": "POST", "path": "discard", "json": {"all": True}},
    "a save with a key": {"method": "POST", "path": "drafts", "json": DRAFTS, "headers": {"Idempotency-Key": "k"}},
}


@pytest.fixture
async def dora(world: World) -> User:
    """An ADMIN with a draft in the fleet."""
    await world.mirror({key: vehicle(remark="old") for key in ("A", "B", "C")}, contract=FLEET)
    user = (await world.user("dora", role=Role.ADMIN)).on("fleet")
    await user.draft("C", {"remark": "drafted"})
    return user


@asynccontextmanager
async def blocked(world: World, table: str, mode: str) -> AsyncIterator[None]:
    """Whoever needs the table waits while the block runs, in the middle of what it does."""
    async with world.db.acquire() as holder, holder.transaction():
        await holder.execute(f"LOCK TABLE {table} IN {mode} MODE")
        yield


OURS = "datname = current_database() AND application_name = 'vanguard'"


async def until(world: World, question: str, *pending: "asyncio.Future[Any]") -> None:
    """Ask the database until it says yes; the requests must not be done before."""
    async with asyncio.timeout(60):
        while not await world.db.fetchval(question):
            assert not any(request.done() for request in pending), "it did not wait"


async def waiting(world: World, request: "asyncio.Future[Any]", number: int = 1) -> None:
    await until(
        world, f"SELECT count(*) >= {number} FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'", request
    )


async def cut(world: World) -> None:
    """Cut every connection of the application, whatever it is doing; those that wait are known to be gone then."""
    pool = world.runtime.database._pool
    assert pool is not None
    # These, and no other: a worker that goes on connects again.
    pids = await world.db.fetchval(f"SELECT array_agg(pid) FROM pg_stat_activity WHERE {OURS}")
    await world.db.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::integer[]) AS pid", pids)
    async with asyncio.timeout(60):
        while await world.db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", pids):
            pass
        while pool.idle:
            await world.db.fetchval("SELECT 1")  # the backend is gone a moment before its socket says so


async def contents(world: World) -> list[Any]:
    """All that may not change by halves."""
    tables = ["dataset", "workspace", "idempotency_key"] + [
        f"{contract.schema}.{name}"
        for contract in CONTRACTS
        for name in ("mirror", "modification", "change", "history")
    ]
    return [await world.db.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


def check_unavailable(response: httpx.Response, code: str = "DATABASE_UNAVAILABLE") -> None:
    problem = refused(response, 503, code)
    assert int(response.headers["Retry-After"]) >= 1
    assert problem["requestId"] == response.headers["X-Request-ID"]
    assert "postgres" not in response.text.lower()


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_connection_cut_in_the_middle_of_a_statement(world: World, dora: User, name: str) -> None:
    """Whoever was waiting is told to come again, nothing is left behind, and the same request then works."""
    before = await contents(world)
    async with blocked(world, "fleet.mirror", "ACCESS EXCLUSIVE"):
        request = asyncio.ensure_future(dora.request(**REQUESTS[name]))
        await waiting(world, request)
        await cut(world)
        check_unavailable(await request)
    assert await contents(world) == before
    assert (await dora.request(**REQUESTS[name])).status_code == 200


@pytest.mark.parametrize("path", ["rows", "/api/v1/orgs/acme/members", "/api/auth/me"])
async def test_a_connection_cut_while_a_token_is_checked(world: World, dora: User, path: str) -> None:
    """No database, no answer: never a stale membership, never an open door."""
    world.clock.move(seconds=5)
    async with blocked(world, "membership", "ACCESS EXCLUSIVE"):
        request = asyncio.ensure_future(dora.get(path))
        await waiting(world, request)
        await cut(world)
        check_unavailable(await request)
    assert (await dora.get(path)).status_code == 200


async def test_idle_connections_that_were_cut_are_replaced_unseen(world: World, dora: User) -> None:
    await asyncio.gather(*(dora.get("rows") for _ in range(5)))
    await cut(world)
    answers = await asyncio.gather(*(dora.get("rows") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5


STAGES = {
    "fleet.change": "before anything is frozen",
    "fleet.mirror": "when the changes are frozen",
    "fleet.history": "when the mirror is changed",
}


@pytest.mark.parametrize("table", STAGES, ids=STAGES.values())
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_connection_cut_in_the_middle_of_a_commit_leaves_nothing_half_done(
    world: World, dora: User, table: str, key: str | None
) -> None:
    """Not even its Idempotency-Key, so that the same commit sent again is the first."""
    await dora.draft("A", {"remark": "drafted"})
    await dora.draft("N", {"depot": "North", "kind": "Van"}, op="insert")
    await dora.draft("B", op="delete")
    headers = {} if key is None else {"Idempotency-Key": key}
    before = await contents(world)
    # SHARE lets everybody read and lock rows, and nobody write.
    async with blocked(world, table, "SHARE"):
        request = asyncio.ensure_future(dora.post("commit", {"all": True}, headers=headers))
        await waiting(world, request)
        await cut(world)
        check_unavailable(await request)
    assert await contents(world) == before

    answer = await dora.post("commit", {"all": True}, headers=headers)
    assert answer.json()["committed"] == 4
    mirror = await world.db.fetch("SELECT row_key, data ->> 'remark' FROM fleet.mirror ORDER BY row_key")
    assert [tuple(row) for row in mirror] == [("A", "drafted"), ("C", "drafted"), ("N", None)]
    assert await world.db.fetchval("SELECT count(*) FROM fleet.history") == 4


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_cut_while_its_owner_stood_still(database_url: str, world: World, turns: int) -> None:
    """Given a process that stood still for a while, then it says that the database is away, however much of the
    server's farewell it has read by the time of its next statement.
    """

    async def work() -> None:
        async with world.runtime.database.connection() as connection:
            pid = await connection.raw.fetchval("SELECT pg_backend_pid()")
            # Nothing else of this process runs meanwhile.
            with psycopg.connect(database_url) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            for _ in range(turns):
                await asyncio.sleep(0)
            await connection.raw.fetchval("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await work()


async def test_those_behind_a_cut_connection_go_on(world: World, dora: User) -> None:
    """Given a commit that holds the rows and is cut, then who waited for it gets them."""
    ann = (await world.user("ann")).on("fleet")
    async with blocked(world, "fleet.change", "SHARE"):
        commit = asyncio.ensure_future(dora.commit())
        await waiting(world, commit)
        pid = await world.db.fetchval(f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'")
        save = asyncio.ensure_future(ann.draft("C", {"remark": "ann's"}))
        await waiting(world, save, 2)
        await world.db.execute("SELECT pg_terminate_backend($1)", pid)
        check_unavailable(await commit)
        await save
    assert (await ann.row("C"))["base"] == {"remark": "old"}


async def test_a_statement_that_waits_too_long_is_given_up(database_url: str, world: World, ann: User) -> None:
    """That is a busy database, not a missing one. What need not wait gets the usual time, on a busy machine, too."""
    await world.mirror({"A": line()})
    await ann.draft("A", {"model": "x"})
    before = await contents(world)
    async with (
        open_world(database_url, statement_timeout=0.5) as hasty,
        blocked(world, "pfa.mirror", "ACCESS EXCLUSIVE"),
    ):
        impatient = User(hasty, ann.id, ann.organization, ann.token)
        for request in (impatient.get("rows"), impatient.commit(), impatient.discard()):
            check_unavailable(await request, "DATABASE_BUSY")
    assert await contents(world) == before
    assert (await ann.commit()).status_code == 200


# -- the server --------------------------------------------------------------------------------------------------------


@own_server
async def test_a_server_that_stops_and_starts_again(short_dir: Path, bin_dir: Path | None) -> None:
    """Alive but not ready while it is gone; it needs nobody when it is back, and what was saved is there."""
    server = Server(short_dir / "pg", bin_dir=bin_dir, settings=FAST)
    with server:
        server.create_database()
        migrate(server.url(), CONTRACTS)
        async with open_world(server.url()) as world:
            await world.organization("acme")
            await world.mirror({"A": line(), "B": line()})
            ann = await world.user("ann", role=Role.ADMIN)
            await ann.draft("A", {"model": "before"})
            assert (await ann.get("/health/ready")).status_code == 200

            # Whoever holds the lock loses the connection, too.
            with suppress(asyncpg.InterfaceError, asyncpg.InternalClientError):
                async with blocked(world, "pfa.mirror", "ACCESS EXCLUSIVE"):
                    pending = asyncio.ensure_future(ann.commit())
                    await waiting(world, pending)
                    await asyncio.to_thread(server.stop)
            check_unavailable(await pending)

            for _ in range(2):
                for path in ("rows", "rows/A", "drafts", "/api/pfa/acme", "/api/v1/orgs/acme/members", "/health/ready"):
                    check_unavailable(await ann.get(path))
                check_unavailable(await ann.post("drafts", DRAFTS))
                check_unavailable(await ann.commit())
                login = {"email": "ann@example.com", "password": "x"}
                check_unavailable(await world.http.post("/api/auth/login", json=login))
                assert (await ann.get("/health")).json()["status"] == "ok"
                assert (await ann.get("/metrics")).status_code == 200

            await asyncio.to_thread(server.start)
            assert (await ann.get("/health/ready")).status_code == 200
            rows = {row["id"]: row for row in await ann.rows()}
            assert (rows["A"]["data"]["model"], rows["A"]["syncState"]) == ("before", "draft")
            assert (await ann.commit()).json()["committed"] == 1


@own_server
async def test_a_service_that_starts_before_its_database(short_dir: Path, bin_dir: Path | None) -> None:
    """And one whose database misses its migrations: alive, not ready, until somebody has seen to it."""
    server = Server(short_dir / "pg", bin_dir=bin_dir, settings=FAST)
    with server:
        url = server.url()
    async with open_world(url) as world:
        for path in ("/health/ready", "/api/auth/login"):
            method = "POST" if path.endswith("login") else "GET"
            body = {"email": "a@b.example", "password": "x"} if method == "POST" else None
            check_unavailable(await world.http.request(method, path, json=body))
        with server:
            check_unavailable(await world.http.get("/health/ready"))
            server.create_database()
            refused(await world.http.get("/health/ready"), 503, "DATABASE_UNAVAILABLE")
            assert (await world.http.get("/health")).status_code == 200
            migrate(url, CONTRACTS)
            assert (await world.http.get("/health/ready")).status_code == 200


# -- the process -------------------------------------------------------------------------------------------------------


@contextmanager
def api(url: str, port: int) -> Any:
    """An API process of its own, as it runs in production; it is gone afterwards, however it ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
    environment |= {"DATABASE_URL": url, "VANGUARD_SECRET": SECRET, "VANGUARD_PORT": str(port)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with child(*VANGUARD, "serve", env=environment, start_new_session=True, **quiet) as process:
        yield process


async def until_ready(http: httpx.AsyncClient, process: "subprocess.Popen[str]") -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.poll() is None, "it has ended"
            try:
                if (await http.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)  # nothing listens yet, and nothing tells when


async def test_a_process_killed_in_the_middle_of_a_big_save_saves_nothing(database_url: str, world: World) -> None:
    """Given five thousand drafts on their way, when every process of the API is killed at once, then none is there."""
    keys = [f"R{number}" for number in range(5000)]
    await world.db.execute(
        "INSERT INTO pfa.mirror (organization_id, row_key, data, revision)"
        " SELECT 'acme', key, jsonb_build_object('pfaId', key) || $2::jsonb, 1 FROM unnest($1::text[]) AS key",
        keys,
        exact_json.encode(line()).decode(),
    )
    world.clock.at = now()  # the other process has a real clock
    ann = await world.user("ann")
    await ann.draft("R0", {"model": "before"})
    before = await contents(world)
    big = {"modifications": [{"id": key, "delta": {"model": "after"}} for key in keys]}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    path = "/api/v1/orgs/acme/datasets/pfa/drafts"
    headers = {"Authorization": f"Bearer {ann.token}", "Idempotency-Key": "big"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, headers=headers) as http:
        with api(database_url, port) as process:
            await until_ready(http, process)
            # The workspace is raised and the rows are locked when the drafts are about to be written.
            async with blocked(world, "pfa.modification", "SHARE"):
                request = asyncio.ensure_future(http.post(path, json=big))
                await waiting(world, request)
                os.killpg(process.pid, signal.SIGKILL)
                with pytest.raises(httpx.TransportError):
                    await request
        await until(world, f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {OURS} AND state <> 'idle'")
        assert await contents(world) == before

        with api(database_url, port) as process:
            await until_ready(http, process)
            answer = await http.post(path, json=big)
            assert len(answer.json()["saved"]) == 5000
    assert (await ann.page(model="after"))["pagination"]["totalRecords"] == 5000


# -- edit sessions -----------------------------------------------------------------------------------------------------


@own_server
async def test_a_session_lives_on_through_a_restart_of_everything(short_dir: Path, bin_dir: Path | None) -> None:
    """The founding document's flow, steps 1 to 3 (start, edit, preview), with nothing left running in the middle."""
    server = Server(short_dir / "pg", bin_dir=bin_dir, settings=FAST)
    with server:
        server.create_database()
        migrate(server.url(), CONTRACTS)
        async with open_world(server.url()) as world:
            await world.organization("acme")
            await world.mirror({"A": line(monthlyRate=10), "B": line(monthlyRate=10)})
            ann = await world.user("ann")
            session = await begin(ann)
            await edit(ann, session, "A", "monthlyRate", 12)
            await edit(ann, session, "B", "monthlyRate", "a lot")
            token = ann.token
    with server:
        async with open_world(server.url()) as world:
            ann = User(world, "ann", "acme", token)
            path = f"sessions/{session['id']}"
            assert (await shown(ann, session["id"]))["edits"] == 2
            assert [each["value"] for each in await edits(ann, session)] == [12, "a lot"]
            preview = (await ann.post(f"{path}/preview", {})).json()
            assert preview["summary"]["cellsChanged"] == 1
            assert [(each["id"], each["old"], each["new"]) for each in preview["diffs"]] == [("A", 10, 12)]
            assert preview["validation"]["state"] == "failed"
            await ann.post(f"{path}/undo", {})
            preview = (await ann.post(f"{path}/preview", {})).json()
            assert (preview["validation"]["state"], preview["conflicts"]) == ("passed", [])
            assert (await shown(ann, session["id"]))["digest"] == preview["digest"]
            assert (await ended(ann, session))["ids"] == ["A"]
            assert {row["data"]["monthlyRate"] for row in await ann.rows()} == {10}
