"""Whether a query has a sentence that says all of it."""

import msgspec

from app.base.errors import VanguardError
from app.engine.query.catalogue import Catalogue
from app.engine.query.model import Query
from app.english.conditions import filters_of, tree_of
from app.english.reading import read_sentence
from app.english.shortest import asks_all, field_name, order_name, shortest
from app.english.writing import write_sentence


def is_readable(query: Query, catalogue: Catalogue) -> bool:
    """Whether the query's sentence, read again, is the query."""
    try:
        return read_sentence(write_sentence(query, catalogue), catalogue).query == normal_form(query, catalogue)
    except VanguardError:
        return False


def normal_form(query: Query, catalogue: Catalogue) -> Query:
    """The one of the queries that mean the same which a sentence is read as: flat groups, and nothing said that is so
    anyway. Filters that are none stay as they are.
    """
    dataset = query.dataset
    try:
        filters = filters_of(tree_of(query.filters, dataset), dataset)
    except ValueError:
        filters = query.filters
    return msgspec.structs.replace(
        query,
        fields=() if asks_all(query, catalogue) or query.aggregates else _names(query, query.fields),
        filters=filters,
        joins=tuple(shortest(query, join, catalogue) for join in query.joins),
        group_by=_names(query, query.group_by),
        aggregates=tuple(
            msgspec.structs.replace(each, field=each.field and field_name(query, each.field))
            for each in query.aggregates
        ),
        order=tuple(order_name(query, key) for key in query.order),
    )


def _names(query: Query, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(field_name(query, path) for path in paths)
