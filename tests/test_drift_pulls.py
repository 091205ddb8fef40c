"""Columns of upstream that drift: the mirror stays as it was until a person decides, and then is right."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.web.auth import Role
from app.worker.guards import Shares
from tests.support.ledger import Ledger
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import User, refused, written

DRIFT = "/api/v1/orgs/acme/contracts/fleet/drift"
Line = dict[str, Any]


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of forty vehicles, read twenty at a time, pulled once."""
    rows = {f"V-{n:02}": van(mileage=n * 100, remark=f"Remark {n}", depot=f"Depot {n % 7}") for n in range(1, 41)}
    ledger = Ledger("plate", rows, page_size=20)
    ledger.drifted = dict
    async with open_yard(database_url, ledger, shares=Shares(deletions=0.5, changes=0.5)) as yard:
        await yard.work()
        yield yard
        await yard.check()


@pytest.fixture
async def admin(yard: Yard) -> User:
    return await yard.user("carl", role=Role.ADMIN)


def renamed(line: Line) -> Line:
    return {("odometer" if name == "mileage" else name): value for name, value in line.items()}


def dropped(line: Line) -> Line:
    return {name: value for name, value in line.items() if name != "remark"}


def retyped(line: Line) -> Line:
    return line | {"mileage": f"about {line['mileage']}"}


def swapped(line: Line) -> Line:
    return line | {"remark": line["depot"], "depot": line["remark"]}


def added(line: Line) -> Line:
    return line | {"colour": "red"}


async def reports(user: User, **filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await user.get(DRIFT, params=filters)).json()["data"]
    return found


async def the_report(user: User) -> dict[str, Any]:
    (summary,) = await reports(user, state="open")
    found: dict[str, Any] = (await user.get(f"{DRIFT}/{summary['id']}")).json()
    return found


async def last_code(yard: Yard) -> str | None:
    code: str | None = (await yard.runs())[-1]["error_code"]
    return code


def told(report: dict[str, Any]) -> list[tuple[str, str, str | None, str | None]]:
    return [(each["kind"], each["field"], each["from"], each["to"]) for each in report["changes"]]


@pytest.mark.parametrize(
    ("drifted", "changes"),
    [
        (renamed, [("RENAME", "mileage", "mileage", "odometer")]),
        (dropped, [("REMOVE", "remark", "remark", None)]),
        (retyped, [("TYPE_CHANGE", "mileage", "mileage", "mileage")]),
        (swapped, [("RENAME", "depot", "depot", "remark"), ("RENAME", "remark", "remark", "depot")]),
    ],
)
async def test_nothing_is_written_until_a_person_decides(
    yard: Yard, admin: User, drifted: Callable[[Line], Line], changes: list[Any]
) -> None:
    before, standing = await yard.mirror(), await yard.standing()
    yard.ledger.drifted = drifted
    yard.ledger.put("V-03", seats=9)
    for _ in range(3):
        await yard.later(hours=24)
        assert await last_code(yard) == "SCHEMA_DRIFT"
        assert await yard.mirror() == before
        assert await yard.quarantine() == {}
    assert (await yard.standing())["watermark"] == standing["watermark"]
    report = await the_report(admin)
    assert told(report) == changes
    assert (report["severity"], report["source"], report["times"]) == ("BREAKING", "pull", 3)
    # Upstream is as before: nothing is left to decide.
    yard.ledger.drifted = dict
    await yard.later(hours=24)
    assert await yard.mirror() == yard.ledger.rows
    assert [each["state"] for each in await reports(admin)] == ["gone"]


async def test_a_renamed_column_is_mapped(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = renamed
    yard.ledger.put("V-03", mileage=12345)
    await yard.later(hours=24)
    report = await the_report(admin)
    assert report["changes"][0]["confidence"] > 0.8
    answer = written(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": "mileage", "to": "odometer"}))
    assert (answer["state"], answer["changes"][0]["decision"]) == ("mapped", "mapped")
    await yard.later(seconds=1)
    assert await last_code(yard) is None
    assert await yard.mirror() == yard.ledger.rows
    yard.ledger.put("V-04", mileage=777)
    await yard.later(hours=1)
    assert (await yard.mirror())["V-04"]["mileage"] == 777


async def test_columns_that_changed_places_are_mapped_one_after_the_other(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = swapped
    await yard.later(hours=24)
    report = await the_report(admin)
    before = await yard.mirror()
    answer = written(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": "depot", "to": "remark"}))
    assert answer["state"] == "open"
    await yard.later(hours=24)
    assert await yard.mirror() == before
    written(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": "remark", "to": "depot"}))
    await yard.later(seconds=1)
    assert await yard.mirror() == before
    assert await last_code(yard) is None


async def test_what_is_accepted_is_null_from_now_on(yard: Yard, admin: User) -> None:
    """In all rows; drafts on the field are kept, and told in the report."""
    ann = await yard.user("ann")
    await ann.draft("V-05", {"remark": "mine"})
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    report = await the_report(admin)
    assert report["changes"][0]["uses"]["drafts"] == 1
    answer = written(await admin.post(f"{DRIFT}/{report['id']}/accept", {}))
    assert answer["state"] == "accepted"
    await yard.later(seconds=1)
    assert await last_code(yard) is None
    assert {row.get("remark") for row in (await yard.mirror()).values()} == {None}
    assert (await ann.row("V-05"))["data"]["remark"] == "mine"


async def test_what_was_rejected_stays_outside_without_another_report(yard: Yard, admin: User) -> None:
    before = await yard.mirror()
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    report = await the_report(admin)
    written(await admin.post(f"{DRIFT}/{report['id']}/reject", {"reason": "They will mend it"}))
    await yard.later(hours=24)
    assert await last_code(yard) == "SCHEMA_DRIFT"
    assert "They will mend it" in (await yard.runs())[-1]["error"]
    assert await yard.mirror() == before
    assert [each["state"] for each in await reports(admin)] == ["rejected"]
    yard.ledger.drifted = dict
    await yard.later(hours=24)
    assert await last_code(yard) is None


async def test_a_new_column_is_told_and_holds_nothing(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = added
    for _ in range(2):
        yard.ledger.put("V-03", seats=9)
        await yard.later(hours=24)
        assert await last_code(yard) is None
    (report,) = await reports(admin)
    assert (report["severity"], report["state"], report["times"]) == ("COMPATIBLE", "applied", 1)


async def test_the_key_cannot_be_null(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = lambda line: {name: value for name, value in line.items() if name != "plate"}
    await yard.later(hours=24)
    report = await the_report(admin)
    assert report["health"]["risk"] == "HIGH"
    error = refused(await admin.post(f"{DRIFT}/{report['id']}/accept", {}), 422, "VALIDATION_FAILED")
    assert "plate" in error["detail"]


async def test_drift_in_the_middle_of_a_pull_ends_it_there(yard: Yard, admin: User) -> None:
    """What came before it was as it should be, and stays."""
    before = await yard.mirror()
    for key in ("V-01", "V-39"):
        yard.ledger.put(key, seats=77)
    yard.ledger.drifted = lambda line: dropped(line) if line["plate"] > "V-20" else line
    await yard.later(hours=24)
    mirror = await yard.mirror()
    assert await last_code(yard) == "SCHEMA_DRIFT"
    assert mirror["V-01"]["seats"] == 77
    assert mirror | {"V-01": before["V-01"]} == before


async def test_a_pull_that_waits_is_told_by_health_metrics_and_the_feed(yard: Yard, admin: User) -> None:
    start = (await admin.get("changes", params={"since": "now"})).json()["nextSince"]
    assert (await admin.get("sync/health")).json()["drift"] is None
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    await yard.later(hours=24)
    report = await the_report(admin)
    assert (await admin.get("sync/health")).json()["drift"]["report"] == report["id"]
    assert REGISTRY.get_sample_value("vanguard_drift_open", {"organization": "acme", "dataset": "fleet"}) == 1
    events = (await admin.get("changes", params={"since": start})).json()["data"]
    told = [event.get("details", event) for event in events if event["type"] == "dataset"]
    assert [each for each in told if each.get("event") == "drift"] != []
    assert [each["report"] for each in told if each.get("event") == "drift"] == [report["id"]]
    written(await admin.post(f"{DRIFT}/{report['id']}/accept", {}))
    await yard.later(hours=1)
    assert (await admin.get("sync/health")).json()["drift"] is None
    assert REGISTRY.get_sample_value("vanguard_drift_open", {"organization": "acme", "dataset": "fleet"}) == 0


async def test_reports_are_forgotten_once_they_are_decided_and_old(yard: Yard, admin: User) -> None:
    yard.ledger.drifted = dropped
    await yard.later(hours=24)
    await yard.later(days=70)
    report = await the_report(admin)
    written(await admin.post(f"{DRIFT}/{report['id']}/reject", {"reason": "No"}))
    yard.ledger.drifted = dict
    await yard.later(hours=1)
    assert len(await reports(admin)) == 1
    await yard.later(days=61)
    assert await reports(admin) == []
    assert await yard.world.db.fetchval("SELECT count(*) FROM drift_change") == 0
