"""Review: approve all or most of a request, send it back, take it back, say something about it."""

import uuid
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from app.base.errors import Code, Culprit, Forbidden, ValidationFailed
from app.base.statements import statement
from app.change_requests.conflicts import find_conflicts, give_back, named_cells
from app.change_requests.requests import (
    LIST_APPROVALS,
    ChangeRequest,
    Person,
    check_reviewer,
    check_way,
    digest_of,
    lock_changes,
    lock_request,
    move_request,
    read_request,
    rewrite_request,
    stale,
    tell,
)
from app.change_requests.submission import Digest, check_words
from app.contracts.states import RequestState, SessionState
from app.contracts.validation import check_key
from app.engine.desk import Desk
from app.engine.locks import raise_workspace
from app.engine.modifications import fold, image
from app.engine.requests import Event
from app.engine.sessions import find_session, move_session

ADD_APPROVAL = statement("change_requests/add_approval")
EXTEND_SESSION = statement("sessions/extend_session")

Comment = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]


class NamedCell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell of a request: `field` is a field, an atomic group, or null for all of the row."""

    id: str
    field: str | None = None


class ApproveRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"excluded": "except"}
):
    """`digest` is what was seen. The cells of `except` are not approved: they return to the author's drafts."""

    digest: Digest
    comment: Comment | None = None
    excluded: Annotated[tuple[NamedCell, ...], msgspec.Meta(max_length=10_000)] = ()


class RejectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why it cannot be merged as it is."""

    comment: Comment


class CommentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something about the request, about row `id`, or about a cell of it."""

    text: Comment
    id: str | None = None
    field: str | None = None


async def approve(
    desk: Desk, person: Person, request_id: uuid.UUID, wanted: ApproveRequest, at: datetime
) -> ChangeRequest:
    """Approve what was seen; the request is approved once all of its approvers have, or one ADMIN where none is named.

    Raises ChangeRequestNotFound, Forbidden, InvalidTransition, PreviewStale, GroupSplit, and ValidationFailed for cells
    that are none of the request's, or when none would be left.
    """
    request = await lock_request(desk, person, request_id)
    check_reviewer(request, person)
    check_way(request, RequestState.APPROVED)
    if wanted.comment is not None:
        check_words(comment=wanted.comment)
    conflicts = await find_conflicts(desk, request.id)
    if wanted.digest != digest_of(request, conflicts):
        raise await stale(desk, request, wanted.digest, conflicts)
    event, details = Event.APPROVED, {}
    if wanted.excluded:
        request = await _leave_out(desk, request, wanted, at)
        event, details = Event.APPROVED_IN_PART, {"except": msgspec.to_builtins(wanted.excluded)}
        conflicts = await find_conflicts(desk, request.id)
    digest = digest_of(request, conflicts)
    await desk.value(
        ADD_APPROVAL, request_id=request.id, iteration=request.iteration, approver=person.id, digest=digest, at=at
    )
    await tell(desk, request, event, person.id, at, text=wanted.comment, **details)
    if await _is_approved(desk, request):
        await move_request(desk, request, RequestState.APPROVED, at)
    return await read_request(desk, person, request.id)


async def _is_approved(desk: Desk, request: ChangeRequest) -> bool:
    rows = await desk.rows(LIST_APPROVALS, request_id=request.id)
    approved = {row["approver"] for row in rows if row["iteration"] == request.iteration}
    return set(request.approvers) <= approved if request.approvers else bool(approved)


async def _leave_out(desk: Desk, request: ChangeRequest, wanted: ApproveRequest, at: datetime) -> ChangeRequest:
    """The request without these cells, in its next iteration."""
    workspace = await raise_workspace(desk, request.author)
    await lock_changes(desk, request, inserting=False)
    cells = await named_cells(desk, request.id, [(each.id, each.field) for each in wanted.excluded])
    keys = await give_back(desk, request.id, request.author, cells, session=None, version=workspace.revision, at=at)
    request = await rewrite_request(desk, request, at)
    if not request.has_rows:
        raise ValidationFailed(
            "Nothing of the change request would be left. Reject it instead.",
            errors=[Culprit(field="except", code=Code.INVALID_VALUE, message="It names every cell.")],
        )
    await fold(desk, request.author, keys)
    await image(desk, request.author, keys)
    return request


async def reject(
    desk: Desk, person: Person, request_id: uuid.UUID, wanted: RejectRequest, at: datetime, lifetime: timedelta
) -> ChangeRequest:
    """Send a request back to its author, with a comment; raises as `approve` does. An ADMIN rejects every one but their
    own.
    """
    request = await lock_request(desk, person, request_id)
    if not (person.admin and person.id != request.author):
        check_reviewer(request, person)
    check_words(comment=wanted.comment)
    return await _send_back(desk, person, request, Event.REJECTED, at, lifetime, wanted.comment)


async def withdraw(
    desk: Desk, person: Person, request_id: uuid.UUID, at: datetime, lifetime: timedelta
) -> ChangeRequest:
    """The author takes a request back; raises ChangeRequestNotFound, Forbidden, InvalidTransition."""
    request = await lock_request(desk, person, request_id)
    if person.id != request.author:
        raise Forbidden("Only its author withdraws a change request.")
    return await _send_back(desk, person, request, Event.WITHDRAWN, at, lifetime, None)


async def _send_back(
    desk: Desk,
    person: Person,
    request: ChangeRequest,
    event: Event,
    at: datetime,
    lifetime: timedelta,
    comment: str | None,
) -> ChangeRequest:
    """What is under review is the author's drafts again, in the session that it came from."""
    to = RequestState(str(event))
    check_way(request, to)
    author = request.author
    workspace = await raise_workspace(desk, author)
    session = await find_session(desk, author, request.session_id, at)
    assert session is not None, "a session is kept as long as its request"
    await lock_changes(desk, request, inserting=False)
    keys = await give_back(desk, request.id, author, None, session=session.id, version=workspace.revision, at=at)
    await fold(desk, author, keys)
    await image(desk, author, keys)
    await move_session(desk, session, SessionState.ACTIVE, at)
    await desk.rows(EXTEND_SESSION, id=session.id, expires_at=at + lifetime)
    request = await move_request(desk, request, to, at, comment)
    await tell(desk, request, event, person.id, at, text=comment)
    return await read_request(desk, person, request.id)


async def comment(desk: Desk, person: Person, request_id: uuid.UUID, wanted: CommentRequest, at: datetime) -> int:
    """Say something; returns the comment's id. Raises ChangeRequestNotFound, and ValidationFailed for a field that the
    contract does not have.
    """
    request = await read_request(desk, person, request_id)
    check_words(text=wanted.text)
    contract = desk.contract
    groups = {group.name for group in contract.atomic_groups}
    if wanted.id is not None and check_key(wanted.id) is not None:
        raise _no_cell("id", "No row can be called that.")
    if wanted.field is not None and (
        wanted.id is None or (wanted.field not in contract.by_name and wanted.field not in groups)
    ):
        raise _no_cell("field", f"{contract.name} has no such field, or the comment names no row.")
    return await tell(
        desk, request, Event.COMMENTED, person.id, at, text=wanted.text, key=wanted.id, field=wanted.field
    )


def _no_cell(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(field=field, code=Code.INVALID_VALUE, message=message)])
