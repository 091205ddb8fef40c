"""The values of the user-defined screen: read in every form, written in the one that was read.

A date is `DATETIMEDATA`: DAY and MONTH say the day, and YEAR its year: the epoch milliseconds of the beginning of that
year in the zone of the server, or four digits. A number is `NUMERICDATA`: an object with its digits and how many of
them are decimals, or a number of JSON. A flag is a text in one of several forms.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.contracts.shape import FieldType
from app.upstream.pems.config import Locale, Writes
from app.upstream.pems.values import FLAGS, Readers, Unreadable, decimal_sign_of, shown

Value = Mapping[str, Any]  # a field's value as the screen has it: TEXTDATA, NUMERICDATA or DATETIMEDATA

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
FARTHEST = timedelta(hours=15)  # of a year's beginning from that in UTC, in whatever zone
CALENDAR_YEARS = 10_000  # below it YEAR is a year
MOST_DECIMALS = 30
MOST_DIGITS = 100  # of a whole number that is written as text, with a point or an exponent
WHOLE = re.compile(rf"[+-]?\d{{1,{MOST_DIGITS}}}", re.ASCII)

# How values look where the screen has shown none yet. Members that nobody knows are left to PEMS.
NUMBER = {"VALUE": 0, "NUMOFDEC": 0, "SIGN": "+", "qualifier": "OTHER"}
MOMENT = {
    "YEAR": 1970, "MONTH": 1, "DAY": 1, "HOUR": 0, "MINUTE": 0, "SECOND": 0, "SUBSECOND": 0, "TIMEZONE": "+0000",
    "qualifier": "OTHER",
}  # fmt: skip
MIDNIGHT = ("HOUR", "MINUTE", "SECOND", "SUBSECOND")


class Forms:
    """Reads the values of one screen, and remembers in which forms it shows them.

    A value is written in the form that its field has in the record, else in the one that was last seen, else as the
    vendor documents it; `Writes` overrides all three.
    """

    def __init__(self, writes: Writes, locale: Locale):
        self._writes = writes
        self._locale = locale
        self._readers = Readers(locale)
        self._seen: dict[str, Any] = {}

    @property
    def seen(self) -> Mapping[str, Any]:
        """The last number, moment and form of a flag that were read; none of those that the screen has not shown."""
        return self._seen

    def read(self, kind: FieldType, value: Value) -> Any:
        """A field's value as the contract has it; raises Unreadable."""
        if kind == "date" and value.get("DATETIMEDATA") is not None:
            moment = value["DATETIMEDATA"]
            day = _day_of(moment)
            self._seen["moment"] = moment
            return day.isoformat()
        if kind == "datetime" and value.get("DATETIMEDATA") is not None:
            raise Unreadable(f"{shown(value['DATETIMEDATA'])} has no time of day that is read of a screen.")
        number = value.get("NUMERICDATA")
        if kind in ("number", "integer") and isinstance(number, dict):
            found = self._readers.of(kind).value(_number_of(number))
            if found is not None:
                self._seen["number"] = value
            return found
        given = value.get("TEXTDATA") if number is None else number
        read = self._readers.of(kind).value(given)
        if read is not None and kind == "boolean":
            # What stands for false stands for it in two forms; the one that was seen with its true is kept.
            self._seen["flag"] = _flag_form(given, self._seen.get("flag"))
        if read is not None and kind in ("number", "integer"):
            self._seen["number"] = value
        return read

    def write(self, kind: FieldType, value: Any, shown: Value | None) -> dict[str, Any]:
        """The value as the screen takes it, null empties the field; `shown`: as the record has the field."""
        shown = shown or {}
        match kind:
            case "date":
                return {"DATETIMEDATA": None if value is None else self._moment(value, shown.get("DATETIMEDATA"))}
            case "number" | "integer":
                like = shown if _says(shown) else self._seen.get("number", {"NUMERICDATA": NUMBER})
                as_text = self._writes.numbers is None and like.get("NUMERICDATA") is None
                member = "TEXTDATA" if as_text else "NUMERICDATA"
                return {member: None if value is None else self._number(value, like.get(member))}
            case "boolean":
                return {"TEXTDATA": None if value is None else self._flag(value, shown.get("TEXTDATA"))}
            case _:
                return {"TEXTDATA": value}

    def _moment(self, value: str, shown: Any) -> dict[str, Any]:
        """Midnight of a day."""
        day = date.fromisoformat(value)
        like = shown if isinstance(shown, dict) else self._seen.get("moment")
        if like is None:
            like = {**MOMENT, "TIMEZONE": datetime(day.year, 1, 1, tzinfo=self._locale.tz).strftime("%z")}
            calendar = self._writes.year == "calendar"
        else:
            calendar = _is_calendar(like) if self._writes.year is None else self._writes.year == "calendar"
        beginning = datetime(day.year, 1, 1, tzinfo=UTC) - EPOCH
        year = day.year if calendar else (beginning + _lateness(like)) // MILLISECOND
        parts = {"YEAR": year, "MONTH": day.month, "DAY": day.day, **{name: 0 for name in MIDNIGHT if name in like}}
        return {**like, **{name: _as(like.get(name), part) for name, part in parts.items()}}

    def _number(self, value: int | Decimal, like: Any) -> Any:
        as_object = isinstance(like, dict) if self._writes.numbers is None else self._writes.numbers == "object"
        if as_object:
            return _digits_of(Decimal(value), like if isinstance(like, dict) else NUMBER)
        if self._writes.numbers is None and isinstance(like, str):
            text = f"{Decimal(value):f}"
            return text.replace(".", self._locale.decimal_sign or decimal_sign_of(like))
        return value

    def _flag(self, value: bool, shown: Any) -> Any:
        if self._writes.flags is not None:
            yes, _, no = self._writes.flags.partition("/")
            return yes if value else no
        if isinstance(shown, bool):
            return value
        yes, no = _flag_form(shown, self._seen.get("flag"))
        return yes if value else no


# -- reading -----------------------------------------------------------------------------------------------------------


def _day_of(moment: Any) -> date:
    """The day that a DATETIMEDATA says; raises Unreadable."""
    try:
        year = _whole(moment["YEAR"])
        if not _is_calendar(moment):
            beginning = EPOCH + year * MILLISECOND
            year = (beginning + FARTHEST).year
            if abs(beginning - datetime(year, 1, 1, tzinfo=UTC)) > FARTHEST:
                raise Unreadable(f"{shown(moment['YEAR'])} is neither a year nor the beginning of one.")
        return date(year, _whole(moment["MONTH"]), _whole(moment["DAY"]))
    except Unreadable:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise Unreadable(f"{shown(moment)} is not a date.") from None


def _is_calendar(moment: Mapping[str, Any]) -> bool:
    return 1 <= _whole(moment["YEAR"]) < CALENDAR_YEARS


def _lateness(moment: Mapping[str, Any]) -> timedelta:
    """How much later than in UTC a year begins where the moment was written."""
    if not _is_calendar(moment):
        beginning = EPOCH + _whole(moment["YEAR"]) * MILLISECOND
        return beginning - datetime((beginning + FARTHEST).year, 1, 1, tzinfo=UTC)
    try:
        offset = datetime.strptime(str(moment.get("TIMEZONE") or "+0000"), "%z").utcoffset()
    except ValueError:
        offset = None
    return -(offset or timedelta(0))


def _number_of(number: Mapping[str, Any]) -> int | Decimal | None:
    """The number that a NUMERICDATA says; raises Unreadable."""
    if number.get("VALUE") in (None, ""):
        return None
    sign = number.get("SIGN") or "+"
    try:
        digits, decimals = _whole(number["VALUE"]), _count(number.get("NUMOFDEC"))
        if not 0 <= decimals <= MOST_DECIMALS or sign not in ("+", "-"):
            raise ValueError
        if digits < 0 and number.get("SIGN"):
            raise ValueError  # the sign of a negative number is said twice
    except (KeyError, TypeError, ValueError):
        raise Unreadable(f"{shown(dict(number))} is not a number of digits, decimals and a sign.") from None
    signed = -digits if sign == "-" else digits
    # By its text: arithmetic keeps 28 digits.
    return Decimal(f"{signed}E-{decimals}") if decimals else signed


def _digits_of(number: Decimal, like: Mapping[str, Any]) -> dict[str, Any]:
    """The NUMERICDATA that says a number. Members that are not there stay so where they can, and a sign in VALUE."""
    sign, digits, exponent = number.as_tuple()
    decimals = max(0, -int(exponent), min(_count(like.get("NUMOFDEC")), MOST_DECIMALS))
    value = int("".join(map(str, digits))) * 10 ** (int(exponent) + decimals)
    parts = {"VALUE": value, "NUMOFDEC": decimals, "SIGN": "-" if sign and value else "+"}
    if not decimals and not like.get("NUMOFDEC"):
        del parts["NUMOFDEC"]
    if not like.get("SIGN") and (parts["SIGN"] == "+" or str(like.get("VALUE")).strip().startswith("-")):
        parts["VALUE"] = -value if parts.pop("SIGN") == "-" else value
    return {**like, **{name: _as(like.get(name), part) for name, part in parts.items()}}


def _says(shown: Value) -> bool:
    """Whether a field has a value."""
    return any(member is not None and member != "" for member in shown.values())


def _count(value: Any) -> int:
    return 0 if value in (None, "") else _whole(value)


def _whole(value: Any) -> int:
    """A whole number, as JSON or as text; raises TypeError, ValueError."""
    if isinstance(value, Decimal) and value.adjusted() <= MOST_DIGITS and value == value.to_integral_value():
        return int(value)
    if isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError


def _flag_form(text: Any, seen: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """What stands for true and false where this stands for one of them."""
    if isinstance(text, bool):
        return True, False
    if isinstance(text, int):
        return (-1, 0) if text == -1 or (text == 0 and seen == (-1, 0)) else (1, 0)
    if seen is not None and (text is None or str(text).strip() == seen[1] or not str(text).strip()):
        return seen
    written = str(text).strip() if text is not None else ""
    return next((pair for pair in FLAGS if written in pair), FLAGS[0])


def _as(like: Any, number: Any) -> Any:
    """The part in the type that it was read in."""
    return str(number) if isinstance(like, str) and not isinstance(number, str) else number
