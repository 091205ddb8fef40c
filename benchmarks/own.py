"""Datasets of an organization's own: a flat contract, its records, and how one comes to be in use."""

from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec

from app.base import exact_json
from app.base.clock import now
from app.base.database import Database
from app.base.settings import Settings
from app.contract_versions.registry import register
from app.contracts import Contract
from app.contracts.registration import read_registration
from app.engine.desk import Desk
from app.lifecycle.transitions import Wanted, carry_out
from benchmarks.data import ORGANIZATION

NAME = "shipments"
PLACES = ("Oslo", "Rome", "Paris", "Lima", "Accra", "Hanoi", "Quito", "Perth")
STATES = ("open", "packed", "sent", "arrived")

# Fifteen fields, four of them with a column.
FLAT: dict[str, Any] = {
    "name": NAME,
    "version": "1.0",
    "title": "Shipments",
    "source": "/api/v1/shipments",
    "key": "shipmentId",
    "fields": [
        {"name": "shipmentId", "type": "text", "editable": False},
        {"name": "customer", "type": "text"},
        {"name": "place", "type": "text", "indexed": True, "dimension": True},
        {"name": "state", "type": "enum", "values": list(STATES), "indexed": True, "dimension": True},
        {"name": "amount", "type": "number", "indexed": True, "scale": 2},
        {"name": "weight", "type": "number", "scale": 3},
        {"name": "pieces", "type": "integer"},
        {"name": "pallets", "type": "integer"},
        {"name": "insured", "type": "boolean"},
        {"name": "orderedOn", "type": "date", "indexed": True},
        {"name": "dueOn", "type": "date"},
        {"name": "seenAt", "type": "datetime", "editable": False},
        {"name": "carrier", "type": "text"},
        {"name": "reference", "type": "text"},
        {"name": "remark", "type": "text"},
    ],
    "hot": [{"sort": "orderedOn"}, {"sort": "amount"}, {"filters": ["place"], "sort": "orderedOn"}],
    "measures": [{"name": "amount", "kind": "sum", "of": "amount"}],
    "ingestion": {
        "mode": "upsert",
        "idempotencyKey": ["shipmentId"],
        "eventTimeColumn": "seenAt",
        "processingTimeColumn": "receivedAt",
        "dedupeWindow": "24h",
        "conflictResolution": "latest_wins",
    },
}


def records(count: int, round_: int = 0) -> Iterator[bytes]:
    """So many records, each as a line of NDJSON; those of another round are later, and say something else."""
    for n in range(count):
        yield exact_json.encode(
            {
                "shipmentId": f"S{n:07d}",
                "customer": f"Customer {n * 7919 % 4999}",
                "place": PLACES[n * 31 % len(PLACES)],
                "state": STATES[n * 17 % len(STATES)],
                "amount": msgspec.Raw(b"%d.%02d" % (n * 7919 % 90_000, n % 100)),
                "weight": msgspec.Raw(b"%d.%03d" % (n * 13 % 900, n % 1000)),
                "pieces": n * 37 % 977 + round_,
                "pallets": n % 89,
                "insured": n % 3 == 0,
                "orderedOn": f"2026-{n * 5 % 12 + 1:02d}-{n * 11 % 28 + 1:02d}",
                "dueOn": f"2027-{n * 7 % 12 + 1:02d}-{n % 28 + 1:02d}",
                "seenAt": f"2026-03-{1 + round_:02d}T{n % 24:02d}:{n % 60:02d}:{n * 7 % 60:02d}Z",
                "carrier": f"Carrier {n % 40}",
                "reference": f"REF-{n * 999_983 % 10_000_019}",
                "remark": "handle with care, keep upright",
            }
        )


async def use(
    database: Database, settings: Settings, user: str, document: dict[str, Any] = FLAT, organization: str = ORGANIZATION
) -> Contract:
    """Register the contract and promote it, over connections that can make schemas; the contract that is in use."""
    at = now()
    async with database.transaction() as connection:
        contract = read_registration(document, schema="own_0")
        found = await register(connection, organization, contract, user, at, settings)
    async with database.transaction() as connection:
        desk = Desk(connection, found.contract, organization)
        await carry_out(desk, Wanted("promote", user, "benchmark", at))
    return found.contract


async def take_records(owner: "asyncpg.Connection[Any]") -> None:
    """Let the system take contracts and records."""
    await owner.execute("UPDATE public.system SET mode = 'INGESTION_READY'")
