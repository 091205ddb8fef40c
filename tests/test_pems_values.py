"""Values between PEMS's texts and the contract's types, and rows out of the three shapes of an answer."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json as exact
from app.contracts import PFA
from app.contracts.model import FieldType
from app.upstream.pems.config import MAPPING
from app.upstream.pems.grid import GridReader, HeadersNeeded
from app.upstream.pems.values import (
    READERS,
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
from app.upstream.protocol import Broken, Failed, Row, Unavailable

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


# --- answers


def reader() -> GridReader:
    return GridReader(PFA, ALIASES, ["RIO"])


def numbered(line: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "D": [{"n": NUMBERS.get(alias, alias), "value": value} for alias, value in line.items()]}


def celled(line: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "CELL": [{"ALIAS_NAME": alias, "VALUE": value} for alias, value in line.items()]}


def recorded(line: dict[str, Any]) -> dict[str, Any]:
    return {"DATAFIELD": [{"FIELDNAME": alias.upper(), "FIELDVALUE": value} for alias, value in line.items()]}


SHAPES = {"ROW-D": numbered, "ROW-CELL": celled, "DATARECORD": recorded}


def fields() -> dict[str, Any]:
    return {"FIELD": [{"aliasnum": number, "name": alias, "label": alias} for alias, number in NUMBERS.items()]}


def answer(*lines: Any, shape: str = "ROW-D", headed: bool = True, **metadata: Any) -> bytes:
    grid: dict[str, Any] = {"METADATA": metadata, "DATA": {shape.partition("-")[0]: list(lines)}}
    if headed:
        grid["FIELDS"] = fields()
    return json.dumps({"Result": {"ResultData": {"GRID": grid}}, "ErrorAlert": []}).encode()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_becomes_a_row_of_the_contract(shape: str) -> None:
    page = reader().read(answer(SHAPES[shape](LINE), shape=shape, RECORDS="1,001", MORERECORDPRESENT="+"))

    assert page.broken == ()
    assert page.rows[0].key == "PFA-1"
    assert page.rows[0].document == {
        **{field.name: None for field in PFA.fields if not field.derived_from},
        "pfaId": "PFA-1",
        "organization": "RIO",
        "category": "Cranes",
        "source": "Rental",
        "monthlyRate": Decimal("1234.50"),
        "forecastStart": "2026-01-15",
        "isActualized": True,
        "pemsVersion": "2026-02-28T10:33:00Z",
    }
    assert page.mark == datetime(2026, 2, 28, 10, 33, tzinfo=UTC)
    assert (page.total, page.more, page.dropped) == (1001, True, 0)


def test_all_three_shapes_may_come_in_one_answer() -> None:
    page = reader().read(answer(*(write(LINE) for write in SHAPES.values())))

    assert len(page.rows) == 3
    assert page.rows[0] == page.rows[1] == page.rows[2]


def test_columns_may_come_in_any_order() -> None:
    backwards = dict(reversed(LINE.items()))

    page = reader().read(answer(numbered(LINE), numbered(backwards)))

    assert page.rows[0] == page.rows[1]


def test_json_numbers_keep_their_digits() -> None:
    body = answer(numbered({**LINE, "pfs_f_rental": "HERE"})).replace(b'"HERE"', b"1234.500")

    assert str(reader().read(body).rows[0].document["monthlyRate"]) == "1234.500"


def test_lines_of_other_organizations_are_dropped_and_counted() -> None:
    page = reader().read(answer(numbered({**LINE, "pfs_a_org": "RIO2"}), numbered(LINE)))

    assert [row.key for row in page.rows] == ["PFA-1"]
    assert page.dropped == 1
    assert page.identities == ["RIO2/PFA-1", "RIO/PFA-1"]


def test_the_mark_is_the_latest_time_of_the_rows() -> None:
    times = ("28-FEB-2026 10:33:00", "2026-02-28T11:00:00Z", "whenever", "")
    lines = [numbered({**LINE, "pfs_id": f"P{time}", "pfs_lastmodified": time}) for time in times]

    assert reader().read(answer(*lines)).mark == datetime(2026, 2, 28, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_missing_column_makes_the_row_broken_and_an_empty_one_is_null(shape: str) -> None:
    line = {alias: value for alias, value in LINE.items() if alias != "pfs_f_class"}

    page = reader().read(answer(SHAPES[shape](line), SHAPES[shape](LINE), shape=shape))

    assert [row.document["class"] for row in page.rows] == [None]
    (broken,) = page.broken
    (reason,) = broken.reasons
    assert (broken.key, reason.code, reason.field, reason.id) == ("PFA-1", "MISSING_FIELD", "class", "PFA-1")
    assert broken.received == line


def test_headers_that_lack_a_column_break_every_row_rather_than_empty_it() -> None:
    answered = json.loads(answer(numbered(LINE), numbered({**LINE, "pfs_id": "PFA-2"})))
    headers = answered["Result"]["ResultData"]["GRID"]["FIELDS"]
    headers["FIELD"] = [field for field in headers["FIELD"] if field["name"] != "pfs_f_model"]

    page = reader().read(json.dumps(answered).encode())

    assert page.rows == ()
    assert [(broken.key, broken.reasons[0].code, broken.reasons[0].field) for broken in page.broken] == [
        ("PFA-1", "MISSING_FIELD", "model"),
        ("PFA-2", "MISSING_FIELD", "model"),
    ]


def test_everything_that_is_wrong_with_a_row_is_said() -> None:
    line = {**LINE, "pfs_f_rental": "a lot", "pfs_f_startdate": "soon", "pfs_f_class": 7}

    (broken,) = reader().read(answer(numbered(line), numbered({**LINE, "pfs_id": "PFA-2"}))).broken

    assert {(reason.field, reason.code, reason.message) for reason in broken.reasons} == {
        ("class", "INVALID_TYPE", "pfs_f_class: 7 is not a text."),
        ("monthlyRate", "INVALID_TYPE", "pfs_f_rental: 'a lot' is not a number."),
        ("forecastStart", "INVALID_TYPE", "pfs_f_startdate: 'soon' is not a date."),
    }
    assert broken.received == line


@pytest.mark.parametrize(
    ("alias", "value", "key", "field"),
    [
        ("pfs_id", "", None, "pfaId"),
        ("pfs_id", 7, None, "pfaId"),
        ("pfs_id", "a\0", None, "pfaId"),
        ("pfs_a_org", "", "PFA-1", "organization"),
        ("pfs_a_org", 7, "PFA-1", "organization"),
    ],
)
def test_a_row_that_does_not_say_which_or_whose_it_is_is_broken(
    alias: str, value: Any, key: str | None, field: str
) -> None:
    page = reader().read(answer(numbered({**LINE, alias: value})))

    (broken,) = page.broken
    assert (broken.key, broken.reasons[0].field, page.dropped) == (key, field, 0)


def test_lines_that_are_none_spoil_no_others() -> None:
    page = reader().read(answer(7, {"D": "x"}, {"D": [{"value": "1"}]}, None, numbered(LINE)))

    assert [row.key for row in page.rows] == ["PFA-1"]
    assert [broken.reasons[0].code for broken in page.broken] == ["MALFORMED_ROW"] * 4
    assert [broken.received.keys() for broken in page.broken] == [{"line"}] * 4
    assert len(set(page.identities)) == 5


def test_a_row_without_any_cell_is_broken() -> None:
    page = reader().read(answer({"id": "1"}, numbered(LINE)))

    assert len(page.rows) == 1
    assert {reason.code for reason in page.broken[0].reasons} == {"MISSING_FIELD"}


def test_what_was_received_can_be_stored() -> None:
    page = reader().read(answer(numbered({**LINE, "pfs_f_model": "a\0b", "pfs_f_area": "\ud800"}), numbered(LINE)))

    (broken,) = page.broken
    assert len(page.rows) == 1
    assert broken.received["pfs_f_model"] == "a\ufffdb"
    assert b"\\u0000" not in exact.encode(broken.received)


def test_bytes_that_are_not_utf_8_break_their_row_alone() -> None:
    body = answer(numbered({**LINE, "pfs_f_model": "HERE"}), numbered({**LINE, "pfs_id": "PFA-2"}))

    page = reader().read(body.replace(b"HERE", b"\xff"))

    assert [row.key for row in page.rows] == ["PFA-2"]
    assert [broken.reasons[0].field for broken in page.broken] == ["model"]


def test_an_answer_without_headers_is_read_by_the_last_ones() -> None:
    grid = reader()
    first = grid.read(answer(numbered(LINE)))

    assert grid.read(answer(numbered(LINE), headed=False)).rows == first.rows


def test_columns_that_cannot_be_told_are_asked_for() -> None:
    grid = reader()
    with pytest.raises(HeadersNeeded):
        grid.read(answer(numbered(LINE), headed=False))
    grid.read(answer(numbered(LINE)))
    with pytest.raises(HeadersNeeded):
        grid.read(answer(numbered({**LINE, "99": "new"}), headed=False))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b"7",
        b"[]",
        b"{}",
        b'{"Result": null}',
        b'{"Result": {"ResultData": {}}}',
        b'{"Result": {"ResultData": {"GRID": {}}}}',
        b'{"Result": {"ResultData": {"GRID": {"DATA": {"ROW": 7}}}}}',
        b'{"Result": {"ResultData": {"GRID": {"METADATA": {"RECORDS": null}, "DATA": null}}}}',
        b"[" * 100_000,
        answer(numbered(LINE))[:-9],
    ],
)
def test_what_is_no_grid_fails(body: bytes) -> None:
    with pytest.raises(Failed, match="cannot be read"):
        reader().read(body)


def test_a_grid_that_says_it_is_empty_may_leave_its_data_out() -> None:
    page = reader().read(b'{"Result": {"ResultData": {"GRID": {"METADATA": {"RECORDS": "0"}, "DATA": {}}}}}')

    assert (page.rows, page.identities, page.total) == ((), [], 0)


@pytest.mark.parametrize("result", ["null", '{"ResultData": null}', '{"ResultData": {"GRID": {"DATA": {"ROW": []}}}}'])
def test_an_alert_within_a_good_answer_is_looked_for(result: str) -> None:
    alerts = '[{"Name": "GRID", "Message": "%s"}]'
    text = f'{{"Result": {result}, "ErrorAlert": {alerts}}}'
    with pytest.raises(Failed, match=r"^GRID: It broke$"):
        reader().read((text % "It broke").encode())
    with pytest.raises(Unavailable, match=r"^GRID: Authorization failed$"):
        reader().read((text % "Authorization failed").encode())


@given(st.lists(st.sampled_from(sorted(READERS)), min_size=1), st.data())
def test_a_column_reads_as_its_values_do_one_by_one(kinds: list[FieldType], data: st.DataObject) -> None:
    cells = st.sampled_from(["", None, "Y", "1,000", "2026-01-15", "15-JAN-2026", "x", "a\0", 1, True, Decimal("1.0")])
    for kind in kinds:
        values = data.draw(st.lists(cells, max_size=8))
        for value, found in zip(values, read_column(READERS[kind], values), strict=True):
            assert (type(found), str(found)) == alone(READERS[kind], value)


def alone(read: Callable[[Any], Any], value: Any) -> tuple[type, str]:
    try:
        expected = read(value)
    except Unreadable as error:
        expected = error
    return type(expected), str(expected)


def test_rows_and_broken_rows_are_the_protocols_own() -> None:
    page = reader().read(answer(numbered(LINE), numbered({**LINE, "pfs_f_actualized": "?"})))

    assert isinstance(page.rows[0], Row)
    assert isinstance(page.broken[0], Broken)
    assert page.mark is not None
    assert page.mark - datetime(2026, 2, 28, tzinfo=UTC) == timedelta(hours=10, minutes=33)
