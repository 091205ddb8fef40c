"""Datasets of an organization's own, as tests need them: a small contract, and how it comes to be used."""

from typing import Any

from tests.support.world import User, World, written

SEMANTICS = {
    "mode": "upsert",
    "idempotencyKey": ["customerId"],
    "eventTimeColumn": "receivedAt",
    "processingTimeColumn": "receivedAt",
    "dedupeWindow": "24h",
    "conflictResolution": "latest_wins",
}


def customers(**more: Any) -> dict[str, Any]:
    """A contract that registers as it stands."""
    return {
        "name": "customers",
        "version": "1.0",
        "title": "Customers",
        "source": "/api/v1/customers",
        "key": "customerId",
        "fields": [
            {"name": "customerId", "type": "text", "editable": False},
            {"name": "company", "type": "text", "indexed": True},
            {"name": "tier", "type": "enum", "values": ["gold", "silver"], "indexed": True, "dimension": True},
            {"name": "revenue", "type": "number", "indexed": True, "scale": 2},
            {"name": "customerSince", "type": "date"},
        ],
        "hot": [{"sort": "revenue"}],
        "measures": [{"name": "revenue", "kind": "sum", "of": "revenue"}],
        "ingestion": SEMANTICS,
    } | more


async def ready(world: World) -> None:
    """The system takes contracts and records."""
    await world.db.execute("UPDATE system SET mode = 'INGESTION_READY'")


async def registered(engineer: User, contract: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer to a contract that registers."""
    response = await engineer.post(f"/api/v1/orgs/{engineer.organization}/contracts", contract or customers())
    return written(response, 201)


async def moved(admin: User, action: str, **more: Any) -> dict[str, Any]:
    """The answer to a dataset that goes to another state."""
    return written(await admin.post(action, {"reason": "as the test has it", **more}))
