"""A question as the wire has it, structured: POST query/preview takes it, and answers with its normal form."""

from typing import Annotated, Any, Literal

import msgspec

from app.contracts.shape import Name

JoinType = Literal["left", "inner"]
Function = Literal["count", "countDistinct", "sum", "average", "min", "max"]

MOST_JOINS = 8
MOST_COLUMNS = 100  # of groups, and of figures
MOST_FIELDS = 1000  # of rows: a dataset can have more than one would name
MOST_ORDER = 5
# How deep `or` and `not` lie in one another; a setting bounds how many conditions there are.
DEEPEST = 10

# `field` of the dataset that is asked about, `alias.field` of one that is joined, `id` being the row's.
FieldName = Annotated[str, msgspec.Meta(min_length=1, max_length=130)]
OrderKey = Annotated[str, msgspec.Meta(min_length=1, max_length=131)]
DatasetName = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
# Where nobody says it, it is the dataset's name.
Alias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_@]{0,62}\Z")]


class QueryJoin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True,
                rename={"alias": "as", "from_": "from"}):  # fmt: skip
    """One dataset more, by an accepted join.

    `alias`: what its fields are called by, the dataset's name where it is left out. `from_`: the alias that it is
    joined to, the dataset that is asked about where it is left out. `join`: the accepted join's id; it has to be said
    where there are several between the two. `type`: `left` keeps rows that have no partner, `inner` does not.
    """

    dataset: DatasetName
    alias: Alias | None = None
    from_: Alias | None = None
    join: Annotated[str, msgspec.Meta(max_length=36)] | None = None
    type: JoinType = "left"


class QueryAggregate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One figure of each group. `count` without a field counts rows, with one its values."""

    name: Name
    function: Function
    field: FieldName | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A question: either `fields` of rows, or `aggregates`, of all rows or by `group_by`.

    `filters` are as in POST D/rows/search: `{field: value | {op: value}}`, conjoined; besides `and`, `or` (lists of
    such objects) and `not` (one of them). `order` names fields or aggregates, `-` before it for descending.
    """

    dataset: DatasetName
    fields: Annotated[tuple[FieldName, ...], msgspec.Meta(max_length=MOST_FIELDS)] = ()
    filters: dict[str, Any] = msgspec.field(default_factory=dict)
    joins: Annotated[tuple[QueryJoin, ...], msgspec.Meta(max_length=MOST_JOINS)] = ()
    group_by: Annotated[tuple[FieldName, ...], msgspec.Meta(max_length=MOST_COLUMNS)] = ()
    aggregates: Annotated[tuple[QueryAggregate, ...], msgspec.Meta(max_length=MOST_COLUMNS)] = ()
    order: Annotated[tuple[OrderKey, ...], msgspec.Meta(max_length=MOST_ORDER)] = ()
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
