"""Corrections: what somebody meant otherwise than it was understood. Each makes another question, and is kept."""

import uuid
from typing import Any, Literal

import msgspec

from app.base.errors import InvalidQuery
from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.query.composing import Asker
from app.engine.query.faults import invalid
from app.engine.query.model import Function, JoinType, Query, QueryAggregate
from app.query_previews.previews import Preview

ADD_CORRECTION = statement("query_previews/add_correction")

CorrectionType = Literal["JOIN_TYPE", "FILTER", "METRIC"]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"alias": "as"}):
    """Base of what corrects."""


class JoinTypeCorrection(Shape, frozen=True, kw_only=True):
    """The join of `as` is of another type."""

    alias: str
    type: JoinType


class FilterCorrection(Shape, frozen=True, kw_only=True):
    """All filters are these."""

    filters: dict[str, Any]


class MetricCorrection(Shape, frozen=True, kw_only=True):
    """The aggregate `name` is another function, of another field, or both."""

    name: str
    function: Function
    field: str | None = None


SHAPES: dict[CorrectionType, type[Shape]] = {
    "JOIN_TYPE": JoinTypeCorrection,
    "FILTER": FilterCorrection,
    "METRIC": MetricCorrection,
}


def corrected(query: Query, type_: CorrectionType, correction: dict[str, Any]) -> Query:
    """The other question; raises InvalidQuery where there is nothing to correct so."""
    try:
        read = msgspec.convert(correction, SHAPES[type_])
    except msgspec.ValidationError as error:
        head, _, path = str(error).partition(" - at `$")
        raise invalid(f"correction{path.rstrip('`')}", f"{head}.") from None
    match read:
        case JoinTypeCorrection():
            return _with_join(query, read)
        case FilterCorrection():
            return msgspec.structs.replace(query, filters=read.filters)
        case MetricCorrection():
            return _with_metric(query, read)
    raise AssertionError("all shapes are there")


def _with_join(query: Query, read: JoinTypeCorrection) -> Query:
    aliases = [join.alias for join in query.joins]
    if read.alias not in aliases:
        raise _none("as", read.alias, "join", aliases)
    joins = tuple(
        msgspec.structs.replace(join, type=read.type) if join.alias == read.alias else join for join in query.joins
    )
    return msgspec.structs.replace(query, joins=joins)


def _with_metric(query: Query, read: MetricCorrection) -> Query:
    names = [each.name for each in query.aggregates]
    if read.name not in names:
        raise _none("name", read.name, "aggregate", names)
    metric = QueryAggregate(name=read.name, function=read.function, field=read.field)
    return msgspec.structs.replace(
        query, aggregates=tuple(metric if each.name == read.name else each for each in query.aggregates)
    )


def _none(member: str, given: str, what: str, known: list[Any]) -> InvalidQuery:
    there = f"there is {', '.join(map(str, known))}" if known else "there is none"
    return invalid(f"correction.{member}", f"the question has no {what} {given[:80]!r}; {there}.")


async def add(
    desk: Desk, asker: Asker, preview: Preview, made: str, type_: CorrectionType, correction: dict[str, Any], at: Any
) -> None:
    """Keep what was corrected, and what came of it."""
    await desk.connection.rows(
        ADD_CORRECTION,
        organization=asker.organization,
        id=uuid.uuid4(),
        user=asker.user,
        preview_id=preview.id,
        made_id=uuid.UUID(made),
        type=type_,
        correction=correction,
        query=preview.query,
        sentence=preview.sentence,
        at=at,
    )
