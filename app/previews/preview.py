"""Previewing over HTTP: make a preview, turn its pages, read what validation said, let warnings pass."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.openapi.spec import Example, Operation
from litestar.params import PathParameter

from app.base import exact_json
from app.base.errors import Code, Culprit, InvalidTransition, MalformedRequest
from app.contracts.conflicts import ShownConflict
from app.contracts.states import SessionState
from app.engine.desk import Desk
from app.engine.locks import raise_workspace, read_dataset
from app.engine.sessions import check_editable, keep_preview, read_session
from app.kpis import figures_of, read_kpis, read_wanted, written
from app.previews.changes import Diff
from app.previews.look import MAX_SHOWN, DiffPage, OpenRequest, Summary, look_at, read_diffs
from app.previews.runs import Validation, begin_run, finish_run, override_run, read_validation
from app.web.auth import Action, require
from app.web.etags import PRIVATE
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, answers_with_position, body, parameter
from app.web.paging import PAGE_SIZE, Walk, read_page
from app.web.runtime import VanguardRequest, contract_of

SESSION_PATH = f"{DATASET_PATH}/sessions/{{session_id:str}}"
SessionId = Annotated[str, PathParameter(description="Id of one of your sessions", examples=[Example(value="s-1")])]


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which page of the differences comes with the preview."""

    page_size: Annotated[int, msgspec.Meta(ge=1, le=PAGE_SIZE.most)] = PAGE_SIZE.default
    after: str | None = None


class Pagination(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`total_records`: all differences, counted by the preview and null on its further pages."""

    page_size: int
    total_records: int | None
    next_cursor: str | None


class DiffsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of differences."""

    diffs: list[Diff]
    pagination: Pagination


class Overlap(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What somebody else has in review or on its way in a cell of the session; `field` null deletes the row."""

    id: str
    field: str | None
    state: str
    request_id: str | None
    user_id: str
    user_name: str | None
    value: Any


class Impact(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who else is at these cells, and the change requests that have them in review."""

    overlaps: list[Overlap]
    overlap_count: int
    open_requests: list[OpenRequest]


class KpiSides(msgspec.Struct, frozen=True, kw_only=True):
    """The contract's figures of the baseline, and of the baseline with the session's rows."""

    before: dict[str, Any]
    after: dict[str, Any]


class PreviewAnswer(DiffsAnswer, frozen=True, kw_only=True, rename="camel"):
    """All that the session comes to. `conflicts` are the first of `conflict_count`."""

    summary: Summary
    validation: Validation
    conflicts: list[ShownConflict]
    conflict_count: int
    impact: Impact
    kpis: KpiSides
    digest: str


class OverrideRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the warnings may pass."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


# -- previewing --------------------------------------------------------------------------------------------------------


async def preview(desk: Desk, user: str, session_id: str, page: DiffPage, at: datetime) -> dict[str, Any]:
    """The members of a PreviewAnswer but for its page's pagination, which `page` is filled for; the session is in
    preview then. Inside the caller's transaction.

    Raises DatasetNotFound, SessionNotFound, and InvalidTransition for a session that is locked or over.
    """
    await raise_workspace(desk, user)
    session = await read_session(desk, user, session_id, at)
    check_editable(session)
    run_id = await begin_run(desk, session, at)
    look = await look_at(desk, user, session_id, page)
    await finish_run(desk, run_id, look.findings, at)
    digest = look.digest.text()
    session = await keep_preview(desk, session, at, digest=digest, run_id=run_id)
    return {
        "summary": look.summary,
        "diffs": page.diffs,
        "validation": await read_validation(desk, session),
        "conflicts": look.conflicts.first,
        "conflictCount": look.conflicts.count,
        "impact": {
            "overlaps": look.overlaps.first,
            "overlapCount": look.overlaps.count,
            "openRequests": list(look.open_requests.values())[:MAX_SHOWN],
        },
        "kpis": await _figures(desk, user, session_id),
        "digest": digest,
    }


async def _figures(desk: Desk, user: str, session_id: str) -> dict[str, Any]:
    """Figures of the rows that `GET D/kpis` counts."""
    contract = desk.contract
    wanted = msgspec.structs.replace(read_wanted(contract, []), session=session_id)
    total = (await read_kpis(desk, user, wanted)).total
    return {name: written(figures_of(contract, total, side)) for name, side in (("before", "base"), ("after", "mine"))}


def _purpose(organization: str, dataset: str, session_id: str) -> str:
    return f"{organization}/{dataset}/sessions/{session_id}/preview"


# -- on the wire -------------------------------------------------------------------------------------------------------


@dataclass
class DiffsOperation(Operation):
    """A page's parameters for /schema."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter(
                "pageSize",
                "integer",
                "Differences a page",
                minimum=1,
                maximum=PAGE_SIZE.most,
                default=PAGE_SIZE.default,
            ),
            parameter("after", "string", "nextCursor of the page before"),
        ]


@post(
    f"{SESSION_PATH}/preview",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["sessions"],
    summary="Preview a session",
    responses=answers_with_position(PreviewAnswer, 404, 409, 422),
)
async def post_preview(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[PreviewRequest | None, body({"pageSize": 100})] = None,
) -> Response[bytes]:
    """Differences, validation, conflicts, overlaps and figures of the session as it is. The body may be left out."""
    runtime = request.runtime
    contract, wanted = await contract_of(request, org, dataset), data or PreviewRequest()
    walk = Walk(runtime, _purpose(org, contract.edition, session_id), wanted.after)

    async def work(desk: Desk) -> bytes:
        walk.check((await read_dataset(desk)).incarnation)
        page = DiffPage(wanted.page_size, walk.cursor)
        found = await preview(desk, request.user.user_id, session_id, page, runtime.clock())
        pagination = Pagination(
            page_size=wanted.page_size,
            total_records=found["summary"].diffs,
            next_cursor=walk.next(page.following),
        )
        return exact_json.encode({**found, "pagination": pagination})

    return await answer_once(request, runtime, contract, org, work)


@get(
    f"{SESSION_PATH}/preview",
    opt=require(Action.QUERY),
    tags=["sessions"],
    summary="A further page of a preview's differences",
    operation_class=DiffsOperation,
    responses=answers(DiffsAnswer, 404, 409),
)
async def get_preview(
    request: VanguardRequest, org: Organization, dataset: DatasetName, session_id: SessionId
) -> Response[bytes]:
    """Only while the session is in preview: an edit ends it."""
    runtime = request.runtime
    contract, user = await contract_of(request, org, dataset), request.user.user_id
    size, given = read_page(request, PAGE_SIZE)
    walk = Walk(runtime, _purpose(org, contract.edition, session_id), given.get("after"))
    page = DiffPage(size, walk.cursor)
    async with runtime.database.transaction() as connection:
        desk = Desk(connection, contract, org)
        walk.check((await read_dataset(desk)).incarnation)
        session = await read_session(desk, user, session_id, runtime.clock())
        if session.state is not SessionState.PREVIEW:
            raise InvalidTransition(f"The session is {session.state}, and not in preview.", state=session.state)
        await read_diffs(desk, user, session_id, page, walk.cursor)
    pagination = Pagination(page_size=size, total_records=None, next_cursor=walk.next(page.following))
    answer = exact_json.encode(DiffsAnswer(diffs=page.diffs, pagination=pagination))
    return Response(answer, media_type="application/json", headers=PRIVATE)


@get(
    f"{SESSION_PATH}/validation",
    opt=require(Action.QUERY),
    tags=["sessions"],
    summary="What the last preview's validation said",
    responses=answers(Validation, 404),
)
async def get_validation(
    request: VanguardRequest, org: Organization, dataset: DatasetName, session_id: SessionId
) -> Response[bytes]:
    """The last run of the session, whether or not it was edited since."""
    runtime = request.runtime
    async with runtime.desk(await contract_of(request, org, dataset), org) as desk:
        session = await read_session(desk, request.user.user_id, session_id, runtime.clock())
        validation = await read_validation(desk, session)
    return Response(exact_json.encode(validation), media_type="application/json", headers=PRIVATE)


@post(
    f"{SESSION_PATH}/validation/override",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["sessions"],
    summary="Let a preview's warnings pass",
    responses=answers_with_position(Validation, 404, 409, 422),
)
async def override_validation(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[OverrideRequest, body({"reason": "Agreed with the site"})],
) -> Response[bytes]:
    """Only warnings, and only those of the present preview: an edit or another preview asks for them anew."""
    runtime, user = request.runtime, request.user.user_id
    contract = await contract_of(request, org, dataset)
    if "\0" in data.reason or not data.reason.strip():
        message = "A reason has words, and not the character NUL."
        culprit = Culprit(code=Code.INVALID_VALUE, field="reason", message=message)
        raise MalformedRequest(message, errors=[culprit])

    async def work(desk: Desk) -> bytes:
        await raise_workspace(desk, user)
        session = await read_session(desk, user, session_id, runtime.clock())
        await override_run(desk, session, user, data.reason)
        return exact_json.encode(await read_validation(desk, session))

    return await answer_once(request, runtime, contract, org, work)


ROUTES = [post_preview, get_preview, get_validation, override_validation]
