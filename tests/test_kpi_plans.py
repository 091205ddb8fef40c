"""The plans of KPIs on 20,000 lines, with ten users of 2,000 drafts each: what is read, not how long it takes."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from app.base.database import Database
from app.base.settings import Settings
from app.contracts import PFA
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.drafts import Draft, save
from app.engine.desk import Desk
from app.engine.figures import FigureComposer
from app.kpis import Kpis, read_kpis, read_wanted
from tests.conftest import new_database
from tests.support.world import SECRET
from tests.test_plans import AT, PLANNED, on, plan_of, touched

LINES, DRAFTS, COMMITTED = 20_000, 2_000, 50

# A tenth as many lines of another organization; four revisions of history, of which the view knows three.
FILL = f"""
INSERT INTO organization VALUES ('acme', 'acme'), ('other', 'other');
INSERT INTO dataset (organization_id, name, contract_version, revision)
VALUES ('acme', 'pfa', '1.0', 3), ('other', 'pfa', '1.0', 3);
INSERT INTO pfa.mirror (organization_id, row_key, data, revision)
SELECT organization, 'P' || lpad(i::text, 7, '0'), jsonb_build_object(
           'pfaId', 'P' || lpad(i::text, 7, '0'), 'category', 'Category ' || i * 31 % 16, 'class', 'Class ' || i % 40,
           'source', CASE WHEN i % 7 = 0 THEN 'Purchase' ELSE 'Rental' END, 'dor', 'BEO', 'areaSilo', 'Area ' || i % 9,
           'monthlyRate', i * 7919 % 900000 / 100.0, 'equipment', 'EQ-' || i,
           'originalStart', '2024-01-01', 'originalEnd', '2024-12-31',
           'forecastStart', (date '2024-01-11' + i)::text, 'forecastEnd', (date '2024-04-01' + i)::text,
           'isDiscontinued', i % 25 = 0), 0
  FROM (VALUES ('acme', {LINES}), ('other', {LINES // 10})) AS size (organization, n)
 CROSS JOIN LATERAL generate_series(1, n) AS i;
INSERT INTO pfa.history (organization_id, revision, row_key, op, source, b_plan_cost, a_plan_cost)
SELECT organization, revision, 'P' || lpad(i::text, 7, '0'), 'update', 'commit', 1, 1
  FROM (VALUES ('acme'), ('other')) AS org (organization)
 CROSS JOIN generate_series(1, 3) AS revision
 CROSS JOIN generate_series(1, {LINES // 4}) AS i;
REFRESH MATERIALIZED VIEW pfa.kpi;
UPDATE dataset SET revision = 4;
INSERT INTO pfa.history (organization_id, revision, row_key, op, source, b_plan_cost, a_plan_cost)
SELECT 'acme', 4, 'P' || lpad(i::text, 7, '0'), 'update', 'commit', 1, 2 FROM generate_series(1, {COMMITTED}) AS i;
"""
# Nine more users with the drafts of ann.
COPY = """
DO $$
DECLARE
    kept text;
BEGIN
    SELECT string_agg(column_name, ', ') INTO kept
      FROM information_schema.columns
     WHERE table_schema = 'pfa' AND table_name = 'modification' AND is_generated = 'NEVER'
       AND column_name NOT IN ('user_id', 'id');
    EXECUTE format('INSERT INTO pfa.modification (user_id, %s) SELECT ''user'' || n, %s
                      FROM pfa.modification CROSS JOIN generate_series(1, 9) AS n', kept, kept);
END
$$;
"""
# The drafts avoid the first and last days: none takes an extreme value away.
KNOWN: dict[str, list[tuple[str, str]]] = {
    "total": [],
    "groups": [("groupBy", "category,source")],
    "all dimensions": [("groupBy", "category,class,source,dor,areaSilo")],
    "filtered": [("category", "Category 3"), ("isDiscontinued", "false"), ("groupBy", "class")],
}
OTHER: dict[str, list[tuple[str, str]]] = {
    "by a field with an index": [("forecastStart[lt]", "2024-02-01"), ("groupBy", "category")],
    "by a field without one": [("equipment", "EQ-4711")],
    "by the drafts alone": [("syncState", "draft"), ("groupBy", "category")],
}


@pytest.fixture(scope="module")
def plan_url(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def filled(plan_url: str) -> str:
    """The lines, the view, and the drafts of ten users on the same rows."""
    connection = await asyncpg.connect(plan_url)
    await connection.execute(drop_indexes_ddl(PFA))
    await connection.execute(FILL)
    await connection.execute(indexes_ddl(PFA))
    database = Database(Settings(database_url=plan_url, secret=SECRET))
    await database.open()
    drafts = [
        Draft(id=f"P{100 + i * 9:07d}", delta={"monthlyRate": i, "category": f"Category {i % 16}"})
        for i in range(DRAFTS)
    ]
    async with database.transaction() as transaction:
        await save(Desk(transaction, PFA, "acme"), "ann", drafts, AT)
    await connection.execute(COPY)
    await database.close()
    await connection.execute("CHECKPOINT; ANALYZE pfa.mirror, pfa.modification, pfa.history, pfa.kpi")
    await connection.close()
    return plan_url


@pytest.fixture
async def planner(filled: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(filled)
    await connection.execute(PLANNED)
    yield connection
    await connection.close()


async def nodes_of(
    planner: "asyncpg.Connection[Any]", user: str, parameters: list[tuple[str, str]], *, from_view: bool
) -> list[dict[str, Any]]:
    """All nodes of the plan, with what each has read."""
    composer = FigureComposer(PFA, read_wanted(PFA, parameters), "acme", user)
    assert composer.knows_view == from_view
    return await plan_of(planner, composer.kpis(from_view=from_view))


def read(nodes: list[dict[str, Any]], relation: str) -> float:
    """How many rows of the relation were read."""
    return sum(touched(node) for node in on(nodes, relation))


@pytest.mark.parametrize("user", ["ann", "nobody"])
@pytest.mark.parametrize("listing", KNOWN)
async def test_the_view_answers_without_the_mirror(planner: "asyncpg.Connection[Any]", user: str, listing: str) -> None:
    """A range of the view's cells, a range of history's primary key, and the caller's own modifications."""
    nodes = await nodes_of(planner, user, KNOWN[listing], from_view=True)
    assert read(nodes, "mirror") == 0
    drafts = DRAFTS if user == "ann" else 0
    assert read(nodes, "modification") <= 2 * drafts, "nobody else's, and one's own once for each side"
    history = [node for node in nodes if node.get("Index Name") == "history_pkey"]
    assert history, "history is a range of its primary key"
    assert "revision >" in history[0]["Index Cond"]
    assert read(nodes, "history") <= 2 * COMMITTED
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node.get("Relation Name") != "kpi"]
    cells = [node for node in nodes if node.get("Index Name") == "kpi_cell"]
    assert cells
    assert all("organization_id" in node["Index Cond"] and "grain" in node["Index Cond"] for node in cells)


async def test_a_bound_that_was_taken_away_is_found_by_an_index(
    planner: "asyncpg.Connection[Any]", filled: str
) -> None:
    """Given a drafted first day, then the mirror gives the next one, and no more rows than it passes."""
    database = Database(Settings(database_url=filled, secret=SECRET))
    await database.open()
    async with database.transaction() as transaction:
        await save(
            Desk(transaction, PFA, "acme"), "cy", [Draft(id="P0000001", delta={"forecastStart": "2030-01-01"})], AT
        )
    wanted = read_wanted(PFA, [])
    async with database.connection() as connection:
        found: Kpis = await read_kpis(Desk(connection, PFA, "acme"), "cy", wanted)
    await database.close()
    assert found.view_revision == 3
    assert str(found.total["mine_min_forecast_start"]) == "2024-01-13"
    assert str(found.total["base_min_forecast_start"]) == "2024-01-12"
    nodes = await plan_of(planner, FigureComposer(PFA, wanted, "acme", "cy").kpis(from_view=True))
    assert read(nodes, "mirror") <= 10


@pytest.mark.parametrize("listing", OTHER)
async def test_rows_are_counted_in_one_pass(planner: "asyncpg.Connection[Any]", listing: str) -> None:
    """The organization's rows once, and the caller's modifications a few times; nobody else's."""
    nodes = await nodes_of(planner, "ann", OTHER[listing], from_view=False)
    drafts_alone = listing == "by the drafts alone"
    # A row of the mirror for each draft only where states or documents are looked at, once for each side.
    probed = 0 if listing == "by a field with an index" else 2 * DRAFTS
    assert read(nodes, "mirror") <= (0 if drafts_alone else 2 * LINES) + probed
    assert read(nodes, "modification") <= 3 * DRAFTS
