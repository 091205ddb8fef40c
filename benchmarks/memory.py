"""What questions make the database's processes grow by: each question's text is another statement."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

from app.base.database import Connection, Database
from app.contracts import Contract
from app.contracts.filters import BOUNDS, Listing, field_type, operators_of, read_listing
from app.contracts.shape import FieldType
from app.engine.page import PageComposer
from benchmarks.processes import anonymous

VALUES: dict[FieldType, str] = {
    "text": "a",
    "enum": "a",
    "number": "7",
    "integer": "7",
    "boolean": "true",
    "date": "2026-03-01",
    "datetime": "2026-03-01T12:00:00Z",
}


def random_listing(contract: Contract, chance: random.Random) -> Listing:
    """Up to as many random conditions as a question may have, sorted by anything."""
    possible = []
    for name in (*contract.by_name, *contract.column_of, "id"):
        kind = field_type(contract, name)
        assert kind is not None, "it is a field"
        choices = contract.by_name[name].values if name in contract.by_name else ()
        for op in operators_of(kind):
            value = "true" if op == "isnull" else choices[0] if choices else VALUES[kind]
            possible.append((name if op == "eq" else f"{name}[{op}]", value))
    conditions = chance.sample(sorted({*possible}), chance.randint(1, min(BOUNDS.conditions, len(possible))))
    sort = chance.choice([*contract.by_name])
    return read_listing(contract, [*conditions, ("sort", chance.choice(("", "-")) + sort), ("pageSize", "50")])


async def growth(
    database: Database, contract: Contract, organization: str, user: str, *, connections: int, listings: int, seed: int
) -> int:
    """Bytes by which the backends of so many connections grow over so many random listings, after each has answered a
    plain one. The pool has to have room for them.
    """
    chance = random.Random(seed)
    asked = [random_listing(contract, chance) for _ in range(listings)]
    plain = read_listing(contract, [])

    async def ask(connection: Connection, listing: Listing) -> Any:
        composer = PageComposer(contract, listing, organization, user)
        return await connection.row(composer.page(None, counted=True, base_count=True))

    async with AsyncExitStack() as stack:
        lent = [await stack.enter_async_context(database.connection()) for _ in range(connections)]
        pids = [await connection.raw.fetchval("SELECT pg_backend_pid()") for connection in lent]
        for connection in lent:
            for _ in range(3):
                await ask(connection, plain)
        before = sum(map(anonymous, pids))

        async def work(place: int) -> None:
            for listing in asked[place::connections]:
                await ask(lent[place], listing)

        await asyncio.gather(*map(work, range(connections)))
        return sum(map(anonymous, pids)) - before
