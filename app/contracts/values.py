"""What a value of a field's type is: the readers of sql/schema/vanguard.sql, in Python."""

import datetime
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the model checks the expressions of its rules, which read values
    from app.contracts.model import FieldType

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
MOMENT = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}T{_TIME}Z", re.ASCII)
RFC_3339 = re.compile(rf"(\d{{4}}-\d{{2}}-\d{{2}})[Tt ]({_TIME})([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII)
# What vanguard.as_number and vanguard.as_integer can index.
MAX_DIGITS = 30
MAX_DECIMALS = 20
MAX_INTEGER = 2**53 - 1


def read_value(kind: "FieldType", value: Any) -> Any:
    """What vanguard.as_* make of a JSON value: str, Decimal, bool, datetime.date or an aware datetime; None for what is
    not of the type.

    Texts are read at any length, as by vanguard.as_long_text.
    """
    match kind:
        case "text" | "enum":
            return value if isinstance(value, str) else None
        case "number":
            return Decimal(value) if _is_number(value) and fits(value) else None
        case "integer":
            return Decimal(value) if _is_number(value) and _is_whole(value) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return read_date(value)
        case "datetime":
            return read_datetime(value)


def has_type(kind: "FieldType", value: Any) -> bool:
    """Whether the value is one of a field of that type; null is of none."""
    return read_value(kind, value) is not None


def write_number(value: Decimal) -> str:
    """The shortest text of a number: without an exponent, and without zeros behind the last digit of its fraction."""
    if not value:
        return "0"  # also of one with a sign, or with an exponent
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_date(value: Any) -> datetime.date | None:
    """The day of the calendar that is written YYYY-MM-DD; None for anything else."""
    if not (isinstance(value, str) and ISO_DATE.fullmatch(value) and value.isascii()):
        return None
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        return None


def is_date(value: Any) -> bool:
    """A day of the calendar as YYYY-MM-DD."""
    return read_date(value) is not None


def read_datetime(value: Any) -> datetime.datetime | None:
    """The moment that is written YYYY-MM-DDTHH:MM:SSZ, with up to six digits of a fraction; None for anything else."""
    if not (isinstance(value, str) and MOMENT.fullmatch(value)):
        return None
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:  # no day of the calendar
        return None


def write_datetime(moment: datetime.datetime) -> str:
    """The one way in which a document has an aware moment: in UTC, without zeros at the end of its fraction."""
    text = moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"


def normalize_datetime(text: str) -> str | None:
    """The moment of an RFC 3339 text, whose T may be a space, as a document has it.

    None for what is no such text, and for what UTC to the microsecond cannot say: no offset, a leap second, more than
    six digits of a fraction, a year that is not 1 to 9999 in UTC.
    """
    found = RFC_3339.fullmatch(text)
    if found is None:
        return None
    day, time, offset = found.groups()
    try:
        return write_datetime(datetime.datetime.fromisoformat(f"{day}T{time}{offset.upper()}"))
    except (ValueError, OverflowError):
        return None


def order_of(kind: "FieldType", value: Any) -> Any:
    """What values of a type are ordered by where their JSON is not: a moment; it is None where that is none."""
    return read_datetime(value) if kind == "datetime" else value


def fits(value: int | Decimal) -> bool:
    """Below 1e30 with at most 20 decimals; decided without expanding an exponent."""
    if isinstance(value, int):
        return bool(abs(value) < 10**MAX_DIGITS)
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= MAX_DECIMALS and (value == 0 or value.adjusted() < MAX_DIGITS)


def decimals(value: int | Decimal) -> int:
    """How many digits a number has after the point, without zeros at their end; it has to fit."""
    if isinstance(value, int):
        return 0
    _, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits))
    return max(0, -int(exponent) - (len(text) - len(text.rstrip("0")))) if value else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _is_whole(value: int | Decimal) -> bool:
    """Whether it is a whole number of the integers that every client can hold."""
    if isinstance(value, Decimal):
        return value.is_finite() and value.copy_abs() <= MAX_INTEGER and value == value.to_integral_value()
    return abs(value) <= MAX_INTEGER
