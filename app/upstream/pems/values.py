"""Values as PEMS writes them, and as contracts do: texts, grouped numbers, two kinds of dates, Y and N.

Whole columns are converted at once. Texts are what PEMS sends nearly always, and fast; a column that holds anything
else is looked at value by value.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from app.base.errors import Code
from app.contracts.model import FieldType

NUMBER = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d+)?([eE][+-]?\d{1,4})?", re.ASCII)
DAY = r"(?:(\d{4})-(\d\d)-(\d\d)|(\d{1,2})-([A-Za-z]{3})-(\d{4}))"
TIME = r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?)?"
MOMENT = re.compile(DAY + TIME, re.ASCII)
CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
MONTHS = {name: number for number, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
BOOLEANS = {
    **dict.fromkeys(("Y", "y", "+", "true", "True", "TRUE", "1"), True),
    **dict.fromkeys(("N", "n", "-", "false", "False", "FALSE", "0"), False),
}
TEXTS = {str, type(None)}
MAX_SHOWN = 60  # characters of a value in a message
MAX_DIGITS = 30  # of a whole number that is written with a point or an exponent
MIDNIGHT = time(0)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unreadable(ValueError):
    """A value that is not of its column's type; the message says what it is, without the field's name."""

    code = Code.INVALID_TYPE


Reader = Callable[[Any], Any]


# -- single values -----------------------------------------------------------------------------------------------------


def read_text(value: Any) -> str | None:
    """A text; an empty one is null."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Unreadable(f"{_shown(value)} is not a text.")
    if "\0" in value:
        raise Unreadable("The text holds the character NUL.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable("The text is not in UTF-8.") from None
    return value


def read_number(value: Any) -> int | Decimal | None:
    """`1,234.50`, or a number of JSON, with all its digits."""
    if isinstance(value, str):
        return _number_of(value)
    if value is None or (isinstance(value, int | Decimal) and not isinstance(value, bool)):
        return value
    raise Unreadable(f"{_shown(value)} is not a number.")


def read_integer(value: Any) -> int | Decimal | None:
    """A number; one without a fraction is whole, however it is written."""
    number = read_number(value)
    if isinstance(number, Decimal) and number.adjusted() < MAX_DIGITS and number == number.to_integral_value():
        return int(number)
    return number


def read_boolean(value: Any) -> bool | None:
    """`Y`, `+`, `1` and true against `N`, `-`, `0` and false."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    if isinstance(value, str):
        return _boolean_of(value)
    raise Unreadable(f"{_shown(value)} is neither Y nor N.")


def read_date(value: Any) -> str | None:
    """`15-JAN-2026` or ISO, as `YYYY-MM-DD`. A time of day is left out: the day is the one that is written."""
    if value is None:
        return None
    if isinstance(value, str):
        return _date_of(value)
    raise Unreadable(f"{_shown(value)} is not a date.")


def read_version(value: Any) -> str | None:
    """The mark of a modification: ISO in UTC with seconds where it is a time, any other text as it is."""
    if isinstance(value, str):
        return _version_of(value)
    return read_text(value)


@lru_cache(maxsize=8192)
def instant(text: str) -> datetime | None:
    """The time that a text says, in UTC; None where it says none. A time without a zone is UTC."""
    if CANONICAL.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return None
    match = MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.group(7, 8, 9))
    microsecond = int((match[10] or "0").ljust(6, "0")[:6])
    try:
        midnight = datetime.combine(_day(match), MIDNIGHT, _zone(match[11] or "Z"))
        return midnight.replace(hour=hour, minute=minute, second=second, microsecond=microsecond).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def format_instant(moment: datetime) -> str:
    """ISO in UTC, whole seconds: `2026-02-28T10:33:00Z`."""
    return f"{moment.astimezone(UTC).isoformat()[:19]}Z"


@lru_cache(maxsize=8192)
def _number_of(text: str) -> int | Decimal | None:
    text = text.strip()
    if not text:
        return None
    match = NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise Unreadable(f"{_shown(text)} is not a number.")
    plain = text.replace(",", "")
    try:
        return Decimal(plain) if match[3] or match[4] else int(plain)
    except (ValueError, InvalidOperation):
        raise Unreadable(f"{_shown(text)} has too many digits.") from None


@lru_cache(maxsize=64)
def _boolean_of(text: str) -> bool | None:
    text = text.strip()
    if not text:
        return None
    if text not in BOOLEANS:
        raise Unreadable(f"{_shown(text)} is neither Y nor N.")
    return BOOLEANS[text]


@lru_cache(maxsize=32768)
def _date_of(text: str) -> str | None:
    text = text.strip()
    if not text:
        return None
    match = MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        return _day(match).isoformat()
    except ValueError:
        raise Unreadable(f"{_shown(text)} is not a date.") from None


@lru_cache(maxsize=8192)
def _version_of(text: str) -> str | None:
    moment = instant(text)
    return read_text(text) if moment is None else format_instant(moment)


def _day(match: re.Match[str]) -> date:
    if match[1]:
        return date(int(match[1]), int(match[2]), int(match[3]))
    month = MONTHS.get(match[5].upper())
    if month is None:
        raise ValueError
    return date(int(match[6]), month, int(match[4]))


def _zone(text: str) -> timezone:
    """The zone of `Z`, `+02:00` or `-0500`; ValueError for others."""
    if text == "Z":
        return UTC
    match = OFFSET.fullmatch(text)
    if match is None:
        raise ValueError
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


# -- columns -----------------------------------------------------------------------------------------------------------

READERS: dict[FieldType, Reader] = {
    "text": read_text,
    "enum": read_text,
    "number": read_number,
    "integer": read_integer,
    "boolean": read_boolean,
    "date": read_date,
}

# What reads a text as fast as may be, for columns that hold nothing but texts and nulls.
QUICK: dict[Reader, Reader] = {
    read_number: _number_of,
    read_boolean: _boolean_of,
    read_date: _date_of,
    read_version: _version_of,
}


def read_column(read: Reader, values: Sequence[Any]) -> list[Any]:
    """The values of one column; in the place of one that cannot be read stands its Unreadable."""
    if set(map(type, values)) <= TEXTS:
        try:
            return _read_texts(values) if read is read_text else _read_quickly(QUICK.get(read, read), values)
        except (Unreadable, UnicodeEncodeError):
            pass  # one of them: the way below tells which
    return [_try(read, value) for value in values]


def _read_texts(values: Sequence[str | None]) -> list[str | None]:
    joined = "".join(filter(None, values))
    if "\0" in joined:
        raise Unreadable
    joined.encode()
    return [value or None for value in values]


def _read_quickly(read: Reader, values: Sequence[str | None]) -> list[Any]:
    if None in values:
        return [None if value is None else read(value) for value in values]
    return list(map(read, values))


def _try(read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except Unreadable as error:
        return error


# -- the screen's values -----------------------------------------------------------------------------------------------


def write_value(kind: FieldType, value: Any) -> dict[str, Any]:
    """A value of a contract's type as the screen takes it; null empties the field."""
    match kind:
        case "number" | "integer":
            return {"NUMERICDATA": value}
        case "date":
            return {"DATETIMEDATA": None if value is None else _screen_date(date.fromisoformat(value))}
        case "boolean":
            return {"TEXTDATA": None if value is None else "Y" if value else "N"}
        case _:
            return {"TEXTDATA": value}


def read_screen_value(kind: FieldType, value: dict[str, Any]) -> Any:
    """A field's value as the screen shows it; raises Unreadable."""
    stamp = value.get("DATETIMEDATA")
    if stamp is not None:
        return READERS[kind](_day_of(stamp) if kind == "date" else stamp)
    number = value.get("NUMERICDATA")
    return READERS[kind](value.get("TEXTDATA") if number is None else number)


def _screen_date(day: date) -> dict[str, Any]:
    """Midnight, UTC: YEAR is that time in epoch milliseconds, not a year."""
    milliseconds = (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
    parts = {"MONTH": day.month, "DAY": day.day, "HOUR": 0, "MINUTE": 0, "SECOND": 0}
    return {"YEAR": milliseconds, **parts, "TIMEZONE": "+0000"}


def _day_of(stamp: Any) -> str:
    """The day that a DATETIMEDATA says, in the zone that it names."""
    try:
        zone = _zone(stamp.get("TIMEZONE") or "Z")
        return (EPOCH + timedelta(milliseconds=int(stamp["YEAR"]))).astimezone(zone).date().isoformat()
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise Unreadable(f"{_shown(stamp)} is not a date.") from None
