"""Plans where PostgreSQL knows nothing yet: in a database that was just made, and where all drafts are gone again.

There every index costs the same, and the planner expects one row wherever there may be ten thousand.
"""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.base import exact_json
from app.base.database import PLANNING
from app.base.statements import Statement
from app.commits import APPLY_CHANGES, FREEZE_DRAFTS, READ_VERSIONS, RESOLVE_DRAFTS, TAKE_BASES
from app.contracts import PFA
from app.contracts.images import qualified
from app.drafts import READ_SAVED, SAVE_DRAFTS
from app.engine.modifications import FOLD_PENDING, IMAGE_MODIFICATIONS, SWEEP_EMPTY, TAKE_BACK
from tests.support.world import line

MANY = 1_000
KEYS = [f"P{n:05}" for n in range(MANY)]
AT = datetime(2026, 3, 1, tzinfo=UTC)
COMMIT, AGAIN = uuid.UUID(int=1), uuid.UUID(int=2)
NEW_ROWS: tuple[Any, ...] = (list(PFA.upstream_only), exact_json.encode(PFA.initial).decode())
BASES = [{"id": key, "base": {"monthlyRate": 1000}} for key in KEYS]
GROUPS = exact_json.encode(PFA.cell_map).decode()
DRAFTS = [{"id": key, "op": "update", "delta": {"monthlyRate": n, "model": "new"}} for n, key in enumerate(KEYS)]
RESOLVED: list[dict[str, Any]] = [
    {"id": key, "whole": None, "mine": [], "theirs": ["model"], "value": {}} for key in KEYS
]

# In the order in which a user would cause them: each leaves behind what the next one works on.
STEPS: dict[str, tuple[Statement, list[Any]]] = {
    "save": (
        SAVE_DRAFTS,
        ["acme", "ann", 1, exact_json.encode(DRAFTS).decode(), GROUPS, AT, None, "{}", None, None, False, "pfa"],
    ),
    "image drafts": (IMAGE_MODIFICATIONS, ["acme", None, KEYS, GROUPS, None]),
    "take bases": (TAKE_BASES, ["acme", "ann", exact_json.encode(BASES).decode(), GROUPS]),
    "read versions": (READ_VERSIONS, ["acme", "ann", KEYS]),
    "read saved": (READ_SAVED, ["acme", "ann", KEYS]),
    "resolve": (RESOLVE_DRAFTS, ["acme", "ann", exact_json.encode(RESOLVED).decode(), GROUPS, 2, AT]),
    "freeze": (FREEZE_DRAFTS, ["acme", "ann", 3, KEYS, GROUPS, COMMIT, None, AT, [], *NEW_ROWS, False, "pfa"]),
    "fold": (FOLD_PENDING, ["acme", KEYS, None]),
    "image what is pending": (IMAGE_MODIFICATIONS, ["acme", "ann", KEYS, GROUPS, None]),
    "take back": (TAKE_BACK, ["acme", "ann", KEYS, AT]),
    "fold what was taken back": (FOLD_PENDING, ["acme", KEYS, "ann"]),
    "freeze again": (FREEZE_DRAFTS, ["acme", "ann", 4, KEYS, GROUPS, AGAIN, None, AT, [], *NEW_ROWS, False, "pfa"]),
    "apply": (APPLY_CHANGES, ["acme", AGAIN, 2, "pfaId", "commit", AT]),
    "fold what ended": (FOLD_PENDING, ["acme", KEYS, None]),
    "image what ended": (IMAGE_MODIFICATIONS, ["acme", None, KEYS, GROUPS, 2]),
    "sweep": (SWEEP_EMPTY, ["acme", None, KEYS, "pfa", ["ann"]]),
}
REFUSE = "UPDATE pfa.change SET state = 'conflict', settled_at = now() WHERE organization_id = 'acme'"
# A lookup of a modification by its row's key, or of the mirror's row, reads an index that begins with what it knows.
GOOD = {"modification_pkey", "modification_everybody", "mirror_pkey"}


@pytest.fixture
async def cold(database_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection as the application has it, with lines in the mirror and nothing else, and no statistics."""
    opened = await asyncpg.connect(database_url, server_settings=dict(PLANNING))
    await opened.execute("ALTER TABLE pfa.modification SET (autovacuum_enabled = off)")
    await opened.execute("INSERT INTO organization VALUES ('acme', 'acme')")
    await opened.execute("INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0')")
    documents = [exact_json.encode(line(pfaId=key)).decode() for key in KEYS]
    await opened.execute(
        "INSERT INTO pfa.mirror (organization_id, row_key, data, revision)"
        " SELECT 'acme', key, document::jsonb, 1 FROM unnest($1::text[], $2::text[]) AS d (key, document)",
        KEYS, documents,
    )  # fmt: skip
    yield opened
    await opened.close()


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's nodes, however deep."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def rows_of(node: dict[str, Any]) -> float:
    """Rows that a node has seen, over all its loops."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


async def test_writers_see_each_row_a_few_times(cold: "asyncpg.Connection[Any]") -> None:
    """Given a thousand drafts in tables without statistics, when they are saved, resolved, committed and taken back,
    then no step of a plan sees many times as many rows, and single rows are found by keys.
    """
    for name, (item, arguments) in STEPS.items():
        if name == "take back":
            await cold.execute(REFUSE)
        before = await entries(cold)
        # Everything is planned anew, as what there is now looks.
        await cold.execute("DISCARD PLANS")
        text = await cold.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {qualified(item, PFA).text.rstrip().removesuffix(';')}", *arguments
        )
        nodes = list(nodes_of(json.loads(text)[0]["Plan"]))
        seen = {node["Node Type"]: rows_of(node) for node in sorted(nodes, key=rows_of)}
        assert max(seen.values()) >= MANY, f"{name} has nothing to do"
        assert max(seen.values()) <= 20 * MANY, f"{name}: {seen}"
        lookups = [
            node["Index Name"]
            for node in nodes
            if node["Node Type"] in ("Index Scan", "Index Only Scan") and node["Actual Loops"] >= MANY
            and node["Index Name"].startswith(("mirror", "modification"))
        ]  # fmt: skip
        assert set(lookups) <= GOOD, name
        # What functions read is in no plan.
        read = {table: count - before[table] for table, count in (await entries(cold)).items()}
        assert max(read.values()) <= 20 * MANY, f"{name}: {read}"


async def test_a_commit_writes_no_index_of_its_drafts(cold: "asyncpg.Connection[Any]") -> None:
    """Given drafts that were just saved, when they are committed to the outbox, each is written once more, beside what
    it was (a heap-only tuple).
    """
    for name in ("save", "freeze"):
        item, arguments = STEPS[name]
        await cold.execute("SELECT pg_stat_force_next_flush()")
        before = await counted(cold)
        await cold.fetch(qualified(item, PFA).text, *arguments)
        await cold.execute("SELECT pg_stat_force_next_flush()")
    after = await counted(cold)
    assert after["n_tup_upd"] - before["n_tup_upd"] == MANY
    assert after["n_tup_hot_upd"] - before["n_tup_hot_upd"] >= 0.95 * MANY


async def test_what_others_have_in_the_outbox_is_not_read_row_by_row(cold: "asyncpg.Connection[Any]") -> None:
    """Given changes of many commits and no statistics of them, when five drafts are imaged, no change but those of
    their rows is read.
    """
    item, arguments = STEPS["save"]
    await cold.fetch(qualified(item, PFA).text, *arguments)
    freeze = qualified(FREEZE_DRAFTS, PFA).text
    few = KEYS[:5]
    for start in range(5, 305, 5):
        keys, commit_id = KEYS[start : start + 5], uuid.UUID(int=start)
        await cold.fetch(freeze, "acme", "ann", 4, keys, GROUPS, commit_id, None, AT, [], *NEW_ROWS, False, "pfa")
    await cold.execute("DISCARD PLANS")
    before = await entries(cold)
    await cold.fetch(qualified(IMAGE_MODIFICATIONS, PFA).text, "acme", "ann", few, GROUPS, None)
    await cold.fetch(freeze, "acme", "ann", 5, few, GROUPS, COMMIT, None, AT, [], *NEW_ROWS, False, "pfa")
    await cold.fetch(qualified(IMAGE_MODIFICATIONS, PFA).text, "acme", "ann", few, GROUPS, None)
    read = {table: count - before[table] for table, count in (await entries(cold)).items()}
    assert read["change"] <= 20 * len(few), read


async def entries(connection: "asyncpg.Connection[Any]") -> dict[str, int]:
    """How many entries of the indexes of each table were read so far."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    rows = await connection.fetch(
        "SELECT relname, sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = 'pfa' GROUP BY relname"
    )
    return {str(name): int(count) for name, count in rows}


async def counted(connection: "asyncpg.Connection[Any]") -> dict[str, int]:
    """How many modifications were written again, and how many of them without their indexes."""
    row = await connection.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'pfa.modification'::regclass"
    )
    assert row is not None
    return dict(row)
