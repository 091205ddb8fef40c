"""Revert: what a merged request or a commit did is undone by a new request with the inverse changes, which is reviewed
and merged as any other; where others have changed the same cells since, it opens with conflicts.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.base.errors import CommitNotFound, InvalidTransition, NothingToRevert, VanguardError
from app.base.statements import statement
from app.change_requests.requests import ChangeRequest, Person, read_request, tell
from app.change_requests.submission import Approvers, Title, Words, add_request, check_approvers, check_words
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import lock_rows, raise_workspace
from app.engine.modifications import fold, image
from app.engine.quotas import doubt
from app.engine.requests import Event
from app.engine.sessions import tell_of_session

FIND_REVERTED = statement("change_requests/find_reverted")
REVERT_CHANGES = statement("change_requests/revert_changes")
START_SESSION = statement("change_requests/start_session")


class RevertRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The new request's title, and who is to approve it."""

    title: Title
    description: Words | None = None
    approvers: Approvers = ()


async def revert(
    desk: Desk, person: Person, request_id: uuid.UUID, wanted: RevertRequest, at: datetime, lifetime: timedelta
) -> ChangeRequest:
    """A request that undoes a merged one; raises ChangeRequestNotFound, InvalidTransition for one that is not merged,
    NothingToRevert where nothing is left of it, ValidationFailed.
    """
    reverted = await read_request(desk, person, request_id)
    if reverted.commit_id is None:
        raise InvalidTransition(
            f"The change request is {reverted.state}: only a merged one is reverted.", state=reverted.state
        )
    absent = NothingToRevert("Nothing of the change request has reached the mirror, or nothing changed by it.")
    request = await _open(desk, person, reverted.commit_id, wanted, at, lifetime, absent, reverts=reverted.id)
    await tell(desk, reverted, Event.REVERTED, person.id, at, by=str(request.id))
    return request


async def revert_commit(
    desk: Desk, person: Person, commit_id: uuid.UUID, wanted: RevertRequest, at: datetime, lifetime: timedelta
) -> ChangeRequest:
    """The same of a commit; raises CommitNotFound for one that is not known, or not any more."""
    absent = CommitNotFound("There is no such commit, or nothing of it has reached the mirror.")
    request = await _open(desk, person, commit_id, wanted, at, lifetime, absent, reverts_commit=commit_id)
    entry = Entry(
        at=at,
        actor=person.id,
        action=Act.COMMIT_REVERTED,
        request_id=request.id,
        commit_id=commit_id,
        reason=wanted.title,
    )
    await record(desk, entry)
    return request


async def _open(
    desk: Desk,
    person: Person,
    commit_id: uuid.UUID,
    wanted: RevertRequest,
    at: datetime,
    lifetime: timedelta,
    absent: VanguardError,
    **origin: Any,
) -> ChangeRequest:
    """A request of the inverse changes, with a session of its own, submitted already: sent back, they are drafts.
    Raises `absent` where the mirror has nothing of the commit.
    """
    check_words(title=wanted.title, description=wanted.description)
    await check_approvers(desk, person.id, wanted.approvers)
    workspace = await raise_workspace(desk, person.id)
    found = await desk.rows(FIND_REVERTED, commit_id=commit_id)
    if not found:
        raise absent
    keys = [row["row_key"] for row in found]
    await lock_rows(desk, keys, absent=True, inserting=False)
    request_id, session_id = uuid.uuid4(), str(uuid.uuid4())
    contract = desk.contract
    # Without an upstream a row comes back as it was; with one, as far as that can be written there.
    writable = [field.name for field in contract.fields if contract.upstream is None or field.editable]
    await doubt(desk, [person.id])
    rows = await desk.rows(
        REVERT_CHANGES,
        user=person.id,
        commit_id=commit_id,
        request_id=request_id,
        version=workspace.revision,
        at=at,
        groups=contract.cell_map,
        fields=writable,
        reason=wanted.title,
    )
    if not rows:
        raise NothingToRevert("The rows are already as they were before.")
    await desk.value(
        START_SESSION,
        user=person.id,
        id=session_id,
        title=wanted.title,
        at=at,
        expires_at=at + lifetime,
    )
    tell_of_session(desk, session_id, at)
    left_out = [{"id": row["row_key"], "fields": row["left_out"]} for row in rows if row["left_out"]]
    changed = [row["row_key"] for row in rows]
    tell_rows(desk, EventType.OVERLAP, changed, at, actor=person.id)
    await fold(desk, person.id, changed)
    await image(desk, person.id, changed)
    return await add_request(
        desk,
        request_id,
        person.id,
        at,
        session_id=session_id,
        title=wanted.title,
        description=wanted.description,
        approvers=wanted.approvers,
        validation=_not_judged(desk, at),
        left_out=left_out,
        **origin,
    )


def _not_judged(desk: Desk, at: datetime) -> dict[str, Any]:
    """What was valid before is judged by the merge."""
    run: dict[str, Any] = msgspec.to_builtins(
        {
            "runId": uuid.uuid4(),
            "state": "not_started",
            "contractVersion": desk.contract.version,
            "counts": {"info": 0, "warning": 0, "error": 0, "fatal": 0},
            "messages": [],
            "messageCount": 0,
            "canProceed": False,
            "finishedAt": at,
            "reason": None,
            "decidedBy": None,
        }
    )
    return run
