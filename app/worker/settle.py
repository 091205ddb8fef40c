"""What became of pushed changes: they, the mirror, its history and all modifications of the rows, at once."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from app.base.statements import statement
from app.contracts.states import REFUSED
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import lock_dataset, lock_rows, raise_workspaces
from app.engine.modifications import fold
from app.upstream.protocol import Row, Unavailable
from app.worker.runs import for_people
from app.worker.staging import Incoming, stage, write

SETTLE_CHANGES = statement("worker/settle_changes")
FOLLOW_KEY = statement("worker/follow_key")
MOVE_BASES = statement("worker/move_bases")
READ_DOCUMENTS = statement("worker/read_documents")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed change. `sent_at`: when it may have been sent before, a new row without a key; `near`: keys of rows
    of which a person has said that none is it; `written`: it was sent before, and upstream may have it.
    """

    id: int
    row_key: str
    user_id: str
    op: Literal["insert", "update", "delete"]
    base: dict[str, Any]
    delta: dict[str, Any]
    attempts: int
    sent_at: datetime | None
    commit_id: UUID | None
    change_reason: str | None
    near: list[str] = []
    written: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change.

    `key`: the row's, where upstream gave it one. `document`: the row as upstream has it now, None where it is gone,
    UNSET where that is not known. `error`: why it did not go, for people, `code`: what kind of why. `near`: the rows
    that may be the new one. `kept`: of the fields that were sent those of which upstream made something else, and what.
    `retry_at`: for one that is committed again; `counted`: whether the attempt counts against it; `unavailable`:
    upstream was not there at all.
    """

    state: Literal["synced", "conflict", "sync_error", "committed"]
    key: str | None = None
    document: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    error: str | None = None
    code: str | None = None
    near: tuple[Row, ...] = ()
    kept: dict[str, Any] = {}
    retry_at: datetime | None = None
    counted: bool = True
    unavailable: Unavailable | None = None


Ended = tuple[Change, Outcome]
WORDS: dict[str, str] = {"synced": "synced", "conflict": "conflict", "sync_error": "syncError"}


async def settle(desk: Desk, claim: UUID, ended: Collection[Ended], at: datetime) -> list[Ended]:
    """Settle inside the caller's transaction.

    Returns those that were still the caller's to settle: a lease may have run out.
    """
    await lock_dataset(desk)
    await raise_workspaces(desk, {change.user_id for change, _ in ended})
    keys = {change.row_key for change, _ in ended} | {o.key for _, o in ended if o.key is not None}
    await lock_rows(desk, sorted(keys), absent=_may_insert(ended), inserting=True)
    mine = await _mark(desk, claim, ended, at)
    # The temporary key of a new row, too: somebody else may have one of the same name.
    settled = {change.row_key for change, _ in mine}
    for change, outcome in mine:
        if outcome.key is not None and outcome.key != change.row_key:
            await desk.value(
                FOLLOW_KEY,
                temporary_key=change.row_key,
                key=outcome.key,
                user=change.user_id,
                key_field=desk.contract.text_key,
                change_id=change.id,
            )
            settled.add(outcome.key)
        if _kept_otherwise(change, outcome):
            await desk.value(
                MOVE_BASES,
                key=outcome.key or change.row_key,
                change_id=change.id,
                written=change.delta,
                document=outcome.document,
                inserted=change.op == "insert",
            )
    if any(outcome.state != "committed" for _, outcome in mine):
        await stage(desk, await _incoming(desk, mine))
        await fold(desk, None, sorted(settled))
        # A new revision, also where the mirror has it all already: what others see as theirs has moved.
        await write(desk, "push", at, sorted(settled), renamed=_renamed(mine), **_counted(mine))
        refused = sorted({change.row_key for change, outcome in mine if outcome.state in REFUSED})
        tell_rows(desk, EventType.CONFLICT, refused, at, **_counted(mine, *REFUSED))
    else:
        await _put_off(desk, mine)
    return mine


def _renamed(mine: Collection[Ended]) -> dict[str, str]:
    return {c.row_key: o.key for c, o in mine if o.key is not None and o.key != c.row_key}


def _counted(mine: Collection[Ended], *states: str) -> dict[str, int]:
    """How many changes came to which of these states, by default to any that ends a push, as the wire calls them."""
    found = Counter[str](outcome.state for _, outcome in mine)
    return {word: found[state] for state, word in WORDS.items() if state in (states or WORDS)}


async def _put_off(desk: Desk, mine: Collection[Ended]) -> None:
    """They wait in the outbox again, and change nobody else's rows: only whose they are has a workspace raised here."""
    for user in {change.user_id for change, _ in mine}:
        await fold(desk, user, sorted({change.row_key for change, _ in mine if change.user_id == user}))


def _may_insert(ended: Collection[Ended]) -> bool:
    """Whether a row may come into the mirror that it does not have."""
    return any(change.op == "insert" for change, _ in ended)


def _kept_otherwise(change: Change, outcome: Outcome) -> bool:
    """Whether upstream made something else of what was written: of a new row always, it has more fields."""
    if outcome.state != "synced" or not isinstance(outcome.document, dict) or change.op == "delete":
        return False
    document = outcome.document
    return change.op == "insert" or any(document.get(name) != value for name, value in change.delta.items())


async def _mark(desk: Desk, claim: UUID, ended: Collection[Ended], at: datetime) -> list[Ended]:
    """The changes' new states; returns those that were still the caller's."""
    outcomes = [
        {
            "id": change.id,
            "state": outcome.state,
            "error": None if outcome.error is None else for_people(outcome.error),
            "code": outcome.code,
            "near": [{"id": row.key, "data": row.document} for row in outcome.near] or None,
            "kept": outcome.kept or None,
            "next_attempt_at": outcome.retry_at,
            "counted": outcome.counted,
        }
        for change, outcome in ended
    ]
    records = await desk.rows(SETTLE_CHANGES, claim=claim, at=at, outcomes=outcomes)
    found = {record["id"] for record in records}
    return [(change, outcome) for change, outcome in ended if change.id in found]


async def _incoming(desk: Desk, mine: Collection[Ended]) -> list[Incoming]:
    """The rows that are known now, as they go into the mirror.

    What was written and could not be read back is taken as it was wanted; the next pull corrects it.
    """
    unread = [o.key or c.row_key for c, o in mine if o.state == "synced" and o.document is msgspec.UNSET]
    records = await desk.rows(READ_DOCUMENTS, keys=unread) if unread else []
    mirror = {record["row_key"]: record["data"] for record in records}
    found = {}
    for change, outcome in mine:
        key, document = outcome.key or change.row_key, outcome.document
        if document is msgspec.UNSET and outcome.state == "synced":
            wanted = mirror.get(key, {desk.contract.text_key: key}) | change.delta
            document = None if change.op == "delete" else wanted
        if document is not msgspec.UNSET:
            done = outcome.state == "synced" and (document is None) == (change.op == "delete")
            found[key] = _row(key, document, change if done else None)
    return list(found.values())


def _row(key: str, document: dict[str, Any] | None, change: Change | None) -> Incoming:
    """With the change that made it so; None where somebody else did, upstream."""
    if change is None:
        return Incoming(key=key, document=document)
    return Incoming(
        key=key,
        document=document,
        actor=change.user_id,
        commit_id=change.commit_id,
        change_reason=change.change_reason,
    )
