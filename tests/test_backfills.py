"""A version is filled from the one in use: a row there is the same row here, whoever brought it."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.ingesting import APPENDED, TIMED, ingested, uploaded, used, work
from tests.support.own import SEMANTICS, customers, moved
from tests.support.world import User, World, committed, drafts, ids
from tests.test_ingestion import people, values
from tests.test_ingestion_runs import backfilled, second

__all__ = ["people"]  # the fixture

MINUTE = timedelta(minutes=1)
EACH = APPENDED | {"dedupeWindow": "0s"}
NOON = "2026-01-01T12:00:00Z"
WROTE = {"name": "wroteAt", "type": "datetime", "editable": False}


async def filled(world: World, people: dict[str, User]) -> User:
    """The next version, filled from the one in use, which has a customer of the tier gold."""
    await used(people)
    await ingested(people["ENGINEER"], {"customerId": "C1", "tier": "gold"})
    shadow = await second(people)
    await backfilled(world, shadow)
    return shadow


async def tried(world: World, shadow: User) -> dict[str, Any]:
    """What a promotion would come to."""
    world.clock.at += MINUTE
    return await moved(shadow, "promote", dryRun=True)


async def test_what_is_committed_between_two_backfills_comes_with_the_second(
    world: World, people: dict[str, User]
) -> None:
    shadow, ann = await filled(world, people), people["ANALYST"]
    await ann.draft("C1", {"tier": "silver"})
    await committed(ann)
    assert (await tried(world, shadow))["commits"]["drafts"] == 1
    assert await backfilled(world, shadow) == ("succeeded", None, {"read": 2, "updated": 1, "skipped": 1})
    assert await values(shadow, "tier") == {"C1": "silver"}
    outcome = await tried(world, shadow)
    assert (outcome["commits"]["drafts"], outcome["differences"]["rows"]["differing"]) == (0, 0)


async def test_a_cell_that_was_emptied_is_empty_here(world: World, people: dict[str, User]) -> None:
    shadow, ann = await filled(world, people), people["ANALYST"]
    await ann.draft("C1", {"tier": None})
    await committed(ann)
    await backfilled(world, shadow)
    assert await values(shadow, "tier") == {"C1": None}


async def test_a_row_that_is_deleted_after_a_backfill_is_a_draft_of_whoever_deleted_it(
    world: World, people: dict[str, User]
) -> None:
    await used(people)
    bob, ann = people["ENGINEER"], people["ANALYST"]
    await ingested(bob, {"customerId": "C1"}, {"customerId": "C2"})
    shadow = await second(people)
    await backfilled(world, shadow)
    await ann.draft("C1", op="delete")
    await committed(ann)
    world.clock.at += MINUTE
    await backfilled(world, shadow)
    world.clock.at += MINUTE
    assert (await moved(shadow, "promote"))["commits"]["drafts"] == 1
    assert {key: row["op"] for key, row in (await drafts(ann)).items()} == {"C1": "delete"}


async def test_what_was_committed_before_the_version_went_out_of_use_is_drafted_too(
    world: World, people: dict[str, User]
) -> None:
    shadow, ann = await filled(world, people), people["ANALYST"]
    await ann.draft("C1", {"tier": "silver"})
    await committed(ann)
    await moved(people["ADMIN"], "deprecate")
    assert (await moved(shadow, "promote"))["commits"]["drafts"] == 1
    assert {key: row["delta"] for key, row in (await drafts(ann)).items()} == {"C1": {"tier": "silver"}}


async def test_what_a_record_has_said_since_is_no_commit_any_more(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob, ann = people["ENGINEER"], people["ANALYST"]
    await ingested(bob, {"customerId": "C1", "tier": "gold", "revenue": 1})
    shadow = await second(people)
    await ann.draft("C1", {"tier": "silver", "revenue": 2})
    await committed(ann)
    world.clock.at += MINUTE
    await ingested(bob, {"customerId": "C1", "tier": "gold"})
    await backfilled(world, shadow)
    assert await values(shadow, "tier") == {"C1": "gold"}
    assert await values(shadow, "revenue") == {"C1": 2}
    assert (await tried(world, shadow))["commits"]["drafts"] == 0


async def test_a_commit_counts_though_its_clock_was_behind(world: World, people: dict[str, User]) -> None:
    """Given a commit told by a clock that is behind the one that registered, then it is not forgotten."""
    shadow, ann = await filled(world, people), people["ANALYST"]
    world.clock.at -= timedelta(seconds=3)
    await ann.draft("C1", {"tier": "silver"})
    await committed(ann)
    assert (await tried(world, shadow))["commits"]["drafts"] == 1


@pytest.mark.parametrize(("semantics", "key"), [(TIMED, "N1"), (EACH, f"N1~{NOON}~0")])
async def test_a_row_that_somebody_added_needs_no_event_time(
    world: World, people: dict[str, User], semantics: dict[str, Any], key: str
) -> None:
    await used(people, ingestion=semantics)
    ann = people["ANALYST"]
    await ann.draft(key, {"company": "Mine"}, op="insert")
    await committed(ann)
    shadow = await second(people)
    assert await backfilled(world, shadow) == ("succeeded", None, {"read": 1, "inserted": 1})
    assert await values(shadow, "companyName") == {key: "Mine"}


async def test_appended_rows_keep_their_ids_and_come_once(world: World, people: dict[str, User]) -> None:
    """Given twelve rows of one moment, of which one is gone, then a draft stays with the row that it is of."""
    await used(people, ingestion=EACH)
    bob, ann = people["ENGINEER"], people["ANALYST"]
    await ingested(bob, *({"customerId": "C1", "seenAt": NOON, "company": f"F{n}"} for n in range(12)))
    await ann.draft(f"C1~{NOON}~0", op="delete")
    await committed(ann)
    shadow = await second(people)
    for counts in ({"inserted": 11}, {"unchanged": 11}):
        assert await backfilled(world, shadow) == ("succeeded", None, {"read": 11, **counts})
    assert await values(shadow, "companyName") == {f"C1~{NOON}~{n}": f"F{n}" for n in range(1, 12)}
    await moved(shadow, "promote")
    # What comes next is told apart from what has come.
    await ingested(bob, {"customerId": "C1", "seenAt": NOON, "companyName": "F12"})
    assert f"C1~{NOON}~12" in ids(await bob.rows())


async def test_a_processing_time_of_records_is_no_time_of_receipt(world: World, people: dict[str, User]) -> None:
    """Given records that say when they were written, then they are no later than the row that they have become."""
    await used(
        people,
        fields=[*customers()["fields"], WROTE, {"name": "companyName", "type": "text"}],
        ingestion=SEMANTICS | {"processingTimeColumn": "wroteAt"},
    )
    bob, ann = people["ENGINEER"], people["ANALYST"]
    await ingested(bob, {"customerId": "C1", "tier": "gold", "wroteAt": "2020-01-01T00:00:00Z"})
    await ann.draft("C1", {"tier": "silver"})
    await committed(ann)
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [field for field in contract["fields"] if field["name"] != "companyName"]
    answer = await bob.post("/api/v1/orgs/acme/contracts", contract | {"version": "2.0", "fields": fields})
    assert answer.status_code == 201, answer.text
    shadow = people["ADMIN"].on("customers@2")
    assert (await backfilled(world, shadow))[2] == {"read": 2, "inserted": 1, "skipped": 1}
    assert await values(shadow, "tier") == {"C1": "silver"}


# -- records beside what people and other records say ------------------------------------------------------------------


@pytest.mark.parametrize("semantics", [EACH, APPENDED])
async def test_no_record_takes_the_place_of_a_row_that_somebody_added(
    people: dict[str, User], semantics: dict[str, Any]
) -> None:
    await used(people, ingestion=semantics)
    bob, ann = people["ENGINEER"], people["ANALYST"]
    await ann.draft(f"C1~{NOON}~0", {"company": "Mine"}, op="insert")
    await committed(ann)
    assert await ingested(bob, {"customerId": "C1", "seenAt": NOON, "company": "X"}) == {"read": 1, "inserted": 1}
    assert await values(bob, "company") == {f"C1~{NOON}~0": "Mine", f"C1~{NOON}~1": "X"}


async def test_a_row_that_changes_and_changes_back_in_one_portion_is_as_late_as_that(
    world: World, people: dict[str, User]
) -> None:
    await used(people)
    bob = people["ENGINEER"]
    await ingested(bob, {"customerId": "C1", "company": "A"})
    world.clock.at += MINUTE
    await uploaded(bob, b"customerId,company\nC1,X\n", "text/csv")
    world.clock.at += MINUTE
    await ingested(bob, {"customerId": "C1", "company": "B"}, {"customerId": "C1", "company": "A"})
    await work(world)
    assert await values(bob, "company") == {"C1": "A"}
