"""What it costs a page that roles, sessions and organizations are looked at twice, against the commit before."""

from collections.abc import AsyncIterator

from benchmarks.bench_release import against
from benchmarks.data import Bench
from benchmarks.figures import Figure, at_most

BEFORE, DEAREST, TURNS = "02e829d", 1.05, 10
PAGES = {"plain": "a page of 100", "range": "a page of 100 in a numeric range", "search": "a page of 100 in a search"}


async def identity(bench: Bench) -> AsyncIterator[Figure]:
    """Of both, API and database, as the middle of the turns."""
    outcome = await against(bench, BEFORE, tuple(PAGES), TURNS, 1000)
    for kind in outcome.kinds:
        name = f"processor time of {PAGES[kind.kind]} with the second fence against {BEFORE}"
        yield at_most(name, kind.both.ratio, DEAREST)
