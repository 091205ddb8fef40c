"""`GET D` and `PUT D/settings`: a dataset as a client needs to know it, and how it is to be used."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec
import structlog
from litestar import Response, get, put
from litestar.openapi.spec import Operation
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.database import Connection
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.columns import FastSort, ShownColumn, ShownMeasure, columns_of, fast_sorts, measures_of
from app.contracts.states import DatasetState
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, reached, tell
from app.engine.locks import lock_dataset
from app.engine.positions import position_in
from app.web.auth import Action, require
from app.web.etags import PRIVATE, body_etag, matches, not_modified
from app.web.idempotency import placed
from app.web.openapi import (
    DATASET_PATH,
    DatasetName,
    Organization,
    answers,
    answers_with_position,
    body,
    parameter,
)
from app.web.paging import read_given
from app.web.runtime import DEPRECATED, VanguardRequest, contract_of

log = structlog.get_logger(__name__)

READ_DATASET = statement("datasets/read_dataset")
LIST_DATASETS = statement("datasets/list_datasets")
CHANGE_SETTINGS = statement("datasets/change_settings")


class DatasetAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset; `key` is the field or fields by which a row is the same row, `row_count` how many rows its mirror has,
    `may` what the caller's role allows. `require_approval`: drafts cannot be committed, but for a change request.
    `owner`: who registered it, null for a built-in one; `supersedes`: the major version whose place it took; `source`:
    where its records come from.
    """

    name: str
    title: str
    contract_version: str
    state: str
    owner: str | None
    owner_name: str | None
    supersedes: int | None
    deprecated_at: str | None
    source: str
    key: str | tuple[str, ...]
    revision: int
    row_count: int
    require_approval: bool
    columns: tuple[ShownColumn, ...]
    fast_sorts: tuple[FastSort, ...]
    measures: list[ShownMeasure]
    may: list[str]


@get(
    DATASET_PATH,
    opt=require(Action.QUERY),
    tags=["datasets"],
    summary="A dataset, its columns, and what you may do",
    responses=answers_with_position(DatasetAnswer, 404),
)
async def get_dataset(request: VanguardRequest, org: Organization, dataset: DatasetName) -> ASGIResponse:
    """All that a grid needs: what can be edited, filtered, sorted, searched and grouped by, and the rules of values."""
    runtime = request.runtime
    contract, user = await contract_of(request, org, dataset), request.user.user_id
    async with runtime.desk(contract, org) as desk:
        found = await desk.row(READ_DATASET, user=user)
        if found is None:
            raise desk.not_set_up
    answer = DatasetAnswer(
        name=contract.name,
        title=contract.title,
        contract_version=contract.version,
        state=found["state"],
        owner=found["owner"],
        owner_name=found["owner_name"],
        supersedes=found["supersedes"],
        deprecated_at=found["deprecated_at"],
        source=contract.source,
        key=contract.key,
        revision=found["revision"],
        row_count=found["row_count"],
        require_approval=found["require_approval"],
        columns=columns_of(contract),
        fast_sorts=fast_sorts(contract),
        measures=measures_of(contract),
        may=[action.word for action in Action if request.user.may(action)],
    )
    encoded = exact_json.encode(answer)
    etag = body_etag(encoded)
    if matches(request, etag):
        return not_modified(etag)
    position = position_in(found, contract.name).text(org, user)
    return ASGIResponse(
        body=placed(encoded, position), media_type="application/json", headers={"ETag": etag, **PRIVATE}
    )


class DatasetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How a dataset is to be used. `require_approval`: by change requests, and not by commits."""

    require_approval: bool


@put(
    f"{DATASET_PATH}/settings",
    opt=require(Action.ADMINISTER),
    tags=["datasets"],
    summary="Change how a dataset is used",
    responses=answers_with_position(DatasetSettings, 404),
)
async def put_settings(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[DatasetSettings, body({"requireApproval": True})],
) -> Response[bytes]:
    """All settings, as they are from now on; a commit that was under way may still end. What changes is audited."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    work = partial(_change_settings, contract, org, request.user.user_id, data, runtime.clock())
    changed, position = await runtime.database.run(work)
    if changed:
        log.info("settings changed", organization=org, dataset=contract.name, require_approval=data.require_approval)
    return Response(placed(exact_json.encode(data), position), media_type="application/json")


async def _change_settings(
    contract: Contract, organization: str, user: str, wanted: DatasetSettings, at: datetime, connection: Connection
) -> tuple[bool, str]:
    """Whether something was otherwise, and the feed's position behind it; raises DatasetNotFound."""
    desk = Desk(connection, contract, organization)
    was = (await lock_dataset(desk)).require_approval
    if was == wanted.require_approval:
        return False, await reached(desk, user)
    await desk.value(CHANGE_SETTINGS, require_approval=wanted.require_approval)
    details = {"setting": "requireApproval", "before": was, "after": wanted.require_approval}
    await record(desk, Entry(at=at, actor=user, action=Act.SETTINGS_CHANGED, details=details))
    tell(desk, EventType.DATASET, at, actor=user, event="settings_changed")
    return True, await reached(desk, user)


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset of the organization: `name` is its address, `dataset` its name without a version."""

    name: str
    dataset: str
    title: str
    contract_version: str
    state: str
    owner: str | None
    owner_name: str | None
    supersedes: int | None
    deprecated_at: str | None
    revision: int


class DatasetsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The organization's datasets, by name."""

    data: list[DatasetSummary]


@dataclass
class DatasetsOperation(Operation):
    """The one parameter of a list of datasets."""

    def __post_init__(self) -> None:
        deprecated = parameter(DEPRECATED, "boolean", "Those that are DEPRECATED, too")
        self.parameters = [*(self.parameters or []), deprecated]


@get(
    "/api/v1/orgs/{org:str}/datasets",
    opt=require(Action.QUERY),
    tags=["datasets"],
    summary="The organization's datasets",
    operation_class=DatasetsOperation,
    responses=answers(DatasetsAnswer),
)
async def list_datasets(request: VanguardRequest, org: Organization) -> DatasetsAnswer:
    """Versions in SHADOW are for those who may see them. Parameters: includeDeprecated."""
    read_given(request)
    hidden = set() if request.includes_deprecated else {DatasetState.DEPRECATED}
    if not request.user.may(Action.SEE_SHADOW):
        hidden.add(DatasetState.SHADOW)
    built_in = request.runtime.datasets.built_in
    async with request.runtime.database.connection() as connection:
        rows = await connection.rows(LIST_DATASETS, organization=org, hidden=sorted(hidden))
    return DatasetsAnswer(
        data=[
            DatasetSummary(
                name=row["name"],
                dataset=row["base"],
                title=row["title"] or built_in[row["name"]].title,
                contract_version=row["contract_version"],
                state=row["state"],
                owner=row["owner"],
                owner_name=row["owner_name"],
                supersedes=row["supersedes"],
                deprecated_at=row["deprecated_at"],
                revision=row["revision"],
            )
            for row in rows
            if row["title"] is not None or row["name"] in built_in
        ]
    )


ROUTES = [list_datasets, get_dataset, put_settings]
