"""Pull and push: against COPY, against what latency allows, in memory, and what people notice of it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from statistics import mean, median, quantiles
from typing import Any

import asyncpg
import httpx

from app import accounts
from app.base import exact_json
from app.commits import CommitRequest, commit
from app.contracts import PFA
from app.drafts import Draft, save
from app.engine.desk import Desk
from app.upstream.pems.config import Grid
from app.upstream.pems.screen import Pairs, screen_request
from app.web.auth import Role
from app.worker.loop import database_clock
from app.worker.pull import pull
from app.worker.push import push
from app.worker.target import Target
from benchmarks.api import get
from benchmarks.bench_http import MEGABYTE, UNCOUNTED
from benchmarks.data import AT, ORGANIZATION, PATH, SECRET, Bench, Unavailable
from benchmarks.figures import Figure, at_least, at_most, plain
from benchmarks.processes import peak
from benchmarks.upstream import (
    CODE,
    USER,
    Mirror,
    Simulator,
    connected,
    last_run,
    new_mirror,
    one_pull,
    simulating,
    working,
)

LINES, QUICK_LINES = 100_000, 3_000
SHARE = 100  # one line of so many is changed
CHANGES, QUICK_CHANGES = 2_000, 100
LATENCY, CALLS, CONCURRENCY = 20, 3, 4  # milliseconds of the simulator; of a change; changes at the same time
PULLED, RATE = 20_000, 1_000  # lines of the pull beside pages, and rows a second that it may read
WRITTEN = 10  # of them one of so many is changed
TOGETHER = 3  # pages of changed lines at the end of what a worker streams
PAGE = 1_000
ASKED = 50  # calls for each that is asked at the same time

MISSED_CHANGED = """\
Without changes a page of 1,000 lines takes no lock and no revision. With ten changed ones it takes both, writes ten
rows into every index of the mirror and into history, and looks for modifications of them. The rest of a page's time is
reading the answer, copying it and comparing it, the same in both."""
MISSED_PUSH = """\
Calls are waited for side by side, but the worker is one process, and so is the simulator: what a change takes of the
processor, for three calls, the comparison and the settlement, is not spent in waiting. Settlements are made one after
another, over the connection that holds the lock. On a machine that is busy with other things all of it takes longer."""

# LIKE leaves out what the table is set to.
COPIED = """
CREATE SCHEMA bench;
DO $$
BEGIN
    EXECUTE (SELECT format('CREATE TABLE bench.copied (LIKE pfa.mirror INCLUDING ALL) WITH (%s)',
                           array_to_string(c.reloptions, ', '))
               FROM pg_class AS c WHERE c.oid = 'pfa.mirror'::regclass);
END
$$;
"""
SAME = """
SELECT count(*) FROM pfa.mirror AS m JOIN bench.copied AS c ON c.organization_id = m.organization_id
   AND c.row_key = m.row_key AND c.data = m.data
"""
# Inserted, updated and deleted, whatever became of them since.
VERSIONS = """
SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS written FROM pg_stat_user_tables
 WHERE schemaname = 'pfa' AND relname IN ('mirror', 'history')
"""

FORGET = f"""
DELETE FROM synchronization WHERE organization_id = '{ORGANIZATION}';
DELETE FROM sync_run WHERE organization_id = '{ORGANIZATION}';
DELETE FROM pfa.pulled WHERE organization_id = '{ORGANIZATION}';
"""


# -- pull --------------------------------------------------------------------------------------------------------------


async def pulls(bench: Bench) -> AsyncIterator[Figure]:
    """A first pull between the halves of a COPY; then pulls of everything, in turns with and without changes."""
    lines = QUICK_LINES if bench.quick else LINES
    async with (
        simulating(lines, "--rendered", "canonical") as simulator,
        new_mirror(bench.small.url) as mirror,
        connected(mirror.url, mirror.owner, simulator) as target,
    ):
        documents = await simulator.documents()
        await mirror.owner.execute(COPIED)
        copied = await _copy(mirror.owner, documents[: lines // 2])
        first, run = await mirror.pull(target)
        copied += await _copy(mirror.owner, documents[lines // 2 :])
        assert run["inserted"] == lines
        assert await mirror.owner.fetchval(SAME) == lines, "both hold the same documents"
        yield plain(f"rows a second of a first pull of {lines:,} lines", lines / first, "1/s")
        yield plain(f"rows a second of COPY into an equal table, {lines:,} lines", lines / copied, "1/s")
        yield at_least(
            "first pull against COPY into an equal table with the same generated columns and indexes", copied / first,
            0.5,
        )  # fmt: skip
        async for figure in _again(mirror, simulator, target, lines, first):
            yield figure


async def _copy(owner: "asyncpg.Connection[Any]", documents: Sequence[tuple[str, str]]) -> float:
    """The seconds that COPY takes for them."""
    started = time.perf_counter()
    await owner.copy_records_to_table(
        "copied", schema_name="bench", columns=["organization_id", "row_key", "data", "revision"],
        records=[(ORGANIZATION, key, text, 1) for key, text in documents],
    )  # fmt: skip
    return time.perf_counter() - started


async def _again(
    mirror: Mirror, simulator: Simulator, target: Target, lines: int, first: float
) -> AsyncIterator[Figure]:
    unchanged, changed, versions = [], [], 0
    assert await _versions(mirror) == {"mirror": lines, "history": lines}, "the statistics tell what was written"
    for turn in range(1, 3):
        before = await _versions(mirror)
        seconds, run = await mirror.pull(target)
        assert run["whole"]
        assert run["unchanged"] == run["rows_read"] >= lines, "a page begins with the last line of the one before"
        unchanged.append(seconds)
        after = await _versions(mirror)
        versions += sum(after.values()) - sum(before.values())
        numbers = range(turn, lines + 1, SHARE)
        await simulator.change(numbers, 1_000_000 + turn)
        seconds, run = await mirror.pull(target)
        assert run["updated"] == len(numbers)
        changed.append(seconds)
        assert await _versions(mirror) == {name: count + len(numbers) for name, count in after.items()}
    yield plain(f"rows a second of a pull of {lines:,} unchanged lines", lines / median(unchanged), "1/s")
    yield at_least("pull with nothing changed against the first, times as fast", first / median(unchanged), 1.5)
    yield at_most("row versions of mirror and history that it writes", versions, 0, "rows")
    ratio = median(changed) / median(unchanged)
    yield at_most("pull with 1 % changed against the unchanged pull", ratio, 1.3, missed=MISSED_CHANGED)


async def _versions(mirror: Mirror) -> dict[str, int]:
    """Row versions that were ever written, by table. Nobody may be at it any more: each tells when it goes."""
    return {row["relname"]: row["written"] for row in await mirror.owner.fetch(VERSIONS)}


# -- push --------------------------------------------------------------------------------------------------------------


async def pushes(bench: Bench) -> AsyncIterator[Figure]:
    """Changes of as many rows, against what the simulator's latency leaves to so many calls at the same time."""
    changes = QUICK_CHANGES if bench.quick else CHANGES
    async with (
        simulating(changes, "--latency", str(LATENCY)) as simulator,
        new_mirror(bench.small.url, changes) as mirror,
        connected(mirror.url, mirror.owner, simulator, concurrency=CONCURRENCY) as target,
        mirror.database() as database,
    ):
        account = await accounts.add_account(
            database, email="pusher@bench.example", name="pusher", password=None, roles={ORGANIZATION: Role.ANALYST}
        )
        keys = [f"PFA-{number:07d}" for number in range(1, changes + 1)]
        async with database.transaction() as connection:
            drafts = [Draft(id=key, delta={"equipment": f"PUSH-{key}"}) for key in keys]
            await save(Desk(connection, PFA, ORGANIZATION), account.id, drafts, AT)
            await commit(Desk(connection, PFA, ORGANIZATION), account.id, CommitRequest(ids=tuple(keys)), AT)
        latency = await _latency(simulator, keys)
        before = await simulator.requests()
        started = time.perf_counter()
        assert await push(database, target, database_clock, random.random, asyncio.Event()), "nobody else pushes here"
        rate = changes / (time.perf_counter() - started)
        after = await simulator.requests()
        latency = mean([latency, await _latency(simulator, keys)])
        run = await mirror.run("push")
        assert run is not None
        assert run["synced"] == changes, run["error"]
        calls = {name: count - before.get(name, 0) for name, count in after.items()}
        assert calls == dict.fromkeys(("GET", "UPDATE", "grid"), changes), "three calls for each change"
    yield plain(f"changes a second of a push of {changes:,}, {LATENCY} ms latency, concurrency 4", rate, "1/s")
    yield plain(f"latency of the simulator, asked by {CONCURRENCY} at the same time", latency * 1000, "ms")
    yield plain("changes a second that this latency allows, three calls a change", _ideal(latency), "1/s")
    yield at_least("push against what the simulator's latency allows", rate / _ideal(latency), 0.8, missed=MISSED_PUSH)
    yield plain(f"push against what {LATENCY} ms would allow", rate / _ideal(LATENCY / 1000), "x")


def _ideal(latency: float) -> float:
    """Changes a second, if nothing took time but the calls."""
    return CONCURRENCY / (CALLS * latency)


async def _latency(simulator: Simulator, keys: Sequence[str]) -> float:
    """The mean seconds of a call from this process, as many at the same time as there are changes under way."""
    headers = {"tenant": "BENCH", "role": "BENCH", "organization": CODE}
    taken: list[float] = []

    async def ask(client: httpx.AsyncClient, own: Sequence[str]) -> None:
        for key in own:
            pairs: Pairs = {"PFS_ID": {"TEXTDATA": key}, "PFS_A_ORG": {"TEXTDATA": CODE}}
            body = exact_json.encode(screen_request(Grid().screen, "GET", pairs, None))
            started = time.perf_counter()
            answer = await client.post(Grid().screen_path, content=body, headers=headers)
            taken.append(time.perf_counter() - started)
            answer.raise_for_status()

    async with httpx.AsyncClient(base_url=simulator.url, auth=(USER, SECRET), trust_env=False) as client:
        await asyncio.gather(
            *(ask(client, keys[lane : CONCURRENCY * ASKED : CONCURRENCY]) for lane in range(CONCURRENCY))
        )
    return mean(taken)


# -- what people notice ------------------------------------------------------------------------------------------------


async def pages(bench: Bench) -> AsyncIterator[Figure]:
    """A page over HTTP while a pull of the same organization writes, and before and after it."""
    place, lines = bench.big, min(PULLED, bench.big.rows)
    page = get(f"{PATH}/rows", place.people["somebody"].token, UNCOUNTED)
    async with (
        simulating(lines) as simulator,
        connected(place.url, place.owner, simulator, pageSize=PAGE, requestsPerSecond=RATE / PAGE) as target,
    ):
        await simulator.change(range(1, lines + 1, WRITTEN), 1_000_000)
        await _paged(bench, page, 1)
        idle = await _paged(bench, page, 6)
        stopping = asyncio.Event()
        pulling = asyncio.create_task(pull(place.database, target, database_clock, stopping))
        try:
            begun = await _read(place.owner)
            while not begun["rows_read"] and not pulling.done():
                await asyncio.sleep(0.05)
                begun = await _read(place.owner)
            started = time.perf_counter()
            busy = await _paged(bench, page, 12)
            seconds, ended = time.perf_counter() - started, await _read(place.owner)
            assert not pulling.done(), "the pull goes on for longer than it is looked at"
        finally:
            stopping.set()
            await pulling
            await place.owner.execute(FORGET)
        idle += await _paged(bench, page, 6)
    read, written = ((ended[name] - begun[name]) / seconds for name in ("rows_read", "updated"))
    yield plain("p95 of a page over HTTP, idle, 500 drafts", _p95(idle) * 1000, "ms")
    yield plain("p95 of a page over HTTP during a pull, 500 drafts", _p95(busy) * 1000, "ms")
    yield plain("rows a second that the pull reads meanwhile", read, "1/s")
    yield plain("rows a second that it writes, one line of ten being changed", written, "1/s")
    name = f"p95 of a page during a full pull limited to {RATE:,} rows a second, of which a tenth is written"
    yield at_most(f"{name}, against an idle system", _p95(busy) / _p95(idle), 4)


async def _paged(bench: Bench, page: str, seconds: float) -> list[float]:
    """The seconds of one page after another, on one connection at a time."""
    taken: list[float] = []
    deadline = time.monotonic() + bench.seconds(seconds)
    while time.monotonic() < deadline:
        taken += await bench.api.times(page, rounds=50)
    return taken


async def _read(owner: "asyncpg.Connection[Any]") -> Mapping[str, int]:
    """How far the pull is."""
    run = await last_run(owner, "pull")
    return {name: 0 if run is None else run[name] for name in ("rows_read", "updated")}


def _p95(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=20)[-1]


# -- memory ------------------------------------------------------------------------------------------------------------


async def memory(bench: Bench) -> AsyncIterator[Figure]:
    """What a worker held at most over a pull of many lines and of few.

    The mirror holds the lines already, and the last pages' are changed: writing a million would take a quarter of an
    hour. Read, compared and remembered is every one; pages that are written are the same number in both.
    """
    place, few = bench.big, max(bench.big.rows // 100, PAGE)
    async with new_mirror(place.url, few) as mirror:
        small, _ = await _streamed(mirror.url, mirror.owner, few)
    big, seconds = await _streamed(place.url, place.owner, place.rows)
    yield plain(f"peak memory of the worker, {few:,} lines", small / MEGABYTE, "MB")
    yield plain(f"peak memory of the worker, {place.rows:,} lines", big / MEGABYTE, "MB")
    yield plain(
        f"rows a second that the worker pulls, {place.rows:,} lines, nearly all unchanged", place.rows / seconds, "1/s"
    )
    name = f"peak memory of the worker, {place.rows:,} lines against {few:,}, all in the mirror, the last 3,000 changed"
    yield at_most(name, big / small, 1.3)


async def _streamed(url: str, owner: "asyncpg.Connection[Any]", lines: int) -> tuple[int, float]:
    """The bytes that a worker held at most when it had pulled all lines, and the seconds of the pull."""
    changed = range(max(1, lines - TOGETHER * PAGE + 1), lines + 1)
    async with simulating(lines) as simulator:
        await simulator.change(changed, 1_000_000)
        async with working(url, simulator) as worker:
            run = await one_pull(worker, owner, patience=120 + lines / 500)
            try:
                held = peak(worker.pid)
            except OSError as error:
                raise Unavailable("This system does not tell what a process held at most.") from error
    assert run["whole"]
    assert run["rows_read"] >= lines, "a page begins with the last line of the one before"
    # Of what earlier figures have committed the worker leaves rows alone.
    assert run["updated"] + run["left_alone"] >= len(changed)
    return held, (run["finished_at"] - run["started_at"]).total_seconds()
