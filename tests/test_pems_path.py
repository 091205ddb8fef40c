"""The real path: a simulated PEMS, the adapter and a worker, with everything that a feed can bring."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.base import exact_json
from app.base.clock import now
from app.base.database import Database
from app.contracts import PFA
from app.simulator import Edit, Fault, Step
from app.worker.loop import Worker
from app.worker.start import read_targets
from tests.support.crash_checks import check_all
from tests.support.crashing import CODE, EMPTY, NEIGHBOUR, Site, open_site
from tests.support.syncing import KEPT, Ahead, defects
from tests.support.world import User

ROWS = 200
PAGES = 6  # of 40 lines each, the neighbour's 30 among them
TWICE = PAGES - 1  # each page begins with the last line of the page before; the last page's is the neighbour's


class RealPath:
    """A site with a worker in this process, which goes when it is told to. All go by one clock."""

    def __init__(self, site: Site, worker: Worker, ann: User, clock: Ahead):
        self.site, self.pems, self.worker, self.ann, self.clock = site, site.pems, worker, ann, clock

    async def work(self) -> None:
        """Do what is due, to the end."""
        before = defects()
        await self.worker.step()
        await self.worker.idle()
        assert defects() == before, "a job ended with a defect; the log tells which"

    async def later(self, **by: float) -> None:
        """The same after a while."""
        self.clock.by += timedelta(**by)
        await self.work()

    async def first_pull(self) -> dict[str, Any]:
        """Have the first one done, for which nobody asks; its record."""
        await self.work()
        (run,) = (await self.ann.get("sync/runs")).json()["data"]
        return dict(run)

    async def pull(self, *, full: bool = False) -> dict[str, Any]:
        """Ask for a pull and have it done; its record, as people see it."""
        self.site.world.clock.at = self.clock()
        asked = await self.ann.post("sync/pull", {"full": full})
        assert asked.status_code == 202, asked.text
        await self.work()
        run: dict[str, Any] = (await self.ann.get(f"sync/runs/{asked.json()['runId']}")).json()
        return run

    async def quarantine(self) -> dict[str, list[tuple[str | None, str]]]:
        """Field and code of what is wrong with each line in quarantine, as people see them."""
        answer = await self.ann.get("sync/quarantine")
        assert answer.status_code == 200, answer.text
        return {
            row["id"]: [(reason["field"], reason["code"]) for reason in row["reasons"]] for row in answer.json()["data"]
        }


@asynccontextmanager
async def open_path(url: str, folder: Path, **entry: Any) -> AsyncIterator[RealPath]:
    """Nothing is pulled yet, and nothing is due but what is asked for, once it is. PEMS may take its time."""
    clock, usual = Ahead(), {"timeout": 60, "lease": 120, "pullEvery": 900, "fullEvery": 9000}
    async with open_site(url, folder, ROWS, clock=clock, **(usual | entry)) as site:
        database = Database(site.settings())
        await database.open()
        worker = Worker(database, read_targets(site.settings()), [PFA], KEPT, read_clock=clock.read)
        try:
            yield RealPath(site, worker, await site.user("ann"), clock)
        finally:
            await worker.idle()
            await worker.close()
            await database.close()


@pytest.fixture
async def path(database_url: str, tmp_path: Path) -> AsyncIterator[RealPath]:
    """The real path."""
    async with open_path(database_url, tmp_path) as path:
        yield path


async def test_broken_lines_wait_in_quarantine_until_they_are_mended(path: RealPath) -> None:
    """Given a feed with broken lines, then the good ones arrive and the broken ones are shown with field and reason;
    once PEMS says what it should, they come in by themselves.
    """
    keys = path.site.keys()
    broken: dict[str, dict[str, Any]] = {
        keys[3]: {"pfs_f_startdate": "31-FEB-2026"},
        keys[50]: {"pfs_f_rental": "a lot"},
        keys[60]: {"pfs_f_rental": "-5", "pfs_f_source": "Stolen"},
        keys[120]: {"pfs_f_enddate": "soon", "pfs_f_discontinued": "perhaps"},
        keys[199]: {"pfs_f_model": "\u0000" + "x" * 3000},
    }
    faults = {key: Fault(kind="rows", organization=CODE, ids=(key,), values=values) for key, values in broken.items()}
    for fault in faults.values():
        path.pems.fault(fault)
    await path.work()
    mirror = await path.site.mirror()
    assert path.site.keys() == sorted({*mirror, *broken})
    assert {key: sorted(field or "" for field, _ in reasons) for key, reasons in (await path.quarantine()).items()} == {
        keys[3]: ["forecastStart"],
        keys[50]: ["monthlyRate"],
        keys[60]: ["monthlyRate", "source"],
        keys[120]: ["forecastEnd", "isDiscontinued"],
        keys[199]: ["model"],
    }
    assert (await path.ann.get(f"rows/{keys[3]}")).status_code == 404

    # Somebody mends one line: the next pull, of what was modified, brings it.
    path.pems.clear_faults()
    for key in list(broken)[1:]:
        path.pems.fault(faults[key])
    path.pems.edit(CODE, keys[3], {"forecastStart": "2026-02-27"})
    run = await path.pull()
    assert (run["full"], run["counts"]["inserted"], run["counts"]["quarantined"]) == (False, 1, 0)
    assert keys[3] in await path.site.mirror()
    assert sorted(await path.quarantine()) == sorted(list(broken)[1:])

    # PEMS is mended: whatever is read next comes in.
    path.pems.clear_faults()
    run = await path.pull(full=True)
    assert (run["counts"]["inserted"], run["counts"]["unchanged"]) == (4, ROWS - 4 + TWICE - 1)
    assert await path.quarantine() == {}
    await check_all(path.site)


async def test_a_line_that_breaks_later_stays_in_the_mirror_as_it_was(path: RealPath) -> None:
    await path.work()
    key = path.site.keys()[10]
    before = (await path.site.mirror())[key]
    path.pems.fault(Fault(kind="rows", organization=CODE, ids=(key,), values={"pfs_f_enddate": "soon"}))
    path.pems.edit(CODE, key, {"model": "new"})
    run = await path.pull(full=True)
    assert (run["counts"]["quarantined"], run["counts"]["deleted"]) == (1, 0)
    assert (await path.site.mirror())[key] == before
    path.pems.clear_faults()
    assert (await path.pull(full=True))["counts"]["updated"] == 1
    await check_all(path.site)


async def test_lines_of_a_neighbour_are_dropped_and_counted(path: RealPath) -> None:
    run = await path.first_pull()
    counts = run["counts"]
    assert (counts["read"], counts["inserted"], counts["dropped"]) == (ROWS + TWICE - 1, ROWS, 30 + 1)
    await check_all(path.site)


async def test_pages_that_take_their_time_and_requests_that_fail(path: RealPath) -> None:
    """Given slow pages, errors, broken answers and 429 with Retry-After, then one pull brings all of it."""
    path.pems.fault(Fault(kind="latency", at="grid", ms=50))
    path.pems.fault(Fault(kind="status", at="grid", status=429, retry_after=1, count=1))
    path.pems.fault(Fault(kind="half", at="grid", share=0.3, count=1))
    path.pems.fault(Fault(kind="drop_after", at="grid", share=0.3, count=1))
    began = now()
    run = await path.first_pull()
    assert (run["state"], run["counts"]["inserted"]) == ("succeeded", ROWS)
    assert now() - began > timedelta(seconds=1 + PAGES * 0.05)
    await check_all(path.site)


async def test_429_with_retry_after_holds_pushes_back_as_long_as_it_says(path: RealPath) -> None:
    await path.work()
    key = path.site.keys()[0]
    await path.ann.draft(key, {"model": "mplanner"})
    await path.ann.commit(key)
    path.pems.fault(Fault(kind="status", at="screen", status=429, retry_after=40, count=1))
    await path.work()
    await path.work()
    health = (await path.ann.get("sync/health")).json()
    assert health["circuit"]["state"] == "open"
    assert path.pems.counts().requests == {"grid": PAGES, "GET": 1}
    waits = "SELECT next_attempt_at - clock_timestamp() FROM pfa.change"
    assert timedelta(seconds=30) < await path.site.world.db.fetchval(waits) <= timedelta(seconds=40)
    # Somebody who asks for a push is not made to wait.
    path.site.world.clock.at = path.clock()
    assert (await path.ann.post("sync/push", {})).status_code == 202
    await path.work()
    assert [change["state"] for change in await path.site.changes()] == ["synced"]
    await check_all(path.site)


BETWEEN = {
    "an edit before": [Edit(op="edit", organization=CODE, id="PFA-0000005", fields={"model": "new"})],
    "an edit behind": [Edit(op="edit", organization=CODE, id="PFA-0000150", fields={"model": "new"})],
    "deletions before": [Edit(op="delete", organization=CODE, id=f"PFA-{n:07d}") for n in (1, 2, 3, 38, 39, 40)],
    "a whole page deleted": [Edit(op="delete", organization=CODE, id=f"PFA-{n:07d}") for n in range(1, 61)],
    "deletions behind": [Edit(op="delete", organization=CODE, id=f"PFA-{n:07d}") for n in (41, 42, 120, 200)],
    "additions before": [Edit(op="put", organization=CODE, id=f"PFA-0000001{n}x") for n in range(50)],
    "additions behind": [Edit(op="put", organization=CODE, id=f"PFA-0000190{n}x") for n in range(5)],
    "a neighbour's": [Edit(op="delete", organization=NEIGHBOUR, id=f"PFA-{n:07d}") for n in range(1, 20)],
}


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("name", BETWEEN)
async def test_lines_that_change_between_two_pages_of_one_pull(path: RealPath, name: str, after: int) -> None:
    """None is passed over that was there all the while; what came or went meanwhile, the pulls after it bring."""
    all_the_while = set(path.site.keys()) - {edit.id for edit in BETWEEN[name] if edit.op == "delete"}
    path.pems.script(Step(after=after, edits=tuple(BETWEEN[name])))
    run = await path.first_pull()
    assert run["state"] == "succeeded"
    assert all_the_while <= (await path.site.mirror()).keys()
    await path.pull()
    records, mirror = path.site.records(), await path.site.mirror()
    assert {key: mirror[key]["model"] for key in records} == {key: records[key]["model"] for key in records}
    run = await path.pull(full=True)
    await check_all(path.site)


async def test_one_id_in_two_organizations_is_put_aside(database_url: str, tmp_path: Path) -> None:
    """Given two codes that both have an id, then the first one's line stays, and no pull writes anything."""
    async with open_path(database_url, tmp_path, organizations=[CODE, EMPTY]) as path:
        path.pems.put(EMPTY, "PFA-0000003", {"category": "Cranes", "model": "another"})
        path.pems.put(EMPTY, "LIMA-1", {"category": "Cranes", "model": "alone"})
        run = await path.first_pull()
        assert (run["state"], run["counts"]["quarantined"]) == ("succeeded", 1)
        before = await path.site.world.db.fetchval("SELECT revision FROM dataset WHERE name = 'pfa'")
        path.pems.edit(EMPTY, "PFA-0000003", {"model": "once more"})
        for full in (False, True, True):
            assert (await path.pull(full=full))["state"] == "succeeded"
        assert await path.quarantine() == {"PFA-0000003": [("pfaId", "DUPLICATE_ROW")]}
        mirror = await path.site.mirror()
        assert (mirror["PFA-0000003"]["organization"], mirror["LIMA-1"]["model"]) == (CODE, "alone")
        assert await path.site.world.db.fetchval("SELECT revision FROM dataset WHERE name = 'pfa'") == before

        path.pems.delete(EMPTY, "PFA-0000003")
        await path.pull(full=True)
        assert await path.quarantine() == {}


async def test_a_new_line_that_could_not_be_read_back_is_no_other_organizations(path: RealPath) -> None:
    """Given that PEMS took it and then answered no question, the next pull of what was modified brings all of it."""
    await path.work()
    for key in ("NEW-0", "NEW-1"):  # before the first one PEMS is asked how it writes
        await path.work()
        await path.ann.draft(key, NEW | {"pfaId": key, "model": f"planner {key}"}, op="insert")
        await path.ann.commit()
    path.pems.fault(Fault(kind="status", at="grid", status=500))
    await path.work()
    path.pems.clear_faults()
    assert {change["state"] for change in await path.site.changes()} == {"synced"}
    assert "organization" not in (await path.site.mirror())["NEW-1"]
    assert (await path.pull())["state"] == "succeeded"
    assert await path.quarantine() == {}
    assert (await path.site.mirror())["NEW-1"]["organization"] == CODE
    await check_all(path.site)


async def test_the_second_pull_writes_nothing(path: RealPath) -> None:
    await path.work()
    before = await path.site.world.db.fetch("SELECT row_key, xmin::text FROM pfa.mirror ORDER BY row_key")
    run = await path.pull(full=True)
    assert run["counts"] == {
        "read": ROWS + TWICE - 1, "inserted": 0, "updated": 0, "unchanged": ROWS + TWICE - 1, "deleted": 0,
        "quarantined": 0, "conflicts": 0, "leftAlone": 0, "dropped": 30 + 1,
    }  # fmt: skip
    assert await path.site.world.db.fetch("SELECT row_key, xmin::text FROM pfa.mirror ORDER BY row_key") == before


async def test_too_many_deletions_stop_the_pull_and_say_so(path: RealPath) -> None:
    await path.work()
    for key in path.site.keys()[:150]:
        path.pems.delete(CODE, key)
    run = await path.pull(full=True)
    assert (run["state"], run["error"]["code"]) == ("failed", "TOO_MANY_DELETIONS")
    assert len(await path.site.mirror()) == ROWS


async def test_a_row_changed_on_both_sides(path: RealPath) -> None:
    """The untouched fields merge; the touched cell becomes a conflict with base, theirs and mine."""
    await path.work()
    key = path.site.keys()[0]
    base = path.site.records()[key]["model"]
    await path.ann.draft(key, {"model": "planner"})
    await path.ann.commit(key)
    path.pems.edit(CODE, key, {"model": "theirs", "equipment": "theirs"})
    await path.work()
    row = await path.ann.row(key)
    assert (row["syncState"], row["data"]["equipment"]) == ("conflict", "theirs")
    assert row["conflicts"] == [{"id": key, "field": "model", "base": base, "theirs": "theirs", "mine": "planner"}]
    answer = await path.ann.commit(key, resolutions=[{"id": key, "field": "model", "use": "mine"}])
    assert answer.status_code == 200, answer.text
    await path.work()
    assert (await path.ann.row(key))["syncState"] == "pristine"
    assert path.site.records()[key]["model"] == "planner"
    assert exact_json.decode((await path.ann.get("sync/failed")).content)["total"] == 0


@pytest.mark.parametrize("way", ["resolved", "drafted anew", "retried as it was committed before"])
async def test_a_line_that_was_deleted_in_pems_is_inserted_again(path: RealPath, way: str) -> None:
    """With what can be written: what PEMS alone gives to a line is left out, and the commit says so."""
    await path.work()
    key = path.site.keys()[0]
    before = path.site.records()[key]
    await path.ann.draft(key, {"model": "planner"})
    await path.ann.commit(key)
    path.pems.delete(CODE, key)
    await path.work()
    assert (await path.ann.row(key))["syncState"] == "conflict"
    if way == "drafted anew":
        await path.ann.draft(key, op="insert")
    resolutions = [] if way == "drafted anew" else [{"id": key, "field": None, "use": "mine"}]
    answer = await path.ann.commit(key, resolutions=resolutions)
    assert answer.status_code == 200, answer.text
    only = set(PFA.upstream_only)
    assert only == {"contract", "originalStart", "originalEnd", "actualStart", "actualEnd", "pemsVersion"}
    given = sorted(name for name in only if before[name] is not None)
    assert answer.json()["leftOut"] == [{"id": key, "fields": given}]
    row = await path.ann.row(key)
    assert (row["data"].keys() & only, row["data"]["hasPlan"], row["data"]["model"]) == (set(), False, "planner")
    if way == "retried as it was committed before":
        await path.site.world.db.execute(
            "UPDATE pfa.change SET delta = delta || $1::jsonb WHERE state = 'committed'",
            exact_json.encode({name: before[name] for name in given}).decode(),
        )
    await path.work()
    assert (await path.ann.row(key))["syncState"] == "pristine"
    after = path.site.records()[key]
    assert after["model"] == "planner"
    for name in before.keys() - only - {"model", "hasPlan", "hasActuals"}:
        assert after[name] == before[name], name


async def test_a_line_comes_back_in_pems_under_its_new_draft(path: RealPath) -> None:
    """Given a line that was gone and is drafted anew, when it is there again, with another plan, then what can be
    written is a conflict that can be resolved, and what PEMS alone gives to a line is as PEMS has it.
    """
    await path.work()
    key = path.site.keys()[0]
    before = path.site.records()[key]
    await path.ann.draft(key, {"model": "planner"})
    path.pems.delete(CODE, key)
    await path.pull(full=True)
    await path.ann.draft(key, op="insert")
    given = {"pfaId", "hasPlan", "hasActuals", "pemsVersion"}
    again = {name: value for name, value in before.items() if name not in given}
    path.pems.put(CODE, key, again | {"originalStart": "2020-01-01", "contract": "another"})
    await path.pull(full=True)
    answer = await path.ann.commit(key)
    assert [found["field"] for found in answer.json()["conflicts"]] == ["model"]
    answer = await path.ann.commit(key, resolutions=[{"id": key, "field": None, "use": "mine"}])
    assert answer.status_code == 200, answer.text
    await path.work()
    assert (await path.ann.row(key))["syncState"] == "pristine"
    after = path.site.records()[key]
    assert (after["model"], after["originalStart"], after["contract"]) == ("planner", "2020-01-01", "another")


async def test_whoever_agrees_to_a_deletion_ends_the_conflict(path: RealPath) -> None:
    await path.work()
    edited, drafted, both = path.site.keys()[:3]
    for key in (edited, both):
        await path.ann.draft(key, {"model": "planner"})
        await path.ann.commit(key)
    for key in (drafted, both):
        await path.ann.draft(key, {"equipment": "planner"})
    for key in (edited, drafted, both):
        path.pems.delete(CODE, key)
    await path.work()
    await path.pull(full=True)
    for key in (edited, drafted, both):
        assert (await path.ann.row(key))["syncState"] == "conflict", key
        saved = await path.ann.draft(key, op="delete")
        assert (saved["version"], saved["mirrorVersion"], saved["syncState"]) == (0, 0, "pristine")
        assert (await path.ann.get(f"rows/{key}")).status_code == 404
    assert (await path.ann.get("drafts")).json()["pagination"]["totalRecords"] == 0
    assert exact_json.decode((await path.ann.get("sync/failed")).content)["total"] == 0
    await path.work()
    assert not {edited, drafted, both} & path.site.records().keys()


NEW = {
    "category": "Cranes", "source": "Rental", "dor": "BEO", "model": "planner", "monthlyRate": 7,
    "forecastStart": "2026-02-01", "forecastEnd": "2026-07-31",
}  # fmt: skip
LOST = ("late", "drop_after", "half", "html", "broken_json")


@pytest.mark.parametrize("kind", LOST)
async def test_the_answer_of_a_write_that_was_lost(database_url: str, tmp_path: Path, kind: Any) -> None:
    """However it was lost, the change is in PEMS once, and so is each new line, with a key of its own or without."""
    # Whoever waits for an answer that is late gives it up in time for this test, and no other one.
    async with open_path(database_url, tmp_path, timeout=3 if kind == "late" else 60) as path:
        await path.work()
        edited, gone = path.site.keys()[:2]
        await path.ann.draft(edited, {"model": "planner edited"})
        await path.ann.draft(gone, op="delete")
        await path.ann.draft("NEW-1", NEW | {"pfaId": "NEW-1", "model": "planner named"}, op="insert")
        await path.ann.draft("temporary", NEW | {"model": "planner temporary"}, op="insert")
        await path.ann.commit()
        for action in ("ADD", "UPDATE", "DELETE"):
            path.pems.fault(Fault(kind=kind, action=action, count=2 if action == "ADD" else 1, ms=600_000))
        await path.work()
        assert {change["state"] for change in await path.site.changes()} == {"committed"}
        await path.later(minutes=3)
        assert {change["state"] for change in await path.site.changes()} == {"synced"}
        assert sorted(each.action for each in path.site.written()) == ["ADD", "ADD", "DELETE", "UPDATE"]
        await path.pull(full=True)
        await check_all(path.site)
