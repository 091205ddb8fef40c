"""`GET D/kpis`: the contract's measures over the caller's view, beside those of the mirror, exact at any moment.

A filter by dimensions and flags alone is answered from cells: the materialized view, corrected by what history tells
beyond the view's revision, and by the caller's modifications. Any other filter is answered from the mirror's rows.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from functools import reduce
from typing import Any

import msgspec
from asyncpg import Record
from litestar import Response, get
from litestar.openapi.spec import Operation

from app import json
from app.auth import Action, VanguardRequest, require
from app.contracts import Contract
from app.contracts.cubes import REVISION_GRAIN, Aggregate, aggregates, coarsest, kinds
from app.contracts.filters import (
    PAGING,
    Arguments,
    Condition,
    Listing,
    Predicate,
    read_listing,
    read_parameters,
    refuse,
)
from app.contracts.model import Difference, Measure
from app.datasets import contract_of
from app.db import Connection, Database
from app.errors import DatasetNotFound
from app.queries import statement
from app.rows import etag_of, filter_parameters, not_modified, parameter, unchanged
from app.runtime import Runtime
from app.views import Composed, View, conjunction
from app.wire import DatasetName, Here, Organization, answers

READ_KPIS = statement("kpis/read_kpis")
READ_VIEWS = statement("kpis/read_views")
REFRESH_KPIS = statement("kpis/refresh_kpis")
MAX_GROUPS = 5000
DECIMALS = Decimal("1e-6")  # of quotients: sums keep all digits
# A sum over any number of rows has fewer digits than this; Python's own 28 would round it, or refuse to.
EXACT = Context(prec=200)
SIDES = (("baseline", "base"), ("mine", "mine"))  # a source's flag, the prefix of its figures


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a KPI request asks for: groups by `keys` (dimensions or flags), without the rows of `excluded` flags.

    `most` are the groups that it may have, MAX_GROUPS unless said otherwise.
    """

    listing: Listing
    keys: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    most: int = msgspec.field(default_factory=lambda: MAX_GROUPS)


class Kpis(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one snapshot; `groups` are (key, figures). `view_revision` is None where rows were read instead."""

    revision: int
    workspace_revision: int
    view_revision: int | None
    total: Record
    groups: list[tuple[dict[str, Any], Record]]


# -- the statement ----------------------------------------------------------------------------------------------------


class Composer(View):
    """Composes the statement of one request: its sources are selects of cells, their columns in the same order."""

    def __init__(self, contract: Contract, wanted: Wanted, organization: str, dataset: str, user: str):
        self.looked_at = frozenset({*wanted.keys, *(condition.field for condition in wanted.listing.conditions)})
        super().__init__(contract, wanted.listing, organization, dataset, user, self.looked_at)
        self.wanted = wanted
        self.aggregates = aggregates(contract)
        self.extremes = [each for each in self.aggregates if each.extreme]
        # Those that groups show; a bound is of the total alone.
        self.of_groups = {each.name for each in aggregates(contract, bounds=False)}
        # Those that an index of the mirror can find again, when the least or greatest value was taken away.
        hot = {sort.sort for sort in contract.hot if not sort.filters}
        self.found_again = {each.name for each in self.extremes if each.column.field in hot}

    @property
    def knows_view(self) -> bool:
        """Whether the view's cells can tell which rows pass."""
        return self.looked_at <= {*self.contract.cell_keys} and not self.listing.search and not self.listing.sync_states

    def kpis(self, *, from_view: bool) -> Composed:
        """The statement, from the view's cells or from the mirror's rows."""
        arguments = Arguments(*self.fixed, self.wanted.most + 2)
        self.place(arguments)
        self._predicates += [Predicate(field, "{c} IS NOT TRUE") for field in self.wanted.excluded]
        self.place_covering(arguments)
        sources = [*(self._from_view() if from_view else self._from_rows()), self._landed()]
        keys = [f"g{place}" for place in range(1, len(self.wanted.keys) + 1)]
        grouped = ", ".join(f"c.{key}" for key in keys)
        text = READ_KPIS.fill(
            cells="\n    UNION ALL\n    ".join(sources),
            keys=f"1 - GROUPING(c.g1) AS grouped, {grouped}" if keys else "0 AS grouped",
            figures="".join(f",\n           {figure}" for each in self.aggregates for figure in self._figures(each)),
            sets=f"GROUPING SETS (({grouped}), ())" if keys else "()",
            columns="".join(f",\n       {column}" for column in self._columns(keys)),
            doubtful=" OR ".join(self._doubts()) or "FALSE",
            order=", ".join(["f.grouped", *(f"f.{key}" for key in keys)]),
        )
        return Composed(text.within(self.contract.schema), arguments.values)

    # -- where cells come from

    def _from_view(self) -> list[str]:
        """The view's cells; history beyond its revision; what the caller's modifications take away."""

        def cells(name: str) -> str:
            return f"k.f_{self.contract.column_of[name].name}"

        def was(name: str) -> str:
            return f"h.b_{self.contract.column_of[name].name}"

        def became(name: str) -> str:
            return f"h.a_{self.contract.column_of[name].name}"

        grain = coarsest(self.contract, self.looked_at & frozenset(self.contract.dimensions))
        assert grain != REVISION_GRAIN
        kept = ["k.row_count", "0::bigint", *(f"k.{each.name}" for each in self.aggregates)]
        view = ["k.organization_id = $1", f"k.grain = {grain}", *self.filter(cells, "NULL")]
        since = "h.organization_id = $1 AND h.revision > (SELECT s.view_revision FROM standing AS s)"
        stays = ["h.op = 'update'", *self.filter(became, "NULL")]
        history = "pfa.history AS h"
        lands = [self.lands(), *self.filter(self.after, "x.a_search")]
        taken = self._taken("x.", lands, self._same_keys(self.before, self.after))
        return [
            self._cells("TRUE", "TRUE", 1, cells, kept, "pfa.kpi AS k", view, grouped=False),
            self._cells(
                "TRUE", "TRUE", -1, was, self._taken("h.", stays, self._same_keys(was, became)), history,
                [since, "h.op <> 'insert'", *self.filter(was, "NULL")],
            ),
            self._cells(
                "TRUE", "TRUE", 1, became, self._added("h.a_"), history,
                [since, "h.op <> 'delete'", *self.filter(became, "NULL")],
            ),
            self._cells(
                "FALSE", "TRUE", -1, self.before, taken, self._modifications,
                [*self._own, self.left(), *self.filter(self.before, "m.search")],
            ),
        ]  # fmt: skip

    def _from_rows(self) -> list[str]:
        """The mirror's rows that the caller's modifications leave alone; those that they touch, as they were."""
        untouched = (
            "NOT EXISTS (SELECT FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $3"
            f" AND x.row_key = m.row_key AND {self.leaves()})"
        )
        found = [
            self._cells(
                "TRUE", "FALSE", 1, self.before, self._added("x.b_"), self._modifications,
                [*self._own, self.left(), *self.filter(self.before, "m.search"), *self.states],
            )
        ]  # fmt: skip
        if self.reads_mirror:
            where = ["m.organization_id = $1", *self.filter(self.mirror, "m.search"), untouched]
            values = self._added("m.f_")
            found.insert(0, self._cells("TRUE", "TRUE", 1, self.mirror, values, "pfa.mirror AS m", where))
        return found

    def _landed(self) -> str:
        """What the caller's modifications add; of those that change nothing KPIs look at, the drafts are counted."""
        in_place = "NOT x.leaves AND x.mirror_version IS NOT NULL"
        where = [*self._own, f"(x.lands OR {in_place})", *self.filter(self.after, "x.a_search"), *self.states]
        lands = self.lands()
        values = [
            f"count(*) FILTER (WHERE {lands})",
            "count(*) FILTER (WHERE x.draft_op IS NOT NULL)",
            *(each.over("x.a_", f"({lands})") for each in self.aggregates),
        ]
        return self._cells("FALSE", "TRUE", 1, self.after, values, self._modifications, where)

    _own = ("x.organization_id = $1 AND x.user_id = $3",)

    @property
    def _modifications(self) -> str:
        return f"pfa.modification AS x{self.joins()}"

    def _cells(
        self, baseline: str, mine: str, weight: int, column: Any, values: list[str], source: str,
        where: Iterable[str], *, grouped: bool = True,
    ) -> str:  # fmt: skip
        keys = [column(name) for name in self.wanted.keys]
        names = ["row_count", "drafts", *(each.name for each in self.aggregates)]
        columns = [
            f"{baseline} AS baseline, {mine} AS mine, {weight} AS weight",
            *(f"{key} AS g{place}" for place, key in enumerate(keys, 1)),
            *(f"{value} AS {name}" for value, name in zip(values, names, strict=True)),
        ]
        group = f"\n     GROUP BY {', '.join(keys)}" if keys and grouped else ""
        return f"SELECT {', '.join(columns)}\n      FROM {source}\n     WHERE {conjunction(where)}{group}"

    def _added(self, prefix: str) -> list[str]:
        return ["count(*)", "0::bigint", *(each.over(prefix) for each in self.aggregates)]

    def _taken(self, alias: str, stays: list[str], same_keys: list[str]) -> list[str]:
        """What is taken away. An extreme value that a row keeps was not; for a group's, where it stays in the group."""
        anywhere, in_group = conjunction(stays), conjunction([*stays, *same_keys])

        def value(each: Aggregate) -> str:
            if not each.extreme:
                return each.over(f"{alias}b_")
            before, after = f"{alias}b_{each.column.name}", f"{alias}a_{each.column.name}"
            kept = in_group if each.name in self.of_groups else anywhere
            return each.over(f"{alias}b_", f"(({kept}) IS NOT TRUE OR {before} IS DISTINCT FROM {after})")

        return ["count(*)", "0", *map(value, self.aggregates)]

    def _same_keys(self, before: Any, after: Any) -> list[str]:
        return [f"{before(name)} IS NOT DISTINCT FROM {after(name)}" for name in self.wanted.keys]

    # -- what is made of the cells

    def _figures(self, each: Aggregate) -> list[str]:
        name = each.name
        if not each.extreme:
            return [
                f"coalesce(sum(c.weight * c.{name}) FILTER (WHERE c.{side}), 0)::{each.sql_type} AS {short}_{name}"
                for side, short in SIDES
            ]
        return [
            f"{each.kind}(c.{name}) FILTER (WHERE c.{side} AND c.weight {sign} 0) AS {which}_{short}_{name}"
            for side, short in SIDES
            for sign, which in ((">", "there"), ("<", "gone"))
        ] + [f"{each.kind}(c.{name}) FILTER (WHERE NOT c.baseline AND c.weight > 0) AS landed_{name}"]

    def _gone(self, each: Aggregate, short: str) -> str:
        """Whether what was taken away could have been the extreme value."""
        compare = "<=" if each.kind == "min" else ">="
        return f"f.gone_{short}_{each.name} {compare} f.there_{short}_{each.name}"

    def _columns(self, keys: list[str]) -> list[str]:
        found = ["f.grouped", *(f"f.{key}" for key in keys), "f.base_row_count", "f.mine_row_count", "f.mine_drafts"]
        for each in self.aggregates:
            for _, short in SIDES:
                found.append(self._extreme(each, short) if each.extreme else f"f.{short}_{each.name}")
        return found

    def _extreme(self, each: Aggregate, short: str) -> str:
        there = f"f.there_{short}_{each.name}"
        if each.name not in self.found_again:
            return f"{there} AS {short}_{each.name}"
        again = self._again(each, short)
        if short == "mine":
            again = f"{'least' if each.kind == 'min' else 'greatest'}(f.landed_{each.name}, {again})"
        doubt = f"f.grouped = 0 AND {self._gone(each, short)}"
        return f"CASE WHEN {doubt} THEN {again} ELSE {there} END AS {short}_{each.name}"

    def _again(self, each: Aggregate, short: str) -> str:
        """The extreme value of the mirror's rows, of those that the caller's modifications leave there, by an index."""
        column = f"m.f_{each.column.name}"
        where = ["m.organization_id = $1", f"{column} IS NOT NULL", *self.filter(self.mirror, "m.search")]
        if short == "mine":
            where.append(
                "m.row_key NOT IN (SELECT x.row_key FROM pfa.modification AS x"
                f" WHERE x.organization_id = $1 AND x.user_id = $3 AND {self.leaves()})"
            )
        order = column if each.kind == "min" else f"{column} DESC"
        return f"(SELECT {column} FROM pfa.mirror AS m WHERE {conjunction(where)} ORDER BY {order} LIMIT 1)"

    def _doubts(self) -> list[str]:
        """Where a group, or the total, has an extreme value in doubt that no index finds again."""
        return [
            f"coalesce({self._gone(each, short)} AND {where}, FALSE)"
            for each in self.extremes
            for where in self._doubted(each)
            for _, short in SIDES
        ]

    def _doubted(self, each: Aggregate) -> list[str]:
        total = [] if each.name in self.found_again else ["f.grouped = 0"]
        return [*total, *(["f.grouped = 1"] if each.name in self.of_groups else [])]


# -- reading ----------------------------------------------------------------------------------------------------------


async def read_kpis(connection: Connection, contract: Contract, organization: str, user: str, wanted: Wanted) -> Kpis:
    """Figures from the view's cells where they can tell, from the mirror's rows where they cannot.

    Raises DatasetNotFound, and InvalidFilter where there are more groups than wanted.
    """
    composer = Composer(contract, wanted, organization, contract.name, user)
    from_view = composer.knows_view
    records = await _run(connection, composer.kpis(from_view=from_view))
    if from_view and (records[0]["view_revision"] is None or any(record["doubtful"] for record in records)):
        from_view = False
        records = await _run(connection, composer.kpis(from_view=False))
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


async def _run(connection: Connection, composed: Composed) -> list[Record]:
    records = await connection.rows(composed.statement, *composed.arguments)
    if not records:
        raise DatasetNotFound("The dataset is not set up for this organization.")
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
        await connection.value(REFRESH_KPIS.within(contract.schema))
        seconds = time.perf_counter() - started
        found = await connection.row(READ_VIEWS.within(contract.schema))
    assert found is not None, "a count returns its row"
    return Refreshed(found["organizations"], found["cells"], seconds)


# -- figures ----------------------------------------------------------------------------------------------------------


def figure_sets(contract: Contract, record: Record) -> dict[str, dict[str, Any]]:
    """baseline, mine and their difference: of numbers what mine has more, of dates by how many days it is later."""
    baseline, mine = figures_of(contract, record, "base"), figures_of(contract, record, "mine")
    return {
        "baseline": baseline,
        "mine": mine,
        "difference": {name: _difference(value, baseline[name]) for name, value in mine.items()},
    }


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
    if isinstance(value, date):
        return (value - other).days
    return value - other if isinstance(value, int) and isinstance(other, int) else EXACT.subtract(value, other)


def bounds(contract: Contract, record: Record) -> dict[str, dict[str, Any]]:
    """The contract's bounds of the total, without and with the caller's modifications."""
    return {
        name: {bound.name: _measured(contract, record, side, bound) for bound in contract.bounds}
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
    standing = {"revision": found.revision, "workspace_revision": found.workspace_revision}
    organization = request.path_params["org"]
    etag = etag_of(runtime, organization, request.user.user_id, contract, standing)
    return {"ETag": etag, "Cache-Control": "private, no-cache"}


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


def read_wanted(contract: Contract, parameters: list[tuple[str, str]]) -> Wanted:
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
    listing = read_listing(contract, rest)
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
    "/api/v1/orgs/{org:str}/datasets/{dataset:str}/kpis",
    guards=[require(Action.QUERY)],
    tags=["kpis"],
    summary="Figures of the mirror and of your view",
    operation_class=KpisOperation,
    responses=answers(KpisAnswer, 404),
)
async def get_kpis(request: VanguardRequest, runtime: Here, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """The contract's measures in total and by dimensions: baseline, mine (with your drafts), and the difference."""
    started = time.perf_counter()
    contract, user = contract_of(runtime, dataset), request.user.user_id
    wanted = read_wanted(contract, read_parameters(request.scope["query_string"]))
    async with runtime.database.connection() as connection:
        if etag := await unchanged(connection, request, runtime, contract, org):
            return not_modified(etag)
        found = await read_kpis(connection, contract, org, user, wanted)
    body = {
        "totals": figure_sets(contract, found.total),
        "groups": [{"key": key, **figure_sets(contract, record)} for key, record in found.groups],
        "bounds": bounds(contract, found.total),
        "metadata": {
            "revision": found.revision,
            "viewRevision": found.view_revision,
            "queryTime": round((time.perf_counter() - started) * 1000, 2),
            "filters": wanted.listing.echo,
        },
    }
    return Response(
        json.encode(body), media_type="application/json", headers=validators(request, runtime, contract, found)
    )


ROUTES = [get_kpis]
