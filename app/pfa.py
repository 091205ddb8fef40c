"""`/api/pfa/{org}`: the PFA dataset under the names of its first clients. Another door, the same code behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.openapi.spec import Operation
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.errors import InvalidFilter, NothingSelected
from app.commits import CommitRequest, answer_commit
from app.contracts import PFA
from app.contracts.filters import BOUNDS, MAX_WORD, Bounds, Listing, read_listing, read_parameters, refuse
from app.discards import DiscardAnswer, DiscardRequest, discard
from app.drafts import MAX_DRAFTS, Draft, Reason, SaveAnswer, Saving, Version, save
from app.engine.desk import Desk
from app.engine.figures import Wanted
from app.engine.quotas import Quota
from app.kpis import EXACT, figures_of, percent, read_kpis, total_of, validators, written
from app.rows import list_rows
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.etags import PRIVATE, not_modified, unchanged
from app.web.idempotency import answer_once
from app.web.openapi import Organization, answers, answers_with_position, body, parameter
from app.web.runtime import VanguardRequest

# Its filter names -> the parameter of D/rows. Those that name lists may be comma-separated.
LISTS = ("category", "class", "dor", "source", "areaSilo", "manufacturer", "model", "syncState")
RENAMED = {
    "dateRangeStart": "forecastStart[gte]",
    "dateRangeEnd": "forecastEnd[lte]",
    "searchText": "search",
    "isActualized": "isActualized",
    "isDiscontinued": "isDiscontinued",
    "isFundsTransferable": "isFundsTransferable",
    "page": "page",
    "pageSize": "pageSize",
    "sortBy": "sortBy",
    "sortOrder": "sortOrder",
}
GIVEN: dict[str | None, str] = {inner: outer for outer, inner in RENAMED.items()}


DRAFT_EXAMPLE = {"modifications": [{"pfaId": "PFA-0000001", "delta": {"monthlyRate": 1250.5}}]}


class PfaDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One line's draft."""

    pfa_id: str
    delta: dict[str, Any]
    change_reason: Reason | None = None
    expected_version: Version | None = None


class PfaDraftRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A batch of drafts."""

    modifications: Annotated[Sequence[PfaDraft], msgspec.Meta(min_length=1, max_length=MAX_DRAFTS)]
    session_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class PfaCommitRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What to commit: a session's drafts or those of some lines."""

    session_id: str | None = None
    pfa_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None
    expected_versions: dict[str, int] = {}


class PfaDiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What to discard: a session's drafts, those of some lines, or all."""

    session_id: str | None = None
    pfa_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None
    discard_all: bool = False


class PfaRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line; `data` passes through as PostgreSQL rendered it."""

    id: str
    data: msgspec.Raw
    sync_state: str
    modified_at: str | None
    modified_by: str | None
    modified_by_name: str | None


_rows = msgspec.json.Decoder(list[PfaRow])


class PfaLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A line on the wire."""

    id: str
    pfa_id: str
    data: dict[str, Any]
    sync_state: str
    modified_at: str | None
    modified_by: str | None
    modified_by_name: str | None


class PfaPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of lines."""

    success: bool
    data: list[PfaLine]
    pagination: dict[str, Any]
    metadata: dict[str, Any]


@dataclass
class PfaOperation(Operation):
    """The filters for /schema."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            *(parameter(name, "string", "Any of these, comma-separated or repeated") for name in LISTS),
            parameter("dateRangeStart", "string", "forecastStart is this day or later", format="date"),
            parameter("dateRangeEnd", "string", "forecastEnd is this day or earlier", format="date"),
            *(
                parameter(name, "boolean", "No filter when absent")
                for name in ("isActualized", "isDiscontinued", "isFundsTransferable")
            ),
            parameter("searchText", "string", "Any text field contains this, ignoring case", max_length=MAX_WORD),
            parameter("page", "integer", "From 1", minimum=1),
            parameter("pageSize", "integer", "Rows a page", minimum=1, maximum=1000),
            parameter("sortBy", "string", "A field; forecastStart by default"),
            parameter("sortOrder", "string", "asc or desc", enum=["asc", "desc"]),
        ]


def read_pfa_listing(query_string: bytes, bounds: Bounds = BOUNDS) -> Listing:
    """The listing that the first clients' parameters stand for; raises InvalidFilter."""
    translated: list[tuple[str, str]] = []
    given = read_parameters(query_string)
    for name, value in given:
        if name in LISTS:
            translated += [(name, part.strip()) for part in value.split(",") if part.strip()]
        elif name in RENAMED:
            translated.append((RENAMED[name], value))
        else:
            raise refuse(name, "no such parameter; /schema lists them.")
    names = {name for name, _ in given}
    if "sortBy" not in names:
        translated.append(("sortBy", "forecastStart"))
    try:
        listing = read_listing(PFA, translated, bounds)
    except InvalidFilter as error:
        for culprit in error.errors:
            raise refuse(GIVEN.get(culprit.parameter, culprit.parameter or ""), culprit.message) from None
        raise
    echo = {name: [v for n, v in given if n == name] for name in names - {"page", "pageSize", "sortBy", "sortOrder"}}
    return msgspec.structs.replace(listing, echo={n: v[0] if len(v) == 1 else v for n, v in sorted(echo.items())})


@get(
    "/api/pfa/{org:str}",
    opt=require(Action.QUERY),
    tags=["pfa"],
    summary="A page of your view of the lines",
    operation_class=PfaOperation,
    responses=answers(PfaPage, 404),
)
async def get_lines(request: VanguardRequest, org: Organization) -> ASGIResponse:
    """As D/rows, with comma-separated filters, sorted by forecastStart unless asked otherwise."""
    listing = read_pfa_listing(request.scope["query_string"], request.runtime.bounds)
    answer = await list_rows(request, request.runtime, PFA, org, listing)
    if isinstance(answer, str):
        return not_modified(answer)
    lines = [
        {
            "id": row.id,
            "pfaId": row.id,
            "data": row.data,
            "syncState": row.sync_state,
            "modifiedAt": row.modified_at,
            "modifiedBy": row.modified_by,
            "modifiedByName": row.modified_by_name,
        }
        for row in _rows.decode(answer.body)
    ]
    body = {
        "success": True,
        "data": lines,
        "pagination": {key: value for key, value in answer.pagination.items() if key != "nextCursor"},
        "metadata": {key: value for key, value in answer.metadata.items() if key != "revision"},
    }
    headers = {"ETag": answer.etag, **PRIVATE}
    return ASGIResponse(body=exact_json.encode(body), media_type="application/json", headers=headers)


class PfaStats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Figures of the caller's view. Counts are of all lines, money is of those that KPIs do not leave out."""

    total_records: int
    actualized_count: int
    discontinued_count: int
    draft_count: int
    total_monthly_rental: float
    total_purchase_cost: float
    plan_cost: float
    forecast_cost: float
    actual_cost: float
    variance: float
    variance_percent: float
    category_breakdown: list[dict[str, Any]]


COUNTS = {"actualizedCount": "actualized", "discontinuedCount": "discontinued", "draftCount": "drafts"}
SUMS = {
    "totalMonthlyRental": "monthlyRental",
    "totalPurchaseCost": "purchaseCost",
    "planCost": "plan",
    "forecastCost": "forecast",
    "actualCost": "actual",
}
MANY_CATEGORIES = 50_000  # anybody may write any category; what is more could not be shown either
Cell = tuple[dict[str, Any], dict[str, Any]]


def _summed(cells: Sequence[Cell]) -> dict[str, Any]:
    """Counts and costs of cells: (category and flags, figures)."""
    counted = [figures for key, figures in cells if not any(key[flag] for flag in PFA.flags)]
    sums = {name: total_of(figures[of] for figures in counted) for name, of in SUMS.items()}
    variance = EXACT.subtract(sums["forecastCost"], sums["planCost"])
    costs = {**sums, "variance": variance, "variancePercent": percent(variance, sums["planCost"])}
    return {name: sum(figures[of] for _, figures in cells) for name, of in COUNTS.items()} | written(costs)


@get(
    "/api/pfa/{org:str}/stats",
    opt=require(Action.QUERY),
    tags=["pfa"],
    summary="Figures of your view of the lines",
    responses=answers(PfaStats, 404),
)
async def get_stats(request: VanguardRequest, org: Organization) -> ASGIResponse:
    """Counts of all lines of your view; costs as in D/kpis, without discontinued and funds-transferable lines."""
    runtime = request.runtime
    wanted = Wanted(listing=Listing(), keys=("category", *PFA.flags), most=MANY_CATEGORIES)
    async with runtime.desk(PFA, org) as desk:
        if etag := await unchanged(desk, request, runtime):
            return not_modified(etag)
        found = await read_kpis(desk, request.user.user_id, wanted)
    cells = [(key, figures_of(PFA, record, "mine")) for key, record in found.groups if record["mine_row_count"]]
    categories = [(name, list(each)) for name, each in groupby(cells, key=lambda cell: cell[0]["category"])]
    body = {
        "totalRecords": found.total["mine_row_count"],
        **_summed(cells),
        "categoryBreakdown": [
            {"category": name, "count": sum(figures["rows"] for _, figures in each), **_summed(each)}
            for name, each in categories
        ],
    }
    return ASGIResponse(
        body=exact_json.encode(body), media_type="application/json", headers=validators(request, runtime, PFA, found)
    )


def _save_body(answer: SaveAnswer, session_id: str | None) -> bytes:
    return exact_json.encode(
        {
            "success": not answer.errors,
            "sessionId": session_id,
            "saved": [
                {"pfaId": saved.id, "modificationId": saved.modification_id, "version": saved.version}
                for saved in answer.saved
            ],
            "errors": [{"pfaId": error.id, "code": error.code, "error": error.message} for error in answer.errors],
        }
    )


@post(
    "/api/pfa/{org:str}/draft",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["pfa"],
    summary="Save drafts of lines",
    responses=answers(dict[str, Any], 404, 409, 422),
)
async def save_lines(
    request: VanguardRequest, org: Organization, data: Annotated[PfaDraftRequest, body(DRAFT_EXAMPLE)]
) -> Response[bytes]:
    """As D/drafts."""
    runtime = request.runtime
    drafts = [
        Draft(
            id=draft.pfa_id,
            delta=draft.delta,
            change_reason=draft.change_reason,
            expected_version=draft.expected_version,
        )
        for draft in data.modifications
    ]

    async def work(desk: Desk) -> bytes:
        how, quota = Saving(session_id=data.session_id), Quota.of(runtime.settings)
        saved = await save(desk, request.user.user_id, drafts, runtime.clock(), how, quota=quota)
        return _save_body(saved, data.session_id)

    return await answer_once(request, runtime, PFA, org, work)


@post(
    "/api/pfa/{org:str}/commit",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["pfa"],
    summary="Commit drafts of lines",
    responses=answers(dict[str, Any], 404, 409, 422),
)
async def commit_lines(
    request: VanguardRequest,
    org: Organization,
    data: Annotated[PfaCommitRequest, body({"pfaIds": ["PFA-0000001"]})],
) -> Response[bytes]:
    """As D/commit."""
    wanted = CommitRequest(session_id=data.session_id, ids=data.pfa_ids, expected_versions=data.expected_versions)
    return await answer_commit(request, request.runtime, PFA, org, wanted, success=True)


@post(
    "/api/pfa/{org:str}/discard",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["pfa"],
    summary="Discard drafts of lines",
    responses=answers_with_position(DiscardAnswer),
)
async def discard_lines(
    request: VanguardRequest,
    org: Organization,
    data: Annotated[PfaDiscardRequest, body({"pfaIds": ["PFA-0000001"]})],
) -> Response[bytes]:
    """As D/discard."""
    runtime = request.runtime
    if sum((data.session_id is not None, data.pfa_ids is not None, data.discard_all)) != 1:
        raise NothingSelected("Give exactly one of sessionId, pfaIds and discardAll.")
    wanted = DiscardRequest(session_id=data.session_id, ids=data.pfa_ids, all=data.discard_all or None)

    async def work(desk: Desk) -> bytes:
        answer = await discard(desk, request.user.user_id, wanted, runtime.clock())
        return exact_json.encode({"success": True, "discarded": answer.discarded})

    return await answer_once(request, runtime, PFA, org, work)


ROUTES = [get_lines, get_stats, save_lines, commit_lines, discard_lines]
