"""The confidence of a join: the formula of docs/joins.md by numbers computed by hand, and what it is made of."""

from typing import Any

import msgspec
import pytest

from app.contracts import Contract, stored_contract
from app.joins.confidence import Evidence, confidence_of, interval, markdowns, risk_of
from app.joins.names import is_reference, likeness
from app.joins.texts import found_in, text_of
from tests.support.joining import contract_text, table

SURE = Evidence(found=2353, looked=2353, names=1.0, declared=True, repeated=False, same_type=True, different=2353)


def evidence(**more: Any) -> Evidence:
    return msgspec.structs.replace(SURE, **more)


# -- the formula -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "looked", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),  # 1.96² / (10 + 1.96²)
        (10, 10, 0.7225, 1.0),  # 10 / (10 + 1.96²)
        (50, 100, 0.4038, 0.5962),
        (47, 50, 0.8378, 0.9794),
        (2353, 2353, 0.9984, 1.0),
    ],
)
def test_wilsons_interval(found: int, looked: int, low: float, high: float) -> None:
    assert interval(found, looked) == (low, high)


@pytest.mark.parametrize(
    ("more", "confidence"),
    [
        ({}, 0.9984),
        # 0.8378 * (0.55 + 0.05 + 0.15 + 0.10) * 0.5: the example of the document
        ({"found": 47, "looked": 50, "different": 50, "names": 0.25, "sequential": True}, 0.3561),
        ({"names": 0.0}, 0.7987),  # 0.9984 * 0.80
        ({"declared": False}, 0.9385),  # 0.9984 * (0.85 + 0.15 * 0.6)
        ({"same_type": False}, 0.9485),  # 0.9984 * 0.95
        ({"repeated": True}, 0.4243),  # 0.9984 * 0.85 * 0.5
        ({"different": 1}, 0.2995),  # 0.9984 * 0.3
        ({"different": 2}, 0.599),  # 0.9984 * 0.6
        ({"found": 0}, 0.0),
        ({"sequential": True}, 0.9984),  # the names are alike
        ({"sequential": True, "names": 0.4}, 0.4393),  # 0.9984 * 0.88 * 0.5
        ({"sequential": True, "names": 0.4, "own_reference": True}, 0.7029),  # 0.9984 * 0.88 * 0.8
    ],
)
def test_the_confidence_by_hand(more: dict[str, Any], confidence: float) -> None:
    assert confidence_of(evidence(**more)) == pytest.approx(confidence, abs=1e-4)


def test_what_speaks_against_a_join_is_told() -> None:
    assert markdowns(SURE) == []
    told = markdowns(evidence(different=1, repeated=True, sequential=True, names=0.1))
    assert [left for left, _ in told] == [0.3, 0.5, 0.5]


@pytest.mark.parametrize(
    ("confidence", "risk"), [(1, "high_confidence"), (0.8, "high_confidence"), (0.7999, "medium"), (0.5, "medium"),
                             (0.4999, "low"), (0, "low")],
)  # fmt: skip
def test_risks_are_words_for_the_confidence(confidence: float, risk: str) -> None:
    assert risk_of(confidence) == risk


# -- names -------------------------------------------------------------------------------------------------------------


def contract(name: str, key: str | list[str], *fields: str, **more: Any) -> Contract:
    return stored_contract(contract_text(table(name, key, *fields, **more)), schema="own_1", name=name)


CUSTOMERS = contract("customers", "code", "code text", "name text", "regionkey integer")
ORDERS = contract("orders", "orderNo", "orderNo integer", "customerId text", "custkey integer", "lPartkey integer",
                  "status text", "regionkey integer", "code text")  # fmt: skip
PARTS = contract("parts", "pPartkey", "pPartkey integer", "pName text")


@pytest.mark.parametrize(
    ("field", "parent", "parent_field", "least", "most"),
    [
        ("customerId", CUSTOMERS, "code", 0.9, 1.0),  # the whole key stands for its dataset
        ("custkey", CUSTOMERS, "code", 0.5, 1.0),  # short forms
        ("regionkey", CUSTOMERS, "regionkey", 1.0, 1.0),
        ("lPartkey", PARTS, "pPartkey", 1.0, 1.0),  # less prefixes and `key`
        ("customerId", PARTS, "pPartkey", 0.0, 0.4),
        ("status", CUSTOMERS, "code", 0.0, 0.5),
        ("code", CUSTOMERS, "code", 0.0, 0.5),  # an order's code is none of a customer
        ("orderNo", CUSTOMERS, "code", 0.0, 0.5),
    ],
)
def test_names_are_compared_by_what_they_tell(
    field: str, parent: Contract, parent_field: str, least: float, most: float
) -> None:
    assert least <= likeness(ORDERS, field, parent, parent_field) <= most


def test_labels_are_names_too() -> None:
    labelled = table("visits", "n", "n integer", "x1 text")
    labelled["fields"][1]["label"] = "Customer code"
    visits = stored_contract(contract_text(labelled), schema="own_2", name="visits")
    assert likeness(visits, "x1", CUSTOMERS, "code") > 0.9


@pytest.mark.parametrize(
    ("field", "reference"), [("managerId", True), ("managerNo", True), ("partkey", True), ("size", False), ("id", True)]
)
def test_what_is_called_as_a_reference(field: str, reference: bool) -> None:
    assert is_reference(field) is reference


# -- texts -------------------------------------------------------------------------------------------------------------


def test_nothing_but_checked_names_is_composed() -> None:
    """Each field by its column or its reader, the parent by its schema."""
    assert text_of(CUSTOMERS, ["code"], "m") == 'm.row_key COLLATE "C"'
    assert text_of(CUSTOMERS, ["regionkey"], "m") == (
        "trim_scale(vanguard.as_number(m.data, 'regionkey'))::text COLLATE \"C\""
    )
    assert "p.organization_id = $1 AND p.row_key = v.value" in found_in(CUSTOMERS, ["code"])
    assert "v.value IN (SELECT" in found_in(CUSTOMERS, ["name"])
