"""What words stand for as a value of a field's type, in JSON's values, and how a value is said."""

import re
from decimal import Decimal
from typing import Any

from app.contracts.filters import parse
from app.contracts.shape import FieldType
from app.contracts.values import normalize_datetime
from app.english.misfit import Misfit
from app.english.sentences import Value

GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?", re.ASCII)
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
WANTED: dict[FieldType, str] = {
    "number": "a number, such as 1,000.50",
    "integer": "a whole number, such as 1,000",
    "boolean": "true or false",
    "date": "a date, such as 2026-01-31",
    "datetime": "a moment with its offset, such as 2026-01-31T08:30:00Z",
}


def read_value(kind: FieldType, value: Value) -> Any:
    """The value in JSON's; texts as they stand. Raises Misfit where the words are no value of the type."""
    text = value.text
    match kind:
        case "text" | "enum":
            return text
        case "boolean":
            found: Any = BOOLEANS.get(text.casefold())
        case "number" | "integer":
            found = _number(kind, text.replace(",", "") if GROUPED.fullmatch(text) else text)
        case "date":
            found = None if parse(kind, text) is None else text
        case "datetime":
            found = normalize_datetime(text)
    if found is None:
        raise Misfit("no such value fits here", text[:80], value.place, expected=(WANTED[kind],))
    return found


def _number(kind: FieldType, text: str) -> int | Decimal | None:
    """Digits as they were said, 1.50 not being 1.5: as the same number in a structured query."""
    number = parse(kind, text)
    if isinstance(number, Decimal):
        return int(number) if number.as_tuple().exponent == 0 else number
    return number if isinstance(number, int) else None


def say_value(value: Any) -> str:
    """A value as it is read back: texts in quotes, what is none of a field's as best as can be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return str(value)
    return quoted(value if isinstance(value, str) else str(value))


def quoted(text: str) -> str:
    """A text in quotes; those in it are doubled."""
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
