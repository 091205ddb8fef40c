"""Edit sessions: begin one, see one's own, extend and abort them; operators end those whose time is over."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post

from app.base import exact_json
from app.base.errors import Code, Culprit, MalformedRequest, ValidationFailed
from app.base.statements import statement
from app.contracts.columns import ShownColumn, columns_of
from app.contracts.filters import read_listing
from app.contracts.states import SessionState
from app.contracts.validation import check_key
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.locks import raise_workspace, read_dataset
from app.engine.positions import read_position
from app.engine.sessions import (
    SESSIONS,
    Mode,
    Session,
    check_editable,
    expire_sessions,
    forget_sessions,
    move_session,
    read_session,
    release_rows,
    session_of,
    tell_of_session,
)
from app.rows import read_rows
from app.undo import undo_session
from app.web.auth import Action, require, require_operator
from app.web.budgets import BATCH
from app.web.etags import PRIVATE
from app.web.idempotency import answer_once, placed
from app.web.openapi import (
    DATASET_PATH,
    DatasetName,
    Nothing,
    Organization,
    SessionId,
    answers,
    answers_with_position,
    body,
    parameter,
)
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import Runtime, VanguardRequest, contract_of

START_SESSION = statement("sessions/start_session")
FIND_MISSING = statement("sessions/find_missing")
LIST_SESSIONS = statement("sessions/list_sessions")
EXTEND_SESSION = statement("sessions/extend_session")
LIST_ORGANIZATIONS = statement("worker/list_organizations")

MAX_ROWS = 10_000
SAMPLE = 20  # rows
STATUSES = tuple(str(state) for state in SessionState)


class StartRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rows` are those that may be edited, for row_selection, and for it only."""

    mode: Mode
    rows: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_ROWS)] | None = None
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class ExtendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`seconds` from now, at most the lifetime of a new session, which is also what it is if left out."""

    seconds: Annotated[int, msgspec.Meta(ge=1)] | None = None


class ShownSession(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A session. `rows` is empty where all rows may be edited, and has the first 20 of `row_count` in a list; `edits`
    counts what its log holds.
    """

    id: str
    status: SessionState
    mode: Mode
    rows: list[str]
    row_count: int
    title: str | None
    edits: int
    digest: str | None
    created_at: datetime
    expires_at: datetime


class SessionDetail(ShownSession, frozen=True, kw_only=True, rename="camel"):
    """A session with what a grid begins with: the columns, and its first rows as `GET D/rows` shows them."""

    columns: Sequence[ShownColumn]
    sample_rows: list[dict[str, Any]]


class SessionsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of one's own sessions, the newest first; `next_cursor` is null on the last one."""

    data: list[ShownSession]
    next_cursor: str | None


class AbortAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The session's end: how many steps were undone, in which rows, and what was left as it is."""

    id: str
    status: SessionState
    steps: int
    ids: list[str]
    skipped: list[Any]


class CleanupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions ran out just now, and how many were forgotten with their logs."""

    expired: int
    removed: int


def shown(session: Session) -> dict[str, Any]:
    """The session as ShownSession has it."""
    return {
        "id": session.id,
        "status": session.state,
        "mode": session.mode,
        "rows": list(session.rows or ()),
        "rowCount": session.row_count,
        "title": session.title,
        "edits": session.edits,
        "digest": session.digest,
        "createdAt": session.created_at,
        "expiresAt": session.expires_at,
    }


async def start(desk: Desk, user: str, wanted: StartRequest, at: datetime, lifetime: timedelta) -> Session:
    """Begin a session; raises MalformedRequest where mode and rows do not fit, ValidationFailed for rows that are
    not there.
    """
    if (wanted.mode == "row_selection") != (wanted.rows is not None):
        raise MalformedRequest("rows go with the mode row_selection, and only with it.")
    rows = None if wanted.rows is None else list(dict.fromkeys(wanted.rows))
    await raise_workspace(desk, user)
    if rows is not None:
        await _check_rows(desk, user, rows)
    session_id = str(uuid.uuid4())
    await desk.rows(
        START_SESSION,
        user=user,
        id=session_id,
        mode=wanted.mode,
        rows=rows,
        title=wanted.title,
        at=at,
        expires_at=at + lifetime,
    )
    tell_of_session(desk, session_id, at)
    SESSIONS.labels(desk.contract.name, "begun").inc()
    return await read_session(desk, user, session_id, at)


async def _check_rows(desk: Desk, user: str, rows: list[str]) -> None:
    named = [key for key in rows if check_key(key) is None]
    missing = {record["row_key"] for record in await desk.rows(FIND_MISSING, user=user, keys=named)}
    missing |= set(rows) - set(named)
    if missing:
        errors = [
            Culprit(id=key[:200], code=Code.ROW_NOT_FOUND, message="There is no such row in your view.")
            for key in rows
            if key in missing
        ]
        raise ValidationFailed(f"{len(errors)} of the rows are not there; no session was begun.", errors=errors)


async def abort(desk: Desk, user: str, session_id: str, at: datetime) -> AbortAnswer:
    """Undo what is left of the session's edits, free its rows and end it.

    Raises SessionNotFound, and InvalidTransition for one that is locked or over.
    """
    version, *_ = await raise_workspace(desk, user)
    session = await read_session(desk, user, session_id, at)
    session = await move_session(desk, session, SessionState.ABORTED, at)
    undone = await undo_session(desk, user, session_id, version, at)
    await release_rows(desk, user, session_id)
    SESSIONS.labels(desk.contract.name, "aborted").inc()
    skipped = msgspec.to_builtins(undone.skipped)
    return AbortAnswer(id=session_id, status=session.state, steps=undone.steps, ids=undone.ids, skipped=skipped)


async def extend(desk: Desk, user: str, session_id: str, at: datetime, lifetime: timedelta) -> Session:
    """A session that may be edited lasts until `lifetime` from now; raises as `abort` does."""
    await raise_workspace(desk, user)
    session = await read_session(desk, user, session_id, at)
    check_editable(session)
    await desk.rows(EXTEND_SESSION, id=session_id, expires_at=at + lifetime)
    tell_of_session(desk, session_id, at)
    return await read_session(desk, user, session_id, at)


async def _detail(desk: Desk, runtime: Runtime, user: str, session: Session) -> bytes:
    """SessionDetail as JSON; the sample is rendered by PostgreSQL."""
    contract = desk.contract
    chosen = [("id", key) for key in islice(session.rows or (), SAMPLE)]
    listing = read_listing(contract, [*chosen, ("pageSize", str(SAMPLE)), ("count", "none")])
    sample = await read_rows(desk, runtime, user, listing)
    detail = exact_json.encode(shown(session) | {"columns": columns_of(contract)})
    return b'%b,"sampleRows":%b}' % (detail[:-1], sample)


# -- on the wire -------------------------------------------------------------------------------------------------------

SESSIONS_PATH = f"{DATASET_PATH}/sessions"
SESSION_PATH = f"{SESSIONS_PATH}/{{session_id:str}}"


@post(
    SESSIONS_PATH,
    opt=require(Action.EDIT) | BATCH,
    tags=["sessions"],
    summary="Begin an edit session",
    responses=answers_with_position(SessionDetail, 404, 422, status=201),
)
async def start_session(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[StartRequest, body({"mode": "full_table", "title": "Cranes of the west"})],
) -> Response[bytes]:
    """It lasts a day unless it is extended. full_table: every row can be edited; row_selection: those of `rows`."""
    runtime, user = request.runtime, request.user.user_id
    lifetime = timedelta(seconds=runtime.settings.session_ttl)

    async def work(desk: Desk) -> bytes:
        session = await start(desk, user, data, runtime.clock(), lifetime)
        return await _detail(desk, runtime, user, session)

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work, status=201)


@dataclass
class SessionsOperation(PageOperation):
    """A page's parameters, and the filter of sessions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [
            *(self.parameters or []),
            parameter("status", "string", "Only these", enum=list(STATUSES)),
        ]


@get(
    SESSIONS_PATH,
    opt=require(Action.QUERY),
    tags=["sessions"],
    summary="Your edit sessions",
    operation_class=SessionsOperation,
    responses=answers_with_position(SessionsAnswer, 404),
)
async def list_sessions(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Your own, the newest first. Parameters: status, limit, after."""
    runtime, user = request.runtime, request.user.user_id
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request, status=STATUSES)
    walk = Walk(runtime, f"{org}/{contract.name}/sessions/{user}", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        feed_position = await read_position(desk.connection, org, user)
        walk.check((await read_dataset(desk)).incarnation)
        found = await desk.rows(
            LIST_SESSIONS,
            user=user,
            at=runtime.clock(),
            status=given.get("status"),
            after=walk.at,
            after_id=walk.key,
            limit=limit + 1,
        )
    sessions = [session_of(record) for record in found]
    following = walk.following(sessions, limit, lambda last: Cursor((last.created_at.isoformat(),), last.id))
    answer = {"data": [shown(session) for session in sessions[:limit]], "nextCursor": following}
    body = placed(exact_json.encode(answer), feed_position)
    return Response(body, media_type="application/json", headers=PRIVATE)


@get(
    SESSION_PATH,
    opt=require(Action.QUERY),
    tags=["sessions"],
    summary="One of your edit sessions",
    responses=answers_with_position(SessionDetail, 404),
)
async def get_session(
    request: VanguardRequest, org: Organization, dataset: DatasetName, session_id: SessionId
) -> Response[bytes]:
    """With the columns of the dataset, and the first rows."""
    runtime, user = request.runtime, request.user.user_id
    async with runtime.desk(await contract_of(request, org, dataset), org) as desk:
        position = await read_position(desk.connection, org, user)
        session = await read_session(desk, user, session_id, runtime.clock())
        answer = await _detail(desk, runtime, user, session)
    return Response(placed(answer, position), media_type="application/json", headers=PRIVATE)


@post(
    f"{SESSION_PATH}/extend",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["sessions"],
    summary="Give a session more time",
    responses=answers_with_position(ShownSession, 404, 409),
)
async def extend_session(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[ExtendRequest | None, body({})] = None,
) -> Response[bytes]:
    """It lasts as long from now as a new one does, or `seconds`."""
    runtime, user = request.runtime, request.user.user_id
    longest = runtime.settings.session_ttl
    seconds = (data.seconds if data else None) or longest
    if seconds > longest:
        raise MalformedRequest(f"A session is extended by {longest} seconds at most.")

    async def work(desk: Desk) -> bytes:
        session = await extend(desk, user, session_id, runtime.clock(), timedelta(seconds=seconds))
        return exact_json.encode(shown(session))

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work)


@delete(
    SESSION_PATH,
    opt=require(Action.EDIT),
    status_code=200,
    tags=["sessions"],
    summary="Abort a session",
    responses=answers_with_position(AbortAnswer, 404, 409),
)
async def abort_session(
    request: VanguardRequest, org: Organization, dataset: DatasetName, session_id: SessionId
) -> Response[bytes]:
    """Its edits are undone, its rows are free at once. What was drafted before the session is there again."""
    runtime, user = request.runtime, request.user.user_id

    async def work(desk: Desk) -> bytes:
        return exact_json.encode(await abort(desk, user, session_id, runtime.clock()))

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work)


@post(
    "/api/v1/admin/sessions/cleanup",
    opt=require_operator(),
    status_code=200,
    tags=["operations"],
    summary="End the sessions whose time is over",
    responses=answers(CleanupAnswer),
)
async def clean_up(request: VanguardRequest, data: Annotated[Nothing | None, body({})] = None) -> CleanupAnswer:
    """Of all organizations, as the worker does it by itself; and forget those that ended long ago. Harmless twice."""
    runtime = request.runtime
    at, before = runtime.clock(), runtime.clock() - timedelta(days=runtime.settings.keep_sessions_days)
    expired = removed = 0
    async with runtime.database.connection() as connection:
        datasets = await runtime.datasets.own(connection)
        for contract in runtime.datasets.built_in.values():
            datasets += [
                (row["id"], contract) for row in await connection.rows(LIST_ORGANIZATIONS, dataset=contract.name)
            ]
    for organization, contract in datasets:
        expired += await expire_sessions(runtime.database, contract, organization, at)
        async with runtime.desk(contract, organization) as desk:
            removed += await forget_sessions(desk, before)
    return CleanupAnswer(expired=expired, removed=removed)


ROUTES = [start_session, list_sessions, get_session, extend_session, abort_session, clean_up]
