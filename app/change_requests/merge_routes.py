"""Change requests over HTTP: merge and revert, and what is remembered no more."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, post

from app.base import exact_json
from app.base.errors import CommitNotFound, ResolutionNotFound, VanguardError
from app.change_requests import merge, reading, resolutions, revert
from app.change_requests.requests import Person
from app.change_requests.wire import (
    REQUEST_PATH,
    CommitId,
    RequestId,
    ResolutionId,
    answer,
    person_of,
    read_id,
    request_id_of,
)
from app.contracts.conflicts import ShownConflict
from app.contracts.states import RequestState
from app.engine.desk import Desk
from app.web.auth import Action, require
from app.web.idempotency import answer_once, answer_rehearsal
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of


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


@post(
    f"{REQUEST_PATH}/merge",
    opt=require(Action.EDIT),
    status_code=200,
    tags=["change requests"],
    summary="Merge an approved change request",
    responses=answers_with_position(MergeAnswer, 404, 409, 422),
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
        done = await merge.merge(desk, person, request_id_of(request_id), data, runtime.clock())
        return done if isinstance(done, VanguardError) else exact_json.encode(done)

    try:
        return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work)
    except merge.DryRun as rehearsal:
        return await answer_rehearsal(request, org, rehearsal.answer)


@post(
    f"{REQUEST_PATH}/revert",
    opt=require(Action.EDIT),
    tags=["change requests"],
    summary="Undo a merged change request by another one",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422, status=201),
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
        return await revert.revert(desk, person, request_id_of(request_id), data, at, lifetime)

    return await answer(request, org, dataset, act, status=201)


@post(
    f"{DATASET_PATH}/commits/{{commit_id:str}}/revert",
    opt=require(Action.EDIT),
    tags=["change requests"],
    summary="Undo a commit by a change request",
    responses=answers_with_position(reading.RequestDetail, 404, 409, 422, status=201),
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

    return await answer(request, org, dataset, act, status=201)


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
    contract = await contract_of(request, org, dataset)
    async with runtime.database.transaction() as connection:
        desk = Desk(connection, contract, org)
        await resolutions.forget_resolution(desk, person_of(request), resolution, runtime.clock())


ROUTES = [merge_request, revert_request, revert_commit, forget_resolution]
