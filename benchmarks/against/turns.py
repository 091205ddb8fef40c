"""A run: both sides do the same, a few requests each in turn."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import msgspec
import psycopg

from benchmarks.against.checkout import Refused, checked_out, commit_of, uncommitted
from benchmarks.against.clocks import Meter, Reading, Seconds
from benchmarks.against.outcome import Outcome, Taken, kind
from benchmarks.against.sides import Api, Side
from benchmarks.against.works import WORKS, Work, lists, settle
from benchmarks.api import ROOT
from benchmarks.data import scratch_database, server_at

ROWS, TURNS, BOUND = 20_000, 10, 1.03
SLICE = 10  # requests until it is the other side's turn
WARM_UPS = 30
ENOUGH = 0.5  # seconds on the processors that a side takes for its part of a turn
FEWEST, MOST = 20, 2_000  # requests of a kind in a turn
REPEATS = 5  # turns that may be taken again, because a process came or went in them
SETTLED = 0.05  # seconds after which a request has left nothing to do


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; `requests` of a kind in a turn, as many as take long enough if None."""

    revision: str
    rows: int = ROWS
    turns: int = TURNS
    requests: int | None = None
    url: str | None = None
    bound: float = BOUND


class Changed(Exception):
    """A process came or went: what it used is not known."""


class Turns:
    """Lets both sides do the same, a few requests each in turn, and tells what they used."""

    def __init__(self, sides: Sequence[Side], meter: Meter):
        self._sides, self._meter = sides, meter
        self._apis: Sequence[Api] = ()
        self._done = {work.name: 0 for work in WORKS}
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
            yield self._apis

    def warm_up(self) -> Mapping[str, float]:
        """The milliseconds that one request of each kind then takes, on the side where it takes more."""
        for work in WORKS:
            self.take(work, WARM_UPS)
        return {work.name: max(each.both for each in self.take(work, WARM_UPS)) for work in WORKS}

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
        before = self._read()
        for slice_, start in enumerate(range(first, first + requests, SLICE)):
            # Every other slice runs backwards, and begins so in every other turn: nobody always comes second.
            for api in self._apis if (slice_ + self._number) % 2 else reversed(self._apis):
                for number in range(start, min(start + SLICE, first + requests)):
                    work.request(api, number)
        after = self._read()
        return [
            Taken(
                _difference(f"the API of {api.side.name}", old.api, new.api) * 1000 / requests,
                None
                if old.database is None or new.database is None
                else _difference(f"a connection of {api.side.name}", old.database, new.database) * 1000 / requests,
            )
            for api, old, new in zip(self._apis, before, after, strict=True)
        ]

    def _read(self) -> list[Reading]:
        time.sleep(SETTLED)
        return [self._meter.read(api) for api in self._apis]


def _difference(what: str, before: Seconds, after: Seconds) -> float:
    if before.keys() != after.keys():
        raise Changed(f"{what} was another one afterwards.")
    return sum(after.values()) - sum(before.values())


# -- a run -------------------------------------------------------------------------------------------------------------


def measure(options: Options, tell: Callable[[str], None]) -> Outcome:
    """Everything that is made for it is gone afterwards, whatever happens.

    Raises Refused, and Unavailable where there is no server to use.
    """
    commit, here, edited = commit_of(options.revision), commit_of("HEAD"), uncommitted()
    with ExitStack() as stack:
        tell("a server")
        origin = stack.enter_context(server_at(options.url))
        watcher = stack.enter_context(psycopg.connect(origin, autocommit=True))
        directories = {commit[:10]: stack.enter_context(checked_out(commit)), "the working tree": ROOT}
        sides = []
        for name, directory in directories.items():
            tell(f"{name}: a database with {options.rows:,} lines")
            side = Side(name, directory, stack.enter_context(scratch_database(origin)))
            side.check()
            side.fill(options.rows)
            side.leave_vacuum_to_us()
            sides.append(side)
        meter = Meter(watcher)
        turns = Turns(sides, meter)
        tell("drafts")
        with turns.turn() as apis:
            for api in apis:
                settle(api, options.rows)
            before, now = (lists(api) for api in apis)
            requests = {
                name: options.requests or min(max(math.ceil(ENOUGH * 1000 / each), FEWEST), MOST)
                for name, each in turns.warm_up().items()
            }
        taken: dict[str, list[Sequence[Taken]]] = {work.name: [] for work in WORKS}
        for number in range(options.turns):
            tell(f"turn {number + 1} of {options.turns}")
            with turns.turn():
                turns.warm_up()
                for work in WORKS:
                    taken[work.name].append(turns.take(work, requests[work.name]))
    return Outcome(
        before=commit, now=here, uncommitted=edited, rows=options.rows, bound=options.bound,
        notes=[
            *([] if before == now else ["The two list different lines: their pages are not quite the same work."]),
            *([] if meter.database else ["PostgreSQL is not on this machine: only the API's part is known."]),
        ],
        kinds=[kind(name, requests[name], turns_, options.bound) for name, turns_ in taken.items()],
    )  # fmt: skip
