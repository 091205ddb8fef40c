"""Commits that skip conflicts: the rest is committed, what conflicts stays drafted, and nothing is lost between."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import PFA, Contract
from tests.support.model import Document
from tests.support.sessions import begin, edit, shown
from tests.support.world import (
    FLEET,
    NEW,
    User,
    World,
    changes,
    committed,
    drafts,
    line,
    mirrored,
    refuse_upstream,
    refused,
    vehicle,
)
from tests.test_model import EDITED, deltas, examples

BUS = {"depot": "North", "kind": "Van"}


async def skipping(user: User, *keys: str, **more: Any) -> dict[str, Any]:
    """The answer to a commit that skips conflicts, its numbers with their digits."""
    response = await user.commit(*keys, onConflict="skip", **more)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    assert answer["skippedCount"] >= len(answer["skipped"])
    return answer


@pytest.fixture
async def dora(world: World) -> User:
    dora = (await world.user("dora")).on("fleet")
    row = vehicle(remark="A", seats=3, firstDay="2026-01-01", lastDay="2026-12-31")
    await world.mirror(dict.fromkeys("ABC", row), contract=FLEET)
    return dora


@pytest.fixture
async def earl(world: World) -> User:
    return (await world.user("earl")).on("fleet")


async def test_cells_that_conflict_stay_drafted_and_the_others_are_committed(
    world: World, dora: User, earl: User
) -> None:
    await dora.draft("A", {"remark": "mine", "seats": 4, "firstDay": "2026-02-01"}, changeReason="hers")
    await dora.draft("B", {"remark": "mine"})
    await earl.draft("A", {"remark": "theirs", "lastDay": "2026-11-30"})
    await committed(earl)
    answer = await skipping(dora)
    service = {
        "base": {"firstDay": "2026-01-01", "lastDay": "2026-12-31"},
        "theirs": {"firstDay": "2026-01-01", "lastDay": "2026-11-30"},
        "mine": {"firstDay": "2026-02-01", "lastDay": "2026-12-31"},
    }
    left = [
        {"id": "A", "field": "remark", "base": "A", "theirs": "theirs", "mine": "mine"},
        {"id": "A", "field": "service", **service},
    ]
    assert (answer["committed"], answer["skipped"], answer["skippedCount"], answer["revision"]) == (2, left, 2, 2)
    row = await mirrored(world, "A") or {}
    assert (row["remark"], row["seats"], row["firstDay"], row["lastDay"]) == ("theirs", 4, "2026-01-01", "2026-11-30")
    found = await drafts(dora)
    assert list(found) == ["A"]
    draft = found["A"]
    assert (draft["op"], draft["syncState"], draft["conflicts"]) == ("update", "conflict", left)
    assert draft["delta"] == {"remark": "mine", "firstDay": "2026-02-01"}
    assert draft["base"] == {"remark": "A", **service["base"]}
    assert (await dora.rows(syncState="conflict"))[0]["id"] == "A"
    # What is left is settled as ever, and keeps the reason that it was drafted for.
    use = [{"id": "A", "field": "remark", "use": "mine"}, {"id": "A", "field": "service", "use": "theirs"}]
    assert (await committed(dora, resolutions=use))["committed"] == 1
    assert (await mirrored(world, "A") or {})["remark"] == "mine"
    assert (await dora.row("A"))["history"][0]["changeReason"] == "hers"


async def test_with_an_upstream_the_rest_waits_in_the_outbox(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="A", equipment="A"), "B": line()})
    await ann.draft("A", {"model": "mine", "equipment": "mine"})
    await bob.draft("A", {"model": "theirs"})
    await committed(bob)
    answer = await skipping(ann)
    assert (answer["committed"], [each["field"] for each in answer["skipped"]]) == (1, ["model"])
    row = await ann.row("A")
    assert (row["delta"], row["pending"], row["syncState"]) == ({"model": "mine"}, {"equipment": "mine"}, "conflict")
    assert [change[4] for change in await changes(world)] == [{"model": "theirs"}, {"equipment": "mine"}]


async def test_a_row_in_conflict_stays_as_it_is(world: World, dora: User, earl: User) -> None:
    await dora.draft("A", {"seats": 4})
    await dora.draft("B", op="delete")
    await dora.draft("C", {"seats": 4})
    before = await drafts(dora)
    await earl.draft("A", op="delete")
    await earl.draft("B", {"remark": "theirs"})
    await committed(earl)
    answer = await skipping(dora)
    assert answer["committed"] == 1
    assert [(each["id"], each["field"]) for each in answer["skipped"]] == [("A", None), ("B", None)]
    assert (answer["skipped"][0]["theirs"], answer["skipped"][1]["mine"]) == (None, None)
    after = await drafts(dora)
    assert {key: (row["op"], row["delta"], row["version"]) for key, row in after.items()} == {
        key: (before[key]["op"], before[key]["delta"], before[key]["version"]) for key in "AB"
    }
    assert {row["syncState"] for row in after.values()} == {"conflict"}
    assert [after[key]["conflicts"][0] for key in "AB"] == answer["skipped"]
    assert (await mirrored(world, "B") or {})["remark"] == "theirs"


async def test_with_nothing_left_to_commit_nothing_is(world: World, dora: User, earl: User) -> None:
    await dora.draft("A", {"remark": "mine"})
    await earl.draft("A", {"remark": "theirs"})
    await committed(earl)
    answer = await skipping(dora)
    assert (answer["committed"], answer["revision"], answer["skippedCount"]) == (0, 1, 1)
    again = await skipping(dora)
    assert (again["committed"], again["skipped"]) == (0, answer["skipped"])
    assert (await dora.row("A"))["delta"] == {"remark": "mine"}
    assert await world.db.fetchval("SELECT count(*) FROM fleet.history") == 1


async def test_without_conflicts_it_is_a_commit_like_any_other(dora: User) -> None:
    await dora.draft("A", {"remark": "mine"})
    answer = await skipping(dora)
    assert (answer["committed"], answer["skipped"], answer["skippedCount"]) == (1, [], 0)
    assert await drafts(dora) == {}
    refused(await dora.commit(onConflict="skip"), 404, "NO_DRAFTS")
    refused(await dora.commit(onConflict="theirs"), 400, "MALFORMED_REQUEST")


async def test_a_dry_run_skips_and_changes_nothing(world: World, dora: User, earl: User) -> None:
    await dora.draft("A", {"mileage": Decimal("12345678901234567890.120"), "seats": 4})
    await earl.draft("A", {"mileage": 7})
    await committed(earl)
    before = await drafts(dora)
    answer = await skipping(dora, dryRun=True)
    assert (answer["commitId"], answer["committed"], answer["revision"]) == (None, 1, 1)
    (conflict,) = answer["skipped"]
    assert str(conflict["mine"]) == "12345678901234567890.120"
    assert await drafts(dora) == before
    real = await skipping(dora)
    assert (real["committed"], real["skipped"]) == (1, answer["skipped"])


async def test_a_key_repeats_what_was_skipped(dora: User, earl: User) -> None:
    await dora.draft("A", {"remark": "mine", "seats": 4})
    await earl.draft("A", {"remark": "theirs"})
    await committed(earl)
    body = {"all": True, "onConflict": "skip"}
    first = await dora.post("commit", body, headers={"Idempotency-Key": "k"})
    again = await dora.post("commit", body, headers={"Idempotency-Key": "k"})
    assert first.json() == again.json()
    assert (first.json()["committed"], first.json()["skippedCount"]) == (1, 1)


async def test_rules_are_asked_of_what_is_committed(world: World, dora: User, earl: User) -> None:
    """Given a bus without seats as mine, when its kind conflicts, then no rule stands in the way of the rest."""
    await dora.draft("A", {"kind": "Bus", "seats": None, "remark": "mine"})
    await dora.draft("B", {"kind": "Bus", "seats": None, "remark": "mine"})
    await earl.draft("A", {"kind": "Truck"})
    await earl.draft("B", {"remark": "theirs"})
    await committed(earl)
    assert (await skipping(dora, "A"))["committed"] == 1
    assert (await dora.row("A"))["delta"] == {"kind": "Bus"}
    before = await drafts(dora)
    refused(await dora.commit("B", onConflict="skip"), 422, "VALIDATION_FAILED")
    assert await drafts(dora) == before
    assert (await mirrored(world, "B") or {})["kind"] == "Van"


async def test_what_a_session_has_left_stays_its_own(dora: User, earl: User) -> None:
    session = await begin(dora)
    for key, field, value in (("A", "remark", "mine"), ("A", "seats", 4), ("B", "seats", 4), ("C", "seats", 4)):
        await edit(dora, session, key, field, value)
    await earl.draft("A", {"remark": "theirs"})
    await earl.draft("B", op="delete")
    await committed(earl)
    answer = (await dora.post("commit", {"sessionId": session["id"], "onConflict": "skip"})).json()
    assert (answer["committed"], answer["skippedCount"]) == (2, 2)
    assert (await shown(dora, session["id"]))["status"] == "active"
    found = await drafts(dora)
    assert {key: row["sessionId"] for key, row in found.items()} == {"A": session["id"], "B": session["id"]}
    refused(await dora.commit("A", onConflict="skip"), 409, "ROW_IN_OTHER_SESSION")
    refused(await dora.post(f"sessions/{session['id']}/undo", {}), 409, "NOTHING_TO_UNDO")
    assert (await edit(dora, session, "A", "remark", "again"))["status"] == "saved"
    answer = (await dora.post("commit", {"sessionId": session["id"], "onConflict": "skip"})).json()
    assert (answer["committed"], [each["id"] for each in answer["skipped"]]) == (1, ["B"])


@pytest.mark.parametrize("dataset", ["fleet", "pfa"])
async def test_of_a_new_row_that_is_there_by_now_an_edit_is_left(
    world: World, ann: User, bob: User, dataset: str
) -> None:
    """Given two new rows of one id, when the second is committed with skip, then what differs is drafted over the first
    one, and a deletion of that brings no half row back.
    """
    ann, bob = ann.on(dataset), bob.on(dataset)
    new = BUS if dataset == "fleet" else NEW
    first, free = next(iter(new)), {"fleet": "remark", "pfa": "model"}[dataset]
    await ann.draft("X", {**new, first: "mine", free: "mine"}, op="insert")
    await bob.draft("X", {**new, first: "theirs"}, op="insert")
    await committed(bob)
    answer = await skipping(ann)
    assert answer["skipped"] == [{"id": "X", "field": first, "base": None, "theirs": "theirs", "mine": "mine"}]
    assert answer["committed"] == 1
    draft = (await drafts(ann))["X"]
    assert (draft["op"], draft["delta"], draft["syncState"]) == ("update", {first: "mine"}, "conflict")
    await bob.draft("X", op="delete")
    await committed(bob, "X")
    (conflict,) = refused(await ann.commit("X"), 409, "MERGE_CONFLICT")["conflicts"]
    assert (conflict["field"], conflict["theirs"]) == (None, None)


async def test_what_was_seen_and_what_is_resolved_count(dora: User, earl: User) -> None:
    """Given conflicts of two cells, when one is resolved and another was seen otherwise, then those are skipped that
    are not resolved.
    """
    await dora.draft("A", {"remark": "mine", "seats": 4, "mileage": 5})
    await earl.draft("A", {"remark": "theirs", "seats": 9})
    await committed(earl)
    resolution = {"id": "A", "field": "remark", "use": "mine"}
    answer = await skipping(dora, resolutions=[resolution], base={"A": {"mileage": 3}})
    assert [each["field"] for each in answer["skipped"]] == ["mileage", "seats"]
    row = await dora.row("A")
    assert (row["delta"], row["data"]["remark"]) == ({"seats": 4, "mileage": 5}, "mine")
    assert row["base"] == {"seats": 3, "mileage": 3}


async def test_what_upstream_refused_is_skipped_in_parts(world: World, ann: User, bob: User) -> None:
    """Given a change that upstream's row stood in the way of, when its row is committed with skip, then what does not
    conflict is on its way again, and the rest is a draft.
    """
    await world.mirror({"A": line(model="A", equipment="A")})
    await ann.draft("A", {"model": "mine", "equipment": "mine"})
    await committed(ann)
    await refuse_upstream(world, "A", "conflict")
    await world.db.execute('UPDATE pfa.mirror SET data = data || \'{"model": "theirs"}\'')
    answer = await skipping(ann, "A")
    assert (answer["committed"], [each["field"] for each in answer["skipped"]]) == (1, ["model"])
    assert [(change[4], change[5]) for change in await changes(world)] == [
        ({"model": "mine", "equipment": "mine"}, "rejected"),
        ({"equipment": "mine"}, "committed"),
    ]
    assert (await ann.row("A"))["delta"] == {"model": "mine"}


async def test_a_thousand_are_told_and_all_are_counted(world: World, dora: User, earl: User) -> None:
    keys = [f"K{number:04}" for number in range(1001)]
    await world.mirror({key: vehicle(remark="A") for key in keys}, contract=FLEET)
    for user, remark in ((dora, "mine"), (earl, "theirs")):
        batch = [{"id": key, "delta": {"remark": remark, "seats": 5}} for key in keys]
        assert (await user.post("drafts", {"modifications": batch})).status_code == 200
    await committed(earl)
    answer = await skipping(dora)
    assert (answer["committed"], len(answer["skipped"]), answer["skippedCount"]) == (0, 1000, 1001)
    assert len(await drafts(dora)) == 100  # a page of them
    assert (await dora.page(syncState="conflict", pageSize=1))["pagination"]["totalRecords"] == 1001


def sides(dataset: str) -> st.SearchStrategy[tuple[Document, Document, Document]]:
    """A row, and what ann and bob draft of it."""
    pool = EDITED[dataset]
    return st.tuples(deltas(pool, pool.names, 6), deltas(pool, pool.names, 5, 1), deltas(pool, pool.names, 5))


@examples(25)
@given(sides("fleet"))
async def test_what_reaches_the_mirror_and_what_is_left_is_what_was_drafted(
    world: World, ann: User, bob: User, drafted: tuple[Document, Document, Document]
) -> None:
    await nothing_is_lost(world, FLEET, ann.on("fleet"), bob.on("fleet"), *drafted)


@examples(25)
@given(sides("pfa"))
async def test_what_waits_for_upstream_and_what_is_left_is_what_was_drafted(
    world: World, ann: User, bob: User, drafted: tuple[Document, Document, Document]
) -> None:
    await nothing_is_lost(world, PFA, ann, bob, *drafted)


async def nothing_is_lost(
    world: World, contract: Contract, ann: User, bob: User, row: Document, mine: Document, theirs: Document
) -> None:
    """Each cell that was drafted is committed, is still drafted, or had nothing to say: it wants what is there, or what
    was there when it was touched. None is both, and no group is split.
    """
    schema = contract.schema
    await world.db.execute(
        f"DELETE FROM {schema}.mirror; DELETE FROM {schema}.modification; DELETE FROM {schema}.change"
    )
    await world.mirror({"A": row}, contract=contract)
    await ann.draft("A", mine)
    if theirs:
        await bob.draft("A", theirs)
        if (await bob.commit()).status_code == 422:  # a rule that his row breaks
            return
    response = await ann.commit(onConflict="skip")
    found = (await drafts(ann)).get("A", {"delta": {}, "pending": {}})
    left = found["delta"]
    if response.status_code == 422:
        assert left == mine
        return
    assert response.status_code == 200, response.text
    answer = exact_json.decode(response.content)
    conflicting = {each["field"] for each in answer["skipped"]}
    # A null that was drafted over nothing is committed without a trace.
    now = {contract.text_key: "A", **row, **{name: value for name, value in theirs.items() if value != row.get(name)}}
    done = found["pending"] if contract.upstream else await mirrored(world, "A", contract) or {}
    assert left == {name: value for name, value in mine.items() if cell_of(contract, name) in conflicting}
    for name in mine.keys() - left.keys():
        assert mine[name] in (done.get(name), now.get(name), row.get(name))
    for name in left:
        assert done.get(name) == (None if contract.upstream else now.get(name))
    assert answer["committed"] == (done != ({} if contract.upstream else now))


def cell_of(contract: Contract, name: str) -> str:
    """The name of the field's atomic group, or its own."""
    return contract.cells[name].name if name in contract.cells else name
