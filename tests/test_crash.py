r"""Workers are killed at random moments, and stopped, and stalled: nothing is lost, and nothing is done twice.

For a long run:

    VANGUARD_CRASH_KILLS=400 VANGUARD_CRASH_SEED=7 \
        python -m pytest -s --timeout=0 -o faulthandler_timeout=0 tests/test_crash.py
"""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.simulator import Fault, Writing
from app.upstream.protocol import OutcomeUnknown
from app.web.auth import Role
from tests.support.children import VANGUARD, child
from tests.support.crash_checks import check_all, check_lines, check_mirror, defects
from tests.support.crashing import (
    CODE,
    WEATHER,
    Document,
    Planner,
    Site,
    WorkerProcess,
    busy,
    let_all_go,
    open_site,
    working,
)
from tests.support.ledger import Ledger
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import SECRET, User

KILLS = int(os.environ.get("VANGUARD_CRASH_KILLS", "40"))
SEED = int(os.environ.get("VANGUARD_CRASH_SEED") or time.time_ns() % 10**6)


@pytest.mark.slow("forty kills of real processes, at moments that nobody chose, find what no story tells")
async def test_workers_killed_at_random_moments(database_url: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"VANGUARD_CRASH_SEED={SEED}")
    interrupted: Counter[str] = Counter()
    token: dict[str, Any] = chance.choice(({}, {"token": {"read": "pfs_udfchar01", "write": "PFS_UDFCHAR01"}}))
    async with open_site(database_url, tmp_path, seed=SEED, **token) as site:
        async with working(site):
            await site.connected()
        site.pems.writing = chance.choice(WRITINGS)
        print(site.pems.writing, token)
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
        site.connect(fullEvery=900, **token)
        async with working(site):
            await site.until_quiet(full=False)
            await check_lines(site)
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


# -- side by side, stopped, stalled ------------------------------------------------------------------------------------


async def edited(site: Site, user: User, number: int) -> dict[str, Document]:
    """Commit an edit of each of the first lines at once; what they say then."""
    edits = {key: {"model": f"of planner {user.id} {key}"} for key in site.keys()[:number]}
    await user.post("drafts", {"modifications": [{"id": key, "delta": delta} for key, delta in edits.items()]})
    assert (await user.commit()).json()["committed"] == number
    return edits


def models(site: Site) -> dict[str, list[str]]:
    """Which models clients have written, by line."""
    found: dict[str, list[str]] = {}
    for each in site.written():
        found.setdefault(each.id, []).append(each.fields["model"])
    return found


async def test_two_workers_push_no_change_twice(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path, timeout=30, lease=60) as site, working(site, 2):
        await site.connected()
        ann = await site.user("ann")
        for _ in range(3):
            edits = await edited(site, ann, 60)
            await site.until("SELECT NOT EXISTS (SELECT FROM pfa.change WHERE state <> 'synced')")
            assert models(site) == {key: [delta["model"]] for key, delta in edits.items()}
            site.pems.clear_counts()
            for key in edits:
                site.pems.edit(CODE, key, {"model": "theirs"})
            await site.until_quiet()
            site.pems.clear_counts()
        assert await site.world.db.fetchval("SELECT count(*) FROM pfa.history WHERE source = 'push'") == 180
        assert site.log.read_text().count('"worker begins"') == 2
        assert not defects(site)


@pytest.mark.timed
async def test_a_commit_is_in_pems_within_two_seconds_and_the_row_is_pristine_again(
    database_url: str, tmp_path: Path
) -> None:
    async with open_site(database_url, tmp_path, timeout=30, lease=60, pullEvery=900) as site, working(site):
        await site.connected()
        ann = await site.user("ann")
        key = site.keys()[7]
        before = await ann.row(key)
        await ann.draft(key, {"monthlyRate": 4321})
        began = time.monotonic()
        assert (await ann.commit(key)).status_code == 200
        async with httpx.AsyncClient(base_url=site.pems.url, timeout=60) as pems, asyncio.timeout(20):
            shown = None
            while shown != 4321:
                answer = await pems.get("/sim/records", params={"org": CODE, "id": key})
                shown = answer.json()["document"]["monthlyRate"]
        assert time.monotonic() - began < 2
        await site.until("SELECT NOT EXISTS (SELECT FROM pfa.change WHERE state <> 'synced')")
        row = await ann.row(key)
        assert (row["syncState"], row["data"]["monthlyRate"]) == ("pristine", 4321)
        assert row["mirrorVersion"] == before["mirrorVersion"] + 1


@contextmanager
def command(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """`vanguard worker`, as people start it; it is gone afterwards, however it ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
    environment |= {"DATABASE_URL": site.url, "VANGUARD_SECRET": SECRET, "VANGUARD_UPSTREAMS": str(site.upstreams)}
    with site.log.open("ab") as log, child(*VANGUARD, "worker", env=environment, stdout=log, stderr=log) as process:
        yield process


async def until_asked(site: Site, what: str, times: int) -> None:
    """Wait until so many requests have come in."""
    async with asyncio.timeout(60):
        while site.pems.counts().requests.get(what, 0) < times:  # noqa: ASYNC110 - as in Site.until
            await asyncio.sleep(0.02)


async def until_fault(site: Site, kind: str) -> None:
    """Wait until something has gone wrong."""
    async with asyncio.timeout(60):
        while not site.pems.counts().faults.get(kind):  # noqa: ASYNC110 - as in Site.until
            await asyncio.sleep(0.02)


async def stopped(process: "subprocess.Popen[str]") -> float:
    """Say SIGTERM; how long it takes."""
    began = time.monotonic()
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0
    return time.monotonic() - began


# Ways of an installation that can meet; which of them is drawn, with the seed.
WRITINGS = (
    Writing(),
    Writing(shape="GRIDS", year="calendar", screen_numbers="bare", records="null", update="put", alerts=200),
    Writing(shape="CELL", dates="iso", numbers="plain", times="local", screen_flags="true/false", records="page"),
    Writing(
        shape="DATAFIELD", typed=True, zone="America/New_York", times="local", more="absent", update="put", bom=True
    ),
)
SLOW = Fault(kind="latency", ms=2000)


@pytest.mark.timed
async def test_sigterm_in_the_middle_of_a_pull(database_url: str, tmp_path: Path) -> None:
    """Given upstream that takes two seconds for a page, then the worker ends in time, and the next one goes on."""
    async with open_site(database_url, tmp_path, timeout=30, lease=60, pullEvery=900) as site:
        site.pems.fault(SLOW)
        with command(site) as process:
            await until_asked(site, "grid", 2)
            assert await stopped(process) < 10
        (left,) = await site.world.db.fetch("SELECT id, state, rows_read FROM sync_run")
        assert left["state"] == "running"
        assert 0 < left["rows_read"] < 200
        site.pems.clear_faults()
        async with working(site):
            await site.connected()
        (run,) = await site.world.db.fetch("SELECT id, state, inserted FROM sync_run WHERE kind = 'pull'")
        assert (run["id"], run["state"], run["inserted"]) == (left["id"], "succeeded", 200)
        await check_mirror(site)


@pytest.mark.timed
async def test_sigterm_while_pems_wants_to_be_left_alone(database_url: str, tmp_path: Path) -> None:
    """A pull that waits for its turn is not waited for."""
    async with open_site(database_url, tmp_path) as site:
        site.pems.fault(Fault(kind="status", status=429, retry_after=50))
        with command(site) as process:
            await until_fault(site, "status")
            assert await stopped(process) < 5
        assert [row["state"] for row in await site.world.db.fetch("SELECT state FROM sync_run")] == ["running"]


@pytest.mark.timed
@pytest.mark.slow("a real worker has its seven seconds of grace, and is gone within ten")
async def test_sigterm_while_pems_does_not_answer_a_write(database_url: str, tmp_path: Path) -> None:
    """What takes longer than a worker has to end is left as it is, and settled by the next one, which reads first."""
    async with open_site(database_url, tmp_path, timeout=40, lease=3, pullEvery=900) as site:
        async with working(site):
            await site.connected()
        edits = await edited(site, await site.user("ann"), 2)
        site.pems.fault(Fault(kind="late", action="UPDATE", ms=30_000))
        with command(site) as process:
            await until_fault(site, "late")
            assert await stopped(process) < 10
        assert {change["state"] for change in await site.changes()} == {"syncing"}
        site.pems.clear_faults()
        async with working(site):
            await site.until("SELECT NOT EXISTS (SELECT FROM pfa.change WHERE state <> 'synced')")
        assert models(site) == {key: [delta["model"]] for key, delta in edits.items()}


@pytest.mark.timed
@pytest.mark.slow("a real worker brings what is under way to its end, at a slow PEMS")
async def test_sigterm_in_the_middle_of_a_push(database_url: str, tmp_path: Path) -> None:
    """What is under way is brought to its end, the rest is as it was, and the next one goes on."""
    async with open_site(database_url, tmp_path, timeout=30, lease=60, pullEvery=900) as site:
        async with working(site):
            await site.connected()
        edits = await edited(site, await site.user("ann"), 12)
        site.pems.fault(SLOW)
        with command(site) as process:
            await until_asked(site, "UPDATE", 1)
            assert await stopped(process) < 10
        states = Counter(change["state"] for change in await site.changes())
        assert states == {"synced": 4, "committed": 8}
        site.pems.clear_faults()
        async with working(site):
            await site.until("SELECT NOT EXISTS (SELECT FROM pfa.change WHERE state <> 'synced')")
        assert models(site) == {key: [delta["model"]] for key, delta in edits.items()}


@pytest.mark.slow("a real lease runs out under a real process, three times")
async def test_a_worker_that_stands_still_for_longer_than_its_lease(database_url: str, tmp_path: Path) -> None:
    """Given a worker that is stopped in the middle of pushes and loses its connection, as behind a broken network, when
    another has gone on and it wakes up, then nothing is done twice and nothing is settled that is not its own.
    """
    async with open_site(database_url, tmp_path, seed=3, lease=1.5, pullEvery=900) as site:
        async with working(site):
            await site.connected()
        planner = Planner(site, await site.user("planner"), SEED)
        site.pems.fault(Fault(kind="latency", ms=20, up_to_ms=120, at="screen"))
        for _ in range(3):
            for act in (planner.edit, planner.edit, planner.add_with_key, planner.delete) * 3:
                await act()
            before = site.pems.counts().requests.get("GET", 0)
            async with working(site) as (stalled,):
                await until_asked(site, "GET", before + planner.random.randrange(2, 10))
                stalled.signal(signal.SIGSTOP)
                await site.world.db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4"
                )
                async with working(site):
                    await site.until_quiet()
                    stalled.signal(signal.SIGCONT)
                    await site.until_quiet()
                stalled.signal(signal.SIGTERM)
                assert await stalled.ended() == 0
        states = await check_all(site)
        assert not states.keys() - {"synced"}, states
        assert not defects(site)


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
