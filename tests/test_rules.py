"""Rules: each blocks a commit when the change touches it, and only then. Drafts may break those across fields."""

import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from app.base import exact_json
from app.contracts import PFA
from app.contracts.findings import BLOCKING, Finding, Severity
from app.contracts.patterns import MAX_WORK, matches, misfit_pattern
from app.contracts.rule_types import AllowedValues, Condition, NotNull, Range, Regex, Required, Rule
from app.contracts.rules import check_row, check_rules, judge, rules_of, unique_rules, unruled_fields
from app.contracts.validation import check_cell, check_value
from tests.support.world import FLEET, LAB, User, World, instrument, line, refused, vehicle

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


# --- findings


def said(findings: list[Finding]) -> list[tuple[str | None, str, str, str | None]]:
    """(field, severity, code, rule) of each."""
    assert all(finding.message and finding.contract_version == LAB.version for finding in findings)
    return [(each.field, each.severity.value, each.code, each.rule_id) for each in findings]


def test_severities_are_ordered_and_two_of_them_block() -> None:
    assert sorted(Severity, key=lambda severity: severity.rank) == ["INFO", "WARNING", "ERROR", "FATAL"]
    assert {severity for severity in Severity if severity in BLOCKING} == {Severity.ERROR, Severity.FATAL}
    finding = check_cell(LAB, "owner", None).findings[0]
    assert exact_json.encode(finding) == (
        b'{"field":"owner","severity":"ERROR","code":"MISSING_REQUIRED_FIELD","message":"owner is required.",'
        b'"ruleId":"not_null:owner","contractVersion":"2.1"}'
    )


def test_every_rule_has_a_stable_id_and_keeps_one_that_it_was_given() -> None:
    assert [rule.id for rule in LAB.rules] == [
        "one-serial", "unique:slot", "unique:seat", "unique:dueOn", "not_null:owner", "required:keeper,room",
        "required:room,lent", "range:rating", "range:boughtOn", "regex:code", "allowed_values:priority",
        "expression:rating,load", "not-ann", "ordered:boughtOn,soldOn", "frozen:sealed", "exclusive:sealed,lent",
    ]  # fmt: skip
    assert [rule.id for rule in LAB.field_rules] == ["grade:values", "load:range"]
    twice = msgspec.structs.replace(FLEET, rules=(NotNull(field="depot"), NotNull(field="depot", message="Say where.")))
    assert [rule.id for rule in twice.rules] == ["not_null:depot", "not_null:depot:2"]


def test_a_grid_sees_the_rules_of_a_field_as_type_and_bounds() -> None:
    assert rules_of(LAB, "rating") == [
        {"type": "range", "min": Decimal("0.5"), "max": 10, "severity": "WARNING", "id": "range:rating"},
        {
            "type": "expression",
            "fields": ["rating", "load"],
            "expression": "rating == null || load == null || rating * 10 <= load",
            "severity": "WARNING",
            "id": "expression:rating,load",
        },
    ]
    assert rules_of(LAB, "grade") == [
        {"type": "allowed_values", "values": ["A", "B", "C"], "severity": "ERROR", "id": "grade:values"}
    ]
    assert rules_of(LAB, "load")[0] == {"type": "range", "min": 0, "max": 100, "severity": "ERROR", "id": "load:range"}
    assert rules_of(LAB, "code") == [
        {"type": "regex", "pattern": "(?:[A-Z]+-)+[0-9]{1,6}", "severity": "ERROR", "id": "regex:code"}
    ]
    assert rules_of(LAB, "soldOn") == [
        {
            "type": "ordered",
            "fields": ["boughtOn", "soldOn"],
            "first": "boughtOn",
            "second": "soldOn",
            "severity": "ERROR",
            "id": "ordered:boughtOn,soldOn",
        }
    ]
    assert rules_of(LAB, "lent") == [
        {
            "type": "required",
            "fields": ["room"],
            "when": "lent",
            "equals": True,
            "severity": "ERROR",
            "id": "required:room,lent",
        },
        {
            "type": "exclusive",
            "fields": ["sealed", "lent"],
            "message": "What is sealed is not lent.",
            "severity": "ERROR",
            "id": "exclusive:sealed,lent",
        },
    ]
    assert rules_of(LAB, "tag") == []
    assert [rule.field for rule in unique_rules(LAB)] == ["serial", "slot", "seat", "dueOn"]


# What is wrong with a cell by itself: (field, value, whether it can be kept, the findings).
CELLS: list[tuple[str, Any, bool, list[tuple[str, str, str | None]]]] = [
    ("owner", "Ann", True, []),
    ("owner", None, True, [("ERROR", "MISSING_REQUIRED_FIELD", "not_null:owner")]),
    ("owner", 7, False, [("ERROR", "INVALID_TYPE", None)]),
    ("owner", "a\0b", False, [("ERROR", "INVALID_TYPE", None)]),
    ("owner", "é" * 251, False, [("ERROR", "INVALID_RANGE", None)]),
    ("keeper", None, True, [("FATAL", "MISSING_REQUIRED_FIELD", "required:keeper,room")]),
    ("room", None, True, [("FATAL", "MISSING_REQUIRED_FIELD", "required:keeper,room")]),
    ("grade", "A", True, []),
    ("grade", None, True, []),
    ("grade", "a", True, [("ERROR", "INVALID_ENUM_VALUE", "grade:values")]),
    ("grade", 1, False, [("ERROR", "INVALID_TYPE", None)]),
    ("grade", "a\0", False, [("ERROR", "INVALID_TYPE", None)]),
    ("grade", "x" * 501, False, [("ERROR", "INVALID_RANGE", None)]),
    ("load", Decimal("100.00"), True, []),
    ("load", Decimal("100.01"), True, [("ERROR", "INVALID_RANGE", "load:range")]),
    ("load", -1, True, [("ERROR", "INVALID_RANGE", "load:range")]),
    ("load", "1", False, [("ERROR", "INVALID_TYPE", None)]),
    ("load", True, False, [("ERROR", "INVALID_TYPE", None)]),
    ("load", 10**30, False, [("ERROR", "INVALID_RANGE", None)]),
    ("load", Decimal("1e-21"), False, [("ERROR", "INVALID_RANGE", None)]),
    ("rating", Decimal("0.5"), True, []),
    ("rating", Decimal("0.49"), True, [("WARNING", "INVALID_RANGE", "range:rating")]),
    ("priority", Decimal("1.0"), True, []),
    ("priority", 4, True, [("INFO", "INVALID_ENUM_VALUE", "allowed_values:priority")]),
    ("priority", Decimal("1.5"), False, [("ERROR", "INVALID_TYPE", None)]),
    ("priority", 2**53, False, [("ERROR", "INVALID_RANGE", None)]),
    ("boughtOn", "2000-01-01", True, []),
    ("boughtOn", "1999-12-31", True, [("ERROR", "INVALID_RANGE", "range:boughtOn")]),
    ("boughtOn", "2026-02-30", False, [("ERROR", "INVALID_TYPE", None)]),
    ("boughtOn", "10000-01-01", False, [("ERROR", "INVALID_TYPE", None)]),
    ("boughtOn", "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0660\u0661", False, [("ERROR", "INVALID_TYPE", None)]),
    ("code", "AB-C-1", True, []),
    ("code", "xAB-1", True, [("ERROR", "INVALID_FORMAT", "regex:code")]),
    ("code", "AB-1\n", True, [("ERROR", "INVALID_FORMAT", "regex:code")]),
    ("code", "", True, [("ERROR", "INVALID_FORMAT", "regex:code")]),
    ("sealed", 1, False, [("ERROR", "INVALID_TYPE", None)]),
    ("lent", True, True, []),
    ("slot", 1, True, []),
]


@pytest.mark.parametrize(("name", "value", "storable", "expected"), CELLS)
def test_a_cell_is_checked_by_itself(
    name: str, value: Any, storable: bool, expected: list[tuple[str, str, str | None]]
) -> None:
    checked = check_cell(LAB, name, value)
    assert checked.storable is storable
    assert said(checked.findings) == [(name, *each) for each in expected]


def test_what_a_draft_refuses_a_cell_reports_and_what_a_cell_cannot_keep_a_draft_refuses() -> None:
    for name, value, storable, _ in CELLS:
        refusal = check_value(LAB.by_name[name], value)
        assert storable or refusal is not None
        if refusal is not None:
            # Beside the code: of an enum a draft says that it is none of the values, whatever else is wrong.
            assert LAB.by_name[name].type == "enum" or refusal in {
                (finding.code, finding.message) for finding in check_cell(LAB, name, value).findings
            }


def test_a_row_is_checked_where_the_change_touches_it_and_told_by_field() -> None:
    good = instrument(tag="A", grade="A")
    assert check_row(LAB, None, good) == []
    bad = good | {"soldOn": "2025-01-01", "owner": None, "grade": "Z", "priority": 9, "code": "?", "rating": 11}
    expected = [
        ("code", "ERROR", "INVALID_FORMAT", "regex:code"),
        ("grade", "ERROR", "INVALID_ENUM_VALUE", "grade:values"),
        ("owner", "ERROR", "MISSING_REQUIRED_FIELD", "not_null:owner"),
        ("priority", "INFO", "INVALID_ENUM_VALUE", "allowed_values:priority"),
        ("rating", "WARNING", "INVALID_RANGE", "range:rating"),
        ("soldOn", "ERROR", "INVALID_DATE_ORDER", "ordered:boughtOn,soldOn"),
    ]
    assert said(check_row(LAB, good, bad)) == said(check_row(LAB, None, bad)) == expected
    assert check_row(LAB, bad, bad | {"lent": False}) == []
    assert said(check_row(LAB, bad, bad | {"code": "!"})) == [expected[0]]
    # A commit is kept by what blocks, and by that alone.
    assert {culprit.field for culprit in check_rules(LAB, "A", good, bad)} == {"code", "grade", "owner", "soldOn"}
    assert check_row(LAB, bad, None) == []


def test_numbers_that_are_equal_are_no_change() -> None:
    before = instrument(rating=11)
    assert check_row(LAB, before, before | {"rating": Decimal("11.00")}) == []


def test_a_rule_can_look_at_the_key_of_a_new_row_which_its_document_lacks() -> None:
    contract = msgspec.structs.replace(LAB, rules=(Regex(field="tag", pattern="T[0-9]+"),))
    assert check_rules(contract, "T1", None, {}) == []
    assert [culprit.code for culprit in check_rules(contract, "X1", None, {})] == ["INVALID_FORMAT"]
    assert check_rules(contract, "X1", {}, {"room": "R2"}) == []


@pytest.mark.parametrize("severity", Severity)
def test_a_rule_that_cannot_be_checked_is_an_error_at_least(severity: Severity) -> None:
    """Given a value that another contract let in, then its rule is not taken for kept."""
    rule: Rule = Range(field="rating", min=1, severity=severity, id="r")
    (finding,) = judge(LAB, rule, None, {"rating": "high"})
    assert finding.severity == (Severity.FATAL if severity is Severity.FATAL else Severity.ERROR)
    assert (finding.code, finding.message) == (
        "RULE_FAILED",
        "The rule r could not be checked: rating is no number.",
    )
    for field, value in (("code", ["AB-1"]), ("code", "A" * 50_001), ("priority", {}), ("boughtOn", 7)):
        assert [each.code for each in check_row(LAB, instrument(), instrument(**{field: value}))] == ["RULE_FAILED"]


def test_words_of_the_contract_take_the_place_of_the_usual_ones() -> None:
    rules: tuple[Rule, ...] = (
        Required(fields=("owner",), message="Whose is it?", code="NOBODYS"),
        Range(field="rating", max=5, message="Too good."),
    )
    contract = msgspec.structs.replace(LAB, rules=rules)
    found = check_row(contract, None, {"rating": 6})
    assert [(each.code, each.message) for each in found] == [
        ("NOBODYS", "Whose is it?"),
        ("INVALID_RANGE", "Too good."),
    ]


# --- expressions


def test_an_expression_looks_at_the_whole_row() -> None:
    before = instrument(rating=5, load=50)
    about = (None, "WARNING", "BUSINESS_RULE_VIOLATION", "expression:rating,load")
    found = check_row(LAB, before, before | {"load": Decimal("49.9")})
    assert said(found) == [about]
    assert found[0].message == "It has to be true that rating == null || load == null || rating * 10 <= load"
    assert check_row(LAB, before, before | {"load": Decimal("50.0")}) == []
    assert check_row(LAB, before, before | {"load": None}) == []
    assert check_row(LAB, before | {"rating": 6}, before | {"rating": 6, "room": "R2"}) == []
    (finding,) = check_row(LAB, None, instrument(priority=3))
    assert (finding.rule_id, finding.message) == ("not-ann", "Ann has no time.")


@pytest.mark.parametrize(
    ("expression", "row", "reason"),
    [
        ("rating / load > 1", {"rating": 1, "load": 0}, "division by zero"),
        ("rating < load", {"rating": 1}, "< does not apply to null"),
        ("sealed", {}, "null is not true or false"),
    ],
)
def test_an_expression_that_fails_is_not_fulfilled(expression: str, row: dict[str, Any], reason: str) -> None:
    """Given a severity of a warning, then a row on which the expression has no value is an error all the same."""
    rules: tuple[Rule, ...] = (Condition(expression=expression, severity=Severity.WARNING, id="c"),)
    (finding,) = check_row(msgspec.structs.replace(LAB, rules=rules), None, row)
    assert (finding.severity, finding.code) == ("ERROR", "RULE_FAILED")
    assert finding.message.startswith("The rule c could not be checked: Line 1, column ")
    assert finding.message.endswith(f": {reason}.")


def test_what_is_long_is_shown_in_part() -> None:
    """A message comes with each of thousands of findings."""
    rules: tuple[Rule, ...] = (
        AllowedValues(field="priority", values=tuple(range(1_000))),
        Regex(field="code", pattern="a" * 300),
        Condition(expression=" && ".join(["rating != 1"] * 100)),
    )
    found = check_row(msgspec.structs.replace(LAB, rules=rules), None, {"rating": 1, "priority": -1, "code": "b"})
    assert [each.field for each in found] == ["code", "priority", "rating"]
    assert all(200 < len(each.message) < 240 for each in found)


# --- regular expressions

CATASTROPHIC = [
    "(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*a){20}", "([a-zA-Z]+)*$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$",
    ".*.*=.*", "(?:a?){30}a{30}", "((a*)*)*b",
]  # fmt: skip
SECONDS = 0.5  # fifty times what the slowest of them takes, and nothing beside what they take elsewhere


@pytest.mark.timed
@pytest.mark.parametrize("pattern", CATASTROPHIC)
@pytest.mark.parametrize("letter", "ax")
def test_no_pattern_hangs(pattern: str, letter: str) -> None:
    assert misfit_pattern(pattern, 50_000) is None
    before = time.perf_counter()
    assert not matches(pattern, letter * 49_999 + "!")
    assert time.perf_counter() - before < SECONDS


@pytest.mark.timed
def test_the_largest_pattern_that_is_taken_is_bounded_on_the_worst_text() -> None:
    """RE2's time grows with the text and with the compiled pattern: so their product is what is bounded."""
    pattern = "(?:" + "[ab]*a" * 2 + "){1000}c"
    assert misfit_pattern(pattern, 50_000) is not None
    longest = next(length for length in range(50_000, 0, -100) if misfit_pattern(pattern, length) is None)
    text = ("abbaabab" * MAX_WORK)[:longest]
    before = time.perf_counter()
    assert not matches(pattern, text)
    assert time.perf_counter() - before < 10 * SECONDS


def test_a_pattern_is_of_the_whole_text_and_of_letters_not_bytes() -> None:
    assert matches("é.", "éü")
    assert not matches("é", "éé")
    assert not matches("a|ab", "abc")
    assert matches("a|ab", "ab")
    assert not matches("a$", "a\n")


@pytest.mark.timed
def test_ten_thousand_cells_take_no_time() -> None:
    """Given that every one has a value of its own, so that nothing is remembered."""
    cells = [("rating", Decimal(n)) for n in range(5_000)] + [("owner", f"Owner {n}") for n in range(5_000)]
    before = time.perf_counter()
    found = [check_cell(LAB, name, value) for name, value in cells]
    assert time.perf_counter() - before < 1  # a twentieth of it, on a machine that does nothing else
    assert sum(len(each.findings) for each in found) == 5_000 - 10
