"""Drift of pulls under bad luck: they end between report and decision; pages do not say what their columns are."""

from typing import Any

import msgspec
import pytest

from app.upstream.protocol import Failed, Page
from app.web.auth import Role
from app.worker.guards import Shares
from tests.support.ledger import Ledger
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import User, refused, written
from tests.test_drift_pulls import (
    DRIFT,
    added,
    admin,
    dropped,
    last_code,
    renamed,
    reports,
    retyped,
    swapped,
    the_report,
    told,
    yard,
)

__all__ = ["admin", "yard"]


async def test_a_first_pull_without_a_column_writes_nothing(database_url: str) -> None:
    rows = {f"V-{n:02}": van(mileage=n * 100, remark=f"Remark {n}") for n in range(1, 41)}
    ledger = Ledger("plate", rows, page_size=20)
    ledger.drifted = lambda line: added(dropped(line))
    async with open_yard(database_url, ledger, shares=Shares(deletions=0.5, changes=0.5)) as yard:
        carl = await yard.user("carl", role=Role.ADMIN)
        await yard.work()
        assert await last_code(yard) == "SCHEMA_DRIFT"
        assert await yard.mirror() == {}
        assert told(await the_report(carl)) == [("REMOVE", "remark", "remark", None)]
        written(await carl.post(f"{DRIFT}/{(await the_report(carl))['id']}/accept", {}))
        await yard.later(seconds=1)
        assert await last_code(yard) is None
        assert await yard.mirror() == {key: row | {"remark": None} for key, row in ledger.rows.items()}
        # What came beside from the beginning is not new.
        await yard.later(hours=24)
        assert [each["state"] for each in await reports(carl)] == ["accepted"]


async def test_an_incremental_pull_after_columns_changed_places(yard: Yard, admin: User) -> None:
    """Few rows come, too few to tell; what is written of them is told by the next full pull, and mended by mapping."""
    yard.ledger.drifted = swapped
    yard.ledger.put("V-03", seats=9)
    await yard.later(hours=1)
    await yard.later(hours=24)
    assert await last_code(yard) == "SCHEMA_DRIFT"
    report = await the_report(admin)
    assert sorted(told(report)) == [("RENAME", "depot", "depot", "remark"), ("RENAME", "remark", "remark", "depot")]
    for was, now in (("depot", "remark"), ("remark", "depot")):
        written(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": was, "to": now}))
    await yard.later(seconds=1)
    assert await last_code(yard) is None
    assert await yard.mirror() == yard.ledger.rows


async def test_an_incremental_pull_with_many_rows_after_columns_changed_places(yard: Yard, admin: User) -> None:
    before = await yard.mirror()
    yard.ledger.drifted = swapped
    for number in range(1, 31):
        yard.ledger.put(f"V-{number:02}", seats=9)
    await yard.later(hours=1)
    assert await last_code(yard) == "SCHEMA_DRIFT"
    assert await yard.mirror() == before
    # The next one reads everything, and says the same.
    await yard.later(hours=1)
    assert (await the_report(admin))["times"] == 2
    assert await yard.mirror() == before


async def test_pages_that_do_not_name_their_columns_are_read_as_ever(
    yard: Yard, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = yard.ledger.page

    async def nameless(**asked: Any) -> Page:
        found = await page(**asked)
        return msgspec.structs.replace(found, columns=frozenset(), record=None)

    monkeypatch.setattr(yard.ledger, "page", nameless)
    yard.ledger.put("V-03", seats=9)
    for number in range(1, 41):
        yard.ledger.put(f"V-{number:02}", mileage=number)
    await yard.later(hours=24)
    assert await last_code(yard) is None
    assert await yard.mirror() == yard.ledger.rows
    assert await reports(admin) == []


async def test_a_pull_that_was_killed_behind_its_report_finds_it_again(yard: Yard, admin: User) -> None:
    """What a kill leaves: a report, and a run that seems to be at work."""
    before = await yard.mirror()
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    report = await the_report(admin)
    await yard.world.db.execute(
        "UPDATE sync_run SET state = 'running', finished_at = NULL, error_code = NULL, error = NULL"
        " WHERE error_code = 'SCHEMA_DRIFT'"
    )
    yard.worker = yard.new_worker()
    await yard.later(minutes=1)
    assert await last_code(yard) == "SCHEMA_DRIFT"
    assert ((await the_report(admin))["id"], (await the_report(admin))["times"]) == (report["id"], 2)
    assert await yard.mirror() == before


async def test_a_decision_in_the_middle_of_a_pull_that_was_killed(yard: Yard, admin: User) -> None:
    """The pull goes on where it was, and the columns of its last pages are read as was decided; then all are."""
    yard.ledger.drifted = lambda line: renamed(line) if line["plate"] > "V-20" else line
    for number in range(1, 41):
        yard.ledger.put(f"V-{number:02}", mileage=number)
    await yard.later(hours=24)
    report = await the_report(admin)
    await yard.world.db.execute(
        "UPDATE sync_run SET state = 'running', finished_at = NULL, error_code = NULL, error = NULL"
        " WHERE error_code = 'SCHEMA_DRIFT'"
    )
    written(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": "mileage", "to": "odometer"}))
    yard.ledger.drifted = renamed
    yard.worker = yard.new_worker()
    for _ in range(3):
        await yard.later(seconds=1)
    assert await last_code(yard) is None
    assert await yard.mirror() == yard.ledger.rows


async def test_a_pull_is_stopped_while_a_report_waits(yard: Yard, admin: User) -> None:
    before = await yard.mirror()
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    report = await the_report(admin)
    yard.ledger.failures["page"] = [Failed("no") for _ in range(5)]
    await yard.later(hours=24)
    assert await last_code(yard) not in (None, "SCHEMA_DRIFT")
    assert (await the_report(admin))["id"] == report["id"]
    assert await yard.mirror() == before


async def test_what_comes_back_after_it_was_gone_or_accepted_is_a_new_report(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    first = await the_report(admin)
    yard.ledger.drifted = dict
    await yard.later(hours=24)
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    second = await the_report(admin)
    assert first["id"] != second["id"]
    written(await admin.post(f"{DRIFT}/{second['id']}/accept", {}))
    await yard.later(seconds=1)
    assert await last_code(yard) is None
    # The column comes again: it is new, and nobody reads it until the mapping is taken back.
    yard.ledger.drifted = dict
    await yard.later(hours=24)
    assert await last_code(yard) is None
    assert {row["remark"] for row in (await yard.mirror()).values()} == {None}
    mappings = DRIFT.removesuffix("/drift") + "/mappings"
    assert (await admin.request("DELETE", f"{mappings}/remark")).status_code == 204
    await yard.later(hours=24)
    assert await yard.mirror() == yard.ledger.rows


@pytest.mark.parametrize("to", ["depot", "plate", "seats"])
async def test_a_field_is_not_mapped_to_what_another_one_reads(yard: Yard, admin: User, to: str) -> None:
    yard.ledger.drifted = renamed
    await yard.later(hours=24)
    report = await the_report(admin)
    refused(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": "mileage", "to": to}), 422, "VALIDATION_FAILED")
    assert "odometer" in report["columns"]
    assert to not in report["columns"]


async def test_two_drifts_one_after_the_other(yard: Yard, admin: User) -> None:
    """Of a drift that another one has taken the place of, nothing is left to decide."""
    yard.ledger.drifted = renamed
    await yard.later(hours=24)
    first = await the_report(admin)
    yard.ledger.drifted = lambda line: dropped(renamed(line))
    await yard.later(hours=24)
    second = await the_report(admin)
    refused(await admin.post(f"{DRIFT}/{first['id']}/accept", {}), 409, "INVALID_TRANSITION")
    body = {"from": "mileage", "to": "odometer"}
    assert written(await admin.post(f"{DRIFT}/{second['id']}/map", body))["state"] == "open"
    written(await admin.post(f"{DRIFT}/{second['id']}/accept", {}))
    await yard.later(seconds=1)
    assert await last_code(yard) is None
    assert await yard.mirror() == {key: row | {"remark": None} for key, row in yard.ledger.rows.items()}
    assert sorted(each["state"] for each in await reports(admin)) == ["accepted", "gone"]


async def test_an_acceptance_while_a_pull_is_at_work(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = retyped
    await yard.later(hours=24)
    report = await the_report(admin)

    async def accept() -> None:
        written(await admin.post(f"{DRIFT}/{report['id']}/accept", {}))

    yard.ledger.after["page"] = [accept]
    await yard.later(hours=24)
    await yard.later(seconds=1)
    await yard.later(seconds=1)
    assert await last_code(yard) is None
    assert {row["mileage"] for row in (await yard.mirror()).values()} == {None}
