"""The plans that speed stands on, on 100,000 lines that are vacuumed and analysed: shape and rows touched, not time."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.base.database import PLANNING, Database
from app.base.settings import Settings
from app.base.statements import statement
from app.commits import FREEZE_DRAFTS
from app.contracts import PFA
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.contracts.filters import read_listing
from app.contracts.images import qualified
from app.drafts import Draft, save
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.export import ExportComposer
from app.engine.modifications import IMAGE_MODIFICATIONS
from app.engine.page import PageComposer
from app.engine.selection import SELECT_DRAFTS, SELECTIONS
from app.engine.view import Composed
from tests.conftest import new_database
from tests.support.world import SECRET

LINES = 100_000
DRAFTS = 10_000
PAGE = 100
AT = datetime(2026, 3, 1, tzinfo=UTC)
EXPORTS_BEGIN = statement("exports/begin")
PLANNED = "; ".join(f"SET {name} = '{value}'" for name, value in PLANNING.items())

# Lines with ties and NULLs, in an order that has nothing to do with their dates.
FILL = f"""
INSERT INTO organization VALUES ('acme', 'acme'), ('other', 'other');
INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0'), ('other', 'pfa', '1.0');
INSERT INTO pfa.mirror (organization_id, row_key, data, revision)
SELECT organization, 'P' || lpad(i::text, 7, '0'), jsonb_build_object(
           'pfaId', 'P' || lpad(i::text, 7, '0'), 'category', 'Category ' || i * 31 % 16, 'class', 'Class ' || i % 40,
           'source', CASE WHEN i % 7 = 0 THEN 'Purchase' ELSE 'Rental' END, 'dor', 'BEO',
           'monthlyRate', i * 7919 % 900000 / 100.0, 'equipment', 'EQ-' || i,
           'forecastStart', CASE WHEN i % 50 > 0 THEN (date '2024-01-11' + i * 17 % 1400)::text END,
           'forecastEnd', (date '2024-04-01' + i * 17 % 1400 + i % 200)::text, 'isDiscontinued', i % 25 = 0), 0
  FROM (VALUES ('acme', {LINES}), ('other', 2000)) AS size (organization, n)
 CROSS JOIN LATERAL generate_series(1, n) AS i;
"""

pytestmark = pytest.mark.slow("plans over 100,000 lines, which take long to make: over a few, all plans are good")

LISTINGS = {
    "forecastStart": [("sort", "forecastStart")],
    "forecastEnd": [("sort", "forecastEnd")],
    "category": [("sort", "category")],
    "monthlyRate": [("sort", "monthlyRate")],
    "id": [],
    "-forecastStart": [("sort", "-forecastStart")],
    "category, forecastStart": [("category", "Category 3"), ("sort", "forecastStart")],
    "category, source, forecastStart": [("category", "Category 3"), ("source", "Rental"), ("sort", "forecastStart")],
}
# With 0 drafts, with 10,000 that cover their rows, and with as many of a field without an index.
USERS = ["nobody", "mover", "quiet"]


def day(i: int) -> str:
    """One of the days of 2025."""
    return f"2025-{i % 12 + 1:02d}-{i % 28 + 1:02d}"


@pytest.fixture(scope="module")
def plan_url(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def filled(plan_url: str) -> str:
    """The lines and the drafts; saving the drafts is a test of its own plan, too: it takes a second or two."""
    connection = await asyncpg.connect(plan_url)
    await connection.execute(drop_indexes_ddl(PFA))
    await connection.execute(FILL)
    await connection.execute(indexes_ddl(PFA))
    await connection.execute("VACUUM ANALYZE pfa.mirror")
    database = Database(Settings(database_url=plan_url, secret=SECRET))
    await database.open()
    first = await connection.fetch(
        "SELECT row_key FROM pfa.mirror WHERE organization_id = 'acme' ORDER BY f_forecast_start, row_key LIMIT $1",
        DRAFTS,
    )
    drafts = {
        "mover": [
            Draft(id=f"P{i * 9:07d}", delta={"forecastStart": day(i), "category": f"Category {i % 16}"})
            for i in range(1, DRAFTS + 1)
        ],
        "quiet": [Draft(id=f"P{i * 9:07d}", delta={"equipment": f"EQ {i}"}) for i in range(1, DRAFTS + 1)],
        "eraser": [Draft(id=f"P{i * 9:07d}", op="delete") for i in range(1, DRAFTS + 1)],
        "beheader": [Draft(id=record["row_key"], delta={"forecastStart": "2034-01-01"}) for record in first],
    }
    for user, wanted in drafts.items():
        async with database.transaction() as transaction:
            answer = await save(Desk(transaction, PFA, "acme"), user, wanted, AT)
        assert len(answer.saved) == DRAFTS
    await database.close()
    # The server under test commits asynchronously; what is not flushed yet, VACUUM cannot mark as visible to all.
    await connection.execute("CHECKPOINT")
    await connection.execute("VACUUM ANALYZE pfa.modification")
    await connection.close()
    return plan_url


@pytest.fixture
async def planner(filled: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(filled)
    await connection.execute(PLANNED)
    yield connection
    await connection.close()


async def plan_of(connection: "asyncpg.Connection[Any]", page: Composed) -> list[dict[str, Any]]:
    """Run the statement as the application does; all nodes of its plan."""
    return await nodes_of(connection, page.statement.text, page.arguments)


async def nodes_of(
    connection: "asyncpg.Connection[Any]", statement: str, arguments: Sequence[Any]
) -> list[dict[str, Any]]:
    """Run a statement prepared with a generic plan, and take back what it did; all nodes of its plan."""
    transaction = connection.transaction()
    await transaction.start()
    # EXPLAIN of a statement with parameters plans for their values: only a prepared one has a generic plan.
    await connection.execute(f"PREPARE explained AS {statement}")
    given = f"({', '.join(map(literal, arguments))})"
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained {given}")
    await connection.execute("DEALLOCATE explained")
    await transaction.rollback()
    return list(_nodes(json.loads(text)[0]["Plan"]))


def literal(value: Any) -> str:
    """An argument as SQL."""
    if value is None:
        return "NULL"
    text = "{" + ",".join(value) + "}" if isinstance(value, list) else str(value)
    return "'" + text.replace("'", "''") + "'"


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def on(nodes: list[dict[str, Any]], relation: str) -> list[dict[str, Any]]:
    return [node for node in nodes if node.get("Relation Name") == relation]


def merges(connection: "asyncpg.Connection[Any]") -> bool:
    """Whether the planner merges the two indexes of an order. 15 does not, 18 does; others were not tried."""
    return connection.get_server_version().major >= 18


def touched(node: dict[str, Any]) -> float:
    """Rows that the node has read, those that its filter has thrown away included."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def composed(
    user: str, listing: str, cursor: Cursor | None = None, *, counted: bool = True, include: str = ""
) -> Composed:
    composer = PageComposer(PFA, read_listing(PFA, [*LISTINGS[listing], ("include", include)]), "acme", user)
    return composer.page(cursor, counted=counted, base_count=False)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_page_walks_indexes_side_by_side(planner: "asyncpg.Connection[Any]", user: str, listing: str) -> None:
    """Given 100,000 lines, when a page is read in a hot order, then each index is walked in proportion to the page, and
    where they ascend, no line is looked up for another.
    """
    nodes = await plan_of(planner, composed(user, listing))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "mirror"]
    assert sum(touched(node) for node in on(nodes, "mirror")) <= 4 * PAGE

    if listing != "-forecastStart" and merges(planner):
        walks = [node for node in nodes if node["Node Type"] == "Merge Join" and node["Join Type"] == "Anti"]
        assert sorted(node["Actual Loops"] for node in walks) == [0, 1], "one is walked, the other would begin anew"
        (walked,) = [node for node in on(nodes, "mirror") if node["Node Type"] == "Index Scan" and touched(node) > PAGE]
        assert walked["Actual Loops"] == 1, "the documents come with the keys"
    ordered = "modification_covering" if listing == "id" else "modification_lands"
    lands = [node for node in on(nodes, "modification") if node.get("Index Name", "").startswith(ordered)]
    assert {node["Node Type"] for node in lands} == {"Index Only Scan"}
    assert min(touched(node) for node in lands) <= 2 * PAGE
    assert sum(node["Heap Fetches"] for node in lands) == 0


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "listing", [name for name, parameters in LISTINGS.items() if parameters in ([], [("sort", name)])]
)
async def test_an_export_in_the_order_of_an_index_begins_at_once(
    planner: "asyncpg.Connection[Any]", user: str, listing: str
) -> None:
    """Given 100,000 lines, when all are wanted in the order of the id or a hot sort, then no line is sorted, and of the
    drafts at most their order is, before their lines are looked up.
    """
    export = ExportComposer(PFA, read_listing(PFA, LISTINGS[listing]), "acme", user).rows("composite")
    async with planner.transaction():
        await planner.fetchrow(EXPORTS_BEGIN.text, 60.0, True)
        plan = json.loads(await planner.fetchval(f"EXPLAIN (FORMAT JSON) {export.text}", *export.arguments))
    nodes = list(_nodes(plan[0]["Plan"]))
    assert [node["Index Name"] for node in on(nodes, "mirror")].count("mirror_pkey") == (2 if listing == "id" else 1)
    for node in nodes:
        if node["Node Type"] in ("Sort", "Incremental Sort"):
            assert not on(list(_nodes(node)), "mirror")
    if listing == "id":
        assert not [node for node in nodes if node["Node Type"] == "Sort"]


@pytest.mark.parametrize("include", ["computed,layers", "computed,layers,deleted"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("listing", ["forecastStart", "id", "-forecastStart"])
async def test_what_is_included_touches_nothing_more(
    planner: "asyncpg.Connection[Any]", listing: str, user: str, include: str
) -> None:
    """Given no deletions, when layers, computed columns and deleted rows are wanted, then the mirror is read as without
    them, and the documents still come with the keys; where a third arm is sorted, the second is read for a whole page.
    """
    bare = await plan_of(planner, composed(user, listing))
    nodes = await plan_of(planner, composed(user, listing, include=include))
    assert sum(map(touched, on(nodes, "mirror"))) == sum(map(touched, on(bare, "mirror")))
    assert sum(map(touched, on(nodes, "modification"))) <= sum(map(touched, on(bare, "modification"))) + PAGE + 1
    assert [node["Node Type"] for node in on(nodes, "mirror") if touched(node)] == [
        node["Node Type"] for node in on(bare, "mirror") if touched(node)
    ]


@pytest.mark.parametrize("listing", ["forecastStart", "id", "-forecastStart", "category, forecastStart"])
async def test_deleted_rows_are_found_by_their_index(planner: "asyncpg.Connection[Any]", listing: str) -> None:
    """Given 10,000 deletions, when they are included, then the page reads them once by their own index, its total
    once more, and no line of the mirror for any but those of the page.
    """
    nodes = await plan_of(planner, composed("eraser", listing, include="deleted,computed"))
    found = [node for node in nodes if node.get("Index Name") == "modification_deletes"]
    assert len(found) == 2
    assert max(map(touched, found)) <= DRAFTS
    bare = await plan_of(planner, composed("eraser", listing))
    more = sum(map(touched, on(nodes, "mirror"))) - sum(map(touched, on(bare, "mirror")))
    assert more <= 2 * PAGE


@pytest.mark.parametrize("listing", ["forecastStart", "category, forecastStart"])
async def test_a_list_whose_head_was_drafted_away_is_walked_once_more_by_its_keys(
    planner: "asyncpg.Connection[Any]", listing: str
) -> None:
    """Given that the first 10,000 lines went to the end, then two indexes are walked up to the first that did not, and
    no line that went is fetched or probed. PostgreSQL 15 reads as few entries, but looks each line up by itself, once.
    """
    nodes = await plan_of(planner, composed("beheader", listing, counted=False))
    anew = [
        node
        for node in on(nodes, "mirror")
        if node["Node Type"] == "Index Only Scan" and node["Actual Loops"] and touched(node) > PAGE + 1
    ]
    assert len(anew) == 1
    assert anew[0]["Heap Fetches"] == 0
    assert touched(anew[0]) <= DRAFTS + 2 * PAGE
    assert sum(touched(node) for node in on(nodes, "mirror") if node not in anew) <= 10 * PAGE
    # Once beside the short walk, whose category is a part of them, and once from the start.
    assert sum(touched(node) for node in on(nodes, "modification")) <= 2 * DRAFTS + 20 * PAGE
    most = PAGE if merges(planner) else DRAFTS + 2 * PAGE
    assert max(node["Actual Loops"] for node in on(nodes, "modification")) <= most


@pytest.mark.parametrize("listing", LISTINGS)
async def test_the_callers_covering_modifications_are_passed_at_most_once(
    planner: "asyncpg.Connection[Any]", listing: str
) -> None:
    nodes = await plan_of(planner, composed("mover", listing))
    assert sum(touched(node) for node in on(nodes, "modification")) <= DRAFTS + 10 * PAGE


async def test_without_covering_modifications_none_are_read(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await plan_of(planner, composed("nobody", "forecastStart"))
    assert sum(touched(node) for node in on(nodes, "modification")) == 0


@pytest.mark.parametrize("user", USERS)
async def test_a_cursor_goes_on_where_it_stands(planner: "asyncpg.Connection[Any]", user: str) -> None:
    """Deep in the list a page costs what the first one costs: no row before the cursor is read."""
    cursor = Cursor(("2027-06-01",), "P0050000")
    nodes = await plan_of(planner, composed(user, "forecastStart", cursor))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "mirror"]
    assert sum(touched(node) for node in on(nodes, "mirror")) <= 3 * PAGE


@pytest.mark.parametrize("user", USERS)
async def test_an_exact_count_reads_an_index(planner: "asyncpg.Connection[Any]", user: str) -> None:
    listing = read_listing(PFA, LISTINGS["category, source, forecastStart"])
    page = PageComposer(PFA, listing, "acme", user).page(None, counted=True, base_count=True)
    nodes = await plan_of(planner, page)
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "mirror"]


async def test_a_search_reads_the_trigram_index(planner: "asyncpg.Connection[Any]") -> None:
    available = await planner.fetchval("SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin')")
    assert available == 2, "the servers under test have the extensions"
    await planner.execute("SET plan_cache_mode = force_custom_plan")
    listing = read_listing(PFA, [("search", "eq-4711"), ("sort", "forecastStart")])
    nodes = await plan_of(
        planner, PageComposer(PFA, listing, "acme", "nobody").page(None, counted=True, base_count=True)
    )
    assert "mirror_search" in {node.get("Index Name") for node in nodes}
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "mirror"]


async def test_a_search_for_a_common_word_walks_the_key_as_the_service(planner: "asyncpg.Connection[Any]") -> None:
    """Given a word that one line in sixteen has, then the first page is found by walking, and nothing is sorted: the
    service has the statistics for it, which no policy takes away.
    """
    await planner.execute("SET plan_cache_mode = force_custom_plan; SET ROLE vanguard_app")
    listing = read_listing(PFA, [("search", "category 3")])
    nodes = await plan_of(
        planner, PageComposer(PFA, listing, "acme", "nobody").page(None, counted=False, base_count=False)
    )
    assert {node["Node Type"] for node in on(nodes, "mirror")} <= {"Index Scan", "Index Only Scan"}
    assert {node["Index Name"] for node in on(nodes, "mirror")} == {"mirror_pkey"}


async def test_a_commit_of_all_looks_its_rows_up(planner: "asyncpg.Connection[Any]") -> None:
    """However many drafts the planner expects, it makes no hash of the organization's rows."""
    item = SELECT_DRAFTS.fill(selection=SELECTIONS["all"])
    nodes = on(await plan_of(planner, Composed(item, ["acme", "mover", True, "pfa", None, AT])), "mirror")
    assert nodes
    assert all("row_key" in node["Index Cond"] for node in nodes)


SMALL = [f"P{i:07d}" for i in range(9, 54, 9)]
REQUEST = [{"id": key, "op": "update", "delta": {"model": "M"}} for key in SMALL]
BASES = [{"id": key, "base": {"model": "seen"}} for key in SMALL]
WRITERS: dict[str, tuple[Any, list[Any]]] = {
    "save": (
        qualified(statement("drafts/save_drafts"), PFA),
        ["acme", "nobody", 1, json.dumps(REQUEST), "{}", AT, None, "{}", None, None, False, "pfa"],
    ),
    "freeze": (
        FREEZE_DRAFTS,
        ["acme", "mover", 2, SMALL, "{}", "0" * 32, None, AT, [], ["contract"], "{}", False, "pfa"],
    ),
    "take bases": (statement("commits/take_bases"), ["acme", "mover", json.dumps(BASES), "{}"]),
    "read versions": (statement("commits/read_versions"), ["acme", "mover", SMALL]),
    "read saved": (statement("drafts/read_saved"), ["acme", "mover", SMALL]),
    "image": (qualified(IMAGE_MODIFICATIONS, PFA), ["acme", None, SMALL, "{}", None]),
    "lock": (statement("locks/lock_rows"), ["acme", SMALL]),
    "apply": (statement("commits/apply_changes"), ["acme", "0" * 32, 1, "pfaId", "commit", AT]),
    "fold": (statement("modifications/fold_pending"), ["acme", SMALL, None]),
    "discard": (statement("discards/discard_drafts"), ["acme", "mover", 3, SMALL, AT, "pfa"]),
    "sweep": (statement("modifications/sweep_empty"), ["acme", None, SMALL, "pfa", ["mover"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
async def test_a_writer_touches_the_rows_it_names(planner: "asyncpg.Connection[Any]", name: str) -> None:
    """Five rows of 100,000, with 10,000 drafts about: no scan of the mirror or of everybody's modifications."""
    item, arguments = WRITERS[name]
    nodes = await plan_of(planner, Composed(item, arguments))
    scanned = [
        node for node in nodes if node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan", "Index Scan", "Index Only Scan")
    ]
    rows = sum(touched(node) for node in scanned if node["Relation Name"] in ("mirror", "modification"))
    assert rows <= 10 * len(SMALL), {node["Node Type"]: touched(node) for node in scanned}
