"""Values between PEMS's texts and the contract's types, and rows out of the three shapes of an answer."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.model import FieldType
from app.upstream.pems.config import MAPPING
from app.upstream.pems.values import (
    Unreadable,
    format_instant,
    instant,
    read_boolean,
    read_column,
    read_date,
    read_integer,
    read_number,
    read_screen_value,
    read_text,
    read_version,
    write_value,
)

ALIASES = {name: alias.read for name, alias in MAPPING.items()}
NUMBERS = {alias: str(number) for number, alias in enumerate(ALIASES.values(), 1)}
LINE = {
    **dict.fromkeys(NUMBERS, ""),
    "pfs_id": "PFA-1",
    "pfs_a_org": "RIO",
    "pfs_f_category": "Cranes",
    "pfs_f_source": "Rental",
    "pfs_f_rental": "1,234.50",
    "pfs_f_startdate": "15-JAN-2026",
    "pfs_f_actualized": "Y",
    "pfs_lastmodified": "2026-02-28 10:33",
}


# --- single values

READ: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (read_text, "Crane", "Crane"),
    (read_text, " x ", " x "),
    (read_text, "", None),
    (read_text, None, None),
    (read_number, "1,234.50", Decimal("1234.50")),
    (read_number, "12,345,678", 12345678),
    (read_number, "-7", -7),
    (read_number, "+7", 7),
    (read_number, ".5", Decimal("0.5")),
    (read_number, " 10 ", 10),
    (read_number, "1E3", Decimal("1E3")),
    (read_number, "0.10", Decimal("0.10")),
    (read_number, "", None),
    (read_number, "  ", None),
    (read_number, None, None),
    (read_number, 7, 7),
    (read_number, Decimal("1.50"), Decimal("1.50")),
    (read_integer, "12.00", 12),
    (read_integer, "1,200", 1200),
    (read_integer, "12.5", Decimal("12.5")),
    (read_boolean, "Y", True),
    (read_boolean, "N", False),
    (read_boolean, "+", True),
    (read_boolean, "-", False),
    (read_boolean, "true", True),
    (read_boolean, "false", False),
    (read_boolean, "1", True),
    (read_boolean, "0", False),
    (read_boolean, 1, True),
    (read_boolean, 0, False),
    (read_boolean, True, True),
    (read_boolean, "", None),
    (read_boolean, None, None),
    (read_date, "15-JAN-2026", "2026-01-15"),
    (read_date, "5-jan-2026", "2026-01-05"),
    (read_date, "15-JAN-2026 10:33", "2026-01-15"),
    (read_date, "2026-01-15", "2026-01-15"),
    (read_date, "2026-01-15T00:00:00", "2026-01-15"),
    (read_date, "2026-01-15 23:59:59.9", "2026-01-15"),
    (read_date, "2026-01-15T23:30:00-05:00", "2026-01-15"),
    (read_date, "29-FEB-2024", "2024-02-29"),
    (read_date, "", None),
    (read_date, None, None),
    (read_version, "2026-02-28T10:33:00Z", "2026-02-28T10:33:00Z"),
    (read_version, "2026-02-28 10:33", "2026-02-28T10:33:00Z"),
    (read_version, "28-FEB-2026 10:33:07", "2026-02-28T10:33:07Z"),
    (read_version, "2026-02-28T10:33:00.900+02:00", "2026-02-28T08:33:00Z"),
    (read_version, "2026-02-28T10:33:00-0500", "2026-02-28T15:33:00Z"),
    (read_version, "28-FEB-2026", "2026-02-28T00:00:00Z"),
    (read_version, "v7", "v7"),
    (read_version, "2026-02-30 10:33", "2026-02-30 10:33"),
    (read_version, "", None),
    (read_version, None, None),
]

UNREADABLE: dict[Callable[[Any], Any], list[Any]] = {
    read_text: [7, True, Decimal("1.5"), ["x"], {"x": 1}, "a\0b", "\ud800"],
    read_number: "1,23|1,2345|,5|x|1.2.3|1 2|--1|.|1e|NaN|٣|1.5\0".split("|"),
    read_integer: [True, [], {}, "9" * 5000, "1E99999"],
    read_boolean: ["J", "yes", 2, Decimal(1), [], "Y\0"],
    read_date: "30-FEB-2026|2026-13-01|20260115|2026-1-5|15-XXX-2026|15/01/2026|01-15-2026|2026-W03-1".split("|"),
    read_version: [7, "v\0"],
}
UNREADABLE[read_date] += [20260115, True, [], "2026-01-15T1:00", "2026-01-15\0"]
CASES = [(read, value) for read, values in UNREADABLE.items() for value in values]


def named(case: Any) -> str | None:
    return case.__name__ if callable(case) else repr(case)[:40]


@pytest.mark.parametrize(("read", "received", "value"), READ, ids=named)
def test_a_value_is_read(read: Callable[[Any], Any], received: Any, value: Any) -> None:
    found = read(received)

    assert (found, type(found), str(found)) == (value, type(value), str(value))
    assert read_column(read, [received, None]) == [value, None]


@pytest.mark.parametrize(("read", "received"), CASES, ids=named)
def test_a_value_of_another_type_is_unreadable(read: Callable[[Any], Any], received: Any) -> None:
    with pytest.raises(Unreadable, match=r"."):
        read(received)
    wrong, good = read_column(read, [received, ""])
    assert isinstance(wrong, Unreadable)
    assert good is None


def test_equal_values_of_other_types_do_not_take_each_others_place() -> None:
    assert [str(value) for value in read_column(read_number, [Decimal("1.50"), Decimal("1.5"), "1.500"])] == [
        "1.50",
        "1.5",
        "1.500",
    ]
    assert read_column(read_boolean, [1, True, "1", "Y"]) == [True, True, True, True]
    assert isinstance(read_column(read_number, [1, True])[1], Unreadable)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**15), max_value=10**15))
def test_a_grouped_number_keeps_its_digits(number: Decimal) -> None:
    assert read_number(f"{number:,}") == number
    assert str(read_number(f"{number:,}")) == str(number)


@given(st.dates(min_value=date(1000, 1, 1)))
def test_a_day_is_read_in_both_ways_of_writing_it(day: date) -> None:
    months = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()

    assert read_date(f"{day.day:02}-{months[day.month - 1]}-{day.year}") == day.isoformat()
    assert read_date(day.isoformat()) == day.isoformat()


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))
def test_a_time_survives_its_text(moment: datetime) -> None:
    assert instant(format_instant(moment)) == moment.replace(microsecond=0)
    assert instant(moment.isoformat()) == moment


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("text", "Crane", {"TEXTDATA": "Crane"}),
        ("enum", "Rental", {"TEXTDATA": "Rental"}),
        ("text", None, {"TEXTDATA": None}),
        ("boolean", True, {"TEXTDATA": "Y"}),
        ("boolean", False, {"TEXTDATA": "N"}),
        ("boolean", None, {"TEXTDATA": None}),
        ("number", Decimal("1250.50"), {"NUMERICDATA": Decimal("1250.50")}),
        ("number", 0, {"NUMERICDATA": 0}),
        ("number", None, {"NUMERICDATA": None}),
        ("date", None, {"DATETIMEDATA": None}),
    ],
)
def test_a_value_is_written_and_read_back_from_the_screen(kind: FieldType, value: Any, written: dict[str, Any]) -> None:
    assert write_value(kind, value) == written
    assert read_screen_value(kind, written) == value


def test_a_day_is_written_with_its_epoch_milliseconds() -> None:
    assert write_value("date", "2026-01-15") == {
        "DATETIMEDATA": {
            "YEAR": 1768435200000,
            "MONTH": 1,
            "DAY": 15,
            "HOUR": 0,
            "MINUTE": 0,
            "SECOND": 0,
            "TIMEZONE": "+0000",
        }
    }


@given(st.dates())
def test_a_day_survives_the_screen(day: date) -> None:
    assert read_screen_value("date", write_value("date", day.isoformat())) == day.isoformat()


@pytest.mark.parametrize(("zone", "day"), [("+0000", "2026-01-15"), ("-0500", "2026-01-14"), (None, "2026-01-15")])
def test_a_day_on_the_screen_is_that_of_its_zone(zone: str | None, day: str) -> None:
    assert read_screen_value("date", {"DATETIMEDATA": {"YEAR": 1768435200000, "TIMEZONE": zone}}) == day


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", {"DATETIMEDATA": {"YEAR": "x"}}),
        ("date", {"DATETIMEDATA": {}}),
        ("date", {"DATETIMEDATA": {"YEAR": 10**40}}),
        ("date", {"DATETIMEDATA": {"YEAR": 0, "TIMEZONE": "Mars"}}),
        ("date", {"DATETIMEDATA": 7}),
        ("date", {"NUMERICDATA": 7}),
        ("text", {"NUMERICDATA": 7}),
        ("text", {"DATETIMEDATA": {"YEAR": 0}}),
        ("number", {"TEXTDATA": "x"}),
    ],
)
def test_a_screen_value_of_another_type_is_unreadable(kind: FieldType, value: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read_screen_value(kind, value)
