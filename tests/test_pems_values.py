"""Cells of a grid as the contract's values, in whichever locale: right, or refused, and never wrong."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.contracts.shape import FieldType
from app.simulator import Writing
from app.simulator.writing import WORDS, Dates, Numbers, date_text, number_text, plain_time_text, time_text
from app.upstream.pems.config import Locale
from app.upstream.pems.values import (
    Ambiguous,
    Reader,
    Readers,
    Unreadable,
    format_instant,
    instant,
    read_boolean,
    read_column,
    read_text,
)

UNKNOWN = Locale()
READERS = Readers(UNKNOWN)
KINDS = get_args(FieldType)
# What a setting says of each form in which the simulator writes.
DECIMAL_SIGNS: dict[Numbers, Any] = {"grouped": ".", "plain": ".", "comma": ",", "comma_plain": ","}
DATE_ORDERS: dict[Dates, Any] = {"text": None, "iso": None, "us": "monthFirst", "eu": "dayFirst"}


def reader(kind: str, locale: Locale = UNKNOWN) -> Reader:
    readers = Readers(locale)
    return readers.version if kind == "version" else readers.of(cast("FieldType", kind))


def read(kind: str, value: Any, **locale: Any) -> Any:
    return reader(kind, Locale(**locale)).value(value)


# --- single values


READ: dict[str, list[tuple[Any, Any]]] = {
    "text": [("Crane", "Crane"), (" x ", " x "), ("", None), (None, None)],
    "enum": [("Rental", "Rental"), ("", None)],
    "number": [
        ("1,234.50", Decimal("1234.50")),
        ("1,234.56", Decimal("1234.56")),
        ("1.234,56", Decimal("1234.56")),
        ("12,345,678", 12345678),
        ("12.345.678", 12345678),
        ("1 234 567,5", Decimal("1234567.5")),
        ("1\u202f234\u202f567", 1234567),
        ("1'234'567.50", Decimal("1234567.50")),
        ("3825.50", Decimal("3825.50")),
        ("3825,50", Decimal("3825.50")),
        ("1,5", Decimal("1.5")),
        ("1,2345", Decimal("1.2345")),
        ("1234.567", Decimal("1234.567")),
        ("1234,567", Decimal("1234.567")),
        ("0,123", Decimal("0.123")),
        ("0.000", Decimal("0.000")),
        (",500", Decimal("0.500")),
        ("-7", -7),
        ("+7", 7),
        (".5", Decimal("0.5")),
        (" 10 ", 10),
        ("1E3", Decimal("1E3")),
        ("1.234E3", Decimal("1.234E3")),
        ("1,5e-2", Decimal("1.5E-2")),
        ("0.10", Decimal("0.10")),
        ("", None),
        ("  ", None),
        (None, None),
        (7, 7),
        (Decimal("1.50"), Decimal("1.50")),
    ],
    "integer": [("12.00", 12), ("1,200.0", 1200), ("12.5", Decimal("12.5")), (Decimal("3.0"), 3), ("1E3", 1000)],
    "boolean": [
        *[(word, flag) for yes, no in WORDS.values() for word, flag in ((yes, True), (no, False))],
        *[("YES", True), ("NO", False), ("y", True), ("TRUE", True), ("False", False), (" Y ", True)],
        *[(-1, True), (1, True), (0, False), (True, True), (False, False), ("", None), (" ", None), (None, None)],
    ],
    "date": [
        ("15-JAN-2026", "2026-01-15"),
        ("5-jan-2026", "2026-01-05"),
        ("15-JAN-2026 10:33", "2026-01-15"),
        ("2026-01-15", "2026-01-15"),
        ("2026-01-15T00:00:00", "2026-01-15"),
        ("2026-01-15 23:59:59.9", "2026-01-15"),
        ("2026-01-15T23:30:00-05:00", "2026-01-15"),
        ("29-FEB-2024", "2024-02-29"),
        ("6/13/2024 15:56", "2024-06-13"),
        ("6/13/2024 3:56 PM", "2024-06-13"),
        ("13/06/2024", "2024-06-13"),
        ("13.06.2024", "2024-06-13"),
        ("06/06/2024", "2024-06-06"),
        ("12-31-2024", "2024-12-31"),
        ("01-JAN-0001", "0001-01-01"),
        ("", None),
        (None, None),
    ],
    "version": [
        ("2026-02-28T10:33:00Z", "2026-02-28T10:33:00Z"),
        ("2026-02-28 10:33", "2026-02-28T10:33:00Z"),
        ("28-FEB-2026 10:33:07", "2026-02-28T10:33:07Z"),
        ("2026-02-28T10:33:00.900+02:00", "2026-02-28T08:33:00Z"),
        ("2026-02-28T10:33:00-0500", "2026-02-28T15:33:00Z"),
        ("28-FEB-2026", "2026-02-28T00:00:00Z"),
        ("6/13/2024 15:56", "2024-06-13T15:56:00Z"),
        ("6/13/2024 3:56 PM", "2024-06-13T15:56:00Z"),
        ("6/13/2024 12:05:01 am", "2024-06-13T00:05:01Z"),
        ("13/06/2024 15:56", "2024-06-13T15:56:00Z"),
        ("v7", "v7"),
        ("2026-02-30 10:33", "2026-02-30 10:33"),
        ("6/13/2024 15:56 PM", "6/13/2024 15:56 PM"),
        ("", None),
        (None, None),
    ],
}

REFUSED: dict[str, list[Any]] = {
    "text": [7, True, Decimal("1.5"), ["x"], {"x": 1}, "a\0b", "\ud800"],
    "number": [
        *"1,23,4|12,34.5|1.2.3|1.234,567.8|1,234.5,6|1 2|1.234 567|--1|1-|.|,|1.|1,|1e|1E12345|NaN|Infinity".split("|"),
        *["٣", "1.5\0", "1_000", "0x10", "x", "$5", "5 USD", True, [], {}, "9" * 101],
    ],
    "integer": [True, [], {}, "9" * 5000, "1E99999"],
    "boolean": ["J", "perhaps", "yEs", "2", 2, -2, Decimal(1), [], "Y\0"],
    "date": [
        *"30-FEB-2026|31-FEB-2026|2026-13-01|20260115|2026-1-5|15-XXX-2026|2026-W03-1|15/13/2026|32/01/2026".split("|"),
        *["0/1/2026", "1/0/2026", "13/13/2024", "1/2/24", "1/2-2026", "15-JAN-26", "soon", "2026-01-15T1", 20260115],
        *["2026-01-15\0", "\uff12026-01-15", True, [], {"YEAR": 1}],
    ],
    "version": [7, "v\0", [], True],
}

AMBIGUOUS: dict[str, list[str]] = {
    "number": ["1.234", "1,234", "-1.234", "+999,999", "12.345", "123,000", "1,000"],
    "integer": ["1.234", "1,200"],
    "date": ["06/07/2024", "6/7/2024", "01-02-2026", "1.2.2026", "06/07/2024 15:56", "12/11/2024"],
    "version": ["06/07/2024", "6/7/2024 15:56", "6.7.2024 3:56 PM"],
}


def cases(table: dict[str, Any]) -> Any:
    return [pytest.param(kind, case, id=f"{kind}-{case!r}"[:60]) for kind, listed in table.items() for case in listed]


@pytest.mark.parametrize(("kind", "case"), cases(READ))
def test_a_value_is_read(kind: str, case: tuple[Any, Any]) -> None:
    received, value = case

    found = read(kind, received)

    assert (found, type(found), str(found)) == (value, type(value), str(value))
    assert read_column(reader(kind), [received, None]) == [value, None]


@pytest.mark.parametrize(("kind", "received"), cases(REFUSED))
def test_a_value_of_another_type_is_refused(kind: str, received: Any) -> None:
    with pytest.raises(Unreadable, match=r"."):
        read(kind, received)
    wrong, good = read_column(reader(kind), [received, ""])
    assert isinstance(wrong, Unreadable)
    assert (wrong.code, good) == ("INVALID_TYPE", None)


@pytest.mark.parametrize(("kind", "received"), cases(AMBIGUOUS))
def test_a_value_that_could_be_two_is_refused_and_not_guessed(kind: str, received: str) -> None:
    setting = "decimalSign" if kind in ("number", "integer") else "dateOrder"
    with pytest.raises(Ambiguous, match=rf"could be .* or .*: locale\.{setting} says which"):
        read(kind, received)
    wrong, good = read_column(reader(kind), [received, ""])
    assert isinstance(wrong, Unreadable)
    assert (wrong.code, good) == ("AMBIGUOUS_VALUE", None)


@pytest.mark.parametrize(
    ("received", "point", "comma"),
    [
        ("1.234", Decimal("1.234"), 1234),
        ("1,234", 1234, Decimal("1.234")),
        ("-12.345", Decimal("-12.345"), -12345),
        ("1,234.5", Decimal("1234.5"), None),
        ("1.234,5", None, Decimal("1234.5")),
        ("1.5", Decimal("1.5"), None),
        ("1,5", None, Decimal("1.5")),
        ("1,234,567", 1234567, None),
        ("1.234.567", None, 1234567),
        ("1234", 1234, 1234),
        ("1 234", 1234, 1234),
    ],
)
def test_the_decimal_sign_says_which_number_is_meant(received: str, point: Any, comma: Any) -> None:
    """None: no number in that locale, so the setting is wrong, and says so."""
    for sign, value in ((".", point), (",", comma)):
        if value is None:
            with pytest.raises(Unreadable, match="not a number"):
                read("number", received, decimal_sign=sign)
        else:
            assert (found := read("number", received, decimal_sign=sign)) == value
            assert str(found) == str(value)


@pytest.mark.parametrize(
    ("received", "day_first", "month_first"),
    [
        ("06/07/2024", "2024-07-06", "2024-06-07"),
        ("6.7.2024", "2024-07-06", "2024-06-07"),
        ("13/06/2024", "2024-06-13", None),
        ("6/13/2024", None, "2024-06-13"),
        ("15-JAN-2026", "2026-01-15", "2026-01-15"),
        ("2026-06-07", "2026-06-07", "2026-06-07"),
    ],
)
def test_the_order_says_which_day_is_meant(received: str, day_first: Any, month_first: Any) -> None:
    for order, value in (("dayFirst", day_first), ("monthFirst", month_first)):
        if value is None:
            with pytest.raises(Unreadable, match="not a date"):
                read("date", received, date_order=order)
        else:
            assert read("date", received, date_order=order) == value


@pytest.mark.parametrize(
    ("zone", "received", "value"),
    [
        (None, "2024-06-13 15:56", "2024-06-13T15:56:00Z"),
        ("America/New_York", "2024-06-13 15:56", "2024-06-13T19:56:00Z"),
        ("America/New_York", "2024-12-13 15:56", "2024-12-13T20:56:00Z"),
        ("Asia/Kolkata", "2024-06-13 15:56", "2024-06-13T10:26:00Z"),
        ("Asia/Kolkata", "2024-06-13T15:56:00+02:00", "2024-06-13T13:56:00Z"),
    ],
)
def test_times_without_a_zone_are_the_servers(zone: str | None, received: str, value: str) -> None:
    assert read("version", received, zone=zone) == value


def test_equal_values_of_other_types_do_not_take_each_others_place() -> None:
    numbers = read_column(reader("number"), [Decimal("1.50"), Decimal("1.5"), "1.5000"])
    assert [str(value) for value in numbers] == ["1.50", "1.5", "1.5000"]
    assert read_column(reader("boolean"), [1, True, "1", "Y"]) == [True, True, True, True]
    assert isinstance(read_column(reader("number"), [1, True])[1], Unreadable)


# --- whatever the simulator writes


VALUES = st.decimals(-(10**15), 10**15, allow_nan=False, allow_infinity=False, places=0) | st.integers(0, 6).flatmap(
    lambda places: st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=places)
)
DAYS = st.dates(min_value=date(1000, 1, 1))
MOMENTS = st.datetimes(datetime(1900, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "America/St_Johns")


@pytest.mark.parametrize("form", get_args(Numbers))
@given(value=VALUES)
def test_a_number_reads_back_where_the_decimal_sign_is_known(form: Numbers, value: Decimal) -> None:
    found = read("number", number_text(value, form), decimal_sign=DECIMAL_SIGNS[form])

    assert Decimal(found) == value
    assert str(Decimal(found)) == str(value) or value == 0


@pytest.mark.parametrize("form", get_args(Numbers))
@given(value=VALUES)
def test_a_number_is_right_or_refused_where_it_is_not_known(form: Numbers, value: Decimal) -> None:
    text = number_text(value, form)
    try:
        found = read("number", text)
    except Ambiguous:
        readings = {read("number", text, decimal_sign=sign) for sign in (".", ",")}
        assert len(readings) == 2
        assert value in readings
        return
    assert found == value


@pytest.mark.parametrize("form", get_args(Dates))
@given(day=DAYS)
def test_a_day_reads_back_where_the_order_is_known(form: Dates, day: date) -> None:
    assert read("date", date_text(day, form), date_order=DATE_ORDERS[form]) == day.isoformat()


@pytest.mark.parametrize("form", get_args(Dates))
@given(day=DAYS)
def test_a_day_is_right_or_refused_where_it_is_not_known(form: Dates, day: date) -> None:
    text = date_text(day, form)
    if form in ("us", "eu") and day.month != day.day <= 12:
        with pytest.raises(Ambiguous):
            read("date", text)
    else:
        assert read("date", text) == day.isoformat()


@pytest.mark.parametrize("form", get_args(Dates))
@given(moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_modification_reads_back_where_order_and_zone_are_known(form: Dates, moment: datetime, zone: str) -> None:
    """To the minute. Of an hour that comes twice, when clocks are set back, the first is taken."""
    moment = moment.replace(second=0, microsecond=0)
    local = moment.astimezone(ZoneInfo(zone))
    offset = local.utcoffset() or timedelta(0)
    assume(not local.fold and not offset % timedelta(minutes=1))
    writing = Writing(dates=form, times="local", zone=zone)

    for text in (time_text(moment, writing), plain_time_text(moment, zone)):
        assert read("version", text, date_order=DATE_ORDERS[form], zone=zone) == format_instant(moment)


@pytest.mark.parametrize("form", sorted(WORDS))
def test_flags_need_no_setting(form: Any) -> None:
    assert [read_boolean(word) for word in WORDS[form]] == [True, False]


# --- columns


CELLS = [
    "",
    None,
    "Y",
    "1,000",
    "1,000.5",
    "2026-01-15",
    "1/2/2026",
    "15-JAN-2026",
    "x",
    "a\0",
    1,
    True,
    Decimal("1.0"),
]


@given(st.sampled_from([*KINDS, "version"]), st.lists(st.sampled_from(CELLS), max_size=8))
def test_a_column_reads_as_its_values_do_one_by_one(kind: str, values: list[Any]) -> None:
    read = reader(kind)

    for value, found in zip(values, read_column(read, values), strict=True):
        assert (type(found), str(found)) == alone(read.value, value)


def alone(read: Callable[[Any], Any], value: Any) -> tuple[type, str]:
    try:
        found = read(value)
    except Unreadable as error:
        found = error
    return type(found), str(found)


@given(st.text() | st.text(alphabet="0123456789.,-/ :TZ+eE'\u00a0"), st.sampled_from([*KINDS, "version"]))
def test_any_text_is_read_or_refused(text: str, kind: str) -> None:
    types = {"number": (int, Decimal), "integer": (int, Decimal), "boolean": (bool,)}.get(kind, (str,))
    for locale in (UNKNOWN, Locale(date_order="dayFirst", decimal_sign=",", zone="Asia/Kolkata")):
        (found,) = read_column(reader(kind, locale), [text])
        assert found is None or type(found) in (*types, Unreadable, Ambiguous)


@given(MOMENTS)
def test_a_time_survives_its_text(moment: datetime) -> None:
    assert instant(format_instant(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize("text", ["v7", "", "2026-02-28", "2026-02-28 10:33", "2026-02-30T10:33:00Z", "Z" * 100])
def test_a_mark_that_is_no_time_says_none(text: str) -> None:
    assert instant(text) is None


# --- hostile texts


LONG = 100_000
HOSTILE = {
    "digits": "9" * LONG,
    "groups": "1" + ",234" * (LONG // 4),
    "points": "." * LONG,
    "mixed": "1,2.3" * (LONG // 5),
    "blanks": " " * LONG,
    "blanks after": "1" + " " * LONG,
    "blanks between": "1" + " " * LONG + "1",
    "narrow": "1\u202f" * (LONG // 2),
    "exponent": "1e" + "9" * LONG,
    "signs": "-" * LONG,
    "slashes": "1/" * (LONG // 2),
    "day and blanks": "15-JAN-2026" + " " * LONG,
    "day and digits": "2026-01-15T10:33:00." + "0" * LONG,
    "Y": "Y" * LONG,
    "letters": "x" * LONG,
}  # fmt: skip


@pytest.mark.timed
@pytest.mark.parametrize("name", HOSTILE)
def test_long_texts_cost_no_more_than_their_length(name: str) -> None:
    text = HOSTILE[name]
    columns = [reader(kind, locale) for kind in (*KINDS, "version") for locale in (UNKNOWN, Locale(decimal_sign=","))]
    began = time.perf_counter()

    for column in columns:
        for found in read_column(column, [text, text + "!"]):
            assert not isinstance(found, Unreadable) or len(str(found)) < 300

    # In proportion it is a few milliseconds; with its square it would be minutes.
    assert time.perf_counter() - began < 5


def test_texts_are_not_cut_however_long() -> None:
    assert read_text("x" * LONG) == "x" * LONG


# --- settings


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc", "x" * 500, "\0"])
def test_a_zone_that_there_is_not_is_refused(zone: str) -> None:
    if zone == "":
        assert Locale(zone=zone).tz == ZoneInfo("UTC")
        return
    with pytest.raises(ValueError, match="no time zone"):
        Locale(zone=zone)
