"""`POST D/ingest` and `POST contracts/infer`: records as JSON, or as an upload of CSV or NDJSON."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Response, post
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

from app.base import exact_json
from app.base.errors import Code, Culprit, HasUpstream, ValidationFailed
from app.base.pacing import in_turns
from app.base.statements import statement
from app.contract_versions.registry import BUILT_IN_NAMES, hold_ingestion_ready
from app.contracts import Contract
from app.contracts.filters import refuse
from app.drift.reports import read_mappings
from app.drift_reports.ingested import hold_drifted
from app.engine.audit import Act, Entry, record
from app.engine.datasets import NAME, base_of
from app.engine.desk import Desk
from app.engine.locks import lock_filled
from app.ingestion.upload import CSV, NDJSON, Upload, media_type, received
from app.records.conversion import columns_by_header
from app.records.inference import Inferred, infer, infer_upload
from app.records.records import Raw, raw_of, stored
from app.web.auth import Action, require
from app.web.budgets import UPLOAD
from app.web.idempotency import HEADER, answer_once, repeated
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, answers_with_position, parameter
from app.web.paging import read_given
from app.web.runtime import VanguardRequest, contract_of
from app.worker.runs import storable
from app.worker.semantics import RECORDS_A_TURN, Counts, Ingester, Record, Refused, note

log = structlog.get_logger(__name__)

ADD_RUN = statement("ingestion/add_run")
COUNT_RUN = statement("ingestion/count_run")
COLUMNS = ("organization_id", "dataset", "received_at", "run_id", "line", "textual", "record")

AT_ONCE = 1_000  # records that are taken in the request itself
PORTION = 5_000  # records that are copied at once
PORTION_BYTES = 8 * 2**20  # or so many of them, and one record beyond
Records = Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]


class IngestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records, in the order in which they are to be taken."""

    records: Records


class IngestAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The run; of up to 1,000 records also what became of them: `skipped` were older than what is there, or the same
    event again.
    """

    run_id: str
    read: int | None = None
    inserted: int | None = None
    updated: int | None = None
    unchanged: int | None = None
    skipped: int | None = None
    quarantined: int | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records to infer a contract from."""

    sample: Records


@dataclass
class RecordsOperation(Operation):
    """A body of JSON, CSV or NDJSON, for /schema: the handler reads it itself."""

    def __post_init__(self) -> None:
        records = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT), examples=[[{"id": "C-1"}]])
        json = Schema(type=OpenAPIType.OBJECT, properties={self.member: records}, required=[self.member])
        text = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
        content = {"application/json": OpenAPIMediaType(schema=json), CSV: text, NDJSON: text}
        self.request_body = RequestBody(content=content, required=True)
        delimiter = parameter("delimiter", "string", "Between cells of CSV; the header tells it, if not given")
        self.parameters = [*(self.parameters or []), delimiter]

    @property
    def member(self) -> str:
        """What the records are called in JSON."""
        return "records"


@dataclass
class InferOperation(RecordsOperation):
    """The same, with the parameters of an inference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [
            *(self.parameters or []),
            parameter("name", "string", "Name of the dataset", pattern="^[a-z][a-z0-9_]{0,39}$"),
            parameter("key", "string", "The field, or fields with commas, by which a row is the same row"),
        ]

    @property
    def member(self) -> str:
        """What the records are called in JSON."""
        return "sample"


@post(
    f"{DATASET_PATH}/ingest",
    opt=require(Action.INGEST) | UPLOAD,
    status_code=200,
    tags=["ingestion"],
    summary="Take records in",
    operation_class=RecordsOperation,
    request_max_body_size=None,
    responses={
        **answers_with_position(IngestAnswer, 404, 409, 422),
        **answers_with_position(IngestAnswer, status=202, description="A worker will take them"),
    },
)
async def post_records(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Up to 1,000 records of JSON become rows at once; more, and an upload of CSV or NDJSON, by a run of the worker
    (202). All are kept as received. By the semantics of the contract. Parameters: delimiter.
    """
    delimiter = read_given(request, "delimiter").get("delimiter")
    contract = await contract_of(request, org, dataset)
    check_ingested(contract)
    if media_type(request) == "application/json":
        records = await _json(request, IngestRequest)
        if (first := await repeated(request, request.runtime, org)) is not None:
            return first
        await hold_drifted(request, contract, org, _raws(records.records), textual=False)
        contract = await contract_of(request, org, dataset)
        if len(records.records) <= AT_ONCE:
            return await _take(request, contract, org, records.records)
        return await _receive(request, contract, org, textual=False, raws=_raws(records.records))
    if HEADER not in request.headers:
        async with request.runtime.database.connection() as connection:
            # Before a gigabyte is sent in vain; the transaction asks again.
            await hold_ingestion_ready(connection)
    async with received(request, delimiter) as upload:
        if (first := await repeated(request, request.runtime, org)) is not None:
            return first
        async with request.runtime.desk(contract, org) as desk:
            mapped = await read_mappings(desk)
        await asyncio.to_thread(_check_header, contract, upload, mapped)
        await hold_drifted(request, contract, org, upload.raws(), textual=upload.textual)
        contract = await contract_of(request, org, dataset)
        return await _receive(request, contract, org, textual=upload.textual, raws=upload.raws())


def check_ingested(contract: Contract) -> None:
    """Raises HasUpstream where rows come from elsewhere."""
    if contract.ingestion is None or contract.upstream is not None:
        raise HasUpstream(f"Rows of {contract.name} come from its system of record, and from nowhere else.")


async def _json(request: VanguardRequest, shape: type[Any]) -> Any:
    return exact_json.read(await request.bounded_body(), shape, members_checked=request.members_checked)


def _raws(records: list[dict[str, Any]]) -> Iterator[Raw]:
    for line, members in enumerate(records, start=1):
        yield raw_of(line, members)


def _check_header(contract: Contract, upload: Upload, mapped: Mapping[str, str | None]) -> None:
    """Raises MalformedRequest where the columns cannot be told apart, before anything is kept."""
    first = next(upload.raws(), None)
    if first is not None and upload.textual and first.members is not None:
        columns_by_header(contract, first.members, mapped)


async def _take(
    request: VanguardRequest, contract: Contract, organization: str, records: list[dict[str, Any]]
) -> Response[bytes]:
    """Everything in the request's transaction."""
    runtime, user = request.runtime, request.user.user_id
    at, taken = runtime.clock(), Counts()

    async def work(desk: Desk) -> bytes:
        nonlocal taken
        await hold_ingestion_ready(desk.connection)
        run_id = uuid.uuid4()
        run = {"run_id": run_id, "kind": "ingest", "user": user, "at": at, "parameters": {}, "total": len(records)}
        await desk.value(ADD_RUN, **run, done=True)
        await _record_sent(desk, user, at, run_id, len(records))
        raws = [raw async for raw in in_turns(_raws(records), RECORDS_A_TURN)]
        await _keep(desk, run_id, at, False, raws)
        ingester = Ingester(desk)
        counts = taken = await take(ingester, [Record(run_id, at, False, raw) for raw in raws], at)
        _check_aside(contract, counts)
        told = {"counts": msgspec.to_builtins(counts), "report": storable(ingester.proposals.report())}
        await desk.value(COUNT_RUN, run_id=run_id, at=at, cursor=None, **told)
        return exact_json.encode(_answer(run_id, counts))

    answer = await answer_once(request, runtime, contract, organization, work)
    note(taken)
    return answer


async def take(ingester: Ingester, records: list[Record], at: datetime) -> Counts:
    """Take records in the caller's transaction; raises ValidationFailed where the contract refuses them all."""
    try:
        return await ingester.take(records, at)
    except Refused as refused:
        raise _refused(refused.code, str(refused)) from None


def _check_aside(contract: Contract, counts: Counts) -> None:
    most = contract.max_quarantined
    if most is not None and counts.quarantined > most:
        message = f"{counts.quarantined} records cannot become rows; the contract lets {most} be put aside."
        raise _refused("TOO_MANY_QUARANTINED", message)


def _refused(code: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(code=code, message=message)])


def _answer(run_id: uuid.UUID, counts: Counts) -> IngestAnswer:
    return IngestAnswer(
        run_id=str(run_id),
        read=counts.rows_read,
        inserted=counts.inserted,
        updated=counts.updated,
        unchanged=counts.unchanged,
        skipped=counts.skipped,
        quarantined=counts.quarantined,
    )


async def _keep(desk: Desk, run_id: uuid.UUID, at: datetime, textual: bool, raws: list[Raw]) -> None:
    """Keep records as they were received."""
    base = base_of(desk.contract.name)
    rows = [(desk.organization, base, at, run_id, raw.line, textual, stored(raw)) for raw in raws]
    await desk.connection.raw.copy_records_to_table("received", schema_name="public", columns=COLUMNS, records=rows)


async def _receive(
    request: VanguardRequest, contract: Contract, organization: str, *, textual: bool, raws: Iterator[Raw]
) -> Response[bytes]:
    """Keep all records in one transaction, and ask the worker to take them."""
    runtime, user = request.runtime, request.user.user_id
    at = runtime.clock()

    async def work(desk: Desk) -> bytes:
        await hold_ingestion_ready(desk.connection)
        run_id, total = uuid.uuid4(), 0
        async for some in _portions(raws):
            total += len(some)
            await _keep(desk, run_id, at, textual, some)
        # At the end: nobody who commits waits for the copy.
        await lock_filled(desk)
        if not total:
            raise _refused(Code.MISSING_MEMBER, "There is no record in the upload.")
        await desk.value(
            ADD_RUN, run_id=run_id, kind="ingest", user=user, at=at, parameters=only(at), total=total, done=False
        )  # fmt: skip
        await _record_sent(desk, user, at, run_id, total)
        log.info("records received", organization=organization, dataset=contract.name, run=str(run_id), records=total)
        return exact_json.encode(IngestAnswer(run_id=str(run_id)))

    return await answer_once(request, runtime, contract, organization, work, status=202)


async def _record_sent(desk: Desk, user: str, at: datetime, run_id: uuid.UUID, records: int) -> None:
    told = {"runId": str(run_id), "records": records}
    await record(desk, Entry(at=at, actor=user, action=Act.RECORDS_SENT, details=told))


def only(at: datetime) -> dict[str, str]:
    """The time of what was received at a moment, as a run's parameters have it."""
    return {"since": at.isoformat(), "until": (at + timedelta(microseconds=1)).isoformat()}


async def _portions(raws: Iterator[Raw]) -> AsyncIterator[list[Raw]]:
    """Read in a thread: other requests go on meanwhile."""
    while some := await asyncio.to_thread(_next_portion, raws):
        yield some


def _next_portion(raws: Iterator[Raw]) -> list[Raw]:
    """The next records: so many, or so many bytes of them."""
    some, size = [], 0
    for raw in islice(raws, PORTION):
        some.append(raw)
        size += len(raw.record)
        if size >= PORTION_BYTES:
            break
    return some


@post(
    "/api/v1/orgs/{org:str}/contracts/infer",
    opt=require(Action.REGISTER_CONTRACT) | UPLOAD,
    status_code=200,
    tags=["contracts"],
    summary="Propose a contract for records",
    operation_class=InferOperation,
    request_max_body_size=None,
    responses=answers(Inferred, 422),
)
async def infer_contract(request: VanguardRequest, org: Organization) -> Response[bytes]:
    """The contract registers as it stands; `notes` tell every guess and what else it could be. Nothing is kept.
    Parameters: name, key, delimiter.
    """
    given = read_given(request, "name", "key", "delimiter")
    name = _name_of(given)
    key = [part.strip() for part in given["key"].split(",") if part.strip()] if given.get("key") else None
    if media_type(request) == "application/json":
        sample = await _json(request, Sample)
        found = await asyncio.to_thread(infer, sample.sample, name=name, key=key, textual=False, whole=True)
    else:
        async with received(request, given.get("delimiter")) as upload:
            found = await asyncio.to_thread(infer_upload, upload.raws(), name=name, key=key, textual=upload.textual)
    return Response(exact_json.encode(found), media_type="application/json")


def _name_of(given: dict[str, str]) -> str:
    """What the dataset is to be called; raises InvalidFilter for what none of an organization's can be called."""
    name = given.get("name", "records")
    if "@" in name or NAME.fullmatch(name) is None:
        raise refuse("name", "a small letter, then small letters, digits and _, at most 40 of all.")
    if name in BUILT_IN_NAMES:
        raise refuse("name", f"{name} comes with the product. Choose another name.")
    return name


ROUTES = [post_records, infer_contract]
