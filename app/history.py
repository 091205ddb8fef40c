"""`GET D/rows/{id}/history`: what happened to a row, revision by revision and cell by cell; a deleted row's, too."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from asyncpg import Record
from litestar import Response, get

from app.base import exact_json
from app.base.errors import RowNotFound
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.validation import check_key
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.engine.passage import passages
from app.web.auth import Action, Principal, require
from app.web.etags import PRIVATE
from app.web.openapi import DATASET_PATH, DatasetName, Organization, RowId, answers
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import VanguardRequest, standing_of

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
    actor_name: str | None
    source: str
    commit_id: str | None
    request_id: str | None
    change_reason: str | None
    cells: list[Cell]


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of a row's history, the newest first."""

    data: list[HistoryEntry]
    next_cursor: str | None


def entry_of(record: Record, renamed: Mapping[str, str]) -> dict[str, Any]:
    """The entry of a record of list_history, as it goes out; its cells are as PostgreSQL rendered them, but for the
    fields that have another name now.
    """
    commit_id, request_id = record["commit_id"], record["request_id"]
    return {
        "revision": record["revision"],
        "op": record["op"],
        "at": record["at"],
        "actor": record["actor"],
        "actorName": record["actor_name"],
        "source": record["source"],
        "commitId": commit_id,
        "requestId": request_id,
        "changeReason": record["change_reason"],
        "cells": _renamed(record["cells"], renamed) if renamed else msgspec.Raw(record["cells"]),
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
    """The newest revision first; of a version that took another's place, what happened in that one follows, under the
    names that fields have now. Parameters: limit, after.
    """
    runtime, user = request.runtime, request.user
    standing = await standing_of(request, org, dataset)
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/{standing.contract.edition}/rows/{row_id}/history", given.get("after"))
    line = await runtime.datasets.find_line(org, standing)
    async with runtime.desk(standing.contract, org) as desk:
        walk.check((await read_dataset(desk)).incarnation)
        if walk.cursor is None:
            await _check_known(desk, user.user_id, row_id)
        found = await _read(desk, line, request.user, row_id, walk.cursor, limit + 1)

    def place(last: tuple[str, dict[str, Any]]) -> Cursor:
        schema, entry = last
        return Cursor(() if schema == standing.contract.schema else (schema,), str(entry["revision"]))

    following = walk.following(found, limit, place)
    answer = {"data": [entry for _, entry in found[:limit]], "nextCursor": following}
    return Response(exact_json.encode(answer), media_type="application/json", headers=PRIVATE)


async def _read(
    desk: Desk, line: list[Contract], user: Principal, key: str, cursor: Cursor | None, most: int
) -> list[tuple[str, dict[str, Any]]]:
    """Entries with the schema that each is in: of the version, then of those before it."""
    schemas = [contract.schema for contract in line]
    start = schemas.index(str(cursor.values[0])) if cursor and cursor.values and cursor.values[0] in schemas else 0
    before = int(cursor.key) if cursor else None
    found: list[tuple[str, dict[str, Any]]] = []
    for passage in passages(line)[start:]:
        contract = passage.before
        rows = await Desk(desk.connection, contract, desk.organization).rows(
            LIST_HISTORY,
            user=user.user_id,
            key=key,
            reads_requests=user.may(Action.REVIEW),
            before=before,
            limit=most - len(found),
        )
        found += [(contract.schema, entry_of(row, passage.renamed_fields)) for row in rows]
        before = None
        if len(found) == most:
            break
    return found


def _renamed(cells: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The cells under the names that their fields have now."""
    return [cell | {"field": names.get(cell["field"], cell["field"])} for cell in exact_json.decode(cells)]


async def _check_known(desk: Desk, user: str, key: str) -> None:
    """Raises RowNotFound for a row that there never was, or that only others have drafted."""
    if check_key(key) is not None or not await desk.value(FIND_ROW, user=user, key=key):
        raise RowNotFound(f"There has been no row {key[:80]!r} here.")


ROUTES = [get_history]
