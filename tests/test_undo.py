"""Undo and redo of what was saved outside of sessions: one request is one step."""

from typing import Any

import pytest

from tests.support.world import FLEET, User, World, committed, drafts, line, refused, vehicle, written

NEW = {"depot": "North", "kind": "Van"}


async def turn(user: User, way: str) -> dict[str, Any]:
    """The answer to undo or redo."""
    return written(await user.post(f"drafts/{way}", {}))


async def deltas(user: User) -> dict[str, Any]:
    """What is drafted, by row: the operation and the delta."""
    return {key: (row["op"], row["delta"]) for key, row in (await drafts(user)).items()}


@pytest.fixture
async def dora(world: World) -> User:
    dora = (await world.user("dora")).on("fleet")
    await world.mirror({key: vehicle(plate=key, remark=key.lower(), mileage=10) for key in "ABCD"}, contract=FLEET)
    return dora


async def test_a_paste_is_undone_at_once_and_redone(dora: User) -> None:
    await dora.post(
        "drafts", {"modifications": [{"id": key, "delta": {"remark": f"{key}!", "mileage": 7}} for key in "ABC"]}
    )
    pasted = await deltas(dora)
    assert await turn(dora, "undo") == {"steps": 1, "ids": ["A", "B", "C"], "skipped": []}
    assert await drafts(dora) == {}
    assert {row["syncState"] for row in await dora.rows()} == {"pristine"}
    assert await turn(dora, "redo") == {"steps": 1, "ids": ["A", "B", "C"], "skipped": []}
    assert await deltas(dora) == pasted
    assert (await dora.row("A"))["base"] == {"remark": "a", "mileage": 10}


async def test_steps_are_undone_in_their_order_to_what_each_found(dora: User) -> None:
    await dora.draft("A", {"remark": "one"})
    await dora.draft("A", {"remark": "two", "mileage": 1})
    await dora.draft("A", unset=["mileage"])
    found = []
    for _ in range(3):
        await turn(dora, "undo")
        found.append((await dora.row("A"))["delta"])
    assert found == [{"remark": "two", "mileage": 1}, {"remark": "one"}, {}]
    redone = []
    for _ in range(3):
        await turn(dora, "redo")
        redone.append((await dora.row("A"))["delta"])
    assert redone == [{"remark": "one"}, {"remark": "two", "mileage": 1}, {"remark": "two"}]


async def test_new_rows_and_deletions_are_steps_too(dora: User) -> None:
    await dora.draft("N", NEW, op="insert")
    await dora.draft("A", {"remark": "edited"})
    await dora.draft("A", op="delete")
    await turn(dora, "undo")
    assert await deltas(dora) == {"A": ("update", {"remark": "edited"}), "N": ("insert", {"plate": "N", **NEW})}
    await turn(dora, "undo")
    await turn(dora, "undo")
    assert await drafts(dora) == {}
    for _ in range(3):
        await turn(dora, "redo")
    assert await deltas(dora) == {"A": ("delete", {}), "N": ("insert", {"plate": "N", **NEW})}
    assert (await committed(dora, "A", "N"))["committed"] == 2


async def test_several_drafts_of_a_row_in_one_request_are_one_step(dora: User) -> None:
    await dora.draft("A", {"remark": "before"})
    await dora.post(
        "drafts",
        {"modifications": [{"id": "A", "delta": {"remark": "1"}}, {"id": "A", "delta": {"remark": "2", "mileage": 3}}]},
    )
    await turn(dora, "undo")
    assert await deltas(dora) == {"A": ("update", {"remark": "before"})}


async def test_requests_with_one_undo_group_are_one_step(dora: User) -> None:
    await dora.draft("D", {"remark": "first"})
    for key in "ABC":
        await dora.post("drafts", {"modifications": [{"id": key, "delta": {"mileage": 5}}], "undoGroup": "fill"})
    assert await turn(dora, "undo") == {"steps": 3, "ids": ["A", "B", "C"], "skipped": []}
    assert list(await drafts(dora)) == ["D"]
    assert (await turn(dora, "redo"))["steps"] == 3
    assert sorted(await drafts(dora)) == ["A", "B", "C", "D"]


async def test_a_new_save_ends_what_could_be_redone(dora: User) -> None:
    await dora.draft("A", {"remark": "one"})
    await turn(dora, "undo")
    await dora.draft("B", {"remark": "two"})
    refused(await dora.post("drafts/redo", {}), 409, "NOTHING_TO_REDO")
    await turn(dora, "undo")
    refused(await dora.post("drafts/undo", {}), 409, "NOTHING_TO_UNDO")
    assert await drafts(dora) == {}


async def test_what_was_committed_is_skipped(dora: User) -> None:
    await dora.post("drafts", {"modifications": [{"id": key, "delta": {"mileage": 5}} for key in "AB"]})
    await committed(dora, "A")
    assert await turn(dora, "undo") == {
        "steps": 1,
        "ids": ["B"],
        "skipped": [{"id": "A", "field": "mileage", "code": "COMMITTED"}],
    }
    assert await drafts(dora) == {}


async def test_what_is_on_its_way_upstream_is_skipped(world: World) -> None:
    ann = await world.user("ann")
    await world.mirror({"L": line(model="M")})
    await ann.draft("L", {"model": "N"})
    await committed(ann, "L")
    await ann.draft("L", {"equipment": "E"})
    assert (await turn(ann, "undo"))["skipped"] == []
    assert (await turn(ann, "undo"))["skipped"] == [{"id": "L", "field": "model", "code": "COMMITTED"}]
    assert (await ann.row("L"))["data"]["model"] == "N"


async def test_what_was_discarded_is_skipped_cell_by_cell(dora: User) -> None:
    await dora.draft("A", {"remark": "one", "mileage": 1})
    await dora.draft("A", {"remark": "two", "mileage": 2})
    await dora.discard("A", fields=["mileage"])
    answer = await turn(dora, "undo")
    assert answer["skipped"] == [{"id": "A", "field": "mileage", "code": "CHANGED_SINCE"}]
    assert (await dora.row("A"))["delta"] == {"remark": "one"}


async def test_a_cell_of_several_steps_is_named_once(dora: User) -> None:
    for value in ("one", "two"):
        modifications = [{"id": "A", "delta": {"remark": value}}]
        await dora.post("drafts", {"modifications": modifications, "undoGroup": "typing"})
    await dora.discard("A")
    assert await turn(dora, "undo") == {
        "steps": 2,
        "ids": [],
        "skipped": [{"id": "A", "field": "remark", "code": "CHANGED_SINCE"}],
    }


async def test_what_was_discarded_is_not_said_to_be_committed(world: World) -> None:
    """An earlier commit of the row, upstream's answer to which is due, has nothing to do with it."""
    ann = await world.user("ann")
    await world.mirror({"L": line(model="M")})
    await ann.draft("L", {"model": "N"})
    await committed(ann, "L")
    world.clock.move(seconds=1)
    await ann.draft("L", {"equipment": "E"})
    await ann.discard("L")
    assert (await turn(ann, "undo"))["skipped"] == [{"id": "L", "field": "equipment", "code": "CHANGED_SINCE"}]


async def test_a_word_of_the_clients_goes_back_and_forth_with_the_draft(dora: User) -> None:
    await dora.draft("A", {"remark": "one"})
    for key in "AB":
        await dora.post("drafts", {"sessionId": "monday", "modifications": [{"id": key, "delta": {"mileage": 1}}]})
    await turn(dora, "undo")
    await turn(dora, "undo")
    assert {key: row["sessionId"] for key, row in (await drafts(dora)).items()} == {"A": None}
    await turn(dora, "redo")
    await turn(dora, "redo")
    assert {key: row["sessionId"] for key, row in (await drafts(dora)).items()} == {"A": "monday", "B": "monday"}


async def test_writing_over_a_conflict_is_undone_to_the_conflict(world: World, dora: User) -> None:
    """Also where it was the same value: who agrees to theirs, and undoes that, has not agreed."""
    carl = (await world.user("carl")).on("fleet")
    await dora.draft("A", {"remark": "mine", "firstDay": "2026-01-01"})
    await carl.draft("A", {"remark": "theirs", "lastDay": "2026-02-01"})
    await committed(carl, "A")
    before = (await dora.row("A"))["conflicts"]
    assert [conflict["field"] for conflict in before] == ["remark", "service"]
    await dora.draft("A", {"remark": "mine", "firstDay": "2026-01-01"})
    after = await dora.row("A")
    assert after["conflicts"] == []
    assert (await turn(dora, "undo"))["ids"] == ["A"]
    assert (await dora.row("A"))["conflicts"] == before
    await turn(dora, "redo")
    assert (await dora.row("A"))["base"] == after["base"]


async def test_an_atomic_group_is_one_cell(dora: User) -> None:
    await dora.draft("A", {"firstDay": "2026-01-01", "lastDay": "2026-02-01"})
    await dora.draft("A", {"firstDay": "2026-01-05", "lastDay": "2026-02-05"})
    await dora.discard("A", fields=["lastDay"])
    answer = await turn(dora, "undo")
    assert [each["field"] for each in answer["skipped"]] == ["firstDay", "lastDay"]
    assert (await dora.row("A"))["delta"] == {"firstDay": "2026-01-05"}


async def test_a_value_that_others_changed_meanwhile_is_a_conflict_when_it_is_redone(world: World, dora: User) -> None:
    """The base is that of when it was typed: nobody's work is overwritten by a redo."""
    carl = (await world.user("carl")).on("fleet")
    await dora.draft("A", {"remark": "mine"})
    await turn(dora, "undo")
    await carl.draft("A", {"remark": "theirs"})
    await committed(carl, "A")
    await turn(dora, "redo")
    assert (await dora.row("A"))["conflicts"] == [
        {"id": "A", "field": "remark", "base": "a", "theirs": "theirs", "mine": "mine"}
    ]


async def test_a_row_that_is_gone_by_now(world: World, dora: User) -> None:
    carl = (await world.user("carl")).on("fleet")
    await dora.draft("A", {"remark": "one"})
    await dora.draft("A", {"mileage": 1})
    await carl.draft("A", op="delete")
    await committed(carl, "A")
    await turn(dora, "undo")
    row = await dora.row("A")
    assert row["delta"] == {"remark": "one"}
    assert [(each["field"], each["theirs"]) for each in row["conflicts"]] == [(None, None)]
    await turn(dora, "undo")
    assert await drafts(dora) == {}


async def test_nothing_is_drafted_again_on_a_row_that_is_gone(world: World, dora: User) -> None:
    """What a step knows of it is a few cells: as a draft they would stand for the whole row."""
    carl = (await world.user("carl")).on("fleet")
    await dora.draft("A", {"remark": "one"})
    await dora.draft("A", unset=["remark"])
    await dora.draft("B", op="delete")
    await dora.draft("C", {"remark": "two"})
    for _ in range(2):
        await turn(dora, "undo")
    for key in "ABC":
        await carl.draft(key, op="delete")
    await committed(carl)
    gone = {key: [{"id": key, "field": None, "code": "ROW_DELETED"}] for key in "ABC"}
    assert (await turn(dora, "redo"))["skipped"] == gone["B"]
    assert (await turn(dora, "redo"))["skipped"] == gone["C"]
    await turn(dora, "undo")
    await turn(dora, "undo")
    assert (await turn(dora, "undo"))["skipped"] == gone["A"]
    assert await drafts(dora) == {}


async def test_a_row_on_its_way_out_is_not_drafted_again(world: World) -> None:
    ann, bob = await world.user("ann"), await world.user("bob")
    await world.mirror({"L": line()})
    await ann.draft("L", {"model": "N"})
    await turn(ann, "undo")
    await bob.draft("L", op="delete")
    await committed(bob, "L")
    gone = [{"id": "L", "field": None, "code": "ROW_DELETED"}]
    assert (await turn(ann, "redo"))["skipped"] == gone
    await ann.draft("M", {"category": "Cranes"}, op="insert")
    await turn(ann, "undo")
    await world.mirror({"M": line()})
    await bob.draft("M", op="delete")
    await committed(bob, "M")
    assert (await turn(ann, "redo"))["skipped"] == [gone[0] | {"id": "M"}]
    assert await drafts(ann) == {}


async def test_a_hundred_steps_are_kept(dora: User) -> None:
    for number in range(102):
        await dora.draft("A", {"mileage": number})
    for _ in range(100):
        await turn(dora, "undo")
    refused(await dora.post("drafts/undo", {}), 409, "NOTHING_TO_UNDO")
    assert (await dora.row("A"))["delta"] == {"mileage": 1}


async def test_drafts_of_one_row_are_one_step_of_the_hundred(dora: User) -> None:
    for number in range(99):
        await dora.draft("A", {"mileage": number})
    await dora.post("drafts", {"modifications": [{"id": "A", "delta": {"mileage": n}} for n in range(20)]})
    for _ in range(100):
        await turn(dora, "undo")
    assert await drafts(dora) == {}


async def test_everybody_undoes_their_own(world: World, dora: User) -> None:
    carl = (await world.user("carl")).on("fleet")
    await dora.draft("A", {"remark": "dora"})
    refused(await carl.post("drafts/undo", {}), 409, "NOTHING_TO_UNDO")
    await carl.draft("A", {"remark": "carl"})
    await turn(dora, "undo")
    assert await drafts(dora) == {}
    assert (await carl.row("A"))["delta"] == {"remark": "carl"}


async def test_the_same_request_again_undoes_nothing_more(dora: User) -> None:
    await dora.draft("A", {"remark": "one"})
    await dora.draft("B", {"remark": "two"})
    first = await dora.post("drafts/undo", {}, headers={"Idempotency-Key": "k"})
    again = await dora.post("drafts/undo", {}, headers={"Idempotency-Key": "k"})
    assert first.content == again.content
    assert list(await drafts(dora)) == ["A"]


async def test_a_field_that_the_contract_has_no_longer_is_skipped_and_named(world: World, dora: User) -> None:
    await dora.post("drafts", {"modifications": [{"id": key, "delta": {"mileage": 5}} for key in "AB"]})
    await world.db.execute(
        "UPDATE fleet.step AS s SET rows = ARRAY(SELECT ROW(r.row_key, r.from_op, r.from_delta, r.from_base,"
        " r.from_session, r.to_op, r.to_delta || '{\"wheels\": 4}', r.to_base, r.to_session)::vanguard.stepped_row"
        " FROM unnest(s.rows) AS r)"
    )
    await world.db.execute("UPDATE fleet.modification SET delta = delta || '{\"wheels\": 4}'")
    answer = await turn(dora, "undo")
    assert answer["ids"] == ["A", "B"]
    assert answer["skipped"] == [{"id": key, "field": "wheels", "code": "UNKNOWN_FIELD"} for key in "AB"]
    assert {row["delta"]["wheels"] for row in (await drafts(dora)).values()} == {4}
