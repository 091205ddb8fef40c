"""The statements that the application sends, as scripts: `chosen.sql` of each comparison, and rivals that it has, too.

A script runs as it stands in psql. It prepares its statement, then executes it once for each situation; the comment at
the end of such a line names the situation.
"""

import datetime
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

from app.base import exact_json
from app.contracts import PFA
from app.contracts.filters import read_listing, read_parameters
from app.contracts.images import qualified
from app.drafts import SAVE_DRAFTS
from app.engine.page import Cursor, PageComposer
from app.engine.view import Composed
from benchmarks.pgbench.rivals import AllShapes, Capped, Coalesce, Hashed, LeftJoin
from benchmarks.pgbench.world import ORGANIZATION

HOME = Path(__file__).parent
HEADER = "-- Written by `python -m benchmarks.pgbench --write`: {}."

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


def _page(
    users: Mapping[str, str],
    query: str = HOT,
    *,
    cursor: Cursor | None = None,
    composer: type[PageComposer] = PageComposer,
) -> str:
    """The page of a list request, for each of the users."""
    return _script(
        f"GET D/rows?{query}" + (" behind a cursor" if cursor else ""),
        {
            label: _composer(user, query, composer).page(cursor, counted=False, base_count=False)
            for label, user in users.items()
        },
    )


def _shaped(composer: type[PageComposer]) -> str:
    """A page of a category and a source, of which there are many lines, or few."""
    return _script(
        f"GET D/rows?category=...&source=...&{HOT}",
        {
            label: _composer("nobody", f"{query}&{HOT}", composer).page(None, counted=False, base_count=False)
            for label, query in SHAPED.items()
        },
    )


def _counted(*, base_count: bool = True, composer: type[PageComposer] = PageComposer) -> dict[str, Composed]:
    """A page as it is counted for the first time."""
    return {
        label: _composer("nobody", f"{query}sort=forecastStart", composer).page(
            None, counted=True, base_count=base_count
        )
        for label, query in LISTED.items()
    }


def _estimate(label: str) -> str:
    """The statement whose plan estimates, with its arguments in it: the application has it planned at each request."""
    composed = _composer("nobody", f"{LISTED[label]}sort=forecastStart").estimate()
    text = " ".join(line.strip() for line in composed.statement.text.splitlines() if not line.startswith("--"))
    for number, argument in enumerate(composed.arguments, 1):
        text = re.sub(rf"\${number}\b", _literal(argument), text)
    return f"{text} "


def _composer(user: str, query: str, composer: type[PageComposer] = PageComposer) -> PageComposer:
    return composer(PFA, read_listing(PFA, read_parameters(query.encode())), ORGANIZATION, user)


def _saved(*, lateral: bool = True) -> str:
    """A batch, in a transaction that is rolled back; the drafts are made by a function, as a parameter is given."""
    text = qualified(SAVE_DRAFTS, PFA).text.rstrip().removesuffix(";")
    if not lateral:
        # Without LIMIT the planner makes the LATERAL an ordinary join, and chooses how.
        text, found = re.subn(r"\n *LIMIT 1\b", "", text)
        assert found, "the statement reads what is present in another way"
    groups, start = _literal(PFA.cell_map), _literal({"hasPlan": False, "hasActuals": False})
    runs = [
        f"BEGIN; EXECUTE statement ('{ORGANIZATION}', '{user}', 1, pg_temp.drafts({size}), {groups},"
        f" '2026-03-01 00:00:00+00', NULL, {start}); ROLLBACK; -- {label}"
        for label, (user, size) in SAVED.items()
    ]
    return "\n".join([HEADER.format("POST D/drafts"), DRAFTS, f"PREPARE statement AS\n{text};", *runs, ""])


DRAFTS = """CREATE FUNCTION pg_temp.drafts(size int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_build_object(
               'id', 'PFA-' || lpad((i * 20)::text, 7, '0'), 'op', 'update', 'unset', '[]'::jsonb,
               'delta', jsonb_build_object('forecastStart', (date '2026-01-01' + i % 1000)::text)))
      FROM generate_series(1, size) AS i
$$;"""


def _script(request: str, situations: Mapping[str, Composed], before: Callable[[str], str] = lambda label: "") -> str:
    """A script of one statement and its situations; `before` says what else is run in each."""
    names: dict[str, str] = {}
    for composed in situations.values():
        names.setdefault(composed.statement.text.rstrip().removesuffix(";"), f"statement_{len(names) + 1}")
    runs = [
        f"{before(label)}EXECUTE {name} ({', '.join(map(_literal, composed.arguments))}); -- {label}"
        for label, composed in situations.items()
        for name in [names[composed.statement.text.rstrip().removesuffix(";")]]
    ]
    prepared = [f"PREPARE {name} AS\n{text};" for text, name in names.items()]
    return "\n".join([HEADER.format(request), *prepared, *runs, ""])


def _literal(value: object) -> str:
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
            return _literal(exact_json.encode(value).decode())
    raise TypeError(f"{value!r} cannot be written")


COUNTED = "GET D/rows?sort=forecastStart, counted for the first time"

# File -> what makes it. The rivals that are not here are written by hand.
WRITTEN: Mapping[str, Callable[[], str]] = {
    "two-arms/chosen.sql": lambda: _page(NOBODY | FEW | MANY | HEAD),
    "two-arms/rival_left_join.sql": lambda: _page(NOBODY | FEW | MANY | HEAD, composer=LeftJoin),
    "merged-values/chosen.sql": lambda: _page(NOBODY | FEW | MANY, FILTERED),
    "merged-values/rival_coalesce.sql": lambda: _page(NOBODY | FEW | MANY, FILTERED, composer=Coalesce),
    "covered-rows/chosen.sql": lambda: _page(NOBODY | MANY | HEAD),
    "covered-rows/rival_not_in.sql": lambda: _page(NOBODY | MANY | HEAD, composer=Hashed),
    "keys-first/chosen.sql": lambda: _page(NOBODY | MANY | HEAD),
    "rendered-as-text/chosen.sql": lambda: _page(NOBODY | MANY),
    "cursor/chosen.sql": lambda: _page(NOBODY, cursor=DEEP),
    "cursor/rival_offset.sql": lambda: _page(NOBODY, f"{HOT}&page={DEEP_PAGE}"),
    "filter-shape/chosen.sql": lambda: _shaped(PageComposer),
    "filter-shape/rival_all_shapes.sql": lambda: _shaped(AllShapes),
    "total/chosen.sql": lambda: _script(COUNTED, _counted()),
    "total/rival_capped.sql": lambda: _script(COUNTED, _counted(composer=Capped)),
    "total/rival_estimated.sql": lambda: _script(
        "GET D/rows?sort=forecastStart&count=estimated",
        _counted(base_count=False),
        _estimate,
    ),
    "bulk-save/chosen.sql": _saved,
    "bulk-save/rival_join.sql": lambda: _saved(lateral=False),
}


def write() -> list[str]:
    """Write them all; returns the files whose text changed."""
    changed = []
    for name, make in WRITTEN.items():
        path, text = HOME / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed
