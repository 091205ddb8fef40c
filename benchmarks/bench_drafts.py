"""Saving drafts: one, and ten thousand in a request."""

import time
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

import asyncpg

from app.contracts import PFA
from app.discards import DiscardRequest, discard
from app.drafts import Draft
from app.engine.desk import Desk
from benchmarks.api import request
from benchmarks.data import AT, ORGANIZATION, PATH, Bench, Place, save_drafts
from benchmarks.figures import Figure, at_least, at_most, plain
from benchmarks.timing import clocked, interleaved

SCHEMA = PFA.schema
AHEAD = 5  # drafts

MISSED_SAVE = """\
A draft is more than its row: the request is parsed and checked, the mirror's row is locked and read, three layers are
merged, and the index image of before and after is computed. INSERT ... SELECT has all of that given."""

# An equal table with equal indexes and the same rows, and a place for the rows to insert beside them.
MAKE_TABLES = f"""
CREATE TABLE bench_equal (LIKE {SCHEMA}.modification INCLUDING ALL);
INSERT INTO bench_equal ({{columns}}) SELECT {{columns}} FROM {SCHEMA}.modification;
CREATE TABLE bench_rows (LIKE {SCHEMA}.modification INCLUDING GENERATED);"""
KEEP_ROWS = f"""
INSERT INTO bench_rows ({{columns}})
SELECT {{columns}} FROM {SCHEMA}.modification WHERE organization_id = $1 AND user_id = $2"""
FORGET_ROWS = "DELETE FROM bench_equal WHERE organization_id = $1 AND user_id = $2"
INSERT_ROWS = "INSERT INTO bench_equal ({columns}) SELECT {columns} FROM bench_rows"
READ_COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
  FROM pg_attribute
 WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"""


async def one_draft(bench: Bench) -> AsyncIterator[Figure]:
    """Saving one draft and discarding it, over many lines against few."""
    few, many = _Turns(bench.small), _Turns(bench.big)
    for _ in range(AHEAD):
        await few.save()
        await many.save()
    small, large, discard_small, discard_large = await interleaved(
        clocked(few.save), clocked(many.save), clocked(few.discard), clocked(many.discard), rounds=bench.rounds(150)
    )
    sizes = f"{bench.big.rows:,} lines against {bench.small.rows:,}"
    yield at_most(f"saving one draft, {sizes}", large / small, 1.5)
    yield at_most(f"discarding one draft, {sizes}", discard_large / discard_small, 1.5)


class _Turns:
    """One draft after another, each of another row, and its end. Saves have to be ahead of discards."""

    def __init__(self, place: Place):
        self._place, self._user = place, place.people["writer"].id
        self._saved: list[str] = []
        self._number = 0

    async def save(self) -> None:
        self._number += 1
        key = f"PFA-{self._number % self._place.rows + 1:07d}"
        await save_drafts(self._place, "writer", [Draft(id=key, delta={"monthlyRate": 4000 + self._number})])
        self._saved.append(key)

    async def discard(self) -> None:
        key = self._saved.pop(0)
        async with self._place.database.transaction() as connection:
            await discard(Desk(connection, PFA, ORGANIZATION), self._user, DiscardRequest(ids=(key,)), AT)


async def many_drafts(bench: Bench) -> AsyncIterator[Figure]:
    """Ten thousand drafts in one request, against INSERT ... SELECT of the rows that they become."""
    place, writer = bench.big, bench.big.people["writer"]
    many = min(10_000, place.rows // 2)
    discarding = request("POST", f"{PATH}/discard", writer.token, {"all": True})
    await bench.api.turns([discarding], rounds=1)
    copy = _Copy(place.owner, await place.owner.fetchval(READ_COLUMNS, f"{SCHEMA}.modification"))
    await copy.make()
    saves, inserts = [], []
    for turn in range(1 if bench.quick else 4):
        drafts = [
            {"id": f"PFA-{n * 2:07d}", "delta": {"forecastEnd": f"2033-{n % 12 + 1:02d}-01", "monthlyRate": 100 + turn}}
            for n in range(1, many + 1)
        ]
        saving = request("POST", f"{PATH}/drafts", writer.token, {"modifications": drafts})
        saves += await bench.api.turns([saving], rounds=1)
        inserts.append(await copy.insert(writer.id))
        await bench.api.turns([discarding], rounds=1)
        await place.owner.execute(f"VACUUM {SCHEMA}.modification, bench_equal")
    await copy.drop()
    saving_takes, inserting_takes = median(saves), median(inserts)
    yield plain(f"{many:,} drafts in one request", many / saving_takes, "rows/s")
    yield plain("INSERT ... SELECT of their modifications", many / inserting_takes, "rows/s")
    name = f"{many:,} drafts in one request against INSERT ... SELECT, rows a second"
    yield at_least(name, inserting_takes / saving_takes, 0.25, missed=MISSED_SAVE)


class _Copy:
    """What the drafts become, inserted again elsewhere."""

    def __init__(self, owner: "asyncpg.Connection[Any]", columns: str):
        self._owner, self._columns = owner, columns

    async def make(self) -> None:
        await self._owner.execute(MAKE_TABLES.format(columns=self._columns))
        await self._owner.execute("VACUUM (ANALYZE) bench_equal")

    async def insert(self, user: str) -> float:
        """The seconds of inserting the user's modifications, which are taken out again."""
        await self._owner.execute("TRUNCATE bench_rows")
        await self._owner.execute(KEEP_ROWS.format(columns=self._columns), ORGANIZATION, user)
        started = time.perf_counter()
        await self._owner.execute(INSERT_ROWS.format(columns=self._columns))
        seconds = time.perf_counter() - started
        await self._owner.execute(FORGET_ROWS, ORGANIZATION, user)
        return seconds

    async def drop(self) -> None:
        await self._owner.execute("DROP TABLE bench_equal, bench_rows")
