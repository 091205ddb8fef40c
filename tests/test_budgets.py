"""Bodies have bounds: in size by their route, in time, and all of a process together."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from app.base import exact_json
from app.web.auth import Role
from app.web.budgets import Body
from benchmarks.processes import anonymous, family
from tests.support.own import customers
from tests.support.routes import walk
from tests.support.serving import serving
from tests.support.world import User, World, line, open_world, refused

ORG = "/api/v1/orgs/{org}"
D = f"{ORG}/datasets/{{dataset}}"
# Every other route takes a small body, or none. A new one that takes a list of things has to be entered here.
KINDS = {
    Body.LOGIN: {
        f"POST /api/auth/{name}" for name in ("login", "logout", "password", "renew", "invitations/{token}/accept")
    },
    Body.UPLOAD: {f"POST {D}/ingest", f"POST {ORG}/contracts/infer"},
    Body.BATCH: {
        f"POST {D}/drafts",
        f"POST {D}/commit",
        f"POST {D}/discard",
        f"POST {D}/sync/retry",
        f"POST {D}/sessions",
        f"POST {D}/sessions/{{session_id}}/edits",
        f"POST {D}/sessions/{{session_id}}/edits/batch",
        f"POST {D}/change-requests/{{request_id}}/approve",
        f"POST {D}/change-requests/{{request_id}}/resolutions",
        f"POST {D}/quarantine/replay",
        f"POST {D}/quarantine/discard",
        f"POST {D}/rows/search",
        f"PATCH {D}/rows/{{row_id}}",
        f"POST {ORG}/contracts",
        f"POST {ORG}/contracts/{{dataset}}/drift",
        "POST /api/pfa/{org}/draft",
        "POST /api/pfa/{org}/commit",
        "POST /api/pfa/{org}/discard",
    },
}
SMALL: dict[str, Any] = {"max_login_bytes": 1024, "max_small_body_bytes": 2048, "max_body_bytes": 50_000}
Receive = Callable[[], Awaitable[Any]]


async def test_every_route_says_how_large_its_body_is(world: World) -> None:
    found: dict[Body, set[str]] = {}
    for route in walk(world):
        if route.method != "GET":
            found.setdefault(route.body, set()).add(route.name)
    assert {kind: names for kind, names in found.items() if kind is not Body.SMALL} == KINDS


async def answered(
    world: World, method: str, path: str, receive: Receive, user: User | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer, past httpx: a body as messages."""
    sent: list[Any] = []
    given = {"host": "a", "content_type": "application/json", **headers}
    if user is not None:
        given["authorization"] = f"Bearer {user.token}"
    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    await world.application(scope, receive, send)
    return sent[0]["status"], exact_json.decode(b"".join(each.get("body", b"") for each in sent[1:]) or b"{}")


class Pieces:
    """A body in pieces, and then nothing more, for ever; `asked`: how often somebody asked for one."""

    def __init__(self, *pieces: bytes):
        self.pieces, self.asked = list(pieces), 0
        self.waited = asyncio.Event()

    async def __call__(self) -> Any:
        self.asked += 1
        if self.pieces:
            return {"type": "http.request", "body": self.pieces.pop(0), "more_body": True}
        self.waited.set()
        await asyncio.Event().wait()


class Dripping(Pieces):
    """A byte now and then."""

    async def __call__(self) -> Any:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url, **SMALL) as world:
        await world.organization("acme")
        await world.mirror({"A": line()})
        yield world


@pytest.mark.parametrize(
    ("method", "path", "most"),
    [
        ("POST", "/api/auth/login", 1024),
        ("POST", "/api/v1/orgs/acme/datasets/pfa/sync/pull", 2048),
        ("PUT", "/api/v1/orgs/acme/members/ann", 2048),
        ("POST", "/api/v1/orgs/acme/datasets/pfa/drafts", 50_000),
        ("POST", "/api/v1/orgs/acme/contracts", 50_000),
        ("POST", "/api/v1/orgs/acme/contracts/infer", 50_000),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_has_the_bound_of_its_route(
    small: World, method: str, path: str, most: int, announced: bool
) -> None:
    """What announces itself as larger is not read at all."""
    ann = await small.user("ann", role=Role.ADMIN)
    body = Pieces(*[b" " * 1024] * (most // 1024 + 2))
    headers = {"content_length": str(most + 1)} if announced else {}
    status, problem = await answered(small, method, path, body, ann, **headers)
    assert (status, problem["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert f"{most:,}" in problem["detail"]
    if "infer" not in path:
        assert (body.asked == 0) == announced
    assert small.runtime.bodies.held == 0


async def test_who_one_is_is_asked_before_the_body(small: World) -> None:
    body = Pieces(b"{}")
    vera = await small.user("vera", role=Role.VIEWER)
    for path in ("/api/v1/orgs/acme/datasets/pfa/drafts", "/api/v1/orgs/acme/datasets/pfa/ingest"):
        assert (await answered(small, "POST", path, body))[0] == 401
        assert (await answered(small, "POST", path, body, vera))[0] == 403
    assert body.asked == 0


@pytest.mark.parametrize("body", [Pieces(), Pieces(b"{"), Dripping()], ids=["nothing", "a piece", "drips"])
@pytest.mark.parametrize("path", ["drafts", "rows/search", "sync/pull"])
async def test_a_body_that_does_not_come_is_not_waited_for(database_url: str, path: str, body: Pieces) -> None:
    async with open_world(database_url, body_pause=0.2, body_timeout=0.4) as world:
        await world.organization("acme")
        ann = await world.user("ann", role=Role.ADMIN)
        async with asyncio.timeout(20):
            status, problem = await answered(world, "POST", f"/api/v1/orgs/acme/datasets/pfa/{path}", body, ann)
    assert (status, problem["code"]) == (408, "BODY_TIMED_OUT")


async def test_an_upload_that_does_not_come_is_not_waited_for(database_url: str) -> None:
    """A whole one may take longer."""
    async with open_world(database_url, body_pause=0.2, body_timeout=0.01, upload_timeout=0.4) as world:
        await world.organization("acme")
        ann, path = await world.user("ann", role=Role.ADMIN), "/api/v1/orgs/acme/contracts/infer"
        for body in (Pieces(b"a,b\n"), Dripping()):
            async with asyncio.timeout(20):
                status, problem = await answered(world, "POST", path, body, ann, content_type="text/csv")
            assert (status, problem["code"]) == (408, "BODY_TIMED_OUT")
        assert world.runtime.uploads.free == world.runtime.settings.max_uploads


async def test_bodies_are_bounded_together_and_by_user(database_url: str) -> None:
    """And are free again, however their requests end."""
    settings: dict[str, Any] = {"max_small_body_bytes": 1024, "max_bodies_bytes": 10_000, "user_bodies_bytes": 6_000}
    async with open_world(database_url, **settings) as world:
        await world.organization("acme")
        await world.mirror({"A": line()})
        ann, bob, eve = [await world.user(name) for name in ("ann", "bob", "eve")]
        path = "/api/v1/orgs/acme/datasets/pfa/drafts"

        async def begin(user: User, size: int) -> "asyncio.Task[tuple[int, dict[str, Any]]]":
            body = Pieces(b" " * size)
            task = asyncio.create_task(answered(world, "POST", path, body, user))
            waited = asyncio.create_task(asyncio.wait_for(body.waited.wait(), 20))
            await asyncio.wait((task, waited), timeout=20, return_when=asyncio.FIRST_COMPLETED)
            waited.cancel()
            return task

        held = [await begin(user, 5_000) for user in (ann, bob)]
        assert world.runtime.bodies.held == 2 * (5_000 - 1024)
        status, problem = await (await begin(ann, 4_000))
        assert (status, problem["code"]) == (429, "TOO_MANY_REQUESTS")
        status, problem = await (await begin(eve, 4_000))
        assert (status, problem["code"]) == (503, "BODIES_BUSY")
        # What is small has its place.
        written = {"modifications": [{"id": "A", "delta": {"model": "x"}}]}
        assert (await ann.post("drafts", written)).status_code == 200
        assert (await eve.post("drafts", written)).status_code == 200
        for task in held:
            task.cancel()
        for task in held:
            with suppress(asyncio.CancelledError):
                await task
        assert world.runtime.bodies.held == 0
        assert (await eve.post("drafts", written, headers={"X": "y"})).status_code == 200


async def test_a_packed_body_counts_as_it_is_unpacked(database_url: str) -> None:
    """A few hundred bytes become megabytes, and are held as such."""
    settings: dict[str, Any] = {"max_small_body_bytes": 1024, "max_bodies_bytes": 100_000, "user_bodies_bytes": 50_000}
    async with open_world(database_url, **settings) as world:
        await world.organization("acme")
        await world.mirror({"A": line()})
        ann = await world.user("ann")
        written = exact_json.encode({"modifications": [{"id": "A", "delta": {"model": "x"}}]})

        async def send(user: User, size: int) -> Any:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            packed = gzip.compress(written.ljust(size))
            assert len(packed) < 1024
            return await user.request("POST", "drafts", content=packed, headers=headers)

        refused(await send(ann, 60_000), 429, "TOO_MANY_REQUESTS")
        for other in ("bob", "eve"):
            world.runtime.bodies.hold(other, 35_000)
        refused(await send(ann, 40_000), 503, "BODIES_BUSY")
        for other in ("bob", "eve"):
            world.runtime.bodies.release(other, 35_000)
        assert (await send(ann, 40_000)).status_code == 200
        assert world.runtime.bodies.held == 0


async def test_uploads_have_places(database_url: str) -> None:
    async with open_world(database_url, max_uploads=2, pool_timeout=0.1) as world:
        await world.organization("acme")
        people = [await world.user(name, role=Role.ADMIN) for name in ("ann", "bob", "eve")]
        path = "/api/v1/orgs/acme/contracts/infer"
        bodies = [Pieces(b"a,b\n1,2\n") for _ in range(2)]
        held = [
            asyncio.create_task(answered(world, "POST", path, body, user, content_type="text/csv"))
            for user, body in zip(people, bodies, strict=False)
        ]
        async with asyncio.timeout(20):
            for body in bodies:
                await body.waited.wait()
        csv = {"Content-Type": "text/csv"}
        refused(await people[2].request("POST", path, content=b"a,b\n1,2\n", headers=csv), 503, "UPLOADS_BUSY")
        refused(await people[0].request("POST", path, content=b"a,b\n1,2\n", headers=csv), 429, "TOO_MANY_REQUESTS")
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert (await people[2].request("POST", path, content=b"a,b\n1,2\n", headers=csv)).status_code == 200
        # JSON is no upload, and has the bounds of other bodies.
        assert (await people[0].post(path, {"sample": customers()["fields"][:1]})).status_code in (200, 422)


async def test_sixty_unfinished_bodies_do_not_fill_the_memory(database_url: str) -> None:
    """They took half a gigabyte; and an honest client is served beside them."""
    async with serving(database_url) as api:
        people = [await api.world.user(f"user{number}") for number in range(6)]
        await api.world.mirror({"A": line()})
        before = sum(map(anonymous, family(api.pid)))
        writers, piece = [], b" " * 2**16
        for number in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writers.append((reader, writer))
            writer.write(
                "POST /api/v1/orgs/acme/datasets/pfa/drafts HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {people[number % 6].token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {8 * 2**20}\r\n\r\n".encode()
            )

        async def fill(writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(20):
                    for _ in range(8 * 2**20 // len(piece) - 1):
                        writer.write(piece)
                        await writer.drain()

        await asyncio.gather(*(fill(writer) for _, writer in writers))
        grown = sum(map(anonymous, family(api.pid))) - before
        user = people[0]
        async with asyncio.timeout(20):
            answer = await api.ask(user, "GET", "rows")
        assert answer.status_code == 200
        for _, writer in writers:
            writer.close()
    assert grown < 200 * 2**20, grown
