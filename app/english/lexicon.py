"""What the words of a sentence can name in a contract: fields and measures, by name or label, singular or plural."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from cachetools import LRUCache, cached

from app.contracts import Contract
from app.contracts.model import Computed, Field, Measure
from app.contracts.shape import FieldType

CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")
GAPS = re.compile(r"[\s_-]+")
ID: tuple[str, FieldType] = ("id", "text")  # the row's own
NEAREST = 10
LIKE = 0.4  # the share of pairs of letters that a name has in common with a word that could be meant for it
COMPARED = 2000  # names that a wrong word is compared with


class NameIndex:
    """Things by their names: several can have one label, or be called alike but for capitals and plurals."""

    def __init__(self, names: Iterable[tuple[str, str]]):
        """`names`: a thing's own name, and what else it is called, `""` for nothing."""
        self.own: dict[str, None] = {}
        self.labels: dict[str, list[str]] = {}
        self.plain: dict[str, list[str]] = {}
        self.counted: dict[str, list[str]] = {}
        for name, label in names:
            self.own[name] = None
            _add(self.labels, label, name)
            for said in (name, label):
                _add(self.plain, key_of(said), name)
                for form in forms_of(key_of(said)):
                    _add(self.counted, form, name)

    def find(self, text: str, *, quoted: bool = False) -> tuple[str, ...]:
        """The things that a text names. In quotes it is a name as it stands, or else a label. Otherwise capitals,
        blanks, underscores and hyphens do not count, and a plural does where nothing is called so itself.
        """
        if quoted:
            return (text,) if text in self.own else tuple(self.labels.get(text, ()))
        key = key_of(text)
        if key in self.plain:
            return tuple(self.plain[key])
        found = [name for form in forms_of(key) for name in self.counted.get(form, ())]
        return tuple(dict.fromkeys(found))


class Lexicon(NamedTuple):
    """The names of a contract."""

    fields: NameIndex
    measures: NameIndex
    types: Mapping[str, FieldType]
    figures: Mapping[str, Measure]
    derived: NameIndex


@cached(LRUCache(maxsize=256), key=lambda contract: id(contract), info=False)
def _kept(contract: Contract) -> tuple[Contract, Lexicon]:
    return contract, _lexicon(contract)


def lexicon_of(contract: Contract) -> Lexicon:
    """The contract's names, made once: whoever keeps the pair keeps the contract, so that its identity is its own."""
    return _kept(contract)[1]


def _lexicon(contract: Contract) -> Lexicon:
    columns: list[Field | Computed] = [*contract.fields, *contract.computed]
    return Lexicon(
        fields=NameIndex([("id", ""), *((column.name, column.label) for column in columns)]),
        measures=NameIndex((measure.name, "") for measure in contract.measures),
        types=dict([ID, *((column.name, column.type) for column in columns)]),
        figures={measure.name: measure for measure in contract.measures},
        derived=NameIndex((figure.name, "") for figure in contract.derived),
    )


@lru_cache(maxsize=16384)
def key_of(text: str) -> str:
    """What is alike in two ways of writing one name: forecastCost, forecast cost, Forecast-Cost."""
    return GAPS.sub("", unicodedata.normalize("NFC", text)).casefold()


@lru_cache(maxsize=16384)
def forms_of(key: str) -> tuple[str, ...]:
    """A word as it stands, and as the singular that it may be the plural of."""
    found = [key]
    if key.endswith("ies") and len(key) > 4:
        found.append(f"{key[:-3]}y")
    if key.endswith("es") and len(key) > 3:
        found.append(key[:-2])
    if key.endswith("s") and not key.endswith("ss") and len(key) > 2:
        found.append(key[:-1])
    return tuple(found)


def words_of(name: str) -> str:
    """A name as it is said: forecast cost."""
    return CAPITAL.sub(" ", name).lower()


def nearest(word: str, names: Sequence[str]) -> tuple[str, ...]:
    """Up to ten names that are like a word, the likest first."""
    pairs = _pairs(word)
    scored = [(_likeness(pairs, _pairs(name.rpartition(".")[2])), name) for name in names[:COMPARED]]
    return tuple(name for score, name in sorted(scored, key=lambda each: (-each[0], each[1])) if score >= LIKE)[
        :NEAREST
    ]


@lru_cache(maxsize=4096)
def _pairs(text: str) -> frozenset[str]:
    """The pairs of letters next to each other."""
    key = f" {key_of(text)[:80]} "
    return frozenset(key[place : place + 2] for place in range(len(key) - 1))


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))


def _add(found: dict[str, list[str]], key: str, name: str) -> None:
    if key and name not in found.setdefault(key, []):
        found[key].append(name)
