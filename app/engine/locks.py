"""The locks that whoever writes to a dataset takes.

Their order is the same for everybody; docs/architecture.md has it as a table.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from asyncpg import ForeignKeyViolationError, Record

from app.base.errors import DatasetReadOnly, SchemaChanged
from app.base.statements import statement
from app.contracts.states import STATE_RIGHTS, DatasetState
from app.engine.desk import Desk
from app.engine.positions import Position

LOCK_DATASET = statement("locks/lock_dataset")
HOLD_DATASET = statement("locks/hold_dataset")
LOCK_VERSIONS = statement("locks/lock_versions")
READ_DATASET = statement("locks/read_dataset")
RAISE_REVISION = statement("locks/raise_revision")
RAISE_WORKSPACE = statement("locks/raise_workspace")
RAISE_WORKSPACES = statement("locks/raise_workspaces")
SHARE_ABSENT_KEYS = statement("locks/share_absent_keys")
HOLD_ABSENT_KEYS = statement("locks/hold_absent_keys")
LOCK_ROWS = statement("locks/lock_rows")
HOLD_UNIQUE_VALUES = statement("locks/hold_unique_values")


class Dataset(msgspec.Struct, frozen=True):
    """A dataset's revision, whether a commit to it needs a change request, its state; the database's incarnation."""

    revision: int
    require_approval: bool
    state: DatasetState
    incarnation: int


class Workspace(NamedTuple):
    """The workspace's new revision; which of the keys the mirror does not have, and which upstream refused."""

    revision: int
    absent: list[str]
    refused: list[str]


async def lock_dataset(desk: Desk) -> Dataset:
    """Lock 1, for a transaction that may change the mirror; raises DatasetNotFound and SchemaChanged."""
    return _dataset(desk, await desk.row(LOCK_DATASET))


async def lock_filled(desk: Desk) -> Dataset:
    """The same for pulls and ingestion; raises DatasetReadOnly, too, where the state takes none of them."""
    dataset = await lock_dataset(desk)
    if not STATE_RIGHTS[dataset.state].filled:
        raise read_only(desk, dataset.state)
    return dataset


async def hold_dataset(desk: Desk) -> Dataset:
    """Lock 1, shared: its state and version stay until the transaction ends; raises DatasetNotFound, SchemaChanged."""
    return _dataset(desk, await desk.row(HOLD_DATASET))


async def hold_edited(desk: Desk) -> None:
    """The same for what people write without a workspace of their own; raises DatasetReadOnly, too."""
    dataset = await hold_dataset(desk)
    if not STATE_RIGHTS[dataset.state].edited:
        raise read_only(desk, dataset.state)


async def hold_filled(desk: Desk) -> None:
    """The same for what comes from outside; raises DatasetReadOnly where the state takes none of it."""
    dataset = await hold_dataset(desk)
    if not STATE_RIGHTS[dataset.state].filled:
        raise read_only(desk, dataset.state)


async def read_dataset(desk: Desk) -> Dataset:
    """The same without the lock, for one that does not; raises DatasetNotFound and SchemaChanged."""
    return _dataset(desk, await desk.row(READ_DATASET))


async def lock_versions(desk: Desk) -> None:
    """Lock 1 against everybody, for a transaction that changes contract, state or schema of the dataset's versions:
    nobody writes to them until it ends, and whoever waited finds them as they are then.
    """
    await desk.rows(LOCK_VERSIONS)


def _dataset(desk: Desk, row: Record | None) -> Dataset:
    if row is None:
        raise desk.not_set_up
    _check_edition(desk, row)
    return Dataset(row["revision"], row["require_approval"], DatasetState(row["state"]), row["incarnation"])


def _check_edition(desk: Desk, row: Record) -> None:
    """Raises SchemaChanged where an organization's own dataset has another version than the desk's by now."""
    contract = desk.contract
    if contract.own and (row["schema_name"], row["contract_version"]) != (contract.schema, contract.version):
        raise SchemaChanged(
            f"{contract.name} {contract.version} is {row['contract_version']} since a moment ago. Nothing was saved; "
            "read the dataset again, and send it once more if it still fits."
        )


def read_only(desk: Desk, state: DatasetState) -> DatasetReadOnly:
    """The refusal of a write that the state does not take."""
    why = {
        DatasetState.READ_ONLY: "Nobody edits it; pulls and ingestion fill it.",
        DatasetState.SHADOW: "Ingestion and backfill fill it; it can be edited once it is promoted.",
        DatasetState.DEPRECATED: "Nothing changes in it any more, unless an ADMIN restores it.",
    }
    return DatasetReadOnly(f"{desk.contract.name} is {state}. {why.get(state, '')}".strip(), state=state.value)


async def raise_revision(desk: Desk) -> int:
    """The next revision, for a transaction that holds lock 1 and changes the mirror."""
    return int(await desk.value(RAISE_REVISION))


async def raise_workspace(desk: Desk, user: str, keys: Sequence[str] = (), *, expiring: bool = False) -> Workspace:
    """Lock 2, for whatever people write. Raises DatasetNotFound, DatasetReadOnly and SchemaChanged.

    `expiring`: a session whose time is over ends in whatever state the dataset is.
    """
    if desk.contract.own:
        # Lock 1, shared: no version takes another's place until the transaction ends. A built-in one has no other.
        await hold_dataset(desk)
    try:
        row = await desk.row(RAISE_WORKSPACE, user=user, keys=list(keys))
    except ForeignKeyViolationError:
        raise desk.not_set_up from None
    assert row is not None, "an upsert returns its row"
    desk.raised.add(user)
    state = DatasetState(row["state"])
    if not STATE_RIGHTS[state].edited and not expiring:
        raise read_only(desk, state)
    desk.positions[user] = Position(row["incarnation"], row["feed_number"] or 0, {desk.contract.name: row["revision"]})
    return Workspace(row["revision"], row["absent"], row["refused"])


async def raise_workspaces(desk: Desk, users: Collection[str]) -> None:
    """Lock 2 of everybody whose changes move."""
    await desk.value(RAISE_WORKSPACES, users=list(users))
    desk.raised.update(users)


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
