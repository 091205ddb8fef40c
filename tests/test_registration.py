"""Registration: a contract of an organization's own is read from JSON, with everything that is wrong at its path."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.base import exact_json
from app.base.errors import MalformedRequest, ValidationFailed
from app.contracts import Contract
from app.contracts.bounds import Limits
from app.contracts.ddl import dataset_ddl, forgetting_ddl, index_scripts, kpi_ddl
from app.contracts.expressions import parse
from app.contracts.registration import read_registration, wire_of

Document = dict[str, Any]
Change = Callable[[Document], Any]
CUSTOMERS = Path(__file__).parent / "support" / "customers.json"


def customers() -> Document:
    """A contract with something of everything, as its file has it."""
    document: Document = exact_json.decode(CUSTOMERS.read_bytes())
    return document


def register(document: Any, **limits: int) -> Contract:
    return read_registration(document, schema="d_1", limits=Limits(**limits))


def told(document: Any, **limits: int) -> list[tuple[str | None, str]]:
    """Path and code of everything that is wrong."""
    with pytest.raises(ValidationFailed) as refusal:
        register(document, **limits)
    assert all(culprit.message for culprit in refusal.value.errors)
    return [(culprit.parameter, culprit.code) for culprit in refusal.value.errors]


def message_of(document: Any) -> str:
    with pytest.raises(ValidationFailed) as refusal:
        register(document)
    return refusal.value.errors[0].message


def field(document: Document, name: str) -> Document:
    found: Document = next(each for each in document["fields"] if each["name"] == name)
    return found


def add(member: str, **part: Any) -> Change:
    return lambda document: document.setdefault(member, []).append(part)


# --- what is told


def test_a_contract_is_read_and_gets_the_schema_of_its_dataset() -> None:
    contract = register(customers())
    assert (contract.name, contract.version, contract.schema) == ("customers", "1.0", "d_1")
    assert contract.ingestion is not None
    assert contract.ingestion.idempotency_key == ("customerId",)


def test_what_is_told_registers_again_as_an_equal_contract() -> None:
    contract = register(customers())
    wire = wire_of(contract)
    assert "schema" not in wire
    assert register(wire) == contract
    assert register(exact_json.decode(exact_json.encode(wire))) == contract


def test_of_nothing_each_member_is_missed() -> None:
    missing = """name version title key fields ingestion.mode ingestion.idempotencyKey ingestion.eventTimeColumn
    ingestion.processingTimeColumn ingestion.dedupeWindow ingestion.conflictResolution"""
    assert told({}) == [(path, "MISSING_MEMBER") for path in missing.split()]


@pytest.mark.parametrize("document", [[], None, 1, "x", True, [{}]])
def test_what_is_no_object_is_no_contract(document: Any) -> None:
    assert told(document) == [(None, "INVALID_CONTRACT")]


def test_every_part_is_told_of_by_itself() -> None:
    """Where msgspec would stop at the first."""
    document = customers() | {
        "colour": "red",
        "title": None,
        "fields": [
            {"name": "A b", "type": "money", "x": 1},
            3,
            {"name": "b", "type": "text", "maxLength": "5", "values": ["a", 1], "scale": 99},
        ],
        "rules": [{"type": "lucky"}, {"field": "b"}, {"type": "range", "field": "b", "severity": "BAD"}],
        "measures": {},
        "hot": [{"sort": 1, "filters": ["a", "B"]}],
        "schemaContract": {"newFields": "explode"},
        "maxQuarantined": -1,
    }
    assert sorted(told(document), key=str) == [
        ("colour", "UNKNOWN_MEMBER"),
        ("fields[0].name", "INVALID_TYPE"),
        ("fields[0].type", "INVALID_TYPE"),
        ("fields[0].x", "UNKNOWN_MEMBER"),
        ("fields[1]", "INVALID_TYPE"),
        ("fields[2].maxLength", "INVALID_TYPE"),
        ("fields[2].scale", "INVALID_TYPE"),
        ("fields[2].values[1]", "INVALID_TYPE"),
        ("hot[0].filters[1]", "INVALID_TYPE"),
        ("hot[0].sort", "INVALID_TYPE"),
        ("maxQuarantined", "INVALID_TYPE"),
        ("measures", "INVALID_TYPE"),
        ("rules[0].type", "INVALID_TYPE"),
        ("rules[1].type", "MISSING_MEMBER"),
        ("rules[2].severity", "INVALID_TYPE"),
        ("schemaContract.newFields", "INVALID_TYPE"),
        ("title", "INVALID_TYPE"),
    ]


def test_an_unknown_word_does_not_keep_the_rest_from_being_told() -> None:
    document = customers() | {"colour": "red", "upstream": "pems", "key": "name"}
    document["hot"].append({"sort": "note", "wide": True})
    document["ingestion"] = {"mode": "upsert"}
    paths = [path for path, _ in told(document)]
    assert [path for path in paths if path and not path.startswith("ingestion.")] == [
        "upstream", "colour", "hot[2].wide", "key", "hot[2].sort",
    ]  # fmt: skip
    assert len(paths) == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: field(d, "region").update(name="Region"), "begins with a small letter, such as eventTime, not 'Reg"),
        (lambda d: field(d, "region").update(type="money"), "one of boolean, date, datetime, enum, integer, number,"),
        (lambda d: field(d, "region").update(scale=-1), "a whole number from 0 to 20 or null, not -1"),
        (lambda d: d.update(version="1"), "This is major.minor, such as 1.0, not '1'"),
        (lambda d: d.update(source="x" * 501), "a text of at most 500 characters"),
        (lambda d: d["ingestion"].update(dedupeWindow="1w"), "such as 30s, 15m, 24h or 7d, not '1w'"),
        (lambda d: d["ingestion"].update(mode="merge"), "one of append, upsert, not 'merge'"),
        (lambda d: d["ingestion"].update(idempotencyKey=[]), "a list of at least 1"),
        (lambda d: d.update(readOnly="yes"), "true or false, not 'yes'"),
        (lambda d: d.update(readOnly=None), "true or false, not null"),
        (lambda d: d.update(fields="x"), "a list, each an object, not 'x'"),
    ],
)
def test_a_message_says_what_is_wanted_and_what_was_found(change: Change, words: str) -> None:
    document = customers()
    change(document)
    assert words in message_of(document)


def test_of_very_many_things_the_first_hundred_are_told() -> None:
    document = customers() | {"hot": [{"sort": "A"}] * 15, "rules": [{"type": "x"}] * 100}
    with pytest.raises(ValidationFailed, match=r"115 things to mend\. The first 100 are told") as refusal:
        register(document)
    assert len(refusal.value.errors) == 100


# --- what only the product's own contracts say


def test_words_of_the_product_are_refused() -> None:
    computed = {"name": "total", "type": "number", "function": "pg_sleep", "reads": ["revenue"], "present": []}
    document = customers() | {"schema": "public", "functions": "x", "upstream": "pems", "computed": [computed]}
    assert told(document) == [
        ("schema", "REFUSED_MEMBER"),
        ("functions", "REFUSED_MEMBER"),
        ("upstream", "REFUSED_MEMBER"),
        ("computed[0].function", "REFUSED_MEMBER"),
        ("computed[0].reads", "REFUSED_MEMBER"),
        ("computed[0].present", "REFUSED_MEMBER"),
        ("computed[0].expression", "MISSING_MEMBER"),
    ]


def test_the_name_of_a_dataset_of_the_product_is_taken() -> None:
    assert told(customers() | {"name": "pfa"}) == [("name", "INVALID_NAME")]


# --- semantics of ingestion


def test_a_merge_key_is_an_idempotency_key() -> None:
    document = customers()
    document["ingestion"]["mergeKey"] = document["ingestion"].pop("idempotencyKey")
    assert register(document) == register(customers())
    document["ingestion"]["mergeKey"] = ["A"]
    assert told(document) == [("ingestion.mergeKey[0]", "INVALID_TYPE")]
    document["ingestion"]["mergeKey"] = ["region"]
    assert told(document) == [("ingestion.mergeKey", "INVALID_SEMANTICS")]


def test_both_words_at_once_are_refused() -> None:
    document = customers()
    document["ingestion"]["mergeKey"] = ["customerId"]
    assert told(document) == [("ingestion.mergeKey", "REFUSED_MEMBER")]


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize(
    ("semantics", "wrong"),
    [
        ({"eventTimeColumn": "receivedAt"}, []),
        ({"eventTimeColumn": "nothing"}, [("ingestion.eventTimeColumn", "UNKNOWN_FIELD")]),
        ({"eventTimeColumn": "since1"}, [("ingestion.eventTimeColumn", "INVALID_SEMANTICS")]),
        ({"processingTimeColumn": "name"}, [("ingestion.processingTimeColumn", "INVALID_SEMANTICS")]),
        ({"idempotencyKey": ["name"]}, [("ingestion.idempotencyKey", "INVALID_SEMANTICS")]),
        ({"idempotencyKey": ["customerId", "customerId"]}, [("ingestion.idempotencyKey[1]", "DUPLICATE_NAME")]),
        (
            {"idempotencyKey": ["nothing"]},
            [("ingestion.idempotencyKey[0]", "UNKNOWN_FIELD"), ("ingestion.idempotencyKey", "INVALID_SEMANTICS")],
        ),
    ],
)
def test_semantics_name_what_is_there(mode: str, semantics: Document, wrong: list[tuple[str, str]]) -> None:
    document = customers()
    document["ingestion"] |= semantics | {"mode": mode}
    if wrong:
        assert told(document) == wrong
    else:
        register(document)


def test_the_moment_of_receipt_is_no_field() -> None:
    document = customers()
    add("fields", name="receivedAt", type="datetime")(document)
    assert told(document) == [(f"fields[{len(document['fields']) - 1}].name", "INVALID_NAME")]


# --- limits


@pytest.mark.parametrize(
    ("limits", "path"),
    [
        ({"fields": 8}, "fields"),
        ({"columns": 3}, "fields"),
        ({"dimensions": 0}, "fields"),
        ({"hot": 1}, "hot"),
        ({"filters": 0}, "hot[1].filters"),
        ({"rules": 3}, "rules"),
        ({"values": 2}, "fields[2].values"),
        ({"pattern_bytes": 12}, "rules"),
        ({"expression_bytes": 21}, "rules"),
        ({"document_bytes": 1_000}, None),
        ({"others": 1}, "measures"),
    ],
    ids=str,
)
def test_a_contract_is_bounded(limits: dict[str, int], path: str | None) -> None:
    assert (path, "LIMIT_EXCEEDED") in told(customers(), **limits)


def test_a_value_of_an_enum_is_bounded_in_bytes() -> None:
    document = customers()
    field(document, "region")["values"].append("é" * 101)
    assert told(document) == [("fields[2].values[3]", "LIMIT_EXCEEDED")]


def test_ten_thousand_fields_are_told_as_one_thing() -> None:
    document = customers() | {"fields": [{"name": f"f{n}", "type": "text"} for n in range(5_000)]}
    assert told(document) == [("fields", "LIMIT_EXCEEDED")]
    document = customers() | {"fields": [{"name": f"f{n}", "type": "text"} for n in range(10_000)]}
    assert told(document) == [(None, "LIMIT_EXCEEDED")]


def test_an_index_is_as_wide_as_a_page_bears() -> None:
    names = [f"t{number}" for number in range(5)]
    document = customers()
    document["fields"] += [{"name": name, "type": "text", "indexed": True} for name in names]
    document["hot"] = [{"sort": "t0", "filters": names[1:4]}]
    register(document)
    document["hot"] = [{"sort": "t0", "filters": names[1:5]}]
    assert told(document) == [("hot[0]", "LIMIT_EXCEEDED")]


# --- hostile input

KEYWORDS = "select user order table from where null all analyse limit1 doc data m layer pfa public primary".split()
WORDS = [
    "$comment$; DROP TABLE public.dataset; --",
    "'; DROP TABLE public.dataset; --",
    "/*{order}*/x/*{}*/",
    "*/ DROP SCHEMA pfa CASCADE; /*",
    "$$; $body$; $1; %s; %(x)s; {x}",
    'a"b\\',
    "\u202e\u2028\u0085",
]


def ddl_of(contract: Contract) -> str:
    return "\n".join(
        [*dataset_ddl(contract, "pg_catalog"), *index_scripts(contract), kpi_ddl(contract), forgetting_ddl(contract)]
    )


def test_keywords_are_names_of_fields() -> None:
    """A column has a prefix, so that no word of SQL is one."""
    document = customers()
    document["fields"] += [{"name": name, "type": "text", "indexed": True} for name in KEYWORDS]
    document["hot"] = [{"sort": name} for name in KEYWORDS[:15]]
    contract = register(document)
    assert [column.field for column in contract.columns][-len(KEYWORDS) :] == KEYWORDS
    assert "ADD COLUMN IF NOT EXISTS f_select text" in ddl_of(contract)
    assert contract.column_of["doc"].of("data") == "vanguard.as_text(data, 'doc')"


@pytest.mark.parametrize("word", WORDS)
def test_words_for_people_never_come_into_a_statement(word: str) -> None:
    document = customers()
    plain = ddl_of(register(document))
    document |= {"title": word, "source": word}
    for each in document["fields"]:
        each |= {"label": word, "description": word}
    field(document, "region")["values"].append(word)
    for rule in document["rules"]:
        rule["message"] = word
    document["rules"] += [
        {"type": "allowed_values", "field": "note", "values": [word]},
        {"type": "required", "fields": ["note"], "when": "name", "equals": word, "id": "r1"},
    ]
    contract = register(document)
    assert ddl_of(contract) == plain
    written = json.dumps(word, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u0085", "\\u0085")
    document["computed"] = [{"name": "same", "type": "boolean", "expression": f"note == {written}"}]
    ddl = ddl_of(register(document))
    assert word not in ddl
    assert ddl.count("$comment$") == plain.count("$comment$") + 2
    assert register(wire_of(contract)) == contract


@pytest.mark.parametrize("word", WORDS)
def test_a_text_in_an_expression_stands_in_sql_by_its_numbers(word: str) -> None:
    written = json.dumps(word, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u0085", "\\u0085")
    sql = parse(f"note == {written}", {"note": "text"}).sql(lambda name: f"f_{name}")
    literal = sql[sql.index("E'") + 2 : sql.rindex("'")]
    assert all(character.isalnum() or character in " \\" for character in literal)


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a'b",
        'a"b',
        "a;b",
        "a$b",
        "a--b",
        "a.b",
        "a\n",
        "a_b",
        "é",
        "aé",
        "A",
        "1a",
        "",
        "a" * 41,
        "\uff41",
        "a\u0301",
    ],
)
@pytest.mark.parametrize("member", ["name", "derivedFrom", "format"])
def test_a_name_is_letters_and_digits(member: str, name: str) -> None:
    document = customers()
    document["fields"][8][member] = [name] if member == "derivedFrom" else name
    path = f"fields[8].{member}" + ("[0]" if member == "derivedFrom" else "")
    assert told(document) == [(path, "INVALID_TYPE")]


def test_names_that_collide_are_told_at_both_places() -> None:
    document = customers()
    add("fields", name="region", type="text")(document)
    assert told(document)[:2] == [("fields[2].name", "DUPLICATE_NAME"), ("fields[9].name", "DUPLICATE_NAME")]


def test_indexes_that_collide_are_told_at_both_sorts() -> None:
    """mirror_a_b is the index of a sort by b among a, and of one by aB."""
    document = customers()
    document["fields"] += [{"name": name, "type": "integer", "indexed": True} for name in ("a", "b", "aB", "pkey")]
    document["hot"] = [{"sort": "aB"}, {"sort": "b", "filters": ["a"]}]
    assert [each for each in told(document) if each[0] != "hot"] == [
        ("hot[0]", "DUPLICATE_NAME"),
        ("hot[1]", "DUPLICATE_NAME"),
    ]
    document["hot"] = [{"sort": "pkey"}]
    assert told(document) == [("hot[0]", "DUPLICATE_NAME")]


def test_the_name_of_an_index_is_not_cut_off() -> None:
    document = customers()
    document["fields"] += [{"name": "x" * 39 + end, "type": "integer", "indexed": True} for end in "ab"]
    document["hot"] = [{"sort": "x" * 39 + "a", "filters": ["x" * 39 + "b"]}]
    assert ("hot[0]", "INVALID_NAME") in told(document)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a+)+$", None),  # catastrophic elsewhere, but not for an automaton
        ("(a|a)*b", None),
        (r"(?:\pL1){1000}", "pattern too large"),
        ("(?:(?:a{99}){99}){99}", "invalid repetition size"),
        (r"(a)\1", "invalid escape sequence"),
        ("(?=a)", "invalid perl operator"),
        ("a" * 1025, "more than 1024 bytes"),
        ("(" * 1000 + ")" * 1000, "more than 1024 bytes"),
    ],
)
def test_a_pattern_is_bounded_by_re2(pattern: str, reason: str | None) -> None:
    document = customers()
    document["rules"] = [{"type": "regex", "field": "name", "pattern": pattern}]
    if reason is None:
        register(document)
    else:
        assert reason in message_of(document)
        assert told(document) == [("rules[0]", "INVALID_RULE")]


@pytest.mark.parametrize("pattern", [r"(?:\pL{}){{300}}", r"(?:\pL{}){{1000}}"])
def test_patterns_are_bounded_together(pattern: str) -> None:
    """One of them is a large one, a hundred would take ten seconds and half a gigabyte."""
    document = customers()
    document["fields"][1]["maxLength"] = 50
    document["rules"] = [
        {"type": "regex", "field": "name", "id": f"r{number}", "pattern": pattern.format(number)}
        for number in range(100)
    ]
    paths = told(document)
    assert [code for _, code in paths] == ["LIMIT_EXCEEDED"]
    assert paths[0][0] in ("rules[1].pattern", "rules[4].pattern")


def test_depth_is_bounded_before_anybody_walks_into_it() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert [code for _, code in told(customers() | {"source": deep})] == ["INVALID_CONTRACT"]
    with pytest.raises(MalformedRequest, match="nested too deeply"):
        exact_json.read(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", dict[str, Any])


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "b\udfff"])
@pytest.mark.parametrize("path", ["title", "fields[1].description", "fields[2].values[0]"])
def test_what_no_column_can_hold_is_told(path: str, text: str) -> None:
    document = customers()
    match path:
        case "title":
            document["title"] = text
        case "fields[1].description":
            document["fields"][1]["description"] = text
        case _:
            document["fields"][2]["values"][0] = text
    assert told(document) == [(path, "INVALID_CONTRACT")]


@pytest.mark.parametrize("number", ["1e999", "-1e400", "1e-999", "9" * 400, "0.000000000000000000001"])
def test_a_number_beyond_all_bounds_is_told(number: str) -> None:
    document = customers()
    document["rules"][1]["max"] = exact_json.decode(number)
    assert told(document) == [("rules[1].max", "INVALID_CONTRACT")]


def test_a_member_comes_once() -> None:
    """That is refused with the body, before it is a document."""
    text = CUSTOMERS.read_bytes().replace(b'"key":', b'"title": "Another", "key":')
    with pytest.raises(MalformedRequest, match="The member 'title' comes twice"):
        exact_json.read(text, dict[str, Any])


def test_the_code_of_a_rule_is_a_code() -> None:
    document = customers()
    document["rules"][0]["code"] = "not a code\n"
    document["rules"][1]["code"] = "MY_CODE"
    assert told(document) == [("rules[0].code", "INVALID_RULE")]


def test_an_id_that_is_made_of_names_can_be_said_again() -> None:
    document = customers()
    names = [f"field{'x' * 30}{number}" for number in range(6)]
    document["fields"] += [{"name": name, "type": "text"} for name in names]
    document["rules"].append({"type": "required", "fields": names})
    assert told(document) == [("rules[4].id", "INVALID_RULE")]
    document["rules"][4]["id"] = "names"
    assert register(wire_of(register(document))) == register(document)
