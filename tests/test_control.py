"""Control of synchronization: pauses, stops, lifted guards, checks, pulls that take too long, full pulls by the clock.

What the routes answer, and what a worker makes of it.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from app.base import exact_json
from app.upstream.protocol import Failed, Report, Unavailable
from app.web.auth import Role
from app.worker.check import check
from app.worker.guards import Shares
from app.worker.pull import pull
from app.worker.push import push
from app.worker.runs import open_run
from app.worker.schedule import is_full_due, latest
from app.worker.target import Job, Target, alone
from tests.support.ledger import Hook, Ledger
from tests.support.records import add_run, connect, engineer
from tests.support.syncing import LEDGERED, Yard, defects, open_yard, van
from tests.support.world import User, World, refused, written
from tests.test_contention import at_once, until_waiting
from tests.test_synchronization_api import asked, health, runs

NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def erin(world: World) -> User:
    """An engineer of acme."""
    return await engineer(world)


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of seven vehicles, read three at a time; what always holds is looked at in the end."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 8)})
    async with open_yard(database_url, ledger) as yard:
        yield yard
        await yard.check()


@pytest.fixture
async def emil(yard: Yard) -> User:
    """An engineer who looks after the ledger."""
    return await yard.user("emil", role=Role.ENGINEER)


async def told(user: User, path: str, **options: Any) -> dict[str, Any]:
    """What a control answers that takes effect."""
    return written(await user.request("POST", f"sync/{path}", **options))


async def run_of(user: User, id_: str) -> dict[str, Any]:
    response = await user.get(f"sync/runs/{id_}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def edited(yard: Yard, user: User, *keys: str, **delta: Any) -> None:
    """A user's committed edits."""
    for key in keys:
        await user.draft(key, delta or {"mileage": 1})
    answer = await user.commit()
    assert answer.status_code == 200, answer.text


def codes(records: list[dict[str, Any]]) -> list[str | None]:
    """How runs ended: the codes of their errors."""
    return [record["error_code"] for record in records]


# -- pause and resume, over HTTP ---------------------------------------------------------------------------------------


async def test_a_pause_says_since_when_and_by_whom(world: World, erin: User) -> None:
    """Given a pause, then a second one changes nothing; resumed, it is gone, and resuming again is fine."""
    await connect(world)
    assert (await health(erin))["paused"] is None
    assert await told(erin, "pause") == {"paused": True}
    paused = {"at": "2026-03-01T12:00:00.000Z", "by": "erin-of-acme", "byName": "erin-of-acme"}
    assert (await health(erin))["paused"] == paused
    world.clock.move(minutes=1)
    other = await world.user("max", role=Role.ADMIN)
    assert await told(other, "pause", content="{}") == {"paused": True}
    assert (await health(erin))["paused"] == paused
    for _ in range(2):
        assert await told(other, "resume") == {"paused": False}
        assert (await health(erin))["paused"] is None


@pytest.mark.parametrize("kind", ["pull", "push"])
async def test_while_it_is_paused_nobody_can_ask_for_a_run(world: World, erin: User, kind: str) -> None:
    """The refusal says who paused it, and what to do; what waited before waits on."""
    await connect(world)
    before = await asked(erin, kind)
    await told(erin, "pause")
    problem = refused(await erin.request("POST", f"sync/{kind}"), 409, "SYNC_PAUSED")
    assert "2026-03-01T12:00:00.000Z by erin-of-acme" in problem["detail"]
    assert "sync/resume" in problem["detail"]
    assert [(run["id"], run["state"]) for run in await runs(erin)] == [(before, "requested")]
    await told(erin, "resume")
    assert await asked(erin, kind) == before


async def test_a_dataset_that_began_paused_was_paused_by_nobody(world: World, erin: User) -> None:
    await connect(world, paused_at=world.clock())
    assert (await health(erin))["paused"] == {"at": "2026-03-01T12:00:00.000Z", "by": None, "byName": None}
    problem = refused(await erin.request("POST", "sync/pull"), 409, "SYNC_PAUSED")
    assert problem["detail"].startswith("It was paused at 2026-03-01T12:00:00.000Z. Resume")


@pytest.mark.parametrize("path", ["pause", "resume", "check"])
async def test_what_is_not_connected_cannot_be_controlled(world: World, erin: User, path: str) -> None:
    assert "worker" in refused(await erin.request("POST", f"sync/{path}"), 409, "NO_UPSTREAM")["detail"]
    problem = refused(await erin.on("fleet").request("POST", f"sync/{path}"), 409, "NO_UPSTREAM")
    assert "fleet has no system of record" in problem["detail"]
    refused(await erin.on("nothing").request("POST", f"sync/{path}"), 404, "DATASET_NOT_FOUND")
    await world.db.execute("DELETE FROM dataset WHERE name = 'pfa'")
    refused(await erin.request("POST", f"sync/{path}"), 404, "DATASET_NOT_FOUND")


@pytest.mark.parametrize("path", ["pause", "resume", "check", f"runs/{NOBODY}/stop"])
@pytest.mark.parametrize("body", ['{"a": 1}', "[]", "{", '"x"'])
async def test_a_control_has_nothing_to_say(world: World, erin: User, path: str, body: str) -> None:
    await connect(world)
    refused(await erin.request("POST", f"sync/{path}", content=body), 400, "MALFORMED_REQUEST")


async def test_a_request_waits_for_a_pause_that_is_being_made(world: World, erin: User) -> None:
    """Given a pause that is not committed yet, when somebody asks for a pull, then it waits, and is refused."""
    await connect(world)
    async with world.db.acquire() as other, other.transaction():
        await other.execute("UPDATE synchronization SET paused_at = now()")
        (request,) = at_once(erin.request("POST", "sync/pull"))
        await until_waiting(world, 1, request)
    refused(await request, 409, "SYNC_PAUSED")
    assert await runs(erin) == []


async def test_of_pauses_at_once_the_feed_tells_one(world: World, erin: User) -> None:
    """Given people who pause at the same time, and people who resume, then the feed tells each change once."""
    await connect(world)
    for path in ("pause", "resume"):
        async with world.db.acquire() as other, other.transaction():
            await other.execute("SELECT FROM synchronization FOR UPDATE")
            requests = at_once(*(told(erin, path) for _ in range(3)))
            await until_waiting(world, 3, *requests)
        assert await asyncio.gather(*requests) == [{"paused": path == "pause"}] * 3
    events = await world.db.fetch("SELECT details ->> 'event' FROM feed ORDER BY number")
    assert [event for (event,) in events] == ["paused", "resumed"]


async def test_an_idempotency_key_repeats_a_control(world: World, erin: User) -> None:
    """Given a pause by a key, and somebody who resumed it, then the same request again does not pause it again."""
    await connect(world)
    key = {"Idempotency-Key": "k1"}
    assert await told(erin, "pause", headers=key) == {"paused": True}
    await told(erin, "resume")
    assert await told(erin, "pause", headers=key) == {"paused": True}
    assert (await health(erin))["paused"] is None
    refused(await erin.request("POST", "sync/resume", headers=key), 422, "IDEMPOTENCY_KEY_REUSED")

    id_, key = await asked(erin, "pull"), {"Idempotency-Key": "k2"}
    stopped = await told(erin, f"runs/{id_}/stop", headers=key)
    assert await told(erin, f"runs/{id_}/stop", headers=key) == stopped
    refused(await erin.request("POST", f"sync/runs/{id_}/stop"), 409, "RUN_OVER")


# -- stop, over HTTP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pull", "push", "check"])
async def test_a_run_that_waits_is_over_at_once(world: World, erin: User, kind: str) -> None:
    await connect(world)
    id_ = await asked(erin, kind)
    world.clock.move(seconds=3)
    run = await told(erin, f"runs/{id_}/stop")
    assert run == await run_of(erin, id_)
    assert (run["state"], run["finishedAt"]) == ("failed", "2026-03-01T12:00:03.000Z")
    assert run["error"] == {"code": "STOPPED", "message": "erin-of-acme stopped it before a worker began it."}
    assert await asked(erin, kind) != id_


async def test_a_run_under_way_goes_on_until_its_worker_hears_of_it(world: World, erin: User) -> None:
    """Whoever stops it first is named; the second one changes nothing."""
    id_ = await add_run(world, state="running", started_at=world.clock())
    run = await told(erin, f"runs/{id_}/stop")
    assert (run["state"], run["finishedAt"], run["error"]) == ("running", None, None)
    other = await world.user("max", role=Role.ADMIN)
    assert await told(other, f"runs/{id_}/stop", content="{}") == run
    assert await world.db.fetchrow("SELECT stop_by, stop_at FROM sync_run") == ("erin-of-acme", world.clock())


@pytest.mark.parametrize("state", ["succeeded", "failed"])
async def test_a_run_that_is_over_cannot_be_stopped(world: World, erin: User, state: str) -> None:
    id_ = await add_run(world, state=state)
    problem = refused(await erin.request("POST", f"sync/runs/{id_}/stop"), 409, "RUN_OVER")
    assert problem["detail"] == f"It {state} at 2026-03-01T12:00:00.000Z."


async def test_a_run_that_is_not_there_cannot_be_stopped(world: World, erin: User) -> None:
    id_ = await add_run(world, state="requested")
    await world.organization("rival")
    eve = await engineer(world, "rival")
    for user, each in ((erin, NOBODY), (erin, "x"), (erin.on("fleet"), id_), (eve, id_)):
        refused(await user.request("POST", f"sync/runs/{each}/stop"), 404, "RUN_NOT_FOUND")
    assert (await run_of(erin, id_))["state"] == "requested"


async def test_a_run_that_a_worker_begins_meanwhile_is_told_to_end(world: World, erin: User) -> None:
    """Given that it was begun and not committed yet, then the stop waits, and finds it under way."""
    await connect(world)
    id_ = await asked(erin, "pull")
    async with world.db.acquire() as worker, worker.transaction():
        await worker.execute("UPDATE sync_run SET state = 'running', started_at = now()")
        (request,) = at_once(told(erin, f"runs/{id_}/stop"))
        await until_waiting(world, 1, request)
    assert (await request)["state"] == "running"
    assert await world.db.fetchval("SELECT stop_by FROM sync_run") == "erin-of-acme"


# -- guards that are lifted --------------------------------------------------------------------------------------------


async def test_an_admin_lifts_guards_of_one_pull(world: World, erin: User) -> None:
    """The run shows which, once each; requests that join it add theirs."""
    await connect(world)
    ada = await world.user("ada", role=Role.ADMIN)
    id_ = await asked(ada, "pull", {"full": True, "allow": ["inserts", "deletions", "inserts"]})
    assert (await run_of(erin, id_))["allowed"] == ["deletions", "inserts"]
    assert await asked(erin, "pull", {"full": False}) == id_
    assert await asked(ada, "pull", {"allow": ["quarantine", "deletions", "changes"]}) == id_
    run = await run_of(erin, id_)
    assert (run["full"], run["allowed"]) == (True, ["changes", "deletions", "inserts", "quarantine"])


async def test_who_only_synchronizes_lifts_no_guard(world: World, erin: User) -> None:
    """Nor is it lifted in the run that such a request would have joined; none is one that lifts none."""
    await connect(world)
    id_ = await asked(erin, "pull", {"allow": []})
    problem = refused(await erin.post("sync/pull", {"full": True, "allow": ["deletions"]}), 403, "FORBIDDEN")
    assert problem["detail"] == "To lift a pull's guards takes the role ADMIN."
    run = await run_of(erin, id_)
    assert (run["full"], run["allowed"]) == (False, [])


@pytest.mark.parametrize("allow", [["everything"], "deletions", [1], None, [None]])
async def test_a_guard_that_is_none_is_400(world: World, allow: Any) -> None:
    await connect(world)
    ada = await world.user("ada", role=Role.ADMIN)
    refused(await ada.post("sync/pull", {"allow": allow}), 400, "MALFORMED_REQUEST")
    for path in ("push", "check"):
        refused(await ada.post(f"sync/{path}", {"allow": ["deletions"]}), 400, "MALFORMED_REQUEST")


async def test_a_worker_learns_which_guards_do_not_hold(yard: Yard) -> None:
    """Given a run of the schedule, then it has none; the one that was asked for has its own, also when resumed."""
    await yard.work()
    ada = await yard.user("ada", role=Role.ADMIN)
    seen = []
    for allow in ((), ("changes", "deletions")):
        if allow:
            await asked(ada, "pull", {"allow": list(allow)})
        for _ in range(2):
            async with alone(yard.database, Job.PULL, "acme", "fleet") as connection:
                assert connection is not None
                run = await open_run(yard.desk(connection), "pull", yard.world.clock())
                assert run is not None
                seen.append((run.allow, run.resumed))
        await yard.world.db.execute("DELETE FROM sync_run")
    assert seen == [((), False), ((), True), (("changes", "deletions"), False), (("changes", "deletions"), True)]


# -- pauses, and what a worker makes of them ---------------------------------------------------------------------------


async def test_a_worker_begins_nothing_while_it_is_paused(yard: Yard, emil: User) -> None:
    """Neither pulls of the schedule nor pushes nor what was asked for before; all of it comes when it goes on."""
    await yard.work()
    waiting = await asked(emil, "pull", {"full": True})
    await told(emil, "pause")
    await edited(yard, emil, "V-1")
    before = list(yard.ledger.calls)
    for _ in range(3):
        await yard.later(days=1)
    assert yard.ledger.calls == before
    assert await yard.states() == ["committed"]
    await told(emil, "resume")
    await yard.work()
    assert (await run_of(emil, waiting))["state"] == "succeeded"
    assert await yard.states() == ["synced"]
    assert await yard.mirror() == yard.ledger.rows


async def test_a_pull_that_is_paused_ends_after_its_page_and_comes_again_at_once(yard: Yard, emil: User) -> None:
    """What it has written stays; watermark and lag stay; nobody counts it as a failure of upstream."""
    yard.ledger.after["page"] = [_paused(emil)]
    await yard.work()
    (run,) = await yard.runs()
    assert (run["state"], run["error_code"], run["rows_read"]) == ("failed", "SYNC_PAUSED", 3)
    assert run["error"] == "emil paused synchronization. What it had done until then stays."
    assert len(await yard.mirror()) == 3
    standing = await yard.standing()
    assert (standing["watermark"], standing["pulled_at"], standing["pull_failures"]) == (None, None, 0)
    await yard.later(hours=1)
    assert len(await yard.runs()) == 1
    await told(emil, "resume")
    await yard.work()
    assert [run["state"] for run in await yard.runs()] == ["failed", "succeeded"]
    assert await yard.mirror() == yard.ledger.rows


async def test_a_push_that_is_paused_settles_what_is_on_its_way(yard: Yard, emil: User) -> None:
    """And gives back what it has claimed and not begun, as if it had never been tried."""
    yard.worker = yard.new_worker(concurrency=1)
    await yard.work()
    await edited(yard, emil, "V-1", "V-2", "V-3")
    yard.ledger.after["write"] = [_noticed(yard, _paused(emil))]
    await yard.work()
    assert len(yard.ledger.writes) == 1
    assert sorted(await yard.states()) == ["committed", "committed", "synced"]
    (run,) = await yard.runs("push")
    assert (run["state"], run["error_code"], run["synced"]) == ("failed", "SYNC_PAUSED", 1)
    assert await yard.world.db.fetchval("SELECT max(attempts) FROM fleet.change WHERE state = 'committed'") == 0
    await told(emil, "resume")
    await yard.later(seconds=1)
    assert await yard.states() == ["synced"] * 3
    assert codes(await yard.runs("push")) == ["SYNC_PAUSED", None]


async def test_what_a_dead_worker_left_ends_while_it_is_paused(yard: Yard, emil: User) -> None:
    """Without a word to upstream, even while the circuit is open."""
    await yard.work()
    before = list(yard.ledger.calls)
    left = [await _left(yard, kind) for kind in ("pull", "push")]
    await told(emil, "pause")
    later = yard.world.clock() + timedelta(hours=1)
    await yard.world.db.execute("UPDATE synchronization SET open_until = $1", later)
    await yard.work()
    assert [(await run_of(emil, id_))["error"]["code"] for id_ in left] == ["SYNC_PAUSED"] * 2
    assert yard.ledger.calls == before


async def test_a_run_is_not_begun_that_was_paused_since_it_was_found_due(yard: Yard, emil: User) -> None:
    """Given a worker that has looked already, then what it begins leaves no record, and asks upstream nothing."""
    await yard.work()
    before, records = list(yard.ledger.calls), len(await yard.runs())
    await told(emil, "pause")
    for ends in (None, asyncio.Event()):
        assert await pull(yard.database, yard.target, yard.read_clock, asyncio.Event(), ends)
        assert await push(yard.database, yard.target, yard.read_clock, lambda: 1.0, asyncio.Event(), ends)
    assert (len(await yard.runs()), await yard.runs("push")) == (records, [])
    assert yard.ledger.calls == before


async def test_a_pause_that_is_over_before_its_run_has_ended_ends_none(yard: Yard, emil: User) -> None:
    """Given a run that heard of a pause, and a resumption meanwhile, then it goes on after its last page."""
    ends = asyncio.Event()
    ends.set()
    await told_connected(yard)
    assert await pull(yard.database, yard.target, yard.read_clock, asyncio.Event(), ends)
    (run,) = await yard.runs()
    assert run["state"] == "running"
    await yard.work()
    assert codes(await yard.runs()) == [None]


async def told_connected(yard: Yard) -> None:
    """The ledger is connected, and nothing was done yet."""
    yard.worker = yard.new_worker(start_paused=True)
    await yard.work()
    await yard.world.db.execute("UPDATE synchronization SET paused_at = NULL")
    yard.worker = yard.new_worker()


async def test_a_dataset_can_begin_paused(yard: Yard, emil: User) -> None:
    """Given startPaused, then nothing comes until somebody resumes it; a worker that starts later changes nothing."""
    yard.worker = yard.new_worker(start_paused=True)
    await yard.later(hours=1)
    assert (yard.ledger.calls, await yard.runs()) == ([], [])
    assert (await yard.standing())["paused_by"] is None
    await told(emil, "resume")
    yard.worker = yard.new_worker(start_paused=True)
    await yard.work()
    assert await yard.mirror() == yard.ledger.rows
    yard.worker = yard.new_worker(start_paused=True)
    await yard.later(hours=1)
    assert len(await yard.runs()) == 2


def _noticed(yard: Yard, act: Hook) -> Hook:
    """Somebody does this, and the worker looks before anything else happens."""

    async def noticed() -> None:
        await act()
        await yard.worker.step()

    return noticed


def _paused(user: User) -> Hook:
    async def pause() -> None:
        await told(user, "pause")

    return pause


async def _left(yard: Yard, kind: str, **more: Any) -> str:
    """A run whose worker is gone."""
    at = yard.world.clock()
    return await add_run(
        yard.world, kind, "running", dataset="fleet", started_at=at, start_revision=await yard.revision(), **more
    )


# -- stops, and what a worker makes of them ----------------------------------------------------------------------------


def _stopped(user: User, kind: str) -> Hook:
    async def stop() -> None:
        (run,) = [run for run in await runs(user) if (run["kind"], run["state"]) == (kind, "running")]
        await told(user, f"runs/{run['id']}/stop")

    return stop


async def test_a_pull_that_is_stopped_ends_after_its_page(yard: Yard, emil: User) -> None:
    """What it wrote stays, watermark and lag too; the next one comes as the schedule says, and is a full one again."""
    yard.ledger.after["page"] = [_stopped(emil, "pull")]
    await yard.work()
    (run,) = await yard.runs()
    assert (run["state"], run["error_code"], run["rows_read"]) == ("failed", "STOPPED", 3)
    assert run["error"] == "emil stopped it. What it had done until then stays."
    assert len(await yard.mirror()) == 3
    standing = await yard.standing()
    assert (standing["watermark"], standing["pulled_at"], standing["pull_failures"]) == (None, None, 0)
    assert (await health(emil))["lag"] is None
    await yard.later(minutes=14)
    assert len(await yard.runs()) == 1
    await yard.later(minutes=1)
    assert [(run["whole"], run["state"]) for run in await yard.runs()] == [(True, "failed"), (True, "succeeded")]
    assert await yard.mirror() == yard.ledger.rows


async def test_a_pull_that_is_stopped_before_its_deletions_deletes_nothing(yard: Yard, emil: User) -> None:
    await yard.work()
    yard.ledger.remove("V-7")
    yard.ledger.page_size = 10
    yard.ledger.after["page"] = [_stopped(emil, "pull")]
    await yard.later(days=1)
    run = (await yard.runs())[-1]
    assert (run["whole"], run["error_code"], run["deleted"]) == (True, "STOPPED", 0)
    assert "V-7" in await yard.mirror()


async def test_deletions_stop_between_two_lots(yard: Yard, emil: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a stop that comes while a lot is written, then this lot is the last one."""
    monkeypatch.setattr("app.worker.pull.DELETED_AT_ONCE", 1)
    yard.worker = yard.new_worker(shares=Shares(deletions=1.0))
    await yard.work()
    for key in ("V-5", "V-6", "V-7"):
        yard.ledger.remove(key)
    await yard.world.db.execute(
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.stop_at := now(); NEW.stop_by := 'emil'; RETURN NEW; END $$;"
        "CREATE TRIGGER stop BEFORE UPDATE ON sync_run FOR EACH ROW WHEN (NEW.deleted = 2) EXECUTE FUNCTION stop()"
    )
    await yard.later(days=1)
    run = (await yard.runs())[-1]
    assert (run["error_code"], run["deleted"]) == ("STOPPED", 2)
    assert sorted(await yard.mirror()) == ["V-1", "V-2", "V-3", "V-4", "V-7"]


async def test_a_push_that_is_stopped_settles_what_is_on_its_way(yard: Yard, emil: User) -> None:
    """The rest stays in the outbox, and goes with the next push, which follows at once: only a pause keeps it."""
    yard.worker = yard.new_worker(concurrency=1)
    await yard.work()
    await edited(yard, emil, "V-1", "V-2")
    yard.ledger.after["write"] = [_noticed(yard, _stopped(emil, "push"))]
    await yard.work()
    (run,) = await yard.runs("push")
    assert (run["error_code"], run["synced"]) == ("STOPPED", 1)
    assert run["error"] == "emil stopped it. What it had done until then stays."
    assert sorted(await yard.states()) == ["committed", "synced"]
    await yard.work()
    assert await yard.states() == ["synced"] * 2


@pytest.mark.parametrize("kind", ["pull", "push"])
async def test_what_a_dead_worker_left_ends_where_it_was_stopped(yard: Yard, emil: User, kind: str) -> None:
    """Without a word to upstream, even while the circuit is open; what was due before stays due."""
    await yard.work()
    id_, before = await _left(yard, kind), list(yard.ledger.calls)
    await yard.world.db.execute("UPDATE synchronization SET open_until = $1", yard.world.clock() + timedelta(hours=1))
    await told(emil, f"runs/{id_}/stop")
    await yard.work()
    run = await run_of(emil, id_)
    assert (run["state"], run["error"]["code"]) == ("failed", "STOPPED")
    assert yard.ledger.calls == before


async def test_a_run_that_is_stopped_while_it_is_begun_is_not_begun(yard: Yard, emil: User) -> None:
    """Given a stop that is not committed yet, when a worker begins the run, then it waits, and begins nothing."""
    await yard.work()
    id_ = await asked(emil, "push")
    async with yard.world.db.acquire() as other, other.transaction():
        await other.execute(
            "UPDATE sync_run SET state = 'failed', started_at = now(), finished_at = now(), error_code = 'STOPPED'"
            " WHERE state = 'requested'"
        )
        begun = asyncio.ensure_future(push(yard.database, yard.target, yard.read_clock, lambda: 1.0, asyncio.Event()))
        await until_waiting(yard.world, 1, begun)
    assert await begun
    assert (await run_of(emil, id_))["error"]["code"] == "STOPPED"
    assert len(await yard.runs("push")) == 1


@pytest.mark.parametrize("way", ["stop", "pause"])
async def test_a_pull_that_waits_for_a_slow_page_ends_with_the_next_tick(yard: Yard, emil: User, way: str) -> None:
    """Given upstream that does not answer, when somebody stops the run, then one look of the worker is enough."""
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    yard.ledger.after["page"] = [hang]
    await yard.worker.step()
    await reached.wait()
    await (_stopped(emil, "pull") if way == "stop" else _paused(emil))()
    await yard.worker.step()
    async with asyncio.timeout(20):
        await yard.worker.idle()
    assert codes(await yard.runs()) == ["STOPPED" if way == "stop" else "SYNC_PAUSED"]


async def test_only_the_run_that_was_stopped_ends(yard: Yard, emil: User) -> None:
    """Given a pull and a push under way, when the pull is stopped, then the push goes on, and so does the next pull."""
    await yard.work()
    await edited(yard, emil, "V-1")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    yard.ledger.after["write"] = [hold]
    yard.ledger.after["page"] = [_stopped(emil, "pull")]
    yard.world.clock.move(hours=1)
    await yard.worker.step()
    await reached.wait()
    await yard.worker.step()
    go_on.set()
    await yard.worker.idle()
    assert codes(await yard.runs()) == [None, "STOPPED"]
    assert codes(await yard.runs("push")) == [None]
    await yard.later(hours=1)
    assert codes(await yard.runs()) == [None, "STOPPED", None]


# -- the longest time of a pull ----------------------------------------------------------------------------------------


async def test_a_pull_that_takes_too_long_ends(yard: Yard) -> None:
    """With words that say what to do; it counts as a failure, so the next one comes soon, and later each time."""

    async def dawdle() -> None:
        yard.world.clock.move(minutes=20)

    yard.worker = yard.new_worker(longest_run=timedelta(minutes=30))
    yard.ledger.before["page"] = [dawdle, dawdle]
    await yard.work()
    (run,) = await yard.runs()
    assert (run["state"], run["error_code"]) == ("failed", "RUN_TOO_LONG")
    assert "longestRun" in run["error"]
    assert 0 < run["rows_read"] < 7
    assert (await yard.standing())["pull_failures"] == 1
    await yard.later(seconds=30)
    assert codes(await yard.runs()) == ["RUN_TOO_LONG", None]


async def test_a_pull_that_was_resumed_began_when_it_began(yard: Yard) -> None:
    """Given a run that a worker left four hours ago, then whoever takes it over ends it, and asks upstream nothing."""
    await yard.work()
    id_, before = await _left(yard, "pull"), list(yard.ledger.calls)
    await yard.later(hours=4)
    (run,) = [run for run in await yard.runs() if str(run["id"]) == id_]
    assert run["error_code"] == "RUN_TOO_LONG"
    assert yard.ledger.calls == before


async def test_a_push_may_take_as_long_as_it_likes(yard: Yard) -> None:
    await yard.work()
    id_ = await _left(yard, "push")
    await yard.later(days=1)
    (run,) = await yard.runs("push")
    assert (str(run["id"]), run["state"]) == (id_, "succeeded")


# -- full pulls by the time of day -------------------------------------------------------------------------------------


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BERLIN, APIA = "Europe/Berlin", "Pacific/Apia"


@pytest.mark.parametrize(
    ("zone", "at", "last"),
    [
        # An ordinary day, before and after; the moment itself counts.
        ("UTC", "2026-01-10T02:29:59.999999", "2026-01-09T02:30"),
        ("UTC", "2026-01-10T02:30", "2026-01-10T02:30"),
        (BERLIN, "2026-01-10T01:29", "2026-01-09T01:30"),
        (BERLIN, "2026-01-10T01:30", "2026-01-10T01:30"),
        (BERLIN, "2026-07-10T00:30", "2026-07-10T00:30"),
        # Clocks go from 02:00 to 03:00: it comes when they would have shown it, at 03:30.
        (BERLIN, "2026-03-29T01:29", "2026-03-28T01:30"),
        (BERLIN, "2026-03-29T01:30", "2026-03-29T01:30"),
        (BERLIN, "2026-03-30T00:29", "2026-03-29T01:30"),
        (BERLIN, "2026-03-30T00:30", "2026-03-30T00:30"),
        # Clocks go from 03:00 back to 02:00: the first 02:30 counts, and not the second one, too.
        (BERLIN, "2026-10-25T00:29", "2026-10-24T00:30"),
        (BERLIN, "2026-10-25T00:30", "2026-10-25T00:30"),
        (BERLIN, "2026-10-25T01:30", "2026-10-25T00:30"),
        (BERLIN, "2026-10-26T01:29", "2026-10-25T00:30"),
        (BERLIN, "2026-10-26T01:30", "2026-10-26T01:30"),
        # The days here and there are two; one of them was left out.
        ("Pacific/Auckland", "2026-01-09T13:30", "2026-01-09T13:30"),
        (APIA, "2011-12-30T10:30", "2011-12-29T12:30"),
        (APIA, "2011-12-30T12:30", "2011-12-30T12:30"),
    ],
)
def test_the_time_of_day_comes_once_a_day_whatever_clocks_do(zone: str, at: str, last: str) -> None:
    assert latest(time(2, 30), ZoneInfo(zone), utc(at)) == utc(last)


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana"])
@pytest.mark.parametrize("of_day", [time(0), time(0, 30), time(1, 45), time(2, 30), time(23, 59)])
def test_over_a_year_it_comes_as_often_as_there_are_days(zone: str, of_day: time) -> None:
    """Given a look each quarter of an hour for a year, then there are 365 of them, none more than 25 hours apart."""
    start = utc("2026-01-01T12:00")
    moments = sorted({latest(of_day, ZoneInfo(zone), start + timedelta(minutes=15 * n)) for n in range(365 * 96)})
    gaps = [after - before for before, after in pairwise(moments)]
    assert len(moments) in (365, 366)
    assert timedelta(hours=23) <= min(gaps) <= max(gaps) <= timedelta(hours=25)


def test_a_full_pull_is_due_once_the_time_of_day_has_come() -> None:
    """And without one, once so long has passed since the last."""
    target = Target(
        organization="acme",
        contract=LEDGERED,
        upstream=Ledger("plate"),
        full_at=time(2, 30),
        full_at_zone=ZoneInfo(BERLIN),
    )
    last = utc("2026-03-28T01:30")
    assert not is_full_due(target, last, utc("2026-03-29T01:29"))
    assert is_full_due(target, last, utc("2026-03-29T01:30"))
    assert is_full_due(target, utc("2026-03-28T01:29:59"), last)
    target = msgspec.structs.replace(target, full_at=None)
    assert not is_full_due(target, last, utc("2026-03-29T01:29"))
    assert is_full_due(target, last, utc("2026-03-29T01:30"))


async def test_full_pulls_at_a_time_of_day(yard: Yard) -> None:
    """Given 02:30 and three days of pulls each half hour, then it is the first one after it each day that is full."""
    yard.worker = yard.new_worker(full_at=time(2, 40), pull_every=timedelta(minutes=30))
    await yard.work()
    for _ in range(3 * 48):
        await yard.later(minutes=30)
    full = [run["started_at"] for run in await yard.runs() if run["whole"]]
    assert full[0] == yard.world.clock() - timedelta(days=3)
    assert [(at.hour, at.minute) for at in full[1:]] == [(3, 0)] * 3


# -- checks ------------------------------------------------------------------------------------------------------------


async def test_a_check_reports_what_upstream_looks_like(yard: Yard, emil: User) -> None:
    """And writes nothing, here or there; no check comes by the schedule."""
    await yard.work()
    revision = await yard.revision()
    id_ = await asked(emil, "check", {})
    assert await asked(emil, "check") == id_
    await yard.work()
    run = await run_of(emil, id_)
    assert (run["kind"], run["state"], run["report"]) == (
        "check",
        "succeeded",
        {"fits": True, "problems": [], "found": {"rows": 7, "pageSize": 3}},
    )
    assert (run["counts"], run["rate"], run["progress"]) == ({}, None, {"done": 0, "total": None, "share": None})
    assert (await emil.get("sync/runs", {"kind": "check"})).json()["data"] == [run]
    assert (yard.ledger.writes, await yard.revision()) == ([], revision)
    await yard.later(days=9)
    assert yard.ledger.calls.count("check") == 1


async def test_a_check_comes_while_it_is_paused_and_while_the_circuit_is_open(yard: Yard, emil: User) -> None:
    yard.worker = yard.new_worker(start_paused=True)
    await yard.work()
    await yard.world.db.execute(
        "UPDATE synchronization SET failures = 5, open_until = $1", yard.world.clock() + timedelta(hours=1)
    )
    id_ = await asked(emil, "check")
    await yard.work()
    assert (await run_of(emil, id_))["state"] == "succeeded"
    assert yard.ledger.calls == ["check"]
    assert (await health(emil))["circuit"]["state"] == "open"


@pytest.mark.parametrize(
    ("failure", "code"),
    [(Unavailable("Nobody is there"), "UPSTREAM_UNAVAILABLE"), (Failed("It is not a grid"), "UPSTREAM_FAILED")],
)
async def test_a_check_that_fails_has_upstreams_words(yard: Yard, emil: User, failure: Exception, code: str) -> None:
    """It is over with that, and the circuit does not count it."""
    await yard.work()
    yard.ledger.failures["check"] = [failure]
    id_ = await asked(emil, "check")
    await yard.work()
    run = await run_of(emil, id_)
    assert (run["state"], run["error"], run["report"]) == ("failed", {"code": code, "message": str(failure)}, None)
    assert (await health(emil))["circuit"]["failures"] == 0


async def test_a_check_with_a_defect_is_told_and_not_repeated(yard: Yard, emil: User) -> None:
    await yard.work()
    yard.ledger.poison["check", None] = ZeroDivisionError()
    id_, before = await asked(emil, "check"), defects()
    for _ in range(2):
        await yard.worker.step()
        await yard.worker.idle()
    assert defects() == before + 1
    assert (await run_of(emil, id_))["error"]["code"] == "INTERNAL_ERROR"


async def test_a_report_and_an_error_hold_what_no_text_of_the_database_does(
    yard: Yard, emil: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NUL and halves of characters that upstream sent: the run ends, and is not begun again and again."""

    async def report() -> Report:
        return Report(fits=False, problems=["a\0b"], found={"x\0": ["y\ud800"], "rows": 7})

    await yard.work()
    monkeypatch.setattr(yard.ledger, "check", report)
    id_ = await asked(emil, "check")
    await yard.work()
    found = (await run_of(emil, id_))["report"]
    assert found == {"fits": False, "problems": ["ab"], "found": {"x": ["y?"], "rows": 7}}
    yard.ledger.failures["page"] = [Unavailable("caf\udce9 \0", retry_after=600.0)]
    await yard.later(days=1)
    assert [run["error"] for run in await yard.runs()] == [None, "caf? "]


async def test_a_check_that_is_stopped_has_no_report(yard: Yard, emil: User) -> None:
    """Whether it was under way, or left by a dead worker: then upstream is not asked."""
    await yard.work()
    yard.ledger.after["check"] = [_stopped(emil, "check")]
    id_ = await asked(emil, "check")
    await yard.work()
    run = await run_of(emil, id_)
    assert (run["error"]["code"], run["report"]) == ("STOPPED", None)

    id_ = await _left(yard, "check")
    await told(emil, f"runs/{id_}/stop")
    await yard.work()
    assert (await run_of(emil, id_))["error"]["code"] == "STOPPED"
    assert yard.ledger.calls.count("check") == 1


async def test_a_check_that_a_dead_worker_left_is_made_again(yard: Yard, emil: User) -> None:
    await yard.work()
    id_ = await _left(yard, "check")
    await yard.work()
    assert (await run_of(emil, id_))["report"]["found"] == {"rows": 7, "pageSize": 3}


async def test_of_two_workers_one_checks(yard: Yard, emil: User) -> None:
    """Given one that is at it, then the other leaves it alone; and nobody makes one that nobody asked for."""
    await yard.work()
    async with alone(yard.database, Job.CHECK, "acme", "fleet"):
        assert not await check(yard.database, yard.target, yard.read_clock)
    assert await check(yard.database, yard.target, yard.read_clock)
    assert "check" not in yard.ledger.calls
    assert await yard.runs("check") == []


async def test_a_report_keeps_the_digits_of_its_numbers(world: World, erin: User) -> None:
    report = exact_json.encode({"rows": 7, "share": exact_json.decode("0.10"), "missing": None}).decode()
    id_ = await add_run(world, "check", report=report)
    answer = await erin.get(f"sync/runs/{id_}")
    assert '"share":0.10' in answer.text
    assert answer.json()["report"] == {"rows": 7, "share": 0.1, "missing": None}
