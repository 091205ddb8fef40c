"""Change requests as a worker sees them, and what is told of each: closed once upstream has them, and forgotten."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from prometheus_client import Counter

from app.base.statements import statement
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, tell

ADD_EVENT = statement("change_requests/add_event")
CLOSE_REQUESTS = statement("change_requests/close_requests")
FORGET_REQUESTS = statement("change_requests/forget_requests")

REQUESTS = Counter("vanguard_change_requests_total", "Change requests by what happened to them", ["dataset", "event"])
AT_ONCE = 10  # requests that a statement closes, or forgets with all of their changes


class Event(StrEnum):
    """What a timeline tells. Those from `APPROVED_IN_PART` to `CONFLICTED` begin another iteration."""

    SUBMITTED = "submitted"
    COMMENTED = "commented"
    APPROVED = "approved"
    APPROVED_IN_PART = "approved_in_part"
    RESOLVED = "resolved"
    RESOLVED_AS_BEFORE = "resolved_as_before"
    RESUBMITTED = "resubmitted"
    CONFLICTED = "conflicted"
    MERGE_FAILED = "merge_failed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    MERGED = "merged"
    CLOSED = "closed"
    REVERTED = "reverted"


ACTS = {
    Event.SUBMITTED: Act.REQUEST_SUBMITTED,
    Event.APPROVED: Act.REQUEST_APPROVED,
    Event.APPROVED_IN_PART: Act.REQUEST_APPROVED,
    Event.RESOLVED: Act.REQUEST_RESOLVED,
    Event.RESOLVED_AS_BEFORE: Act.REQUEST_RESOLVED,
    Event.RESUBMITTED: Act.REQUEST_RESUBMITTED,
    Event.CONFLICTED: Act.REQUEST_MERGE_FAILED,
    Event.MERGE_FAILED: Act.REQUEST_MERGE_FAILED,
    Event.REJECTED: Act.REQUEST_REJECTED,
    Event.WITHDRAWN: Act.REQUEST_WITHDRAWN,
    Event.MERGED: Act.REQUEST_MERGED,
    Event.CLOSED: Act.REQUEST_CLOSED,
    Event.REVERTED: Act.REQUEST_REVERTED,
}


async def tell_of(
    desk: Desk,
    request_id: uuid.UUID,
    event: Event,
    actor: str | None,
    at: datetime,
    *,
    iteration: int,
    commit_id: uuid.UUID | None,
    text: str | None = None,
    key: str | None = None,
    field: str | None = None,
    details: dict[str, Any] | None = None,
) -> int:
    """Tell the timeline, the audit, the feed and the metrics what happened to a request; returns the event's id. A
    comment is not audited.
    """
    told = await desk.value(
        ADD_EVENT,
        request_id=request_id,
        kind=event,
        iteration=iteration,
        actor=actor,
        at=at,
        text=text,
        row_key=key,
        field=field,
        details=details or {},
    )
    if event in ACTS:
        entry = Entry(
            at=at,
            actor=actor,
            action=ACTS[event],
            request_id=request_id,
            commit_id=commit_id,
            reason=text,
            details=details or {},
        )
        await record(desk, entry)
    tell(
        desk,
        EventType.REQUEST,
        at,
        actor=actor,
        request_id=request_id,
        requestId=str(request_id),
        event=event,
        iteration=iteration,
    )
    REQUESTS.labels(desk.contract.name, event).inc()
    return int(told)


async def close_requests(desk: Desk, at: datetime) -> int:
    """Close the merged requests whose changes are done with upstream, inside a transaction; how many there were."""
    closed, some = 0, AT_ONCE
    while some == AT_ONCE:
        rows = await desk.rows(CLOSE_REQUESTS, at=at, limit=AT_ONCE)
        for row in rows:
            await tell_of(
                desk, row["id"], Event.CLOSED, None, at, iteration=row["iteration"], commit_id=row["commit_id"]
            )
        some = len(rows)
        closed += some
    return closed


async def forget_requests(desk: Desk, before: datetime) -> int:
    """Forget the requests that ended before a time, with their changes; how many there were."""
    forgotten, some = 0, AT_ONCE
    while some == AT_ONCE:
        some = await desk.value(FORGET_REQUESTS, before=before, limit=AT_ONCE)
        forgotten += some
    return forgotten
