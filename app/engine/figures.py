"""From a KPI request to its statement: sql/kpis/read_kpis.sql, made of sources that each yield cells.

Cells are counts, sums and extreme values of rows with the same dimensions and flags. A filter by these alone is
answered from the cells of the materialized view, history and the caller's modifications;
any other from the mirror's rows.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from app.base.statements import statement
from app.contracts import Contract
from app.contracts.aggregates import REVISION_GRAIN, Aggregate, aggregates, coarsest
from app.contracts.filters import Listing
from app.engine.predicates import Arguments, Predicate
from app.engine.view import Composed, View, conjunction

READ_KPIS = statement("kpis/read_kpis")
MAX_GROUPS = 5000
SIDES = (("baseline", "base"), ("mine", "mine"))  # a source's flag, the prefix of its figures


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a KPI request asks for: groups by `keys` (dimensions or flags), without the rows of `excluded` flags.

    `most` are the groups that it may have, MAX_GROUPS unless said otherwise.
    """

    listing: Listing
    keys: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    most: int = msgspec.field(default_factory=lambda: MAX_GROUPS)


class FigureComposer(View):
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
