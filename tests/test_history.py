"""What happened to a row, and where each of its values comes from."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.ledger import Ledger
from tests.support.requests import done, merged, submitted
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import FLEET, User, World, committed, refused, vehicle


async def history(user: User, key: str, **params: Any) -> list[dict[str, Any]]:
    """The entries of a page."""
    response = await user.get(f"rows/{key}/history", params=params)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = exact_json.decode(response.content)["data"]
    return found


async def explain(user: User, key: str) -> dict[str, dict[str, Any]]:
    """Where each value of a row comes from."""
    found: dict[str, dict[str, Any]] = (await user.row(key, include="explain"))["explain"]
    return found


@pytest.fixture
async def fleet(ann: User) -> User:
    """ann, on the dataset without an upstream."""
    return ann.on("fleet")


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of two vehicles that are in the mirror already."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in (1, 2)})
    async with open_yard(database_url, ledger, concurrency=1) as yard:
        await yard.work()
        yield yard


# -- the history of a row ----------------------------------------------------------------------------------------------


async def test_a_row_tells_its_life_cell_by_cell(fleet: User) -> None:
    """Given a row that was made, changed and deleted, then each revision tells what it did to which cell."""
    await fleet.draft("A", {**vehicle(seats=3), "remark": None}, op="insert")
    made = await committed(fleet, changeReason="Bought")
    await fleet.draft("A", {"seats": 5, "remark": "ä\u2028"})
    await committed(fleet)
    await fleet.draft("A", op="delete")
    gone = await committed(fleet, changeReason="Sold")
    deleted, updated, inserted = await history(fleet, "A")
    assert (deleted["op"], updated["op"], inserted["op"]) == ("delete", "update", "insert")
    assert (deleted["revision"], deleted["changeReason"]) == (gone["revision"], "Sold")
    assert (inserted["commitId"], inserted["actor"], inserted["source"]) == (made["commitId"], "ann", "commit")
    assert inserted["at"] == "2026-03-01T12:00:00.000Z"
    assert inserted["requestId"] is None
    assert updated["cells"] == [
        {"field": "remark", "before": None, "after": "ä\u2028"},
        {"field": "seats", "before": 3, "after": 5},
    ]
    cells = {cell["field"]: (cell["before"], cell["after"]) for cell in inserted["cells"]}
    assert cells["seats"] == (None, 3)
    assert "remark" not in cells, "it was absent, and null is no other value"
    assert {cell["field"]: cell["before"] for cell in deleted["cells"]}["remark"] == "ä\u2028"
    assert {cell["after"] for cell in deleted["cells"]} == {None}


async def test_numbers_keep_their_digits(fleet: User) -> None:
    await fleet.draft("A", vehicle(), op="insert")
    await committed(fleet)
    response = await fleet.post("drafts", {"modifications": [{"id": "A", "delta": {"mileage": 12345678901234567}}]})
    assert response.status_code == 200, response.text
    await committed(fleet)
    assert b'"after":12345678901234567' in (await fleet.get("rows/A/history")).content.replace(b" ", b"")


async def test_pages_go_on_where_they_stood(fleet: User) -> None:
    await fleet.draft("A", vehicle(seats=1), op="insert")
    await committed(fleet)
    for seats in range(2, 6):
        await fleet.draft("A", {"seats": seats})
        await committed(fleet)
    found, after = [], None
    while True:
        response = await fleet.get("rows/A/history", {"limit": 2} | ({"after": after} if after else {}))
        page = response.json()
        found += page["data"]
        if len(found) == 2:
            # What comes meanwhile is newer than the cursor.
            await fleet.draft("A", {"seats": 9})
            await committed(fleet)
        if (after := page["nextCursor"]) is None:
            break
        assert len(page["data"]) == 2
    assert [entry["cells"][-1]["after"] for entry in found[:4]] == [5, 4, 3, 2]
    assert [entry["op"] for entry in found] == ["update"] * 4 + ["insert"]
    page = (await fleet.get("rows/A/history", {"limit": 2})).json()
    refused(await fleet.get("rows/B/history", {"after": page["nextCursor"]}), 400, "INVALID_CURSOR")


async def test_a_row_that_never_was_is_not_found(world: World, fleet: User, bob: User) -> None:
    """Nor is one that only others draft; one's own new row has no history yet."""
    await world.mirror({"M": vehicle()}, contract=FLEET)
    await fleet.draft("mine", vehicle(), op="insert")
    assert await history(fleet, "M") == []
    assert await history(fleet, "mine") == []
    for key in ("mine", "nowhere", "x" * 300, "a%00b", "%20%0A"):
        refused(await bob.on("fleet").get(f"rows/{key}/history"), 404, "ROW_NOT_FOUND")


async def test_a_row_whose_name_ends_like_the_route_is_a_row(world: World, fleet: User) -> None:
    await world.mirror({"a/history": vehicle()}, contract=FLEET)
    assert (await fleet.row("a%2Fhistory"))["id"] == "a/history"
    assert await history(fleet, "a%2Fhistory") == []


async def test_a_request_is_named_to_those_who_may_read_it(world: World, fleet: User, bob: User) -> None:
    """Its author, its approvers and ADMIN; others see the commit, as they always do."""
    await world.mirror({"A": vehicle()}, contract=FLEET)
    carol, root = await world.user("carol"), await world.user("root", role=Role.ADMIN)
    request = await submitted(fleet, {"id": "A", "delta": {"seats": 5}}, approvers=("carol",))
    answer = await merged(carol.on("fleet"), request)
    for user, told in ((fleet, request["id"]), (carol, request["id"]), (root, request["id"]), (bob, None)):
        [entry] = await history(user.on("fleet"), "A")
        assert (entry["requestId"], entry["commitId"]) == (told, answer["commitId"])
        assert (entry["actor"], entry["revision"]) == ("ann", answer["mergedRevision"])


# -- where a value comes from ------------------------------------------------------------------------------------------


async def test_a_draft_explains_itself_to_its_author_alone(world: World, fleet: User, bob: User) -> None:
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await fleet.draft("A", {"seats": 5})
    mine = await explain(fleet, "A")
    assert mine["seats"] == {
        "source": "draft",
        "draftedBy": "ann",
        "draftedByName": "ann",
        "draftedAt": "2026-03-01T12:00:00.000Z",
    }
    assert mine["depot"] == {"source": "mirror"}, "nobody has written down where it came from"
    assert (await explain(bob.on("fleet"), "A"))["seats"] == {"source": "mirror"}
    assert mine.keys() == (await fleet.row("A"))["data"].keys()


async def test_the_newest_entry_that_has_the_field_explains_it(fleet: User) -> None:
    await fleet.draft("A", vehicle(), op="insert")
    first = await committed(fleet)
    await fleet.draft("A", {"seats": 5})
    second = await committed(fleet)
    found = await explain(fleet, "A")
    at = "2026-03-01T12:00:00.000Z"
    for field, answer in (("depot", first), ("seats", second)):
        assert found[field] == {
            "source": "mirror", "revision": answer["revision"], "draftedBy": "ann", "draftedByName": "ann",
            "commitId": answer["commitId"], "committedAt": at,
        }  # fmt: skip


async def test_a_value_under_review_and_merged_names_its_request(world: World, fleet: User, bob: User) -> None:
    """And who approved it, of the cells as they were merged; to those who may read the request."""
    await world.mirror({"A": vehicle()}, contract=FLEET)
    carol = (await world.user("carol")).on("fleet")
    found = await submitted(fleet, {"id": "A", "delta": {"seats": 5, "depot": "West"}}, approvers=("carol",))
    request = {"id": found["id"], "title": "Vans"}
    waiting = {"source": "pending", "draftedBy": "ann", "draftedByName": "ann", "request": request}
    assert (await explain(fleet, "A"))["seats"] == waiting
    assert (await explain(carol, "A"))["seats"] == {"source": "mirror"}
    await done(carol, found, "approve", **{"except": [{"id": "A", "field": "depot"}]})
    mine = await explain(fleet, "A")
    assert mine["seats"] == waiting | {"approvedBy": ["carol"], "approvedByNames": ["carol"]}
    assert mine["depot"]["source"] == "draft"
    world.clock.move(hours=1)
    answer = await done(carol, found, "merge")
    told = {
        "source": "mirror", "revision": answer["mergedRevision"], "draftedBy": "ann", "draftedByName": "ann",
        "commitId": answer["commitId"], "committedAt": "2026-03-01T13:00:00.000Z", "request": request,
        "approvedBy": ["carol"], "approvedByNames": ["carol"],
        "mergedAt": "2026-03-01T13:00:00.000Z", "mergedBy": "carol", "mergedByName": "carol",
    }  # fmt: skip
    assert (await explain(fleet, "A"))["seats"] == told
    assert (await explain(carol, "A"))["seats"] == told
    others = {
        name: told[name] for name in ("source", "revision", "draftedBy", "draftedByName", "commitId", "committedAt")
    }
    assert (await explain(bob.on("fleet"), "A"))["seats"] == others


async def test_a_pulled_value_names_its_run(yard: Yard) -> None:
    ann = await yard.user("ann")
    first = (await yard.runs())[0]
    found = (await explain(ann, "V-1"))["mileage"]
    assert (found["source"], found["pulledIn"]) == ("mirror", str(first["id"]))
    assert found["pulledAt"] == "2026-03-01T12:00:00.000Z"
    assert "draftedBy" not in found
    yard.ledger.put("V-1", mileage=7)
    await yard.later(days=1, hours=1)
    *_, last = [run for run in await yard.runs() if run["updated"]]
    after = await explain(ann, "V-1")
    assert after["mileage"]["pulledIn"] == str(last["id"]) != str(first["id"])
    assert after["depot"]["pulledIn"] == str(first["id"])
    await yard.world.db.execute("DELETE FROM sync_run")
    assert "pulledIn" not in (await explain(ann, "V-1"))["mileage"]


async def test_a_value_on_its_way_is_pending_and_then_pushed(yard: Yard) -> None:
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await ann.draft("V-1", {"mileage": 150})
    answer = (await ann.commit("V-1")).json()
    at = "2026-03-01T12:00:00.000Z"
    mine = (await explain(ann, "V-1"))["mileage"]
    assert mine == {"source": "pending", "draftedBy": "ann", "draftedByName": "ann"} | {
        "commitId": answer["commitId"],
        "committedAt": at,
    }
    assert (await explain(bob, "V-1"))["mileage"]["source"] == "mirror"
    await yard.later(minutes=1)
    pushed = (await explain(bob, "V-1"))["mileage"]
    assert (pushed["source"], pushed["draftedBy"], pushed["commitId"]) == ("mirror", "ann", answer["commitId"])
    assert (pushed["committedAt"], pushed["pushedAt"]) == (at, "2026-03-01T12:01:00.000Z")
    assert "pulledAt" not in pushed


async def test_of_many_entries_the_last_thousand_explain(world: World, fleet: User) -> None:
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await world.db.execute(
        "INSERT INTO fleet.history (organization_id, revision, row_key, op, before, after, source, actor)"
        " SELECT 'acme', i, 'A', 'update', '{}', jsonb_build_object(CASE i WHEN 1 THEN 'depot' ELSE 'seats' END, 1),"
        "        'commit', 'ann'"
        "   FROM generate_series(1, 1001) AS i"
    )
    found = await explain(fleet, "A")
    assert found["seats"]["revision"] == 1001
    assert found["depot"] == {"source": "mirror"}


async def test_explaining_changes_the_etag_and_not_what_may_be_matched(world: World, fleet: User) -> None:
    await world.mirror({"A": vehicle()}, contract=FLEET)
    bare = (await fleet.get("rows/A")).headers["ETag"]
    told = (await fleet.get("rows/A", {"include": "explain"})).headers["ETag"]
    assert bare != told
    headers = {"If-Match": told, "Content-Type": "application/merge-patch+json"}
    answer = await fleet.request("PATCH", "rows/A", content=b'{"seats": 4}', headers=headers)
    assert answer.status_code == 200, answer.text
