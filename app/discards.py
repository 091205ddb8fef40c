"""Discard: drafts, or fields of them, and changes that upstream refused, go."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, post

from app.base import exact_json
from app.base.errors import MalformedRequest
from app.base.statements import statement
from app.contracts.states import REFUSED
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import lock_rows, raise_workspace
from app.engine.modifications import fold, image
from app.engine.quotas import doubt
from app.engine.selection import Selection, select
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of

DISCARD_DRAFTS = statement("discards/discard_drafts")
DISCARD_FIELDS = statement("discards/discard_fields")
DISCARD_CHANGES = statement("discards/discard_changes")


class DiscardRequest(Selection, frozen=True, kw_only=True):
    """`fields`: only these fields of the drafts."""

    fields: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=200)] | None = None


class DiscardAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many rows lost a draft, or fields of it."""

    discarded: int


async def discard(desk: Desk, user: str, wanted: DiscardRequest, at: datetime) -> DiscardAnswer:
    """Discard drafts, and changes that upstream refused, inside the caller's transaction."""
    contract = desk.contract
    if unknown := set(wanted.fields or ()) - contract.by_name.keys():
        raise MalformedRequest(f"{contract.name} has no field {min(unknown)[:80]!r}.")
    version, *_ = await raise_workspace(desk, user)
    found, _ = await select(desk, user, wanted, at)
    keys = [draft["row_key"] for draft in found]
    if not keys:
        return DiscardAnswer(discarded=0)
    await lock_rows(desk, keys, absent=any(draft["absent"] for draft in found), inserting=False)
    if wanted.fields:
        return await _discard_fields(desk, user, keys, list(wanted.fields), version, at)
    refused = [draft["row_key"] for draft in found if draft["pending_state"] in REFUSED]
    if refused:
        await desk.rows(DISCARD_CHANGES, user=user, keys=refused)
        tell_rows(desk, EventType.OVERLAP, refused, at, actor=user)
        await fold(desk, user, refused)
    records = await desk.rows(DISCARD_DRAFTS, user=user, version=version, keys=keys, at=at)
    await image(desk, user, [record["row_key"] for record in records])
    return DiscardAnswer(discarded=len(keys))


async def _discard_fields(
    desk: Desk, user: str, keys: list[str], fields: list[str], version: int, at: datetime
) -> DiscardAnswer:
    groups = desk.contract.cell_map
    await doubt(desk, [user])
    records = await desk.rows(
        DISCARD_FIELDS, user=user, version=version, keys=keys, at=at, fields=fields, groups=groups
    )
    left = [record["row_key"] for record in records]
    await image(desk, user, left)
    return DiscardAnswer(discarded=len(left))


@post(
    f"{DATASET_PATH}/discard",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["drafts"],
    summary="Discard drafts",
    responses=answers_with_position(DiscardAnswer, 404, 409, 422),
)
async def discard_drafts(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[DiscardRequest, body({"ids": ["PFA-0000001"], "fields": ["monthlyRate"]})],
) -> Response[bytes]:
    """Drafts and refused changes of the selection; what is on its way upstream stays."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)

    async def work(desk: Desk) -> bytes:
        return exact_json.encode(await discard(desk, request.user.user_id, data, runtime.clock()))

    return await answer_once(request, runtime, contract, org, work)


ROUTES = [discard_drafts]
