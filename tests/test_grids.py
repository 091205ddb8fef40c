"""A grid's page in a session: the list's rows, what the session has edited of them, and what is wrong there."""

from typing import Any

import pytest

from app.base import exact_json
from tests.support.sessions import begin, edit
from tests.support.world import FLEET, User, World, refused, vehicle


@pytest.fixture
async def dora(world: World) -> User:
    dora = (await world.user("dora")).on("fleet")
    await world.mirror({key: vehicle(plate=key, mileage=10) for key in "ABCD"}, contract=FLEET)
    return dora


async def grid(user: User, session: dict[str, Any], **params: Any) -> dict[str, Any]:
    """A page of the session's rows."""
    response = await user.get(f"sessions/{session['id']}/rows", params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def marks(user: User, session: dict[str, Any], **params: Any) -> dict[str, Any]:
    """What is edited and what is wrong, by row."""
    page = await grid(user, session, **params)
    return {
        row["id"]: (row["editedFields"], [(issue["field"], issue["code"]) for issue in row["validationIssues"]])
        for row in page["data"]
        if row["editedFields"] or row["validationIssues"]
    }


async def test_a_page_is_the_lists_with_columns_and_marks(dora: User) -> None:
    session = await begin(dora)
    await dora.draft("D", {"remark": "outside"})
    await edit(dora, session, "B", "mileage", 12)
    page = await grid(dora, session, sort="-mileage", pageSize=2)
    listed = await dora.page(sort="-mileage", pageSize=2)
    assert page["pagination"] == listed["pagination"]
    assert [{n: v for n, v in row.items() if n in listed["data"][0]} for row in page["data"]] == listed["data"]
    assert [column["name"] for column in page["columns"]] == list(FLEET.by_name)
    assert await marks(dora, session) == {"B": (["mileage"], [])}


async def test_what_a_rule_objects_to_is_kept_and_told(dora: User) -> None:
    session = await begin(dora)
    result = await edit(dora, session, "A", "seats", 500)
    assert (result["status"], result["validation"]["severity"]) == ("kept_invalid", "ERROR")
    assert (await dora.row("A"))["data"]["seats"] == 500
    assert await marks(dora, session) == {"A": (["seats"], [("seats", "INVALID_RANGE")])}
    problem = refused(await dora.post("commit", {"sessionId": session["id"]}), 422, "VALIDATION_FAILED")
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [("seats", "INVALID_RANGE")]
    await edit(dora, session, "A", "seats", 5)
    assert await marks(dora, session) == {"A": (["seats"], [])}
    assert (await dora.post("commit", {"sessionId": session["id"]})).json()["committed"] == 1


async def test_what_no_document_can_hold_is_an_issue_until_it_is_mended_or_undone(dora: User) -> None:
    session = await begin(dora)
    result = await edit(dora, session, "A", "mileage", "12 km")
    assert (result["status"], result["oldValue"]) == ("kept_invalid", 10)
    assert (await dora.row("A"))["syncState"] == "pristine"
    wrong = {"A": (["mileage"], [("mileage", "INVALID_TYPE")])}
    assert await marks(dora, session) == wrong
    await edit(dora, session, "A", "mileage", 12)
    assert await marks(dora, session) == {"A": (["mileage"], [])}
    await dora.post(f"sessions/{session['id']}/undo", {})
    assert await marks(dora, session) == wrong
    await dora.post(f"sessions/{session['id']}/undo", {})
    assert await marks(dora, session) == {}
    await dora.post(f"sessions/{session['id']}/redo", {})
    assert await marks(dora, session) == wrong


async def test_rules_across_fields_are_told_with_each_of_them(dora: User) -> None:
    session = await begin(dora)
    await edit(dora, session, "A", "lastDay", "2026-01-01")
    result = await edit(dora, session, "A", "firstDay", "2026-02-01")
    assert (result["status"], result["validation"]["ruleId"]) == ("kept_invalid", "ordered:firstDay,lastDay")
    assert await marks(dora, session) == {"A": (["firstDay", "lastDay"], [("lastDay", "INVALID_SERVICE")])}
    both = [
        {"id": "B", "field": name, "value": day}
        for name, day in (("firstDay", "2026-02-01"), ("lastDay", "2026-03-01"))
    ]
    results = (await dora.post(f"sessions/{session['id']}/edits/batch", {"edits": both})).json()["results"]
    assert [each["status"] for each in results] == ["saved", "saved"]


async def test_an_edit_back_to_what_lies_beneath_is_no_edit(dora: User) -> None:
    session = await begin(dora)
    await edit(dora, session, "A", "mileage", 11)
    await edit(dora, session, "A", "mileage", exact_json.decode(b"10.0"))
    assert await marks(dora, session) == {}
    assert (await dora.row("A"))["syncState"] == "pristine"


async def test_an_etag_holds_while_nothing_is_edited(dora: User) -> None:
    session = await begin(dora)
    path = f"sessions/{session['id']}/rows"
    etag = (await dora.get(path)).headers["ETag"]
    assert (await dora.get(path, headers={"If-None-Match": etag})).status_code == 304
    await edit(dora, session, "A", "mileage", "not a number")
    assert (await dora.get(path, headers={"If-None-Match": etag})).status_code == 200


async def test_a_session_that_is_not_ones_own_has_no_page(world: World, dora: User) -> None:
    session = await begin(dora)
    carl = (await world.user("carl")).on("fleet")
    refused(await carl.get(f"sessions/{session['id']}/rows"), 404, "SESSION_NOT_FOUND")
