"""Load that is meant to hurt, at the server itself: an honest client beside it is served, and all of it ends by itself.

What the proxy in front does about the same is in tests/test_proxy.py; each bound alone in tests/test_budgets.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from app.base import clock
from tests.conftest import new_database
from tests.support.proxy import LIMIT, Line, dial, lines_closed
from tests.support.streams import free_port, until_ready
from tests.support.world import User, World, line, open_world
from tests.test_stream_restarts import process
from tests.test_work import locked, waiting

pytestmark = pytest.mark.timed

JSON = b"Content-Type: application/json"
HOST = b"Host: vanguard.example\r\n"
D = "/api/v1/orgs/acme/datasets/pfa"
PATIENCE = 2.0  # seconds for an honest page beside all that, on a machine of two processors that runs other tests
SHORT = {"VANGUARD_HEAD_TIMEOUT": "2", "VANGUARD_BODY_PAUSE": "2", "VANGUARD_BODY_TIMEOUT": "4"}


class Site(NamedTuple):
    """A service with short deadlines, an honest user, and one who is none."""

    port: int
    ann: User
    eve: User

    def head(self, method: str, path: str, *headers: bytes, user: User | None = None) -> bytes:
        """The head of a request, to its end."""
        token = b"" if user is None else b"Authorization: Bearer " + user.token.encode() + b"\r\n"
        first = f"{method} {path} HTTP/1.1\r\n".encode()
        return first + HOST + token + b"".join(each + b"\r\n" for each in headers) + b"\r\n"


@pytest.fixture(scope="module")
def url(server_url: str, template: str) -> Iterator[str]:
    """A database for all tests here."""
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def site(url: str) -> AsyncIterator[Site]:
    """It, with a few rows. All tests meet the same process: what one of them left would be in the others' way."""
    async with open_world(url) as world:
        await world.organization("acme")
        world.clock.at = clock.now()
        await world.mirror({f"PFA-{number}": line() for number in range(20)})
        ann, eve = await world.user("ann"), await world.user("eve")
        port = free_port()
        with process(url, port, **SHORT):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT) as http:
                await until_ready(http)
            yield Site(port, ann, eve)


def sockets_of(port: int) -> int:
    """Connections at the port that are open on its side; /proc knows. Clients of other tests may have its number at
    another address.
    """
    here = f"0100007F:{port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == here and row[3] in ("01", "08") for row in rows)


async def served(site: Site, times: int = 3) -> None:
    """An honest client with a connection for each page is served at once."""
    for _ in range(times):
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", timeout=LIMIT) as http:
            page = await http.get(f"{D}/rows", headers={"Authorization": f"Bearer {site.ann.token}"})
        assert page.status_code == 200, page.text
        assert time.monotonic() - began < PATIENCE


async def all_ended(lines: list[Line]) -> None:
    """The server has ended every one, though none of them has."""
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*[each.ended() for each in lines])


# How many, and what each says before it falls silent, or says a byte at a time (the last).
ATTACKS: dict[str, tuple[int, Callable[[Site], bytes], bytes]] = {
    "silent": (2_000, lambda _: b"", b""),
    "half a line": (500, lambda _: b"GET /hea", b""),
    "half a head": (500, lambda site: site.head("GET", "/health")[:-2], b""),
    "a head byte by byte": (200, lambda site: site.head("GET", "/health")[:-2] + b"X: ", b"x"),
    "empty lines": (200, lambda _: b"", b"\r\n"),
    "kept and idle": (500, lambda site: site.head("GET", "/health"), b""),
    "kept, then half a head": (300, lambda site: site.head("GET", "/health") + b"GET /h", b"x"),
    "a login without its body": (
        300, lambda site: site.head("POST", "/api/auth/login", JSON, b"Content-Length: 100"), b""),
    "a login byte by byte": (
        200, lambda site: site.head("POST", "/api/auth/login", JSON, b"Content-Length: 4000") + b"{", b" "),
    "chunks of a login": (
        200, lambda site: site.head("POST", "/api/auth/login", JSON, b"Transfer-Encoding: chunked"), b"1\r\n \r\n"),
    "drafts without a token": (300, lambda site: site.head("POST", f"{D}/drafts", b"Content-Length: 8000000"), b" "),
    "half of many drafts": (
        60,
        lambda site: site.head("POST", f"{D}/drafts", b"Content-Length: 8000000", user=site.eve) + b" " * 4_000_000,
        b""),
    "drafts byte by byte": (
        200, lambda site: site.head("POST", f"{D}/drafts", b"Content-Length: 60000", user=site.eve), b" "),
    "a body that waits to be asked for": (
        200,
        lambda site: site.head("POST", f"{D}/drafts", b"Expect: 100-continue", b"Content-Length: 9", user=site.eve),
        b""),
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("name", ATTACKS)
async def test_an_honest_client_is_served_beside_and_the_rest_ends_by_itself(name: str, site: Site) -> None:
    count, words, drop = ATTACKS[name]
    said = words(site)
    with lines_closed([]) as lines:
        lines += [await dial(site.port, "127.0.0.2") for _ in range(count)]
        saying = [asyncio.create_task(drip(each, said, drop)) for each in lines]
        try:
            await served(site)
            await all_ended(lines)
        finally:
            for each in saying:
                each.cancel()
            await asyncio.gather(*saying, return_exceptions=True)
        async with asyncio.timeout(LIMIT):
            # Nothing tells a test when the server has closed the side of somebody who left.
            while sockets_of(site.port):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await served(site)


async def drip(line: Line, words: bytes, drop: bytes) -> None:
    """All at once, then a drop twice a second."""
    await line.say(words)
    while drop:
        await asyncio.sleep(0.5)
        await line.say(drop)


@pytest.mark.anyio
async def test_places_that_silent_connections_took_are_free_again(site: Site) -> None:
    """More than a process takes at once, 3,024: others wait until these end, and are served then."""
    with lines_closed([]) as lines:
        async with asyncio.timeout(60):
            for _ in range(40):
                lines += await asyncio.gather(*[dial(site.port, "127.0.0.2") for _ in range(100)])
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", timeout=LIMIT) as http:
            assert (await http.get("/health")).status_code == 200
        assert time.monotonic() - began < 2 * float(SHORT["VANGUARD_HEAD_TIMEOUT"]) + PATIENCE
    await served(site)


@pytest.mark.anyio
async def test_requests_dropped_by_their_clients_leave_nothing(site: Site) -> None:
    """Each asks for the dearest that it may, and leaves at once: rows, KPIs, an export, a stream."""
    paths = ("rows?sort=-monthlyRate", "rows?search=a", "kpis", "export?format=ndjson", "events")
    before = await counted(site)
    for path in paths * 20:
        left = await dial(site.port, "127.0.0.2")
        await left.say(site.head("GET", f"{D}/{path}", user=site.eve))
        left.close()
    await served(site, times=12)
    async with asyncio.timeout(LIMIT):
        while True:
            if sockets_of(site.port) == 0:
                break
            await asyncio.sleep(0.05)
    after = await counted(site)
    assert any('status="499"' in each for each in after - before)
    assert not any('status="500"' in each for each in after), "that they left is no defect"


async def counted(site: Site) -> set[str]:
    """The lines of the process's metrics."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}", timeout=LIMIT) as http:
        return set((await http.get("/metrics")).text.splitlines())


@pytest.mark.anyio
async def test_streams_that_nobody_reads_hold_nobody_up(site: Site) -> None:
    with lines_closed([]) as lines:
        for _ in range(50):
            lines.append(await dial(site.port, "127.0.0.2"))
            await lines[-1].say(site.head("GET", f"{D}/events", user=site.eve))
        await served(site)


@pytest.mark.anyio
async def test_many_requests_in_one_go_on_one_connection(site: Site) -> None:
    """Pipelined: thousands of requests, of which no answer is read. They are answered in turn, and hold nobody up."""
    with lines_closed([await dial(site.port, "127.0.0.2")]) as (flood,):
        saying = asyncio.create_task(flood.say(site.head("GET", f"{D}/rows", user=site.eve) * 5_000))
        await served(site)
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
    await served(site)


@pytest.mark.anyio
async def test_a_flood_of_logins_holds_nobody_up_who_is_in(site: Site) -> None:
    body = b'{"email": "ann@example.com", "password": "a wrong one"}'
    head = site.head("POST", "/api/auth/login", JSON, b"Content-Length: %d" % len(body))
    with lines_closed([]) as lines:
        for _ in range(100):
            lines.append(await dial(site.port, "127.0.0.2"))
            await lines[-1].say(head + body)
        await served(site)
        async with asyncio.timeout(3 * LIMIT):
            answers = await asyncio.gather(*[each.hear() for each in lines])
    assert {answer.status for answer in answers if answer is not None} <= {401, 429, 503}


@pytest.mark.anyio
async def test_questions_that_take_long_hold_nobody_else_up(site: Site, url: str) -> None:
    """Forty of one user at once, each of which waits in the database, half of which are left."""
    with lines_closed([]) as lines:
        with locked(url, "pfa.history"):
            for _ in range(40):
                lines.append(await dial(site.port, "127.0.0.2"))
                await lines[-1].say(site.head("GET", f"{D}/rows/PFA-1/history", user=site.eve))
            await waiting(site.ann.world.db, 4)
            await served(site)
            for each in lines[::2]:
                each.close()
            await served(site)
        async with asyncio.timeout(LIMIT):
            answers = await asyncio.gather(*[each.hear() for each in lines[1::2]])
    assert {answer.status for answer in answers if answer is not None} <= {200, 429}
    await waiting(site.ann.world.db, 0)


@pytest.mark.anyio
async def test_exports_that_nobody_reads_end(world: World, database_url: str) -> None:
    """They are larger than what lies between; an honest user has theirs meanwhile."""
    world.clock.at = clock.now()
    await world.mirror({f"PFA-{number}": line(equipment="x" * 450) for number in range(20_000)})
    ann, eve = await world.user("ann"), await world.user("eve")
    port = free_port()
    with process(database_url, port, VANGUARD_STALL_TIMEOUT="1"):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT) as http:
            await until_ready(http)
            site = Site(port, ann, eve)
            with lines_closed([]) as lines:
                for _ in range(3):
                    lines.append(await dial(port, "127.0.0.2"))
                    await lines[-1].say(site.head("GET", f"{D}/export", user=eve))
                await served(site)
                headers = {"Authorization": f"Bearer {ann.token}"}
                answer = await http.get(f"{D}/export?id=PFA-1", headers=headers)
                assert (answer.status_code, len(answer.text.splitlines())) == (200, 2)
                async with asyncio.timeout(2 * LIMIT):
                    # Nothing tells a test when another process has given up.
                    while 'outcome="stalled"} 3.0' not in (await http.get("/metrics")).text:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
