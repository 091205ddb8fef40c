"""`GET D`: a dataset as a client needs to know it."""

import msgspec
from litestar import get
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.contracts.columns import FastSort, ShownColumn, ShownMeasure, columns_of, fast_sorts, measures_of
from app.engine.locks import read_dataset
from app.web.auth import Action, require
from app.web.etags import PRIVATE, body_etag, matches, not_modified
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers
from app.web.runtime import VanguardRequest, contract_of


class DatasetAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset; `key` is the field that holds a row's id, `may` what the caller's role allows.

    `require_approval`: drafts cannot be committed, but for a change request.
    """

    name: str
    title: str
    contract_version: str
    key: str
    revision: int
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
    responses=answers(DatasetAnswer, 404),
)
async def get_dataset(request: VanguardRequest, org: Organization, dataset: DatasetName) -> ASGIResponse:
    """All that a grid needs: what can be edited, filtered, sorted, searched and grouped by, and the rules of values."""
    runtime = request.runtime
    contract = contract_of(runtime, dataset)
    async with runtime.desk(contract, org) as desk:
        found = await read_dataset(desk)
    answer = DatasetAnswer(
        name=contract.name,
        title=contract.title,
        contract_version=contract.version,
        key=contract.key,
        revision=found.revision,
        require_approval=found.require_approval,
        columns=columns_of(contract),
        fast_sorts=fast_sorts(contract),
        measures=measures_of(contract),
        may=[action.word for action in Action if request.user.may(action)],
    )
    body = exact_json.encode(answer)
    etag = body_etag(body)
    if matches(request, etag):
        return not_modified(etag)
    return ASGIResponse(body=body, media_type="application/json", headers={"ETag": etag, **PRIVATE})


ROUTES = [get_dataset]
