"""Synchronization over HTTP: ask for a pull or a push, watch it, see how all of them do.

The worker (app/worker/) does the work; here its requests are written down and its records are read.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from asyncpg import Record
from litestar import Response, get, post
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from app.base import exact_json
from app.base.errors import NoUpstream, RunNotFound, SyncPaused
from app.base.statements import statement
from app.contracts import Contract
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.locks import hold_filled, read_dataset
from app.web.auth import Action, require
from app.web.idempotency import answer_once
from app.web.openapi import (
    DATASET_PATH,
    DatasetName,
    Nothing,
    Organization,
    answers,
    answers_with_position,
    body,
    parameter,
)
from app.web.paging import PageOperation, Walk, by_time, read_page
from app.web.runtime import VanguardRequest, contract_of

LOCK_SYNCHRONIZATION = statement("locks/lock_synchronization")
REQUEST_RUN = statement("synchronization/request_run")
LIST_RUNS = statement("synchronization/list_runs")
READ_RUN = statement("synchronization/read_run")
READ_HEALTH = statement("synchronization/read_health")

KINDS = ("pull", "push", "check", "ingest", "replay", "backfill")
STATES = ("requested", "running", "succeeded", "failed")
INGESTED = {
    "read": "rows_read",
    "inserted": "inserted",
    "updated": "updated",
    "unchanged": "unchanged",
    "skipped": "skipped",
    "quarantined": "quarantined",
    "conflicts": "conflicts",
}
# What a run counts, with the column of each, and which of them make out how far it is.
COUNTS: dict[str, dict[str, str]] = {
    "pull": {
        "read": "rows_read",
        "inserted": "inserted",
        "updated": "updated",
        "unchanged": "unchanged",
        "deleted": "deleted",
        "quarantined": "quarantined",
        "conflicts": "conflicts",
        "leftAlone": "left_alone",
        "dropped": "dropped",
    },
    "push": {
        "synced": "synced",
        "conflicts": "conflicts",
        "syncErrors": "sync_errors",
        "retried": "retried",
        "normalized": "normalized",
    },
    "check": {},
    **dict.fromkeys(("ingest", "replay", "backfill"), INGESTED),
}
DONE: dict[str, tuple[str, ...]] = {
    "pull": ("read", "dropped"),
    "push": ("synced", "conflicts", "syncErrors"),
    "check": (),
    **dict.fromkeys(("ingest", "replay", "backfill"), ("read",)),
}
LATELY = timedelta(hours=24)
HEALTHY, DEGRADED = 95, 80  # per cent that went well

Kind = Literal["pull", "push", "check", "ingest", "replay", "backfill"]
Guard = Literal["deletions", "inserts", "changes", "quarantine"]
RunId = Annotated[
    str, PathParameter(description="Id of the run", examples=[Example(value="8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11")])
]


class PullRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`full`: every row, which also finds deletions; else those that changed since the last pull.

    `allow`: guards that do not hold for this pull, however many rows it is about.
    """

    full: bool = False
    allow: tuple[Guard, ...] = ()


class Requested(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The run that a worker will start."""

    run_id: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Rows or changes; `total` and `share` (0 to 1) are null where nobody knows the total."""

    done: int
    total: int | None
    share: float | None


class RunError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run failed, in words for people."""

    code: str
    message: str | None


class Run(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A pull, a push or a check.

    `requested_by` null means the schedule; `allowed`: guards that do not hold for it; `counts` are of rows in a pull,
    of changes in a push; `rate` is a second's; `doubt`: why a pull did not delete what it did not see; `report`: what a
    check has found.
    """

    id: str
    kind: Kind
    full: bool
    state: Literal["requested", "running", "succeeded", "failed"]
    requested_by: str | None
    requested_by_name: str | None
    requested_at: str
    allowed: list[Guard]
    started_at: str | None
    progressed_at: str | None
    finished_at: str | None
    counts: dict[str, int]
    rate: float | None
    progress: Progress
    doubt: str | None
    error: RunError | None
    report: dict[str, Any] | None


class Runs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of runs, the newest first."""

    data: list[Run]
    next_cursor: str | None


class PulledRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that pulls brought."""

    good: int
    quarantined: int


class Pushes(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Changes by how their push ended."""

    synced: int
    conflict: int
    sync_error: int


class Outbox(msgspec.Struct, frozen=True, kw_only=True):
    """Changes on their way; `oldest`: for so many seconds."""

    depth: int
    oldest: float | None


class Circuit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether upstream is asked anything; `failures` in a row."""

    state: Literal["closed", "open", "half_open"]
    failures: int
    open_until: str | None


class Paused(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Since when nothing is begun, and who wanted that; `by` null: so it was connected."""

    at: str
    by: str | None
    by_name: str | None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The report of drift that pulls wait for: since `at`, until somebody decides."""

    report: str
    at: str


class Health(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`share`, `rows` and `pushes` are of the last 24 hours; `lag`: seconds since the last good pull began."""

    status: Literal["healthy", "degraded", "unhealthy"]
    share: float | None
    rows: PulledRows
    pushes: Pushes
    lag: float | None
    outbox: Outbox
    failed: int
    quarantined: int
    watermark: str | None
    last_pull_at: str | None
    last_full_pull_at: str | None
    next_pull_at: str | None
    circuit: Circuit
    paused: Paused | None
    drift: Held | None


# -- asking for a run --------------------------------------------------------------------------------------------------


async def request_run(
    desk: Desk, kind: Kind, user: str, at: datetime, *, full: bool = False, allow: tuple[Guard, ...] = ()
) -> uuid.UUID:
    """The run of this kind that waits for a worker, added where none does.

    Raises NoUpstream, DatasetNotFound, and but for a check SyncPaused and DatasetReadOnly.
    """
    standing = await desk.row(LOCK_SYNCHRONIZATION)
    if standing is None:
        raise await missing(desk)
    if standing["paused_at"] is not None and kind != "check":
        who = f" by {standing['paused_by']}" if standing["paused_by"] else ""
        raise SyncPaused(f"It was paused at {standing['paused_at']}{who}. Resume it first: POST D/sync/resume.")
    if kind != "check":
        await hold_filled(desk)
    found: uuid.UUID = await desk.value(
        REQUEST_RUN, kind=kind, full=full, user=user, at=at, run_id=uuid.uuid4(), allow=list(allow)
    )
    return found


async def missing(desk: Desk) -> NoUpstream:
    """Why nothing is connected; raises DatasetNotFound where there is no such dataset."""
    await read_dataset(desk)
    return _no_upstream(desk.contract)


def _no_upstream(contract: Contract) -> NoUpstream:
    if contract.upstream is None:
        return NoUpstream(f"{contract.name} has no system of record: what is committed here is all there is.")
    return NoUpstream(f"No worker is configured to synchronize {contract.name} for this organization.")


async def _answer_request(
    request: VanguardRequest, organization: str, dataset: str, kind: Kind, wanted: PullRequest | None = None
) -> Response[bytes]:
    runtime, user = request.runtime, request.user
    wanted = wanted or PullRequest()
    if wanted.allow:
        user.demand(Action.LIFT_GUARDS)

    async def work(desk: Desk) -> bytes:
        at = runtime.clock()
        run = await request_run(desk, kind, user.user_id, at, full=wanted.full, allow=wanted.allow)
        told: dict[str, Any] = {"kind": kind, "runId": str(run)}
        if kind == "pull":
            told |= {"full": wanted.full, "allow": list(wanted.allow)}
        await record(desk, Entry(at=at, actor=user.user_id, action=Act.SYNC_REQUESTED, details=told))
        return exact_json.encode(Requested(run_id=str(run)))

    return await answer_once(
        request, runtime, await contract_of(request, organization, dataset), organization, work, status=202
    )


@post(
    f"{DATASET_PATH}/sync/pull",
    opt=require(Action.SYNCHRONIZE),
    status_code=202,
    tags=["synchronization"],
    summary="Ask for a pull",
    responses=answers_with_position(Requested, 404, 409, 422, status=202, description="A worker will start it"),
)
async def request_pull(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[PullRequest | None, body({"full": True})] = None,
) -> Response[bytes]:
    """A pull that waits already is joined: it becomes a full one if this one is, and may do what this one may.

    The body may be left out; `allow` takes the role ADMIN.
    """
    return await _answer_request(request, org, dataset, "pull", data)


@post(
    f"{DATASET_PATH}/sync/push",
    opt=require(Action.SYNCHRONIZE),
    status_code=202,
    tags=["synchronization"],
    summary="Ask for a push",
    responses=answers_with_position(Requested, 404, 409, 422, status=202, description="A worker will start it"),
)
async def request_push(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """A push that waits already is joined. The body may be left out."""
    return await _answer_request(request, org, dataset, "push")


@post(
    f"{DATASET_PATH}/sync/check",
    opt=require(Action.SYNCHRONIZE),
    status_code=202,
    tags=["synchronization"],
    summary="Ask what the system of record looks like",
    responses=answers_with_position(Requested, 404, 409, 422, status=202, description="A worker will start it"),
)
async def request_check(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """Nothing is written, here or there; the run has the report. Also while synchronization is paused."""
    return await _answer_request(request, org, dataset, "check")


# -- lists -------------------------------------------------------------------------------------------------------------


@dataclass
class RunsOperation(PageOperation):
    """A page's parameters, and the filters of runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [
            *(self.parameters or []),
            parameter("kind", "string", "Only these", enum=list(KINDS)),
            parameter("state", "string", "Only these", enum=list(STATES)),
        ]


@get(
    f"{DATASET_PATH}/sync/runs",
    opt=require(Action.SYNCHRONIZE),
    tags=["synchronization"],
    summary="Runs",
    operation_class=RunsOperation,
    responses=answers(Runs, 404),
)
async def list_runs(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Pulls, pushes and checks, the newest first. Parameters: kind, state, limit, after."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request, kind=KINDS, state=STATES)
    walk = Walk(runtime, f"{org}/{contract.name}/sync/runs", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        walk.check((await read_dataset(desk)).incarnation)
        found = await desk.rows(
            LIST_RUNS,
            kind=given.get("kind"),
            state=given.get("state"),
            after=walk.at,
            after_id=walk.id,
            limit=limit + 1,
        )
    runs = [run_of(record) for record in found[:limit]]
    return _answer(Runs(data=runs, next_cursor=walk.following(found, limit, by_time)))


@get(
    f"{DATASET_PATH}/sync/runs/{{run_id:str}}",
    opt=require(Action.SYNCHRONIZE),
    tags=["synchronization"],
    summary="One run",
    responses=answers(Run, 404),
)
async def get_run(request: VanguardRequest, org: Organization, dataset: DatasetName, run_id: RunId) -> Response[bytes]:
    """The run, with its progress while it runs."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    id_ = id_of(run_id)
    async with runtime.desk(contract, org) as desk:
        return _answer(await read_run(desk, id_))


def _answer(shape: Run | Runs) -> Response[bytes]:
    """With all digits of a report's numbers."""
    return Response(exact_json.encode(shape), media_type="application/json")


def id_of(run_id: str) -> uuid.UUID:
    """The id that a path names; raises RunNotFound for what is none."""
    try:
        return uuid.UUID(run_id)
    except ValueError:
        raise _no_run(run_id) from None


async def read_run(desk: Desk, id_: uuid.UUID) -> Run:
    """The run; raises RunNotFound."""
    record = await desk.row(READ_RUN, run_id=id_)
    if record is None:
        raise _no_run(str(id_))
    return run_of(record)


def _no_run(run_id: str) -> RunNotFound:
    return RunNotFound(f"There is no run {run_id[:80]!r} of this dataset.")


def run_of(record: Record) -> Run:
    """The run of a record of list_runs or read_run."""
    counts = {name: record[column] for name, column in COUNTS[record["kind"]].items()}
    done = sum(counts[name] for name in DONE[record["kind"]])
    total, error = record["total"], record["error_code"]
    return Run(
        id=str(record["id"]),
        kind=record["kind"],
        full=record["whole"],
        state=record["state"],
        requested_by=record["requested_by"],
        requested_by_name=record["requested_by_name"],
        requested_at=record["requested_at"],
        allowed=record["allow"],
        started_at=record["started_at"],
        progressed_at=record["progressed_at"],
        finished_at=record["finished_at"],
        counts=counts,
        rate=round(done / record["seconds"], 2) if counts and record["seconds"] else None,
        # A page may come twice, so that more is done than there is.
        progress=Progress(done=done, total=total, share=round(min(1.0, done / total), 4) if total else None),
        doubt=record["doubt"],
        error=None if error is None else RunError(code=error, message=record["error"]),
        report=record["report"],
    )


# -- health ------------------------------------------------------------------------------------------------------------


@get(
    f"{DATASET_PATH}/sync/health",
    opt=require(Action.SYNCHRONIZE),
    tags=["synchronization"],
    summary="How synchronization does",
    responses=answers(Health, 404, 409),
)
async def get_health(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Health:
    """Of the rows and pushes settled in 24 hours: healthy from 95 % that went well, degraded from 80 %."""
    runtime = request.runtime
    contract, now = await contract_of(request, org, dataset), runtime.clock()
    async with runtime.desk(contract, org) as desk:
        found = await desk.row(READ_HEALTH, at=now, since=now - LATELY)
    if found is None:
        raise desk.not_set_up
    if contract.upstream is None:
        raise _no_upstream(contract)
    return _health(found)


def _health(found: Record) -> Health:
    well = found["rows_good"] + found["synced"]
    settled = well + found["rows_quarantined"] + found["conflict"] + found["sync_error"]
    return Health(
        status=_status(well, settled, pulled=found["pulled"]),
        share=round(well / settled, 4) if settled else None,
        rows=PulledRows(good=found["rows_good"], quarantined=found["rows_quarantined"]),
        pushes=Pushes(synced=found["synced"], conflict=found["conflict"], sync_error=found["sync_error"]),
        lag=found["lag"],
        outbox=Outbox(depth=found["depth"], oldest=found["oldest"]),
        failed=found["failed"],
        quarantined=found["quarantined"],
        watermark=found["watermark"],
        last_pull_at=found["last_pull_at"],
        last_full_pull_at=found["last_full_pull_at"],
        next_pull_at=found["next_pull_at"],
        circuit=Circuit(state=found["circuit"], failures=found["failures"], open_until=found["open_until"]),
        paused=(
            Paused(at=found["paused_at"], by=found["paused_by"], by_name=found["paused_by_name"])
            if found["paused_at"]
            else None
        ),
        drift=None if found["drift_id"] is None else Held(report=str(found["drift_id"]), at=found["drift_at"]),
    )


def _status(well: int, settled: int, *, pulled: bool) -> Literal["healthy", "degraded", "unhealthy"]:
    if not settled:
        return "healthy" if pulled else "unhealthy"
    if well * 100 >= HEALTHY * settled:
        return "healthy"
    return "degraded" if well * 100 >= DEGRADED * settled else "unhealthy"


ROUTES = [request_pull, request_push, request_check, list_runs, get_run, get_health]
