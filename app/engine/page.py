"""From a checked Listing to the statement of its page: sql/rows/read_page.sql, markers filled, arguments placed.

Arm one reads the mirror without the rows that the caller's modifications cover, arm two those modifications.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from app.base.errors import InvalidCursor
from app.base.statements import statement
from app.contracts.filters import Listing, Sort, parse
from app.contracts.filters import field_type as type_of
from app.contracts.model import SQL_TYPES, Contract, snake
from app.engine.predicates import Arguments, Predicate
from app.engine.view import Composed, View, conjunction

READ_PAGE = statement("rows/read_page")
ESTIMATE_COUNT = statement("rows/estimate_count")

# The planner has to know how far the arms go, or it prepares to walk a tenth of the mirror. A literal for every page
# size would fill the statement cache, so there are two.
ARM_LIMITS = (101, 1001)

# In an order that has indexes arm one walks so many times its limit with the documents at hand, then keys alone.
WALK = 5

IS_NULL = "{c} IS NULL"

OVERLAP = """concat(',"overlap":', (
               SELECT coalesce(json_agg(json_build_object(
                          'userId', c.user_id, 'state', c.state, 'op', c.op,
                          'fields', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                       FROM jsonb_object_keys(c.delta) AS name),
                          'since', vanguard.utc(c.created_at)) ORDER BY c.id), '[]')
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = p.row_key AND c.user_id <> $3
                  AND c.state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error')))"""


class Cursor(msgspec.Struct, frozen=True):
    """A position in a sort order: the sort values of the last row as text, and its id."""

    values: tuple[str | None, ...]
    key: str


class Behind(msgspec.Struct, frozen=True):
    """Behind a sort value and an id, both ascending: one range of an index. NULLs are not in it."""

    field: str
    value: str
    key: str

    def on(self, column: Callable[[str], str]) -> str:
        """SQL over the columns that an arm has."""
        return f"({column(self.field)}, {column('id')}) > ({self.value}, {self.key})"


Step = list[Predicate | Behind]


class PageComposer(View):
    """Composes the statements of one listing; made anew for each request."""

    def __init__(self, contract: Contract, listing: Listing, organization: str, dataset: str, user: str):
        looked_at = {c.field for c in listing.conditions} | {s.field for s in listing.sort}
        super().__init__(contract, listing, organization, dataset, user, looked_at)
        self.user = user
        self.order = (*listing.sort, *(() if any(s.field == "id" for s in listing.sort) else (Sort("id"),)))
        self.keys = [sort for sort in self.order if sort.field != "id"]

    # -- the statement ------------------------------------------------------------------------------------------------

    def page(self, cursor: Cursor | None, *, counted: bool, base_count: bool) -> Composed:
        """The page's statement; `counted`: with what the covering modifications do to the total, `base_count`: and with
        the mirror's own count.
        """
        listing, contract = self.listing, self.contract
        offset = 0 if cursor else (listing.page - 1) * listing.page_size
        arguments = Arguments(*self.fixed, offset, listing.page_size)
        self.place(arguments)
        self.place_covering(arguments)
        self._merged = self._is_merged()
        order = ", ".join(
            f"{'row_key' if sort.field == 'id' else self._alias(sort)}{' DESC' if sort.descending else ''}"
            for sort in self.order
        )
        document = "{}"
        if listing.fields:
            document = f"vanguard.pick({{}}, {arguments.add(list(listing.fields), 'jsonb')})"
        steps = self._steps(arguments, cursor)
        walked = None if offset or listing.overlap else self._walked(steps)
        limit = next((limit for limit in ARM_LIMITS if offset + listing.page_size < limit), None)
        text = READ_PAGE.fill(
            left=conjunction([self.left(), *self.filter(self.before, "m.search")]),
            landed=conjunction([self.lands(), *self.filter(self.after, "x.a_search"), *self.states]),
            covering_join=self.joins(),
            covers=self.covers(),
            walked_columns=", ".join([*(f"m.{self._alias(sort)}" for sort in self.keys), "m.row_key"]),
            walked_document=document.format("m.data"),
            mirror_columns=self._columns(self.mirror, "m.row_key"),
            walked="FALSE" if walked is None else conjunction(self._mirrored(walked)),
            walk=str(WALK * (limit or 0)),
            same=conjunction(self._same(walked or [], [f"m.{self._alias(sort)}" for sort in self.keys])),
            keys=self._keys(steps, walked, order, "$4::bigint + $5::bigint + 1" if limit is None else str(limit)),
            order=order,
            sort_values=", ".join(f"l.{self._alias(sort)}::text" for sort in self.keys),
            document=document.format("d.doc"),
            overlap=OVERLAP if listing.overlap else "NULL",
            base_count=self._base_count() if base_count else "NULL::bigint",
            # What leaves is taken from the mirror's count, and there is none where the mirror is not read.
            left_count="(SELECT count(*) FROM covering AS c WHERE c.left_filter)"
            if counted and self.reads_mirror
            else "0::bigint",
            landed_count="(SELECT count(*) FROM covering AS c WHERE c.landed_filter)" if counted else "0::bigint",
        )
        return Composed(text.within(contract.schema), arguments.values)

    def estimate(self) -> Composed:
        """The statement whose plan estimates the mirror's count."""
        arguments = Arguments(self.fixed[0])
        self.place(arguments)
        conditions = conjunction(self.filter(self.mirror, "m.search"))
        return Composed(ESTIMATE_COUNT.fill(filter=conditions).within(self.contract.schema), arguments.values)

    @property
    def base_shape(self) -> bytes:
        """What a base count depends on, beside the revision: the filters, not the user, the sort or the page."""
        conditions = tuple((c.field, c.op, repr(c.value)) for c in self.listing.conditions)
        return _digest(self.fixed[0], self.fixed[1], conditions, self.listing.search, self.reads_mirror)

    @property
    def view_shape(self) -> bytes:
        """What a total depends on, beside the revisions of dataset and workspace."""
        return _digest(self.base_shape, self.listing.sync_states, self.user)

    def cursor_values(self, texts: tuple[str | None, ...]) -> list[Any]:
        """The sort values of a cursor in their types; raises InvalidCursor when they are none."""
        values = []
        for sort, text in zip(self.keys, texts, strict=True):
            kind = type_of(self.contract, sort.field)
            assert kind is not None, "sort keys are checked when they are read"
            value = None if text is None else parse(kind, text)
            if value is None and text is not None:
                raise InvalidCursor("The cursor does not fit this sort. Start again without it.")
            values.append(value)
        return values

    # -- its parts ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _alias(sort: Sort) -> str:
        return f"s_{snake(sort.field)}"

    def _base_count(self) -> str:
        if not self.reads_mirror:
            return "0::bigint"
        conditions = conjunction(["m.organization_id = $1", *self.filter(self.mirror, "m.search")])
        return f"(SELECT count(*) FROM pfa.mirror AS m WHERE {conditions})"

    def _is_merged(self) -> bool:
        """Whether the mirror and the modifications by what they found have indexes of this order, and all that covers
        is in them. PostgreSQL merges such indexes only where they ascend.
        """
        if self.in_place or not self.reads_mirror or self.order[0].descending:
            return False
        return len(self.order) == 1 or any(
            self.order == (Sort(name), Sort("id")) for name in self.contract.merged_sorts
        )

    def _keys(self, steps: list[Step], walked: Step | None, order: str, limit: str) -> str:
        arms = []
        if walked is not None:
            columns = ", ".join(f"d.{self._alias(sort)}" for sort in self.keys)
            arms.append(
                f"(SELECT {columns}{', ' if columns else ''}d.row_key, d.row"
                "\n       FROM direct AS d\n      WHERE NOT (SELECT w.cut FROM walk AS w))"
            )
        for step in self._of_mirror(steps):
            conditions = self._mirrored(step)
            if walked is not None and step == walked:
                conditions.append("(SELECT w.cut FROM walk AS w)")
            elif walked is not None:
                conditions.append("(SELECT w.ended FROM walk AS w)")
            conditions.append(self._uncovered(step))
            arms.append(self._arm(self.mirror, "pfa.mirror AS m", "m.row_key", conditions, order, limit))
        for step in steps:
            conditions = [
                "x.organization_id = $1 AND x.user_id = $3",
                self.lands(),
                *self.filter(self.after, "x.a_search"),
                *self.states,
                *(condition.on(self.after) for condition in step),
            ]
            source = f"pfa.modification AS x{self.joins()}"
            arms.append(self._arm(self.after, source, "x.row_key", conditions, order, limit))
        return "\n    UNION ALL\n    ".join(arms)

    def _arm(
        self, column: Callable[[str], str], source: str, key: str, conditions: list[str], order: str, limit: str
    ) -> str:
        where = "\n        AND ".join(conditions)
        return (
            f"(SELECT {self._columns(column, key)}, NULL::text AS row\n       FROM {source}\n      WHERE {where}"
            f"\n      ORDER BY {order} LIMIT {limit})"
        )

    def _columns(self, column: Callable[[str], str], key: str) -> str:
        return ", ".join([*(f"{column(sort.field)} AS {self._alias(sort)}" for sort in self.keys), f"{key} AS row_key"])

    def _mirrored(self, step: Step) -> list[str]:
        """The mirror's rows of a step."""
        return [
            "m.organization_id = $1",
            *self.filter(self.mirror, "m.search"),
            *(condition.on(self.mirror) for condition in step),
        ]

    def _of_mirror(self, steps: list[Step]) -> list[Step]:
        """The steps as arm one takes them. Where it is joined on the sort key, those without it stand apart: no NULL
        equals another.
        """
        if not self.reads_mirror:
            return []
        if steps != [[]] or not self._merged or not self.keys:
            return steps
        return [[Predicate(self.keys[0].field, template)] for template in ("{c} IS NOT NULL", IS_NULL)]

    def _walked(self, steps: list[Step]) -> Step | None:
        """The step that arm one walks with the documents at hand: the only one with sort values."""
        found = [step for step in self._of_mirror(steps) if not self._is_null(step)]
        return found[0] if self._merged and len(found) == 1 else None

    def _is_null(self, step: Step) -> bool:
        """Whether the rows of the step are those without a sort value."""
        return any(isinstance(condition, Predicate) and condition.template == IS_NULL for condition in step)

    def _uncovered(self, step: Step) -> str:
        """Not a row that a modification covers."""
        found = "SELECT{} FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $3 AND {}"
        if not self._merged:
            return f"NOT EXISTS ({found.format('', f'x.row_key = m.row_key AND {self.leaves()}')})"
        if self._is_null(step):
            left = conjunction(["x.leaves", *(condition.on(self.before) for condition in step)])
            return f"m.row_key NOT IN ({found.format(' x.row_key', left)})"
        same = conjunction(["x.leaves", *self._same(step, [self.mirror(sort.field) for sort in self.keys])])
        return f"NOT EXISTS ({found.format('', same)})"

    def _same(self, step: Step, keys: list[str]) -> list[str]:
        """The modification x of the row m, whose sort keys are given, by both sides' place in the index of the order:
        so the two are merged, and neither is probed for the other's rows.
        """
        return [
            *(condition.on(self.before) for condition in step),
            *(f"{self.before(sort.field)} = {key}" for sort, key in zip(self.keys, keys, strict=True)),
            "x.row_key = m.row_key",
        ]

    def _steps(self, arguments: Arguments, cursor: Cursor | None) -> list[Step]:
        """The rows beyond a cursor as disjoint steps, so that each is a range of an index and NULLs have their place:
        equal on the keys before i and beyond on key i, for each i. The last key and the id are one range where both
        ascend. Without a cursor, one step without conditions.
        """
        if cursor is None:
            return [[]]
        if len(cursor.values) != len(self.keys):
            raise InvalidCursor("The cursor belongs to another sort. Start again without it.")
        values = dict(zip((sort.field for sort in self.keys), self.cursor_values(cursor.values), strict=True))
        values["id"] = cursor.key
        steps: list[Step] = []
        equal: Step = []
        for place, sort in enumerate(self.order, start=1):
            value = values[sort.field]
            if value is None:
                beyond = ["{c} IS NOT NULL"] if sort.descending else []
                same = IS_NULL
            else:
                kind = type_of(self.contract, sort.field)
                assert kind is not None
                parameter = arguments.add(value, SQL_TYPES[kind])
                if self.order[place:] == (Sort("id"),) and not sort.descending:
                    behind = Behind(sort.field, parameter, arguments.add(cursor.key, "text"))
                    return [*steps, [*equal, behind], [*equal, Predicate(sort.field, IS_NULL)]]
                beyond = [f"{{c}} < {parameter}"] if sort.descending else [f"{{c}} > {parameter}", IS_NULL]
                same = f"{{c}} = {parameter}"
            if sort.field == "id":
                beyond = beyond[:1]
            steps += [[*equal, Predicate(sort.field, template)] for template in beyond]
            equal = [*equal, Predicate(sort.field, same)]
        return steps


def _digest(*parts: object) -> bytes:
    """A short key for a cache, however long the filters are."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
