"""The merge of a change request: its options, what keeps it from being merged, and what it leaves behind."""

import csv
import io
import zipfile
from typing import Any

import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.feed import briefly, happened, now
from tests.support.requests import act, cells, done, drafted, merged, not_merged, previewed, request, submitted, told
from tests.support.sessions import ended, shown
from tests.support.world import FLEET, User, World, committed, mirrored, refused, vehicle


@pytest.fixture
async def ann(world: World) -> User:
    """An analyst who drafts, on the fleet."""
    await world.mirror({key: vehicle() for key in ("V1", "V2", "V3")}, contract=FLEET)
    return (await world.user("ann")).on("fleet")


@pytest.fixture
async def boss(world: World) -> User:
    """An ADMIN."""
    return (await world.user("boss", role=Role.ADMIN)).on("fleet")


@pytest.fixture
async def bob(world: World) -> User:
    """Another analyst."""
    return (await world.user("bob")).on("fleet")


async def changed(user: User, key: str, **fields: Any) -> None:
    """The user commits these values."""
    await user.draft(key, fields)
    await committed(user, key)


async def timeline(user: User, of: dict[str, Any]) -> list[str]:
    """The kinds of a request's events, the oldest first."""
    return [event["kind"] for event in reversed((await request(user, of))["timeline"])]


async def test_rows_that_are_as_they_should_be_already_leave_the_review(ann: User, bob: User, boss: User) -> None:
    """And the feed tells it apart from those that the merge changes."""
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}}, {"id": "V2", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await changed(bob, "V1", seats=5)
    before = await now(bob)
    await done(boss, found, "merge")
    assert briefly(await happened(bob, before)) == [("merge", "boss", ["V2"]), ("overlap", "boss", ["V1"])]


# -- options -----------------------------------------------------------------------------------------------------------


async def test_a_rehearsal_answers_and_changes_nothing(world: World, ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    before = await request(boss, found)
    rehearsed = await done(boss, found, "merge", dryRun=True)
    assert await request(boss, found) == before
    assert (await mirrored(world, "V1") or {})["seats"] == 3
    answer = await done(boss, found, "merge")
    assert rehearsed | {"commitId": 0} == answer | {"commitId": 0}


async def test_a_rehearsal_meets_conflicts_and_puts_nothing_back(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await changed(bob, "V1", seats=7)
    refused(await act(boss, found, "merge", dryRun=True), 409, "MERGE_CONFLICT")
    assert (await request(boss, found))["status"] == "approved"


async def test_what_conflicts_can_be_left_and_the_rest_merged(world: World, ann: User, bob: User, boss: User) -> None:
    found = await submitted(
        ann,
        {"id": "V1", "delta": {"seats": 5, "depot": "West"}},
        {"id": "V2", "op": "delete"},
        {"id": "V3", "op": "delete"},
    )
    await done(boss, found, "approve")
    await changed(bob, "V1", seats=7)
    await changed(bob, "V2", seats=8)
    answer = await done(boss, found, "merge", onConflict="skip")
    assert [(each["id"], each["field"]) for each in answer["skipped"]] == [("V1", "seats"), ("V2", None)]
    assert (answer["rowsAffected"], answer["diff"]["rowsDeleted"], answer["skippedCount"]) == (2, 1, 2)
    assert (await mirrored(world, "V1") or {})["depot"] == "West"
    assert (await mirrored(world, "V2") or {})["seats"] == 8
    row = await ann.row("V1")
    assert (row["delta"], row["base"], row["syncState"], row["pending"]) == ({"seats": 5}, {"seats": 3}, "conflict", {})
    assert (await ann.row("V2"))["op"] == "delete"
    assert await cells(boss, found) == [
        ("V1", "depot", "North", "West"),
        ("V3", None, vehicle() | {"plate": "V3"}, None),
    ]


async def test_an_admin_merges_whatever_is_there_and_the_audit_says_so(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}}, {"id": "V2", "delta": {"seats": 6}})
    await done(boss, found, "approve")
    await changed(bob, "V1", seats=7)
    await bob.draft("V2", op="delete")
    await committed(bob, "V2")
    refused(await act(boss, found, "merge", skipConflictCheck=True), 422, "VALIDATION_FAILED")
    answer = await done(boss, found, "merge", skipConflictCheck=True, reason="The site says so")
    assert (answer["diff"]["rowsUpdated"], answer["diff"]["rowsAdded"]) == (1, 1)
    assert (await bob.row("V1"))["data"]["seats"] == 5
    assert (await bob.row("V2"))["data"] == vehicle(seats=6) | {"plate": "V2"}
    audit = told(await boss.get("/api/v1/orgs/acme/audit", {"action": "merge.conflict_check_skipped"}))["data"]
    assert [(each["actor"], each["reason"]) for each in audit] == [("boss", "The site says so")]


async def test_only_an_admin_forces_a_merge(ann: User, bob: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}}, approvers=("bob",))
    await done(bob, found, "approve")
    for option in ("skipConflictCheck", "forceMerge"):
        refused(await act(bob, found, "merge", reason="I want it", **{option: True}), 403, "FORBIDDEN")
    assert (await done(bob, found, "merge"))["rowsAffected"] == 1


async def test_broken_rules_keep_a_request_from_being_merged_until_it_is_forced(
    world: World, ann: User, bob: User, boss: User
) -> None:
    """Given two edits that keep the rules each, and together break one, then the second is not merged."""
    found = await submitted(ann, {"id": "V1", "delta": {"kind": "Bus"}})
    await changed(bob, "V1", seats=None)
    problem = await not_merged(boss, found, 422, "VALIDATION_FAILED")
    assert [(each["id"], each["kind"], each["field"]) for each in problem["conflicts"]] == [("V1", "rule", "seats")]
    now = await request(boss, found)
    assert (now["status"], now["validation"]["state"], now["validation"]["runId"]) == (
        "pending_review", "failed", problem["runId"],
    )  # fmt: skip
    assert (await mirrored(world, "V1") or {})["kind"] == "Van"
    await done(boss, found, "approve")
    await done(boss, found, "merge", forceMerge=True, reason="It will get seats")
    assert (await mirrored(world, "V1") or {})["kind"] == "Bus"


async def test_another_version_of_the_contract_is_refused_on_request(world: World, ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await world.db.execute('UPDATE change_request SET validation = validation || \'{"contractVersion": "0.9"}\'')
    refused(await act(boss, found, "merge", mergeSchema=False), 409, "SCHEMA_CHANGED")
    assert (await done(boss, found, "merge"))["rowsAffected"] == 1


async def test_a_field_that_the_contract_has_no_more_is_a_conflict(world: World, ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5, "depot": "West"}})
    await done(boss, found, "approve")
    await world.db.execute("UPDATE fleet.change SET delta = delta || '{\"wheels\": 6}'")
    problem = refused(await act(boss, found, "merge"), 409, "MERGE_CONFLICT")
    assert [(each["field"], each["theirs"], each["mine"]) for each in problem["conflicts"]] == [
        ("wheels", "field_removed", 6)
    ]
    refused(await act(boss, found, "resolutions", default="mine"), 422, "VALIDATION_FAILED")
    await done(boss, found, "resolutions", default="theirs")
    await merged(boss, found)
    assert "wheels" not in (await mirrored(world, "V1") or {})


# -- conflicts and resolutions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "seats"), [("mine", 5), ("theirs", 7), ("base", 3), ("value", 9)], ids=["mine", "theirs", "base", "value"]
)
async def test_a_conflict_is_resolved_and_approved_anew(
    world: World, ann: User, bob: User, boss: User, use: str, seats: int
) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5, "depot": "West"}})
    await changed(bob, "V1", seats=7)
    await not_merged(boss, found, 409, "MERGE_CONFLICT")
    value = {"value": 9} if use == "value" else {}
    fixed = await done(ann, found, "resolutions", resolutions=[{"id": "V1", "field": "seats", "use": use, **value}])
    assert (fixed["conflictCount"], fixed["approvals"], fixed["iteration"]) == (0, [], 3)
    refused(await act(boss, found, "merge"), 409, "INVALID_TRANSITION")
    await merged(boss, found)
    row = await mirrored(world, "V1") or {}
    assert (row["seats"], row["depot"]) == (seats, "West")
    assert (await ann.row("V1"))["syncState"] == "pristine"


async def test_a_conflict_that_was_resolved_is_resolved_so_again(ann: User, bob: User, boss: User) -> None:
    """Given the same three sides in a cell, when they meet in another request, then it is told and done again."""
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await changed(bob, "V1", seats=7)
    await not_merged(boss, found, 409, "MERGE_CONFLICT")
    await done(boss, found, "resolutions", default="mine")
    await ended(ann, {"id": (await done(ann, found, "withdraw"))["sessionId"]})
    await ann.discard("V1")
    await changed(bob, "V1", seats=3)
    again = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await changed(bob, "V1", seats=7)
    problem = await not_merged(boss, again, 409, "MERGE_CONFLICT")
    assert (await request(boss, again))["conflictCount"] == 0
    assert (await timeline(boss, again))[-2:] == ["resolved_as_before", "conflicted"]
    (kept,) = told(await boss.get("resolutions"))["data"]
    assert (kept["rowId"], kept["field"], kept["use"], kept["used"]) == ("V1", "seats", "mine", 1)
    await done(boss, again, "approve", digest=problem["digest"])
    await done(boss, again, "merge")
    assert (await boss.row("V1"))["data"]["seats"] == 5
    assert (await boss.request("DELETE", f"resolutions/{kept['id']}")).status_code == 204
    refused(await boss.request("DELETE", f"resolutions/{kept['id']}"), 404, "RESOLUTION_NOT_FOUND")
    assert told(await boss.get("resolutions"))["data"] == []


async def test_only_conflicts_that_were_seen_are_resolved_where_that_is_said(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await changed(bob, "V1", seats=7)
    seen = (await request(ann, found))["digest"]
    await changed(bob, "V1", seats=8)
    problem = refused(await act(ann, found, "resolutions", default="mine", digest=seen), 409, "PREVIEW_STALE")
    assert [each["theirs"] for each in problem["conflicts"]] == [8]
    assert (await done(ann, found, "resolutions", default="mine", digest=problem["digest"]))["conflictCount"] == 0


async def test_resolutions_of_a_merge_are_proposals(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await changed(bob, "V1", seats=7)
    wanted = [{"id": "V1", "field": "seats", "use": "theirs"}]
    refused(await act(boss, found, "merge", resolutions=[{**wanted[0], "field": "depot"}]), 422, "VALIDATION_FAILED")
    assert (await request(boss, found))["status"] == "approved"
    refused(await act(boss, found, "merge", resolutions=wanted), 409, "MERGE_CONFLICT")
    now = await request(boss, found)
    assert (now["status"], now["conflictCount"], now["rowsUpdated"]) == ("pending_review", 0, 0)
    await merged(boss, found)
    assert (await boss.row("V1"))["data"]["seats"] == 7


async def test_a_row_that_was_deleted_is_inserted_again_or_given_up(
    world: World, ann: User, bob: User, boss: User
) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}}, {"id": "V2", "delta": {"seats": 5}})
    for key in ("V1", "V2"):
        await bob.draft(key, op="delete")
    await committed(bob)
    problem = await not_merged(boss, found, 409, "MERGE_CONFLICT")
    assert [each["kind"] for each in problem["conflicts"]] == ["row_deleted", "row_deleted"]
    resolutions = [{"id": "V1", "field": None, "use": "mine"}, {"id": "V2", "field": None, "use": "theirs"}]
    await done(boss, found, "resolutions", resolutions=resolutions)
    await merged(boss, found)
    assert await mirrored(world, "V1") == vehicle(seats=5) | {"plate": "V1"}
    assert await mirrored(world, "V2") is None


# -- what is left ------------------------------------------------------------------------------------------------------


async def test_the_bundle_has_all_parts_before_and_after_the_merge(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    path = f"change-requests/{found['id']}/audit"
    before = told(await boss.get(path))
    assert (before["mergeResult"], before["conflicts"], before["validation"]["state"]) == (None, [], "passed")
    assert before["diff"] == [{"id": "V1", "op": "update", "field": "seats", "old": 3, "new": 5}]
    answer = await merged(boss, found)
    after = told(await boss.get(path))
    assert (after["mergeResult"], after["diff"], after["conflicts"]) == (answer, before["diff"], [])
    response = await boss.get(path, {"format": "zip"})
    assert response.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as files:
        assert files.testzip() is None
        parts = {name: exact_json.decode(files.read(name)) for name in files.namelist()}
    assert parts == {
        "merge_result.json": after["mergeResult"],
        "diff.json": after["diff"],
        "conflicts.json": [],
        "validation.json": after["validation"],
    }


async def test_everybodys_drafts_follow_a_merge(ann: User, bob: User, boss: User) -> None:
    """As they follow a commit: other cells merge, the same cell stands in conflict."""
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await bob.draft("V1", {"depot": "South"})
    await boss.draft("V1", {"seats": 8})
    await merged(boss, found)
    row = await bob.row("V1")
    assert (row["data"]["seats"], row["data"]["depot"], row["conflicts"]) == (5, "South", [])
    (conflict,) = (await boss.row("V1"))["conflicts"]
    assert (conflict["base"], conflict["theirs"], conflict["mine"]) == (3, 5, 8)


async def test_the_revision_and_the_rows_count_at_once(ann: User, boss: User) -> None:
    before = told(await boss.get("/api/v1/orgs/acme/datasets/fleet"))
    new = [{"id": key, "op": "insert", "delta": {"depot": "N", "kind": "Van"}} for key in ("V8", "V9")]
    found = await submitted(ann, {"id": "V1", "op": "delete"}, *new)
    answer = await merged(boss, found)
    after = told(await boss.get("/api/v1/orgs/acme/datasets/fleet"))
    assert after["revision"] == before["revision"] + 1 == answer["mergedRevision"] == answer["diff"]["revisionAfter"]
    assert after["rowCount"] == before["rowCount"] + 1


async def test_who_merges_twice_gets_the_first_answer(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    answer = await merged(boss, found)
    assert await done(boss, found, "merge", digest="anything") == answer
    assert (await timeline(boss, found)) == ["submitted", "approved", "merged", "closed"]


async def test_a_merge_that_fails_inside_leaves_no_trace(world: World, ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await world.db.execute("ALTER TABLE fleet.history ADD CONSTRAINT no_more CHECK (source <> 'merge') NOT VALID")
    problem = refused(await act(boss, found, "merge"), 500, "MERGE_FAILED")
    await world.db.execute("ALTER TABLE fleet.history DROP CONSTRAINT no_more")
    now = await request(boss, found)
    assert (now["status"], now["reason"], now["digest"]) == ("pending_review", problem["detail"], problem["digest"])
    assert (await mirrored(world, "V1") or {})["seats"] == 3
    assert (await ann.row("V1"))["syncState"] == "in_review"
    await merged(boss, found)


async def test_an_idempotency_key_repeats_the_refusal_that_put_a_request_back(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await changed(bob, "V1", seats=7)
    body, path = {"digest": (await request(boss, found))["digest"]}, f"change-requests/{found['id']}/merge"
    answers = [await boss.post(path, body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert refused(answers[0], 409, "MERGE_CONFLICT")["digest"] == (await request(boss, found))["digest"]
    assert (await timeline(boss, found)).count("conflicted") == 1


# -- submission --------------------------------------------------------------------------------------------------------


async def test_a_session_is_submitted_only_as_it_was_previewed(ann: User) -> None:
    session = await drafted(ann, {"id": "V1", "delta": {"seats": 5}})
    path = f"sessions/{session['id']}/submit"
    refused(await ann.post(path, {"title": "Vans", "digest": "x"}), 409, "INVALID_TRANSITION")
    seen = await previewed(ann, session)
    refused(await ann.post(path, {"title": "Vans", "digest": "x"}), 409, "PREVIEW_STALE")
    refused(await ann.post(path, {"title": " ", "digest": seen["digest"]}), 422, "VALIDATION_FAILED")
    refused(
        await ann.post(path, {"title": "Vans", "digest": seen["digest"], "approvers": ["ann"]}),
        422,
        "VALIDATION_FAILED",
    )
    told(await ann.post(path, {"title": "Vans", "digest": seen["digest"]}), 201)
    refused(await ann.post(path, {"title": "Vans", "digest": seen["digest"]}), 409, "INVALID_TRANSITION")
    assert (await shown(ann, session["id"]))["status"] == "submitted"


async def test_an_error_blocks_a_submission(ann: User) -> None:
    session = await drafted(ann, {"id": "V1", "delta": {"kind": "Bus", "seats": None}})
    seen = await previewed(ann, session)
    body = {"title": "Buses", "digest": seen["digest"]}
    problem = refused(await ann.post(f"sessions/{session['id']}/submit", body), 422, "VALIDATION_FAILED")
    assert [(each["id"], each["field"]) for each in problem["errors"]] == [("V1", "seats")]
    assert (await ann.row("V1"))["syncState"] == "draft"


async def test_a_session_without_drafts_is_not_submitted(ann: User) -> None:
    session = await drafted(ann, {"id": "V1", "delta": {"seats": 5}})
    told(await ann.post("discard", {"sessionId": session["id"]}))
    seen = await previewed(ann, session)
    body = {"title": "Nothing", "digest": seen["digest"]}
    refused(await ann.post(f"sessions/{session['id']}/submit", body), 404, "NO_DRAFTS")


async def test_approvers_are_members_who_may_edit(world: World, ann: User) -> None:
    await world.user("vera", role=Role.VIEWER)
    session = await drafted(ann, {"id": "V1", "delta": {"seats": 5}})
    seen = await previewed(ann, session)
    body = {"title": "Vans", "digest": seen["digest"], "approvers": ["vera", "nobody", "a\0b"]}
    problem = refused(await ann.post(f"sessions/{session['id']}/submit", body), 422, "VALIDATION_FAILED")
    assert [each["code"] for each in problem["errors"]] == ["INVALID_APPROVER"] * 3


# -- review ------------------------------------------------------------------------------------------------------------


async def test_every_approver_has_to_approve_what_is_left(world: World, ann: User, bob: User, boss: User) -> None:
    """Given two approvers who leave out different cells, then both are left out, and both approve the rest."""
    carl = (await world.user("carl")).on("fleet")
    found = await submitted(
        ann, {"id": "V1", "delta": {"seats": 5, "depot": "W", "mileage": 2}}, approvers=("bob", "carl")
    )
    one = await done(bob, found, "approve", **{"except": [{"id": "V1", "field": "seats"}]})
    assert (one["status"], [each["approver"] for each in one["approvals"]]) == ("pending_review", ["bob"])
    two = await done(carl, found, "approve", **{"except": [{"id": "V1", "field": "depot"}]})
    assert (two["status"], [each["approver"] for each in two["approvals"]]) == ("pending_review", ["carl"])
    assert (await done(bob, found, "approve"))["status"] == "approved"
    refused(await act(boss, found, "approve"), 403, "FORBIDDEN")
    await done(carl, found, "merge")
    assert (await boss.row("V1"))["data"]["mileage"] == 2
    assert (await ann.row("V1"))["delta"] == {"seats": 5, "depot": "W"}


async def test_a_part_of_an_atomic_group_is_not_left_out(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"firstDay": "2026-01-01", "lastDay": "2026-02-01", "seats": 5}})
    part = {"except": [{"id": "V1", "field": "firstDay"}]}
    problem = refused(await act(boss, found, "approve", **part), 422, "GROUP_SPLIT")
    assert problem["fields"] == ["firstDay", "lastDay"]
    await done(boss, found, "approve", **{"except": [{"id": "V1", "field": "service"}]})
    assert await cells(boss, found) == [("V1", "seats", 3, 5)]
    assert (await ann.row("V1"))["delta"] == {"firstDay": "2026-01-01", "lastDay": "2026-02-01"}


async def test_a_request_of_which_nothing_would_be_left_is_not_approved(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    refused(await act(boss, found, "approve", **{"except": [{"id": "V1"}]}), 422, "VALIDATION_FAILED")
    refused(await act(boss, found, "approve", **{"except": [{"id": "V2"}]}), 422, "VALIDATION_FAILED")
    assert (await ann.row("V1"))["syncState"] == "in_review"
    assert (await request(boss, found))["iteration"] == 1


async def test_nobody_reviews_their_own_and_strangers_see_nothing(ann: User, bob: User, boss: User) -> None:
    found = await submitted(boss, {"id": "V1", "delta": {"seats": 5}})
    refused(await act(boss, found, "approve"), 403, "FORBIDDEN")
    refused(await act(boss, found, "reject", comment="No"), 403, "FORBIDDEN")
    for verb, body in (("approve", {"digest": "x"}), ("comments", {"text": "Hm"}), ("merge", {"digest": "x"})):
        refused(await bob.post(f"change-requests/{found['id']}/{verb}", body), 404, "CHANGE_REQUEST_NOT_FOUND")
    refused(await bob.get(f"change-requests/{found['id']}"), 404, "CHANGE_REQUEST_NOT_FOUND")
    assert told(await bob.get("change-requests"))["data"] == []
    assert [each["id"] for each in told(await boss.get("change-requests"))["data"]] == [found["id"]]


async def test_comments_are_about_the_request_a_row_or_a_cell(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    for body in ({"text": "All"}, {"text": "Row", "id": "V1"}, {"text": "Cell", "id": "V1", "field": "seats"}):
        await done(boss, found, "comments", **body)
    for body in ({"text": " "}, {"text": "x", "field": "seats"}, {"text": "x", "id": "V1", "field": "wheels"}):
        refused(await act(boss, found, "comments", **body), 422, "VALIDATION_FAILED")
    first = told(await ann.get(f"change-requests/{found['id']}/comments", {"limit": 2}))
    rest = told(await ann.get(f"change-requests/{found['id']}/comments", {"after": first["nextCursor"]}))
    said = [(each["text"], each["rowId"], each["field"], each["actor"]) for each in first["data"] + rest["data"]]
    assert said == [("Cell", "V1", "seats", "boss"), ("Row", "V1", None, "boss"), ("All", None, None, "boss")]


async def test_requests_are_listed_in_pages_and_by_status(ann: User, boss: User) -> None:
    made = [await submitted(ann, {"id": f"V{n}", "delta": {"seats": 5}}) for n in (1, 2, 3)]
    await done(boss, made[0], "reject", comment="No")
    first = told(await boss.get("change-requests", {"limit": 2}))
    rest = told(await boss.get("change-requests", {"limit": 2, "after": first["nextCursor"]}))
    assert {each["id"] for each in first["data"] + rest["data"]} == {each["id"] for each in made}
    found = told(await boss.get("change-requests", {"status": "rejected"}))["data"]
    assert [each["id"] for each in found] == [made[0]["id"]]
    refused(await boss.get("change-requests", {"status": "lost"}), 400, "INVALID_FILTER")


async def test_the_diff_is_read_in_pages(ann: User) -> None:
    found = await submitted(ann, *({"id": f"V{n}", "delta": {"seats": 5, "depot": "W"}} for n in (1, 2, 3)))
    path, seen, cursor = f"change-requests/{found['id']}/diff", [], None
    for _ in range(4):
        page = told(await ann.get(path, {"limit": 2} | ({"after": cursor} if cursor else {})))
        seen += [(each["id"], each["field"]) for each in page["data"]]
        if (cursor := page["nextCursor"]) is None:
            break
    assert seen == [(f"V{n}", field) for n in (1, 2, 3) for field in ("depot", "seats")]


async def test_the_diff_is_read_as_a_file(ann: User, bob: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5, "depot": "=1+1"}}, {"id": "V2", "op": "delete"})
    path = f"change-requests/{found['id']}/diff"
    response = await ann.get(path, {"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [(row["id"], row["op"], row["field"], row["old"], row["new"]) for row in rows[:2]] == [
        ("V1", "update", "depot", "North", "'=1+1"),
        ("V1", "update", "seats", "3", "5"),
    ]
    lines = (await ann.get(path, {"format": "ndjson"})).text.splitlines()
    assert [exact_json.decode(line) for line in lines] == told(await ann.get(path))["data"]
    refused(await bob.get(path, {"format": "csv"}), 404, "CHANGE_REQUEST_NOT_FOUND")
    refused(await ann.get(path, {"format": "pdf"}), 400, "INVALID_FILTER")


# -- revert ------------------------------------------------------------------------------------------------------------


async def test_a_commit_is_reverted_and_what_others_changed_since_is_a_conflict(
    ann: User, bob: User, boss: User
) -> None:
    await ann.draft("V1", {"seats": 5})
    await ann.draft("V2", {"seats": 5})
    commit = (await committed(ann))["commitId"]
    await changed(bob, "V1", seats=7)
    undo = told(await ann.post(f"commits/{commit}/revert", {"title": "Back"}), 201)
    assert (undo["revertsCommit"], undo["rowsUpdated"], undo["conflictCount"]) == (commit, 2, 1)
    await done(ann, undo, "resolutions", default="theirs")
    await merged(boss, undo)
    assert [row["data"]["seats"] for row in await boss.rows(sort="id")] == [7, 3, 3]
    refused(await ann.post(f"commits/{undo['id']}/revert", {"title": "Back"}), 404, "COMMIT_NOT_FOUND")


async def test_nothing_is_reverted_twice(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    refused(await act(ann, found, "revert", title="Back"), 409, "INVALID_TRANSITION")
    await merged(boss, found)
    await merged(boss, await done(ann, found, "revert", title="Back"))
    refused(await act(ann, found, "revert", title="Back"), 409, "NOTHING_TO_REVERT")


async def test_a_revert_that_is_withdrawn_is_drafts_in_a_session(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await merged(boss, found)
    undo = await done(ann, found, "revert", title="Back")
    back = await done(ann, undo, "withdraw")
    row = await ann.row("V1")
    assert (row["delta"], row["base"], row["syncState"]) == ({"seats": 3}, {"seats": 5}, "draft")
    assert (await shown(ann, back["sessionId"]))["status"] == "active"
    await merged(boss, await done(ann, undo, "resubmit"))
    assert (await boss.row("V1"))["data"]["seats"] == 3
