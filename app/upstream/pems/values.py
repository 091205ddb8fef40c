"""The cells of a grid as contracts have them, in the locale of whoever reads.

Whole columns are converted at once. Texts are what PEMS sends nearly always, and fast; a column that holds anything
else is looked at value by value. A cell that two readings would take for different values is never guessed: 1.234 is
read only where the decimal sign is known, 06/07/2024 only where the order is.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple, cast

from app.base.errors import Code
from app.contracts.shape import FieldType
from app.contracts.values import write_datetime
from app.upstream.pems.config import Locale

NUMBER = re.compile(r"([+-]?)([\d.,'\u00a0\u202f ]+)(?:[eE]([+-]?\d{1,4}))?", re.ASCII)
GROUPED = re.compile(r"\d{1,3}(?:([.,'\u00a0\u202f ])\d{3})(?:\1\d{3})*", re.ASCII)
DAY = r"(?:(\d{4})-(\d\d)-(\d\d)|(\d{1,2})-([A-Za-z]{3})-(\d{4})|(\d{1,2})([/.-])(\d{1,2})\8(\d{4}))"
TIME = r"(?:[T ](\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?([AaPp][Mm])? ?(Z|[+-]\d\d:?\d\d)?)?"
MOMENT = re.compile(DAY + TIME, re.ASCII)
CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
MONTHS = {name: number for number, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
# What stands for true and for false, each as it is written: what was read says in which form to write.
FLAGS: tuple[tuple[str, str], ...] = (
    ("Y", "N"), ("Yes", "No"), ("YES", "NO"), ("yes", "no"), ("y", "n"), ("+", "-"), ("1", "0"), ("-1", "0"),
    ("true", "false"), ("True", "False"), ("TRUE", "FALSE"),
)  # fmt: skip
BOOLEANS = {text: text == pair[0] for pair in FLAGS for text in pair}
TEXTS = {str, type(None)}
LONGEST = 100  # characters of a number, a date or a flag
MAX_SHOWN = 60  # characters of a value in a message
MAX_DIGITS = 30  # of a whole number that is written with a point or an exponent
MIDNIGHT = time(0)


class Unreadable(ValueError):
    """A value that is not of its column's type; the message says what it is, without the field's name."""

    code: str = Code.INVALID_TYPE


class Ambiguous(Unreadable):
    """A value that could be two."""

    code = Code.AMBIGUOUS_VALUE


class Reader(NamedTuple):
    """What reads a column: any value, and, as fast as may be, a text. Both raise Unreadable."""

    value: Callable[[Any], Any]
    text: Callable[[str], Any]


class Readers:
    """What reads the columns of a grid that is written in one locale."""

    def __init__(self, locale: Locale):
        number = lru_cache(maxsize=8192)(_numbers(locale))
        day = lru_cache(maxsize=32768)(_days(locale))
        moment = lru_cache(maxsize=32768)(_moments(locale))
        version = lru_cache(maxsize=8192)(_versions(locale))
        whole = Reader(_whole(_number_or(number)), _whole(number))
        self._readers: dict[FieldType, Reader] = {
            "text": Reader(read_text, read_text),
            "enum": Reader(read_text, read_text),
            "number": Reader(_number_or(number), number),
            "integer": whole,
            "boolean": Reader(read_boolean, _boolean_of),
            "date": Reader(_only_text(day, "a date"), day),
            "datetime": Reader(_only_text(moment, "a moment"), moment),
        }
        self.version = Reader(lambda value: version(value) if isinstance(value, str) else read_text(value), version)

    def of(self, kind: FieldType) -> Reader:
        """The reader of a contract's type."""
        return self._readers[kind]


# -- columns -----------------------------------------------------------------------------------------------------------


def read_column(read: Reader, values: Sequence[Any]) -> list[Any]:
    """The values of one column; in the place of one that cannot be read stands its Unreadable."""
    if set(map(type, values)) <= TEXTS:
        try:
            return _read_texts(values) if read.text is read_text else _read_quickly(read.text, values)
        except (Unreadable, UnicodeEncodeError):
            pass  # one of them: the way below tells which
    return [_try(read.value, value) for value in values]


def _read_texts(values: Sequence[str | None]) -> list[str | None]:
    joined = "".join(filter(None, values))
    if "\0" in joined:
        raise Unreadable
    joined.encode()
    return [value or None for value in values]


def _read_quickly(read: Callable[[str], Any], values: Sequence[str | None]) -> list[Any]:
    if None in values:
        return [None if value is None else read(value) for value in values]
    return list(map(read, cast("Sequence[str]", values)))


def _try(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except Unreadable as error:
        return error


# -- texts and flags ---------------------------------------------------------------------------------------------------


def read_text(value: Any) -> str | None:
    """A text; an empty one is null."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Unreadable(f"{shown(value)} is not a text.")
    if "\0" in value:
        raise Unreadable("The text holds the character NUL.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable("The text is not in UTF-8.") from None
    return value


def read_boolean(value: Any) -> bool | None:
    """`Y`, `Yes`, `+`, `1`, `-1` and true against `N`, `No`, `-`, `0` and false."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (-1, 0, 1):
        return value != 0
    if isinstance(value, str):
        return _boolean_of(value)
    raise Unreadable(f"{shown(value)} is neither Y nor N.")


@lru_cache(maxsize=64)
def _boolean_of(text: str) -> bool | None:
    text = text.strip()
    if not text:
        return None
    if text not in BOOLEANS:
        raise Unreadable(f"{shown(text)} is neither Y nor N.")
    return BOOLEANS[text]


# -- numbers -----------------------------------------------------------------------------------------------------------

Number = int | Decimal | None


def _number_or(read: Callable[[str], Number]) -> Callable[[Any], Number]:
    """As text by `read`, or a number of JSON, with all its digits."""

    def number(value: Any) -> Number:
        if isinstance(value, str):
            return read(value)
        if value is None or (isinstance(value, int | Decimal) and not isinstance(value, bool)):
            return value
        raise Unreadable(f"{shown(value)} is not a number.")

    return number


def _whole(read: Callable[[Any], Number]) -> Callable[[Any], Number]:
    """A number; one without a fraction is whole, however it is written."""

    def number(value: Any) -> Number:
        found = read(value)
        if isinstance(found, Decimal) and found.adjusted() < MAX_DIGITS and found == found.to_integral_value():
            return int(found)
        return found

    return number


def _numbers(locale: Locale) -> Callable[[str], Number]:
    sign = locale.decimal_sign

    def number(text: str) -> Number:
        text = text.strip()
        if not text:
            return None
        match = NUMBER.fullmatch(text) if len(text) <= LONGEST else None
        if match is None:
            raise Unreadable(f"{shown(text)} is not a number.")
        plain = _plain(match[2], sign, scientific=match[3] is not None)
        if plain is None:
            raise Unreadable(f"{shown(text)} is not a number.")
        if match[3] is None and "." not in plain:
            return int(match[1] + plain)
        try:
            return Decimal(f"{match[1]}{plain}{'' if match[3] is None else 'E' + match[3]}")
        except InvalidOperation:
            raise Unreadable(f"{shown(text)} has too many digits.") from None

    return number


def _plain(digits: str, sign: str | None, *, scientific: bool) -> str | None:
    """The digits with a point before the fraction and nothing else between them; None where they are no number.

    Raises Ambiguous.
    """
    if digits.isdigit():
        return digits
    if sign is None:
        sign = _sign_of(digits, scientific=scientific)
    whole, point, fraction = digits.partition(sign)
    if point and not fraction.isdigit():
        return None
    if whole and not whole.isdigit():
        if GROUPED.fullmatch(whole) is None:
            return None
        whole = "".join(filter(str.isdigit, whole))
    return f"{whole or '0'}.{fraction}" if fraction else whole


def decimal_sign_of(number: str) -> str:
    """The decimal sign of a number that could be read; a point where it has none."""
    return _sign_of(number, scientific=True) if "." in number or "," in number else "."


def _sign_of(digits: str, *, scientific: bool) -> str:
    """The decimal sign, as the number itself tells it; raises Ambiguous."""
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        return "." if digits.rindex(".") > digits.rindex(",") else ","
    mark = "." if points else ","
    if points + commas > 1:
        return "," if points else "."  # it comes again and again, between groups
    whole, _, fraction = digits.partition(mark)
    if not scientific and len(fraction) == 3 and 1 <= len(whole) <= 3 and whole.isdigit() and whole[0] != "0":
        raise Ambiguous(
            f"{shown(digits)} could be {whole}{fraction} or {whole}.{fraction}: locale.decimalSign says which."
        )
    return mark


# -- dates and times ---------------------------------------------------------------------------------------------------


def _only_text(read: Callable[[str], str | None], what: str) -> Callable[[Any], str | None]:
    def value_of(value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, str):
            return read(value)
        raise Unreadable(f"{shown(value)} is not {what}.")

    return value_of


def _days(locale: Locale) -> Callable[[str], str | None]:
    """What makes `YYYY-MM-DD` of a date. A time of day is left out: the day is the one that is written."""

    def day(text: str) -> str | None:
        text = text.strip()
        if not text:
            return None
        match = MOMENT.fullmatch(text) if len(text) <= LONGEST else None
        try:
            if match is None:
                raise ValueError
            return _day(match, locale.date_order).isoformat()
        except Unreadable:
            raise
        except ValueError:
            raise Unreadable(f"{shown(text)} is not a date.") from None

    return day


def _moments(locale: Locale) -> Callable[[str], str | None]:
    """What makes a moment of a time, which stands in the locale's zone where it names none."""
    zone = locale.tz

    def moment(text: str) -> str | None:
        if not text.strip():
            return None
        found = _moment(text, locale.date_order, zone)
        if found is None:
            raise Unreadable(f"{shown(text)} is not a moment.")
        return write_datetime(found)

    return moment


def _versions(locale: Locale) -> Callable[[str], str | None]:
    """What reads the mark of a modification: ISO in UTC with seconds where it is a time, any other text as it is."""
    zone = locale.tz

    def version(text: str) -> str | None:
        moment = _moment(text, locale.date_order, zone)
        return read_text(text) if moment is None else format_instant(moment)

    return version


@lru_cache(maxsize=8192)
def instant(text: str) -> datetime | None:
    """The time that a mark says as it was read, in UTC; None where it says none."""
    if CANONICAL.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def format_instant(moment: datetime) -> str:
    """ISO in UTC, whole seconds: `2026-02-28T10:33:00Z`."""
    return f"{moment.astimezone(UTC).isoformat()[:19]}Z"


def _moment(text: str, order: str | None, zone: tzinfo) -> datetime | None:
    """The time that a text says; None where it says none. Raises Ambiguous."""
    match = MOMENT.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.group(11, 12, 13))
    microsecond = int((match[14] or "0").ljust(6, "0")[:6])
    half = (match[15] or "").upper()
    try:
        if half:
            hour = datetime.strptime(f"{hour} {half}", "%I %p").hour
        midnight = datetime.combine(_day(match, order), MIDNIGHT, zone if match[16] is None else _zone(match[16]))
        return midnight.replace(hour=hour, minute=minute, second=second, microsecond=microsecond).astimezone(UTC)
    except Unreadable:
        raise
    except (ValueError, OverflowError):
        return None


def _day(match: re.Match[str], order: str | None) -> date:
    """The day that was matched; raises ValueError, Ambiguous."""
    if match[1]:
        return date(int(match[1]), int(match[2]), int(match[3]))
    if match[5]:
        month = MONTHS.get(match[5].upper())
        if month is None:
            raise ValueError
        return date(int(match[6]), month, int(match[4]))
    first, second, year = int(match[7]), int(match[9]), int(match[10])
    if order is None and first != second and 1 <= first <= 12 and 1 <= second <= 12:
        raise Ambiguous(
            f"{shown(match[0])} could be day {first} of month {second} or day {second} of month {first}: "
            "locale.dateOrder says which."
        )
    day_first = order == "dayFirst" or (order is None and first > 12)
    return date(year, second, first) if day_first else date(year, first, second)


def _zone(text: str) -> timezone:
    """The zone of `Z`, `+02:00` or `-0500`; ValueError for others."""
    if text == "Z":
        return UTC
    match = OFFSET.fullmatch(text)
    if match is None:
        raise ValueError
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def shown(value: Any) -> str:
    """A value in a message, shortened."""
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
