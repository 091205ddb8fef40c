"""The expression language: what it means, what it refuses, and that it means the same in Python and in PostgreSQL."""

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import Contract
from app.contracts.expressions import EvaluationError, Expression, ExpressionError, parse
from app.contracts.expressions.checking import check
from app.contracts.expressions.evaluation import EXACT, Failure, evaluate
from app.contracts.expressions.grammar import read_tree
from app.contracts.expressions.rendering import render
from app.contracts.model import Field, FieldType
from tests.conftest import new_database
from tests.test_model import examples

TYPES: dict[str, FieldType] = {
    "plan": "number", "rate": "number", "seats": "integer", "wheels": "integer", "model": "text", "note": "text",
    "kind": "enum", "scrapped": "boolean", "leased": "boolean", "start": "date", "end": "date",
    "seen": "datetime", "due": "datetime",
}  # fmt: skip
CONTRACT = Contract(
    name="things",
    version="1.0",
    title="Things",
    schema="things",
    key="serial",
    fields=(
        Field(name="serial", type="text", editable=False),
        # Every other field is indexed, so that both readers of texts are asked.
        *(
            Field(name=name, type=kind, indexed=place % 2 == 0, values=("a", "b") if kind == "enum" else ())
            for place, (name, kind) in enumerate(TYPES.items())
        ),
    ),
)


@pytest.fixture(scope="module")
def database(server_url: str, template: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with the readers."""
    with new_database(server_url, template) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


def column(name: str) -> str:
    return CONTRACT.reader(name, "doc")


def ask(database: psycopg.Connection[Any], selected: Sequence[str], documents: Sequence[Any]) -> list[list[Any]]:
    """What PostgreSQL makes of each SQL expression, a list for each document."""
    query = (
        f"SELECT ARRAY[{', '.join(selected)}] FROM unnest($1::jsonb[]) WITH ORDINALITY AS d (doc, place) ORDER BY place"
    )
    texts = [exact_json.encode(document).decode() for document in documents]
    with psycopg.RawCursor(database) as cursor:
        return [list(row[0]) for row in cursor.execute(query.encode(), [texts])]


def judged(expression: Expression, document: dict[str, Any]) -> bool | None:
    """True, false, or None for an error."""
    try:
        return expression.holds(document)
    except EvaluationError:
        return None


def decimals(value: Decimal) -> int:
    """How many digits stand behind the point, zeros at the end left out."""
    return max(0, -int(value.normalize(EXACT).as_tuple().exponent))


# -- what it means -----------------------------------------------------------------------------------------------------

FORKLIFT = {
    "plan": Decimal("100.00"), "rate": Decimal("0.1"), "seats": 3, "model": "Forklift", "kind": "a", "scrapped": False,
    "start": "2026-01-31", "end": "2026-02-28", "seen": "2026-01-31T08:30:00.5Z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        # Numbers are decimals: none is rounded, and whole ones mix with others.
        ("0.1 + 0.2 == 0.3", True),
        ("rate + 0.2 == 0.3", True),
        ("seats * 1.05 == 3.15", True),
        ("seats == 3.00", True),
        ("7 / 2 == 3.5", True),
        ("1 / 3 == 0.33333333333333333333", True),
        ("2 / 3 == 0.66666666666666666667", True),
        ("-2 / 3 == -0.66666666666666666667", True),
        ("seats % 2 == 1 && -7 % 3 == -1 && 5.5 % 2 == 1.5", True),
        ("9007199254740991 + 1 == 9007199254740992", True),
        ("999999999999999999999999999999 + 1 > 999999999999999999999999999999", True),
        ("-seats < 0 && - -seats == 3", True),
        ("0x1F == 31 && .5 == 0.5 && 1e3 == 1000 && 25e-2 == 0.25", True),
        # The signs bind as in CEL.
        ("2 + 3 * 4 == 14 && (2 + 3) * 4 == 20 && 10 - 4 - 3 == 3 && 2 * -3 == -6", True),
        ("true || false && false", True),
        ("!scrapped && seats > 2 == true", True),
        ("scrapped ? false : seats > 5 ? false : true", True),
        # Texts compare by their characters' numbers, and nothing is folded or normalized.
        ("model == 'Forklift' && model != \"forklift\" && model > 'Fork' && 'Z' < 'a' && 'z' < 'é'", True),
        ("'\\u00e9' == 'e\\u0301'", False),
        ("'a\\n\\x41\\101' == \"a\\nAA\" && r'\\n' == '\\\\n'", True),
        ("kind in ['a', 'b',] && !(seats in [1, 2]) && !(seats in [])", True),
        ("start < end && start == date('2026-01-31') && end <= date('2026-12-31')", True),
        ("seen > datetime('2026-01-31T08:30:00Z') && seen == datetime('2026-01-31T08:30:00.500Z')", True),
        ("false < true && scrapped == false", True),
        # A missing field is null. Nothing but equality takes it.
        ("note == null && model != null && null == null", True),
        ("note == 'a'", False),
        ("note != 'a'", True),
        ("note == end_missing", False),
        ("wheels in [1, 2] || wheels == null", True),
        ("(scrapped ? plan : null) == null", True),
        ("wheels == null || wheels > 4", True),
        ("wheels > 4 || wheels == null", True),
        ("wheels != null && wheels > 4", False),
        # An error does not matter where the other side decides.
        ("1 / 0 > 1 || true", True),
        ("false && 1 / 0 > 1", False),
        ("scrapped ? 1 / 0 == 1 : true", True),
        ("seats > 2 // enough of them\n && true", True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    types: dict[str, FieldType] = {**TYPES, "end_missing": "text"}
    document = {**FORKLIFT, "note": None, "end_missing": "x"}
    assert parse(text, types).holds(document) is holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / (seats - 3) > 0", "Line 1, column 3: division by zero."),
        ("seats % 0 == 0", "Line 1, column 7: division by zero."),
        ("wheels > 4", "Line 1, column 8: > does not apply to null."),
        ("plan +\n wheels == 1", "Line 1, column 6: + does not apply to null."),
        ("-wheels == 1", "Line 1, column 1: - does not apply to null."),
        ("leased", "Line 1, column 1: null is not true or false."),
        ("!leased", "Line 1, column 1: ! does not apply to null."),
        ("leased ? true : true", "Line 1, column 8: null is not true or false."),
        ("true && leased", "Line 1, column 6: null is not true or false."),
        ("false || leased", "Line 1, column 7: null is not true or false."),
        ("scrapped ? true : leased", "Line 1, column 10: null is not true or false."),
        ("1 / 0 == wheels", "Line 1, column 3: division by zero."),
        ("(scrapped ? null : 1 / 0) == null", "Line 1, column 22: division by zero."),
        ("1 / 0 in [1]", "Line 1, column 3: division by zero."),
    ],
)
def test_an_error_says_what_and_where(text: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        parse(text, TYPES).holds(FORKLIFT)
    assert str(caught.value) == message


def test_a_value_that_is_not_of_its_type_is_null() -> None:
    condition = parse("plan == null && seats == null && model == null && scrapped == null && start == null", TYPES)
    assert condition.holds({"plan": True, "seats": Decimal("1.5"), "model": 5, "scrapped": "true", "start": "2026-1-1"})
    assert condition.holds({"plan": Decimal("1e30"), "seats": 2**53, "model": [], "scrapped": 0, "start": "2026-02-30"})
    assert condition.holds({})
    assert not condition.holds({"seats": Decimal("3.0")})


def test_an_expression_knows_its_text_and_its_fields() -> None:
    expression = parse("rate < plan && rate > 0 && model in ['plan', 'end']", TYPES)
    assert expression.text == "rate < plan && rate > 0 && model in ['plan', 'end']"
    assert expression.fields == ("rate", "plan", "model")


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Line 1, column 1: something is missing at the end."),
        ("plan >", "Line 1, column 7: something is missing at the end."),
        ("plan > \n  1)", "Line 2, column 4: ')' does not fit here."),
        ("plan > 1 rate", "Line 1, column 10: 'rate' does not fit here."),
        ("plan = 1", "Line 1, column 6: '=' begins nothing that there is."),
        ("model == 'a", "Line 1, column 10: this text is not closed."),
        ("model == 'a\nb'", "Line 1, column 10: this text is not closed."),
        ("a.b == 1", "Line 1, column 2: '.' begins nothing that there is."),
        ("width > 1", "Line 1, column 1: there is no field 'width'."),
        ("size(model) > 1", "Line 1, column 1: there is no function 'size'; there are date and datetime."),
        ("plan", "Line 1, column 1: a condition is true or false, and this is a number."),
        ("null", "Line 1, column 1: a condition is true or false, and this is null."),
        ("plan + rate", "Line 1, column 6: a condition is true or false, and this is a number."),
        ("plan == 'a'", "Line 1, column 6: == wants two values of one type, and gets a number and a text."),
        ("plan < null", "Line 1, column 6: < wants two values of one type, and gets a number and null."),
        ("null < null", "Line 1, column 6: < does not apply to null."),
        ("null + 1 == 1", "Line 1, column 6: + wants a number, and gets null."),
        ("model + 'a' == 'b'", "Line 1, column 7: + wants a number, and gets a text."),
        ("!plan", "Line 1, column 1: ! wants true or false, and gets a number."),
        ("-'a' == 'a'", "Line 1, column 1: - wants a number, and gets a text."),
        ("plan && true", "Line 1, column 6: && wants true or false, and gets a number."),
        ("plan ? true : false", "Line 1, column 6: ? wants true or false, and gets a number."),
        ("true ? 1 : 'a'", "Line 1, column 6: ? wants two values of one type, and gets a number and a text."),
        ("start > '2026-01-31'",
         'Line 1, column 7: > wants two values of one type, and gets a date and a text, which is written'
         ' date("2026-01-31").'),
        ("start > date('2026-02-30')", 'Line 1, column 9: date takes a day of the calendar: date("2026-01-31").'),
        ("start > date(model)", 'Line 1, column 9: date takes a day of the calendar: date("2026-01-31").'),
        ("start > date()", 'Line 1, column 9: date takes a day of the calendar: date("2026-01-31").'),
        ("seen > '2026-01-31T08:30:00Z'",
         'Line 1, column 6: > wants two values of one type, and gets a datetime and a text, which is written'
         ' datetime("2026-01-31T08:30:00Z").'),
        ("seen > start", "Line 1, column 6: > wants two values of one type, and gets a datetime and a date."),
        ("seen > datetime('2026-01-31T08:30:00+01:00')",
         'Line 1, column 8: datetime takes a moment in UTC: datetime("2026-01-31T08:30:00Z").'),
        ("plan in [1, 'a']", "Line 1, column 13: a list holds values of one type, and this is a text."),
        ("plan in [rate]", "Line 1, column 10: a list holds literals, and no null."),
        ("plan in [null]", "Line 1, column 10: a list holds literals, and no null."),
        ("plan in ['a']", "Line 1, column 6: in wants two values of one type, and gets a number and a text."),
        ("plan in rate", "Line 1, column 9: 'rate' does not fit here."),
        ("model == '\\q'", "Line 1, column 10: there is no escape '\\\\q'."),
        ("model == '\\xg1'", "Line 1, column 10: there is no escape '\\\\x'."),
        ("model == '\\u0000'", "Line 1, column 10: a text has no NUL."),
        ("model == '\\ud83d\\ude00'", "Line 1, column 10: \\ud83d is no character."),
        ("model == '\\U00110000'", "Line 1, column 10: \\U00110000 is no character."),
        ("plan == 1e30", "Line 1, column 9: a number has at most 30 digits before the point, and 20 behind it."),
        ("plan == 1e-21", "Line 1, column 9: a number has at most 30 digits before the point, and 20 behind it."),
        ("plan == 1u", "Line 1, column 10: 'u' does not fit here."),
        ("*".join(["plan"] * 21) + " == 1", "Line 1, column 100: the result of * may have more than 1000 digits."),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, TYPES)
    assert str(caught.value) == message
    assert f"Line {caught.value.line}, column {caught.value.column}: " in message


HOSTILE = {
    "10,000 deep": ("(" * 10_000 + "leased" + ")" * 10_000, "at most 4096 bytes"),
    "2,000 deep": ("(" * 2000 + "leased", "at most 32 deep"),
    "33 deep": ("(" * 33 + "leased" + ")" * 33, "at most 32 deep"),
    "not not not": ("!" * 4000 + "leased", "at most 32 deep"),
    "minus minus": ("-" * 4000 + "plan == 1", "at most 32 deep"),
    "signs within brackets": ("(!" * 17 + "leased" + ")" * 17, "at most 32 deep"),
    "choices": ("leased?" * 33 + "leased" + ":leased" * 33, "at most 32 deep"),
    "lists": ("plan in " + "[" * 4000, "at most 32 deep"),
    "calls": ("date(" * 800, "at most 32 deep"),
    "5 KB": ("'" + "x" * 5000 + "' == model", "at most 4096 bytes, and this one 5011"),
    "5 KB of few characters": ("'" + "\U0001f600" * 1250 + "' == model", "at most 4096 bytes, and this one 5011"),
    "2,000 nodes": ("plan" + "+1" * 2000 + " == 1", "at most 1000 values and operators"),
    "a text without end": ('"' + "x\\'" * 1300, "not closed"),
    "quotes": ('"' * 4001, "not closed"),
    "quotes by threes": ("'''" * 1300, "does not fit"),
    "backslashes": ('"' + "\\" * 4001, "not closed"),
    "escaped quotes": ('"""' + '\\"' * 1900, "not closed"),
    "raw": ('r"""' + 'x"' * 2000, "not closed"),
    "digits": ("9" * 4000 + " == plan", "at most 30 digits"),
    "digits and points": ("1." * 2000, "begins nothing"),
    "hexadecimal digits": ("0x" + "f" * 4000 + " == plan", "at most 30 digits"),
    "a huge exponent": ("plan == 1e999999", "at most 30 digits"),
    "a tiny exponent": ("plan == 1e-999999", "at most 30 digits"),
    "an exponent beyond all bounds": ("plan == 1e" + "9" * 4000, "at most 30 digits"),
    "a long name": ("p" * 4000 + " == 1", "there is no field"),
    "closing": (")" * 4000, "does not fit"),
    "NUL": ("model == '\0'", "has no NUL"),
    "half a pair": ("model == '\ud800'", "half of a surrogate pair"),
    "a full-width digit": ("plan == \uff11", "begins nothing"),
    "a space without width": ("plan\u200b == 1", "begins nothing"),
    "a space that does not break": ("plan\u00a0== 1", "begins nothing"),
    "right to left": ("\u202eleased", "begins nothing"),
}


@pytest.mark.timed
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused_at_once(name: str) -> None:
    text, message = HOSTILE[name]
    parse("true", {})  # the grammar is made with the first expression
    begun = time.process_time()
    with pytest.raises(ExpressionError, match=message) as caught:
        parse(text, TYPES)
    assert time.process_time() - begun < 1
    assert len(str(caught.value)) < 200


LARGEST = [
    "(" * 32 + "leased" + ")" * 32,
    "!" * 32 + "leased",
    "||".join(["leased"] * 500),
    "plan" + " + 1" * 498 + " == 1",
    "1" + " / 1" * 300 + " == plan",
    "leased ? scrapped : " * 32 + "leased",
    # Chains within brackets: as high a tree as the bounds allow.
    "(" * 31 + "plan" + (" - 1" * 15 + ")") * 31 + " > 0",
    f"plan in [{', '.join(str(number) for number in range(800))}]",
    "note == '" + "\u20ac" * 1300 + "'",
    # Choices within conditions of choices, compared where null is a value.
    "(" * 15 + "leased" + " ? plan : null) == (scrapped ? null : rate)" * 15,
    "*".join(["plan"] * 20) + " > 1",
    "1 / " + "(0.00000000000000000001 / " * 20 + "plan" + ")" * 20 + " > 1",
]


@pytest.mark.parametrize("text", LARGEST, ids=range(len(LARGEST)))
def test_what_is_just_small_enough_means_the_same_in_postgresql(database: psycopg.Connection[Any], text: str) -> None:
    documents: list[dict[str, Any]] = [
        {},
        {"leased": True, "scrapped": False, "plan": Decimal("999999999999999999999999999999"), "rate": 1},
        {"leased": False, "scrapped": True, "plan": Decimal("0.00000000000000000001"), "note": "\u20ac" * 1300},
        {"leased": False, "scrapped": False, "plan": 0},
    ]
    expression = parse(text, TYPES)
    answers = ask(database, [expression.sql(column)], documents)
    assert [answer[0] for answer in answers] == [judged(expression, document) for document in documents]


def test_nothing_of_the_text_is_in_the_sql(database: psycopg.Connection[Any]) -> None:
    """What would end a literal, qualify a name, be a marker, a parameter or a comment."""
    text = "'; DROP TABLE x; -- \" pfa.mirror /*{order}*/ x /*{}*/ $1 %s :name {0} \\ \u2019 \u00a7 $$"
    literal = text.replace("\\", "\\\\").replace("'", "\\'")
    expression = parse(f"note == '{literal}'", TYPES)
    assert expression.holds({"note": text})
    sql = expression.sql(column)
    assert ask(database, [sql], [{"note": text}, {"note": "x"}]) == [[True], [False]]
    inside = sql[sql.index("E'") + 2 : sql.rindex("'")]
    assert not set(inside) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \\")


# -- as CEL has it -----------------------------------------------------------------------------------------------------

CONFORMANCE = exact_json.decode((Path(__file__).parent / "support" / "cel_conformance.json").read_bytes())
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in CONFORMANCE["cases"]}


@pytest.mark.parametrize("name", CASES)
def test_a_conformance_case_of_cel_comes_out_as_there_or_deviates_for_a_reason(name: str) -> None:
    case = CASES[name]
    expected = case["here"] if "deviation" in case else "error" if "error" in case else case["value"]
    outcome = outcome_of(case)
    if "error" in case and expected == "error":
        assert outcome in ("error", "refused")
    else:
        assert outcome == expected
        assert isinstance(outcome, bool) == isinstance(expected, bool)


def outcome_of(case: dict[str, Any]) -> Any:
    """The value, `error`, or `refused`."""
    fields = case.get("fields", {})
    try:
        steps = check(read_tree(case["text"]), {name: field["type"] for name, field in fields.items()})
    except ExpressionError:
        return "refused"
    value = evaluate(steps, {name: field["value"] for name, field in fields.items()})
    return "error" if isinstance(value, Failure) else value


def test_every_deviation_from_cel_has_its_reason_and_is_one() -> None:
    deviating = [case for case in CASES.values() if "deviation" in case]
    assert {case["deviation"] for case in deviating} == set(CONFORMANCE["deviations"])
    for case in deviating:
        assert case["here"] != case.get("value", "error"), case["name"]


def test_conformance_cases_come_out_alike_in_postgresql(database: psycopg.Connection[Any]) -> None:
    texts = [name for name, case in CASES.items() if isinstance(outcome_of(case), bool) and "fields" not in case]
    conditions = [parse(CASES[name]["text"], {}) for name in texts]
    [answer] = ask(database, [condition.sql(column) for condition in conditions], [{}])
    assert answer == [condition.holds({}) for condition in conditions]


# -- the same in Python and in PostgreSQL ------------------------------------------------------------------------------

NUMBERS = (
    "0", "1", "2", "3", "7", "10", "0.1", "0.2", "0.3", "1.05", "0.5", "2.50", "100.00", "1e3", "0x1F", "6.02e5",
    "0.00000000000000000001", "99999999999999999999.99999999999999999999", "999999999999999999999999999999", "1e29",
)  # fmt: skip
LITERALS = {
    "number": NUMBERS,
    "text": (
        "''",
        '"a"',
        "'b'",
        '"B"',
        "'é'",
        "'e\\u0301'",
        "'\\U0001F600'",
        "'\\uFFFD'",
        r'r"\n"',
        "'a\\'b'",
        "'pfa.'",
    ),
    "boolean": ("true", "false"),
    "date": ('date("2026-01-31")', 'date("0001-01-01")', 'date("9999-12-31")', 'date("2024-02-29")'),
    "datetime": (
        'datetime("2026-01-31T08:30:00Z")', 'datetime("2026-01-31T08:30:00.000001Z")',
        'datetime("0001-01-01T00:00:00Z")', 'datetime("9999-12-31T23:59:59.999999Z")',
    ),
}  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "number": [Decimal(text) for text in NUMBERS if "x" not in text] + [Decimal("-1"), Decimal("-0.30"), -7, 5, 12],
    "text": ["", "a", "b", "B", "é", "e\u0301", "\U0001f600", "\ufffd", "\\n", "a'b", "pfa.", "x" * 500],
    "boolean": [True, False],
    "date": ["2026-01-31", "0001-01-01", "9999-12-31", "2024-02-29", "2025-06-15"],
    "datetime": [
        "2026-01-31T08:30:00Z",
        "2026-01-31T08:30:00.000Z",
        "2026-01-31T08:30:00.000001Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "2024-02-29T12:00:00.5Z",
    ],
}
ODD = [
    None, [], {}, [1], {"a": 1}, "1", "true", "2026-02-30", "2026-1-1", "2026-02-30T00:00:00Z",
    "2026-01-31T24:00Z", 1, True, Decimal("1.5"), Decimal("1e30"),
    Decimal("-1e300"), Decimal("1e-21"), Decimal("1.000000000000000000000"), 2**53 - 1, 2**53, 10**29, 10**30, 10**100,
    Decimal("3.0"), Decimal("0e5"),
]  # fmt: skip
KINDS = {
    "number": "number", "integer": "number", "text": "text", "enum": "text", "boolean": "boolean", "date": "date",
    "datetime": "datetime",
}  # fmt: skip
FIELDS = {kind: [name for name, of in TYPES.items() if KINDS[of] == kind] for kind in LITERALS}


@st.composite
def expressions(draw: st.DrawFn, kind: str = "boolean", depth: int = 4) -> str:
    """The text of an expression of this kind."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([*LITERALS[kind], *FIELDS[kind] * 3]))

    def inner(of: str) -> str:
        return draw(expressions(of, depth - 1))

    if kind in ("text", "date", "datetime") or draw(st.integers(0, 5)) == 0:
        first, second = inner(kind), "null" if draw(st.integers(0, 4)) == 0 else inner(kind)
        if draw(st.booleans()):
            first, second = second, first
        return f"({inner('boolean')} ? {first} : {second})"
    if kind == "number":
        op = draw(st.sampled_from(["+", "-", "*", "/", "%", "negative"]))
        return f"-{inner('number')}" if op == "negative" else f"({inner('number')} {op} {inner('number')})"
    match draw(st.sampled_from(["logic", "logic", "not", "order", "order", "equal", "equal", "in"])):
        case "logic":
            return f"({inner('boolean')} {draw(st.sampled_from(['&&', '||']))} {inner('boolean')})"
        case "not":
            return f"!{inner('boolean')}"
        case "order":
            of = draw(st.sampled_from(sorted(LITERALS)))
            return f"({inner(of)} {draw(st.sampled_from(['<', '<=', '>', '>=']))} {inner(of)})"
        case "equal":
            of = draw(st.sampled_from(sorted(LITERALS)))
            right = "null" if draw(st.integers(0, 4)) == 0 else inner(of)
            return f"({inner(of)} {draw(st.sampled_from(['==', '!=']))} {right})"
        case _:
            of = draw(st.sampled_from(sorted(LITERALS)))
            return f"({inner(of)} in [{', '.join(draw(st.lists(st.sampled_from(LITERALS[of]), max_size=4)))}])"


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(VALUES[KINDS[kind]]) | st.sampled_from(VALUES[KINDS[kind]]) | st.sampled_from(ODD)
        for name, kind in TYPES.items()
    },
)


@pytest.mark.no_cover
@examples(25)
@given(
    st.lists(expressions(), min_size=10, max_size=30, unique=True),
    st.lists(DOCUMENTS, min_size=3, max_size=10),
)
def test_a_condition_means_the_same_in_python_and_in_postgresql(
    database: psycopg.Connection[Any], texts: list[str], documents: list[dict[str, Any]]
) -> None:
    parsed = [parse(text, TYPES) for text in texts]
    answers = ask(database, [expression.sql(column) for expression in parsed], documents)
    for document, answer in zip(documents, answers, strict=True):
        for expression, found in zip(parsed, answer, strict=True):
            assert judged(expression, document) is found, (expression.text, document)


@pytest.mark.no_cover
@examples(15)
@given(
    st.lists(expressions("number", 4), min_size=10, max_size=20, unique=True),
    st.lists(DOCUMENTS, min_size=3, max_size=10),
)
def test_a_number_is_the_same_to_the_last_digit(
    database: psycopg.Connection[Any], texts: list[str], documents: list[dict[str, Any]]
) -> None:
    checked = [check(read_tree(text), TYPES) for text in texts]
    answers = ask(database, [render(steps, column) for steps in checked], documents)
    for document, answer in zip(documents, answers, strict=True):
        for text, steps, found in zip(texts, checked, answer, strict=True):
            value = evaluate(steps, document)
            assert (None if isinstance(value, Failure) else value) == found, (text, document)
            if isinstance(value, Decimal):
                assert value == 0 or value.adjusted() < steps[-1].whole
                assert decimals(value) <= steps[-1].decimals
