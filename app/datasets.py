"""`GET D` and `PUT D/settings`: a dataset as a client needs to know it, and how it is to be used."""

from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec
import structlog
from litestar import Response, get, put
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.database import Connection
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.columns import FastSort, ShownColumn, ShownMeasure, columns_of, fast_sorts, measures_of
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, reached, tell
from app.engine.locks import lock_dataset
from app.engine.positions import position_in
from app.web.auth import Action, require
from app.web.etags import PRIVATE, body_etag, matches, not_modified
from app.web.idempotency import placed
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of

log = structlog.get_logger(__name__)

READ_DATASET = statement("datasets/read_dataset")
CHANGE_SETTINGS = statement("datasets/change_settings")


class DatasetAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset; `key` is the field that holds a row's id, `row_count` how many rows its mirror has, `may` what the
    caller's role allows. `require_approval`: drafts cannot be committed, but for a change request.
    """

    name: str
    title: str
    contract_version: str
    key: str
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


ROUTES = [get_dataset, put_settings]
