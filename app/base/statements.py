"""The statements under sql/: loaded once, qualified for a dataset's schema, filled at their markers.

A file runs as it stands in psql, against the built-in schema `pfa`. Where composed text goes, it has a marker

    /*{name}*/ text that fits the schema pfa /*{}*/

whose inside is replaced; `fill` takes text made from contract-checked identifiers and `$n` only.

The comment at the head of a file names each parameter where it explains it: `$1 organization, $2 keys (text[])`. The
word behind `$n` is the name that Python gives the value by.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from keyword import iskeyword
from pathlib import Path
from typing import Any, ClassVar

import msgspec

ROOT = Path(__file__).parents[2] / "sql"
BUILT_IN_SCHEMA = "pfa"
MARKER = re.compile(r"/\*\{(\w+)\}\*/.*?/\*\{\}\*/", re.DOTALL)
QUALIFIER = re.compile(rf"\b{BUILT_IN_SCHEMA}\.")
HEADER = re.compile(r"(?:--.*\n)*")
PARAMETER = re.compile(r"\$(\d+)(?: ([a-z][a-z0-9_]*))?")


class Statement(msgspec.Struct, frozen=True):
    """One file of sql/, `name` being its path without the ending: `rows/read_page`.

    `parameters` are the names of `$1`, `$2` and on. A statement with markers can have more behind them, which whoever
    composes it places.
    """

    name: str
    text: str
    parameters: tuple[str, ...] = ()
    composed: ClassVar[bool] = False

    @property
    def markers(self) -> frozenset[str]:
        """Names of the places that `fill` replaces."""
        return frozenset(_pieces(self.text)[1::2])

    def bind(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in the order of the parameters; raises TypeError where one is missing, or is none of them."""
        try:
            ordered = tuple([given[name] for name in self.parameters])
        except KeyError:
            raise self._misfit(given) from None
        if len(given) != len(ordered):
            raise self._misfit(given)
        return ordered

    def _misfit(self, given: Mapping[str, Any]) -> TypeError:
        missing = [name for name in self.parameters if name not in given]
        unknown = sorted(given.keys() - set(self.parameters))
        wrong = [f"{what} {', '.join(names)}" for what, names in (("misses", missing), ("has no", unknown)) if names]
        return TypeError(f"{self.name} {' and '.join(wrong)}")

    def within(self, schema: str) -> "Statement":
        """The same statement on another dataset's schema."""
        return _within(self, schema)

    def fill(self, **parts: str) -> "Statement":
        """Replace every marker; raises KeyError for one left out or one that the file does not have."""
        if parts.keys() != self.markers:
            raise KeyError(f"{self.name} has the markers {sorted(self.markers)}, not {sorted(parts)}")
        pieces = list(_pieces(self.text))
        pieces[1::2] = [parts[name] for name in pieces[1::2]]
        return Statement(self.name, "".join(pieces), self.parameters)


@lru_cache(maxsize=256)
def _pieces(text: str) -> tuple[str, ...]:
    """The text between markers and the names of markers, by turns: taken apart once, for pages are composed often."""
    return tuple(MARKER.split(text))


@lru_cache(maxsize=1024)
def _within(statement: Statement, schema: str) -> Statement:
    return Statement(statement.name, QUALIFIER.sub(f"{schema}.", statement.text), statement.parameters)


def read_statement(name: str, text: str) -> Statement:
    """The statement of a file's text; raises ValueError where its header does not name each parameter once."""
    return Statement(name, text, () if name.startswith("schema/") else _parameters(name, text))


def _parameters(name: str, text: str) -> tuple[str, ...]:
    header = HEADER.match(text)
    names: dict[int, str] = {}
    for number, given in PARAMETER.findall(header[0] if header else ""):
        if names.setdefault(int(number), given) != given and given:
            raise ValueError(f"{name}: the header has two names for ${number}")
    if sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError(f"{name}: the header has {', '.join(f'${n}' for n in sorted(names))}: not 1, 2 and on")
    for number, given in names.items():
        if not given or iskeyword(given):
            raise ValueError(f"{name}: the header has no name for ${number} that Python can call it by")
    if len(set(names.values())) != len(names):
        raise ValueError(f"{name}: the header gives two parameters one name")
    return tuple(names[number] for number in sorted(names))


def _load() -> dict[str, Statement]:
    names = {path: path.relative_to(ROOT).with_suffix("").as_posix() for path in sorted(ROOT.rglob("*.sql"))}
    return {name: read_statement(name, path.read_text(encoding="utf-8")) for path, name in names.items()}


STATEMENTS = _load()


def statement(name: str) -> Statement:
    """The statement of that name; raises KeyError at import where the file is missing."""
    return STATEMENTS[name]
