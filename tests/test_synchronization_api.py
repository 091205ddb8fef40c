"""Synchronization over HTTP: asking for runs, watching them, and how all of them do."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.base import exact_json
from app.base.database import PLANNING
from app.contracts import PFA
from app.synchronization import READ_HEALTH
from app.web.auth import Role
from tests.support.records import add_run, connect, engineer, quarantine, settled_changes
from tests.support.world import User, World, ids, refused, written
from tests.test_contention import at_once, paused, until_waiting

GETS = ("sync/runs", "sync/quarantine", "sync/failed", "sync/health")


@pytest.fixture
async def erin(world: World) -> User:
    """An engineer of acme."""
    return await engineer(world)


async def asked(user: User, kind: str, body: Any = None, **options: Any) -> str:
    """The run that a request leads to."""
    content = None if body is None else exact_json.encode(body)
    (run,) = written(await user.request("POST", f"sync/{kind}", content=content, **options), 202).values()
    return str(run)


async def runs(user: User, **params: Any) -> list[dict[str, Any]]:
    response = await user.get("sync/runs", params)
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


async def health(user: User) -> dict[str, Any]:
    response = await user.get("sync/health")
    assert response.status_code == 200, response.text
    return dict(response.json())


# --- asking for a run


async def test_a_request_waits_for_a_worker(world: World, erin: User) -> None:
    """Given nothing that waits, then it is added, in its asker's name, at the clock's time."""
    await connect(world)
    id_ = await asked(erin, "pull", {"full": True})
    assert (await erin.get(f"sync/runs/{id_}")).json() == {
        "id": id_,
        "kind": "pull",
        "full": True,
        "state": "requested",
        "requestedBy": "erin-of-acme",
        "requestedByName": "erin-of-acme",
        "requestedAt": "2026-03-01T12:00:00.000Z",
        "allowed": [],
        "startedAt": None,
        "progressedAt": None,
        "finishedAt": None,
        "counts": {
            "read": 0, "inserted": 0, "updated": 0, "unchanged": 0, "deleted": 0, "quarantined": 0, "conflicts": 0,
            "leftAlone": 0, "dropped": 0,
        },
        "rate": None,
        "progress": {"done": 0, "total": None, "share": None},
        "doubt": None,
        "error": None,
        "report": None,
    }  # fmt: skip
    push = (await erin.get(f"sync/runs/{await asked(erin, 'push', {})}")).json()
    assert push["counts"] == {"synced": 0, "conflicts": 0, "syncErrors": 0, "retried": 0, "normalized": 0}
    assert (push["kind"], push["full"], push["state"]) == ("push", False, "requested")


async def test_a_request_joins_the_run_that_waits(world: World, erin: User) -> None:
    """Until a worker starts it; a full one makes it whole, and a partial one leaves it so. Pulls and pushes are two."""
    await connect(world)
    first = await asked(erin, "pull")
    assert await asked(erin, "pull", {"full": False}) == first
    assert not (await runs(erin))[0]["full"]
    assert await asked(erin, "pull", {"full": True}) == first
    assert await asked(erin, "pull") == first
    assert (await runs(erin))[0]["full"]
    push = await asked(erin, "push")
    assert push != first
    assert await asked(erin, "push", {}) == push
    await world.db.execute("UPDATE sync_run SET state = 'running', started_at = now() WHERE kind = 'pull'")
    second = await asked(erin, "pull")
    assert second not in (first, push)
    assert {run["id"]: run["state"] for run in await runs(erin)} == {
        first: "running", push: "requested", second: "requested",
    }  # fmt: skip


async def test_a_request_joins_what_the_schedule_asked_for(world: World, erin: User) -> None:
    await connect(world)
    scheduled = await add_run(world, state="requested")
    assert await asked(erin, "pull") == scheduled
    assert (await runs(erin))[0]["requestedBy"] is None


@pytest.mark.parametrize("kind", ["pull", "push"])
async def test_of_two_simultaneous_requests_one_run_comes(world: World, erin: User, kind: str) -> None:
    """Given that both have begun before either of them is done, then the second waits, and finds the first."""
    await connect(world)
    async with paused(world, "sync_run"):
        requests = at_once(asked(erin, kind), asked(erin, kind))
        await until_waiting(world, 2, *requests)
    first, second = await asyncio.gather(*requests)
    assert first == second
    assert ids(await runs(erin)) == [first]


async def test_a_run_that_is_started_meanwhile_is_not_joined(world: World, erin: User) -> None:
    """Given that a worker has started it, but not committed yet, then the request waits, and adds another."""
    await connect(world)
    first = await asked(erin, "pull")
    async with world.db.acquire() as worker, worker.transaction():
        await worker.execute("UPDATE sync_run SET state = 'running', started_at = now()")
        (request,) = at_once(asked(erin, "pull", {"full": True}))
        await until_waiting(world, 1, request)
    second = await request
    assert {run["id"]: (run["state"], run["full"]) for run in await runs(erin)} == {
        first: ("running", False), second: ("requested", True),
    }  # fmt: skip


async def test_an_idempotency_key_repeats_the_run_and_its_status(world: World, erin: User) -> None:
    await connect(world)
    key = {"Idempotency-Key": "k1"}
    first = await asked(erin, "pull", {"full": True}, headers=key)
    await world.db.execute("UPDATE sync_run SET state = 'succeeded', started_at = now(), finished_at = now()")
    assert await asked(erin, "pull", {"full": True}, headers=key) == first
    assert await asked(erin, "pull", {"full": True}) != first
    again = await erin.request("POST", "sync/pull", headers=key)
    refused(again, 422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize("kind", ["pull", "push"])
async def test_without_a_system_of_record_there_is_no_run(world: World, erin: User, kind: str) -> None:
    """The answer says whether there can be none, or a worker lacks."""
    problem = refused(await erin.request("POST", f"sync/{kind}"), 409, "NO_UPSTREAM")
    assert "worker" in problem["detail"]
    problem = refused(await erin.on("fleet").request("POST", f"sync/{kind}"), 409, "NO_UPSTREAM")
    assert "fleet has no system of record" in problem["detail"]
    refused(await erin.on("nothing").request("POST", f"sync/{kind}"), 404, "DATASET_NOT_FOUND")
    await world.db.execute("DELETE FROM dataset WHERE name = 'pfa'")
    refused(await erin.request("POST", f"sync/{kind}"), 404, "DATASET_NOT_FOUND")


@pytest.mark.parametrize("body", ['{"full": 1}', '{"whole": true}', "[]", "{", '"x"', '{"full": null}'])
async def test_a_body_that_does_not_fit_is_400(world: World, erin: User, body: str) -> None:
    await connect(world)
    refused(await erin.request("POST", "sync/pull", content=body), 400, "MALFORMED_REQUEST")
    refused(await erin.request("POST", "sync/push", content=body), 400, "MALFORMED_REQUEST")
    assert await runs(erin) == []


# --- runs


async def test_a_pull_shows_what_it_has_done_and_how_fast(world: World, erin: User) -> None:
    at = world.clock()
    await add_run(
        world, state="running", started_at=at, progressed_at=at + timedelta(seconds=8), total=4000, rows_read=1000,
        inserted=1, updated=2, unchanged=994, quarantined=3, conflicts=4, left_alone=5, dropped=6, deleted=7,
    )  # fmt: skip
    world.clock.move(hours=1)
    (run,) = await runs(erin)
    assert (run["state"], run["rate"]) == ("running", 125.75)
    assert run["progress"] == {"done": 1006, "total": 4000, "share": 0.2515}
    assert run["counts"] == {
        "read": 1000, "inserted": 1, "updated": 2, "unchanged": 994, "deleted": 7, "quarantined": 3, "conflicts": 4,
        "leftAlone": 5, "dropped": 6,
    }  # fmt: skip
    assert (run["startedAt"], run["progressedAt"]) == ("2026-03-01T12:00:00.000Z", "2026-03-01T12:00:08.000Z")

    # Rows that came twice make more of them than there are.
    await world.db.execute("UPDATE sync_run SET rows_read = 4010, total = 4000")
    assert (await runs(erin))[0]["progress"] == {"done": 4016, "total": 4000, "share": 1.0}


async def test_a_push_counts_changes_and_a_failure_says_why(world: World, erin: User) -> None:
    at = world.clock()
    await add_run(
        world, "push", "failed", started_at=at, progressed_at=at + timedelta(seconds=1),
        finished_at=at + timedelta(seconds=2), synced=5, conflicts=2, sync_errors=1, retried=9,
        error_code="UPSTREAM_UNAVAILABLE", error="Nobody is there.",
    )  # fmt: skip
    (run,) = await runs(erin)
    assert run["counts"] == {"synced": 5, "conflicts": 2, "syncErrors": 1, "retried": 9, "normalized": 0}
    assert (run["rate"], run["progress"]) == (4.0, {"done": 8, "total": None, "share": None})
    assert run["error"] == {"code": "UPSTREAM_UNAVAILABLE", "message": "Nobody is there."}


async def test_runs_come_in_pages_the_newest_first(world: World, erin: User) -> None:
    """Also those of one moment; filters apply to all pages."""
    for number in range(7):
        if number % 3 == 0:
            world.clock.move(microseconds=1)
        await add_run(world, "push" if number % 2 else "pull", "failed" if number == 6 else "succeeded")
    world.clock.move(seconds=1)
    everything = await runs(erin)
    times = [row["requested_at"] for row in await world.db.fetch("SELECT requested_at FROM sync_run")]
    assert len(everything) == 7
    assert everything[0]["state"] == "failed"
    assert len(set(times)) == 3

    async def walk(**params: Any) -> list[str]:
        found: list[str] = []
        after: dict[str, Any] = {}
        while True:
            page = (await erin.get("sync/runs", {"limit": 2, **params, **after})).json()
            found += ids(page["data"])
            if page["nextCursor"] is None:
                return found
            assert len(page["data"]) == 2
            after = {"after": page["nextCursor"]}

    assert await walk() == ids(everything)
    assert await walk(kind="push") == [run["id"] for run in everything if run["kind"] == "push"]
    assert await walk(state="succeeded") == [run["id"] for run in everything if run["state"] == "succeeded"]
    assert await walk(kind="push", state="failed") == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=", "limit=1&limit=1", "kind=pul", "kind=", "state=done", "page=1",
     "state=running&state=failed", "kind=%00", "limit=%F0"],
)  # fmt: skip
async def test_a_parameter_that_does_not_fit_is_named(world: World, erin: User, query: str) -> None:
    problem = refused(await erin.get(f"sync/runs?{query}"), 400, "INVALID_FILTER")
    assert "%" in query or problem["errors"][0]["parameter"] == query.partition("=")[0]


@pytest.mark.parametrize("path", ["sync/quarantine", "sync/failed"])
async def test_the_other_lists_have_no_filters(world: World, erin: User, path: str) -> None:
    refused(await erin.get(path, {"kind": "pull"}), 400, "INVALID_FILTER")
    refused(await erin.get(path, {"limit": 201}), 400, "INVALID_FILTER")


async def test_a_cursor_belongs_to_its_list(world: World, erin: User) -> None:
    for _ in range(2):
        await add_run(world)
    for key in "AB":
        await quarantine(world, key, {})
    await settled_changes(world, 2, "conflict", world.clock())
    cursors = {}
    for path in GETS[:3]:
        cursors[path] = (await erin.get(path, {"limit": 1})).json()["nextCursor"]
        assert len((await erin.get(path, {"after": cursors[path]})).json()["data"]) == 1
    for path in GETS[:3]:
        for other in {*cursors.values()} - {cursors[path]} | {"x", "", "a.b", cursors[path] + "x", "\0", "é"}:
            refused(await erin.get(path, {"after": other}), 400, "INVALID_CURSOR")
        refused(await erin.on("fleet").get(path, {"after": cursors[path]}), 400, "INVALID_CURSOR")
    world.clock.move(hours=25)
    fresh = await world.user("fay", role=Role.ADMIN)
    refused(await fresh.get("sync/runs", {"after": cursors["sync/runs"]}), 400, "INVALID_CURSOR")


@pytest.mark.parametrize(
    "id_", ["00000000-0000-0000-0000-000000000000", "x", "1", "%00", "%F0%9F%98%80", "'--", "x" * 300, "%2F"]
)
async def test_an_id_that_is_none_answers_like_one_that_is_not_there(world: World, erin: User, id_: str) -> None:
    refused(await erin.get(f"sync/runs/{id_}"), 404, "RUN_NOT_FOUND")


async def test_a_run_of_another_dataset_or_organization_is_not_there(world: World, erin: User) -> None:
    run = await add_run(world)
    await world.organization("rival")
    eve = await engineer(world, "rival")
    assert (await erin.get(f"sync/runs/{run}")).status_code == 200
    refused(await erin.on("fleet").get(f"sync/runs/{run}"), 404, "RUN_NOT_FOUND")
    refused(await eve.get(f"sync/runs/{run}"), 404, "RUN_NOT_FOUND")
    assert await runs(eve) == await runs(erin.on("fleet")) == []


# --- who, and on what


@pytest.mark.parametrize(
    ("role", "allowed"),
    [(Role.VIEWER, False), (Role.ANALYST, False), (Role.ENGINEER, True), (Role.ADMIN, True)],
)
async def test_engineers_synchronize(world: World, role: Role, allowed: bool) -> None:
    await connect(world)
    user = await world.user("max", role=role)
    answers: list[httpx.Response] = [await user.get(path) for path in GETS]
    answers += [await user.post(f"sync/{kind}", {}) for kind in ("pull", "push")]
    answers.append(await user.post("sync/retry", {"all": True}))
    answers.append(await user.get(f"sync/runs/{await add_run(world)}"))
    for answer in answers:
        if allowed:
            assert answer.status_code in (200, 202), answer.text
        else:
            refused(answer, 403, "FORBIDDEN")


async def test_a_dataset_that_is_not_set_up_has_nothing_of_this(world: World, erin: User) -> None:
    await world.db.execute("DELETE FROM dataset WHERE name = 'pfa'")
    for path in GETS:
        refused(await erin.get(path), 404, "DATASET_NOT_FOUND")


# --- health


async def test_health_shows_what_settled_what_waits_and_what_the_worker_knows(world: World, erin: User) -> None:
    """Given runs and changes of the last 24 hours and older ones, then only the former count."""
    now = world.clock()
    old, lately = now - timedelta(hours=24, seconds=1), now - timedelta(hours=23)
    await connect(
        world, watermark=lately, pulled_at=now - timedelta(minutes=10), pulled_whole_at=old, failures=2,
        open_until=now + timedelta(seconds=30), next_pull_at=now + timedelta(minutes=6),
    )  # fmt: skip
    await add_run(world, requested_at=old, started_at=old, progressed_at=old, finished_at=old, rows_read=500)
    await add_run(world, requested_at=old, started_at=old, progressed_at=old, finished_at=lately, rows_read=60)
    started = now - timedelta(minutes=10)
    more: dict[str, Any] = {"requested_at": started, "started_at": started}
    await add_run(world, finished_at=now - timedelta(minutes=9), rows_read=33, quarantined=2, **more)
    await add_run(world, state="running", progressed_at=now, rows_read=8, quarantined=1, **more | {"requested_at": now})
    await add_run(world, "push", synced=9, progressed_at=now)
    await settled_changes(world, 4, "synced", lately)
    await settled_changes(world, 2, "conflict", now)
    await settled_changes(world, 1, "sync_error", now)
    await settled_changes(world, 20, "synced", old)
    await settled_changes(world, 30, "conflict", old)
    await settled_changes(world, 40, "discarded", now)
    await settled_changes(world, 3, "committed", None)
    world.clock.move(seconds=90)
    await settled_changes(world, 1, "syncing", None)
    for key in "ABCDE":
        await quarantine(world, key, {})
    world.clock.move(seconds=-69.5)
    assert await health(erin) == {
        "status": "degraded",
        "share": round(102 / 108, 4),
        "rows": {"good": 98, "quarantined": 3},
        "pushes": {"synced": 4, "conflict": 2, "syncError": 1},
        "lag": 620.5,
        "outbox": {"depth": 4, "oldest": 20.5},
        "failed": 33,
        "quarantined": 5,
        "watermark": "2026-02-28T13:00:00.000Z",
        "lastPullAt": "2026-03-01T11:50:00.000Z",
        "lastFullPullAt": "2026-02-28T11:59:59.000Z",
        "nextPullAt": "2026-03-01T12:06:00.000Z",
        "circuit": {"state": "open", "failures": 2, "openUntil": "2026-03-01T12:00:30.000Z"},
        "paused": None,
        "drift": None,
    }


@pytest.mark.parametrize(
    ("well", "badly", "status"),
    [(95, 5, "healthy"), (9499, 501, "degraded"), (80, 20, "degraded"), (7999, 2001, "unhealthy"), (0, 1, "unhealthy")],
)
async def test_the_share_that_went_well_decides(world: World, erin: User, well: int, badly: int, status: str) -> None:
    await connect(world)
    await settled_changes(world, badly, "sync_error", world.clock())
    await add_run(world, progressed_at=world.clock(), rows_read=well)
    assert (await health(erin))["status"] == status


async def test_where_nothing_was_settled_the_last_pull_decides(world: World, erin: User) -> None:
    """Also where no worker has been there yet."""
    nothing = await health(erin)
    assert (nothing["status"], nothing["share"], nothing["lag"]) == ("unhealthy", None, None)
    assert nothing["outbox"] == {"depth": 0, "oldest": None}
    assert nothing["circuit"] == {"state": "closed", "failures": 0, "openUntil": None}
    await connect(world, pulled_at=world.clock())
    assert (await health(erin))["status"] == "healthy"
    world.clock.move(hours=24)
    erin = User(world, erin.id, "acme", (await world.user("fay", role=Role.ADMIN)).token)
    assert (await health(erin))["status"] == "healthy"
    world.clock.move(seconds=1)
    late = await health(erin)
    assert (late["status"], late["lag"]) == ("unhealthy", 86401.0)


async def test_the_circuit_is_half_open_once_its_time_is_over(world: World, erin: User) -> None:
    await connect(world, failures=5, open_until=world.clock() + timedelta(seconds=10))
    states = []
    for seconds in (0, 9, 1):
        world.clock.move(seconds=seconds)
        states.append((await health(erin))["circuit"]["state"])
    assert states == ["open", "open", "half_open"]
    await world.db.execute("UPDATE synchronization SET open_until = NULL")
    assert (await health(erin))["circuit"] == {"state": "closed", "failures": 5, "openUntil": None}


async def test_a_dataset_without_upstream_has_no_health(world: World, erin: User) -> None:
    refused(await erin.on("fleet").get("sync/health"), 409, "NO_UPSTREAM")


async def test_health_is_read_from_indexes(world: World, erin: User) -> None:
    """Given many finished changes and a few that wait or were settled lately, then only the latter are touched."""
    await connect(world)
    old = world.clock() - timedelta(days=9)
    await settled_changes(world, 8000, "synced", old)
    await settled_changes(world, 8000, "discarded", old)
    for state in ("synced", "conflict", "committed"):
        await settled_changes(world, 20, state, None if state == "committed" else world.clock())
    await world.db.execute("VACUUM ANALYZE pfa.change")
    async with world.db.acquire() as connection:
        for name, value in PLANNING.items():
            await connection.execute(f"SET {name} = '{value}'")
        await connection.execute(f"PREPARE explained AS {READ_HEALTH.within(PFA.schema).text}")
        now = world.clock()
        plan = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE explained ('acme', 'pfa', '{now}', '{now - timedelta(hours=24)}')"
        )
    scans = [node for node in _nodes(exact_json.decode(plan)[0]["Plan"]) if node.get("Relation Name") == "change"]
    assert {node["Index Name"] for node in scans if "Index Name" in node} <= {
        "change_settled", "change_outbox", "change_failed",
    }  # fmt: skip
    assert all(node["Node Type"].endswith(("Index Scan", "Index Only Scan", "Heap Scan")) for node in scans)
    read = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans]
    assert max(read) <= 40


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(each for child in node.get("Plans", []) for each in _nodes(child))]
