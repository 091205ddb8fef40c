"""The schema of an organization's own dataset: made, changed and dropped by the transaction that says so.

The service itself may make no relations. Whoever logged in acts for these statements, so that the address that the
connection was made by has to be that of the owner (VANGUARD_OWNER_URL).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from asyncpg import InsufficientPrivilegeError

from app.base.database import Connection
from app.base.errors import SystemReadOnly
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.ddl import Generated, Storage, drop_schema_ddl, storage_digest, storage_steps
from app.engine.desk import Desk
from app.engine.modifications import image

ACT_AS_OWNER = statement("versions/act_as_owner")
ACT_AS_SERVICE = statement("versions/act_as_service")
READ_GENERATED = statement("migrate/read_generated")
READ_SHAPE = statement("migrate/read_shape")
READ_FOLDING = statement("migrate/read_folding")
READ_KEYS = statement("versions/read_keys")

PORTION = 5_000  # rows whose drafts are imaged at a time


class Made(NamedTuple):
    """Whether columns of rows changed, and a digest of what the schema was made by."""

    remade: bool
    digest: str


async def make_storage(connection: Connection, contract: Contract) -> Made:
    """Make the contract's schema, or bring it to what the contract says.

    Raises SystemReadOnly where the installation lets the service make no schemas.
    """
    async with _owning(connection):
        before = await _generated(connection, contract)
        there = Storage(before, await connection.value(READ_SHAPE, schema=contract.schema), await _folding(connection))
        for step in storage_steps(contract, there):
            await connection.raw.execute(step.script)
        remade = bool(before) and await _generated(connection, contract) != before
    return Made(remade, storage_digest(there.folding))


async def drop_storage(connection: Connection, contract: Contract) -> None:
    """Drop the contract's schema with all that is in it."""
    async with _owning(connection):
        await connection.raw.execute(drop_schema_ddl(contract))


async def image_all(desk: Desk) -> None:
    """Everybody's modifications anew, after columns of their rows changed; under lock 1 against everybody."""
    for row in await desk.rows(READ_KEYS):
        keys = row["row_keys"]
        for start in range(0, len(keys), PORTION):
            await image(desk, None, keys[start : start + PORTION])


@asynccontextmanager
async def _owning(connection: Connection) -> AsyncIterator[None]:
    await connection.value(ACT_AS_OWNER)
    try:
        yield
    except InsufficientPrivilegeError:
        raise SystemReadOnly(
            "This installation lets the service make no schemas. Its operator sets VANGUARD_OWNER_URL to the address "
            "of the database's owner."
        ) from None
    await connection.value(ACT_AS_SERVICE)


async def _generated(connection: Connection, contract: Contract) -> dict[str, Generated]:
    rows = await connection.rows(READ_GENERATED, schema=contract.schema)
    return {row["column_name"]: Generated(row["type_name"], row["made_of"]) for row in rows}


async def _folding(connection: Connection) -> str:
    return str(await connection.value(READ_FOLDING) or "")
