"""Change requests over HTTP: submission and review."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Response, post

from app.base import exact_json
from app.change_requests import reading, resolutions, review, submission
from app.change_requests.requests import Person
from app.change_requests.wire import REQUEST_PATH, RequestId, answer, person_of, request_id_of
from app.engine.desk import Desk
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Nothing, Organization, SessionId, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of


class CommentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The comment's id."""

    id: str


@post(
    f"{DATASET_PATH}/sessions/{{session_id:str}}/submit",
    opt=require(Action.EDIT),
    status_code=201,
    tags=["change requests"],
    summary="Submit a session for review",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422, status=201),
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

    return await answer(request, org, dataset, act, status=201)


@post(
    f"{REQUEST_PATH}/resubmit",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Submit a change request again",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422),
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
        return await submission.resubmit(desk, person, request_id_of(request_id), wanted, at)

    return await answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/approve",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["change requests"],
    summary="Approve a change request, or most of it",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422),
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
        return await review.approve(desk, person, request_id_of(request_id), data, at)

    return await answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/reject",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Send a change request back",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422),
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
        return await review.reject(desk, person, request_id_of(request_id), data, at, lifetime)

    return await answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/withdraw",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Take a change request of yours back",
    responses=answers_with_position(reading.RequestDetail, 404, 409),
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
        return await review.withdraw(desk, person, request_id_of(request_id), at, lifetime)

    return await answer(request, org, dataset, act)


@post(
    f"{REQUEST_PATH}/comments",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="Comment on a change request, a row or a cell",
    responses=answers_with_position(CommentAnswer, 404, 422, status=201),
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
        said = await review.comment(desk, person, request_id_of(request_id), data, runtime.clock())
        return exact_json.encode({"id": str(said)})

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work, status=201)


@post(
    f"{REQUEST_PATH}/resolutions",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["change requests"],
    summary="Resolve conflicts of a change request",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422),
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
        return await resolutions.propose(desk, person, request_id_of(request_id), data, at)

    return await answer(request, org, dataset, act)


ROUTES = [submit_session, comment, approve, reject, withdraw, resubmit, resolve]
