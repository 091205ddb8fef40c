"""Records that nobody should send: whatever comes, a run ends, and says what became of each record."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from app.contracts.keys import MAX_COUNT
from app.worker.ingestion import AT_ONCE
from app.worker.semantics import Counts, Ingester, Record
from tests.support.ingesting import APPENDED, ingested, ndjson, people_of, run_of, uploaded, used, work
from tests.support.world import User, World, written


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Everybody on `customers`."""
    return await people_of(world)


async def became(world: World, people: dict[str, User], body: bytes, kind: str = "application/x-ndjson") -> Any:
    """What became of an upload."""
    run = await uploaded(people["ENGINEER"], body, kind)
    await work(world)
    return await run_of(people["ENGINEER"], run)


@pytest.mark.parametrize(
    "number", ["9e999999", "-9e99999", "1e-400000", "9" * 5000, "1" + "0" * 200, "0." + "1" * 20_000]
)
async def test_a_number_beyond_what_the_database_holds(world: World, people: dict[str, User], number: str) -> None:
    await used(people)
    body = b'{"customerId":"C1","revenue":%b}\n{"customerId":"C2","other":%b}' % (number.encode(), number.encode())
    found = await became(world, people, body)
    assert found == {"state": "succeeded", "code": None, "counts": {"read": 2, "quarantined": 2}}
    table = f"customerId,revenue\nC1,{number}\nC2,-{number}\n".encode()
    found = await became(world, people, table, "text/csv")
    assert found == {"state": "succeeded", "code": None, "counts": {"read": 2, "quarantined": 2}}
    answer = await people["ENGINEER"].request(
        "POST",
        "ingest",
        content=b'{"records":[{"customerId":"C3","revenue":%b}]}' % number.encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in (200, 400), answer.text
    assert (await people["ENGINEER"].get("quarantine")).status_code == 200


@pytest.mark.parametrize("depth", [50, 400, 800, 950, 3000, 100_000])
async def test_nesting(world: World, people: dict[str, User], depth: int) -> None:
    await used(people)
    nested = b"[" * depth + b"]" * depth
    found = await became(world, people, b'{"customerId":"C1","company":%b}' % nested)
    assert found == {"state": "succeeded", "code": None, "counts": {"read": 1, "quarantined": 1}}
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    found = await became(world, people, b'{"customerId":"C1","company":%b}' % nested)
    assert found["state"] == "succeeded"
    answer = await people["ENGINEER"].request(
        "POST",
        "ingest",
        content=b'{"records":[{"customerId":"C3","revenue":%b}]}' % nested,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in (200, 400, 413), answer.text
    assert (await people["ENGINEER"].get("quarantine")).status_code == 200


async def test_nul_in_json(world: World, people: dict[str, User]) -> None:
    await used(people, schemaContract={"newFields": "evolve"})
    records = [{"customerId": f"C{n}", "new\0": "a\0b", "company": "x\0"} for n in range(1_001)]
    run = written(await people["ENGINEER"].post("ingest", {"records": records}), 202)["runId"]
    await work(world)
    found = await run_of(people["ENGINEER"], run)
    assert found == {"state": "succeeded", "code": None, "counts": {"read": 1001, "quarantined": 1001}}
    assert await ingested(people["ENGINEER"], records[0]) == {"read": 1, "quarantined": 1}


async def test_names_that_no_field_has_are_told_in_short(world: World, people: dict[str, User]) -> None:
    await used(people, schemaContract={"newFields": "evolve"})
    records = [{"customerId": f"C{n}", f"{n}" + "x" * 900_000: 1} for n in range(20)]
    run = await uploaded(people["ENGINEER"], ndjson(records))
    await work(world)
    answer = await people["ENGINEER"].get(f"sync/runs/{run}")
    assert len(answer.content) < 10_000
    assert answer.json()["counts"]["inserted"] == 20


async def test_an_appended_key_too_long_is_put_aside(world: World, people: dict[str, User]) -> None:
    await used(people, ingestion=APPENDED)
    seen = "2026-01-01T00:00:00Z"
    bob = people["ENGINEER"]
    counts = await ingested(bob, {"customerId": "C" * 190, "seenAt": seen}, {"customerId": "C1", "seenAt": seen})
    assert counts == {"read": 2, "inserted": 1, "quarantined": 1}
    # Long enough for one form of the moment, too long for the other.
    exact = "C" * (200 - len(f"~2026-01-01T00:00:00Z~{MAX_COUNT}"))
    assert await ingested(bob, {"customerId": exact, "seenAt": seen}) == {"read": 1, "inserted": 1}
    later = {"customerId": exact, "seenAt": "2026-01-01T05:00:00.000001Z"}
    assert await ingested(bob, later) == {"read": 1, "quarantined": 1}


async def test_what_is_wrong_with_a_wide_record_is_told_in_short(world: World, people: dict[str, User]) -> None:
    await used(people)
    header = ",".join(["customerId", *(f"c{n}" for n in range(1_599))])
    line = ",".join(["C1"] + ["1"] * 1_599)
    found = await became(world, people, "\n".join([header] + [line] * 3_000).encode(), "text/csv")
    assert found == {"state": "succeeded", "code": None, "counts": {"read": 3000, "quarantined": 3000}}


async def test_records_of_a_megabyte(world: World, people: dict[str, User]) -> None:
    await used(people)
    bodies = [{"customerId": f"C{n}", "company": "x" * 999_000} for n in range(300)]
    found = await became(world, people, ndjson(bodies))
    assert found == {"state": "succeeded", "code": None, "counts": {"read": 300, "quarantined": 300}}


async def test_long_records_are_taken_few_at_a_time(world: World, people: dict[str, User], monkeypatch: Any) -> None:
    await used(people)
    bob = people["ENGINEER"]
    run = await uploaded(bob, ndjson({"customerId": f"C{n}", "company": "x" * 400_000} for n in range(100)))
    sizes: list[int] = []
    take = Ingester.take

    async def measured(ingester: Ingester, records: Sequence[Record], at: datetime) -> Counts:
        sizes.append(sum(len(record.raw.record) for record in records))
        return await take(ingester, records, at)

    monkeypatch.setattr(Ingester, "take", measured)
    await work(world)
    assert (await run_of(bob, run))["counts"] == {"read": 100, "quarantined": 100}
    assert len(sizes) == 3
    assert max(sizes) < AT_ONCE + 1_000_000
    # None of them will ever fit, and yet each gets its turn.
    sizes.clear()
    world.clock.move(hours=1)
    for _ in range(3):
        answer = written(await bob.post("quarantine/replay", {"runId": run}))
        assert answer["read"] == answer["quarantined"]
        assert answer["read"] + answer["remaining"] == 100
    assert max(sizes) < AT_ONCE + 1_000_000
    assert await world.db.fetchval("SELECT count(*) FROM quarantine WHERE last_seen_at < $1", world.clock.at) == 0
