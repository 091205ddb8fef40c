"""Whether a value that upstream keeps may be what it made of the one that was sent: other case, trimmed, rounded."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.contracts.shape import FieldType

CUT = 15  # characters: fewer are not what is left of a text that was too long


def alike(kind: FieldType, sent: Any, kept: Any) -> bool:
    """Whether the two may be the same value, as upstream was given it and as it keeps it."""
    if sent == kept or (sent in (None, "") and kept in (None, "", False)):
        return True
    if sent is None or kept is None:
        return False
    if kind in ("text", "enum"):
        given, found = (" ".join(str(text).split()).casefold() for text in (sent, kept))
        return given == found or (len(found) >= CUT and given.startswith(found))
    if kind in ("number", "integer"):
        return abs(Decimal(sent) - Decimal(kept)) < Decimal(1).scaleb(min(0, _exponent(Decimal(kept))))
    return False


def _exponent(number: Decimal) -> int:
    """Of the last digit that is kept."""
    exponent = number.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def is_near(kinds: Mapping[str, FieldType], sent: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    """Whether a row may be what was sent: of the values that were given at least half are alike."""
    given = {name: value for name, value in sent.items() if value not in (None, "")}
    same = sum(alike(kinds[name], value, kept.get(name)) for name, value in given.items())
    return bool(given) and 2 * same >= len(given)
