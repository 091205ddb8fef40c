"""Which drafts a request is about: by id, by session, or all of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from asyncpg import Record

from app.base.errors import Code, Culprit, NothingSelected, RowInOtherSession
from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.sessions import Session, begin_editing, find_open_session

MAX_SHOWN = 1000  # culprits in one answer
SELECT_DRAFTS = statement("selection/select_drafts")
SELECTIONS = {"ids": "x.row_key = ANY ($3::text[])", "session": "x.session_id = $3::text", "all": "$3::bool"}


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which drafts: exactly one of the three."""

    session_id: str | None = None
    ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None
    all: Literal[True] | None = None


class Selected(NamedTuple):
    """The modifications that a request is about, and the open session that it names."""

    drafts: Sequence[Record]
    session: Session | None


async def select(desk: Desk, user: str, wanted: Selection, at: datetime) -> Selected:
    """The modifications that a request is about (row_key, version, draft_op, pending_state, absent), by key; under lock
    2 of the user.

    Raises NothingSelected unless exactly one of ids, sessionId and all is given, RowInOtherSession where rows belong to
    an open session that is not named, and InvalidTransition where the one that is named is locked.
    """
    given: list[tuple[str, Any]] = [
        (kind, value)
        for kind, value in (("ids", wanted.ids), ("session", wanted.session_id), ("all", wanted.all))
        if value is not None
    ]
    if len(given) != 1:
        raise NothingSelected("Give exactly one of ids, sessionId and all.")
    kind, value = given[0]
    session = await find_open_session(desk, user, wanted.session_id, at)
    if session is not None:
        session = await begin_editing(desk, session, at)
    found = await desk.rows(
        SELECT_DRAFTS.fill(selection=SELECTIONS[kind]),
        user=user,
        value=list(value) if kind == "ids" else value,
        session=session.id if session else None,
        at=at,
    )
    if elsewhere := [draft["row_key"] for draft in found if draft["elsewhere"]]:
        message = "The row belongs to an open session of yours."
        raise RowInOtherSession(
            f"{len(elsewhere)} of the rows belong to open sessions of yours: name the session, or abort it.",
            errors=[Culprit(id=key, code=Code.ROW_IN_OTHER_SESSION, message=message) for key in elsewhere[:MAX_SHOWN]],
        )
    return Selected(found, session)
