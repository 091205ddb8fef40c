"""Comparison: what is different between two versions of a contract, how bad it is, and which version may say so."""

import copy
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts import PFA, Contract
from app.contracts.comparison import Comparison, Compatibility, Kind, compare, may_apply
from app.contracts.registration import read_registration, wire_of
from tests.support.world import FLEET
from tests.test_registration import Document, customers, field

Edit = Callable[[Document], Any]


def contract(*edits: Edit) -> Contract:
    document = wire_of(read_registration(customers(), schema="d_1"))
    for edit in edits:
        edit(document)
    return read_registration(document, schema="d_1")


def differences(*edits: Edit) -> Comparison:
    return compare(contract(), contract(*edits))


def told(comparison: Comparison) -> list[tuple[str, str, str]]:
    return [(change.kind.value, change.path, change.severity.value) for change in comparison.changes]


def of(named: str, /, **members: Any) -> Edit:
    """A field's members are set, or left out by None."""

    def edit(document: Document) -> None:
        found = field(document, named)
        for member, value in members.items():
            found.pop(member, None)
            if value is not None:
                found[member] = value

    return edit


def whole(**members: Any) -> Edit:
    return lambda document: document.update(members)


def semantics(**members: Any) -> Edit:
    return lambda document: document["ingestion"].update(members)


def add(member: str, **part: Any) -> Edit:
    return lambda document: document.setdefault(member, []).append(part)


def drop(member: str, place: int) -> Edit:
    return lambda document: document[member].pop(place)


def add_required(document: Document) -> None:
    add("fields", name="tier", id=10, type="text")(document)
    add("rules", type="not_null", field="tier")(document)


# What is changed -> (how, what is told).
CASES: dict[str, tuple[Edit, list[tuple[str, str, str]]]] = {
    "a nullable field more": (
        add("fields", name="tier", id=10, type="text"),
        [("ADD", "fields[9]", "COMPATIBLE")],
    ),
    "a required field more": (
        add_required,
        [("ADD", "fields[9]", "WARNING"), ("ADD", "rules[4]", "COMPATIBLE")],
    ),
    "a field less": (drop("fields", 8), [("REMOVE", "fields[8]", "BREAKING")]),
    "a field dropped and added again": (
        of("note", id=11),
        [("ADD", "fields[8]", "COMPATIBLE"), ("REMOVE", "fields[8]", "BREAKING")],
    ),
    "another name": (of("note", name="remark"), [("RENAME", "fields[8].name", "BREAKING")]),
    "an integer that is a number": (of("orders", type="number"), [("TYPE_CHANGE", "fields[4].type", "COMPATIBLE")]),
    "a number that is an integer": (
        lambda d: (of("revenue", type="integer", scale=None)(d), d["rules"][1].update(max=10**6)),
        [
            ("TYPE_CHANGE", "fields[3].type", "WARNING"),
            ("LIMIT_CHANGE", "fields[3].scale", "COMPATIBLE"),
            ("CHANGE", "rules[1]", "COMPATIBLE"),
        ],
    ),
    "a date that is a moment": (of("since1", type="datetime"), [("TYPE_CHANGE", "fields[6].type", "BREAKING")]),
    "an enum that is a text": (
        of("region", type="text", values=None),
        [("TYPE_CHANGE", "fields[2].type", "BREAKING")],
    ),
    "a value more": (
        of("region", values=["EMEA", "AMER", "APAC", "X"]),
        [("VALUES_CHANGE", "fields[2].values", "COMPATIBLE")],
    ),
    "a value less": (of("region", values=["EMEA", "AMER"]), [("VALUES_CHANGE", "fields[2].values", "WARNING")]),
    "a value for another": (
        of("region", values=["EMEA", "AMER", "X"]),
        [("VALUES_CHANGE", "fields[2].values", "WARNING")],
    ),
    "values in another order": (
        of("region", values=["APAC", "AMER", "EMEA"]),
        [("VALUES_CHANGE", "fields[2].values", "COMPATIBLE")],
    ),
    "a longer text": (of("name", maxLength=201), [("LIMIT_CHANGE", "fields[1].maxLength", "COMPATIBLE")]),
    "a shorter text": (of("name", maxLength=199), [("LIMIT_CHANGE", "fields[1].maxLength", "WARNING")]),
    "a lower minimum": (of("orders", minimum=-1), [("LIMIT_CHANGE", "fields[4].minimum", "COMPATIBLE")]),
    "no minimum": (of("orders", minimum=None), [("LIMIT_CHANGE", "fields[4].minimum", "COMPATIBLE")]),
    "a higher minimum": (of("orders", minimum=1), [("LIMIT_CHANGE", "fields[4].minimum", "WARNING")]),
    "a maximum": (of("orders", maximum=9), [("LIMIT_CHANGE", "fields[4].maximum", "WARNING")]),
    "digits more": (of("revenue", scale=3), [("LIMIT_CHANGE", "fields[3].scale", "COMPATIBLE")]),
    "any number of digits": (of("revenue", scale=None), [("LIMIT_CHANGE", "fields[3].scale", "COMPATIBLE")]),
    "digits less": (of("revenue", scale=0), [("LIMIT_CHANGE", "fields[3].scale", "WARNING")]),
    "a label": (of("name", label="Name"), [("CHANGE", "fields[1].label", "COMPATIBLE")]),
    "an index": (of("since1", indexed=True), [("CHANGE", "fields[6].indexed", "COMPATIBLE")]),
    "another key": (
        lambda d: (whole(key="note")(d), of("note", editable=False)(d), semantics(idempotencyKey=["note"])(d)),
        [
            ("KEY_CHANGE", "key", "BREAKING"),
            ("CHANGE", "fields[8].editable", "COMPATIBLE"),
            ("INGESTION_CHANGE", "ingestion.idempotencyKey", "BREAKING"),
        ],
    ),
    "another mode": (semantics(mode="append"), [("INGESTION_CHANGE", "ingestion.mode", "BREAKING")]),
    "another event time": (
        semantics(eventTimeColumn="receivedAt"),
        [("INGESTION_CHANGE", "ingestion.eventTimeColumn", "BREAKING")],
    ),
    "another window": (semantics(dedupeWindow="1d"), [("INGESTION_CHANGE", "ingestion.dedupeWindow", "COMPATIBLE")]),
    "a rule more": (
        add("rules", type="not_null", field="note"),
        [("ADD", "rules[4]", "COMPATIBLE")],
    ),
    "a rule less": (drop("rules", 0), [("REMOVE", "rules[0]", "COMPATIBLE")]),
    "a rule changed": (
        lambda d: d["rules"][1].update(max=Decimal("2.5")),
        [("CHANGE", "rules[1]", "COMPATIBLE")],
    ),
    "a hot sort more": (add("hot", sort="orders"), [("ADD", "hot[2]", "COMPATIBLE")]),
    "hot sorts in another order": (lambda d: d["hot"].reverse(), []),
    "a measure less": (
        lambda d: (drop("measures", 0)(d), drop("derived", 0)(d)),
        [("REMOVE", "measures[0]", "COMPATIBLE"), ("REMOVE", "derived[0]", "COMPATIBLE")],
    ),
    "a title and where it comes from": (
        whole(title="T", source="S"),
        [("CHANGE", "title", "COMPATIBLE"), ("CHANGE", "source", "COMPATIBLE")],
    ),
    "no more edits": (whole(readOnly=True), [("CHANGE", "readOnly", "BREAKING")]),
    "another dataset": (whole(name="clients"), [("CHANGE", "name", "BREAKING")]),
    "another version": (whole(version="7.1"), []),
}


@pytest.mark.parametrize("what", CASES)
def test_what_is_reported_is_what_was_changed(what: str) -> None:
    edit, expected = CASES[what]
    comparison = differences(edit)
    assert told(comparison) == expected
    worst = max((severity for _, _, severity in expected), key=[*Compatibility].index, default="COMPATIBLE")
    assert comparison.severity == worst


@pytest.mark.parametrize("each", [PFA, FLEET, contract()], ids=lambda each: each.name)
def test_nothing_differs_from_itself(each: Contract) -> None:
    assert compare(each, each).changes == ()
    assert compare(each, each).severity is Compatibility.COMPATIBLE


def test_an_address_is_no_name() -> None:
    assert compare(msgspec.structs.replace(FLEET, name="fleet@2"), FLEET).changes == ()


def test_a_renamed_field_is_one_change_wherever_it_is_named() -> None:
    def rename(document: Document) -> None:
        names = {"revenue": "turnover", "orders": "purchases", "customerId": "number", "eventTime": "at"}
        for old, new in names.items():
            of(old, name=new)(document)
        document["key"] = "number"
        document["hot"] = [
            {"sort": "turnover", "descending": True},
            {"sort": "turnover", "filters": ["region"]},
        ]
        document["rules"][1] |= {"field": "turnover", "id": "range:turnover"}
        document["rules"][3] |= {"expression": "!active || purchases >= 0", "id": "expression:active,purchases"}
        document["measures"][0]["of"] = "turnover"
        document["measures"][1]["of"] = "purchases"
        document["ingestion"] |= {"idempotencyKey": ["number"], "eventTimeColumn": "at"}

    assert told(differences(rename)) == [("RENAME", f"fields[{place}].name", "BREAKING") for place in (0, 3, 4, 7)]


def test_names_that_are_exchanged_are_two_renames() -> None:
    swapped = differences(of("name", name="x"), of("note", name="name"), of("x", name="note"), move_name_rules)
    assert told(swapped) == [
        ("RENAME", "fields[1].name", "BREAKING"),
        ("RENAME", "fields[8].name", "BREAKING"),
    ]


def move_name_rules(document: Document) -> None:
    for rule in document["rules"]:
        if rule["type"] in ("required", "regex"):
            rule["id"] = rule["id"].replace("name", "note")
            rule |= {"fields": ["note"]} if rule["type"] == "required" else {"field": "note"}


def test_a_name_without_an_id_is_not_a_field_that_was_renamed() -> None:
    comparison = differences(of("note", name="remark"), add("fields", name="note", type="text"))
    assert told(comparison) == [("RENAME", "fields[8].name", "BREAKING"), ("ADD", "fields[9]", "COMPATIBLE")]


def test_without_ids_fields_are_known_by_their_names() -> None:
    fields = tuple(each for each in FLEET.fields if each.name != "lastDay")
    comparison = compare(FLEET, msgspec.structs.replace(FLEET, fields=fields, atomic_groups=(), rules=()))
    assert [change.path for change in comparison.changes if change.kind is Kind.REMOVE] == [
        "fields[11]", "rules[0]", "rules[1]", "rules[2]", "rules[3]", "atomicGroups[0]",
    ]  # fmt: skip


def test_a_change_says_what_it_is_about() -> None:
    change = differences(of("region", values=["EMEA"])).changes[0]
    assert (change.field_id, change.old, change.new) == (3, ["EMEA", "AMER", "APAC"], ["EMEA"])
    assert change.words == (
        'Values of before may not be ones any more. It was ["EMEA","AMER","APAC"] and is ["EMEA"]. '
        "Declare a new major version, or mend the rows that do not fit."
    )
    added = differences(add("fields", name="tier", id=10, type="text")).changes[0]
    assert (added.old, added.new) == (None, {"name": "tier", "type": "text", "id": 10})


# --- directions


@pytest.mark.parametrize(
    ("edit", "backward", "forward"),
    [
        (whole(title="T"), True, True),
        (add("fields", name="tier", id=10, type="text"), True, True),
        (add_required, False, True),
        (drop("fields", 8), True, False),
        (of("orders", type="number"), True, False),
        (of("region", values=["EMEA"]), False, True),
        (of("region", values=["X", "EMEA"]), False, False),
        (of("note", name="remark"), False, False),
    ],
)
def test_directions_are_told(edit: Edit, backward: bool, forward: bool) -> None:
    comparison = differences(edit)
    assert (comparison.backward, comparison.forward) == (backward, forward)


# --- versions


@pytest.mark.parametrize(
    ("declared", "codes"),
    [
        ("1.1", []), ("2.0", []),
        *((declared, ["INVALID_VERSION"]) for declared in ("1.0", "1.2", "0.9", "2.1", "3.0", "11.0", "1.10")),
    ],
)  # fmt: skip
def test_a_version_goes_up_by_one(declared: str, codes: list[str]) -> None:
    assert [problem.code for problem in may_apply(differences(whole(title="T")), declared)] == codes


def test_a_minor_version_takes_what_is_compatible() -> None:
    comparison = differences(of("note", name="remark"), of("region", values=["EMEA"]), whole(title="T"))
    assert [(problem.path, problem.code) for problem in may_apply(comparison, "1.1")] == [
        ("fields[2].values", "INCOMPATIBLE_CHANGE"),
        ("fields[8].name", "INCOMPATIBLE_CHANGE"),
    ]
    assert may_apply(comparison, "2.0") == []
    assert '"note" and is "remark". Change its label instead' in may_apply(comparison, "1.1")[1].message


def test_what_is_narrowed_passes_where_no_row_violates_it() -> None:
    comparison = differences(of("region", values=["EMEA"]), of("name", maxLength=5))
    assert [change.path for change in comparison.narrowed] == ["fields[1].maxLength", "fields[2].values"]
    assert len(may_apply(comparison, "1.1")) == 2
    assert may_apply(comparison, "1.1", fits=True) == []


# --- any contract, any edits

LOOSE: dict[str, Document] = {
    "text": {"maxLength": 300},
    "enum": {"values": ["a", "b"]},
    "integer": {"minimum": 0, "maximum": 10},
    "number": {"minimum": 0},
    "boolean": {},
    "date": {},
    "datetime": {},
}
# By type of the field: what is set, and what that is.
EDITS: dict[str, list[tuple[Document, str, str, str]]] = {
    "text": [
        ({"maxLength": 400}, "LIMIT_CHANGE", ".maxLength", "COMPATIBLE"),
        ({"maxLength": 200}, "LIMIT_CHANGE", ".maxLength", "WARNING"),
        ({"type": "date"}, "TYPE_CHANGE", ".type", "BREAKING"),
    ],
    "enum": [
        ({"values": ["a", "b", "c"]}, "VALUES_CHANGE", ".values", "COMPATIBLE"),
        ({"values": ["b"]}, "VALUES_CHANGE", ".values", "WARNING"),
    ],
    "integer": [
        ({"type": "number"}, "TYPE_CHANGE", ".type", "COMPATIBLE"),
        ({"maximum": 9}, "LIMIT_CHANGE", ".maximum", "WARNING"),
    ],
    "number": [
        ({"type": "integer"}, "TYPE_CHANGE", ".type", "WARNING"),
        ({"scale": 1}, "LIMIT_CHANGE", ".scale", "WARNING"),
    ],
    "boolean": [({"type": "text"}, "TYPE_CHANGE", ".type", "BREAKING")],
    "date": [({"type": "datetime"}, "TYPE_CHANGE", ".type", "BREAKING")],
    "datetime": [({"type": "date"}, "TYPE_CHANGE", ".type", "BREAKING")],
}
ANY: list[tuple[Document | None, str, str, str]] = [
    ({"label": "L"}, "CHANGE", ".label", "COMPATIBLE"),
    ({"editable": False}, "CHANGE", ".editable", "COMPATIBLE"),
    ({"name": "otherwise{}"}, "RENAME", ".name", "BREAKING"),
    (None, "REMOVE", "", "BREAKING"),
    ({}, "", "", ""),
]


@settings(deadline=None, derandomize=True)
@given(types=st.lists(st.sampled_from(sorted(LOOSE)), max_size=12), data=st.data())
def test_any_edits_are_told_and_nothing_else(types: list[str], data: st.DataObject) -> None:
    before = wire_of(contract())
    first = len(before["fields"])
    before["fields"] += [
        {"name": f"any{place}", "id": place + first + 1, "type": kind} | LOOSE[kind] for place, kind in enumerate(types)
    ]
    after = copy.deepcopy(before)
    expected: list[tuple[str, str, str]] = []
    kept: list[Document] = []
    for place, (kind, edited) in enumerate(zip(types, after["fields"][first:], strict=True), first):
        edits: list[tuple[Document | None, str, str, str]] = [*EDITS[kind], *ANY]
        change, what, member, severity = data.draw(st.sampled_from(edits))
        if change is None:
            expected.append((what, f"fields[{place}]", severity))
            continue
        kept.append(edited | {name: value.format(place) if name == "name" else value for name, value in change.items()})
        if what:
            expected.append((what, f"fields[{first + len(kept) - 1}]{member}", severity))
    after["fields"][first:] = kept
    comparison = compare(read_registration(before, schema="d_1"), read_registration(after, schema="d_2"))
    assert sorted(told(comparison)) == sorted(expected)
    back = compare(read_registration(after, schema="d_2"), read_registration(before, schema="d_1"))
    assert len(back.changes) == len(expected)
    assert (back.backward, back.forward) == (comparison.forward, comparison.backward) or any(
        what in ("REMOVE", "ADD") for what, _, _ in expected
    )
