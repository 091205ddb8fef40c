"""Reading uploads: the records of NDJSON and CSV as they came, and what is told of those that cannot be read."""

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import MalformedRequest
from app.records.records import MAX_RECORD, Raw, read_csv, read_ndjson
from tests.test_bodies import depths

SPECTRUM = json.loads((Path(__file__).parent / "support" / "csv_spectrum.json").read_bytes())


def csv_of(text: str | bytes, **options: Any) -> list[Raw]:
    return list(read_csv([text.encode() if isinstance(text, str) else text], **options))


def ndjson_of(text: str | bytes) -> list[Raw]:
    return list(read_ndjson([text.encode() if isinstance(text, str) else text]))


def members(raws: Iterable[Raw]) -> list[dict[str, Any] | None]:
    return [raw.members for raw in raws]


def told(raws: Iterable[Raw]) -> list[tuple[int, str, str]]:
    """Line, code and text of the records that could not be read."""
    return [(raw.line, str(raw.code), json.loads(raw.record)) for raw in raws if raw.members is None]


# -- CSV ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SPECTRUM["cases"], ids=lambda case: case["name"])
def test_csv_spectrum_is_read_as_its_authors_read_it(case: dict[str, Any]) -> None:
    assert members(csv_of(case["csv"])) == case["records"]


@pytest.mark.parametrize("case", SPECTRUM["cases"], ids=lambda case: case["name"])
def test_a_record_is_the_json_of_what_the_file_says(case: dict[str, Any]) -> None:
    assert [json.loads(raw.record) for raw in csv_of(case["csv"])] == case["records"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_lines_end_in_any_of_three_ways_and_the_last_one_need_not(end: str) -> None:
    lines = ["a,b", "1,2", "", '3,"4"']
    for text in (end.join(lines), end.join([*lines, ""]), end.join(["", *lines, "", ""])):
        assert members(csv_of(text)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_a_record_knows_the_line_that_it_begins_in() -> None:
    raws = csv_of('\n"a\nx",b\r\n1,"2\r\n2\n2"\n\n3,4\r5,6')
    assert [raw.line for raw in raws] == [4, 8, 9]
    assert members(raws)[0] == {"a\nx": "1", "b": "2\r\n2\n2"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_makes_most_columns_of_the_header(delimiter: str) -> None:
    text = f'"x, y; z | w"{delimiter}b{delimiter}c\n1,5{delimiter}2{delimiter}3\n'
    if delimiter == ",":
        text = text.replace("1,5", "1.5")
    assert [raw.members for raw in csv_of(text)] == [
        {"x, y; z | w": "1.5" if delimiter == "," else "1,5", "b": "2", "c": "3"}
    ]


def test_a_header_that_two_delimiters_read_alike_has_to_be_told_which() -> None:
    with pytest.raises(MalformedRequest, match=r"line 1, can be read by ',' and by ';': say which with delimiter="):
        csv_of("a,b;c\n1,2;3\n")
    assert members(csv_of("a,b;c\n1,2;3\n", delimiter=";")) == [{"a,b": "1,2", "c": "3"}]
    with pytest.raises(MalformedRequest, match="delimiter is one of"):
        csv_of("a:b", delimiter=":")


def test_one_column_needs_no_delimiter() -> None:
    assert members(csv_of("name\nAnn\n\nBob B\n")) == [{"name": "Ann"}, {"name": "Bob B"}]


def test_cells_are_kept_as_they_stand() -> None:
    assert members(csv_of("a , b\n 1, x \n007,\n")) == [{"a ": " 1", " b": " x "}, {"a ": "007", " b": ""}]


def test_records_that_cannot_be_read_are_told_and_the_next_one_is_read() -> None:
    raws = csv_of('a,b\n1\n1,2\n1,2,3\n"1"x,2\n3,4\n"5\n6"7,8\n9,10\n"11,12\n')
    assert members(raw for raw in raws if raw.code is None) == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
        {"a": "9", "b": "10"},
    ]
    assert told(raws) == [
        (2, "MALFORMED_ROW", "1\n"),
        (4, "MALFORMED_ROW", "1,2,3\n"),
        (5, "MALFORMED_ROW", '"1"x,2\n'),
        (7, "MALFORMED_ROW", '"5\n6"7,8\n'),
        (10, "MALFORMED_ROW", '"11,12\n'),
    ]
    assert raws[0].message == "The record has 1 cells, the header 2."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no header"),
        ("\n\r\n", "no header"),
        ("a,,c\n", "Column 2 of the header, line 1, has no name"),
        ("\na,b, \n", "Column 3 of the header, line 2, has no name"),
        ("a,b,a\n1,2,3\n", "Two columns of the header, line 1, are called 'a'"),
        ('"a,b\n1,2\n', "quotes of the header, line 1, do not fit"),
        ('"a"x,b\n1,2\n', "quotes of the header, line 1, do not fit"),
        (",".join(f"c{n}" for n in range(1601)), "has 1,601 columns"),
    ],
)
def test_a_header_whose_columns_cannot_be_told_apart_is_refused(text: str, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        csv_of(text)


def test_a_table_has_1600_columns() -> None:
    header = ",".join(f"c{n}" for n in range(1600))
    [raw] = csv_of(f"{header}\n{',' * 1599}\n")
    assert raw.members is not None
    assert len(raw.members) == 1600


def test_a_cell_with_nul_is_told() -> None:
    raws = csv_of("a,b\n1,x\0y\n2,\\u0000\n")
    assert told(raws) == [(2, "MALFORMED_ROW", "1,x␀y\n")]
    assert raws[1].members == {"a": "2", "b": "\\u0000"}


def test_a_quote_that_is_never_closed_ends_the_upload() -> None:
    def chunks() -> Iterator[bytes]:
        yield b'a,b\n1,2\n"3,'
        while True:
            yield b"x\n" * 1000

    raws = read_csv(chunks())
    assert next(raws).members == {"a": "1", "b": "2"}
    with pytest.raises(MalformedRequest, match="The record of line 3 has no end"):
        next(raws)


# -- NDJSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ndjson_is_a_record_a_line_as_it_stands(end: str) -> None:
    lines = ['{"a": 1.50, "b": "\u2028é"}', "", ' {"a":null} ', "  "]
    for text in (end.join(lines), end.join([*lines, ""])):
        raws = ndjson_of(text)
        assert [(raw.line, raw.record.decode()) for raw in raws] == [(1, lines[0]), (3, lines[2])]
        assert members(raws) == [{"a": Decimal("1.50"), "b": "\u2028é"}, {"a": None}]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("{", "MALFORMED_ROW", "not JSON"),
        ('{"a": NaN}', "MALFORMED_ROW", "not JSON"),
        ('{"a": 1} {"a": 2}', "MALFORMED_ROW", "not JSON"),
        ('{"a": "\\ud800"}', "MALFORMED_ROW", "not JSON"),
        ('{"a": 1.0e999999999999999999999}', "MALFORMED_ROW", "exponent beyond all bounds"),
        ("[" * 100_000, "MALFORMED_ROW", "nested too deeply"),
        ("[1]", "MALFORMED_ROW", "no JSON object"),
        ("17", "MALFORMED_ROW", "no JSON object"),
        ('{"a": "x\\u0000y"}', "MALFORMED_ROW", "the character NUL"),
        ('{"a": "x\\\\\\u0000y"}', "MALFORMED_ROW", "the character NUL"),
        ('{"a": 1, "b": 2, "a": 1}', "DUPLICATE_MEMBER", "'a' comes twice"),
        ('{"a" : 1, "a": "x\\":"}', "DUPLICATE_MEMBER", "'a' comes twice"),
        ('{"a": 1, "\\u0061": 2}', "DUPLICATE_MEMBER", "'a' comes twice"),
        ('{"o": {"b": 1, "b": 2}}', "DUPLICATE_MEMBER", "'b' comes twice"),
    ],
)
def test_lines_that_are_no_record_are_told_and_the_next_one_is_read(line: str, code: str, message: str) -> None:
    bad, good = ndjson_of(f'{line}\n{{"a": 1}}\n')
    assert told([bad]) == [(1, code, line)]
    assert message in (bad.message or "")
    assert (good.line, good.members) == (2, {"a": 1})


def test_nor_does_one_end_the_others_that_is_nested_as_deep_as_can_be_read() -> None:
    for depth in depths():
        bad, good = ndjson_of(f'{{"a": {"[" * depth}{"]" * depth}, "a": 1}}\n{{"a": 1}}\n')
        assert bad.code in ("MALFORMED_ROW", "DUPLICATE_MEMBER")
        assert good.members == {"a": 1}


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert members(ndjson_of('{"a": "\\\\u0000", "at": "10:15", "x": {"y": ":"}}')) == [
        {"a": "\\u0000", "at": "10:15", "x": {"y": ":"}}
    ]


def test_a_record_has_1600_members() -> None:
    record = {f"c{n}": n for n in range(1600)}
    assert members(ndjson_of(json.dumps(record))) == [record]
    [raw] = ndjson_of(json.dumps(record | {"more": 1}))
    assert raw.message == "A record has at most 1,600 members."


NAMES = st.sampled_from(["a", "b", 'x":', "c:", "a "])
VALUES = st.one_of(st.integers(), st.sampled_from(['"', '":', "10:15", "\\", ""]), st.lists(st.just("a:"), max_size=1))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.sampled_from([":", ": ", " : ", "\t:"]))
def test_members_that_come_twice_are_always_found(pairs: list[tuple[str, Any]], colon: str) -> None:
    line = "{" + ",".join(json.dumps(name) + colon + json.dumps(value) for name, value in pairs) + "}"
    [raw] = ndjson_of(line)
    assert raw.members == (dict(pairs) if len(dict(pairs)) == len(pairs) else None)


# -- bytes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(MalformedRequest, match="UTF-8"):
        csv_of("a,b\n1,2\n".encode(encoding))


def test_ndjson_in_another_encoding_is_refused_where_a_mark_tells() -> None:
    with pytest.raises(MalformedRequest, match="UTF-16"):
        ndjson_of('{"a":1}'.encode("utf-16"))
    assert {raw.code for raw in ndjson_of('{"a":1}\n'.encode("utf-16-le"))} == {"MALFORMED_ROW"}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"Stra\xdfe"])
def test_what_is_not_utf_8_is_refused_with_its_line(bad: bytes, line_end: bytes) -> None:
    lines = [b"a,b"] + [b"1,2"] * 60_000 + [b"3," + bad, b"4,5"]
    with pytest.raises(MalformedRequest, match=r"Line 60002 is not UTF-8\."):
        list(read_csv([line_end.join(lines)]))


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    assert members(csv_of(b"\xef\xbb\xbfa,b\n1,2")) == [{"a": "1", "b": "2"}]
    assert members(ndjson_of(b'\xef\xbb\xbf{"a":1}')) == [{"a": 1}]
    assert members(read_csv([b"\xef", b"\xbb", b"\xbfa\n", b"1"])) == [{"a": "1"}]


@given(
    st.lists(st.sampled_from(["1,2", '"x\n\r\ny",é', "", "\u2028,\x0b", "1", '"q""q",2']), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_it_does_not_matter_where_an_upload_is_cut(lines: list[str], end: str, cuts: list[int]) -> None:
    whole = end.join(["a,b", *lines]).encode()
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    chunks = [whole[start:stop] for start, stop in pairwise(places)]
    assert list(read_csv(chunks)) == list(read_csv([whole]))
    assert list(read_ndjson(chunks)) == list(read_ndjson([whole]))


def test_it_does_not_matter_where_a_large_upload_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a,b\r\n" + '1,"é\r\n"\r\r\n2,3\n' * 50
    wanted = csv_of(text)
    for piece in range(1, 40):
        monkeypatch.setattr("app.records.records.PIECE", piece)
        assert csv_of(text) == wanted


def test_a_line_has_a_million_bytes() -> None:
    longest = b'{"a":"' + b"x" * (MAX_RECORD - 8) + b'"}'
    [raw] = read_ndjson([longest, b"\n"])
    assert raw.record == longest
    with pytest.raises(MalformedRequest, match="Line 2 has more than 1,000,000 bytes"):
        list(read_ndjson([b'{"a":1}\n', longest, b" \n"]))
    with pytest.raises(MalformedRequest, match="Line 2 has more than 1,000,000 bytes"):
        list(read_csv([b"a\n", b"x" * (MAX_RECORD + 1)]))


def test_memory_does_not_grow_with_the_upload() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a,b\n"
        for _ in range(1000):
            yield (b"x" * 500 + b"," + b"y" * 500 + b"\n") * 20

    tracemalloc.start()
    try:
        assert sum(1 for _ in read_csv(chunks())) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_raw_record_is_immutable() -> None:
    [raw] = ndjson_of('{"a":1}')
    with pytest.raises(AttributeError):
        setattr(raw, "line", 2)  # noqa: B010 - an assignment would not get past the type checker
    assert msgspec.structs.asdict(raw)["line"] == 1
