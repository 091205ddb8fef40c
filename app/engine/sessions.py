"""Edit sessions as those see them who write drafts: which one a request names, and whether it may be edited.

A session's state changes under lock 2 of its user, as its edits do.
"""

import uuid
from datetime import datetime
from functools import partial
from typing import Literal

import msgspec
from asyncpg import Record
from prometheus_client import Counter

from app.base.database import Connection, Database
from app.base.errors import InvalidTransition, SessionNotFound
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.states import EDITABLE, OPEN, SESSION_TRANSITIONS, SessionState
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.engine.locks import lock_rows, raise_workspace

READ_SESSION = statement("sessions/read_session")
MOVE_SESSION = statement("sessions/move_session")
FIND_ROWS = statement("sessions/find_rows")
RELEASE_ROWS = statement("sessions/release_rows")
FIND_EXPIRED = statement("sessions/find_expired")
EXPIRE_SESSION = statement("sessions/expire_session")
FORGET_SESSIONS = statement("sessions/forget_sessions")

SESSIONS = Counter("vanguard_sessions_total", "Edit sessions by what happened to them", ["dataset", "event"])
MOST_EXPIRED = 10_000  # sessions that end in one turn; others in the next
AT_ONCE = 10  # sessions that a statement forgets, with all of their logs

Mode = Literal["full_table", "row_selection"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One user's session. `rows` are those that may be edited, in their order, None for
    all, and in a list of sessions the first of `row_count`; `edits` and `staged`
    (bytes) count what its log holds; `run_id` and `digest` belong to its last preview, and are None once it was edited
    again.
    """

    id: str
    mode: Mode
    rows: dict[str, None] | None
    row_count: int
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
    return None if record is None else session_of(record)


def session_of(record: Record) -> Session:
    """The session of a record of read_session or list_sessions."""
    rows = None if record["rows"] is None else dict.fromkeys(record["rows"])
    return Session(**{**record, "state": SessionState(record["state"]), "rows": rows})


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
    return await _write_state(desk, session, to, at, digest, run_id)


def tell_of_session(desk: Desk, session_id: str, at: datetime) -> None:
    """Tell the session's owner that something happened to it."""
    tell(desk, EventType.SESSION, at, session_id=session_id, sessionId=session_id)


async def keep_preview(desk: Desk, session: Session, at: datetime, *, digest: str, run_id: uuid.UUID) -> Session:
    """The session in preview, with what was looked at; one that is there already was looked at again. Under lock 2;
    raises InvalidTransition for one that is locked or over.
    """
    if session.state is SessionState.PREVIEW:
        return await _write_state(desk, session, SessionState.PREVIEW, at, digest, run_id)
    return await move_session(desk, session, SessionState.PREVIEW, at, digest=digest, run_id=run_id)


async def _write_state(
    desk: Desk, session: Session, to: SessionState, at: datetime, digest: str | None, run_id: uuid.UUID | None
) -> Session:
    moved = await desk.value(
        MOVE_SESSION, id=session.id, was=session.state, state=to, at=at, digest=digest, run_id=run_id
    )
    assert moved is not None, "lock 2 holds the state that was read"
    tell_of_session(desk, session.id, at)
    return msgspec.structs.replace(session, state=to, digest=digest, run_id=run_id)


def check_editable(session: Session) -> None:
    """Raises InvalidTransition for a session that is locked or over."""
    if session.state not in EDITABLE:
        raise InvalidTransition(f"The session is {session.state}: it cannot be edited.", state=session.state)


async def begin_editing(desk: Desk, session: Session, at: datetime) -> Session:
    """A session about to be edited; raises InvalidTransition for one that is locked or over."""
    check_editable(session)
    if session.state is SessionState.ACTIVE:
        return session
    return await move_session(desk, session, SessionState.ACTIVE, at)


async def release_rows(desk: Desk, user: str, session_id: str) -> list[str]:
    """The session's rows belong to no session any more, under lock 2; returns their keys."""
    keys = [record["row_key"] for record in await desk.rows(FIND_ROWS, user=user, id=session_id)]
    await lock_rows(desk, keys, absent=True, inserting=False)
    await desk.rows(RELEASE_ROWS, user=user, id=session_id, keys=keys)
    return keys


async def expire_sessions(database: Database, contract: Contract, organization: str, at: datetime) -> int:
    """End the sessions whose time is over, each in a transaction of its own; how many did.

    Their edits stay, as drafts without a session. One that cannot be ended now keeps no other from its end; what it
    raised is raised then.
    """
    expired, failures = 0, list[Exception]()
    async with database.connection() as connection:
        due = await Desk(connection, contract, organization).rows(FIND_EXPIRED, at=at, limit=MOST_EXPIRED)
    for record in due:
        end = partial(_expire, contract, organization, record["user_id"], record["id"], at)
        try:
            expired += await database.run(end)
        except Exception as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
    return expired


async def _expire(
    contract: Contract, organization: str, user: str, session_id: str, at: datetime, connection: Connection
) -> int:
    desk = Desk(connection, contract, organization)
    await raise_workspace(desk, user, expiring=True)
    if await desk.value(EXPIRE_SESSION, id=session_id, at=at) is None:
        return 0
    await release_rows(desk, user, session_id)
    tell_of_session(desk, session_id, at)
    SESSIONS.labels(contract.name, "expired").inc()
    return 1


async def forget_sessions(desk: Desk, before: datetime) -> int:
    """Forget the sessions that ended before a time, with their logs; how many there were."""
    forgotten, some = 0, AT_ONCE
    while some == AT_ONCE:
        some = await desk.value(FORGET_SESSIONS, before=before, limit=AT_ONCE)
        forgotten += some
    return forgotten
