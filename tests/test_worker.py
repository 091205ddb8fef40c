"""The worker: what is due, when it is due, by as many workers as one likes, whatever becomes of one of them."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.base.database import Connection, Database
from app.base.errors import DatabaseUnavailable
from app.base.settings import Settings
from app.upstream.protocol import Unavailable
from app.worker import start
from app.worker.loop import Worker
from app.worker.target import Target
from tests.support.ledger import Ledger
from tests.support.syncing import KEPT, LEDGERED, Yard, defects, open_yard, van
from tests.support.world import SECRET
from tests.test_outage import blocked, cut, waiting


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of thirty vehicles; what always holds is looked at in the end."""
    ledger = Ledger("plate", {f"V-{number:02}": van(mileage=number * 100) for number in range(30)}, page_size=10)
    async with open_yard(database_url, ledger) as yard:
        yield yard
        await yard.check()


async def edited(yard: Yard, *keys: str, **delta: Any) -> None:
    """Ann's committed edits."""
    ann = yard.users.get("ann") or await yard.user("ann")
    for key in keys:
        await ann.draft(key, delta or {"mileage": 1})
    answer = await ann.commit()
    assert answer.status_code == 200, answer.text


async def test_two_workers_push_each_change_once(yard: Yard) -> None:
    """Given many changes and two workers that go at the same time, each is written once, in its row's order."""
    await yard.work()
    other = yard.new_worker()
    for number in range(4):
        await edited(yard, *(key for key in yard.ledger.rows), mileage=10_000 + number)
    while "committed" in await yard.states():
        yard.world.clock.move(seconds=1)
        await asyncio.gather(yard.worker.step(), other.step())
        await asyncio.gather(yard.worker.idle(), other.idle())
    assert len(yard.ledger.writes) == 120
    for key in yard.ledger.rows:
        assert [fields["mileage"] for _, row, fields in yard.ledger.writes if row == key] == [
            10_000, 10_001, 10_002, 10_003,
        ]  # fmt: skip
    assert await yard.mirror() == yard.ledger.rows


async def test_two_workers_pull_once(yard: Yard) -> None:
    other = yard.new_worker()
    await asyncio.gather(yard.worker.step(), other.step())
    await asyncio.gather(yard.worker.idle(), other.idle())
    assert yard.ledger.calls == ["page"] * 3
    assert len(await yard.runs()) == 1


async def test_hours_of_schedule(yard: Yard) -> None:
    """Pulls each quarter of an hour, now and then a full one, pushes at once, figures in the view, old changes gone."""
    yard.worker = yard.new_worker(full_every=timedelta(hours=4))
    await yard.work()
    start = yard.world.clock()
    for quarter in range(1, 18):
        await yard.later(seconds=1)
        yard.world.clock.move(seconds=448)
        await edited(yard, f"V-{quarter:02}", mileage=quarter)
        await yard.work()
        assert len(yard.ledger.writes) == quarter
        await yard.later(seconds=451)
    runs = await yard.runs()
    assert [(run["started_at"] - start).total_seconds() for run in runs] == [900 * number for number in range(18)]
    assert [number for number, run in enumerate(runs) if run["whole"]] == [0, 16]
    assert {run["state"] for run in runs} == {"succeeded"}
    figures = await yard.world.db.fetchval("SELECT max(revision) FROM fleet.kpi WHERE organization_id = 'acme'")
    assert figures == await yard.revision()
    await yard.later(days=29)
    assert await yard.world.db.fetchval("SELECT count(*) FROM fleet.change") == 17
    await yard.later(days=3)
    await yard.later(hours=2)
    assert await yard.world.db.fetchval("SELECT count(*) FROM fleet.change") == 0
    assert await yard.world.db.fetchval("SELECT min(finished_at) FROM sync_run") > start
    assert await yard.world.db.fetchval("SELECT count(*) FROM fleet.history") > 17


async def test_history_is_forgotten_up_to_where_the_view_of_figures_stands(yard: Yard) -> None:
    await yard.work()
    await edited(yard, "V-01")
    await yard.work()
    await yard.later(days=400)
    await yard.later(hours=1)
    assert await yard.world.db.fetchval("SELECT count(*) FROM fleet.history") == 0
    # What is looked at in the end needs the history that is gone.
    await yard.world.db.execute("DELETE FROM fleet.mirror")
    yard.users.clear()


async def test_the_feed_is_forgotten_from_its_beginning(yard: Yard) -> None:
    """Portion by portion, up to the first entry that is not old: what is left has no gaps."""
    db, now = yard.world.db, yard.world.clock()
    await yard.world.organization("rival")
    for name, days in (("acme", [*[8] * 12_000, 6, 8, 0]), ("rival", [6, 8, 0])):
        await db.execute("INSERT INTO feed_counter VALUES ($1, $2)", name, len(days))
        await db.execute(
            "INSERT INTO feed (organization_id, number, at, type, dataset)"
            " SELECT $1, number, $3::timestamptz - make_interval(days => days), 'pull', 'fleet'"
            "   FROM unnest($2::int[]) WITH ORDINALITY AS a (days, number)",
            name, days, now,
        )  # fmt: skip
    await yard.work()
    found = await db.fetch("SELECT organization_id, array_agg(number ORDER BY number) FROM feed GROUP BY 1 ORDER BY 1")
    pulled = [12_004, 12_005, 12_006]  # by this worker: three pages
    assert [tuple(each) for each in found] == [("acme", [12_001, 12_002, 12_003, *pulled]), ("rival", [1, 2, 3])]
    await yard.later(days=8)
    assert await db.fetchval("SELECT count(*) FROM feed") == 0
    assert await db.fetchval("SELECT array_agg(number ORDER BY number) FROM feed_counter") == [3, 12_006]


async def test_an_organization_that_fails_stops_no_other(yard: Yard) -> None:
    """Given one whose upstream is away, one whose adapter has a defect, then the third goes on as ever."""
    for name in ("away", "broken"):
        await yard.world.organization(name)
    away, broken = Ledger("plate", {"A": van()}), Ledger("plate", {"B": van()})
    targets = [
        yard.target,
        *(
            msgspec.structs.replace(yard.target, organization=name, upstream=ledger)
            for name, ledger in (("away", away), ("broken", broken))
        ),
    ]
    yard.worker = Worker(yard.database, targets, [LEDGERED], KEPT, read_clock=yard.read_clock, chance=lambda: 1.0)
    away.failures["page"] = [Unavailable("Nobody is there", retry_after=100) for _ in range(99)]
    broken.poison["page", None] = ZeroDivisionError()
    before = defects()
    for number in range(3):
        await edited(yard, "V-01", mileage=number) if number else None
        yard.world.clock.move(minutes=20)
        await yard.worker.step()
        await yard.worker.idle()
    assert defects() > before
    assert await yard.mirror() == yard.ledger.rows
    assert await yard.states() == ["synced"] * 2
    broken.poison.clear()
    away.failures.clear()
    for _ in range(3):
        await yard.later(minutes=20)
    pulled = await yard.world.db.fetch("SELECT organization_id FROM fleet.mirror WHERE organization_id <> 'acme'")
    assert sorted(row["organization_id"] for row in pulled) == ["away", "broken"]


async def test_a_dataset_that_the_database_does_not_know_is_passed_over(yard: Yard) -> None:
    """And looked for again every now and then, not twice a second; the others go on."""
    unknown = msgspec.structs.replace(yard.target, organization="nobody", upstream=Ledger("plate", {"A": van()}))
    yard.worker = Worker(yard.database, [yard.target, unknown], [LEDGERED], KEPT, read_clock=yard.read_clock)
    await yard.work()
    assert await yard.mirror() == yard.ledger.rows
    stamps = "SELECT xmin::text FROM synchronization"
    before = await yard.world.db.fetch(stamps)
    for _ in range(5):
        await yard.later(seconds=1)
    assert await yard.world.db.fetch(stamps) == before
    await yard.world.organization("nobody")
    await yard.later(minutes=1)
    assert await yard.world.db.fetchval("SELECT count(*) FROM fleet.mirror WHERE organization_id = 'nobody'") == 1


async def test_a_connection_that_breaks_while_datasets_are_connected_loses_none(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **given: Any) -> None:
        raise DatabaseUnavailable("The connection broke.")

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "value", broken)
        with pytest.raises(DatabaseUnavailable):
            await yard.worker.step()
    await yard.later(minutes=1)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_worker_whose_database_says_nothing_stops_all_the_same(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a statement that waits for a lock for ever, when the worker is told to stop, then it gives that up."""
    monkeypatch.setattr("app.worker.loop.GRACE", 0.05)
    async with blocked(yard.world, "public.synchronization", "ACCESS EXCLUSIVE"):
        running = asyncio.create_task(yard.worker.run())
        await waiting(yard.world, running)
        yard.worker.stopping.set()
        async with asyncio.timeout(5):
            await running
    yard.worker = yard.new_worker()
    await yard.work()


async def test_an_organization_that_is_always_due_lets_others_have_their_turn(yard: Yard) -> None:
    """Given room for one job, and two of which the first in the file is due again at once, then both come to it."""
    await yard.world.organization("second")
    second = Ledger("plate", {"A": van()})
    targets = [yard.target, msgspec.structs.replace(yard.target, organization="second", upstream=second)]
    worker = Worker(yard.database, targets, [LEDGERED], KEPT, read_clock=yard.read_clock, jobs=1)
    for _ in range(2):
        await worker.step()
        await worker.idle()
        await yard.world.db.execute("UPDATE synchronization SET next_pull_at = $1", yard.world.clock())
    assert second.calls == ["page"]


async def test_more_organizations_than_connections(yard: Yard) -> None:
    """Given a pool of two, then everybody's pulls and pushes come to their turn."""
    ledgers = {f"o{number}": Ledger("plate", {"A": van(mileage=number)}) for number in range(5)}
    for name in ledgers:
        await yard.world.organization(name)
    database = Database(Settings(database_url=_url(yard), secret=SECRET, environment="test", pool_size=2))
    await database.open()
    try:
        targets = [Target(organization=name, contract=LEDGERED, upstream=ledger) for name, ledger in ledgers.items()]
        worker = Worker(database, targets, [LEDGERED], KEPT, read_clock=yard.read_clock, jobs=1)
        users = {name: (await yard.world.user(f"u-{name}", name)).on("fleet") for name in ledgers}

        async def settle() -> None:
            for _ in range(60):
                yard.world.clock.move(seconds=1)
                await worker.step()
                await worker.idle()

        await settle()
        for user in users.values():
            await user.draft("A", {"mileage": 7})
            assert (await user.commit()).status_code == 200
        await settle()
        assert {name: ledger.writes for name, ledger in ledgers.items()} == {
            name: [("update", "A", {"mileage": 7})] for name in ledgers
        }
    finally:
        await database.close()


def _url(yard: Yard) -> str:
    return yard.database._settings.database_url


# -- run() -------------------------------------------------------------------------------------------------------------


async def running(yard: Yard) -> "asyncio.Task[None]":
    """The worker's loop, once it has pulled."""
    task = asyncio.ensure_future(yard.worker.run())
    async with asyncio.timeout(20):
        while not (runs := await yard.runs()) or runs[-1]["state"] != "succeeded":
            assert not task.done()
            await asyncio.sleep(0.02)  # the loop's own ticks
    return task


async def test_a_commit_is_upstream_within_a_second_and_stopping_takes_no_longer(yard: Yard) -> None:
    task = await running(yard)
    written = asyncio.Event()

    async def tell() -> None:
        written.set()

    yard.ledger.after["write"] = [tell]
    await edited(yard, "V-01", mileage=4)
    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        await written.wait()
    # A second on a machine of its own; here others run beside.
    assert asyncio.get_running_loop().time() - begun < 5
    yard.worker.stopping.set()
    async with asyncio.timeout(5):
        await task


async def test_a_worker_that_is_stopped_waits_for_no_upstream(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a call that never ends, then the worker is gone after its grace, and the change comes after its lease."""
    monkeypatch.setattr("app.worker.loop.GRACE", 0.2)
    task = await running(yard)
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    yard.ledger.after["write"] = [hang]
    await edited(yard, "V-01", mileage=4)
    await reached.wait()
    yard.worker.stopping.set()
    async with asyncio.timeout(5):
        await task
    yard.worker = yard.new_worker()
    yard.world.clock.move(minutes=3)
    async with asyncio.timeout(20):
        while await yard.states() != ["synced"]:
            await yard.work()  # the lock goes with the connection, a moment later
    assert len(yard.ledger.writes) == 1


@pytest.mark.parametrize("ignored", [False, True], ids=["in front", "behind an ampersand"])
async def test_a_worker_heeds_sigint_unless_it_was_ignored_from_the_start(database_url: str, ignored: bool) -> None:
    """And SIGTERM always."""
    settings = Settings(database_url=database_url, secret=SECRET, environment="test")
    here = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        task = asyncio.ensure_future(start.work(settings, []))
        await asyncio.sleep(0)  # the handlers come first
        signal.raise_signal(signal.SIGINT)
        if ignored:
            assert not (await asyncio.wait([task], timeout=0.3))[0]
            signal.raise_signal(signal.SIGTERM)
        await task
    finally:
        for number, handler in ((signal.SIGINT, here), (signal.SIGTERM, terminated)):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, handler)


async def test_a_worker_outlives_what_happens_to_its_database(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that are cut, and a statement that waits too long: the loop goes on."""
    monkeypatch.setattr("app.worker.loop.LONG_TICK", 0.1)
    database = Database(Settings(database_url=database_url, secret=SECRET, environment="test", statement_timeout=1))
    await database.open()
    failed = 0
    try:
        yard.worker = Worker(database, [yard.target], [LEDGERED], KEPT, read_clock=yard.read_clock)
        step = yard.worker.step

        async def watched() -> None:
            nonlocal failed
            try:
                await step()
            except Exception:
                failed += 1
                raise

        monkeypatch.setattr(yard.worker, "step", watched)
        task = await running(yard)
        for _ in range(3):
            await cut(yard.world)
        async with blocked(yard.world, "synchronization", "ACCESS EXCLUSIVE"), asyncio.timeout(60):
            before = failed
            while failed < before + 2:  # noqa: ASYNC110 - a tick that waits too long tells nobody
                await asyncio.sleep(0.02)
        assert not task.done(), "the worker died"
        await edited(yard, "V-01", mileage=4)
        async with asyncio.timeout(30):
            while await yard.states() != ["synced"]:
                yard.world.clock.move(seconds=31)  # jobs pause after a defect
                await asyncio.sleep(0.1)
        yard.worker.stopping.set()
        async with asyncio.timeout(10):
            await task
    finally:
        await database.close()
