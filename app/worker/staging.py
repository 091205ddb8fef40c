"""Rows of upstream into the mirror: staged by COPY, compared, and only what differs is written."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import raise_revision
from app.engine.modifications import image

SIFT_STAGED = statement("worker/sift_staged")
APPLY_STAGED = statement("worker/apply_staged")
COMPLETE_BASES = statement("worker/complete_bases")

COLUMNS = ("row_key", "data", "actor", "commit_id", "change_reason")
INGESTED = ("row_key", "data", "event_at", "processed_at", "event_key")


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A row as upstream has it, None where it is gone; of a change that was pushed, also whose and why."""

    key: str
    document: dict[str, Any] | None
    actor: str | None = None
    commit_id: UUID | None = None
    change_reason: str | None = None


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the mirror that were written, and modifications that came into conflict by it."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    conflicts: int = 0


async def stage(desk: Desk, rows: Iterable[Incoming]) -> int:
    """Stage rows, each key once, less those that the mirror has just so; returns how many those are."""
    records = [(row.key, row.document, row.actor, row.commit_id, row.change_reason) for row in rows]
    await desk.connection.raw.copy_records_to_table("staged", columns=COLUMNS, records=records)
    return int(await desk.value(SIFT_STAGED))


async def stage_ingested(
    desk: Desk, rows: Sequence[tuple[str, dict[str, Any], datetime | None, datetime | None, str | None]]
) -> None:
    """Stage rows that differ from the mirror's: key, document, event time, processing time, event key."""
    await desk.connection.raw.copy_records_to_table("staged", columns=INGESTED, records=rows)


async def write(
    desk: Desk, source: Literal["pull", "push", "ingest"], at: datetime, others: Sequence[str] = (), **told: Any
) -> Written:
    """Write what is staged, under locks 1, 3 and 4 on it, then bring everybody's modifications of it up to date.

    `others`: rows that are not written, whose modifications are to be brought up to date as well; `told`: what the feed
    tells beside.
    """
    revision = await raise_revision(desk)
    written = await desk.rows(APPLY_STAGED, revision=revision, source=source, at=at)
    ops = [row["op"] for row in written]
    if "delete" in ops:
        await desk.value(COMPLETE_BASES, revision=revision)
    keys = sorted({*others, *(row["row_key"] for row in written)})
    tell_rows(desk, EventType(source), keys, at, revision=revision, **told)
    return Written(
        inserted=ops.count("insert"),
        updated=ops.count("update"),
        deleted=ops.count("delete"),
        conflicts=await image(desk, None, keys, revision),
    )
