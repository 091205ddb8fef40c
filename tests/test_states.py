"""The states of a change: SQL, its indexes, the wire and docs/merging.md say what app/contracts/states.py says."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import asyncpg
import pytest

from app import failures
from app.base.statements import STATEMENTS
from app.contracts.filters import SYNC_STATES
from app.contracts.states import (
    ENDED,
    OUTBOX,
    REFUSED,
    SETTLED,
    TRANSITIONS,
    UNFINISHED,
    WAYS,
    ChangeState,
    JoinState,
    ReportState,
    RequestState,
    SessionState,
    ValidationState,
)
from app.worker.settle import Outcome
from tests.conftest import new_database

Connection = asyncpg.Connection

ROOT = Path(__file__).parents[1]
SCHEMAS = ("pfa", "fleet")
SETS = {"unfinished": UNFINISHED, "outbox": OUTBOX, "refused": REFUSED, "ended": ENDED}
INDEXES = {
    "change_unfinished": UNFINISHED,
    "change_outbox": OUTBOX,
    "change_sent": OUTBOX,
    "change_failed": REFUSED,
    "change_settled": SETTLED,
}
# The statements that move a change: what they make of it. What they expect is read out of them.
MOVES: dict[str, frozenset[str]] = {
    "worker/claim_changes": frozenset({"syncing"}),
    "worker/settle_changes": frozenset(get_args(get_type_hints(Outcome)["state"])),
    "commits/apply_changes": frozenset({"synced"}),
    "failures/retry_changes": frozenset({"committed"}),
    "modifications/take_back": frozenset({"rejected"}),
    "discards/discard_changes": frozenset({"discarded"}),
    "change_requests/merge_changes": frozenset({"committed", "synced"}),
    "change_requests/give_back": frozenset({"rejected"}),
    "change_requests/resolve_changes": frozenset({"rejected"}),
}
# Those that make changes, and in which state.
FIRST = {
    "commits/freeze_drafts": "committed",
    "change_requests/freeze_session": "in_review",
    "change_requests/revert_changes": "in_review",
}
MOVABLE = {name: item for name, item in STATEMENTS.items() if not name.startswith("schema/")}
UPDATED = re.compile(r"UPDATE pfa\.change AS c\s+SET (.*?)\s(?:FROM|WHERE)\s", re.DOTALL)
SET_STATE = re.compile(r"\bstate = ('\w+'|o\.state|CASE .*? END)")
EXPECTED = re.compile(r"\bc\.state (?:= '(\w+)'|IN \(([^)]*)\)|= ANY \(vanguard\.(\w+)\(\)\))")


@pytest.fixture(scope="module")
def states_url(server_url: str, template: str) -> Iterator[str]:
    """One database for the whole file, as `vanguard migrate` makes it."""
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture
async def connection(states_url: str) -> AsyncIterator["Connection[Any]"]:
    connection = await asyncpg.connect(states_url)
    yield connection
    await connection.close()


def states_in(text: str) -> frozenset[str]:
    """The states that a piece of SQL lists."""
    return frozenset(re.findall(r"'(\w+)'", text)) & frozenset(ChangeState)


def expected_by(name: str) -> frozenset[str]:
    """The states that a statement takes a change from."""
    found = EXPECTED.findall(STATEMENTS[name].text)
    return frozenset[str]().union(
        *({one} if one else SETS[word] if word else states_in(some) for one, some, word in found)
    )


def pairs() -> set[tuple[str, str]]:
    """Every way from state to state that a statement has."""
    return {(was, now) for name, made in MOVES.items() for was in expected_by(name) for now in made}


def test_the_sets_make_up_all_states() -> None:
    assert OUTBOX | REFUSED < UNFINISHED
    assert not OUTBOX & REFUSED
    assert set(ChangeState) == UNFINISHED | ENDED
    assert not UNFINISHED & ENDED
    assert {state for state, following in TRANSITIONS.items() if not following} == ENDED
    assert TRANSITIONS.keys() == set(ChangeState)


@pytest.mark.parametrize("name", SETS)
async def test_a_function_of_sql_lists_the_states_of_its_name(connection: "Connection[Any]", name: str) -> None:
    await connection.execute("SET ROLE vanguard_app")
    listed = await connection.fetchval(f"SELECT vanguard.{name}()")
    assert sorted(listed) == sorted(SETS[name])


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_the_tables_take_these_states_and_no_others(connection: "Connection[Any]", schema: str) -> None:
    check = """
    SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::text::regclass AND conname = $2
    """
    assert states_in(await connection.fetchval(check, f"{schema}.change", "change_state_check")) == set(ChangeState)
    pending = await connection.fetchval(check, f"{schema}.modification", "modification_pending_state_check")
    assert states_in(pending) == UNFINISHED


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_a_partial_index_holds_the_states_of_a_set(connection: "Connection[Any]", schema: str) -> None:
    found = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_expr(indpred, indrelid) AS predicate FROM pg_index"
        " WHERE indrelid = $1::text::regclass AND indpred IS NOT NULL",
        f"{schema}.change",
    )
    listed = {row["name"].split(".")[1]: states_in(row["predicate"]) for row in found}
    assert {name: states for name, states in listed.items() if states} == INDEXES


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("c.row_key = $2 AND c.state = ANY (vanguard.unfinished())", "change_unfinished"),
        ("c.id > $2::text::bigint AND c.state = ANY (vanguard.outbox())", "change_outbox"),
        ("c.id > $2::text::bigint AND c.state = ANY (vanguard.refused())", "change_failed"),
        ("c.settled_at < $2::text::timestamptz AND c.state = ANY (vanguard.ended())", "change_settled"),
    ],
)
async def test_a_set_of_states_finds_its_index_in_a_generic_plan(
    connection: "Connection[Any]", condition: str, index: str
) -> None:
    """The planner sees the states themselves, whatever the parameters are."""
    await connection.execute("BEGIN; SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan")
    await connection.execute(
        "INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, settled_at)"
        " SELECT 'acme', 'R' || i, 'ann', 'update', '{}', '{}', s.state, CASE WHEN s.settled THEN now() END"
        "   FROM generate_series(1, 1000) AS i"
        "  CROSS JOIN LATERAL (SELECT CASE i % 50 WHEN 1 THEN 'committed' WHEN 2 THEN 'conflict' ELSE 'synced' END,"
        "                             i % 50 <> 1) AS s (state, settled)"
    )
    await connection.execute("ANALYZE pfa.change")
    await connection.execute(
        f"PREPARE found AS SELECT FROM pfa.change AS c WHERE c.organization_id = $1 AND {condition}"
    )
    plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN EXECUTE found ('acme', NULL)"))
    await connection.execute("ROLLBACK")
    assert index in plan
    assert "vanguard." not in plan


# A change of each state as it has to be, and what may not be true of it.
COMMITTED = {"state": "committed"}
SYNCING = {"state": "syncing", "claim_id": "gen_random_uuid()", "lease_until": "now()"}
SYNCED = {"state": "synced", "settled_at": "now()"}
REFUSED_ONE = {"state": "conflict", "settled_at": "now()"}


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        *[({"state": state, "settled_at": "now()"}, {"settled_at": "NULL"}, "settled_at") for state in sorted(SETTLED)],
        *[({"state": state}, {"settled_at": "now()"}, "settled_at") for state in ("in_review", "committed")],
        (SYNCING, {"settled_at": "now()"}, "settled_at"),
        (SYNCING, {"claim_id": "NULL"}, "claim"),
        (SYNCING, {"lease_until": "NULL"}, "claim"),
        (COMMITTED, {"claim_id": "gen_random_uuid()"}, "claim"),
        (COMMITTED, {"lease_until": "now()"}, "claim"),
        (SYNCING, {"next_attempt_at": "now()"}, "next_attempt_at"),
        (COMMITTED | {"next_attempt_at": "now()"}, SYNCED | {"next_attempt_at": "now()"}, "next_attempt_at"),
        (COMMITTED, {"attempts": "-1"}, "attempts"),
        (COMMITTED | {"op": "insert", "sent_at": "now()"}, {"op": "update"}, "sent_at"),
        (SYNCED | {"op": "insert", "temporary_key": "'T'"}, REFUSED_ONE, "temporary_key"),
        (SYNCED | {"op": "insert", "temporary_key": "'T'"}, {"op": "update"}, "temporary_key"),
    ],
)
async def test_a_change_keeps_what_its_state_says(
    connection: "Connection[Any]", schema: str, right: dict[str, str], wrong: dict[str, str], check: str
) -> None:
    """Given a change as it has to be, when one of its columns says something else, a constraint refuses it."""

    async def add(given: dict[str, str]) -> None:
        values = {"row_key": "'A'", "user_id": "'ann'", "op": "update", "base": "'{}'", "delta": "'{}'"} | given
        for name in ("op", "state"):
            values[name] = f"'{values[name]}'"
        await connection.execute(
            f"INSERT INTO {schema}.change (organization_id, {', '.join(values)})"
            f" VALUES ('acme', {', '.join(values.values())})"
        )

    transaction = connection.transaction()
    await transaction.start()
    await add(right)
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await add(right | wrong)
    await transaction.rollback()
    assert refused.value.constraint_name == f"change_{check}_check"


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_settled_says_since_when_in_exactly_the_settled_states(
    connection: "Connection[Any]", schema: str
) -> None:
    found = await connection.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = $1::text::regclass AND conname = 'change_settled_at_check'",
        f"{schema}.change",
    )
    assert states_in(found) == SETTLED


def test_no_statement_lists_the_states_that_a_function_has() -> None:
    lists = re.compile(r"\bstate IN \(([^)]*)\)")
    repeated = [
        (name, listed)
        for name, item in MOVABLE.items()
        for listed in lists.findall(item.text)
        if states_in(listed) in SETS.values()
    ]
    assert repeated == []


def test_every_statement_that_moves_a_change_is_known_and_expects_a_state() -> None:
    """Given all of sql/, then whatever sets a state is here, makes what it is said to make, and looks before."""
    moving = {}
    for name, item in MOVABLE.items():
        made = [found for assigned in UPDATED.findall(item.text) for found in SET_STATE.findall(assigned)]
        if made:
            moving[name] = states_in(" ".join(made)) or MOVES[name]
            assert expected_by(name), name
    assert moving == MOVES


def test_the_statements_and_the_table_of_transitions_say_the_same() -> None:
    assert pairs() == {(was, now) for was, following in TRANSITIONS.items() for now in following}


def test_a_change_begins_committed_or_in_review() -> None:
    values = re.compile(r"INSERT INTO pfa\.change .*?FROM", re.DOTALL)
    made = {name: states_in(" ".join(values.findall(item.text))) for name, item in STATEMENTS.items()}
    assert {name: states for name, states in made.items() if states} == {name: {state} for name, state in FIRST.items()}


def test_the_wire_has_the_same_words() -> None:
    assert set(SYNC_STATES) == UNFINISHED | {"pristine", "draft"}
    assert set(get_args(get_type_hints(failures.Failed)["state"])) == REFUSED
    assert MOVES["worker/settle_changes"] == TRANSITIONS[ChangeState.SYNCING] - {ChangeState.SYNCING}


def test_the_documented_transitions_are_those_of_the_statements() -> None:
    """docs/merging.md has a line for each statement: from which states, to which, who, and the file."""
    section = (
        (ROOT / "docs/merging.md").read_text(encoding="utf-8").partition("### Of a change")[2].partition("\n## ")[0]
    )
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "sql/" in line]
    words = re.compile(r"`(\w+)`")
    documented = {
        path: (frozenset(words.findall(was)), frozenset(words.findall(now)))
        for was, now, _, file in lines
        for path in re.findall(r"sql/(\w+/\w+)\.sql", file)
    }
    first = {name: (frozenset[str](), frozenset({state})) for name, state in FIRST.items()}
    assert documented == first | {name: (expected_by(name), made) for name, made in MOVES.items()}


# -- sessions, validation runs, change requests ------------------------------------------------------------------------

TABLES = {
    "session": ("edit_session", SessionState),
    "validation": ("validation_run", ValidationState),
    "request": ("change_request", RequestState),
    "drift": ("drift_report", ReportState),
    "join": ("dataset_join", JoinState),
}
SESSION = """
INSERT INTO edit_session (organization_id, id, dataset, user_id, mode, created_at, expires_at)
VALUES ('acme', 's', 'pfa', 'dora', 'full_table', now(), now())
"""
RUN = """
INSERT INTO validation_run (organization_id, id, dataset, session_id, contract_version)
VALUES ('acme', gen_random_uuid(), 'pfa', 's', '1.0')
"""
REQUEST = """
INSERT INTO change_request (organization_id, id, dataset, session_id, author, title, content, validation, summary,
                            base_revision, created_at, updated_at)
VALUES ('acme', gen_random_uuid(), 'pfa', 's', 'dora', 'Title', '', '{}', '{}', 1, now(), now())
"""
REPORT = """
INSERT INTO drift_report (organization_id, id, dataset, version, source, state, severity, backward, forward,
                          backward_all, forward_all, digest, at, seen_at)
VALUES ('acme', gen_random_uuid(), 'pfa', '1.0', 'pull', 'open', 'BREAKING', TRUE, TRUE, TRUE, TRUE, '', now(), now())
"""
JOIN = """
INSERT INTO dataset_join (organization_id, id, version, child, child_fields, parent, parent_fields, rationale,
                          confidence, statistics, accepted_by, accepted_at)
VALUES ('acme', gen_random_uuid(), 1, 'pfa', '{dor}', 'dors', '{id}', 'So', 1, '{}', 'dora', now())
"""
# What a request has that is merged, or closed.
MERGED = {"commit_id": "gen_random_uuid()", "merged_at": "now()", "merged_by": "'dora'", "result": "'{}'"}


async def test_the_database_holds_the_same_ways_as_the_code(connection: "Connection[Any]") -> None:
    found = await connection.fetch("SELECT machine, from_state, to_state FROM state_transition")
    assert {tuple(row) for row in found} == WAYS


@pytest.mark.parametrize("machine", TABLES)
async def test_the_database_lists_the_states(connection: "Connection[Any]", machine: str) -> None:
    table, states = TABLES[machine]
    check = await connection.fetchval(
        f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{table}_state_check'"
    )
    assert set(re.findall(r"'(\w+)'", check)) == set(states)


@pytest.mark.parametrize("machine", TABLES)
async def test_the_database_refuses_every_way_that_the_table_does_not_have(
    connection: "Connection[Any]", machine: str
) -> None:
    """From each state to each other, with nothing but an UPDATE: exactly the ways of the table pass."""
    table, states = TABLES[machine]
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO organization VALUES ('acme', 'Acme')")
    await connection.execute(
        "INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0')"
    )
    await connection.execute(SESSION)
    await connection.execute(RUN)
    await connection.execute(REQUEST)
    await connection.execute(REPORT)
    await connection.execute(JOIN)
    passed = set()
    for was in states:
        for now in set(states) - {was}:
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER hold_transition")
            await connection.execute(f"UPDATE {table} SET state = '{was}' {ended(machine, was)}")
            await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER hold_transition")
            refusal = await refused(connection, f"UPDATE {table} SET state = '{now}' {ended(machine, now)}")
            if refusal is None:
                passed.add((machine, str(was), str(now)))
            else:
                assert refusal.constraint_name == f"{table}_transition"
    await transaction.rollback()
    assert passed == {way for way in WAYS if way[0] == machine}


async def refused(connection: "Connection[Any]", statement: str) -> asyncpg.CheckViolationError | None:
    """What a CHECK or a trigger says to the statement, which is undone."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute(statement)
    except asyncpg.CheckViolationError as refusal:
        return refusal
    finally:
        await savepoint.rollback()
    return None


def ended(machine: str, state: str) -> str:
    """A session that is over says since when, and so does a join; a request that is merged, by whom and as what."""
    given = {}
    if machine == "session":
        given["ended_at"] = "now()" if state in ("aborted", "expired") else "NULL"
    if machine == "request":
        given = {name: value if state in ("merged", "closed") else "NULL" for name, value in MERGED.items()}
        given["closed_at"] = "now()" if state == "closed" else "NULL"
    if machine == "join":
        given["deprecated_at"] = "now()" if state == "deprecated" else "NULL"
    return "".join(f", {name} = {value}" for name, value in given.items())
