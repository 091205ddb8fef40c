"""Push: committed changes to upstream, each once or with a reason why not, and back into the mirror."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.upstream.protocol import Failed, OutcomeUnknown, Refused, Unavailable
from app.worker.pull import pull
from app.worker.push import push
from tests.support.ledger import Ledger
from tests.support.memory import Memory
from tests.support.syncing import LEDGERED, Yard, open_yard, van
from tests.support.world import User, ids, refused


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of three vehicles that are in the mirror already; changes go one after the other.

    What always holds is looked at in the end.
    """
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 4)})
    async with open_yard(database_url, ledger, concurrency=1) as yard:
        await yard.work()
        yield yard
        await yard.check()


async def test_a_commit_goes_upstream_and_comes_back(yard: Yard) -> None:
    """Given a committed edit, when the worker has pushed it, then both sides have it and the row is pristine."""
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit("V-1")
    assert (await ann.row("V-1"))["syncState"] == "committed"
    await yard.work()
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 150})]
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"], row["mirrorVersion"], row["modifiedFields"]) == (
        "pristine",
        150,
        2,
        [],
    )
    assert await yard.changes() == [("V-1", "update", "synced")]
    entry = row["history"][0]
    assert (entry["source"], entry["actor"], entry["before"], entry["after"]) == (
        "push", "ann", {"mileage": 100}, {"mileage": 150},
    )  # fmt: skip


async def test_new_and_deleted_rows_go_upstream(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-9", {"plate": "V-9", "depot": "South", "kind": "Van", "mileage": 1}, op="insert")
    await ann.draft("V-2", op="delete")
    await ann.commit()
    await yard.work()
    assert sorted((op, key) for op, key, _ in yard.ledger.writes) == [("delete", "V-2"), ("insert", "V-9")]
    assert {row["id"]: row["syncState"] for row in await ann.rows(sort="id")} == {
        "V-1": "pristine", "V-3": "pristine", "V-9": "pristine",
    }  # fmt: skip
    assert (await yard.mirror())["V-9"]["depot"] == "South"


async def test_a_new_row_gets_its_key_from_upstream_and_what_is_drafted_over_it_follows(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("temporary", {"depot": "South", "kind": "Van", "mileage": 1}, op="insert")
    await ann.commit()
    await ann.draft("temporary", {"mileage": 2})
    await ann.commit()
    await ann.draft("temporary", {"seats": 8})
    yard.ledger.lost = 1
    await yard.work()
    assert await yard.changes() == [("temporary", "insert", "committed"), ("temporary", "update", "committed")]
    await yard.later(minutes=3)
    assert await yard.changes() == [("L-0004", "insert", "synced"), ("L-0004", "update", "synced")]
    assert [(op, key) for op, key, _ in yard.ledger.writes] == [("insert", "L-0004"), ("update", "L-0004")]
    row = await ann.row("L-0004")
    assert (row["data"]["mileage"], row["data"]["seats"], row["syncState"], row["op"]) == (2, 8, "draft", "update")
    assert (await ann.get("rows/temporary")).status_code == 404


async def test_the_same_cell_changed_upstream_is_a_conflict_and_the_others_merge(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.draft("V-2", {"mileage": 250})
    await ann.commit()
    yard.ledger.put("V-1", mileage=111, seats=4)
    yard.ledger.put("V-2", seats=5)
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "conflict"), ("V-2", "update", "synced")]
    merged = await ann.row("V-2")
    assert (merged["syncState"], merged["data"]["mileage"], merged["data"]["seats"]) == ("pristine", 250, 5)
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["seats"]) == ("conflict", 4)
    assert row["conflicts"] == [{"id": "V-1", "field": "mileage", "base": 100, "theirs": 111, "mine": 150}]
    assert (await yard.mirror())["V-1"]["mileage"] == 111


async def test_a_refusal_waits_for_a_person_and_stops_no_other(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.draft("V-2", {"mileage": 250})
    await ann.commit()
    yard.ledger.failures["write"] = [Refused("Mileage is not a valid number")]
    await yard.work()
    assert sorted(await yard.states()) == ["sync_error", "synced"]
    (failed,) = [key for key, _, state in await yard.changes() if state == "sync_error"]
    assert (await ann.row(failed))["syncState"] == "sync_error"


async def test_an_answer_that_was_lost_is_settled_by_reading(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit()
    yard.ledger.lost = 1
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "committed")]
    await yard.later(minutes=2)
    assert await yard.changes() == [("V-1", "update", "synced")]
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 150})]


async def test_upstream_that_is_away_is_left_alone_for_a_while(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit()
    yard.ledger.failures["hold"] = [Unavailable("Nobody is there") for _ in range(5)]
    for _ in range(5):
        await yard.later(seconds=5)
    calls = len(yard.ledger.calls)
    await yard.later(seconds=5)
    assert len(yard.ledger.calls) == calls
    await yard.later(seconds=60)
    assert await yard.changes() == [("V-1", "update", "synced")]


async def in_conflict(yard: Yard) -> User:
    """Ann, whose committed mileage of V-1 is 150 over 100, and 111 upstream meanwhile; her remark stands in no way."""
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150, "remark": "hers"})
    await ann.commit("V-1")
    yard.ledger.put("V-1", mileage=111)
    await yard.work()
    assert (await ann.row("V-1"))["syncState"] == "conflict"
    return ann


@pytest.mark.parametrize(
    ("resolution", "mileage"),
    [({"use": "mine"}, 150), ({"use": "theirs"}, 111), ({"use": "value", "value": 130}, 130)],
)
async def test_a_conflict_with_upstream_is_resolved_by_a_commit(
    yard: Yard, resolution: dict[str, Any], mileage: int
) -> None:
    ann = await in_conflict(yard)
    refused(await ann.commit("V-1"), 409, "MERGE_CONFLICT")
    answer = await ann.commit("V-1", resolutions=[{"id": "V-1", "field": "mileage", **resolution}])
    assert answer.status_code == 200, answer.text
    await yard.work()
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"], row["data"]["remark"]) == ("pristine", mileage, "hers")
    assert (yard.ledger.rows["V-1"]["mileage"], yard.ledger.rows["V-1"]["remark"]) == (mileage, "hers")


async def test_a_conflict_with_upstream_ends_with_an_edit(yard: Yard) -> None:
    """Given a refused change, when its author writes the cell again, then it is a draft over what theirs is now."""
    ann = await in_conflict(yard)
    assert (await ann.draft("V-1", {"mileage": 160}))["syncState"] == "draft"
    row = await ann.row("V-1")
    assert (row["conflicts"], row["base"]["mileage"], row["delta"]) == ([], 111, {"mileage": 160, "remark": "hers"})
    assert (await ann.commit("V-1")).status_code == 200
    await yard.work()
    assert yard.ledger.rows["V-1"]["mileage"] == 160


async def test_a_conflict_with_upstream_can_be_let_go(yard: Yard) -> None:
    ann = await in_conflict(yard)
    assert (await ann.discard("V-1")).status_code == 200
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"]) == ("pristine", 111)


async def test_a_row_deleted_upstream_under_a_change_can_be_inserted_again(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit("V-1")
    yard.ledger.remove("V-1")
    await yard.work()
    row = await ann.row("V-1")
    (conflict,) = row["conflicts"]
    assert (row["syncState"], conflict["field"], conflict["theirs"], conflict["mine"]["mileage"]) == (
        "conflict", None, None, 150,
    )  # fmt: skip
    assert conflict["mine"]["depot"] == "North"
    answer = await ann.commit("V-1", resolutions=[{"id": "V-1", "field": None, "use": "mine"}])
    assert answer.status_code == 200, answer.text
    await yard.work()
    assert yard.ledger.rows["V-1"]["mileage"] == 150
    assert (await ann.row("V-1"))["syncState"] == "pristine"


async def test_what_was_drafted_and_committed_over_a_refused_change_comes_back_with_it(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150, "seats": 4})
    await ann.commit("V-1")
    await ann.draft("V-1", {"mileage": 160})
    await ann.commit("V-1")
    await ann.draft("V-1", {"remark": "still drafting"})
    yard.ledger.failures["write"] = [Refused("Seats is not a valid number")]
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "sync_error"), ("V-1", "update", "committed")]
    assert (await ann.commit("V-1")).status_code == 200
    assert [state for *_, state in await yard.changes()] == ["rejected", "rejected", "committed"]
    await yard.work()
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 160, "seats": 4, "remark": "still drafting"})]


# -- what others see ---------------------------------------------------------------------------------------------------


STATES = ("draft", "conflict", "committed", "syncing", "pristine")


async def test_a_commit_that_is_put_off_changes_nobody_elses_rows(yard: Yard) -> None:
    """Given bob's draft of a cell that ann has committed, when her push is put off, however often, then bob's view is
    what his tags and totals say; it is a conflict once upstream has her value.
    """
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await bob.draft("V-1", {"mileage": 500})
    await bob.draft("V-2", {"mileage": 500})
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit("V-1")
    memory = Memory()
    await memory.look(ann, bob)
    for failure in (Unavailable("503"), Unavailable("429", retry_after=1), Failed("500"), OutcomeUnknown("No answer")):
        yard.ledger.failures["write"] = [failure]
        tags = [(await bob.get("rows")).headers["ETag"], (await ann.get("rows")).headers["ETag"]]
        await yard.later(minutes=7)
        assert await yard.states() == ["committed"]
        assert (await bob.get("rows", headers={"If-None-Match": tags[0]})).status_code == 304
        assert (await ann.get("rows", headers={"If-None-Match": tags[1]})).status_code == 200
        await memory.look(ann, bob)
        assert [(await bob.page(syncState=state))["pagination"]["totalRecords"] for state in STATES[:2]] == [2, 0]
    await yard.later(minutes=7)
    assert await yard.states() == ["synced"]
    await memory.look(ann, bob)
    assert ids(await bob.rows(syncState="conflict")) == ["V-1"]


async def test_a_commit_that_is_put_off_beside_one_that_is_done(yard: Yard) -> None:
    """Settled together, they move the dataset's revision, and everybody's rows may be looked at anew."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    for key in ("V-1", "V-2"):
        await bob.draft(key, {"mileage": 500})
        await ann.draft(key, {"mileage": 150})
    await ann.commit()
    memory = Memory()
    await memory.look(ann, bob)
    yard.ledger.poison["write", "V-2"] = Failed("500")
    await yard.work()
    assert sorted(await yard.states()) == ["committed", "synced"]
    await memory.look(ann, bob)


# -- order -------------------------------------------------------------------------------------------------------------


async def committed(yard: Yard, key: str, name: str = "ann", **delta: Any) -> User:
    """Somebody's committed edit."""
    user = yard.users.get(name) or await yard.user(name)
    await user.draft(key, delta)
    answer = await user.commit(key)
    assert answer.status_code == 200, answer.text
    return user


async def inserted(yard: Yard, key: str, name: str = "ann", **delta: Any) -> User:
    """Somebody's committed new row."""
    user = yard.users.get(name) or await yard.user(name)
    await user.draft(key, {"depot": "South", "kind": "Van"} | delta, op="insert")
    answer = await user.commit(key)
    assert answer.status_code == 200, answer.text
    return user


def hook(yard: Yard, job: str) -> Any:
    """A pull or a push, in the middle of something else."""

    async def work() -> None:
        if job == "pull":
            await pull(yard.database, yard.target, yard.read_clock, asyncio.Event())
        else:
            await push(yard.database, yard.target, yard.read_clock, lambda: 1.0, asyncio.Event())

    return work


async def nothing() -> None:
    """A hook that does nothing."""


async def test_changes_of_a_row_go_in_their_order_whoever_made_them(yard: Yard) -> None:
    for number, name in enumerate(["ann", "bob", "ann", "bob"]):
        await committed(yard, "V-1", name, mileage=number)
    await yard.work()
    assert [fields["mileage"] for _, _, fields in yard.ledger.writes] == [0, 1, 2, 3]
    assert await yard.states() == ["synced"] * 4
    history = (await yard.users["ann"].row("V-1"))["history"]
    assert [(entry["actor"], entry["after"]["mileage"]) for entry in history[:4]] == [
        ("bob", 3), ("ann", 2), ("bob", 1), ("ann", 0),
    ]  # fmt: skip


async def test_what_is_behind_a_change_that_is_tried_again_waits_and_others_go(yard: Yard) -> None:
    await committed(yard, "V-1", mileage=1)
    await committed(yard, "V-1", "bob", mileage=2)
    await committed(yard, "V-2", "bob", mileage=3)
    yard.ledger.failures["write"] = [Failed("500")]
    await yard.work()
    assert await yard.states() == ["committed", "committed", "synced"]
    await yard.later(seconds=2)
    assert await yard.states() == ["synced"] * 3
    assert [fields["mileage"] for _, _, fields in yard.ledger.writes] == [3, 1, 2]


async def test_what_is_behind_a_refused_change_waits_until_it_is_let_go(yard: Yard) -> None:
    await committed(yard, "V-1", seats=9)
    await committed(yard, "V-1", "bob", mileage=2)
    yard.ledger.failures["write"] = [Refused("No")]
    await yard.work()
    await yard.later(days=1)
    assert await yard.states() == ["sync_error", "committed"]
    await yard.users["ann"].discard("V-1")
    await yard.later(seconds=1)
    assert await yard.states() == ["discarded", "synced"]
    assert yard.ledger.writes == [("update", "V-1", {"mileage": 2})]


# -- failures ----------------------------------------------------------------------------------------------------------


class Defect(Exception):
    """What an adapter should not raise."""


@pytest.mark.parametrize("error", [Failed("500\0" + "x" * 10_000), Defect("x")])
@pytest.mark.parametrize("method", ["hold", "write"])
async def test_poison_ends_as_an_error_and_blocks_no_other(yard: Yard, method: str, error: Exception) -> None:
    """Given a change at which upstream, or our adapter, fails for ever, then the others go, and it goes to a person."""
    await committed(yard, "V-1", mileage=1)
    yard.ledger.poison[method, "V-1"] = error
    others = 0
    while (await yard.states())[0] == "committed" and others < 20:
        await committed(yard, "V-2", "bob", mileage=others)
        await yard.later(minutes=6)
        others += 1
    assert await yard.states() == ["sync_error"] + ["synced"] * others
    (told,) = await yard.world.db.fetch("SELECT attempts, last_error FROM fleet.change WHERE state = 'sync_error'")
    assert told["attempts"] == 10
    assert told["last_error"].endswith("(after 10 attempts)")
    assert len(told["last_error"]) <= 2000


async def test_a_new_row_that_may_be_there_is_looked_for_as_long_as_it_takes(yard: Yard) -> None:
    """Given no answer, and a search that fails for ever, then others go, and it is found in the end."""
    yard.ledger.lost = 1
    await inserted(yard, "new")
    await yard.work()
    yard.ledger.poison["find_created", None] = Defect("x")
    for number in range(12):
        await committed(yard, "V-2", "bob", mileage=number)
        await yard.later(minutes=6)
    assert await yard.states() == ["committed"] + ["synced"] * 12
    yard.ledger.poison.clear()
    await yard.later(minutes=6)
    assert (await yard.changes())[0] == ("L-0004", "insert", "synced")


async def test_asking_for_a_push_sends_no_new_row_again_before_its_time(yard: Yard) -> None:
    yard.ledger.failures["write"] = [OutcomeUnknown("No answer")]
    await inserted(yard, "new")
    await yard.work()
    await yard.world.db.execute(
        "INSERT INTO sync_run (organization_id, id, dataset, kind, state, requested_by, requested_at)"
        " VALUES ('acme', gen_random_uuid(), 'fleet', 'push', 'requested', 'ann', $1)",
        yard.world.clock(),
    )
    await yard.later(seconds=1)
    assert (await yard.states(), yard.ledger.writes) == (["committed"], [])


async def test_a_slow_answer_holds_up_nobody_elses_commit(yard: Yard) -> None:
    """Given a call that hangs, when somebody commits another row, then that is on its way before the call ends."""
    yard.worker = yard.new_worker(concurrency=2)
    await committed(yard, "V-1", mileage=1)
    written = asyncio.Event()

    async def until_the_other_is_written() -> None:
        await committed(yard, "V-2", "bob", mileage=2)
        yard.ledger.after["write"] = [tell]
        async with asyncio.timeout(20):
            await written.wait()

    async def tell() -> None:
        written.set()

    yard.ledger.before["hold"] = [until_the_other_is_written]
    await yard.work()
    assert [key for _, key, _ in yard.ledger.writes] == ["V-2", "V-1"]


async def test_an_absence_never_counts_against_a_change(yard: Yard) -> None:
    await committed(yard, "V-1", mileage=1)
    for _ in range(30):
        yard.ledger.failures["hold"] = [Unavailable("Maintenance")]
        await yard.later(minutes=10)
    assert await yard.world.db.fetchval("SELECT attempts FROM fleet.change") == 0
    yard.ledger.failures.clear()
    await yard.later(minutes=10)
    assert await yard.states() == ["synced"]


async def test_an_unavailable_upstream_gets_back_what_was_claimed(yard: Yard) -> None:
    """Given more changes than are on their way, when it is gone, then all are committed again, and no call follows."""
    for key in ("V-1", "V-2", "V-3"):
        await committed(yard, key, mileage=1)
    calls = len(yard.ledger.calls)
    yard.ledger.failures["hold"] = [Unavailable("Too many requests", retry_after=120)]
    await yard.work()
    assert (await yard.states(), len(yard.ledger.calls)) == (["committed"] * 3, calls + 1)
    assert (await yard.users["ann"].row("V-2"))["syncState"] == "committed"
    await yard.later(seconds=119)
    assert len(yard.ledger.calls) == calls + 1
    await yard.later(seconds=1)
    assert await yard.states() == ["synced"] * 3


async def test_the_circuit_opens_is_tried_and_closes(yard: Yard) -> None:
    """Five failures in a row open it, for 15 seconds and twice as long each time; one success closes it."""
    await committed(yard, "V-1", mileage=1)
    opened = []
    for seconds in (0, 2, 2, 2, 2, 15, 30, 60):
        yard.ledger.failures["hold"] = [Unavailable("Nobody is there")]
        await yard.later(seconds=seconds)
        until = (await yard.standing())["open_until"]
        opened.append(until and (until - yard.world.clock()).total_seconds())
    assert opened == [None] * 4 + [15, 30, 60, 120]
    yard.ledger.failures.clear()
    await yard.later(minutes=2)
    standing = await yard.standing()
    assert (standing["failures"], standing["open_until"], await yard.states()) == (0, None, ["synced"])


@pytest.mark.parametrize("seconds", [86400.0 * 3650, 1e18])
async def test_upstream_cannot_ask_a_push_to_wait_for_years(yard: Yard, seconds: float) -> None:
    await committed(yard, "V-1", mileage=1)
    yard.ledger.failures["hold"] = [Unavailable("Later", retry_after=seconds)]
    await yard.work()
    await yard.later(hours=1)
    assert await yard.states() == ["synced"]


async def test_stopping_in_the_middle_gives_back_what_was_not_begun(yard: Yard) -> None:
    for key in ("V-1", "V-2", "V-3"):
        await committed(yard, key, mileage=1)

    async def stop() -> None:
        yard.worker.stopping.set()

    yard.ledger.before["write"] = [stop]
    await yard.work()
    assert await yard.states() == ["synced", "committed", "committed"]
    assert await yard.world.db.fetchval("SELECT sum(attempts) FROM fleet.change") == 1
    yard.worker = yard.new_worker()
    await yard.work()
    assert await yard.states() == ["synced"] * 3
    assert len(yard.ledger.writes) == 3


# -- leases ------------------------------------------------------------------------------------------------------------


async def test_what_a_dead_worker_had_is_taken_over_after_its_lease(yard: Yard) -> None:
    """Given a worker that was killed after its write, then nobody touches the change before."""
    await committed(yard, "V-1", mileage=1)
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    yard.ledger.after["write"] = [hang]
    await yard.worker.step()
    await reached.wait()
    for task in list(yard.worker._running.values()):
        task.cancel()
    await yard.worker.idle()
    yard.worker = yard.new_worker()
    assert await yard.states() == ["syncing"]
    assert (await yard.users["ann"].row("V-1"))["syncState"] == "syncing"
    await yard.later(seconds=119)
    assert await yard.states() == ["syncing"]
    await yard.later(seconds=1)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)
    assert (await yard.mirror())["V-1"]["mileage"] == 1


async def test_a_worker_that_lost_its_lease_does_not_settle(yard: Yard) -> None:
    """Given another worker's claim meanwhile, then what became of the change is that one's to say."""
    await committed(yard, "V-1", mileage=1)
    until = yard.world.clock() + timedelta(minutes=5)

    async def steal() -> None:
        await yard.world.db.execute("UPDATE fleet.change SET claim_id = gen_random_uuid(), lease_until = $1", until)

    yard.ledger.after["write"] = [steal]
    await yard.work()
    assert (await yard.states(), (await yard.mirror())["V-1"]["mileage"]) == (["syncing"], 100)
    await yard.later(minutes=5)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)


async def test_a_worker_that_lost_its_lease_sends_no_new_row(yard: Yard) -> None:
    yard.ledger.failures["write"] = [OutcomeUnknown("No answer")]
    await inserted(yard, "new")
    await yard.work()
    until = yard.world.clock() + timedelta(minutes=7)

    async def steal() -> None:
        await yard.world.db.execute("UPDATE fleet.change SET claim_id = gen_random_uuid(), lease_until = $1", until)

    yard.ledger.after["find_created"] = [steal]
    await yard.later(minutes=2)
    assert (await yard.states(), yard.ledger.writes) == (["syncing"], [])
    await yard.later(minutes=5)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)


async def test_a_lease_counts_from_the_sending_of_a_new_row(yard: Yard) -> None:
    """Upstream may still be working on what was sent last, however long the change had waited for its turn."""
    await inserted(yard, "new")
    sent = yard.world.clock() + timedelta(seconds=100)
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    yard.ledger.before["write"] = [hang]
    pushing = asyncio.ensure_future(
        push(yard.database, yard.target, _slow_clock(yard, sent), lambda: 1.0, asyncio.Event())
    )
    await reached.wait()
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)
    lease = await yard.world.db.fetchval("SELECT lease_until FROM fleet.change")
    assert lease == sent + yard.target.lease


def _slow_clock(yard: Yard, later: datetime) -> Any:
    """The world's clock at first, and that time once a new row is about to be sent."""

    async def read(connection: Any) -> datetime:
        claimed = await yard.world.db.fetchval("SELECT count(*) FROM fleet.change WHERE state = 'syncing'")
        return later if claimed else yard.world.clock()

    return read


# -- answers that were lost --------------------------------------------------------------------------------------------


async def test_lost_answers_of_a_deletion_and_of_a_new_row_with_its_key(yard: Yard) -> None:
    ann = await inserted(yard, "V-9", plate="V-9")
    await ann.draft("V-2", op="delete")
    await ann.commit()
    yard.ledger.lost = 2
    await yard.work()
    assert await yard.states() == ["committed", "committed"]
    await yard.later(minutes=2)
    assert await yard.states() == ["synced", "synced"]
    assert len(yard.ledger.writes) == 2
    assert await yard.mirror() == yard.ledger.rows


async def test_a_new_row_that_upstream_may_still_be_working_on_is_not_sent_again(yard: Yard) -> None:
    """Given no answer, and upstream does it a minute later, then it was looked for, and not sent twice."""
    yard.ledger.failures["write"] = [OutcomeUnknown("No answer")]
    await inserted(yard, "new")
    await yard.work()
    await yard.later(seconds=60)
    assert (await yard.states(), yard.ledger.writes) == (["committed"], [])
    yard.ledger.put("L-0004", depot="South", kind="Van")
    await yard.later(seconds=60)
    assert (await yard.changes(), yard.ledger.writes) == ([("L-0004", "insert", "synced")], [])


async def test_a_pull_leaves_a_new_row_alone_until_its_push_has_found_it(yard: Yard) -> None:
    """Given a new row whose answer was lost: if somebody could edit it first, it could not be found by its values,
    and would be sent a second time.
    """
    ann = await inserted(yard, "temporary")
    await committed(yard, "temporary", mileage=5)
    await ann.draft("temporary", {"seats": 4, "remark": "one"})
    yard.ledger.lost = 1
    await yard.work()
    yard.ledger.put("V-9", depot="South", kind="Bus")
    yard.world.clock.move(seconds=1)
    await hook(yard, "pull")()
    assert yard.ledger.rows.keys() - (await yard.mirror()).keys() == {"L-0004"}
    assert (await yard.runs())[-1]["left_alone"] == 1
    await yard.later(minutes=2)
    assert [op for op, _, _ in yard.ledger.writes] == ["insert", "update"]
    assert await yard.changes() == [("L-0004", "insert", "synced"), ("L-0004", "update", "synced")]
    row = await ann.row("L-0004")
    assert (row["data"]["mileage"], row["data"]["seats"], row["data"]["remark"]) == (5, 4, "one")


async def pulled_after_giving_up(yard: Yard) -> None:
    """A pull while the search for a new row has been given up, and a retry of it afterwards."""
    sent = "UPDATE fleet.change SET state = $1, settled_at = $2, next_attempt_at = NULL WHERE sent_at IS NOT NULL"
    yard.world.clock.move(seconds=1)
    await yard.world.db.execute(sent, "sync_error", yard.world.clock())
    await hook(yard, "pull")()
    await yard.world.db.execute(sent, "committed", None)
    assert "L-0004" in await yard.mirror()


async def test_a_new_row_that_a_pull_brought_is_not_sent_again(yard: Yard) -> None:
    """And what its author drafts on the real key stays, over what was committed on the temporary one."""
    ann = await inserted(yard, "temporary")
    await committed(yard, "temporary", mileage=5)
    await ann.draft("temporary", {"seats": 4, "remark": "one"})
    yard.ledger.lost = 1
    await yard.work()
    await pulled_after_giving_up(yard)
    await ann.draft("L-0004", {"remark": "two"})
    await yard.later(minutes=2)
    assert [op for op, _, _ in yard.ledger.writes] == ["insert", "update"]
    assert await yard.changes() == [("L-0004", "insert", "synced"), ("L-0004", "update", "synced")]
    row = await ann.row("L-0004")
    assert (row["data"]["mileage"], row["data"]["seats"], row["data"]["remark"]) == (5, 4, "two")
    assert len(await yard.mirror()) == 4


async def test_a_change_that_follows_a_new_key_is_seen_by_its_author(yard: Yard) -> None:
    """Given a draft on the real key, and a refused change that waits on the temporary one, then both are layers."""
    ann = await inserted(yard, "temporary")
    await committed(yard, "temporary", mileage=5)
    yard.ledger.lost = 1
    await yard.work()
    await pulled_after_giving_up(yard)
    await ann.draft("L-0004", {"remark": "two"})
    yard.ledger.failures["write"] = [Refused("No")]
    await yard.later(minutes=2)
    assert await yard.changes() == [("L-0004", "insert", "synced"), ("L-0004", "update", "sync_error")]
    row = await ann.row("L-0004")
    assert (row["data"]["mileage"], row["data"]["remark"], row["syncState"]) == (5, "two", "sync_error")


@pytest.mark.parametrize("lost", [(True, True), (True, False), (False, True), (False, False)])
async def test_two_equal_new_rows_whose_answers_are_lost_are_two(yard: Yard, lost: tuple[bool, bool]) -> None:
    """Whether they were done or not."""
    for key in ("one", "two"):
        await inserted(yard, key)
    outcomes = iter(lost)

    async def lose() -> None:
        if next(outcomes):
            yard.ledger.lost += 1
        else:
            yard.ledger.failures.setdefault("write", []).append(OutcomeUnknown("Never arrived"))

    yard.ledger.before["write"] = [lose, lose]
    await yard.work()
    assert await yard.states() == ["committed", "committed"]
    await yard.later(minutes=2)
    assert await yard.states() == ["synced", "synced"]
    assert len(yard.ledger.rows) == len({key for key, *_ in await yard.changes()}) + 3 == 5
    assert await yard.mirror() == yard.ledger.rows


async def test_a_new_row_is_not_taken_for_an_equal_one_that_is_just_being_written(yard: Yard) -> None:
    """Given one whose request never arrived, when it is looked for while another is written, then both are made."""
    yard.ledger.failures["write"] = [OutcomeUnknown("Never arrived")]
    await inserted(yard, "one")
    await yard.work()
    await inserted(yard, "two", "bob")
    yard.world.clock.move(minutes=3)
    written, found = asyncio.Event(), asyncio.Event()

    async def wait_for_the_search() -> None:
        written.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(found.wait(), 0.5)

    async def wait_for_the_row() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(written.wait(), 0.5)

    async def tell() -> None:
        found.set()

    yard.worker = yard.new_worker(concurrency=2)
    yard.ledger.after["write"] = [wait_for_the_search]
    yard.ledger.before["find_created"] = [wait_for_the_row]
    yard.ledger.before["read"] = [tell]
    await yard.work()
    await yard.later(minutes=2)
    assert await yard.states() == ["synced", "synced"]
    assert len(yard.ledger.rows) == 5
    assert await yard.mirror() == yard.ledger.rows


async def test_somebody_elses_new_row_of_the_same_temporary_name_stays_apart(yard: Yard) -> None:
    """And is in conflict no more once the other has its own key."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await ann.draft("new", {"depot": "South", "kind": "Van"}, op="insert")
    await bob.draft("new", {"depot": "East", "kind": "Bus", "seats": 5}, op="insert")
    await ann.commit()
    assert (await bob.commit()).status_code == 409
    assert (await bob.row("new"))["syncState"] == "conflict"
    await yard.work()
    row = await bob.row("new")
    assert (row["syncState"], row["op"], row["data"]["depot"]) == ("draft", "insert", "East")
    assert (await bob.commit()).status_code == 200
    await yard.work()
    assert {row["depot"] for key, row in yard.ledger.rows.items() if key.startswith("L-")} == {"South", "East"}


async def test_a_key_that_cannot_be_one_waits_for_a_person(yard: Yard) -> None:
    await inserted(yard, "new")
    await committed(yard, "V-1", "bob", mileage=1)
    yard.ledger.new_key = "L\0" * 200
    await yard.work()
    assert await yard.states() == ["sync_error", "synced"]
    del yard.ledger.rows["L\0" * 200]


# -- what upstream does ------------------------------------------------------------------------------------------------


async def test_a_row_that_is_changed_in_the_middle_is_compared_again(yard: Yard) -> None:
    await committed(yard, "V-1", mileage=150)
    await committed(yard, "V-2", mileage=250)

    async def other_cell() -> None:
        yard.ledger.put("V-1", seats=9)

    async def same_cell() -> None:
        yard.ledger.put("V-2", mileage=222)

    yard.ledger.after["hold"] = [other_cell, nothing, same_cell]
    await yard.work()
    assert await yard.states() == ["synced", "conflict"]
    assert (yard.ledger.rows["V-1"]["mileage"], yard.ledger.rows["V-1"]["seats"]) == (150, 9)
    assert yard.ledger.rows["V-2"]["mileage"] == 222


async def test_a_row_that_is_changed_all_the_time_is_tried_again_later(yard: Yard) -> None:
    await committed(yard, "V-1", mileage=150)

    async def change() -> None:
        yard.ledger.put("V-1", seats=yard.ledger.rows["V-1"]["seats"] + 1)

    yard.ledger.after["hold"] = [change] * 3
    await yard.work()
    assert await yard.states() == ["committed"]
    await yard.later(seconds=2)
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)


async def test_rows_that_are_deleted_upstream_before_the_push(yard: Yard) -> None:
    """A deletion has come true; an edit is a conflict of the whole row, which leaves the mirror."""
    ann = await committed(yard, "V-1", mileage=150)
    await ann.draft("V-2", op="delete")
    await ann.commit()
    yard.ledger.remove("V-1")
    yard.ledger.remove("V-2")
    await yard.work()
    assert await yard.states() == ["conflict", "synced"]
    assert await yard.mirror() == yard.ledger.rows
    assert (await ann.row("V-1"))["conflicts"][0]["mine"]["depot"] == "North"
    yard.ledger.put("V-1", **van(mileage=100))
    await yard.later(minutes=15)
    await yard.check()
    assert (await ann.commit("V-1")).status_code == 200
    await yard.work()
    assert yard.ledger.rows["V-1"]["mileage"] == 150


async def test_a_row_that_was_changed_upstream_is_not_deleted(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-1", op="delete")
    await ann.commit()
    yard.ledger.put("V-1", seats=9)
    await yard.work()
    assert (await yard.states(), yard.ledger.writes) == (["conflict"], [])
    (conflict,) = (await ann.row("V-1"))["conflicts"]
    assert (conflict["field"], conflict["theirs"]["seats"], conflict["mine"]) == (None, 9, None)


async def test_a_write_that_cannot_be_read_back_is_done_all_the_same(yard: Yard) -> None:
    """As it was wanted, until the next pull tells better."""
    await committed(yard, "V-1", mileage=150)
    yard.ledger.failures["read"] = [Failed("500")]
    yard.ledger.normalize = lambda fields: fields | {"seats": 7}
    await yard.work()
    assert (await yard.states(), len(yard.ledger.writes)) == (["synced"], 1)
    row = (await yard.mirror())["V-1"]
    assert (row["mileage"], row["seats"]) == (150, 3)
    await yard.later(minutes=15)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_new_row_that_a_pull_brought_and_nobody_can_read_back_stays_whole(yard: Yard) -> None:
    await inserted(yard, "temporary")
    yard.ledger.lost = 1
    await yard.work()
    yard.ledger.put("L-0004", remark="by upstream")
    await pulled_after_giving_up(yard)
    yard.ledger.failures["read"] = [Failed("500")]
    await yard.later(minutes=2)
    assert await yard.states() == ["synced"]
    assert (await yard.mirror())["L-0004"]["remark"] == "by upstream"


async def test_a_read_back_that_breaks_the_contract_leaves_what_was_wanted(yard: Yard) -> None:
    await committed(yard, "V-1", mileage=150)
    yard.ledger.normalize = lambda fields: fields | {"kind": "Boat"}
    await yard.work()
    assert await yard.states() == ["synced"]
    mirror = await yard.mirror()
    assert (mirror["V-1"]["mileage"], mirror["V-1"]["kind"]) == (150, "Van")
    await yard.later(minutes=15)
    assert list(await yard.quarantine()) == ["V-1"]


@pytest.mark.parametrize("value", ["a\0b", Decimal("1e400000")])
async def test_a_row_that_no_database_can_hold_stops_no_other(yard: Yard, value: Any) -> None:
    await committed(yard, "V-1", mileage=150)
    yard.ledger.put("V-1", remark=value)
    for _ in range(12):
        yard.world.clock.move(minutes=10)
        await yard.worker.step()
        await yard.worker.idle()
    assert await yard.states() == ["sync_error"]
    await committed(yard, "V-2", "bob", mileage=250)
    await yard.work()
    assert await yard.states() == ["sync_error", "synced"]


async def test_values_that_upstream_normalizes_come_back_and_conflict_with_nobody(yard: Yard) -> None:
    """Given edits and deletions over what is on its way, when upstream keeps it otherwise, that is no conflict."""
    yard.ledger.normalize = lambda fields: {
        name: value.strip() if isinstance(value, str) else value for name, value in fields.items()
    }
    ann = await committed(yard, "V-1", remark=" x ")
    await committed(yard, "V-1", remark=" y ")
    await ann.draft("V-1", {"remark": "z"})
    await committed(yard, "V-2", remark=" x ")
    await ann.draft("V-2", op="delete")
    await ann.commit("V-2")
    await committed(yard, "V-3", remark=" x ")
    await ann.draft("V-3", op="delete")
    await inserted(yard, "new", remark=" x ")
    await ann.draft("new", op="delete")
    await ann.commit("new")
    await inserted(yard, "other", remark=" x ")
    await ann.draft("other", op="delete")
    await yard.work()
    assert await yard.states() == ["synced"] * 8
    assert "V-2" not in yard.ledger.rows
    assert {row["syncState"] for row in (await ann.get("drafts")).json()["data"]} == {"draft"}
    row = await ann.row("V-1")
    assert (row["base"], row["conflicts"]) == ({"remark": "y"}, [])


async def test_another_change_upstream_meanwhile_is_still_a_conflict(yard: Yard) -> None:
    """A draft's base moves with what was written by us, never with what somebody else wrote."""
    await committed(yard, "V-1", mileage=150)
    bob = await yard.user("bob")
    await bob.draft("V-1", {"seats": 4})
    yard.ledger.put("V-1", seats=9)
    await yard.work()
    assert [conflict["field"] for conflict in (await bob.row("V-1"))["conflicts"]] == ["seats"]


# -- what people see ---------------------------------------------------------------------------------------------------


async def test_versions_and_etags_move_with_every_state(yard: Yard) -> None:
    """Committed, syncing, synced: the author's list has another ETag each time; others' when the mirror moved."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    seen: list[tuple[str, str, str]] = []

    async def look() -> None:
        hers, his = await ann.get("rows"), await bob.get("rows")
        seen.append(((await ann.row("V-1"))["syncState"], hers.headers["ETag"], his.headers["ETag"]))

    await look()
    await ann.draft("V-1", {"mileage": 150})
    await look()
    await ann.commit("V-1")
    await look()
    yard.ledger.before["write"] = [look]
    await yard.work()
    await look()
    states, hers, his = zip(*seen, strict=True)
    assert states == ("pristine", "draft", "committed", "syncing", "pristine")
    assert len(set(hers)) == 5
    assert len(set(his)) == 2
    assert (await ann.row("V-1"))["mirrorVersion"] == 2


@pytest.mark.parametrize("outcome", ["sync_error", "conflict", "committed"])
async def test_versions_and_etags_move_where_it_did_not_go(yard: Yard, outcome: str) -> None:
    ann = await committed(yard, "V-1", mileage=150)
    error = {"sync_error": Refused("No"), "committed": Failed("500")}.get(outcome)
    if error is None:
        yard.ledger.put("V-1", mileage=111)
    else:
        yard.ledger.failures["write"] = [error]
    before: list[str] = []

    async def look() -> None:
        before.append((await ann.get("rows")).headers["ETag"])

    await look()
    yard.ledger.after["hold"] = [look]
    await yard.work()
    await look()
    assert len(set(before)) == 3
    assert (await ann.row("V-1"))["syncState"] == outcome
    assert (await ann.rows(syncState=outcome))[0]["id"] == "V-1"


async def test_a_commit_of_somebody_else_during_a_claim_is_not_forgotten(yard: Yard) -> None:
    """Given two people with changes of one row, when one is on its way while the other commits, both see their own."""
    ann = await committed(yard, "V-1", mileage=150)
    bob = await committed(yard, "V-1", "bob", seats=4)

    async def commit_more() -> None:
        await committed(yard, "V-1", "bob", remark="more")
        await yard.look()

    yard.ledger.before["hold"] = [commit_more]
    await yard.work()
    assert await yard.states() == ["synced"] * 3
    assert (await bob.row("V-1"))["data"]["remark"] == (await ann.row("V-1"))["data"]["remark"] == "more"


async def test_figures_are_exact_after_each_settlement(yard: Yard) -> None:
    """Whatever is settled in between: look at every call of upstream."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await ann.draft("V-1", {"mileage": 9000, "depot": "South"})
    await ann.draft("V-2", op="delete")
    await ann.draft("new", {"depot": "East", "kind": "Bus", "seats": 50, "mileage": 1}, op="insert")
    await bob.draft("V-1", {"seats": 4})
    await bob.draft("V-3", {"mileage": 0})
    await ann.commit()
    await bob.commit()
    await ann.draft("V-3", {"seats": 8})
    for method in ("hold", "write", "read"):
        yard.ledger.before[method] = [yard.look] * 5
    await yard.work()
    await yard.check()
    await yard.later(minutes=2)  # the view of KPIs is brought up to it
    assert await yard.states() == ["synced"] * 5


async def test_a_dataset_without_an_upstream_is_nobodys_to_push(yard: Yard) -> None:
    """Its changes are none of the worker's, neither those of an organization that has no upstream behind it."""
    await yard.world.organization("beta")
    eve = (await yard.world.user("eve", "beta")).on("fleet")
    await yard.world.mirror({"V-1": van(mileage=1)}, "beta", LEDGERED)
    await eve.draft("V-1", {"mileage": 2})
    await eve.commit()
    await yard.later(days=2)
    assert (await eve.row("V-1"))["syncState"] == "committed"
    assert yard.ledger.writes == []


async def test_a_success_does_not_cut_short_the_time_that_upstream_asked_for(yard: Yard) -> None:
    """Given a push under way while a pull is told to come back later, then the push's success opens nothing."""
    later = yard.world.clock() + timedelta(minutes=10)

    async def told_to_wait() -> None:
        await yard.world.db.execute("UPDATE synchronization SET failures = 1, open_until = $1", later)

    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit("V-1")
    yard.ledger.before["write"] = [told_to_wait]
    await yard.work()
    assert await yard.changes() == [("V-1", "update", "synced")]
    assert await yard.world.db.fetchval("SELECT open_until FROM synchronization") == later
    await yard.later(minutes=11)
    await ann.draft("V-1", {"mileage": 160})
    await ann.commit("V-1")
    await yard.work()
    assert await yard.world.db.fetchval("SELECT open_until FROM synchronization") is None
