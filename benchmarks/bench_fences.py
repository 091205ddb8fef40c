"""What one hostile client takes from the others: time of their pages, the event loop, the memory of the database."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from statistics import quantiles
from typing import Any

import httpx

from app.accounts import add_account
from app.base.clock import now
from app.base.database import Database
from app.base.settings import Settings
from app.contracts import BUILT_IN, PFA
from app.main import create_routes, create_runtime, opened
from app.web.auth import Auth, Role
from app.web.middleware import Middleware
from benchmarks import memory
from benchmarks.api import free_port, get, serving
from benchmarks.bench_release import against
from benchmarks.client import HOST
from benchmarks.data import NEIGHBOURS, ORGANIZATION, PATH, SECRET, Bench
from benchmarks.figures import Figure, at_most, plain
from benchmarks.held import held_by
from benchmarks.proxy import NGINX, proxied

# The commit before there were budgets.
BEFORE, DEAREST, TURNS = "36e7f20", 1.05, 10

CONNECTIONS, LISTINGS, QUICK_LISTINGS, SEED = 10, 2000, 200, 7
ATTACKERS = 16  # connections of the viewer: more than are served at once
SILENT = 2000
LONGEST = 60.0  # seconds that an answer may take
MEGABYTE = 2**20

MISSED_PAGES = """\
The viewer's lists are served four at a time, and on two processors a page shares them with these: each time that it
passes from process to process it waits for its turn there. With two at a time, VANGUARD_USER_CONNECTIONS=2, it was as
slow: two keep both processors busy."""

# The dearest that were found, of as many values as are taken (tests/test_event_loop.py has more).
QUERIES = {
    "many numbers": "monthlyRate[in]=" + ",".join(map(str, range(1900))),
    "many texts": "category[in]=" + ",".join(map(str, range(1900))),
    "fields": "fields=" + ",".join(["model"] * 2600),
    "percents": "search=" + "%41" * 5000,
}
FIELDS = b",".join(b'"f%d":1' % number for number in range(199_990))
BODIES = {
    "a delta of many fields": b'{"modifications":[{"id":"D","delta":{%b}}]}' % FIELDS,
    "a base of many fields": b'{"modifications":[{"id":"D","base":{%b}}]}' % FIELDS,
    "long whole numbers": b'{"modifications":[{"id":"D","delta":{"model":[%b]}}]}' % b",".join([b"1" * 4200] * 1990),
    "many new rows": b'{"modifications":[%b]}'
    % b",".join(b'{"id":"n%d","op":"insert","delta":{"model":"%b"}}' % (n, b"x" * 400) for n in range(10_000)),
}


async def fences(bench: Bench) -> AsyncIterator[Figure]:
    """Each figure has the service to itself."""
    outcome = await against(bench, BEFORE, ("plain",), TURNS, 1000)
    (page,) = outcome.kinds
    yield at_most(f"processor time of a page of 100 with all budgets against {BEFORE}", page.both.ratio, DEAREST)
    async for figure in _pages(bench):
        yield figure
    async for figure in _held(bench):
        yield figure
    if NGINX is not None:
        name = f"/health through the proxy while {SILENT:,} connections say nothing"
        yield at_most(name, await _health(bench), 1, "s")
    listings = QUICK_LISTINGS if bench.quick else LISTINGS
    name = f"growth of {CONNECTIONS} backends over {listings:,} random lists"
    yield at_most(name, await _growth(bench, listings) / MEGABYTE, 300, "MB")


# -- pages of others ---------------------------------------------------------------------------------------------------


async def _pages(bench: Bench) -> AsyncIterator[Figure]:
    """Pages of a neighbour, one after another, idle and while a viewer asks for as much as there can be."""
    neighbour = await _token(bench, "neighbour", NEIGHBOURS[0])
    page = get(f"{PATH.replace(ORGANIZATION, NEIGHBOURS[0])}/rows", neighbour, [("sort", "forecastStart")])
    viewer = await _token(bench, "hostile", ORGANIZATION)
    rounds = bench.rounds(400)
    async with serving(bench.big.url, SECRET) as api:
        await api.times(page, rounds=rounds)
        idle = _p95(await api.times(page, rounds=rounds))
        async with _attack(api.port, viewer) as answers:
            crowded = _p95(await api.times(page, rounds=rounds))
    name = "p95 of another tenant's pages while a viewer sends the dearest lists"
    yield plain("p95 of another tenant's pages", idle * 1000, "ms")
    yield plain(name, crowded * 1000, "ms")
    yield at_most(f"{name}, against idle", crowded / idle, 3, missed=MISSED_PAGES)
    yield plain("of the viewer's lists that ended meanwhile, those that were refused", _refused(answers), "x")


@asynccontextmanager
async def _attack(port: int, token: str) -> AsyncIterator[Counter[int]]:
    """Lists that nothing has counted yet, sorted and filtered by what has no index; their answers by status."""
    answers, number = Counter[int](), itertools.count()
    headers = {"Authorization": f"Bearer {token}"}

    async def ask(http: httpx.AsyncClient) -> None:
        while True:
            params = {"equipment[ne]": f"nothing {next(number)}", "contract[contains]": "e", "sort": "-equipment"}
            with suppress(httpx.TransportError):
                answers[(await http.get(f"{PATH}/rows", params=params)).status_code] += 1

    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", headers=headers, timeout=LONGEST) as http:
        asking = [asyncio.create_task(ask(http)) for _ in range(ATTACKERS)]
        try:
            await asyncio.sleep(1)
            yield answers
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1]


def _refused(answers: Counter[int]) -> float:
    return 1 - answers[200] / max(answers.total(), 1)


# -- the event loop, connections, memory -------------------------------------------------------------------------------


async def _held(bench: Bench) -> AsyncIterator[Figure]:
    """The longest callback of any of these, in processor time, of the application in this process."""
    settings = Settings(database_url=bench.big.url, secret=SECRET)
    runtime = create_runtime(settings, contracts=BUILT_IN, clock=now)
    # Any: httpx and litestar each type ASGI in their own way.
    application: Any = Middleware(create_routes(settings), runtime)
    transport = httpx.ASGITransport(app=application)
    headers = {"Authorization": f"Bearer {bench.big.people['writer'].token}", "Content-Type": "application/json"}
    async with (
        opened(runtime),
        httpx.AsyncClient(transport=transport, base_url="http://bench.test", headers=headers, timeout=LONGEST) as http,
    ):
        longest = 0.0
        for query in QUERIES.values():
            longest = max(longest, (await held_by(http.get, f"{PATH}/rows?{query}&count=none"))[1])
        yield at_most("the longest that one request of 16 KB holds the event loop", longest * 1000, 50, "ms")
        longest = 0.0
        for body in BODIES.values():
            longest = max(longest, (await held_by(http.post, f"{PATH}/drafts", content=body))[1])
        yield at_most("the longest that one body of 8 MB holds the event loop", longest * 1000, 300, "ms")
        await http.post(f"{PATH}/discard", content=b'{"all":true}')


async def _health(bench: Bench) -> float:
    """Seconds of `/health` through the shipped proxy, the slowest of a few."""
    async with serving(bench.big.url, SECRET) as api:
        port = free_port()
        async with proxied(api.port, port):
            lines = [await asyncio.open_connection(HOST, port) for _ in range(SILENT)]
            try:
                return max([await _asked(f"http://{HOST}:{port}/health") for _ in range(5)])
            finally:
                for _, writer in lines:
                    writer.close()


async def _asked(url: str) -> float:
    """Seconds, over a connection of its own."""
    started = time.perf_counter()
    async with httpx.AsyncClient(timeout=LONGEST) as http:
        (await http.get(url)).raise_for_status()
    return time.perf_counter() - started


async def _growth(bench: Bench, listings: int) -> int:
    settings = Settings(database_url=bench.small.url, secret=SECRET, pool_size=CONNECTIONS)
    database = Database(settings)
    await database.open()
    try:
        user = bench.small.people["somebody"].id
        return await memory.growth(
            database, PFA, ORGANIZATION, user, connections=CONNECTIONS, listings=listings, seed=SEED
        )
    finally:
        await database.close()


async def _token(bench: Bench, name: str, organization: str) -> str:
    """That of a new viewer."""
    place, settings = bench.big, Settings(database_url=bench.big.url, secret=SECRET)
    account = await add_account(
        place.database, email=f"{name}@fences.example", name=name, password=None, roles={organization: Role.VIEWER}
    )
    return Auth(settings, place.database, now).issue(account)
