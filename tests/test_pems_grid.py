"""Rows out of the four shapes of an answer."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json as exact
from app.contracts import PFA
from app.upstream.pems.config import MAPPING, Locale
from app.upstream.pems.grid import GridReader, HeadersNeeded
from app.upstream.protocol import Broken, Failed, Question, Row, Unavailable

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


def reader(locale: Locale = Locale()) -> GridReader:  # noqa: B008 - it is frozen
    return GridReader(PFA, ALIASES, ["RIO"], locale)


def numbered(line: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "D": [{"n": NUMBERS.get(alias, alias), "value": value} for alias, value in line.items()]}


def celled(line: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "CELL": [{"ALIAS_NAME": alias, "VALUE": value} for alias, value in line.items()]}


def recorded(line: dict[str, Any]) -> dict[str, Any]:
    return {"DATAFIELD": [{"FIELDNAME": alias.upper(), "FIELDVALUE": value} for alias, value in line.items()]}


SHAPES = {"ROW-D": numbered, "ROW-CELL": celled, "DATARECORD": recorded, "GRIDS": recorded}


def fields() -> dict[str, Any]:
    return {"FIELD": [{"aliasnum": number, "name": alias, "label": alias} for alias, number in NUMBERS.items()]}


def answer(*lines: Any, shape: str = "ROW-D", headed: bool = True, **metadata: Any) -> bytes:
    grid: dict[str, Any] = {"METADATA": metadata, "DATA": {shape.partition("-")[0]: list(lines)}}
    if headed:
        grid["FIELDS"] = fields()
    following = {"+": "11", "-": "", None: None}[metadata.get("MORERECORDPRESENT")]
    grids = {"DATARECORD": list(lines), "NEXTCURSORPOSITION": following, "RECORDS": metadata.get("RECORDS")}
    return json.dumps({"Result": {"ResultData": grids if shape == "GRIDS" else {"GRID": grid}}}).encode()


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


def test_all_shapes_of_lines_may_come_in_one_answer() -> None:
    page = reader().read(answer(*(write(LINE) for write in SHAPES.values())))

    assert len(page.rows) == 4
    assert all(row == page.rows[0] for row in page.rows)


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


def test_rows_and_broken_rows_are_the_protocols_own() -> None:
    page = reader().read(answer(numbered(LINE), numbered({**LINE, "pfs_f_actualized": "?"})))

    assert isinstance(page.rows[0], Row)
    assert isinstance(page.broken[0], Broken)
    assert page.mark is not None
    assert page.mark - datetime(2026, 2, 28, tzinfo=UTC) == timedelta(hours=10, minutes=33)


# --- the locale


AMBIGUOUS = {
    "pfs_f_rental": ("1,234", "monthlyRate"),
    "pfs_f_purchase": ("1.234", "purchasePrice"),
    "pfs_f_startdate": ("06/07/2024", "forecastStart"),
    "pfs_p_enddate": ("06/07/2024 00:00", "originalEnd"),
    "pfs_lastmodified": ("6/7/2024 15:56", "pemsVersion"),
}


@pytest.mark.parametrize("alias", AMBIGUOUS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cell_that_two_readings_would_take_for_different_values_waits_in_quarantine(shape: str, alias: str) -> None:
    value, field = AMBIGUOUS[alias]
    write = SHAPES[shape]

    page = reader().read(answer(write({**LINE, alias: value}), write({**LINE, "pfs_id": "PFA-2"}), shape=shape))

    assert [row.key for row in page.rows] == ["PFA-2"]
    (broken,) = page.broken
    assert [(reason.code, reason.field, reason.id) for reason in broken.reasons] == [
        ("AMBIGUOUS_VALUE", field, "PFA-1")
    ]
    assert broken.reasons[0].message.startswith(f"{alias}: ")
    assert "locale." in broken.reasons[0].message
    assert broken.received[alias] == value


def test_the_locale_tells_which_reading_is_meant() -> None:
    line = {**LINE, **{alias: value for alias, (value, _) in AMBIGUOUS.items()}}
    known = Locale(date_order="dayFirst", decimal_sign=",", zone="America/New_York")

    (row,) = reader(known).read(answer(numbered({**line, "pfs_f_rental": "1.234,50"}))).rows

    names = ("monthlyRate", "purchasePrice", "forecastStart", "originalEnd", "pemsVersion")
    assert [str(row.document[name]) for name in names] == [
        "1234.50", "1234", "2024-07-06", "2024-07-06", "2024-07-06T19:56:00Z"
    ]  # fmt: skip


def test_whatever_is_wrong_beside_an_ambiguous_cell_is_said_too() -> None:
    line = {**LINE, "pfs_f_rental": "1,234", "pfs_f_purchase": "much", "pfs_f_startdate": "06/07/2024"}

    (broken,) = reader().read(answer(numbered(line))).broken

    assert {reason.field: reason.code for reason in broken.reasons} == {
        "monthlyRate": "AMBIGUOUS_VALUE", "purchasePrice": "INVALID_TYPE", "forecastStart": "AMBIGUOUS_VALUE"
    }  # fmt: skip


# --- what is said of the others


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"DATARECORD": None, "NEXTCURSORPOSITION": "", "RECORDS": 0}, (0, False, None)),
        ({"DATARECORD": None, "NEXTCURSORPOSITION": None, "RECORDS": None}, (None, False, None)),
        ({"DATARECORD": [], "RECORDS": None}, (None, None, None)),
        ({"DATARECORD": None, "NEXTCURSORPOSITION": 11, "RECORDS": "25"}, (25, True, "11")),
        ({"RECORDS": "many"}, (None, None, None)),
    ],
    ids=str,
)
def test_grids_say_where_the_next_page_begins(result: dict[str, Any], said: tuple[Any, ...]) -> None:
    page = reader().read(json.dumps({"Result": {"ResultData": result}}).encode())

    assert (page.rows, page.broken) == ((), ())
    assert (page.total, page.more, page.following) == said


def test_the_row_with_the_latest_modification_is_named() -> None:
    times = {"A": "2026-02-28 10:33", "B": "2026-02-28 11:33", "C": ""}
    lines = [numbered({**LINE, "pfs_id": key, "pfs_lastmodified": time}) for key, time in times.items()]

    page = reader().read(answer(*lines))

    assert (page.marked, page.mark) == ("B", datetime(2026, 2, 28, 11, 33, tzinfo=UTC))


def test_alerts_are_read_whatever_stands_beside_them() -> None:
    for result in ("{}", "7", '""', '{"ResultData": 7}', '{"ResultData": {"GRID": 7}}'):
        for alert, error in (("ErrorAlert", Failed), ("ConfirmationAlert", Question)):
            with pytest.raises(error, match=r"^It broke$"):
                reader().read(f'{{"Result": {result}, "{alert}": [{{"Message": "It broke"}}]}}'.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([1.5, "+", "-", "1", "11", "Y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, ...]]:
    """Paths to every member of a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [()] + [(name, *path) for name, member in members for path in places(member)]


@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_whatever_stands_anywhere_in_an_answer_is_read_or_fails(shape: str, data: st.DataObject) -> None:
    short = {alias: LINE[alias] for alias in ("pfs_id", "pfs_a_org", "pfs_f_rental")}
    body = json.loads(answer(SHAPES[shape](short), SHAPES[shape](short), shape=shape, RECORDS="2"))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(body)[1:]))
        holder = body
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = data.draw(JSON)

    try:
        page = reader().read(json.dumps(body).encode())
    except (Failed, Unavailable):
        return
    assert len(page.identities) == len(page.rows) + len(page.broken) + page.dropped
    exact.encode([broken.received for broken in page.broken])
