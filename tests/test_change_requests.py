"""Change requests: from a session's submission to its merge, and back."""

import pytest

from app.web.auth import Role
from tests.support.requests import act, cells, done, drafted, merged, not_merged, previewed, request, submitted, told
from tests.support.sessions import shown
from tests.support.world import FLEET, NEW, User, World, drafts, mirrored, refused, vehicle


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


async def test_a_session_is_submitted_approved_and_merged(world: World, ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}}, {"id": "V2", "delta": {"depot": "South"}})
    assert (found["status"], found["author"], found["rowsUpdated"], found["cellsChanged"]) == (
        "pending_review", "ann", 2, 2,
    )  # fmt: skip
    assert (await shown(ann, found["sessionId"]))["status"] == "submitted"
    assert [row["syncState"] for row in await ann.rows()] == ["in_review", "in_review", "pristine"]
    assert [row["data"]["seats"] for row in await boss.rows()] == [3, 3, 3]
    approved = await done(boss, found, "approve")
    assert approved["status"] == "approved"
    answer = await done(boss, found, "merge")
    assert (answer["status"], answer["rowsAffected"], answer["diff"]["cellsChanged"]) == ("closed", 2, 2)
    assert [row["data"]["seats"] for row in await boss.rows()] == [5, 3, 3]
    assert [row["syncState"] for row in await ann.rows()] == ["pristine"] * 3
    assert (await mirrored(world, "V2") or {})["depot"] == "South"
    assert await done(boss, found, "merge") == answer
    assert await cells(ann, found) == [("V1", "seats", 3, 5), ("V2", "depot", "North", "South")]


async def test_a_rejected_request_is_drafts_again_and_can_be_submitted_again(ann: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    back = await done(boss, found, "reject", comment="Why five?")
    assert (back["status"], back["reason"]) == ("rejected", "Why five?")
    assert (await shown(ann, found["sessionId"]))["status"] == "active"
    row = await ann.row("V1")
    assert (row["syncState"], row["delta"], row["base"], row["pending"]) == ("draft", {"seats": 5}, {"seats": 3}, {})
    again = await done(ann, found, "resubmit")
    assert (again["status"], again["iteration"]) == ("pending_review", 2)
    await merged(boss, found)
    assert (await boss.row("V1"))["data"]["seats"] == 5


async def test_an_approver_accepts_all_but_some_cells(ann: User, boss: User) -> None:
    found = await submitted(
        ann, {"id": "V1", "delta": {"seats": 5, "depot": "West"}}, {"id": "V2", "delta": {"seats": 9}}
    )
    approved = await done(boss, found, "approve", **{"except": [{"id": "V1", "field": "seats"}, {"id": "V2"}]})
    assert (approved["status"], approved["iteration"], approved["cellsChanged"]) == ("approved", 2, 1)
    row = await ann.row("V1")
    assert (row["delta"], row["pending"], row["base"]) == ({"seats": 5}, {"depot": "West"}, {"seats": 3})
    assert (await ann.row("V2"))["syncState"] == "draft"
    answer = await done(boss, found, "merge")
    assert answer["diff"]["cellsChanged"] == 1
    assert (await boss.row("V1"))["data"]["depot"] == "West"
    assert (await boss.row("V1"))["data"]["seats"] == 3
    assert (await ann.commit()).status_code == 200


async def test_a_conflict_puts_the_request_back_and_is_resolved(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await done(boss, found, "approve")
    await bob.draft("V1", {"seats": 7})
    assert (await bob.commit()).status_code == 200
    told_ = refused(await act(boss, found, "merge"), 409, "MERGE_CONFLICT")
    assert told_["conflicts"] == [{"id": "V1", "kind": "cell", "field": "seats", "base": 3, "theirs": 7, "mine": 5}]
    now = await request(ann, found)
    assert (now["status"], now["iteration"], now["digest"]) == ("pending_review", 2, told_["digest"])
    fixed = await done(ann, found, "resolutions", resolutions=[{"id": "V1", "field": "seats", "use": "mine"}])
    assert (fixed["iteration"], fixed["conflictCount"]) == (3, 0)
    await merged(boss, found)
    assert (await bob.row("V1"))["data"]["seats"] == 5


async def test_a_merged_request_is_reverted(world: World, ann: User, boss: User) -> None:
    found = await submitted(
        ann,
        {"id": "V1", "delta": {"seats": 5}},
        {"id": "V2", "op": "delete"},
        {"id": "V9", "op": "insert", "delta": {"depot": "New", "kind": "Van"}},
    )
    before = {key: await mirrored(world, key) for key in ("V1", "V2", "V9")}
    await merged(boss, found)
    assert await mirrored(world, "V2") is None
    undo = await done(ann, found, "revert", title="Back")
    assert (undo["status"], undo["reverts"], undo["conflictCount"]) == ("pending_review", found["id"], 0)
    await merged(boss, undo)
    assert {key: await mirrored(world, key) for key in ("V1", "V2", "V9")} == before
    redo = await done(ann, undo, "revert", title="And forth")
    await merged(boss, redo)
    assert await mirrored(world, "V2") is None


async def test_a_changed_request_is_not_approved_as_it_was_seen(ann: User, bob: User, boss: User) -> None:
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await bob.draft("V1", {"seats": 7})
    assert (await bob.commit()).status_code == 200
    answer = refused(await act(boss, found, "approve", digest=found["digest"]), 409, "PREVIEW_STALE")
    assert answer["conflicts"][0]["theirs"] == 7
    session = await drafted(bob, {"id": "V2", "delta": {"seats": 1}})
    seen = await previewed(bob, session)
    told(await bob.post(f"sessions/{session['id']}/edits", {"id": "V2", "field": "seats", "value": 2}))
    await previewed(bob, session)
    body = {"title": "Old", "digest": seen["digest"]}
    refused(await bob.post(f"sessions/{session['id']}/submit", body), 409, "PREVIEW_STALE")


async def test_a_conflict_that_nobody_resolves_stays_one(ann: User, bob: User, boss: User) -> None:
    """Of a new row that is there by now, too: to resolve one cell says nothing of the others."""
    new = {"depot": "New", "kind": "Van"}
    found = await submitted(ann, {"id": "V9", "op": "insert", "delta": {**new, "seats": 5, "remark": "mine"}})
    await bob.draft("V9", {**new, "seats": 7, "remark": "theirs"}, op="insert")
    assert (await bob.commit()).status_code == 200
    half = await done(ann, found, "resolutions", resolutions=[{"id": "V9", "field": "seats", "use": "mine"}])
    left = [(each["field"], each["theirs"], each["mine"]) for each in half["conflicts"]]
    assert left == [("remark", "theirs", "mine")]
    await not_merged(boss, found, 409, "MERGE_CONFLICT")
    await done(ann, found, "resolutions", default="theirs")
    await merged(boss, found)
    row = (await bob.row("V9"))["data"]
    assert (row["seats"], row["remark"]) == (5, "theirs")


async def test_what_upstream_alone_gives_to_a_row_is_never_resolved(world: World) -> None:
    """A new PFA line that is there by now: its derived fields are no part of the request."""
    ann, bob = await world.user("ann"), await world.user("bob")
    found = await submitted(ann, {"id": "N", "op": "insert", "delta": NEW | {"model": "mine"}})
    await bob.draft("N", NEW | {"model": "theirs"}, op="insert")
    assert (await bob.commit()).status_code == 200
    await done(ann, found, "resolutions", default="mine")
    assert {field for _, field, _, _ in await cells(ann, found)}.isdisjoint({"hasPlan", "hasActuals"})


async def test_a_deletion_that_came_true_leaves_nothing_behind(ann: User, bob: User) -> None:
    """Over what is under review, too: there is no draft any more, and no base of one."""
    found = await submitted(ann, {"id": "V1", "delta": {"seats": 5}})
    await ann.draft("V1", op="delete")
    await bob.draft("V1", op="delete")
    assert (await bob.commit()).status_code == 200
    assert {key: (await drafts(ann))["V1"][key] for key in ("op", "delta", "base", "pending")} == {
        "op": "update", "delta": {}, "base": {}, "pending": {"seats": 5},
    }  # fmt: skip
    (conflict,) = (await request(ann, found))["conflicts"]
    assert (conflict["kind"], conflict["theirs"], conflict["mine"]["seats"]) == ("row_deleted", None, 5)
