"""Contracts over HTTP: register, list, read, compare, delete."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import PathParameter

from app.base import exact_json
from app.base.errors import DatasetNotFound, MalformedRequest
from app.base.statements import statement
from app.contract_versions.registry import Version, pick_version, read_versions, register, remove
from app.contracts import PFA, Contract
from app.contracts.comparison import compare
from app.contracts.odcs import from_odcs, to_odcs
from app.contracts.registration import read_registration, wire_of
from app.contracts.states import DatasetState
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.idempotency import answer_once
from app.web.openapi import Organization, answers, answers_with_position, parameter
from app.web.paging import read_given
from app.web.runtime import VanguardRequest

LIST_CONTRACTS = statement("versions/list_contracts")

# Until the registry gives it a schema.
NOWHERE = "own_0"
PATH = "/api/v1/orgs/{org:str}/contracts"
YAML = ("application/yaml", "application/x-yaml", "text/yaml")
PlainName = Annotated[
    str, PathParameter(description="Name of the dataset, without a version", examples=[Example(value="customers")])
]
VersionNumber = Annotated[str, PathParameter(description="Version of the contract", examples=[Example(value="1.0")])]


class ContractSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A registered contract: `dataset` its name, `address` by which its major version is reached now; `current`:
    whether it is the newest of that.
    """

    dataset: str
    version: str
    address: str
    state: str
    current: bool
    title: str
    fields: int
    registered_by: str
    registered_by_name: str | None
    registered_at: str


class ContractsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The organization's own contracts, by dataset, the newest version first."""

    data: list[ContractSummary]


class ContractAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A contract; `changes`: from the version before; `notes`: what could not be taken over from another form."""

    dataset: str
    version: str
    address: str | None
    state: str | None
    changes: list[dict[str, Any]]
    contract: dict[str, Any]
    notes: list[dict[str, Any]] = []


class DiffAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What changed from one version to another: `severity` is that of the worst change. `backward`: what was written
    by the older contract fits the newer one; `forward`: the other way round.
    """

    dataset: str
    from_version: Annotated[str, msgspec.Meta(examples=["1.0"])]
    to_version: str
    severity: str
    backward: bool
    forward: bool
    changes: list[dict[str, Any]]


@dataclass
class ContractOperation(Operation):
    """A body of JSON or YAML, for /schema: the handler reads it itself."""

    def __post_init__(self) -> None:
        json = Schema(type=OpenAPIType.OBJECT, examples=[{"name": "customers", "version": "1.0"}])
        text = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
        content = {"application/json": OpenAPIMediaType(schema=json), YAML[0]: text}
        self.request_body = RequestBody(content=content, required=True)


@dataclass
class FormatOperation(Operation):
    """The form that a contract is told in."""

    def __post_init__(self) -> None:
        description = "json, or odcs: a document of the Open Data Contract Standard, as YAML"
        written = parameter("format", "string", description, enum=["json", "odcs"])
        self.parameters = [*(self.parameters or []), written]
        # As whoever reads YAML has it.
        document = OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT))
        for status, answer in (self.responses or {}).items():
            if status == "200" and isinstance(answer, OpenAPIResponse):
                answer.content = {**(answer.content or {}), YAML[0]: document}


@dataclass
class DiffOperation(Operation):
    """The versions that are compared."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("from", "string", "Version of the contract, such as 1.0"),
            parameter("to", "string", "Version of the contract, such as 1.1"),
        ]


@post(
    PATH,
    opt=require(Action.REGISTER_CONTRACT) | BATCH,
    status_code=201,
    tags=["contracts"],
    summary="Register a contract",
    operation_class=ContractOperation,
    responses=answers_with_position(ContractAnswer, 409, 422, status=201, description="Registered"),
)
async def post_contract(request: VanguardRequest, org: Organization) -> Response[bytes]:
    """The first contract of a name makes the dataset, in SHADOW until an ADMIN promotes it. The next version is minor,
    and applies at once, where it is compatible; else major, in SHADOW beside the one in use. Everything that is wrong
    is told with its path. A body of application/yaml is read as an Open Data Contract Standard document.
    """
    runtime, user = request.runtime, request.user.user_id
    sent = await request.body()
    # In a thread: a contract with all the patterns and expressions that it may have takes a third of a second.
    contract, notes = await asyncio.to_thread(_read, sent, yaml=request.content_type[0].lower() in YAML)

    async def work(desk: Desk) -> bytes:
        done = await register(desk.connection, org, contract, user, runtime.clock(), runtime.settings)
        desk.contract = done.contract
        return exact_json.encode(_answer(done.contract, done.contract.name, done.state, done.changes, notes))

    return await answer_once(request, runtime, PFA, org, work, status=201, database=runtime.owner)


def _read(sent: bytes, *, yaml: bool) -> tuple[Contract, list[dict[str, Any]]]:
    """The contract of a body, and notes on what YAML could not bring; raises ValidationFailed and MalformedRequest."""
    if not yaml:
        return read_registration(exact_json.read(sent, dict[str, Any]), schema=NOWHERE), []
    try:
        document, notes = from_odcs(sent.decode())
    except UnicodeDecodeError:
        raise MalformedRequest("The YAML is not UTF-8.") from None
    return read_registration(document, schema=NOWHERE), msgspec.to_builtins(notes)


def _answer(
    contract: Contract,
    address: str | None,
    state: DatasetState | None,
    changes: list[dict[str, Any]],
    notes: list[dict[str, Any]],
) -> ContractAnswer:
    base = base_of(contract.name)
    return ContractAnswer(
        dataset=base,
        version=contract.version,
        address=address,
        state=None if state is None else state.value,
        changes=changes,
        contract=wire_of(msgspec.structs.replace(contract, name=base)),
        notes=notes,
    )


@get(
    PATH,
    opt=require(Action.QUERY),
    tags=["contracts"],
    summary="The organization's contracts",
    responses=answers(ContractsAnswer),
)
async def list_contracts(request: VanguardRequest, org: Organization) -> ContractsAnswer:
    """Those of versions in SHADOW are for ENGINEERs and ADMINs."""
    shadow = request.user.may(Action.SEE_SHADOW)
    async with request.runtime.database.connection() as connection:
        rows = await connection.rows(LIST_CONTRACTS, organization=org)
    return ContractsAnswer(
        data=[
            ContractSummary(
                dataset=row["dataset"],
                version=row["version"],
                address=row["name"],
                state=row["state"],
                current=row["current"],
                title=row["title"],
                fields=row["fields"],
                registered_by=row["registered_by"],
                registered_by_name=row["registered_by_name"],
                registered_at=row["registered_at"],
            )
            for row in rows
            if shadow or row["state"] != DatasetState.SHADOW
        ]
    )


async def _versions(request: VanguardRequest, organization: str, dataset: str) -> list[Version]:
    """All that the caller may see; raises DatasetNotFound."""
    async with request.runtime.database.connection() as connection:
        found = await read_versions(connection, organization, dataset)
    if not request.user.may(Action.SEE_SHADOW):
        found = [version for version in found if version.state is not DatasetState.SHADOW]
    if not found:
        raise DatasetNotFound(f"No contract of {dataset[:80]!r} is registered here.")
    return found


@get(
    f"{PATH}/{{dataset:str}}/{{version:str}}",
    opt=require(Action.QUERY),
    tags=["contracts"],
    summary="A contract",
    operation_class=FormatOperation,
    responses=answers(ContractAnswer, 404),
)
async def get_contract(
    request: VanguardRequest, org: Organization, dataset: PlainName, version: VersionNumber
) -> Response[bytes]:
    """As it registers again. Parameters: format (json, or odcs for the Open Data Contract Standard as YAML)."""
    given = read_given(request, format=("json", "odcs"))
    found = pick_version(await _versions(request, org, dataset), version)
    if given.get("format") == "odcs":
        return Response(to_odcs(found.contract, found.state or "").encode(), media_type="application/yaml")
    answer = _answer(found.contract, found.address, found.state, found.changes, [])
    return Response(exact_json.encode(answer), media_type="application/json")


@get(
    f"{PATH}/{{dataset:str}}/diff",
    opt=require(Action.QUERY),
    tags=["contracts"],
    summary="What changed from one version to another",
    operation_class=DiffOperation,
    responses=answers(DiffAnswer, 404),
)
async def get_diff(request: VanguardRequest, org: Organization, dataset: PlainName) -> Response[bytes]:
    """Parameters: from, to (versions of the contract)."""
    given = read_given(request, "from", "to")
    versions = await _versions(request, org, dataset)
    old, new = (pick_version(versions, given.get(name, "")).contract for name in ("from", "to"))
    found = compare(old, new)
    answer = DiffAnswer(
        dataset=dataset,
        from_version=old.version,
        to_version=new.version,
        severity=found.severity,
        backward=found.backward,
        forward=found.forward,
        changes=msgspec.to_builtins(found.changes),
    )
    return Response(exact_json.encode(answer), media_type="application/json")


@delete(
    f"{PATH}/{{dataset:str}}/{{version:str}}",
    opt=require(Action.REGISTER_CONTRACT),
    status_code=204,
    tags=["contracts"],
    summary="Delete a version in SHADOW",
    responses=answers(None, 404, 409, status=204),
)
async def delete_contract(
    request: VanguardRequest, org: Organization, dataset: PlainName, version: VersionNumber
) -> None:
    """One that nobody uses: without rows, and with no run under way. Its schema goes with it."""
    runtime = request.runtime
    async with runtime.owner.transaction() as connection:
        await remove(connection, org, dataset, version, request.user.user_id, runtime.clock())


ROUTES = [post_contract, list_contracts, get_contract, get_diff, delete_contract]
