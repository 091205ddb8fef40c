"""A world whose fleet has a system of record, and a worker that goes when it is told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.contracts import PFA
from app.db import Connection, Database
from app.settings import Settings
from app.sync.target import Target
from app.sync.upkeep import Retention
from app.sync.worker import DEFECTS, Worker
from tests.ledger import Ledger
from tests.world import FLEET, SECRET, User, World, open_world

# The same tables as the fleet of the other tests, now behind an upstream.
LEDGERED = msgspec.structs.replace(FLEET, upstream="ledger")
KEPT = Retention(changes=timedelta(days=30), history=timedelta(days=365), runs=timedelta(days=30))


def defects() -> float:
    """How many jobs of workers in this process ended with a defect so far."""
    return sum(
        sample.value for metric in DEFECTS.collect() for sample in metric.samples if sample.name.endswith("total")
    )


class Yard:
    """A world with a worker over the fleet's ledger; its clock is the world's."""

    def __init__(self, world: World, database: Database, ledger: Ledger, **target: Any):
        self.world, self.database, self.ledger = world, database, ledger
        self.target = Target(organization="acme", contract=LEDGERED, upstream=ledger, **target)
        self.worker = self.new_worker()

    def new_worker(self, **changed: Any) -> Worker:
        """Another worker."""
        target = msgspec.structs.replace(self.target, **changed)
        return Worker(self.database, [target], [LEDGERED], KEPT, read_clock=self.read_clock, chance=lambda: 1.0)

    async def read_clock(self, _: Connection) -> datetime:
        """The time by the world's clock."""
        return self.world.clock()

    async def work(self) -> None:
        """Do what is due, to the end."""
        before = defects()
        await self.worker.step()
        await self.worker.idle()
        assert defects() == before, "a job ended with a defect; the log tells which"

    async def later(self, **by: float) -> None:
        """The same after a while."""
        self.world.clock.move(**by)
        await self.work()

    async def user(self, name: str, **more: Any) -> User:
        """Somebody of acme who works with the fleet."""
        return (await self.world.user(name, **more)).on("fleet")

    async def mirror(self) -> dict[str, dict[str, Any]]:
        """The mirror's documents by key."""
        rows = await self.world.db.fetch("SELECT row_key, data FROM fleet.mirror WHERE organization_id = 'acme'")
        return {row["row_key"]: msgspec.json.decode(row["data"]) for row in rows}

    async def runs(self, kind: str = "pull") -> list[dict[str, Any]]:
        """The records of runs, oldest first."""
        rows = await self.world.db.fetch(
            "SELECT * FROM sync_run WHERE organization_id = 'acme' AND kind = $1 ORDER BY started_at, requested_at",
            kind,
        )
        return [dict(row) for row in rows]

    async def changes(self) -> list[tuple[str, str, str]]:
        """Row, operation and state of each change."""
        rows = await self.world.db.fetch("SELECT row_key, op, state FROM fleet.change ORDER BY id")
        return [(row["row_key"], row["op"], row["state"]) for row in rows]


@asynccontextmanager
async def open_yard(url: str, ledger: Ledger, **target: Any) -> AsyncIterator[Yard]:
    """A yard over a database of its own, with the organization acme."""
    database = Database(Settings(database_url=url, secret=SECRET, environment="test"))
    await database.open()
    try:
        async with open_world(url, contracts=(PFA, LEDGERED)) as world:
            await world.organization("acme")
            yard = Yard(world, database, ledger, **target)
            yield yard
            await yard.worker.idle()
    finally:
        await database.close()


def van(**fields: Any) -> dict[str, Any]:
    """A vehicle as the ledger has it: every field, null where it is empty."""
    empty = {field.name: None for field in LEDGERED.fields if field.name != LEDGERED.key}
    return empty | {"depot": "North", "kind": "Van", "seats": 3, "mileage": 1000, "inService": True} | fields
