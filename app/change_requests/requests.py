"""A change request: what is stored of it, who may do what with it, its timeline, the digest of what there is to see.

Whoever changes a request holds its row (sql/locks/lock_request.sql) before every other lock of a dataset.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from asyncpg import Record

from app.base import exact_json
from app.base.errors import ChangeRequestNotFound, Forbidden, InvalidTransition, PreviewStale
from app.base.statements import statement
from app.contracts.states import REQUEST_TRANSITIONS, RequestState
from app.engine.desk import Desk
from app.engine.locks import hold_edited, lock_rows
from app.engine.requests import Event, tell_of

LOCK_REQUEST = statement("locks/lock_request")
READ_REQUEST = statement("change_requests/read_request")
MOVE_REQUEST = statement("change_requests/move_request")
REWRITE_REQUEST = statement("change_requests/rewrite_request")
SUMMARIZE = statement("change_requests/summarize")
READ_KEYS = statement("change_requests/read_keys")
LIST_EVENTS = statement("change_requests/list_events")
LIST_APPROVALS = statement("change_requests/list_approvals")

MAX_SHOWN = 1000  # conflicts and culprits in one answer
MAX_EVENTS = 200  # of a timeline in one answer


class Person(NamedTuple):
    """Who asks: an account's id, and whether the role in the organization is ADMIN."""

    id: str
    admin: bool


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `summary` counts its rows and cells, `content` is a digest of them; `conflicts` are those that the
    last merge met, `validation` the run that judged it last; `result` is what the merge answered.
    """

    id: uuid.UUID
    dataset: str
    session_id: str
    author: str
    title: str
    description: str | None
    approvers: list[str]
    state: RequestState
    iteration: int
    content: str
    conflicts: list[dict[str, Any]]
    validation: dict[str, Any]
    summary: dict[str, int]
    base_revision: int
    merged_revision: int | None
    commit_id: uuid.UUID | None
    result: dict[str, Any] | None
    reason: str | None
    reverts: uuid.UUID | None
    reverts_commit: uuid.UUID | None
    left_out: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime
    merged_at: datetime | None
    merged_by: str | None
    closed_at: datetime | None
    author_name: str | None
    approver_names: list[str | None]
    merged_by_name: str | None
    decided_by_name: str | None

    @property
    def shown_validation(self) -> dict[str, Any]:
        """The run with the name of whoever let its warnings pass, as they are called now."""
        named = None if self.validation.get("decidedBy") is None else self.decided_by_name
        return self.validation | {"decidedByName": named}

    @property
    def has_rows(self) -> bool:
        """Whether there is anything in it; all of it may have been given up."""
        return any(self.summary[name] for name in ("rows_added", "rows_updated", "rows_deleted"))

    @property
    def in_review(self) -> bool:
        """Whether its changes are under review: what they come to depends on the rows as they are now."""
        return self.state in (RequestState.PENDING_REVIEW, RequestState.APPROVED)

    @property
    def sent_back(self) -> bool:
        """Whether its changes are its author's drafts again, to be submitted again."""
        return self.state in (RequestState.REJECTED, RequestState.WITHDRAWN)

    @property
    def merged(self) -> bool:
        """Whether it has been merged."""
        return self.commit_id is not None

    def is_read_by(self, person: Person) -> bool:
        """Its author, its approvers and every ADMIN may read it."""
        return person.admin or person.id == self.author or person.id in self.approvers

    def is_reviewed_by(self, person: Person) -> bool:
        """Those who are named; where nobody is, any ADMIN. Nobody reviews their own."""
        if person.id == self.author:
            return False
        return person.id in self.approvers if self.approvers else person.admin

    def is_merged_by(self, person: Person) -> bool:
        """An ADMIN, or one of the approvers."""
        return person.admin or person.id in self.approvers


def request_of(row: Record) -> ChangeRequest:
    """The request of a record of read_request or list_requests."""
    return ChangeRequest(**{**row, "state": RequestState(row["state"])})


async def read_request(desk: Desk, person: Person, request_id: uuid.UUID) -> ChangeRequest:
    """A request that the person may read; raises ChangeRequestNotFound."""
    row = await desk.row(READ_REQUEST, id=request_id)
    request = None if row is None else request_of(row)
    if request is None or not request.is_read_by(person):
        raise ChangeRequestNotFound("There is no such change request, or it is not yours to read.")
    return request


async def lock_request(desk: Desk, person: Person, request_id: uuid.UUID) -> ChangeRequest:
    """The same under its lock, for whoever changes it; raises DatasetReadOnly and SchemaChanged, too."""
    await desk.value(LOCK_REQUEST, id=request_id)
    request = await read_request(desk, person, request_id)
    await hold_edited(desk)
    return request


def check_reviewer(request: ChangeRequest, person: Person) -> None:
    """Raises Forbidden for whoever does not review it."""
    if person.id == request.author:
        raise Forbidden("Nobody reviews their own change request.")
    if not request.is_reviewed_by(person):
        raise Forbidden("The approvers that the change request names review it, and nobody else.")


def check_way(request: ChangeRequest, to: RequestState) -> None:
    """Raises InvalidTransition for a way that there is not."""
    if to not in REQUEST_TRANSITIONS[request.state]:
        raise InvalidTransition(
            f"The change request is {request.state}, and does not become {to}.", state=request.state
        )


async def move_request(
    desk: Desk, request: ChangeRequest, to: RequestState, at: datetime, reason: str | None = None
) -> ChangeRequest:
    """The request in its next state, under its lock; raises InvalidTransition for a way that there is not."""
    check_way(request, to)
    moved = await desk.value(MOVE_REQUEST, id=request.id, was=request.state, state=to, at=at, reason=reason)
    assert moved is not None, "its lock holds the state that was read"
    return msgspec.structs.replace(
        request, state=to, updated_at=at, reason=reason, closed_at=at if to is RequestState.CLOSED else None
    )


async def summarize(desk: Desk, request_id: uuid.UUID) -> tuple[str, dict[str, int]]:
    """A digest of a request's changes under review, and how much they change."""
    found = await desk.row(SUMMARIZE, request_id=request_id)
    assert found is not None, "an aggregate has one row"
    counted = dict(found)
    return counted.pop("content"), counted


async def rewrite_request(
    desk: Desk,
    request: ChangeRequest,
    at: datetime,
    *,
    conflicts: Sequence[Mapping[str, Any]] = (),
    validation: Mapping[str, Any] | None = None,
) -> ChangeRequest:
    """The next iteration, under the request's lock, after its changes were written; earlier approvals do not count."""
    content, summary = await summarize(desk, request.id)
    run = request.validation if validation is None else dict(validation)
    shown = list(conflicts)[:MAX_SHOWN]
    iteration = await desk.value(
        REWRITE_REQUEST, id=request.id, content=content, summary=summary, conflicts=shown, validation=run, at=at
    )
    return msgspec.structs.replace(
        request,
        iteration=iteration,
        content=content,
        summary=summary,
        conflicts=[dict(each) for each in shown],
        validation=run,
        updated_at=at,
    )


async def lock_changes(desk: Desk, request: ChangeRequest, *, inserting: bool) -> list[str]:
    """Locks 3 and 4 of the rows of a request's changes under review; returns their keys, in order."""
    rows = await desk.rows(READ_KEYS, request_id=request.id)
    keys = [row["row_key"] for row in rows]
    await lock_rows(desk, keys, absent=any(row["absent"] for row in rows), inserting=inserting)
    return keys


# -- what is seen ------------------------------------------------------------------------------------------------------


def digest_of(request: ChangeRequest, conflicts: Sequence[Mapping[str, Any]]) -> str:
    """What there is to see of a request: its cells, and where rows differ from them three ways by now.

    The number before the point is the iteration. What happens to cells that are none of the request's changes nothing.
    """
    told = exact_json.encode([request.content, list(conflicts)])
    return f"{request.iteration}.{hashlib.sha256(told).hexdigest()}"


async def stale(desk: Desk, request: ChangeRequest, seen: str, conflicts: Sequence[Mapping[str, Any]]) -> PreviewStale:
    """The error that tells what has changed since a digest was seen: in the request, and around it."""
    number, _, _ = seen.partition(".")
    iteration = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    events = [
        shown_event(row)
        for row in await read_events(desk, request.id)
        if row["iteration"] > iteration and row["kind"] != Event.COMMENTED
    ]
    return PreviewStale(
        "What you saw of the change request has changed since. Look at it again.",
        digest=digest_of(request, conflicts),
        iteration=request.iteration,
        events=events,
        conflicts=list(conflicts)[:MAX_SHOWN],
        conflictCount=len(conflicts),
    )


# -- the timeline ------------------------------------------------------------------------------------------------------


async def tell(
    desk: Desk,
    request: ChangeRequest,
    event: Event,
    actor: str,
    at: datetime,
    *,
    text: str | None = None,
    key: str | None = None,
    field: str | None = None,
    **details: Any,
) -> int:
    """Tell the timeline, the audit and the metrics what happened; returns the event's id. A comment is not audited."""
    return await tell_of(
        desk,
        request.id,
        event,
        actor,
        at,
        iteration=request.iteration,
        commit_id=request.commit_id,
        text=text,
        key=key,
        field=field,
        details=details,
    )


async def read_events(
    desk: Desk, request_id: uuid.UUID, *, kind: Event | None = None, after: int | None = None, limit: int = MAX_EVENTS
) -> Sequence[Record]:
    """A request's timeline, the newest first."""
    return await desk.rows(LIST_EVENTS, request_id=request_id, kind=kind, after=after, limit=limit)


def shown_event(row: Record) -> dict[str, Any]:
    """An event as the API shows it."""
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "iteration": row["iteration"],
        "actor": row["actor"],
        "actorName": row["actor_name"],
        "at": row["at"],
        "text": row["text"],
        "rowId": row["row_key"],
        "field": row["field"],
        "details": row["details"],
    }
