"""The life of a dataset: registered, promoted, deprecated, restored, rolled back; one version after another."""

from typing import Any

import pytest

from app.web.auth import Role
from tests.support.ingesting import APPENDED, SEEN, TIMED
from tests.support.own import customers, moved, ready, registered
from tests.support.world import User, World, committed, drafts, refused

ACME = {"company": "Acme", "tier": "gold", "revenue": 5}


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes contracts; everybody on `customers`."""
    await ready(world)
    return {role.value: (await world.user(role.value.lower(), role=role)).on("customers") for role in Role}


async def used(people: dict[str, User], **more: Any) -> dict[str, Any]:
    """The contract of a dataset that is in use."""
    contract: dict[str, Any] = (await registered(people["ENGINEER"], customers(**more)))["contract"]
    await moved(people["ADMIN"], "promote")
    return contract


def second(contract: dict[str, Any]) -> dict[str, Any]:
    """A breaking version of it: `company` has another name, `customerSince` is gone."""
    fields = [dict(field) for field in contract["fields"] if field["name"] != "customerSince"]
    fields[1]["name"] = "companyName"
    return contract | {"version": "2.0", "fields": fields}


async def test_a_registered_contract_is_in_shadow_until_it_is_promoted(people: dict[str, User]) -> None:
    answer = await registered(people["ENGINEER"])
    assert (answer["dataset"], answer["version"], answer["state"]) == ("customers", "1.0", "SHADOW")
    assert (await people["VIEWER"].get("rows")).status_code == 404
    assert (await people["ENGINEER"].get("rows")).status_code == 200
    draft = {"modifications": [{"id": "C1", "op": "insert", "delta": ACME}]}
    assert refused(await people["ADMIN"].post("drafts", draft), 409, "DATASET_READ_ONLY")["state"] == "SHADOW"
    promoted = await moved(people["ADMIN"], "promote")
    assert (promoted["dataset"], promoted["state"]) == ("customers", "ACTIVE")
    assert (await people["VIEWER"].get("rows")).status_code == 200


async def test_rows_of_an_own_dataset_are_drafted_and_committed(people: dict[str, User]) -> None:
    await used(people)
    ann = people["ANALYST"]
    await ann.draft("C1", ACME, op="insert")
    await committed(ann)
    rows = await people["VIEWER"].rows(sort="-revenue")
    assert [(row["id"], row["data"]["company"]) for row in rows] == [("C1", "Acme")]


async def test_a_breaking_version_takes_over_what_people_have_under_way(people: dict[str, User]) -> None:
    contract = await used(people)
    ann, boss = people["ANALYST"], people["ADMIN"]
    await ann.draft("C1", ACME, op="insert")
    await committed(ann)
    await ann.draft("C1", {"company": "Acme Ltd", "customerSince": "2026-01-01"})
    ann.world.clock.move(hours=1)
    answer = await registered(people["ENGINEER"], second(contract))
    assert (answer["address"], answer["state"]) == ("customers@2", "SHADOW")
    outcome = await moved(boss.on("customers@2"), "promote")
    assert outcome["superseded"] == "customers@1"
    assert outcome["moved"]["drafts"] == 1
    assert outcome["moved"]["left"] == [
        {"user": "analyst", "userName": "analyst", "rowId": "C1", "fields": ["customerSince"], "requestId": None}
    ]
    state = (await boss.get("state")).json()
    assert (state["state"], state["version"]) == ("ACTIVE", "2.0")
    assert {key: row["delta"] for key, row in (await drafts(ann)).items()} == {"C1": {"companyName": "Acme Ltd"}}
    back = await moved(boss, "rollback")
    assert (back["dataset"], back["superseded"]) == ("customers@2", "customers")
    assert {key: row["delta"] for key, row in (await drafts(ann)).items()} == {
        "C1": {"company": "Acme Ltd", "customerSince": "2026-01-01"}
    }


async def test_what_was_committed_since_a_promotion_is_drafted_by_its_authors_after_a_rollback(
    people: dict[str, User],
) -> None:
    contract = await used(people)
    ann, boss = people["ANALYST"], people["ADMIN"]
    await ann.draft("C1", ACME, op="insert")
    await committed(ann)
    await registered(people["ENGINEER"], second(contract))
    await moved(boss.on("customers@2"), "promote")
    await ann.draft("C2", {"companyName": "Beta", "tier": "gold", "revenue": 7}, op="insert")
    await committed(ann)
    rehearsal = await moved(boss, "rollback", dryRun=True)
    assert rehearsal["commits"]["drafts"] == 1
    await moved(boss, "rollback")
    found = (await drafts(ann))["C2"]
    assert (found["op"], found["delta"]["company"]) == ("insert", "Beta")
    assert [row["id"] for row in await ann.rows()] == ["C1", "C2"]
    assert [row["id"] for row in await boss.rows()] == ["C1"]


async def test_a_compatible_version_applies_in_place(people: dict[str, User]) -> None:
    contract = await used(people)
    ann = people["ANALYST"]
    await ann.draft("C1", ACME, op="insert")
    fields = [*contract["fields"], {"name": "region", "type": "text", "indexed": True}]
    answer = await registered(people["ENGINEER"], contract | {"version": "1.1", "fields": fields})
    assert (answer["address"], answer["state"], answer["version"]) == ("customers", "ACTIVE", "1.1")
    await ann.draft("C1", {"region": "North"})
    await committed(ann)
    assert [row["id"] for row in await people["VIEWER"].rows(region="North")] == ["C1"]


async def test_a_deprecated_dataset_is_read_by_who_asks_for_it_and_written_by_nobody(people: dict[str, User]) -> None:
    await used(people)
    ann, boss = people["ANALYST"], people["ADMIN"]
    await ann.draft("C1", ACME, op="insert")
    await moved(boss, "deprecate")
    refused(await ann.get("rows"), 404, "DATASET_NOT_FOUND")
    assert (await ann.get("rows", {"includeDeprecated": "true"})).status_code == 200
    assert (await ann.on("customers@1").get("rows")).status_code == 200
    refused(await ann.on("customers@1").commit(), 409, "DATASET_READ_ONLY")
    await moved(boss, "restore")
    await committed(ann)


async def test_no_other_way_between_states(people: dict[str, User]) -> None:
    await registered(people["ENGINEER"])
    boss, reason = people["ADMIN"], {"reason": "as the test has it"}
    for action in ("deprecate", "restore", "rollback"):
        refused(await boss.post(action, reason), 400, "INVALID_TRANSITION")
    refused(await boss.post("promote", reason | {"fromState": "ACTIVE"}), 409, "INVALID_TRANSITION")
    assert (await people["ENGINEER"].post("promote", reason)).status_code == 403


async def test_versions_are_compared_before_one_is_promoted(people: dict[str, User]) -> None:
    contract = await used(people)
    ann, boss = people["ANALYST"], people["ADMIN"]
    await ann.draft("C1", ACME, op="insert")
    await committed(ann)
    await registered(people["ENGINEER"], second(customers(**contract)))
    rehearsal = await moved(boss.on("customers@2"), "promote", dryRun=True)
    assert rehearsal["differences"]["rows"] == {
        "before": 1, "after": 0, "onlyBefore": 1, "onlyAfter": 0, "differing": 0,
    }  # fmt: skip
    assert rehearsal["differences"]["kpis"] == [{"name": "sum_revenue", "before": 5, "after": 0}]
    assert (await boss.get("state")).json()["version"] == "1.0"


async def test_the_history_of_a_row_goes_on_into_the_version_before(people: dict[str, User]) -> None:
    contract = await used(people)
    ann, bob, boss = people["ANALYST"], people["ENGINEER"], people["ADMIN"]
    await ann.draft("C1", ACME, op="insert")
    await committed(ann)
    await registered(bob, second(contract))
    filled = {"records": [{"customerId": "C1", "companyName": "Acme", "tier": "gold", "revenue": 5}]}
    assert (await bob.on("customers@2").post("ingest", filled)).status_code == 200
    await moved(boss.on("customers@2"), "promote")
    await ann.draft("C1", {"companyName": "Beta"})
    await committed(ann)
    told: list[tuple[str, str, list[str]]] = []
    after = None
    while after is not None or not told:
        page = (await ann.get("rows/C1/history", {"limit": 1} | ({"after": after} if after else {}))).json()
        told += [
            (e["op"], e["source"], [c["after"] for c in e["cells"] if c["field"] == "companyName"])
            for e in page["data"]
        ]
        after = page["nextCursor"]
    assert told == [("update", "commit", ["Beta"]), ("insert", "ingest", ["Acme"]), ("insert", "commit", ["Acme"])]


async def test_what_was_committed_since_a_version_was_filled_is_drafted_by_its_authors(
    world: World, people: dict[str, User]
) -> None:
    contract = await used(people)
    ann, bob, boss = people["ANALYST"], people["ENGINEER"], people["ADMIN"]
    for key in ("C1", "C2"):
        await ann.draft(key, ACME, op="insert")
    await committed(ann)
    world.clock.move(hours=1)
    await registered(bob, second(contract))
    filled = [{"customerId": key, "companyName": "Acme", "tier": "gold", "revenue": 5} for key in ("C1", "C2")]
    assert (await bob.on("customers@2").post("ingest", {"records": filled})).status_code == 200
    world.clock.move(hours=1)
    # Two people change one cell, one after the other; one deletes a row and brings another.
    await ann.draft("C1", {"company": "First", "tier": "silver"})
    await committed(ann)
    await boss.draft("C1", {"company": "Last"})
    await boss.draft("C2", op="delete")
    await boss.draft("C3", ACME, op="insert")
    await committed(boss)
    outcome = await moved(boss.on("customers@2"), "promote")
    assert outcome["commits"]["drafts"] == 4
    assert {key: row["delta"] for key, row in (await drafts(ann)).items()} == {"C1": {"tier": "silver"}}
    mine = await drafts(boss)
    assert {key: row["op"] for key, row in mine.items()} == {"C1": "update", "C2": "delete", "C3": "insert"}
    assert (mine["C1"]["delta"], mine["C3"]["delta"]["companyName"]) == ({"companyName": "Last"}, "Acme")
    await committed(ann)
    await committed(boss)
    assert [(row["id"], row["data"]["companyName"], row["data"]["tier"]) for row in await ann.rows()] == [
        ("C1", "Last", "silver"), ("C3", "Acme", "gold"),
    ]  # fmt: skip


EVENTS = [*customers()["fields"], SEEN, SEEN | {"name": "sentAt"}]


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        (TIMED, APPENDED, ["N1"]),
        (APPENDED, TIMED, ["C1~2026-01-01T00:00:00Z~0"]),
        (APPENDED, APPENDED | {"eventTimeColumn": "sentAt"}, ["C1~2026-01-01T00:00:00Z~0"]),
        (APPENDED, APPENDED | {"dedupeWindow": "1d"}, []),
    ],
    ids=["upsert-append", "append-upsert", "another-event-time", "the-same"],
)
async def test_drafts_stay_where_ids_are_made_of_something_else(
    people: dict[str, User], before: dict[str, Any], after: dict[str, Any], left: list[str]
) -> None:
    contract = await used(people, fields=EVENTS, ingestion=before)
    ann, boss = people["ANALYST"], people["ADMIN"]
    key = "N1" if before["mode"] == "upsert" else "C1~2026-01-01T00:00:00Z~0"
    await ann.draft(key, {"tier": "gold"}, op="insert")
    await registered(people["ENGINEER"], contract | {"version": "2.0", "ingestion": after})
    outcome = await moved(boss.on("customers@2"), "promote")
    assert [each["rowId"] for each in outcome["moved"]["left"]] == left
    assert [*await drafts(ann)] == ([] if left else [key])
    await moved(boss, "rollback")
    assert [*await drafts(ann)] == [key]


async def test_what_goes_with_nobody_to_a_version_that_is_read_only_is_told_and_kept(
    world: World, people: dict[str, User]
) -> None:
    ann, bob, boss = people["ANALYST"], people["ENGINEER"], people["ADMIN"]
    contract = (await registered(bob, customers(readOnly=True)))["contract"]
    await registered(bob, contract | {"version": "2.0", "readOnly": False})
    filled = {"records": [{"customerId": key} | ACME for key in ("C1", "C2")]}
    for user in (bob, bob.on("customers@2")):
        assert (await user.post("ingest", filled)).status_code == 200
    await moved(boss.on("customers@2"), "promote")
    await ann.draft("C1", {"tier": "silver", "revenue": 6})
    await committed(ann)
    await ann.draft("C1", {"tier": "gold"})
    await committed(ann)
    await ann.draft("C1", {"company": "Drafted"})
    await ann.draft("C2", op="delete")
    rehearsal = await moved(boss, "rollback", dryRun=True)
    assert await moved(boss, "rollback") == rehearsal
    assert (rehearsal["commits"]["drafts"], rehearsal["moved"]["drafts"]) == (0, 0)
    assert [(left["rowId"], left["fields"]) for left in rehearsal["commits"]["left"]] == [("C1", ["revenue", "tier"])]
    assert [(left["rowId"], left["fields"]) for left in rehearsal["moved"]["left"]] == [
        ("C1", ["company"]), ("C2", ["company", "customerId", "revenue", "tier"]),
    ]  # fmt: skip
    assert {each["user"] for part in ("commits", "moved") for each in rehearsal[part]["left"]} == {"analyst"}
    assert await drafts(ann) == {}
    await moved(boss.on("customers@2"), "promote")
    assert {key: row["op"] for key, row in (await drafts(ann)).items()} == {"C1": "update", "C2": "delete"}


async def test_what_people_have_under_way_follows_back_to_a_version_that_was_out_of_use(
    people: dict[str, User],
) -> None:
    contract = await used(people)
    ann, boss = people["ANALYST"], people["ADMIN"]
    await ann.draft("C1", ACME, op="insert")
    await moved(boss, "deprecate")
    ann.world.clock.move(minutes=1)
    await registered(people["ENGINEER"], second(contract))
    await moved(boss.on("customers@2"), "promote")
    await ann.draft("C2", {"companyName": "Beta", "tier": "gold"}, op="insert")
    await committed(ann, "C2")
    ann.world.clock.move(minutes=1)
    outcome = await moved(boss, "rollback")
    assert (outcome["commits"]["drafts"], outcome["moved"]["drafts"]) == (1, 1)
    await moved(boss, "restore")
    assert {key: row["data"]["company"] for key, row in (await drafts(ann)).items()} == {"C1": "Acme", "C2": "Beta"}


async def brought(people: dict[str, User]) -> User:
    """A dataset that has a row: an ADMIN on a breaking version of it, which was filled with the same one."""
    ann, bob = people["ANALYST"], people["ENGINEER"]
    contract = await used(people)
    await ann.draft("C1", ACME, op="insert")
    await committed(ann)
    bob.world.clock.move(hours=1)
    await registered(bob, second(contract))
    filled = {"records": [{"customerId": "C1", "companyName": "Acme", "tier": "gold", "revenue": 5}]}
    assert (await bob.on("customers@2").post("ingest", filled)).status_code == 200
    bob.world.clock.move(hours=1)
    return people["ADMIN"].on("customers@2")


@pytest.mark.parametrize("again", ["ANALYST", "ADMIN"])
async def test_a_row_that_was_deleted_and_brought_again_has_none_of_the_cells_of_before(
    people: dict[str, User], again: str
) -> None:
    """Whoever brings it again: the deletion is over by that."""
    ann, bringer = people["ANALYST"], people[again]
    shadow = await brought(people)
    await ann.draft("C1", op="delete")
    await committed(ann)
    await bringer.draft("C1", {"tier": "silver"}, op="insert")
    await committed(bringer)
    assert (await moved(shadow, "promote"))["commits"]["drafts"] == 1
    assert {key: (row["op"], row["delta"]) for key, row in (await drafts(bringer)).items()} == {
        "C1": ("update", {"companyName": None, "revenue": None, "tier": "silver"})
    }
    await committed(bringer)
    [row] = await people["VIEWER"].rows()
    assert {name: value for name, value in row["data"].items() if value is not None} == {
        "customerId": "C1", "tier": "silver",
    }  # fmt: skip


async def test_a_committed_cell_that_does_not_fit_is_told_of_who_changed_it_last(people: dict[str, User]) -> None:
    ann, boss = people["ANALYST"], people["ADMIN"]
    shadow = await brought(people)
    for user, delta in (
        (ann, {"customerSince": "2026-01-01"}),
        (ann, {"customerSince": "2026-01-02"}),
        (boss, {"customerSince": "2026-01-03"}),
        (boss, {"customerSince": "2026-01-04", "revenue": 7}),
    ):
        await user.draft("C1", delta)
        await committed(user)
    outcome = (await moved(shadow, "promote"))["commits"]
    assert (outcome["drafts"], outcome["leftCells"]) == (1, 1)
    assert [(left["user"], left["fields"]) for left in outcome["left"]] == [("admin", ["customerSince"])]


@pytest.mark.parametrize(
    ("committed_first", "drafted", "found"),
    [
        (
            {"op": "delete"},
            {"op": "insert", "delta": {"tier": "silver"}},
            {"C1": ("update", {"companyName": None, "revenue": None, "tier": "silver"})},
        ),
        ({"delta": {"revenue": 9}}, {"op": "delete"}, {"C1": ("delete", {})}),
        (
            {"delta": {"revenue": 9, "tier": "silver"}},
            {"delta": {"revenue": 8}},
            {"C1": ("update", {"revenue": 8, "tier": "silver"})},
        ),
    ],
    ids=["brought-again", "deleted", "changed"],
)
async def test_what_somebody_drafted_lies_over_what_they_had_committed(
    people: dict[str, User],
    committed_first: dict[str, Any],
    drafted: dict[str, Any],
    found: dict[str, tuple[str, dict[str, Any]]],
) -> None:
    ann = people["ANALYST"]
    shadow = await brought(people)
    await ann.draft("C1", **committed_first)
    await committed(ann)
    await ann.draft("C1", **drafted)
    await moved(shadow, "promote")
    assert {key: (row["op"], row["delta"]) for key, row in (await drafts(ann)).items()} == found
