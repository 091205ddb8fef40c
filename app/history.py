"""`GET D/rows/{id}/history`: what happened to a row, revision by revision and cell by cell; a deleted row's, too."""

from typing import Any, Literal

import msgspec
from asyncpg import Record
from litestar import Response, get

from app.base import exact_json
from app.base.errors import RowNotFound
from app.base.statements import statement
from app.contracts.validation import check_key
from app.engine.cursors import Cursor, check_incarnation, read_cursor, write_cursor
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.web.auth import Action, require
from app.web.etags import PRIVATE
from app.web.openapi import DATASET_PATH, DatasetName, Organization, RowId, answers
from app.web.paging import PageOperation, read_page
from app.web.runtime import VanguardRequest, contract_of

LIST_HISTORY = statement("history/list_history")
FIND_ROW = statement("history/find_row")


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A field's value before and after; null for a field that is absent, or a row that is not there."""

    field: str
    before: Any
    after: Any


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a revision did to a row. `actor` is null where nobody here did it; `commit_id` is the commit that it came
    with, `request_id` that commit's change request, where the caller may read it.
    """

    revision: int
    op: Literal["insert", "update", "delete"]
    at: str
    actor: str | None
    source: str
    commit_id: str | None
    request_id: str | None
    change_reason: str | None
    cells: list[Cell]


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of a row's history, the newest first."""

    data: list[HistoryEntry]
    next_cursor: str | None


def entry_of(record: Record) -> dict[str, Any]:
    """The entry of a record of list_history, as it goes out; its cells are as PostgreSQL rendered them."""
    commit_id, request_id = record["commit_id"], record["request_id"]
    return {
        "revision": record["revision"],
        "op": record["op"],
        "at": record["at"],
        "actor": record["actor"],
        "source": record["source"],
        "commitId": commit_id,
        "requestId": request_id,
        "changeReason": record["change_reason"],
        "cells": msgspec.Raw(record["cells"]),
    }


@get(
    f"{DATASET_PATH}/rows/{{row_id:str}}/history",
    opt=require(Action.QUERY),
    tags=["rows"],
    summary="What happened to a row",
    operation_class=PageOperation,
    responses=answers(HistoryAnswer, 404),
)
async def get_history(
    request: VanguardRequest, org: Organization, dataset: DatasetName, row_id: RowId
) -> Response[bytes]:
    """The newest revision first. Parameters: limit, after."""
    runtime, user = request.runtime, request.user
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request)
    purpose = f"{org}/{contract.name}/rows/{row_id}/history"
    cursor = read_cursor(runtime.settings.secret, runtime.clock, purpose, given["after"]) if "after" in given else None
    async with runtime.desk(contract, org) as desk:
        incarnation = (await read_dataset(desk)).incarnation
        check_incarnation(cursor, incarnation)
        if cursor is None:
            await _check_known(desk, user.user_id, row_id)
        found = await desk.rows(
            LIST_HISTORY,
            user=user.user_id,
            key=row_id,
            reads_requests=user.may(Action.REVIEW),
            before=int(cursor.key) if cursor else None,
            limit=limit + 1,
        )
    following = None
    if len(found) > limit:
        position = Cursor((), str(found[limit - 1]["revision"]), incarnation)
        following = write_cursor(runtime.settings.secret, runtime.clock, purpose, position)
    body = exact_json.encode({"data": [entry_of(record) for record in found[:limit]], "nextCursor": following})
    return Response(body, media_type="application/json", headers=PRIVATE)


async def _check_known(desk: Desk, user: str, key: str) -> None:
    """Raises RowNotFound for a row that there never was, or that only others have drafted."""
    if check_key(key) is not None or not await desk.value(FIND_ROW, user=user, key=key):
        raise RowNotFound(f"There has been no row {key[:80]!r} here.")


ROUTES = [get_history]
