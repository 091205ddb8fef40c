"""A sentence as a query: each dataset that it could be about is tried, and one has to fit alone."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from app.base.errors import AmbiguousQuery
from app.contracts.filters import operators_of
from app.engine.query.catalogue import Catalogue
from app.engine.query.model import MOST_COLUMNS, MOST_ORDER, Query, QueryAggregate
from app.english.conditions import Group, Leaf, Negation, Tree, beside, filters_of, group
from app.english.figures import ROWS, read_aggregate, without_rows
from app.english.grammar import parse
from app.english.keys import bare_name, group_key, row_key
from app.english.misfit import Misfit
from app.english.parts import QUOTES
from app.english.ranking import ranked_field
from app.english.refusals import ambiguous, idle, refusal
from app.english.scope import DatasetNames, FieldFound, Scope
from app.english.sentences import Item, Name, Sentence, Value
from app.english.shortest import is_idle
from app.english.values import read_value
from app.english.writing import write_sentence

# Dates and moments have words of their own beside those of all that has an order.
OF_DATES = {"after": "gt", "since": "gte", "before": "lt", "until": "lte"}
MATCHED = ("eq", "ne", "in", "nin")


class Said(str):
    """A text that stands in a sentence without quotes, and has to be matched against a field's values."""

    place: int
    field: FieldFound

    def __new__(cls, text: str, place: int, field: FieldFound) -> "Said":
        said = super().__new__(cls, text)
        said.place, said.field = place, field
        return said


class AskedValue(msgspec.Struct, frozen=True, kw_only=True):
    """Words without quotes that stand as a value of a text or an enum: one of the field's values has to be meant.

    `field` is its name in `dataset`; the words begin at `place` of the sentence, and `path` leads to them in filters.
    """

    dataset: str
    field: str
    word: str
    place: int
    path: tuple[str | int, ...]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a sentence means; the values in `asked` stand in the query as they were typed."""

    query: Query
    asked: tuple[AskedValue, ...]

    def with_values(self, found: Mapping[int, str]) -> Query:
        """The query with the values that were meant, by their places; those that are not named stay as they are."""
        filters = self.query.filters
        for asked in self.asked:
            if asked.place in found:
                filters = _replaced(filters, asked.path, found[asked.place])
        return msgspec.structs.replace(self.query, filters=filters)


def read_sentence(text: str, catalogue: Catalogue) -> Reading:
    """The query that a sentence stands for.

    Raises UnreadableQuery where it is no sentence, or asks for what there cannot be; UnknownWord where a word names
    nothing; AmbiguousQuery where one names several things, or several datasets fit.
    """
    sentence = None
    try:
        sentence = parse(text)
        return _read(sentence, DatasetNames(catalogue))
    except Misfit as misfit:
        raise refusal(misfit, text, sentence, catalogue, lambda query: write_sentence(query, catalogue)) from None


def _read(sentence: Sentence, datasets: DatasetNames) -> Reading:
    """The only reading; raises Misfit where there is none, AmbiguousQuery where there are several."""
    _check_ranked(sentence)
    found: list[tuple[Query, Scope]] = []
    misfits: list[Misfit] = []
    unjoined: list[Misfit] = []  # of datasets that nothing leads from to what is joined: these are least meant
    for dataset in _asked_about(sentence, datasets):
        for read in _ways(sentence):
            try:
                scope = Scope(datasets, dataset, sentence.joins)
            except Misfit as misfit:
                unjoined.append(misfit)
                continue
            try:
                found.append((read(scope, sentence), scope))
            except Misfit as misfit:
                misfits.append(misfit)
    if not found:
        raise _farthest(misfits or unjoined)
    write = partial(write_sentence, catalogue=datasets.catalogue)
    if len(found) > 1 or found[0][1].doubts:
        raise ambiguous(found, write)
    query = found[0][0]
    for place, join in enumerate(query.joins):
        if is_idle(query, join, datasets.catalogue):
            raise idle(query, place, sentence.joins[place].dataset, write)
    return _reading(query)


def _farthest(misfits: list[Misfit]) -> Misfit:
    """The misfit of the dataset that most of the sentence fits."""
    if not misfits:
        return Misfit("there is no dataset to ask about", "", 0)
    farthest = max(misfits, key=lambda misfit: (misfit.place, not misfit.unknown))
    if (
        farthest.unknown
        and len({misfit.message for misfit in misfits}) > 1
        and all(misfit.place == farthest.place for misfit in misfits)
    ):
        farthest.message = "nothing is called so"
    return farthest


def _asked_about(sentence: Sentence, datasets: DatasetNames) -> Iterator[str]:
    if sentence.dataset is None:
        yield from sorted(datasets.catalogue.datasets)
        return
    text, place, quoted = sentence.dataset
    found = datasets.find(text, quoted=quoted)
    if not found:
        raise Misfit(f"no dataset is called so{'' if quoted else QUOTES}", text, place, unknown=True)
    if len(found) > 1:
        raise AmbiguousQuery(
            f"{text!r} names several datasets.", word=text, place=place, candidates=[f'"{name}"' for name in found]
        )
    yield found[0]


def _ways(sentence: Sentence) -> list[Callable[[Scope, Sentence], Query]]:
    """What a sentence of this form could be: rows, or figures."""
    first = sentence.items[0] if sentence.items else None
    alone = len(sentence.items) == 1 and first is not None and not first.function and first.alias is None
    if sentence.everything:
        return [_all_rows]
    if sentence.ranked is not None:
        return [_ranked_rows, _ranked_groups] if alone and _can_be_rows(sentence) else [_ranked_groups]
    if sentence.by or any(item.function or item.name is None or item.alias is not None for item in sentence.items):
        return [_figures]
    others = _listed if sentence.listing else _figures
    return [_all_rows, others] if alone and _can_be_rows(sentence) else [others]


def _can_be_rows(sentence: Sentence) -> bool:
    """A dataset's name stands for its rows; where the dataset is named behind of, what stands before is in it."""
    name = sentence.items[0].name
    return sentence.dataset is None or (name is not None and _says_rows(name))


def _says_rows(name: Name) -> bool:
    return not name.quoted and name.text.lower() in ROWS


def _all_rows(scope: Scope, sentence: Sentence) -> Query:
    """`list all of customers`, `show customers`."""
    for item in sentence.items:
        _name_dataset(scope, item)
    if sentence.by:
        raise Misfit("rows are ordered by something; by stands behind figures", "by", sentence.by[0].place)
    return _query(scope, sentence)


def _listed(scope: Scope, sentence: Sentence) -> Query:
    """`list name and region of customers`."""
    return _query(scope, sentence, fields=_fields(scope, sentence.items))


def _figures(scope: Scope, sentence: Sentence) -> Query:
    """`total revenue by region`."""
    aggregates = _aggregates(scope, sentence.items)
    groups = _fields(scope, sentence.by)
    return _query(scope, sentence, groups=groups, aggregates=_distinct(aggregates, groups, sentence))


def _ranked_rows(scope: Scope, sentence: Sentence) -> Query:
    """`top 10 customers by revenue`, customers being the dataset: its rows in that order."""
    _name_dataset(scope, sentence.items[0])
    order = []
    for item in sentence.by:
        name = bare_name(item)
        measured = [found.field for found in scope.measures(name) if found.measure.kind != "count"]
        fields = {field.path: field for field in (*measured, *scope.fields(name))}
        if not fields:
            raise Misfit(f"{scope.main.dataset} has no such field", name.text, name.place, unknown=True)
        order.append(_directed(scope.take(name, list(fields.values())).path, sentence))
    return _query(scope, sentence, order=order)


def _ranked_groups(scope: Scope, sentence: Sentence) -> Query:
    """`top 10 categories by forecast cost`: groups in that order."""
    groups = _fields(scope, sentence.items)
    aggregates = _distinct(_aggregates(scope, sentence.by), groups, sentence)
    order = [_directed(aggregates[0].name, sentence)]
    return _query(scope, sentence, groups=groups, aggregates=aggregates, order=order)


def _check_ranked(sentence: Sentence) -> None:
    """What begins with top says by what, and has no other order."""
    end = sentence.ranked
    if end is None:
        return
    if not sentence.by:
        message = f"{end.end} {end.number} of what order? by and a figure, or a field, stands behind"
        raise Misfit(message, end.end, end.place, expected=("by and a figure",))
    if sentence.order or sentence.limit is not None:
        raise Misfit(f"{end.end} {end.number} has its own order and number already", end.end, end.place)


def _directed(name: str, sentence: Sentence) -> str:
    end = sentence.ranked or sentence.limit
    return f"-{name}" if end is not None and end.end == "top" else name


def _name_dataset(scope: Scope, item: Item) -> None:
    """The words have to name the dataset that is asked about: `customers`, `customers rows`, or `rows` alone."""
    name = bare_name(item)
    if not _says_rows(name) and not scope.is_main(without_rows(name)):
        raise Misfit("no dataset is called so", name.text, name.place, unknown=True)


def _fields(scope: Scope, items: tuple[Item, ...]) -> list[str]:
    found = [scope.field(bare_name(item)).path for item in items]
    if len(set(found)) != len(found):
        again = next(item for place, item in enumerate(items) if found[place] in found[:place])
        raise Misfit("this stands here a second time", *bare_name(again)[:2])
    if len(found) > MOST_COLUMNS:
        raise Misfit(f"an answer has at most {MOST_COLUMNS} columns", "", items[-1].place)
    return found


def _aggregates(scope: Scope, items: tuple[Item, ...]) -> list[QueryAggregate]:
    return [read_aggregate(scope, item) for item in items]


def _distinct(aggregates: list[QueryAggregate], groups: list[str], sentence: Sentence) -> list[QueryAggregate]:
    """The aggregates, if each column of the answer has a name of its own."""
    names = [*groups, *(each.name for each in aggregates)]
    for place, name in enumerate(names):
        if name in names[:place]:
            asked = sentence.by if sentence.ranked is not None else sentence.items
            at = asked[place - len(groups)].place
            raise Misfit(f"two columns would be called {name}: say as and another name behind one", name, at)
    return aggregates


def _query(
    scope: Scope,
    sentence: Sentence,
    *,
    fields: list[str] | None = None,
    groups: list[str] | None = None,
    aggregates: list[QueryAggregate] | None = None,
    order: list[str] | None = None,
) -> Query:
    """The query, with what the other clauses say."""
    tree = _resolved(scope, sentence.where) if sentence.where is not None else None
    keys = order or _order(scope, sentence, groups, aggregates)
    if len(keys) > MOST_ORDER:
        raise Misfit(f"an answer is ordered by at most {MOST_ORDER} things", "", _last(sentence))
    count = sentence.ranked or sentence.limit
    query = Query(
        dataset=scope.main.dataset,
        fields=tuple(fields or ()),
        joins=tuple(scope.joins),
        group_by=tuple(groups or ()),
        aggregates=tuple(aggregates or ()),
        order=tuple(keys),
        limit=count.number if count is not None else None,
    )
    if count is not None and count.end and (ranked := ranked_field(query, scope.datasets.catalogue)) is not None:
        tree = beside(tree, Leaf(ranked, "isnull", False))
    return msgspec.structs.replace(query, filters=filters_of(tree, scope.main.dataset))


def _last(sentence: Sentence) -> int:
    return max([key.item.place for key in sentence.order] + [item.place for item in sentence.by] + [0])


def _order(
    scope: Scope, sentence: Sentence, groups: list[str] | None, aggregates: list[QueryAggregate] | None
) -> list[str]:
    """The keys of `ordered by`; or what top and bottom at the end mean: by the first figure."""
    count = sentence.limit
    if count is not None and count.end:
        if sentence.order or not aggregates:
            message = f"{count.end} {count.number} at the end goes with figures, and has its own order; say limit"
            raise Misfit(message, count.end, count.place)
        return [_directed(aggregates[0].name, sentence)]
    read = row_key if aggregates is None else group_key
    keys = [read(scope, key, groups or [], aggregates or []) for key in sentence.order]
    names = [key.removeprefix("-") for key in keys]
    if len(set(names)) != len(names):
        raise Misfit("the answer is ordered by this already", "", sentence.order[-1].item.place)
    return keys


def _resolved(scope: Scope, tree: Tree) -> Tree:
    """The conditions over fields by their paths, with values of their types."""
    match tree:
        case Leaf(name, op, value):
            return _condition(scope, name, op, value)
        case Group("and", parts):
            return group("and", [_resolved(scope, each) for part in parts for each in _bounds(part)])
        case Group(word, parts):
            return group("or" if word == "or" else "and", [_resolved(scope, part) for part in parts])
        case Negation(part):
            return Negation(_resolved(scope, part))
    raise AssertionError("the grammar makes nothing else")


def _bounds(tree: Tree) -> tuple[Tree, ...]:
    """The two ends of a between, which stand beside what is conjoined with them."""
    return tree.parts if isinstance(tree, Group) and tree.word == "between" else (tree,)


def _condition(scope: Scope, name: Name, said: str, value: Any) -> Leaf:
    field = scope.field(name)
    op = OF_DATES.get(said, said)
    if said in OF_DATES and field.type not in ("date", "datetime"):
        raise Misfit(f"{said} goes with dates, and {field.field} is of type {field.type}", name.text, name.place)
    if op not in operators_of(field.type):
        words = {"contains": "contains", "startswith": "starts with"}.get(op, "above, below and their like")
        raise Misfit(f"{words} cannot be asked of {field.field}, of type {field.type}", name.text, name.place)
    if op == "isnull":
        return Leaf(field.path, op, value)
    if isinstance(value, Value):
        return Leaf(field.path, op, _value(field, op, value))
    return Leaf(field.path, op, [_value(field, op, each) for each in value])


def _value(field: FieldFound, op: str, value: Value) -> Any:
    found = read_value(field.type, value)
    return (
        Said(found, value.place, field)
        if isinstance(found, str) and op in MATCHED and not value.quoted and field.type in ("text", "enum")
        else found
    )


def _reading(query: Query) -> Reading:
    """The query with plain values, and those of them that have to be matched."""
    asked: list[AskedValue] = []

    def plain(value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, dict):
            return {key: plain(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each, (*path, place)) for place, each in enumerate(value)]
        if not isinstance(value, Said):
            return value
        at = value.field
        asked.append(AskedValue(dataset=at.dataset, field=at.field, word=str(value), place=value.place, path=path))
        return str(value)

    filters = plain(query.filters, ())
    return Reading(query=msgspec.structs.replace(query, filters=filters), asked=tuple(asked))


def _replaced(node: Any, path: tuple[str | int, ...], value: str) -> Any:
    """A copy with another value at the end of a path."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(node, list):
        return [_replaced(each, rest, value) if place == step else each for place, each in enumerate(node)]
    return {key: _replaced(each, rest, value) if key == step else each for key, each in node.items()}
