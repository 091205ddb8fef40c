"""The normal form of a question: the same for all ways to ask it, and read again as the same question."""

import datetime
from decimal import Decimal
from typing import Any

from app.contracts.values import write_datetime, write_number
from app.engine.query.model import Query, QueryAggregate, QueryJoin
from app.engine.query.question import Column, Filter, Leaf, Question

# What no filter's field can be called without the dataset's name before it.
GROUPS = ("and", "or", "not")


def written(question: Question, query: Query) -> Query:
    """The question on the wire, with nothing left to be understood."""
    sources = question.sources
    filters = (*question.filters, *(part for parts in question.branch_filters.values() for part in parts))
    return Query(
        dataset=query.dataset,
        fields=tuple(column.name for column in question.columns),
        filters=_members(question, filters),
        joins=tuple(
            QueryJoin(
                dataset=source.dataset,
                alias=source.alias,
                from_=sources[source.beside].alias,
                join=source.join.id if source.join else None,
                type=source.type,
            )
            for source in sources[1:]
        ),
        group_by=tuple(column.name for column in question.keys),
        aggregates=tuple(
            QueryAggregate(
                name=figure.name, function=figure.function, field=figure.column.name if figure.column else None
            )
            for figure in question.figures
        ),
        order=tuple(f"{'-' if order.descending else ''}{order.by.name}" for order in question.order),
        limit=question.limit,
    )


def _members(question: Question, filters: tuple[Filter, ...]) -> dict[str, Any]:
    """Conjoined filters as an object; what it has no room for stands under `and`."""
    found: dict[str, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    for each in sorted(filters, key=_sorted_by):
        if isinstance(each, Leaf):
            name, (op, value) = _name(question, each.column), _operator(each)
            if op in found.setdefault(name, {}):
                groups.append({name: _shortest({op: value})})
            else:
                found[name][op] = value
        else:
            groups.append(_group(question, each))
    members: dict[str, Any] = {name: _shortest(operators) for name, operators in found.items()}
    for kind in GROUPS[1:]:
        same = [group for group in groups if kind in group]
        if len(same) == 1:
            groups.remove(same[0])
            members |= same[0]
    return members | ({"and": groups} if groups else {})


def _group(question: Question, each: Filter) -> dict[str, Any]:
    if isinstance(each, Leaf):
        return _members(question, (each,))
    if each.kind == "and":
        return _members(question, each.parts)
    parts = sorted(each.parts, key=_sorted_by)
    if each.kind == "not":
        return {"not": _group(question, parts[0])}
    return {"or": [_group(question, part) for part in parts]}


def _sorted_by(each: Filter) -> str:
    """Some order, the same for all ways to ask."""
    if isinstance(each, Leaf):
        op, value = _operator(each)
        return f"0 {each.column.source} {each.column.field} {op} {value!r}"
    return f"1 {each.kind} {' '.join(sorted(map(_sorted_by, each.parts)))}"


def _name(question: Question, column: Column) -> str:
    return f"{question.sources[0].alias}.{column.name}" if column.name in GROUPS else column.name


def _operator(leaf: Leaf) -> tuple[str, Any]:
    """As a filter has it: equality with one of several is a list, `in` by itself."""
    condition = leaf.condition
    value = condition.value
    if isinstance(value, list):
        values = sorted(dict.fromkeys(map(_value, value)), key=repr)
        if condition.op == "in" and len(values) == 1:
            return "eq", values[0]
        return condition.op, values
    return condition.op, _value(value)


def _shortest(operators: dict[str, Any]) -> Any:
    match operators:
        case {"eq": value, **others} if not others:
            return value
        case {"in": value, **others} if not others:
            return value
        case {"isnull": True, **others} if not others:
            return None
    return operators


def _value(value: Any) -> Any:
    match value:
        case datetime.datetime():
            return write_datetime(value)
        case datetime.date():
            return value.isoformat()
        case Decimal():
            return Decimal(write_number(value))
    return value
