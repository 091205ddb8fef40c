"""The locks that whoever writes to a dataset takes.

Their order is the same for everybody; docs/architecture.md has it as a table.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from asyncpg import ForeignKeyViolationError, Record

from app.base.database import Connection
from app.base.errors import DatasetNotFound
from app.base.statements import statement
from app.contracts import Contract

LOCK_DATASET = statement("locks/lock_dataset")
READ_DATASET = statement("locks/read_dataset")
RAISE_REVISION = statement("locks/raise_revision")
RAISE_WORKSPACE = statement("locks/raise_workspace")
RAISE_WORKSPACES = statement("locks/raise_workspaces")
SHARE_ABSENT_KEYS = statement("locks/share_absent_keys")
HOLD_ABSENT_KEYS = statement("locks/hold_absent_keys")
LOCK_ROWS = statement("locks/lock_rows")


class Standing(msgspec.Struct, frozen=True):
    """Where a dataset stands: its revision, and whether a commit needs a change request."""

    number: int
    require_approval: bool


class Workspace(NamedTuple):
    """The workspace's new revision; which of the keys the mirror does not have, and which upstream refused."""

    revision: int
    absent: list[str]
    refused: list[str]


async def lock_dataset(connection: Connection, contract: Contract, organization: str) -> Standing:
    """Lock 1, for a transaction that may change the mirror; raises DatasetNotFound."""
    return _standing(contract, await connection.row(LOCK_DATASET, organization, contract.name))


async def read_dataset(connection: Connection, contract: Contract, organization: str) -> Standing:
    """The same without the lock, for one that does not; raises DatasetNotFound."""
    return _standing(contract, await connection.row(READ_DATASET, organization, contract.name))


def _standing(contract: Contract, row: Record | None) -> Standing:
    if row is None:
        raise _not_set_up(contract)
    return Standing(row["revision"], row["require_approval"])


def _not_set_up(contract: Contract) -> DatasetNotFound:
    return DatasetNotFound(f"{contract.name} is not set up for this organization.")


async def raise_revision(connection: Connection, contract: Contract, organization: str) -> int:
    """The next revision, for a transaction that holds lock 1 and changes the mirror."""
    return int(await connection.value(RAISE_REVISION, organization, contract.name))


async def raise_workspace(
    connection: Connection, contract: Contract, organization: str, user: str, keys: Sequence[str] = ()
) -> Workspace:
    """Lock 2. Raises DatasetNotFound."""
    statement_ = RAISE_WORKSPACE.within(contract.schema)
    try:
        row = await connection.row(statement_, organization, contract.name, user, list(keys))
    except ForeignKeyViolationError:
        raise _not_set_up(contract) from None
    assert row is not None, "an upsert returns its row"
    return Workspace(row["revision"], row["absent"], row["refused"])


async def raise_workspaces(
    connection: Connection, contract: Contract, organization: str, users: Collection[str]
) -> None:
    """Lock 2 of everybody whose changes move."""
    await connection.value(RAISE_WORKSPACES, organization, contract.name, list(users))


async def lock_rows(
    connection: Connection, contract: Contract, organization: str, keys: Sequence[str], *, absent: bool, inserting: bool
) -> None:
    """Locks 3 and 4: keys that the mirror does not have, shared or held to make them definite; then its rows."""
    if absent:
        lock = HOLD_ABSENT_KEYS if inserting else SHARE_ABSENT_KEYS
        await connection.value(lock, organization, contract.name)
    statement_ = LOCK_ROWS.within(contract.schema)
    found = await connection.rows(statement_, organization, list(keys))
    if not absent and len(found) < len(set(keys)):
        # A row was deleted since `absent` was read. Out of order, so two of these may deadlock, and are run again.
        await connection.value(HOLD_ABSENT_KEYS if inserting else SHARE_ABSENT_KEYS, organization, contract.name)
        await connection.rows(statement_, organization, list(keys))
