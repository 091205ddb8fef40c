"""Control of synchronization over HTTP: pause a dataset's and go on with it, stop a run."""

from typing import Annotated

import msgspec
from litestar import Response, post

from app.base import exact_json
from app.base.errors import RunOver
from app.base.statements import Statement, statement
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.synchronization import Run, RunId, id_of, missing, read_run
from app.web.auth import Action, require
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Nothing, Organization, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of

PAUSE = statement("control/pause")
RESUME = statement("control/resume")
STOP_RUN = statement("control/stop_run")

STOPPED = "STOPPED"


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the dataset's synchronization is paused."""

    paused: bool


async def _answer_pause(
    request: VanguardRequest, organization: str, dataset: str, change: Statement, **more: object
) -> Response[bytes]:
    runtime, user = request.runtime, request.user.user_id

    async def work(desk: Desk) -> bytes:
        found = await desk.row(change, **more)
        if found is None:
            raise await missing(desk)
        if found["moved"]:
            event, act = ("paused", Act.SYNC_PAUSED) if found["paused"] else ("resumed", Act.SYNC_RESUMED)
            tell(desk, EventType.DATASET, runtime.clock(), actor=user, event=event)
            await record(desk, Entry(at=runtime.clock(), actor=user, action=act))
        return exact_json.encode(Pause(paused=found["paused"]))

    return await answer_once(request, runtime, await contract_of(request, organization, dataset), organization, work)


@post(
    f"{DATASET_PATH}/sync/pause",
    opt=require(Action.SYNCHRONIZE),
    status_code=200,
    tags=["synchronization"],
    summary="Pause synchronization",
    responses=answers_with_position(Pause, 404, 409, 422),
)
async def pause(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """Nothing is pulled or pushed until somebody resumes it; runs that are under way end after their next page."""
    at, user = request.runtime.clock(), request.user.user_id
    return await _answer_pause(request, org, dataset, PAUSE, user=user, at=at)


@post(
    f"{DATASET_PATH}/sync/resume",
    opt=require(Action.SYNCHRONIZE),
    status_code=200,
    tags=["synchronization"],
    summary="Go on with synchronization",
    responses=answers_with_position(Pause, 404, 409, 422),
)
async def resume(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """What is due by now begins at once."""
    return await _answer_pause(request, org, dataset, RESUME)


@post(
    f"{DATASET_PATH}/sync/runs/{{run_id:str}}/stop",
    opt=require(Action.SYNCHRONIZE),
    status_code=200,
    tags=["synchronization"],
    summary="Stop a run",
    responses=answers_with_position(Run, 404, 409, 422),
)
async def stop_run(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    run_id: RunId,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """One that waits is over at once, one that is under way ends after its next page. What it has written stays."""
    runtime, user = request.runtime, request.user
    id_, error = id_of(run_id), f"{user.name or user.user_id} stopped it before a worker began it."

    async def work(desk: Desk) -> bytes:
        stopped = await desk.value(
            STOP_RUN, run_id=id_, user=user.user_id, at=runtime.clock(), error_code=STOPPED, error=error
        )
        run = await read_run(desk, id_)
        if stopped is None:
            raise RunOver(f"It {run.state} at {run.finished_at}.")
        told = {"kind": run.kind, "runId": run.id}
        await record(desk, Entry(at=runtime.clock(), actor=user.user_id, action=Act.SYNC_STOPPED, details=told))
        return exact_json.encode(run)

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work)


ROUTES = [pause, resume, stop_run]
