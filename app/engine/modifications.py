"""Modifications brought up to date, after the mirror or the changes beneath them moved.

Each is a statement of its own, after the one that moved them: it has to see what that one wrote.
"""

from collections.abc import Sequence
from datetime import datetime

from app.base.database import Connection
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.images import imaged

TAKE_BACK = statement("modifications/take_back")
FOLD_PENDING = statement("modifications/fold_pending")
IMAGE_MODIFICATIONS = statement("modifications/image_modifications")
SWEEP_EMPTY = statement("modifications/sweep_empty")


async def fold(
    connection: Connection, contract: Contract, organization: str, user: str | None, keys: Sequence[str]
) -> None:
    """Pending anew, of one user or everybody, after changes of these rows came or ended."""
    await connection.rows(FOLD_PENDING.within(contract.schema), organization, list(keys), user)


async def take_back(
    connection: Connection, contract: Contract, organization: str, user: str, keys: Sequence[str], at: datetime
) -> None:
    """What upstream refused of these rows is a draft again, under what was drafted since; under locks 2 and 4.

    The modifications are to be imaged afterwards.
    """
    await connection.rows(TAKE_BACK.within(contract.schema), organization, user, list(keys), at)
    await fold(connection, contract, organization, user, keys)


async def image(
    connection: Connection,
    contract: Contract,
    organization: str,
    user: str | None,
    keys: Sequence[str],
    revision: int | None = None,
) -> int:
    """Image the modifications of these rows anew (of one user, or everybody's) and sweep those with nothing left.

    `revision` is the one whose deletions took rows away under drafts. Returns how many came into conflict by it.
    """
    statement_ = imaged(IMAGE_MODIFICATIONS, contract)
    found = await connection.rows(statement_, organization, user, list(keys), contract.cell_map, revision)
    await connection.rows(SWEEP_EMPTY.within(contract.schema), organization, user, list(keys))
    return sum(row["newly"] for row in found)
