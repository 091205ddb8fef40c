"""What an answer is ordered by: a field of its rows, or a column of its figures."""

from app.engine.query.model import QueryAggregate
from app.english.figures import Figure, read_figure
from app.english.lexicon import key_of
from app.english.misfit import Misfit
from app.english.scope import Scope
from app.english.sentences import Item, Key, Name


def bare_name(item: Item) -> Name:
    if item.name is None or item.function or item.alias is not None:
        raise Misfit("the name of a field alone stands here", item.function or "as", item.place)
    return item.name


def row_key(scope: Scope, key: Key, _: list[str], __: list[QueryAggregate]) -> str:
    path = scope.field(bare_name(key.item)).path
    return f"-{path}" if key.descending else path


def group_key(scope: Scope, key: Key, groups: list[str], aggregates: list[QueryAggregate]) -> str:
    """A column of the answer: an aggregate by its name or by what it is, or a field that groups."""
    item = key.item
    found = [] if item.function or item.name is None else _columns(scope, item.name, groups, aggregates)
    if not found:
        figure = read_figure(scope, item)
        found = [each.name for each in aggregates if _same(each, figure)]
    word, place = (item.name.text, item.name.place) if item.name is not None else (item.function, item.place)
    if not found:
        raise Misfit("figures are ordered by what is asked for: a figure or a field behind by", word, place)
    if len(found) > 1:
        scope.doubt(Name(word, place), [f'"{name}"' for name in found])
    return f"-{found[0]}" if key.descending else found[0]


def _columns(scope: Scope, name: Name, groups: list[str], aggregates: list[QueryAggregate]) -> list[str]:
    """The columns of the answer that are called so."""
    if name.quoted:
        exact = [each for each in (*groups, *(each.name for each in aggregates)) if each == name.text]
        if exact:
            return exact
    called = [each.name for each in aggregates if not name.quoted and key_of(each.name) == key_of(name.text)]
    fields = {field.path for field in scope.fields(name)}
    return list(dict.fromkeys([*called, *(path for path in groups if path in fields)]))


def _same(aggregate: QueryAggregate, figure: Figure) -> bool:
    return (aggregate.function, aggregate.field) == (figure.function, figure.path)
