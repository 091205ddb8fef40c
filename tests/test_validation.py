"""Does a delta fit its contract? What drafts refuse: unknown and read-only fields, wrong types, enums, ranges, ids."""

from decimal import Decimal
from typing import Any

import pytest

from app.contracts import PFA, Contract
from app.contracts.model import Field
from app.contracts.validation import check_delta, check_key, check_value
from tests.support.world import FLEET, User, World, line, refused

BIG = Decimal(10) ** 30

# field -> (value, code): what each field of a contract refuses, and why.
PFA_REFUSALS: list[tuple[str, Any, str]] = [
    ("nothing", 1, "UNKNOWN_FIELD"),
    ("nothing", None, "UNKNOWN_FIELD"),
    ("Model", "M", "UNKNOWN_FIELD"),
    ("forecastCost", 1, "UNKNOWN_FIELD"),
    ("forecastDates", {}, "UNKNOWN_FIELD"),
    ("id", "A", "UNKNOWN_FIELD"),
    ("", "x", "UNKNOWN_FIELD"),
    ("pfaId", "A", "READ_ONLY_FIELD"),
    ("organization", "X", "READ_ONLY_FIELD"),
    ("contract", "P", "READ_ONLY_FIELD"),
    ("originalStart", "2026-01-01", "READ_ONLY_FIELD"),
    ("originalEnd", None, "READ_ONLY_FIELD"),
    ("actualStart", "2026-01-01", "READ_ONLY_FIELD"),
    ("actualEnd", "2026-01-01", "READ_ONLY_FIELD"),
    ("pemsVersion", "1", "READ_ONLY_FIELD"),
    ("hasPlan", True, "READ_ONLY_FIELD"),
    ("hasActuals", True, "READ_ONLY_FIELD"),
    ("model", 7, "INVALID_TYPE"),
    ("model", True, "INVALID_TYPE"),
    ("model", ["M"], "INVALID_TYPE"),
    ("model", {"a": 1}, "INVALID_TYPE"),
    ("model", "a\0b", "INVALID_TYPE"),
    ("model", "x" * 501, "INVALID_RANGE"),
    ("model", "é" * 251, "INVALID_RANGE"),
    ("source", 1, "INVALID_TYPE"),
    ("source", True, "INVALID_TYPE"),
    ("source", "Lease", "INVALID_ENUM_VALUE"),
    ("source", "rental", "INVALID_ENUM_VALUE"),
    ("source", "", "INVALID_ENUM_VALUE"),
    ("dor", "Rental", "INVALID_ENUM_VALUE"),
    ("monthlyRate", "10", "INVALID_TYPE"),
    ("monthlyRate", True, "INVALID_TYPE"),
    ("monthlyRate", [], "INVALID_TYPE"),
    ("monthlyRate", -1, "INVALID_RANGE"),
    ("monthlyRate", Decimal("-0.01"), "INVALID_RANGE"),
    ("purchasePrice", -1, "INVALID_RANGE"),
    ("monthlyRate", int(BIG), "INVALID_RANGE"),
    ("monthlyRate", BIG, "INVALID_RANGE"),
    ("monthlyRate", Decimal("1E+300000"), "INVALID_RANGE"),
    ("monthlyRate", Decimal("1E-21"), "INVALID_RANGE"),
    ("forecastStart", 20260101, "INVALID_TYPE"),
    ("forecastStart", "2026-02-30", "INVALID_TYPE"),
    ("forecastStart", "2025-02-29", "INVALID_TYPE"),
    ("forecastStart", "2026-1-1", "INVALID_TYPE"),
    ("forecastStart", "2026-01-01T00:00:00Z", "INVALID_TYPE"),
    ("forecastStart", "15-JAN-2026", "INVALID_TYPE"),
    ("forecastStart", "0000-01-01", "INVALID_TYPE"),
    ("forecastStart", "\uff12\uff10\uff12\uff16-01-01", "INVALID_TYPE"),
    ("forecastStart", "2026-01-01\n", "INVALID_TYPE"),
    ("forecastStart", "", "INVALID_TYPE"),
    ("isActualized", 1, "INVALID_TYPE"),
    ("isActualized", "true", "INVALID_TYPE"),
    ("isActualized", "Y", "INVALID_TYPE"),
]
FLEET_REFUSALS: list[tuple[str, Any, str]] = [
    ("category", "Cranes", "UNKNOWN_FIELD"),
    ("plate", "B", "READ_ONLY_FIELD"),
    ("seats", Decimal("1.5"), "INVALID_TYPE"),
    ("seats", "3", "INVALID_TYPE"),
    ("seats", -1, "INVALID_RANGE"),
    ("seats", 201, "INVALID_RANGE"),
    ("seats", 2**53, "INVALID_RANGE"),
    ("kind", "Plane", "INVALID_ENUM_VALUE"),
    ("remark", "x" * 2001, "INVALID_RANGE"),
    ("inService", "no", "INVALID_TYPE"),
    ("seenAt", "2026-01-31", "INVALID_TYPE"),
    ("seenAt", "2026-01-31T08:30:00", "INVALID_TYPE"),
    ("seenAt", "2026-01-31T08:30:00+01:00", "INVALID_TYPE"),
    ("seenAt", "2026-01-31T08:30:00.50Z", "INVALID_TYPE"),
    ("seenAt", "2026-01-31T08:30:60Z", "INVALID_TYPE"),
    ("seenAt", 1769848200, "INVALID_TYPE"),
]
PFA_ACCEPTED: list[tuple[str, Any]] = [
    ("model", ""),
    ("model", "x" * 500),
    ("model", "日本語 \U0001f3d7 \\ \" '"),
    ("model", None),
    ("source", "Purchase"),
    ("source", None),
    ("monthlyRate", 0),
    ("monthlyRate", Decimal("0.00")),
    ("monthlyRate", int(BIG) - 1),
    ("monthlyRate", Decimal("1E-20")),
    ("monthlyRate", Decimal("1E+29")),
    ("forecastStart", "2024-02-29"),
    ("forecastStart", "9999-12-31"),
    ("forecastStart", None),
    ("isActualized", False),
    ("isActualized", None),
]
FLEET_ACCEPTED: list[tuple[str, Any]] = [
    ("seats", 0),
    ("seats", 200),
    ("seats", Decimal("12.0")),
    ("remark", "x" * 2000),
    ("kind", "Bus"),
    ("seenAt", "2026-01-31T08:30:00Z"),
    ("seenAt", "0001-01-01T00:00:00.000001Z"),
    ("seenAt", "9999-12-31T23:59:59.999999Z"),
]


async def test_drafts_refuse_what_the_contract_does_not_allow(world: World, ann: User) -> None:
    """Each in a batch of its own fields: the refusal names row, field and reason, and nothing is saved."""
    await world.mirror({"A": line()})
    for field, value, code in PFA_REFUSALS:
        body = {"modifications": [{"id": "A", "delta": {field: value}}]}
        problem = refused(await ann.post("drafts", body), 422, "VALIDATION_FAILED")
        [error] = problem["errors"]
        assert (error["id"], error["field"], error["code"]) == ("A", field, code), (field, value)
        assert error["message"]
    assert (await ann.get("drafts")).json()["data"] == []


@pytest.mark.parametrize(("contract", "refusals"), [(PFA, PFA_REFUSALS), (FLEET, FLEET_REFUSALS)])
def test_each_refusal_has_its_code(contract: Contract, refusals: list[tuple[str, Any, str]]) -> None:
    for field, value, code in refusals:
        found = check_delta(contract, "A", {field: value}, inserting=False)
        assert [(culprit.field, culprit.code) for culprit in found] == [(field, code)], (field, value)


@pytest.mark.parametrize(("contract", "accepted"), [(PFA, PFA_ACCEPTED), (FLEET, FLEET_ACCEPTED)])
def test_what_fits_is_accepted(contract: Contract, accepted: list[tuple[str, Any]]) -> None:
    for field, value in accepted:
        assert check_delta(contract, "A", {field: value}, inserting=False) == [], (field, value)


@pytest.mark.parametrize(
    ("scale", "value", "fits"),
    [
        (2, "1.05", True), (2, "1.050000", True), (2, "1.051", False), (2, "-0.001", False), (2, "1e-2", True),
        (2, "1e-3", False), (2, "0e-19", True), (2, "1e2", True), (0, "5", True), (0, "5.0", True), (0, "5.5", False),
        (20, "0.00000000000000000001", True), (None, "0.00000000000000000001", True),
    ],
)  # fmt: skip
def test_a_number_has_no_more_digits_after_the_point_than_its_scale(scale: int | None, value: str, fits: bool) -> None:
    refused = check_value(Field(name="price", type="number", scale=scale), Decimal(value))
    assert refused == (None if fits else ("INVALID_RANGE", f"price has at most {scale} digits after the point."))


async def test_what_was_accepted_can_be_filtered_by(world: World, ann: User) -> None:
    """The bounds of validation are those of the index: whatever can be drafted is found again."""
    await world.mirror({"A": line()})
    for field, value in PFA_ACCEPTED:
        await ann.draft("A", {field: value, "class": "Light"})
        wanted = (
            {f"{field}[isnull]": "true"} if value is None else {field: str(value).lower() if value is False else value}
        )
        assert [row["id"] for row in await ann.rows(**wanted)] == ["A"], (field, value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    delta = {"model": 1, "nothing": 2, "pfaId": "A", "monthlyRate": -1, "category": "fine"}
    found = check_delta(PFA, "A", delta, inserting=False)
    assert {culprit.field: culprit.code for culprit in found} == {
        "model": "INVALID_TYPE", "nothing": "UNKNOWN_FIELD", "pfaId": "READ_ONLY_FIELD", "monthlyRate": "INVALID_RANGE",
    }  # fmt: skip


def test_a_new_row_may_carry_its_own_key() -> None:
    assert check_delta(PFA, "A", {"pfaId": "A"}, inserting=True) == []
    assert check_delta(PFA, "A", {"pfaId": "B"}, inserting=True)[0].code == "READ_ONLY_FIELD"
    assert check_delta(PFA, "A", {"pfaId": "A"}, inserting=False)[0].code == "READ_ONLY_FIELD"


def test_null_is_a_value_of_every_field() -> None:
    assert [check_value(field, None) for field in (*PFA.fields, *FLEET.fields)] == [None] * len(
        PFA.fields + FLEET.fields
    )


def test_an_id_is_short_and_printable() -> None:
    for key in ("A", "PFA-0000001", "tmp 1", "a/b", "é", "日" * 66, "x" * 200):
        assert check_key(key) is None, key
    for key in ("", "x" * 201, "日" * 67, "a\nb", "a\0b", "\x7f", "a\u200bb"):
        assert check_key(key), repr(key)


async def test_an_id_that_cannot_be_one_is_refused(world: World, ann: User) -> None:
    new = {"category": "Cranes", "source": "Rental", "dor": "BEO"}
    for key in ("", "x" * 201, "a\nb", "a\0b"):
        body = {"modifications": [{"id": key, "op": "insert", "delta": new}]}
        problem = refused(await ann.post("drafts", body), 422, "VALIDATION_FAILED")
        assert [error["code"] for error in problem["errors"]] == ["INVALID_ID"], repr(key)
    refused(
        await ann.post("drafts", {"modifications": [{"id": "A", "changeReason": "a\0b"}]}), 422, "VALIDATION_FAILED"
    )
    refused(await ann.post("drafts", {"modifications": [{"id": "A", "unset": ["nothing"]}]}), 422, "VALIDATION_FAILED")
