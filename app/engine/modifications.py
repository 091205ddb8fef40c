"""Modifications brought up to date, after the mirror or the changes beneath them moved.

Each is a statement of its own, after the one that moved them: it has to see what that one wrote.
"""

from collections.abc import Sequence
from datetime import datetime

from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.quotas import doubt

TAKE_BACK = statement("modifications/take_back")
FOLD_PENDING = statement("modifications/fold_pending")
IMAGE_MODIFICATIONS = statement("modifications/image_modifications")
SWEEP_EMPTY = statement("modifications/sweep_empty")


async def fold(desk: Desk, user: str | None, keys: Sequence[str]) -> None:
    """Pending anew, of one user or everybody, after changes of these rows came or ended."""
    await desk.rows(FOLD_PENDING, user=user, keys=list(keys))


async def take_back(desk: Desk, user: str, keys: Sequence[str], at: datetime) -> None:
    """What upstream refused of these rows is a draft again, under what was drafted since; under locks 2 and 4.

    The modifications are to be imaged afterwards.
    """
    await desk.rows(TAKE_BACK, user=user, keys=list(keys), at=at)
    await doubt(desk, [user])
    tell_rows(desk, EventType.OVERLAP, keys, at, actor=user)
    await fold(desk, user, keys)


async def image(desk: Desk, user: str | None, keys: Sequence[str], revision: int | None = None) -> int:
    """Image the modifications of these rows anew (of one user, or everybody's) and sweep those with nothing left.

    `revision` is the one whose deletions took rows away under drafts. Returns how many came into conflict by it.
    """
    groups = desk.contract.cell_map
    found = await desk.rows(IMAGE_MODIFICATIONS, user=user, keys=list(keys), groups=groups, revision=revision)
    await sweep(desk, user, keys)
    return sum(row["newly"] for row in found)


async def sweep(desk: Desk, user: str | None, keys: Sequence[str]) -> None:
    """Take away those of these modifications with nothing left."""
    await desk.rows(SWEEP_EMPTY, user=user, keys=list(keys), raised=list(desk.raised))
