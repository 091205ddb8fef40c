"""Drift over HTTP: hold a contract against something, read reports, decide on them."""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from app.base import exact_json
from app.base.errors import Code, ContractNotFound, Culprit, ValidationFailed
from app.base.statements import statement
from app.contract_versions.registry import read_versions
from app.contracts import Contract
from app.contracts.states import ReportState
from app.drift.detection import Drift, Source, detect
from app.drift.records import batch_of, with_keys
from app.drift.reports import free_columns, keep, read_known, read_mappings
from app.drift_reports.comparing import compare_with, read_schema, verdict_of
from app.drift_reports.decisions import Decision, accept, map_field, reject
from app.drift_reports.wire import ReportAnswer, ReportsAnswer, no_report, read_report, summary_of
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.idempotency import answer_once
from app.web.openapi import Nothing, Organization, answers, answers_with_position, body, parameter
from app.web.paging import PageOperation, Walk, by_time, read_page
from app.web.runtime import VanguardRequest, contract_of

LIST_REPORTS = statement("drift/list_reports")

PATH = "/api/v1/orgs/{org:str}/contracts/{dataset:str}/drift"
STATES = tuple(state.value for state in ReportState)
SEVERITIES = ("COMPATIBLE", "WARNING", "BREAKING")
MOST = 10_000  # records of a sample
Records = Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MOST)]
DatasetOf = Annotated[
    str, PathParameter(description="Name of the dataset, or of a version of it", examples=[Example(value="pfa")])
]
ReportId = Annotated[
    str,
    PathParameter(description="Id of the report", examples=[Example(value="7c9e6679-7425-40de-944b-e07fc1f90ae7")]),
]


class DriftRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the contract is held against, one of these: up to 10,000 records; the members of a contract, of which those
    that are left out are as they are; a registered version.
    """

    sample: Records | None = None
    schema: dict[str, Any] | None = None
    version: Annotated[str, msgspec.Meta(max_length=20)] | None = None


class MapRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The field, or the column that it was read from, and the column that it is read from now on."""

    from_: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class RejectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


@dataclass
class ReportsOperation(PageOperation):
    """A page's parameters, and the filters of reports."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [
            *(self.parameters or []),
            parameter("state", "string", "Only these", enum=list(STATES)),
            parameter("severity", "string", "Only these", enum=list(SEVERITIES)),
        ]


@post(
    PATH,
    opt=require(Action.REGISTER_CONTRACT) | BATCH,
    status_code=201,
    tags=["drift"],
    summary="Look for drift",
    responses=answers_with_position(ReportAnswer, 404, 409, 422, status=201, description="The report"),
)
async def post_drift(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetOf,
    data: Annotated[DriftRequest, body({"sample": [{"id": "C-1", "name": "Northwind"}]})],
) -> Response[bytes]:
    """Hold the contract against a sample, against another one, or against a version. The report is kept; nothing else
    is changed by asking.
    """
    runtime, user = request.runtime, request.user.user_id
    contract = await contract_of(request, org, dataset)
    if sum(each is not None for each in (data.sample, data.schema, data.version)) != 1:
        message = "Say one of sample, schema and version."
        raise ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, field="sample", message=message)])
    versions = await _versions(request, contract, org)
    candidate: Contract | None = None
    columns: list[str] | None = None
    if data.sample is not None:
        source, (drift, columns) = Source.SAMPLE, await _against_sample(request, contract, org, data.sample)
    elif data.schema is not None:
        source, candidate = Source.SCHEMA, await asyncio.to_thread(read_schema, contract, data.schema)
        drift = await asyncio.to_thread(compare_with, contract, candidate)
    else:
        source, candidate = Source.VERSION, _pick(versions, contract, data.version or "")
        drift = await asyncio.to_thread(compare_with, contract, candidate)
    verdict = verdict_of(contract, candidate, list(versions.values()), drift)

    async def work(desk: Desk) -> bytes:
        shown = candidate if source is Source.SCHEMA and contract.own else None
        standing = await keep(
            desk, drift, source, runtime.clock(),
            verdict=verdict, user=user, columns=columns, schema=shown, told=source is Source.VERSION,
            most=runtime.settings.max_drift_reports,
        )  # fmt: skip
        return exact_json.encode(await read_report(desk, standing.id))

    return await answer_once(request, runtime, contract, org, work, status=201)


async def _versions(request: VanguardRequest, contract: Contract, organization: str) -> dict[str, Contract]:
    """The registered versions of the contract's dataset, by number; of a built-in one there is but one."""
    if not contract.own:
        return {contract.version: contract}
    async with request.runtime.database.connection() as connection:
        found = await read_versions(connection, organization, base_of(contract.name))
    return {version.contract.version: version.contract for version in found}


def _pick(versions: Mapping[str, Contract], contract: Contract, version: str) -> Contract:
    if version not in versions:
        known = ", ".join(versions)
        raise ContractNotFound(f"{base_of(contract.name)} has no version {version[:20]!r}; there are: {known}.")
    return versions[version]


async def _against_sample(
    request: VanguardRequest, contract: Contract, organization: str, sample: list[dict[str, Any]]
) -> tuple[Drift, list[str]]:
    """What is different, and the columns that a field can be mapped to."""
    runtime = request.runtime
    async with runtime.desk(contract, organization) as desk:
        mapped = await read_mappings(desk)
    batch = await asyncio.to_thread(batch_of, contract, sample, textual=False, mapped=mapped)
    batch = await asyncio.to_thread(with_keys, contract, batch)
    async with runtime.desk(contract, organization) as desk:
        known = await read_known(desk, batch)
    drift = await asyncio.to_thread(detect, contract, batch, known, Source.SAMPLE)
    return drift, free_columns(drift, batch.columns, batch.fields)


@get(
    PATH,
    opt=require(Action.QUERY),
    tags=["drift"],
    summary="Reports of drift",
    operation_class=ReportsOperation,
    responses=answers(ReportsAnswer, 404),
)
async def list_reports(request: VanguardRequest, org: Organization, dataset: DatasetOf) -> Response[bytes]:
    """The newest first. Parameters: state, severity, limit, after."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request, state=STATES, severity=SEVERITIES)
    walk = Walk(runtime, f"{org}/{contract.name}/drift", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        walk.check((await read_dataset(desk)).incarnation)
        found = await desk.connection.rows(
            LIST_REPORTS,
            organization=org,
            base=base_of(contract.name),
            state=given.get("state"),
            severity=given.get("severity"),
            after=walk.at,
            after_id=walk.id,
            limit=limit + 1,
            shadow=request.user.may(Action.SEE_SHADOW),
        )
    data = [summary_of(contract.name, row) for row in found[:limit]]
    answer = ReportsAnswer(data=data, next_cursor=walk.following(found, limit, by_time))
    return Response(exact_json.encode(answer), media_type="application/json")


@get(
    f"{PATH}/{{report:str}}",
    opt=require(Action.QUERY),
    tags=["drift"],
    summary="A report of drift",
    responses=answers(ReportAnswer, 404),
)
async def get_report(
    request: VanguardRequest, org: Organization, dataset: DatasetOf, report: ReportId
) -> Response[bytes]:
    """With its changes, and who uses the fields that they are about."""
    contract = await contract_of(request, org, dataset)
    async with request.runtime.desk(contract, org) as desk:
        found = await read_report(desk, _id_of(desk, report))
    return Response(exact_json.encode(found), media_type="application/json")


def _id_of(desk: Desk, report: str) -> uuid.UUID:
    try:
        return uuid.UUID(report)
    except ValueError:
        raise no_report(desk, report) from None


@post(
    f"{PATH}/{{report:str}}/accept",
    opt=require(Action.DECIDE_DRIFT),
    status_code=200,
    tags=["drift"],
    summary="Accept a drift",
    responses=answers_with_position(ReportAnswer, 404, 409, 422),
)
async def accept_drift(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetOf,
    report: ReportId,
    data: Annotated[Nothing | None, body({})] = None,
) -> Response[bytes]:
    """What came counts from now on. Of a dataset of one's own that makes its next version: at once where it is
    compatible, else in SHADOW. Of a built-in one, fields that are gone or otherwise are null here.
    """
    runtime, by = request.runtime, _decision(request)
    contract = await contract_of(request, org, dataset)

    async def work(desk: Desk) -> bytes:
        id_ = _id_of(desk, report)
        await accept(desk, id_, by)
        return exact_json.encode(await read_report(desk, id_))

    database = runtime.owner if contract.own else None
    return await answer_once(request, runtime, contract, org, work, database=database)


@post(
    f"{PATH}/{{report:str}}/map",
    opt=require(Action.DECIDE_DRIFT),
    status_code=200,
    tags=["drift"],
    summary="Map a field to a column",
    responses=answers_with_position(ReportAnswer, 404, 409, 422),
)
async def map_drift(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetOf,
    report: ReportId,
    data: Annotated[MapRequest, body({"from": "purchasePrice", "to": "pfs_f_price"})],
) -> Response[bytes]:
    """The field is read from another column. When nothing is left that holds the pull, all that was mapped counts."""
    runtime, by = request.runtime, _decision(request)
    contract = await contract_of(request, org, dataset)

    async def work(desk: Desk) -> bytes:
        id_ = _id_of(desk, report)
        await map_field(desk, id_, data.from_, data.to, by)
        return exact_json.encode(await read_report(desk, id_))

    return await answer_once(request, runtime, contract, org, work)


@post(
    f"{PATH}/{{report:str}}/reject",
    opt=require(Action.DECIDE_DRIFT),
    status_code=200,
    tags=["drift"],
    summary="Reject a drift",
    responses=answers_with_position(ReportAnswer, 404, 409, 422),
)
async def reject_drift(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetOf,
    report: ReportId,
    data: Annotated[RejectRequest, body({"reason": "The column was dropped by mistake"})],
) -> Response[bytes]:
    """What came stays outside. A pull goes on by itself once upstream is as before."""
    runtime, by = request.runtime, _decision(request)
    contract = await contract_of(request, org, dataset)

    async def work(desk: Desk) -> bytes:
        id_ = _id_of(desk, report)
        await reject(desk, id_, data.reason, by)
        return exact_json.encode(await read_report(desk, id_))

    return await answer_once(request, runtime, contract, org, work)


def _decision(request: VanguardRequest) -> Decision:
    runtime = request.runtime
    return Decision(user=request.user.user_id, at=runtime.clock(), settings=runtime.settings)


ROUTES = [post_drift, list_reports, get_report, accept_drift, map_drift, reject_drift]
