"""Words of a sentence that stand as values: matched against all values that a field has in the caller's view."""

import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from app.base.database import Connection
from app.base.errors import AmbiguousQuery, InvalidFilter, UnknownWord
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.filters import Listing
from app.engine.desk import Desk
from app.engine.figures import Wanted
from app.engine.predicates import Arguments
from app.engine.query.catalogue import Catalogue
from app.engine.query.composing import Asker
from app.engine.query.model import Query
from app.engine.view import OWN, UNION, Composed, view_of
from app.english import AskedValue, Reading
from app.english.lexicon import nearest
from app.kpis import read_kpis

FIND_VALUES = statement("query_previews/find_values")
MOST_SHOWN = 10
MOST_KNOWN = 5000  # values of a dimension that a word is held against; of more, those that contain it


async def match_values(connection: Connection, catalogue: Catalogue, asker: Asker, reading: Reading) -> Query:
    """The query with the values that were meant.

    Raises UnknownWord where a word matches none, AmbiguousQuery where it matches several; both with up to ten values.
    """
    found: dict[int, str] = {}
    for asked in reading.asked:
        contract = catalogue.datasets[asked.dataset].contract
        found[asked.place] = await _match(Desk(connection, contract, asker.organization), asker.user, asked)
    return reading.with_values(found)


async def _match(desk: Desk, user: str, asked: AskedValue) -> str:
    values, whole = await _values(desk, user, asked)
    equal = [value for value in values if _folded(value) == _folded(asked.word)]
    if asked.word in equal:
        return asked.word
    if len(equal) == 1:
        return equal[0]
    at = f"At character {asked.place + 1}, {asked.word[:80]!r}"
    told: dict[str, Any] = {"word": asked.word[:80], "place": asked.place}
    if equal:
        shown = equal[:MOST_SHOWN]
        detail = f"{at} is one of several values of {asked.field}. Say which, in quotes: {_quoted(shown)}."
        raise AmbiguousQuery(detail, candidates=shown, **told)
    near = _near(asked.word, values, whole=whole)
    hint = f" There is {_quoted(near)}." if near else ""
    raise UnknownWord(f"{at} is no value of {asked.field} in your view.{hint}", candidates=near, **told)


def _near(word: str, values: Sequence[str], *, whole: bool) -> list[str]:
    """Values that contain the word, and those that are spelled like it."""
    containing = [value for value in values if _folded(word) in _folded(value)]
    alike = nearest(word, values) if whole else ()
    few = values if whole and len(values) <= MOST_SHOWN else []
    return list(dict.fromkeys([*alike, *containing, *few]))[:MOST_SHOWN]


def _folded(text: str) -> str:
    """What is alike whatever the case and the form of Unicode, as in vanguard.fold."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f'"{value[:80]}"' for value in values)


async def _values(desk: Desk, user: str, asked: AskedValue) -> tuple[list[str], bool]:
    """Values of the field, and whether they are all of them: an enum's; a dimension's, as KPIs know them; else those
    that contain the word; of ids the word itself, if there is one.
    """
    contract = desk.contract
    field = contract.by_name.get(asked.field)
    if field is not None and field.values:
        return list(field.values), True
    if asked.field in contract.dimensions:
        wanted = Wanted(listing=Listing(), keys=(asked.field,), most=MOST_KNOWN)
        with suppress(InvalidFilter):  # there are more
            groups = (await read_kpis(desk, user, wanted)).groups
            there = [key[asked.field] for key, figures in groups if figures["mine_row_count"]]
            return [value for value in there if value is not None], True
    rows = await desk.connection.rows(find(contract, Asker(desk.organization, user), asked))
    return [row["value"] for row in rows], False


def find(contract: Contract, asker: Asker, asked: AskedValue) -> Composed:
    """The statement that finds values of a text that contain the word; of ids, the one that is called so."""
    arguments = Arguments(asker.organization, MOST_SHOWN + 1, asker.user, asked.word)
    searched = asked.field in contract.searched
    view = view_of(contract, Listing(search=asked.word if searched else None), [asked.field], arguments)
    mirror, drafts = ["m.organization_id = $1", *view.filters.on(view.mirror)], [OWN, view.lands]
    if asked.field == "id":
        mirror.append("m.row_key = $4")
        drafts.append("x.row_key = $4")
    # What no index finds is folded once for each value, and not for each row.
    select = "SELECT" if searched else "SELECT DISTINCT"
    covered = f"NOT EXISTS (SELECT FROM pfa.modification AS x WHERE {OWN} AND {view.leaves} AND x.row_key = m.row_key)"
    arms = [
        f"{select} {view.mirror.column(asked.field)} AS value\n      FROM pfa.mirror AS m\n"
        f"     WHERE {' AND '.join([*mirror, covered])}",
        f"{select} {view.after.column(asked.field)} AS value\n      FROM pfa.modification AS x{view.joins}\n"
        f"     WHERE {' AND '.join(drafts)}",
    ]
    return Composed(FIND_VALUES.fill(arms=UNION.join(arms)).within(contract.schema), arguments.values)
