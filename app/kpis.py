"""`GET D/kpis`: the contract's measures over the caller's view, beside those of the mirror, exact at any moment.

A filter by dimensions and flags alone is answered from cells: the materialized view, corrected by what history tells
beyond the view's revision, and by the caller's modifications. Any other filter is answered from the mirror's rows.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from functools import reduce
from typing import Any

import msgspec
from asyncpg import Record
from litestar import get
from litestar.openapi.spec import Operation
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.database import Database
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.aggregates import kinds
from app.contracts.filters import (
    BOUNDS,
    PAGING,
    Bounds,
    Condition,
    read_listing,
    read_parameters,
    refuse,
)
from app.contracts.images import qualified
from app.contracts.model import Difference, Measure
from app.contracts.values import write_datetime, write_number
from app.engine.desk import Desk
from app.engine.figures import SIDES, FigureComposer, Wanted
from app.engine.view import Composed
from app.web.auth import Action, require
from app.web.etags import PRIVATE, etag_of, not_modified, unchanged
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, filter_parameters, parameter
from app.web.runtime import Runtime, VanguardRequest, contract_of

READ_VIEWS = statement("kpis/read_views")
REFRESH_KPIS = statement("kpis/refresh_kpis")
DECIMALS = Decimal("1e-6")  # of quotients: sums keep all digits
MICROSECOND = timedelta(microseconds=1)
# A sum over any number of rows has fewer digits than this; Python's own 28 would round it, or refuse to.
EXACT = Context(prec=200)


class Kpis(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one snapshot; `groups` are (key, figures). `view_revision` is None where rows were read instead."""

    revision: int
    workspace_revision: int
    view_revision: int | None
    total: Record
    groups: list[tuple[dict[str, Any], Record]]


# -- reading ----------------------------------------------------------------------------------------------------------


async def read_kpis(desk: Desk, user: str, wanted: Wanted) -> Kpis:
    """Figures from the view's cells where they can tell, from the mirror's rows where they cannot.

    Raises DatasetNotFound, and InvalidFilter where there are more groups than wanted.
    """
    composer = FigureComposer(desk.contract, wanted, desk.organization, user)
    from_view = composer.knows_view
    records = await _run(desk, composer.kpis(from_view=from_view))
    if from_view and (records[0]["view_revision"] is None or any(record["doubtful"] for record in records)):
        from_view = False
        records = await _run(desk, composer.kpis(from_view=False))
    if len(records) > wanted.most + 1:
        raise refuse("groupBy", f"more than {wanted.most:,} groups; group by fewer dimensions, or filter.")
    total, *groups = records
    return Kpis(
        revision=total["revision"],
        workspace_revision=total["workspace_revision"],
        view_revision=total["view_revision"] if from_view else None,
        total=total,
        groups=[
            ({name: record[f"g{place}"] for place, name in enumerate(wanted.keys, 1)}, record) for record in groups
        ],
    )


async def _run(desk: Desk, composed: Composed) -> list[Record]:
    records = await desk.connection.rows(composed)
    if not records:
        raise desk.not_set_up
    return list(records)


class Refreshed(msgspec.Struct, frozen=True):
    """What a refresh left behind: cells of how many organizations, after how many seconds."""

    organizations: int
    cells: int
    seconds: float


async def refresh_kpis(database: Database, contract: Contract) -> Refreshed:
    """Bring the view up to the mirror. Readers go on meanwhile; another refresh waits for this one."""
    started = time.perf_counter()
    async with database.connection() as connection:
        await connection.value(qualified(REFRESH_KPIS, contract))
        seconds = time.perf_counter() - started
        found = await connection.row(qualified(READ_VIEWS, contract))
    assert found is not None, "a count returns its row"
    return Refreshed(found["organizations"], found["cells"], seconds)


# -- figures ----------------------------------------------------------------------------------------------------------


def figure_sets(contract: Contract, record: Record) -> dict[str, dict[str, Any]]:
    """baseline, mine and their difference: of numbers what mine has more, of dates by how many days it is later."""
    baseline, mine = figures_of(contract, record, "base"), figures_of(contract, record, "mine")
    return {
        "baseline": written(baseline),
        "mine": written(mine),
        "difference": written({name: _difference(value, baseline[name]) for name, value in mine.items()}),
    }


def written(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures for the wire. However a number was computed, it is written one way: without an exponent, and without
    zeros behind the last digit of its fraction. A moment is as documents have it.
    """
    return {name: _written(value) for name, value in figures.items()}


def _written(value: Any) -> Any:
    match value:
        case Decimal():
            return msgspec.Raw(write_number(value).encode())
        case datetime():
            return write_datetime(value)
    return value


def figures_of(contract: Contract, record: Record, side: str) -> dict[str, Any]:
    """The figures of one side, base or mine, of a record."""
    found: dict[str, Any] = {"rows": record[f"{side}_row_count"]}
    for measure in contract.measures:
        found[measure.name] = _measured(contract, record, side, measure)
    for figure in contract.derived:
        of = found[figure.of]
        if isinstance(figure, Difference):
            found[figure.name] = _difference(of, found[figure.minus])
        else:
            found[figure.name] = percent(of, found[figure.by])
    return found | {"drafts": record["mine_drafts"] if side == "mine" else 0}


def _measured(contract: Contract, record: Record, side: str, measure: Measure) -> Any:
    column = contract.column_of[measure.of].name
    values = [record[f"{side}_{kind}_{column}"] for kind in kinds(measure)]
    if measure.kind != "average":
        return values[0]
    total, count = values
    return _quotient(total, count) if count else None


def percent(of: Decimal | int | None, by: Decimal | int | None) -> Decimal:
    """`of` by `by`, times 100; 0 where there is nothing to compare with."""
    return _quotient(EXACT.multiply(of, 100), by) if of is not None and by is not None and by > 0 else Decimal(0)


def _quotient(dividend: Decimal | int, divisor: Decimal | int) -> Decimal:
    return EXACT.divide(dividend, divisor).quantize(DECIMALS, context=EXACT)


def total_of(values: Iterable[Decimal]) -> Decimal:
    """Their sum, with all its digits."""
    return reduce(EXACT.add, values, Decimal())


def _difference(value: Any, other: Any) -> Any:
    if value is None or other is None:
        return None
    if isinstance(value, datetime):
        return Decimal((value - other) // MICROSECOND).scaleb(-6, EXACT)
    if isinstance(value, date):
        return (value - other).days
    return value - other if isinstance(value, int) and isinstance(other, int) else EXACT.subtract(value, other)


def bounds(contract: Contract, record: Record) -> dict[str, dict[str, Any]]:
    """The contract's bounds of the total, without and with the caller's modifications."""
    return {
        name: written({bound.name: _measured(contract, record, side, bound) for bound in contract.bounds})
        for name, side in SIDES
    }


# -- on the wire ------------------------------------------------------------------------------------------------------


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One combination of the dimensions' values. Figures: rows, drafts, and what the contract measures."""

    key: dict[str, Any]
    baseline: dict[str, Any]
    mine: dict[str, Any]
    difference: dict[str, Any]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of all rows that pass the filters."""

    baseline: dict[str, Any]
    mine: dict[str, Any]
    difference: dict[str, Any]


class KpiMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`view_revision` is that of the view which the figures start from, null where rows were read instead."""

    revision: int
    view_revision: int | None
    query_time: float
    filters: dict[str, Any]


class KpisAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of the mirror and of your view."""

    totals: Totals
    groups: list[Group]
    bounds: dict[str, dict[str, Any]]
    metadata: KpiMetadata


def validators(request: VanguardRequest, runtime: Runtime, contract: Contract, found: Kpis) -> dict[str, str]:
    """The headers of an answer made of these figures, with the ETag of the view that they are of."""
    revisions = {"revision": found.revision, "workspace_revision": found.workspace_revision}
    organization = request.path_params["org"]
    return {"ETag": etag_of(runtime, contract, organization, request.user.user_id, revisions), **PRIVATE}


@dataclass
class KpisOperation(Operation):
    """The parameters for /schema: the handler reads the query string itself, as a contract names them."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("groupBy", "string", "Dimensions of the contract, comma-separated"),
            parameter("include", "string", "Rows that KPIs leave out, such as discontinued,fundsTransferable"),
            *filter_parameters(),
        ]


def read_wanted(contract: Contract, parameters: list[tuple[str, str]], bounds: Bounds = BOUNDS) -> Wanted:
    """Check the query parameters of a KPI request; raises InvalidFilter that names the first one at fault."""
    keys = _words(parameters, "groupBy")
    if unknown := [key for key in keys if key not in contract.dimensions]:
        raise refuse("groupBy", f"{unknown[0][:80]!r} is none of {', '.join(contract.dimensions) or 'no dimensions'}.")
    names = [exclusion.name for exclusion in contract.exclusions]
    include = _words(parameters, "include")
    if unknown := [name for name in include if name not in names]:
        raise refuse("include", f"{unknown[0][:80]!r} is none of {', '.join(names) or 'nothing'}.")
    rest = [(name, value) for name, value in parameters if name not in ("groupBy", "include")]
    if paging := [name for name, _ in rest if name in PAGING]:
        raise refuse(paging[0], "KPIs have no pages and no sort.")
    listing = read_listing(contract, rest, bounds)
    return Wanted(listing=listing, keys=keys, excluded=_excluded(contract, listing.conditions, include))


def _words(parameters: list[tuple[str, str]], name: str) -> tuple[str, ...]:
    """The words of a parameter, repeated, comma-separated, or both; each once."""
    words = [word.strip() for given, value in parameters if given == name for word in value.split(",")]
    return tuple(dict.fromkeys(word for word in words if word))


def _excluded(contract: Contract, conditions: tuple[Condition, ...], include: tuple[str, ...]) -> tuple[str, ...]:
    """The flags whose rows are left out. A filter on a flag says itself which rows are wanted."""
    filtered = {condition.field for condition in conditions}
    return tuple(
        exclusion.field
        for exclusion in contract.exclusions
        if exclusion.name not in include and exclusion.field not in filtered
    )


@get(
    f"{DATASET_PATH}/kpis",
    opt=require(Action.QUERY),
    tags=["kpis"],
    summary="Figures of the mirror and of your view",
    operation_class=KpisOperation,
    responses=answers(KpisAnswer, 404),
)
async def get_kpis(request: VanguardRequest, org: Organization, dataset: DatasetName) -> ASGIResponse:
    """The contract's measures in total and by dimensions: baseline, mine (with your drafts), and the difference."""
    runtime = request.runtime
    started = time.perf_counter()
    contract, user = await contract_of(request, org, dataset), request.user.user_id
    wanted = read_wanted(contract, read_parameters(request.scope["query_string"]), runtime.bounds)
    async with runtime.desk(contract, org) as desk:
        if etag := await unchanged(desk, request, runtime):
            return not_modified(etag)
        found = await read_kpis(desk, user, wanted)
    body = {
        "totals": figure_sets(contract, found.total),
        "groups": [{"key": written(key), **figure_sets(contract, record)} for key, record in found.groups],
        "bounds": bounds(contract, found.total),
        "metadata": {
            "revision": found.revision,
            "viewRevision": found.view_revision,
            "queryTime": round((time.perf_counter() - started) * 1000, 2),
            "filters": wanted.listing.echo,
        },
    }
    return ASGIResponse(
        body=exact_json.encode(body),
        media_type="application/json",
        headers=validators(request, runtime, contract, found),
    )


ROUTES = [get_kpis]
