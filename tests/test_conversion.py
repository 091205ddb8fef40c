"""A record into a document: what every type takes of JSON and of texts, and what becomes of all else."""

import datetime
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.base.errors import MalformedRequest
from app.contracts import Contract, stored_contract
from app.contracts.validation import check_value
from app.contracts.values import normalize_datetime
from app.records.conversion import Converted, Converter, columns_by_header

NOW = datetime.datetime(2026, 11, 29, 12, 0, 0, 500, datetime.UTC)
SEMANTICS = {
    "mode": "upsert",
    "idempotencyKey": ["tag"],
    "eventTimeColumn": "receivedAt",
    "processingTimeColumn": "receivedAt",
    "dedupeWindow": "0s",
    "conflictResolution": "latest_wins",
}
FIELDS: list[dict[str, Any]] = [
    {"name": "tag", "type": "text", "editable": False, "indexed": True},
    {"name": "name", "type": "text", "label": "Full name", "maxLength": 12},
    {"name": "grade", "type": "enum", "values": ["A", "B"]},
    {"name": "price", "type": "number"},
    {"name": "share", "type": "number", "minimum": 0, "maximum": 100},
    {"name": "rate", "type": "number", "scale": 2},
    {"name": "seats", "type": "integer"},
    {"name": "floor", "type": "integer", "minimum": -2},
    {"name": "open", "type": "boolean"},
    {"name": "day", "type": "date"},
    {"name": "seenAt", "type": "datetime"},
    {"name": "storedAt", "type": "datetime"},
]


def contract_of(**members: Any) -> Contract:
    semantics = SEMANTICS | members.pop("semantics", {})
    document = {
        "name": "things",
        "version": "1.0",
        "title": "Things",
        "key": "tag",
        "fields": FIELDS,
        "ingestion": semantics,
        **members,
    }
    return stored_contract(json.dumps(document), schema="things", name="things")


CONTRACT = contract_of()


def read(record: dict[str, Any], contract: Contract = CONTRACT, *, textual: bool = False) -> Converted:
    return Converter(contract, textual=textual).convert({"tag": "T"} | record, NOW)


def wrong(converted: Converted) -> list[tuple[str | None, str]]:
    return [(culprit.field, culprit.code) for culprit in converted.culprits]


# -- values ------------------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text("aé\0\u2028😀 9", max_size=14),
    st.text("0123456789.e-+", max_size=24),
    st.sampled_from(["A", "B", "a", "\0", "é" * 6, "é" * 7, "x" * 12, "x" * 13, "true", "True", "FALSE", "yes", "-0"]),
    st.sampled_from(
        ["2026-02-28", "2026-02-29", "26-02-28", "٢٠٢٦-٠٢-٢٨", "1", "007", "+1", "1.50", ".5", "5.", "1e3"]
    ),
    st.sampled_from(["1e9999", "1e-21", "NaN", "Infinity", "1_0", " 1", "12.0", "9007199254740992", "9" * 31, "1,5"]),
    st.sampled_from(["2026-01-31T08:30:00Z", "2026-01-31 08:30:00.100+02:00", "2026-01-31T08:30:00", "x" * 100_000]),
)
JSON = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(10**31), 10**31),
    st.integers(-5, 105),
    st.builds(
        lambda digits, places: Decimal(digits).scaleb(places), st.integers(-(10**9), 10**9), st.integers(-25, 30)
    ),
    st.sampled_from([Decimal("1.50"), Decimal("12.0"), Decimal("1E+40"), Decimal("1e-21"), 2**53 - 1, 2**53, [], {}]),
)


@given(st.dictionaries(st.sampled_from([field["name"] for field in FIELDS if field["name"] != "tag"]), JSON))
def test_json_is_taken_exactly_where_check_value_lets_it_through(record: dict[str, Any]) -> None:
    found = read(record)
    expected = []
    for name, value in record.items():
        field = CONTRACT.by_name[name]
        if field.type == "datetime" and isinstance(value, str):
            value = normalize_datetime(value) or value
        if (reason := check_value(field, value)) is not None:
            expected.append((name, *reason))
        else:
            assert exact_json.encode(found.document[name]) == exact_json.encode(value)
    assert [(culprit.field, culprit.code, culprit.message) for culprit in found.culprits] == expected


@given(st.sampled_from(["price", "share", "rate", "seats", "floor"]), TEXTS)
def test_a_text_that_is_a_number_is_taken_as_the_number_is(name: str, text: str) -> None:
    found = read({name: text}, textual=True)
    if not text:
        assert found.document[name] is None
    elif not found.culprits:
        value = found.document[name]
        assert value == Decimal(text)
        assert check_value(CONTRACT.by_name[name], value) is None
    elif text.isascii() and text.strip().lstrip("+") == text and "_" not in text:
        try:
            value = exact_json.decode(text)
        except ValueError:
            return
        assert isinstance(value, str | bool | None) or check_value(CONTRACT.by_name[name], value) is not None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", " as it is ", " as it is "),
        ("name", "", None),
        ("grade", "A", "A"),
        ("grade", "", None),
        ("price", "19000.50", Decimal("19000.50")),
        ("price", "+1", Decimal(1)),
        ("price", "007", 7),
        ("price", "-.5", Decimal("-0.5")),
        ("price", "12345678901234567890.12345678901234567890"[:35], Decimal("12345678901234567890.12345678901234")),
        ("seats", "12", 12),
        ("seats", "12.0", Decimal("12.0")),
        ("open", "TRUE", True),
        ("open", "false", False),
        ("day", "2026-02-28", "2026-02-28"),
        ("seenAt", "2026-01-31 08:30:00.100+02:00", "2026-01-31T06:30:00.1Z"),
    ],
)
def test_texts_are_read_by_the_type_of_their_field(name: str, text: str, value: Any) -> None:
    found = read({name: text}, textual=True)
    assert found.culprits == ()
    assert found.document[name] == value
    assert type(found.document[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grade", "a"),
        ("price", "1,5"),
        ("price", "1 000"),
        ("price", "NaN"),
        ("price", "$5"),
        ("price", "٣"),
        ("seats", "1.5"),
        ("open", "yes"),
        ("open", "1"),
        ("day", "28.02.2026"),
        ("day", "2026-02-30"),
        ("seenAt", "2026-01-31T08:30:00"),
        ("name", "x\0y"),
        ("name", "longer than twelve"),
    ],
)
def test_other_texts_are_told_and_not_guessed(name: str, text: str) -> None:
    [culprit] = read({name: text}, textual=True).culprits
    assert (culprit.id, culprit.field) == ("T", name)


def test_a_number_as_a_text_is_no_number_in_json() -> None:
    assert wrong(read({"price": "1", "open": "true", "seats": True})) == [
        ("price", "INVALID_TYPE"),
        ("open", "INVALID_TYPE"),
        ("seats", "INVALID_TYPE"),
    ]


def test_null_is_always_a_value_and_what_is_absent_stays_so() -> None:
    assert read({"price": None, "name": ""}).document == {"tag": "T", "price": None, "name": ""}


# -- what does not fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("types", "culprits", "dropped", "refused"),
    [
        ("quarantine_row", [("price", "INVALID_TYPE")], (), False),
        ("refuse", [("price", "INVALID_TYPE")], (), True),
        ("drop_value", [], ("price",), False),
    ],
)
def test_the_contract_says_what_becomes_of_a_misfit(
    types: str, culprits: list[Any], dropped: tuple[str, ...], refused: bool
) -> None:
    found = read({"price": "x", "seats": 1}, contract_of(schemaContract={"types": types}))
    assert (wrong(found), found.dropped, found.refused) == (culprits, dropped, refused)
    assert found.document == {"tag": "T", "price": None, "seats": 1}


@pytest.mark.parametrize(
    ("new_fields", "culprits", "dropped", "new", "refused"),
    [
        ("quarantine_row", [("colour", "UNKNOWN_FIELD")], (), (), False),
        ("refuse", [("colour", "UNKNOWN_FIELD")], (), (), True),
        ("drop_value", [], ("colour",), (), False),
        ("evolve", [], (), (("colour", ["red"]),), False),
    ],
)
def test_the_contract_says_what_becomes_of_a_new_member(
    new_fields: str, culprits: list[Any], dropped: tuple[str, ...], new: Any, refused: bool
) -> None:
    found = read({"colour": ["red"], "shade": None}, contract_of(schemaContract={"newFields": new_fields}))
    assert (wrong(found), found.dropped, found.new, found.refused) == (culprits, dropped, new, refused)
    assert found.document == {"tag": "T"}


def test_an_empty_cell_of_a_new_column_loses_nothing() -> None:
    assert wrong(read({"colour": ""}, textual=True)) == []
    assert wrong(read({"colour": ""})) == [("colour", "UNKNOWN_FIELD")]


@pytest.mark.parametrize("types", ["quarantine_row", "drop_value", "refuse"])
def test_a_record_without_its_key_is_never_a_row(types: str) -> None:
    contract = contract_of(schemaContract={"types": types})
    for record in ({"tag": None}, {"tag": 5}):
        assert [field for field, _ in wrong(read(record, contract))] == ["tag"]
    assert wrong(Converter(contract, textual=True).convert({"price": "1"}, NOW)) == [("tag", "MISSING_FIELD")]
    assert wrong(read({"tag": ""})) == [("tag", "INVALID_ID")]
    assert wrong(read({"tag": "a\nb"})) == [("tag", "INVALID_ID")]


def test_rules_that_a_value_breaks_by_itself_hold_for_records() -> None:
    rules = [
        {"type": "not_null", "field": "name"},
        {"type": "regex", "field": "name", "pattern": "[A-Z].*"},
        {"type": "range", "field": "day", "min": "2026-01-01", "severity": "WARNING"},
        {"type": "ordered", "first": "day", "second": "day"},
    ]
    contract = contract_of(rules=rules)
    assert wrong(read({"name": "Ann", "day": "1999-01-01"}, contract)) == []
    assert wrong(read({}, contract)) == [("name", "MISSING_REQUIRED_FIELD")]
    assert wrong(read({"name": "ann"}, contract)) == [("name", "INVALID_FORMAT")]
    assert wrong(read({"name": 5}, contract)) == [("name", "INVALID_TYPE")]


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = read({"tag": None, "price": "x", "colour": 1})
    assert wrong(found) == [
        ("price", "INVALID_TYPE"),
        ("colour", "UNKNOWN_FIELD"),
        ("tag", "MISSING_FIELD"),
    ]


# -- times -------------------------------------------------------------------------------------------------------------

TIMED = contract_of(semantics={"eventTimeColumn": "seenAt", "processingTimeColumn": "storedAt"})


def test_the_moment_of_receipt_stands_for_times_that_the_contract_does_not_name() -> None:
    found = read({})
    assert (found.event_at, found.processed_at, found.document) == (NOW, NOW, {"tag": "T"})


def test_a_row_has_its_event_time_in_utc_and_a_processing_time_of_its_own() -> None:
    found = read({"seenAt": "2026-01-31T08:30:00.000001+02:00"}, TIMED)
    assert found.event_at == datetime.datetime(2026, 1, 31, 6, 30, 0, 1, datetime.UTC)
    assert found.processed_at == NOW
    assert found.document == {
        "tag": "T",
        "seenAt": "2026-01-31T06:30:00.000001Z",
        "storedAt": "2026-11-29T12:00:00.0005Z",
    }


def test_a_processing_time_that_came_stays() -> None:
    found = read({"seenAt": "2026-01-31T08:30:00Z", "storedAt": "2026-02-01T00:00:00Z"}, TIMED)
    assert found.processed_at == datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)


def test_a_record_without_its_event_time_is_told() -> None:
    assert wrong(read({}, TIMED)) == [("seenAt", "MISSING_FIELD")]
    assert wrong(read({"seenAt": "yesterday"}, TIMED)) == [("seenAt", "INVALID_TYPE")]


def test_fields_that_say_whether_others_are_there_are_filled() -> None:
    derived = {"name": "dated", "type": "boolean", "editable": False, "derivedFrom": ["day", "seenAt"]}
    contract = contract_of(fields=[*FIELDS, derived])
    assert read({"day": "2026-01-01"}, contract).document["dated"] is False
    assert read({"day": "2026-01-01", "seenAt": "2026-01-31T08:30:00Z"}, contract).document["dated"] is True


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_member_is_called_by_the_name_of_its_field_or_by_its_label() -> None:
    assert read({"Full name": "Ann"}).document == {"tag": "T", "name": "Ann"}
    assert columns_by_header(CONTRACT, ["Full name", "tag", "colour"]) == {"Full name": "name", "tag": "tag"}


def test_a_field_that_comes_by_name_and_by_label_is_told() -> None:
    assert wrong(read({"name": "Ann", "Full name": "Ann"})) == [("name", "DUPLICATE_MEMBER")]
    with pytest.raises(MalformedRequest, match="The columns 'name' and 'Full name' are both name"):
        columns_by_header(CONTRACT, ["name", "Full name"])


def test_a_label_of_two_fields_names_neither() -> None:
    contract = contract_of(fields=[*FIELDS, {"name": "alias", "type": "text", "label": "Full name"}])
    with pytest.raises(MalformedRequest, match="The column 'Full name' may be name or alias"):
        columns_by_header(contract, ["tag", "Full name"])
    assert wrong(read({"Full name": "Ann"}, contract)) == [("Full name", "UNKNOWN_FIELD")]


def test_a_name_goes_before_a_label() -> None:
    fields = [*FIELDS[:1], {"name": "start", "type": "text", "label": "end"}, {"name": "end", "type": "text"}]
    assert columns_by_header(contract_of(fields=fields), ["end", "start"]) == {"end": "end", "start": "start"}


def test_a_contract_without_semantics_takes_no_records() -> None:
    with pytest.raises(ValueError, match="says nothing of ingestion"):
        Converter(contract_of(ingestion=None), textual=False)
