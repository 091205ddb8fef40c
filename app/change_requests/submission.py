"""Submission: a session's drafts go under review, as a new change request or again as one that was sent back."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from app.base.errors import (
    Code,
    Culprit,
    Forbidden,
    InvalidTransition,
    NoDrafts,
    PreviewStale,
    ValidationFailed,
)
from app.base.statements import statement
from app.change_requests.requests import (
    ChangeRequest,
    Person,
    lock_request,
    move_request,
    read_request,
    rewrite_request,
    summarize,
    tell,
)
from app.contracts.states import REFUSED, RequestState, SessionState
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import lock_rows, raise_workspace, read_dataset
from app.engine.modifications import image, take_back
from app.engine.quotas import doubt
from app.engine.requests import Event
from app.engine.selection import SELECT_DRAFTS, SELECTIONS
from app.engine.sessions import Session, check_editable, keep_preview, move_session, read_session
from app.previews.look import DiffPage, Look, look_at
from app.previews.runs import Validation, begin_run, finish_run, read_validation
from app.web.auth import ALLOWED, Action

FREEZE_SESSION = statement("change_requests/freeze_session")
ADD_REQUEST = statement("change_requests/add_request")
RESUBMIT_REQUEST = statement("change_requests/resubmit_request")
FIND_APPROVERS = statement("change_requests/find_approvers")

MAX_APPROVERS = 20
MAX_SHOWN = 1000  # culprits in one answer

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Words = Annotated[str, msgspec.Meta(max_length=10_000)]
Approvers = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_APPROVERS)]
Digest = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SubmitRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`digest` is that of the preview that was seen; with no `approvers` any ADMIN may approve."""

    title: Title
    digest: Digest
    description: Words | None = None
    approvers: Approvers = ()


class ResubmitRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it was. With `digest`: only what that preview showed is submitted."""

    title: Title | None = None
    digest: Digest | None = None
    description: Words | None = None
    approvers: Approvers | None = None


async def submit(desk: Desk, user: str, session_id: str, wanted: SubmitRequest, at: datetime) -> ChangeRequest:
    """A new request of the session's drafts, inside the caller's transaction.

    Raises SessionNotFound, InvalidTransition unless the session is in preview, PreviewStale where it comes to
    something else by now, ValidationFailed, NoDrafts.
    """
    workspace = await raise_workspace(desk, user)
    session = await read_session(desk, user, session_id, at)
    if session.state is not SessionState.PREVIEW:
        raise InvalidTransition(
            f"The session is {session.state}: preview it, and submit what that shows.", state=session.state
        )
    check_words(title=wanted.title, description=wanted.description)
    await check_approvers(desk, user, wanted.approvers)
    look = await _look(desk, user, session)
    if look.digest.text() != wanted.digest or session.digest != wanted.digest:
        raise _stale(look)
    validation = await read_validation(desk, session)
    check_validation(validation)
    request_id = uuid.uuid4()
    await freeze(desk, user, session, request_id, workspace.revision, at)
    return await add_request(
        desk,
        request_id,
        user,
        at,
        session_id=session.id,
        title=wanted.title,
        description=wanted.description,
        approvers=wanted.approvers,
        validation=validation.kept,
    )


async def resubmit(
    desk: Desk, person: Person, request_id: uuid.UUID, wanted: ResubmitRequest, at: datetime
) -> ChangeRequest:
    """A request that was rejected or withdrawn goes under review again, as its session is now; raises as `submit` does,
    and Forbidden for somebody else's.
    """
    request = await lock_request(desk, person, request_id)
    if person.id != request.author:
        raise Forbidden("Only its author submits a change request again.")
    if not request.sent_back:
        raise InvalidTransition(
            f"The change request is {request.state}: only one that was sent back is submitted again.",
            state=request.state,
        )
    workspace = await raise_workspace(desk, person.id)
    session = await read_session(desk, person.id, request.session_id, at)
    check_editable(session)
    approvers = request.approvers if wanted.approvers is None else wanted.approvers
    title = wanted.title or request.title
    description = wanted.description if wanted.description is not None else request.description
    check_words(title=title, description=description)
    await check_approvers(desk, person.id, approvers)
    look = await _look(desk, person.id, session)
    if wanted.digest is not None and wanted.digest != look.digest.text():
        raise _stale(look)
    if session.state is not SessionState.PREVIEW or session.digest != look.digest.text():
        run_id = await begin_run(desk, session, at)
        await finish_run(desk, run_id, look.findings, at)
        session = await keep_preview(desk, session, at, digest=look.digest.text(), run_id=run_id)
    validation = await read_validation(desk, session)
    check_validation(validation)
    await freeze(desk, person.id, session, request.id, workspace.revision, at)
    revision = (await read_dataset(desk)).revision
    await desk.value(
        RESUBMIT_REQUEST,
        id=request.id,
        title=title,
        description=description,
        approvers=list(approvers),
        base_revision=revision,
    )
    request = await rewrite_request(desk, request, at, validation=validation.kept)
    request = await move_request(desk, request, RequestState.PENDING_REVIEW, at)
    await tell(desk, request, Event.RESUBMITTED, person.id, at)
    return await read_request(desk, person, request.id)


async def add_request(
    desk: Desk,
    request_id: uuid.UUID,
    author: str,
    at: datetime,
    *,
    session_id: str,
    title: str,
    description: str | None,
    approvers: Sequence[str],
    validation: dict[str, Any],
    reverts: uuid.UUID | None = None,
    reverts_commit: uuid.UUID | None = None,
    left_out: Sequence[dict[str, Any]] = (),
) -> ChangeRequest:
    """A request of changes that were frozen just now, told to everybody."""
    content, summary = await summarize(desk, request_id)
    await desk.value(
        ADD_REQUEST,
        id=request_id,
        session_id=session_id,
        author=author,
        title=title,
        description=description,
        approvers=list(dict.fromkeys(approvers)),
        content=content,
        validation=validation,
        summary=summary,
        base_revision=(await read_dataset(desk)).revision,
        at=at,
        reverts=reverts,
        reverts_commit=reverts_commit,
        left_out=list(left_out),
    )
    request = await read_request(desk, Person(author, admin=False), request_id)
    await tell(desk, request, Event.SUBMITTED, author, at, summary=summary)
    return request


async def freeze(
    desk: Desk, user: str, session: Session, request_id: uuid.UUID, version: int, at: datetime
) -> list[str]:
    """The session's drafts are changes under review, and the session is locked; raises NoDrafts."""
    found = await desk.rows(
        SELECT_DRAFTS.fill(selection=SELECTIONS["session"]), user=user, value=session.id, session=session.id, at=at
    )
    drafts = [draft for draft in found if draft["draft_op"]]
    if not drafts:
        raise NoDrafts("The session has no drafts to submit.")
    keys = [draft["row_key"] for draft in drafts]
    await lock_rows(desk, keys, absent=any(draft["absent"] for draft in drafts), inserting=False)
    refused = [draft["row_key"] for draft in drafts if draft["pending_state"] in REFUSED]
    if refused:
        await take_back(desk, user, refused, at)
    await doubt(desk, [user])
    await desk.rows(FREEZE_SESSION, user=user, session_id=session.id, request_id=request_id, version=version, at=at)
    # A row shows what it showed: only what upstream refused, and has a draft no more, looks otherwise.
    if refused:
        await image(desk, user, refused)
    tell_rows(desk, EventType.OVERLAP, keys, at, actor=user)
    await move_session(desk, session, SessionState.SUBMITTED, at, digest=session.digest, run_id=session.run_id)
    return keys


async def _look(desk: Desk, user: str, session: Session) -> Look:
    return await look_at(desk, user, session.id, DiffPage(0, None))


def _stale(look: Look) -> PreviewStale:
    return PreviewStale(
        "The session comes to something else than you saw. Preview it again.",
        digest=look.digest.text(),
        summary=msgspec.to_builtins(look.summary),
        counts=look.findings.counts,
        conflicts=look.conflicts.first,
        conflictCount=look.conflicts.count,
        overlaps=look.overlaps.first,
    )


def check_validation(validation: Validation) -> None:
    """Raises ValidationFailed for errors, and for warnings that nobody has let pass."""
    if validation.can_proceed:
        return
    blocking = validation.counts.error + validation.counts.fatal
    detail = (
        f"{blocking} findings keep the session from being submitted."
        if blocking
        else "There are warnings: override them with a reason, or mend them."
    )
    errors = [
        Culprit(id=each.id, field=each.field, code=each.code, message=each.message) for each in validation.messages
    ]
    raise ValidationFailed(detail, errors=errors[:MAX_SHOWN], runId=validation.run_id, state=validation.state)


def check_words(**given: str | None) -> None:
    """Raises ValidationFailed for words that cannot be stored, or are none."""
    wrong = [
        Culprit(field=name, code=Code.INVALID_VALUE, message=f"{name} has words, and not the character NUL.")
        for name, words in given.items()
        if words is not None and ("\0" in words or (name != "description" and not words.strip()))
    ]
    if wrong:
        raise ValidationFailed(wrong[0].message, errors=wrong)


async def check_approvers(desk: Desk, author: str, approvers: Sequence[str]) -> None:
    """Raises ValidationFailed for whoever cannot approve here: the author, and who may not edit."""
    roles = [role.value for role in ALLOWED[Action.EDIT]]
    unfit = {row["id"] for row in await desk.rows(FIND_APPROVERS, people=_storable(approvers), roles=roles)}
    wrong = [
        Culprit(field="approvers", code=Code.INVALID_APPROVER, message=message)
        for name in approvers
        for message in [
            "Nobody reviews their own change request."
            if name == author
            else f"{name[:80]!r} is no member who may edit here."
        ]
        if name == author or name in unfit or "\0" in name
    ]
    if wrong:
        raise ValidationFailed(f"{len(wrong)} of the approvers cannot approve here.", errors=wrong)


def _storable(names: Sequence[str]) -> list[str]:
    return [name for name in names if "\0" not in name]
