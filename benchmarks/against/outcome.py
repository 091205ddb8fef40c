"""What is found: processor time turn by turn, and the ratios that it comes to."""

from collections.abc import Sequence
from statistics import mean, median, quantiles
from typing import NamedTuple

import msgspec


class Taken(NamedTuple):
    """Milliseconds of processor time for one request, where known, and those that passed until its answer."""

    api: float | None
    database: float | None
    wall: float

    @property
    def both(self) -> float:
        return (self.api or 0.0) + (self.database or 0.0)


def averaged(takes: Sequence[Sequence[Taken]]) -> list[Taken]:
    """The same of several takes in a turn, side by side."""
    return [
        Taken(_mean([take.api for take in side]), _mean([take.database for take in side]), mean(t.wall for t in side))
        for side in zip(*takes, strict=True)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Milliseconds for a request, turn by turn, and what they come to."""

    before: float
    now: float
    ratio: float
    quartiles: tuple[float, float]
    turns: list[tuple[float, float]]


class Kind(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One kind of request: processor time, and the time that passed.

    There is no part of the API where it has none, and none of the database where its processes are not on this machine.
    Both together are what has to hold.
    """

    kind: str
    requests: int
    api: Part | None
    database: Part | None
    both: Part
    wall: Part
    holds: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The result of a run."""

    before: str
    now: str
    uncommitted: bool
    rows: int
    bound: float
    notes: list[str]
    kinds: list[Kind]

    @property
    def holds(self) -> bool:
        return all(kind.holds for kind in self.kinds)


def part(turns: Sequence[tuple[float, float]]) -> Part:
    """The ratio is the median of the turns' own: on a busy machine a turn takes up to twice as long as another, but on
    both sides.
    """
    before, now = (median(side) for side in zip(*turns, strict=True))
    ratios = [after / max(earlier, 1e-9) for earlier, after in turns]
    lower, middle, upper = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Part(
        before=round(before, 4), now=round(now, 4), ratio=round(middle, 4),
        quartiles=(round(lower, 4), round(upper, 4)),
        turns=[(round(earlier, 4), round(after, 4)) for earlier, after in turns],
    )  # fmt: skip


def kind(name: str, requests: int, turns: Sequence[Sequence[Taken]], bound: float) -> Kind:
    """What the turns of one kind of request come to."""
    both = part([(before.both, now.both) for before, now in turns])
    return Kind(
        kind=name, requests=requests, api=_known([(before.api, now.api) for before, now in turns]),
        database=_known([(before.database, now.database) for before, now in turns]), both=both,
        wall=part([(before.wall, now.wall) for before, now in turns]), holds=both.ratio <= bound,
    )  # fmt: skip


def _known(turns: Sequence[tuple[float | None, float | None]]) -> Part | None:
    known = [(before, now) for before, now in turns if before is not None and now is not None]
    return part(known) if known else None
