"""The life of a dataset: registered, promoted, deprecated, restored, rolled back; one version after another."""

import pytest

from app.web.auth import Role
from tests.support.own import customers, moved, ready, registered
from tests.support.world import User, World, committed, written


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes contracts; everybody on `customers`."""
    await ready(world)
    return {role.value: (await world.user(role.value.lower(), role=role)).on("customers") for role in Role}


async def test_a_registered_contract_is_in_shadow_until_it_is_promoted(people: dict[str, User]) -> None:
    answer = await registered(people["ENGINEER"])
    assert (answer["dataset"], answer["version"], answer["state"]) == ("customers", "1.0", "SHADOW")
    assert (await people["VIEWER"].get("rows")).status_code == 404
    assert (await people["ENGINEER"].get("rows")).status_code == 200
    assert (await people["ADMIN"].post("drafts", {"drafts": []})).status_code in (409, 422)
    promoted = await moved(people["ADMIN"], "promote")
    assert (promoted["dataset"], promoted["state"]) == ("customers", "ACTIVE")
    assert (await people["VIEWER"].get("rows")).status_code == 200


async def test_rows_of_an_own_dataset_are_drafted_and_committed(people: dict[str, User]) -> None:
    await registered(people["ENGINEER"])
    await moved(people["ADMIN"], "promote")
    ann = people["ANALYST"]
    saved = await ann.post(
        "drafts", {"drafts": [{"id": "C1", "op": "insert", "delta": {"company": "Acme", "tier": "gold", "revenue": 5}}]}
    )
    assert saved.status_code == 200, saved.text
    await committed(ann)
    rows = await people["VIEWER"].rows(sort="-revenue")
    assert [(row["id"], row["data"]["company"]) for row in rows] == [("C1", "Acme")]


async def test_a_breaking_version_takes_over_what_people_have_under_way(people: dict[str, User]) -> None:
    contract = (await registered(people["ENGINEER"]))["contract"]
    await moved(people["ADMIN"], "promote")
    ann = people["ANALYST"]
    new = {"id": "C1", "op": "insert", "delta": {"company": "Acme", "tier": "gold", "revenue": 5}}
    assert (await ann.post("drafts", {"drafts": [new]})).status_code == 200
    await committed(ann)
    edit = {"id": "C1", "op": "update", "delta": {"company": "Acme Ltd", "customerSince": "2026-01-01"}}
    assert (await ann.post("drafts", {"drafts": [edit]})).status_code == 200
    fields = [dict(field) for field in contract["fields"] if field["name"] != "customerSince"]
    fields[1]["name"] = "companyName"
    second = customers(**contract | {"version": "2.0", "fields": fields})
    answer = await registered(people["ENGINEER"], second)
    assert (answer["address"], answer["state"]) == ("customers@2", "SHADOW")
    outcome = await moved(people["ADMIN"].on("customers@2"), "promote")
    assert outcome["superseded"] == "customers@1"
    assert outcome["moved"]["drafts"] == 1
    assert outcome["moved"]["left"] == [{"user": "analyst", "rowId": "C1", "fields": ["customerSince"], "requestId": None}]
    now = (await people["ADMIN"].get("")).json() if False else (await people["ADMIN"].get("state")).json()
    assert (now["state"], now["version"]) == ("ACTIVE", "2.0")
    back = await moved(people["ADMIN"], "rollback")
    assert (back["dataset"], back["superseded"]) == ("customers@2", "customers")
    draft = written(await ann.get("drafts")) if False else (await ann.get("drafts")).json()
    assert [row["delta"] for row in draft["data"]] == [{"company": "Acme Ltd"}]
