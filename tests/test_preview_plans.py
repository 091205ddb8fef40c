"""The plans of previews: 50,000 drafts of a session over 100,000 lines, with statistics and without."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

import asyncpg
import pytest

from app.base.database import PLANNING, Connection
from app.base.prepared import Raw
from app.base.statements import Statement
from app.contracts import PFA
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.contracts.images import qualified
from app.contracts.rules import unruled_fields
from app.engine.desk import Desk
from app.previews.changes import BATCH, READ_CHANGES, read_changes
from app.previews.look import MAX_VALUE, READ_REFUSED
from tests.conftest import new_database
from tests.test_cold_plans import entries, nodes_of, rows_of
from tests.test_plans import FILL

DRAFTS, BUSY, EDITS, REFUSED = 50_000, 2_000, 20_000, 50

pytestmark = pytest.mark.slow("plans over 100,000 lines and 50,000 drafts, which take long to make")

# Every other row is drafted in the session; of the rows between, a fifth outside of it. Others have changes on their
# way in some of the session's rows, and in as many again.
DRAFT = f"""
INSERT INTO pfa.modification (organization_id, user_id, row_key, draft_op, delta, base, mirror_version, version, leaves,
                              lands, session_id, modified_at)
SELECT 'acme', 'ann', m.row_key, 'update', '{{"monthlyRate": 1, "model": "M"}}',
       vanguard.pick(m.data, '["source", "monthlyRate", "purchasePrice", "model"]'), 1, 1, FALSE, FALSE,
       CASE WHEN i % 2 = 0 THEN 's' END, now()
  FROM generate_series(1, {2 * DRAFTS}) AS i
  JOIN pfa.mirror AS m ON m.organization_id = 'acme' AND m.row_key = 'P' || lpad(i::text, 7, '0')
 WHERE i % 2 = 0 OR i % 5 = 0;
INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state)
SELECT 'acme', 'P' || lpad((i * 4 + n)::text, 7, '0'), 'bob', 'update', '{{}}', '{{"model": "bob''s"}}', 'committed'
  FROM generate_series(1, {BUSY}) AS i, generate_series(1, 11) AS n
 WHERE n > 1 OR i % 2 = 0;
INSERT INTO pfa.edit (organization_id, session_id, user_id, step, row_key, field, value, held, at)
SELECT 'acme', 's', 'ann', i, 'P' || lpad(i::text, 7, '0'), 'monthlyRate', '1', i % {EDITS // REFUSED} > 0, now()
  FROM generate_series(1, {EDITS}) AS i;
"""
READS: dict[str, tuple[Statement, dict[str, Any]]] = {
    "changes": (
        READ_CHANGES,
        {
            "from_key": "",
            "groups": json.dumps(PFA.cell_map),
            "ruled_fields": sorted(PFA.ruled),
            "unruled_fields": unruled_fields(PFA),
            "upstream_only": list(PFA.upstream_only),
            "initial": json.dumps(PFA.initial),
            "most": None,
        },
    ),
    "refused": (READ_REFUSED, {"longest": MAX_VALUE}),
}
WHO = {"organization": "acme", "user": "ann", "session_id": "s"}
GOOD = {
    "modification_pkey",
    "mirror_pkey",
    "change_unfinished",
    "edit_refused",
    "edit_cell",
    "step_pkey",
}


@pytest.fixture(scope="module")
def lines_url(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def lined(lines_url: str) -> str:
    """The lines, without statistics."""
    connection = await asyncpg.connect(lines_url)
    await connection.execute(drop_indexes_ddl(PFA))
    await connection.execute(FILL)
    await connection.execute(indexes_ddl(PFA))
    await connection.close()
    return lines_url


@pytest.fixture(params=["warm", "cold", "filled after it was planned"])
async def planner(
    request: pytest.FixtureRequest, lined: str, server_url: str
) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection as the application has it, with the statements prepared."""
    with new_database(server_url, lined) as url:
        opened = await asyncpg.connect(url, server_settings=dict(PLANNING))
        if "after" not in request.param:
            await opened.execute(DRAFT)
        if request.param == "warm":
            await opened.execute("VACUUM ANALYZE")
        for name, (item, _) in READS.items():
            await opened.execute(f"PREPARE {name} AS {qualified(item, PFA).text}")
            await opened.fetch(called(name, user="nobody"))
        if "after" in request.param:
            await opened.execute(DRAFT)
        yield opened
        await opened.close()


def called(name: str, **given: str) -> str:
    """The call of a prepared statement."""
    item, arguments = READS[name]
    values = item.bind(WHO | arguments | given)
    return f"EXECUTE {name} ({', '.join(map(literal, values))})"


def literal(value: Any) -> str:
    """A parameter as SQL has it."""
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    return "NULL" if value is None else f"'{value}'"


async def plan_of(planner: "asyncpg.Connection[Any]", name: str) -> list[dict[str, Any]]:
    text = await planner.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {called(name)}")
    return list(nodes_of(json.loads(text)[0]["Plan"]))


async def test_each_row_of_a_session_is_seen_a_few_times_and_as_it_comes(planner: "asyncpg.Connection[Any]") -> None:
    """Given 50,000 drafts, when they are read, then by keys, without a step that has to be complete before the next."""
    before = await entries(planner)
    nodes = await plan_of(planner, "changes")
    seen = {node["Node Type"]: rows_of(node) for node in sorted(nodes, key=rows_of)}
    assert DRAFTS <= max(seen.values()) <= 3 * DRAFTS, seen
    assert {node["Index Name"] for node in nodes if "Index Name" in node} <= GOOD
    whole = [node["Node Type"] for node in nodes if node["Actual Loops"] == 1 and node["Actual Rows"] >= DRAFTS]
    assert not {"Sort", "Materialize", "Hash", "CTE Scan"} & {*whole}
    assert "Memoize" not in seen
    # What functions read is in no plan.
    read = {table: count - before[table] for table, count in (await entries(planner)).items()}
    assert max(read.values()) <= 3 * DRAFTS, read


async def test_the_first_rows_of_a_session_cost_no_more_than_they_are(planner: "asyncpg.Connection[Any]") -> None:
    """Wherever they begin."""
    connection = Connection(cast("Raw", planner), slow_ms=60_000)
    await planner.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    before = await entries(planner)
    async with (
        planner.transaction(),
        aclosing(read_changes(Desk(connection, PFA, "acme"), "ann", "s", "P0050000")) as batches,
    ):
        first = await anext(batches)
    assert (len(first), first[0]["row_key"]) == (BATCH, "P0050000")
    read = {table: count - before[table] for table, count in (await entries(planner)).items()}
    assert max(read.values()) <= 5 * BATCH, read


async def test_refused_values_are_found_among_many_edits(planner: "asyncpg.Connection[Any]") -> None:
    before = await entries(planner)
    nodes = await plan_of(planner, "refused")
    assert nodes[0]["Actual Rows"] == REFUSED
    assert {node["Index Name"] for node in nodes if "Index Name" in node} <= GOOD
    read = {table: count - before[table] for table, count in (await entries(planner)).items()}
    assert max(read.values()) <= 10 * REFUSED, read
