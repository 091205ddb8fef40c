"""The user-defined screen: one record read or written by a request."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec

from app.simulator.filters import FLAGS
from app.simulator.grid import enveloped
from app.simulator.lines import BY_SCREEN, COLUMNS, Column, Value
from app.simulator.store import NotFound, Store, Unusable

SCREEN = "CUPFA2"
ACTIONS = ("GET", "ADD", "UPDATE", "DELETE")
MODIFIED = "This record has been modified by another user"
LONGEST_TEXT = 4000
MOST = Decimal(10) ** 15
DIGITS = 10  # after the point

KEY, ORGANIZATION = (str(column.screen) for column in COLUMNS[:2])
EDITABLE = [column for column in COLUMNS if column.screen and column.kind != "key"]
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
    """A time, as PEMS says it: all of it in epoch milliseconds, and parts of it."""

    year: int
    month: int
    day: int
    hour: int = 0
    minute: int = 0
    second: int = 0
    timezone: str = "+0000"


def answer(store: Store, request: ScreenRequest) -> bytes:
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
        return _add(store, organization, key, values)
    found = store.find(organization, key)
    if found is None:
        raise NotFound
    if request.action != "GET" and request.recordid != found[1]:
        raise Unusable(MODIFIED)
    if request.action == "DELETE":
        store.delete(organization, key, "client")
        return _answered("DELETE", _identity(key, organization))
    if request.action == "UPDATE":
        store.put(organization, key, _fields(values), "client")
    return _held(store, request.action, organization, key)


def _add(store: Store, organization: str, key: str, values: Mapping[str, Data]) -> bytes:
    key = key or store.next_key(organization)
    if store.find(organization, key):
        raise Unusable("Record already exists")
    store.put(organization, key, _fields(values), "client")
    return _held(store, "ADD", organization, key)


def _held(store: Store, action: str, organization: str, key: str) -> bytes:
    found = store.find(organization, key)
    assert found is not None, "it has been read or written just now"
    line, recordid = found
    pairs = [_pair(str(column.screen), _data(column, getattr(line, column.name))) for column in EDITABLE]
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


def _data(column: Column, value: Any) -> dict[str, Any]:
    if column.kind == "number":
        return {"NUMERICDATA": value}
    if column.kind == "date":
        return {"DATETIMEDATA": moment_of(value) if value else None}
    return {"TEXTDATA": ("Y" if value else "N") if column.kind == "flag" else value}


def moment_of(day: date) -> dict[str, Any]:
    """A day's midnight, UTC, as PEMS says it."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH
    return {
        "YEAR": since // timedelta(milliseconds=1),
        "MONTH": day.month,
        "DAY": day.day,
        "HOUR": 0,
        "MINUTE": 0,
        "SECOND": 0,
        "TIMEZONE": "+0000",
    }


def _key(data: Data | None) -> str:
    text = data.textdata if data else None
    if not isinstance(text, str | None) or len(text or "") > 80:
        raise Unusable("The record's PFS_ID or PFS_A_ORG is not a valid text")
    return text or ""


def _fields(values: Mapping[str, Data]) -> dict[str, Any]:
    """What is written, by the contract's names."""
    fields = {}
    for name, data in values.items():
        column = BY_SCREEN.get(name)
        if column is None:
            raise Unusable(f"{name[:80]} is not a valid field of {SCREEN}")
        fields[column.field] = _value(column, data)
    return fields


def _value(column: Column, data: Data) -> Value:
    """What a field is to hold; raises Unusable."""
    members = {"number": "numericdata", "date": "datetimedata"}
    member = members.get(column.kind, "textdata")
    given = getattr(data, member)
    if any(getattr(data, other) is not None for other in Data.__struct_fields__ if other != member):
        raise Unusable(f"{column.screen} in another member than {member.upper()} is not a valid {column.label}")
    if given is None or given == "":
        return False if column.kind == "flag" else None
    if column.kind == "number":
        return _number(column, given)
    if column.kind == "date":
        return _day(column, given)
    return _text(column, given)


def _text(column: Column, given: Any) -> Value:
    if not isinstance(given, str) or len(given) > LONGEST_TEXT:
        raise _invalid(column, given)
    if column.kind == "flag":
        if given not in FLAGS:
            raise _invalid(column, given)
        return FLAGS[given]
    if column.values and given not in column.values:
        raise _invalid(column, given)
    return given


def _number(column: Column, given: Any) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise _invalid(column, given)
    number = Decimal(given)
    if abs(number) >= MOST or int(number.as_tuple().exponent) < -DIGITS:
        raise _invalid(column, given)
    return number


def _day(column: Column, given: Any) -> date:
    try:
        moment = msgspec.convert(given, Moment, strict=False)
        hours = datetime.strptime(moment.timezone, "%z").utcoffset() or timedelta()
        local = (EPOCH + timedelta(milliseconds=moment.year)).astimezone(timezone(hours))
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise _invalid(column, given) from None
    if (local.month, local.day) != (moment.month, moment.day):
        raise _invalid(column, given)
    return local.date()


def _invalid(column: Column, given: Any) -> Unusable:
    return Unusable(f"{str(given)[:80]} is not a valid {column.label}")
