"""Edit sessions: their life, whose rows are whose, what expiry and abort leave behind.

The first eight tests have the names of the founding document's.
"""

from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from app.base import exact_json
from app.base.errors import InvalidTransition
from app.contracts.states import SESSION_TRANSITIONS, SessionState
from app.engine.desk import Desk
from app.engine.sessions import move_session, read_session
from app.web.auth import Role
from tests.support.sessions import begin, edit, edits, ended, shown
from tests.support.world import FLEET, User, World, committed, drafts, ids, line, refused, vehicle, written


@pytest.fixture
async def dora(world: World) -> User:
    dora = (await world.user("dora", ttl=90 * 86400)).on("fleet")
    await world.mirror({key: vehicle(plate=key, remark=key.lower(), mileage=10) for key in "ABCD"}, contract=FLEET)
    return dora


async def test_start_session(world: World, dora: User) -> None:
    session = await begin(dora, title="Spring")
    assert session["status"] == "active"
    assert (session["mode"], session["rows"], session["title"], session["edits"]) == ("full_table", [], "Spring", 0)
    assert session["createdAt"] == "2026-03-01T12:00:00Z"
    assert session["expiresAt"] == "2026-03-02T12:00:00Z"
    assert ids(session["sampleRows"]) == ["A", "B", "C", "D"]
    columns = {column["name"]: column for column in session["columns"]}
    assert (columns["remark"]["editable"], columns["plate"]["editable"]) == (True, False)
    assert await shown(dora, session["id"]) == session
    refused(await dora.get("sessions/none"), 404, "SESSION_NOT_FOUND")


async def test_save_cell_edit(dora: User) -> None:
    session = await begin(dora)
    result = await edit(dora, session, "A", "mileage", 12.5, clientTs="2026-02-28T23:59:59.5Z")
    assert result == {
        "editId": result["editId"],
        "id": "A",
        "field": "mileage",
        "status": "saved",
        "code": None,
        "oldValue": 10,
        "serverTs": "2026-03-01T12:00:00Z",
        "validation": {"valid": True, "severity": None, "messages": [], "ruleId": None, "contractVersion": "1.0"},
    }
    row = await dora.row("A")
    assert (row["data"]["mileage"], row["syncState"], row["delta"]) == (12.5, "draft", {"mileage": 12.5})
    (logged,) = await edits(dora, session)
    assert logged["editId"] == result["editId"]
    assert (logged["oldValue"], logged["value"]) == (10, 12.5)
    assert logged["clientTs"] == "2026-02-28T23:59:59.500Z"


async def test_bulk_edits(dora: User) -> None:
    session = await begin(dora)
    batch = [{"id": key, "field": "remark", "value": f"{key}!"} for key in "ABC"]
    batch.append({"id": "A", "field": "remark", "value": "last"})
    response = await dora.post(f"sessions/{session['id']}/edits/batch", {"edits": batch})
    results = response.json()["results"]
    assert [result["status"] for result in results] == ["saved"] * 4
    assert [result["oldValue"] for result in results] == ["a", "b", "c", "A!"]
    assert [int(result["editId"]) - int(results[0]["editId"]) for result in results] == [0, 1, 2, 3]
    assert {key: row["delta"] for key, row in (await drafts(dora)).items()} == {
        "A": {"remark": "last"},
        "B": {"remark": "B!"},
        "C": {"remark": "C!"},
    }
    assert (await shown(dora, session["id"]))["edits"] == 4


async def test_non_editable_column_protection(dora: User) -> None:
    session = await begin(dora)
    problem = refused(
        await dora.post(f"sessions/{session['id']}/edits", {"id": "A", "field": "plate", "value": "X"}),
        422,
        "VALIDATION_FAILED",
    )
    assert [(error["id"], error["field"], error["code"]) for error in problem["errors"]] == [
        ("A", "plate", "READ_ONLY_FIELD")
    ]
    batch = [{"id": "A", "field": "plate", "value": "X"}, {"id": "A", "field": "remark", "value": "fine"}]
    results = (await dora.post(f"sessions/{session['id']}/edits/batch", {"edits": batch})).json()["results"]
    assert [(result["status"], result["code"]) for result in results] == [
        ("refused", "READ_ONLY_FIELD"),
        ("saved", None),
    ]
    assert [each["field"] for each in await edits(dora, session)] == ["remark"]


async def test_session_modes(dora: User) -> None:
    """full_table lets every row be edited, row_selection those that it lists."""
    await edit(dora, await begin(dora), "D", "remark", "any")
    session = await begin(dora, mode="row_selection", rows=["A", "B", "A"])
    assert session["rows"] == ["A", "B"]
    assert ids(session["sampleRows"]) == ["A", "B"]
    await edit(dora, session, "A", "remark", "mine")
    problem = refused(
        await dora.post(f"sessions/{session['id']}/edits", {"id": "C", "field": "remark", "value": "no"}),
        422,
        "VALIDATION_FAILED",
    )
    assert [error["code"] for error in problem["errors"]] == ["ROW_NOT_IN_SESSION"]
    problem = refused(
        await dora.post(
            "drafts", {"sessionId": session["id"], "modifications": [{"id": "C", "delta": {"remark": "n"}}]}
        ),
        422,
        "VALIDATION_FAILED",
    )
    assert [error["code"] for error in problem["errors"]] == ["ROW_NOT_IN_SESSION"]
    refused(await dora.post("sessions", {"mode": "row_selection"}), 400, "MALFORMED_REQUEST")
    refused(await dora.post("sessions", {"mode": "full_table", "rows": ["A"]}), 400, "MALFORMED_REQUEST")
    problem = refused(
        await dora.post("sessions", {"mode": "row_selection", "rows": ["A", "no"]}), 422, "VALIDATION_FAILED"
    )
    assert [(error["id"], error["code"]) for error in problem["errors"]] == [("no", "ROW_NOT_FOUND")]


async def test_abort_session(dora: User) -> None:
    """What was drafted before the session is there again; its rows are free at once; its log stays."""
    await dora.draft("A", {"remark": "before"})
    await dora.draft("B", {"mileage": 1})
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "in it")
    await edit(dora, session, "A", "mileage", 3)
    await edit(dora, session, "B", "mileage", 10)
    await edit(dora, session, "C", "remark", "new")
    answer = await ended(dora, session)
    assert (answer["status"], answer["steps"], answer["ids"], answer["skipped"]) == (
        "aborted",
        4,
        ["A", "B", "C"],
        [],
    )
    assert {key: (row["delta"], row["sessionId"]) for key, row in (await drafts(dora)).items()} == {
        "A": ({"remark": "before"}, None),
        "B": ({"mileage": 1}, None),
    }
    assert (await dora.draft("A", {"remark": "free"}))["syncState"] == "draft"
    assert [each["state"] for each in await edits(dora, session)] == ["undone"] * 4
    refused(await dora.request("DELETE", f"sessions/{session['id']}"), 409, "INVALID_TRANSITION")
    refused(await dora.request("DELETE", "sessions/none"), 404, "SESSION_NOT_FOUND")


async def test_session_expiry_and_cleanup(world: World, dora: User) -> None:
    """No clock destroys work: the edits stay as drafts; the rows are free from that very moment."""
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "kept")
    world.clock.move(hours=24)
    assert (await shown(dora, session["id"]))["status"] == "expired"
    problem = refused(
        await dora.post(f"sessions/{session['id']}/edits", {"id": "A", "field": "remark", "value": "late"}),
        409,
        "INVALID_TRANSITION",
    )
    assert problem["state"] == "expired"
    assert (await dora.draft("A", {"mileage": 2}))["syncState"] == "draft"

    operator = await world.user("olga", role=Role.VIEWER, operator=True, ttl=90 * 86400)
    cleanup = "/api/v1/admin/sessions/cleanup"
    assert (await operator.post(cleanup, {})).json() == {"expired": 1, "removed": 0}
    assert (await operator.post(cleanup, {})).json() == {"expired": 0, "removed": 0}
    row = (await drafts(dora))["A"]
    assert (row["delta"], row["sessionId"]) == ({"remark": "kept", "mileage": 2}, None)
    assert len(await edits(dora, session)) == 1

    world.clock.move(days=30, seconds=1)
    assert (await operator.post(cleanup, {})).json() == {"expired": 0, "removed": 1}
    refused(await dora.get(f"sessions/{session['id']}"), 404, "SESSION_NOT_FOUND")
    assert await world.db.fetchval("SELECT count(*) FROM fleet.edit") == 0
    assert await world.db.fetchval("SELECT count(*) FROM fleet.step WHERE session_id <> ''") == 0
    refused(await dora.post(cleanup, {}), 403, "FORBIDDEN")


# -- hostile values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [[], {"a": [1]}, "a\0b", Decimal("1e31"), Decimal("1e9999"), Decimal("1e-21"), 10**4000, "x" * 100_001],
    ids=lambda value: str(value)[:12],
)
async def test_a_value_that_not_even_the_log_can_show_again_is_refused_by_itself(dora: User, value: Any) -> None:
    session = await begin(dora)
    for field in ("remark", "mileage"):
        batch = [{"id": "A", "field": field, "value": value}, {"id": "B", "field": "remark", "value": "fine"}]
        results = (await dora.post(f"sessions/{session['id']}/edits/batch", {"edits": batch})).json()["results"]
        assert [(result["status"], result["code"]) for result in results] == [
            ("refused", "INVALID_TYPE"),
            ("saved", None),
        ]
    assert [each["value"] for each in await edits(dora, session)] == ["fine", "fine"]


async def test_a_value_of_another_type_is_shown_again_as_it_was_typed(dora: User) -> None:
    session = await begin(dora)
    typed = ["12 km", True, "x" * 100_000]
    for value in typed:
        assert (await edit(dora, session, "A", "mileage", value))["status"] == "kept_invalid"
    assert [each["value"] for each in await edits(dora, session)] == typed
    assert (await dora.post(f"sessions/{session['id']}/preview", {})).status_code == 200


async def test_a_clients_time_is_told_in_utc(dora: User) -> None:
    session = await begin(dora)
    for given in ("2026-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"):
        await edit(dora, session, "A", "remark", "x", clientTs=given)
    assert [each["clientTs"] for each in await edits(dora, session)] == [
        "2025-12-31T00:01:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
    ]
    for given in ("2026-01-01T00:00:00", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"):
        wanted = {"id": "A", "field": "remark", "value": "x", "clientTs": given}
        refused(await dora.post(f"sessions/{session['id']}/edits", wanted), 400, "MALFORMED_REQUEST")


# -- whose rows are whose ----------------------------------------------------------------------------------------------


async def test_a_row_belongs_to_one_open_session_of_a_user(world: World, dora: User) -> None:
    first, second = await begin(dora), await begin(dora)
    await edit(dora, first, "A", "remark", "first")
    wanted = {"id": "A", "field": "remark", "value": "second"}
    refused(await dora.post(f"sessions/{second['id']}/edits", wanted), 409, "ROW_IN_OTHER_SESSION")
    batch = [wanted, {"id": "B", "field": "remark", "value": "second"}]
    results = (await dora.post(f"sessions/{second['id']}/edits/batch", {"edits": batch})).json()["results"]
    assert [(result["status"], result["code"]) for result in results] == [
        ("refused", "ROW_IN_OTHER_SESSION"),
        ("saved", None),
    ]
    carl = (await world.user("carl")).on("fleet")
    assert (await edit(carl, await begin(carl), "A", "remark", "another user's"))["status"] == "saved"


async def test_what_does_not_name_the_session_is_refused_on_its_rows(dora: User) -> None:
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "in it")
    await dora.draft("B", {"remark": "outside"})
    modifications = [{"id": "A", "delta": {"mileage": 1}}]
    problem = refused(await dora.post("drafts", {"modifications": modifications}), 409, "ROW_IN_OTHER_SESSION")
    assert [error["id"] for error in problem["errors"]] == ["A"]
    both = [*modifications, {"id": "B", "delta": {"mileage": 1}}]
    answer = (await dora.post("drafts", {"modifications": both})).json()
    assert ids(answer["saved"]) == ["B"]
    assert [(error["id"], error["code"]) for error in answer["errors"]] == [("A", "ROW_IN_OTHER_SESSION")]
    merge_patch = {"Content-Type": "application/merge-patch+json"}
    refused(
        await dora.request("PATCH", "rows/A", json={"mileage": 1}, headers=merge_patch), 409, "ROW_IN_OTHER_SESSION"
    )
    for request in ({"ids": ["A"]}, {"ids": ["A", "B"]}, {"all": True}, {"sessionId": "none"} | {"ids": None}):
        wanted = {name: value for name, value in request.items() if value is not None}
        if wanted == {"sessionId": "none"}:
            continue
        refused(await dora.post("commit", wanted), 409, "ROW_IN_OTHER_SESSION")
        refused(await dora.post("discard", wanted), 409, "ROW_IN_OTHER_SESSION")
    assert (await dora.row("A"))["delta"] == {"remark": "in it"}


async def test_drafts_commits_and_discards_can_name_it(dora: User) -> None:
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "edited")
    named = {"sessionId": session["id"]}
    answer = await dora.post(
        "drafts", named | {"modifications": [{"id": "N", "op": "insert", "delta": {"depot": "N", "kind": "Van"}}]}
    )
    assert answer.status_code == 200, answer.text
    assert (await dora.post("commit", named)).json()["committed"] == 2
    session = await shown(dora, session["id"])
    assert session["status"] == "active"
    refused(await dora.post(f"sessions/{session['id']}/undo", {}), 409, "NOTHING_TO_UNDO")
    await edit(dora, session, "A", "remark", "again")
    assert written(await dora.post("discard", named)) == {"discarded": 1}
    assert await drafts(dora) == {}


async def test_any_other_session_id_groups_as_it_always_did(dora: User) -> None:
    session = await begin(dora)
    await ended(dora, session)
    for word in ("monday", session["id"]):
        modifications = [{"id": "A", "delta": {"remark": word}}]
        assert (await dora.post("drafts", {"sessionId": word, "modifications": modifications})).status_code == 200
        assert (await dora.draft("A", {"mileage": 1}))["syncState"] == "draft"
        assert written(await dora.post("discard", {"sessionId": word})) == {"discarded": 1}


async def test_a_session_adopts_the_draft_that_it_finds(dora: User) -> None:
    await dora.post("drafts", {"sessionId": "monday", "modifications": [{"id": "A", "delta": {"mileage": 1}}]})
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "x")
    assert (await drafts(dora))["A"]["sessionId"] == session["id"]
    await dora.post(f"sessions/{session['id']}/undo", {})
    row = (await drafts(dora))["A"]
    assert (row["delta"], row["sessionId"]) == ({"mileage": 1}, "monday")


async def test_what_is_on_its_way_belongs_to_no_session(world: World) -> None:
    ann = await world.user("ann")
    await world.mirror({"L": line(model="M")})
    await ann.draft("L", {"model": "N"})
    await committed(ann, "L")
    session = await begin(ann)
    for empty in (
        lambda: edit(ann, session, "L", "equipment", None),
        lambda: ann.post("discard", {"sessionId": session["id"], "fields": ["equipment"]}),
        lambda: ann.post(f"sessions/{session['id']}/undo", {}),
        lambda: ann.post("discard", {"sessionId": session["id"]}),
    ):
        await edit(ann, session, "L", "equipment", "E")
        await empty()
        row = (await drafts(ann))["L"]
        assert (row["delta"], row["pending"]["model"], row["sessionId"]) == ({}, "N", None)
        await ann.draft("L", {"equipment": "outside"})
        await ann.discard("L")


async def test_a_session_gives_back_a_draft_that_its_edits_left_as_it_was(dora: User) -> None:
    await dora.post("drafts", {"sessionId": "monday", "modifications": [{"id": "A", "delta": {"mileage": 1}}]})
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "a")
    row = (await drafts(dora))["A"]
    assert (row["delta"], row["sessionId"]) == ({"mileage": 1}, session["id"])
    assert (await ended(dora, session))["ids"] == []
    row = (await drafts(dora))["A"]
    assert (row["delta"], row["sessionId"]) == ({"mileage": 1}, "monday")


async def test_a_row_without_a_draft_belongs_to_no_session(world: World) -> None:
    """Whatever of its user's is on its way to the mirror."""
    ann = await world.user("ann")
    await world.mirror({"L": line(model="M")})
    await ann.draft("L", {"model": "N"})
    assert (await ann.commit("L")).status_code == 200
    first, second = await begin(ann), await begin(ann)
    await edit(ann, first, "L", "equipment", "E")
    await edit(ann, first, "L", "equipment", None)
    assert (await drafts(ann))["L"]["sessionId"] is None
    await edit(ann, second, "L", "equipment", "F")
    await ann.post("discard", {"sessionId": second["id"], "fields": ["equipment"]})
    assert (await drafts(ann))["L"]["sessionId"] is None
    await edit(ann, first, "L", "equipment", "G")
    await ann.post(f"sessions/{first['id']}/undo", {})
    assert (await drafts(ann))["L"]["sessionId"] is None
    await ann.draft("L", {"equipment": "outside"})


async def test_a_session_that_is_over_gets_no_row_back(world: World, dora: User) -> None:
    await edit(dora, await begin(dora), "A", "remark", "kept")
    world.clock.move(hours=24)
    second = await begin(dora)
    await edit(dora, second, "A", "mileage", 1)
    await ended(dora, second)
    row = (await drafts(dora))["A"]
    assert (row["delta"], row["sessionId"]) == ({"remark": "kept"}, None)


async def test_a_session_is_its_users_own(world: World, dora: User) -> None:
    carl = (await world.user("carl")).on("fleet")
    session = await begin(dora)
    path = f"sessions/{session['id']}"
    refused(await carl.get(path), 404, "SESSION_NOT_FOUND")
    refused(await carl.get(f"{path}/edits"), 404, "SESSION_NOT_FOUND")
    refused(await carl.request("DELETE", path), 404, "SESSION_NOT_FOUND")
    refused(await carl.post(f"{path}/extend", {}), 404, "SESSION_NOT_FOUND")
    refused(await carl.post(f"{path}/undo", {}), 404, "SESSION_NOT_FOUND")
    refused(await carl.post(f"{path}/edits", {"id": "A", "field": "remark", "value": 1}), 404, "SESSION_NOT_FOUND")
    refused(await dora.on("pfa").get(path), 404, "SESSION_NOT_FOUND")
    # To another user its id is a word like any other.
    saved = await carl.post(
        "drafts", {"sessionId": session["id"], "modifications": [{"id": "A", "delta": {"mileage": 1}}]}
    )
    assert saved.status_code == 200


# -- time --------------------------------------------------------------------------------------------------------------


async def test_a_session_is_extended_by_an_explicit_call_only(world: World, dora: User) -> None:
    session = await begin(dora)
    world.clock.move(hours=23)
    await edit(dora, session, "A", "remark", "x")
    assert (await shown(dora, session["id"]))["expiresAt"] == "2026-03-02T12:00:00Z"
    extended = (await dora.post(f"sessions/{session['id']}/extend", {})).json()
    assert extended["expiresAt"] == "2026-03-03T11:00:00Z"
    assert (await dora.post(f"sessions/{session['id']}/extend", {"seconds": 60})).json()["expiresAt"] == (
        "2026-03-02T11:01:00Z"
    )
    refused(await dora.post(f"sessions/{session['id']}/extend", {"seconds": 86401}), 400, "MALFORMED_REQUEST")
    world.clock.move(seconds=61)
    refused(await dora.post(f"sessions/{session['id']}/extend", {}), 409, "INVALID_TRANSITION")


async def test_sessions_are_listed_newest_first(world: World, dora: User) -> None:
    begun = []
    for _ in range(3):
        begun.append((await begin(dora))["id"])
        world.clock.move(hours=12)
    first = (await dora.get("sessions", {"limit": 2})).json()
    second = (await dora.get("sessions", {"limit": 2, "after": first["nextCursor"]})).json()
    assert ids([*first["data"], *second["data"]]) == begun[::-1]
    assert [each["status"] for each in first["data"]] == ["active", "expired"]
    assert second["nextCursor"] is None
    assert ids((await dora.get("sessions", {"status": "active"})).json()["data"]) == begun[2:]
    refused(await dora.get("sessions", {"status": "gone"}), 400, "INVALID_FILTER")


# -- undo --------------------------------------------------------------------------------------------------------------


async def test_edits_are_undone_and_redone_in_order(dora: User) -> None:
    await dora.draft("D", {"remark": "outside"})
    session = await begin(dora)
    path = f"sessions/{session['id']}"
    await edit(dora, session, "A", "remark", "one")
    await edit(dora, session, "A", "remark", "two")
    await edit(dora, session, "B", "mileage", "not a number")
    undone: list[Any] = []
    for _ in range(3):
        undone.append((await dora.post(f"{path}/undo", {})).json()["ids"])
    assert undone == [[], ["A"], ["A"]]
    refused(await dora.post(f"{path}/undo", {}), 409, "NOTHING_TO_UNDO")
    assert list(await drafts(dora)) == ["D"]
    await dora.post(f"{path}/redo", {})
    assert (await dora.row("A"))["delta"] == {"remark": "one"}
    assert [each["state"] for each in await edits(dora, session)] == ["done", "undone", "undone"]
    # What is outside is undone outside.
    assert (await dora.post("drafts/undo", {})).json()["ids"] == ["D"]
    assert (await dora.row("A"))["delta"] == {"remark": "one"}


async def test_an_edit_that_no_draft_holds_ends_what_could_be_redone(dora: User) -> None:
    session = await begin(dora)
    path = f"sessions/{session['id']}"
    for value in ("typo", 10):
        await edit(dora, session, "A", "remark", "one")
        await dora.post(f"{path}/undo", {})
        await edit(dora, session, "B", "mileage", value)
        refused(await dora.post(f"{path}/redo", {}), 409, "NOTHING_TO_REDO")
    assert [each["state"] for each in await edits(dora, session)] == ["closed", "done", "closed", "done"]


async def test_an_edit_that_no_document_holds_ends_what_could_be_redone(dora: User) -> None:
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "one")
    await dora.post(f"sessions/{session['id']}/undo", {})
    await edit(dora, session, "B", "mileage", "not a number")
    refused(await dora.post(f"sessions/{session['id']}/redo", {}), 409, "NOTHING_TO_REDO")
    assert [each["state"] for each in await edits(dora, session)] == ["closed", "done"]


async def test_a_row_that_another_session_has_taken_is_skipped(dora: User) -> None:
    first, second = await begin(dora), await begin(dora)
    await edit(dora, first, "A", "remark", "one")
    await dora.post(f"sessions/{first['id']}/undo", {})
    await edit(dora, second, "A", "remark", "two")
    answer = (await dora.post(f"sessions/{first['id']}/redo", {})).json()
    assert answer["skipped"] == [{"id": "A", "field": None, "code": "ROW_IN_OTHER_SESSION"}]
    assert (await dora.row("A"))["delta"] == {"remark": "two"}
    await dora.draft("B", {"remark": "outside"})
    await edit(dora, second, "B", "mileage", 3)
    answer = (await dora.post("drafts/undo", {})).json()
    assert answer["skipped"] == [{"id": "B", "field": None, "code": "ROW_IN_OTHER_SESSION"}]


async def test_a_session_that_is_edited_leaves_its_preview(world: World, dora: User) -> None:
    session = await begin(dora)
    path = f"sessions/{session['id']}"
    await edit(dora, session, "A", "remark", "one")
    for change in (
        dora.post(f"{path}/edits", {"id": "A", "field": "remark", "value": "two"}),
        dora.post(f"{path}/undo", {}),
        dora.post(f"{path}/redo", {}),
        dora.post("commit", {"sessionId": session["id"]}),
    ):
        await world.db.execute("UPDATE edit_session SET state = 'preview' WHERE id = $1", session["id"])
        assert (await change).status_code == 200
        assert (await shown(dora, session["id"]))["status"] == "active"


async def test_a_submitted_session_is_locked(world: World, dora: User) -> None:
    session = await begin(dora)
    path = f"sessions/{session['id']}"
    await edit(dora, session, "A", "remark", "one")
    for state in ("preview", "submitted"):
        await world.db.execute("UPDATE edit_session SET state = $2 WHERE id = $1", session["id"], state)
    world.clock.move(days=2)
    for answer in (
        await dora.post(f"{path}/edits", {"id": "A", "field": "remark", "value": "two"}),
        await dora.post(f"{path}/undo", {}),
        await dora.post(f"{path}/extend", {}),
        await dora.request("DELETE", path),
        await dora.post("commit", {"sessionId": session["id"]}),
        await dora.post("discard", {"sessionId": session["id"]}),
        await dora.post(
            "drafts", {"sessionId": session["id"], "modifications": [{"id": "A", "delta": {"mileage": 1}}]}
        ),
    ):
        assert refused(answer, 409, "INVALID_TRANSITION")["state"] == "submitted"
    refused(await dora.post("commit", {"ids": ["A"]}), 409, "ROW_IN_OTHER_SESSION")


async def test_a_session_holds_so_many_bytes(world: World, dora: User) -> None:
    session = await begin(dora)
    await world.db.execute("UPDATE edit_session SET staged = $1", 100 * 1024 * 1024 - 10)
    before = await world.db.fetchval("SELECT revision FROM workspace WHERE dataset = 'fleet'")
    wanted = {"id": "A", "field": "remark", "value": "two"}
    refused(await dora.post(f"sessions/{session['id']}/edits", wanted), 409, "SESSION_FULL")
    assert await drafts(dora) == {}
    assert await world.db.fetchval("SELECT revision FROM workspace WHERE dataset = 'fleet'") == before


async def test_commits_of_others_stand_beside_a_session(world: World, dora: User) -> None:
    carl = (await world.user("carl")).on("fleet")
    session = await begin(dora)
    await edit(dora, session, "A", "remark", "dora")
    await carl.draft("A", {"remark": "carl", "mileage": 99})
    await committed(carl, "A")
    row = await dora.row("A")
    assert (row["data"]["mileage"], row["syncState"]) == (99, "conflict")
    await ended(dora, session)
    assert (await dora.row("A"))["data"]["remark"] == "carl"
    assert exact_json.decode((await dora.get("rows")).content)["pagination"]["totalRecords"] == 4


async def test_preview_generation(dora: User) -> None:
    """Differences, validation and figures of all that the session has changed; an edit takes it back to active."""
    session = await begin(dora)
    await edit(dora, session, "A", "mileage", 12)
    await edit(dora, session, "B", "seats", 500)
    preview = exact_json.decode((await dora.post(f"sessions/{session['id']}/preview", {})).content)
    assert preview["summary"]["rowsChanged"] == 2
    assert [(each["id"], each["field"], each["old"], each["new"]) for each in preview["diffs"]] == [
        ("A", "mileage", 10, 12),
        ("B", "seats", preview["diffs"][1]["old"], 500),
    ]
    assert preview["validation"]["state"] == "failed"
    assert preview["kpis"]["after"]["mileage"] - preview["kpis"]["before"]["mileage"] == 2
    assert (await shown(dora, session["id"]))["status"] == "preview"
    await edit(dora, session, "B", "seats", 5)
    assert (await shown(dora, session["id"]))["status"] == "active"


# -- states ------------------------------------------------------------------------------------------------------------

WAY_TO = {
    "active": [],
    "preview": ["preview"],
    "submitted": ["preview", "submitted"],
    "aborted": ["aborted"],
    "expired": ["expired"],
}
# What a request makes of a session, and the states that may stay as they are by it.
ACTS: dict[str, tuple[SessionState, frozenset[SessionState]]] = {
    "edit": (SessionState.ACTIVE, frozenset({SessionState.ACTIVE})),
    "edits": (SessionState.ACTIVE, frozenset({SessionState.ACTIVE})),
    "drafts": (SessionState.ACTIVE, frozenset({SessionState.ACTIVE})),
    "undo": (SessionState.ACTIVE, frozenset({SessionState.ACTIVE})),
    "commit": (SessionState.ACTIVE, frozenset({SessionState.ACTIVE})),
    "discard": (SessionState.ACTIVE, frozenset({SessionState.ACTIVE})),
    "preview": (SessionState.PREVIEW, frozenset({SessionState.PREVIEW})),
    "abort": (SessionState.ABORTED, frozenset()),
}


async def act(user: User, session: str, name: str) -> httpx.Response:
    """Send the request of this name."""
    cell = {"id": "A", "field": "mileage", "value": 2}
    bodies: dict[str, tuple[str, Any]] = {
        "edit": (f"sessions/{session}/edits", cell),
        "edits": (f"sessions/{session}/edits/batch", {"edits": [cell]}),
        "drafts": ("drafts", {"sessionId": session, "modifications": [{"id": "A", "delta": {"mileage": 2}}]}),
        "undo": (f"sessions/{session}/undo", {}),
        "commit": ("commit", {"sessionId": session}),
        "discard": ("discard", {"sessionId": session}),
        "preview": (f"sessions/{session}/preview", {}),
    }
    if name == "abort":
        return await user.request("DELETE", f"sessions/{session}")
    return await user.post(*bodies[name])


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("state", SessionState)
async def test_a_request_goes_the_ways_of_the_table_and_no_other(
    world: World, dora: User, state: SessionState, name: str
) -> None:
    """A session that is over is no open session: to drafts, commits and discards its id is a word like any other."""
    session = (await begin(dora))["id"]
    await dora.post(f"sessions/{session}/edits", {"id": "A", "field": "mileage", "value": 1})
    for step in WAY_TO[state]:
        await world.db.execute(
            "UPDATE edit_session SET state = $2, ended_at = $3 WHERE id = $1",
            session, step, world.clock() if step in ("aborted", "expired") else None,
        )  # fmt: skip
    answer = await act(dora, session, name)
    to, stays = ACTS[name]
    if state in stays or (to in SESSION_TRANSITIONS[state] and state is not SessionState.SUBMITTED):
        assert answer.status_code == 200, answer.text
        assert (await shown(dora, session))["status"] == to
    elif name in ("drafts", "commit", "discard") and state in (SessionState.ABORTED, SessionState.EXPIRED):
        assert answer.status_code == 200, answer.text
        assert (await shown(dora, session))["status"] == state
    else:
        assert refused(answer, 409, "INVALID_TRANSITION")["state"] == state
        assert (await shown(dora, session))["status"] == state


@pytest.mark.parametrize("state", SessionState)
async def test_code_moves_a_session_by_the_table_only(world: World, dora: User, state: SessionState) -> None:
    session_id = (await begin(dora))["id"]
    async with world.runtime.database.transaction() as connection:
        desk = Desk(connection, FLEET, "acme")
        session = msgspec.structs.replace(await read_session(desk, "dora", session_id, world.clock()), state=state)
        for to in set(SessionState) - SESSION_TRANSITIONS[state]:
            with pytest.raises(InvalidTransition):
                await move_session(desk, session, to, world.clock())


async def test_a_list_shows_the_first_rows_of_a_selection(world: World, dora: User) -> None:
    keys = [f"V{number:02}" for number in range(25)]
    await world.mirror({key: vehicle(plate=key) for key in keys}, contract=FLEET)
    session = await begin(dora, mode="row_selection", rows=keys)
    assert (session["rows"], session["rowCount"]) == (keys, 25)
    (listed,) = (await dora.get("sessions")).json()["data"]
    assert (listed["rows"], listed["rowCount"]) == (keys[:20], 25)


async def test_a_session_that_cannot_be_ended_keeps_no_other_from_its_end(world: World, dora: User) -> None:
    stuck, other = await begin(dora), await begin(dora)
    await world.db.execute(
        "CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'not now'; END $$; CREATE TRIGGER refuse_one BEFORE UPDATE ON edit_session"
        f" FOR EACH ROW WHEN (NEW.id = '{stuck['id']}') EXECUTE FUNCTION refuse_one()"
    )
    world.clock.move(hours=24)
    operator = await world.user("olga", role=Role.VIEWER, operator=True, ttl=90 * 86400)
    refused(await operator.post("/api/v1/admin/sessions/cleanup", {}), 500, "INTERNAL_ERROR")
    states = dict(await world.db.fetch("SELECT id, state FROM edit_session"))
    assert states == {stuck["id"]: "active", other["id"]: "expired"}
