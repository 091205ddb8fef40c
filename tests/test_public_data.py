"""Real public data that nobody shaped for us: inferred, registered, ingested, drafted, committed, exported.

What comes out is what was in the file, cell by cell, as the types that were inferred have it.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.base import exact_json
from app.base.database import Connection
from app.web.auth import Role
from app.worker.loop import Worker
from tests.support.own import SEMANTICS, customers, moved, ready, registered
from tests.support.syncing import KEPT
from tests.support.world import CONTRACTS, User, World, committed, written

PUBLIC = Path(__file__).parent / "support" / "public"
FILES = sorted(file.name for file in PUBLIC.iterdir() if file.suffix in (".csv", ".json"))
# Files in which no columns tell the records apart get a first column that does.
KEYLESS = {"penguins.csv", "cars.json"}
INFER = "/api/v1/orgs/acme/contracts/infer"
CSV, NDJSON = "text/csv", "application/x-ndjson"


@pytest.fixture
async def boss(world: World) -> User:
    """An ADMIN in a system that takes records."""
    await ready(world)
    return (await world.user("boss", role=Role.ADMIN)).on("things")


def read_file(name: str) -> tuple[bytes, str, list[dict[str, Any]]]:
    """What is sent, as what, and its records as another reader has them."""
    content = (PUBLIC / name).read_bytes()
    if name.endswith(".csv"):
        if name in KEYLESS:
            header, *lines = content.decode().splitlines()
            content = "\n".join([f"tag,{header}", *(f"T{n},{line}" for n, line in enumerate(lines))]).encode()
        return content, CSV, list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    records = exact_json.decode(content)
    if name in KEYLESS:
        records = [{"tag": f"T{number}", **record} for number, record in enumerate(records)]
    return b"\n".join(map(exact_json.encode, records)), NDJSON, records


async def work(world: World) -> None:
    """What a worker does until nothing is left."""

    async def read_clock(_: Connection) -> datetime:
        return world.clock.at

    worker = Worker(world.runtime.database, [], CONTRACTS, KEPT, read_clock=read_clock)
    await worker.step()
    await worker.idle()


def canonical(value: Any, kind: str) -> Any:
    """What a cell says, by its type: nothing is null, and 3.50 is 3.5."""
    if value is None or value == "":
        return None
    if kind in ("number", "integer"):
        return Decimal(str(value))
    return str(value).lower() if kind == "boolean" else str(value)


def canonical_rows(records: Iterable[Mapping[str, Any]], fields: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Rows in an order of their own: the cells of each, by the columns' names in `fields`."""
    rows = [[canonical(record.get(name), field["type"]) for name, field in fields.items()] for record in records]
    return sorted(rows, key=repr)


async def exported(user: User) -> list[dict[str, Any]]:
    """The rows of an export as CSV, which a spreadsheet's apostrophes are taken from."""
    response = await user.get("export", {"format": "csv"})
    assert response.status_code == 200, response.text
    rows = csv.DictReader(io.StringIO(response.text, newline=""))
    return [
        {name: cell[1:] if cell[:2] in ("'=", "'+", "'-", "'@") else cell for name, cell in row.items()} for row in rows
    ]


@pytest.mark.parametrize("name", FILES)
async def test_what_is_exported_is_what_was_in_the_file(world: World, boss: User, name: str) -> None:
    content, kind, records = read_file(name)
    sent: dict[str, Any] = {"content": content, "headers": {"Content-Type": kind}}
    response = await boss.request("POST", INFER, params={"name": "things"}, **sent)
    assert response.status_code == 200, response.text
    contract = response.json()["contract"]
    by_column = {field.get("label", field["name"]): field for field in contract["fields"]}
    by_field = {field["name"]: field for field in contract["fields"]}

    await registered(boss, contract)
    run = written(await boss.request("POST", "ingest", **sent), 202)["runId"]
    await work(world)
    done = (await boss.get(f"sync/runs/{run}")).json()
    assert (done["state"], done["error"]) == ("succeeded", None)
    counts = {count: number for count, number in done["counts"].items() if number}
    assert counts == {"read": len(records), "inserted": len(records)}
    await moved(boss, "promote")
    assert set(by_column) == {column for record in records for column in record}
    expected = canonical_rows(records, by_column)
    assert canonical_rows(await exported(boss), by_field) == expected

    # A draft is in its author's export at once; committed, it is in everybody's; taken back, all is as it was.
    row = (await boss.rows(pageSize=1))[0]
    field = next(each for each in contract["fields"] if each.get("editable", True) and each["type"] != "boolean")
    before = row["data"].get(field["name"])
    await boss.draft(row["id"], {field["name"]: None if before is not None else changed(field)})
    drafted = canonical_rows(await exported(boss), by_field)
    assert len([each for each in drafted if each not in expected]) == 1
    await committed(boss)
    other = (await world.user("other")).on("things")
    assert canonical_rows(await exported(other), by_field) == drafted
    await boss.draft(row["id"], {field["name"]: before})
    await committed(boss)
    assert canonical_rows(await exported(other), by_field) == expected

    # The file again says nothing new, and its export is a file like it.
    run = written(await boss.request("POST", "ingest", **sent), 202)["runId"]
    await work(world)
    again = (await boss.get(f"sync/runs/{run}")).json()
    assert {count: number for count, number in again["counts"].items() if number} == {
        "read": len(records), "unchanged": len(records),
    }  # fmt: skip


def changed(field: Mapping[str, Any]) -> Any:
    """A value for a cell that has none."""
    match field["type"]:
        case "number" | "integer":
            return 7
        case "enum":
            return field["values"][0]
        case "date":
            return "2026-01-31"
        case "datetime":
            return "2026-01-31T08:30:00Z"
    return "changed"


async def test_a_dataset_without_texts_is_searched_in_vain(boss: User) -> None:
    """Days and numbers alone: nothing of it is looked through."""
    fields = [
        {"name": "day", "type": "date", "editable": False, "indexed": True},
        {"name": "deaths", "type": "integer", "indexed": True},
    ]
    contract = customers(name="things", key="day", fields=fields, hot=[], measures=[])
    await registered(boss, contract | {"ingestion": SEMANTICS | {"idempotencyKey": ["day"]}})
    await moved(boss, "promote")
    written(await boss.post("ingest", {"records": [{"day": "2026-01-31", "deaths": 3}]}))
    await boss.draft("2026-01-31", {"deaths": 4})
    assert [row["data"]["deaths"] for row in await boss.rows(sort="-deaths")] == [4]
    assert await boss.rows(search="3") == []
