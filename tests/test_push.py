"""Push: committed changes to upstream, each once or with a reason why not, and back into the mirror."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.upstream.protocol import Refused, Unavailable
from tests.ledger import Ledger
from tests.syncing import Yard, open_yard, van
from tests.world import User, refused


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of three vehicles that are in the mirror already; changes go one after the other."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 4)})
    async with open_yard(database_url, ledger, concurrency=1) as yard:
        await yard.work()
        yield yard


async def test_a_commit_goes_upstream_and_comes_back(yard: Yard) -> None:
    """Given a committed edit, when the worker has pushed it, then both sides have it and the row is pristine."""
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit("V-1")
    assert (await ann.row("V-1"))["syncState"] == "committed"
    await yard.work()
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 150})]
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"], row["mirrorVersion"], row["modifiedFields"]) == (
        "pristine",
        150,
        2,
        [],
    )
    assert await yard.changes() == [("V-1", "update", "synced")]
    entry = row["history"][0]
    assert (entry["source"], entry["actor"], entry["before"], entry["after"]) == (
        "push", "ann", {"mileage": 100}, {"mileage": 150},
    )  # fmt: skip


async def test_new_and_deleted_rows_go_upstream(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-9", {"plate": "V-9", "depot": "South", "kind": "Van", "mileage": 1}, op="insert")
    await ann.draft("V-2", op="delete")
    await ann.commit()
    await yard.work()
    assert sorted((op, key) for op, key, _ in yard.ledger.writes) == [("delete", "V-2"), ("insert", "V-9")]
    assert {row["id"]: row["syncState"] for row in await ann.rows(sort="id")} == {
        "V-1": "pristine", "V-3": "pristine", "V-9": "pristine",
    }  # fmt: skip
    assert (await yard.mirror())["V-9"]["depot"] == "South"


async def test_a_new_row_gets_its_key_from_upstream_and_what_is_drafted_over_it_follows(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("temporary", {"depot": "South", "kind": "Van", "mileage": 1}, op="insert")
    await ann.commit()
    await ann.draft("temporary", {"mileage": 2})
    await ann.commit()
    await ann.draft("temporary", {"seats": 8})
    yard.ledger.lost = 1
    await yard.work()
    assert await yard.changes() == [("temporary", "insert", "committed"), ("temporary", "update", "committed")]
    await yard.later(minutes=3)
    assert await yard.changes() == [("L-0004", "insert", "synced"), ("L-0004", "update", "synced")]
    assert [(op, key) for op, key, _ in yard.ledger.writes] == [("insert", "L-0004"), ("update", "L-0004")]
    row = await ann.row("L-0004")
    assert (row["data"]["mileage"], row["data"]["seats"], row["syncState"], row["op"]) == (2, 8, "draft", "update")
    assert (await ann.get("rows/temporary")).status_code == 404


async def test_the_same_cell_changed_upstream_is_a_conflict_and_the_others_merge(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.draft("V-2", {"mileage": 250})
    await ann.commit()
    yard.ledger.put("V-1", mileage=111, seats=4)
    yard.ledger.put("V-2", seats=5)
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "conflict"), ("V-2", "update", "synced")]
    merged = await ann.row("V-2")
    assert (merged["syncState"], merged["data"]["mileage"], merged["data"]["seats"]) == ("pristine", 250, 5)
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["seats"]) == ("conflict", 4)
    assert row["conflicts"] == [{"id": "V-1", "field": "mileage", "base": 100, "theirs": 111, "mine": 150}]
    assert (await yard.mirror())["V-1"]["mileage"] == 111


async def test_a_refusal_waits_for_a_person_and_stops_no_other(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.draft("V-2", {"mileage": 250})
    await ann.commit()
    yard.ledger.failures["write"] = [Refused("Mileage is not a valid number")]
    await yard.work()
    assert sorted(await yard.states()) == ["sync_error", "synced"]
    (failed,) = [key for key, _, state in await yard.changes() if state == "sync_error"]
    assert (await ann.row(failed))["syncState"] == "sync_error"


async def test_an_answer_that_was_lost_is_settled_by_reading(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit()
    yard.ledger.lost = 1
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "committed")]
    await yard.later(minutes=1)
    assert await yard.changes() == [("V-1", "update", "synced")]
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 150})]


async def test_upstream_that_is_away_is_left_alone_for_a_while(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit()
    yard.ledger.failures["hold"] = [Unavailable("Nobody is there") for _ in range(5)]
    for _ in range(5):
        await yard.later(seconds=5)
    calls = len(yard.ledger.calls)
    await yard.later(seconds=5)
    assert len(yard.ledger.calls) == calls
    await yard.later(seconds=60)
    assert await yard.changes() == [("V-1", "update", "synced")]


async def in_conflict(yard: Yard) -> User:
    """Ann, whose committed mileage of V-1 is 150 over 100, and 111 upstream meanwhile; her remark stands in no way."""
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150, "remark": "hers"})
    await ann.commit("V-1")
    yard.ledger.put("V-1", mileage=111)
    await yard.work()
    assert (await ann.row("V-1"))["syncState"] == "conflict"
    return ann


@pytest.mark.parametrize(
    ("resolution", "mileage"),
    [({"use": "mine"}, 150), ({"use": "theirs"}, 111), ({"use": "value", "value": 130}, 130)],
)
async def test_a_conflict_with_upstream_is_resolved_by_a_commit(
    yard: Yard, resolution: dict[str, Any], mileage: int
) -> None:
    ann = await in_conflict(yard)
    refused(await ann.commit("V-1"), 409, "MERGE_CONFLICT")
    answer = await ann.commit("V-1", resolutions=[{"id": "V-1", "field": "mileage", **resolution}])
    assert answer.status_code == 200, answer.text
    await yard.work()
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"], row["data"]["remark"]) == ("pristine", mileage, "hers")
    assert (yard.ledger.rows["V-1"]["mileage"], yard.ledger.rows["V-1"]["remark"]) == (mileage, "hers")


async def test_a_conflict_with_upstream_ends_with_an_edit(yard: Yard) -> None:
    """Given a refused change, when its author writes the cell again, then it is a draft over what theirs is now."""
    ann = await in_conflict(yard)
    assert (await ann.draft("V-1", {"mileage": 160}))["syncState"] == "draft"
    row = await ann.row("V-1")
    assert (row["conflicts"], row["base"]["mileage"], row["delta"]) == ([], 111, {"mileage": 160, "remark": "hers"})
    assert (await ann.commit("V-1")).status_code == 200
    await yard.work()
    assert yard.ledger.rows["V-1"]["mileage"] == 160


async def test_a_conflict_with_upstream_can_be_let_go(yard: Yard) -> None:
    ann = await in_conflict(yard)
    assert (await ann.discard("V-1")).status_code == 200
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"]) == ("pristine", 111)


async def test_a_row_deleted_upstream_under_a_change_can_be_inserted_again(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit("V-1")
    yard.ledger.remove("V-1")
    await yard.work()
    row = await ann.row("V-1")
    (conflict,) = row["conflicts"]
    assert (row["syncState"], conflict["field"], conflict["theirs"], conflict["mine"]["mileage"]) == (
        "conflict", None, None, 150,
    )  # fmt: skip
    assert conflict["mine"]["depot"] == "North"
    answer = await ann.commit("V-1", resolutions=[{"id": "V-1", "field": None, "use": "mine"}])
    assert answer.status_code == 200, answer.text
    await yard.work()
    assert yard.ledger.rows["V-1"]["mileage"] == 150
    assert (await ann.row("V-1"))["syncState"] == "pristine"


async def test_what_was_drafted_and_committed_over_a_refused_change_comes_back_with_it(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150, "seats": 4})
    await ann.commit("V-1")
    await ann.draft("V-1", {"mileage": 160})
    await ann.commit("V-1")
    await ann.draft("V-1", {"remark": "still drafting"})
    yard.ledger.failures["write"] = [Refused("Seats is not a valid number")]
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "sync_error"), ("V-1", "update", "committed")]
    assert (await ann.commit("V-1")).status_code == 200
    assert [state for *_, state in await yard.changes()] == ["rejected", "rejected", "committed"]
    await yard.work()
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 160, "seats": 4, "remark": "still drafting"})]
