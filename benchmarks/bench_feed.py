"""The feed: from a commit to its event, a thousand streams at once, what they cost a commit, and catching up."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median, quantiles
from typing import Any, NamedTuple

from app import accounts, organizations
from app.base.clock import now
from app.base.database import Database
from app.commits import CommitRequest, commit
from app.contracts import PFA
from app.drafts import Draft, save
from app.engine.desk import Desk
from app.engine.tailer import TICK
from app.web.auth import Auth, Role
from benchmarks.api import ROOT, Api, Unexpected, end, get, request, serving
from benchmarks.client import Wire
from benchmarks.data import AT, ORGANIZATION, PATH, SECRET, Bench, Unavailable
from benchmarks.figures import Figure, at_least, at_most, plain
from benchmarks.upstream import Mirror, new_mirror, settings_of

LISTENER = [sys.executable, "-m", "benchmarks.listeners"]
PROCESSES = 2  # of listeners
LONGEST_ANSWER = 2**26

OTHER = "other"
LINES, STREAMS, SOME = 20_000, 1000, 100
COMMITS = 100  # one after another
PAUSE = 0.037  # seconds between two of them: they fall on all parts of a tick
EVENTS, EVERY = 100, 0.1  # told to all streams, one in so many seconds
COMMITTERS, EACH, TURNS = 4, 100, 3
MISSED = 100_000  # events
PAGE = 1000

MISSED_CROWD = """\
All streams are written to by one process, one after another, and the last of them waits for all others."""
MISSED_COMMITS = """\
One process sends to the streams and commits, and on few cores the listeners take turns with both."""
MISSED_CHANGES = """\
A page is a statement that makes JSON of its events, in PostgreSQL, and an answer that is packed for each caller."""

KILOBYTE = 1024

ADD_EVENTS = """
INSERT INTO public.feed (organization_id, number, at, type, dataset, revision, actor, row_count, keys, details)
SELECT $1, n, timestamptz '2026-03-01' + n * interval '1 second', 'commit', 'pfa', n, $2, 3,
       ARRAY['PFA-' || n, 'PFA-' || n + 1, 'PFA-' || n + 2], jsonb_build_object('commitId', gen_random_uuid())
  FROM generate_series(1, $3::bigint) AS n"""
COUNT_THEM = "INSERT INTO public.feed_counter (organization_id, number) VALUES ($1, $2)"
BARE = """
SELECT number, at, type, dataset, revision, actor, row_count, keys, renamed, details
  FROM public.feed WHERE organization_id = $1 ORDER BY number"""


class Listened(NamedTuple):
    """What streams had: how many events each, how many out of order, and when each event came, by its number."""

    counts: list[int]
    disordered: int
    arrivals: Mapping[int, Sequence[float]]


class Ground:
    """A database of the group's own with people in two organizations, and the API over it."""

    def __init__(self, mirror: Mirror, database: Database, api: Api):
        self.mirror, self.database, self.api = mirror, database, api
        self.tokens: dict[str, list[str]] = {ORGANIZATION: [], OTHER: []}
        self.committers: list[tuple[str, str]] = []
        self._row = 0

    async def people(self, streams: int) -> None:
        """Whoever listens, and whoever commits."""
        await organizations.add_organization(self.database, OTHER, OTHER)
        auth = Auth(settings_of(self.mirror.url), self.database, now)

        async def add(name: str, organization: str) -> tuple[str, str]:
            account = await accounts.add_account(
                self.database, email=f"{name}@bench.example", name=name, password=None,
                roles={organization: Role.ANALYST},
            )  # fmt: skip
            return account.id, auth.issue(account, ttl=24 * 3600)

        for organization, tokens in self.tokens.items():
            tokens += [(await add(f"{organization}{n}", organization))[1] for n in range(streams)]
        self.committers = [await add(f"committer{n}", ORGANIZATION) for n in range(COMMITTERS)]

    @asynccontextmanager
    async def listening(self, count: int, organization: str = ORGANIZATION) -> AsyncIterator["Listeners"]:
        """So many streams of the organization, each of a person of its own."""
        path = f"/api/v1/orgs/{organization}/events"
        asked = [get(path, token) for token in self.tokens[organization][:count]]
        async with AsyncExitStack() as stack:
            processes = [await stack.enter_async_context(_listener()) for _ in range(PROCESSES if count > 1 else 1)]
            listeners = Listeners(processes)
            await listeners.open(self.api.port, asked)
            yield listeners

    async def draft(self, user: str, count: int) -> list[str]:
        """So many drafts of rows that nobody has drafted yet; their ids."""
        keys = [f"PFA-{self._row + n + 1:07d}" for n in range(count)]
        self._row += count
        assert self._row <= LINES
        figures = {"monthlyRate": 1000 + self._row, "purchasePrice": 90_000}
        async with self.database.transaction() as connection:
            drafts = [Draft(id=key, delta=figures) for key in keys]
            answer = await save(Desk(connection, PFA, ORGANIZATION), user, drafts, AT)
        assert not answer.errors, answer.errors[0]
        return keys

    async def commit(self, user: str, keys: Sequence[str]) -> tuple[float, float]:
        """When the commit began, and when it was done."""
        began = time.monotonic()
        async with self.database.transaction() as connection:
            await commit(Desk(connection, PFA, ORGANIZATION), user, CommitRequest(ids=tuple(keys)), AT)
        return began, time.monotonic()

    async def rate(self) -> float:
        """Commits a second over HTTP, of so many people at the same time, a row each."""
        lists = []
        for user, token in self.committers:
            keys = await self.draft(user, EACH)
            lists.append([request("POST", f"{PATH}/commit", token, {"ids": [key]}) for key in keys])
        return COMMITTERS * EACH / await self.api.exhaust(lists)


class Listeners:
    """Processes with streams."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]):
        self._processes = processes

    async def open(self, port: int, requests: Sequence[str]) -> None:
        """The requests dealt out to all processes."""
        number = len(self._processes)
        await asyncio.gather(
            *(
                _ask(process, {"port": port, "requests": requests[n::number]})
                for n, process in enumerate(self._processes)
            )
        )

    async def collect(self, events: int, within: float) -> Listened:
        """What came since the last time, once it is so much, or too late."""
        answers = await asyncio.gather(
            *(_ask(process, {"events": events, "within": within}) for process in self._processes)
        )
        arrivals: dict[int, list[float]] = {}
        for answer in answers:
            for number, times in answer["arrivals"].items():
                arrivals.setdefault(int(number), []).extend(times)
        counts = [count for answer in answers for count in answer["counts"]]
        return Listened(counts, sum(answer["disordered"] for answer in answers), arrivals)


@asynccontextmanager
async def _listener() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *LISTENER, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_ANSWER
    )
    try:
        yield process
    finally:
        await end(process)


async def _ask(process: asyncio.subprocess.Process, job: Mapping[str, Any]) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(job).encode() + b"\n")
    await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise Unexpected("Listeners ended: the API did not open their streams, or ended them.")
    return json.loads(line)


@asynccontextmanager
async def _ground(bench: Bench, streams: int) -> AsyncIterator[Ground]:
    async with (
        new_mirror(bench.small.url, LINES) as mirror,
        mirror.database() as database,
        serving(mirror.url, SECRET) as api,
    ):
        ground = Ground(mirror, database, api)
        await ground.people(streams)
        yield ground


async def feed(bench: Bench) -> AsyncIterator[Figure]:
    """All of it on a database and an API of its own."""
    streams = 100 if bench.quick else STREAMS
    async with _ground(bench, streams) as ground:
        delay = None
        async for figure, value in _idle(bench, ground):
            delay = delay or value
            yield figure
        assert delay is not None
        async for figure in _memory(ground, streams):
            yield figure
        async for figure in _crowd(bench, ground, streams, delay):
            yield figure
        async for figure in _commits(bench, ground, streams):
            yield figure
        async for figure in _missed(bench, ground):
            yield figure


async def _told(ground: Ground, listeners: Listeners, count: int, every: float) -> tuple[list[float], list[float], int]:
    """Commits one after another: the seconds of each, those until its event came at each stream, and events lost."""
    user = ground.committers[0][0]
    keys = await ground.draft(user, count)
    await listeners.collect(0, 0)
    times = []
    for key in keys:
        times.append(await ground.commit(user, [key]))
        await asyncio.sleep(max(0.0, times[-1][0] + every - time.monotonic()))
    had = await listeners.collect(count, 30)
    taken = [done - began for began, done in times]
    lost = sum(count - had_it for had_it in had.counts) + had.disordered
    numbers = sorted(had.arrivals)
    delays = [at - began for number, (began, _) in zip(numbers, times, strict=False) for at in had.arrivals[number]]
    return taken, delays, lost


async def _idle(bench: Bench, ground: Ground) -> AsyncIterator[tuple[Figure, float]]:
    async with ground.listening(1) as listeners:
        await _told(ground, listeners, bench.rounds(20), PAUSE)
        taken, delays, lost = await _told(ground, listeners, bench.rounds(COMMITS), PAUSE)
    assert not lost
    delay, own = median(delays), median(taken)
    bound = round((TICK + 2 * own) * 1000, 1)
    yield at_most("from the beginning of a commit to its event, median, idle system", delay * 1000, bound, "ms"), delay
    yield plain("a commit of one row, median", own * 1000, "ms"), own


async def _crowd(bench: Bench, ground: Ground, streams: int, idle: float) -> AsyncIterator[Figure]:
    async with ground.listening(streams) as listeners:
        await _told(ground, listeners, 5, EVERY)
        events, before = bench.rounds(EVENTS), ground.api.processor_seconds()
        _, delays, lost = await _told(ground, listeners, events, EVERY)
        after = ground.api.processor_seconds()
    name = f"{streams:,} streams, {1 / EVERY:.0f} events a second"
    yield at_most(f"{name}: events lost, twice or out of order", lost, 0, "events")
    late = quantiles(delays, n=100)[98]
    if before is not None and after is not None:
        spent = (after - before) / (streams * events)
        yield plain(f"{name}: processor time of the API for each event of each stream", spent * 1e6, "µs")
    yield plain(f"{name}: until an event came, median", median(delays) * 1000, "ms")
    yield at_most(f"{name}: p99 against the median of an idle system", late / idle, 10, missed=MISSED_CROWD)


async def _memory(ground: Ground, streams: int) -> AsyncIterator[Figure]:
    async with ground.listening(SOME, OTHER):
        pass
    before = ground.api.memory()
    async with ground.listening(streams, OTHER) as listeners:
        await asyncio.sleep(2)
        held = ground.api.memory()
        await listeners.collect(0, 0)
    if before is None or held is None:
        raise Unavailable("This system does not tell what a process holds.")
    yield at_most("memory of an idle stream", (held - before) / streams / KILOBYTE, 50, "kB")


async def _commits(bench: Bench, ground: Ground, streams: int) -> AsyncIterator[Figure]:
    rates: dict[str, list[float]] = {"none": [], "some": [], "other": []}
    await ground.rate()
    for _ in range(1 if bench.quick else TURNS):
        rates["none"].append(await ground.rate())
        async with ground.listening(SOME):
            rates["some"].append(await ground.rate())
        async with ground.listening(streams, OTHER):
            rates["other"].append(await ground.rate())
    none, some, other = (median(each) for each in rates.values())
    yield plain(f"commits a second over HTTP, {COMMITTERS} people", none, "1/s")
    name = f"commits a second with {SOME} streams of the organization against none"
    yield at_least(name, some / none, 0.7, missed=MISSED_COMMITS)
    name = f"commits a second with {streams:,} streams of another organization against none"
    yield at_least(name, other / none, 0.9, missed=MISSED_COMMITS)


async def _missed(bench: Bench, ground: Ground) -> AsyncIterator[Figure]:
    events = MISSED // 20 if bench.quick else MISSED
    owner, user = ground.mirror.owner, ground.committers[0][0]
    await owner.execute(COUNT_THEM, OTHER, events)
    await owner.execute(ADD_EVENTS, OTHER, user, events)
    await owner.execute("VACUUM (ANALYZE) public.feed")
    pages, bare = [], []
    for _ in range(1 if bench.quick else TURNS):
        pages.append(await asyncio.to_thread(_read_on, ground.api.port, ground.tokens[OTHER][0], events))
        started = time.perf_counter()
        assert len(await owner.fetch(BARE, OTHER)) == events
        bare.append(time.perf_counter() - started)
    yield plain(f"catching up {events:,} events by changes", events / median(pages), "events/s")
    yield plain("a bare SELECT of them", events / median(bare), "events/s")
    yield at_least("changes against the bare SELECT", median(bare) / median(pages), 1 / 3, missed=MISSED_CHANGES)


def _read_on(port: int, token: str, events: int) -> float:
    """The seconds of reading everything, a page after another."""
    path, since, found, wire = f"/api/v1/orgs/{OTHER}/changes", "earliest", 0, Wire(port)
    started = time.perf_counter()
    while found < events:
        body = wire.fetch(get(path, token, [("since", since), ("limit", str(PAGE))]).encode())
        assert wire.status == 200, body
        found += body.count(b',"type":"commit",')
        since = body.rpartition(b'"nextSince":"')[2].partition(b'"')[0].decode()
    assert body.endswith(b',"upToDate":true}')
    wire.socket.close()
    return time.perf_counter() - started
