"""Loading the mirror: its table alone against a bare one."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from statistics import median
from typing import Any

import asyncpg

from app.contracts import PFA
from app.contracts.ddl import drop_indexes_ddl
from app.migrate import migrate
from benchmarks.data import ORGANIZATION, Bench, scratch_database
from benchmarks.documents import COLUMNS, FIRST_REVISION, parts
from benchmarks.figures import Figure, at_most, plain

DOCUMENTS, QUICK_DOCUMENTS = 100_000, 2_000
TURNS = 3

MISSED_FLOOR = """\
What the bare table does not have is a generated column for each field that is filtered or sorted by, those that are
computed of several, and the text of the search. PostgreSQL computes each of them by itself out of the whole document,
as the row is written."""

# Nobody comes to tidy up while one of them is filled.
MAKE_TABLES = f"""
CREATE SCHEMA bench;
CREATE TABLE bench.bare (
    organization_id text COLLATE "C",
    row_key text COLLATE "C",
    data jsonb,
    PRIMARY KEY (organization_id, row_key)
) WITH (autovacuum_enabled = false);
ALTER TABLE pfa.mirror SET (autovacuum_enabled = false);
{FIRST_REVISION};
"""
INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'pfa.mirror'::regclass"


async def floor(bench: Bench) -> AsyncIterator[Figure]:
    """COPY of the same documents into both, in turns: the mirror as it is migrated, without its secondary indexes."""
    documents = QUICK_DOCUMENTS if bench.quick else DOCUMENTS
    encoded = list(parts(ORGANIZATION, documents))
    bare: list[float] = []
    mirror: list[float] = []
    with scratch_database(bench.small.url) as url:
        migrate(url)
        owner = await asyncpg.connect(url, server_settings={"application_name": "vanguard bench"})
        try:
            await owner.execute(MAKE_TABLES + drop_indexes_ddl(PFA))
            assert [each[0] for each in await owner.fetch(INDEXES)] == ["pfa.mirror_pkey"]
            for turn in range(TURNS):
                tables = [("bench", "bare", bare), (PFA.schema, "mirror", mirror)]
                for schema, table, taken in tables if turn % 2 else reversed(tables):
                    taken.append(await _copied(owner, schema, table, encoded))
        finally:
            await owner.close()
    yield plain(f"rows a second of COPY into a bare table, {documents:,} documents", documents / median(bare), "1/s")
    yield plain("rows a second of COPY into the mirror without secondary indexes", documents / median(mirror), "1/s")
    name = "COPY into the mirror without secondary indexes against the bare table of the same key and document"
    yield at_most(name, median(mirror) / median(bare), 10, missed=MISSED_FLOOR)


async def _copied(owner: "asyncpg.Connection[Any]", schema: str, table: str, encoded: Sequence[bytes]) -> float:
    """The seconds of one COPY into the table, which is emptied before."""
    await owner.execute(f"TRUNCATE {schema}.{table}")
    started = time.perf_counter()
    await owner.copy_to_table(table, schema_name=schema, columns=COLUMNS, source=_streamed(encoded))
    return time.perf_counter() - started


async def _streamed(encoded: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in encoded:
        yield part
