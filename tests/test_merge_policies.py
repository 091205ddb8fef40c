"""Merge policies: what a draft of a field conflicts with, the same in commits, previews, change requests and pushes."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
import pytest

from app.base.errors import ConfigurationError
from app.contracts import PFA, Contract, read_contract
from app.contracts.model import Policy
from app.web.auth import Role
from tests.support.ledger import Ledger
from tests.support.requests import act, done, merged, previewed, request, submitted
from tests.support.sessions import begin
from tests.support.syncing import LEDGERED, open_yard, van
from tests.support.world import (
    FLEET,
    NEW,
    User,
    World,
    committed,
    drafts,
    line,
    mirrored,
    open_world,
    refused,
    vehicle,
)

Row = dict[str, Any]


def merging(contract: Contract, policies: dict[str, Policy]) -> Contract:
    """The contract with these fields merged otherwise, over the same tables."""
    fields = tuple(
        msgspec.structs.replace(field, merge=policies.get(field.name, field.merge)) for field in contract.fields
    )
    return msgspec.structs.replace(contract, fields=fields)


# Each field has a policy of its own, three of one type, so that a table can be read for all of them.
FLEET_POLICIES: dict[str, Policy] = {"remark": "row", "leased": "row", "depot": "theirs"}
PFA_POLICIES: dict[str, Policy] = {"model": "row", "class": "theirs"}
POLICED = (merging(PFA, PFA_POLICIES), merging(FLEET, FLEET_POLICIES))
FIELDS: dict[str, dict[str, str]] = {
    "fleet": {"row": "remark", "theirs": "depot", "cell": "kind", "other": "seats", "read only": "plate"},
    "pfa": {"row": "model", "theirs": "class", "cell": "equipment", "other": "manufacturer"},
}


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """The application over contracts with policies."""
    async with open_world(database_url, contracts=POLICED) as world:
        await world.organization("acme")
        yield world


@pytest.fixture
async def ann(world: World) -> User:
    return (await world.user("ann")).on("fleet")


@pytest.fixture
async def bob(world: World) -> User:
    return (await world.user("bob")).on("fleet")


@pytest.fixture
async def boss(world: World) -> User:
    return (await world.user("boss", role=Role.ADMIN)).on("fleet")


# -- the contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "policies", "reason"),
    [
        (FLEET, {"firstDay": "row"}, "firstDay is merged by row and is in an atomic group"),
        (FLEET, {"lastDay": "theirs"}, "lastDay is merged by theirs and is in an atomic group"),
        (FLEET, {"plate": "row"}, "plate is merged by row and cannot be edited"),
        (PFA, {"hasPlan": "theirs"}, "hasPlan is merged by theirs and cannot be edited"),
    ],
)
def test_a_policy_that_its_field_cannot_have_is_refused(
    contract: Contract, policies: dict[str, Policy], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        merging(contract, policies)


def test_a_contract_declares_policies_in_its_file(tmp_path: Any) -> None:
    file = tmp_path / "plots.json"
    fields: list[Row] = [
        {"name": "mark", "type": "text", "editable": False},
        {"name": "area", "type": "number", "merge": "row"},
    ]
    plots = {"name": "plots", "version": "1.0", "title": "Plots", "schema": "plots", "key": "mark", "fields": fields}
    file.write_bytes(msgspec.json.encode(plots))
    assert read_contract(file).by_name["area"].merge == "row"
    for wrong in ("mine", "atomic", "ROW", None):
        fields[1]["merge"] = wrong
        file.write_bytes(msgspec.json.encode(plots))
        with pytest.raises(ConfigurationError):
            read_contract(file)


def test_a_contract_without_policies_has_nothing_to_say_of_them() -> None:
    assert FLEET.cell_map == {name: {"cell": "service", "fields": ["firstDay", "lastDay"]} for name in FLEET.cells}
    strict, editable = POLICED[1], [field.name for field in FLEET.fields if field.editable]
    assert strict.cell_map == FLEET.cell_map | {
        "depot": {"policy": "theirs"},
        "remark": {"policy": "row", "cell": "remark", "fields": editable},
        "leased": {"policy": "row", "cell": "leased", "fields": editable},
    }


async def test_columns_tell_how_they_are_merged(ann: User) -> None:
    columns = (await ann.get("/api/v1/orgs/acme/datasets/fleet")).json()["columns"]
    found = {column["name"]: column["merge"] for column in columns}
    assert {found[name] for name in ("firstDay", "lastDay")} == {"atomic"}
    assert {name: found[name] for name in ("remark", "depot", "seats", "plate")} == {
        "remark": "row", "depot": "theirs", "seats": "cell", "plate": "cell",
    }  # fmt: skip


# -- the table ---------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A field is A. Ann drafts `mine`, then others write `theirs` to it and `other` to another field of the row, or
    nothing; what becomes of the field by its policy: a value, or "conflict".
    """

    mine: str | None
    theirs: str | None
    other: bool
    cell: str
    row: str
    gives_way: str  # theirs


TABLE = {
    "nobody else": Case("Bus", None, False, "Bus", "Bus", "Bus"),
    "the same field": Case("Bus", "Truck", False, "conflict", "conflict", "Truck"),
    "the same field, and another": Case("Bus", "Truck", True, "conflict", "conflict", "Truck"),
    "another field": Case("Bus", None, True, "Bus", "conflict", "Bus"),
    "the same value": Case("Bus", "Bus", False, "Bus", "Bus", "Bus"),
    "the same value, and another field": Case("Bus", "Bus", True, "Bus", "conflict", "Bus"),
    "nothing new": Case("Van", "Truck", False, "Truck", "Truck", "Truck"),
    "nothing new, and another field": Case("Van", "Truck", True, "Truck", "Truck", "Truck"),
}
POLICIES = ("cell", "row", "theirs")


def expected_of(case: Case, policy: str) -> str:
    """What becomes of the field."""
    return {"cell": case.cell, "row": case.row, "theirs": case.gives_way}[policy]


def changed(case: Case, field: str, other: str) -> Row:
    """What others write."""
    value = "elsewhere" if other != "seats" else 9
    return ({field: case.theirs} if case.theirs else {}) | ({other: value} if case.other else {})


@pytest.mark.parametrize("title", TABLE)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dataset", ["fleet", "pfa"])
async def test_the_table_in_a_commit(world: World, ann: User, bob: User, dataset: str, policy: str, title: str) -> None:
    """The draft shows it at once, in a list, a preview, and a rehearsal."""
    case, names = TABLE[title], FIELDS[dataset]
    field, expected = names[policy], expected_of(case, policy)
    ann, bob = ann.on(dataset), bob.on(dataset)
    contract, full = (FLEET, vehicle) if dataset == "fleet" else (PFA, line)
    await world.mirror({"A": full(**{field: "Van"})}, contract=contract)
    session = await begin(ann)
    wanted = {"sessionId": session["id"]}
    await ann.post("drafts", {**wanted, "modifications": [{"id": "A", "delta": {field: case.mine}}]})
    if theirs := changed(case, field, names["other"]):
        await bob.draft("A", theirs)
        await committed(bob)
    seen = await previewed(ann, session)
    rehearsed = await ann.post("commit", {**wanted, "dryRun": True})
    response = await ann.post("commit", wanted)
    assert response.status_code == rehearsed.status_code
    if expected == "conflict":
        (conflict,) = refused(response, 409, "MERGE_CONFLICT")["conflicts"]
        assert conflict["field"] == field
        assert seen["conflictCount"] == 1
        row = await ann.row("A")
        assert (row["syncState"], row["conflicts"]) == ("conflict", [conflict])
    else:
        assert response.status_code == 200, response.text
        assert (response.json()["committed"] == 1) == (expected == case.mine != (case.theirs or "Van"))
        assert seen["conflictCount"] == 0
        if dataset == "fleet" or not theirs:
            assert (await ann.row("A"))["data"][field] == expected


@pytest.mark.parametrize("title", [title for title in TABLE if not title.startswith("nothing new")])
@pytest.mark.parametrize("policy", POLICIES)
async def test_the_table_in_a_change_request(
    world: World, ann: User, bob: User, boss: User, policy: str, title: str
) -> None:
    case, field = TABLE[title], FIELDS["fleet"][policy]
    expected = expected_of(case, policy)
    await world.mirror({"A": vehicle(**{field: "Van"})}, contract=FLEET)
    found = await submitted(ann, {"id": "A", "delta": {field: case.mine}})
    if theirs := changed(case, field, "seats"):
        await bob.draft("A", theirs)
        await committed(bob)
    if expected == "conflict":
        assert (await request(boss, found))["conflictCount"] == 1
        await done(boss, found, "approve")
        (conflict,) = refused(await act(boss, found, "merge"), 409, "MERGE_CONFLICT")["conflicts"]
        assert (conflict["field"], conflict["kind"]) == (field, "row" if policy == "row" else "cell")
        return
    await merged(boss, found)
    row = await mirrored(world, "A") or {}
    assert (row[field], row["seats"]) == (expected, 9 if case.other else 3)


@pytest.mark.parametrize("title", TABLE)
@pytest.mark.parametrize("policy", POLICIES)
async def test_the_table_in_a_push(database_url: str, policy: str, title: str) -> None:
    case, field = TABLE[title], FIELDS["fleet"][policy]
    expected = expected_of(case, policy)
    ledger = Ledger("plate", {"A": van(**{field: "Van"})})
    async with open_yard(database_url, ledger, merging(LEDGERED, FLEET_POLICIES)) as yard:
        await yard.work()
        ann = await yard.user("ann")
        await ann.draft("A", {field: case.mine})
        await committed(ann)
        if theirs := changed(case, field, "seats"):
            ledger.put("A", **theirs)
        await yard.work()
        if case.mine == "Van":
            assert await yard.changes() == []
            return
        assert await yard.states() == ["conflict" if expected == "conflict" else "synced"]
        (conflict,) = (await ann.row("A"))["conflicts"] or [None]
        assert (conflict and conflict["field"]) == (field if expected == "conflict" else None)
        if expected != "conflict":
            row = (await yard.mirror())["A"]
            assert (row[field], row["seats"]) == (expected, 9 if case.other else 3)
        await yard.check()


async def test_pushes_of_ones_own_are_no_change_of_the_row(database_url: str) -> None:
    """Given two commits of one row, when upstream rounds what the first one wrote and stamps the row, then the second
    one, merged by the row, goes through.
    """
    ledger = Ledger("plate", {"A": van(remark="Van", mileage=100)})
    async with open_yard(database_url, ledger, merging(LEDGERED, FLEET_POLICIES)) as yard:
        await yard.work()
        ann = await yard.user("ann")
        for delta in ({"mileage": 150}, {"remark": "mine"}):
            await ann.draft("A", delta)
            await committed(ann)
        await yard.work()
        assert await yard.states() == ["synced", "synced"]
        assert (await yard.mirror())["A"]["remark"] == "mine"


# -- rows that come and go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_row_that_is_gone_conflicts_under_every_policy(world: World, ann: User, bob: User, policy: str) -> None:
    field = FIELDS["fleet"][policy]
    await world.mirror({"A": vehicle(**{field: "Van"})}, contract=FLEET)
    await ann.draft("A", {field: "Bus"})
    await bob.draft("A", op="delete")
    await committed(bob)
    (conflict,) = refused(await ann.commit(), 409, "MERGE_CONFLICT")["conflicts"]
    assert (conflict["field"], conflict["theirs"]) == (None, None)
    await committed(ann, resolutions=[{"id": "A", "field": None, "use": "mine"}])
    row = await mirrored(world, "A") or {}
    assert {name: value for name, value in row.items() if value is not None} == {
        "plate": "A", **vehicle(**{field: "Bus"}),
    }  # fmt: skip


@pytest.mark.parametrize("dataset", ["fleet", "pfa"])
async def test_of_two_new_rows_of_one_id_each_cell_is_merged(world: World, ann: User, bob: User, dataset: str) -> None:
    """There was no row that could have changed: what is merged by the row conflicts with its own cell."""
    ann, bob, names = ann.on(dataset), bob.on(dataset), FIELDS[dataset]
    new = {"depot": "North", "kind": "Van"} if dataset == "fleet" else NEW
    strict, gives_way, other = names["row"], names["theirs"], names["other"]
    free = {other: 4 if other == "seats" else "mine"}
    await ann.draft("X", {**new, strict: "mine", gives_way: "mine", **free}, op="insert")
    await ann.draft("Y", {**new, strict: "same", **free}, op="insert")
    for key, theirs in (("X", {strict: "theirs", gives_way: "theirs"}), ("Y", {strict: "same"})):
        await bob.draft(key, {**new, **theirs}, op="insert")
    await committed(bob)
    (conflict,) = refused(await ann.commit(), 409, "MERGE_CONFLICT")["conflicts"]
    assert (conflict["id"], conflict["field"]) == ("X", strict)
    assert [conflict[side] for side in ("base", "theirs", "mine")] == [
        {strict: None}, {strict: "theirs"}, {strict: "mine"},
    ]  # fmt: skip
    await committed(ann, resolutions=[{"id": "X", "field": strict, "use": "mine"}])
    row = (await ann.row("X"))["data"] | ((await bob.row("X"))["data"] if dataset == "pfa" else {})
    assert row[gives_way] == "theirs"
    assert (await ann.row("X"))["data"][strict] == "mine"


# -- merged by the row: what follows of it -----------------------------------------------------------------------------


async def strictly(world: World, ann: User, bob: User) -> Row:
    """Ann has drafted the strict remark and the mileage, bob has committed seats; the conflict."""
    await world.mirror({"A": vehicle(remark="A")}, contract=FLEET)
    await ann.draft("A", {"remark": "mine", "mileage": 5})
    await bob.draft("A", {"seats": 9, "inService": False})
    await committed(bob)
    (conflict,) = refused(await ann.commit(), 409, "MERGE_CONFLICT")["conflicts"]
    found: Row = conflict
    return found


async def test_the_conflict_shows_what_the_draft_leaves_alone_of_the_row(world: World, ann: User, bob: User) -> None:
    conflict = await strictly(world, ann, bob)
    editable = {field.name for field in FLEET.fields if field.editable}
    base: Row = dict.fromkeys(editable) | vehicle(remark="A")
    assert (await drafts(ann))["A"]["base"] == base
    del base["mileage"]
    assert conflict == {
        "id": "A",
        "field": "remark",
        "base": base,
        "theirs": base | {"seats": 9, "inService": False},
        "mine": base | {"remark": "mine"},
    }


@pytest.mark.parametrize(
    ("use", "remark", "mileage"),
    [({"use": "mine"}, "mine", 5), ({"use": "theirs"}, "A", 5), ({"use": "value", "value": "third"}, "third", 5)],
)
async def test_a_resolution_is_about_the_field_and_never_writes_others_back(
    world: World, ann: User, bob: User, use: Row, remark: str, mileage: int
) -> None:
    await strictly(world, ann, bob)
    assert (await committed(ann, resolutions=[{"id": "A", "field": "remark", **use}]))["committed"] == 1
    row = await mirrored(world, "A") or {}
    assert (row["remark"], row["mileage"], row["seats"], row["inService"]) == (remark, mileage, 9, False)
    (entry, *_) = (await ann.row("A"))["history"]
    assert entry["after"].keys() <= {"remark", "mileage"}
    assert await drafts(ann) == {}


async def test_the_whole_row_as_mine_writes_what_was_drafted(world: World, ann: User, bob: User) -> None:
    await strictly(world, ann, bob)
    await committed(ann, resolutions=[{"id": "A", "field": None, "use": "mine"}])
    row = await mirrored(world, "A") or {}
    assert (row["remark"], row["mileage"], row["seats"], row["inService"]) == ("mine", 5, 9, False)


async def test_what_was_not_drafted_is_not_resolved(world: World, ann: User, bob: User) -> None:
    await strictly(world, ann, bob)
    for field, use in (("seats", "mine"), ("seats", "theirs"), ("service", "mine"), ("leased", "mine")):
        problem = refused(
            await ann.commit(resolutions=[{"id": "A", "field": field, "use": use}]), 422, "VALIDATION_FAILED"
        )
        assert problem["errors"][0]["code"] == "INVALID_RESOLUTION"


async def test_a_change_after_the_resolution_is_another_conflict(world: World, ann: User, bob: User) -> None:
    """Given a draft over a conflict that its author has seen, when the row moves again, then it conflicts again."""
    await strictly(world, ann, bob)
    assert (await ann.draft("A", {"remark": "again"}))["syncState"] == "draft"
    await bob.draft("A", {"seats": 10})
    await committed(bob)
    row = await ann.row("A")
    assert (row["syncState"], row["conflicts"][0]["base"]["seats"]) == ("conflict", 9)
    # A row that is as it was seen again is no conflict any more.
    await bob.draft("A", {"seats": 9})
    await committed(bob)
    assert (await ann.row("A"))["syncState"] == "draft"
    assert (await committed(ann))["committed"] == 1


async def test_what_was_seen_of_the_rest_of_the_row_counts(world: World, ann: User, bob: User) -> None:
    """A draft can say what it saw of fields that it does not touch: the row is its cell."""
    await world.mirror({"A": vehicle(remark="A", seats=3)}, contract=FLEET)
    await bob.draft("A", {"seats": 9})
    await committed(bob)
    assert (await ann.draft("A", {"remark": "mine"}, base={"seats": 3}))["syncState"] == "conflict"
    assert (await ann.draft("A", {"mileage": 1}))["syncState"] == "conflict"
    await ann.discard("A")
    assert (await ann.draft("A", {"remark": "mine"}, base={"seats": 9}))["syncState"] == "draft"
    refused(await ann.commit(base={"A": {"seats": 3}}), 409, "MERGE_CONFLICT")


async def test_what_the_draft_writes_besides_is_merged_by_itself(world: World, ann: User, bob: User) -> None:
    """Given a group that is drafted in one row and left alone in another, when it changes, then the first conflict is
    the group's, and the second the row's; and whoever decides about the row decides about nothing else.
    """
    row = vehicle(remark="A", firstDay="2026-01-01", lastDay="2026-12-31")
    await world.mirror({"A": row, "B": row}, contract=FLEET)
    await ann.draft("A", {"remark": "mine", "firstDay": "2026-02-01"})
    await ann.draft("B", {"remark": "mine"})
    for key in "AB":
        await bob.draft(key, {"lastDay": "2026-11-30"})
    await committed(bob)
    found = refused(await ann.commit(), 409, "MERGE_CONFLICT")["conflicts"]
    assert [(conflict["id"], conflict["field"]) for conflict in found] == [("A", "service"), ("B", "remark")]
    await bob.draft("A", {"seats": 9})
    await committed(bob)
    mine = {"id": "A", "field": "remark", "use": "mine"}
    (left,) = refused(await ann.commit("A", resolutions=[mine]), 409, "MERGE_CONFLICT")["conflicts"]
    assert left["field"] == "service"
    assert (await ann.draft("A", {"remark": "again"}))["syncState"] == "conflict"
    await committed(ann, "A", resolutions=[{"id": "A", "field": "service", "use": "theirs"}])
    now = await mirrored(world, "A") or {}
    assert (now["remark"], now["firstDay"], now["lastDay"]) == ("again", "2026-01-01", "2026-11-30")


async def test_two_fields_that_are_merged_by_the_row(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": vehicle(remark="A", leased=False)}, contract=FLEET)
    await ann.draft("A", {"remark": "mine", "leased": True})
    await bob.draft("A", {"seats": 9})
    await committed(bob)
    found = refused(await ann.commit(), 409, "MERGE_CONFLICT")["conflicts"]
    assert [conflict["field"] for conflict in found] == ["leased", "remark"]
    # One let go leaves the other one in conflict with the row.
    given_up = {"id": "A", "field": "remark", "use": "theirs"}
    (left,) = refused(await ann.commit(resolutions=[given_up]), 409, "MERGE_CONFLICT")["conflicts"]
    assert left["field"] == "leased"
    await committed(ann, resolutions=[given_up, {"id": "A", "field": "leased", "use": "mine"}])
    row = await mirrored(world, "A") or {}
    assert (row["remark"], row["leased"], row["seats"]) == ("A", True, 9)


async def test_a_field_that_is_discarded_leaves_the_others_to_merge_by_cell(world: World, ann: User, bob: User) -> None:
    await strictly(world, ann, bob)
    await ann.discard("A", fields=["remark"])
    row = await ann.row("A")
    assert (row["syncState"], row["base"], row["delta"]) == ("draft", {"mileage": 1000}, {"mileage": 5})
    assert (await committed(ann))["committed"] == 1


async def test_skipping_leaves_it_with_the_row_that_it_was_drafted_over(world: World, ann: User, bob: User) -> None:
    await strictly(world, ann, bob)
    answer = await committed(ann, onConflict="skip")
    assert (answer["committed"], [each["field"] for each in answer["skipped"]]) == (1, ["remark"])
    row = await ann.row("A")
    assert (row["delta"], row["base"]["seats"], row["data"]["mileage"]) == ({"remark": "mine"}, 3, 5)
    await committed(ann, resolutions=[{"id": "A", "field": "remark", "use": "mine"}])
    assert (await mirrored(world, "A") or {})["seats"] == 9


async def test_undo_and_redo_put_back_what_was_seen(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": vehicle(remark="A", seats=3)}, contract=FLEET)
    await ann.draft("A", {"mileage": 5})
    await ann.draft("A", {"remark": "mine"})
    await ann.draft("A", {"kind": "Bus"})
    before = (await drafts(ann))["A"]
    for _ in range(2):
        await ann.post("drafts/undo", {})
    row = (await drafts(ann))["A"]
    assert (row["delta"], row["base"]) == ({"mileage": 5}, {"mileage": 1000})
    await bob.draft("A", {"seats": 9})
    await committed(bob)
    assert (await ann.row("A"))["syncState"] == "draft"
    for _ in range(2):
        await ann.post("drafts/redo", {})
    after = (await drafts(ann))["A"]
    assert (after["delta"], after["base"]) == (before["delta"], before["base"])
    assert (after["syncState"], after["conflicts"][0]["field"]) == ("conflict", "remark")


# -- theirs wins: what follows of it -----------------------------------------------------------------------------------


async def test_where_theirs_wins_the_draft_shows_mine_until_it_is_merged(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": vehicle(depot="North"), "B": vehicle(depot="North")}, contract=FLEET)
    for key in "AB":
        await ann.draft(key, {"depot": "mine", "seats": 8})
        await bob.draft(key, {"depot": "theirs"})
    await committed(bob)
    row = await ann.row("A")
    assert (row["syncState"], row["conflicts"], row["data"]["depot"]) == ("draft", [], "mine")
    assert (await committed(ann, "A"))["committed"] == 1
    assert (await ann.row("A"))["data"]["depot"] == "theirs"
    # Whoever wants it all the same says so, having seen it: by a resolution, or by drafting it anew.
    await committed(ann, "B", resolutions=[{"id": "B", "field": "depot", "use": "mine"}])
    assert (await ann.row("B"))["data"]["depot"] == "mine"
    await ann.draft("A", {"depot": "mine"})
    await committed(ann, "A")
    assert (await ann.row("A"))["data"]["depot"] == "mine"


async def test_a_draft_of_nothing_else_ends(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": vehicle(depot="North")}, contract=FLEET)
    await ann.draft("A", {"depot": "mine"})
    await bob.draft("A", {"depot": "theirs"})
    await committed(bob)
    assert (await committed(ann))["committed"] == 0
    assert await drafts(ann) == {}
    assert (await mirrored(world, "A") or {})["depot"] == "theirs"


# -- change requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "remark"),
    [
        ({"use": "mine"}, "mine"),
        ({"use": "theirs"}, "A"),
        ({"use": "base"}, "A"),
        ({"use": "value", "value": "third"}, "third"),
    ],
)
async def test_a_request_is_resolved_by_the_field(
    world: World, ann: User, bob: User, boss: User, use: Row, remark: str
) -> None:
    await world.mirror({"A": vehicle(remark="A")}, contract=FLEET)
    found = await submitted(ann, {"id": "A", "delta": {"remark": "mine", "mileage": 5}})
    await bob.draft("A", {"seats": 9, "inService": False})
    await committed(bob)
    fixed = await done(ann, found, "resolutions", resolutions=[{"id": "A", "field": "remark", **use}])
    assert fixed["conflictCount"] == 0
    await merged(boss, found)
    row = await mirrored(world, "A") or {}
    assert (row["remark"], row["mileage"], row["seats"], row["inService"]) == (remark, 5, 9, False)


async def test_a_cell_that_is_not_accepted_keeps_the_row_that_it_was_drafted_over(
    world: World, ann: User, bob: User, boss: User
) -> None:
    await world.mirror({"A": vehicle(remark="A", seats=3)}, contract=FLEET)
    found = await submitted(ann, {"id": "A", "delta": {"remark": "mine", "kind": "Truck"}})
    await done(boss, found, "approve", **{"except": [{"id": "A", "field": "remark"}]})
    row = await ann.row("A")
    assert (row["delta"], row["base"]["seats"], row["syncState"]) == ({"remark": "mine"}, 3, "draft")
    await bob.draft("A", {"seats": 9})
    await committed(bob)
    row = await ann.row("A")
    assert (row["syncState"], [conflict["field"] for conflict in row["conflicts"]]) == ("conflict", ["remark"])


async def test_what_a_merge_skips_stays_with_its_row(world: World, ann: User, bob: User, boss: User) -> None:
    await world.mirror({"A": vehicle(remark="A", depot="North")}, contract=FLEET)
    found = await submitted(ann, {"id": "A", "delta": {"remark": "mine", "depot": "mine", "mileage": 5}})
    await bob.draft("A", {"depot": "theirs", "seats": 9})
    await committed(bob)
    await done(boss, found, "approve")
    answer = await done(boss, found, "merge", onConflict="skip")
    assert [each["field"] for each in answer["skipped"]] == ["remark"]
    row = await ann.row("A")
    assert (row["delta"], row["data"]["depot"], row["data"]["mileage"]) == ({"remark": "mine"}, "theirs", 5)
    assert row["syncState"] == "conflict"


async def test_of_a_new_row_in_a_request_each_conflict_is_decided_by_itself(
    world: World, ann: User, bob: User, boss: User
) -> None:
    """Given two new rows of one id that differ in two cells, when one is decided, then the other conflicts still."""
    new = {"depot": "North", "kind": "Van"}
    found = await submitted(ann, {"id": "X", "op": "insert", "delta": {**new, "seats": 1, "mileage": 1}})
    await bob.draft("X", {**new, "seats": 2, "mileage": 2}, op="insert")
    await committed(bob)
    fixed = await done(ann, found, "resolutions", resolutions=[{"id": "X", "field": "seats", "use": "mine"}])
    assert fixed["conflictCount"] == 1
    fixed = await done(ann, found, "resolutions", resolutions=[{"id": "X", "field": "mileage", "use": "theirs"}])
    await merged(boss, found)
    row = await mirrored(world, "X") or {}
    assert (row["seats"], row["mileage"]) == (1, 2)
