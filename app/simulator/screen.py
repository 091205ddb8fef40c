"""The user-defined screen: one record read or written by a request."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from app.simulator.grid import enveloped
from app.simulator.lines import BY_SCREEN, COLUMNS, Column, Line, Value
from app.simulator.store import NotFound, Store, Unusable
from app.simulator.writing import WORDS, Writing, zone_of

SCREEN = "CUPFA2"
ACTIONS = ("GET", "ADD", "UPDATE", "DELETE")
MODIFIED = "This record has been modified by another user"
LONGEST_TEXT = 4000
MOST = Decimal(10) ** 15
DIGITS = 10  # after the point
QUALIFIER = "OTHER"

KEY, ORGANIZATION = (str(column.screen) for column in COLUMNS[:2])
EDITABLE = [column for column in COLUMNS if column.screen and column.kind != "key"]
BLANK = {column.field: False if column.kind == "flag" else None for column in EDITABLE}
SHOUTED, DOR = ("model", "manufacturer"), "PROJECT"  # what a normalizing PEMS makes capitals, and of no dor
CENT = Decimal("0.01")
FIRST_EPOCH = 10_000  # smaller years are those of a calendar
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Data(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A value, in the member of its type."""

    textdata: Any = None
    numericdata: Any = None
    datetimedata: Any = None


class Pair(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A field's name and its value."""

    userdefinedscreenfieldname: str
    userdefinedscreenfieldvalue: Data | None = None


class Pairs(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """The list of fields."""

    userdefinedscreenfieldvaluepair: tuple[Pair, ...] = ()


class ScreenRequest(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A request to the screen."""

    userdefinedscreenname: str
    userdefinedserviceaction: str
    userdefinedscreenfieldvaluelist: Pairs
    recordid: int | None = msgspec.field(default=None, name="recordid")

    @property
    def action(self) -> str:
        return self.userdefinedserviceaction

    @property
    def values(self) -> dict[str, Data]:
        """By the field's name."""
        pairs = self.userdefinedscreenfieldvaluelist.userdefinedscreenfieldvaluepair
        return {pair.userdefinedscreenfieldname: pair.userdefinedscreenfieldvalue or Data() for pair in pairs}


class Moment(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A day, as PEMS says it: its year in one of two forms. The hour is of no interest."""

    year: int
    month: int
    day: int
    timezone: str = "+0000"


class Digits(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A number, as PEMS says it: its digits, how many of them stand after the point, its sign."""

    value: int
    numofdec: int
    sign: str


def answer(store: Store, request: ScreenRequest, writing: Writing) -> bytes:
    """Do what is asked for; the body of the answer. Raises Unusable."""
    if request.userdefinedscreenname != SCREEN:
        raise Unusable(f"{request.userdefinedscreenname[:80]} is not a valid screen")
    if request.action not in ACTIONS:
        raise Unusable(f"{request.action[:80]} is not a valid action")
    values = request.values
    key, organization = _key(values.pop(KEY, None)), _key(values.pop(ORGANIZATION, None))
    if organization not in store.tables:
        raise Unusable(f"{organization} is not a valid organization")
    if request.action == "ADD":
        return _add(store, organization, key, values, writing)
    found = store.find(organization, key)
    if found is None:
        raise NotFound
    if request.action != "GET" and request.recordid != found[1]:
        raise Unusable(MODIFIED)
    if request.action == "DELETE":
        store.delete(organization, key, "client")
        return _answered("DELETE", _identity(key, organization))
    if request.action == "UPDATE":
        store.put(organization, key, _changes(found[0], values, writing), "client")
    return _held(store, request.action, organization, key, writing)


def _add(store: Store, organization: str, key: str, values: Mapping[str, Data], writing: Writing) -> bytes:
    key = key or store.next_key(organization)
    if store.find(organization, key):
        raise Unusable("Record already exists")
    store.put(organization, key, _changes(None, values, writing), "client")
    return _held(store, "ADD", organization, key, writing)


def _changes(line: Line | None, values: Mapping[str, Data], writing: Writing) -> dict[str, Any]:
    """What becomes of the line, or of a new one, by the contract's names. Raises Unusable."""
    fields = _fields(values, writing)
    if line is not None and writing.update == "put":
        fields = BLANK | fields
    return _normalized(line, fields) if writing.normalize else fields


def _normalized(line: Line | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Texts trimmed, some in capitals; numbers rounded; a dor in any case."""
    normalized: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            value = value.strip() or None
        elif isinstance(value, Decimal):
            value = value.quantize(CENT, ROUND_HALF_UP)
        normalized[name] = value.upper() if value and name in SHOUTED else value
    if normalized.get("dor", line.dor if line else None) is None:
        normalized["dor"] = DOR
    return normalized


def _held(store: Store, action: str, organization: str, key: str, writing: Writing) -> bytes:
    found = store.find(organization, key)
    assert found is not None, "it has been read or written just now"
    line, recordid = found
    pairs = [_pair(str(column.screen), _data(column, getattr(line, column.name), writing)) for column in EDITABLE]
    return _answered(action, _identity(key, organization) + pairs, recordid)


def _answered(action: str, pairs: list[dict[str, Any]], recordid: int | None = None) -> bytes:
    service: dict[str, Any] = {
        "USERDEFINEDSCREENNAME": SCREEN,
        "USERDEFINEDSERVICEACTION": action,
        "USERDEFINEDSCREENFIELDVALUELIST": {"USERDEFINEDSCREENFIELDVALUEPAIR": pairs},
    }
    if recordid is not None:
        service["recordid"] = recordid
    return enveloped({"UserDefinedScreenService": service})


def _identity(key: str, organization: str) -> list[dict[str, Any]]:
    return [_pair(KEY, {"TEXTDATA": key}), _pair(ORGANIZATION, {"TEXTDATA": organization})]


def _pair(name: str, data: Any) -> dict[str, Any]:
    return {"USERDEFINEDSCREENFIELDNAME": name, "USERDEFINEDSCREENFIELDVALUE": data}


def _data(column: Column, value: Any, writing: Writing) -> dict[str, Any]:
    if column.kind == "number":
        bare = value is None or writing.screen_numbers == "bare"
        return {"NUMERICDATA": value if bare else digits_of(value)}
    if column.kind == "date":
        return {"DATETIMEDATA": moment_of(value, writing) if value else None}
    return {"TEXTDATA": WORDS[writing.screen_flags][not value] if column.kind == "flag" else value}


def moment_of(day: date, writing: Writing) -> dict[str, Any]:
    """A day's midnight where the server is, as PEMS says it."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone_of(writing.zone))
    fixed = timezone(midnight.utcoffset() or timedelta())
    since = datetime(day.year, 1, 1, tzinfo=fixed) - EPOCH
    return {
        "YEAR": since // timedelta(milliseconds=1) if writing.year == "epoch" else day.year,
        "MONTH": day.month,
        "DAY": day.day,
        "HOUR": 0,
        "MINUTE": 0,
        "SECOND": 0,
        "SUBSECOND": 0,
        "TIMEZONE": f"{midnight:%z}",
        "qualifier": QUALIFIER,
    }


def digits_of(value: Decimal) -> dict[str, Any]:
    """A number as PEMS says it."""
    decimals = max(0, -int(value.as_tuple().exponent))
    return {
        "VALUE": int(abs(value).scaleb(decimals)),
        "NUMOFDEC": decimals,
        "SIGN": "-" if value < 0 else "+",
        "CURRENCY": None,
        "DRCR": None,
        "UOM": "default",
        "qualifier": QUALIFIER,
    }


def _key(data: Data | None) -> str:
    text = data.textdata if data else None
    if not isinstance(text, str | None) or len(text or "") > 80:
        raise Unusable("The record's PFS_ID or PFS_A_ORG is not a valid text")
    return text or ""


def _fields(values: Mapping[str, Data], writing: Writing) -> dict[str, Any]:
    """What is written, by the contract's names."""
    fields = {}
    for name, data in values.items():
        column = BY_SCREEN.get(name)
        if column is None:
            raise Unusable(f"{name[:80]} is not a valid field of {SCREEN}")
        fields[column.field] = _value(column, data, writing)
    return fields


def _value(column: Column, data: Data, writing: Writing) -> Value:
    """What a field is to hold; raises Unusable."""
    members = {"number": "numericdata", "date": "datetimedata"}
    member = members.get(column.kind, "textdata")
    given = getattr(data, member)
    if any(getattr(data, other) is not None for other in Data.__struct_fields__ if other != member):
        raise Unusable(f"{column.screen} in another member than {member.upper()} is not a valid {column.label}")
    if given is None or given == "":
        return False if column.kind == "flag" else None
    if column.kind == "number":
        return _number(column, given, writing)
    if column.kind == "date":
        return _day(column, given, writing)
    return _flag(column, given, writing) if column.kind == "flag" else _text(column, given)


def _flag(column: Column, given: Any, writing: Writing) -> bool:
    yes, no = WORDS[writing.screen_flags]
    if given not in (yes, no):
        raise _invalid(column, given)
    return bool(given == yes)


def _text(column: Column, given: Any) -> str:
    if not isinstance(given, str) or len(given) > LONGEST_TEXT or (column.values and given not in column.values):
        raise _invalid(column, given)
    return given


def _number(column: Column, given: Any, writing: Writing) -> Decimal:
    number = _bare(column, given) if writing.screen_numbers == "bare" else _digits(column, given)
    if abs(number) >= MOST or int(number.as_tuple().exponent) < -DIGITS:
        raise _invalid(column, given)
    return number


def _bare(column: Column, given: Any) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise _invalid(column, given)
    return Decimal(given)


def _digits(column: Column, given: Any) -> Decimal:
    try:
        digits = msgspec.convert(given, Digits, strict=False)
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise _invalid(column, given) from None
    if not (0 <= digits.value < MOST.scaleb(DIGITS) and 0 <= digits.numofdec <= DIGITS and digits.sign in ("+", "-")):
        raise _invalid(column, given)
    number = Decimal(digits.value).scaleb(-digits.numofdec)
    return -number if digits.sign == "-" else number


def _day(column: Column, given: Any, writing: Writing) -> date:
    try:
        moment = msgspec.convert(given, Moment, strict=False)
        offset = datetime.strptime(moment.timezone, "%z").utcoffset() or timedelta()
        return date(_year(moment.year, timezone(offset), writing), moment.month, moment.day)
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise _invalid(column, given) from None


def _year(given: int, zone: timezone, writing: Writing) -> int:
    """The year in the form that is spoken here; raises ValueError, OverflowError."""
    if (given < FIRST_EPOCH) is (writing.year == "epoch"):
        raise ValueError("it is the other form")
    if writing.year == "calendar":
        return given
    start = (EPOCH + timedelta(milliseconds=given)).astimezone(zone)
    if start != datetime(start.year, 1, 1, tzinfo=zone):
        raise ValueError("it is within a year")
    return start.year


def _invalid(column: Column, given: Any) -> Unusable:
    return Unusable(f"{str(given)[:80]} is not a valid {column.label}")
