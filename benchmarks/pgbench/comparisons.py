"""The comparisons: what the application sends in some situations, and what could stand in its place.

All of it is composed when it is asked for. A rival is a file `rival_*.sql` in the folder of its comparison, with the
steps that differ, or a function of rivals.py.
"""

import datetime
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from app.base import exact_json
from app.contracts import PFA
from app.contracts.filters import read_listing, read_parameters
from app.contracts.images import qualified
from app.drafts import SAVE_DRAFTS
from app.engine.cursors import Cursor
from app.engine.page import PageComposer
from app.engine.view import Composed
from benchmarks.pgbench.rivals import capped, joined, replaced
from benchmarks.pgbench.scripts import Script, Situation, Situations, script_of
from benchmarks.pgbench.world import ORGANIZATION

HOME = Path(__file__).parent

NOBODY = {"no drafts": "nobody"}
FEW = {"50 drafts": "few"}
MANY = {"10,000 drafts, spread": "spread"}
HEAD = {"50,000 drafts that move the head to the end": "mover"}
HOT = "sort=forecastStart&count=none"
FILTERED = f"category=Cranes&{HOT}"
# Behind three quarters of 200,000 seeded lines, and the page that is there.
DEEP = Cursor(("2027-08-09",), "PFA-0097208")
DEEP_PAGE = 1501
SHAPED = {
    "18,000 lines pass": "category=Cranes&source=Rental",
    "200 lines pass": "category=Aerial Lifts&source=Purchase",
}
SAVED = {
    "1 draft": ("writer", 1),
    "1 draft, beside 50,000 that one has": ("mover", 1),
    "100 drafts": ("writer", 100),
    "1,000 drafts": ("writer", 1_000),
}
LISTED = {"all lines": "", "one category, 11 % of the lines": "category=Aerial Lifts&"}

# A batch is made by a function, as its parameter is given.
DRAFTS = """CREATE OR REPLACE FUNCTION pg_temp.drafts(size int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_build_object(
               'id', 'PFA-' || lpad((i * 20)::text, 7, '0'), 'op', 'update', 'unset', '[]'::jsonb,
               'delta', jsonb_build_object('forecastStart', (date '2026-01-01' + i % 1000)::text)))
      FROM generate_series(1, size) AS i
$$;
"""


class Comparison(NamedTuple):
    """What is chosen, and the rivals that are no files; `first` is what a script needs before its statement."""

    chosen: Callable[[], Situations]
    rivals: Mapping[str, Callable[[Situations], Situations]] = {}
    first: str = ""


def scripts_of(slug: str) -> list[Script]:
    """The chosen one, then its rivals."""
    comparison = COMPARISONS[slug]
    chosen = comparison.chosen()
    rivals = {name: make(chosen) for name, make in comparison.rivals.items()}
    for path in sorted((HOME / slug).glob("rival_*.sql")):
        rivals[path.stem.removeprefix("rival_").replace("_", " ")] = _each(chosen, _with_steps_of(path))
    return [script_of(name, found, comparison.first) for name, found in {"chosen": chosen, **rivals}.items()]


def _each(situations: Situations, edit: Callable[[str], str]) -> Situations:
    """The same situations with an edited statement."""
    return {label: each._replace(statement=edit(each.statement)) for label, each in situations.items()}


def _with_steps_of(path: Path) -> Callable[[str], str]:
    fragment = path.read_text(encoding="utf-8")
    return lambda statement: replaced(statement, fragment)


# -- pages ------------------------------------------------------------------------------------------------------------


def _composer(user: str, query: str) -> PageComposer:
    return PageComposer(PFA, read_listing(PFA, read_parameters(query.encode())), ORGANIZATION, user)


def _situation(composed: Composed, before: str = "") -> Situation:
    return Situation(composed.statement.text, [*map(literal, composed.arguments)], before)


def _pages(users: Mapping[str, str], query: str = HOT, cursor: Cursor | None = None) -> Situations:
    """The page of a list request, for each of the users."""
    return {
        label: _situation(_composer(user, query).page(cursor, counted=False, base_count=False))
        for label, user in users.items()
    }


def _shaped() -> Situations:
    """A page of a category and a source, of which there are many lines, or few."""
    return {
        label: _situation(_composer("nobody", f"{query}&{HOT}").page(None, counted=False, base_count=False))
        for label, query in SHAPED.items()
    }


def _counted() -> Situations:
    """A page as it is counted for the first time."""
    return {
        label: _situation(_composer("nobody", f"{query}sort=forecastStart").page(None, counted=True, base_count=True))
        for label, query in LISTED.items()
    }


def _estimated() -> Situations:
    """A page with `count=estimated`: the mirror's count is estimated by a statement before it."""
    found = {}
    for label, query in LISTED.items():
        composer = _composer("nobody", f"{query}sort=forecastStart&count=estimated")
        found[label] = _situation(composer.page(None, counted=True, base_count=False), _estimate(composer))
    return found


def _estimate(composer: PageComposer) -> str:
    """The statement whose plan estimates, with its arguments in it: the application has it planned at each request."""
    composed = composer.estimate()
    text = " ".join(line.strip() for line in composed.statement.text.splitlines() if not line.startswith("--"))
    for number, argument in enumerate(composed.arguments, 1):
        text = re.sub(rf"\${number}\b", literal(argument), text)
    return f"{text} "


# -- a batch ----------------------------------------------------------------------------------------------------------


def _saved() -> Situations:
    """A batch, in a transaction that is rolled back."""
    text = qualified(SAVE_DRAFTS, PFA).text
    groups, start = literal(PFA.cell_map), literal({"hasPlan": False, "hasActuals": False})
    found = {}
    for label, (user, size) in SAVED.items():
        drafts, at = f"pg_temp.drafts({size})", "'2026-03-01 00:00:00+00'"
        arguments = [literal(ORGANIZATION), literal(user), "1", drafts, groups, at, "NULL", start]
        arguments += ["NULL", "NULL", "FALSE", "'pfa'"]
        found[label] = Situation(text, arguments, "BEGIN; ", " ROLLBACK;")
    return found


def literal(value: object) -> str:
    """An argument as SQL."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int() | Decimal():
            return str(value)
        case str() | datetime.date():
            return "'" + str(value).replace("'", "''") + "'"
        case dict():
            return literal(exact_json.encode(value).decode())
    raise TypeError(f"{value!r} cannot be written")


COMPARISONS: Mapping[str, Comparison] = {
    "two-arms": Comparison(lambda: _pages(NOBODY | FEW | MANY | HEAD)),
    "merged-values": Comparison(lambda: _pages(NOBODY | FEW | MANY, FILTERED)),
    "covered-rows": Comparison(lambda: _pages(NOBODY | MANY | HEAD)),
    "keys-first": Comparison(lambda: _pages(NOBODY | MANY | HEAD)),
    "rendered-as-text": Comparison(lambda: _pages(NOBODY | MANY)),
    "cursor": Comparison(
        lambda: _pages(NOBODY, cursor=DEEP), {"offset": lambda chosen: _pages(NOBODY, f"{HOT}&page={DEEP_PAGE}")}
    ),
    "filter-shape": Comparison(_shaped),
    "total": Comparison(
        _counted, {"capped": lambda chosen: _each(chosen, capped), "estimated": lambda chosen: _estimated()}
    ),
    "bulk-save": Comparison(_saved, {"join": lambda chosen: _each(chosen, joined)}, DRAFTS),
}
