"""The plans of change requests: a thousand rows of one among those of others, with statistics and without."""

import json
import uuid
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from app.base import exact_json
from app.base.statements import Statement, statement
from app.contracts import PFA
from app.contracts.images import qualified
from app.drafts import SAVE_DRAFTS
from tests.test_cold_plans import AT, DRAFTS, GROUPS, KEYS, MANY, cold, entries, nodes_of, rows_of

__all__ = ["cold"]

REQUEST, BACK, UNDO = (uuid.UUID(int=n) for n in (11, 12, 13))
COMMIT = uuid.UUID(int=21)
FIELDS = [field.name for field in PFA.fields]
RESOLVED: list[dict[str, Any]] = [
    {"id": key, "whole": None, "mine": ["model"], "theirs": [], "base": [], "value": {}} for key in KEYS[: MANY // 2]
]
CELLS = {key: ["model"] for key in KEYS[: MANY // 2]}
# As many changes of other requests, commits and people, of these rows and of others.
OTHERS = """
INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, change_request_id, commit_id,
                        settled_at)
SELECT 'acme', CASE WHEN n % 2 = 0 THEN 'P' || lpad((n % 1000)::text, 5, '0') ELSE 'Q' || n END, 'bob', 'update',
       '{"areaSilo": "North"}', '{"areaSilo": "South"}', CASE WHEN n % 3 = 0 THEN 'synced' ELSE 'in_review' END,
       md5((n % 20)::text)::uuid, CASE WHEN n % 3 = 0 THEN md5((n % 20)::text)::uuid END,
       CASE WHEN n % 3 = 0 THEN now() END
  FROM generate_series(1, 5000) AS n;
"""
THEIRS = """
UPDATE pfa.mirror SET data = data || '{"model": "theirs"}' WHERE organization_id = 'acme'
   AND row_key < 'P00500'
"""
HISTORY = """
INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, commit_id, actor)
SELECT 'acme', 3, c.row_key, 'update', c.base, c.delta, 'merge', c.commit_id, 'ann'
  FROM pfa.change AS c WHERE c.commit_id = $1 AND c.state = 'synced'
"""

MERGED = """
UPDATE pfa.mirror AS m SET data = m.data || c.delta
  FROM pfa.change AS c WHERE c.commit_id = $1 AND c.state = 'synced' AND m.row_key = c.row_key
"""


def called(name: str, **given: Any) -> tuple[Statement, list[Any]]:
    """A statement of the room, with its values in their order."""
    item = statement(f"change_requests/{name}")
    values = {"organization": "acme", "user": "ann", "dataset": "pfa", "at": AT} | given
    return item, [values[each] for each in item.parameters]


def json_of(value: Any) -> str:
    return exact_json.encode(value).decode()


async def begin(cold: "asyncpg.Connection[Any]") -> None:
    """A session with a draft of every row."""
    await cold.execute(OTHERS)
    arguments = ["acme", "ann", 1, json_of(DRAFTS), GROUPS, AT, "s", "{}", None, None, False, "pfa"]
    await cold.fetch(qualified(SAVE_DRAFTS, PFA).text, *arguments)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_each_row_of_a_request_is_seen_a_few_times(cold: "asyncpg.Connection[Any]", warm: bool) -> None:
    """From the submission to the revert, in the order in which people cause them."""
    await begin(cold)
    steps: list[tuple[str, tuple[Statement, list[Any]]]] = [
        ("freeze", called("freeze_session", session_id="s", request_id=REQUEST, version=2)),
        ("summarize", called("summarize", request_id=REQUEST)),
        ("keys", called("read_keys", request_id=REQUEST)),
        ("cells", called("list_cells", request_id=REQUEST, commit_id=None, ended_at=None, from_key="")),
        ("changes", called("read_changes", request_id=REQUEST, keys=KEYS)),
        ("conflicts", called("read_conflicts", request_id=REQUEST, groups=GROUPS, fields=FIELDS, keys=None)),
        ("resolve", called("resolve_changes", request_id=REQUEST, resolutions=json_of(RESOLVED), groups=GROUPS,
                           unwritable=[])),
        ("give back", called("give_back", request_id=REQUEST, cells=json_of(CELLS), session=None, version=3,
                             groups=GROUPS)),
        ("merge", called("merge_changes", request_id=REQUEST, groups=GROUPS, fields=FIELDS, commit_id=COMMIT,
                         unruled_fields=[], upstream_only=list(PFA.upstream_only), initial=json_of(PFA.initial),
                         force=False)),
        ("pushes", called("count_pushes", commit_id=COMMIT)),
        ("reverted", called("find_reverted", commit_id=COMMIT)),
        ("revert", called("revert_changes", commit_id=COMMIT, request_id=UNDO, version=4, groups=GROUPS, fields=FIELDS,
                          reason="Back")),
        ("give all back", called("give_back", request_id=UNDO, cells=None, session="s", version=5, groups=GROUPS)),
    ]  # fmt: skip
    for name, (item, arguments) in steps:
        if name == "conflicts":
            await cold.execute(THEIRS)
        if name == "reverted":
            await cold.execute("UPDATE pfa.change SET state = 'synced', settled_at = now() WHERE state = 'committed'")
            await cold.execute(HISTORY, COMMIT)
            await cold.execute(MERGED, COMMIT)
        if warm:
            await cold.execute("VACUUM ANALYZE pfa.change, pfa.mirror, pfa.modification, pfa.history")
        before = await entries(cold)
        await cold.execute("DISCARD PLANS")
        text = qualified(item, PFA).text.rstrip().removesuffix(";")
        plan = await cold.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
        nodes = list(nodes_of(json.loads(plan)[0]["Plan"]))
        seen = {node["Node Type"]: rows_of(node) for node in sorted(nodes, key=rows_of)}
        assert max(seen.values()) >= MANY // 2, f"{name} has nothing to do"
        assert max(seen.values()) <= 20 * MANY, f"{name}: {seen}"
        read = {table: count - before[table] for table, count in (await entries(cold)).items()}
        assert max(read.values()) <= 20 * MANY, f"{name}: {read}"


async def test_a_list_a_timeline_and_what_is_remembered_read_a_page(cold: "asyncpg.Connection[Any]") -> None:
    """Of a thousand requests, events and resolutions."""
    await cold.execute(
        "INSERT INTO change_request (organization_id, id, dataset, session_id, author, title, content, validation,"
        "                            summary, base_revision, created_at, updated_at)"
        " SELECT 'acme', md5(n::text)::uuid, 'pfa', 's' || n, 'ann', 't', 'c', '{}', '{}', 1, $1::timestamptz"
        "        - n * interval '1 minute', $1 FROM generate_series(1, 1000) AS n",
        AT,
    )
    await cold.execute(
        "INSERT INTO request_event (organization_id, request_id, kind, iteration, actor, at)"
        " SELECT 'acme', md5('1')::uuid, 'commented', 1, 'ann', $1 FROM generate_series(1, 1000)",
        AT,
    )
    await cold.execute(
        "INSERT INTO resolution (organization_id, id, dataset, row_key, field, base, theirs, mine, use, actor, at)"
        " SELECT 'acme', md5(n::text)::uuid, 'pfa', 'P' || n, 'model', '1', '2', '3', 'mine', 'ann', $1"
        "   FROM generate_series(1, 1000) AS n",
        AT,
    )
    await cold.execute("VACUUM ANALYZE change_request, request_event, resolution")
    first = await cold.fetchval("SELECT md5('1')::uuid")
    conflicts = json_of([{"id": "P7", "field": "model", "base": 1, "theirs": 2, "mine": 3}])
    for name, (item, arguments), index in (
        ("list", called("list_requests", all=True, status=None, after=AT - timedelta(minutes=9), after_id=first,
                        limit=10), "change_request_newest"),
        ("timeline", called("list_events", request_id=first, kind=None, after=None, limit=10), "request_event_pkey"),
        ("remembered", called("list_resolutions", after=None, limit=10), "resolution_pkey"),
        ("find", called("find_resolutions", conflicts=conflicts), "resolution_row"),
    ):  # fmt: skip
        text = qualified(item, PFA).text.rstrip().removesuffix(";")
        plan = await cold.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
        nodes = list(nodes_of(json.loads(plan)[0]["Plan"]))
        assert index in {node.get("Index Name") for node in nodes}, name
        assert max(map(rows_of, nodes)) <= 100, name
