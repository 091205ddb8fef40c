"""Edit sessions as those see them who write drafts: which one a request names, and whether it may be edited.

A session's state changes under lock 2 of its user, as its edits do.
"""

import uuid
from datetime import datetime

import msgspec

from app.base.errors import InvalidTransition, SessionNotFound
from app.base.statements import statement
from app.contracts.states import EDITABLE, OPEN, SESSION_TRANSITIONS, SessionState
from app.engine.desk import Desk

READ_SESSION = statement("sessions/read_session")
MOVE_SESSION = statement("sessions/move_session")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One user's session. `rows` are those that may be edited, None for all; `edits` and `staged` (bytes) count what
    its log holds; `run_id` and `digest` belong to its last preview, and are None once it was edited again.
    """

    id: str
    mode: str
    rows: list[str] | None
    title: str | None
    state: SessionState
    created_at: datetime
    expires_at: datetime
    edits: int
    staged: int
    run_id: uuid.UUID | None
    digest: str | None

    def takes(self, key: str) -> bool:
        """Whether the row may be edited in it."""
        return self.rows is None or key in self.rows


async def find_session(desk: Desk, user: str, session_id: str, at: datetime) -> Session | None:
    """The user's session of this id as it is at the time, open or over."""
    record = await desk.row(READ_SESSION, user=user, id=session_id, at=at)
    if record is None:
        return None
    return Session(**{**record, "state": SessionState(record["state"])})


async def find_open_session(desk: Desk, user: str, session_id: str | None, at: datetime) -> Session | None:
    """The open session that a `sessionId` names; None where it is a word of the client's."""
    session = await find_session(desk, user, session_id, at) if session_id is not None else None
    return session if session is not None and session.state in OPEN else None


async def read_session(desk: Desk, user: str, session_id: str, at: datetime) -> Session:
    """The same, open or over; raises SessionNotFound."""
    session = await find_session(desk, user, session_id, at)
    if session is None:
        raise SessionNotFound("You have no such session.")
    return session


async def move_session(
    desk: Desk,
    session: Session,
    to: SessionState,
    at: datetime,
    *,
    digest: str | None = None,
    run_id: uuid.UUID | None = None,
) -> Session:
    """The session in its next state, under lock 2; raises InvalidTransition for a way that there is not."""
    if to not in SESSION_TRANSITIONS[session.state]:
        raise InvalidTransition(f"The session is {session.state}, and does not become {to}.", state=session.state)
    moved = await desk.value(
        MOVE_SESSION, id=session.id, was=session.state, state=to, at=at, digest=digest, run_id=run_id
    )
    assert moved is not None, "lock 2 holds the state that was read"
    return msgspec.structs.replace(session, state=to, digest=digest, run_id=run_id)


async def begin_editing(desk: Desk, session: Session, at: datetime) -> Session:
    """A session about to be edited; raises InvalidTransition for one that is locked or over."""
    if session.state not in EDITABLE:
        raise InvalidTransition(f"The session is {session.state}: it cannot be edited.", state=session.state)
    if session.state is SessionState.ACTIVE:
        return session
    return await move_session(desk, session, SessionState.ACTIVE, at)
