"""What is done with whole columns at once says what it would say value by value."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts import Contract
from app.contracts.model import Field
from app.contracts.registration import read_registration
from app.drift.detection import FEW, Source, is_suspect
from app.drift.records import batch_of, plain_of
from app.records.conversion import reader_of
from tests.support.own import customers

SHAPES: list[dict[str, Any]] = [
    {"type": "integer"}, {"type": "number"}, *({"type": "number", "scale": scale} for scale in (0, 2, 15, 20)),
]  # fmt: skip


def contract_of(*fields: dict[str, Any]) -> Contract:
    """Customers with more fields."""
    return read_registration(customers() | {"fields": [*customers()["fields"], *fields]}, schema="own_0")


def field_of(shape: dict[str, Any]) -> Field:
    return contract_of({"name": "size"} | shape).by_name["size"]


FIELDS = [field_of(shape) for shape in SHAPES]


@given(st.data(), st.sampled_from(FIELDS))
def test_a_plain_text_is_a_value(data: st.DataObject, field: Field) -> None:
    """Given any text that passes at sight, then whoever reads it value by value takes it."""
    plain = plain_of(field)
    assert plain is not None
    text = data.draw(st.from_regex(plain, fullmatch=True))
    assert reader_of(field, textual=True)(text) == Decimal(text)


@pytest.mark.parametrize("shape", [{"minimum": 0}, {"maximum": 9}, {"type": "text"}])
def test_nothing_passes_at_sight_where_digits_do_not_say_it(shape: dict[str, Any]) -> None:
    assert plain_of(field_of({"type": "integer"} | shape)) is None


@pytest.mark.parametrize(("scale", "text"), [(2, "1.234"), (2, "1e2"), (0, "1.5"), (None, "1" * 16), (None, "one")])
def test_other_texts_are_looked_at(scale: int | None, text: str) -> None:
    plain = plain_of(field_of({"type": "number"} | ({} if scale is None else {"scale": scale})))
    assert plain is not None
    assert plain.fullmatch(text) is None


def test_columns_are_those_of_all_records() -> None:
    """Given records with different members, and in another order, then each has its values, or nothing."""
    contract = contract_of()
    alike = [{"customerId": "A", "tier": "gold"}, {"customerId": "B", "tier": "silver"}]
    assert columns_of(contract, alike) == {"customerId": ["A", "B"], "tier": ["gold", "silver"]}
    other = [*alike, {"tier": "gold", "customerId": "C"}, {"customerId": "D", "mail": "d@x.example"}]
    assert columns_of(contract, other) == {
        "customerId": ["A", "B", "C", "D"],
        "tier": ["gold", "silver", "gold", None],
        "mail": [None, None, None, "d@x.example"],
    }
    assert columns_of(contract, []) == {}
    assert columns_of(contract, [{}, {}]) == {}


def test_an_empty_text_of_csv_is_nothing() -> None:
    sent = [{"customerId": "A", "tier": ""}, {"customerId": "", "tier": "gold"}]
    assert columns_of(contract_of(), sent, textual=True) == {"customerId": ["A", None], "tier": [None, "gold"]}
    assert columns_of(contract_of(), sent) == {"customerId": ["A", ""], "tier": ["", "gold"]}


def columns_of(contract: Contract, sent: list[dict[str, Any]], *, textual: bool = False) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in batch_of(contract, sent, textual=textual).columns.items()}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("size", 1, True), ("size", 1, "1"), ("weight", Decimal("1.5"), Decimal("1.50001")), ("tier", "gold", ["gold"])],
)
def test_what_is_wrong_is_seen_beside_what_is_like_it(name: str, good: Any, bad: Any) -> None:
    """1 and true are equal, and only one of them is a number."""
    contract = contract_of({"name": "size", "type": "integer"}, {"name": "weight", "type": "number", "scale": 2})

    def suspect(*values: Any) -> bool:
        return is_suspect(contract, batch_of(contract, [{name: each} for each in values], textual=False), Source.INGEST)

    assert not suspect(*[good] * FEW)
    assert suspect(*[good] * FEW, *[bad] * 2 * FEW)


@pytest.mark.parametrize(("text", "found"), [("12", False), ("1.5", True), ("twelve", True), ("", False)])
def test_texts_of_csv_that_repeat_are_counted_as_often(text: str, found: bool) -> None:
    """Given the same text in every record, when it is no value, then it is as many that are none."""
    contract = contract_of({"name": "size", "type": "integer"})
    sent = [{"size": text}] * FEW
    assert is_suspect(contract, batch_of(contract, sent, textual=True), Source.INGEST) is found
    assert not is_suspect(contract, batch_of(contract, sent[1:], textual=True), Source.INGEST)
