"""The plans of organizations' own datasets: 100,000 rows and as many records in one of 500. Indexes used and rows
touched, not time.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.base import exact_json
from app.base.statements import statement
from app.contracts import Contract, stored_contract
from app.contracts.ddl import Storage, storage_steps
from app.contracts.images import qualified
from tests.conftest import new_database
from tests.support.own import SEMANTICS, customers
from tests.test_plans import PLANNED, nodes_of, on, touched

MANY = 100_000
DATASETS = 500
PORTION = 2_000
AT = datetime(2026, 1, 1, tzinfo=UTC)
RUN = "00000000-0000-0000-0000-{:012d}"
NOBODY = RUN.format(0)


def contract(schema: str) -> Contract:
    """Of one whose records are appended, so that it has every index that there is."""
    document = exact_json.encode(customers(ingestion=SEMANTICS | {"mode": "append"})).decode()
    return stored_contract(document, schema=schema, name="d1")


OWN, OTHER = contract("own_1"), contract("own_2")

# 500 datasets of one organization, all but two without a schema behind them; five of another. Of the records a
# third is of another dataset; a run has 10,000 of them, and a moment has 100. Each event key has ten events.
FILL = f"""
INSERT INTO organization SELECT name, name FROM unnest(ARRAY['acme', 'other']) AS name;
INSERT INTO dataset (organization_id, name, contract_version, schema_name, revision, kpi_revision)
SELECT o, 'd' || i, '1.0', CASE WHEN o = 'acme' THEN 'own_' ELSE 'other_' END || i, 1, (i >= 4)::int
  FROM (VALUES ('acme', {DATASETS}), ('other', 5)) AS size (o, n) CROSS JOIN LATERAL generate_series(1, n) AS i;
INSERT INTO contract (organization_id, dataset, major, minor, schema_name, document, fields, storage, registered_by,
                      registered_at)
SELECT d.organization_id, d.name, 1, minor, d.schema_name, '{{"title": "T"}}', 5,
       CASE WHEN d.name = 'd7' THEN 'old' ELSE 'new' END, 'u1', now()
  FROM dataset AS d CROSS JOIN generate_series(0, 1) AS minor WHERE d.schema_name IS NOT NULL;
UPDATE dataset SET contract_version = '1.1';
INSERT INTO dataset_transition (organization_id, dataset, major, version, action, to_state, at)
SELECT d.organization_id, d.name, 1, '1.0', 'register', 'SHADOW', now()
  FROM dataset AS d CROSS JOIN generate_series(1, 3);
INSERT INTO received (organization_id, dataset, received_at, run_id, line, textual, record)
SELECT 'acme', CASE WHEN i % 3 = 0 THEN 'd2' ELSE 'd1' END, timestamptz '2026-01-01Z' + i / 100 * interval '1 minute',
       ('00000000-0000-0000-0000-' || lpad((i / 10000)::text, 12, '0'))::uuid, i, FALSE, '{{"customerId": "C"}}'
  FROM generate_series(1, {MANY}) AS i;
INSERT INTO sync_run (organization_id, id, dataset, kind, state, requested_at, started_at, progressed_at, finished_at)
SELECT 'acme', gen_random_uuid(), 'd' || i % 50 + 1, 'ingest', 'succeeded', t.at, t.at, t.at, t.at
  FROM generate_series(1, 10000) AS i
 CROSS JOIN LATERAL (SELECT timestamptz '2026-01-01Z' + i * interval '1 minute') AS t (at);
INSERT INTO sync_run (organization_id, id, dataset, kind, state, requested_at)
VALUES ('acme', gen_random_uuid(), 'd9', 'ingest', 'requested', '2026-02-01Z');
INSERT INTO quarantine (organization_id, dataset, row_key, reasons, received, run_id, first_seen_at, last_seen_at, line,
                        raw, textual)
SELECT 'acme', 'd' || i % 2 + 1, 'R' || i, '[]', '{{}}', gen_random_uuid(), now(), now(), i, '{{}}', FALSE
  FROM generate_series(1, 10000) AS i;
INSERT INTO workspace (organization_id, dataset, user_id, revision)
SELECT 'acme', 'd' || i % 50 + 1, 'u' || i, 1 FROM generate_series(1, 5000) AS i;
"""
ROWS = """
INSERT INTO {schema}.mirror (organization_id, row_key, data, revision, event_at, processed_at, event_key)
SELECT o, 'C' || lpad((i % 10000)::text, 5, '0') || '~' || i,
       jsonb_build_object('customerId', 'C' || i % 10000, 'revenue', i, 'tier', 'gold'), 1,
       timestamptz '2026-01-01Z' + i / 10000 * interval '30 hours', now(), 'C' || i % 10000
  FROM (VALUES ('acme', {many}), ('other', 1000)) AS size (o, n) CROSS JOIN LATERAL generate_series(1, n) AS i;
INSERT INTO {schema}.modification (organization_id, user_id, row_key, draft_op, delta, base, mirror_version, version,
                                   leaves, lands, modified_at)
SELECT 'acme', 'u' || i % 100, 'C' || lpad(i::text, 5, '0') || '~' || i, 'update', '{{"revenue": 1}}',
       '{{"revenue": 0}}', 1, 1, FALSE, FALSE, now()
  FROM generate_series(1, 9999) AS i;
"""

ANALYZED = "SELECT EXISTS (SELECT FROM pg_stats WHERE schemaname = 'public' AND tablename = $1)"

pytestmark = pytest.mark.slow("plans over 100,000 rows, which take long to make: over a few, all plans are good")


@pytest.fixture(scope="module")
def url(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def filled(url: str) -> str:
    connection = await asyncpg.connect(url)
    folding = await connection.fetchval(statement("migrate/read_folding").text)
    await connection.execute(FILL)
    for each in (OWN, OTHER):
        for step in storage_steps(each, Storage({}, None, folding or "")):
            await connection.execute(step.script)
        await connection.execute(f"DROP INDEX IF EXISTS {each.schema}.mirror_search")
        await connection.execute(ROWS.format(schema=each.schema, many=MANY))
    await connection.close()
    return url


@pytest.fixture(scope="module", params=["unknown", "known"])
async def known(filled: str, request: pytest.FixtureRequest) -> str:
    """The same before the database knows what is in its tables, and then."""
    if request.param == "known":
        connection = await asyncpg.connect(filled)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
    return filled


@pytest.fixture
async def planner(known: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(known)
    await connection.execute(PLANNED)
    yield connection
    await connection.close()


def read(nodes: Sequence[dict[str, Any]], relation: str) -> float:
    """How many rows of a relation were touched; fails where one was read from end to end."""
    its = on(list(nodes), relation)
    assert not [node for node in its if node["Node Type"] == "Seq Scan"], relation
    return sum(map(touched, its))


def indexes(nodes: Sequence[dict[str, Any]], relation: str) -> set[str]:
    """By which of its indexes a relation was read."""
    return {node["Index Name"] for node in nodes if node.get("Index Name", "").startswith(f"{relation}_")}


async def plan_of(connection: "asyncpg.Connection[Any]", name: str, **given: Any) -> list[dict[str, Any]]:
    """All nodes of the statement's generic plan, run."""
    wanted = statement(name)
    if "other" in wanted.markers:
        wanted = wanted.fill(other=OTHER.schema)
    own = {"organization": "acme", "dataset": "d1", "base": "d1"}
    wanted = qualified(wanted, OWN)
    known = {key: value for key, value in own.items() if key in wanted.parameters}
    return await nodes_of(connection, wanted.text, wanted.bind(known | given))


# -- ingestion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [timedelta(), timedelta(hours=24)])
async def test_events_are_looked_for_by_their_keys(planner: "asyncpg.Connection[Any]", window: timedelta) -> None:
    keys = [f"C{n}" for n in range(PORTION)]
    at = (AT + timedelta(hours=60)).isoformat()
    nodes = await plan_of(
        planner,
        "ingestion/find_events",
        event_keys=keys,
        times=[at] * PORTION,
        window=f"{window.total_seconds()} s",
        ids=[f"{key}~{at}" for key in keys],
    )
    assert indexes(nodes, "mirror") == {"mirror_events", "mirror_pkey"}
    assert read(nodes, "mirror") <= 2 * PORTION


async def test_the_rows_of_a_portion_are_read_by_their_ids(planner: "asyncpg.Connection[Any]") -> None:
    keys = [f"C{n:05}~{n}" for n in range(1, PORTION + 1)]
    nodes = await plan_of(planner, "ingestion/read_rows", keys=keys)
    assert indexes(nodes, "mirror") == {"mirror_pkey"}
    assert read(nodes, "mirror") == PORTION


async def test_times_are_moved_by_ids(planner: "asyncpg.Connection[Any]") -> None:
    rows = [{"id": f"C{n:05}~{n}", "event_at": AT.isoformat(), "processed_at": AT.isoformat()} for n in range(1, 501)]
    nodes = await plan_of(planner, "ingestion/move_times", rows=json.dumps(rows))
    assert indexes(nodes, "mirror") == {"mirror_pkey"}
    assert read(nodes, "mirror") <= 2 * len(rows)  # the update itself counts, too


@pytest.mark.parametrize("place", [0, 30_000, 90_000])
@pytest.mark.parametrize("run", [None, RUN.format(9)])
async def test_received_records_are_read_on_from_where_a_run_is(
    planner: "asyncpg.Connection[Any]", place: int, run: str | None
) -> None:
    """A run of its own reads from its own moment on."""
    since = AT if run is None else AT + timedelta(minutes=900)
    after_at = max(since, AT + timedelta(minutes=place // 100))
    nodes = await plan_of(
        planner, "ingestion/read_received", since=since.isoformat(), until="9999-01-01Z", run_id=run,
        after_at=after_at.isoformat(), after_run=RUN.format(place // 10_000), after_line=place, limit=PORTION,
        bytes=2**24,
    )  # fmt: skip
    assert indexes(nodes, "received") == {"received_pkey"}
    assert read(nodes, "received") <= PORTION + 100
    assert read(nodes, "quarantine") == 0  # of 5,000 of the dataset, none of which is one of these
    assert sum(node["Actual Rows"] for node in nodes if node["Node Type"] == "Sort") == 0


async def test_received_records_are_counted_by_their_time(planner: "asyncpg.Connection[Any]") -> None:
    since, until = AT + timedelta(minutes=100), AT + timedelta(minutes=110)
    nodes = await plan_of(planner, "ingestion/count_received", since=since.isoformat(), until=until.isoformat())
    assert indexes(nodes, "received") == {"received_pkey"}
    assert read(nodes, "received") <= 1_000


@pytest.mark.parametrize(("minutes", "forgotten"), [(0, 0), (500, 5_000)])
async def test_what_was_received_long_ago_is_forgotten_some_at_a_time(
    planner: "asyncpg.Connection[Any]", minutes: int, forgotten: int
) -> None:
    """However many records stay, and however many datasets have none."""
    before = (AT + timedelta(minutes=minutes)).isoformat()
    nodes = await plan_of(planner, "ingestion/forget_received", before=before, limit=5_000)
    assert read(nodes, "received") <= 3 * forgotten  # found, found by place, deleted
    assert read(nodes, "contract") <= 2 * (DATASETS + 5)


async def test_what_is_due_is_found_by_what_is_not_over(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await plan_of(planner, "ingestion/find_work", at=AT.isoformat())
    assert read(nodes, "sync_run") == 1
    assert read(nodes, "edit_session") == 0
    assert read(nodes, "dataset") <= 2 * (DATASETS + 5) + 1


async def test_a_run_is_begun_by_what_is_not_over(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await plan_of(planner, "ingestion/open_run", at=AT.isoformat())
    assert read(nodes, "sync_run") <= 2
    assert "sync_run_newest" not in indexes(nodes, "sync_run")


async def test_quarantine_is_read_by_dataset_and_record(planner: "asyncpg.Connection[Any]") -> None:
    ids = [f"R{n}" for n in range(1, 101, 2)]
    nodes = await plan_of(planner, "ingestion/read_quarantined", ids=ids, run_id=None, limit=100, bytes=2**24)
    assert read(nodes, "quarantine") <= 5_000
    nodes = await plan_of(planner, "ingestion/release_records", ids=ids)
    # Of a table that it knows nothing of, a release before 18 reads the dataset's part.
    ignorant = planner.get_server_version().major < 18 and not await planner.fetchval(ANALYZED, "quarantine")
    assert read(nodes, "quarantine") <= (5_000 if ignorant else 2 * len(ids))


async def test_a_version_is_read_on_from_a_row(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await plan_of(planner, "ingestion/read_version", after="C05000", limit=PORTION)
    assert indexes(nodes, "mirror") == {"mirror_pkey"}
    assert read(nodes, "mirror") == PORTION


# -- datasets and versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [None, 1])
async def test_a_name_is_found_by_one_row(planner: "asyncpg.Connection[Any]", major: int | None) -> None:
    nodes = await plan_of(planner, "datasets/find_version", major=major)
    assert read(nodes, "dataset") == 1
    nodes = await plan_of(planner, "datasets/read_contract", major=1, minor=1)
    assert read(nodes, "contract") == 1


@pytest.mark.parametrize(
    ("name", "relation", "most"),
    [
        ("versions/list_versions", "contract", 2),
        ("versions/list_versions", "dataset", 2),
        ("versions/list_transitions", "dataset_transition", 3),
        ("versions/read_states", "dataset", 1),
        ("versions/find_uses", "mirror", 1),
        ("versions/raise_workspaces", "workspace", 400),
        ("versions/count_own", "dataset", DATASETS),
        ("versions/list_contracts", "contract", 2 * DATASETS),
    ],
)
async def test_a_dataset_is_looked_at_alone(
    planner: "asyncpg.Connection[Any]", name: str, relation: str, most: int
) -> None:
    """And what counts or lists an organization's touches that organization's."""
    touched_rows = read(await plan_of(planner, name), relation)
    # Of tables that it knows nothing of, any index of the organization looks as good; a few rows later it knows.
    if await planner.fetchval(ANALYZED, "dataset"):
        assert touched_rows <= most


async def test_a_migration_passes_over_schemas_that_are_as_they_should_be(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await plan_of(planner, "migrate/find_outdated", digest="new")
    assert read(nodes, "dataset") <= 2 * (DATASETS + 5)
    nodes = await plan_of(planner, "migrate/note_storage", schema="own_7", digest="new")
    assert read(nodes, "contract") <= 4


# -- versions side by side ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lifecycle/compare_rows", "lifecycle/sample_differences"])
async def test_two_versions_are_compared_in_one_pass(planner: "asyncpg.Connection[Any]", name: str) -> None:
    """In the order of their ids, side by side: nothing is kept on disk, however many rows there are."""
    more = {"limit": 20} if "sample" in name else {}
    nodes = await plan_of(planner, name, names='{"revenue": "revenue"}', **more)
    assert {node["Join Type"] for node in nodes if "Join Type" in node} == {"Full"}
    assert [node["Node Type"] for node in nodes if "Join Type" in node] == ["Merge Join"]
    assert indexes(nodes, "mirror") == {"mirror_pkey"}
    assert read(nodes, "mirror") == 2 * MANY
    assert max(node["Temp Written Blocks"] for node in nodes) == 0


@pytest.mark.parametrize("after", ["", "u50"])
async def test_everybodys_drafts_are_read_some_at_a_time(planner: "asyncpg.Connection[Any]", after: str) -> None:
    nodes = await plan_of(planner, "lifecycle/read_modifications", after_user=after, after_key="", limit=1_000)
    assert read(nodes, "modification") <= 2_000  # of both versions
    assert indexes(nodes, "modification") == {"modification_pkey"}
    assert read(nodes, "mirror") <= 2_000
    assert indexes(nodes, "mirror") == {"mirror_pkey"}
