"""What is in a file, as other programs read it: every value as in the API, however hostile."""

import csv
import datetime
import io
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts.values import read_date
from app.exports import workbook
from app.exports.cells import neutral
from app.exports.columns import Column
from app.exports.formats import Csv, Ndjson
from app.exports.workbook import CUT, Workbook
from app.migrate import migrate
from tests.conftest import new_database
from tests.support.world import CONTRACTS, LAB, User, instrument, open_world

# What makes a formula of a text, as docs/exports.md lists it.
FORMULA = "=+-@\t\n\r\uff1d\uff0b\uff0d\uff20"
TEXTS = [
    "", " ", " a ", "plain", "true", "0.10", "1e5", "2026-03-01", "NULL", "\\N", "\\.", "\\", "\\\\", '"', '""', "'",
    "a,b", 'a "b" c', "(a)", "a\\b\"c", "line\nbreak", "carriage\rreturn", "both\r\n", "\ttab", "a\tb", "semi;colon",
    "=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "-5", "@SUM(A1)", "\r=1", "\n=1", "'=1", "''=1", "'x", "''",
    "\uff1d1", "\uff0b1", "\uff0d1", "\uff20a", "é", "日本語", "🙂", "🙂" * 5, "\u00a0nbsp", "\u200b", "\ufeffbom",
    "\ufffe\uffff", "\x01\x1f\x7f\x85", "_x0041_", "_x", "&amp;", "<b>&</b>", "]]>", "x" * 40_000, "🙂" * 20_000,
    "https://a.example/?b=c&d", "\u202eright to left", "e\u0301",
]  # fmt: skip
NUMBERS = """
0 -0 -0.0 0.1000 -5 19000.50 1E+99 1e-19 123456789012345 1234567890123456 12345678901234567890.123456789
0.1234567890123456 -99999999999999.9 1000000000000000000000 1E+400
""".split()
DAYS = ["2026-03-01", "0001-01-01", "1899-12-31", "1900-02-28", "1900-03-01", "9999-12-31", "2024-02-29"]
# What upstream may have sent for a number, a day or a text.
MISFITS: list[Any] = ["=1+1", "-5", "2026-02-30", -5, Decimal("1.50"), True, {"a": ["=1", None]}, [], "", None]


def rows() -> dict[str, dict[str, Any]]:
    """Instruments with every value in the fields of its type, and with misfits in all."""
    found: list[dict[str, Any]] = [{"code": text, "owner": text} for text in TEXTS]
    found += [{"rating": Decimal(number), "slot": Decimal(number)} for number in NUMBERS]
    found += [{"boughtOn": day, "dueOn": day} for day in DAYS]
    found += [{"seat": number, "priority": number} for number in (0, -1, 9007199254740991, -9007199254740991, 10**20)]
    found += [{"sealed": value, "lent": value, "grade": grade} for value, grade in ((True, "A"), (False, None))]
    several = ("code", "rating", "priority", "boughtOn", "sealed", "grade")
    found += [dict.fromkeys(several, misfit) for misfit in MISFITS]
    return {f"{place:03}": instrument(**each) for place, each in enumerate(found)} | {"=id": {}, "-7": {}}


@pytest.fixture(scope="module")
async def ann(server_url: str, template: str) -> AsyncIterator[User]:
    """An analyst of a laboratory with these rows."""
    with new_database(server_url, template) as url:
        migrate(url, (*CONTRACTS, LAB))
        async with open_world(url, (*CONTRACTS, LAB)) as world:
            await world.organization("acme", (*CONTRACTS, LAB))
            await world.mirror(rows(), contract=LAB)
            user = (await world.user("ann")).on("lab")
            await user.draft("new", instrument(owner="=drafted", rating=Decimal("-1.50")), op="insert")
            await user.draft("000", {"keeper": "@drafted, too"})
            yield user


@pytest.fixture(scope="module")
async def expected(ann: User) -> list[dict[str, Any]]:
    """The rows as the API has them, a value for every column."""
    page = await ann.page(sort="id", pageSize=1000)
    return [{**dict.fromkeys(LAB.by_name), **row["data"], "tag": row["id"]} for row in page["data"]]


async def file(user: User, query: str) -> bytes:
    response = await user.get(f"export?{query}")
    assert response.status_code == 200, response.text
    return response.content


def is_same(cell: str | None, value: Any) -> bool:
    """Whether a cell of CSV shows the value; null and an empty text are told apart where the reader does."""
    match value:
        case None:
            return not cell
        case bool():
            return cell == ("true" if value else "false")
        case str():
            return restored(cell or "") == value
        case dict() | list():
            return cell is not None and exact_json.decode(cell) == value
        case _:
            return cell == f"{Decimal(value):f}"


def restored(text: str) -> str:
    """What docs/exports.md says to do with a text that is read back."""
    bare = text.lstrip("'")
    return text[1:] if text.startswith("'") and bare[:1] and bare[0] in FORMULA else text


def check_table(table: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Every value of every row."""
    assert [row["tag"] for row in table] == [neutral(row["tag"]) for row in expected]
    for found, wanted in zip(table, expected, strict=True):
        assert list(found) == list(LAB.by_name)
        for name, value in wanted.items():
            assert is_same(found[name], value), (wanted["tag"], name, value, found[name])


# --- CSV


async def test_the_standard_library_reads_csv(ann: User, expected: list[dict[str, Any]]) -> None:
    text = (await file(ann, "format=csv")).decode()
    check_table(list(csv.DictReader(io.StringIO(text, newline=""), strict=True)), expected)


async def test_pandas_reads_csv(ann: User, expected: list[dict[str, Any]]) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed here")
    content = io.BytesIO(await file(ann, "format=csv"))
    frame = pandas.read_csv(content, dtype=str, keep_default_na=False, na_values=[])
    check_table([{str(name): value for name, value in row.items()} for row in frame.to_dict("records")], expected)


def asked(sql: str) -> list[dict[str, Any]]:
    """What DuckDB answers."""
    relation = duckdb.sql(sql)
    assert relation is not None
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


async def test_duckdb_reads_csv_and_tells_null_from_an_empty_text(
    ann: User, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    place = tmp_path / "lab.csv"
    place.write_bytes(await file(ann, "format=csv"))
    table = asked(
        f"SELECT * FROM read_csv('{place}', all_varchar = true, header = true, delim = ',', quote = '\"',"
        " escape = '\"', allow_quoted_nulls = false, new_line = '\\r\\n', max_line_size = 10000000)"
    )
    check_table(table, expected)
    for found, wanted in zip(table, expected, strict=True):
        assert {name for name, value in found.items() if value is None} == {
            name for name, value in wanted.items() if value is None
        }


async def test_no_cell_of_csv_is_a_formula_but_numbers_are_numbers(ann: User) -> None:
    text = (await file(ann, "format=csv")).decode()
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            formula = cell[:1] in tuple(FORMULA)
            assert not formula or Decimal(cell) < 0, cell


async def test_lines_end_with_cr_lf_and_no_byte_order_mark_comes_unasked(ann: User) -> None:
    content = await file(ann, "format=csv&fields=room&id=000")
    assert content == b"tag,room\r\n000,R1\r\n"
    assert await file(ann, "format=csv&fields=room&id=000&bom=true") == b"\xef\xbb\xbf" + content
    assert await file(ann, "format=csv&fields=room&id=none") == b"tag,room\r\n"
    assert await file(ann, "format=csv&fields=boughtOn,tag&id=000&header=labels") == (
        b"Tag,Bought on\r\n000,2026-01-01\r\n"
    )


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")) | st.none() | st.decimals(allow_nan=False,
       allow_infinity=False) | st.booleans() | st.dates(), min_size=2, max_size=2)))  # fmt: skip
def test_a_table_is_written_as_a_view_is(table: list[list[Any]]) -> None:
    columns = [Column(name="a", label="A"), Column(name="b", label="B")]
    found = list(csv.reader(io.StringIO(Csv(columns).rows(table).decode(), newline="")))
    assert len(found) == len(table)
    for cells, row in zip(found, table, strict=True):
        assert all(
            is_same(cell, str(value) if isinstance(value, datetime.date) else value)
            for cell, value in zip(cells, row, strict=True)
        )


async def test_both_ways_of_csv_write_the_same(ann: User) -> None:
    """What PostgreSQL writes of a row, and what Python writes of its values, but for needless quotes."""
    columns = [Column(name=name, label=name) for name in LAB.by_name]
    values = [list(exact_json.decode(each).values()) for each in (await file(ann, "format=ndjson")).splitlines()]
    values = [["{}" if isinstance(each, (dict, list)) else each for each in row] for row in values]
    ours = list(csv.reader(io.StringIO(Csv(columns).rows(values).decode(), newline="")))
    theirs = list(csv.reader(io.StringIO((await file(ann, "format=csv")).decode(), newline="")))[1:]
    for our, their, row in zip(ours, theirs, values, strict=True):
        assert [cell for cell, value in zip(our, row, strict=True) if value != "{}"] == [
            cell for cell, value in zip(their, row, strict=True) if value != "{}"
        ]


# --- NDJSON


async def test_ndjson_has_every_value_with_its_digits(ann: User, expected: list[dict[str, Any]]) -> None:
    lines = (await file(ann, "format=ndjson")).split(b"\n")
    assert lines.pop() == b""
    assert [exact_json.decode(each) for each in lines] == expected
    assert b'"rating":0.1000,' in b"".join(lines)


async def test_duckdb_reads_ndjson(ann: User, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    place = tmp_path / "lab.ndjson"
    place.write_bytes(await file(ann, "format=ndjson"))
    found = asked(
        f"SELECT * FROM read_json('{place}', format = 'newline_delimited', maximum_object_size = 10000000,"
        " columns = {tag: 'VARCHAR', owner: 'VARCHAR', code: 'JSON'})"
    )
    assert [(each["tag"], each["owner"]) for each in found] == [(row["tag"], row["owner"]) for row in expected]
    assert [each["code"] and exact_json.decode(each["code"]) for each in found] == [row["code"] for row in expected]


def test_a_table_of_anything_is_ndjson() -> None:
    columns = [Column(name="id", label="Id"), Column(name="new", label="New")]
    table: list[list[Any]] = [["A", {"a": [Decimal("1.50")]}], ["B", None], ["C", datetime.date(2026, 3, 1)]]
    assert Ndjson(columns).rows(table) == (
        b'{"id":"A","new":{"a":[1.50]}}\n{"id":"B","new":null}\n{"id":"C","new":"2026-03-01"}\n'
    )


# --- XLSX


def as_in_excel(name: str, value: Any) -> Any:
    """What a cell of a spreadsheet has for a value."""
    if isinstance(value, str):
        day = read_date(value) if LAB.by_name[name].type == "date" else None
        if day is not None and day >= datetime.date(1900, 3, 1):
            return datetime.datetime.combine(day, datetime.time())
        units = len(value.encode("utf-16-le")) // 2
        return value if units <= 32_767 else value[: (32_767 - len(CUT)) * len(value) // units] + CUT
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        text = f"{Decimal(value):f}"
        exact = len(text.replace("-", "").replace(".", "").strip("0")) <= 15 and len(text) < 300
        return float(text) if exact else text
    return value


async def test_openpyxl_reads_xlsx(ann: User, expected: list[dict[str, Any]]) -> None:
    book = openpyxl.load_workbook(io.BytesIO(await file(ann, "format=xlsx")))
    assert book.sheetnames == ["Rows"]
    head, *table = book.active.iter_rows(values_only=True)
    assert list(head) == list(LAB.by_name)
    assert not any(cell.data_type == "f" or cell.hyperlink for row in book.active.iter_rows() for cell in row)
    for found, wanted in zip(table, expected, strict=True):
        for (name, value), cell in zip(wanted.items(), found, strict=True):
            told = (wanted["tag"], name, value, cell)
            if isinstance(value, (dict, list)):
                assert exact_json.decode(cell) == value, told
            elif value == "":
                assert cell in ("", None), told
            else:
                is_number = isinstance(cell, int) and not isinstance(cell, bool)
                assert (float(cell) if is_number else unescaped(cell)) == as_in_excel(name, value), told
                assert isinstance(cell, bool) == isinstance(value, bool), told


def unescaped(cell: Any) -> Any:
    """Excel reads _x0001_ as a character that XML cannot hold; openpyxl leaves that to us."""
    if not isinstance(cell, str):
        return cell
    return re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), cell)


async def test_pandas_reads_xlsx(ann: User, expected: list[dict[str, Any]]) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed here")
    frame = pandas.read_excel(io.BytesIO(await file(ann, "format=xlsx&id[startswith]=0")), dtype=object)
    assert list(frame.columns) == list(LAB.by_name)
    wanted = [row for row in expected if row["tag"].startswith("0")]
    assert list(frame["tag"]) == [row["tag"] for row in wanted]
    days = [row["boughtOn"] for row in wanted]
    assert [str(each)[:10] for each in frame["boughtOn"] if isinstance(each, datetime.datetime)] == [
        day for day in days if read_date(day) and day >= "1900-03-01"
    ]


async def test_a_workbook_goes_on_over_further_sheets(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 41)
    book = openpyxl.load_workbook(io.BytesIO(await file(ann, "format=xlsx&fields=room")))
    sheets = [list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets]
    assert book.sheetnames == ["Rows", "Rows 2", "Rows 3", "Rows 4"][: len(sheets)]
    assert len(sheets) > 2
    assert all(sheet[0] == ("tag", "room") for sheet in sheets)
    assert [len(sheet) for sheet in sheets[:-1]] == [41] * (len(sheets) - 1)
    assert [row[0] for sheet in sheets for row in sheet[1:]] == sorted({*rows(), "new"})


@pytest.mark.parametrize("count", [0, 1, 3, 4, 8])
def test_a_sheet_is_full_before_another_begins(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_ROWS", 4)
    book = written([[n] for n in range(count)], Column(name="n", label="N"))
    assert len(book.worksheets) == max(1, -(-count // 3))
    assert [row[0] for sheet in book for row in sheet.iter_rows(min_row=2, values_only=True)] == list(range(count))


def test_a_sheet_that_grows_too_large_for_its_archive_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MOST_BYTES", 1000)
    column = Column(name="n", label="N")
    book = Workbook([column])
    content = book.head() + b"".join(book.rows([["x" * 300]]) for _ in range(10)) + book.tail()
    sheets = openpyxl.load_workbook(io.BytesIO(content)).worksheets
    assert len(sheets) > 1
    assert sum(sheet.max_row - 1 for sheet in sheets) == 10


def written(table: list[list[Any]], *columns: Column) -> Any:
    book = Workbook(columns)
    return openpyxl.load_workbook(io.BytesIO(book.head() + book.rows(table) + book.tail()))


def test_many_columns_have_their_letters() -> None:
    columns = [Column(name=f"c{n}", label="") for n in range(800)]
    sheet = written([list(range(800))], *columns).active
    assert [cell.value for cell in sheet[2]] == list(range(800))
    assert sheet.cell(2, 703).coordinate == "AAA2"


def test_a_table_may_hold_anything() -> None:
    table: list[list[Any]] = [[datetime.date(2026, 3, 1), {"a": 1}], [True, None], [None, "=1"]]
    sheet = written(table, Column(name="a", label=""), Column(name="b", label="")).active
    assert [[cell.value for cell in row] for row in sheet.iter_rows(min_row=2)] == [
        [datetime.datetime(2026, 3, 1), '{"a":1}'],
        [True, None],
        [None, "=1"],
    ]
    assert sheet["B4"].data_type == "s"


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_every_text_is_in_its_cell(texts: list[str]) -> None:
    sheet = written([[text] for text in texts], Column(name="t", label="")).active
    found = [row[0] for row in sheet.iter_rows(min_row=2, values_only=True)]
    found += [None] * (len(texts) - len(found))
    assert [unescaped(cell) or "" for cell in found] == texts
