"""Workers are killed at random moments, and stopped, and stalled: nothing is lost, and nothing is done twice.

For a long run:

    VANGUARD_CRASH_KILLS=400 VANGUARD_CRASH_SEED=7 python -m pytest -s tests/test_crash.py
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.auth import Role
from app.upstream.protocol import OutcomeUnknown
from tests.crash_checks import check_all, defects
from tests.crashing import WEATHER, WorkerProcess, busy, let_all_go, open_site, working
from tests.ledger import Ledger
from tests.syncing import Yard, open_yard, van

KILLS = int(os.environ.get("VANGUARD_CRASH_KILLS", "40"))
SEED = int(os.environ.get("VANGUARD_CRASH_SEED") or time.time_ns() % 10**6)


async def test_workers_killed_at_random_moments(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"VANGUARD_CRASH_SEED={SEED}")
    interrupted: Counter[str] = Counter()
    async with open_site(database_url, tmp_path, seed=SEED) as site:
        async with working(site):
            await site.connected()
        for fault in WEATHER:
            site.pems.fault(fault)
        began = time.monotonic()
        async with busy(site, SEED) as planners:
            workers = [WorkerProcess(site)]
            for number in range(KILLS):
                # One half alone, the other half with a second one at its side.
                while len(workers) < 1 + (number % 20 >= 10):
                    workers.append(WorkerProcess(site))
                await asyncio.sleep(chance.uniform(0.05, 0.8))
                await workers.pop(chance.randrange(len(workers))).kill()
                for row in await site.world.db.fetch("SELECT kind FROM sync_run WHERE state = 'running'"):
                    interrupted[row["kind"]] += 1
                workers.append(WorkerProcess(site))
            for worker in workers:
                await worker.kill()
        seconds = time.monotonic() - began
        hit = site.pems.counts().faults
        site.pems.clear_faults()
        async with working(site):
            await site.until_quiet()
        answers = sum((planner.answers for planner in planners), Counter())
        writes = Counter(each.action for each in site.written())
        print(f"{KILLS} kills in {seconds:.0f} s, in the middle of {dict(interrupted)}; faults {hit}")
        print(f"answers {dict(answers)}; writes {dict(writes)}; edits in PEMS {len(site.pems.counts().applied)}")
        print("defects", defects(site)[:5])
        states = await check_all(site)
        print(f"changes {dict(states)}")
        async with working(site):
            await let_all_go(site, planners)
        states = await check_all(site)
        print(f"in the end {dict(states)}")
        assert not states.keys() - {"synced", "rejected", "discarded"}
        assert not defects(site)
        assert interrupted["pull"]
        assert interrupted["push"]


# -- what is sent and not heard of, step by step -----------------------------------------------------------------------


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of two vehicles that are in the mirror already; one change after the other."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in (1, 2)})
    async with open_yard(database_url, ledger, concurrency=1) as yard:
        await yard.work()
        yield yard


NEW = {"depot": "South", "kind": "Van", "mileage": 1}


async def test_a_worker_that_was_away_for_longer_than_its_lease_writes_nothing(yard: Yard) -> None:
    """Given a worker that is about to write and stands still, when another has pushed that change and one that takes it
    back, then the first one does not write again, although the row is as it was.
    """
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150})
    await ann.commit()
    await ann.draft("V-1", {"mileage": 100})
    await ann.commit()

    async def overtaken() -> None:
        await yard.world.db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4"
        )
        yard.world.clock.move(minutes=3)
        other = yard.new_worker()
        while (await yard.states())[1] != "synced":
            await other.step()
            await other.idle()

    yard.ledger.before["write"] = [overtaken]
    await yard.worker.step()
    await yard.worker.idle()
    assert [fields for *_, fields in yard.ledger.writes] == [{"mileage": 150}, {"mileage": 100}]
    assert await yard.states() == ["synced", "synced"]
    assert (await yard.mirror())["V-1"]["mileage"] == 100


async def test_a_new_row_is_not_sent_again_while_upstream_may_still_be_at_it(yard: Yard) -> None:
    """Given a new row whose answer did not come, when a push is asked for before the lease is over, then nobody
    looks for it.
    """
    ann = await yard.user("ann", role=Role.ADMIN)
    await ann.draft("temporary", NEW, op="insert")
    await ann.commit()
    yard.ledger.failures["write"] = [OutcomeUnknown("No answer came")]
    await yard.work()
    assert (await ann.post("sync/push", {})).status_code == 202
    await yard.later(seconds=100)
    assert yard.ledger.calls.count("write") == 1
    assert "find_created" not in yard.ledger.calls
    yard.ledger.put("L-7", **van(**NEW))
    await yard.later(seconds=30)
    assert await yard.changes() == [("L-7", "insert", "synced")]
    assert yard.ledger.calls.count("write") == 1


async def test_the_lease_of_a_new_row_begins_when_it_is_sent(yard: Yard) -> None:
    """Not when it was claimed, together with others that took their time."""
    ann = await yard.user("ann")
    for key in ("first", "second"):
        await ann.draft(key, NEW | {"remark": key}, op="insert")
    await ann.commit()
    leases = []

    async def takes_long() -> None:
        yard.world.clock.move(seconds=100)

    async def looks() -> None:
        until = await yard.world.db.fetchval("SELECT max(lease_until) FROM fleet.change WHERE sent_at IS NOT NULL")
        leases.append((until - yard.world.clock()).total_seconds())

    yard.ledger.before["write"] = [takes_long, looks]
    await yard.work()
    assert leases == [120]
    assert await yard.states() == ["synced", "synced"]


async def test_a_new_row_that_may_be_there_is_given_up_only_after_a_look(yard: Yard) -> None:
    """Given upstream that answers no attempt, then the last look tells whether the row is there."""
    ann = await yard.user("ann")
    await ann.draft("there", NEW | {"remark": "there"}, op="insert")
    await ann.draft("nowhere", NEW | {"remark": "nowhere"}, op="insert")
    await ann.commit()
    yard.ledger.failures["write"] = [OutcomeUnknown("No answer came") for _ in range(20)]
    for _ in range(10):
        await yard.later(minutes=10)
    assert await yard.states() == ["committed", "committed"]
    yard.ledger.put("L-7", **van(**NEW, remark="there"))
    yard.ledger.failures["find_created"] = [OutcomeUnknown("It cannot be read") for _ in range(2)]
    await yard.later(minutes=10)
    assert await yard.states() == ["committed", "committed"]
    await yard.later(minutes=10)
    assert sorted(await yard.changes()) == [("L-7", "insert", "synced"), ("nowhere", "insert", "sync_error")]
    assert yard.ledger.calls.count("write") == 20
