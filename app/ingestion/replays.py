"""`POST D/replay` and `POST D/backfill`: records that were received, through the semantics of the contract again."""

import hashlib
import uuid
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, post

from app.base import exact_json
from app.base.errors import InvalidTransition, PreviewStale
from app.base.statements import statement
from app.contract_versions.registry import hold_ingestion_ready
from app.contracts.states import DatasetState
from app.engine.audit import Act, Entry, record
from app.engine.datasets import Datasets, base_of
from app.engine.desk import Desk
from app.engine.locks import lock_filled
from app.ingestion.routes import ADD_RUN, check_ingested
from app.records.conversion import Converter
from app.web.auth import Action, require
from app.web.idempotency import answer_once, answer_rehearsal
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers_with_position, body
from app.web.runtime import VanguardRequest, standing_of
from app.worker.ingestion import Run, received, rows_of_version, takes_received, version_in_use
from app.worker.semantics import Counts, Ingester, Record, Refused

COUNT_RECEIVED = statement("ingestion/count_received")
COUNT_ROWS = statement("ingestion/count_rows")

ACTS = {"replay": Act.RECORDS_REPLAYED, "backfill": Act.RECORDS_BACKFILLED}
PREVIEW = 100
TRIED = 2_000  # records that an estimate is made of


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Records received from `from` on, before `to`. A dry run says what would come, and the digest to confirm it by."""

    from_: Annotated[datetime, msgspec.Meta(tz=True)] = msgspec.field(name="from")
    to: Annotated[datetime, msgspec.Meta(tz=True)]
    dry_run: bool = True
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    digest: str | None = None


class PreviewedRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A record as the contract reads it: the row's document, or why there is none."""

    line: int
    received_at: str
    data: dict[str, Any] | None
    errors: list[dict[str, Any]]


class ReplayPreview(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What would be sent through; `estimated_duplicates` would change nothing, as the first 2,000 records tell it."""

    estimated_rows: int
    estimated_duplicates: int
    estimated_quarantined: int
    preview: list[PreviewedRecord]
    digest: str
    confirmation_required: bool = True


class ReplayStarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The run that a worker will do."""

    run_id: str


class _Tried(Exception):
    """Leaves the transaction in which records were tried."""

    def __init__(self, preview: ReplayPreview):
        self.preview = preview


REPLAY: dict[str, Any] = {
    "opt": require(Action.REPLAY),
    "status_code": 202,
    "tags": ["ingestion"],
    "responses": {
        **answers_with_position(ReplayStarted, 404, 409, 422, status=202, description="A worker will do it"),
        **answers_with_position(ReplayPreview, description="A dry run"),
    },
}
EXAMPLE = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "dryRun": True}


@post(f"{DATASET_PATH}/replay", summary="Send received records through again", **REPLAY)
async def replay(
    request: VanguardRequest, org: Organization, dataset: DatasetName, data: Annotated[ReplayRequest, body(EXAMPLE)]
) -> Response[bytes]:
    """By the contract as it is now. What is there already stays unchanged, what is older is skipped."""
    return await _answer(request, org, dataset, data, "replay")


@post(f"{DATASET_PATH}/backfill", summary="Fill a version in SHADOW", **REPLAY)
async def backfill(
    request: VanguardRequest, org: Organization, dataset: DatasetName, data: Annotated[ReplayRequest, body(EXAMPLE)]
) -> Response[bytes]:
    """From the rows of the version in use, then from the records that were received in the time."""
    return await _answer(request, org, dataset, data, "backfill")


async def _answer(
    request: VanguardRequest, organization: str, dataset: str, data: ReplayRequest, kind: str
) -> Response[bytes]:
    runtime, user, at = request.runtime, request.user.user_id, request.runtime.clock()
    found = await standing_of(request, organization, dataset)
    contract = found.contract
    check_ingested(contract)
    parameters = {"since": data.from_.isoformat(), "until": data.to.isoformat(), "batchSize": data.batch_size}

    async def work(desk: Desk) -> bytes:
        _check_state(desk, kind, found.state)
        await hold_ingestion_ready(desk.connection)
        standing = await lock_filled(desk)
        _check_state(desk, kind, standing.state)
        total, digest = await _measure(runtime.datasets, desk, data, kind, standing.revision)
        if data.dry_run:
            raise _Tried(await _try(runtime.datasets, desk, data, kind, total, digest, at))
        if data.digest != digest:
            raise PreviewStale("What would be sent through is another by now. Look at a dry run again.", digest=digest)
        run_id = uuid.uuid4()
        await desk.value(
            ADD_RUN, run_id=run_id, kind=kind, user=user, at=at, parameters=parameters, total=total, done=False
        )
        span = {"since": parameters["since"], "until": parameters["until"]}
        told = {"runId": str(run_id), **span, "records": total}
        await record(desk, Entry(at=at, actor=user, action=ACTS[kind], details=told))
        return exact_json.encode(ReplayStarted(run_id=str(run_id)))

    try:
        return await answer_once(request, runtime, contract, organization, work, status=202)
    except _Tried as tried:
        return await answer_rehearsal(request, organization, tried.preview)


def _check_state(desk: Desk, kind: str, state: DatasetState) -> None:
    if kind == "backfill" and state is not DatasetState.SHADOW:
        raise InvalidTransition(
            f"{desk.contract.name} is {state}. Backfill fills a version in SHADOW.", state=state.value
        )


async def _measure(datasets: Datasets, desk: Desk, data: ReplayRequest, kind: str, revision: int) -> tuple[int, str]:
    """How many records there are, and a digest of what they are and what they would come to."""
    whose = {"organization": desk.organization, "base": base_of(desk.contract.name)}
    counted = await desk.connection.row(COUNT_RECEIVED, **whose, since=data.from_, until=data.to)
    assert counted is not None, "an aggregate returns its row"
    total, used = int(counted["received"]), None
    if kind == "backfill" and (used := await version_in_use(datasets, desk)) is not None:
        rows = int(await Desk(desk.connection, used, desk.organization).value(COUNT_ROWS))
        total = rows + (total if takes_received(desk.contract) else 0)
    told = [
        kind, data.from_.isoformat(), data.to.isoformat(), data.batch_size, total, counted["latest"],
        desk.contract.edition, None if used is None else used.edition, revision,
    ]  # fmt: skip
    return total, hashlib.sha256(exact_json.encode(told)).hexdigest()


async def _try(
    datasets: Datasets, desk: Desk, data: ReplayRequest, kind: str, total: int, digest: str, at: datetime
) -> ReplayPreview:
    """Take the first records, in a transaction that is taken back, and reckon from what becomes of them."""
    run = Run(
        id=uuid.UUID(int=0),
        kind=kind,
        parameters={"since": data.from_.isoformat(), "until": data.to.isoformat()},
        cursor=None,
        requested_at=at,
        quarantined=0,
    )
    used = await version_in_use(datasets, desk) if kind == "backfill" else None
    sources = [] if used is None else [rows_of_version(desk, used, run.id, "", TRIED)]
    if used is None or takes_received(desk.contract):
        sources.append(received(desk, run, "", TRIED))
    ingester, tried, counts = Ingester(desk, settled=kind == "backfill"), list[Record](), Counts()
    for source in sources:
        async with aclosing(source):
            async for portion in source:
                some = portion.records[: TRIED // len(sources)]
                counts += await _take(ingester, some, at)
                tried += some
                break
    share = total / len(tried) if tried else 0
    return ReplayPreview(
        estimated_rows=total,
        estimated_duplicates=round((counts.skipped + counts.unchanged) * share),
        estimated_quarantined=round(counts.quarantined * share),
        preview=_previewed(desk, tried[:PREVIEW]),
        digest=digest,
    )


async def _take(ingester: Ingester, records: list[Record], at: datetime) -> Counts:
    try:
        return await ingester.take(records, at)
    except Refused:
        # The run itself would end there; the preview shows the record, and why.
        return Counts(rows_read=len(records), quarantined=len(records))


def _previewed(desk: Desk, records: list[Record]) -> list[PreviewedRecord]:
    converters = {textual: Converter(desk.contract, textual=textual) for textual in (False, True)}
    found = []
    for each in records:
        members = each.raw.members
        convert = partial(converters[each.textual].convert, of_row=each.standing is not None)
        converted = None if members is None else convert(members, each.received_at)
        errors = (
            [{"code": each.raw.code, "message": each.raw.message}]
            if converted is None
            else msgspec.to_builtins(converted.culprits)
        )
        found.append(
            PreviewedRecord(
                line=each.raw.line,
                received_at=each.received_at.isoformat(),
                data=None if converted is None or errors else converted.document,
                errors=list(errors),
            )
        )
    return found


ROUTES = [replay, backfill]
