"""The plans of the feed, on 100,000 entries and 1,000 workspaces: indexes used and rows touched, not time."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.base.statements import Statement, statement
from app.engine.tailer import BATCH, READ_EVENTS
from app.feed.reader import SEEN, SEEN_OF_DATASET
from tests.conftest import new_database
from tests.test_plans import PLANNED, nodes_of, on, touched

MANY = 100_000
PEOPLE = 1_000
PAGE = 100
AT = datetime(2026, 3, 1, tzinfo=UTC)

# Two organizations. Of ten entries one is of the other dataset, and one is somebody's own; a thousand people draft in
# both datasets, and have logged out once.
FILL = f"""
INSERT INTO organization SELECT name, name FROM unnest(ARRAY['acme', 'other']) AS name;
INSERT INTO organization SELECT 'o' || i, 'o' || i FROM generate_series(1, 200) AS i;
INSERT INTO feed_counter SELECT id, CASE WHEN id IN ('acme', 'other') THEN {MANY} ELSE 0 END FROM organization;
INSERT INTO account (id, email, name)
SELECT 'u' || i, 'u' || i || '@x.example', 'U' FROM generate_series(1, {PEOPLE}) AS i;
INSERT INTO membership SELECT o, 'u' || i, 'ANALYST'
  FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN generate_series(1, {PEOPLE}) AS i;
INSERT INTO revoked_token SELECT 't' || i, now() + interval '1 day' FROM generate_series(1, {PEOPLE}) AS i;
INSERT INTO dataset (organization_id, name, contract_version)
SELECT o, d, '1.0' FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN unnest(ARRAY['pfa', 'fleet']) AS d;
INSERT INTO workspace (organization_id, dataset, user_id, revision)
SELECT o, d, 'u' || i, i
  FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN unnest(ARRAY['pfa', 'fleet']) AS d
 CROSS JOIN generate_series(1, {PEOPLE}) AS i;
INSERT INTO feed (organization_id, number, at, type, dataset, revision, actor, row_count, keys, audience)
SELECT o, i, timestamptz '2026-01-01Z' + i * interval '1 minute', 'commit',
       CASE WHEN i % 10 = 0 THEN 'fleet' ELSE 'pfa' END, i, 'u' || i % {PEOPLE} + 1, 3, ARRAY['A', 'B', 'C'],
       CASE WHEN i % 10 = 1 THEN ARRAY['u' || i % 7] END
  FROM unnest(ARRAY['acme', 'other']) AS o CROSS JOIN generate_series(1, {MANY}) AS i;
"""

pytestmark = pytest.mark.slow("plans over 100,000 entries, which take long to make: over a few, all plans are good")


@pytest.fixture(scope="module")
def url(server_url: str, template: str) -> Iterator[str]:
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def filled(url: str) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute(FILL)
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


async def plan_of(connection: "asyncpg.Connection[Any]", wanted: Statement, **given: Any) -> list[dict[str, Any]]:
    """All nodes of the statement's generic plan, run."""
    return await nodes_of(connection, wanted.text, wanted.bind({"organization": "acme", **given}))


@pytest.mark.parametrize("after", [0, MANY // 2, MANY - 5])
async def test_the_tailer_reads_what_is_new_and_nothing_else(planner: "asyncpg.Connection[Any]", after: int) -> None:
    nodes = await plan_of(planner, READ_EVENTS, after=after, limit=BATCH)
    assert read(nodes, "feed") == min(BATCH, MANY - after)
    assert {node["Index Name"] for node in on(nodes, "feed")} == {"feed_pkey"}
    assert read(nodes, "account") <= BATCH


@pytest.mark.parametrize("after", [0, MANY // 2, MANY - 5])
async def test_a_page_of_a_reader_touches_a_page(planner: "asyncpg.Connection[Any]", after: int) -> None:
    """And what it passes over, since that is somebody else's."""
    nodes = await nodes_of(planner, SEEN.text, ["acme", after, PAGE, "u1", False, False])
    assert read(nodes, "feed") <= PAGE * 1.3
    assert {node["Index Name"] for node in on(nodes, "feed")} == {"feed_pkey"}
    assert read(nodes, "account") <= PAGE
    nodes = await nodes_of(planner, SEEN_OF_DATASET.text, ["acme", after, PAGE, "u1", False, False, "fleet"])
    assert read(nodes, "feed") <= PAGE * 1.3
    assert {node["Index Name"] for node in on(nodes, "feed")} == {"feed_of_dataset"}


async def test_a_look_at_the_counters_touches_them_alone(planner: "asyncpg.Connection[Any]") -> None:
    organizations = ["acme", "other", *(f"o{each}" for each in range(1, 49))]
    wanted = statement("feed/read_heads")
    nodes = await nodes_of(planner, wanted.text, wanted.bind({"organizations": organizations}))
    assert read(nodes, "feed_counter") <= 50
    assert on(nodes, "feed") == []


async def test_a_position_is_read_from_a_few_rows(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await plan_of(planner, statement("feed/read_position"), user="u500")
    assert {name: read(nodes, name) for name in ("feed_counter", "feed", "workspace")} == {
        "feed_counter": 1,
        "feed": 1,
        "workspace": 2,
    }


async def test_the_rows_of_an_event_are_one_entry(planner: "asyncpg.Connection[Any]") -> None:
    given = {"dataset": "pfa", "number": MANY // 2 + 1, "offset": 0, "limit": PAGE, "epoch": 0}
    nodes = await plan_of(planner, statement("feed/read_keys"), **given)
    assert read(nodes, "feed") == 1


async def test_the_heads_of_all_organizations_are_an_entry_each(planner: "asyncpg.Connection[Any]") -> None:
    nodes = await nodes_of(planner, statement("feed/list_heads").text, [None])
    # What a loop reads is an average, which releases before 18 round: half an entry to none.
    assert round(read(nodes, "feed")) == (2 if planner.get_server_version().major >= 18 else 0)


@pytest.mark.parametrize("listeners", [1, 100, PEOPLE])
async def test_the_listeners_own_workspaces_are_read_by_person(
    planner: "asyncpg.Connection[Any]", listeners: int
) -> None:
    users = [f"u{each}" for each in range(1, listeners + 1)]
    nodes = await plan_of(planner, statement("feed/read_workspaces"), users=users)
    assert read(nodes, "workspace") == 2 * listeners


@pytest.mark.parametrize("listeners", [1, 100, PEOPLE])
async def test_who_may_go_on_is_read_by_person(planner: "asyncpg.Connection[Any]", listeners: int) -> None:
    users = [f"u{each}" for each in range(1, listeners + 1)]
    tokens = [f"t{each * 3}" for each in range(listeners)]
    given = {"users": users, "token_ids": tokens, "session_ids": tokens, "subjects": users}
    nodes = await plan_of(planner, statement("auth/read_standings"), **given)
    assert read(nodes, "membership") == listeners
    assert read(nodes, "revoked_token") <= 2 * listeners
    assert read(nodes, "organization") == 2, "once for each of its columns"


async def test_an_entry_is_appended_by_primary_keys(planner: "asyncpg.Connection[Any]") -> None:
    """Whether it is about a change request, or about nothing of the kind."""
    absent = dict.fromkeys(("revision", "actor", "row_count", "keys", "renamed", "request_id", "session_id"))
    given = {"dataset": "pfa", "at": AT, "type": "pull", "details": "{}"} | absent
    for about in ({}, {"session_id": "s"}, {"request_id": "00000000-0000-0000-0000-000000000001"}):
        nodes = await plan_of(planner, statement("feed/append_event"), **given | about)
        assert read(nodes, "change_request") + read(nodes, "edit_session") == 0
        assert [node["Node Type"] for node in on(nodes, "feed")] == ["ModifyTable"]


async def test_what_is_old_is_forgotten_some_at_a_time(planner: "asyncpg.Connection[Any]") -> None:
    """By the function's own statement: what it touches is counted, since its plan is not told."""
    transaction = planner.transaction()
    await transaction.start()
    try:
        before = await planner.fetchval(
            "SELECT sum(idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname = 'feed'"
        )
        assert await planner.fetchval("SELECT forget_feed('acme', $1, 5000)", AT) == 5000
        after = await planner.fetchrow(
            "SELECT sum(idx_tup_fetch), sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname = 'feed'"
        )
        assert after is not None
        assert int(after[0] or 0) - int(before or 0) <= 10_000
        assert not after[1]
    finally:
        await transaction.rollback()
