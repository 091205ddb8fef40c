"""Where one version of a dataset ends and another begins: keys, dry runs, tags, cursors, positions, caches."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.own import customers, moved, ready, registered
from tests.support.whole import whole
from tests.support.world import User, World, committed, ids, refused, written

CONTRACTS = "/api/v1/orgs/acme/contracts"
REASON = {"reason": "as the test has it"}


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes contracts; everybody on `customers`."""
    await ready(world)
    return {role.value: (await world.user(role.value.lower(), role=role)).on("customers") for role in Role}


def second(contract: dict[str, Any], version: str = "2.0") -> dict[str, Any]:
    """A breaking version of it: `company` has another name."""
    fields = [dict(field) for field in contract["fields"]]
    fields[1]["name"] = "companyName"
    return contract | {"version": version, "fields": fields}


async def both(world: World, people: dict[str, User], rows: int = 3) -> dict[str, Any]:
    """A dataset in use with rows, and a breaking version beside with other ones, in the same places."""
    ann = people["ANALYST"]
    contract: dict[str, Any] = (await registered(people["ENGINEER"]))["contract"]
    await moved(people["ADMIN"], "promote")
    for number in range(rows):
        await ann.draft(f"C{number}", {"company": "old", "tier": "gold", "revenue": number}, op="insert")
    await committed(ann)
    await registered(people["ENGINEER"], second(contract))
    old, new = [name for (name,) in await world.db.fetch("SELECT schema_name FROM contract ORDER BY major")]
    await world.db.execute(
        f"INSERT INTO {new}.mirror (organization_id, row_key, data, revision) SELECT organization_id, row_key,"
        f" data - 'company' || '{{\"companyName\": \"new\"}}', 1 FROM {old}.mirror"
    )
    return contract


# -- Idempotency-Key ---------------------------------------------------------------------------------------------------


async def test_a_registration_sent_again_gets_the_first_answer_again(world: World, people: dict[str, User]) -> None:
    erin, key = people["ENGINEER"], {"Idempotency-Key": "k1"}
    first = await erin.post(CONTRACTS, customers(), headers=key)
    again = await erin.post(CONTRACTS, customers(), headers=key)
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.status_code == 201
    refused(await erin.post(CONTRACTS, customers(title="Other"), headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    assert await world.db.fetchval("SELECT count(*) FROM contract") == 1


async def test_one_key_at_once_registers_and_promotes_once(world: World, people: dict[str, User]) -> None:
    erin, boss = people["ENGINEER"], people["ADMIN"]
    answers = await asyncio.gather(
        *(erin.post(CONTRACTS, customers(), headers={"Idempotency-Key": "k"}) for _ in range(5))
    )
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    answers = await asyncio.gather(*(boss.post("promote", REASON, headers={"Idempotency-Key": "p"}) for _ in range(5)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert await world.db.fetchval("SELECT count(*) FROM dataset_transition WHERE action = 'promote'") == 1


async def test_refusals_are_kept_too(people: dict[str, User]) -> None:
    erin, boss = people["ENGINEER"], people["ADMIN"]
    bad = customers(key="nothing")
    told = [await erin.post(CONTRACTS, bad, headers={"Idempotency-Key": "r"}) for _ in range(2)]
    assert told[0].status_code == told[1].status_code == 422
    assert told[0].json()["errors"] == told[1].json()["errors"]
    await registered(erin)
    first = refused(await boss.post("deprecate", REASON, headers={"Idempotency-Key": "d"}), 400, "INVALID_TRANSITION")
    await moved(boss, "promote")
    again = refused(await boss.post("deprecate", REASON, headers={"Idempotency-Key": "d"}), 400, "INVALID_TRANSITION")
    assert again["detail"] == first["detail"]


async def test_a_dry_run_keeps_no_key(people: dict[str, User]) -> None:
    """It can be sent again, and tells what would happen then."""
    boss, key = people["ADMIN"], {"Idempotency-Key": "dry"}
    await registered(people["ENGINEER"])
    for _ in range(2):
        answer = await boss.post("promote", REASON | {"dryRun": True}, headers=key)
        assert written(answer)["state"] == "ACTIVE"
    assert written(await boss.post("promote", REASON, headers=key))["state"] == "ACTIVE"


# -- dry runs ----------------------------------------------------------------------------------------------------------


async def test_a_dry_run_leaves_nothing(world: World, people: dict[str, User]) -> None:
    """Of any transition, with drafts, commits and all: not a row, a column or a number of the feed."""
    ann, boss = people["ANALYST"], people["ADMIN"]
    await both(world, people)
    await ann.draft("C1", {"company": "drafted"})

    async def rehearse(user: User, action: str) -> dict[str, Any]:
        before = await whole(world)
        told = await moved(user, action, dryRun=True)
        assert await whole(world) == before, action
        return told

    rehearsed = await rehearse(boss.on("customers@2"), "promote")
    assert rehearsed["moved"]["drafts"] == 1
    real = await moved(boss.on("customers@2"), "promote")
    assert real == rehearsed
    await ann.draft("C2", {"companyName": "committed"})
    await committed(ann, "C2")
    for user, action in ((boss, "deprecate"), (boss, "rollback")):
        rehearsed = await rehearse(user, action)
    assert await moved(boss, "rollback") == rehearsed
    await moved(boss, "deprecate")
    rehearsed = await rehearse(boss, "restore")
    assert await moved(boss, "restore") == rehearsed


# -- tags, cursors, caches ---------------------------------------------------------------------------------------------

PATHS = ["rows", "rows?sort=-revenue", "rows?tier=gold&count=exact", "kpis", "rows/C1", "drafts", "state"]


async def read(user: User, path: str, tag: str | None = None) -> httpx.Response:
    """An answer, or 304."""
    return await user.get(path, headers={"If-None-Match": tag} if tag else {})


async def test_no_tag_or_cache_of_one_version_answers_for_another(world: World, people: dict[str, User]) -> None:
    """Promoted, rolled back and promoted again: each time every tag of before is answered with rows of now. A row that
    is what it was has the tag that it had.
    """
    vera, boss = people["VIEWER"], people["ADMIN"]
    await both(world, people)
    tags: list[tuple[str, str, str]] = []
    for action, address, word in (
        (None, "customers", "old"),
        ("promote", "customers@2", "new"),
        ("rollback", "customers", "old"),
        ("promote", "customers@2", "new"),
    ):
        if action:
            await moved(boss.on(address), action)
        for path, tag, was in tags:
            answer = await read(vera, path, tag)
            assert answer.status_code == (304 if (path, was) == ("rows/C1", word) else 200), (action, path)
            assert '"new"' not in answer.text if word == "old" else '"old"' not in answer.text
        for path in PATHS:
            answer = await read(vera, path)
            assert answer.status_code == 200, answer.text
            if tag := answer.headers.get("ETag"):
                assert (await read(vera, path, tag)).status_code == 304
                tags.append((path, tag, word))
        page = await vera.page(tier="gold", sort="-revenue")
        field = "company" if word == "old" else "companyName"
        assert {row["data"][field] for row in page["data"]} == {word}
        assert page["pagination"]["totalRecords"] == 3


@pytest.mark.parametrize("path", ["rows", "drafts"])
async def test_a_cursor_of_another_version_is_refused(world: World, people: dict[str, User], path: str) -> None:
    ann, boss = people["ANALYST"], people["ADMIN"]
    await both(world, people)
    for key in ("C0", "C1", "C2"):
        await ann.draft(key, {"revenue": 70})
    params = {"pageSize": "1"} | ({"sort": "revenue"} if path == "rows" else {})
    cursor = (await ann.get(path, params)).json()["pagination"]["nextCursor"]
    assert (await ann.get(path, params | {"after": cursor})).status_code == 200
    await moved(boss.on("customers@2"), "promote")
    refused(await ann.get(path, params | {"after": cursor}), 400, "INVALID_CURSOR")
    old = await ann.on("customers@1").get(path, params | {"after": cursor, "includeDeprecated": "true"})
    assert old.status_code in (200, 400), old.text
    if old.status_code == 200 and path == "rows":
        assert {row["data"]["company"] for row in old.json()["data"]} == {"old"}


async def test_a_minor_version_answers_no_tag_and_no_cursor_of_the_one_before(
    world: World, people: dict[str, User]
) -> None:
    ann = people["ANALYST"]
    contract = await both(world, people)
    params = {"pageSize": "1", "sort": "revenue"}
    answer = await ann.get("rows", params)
    tag, cursor = answer.headers["ETag"], answer.json()["pagination"]["nextCursor"]
    fields = [*contract["fields"], {"name": "region", "type": "text", "indexed": True}]
    await registered(people["ENGINEER"], contract | {"version": "1.1", "fields": fields})
    assert (await ann.get("rows", params, headers={"If-None-Match": tag})).status_code == 200
    later = await ann.get("rows", params | {"after": cursor})
    assert later.status_code == 200 or refused(later, 400, "INVALID_CURSOR")
    refused(await ann.get("rows", {"nonsense": "x"}), 400, "INVALID_FILTER")
    assert (await ann.get("rows", {"region": "North"})).status_code == 200


async def test_a_name_that_is_given_again_after_its_deletion_has_nothing_of_before(
    world: World, people: dict[str, User]
) -> None:
    """No tag, no cached contract, no listing."""
    erin = people["ENGINEER"]
    await registered(erin)
    answer = await erin.get("rows", {"company": "x"})
    tag = answer.headers["ETag"]
    assert (await erin.request("DELETE", f"{CONTRACTS}/customers/1.0")).status_code == 204
    assert (await erin.get("rows")).status_code == 404
    fields = [field for field in customers()["fields"] if field["name"] != "company"]
    await registered(erin, customers(fields=fields))
    refused(await erin.get("rows", {"company": "x"}), 400, "INVALID_FILTER")
    assert (await erin.get("rows", headers={"If-None-Match": tag})).status_code == 200


async def test_two_organizations_share_no_listing_of_one_name(world: World, people: dict[str, User]) -> None:
    """Contracts of one name and version, and other fields: a question that one of them takes the other one refuses."""
    await world.organization("rival")
    eve = (await world.user("eve", "rival", Role.ENGINEER)).on("customers")
    erin = people["ENGINEER"]
    await registered(erin)
    fields = [field for field in customers()["fields"] if field["name"] != "company"]
    await registered(eve, customers(fields=fields))
    for _ in range(2):
        assert (await erin.get("rows", {"company": "x"})).status_code == 200
        refused(await eve.get("rows", {"company": "x"}), 400, "INVALID_FILTER")


async def test_positions_go_on_through_every_transition(world: World, people: dict[str, User]) -> None:
    """Whoever follows the feed misses none, and is told nothing twice."""
    ann, boss = people["ANALYST"], people["ADMIN"]
    start = (await ann.get("/api/v1/orgs/acme/changes", {"since": "now"})).json()["nextSince"]
    await both(world, people)
    await moved(boss.on("customers@2"), "promote")
    await ann.draft("C1", {"companyName": "x"})
    told = await committed(ann)
    await moved(boss, "rollback")
    seen: list[dict[str, Any]] = []
    while True:
        page = exact_json.decode((await ann.get("/api/v1/orgs/acme/changes", {"since": start, "limit": "2"})).content)
        seen += page["data"]
        start = page["nextSince"]
        if page["upToDate"]:
            break
    assert len({event["id"] for event in seen}) == len(seen)
    events = [event["details"].get("event") for event in seen if event["type"] == "dataset"]
    assert Counter(events)["promote"] >= 1
    assert "rollback" in events
    assert "SHADOW" not in {
        event["details"].get("state") for event in seen if event["details"].get("event") == "registered"
    }
    since = await ann.get("/api/v1/orgs/acme/changes", {"since": told["position"]})
    assert since.status_code == 200
    revisions = [event["revision"] for event in seen if event["dataset"] == "customers" and event["revision"]]
    assert revisions == sorted(revisions)


async def test_etags_of_rows_hold_no_write_to_another_version(world: World, people: dict[str, User]) -> None:
    """If-Match and versions of before a promotion are refused, or fit what the row has now."""
    ann, boss = people["ANALYST"], people["ADMIN"]
    await both(world, people)
    tag = (await ann.get("rows/C1")).headers["ETag"]
    await moved(boss.on("customers@2"), "promote")
    patch = await ann.request("PATCH", "rows/C1", json={"revenue": 9}, headers={"If-Match": tag})
    refused(patch, 412, "PRECONDITION_FAILED")


async def test_many_contracts_do_not_push_each_other_out_of_what_is_right(
    world: World, people: dict[str, User]
) -> None:
    """Caches of statements are shared by all: each dataset answers with its own columns, whoever came between."""
    erin, boss = people["ENGINEER"], people["ADMIN"]
    names = [f"thing{number}" for number in range(12)]
    for place, name in enumerate(names):
        fields = [*customers()["fields"], {"name": f"own{chr(97 + place)}", "type": "text", "indexed": True}]
        await registered(erin, customers(name=name, fields=fields))
        await moved(boss.on(name), "promote")
    for key in ("first", "second"):
        for place, name in enumerate(names):
            user, field = boss.on(name), f"own{chr(97 + place)}"
            await user.draft(key, {field: key}, op="insert")
            await committed(user)
            assert ids(await user.rows(**{field: key})) == [key]


# -- what a transition does to the version beside ----------------------------------------------------------------------


async def ways(user: User) -> list[tuple[str, str, str | None, str]]:
    """The history of a dataset's versions, the oldest first."""
    told = (await user.get("state")).json()["history"]
    return [(each["version"], each["action"], each["fromState"], each["toState"]) for each in reversed(told)]


async def states(boss: User) -> dict[str, str]:
    """The state of each version, by its number."""
    found = {}
    for major in (1, 2):
        answer = (await boss.on(f"customers@{major}").get("state")).json()
        found[answer["version"]] = answer["state"]
    return found


async def test_the_history_tells_of_both_versions(world: World, people: dict[str, User]) -> None:
    boss = people["ADMIN"]
    await both(world, people)
    await moved(boss.on("customers@2"), "promote")
    assert (await ways(boss))[-2:] == [
        ("1.0", "deprecate", "ACTIVE", "DEPRECATED"), ("2.0", "promote", "SHADOW", "ACTIVE"),
    ]  # fmt: skip
    await moved(boss, "rollback")
    assert (await ways(boss))[-2:] == [
        ("1.0", "restore", "DEPRECATED", "ACTIVE"), ("2.0", "rollback", "ACTIVE", "SHADOW"),
    ]  # fmt: skip


async def test_a_version_that_was_never_promoted_is_not_put_to_use_by_a_rollback(
    people: dict[str, User],
) -> None:
    boss = people["ADMIN"]
    contract = (await registered(people["ENGINEER"]))["contract"]
    await registered(people["ENGINEER"], second(contract))
    await moved(boss.on("customers@2"), "promote")
    assert await states(boss) == {"1.0": "SHADOW", "2.0": "ACTIVE"}
    await moved(boss, "rollback")
    assert await states(boss) == {"1.0": "SHADOW", "2.0": "SHADOW"}
    refused(await people["VIEWER"].get("rows"), 404, "DATASET_NOT_FOUND")


async def test_a_version_that_was_out_of_use_already_stays_so_after_a_rollback(
    world: World, people: dict[str, User]
) -> None:
    boss = people["ADMIN"]
    await both(world, people)
    await moved(boss, "deprecate")
    since = await world.db.fetchval("SELECT deprecated_at FROM dataset WHERE name = 'customers'")
    world.clock.move(minutes=1)
    await moved(boss.on("customers@2"), "promote")
    world.clock.move(minutes=1)
    await moved(boss, "rollback")
    assert await states(boss) == {"1.0": "DEPRECATED", "2.0": "SHADOW"}
    assert await world.db.fetchval("SELECT deprecated_at FROM dataset WHERE state = 'DEPRECATED'") == since
