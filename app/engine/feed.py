"""The feed: what happened in an organization, appended by the transaction in which it happened, as its last statement.

Entries are numbered without gaps by a counter of the organization, which that statement locks until the commit: their
order is the order of commits, and nobody who reads on from a number can miss one that was still under way.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.positions import Position, read_position

APPEND_EVENT = statement("feed/append_event")


class EventType(StrEnum):
    """Everything that the feed tells. docs/feed.md says what each stands for."""

    PULL = "pull"
    PUSH = "push"
    INGEST = "ingest"
    COMMIT = "commit"
    MERGE = "merge"
    CONFLICT = "conflict"
    OVERLAP = "overlap"
    REQUEST = "request"
    SESSION = "session"
    DATASET = "dataset"
    DRAFTS = "drafts"  # never stored: it rides on the workspace's revision


def tell(
    desk: Desk,
    type_: EventType,
    at: datetime,
    *,
    actor: str | None = None,
    revision: int | None = None,
    keys: Sequence[str] | None = None,
    renamed: Mapping[str, str] | None = None,
    request_id: uuid.UUID | None = None,
    session_id: str | None = None,
    **details: Any,
) -> None:
    """Append what happened when the caller's transaction ends; the same is told once.

    `revision`: of the mirror, where that changed; `actor`: an account's id, None for the worker; `keys`: the rows that
    it is about; `renamed`: {temporary key: key} of rows that got theirs from upstream. Of a change request or a
    session, by its id, the state that it has in the end is told.
    """
    desk.connection.put_off(
        APPEND_EVENT,
        organization=desk.organization,
        dataset=desk.contract.name,
        at=at,
        type=type_,
        revision=revision,
        actor=actor,
        row_count=None if keys is None else len(keys),
        keys=None if keys is None else list(keys),
        renamed=dict(renamed) if renamed else None,
        details=details,
        request_id=request_id,
        session_id=session_id,
    )


def tell_rows(desk: Desk, type_: EventType, keys: Sequence[str], at: datetime, **more: Any) -> None:
    """The same of something that happened to rows; of none, nothing."""
    if keys:
        tell(desk, type_, at, keys=keys, **more)


async def reached(desk: Desk, user: str) -> str:
    """The position behind what the caller's transaction has written and is about to append to the feed, which it does
    here: as good as the last that a transaction does.

    Where the user's workspace was raised, no statement is needed: what the feed had then, or what is appended now.
    """
    number = await desk.connection.finish()
    position = desk.positions.get(user)
    if position is None:
        return await read_position(desk.connection, desk.organization, user)
    if number is not None:
        position = Position(position.epoch, number, position.own)
    return position.text(desk.organization, user)
