"""From a KPI request to its statement: sql/kpis/read_kpis.sql, made of sources that each yield cells.

Cells are counts, sums and extreme values of rows with the same dimensions and flags. A filter by these alone is
answered from the cells of the materialized view, history and the caller's modifications;
any other from the mirror's rows.
"""

from collections.abc import Iterable

import msgspec

from app.base.statements import statement
from app.contracts import Contract
from app.contracts.aggregates import REVISION_GRAIN, Aggregate, aggregates, coarsest
from app.contracts.filters import Listing
from app.engine.predicates import Arguments, Image, Predicate
from app.engine.view import OWN, UNION, Composed, View, conjunction, view_of

READ_KPIS = statement("kpis/read_kpis")
MAX_GROUPS = 5000
SIDES = (("baseline", "base"), ("mine", "mine"))  # a source's flag, the prefix of its figures


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a KPI request asks for: groups by `keys` (dimensions or flags), without the rows of `excluded` flags.

    `most` are the groups that it may have, MAX_GROUPS unless said otherwise. With a `session`, mine are the rows
    drafted in it over the baseline, and no other modification of the caller.
    """

    listing: Listing
    keys: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    most: int = msgspec.field(default_factory=lambda: MAX_GROUPS)
    session: str | None = None


class FigurePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One request: all of it is known. `grain` is that of the view's cells, None where rows are read instead.
    `own` says which modifications are mine.

    `of_groups` are the aggregates that groups show; a bound is of the total alone. `found_again` are those that an
    index of the mirror can find again, when the least or greatest value was taken away.
    """

    contract: Contract
    view: View
    own: str
    keys: tuple[str, ...]
    grain: int | None
    aggregates: tuple[Aggregate, ...]
    of_groups: frozenset[str]
    found_again: frozenset[str]
    arguments: tuple[object, ...]

    @property
    def groups(self) -> list[str]:
        """The columns of the keys."""
        return [f"g{place}" for place in range(1, len(self.keys) + 1)]

    @property
    def leaving(self) -> str:
        """The modifications whose rows the mirror's must be read without."""
        return f"FROM pfa.modification AS x WHERE {self.own} AND {self.view.leaves}"

    def image(self, prefix: str) -> Image:
        """A relation that has what KPIs know, and no document."""
        return Image(self.contract, prefix, "NULL", "NULL", "NULL")


class FigureComposer(msgspec.Struct, frozen=True):
    """Composes the statement of one request: its sources are selects of cells, their columns in the same order."""

    contract: Contract
    wanted: Wanted
    organization: str
    user: str

    @property
    def looked_at(self) -> frozenset[str]:
        """What is grouped and filtered by."""
        return frozenset({*self.wanted.keys, *(condition.field for condition in self.wanted.listing.conditions)})

    @property
    def knows_view(self) -> bool:
        """Whether the view's cells can tell which rows pass."""
        listing = self.wanted.listing
        return self.looked_at <= {*self.contract.cell_keys} and not listing.search and not listing.sync_states

    def kpis(self, *, from_view: bool) -> Composed:
        """The statement, from the view's cells or from the mirror's rows."""
        plan = self.plan(from_view=from_view)
        return Composed(READ_KPIS.fill(**markers(plan)).within(self.contract.schema), list(plan.arguments))

    def plan(self, *, from_view: bool) -> FigurePlan:
        """What `kpis` renders."""
        contract, wanted = self.contract, self.wanted
        arguments = Arguments(self.organization, contract.name, self.user, wanted.most + 2)
        excluded = tuple(Predicate(field, "{c} IS NOT TRUE") for field in wanted.excluded)
        view = view_of(contract, wanted.listing, self.looked_at, arguments, excluded)
        grain = coarsest(contract, self.looked_at & frozenset(contract.dimensions)) if from_view else None
        assert grain != REVISION_GRAIN
        found = aggregates(contract)
        hot = {sort.sort for sort in contract.hot if not sort.filters}
        return FigurePlan(
            contract=contract,
            view=view,
            own=self._own(arguments),
            keys=wanted.keys,
            grain=grain,
            aggregates=found,
            of_groups=frozenset(each.name for each in aggregates(contract, bounds=False)),
            found_again=frozenset(each.name for each in found if each.extreme and each.column.field in hot),
            arguments=tuple(arguments.values),
        )

    def _own(self, arguments: Arguments) -> str:
        if self.wanted.session is None:
            return OWN
        session = arguments.add(self.wanted.session, "text")
        return f"{OWN} AND x.session_id = {session} AND x.draft_op IS NOT NULL"


def markers(plan: FigurePlan) -> dict[str, str]:
    """Marker -> its text."""
    sources = [*(_from_rows(plan) if plan.grain is None else _from_view(plan)), _landed(plan)]
    keys = plan.groups
    grouped = ", ".join(f"c.{key}" for key in keys)
    return {
        "cells": UNION.join(sources),
        "keys": f"1 - GROUPING(c.g1) AS grouped, {grouped}" if keys else "0 AS grouped",
        "figures": "".join(f",\n           {figure}" for each in plan.aggregates for figure in _figures(each)),
        "sets": f"GROUPING SETS (({grouped}), ())" if keys else "()",
        "columns": "".join(f",\n       {column}" for column in _columns(plan)),
        "doubtful": " OR ".join(_doubts(plan)) or "FALSE",
        "order": ", ".join(["f.grouped", *(f"f.{key}" for key in keys)]),
    }


# -- where cells come from --------------------------------------------------------------------------------------------


def _from_view(plan: FigurePlan) -> list[str]:
    """The view's cells; history beyond its revision; what the caller's modifications take away."""
    view = plan.view
    cells, was, became = plan.image("k.f_"), plan.image("h.b_"), plan.image("h.a_")
    kept = ["k.row_count", "0::bigint", *(f"k.{each.name}" for each in plan.aggregates)]
    of_grain = ["k.organization_id = $1", f"k.grain = {plan.grain}", *view.filters.on(cells)]
    since = "h.organization_id = $1 AND h.revision > (SELECT s.view_revision FROM standing AS s)"
    stays = ["h.op = 'update'", *view.filters.on(became)]
    history = "pfa.history AS h"
    lands = [view.lands, *view.filters.on(view.after)]
    return [
        _cells(plan, "TRUE", "TRUE", 1, cells, kept, "pfa.kpi AS k", of_grain, grouped=False),
        _cells(
            plan, "TRUE", "TRUE", -1, was, _taken(plan, was, became, stays), history,
            [since, "h.op <> 'insert'", *view.filters.on(was)],
        ),
        _cells(
            plan, "TRUE", "TRUE", 1, became, _added(plan, became), history,
            [since, "h.op <> 'delete'", *view.filters.on(became)],
        ),
        _cells(
            plan, "FALSE", "TRUE", -1, view.before, _taken(plan, view.before, view.after, lands), _modifications(plan),
            [plan.own, view.left, *view.filters.on(view.before)],
        ),
    ]  # fmt: skip


def _from_rows(plan: FigurePlan) -> list[str]:
    """The mirror's rows that the caller's modifications leave alone; those that they touch, as they were."""
    view = plan.view
    found = [
        _cells(
            plan, "TRUE", "FALSE", 1, view.before, _added(plan, view.before), _modifications(plan),
            [plan.own, view.left, *view.filters.on(view.before), *view.stated],
        )
    ]  # fmt: skip
    if view.reads_mirror:
        untouched = f"NOT EXISTS (SELECT {plan.leaving} AND x.row_key = m.row_key)"
        where = ["m.organization_id = $1", *view.filters.on(view.mirror), untouched]
        values = _added(plan, view.mirror)
        found.insert(0, _cells(plan, "TRUE", "TRUE", 1, view.mirror, values, "pfa.mirror AS m", where))
    return found


def _landed(plan: FigurePlan) -> str:
    """What the caller's modifications add; of those that change nothing KPIs look at, the drafts are counted."""
    view, lands = plan.view, plan.view.lands
    in_place = "NOT x.leaves AND x.mirror_version IS NOT NULL"
    where = [plan.own, f"(x.lands OR {in_place})", *view.filters.on(view.after), *view.stated]
    values = [
        f"count(*) FILTER (WHERE {lands})",
        "count(*) FILTER (WHERE x.draft_op IS NOT NULL)",
        *(each.over(view.after.prefix, f"({lands})") for each in plan.aggregates),
    ]
    return _cells(plan, "FALSE", "TRUE", 1, view.after, values, _modifications(plan), where)


def _modifications(plan: FigurePlan) -> str:
    return f"pfa.modification AS x{plan.view.joins}"


def _cells(
    plan: FigurePlan, baseline: str, mine: str, weight: int, image: Image, values: list[str], source: str,
    where: Iterable[str], *, grouped: bool = True,
) -> str:  # fmt: skip
    keys = [image.column(name) for name in plan.keys]
    names = ["row_count", "drafts", *(each.name for each in plan.aggregates)]
    columns = [
        f"{baseline} AS baseline, {mine} AS mine, {weight} AS weight",
        *(f"{key} AS {group}" for key, group in zip(keys, plan.groups, strict=True)),
        *(f"{value} AS {name}" for value, name in zip(values, names, strict=True)),
    ]
    group = f"\n     GROUP BY {', '.join(keys)}" if keys and grouped else ""
    return f"SELECT {', '.join(columns)}\n      FROM {source}\n     WHERE {conjunction(where)}{group}"


def _added(plan: FigurePlan, image: Image) -> list[str]:
    return ["count(*)", "0::bigint", *(each.over(image.prefix) for each in plan.aggregates)]


def _taken(plan: FigurePlan, before: Image, after: Image, stays: list[str]) -> list[str]:
    """What is taken away. An extreme value that a row keeps was not; for a group's, where it stays in the group."""
    same_keys = [f"{before.column(name)} IS NOT DISTINCT FROM {after.column(name)}" for name in plan.keys]
    anywhere, in_group = conjunction(stays), conjunction([*stays, *same_keys])

    def value(each: Aggregate) -> str:
        if not each.extreme:
            return each.over(before.prefix)
        was, becomes = f"{before.prefix}{each.column.name}", f"{after.prefix}{each.column.name}"
        kept = in_group if each.name in plan.of_groups else anywhere
        return each.over(before.prefix, f"(({kept}) IS NOT TRUE OR {was} IS DISTINCT FROM {becomes})")

    return ["count(*)", "0", *map(value, plan.aggregates)]


# -- what is made of the cells ----------------------------------------------------------------------------------------


def _figures(each: Aggregate) -> list[str]:
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


def _gone(each: Aggregate, short: str) -> str:
    """Whether what was taken away could have been the extreme value."""
    compare = "<=" if each.kind == "min" else ">="
    return f"f.gone_{short}_{each.name} {compare} f.there_{short}_{each.name}"


def _columns(plan: FigurePlan) -> list[str]:
    found = ["f.grouped", *(f"f.{key}" for key in plan.groups)]
    found += ["f.base_row_count", "f.mine_row_count", "f.mine_drafts"]
    for each in plan.aggregates:
        for _, short in SIDES:
            found.append(_extreme(plan, each, short) if each.extreme else f"f.{short}_{each.name}")
    return found


def _extreme(plan: FigurePlan, each: Aggregate, short: str) -> str:
    there = f"f.there_{short}_{each.name}"
    if each.name not in plan.found_again:
        return f"{there} AS {short}_{each.name}"
    again = _again(plan, each, short)
    if short == "mine":
        again = f"{'least' if each.kind == 'min' else 'greatest'}(f.landed_{each.name}, {again})"
    doubt = f"f.grouped = 0 AND {_gone(each, short)}"
    return f"CASE WHEN {doubt} THEN {again} ELSE {there} END AS {short}_{each.name}"


def _again(plan: FigurePlan, each: Aggregate, short: str) -> str:
    """The extreme value of the mirror's rows, of those that the caller's modifications leave there, by an index."""
    view = plan.view
    column = f"{view.mirror.prefix}{each.column.name}"
    where = ["m.organization_id = $1", f"{column} IS NOT NULL", *view.filters.on(view.mirror)]
    if short == "mine":
        where.append(f"m.row_key NOT IN (SELECT x.row_key {plan.leaving})")
    order = column if each.kind == "min" else f"{column} DESC"
    return f"(SELECT {column} FROM pfa.mirror AS m WHERE {conjunction(where)} ORDER BY {order} LIMIT 1)"


def _doubts(plan: FigurePlan) -> list[str]:
    """Where a group, or the total, has an extreme value in doubt that no index finds again."""
    return [
        f"coalesce({_gone(each, short)} AND {where}, FALSE)"
        for each in plan.aggregates
        if each.extreme
        for where in _doubted(plan, each)
        for _, short in SIDES
    ]


def _doubted(plan: FigurePlan, each: Aggregate) -> list[str]:
    total = [] if each.name in plan.found_again else ["f.grouped = 0"]
    return [*total, *(["f.grouped = 1"] if each.name in plan.of_groups else [])]
