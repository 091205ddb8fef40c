"""The plans of questions over 100,000 lines and 10,000 drafts: rows touched and indexes used, not time."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.base.statements import Statement, statement
from app.contracts import PFA
from app.contracts.filters import BOUNDS
from app.contracts.states import DatasetState
from app.engine.query.catalogue import AcceptedJoin, Catalogue, Queryable
from app.engine.query.composing import Asker, compose
from app.engine.query.model import Query, QueryAggregate, QueryJoin
from app.engine.query.reading import read_query
from tests.test_plans import DRAFTS, LINES, _nodes, filled, literal, plan_url, touched

__all__ = ["filled", "plan_url"]

pytestmark = pytest.mark.slow("plans over 100,000 lines, which take long to make: over a few, all plans are good")

BEGIN = statement("query_previews/begin_query")
CATALOGUE = Catalogue(
    datasets={"pfa": Queryable(contract=PFA, state=DatasetState.ACTIVE, major=1)},
    joins=(
        AcceptedJoin(
            id="j", version=1, child="pfa", child_fields=("contract",), parent="pfa", parent_fields=("pfaId",),
            confidence=1.0, accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
        ),
    ),
)  # fmt: skip
ALL = LINES + 2000  # those of another organization lie in the same relation
SUM = QueryAggregate(name="rate", function="sum", field="monthlyRate")
# A question, and how many rows its plan may touch for a user without drafts, and for one with DRAFTS.
QUESTIONS = {
    "all lines by a dimension": (
        Query(dataset="pfa", group_by=("category",), aggregates=(SUM,)), ALL, ALL + 3 * DRAFTS
    ),
    "lines of one day": (
        Query(dataset="pfa", fields=("id",), filters={"forecastStart": "2025-03-01"}), 200, 2 * DRAFTS
    ),
    "a line by its id": (Query(dataset="pfa", filters={"id": "P0000777"}), 10, 10),
    "each line with the one that it belongs to": (
        Query(
            dataset="pfa", joins=(QueryJoin(dataset="pfa", alias="of"),), group_by=("of.category",), aggregates=(SUM,)
        ),
        2 * ALL,
        2 * (ALL + 3 * DRAFTS),
    ),
}  # fmt: skip


@pytest.fixture
async def connection(filled: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """One that is prepared for a question."""
    connection = await asyncpg.connect(filled)
    async with connection.transaction(readonly=True):
        await connection.fetch(BEGIN.text, 60.0, 64, 1024, 60.0)
        # Which worker has read which row is told, and adds up: here one reads all.
        await connection.execute("SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off")
        yield connection
    await connection.close()


async def plan(connection: "asyncpg.Connection[Any]", text: str, *arguments: Any) -> list[dict[str, Any]]:
    await connection.execute(f"PREPARE explained AS {text}")
    given = f"({', '.join(map(literal, arguments))})"
    found = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained {given}")
    await connection.execute("DEALLOCATE explained")
    return list(_nodes(json.loads(found)[0]["Plan"]))


def read_by(nodes: list[dict[str, Any]]) -> float:
    """Rows that were read of relations."""
    return sum(touched(node) for node in nodes if "Scan" in node["Node Type"] and "Plans" not in node)


@pytest.mark.parametrize("title", QUESTIONS)
async def test_a_question_reads_each_row_once(connection: "asyncpg.Connection[Any]", title: str) -> None:
    query, of_nobody, of_mover = QUESTIONS[title]
    question = read_query(query, CATALOGUE, BOUNDS, 100_000)
    for user, most in (("nobody", of_nobody), ("mover", of_mover)):
        composed = compose(question, Asker("acme", user))
        nodes = await plan(connection, composed.text, *composed.arguments)
        assert read_by(nodes) <= most, (user, read_by(nodes), most)


KEPT = """
INSERT INTO query_execution (organization_id, id, user_id, preview_id, query, digest, format, joins, cost,
                             estimated_rows, at, outcome, seconds, rows)
SELECT o, gen_random_uuid(), 'u' || i % 100, gen_random_uuid(), '{}', '', 'json', '{}', 10, 1,
       now() - i * interval '1 minute', 'complete', 0.1, 1
  FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN generate_series(1, 10000) AS i;
INSERT INTO query_preview
SELECT o, gen_random_uuid(), 'u' || i % 100, '{}', NULL, '', now(), now() + (i % 30 - 15) * interval '1 minute'
  FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN generate_series(1, 10000) AS i;
ANALYZE query_execution, query_preview;
"""
NOW = datetime(2026, 3, 1, tzinfo=UTC)
STATEMENTS: dict[str, tuple[Statement, tuple[Any, ...], int]] = {
    "one's own executions": (
        statement("query_previews/list_executions"),
        ("acme", "u1", None, None, 51, None, None),
        60,
    ),
    "everybody's": (statement("query_previews/list_executions"), ("acme", None, None, None, 51, None, None), 60),
    "the pace": (statement("query_previews/read_pace"), ("acme",), 60),
    "previews of nobody's use": (statement("query_previews/forget_previews"), ("acme", "u1", NOW), 250),
}


@pytest.mark.parametrize("title", STATEMENTS)
async def test_what_is_kept_is_found_by_an_index(filled: str, title: str) -> None:
    statement, arguments, most = STATEMENTS[title]
    connection = await asyncpg.connect(filled)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(KEPT)
    nodes = await plan(connection, statement.text, *arguments)
    await transaction.rollback()
    await connection.close()
    assert read_by(nodes) <= most, read_by(nodes)
