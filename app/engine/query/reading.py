"""What is asked, held against the catalogue: every name is looked up, every value read in its field's type.

    sources     the dataset and those that are joined
    conditions  filters.py of this wing
    columns, figures, order

Errors say where in the question they are: `joins[1].dataset`, `filters.or[0].mileage`.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from app.base.errors import AmbiguousJoin, DatasetNotFound, GroupByMissing
from app.contracts.filters import Bounds
from app.contracts.model import SQL_TYPES
from app.contracts.shape import FieldType
from app.engine.datasets import base_of
from app.engine.query import grain, normal
from app.engine.query.catalogue import AcceptedJoin, Catalogue, Queryable
from app.engine.query.conditions import read_filters
from app.engine.query.faults import Faults, invalid
from app.engine.query.model import Function, Query, QueryAggregate, QueryJoin
from app.engine.query.names import Names
from app.engine.query.question import Column, Figure, Order, Question, Source

MEASURED: dict[Function, str] = {"sum": "a number", "average": "a number"}
SUMMED = ("number", "integer")
NUMBERS = {"numeric", "bigint"}


def read_query(query: Query, catalogue: Catalogue, bounds: Bounds, most_rows: int) -> Question:
    """The question; `most_rows` are those of an answer.

    Raises InvalidQuery, DatasetNotFound, AmbiguousJoin, GroupByMissing and FanOut.
    """
    sources = _sources(query, catalogue)
    names = Names(sources)
    faults = Faults()
    figures = faults.each(query.aggregates, "aggregates", partial(_figure, names))
    if query.group_by and not query.aggregates:
        raise invalid("groupBy", "it goes with aggregates. For the different values alone, count them.")
    keys = faults.each(query.group_by, "groupBy", names.column)
    fields = faults.each(_fields(query, names), "fields", names.column)
    read = read_filters(query.filters, names, bounds, faults)
    faults.check()
    if query.aggregates:
        _check_grouped(fields, keys)
    columns = () if query.aggregates else fields
    _check_names(columns or (*keys, *figures))
    filters, branch_filters = grain.apart(sources, bool(figures), read)
    order = faults.each(query.order, "order", partial(_order, names, (*columns, *keys, *figures), bool(figures)))
    faults.check()
    question = Question(
        sources=sources,
        columns=columns,
        keys=keys,
        figures=figures,
        filters=filters,
        branch_filters=branch_filters,
        order=order,
        limit=_limit(query, most_rows),
        query=query,
    )
    grain.check(question)
    return msgspec.structs.replace(question, query=normal.written(question, query))


def _check_grouped(fields: Sequence[Column], keys: Sequence[Column]) -> None:
    """Fields beside aggregates are those of its groups, however they are written."""
    missing = [column.name for column in fields if column not in keys]
    if missing:
        raise GroupByMissing(
            f"Beside aggregates, and not in groupBy: {', '.join(missing[:5])}. Group by it, or leave it out.",
            errors=[invalid("fields", "a field beside aggregates is one of groupBy.").errors[0]],
        )


def _limit(query: Query, most: int) -> int:
    if query.limit is not None and query.limit > most:
        raise invalid("limit", f"at most {most:,} rows (VANGUARD_MAX_QUERY_ROWS). An export has more.")
    return most if query.limit is None else query.limit


# -- sources ----------------------------------------------------------------------------------------------------------


def _sources(query: Query, catalogue: Catalogue) -> tuple[Source, ...]:
    sources = [
        Source(place=0, dataset=query.dataset, alias=query.dataset, of=_dataset(catalogue, query.dataset, "dataset"))
    ]
    for number, join in enumerate(query.joins):
        sources.append(_joined(sources, join, catalogue, f"joins[{number}]"))
    return tuple(sources)


def _dataset(catalogue: Catalogue, name: str, path: str) -> Queryable:
    found = catalogue.datasets.get(name)
    if found is None:
        raise DatasetNotFound(f"{path}: no dataset is called {name[:80]!r} here, or it cannot be queried.")
    return found


def _joined(sources: Sequence[Source], wanted: QueryJoin, catalogue: Catalogue, path: str) -> Source:
    of = _dataset(catalogue, wanted.dataset, f"{path}.dataset")
    alias = wanted.alias or wanted.dataset
    by_alias = {source.alias: source for source in sources}
    if alias in by_alias:
        raise invalid(f"{path}.as", f"{alias!r} is another dataset of this question already. Say `as`.")
    beside = by_alias.get(wanted.from_ or sources[0].alias)
    if beside is None:
        known = ", ".join(by_alias)
        raise invalid(f"{path}.from", f"{(wanted.from_ or '')[:80]!r} is none of {known}, which come before.")
    join = _pick(catalogue, beside, wanted, path)
    # Of a dataset with itself the way is to the one.
    to_one = join.child == base_of(beside.of.contract.name)
    _check_fields(join, beside.of if to_one else of, of if to_one else beside.of, f"{path}.join")
    place = len(sources)
    if to_one:
        branch = beside.branch
    elif beside.place == 0:
        branch = place
    else:
        raise grain.fan_out(
            f"{alias} has many rows for each of {beside.alias}, which is joined itself. Ask about {beside.alias}, or "
            f"about {alias}, and join the others to that."
        )
    return Source(
        place=place,
        dataset=wanted.dataset,
        alias=alias,
        of=of,
        join=join,
        type=wanted.type,
        beside=beside.place,
        to_one=to_one,
        branch=branch,
    )


def _check_fields(join: AcceptedJoin, child: Queryable, parent: Queryable, path: str) -> None:
    """Versions have come since it was accepted: a field can be gone, or be of another type."""
    for side, fields in ((child.contract, join.child_fields), (parent.contract, join.parent_fields)):
        for name in fields:
            if name not in side.by_name:
                raise invalid(
                    path,
                    f"{side.name} {side.version} has no field {name!r}, which the join goes by. Accept another one.",
                )
    for one, other in zip(join.child_fields, join.parent_fields, strict=True):
        kinds = {SQL_TYPES[child.contract.types[one]], SQL_TYPES[parent.contract.types[other]]}
        if len(kinds) > 1 and not kinds <= NUMBERS:
            raise invalid(
                path, f"{one} and {other}, which the join goes by, are of unlike types by now. Accept another."
            )


def _pick(catalogue: Catalogue, beside: Source, wanted: QueryJoin, path: str) -> AcceptedJoin:
    pair = {base_of(beside.of.contract.name), base_of(wanted.dataset)}
    found = [join for join in catalogue.joins if {join.child, join.parent} == pair]
    if wanted.join is not None:
        named = next((join for join in found if join.id == wanted.join), None)
        if named is None:
            raise invalid(f"{path}.join", f"no accepted join of {' and '.join(sorted(pair))} has this id.")
        return named
    if not found:
        raise invalid(
            f"{path}.dataset",
            f"nobody has accepted a join of {' and '.join(sorted(pair))}. GET joins/candidates suggests some.",
        )
    if len(found) > 1:
        choices = "; ".join(f"{join.id} ({_condition(join)})" for join in found[:10])
        raise AmbiguousJoin(f"{path}: {len(found)} joins lead there. Name one as `join`: {choices}.")
    return found[0]


def _condition(join: AcceptedJoin) -> str:
    pairs = zip(join.child_fields, join.parent_fields, strict=True)
    return " and ".join(f"{join.child}.{child} = {join.parent}.{parent}" for child, parent in pairs)


# -- columns, figures, order ------------------------------------------------------------------------------------------


def _fields(query: Query, names: Names) -> tuple[str, ...]:
    if query.fields or query.aggregates:
        return query.fields
    return ("id", *names.sources[0].of.contract.by_name)


def _check_names(shown: Sequence[Column | Figure]) -> None:
    """Columns of an answer have a name each."""
    seen = set[str]()
    for each in shown:
        if each.name in seen:
            raise invalid("fields" if isinstance(each, Column) else "aggregates", f"{each.name!r} is asked for twice.")
        seen.add(each.name)


def _figure(names: Names, wanted: QueryAggregate, path: str) -> Figure:
    if wanted.field is None:
        if wanted.function != "count":
            raise invalid(f"{path}.field", f"{wanted.function} is of a field. Only a count can be of rows.")
        return Figure(name=wanted.name, label=wanted.name, function="count", column=None, source=0, type="integer")
    column = names.column(wanted.field, f"{path}.field")
    return Figure(
        name=wanted.name,
        label=wanted.name,
        function=wanted.function,
        column=column,
        source=column.source,
        type=_type_of(wanted.function, column, path),
    )


def _type_of(function: Function, column: Column, path: str) -> FieldType:
    if function in ("count", "countDistinct"):
        return "integer"
    if function in MEASURED and column.type not in SUMMED:
        raise invalid(f"{path}.function", f"{function} is of numbers, and {column.name} is a {column.type}.")
    if column.type == "boolean":
        raise invalid(f"{path}.function", f"{column.name} is a boolean, which has no order.")
    if function == "average":
        return "number"
    return "text" if SQL_TYPES[column.type] == "text" else column.type


def _order(names: Names, shown: Sequence[Column | Figure], grouped: bool, wanted: str, path: str) -> Order:
    name, descending = wanted.removeprefix("-"), wanted.startswith("-")
    found = next((each for each in shown if each.name == name), None)
    if found is not None:
        return Order(found, descending)
    column = names.column(name, path)
    if grouped and column not in shown:
        raise invalid(path, f"{name!r} is neither in groupBy nor an aggregate of this question.")
    return Order(column, descending)
