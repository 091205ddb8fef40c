"""Pull: upstream's rows into the mirror, exactly what differs, and everybody's drafts brought up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.base.errors import Culprit, DatabaseUnavailable
from app.upstream.protocol import Broken, Capabilities, Failed, Refused, Row, Unavailable
from app.worker.guards import Shares
from app.worker.pull import pull
from app.worker.push import push
from tests.support.ledger import Ledger
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import User, ids
from tests.test_outage import blocked, cut, waiting


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of seven vehicles, read three at a time; what always holds is looked at in the end."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 8)})
    async with open_yard(database_url, ledger, shares=Shares(deletions=0.5)) as yard:
        yield yard
        await yard.check()


async def last_run(yard: Yard) -> dict[str, Any]:
    return (await yard.runs())[-1]


# -- what differs ------------------------------------------------------------------------------------------------------


async def test_the_first_pull_brings_everything(yard: Yard) -> None:
    await yard.work()
    assert await yard.mirror() == yard.ledger.rows
    (run,) = await yard.runs()
    assert (run["state"], run["whole"], run["rows_read"], run["inserted"]) == ("succeeded", True, 7, 7)


async def test_nothing_is_written_for_rows_that_did_not_change(yard: Yard) -> None:
    """No row version, no revision, no history; the same of a full pull and of one of what is new."""
    await yard.work()
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 1})
    etag = (await ann.get("rows")).headers["ETag"]

    async def versions() -> list[Any]:
        tables = ("fleet.mirror", "fleet.history", "fleet.modification", "dataset", "workspace")
        return [
            await yard.world.db.fetch(f"SELECT xmin::text, x::text FROM {table} AS x ORDER BY 2") for table in tables
        ]

    before = await versions()
    for hours, whole in ((1, False), (24, True)):
        await yard.later(hours=hours)
        run = await last_run(yard)
        assert (run["whole"], run["rows_read"], run["unchanged"]) == (whole, 7, 7)
        assert await versions() == before
    assert (await ann.get("rows")).headers["ETag"] == etag


async def test_a_pull_of_what_is_new_reads_that_and_an_overlap(yard: Yard) -> None:
    """Given one row that is an hour younger than the others, then two pulls later it alone is read."""
    await yard.work()
    yard.ledger.at = yard.world.clock()
    yard.ledger.put("V-3", mileage=999)
    for read in (7, 1):
        await yard.later(hours=1)
        run = await last_run(yard)
        assert (run["whole"], run["rows_read"]) == (False, read)
    assert (await yard.mirror())["V-3"]["mileage"] == 999


async def test_only_changed_fields_are_told_by_the_history(yard: Yard) -> None:
    await yard.work()
    yard.ledger.put("V-3", mileage=Decimal("0.10"), seats=None)
    await yard.later(minutes=15)
    (entry,) = await yard.world.db.fetch("SELECT * FROM fleet.history ORDER BY revision DESC LIMIT 1")
    assert (entry["row_key"], entry["op"], entry["source"], entry["actor"]) == ("V-3", "update", "pull", None)
    assert msgspec.json.decode(entry["after"]) == {"mileage": 0.10, "seats": None}
    assert '"mileage": 0.10' in entry["after"]


async def test_numbers_that_are_equal_are_no_change(yard: Yard) -> None:
    await yard.work()
    revision = await yard.revision()
    yard.ledger.put("V-3", mileage=Decimal("300.000"))
    await yard.later(minutes=15)
    assert await yard.revision() == revision


async def test_an_upstream_that_cannot_tell_what_is_new_is_pulled_whole(yard: Yard) -> None:
    yard.ledger.capabilities = Capabilities(incremental=False, inserts=True, deletes=True, assigns_keys=True)
    for _ in range(2):
        await yard.later(minutes=15)
        assert (await last_run(yard))["whole"]


async def test_a_row_that_comes_twice_in_one_pull_is_as_it_came_last(yard: Yard) -> None:
    """Given a page that has a row of a later one, too, as it was before; the later one was asked for meanwhile."""
    await yard.work()
    yard.ledger.strays = [Row(key="V-7", document=van(plate="V-7", mileage=1))]
    await yard.later(days=1)
    assert (await yard.mirror())["V-7"]["mileage"] == 700
    assert (await last_run(yard))["left_alone"] == 0


# -- quarantine --------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "no such value": ({"kind": "Boat"}, ("kind", "INVALID_ENUM_VALUE")),
    "too small": ({"mileage": -1}, ("mileage", "INVALID_RANGE")),
    "too large": ({"seats": 201}, ("seats", "INVALID_RANGE")),
    "another type": ({"seats": "four"}, ("seats", "INVALID_TYPE")),
    "a fraction of a seat": ({"seats": Decimal("1.5")}, ("seats", "INVALID_TYPE")),
    "no day": ({"inspectedOn": "2026-02-30"}, ("inspectedOn", "INVALID_TYPE")),
    "not true or false": ({"leased": 1}, ("leased", "INVALID_TYPE")),
    "a long text": ({"remark": "x" * 2001}, ("remark", "INVALID_RANGE")),
    "a text too long for an index": ({"depot": "ä" * 300}, ("depot", "INVALID_RANGE")),
    "NUL in a text": ({"remark": "a\0b"}, ("remark", "INVALID_TYPE")),
    "a huge exponent": ({"mileage": Decimal("1e400000")}, ("mileage", "INVALID_RANGE")),
    "a tiny exponent": ({"mileage": Decimal("1e-400000")}, ("mileage", "INVALID_RANGE")),
    "many digits": ({"mileage": 10**4000}, ("mileage", "INVALID_RANGE")),
    "not a number": ({"mileage": Decimal("NaN")}, ("mileage", "INVALID_RANGE")),
    "an unknown field": ({"wheels": 4}, ("wheels", "UNKNOWN_FIELD")),
    "an unknown field with a strange name": ({"wh\0eels" * 20: 4}, (("wh\ufffdeels" * 20)[:80], "UNKNOWN_FIELD")),
    "something inside": ({"remark": {"a": [1, {"\0": "\0"}, Decimal("1e400000")]}}, ("remark", "INVALID_TYPE")),
}


async def test_rows_that_break_the_contract_are_put_aside_with_the_reason(yard: Yard) -> None:
    """The others come in; the mirror's rows are neither changed nor deleted; mended, they come in by themselves."""
    for name in BROKEN:
        yard.ledger.put(name, **van())
    await yard.work()
    good = {name: dict(yard.ledger.rows[name]) for name in BROKEN}
    for name, (fields, _) in BROKEN.items():
        yard.ledger.put(name, **fields)
    yard.ledger.put("V-5", mileage=555)
    expected = yard.ledger.rows | good
    for step in ({"minutes": 15}, {"days": 1}):
        await yard.later(**step)
        assert await yard.mirror() == expected
        assert await yard.quarantine() == {name: [reason] for name, (_, reason) in BROKEN.items()}
        run = await last_run(yard)
        assert (run["state"], run["quarantined"], run["deleted"]) == ("succeeded", len(BROKEN), 0)
    yard.ledger.rows |= good
    for name in BROKEN:
        yard.ledger.put(name, mileage=444)
    await yard.later(minutes=15)
    assert await yard.quarantine() == {}
    assert await yard.mirror() == yard.ledger.rows


async def test_a_new_row_that_is_broken_comes_in_once_it_is_mended(yard: Yard) -> None:
    """Whether the adapter found the reason or the contract, and though nothing tells that it was mended."""
    yard.ledger.broken["V-2"] = "mileage"
    yard.ledger.put("V-3", kind="Boat")
    await yard.work()
    assert await yard.quarantine() == {
        "V-2": [("mileage", "INVALID_TYPE")], "V-3": [("kind", "INVALID_ENUM_VALUE")],
    }  # fmt: skip
    assert sorted(await yard.mirror()) == ["V-1", "V-4", "V-5", "V-6", "V-7"]
    first = await yard.world.db.fetchval("SELECT first_seen_at FROM quarantine WHERE row_key = 'V-2'")
    await yard.later(hours=1)
    (seen,) = await yard.world.db.fetch("SELECT first_seen_at, last_seen_at FROM quarantine WHERE row_key = 'V-2'")
    assert tuple(seen) == (first, first + timedelta(hours=1))
    # Mended without a new time of modification, as a defect of the adapter is.
    yard.ledger.broken.clear()
    yard.ledger.rows["V-3"]["kind"] = "Van"
    await yard.later(days=1)
    assert await yard.quarantine() == {}
    assert await yard.mirror() == yard.ledger.rows


KEYS = ("", "V\0", "V-\n1", "V" * 201)


async def test_rows_whose_key_cannot_be_one_are_put_aside(yard: Yard) -> None:
    yard.ledger.strays = [Row(key=key, document=van(plate=key)) for key in KEYS]
    for _ in range(2):
        await yard.later(days=1)
        found = await yard.quarantine()
        assert len(found) == len(KEYS)
        assert all(key.startswith("(unusable id) ") and ("plate", "INVALID_ID") in found[key] for key in found)
    assert await yard.mirror() == yard.ledger.rows
    yard.ledger.strays = []
    await yard.later(days=1)
    assert await yard.quarantine() == {}


async def test_rows_without_a_key_are_told_apart_by_what_was_received(yard: Yard) -> None:
    reason = Culprit(id=None, field="plate", code="MISSING", message="It has no plate.")
    yard.ledger.strays = [
        Broken(key=None, reasons=(reason,), received={"mileage": "1\0", "n": Decimal("1e400000")}),
        Broken(key=None, reasons=(reason,), received={"mileage": "2"}),
        Broken(key="V\0", reasons=(reason,), received={"mileage": "3"}),
    ]
    await yard.later(days=1)
    before = await yard.quarantine()
    assert len(before) == 3
    await yard.later(days=1)
    assert await yard.quarantine() == before
    assert (await last_run(yard))["quarantined"] == 3


async def test_quarantine_keeps_what_was_received_in_measure(yard: Yard) -> None:
    yard.ledger.put("V-1", remark="x" * 1_000_000, seats=Decimal("1e300"))
    await yard.work()
    received = msgspec.json.decode(await yard.world.db.fetchval("SELECT received FROM quarantine"))
    assert (len(received["remark"]), received["seats"]) == (2000, "1E+300")


# -- deletions ---------------------------------------------------------------------------------------------------------


async def test_deletions_are_found_by_a_full_pull_alone(yard: Yard) -> None:
    await yard.work()
    yard.ledger.remove("V-4")
    await yard.later(minutes=15)
    assert "V-4" in await yard.mirror()
    await yard.later(days=1)
    assert await yard.mirror() == yard.ledger.rows
    assert (await last_run(yard))["deleted"] == 1
    (entry,) = await yard.world.db.fetch("SELECT * FROM fleet.history ORDER BY revision DESC LIMIT 1")
    assert (entry["op"], entry["source"], msgspec.json.decode(entry["before"])["mileage"]) == ("delete", "pull", 400)


async def filled(yard: Yard, number: int = 20) -> None:
    """So many vehicles, one in ten of which may go at once, all pulled."""
    for place in range(number):
        yard.ledger.put(f"W-{place:02}", **van())
    for key in [key for key in yard.ledger.rows if key.startswith("V")]:
        yard.ledger.remove(key)
    yard.target = msgspec.structs.replace(yard.target, shares=Shares(deletions=0.1))
    yard.worker = yard.new_worker()
    await yard.work()


async def test_as_many_as_may_go_at_once_go(yard: Yard) -> None:
    await filled(yard)
    for key in ("W-03", "W-04"):
        yard.ledger.remove(key)
    await yard.later(days=1)
    assert len(await yard.mirror()) == 18


async def test_a_row_whose_key_cannot_be_read_is_not_taken_for_gone(yard: Yard) -> None:
    """Given two rows that do not come and one without a key, then nobody knows which it is, and both stay until that
    is mended upstream.
    """
    await filled(yard)
    kept = yard.ledger.rows["W-03"]
    yard.ledger.remove("W-03")
    yard.ledger.remove("W-04")
    reason = Culprit(id=None, field="plate", code="MISSING", message="It has no plate.")
    yard.ledger.strays = [Broken(key=None, reasons=(reason,), received={"mileage": "300"})]
    await yard.later(days=1)
    assert {"W-03", "W-04"} <= (await yard.mirror()).keys()
    assert ((await last_run(yard))["state"], (await last_run(yard))["deleted"]) == ("succeeded", 0)
    yard.ledger.strays = []
    yard.ledger.put("W-03", **kept)
    await yard.later(days=1)
    assert await yard.mirror() == yard.ledger.rows


async def test_more_deletions_than_may_be_at_once_stop_the_run(yard: Yard) -> None:
    """What else the pull brought is there; each later pull says so again, until a person has looked."""
    await filled(yard)
    for key in ("W-03", "W-04", "W-05"):
        yard.ledger.remove(key)
    yard.ledger.put("W-06", mileage=6)
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["state"], run["error_code"], run["deleted"]) == ("failed", "TOO_MANY_DELETIONS", 0)
    assert run["error"].startswith("3 of 20 rows")
    mirror = await yard.mirror()
    assert (len(mirror), mirror["W-06"]["mileage"]) == (20, 6)
    await yard.later(hours=1)
    assert (await last_run(yard))["error_code"] == "TOO_MANY_DELETIONS"
    yard.worker = yard.new_worker(shares=Shares(deletions=0.2))
    await yard.later(hours=1)
    assert await yard.mirror() == yard.ledger.rows


async def test_an_empty_answer_deletes_nothing(yard: Yard) -> None:
    await filled(yard)
    yard.ledger.rows.clear()
    await yard.later(days=1)
    assert (await last_run(yard))["error_code"] == "TOO_MANY_DELETIONS"
    assert len(await yard.mirror()) == 20


async def test_the_share_counts_all_that_a_resumed_pull_has_seen(yard: Yard) -> None:
    """Given a full pull that was stopped after its first page, then the next worker knows what that page had."""
    await filled(yard)
    yard.ledger.remove("W-19")
    yard.world.clock.move(days=1)
    yard.ledger.before["page"] = [stop(yard)]
    await yard.work()
    assert (await last_run(yard))["state"] == "running"
    yard.worker = yard.new_worker()
    await yard.work()
    run = await last_run(yard)
    assert (run["state"], run["deleted"], run["rows_read"]) == ("succeeded", 1, 19)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_row_that_a_push_inserts_during_a_full_pull_stays(yard: Yard) -> None:
    """Given a new row that sorts before the page under way, when it is pushed meanwhile, then it is not missing."""
    await yard.work()
    ann = await yard.user("ann")
    await ann.draft("A-1", {"plate": "A-1", "depot": "South", "kind": "Van"}, op="insert")
    await ann.commit()

    async def push() -> None:
        await alone(yard, "push")

    yard.world.clock.move(days=1)
    yard.ledger.before["page"] = [nothing, push]
    await alone(yard, "pull")
    assert await yard.states() == ["synced"]
    assert await yard.mirror() == yard.ledger.rows
    assert "A-1" in yard.ledger.rows


# -- rows with a change on its way -------------------------------------------------------------------------------------


async def nothing() -> None:
    """A hook that does nothing."""


async def alone(yard: Yard, job: str) -> None:
    """One pull or push and nothing else, whether it is due or not."""
    if job == "pull":
        assert await pull(yard.database, yard.target, yard.read_clock, asyncio.Event())
    else:
        assert await push(yard.database, yard.target, yard.read_clock, lambda: 1.0, asyncio.Event())


def stop(yard: Yard) -> Any:
    """Tells the worker to stop, in the middle of what it does."""

    async def hook() -> None:
        yard.worker.stopping.set()

    return hook


async def committed(yard: Yard, key: str = "V-1", name: str = "ann", **delta: Any) -> User:
    """Somebody's committed edit."""
    user = yard.users.get(name) or await yard.user(name)
    await user.draft(key, delta or {"mileage": 150})
    assert (await user.commit(key)).status_code == 200
    return user


@pytest.mark.parametrize("state", ["committed", "syncing"])
async def test_a_row_with_a_change_on_its_way_is_left_alone(yard: Yard, state: str) -> None:
    """And comes as soon as the change is over, although upstream does not tell of it again."""
    await yard.work()
    yard.ledger.at = yard.world.clock()
    await committed(yard)
    if state == "syncing":
        claim = "UPDATE fleet.change SET state = 'syncing', claim_id = gen_random_uuid(), lease_until = $1"
        await yard.world.db.execute(claim, yard.world.clock() + timedelta(hours=1))
    await yard.world.db.execute("UPDATE fleet.modification SET pending_state = $1", state)
    yard.ledger.put("V-1", mileage=111)
    yard.ledger.remove("V-7")
    await committed(yard, "V-7", mileage=777)
    yard.world.clock.move(minutes=30)
    yard.ledger.at = yard.world.clock()
    yard.ledger.put("V-2", mileage=222)
    await alone(yard, "pull")
    assert (await yard.mirror())["V-1"]["mileage"] == 100
    assert (await last_run(yard))["left_alone"] == 1
    yard.world.clock.move(days=1)
    await alone(yard, "pull")
    assert "V-7" in await yard.mirror()
    assert (await last_run(yard))["deleted"] == 0
    await yard.world.db.execute(
        "UPDATE fleet.change SET state = 'discarded', settled_at = $1, claim_id = NULL, lease_until = NULL",
        yard.world.clock(),
    )
    await yard.world.db.execute("DELETE FROM fleet.modification")
    yard.world.clock.move(minutes=15)
    await alone(yard, "pull")
    assert (await yard.mirror())["V-1"]["mileage"] == 111


async def test_what_was_left_alone_under_a_refused_change_comes_with_the_next_pull(yard: Yard) -> None:
    """Given a row that upstream changed long ago when a pull had to leave it alone, and the change is refused."""
    await yard.work()
    yard.ledger.at = yard.world.clock()
    await committed(yard)
    yard.ledger.put("V-1", seats=9)
    yard.world.clock.move(hours=1)
    yard.ledger.at = yard.world.clock()
    yard.ledger.put("V-2", mileage=222)
    yard.ledger.failures["write"] = [Refused("No")]
    await alone(yard, "pull")
    await alone(yard, "push")
    assert await yard.states() == ["sync_error"]
    yard.world.clock.move(minutes=15)
    await alone(yard, "pull")
    assert (await yard.mirror())["V-1"]["seats"] == 9


async def test_a_change_that_waits_behind_a_refused_one_does_not_hold_up_the_row(yard: Yard) -> None:
    """It waits for a person, for days: pulls go on, updates and deletions."""
    await yard.work()
    yard.ledger.failures["write"] = [Refused("No"), Refused("No")]
    for key in ("V-1", "V-2"):
        await committed(yard, key, seats=9)
    await alone(yard, "push")
    for key in ("V-1", "V-2"):
        await committed(yard, key, "bob", mileage=150)
    assert await yard.states() == ["sync_error", "sync_error", "committed", "committed"]
    yard.ledger.put("V-1", depot="South")
    yard.ledger.remove("V-2")
    yard.world.clock.move(days=1)
    await alone(yard, "pull")
    mirror = await yard.mirror()
    assert (mirror["V-1"]["depot"], "V-2" in mirror) == ("South", False)
    bob = yard.users["bob"]
    assert (await yard.users["ann"].discard()).status_code == 200
    await yard.work()
    assert await yard.states() == ["discarded", "discarded", "synced", "conflict"]
    (conflict,) = (await bob.row("V-2"))["conflicts"]
    assert (conflict["field"], conflict["theirs"], conflict["mine"]["depot"]) == (None, None, "North")


async def test_a_change_under_review_does_not_hold_up_a_pull(yard: Yard) -> None:
    await yard.work()
    for key in ("V-1", "V-7"):
        await committed(yard, key, mileage=150)
    await yard.world.db.execute("UPDATE fleet.change SET state = 'in_review'")
    await yard.world.db.execute("UPDATE fleet.modification SET pending_state = 'in_review'")
    yard.ledger.put("V-1", seats=9)
    yard.ledger.remove("V-7")
    yard.world.clock.move(days=1)
    await alone(yard, "pull")
    assert await yard.mirror() == yard.ledger.rows
    base = msgspec.json.decode(await yard.world.db.fetchval("SELECT base FROM fleet.change WHERE row_key = 'V-7'"))
    assert (base["depot"], base["mileage"]) == ("North", 700)


async def test_a_page_that_is_older_than_a_push_does_not_undo_it(yard: Yard) -> None:
    """Given a page under way while a change of its row is pushed and settled, then what the page has is left alone."""
    await yard.work()
    await committed(yard)

    async def push() -> None:
        await alone(yard, "push")

    yard.ledger.after["page"] = [push]
    yard.world.clock.move(days=1)
    await alone(yard, "pull")
    assert (await yard.mirror())["V-1"]["mileage"] == 150
    assert (await yard.states(), (await last_run(yard))["left_alone"]) == (["synced"], 1)
    revisions = await yard.world.db.fetchval("SELECT count(*) FROM fleet.history WHERE row_key = 'V-1'")
    assert revisions == 2


async def test_a_page_that_is_older_than_a_pushed_deletion_does_not_bring_the_row_back(yard: Yard) -> None:
    await yard.work()
    ann = await yard.user("ann")
    await ann.draft("V-1", op="delete")
    await ann.commit()

    async def push() -> None:
        await alone(yard, "push")

    yard.ledger.after["page"] = [push]
    yard.world.clock.move(days=1)
    await alone(yard, "pull")
    assert await yard.mirror() == yard.ledger.rows
    assert await yard.states() == ["synced"]


# -- drafts ------------------------------------------------------------------------------------------------------------


async def test_drafts_of_everybody_are_where_they_belong_right_after_a_pull(yard: Yard) -> None:
    """Given drafts of several users, when rows move, come and go, then lists, totals and KPIs are exact at once."""
    await yard.work()
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await ann.draft("V-1", {"depot": "South"})
    await ann.draft("V-2", {"remark": "x"})
    await ann.draft("V-3", op="delete")
    await ann.draft("N-1", {"depot": "East", "kind": "Bus", "seats": 50}, op="insert")
    await bob.draft("V-1", {"mileage": 50})
    await bob.draft("V-2", {"seats": 9})
    yard.ledger.put("V-1", mileage=10_000)
    yard.ledger.put("V-2", depot="West", mileage=0)
    yard.ledger.put("V-8", **van(mileage=1))
    await yard.later(minutes=15)
    assert ids(await ann.rows(sort="mileage")) == ["V-2", "V-8", "V-4", "V-5", "V-6", "V-7", "V-1", "N-1"]
    assert ids(await bob.rows(sort="mileage")) == ["V-2", "V-8", "V-1", "V-3", "V-4", "V-5", "V-6", "V-7"]
    assert (await ann.page(depot="South"))["pagination"]["totalRecords"] == 1
    assert ids(await ann.rows(depot="West")) == ["V-2"]
    assert (await bob.row("V-1"))["syncState"] == "conflict"
    await yard.check()


async def test_a_cell_that_differs_three_ways_becomes_a_conflict_and_goes_with_it(yard: Yard) -> None:
    await yard.work()
    ann = await yard.user("ann")
    await ann.draft("V-1", {"mileage": 150, "seats": 4})
    yard.ledger.put("V-1", mileage=111)
    await yard.later(minutes=15)
    row = await ann.row("V-1")
    assert row["conflicts"] == [{"id": "V-1", "field": "mileage", "base": 100, "theirs": 111, "mine": 150}]
    assert ((await last_run(yard))["conflicts"], row["syncState"]) == (1, "conflict")
    yard.ledger.put("V-1", mileage=112)
    await yard.later(minutes=15)
    assert (await last_run(yard))["conflicts"] == 0, "it was one already"
    yard.ledger.put("V-1", mileage=100)
    await yard.later(minutes=15)
    row = await ann.row("V-1")
    assert (row["conflicts"], row["syncState"]) == ([], "draft")


async def test_a_row_that_is_deleted_under_drafts_is_kept_for_them(yard: Yard) -> None:
    """An edit can be inserted again, a drafted deletion has come true."""
    await yard.work()
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await ann.draft("V-1", {"mileage": 150})
    await bob.draft("V-1", op="delete")
    yard.ledger.remove("V-1")
    await yard.later(days=1)
    (conflict,) = (await ann.row("V-1"))["conflicts"]
    assert (conflict["field"], conflict["theirs"], conflict["mine"]["mileage"]) == (None, None, 150)
    assert conflict["mine"]["depot"] == "North"
    assert (await last_run(yard))["conflicts"] == 1
    assert (await bob.get("rows/V-1")).status_code == 404
    yard.ledger.put("V-1", **van(mileage=100))
    await yard.later(minutes=15)
    assert (await ann.row("V-1"))["syncState"] == "draft"


async def test_a_row_that_comes_under_a_draft_of_the_same_key_is_compared_with_it(yard: Yard) -> None:
    await yard.work()
    ann = await yard.user("ann")
    await ann.draft("V-9", {"depot": "South", "kind": "Van"}, op="insert")
    yard.ledger.put("V-9", **van(depot="North"))
    await yard.later(minutes=15)
    assert [conflict["field"] for conflict in (await ann.row("V-9"))["conflicts"]] == ["depot"]


# -- time --------------------------------------------------------------------------------------------------------------


async def test_a_row_from_the_future_hides_no_other(yard: Yard) -> None:
    yard.ledger.marks["V-7"] = datetime(2099, 1, 1, tzinfo=UTC)
    await yard.work()
    for number in range(3):
        yard.world.clock.move(minutes=15)
        yard.ledger.at = yard.world.clock()
        yard.ledger.put("V-3", mileage=number)
        await yard.work()
        assert (await yard.mirror())["V-3"]["mileage"] == number


@pytest.mark.parametrize("hours", [-5, 5])
async def test_upstreams_clock_may_be_wrong_by_hours(yard: Yard, hours: int) -> None:
    offset = timedelta(hours=hours)
    yard.ledger.marks = dict.fromkeys(yard.ledger.rows, yard.world.clock() + offset)
    await yard.work()
    for number in range(12):
        yard.ledger.at = yard.world.clock() + offset
        if number not in (3, 4, 5, 6):
            yard.ledger.put(f"V-{number % 3 + 1}", mileage=number)
        await yard.later(minutes=15)
        assert await yard.mirror() == yard.ledger.rows


@pytest.mark.parametrize("hours", [-5, 0, 5])
async def test_what_is_changed_during_a_long_pull_comes_with_the_next(yard: Yard, hours: int) -> None:
    """Given a pull of an hour, and a row that is changed on a page that it has behind it, whatever upstream's clock."""

    async def changed(key: str) -> None:
        yard.world.clock.move(minutes=20)
        yard.ledger.at = yard.world.clock() + timedelta(hours=hours)
        yard.ledger.put(key, mileage=4242)

    yard.ledger.marks = dict.fromkeys(yard.ledger.rows, yard.world.clock() + timedelta(hours=hours, minutes=-5))
    yard.ledger.after["page"] = [lambda: changed("V-1"), lambda: changed("V-7")]
    await yard.work()
    assert (await yard.mirror())["V-1"]["mileage"] == 100
    yard.world.clock.move(minutes=15)
    await yard.work()
    assert (await yard.mirror())["V-1"]["mileage"] == 4242


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_page_that_fails_is_asked_for_again(yard: Yard, hasty: None) -> None:
    yard.ledger.failures["page"] = [
        Unavailable("Nobody is there"), Failed("No JSON"), Unavailable("Busy", retry_after=30), Failed("500"),
    ]  # fmt: skip
    await yard.work()
    assert await yard.mirror() == yard.ledger.rows
    assert (await last_run(yard))["state"] == "succeeded"


async def test_a_page_that_fails_for_ever_ends_the_run_and_the_next_comes_later_each_time(
    yard: Yard, hasty: None
) -> None:
    """Twice as late each time, never later than the schedule; one success, and all is as before."""
    waits = []
    for number in range(7):
        yard.ledger.failures["page"] = [Failed("Out of order\0") for _ in range(5)]
        await yard.work()
        run, standing = await last_run(yard), await yard.standing()
        assert (run["state"], run["error_code"], run["error"]) == ("failed", "UPSTREAM_FAILED", "Out of order")
        assert standing["pull_failures"] == number + 1
        waits.append((standing["next_pull_at"] - yard.world.clock()).total_seconds())
        yard.world.clock.move(minutes=20)
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    await yard.work()
    standing = await yard.standing()
    assert (standing["pull_failures"], standing["failures"], standing["open_until"]) == (0, 0, None)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_failed_pull_keeps_what_its_first_pages_brought(yard: Yard, hasty: None) -> None:
    async def fail() -> None:
        yard.ledger.failures["page"] = [Unavailable("401") for _ in range(5)]

    yard.ledger.after["page"] = [fail]
    await yard.work()
    assert sorted(await yard.mirror()) == ["V-1", "V-2", "V-3"]
    assert (await last_run(yard))["error_code"] == "UPSTREAM_UNAVAILABLE"
    await yard.later(minutes=1)
    assert await yard.mirror() == yard.ledger.rows


async def test_an_upstream_that_wants_to_be_left_alone_is(yard: Yard, hasty: None) -> None:
    """A pull does not wait for minutes in the middle: it ends, and nobody asks before the time that upstream named."""
    yard.ledger.failures["page"] = [Unavailable("Too many requests", retry_after=600)]
    await yard.work()
    calls = len(yard.ledger.calls)
    assert calls == 1
    await yard.later(seconds=599)
    assert len(yard.ledger.calls) == calls
    await yard.later(seconds=1)
    assert await yard.mirror() == yard.ledger.rows


@pytest.mark.parametrize("seconds", [86400.0 * 3650, 1e18])
async def test_upstream_cannot_ask_to_be_left_alone_for_years(yard: Yard, hasty: None, seconds: float) -> None:
    yard.ledger.failures["page"] = [Unavailable("Come back later", retry_after=seconds)]
    await yard.work()
    await yard.later(hours=1)
    assert await yard.mirror() == yard.ledger.rows


# -- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [1, 2, 3])
async def test_a_stopped_pull_is_resumed_by_the_next_worker(yard: Yard, asked: int) -> None:
    """Given a worker that is told to stop while it asks for this page, then the next goes on in the same run."""
    yard.ledger.before["page"] = [*[nothing] * (asked - 1), stop(yard)]
    await yard.work()
    (run,) = await yard.runs()
    assert (run["state"], run["rows_read"] % 3, run["rows_read"] < 7) == ("running", 0, True)
    yard.ledger.remove("V-1")
    yard.ledger.put("V-8", **van())
    yard.worker = yard.new_worker()
    await yard.work()
    runs = await yard.runs()
    assert (len(runs), runs[0]["state"]) == (1, "succeeded")
    await yard.later(days=1)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_pull_that_is_cancelled_while_it_waits_for_upstream_is_resumed(yard: Yard) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reached.set()
        await never.wait()

    yard.ledger.before["page"] = [nothing, hang]
    await yard.worker.step()
    (task,) = (task for name, task in yard.worker._running.items() if name[0] == "pull")
    await reached.wait()
    await cancelled(task)
    assert (await last_run(yard))["state"] == "running"
    await resumed(yard)
    assert await yard.mirror() == yard.ledger.rows
    assert len(await yard.runs()) == 1


async def test_a_pull_that_is_cancelled_in_the_middle_of_a_page_leaves_nothing_half_done(yard: Yard) -> None:
    async with blocked(yard.world, "fleet.mirror", "SHARE"):
        await yard.worker.step()
        (task,) = (task for name, task in yard.worker._running.items() if name[0] == "pull")
        await waiting(yard.world, task)
        await cancelled(task)
    (run,) = await yard.runs()
    assert (run["state"], run["rows_read"], await yard.mirror()) == ("running", 0, {})
    await resumed(yard)
    assert await yard.mirror() == yard.ledger.rows
    assert len(await yard.runs()) == 1


async def resumed(yard: Yard) -> None:
    """Work until the run is over: its lock goes with the connection that had it, a moment later. A step that finds the
    database away is followed by the next, as in the worker's loop.
    """
    async with asyncio.timeout(60):
        while (await last_run(yard))["state"] == "running":
            with suppress(DatabaseUnavailable):
                await yard.work()


async def cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_pull_whose_connection_is_cut_is_resumed(yard: Yard) -> None:
    async with blocked(yard.world, "fleet.mirror", "SHARE"):
        await yard.worker.step()
        (task,) = (task for name, task in yard.worker._running.items() if name[0] == "pull")
        await waiting(yard.world, task)
        # What waits first may be the refresh of KPIs.
        while not await yard.runs():  # noqa: ASYNC110
            await asyncio.sleep(0)
        await cut(yard.world)
        await yard.worker.idle()
    (run,) = await yard.runs()
    assert (run["state"], run["rows_read"], await yard.mirror()) == ("running", 0, {})
    await resumed(yard)
    assert await yard.mirror() == yard.ledger.rows
    assert len(await yard.runs()) == 1


async def test_rows_that_vanish_between_two_pages_are_gone_after_the_next_full_pull(yard: Yard) -> None:
    async def vanish() -> None:
        yard.ledger.remove("V-2")
        yard.ledger.remove("V-5")

    yard.ledger.after["page"] = [vanish]
    await yard.work()
    assert sorted(await yard.mirror()) == ["V-1", "V-2", "V-3", "V-4", "V-6", "V-7"]
    await yard.later(days=1)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_full_pull_that_is_asked_for_while_the_run_begins_is_full(yard: Yard) -> None:
    """Given a run that waits, when it is made a full one just as a worker begins it, then that is not lost."""
    await yard.work()
    await yard.world.db.execute(
        "INSERT INTO sync_run (organization_id, id, dataset, kind, state, requested_by, requested_at)"
        " VALUES ('acme', gen_random_uuid(), 'fleet', 'pull', 'requested', 'ann', $1)",
        yard.world.clock(),
    )
    async with yard.world.db.acquire() as other, other.transaction():
        await other.execute("UPDATE sync_run SET whole = TRUE WHERE state = 'requested'")
        await yard.worker.step()
        (task,) = (task for name, task in yard.worker._running.items() if name[0] == "pull")
        await waiting(yard.world, task)
    await yard.worker.idle()
    assert (await last_run(yard))["whole"]
    assert (await last_run(yard))["since"] is None


async def test_a_pull_that_was_asked_for_is_done_at_once(yard: Yard) -> None:
    await yard.work()
    yard.ledger.put("V-1", mileage=1)
    await yard.world.db.execute(
        "INSERT INTO sync_run (organization_id, id, dataset, kind, whole, state, requested_by, requested_at)"
        " VALUES ('acme', gen_random_uuid(), 'fleet', 'pull', TRUE, 'requested', 'ann', $1)",
        yard.world.clock(),
    )
    await yard.later(seconds=1)
    run = await last_run(yard)
    assert (run["state"], run["whole"], run["requested_by"], run["updated"]) == ("succeeded", True, "ann", 1)
