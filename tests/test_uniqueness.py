"""Unique values: decided at the commit, among the mirror, everybody's changes in flight and the commit's own rows."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import msgspec
import psycopg
import pytest

from app.base import exact_json
from app.base.database import PLANNING
from app.contracts import Contract
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.contracts.images import qualified
from app.contracts.rules import unique_rules
from app.engine.desk import Desk
from app.engine.uniqueness import Cell, find_duplicates, find_duplicates_of
from app.migrate import migrate
from tests.conftest import new_database
from tests.support.moves import hold_moves
from tests.support.world import LAB, User, World, committed, instrument, open_world, refused

# The same tables behind an upstream that nobody connects: what is committed stays in the outbox.
REMOTE_LAB = msgspec.structs.replace(LAB, upstream="ledger")


@pytest.fixture(scope="module")
def lab_template(server_url: str) -> Iterator[str]:
    with new_database(server_url) as url:
        migrate(url, (LAB,))
        hold_moves(url, (LAB,))
        yield url


@pytest.fixture
def lab_url(server_url: str, lab_template: str) -> Iterator[str]:
    with new_database(server_url, lab_template) as url:
        yield url


@pytest.fixture(params=["local", "remote"])
def contract(request: pytest.FixtureRequest) -> Contract:
    """The laboratory without an upstream, and with one."""
    return {"local": LAB, "remote": REMOTE_LAB}[request.param]


@pytest.fixture
async def world(lab_url: str, contract: Contract) -> AsyncIterator[World]:
    async with open_world(lab_url, (contract,)) as world:
        await world.organization("acme", (contract,))
        yield world


@pytest.fixture
async def ann(world: World) -> User:
    return (await world.user("ann")).on("lab")


@pytest.fixture
async def bob(world: World) -> User:
    return (await world.user("bob")).on("lab")


async def fill(world: World, **rows: dict[str, Any]) -> None:
    """Instruments in the mirror."""
    await world.mirror({key: instrument(**fields) for key, fields in rows.items()}, contract=LAB)


async def taken(user: User, *keys: str, **more: Any) -> list[tuple[str, str, str, str]]:
    """(row, field, code, other row) of what a commit is refused for."""
    problem = refused(await user.commit(*keys, **more), 422, "VALIDATION_FAILED")
    for error in problem["errors"]:
        assert error["other"] in error["message"]
    return [(error["id"], error["field"], error["code"], error["other"]) for error in problem["errors"]]


async def test_a_value_that_another_row_has_is_refused_and_the_row_named(world: World, ann: User) -> None:
    await fill(world, A={"serial": "S1"}, B={"serial": "S2"}, C={})
    await ann.draft("B", {"serial": "S1"})
    await ann.draft("C", {"serial": "S3"})
    assert await taken(ann) == [("B", "serial", "NOT_UNIQUE", "A")]
    assert await taken(ann, dryRun=True) == [("B", "serial", "NOT_UNIQUE", "A")]
    assert [row["syncState"] for row in await ann.rows(sort="id")] == ["pristine", "draft", "draft"]
    await ann.draft("B", {"serial": "s1"})
    assert (await committed(ann))["committed"] == 2


@pytest.mark.parametrize("op", ["insert", "update"])
async def test_a_value_on_its_way_is_taken_too(world: World, ann: User, bob: User, op: str) -> None:
    await fill(world, A={}, B={"serial": "S2"})
    key = "A" if op == "update" else "N"
    await bob.draft(key, instrument(serial="S1"), op=op)
    await committed(bob)
    await ann.draft("B", {"serial": "S1"})
    assert await taken(ann) == [("B", "serial", "NOT_UNIQUE", key)]


@pytest.mark.parametrize("contract", ["remote"], indirect=True)
@pytest.mark.parametrize("state", ["conflict", "sync_error", "syncing"])
async def test_so_is_one_that_is_refused(world: World, ann: User, bob: User, state: str) -> None:
    await fill(world, A={}, B={})
    await bob.draft("A", {"serial": "S1"})
    await committed(bob)
    await set_state(world, state)
    await ann.draft("B", {"serial": "S1"})
    assert await taken(ann) == [("B", "serial", "NOT_UNIQUE", "A")]


@pytest.mark.parametrize("contract", ["remote"], indirect=True)
async def test_one_that_is_under_review_keeps_nobody_from_it(world: World, ann: User, bob: User) -> None:
    """Else whoever submits a value takes it from the others, approved or not. The second one that is merged loses."""
    await fill(world, A={}, B={})
    await bob.draft("A", {"serial": "S1"})
    await committed(bob)
    await set_state(world, "in_review")
    await ann.draft("B", {"serial": "S1"})
    await committed(ann)


async def set_state(world: World, state: str) -> None:
    """As a worker, or a change request, leaves changes."""
    settled, claim, lease = {
        "in_review": ("NULL", "NULL", "NULL"),
        "syncing": ("NULL", "gen_random_uuid()", "now()"),
    }.get(state, ("now()", "NULL", "NULL"))
    await world.db.execute(
        f"UPDATE lab.change SET state = '{state}', settled_at = {settled}, claim_id = {claim}, lease_until = {lease}"
    )
    await world.db.execute(f"UPDATE lab.modification SET pending_state = '{state}' WHERE pending_op IS NOT NULL")


@pytest.mark.parametrize("contract", ["remote"], indirect=True)
async def test_a_value_is_free_once_another_one_is_on_its_way_and_taken_again_when_that_is_refused(
    world: World, ann: User, bob: User
) -> None:
    """Given bob's new serial of A in the outbox, then nobody has the old one; and A has it while that is refused."""
    await fill(world, A={"serial": "S1"}, B={}, C={"serial": "S3"})
    await bob.draft("A", {"serial": "S2"})
    await bob.draft("C", op="delete")
    await committed(bob)
    await ann.draft("B", {"serial": "S1"})
    await committed(ann, dryRun=True)
    await ann.draft("B", {"serial": "S3"})
    await committed(ann, dryRun=True)
    await set_state(world, "sync_error")
    assert await taken(ann) == [("B", "serial", "NOT_UNIQUE", "C")]
    await ann.draft("B", {"serial": "S1"})
    assert await taken(ann) == [("B", "serial", "NOT_UNIQUE", "A")]
    await ann.draft("B", {"serial": "S2"})
    assert await taken(ann) == [("B", "serial", "NOT_UNIQUE", "A")]


async def test_rows_of_one_commit_count_as_they_will_be(world: World, ann: User) -> None:
    await fill(world, A={"serial": "S1"}, B={"serial": "S2"}, C={"serial": "S3"}, D={"serial": "S4"}, E={})
    # Two that exchange their serials, and what a deletion leaves free.
    await ann.draft("A", {"serial": "S2"})
    await ann.draft("B", {"serial": "S1"})
    await ann.draft("C", op="delete")
    await ann.draft("D", {"serial": "S3"})
    await ann.draft("E", {"serial": "S4"})
    assert (await committed(ann))["committed"] == 5


async def test_two_rows_of_one_commit_cannot_have_one_value(world: World, ann: User) -> None:
    await fill(world, A={}, B={})
    for key in "AB":
        await ann.draft(key, {"serial": "S1"})
    await ann.draft("N", instrument(serial="S1"), op="insert")
    found = await taken(ann)
    assert {row[0]: row[3] for row in found} == {"A": "B", "B": "A", "N": "A"}


async def test_null_is_never_taken(world: World, ann: User) -> None:
    await fill(world, A={"serial": None}, B={"serial": "S"}, C={})
    await ann.draft("B", {"serial": None, "slot": None, "dueOn": None})
    await committed(ann)


async def test_values_compare_as_the_type_of_the_field(world: World, ann: User) -> None:
    await fill(world, A={"slot": 1, "dueOn": "2026-01-01"}, B={}, C={})
    await ann.post("drafts", {"modifications": [{"id": "B", "delta": {"slot": exact_json.decode("1.00")}}]})
    await ann.draft("C", {"dueOn": "2026-01-01"})
    found = await taken(ann)
    assert found == [("B", "slot", "NOT_UNIQUE", "A"), ("C", "dueOn", "DAY_TAKEN", "A")]
    problem = refused(await ann.commit("C"), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["message"] == "One inspection a day. (row A)"


async def test_a_row_keeps_a_value_that_another_one_has_already(world: World, ann: User) -> None:
    """Upstream has its own mind; the rest of the row can be edited, and the value set to what it is."""
    await fill(world, A={"slot": 1}, B={"slot": exact_json.decode("1.0")})
    await ann.draft("A", {"room": "R2", "slot": exact_json.decode("1.00")})
    await committed(ann)


async def test_other_organizations_have_values_of_their_own(world: World, ann: User, contract: Contract) -> None:
    await world.organization("rival", (contract,))
    await world.mirror({"A": instrument(serial="S1")}, "rival", LAB)
    await fill(world, B={})
    await ann.draft("B", {"serial": "S1"})
    await committed(ann)


async def test_a_warning_is_told_and_does_not_block(world: World, ann: User) -> None:
    await fill(world, A={"seat": 1}, B={}, C={})
    await ann.draft("B", {"seat": 1, "rating": 11, "priority": 9})
    await ann.draft("C", {"room": "R2"})
    answer = await committed(ann)
    assert answer["committed"] == 2
    about = {"contractVersion": "2.1", "id": "B"}
    assert answer["warnings"] == [
        {
            "field": "rating",
            "severity": "WARNING",
            "code": "INVALID_RANGE",
            "message": "rating is at most 10.",
            "ruleId": "range:rating",
        }
        | about,
        {
            "field": "priority",
            "severity": "INFO",
            "code": "INVALID_ENUM_VALUE",
            "message": "priority is one of 1, 2, 3.",
            "ruleId": "allowed_values:priority",
        }
        | about,
        {
            "field": "seat",
            "severity": "WARNING",
            "code": "NOT_UNIQUE",
            "message": "Row A has this seat.",
            "ruleId": "unique:seat",
        }
        | about,
    ]
    await ann.draft("C", {"room": "R3"})
    assert "warnings" not in await committed(ann)


@pytest.mark.no_cover
@pytest.mark.parametrize("op", ["insert", "update"])
async def test_of_two_who_commit_one_value_at_once_exactly_one_wins(
    world: World, ann: User, bob: User, op: str
) -> None:
    """Given two users with one value each in rows of their own, when both commit while the table is held, so that
    neither has seen the other's change, then one is refused by the other's row.
    """
    if op == "update":
        await fill(world, ann={}, bob={})
    for turn in range(5):
        keys = {user.id: f"{user.id}{turn if op == 'insert' else ''}" for user in (ann, bob)}
        for user in (ann, bob):
            await user.draft(keys[user.id], instrument(serial=f"S{turn}"), op=op)
        async with world.db.acquire() as holder, holder.transaction():
            await holder.execute("LOCK TABLE lab.change IN SHARE MODE")
            both = [asyncio.ensure_future(user.commit()) for user in (ann, bob)]
            await until_waiting(world, 2)
        answers = await asyncio.gather(*both)
        assert sorted(answer.status_code for answer in answers) == [200, 422]
        (loser,) = (answer for answer in answers if answer.status_code == 422)
        (error,) = loser.json()["errors"]
        assert (error["code"], {error["id"], error["other"]}) == ("NOT_UNIQUE", set(keys.values()))
        for user in (ann, bob):
            await user.discard()


async def until_waiting(world: World, number: int) -> None:
    """Return as soon as so many wait for a lock."""
    query = (
        "SELECT count(DISTINCT pid) FROM pg_locks"
        " WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    async with asyncio.timeout(20):
        while await world.db.fetchval(query) < number:
            pass


# --- advice


async def advice(world: World, contract: Contract, user: str, **cells: Any) -> list[tuple[str, str, str]]:
    """(row, field, other) for cells given as A_serial="S1"."""
    wanted = [Cell(name.partition("_")[0], name.partition("_")[2], value) for name, value in cells.items()]
    async with world.runtime.database.connection() as connection:
        found = await find_duplicates(Desk(connection, contract, "acme"), user, wanted)
    assert all(each.finding.severity in ("ERROR", "WARNING") and each.other in each.finding.message for each in found)
    return [(each.cell.id, each.cell.field, each.other) for each in found]


async def test_a_cell_is_advised_of_what_its_user_sees_and_of_what_others_have_on_its_way(
    world: World, contract: Contract, ann: User, bob: User
) -> None:
    await fill(world, A={"serial": "S1"}, B={"serial": "S2", "seat": 7}, C={}, D={"serial": "S4"})
    assert await advice(world, contract, "ann", C_serial="S1", C_seat=7, C_room="R1", D_serial="S4") == [
        ("C", "serial", "A"),
        ("C", "seat", "B"),
    ]
    assert await advice(world, contract, "ann", C_serial=None, C_seat="no number", C_slot=[]) == []
    assert await advice(world, contract, "ann") == []
    # Her own drafts count, nobody else's do.
    await ann.draft("A", {"serial": "S9"})
    await ann.draft("D", op="delete")
    await ann.draft("N", {"serial": "S5"}, op="insert")
    cells = {"C_serial": "S1", "E_serial": "S4", "F_serial": "S5", "G_serial": "S9"}
    assert await advice(world, contract, "ann", **cells) == [("F", "serial", "N"), ("G", "serial", "A")]
    assert await advice(world, contract, "bob", **cells) == [("C", "serial", "A"), ("E", "serial", "D")]
    # What is on its way counts for everybody.
    await ann.draft("N", instrument())
    await committed(ann, "N")
    assert await advice(world, contract, "bob", F_serial="S5") == [("F", "serial", "N")]
    assert await advice(world, contract, "ann", F_serial="S5", N_serial="S5") == [("F", "serial", "N")]
    await ann.draft("N", {"serial": "S6"})
    assert await advice(world, contract, "ann", F_serial="S5") == []
    assert await advice(world, contract, "bob", F_serial="S5") == [("F", "serial", "N")]


# --- plans

FILL = """
INSERT INTO lab.mirror (organization_id, row_key, data, revision)
SELECT 'acme', 'P' || n, jsonb_build_object('tag', 'P' || n, 'serial', 'S' || n, 'slot', n, 'seat', n,
                                            'dueOn', (date '2000-01-01' + n)::text), 0
  FROM generate_series(1, {rows}) AS n;
INSERT INTO lab.change (organization_id, row_key, user_id, op, base, delta, state)
SELECT 'acme', 'C' || n, 'bob', 'insert', '{{}}', jsonb_build_object('serial', 'C' || n, 'slot', -n), 'committed'
  FROM generate_series(1, {changes}) AS n;
INSERT INTO lab.modification (organization_id, user_id, row_key, draft_op, delta, version, leaves, lands, modified_at,
                              a_serial, a_slot)
SELECT 'acme', 'ann', 'M' || n, 'insert', '{{}}', 1, FALSE, TRUE, now(), 'M' || n, 0.5 + n
  FROM generate_series(1, {changes}) AS n;
"""
CELLS = 200


@pytest.fixture(params=["warm", "cold", "filled after it was planned"])
async def planner(request: pytest.FixtureRequest, lab_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection as the application has it, to 20,000 rows with statistics or without."""
    fill = FILL.format(rows=20_000, changes=2_000)
    connection = await asyncpg.connect(lab_url, server_settings=dict(PLANNING))
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute("INSERT INTO organization VALUES ('acme', 'acme')")
    if request.param == "warm":
        await connection.execute(drop_indexes_ddl(LAB) + fill + indexes_ddl(LAB))
        await connection.execute("VACUUM ANALYZE lab.mirror, lab.change, lab.modification")
    elif request.param == "cold":
        await connection.execute(fill)
    for rule in unique_rules(LAB):
        text = qualified(find_duplicates_of(LAB, rule), LAB).text.rstrip().removesuffix(";")
        await connection.execute(f"PREPARE of_{rule.field.lower()} (text, text, jsonb, text) AS {text}")
        await connection.execute(f"EXECUTE of_{rule.field.lower()} ('acme', 'ann', '[]', NULL)")
    if "after" in request.param:
        await connection.execute(fill)
    yield connection
    await connection.close()


@pytest.mark.parametrize("user", ["'ann'", "NULL"])
async def test_a_value_is_found_by_indexes(planner: "asyncpg.Connection[Any]", user: str) -> None:
    """Given cells of which a third each is taken by the mirror, by a change and by a draft, then each looks at a few
    rows, found by their value.
    """
    serials = [("P", "S"), ("C", "C"), ("M", "M")]
    wanted = [{"id": f"X{n}", "serial": f"{serials[n % 3][1]}{n + 1}", "slot": n + 1} for n in range(CELLS)]
    for field in ("serial", "slot"):
        cells = json.dumps([{"id": cell["id"], field: cell[field]} for cell in wanted])
        text = await planner.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE of_{field} ('acme', {user}, '{cells}', NULL)"
        )
        nodes = list(nodes_of(json.loads(text)[0]["Plan"]))
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
        looked = {
            node["Index Name"]: (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes
            if node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
        }
        assert max(looked.values()) <= 2 * CELLS, looked
        by_value = {"serial": {"mirror_serial", "change_text_serial", "modification_lands_serial"}}
        by_value["slot"] = {"mirror_slot_desc", "change_number_slot", "modification_lands_slot_desc"}
        assert by_value[field] <= looked.keys()


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's nodes, however deep."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


# --- indexes


def test_a_field_that_changes_its_type_has_its_index_made_anew(lab_url: str) -> None:
    fields = tuple(msgspec.structs.replace(each, type="text") if each.name == "slot" else each for each in LAB.fields)
    retyped = msgspec.structs.replace(LAB, version="2.2", fields=fields, measures=())
    for contract, expected in ((retyped, "change_text_slot"), (LAB, "change_number_slot")):
        migrate(lab_url, (contract,))
        with psycopg.connect(lab_url) as connection:
            found = connection.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'change%slot'")
            assert found.fetchall() == [(expected,)]
