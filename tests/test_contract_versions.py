"""The registry over HTTP: contracts are registered, listed, read, compared and deleted."""

import pytest

from app.web.auth import Role
from tests.support.own import customers, moved, ready, registered
from tests.support.world import User, World, refused, written

CONTRACTS = "/api/v1/orgs/acme/contracts"


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes contracts; everybody on `customers`."""
    await ready(world)
    return {role.value: (await world.user(role.value.lower(), role=role)).on("customers") for role in Role}


async def test_a_contract_is_told_as_it_registers_again(people: dict[str, User]) -> None:
    bob = people["ENGINEER"]
    told = (await registered(bob))["contract"]
    assert [field["id"] for field in told["fields"]] == [1, 2, 3, 4, 5]
    again = await registered(bob, told | {"name": "others"})
    assert again["contract"] == told | {"name": "others"}
    refused(await bob.post(CONTRACTS, told), 409, "ALREADY_EXISTS")


async def test_everything_that_is_wrong_is_told_at_its_path(people: dict[str, User]) -> None:
    wrong = customers(schema="public", key="nobody", ingestion={"mode": "upsert"})
    problem = refused(await people["ENGINEER"].post(CONTRACTS, wrong), 422, "VALIDATION_FAILED")
    paths = {error["parameter"] for error in problem["errors"]}
    assert {"schema", "ingestion.idempotencyKey", "ingestion.dedupeWindow"} <= paths


async def test_a_contract_goes_round_as_a_document_of_the_standard(people: dict[str, User]) -> None:
    bob = people["ENGINEER"]
    told = (await registered(bob))["contract"]
    document = await bob.get(f"{CONTRACTS}/customers/1.0", {"format": "odcs"})
    assert document.headers["Content-Type"].startswith("application/yaml")
    sent = document.text.replace("customers", "clients")
    yaml = {"Content-Type": "application/yaml"}
    answer = written(await bob.request("POST", CONTRACTS, content=sent.encode(), headers=yaml), 201)
    assert answer["contract"]["fields"] == told["fields"]


async def test_the_document_of_the_api_says_that_a_contract_can_be_yaml(world: World) -> None:
    document = (await world.http.get("/schema/openapi.json")).json()
    answer = document["paths"]["/api/v1/orgs/{org}/contracts/{dataset}/{version}"]["get"]["responses"]["200"]
    assert set(answer["content"]) == {"application/json", "application/yaml"}


async def test_versions_are_compared(people: dict[str, User]) -> None:
    bob = people["ENGINEER"]
    told = (await registered(bob))["contract"]
    fields = [*told["fields"], {"name": "region", "type": "text"}]
    answer = await registered(bob, told | {"version": "1.1", "fields": fields})
    assert [change["kind"] for change in answer["changes"]] == ["ADD"]
    diff = (await bob.get(f"{CONTRACTS}/customers/diff", {"from": "1.0", "to": "1.1"})).json()
    assert (diff["severity"], [change["path"] for change in diff["changes"]]) == ("COMPATIBLE", ["fields[5]"])
    less = told | {"version": "1.2", "fields": fields[:-2]}
    problem = refused(await bob.post(CONTRACTS, less), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["code"] == "INCOMPATIBLE_CHANGE"


async def test_only_a_version_in_shadow_that_nobody_uses_is_deleted(people: dict[str, User]) -> None:
    bob = people["ENGINEER"]
    await registered(bob)
    assert (await bob.request("DELETE", f"{CONTRACTS}/customers/1.0")).status_code == 204
    refused(await bob.get(f"{CONTRACTS}/customers/1.0"), 404, "DATASET_NOT_FOUND")
    await registered(bob)
    await moved(people["ADMIN"], "promote")
    refused(await bob.request("DELETE", f"{CONTRACTS}/customers/1.0"), 409, "VERSION_IN_USE")


async def test_what_is_in_shadow_is_for_those_who_may_see_it(people: dict[str, User]) -> None:
    await registered(people["ENGINEER"])
    assert (await people["ANALYST"].get(CONTRACTS)).json()["data"] == []
    refused(await people["VIEWER"].get(f"{CONTRACTS}/customers/1.0"), 404, "DATASET_NOT_FOUND")
    assert [each["state"] for each in (await people["ENGINEER"].get(CONTRACTS)).json()["data"]] == ["SHADOW"]


async def test_an_organization_has_so_many_datasets(people: dict[str, User], world: World) -> None:
    bob = people["ENGINEER"]
    for number in range(world.runtime.settings.max_datasets):
        await world.db.execute(
            "INSERT INTO dataset (organization_id, name, contract_version, schema_name) VALUES ('acme', $1, '1.0', $1)",
            f"own_x{number}",
        )
    refused(await bob.post(CONTRACTS, customers()), 409, "QUOTA_EXCEEDED")


async def test_only_engineers_and_admins_register(people: dict[str, User]) -> None:
    for role, status in (("VIEWER", 403), ("ANALYST", 403), ("ENGINEER", 201), ("ADMIN", 201)):
        response = await people[role].post(CONTRACTS, customers(name=f"of_{role.lower()}"))
        assert response.status_code == status, role


async def test_what_people_write_nothing_to_has_one_major_version(people: dict[str, User]) -> None:
    bob = people["ENGINEER"]
    told = (await registered(bob, customers(readOnly=True)))["contract"]
    fields = [field for field in told["fields"] if field["name"] != "customerSince"]
    again = told | {"version": "2.0", "fields": fields}
    problem = refused(await bob.post(CONTRACTS, again), 422, "VALIDATION_FAILED")
    assert [error["parameter"] for error in problem["errors"]] == ["readOnly"]


async def test_a_deprecated_version_takes_no_other_contract(people: dict[str, User]) -> None:
    told = (await registered(people["ENGINEER"]))["contract"]
    await moved(people["ADMIN"], "promote")
    await moved(people["ADMIN"], "deprecate")
    again = told | {"version": "1.1", "fields": [*told["fields"], {"name": "region", "type": "text"}]}
    refused(await people["ENGINEER"].post(CONTRACTS, again), 409, "DATASET_READ_ONLY")
