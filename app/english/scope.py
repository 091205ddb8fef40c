"""What the names of a sentence mean when one dataset is asked about, and others are joined to it."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from app.contracts.model import Measure
from app.contracts.shape import FieldType
from app.engine.query.catalogue import AcceptedJoin, Catalogue
from app.engine.query.model import MOST_JOINS, QueryJoin
from app.english.lexicon import Lexicon, NameIndex, forms_of, key_of, lexicon_of
from app.english.misfit import Misfit
from app.english.sentences import Joined, Name

ALIAS = re.compile(r"[a-z][A-Za-z0-9]{0,39}\Z")
POSSESSIVE = re.compile("['\u2019]s |(?<=s)['\u2019] ")  # also the typographic one


class Doubt(NamedTuple):
    """A word that names several things, and how each is said."""

    word: str
    place: int
    ways: tuple[str, ...]


class Source(NamedTuple):
    """A dataset in the question: `prefix` goes before its fields, empty of the one that is asked about."""

    prefix: str
    dataset: str
    lexicon: Lexicon

    @property
    def called(self) -> str:
        """Its alias, which the dataset that is asked about has, too."""
        return self.prefix or self.dataset

    def path(self, field: str) -> str:
        return f"{self.prefix}.{field}" if self.prefix else field


class FieldFound(NamedTuple):
    """A field by its path in the query; `join` is what has to be joined first."""

    path: str
    dataset: str
    field: str
    type: FieldType
    source: Source
    join: QueryJoin | None = None


class MeasureFound(NamedTuple):
    """A measure, and the field that it is of."""

    measure: Measure
    field: FieldFound


class DatasetNames:
    """The datasets of a catalogue by what they are called."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.names = NameIndex((name, "") for name in catalogue.datasets)

    def find(self, text: str, *, quoted: bool = False) -> tuple[str, ...]:
        return self.names.find(text, quoted=quoted)

    def source(self, dataset: str, prefix: str = "") -> Source:
        return Source(prefix, dataset, lexicon_of(self.catalogue.datasets[dataset].contract))

    def joins(self, one: str, other: str) -> tuple[AcceptedJoin, ...]:
        """The accepted joins between two datasets, whichever is the child."""
        pair = {one, other}
        return tuple(join for join in self.catalogue.joins if {join.child, join.parent} == pair)


class Scope:
    """The datasets of one question. `doubts` collects the words that name several things."""

    def __init__(self, datasets: DatasetNames, dataset: str, joined: tuple[Joined, ...] = ()):
        self.datasets = datasets
        self.main = datasets.source(dataset)
        self.sources = [self.main]
        self.joins: list[QueryJoin] = []
        self.doubts: list[Doubt] = []
        for each in joined:
            self._join(each)
        self.said = list(self.sources)

    def field(self, name: Name) -> FieldFound:
        """The field that is named; raises Misfit where none is."""
        found = self.fields(name)
        if not found:
            raise Misfit(f"{self.main.dataset} has nothing that is called so", name.text, name.place, unknown=True)
        return self.take(name, found)

    def fields(self, name: Name) -> list[FieldFound]:
        """All fields that the name could mean."""
        found = [_at(*each) for each in self._named(name, lambda lexicon: lexicon.fields)]
        return list({(each.path, each.join): each for each in found}.values())

    def measures(self, name: Name) -> list[MeasureFound]:
        """All measures that the name could mean."""
        found = []
        for source, called, join in self._named(name, lambda lexicon: lexicon.measures):
            measure = source.lexicon.figures[called]
            found.append(MeasureFound(measure, _at(source, measure.of, join)))
        return found

    def take(self, name: Name, found: list[FieldFound]) -> FieldFound:
        """The one that is meant; where there are several, the first, and a doubt."""
        first, *more = found
        if more:
            self.doubt(name, [self.way(each) for each in found])
        if first.join is not None and first.join not in self.joins:
            self._add(first.join, first.source, name)
        return first

    def doubt(self, name: Name, ways: list[str]) -> None:
        self.doubts.append(Doubt(name.text, name.place, tuple(dict.fromkeys(ways))))

    def way(self, found: FieldFound) -> str:
        """How a field is said so that it is no other's."""
        if found.join is not None and found.join.join is not None:
            return f'{found.path}, with {found.dataset} using "{found.join.join}"'
        return f'"{found.path}"' if found.source.prefix else f'"{found.dataset}.{found.field}"'

    def types(self) -> Mapping[str, FieldType]:
        """The types of all fields by their paths, of what was said to be joined."""
        return {source.path(name): kind for source in self.said for name, kind in source.lexicon.types.items()}

    def is_main(self, name: Name) -> bool:
        """Whether the name is that of the dataset that is asked about."""
        return self.main.dataset in self.datasets.find(name.text, quoted=name.quoted)

    def _named(
        self, name: Name, names: Callable[[Lexicon], NameIndex]
    ) -> Iterator[tuple[Source, str, QueryJoin | None]]:
        """What is called so, and where. The exact name of something of the main dataset, in quotes, is nothing else."""
        if name.quoted and name.text in names(self.main.lexicon).own:
            yield self.main, name.text, None
            return
        for source, text, join in self._places(name):
            for called in names(source.lexicon).find(text, quoted=name.quoted):
                yield source, called, join

    def _places(self, name: Name) -> Iterator[tuple[Source, str, QueryJoin | None]]:
        """Where to look, and for what: everywhere for the whole, and in what stands before a point or a possessive."""
        for source in self.said:
            yield source, name.text, None
        qualifier, rest = _divided(name)
        if not rest:
            return
        known = [source for source in self.sources if qualifier == source.called]
        known = known or [source for source in self.sources if self._is_called(source, qualifier, name.quoted)]
        for source in known:
            yield source, rest, None
        if not known:
            for source, join in self._reached(qualifier, name.quoted):
                yield source, rest, join

    def _is_called(self, source: Source, text: str, quoted: bool) -> bool:
        if quoted:
            return text in (source.prefix, source.dataset)
        called = {*forms_of(key_of(source.prefix)), *forms_of(key_of(source.dataset))} - {""}
        return not called.isdisjoint(forms_of(key_of(text)))

    def _reached(self, text: str, quoted: bool) -> Iterator[tuple[Source, QueryJoin]]:
        """The datasets that are not joined yet, each by each join that leads there."""
        for dataset in self.datasets.find(text, quoted=quoted):
            joins = self.datasets.joins(self.main.dataset, dataset) if dataset != self.main.dataset else ()
            for join in joins:
                told = join.id if len(joins) > 1 else None
                yield self.datasets.source(dataset, dataset), QueryJoin(dataset=dataset, join=told)

    def _join(self, joined: Joined) -> None:
        """A dataset that the sentence joins; raises Misfit where nothing leads there."""
        text, place, quoted = joined.dataset
        found = self.datasets.find(text, quoted=quoted)
        if not found:
            raise Misfit("no dataset is called so", text, place, unknown=True)
        dataset, *more = found
        if more:
            self.doubt(joined.dataset, [f'"{each}"' for each in found])
        alias = _alias(joined.alias) if joined.alias is not None else None
        origin = self._origin(joined.origin) if joined.origin is not None else self.main
        leading = self.datasets.joins(origin.dataset, dataset)
        if not leading:
            raise Misfit(f"no accepted join leads from {origin.dataset} to {dataset}", text, place)
        told = joined.join.text if joined.join is not None else None
        if told is not None and joined.join is not None and told not in (join.id for join in leading):
            raise Misfit(
                f"no accepted join between {origin.dataset} and {dataset} has this id", told, joined.join.place
            )
        if told is None and len(leading) > 1:
            self.doubt(joined.dataset, [f'{dataset} using "{join.id}"' for join in leading])
        join = QueryJoin(
            dataset=dataset,
            alias=alias if alias != dataset else None,
            from_=origin.prefix or None,
            join=told,
            type="inner" if joined.inner else "left",
        )
        self._add(join, self.datasets.source(dataset, alias or dataset), joined.dataset)

    def _origin(self, name: Name) -> Source:
        exact = [source for source in self.sources if name.text == source.called]
        found = exact or [source for source in self.sources if self._is_called(source, name.text, name.quoted)]
        if not found:
            raise Misfit("nothing that is joined before is called so", name.text, name.place, unknown=True)
        if len(found) > 1:
            self.doubt(name, [f'"{source.called}"' for source in found])
        return found[0]

    def _add(self, join: QueryJoin, source: Source, name: Name) -> None:
        if source.prefix == self.main.dataset or source.prefix in (each.prefix for each in self.sources):
            raise Misfit(f"{source.prefix} is joined already: say as and another name behind one", *name[:2])
        if len(self.joins) == MOST_JOINS:
            raise Misfit(f"a question has at most {MOST_JOINS} joins", *name[:2])
        self.joins.append(join)
        self.sources.append(source)


def _at(source: Source, field: str, join: QueryJoin | None) -> FieldFound:
    return FieldFound(source.path(field), source.dataset, field, source.lexicon.types[field], source, join)


def _alias(name: Name) -> str:
    if not ALIAS.match(name.text):
        message = "wanted is a name of at most 40 letters and digits that begins with a small letter"
        raise Misfit(message, name.text, name.place)
    return name.text


def _divided(name: Name) -> tuple[str, str]:
    """What stands before a point or a possessive, and behind it; both empty where there is none."""
    if not name.quoted and (found := POSSESSIVE.search(name.text)):
        return name.text[: found.start()], name.text[found.end() :]
    before, point, rest = name.text.partition(".")
    return (before, rest) if point and before and rest else ("", "")
