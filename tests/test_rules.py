"""Rules across fields: each blocks a commit when the change touches it, and only then. Drafts may break them."""

from decimal import Decimal
from typing import Any

from app.contracts import PFA
from app.contracts.rules import check_rules, unruled_fields
from tests.support.world import FLEET, User, World, line, refused, vehicle

NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}


async def broken(user: User, *keys: str) -> list[tuple[str, str, str]]:
    """(row, field, code) of what a commit breaks; nothing is committed."""
    problem = refused(await user.commit(*keys), 422, "VALIDATION_FAILED")
    assert all(error["message"] for error in problem["errors"])
    return [(error["id"], error["field"], error["code"]) for error in problem["errors"]]


async def assert_committed(user: User, *keys: str) -> None:
    response = await user.commit(*keys)
    assert response.status_code == 200, response.text
    assert response.json()["committed"] == len(keys)


async def test_a_forecast_ends_after_it_starts(world: World, ann: User) -> None:
    await world.mirror({"A": line(forecastStart="2026-02-01", forecastEnd="2026-07-31"), "B": line()})
    await ann.draft("A", {"forecastStart": "2026-08-01"})
    await ann.draft("B", {"model": "M"})
    assert await broken(ann) == [("A", "forecastEnd", "INVALID_DATE_ORDER")]
    # All or nothing: the good row was not committed either, and the draft is still there.
    assert [row["syncState"] for row in await ann.rows(sort="id")] == ["draft", "draft"]
    await ann.draft("A", {"forecastEnd": "2026-08-01"})
    await assert_committed(ann, "A", "B")


async def test_one_date_alone_has_no_order(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"forecastStart": "2030-01-01", "forecastEnd": None})
    await assert_committed(ann, "A")


async def test_a_rental_has_a_rate_and_a_purchase_a_price(world: World, ann: User) -> None:
    await world.mirror(
        {"R": line(), "P": line(source="Purchase", monthlyRate=None, purchasePrice=9), "N": line(source=None)}
    )
    await ann.draft("R", {"source": "Purchase"})
    await ann.draft("P", {"source": "Rental"})
    await ann.draft("N", {"source": "Rental", "monthlyRate": None})
    assert await broken(ann) == [
        ("N", "monthlyRate", "MISSING_REQUIRED_FIELD"),
        ("P", "monthlyRate", "MISSING_REQUIRED_FIELD"),
        ("R", "purchasePrice", "MISSING_REQUIRED_FIELD"),
    ]
    await ann.draft("R", {"purchasePrice": 0})
    await ann.draft("P", {"monthlyRate": Decimal("0.5")})
    await ann.draft("N", {"source": None})
    await assert_committed(ann, "R", "P", "N")


async def test_a_new_row_needs_category_source_and_dor(world: World, ann: User) -> None:
    await ann.draft("new", {"model": "M"}, op="insert")
    assert await broken(ann) == [
        ("new", field, "MISSING_REQUIRED_FIELD") for field in ("category", "source", "dor")
    ]  # fmt: skip
    await ann.draft("new", NEW)
    await assert_committed(ann, "new")
    # Not so a row that is there: its category may go.
    await world.mirror({"A": line()})
    await ann.draft("A", {"category": None, "dor": None})
    await assert_committed(ann, "A")


async def test_an_actualized_row_keeps_its_source_and_stays(world: World, ann: User) -> None:
    await world.mirror({key: line(isActualized=True, purchasePrice=9) for key in "ABC"} | {"D": line(purchasePrice=9)})
    await ann.draft("A", {"source": "Purchase"})
    await ann.draft("B", op="delete")
    # Not even together with its reversal: what counts is how the row was.
    await ann.draft("C", {"source": "Purchase", "isActualized": False})
    assert await broken(ann) == [
        ("A", "source", "BUSINESS_RULE_VIOLATION"),
        ("B", "isActualized", "BUSINESS_RULE_VIOLATION"),
        ("C", "source", "BUSINESS_RULE_VIOLATION"),
    ]
    await ann.discard()
    await ann.draft("A", {"model": "M"})
    await ann.draft("D", {"source": "Purchase", "isActualized": True})
    await assert_committed(ann, "A", "D")


async def test_a_discontinued_row_is_not_reactivated(world: World, ann: User) -> None:
    await world.mirror({"A": line(isDiscontinued=True), "B": line(isDiscontinued=True), "C": line(isDiscontinued=True)})
    await ann.draft("A", {"isDiscontinued": False})
    await ann.draft("B", {"isDiscontinued": None})
    assert await broken(ann) == [(key, "isDiscontinued", "BUSINESS_RULE_VIOLATION") for key in "AB"]
    await ann.discard()
    await ann.draft("B", {"model": "M"})
    await ann.draft("C", op="delete")
    await assert_committed(ann, "B", "C")


async def test_funds_transferable_and_discontinued_exclude_each_other(world: World, ann: User) -> None:
    await world.mirror({"A": line(isDiscontinued=True), "B": line()})
    await ann.draft("A", {"isFundsTransferable": True})
    await ann.draft("B", {"isFundsTransferable": True, "isDiscontinued": True})
    assert await broken(ann) == [(key, "isFundsTransferable", "BUSINESS_RULE_VIOLATION") for key in "AB"]
    await ann.draft("B", {"isFundsTransferable": False})
    await assert_committed(ann, "B")


async def test_a_rule_that_the_change_does_not_touch_is_not_asked(world: World, ann: User) -> None:
    """Rows that upstream holds in breach of every rule can still be edited elsewhere, and mended step by step."""
    bad = line(
        originalStart="2026-06-30", originalEnd="2026-01-01", actualStart="2026-06-30", actualEnd="2026-01-01",
        forecastStart="2026-07-31", forecastEnd="2026-02-01", monthlyRate=None, category=None,
        isDiscontinued=True, isFundsTransferable=True,
    )  # fmt: skip
    await world.mirror({"A": bad, "B": bad})
    await ann.draft("A", {"model": "M", "category": "Cranes"})
    await assert_committed(ann, "A")
    await ann.draft("B", {"isFundsTransferable": False})
    await assert_committed(ann, "B")
    await ann.draft("B", {"forecastEnd": "2026-07-01"})
    assert await broken(ann, "B") == [("B", "forecastEnd", "INVALID_DATE_ORDER")]
    await ann.draft("B", {"forecastEnd": "2026-08-01"})
    await assert_committed(ann, "B")


async def test_rules_look_at_the_row_as_it_will_be(world: World, ann: User, bob: User) -> None:
    """Given bob's discontinuation on its way upstream, then ann cannot make the funds transferable."""
    await world.mirror({"A": line()})
    await bob.draft("A", {"isDiscontinued": True})
    await assert_committed(bob, "A")
    await ann.draft("A", {"isFundsTransferable": True})
    assert await broken(ann) == [("A", "isFundsTransferable", "BUSINESS_RULE_VIOLATION")]


async def test_another_contract_has_rules_of_its_own(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror(
        {"A": vehicle(), "B": vehicle(), "C": vehicle(scrapped=True), "D": vehicle(scrapped=True)}, contract=FLEET
    )
    await ann.draft("A", {"firstDay": "2026-02-01", "lastDay": "2026-01-01"})
    await ann.draft("B", {"kind": "Bus", "seats": None})
    await ann.draft("C", {"scrapped": False})
    await ann.draft("D", op="delete")
    await ann.draft("new", {"kind": "Van"}, op="insert")
    assert await broken(ann) == [
        ("A", "lastDay", "INVALID_SERVICE"),
        ("B", "seats", "MISSING_REQUIRED_FIELD"),
        ("C", "scrapped", "BUSINESS_RULE_VIOLATION"),
        ("D", "scrapped", "BUSINESS_RULE_VIOLATION"),
        ("new", "depot", "MISSING_REQUIRED_FIELD"),
    ]
    assert (await ann.page())["metadata"]["revision"] == 0


async def test_a_dry_run_names_what_it_would_break(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"monthlyRate": None})
    problem = refused(await ann.commit("A", dryRun=True), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["message"] == "monthlyRate is required where source is Rental."


async def test_a_value_of_another_type_in_the_mirror_breaks_no_order(world: World, ann: User) -> None:
    await world.mirror({"A": line(forecastStart=20260201)})
    await ann.draft("A", {"forecastEnd": "2026-08-01"})
    await assert_committed(ann, "A")


def test_rules_need_the_fields_that_they_look_at_and_no_others() -> None:
    before: dict[str, Any] = dict.fromkeys(PFA.by_name.keys() - unruled_fields(PFA))
    assert "model" not in before
    assert {"forecastStart", "source", "isDiscontinued", "category"} <= before.keys()
    assert check_rules(PFA, "A", before, before) == []
    assert check_rules(PFA, "A", before, before | {"forecastStart": "2026-01-01"}) == []
