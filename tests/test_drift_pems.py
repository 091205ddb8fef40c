"""Columns of a simulated PEMS that drift, by the real adapter: renamed, dropped, retyped, added, swapped, and all of
that between two pages of a pull.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.simulator.columns import Columns
from app.web.auth import Role
from tests.support.world import User, written
from tests.test_pems_path import RealPath, open_path

DRIFT = "/api/v1/orgs/acme/contracts/pfa/drift"
RENAMED = Columns(renamed={"pfs_f_purchase": "pfs_f_price"})
DROPPED = Columns(dropped=("pfs_f_model",))
RETYPED = Columns(retyped={"pfs_f_startdate": "number"})
SWAPPED = Columns(swapped=(("pfs_f_manufacturer", "pfs_f_model"),))


@pytest.fixture
async def path(database_url: str, tmp_path: Path) -> AsyncIterator[RealPath]:
    """200 lines, pulled once."""
    async with open_path(database_url, tmp_path) as path:
        await path.first_pull()
        yield path


@pytest.fixture
async def admin(path: RealPath) -> User:
    return await path.site.world.user("carl", role=Role.ADMIN)


async def the_report(user: User) -> dict[str, Any]:
    (summary,) = (await user.get(DRIFT, params={"state": "open"})).json()["data"]
    found: dict[str, Any] = (await user.get(f"{DRIFT}/{summary['id']}")).json()
    return found


def told(report: dict[str, Any]) -> list[tuple[str, str, str | None, str | None]]:
    return [(each["kind"], each["field"], each["from"], each["to"]) for each in report["changes"]]


@pytest.mark.parametrize("after", [0, 3], ids=["from the beginning", "between two pages"])
@pytest.mark.parametrize(
    ("columns", "changes"),
    [
        (DROPPED, [("REMOVE", "model", "pfs_f_model", None)]),
        (RETYPED, [("TYPE_CHANGE", "forecastStart", "pfs_f_startdate", "pfs_f_startdate")]),
        (
            SWAPPED,
            [
                ("RENAME", "manufacturer", "pfs_f_manufacturer", "pfs_f_model"),
                ("RENAME", "model", "pfs_f_model", "pfs_f_manufacturer"),
            ],
        ),
    ],
    ids=["dropped", "retyped", "swapped"],
)
async def test_the_mirror_stays_as_it_was_until_a_person_decides(
    path: RealPath, admin: User, columns: Columns, changes: list[Any], after: int
) -> None:
    before = await path.site.mirror()
    path.pems.drift(Columns(**{**{name: getattr(columns, name) for name in columns.__struct_fields__}, "after": after}))
    run = await path.pull(full=True)
    assert (run["state"], run["error"]["code"]) == ("failed", "SCHEMA_DRIFT"), run
    assert await path.site.mirror() == before
    assert await path.quarantine() == {}
    report = await the_report(admin)
    assert told(report) == changes
    assert report["severity"] == "BREAKING"
    path.pems.clear_columns()
    run = await path.pull(full=True)
    assert run["state"] == "succeeded"
    assert await path.site.mirror() == before
    assert (await admin.get(f"{DRIFT}/{report['id']}")).json()["state"] == "gone"


async def test_a_name_that_changes_between_two_pages_is_seen_by_the_next_pull(path: RealPath, admin: User) -> None:
    """Cells come by their numbers there, which stay: what was pulled is right."""
    before = await path.site.mirror()
    path.pems.drift(Columns(renamed=RENAMED.renamed, after=3))
    assert (await path.pull(full=True))["state"] == "succeeded"
    assert await path.site.mirror() == before
    assert (await path.pull(full=True))["error"]["code"] == "SCHEMA_DRIFT"
    assert told(await the_report(admin)) == [("RENAME", "purchasePrice", "pfs_f_purchase", "pfs_f_price")]
    assert await path.site.mirror() == before


async def test_a_renamed_column_is_mapped_and_pulled(path: RealPath, admin: User) -> None:
    before = await path.site.mirror()
    path.pems.drift(RENAMED)
    await path.pull()
    report = await the_report(admin)
    written(await admin.post(f"{DRIFT}/{report['id']}/map", {"from": "purchasePrice", "to": "pfs_f_price"}))
    run = await path.pull()
    assert run["state"] == "succeeded", run
    assert await path.site.mirror() == before


async def test_accepting_makes_the_field_null_here(path: RealPath, admin: User) -> None:
    path.pems.drift(DROPPED)
    await path.pull()
    report = await the_report(admin)
    written(await admin.post(f"{DRIFT}/{report['id']}/accept", {}))
    await path.work()
    mirror = await path.site.mirror()
    assert {row["model"] for row in mirror.values()} == {None}
    assert len(mirror) == 200


async def test_a_new_column_applies_itself_and_is_told(path: RealPath, admin: User) -> None:
    before = await path.site.mirror()
    path.pems.drift(Columns(added={"pfs_f_colour": "red"}))
    for _ in range(2):
        assert (await path.pull(full=True))["state"] == "succeeded"
    assert await path.site.mirror() == before
    (report,) = (await admin.get(DRIFT)).json()["data"]
    assert (report["severity"], report["state"], report["times"]) == ("COMPATIBLE", "applied", 1)


async def test_columns_that_move_without_headers_are_seen_by_their_values(path: RealPath, admin: User) -> None:
    """One is gone and one comes at the end between two pages: their numbers are the same, and headers come no more."""
    before = await path.site.mirror()
    path.pems.drift(Columns(after=3, dropped=("pfs_f_class",), added={"pfs_f_colour": "red"}))
    run = await path.pull(full=True)
    assert run["state"] == "failed", run
    assert await path.site.mirror() == before
