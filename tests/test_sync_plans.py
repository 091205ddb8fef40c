"""The plans of pull and push on 20,000 lines: what is read, not how long it takes.

Each statement is looked at twice: prepared when everything was filled, vacuumed and analysed, and prepared while
nothing was there, as by a worker that pulls an organization for the first time and keeps its plans.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import pytest

from app.base.statements import Statement, statement
from app.contracts import PFA
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.contracts.images import qualified
from tests.conftest import new_database
from tests.test_plans import AT, PLANNED, _nodes, literal, on, touched

LINES, CHANGES, STAGED, GONE = 20_000, 20_000, 100, 20
APART = 999  # lines from one that is gone to the next
DUE = 16  # changes that are claimed at once
TABLES = ("mirror", "history", "pulled", "change")

MAKE_STAGING = statement("worker/make_staging")
STATEMENTS: dict[str, tuple[Statement, list[Any]]] = {
    "sift": (statement("worker/sift_staged"), ["acme"]),
    "read": (statement("worker/read_staged"), ["acme"]),
    "leave": (statement("worker/leave_alone"), ["acme", 0]),
    "apply": (qualified(statement("worker/apply_staged"), PFA), ["acme", 2, "pull", AT]),
    "due": (statement("worker/find_due"), ["acme", AT, DUE, "0" * 32]),
    "any due": (statement("worker/read_due"), [["acme"], "pfa", AT]),
    "count missing": (statement("worker/count_missing"), ["acme", 1]),
    "find missing": (statement("worker/find_missing"), ["acme", 1, "", 1000]),
    "find some": (statement("worker/find_missing"), ["acme", 1, "", 2]),
    "sample missing": (statement("worker/sample_missing"), ["acme", 1, 20]),
    "count present": (statement("worker/count_present"), ["acme"]),
}
PAGED = ("sift", "read", "leave", "apply")  # work on a page

ORGANIZATIONS = """
INSERT INTO organization VALUES ('acme', 'acme'), ('other', 'other');
INSERT INTO dataset (organization_id, name, contract_version, revision)
VALUES ('acme', 'pfa', '1.0', 1), ('other', 'pfa', '1.0', 1);
INSERT INTO synchronization (organization_id, dataset, pull_every, full_every, next_pull_at)
VALUES ('acme', 'pfa', 900, 86400, '2027-01-01');
"""
LINE = """jsonb_build_object(
    'pfaId', 'P' || lpad(i::text, 7, '0'), 'category', 'Category ' || i % 16, 'source', 'Rental', 'monthlyRate', i,
    'forecastStart', (date '2024-01-11' + i % 1400)::text, 'equipment', 'EQ-' || i)"""
# All lines but GONE of them were seen by the pull that is under way.
FILL = f"""
INSERT INTO pfa.mirror (organization_id, row_key, data, revision)
SELECT organization, 'P' || lpad(i::text, 7, '0'), {LINE}, 1
  FROM (VALUES ('acme', {LINES}), ('other', 2000)) AS size (organization, n)
 CROSS JOIN LATERAL generate_series(1, n) AS i;
INSERT INTO pfa.history (organization_id, revision, row_key, op, after, source)
SELECT m.organization_id, 1, m.row_key, 'insert', m.data, 'pull' FROM pfa.mirror AS m;
INSERT INTO pfa.pulled (organization_id, row_key)
SELECT m.organization_id, m.row_key FROM pfa.mirror AS m
 WHERE m.row_key NOT IN (SELECT 'P' || lpad((i * {APART})::text, 7, '0') FROM generate_series(1, {GONE}) AS i);
"""
# Two changes of every other line.
OUTBOX = f"""
INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state)
SELECT 'acme', 'P' || lpad((i % {CHANGES // 2} * 2 + 2)::text, 7, '0'), 'ann', 'update', '{{}}', '{{"model": "M"}}',
       'committed'
  FROM generate_series(1, {CHANGES}) AS i;
"""
# What a page brings: most lines as they are, one of ten changed, one of ten new.
STAGE = f"""
INSERT INTO staged (row_key, data)
SELECT 'P' || lpad(i::text, 7, '0'), {LINE} || CASE WHEN i % 10 = 1 THEN '{{"model": "M"}}' ELSE '{{}}' END::jsonb
  FROM generate_series(1, {STAGED}) AS n
 CROSS JOIN LATERAL (SELECT CASE WHEN n % 10 = 2 THEN n + {LINES} ELSE n * 7 END AS i) AS page;
"""
# What the functions that a statement calls have read does not stand in its plan.
READ = """
SELECT relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0) AS rows
  FROM pg_stat_xact_user_tables WHERE schemaname = 'pfa'
"""
WAITS = "SELECT calls FROM pg_stat_user_functions WHERE schemaname = 'pfa' AND funcname = 'waits'"


class Planned:
    """A worker's connection with its plans."""

    def __init__(self, connection: "asyncpg.Connection[Any]"):
        self.connection = connection

    async def prepare(self) -> None:
        """Prepare all statements, and let each run once: that makes its generic plan."""
        await self.connection.execute(PLANNED)
        await self.connection.execute(MAKE_STAGING.text)
        for name, (item, arguments) in STATEMENTS.items():
            await self.connection.execute(f'PREPARE "{name}" AS {item.text}')
            async with self.connection.transaction():
                await self.connection.execute(_execute(name, arguments))

    async def explain(self, name: str) -> "Reading":
        """Stage a page, run the statement, and take all of it back."""
        transaction = self.connection.transaction()
        await transaction.start()
        if name in PAGED:
            await self.connection.execute(STAGE)
        before = await self._read()
        arguments = STATEMENTS[name][1]
        text = await self.connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_execute(name, arguments)}")
        after = await self._read()
        await transaction.rollback()
        nodes = list(_nodes(json.loads(text)[0]["Plan"]))
        read = {
            table: tuple(now - then for now, then in zip(after[table], before[table], strict=True)) for table in after
        }
        return Reading(nodes, read)

    async def _read(self) -> dict[str, tuple[int, int]]:
        return {row["relname"]: (row["seq_scan"], row["rows"]) for row in await self.connection.fetch(READ)}


class Reading:
    """What a statement has read: by its plan's nodes, and by table as the server counts it, functions included."""

    def __init__(self, nodes: list[dict[str, Any]], read: Mapping[str, Any]):
        self.nodes, self.scans = nodes, {table: scans for table, (scans, _) in read.items()}
        self.fetched = {table: rows for table, (_, rows) in read.items()}

    def entries(self, table: str) -> float:
        """Rows and index entries of the table, those that were thrown away included."""
        return sum(touched(node) for node in on(self.nodes, table))

    def lookups(self, table: str) -> float:
        """How often the table was asked for something."""
        return sum(float(node["Actual Loops"]) for node in on(self.nodes, table))

    def indexes(self, table: str) -> set[str]:
        """The indexes by which the table is read."""
        return {node["Index Name"] for node in on(self.nodes, table) if "Index Name" in node}


def _execute(name: str, arguments: list[Any]) -> str:
    given = f"({', '.join(map(literal, arguments))})" if arguments else ""
    return f'EXECUTE "{name}" {given}'


@pytest.fixture(scope="module", params=["planned when it was filled", "planned while it was empty"])
async def planned(request: pytest.FixtureRequest, server_url: str, template: str) -> AsyncIterator[Planned]:
    """Everything is filled, and vacuumed and analysed before it was planned; or else neither, as in a first pull."""
    with new_database(server_url, template) as url:
        worker, filler = Planned(await asyncpg.connect(url)), await asyncpg.connect(url)
        await filler.execute(ORGANIZATIONS)
        if request.param == "planned while it was empty":
            for table in TABLES:
                await filler.execute(f"ALTER TABLE pfa.{table} SET (autovacuum_enabled = off)")
            await worker.prepare()
            await filler.execute(FILL + OUTBOX)
        else:
            await filler.execute(drop_indexes_ddl(PFA) + FILL + indexes_ddl(PFA) + OUTBOX)
            await filler.execute("CHECKPOINT")
            for table in TABLES:
                await filler.execute(f"VACUUM ANALYZE pfa.{table}")
            await worker.prepare()
        yield worker
        await worker.connection.close()
        await filler.close()


@pytest.mark.parametrize("name", STATEMENTS)
async def test_nothing_is_read_from_end_to_end(planned: Planned, name: str) -> None:
    """The page itself is; of the tables, each row that is read was found by an index, in functions, too."""
    reading = await planned.explain(name)
    scanned = {node["Relation Name"] for node in reading.nodes if node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan")}
    assert scanned <= {"staged", "incarnation"}  # which has one row
    assert sum(reading.scans.values()) == 0


@pytest.mark.parametrize("name", ["sift", "read", "apply"])
async def test_a_page_is_looked_up_row_by_row(planned: Planned, name: str) -> None:
    """Given 20,000 lines, when a page of 100 is compared or applied, then its own rows are read, by their keys."""
    reading = await planned.explain(name)
    assert reading.indexes("mirror") == {"mirror_pkey"}
    assert 0 < reading.entries("mirror") <= 2 * STAGED
    assert 0 < reading.fetched["mirror"] + reading.entries("mirror") <= 4 * STAGED


async def test_what_is_left_alone_is_found_by_its_rows(planned: Planned) -> None:
    """Given 20,000 changes in the outbox, then a page reads those of its own rows, and their latest history."""
    reading = await planned.explain("leave")
    assert reading.indexes("change") == {"change_unfinished", "change_sent"}
    assert reading.indexes("history") == {"history_row"}
    assert 0 < reading.fetched["change"] <= STAGED
    assert 0 < reading.lookups("history") <= STAGED
    assert reading.entries("history") <= STAGED
    assert reading.fetched["mirror"] == 0


@pytest.mark.parametrize("name", ["due", "any due"])
async def test_the_outbox_is_read_from_its_beginning(planned: Planned, name: str) -> None:
    """Given 20,000 changes, then so many are read as can go at once, and none of them to know that there are some."""
    reading = await planned.explain(name)
    assert reading.indexes("change") == {"change_outbox"}
    assert 0 < reading.entries("change") <= (DUE if name == "due" else 1)
    assert reading.fetched["change"] <= 2 * DUE


@pytest.mark.parametrize("name", ["due", "any due"])
async def test_a_young_outbox_is_asked_only_as_far_as_it_is_claimed(server_url: str, template: str, name: str) -> None:
    """Given 400 changes that nobody has analysed yet, whatever index they come from, then few are asked what they wait
    for: each of them by its row.
    """
    with new_database(server_url, template) as url:
        worker = Planned(await asyncpg.connect(url))
        await worker.connection.execute(ORGANIZATIONS + "ALTER TABLE pfa.change SET (autovacuum_enabled = off)")
        await worker.connection.execute(OUTBOX.replace(str(CHANGES), "400"))
        await worker.prepare()
        await worker.connection.execute("SET track_functions = 'all'")
        reading = await worker.explain(name)
        await worker.connection.execute("SELECT pg_stat_force_next_flush()")
        asked = await worker.connection.fetchval(WAITS)
        await worker.connection.close()
    assert reading.entries("change") > 0
    assert 0 < asked <= 2 * DUE


async def test_missing_rows_are_counted_in_one_pass(planned: Planned) -> None:
    """Each key of the mirror is looked up among those that were seen; rows and changes only of the unseen ones."""
    reading = await planned.explain("count missing")
    assert reading.indexes("pulled") == {"pulled_pkey"}
    assert reading.indexes("change") == {"change_unfinished"}
    assert reading.entries("mirror") <= LINES + GONE
    assert reading.entries("pulled") <= LINES
    assert 0 < reading.fetched["change"] <= 2 * GONE
    rows = [node for node in on(reading.nodes, "mirror") if node["Node Type"] == "Index Scan"]
    assert [(node["Index Name"], touched(node)) for node in rows] == [("mirror_pkey", GONE)]


@pytest.mark.parametrize(
    ("name", "seen"), [("find missing", LINES), ("find some", 3 * APART), ("sample missing", LINES)]
)
async def test_what_is_missing_is_found_in_the_order_of_keys(planned: Planned, name: str, seen: int) -> None:
    """Given 20 unseen lines, ten of them with a change on its way, then it stops with the last key that it needs."""
    reading = await planned.explain(name)
    assert reading.indexes("mirror") == {"mirror_pkey"}
    assert reading.entries("mirror") <= seen + GONE
    assert reading.entries("pulled") <= seen
    assert 0 < reading.fetched["change"] <= 2 * GONE
