"""Runs of ingestion: as a whole or not at all, stopped, killed, side by side, brought over from another version."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.base.clock import now
from app.base.database import Connection
from app.base.settings import Settings
from app.web.auth import Role
from app.worker.ingestion import ingest
from tests.support.crashing import WorkerProcess
from tests.support.ingesting import APPENDED, ingested, used, work
from tests.support.own import SEMANTICS, customers, moved, registered
from tests.support.world import SECRET, User, World, committed, ids, refused, written
from tests.test_ingestion import people, values

__all__ = ["people"]  # the fixture

SPAN = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
ERROR = SEMANTICS | {"conflictResolution": "error"}


def lines(count: int, **more: Any) -> list[str]:
    """Records of so many customers, each a line of NDJSON."""
    rest = "".join(f',"{name}":"{value}"' for name, value in more.items())
    return [f'{{"customerId":"C{number:05}"{rest}}}' for number in range(count)]


async def uploaded(engineer: User, records: list[str]) -> str:
    """The run of an upload."""
    sent = {"content": "\n".join(records).encode(), "headers": {"Content-Type": "application/x-ndjson"}}
    return str(written(await engineer.request("POST", "ingest", **sent), 202)["runId"])


async def run_of(engineer: User, run: str) -> tuple[str, str | None, dict[str, int]]:
    """A run's state, the code that it ended with, and what it counts."""
    found = (await engineer.get(f"sync/runs/{run}")).json()
    counts = {name: count for name, count in found["counts"].items() if count}
    return found["state"], found["error"] and found["error"]["code"], counts


async def total(user: User) -> int:
    """How many rows there are."""
    return int((await user.page(pageSize=1))["pagination"]["totalRecords"])


async def quarantined(user: User) -> list[dict[str, Any]]:
    """What was put aside."""
    return list((await user.get("quarantine")).json()["data"])


class Turning:
    """A worker's clock, which does something when it is asked for the so-many-th time."""

    def __init__(self, world: World, number: int, do: Callable[["Turning"], Awaitable[object]]):
        self.world, self.number, self.do = world, number, do
        self.stopping, self.asked = asyncio.Event(), 0

    async def __call__(self, _: Connection) -> datetime:
        self.asked += 1
        if self.asked == self.number:
            await self.do(self)
        return self.world.clock.at


async def turned(world: World, number: int, do: Callable[[Turning], Awaitable[object]]) -> None:
    """A worker at the dataset's runs, for whom this happens in the middle. It asks for the time when it begins, and for
    each portion.
    """
    standing = await world.runtime.datasets.find("acme", "customers")
    assert standing is not None
    clock = Turning(world, number, do)
    await ingest(world.runtime.database, "acme", standing.contract, clock, clock.stopping)


async def stop(clock: Turning) -> None:
    """The worker is told to end."""
    clock.stopping.set()


# -- as a whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"maxQuarantined": 2}, {"maxQuarantined": 2, "ingestion": ERROR}])
async def test_a_run_that_puts_too_many_aside_leaves_nothing(
    world: World, people: dict[str, User], more: dict[str, Any]
) -> None:
    await used(people, **more)
    bob = people["ENGINEER"]
    good, broken = lines(4_500), ['{"company":"no key"}', '{"customerId":"X","tier":"bronze"}', "[]"]
    run = await uploaded(bob, [*good, *broken])
    await work(world)
    assert await run_of(bob, run) == ("failed", "TOO_MANY_QUARANTINED", {})
    assert (await total(bob), await quarantined(bob)) == (0, [])
    run = await uploaded(bob, [*good, *broken[:2]])
    await work(world)
    assert await run_of(bob, run) == ("succeeded", None, {"read": 4_502, "inserted": 4_500, "quarantined": 2})


async def test_records_that_conflict_count_among_those_put_aside(world: World, people: dict[str, User]) -> None:
    await used(people, maxQuarantined=2, ingestion=ERROR)
    bob = people["ENGINEER"]
    run = await uploaded(bob, [*lines(2_500, company="A"), *lines(3, company="B")])
    await work(world)
    assert await run_of(bob, run) == ("failed", "TOO_MANY_QUARANTINED", {})
    assert (await total(bob), await quarantined(bob)) == (0, [])
    refused(
        await bob.post("ingest", {"records": [{"customerId": "X", "company": c} for c in "ABCD"]}),
        422, "VALIDATION_FAILED",
    )  # fmt: skip
    assert await total(bob) == 0


@pytest.mark.parametrize("policy", [{"newFields": "refuse"}, {"types": "refuse"}])
async def test_a_record_that_the_contract_refuses_ends_its_run(
    world: World, people: dict[str, User], policy: dict[str, str]
) -> None:
    await used(people, schemaContract=policy)
    bob = people["ENGINEER"]
    record = '{"customerId":"X","colour":"red"}' if "newFields" in policy else '{"customerId":"X","revenue":"much"}'
    run = await uploaded(bob, [*lines(2_500), record])
    await work(world)
    assert await run_of(bob, run) == ("failed", "RECORD_REFUSED", {})
    assert "Line 2501" in (await bob.get(f"sync/runs/{run}")).json()["error"]["message"]
    assert await total(bob) == 0


async def test_a_worker_that_ends_in_the_middle_of_such_a_run_leaves_nothing_of_it(
    world: World, people: dict[str, User]
) -> None:
    await used(people, maxQuarantined=2, ingestion=ERROR)
    bob = people["ENGINEER"]
    run = await uploaded(bob, lines(4_500))

    async def stop_looking(clock: Turning) -> None:
        # All is looked through by now, and the transaction has begun.
        clock.stopping.set()

    await turned(world, 2, stop_looking)
    assert await run_of(bob, run) == ("running", None, {})
    assert await total(bob) == 0
    await work(world)
    assert await run_of(bob, run) == ("succeeded", None, {"read": 4_500, "inserted": 4_500})


# -- new fields --------------------------------------------------------------------------------------------------------


async def test_new_fields_make_versions_of_a_contract_that_evolves(world: World, people: dict[str, User]) -> None:
    """Before the first record is taken, at once and in an upload; what no field can hold stays outside."""
    await used(people, schemaContract={"newFields": "evolve"})
    bob = people["ENGINEER"]
    await ingested(bob, {"customerId": "C1", "colour": "red", "Size (m)": 1.5, "parts": [1]}, {"customerId": "C2"})
    csv = b"customerId,joined,vip\nC3,2026-01-31,true\nC4,,\n"
    written(await bob.request("POST", "ingest", content=csv, headers={"Content-Type": "text/csv"}), 202)
    await work(world)
    rows = {row["id"]: row["data"] for row in await bob.rows()}
    assert list(rows) == ["C1", "C2", "C3", "C4"]
    assert (rows["C1"]["colour"], rows["C1"]["sizeM"], rows["C3"]["joined"], rows["C3"]["vip"]) == (
        "red", Decimal("1.5"), "2026-01-31", True,
    )  # fmt: skip
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.2")).json()["contract"]
    assert [field["name"] for field in contract["fields"]][-4:] == ["colour", "sizeM", "joined", "vip"]


# -- stopped -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
async def test_a_run_that_somebody_stops_ends_behind_its_portion(
    world: World, people: dict[str, User], together: bool
) -> None:
    await used(people, **({"maxQuarantined": 2, "ingestion": ERROR} if together else {}))
    bob = people["ENGINEER"]
    run = await uploaded(bob, lines(4_500))

    async def stopped(_: Turning) -> None:
        answer = written(await bob.post(f"sync/runs/{run}/stop", {}))
        assert answer["state"] == "running"

    await turned(world, 2, stopped)
    kept = 0 if together else 2_000
    counts = {"read": kept, "inserted": kept} if kept else {}
    assert await run_of(bob, run) == ("failed", "STOPPED", counts)
    assert await total(bob) == kept


async def test_the_mode_of_the_system_ends_a_run(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob = people["ENGINEER"]
    run = await uploaded(bob, lines(4_500))

    async def closed(_: Turning) -> None:
        await world.db.execute("UPDATE system SET mode = 'READ_ONLY'")

    await turned(world, 2, closed)
    assert await run_of(bob, run) == ("failed", "SYSTEM_READ_ONLY", {"read": 2_000, "inserted": 2_000})


async def test_a_run_goes_on_by_a_version_that_came_meanwhile(world: World, people: dict[str, User]) -> None:
    await used(people, schemaContract={"newFields": "drop_value"})
    bob = people["ENGINEER"]
    run = await uploaded(bob, lines(4_500, colour="red"))

    async def changed(_: Turning) -> None:
        contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
        fields = [*contract["fields"], {"name": "colour", "type": "text"}]
        await registered(bob, contract | {"version": "1.1", "fields": fields})

    # Between two portions: inside of one nobody can register.
    standing = await world.runtime.datasets.find("acme", "customers")
    assert standing is not None
    await turned(world, 2, stop)
    await changed(Turning(world, 0, stop))
    await ingest(world.runtime.database, "acme", standing.contract, Turning(world, 0, stop), asyncio.Event())
    assert await run_of(bob, run) == ("running", None, {"read": 2_000, "inserted": 2_000})
    await work(world)
    assert await run_of(bob, run) == ("succeeded", None, {"read": 4_500, "inserted": 4_500})
    colours = [row["data"].get("colour") for row in await bob.rows(sort="customerId", pageSize=1000, page=3)]
    assert colours == ["red"] * 1000


async def test_what_a_run_still_has_to_take_is_not_forgotten(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob = people["ENGINEER"]
    written(await bob.post("ingest", {"records": [{"customerId": "before"}]}))
    world.clock.move(days=1)
    eve = (await world.user("eve", role=Role.ENGINEER)).on("customers")
    run = await uploaded(eve, lines(3))
    world.clock.move(days=40)
    await work(world)
    zoe = (await world.user("zoe", role=Role.ENGINEER)).on("customers")
    assert await run_of(zoe, run) == ("succeeded", None, {"read": 3, "inserted": 3})
    world.clock.move(hours=2)
    await work(world)
    assert await world.db.fetchval("SELECT count(*) FROM received") == 0


# -- killed, and side by side ------------------------------------------------------------------------------------------


@pytest.fixture
def today(world: World) -> None:
    """A worker's process goes by the time that it is."""
    world.clock.at = now()


class Place:
    """Where a worker works that synchronizes nothing."""

    def __init__(self, url: str, folder: Path):
        self.url, self.log = url, folder / "worker.log"

    def settings(self) -> Settings:
        """Those of a worker."""
        return Settings(database_url=self.url, secret=SECRET, environment="test")


async def read(world: World) -> int:
    """How many records runs have come through."""
    return int(await world.db.fetchval("SELECT coalesce(sum(rows_read), 0) FROM sync_run"))


async def until(world: World, records: int) -> None:
    """Wait until runs have come through so many."""
    async with asyncio.timeout(60):
        # Nothing tells a test when another process is done.
        while await read(world) < records:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def once_each(world: World, bob: User, runs: list[str], count: int) -> None:
    """Every record has become a row once, and was counted once."""
    for run in runs:
        state, code, counts = await run_of(bob, run)
        assert (state, code, counts["read"], counts["inserted"]) == ("succeeded", None, count, count)
    schema = await world.db.fetchval("SELECT schema_name FROM dataset WHERE name = 'customers'")
    for table in ("mirror", "history"):
        assert await world.db.fetchval(f"SELECT count(*) FROM {schema}.{table}") == count * len(runs)


def events(count: int) -> list[str]:
    """Records of one moment: what comes twice is there twice."""
    return [f'{{"customerId":"C{number:05}","seenAt":"2026-01-01T00:00:00Z"}}' for number in range(count)]


@pytest.mark.usefixtures("today")
async def test_workers_that_are_killed_leave_nothing_out_and_do_nothing_twice(
    world: World, people: dict[str, User], database_url: str, tmp_path: Path
) -> None:
    await used(people, ingestion=APPENDED | {"dedupeWindow": "0s"})
    bob, place = people["ENGINEER"], Place(database_url, tmp_path)
    run = await uploaded(bob, events(30_000))
    for killed in range(3):
        worker = WorkerProcess(place)
        await until(world, await read(world) + 2_000)
        # At another moment of a portion each time.
        await asyncio.sleep(0.03 * killed)
        await worker.kill()
    assert await read(world) < 30_000, "nobody was killed in the middle"
    worker = WorkerProcess(place)
    await until(world, 30_000)
    await worker.kill()
    await work(world)
    await once_each(world, bob, [run], 30_000)


@pytest.mark.usefixtures("today")
async def test_two_workers_do_two_uploads_that_came_at_once(
    world: World, people: dict[str, User], database_url: str, tmp_path: Path
) -> None:
    await used(people, ingestion=APPENDED | {"dedupeWindow": "0s"})
    bob, place = people["ENGINEER"], Place(database_url, tmp_path)
    runs = await asyncio.gather(*(uploaded(bob, events(5_000)) for _ in range(2)))
    workers = [WorkerProcess(place) for _ in range(2)]
    await until(world, 10_000)
    for worker in workers:
        await worker.kill()
    await work(world)
    await once_each(world, bob, list(runs), 5_000)


# -- keys --------------------------------------------------------------------------------------------------------------


async def test_a_key_that_leaves_no_room_for_its_moment_is_put_aside(world: World, people: dict[str, User]) -> None:
    await used(people, ingestion=APPENDED)
    bob = people["ENGINEER"]
    long = {"customerId": "K" * 180, "seenAt": "2026-01-01T00:00:00.123456Z"}
    answer = written(await bob.post("ingest", {"records": [long, long | {"customerId": "K" * 150}]}))
    assert (answer["inserted"], answer["quarantined"]) == (1, 1)
    assert [entry["reasons"][0]["code"] for entry in await quarantined(bob)] == ["INVALID_ID"]


# -- brought over ------------------------------------------------------------------------------------------------------


async def second(people: dict[str, User], **more: Any) -> User:
    """The next major version, in SHADOW, whose company is called otherwise."""
    bob = people["ENGINEER"]
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [dict(field) for field in contract["fields"]]
    fields[1]["name"] = "companyName"
    await registered(bob, contract | {"version": "2.0", "fields": fields} | more)
    return people["ADMIN"].on("customers@2")


async def backfilled(world: World, shadow: User) -> tuple[str, str | None, dict[str, int]]:
    """What became of a backfill, confirmed as it was tried."""
    tried = written(await shadow.post("backfill", SPAN))
    run = written(await shadow.post("backfill", SPAN | {"dryRun": False, "digest": tried["digest"]}), 202)["runId"]
    await work(world)
    return await run_of(shadow, run)


async def test_a_backfill_takes_back_no_edit_that_was_committed(world: World, people: dict[str, User]) -> None:
    await used(people, fields=[*customers()["fields"], {"name": "companyName", "type": "text"}])
    bob, ann = people["ENGINEER"], people["ANALYST"]
    for company in ("A", "B"):
        written(await bob.post("ingest", {"records": [{"customerId": "C1", "tier": "gold", "company": company}]}))
    await ann.draft("C1", {"tier": "silver"})
    await committed(ann)
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [field for field in contract["fields"] if field["name"] != "companyName"]
    await registered(bob, contract | {"version": "2.0", "fields": fields})
    shadow = people["ADMIN"].on("customers@2")
    # The row, then both records, which are no later than it is.
    assert await backfilled(world, shadow) == ("succeeded", None, {"read": 3, "inserted": 1, "skipped": 2})
    assert await values(shadow, "tier") == {"C1": "silver"}


async def test_a_backfill_of_events_without_a_window_takes_each_once(world: World, people: dict[str, User]) -> None:
    await used(people, ingestion=APPENDED | {"dedupeWindow": "0s"})
    bob = people["ENGINEER"]
    record = {"customerId": "C1", "seenAt": "2026-01-01T00:00:00Z"}
    written(await bob.post("ingest", {"records": [record, record]}))
    shadow = await second(people)
    assert await backfilled(world, shadow) == ("succeeded", None, {"read": 2, "inserted": 2})
    assert ids(await shadow.rows()) == ids(await bob.rows())


async def test_rows_that_do_not_fit_are_put_aside_each_by_itself_however_often_a_worker_ends(
    world: World, people: dict[str, User]
) -> None:
    await used(people)
    bob = people["ENGINEER"]
    written(await bob.post("ingest", {"records": [{"customerId": f"C{n:03}", "tier": "gold"} for n in range(9)]}))
    fields = [dict(field) for field in customers()["fields"]]
    fields[2] |= {"values": ["silver", "bronze"]}
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [field | {"id": known["id"]} for field, known in zip(fields, contract["fields"], strict=True)]
    await registered(bob, contract | {"version": "2.0", "fields": fields})
    shadow = people["ADMIN"].on("customers@2")
    span = SPAN | {"to": SPAN["from"], "batchSize": 3}
    tried = written(await shadow.post("backfill", span))
    assert (tried["estimatedRows"], tried["estimatedQuarantined"]) == (9, 9)
    run = written(await shadow.post("backfill", span | {"dryRun": False, "digest": tried["digest"]}), 202)["runId"]
    standing = await world.runtime.datasets.find("acme", "customers@2")
    assert standing is not None
    for _ in range(4):
        clock = Turning(world, 2, stop)
        await ingest(world.runtime.database, "acme", standing.contract, clock, clock.stopping)
    assert await run_of(shadow, run) == ("succeeded", None, {"read": 9, "quarantined": 9})
    entries = await quarantined(shadow)
    assert sorted((entry["line"], entry["received"]["customerId"]) for entry in entries) == [
        (n + 1, f"C{n:03}") for n in range(9)
    ]
    assert {uuid.UUID(entry["runId"]) for entry in entries} == {uuid.UUID(run)}


async def test_another_version_is_filled_without_one_in_use(world: World, people: dict[str, User]) -> None:
    bob = people["ENGINEER"]
    await registered(bob)
    shadow = people["ADMIN"].on("customers@1")
    written(await shadow.post("ingest", {"records": [{"customerId": "C1"}]}))
    assert await backfilled(world, shadow) == ("succeeded", None, {"read": 1, "skipped": 1})
    await moved(shadow, "promote")


async def test_who_sends_records_again_or_puts_them_away_stands_in_the_audit(
    world: World, people: dict[str, User]
) -> None:
    await used(people)
    bob, boss = people["ENGINEER"], people["ADMIN"]
    written(await bob.post("ingest", {"records": [{"company": "no key"}, {"customerId": "C1", "revenue": "much"}]}))
    first, second_ = [entry["id"] for entry in await quarantined(bob)]
    written(await bob.post("quarantine/replay", {"ids": [first], "dryRun": True}))
    written(await bob.post("quarantine/replay", {"ids": [first]}))
    written(await bob.post("quarantine/discard", {"ids": [second_], "reason": "a test"}))
    tried = written(await boss.post("replay", SPAN))
    run = written(await boss.post("replay", SPAN | {"dryRun": False, "digest": tried["digest"]}), 202)["runId"]
    entries = (await boss.get("/api/v1/orgs/acme/audit")).json()["data"]
    told = {entry["action"]: (entry["actor"], entry["reason"], entry["details"]) for entry in entries}
    assert told["quarantine.replayed"] == ("engineer", None, {"records": 0})
    assert told["quarantine.discarded"] == ("engineer", "a test", {"records": 1})
    actor, _, details = told["records.replayed"]
    # Without the one that was put away.
    assert (actor, details["runId"], details["records"]) == ("admin", run, 1)
    assert sum(entry["action"] == "quarantine.replayed" for entry in entries) == 1
