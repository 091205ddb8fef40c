"""Contracts inferred from records: they register as they stand, take these records, and tell every guess."""

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.base.errors import ValidationFailed
from app.contracts import Contract
from app.contracts.registration import read_registration
from app.records.conversion import Converter, columns_by_header
from app.records.inference import Inferred, infer, infer_upload
from app.records.names import field_names
from app.records.records import Raw, read_csv, read_ndjson
from app.records.sample import draw

PUBLIC = Path(__file__).parent / "support" / "public"
NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)


def registered(inferred: Inferred) -> Contract:
    """The contract as it comes back over the wire, registered."""
    return read_registration(exact_json.decode(exact_json.encode(inferred.contract)), schema="things")


def of_csv(text: str, **options: Any) -> Inferred:
    inferred = infer_upload(read_csv([text.encode()]), name="things", textual=True, **options)
    registered(inferred)
    return inferred


def of_records(*records: dict[str, Any], **options: Any) -> Inferred:
    inferred = infer(records, name="things", textual=False, whole=True, **options)
    registered(inferred)
    return inferred


def column(values: list[str], header: str = "x", **options: Any) -> dict[str, Any]:
    """The field of one column, beside a key."""
    return field_of(with_key(values, header, **options), header)


def with_key(values: list[str], header: str = "x", *, whole: bool = True) -> Inferred:
    records = [{"tag": f"T{place}", header: value} for place, value in enumerate(values)]
    inferred = infer(records, name="things", key=["tag"], textual=True, whole=whole)
    registered(inferred)
    return inferred


def field_of(inferred: Inferred, header: str) -> dict[str, Any]:
    [field] = [each for each in inferred.contract["fields"] if each.get("label", each["name"]) == header]
    return dict(field)


def told(inferred: Inferred, path: str) -> list[tuple[str, list[str]]]:
    return [(note.message, note.alternatives) for note in inferred.notes if note.path == path]


# -- public data -------------------------------------------------------------------------------------------------------


def raws_of(file: str) -> Iterator[Raw]:
    data = (PUBLIC / file).read_bytes()
    if file.endswith(".csv"):
        return read_csv([data])
    return read_ndjson(exact_json.encode(record) + b"\n" for record in exact_json.decode(data))


# File -> the key that is found, or has to be given; types of some fields.
KNOWN: dict[str, tuple[list[str], bool, dict[str, str]]] = {
    "penguins-raw.csv": (
        ["studyName", "individualId"],
        True,
        {"sampleNumber": "integer", "dateEgg": "date", "sex": "enum", "bodyMassG": "text", "clutchCompletion": "enum"},
    ),
    "gapminder.csv": (
        ["country", "year"],
        True,
        {"continent": "enum", "year": "integer", "lifeExp": "number", "pop": "integer", "gdpPercap": "text"},
    ),
    "airports.csv": (["iata"], True, {"iata": "text", "latitude": "number", "state": "text"}),
    "seattle-weather.csv": (["date"], True, {"date": "text", "tempMax": "number", "weather": "enum"}),
    "stocks.csv": (["symbol", "date"], True, {"symbol": "text", "date": "text", "price": "number"}),
    "us-employment.csv": (["month"], True, {"month": "date", "nonfarm": "integer", "retailTrade": "number"}),
    "iowa-electricity.csv": (["year", "source"], True, {"year": "date", "netGeneration": "integer"}),
    "cars.json": (["Name", "Year", "Weight_in_lbs"], False, {"horsepower": "integer", "origin": "enum"}),
    "barley.json": (["variety", "year", "site"], True, {"yield": "number", "year": "integer"}),
    "burtin.json": (["bacteria"], True, {"penicillin": "number", "gramStaining": "text"}),
    "ohlc.json": (["date"], True, {"date": "date", "signal": "enum", "ret": "number"}),
    "crimea.json": (["date"], True, {"wounds": "integer"}),
}


@pytest.mark.parametrize("file", KNOWN)
def test_public_data_is_inferred_registered_and_taken_to_the_last_cell(file: str) -> None:
    key, found, types = KNOWN[file]
    textual = file.endswith(".csv")
    inferred = infer_upload(raws_of(file), name="things", key=None if found else key, textual=textual)
    contract = registered(inferred)
    if found:
        assert list(contract.key_fields) == key
    assert {name: contract.by_name[name].type for name in types} == types
    assert sum(field.indexed for field in contract.fields) <= 12
    converter = Converter(contract, textual=textual)
    for raw in raws_of(file):
        assert raw.members is not None
        converted = converter.convert(raw.members, NOW)
        assert converted.culprits == ()
        values = [value for value in raw.members.values() if not textual or value]
        assert [str(value) for value in converted.document.values() if value is not None] == [
            str(value) for value in values if value is not None
        ]


@pytest.mark.parametrize("file", [file for file in KNOWN if file.endswith(".csv")])
def test_every_column_of_public_data_finds_its_field(file: str) -> None:
    first = next(raws_of(file)).members or {}
    contract = registered(infer_upload(raws_of(file), name="things", textual=True))
    assert list(columns_by_header(contract, first).values()) == [field.name for field in contract.fields]


def test_penguins_have_no_key_and_say_so() -> None:
    with pytest.raises(ValidationFailed, match="Neither one column nor 3 together") as refused:
        infer_upload(raws_of("penguins.csv"), name="penguins", textual=True)
    assert refused.value.errors[0].parameter == "key"


def test_what_penguins_lack_is_written_na_and_told() -> None:
    inferred = infer_upload(raws_of("penguins-raw.csv"), name="penguins", textual=True)
    place = [field["name"] for field in inferred.contract["fields"]].index("bodyMassG")
    assert told(inferred, f"fields[{place}].type") == [
        ("bodyMassG: 2 values are 'NA', which are texts. With nothing in their place its type is integer.", ["integer"])
    ]
    assert told(inferred, f"fields[{place}].name") == [
        (
            "The column 'Body Mass (g)' is called bodyMassG. Files are read by its label, which is what they say.",
            ["any other name"],
        )
    ]


# -- types -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "0"], "integer"),
        (["1", "", "3"], "integer"),
        (["123456789012345", "1"], "integer"),
        (["1.5", "2"], "number"),
        (["1.50", "-.5", "2e-07", "1.5E3"], "number"),
        (["true", "FALSE"], "boolean"),
        (["2026-02-28", ""], "date"),
        (["2026-01-31T08:30:00Z", "2026-01-31 08:30:00+02:00"], "datetime"),
        (["", ""], "text"),
        (["a", "1"], "text"),
        (["1 ", "2"], "text"),
    ],
)
def test_a_column_has_the_type_that_all_of_its_values_have(values: list[str], kind: str) -> None:
    assert column(values)["type"] == kind


@pytest.mark.parametrize(
    ("values", "words", "alternatives"),
    [
        (["007", "12"], "leading zeros", ["integer"]),
        (["+1", "2"], "plus sign", ["number"]),
        (["1234567890123456", "1"], "15 digits", ["integer"]),
        (["0.1234567890123456", "1"], "15 digits", ["number"]),
        (["12E4", "13E5"], "exponent", ["number"]),
        (["1,5", "2,25"], "comma", ["number"]),
        (["1.234,50"], "comma", ["number"]),
        (
            ["01/02/2026", "03/04/2026"],
            "day and month",
            ["date, read as day before month", "date, read as month before day"],
        ),
        (["31/02/2026", "03/04/2026"], "another form", ["date, read as day before month"]),
        (["02.13.2026"], "another form", ["date, read as month before day"]),
        (["2026/01/02"], "YYYY-MM-DD", ["date"]),
        (["2026-01-31 08:30", "2026-01-31 09:30"], "offset", ["datetime"]),
        (["yes", "no"], "yes and no", ["boolean"]),
        (["1", "n/a"], "which are texts", ["integer"]),
        (["2026-02-28", "NULL", "-"], "which are texts", ["date"]),
        (["abc", "none"], "which are texts", ["null, where there is nothing"]),
        ([*map(str, range(1, 20)), "twenty"], "1 of 20 values are not of type number, such as 'twenty'", ["number"]),
    ],
)
def test_what_only_looks_like_a_type_is_text_and_told(values: list[str], words: str, alternatives: list[str]) -> None:
    inferred = with_key(values)
    assert field_of(inferred, "x")["type"] == "text"
    [(message, found)] = told(inferred, "fields[1].type")
    assert words in message
    assert found == alternatives


@pytest.mark.parametrize(
    ("values", "alternatives"), [(["0", "1", "1"], ["boolean"]), (["20260131", "20261231"], ["date", "text"])]
)
def test_whole_numbers_that_may_be_something_else_are_told(values: list[str], alternatives: list[str]) -> None:
    inferred = with_key(values)
    assert field_of(inferred, "x")["type"] == "integer"
    assert [found for _, found in told(inferred, "fields[1].type")] == [alternatives]


def test_few_values_that_come_often_are_an_enum() -> None:
    values = ["red", "green", ""] * 10
    assert column(values) | {} == {
        "name": "x",
        "type": "enum",
        "values": ["green", "red"],
        "indexed": True,
        "dimension": True,
    }
    assert column(values[:-3])["type"] == "text"
    assert column([*values, *map(str, range(20))])["type"] == "text"


def test_a_sample_has_no_enum_for_others_may_come() -> None:
    inferred = with_key(["red", "green"] * 10, whole=False)
    assert field_of(inferred, "x")["type"] == "text"
    assert told(inferred, "fields[1].type") == [
        ("x: The sample has 2 different values; the rest may have others.", ["enum"])
    ]


def test_long_texts_get_room_and_no_index() -> None:
    assert column(["x" * 500])["type"] == "text"
    field = column(["é" * 400, "b"])
    assert field["maxLength"] == 2000
    assert "indexed" not in field


def test_json_has_the_types_of_its_values() -> None:
    inferred = of_records(
        {
            "tag": "a",
            "whole": 1,
            "part": 1,
            "big": 2**60,
            "yes": True,
            "day": "2026-01-31",
            "code": "1",
            "nothing": None,
        },
        {"tag": "b", "whole": 2, "part": Decimal("1.5"), "big": 1, "yes": False, "day": None, "code": "007"},
    )
    assert {field["name"]: field["type"] for field in inferred.contract["fields"]} == {
        "tag": "text",
        "whole": "integer",
        "part": "number",
        "big": "number",
        "yes": "boolean",
        "day": "date",
        "code": "text",
        "nothing": "text",
    }


def test_mixed_and_nested_members_are_told() -> None:
    inferred = of_records(
        {"tag": "a", "x": 1, "o": {"b": 1}}, {"tag": "b", "x": 2, "o": [1]}, {"tag": "c", "x": "three"}
    )
    assert [(field["name"], field["type"]) for field in inferred.contract["fields"]] == [
        ("tag", "text"),
        ("x", "integer"),
    ]
    [(message, alternatives)] = told(inferred, "fields[1].type")
    assert message == "x: 1 of 3 values are not of type integer: their records are put aside."
    assert alternatives == ["text", "schemaContract.types: drop_value"]
    assert "'o': It has objects or lists" in told(inferred, "fields")[0][0]


# -- keys --------------------------------------------------------------------------------------------------------------


def key_of(text: str, **options: Any) -> Any:
    return of_csv(text, **options).contract["key"]


def test_the_key_is_called_so_rather_than_first() -> None:
    assert key_of("name,amount,orderNo\nAnn,1,A\nBob,2,B\n") == "orderNo"
    assert key_of("amount,id,name\n5,1,Ann\n9,2,Bob\n") == "recordId"
    assert key_of("name,amount\nAnn,1\nBob,2\n") == "name"
    assert key_of("amount,line\n5,1\n9,2\n8,3\n7,4\n") == "line"


def test_an_amount_is_no_key_even_if_all_differ() -> None:
    with pytest.raises(ValidationFailed, match="with key="):
        key_of("amount,price\n5,1.5\n9,2.5\n80,2.6\n")


def test_moments_are_the_same_in_any_offset_and_an_empty_text_is_no_key() -> None:
    """What the records would not be told apart by, or could not have for an id."""
    twice = [{"at": "2026-01-01T00:00:00Z"}, {"at": "2026-01-01T01:00:00+01:00"}]
    for records in (twice, [each | {"site": "A"} for each in twice], [{"code": ""}, {"code": "b"}]):
        with pytest.raises(ValidationFailed, match="with key="):
            of_records(*records)
    [(message, _)] = told(of_records(*twice, key=["at"]), "key")
    assert "1 records have one that another record has" in message
    assert of_records(twice[0], {"at": "2026-01-02T00:00:00Z"}).contract["key"] == "at"
    [(message, _)] = told(of_csv("n,who\n-0,A\n0,B\n", key=["n"]), "key")
    assert "1 records have one that another record has" in message


def test_a_key_of_several_is_tried_where_one_is_not_enough() -> None:
    inferred = of_csv("site,day,n\nA,1,5\nA,2,5\nB,1,5\nB,2,6\n")
    assert inferred.contract["key"] == ["site", "day"]
    assert inferred.contract["ingestion"]["idempotencyKey"] == ["site", "day"]
    assert told(inferred, "key") == [("No column tells all records apart, but site, day together do.", [])]


def test_the_key_that_is_given_is_taken_by_header_or_name_and_judged() -> None:
    text = "Order No,who\n1,Ann\n1,Bob\n,Cy\n"
    for word in ("Order No", "orderNo"):
        inferred = of_csv(text, key=[word])
        assert inferred.contract["key"] == "orderNo"
        [(message, _)] = told(inferred, "key")
        assert "1 records have none" in message
        assert "1 records have one that another record has" in message
    for key in (["nobody"], ["who", "who"]):
        with pytest.raises(ValidationFailed, match="with key="):
            of_csv(text, key=key)


def test_a_key_is_no_enum_for_other_rows_will_come() -> None:
    text = "kind,day\n" + "".join(f"{kind},2026-01-{day:02}\n" for kind in "AB" for day in range(1, 21))
    fields = of_csv(text).contract["fields"]
    assert [(field["type"], field["editable"]) for field in fields] == [("text", False), ("date", False)]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("firstName", "firstName"),
        ("First name", "firstName"),
        ("first_name", "firstName"),
        ("DATE", "date"),
        ("IMDBRating", "imdbRating"),
        ("Größe (cm)", "grosseCm"),
        ("Ångström", "angstrom"),
        ("Œuvre d'art", "oeuvreDart"),
        ("2020", "column2020"),
        ("日本", "column1"),
        ("id", "recordId"),
        ("ID", "recordId"),
        ("page", "pageValue"),
        ("receivedAt", "receivedAtValue"),
        ("x" * 60, "x" * 30),
        ("A Very Long Name That Goes On And On", "aVeryLongNameThatGoesOnAndOn"),
        ("'; DROP TABLE x; --", "dropTableX"),
        (" ", "column1"),
    ],
)
def test_a_field_is_called_as_its_column_as_far_as_names_go(header: str, name: str) -> None:
    assert field_names([header]) == {header: name}


def test_names_that_fold_to_one_are_told_apart_and_names_that_fit_stay() -> None:
    assert field_names(["A", "a", "a b", "aB", "a_b", "A-B", "ab2"]) == {
        "A": "a2",
        "a": "a",
        "a b": "aB2",
        "aB": "aB",
        "a_b": "aB3",
        "A-B": "aB4",
        "ab2": "ab2",
    }


@given(
    st.lists(st.text("aAbB12_ .éß日", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=12, unique=True)
)
def test_a_file_with_any_headers_is_read_by_the_contract_that_is_inferred_from_it(headers: list[str]) -> None:
    record = {header: f"v{place}" for place, header in enumerate(headers)}
    contract = registered(infer([record], name="things", key=headers[:1], textual=True, whole=True))
    found = columns_by_header(contract, headers)
    assert list(found) == headers
    assert list(found.values()) == [field.name for field in contract.fields]
    converted = Converter(contract, textual=True).convert(record, NOW)
    assert (converted.culprits, list(converted.document.values())) == ((), list(record.values()))


CELLS = st.one_of(
    st.sampled_from(
        ["", "1", "-0", "007", "+1", "1.5", ".5", "5.", "1e5", "1e-30", "9" * 15, "9" * 16, "true", "NA", " "]
    ),
    st.sampled_from(["2026-02-28", "2026-02-30", "01/02/2026", "2026-01-31T08:30:00Z", "0001-01-01T00:00:00+02:00"]),
    st.text("ab\u2028é, 1-", max_size=5),
)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=30))
def test_a_contract_takes_every_record_that_it_is_inferred_from(rows: list[tuple[str, str, str]]) -> None:
    records = [{"tag": f"T{place}", "a": a, "B c": b, "d": d} for place, (a, b, d) in enumerate(rows)]
    contract = registered(infer(records * 11, name="things", key=["tag"], textual=True, whole=True))
    converter = Converter(contract, textual=True)
    assert [converter.convert(record, NOW).culprits for record in records] == [()] * len(records)


# -- what else ---------------------------------------------------------------------------------------------------------


def test_ingestion_is_neutral_and_each_word_of_it_told() -> None:
    inferred = of_csv("tag,seenAt\nA,2026-01-31T08:30:00Z\n")
    assert inferred.contract["ingestion"] == {
        "mode": "upsert",
        "idempotencyKey": ["tag"],
        "eventTimeColumn": "receivedAt",
        "processingTimeColumn": "receivedAt",
        "dedupeWindow": "0s",
        "conflictResolution": "latest_wins",
    }
    for member in inferred.contract["ingestion"]:
        assert len(told(inferred, f"ingestion.{member}")) == 1
    assert told(inferred, "ingestion.eventTimeColumn")[0][1] == ["seenAt"]


def test_indexes_are_modest() -> None:
    header = ",".join(["tag", *(f"n{place}" for place in range(30)), *(f"d{place}" for place in range(30))])
    line = ",".join(["{}", *["{}"] * 30, *["2026-01-{:02}"] * 30])
    text = "\n".join([header, *(line.format(f"T{n}", *[n] * 30, *[n] * 30) for n in range(1, 20))])
    contract = registered(of_csv(text))
    assert sum(field.indexed for field in contract.fields) == 12
    assert [measure.of for measure in contract.measures] == ["n0", "n1", "n2"]
    assert [hot.sort for hot in contract.hot] == ["d0"]


def test_sums_are_of_what_can_be_summed() -> None:
    text = "tag,price,unitId,taxRate,year,latitude\n" + "".join(f"T{n},{n}.5,{n},{n}.5,{n},{n}.5\n" for n in range(5))
    assert of_csv(text).contract["measures"] == [{"name": "totalPrice", "kind": "sum", "of": "price"}]


def test_records_that_cannot_be_read_are_left_out_and_told() -> None:
    inferred = of_csv("tag,x\nA,1\nB\nC,2,3\nD,4\n")
    assert field_of(inferred, "x")["type"] == "integer"
    assert told(inferred, "") == [
        ("All 2 records were looked at.", []),
        ("2 records could not be read, the first of them in line 3: The record has 1 cells, the header 2.", []),
    ]


@pytest.mark.parametrize("text", ["a,b\n", "a,b\n1\n"])
def test_of_no_record_nothing_is_inferred(text: str) -> None:
    with pytest.raises(ValidationFailed, match="no record that can be read"):
        of_csv(text)


def test_too_many_columns_are_refused_at_once() -> None:
    with pytest.raises(ValidationFailed, match="more than 200 different members"):
        infer(({f"c{n}": 1} for n in range(10**9)), name="things", textual=False, whole=True)


@pytest.mark.parametrize("header", ["", " ", "a\0b", "é" * 251])
def test_a_member_that_no_label_can_keep_is_refused(header: str) -> None:
    with pytest.raises(ValidationFailed, match="A name of 1 to 500 bytes"):
        of_records({"tag": "a", header: 1})


# -- samples -----------------------------------------------------------------------------------------------------------


def uploaded(count: int, size: int = 1) -> Iterator[Raw]:
    return read_ndjson(json.dumps({"tag": f"{n:05}", "x": "y" * size}).encode() + b"\n" for n in range(count))


def test_a_small_upload_is_looked_at_whole_and_a_large_one_by_a_sample() -> None:
    assert draw(uploaded(100), textual=False).whole
    sample = draw(uploaded(10_000), textual=False, limit=26_000)
    assert (sample.whole, sample.read, len(sample.kept)) == (False, 10_000, 1000)
    assert sample.kept == draw(uploaded(10_000), textual=False, limit=26_000).kept


def test_every_record_has_the_same_chance() -> None:
    places = [int(record["tag"]) for record in draw(uploaded(10_000), textual=False, limit=26_000)]
    for start in range(0, 10_000, 2_500):
        assert 200 < sum(start <= place < start + 2_500 for place in places) < 300


def test_a_sample_stays_small_when_long_records_come_late() -> None:
    upload = [*uploaded(1000), *uploaded(1000, 2000)]
    sample = draw(upload, textual=False, limit=26_000)
    assert sum(map(len, sample.kept)) <= 26_000
    assert len(draw(upload, textual=False, most=50).kept) == 50


def test_a_large_upload_says_that_it_was_not_read_whole() -> None:
    found = infer(draw(uploaded(100), textual=False, limit=500), name="things", textual=False, whole=False)
    assert told(found, "")[0][0].startswith("There is more than 10 MB of records: ")


def test_of_csv_the_names_are_kept_once() -> None:
    text = "a rather long header,tag\n" + "".join(f"{n:05},x\n" for n in range(1000))
    sample = draw(read_csv([text.encode()]), textual=True, limit=13_000)
    assert sample.whole
    assert next(iter(sample)) == {"a rather long header": "00000", "tag": "x"}
