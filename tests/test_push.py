"""Push: committed changes to upstream, each once or with a reason why not, and back into the mirror."""

from collections.abc import AsyncIterator

import pytest

from app.upstream.protocol import Refused, Unavailable
from tests.ledger import Ledger
from tests.syncing import Yard, open_yard, van


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of three vehicles that are in the mirror already."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 4)})
    async with open_yard(database_url, ledger) as yard:
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
    assert [(op, key) for op, key, _ in yard.ledger.writes] == [("delete", "V-2"), ("insert", "V-9")]
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
    await yard.later(minutes=1)
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
    assert await yard.changes() == [("V-1", "update", "sync_error"), ("V-2", "update", "synced")]
    assert (await ann.row("V-1"))["syncState"] == "sync_error"


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
