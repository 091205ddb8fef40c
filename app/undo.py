"""Undo and redo of what was saved, one request a step: of a session's edits in order, or of the last saves outside.

sql/drafts/save_drafts.sql notes the steps. A draft is put back cell by cell where it is still as its step left it; what
was committed, discarded or changed otherwise since is skipped, and named.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from asyncpg import Record
from litestar import Response, post

from app.base import exact_json
from app.base.errors import Code, NothingToRedo, NothingToUndo
from app.base.statements import statement
from app.contracts import Contract
from app.engine.desk import Desk
from app.engine.locks import lock_rows, raise_workspace
from app.engine.modifications import image
from app.engine.quotas import NOTHING, Quota, check_held, held_after
from app.engine.sessions import begin_editing, read_session
from app.web.auth import Action, require
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Nothing, Organization, SessionId, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of

FIND_STEPS = statement("undo/find_steps")
FIND_SESSION_STEPS = statement("undo/find_session_steps")
TURN_STEPS = statement("undo/turn_steps")
OUTSIDE = ""  # the session of steps that belong to none


class Steps(NamedTuple):
    """Steps by their numbers, and the keys of their rows."""

    numbers: list[int]
    keys: list[str]


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that was left as it is, and why; `field` null means the whole row."""

    id: str
    field: str | None
    code: str


class UndoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many steps were undone or redone (requests with one undo group together), and in which rows that changed
    something.
    """

    steps: int
    ids: list[str]
    skipped: list[Skipped]


async def turn_last(
    desk: Desk, user: str, session_id: str | None, at: datetime, *, back: bool, quota: Quota | None = None
) -> UndoAnswer:
    """Undo the last step of a session, or of the saves outside of any, or redo the one that was undone last.

    Raises QuotaExceeded, NothingToUndo, NothingToRedo, SessionNotFound, and InvalidTransition for a session that is
    locked or over.
    """
    version, *_ = await raise_workspace(desk, user)
    if session_id is not None:
        await begin_editing(desk, await read_session(desk, user, session_id, at), at)
    steps = _steps(await desk.row(FIND_STEPS, user=user, session=session_id or OUTSIDE, back=back))
    if not steps.numbers:
        raise NothingToUndo("No step is left to undo.") if back else NothingToRedo("No step is left to redo.")
    return await _turn(desk, user, steps, session_id or OUTSIDE, version, at, back=back, quota=quota)


async def undo_session(desk: Desk, user: str, session_id: str, version: int, at: datetime) -> UndoAnswer:
    """Undo all that is left of a session's edits, under lock 2."""
    steps = _steps(await desk.row(FIND_SESSION_STEPS, user=user, session=session_id))
    return await _turn(desk, user, steps, session_id, version, at, back=True)


def _steps(record: Record | None) -> Steps:
    assert record is not None, "aggregates answer a row"
    return Steps(record["numbers"] or [], record["keys"] or [])


async def _turn(
    desk: Desk,
    user: str,
    steps: Steps,
    session: str,
    version: int,
    at: datetime,
    *,
    back: bool,
    quota: Quota | None = None,
) -> UndoAnswer:
    """Put the drafts of these steps back, or forth again, under lock 2."""
    contract = desk.contract
    # A step's row may be one that the mirror never had.
    await lock_rows(desk, steps.keys, absent=True, inserting=False)
    records = await desk.rows(
        TURN_STEPS,
        user=user,
        version=version,
        numbers=steps.numbers,
        back=back,
        groups=contract.cell_map,
        at=at,
        session=session,
        fields=list(contract.by_name),
    )
    changed = [record["row_key"] for record in records if record["changed"]]
    await image(desk, user, changed)
    if records:
        await check_held(desk, user, quota, held_after(NOTHING, records[0]))
    return UndoAnswer(steps=len(steps.numbers), ids=changed, skipped=_skipped(contract, records))


def _skipped(contract: Contract, records: Sequence[Record]) -> list[Skipped]:
    return [
        Skipped(
            id=record["row_key"],
            field=field,
            code=record["code"] if field is None or field in contract.by_name else Code.UNKNOWN_FIELD,
        )
        for record in records
        for field in dict.fromkeys(record["skipped"] or ())
    ]


async def _answer(
    request: VanguardRequest, dataset: str, organization: str, session_id: str | None, *, back: bool
) -> Response[bytes]:
    runtime = request.runtime

    async def work(desk: Desk) -> bytes:
        user, quota = request.user.user_id, Quota.of(runtime.settings)
        return exact_json.encode(await turn_last(desk, user, session_id, runtime.clock(), back=back, quota=quota))

    return await answer_once(request, runtime, await contract_of(request, organization, dataset), organization, work)


@post(
    f"{DATASET_PATH}/drafts/undo",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["drafts"],
    summary="Undo your last save",
    responses=answers_with_position(UndoAnswer, 404, 409),
)
async def undo_drafts(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """One request is one step. A hundred are kept; what a session holds is undone there."""
    return await _answer(request, dataset, org, None, back=True)


@post(
    f"{DATASET_PATH}/drafts/redo",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["drafts"],
    summary="Redo the save that you undid last",
    responses=answers_with_position(UndoAnswer, 404, 409),
)
async def redo_drafts(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """A new save ends what could be redone."""
    return await _answer(request, dataset, org, None, back=False)


@post(
    f"{DATASET_PATH}/sessions/{{session_id:str}}/undo",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["sessions"],
    summary="Undo the last edit of a session",
    responses=answers_with_position(UndoAnswer, 404, 409),
)
async def undo_edits(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """One request is one step, or several with one undo group. A commit ends what could be undone."""
    return await _answer(request, dataset, org, session_id, back=True)


@post(
    f"{DATASET_PATH}/sessions/{{session_id:str}}/redo",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["sessions"],
    summary="Redo the edit of a session that was undone last",
    responses=answers_with_position(UndoAnswer, 404, 409),
)
async def redo_edits(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """A new edit ends what could be redone."""
    return await _answer(request, dataset, org, session_id, back=False)


ROUTES = [undo_drafts, redo_drafts, undo_edits, redo_edits]
