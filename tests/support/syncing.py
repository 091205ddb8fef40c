"""A world whose fleet has a system of record, and a worker that goes when it is told to."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.base import exact_json
from app.base.clock import now
from app.base.database import Connection, Database
from app.base.settings import Settings
from app.contracts import PFA, Contract
from app.engine.desk import Desk
from app.engine.modifications import fold, image
from app.worker.loop import DEFECTS, Worker, database_clock
from app.worker.target import Target
from app.worker.upkeep import Retention
from tests.support.ledger import Ledger
from tests.support.world import FLEET, SECRET, User, World, open_world

# The same tables as the fleet of the other tests, now behind an upstream.
LEDGERED = msgspec.structs.replace(FLEET, upstream="ledger")
A_CENTURY = 36_500 * 86_400  # seconds: tokens outlive what the clock is moved by
KEPT = Retention(
    changes=timedelta(days=30),
    history=timedelta(days=365),
    audit=timedelta(days=3650),
    feed=timedelta(days=7),
    runs=timedelta(days=30),
    sessions=timedelta(days=30),
    requests=timedelta(days=365),
    drift=timedelta(days=60),
)


def defects() -> float:
    """How many jobs of workers in this process ended with a defect so far."""
    return sum(
        sample.value for metric in DEFECTS.collect() for sample in metric.samples if sample.name.endswith("total")
    )


class Ahead:
    """A clock that is ahead of the others."""

    def __init__(self) -> None:
        self.by = timedelta()

    def __call__(self) -> datetime:
        return now() + self.by

    async def read(self, connection: Connection) -> datetime:
        """The time by the database's clock."""
        return await database_clock(connection) + self.by


class Yard:
    """A world with a worker over the fleet's ledger; its clock is the world's."""

    def __init__(self, world: World, database: Database, ledger: Ledger, contract: Contract = LEDGERED, **target: Any):
        self.world, self.database, self.ledger, self.contract = world, database, ledger, contract
        self.target = Target(organization="acme", contract=contract, upstream=ledger, **target)
        self.worker = self.new_worker()
        self.users: dict[str, User] = {}

    def new_worker(self, **changed: Any) -> Worker:
        """Another worker."""
        target = msgspec.structs.replace(self.target, **changed)
        return Worker(self.database, [target], [self.contract], KEPT, read_clock=self.read_clock, chance=lambda: 1.0)

    def desk(self, connection: Connection) -> Desk:
        """Where a worker works on the fleet."""
        return Desk(connection, self.contract, "acme")

    async def read_clock(self, _: Connection) -> datetime:
        """The time by the world's clock."""
        return self.world.clock()

    async def work(self) -> None:
        """Do what is due, to the end."""
        before = defects()
        await self.worker.step()
        await self.worker.idle()
        assert defects() == before, "a job ended with a defect; the log tells which"
        for surprise in self.ledger.surprises:
            raise surprise

    async def later(self, **by: float) -> None:
        """The same after a while."""
        self.world.clock.move(**by)
        await self.work()

    async def user(self, name: str, **more: Any) -> User:
        """Somebody of acme who works with the fleet."""
        self.users[name] = (await self.world.user(name, **more)).on("fleet")
        return self.users[name]

    async def mirror(self) -> dict[str, dict[str, Any]]:
        """The mirror's documents by key."""
        rows = await self.world.db.fetch("SELECT row_key, data FROM fleet.mirror WHERE organization_id = 'acme'")
        return {row["row_key"]: exact_json.decode(row["data"]) for row in rows}

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

    async def states(self) -> list[str]:
        """The state of each change."""
        return [state for *_, state in await self.changes()]

    async def quarantine(self) -> dict[str, list[tuple[str | None, str]]]:
        """Field and code of what is wrong with each row in quarantine."""
        rows = await self.world.db.fetch("SELECT row_key, reasons FROM quarantine ORDER BY row_key")
        return {
            row["row_key"]: [(reason.get("field"), reason["code"]) for reason in exact_json.decode(row["reasons"])]
            for row in rows
        }

    async def standing(self) -> dict[str, Any]:
        """Where synchronization stands."""
        row = await self.world.db.fetchrow("SELECT * FROM synchronization WHERE organization_id = 'acme'")
        assert row is not None
        return dict(row)

    async def revision(self) -> int:
        """The dataset's revision."""
        return int(await self.world.db.fetchval("SELECT revision FROM dataset WHERE name = 'fleet'"))

    # --- what always holds

    async def check(self) -> None:
        """History tells how the mirror came about, modifications are as they would be made now, figures are right."""
        mirror = await self.mirror()
        assert await self._told() == mirror
        await self._check_modifications()
        await self._check_views(mirror)

    async def look(self) -> None:
        """What people see while a worker works, as of one moment: the same again where it moved in between."""
        while True:
            before = await self._stamp()
            try:
                await self._check_views(await self.mirror())
                return
            except AssertionError:
                if await self._stamp() == before:
                    raise

    async def _stamp(self) -> Any:
        return await self.world.db.fetch(
            "SELECT revision FROM dataset UNION ALL SELECT revision FROM workspace ORDER BY 1"
        )

    async def _check_views(self, mirror: dict[str, dict[str, Any]]) -> None:
        layers = await self.world.db.fetch(
            "SELECT user_id, row_key, pending_op, pending, draft_op, delta FROM fleet.modification"
        )
        for user in self.users.values():
            mine = dict(mirror)
            for layer in (layer for layer in layers if layer["user_id"] == user.id):
                mine = _laid_over(mine, layer)
            rows = {row["id"]: row["data"] for row in await user.rows(pageSize=1000)}
            assert rows == mine, user.id
            await _check_figures(user, mirror, mine)

    async def _told(self) -> dict[str, dict[str, Any]]:
        told: dict[str, dict[str, Any]] = {}
        for entry in await self.world.db.fetch(
            "SELECT row_key, op, before, after FROM fleet.history WHERE organization_id = 'acme'"
            " ORDER BY revision, row_key"
        ):
            key, before, after = (
                entry["row_key"],
                *(exact_json.decode(entry[side] or "{}") for side in ("before", "after")),
            )
            was = told.pop(key, {})
            assert {name: was.get(name) for name in before} == before, key
            if entry["op"] != "delete":
                told[key] = was | after
        return told

    async def _check_modifications(self) -> None:
        """Nothing changes when they are folded and imaged anew, but the deletions that this cannot know of."""
        orphans = await self.world.db.fetch(
            "SELECT row_key, user_id FROM fleet.change"
            " WHERE state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error')"
            " EXCEPT SELECT row_key, user_id FROM fleet.modification"
        )
        assert not orphans, "a change on its way that its author does not see"
        select = "SELECT to_jsonb(x) - 'modified_at' FROM fleet.modification AS x ORDER BY user_id, row_key"
        async with self.database.connection() as connection:
            before = await connection.raw.fetch(select)
            transaction = connection.raw.transaction()
            await transaction.start()
            try:
                keys = [row[0]["row_key"] for row in before]
                await connection.raw.execute(
                    "UPDATE fleet.modification AS x SET pending_op = 'update', pending_state = 'committed'"
                    " WHERE EXISTS (SELECT FROM fleet.change AS c WHERE c.row_key = x.row_key AND c.user_id = x.user_id"
                    " AND c.state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error'))"
                )
                await fold(self.desk(connection), None, keys)
                await image(self.desk(connection), None, keys)
                after = await connection.raw.fetch(select)
            finally:
                await transaction.rollback()
        assert [row[0] for row in after] == [row[0] for row in before]


@asynccontextmanager
async def open_yard(url: str, ledger: Ledger, contract: Contract = LEDGERED, **target: Any) -> AsyncIterator[Yard]:
    """A yard over a database of its own, with the organization acme."""
    database = Database(Settings(database_url=url, secret=SECRET, environment="test"))
    await database.open()
    try:
        async with open_world(url, contracts=(PFA, contract), token_ttl=A_CENTURY) as world:
            await world.organization("acme")
            yard = Yard(world, database, ledger, contract, **target)
            yield yard
            await yard.worker.idle()
    finally:
        await database.close()


def _laid_over(rows: dict[str, dict[str, Any]], layer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A user's view with one modification more: its row with pending and delta, or without the row."""
    key, ops = layer["row_key"], (layer["pending_op"], layer["draft_op"])
    others = {name: row for name, row in rows.items() if name != key}
    if layer["draft_op"] == "delete" or layer["pending_op"] == "delete" or (key not in rows and "insert" not in ops):
        return others
    return others | {key: rows.get(key, {}) | exact_json.decode(layer["pending"]) | exact_json.decode(layer["delta"])}


async def _check_figures(user: User, mirror: dict[str, dict[str, Any]], mine: dict[str, dict[str, Any]]) -> None:
    response = await user.get("kpis")
    assert response.status_code == 200, response.text
    totals = exact_json.decode(response.content)["totals"]
    for side, rows in (("baseline", mirror), ("mine", mine)):
        counted = [row for row in rows.values() if row.get("scrapped") is not True]
        mileages = [row["mileage"] for row in counted if row.get("mileage") is not None]
        expected = {
            "rows": len(counted),
            "mileage": sum(mileages),
            "seats": sum(row.get("seats") or 0 for row in counted),
            "longestMileage": max(mileages, default=None),
        }
        assert {name: totals[side][name] for name in expected} == expected, (user.id, side)


def van(**fields: Any) -> dict[str, Any]:
    """A vehicle as the ledger has it: every field, null where it is empty."""
    empty = {field.name: None for field in LEDGERED.fields if field.name != LEDGERED.key}
    return empty | {"depot": "North", "kind": "Van", "seats": 3, "mileage": 1000, "inService": True} | fields
