"""Committing: five drafts over many lines against few, and ten thousand against saving them."""

import time
from collections.abc import AsyncIterator, Sequence
from statistics import median

from app.commits import CommitRequest, commit
from app.contracts import PFA
from app.drafts import Draft
from app.engine.desk import Desk
from benchmarks.data import AT, ORGANIZATION, Bench, Place, save_drafts
from benchmarks.figures import Figure, at_most, plain
from benchmarks.timing import interleaved

FIVE = 5
AHEAD = 60  # commits of five
MANY, TURNS = 10_000, 3

MISSED_COMMIT = """\
Its statements touch the same rows in both, and what they write to the log costs nothing that could be seen. It was
1.54 x and more while a plan on one side read all changes of the organization for each row: "Where the time of a commit
goes" below has the cause. See by which index `pfa.in_flight` and `pfa.theirs` read here."""
MISSED_MANY = """\
A save writes a row's modification, with all of its indexes. A commit compares it with theirs, writes the change, and
the modification again: without an index where its page has room, with all of them where it has not."""

# What a worker would push later on, for hours: here it ends with the turn.
FORGET = f"""
DELETE FROM {PFA.schema}.change WHERE organization_id = '{ORGANIZATION}' AND user_id = $1 AND row_key = ANY ($2::text[])
"""
FORGET_LAYERS = FORGET.replace(".change", ".modification")


async def commits(bench: Bench) -> AsyncIterator[Figure]:
    """Committing five drafts, and ten thousand."""
    few, many = _Committer(bench.small), _Committer(bench.big)
    for committer in (few, many):
        await committer.go_ahead(bench.rounds(AHEAD))
    small, large = await interleaved(few.commit, many.commit, rounds=bench.rounds(100))
    name = f"committing {FIVE} drafts, {bench.big.rows:,} lines against {bench.small.rows:,}"
    yield at_most(name, large / small, 1.5, missed=MISSED_COMMIT)
    batch = min(MANY, bench.big.rows // 16)
    saves, taken = [], []
    for turn in range(TURNS):
        saved, committed = await many.batch(turn, batch)
        saves.append(saved)
        taken.append(committed)
    yield plain(f"rows a second of saving {batch:,} drafts", batch / median(saves), "1/s")
    yield plain(f"rows a second of committing {batch:,} drafts", batch / median(taken), "1/s")
    name = f"committing {batch:,} drafts against saving them, {bench.big.rows:,} lines"
    yield at_most(name, median(taken) / median(saves), 1, missed=MISSED_MANY)


class _Committer:
    """Drafts after another, of rows that were not committed before: other groups commit the first ones."""

    def __init__(self, place: Place):
        self._place, self._user = place, place.people["committer"].id
        self._number = place.rows // 4

    async def go_ahead(self, times: int) -> None:
        """As many changes that both sides plan alike, and statistics of them: autovacuum has some within a minute.

        Without, any index that begins with the organization looks as good as the one that has the row's key, too.
        """
        for _ in range(times):
            await self.commit()
        await self._place.owner.execute(f"ANALYZE {PFA.schema}.change")

    async def commit(self) -> float:
        """The seconds of a commit of five; saving what it commits does not count."""
        keys = [f"PFA-{(self._number + n) % self._place.rows + 1:07d}" for n in range(FIVE)]
        self._number += FIVE
        await self._save(keys)
        return await self._commit(keys)

    async def batch(self, turn: int, size: int) -> tuple[float, float]:
        """The seconds of saving so many, every other row of the list's end, and of committing them."""
        last = self._place.rows - turn * 2 * size
        keys = [f"PFA-{last - 2 * n:07d}" for n in range(size)]
        saved, committed = await self._save(keys), await self._commit(keys)
        for forget in (FORGET, FORGET_LAYERS):
            await self._place.owner.execute(forget, self._user, keys)
        await self._place.owner.execute(f"VACUUM {PFA.schema}.modification, {PFA.schema}.change")
        return saved, committed

    async def _save(self, keys: Sequence[str]) -> float:
        # With both figures a line keeps the contract's rules, whatever its source.
        figures = {"monthlyRate": 1000 + self._number, "purchasePrice": 90_000}
        started = time.perf_counter()
        await save_drafts(self._place, "committer", [Draft(id=key, delta=figures) for key in keys])
        return time.perf_counter() - started

    async def _commit(self, keys: Sequence[str]) -> float:
        started = time.perf_counter()
        async with self._place.database.transaction() as connection:
            answer = await commit(Desk(connection, PFA, ORGANIZATION), self._user, CommitRequest(ids=tuple(keys)), AT)
        assert answer.committed == len(keys)
        return time.perf_counter() - started
