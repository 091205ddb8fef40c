"""`GET D/rows` and `GET D/rows/{id}`: the live merge as a list and as one row."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from asyncpg import Record
from litestar import get
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.errors import RowNotFound
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.filters import INCLUDES, Listing, read_include, read_listing, read_parameters, refuse
from app.contracts.validation import check_key
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.page import PageComposer
from app.engine.page_markers import OVERLAP
from app.engine.positions import position_in
from app.engine.view import Composed
from app.web.auth import Action, require
from app.web.etags import PRIVATE, etag_of, matches, not_modified, row_etag, unchanged
from app.web.openapi import DATASET_PATH, DatasetName, Organization, RowId, answers, filter_parameters, parameter
from app.web.paging import Walk
from app.web.runtime import Runtime, VanguardRequest, contract_of

READ_ROW = statement("rows/read_row")
READ_OVERLAP = statement("rows/read_overlap").fill(overlap=OVERLAP)
EXPLAIN_ROW = statement("rows/explain_row")
PLAN_FOR_WORDS = statement("rows/plan_for_words")

REMEMBERED = 1000  # bytes of a query string
ROW_INCLUDES = ("overlap", "computed", "explain")


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that differs three ways; `field` null means the whole row, an atomic group has objects as values."""

    id: str
    field: str | None
    base: Any
    theirs: Any
    mine: Any


class Row(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A row of the caller's view, as PostgreSQL renders it; `version` is 0 when pristine."""

    id: str
    data: dict[str, Any]
    sync_state: str
    version: int
    mirror_version: int
    modified_fields: list[str]
    modified_at: str | None
    modified_by: str | None
    modified_by_name: str | None
    conflicts: list[Conflict]


class ListedRow(Row, frozen=True, kw_only=True, rename="camel"):
    """A row of a list, with what is shown on request."""

    computed: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    op: str | msgspec.UnsetType | None = msgspec.UNSET
    base: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    delta: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    pending: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    overlap: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class RowDetail(ListedRow, frozen=True, kw_only=True, rename="camel"):
    """One row with its layers, and what happened to it, the newest first."""

    op: str | None
    base: dict[str, Any]
    delta: dict[str, Any]
    pending: dict[str, Any]
    history: list[dict[str, Any]]
    explain: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class Pagination(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`page` is null when paging by cursor, the totals when not counted, `next_cursor` on the last page."""

    page: int | None
    page_size: int
    total_records: int | None
    total_pages: int | None
    next_cursor: str | None


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The dataset's revision, the feed's position, both of the page's snapshot; milliseconds spent, and the filters as
    they were understood.
    """

    revision: int
    position: str
    query_time: float
    filters: dict[str, Any]


class RowsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of rows."""

    data: list[ListedRow]
    pagination: Pagination
    metadata: Metadata


INCLUDED = {
    "overlap": "who else has the row in review or on its way",
    "computed": "computed columns",
    "explain": "where each field's value comes from",
    "deleted": "the rows that you take away, too, and op",
    "layers": "op, base, delta and pending of your modification",
}


def _include(choices: tuple[str, ...]) -> Parameter:
    """The parameter for /schema."""
    return Parameter(
        name="include",
        param_in="query",
        style="form",
        explode=False,
        description="; ".join(f"{word}: {INCLUDED[word]}" for word in choices),
        schema=Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING, enum=list(choices))),
    )


@dataclass
class ListOperation(Operation):
    """A list's parameters for /schema: the handler reads the query string itself, as a contract names the filters."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("sort", "string", "Fields, comma-separated, - for descending"),
            parameter("page", "integer", "From 1", minimum=1, maximum=100_001),
            parameter("pageSize", "integer", "Rows a page", minimum=1, maximum=1000, default=100),
            parameter("after", "string", "nextCursor of the page before, instead of page"),
            parameter(
                "count", "string", "How totals are counted", enum=["exact", "estimated", "none"], default="exact"
            ),
            parameter("fields", "string", "Only these fields of data and computed columns, comma-separated"),
            _include(INCLUDES),
            *filter_parameters(),
        ]


@dataclass
class RowOperation(Operation):
    """The parameters of one row."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), _include(ROW_INCLUDES)]


class PageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page as it goes out: `body` is the rows' JSON array as PostgreSQL rendered it, `keys` its rows' keys where they
    were asked for.
    """

    body: bytes
    keys: list[str] | None
    revision: int
    etag: str
    pagination: dict[str, Any]
    metadata: dict[str, Any]


async def read_row(desk: Desk, user: str, key: str, *, computed: bool = False) -> Record:
    """One row of the caller's view (body, doc, version, op, and computed where that is wanted); raises RowNotFound."""
    check_row_id(key)
    record = await desk.row(READ_ROW, user=user, key=key, computed=computed)
    if record is None:
        raise _no_such_row(key)
    return record


def check_row_id(key: str) -> None:
    """Raises RowNotFound for what no row can be called."""
    if check_key(key) is not None:
        raise _no_such_row(key)


def _no_such_row(key: str) -> RowNotFound:
    return RowNotFound(f"There is no row {key[:80]!r} in your view.")


def listing_of(request: VanguardRequest, contract: Contract) -> Listing:
    """What is asked for. The same list is asked for again and again, so it is read once, unless it is long."""
    runtime, query_string = request.runtime, request.scope["query_string"]
    key = (contract.edition, query_string)
    listing: Listing | None = runtime.listings.get(key)
    if listing is None:
        listing = read_listing(contract, read_parameters(query_string), runtime.bounds)
        if len(query_string) <= REMEMBERED:
            runtime.listings[key] = listing
    return listing


async def list_rows(
    request: VanguardRequest,
    runtime: Runtime,
    contract: Contract,
    organization: str,
    listing: Listing,
    *,
    keyed: bool = False,
    known: str | None = None,
) -> PageAnswer | str:
    """A page of the caller's view, or the ETag where one of `known`, by default those of If-None-Match, still holds;
    `keyed`: with its rows' keys.

    Raises InvalidCursor, and DatasetNotFound where the organization has no such dataset.
    """
    started = time.perf_counter()
    user = request.user.user_id
    composer = PageComposer(contract, listing, organization, user, keyed)
    purpose = f"{organization}/{contract.edition}?" + ",".join(f"{'-' * s.descending}{s.field}" for s in composer.order)
    walk = Walk(runtime, purpose, listing.after or None)
    async with runtime.desk(contract, organization) as desk:
        if listing.tagged and (etag := await unchanged(desk, request, runtime, known)):
            return etag
        page = await _read(desk, runtime, composer, listing, walk.cursor)
    walk.check(page["incarnation"])
    total = page["total"]
    more = page["reached"] > (0 if walk.cursor else (listing.page - 1) * listing.page_size) + listing.page_size
    following = walk.next(Cursor(tuple(page["last_values"]), page["last_key"]) if more else None)
    return PageAnswer(
        body=page["body"],
        keys=page["keys"],
        revision=page["revision"],
        etag=etag_of(runtime, contract, organization, user, page),
        pagination={
            "page": None if walk.cursor else listing.page,
            "pageSize": listing.page_size,
            "totalRecords": total,
            "totalPages": None if total is None else -(-total // listing.page_size),
            "nextCursor": following,
        },
        metadata={
            "revision": page["revision"],
            "position": position_in(page, contract.name).text(organization, user),
            "queryTime": round((time.perf_counter() - started) * 1000, 2),
            "filters": listing.echo,
        },
    )


def page_response(page: PageAnswer, listing: Listing, rows: bytes, more: bytes = b"") -> ASGIResponse:
    """The page with these rows, a JSON array; `more` members, each behind a comma."""
    body = b'{"data":%b%b,"pagination":%b,"metadata":%b}' % (
        rows,
        more,
        exact_json.encode(page.pagination),
        exact_json.encode(page.metadata),
    )
    headers = {"ETag": page.etag, **PRIVATE} if listing.tagged else PRIVATE
    return ASGIResponse(body=body, media_type="application/json", headers=headers)


async def read_rows(desk: Desk, runtime: Runtime, user: str, listing: Listing) -> bytes:
    """The rows of a listing that is neither paged through nor counted, as a JSON array."""
    composer = PageComposer(desk.contract, listing, desk.organization, user)
    body: bytes = (await _read(desk, runtime, composer, listing, None))["body"]
    return body


async def _read(
    desk: Desk, runtime: Runtime, composer: PageComposer, listing: Listing, cursor: Cursor | None
) -> dict[str, Any]:
    """The page's record with its `total`."""

    async def read(*, counted: bool, base: bool = False) -> dict[str, Any]:
        return await _run(desk, composer.page(cursor, counted=counted, base_count=base), listing)

    if listing.count == "none":
        return await read(counted=False) | {"total": None}
    if listing.count == "exact":
        return await _count(runtime, composer, read)
    plan = await desk.connection.value(composer.estimate())
    estimate = int(exact_json.decode(plan)[0]["Plan"]["Plan Rows"]) if composer.reads_mirror else 0
    page = await read(counted=True)
    return page | {"total": max(0, estimate - page["left_count"] + page["landed_count"])}


async def _count(
    runtime: Runtime, composer: PageComposer, read: Callable[..., Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """The page with its exact total. The mirror's count is a function of revision and filter, the total one of the
    workspace's revision, too: what was counted at those very revisions is used again, else the statement counts in its
    own snapshot.
    """
    shape, viewer = composer.base_shape, composer.view_shape
    known, base = runtime.totals.get(viewer), runtime.base_counts.get(shape)
    if known is not None:
        page = await read(counted=False)
        if known[:2] == (page["revision"], page["workspace_revision"]):
            return page | {"total": known[2]}
    page = await read(counted=True, base=base is None)
    if base is not None and base[0] != page["revision"]:
        page = await read(counted=True, base=True)
    if page["base_count"] is None:
        assert base is not None
        page["base_count"] = base[1]
    total = page["base_count"] - page["left_count"] + page["landed_count"]
    runtime.base_counts[shape] = (page["revision"], page["base_count"])
    runtime.totals[viewer] = (page["revision"], page["workspace_revision"], total)
    return page | {"total": total}


async def _run(desk: Desk, page: Composed, listing: Listing) -> dict[str, Any]:
    connection = desk.connection
    if listing.search is None:
        row = await connection.row(page)
    else:
        # How many rows a word finds differs by orders of magnitude: plan for this one.
        async with connection.transaction():
            await connection.value(PLAN_FOR_WORDS)
            row = await connection.row(page)
    if row is None:
        raise desk.not_set_up
    return dict(row)


@get(
    f"{DATASET_PATH}/rows",
    opt=require(Action.QUERY),
    tags=["rows"],
    summary="A page of your view",
    operation_class=ListOperation,
    responses=answers(RowsAnswer, 404),
)
async def get_rows(request: VanguardRequest, org: Organization, dataset: DatasetName) -> ASGIResponse:
    """Mirror, pending and drafts merged; filters, sort, totals and cursors are exact on merged values."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    listing = listing_of(request, contract)
    answer = await list_rows(request, runtime, contract, org, listing)
    return not_modified(answer) if isinstance(answer, str) else page_response(answer, listing, answer.body)


@get(
    f"{DATASET_PATH}/rows/{{row_id:str}}",
    opt=require(Action.QUERY),
    tags=["rows"],
    summary="One row with its layers and history",
    operation_class=RowOperation,
    responses=answers(RowDetail, 404),
)
async def get_row(request: VanguardRequest, org: Organization, dataset: DatasetName, row_id: RowId) -> ASGIResponse:
    """The row, with base, delta and history; a row drafted for deletion is shown with its op."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    include = _read_row_include(request)
    user = request.user
    async with runtime.desk(contract, org) as desk:
        row = await read_row(desk, user.user_id, row_id, computed="computed" in include)
        more = f',"computed":{row["computed"]}' if "computed" in include else ""
        if "overlap" in include:
            more += f',"overlap":{await desk.value(READ_OVERLAP, user=user.user_id, key=row_id)}'
        if "explain" in include:
            reads_requests = user.may(Action.REVIEW)
            explain = await desk.value(EXPLAIN_ROW, user=user.user_id, key=row_id, reads_requests=reads_requests)
            more += f',"explain":{explain}'
    etag = row_etag(row["body"], more)
    if matches(request, etag):
        return not_modified(etag)
    body = f"{row['body'][:-1]}{more}}}"
    return ASGIResponse(body=body.encode(), media_type="application/json", headers={"ETag": etag, **PRIVATE})


def _read_row_include(request: VanguardRequest) -> frozenset[str]:
    """What is to be shown beside the row; raises InvalidFilter."""
    parameters = read_parameters(request.scope["query_string"])
    for name, _ in parameters:
        if name != "include":
            raise refuse(name, "no such parameter; there is include.")
    return read_include([value for _, value in parameters], ROW_INCLUDES)


ROUTES = [get_rows, get_row]
