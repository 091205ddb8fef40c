"""What synchronization could not do: rows that it could not take, changes that it could not write, and another try."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get, post

from app.base import exact_json
from app.base.errors import NothingFailed, NothingSelected
from app.base.statements import Statement, statement
from app.contracts import Contract
from app.engine.audit import Act, Entry, record
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import hold_filled, lock_rows, raise_workspaces
from app.engine.modifications import fold, image
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.etags import PRIVATE
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, answers_with_position, body
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import Runtime, VanguardRequest, contract_of

LIST_QUARANTINE = statement("failures/list_quarantine")
LIST_FAILED = statement("failures/list_failed")
SELECT_FAILED = statement("failures/select_failed")
RETRY_CHANGES = statement("failures/retry_changes")

SELECTIONS = {"ids": "c.id = ANY ($2::bigint[])", "rows": "c.row_key = ANY ($2::text[])", "all": "$2::bool"}
ChangeId = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a row of upstream."""

    code: str
    message: str
    field: str | None


class Discarded(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who put a record away, when and why."""

    at: str
    by: str
    by_name: str | None
    reason: str


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A row of upstream, or a record that was ingested, that breaks the contract, as it was received.

    `line` of the upload, and `raw`, its text, are those of a record; null else.
    """

    id: str
    reasons: list[Reason]
    received: dict[str, Any] | str
    first_seen_at: str
    last_seen_at: str
    run_id: str
    line: int | None
    raw: str | None
    discarded: Discarded | None


class Quarantine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of quarantined rows, by id."""

    data: list[Quarantined]
    total: int
    next_cursor: str | None


class NearRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of upstream that may be a new one of ours."""

    id: str
    data: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Somebody's change that waits for a person.

    `code`: what kind of failure; `near`: rows of upstream that may be the new row whose answer was lost.
    """

    id: str
    row_id: str
    op: Literal["insert", "update", "delete"]
    state: Literal["conflict", "sync_error"]
    user: str
    user_name: str | None
    delta: dict[str, Any]
    base: dict[str, Any]
    error: str | None
    code: Literal["REFUSED", "QUESTION", "ATTEMPTS", "NEAR_MATCH"] | None
    near: list[NearRow]
    attempts: int
    commit_id: str | None
    change_reason: str | None
    created_at: str
    failed_at: str | None


class FailedChanges(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of failed changes, in their order."""

    data: list[Failed]
    total: int
    next_cursor: str | None


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which failed changes: exactly one of the three. `ids` are those of changes, `row_ids` take all of a row."""

    ids: Annotated[tuple[ChangeId, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None
    row_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None
    all: Literal[True] | None = None


class RetryAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many changes are in the outbox again."""

    retried: int


# -- lists -------------------------------------------------------------------------------------------------------------


@get(
    [f"{DATASET_PATH}/quarantine", f"{DATASET_PATH}/sync/quarantine"],
    opt=require(Action.SYNCHRONIZE),
    tags=["synchronization"],
    summary="Rows that could not be taken",
    operation_class=PageOperation,
    responses=answers(Quarantine, 404),
)
async def list_quarantine(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Rows of upstream that break the contract, by id: why, and as they were received. Parameters: limit, after."""
    runtime = request.runtime
    return await _page(
        request, runtime, org, await contract_of(request, org, dataset), "quarantine", LIST_QUARANTINE, ""
    )


@get(
    f"{DATASET_PATH}/sync/failed",
    opt=require(Action.SYNCHRONIZE),
    tags=["synchronization"],
    summary="Changes that wait for a person",
    operation_class=PageOperation,
    responses=answers(FailedChanges, 404),
)
async def list_failed(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Everybody's changes in conflict or sync_error, in their order. Parameters: limit, after."""
    runtime = request.runtime
    return await _page(request, runtime, org, await contract_of(request, org, dataset), "failed", LIST_FAILED, "0")


async def _page(
    request: VanguardRequest,
    runtime: Runtime,
    organization: str,
    contract: Contract,
    noun: str,
    listing: Statement,
    start: str,
) -> Response[bytes]:
    """A page as PostgreSQL renders it; `start` stands before every key."""
    limit, given = read_page(request)
    walk = Walk(runtime, f"{organization}/{contract.name}/sync/{noun}", given.get("after"))
    async with runtime.desk(contract, organization) as desk:
        page = await desk.row(listing, after=walk.key or start, limit=limit)
    if page is None:
        raise desk.not_set_up
    walk.check(page["incarnation"])
    following = walk.next(Cursor((), page["last_key"]) if page["last_key"] else None)
    content = b'{"data":%b,"total":%d,"nextCursor":%b}' % (page["body"], page["total"], exact_json.encode(following))
    return Response(content, media_type="application/json", headers=PRIVATE)


# -- retry -------------------------------------------------------------------------------------------------------------


async def retry(desk: Desk, person: str, wanted: RetryRequest, at: datetime) -> RetryAnswer:
    """Put failed changes back into the outbox, inside the caller's transaction.

    Raises NothingSelected, DatasetReadOnly, and NothingFailed where named changes are not there, or are not in such a
    state.
    """
    kind, value = _selected(wanted)
    await hold_filled(desk)
    failed = await desk.row(SELECT_FAILED.fill(selection=SELECTIONS[kind]), value=value)
    assert failed is not None, "a statement without FROM returns its row"
    keys, users = sorted(failed["keys"] or ()), failed["users"]
    retried = 0
    if keys:
        # The lists of these users show the states that change here, so their ETags have to move.
        await raise_workspaces(desk, users)
        await lock_rows(desk, keys, absent=failed["absent"], inserting=True)
        chosen = RETRY_CHANGES.fill(selection=SELECTIONS[kind])
        retried = await desk.value(chosen, value=value, keys=keys, users=users)
        # User by user: the workspace of somebody who came to these rows since is not locked here.
        for user in users:
            await fold(desk, user, keys)
            await image(desk, user, keys)
        if retried:
            tell_rows(desk, EventType.OVERLAP, keys, at, actor=person)
            await record(desk, Entry(at=at, actor=person, action=Act.SYNC_RETRIED, details={"changes": retried}))
    if not retried and kind != "all":
        raise NothingFailed("None of these changes is in conflict or sync_error.")
    return RetryAnswer(retried=retried)


def _selected(wanted: RetryRequest) -> tuple[str, Any]:
    given: list[tuple[str, Any]] = [
        (kind, value)
        for kind, value in (("ids", wanted.ids), ("rows", wanted.row_ids), ("all", wanted.all))
        if value is not None
    ]
    if len(given) != 1:
        raise NothingSelected("Give exactly one of ids, rowIds and all.")
    kind, value = given[0]
    return kind, [int(id_) for id_ in value] if kind == "ids" else list(value) if kind == "rows" else value


@post(
    f"{DATASET_PATH}/sync/retry",
    opt=require(Action.SYNCHRONIZE) | BATCH,
    status_code=200,
    tags=["synchronization"],
    summary="Try failed changes again",
    responses=answers_with_position(RetryAnswer, 404, 409, 422),
)
async def retry_failed(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[RetryRequest, body({"ids": ["4711"]})],
) -> Response[bytes]:
    """Changes in conflict or sync_error, whoever made them, are committed again, as if they had never been tried."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)

    async def work(desk: Desk) -> bytes:
        return exact_json.encode(await retry(desk, request.user.user_id, data, runtime.clock()))

    return await answer_once(request, runtime, contract, org, work)


ROUTES = [list_quarantine, list_failed, retry_failed]
