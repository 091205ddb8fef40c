"""A question that was read: every name found, every value of its type. What composes and explains it starts here."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from app.contracts.filters import Condition
from app.contracts.shape import FieldType
from app.engine.query.catalogue import AcceptedJoin, Queryable
from app.engine.query.model import Function, JoinType, Query


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One dataset of a question. The root has no join.

    `place`: which one it is, from 0; `dataset`: as it was asked for, maybe by a version; `beside`: the place of the
    source that it is joined to; `to_one`: whether it has
    one row at most for each of that. `branch`: the place of the source at whose grain it is: 0, or that of the to-many
    join by which it hangs from the root.
    """

    place: int
    dataset: str
    alias: str
    of: Queryable
    join: AcceptedJoin | None = None
    type: JoinType = "left"
    beside: int = 0
    to_one: bool = True
    branch: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Its own side of the join."""
        assert self.join is not None, "the root has none"
        return self.join.parent_fields if self.to_one else self.join.child_fields

    @property
    def others(self) -> tuple[str, ...]:
        """The other side's."""
        assert self.join is not None, "the root has none"
        return self.join.child_fields if self.to_one else self.join.parent_fields


class Column(msgspec.Struct, frozen=True):
    """A field of a source; `name` is how it is asked for, and called in answers."""

    source: int
    field: str
    type: FieldType
    name: str
    label: str


class Leaf(msgspec.Struct, frozen=True):
    """A condition on a column."""

    column: Column
    condition: Condition


class Group(msgspec.Struct, frozen=True):
    """Conditions together: all of them, one at least, or not the one."""

    kind: Literal["and", "or", "not"]
    parts: tuple["Leaf | Group", ...]


Filter = Leaf | Group


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate; a count of rows has no column. `source`: at whose grain it is taken."""

    name: str
    label: str
    function: Function
    column: Column | None
    source: int
    type: FieldType


class Order(msgspec.Struct, frozen=True):
    """One sort key: the place of a column of the answer, or of a field that a listing does not show."""

    by: "Column | Figure"
    descending: bool


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question. A listing has columns; else there are figures, by the columns `keys`.

    `filters`: of the rows; `branch_filters`: of a branch's, by its place. `query`: its normal form on the wire.
    `drafted`: the datasets in which the caller has modifications, None where that is not known.
    """

    sources: tuple[Source, ...]
    columns: tuple[Column, ...]
    keys: tuple[Column, ...]
    figures: tuple[Figure, ...]
    filters: tuple[Filter, ...]
    branch_filters: dict[int, tuple[Filter, ...]]
    order: tuple[Order, ...]
    limit: int
    query: Query
    drafted: frozenset[str] | None = None

    @property
    def listing(self) -> bool:
        """Whether rows are asked for, and no figures."""
        return not self.figures

    @property
    def shown(self) -> tuple[Column | Figure, ...]:
        """The columns of the answer, in their order."""
        return self.columns if self.listing else (*self.keys, *self.figures)

    @property
    def branches(self) -> tuple[Source, ...]:
        """The sources by which others hang from the root to-many."""
        return tuple(source for source in self.sources if source.branch == source.place != 0)

    def used(self, place: int) -> list[str]:
        """The fields of a source that are looked at, each once, `id` among them where it is."""
        columns = [*self.columns, *self.keys, *(figure.column for figure in self.figures if figure.column)]
        columns += [order.by for order in self.order if isinstance(order.by, Column)]
        for each in (*self.filters, *(part for parts in self.branch_filters.values() for part in parts)):
            columns += [leaf.column for leaf in leaves(each)]
        names = [column.field for column in columns if column.source == place]
        for source in self.sources[1:]:
            names += source.fields if source.place == place else ()
            names += source.others if source.beside == place else ()
        return list(dict.fromkeys(names))


def leaves(each: Filter) -> Iterator[Leaf]:
    """All conditions in it."""
    if isinstance(each, Leaf):
        yield each
        return
    for part in each.parts:
        yield from leaves(part)
