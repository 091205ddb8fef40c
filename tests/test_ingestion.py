"""Ingestion: records into rows of an organization's own dataset, by the semantics of its contract."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.base.database import Connection
from app.web.auth import Action
from app.worker.ingestion import ingest
from tests.support.ingesting import APPENDED, TIMED, ingested, people_of, used, work, world_clock
from tests.support.own import SEMANTICS, customers, moved, registered
from tests.support.routes import Route, walk
from tests.support.world import User, World, ids, refused, written


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes records; everybody on `customers`."""
    return await people_of(world)


async def values(user: User, field: str) -> dict[str, Any]:
    """The field of all rows, by id."""
    return {row["id"]: row["data"].get(field) for row in await user.rows()}


async def test_records_become_rows(people: dict[str, User]) -> None:
    await used(people)
    bob = people["ENGINEER"]
    first = {"customerId": "C1", "company": "Acme", "tier": "gold", "revenue": 5}
    assert await ingested(bob, first, {"customerId": "C2", "company": "Beta"}) == {"read": 2, "inserted": 2}
    assert await ingested(bob, first) == {"read": 1, "unchanged": 1}
    assert await ingested(bob, {"customerId": "C1", "tier": "silver"}) == {"read": 1, "updated": 1}
    assert await values(people["VIEWER"], "company") == {"C1": "Acme", "C2": "Beta"}
    assert await values(people["VIEWER"], "tier") == {"C1": "silver", "C2": None}


async def test_the_later_event_wins_in_whatever_order_they_come(people: dict[str, User]) -> None:
    await used(people, ingestion=TIMED)
    bob = people["ENGINEER"]
    late = {"customerId": "C1", "company": "Late", "seenAt": "2026-01-01T00:00:00.000001Z"}
    early = {"customerId": "C1", "company": "Early", "seenAt": "2026-01-01T00:00:00Z"}
    assert await ingested(bob, late, early) == {"read": 2, "inserted": 1, "skipped": 1}
    assert await values(bob, "company") == {"C1": "Late"}
    assert await ingested(bob, early) == {"read": 1, "skipped": 1}


async def test_a_moment_that_repeats_what_is_there_moves_on_without_a_version(people: dict[str, User]) -> None:
    await used(people, ingestion=TIMED)
    bob = people["ENGINEER"]
    first = {"customerId": "C1", "company": "A"}
    await ingested(bob, first | {"seenAt": "2026-01-01T00:00:00Z"})
    # The field itself says another moment, so this one is a change of the row.
    assert await ingested(bob, first | {"seenAt": "2026-01-03T00:00:00Z"}) == {"read": 1, "updated": 1}
    assert await ingested(bob, {"customerId": "C1", "company": "B", "seenAt": "2026-01-02T00:00:00Z"}) == {
        "read": 1, "skipped": 1,
    }  # fmt: skip


async def test_a_contract_that_takes_no_second_record_puts_it_aside(people: dict[str, User]) -> None:
    await used(people, ingestion=SEMANTICS | {"conflictResolution": "error"})
    bob = people["ENGINEER"]
    await ingested(bob, {"customerId": "C1", "company": "A"})
    assert await ingested(bob, {"customerId": "C1", "company": "B"}) == {"read": 1, "quarantined": 1}
    found = (await bob.get("quarantine")).json()["data"]
    assert [entry["reasons"][0]["code"] for entry in found] == ["CONFLICTING_RECORD"]


@pytest.mark.parametrize(
    ("at", "again"),
    [
        ("2026-01-01T12:00:00Z", True),
        ("2026-01-01T12:59:59.999999Z", True),
        ("2026-01-01T13:00:00Z", False),
        ("2026-01-01T11:00:00.000001Z", True),
        ("2026-01-01T11:00:00Z", False),
    ],
)
async def test_the_window_starts_inclusive_and_ends_exclusive(people: dict[str, User], at: str, again: bool) -> None:
    await used(people, ingestion=APPENDED)
    bob = people["ENGINEER"]
    await ingested(bob, {"customerId": "C1", "company": "A", "seenAt": "2026-01-01T12:00:00Z"})
    counts = await ingested(bob, {"customerId": "C1", "company": "B", "seenAt": at})
    assert counts == {"read": 1, "skipped": 1} if again else counts == {"read": 1, "inserted": 1}


async def test_without_a_window_a_counter_tells_equal_moments_apart(people: dict[str, User]) -> None:
    await used(people, ingestion=APPENDED | {"dedupeWindow": "0s"})
    bob = people["ENGINEER"]
    record = {"customerId": "C1", "company": "A", "seenAt": "2026-01-01T12:00:00Z"}
    assert await ingested(bob, record, record) == {"read": 2, "inserted": 2}
    assert await ingested(bob, record) == {"read": 1, "inserted": 1}
    moment = "C1~2026-01-01T12:00:00Z"
    assert ids(await bob.rows()) == [f"{moment}~0", f"{moment}~1", f"{moment}~2"]


async def test_what_breaks_the_contract_goes_to_quarantine_and_comes_back(people: dict[str, User]) -> None:
    await used(people)
    bob = people["ENGINEER"]
    assert await ingested(bob, {"customerId": "C1", "revenue": "much"}, {"company": "no key"}) == {
        "read": 2, "quarantined": 2,
    }  # fmt: skip
    found = (await bob.get("quarantine")).json()["data"]
    assert [(entry["line"], entry["reasons"][0]["code"]) for entry in found] == [
        (1, "INVALID_TYPE"),
        (2, "MISSING_FIELD"),
    ]
    answer = written(await bob.post("quarantine/replay", {"ids": [found[0]["id"]], "dryRun": True}))
    assert (answer["read"], answer["quarantined"]) == (1, 1)
    gone = written(await bob.post("quarantine/discard", {"ids": [found[1]["id"]], "reason": "a test"}))
    assert gone == {"discarded": 1}


class Asking:
    """Somebody of whom a route demands an action, which is all that is kept."""

    action: Action | None = None

    def demand(self, action: Action) -> None:
        """What a gate calls."""
        self.action = action


def stops(route: Route) -> bool:
    """Whether the mode of the system stops the route: what registers a contract, or brings records."""
    asked = Asking()
    if route.method != "POST" or "{org}" not in route.path or route.requires is None:
        return False
    route.requires(asked)
    # These write no rows: a mark on records that wait, a proposal, and a report.
    spared = route.path.endswith(("quarantine/discard", "contracts/infer", "/drift", "/accept", "/map", "/reject"))
    return asked.action in (Action.REGISTER_CONTRACT, Action.INGEST, Action.REPLAY) and not spared


async def test_a_system_that_is_read_only_stops_all_that_brings_contracts_and_records_and_nothing_else(
    world: World, people: dict[str, User]
) -> None:
    await used(people)
    boss = people["ADMIN"]
    await ingested(boss, {"customerId": "C1"}, {"company": "no key"})
    await registered(boss, customers(version="2.0", fields=customers()["fields"][:4]))
    waiting = (await boss.get("quarantine")).json()["data"][0]["id"]
    span = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    bodies: dict[str, dict[str, Any]] = {
        "contracts": customers(name="others"),
        "ingest": {"records": [{"customerId": "C2"}]},
        "quarantine/replay": {"ids": [waiting]},
        "replay": span,
        "backfill": span,
    }
    await world.db.execute("UPDATE system SET mode = 'READ_ONLY'")
    met = set()
    for route in walk(world):
        if route.method == "GET" or "{org}" not in route.path:
            continue
        name = route.path.split("{dataset}/")[-1].split("{org}/")[-1]
        path = route.at("acme", dataset="customers@2" if name == "backfill" else "customers")
        answer = await boss.request(route.method, path, json=bodies.get(name, {}))
        if name.endswith("{report}/accept"):  # of a report of drift, which registers a contract
            refused(answer, 409, "SYSTEM_READ_ONLY")
        elif stops(route):
            refused(answer, 409, "SYSTEM_READ_ONLY")
            met.add(name)
        else:
            assert "SYSTEM_READ_ONLY" not in answer.text, route.name
    assert met == bodies.keys()
    sent = {"content": b"customerId\n\xff", "headers": {"Content-Type": "text/csv"}}
    refused(await boss.request("POST", "ingest", **sent), 409, "SYSTEM_READ_ONLY")
    assert ids(await boss.rows()) == ["C1"]
    assert await world.db.fetchval("SELECT count(*) FROM received") == 2


async def test_only_engineers_and_admins_ingest(people: dict[str, User]) -> None:
    await used(people)
    for role, status in (("VIEWER", 403), ("ANALYST", 403), ("ENGINEER", 200), ("ADMIN", 200)):
        response = await people[role].post("ingest", {"records": [{"customerId": role}]})
        assert response.status_code == status, role


async def test_a_dataset_of_upstream_takes_no_records(people: dict[str, User]) -> None:
    refused(await people["ENGINEER"].on("pfa").post("ingest", {"records": [{"pfaId": "P"}]}), 409, "HAS_UPSTREAM")


async def test_replay_is_tried_first_and_confirmed_by_its_digest(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob, boss = people["ENGINEER"], people["ADMIN"]
    await ingested(bob, {"customerId": "C1", "company": "A"}, {"customerId": "C2", "revenue": "much"})
    hour = timedelta(hours=1)
    time = {"from": (world.clock.at - hour).isoformat(), "to": (world.clock.at + hour).isoformat()}
    tried = written(await boss.post("replay", time))
    assert (tried["estimatedRows"], tried["estimatedDuplicates"], tried["confirmationRequired"]) == (2, 1, True)
    assert tried["preview"][0]["data"] == {"customerId": "C1", "company": "A"}
    refused(await boss.post("replay", time | {"dryRun": False, "digest": "another"}), 409, "PREVIEW_STALE")
    started = written(await boss.post("replay", time | {"dryRun": False, "digest": tried["digest"]}), 202)
    assert (await boss.get(f"sync/runs/{started['runId']}")).json()["state"] == "requested"


class Leaving:
    """A worker's clock, by which it is told to stop once it has begun a portion."""

    def __init__(self, world: World):
        self.world, self.stopping, self.asked = world, asyncio.Event(), 0

    async def read(self, _: Connection) -> datetime:
        """What time it is."""
        self.asked += 1
        if self.asked == 2:
            self.stopping.set()
        return self.world.clock.at


CSV = b"""customerId,company,tier,revenue,customerSince
C1,Acme,gold,5.25,2026-01-31
C2,"Beta, Ltd",silver,,
C3,Gamma,bronze,1,
"""


async def test_an_upload_is_received_and_taken_by_the_worker(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob = people["ENGINEER"]
    response = await bob.request("POST", "ingest", content=CSV, headers={"Content-Type": "text/csv"})
    run = written(response, 202)["runId"]
    waiting = (await bob.get(f"sync/runs/{run}")).json()
    assert (waiting["kind"], waiting["state"], waiting["progress"]) == (
        "ingest", "requested", {"done": 0, "total": 3, "share": 0.0},
    )  # fmt: skip
    await work(world)
    done = (await bob.get(f"sync/runs/{run}")).json()
    assert (done["state"], done["error"]) == ("succeeded", None)
    assert {name: count for name, count in done["counts"].items() if count} == {
        "read": 3, "inserted": 2, "quarantined": 1,
    }  # fmt: skip
    assert await values(bob, "company") == {"C1": "Acme", "C2": "Beta, Ltd"}
    entry = (await bob.get("quarantine")).json()["data"][0]
    assert (entry["line"], entry["reasons"][0]["code"]) == (4, "INVALID_ENUM_VALUE")
    assert entry["raw"] == '{"customerId":"C3","company":"Gamma","tier":"bronze","revenue":"1","customerSince":""}'


async def test_a_run_that_a_worker_left_goes_on_and_does_nothing_twice(world: World, people: dict[str, User]) -> None:
    await used(people, ingestion=APPENDED | {"dedupeWindow": "0s"})
    bob = people["ENGINEER"]
    lines = [f'{{"customerId":"C{n}","seenAt":"2026-01-01T00:00:00Z"}}' for n in range(4_500)]
    sent = {"content": "\n".join(lines).encode(), "headers": {"Content-Type": "application/x-ndjson"}}
    run = written(await bob.request("POST", "ingest", **sent), 202)["runId"]
    standing = await world.runtime.datasets.find("acme", "customers")
    assert standing is not None
    leaving = Leaving(world)
    await ingest(world.runtime.database, "acme", standing.contract, leaving.read, leaving.stopping)
    half = (await bob.get(f"sync/runs/{run}")).json()
    assert (half["state"], half["counts"]["inserted"]) == ("running", 2_000)
    await work(world)
    done = (await bob.get(f"sync/runs/{run}")).json()
    assert (done["state"], done["counts"]["inserted"]) == ("succeeded", 4_500)
    assert (await bob.page(pageSize=1))["pagination"]["totalRecords"] == 4_500


async def test_backfill_fills_a_version_in_shadow(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob, boss = people["ENGINEER"], people["ADMIN"]
    await ingested(bob, {"customerId": "C1", "company": "A", "revenue": 5})
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [dict(field) for field in contract["fields"]]
    fields[1]["name"] = "companyName"
    await registered(bob, contract | {"version": "2.0", "fields": fields})
    shadow = boss.on("customers@2")
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    tried = written(await shadow.post("backfill", span))
    assert (tried["estimatedRows"], tried["preview"][0]["data"]["companyName"]) == (1, "A")
    written(await shadow.post("backfill", span | {"dryRun": False, "digest": tried["digest"]}), 202)
    await work(world)
    assert await values(shadow, "companyName") == {"C1": "A"}
    rehearsal = await moved(shadow, "promote", dryRun=True)
    assert rehearsal["differences"]["rows"]["differing"] == 0
    refused(await boss.post("backfill", span), 409, "INVALID_TRANSITION")


async def test_a_request_that_is_repeated_gets_its_first_answer_whatever_is_in_use_by_now(
    world: World, people: dict[str, User]
) -> None:
    """Records that fitted the version in use then, and a version that was in SHADOW."""
    await used(people)
    bob, boss = people["ENGINEER"], people["ADMIN"]
    records = {"records": [{"customerId": f"C{n}", "company": f"Firm {n}"} for n in range(20)]}
    key = {"Idempotency-Key": "k"}
    first = await bob.post("ingest", records, headers=key)
    fields = [dict(field) for field in customers()["fields"]]
    fields[1]["name"] = "companyName"
    await registered(bob, customers(version="2.0", fields=fields))
    shadow = boss.on("customers@2")
    span: dict[str, Any] = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    span |= {"dryRun": False, "digest": written(await shadow.post("backfill", span))["digest"]}
    started = await shadow.post("backfill", span, headers={"Idempotency-Key": "k2"})
    written(started, 202)
    await work(world)
    await moved(shadow, "promote")
    for answer, again in (
        (first, await bob.post("ingest", records, headers=key)),
        (started, await shadow.post("backfill", span, headers={"Idempotency-Key": "k2"})),
    ):
        assert (again.status_code, again.content) == (answer.status_code, answer.content)
    another = {"records": [*records["records"], {"customerId": "C20"}]}
    refused(await bob.post("ingest", another, headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    assert (await bob.get("/api/v1/orgs/acme/contracts/customers/drift")).json()["data"] == []


async def test_a_read_only_dataset_is_filled_and_a_deprecated_one_is_not(world: World, people: dict[str, User]) -> None:
    bob, boss = people["ENGINEER"], people["ADMIN"]
    assert (await registered(bob, customers(readOnly=True)))["state"] == "READ_ONLY"
    assert await ingested(bob, {"customerId": "C1"}) == {"read": 1, "inserted": 1}
    await registered(bob, customers(name="clients"))
    clients = boss.on("clients")
    await moved(clients, "promote")
    await ingested(clients, {"customerId": "C1"}, {"company": "no key"})
    sent = {"content": CSV, "headers": {"Content-Type": "text/csv"}}
    run = written(await clients.request("POST", "ingest", **sent), 202)["runId"]
    span = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    await moved(clients, "deprecate")
    old = boss.on("clients@1")
    found = (await old.get("quarantine")).json()["data"]
    for path, body in (
        ("ingest", {"records": [{"customerId": "C2"}]}),
        ("replay", span),
        ("quarantine/replay", {"ids": [found[0]["id"]]}),
    ):
        refused(await old.post(path, body), 409, "DATASET_READ_ONLY")
    refused(await old.request("POST", "ingest", **sent), 409, "DATASET_READ_ONLY")
    await work(world)
    ended = (await old.get(f"sync/runs/{run}")).json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "DATASET_READ_ONLY")
    assert ids(await old.rows()) == ["C1"]


async def test_a_record_from_quarantine_has_the_moment_of_its_receipt(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob = people["ENGINEER"]
    sent = {"content": CSV.replace(b"C3", b"C9"), "headers": {"Content-Type": "text/csv"}}
    written(await bob.request("POST", "ingest", **sent), 202)
    world.clock.move(hours=1)
    await ingested(bob, {"customerId": "C9", "company": "Later"})
    await work(world)
    await bronze_is_a_tier(bob)
    found = (await bob.get("quarantine")).json()["data"]
    answer = written(await bob.post("quarantine/replay", {"ids": [found[0]["id"]]}))
    assert (answer["read"], answer["skipped"]) == (1, 1)
    assert (await values(bob, "company"))["C9"] == "Later"


async def bronze_is_a_tier(engineer: User) -> None:
    """The next minor version, which takes records that were put aside."""
    contract = (await engineer.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [dict(field) for field in contract["fields"]]
    fields[2]["values"] = [*fields[2]["values"], "bronze"]
    await registered(engineer, contract | {"version": "1.1", "fields": fields})


async def test_records_leave_quarantine_in_the_order_in_which_they_came(world: World, people: dict[str, User]) -> None:
    """However often they were tried before, all of them at one moment."""
    await used(people)
    bob = people["ENGINEER"]
    keys = [f"C{n}" for n in range(6)]
    for record in ({"company": "old", "revenue": 5}, {"company": "new"}):
        for key in keys:
            await ingested(bob, {"customerId": key, "tier": "bronze"} | record)
            world.clock.move(minutes=1)
    waiting = {"ids": ids((await bob.get("quarantine")).json()["data"])}
    assert written(await bob.post("quarantine/replay", waiting))["quarantined"] == 12
    await bronze_is_a_tier(bob)
    answer = written(await bob.post("quarantine/replay", waiting))
    assert (answer["inserted"], answer["updated"], answer["skipped"]) == (6, 6, 0)
    assert await values(bob, "company") == dict.fromkeys(keys, "new")
    assert await values(bob, "revenue") == dict.fromkeys(keys, 5)


async def test_what_stays_in_quarantine_is_not_put_aside_once_more(people: dict[str, User]) -> None:
    """A contract that lets one record of a request be put aside: what fits leaves, however many stay."""
    await used(people, maxQuarantined=1)
    bob = people["ENGINEER"]
    for tier in ("bronze", "lead", "tin"):
        await ingested(bob, {"customerId": tier, "tier": tier})
    more = {"records": [{"customerId": "C1", "tier": tier} for tier in ("lead", "tin")]}
    problem = refused(await bob.post("ingest", more), 422, "VALIDATION_FAILED")
    assert [error["code"] for error in problem["errors"]] == ["TOO_MANY_QUARANTINED"]
    await bronze_is_a_tier(bob)
    waiting = {"ids": ids((await bob.get("quarantine")).json()["data"])}
    answer = written(await bob.post("quarantine/replay", waiting))
    assert (answer["inserted"], answer["quarantined"]) == (1, 2)
    assert ids(await bob.rows()) == ["bronze"]


async def test_what_was_put_away_is_sent_through_no_more(world: World, people: dict[str, User]) -> None:
    """Neither by a replay nor into another version, and a dry run does not count it."""
    await used(people)
    bob, boss = people["ENGINEER"], people["ADMIN"]
    await ingested(bob, {"customerId": "C1", "tier": "bronze"}, {"customerId": "C2", "tier": "bronze"})
    gone, _ = (await bob.get("quarantine")).json()["data"]
    written(await bob.post("quarantine/discard", {"ids": [gone["id"]], "reason": "a test"}))
    await bronze_is_a_tier(bob)
    fields = [dict(field) for field in customers()["fields"]]
    fields[1]["name"], fields[2]["values"] = "companyName", ["gold", "silver", "bronze"]
    await registered(bob, customers(version="2.0", fields=fields))
    shadow = boss.on("customers@2")
    span: dict[str, Any] = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
    for version, way in ((boss, "replay"), (shadow, "backfill")):
        tried = written(await version.post(way, span))
        assert (tried["estimatedRows"], tried["estimatedQuarantined"]) == (1 if way == "replay" else 2, 0)
        written(await version.post(way, span | {"dryRun": False, "digest": tried["digest"]}), 202)
        await work(world)
        assert ids(await version.rows()) == ["C2"]
    [kept] = (await bob.get("quarantine")).json()["data"]
    assert (kept["id"], kept["discarded"]["reason"]) == (gone["id"], "a test")


async def test_a_run_goes_on_under_the_name_that_its_version_takes(world: World, people: dict[str, User]) -> None:
    await used(people)
    bob, boss = people["ENGINEER"], people["ADMIN"]
    await ingested(bob, {"customerId": "C1", "company": "A"})
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    fields = [field for field in contract["fields"] if field["name"] != "customerSince"]
    await registered(bob, contract | {"version": "2.0", "fields": fields})
    shadow = boss.on("customers@2")
    sent = {"content": b"customerId,company\nC1,A\nC2,B\n", "headers": {"Content-Type": "text/csv"}}
    run = written(await shadow.request("POST", "ingest", **sent), 202)["runId"]
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    digest = written(await shadow.post("backfill", span))["digest"]
    filling = written(await shadow.post("backfill", span | {"dryRun": False, "digest": digest}), 202)["runId"]
    standing = await world.runtime.datasets.find("acme", "customers@2")
    assert standing is not None
    await moved(shadow, "promote")
    # A worker that knows the version by the name that it had does nothing to it.
    clock = world_clock(world)
    await ingest(world.runtime.database, "acme", standing.contract, clock, asyncio.Event())
    await work(world)
    assert (await boss.get(f"sync/runs/{run}")).json()["state"] == "succeeded"
    ended = (await boss.get(f"sync/runs/{filling}")).json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "INVALID_TRANSITION")
    assert ids(await boss.rows()) == ["C1", "C2"]
