"""The audit: who did what, when, and to which cell; added to, read, and nothing else."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from click.testing import Result

from app.audit import AT_ONCE
from app.audit import export as export_lines
from app.base import exact_json
from app.contracts import PFA
from app.engine.audit import Act, Entry, record, record_in
from app.engine.desk import Desk
from app.web.auth import Role
from app.worker.loop import database_clock
from app.worker.upkeep import forget
from tests.support.ingesting import ingested, people_of, used
from tests.support.own import customers, moved, registered
from tests.support.requests import merged, submitted
from tests.support.syncing import KEPT
from tests.support.world import FLEET, NEW, User, World, committed, refused, vehicle
from tests.test_accounts import Shell


async def entries(world: World, organization: str = "acme") -> list[dict[str, Any]]:
    """The audit as it stands, the oldest entry first."""
    found = await world.db.fetch("SELECT * FROM audit WHERE organization_id = $1 ORDER BY id", organization)
    return [dict(record) for record in found]


# -- what is recorded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["pfa", "fleet"])
async def test_a_commit_is_recorded_once(world: World, ann: User, dataset: str) -> None:
    user = ann.on(dataset)
    fields = NEW if dataset == "pfa" else vehicle()
    for key in ("A", "B"):
        await user.draft(key, fields, op="insert")
    answer = await committed(user, changeReason="Two more")
    [entry] = await entries(world)
    assert (entry["actor"], entry["action"], entry["dataset"]) == ("ann", "commit", dataset)
    assert (entry["at"], str(entry["commit_id"]), entry["reason"]) == (world.clock(), answer["commitId"], "Two more")
    assert entry["details"] == '{"rows": 2}'


async def test_what_came_to_nothing_is_not_recorded(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": {**vehicle(), "remark": "x"}}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await ann.draft("A", {"remark": "y"})
    assert (await ann.commit("A", dryRun=True)).status_code == 200
    assert await entries(world) == []
    await bob.draft("A", {"remark": "z"})
    await committed(bob, "A")
    assert (await ann.commit("A")).status_code == 409
    assert [entry["actor"] for entry in await entries(world)] == ["bob"]


async def test_many_acts_are_recorded_in_their_order(world: World) -> None:
    request, at = uuid.uuid4(), world.clock()
    told = [
        Entry(at=at, actor="ann", action=Act.REQUEST_RESOLVED, request_id=request, row_key="A", field="seats",
              details={"before": 1, "after": None}),
        Entry(at=at, actor=None, action=Act.REQUEST_MERGED, request_id=request),
    ]  # fmt: skip
    async with world.runtime.database.transaction() as connection:
        await record(Desk(connection, FLEET, "acme"), *told)
        await record_in(connection, "acme", None, Entry(at=at, actor="root", action=Act.AUDIT_EXPORTED))
    found = await entries(world)
    assert [entry["action"] for entry in found] == ["request.resolved", "request.merged", "audit.exported"]
    assert [entry["actor"] for entry in found] == ["ann", None, "root"]
    assert [entry["dataset"] for entry in found] == ["fleet", "fleet", None]
    assert (found[0]["row_key"], found[0]["field"], found[0]["details"]) == (
        "A",
        "seats",
        '{"after": null, "before": 1}',
    )


# -- what the database lets the service do -----------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["UPDATE public.audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_service_can_neither_change_nor_delete_an_entry(world: World, ann: User, sql: str) -> None:
    await ann.on("fleet").draft("A", vehicle(), op="insert")
    await committed(ann.on("fleet"))
    async with world.runtime.database.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.raw.execute(sql)
    assert len(await entries(world)) == 1


@pytest.mark.parametrize(
    ("columns", "values"),
    [("id", "1"), ("row_key", "'A'"), ("dataset, field", "'fleet', 'seats'"), ("details", "'[]'")],
)
async def test_an_entry_has_the_shape_of_an_act(world: World, columns: str, values: str) -> None:
    """No number of one's own, no row without its dataset, no field without its row, details by name."""
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.GeneratedAlwaysError)):
        await world.db.execute(
            f"INSERT INTO audit (organization_id, at, action, {columns}) VALUES ('acme', now(), 'commit', {values})"
        )


async def test_only_what_is_older_than_it_is_kept_is_forgotten(world: World) -> None:
    """By a function of the tables' owner, some at a time, and of every organization by itself."""
    at = datetime.now(UTC)
    await world.organization("rival")
    for organization in ("acme", "rival"):
        await world.db.execute(
            "INSERT INTO audit (organization_id, at, action, dataset)"
            " SELECT $1, $2::timestamptz - make_interval(days => d), 'commit', CASE WHEN d % 2 = 0 THEN 'pfa' END"
            "   FROM unnest(ARRAY[3649, 3651, 9000]) AS d CROSS JOIN generate_series(1, $3) AS i",
            organization, at, 4000 if organization == "acme" else 1,
        )  # fmt: skip
    assert await forget(world.runtime.database, PFA, KEPT, database_clock) == 8002
    left = await world.db.fetch("SELECT organization_id, count(*), min(at) FROM audit GROUP BY 1 ORDER BY 1")
    kept = at - timedelta(days=3649)
    assert [tuple(each) for each in left] == [("acme", 4000, kept), ("rival", 1, kept)]


# -- what is told ------------------------------------------------------------------------------------------------------

AUDIT = "/api/v1/orgs/acme/audit"


@pytest.fixture
async def root(world: World) -> User:
    """The administrator of acme."""
    return await world.user("root", role=Role.ADMIN)


async def told(user: User, **params: Any) -> list[dict[str, Any]]:
    """All entries that there are, page by page."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        response = await user.get(AUDIT, params | ({"after": after} if after else {}))
        assert response.status_code == 200, response.text
        page = exact_json.decode(response.content)
        found += page["data"]
        if (after := page["nextCursor"]) is None:
            return found
        assert len(page["data"]) == int(params.get("limit", 50))


async def add(world: World, *entries: Entry, organization: str = "acme", dataset: str | None = "fleet") -> None:
    """Acts, as if they had been done."""
    async with world.runtime.database.transaction() as connection:
        await record_in(connection, organization, dataset, *entries)


async def test_an_act_says_who_did_what_and_when(world: World, ann: User, root: User) -> None:
    fleet = ann.on("fleet")
    await fleet.draft("A", vehicle(), op="insert")
    answer = await committed(fleet, changeReason="Bought")
    assert await told(root) == [
        {
            "kind": "act", "at": "2026-03-01T12:00:00.000Z", "actor": "ann", "actorName": "ann", "action": "commit",
            "dataset": "fleet",
            "id": None, "field": None, "requestId": None, "commitId": answer["commitId"], "reason": "Bought",
            "details": {"rows": 1}, "address": "127.0.0.1",
        }
    ]  # fmt: skip


async def test_who_did_what_when_to_which_cell(world: World, ann: User, bob: User, root: User) -> None:
    """Given a row, then its changes stand between the acts on it, the newest first, and of a field alone."""
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await ann.draft("A", vehicle(seats=3), op="insert")
    await ann.draft("B", vehicle(seats=3), op="insert")
    await committed(ann)
    world.clock.move(hours=1)
    await bob.draft("A", {"seats": 5, "remark": "x"})
    second = await committed(bob, changeReason="Wrong")
    world.clock.move(hours=1)
    details = {"before": 5, "after": 3}
    await add(world, Entry(at=world.clock(), actor="ann", action=Act.REQUEST_RESOLVED, row_key="A", field="seats",
                           details=details))  # fmt: skip
    await ann.draft("A", {"remark": None})
    await committed(ann)

    of_row = await told(root, dataset="fleet", id="A")
    assert [(each["kind"], each["actor"], each.get("revision")) for each in of_row] == [
        ("act", "ann", None), ("change", "ann", 3), ("change", "bob", 2), ("change", "ann", 1),
    ]  # fmt: skip
    assert of_row[2] == {
        "kind": "change", "dataset": "fleet", "id": "A", "revision": 2, "op": "update",
        "at": "2026-03-01T13:00:00.000Z", "actor": "bob", "actorName": "bob", "source": "commit",
        "commitId": second["commitId"],
        "requestId": None, "changeReason": "Wrong",
        "cells": [{"field": "remark", "before": None, "after": "x"}, {"field": "seats", "before": 3, "after": 5}],
    }  # fmt: skip
    of_cell = await told(root, dataset="fleet", id="A", field="seats")
    assert [each["details"] if each["kind"] == "act" else each["cells"] for each in of_cell] == [
        details, [{"field": "seats", "before": 3, "after": 5}], [{"field": "seats", "before": None, "after": 3}],
    ]  # fmt: skip
    assert [each["actor"] for each in await told(root, dataset="fleet", id="A", actor="bob")] == ["bob"]
    by_commit = await told(root, dataset="fleet", id="A", commitId=second["commitId"])
    assert [each["revision"] for each in by_commit] == [2]
    assert [each["kind"] for each in await told(root, dataset="fleet", id="A", action="request.resolved")] == ["act"]
    for limit in (1, 2, 3):
        assert await told(root, dataset="fleet", id="A", limit=limit) == of_row
    assert await told(root, dataset="fleet", id="never") == []


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_entries_of_one_time_come_each_once(world: World, ann: User, root: User, limit: int) -> None:
    """Given a clock that stands, then acts, changes and pages keep one order."""
    fleet = ann.on("fleet")
    for seats in range(4):
        await fleet.draft("A", vehicle(seats=seats), op="insert" if seats == 0 else "update")
        await committed(fleet)
    acts = [Entry(at=world.clock(), actor=str(n), action=Act.REQUEST_RESOLVED, row_key="A") for n in range(4)]
    await add(world, *acts)
    found = await told(root, dataset="fleet", id="A", limit=limit)
    assert [each.get("revision") or each["actor"] for each in found] == ["3", "2", "1", "0", 4, 3, 2, 1]


async def test_a_request_is_told_from_its_submission_to_its_merge(world: World, ann: User, root: User) -> None:
    """Given a request that was merged in spite of everything, then the audit has each step, with who and why."""
    await world.mirror({"A": vehicle()}, contract=FLEET)
    boss = root.on("fleet")
    request = await submitted(ann.on("fleet"), {"id": "A", "delta": {"seats": 5}})
    answer = await merged(boss, request, skipConflictCheck=True, reason="It is late")
    found = await told(root, requestId=request["id"])
    assert [each["action"] for each in reversed(found)] == [
        "request.submitted", "request.approved", "request.merged", "merge.conflict_check_skipped", "request.closed",
    ]  # fmt: skip
    assert {each["actor"] for each in found} == {"ann", "root"}
    [skipped] = [each for each in found if each["action"] == "merge.conflict_check_skipped"]
    assert (skipped["actor"], skipped["reason"]) == ("root", "It is late")
    [change] = [each for each in await told(root, dataset="fleet", id="A") if each["kind"] == "change"]
    assert (change["requestId"], change["commitId"]) == (request["id"], answer["commitId"])
    assert (await told(root, dataset="fleet", id="A", requestId=request["id"]))[-1] == change
    assert await told(root, dataset="fleet", id="A", requestId=str(uuid.uuid4())) == []


async def test_entries_are_found_by_what_they_are_about(world: World, root: User) -> None:
    request, commit, at = uuid.uuid4(), uuid.uuid4(), world.clock()

    def later(hours: int) -> datetime:
        return at + timedelta(hours=hours)

    await add(
        world,
        Entry(at=at, actor="ann", action=Act.REQUEST_SUBMITTED, request_id=request),
        Entry(at=later(1), actor="bob", action=Act.REQUEST_APPROVED, request_id=request),
        Entry(at=later(2), actor="bob", action=Act.REQUEST_MERGED, request_id=request, commit_id=commit),
    )
    await add(world, Entry(at=later(3), actor=None, action=Act.AUDIT_EXPORTED), dataset=None)
    await add(world, Entry(at=later(3), actor="ann", action=Act.COMMIT), dataset="pfa")
    everything = [each["action"] for each in await told(root)]
    assert everything == ["commit", "audit.exported", "request.merged", "request.approved", "request.submitted"]
    for params, wanted in (
        ({"actor": "ann"}, ["commit", "request.submitted"]),
        ({"action": "request.approved"}, ["request.approved"]),
        ({"dataset": "pfa"}, ["commit"]),
        ({"requestId": str(request)}, everything[2:]),
        ({"commitId": str(commit)}, ["request.merged"]),
        ({"actor": "bob", "requestId": str(request), "action": "request.merged"}, ["request.merged"]),
        ({"since": "2026-03-01T13:00:00Z", "until": "2026-03-01T14:00:00.000001Z"}, everything[2:4]),
        ({"since": "2026-03-01T14:00:00+01:00", "until": "2026-03-01T14:00:00Z"}, ["request.approved"]),
        ({"actor": "nobody"}, []),
        ({"actor": "' OR TRUE --"}, []),
    ):
        assert [each["action"] for each in await told(root, **params, limit=2)] == wanted, params


async def renamed(world: World) -> dict[str, User]:
    """`customers` with a second version in use, in which `company` has another name; C1 and C2 were written to in both,
    C1 by a request in the first.
    """
    people = await people_of(world)
    engineer, boss = people["ENGINEER"], people["ADMIN"]
    await used(people)
    await ingested(engineer, {"customerId": "C1", "company": "Acme"})
    await merged(boss, await submitted(engineer, {"id": "C1", "delta": {"company": "Beta"}}))
    at = world.clock()
    forgotten = Entry(at=at, actor="admin", action=Act.RESOLUTION_FORGOTTEN, row_key="C1", field="company")
    await add(world, forgotten, dataset="customers")
    await add(world, Entry(at=at, actor="admin", action=Act.COMMIT), dataset="customers2")
    two = (await engineer.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    two = two | {"version": "2.0"}
    two["fields"][1]["name"] = "companyName"
    await registered(engineer, two)
    await moved(boss.on("customers@2"), "promote")
    await ingested(engineer, {"customerId": "C1", "companyName": "Gamma"}, {"customerId": "C2"})
    await engineer.draft("C1", {"companyName": "Delta", "tier": "gold"})
    await committed(engineer)
    return people


async def test_a_dataset_is_all_of_its_versions(world: World) -> None:
    """Whichever name one asks by, and an act was done under; a dataset whose name only begins alike is another."""
    boss = (await renamed(world))["ADMIN"]
    wanted = [each for each in await told(boss) if each["dataset"] in ("customers", "customers@2")]
    assert {each["dataset"] for each in wanted} == {"customers", "customers@2"}
    for name in ("customers", "customers@2", "customers@1"):
        assert await told(boss, dataset=name, includeDeprecated="true") == wanted, name


async def test_the_changes_of_a_row_go_on_into_the_versions_before(world: World) -> None:
    """Under the names that fields have now; the version in which each was says its `dataset`."""
    boss = (await renamed(world))["ADMIN"]
    found = await told(boss, dataset="customers", id="C1")
    changes = [each for each in found if each["kind"] == "change"]
    history = (await boss.on("customers").get("rows/C1/history")).json()["data"]
    names = ("source", "commitId", "cells")
    assert [[each[name] for name in names] for each in changes] == [[each[name] for name in names] for each in history]
    assert [(each["dataset"], each["source"]) for each in changes] == [
        ("customers", "commit"), ("customers", "ingest"), ("customers@1", "merge"), ("customers@1", "ingest"),
    ]  # fmt: skip
    for limit in (1, 2, 3):
        assert await told(boss, dataset="customers", id="C1", limit=limit) == found
    of_cell = await told(boss, dataset="customers", id="C1", field="companyName")
    assert [each.get("action") or [(cell["field"], cell["after"]) for cell in each["cells"]] for each in of_cell] == [
        "resolution.forgotten",
        [("companyName", "Delta")], [("companyName", "Gamma")], [("companyName", "Beta")], [("companyName", "Acme")],
    ]  # fmt: skip
    before = await told(boss, dataset="customers@1", id="C1", field="company")
    assert [each["kind"] for each in before] == ["act", "change", "change"]


@pytest.mark.parametrize(
    ("params", "culprit"),
    [
        ({"id": "A"}, "id"),
        ({"dataset": "fleet", "field": "seats"}, "field"),
        ({"action": "request.eaten"}, "action"),
        ({"requestId": "x"}, "requestId"),
        ({"commitId": "1"}, "commitId"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-03-01T12:00:00"}, "since"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "until"),
        ({"limit": "201"}, "limit"),
        ({"who": "ann"}, "who"),
    ],
)
async def test_a_filter_that_is_not_usable_is_named(root: User, params: dict[str, str], culprit: str) -> None:
    problem = refused(await root.get(AUDIT, params), 400, "INVALID_FILTER")
    assert problem["errors"][0]["parameter"] == culprit


async def test_what_no_text_can_be_is_refused(root: User) -> None:
    refused(await root.get(AUDIT, {"actor": "a\0b"}), 400, "MALFORMED_REQUEST")
    refused(await root.get(AUDIT, {"dataset": "nothing"}), 404, "DATASET_NOT_FOUND")
    refused(await root.get(AUDIT, {"after": "x"}), 400, "INVALID_CURSOR")


async def test_only_who_administers_reads_the_audit(world: World, ann: User) -> None:
    for user in (ann, await world.user("erin", role=Role.ENGINEER)):
        refused(await user.get(AUDIT), 403, "FORBIDDEN")


async def test_a_cursor_of_before_a_restore_is_refused(world: World, root: User) -> None:
    acts = [Entry(at=world.clock(), actor="ann", action=Act.COMMIT)] * 3
    await add(world, *acts)
    after = (await root.get(AUDIT, {"limit": 2})).json()["nextCursor"]
    await world.db.execute("UPDATE incarnation SET number = number + 1")
    refused(await root.get(AUDIT, {"limit": 2, "after": after}), 400, "INVALID_CURSOR")


# -- a file of it ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(database_url: str) -> Shell:
    """The command line over a database that has a bit more of the year 2000 than is read at a time, in acme, and what
    lies before, behind and elsewhere.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute(FILL)
    return Shell(database_url)


LINES = 2 * AT_ONCE + 3
FILL = f"""
INSERT INTO organization VALUES ('acme', 'acme'), ('rival', 'rival');
INSERT INTO audit (organization_id, at, actor, action, dataset)
SELECT o, t, 'ann', 'commit', 'pfa'
  FROM unnest(ARRAY['acme', 'rival']) AS o
 CROSS JOIN unnest(ARRAY['1999-12-31T23:59:59.999999Z', '2000-01-01Z', '2000-12-31T23:59:59.999999Z',
                         '2001-01-01Z']::timestamptz[]) AS t
 UNION ALL
SELECT 'acme', '2000-06-01Z', 'bob', 'commit', 'pfa' FROM generate_series(1, {AT_ONCE});
INSERT INTO pfa.history (organization_id, revision, row_key, op, before, after, source, actor, at)
SELECT 'acme', 1 + i / 100, 'R' || i, 'update', jsonb_build_object('model', E'a\nb'), jsonb_build_object('model', 0.10),
       'commit', 'ann', CASE WHEN i = 7 THEN '1999-01-01Z' ELSE '2000-02-02Z' END::timestamptz
  FROM generate_series(1, {AT_ONCE + 2}) AS i;
"""


def export(shell: Shell, *more: str) -> Result:
    """What the command did with acme's audit of the year 2000."""
    return shell.run("export-audit", "acme", "--since", "2000-01-01", "--until", "2001-01-01T00:00:00Z", *more)


def test_an_export_is_all_of_a_period_once(shell: Shell, tmp_path: Path) -> None:
    """Given acts and changes, then a file has those of the period, a line each, and the audit that it was written."""
    file = tmp_path / "audit.ndjson"
    done = export(shell, "--output", str(file))
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert f"{LINES:,} lines of acme" in done.stderr
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == LINES
    acts = [line for line in lines if line["kind"] == "act"]
    changes = [line for line in lines if line["kind"] == "change"]
    assert len(acts) == AT_ONCE + 2
    assert [each["at"] for each in (acts[0], acts[-1])] == ["2000-01-01T00:00:00.000Z", "2000-12-31T23:59:59.999Z"]
    assert {each["id"] for each in changes} == {f"R{i}" for i in range(1, AT_ONCE + 3) if i != 7}
    assert [each["revision"] for each in changes] == sorted(each["revision"] for each in changes)
    assert changes[0]["cells"] == [{"field": "model", "before": "a\nb", "after": 0.1}]
    assert "0.10}" in text, "numbers keep their digits"
    assert [path.name for path in tmp_path.iterdir()] == ["audit.ndjson"]
    noted = shell.fetch("SELECT actor, dataset, details ->> 'lines' FROM audit WHERE action = 'audit.exported'")
    assert noted == [(None, None, str(LINES))]


async def exported(world: World, organization: str = "acme") -> list[tuple[str, str, str]]:
    """Dataset, row and source of each change that a file of everything has."""
    at, found = world.clock(), []
    period = (at - timedelta(days=1), at + timedelta(days=1))
    async for lines in export_lines(world.runtime.database, organization, *period):
        found += [each for each in map(exact_json.decode, lines) if each["kind"] == "change"]
    return [(each["dataset"], each["id"], each["source"]) for each in found]


async def test_an_export_has_each_version_of_the_organizations_own_datasets(world: World) -> None:
    """Given two versions of an own dataset, then the history of both is in the file, under the names of now; also of
    one whose stored contract cannot be read any more.
    """
    people = await people_of(world)
    engineer = people["ENGINEER"]
    await used(people)
    await ingested(engineer, {"customerId": "C1", "company": "Acme"})
    await engineer.draft("C1", {"company": "Beta"})
    await committed(engineer)
    await registered(engineer, customers(version="2.0"))
    await ingested(engineer.on("customers@2"), {"customerId": "C2", "company": "Gamma"})
    shadow = [("customers", "C1", "ingest"), ("customers", "C1", "commit"), ("customers@2", "C2", "ingest")]
    assert await exported(world) == shadow
    await moved(people["ADMIN"].on("customers@2"), "promote")
    await world.db.execute("UPDATE contract SET document = '{}'")
    in_use = [("customers@1", "C1", "ingest"), ("customers@1", "C1", "commit"), ("customers", "C2", "ingest")]
    assert await exported(world) == in_use
    await world.organization("rival")
    assert await exported(world, "rival") == []


def test_standard_output_has_the_lines_and_nothing_else(shell: Shell) -> None:
    done = export(shell)
    assert done.exit_code == 0
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == LINES


def test_a_file_is_replaced_only_when_that_is_said(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "audit.ndjson"
    file.write_text("what was exported before")
    refusal = export(shell, "--output", str(file))
    assert refusal.exit_code == 2
    assert "is there already" in refusal.stderr
    assert file.read_text() == "what was exported before"
    assert export(shell, "--output", str(file), "--overwrite").exit_code == 0
    assert len(file.read_text().splitlines()) == LINES


def test_what_fails_leaves_no_file(shell: Shell, tmp_path: Path) -> None:
    refusal = shell.refused(
        "export-audit", "nowhere", "--since", "2000-01-01", "--output", str(tmp_path / "audit.ndjson")
    )
    assert "There is no organization nowhere" in refusal
    assert list(tmp_path.iterdir()) == []
    assert shell.fetch("SELECT FROM audit WHERE action = 'audit.exported'") == []


@pytest.mark.parametrize(
    "period",
    [
        ["2001-01-01", "--until", "2001-01-01"],
        ["2001-01-01", "--until", "2000-01-01"],
        ["2001-01-01", "--until", "9999-01-01"],
        ["soon"],
    ],
)
def test_a_period_that_is_none_or_not_over_is_refused(shell: Shell, period: list[str]) -> None:
    assert shell.run("export-audit", "acme", "--since", *period).exit_code == 2
