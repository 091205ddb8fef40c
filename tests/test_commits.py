"""Commit: three sides merged cell by cell, conflicts and their resolutions, nothing lost or half done."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.contracts import PFA, Contract
from app.contracts.filters import SYNC_STATES
from tests.support.world import (
    FLEET,
    NEW,
    User,
    World,
    changes,
    committed,
    drafts,
    ids,
    less_position,
    line,
    mirrored,
    refused,
    vehicle,
    written,
)

BUS = {"depot": "North", "kind": "Van"}


async def conflicts(user: User, *keys: str, **more: Any) -> list[dict[str, Any]]:
    """The conflicts that refuse a commit."""
    problem = refused(await user.commit(*keys, **more), 409, "MERGE_CONFLICT")
    assert problem["conflictCount"] == len(problem["conflicts"])
    found: list[dict[str, Any]] = problem["conflicts"]
    return found


# --- what a commit is about


async def test_a_commit_names_what_it_takes(world: World, ann: User) -> None:
    """Given drafts of two sessions, then ids, a session and all select among them; the rest stays drafted."""
    await world.mirror({key: line() for key in "ABCDE"})
    for keys, session in (("AB", "s1"), ("CD", "s2"), ("E", None)):
        batch = [{"id": key, "delta": {"model": "M"}} for key in keys]
        await ann.post("drafts", {"modifications": batch, **({"sessionId": session} if session else {})})
    assert (await committed(ann, "A", "X"))["committed"] == 1
    answer = (await ann.post("commit", {"sessionId": "s1"})).json()
    assert answer["committed"] == 1
    assert {key: row["syncState"] for key, row in (await drafts(ann)).items()} == {
        "A": "committed", "B": "committed", "C": "draft", "D": "draft", "E": "draft",
    }  # fmt: skip
    assert (await committed(ann))["committed"] == 3
    refused(await ann.commit(), 404, "NO_DRAFTS")
    refused(await ann.commit("X"), 404, "NO_DRAFTS")
    refused(await ann.post("commit", {"sessionId": "s9"}), 404, "NO_DRAFTS")


@pytest.mark.parametrize("route", ["commit", "discard"])
async def test_a_request_that_selects_nothing_or_twice_is_400(world: World, ann: User, route: str) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"model": "M"})
    for body in ({}, {"ids": ["A"], "all": True}, {"sessionId": "s", "all": True}, {"ids": ["A"], "sessionId": "s"}):
        refused(await ann.post(route, body), 400, "NOTHING_SELECTED")
    malformed: list[Any] = [
        {"all": False},
        {"ids": []},
        {"ids": "A"},
        {"id": ["A"]},
        {"all": True, "force": True},
        [],
        None,
    ]
    for body in malformed:
        refused(await ann.post(route, body), 400, "MALFORMED_REQUEST")
    assert list(await drafts(ann)) == ["A"]


async def test_expected_versions_guard_a_commit(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    a = (await ann.draft("A", {"model": "M"}))["version"]
    b = (await ann.draft("B", {"model": "M"}))["version"]
    await ann.draft("A", {"model": "N"})
    problem = refused(await ann.commit(expectedVersions={"A": a, "B": b}), 409, "VERSION_CONFLICT")
    assert [(error["id"], error["code"]) for error in problem["errors"]] == [("A", "VERSION_CONFLICT")]
    refused(await ann.commit("B", expectedVersions={"X": 1}), 409, "VERSION_CONFLICT")
    assert {row["syncState"] for row in (await drafts(ann)).values()} == {"draft"}
    current = (await ann.row("A"))["version"]
    assert (await committed(ann, expectedVersions={"A": current, "B": b}))["committed"] == 2


async def test_a_reason_goes_into_the_history(world: World, ann: User) -> None:
    """The commit's own reason, or else each draft's; a reason is used once."""
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(), "B": vehicle()}, contract=FLEET)

    async def reasons(key: str) -> list[str | None]:
        return [entry["changeReason"] for entry in (await ann.row(key))["history"]]

    await ann.draft("A", {"remark": "1"}, changeReason="of the draft")
    await ann.draft("B", {"remark": "1"}, changeReason="of the draft")
    await committed(ann, "A", changeReason="of the commit")
    await committed(ann, "B")
    await ann.draft("B", {"remark": "2"})
    await committed(ann, "B")
    assert await reasons("A") == ["of the commit"]
    assert await reasons("B") == [None, "of the draft"]

    pfa = ann.on("pfa")
    await world.mirror({"A": line()})
    await pfa.draft("A", {"model": "1"}, changeReason="of the draft")
    await committed(pfa)
    await pfa.draft("A", {"model": "2"})
    await committed(pfa)
    assert [entry["changeReason"] for entry in (await pfa.row("A"))["history"]] == [None, "of the draft"]


async def test_a_dry_run_answers_and_changes_nothing(world: World, ann: User, bob: User) -> None:
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"A": vehicle(remark="0"), "B": vehicle(remark="0")}, contract=FLEET)
    await ann.draft("A", {"remark": "1"})
    await ann.draft("B", {"remark": "0"})
    tag = (await ann.get("rows")).headers["ETag"]
    assert less_position(await committed(ann, dryRun=True)) == {"commitId": None, "committed": 1, "revision": 0}
    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 304
    assert (await mirrored(world, "A") or {})["remark"] == "0"
    assert set(await drafts(ann)) == {"A", "B"}

    await bob.draft("A", {"remark": "2"})
    await committed(bob)
    before = await drafts(ann)
    assert [found["field"] for found in await conflicts(ann, dryRun=True)] == ["remark"]
    assert await drafts(ann) == before
    resolution = {"id": "A", "field": "remark", "use": "mine"}
    assert (await committed(ann, dryRun=True, resolutions=[resolution]))["committed"] == 1
    assert await drafts(ann) == before


async def test_a_dataset_may_want_a_change_request(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"model": "M"})
    await world.db.execute("UPDATE dataset SET require_approval = TRUE WHERE name = 'pfa'")
    refused(await ann.commit(), 403, "APPROVAL_REQUIRED")
    refused(await ann.commit(dryRun=True), 403, "APPROVAL_REQUIRED")
    assert (await drafts(ann))["A"]["syncState"] == "draft"
    assert written(await ann.discard()) == {"discarded": 1}


async def test_a_commit_without_an_upstream_raises_the_revision_once(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror({key: vehicle(remark="0") for key in "ABC"}, contract=FLEET)
    for key in "ABC":
        await ann.draft(key, {"remark": "1"})
    first = await committed(ann)
    assert (first["committed"], first["revision"]) == (3, 1)
    assert await world.db.fetchval("SELECT count(DISTINCT commit_id) FROM fleet.history") == 1
    # A draft of what is there already changes nothing, so no revision, no version and no history.
    await ann.draft("A", {"remark": "1"})
    again = await committed(ann)
    assert (again["committed"], again["revision"]) == (0, 1)
    assert (await ann.row("A"))["mirrorVersion"] == 2
    assert await world.db.fetchval("SELECT count(*) FROM fleet.history") == 3
    assert await drafts(ann) == {}


async def test_numbers_reach_the_mirror_with_their_digits(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await ann.draft("A", {"mileage": Decimal("12345678901234567890.120")})
    await committed(ann)
    assert str((await mirrored(world, "A") or {})["mileage"]) == "12345678901234567890.120"


# --- the three-way table, on both kinds of dataset


class Sides:
    """Ann and bob on a dataset; what bob commits is theirs for ann, in the mirror or still on its way upstream."""

    def __init__(self, world: World, ann: User, bob: User, contract: Contract):
        self.world, self.contract = world, contract
        self.ann, self.bob = ann.on(contract.name), bob.on(contract.name)
        pfa = contract is PFA
        self.field = "model" if pfa else "remark"
        self.other = "class" if pfa else "depot"
        self.group = "forecastDates" if pfa else "service"
        self.start, self.end = ("forecastStart", "forecastEnd") if pfa else ("firstDay", "lastDay")
        self.full = line if pfa else vehicle
        self.new: dict[str, Any] = NEW if pfa else BUS

    async def given(self, key: str = "A", **fields: Any) -> None:
        """A row of the mirror."""
        await self.world.mirror({key: self.full(**fields)}, contract=self.contract)

    async def theirs(self, delta: dict[str, Any] | None = None, key: str = "A", **more: Any) -> None:
        """Bob drafts and commits."""
        await self.bob.draft(key, delta, **more)
        await committed(self.bob, key)

    async def value(self, field: str, key: str = "A") -> Any:
        """What ann sees."""
        return (await self.ann.row(key))["data"].get(field)


@pytest.fixture(params=["fleet", "pfa"])
async def sides(request: pytest.FixtureRequest, world: World, ann: User, bob: User) -> Sides:
    """The dataset without an upstream, and pfa, where the first change stays in the outbox."""
    return Sides(world, ann, bob, {"fleet": FLEET, "pfa": PFA}[request.param])


async def test_base_a_theirs_a_mine_a_is_nothing_to_do(sides: Sides) -> None:
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", {sides.field: "A"})
    assert (await committed(sides.ann))["committed"] == 0
    assert await drafts(sides.ann) == {}


async def test_base_a_theirs_a_mine_b_is_b(sides: Sides) -> None:
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", {sides.field: "B"})
    assert (await committed(sides.ann))["committed"] == 1
    assert await sides.value(sides.field) == "B"


async def test_base_a_theirs_b_mine_a_is_b(sides: Sides) -> None:
    """Ann drafts what was there when she looked; bob's change stands."""
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", {sides.field: "A"})
    await sides.theirs({sides.field: "B"})
    assert (await committed(sides.ann))["committed"] == 0
    assert await drafts(sides.ann) == {}
    assert [row[4] for row in await changes(sides.world)] == ([{"model": "B"}] if sides.contract is PFA else [])
    assert (await mirrored(sides.world, "A", sides.contract) or {})[sides.field] == (
        "A" if sides.contract is PFA else "B"
    )


async def test_base_a_theirs_b_mine_b_has_converged(sides: Sides) -> None:
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", {sides.field: "B"})
    await sides.theirs({sides.field: "B"})
    assert (await sides.ann.row("A"))["conflicts"] == []
    assert (await committed(sides.ann))["committed"] == 0
    assert await drafts(sides.ann) == {}


async def test_base_a_theirs_b_mine_c_is_a_conflict(sides: Sides) -> None:
    await sides.given(**{sides.field: "A"})
    await sides.given("B")
    await sides.ann.draft("A", {sides.field: "C"})
    await sides.ann.draft("B", {sides.field: "C"})
    await sides.theirs({sides.field: "B"})
    expected = [{"id": "A", "field": sides.field, "base": "A", "theirs": "B", "mine": "C"}]
    assert await conflicts(sides.ann) == expected
    # Nothing of it was committed, the row without a conflict neither.
    found = await drafts(sides.ann)
    assert {key: (row["syncState"], row["delta"], row["conflicts"]) for key, row in found.items()} == {
        "A": ("conflict", {sides.field: "C"}, expected),
        "B": ("draft", {sides.field: "C"}, []),
    }
    assert (await sides.ann.rows(syncState="conflict"))[0]["conflicts"] == expected


async def test_other_cells_of_a_row_merge(sides: Sides) -> None:
    """Differing versions alone are no conflict: what matters is the cell."""
    await sides.given(**{sides.field: "A", sides.other: "A"})
    await sides.ann.draft("A", {sides.field: "mine"})
    await sides.theirs({sides.other: "theirs"})
    assert (await committed(sides.ann))["committed"] == 1
    assert await sides.value(sides.field) == "mine"
    if sides.contract is FLEET:
        assert await sides.value(sides.other) == "theirs"


async def test_absent_is_null_in_a_merge(sides: Sides) -> None:
    await sides.given()
    await sides.ann.draft("A", {sides.field: None})
    assert (await committed(sides.ann))["committed"] == 0
    await sides.ann.draft("A", {sides.field: "mine"})
    await sides.theirs({sides.field: "theirs"})
    assert await conflicts(sides.ann) == [
        {"id": "A", "field": sides.field, "base": None, "theirs": "theirs", "mine": "mine"}
    ]


async def test_absent_is_null_in_a_row_that_is_deleted(sides: Sides) -> None:
    """Given a drafted deletion, when a cell that was not there is written and taken away again, then the row is as it
    was, though it has a null more.
    """
    await sides.given()
    await sides.ann.draft("A", op="delete")
    for value in ("theirs", None):
        await sides.theirs({sides.field: value})
    assert (await drafts(sides.ann))["A"]["conflicts"] == []
    saved = await sides.ann.draft("A", op="delete", base={sides.field: None})
    assert saved["syncState"] == "draft"
    assert (await committed(sides.ann))["committed"] == 1


async def test_row_deleted_and_edited_is_a_conflict(sides: Sides) -> None:
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", {sides.field: "C"})
    await sides.theirs(op="delete")
    [conflict] = await conflicts(sides.ann)
    assert (conflict["id"], conflict["field"], conflict["theirs"]) == ("A", None, None)
    assert (conflict["base"][sides.field], conflict["mine"][sides.field]) == ("A", "C")
    shown = (await drafts(sides.ann))["A"]
    assert (shown["syncState"], shown["op"], shown["conflicts"]) == ("conflict", "update", [conflict])
    assert shown["data"][sides.field] == "C"


async def test_row_edited_and_deleted_is_a_conflict(sides: Sides) -> None:
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", op="delete")
    await sides.theirs({sides.field: "B"})
    [conflict] = await conflicts(sides.ann)
    assert (conflict["id"], conflict["field"], conflict["mine"]) == ("A", None, None)
    assert (conflict["base"][sides.field], conflict["theirs"][sides.field]) == ("A", "B")
    assert (await drafts(sides.ann))["A"]["syncState"] == "conflict"
    # Whoever deletes again, having seen it, settles it.
    assert (await sides.ann.draft("A", op="delete"))["syncState"] == "draft"
    assert (await committed(sides.ann))["committed"] == 1


async def test_row_deleted_and_deleted_is_deleted(sides: Sides) -> None:
    await sides.given()
    await sides.given("B")
    await sides.ann.draft("A", op="delete")
    await sides.ann.draft("B", {sides.field: "x"})
    await sides.theirs(op="delete")
    assert (await committed(sides.ann))["committed"] == 1
    assert set(await drafts(sides.ann)) == ({"B"} if sides.contract is PFA else set())


async def test_both_inserted_the_same_is_no_conflict(sides: Sides) -> None:
    await sides.ann.draft("X", sides.new, op="insert")
    await sides.theirs(sides.new, "X", op="insert")
    assert (await committed(sides.ann))["committed"] == 0
    assert await drafts(sides.ann) == {}


async def test_both_inserted_with_one_key_is_a_conflict_a_cell(sides: Sides) -> None:
    first, second = next(iter(sides.new)), sides.field
    await sides.ann.draft("X", {**sides.new, first: "mine", second: "mine"}, op="insert")
    await sides.theirs({**sides.new, first: "theirs"}, "X", op="insert")
    # What bob's row leaves out was null before and is null now: there ann's value is a change like any other.
    assert await conflicts(sides.ann) == [
        {"id": "X", "field": first, "base": None, "theirs": "theirs", "mine": "mine"}
    ]  # fmt: skip
    resolution = {"id": "X", "field": first, "use": "mine"}
    assert (await committed(sides.ann, resolutions=[resolution]))["committed"] == 1
    assert (await sides.value(first, "X"), await sides.value(second, "X")) == ("mine", "mine")


# --- atomic groups


async def test_an_atomic_group_is_one_cell_under_its_name(sides: Sides) -> None:
    """Two dates belong together: a new start and a new end by two people conflict, although the fields differ."""
    start, end = sides.start, sides.end
    await sides.given(**{start: "2026-01-01", end: "2026-12-31"})
    await sides.ann.draft("A", {start: "2026-02-01"})
    await sides.theirs({end: "2026-11-30"})
    expected = {
        "id": "A",
        "field": sides.group,
        "base": {start: "2026-01-01", end: "2026-12-31"},
        "theirs": {start: "2026-01-01", end: "2026-11-30"},
        "mine": {start: "2026-02-01", end: "2026-12-31"},
    }
    assert await conflicts(sides.ann) == [expected]
    assert (await drafts(sides.ann))["A"]["conflicts"] == [expected]
    # A new edit of either field settles the whole cell.
    assert (await sides.ann.draft("A", {start: "2026-03-01"}))["syncState"] == "draft"
    assert (await committed(sides.ann))["committed"] == 1
    assert await sides.value(start) == "2026-03-01"


async def test_a_group_that_converged_or_that_nobody_else_touched_is_no_conflict(sides: Sides) -> None:
    start, end = sides.start, sides.end
    await sides.given(**{start: "2026-01-01", end: "2026-12-31"})
    await sides.given("B", **{start: "2026-01-01", end: "2026-12-31"})
    await sides.ann.draft("A", {start: "2026-02-01", end: "2026-11-30"})
    await sides.ann.draft("B", {start: "2026-02-01"})
    await sides.theirs({start: "2026-02-01", end: "2026-11-30"})
    await sides.theirs({sides.field: "theirs"}, "B")
    assert (await committed(sides.ann))["committed"] == 1
    assert await sides.value(end, "B") == "2026-12-31"


async def test_the_sourcing_of_a_line_is_one_cell(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(source="Rental", monthlyRate=10, purchasePrice=None)})
    await ann.draft("A", {"monthlyRate": 11})
    await bob.draft("A", {"source": "Purchase", "purchasePrice": 900})
    await committed(bob)
    [conflict] = await conflicts(ann)
    assert conflict == {
        "id": "A",
        "field": "sourcing",
        "base": {"source": "Rental", "monthlyRate": 10, "purchasePrice": None},
        "theirs": {"source": "Purchase", "monthlyRate": 10, "purchasePrice": 900},
        "mine": {"source": "Rental", "monthlyRate": 11, "purchasePrice": None},
    }


# --- resolutions


async def conflicting(sides: Sides) -> None:
    """Row A conflicts in a single cell and in a group; its other field is ann's alone. Row B is ann's alone."""
    await sides.given(**{sides.field: "A", sides.start: "2026-01-01", sides.end: "2026-12-31"})
    await sides.given("B")
    mine = {sides.field: "mine", sides.start: "2026-02-01", sides.other: "alone"}
    await sides.ann.draft("A", mine)
    await sides.ann.draft("B", {sides.field: "mine"})
    await sides.theirs({sides.field: "theirs", sides.end: "2026-11-30"})


@pytest.mark.parametrize(
    ("cell", "group", "expected"),
    [
        ({"use": "mine"}, {"use": "mine"}, ("mine", "2026-02-01", "2026-12-31")),
        ({"use": "theirs"}, {"use": "theirs"}, ("theirs", "2026-01-01", "2026-11-30")),
        (
            {"use": "value", "value": "third"},
            {"use": "value", "value": {"start": "2026-05-01", "end": "2026-06-01"}},
            ("third", "2026-05-01", "2026-06-01"),
        ),
        ({"use": "value", "value": None}, {"use": "mine"}, (None, "2026-02-01", "2026-12-31")),
        ({"use": "theirs"}, {"use": "mine"}, ("theirs", "2026-02-01", "2026-12-31")),
    ],
)
async def test_single_cells_and_groups_are_resolved(
    sides: Sides, cell: dict[str, Any], group: dict[str, Any], expected: Sequence[Any]
) -> None:
    """Mine, theirs or a given value for each; ann's own cells and rows come along."""
    await conflicting(sides)
    await conflicts(sides.ann)
    if isinstance(value := group.get("value"), dict):
        group = {**group, "value": {sides.start: value["start"], sides.end: value["end"]}}
    one = {"id": "A", "field": sides.field, **cell}
    assert [found["field"] for found in await conflicts(sides.ann, resolutions=[one])] == [sides.group]
    answer = await committed(sides.ann, resolutions=[one, {"id": "A", "field": sides.group, **group}])
    assert answer["committed"] == 2
    if sides.contract is PFA:
        # On the way upstream: bob's change, and over it ann's.
        row = (await sides.bob.row("A"))["data"]
        for _, _, _, _, delta, _ in (change for change in await changes(sides.world) if change[0] == "A"):
            row |= delta
    else:
        row = await mirrored(sides.world, "A") or {}
    assert (row[sides.field], row[sides.start], row[sides.end], row[sides.other]) == (*expected, "alone")
    assert await sides.value(sides.field, "B") == "mine"


async def test_a_group_is_resolved_by_the_name_of_any_of_its_fields(sides: Sides) -> None:
    await conflicting(sides)
    by_field = [{"id": "A", "field": sides.field, "use": "theirs"}, {"id": "A", "field": sides.end, "use": "mine"}]
    await committed(sides.ann, resolutions=by_field)
    assert await sides.value(sides.start) == "2026-02-01"


async def test_a_row_deleted_elsewhere_is_inserted_again_or_let_go(sides: Sides) -> None:
    for key in "AB":
        await sides.given(key, **{sides.field: "A", sides.other: "kept"})
        await sides.ann.draft(key, {sides.field: "C"})
        await sides.theirs(key=key, op="delete")
    assert [(found["id"], found["field"]) for found in await conflicts(sides.ann)] == [("A", None), ("B", None)]
    again = {"id": "A", "field": None, "use": "mine"}
    gone = {"id": "B", "field": None, "use": "theirs"}
    assert (await committed(sides.ann, resolutions=[again, gone]))["committed"] == 1
    row = await sides.ann.row("A")
    assert (row["data"][sides.field], row["data"][sides.other], row["data"][sides.contract.text_key]) == (
        "C",
        "kept",
        "A",
    )
    assert set(await drafts(sides.ann)) == ({"A"} if sides.contract is PFA else set())
    if sides.contract is PFA:
        assert [change[:3] for change in await changes(sides.world)] == [
            ("A", "bob", "delete"), ("B", "bob", "delete"), ("A", "ann", "insert"),
        ]  # fmt: skip
    else:
        assert await mirrored(sides.world, "B") is None


async def test_a_row_edited_elsewhere_is_deleted_after_all_or_kept(sides: Sides) -> None:
    for key in "AB":
        await sides.given(key, **{sides.field: "A"})
        await sides.ann.draft(key, op="delete")
        await sides.theirs({sides.field: "B"}, key)
    await conflicts(sides.ann)
    delete = {"id": "A", "field": None, "use": "mine"}
    keep = {"id": "B", "field": None, "use": "theirs"}
    assert (await committed(sides.ann, resolutions=[delete, keep]))["committed"] == 1
    assert "B" not in await drafts(sides.ann)
    assert ids(await sides.ann.rows()) == ["B"]
    if sides.contract is FLEET:
        assert await mirrored(sides.world, "A") is None


async def test_a_whole_row_of_cells_is_resolved_at_once(sides: Sides) -> None:
    """Where single cells conflict, the whole row as mine means each of them, and as theirs gives up the draft."""
    await conflicting(sides)
    await conflicts(sides.ann)
    assert (await committed(sides.ann, "A", resolutions=[{"id": "A", "field": None, "use": "mine"}]))["committed"] == 1
    row = (await sides.ann.row("A"))["data"]
    cells = [row[name] for name in (sides.field, sides.start, sides.end, sides.other)]
    if sides.contract is FLEET:
        assert cells == ["mine", "2026-02-01", "2026-12-31", "alone"]
    else:
        assert (await changes(sides.world))[-1][2:5] == (
            "update",
            {sides.field: "theirs", sides.start: "2026-01-01", sides.end: "2026-11-30", sides.other: "Heavy"},
            {sides.field: "mine", sides.start: "2026-02-01", sides.end: "2026-12-31", sides.other: "alone"},
        )
    await sides.ann.draft("X", {**sides.new, sides.field: "mine"}, op="insert")
    await sides.theirs({**sides.new, sides.field: "theirs"}, "X", op="insert")
    await conflicts(sides.ann, "X")
    assert (await committed(sides.ann, "X", resolutions=[{"id": "X", "field": None, "use": "mine"}]))["committed"] == 1
    assert await sides.value(sides.field, "X") == "mine"


async def test_a_whole_row_given_up_leaves_nothing_drafted(sides: Sides) -> None:
    await conflicting(sides)
    assert (await committed(sides.ann, "A", resolutions=[{"id": "A", "field": None, "use": "theirs"}]))[
        "committed"
    ] == 0
    assert list(await drafts(sides.ann)) == ["B"]


async def test_a_deletion_of_a_row_that_is_gone_needs_no_resolution_and_bears_one(sides: Sides) -> None:
    await sides.given()
    await sides.given("B")
    await sides.ann.draft("A", op="delete")
    await sides.theirs(op="delete")
    await sides.ann.draft("B", op="delete")
    mine = {"id": "B", "field": None, "use": "mine"}
    if sides.contract is PFA:
        mine["id"] = "A"
    assert (await committed(sides.ann, resolutions=[mine]))["committed"] == 1


async def test_a_resolution_that_fits_nothing_is_refused(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="A"), "B": line(), "D": line()})
    await ann.draft("A", {"model": "mine"})
    await ann.draft("B", {"model": "mine"})
    await ann.draft("D", op="delete")
    await bob.draft("A", {"model": "theirs"})
    await committed(bob)
    cell: dict[str, Any] = {"id": "A", "field": "model"}
    wrong: list[tuple[list[dict[str, Any]], str]] = [
        ([{"id": "X", "field": "model", "use": "mine"}], "INVALID_RESOLUTION"),
        ([{"id": "B", "field": "model", "use": "mine"}], "INVALID_RESOLUTION"),
        ([{"id": "A", "field": "nothing", "use": "mine"}], "INVALID_RESOLUTION"),
        ([{"id": "A", "field": "class", "use": "mine"}], "INVALID_RESOLUTION"),
        ([{"id": "A", "field": "sourcing", "use": "theirs"}], "INVALID_RESOLUTION"),
        ([{"id": "D", "field": "model", "use": "mine"}], "INVALID_RESOLUTION"),
        ([{**cell, "use": "mine"}, {**cell, "use": "theirs"}], "INVALID_RESOLUTION"),
        ([{**cell, "use": "value"}], "INVALID_RESOLUTION"),
        ([{**cell, "use": "mine", "value": "x"}], "INVALID_RESOLUTION"),
        ([{"id": "A", "field": None, "use": "value", "value": {}}], "INVALID_RESOLUTION"),
        ([{"id": "A", "field": "sourcing", "use": "value", "value": 7}], "INVALID_RESOLUTION"),
        ([{"id": "A", "field": "sourcing", "use": "value", "value": {"model": "x"}}], "INVALID_RESOLUTION"),
        ([{**cell, "use": "value", "value": 7}], "INVALID_TYPE"),
        ([{"id": "A", "field": "monthlyRate", "use": "value", "value": -1}], "INVALID_RANGE"),
        ([{"id": "A", "field": "pfaId", "use": "value", "value": "X"}], "READ_ONLY_FIELD"),
    ]
    for resolutions, code in wrong:
        body = {"ids": ["A", "D"], "resolutions": resolutions}
        problem = refused(await ann.post("commit", body), 422, "VALIDATION_FAILED")
        assert {error["code"] for error in problem["errors"]} == {code}, resolutions
    malformed: list[dict[str, Any]] = [
        {"id": "A", "use": "mine"},
        {"id": "A", "field": "model", "use": "ours"},
        {"field": "model", "use": "mine"},
    ]
    for resolution in malformed:
        refused(await ann.commit(resolutions=[resolution]), 400, "MALFORMED_REQUEST")
    assert (await ann.row("A"))["delta"] == {"model": "mine"}


async def test_a_new_edit_of_the_cell_settles_a_conflict(sides: Sides) -> None:
    await conflicting(sides)
    await conflicts(sides.ann)
    assert (await sides.ann.row("A"))["syncState"] == "conflict"
    # Another cell does not, nor does one of the two that conflict.
    await sides.ann.draft("A", {sides.other: "again"})
    assert len((await sides.ann.row("A"))["conflicts"]) == 2
    saved = await sides.ann.draft("A", {sides.field: "mine"})
    assert saved["syncState"] == "conflict"
    assert [found["field"] for found in (await sides.ann.row("A"))["conflicts"]] == [sides.group]
    # Taken out of the draft, the cell is theirs.
    assert (await sides.ann.draft("A", unset=[sides.start]))["syncState"] == "draft"
    row = await sides.ann.row("A")
    assert (row["conflicts"], row["base"][sides.field]) == ([], "theirs")
    assert (await committed(sides.ann))["committed"] == 2
    assert await sides.value(sides.field) == "mine"


async def test_an_edit_after_the_whole_row_conflicted_settles_it(sides: Sides) -> None:
    """A deletion over an edit, then an edit over that: whoever writes has seen what became of the row."""
    await sides.given(**{sides.field: "A"})
    await sides.ann.draft("A", op="delete")
    await sides.theirs({sides.field: "B"})
    await conflicts(sides.ann)
    assert (await sides.ann.draft("A", {sides.field: "C"}))["syncState"] == "draft"
    assert (await committed(sides.ann))["committed"] == 1
    assert await sides.value(sides.field) == "C"


async def test_a_row_deleted_under_a_draft_can_be_inserted_again(sides: Sides) -> None:
    await sides.given(**{sides.field: "A", sides.other: "kept"})
    await sides.ann.draft("A", {sides.field: "C"})
    await sides.theirs(op="delete")
    await conflicts(sides.ann)
    answer = await sides.ann.post("drafts", {"modifications": [{"id": "A", "delta": {sides.field: "D"}}]})
    assert refused(answer, 422, "VALIDATION_FAILED")["errors"][0]["code"] == "ROW_DELETED"
    assert (await sides.ann.draft("A", {sides.field: "D"}, op="insert"))["syncState"] == "draft"
    assert (await committed(sides.ann))["committed"] == 1
    assert (await sides.value(sides.field), await sides.value(sides.other)) == ("D", "kept")


async def test_a_resolution_is_a_new_version_of_the_draft(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="A", equipment="E")})
    await ann.draft("A", {"equipment": "F"})
    await committed(ann)
    version = (await ann.draft("A", {"model": "mine"}))["version"]
    await bob.draft("A", {"model": "theirs"})
    await committed(bob)
    await committed(ann, resolutions=[{"id": "A", "field": "model", "use": "theirs"}])
    row = await ann.row("A")
    assert (row["delta"], row["pending"], row["syncState"]) == ({}, {"equipment": "F"}, "committed")
    assert row["version"] > version


# --- with an upstream: the outbox


async def test_a_commit_with_an_upstream_waits_in_the_outbox(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="M1", monthlyRate=10), "B": line(), "C": line(category="Pumps")})
    await ann.draft("A", {"model": "M2", "monthlyRate": 11})
    await ann.draft("B", op="delete")
    await ann.draft("new", NEW, op="insert")
    answer = await committed(ann)
    assert (answer["committed"], answer["revision"]) == (3, 0)

    sourcing = {"source": "Rental", "monthlyRate": 10, "purchasePrice": None}
    whole = {"pfaId": "B", **line()}
    added = {**NEW, "hasPlan": False, "hasActuals": False}
    assert await changes(world) == [
        ("A", "ann", "update", {"model": "M1", **sourcing}, {"model": "M2", "monthlyRate": 11}, "committed"),
        ("B", "ann", "delete", whole, {}, "committed"),
        ("new", "ann", "insert", {}, added, "committed"),
    ]
    assert {str(row["commit_id"]) for row in await world.db.fetch("SELECT commit_id FROM pfa.change")} == {
        answer["commitId"]
    }
    # The mirror is as it was, and so is the view of everybody else; ann sees what she committed.
    assert await world.db.fetchval("SELECT count(*) FROM pfa.mirror WHERE version = 1 AND revision = 1") == 3
    assert [(row["id"], row["data"].get("model")) for row in await bob.rows(sort="id")] == [
        ("A", "M1"), ("B", None), ("C", None),
    ]  # fmt: skip
    page = await ann.page(sort="id", category="Cranes")
    assert [(row["id"], row["syncState"], row["data"].get("model")) for row in page["data"]] == [
        ("A", "committed", "M2"), ("new", "committed", None),
    ]  # fmt: skip
    assert page["pagination"]["totalRecords"] == 2
    deleted = await ann.row("B")
    assert (deleted["op"], deleted["syncState"], deleted["delta"]) == ("delete", "committed", {})


async def test_one_drafts_on_over_what_is_pending(world: World, ann: User) -> None:
    """Given a change on its way, when ann edits on, then she sees all three layers, and commits only the last."""
    await world.mirror({"A": line(model="M0", equipment="E0", manufacturer="K0")})
    await ann.draft("A", {"model": "M1", "equipment": "E1"})
    await committed(ann)
    await ann.draft("A", {"model": "M2", "class": "Light"})
    row = await ann.row("A")
    assert (row["syncState"], row["modifiedFields"]) == ("draft", ["class", "equipment", "model"])
    assert (row["pending"], row["delta"]) == ({"model": "M1", "equipment": "E1"}, {"model": "M2", "class": "Light"})
    assert (row["base"], row["data"]["equipment"]) == ({"model": "M1", "class": "Heavy"}, "E1")
    # Back to what the mirror has is a change all the same.
    await ann.draft("A", {"equipment": "E0"})
    assert (await committed(ann))["committed"] == 1
    assert [change[4] for change in await changes(world)] == [
        {"model": "M1", "equipment": "E1"},
        {"model": "M2", "class": "Light", "equipment": "E0"},
    ]
    row = await ann.row("A")
    assert row["pending"] == {"model": "M2", "class": "Light", "equipment": "E0"}
    # Discarding a draft falls back on what is pending.
    await ann.draft("A", {"model": "M3"})
    assert written(await ann.discard()) == {"discarded": 1}
    row = await ann.row("A")
    assert (row["syncState"], row["delta"], row["data"]["model"]) == ("committed", {}, "M2")


async def test_one_drafts_on_over_a_pending_insert(world: World, ann: User) -> None:
    await ann.draft("new", NEW, op="insert")
    await committed(ann)
    await ann.draft("new", {"model": "M"})
    row = await ann.row("new")
    assert (row["op"], row["syncState"], row["data"]["model"]) == ("update", "draft", "M")
    await committed(ann)
    assert [(change[0], change[2]) for change in await changes(world)] == [("new", "insert"), ("new", "update")]
    assert ids(await ann.rows()) == ["new"]
    await ann.draft("new", op="delete")
    assert await ann.rows() == []
    await committed(ann)
    assert [change[2] for change in await changes(world)] == ["insert", "update", "delete"]
    assert (await ann.page())["pagination"]["totalRecords"] == 0


# --- the mirror changes under others' drafts


async def test_others_drafts_follow_the_mirror(world: World, ann: User, bob: User) -> None:
    """Given ann's drafts, when bob's commit changes their rows, then her filters, totals and sorts are exact."""
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({key: vehicle(depot="North", mileage=n) for n, key in enumerate("ABCD")}, contract=FLEET)
    await ann.draft("A", {"remark": "mine"})
    await ann.draft("B", {"depot": "South"})
    await ann.draft("C", {"depot": "South"})
    await bob.draft("A", {"depot": "East", "mileage": 99})
    await bob.draft("B", {"mileage": 98})
    await bob.draft("C", {"depot": "South"})
    await committed(bob)

    async def found(**params: Any) -> list[str]:
        page = await ann.page(**params)
        assert page["pagination"]["totalRecords"] == len(page["data"])
        return ids(page["data"])

    assert await found(depot="North") == ["D"]
    assert await found(depot="South", sort="-mileage") == ["B", "C"]
    assert await found(depot="East") == ["A"]
    assert await found(**{"mileage[gte]": "98"}, sort="mileage") == ["B", "A"]
    assert await found(syncState="draft", sort="id") == ["A", "B", "C"]
    assert await found(sort="mileage") == ["C", "D", "B", "A"]
    assert (await ann.row("A"))["data"]["depot"] == "East"
    assert written(await ann.discard()) == {"discarded": 3}
    assert await found(depot="South") == ["C"]
    assert await found(depot="North", sort="id") == ["B", "D"]


async def test_others_drafts_show_their_conflicts_at_once(world: World, ann: User, bob: User) -> None:
    """Given drafts on rows that bob changes, deletes and inserts, then ann sees what conflicts before she commits."""
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({key: vehicle(remark="A", depot="North") for key in "ABCDE"}, contract=FLEET)
    await ann.draft("A", {"remark": "mine"})
    await ann.draft("B", {"remark": "same"})
    await ann.draft("C", {"remark": "mine"})
    await ann.draft("D", op="delete")
    await ann.draft("E", op="delete")
    await ann.draft("X", {**BUS, "depot": "mine"}, op="insert")
    tag = (await ann.get("rows")).headers["ETag"]

    await bob.draft("A", {"remark": "theirs"})
    await bob.draft("B", {"remark": "same"})
    await bob.draft("C", op="delete")
    await bob.draft("D", {"remark": "theirs"})
    await bob.draft("E", op="delete")
    await bob.draft("X", {**BUS, "depot": "theirs"}, op="insert")
    await committed(bob)

    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 200
    found = await drafts(ann)
    assert {key: row["syncState"] for key, row in found.items()} == {
        "A": "conflict", "B": "draft", "C": "conflict", "D": "conflict", "X": "conflict",
    }  # fmt: skip
    shown = {key: [(c["field"], c["theirs"]) for c in row["conflicts"]] for key, row in found.items()}
    assert shown["A"] == [("remark", "theirs")]
    assert shown["C"] == [(None, None)]
    assert [field for field, _ in shown["D"]] == [None]
    assert shown["X"] == [("depot", "theirs")]
    # The row deleted elsewhere has left the list and its totals; what ann deletes herself is not in it either.
    page = await ann.page(sort="id")
    assert ids(page["data"]) == ["A", "B", "X"]
    assert page["pagination"]["totalRecords"] == 3
    gone = await ann.row("C")
    assert (gone["syncState"], gone["data"]["remark"], gone["mirrorVersion"]) == ("conflict", "mine", 0)
    assert {row["syncState"] for row in await ann.rows(syncState="conflict,draft")} == {"conflict", "draft"}
    expected = sorted((key, field) for key, cells in shown.items() for field, _ in cells)
    assert sorted((c["id"], c["field"]) for c in await conflicts(ann)) == expected


async def test_a_row_that_came_back_otherwise_is_a_conflict(world: World, ann: User, bob: User) -> None:
    """Given drafts of cells without a value, when others delete the row and insert it again with one in the cell, or in
    the rest of its group, then the commit refuses what the list shows.
    """
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await ann.draft("A", {"remark": "mine", "firstDay": "2026-01-01"})
    await bob.draft("A", op="delete")
    await committed(bob, "A")
    await bob.draft("A", vehicle(remark="theirs", lastDay="2026-02-02"), op="insert")
    await committed(bob, "A")
    problem = refused(await ann.commit("A"), 409, "MERGE_CONFLICT")
    assert problem["conflicts"] == (await drafts(ann))["A"]["conflicts"]
    assert [(each["field"], each["theirs"]) for each in problem["conflicts"]] == [
        ("remark", "theirs"), ("service", {"firstDay": None, "lastDay": "2026-02-02"})
    ]  # fmt: skip


async def test_a_conflict_that_goes_away_is_shown_no_more(world: World, ann: User, bob: User) -> None:
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"A": vehicle(remark="A")}, contract=FLEET)
    await ann.draft("A", {"remark": "mine"})
    await bob.draft("A", {"remark": "theirs"})
    await committed(bob)
    assert (await ann.row("A"))["syncState"] == "conflict"
    await bob.draft("A", {"remark": "mine"})
    await committed(bob)
    row = await ann.row("A")
    assert (row["syncState"], row["conflicts"]) == ("draft", [])
    assert (await committed(ann))["committed"] == 0


async def test_a_refused_commit_with_a_key_shows_its_conflicts_too(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="A")})
    await ann.draft("A", {"model": "mine"})
    await bob.draft("A", {"model": "theirs"})
    await committed(bob)
    response = await ann.post("commit", {"all": True}, headers={"Idempotency-Key": "k"})
    refused(response, 409, "MERGE_CONFLICT")
    assert (await ann.row("A"))["syncState"] == "conflict"
    assert (await ann.draft("A", {"model": "mine"}))["syncState"] == "draft"


async def test_a_lost_update_is_not_possible(world: World) -> None:
    """Given many people who each raise another field's worth on one row, then every commit is in the mirror."""
    people = [(await world.user(f"user{n}")).on("fleet") for n in range(4)]
    fields = ["remark", "mileage", "seats", "inspectedOn"]
    values: list[Any] = ["r", 7, 9, "2026-05-05"]
    await world.mirror({"A": vehicle()}, contract=FLEET)
    for person, field, value in zip(people, fields, values, strict=True):
        await person.draft("A", {field: value})
    answers: list[httpx.Response] = [await person.commit() for person in people]
    assert [answer.json()["revision"] for answer in answers] == [1, 2, 3, 4]
    row = await mirrored(world, "A") or {}
    assert [row[field] for field in fields] == values


def test_every_state_of_the_contract_is_a_filter() -> None:
    assert set(SYNC_STATES) == {"pristine", "draft", "in_review", "committed", "syncing", "conflict", "sync_error"}


@pytest.mark.parametrize(
    "resolutions",
    [
        [{"field": None, "use": "mine"}, {"field": "mileage", "use": "value", "value": 99}],
        [{"field": "service", "use": "mine"}, {"field": "firstDay", "use": "theirs"}],
        [{"field": "mileage", "use": "mine"}, {"field": "mileage", "use": "theirs"}],
    ],
)
async def test_resolutions_that_contradict_each_other_are_refused(
    world: World, ann: User, bob: User, resolutions: list[dict[str, Any]]
) -> None:
    """Given a cell that is resolved in two ways, when ann commits, then she is asked again and nothing is committed."""
    await world.mirror({"A": vehicle(mileage=1, firstDay="2026-01-01")}, contract=FLEET)
    fleet = ann.on("fleet")
    await fleet.draft("A", {"mileage": 2, "firstDay": "2026-01-02"})
    await bob.on("fleet").draft("A", {"mileage": 3, "firstDay": "2026-01-03"})
    assert (await bob.on("fleet").commit()).status_code == 200
    answer = await fleet.commit(resolutions=[{"id": "A", **resolution} for resolution in resolutions])
    assert refused(answer, 422, "VALIDATION_FAILED")["errors"][0]["code"] == "INVALID_RESOLUTION"


async def test_a_row_that_was_in_the_outbox_only_is_inserted_again_whole(world: World, ann: User, bob: User) -> None:
    """Given bob's new row and its deletion, both on their way, when ann takes hers, then all of the row comes back."""
    await bob.draft("X", {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 5}, op="insert")
    assert (await bob.commit()).status_code == 200
    await ann.draft("X", {"model": "M"})
    await bob.draft("X", op="delete")
    assert (await bob.commit()).status_code == 200
    refused(await ann.commit("X"), 409, "MERGE_CONFLICT")
    answer = await ann.commit("X", resolutions=[{"id": "X", "field": None, "use": "mine"}])
    assert (answer.status_code, answer.json()["committed"]) == (200, 1)
    row = await ann.row("X")
    assert {name: row["data"][name] for name in ("category", "dor", "model")} == {
        "category": "Cranes",
        "dor": "BEO",
        "model": "M",
    }
