"""Names of fields made of what files call their columns."""

import re
import unicodedata
from collections.abc import Iterable

from app.contracts.model import RECEIVED_AT
from app.contracts.shape import snake
from app.contracts.soundness import MAX_COLUMN, RESERVED

FIELD_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,39}")
# Words of a text, and of one in camelCase: IMDBRating is IMDB and Rating.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Letters that are no letter with an accent.
SPELT = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"})
SPELT |= str.maketrans({"ł": "l", "Ł": "L", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "\u0131": "i"})
LONGEST = 30


def field_names(headers: Iterable[str]) -> dict[str, str]:
    """Header -> the name of its field: itself where it can be one, else one made of its words; no two alike in SQL.

    A header that can be a name has the name, whichever comes first: a column is looked for by the field's name before
    labels are asked.
    """
    headers = list(headers)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for header in headers:
        if _is_free(header, taken):
            names[header] = header
            taken.add(snake(header))
    for place, header in enumerate(headers, 1):
        if header not in names:
            names[header] = _free(_made(header, place), taken, headers)
            taken.add(snake(names[header]))
    return {header: names[header] for header in headers}


def _is_free(name: str, taken: set[str]) -> bool:
    usable = FIELD_NAME.fullmatch(name) and len(snake(name)) <= MAX_COLUMN
    return bool(usable) and name not in RESERVED and name != RECEIVED_AT and snake(name) not in taken


def _made(header: str, place: int) -> str:
    """A name of the header's words; of a header without Latin letters and digits, one of its place."""
    spelt = unicodedata.normalize("NFKD", header[:200].translate(SPELT)).encode("ascii", "ignore").decode()
    words = WORD.findall(spelt.replace("'", ""))
    if not words:
        return f"column{place}"
    if words[0][0].isdigit():
        words.insert(0, "column")
    name = ""
    for word in words:
        longer = name + (word.capitalize() if name else word.lower())
        if name and len(longer) > LONGEST:
            break
        name = longer[:LONGEST]
    if name == "id":
        return "recordId"
    return f"{name}Value" if name in RESERVED or name == RECEIVED_AT else name


def _free(name: str, taken: set[str], headers: list[str]) -> str:
    """The name, with a number where another field, or another column of the file, is called that."""
    number, found = 1, name
    while not _is_free(found, taken) or found in headers:
        number += 1
        found = f"{name}{number}"
    return found
