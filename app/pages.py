"""From a checked Listing to the statement of its page: sql/rows/read_page.sql, markers filled, arguments placed.

How much of the caller's modifications "covers" its rows, and so has to leave arm one and go through arm two, depends on
what the listing looks at:

    indexed fields               those whose index image differs: the columns leaves and lands know it
    search                       also those whose search text differs: reworded knows it
    a field without an index     also those that touch the field
    syncState                    all of them
"""

import hashlib
from typing import Any

import msgspec
from asyncpg import Record

from app.contracts.filters import Arguments, Listing, Predicate, Sort, parse, place
from app.contracts.filters import field_type as type_of
from app.contracts.model import SQL_TYPES, Contract, snake
from app.contracts.validation import check_key
from app.db import Connection
from app.errors import InvalidCursor, RowNotFound
from app.queries import Statement, statement

READ_ROW = statement("rows/read_row")
READ_PAGE = statement("rows/read_page")
ESTIMATE_COUNT = statement("rows/estimate_count")

# The planner has to know how far the arms go, or it prepares to walk a tenth of the mirror. A literal for every page
# size would fill the statement cache, so there are two.
ARM_LIMITS = (101, 1001)

MERGED = "coalesce(m.data, '{}') || x.pending || x.delta"
JOIN_MIRROR = """
      LEFT JOIN LATERAL (
               SELECT m.row_key, m.data, m.search
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = x.row_key
                LIMIT 1
           ) AS m ON TRUE"""
JOIN_DOCUMENT = f"""
     CROSS JOIN LATERAL (SELECT {MERGED} AS doc OFFSET 0) AS d"""
OVERLAP = """concat(',"overlap":', (
               SELECT coalesce(json_agg(json_build_object(
                          'userId', c.user_id, 'state', c.state, 'op', c.op,
                          'fields', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                       FROM jsonb_object_keys(c.delta) AS name),
                          'since', vanguard.utc(c.created_at)) ORDER BY c.id), '[]')
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = p.row_key AND c.user_id <> $3
                  AND c.state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error')))"""


async def read_row(connection: Connection, contract: Contract, organization: str, user: str, key: str) -> Record:
    """One row of the caller's view (body, doc, version, op); raises RowNotFound."""
    record = None
    if check_key(key) is None:
        record = await connection.row(READ_ROW.within(contract.schema), organization, user, key)
    if record is None:
        raise RowNotFound(f"There is no row {key[:80]!r} in your view.")
    return record


class Cursor(msgspec.Struct, frozen=True):
    """A position in a sort order: the sort values of the last row as text, and its id."""

    values: tuple[str | None, ...]
    key: str


class Page(msgspec.Struct, frozen=True):
    """A composed statement with its arguments."""

    statement: Statement
    arguments: list[Any]


class Composer:
    """Composes the statements of one listing; made anew for each request."""

    def __init__(self, contract: Contract, listing: Listing, organization: str, dataset: str, user: str):
        self.contract = contract
        self.listing = listing
        self.fixed = (organization, dataset, user)
        self.user = user
        self.order = (*listing.sort, *(() if any(s.field == "id" for s in listing.sort) else (Sort("id"),)))
        self.keys = [sort for sort in self.order if sort.field != "id"]
        looked_at = {c.field for c in listing.conditions} | {s.field for s in listing.sort}
        self.unindexed = sorted(name for name in looked_at if name != "id" and name not in contract.column_of)

    # -- columns: what an arm has for a field -------------------------------------------------------------------------

    def _mirror(self, name: str) -> str:
        if name == "id":
            return "m.row_key"
        column = self.contract.column_of.get(name)
        return f"m.f_{column.name}" if column else self.contract.reader(name, "m.data")

    def _before(self, name: str) -> str:
        if name == "id":
            return "x.row_key"
        column = self.contract.column_of.get(name)
        return f"x.b_{column.name}" if column else self.contract.reader(name, "m.data")

    def _after(self, name: str) -> str:
        if name == "id":
            return "x.row_key"
        column = self.contract.column_of.get(name)
        return f"x.a_{column.name}" if column else self.contract.reader(name, "d.doc")

    # -- the statement ------------------------------------------------------------------------------------------------

    def page(self, cursor: Cursor | None, *, counted: bool, base_count: bool) -> Page:
        """The page's statement; `counted`: with what the covering modifications do to the total, `base_count`: and with
        the mirror's own count.
        """
        listing, contract = self.listing, self.contract
        offset = 0 if cursor else (listing.page - 1) * listing.page_size
        arguments = Arguments(*self.fixed, offset, listing.page_size)
        self._place(arguments)
        self._place_covering(arguments)
        order = ", ".join(
            f"{'row_key' if sort.field == 'id' else self._alias(sort)}{' DESC' if sort.descending else ''}"
            for sort in self.order
        )
        document = "d.doc"
        if listing.fields:
            document = f"vanguard.pick(d.doc, {arguments.add(list(listing.fields), 'jsonb')})"
        keys = self._keys(arguments, order, cursor, offset)
        text = READ_PAGE.fill(
            left=self._conjunction([self._left(), *self._filter(self._before, "m.search")]),
            landed=self._conjunction([self._lands(), *self._filter(self._after, "x.a_search"), *self._states]),
            covering_join=self._joins(),
            covers=self._covers(),
            keys=keys,
            order=order,
            sort_values=", ".join(f"{self._alias(sort)}::text" for sort in self.keys),
            document=document,
            overlap=OVERLAP if listing.overlap else "NULL",
            base_count=self._base_count() if base_count else "NULL::bigint",
            # What leaves is taken from the mirror's count, and there is none where the mirror is not read.
            left_count="(SELECT count(*) FROM covering AS c WHERE c.left_filter)"
            if counted and self.reads_mirror
            else "0::bigint",
            landed_count="(SELECT count(*) FROM covering AS c WHERE c.landed_filter)" if counted else "0::bigint",
        )
        return Page(text.within(contract.schema), arguments.values)

    def estimate(self) -> Page:
        """The statement whose plan estimates the mirror's count."""
        arguments = Arguments(self.fixed[0])
        self._place(arguments)
        conditions = self._conjunction(self._filter(self._mirror, "m.search"))
        return Page(ESTIMATE_COUNT.fill(filter=conditions).within(self.contract.schema), arguments.values)

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

    def _place(self, arguments: Arguments) -> None:
        self._predicates: list[Predicate] = place(self.contract, self.listing.conditions, arguments)
        self._search = None
        if self.listing.search is not None:
            self._search = f"LIKE vanguard.search_pattern({arguments.add(self.listing.search, 'text')})"
        self._states: list[str] = []
        self._touches = ""

    def _place_covering(self, arguments: Arguments) -> None:
        """What only the arms and counts of modifications look at."""
        if self.listing.sync_states:
            wanted = [state for state in self.listing.sync_states if state != "pristine"]
            self._states = [f"x.sync_state = ANY ({arguments.add(wanted, 'text[]')})"]
        elif self.unindexed:
            fields = arguments.add(self.unindexed, "text[]")
            self._touches = f"(x.pending ?| {fields} OR x.delta ?| {fields})"

    @property
    def reads_mirror(self) -> bool:
        """Whether rows without a modification are wanted at all."""
        return not self.listing.sync_states or "pristine" in self.listing.sync_states

    @staticmethod
    def _alias(sort: Sort) -> str:
        return f"s_{snake(sort.field)}"

    @staticmethod
    def _conjunction(parts: list[str]) -> str:
        return " AND ".join(parts) or "TRUE"

    def _filter(self, column: Any, search: str) -> list[str]:
        return [
            *(predicate.on(column) for predicate in self._predicates),
            *([f"{search} {self._search}"] if self._search else []),
        ]

    @property
    def _in_place(self) -> str:
        """Which modifications that are merged in place cover their rows all the same, in this listing; "" for none."""
        if self.listing.sync_states:
            return "TRUE"
        return " OR ".join([*(["x.reworded"] if self._search else []), *([self._touches] if self._touches else [])])

    def _covers(self) -> str:
        return f"(x.leaves OR x.lands OR {self._in_place})" if self._in_place else "(x.leaves OR x.lands)"

    def _leaves(self) -> str:
        """The modifications of mirror rows that arm one must skip."""
        return f"(x.leaves OR {self._in_place})" if self._in_place else "x.leaves"

    def _left(self) -> str:
        """The modifications whose rows the mirror's count has too much."""
        return f"m.row_key IS NOT NULL AND {self._leaves()}" if self._in_place else "x.leaves"

    def _lands(self) -> str:
        """The modifications that arm two yields. One merged in place has a row in the mirror, and does not leave it."""
        if not self._in_place:
            return "x.lands"
        return f"(x.lands OR NOT x.leaves AND m.row_key IS NOT NULL AND ({self._in_place}))"

    def _joins(self) -> str:
        joins = JOIN_MIRROR if self._in_place else ""
        return joins + (JOIN_DOCUMENT if self.unindexed else "")

    def _base_count(self) -> str:
        if not self.reads_mirror:
            return "0::bigint"
        conditions = self._conjunction(["m.organization_id = $1", *self._filter(self._mirror, "m.search")])
        return f"(SELECT count(*) FROM pfa.mirror AS m WHERE {conditions})"

    def _keys(self, arguments: Arguments, order: str, cursor: Cursor | None, offset: int) -> str:
        reach = offset + self.listing.page_size + 1
        limit = next((str(limit) for limit in ARM_LIMITS if reach <= limit), "$4::bigint + $5::bigint + 1")
        steps = self._steps(arguments, cursor)
        arms = []
        for step in steps:
            if self.reads_mirror:
                conditions = [
                    "m.organization_id = $1",
                    *self._filter(self._mirror, "m.search"),
                    *(condition.on(self._mirror) for condition in step),
                    "NOT EXISTS (SELECT FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $3"
                    f" AND x.row_key = m.row_key AND {self._leaves()})",
                ]
                arms.append(self._arm(self._mirror, "pfa.mirror AS m", "m.row_key", conditions, order, limit))
        for step in steps:
            conditions = [
                "x.organization_id = $1 AND x.user_id = $3",
                self._lands(),
                *self._filter(self._after, "x.a_search"),
                *self._states,
                *(condition.on(self._after) for condition in step),
            ]
            source = "pfa.modification AS x"
            if self._in_place:
                source += JOIN_MIRROR
            if self.unindexed:
                source += JOIN_DOCUMENT
            arms.append(self._arm(self._after, source, "x.row_key", conditions, order, limit))
        return "\n    UNION ALL\n    ".join(arms)

    def _arm(self, column: Any, source: str, key: str, conditions: list[str], order: str, limit: str) -> str:
        columns = ", ".join(
            [*(f"{column(sort.field)} AS {self._alias(sort)}" for sort in self.keys), f"{key} AS row_key"]
        )
        where = "\n        AND ".join(conditions)
        return f"(SELECT {columns}\n       FROM {source}\n      WHERE {where}\n      ORDER BY {order} LIMIT {limit})"

    def _steps(self, arguments: Arguments, cursor: Cursor | None) -> list[list[Predicate]]:
        """The rows beyond a cursor as disjoint steps, so that each is a range of an index and NULLs have their place:
        equal on the keys before i and beyond on key i, for each i. Without a cursor, one step without conditions.
        """
        if cursor is None:
            return [[]]
        if len(cursor.values) != len(self.keys):
            raise InvalidCursor("The cursor belongs to another sort. Start again without it.")
        values = dict(zip((sort.field for sort in self.keys), self.cursor_values(cursor.values), strict=True))
        values["id"] = cursor.key
        steps: list[list[Predicate]] = []
        equal: list[Predicate] = []
        for sort in self.order:
            value = values[sort.field]
            if value is None:
                beyond = ["{c} IS NOT NULL"] if sort.descending else []
                same = "{c} IS NULL"
            else:
                kind = type_of(self.contract, sort.field)
                assert kind is not None
                parameter = arguments.add(value, SQL_TYPES[kind])
                beyond = [f"{{c}} < {parameter}"] if sort.descending else [f"{{c}} > {parameter}", "{c} IS NULL"]
                same = f"{{c}} = {parameter}"
            if sort.field == "id":
                beyond = beyond[:1]
            steps += [[*equal, Predicate(sort.field, template)] for template in beyond]
            equal = [*equal, Predicate(sort.field, same)]
        return steps


def _digest(*parts: object) -> bytes:
    """A short key for a cache, however long the filters are."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
