"""`vanguard drift`: reports on the command line, and what is decided there."""

import asyncio
import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from app.contracts import PFA
from app.contracts.comparison import ADDED, REMOVED, RENAMED, Kind, change_of
from app.drift.detection import Drift, Found, Source
from app.drift.health import Health
from app.drift.reports import keep
from app.engine.desk import Desk
from tests.support.ingesting import ingested, people_of, used
from tests.support.world import User, World, line, refused, written
from tests.test_accounts import Shell
from tests.test_roles import Readers

RECORDS = [
    {
        "customerId": f"C{number:03}",
        "company": f"Company {number}",
        "tier": "gold",
        "revenue": number,
        "customerSince": "2020-01-01",
    }
    for number in range(1, 31)
]
CUSTOMERS = ("--org", "acme", "--dataset", "customers")
LINES = ("--org", "acme", "--dataset", "pfa")


class Terminal:
    """The command line beside a world whose loop goes on."""

    def __init__(self, database_url: str):
        self.shell = Shell(database_url)

    async def ok(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.shell.ok, "drift", *arguments)

    async def refused(self, *arguments: str) -> str:
        return await asyncio.to_thread(self.shell.refused, "drift", *arguments)

    async def audit(self, action: str) -> list[dict[str, Any]]:
        told = await asyncio.to_thread(self.shell.ok, "audit", "--action", action, "--json")
        return [json.loads(each) for each in told.splitlines()]


@pytest.fixture
def terminal(database_url: str) -> Terminal:
    return Terminal(database_url)


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, and thirty customers."""
    people = await people_of(world)
    await used(people)
    await ingested(people["ENGINEER"], *RECORDS)
    return people


def change(kind: Kind, field: str, was: str | None, now: str | None, **more: Any) -> Found:
    why = {Kind.ADD: ADDED, Kind.REMOVE: REMOVED, Kind.RENAME: RENAMED}[kind]
    new = {"name": field, "type": "text"} if kind is Kind.ADD else now
    return Found(change=change_of(kind, "fields[0]", was, new, why), field=field, was=was, now=now, **more)


RENAME = change(Kind.RENAME, "category", "pfs_category", "pfs_kind", confidence=0.93)
REMOVE = change(Kind.REMOVE, "model", "pfs_model", None)
ADD = change(Kind.ADD, "colour", None, "colour")


async def pulled(world: World, *changes: Found) -> str:
    """The report of a pull that is held by these changes of the lines."""
    await world.db.execute(
        "INSERT INTO synchronization (organization_id, dataset, pull_every, full_every, next_pull_at)"
        " VALUES ('acme', 'pfa', 900, 86400, '2100-01-01')"
    )
    return await kept(world, Source.PULL, changes, columns=["pfs_kind", "pfs_other"])


async def kept(world: World, source: Source, changes: Sequence[Found], **more: Any) -> str:
    health = Health(risk="MEDIUM", known=30, missing=len(changes), new=0, retyped=0)
    drift = Drift(changes=tuple(changes), health=health, rows=20)

    async with world.runtime.database.transaction() as connection:
        return str((await keep(Desk(connection, PFA, "acme"), drift, source, world.clock(), **more)).id)


async def looked(user: User, sample: list[dict[str, Any]]) -> str:
    report: str = written(await user.post("/api/v1/orgs/acme/contracts/customers/drift", {"sample": sample}), 201)["id"]
    return report


async def runs(world: World) -> list[tuple[str, bool, str]]:
    rows = await world.db.fetch("SELECT kind, whole, state FROM sync_run WHERE dataset = 'pfa'")
    return [tuple(row) for row in rows]


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_reports_of_all_datasets_are_listed(world: World, people: dict[str, User], terminal: Terminal) -> None:
    lines = await pulled(world, RENAME)
    same = await looked(people["ENGINEER"], RECORDS)
    listed = await terminal.ok("list", "--org", "acme")
    assert re.search(rf"pfa +1\.0 +pull +open +BREAKING +MEDIUM +1 +1 +{lines}", listed)
    assert re.search(rf"customers +1\.0 +sample +applied +COMPATIBLE +LOW +0 +1 +{same}", listed)
    assert lines not in await terminal.ok("list", *CUSTOMERS)
    opened = await terminal.ok("list", "--org", "acme", "--state", "open")
    assert lines in opened
    assert same not in opened
    assert len((await terminal.ok("list", "--org", "acme", "--most", "1", "--json")).splitlines()) == 1


async def test_a_report_is_shown_with_who_uses_the_fields(world: World, ann: User, terminal: Terminal) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"category": "Lifts"})
    report = await pulled(world, RENAME, REMOVE)
    shown = await terminal.ok("show", *LINES, report)
    assert shown.startswith("pfa 1.0, pull: BREAKING, open; risk MEDIUM; seen 1 times from ")
    assert re.search(r"RENAME +category +pfs_category +pfs_kind +BREAKING +0\.93 +drafts 1", shown)
    assert re.search(r"REMOVE +model +pfs_model +BREAKING", shown)
    told = json.loads(await terminal.ok("show", *LINES, report, "--json"))
    assert [each["confidence"] for each in told["changes"]] == [0.93, None]


async def test_what_a_terminal_obeys_is_spelled_out(world: World, terminal: Terminal) -> None:
    report = await pulled(world, change(Kind.RENAME, "category", "pfs_category", "red\x1b[31m"))
    assert r"red\x1b[31m" in await terminal.ok("show", *LINES, report)


# -- what is decided ---------------------------------------------------------------------------------------------------


async def test_a_field_is_mapped_and_everything_is_read_again(world: World, terminal: Terminal) -> None:
    report = await pulled(world, RENAME, REMOVE)
    said = await terminal.ok("map", *LINES, "--from", "category", "--to", "pfs_kind", report)
    assert "once nothing is left that is BREAKING" in said
    assert await runs(world) == []
    await terminal.ok("map", *LINES, "--from", "pfs_model", "--to", "pfs_other", report)
    assert await runs(world) == [("pull", True, "requested")]
    rows = await world.db.fetch("SELECT field, name FROM field_mapping ORDER BY field")
    assert [tuple(row) for row in rows] == [("category", "pfs_kind"), ("model", "pfs_other")]
    assert "mapped to pfs_kind" in await terminal.ok("show", *LINES, report)
    acts = await terminal.audit("drift.mapped")
    assert [each["details"]["report"] for each in acts] == [report, report]
    assert all("command line" in json.dumps(each) for each in acts)


async def test_what_is_accepted_of_the_lines_is_null(world: World, terminal: Terminal) -> None:
    report = await pulled(world, REMOVE)
    assert await terminal.ok("accept", *LINES, report) == f"Accepted the report {report} of pfa.\n"
    assert await world.db.fetchval("SELECT name FROM field_mapping WHERE field = 'model'") is None
    assert await runs(world) == [("pull", True, "requested")]
    assert "Nobody decides on it again" in await terminal.refused("accept", *LINES, report)


async def test_what_is_accepted_of_a_dataset_of_ones_own_is_its_next_version(
    world: World, people: dict[str, User], terminal: Terminal
) -> None:
    report = await looked(people["ENGINEER"], [each | {"email": f"{n}@x.example"} for n, each in enumerate(RECORDS)])
    assert "It made version 1.1." in await terminal.ok("accept", *CUSTOMERS, report)
    assert await world.db.fetchval("SELECT contract_version FROM dataset WHERE name = 'customers'") == "1.1"
    report = await looked(people["ENGINEER"], [{"customerId": each["customerId"]} for each in RECORDS])
    assert "It made version 2.0." in await terminal.ok("accept", *CUSTOMERS, report)
    states = await world.db.fetch("SELECT name, state FROM dataset WHERE base = 'customers' ORDER BY name")
    assert [tuple(row) for row in states] == [("customers", "ACTIVE"), ("customers@2", "SHADOW")]


async def test_a_version_is_made_by_the_owner_alone(
    world: World, people: dict[str, User], terminal: Terminal, database_url: str
) -> None:
    report = await looked(people["ENGINEER"], [each | {"email": f"{n}@x.example"} for n, each in enumerate(RECORDS)])
    roles = Readers(database_url)
    environment = terminal.shell.environment
    try:
        environment["DATABASE_URL"] = roles.as_(roles.make("drift_service", "LOGIN IN ROLE vanguard_app"))
        assert "VANGUARD_OWNER_URL" in await terminal.refused("accept", *CUSTOMERS, report)
        assert report in await terminal.ok("list", *CUSTOMERS, "--state", "open")
        environment["VANGUARD_OWNER_URL"] = database_url
        assert "It made version 1.1." in await terminal.ok("accept", *CUSTOMERS, report)
    finally:
        roles.close()


async def test_whoever_sends_what_was_rejected_is_told_why(
    world: World, people: dict[str, User], terminal: Terminal
) -> None:
    engineer = people["ENGINEER"]
    retyped = [each | {"customerSince": number} for number, each in enumerate(RECORDS)]
    error = refused(await engineer.post("ingest", {"records": retyped}), 409, "SCHEMA_DRIFT")
    await terminal.ok("reject", *CUSTOMERS, error["report"], "--reason", "Send days")
    assert re.search(
        r"rejected at \S+ by command line: Send days\.", await terminal.ok("show", *CUSTOMERS, error["report"])
    )
    error = refused(await engineer.post("ingest", {"records": retyped}), 409, "SCHEMA_DRIFT")
    assert "Send days" in error["detail"]
    [act] = await terminal.audit("drift.rejected")
    assert (act["reason"], act["details"]["report"]) == ("Send days", error["report"])


# -- what is refused ---------------------------------------------------------------------------------------------------


async def test_a_decision_that_cannot_be_made_is_a_sentence(world: World, terminal: Terminal) -> None:
    report = await pulled(world, change(Kind.REMOVE, "pfaId", "pfs_id", None))
    assert "pfaId cannot be null" in await terminal.refused("accept", *LINES, report)
    assert (
        "no column that came"
        in (await terminal.refused("map", *LINES, "--from", "pfaId", "--to", "nothing", report)).lower()
    )
    assert (await terminal.ok("list", *LINES, "--state", "open")).count(report) == 1
    assert await terminal.audit("drift.accepted") == []


async def test_what_is_not_there_is_a_sentence(world: World, terminal: Terminal) -> None:
    unknown = str(uuid.uuid4())
    assert "no report of drift" in await terminal.refused("show", *LINES, unknown)
    assert "no organization nowhere" in await terminal.refused("list", "--org", "nowhere")
    assert "no dataset nothing" in await terminal.refused("list", "--org", "acme", "--dataset", "nothing")
    for command in (["show"], ["accept"], ["reject", "--reason", "No"], ["map", "--from", "a", "--to", "b"]):
        assert "no dataset nothing" in await terminal.refused(
            *command, "--org", "acme", "--dataset", "nothing", unknown
        )
        assert "not set up" in await terminal.refused(*command, "--org", "nowhere", "--dataset", "pfa", unknown)
