"""The Open Data Contract Standard: a contract goes there and comes back as it was; what is foreign is noted.

The examples are the standard's own, under the license beside them.
"""

import hashlib
from collections.abc import Callable
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.base import exact_json
from app.base.errors import ValidationFailed
from app.contracts import PFA, Contract
from app.contracts.odcs import Note, from_odcs, to_odcs
from app.contracts.odcs.text import read_yaml, write_yaml
from app.contracts.registration import read_registration, wire_of
from app.contracts.states import DatasetState
from tests.support.world import FLEET
from tests.test_registration import Document, customers, register

EXAMPLES = Path(__file__).parent / "support" / "odcs"
# That of the package open-data-contract-standard 3.2.0, so that nobody changes it by hand.
SCHEMA_DIGEST = "4b530540c9182db45ad879867d9c83a92feefc7c2d911b4b56338b0328070d7c"
SEMANTICS = {
    "mode": "upsert",
    "eventTimeColumn": "receivedAt",
    "processingTimeColumn": "receivedAt",
    "dedupeWindow": "24h",
    "conflictResolution": "latest_wins",
}


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.odcs.yaml").read_text(encoding="utf-8")


def noted(notes: list[Note], path: str) -> list[str]:
    return [note.message for note in notes if note.path == path]


def document(*properties: Document, **more: Any) -> str:
    """A small document of the standard."""
    schema = [
        {"name": "shop", "properties": [{"name": "sku", "logicalType": "string", "primaryKey": True}, *properties]}
    ]
    head = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "version": "1.0", "schema": schema}
    return yaml.safe_dump(head | more, sort_keys=False)


def refused(text: str, name: str | None = None) -> list[tuple[str | None, str]]:
    with pytest.raises(ValidationFailed) as refusal:
        from_odcs(text, name)
    return [(culprit.parameter, culprit.code) for culprit in refusal.value.errors]


# --- there and back


@pytest.mark.parametrize("contract", [PFA, FLEET, register(customers())], ids=lambda contract: contract.name)
def test_a_contract_comes_back_as_it_was(contract: Contract) -> None:
    found, notes = from_odcs(to_odcs(contract, DatasetState.SHADOW))
    assert found == wire_of(contract)
    assert contract.ingestion is None or notes == []


def test_the_address_of_a_version_is_no_name() -> None:
    contract = register(customers())
    addressed = msgspec.structs.replace(contract, name="customers@2")
    assert to_odcs(addressed, DatasetState.SHADOW) == to_odcs(contract, DatasetState.SHADOW)


def test_what_comes_back_registers_as_an_equal_contract() -> None:
    contract = register(customers())
    assert register(from_odcs(to_odcs(contract, DatasetState.ACTIVE))[0]) == contract


@pytest.mark.parametrize("contract", [PFA, FLEET, register(customers())], ids=lambda contract: contract.name)
def test_what_is_written_is_of_the_standard_for_everybody(contract: Contract) -> None:
    schema = exact_json.decode(files("app.contracts.odcs").joinpath("schema.json").read_bytes())
    jsonschema_rs.validator_for(schema).validate(yaml.safe_load(to_odcs(contract, DatasetState.DEPRECATED)))


def test_the_schema_is_the_standards_own() -> None:
    content = files("app.contracts.odcs").joinpath("schema.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SCHEMA_DIGEST


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (DatasetState.SHADOW, "draft"),
        (DatasetState.ACTIVE, "active"),
        (DatasetState.READ_ONLY, "active"),
        (DatasetState.DEPRECATED, "deprecated"),
        (None, None),
    ],
)
def test_states_have_words_of_the_standard(state: DatasetState | None, status: str | None) -> None:
    assert yaml.safe_load(to_odcs(FLEET, state)).get("status") == status


def test_the_standards_words_are_used_where_it_has_some() -> None:
    found = yaml.safe_load(to_odcs(register(customers()), DatasetState.SHADOW))
    properties = {each["name"]: each for each in found["schema"][0]["properties"]}
    assert properties["customerId"]["primaryKeyPosition"] == 1
    assert properties["name"]["required"] is True
    assert properties["name"]["logicalTypeOptions"] == {"maxLength": 200}
    assert properties["region"]["enum"] == [{"value": value} for value in ("EMEA", "AMER", "APAC")]
    assert properties["eventTime"]["logicalType"] == "timestamp"
    assert {"property": "scale", "value": 2, "vendor": "vanguard"} in properties["revenue"]["customProperties"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    [*"yes no on off null ~ true 1 1.0 1e3 0x1F 012 1:30 2024-01-01 .inf .nan = << - ? : # & * ! | >".split(), "", " "]
)


@settings(deadline=None, derandomize=True)
@given(
    st.recursive(
        TEXTS
        | st.booleans()
        | st.none()
        | st.integers(-(10**29), 10**29)
        | st.decimals(-1000, 1000, places=3).filter(lambda number: number.is_finite()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=12,
    )
)
def test_yaml_holds_what_json_holds(value: Any) -> None:
    assert read_yaml(write_yaml(value)) == value


@settings(deadline=None, derandomize=True)
@given(
    title=TEXTS,
    label=TEXTS,
    words=st.lists(TEXTS, min_size=1, max_size=4, unique=True),
    most=st.decimals(0, 9, places=2),
)
def test_any_words_come_back(title: str, label: str, words: list[str], most: Decimal) -> None:
    given_contract = customers() | {"title": title, "source": label}
    given_contract["fields"][8] |= {"label": label, "description": title}
    given_contract["fields"][2]["values"] = words
    given_contract["rules"][1]["max"] = most
    contract = register(given_contract)
    assert register(from_odcs(to_odcs(contract, DatasetState.SHADOW))[0]) == contract


# --- documents of others


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name.partition(".")[0])
def test_the_standards_examples_are_read(path: Path) -> None:
    """Those without a schema are about no object; of the others each object is read, or its absence noted."""
    text = path.read_text(encoding="utf-8")
    objects = read_yaml(text).get("schema") or []
    if not objects:
        assert refused(text) == [("schema", "INVALID_CONTRACT")]
    for each in objects:
        found, notes = from_odcs(text, each["name"])
        assert len(found["fields"]) <= len(each.get("properties", []))
        assert noted(notes, "customProperties"), "semantics are nowhere in the standard"
        names = [field["name"] for field in found["fields"]]
        assert len(set(names)) == len(names)


def test_an_example_registers_with_semantics_of_ours() -> None:
    semantics = SEMANTICS | {"idempotencyKey": ["rcvrId"]}
    foreign = read_yaml(example("full-example"))
    foreign["customProperties"].append({"property": "ingestion", "value": semantics, "vendor": "vanguard"})
    found, notes = from_odcs(write_yaml(foreign), "tbl")
    contract = read_registration(found, schema="d_1")
    assert (contract.name, contract.version, contract.key) == ("tbl", "1.1", "rcvrId")
    assert [(field.name, field.type, field.label) for field in contract.fields] == [
        ("transactionReferenceDate", "date", "transaction reference date"),
        ("rcvrId", "text", "receiver id"),
        ("rcvrCntryCode", "text", "receiver country code"),
    ]
    assert [rule.id for rule in contract.rules] == ["not_null:rcvrCntryCode"]
    assert noted(notes, "customProperties")[0].startswith("Words of others are left out: refRulesetName")
    assert "servers" in noted(notes, "")[0]


def test_without_semantics_nothing_registers() -> None:
    found, _ = from_odcs(example("all-schema-types"), "tbl")
    with pytest.raises(ValidationFailed) as refusal:
        read_registration(found, schema="d_1")
    assert [each.parameter for each in refusal.value.errors] == [
        f"ingestion.{member}"
        for member in """mode idempotencyKey eventTimeColumn processingTimeColumn dedupeWindow
        conflictResolution""".split()
    ]


def test_types_are_mapped_or_noted() -> None:
    found, notes = from_odcs(example("all-data-types"))
    assert {field["name"]: field["type"] for field in found["fields"]} == {
        "accountId": "text", "txnRefDate": "date", "txnTimestamp": "datetime", "txnTimestampTz": "datetime",
        "txnTime": "text", "amount": "number", "age": "integer", "isOpen": "boolean",
    }  # fmt: skip
    assert noted(notes, "schema[0].properties[8]")[-1] == "There is no type array here; the property is left out."
    assert found["fields"][6]["minimum"] == 18
    assert noted(notes, "schema[0].properties[6].logicalTypeOptions") == [
        "Here is nothing for these, which are left out: exclusiveMaximum, format."
    ]
    assert {"type": "regex", "field": "accountId", "pattern": "ACC[0-9]{8}"} in found["rules"]
    assert {"type": "range", "field": "txnRefDate", "max": "2021-01-01"} in found["rules"]
    assert noted(notes, "schema[0].properties[1].logicalTypeOptions") == [
        "Here is nothing for these, which are left out: exclusiveMinimum, format."
    ]


@pytest.mark.parametrize(
    ("prop", "expected"),
    [
        ({"required": True}, [{"type": "not_null", "field": "x"}]),
        ({"quality": [{"metric": "nullValues", "mustBe": 0}]}, [{"type": "not_null", "field": "x"}]),
        ({"unique": True}, [{"type": "unique", "field": "x"}]),
        (
            {"logicalType": "number", "logicalTypeOptions": {"minimum": 0.5}},
            [{"type": "range", "field": "x", "min": Decimal("0.5")}],
        ),
        (
            {"logicalType": "date", "logicalTypeOptions": {"maximum": "2026-01-31"}},
            [{"type": "range", "field": "x", "max": "2026-01-31"}],
        ),
        ({"logicalType": "date", "logicalTypeOptions": {"maximum": "31.1.2026"}}, None),
        ({"quality": [{"metric": "rowCount", "mustBeGreaterThan": 1}]}, None),
    ],
)  # fmt: skip
def test_what_a_property_demands_is_a_rule_or_noted(prop: Document, expected: list[Document] | None) -> None:
    found, notes = from_odcs(document({"name": "x", "logicalType": "string"} | prop))
    assert found.get("rules") == expected
    if expected is None:
        assert any(note.path.startswith("schema[0].properties[1].") for note in notes)


def test_a_composite_key_is_in_its_order() -> None:
    found, _ = from_odcs(example("full-example"), "receivers")
    assert found["key"] == ["receiversId", "countryCode"]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("rcvr_cntry_code", "rcvrCntryCode"), ("UniqueID", "uniqueId"), ("ID", "shopId"), ("id", "shopId"),
        ("Größe", "grE"), ("2nd", "f2nd"), ("-", "field"), ("a" * 50, "a" * 40), ("HTTPServer", "httpServer"),
    ],
)  # fmt: skip
def test_names_of_others_become_names_of_ours(name: str, made: str) -> None:
    found, notes = from_odcs(document({"name": name, "logicalType": "string"}))
    assert found["fields"][1]["name"] == made
    assert found["fields"][1]["label"] == name
    assert noted(notes, "schema[0].properties[1].name")


def test_a_retired_contract_begins_anew() -> None:
    _, notes = from_odcs(document(status="retired"))
    assert noted(notes, "status") == ["retired: a registered contract begins in SHADOW, whatever it was elsewhere."]


def test_one_of_several_objects_is_named() -> None:
    assert refused(example("full-example")) == [("schema", "INVALID_CONTRACT")]
    assert refused(example("full-example"), "nothing") == [("schema", "INVALID_CONTRACT")]


# --- what is no document


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        ("[]", ""),
        ("kind: DataContract\nid: x\nversion: '1'", ""),
        (document(kind="Else"), "kind"),
        (document({"name": "x", "colour": "red"}), "schema[0].properties[1]"),
        (document({"name": "x", "logicalType": "money"}), "schema[0].properties[1].logicalType"),
        (document(version=1), "version"),
        (document().replace("v3.1.0", "v2.2.2"), "apiVersion"),
        (document().replace("v3.1.0", "v4.0.0"), "apiVersion"),
    ],
)
def test_what_is_not_of_the_standard_is_told_at_its_path(text: str, path: str) -> None:
    assert (path or None, "INVALID_CONTRACT") in refused(text)


def laughs(depth: int = 40) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join(lines)


HOSTILE: dict[str, str | Callable[[], str]] = {
    "no YAML": "a: [",
    "a tag of Python": "!!python/object/apply:os.system ['true']",
    "a tag of its own": "!thing {}",
    "a member twice": "a: 1\na: 2",
    "a member that is no text": "1: a",
    "a list as a member": "? [a]\n: b",
    "an alias of nothing": "a: *b",
    "an alias in itself": "a: &a [*a]",
    "a billion laughs": laughs,
    "a quadratic blow-up": lambda: f"a: &a [{'x, ' * 1_000}x]\nb: [{'*a, ' * 1_000}*a]",
    "depth": lambda: "[" * 100_000,
    "depth of blocks": lambda: "\n".join("  " * n + "a:" for n in range(300)),
    "length": lambda: "a: " + "x" * 600_000,
    "many values": lambda: "[" + "x," * 60_000 + "x]",
    "a number of many digits": lambda: "a: " + "9" * 100_000,
    "a number beyond bounds": "a: 1e999999999999999999999",
    "a merge": "a: &a {x: 1}\nb: {<<: *a}",
    "half of a surrogate pair": "a: \ud800",
    "NUL": "a: \0",
    "two documents": "a: 1\n---\nb: 2",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_yaml_is_refused_at_once(what: str) -> None:
    text = HOSTILE[what]
    with pytest.raises(ValidationFailed):
        from_odcs(text if isinstance(text, str) else text())


def test_aliases_are_as_large_as_what_they_stand_for() -> None:
    assert read_yaml("a: &a [1, 2]\nb: *a\nc: *a") == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}


def test_scalars_are_those_of_json() -> None:
    assert read_yaml("[yes, no, on, 012, 1:30, 2024-01-01, 1_000, 0x10, .nan, 1.50, -7, true, ~]") == [
        "yes", "no", "on", 12, "1:30", "2024-01-01", "1_000", "0x10", ".nan", Decimal("1.50"), -7, True, None,
    ]  # fmt: skip
