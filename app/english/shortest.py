"""What a query says that is so anyway, and that its sentence leaves out."""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.engine.query.catalogue import AcceptedJoin, Catalogue
from app.engine.query.model import Query, QueryJoin


def field_name(query: Query, path: str) -> str:
    """A field of the dataset that is asked about, without the dataset's name."""
    return path.removeprefix(f"{query.dataset}.")


def order_name(query: Query, key: str) -> str:
    """The same of a key of the order."""
    name = field_name(query, key.removeprefix("-"))
    return f"-{name}" if key.startswith("-") else name


def asks_all(query: Query, catalogue: Catalogue) -> bool:
    """Whether it asks for all fields of rows, by their names or by naming none."""
    found = catalogue.datasets.get(query.dataset)
    names = ("id", *found.contract.by_name) if found is not None else ()
    return not query.aggregates and tuple(field_name(query, path) for path in query.fields) in ((), names)


def shortest(query: Query, join: QueryJoin, catalogue: Catalogue) -> QueryJoin:
    """Without the alias that it has anyway, the dataset that it starts from anyway, and the only join there is."""
    _, leading = _leading(query, join, catalogue)
    return msgspec.structs.replace(
        join,
        alias=None if join.alias == join.dataset else join.alias,
        from_=None if join.from_ == query.dataset else join.from_,
        join=None if [each.id for each in leading] == [join.join] else join.join,
    )


def has_one(query: Query, path: str, catalogue: Catalogue) -> bool:
    """Whether a field has one value at most for each row of the dataset that is asked about."""
    joins = {join.alias or join.dataset: join for join in query.joins}
    join = joins.get(path.rpartition(".")[0])
    while join is not None:
        if not is_to_one(query, join, catalogue):
            return False
        join = joins.get(join.from_ or query.dataset)
    return True


def is_to_one(query: Query, join: QueryJoin, catalogue: Catalogue) -> bool:
    """Whether a row has one partner at most. Of a dataset with itself the way is to the one."""
    origin, leading = _leading(query, join, catalogue)
    return all(each.child == origin for each in leading if join.join in (None, each.id))


def _leading(query: Query, join: QueryJoin, catalogue: Catalogue) -> tuple[str | None, list[AcceptedJoin]]:
    """The dataset that the join starts from, and the accepted joins that lead from there."""
    aliases = {each.alias or each.dataset: each.dataset for each in query.joins} | {query.dataset: query.dataset}
    origin = aliases.get(join.from_ or query.dataset)
    return origin, [each for each in catalogue.joins if {each.child, each.parent} == {origin, join.dataset}]


def is_idle(query: Query, join: QueryJoin, catalogue: Catalogue) -> bool:
    """Whether the join leaves the answer as it is: it keeps all rows, and nothing of what it joins is looked at. Many
    partners are many rows of a listing.
    """
    alias = join.alias or join.dataset
    return (
        join.type == "left"
        and (bool(query.aggregates) or is_to_one(query, join, catalogue))
        and not any(each.from_ == alias for each in query.joins)
        and not any(path.removeprefix("-").startswith(f"{alias}.") for path in _paths(query))
    )


def _paths(query: Query) -> Iterator[str]:
    yield from (*query.fields, *query.group_by, *query.order)
    yield from (each.field for each in query.aggregates if each.field is not None)
    filters: list[Any] = [query.filters]
    while filters:
        each = filters.pop()
        if isinstance(each, list):
            filters += each
        elif isinstance(each, dict):
            yield from each
            filters += (each[word] for word in ("and", "or", "not") if word in each)
