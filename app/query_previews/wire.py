"""Previews on the wire, and in words."""

import datetime
from typing import Any

import msgspec

from app.base import exact_json
from app.contracts.filters import Condition
from app.contracts.shape import FieldType
from app.engine.query.model import Query
from app.engine.query.question import Column, Figure, Filter, Leaf, Question, Source
from app.query_previews.guards import Guard

SIGNS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "in": "in", "nin": "not in"}
COUNTS = ("count", "countDistinct")  # 0 where there is no value
AVERAGES = "An average is rounded to 6 decimals, half away from zero."


class AnswerColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the answer."""

    name: str
    label: str
    type: FieldType


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that is read. `rows`: about how many its mirror has."""

    dataset: str
    alias: str
    version: str
    state: str
    rows: int


class UsedJoin(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """An accepted join, as the question uses it: `from` the dataset that is there `to` the one that comes."""

    id: str
    version: int
    from_: str
    to: str
    type: str
    condition: str
    cardinality: str
    confidence: float


class Estimated(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner expects: rows of the answer, the most that are read of a relation, its cost; and how many
    seconds that cost was worth lately.
    """

    rows: int
    greatest: int
    cost: float
    seconds: float


class QueryPreviewAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a question would do. `query` and `sentence` are its normal form: asked again, they have the same digest.
    `confidence`: that of the joins together, 1 without any. `requires_override`: an ADMIN alone can run it, with a
    reason.
    """

    preview_id: str
    digest: str
    expires_at: str
    sentence: str
    query: Query
    sql: str
    columns: list[AnswerColumn]
    tables: list[Table]
    joins: list[UsedJoin]
    filters: list[str]
    aggregations: list[str]
    assumptions: list[str]
    confidence: float
    estimated: Estimated
    warnings: list[Guard]
    requires_override: bool


def columns_of(question: Question) -> list[AnswerColumn]:
    """The columns of the answer."""
    return [AnswerColumn(name=each.name, label=each.label, type=each.type) for each in question.shown]


def tables_of(question: Question, rows: list[int]) -> list[Table]:
    """The datasets."""
    return [
        Table(
            dataset=source.of.contract.name,
            alias=source.alias,
            version=source.of.contract.version,
            state=source.of.state.value,
            rows=rows[source.place],
        )
        for source in question.sources
    ]


def joins_of(question: Question) -> list[UsedJoin]:
    """The joins, in their order."""
    return [_join(question, source) for source in question.sources[1:]]


def _join(question: Question, source: Source) -> UsedJoin:
    join, beside = source.join, question.sources[source.beside].alias
    assert join is not None, "the root has none"
    pairs = zip(source.others, source.fields, strict=True)
    return UsedJoin(
        id=join.id,
        version=join.version,
        from_=beside,
        to=source.alias,
        type=source.type,
        condition=" and ".join(f"{beside}.{other} = {source.alias}.{own}" for other, own in pairs),
        cardinality="to-one" if source.to_one else "to-many",
        confidence=join.confidence,
    )


def confidence_of(question: Question) -> float:
    """That all joins are right."""
    product = 1.0
    for source in question.sources[1:]:
        product *= source.join.confidence if source.join else 1.0
    return round(product, 4)


def filters_in_words(question: Question) -> list[str]:
    """The filters, and at the end those of branches."""
    parts = [*question.filters, *(each for parts in question.branch_filters.values() for each in parts)]
    return [_filter(each) for each in parts]


def _filter(each: Filter) -> str:
    if isinstance(each, Leaf):
        return _condition(each.column, each.condition)
    parts = [_filter(part) for part in each.parts]
    return f"not ({parts[0]})" if each.kind == "not" else f"({f' {each.kind} '.join(parts)})"


def _condition(column: Column, condition: Condition) -> str:
    if condition.op == "isnull":
        return f"{column.name} is {'' if condition.value else 'not '}null"
    return f"{column.name} {SIGNS.get(condition.op, condition.op)} {_value(condition.value)}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"({', '.join(map(_value, value))})"
    if isinstance(value, datetime.date):  # a moment, too
        return value.isoformat()
    return exact_json.encode(value).decode()


def aggregations_in_words(question: Question) -> list[str]:
    """Each figure, and at whose grain it is taken."""
    return [_figure(question, figure) for figure in question.figures]


def _figure(question: Question, figure: Figure) -> str:
    of = "rows" if figure.column is None else figure.column.name
    branch = question.sources[question.sources[figure.source].branch]
    return f"{figure.name}: {figure.function} of {of}, of each row of {branch.alias} once"


def _nothing_first(question: Question) -> str | None:
    """What the answer is ordered by, descending, where rows or groups can be without it: they come first then."""
    order = next(iter(question.order), None)
    if order is None or not order.descending:
        return None
    by = order.by
    column = by.column if isinstance(by, Figure) else by
    if column is None or (isinstance(by, Figure) and by.function in COUNTS):
        return None
    there = (column.source, column.field) == (0, "id") or column in _filled(question)
    return None if there else by.name


def _filled(question: Question) -> list[Column]:
    """The columns that have a value in every row that passes the filters."""
    found = [each for each in question.filters if isinstance(each, Leaf)]
    return [each.column for each in found if not _keeps_nulls(each.condition)]


def _keeps_nulls(condition: Condition) -> bool:
    return condition.op in ("ne", "nin") or (condition.op == "isnull" and bool(condition.value))


def assumptions_of(question: Question) -> list[str]:
    """What is taken for granted, and could be wrong."""
    found = ["Rows are as you see them: with your drafts, and with what you have in review or on its way."]
    for source in question.sources[1:]:
        beside = question.sources[source.beside].alias
        child, parent = (beside, source.alias) if source.to_one else (source.alias, beside)
        found.append(f"A row of {child} belongs to one of {parent} at most; where there is no value, to none.")
        kept = "stay, with nothing in the fields of the other" if source.type == "left" else "are left out"
        found.append(f"Rows of {beside} without any of {source.alias} {kept}.")
    if any(figure.function == "average" for figure in question.figures):
        found.append(AVERAGES)
    if (name := _nothing_first(question)) is not None:
        found.append(f"The order is descending: what has no value of {name} comes first.")
    excluded = [each.field for each in question.sources[0].of.contract.exclusions]
    if question.figures and excluded:
        found.append(f"Rows that KPIs leave out are counted here: {', '.join(excluded)} can be a filter.")
    found.append(f"At most {question.limit:,} rows are answered, and whether there are more.")
    return found
