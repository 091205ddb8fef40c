"""Change requests over HTTP: lists, one of them, its cells, conflicts, comments and bundle, and what is remembered."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Response, get
from litestar.openapi.spec import Operation
from litestar.response import Stream
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.statements import statement
from app.change_requests import reading, resolutions
from app.change_requests.bundle import FORMATS, Bundle, Bundling
from app.change_requests.requests import (
    MAX_SHOWN,
    digest_of,
    read_events,
    read_request,
    request_of,
    shown_event,
)
from app.change_requests.wire import (
    REQUEST_PATH,
    REQUESTS_PATH,
    RequestId,
    json_of,
    person_of,
    request_id_of,
)
from app.contracts.states import RequestState
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.engine.positions import read_position
from app.engine.requests import Event
from app.exports import Column, noted, stream_table
from app.exports.writers import WRITERS
from app.web.auth import Action, require
from app.web.etags import PRIVATE
from app.web.openapi import (
    DATASET_PATH,
    DatasetName,
    Organization,
    add_media_type,
    answers,
    answers_with_position,
    parameter,
)
from app.web.paging import PageOperation, Walk, read_given, read_page
from app.web.runtime import VanguardRequest, contract_of

LIST_REQUESTS = statement("change_requests/list_requests")
STATUSES = tuple(str(state) for state in RequestState)


class ResolutionsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of what is remembered."""

    data: list[resolutions.Remembered]
    next_cursor: str | None


@dataclass
class RequestsOperation(PageOperation):
    """A page's parameters, and the filter of requests."""

    def __post_init__(self) -> None:
        super().__post_init__()
        status = parameter("status", "string", "Only these", enum=list(STATUSES))
        self.parameters = [*(self.parameters or []), status]


@get(
    REQUESTS_PATH,
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="Change requests that you may read",
    operation_class=RequestsOperation,
    responses=answers_with_position(reading.RequestsAnswer, 404),
)
async def list_requests(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Your own, those that name you, and for an ADMIN all, the newest first. Parameters: status, limit, after."""
    runtime, person = request.runtime, person_of(request)
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request, status=STATUSES)
    walk = Walk(runtime, f"{org}/{contract.name}/change-requests/{person.id}", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        feed_position = await read_position(desk.connection, org, person.id)
        walk.check((await read_dataset(desk)).incarnation)
        found = await desk.rows(
            LIST_REQUESTS,
            user=person.id,
            all=person.admin,
            status=given.get("status"),
            after=walk.at,
            after_id=walk.id,
            limit=limit + 1,
        )
    shown = [reading.listed(request_of(row)) for row in found]
    following = walk.following(shown, limit, lambda last: Cursor((last["createdAt"].isoformat(),), str(last["id"])))
    return json_of({"data": shown[:limit], "nextCursor": following, "position": feed_position})


@get(
    REQUEST_PATH,
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="A change request as it is now",
    responses=answers_with_position(reading.RequestDetail, 404),
)
async def get_request(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes]:
    """With its conflicts by now, and the digest that approve and merge take."""
    person = person_of(request)
    async with request.runtime.desk(await contract_of(request, org, dataset), org) as desk:
        position = await read_position(desk.connection, org, person.id)
        found = await read_request(desk, person, request_id_of(request_id))
        answer = await reading.detail_of(desk, person, found)
    return json_of(answer | {"position": position})


@dataclass
class DiffOperation(PageOperation):
    """A page's parameters, or the format of a file with all cells."""

    def __post_init__(self) -> None:
        super().__post_init__()
        described = parameter("format", "string", "A page of JSON, or a file", enum=["json", *WRITERS], default="json")
        self.parameters = [*(self.parameters or []), described]
        for writer in WRITERS.values():
            add_media_type(self, writer.media_type)


@get(
    f"{REQUEST_PATH}/diff",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="What a change request changes, cell by cell",
    operation_class=DiffOperation,
    responses=answers(reading.DiffAnswer, 404),
)
async def get_diff(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> ASGIResponse:
    """In the order of rows and fields. Parameters: limit, after; or format (csv, xlsx, ndjson), for a file of all."""
    runtime, person = request.runtime, person_of(request)
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request, format=("json", *WRITERS))
    walk = Walk(runtime, f"{org}/{contract.edition}/change-requests/{request_id}/diff", given.get("after"))
    async with runtime.database.transaction() as connection:
        desk = Desk(connection, contract, org)
        walk.check((await read_dataset(desk)).incarnation)
        found = await read_request(desk, person, request_id_of(request_id))
        if (ending := given.get("format", "json")) == "json":
            shown, following = await reading.read_page(desk, found, limit, walk.cursor)
            page = exact_json.encode({"data": shown, "nextCursor": walk.next(following)})
            return ASGIResponse(body=page, media_type="application/json", headers=PRIVATE)

    async def batches() -> AsyncGenerator[list[tuple[Any, ...]], None]:
        async with (
            runtime.database.transaction() as connection,
            aclosing(reading.read_cells(Desk(connection, contract, org), found)) as read,
        ):
            async for rows in read:
                yield [tuple(reading.shown_cell(row).values()) for row in rows]

    columns = [Column(name=name, label=name) for name in reading.ShownCell.__struct_fields__]
    note = noted(request, org, contract.name, "diff", ending, request_id=found.id)
    return stream_table(request, ending, f"{contract.name}-change-request-{found.id}", columns, batches, note)


@get(
    f"{REQUEST_PATH}/conflicts",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="A change request's conflicts",
    responses=answers(reading.ConflictsAnswer, 404),
)
async def get_conflicts(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes]:
    """Those by now, and those that the last merge met."""
    async with request.runtime.desk(await contract_of(request, org, dataset), org) as desk:
        found = await read_request(desk, person_of(request), request_id_of(request_id))
        conflicts = await reading.conflicts_now(desk, found)
    return json_of(
        {
            "digest": digest_of(found, conflicts),
            "conflicts": conflicts[:MAX_SHOWN],
            "conflictCount": len(conflicts),
            "met": found.conflicts,
        }
    )


@get(
    f"{REQUEST_PATH}/comments",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="Comments on a change request",
    operation_class=PageOperation,
    responses=answers(reading.CommentsAnswer, 404),
)
async def list_comments(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes]:
    """On the request, a row or a cell, the newest first. Parameters: limit, after."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/{contract.name}/change-requests/{request_id}/comments", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        walk.check((await read_dataset(desk)).incarnation)
        found = await read_request(desk, person_of(request), request_id_of(request_id))
        after = int(walk.key) if walk.key else None
        rows = await read_events(desk, found.id, kind=Event.COMMENTED, after=after, limit=limit + 1)
    shown = [shown_event(row) for row in rows]
    following = walk.following(shown, limit, lambda last: Cursor((), last["id"]))
    return json_of({"data": shown[:limit], "nextCursor": following})


@dataclass
class BundleOperation(Operation):
    """The form of a bundle for /schema."""

    def __post_init__(self) -> None:
        described = parameter("format", "string", "JSON, or a ZIP of files", enum=list(FORMATS), default="json")
        self.parameters = [*(self.parameters or []), described]
        add_media_type(self, "application/zip")


@get(
    f"{REQUEST_PATH}/audit",
    opt=require(Action.QUERY),
    tags=["change requests"],
    summary="The bundle of a merge",
    operation_class=BundleOperation,
    responses=answers(Bundle, 404),
)
async def get_bundle(
    request: VanguardRequest, org: Organization, dataset: DatasetName, request_id: RequestId
) -> Response[bytes] | Stream:
    """Result, diff, conflicts and validation, each also when there is nothing in it. Parameters: format (json, zip)."""
    runtime = request.runtime
    form = read_given(request, format=FORMATS).get("format", "json")
    contract = await contract_of(request, org, dataset)
    made = Bundling(runtime.database, contract, org, person_of(request), request_id_of(request_id))
    # The request is looked up before the answer begins.
    found = await made.begin()
    await noted(request, org, contract.name, "bundle", form, request_id=found.id)()
    if form == "zip":
        name = f"{dataset}-change-request-{found.id}.zip"
        headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'}
        return Stream(made.zipped(found, runtime.clock()), media_type="application/zip", headers=headers)
    return Stream(made.json(found), media_type="application/json", headers=PRIVATE)


@get(
    f"{DATASET_PATH}/resolutions",
    opt=require(Action.REVIEW),
    tags=["change requests"],
    summary="How conflicts were resolved, and will be again",
    operation_class=PageOperation,
    responses=answers(ResolutionsAnswer, 404),
)
async def list_resolutions(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """By id. Parameters: limit, after."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/{contract.name}/resolutions", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        walk.check((await read_dataset(desk)).incarnation)
        found = await resolutions.list_remembered(desk, walk.id, limit + 1)
    following = walk.following(found, limit, lambda last: Cursor((), str(last.id)))
    return json_of({"data": found[:limit], "nextCursor": following})


ROUTES = [list_requests, get_request, get_diff, get_conflicts, list_comments, get_bundle, list_resolutions]
