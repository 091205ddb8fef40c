"""The statements under sql/: loaded once, qualified for a dataset's schema, filled at their markers.

A file runs as it stands in psql, against the built-in schema `pfa`. Where composed text goes, it has a marker

    /*{name}*/ text that fits the schema pfa /*{}*/

whose inside is replaced; `fill` takes text made from contract-checked identifiers and `$n` only.
"""

import re
from functools import lru_cache
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2] / "sql"
BUILT_IN_SCHEMA = "pfa"
MARKER = re.compile(r"/\*\{(\w+)\}\*/.*?/\*\{\}\*/", re.DOTALL)
QUALIFIER = re.compile(rf"\b{BUILT_IN_SCHEMA}\.")


class Statement(msgspec.Struct, frozen=True):
    """One file of sql/, `name` being its path without the ending: `rows/read_page`."""

    name: str
    text: str

    @property
    def markers(self) -> frozenset[str]:
        """Names of the places that `fill` replaces."""
        return frozenset(_pieces(self.text)[1::2])

    def within(self, schema: str) -> "Statement":
        """The same statement on another dataset's schema."""
        return _within(self, schema)

    def fill(self, **parts: str) -> "Statement":
        """Replace every marker; raises KeyError for one left out or one that the file does not have."""
        if parts.keys() != self.markers:
            raise KeyError(f"{self.name} has the markers {sorted(self.markers)}, not {sorted(parts)}")
        pieces = list(_pieces(self.text))
        pieces[1::2] = [parts[name] for name in pieces[1::2]]
        return Statement(self.name, "".join(pieces))


@lru_cache(maxsize=256)
def _pieces(text: str) -> tuple[str, ...]:
    """The text between markers and the names of markers, by turns: taken apart once, for pages are composed often."""
    return tuple(MARKER.split(text))


@lru_cache(maxsize=1024)
def _within(statement: Statement, schema: str) -> Statement:
    return Statement(statement.name, QUALIFIER.sub(f"{schema}.", statement.text))


def _load() -> dict[str, Statement]:
    names = {path: path.relative_to(ROOT).with_suffix("").as_posix() for path in sorted(ROOT.rglob("*.sql"))}
    return {name: Statement(name, path.read_text(encoding="utf-8")) for path, name in names.items()}


STATEMENTS = _load()


def statement(name: str) -> Statement:
    """The statement of that name; raises KeyError at import where the file is missing."""
    return STATEMENTS[name]
