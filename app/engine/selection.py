"""Which drafts a request is about: by id, by session, or all of them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from asyncpg import Record

from app.base.errors import NothingSelected
from app.base.statements import statement
from app.engine.desk import Desk

SELECT_DRAFTS = statement("selection/select_drafts")
SELECTIONS = {"ids": "x.row_key = ANY ($3::text[])", "session": "x.session_id = $3::text", "all": "$3::bool"}


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which drafts: exactly one of the three."""

    session_id: str | None = None
    ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None
    all: Literal[True] | None = None


async def select(desk: Desk, user: str, wanted: Selection) -> Sequence[Record]:
    """The modifications that a request is about (row_key, version, draft_op, pending_state, absent), by key.

    Raises NothingSelected unless exactly one of ids, sessionId and all is given.
    """
    given: list[tuple[str, Any]] = [
        (kind, value)
        for kind, value in (("ids", wanted.ids), ("session", wanted.session_id), ("all", wanted.all))
        if value is not None
    ]
    if len(given) != 1:
        raise NothingSelected("Give exactly one of ids, sessionId and all.")
    kind, value = given[0]
    chosen = SELECT_DRAFTS.fill(selection=SELECTIONS[kind])
    return await desk.rows(chosen, user=user, value=list(value) if kind == "ids" else value)
