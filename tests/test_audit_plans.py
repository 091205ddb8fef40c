"""The plans of audit, history and explanation, on 100,000 entries each: indexes used and rows touched, not time."""

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.audit import (
    EXPORT_CHANGES,
    EXPORT_ENTRIES,
    FAR,
    LIST_CHANGES,
    LIST_ENTRIES,
    LIST_EVERYWHERE,
    NARROWED,
    NARROWED_EVERYWHERE,
)
from app.base.statements import Statement, statement
from app.history import FIND_ROW, LIST_HISTORY
from app.rows import EXPLAIN_ROW
from tests.conftest import new_database
from tests.test_plans import PLANNED, nodes_of, on, touched

MANY = 100_000
PAGE = 50
COMMIT, REQUEST = uuid.UUID(int=500), uuid.UUID(int=7)
AT = datetime(2026, 3, 1, tzinfo=UTC)

# One commit of 50,000 rows, small ones of a row each, a row with 2,000 entries; pulls every minute.
FILL = f"""
INSERT INTO organization VALUES ('acme', 'acme'), ('other', 'other');
INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0'), ('other', 'pfa', '1.0');
CREATE FUNCTION pg_temp.id(i bigint) RETURNS uuid LANGUAGE sql AS $$ SELECT lpad(to_hex(i), 32, '0')::uuid $$;
INSERT INTO audit (organization_id, at, actor, action, dataset, request_id, commit_id, row_key)
SELECT o, timestamptz '2026-01-01Z' + i * interval '1 minute', 'user ' || i % 50,
       CASE WHEN i % 1000 = 0 THEN 'settings.changed' ELSE 'commit' END, 'pfa',
       CASE WHEN i % 100 = 0 THEN pg_temp.id(i % 700) END, pg_temp.id(i), CASE WHEN i % 10 = 0 THEN 'R' || i % 5000 END
  FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN generate_series(1, {MANY}) AS i;
INSERT INTO pfa.mirror (organization_id, row_key, data, revision)
SELECT 'acme', 'R' || i, jsonb_build_object('pfaId', 'R' || i, 'model', 'M', 'equipment', 'E', 'dor', 'BEO'), 1
  FROM generate_series(1, {MANY}) AS i;
INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor, at)
SELECT 'acme', c.revision, c.key, 'update', '{{}}', '{{"model": "M"}}', c.source, c.commit_id, 'ann',
       timestamptz '2026-01-01Z' + c.revision * interval '1 minute'
  FROM (SELECT 1::bigint AS revision, 'R' || i AS key, 'commit' AS source, pg_temp.id(1) AS commit_id
          FROM generate_series(1, 50000) AS i
         UNION ALL
        SELECT i, 'R' || i, 'commit', pg_temp.id(i) FROM generate_series(50001, {MANY}) AS i
         UNION ALL
        SELECT i, 'R1', CASE WHEN i % 2 = 0 THEN 'pull' ELSE 'push' END, CASE WHEN i % 2 = 1 THEN pg_temp.id(i) END
          FROM generate_series(2, 2001) AS i) AS c;
INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, settled_at, commit_id,
                        change_request_id)
SELECT h.organization_id, h.row_key, 'ann', 'update', '{{}}', '{{"model": "M"}}', 'synced', h.at, h.commit_id,
       CASE WHEN h.revision = 1 THEN pg_temp.id(7) END
  FROM pfa.history AS h
 WHERE h.commit_id IS NOT NULL;
INSERT INTO change_request (organization_id, id, dataset, session_id, author, title, state, content, validation,
                            summary, base_revision, created_at, updated_at)
SELECT 'acme', pg_temp.id(i), 'pfa', 's', 'ann', 'T', 'pending_review', '', '{{}}', '{{}}', 1, now(), now()
  FROM generate_series(1, 1000) AS i;
INSERT INTO sync_run (organization_id, id, dataset, kind, state, requested_at, started_at, finished_at)
SELECT 'acme', gen_random_uuid(), 'pfa', CASE WHEN i % 4 = 0 THEN 'pull' ELSE 'push' END, 'succeeded', t, t, t
  FROM generate_series(1, 20000) AS i
 CROSS JOIN LATERAL (SELECT timestamptz '2026-01-01Z' + i * interval '30 seconds' AS t) AS t;
"""

pytestmark = pytest.mark.slow("plans over 100,000 entries, which take long to make: over a few, all plans are good")


@pytest.fixture(scope="module")
def filled(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def analyzed(filled: str) -> str:
    connection = await asyncpg.connect(filled)
    await connection.execute(FILL)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return filled


@pytest.fixture
async def planner(analyzed: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(analyzed)
    await connection.execute(PLANNED)
    yield connection
    await connection.close()


async def plan_of(connection: "asyncpg.Connection[Any]", wanted: Statement, **given: Any) -> list[dict[str, Any]]:
    """All nodes of the statement's generic plan, run."""
    values = wanted.bind({"organization": "acme", **given})
    return await nodes_of(connection, wanted.text, values)


NOTHING = {
    **dict.fromkeys(
        ("dataset", "actor", "action", "key", "fields", "request_id", "commit_id", "since", "until", "before")
    ),
    "before_id": 0,
    "limit": PAGE,
}


@pytest.mark.parametrize(
    ("wanted", "index", "most"),
    [
        ({}, "audit_newest", PAGE),
        ({"before": AT, "before_id": 0}, "audit_newest", PAGE),
        ({"since": datetime(2026, 1, 1, tzinfo=UTC), "until": datetime(2026, 1, 2, tzinfo=UTC)}, "audit_newest", PAGE),
        ({"dataset": "pfa"}, "audit_newest", PAGE),
        ({"actor": "user 7"}, "audit_actor", PAGE),
        ({"action": "settings.changed"}, "audit_action", PAGE),
        ({"dataset": "pfa", "key": "R10"}, "audit_row", PAGE),
        ({"dataset": "pfa", "key": "R10", "fields": ["model", "equipment"]}, "audit_row", PAGE),
        ({"request_id": REQUEST}, "audit_request", PAGE),
        ({"commit_id": COMMIT}, "audit_commit", 1),
        ({"commit_id": COMMIT, "actor": "user 0", "action": "commit"}, "audit_commit", 1),
    ],
)
async def test_a_page_of_the_audit_walks_one_index(
    planner: "asyncpg.Connection[Any]", wanted: dict[str, Any], index: str, most: int
) -> None:
    given = " AND ".join(text for name, text in NARROWED.items() if name in wanted) or "TRUE"
    nodes = await plan_of(planner, LIST_ENTRIES.fill(given=given), **NOTHING | wanted)
    (read,) = on(nodes, "audit")
    assert read["Index Name"] == index
    assert touched(read) <= most


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "audit_newest"),
        ({"organization": "acme"}, "audit_newest"),
        ({"since": datetime(2026, 1, 1, tzinfo=UTC), "until": datetime(2026, 1, 2, tzinfo=UTC)}, "audit_newest"),
        ({"actor": "user 7"}, "audit_actor"),
        ({"action": "settings.changed"}, "audit_action"),
        ({"organization": "", "action": "login.failed"}, "audit_action"),
    ],
)
async def test_the_audit_of_all_walks_one_index_of_each(
    planner: "asyncpg.Connection[Any]", wanted: dict[str, Any], index: str
) -> None:
    """No further than a page in each organization."""
    given = " AND ".join(text for name, text in NARROWED_EVERYWHERE.items() if name in wanted) or "TRUE"
    asked = {"organization": None, "actor": None, "action": None, "since": None, "until": None, "limit": PAGE}
    nodes = await plan_of(planner, LIST_EVERYWHERE.fill(given=given), **asked | wanted)
    read = on(nodes, "audit")
    assert {node["Index Name"] for node in read} == {index}
    assert sum(map(touched, read)) <= PAGE * (1 if "organization" in wanted else 3)


async def test_the_changes_of_a_row_are_read_by_the_row(planner: "asyncpg.Connection[Any]") -> None:
    """And a commit of 50,000 rows is not read for one of them."""
    asked = ("actor", "field", "request_id", "commit_id", "since", "until", "before")
    given = {**dict.fromkeys(asked), "key": "R5", "before_revision": FAR, "limit": PAGE}
    nodes = await plan_of(planner, LIST_CHANGES, **given)
    assert sum(map(touched, on(nodes, "history"))) == 1
    assert sum(map(touched, on(nodes, "change"))) <= 1


@pytest.mark.parametrize("key", ["R1", "R5", "R60000"])
async def test_a_page_of_a_history_touches_a_page(planner: "asyncpg.Connection[Any]", key: str) -> None:
    nodes = await plan_of(planner, LIST_HISTORY, user="ann", key=key, reads_requests=False, before=None, limit=PAGE)
    assert sum(map(touched, on(nodes, "history"))) <= PAGE
    assert sum(map(touched, on(nodes, "change"))) <= PAGE
    assert sum(map(touched, on(nodes, "change_request"))) <= PAGE
    nodes = await plan_of(planner, FIND_ROW, user="ann", key=key)
    assert sum(touched(node) for name in ("mirror", "history", "modification") for node in on(nodes, name)) <= 2


@pytest.mark.parametrize(("key", "entries"), [("R1", 1000), ("R5", 1), ("R60000", 2)])
async def test_an_explanation_touches_a_thousand_entries_at_most(
    planner: "asyncpg.Connection[Any]", key: str, entries: int
) -> None:
    nodes = await plan_of(planner, EXPLAIN_ROW, user="ann", key=key, dataset="pfa", reads_requests=True)
    assert sum(map(touched, on(nodes, "history"))) <= entries + 1
    for relation in ("change", "change_request", "approval", "audit", "sync_run"):
        assert sum(map(touched, on(nodes, relation))) <= 8, relation


async def test_an_export_goes_on_by_an_index(planner: "asyncpg.Connection[Any]") -> None:
    period = {"since": datetime(2026, 1, 1, tzinfo=UTC), "until": AT, "limit": PAGE}
    nodes = await plan_of(planner, EXPORT_ENTRIES, **period, after=datetime(2026, 2, 1, tzinfo=UTC), after_id=0)
    assert [(node["Index Name"], touched(node)) for node in on(nodes, "audit")] == [("audit_newest", PAGE)]
    nodes = await plan_of(planner, EXPORT_CHANGES, **period, after=1, after_key="R49999")
    assert sum(map(touched, on(nodes, "history"))) <= PAGE + 1
    assert sum(map(touched, on(nodes, "change"))) <= PAGE


async def test_rows_are_counted_by_the_view(planner: "asyncpg.Connection[Any]") -> None:
    await planner.execute("REFRESH MATERIALIZED VIEW pfa.kpi")
    nodes = await plan_of(planner, statement("datasets/read_dataset"), dataset="pfa", user="ann")
    assert sum(map(touched, on(nodes, "mirror"))) == 0
