"""A run: both sides do the same, a few requests each in turn."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import psycopg

from benchmarks.against.checkout import Refused, checked_out, commit_of, uncommitted
from benchmarks.against.clocks import Meter, Reading, Seconds
from benchmarks.against.outcome import Outcome, Taken, averaged, kind
from benchmarks.against.sides import Api, Side
from benchmarks.against.works import DATASET, FIRST, USUAL, Sizes, Work, lists, settle, works
from benchmarks.api import ROOT
from benchmarks.data import scratch_database, server_at

ROWS, TURNS, BOUND = 20_000, 10, 1.03
SIZES = Sizes(documents=20_000, drafts=10_000)
ENOUGH = 0.5  # seconds on the processors that a side takes for its part of a turn
FEWEST, MOST = 20, 2_000  # requests of a kind in a turn
REPEATS = 5  # turns that may be taken again, because a process came or went in them
SETTLED = 0.05  # seconds after which a request has left nothing to do


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; `requests` of a kind in a turn, as many as take long enough if None. Bulks and loads have
    their sizes instead.
    """

    revision: str
    rows: int = ROWS
    turns: int = TURNS
    kinds: tuple[str, ...] = USUAL
    sizes: Sizes = SIZES
    requests: int | None = None
    url: str | None = None
    bound: float = BOUND


class Changed(Exception):
    """A process came or went: what it used is not known."""


class Turns:
    """Lets both sides do the same, a few requests each in turn, and tells what they used."""

    def __init__(self, sides: Sequence[Side], works: Sequence[Work], meter: Meter):
        self._sides, self._works, self._meter = sides, works, meter
        self._apis: Sequence[Api] = ()
        self._done = {work.name: 0 for work in works}
        self._repeats = REPEATS
        self._number = 0

    @contextmanager
    def turn(self) -> Iterator[Sequence[Api]]:
        """Both APIs for one turn. Each has fresh ones: how a process happens to lie in memory makes it faster or slower
        by a few hundredths for its whole life.
        """
        self._number += 1
        for side in self._sides:
            side.vacuum()
        with ExitStack() as stack:
            self._apis = [stack.enter_context(side.serving()) for side in self._sides]
            for api in self._apis:
                # A connection for what guards ask, another one for pages: all are there before anything is measured.
                api.exchange("GET", f"{DATASET}/rows?pageSize=1", FIRST)
            yield self._apis

    def warm_up(self) -> Mapping[str, float]:
        """The milliseconds that one request of each kind then takes, on the side where it takes more: of those kinds
        that have no number of requests.
        """
        for work in self._works:
            self.take(work, work.warm_ups)
        return {
            work.name: max(each.both for each in self.take(work, work.warm_ups))
            for work in self._works
            if work.requests is None
        }

    def take(self, work: Work, requests: int) -> list[Taken]:
        """One turn; another one in its place where a process came or went in it."""
        while True:
            try:
                return self._take(work, requests)
            except Changed as error:
                if self._repeats == 0:
                    raise Refused(f"Processes come and go while they are measured: {error}") from error
                self._repeats -= 1

    def _take(self, work: Work, requests: int) -> list[Taken]:
        first = self._done[work.name]
        self._done[work.name] += requests
        for api in self._apis:
            work.prepare(api, first, requests)
        walls = dict.fromkeys(self._apis, 0.0)
        before = self._read(work)
        for slice_, start in enumerate(range(first, first + requests, work.slice)):
            # Every other slice runs backwards, and begins so in every other turn: nobody always comes second.
            for api in self._apis if (slice_ + self._number) % 2 else reversed(self._apis):
                started = time.perf_counter()
                for number in range(start, min(start + work.slice, first + requests)):
                    work.request(api, number)
                walls[api] += time.perf_counter() - started
        after = self._read(work)
        return [
            Taken(
                _each(f"the API of {api.side.name}", old.api, new.api, requests),
                _each(f"a connection of {api.side.name}", old.database, new.database, requests),
                walls[api] * 1000 / requests,
            )
            for api, old, new in zip(self._apis, before, after, strict=True)
        ]

    def _read(self, work: Work) -> list[Reading]:
        time.sleep(SETTLED)
        return [self._meter.read(api, served=work.served) for api in self._apis]


def _each(what: str, before: Seconds | None, after: Seconds | None, requests: int) -> float | None:
    """Milliseconds for a request."""
    if before is None or after is None:
        return None
    if before.keys() != after.keys():
        raise Changed(f"{what} was another one afterwards.")
    return (sum(after.values()) - sum(before.values())) * 1000 / requests


# -- a run -------------------------------------------------------------------------------------------------------------


def measure(options: Options, tell: Callable[[str], None]) -> Outcome:
    """Everything that is made for it is gone afterwards, whatever happens.

    Raises Refused, and Unavailable where there is no server to use.
    """
    commit, here, edited = commit_of(options.revision), commit_of("HEAD"), uncommitted()
    with ExitStack() as stack:
        tell("a server")
        origin = stack.enter_context(server_at(options.url))
        meter = Meter(stack.enter_context(psycopg.connect(origin, autocommit=True)))
        if "load" in options.kinds and not meter.database:
            raise Refused("PostgreSQL is not on this machine: what a load takes of its processors is not known.")
        directories = {commit[:10]: stack.enter_context(checked_out(commit)), "the working tree": ROOT}
        sides = [_side(stack, name, each, origin, options, tell) for name, each in directories.items()]
        wanted = works(options.kinds, options.sizes)
        turns = Turns(sides, wanted, meter)
        tell("drafts")
        with turns.turn() as apis:
            for api in apis:
                settle(api, options.rows)
            before, now = (lists(api) for api in apis)
            takes = turns.warm_up()
        requests = {work.name: requests_of(work, takes.get(work.name), options) for work in wanted}
        taken: dict[str, list[Sequence[Taken]]] = {work.name: [] for work in wanted}
        for number in range(options.turns):
            tell(f"turn {number + 1} of {options.turns}")
            with turns.turn():
                turns.warm_up()
                for work in wanted:
                    taken[work.name].append(
                        averaged([turns.take(work, requests[work.name]) for _ in range(work.takes)])
                    )
    return Outcome(
        before=commit, now=here, uncommitted=edited, rows=options.rows, bound=options.bound,
        notes=[
            *([] if before == now else ["The two list different lines: their pages are not quite the same work."]),
            *([] if meter.database else ["PostgreSQL is not on this machine: only the API's part is known."]),
        ],
        kinds=[kind(each.name, requests[each.name] * each.takes, taken[each.name], options.bound) for each in wanted],
    )  # fmt: skip


def _side(
    stack: ExitStack, name: str, directory: Path, origin: str, options: Options, tell: Callable[[str], None]
) -> Side:
    tell(f"{name}: a database with {options.rows:,} lines")
    side = Side(name, directory, stack.enter_context(scratch_database(origin)))
    side.check()
    side.fill(options.rows)
    side.leave_vacuum_to_us()
    if "load" in options.kinds:
        stack.enter_context(side.loads(stack.enter_context(scratch_database(origin))))
    return side


def requests_of(work: Work, each: float | None, options: Options) -> int:
    """How many in a turn; `each`: the milliseconds that one takes."""
    if work.requests is not None or each is None:
        return work.requests or 1
    wanted = options.requests or min(max(math.ceil(ENOUGH * 1000 / each), FEWEST), MOST)
    return min(wanted, options.rows // work.rows) if work.rows else wanted
