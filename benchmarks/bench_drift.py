"""What it costs to look for drift: in records that are sent, and in a pull, against the commit before."""

import asyncio
import csv
import io
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from app.base import exact_json
from app.contracts import Contract
from app.contracts.comparison import Kind
from app.contracts.registration import read_registration
from app.drift.batch import Known
from app.drift.detection import Drift, Source, detect, is_suspect
from app.drift.records import batch_of, with_keys
from app.drift.reports import COMPARED, OTHERS
from app.records.records import Raw, read_csv, read_ndjson
from benchmarks.against.checkout import Refused, checked_out, commit_of
from benchmarks.against.clocks import LINUX, clock
from benchmarks.against.outcome import part
from benchmarks.against.sides import Side
from benchmarks.api import ROOT, Unexpected, end
from benchmarks.data import Bench, scratch_database
from benchmarks.figures import Figure, LeftOut, at_most, plain
from benchmarks.own import FLAT, records
from benchmarks.processes import postmaster_of
from benchmarks.timing import Clocked, interleaved
from benchmarks.upstream import last_run, simulating, upstreams

BATCH, QUICK_BATCH, ROUNDS = 10_000, 3_000, 30
CHECKED = 3  # times of reading a batch that looking for drift may take
WAS, IS = "customer", "clientName"  # a field, and what it is called where it was renamed

BEFORE, DEAREST = "cdb70ad", 1.05
LINES, QUICK_LINES = 20_000, 400
TURNS, QUICK_TURNS, PULLS = 10, 1, 2  # pulls of a side in a turn

PULLER = Path(__file__).with_name("puller.py")
# What serves the puller: whoever asks this is the other one.
BACKENDS = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

Members = list[dict[str, Any]]


async def drift(bench: Bench) -> AsyncIterator[Figure]:
    """Batches first: they need nothing but this process."""
    for measure in (checks, pulls):
        async for figure in measure(bench):
            yield figure


# -- records that are sent ---------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A way in which records come: how they are read, and whether all of their values are texts then."""

    name: str
    read: Callable[[Sequence[bytes]], Iterator[Raw]]
    textual: bool

    def members(self, body: bytes) -> Members:
        """The records of a body, all of which can be read."""
        found = [raw.members for raw in self.read([body]) if raw.members is not None]
        assert found, "there are records"
        return found


FORMS = (Form("NDJSON", read_ndjson, textual=False), Form("CSV", read_csv, textual=True))


async def checks(bench: Bench) -> AsyncIterator[Figure]:
    """Reading a batch, looking for drift in one that has none, and finding what was renamed in one, in turns."""
    contract = read_registration(FLAT, schema="own_0")
    for form in FORMS:
        async for figure in _checks(bench, contract, form):
            yield figure


async def _checks(bench: Bench, contract: Contract, form: Form) -> AsyncIterator[Figure]:
    count = QUICK_BATCH if bench.quick else BATCH
    body = body_of(form, count)
    other, known = renamed(form, body), known_of(contract, form, body)

    def look(sent: Members) -> None:
        assert not is_drifted(contract, form, sent), "a batch as the contract has it"

    def find(sent: Members) -> None:
        kinds = [found.change.kind for found in found_in(contract, form, sent, known).changes]
        assert kinds == [Kind.RENAME], "one field is called otherwise, and nothing else is different"

    reading, looking, finding = await interleaved(
        _timed(lambda: partial(form.members, body)),
        _timed(lambda: partial(look, form.members(body))),
        _timed(lambda: partial(find, form.members(other))),
        rounds=bench.rounds(ROUNDS),
    )
    rows = f"{count:,} records of {form.name}"
    yield plain(f"processor time of reading {rows}", reading * 1000, "ms")
    yield at_most(f"looking for drift in {rows} that have none, against reading them", looking / reading, CHECKED)
    yield plain(f"finding a renamed field in {rows}, against reading them", finding / reading, "x")


def body_of(form: Form, count: int) -> bytes:
    """So many records as they are sent."""
    lines = list(records(count))
    if not form.textual:
        return b"\n".join(lines)
    written = io.StringIO()
    names = [field["name"] for field in FLAT["fields"]]
    writer = csv.writer(written)
    writer.writerow(names)
    for document in map(exact_json.decode, lines):
        writer.writerow([_cell(document[name]) for name in names])
    return written.getvalue().encode()


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def renamed(form: Form, body: bytes) -> bytes:
    """The same with one field called otherwise: of CSV in the header."""
    if form.textual:
        return body.replace(WAS.encode(), IS.encode(), 1)
    return body.replace(f'"{WAS}":'.encode(), f'"{IS}":'.encode())


def known_of(contract: Contract, form: Form, body: bytes) -> Known:
    """What a dataset that has these rows would be asked for: as many as an upload is compared with."""
    batch = with_keys(contract, batch_of(contract, form.members(body), textual=form.textual))
    documents = [exact_json.decode(line) for line in records(batch.rows)]
    by_key = {key: document for key, document in zip(batch.keys, documents, strict=True) if key is not None}
    return Known(dict(list(by_key.items())[:COMPARED]), documents[COMPARED : COMPARED + OTHERS])


def is_drifted(contract: Contract, form: Form, sent: Members) -> bool:
    """What every upload is asked."""
    return is_suspect(contract, batch_of(contract, sent, textual=form.textual), Source.INGEST)


def found_in(contract: Contract, form: Form, sent: Members, known: Known) -> Drift:
    """What one that is suspect is asked besides, without the question to the database."""
    batch = batch_of(contract, sent, textual=form.textual)
    assert is_suspect(contract, batch, Source.INGEST)
    return detect(contract, with_keys(contract, batch), known, Source.INGEST)


def _timed(prepare: Callable[[], Callable[[], object]]) -> Clocked:
    """What is prepared, as something that tells its seconds on the processor. It is prepared anew each time: what was
    looked at once is looked at faster.
    """

    async def run() -> float:
        work = prepare()
        started = time.thread_time()
        work()
        return time.thread_time() - started

    return run


# -- a pull ------------------------------------------------------------------------------------------------------------


class Spent(NamedTuple):
    """Milliseconds of a pull: of its process and its backends on the processors, and by the clock."""

    processors: float
    wall: float


class Puller:
    """A process that pulls by one side's code when it is told to."""

    def __init__(self, process: Process, owner: "asyncpg.Connection[Any]"):
        self._process, self._owner = process, owner

    async def pull(self) -> Spent:
        """Pull once; what it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = await self._clocks()
        self._process.stdin.write(b"\n")
        answer = await self._process.stdout.readline()
        after = await self._clocks()
        if not answer or not before.keys() <= after.keys():
            raise Unexpected("What pulls ended, or a connection of it. Run benchmarks/puller.py by hand to see why.")
        seconds = sum(after.values()) - sum(before.values())
        return Spent(seconds * 1000, float(answer) * 1000)

    async def check(self, lines: int) -> None:
        """That the last pull read everything, and that nothing had changed."""
        run = await last_run(self._owner, "pull")
        assert run is not None
        assert run["state"] == "succeeded", run["error"]
        assert run["whole"]
        assert run["unchanged"] == run["rows_read"] >= lines, "a page begins with the last line of the one before"

    async def _clocks(self) -> Mapping[int, float]:
        pids = [self._process.pid, *(row["pid"] for row in await self._owner.fetch(BACKENDS))]
        return {pid: clock(pid) for pid in pids}


class Pulling(NamedTuple):
    """A side of the comparison, its database and the file that names its upstream."""

    side: Side
    directory: Path
    url: str
    file: Path

    @asynccontextmanager
    async def puller(self) -> AsyncIterator[Puller]:
        """A fresh process each time: how one happens to lie in memory makes it faster or slower for its whole life."""
        owner = await asyncpg.connect(self.url, server_settings={"application_name": "vanguard bench"})
        try:
            process = await create_subprocess_exec(
                sys.executable, "-c", PULLER.read_text(encoding="utf-8"), self.url, str(self.file),
                cwd=self.directory, env=self.side.environment(),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                yield Puller(process, owner)
            finally:
                await end(process)
        finally:
            await owner.close()


async def pulls(bench: Bench) -> AsyncIterator[Figure]:
    """Pulls of everything where nothing has changed, by the code of before and by ours, in turns on one server."""
    try:
        commit = commit_of(BEFORE)
    except Refused as error:
        raise LeftOut(str(error)) from error
    if not LINUX or await postmaster_of(bench.small.owner) is None:
        raise LeftOut("What the server takes of its processors is not known here.")
    lines, turns = (QUICK_LINES, QUICK_TURNS) if bench.quick else (LINES, TURNS)
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulating(lines))
        file = stack.enter_context(upstreams(simulator))
        directories = {BEFORE: stack.enter_context(checked_out(commit)), "the working tree": ROOT}
        sides = []
        for name, directory in directories.items():
            url = stack.enter_context(scratch_database(bench.small.url))
            side = Side(name, directory, url)
            await asyncio.to_thread(_prepare, side, lines)
            sides.append(Pulling(side, directory, url, file))
        taken = [await _turn(sides, lines, number) for number in range(turns)]
    processors = part([(before.processors, now.processors) for before, now in taken])
    wall = part([(before.wall, now.wall) for before, now in taken])
    name = f"a pull of {lines:,} unchanged lines"
    yield plain(f"processor time of {name}, {BEFORE}", processors.before, "ms")
    yield plain(f"processor time of {name}", processors.now, "ms")
    yield at_most(f"processor time of {name} that is watched for drift, against {BEFORE}", processors.ratio, DEAREST)
    yield plain("the same by the clock", wall.ratio, "x")


def _prepare(side: Side, lines: int) -> None:
    side.check()
    side.fill(lines)
    side.leave_vacuum_to_us()


async def _turn(sides: Sequence[Pulling], lines: int, number: int) -> list[Spent]:
    """The mean of each side's pulls; the sides by turns, and each as often first."""
    for each in sides:
        await asyncio.to_thread(each.side.vacuum)
    async with AsyncExitStack() as stack:
        pullers = [await stack.enter_async_context(each.puller()) for each in sides]
        for puller in pullers:
            await puller.pull()
        taken: list[list[Spent]] = [[] for _ in pullers]
        for turn in range(number, number + PULLS):
            places = range(len(pullers))
            for place in places if turn % 2 else reversed(places):
                taken[place].append(await pullers[place].pull())
                await pullers[place].check(lines)
    return [Spent(*(sum(values) / PULLS for values in zip(*each, strict=True))) for each in taken]
