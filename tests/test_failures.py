"""What synchronization could not take or write, over HTTP, and the retry of changes under their authors' drafts."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from app.base import exact_json
from app.upstream.protocol import Refused
from app.web.auth import Role
from tests.support.ledger import Ledger
from tests.support.records import connect, engineer, quarantine, settle, settled_changes
from tests.support.syncing import open_yard, van
from tests.support.world import User, World, ids, line, refused, written
from tests.test_contention import at_once, paused, until_waiting

NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}


@pytest.fixture
async def erin(world: World) -> User:
    """An engineer of acme, where a worker is configured."""
    await connect(world)
    return await engineer(world)


async def commit(user: User, key: str, delta: dict[str, Any], **more: Any) -> None:
    """Draft and commit."""
    await user.draft(key, delta, **more)
    assert (await user.commit(key)).status_code == 200


async def failed(user: User, **params: Any) -> dict[str, Any]:
    response = await user.get("sync/failed", params)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = exact_json.decode(response.content)
    return page


async def retried(user: User, **wanted: Any) -> int:
    (number,) = written(await user.post("sync/retry", wanted)).values()
    return int(number)


async def states(user: User) -> dict[str, str]:
    """The states of a user's rows."""
    return {row["id"]: row["syncState"] for row in await user.rows()}


# --- quarantine


async def test_quarantine_shows_what_was_received_and_why_not(world: World, erin: User) -> None:
    """Numbers with their digits; a reason without a field is about the row."""
    received = {"pfaId": "A", "monthlyRate": Decimal("19000.50"), "note": 'é "x"\n'}
    await quarantine(
        world, "A", received,
        {"code": "INVALID_TYPE", "message": "monthlyRate is no number.", "field": "monthlyRate", "id": "A"},
        {"code": "INVALID_ID", "message": "Too long."},
        run_id="00000000-0000-0000-0000-000000000001",
    )  # fmt: skip
    response = await erin.get("sync/quarantine")
    assert b"19000.50" in response.content
    assert exact_json.decode(response.content) == {
        "data": [
            {
                "id": "A",
                "reasons": [
                    {"code": "INVALID_TYPE", "message": "monthlyRate is no number.", "field": "monthlyRate"},
                    {"code": "INVALID_ID", "message": "Too long.", "field": None},
                ],
                "received": received,
                "firstSeenAt": "2026-03-01T12:00:00.000Z",
                "lastSeenAt": "2026-03-01T12:00:00.000Z",
                "runId": "00000000-0000-0000-0000-000000000001",
                "line": None,
                "raw": None,
                "discarded": None,
            }
        ],
        "total": 1,
        "nextCursor": None,
    }
    empty = {"data": [], "total": 0, "nextCursor": None}
    assert (await erin.on("fleet").get("sync/quarantine")).json() == empty


async def test_quarantine_comes_in_pages_by_id(world: World, erin: User) -> None:
    keys = ["B", "a", "É", "10", "9", "'", "A"]
    for key in keys:
        await quarantine(world, key, {})
    found: list[str] = []
    after: dict[str, Any] = {}
    for expected in (3, 3, 1):
        page = (await erin.get("sync/quarantine", {"limit": 3, **after})).json()
        assert (len(page["data"]), page["total"]) == (expected, 7)
        found += ids(page["data"])
        after = {"after": page["nextCursor"]}
    assert found == sorted(keys)
    assert after == {"after": None}


# --- failed changes


async def test_failed_changes_are_everybodys_in_their_order(world: World, erin: User, ann: User, bob: User) -> None:
    await world.mirror({"A": line(monthlyRate=1), "B": line(), "C": line()})
    await commit(ann, "A", {"monthlyRate": Decimal("19000.50")}, changeReason="New offer")
    await commit(bob, "B", {}, op="delete")
    await commit(bob, "C", {"model": "M"})
    world.clock.move(minutes=5)
    await settle(world, "B", "conflict", "The line was changed.")
    await settle(world, "A", "sync_error", "PEMS: no such category")
    response = await erin.get("sync/failed")
    assert b'{"monthlyRate" : 19000.50}' in response.content or b'{"monthlyRate": 19000.50}' in response.content
    page = await failed(erin)
    first, second = page["data"]
    commit_id = (await ann.row("A"))["history"][0]["commitId"]
    assert first | {"createdAt": None} == {
        "id": first["id"],
        "rowId": "A",
        "op": "update",
        "state": "sync_error",
        "user": "ann",
        "userName": "ann",
        "delta": {"monthlyRate": Decimal("19000.50")},
        "base": first["base"],
        "error": "PEMS: no such category",
        "code": None,
        "near": [],
        "attempts": 3,
        "commitId": commit_id,
        "changeReason": "New offer",
        "createdAt": None,
        "failedAt": "2026-03-01T12:05:00.000Z",
    }
    assert first["createdAt"] == "2026-03-01T12:00:00.000Z"
    assert first["base"]["monthlyRate"] == 1
    assert (second["rowId"], second["user"], second["op"], second["state"]) == ("B", "bob", "delete", "conflict")
    assert int(first["id"]) < int(second["id"])
    assert (page["total"], page["nextCursor"]) == (2, None)
    assert (await failed(erin.on("fleet")))["total"] == 0


async def test_failed_changes_come_in_pages_by_number(world: World, erin: User) -> None:
    """By their numbers, not by their digits."""
    await settled_changes(world, 11, "conflict", world.clock())
    await settled_changes(world, 5, "synced", world.clock())
    found: list[str] = []
    after: dict[str, Any] = {}
    for expected in (4, 4, 3):
        page = await failed(erin, limit=4, **after)
        assert (len(page["data"]), page["total"]) == (expected, 11)
        found += [row["rowId"] for row in page["data"]]
        after = {"after": page["nextCursor"]}
    assert found == [f"R{number}" for number in range(1, 12)]
    assert after == {"after": None}


async def test_history_says_why_a_change_failed(world: World, erin: User, ann: User) -> None:
    """Until it is retried; a change that worked has nothing to say."""
    await world.mirror({"A": line()})
    await commit(ann, "A", {"model": "M"})
    assert [entry["error"] for entry in (await ann.row("A"))["history"]] == [None]
    await settle(world, "A", "sync_error", "PEMS: no such model")
    await world.db.execute(
        "INSERT INTO pfa.history (organization_id, revision, row_key, op, source, at)"
        " VALUES ('acme', 1, 'A', 'insert', 'pull', $1)",
        world.clock(),
    )
    history = (await ann.row("A"))["history"]
    assert [(entry["state"], entry["error"]) for entry in history] == [
        ("sync_error", "PEMS: no such model"), ("synced", None),
    ]  # fmt: skip
    assert await retried(erin, all=True) == 1
    assert [entry["error"] for entry in (await ann.row("A"))["history"]] == [None, None]


# --- retry


async def test_a_retry_puts_changes_back_into_the_outbox(world: World, erin: User, ann: User, bob: User) -> None:
    """Given failed changes of two users, then they are as if never tried, and both lists show it under a new ETag."""
    await world.mirror({key: line() for key in "ABCD"})
    for user, key, state in ((ann, "A", "conflict"), (bob, "B", "sync_error"), (ann, "C", "synced")):
        await commit(user, key, {"model": "M"})
        await settle(world, key, state, None if state == "synced" else "No.")
    await world.db.execute("UPDATE pfa.change SET op = 'insert', sent_at = $1 WHERE row_key = 'B'", world.clock())
    carl = await world.user("carl")
    tags = {user.id: (await user.get("rows")).headers["ETag"] for user in (ann, bob, carl)}
    assert await retried(erin, all=True) == 2
    assert (await failed(erin))["total"] == 0
    rows = await world.db.fetch(
        "SELECT state, attempts, lease_until, next_attempt_at, last_error, settled_at, sent_at"
        " FROM pfa.change WHERE row_key IN ('A', 'B') ORDER BY row_key"
    )
    untried = ("committed", 0, None, None, None, None)
    assert [tuple(row) for row in rows] == [(*untried, None), (*untried, world.clock())]
    assert await world.db.fetchval("SELECT state FROM pfa.change WHERE row_key = 'C'") == "synced"
    assert (await states(ann))["A"] == "committed"
    assert (await states(bob))["B"] == "committed"
    for user, status in ((ann, 200), (bob, 200), (carl, 304)):
        answer = await user.get("rows", headers={"If-None-Match": tags[user.id]})
        assert answer.status_code == status, user.id
    assert await retried(erin, all=True) == 0


async def test_a_retry_takes_what_is_named(world: World, erin: User, ann: User) -> None:
    """By the id of a change, or by a row; one that is there and one that is not is enough."""
    await world.mirror({key: line() for key in "ABC"})
    for key in "ABC":
        await commit(ann, key, {"model": "M"})
        await settle(world, key, "sync_error", "No.")
    numbers = {change["rowId"]: change["id"] for change in (await failed(erin))["data"]}
    assert await retried(erin, ids=[numbers["B"], numbers["B"], "999999999999999999"]) == 1
    assert await states(ann) == {"A": "sync_error", "B": "committed", "C": "sync_error"}
    assert await retried(erin, rowIds=["C", "C", "X"]) == 1
    assert await states(ann) == {"A": "sync_error", "B": "committed", "C": "committed"}
    for wanted in ({"ids": [numbers["B"]]}, {"ids": ["0"]}, {"rowIds": ["C"]}, {"rowIds": ["X", "'; --", "é"]}):
        refused(await erin.post("sync/retry", wanted), 404, "NOTHING_FAILED")
    assert await states(ann) == {"A": "sync_error", "B": "committed", "C": "committed"}


async def test_a_retry_leaves_the_authors_draft_on_top(world: World, erin: User, ann: User, bob: User) -> None:
    """Given a failed change with a draft over it, then the draft shows again, and commits behind the change."""
    await world.mirror({"A": line(model="0", equipment="0")})
    await commit(ann, "A", {"model": "1"})
    await ann.draft("A", {"model": "2", "equipment": "2"})
    await bob.draft("A", {"manufacturer": "B"})
    await settle(world, "A", "sync_error", "No.")
    assert await states(ann) == {"A": "sync_error"}
    seen = (await bob.get("rows")).headers["ETag"]
    assert await retried(erin, rowIds=["A"]) == 1
    row = await ann.row("A")
    assert (row["syncState"], row["pending"], row["delta"], row["conflicts"]) == (
        "draft", {"model": "1"}, {"model": "2", "equipment": "2"}, [],
    )  # fmt: skip
    assert row["data"]["model"] == "2"
    assert await states(bob) == {"A": "draft"}
    # What bob sees of the row is brought up to date too, so his tag has moved.
    assert (await bob.get("rows", headers={"If-None-Match": seen})).status_code == 200
    assert (await ann.commit()).json()["committed"] == 1
    assert (await ann.row("A"))["pending"] == {"model": "2", "equipment": "2"}


async def test_a_retry_shows_another_users_draft_what_it_meets(world: World, erin: User, ann: User, bob: User) -> None:
    """Given that bob drafted the cell while ann's change stood still, then it is on its way again, and they differ."""
    await world.mirror({"A": line(model="0")})
    await commit(ann, "A", {"model": "1"})
    await settle(world, "A", "sync_error", "No.")
    await bob.draft("A", {"model": "2"})
    tag = (await bob.get("rows")).headers["ETag"]
    assert await states(bob) == {"A": "draft"}
    await retried(erin, all=True)
    answer = await bob.get("rows", headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.json()["data"][0]["conflicts"] == [
        {"id": "A", "field": "model", "base": "0", "theirs": "1", "mine": "2"}
    ]


async def test_new_rows_and_deletions_are_retried_too(world: World, erin: User, ann: User) -> None:
    """Keys that the mirror does not have, and rows that a list does not show."""
    await world.mirror({"A": line()})
    await commit(ann, "N", NEW, op="insert")
    await commit(ann, "A", {}, op="delete")
    for key in ("N", "A"):
        await settle(world, key, "sync_error", "No.")
    assert await states(ann) == {"N": "sync_error"}
    assert await retried(erin, all=True) == 2
    assert await states(ann) == {"N": "committed"}
    assert ((await ann.row("A"))["op"], (await ann.row("A"))["syncState"]) == ("delete", "committed")


async def test_a_change_whose_author_has_nothing_there_is_retried_too(world: World, erin: User) -> None:
    """A workspace that does not exist yet is made."""
    await world.mirror({"R1": line()})
    await settled_changes(world, 1, "conflict", world.clock())
    assert await retried(erin, all=True) == 1
    assert await world.db.fetch("SELECT dataset, user_id, revision FROM workspace") == [("pfa", "ann", 1)]


async def test_a_retry_behind_a_save_leaves_what_the_author_took_back(world: World, erin: User, ann: User) -> None:
    """Given that the save has begun, then the retry waits, and finds that the change is a draft again."""
    await world.mirror({"A": line(model="0")})
    await commit(ann, "A", {"model": "1"})
    await settle(world, "A", "sync_error", "No.")
    async with paused(world, "pfa.modification"):
        (save,) = at_once(ann.draft("A", {"equipment": "2"}))
        await until_waiting(world, 1, save)
        (retry,) = at_once(retried(erin, all=True))
        await until_waiting(world, 2, save, retry)
    assert (await asyncio.gather(save, retry))[1] == 0
    row = await ann.row("A")
    assert (row["syncState"], row["pending"], row["delta"]) == ("draft", {}, {"model": "1", "equipment": "2"})


async def test_a_save_behind_a_retry_lies_on_what_is_on_its_way_again(world: World, erin: User, ann: User) -> None:
    """Given that the retry has begun, then the save waits, and takes nothing back."""
    await world.mirror({"A": line(model="0")})
    await commit(ann, "A", {"model": "1"})
    await settle(world, "A", "sync_error", "No.")
    async with paused(world, "pfa.modification"):
        (retry,) = at_once(retried(erin, all=True))
        await until_waiting(world, 1, retry)
        (save,) = at_once(ann.draft("A", {"equipment": "2"}))
        await until_waiting(world, 2, save, retry)
    assert (await asyncio.gather(save, retry))[1] == 1
    row = await ann.row("A")
    assert (row["syncState"], row["pending"], row["delta"]) == ("draft", {"model": "1"}, {"equipment": "2"})


async def test_two_retries_at_once_retry_once(world: World, erin: User, ann: User, bob: User) -> None:
    """Given that both have read what failed, then the second finds it retried."""
    await world.mirror({key: line() for key in "AB"})
    for user, key in ((ann, "A"), (bob, "B")):
        await commit(user, key, {"model": "M"})
        await settle(world, key, "conflict", "No.")
    async with paused(world, "pfa.change"):
        requests = at_once(erin.post("sync/retry", {"all": True}), erin.post("sync/retry", {"rowIds": ["B", "A"]}))
        await until_waiting(world, 2, *requests)
    whole, named = await asyncio.gather(*requests)
    outcomes = {(answer.status_code, answer.json().get("retried")) for answer in (whole, named)}
    assert outcomes in ({(200, 0), (200, 2)}, {(200, 2), (404, None)})
    assert (await failed(erin))["total"] == 0


async def test_a_retry_is_repeated_by_its_key(world: World, erin: User, ann: User) -> None:
    await world.mirror({"A": line()})
    await commit(ann, "A", {"model": "M"})
    await settle(world, "A", "sync_error", "No.")
    key = {"Idempotency-Key": "k1"}
    first = await erin.post("sync/retry", {"all": True}, headers=key)
    await settle(world, "A", "sync_error", "No again.")
    again = await erin.post("sync/retry", {"all": True}, headers=key)
    assert written(first) == {"retried": 1}
    assert (again.status_code, again.content) == (200, first.content)
    assert (await failed(erin))["data"][0]["error"] == "No again."


async def test_a_retry_stays_in_its_organization(world: World, erin: User, ann: User) -> None:
    """Also by the numbers of another's changes, and by rows that both have."""
    await world.organization("rival")
    eve = await engineer(world, "rival")
    await world.mirror({"A": line()})
    await world.mirror({"A": line()}, "rival")
    await commit(ann, "A", {"model": "M"})
    await settle(world, "A", "sync_error", "No.")
    number = (await failed(erin))["data"][0]["id"]
    for wanted in ({"ids": [number]}, {"rowIds": ["A"]}):
        refused(await eve.post("sync/retry", wanted), 404, "NOTHING_FAILED")
        refused(await erin.on("fleet").post("sync/retry", wanted), 404, "NOTHING_FAILED")
    assert await retried(eve, all=True) == await retried(erin.on("fleet"), all=True) == 0
    assert (await failed(eve))["total"] == 0
    assert (await failed(erin))["total"] == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "NOTHING_SELECTED"),
        ({"ids": ["1"], "all": True}, "NOTHING_SELECTED"),
        ({"ids": ["1"], "rowIds": ["A"]}, "NOTHING_SELECTED"),
        ({"ids": []}, "MALFORMED_REQUEST"),
        ({"rowIds": []}, "MALFORMED_REQUEST"),
        ({"ids": "1"}, "MALFORMED_REQUEST"),
        ({"ids": [1]}, "MALFORMED_REQUEST"),
        ({"ids": ["-1"]}, "MALFORMED_REQUEST"),
        ({"ids": ["9" * 19]}, "MALFORMED_REQUEST"),
        ({"ids": ["1; DROP TABLE pfa.change"]}, "MALFORMED_REQUEST"),
        ({"ids": ["\u0661"]}, "MALFORMED_REQUEST"),
        ({"ids": [""]}, "MALFORMED_REQUEST"),
        ({"rowIds": ["\0"]}, "MALFORMED_REQUEST"),
        ({"all": False}, "MALFORMED_REQUEST"),
        ({"all": True, "force": True}, "MALFORMED_REQUEST"),
        ([], "MALFORMED_REQUEST"),
        (None, "MALFORMED_REQUEST"),
    ],
)
async def test_a_retry_that_does_not_say_what_is_400(world: World, erin: User, ann: User, body: Any, code: str) -> None:
    await world.mirror({"A": line()})
    await commit(ann, "A", {"model": "M"})
    await settle(world, "A", "conflict", "No.")
    refused(await erin.post("sync/retry", body), 400, code)
    assert (await failed(erin))["total"] == 1


async def test_a_retry_needs_a_body(world: World) -> None:
    admin = await world.user("max", role=Role.ADMIN)
    refused(await admin.request("POST", "sync/retry"), 400, "MALFORMED_REQUEST")


# --- with a worker


async def test_a_worker_does_what_was_asked_for_and_retried(database_url: str) -> None:
    """Given that upstream refuses a change once, then the retried one arrives, and a pull in one's name is recorded."""
    ledger = Ledger("plate", {f"V-{number}": van() for number in range(1, 4)})
    async with open_yard(database_url, ledger) as yard:
        await yard.work()
        ann, erin = await yard.user("ann"), await yard.user("erin", role=Role.ENGINEER)
        ledger.failures["write"] = [Refused("No such depot")]
        await commit(ann, "V-1", {"mileage": 150})
        await yard.work()
        (change,) = (await failed(erin))["data"]
        assert (change["rowId"], change["state"], change["error"]) == ("V-1", "sync_error", "No such depot")
        assert (await ann.row("V-1"))["history"][0]["error"] == "No such depot"
        assert (await erin.get("sync/health")).json()["pushes"] == {"synced": 0, "conflict": 0, "syncError": 1}

        assert await retried(erin, ids=[change["id"]]) == 1
        run = (await erin.post("sync/pull", {"full": True})).json()["runId"]
        await yard.work()
        assert ledger.writes == [("update", "V-1", {"mileage": 150})]
        assert await states(ann) == {"V-1": "pristine", "V-2": "pristine", "V-3": "pristine"}
        assert (await failed(erin))["total"] == 0
        pull = (await erin.get(f"sync/runs/{run}")).json()
        assert (pull["state"], pull["full"], pull["requestedBy"], pull["counts"]["read"]) == (
            "succeeded",
            True,
            "erin",
            3,
        )
        health = (await erin.get("sync/health")).json()
        assert (health["status"], health["lag"], health["rows"]) == ("healthy", 0, {"good": 6, "quarantined": 0})
        assert health["pushes"] == {"synced": 1, "conflict": 0, "syncError": 0}
