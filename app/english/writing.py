"""A query as its canonical sentence: the dataset always named, what could be misread in quotes, joins told in full."""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.contracts.filters import parse
from app.contracts.shape import FieldType
from app.contracts.values import normalize_datetime
from app.engine.query.catalogue import Catalogue
from app.engine.query.model import Query, QueryAggregate, QueryJoin
from app.english.conditions import Group, Leaf, Negation, Tree, Unsaid, tree_of
from app.english.figures import SAID, default_name, read_figure
from app.english.grammar import RESERVED, WORD
from app.english.keys import group_key
from app.english.lexicon import words_of
from app.english.misfit import Misfit
from app.english.scope import DatasetNames, Scope
from app.english.sentences import Item, Joined, Key, Name
from app.english.shortest import asks_all, field_name, order_name, shortest
from app.english.values import quoted, say_value

COMPARED = {
    "eq": "is",
    "ne": "is not",
    "gt": "above",
    "gte": "at least",
    "lt": "below",
    "lte": "at most",
    "contains": "contains",
    "startswith": "starts with",
}
OF_DATES = COMPARED | {"gt": "after", "gte": "since", "lt": "before", "lte": "until"}


def write_sentence(query: Query, catalogue: Catalogue) -> str:
    """The sentence of any query, also of one that the grammar has no words for, or that asks for what there is not."""
    return _Writer(query, DatasetNames(catalogue)).sentence()


class _Writer:
    """Writes one query; names are held against what they would be read as."""

    def __init__(self, query: Query, datasets: DatasetNames):
        self.query = query
        self.datasets = datasets
        self.aggregates = [
            msgspec.structs.replace(each, field=each.field and field_name(query, each.field))
            for each in query.aggregates
        ]
        self.groups = [field_name(query, path) for path in query.group_by]
        self.joins = [shortest(query, join, datasets.catalogue) for join in query.joins]
        self.scope = self._scope()
        self.types: Mapping[str, FieldType] = self.scope.types() if self.scope is not None else {}

    def sentence(self) -> str:
        query = self.query
        said = [self._asked(), f"of {self._dataset(query.dataset)}"]
        if self.groups:
            said.append(f"by {_listed([self._field(path) for path in self.groups])}")
        if self.joins:
            said.append(f"with {_listed([self._join(join) for join in self.joins])}")
        if (tree := tree_of(query.filters, query.dataset)) is not None:
            said.append(f"where {self._condition(tree)}")
        if query.order:
            said.append(f"ordered by {_listed([self._key(key) for key in query.order])}")
        if query.limit is not None:
            said.append(f"limit {query.limit}")
        return " ".join(said)

    def _asked(self) -> str:
        query = self.query
        if query.aggregates:
            return _listed([self._aggregate(each) for each in self.aggregates])
        if asks_all(query, self.datasets.catalogue):
            return "list all"
        return f"list {_listed([self._field(path) for path in query.fields])}"

    def _scope(self) -> Scope | None:
        """Where names are looked up as a reader would; None where the query's own datasets are not there."""
        if self.query.dataset not in self.datasets.catalogue.datasets:
            return None
        try:
            return Scope(self.datasets, self.query.dataset, tuple(map(_joined, self.joins)))
        except Misfit:
            return None

    def _dataset(self, name: str) -> str:
        said = words_of(name)
        return said if _plain(said) and self.datasets.find(said) == (name,) else quoted(name)

    def _field(self, path: str) -> str:
        """In its own words where these are no other's, else as it is called, in quotes."""
        scope, path = self.scope, field_name(self.query, path)
        means = (name for name in _ways(path) if scope and [each.path for each in scope.fields(name)] == [path])
        return _said(next(means, _quoted(path)))

    def _aggregate(self, aggregate: QueryAggregate) -> str:
        """A measure by its name; else function and field, and what the figure is called where that is not usual."""
        measure = next((item for item in self._measures(aggregate) if self._is(item, aggregate)), None)
        if measure is not None:
            return _item(measure)
        said = _item(next((item for item in _figures(aggregate) if self._is(item, aggregate)), _figures(aggregate)[-1]))
        usual = aggregate.name == default_name(aggregate.function, aggregate.field)
        return said if usual else f"{said} as {_word(aggregate.name)}"

    def _measures(self, aggregate: QueryAggregate) -> list[Item]:
        """How a measure is said, if the figure is one of the dataset's and called as it is."""
        figures = self.scope.main.lexicon.figures if self.scope is not None else {}
        return [Item("", name, None, 0) for name in _ways(aggregate.name)] if aggregate.name in figures else []

    def _is(self, item: Item, aggregate: QueryAggregate) -> bool:
        """Whether the words are read as this figure and nothing else."""
        if self.scope is None:
            return False
        doubts = len(self.scope.doubts)
        try:
            figure = read_figure(self.scope, item)
        except Misfit:
            return False
        wanted = (aggregate.function, aggregate.field, None if item.function else aggregate.name)
        return (figure.function, figure.path, figure.name) == wanted and len(self.scope.doubts) == doubts

    def _key(self, key: str) -> str:
        name = order_name(self.query, key).removeprefix("-")
        direction = " descending" if key.startswith("-") else ""
        return f"{self._column(name) if self.query.aggregates else self._field(name)}{direction}"

    def _column(self, name: str) -> str:
        """A column of figures: by what it is where no other is the same, else by its name."""
        for item in self._columns(name):
            if self._orders(item, name):
                return _item(item)
        return quoted(name)

    def _columns(self, name: str) -> list[Item]:
        aggregate = next((each for each in self.aggregates if each.name == name), None)
        if aggregate is None:
            return [Item("", each, None, 0) for each in _ways(name)]
        return [*self._measures(aggregate), *_figures(aggregate)]

    def _orders(self, item: Item, name: str) -> bool:
        """Whether the words are read as this column and nothing else."""
        if self.scope is None:
            return False
        doubts = len(self.scope.doubts)
        try:
            key = group_key(self.scope, Key(item, False), self.groups, self.aggregates)
        except Misfit:
            return False
        return key == name and len(self.scope.doubts) == doubts

    def _join(self, join: QueryJoin) -> str:
        said = [self._dataset(join.dataset)]
        if join.type == "inner":
            said.insert(0, "matching")
        if join.alias is not None:
            said.append(f"as {_word(join.alias)}")
        if join.from_ is not None:
            said.append(f"joined to {_word(join.from_)}")
        if join.join is not None:
            said.append(f"using {quoted(join.join)}")
        return " ".join(said)

    def _condition(self, tree: Tree, within: str = "") -> str:
        """Groups in parentheses where they stand in another, or behind not."""
        match tree:
            case Leaf(field, op, value):
                return self._leaf(field, op, value)
            case Negation(part):
                inner = self._condition(part, "not")
                return f"not ({inner})" if isinstance(part, Negation) else f"not {inner}"
            case Group(word, parts):
                said = f" {word} ".join(self._condition(part, word) for part in parts)
                return f"({said})" if within else said
            case Unsaid(shown):
                return quoted(shown)

    def _leaf(self, field: str, op: str, value: Any) -> str:
        said, kind = self._field(field), self.types.get(field)
        if op == "isnull":
            return f"{said} is empty" if value is True else f"{said} is not empty"
        if op in ("in", "nin") and isinstance(value, list) and value:
            word = "is one of" if op == "in" else "is none of"
            return f"{said} {word} {_choices([_value(kind, each) for each in value])}"
        words = OF_DATES if kind in ("date", "datetime") else COMPARED
        return f"{said} {words.get(op, op)} {_value(kind, value)}"


def _ways(name: str) -> list[Name]:
    """How a name can be said: in words, as it is written, in quotes."""
    plain = [said for said in dict.fromkeys((words_of(name), name)) if _plain(said)]
    return [*(Name(said, 0) for said in plain), _quoted(name)]


def _figures(aggregate: QueryAggregate) -> list[Item]:
    """How a figure can be said by function and field."""
    if aggregate.field is None:
        return [Item("number of", None, None, 0)]
    return [Item(SAID[aggregate.function], name, None, 0) for name in _ways(aggregate.field)]


def _word(name: str) -> str:
    """A name that is given here."""
    return name if _plain(name) else quoted(name)


def _quoted(name: str) -> Name:
    return Name(name, 0, quoted=True)


def _said(name: Name) -> str:
    return quoted(name.text) if name.quoted else name.text


def _item(item: Item) -> str:
    if item.name is None:
        return f"{item.function} rows"
    return f"{item.function} {_said(item.name)}".lstrip()


def _value(kind: FieldType | None, value: Any) -> str:
    """Days and moments without quotes, if they are such."""
    day = kind == "date" and isinstance(value, str) and parse(kind, value) is not None
    moment = kind == "datetime" and isinstance(value, str) and normalize_datetime(value) == value
    return str(value) if day or moment else say_value(value)


def _listed(said: list[str]) -> str:
    *most, last = said
    return f"{', '.join(most)} and {last}" if most else last


def _choices(said: list[str]) -> str:
    *most, last = said
    return f"{', '.join(most)} or {last}" if most else f"({last})"


def _plain(said: str) -> bool:
    """Whether words can stand without quotes, none of them being one of the grammar's, whatever its case."""
    words = said.split(" ")
    if any(word.lower() in RESERVED for word in words):
        return False
    return all(map(WORD.fullmatch, words)) and not said.endswith((".", "?", "!"))


def _joined(join: QueryJoin) -> Joined:
    """The join as a sentence has it."""

    alias, origin, told = (_quoted(text) if text is not None else None for text in (join.alias, join.from_, join.join))
    return Joined(_quoted(join.dataset), join.type == "inner", alias, origin, told)
