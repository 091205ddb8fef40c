"""The values of a field's type: what can be held, filtered by and compared at all."""

import datetime
import re
from decimal import Decimal
from typing import Any

from app.contracts.shape import FieldType

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# What vanguard.as_number and vanguard.as_integer can index.
MAX_DIGITS = 30
MAX_DECIMALS = 20
MAX_INTEGER = 2**53 - 1


def has_type(kind: FieldType, value: Any) -> bool:
    """Whether the value is one of a field of that type; null is of none."""
    match kind:
        case "text" | "enum":
            return isinstance(value, str)
        case "number":
            return is_number(value)
        case "integer":
            return is_number(value) and value == int(value) and -MAX_INTEGER <= value <= MAX_INTEGER
        case "boolean":
            return isinstance(value, bool)
        case "date":
            return is_date(value)


def is_number(value: Any) -> bool:
    """A number in bounds: below 1e30 with at most 20 decimals; true and false are none."""
    return not isinstance(value, bool) and isinstance(value, int | Decimal) and fits(value)


def is_date(value: Any) -> bool:
    """A day of the calendar as YYYY-MM-DD."""
    if not (isinstance(value, str) and ISO_DATE.fullmatch(value) and value.isascii()):
        return False
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def fits(value: int | Decimal) -> bool:
    """Below 1e30 with at most 20 decimals; decided without expanding an exponent."""
    if isinstance(value, int):
        return bool(abs(value) < 10**MAX_DIGITS)
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= MAX_DECIMALS and (value == 0 or value.adjusted() < MAX_DIGITS)
