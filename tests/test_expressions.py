"""The expression language: what it means, and that it means the same in Python and in PostgreSQL."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import Contract
from app.contracts.expressions import EvaluationError, Expression, parse
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
}
VALUES: dict[str, list[Any]] = {
    "number": [Decimal(text) for text in NUMBERS if "x" not in text] + [Decimal("-1"), Decimal("-0.30"), -7, 5, 12],
    "text": ["", "a", "b", "B", "é", "e\u0301", "\U0001f600", "\ufffd", "\\n", "a'b", "pfa.", "x" * 500],
    "boolean": [True, False],
    "date": ["2026-01-31", "0001-01-01", "9999-12-31", "2024-02-29", "2025-06-15"],
}
ODD = [
    None, [], {}, [1], {"a": 1}, "1", "true", "2026-02-30", "2026-1-1", 1, True, Decimal("1.5"), Decimal("1e30"),
    Decimal("-1e300"), Decimal("1e-21"), Decimal("1.000000000000000000000"), 2**53 - 1, 2**53, 10**29, 10**30, 10**100,
    Decimal("3.0"), Decimal("0e5"),
]  # fmt: skip
KINDS = {"number": "number", "integer": "number", "text": "text", "enum": "text", "boolean": "boolean", "date": "date"}
FIELDS = {kind: [name for name, of in TYPES.items() if KINDS[of] == kind] for kind in LITERALS}


@st.composite
def expressions(draw: st.DrawFn, kind: str = "boolean", depth: int = 4) -> str:
    """The text of an expression of this kind."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([*LITERALS[kind], *FIELDS[kind] * 3]))

    def inner(of: str) -> str:
        return draw(expressions(of, depth - 1))

    if kind in ("text", "date") or draw(st.integers(0, 5)) == 0:
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
