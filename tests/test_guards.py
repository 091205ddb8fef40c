"""Pulls go by evidence: no more at once than is plausible, and nothing is deleted that may still be there."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from app.upstream.protocol import Failed, Row, Unavailable
from app.web.auth import Role
from app.worker.guards import Shares
from tests.support.ledger import Ledger
from tests.support.syncing import Yard, open_yard, van

MANY = 200  # rows of the mirror
SHARES = Shares(deletions=0.6, inserts=0.6, changes=0.6, quarantine=0.6)


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of two hundred vehicles, fifty a page, all in the mirror. More than 60 % may do nothing at once."""
    ledger = Ledger("plate", {f"V-{number:03}": van() for number in range(MANY)}, page_size=50)
    async with open_yard(database_url, ledger, shares=SHARES) as yard:
        await yard.work()
        yield yard
        await yard.check()


async def last_run(yard: Yard) -> dict[str, Any]:
    return (await yard.runs())[-1]


async def allow(yard: Yard, *kinds: str) -> None:
    """An administrator lets one full pull pass."""
    boss = await yard.user("boss", role=Role.ADMIN)
    asked = await boss.post("sync/pull", {"full": True, "allow": list(kinds)})
    assert asked.status_code == 202, asked.text
    await yard.later(seconds=1)


def pad(yard: Yard) -> None:
    """Every id comes with a blank more."""
    for key in list(yard.ledger.rows):
        yard.ledger.put(f"{key}x", **{name: value for name, value in yard.ledger.rows[key].items() if name != "plate"})
        yard.ledger.remove(key)


# -- mass --------------------------------------------------------------------------------------------------------------


async def test_ids_that_are_all_new_stop_the_pull(yard: Yard) -> None:
    """What stands is said and stays little; watermark and lag are as before; each later pull says so again."""
    before = await yard.standing()
    pad(yard)
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["state"], run["error_code"], run["inserted"]) == ("failed", "TOO_MANY_INSERTS", 100)
    assert "150 of 200 rows would be new" in run["error"]
    assert "100 new and 0 changed rows of earlier pages stand" in run["error"]
    assert '"allow": ["inserts"]' in run["error"]
    after = await yard.standing()
    assert [after[name] for name in ("watermark", "pulled_at", "pulled_whole_at")] == [
        before[name] for name in ("watermark", "pulled_at", "pulled_whole_at")
    ]
    await yard.later(hours=1)
    assert (await last_run(yard))["error_code"] == "TOO_MANY_INSERTS"
    assert (await last_run(yard))["inserted"] == 0, "failed pulls hand their counts on"
    assert len(await yard.mirror()) == MANY + 100


async def test_what_an_announced_total_says_is_counted_before_the_first_write(yard: Yard) -> None:
    for number in range(MANY, 2 * MANY):
        yard.ledger.put(f"V-{number:03}", **van())
    yard.ledger.total = 2 * MANY
    await yard.later(days=1)
    assert ((await last_run(yard))["error_code"], (await last_run(yard))["rows_read"]) == ("TOO_MANY_INSERTS", 0)
    assert len(await yard.mirror()) == MANY


async def test_what_is_announced_and_put_aside_already_is_not_new(database_url: str) -> None:
    """Given a first pull that put a quarter of the rows aside, then the next full one is no mass of new rows."""
    ledger = Ledger("plate", {f"V-{number:03}": van() for number in range(2 * MANY)}, page_size=50)
    ledger.broken = dict.fromkeys(list(ledger.rows)[:120], "depot")
    ledger.total = 2 * MANY
    async with open_yard(database_url, ledger) as yard:
        await yard.work()
        await yard.later(days=1)
        assert [run["state"] for run in await yard.runs()] == ["succeeded", "succeeded"]
        assert (len(await yard.mirror()), len(await yard.quarantine())) == (2 * MANY - 120, 120)


async def test_a_run_that_never_began_does_not_end_the_counting(yard: Yard) -> None:
    """Given a mass of new rows, and a run that is stopped while it waits, then the next one goes no further."""
    emil = await yard.user("emil", role=Role.ENGINEER)
    pad(yard)
    await yard.later(days=1)
    asked = (await emil.post("sync/pull", {})).json()["runId"]
    assert (await emil.request("POST", f"sync/runs/{asked}/stop")).status_code == 200
    await yard.later(hours=1)
    run = await last_run(yard)
    assert (run["error_code"], run["inserted"]) == ("TOO_MANY_INSERTS", 0)


async def test_a_page_that_is_too_much_leaves_nothing_behind(yard: Yard) -> None:
    yard.ledger.page_size = 1000
    yard.ledger.broken = dict.fromkeys(list(yard.ledger.rows)[:10], "depot")
    for number in range(MANY, 2 * MANY):
        yard.ledger.put(f"V-{number:03}", **van())
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["error_code"], run["rows_read"], await yard.quarantine()) == ("TOO_MANY_INSERTS", 0, {})
    assert await yard.world.db.fetchval("SELECT count(*) FROM fleet.pulled") == 0


async def test_rows_that_all_change_stop_the_pull(yard: Yard) -> None:
    for key in list(yard.ledger.rows):
        yard.ledger.put(key, mileage=1)
    await yard.later(hours=1)
    run = await last_run(yard)
    assert (run["state"], run["error_code"], run["updated"]) == ("failed", "TOO_MANY_CHANGES", 100)


async def test_a_column_that_is_gone_stops_the_pull_before_it_puts_everything_aside(yard: Yard) -> None:
    yard.ledger.broken = dict.fromkeys(yard.ledger.rows, "depot")
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["state"], run["error_code"], run["quarantined"]) == ("failed", "TOO_MANY_QUARANTINED", 100)
    assert "Most of them: It cannot be read." in run["error"]
    assert len(await yard.quarantine()) == 100


async def test_what_is_in_quarantine_already_counts_no_more(yard: Yard) -> None:
    yard.ledger.broken = dict.fromkeys(list(yard.ledger.rows)[:110], "depot")
    await yard.later(days=1)
    assert (await last_run(yard))["state"] == "succeeded"
    yard.ledger.broken |= dict.fromkeys(list(yard.ledger.rows)[110:150], "depot")
    await yard.later(days=1)
    assert ((await last_run(yard))["state"], len(await yard.quarantine())) == ("succeeded", 150)


@pytest.mark.parametrize("kinds", [("inserts", "deletions"), ("deletions", "changes", "inserts", "quarantine")])
async def test_an_administrator_lets_one_pull_pass(yard: Yard, kinds: tuple[str, ...]) -> None:
    pad(yard)
    await allow(yard, *kinds)
    assert (await last_run(yard))["state"] == "succeeded"
    assert await yard.mirror() == yard.ledger.rows
    pad(yard)
    await yard.later(days=1)
    assert (await last_run(yard))["error_code"] == "TOO_MANY_INSERTS"


async def test_what_is_allowed_is_allowed_alone(yard: Yard) -> None:
    yard.worker = yard.new_worker(shares=msgspec.structs.replace(SHARES, deletions=0.4))
    pad(yard)
    await allow(yard, "inserts")
    assert (await last_run(yard))["error_code"] == "TOO_MANY_DELETIONS"
    assert len(await yard.mirror()) == 2 * MANY


async def test_fewer_than_a_hundred_rows_may_always_come(yard: Yard) -> None:
    yard.worker = yard.new_worker(shares=Shares(deletions=0, inserts=0, changes=0, quarantine=0))
    for number in range(99):
        yard.ledger.put(f"W-{number}", **van())
    await yard.later(days=1)
    assert ((await last_run(yard))["state"], len(await yard.mirror())) == ("succeeded", MANY + 99)
    yard.ledger.put("X-1", **van())
    await yard.later(days=1)
    assert (await last_run(yard))["state"] == "succeeded"


async def test_a_share_of_all_means_any_number(yard: Yard, hasty: None) -> None:
    """Given pulls that fail, then the same rows change again and again, and that is no mass."""
    yard.worker = yard.new_worker(shares=Shares(changes=1))
    for number in range(3):
        for key in list(yard.ledger.rows):
            yard.ledger.put(key, mileage=number)
        yard.ledger.poison["page", None] = Unavailable("x")
        await yard.later(hours=1)
        yard.ledger.poison.clear()
        await yard.later(hours=1)
        assert (await last_run(yard))["error_code"] is None
    assert await yard.mirror() == yard.ledger.rows


async def test_a_first_pull_that_fails_midway_is_a_first_pull_still(database_url: str) -> None:
    """Given a mirror that is half filled by it, when the next one brings the rest, then that is no mass of new rows."""
    ledger = Ledger("plate", {f"V-{number:03}": van() for number in range(3 * MANY)}, page_size=250)
    async with open_yard(database_url, ledger, shares=Shares(inserts=0)) as yard:
        second: list[Exception] = []

        async def break_off() -> None:
            ledger.failures["page"] = [Unavailable("x", retry_after=600.0)]

        ledger.after["page"] = [break_off]
        await yard.work()
        assert ((await last_run(yard))["state"], second) == ("failed", [])
        assert 0 < len(await yard.mirror()) < 3 * MANY
        await yard.later(hours=1)
        assert await yard.mirror() == ledger.rows


# -- evidence ----------------------------------------------------------------------------------------------------------


async def test_nothing_is_deleted_after_a_list_that_upstream_contradicts(yard: Yard) -> None:
    yard.ledger.remove("V-007")
    yard.ledger.doubt = "It announced more than it sent."
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["state"], run["deleted"], run["doubt"]) == (
        "succeeded", 0, "It announced more than it sent. Nothing was deleted.",
    )  # fmt: skip
    assert "V-007" in await yard.mirror()
    yard.ledger.doubt = None
    await yard.later(days=1)
    assert ((await last_run(yard))["deleted"], (await last_run(yard))["doubt"]) == (1, None)


async def test_what_is_put_aside_stays_so_after_a_list_that_is_doubtful(yard: Yard) -> None:
    yard.ledger.broken = {"V-190": "depot"}
    await yard.later(days=1)
    del yard.ledger.rows["V-190"]
    yard.ledger.doubt = "It announced more than it sent."
    await yard.later(days=1)
    assert list(await yard.quarantine()) == ["V-190"]
    yard.ledger.doubt = None
    await yard.later(days=1)
    assert (await yard.quarantine(), "V-190" in await yard.mirror()) == ({}, False)


async def test_few_that_are_missing_are_looked_for_one_by_one(yard: Yard) -> None:
    """Given five rows that do not come of which two are there all the same, then three are deleted."""
    hidden = {key: yard.ledger.rows[key] for key in ("V-001", "V-199")}
    for key in ("V-001", "V-002", "V-003", "V-004", "V-199"):
        yard.ledger.remove(key)
    yard.ledger.hidden = set(hidden)
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["deleted"], run["doubt"]) == (
        3, "Of 5 rows that did not come, upstream has 2 all the same, or cannot say. They stay.",
    )  # fmt: skip
    assert hidden.keys() <= (await yard.mirror()).keys()


async def test_of_many_that_are_missing_some_are_looked_for(yard: Yard) -> None:
    """Given a list that is cut, then one row of those that are looked for is there, and nothing is deleted."""
    gone = list(yard.ledger.rows)[90:]
    for key in gone:
        yard.ledger.remove(key)
    yard.ledger.hidden = set(gone)
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["state"], run["deleted"]) == ("succeeded", 0)
    assert run["doubt"].endswith("Nothing was deleted.")
    assert yard.ledger.calls.count("exists") == 1
    yard.ledger.hidden = set()
    await yard.later(days=1)
    assert (await last_run(yard))["deleted"] == len(gone)


async def test_an_upstream_that_fails_at_the_second_look_deletes_nothing(yard: Yard) -> None:
    yard.ledger.remove("V-007")
    yard.ledger.failures["exists"] = [Unavailable("x")]
    await yard.later(days=1)
    assert ((await last_run(yard))["state"], "V-007" in await yard.mirror()) == ("failed", True)


async def test_a_row_that_cannot_be_looked_for_stays_and_holds_up_no_other(yard: Yard) -> None:
    for key in ("V-007", "V-008"):
        yard.ledger.remove(key)
    yard.ledger.poison["exists", "V-007"] = Failed("The record cannot be shown")
    await yard.later(days=1)
    run = await last_run(yard)
    assert (run["state"], run["deleted"], "V-007" in await yard.mirror()) == ("succeeded", 1, True)
    assert "upstream has 1 all the same, or cannot say" in run["doubt"]


async def test_an_id_that_comes_twice_is_put_aside(yard: Yard) -> None:
    """Nobody knows which of the two is meant: the mirror keeps what it had, and the next good pull mends it."""
    yard.ledger.put("V-010", mileage=1)
    yard.ledger.strays = [Row(key="V-010", document={"plate": "V-010", **van(mileage=2)})]
    await yard.later(days=1)
    assert await yard.quarantine() == {"V-010": [("plate", "DUPLICATE_ROW")]}
    assert (await yard.mirror())["V-010"]["mileage"] == 1000
    yard.ledger.strays = []
    await yard.later(days=1)
    assert (await yard.quarantine(), (await yard.mirror())["V-010"]["mileage"]) == ({}, 1)


# -- the watermark's witness -------------------------------------------------------------------------------------------


async def test_a_filter_that_leaves_out_what_it_should_bring_is_told_and_read_in_full(yard: Yard) -> None:
    """Given an upstream that takes the filter's time for a later one, then the pull of what is new says so, and the
    next one, at once, reads everything.
    """
    yard.ledger.put("V-005", mileage=5)
    yard.ledger.filters_late_by = timedelta(hours=5)
    await yard.later(minutes=16)
    run = await last_run(yard)
    assert (run["state"], run["error_code"], run["whole"]) == ("failed", "WATERMARK_ROW_MISSING", False)
    assert "V-199" in run["error"]
    await yard.later(seconds=1)
    assert ((await last_run(yard))["state"], (await last_run(yard))["whole"]) == ("succeeded", True)
    assert await yard.mirror() == yard.ledger.rows


async def test_a_filter_that_is_understood_brings_its_witness(yard: Yard) -> None:
    for number in range(3):
        yard.ledger.put("V-005", mileage=number)
        await yard.later(minutes=16)
        assert [(run["state"], run["whole"]) for run in (await yard.runs())[1:]] == [("succeeded", False)] * (
            number + 1
        )
    assert await yard.mirror() == yard.ledger.rows


async def test_the_witness_may_be_broken_or_gone(yard: Yard) -> None:
    """A row that is put aside came; one that was deleted did not, and costs one full pull."""
    yard.ledger.broken = {"V-199": "depot"}
    await yard.later(minutes=16)
    assert (await last_run(yard))["state"] == "succeeded"
    yard.ledger.remove("V-199")
    await yard.later(minutes=16)
    assert (await last_run(yard))["error_code"] == "WATERMARK_ROW_MISSING"
    await yard.later(seconds=1)
    assert ((await last_run(yard))["whole"], await yard.mirror() == yard.ledger.rows) == (True, True)


async def test_a_witness_that_is_gone_costs_one_full_pull_and_no_more(yard: Yard) -> None:
    yard.ledger.remove("V-199")
    await yard.later(minutes=16)
    await yard.later(seconds=1)
    for _ in range(3):
        await yard.later(minutes=16)
    told = [(run["whole"], run["error_code"]) for run in (await yard.runs())[1:]]
    assert told == [(False, "WATERMARK_ROW_MISSING"), (True, None), *[(False, None)] * 3]


async def test_a_witness_that_was_deleted_here_is_not_missing(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("V-199", {}, op="delete")
    await ann.commit()
    await yard.later(seconds=1)
    assert "V-199" not in yard.ledger.rows
    await yard.later(minutes=16)
    assert ((await last_run(yard))["whole"], (await last_run(yard))["error_code"]) == (False, None)


def test_shares_are_of_the_mirror_as_it_was_at_the_beginning() -> None:
    assert msgspec.structs.asdict(Shares()) == {"deletions": 0.1, "inserts": 0.1, "changes": 0.5, "quarantine": 0.1}
