"""Committing, over many lines against few."""

import time
from collections.abc import AsyncIterator

from app.commits import CommitRequest, commit
from app.contracts import PFA
from app.drafts import Draft
from app.engine.desk import Desk
from benchmarks.data import AT, ORGANIZATION, Bench, Place, save_drafts
from benchmarks.figures import Figure, at_most
from benchmarks.timing import interleaved

FIVE = 5

MISSED_COMMIT = """\
Not explained. With the saves of many drafts alone before it, on as many lines, it is 0.94 x, each of its statements
alike; in whole runs it was between 0.96 and 1.68. Its statements touch the same number of rows in both. What differs is
how many pages of indexes they are spread over: after a checkpoint PostgreSQL logs each page that it touches whole. To
look at next: the bytes of log that a commit writes, and `wal_compression`."""


async def commits(bench: Bench) -> AsyncIterator[Figure]:
    """Committing five drafts."""
    few, many = _Committer(bench.small), _Committer(bench.big)
    small, large = await interleaved(few.commit, many.commit, rounds=bench.rounds(100))
    name = f"committing {FIVE} drafts, {bench.big.rows:,} lines against {bench.small.rows:,}"
    yield at_most(name, large / small, 1.5, missed=MISSED_COMMIT)


class _Committer:
    """Five drafts after another, of rows that were not committed before."""

    def __init__(self, place: Place):
        self._place, self._user = place, place.people["committer"].id
        self._number = 0

    async def commit(self) -> float:
        """The seconds of the commit; saving what it commits does not count."""
        keys = [f"PFA-{(self._number + n) % self._place.rows + 1:07d}" for n in range(FIVE)]
        self._number += FIVE
        # With both figures a line keeps the contract's rules, whatever its source.
        figures = {"monthlyRate": 1000 + self._number, "purchasePrice": 90_000}
        await save_drafts(self._place, "committer", [Draft(id=key, delta=figures) for key in keys])
        started = time.perf_counter()
        async with self._place.database.transaction() as connection:
            wanted = CommitRequest(ids=tuple(keys))
            answer = await commit(Desk(connection, PFA, ORGANIZATION), self._user, wanted, AT)
        assert answer.committed == FIVE
        return time.perf_counter() - started
