"""Sessions and change requests that are open when a version takes another's place follow it."""

from typing import Any

import pytest

from app.web.auth import Role
from tests.support.own import customers, moved, ready, registered
from tests.support.requests import act, cells, done, drafted, request, submitted
from tests.support.sessions import begin, edit, edits
from tests.support.world import User, World, committed, drafts, refused, written
from tests.test_lifecycle import ACME, second


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, and two rows of a dataset that is in use."""
    await ready(world)
    people = {role.value: (await world.user(role.value.lower(), role=role)).on("customers") for role in Role}
    await registered(people["ENGINEER"])
    await moved(people["ADMIN"], "promote")
    await people["ANALYST"].draft("C1", ACME, op="insert")
    await people["ANALYST"].draft("C2", ACME, op="insert")
    await committed(people["ANALYST"])
    return people


async def replaced(people: dict[str, User]) -> dict[str, Any]:
    """A breaking version, filled with the same rows, takes the place of the one in use: what became of it."""
    bob, boss = people["ENGINEER"], people["ADMIN"]
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    await registered(bob, second(contract))
    filled = [{"customerId": key, "companyName": "Acme", "tier": "gold", "revenue": 5} for key in ("C1", "C2")]
    assert (await bob.on("customers@2").post("ingest", {"records": filled})).status_code == 200
    return await moved(boss.on("customers@2"), "promote")


async def test_a_request_that_lost_no_cell_is_merged_as_it_was_approved(people: dict[str, User]) -> None:
    ann, boss = people["ANALYST"], people["ADMIN"]
    found = await submitted(ann, {"id": "C1", "delta": {"company": "Beta"}})
    await done(boss, found, "approve")
    await replaced(people)
    assert await cells(boss, found) == [("C1", "companyName", "Acme", "Beta")]
    refused(await act(boss, found, "merge", mergeSchema=False), 409, "SCHEMA_CHANGED")
    await done(boss, found, "merge")
    assert [row["data"]["companyName"] for row in await people["VIEWER"].rows()] == ["Beta", "Acme"]


async def test_a_request_that_lost_a_cell_has_to_be_approved_again(people: dict[str, User]) -> None:
    ann, boss = people["ANALYST"], people["ADMIN"]
    found = await submitted(ann, {"id": "C1", "delta": {"company": "Beta", "customerSince": "2026-01-01"}})
    await done(boss, found, "approve")
    before = await request(boss, found)
    await replaced(people)
    now = await request(boss, found)
    assert now["iteration"] == before["iteration"] + 1
    assert (now["status"], now["digest"] == before["digest"]) == ("pending_review", False)
    await done(boss, found, "approve")
    await done(boss, found, "merge")
    assert [row["data"]["companyName"] for row in await people["VIEWER"].rows()] == ["Beta", "Acme"]


async def test_a_cell_that_a_request_lost_is_a_draft_of_its_author_after_a_rollback(people: dict[str, User]) -> None:
    ann, boss = people["ANALYST"], people["ADMIN"]
    found = await submitted(ann, {"id": "C1", "delta": {"company": "Beta", "customerSince": "2026-01-01"}})
    await replaced(people)
    await ann.draft("C1", {"tier": "silver"})
    await moved(boss, "rollback")
    assert await cells(boss, found) == [("C1", "company", "Acme", "Beta")]
    row = (await drafts(ann))["C1"]
    assert (row["op"], row["pending"]) == ("update", {"company": "Beta"})
    assert row["delta"] == {"customerSince": "2026-01-01", "tier": "silver"}
    await done(boss, found, "approve")
    await done(boss, found, "merge")
    await committed(ann)
    data = (await people["VIEWER"].row("C1"))["data"]
    assert (data["company"], data["customerSince"], data["tier"]) == ("Beta", "2026-01-01", "silver")


async def test_a_request_whose_cells_stayed_is_not_merged_as_if_it_had_none(people: dict[str, User]) -> None:
    """Given another key, by which no row is known as before, then the cells are there when that is used again."""
    ann, bob, boss = people["ANALYST"], people["ENGINEER"], people["ADMIN"]
    found = await submitted(ann, {"id": "C1", "delta": {"company": "Beta"}})
    await done(boss, found, "approve")
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    key = ["customerId", "tier"]
    other = second(contract) | {"key": key, "ingestion": contract["ingestion"] | {"idempotencyKey": key}}
    other["fields"] = [field | {"editable": field["name"] not in key} for field in other["fields"]]
    await registered(bob, other)
    await moved(boss.on("customers@2"), "promote")
    refused(await act(boss, found, "merge"), 409, "SCHEMA_CHANGED")
    assert (await request(boss, found))["status"] == "approved"
    await moved(boss, "rollback")
    await done(boss, found, "merge")
    assert (await people["VIEWER"].row("C1"))["data"]["company"] == "Beta"


async def test_an_open_session_goes_on_with_its_log(people: dict[str, User]) -> None:
    ann = people["ANALYST"]
    session = await drafted(ann, {"id": "C1", "delta": {"company": "Beta"}})
    await replaced(people)
    assert {key: row["delta"] for key, row in (await drafts(ann)).items()} == {"C1": {"companyName": "Beta"}}
    assert (await ann.get(f"sessions/{session['id']}")).json()["status"] in ("active", "preview")
    edits = (await ann.get(f"sessions/{session['id']}/edits")).json()["data"]
    assert {edit["field"] for edit in edits} <= {"companyName"}
    preview = await ann.post(f"sessions/{session['id']}/preview", {})
    assert preview.status_code == 200, preview.text
    assert [(diff["field"], diff["new"]) for diff in preview.json()["diffs"]] == [("companyName", "Beta")]


async def test_the_log_of_an_open_session_follows_but_for_what_was_undone(people: dict[str, User]) -> None:
    ann, boss = people["ANALYST"], people["ADMIN"]
    session = await begin(ann)
    for field, value in (("company", "Beta"), ("customerSince", "2026-01-01"), ("revenue", "much"), ("revenue", 7)):
        await edit(ann, session, "C1", field, value)
    written(await ann.post(f"sessions/{session['id']}/undo", {}))
    assert (await replaced(people))["moved"]["edits"] == 2
    assert [(each["field"], each["value"]) for each in await edits(ann, session)] == [
        ("companyName", "Beta"), ("revenue", "much"),
    ]  # fmt: skip
    assert (await moved(boss, "rollback"))["moved"]["edits"] == 2
    assert {each["field"] for each in await edits(ann, session)} == {"company", "customerSince", "revenue"}


async def test_a_request_is_merged_over_a_compatible_version(people: dict[str, User]) -> None:
    ann, bob, boss = people["ANALYST"], people["ENGINEER"], people["ADMIN"]
    found = await submitted(ann, {"id": "C1", "delta": {"company": "Beta"}})
    await done(boss, found, "approve")
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [*contract["fields"], {"name": "region", "type": "text", "indexed": True}]
    await registered(bob, customers(**contract | {"version": "1.1", "fields": fields}))
    refused(await act(boss, found, "merge", mergeSchema=False), 409, "SCHEMA_CHANGED")
    await done(boss, found, "merge")
    assert [row["data"]["company"] for row in await people["VIEWER"].rows(sort="id")] == ["Beta", "Acme"]
