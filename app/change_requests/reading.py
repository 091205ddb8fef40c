"""What a request shows: itself, its cells, its conflicts, its comments, and the bundle of its merge."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec
from asyncpg import Record

from app.base import exact_json
from app.base.statements import statement
from app.change_requests.conflicts import Conflict, find_conflicts
from app.change_requests.requests import (
    LIST_APPROVALS,
    MAX_SHOWN,
    ChangeRequest,
    Person,
    digest_of,
    read_events,
    shown_event,
)
from app.contracts.conflicts import ShownConflict
from app.contracts.states import REQUEST_TRANSITIONS, RequestState
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.requests import Event

LIST_CELLS = statement("change_requests/list_cells")
COUNT_PUSHES = statement("change_requests/count_pushes")

BATCH = 500  # rows: some milliseconds, in which nobody else gets a turn


class ShownApproval(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who approved the request as it is, and when."""

    approver: str
    approver_name: str | None
    at: datetime


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An entry of the timeline, or a comment on the request, on row `row_id`, or on a cell of it."""

    id: str
    kind: Event
    iteration: int
    actor: str | None
    actor_name: str | None
    at: datetime
    text: str | None
    row_id: str | None
    field: str | None
    details: dict[str, Any]


class Pushes(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the changes of a merged request fare upstream; `discarded`: a person gave them up, or drafted over them."""

    pending: int
    synced: int
    conflict: int
    sync_error: int
    discarded: int


class ListedRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A change request. `reason`: why it is where it is, in words; `reverts`: the request that it undoes,
    `reverts_commit`: the commit; `left_out`: fields that could not come back.
    """

    id: str
    dataset: str
    session_id: str
    title: str
    description: str | None
    author: str
    author_name: str | None
    approvers: list[str]
    approver_names: list[str | None]
    status: RequestState
    iteration: int
    rows_added: int
    rows_updated: int
    rows_deleted: int
    cells_changed: int
    base_revision: int
    merged_revision: int | None
    commit_id: str | None
    reason: str | None
    reverts: str | None
    reverts_commit: str | None
    left_out: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime
    merged_at: datetime | None
    merged_by: str | None
    merged_by_name: str | None
    closed_at: datetime | None


class RequestDetail(ListedRequest, frozen=True, kw_only=True, rename="camel"):
    """A request with its validation, its conflicts by now (`conflicts` are the first of `conflict_count`), the digest
    of all that, who approved it as it is, its timeline, the newest first, and what the caller may do with it.
    """

    digest: str
    validation: dict[str, Any]
    conflicts: list[ShownConflict]
    conflict_count: int
    approvals: list[ShownApproval]
    pushes: Pushes | None
    timeline: list[ShownEvent]
    may: list[str]


class RequestsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of requests that one may read, the newest first."""

    data: list[ListedRequest]
    next_cursor: str | None


class ShownCell(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of a request as it was when it was drafted, or before its merge, and as it is wanted; `field` null is a
    row that is deleted.
    """

    id: str
    op: str
    field: str | None
    old: Any
    new: Any


class DiffAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of a request's cells, in the order of rows and fields."""

    data: list[ShownCell]
    next_cursor: str | None


class ConflictsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The conflicts by now, the first of `conflict_count`; `met`: those that the last merge met."""

    digest: str
    conflicts: list[ShownConflict]
    conflict_count: int
    met: list[ShownConflict]


class CommentsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of comments, the newest first."""

    data: list[ShownEvent]
    next_cursor: str | None


def listed(request: ChangeRequest) -> dict[str, Any]:
    """The request as ListedRequest has it."""
    summary = request.summary
    return {
        "id": request.id,
        "dataset": request.dataset,
        "sessionId": request.session_id,
        "title": request.title,
        "description": request.description,
        "author": request.author,
        "authorName": request.author_name,
        "approvers": request.approvers,
        "approverNames": request.approver_names,
        "status": request.state,
        "iteration": request.iteration,
        "rowsAdded": summary["rows_added"],
        "rowsUpdated": summary["rows_updated"],
        "rowsDeleted": summary["rows_deleted"],
        "cellsChanged": summary["cells_changed"],
        "baseRevision": request.base_revision,
        "mergedRevision": request.merged_revision,
        "commitId": request.commit_id,
        "reason": request.reason,
        "reverts": request.reverts,
        "revertsCommit": request.reverts_commit,
        "leftOut": request.left_out,
        "createdAt": request.created_at,
        "updatedAt": request.updated_at,
        "mergedAt": request.merged_at,
        "mergedBy": request.merged_by,
        "mergedByName": request.merged_by_name,
        "closedAt": request.closed_at,
    }


async def detail_of(desk: Desk, person: Person, request: ChangeRequest) -> dict[str, Any]:
    """The request as RequestDetail has it."""
    conflicts = await conflicts_now(desk, request)
    approvals = await desk.rows(LIST_APPROVALS, request_id=request.id)
    return listed(request) | {
        "digest": digest_of(request, conflicts),
        "validation": request.shown_validation,
        "conflicts": conflicts[:MAX_SHOWN],
        "conflictCount": len(conflicts),
        "approvals": [
            {"approver": row["approver"], "approverName": row["approver_name"], "at": row["at"]}
            for row in approvals
            if row["iteration"] == request.iteration
        ],
        "pushes": await read_pushes(desk, request),
        "timeline": [shown_event(row) for row in await read_events(desk, request.id)],
        "may": _may(request, person),
    }


async def conflicts_now(desk: Desk, request: ChangeRequest) -> list[Conflict]:
    """The conflicts of a request in review; another one has none."""
    return await find_conflicts(desk, request.id) if request.in_review else []


async def read_pushes(desk: Desk, request: ChangeRequest) -> Pushes | None:
    """How a merged request fares upstream; None where there is nothing to tell, or no upstream."""
    if not request.merged or desk.contract.upstream is None:
        return None
    row = await desk.row(COUNT_PUSHES, commit_id=request.commit_id)
    assert row is not None, "an aggregate has one row"
    return Pushes(**row)


def _may(request: ChangeRequest, person: Person) -> list[str]:
    """What the person may do with the request as it is."""
    author, ways = person.id == request.author, REQUEST_TRANSITIONS[request.state]
    allowed = {
        "approve": RequestState.APPROVED in ways and request.is_reviewed_by(person),
        "reject": RequestState.REJECTED in ways and not author and (person.admin or request.is_reviewed_by(person)),
        "withdraw": RequestState.WITHDRAWN in ways and author,
        "resubmit": request.sent_back and author,
        "resolve": request.state is RequestState.PENDING_REVIEW,
        "merge": RequestState.MERGING in ways and request.is_merged_by(person),
        "revert": request.merged,
        "comment": True,
    }
    return [name for name, may in allowed.items() if may]


# -- cells -------------------------------------------------------------------------------------------------------------


def read_cells(desk: Desk, request: ChangeRequest, from_key: str = "") -> AsyncGenerator[Sequence[Record], None]:
    """A request's cells (row_key, op, field, old, new) in batches, by row and field; in a transaction."""
    return desk.batches(
        LIST_CELLS,
        BATCH,
        request_id=request.id,
        commit_id=request.commit_id,
        ended_at=request.updated_at if request.sent_back else None,
        from_key=from_key,
    )


async def read_page(
    desk: Desk, request: ChangeRequest, size: int, after: Cursor | None
) -> tuple[list[dict[str, Any]], Cursor | None]:
    """A page of a request's cells, and where the next one begins."""
    shown: list[dict[str, Any]] = []
    async with aclosing(read_cells(desk, request, after.key if after else "")) as batches:
        async for batch in batches:
            for row in batch:
                if after is not None and (row["row_key"], row["field"] or "") <= (
                    after.key,
                    str(after.values[0] or ""),
                ):
                    continue
                if len(shown) == size:
                    last = shown[-1]
                    return shown, Cursor((last["field"],), last["id"])
                shown.append(shown_cell(row))
    return shown, None


def _place(key: str, field: str | None) -> tuple[str, str]:
    """Both are in the order of their bytes, which Python's texts have, too."""
    return key, field or ""


def shown_cell(row: Record) -> dict[str, Any]:
    """A cell as ShownCell has it."""
    return {
        "id": row["row_key"],
        "op": row["op"],
        "field": row["field"],
        "old": exact_json.decode(row["old"]),
        "new": exact_json.decode(row["new"]),
    }
