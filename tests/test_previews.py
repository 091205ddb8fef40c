"""Previews: what a session comes to, what validation says of it, and the digest of all that."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.base import exact_json
from app.contracts.states import EDITABLE, SessionState
from app.migrate import migrate
from app.previews.changes import BATCH
from app.previews.findings import MAX_MESSAGES
from app.previews.look import MAX_SHOWN
from app.web.auth import Role
from tests.support.records import begin_session, log_edit, settle
from tests.support.world import (
    CONTRACTS,
    FLEET,
    LAB,
    NEW,
    User,
    World,
    committed,
    instrument,
    line,
    open_world,
    refused,
    vehicle,
    written,
)

SID = "s-1"
PREVIEW = f"sessions/{SID}/preview"
VALIDATION = f"sessions/{SID}/validation"
OVERRIDE = f"sessions/{SID}/validation/override"


@pytest.fixture
async def ann(world: World) -> User:
    """An analyst of acme, with an open session."""
    ann = await world.user("ann")
    await begin_session(world, ann, SID)
    return ann


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[World]:
    """A world with the laboratory, whose contract has rules of every type and severity."""
    migrate(database_url, (*CONTRACTS, LAB))
    async with open_world(database_url, (*CONTRACTS, LAB)) as world:
        await world.organization("acme")
        await world.db.execute(
            "INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'lab', $1)", LAB.version
        )
        yield world


@pytest.fixture
async def eva(lab: World) -> User:
    """An analyst in the laboratory, with an open session."""
    eva = (await lab.user("eva")).on("lab")
    await begin_session(lab, eva, SID)
    return eva


async def edit(user: User, key: str, delta: Mapping[str, Any] | None = None, sid: str = SID, **more: Any) -> None:
    """A draft of the session."""
    response = await user.post(
        "drafts", {"sessionId": sid, "modifications": [{"id": key, "delta": delta or {}, **more}]}
    )
    assert response.status_code == 200, response.text


async def previewed(user: User, sid: str = SID, **body: Any) -> dict[str, Any]:
    """The whole answer, numbers with their digits."""
    response = await user.post(f"sessions/{sid}/preview", body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def digest(user: User) -> str:
    """The digest of a preview made now."""
    return str((await previewed(user))["digest"])


def cells(answer: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The differences as (id, field, old, new)."""
    return [(each["id"], each["field"], each["old"], each["new"]) for each in answer["diffs"]]


def said(answer: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What validation says, as (id, field, severity, code)."""
    messages = answer.get("validation", answer)["messages"]
    return [(each["id"], each["field"], each["severity"], each["code"]) for each in messages]


async def state_of(world: World, sid: str = SID) -> tuple[Any, ...]:
    """A session's state, digest and run."""
    row = await world.db.fetchrow("SELECT state, digest, run_id::text FROM edit_session WHERE id = $1", sid)
    assert row is not None
    return tuple(row)


async def lay_over(world: World, key: str, delta: Mapping[str, Any], schema: str = "pfa") -> None:
    """A session has put these values into the draft, whatever their fields may take."""
    await world.db.execute(
        f"UPDATE {schema}.modification AS x SET delta = x.delta || $2,"
        "        base = x.base || (SELECT jsonb_object_agg(name, coalesce(m.data -> name, 'null'))"
        f"                            FROM {schema}.mirror AS m CROSS JOIN jsonb_object_keys($2) AS name"
        "                           WHERE m.row_key = $1)"
        "  WHERE x.row_key = $1",
        key, exact_json.encode(delta).decode(),
    )  # fmt: skip
    # Nobody has counted that; the dataset of a test has no trigger that says so.
    await world.db.execute("UPDATE workspace SET held_known = FALSE")


async def put_in_review(world: World, key: str, user: str, delta: Mapping[str, Any], **more: Any) -> None:
    """Somebody's change of a row that waits for a reviewer: no route of this release makes one."""
    given = {"op": "update", "state": "in_review", "base": {}} | more
    await world.db.execute(
        "INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, settled_at)"
        " VALUES ('acme', $1, $2, $3, $4, $5, $6, CASE WHEN $6 IN ('conflict', 'sync_error') THEN now() END)",
        key, user, given["op"], exact_json.encode(given["base"]).decode(), exact_json.encode(delta).decode(),
        given["state"],
    )  # fmt: skip


async def change_mirror(world: World, key: str, cells: Mapping[str, Any], schema: str = "pfa") -> None:
    """What a pull does to a row."""
    await world.db.execute(
        f"UPDATE {schema}.mirror SET data = data || $2, version = version + 1 WHERE row_key = $1",
        key, exact_json.encode(cells).decode(),
    )  # fmt: skip


# -- differences -------------------------------------------------------------------------------------------------------


async def test_a_difference_is_a_cell_as_theirs_has_it_and_as_the_session_wants_it(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="old"), "B": line(), "C": line()})
    await edit(ann, "A", {"model": "new", "monthlyRate": Decimal("2000.50")})
    await edit(ann, "B", {"equipment": "EQ"})
    answer = await previewed(ann)
    assert cells(answer) == [
        ("A", "model", "old", "new"),
        ("A", "monthlyRate", 1000, Decimal("2000.50")),
        ("B", "equipment", None, "EQ"),
    ]
    assert answer["summary"] == {
        "rowsChanged": 2, "rowsAdded": 0, "rowsUpdated": 2, "rowsDeleted": 0, "cellsChanged": 3
    }  # fmt: skip
    assert answer["pagination"] == {"pageSize": 100, "totalRecords": 3, "nextCursor": None}


async def test_drafts_of_no_session_or_of_another_are_not_in_it(world: World, ann: User) -> None:
    await world.mirror({key: line() for key in "ABC"})
    await begin_session(world, ann, "s-2")
    await edit(ann, "A", {"model": "mine"})
    await edit(ann, "B", {"model": "another"}, "s-2")
    await ann.draft("C", {"model": "none"})
    assert cells(await previewed(ann)) == [("A", "model", None, "mine")]
    assert cells(await previewed(ann, "s-2")) == [("B", "model", None, "another")]


async def test_what_equals_theirs_is_no_difference(world: World, ann: User) -> None:
    """Values are compared as the contract has them: 1000 equals 1000.0, absent equals null."""
    await world.mirror({"A": line(model="M", monthlyRate=1000)})
    await edit(ann, "A", {"monthlyRate": Decimal("1000.00"), "equipment": None, "model": "M"})
    answer = await previewed(ann)
    assert cells(answer) == []
    assert answer["summary"]["rowsChanged"] == 0


async def test_a_session_without_drafts_comes_to_nothing(world: World, ann: User) -> None:
    answer = await previewed(ann)
    assert (answer["diffs"], answer["summary"]["rowsChanged"], answer["validation"]["state"]) == ([], 0, "passed")
    assert answer["validation"]["canProceed"] is True


async def test_old_is_theirs_now(world: World, ann: User, bob: User) -> None:
    """With what others have committed, and what one has pending oneself; without what somebody else is drafting."""
    await world.mirror({key: line(model="mirror", equipment="mirror") for key in "ABC"})
    await ann.draft("A", {"equipment": "pending"})
    await committed(ann, "A")
    await edit(ann, "A", {"equipment": "new"})
    await edit(ann, "B", {"equipment": "new"})
    await bob.draft("B", {"model": "theirs"})
    await committed(bob, "B")
    await bob.draft("C", {"model": "drafted"})
    await edit(ann, "B", {"model": "mine"})
    await edit(ann, "C", {"model": "mine"})
    assert cells(await previewed(ann)) == [
        ("A", "equipment", "pending", "new"),
        ("B", "equipment", "mirror", "new"),
        ("B", "model", "theirs", "mine"),
        ("C", "model", "mirror", "mine"),
    ]


async def test_of_a_new_row_each_cell_with_a_value_is_a_difference(world: World, ann: User) -> None:
    await edit(ann, "new-1", {**NEW, "model": None}, op="insert")
    answer = await previewed(ann)
    derived = {"hasActuals": False, "hasPlan": False}
    assert cells(answer) == [("new-1", field, None, value) for field, value in sorted((NEW | derived).items())]
    assert (answer["summary"]["rowsAdded"], answer["summary"]["cellsChanged"]) == (1, 6)


async def test_a_row_that_is_deleted_is_one_difference(world: World, ann: User) -> None:
    row = line(model="M")
    await world.mirror({"A": row})
    await edit(ann, "A", op="delete")
    answer = await previewed(ann)
    assert cells(answer) == [("A", None, {"pfaId": "A"} | row, None)]
    assert answer["summary"] == {
        "rowsChanged": 1, "rowsAdded": 0, "rowsUpdated": 0, "rowsDeleted": 1, "cellsChanged": 0
    }  # fmt: skip
    assert answer["pagination"]["totalRecords"] == 1


async def test_a_deletion_of_what_is_gone_is_none(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", op="delete")
    await bob.draft("A", op="delete")
    await committed(bob, "A")
    answer = await previewed(ann)
    assert (answer["diffs"], answer["conflictCount"], answer["summary"]["rowsChanged"]) == ([], 0, 0)


async def test_a_new_row_that_is_there_by_now_is_held_against_it(world: World, ann: User) -> None:
    await edit(ann, "N", {**NEW, "model": "mine"}, op="insert")
    await world.mirror({"N": line(**NEW, model="theirs")})
    answer = await previewed(ann)
    assert cells(answer) == [("N", "model", "theirs", "mine")]
    assert answer["summary"]["rowsUpdated"] == 1
    assert [(each["field"], each["theirs"], each["mine"]) for each in answer["conflicts"]] == [
        ("model", "theirs", "mine")
    ]


async def test_a_cell_that_only_others_have_changed_is_no_difference(world: World, ann: User) -> None:
    """Given a cell that was drafted as it was, when others change it, then a commit would take theirs."""
    await world.mirror({"A": line(model="old", equipment="old")})
    await edit(ann, "A", {"model": "old", "equipment": "new"})
    await change_mirror(world, "A", {"model": "theirs"})
    answer = await previewed(ann)
    assert cells(answer) == [("A", "equipment", "old", "new")]
    assert answer["conflicts"] == []


async def test_differences_come_by_id_and_field_in_pages(world: World, ann: User) -> None:
    keys = [f"{key}{number}" for key in "aBé" for number in (2, 10)]
    await world.mirror({key: line() for key in keys})
    for key in keys:
        await edit(ann, key, {"model": key, "equipment": key, "manufacturer": key})
    await edit(ann, "a2", op="delete")
    whole = cells(await previewed(ann, pageSize=1000))
    assert [each[:2] for each in whole] == sorted((each[:2] for each in whole), key=lambda at: (at[0], at[1] or ""))
    assert len(whole) == 16
    first = await previewed(ann, pageSize=5)
    assert first["pagination"]["totalRecords"] == 16
    found, after = cells(first), first["pagination"]["nextCursor"]
    while after is not None:
        response = await ann.get(PREVIEW, {"pageSize": 5, "after": after})
        assert response.status_code == 200, response.text
        page = exact_json.decode(response.content)
        assert page["pagination"]["totalRecords"] is None
        found += cells(page)
        after = page["pagination"]["nextCursor"]
    assert found == whole


async def test_a_preview_can_begin_behind_a_cursor(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "M", "equipment": "E"})
    first = await previewed(ann, pageSize=1)
    second = await previewed(ann, pageSize=1, after=first["pagination"]["nextCursor"])
    assert [cells(page)[0][1] for page in (first, second)] == ["equipment", "model"]
    assert second["pagination"]["nextCursor"] is None
    assert second["digest"] == first["digest"]


async def test_a_page_ends_exactly_where_its_differences_do(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    for key in "AB":
        await edit(ann, key, {"model": "M", "equipment": "E"})
    assert (await previewed(ann, pageSize=4))["pagination"]["nextCursor"] is None
    assert (await previewed(ann, pageSize=2))["pagination"]["nextCursor"] is not None


# -- conflicts ---------------------------------------------------------------------------------------------------------


async def test_a_conflict_is_that_of_a_commit(world: World, ann: User) -> None:
    """Cells, an atomic group under its name, a row deleted under an edit, one edited under a deletion: a preview finds
    what the commit then refuses.
    """
    await world.mirror({key: line(model="old") for key in "ABCDE"})
    await edit(ann, "A", {"model": "mine", "equipment": "E"})
    await edit(ann, "B", {"forecastEnd": "2026-09-30"})
    await edit(ann, "C", {"model": "mine"})
    await edit(ann, "D", op="delete")
    await edit(ann, "E", {"model": "mine"})
    await change_mirror(world, "A", {"model": "theirs"})
    await change_mirror(world, "B", {"forecastStart": "2026-03-01"})
    await world.db.execute("DELETE FROM pfa.mirror WHERE row_key = 'C'")
    await change_mirror(world, "D", {"manufacturer": "theirs"})
    answer = await previewed(ann)
    refusal = await ann.post("commit", {"sessionId": SID})
    problem = refused(refusal, 409, "MERGE_CONFLICT")
    assert [each.pop("kind") for each in answer["conflicts"]] == ["cell", "group", "row_deleted", "row_deleted"]
    assert answer["conflicts"] == problem["conflicts"]
    assert answer["conflictCount"] == problem["conflictCount"] == 4
    assert [(each["id"], each["field"]) for each in answer["conflicts"]] == [
        ("A", "model"), ("B", "forecastDates"), ("C", None), ("D", None)
    ]  # fmt: skip
    assert cells(answer)[:3] == [
        ("A", "equipment", None, "E"),
        ("A", "model", "theirs", "mine"),
        ("B", "forecastEnd", "2026-07-31", "2026-09-30"),
    ]
    assert ("C", "model", None, "mine") in cells(answer)
    assert [each[:2] for each in cells(answer)[4:]] == [("D", None), ("E", "model")]


async def test_both_who_want_the_same_are_in_no_conflict(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="old")})
    await edit(ann, "A", {"model": "same"})
    await bob.draft("A", {"model": "same"})
    await committed(bob, "A")
    answer = await previewed(ann)
    assert (answer["diffs"], answer["conflicts"]) == ([], [])
    assert [each["field"] for each in answer["impact"]["overlaps"]] == ["model"]


async def test_many_conflicts_are_counted_and_the_first_are_shown(world: World, ann: User) -> None:
    keys = [f"R{number:04}" for number in range(MAX_SHOWN + 5)]
    await world.mirror({key: line() for key in keys})
    body = {"sessionId": SID, "modifications": [{"id": key, "delta": {"model": "mine"}} for key in keys]}
    assert (await ann.post("drafts", body)).status_code == 200
    await world.db.execute("""UPDATE pfa.mirror SET data = data || '{"model": "theirs"}'""")
    answer = await previewed(ann)
    assert answer["conflictCount"] == MAX_SHOWN + 5
    assert [each["id"] for each in answer["conflicts"]] == keys[:MAX_SHOWN]


# -- overlaps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["in_review", "committed", "conflict", "sync_error"])
async def test_what_others_have_on_their_way_in_the_same_cells_is_an_overlap(
    world: World, ann: User, bob: User, state: str
) -> None:
    """And no error: theirs has it only where it was committed."""
    await world.mirror({"A": line(), "B": line()})
    await edit(ann, "A", {"model": "mine"})
    await edit(ann, "B", {"model": "mine"})
    await put_in_review(world, "A", "bob", {"model": "bob's", "equipment": "bob's"}, state=state)
    answer = await previewed(ann)
    assert answer["impact"] == {
        "overlaps": [
            {"id": "A", "field": "model", "state": state, "requestId": None, "userId": "bob"}
            | {"userName": "bob", "value": "bob's"}
        ],
        "overlapCount": 1,
        "openRequests": [],
    }
    assert answer["validation"]["state"] == "passed"
    assert answer["conflictCount"] == (state == "committed")


async def test_an_atomic_group_overlaps_as_one_cell(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"forecastEnd": "2026-09-30"})
    base = {"forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"}
    await put_in_review(world, "A", "bob", {"forecastStart": "2026-03-01"}, base=base)
    (overlap,) = (await previewed(ann))["impact"]["overlaps"]
    assert (overlap["field"], overlap["value"]) == ("forecastDates", base | {"forecastStart": "2026-03-01"})


async def test_a_deletion_overlaps_every_cell_of_its_row(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    await edit(ann, "A", {"model": "mine"})
    await edit(ann, "B", op="delete")
    await put_in_review(world, "A", "bob", {}, op="delete")
    await put_in_review(world, "B", "bob", {"model": "bob's", "monthlyRate": 5}, base={"source": "Rental"})
    answer = await previewed(ann)
    assert [(each["id"], each["field"], each["value"]) for each in answer["impact"]["overlaps"]] == [
        ("A", None, None),
        ("B", "model", "bob's"),
        ("B", "sourcing", {"source": "Rental", "monthlyRate": 5, "purchasePrice": None}),
    ]


async def test_ones_own_changes_and_those_that_ended_overlap_nothing(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"model": "pending"})
    await committed(ann, "A")
    await edit(ann, "A", {"model": "mine"})
    for state in ("synced", "rejected", "discarded"):
        await world.db.execute(
            "INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, settled_at)"
            " VALUES ('acme', 'A', 'bob', 'update', '{}', '{\"model\": \"over\"}', $1, now())", state
        )  # fmt: skip
    assert (await previewed(ann))["impact"]["overlapCount"] == 0


async def test_who_overlaps_is_seen_by_members_of_the_organization_alone(world: World, ann: User) -> None:
    await world.organization("rival")
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "mine"})
    await world.db.execute(
        "INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state)"
        " VALUES ('rival', 'A', 'eve', 'update', '{}', '{\"model\": \"SECRET\"}', 'in_review')"
    )
    response = await ann.post(PREVIEW, {})
    assert "SECRET" not in response.text


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fresh", [True, False], ids=["from the view", "from rows"])
async def test_figures_before_and_after_are_of_the_session_alone(world: World, ann: User, *, fresh: bool) -> None:
    """Before is the baseline; after has the session's rows, and nothing else that the user has drafted or pending."""
    await world.mirror({key: line(monthlyRate=1000) for key in "ABCDE"})
    if fresh:
        await world.db.execute("SELECT pfa.refresh_kpi()")
    await ann.draft("E", {"monthlyRate": 7})
    await committed(ann, "E")
    await ann.draft("D", {"monthlyRate": 9})
    await edit(ann, "A", {"monthlyRate": 3000})
    await edit(ann, "B", op="delete")
    await edit(ann, "N", {**NEW, "monthlyRate": 500}, op="insert")
    kpis = (await previewed(ann))["kpis"]
    assert {name: kpis["before"][name] for name in ("rows", "monthlyRental", "drafts")} == {
        "rows": 5, "monthlyRental": 5000, "drafts": 0
    }  # fmt: skip
    assert {name: kpis["after"][name] for name in ("rows", "monthlyRental", "drafts")} == {
        "rows": 5, "monthlyRental": 6500, "drafts": 2
    }  # fmt: skip


async def test_figures_equal_those_of_kpis_where_there_is_nothing_but_the_session(world: World, ann: User) -> None:
    await world.mirror({key: line(isDiscontinued=key == "C") for key in "ABC"})
    await edit(ann, "A", {"monthlyRate": Decimal("0.1"), "isFundsTransferable": True})
    await edit(ann, "B", {"monthlyRate": Decimal("0.2"), "source": "Purchase", "purchasePrice": 5})
    totals = exact_json.decode((await ann.get("kpis")).content)["totals"]
    kpis = (await previewed(ann))["kpis"]
    assert (kpis["before"], kpis["after"]) == (totals["baseline"], totals["mine"])


async def test_least_and_greatest_figures_are_found_again(world: World, ann: User) -> None:
    """The fleet measures extreme values: what a session takes away may have been one."""
    await begin_session(world, ann.on("fleet"), "s-2")
    rows = {"A": vehicle(mileage=900), "B": vehicle(mileage=500), "C": vehicle(mileage=100)}
    await world.mirror(rows, contract=FLEET)
    await world.db.execute("SELECT fleet.refresh_kpi()")
    await ann.on("fleet").draft("B", {"mileage": 5000})
    await edit(ann.on("fleet"), "A", {"mileage": 50}, "s-2")
    kpis = (await previewed(ann.on("fleet"), "s-2"))["kpis"]
    assert (kpis["before"]["longestMileage"], kpis["after"]["longestMileage"]) == (900, 500)


# -- validation --------------------------------------------------------------------------------------------------------


async def test_rules_are_asked_about_the_merged_row(world: World, ann: User) -> None:
    """Given a start that is in order by itself, when others move the end before it, then the merged row is not."""
    await world.mirror({"A": line(), "B": line()})
    await edit(ann, "A", {"forecastStart": "2026-08-01"})
    await edit(ann, "B", {"source": "Purchase"})
    answer = await previewed(ann)
    assert said(answer) == [
        ("A", "forecastEnd", "ERROR", "INVALID_DATE_ORDER"),
        ("B", "purchasePrice", "ERROR", "MISSING_REQUIRED_FIELD"),
    ]
    validation = answer["validation"]
    assert (validation["state"], validation["canProceed"], validation["contractVersion"]) == ("failed", False, "1.0")
    assert validation["counts"] == {"info": 0, "warning": 0, "error": 2, "fatal": 0}
    assert validation["messageCount"] == 2
    assert validation["messages"][0]["ruleId"] == "ordered:forecastStart,forecastEnd"


async def test_what_lies_beneath_is_theirs(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(isActualized=False)})
    await edit(ann, "A", {"source": "Purchase", "purchasePrice": 5})
    assert (await previewed(ann))["validation"]["state"] == "passed"
    await bob.draft("A", {"isActualized": True})
    await committed(bob, "A")
    assert said(await previewed(ann)) == [("A", "source", "ERROR", "BUSINESS_RULE_VIOLATION")]


async def test_a_new_row_and_a_deletion_are_validated_too(world: World, ann: User) -> None:
    await world.mirror({"A": line(isActualized=True)})
    await edit(ann, "A", op="delete")
    await edit(ann, "N", {"category": "Cranes"}, op="insert")
    assert said(await previewed(ann)) == [
        ("A", "isActualized", "ERROR", "BUSINESS_RULE_VIOLATION"),
        ("N", "dor", "ERROR", "MISSING_REQUIRED_FIELD"),
        ("N", "source", "ERROR", "MISSING_REQUIRED_FIELD"),
    ]


async def test_a_row_that_others_have_deleted_has_its_conflict_and_no_findings(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"forecastStart": "2026-08-01"})
    await world.db.execute("DELETE FROM pfa.mirror")
    answer = await previewed(ann)
    assert (said(answer), answer["conflictCount"]) == ([], 1)


SEVERITIES = [
    ({"priority": 9}, "INFO", "passed", True),
    ({"rating": Decimal("0.1")}, "WARNING", "partial_pass", False),
    ({"boughtOn": "1999-01-01"}, "ERROR", "failed", False),
    ({"room": None}, "FATAL", "failed", False),
]


@pytest.mark.parametrize(("delta", "severity", "state", "proceeds"), SEVERITIES, ids=[each[1] for each in SEVERITIES])
async def test_the_worst_severity_decides_how_validation_ends(
    lab: World, eva: User, delta: dict[str, Any], severity: str, state: str, *, proceeds: bool
) -> None:
    await lab.mirror({"A": instrument()}, contract=LAB)
    await edit(eva, "A", {"load": 5})
    await lay_over(lab, "A", delta, "lab")
    validation = (await previewed(eva))["validation"]
    assert validation["counts"][severity.lower()] == 1
    assert sum(validation["counts"].values()) == 1
    assert (validation["state"], validation["canProceed"]) == (state, proceeds)


async def test_values_that_a_session_kept_are_checked_by_themselves(world: World, ann: User) -> None:
    """Each of them once, however many checks find the same."""
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "M"})
    await lay_over(world, "A", {"monthlyRate": -1, "source": "Stolen"})
    assert said(await previewed(ann)) == [
        ("A", "monthlyRate", "ERROR", "INVALID_RANGE"),
        ("A", "source", "ERROR", "INVALID_ENUM_VALUE"),
    ]


async def test_a_rule_that_cannot_be_asked_is_an_error(lab: World, eva: User) -> None:
    """Given a document with a text where a number has to be, then the range of that number is not kept."""
    await lab.mirror({"A": instrument(rating="high")}, contract=LAB)
    await edit(eva, "A", {"load": 5})
    await lay_over(lab, "A", {"rating": "higher"}, "lab")
    messages = said(await previewed(eva))
    assert ("A", "rating", "ERROR", "RULE_FAILED") in messages
    assert {each[2] for each in messages} == {"ERROR"}


async def test_a_field_that_the_contract_no_longer_has_is_an_error(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "M"})
    await lay_over(world, "A", {"gone": 1})
    assert said(await previewed(ann)) == [("A", "gone", "ERROR", "UNKNOWN_FIELD")]


async def test_a_value_that_no_document_can_hold_is_an_error_of_its_row(world: World, ann: User) -> None:
    """As long as it is the last one of its cell that was not undone."""
    await world.mirror({"A": line()})

    async def enter(value: Any, *, held: bool, step: int) -> None:
        await log_edit(world, ann, SID, "A", "monthlyRate", value, held=held, step=step)

    async def undo(step: int, state: str = "undone") -> None:
        await world.db.execute(
            "INSERT INTO pfa.step (organization_id, user_id, number, session_id, state, rows, at)"
            " VALUES ('acme', 'ann', $1, $2, $3, '{}', now())", step, SID, state,
        )  # fmt: skip

    await enter("abc", held=False, step=1)
    wrong = [("A", "monthlyRate", "ERROR", "INVALID_TYPE")]
    first = await previewed(ann)
    assert said(first) == wrong
    await enter(["x"], held=False, step=2)
    second = await previewed(ann)
    assert said(second) == wrong, "one message for a cell: the last value"
    assert second["digest"] != first["digest"]
    await enter(5, held=True, step=3)
    assert said(await previewed(ann)) == []
    await undo(3)
    assert await digest(ann) == second["digest"]
    await undo(2)
    assert await digest(ann) == first["digest"]
    await undo(1, "closed")
    assert said(await previewed(ann)) == []


async def test_a_refused_value_that_its_field_could_take_by_now_is_entered_again(world: World, ann: User) -> None:
    await log_edit(world, ann, SID, "A", "model", "fine", held=False)
    await log_edit(world, ann, "another", "A", "model", 5, held=False)
    (message,) = (await previewed(ann))["validation"]["messages"]
    assert (message["severity"], message["code"], message["ruleId"]) == ("ERROR", "INVALID_TYPE", None)
    assert "again" in message["message"]


async def test_a_refused_value_may_be_of_any_size_and_shape(world: World, ann: User) -> None:
    """What it is like counts for the digest, and is not repeated."""
    deep: Any = 5
    for _ in range(500):
        deep = [deep, {"x": '\\" 1.50 '}]
    for number, value in enumerate(["x" * 1_000_000, "y" * 1_000_000, deep, Decimal("1e400"), {"a": None}]):
        await log_edit(world, ann, SID, f"R{number}", "monthlyRate", value, held=False)
    answer = await previewed(ann)
    assert [each[2] for each in said(answer)] == ["ERROR"] * 5
    assert len(exact_json.encode(answer)) < 5000
    await world.db.execute("""UPDATE pfa.edit SET value = '"z"' WHERE row_key = 'R1'""")
    assert await digest(ann) != answer["digest"]


async def test_many_findings_are_counted_and_the_worst_are_shown(lab: World, eva: User) -> None:
    keys = [f"R{number:04}" for number in range(MAX_MESSAGES + 5)]
    await lab.mirror({key: instrument(rating=5) for key in keys}, contract=LAB)
    body = {"sessionId": SID, "modifications": [{"id": key, "delta": {"load": 1}} for key in keys]}
    assert (await eva.post("drafts", body)).status_code == 200
    await lab.db.execute("""UPDATE lab.modification SET delta = delta || '{"rating": 0.1}',
        base = base || '{"rating": 5}'""")
    await lay_over(lab, keys[-1], {"room": None}, "lab")
    await lay_over(lab, keys[-2], {"owner": None}, "lab")
    validation = (await previewed(eva))["validation"]
    assert validation["counts"] == {"info": 0, "warning": MAX_MESSAGES + 5, "error": 1, "fatal": 1}
    assert (validation["messageCount"], len(validation["messages"])) == (MAX_MESSAGES + 7, MAX_MESSAGES)
    assert [each["severity"] for each in validation["messages"][:3]] == ["FATAL", "ERROR", "WARNING"]
    assert exact_json.decode((await eva.get(VALIDATION)).content) == validation


async def test_unique_values_are_held_against_the_mirror_the_outbox_and_the_session(lab: World, eva: User) -> None:
    """Not against what the same user drafts elsewhere: that is not submitted with it. A value that another row of the
    session gives up is free.
    """
    bert = (await lab.user("bert")).on("lab")
    await lab.mirror({key: instrument(serial=key) for key in "ABCDEFG"}, contract=LAB)
    await edit(eva, "A", {"serial": "G"})
    await lab.db.execute(
        "INSERT INTO lab.change (organization_id, row_key, user_id, op, base, delta, state)"
        " VALUES ('acme', 'B', 'bert', 'update', '{}', '{\"serial\": \"reviewed\"}', 'in_review')"
    )
    await edit(eva, "C", {"serial": "reviewed"})
    await edit(eva, "D", {"serial": "new"})
    await edit(eva, "E", {"serial": "new"})
    await eva.draft("F", {"serial": "elsewhere"})
    await edit(eva, "N", {**instrument(), "serial": "elsewhere"}, op="insert")
    await edit(eva, "M", {**instrument(), "serial": "D"}, op="insert")
    await bert.draft("B", {"serial": "drafted"})
    await edit(eva, "L", {**instrument(), "serial": "drafted"}, op="insert")
    answer = await previewed(eva)
    assert said(answer) == [(key, "serial", "ERROR", "NOT_UNIQUE") for key in "ACDE"]
    others = {each["id"]: each["message"].split()[1] for each in answer["validation"]["messages"]}
    assert others == {"A": "G", "C": "B", "D": "E", "E": "D"}


async def test_a_value_that_is_free_only_with_another_draft_is_taken(lab: World, eva: User) -> None:
    """Given a draft outside of the session that gives a value up, then the session by itself cannot have it."""
    await lab.mirror({key: instrument(serial=key) for key in "AB"}, contract=LAB)
    await eva.draft("B", {"serial": "other"})
    await edit(eva, "A", {"serial": "B"})
    before = await previewed(eva)
    assert said(before) == [("A", "serial", "ERROR", "NOT_UNIQUE")]
    await change_mirror(lab, "B", {"serial": "moved"}, "lab")
    after = await previewed(eva)
    assert said(after) == []
    assert after["digest"] != before["digest"]


async def test_a_unique_value_may_be_a_warning(lab: World, eva: User) -> None:
    await lab.mirror({key: instrument(seat=number) for number, key in enumerate("AB")}, contract=LAB)
    await edit(eva, "A", {"seat": 1})
    assert (await previewed(eva))["validation"]["state"] == "partial_pass"


# -- runs --------------------------------------------------------------------------------------------------------------


async def test_a_failed_run_is_tried_again_and_any_other_is_followed_by_a_new_one(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"forecastStart": "2026-08-01"})
    failed = (await previewed(ann))["validation"]
    world.clock.move(minutes=1)
    again = (await previewed(ann))["validation"]
    assert (again["runId"], again["state"]) == (failed["runId"], "failed")
    assert again["finishedAt"] > failed["finishedAt"]
    await edit(ann, "A", {"forecastStart": "2026-02-02"})
    passed = (await previewed(ann))["validation"]
    assert (passed["runId"], passed["state"], passed["messages"]) == (failed["runId"], "passed", [])
    new = (await previewed(ann))["validation"]
    assert new["runId"] != passed["runId"]
    assert await world.db.fetchval("SELECT count(*) FROM validation_run") == 1


async def test_a_run_names_the_contract_that_judged(world: World, ann: User, database_url: str) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"forecastStart": "2026-08-01"})
    await previewed(ann)
    newer = msgspec.structs.replace(CONTRACTS[0], version="1.1")
    async with open_world(database_url, (newer, FLEET)) as later:
        again = User(later, "ann", "acme", ann.token)
        validation = (await previewed(again))["validation"]
    assert validation["contractVersion"] == validation["messages"][0]["contractVersion"] == "1.1"


async def test_the_last_run_can_be_read_and_says_whether_it_still_holds(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    refused(await ann.get(VALIDATION), 404, "RUN_NOT_FOUND")
    await edit(ann, "A", {"model": "M"})
    validation = (await previewed(ann))["validation"]
    assert (await ann.get(VALIDATION)).json() == validation
    assert validation["canProceed"] is True
    await world.db.execute("UPDATE edit_session SET state = 'active', digest = NULL, run_id = NULL")
    assert (await ann.get(VALIDATION)).json() == validation | {"canProceed": False}


async def test_warnings_pass_with_a_reason(lab: World, eva: User) -> None:
    """Once, for the preview that was looked at: another one asks again."""
    await lab.mirror({"A": instrument()}, contract=LAB)
    await edit(eva, "A", {"load": 5})
    await lay_over(lab, "A", {"rating": Decimal("0.1")}, "lab")
    validation = (await previewed(eva))["validation"]
    response = await eva.post(OVERRIDE, {"reason": "Agreed"})
    passed = validation | {
        "state": "passed",
        "canProceed": True,
        "reason": "Agreed",
        "decidedBy": "eva",
        "decidedByName": "eva",
    }
    assert written(response) == (await eva.get(VALIDATION)).json() == passed
    problem = refused(await eva.post(OVERRIDE, {"reason": "Again"}), 409, "INVALID_TRANSITION")
    assert problem["state"] == "passed"
    anew = (await previewed(eva))["validation"]
    assert (anew["state"], anew["reason"], anew["canProceed"]) == ("partial_pass", None, False)
    assert anew["runId"] != validation["runId"]


async def test_errors_and_what_is_not_previewed_cannot_be_overridden(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"forecastStart": "2026-08-01"})
    problem = refused(await ann.post(OVERRIDE, {"reason": "Please"}), 409, "INVALID_TRANSITION")
    assert problem["state"] == "active"
    await previewed(ann)
    problem = refused(await ann.post(OVERRIDE, {"reason": "Please"}), 409, "INVALID_TRANSITION")
    assert problem["state"] == "failed"
    await edit(ann, "A", {"forecastStart": "2026-02-02"})
    await previewed(ann)
    await world.db.execute("UPDATE edit_session SET state = 'active', digest = NULL, run_id = NULL")
    problem = refused(await ann.post(OVERRIDE, {"reason": "Please"}), 409, "INVALID_TRANSITION")
    assert problem["state"] == "active"


REASONS: list[Any] = ["", " \n\t", "NUL \0", "x" * 2001, None, 5, ["because"], "\ud800"]


@pytest.mark.parametrize("reason", REASONS, ids=range(len(REASONS)))
async def test_a_reason_has_words(ann: User, reason: Any) -> None:
    content = exact_json.encode({"reason": reason}) if reason != "\ud800" else b'{"reason": "\\ud800"}'
    response = await ann.request("POST", OVERRIDE, content=content)
    refused(response, 400, "MALFORMED_REQUEST")


async def test_a_reason_may_be_long_and_in_any_script(lab: World, eva: User) -> None:
    await lab.mirror({"A": instrument()}, contract=LAB)
    await edit(eva, "A", {"load": 5})
    await lay_over(lab, "A", {"rating": Decimal("0.1")}, "lab")
    await previewed(eva)
    reason = "理由🙂" * 500
    assert (await eva.post(OVERRIDE, {"reason": reason})).json()["reason"] == reason


# -- the session -------------------------------------------------------------------------------------------------------


async def test_a_preview_takes_the_session_to_preview_and_can_be_made_again(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "M"})
    first = await previewed(ann)
    assert await state_of(world) == ("preview", first["digest"], first["validation"]["runId"])
    await change_mirror(world, "A", {"model": "theirs"})
    second = await previewed(ann)
    assert second["digest"] != first["digest"]
    assert await state_of(world) == ("preview", second["digest"], second["validation"]["runId"])


CLOSED = [
    (state, f"state = '{state}'" + (", ended_at = now()" if state in ("aborted", "expired") else ""))
    for state in sorted(set(SessionState) - EDITABLE)
]


@pytest.mark.parametrize(("state", "change"), [*CLOSED, ("expired", "expires_at = created_at")])
async def test_a_session_that_is_locked_or_over_is_not_previewed(
    world: World, ann: User, state: str, change: str
) -> None:
    """Its last validation can be read all the same."""
    await previewed(ann)
    await world.db.execute(f"UPDATE edit_session SET {change}")
    before = await state_of(world)
    for response in (
        await ann.post(PREVIEW, {}),
        await ann.get(PREVIEW),
        await ann.post(OVERRIDE, {"reason": "Please"}),
    ):
        assert refused(response, 409, "INVALID_TRANSITION")["state"] == state
    assert await state_of(world) == before
    assert (await ann.get(VALIDATION)).status_code == 200


async def test_further_pages_are_of_a_session_in_preview(world: World, ann: User) -> None:
    problem = refused(await ann.get(PREVIEW), 409, "INVALID_TRANSITION")
    assert problem["state"] == "active"
    await previewed(ann)
    assert (await ann.get(PREVIEW)).status_code == 200


@pytest.mark.parametrize("sid", ["s-2", "s-3", "nothing", "a%2Fb", "🙂", "x" * 5000])
async def test_a_session_of_somebody_else_answers_like_none(world: World, ann: User, bob: User, sid: str) -> None:
    """So does one of another dataset."""
    await begin_session(world, bob, "s-2")
    await begin_session(world, ann.on("fleet"), "s-3")
    for response in (
        await ann.post(f"sessions/{sid}/preview", {}),
        await ann.get(f"sessions/{sid}/preview"),
        await ann.get(f"sessions/{sid}/validation"),
        await ann.post(f"sessions/{sid}/validation/override", {"reason": "Please"}),
    ):
        refused(response, 404, "SESSION_NOT_FOUND")


async def test_a_viewer_reads_and_does_not_preview(world: World) -> None:
    vera = await world.user("vera", role=Role.VIEWER)
    await begin_session(world, vera, SID)
    refused(await vera.post(PREVIEW, {}), 403, "FORBIDDEN")
    refused(await vera.post(OVERRIDE, {"reason": "Please"}), 403, "FORBIDDEN")
    refused(await vera.get(PREVIEW), 409, "INVALID_TRANSITION")
    refused(await vera.get(VALIDATION), 404, "RUN_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [{"pageSize": 0}, {"pageSize": 1001}, {"pageSize": "5"}, {"pageSize": 1.5}, {"page": 1}, {"after": 5}, [], 5],
)
async def test_a_body_is_what_it_has_to_be(world: World, ann: User, body: Any) -> None:
    refused(await ann.post(PREVIEW, body), 400, "MALFORMED_REQUEST")
    assert (await state_of(world))[0] == "active"


async def test_the_body_may_be_left_out(ann: User) -> None:
    assert (await ann.request("POST", PREVIEW)).status_code == 200


async def test_a_cursor_is_of_this_session(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    await begin_session(world, ann, "s-2")
    await edit(ann, "A", {"model": "M", "equipment": "E"})
    cursor = (await previewed(ann, pageSize=1))["pagination"]["nextCursor"]
    await previewed(ann, "s-2")
    for sid, after in (("s-2", cursor), (SID, cursor[:-2] + "xx"), (SID, "")):
        refused(await ann.get(f"sessions/{sid}/preview", {"after": after}), 400, "INVALID_CURSOR")
        refused(await ann.post(f"sessions/{sid}/preview", {"after": after}), 400, "INVALID_CURSOR")
    await world.db.execute("UPDATE incarnation SET number = number + 1")
    refused(await ann.get(PREVIEW, {"after": cursor}), 400, "INVALID_CURSOR")
    refused(await ann.post(PREVIEW, {"after": cursor}), 400, "INVALID_CURSOR")


async def test_the_same_request_has_the_same_answer(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "M"})
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = await ann.post(PREVIEW, {}, headers=key)
    await change_mirror(world, "A", {"model": "theirs"})
    assert (await ann.post(PREVIEW, {}, headers=key)).content == first.content
    assert (await previewed(ann))["digest"] != first.json()["digest"]


# -- digest ------------------------------------------------------------------------------------------------------------

STILL = {
    "nothing": "SELECT 1",
    "other cells of its rows": """UPDATE pfa.mirror SET data = data || '{"manufacturer": "x", "class": "y"}',
        version = version + 1""",
    "other rows": "DELETE FROM pfa.mirror WHERE row_key = 'C'",
    "the same values in other words": """UPDATE pfa.mirror SET data = data || '{"monthlyRate": 1000.000}'""",
    "figures": "SELECT pfa.refresh_kpi()",
    "revisions": "UPDATE dataset SET revision = revision + 5",
    "somebody's draft": "UPDATE workspace SET revision = revision + 1",
    "a push that begins": """UPDATE pfa.change SET state = 'syncing', claim_id = gen_random_uuid(), lease_until = now()
        WHERE state = 'committed'""",
}
MOVED = {
    "theirs in a cell": """UPDATE pfa.mirror SET data = data || '{"monthlyRate": 1000.01}' WHERE row_key = 'A'""",
    "a cell that is absent": """UPDATE pfa.mirror SET data = data || '{"model": "x"}' WHERE row_key = 'A'""",
    "the rest of an atomic group": """UPDATE pfa.mirror SET data = data || '{"purchasePrice": 5}'
        WHERE row_key = 'A'""",
    "any cell of a row to be deleted": """UPDATE pfa.mirror SET data = data || '{"class": "y"}' WHERE row_key = 'B'""",
    "a row that is deleted": "DELETE FROM pfa.mirror WHERE row_key = 'A'",
    "mine in a cell": """UPDATE pfa.modification SET delta = delta || '{"model": "other"}' WHERE row_key = 'A'""",
    "another cell of mine": """UPDATE pfa.modification SET delta = delta || '{"dor": "PROJECT"}' WHERE row_key = 'A'""",
    "one cell less": "UPDATE pfa.modification SET delta = delta - 'model' WHERE row_key = 'A'",
    "a row that left": "UPDATE pfa.modification SET session_id = NULL WHERE row_key = 'A'",
    "an edit in place of a deletion": """UPDATE pfa.modification SET draft_op = 'update', delta = '{"model": "x"}'
        WHERE row_key = 'B'""",
    "what others have on their way": """INSERT INTO pfa.change
        (organization_id, row_key, user_id, op, base, delta, state)
        VALUES ('acme', 'A', 'bob', 'update', '{}', '{"model": "bob''s"}', 'in_review')""",
    "what somebody else has on their way": "UPDATE pfa.change SET user_id = 'carl'",
    "another value on its way": """UPDATE pfa.change SET delta = '{"equipment": "another"}'""",
    "a finding": """UPDATE pfa.mirror SET data = data || '{"isDiscontinued": true}' WHERE row_key = 'A'""",
}


@pytest.fixture
async def busy(world: World, ann: User, bob: User) -> User:
    """Ann with an edit, an insertion and a deletion, and bob in one of her cells."""
    await world.mirror({key: line() for key in "ABC"})
    await bob.draft("A", {"equipment": "bob's"})
    await committed(bob, "A")
    await edit(ann, "A", {"model": "M", "equipment": "E", "monthlyRate": 5, "isFundsTransferable": True})
    await edit(ann, "B", op="delete")
    await edit(ann, "N", NEW, op="insert")
    return ann


@pytest.mark.parametrize("change", STILL)
async def test_a_digest_stays_while_there_is_the_same_to_see(world: World, busy: User, change: str) -> None:
    if change == "other cells of its rows":
        await edit(busy, "B", {"model": "kept"})
    before = await digest(busy)
    await world.db.execute(STILL[change])
    assert await digest(busy) == before


@pytest.mark.parametrize("change", MOVED)
async def test_a_digest_moves_with_what_there_is_to_see(world: World, busy: User, change: str) -> None:
    before = await digest(busy)
    await world.db.execute(MOVED[change])
    assert await digest(busy) != before


async def test_the_same_edits_in_another_order_have_the_same_digest(world: World, ann: User, bob: User) -> None:
    await world.mirror({key: line() for key in "ABC"})
    await begin_session(world, bob, "s-2")
    for key, delta in (("A", {"model": "M"}), ("C", {"model": "M"}), ("A", {"equipment": "E", "monthlyRate": 5})):
        await edit(ann, key, delta)
    for key, delta in (("C", {"model": "M"}), ("A", {"monthlyRate": Decimal("5.0"), "equipment": "E", "model": "M"})):
        await edit(bob, key, delta, "s-2")
    assert await digest(ann) == (await previewed(bob, "s-2"))["digest"]


# -- others meanwhile --------------------------------------------------------------------------------------------------


async def test_what_is_committed_between_two_previews_is_in_the_second(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="old")})
    await edit(ann, "A", {"model": "mine"})
    first = await previewed(ann)
    await bob.draft("A", {"model": "bob's"})
    await committed(bob, "A")
    second = await previewed(ann)
    assert cells(first) == [("A", "model", "old", "mine")]
    assert cells(second) == [("A", "model", "bob's", "mine")]
    sides = {"base": "old", "theirs": "bob's", "mine": "mine"}
    assert second["conflicts"] == [{"id": "A", "kind": "cell", "field": "model", **sides}]
    assert [each["state"] for each in second["impact"]["overlaps"]] == ["committed"]
    await settle(world, "A", "sync_error")
    third = await previewed(ann)
    assert (cells(third), third["conflicts"]) == (cells(first), [])
    assert [each["state"] for each in third["impact"]["overlaps"]] == ["sync_error"]


async def test_previews_of_one_session_at_the_same_time_are_one_after_the_other(world: World, ann: User) -> None:
    """Under the lock of the user's workspace: the session has one run in the end, and the digest of the last one."""
    await world.mirror({key: line() for key in "ABC"})
    for key in "ABC":
        await edit(ann, key, {"model": "M"})
    answers = await asyncio.gather(*(previewed(ann) for _ in range(4)))
    assert len({each["digest"] for each in answers}) == 1
    state, kept, run = await state_of(world)
    assert (state, kept) == ("preview", answers[0]["digest"])
    assert run in {each["validation"]["runId"] for each in answers}
    assert await world.db.fetchval("SELECT count(*) FROM validation_run") == 1


async def test_a_preview_waits_for_a_save_and_a_save_for_a_preview(world: World, ann: User) -> None:
    """Whichever comes first: what a preview tells is all of a save or nothing."""
    await world.mirror({key: line() for key in "ABC"})
    body = {"sessionId": SID, "modifications": [{"id": key, "delta": {"model": "M"}} for key in "ABC"]}
    answers = await asyncio.gather(previewed(ann), ann.post("drafts", body), previewed(ann))
    assert answers[1].status_code == 200
    assert {answers[0]["summary"]["rowsChanged"], answers[2]["summary"]["rowsChanged"]} <= {0, 3}
    assert (await previewed(ann))["summary"]["rowsChanged"] == 3


async def test_a_preview_is_of_one_moment(world: World, ann: User, bob: User) -> None:
    """Given others who commit to many rows at once, then a preview has all of a commit or nothing."""
    keys = [f"R{number:04}" for number in range(2 * BATCH)]
    await world.mirror({key: line(model="old") for key in keys})
    body = {"sessionId": SID, "modifications": [{"id": key, "delta": {"equipment": "E", "model": "M"}} for key in keys]}
    assert (await ann.post("drafts", body)).status_code == 200
    for round_ in range(3):
        drafts = [{"id": key, "delta": {"model": f"bob {round_}"}} for key in keys]
        assert (await bob.post("drafts", {"modifications": drafts})).status_code == 200
        answers = await asyncio.gather(previewed(ann, pageSize=1000), committed(bob), previewed(ann, pageSize=1000))
        for answer in (answers[0], answers[2]):
            assert len({each["old"] for each in answer["diffs"] if each["field"] == "model"}) == 1
            assert answer["conflictCount"] in (0, len(keys))


async def test_a_preview_that_fails_leaves_the_session_as_it_was(world: World, ann: User) -> None:
    """Given a document that no contract has, when the preview breaks, then neither a run nor another state is left."""
    await world.mirror({"A": line()})
    await edit(ann, "A", {"model": "M"})
    await world.db.execute("ALTER TABLE edit_session ADD CONSTRAINT broken CHECK (digest IS NULL)")
    assert (await ann.post(PREVIEW, {})).status_code >= 400
    assert await state_of(world) == ("active", None, None)
    assert await world.db.fetchval("SELECT count(*) FROM validation_run") == 0
