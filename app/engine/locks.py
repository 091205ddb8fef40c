"""The locks that whoever writes to a dataset takes.

Their order is the same for everybody; docs/architecture.md has it as a table.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from asyncpg import ForeignKeyViolationError, Record

from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.positions import Position

LOCK_DATASET = statement("locks/lock_dataset")
READ_DATASET = statement("locks/read_dataset")
RAISE_REVISION = statement("locks/raise_revision")
RAISE_WORKSPACE = statement("locks/raise_workspace")
RAISE_WORKSPACES = statement("locks/raise_workspaces")
SHARE_ABSENT_KEYS = statement("locks/share_absent_keys")
HOLD_ABSENT_KEYS = statement("locks/hold_absent_keys")
LOCK_ROWS = statement("locks/lock_rows")
HOLD_UNIQUE_VALUES = statement("locks/hold_unique_values")


class Dataset(msgspec.Struct, frozen=True):
    """A dataset's revision, whether a commit to it needs a change request, and the database's incarnation."""

    revision: int
    require_approval: bool
    incarnation: int


class Workspace(NamedTuple):
    """The workspace's new revision; which of the keys the mirror does not have, and which upstream refused."""

    revision: int
    absent: list[str]
    refused: list[str]


async def lock_dataset(desk: Desk) -> Dataset:
    """Lock 1, for a transaction that may change the mirror; raises DatasetNotFound."""
    return _dataset(desk, await desk.row(LOCK_DATASET))


async def read_dataset(desk: Desk) -> Dataset:
    """The same without the lock, for one that does not; raises DatasetNotFound."""
    return _dataset(desk, await desk.row(READ_DATASET))


def _dataset(desk: Desk, row: Record | None) -> Dataset:
    if row is None:
        raise desk.not_set_up
    return Dataset(row["revision"], row["require_approval"], row["incarnation"])


async def raise_revision(desk: Desk) -> int:
    """The next revision, for a transaction that holds lock 1 and changes the mirror."""
    return int(await desk.value(RAISE_REVISION))


async def raise_workspace(desk: Desk, user: str, keys: Sequence[str] = ()) -> Workspace:
    """Lock 2. Raises DatasetNotFound."""
    try:
        row = await desk.row(RAISE_WORKSPACE, user=user, keys=list(keys))
    except ForeignKeyViolationError:
        raise desk.not_set_up from None
    assert row is not None, "an upsert returns its row"
    desk.positions[user] = Position(row["incarnation"], row["feed_number"] or 0, {desk.contract.name: row["revision"]})
    return Workspace(row["revision"], row["absent"], row["refused"])


async def raise_workspaces(desk: Desk, users: Collection[str]) -> None:
    """Lock 2 of everybody whose changes move."""
    await desk.value(RAISE_WORKSPACES, users=list(users))


async def lock_rows(desk: Desk, keys: Sequence[str], *, absent: bool, inserting: bool) -> None:
    """Locks 3 and 4: keys that the mirror does not have, shared or held to make them definite; then its rows."""
    lock_absent_keys = HOLD_ABSENT_KEYS if inserting else SHARE_ABSENT_KEYS
    if absent:
        await desk.value(lock_absent_keys)
    found = await desk.rows(LOCK_ROWS, keys=list(keys))
    if not absent and len(found) < len(set(keys)):
        # A row was deleted since `absent` was read. Out of order, so two of these may deadlock, and are run again.
        await desk.value(lock_absent_keys)
        await desk.rows(LOCK_ROWS, keys=list(keys))


async def hold_unique_values(desk: Desk) -> None:
    """Lock 6, the last one: values that have to be unique, until the transaction ends."""
    await desk.value(HOLD_UNIQUE_VALUES)
