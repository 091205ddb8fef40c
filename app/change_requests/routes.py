"""Change requests over HTTP."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.openapi.spec import Example, Operation
from litestar.params import PathParameter
from litestar.response import Stream
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.errors import ChangeRequestNotFound, CommitNotFound, ResolutionNotFound, VanguardError
from app.base.statements import statement
from app.change_requests import merge, reading, resolutions, revert, review, submission
from app.change_requests.bundle import FORMATS, Bundle, Bundling
from app.change_requests.requests import (
    MAX_SHOWN,
    Person,
    digest_of,
    read_events,
    read_request,
    request_of,
    shown_event,
)
from app.contracts.conflicts import ShownConflict
from app.contracts.states import RequestState
from app.engine.cursors import Cursor, check_incarnation, read_cursor, write_cursor
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.engine.requests import Event
from app.exports import Column, stream_table
from app.exports.writers import WRITERS
from app.web.auth import Action, require
from app.web.etags import PRIVATE
from app.web.idempotency import answer_once
from app.web.openapi import (
    DATASET_PATH,
    DatasetName,
    Nothing,
    Organization,
    SessionId,
    add_media_type,
    answers,
    body,
    parameter,
)
from app.web.paging import PageOperation, read_given, read_page
from app.web.runtime import VanguardRequest, contract_of

LIST_REQUESTS = statement("change_requests/list_requests")

REQUESTS_PATH = f"{DATASET_PATH}/change-requests"
REQUEST_PATH = f"{REQUESTS_PATH}/{{request_id:str}}"
STATUSES = tuple(str(state) for state in RequestState)
EXAMPLE = "0b6fca28-7d0a-4a61-9a5e-1f6a3f1f2f11"

RequestId = Annotated[str, PathParameter(description="Id of the change request", examples=[Example(value=EXAMPLE)])]
CommitId = Annotated[str, PathParameter(description="Id of the commit", examples=[Example(value=EXAMPLE)])]
ResolutionId = Annotated[str, PathParameter(description="Id of the resolution", examples=[Example(value=EXAMPLE)])]


class CommentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The comment's id."""

    id: str


class MergeAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a merge did. `merged_revision` and `revision_after` of `diff` are null until the changes have reached the
    mirror. `skipped` are the first of `skipped_count` conflicts that were left; `left_out`: fields of new rows that
    upstream alone writes. `cleanup`: nothing of the request is staged any more.
    """

    status: RequestState
    merged_revision: int | None
    commit_id: str
    rows_affected: int
    skipped: list[ShownConflict]
    skipped_count: int
    left_out: list[dict[str, Any]]
    diff: dict[str, int | None]
    cleanup: bool


class ResolutionsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of what is remembered."""

    data: list[resolutions.Remembered]
    next_cursor: str | None


def person_of(request: VanguardRequest) -> Person:
    """Who asks."""
    return Person(request.user.user_id, request.user.may(Action.REVIEW))


def read_id(text: str, error: type[VanguardError], message: str) -> uuid.UUID:
    """The id of a path; raises `error` for what is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise error(message) from None


def _request_id(text: str) -> uuid.UUID:
    return read_id(text, ChangeRequestNotFound, "There is no such change request, or it is not yours to read.")


Act = Callable[[Desk, Person, datetime, timedelta], Awaitable[Any]]


async def _answer(request: VanguardRequest, org: str, dataset: str, act: Act, *, status: int = 200) -> Response[bytes]:
    """Act once, and answer the request as it is then."""
    runtime, person = request.runtime, person_of(request)
    lifetime = timedelta(seconds=runtime.settings.session_ttl)

    async def work(desk: Desk) -> bytes:
        done = await act(desk, person, runtime.clock(), lifetime)
        return exact_json.encode(await reading.detail_of(desk, person, done))

    return await answer_once(request, runtime, contract_of(runtime, dataset), org, work, status=status)


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclass
class RequestsOperation(PageOperation):
    """A page's parameters, and the filter of requests."""

    def __post_init__(self) -> None:
        super().__post_init__()
        status = parameter("status", "string", "Only these", enum=list(STATUSES))
        self.parameters = [*(self.parameters or []), status]


@get(
    REQUESTS_PATH,
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="Change requests that you may read",
    operation_class=RequestsOperation,
    responses=answers(reading.RequestsAnswer, 404),
)
async def list_requests(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Your own, those that name you, and for an ADMIN all, the newest first. Parameters: status, limit, after."""
    runtime, person = request.runtime, person_of(request)
    contract = contract_of(runtime, dataset)
    limit, given = read_page(request, status=STATUSES)
    purpose = f"{org}/{contract.name}/change-requests/{person.id}"
    cursor = _cursor(request, purpose, given)
    async with runtime.desk(contract, org) as desk:
        incarnation = await _incarnation(desk, cursor)
        found = await desk.rows(
            LIST_REQUESTS,
            user=person.id,
            all=person.admin,
            status=given.get("status"),
            after=datetime.fromisoformat(str(cursor.values[0])) if cursor else None,
            after_id=uuid.UUID(cursor.key) if cursor else None,
            limit=limit + 1,
        )
    shown = [reading.listed(request_of(row)) for row in found[:limit]]
    last = Cursor((shown[-1]["createdAt"].isoformat(),), str(shown[-1]["id"]), incarnation) if shown else None
    return _page(request, purpose, shown, last if len(found) > limit else None)


@get(
    REQUEST_PATH,
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="A change request as it is now",
    responses=answers(reading.RequestDetail, 404),
)
async def get_request(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes]:
    """With its conflicts by now, and the digest that approve and merge take."""
    person = person_of(request)
    async with request.runtime.desk(contract_of(request.runtime, dataset), org) as desk:
        found = await read_request(desk, person, _request_id(request_id))
        answer = await reading.detail_of(desk, person, found)
    return _json(answer)


@dataclass
class DiffOperation(PageOperation):
    """A page's parameters, or the format of a file with all cells."""

    def __post_init__(self) -> None:
        super().__post_init__()
        described = parameter("format", "string", "A page of JSON, or a file", enum=["json", *WRITERS], default="json")
        self.parameters = [*(self.parameters or []), described]
        for writer in WRITERS.values():
            add_media_type(self, writer.media_type)


@get(
    f"{REQUEST_PATH}/diff",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="What a change request changes, cell by cell",
    operation_class=DiffOperation,
    responses=answers(reading.DiffAnswer, 404),
)
async def get_diff(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> ASGIResponse:
    """In the order of rows and fields. Parameters: limit, after; or format (csv, xlsx, ndjson), for a file of all."""
    runtime, person = request.runtime, person_of(request)
    contract = contract_of(runtime, dataset)
    limit, given = read_page(request, format=("json", *WRITERS))
    purpose = f"{org}/{contract.name}/change-requests/{request_id}/diff"
    cursor = _cursor(request, purpose, given)
    async with runtime.database.transaction() as connection:
        desk = Desk(connection, contract, org)
        incarnation = await _incarnation(desk, cursor)
        found = await read_request(desk, person, _request_id(request_id))
        if (ending := given.get("format", "json")) == "json":
            shown, following = await reading.read_page(desk, found, limit, cursor, incarnation)
            page = exact_json.encode({"data": shown, "nextCursor": _next(request, purpose, following)})
            return ASGIResponse(body=page, media_type="application/json", headers=PRIVATE)

    async def batches() -> AsyncGenerator[list[tuple[Any, ...]], None]:
        async with (
            runtime.database.transaction() as connection,
            aclosing(reading.read_cells(Desk(connection, contract, org), found)) as read,
        ):
            async for rows in read:
                yield [tuple(reading.shown_cell(row).values()) for row in rows]

    columns = [Column(name=name, label=name) for name in reading.ShownCell.__struct_fields__]
    return stream_table(request, ending, f"{contract.name}-change-request-{found.id}", columns, batches)


@get(
    f"{REQUEST_PATH}/conflicts",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="A change request's conflicts",
    responses=answers(reading.ConflictsAnswer, 404),
)
async def get_conflicts(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes]:
    """Those by now, and those that the last merge met."""
    async with request.runtime.desk(contract_of(request.runtime, dataset), org) as desk:
        found = await read_request(desk, person_of(request), _request_id(request_id))
        conflicts = await reading.conflicts_now(desk, found)
    return _json(
        {
            "digest": digest_of(found, conflicts),
            "conflicts": conflicts[:MAX_SHOWN],
            "conflictCount": len(conflicts),
            "met": found.conflicts,
        }
    )


@get(
    f"{REQUEST_PATH}/comments",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="Comments on a change request",
    operation_class=PageOperation,
    responses=answers(reading.CommentsAnswer, 404),
)
async def list_comments(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes]:
    """On the request, a row or a cell, the newest first. Parameters: limit, after."""
    runtime = request.runtime
    contract = contract_of(runtime, dataset)
    limit, given = read_page(request)
    purpose = f"{org}/{contract.name}/change-requests/{request_id}/comments"
    cursor = _cursor(request, purpose, given)
    async with runtime.desk(contract, org) as desk:
        incarnation = await _incarnation(desk, cursor)
        found = await read_request(desk, person_of(request), _request_id(request_id))
        after = int(cursor.key) if cursor else None
        rows = await read_events(desk, found.id, kind=Event.COMMENTED, after=after, limit=limit + 1)
    shown = [shown_event(row) for row in rows[:limit]]
    following = Cursor((), shown[-1]["id"], incarnation) if len(rows) > limit else None
    return _page(request, purpose, shown, following)


@dataclass
class BundleOperation(Operation):
    """The form of a bundle for /schema."""

    def __post_init__(self) -> None:
        described = parameter("format", "string", "JSON, or a ZIP of files", enum=list(FORMATS), default="json")
        self.parameters = [*(self.parameters or []), described]
        add_media_type(self, "application/zip")


@get(
    f"{REQUEST_PATH}/audit",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="The bundle of a merge",
    operation_class=BundleOperation,
    responses=answers(Bundle, 404),
)
async def get_bundle(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes] | Stream:
    """Result, diff, conflicts and validation, each also when there is nothing in it. Parameters: format (json, zip)."""
    runtime = request.runtime
    form = read_given(request, format=FORMATS).get("format", "json")
    made = Bundling(runtime.database, contract_of(runtime, dataset), org, person_of(request), _request_id(request_id))
    # The request is looked up before the answer begins.
    found = await made.begin()
    if form == "zip":
        name = f"{dataset}-change-request-{found.id}.zip"
        headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'}
        return Stream(made.zipped(found, runtime.clock()), media_type="application/zip", headers=headers)
    return Stream(made.json(found), media_type="application/json", headers=PRIVATE)


# -- submission and review ---------------------------------------------------------------------------------------------


@post(
    f"{DATASET_PATH}/sessions/{{session_id:str}}/submit",
    opt=require(Action.EDIT),
    status_code=201,
    tags=["change requests"],
    summary="Submit a session for review",
    responses=answers(reading.RequestDetail, 404, 409, 422, status=201),
)
async def submit_session(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[submission.SubmitRequest, body({"title": "Cranes of the west", "digest": "5f2c..."})],
) -> Response[bytes]:
    """What the preview showed goes under review, and the session is locked. Errors block, and so do warnings until they
    are overridden.
    """

    async def act(desk: Desk, person: Person, at: datetime, _: timedelta) -> Any:
        return await submission.submit(desk, person.id, session_id, data, at)

    return await _answer(request, org, dataset, act, status=201)


@post(
    f"{REQUEST_PATH}/resubmit",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Submit a change request again",
    responses=answers(reading.RequestDetail, 404, 409, 422),
)
async def resubmit(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[
        submission.ResubmitRequest | None, body({"title": "Cranes of the west, without the old ones"})
    ] = None,
) -> Response[bytes]:
    """One that was rejected or withdrawn, as its session is now; what was approved before counts no more."""

    async def act(desk: Desk, person: Person, at: datetime, _: timedelta) -> Any:
        wanted = data or submission.ResubmitRequest()
        return await submission.resubmit(desk, person, _request_id(request_id), wanted, at)

    return await _answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/approve",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Approve a change request, or most of it",
    responses=answers(reading.RequestDetail, 404, 409, 422),
)
async def approve(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[
        review.ApproveRequest, body({"digest": "1.5f2c...", "except": [{"id": "PFA-0000001", "field": "monthlyRate"}]})
    ],
) -> Response[bytes]:
    """The cells of `except` return to the author's drafts; an atomic group does so whole, or not at all."""

    async def act(desk: Desk, person: Person, at: datetime, _: timedelta) -> Any:
        return await review.approve(desk, person, _request_id(request_id), data, at)

    return await _answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/reject",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Send a change request back",
    responses=answers(reading.RequestDetail, 404, 409, 422),
)
async def reject(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[review.RejectRequest, body({"comment": "The rates of 2027 are missing"})],
) -> Response[bytes]:
    """Its changes are its author's drafts again, in the session that they came from."""

    async def act(desk: Desk, person: Person, at: datetime, lifetime: timedelta) -> Any:
        return await review.reject(desk, person, _request_id(request_id), data, at, lifetime)

    return await _answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/withdraw",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Take a change request of yours back",
    responses=answers(reading.RequestDetail, 404, 409),
)
async def withdraw(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """Its changes are drafts again, in the session that they came from."""

    async def act(desk: Desk, person: Person, at: datetime, lifetime: timedelta) -> Any:
        return await review.withdraw(desk, person, _request_id(request_id), at, lifetime)

    return await _answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/comments",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="Comment on a change request, a row or a cell",
    responses=answers(CommentAnswer, 404, 422, status=201),
)
async def comment(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[
        review.CommentRequest, body({"text": "Is this per month?", "id": "PFA-0000001", "field": "monthlyRate"})
    ],
) -> Response[bytes]:
    """Whoever may read the request may comment on it, also when it is over."""
    runtime, person = request.runtime, person_of(request)

    async def work(desk: Desk) -> bytes:
        said = await review.comment(desk, person, _request_id(request_id), data, runtime.clock())
        return exact_json.encode({"id": str(said)})

    return await answer_once(request, runtime, contract_of(runtime, dataset), org, work, status=201)


@post(
    f"{REQUEST_PATH}/resolutions",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Resolve conflicts of a change request",
    responses=answers(reading.RequestDetail, 404, 409, 422),
)
async def resolve(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[
        resolutions.ResolveRequest,
        body({"default": "theirs", "resolutions": [{"id": "PFA-0000001", "field": "monthlyRate", "use": "mine"}]}),
    ],
) -> Response[bytes]:
    """In review only. The request is then to be approved anew; the same conflict is resolved alike next time."""

    async def act(desk: Desk, person: Person, at: datetime, _: timedelta) -> Any:
        return await resolutions.propose(desk, person, _request_id(request_id), data, at)

    return await _answer(request, org, dataset, act)


# -- merge and revert --------------------------------------------------------------------------------------------------


@post(
    f"{REQUEST_PATH}/merge",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Merge an approved change request",
    responses=answers(MergeAnswer, 404, 409, 422),
)
async def merge_request(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[merge.MergeRequest, body({"digest": "1.5f2c...", "dryRun": True})],
) -> Response[bytes]:
    """All of it or nothing, but with onConflict skip. Conflicts, broken rules and failures put it back to review."""
    runtime, person = request.runtime, person_of(request)

    async def work(desk: Desk) -> bytes | VanguardError:
        done = await merge.merge(desk, person, _request_id(request_id), data, runtime.clock())
        return done if isinstance(done, VanguardError) else exact_json.encode(done)

    try:
        return await answer_once(request, runtime, contract_of(runtime, dataset), org, work)
    except merge.DryRun as rehearsal:
        return Response(exact_json.encode(rehearsal.answer), media_type="application/json")


@post(
    f"{REQUEST_PATH}/revert",
    opt=require(Action.EDIT),
    tags=["change requests"],
    summary="Undo a merged change request by another one",
    responses=answers(reading.RequestDetail, 404, 409, 422, status=201),
)
async def revert_request(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    request_id: RequestId,
    data: Annotated[revert.RevertRequest, body({"title": "Cranes of the west: back to the old rates"})],
) -> Response[bytes]:
    """The inverse changes as a request of yours, with conflicts where others have changed the same cells since."""

    async def act(desk: Desk, person: Person, at: datetime, lifetime: timedelta) -> Any:
        return await revert.revert(desk, person, _request_id(request_id), data, at, lifetime)

    return await _answer(request, org, dataset, act, status=201)


@post(
    f"{DATASET_PATH}/commits/{{commit_id:str}}/revert",
    opt=require(Action.EDIT),
    tags=["change requests"],
    summary="Undo a commit by a change request",
    responses=answers(reading.RequestDetail, 404, 409, 422, status=201),
)
async def revert_commit(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    commit_id: CommitId,
    data: Annotated[revert.RevertRequest, body({"title": "Back to the old rates"})],
) -> Response[bytes]:
    """The same of a commit, anybody's: what it changed, everybody sees."""
    commit = read_id(commit_id, CommitNotFound, "There is no such commit, or nothing of it has reached the mirror.")

    async def act(desk: Desk, person: Person, at: datetime, lifetime: timedelta) -> Any:
        return await revert.revert_commit(desk, person, commit, data, at, lifetime)

    return await _answer(request, org, dataset, act, status=201)


# -- what is remembered ------------------------------------------------------------------------------------------------


@get(
    f"{DATASET_PATH}/resolutions",
    opt=require(Action.REVIEW),
    tags=["change requests"],
    summary="How conflicts were resolved, and will be again",
    operation_class=PageOperation,
    responses=answers(ResolutionsAnswer, 404),
)
async def list_resolutions(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """By id. Parameters: limit, after."""
    runtime = request.runtime
    contract = contract_of(runtime, dataset)
    limit, given = read_page(request)
    purpose = f"{org}/{contract.name}/resolutions"
    cursor = _cursor(request, purpose, given)
    async with runtime.desk(contract, org) as desk:
        incarnation = await _incarnation(desk, cursor)
        found = await resolutions.list_remembered(desk, uuid.UUID(cursor.key) if cursor else None, limit + 1)
    shown = found[:limit]
    following = Cursor((), str(shown[-1].id), incarnation) if len(found) > limit else None
    return _page(request, purpose, shown, following)


@delete(
    f"{DATASET_PATH}/resolutions/{{resolution_id:str}}",
    opt=require(Action.REVIEW),
    status_code=204,
    tags=["change requests"],
    summary="Resolve a conflict so no more",
    responses=answers(None, 404, status=204),
)
async def forget_resolution(
    request: VanguardRequest, org: Organization, dataset: DatasetName, resolution_id: ResolutionId
) -> None:
    """The next time it is a conflict as any other."""
    runtime = request.runtime
    resolution = read_id(resolution_id, ResolutionNotFound, "There is no such resolution.")
    async with runtime.database.transaction() as connection:
        desk = Desk(connection, contract_of(runtime, dataset), org)
        await resolutions.forget_resolution(desk, person_of(request), resolution, runtime.clock())


# -- pages -------------------------------------------------------------------------------------------------------------


def _cursor(request: VanguardRequest, purpose: str, given: dict[str, str]) -> Cursor | None:
    runtime = request.runtime
    return read_cursor(runtime.settings.secret, runtime.clock, purpose, given["after"]) if "after" in given else None


async def _incarnation(desk: Desk, cursor: Cursor | None) -> int:
    incarnation = (await read_dataset(desk)).incarnation
    check_incarnation(cursor, incarnation)
    return incarnation


def _page(request: VanguardRequest, purpose: str, shown: Any, following: Cursor | None) -> Response[bytes]:
    return _json({"data": shown, "nextCursor": _next(request, purpose, following)})


def _next(request: VanguardRequest, purpose: str, following: Cursor | None) -> str | None:
    runtime = request.runtime
    return write_cursor(runtime.settings.secret, runtime.clock, purpose, following) if following else None


def _json(answer: Any) -> Response[bytes]:
    return Response(exact_json.encode(answer), media_type="application/json", headers=PRIVATE)


ROUTES = [
    submit_session,
    list_requests,
    get_request,
    get_diff,
    get_conflicts,
    list_comments,
    comment,
    approve,
    reject,
    withdraw,
    resubmit,
    resolve,
    merge_request,
    revert_request,
    revert_commit,
    list_resolutions,
    forget_resolution,
    get_bundle,
]
