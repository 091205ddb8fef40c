"""Discarding: drafts, fields of them, and what upstream refused."""

import pytest

from tests.support.world import (
    NEW,
    User,
    World,
    changes,
    committed,
    drafts,
    ids,
    line,
    refuse_upstream,
    refused,
    written,
)


async def test_a_discard_names_what_goes(world: World, ann: User, bob: User) -> None:
    await world.mirror({key: line(category="Cranes") for key in "ABCDE"})
    for keys, session in (("AB", "s1"), ("CDE", "s2")):
        batch = [{"id": key, "delta": {"category": "Pumps"}} for key in keys]
        await ann.post("drafts", {"modifications": batch, "sessionId": session})
    await bob.draft("A", {"category": "Pumps"})
    assert written(await ann.discard("C", "X")) == {"discarded": 1}
    assert written(await ann.post("discard", {"sessionId": "s1"})) == {"discarded": 2}
    assert ids(await ann.rows(category="Pumps", sort="id")) == ["D", "E"]
    assert written(await ann.discard()) == {"discarded": 2}
    assert written(await ann.discard()) == {"discarded": 0}
    assert (await ann.page(category="Cranes"))["pagination"]["totalRecords"] == 5
    assert set(await drafts(bob)) == {"A"}


async def test_a_discard_of_fields_leaves_the_others(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M0", category="Cranes"), "B": line(), "C": line()})
    await ann.draft(
        "A", {"model": "M1", "category": "Pumps", "forecastStart": "2026-03-01", "forecastEnd": "2026-04-01"}
    )
    await ann.draft("B", {"model": "M1"})
    await ann.draft("C", op="delete")
    await ann.draft("new", {**NEW, "model": "M1"}, op="insert")
    answer = await ann.discard(fields=["model", "forecastStart"])
    assert written(answer) == {"discarded": 3}
    found = await drafts(ann)
    assert {key: row["op"] for key, row in found.items()} == {"A": "update", "C": "delete", "new": "insert"}
    assert found["A"]["delta"] == {"category": "Pumps", "forecastEnd": "2026-04-01"}
    assert found["A"]["base"] == {"category": "Cranes", "forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"}
    assert "model" not in found["new"]["delta"]
    assert ids(await ann.rows(**{"model[isnull]": "true"}, sort="id")) == ["B", "new"]
    refused(await ann.discard(fields=["nothing"]), 400, "MALFORMED_REQUEST")
    refused(await ann.discard(fields=[]), 400, "MALFORMED_REQUEST")


async def test_a_committed_change_is_not_discarded(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M0"), "B": line()})
    await ann.draft("A", {"model": "M1"})
    await committed(ann)
    assert written(await ann.discard("A")) == {"discarded": 0}
    assert written(await ann.discard()) == {"discarded": 0}
    row = await ann.row("A")
    assert (row["syncState"], row["data"]["model"]) == ("committed", "M1")


@pytest.mark.parametrize("state", ["conflict", "sync_error"])
async def test_what_upstream_refused_can_be_discarded(world: World, ann: User, state: str) -> None:
    """Given refused changes, one drafted over and so a draft again, then discarding brings the mirror's row back."""
    await world.mirror({key: line(model="M0", category="Cranes") for key in "ABC"})
    for key in "ABC":
        await ann.draft(key, {"model": "M1", "category": "Pumps"})
    await committed(ann)
    await refuse_upstream(world, "A", state)
    await refuse_upstream(world, "B", state)
    await ann.draft("B", {"class": "Light"})
    assert [(row["id"], row["syncState"]) for row in await ann.rows(sort="id")] == [
        ("A", state), ("B", "draft"), ("C", "committed"),
    ]  # fmt: skip
    assert ids(await ann.rows(syncState=state)) == ["A"]
    assert (await ann.row("B"))["delta"] == {"model": "M1", "category": "Pumps", "class": "Light"}

    assert written(await ann.discard()) == {"discarded": 2}
    assert [(row["id"], row["syncState"], row["data"]["model"]) for row in await ann.rows(sort="id")] == [
        ("A", "pristine", "M0"), ("B", "pristine", "M0"), ("C", "committed", "M1"),
    ]  # fmt: skip
    assert ids(await ann.rows(category="Cranes", sort="id")) == ["A", "B"]
    assert [change[5] for change in await changes(world)] == ["discarded", "rejected", "committed"]


async def test_a_refused_change_before_one_that_waits(world: World, ann: User) -> None:
    """Discarding takes the refused one; the later one of the same row goes on."""
    await world.mirror({"A": line(model="M0", equipment="E0")})
    for delta in ({"model": "M1"}, {"equipment": "E1"}):
        await ann.draft("A", delta)
        await committed(ann)
    await world.db.execute("UPDATE pfa.change SET state = 'sync_error', settled_at = now() WHERE delta ? 'model'")
    await world.db.execute("UPDATE pfa.modification SET pending_state = 'sync_error'")
    assert (await ann.row("A"))["syncState"] == "sync_error"
    # Who commits everything takes what is drafted: what was refused waits for a person.
    refused(await ann.commit(), 404, "NO_DRAFTS")
    assert written(await ann.discard("A")) == {"discarded": 1}
    row = await ann.row("A")
    assert (row["syncState"], row["pending"], row["data"]["model"]) == ("committed", {"equipment": "E1"}, "M0")
