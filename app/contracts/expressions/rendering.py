"""The steps of an expression as SQL. A failure is NULL, which AND, OR, NOT and CASE absorb as their like in Python do.

A null is NULL, too. Where it is a value, for `==`, `!=` and `in`, an operand that could be either is *boxed*: an array
of its value, so that ARRAY[NULL] is null, and NULL a failure. PostgreSQL takes two such arrays for equal.

Nothing raises. Divisors are never zero, numbers never too long (see `checking`), and an operand stands once in what it
is an operand of, so that the SQL is never more than some times as long as the text.

What is the same for every row is its value in the SQL. It has to be: PostgreSQL would compute it while it makes a
generated column, before it has found out by which collation texts compare there, and refuse.
"""

import datetime
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from app.contracts.expressions.checking import EQUALITY, QUOTIENT_DECIMALS, Step
from app.contracts.expressions.evaluation import UNKNOWN, Failure, foresee

SQL_KINDS = {"text": "text", "number": "numeric", "boolean": "boolean", "date": "date", "datetime": "timestamptz"}
OPERATORS = {"&&": "AND", "||": "OR"}
EQUAL = {"==": ("IS NOT DISTINCT FROM", "="), "!=": ("IS DISTINCT FROM", "<>")}


def render(steps: Sequence[Step], column: Callable[[str], str]) -> str:
    """SQL of the last step; `column` yields that of a field."""
    plain: list[str] = []
    boxed: list[str] = []
    foreseen = foresee(steps)
    for step, value in zip(steps, foreseen, strict=True):
        if value is not UNKNOWN:
            plain.append(_literal(None if isinstance(value, Failure) else value, step.kind))
            boxed.append(f"NULL::{SQL_KINDS[step.kind]}[]" if isinstance(value, Failure) else f"ARRAY[{plain[-1]}]")
            continue
        if step.op == "?" and foreseen[step.operands[0]] is not UNKNOWN:
            chosen = step.operands[1 if foreseen[step.operands[0]] else 2]
            plain.append(plain[chosen])
            boxed.append(boxed[chosen])
            continue
        operands = [steps[number] for number in step.operands]
        texts = [plain[number] for number in step.operands]
        boxes = [boxed[number] for number in step.operands]
        plain.append(_plain(step, operands, texts, boxes, column))
        boxed.append(_boxed(step, plain[-1], texts, boxes))
    return plain[-1]


def _plain(
    step: Step, operands: Sequence[Step], texts: Sequence[str], boxes: Sequence[str], column: Callable[[str], str]
) -> str:
    """The value: NULL for null and for a failure."""
    match step.op:
        case "literal":
            return _literal(step.value, step.kind)
        case "field":
            return _typed(column(step.value), step)
        case "?":
            return _choice(texts[0], texts[1], texts[2])
        case "!":
            return f"(NOT {texts[0]})"
        case "negative":
            return f"(- {texts[0]})"
        case "/":
            # The quotient with one digit more, cut off, and rounded by this digit: div() alone is exact.
            return (
                f"round(div({texts[0]} * 1e{QUOTIENT_DECIMALS + 1}, nullif({texts[1]}, 0)) "
                f"* 1e-{QUOTIENT_DECIMALS + 1}, {QUOTIENT_DECIMALS})"
            )
        case "%":
            return f"({texts[0]} % nullif({texts[1]}, 0))"
        case "in":
            return _within(operands[0], texts[0], boxes[0], step.value)
    if step.op in EQUALITY:
        return _equality(step.op, operands, texts, boxes)
    return f"({texts[0]} {OPERATORS.get(step.op, step.op)} {texts[1]})"


def _equality(op: str, operands: Sequence[Step], texts: Sequence[str], boxes: Sequence[str]) -> str:
    null_safe, strict = EQUAL[op]
    if not any(operand.fallible for operand in operands):
        return f"({texts[0]} {null_safe} {texts[1]})"
    if not any(operand.nullable for operand in operands):
        return f"({texts[0]} {strict} {texts[1]})"
    return f"({boxes[0]} {strict} {boxes[1]})"


def _within(operand: Step, text: str, box: str, values: Sequence[Any]) -> str:
    """A list has no null in it, and contains none."""
    array = f"ARRAY[{', '.join(_literal(value, operand.kind) for value in values)}]::{SQL_KINDS[operand.kind]}[]"
    return f"({box} <@ {array})" if operand.fallible else f"coalesce({text} = ANY ({array}), FALSE)"


def _boxed(step: Step, text: str, texts: Sequence[str], boxes: Sequence[str]) -> str:
    """The value in an array: ARRAY[NULL] for null, NULL for a failure."""
    if step.op == "?":
        return _choice(texts[0], boxes[1], boxes[2])
    array = f"ARRAY[{text}]"
    return f"nullif({array}, ARRAY[NULL]::{SQL_KINDS[step.kind]}[])" if step.fallible else array


def _choice(condition: str, first: str, second: str) -> str:
    return f"(CASE {condition} WHEN TRUE THEN {first} WHEN FALSE THEN {second} END)"


def _typed(text: str, step: Step) -> str:
    match step.kind:
        case "text":
            return f'({text} COLLATE "C")'
        case "number" if step.type == "integer":  # sums of bigint could overflow
            return f"({text})::numeric"
    return f"({text})"


def _literal(value: Any, kind: str) -> str:
    match value:
        case None:
            return f"NULL::{SQL_KINDS[kind]}"
        case bool():
            return "TRUE" if value else "FALSE"
        case Decimal():
            return f"({value:f})::numeric"
        case datetime.datetime():
            seconds = Decimal(value.second) + Decimal(value.microsecond).scaleb(-6)
            parts = f"{value.year}, {value.month}, {value.day}, {value.hour}, {value.minute}, {seconds}"
            return f"(make_timestamp({parts}) AT TIME ZONE 'UTC')"
        case datetime.date():
            return f"make_date({value.year}, {value.month}, {value.day})"
    return f"(E'{''.join(map(_quoted, value))}' COLLATE \"C\")"


def _quoted(character: str) -> str:
    """By its number, but for letters and digits: what quotes, ends, marks or qualifies anything is never in the SQL."""
    if character.isascii() and (character.isalnum() or character == " "):
        return character
    return f"\\U{ord(character):08X}"
