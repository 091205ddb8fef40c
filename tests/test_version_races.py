"""Versions of contracts at once with everything else: one outcome, as if one came after the other; nothing lost,
nothing half-made, nothing of one version in another.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.web.auth import Role
from tests.support.own import customers, moved, ready, registered
from tests.support.world import User, World, committed, refused
from tests.test_contention import at_once, until_waiting

REASON = {"reason": "as the test has it"}


async def people_of(world: World, organization: str = "acme") -> dict[str, User]:
    """Somebody in each role, on `customers`."""
    return {
        role.value: (await world.user(f"{role.value.lower()}-of-{organization}", organization, role)).on("customers")
        for role in Role
    }


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Those of acme, in a system that takes contracts."""
    await ready(world)
    return await people_of(world)


async def register(user: User, contract: dict[str, Any], **options: Any) -> httpx.Response:
    """The answer to a contract, whatever it is."""
    return await user.post(f"/api/v1/orgs/{user.organization}/contracts", contract, **options)


async def used(people: dict[str, User], **more: Any) -> dict[str, Any]:
    """The contract of a dataset that is in use."""
    contract: dict[str, Any] = (await registered(people["ENGINEER"], customers(**more)))["contract"]
    await moved(people["ADMIN"], "promote")
    return contract


def renamed(contract: dict[str, Any], version: str = "2.0") -> dict[str, Any]:
    """A breaking version of it: `company` has another name."""
    fields = [dict(field) for field in contract["fields"]]
    fields[1]["name"] = "companyName"
    return contract | {"version": version, "fields": fields}


def wider(contract: dict[str, Any], version: str, **field: Any) -> dict[str, Any]:
    """A compatible version of it: one field more."""
    return contract | {"version": version, "fields": [*contract["fields"], {"name": "region", "type": "text"} | field]}


async def sound(world: World) -> None:
    """No schema without a contract, no contract without a schema and a dataset, each version in its own."""
    schemas = {name for (name,) in await world.db.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'own%'")}
    contracts = {name for (name,) in await world.db.fetch("SELECT DISTINCT schema_name FROM contract")}
    datasets = {
        row["schema_name"]: (row["base"], row["contract_version"])
        for row in await world.db.fetch("SELECT * FROM dataset WHERE schema_name IS NOT NULL")
    }
    assert schemas == contracts == set(datasets)
    for row in await world.db.fetch(
        "SELECT DISTINCT ON (schema_name) schema_name, dataset, major || '.' || minor AS version FROM contract"
        " ORDER BY schema_name, minor DESC"
    ):
        assert datasets[row["schema_name"]] == (row["dataset"], row["version"]), dict(row)


# -- at once -----------------------------------------------------------------------------------------------------------


async def test_two_organizations_register_a_dataset_of_the_same_name_at_the_same_time(
    world: World, people: dict[str, User]
) -> None:
    await world.organization("rival")
    others = await people_of(world, "rival")
    both = [people, others]
    answers = await asyncio.gather(*(register(each["ENGINEER"], customers()) for each in both))
    assert [answer.status_code for answer in answers] == [201, 201], [answer.text for answer in answers]
    await sound(world)
    for each in both:
        await moved(each["ADMIN"], "promote")
        await each["ANALYST"].draft("C1", {"company": each["ADMIN"].organization}, op="insert")
        await committed(each["ANALYST"])
    for each in both:
        organization = each["ADMIN"].organization
        assert [row["data"]["company"] for row in await each["VIEWER"].rows()] == [organization]
        other = "acme" if organization == "rival" else "rival"
        for path in ("contracts", "datasets", "changes?since=earliest", "audit"):
            told = await each["ADMIN"].get(f"/api/v1/orgs/{organization}/{path}")
            assert told.status_code == 200
            assert f"-of-{other}" not in told.text


async def test_an_organization_that_registers_the_same_twice_at_once_has_it_once(
    world: World, people: dict[str, User]
) -> None:
    answers = await asyncio.gather(*(register(people[role], customers()) for role in ("ENGINEER", "ADMIN") * 3))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"ALREADY_EXISTS"}
    await sound(world)


@asynccontextmanager
async def held(world: World, name: str = "customers") -> AsyncIterator[None]:
    """Nobody takes lock 1 of the dataset while the block runs: who wants to waits in line."""
    async with world.db.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM dataset WHERE name = $1 FOR NO KEY UPDATE", name)
        yield


async def in_line(world: World, *requests: Callable[[], Awaitable[httpx.Response]], name: str) -> list[httpx.Response]:
    """The requests in this order, each begun when those before it wait for the dataset; their answers."""
    async with held(world, name):
        begun: list[asyncio.Future[Any]] = []
        for request in requests:
            begun += at_once(request())
            await until_waiting(world, len(begun), *begun)
    return list(await asyncio.gather(*begun))


async def test_a_minor_version_registered_while_its_major_version_is_promoted_is_of_that(
    world: World, people: dict[str, User]
) -> None:
    """By then it goes by another name."""
    contract = await used(people)
    boss, erin = people["ADMIN"], people["ENGINEER"]
    second = (await registered(erin, renamed(contract)))["contract"]
    answers = await in_line(
        world,
        lambda: boss.on("customers@2").post("promote", REASON),
        lambda: register(erin, wider(second, "2.1")),
        name="customers@2",
    )
    assert [answer.status_code for answer in answers] == [200, 201], [answer.text for answer in answers]
    assert answers[1].json()["address"] == "customers"
    await sound(world)
    assert (await boss.get("state")).json()["version"] == "2.1"


async def test_a_minor_version_registered_while_its_promotion_is_rolled_back_is_of_that(
    world: World, people: dict[str, User]
) -> None:
    contract = await used(people)
    boss, erin = people["ADMIN"], people["ENGINEER"]
    second = (await registered(erin, renamed(contract)))["contract"]
    await moved(boss.on("customers@2"), "promote")
    answers = await in_line(
        world,
        lambda: boss.post("rollback", REASON),
        lambda: register(erin, wider(second, "2.1")),
        name="customers",
    )
    assert [answer.status_code for answer in answers] == [200, 201], [answer.text for answer in answers]
    assert answers[1].json()["address"] == "customers@2"
    await sound(world)
    assert (await boss.get("state")).json()["version"] == "1.0"


async def test_a_minor_version_registered_while_its_major_version_is_deleted_finds_none(
    world: World, people: dict[str, User]
) -> None:
    boss, erin = people["ADMIN"], people["ENGINEER"]
    first = (await registered(erin))["contract"]
    path = "/api/v1/orgs/acme/contracts/customers/1.0"
    async with held(world):
        begun = at_once(boss.request("DELETE", path))
        await until_waiting(world, 1, *begun)
        begun += at_once(register(erin, wider(first, "1.1")))
        await until_waiting(world, 2, *begun)
    deleted, late = await asyncio.gather(*begun)
    assert deleted.status_code == 204, deleted.text
    refused(late, 422, "VALIDATION_FAILED")
    await sound(world)


async def test_a_version_that_is_promoted_meanwhile_is_not_deleted(world: World, people: dict[str, User]) -> None:
    boss = people["ADMIN"]
    await registered(people["ENGINEER"])
    path = "/api/v1/orgs/acme/contracts/customers/1.0"
    promoted, deleted = await in_line(
        world, lambda: boss.post("promote", REASON), lambda: boss.request("DELETE", path), name="customers"
    )
    assert promoted.status_code == 200, promoted.text
    refused(deleted, 409, "VERSION_IN_USE")
    await sound(world)


async def test_of_two_promotions_at_once_one_is_refused(world: World, people: dict[str, User]) -> None:
    contract = await used(people)
    await registered(people["ENGINEER"], renamed(contract))
    boss = people["ADMIN"].on("customers@2")
    answers = await asyncio.gather(*(boss.post("promote", REASON) for _ in range(4)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 3}, [a.text for a in answers]
    await sound(world)
