"""The steps of an expression on a document, one after the other. A failure is a value, which `&&` and `||` absorb."""

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

from app.contracts.expressions.checking import LOGIC, MAX_RESULT, NOUNS, QUOTIENT_DECIMALS, Step
from app.contracts.values import read_value

# Room for every result, and for the whole part of every quotient: nothing is rounded but what is rounded on purpose.
EXACT = Context(prec=3 * MAX_RESULT, rounding=ROUND_HALF_UP, Emin=MIN_EMIN, Emax=MAX_EMAX)
LAST_DECIMAL = Decimal(1).scaleb(-QUOTIENT_DECIMALS)


class EvaluationError(Exception):
    """An expression is neither true nor false for a document, and why: line and column count from 1."""


# The value of a step that depends on the document.
UNKNOWN: Any = object()


class Failure(NamedTuple):
    """The value of a step that has none."""

    step: Step
    reason: str


def judge(steps: Sequence[Step], document: Mapping[str, Any]) -> bool:
    """Whether the document fulfils the condition; raises EvaluationError where it fails or is null."""
    result = _present(steps[-1], evaluate(steps, document))
    if isinstance(result, Failure):
        raise EvaluationError(f"Line {result.step.line}, column {result.step.column}: {result.reason}")
    return bool(result)


def evaluate(steps: Sequence[Step], document: Mapping[str, Any]) -> Any:
    """The value of the last step: str, Decimal, bool, datetime.date, an aware datetime.datetime, None or a Failure."""
    values: list[Any] = []
    for step in steps:
        values.append(_value(step, [values[number] for number in step.operands], document))
    return values[-1]


def foresee(steps: Sequence[Step]) -> list[Any]:
    """The value of each step as far as it is the same for every document, else UNKNOWN."""
    values: list[Any] = []
    for step in steps:
        values.append(_foreseen(step, [values[number] for number in step.operands]))
    return values


def _foreseen(step: Step, operands: Sequence[Any]) -> Any:
    if step.op == "field":
        return UNKNOWN
    if step.op == "?" and operands[0] is not UNKNOWN:
        return _choice(step, operands)
    if all(value is not UNKNOWN for value in operands):
        return _value(step, operands, {})
    if step.op in LOGIC:
        decisive = step.op == "||"
        return decisive if any(value is decisive for value in operands) else UNKNOWN
    failures = (value for value in operands if isinstance(value, Failure))
    return UNKNOWN if step.op == "?" else next(failures, UNKNOWN)


def _value(step: Step, operands: Sequence[Any], document: Mapping[str, Any]) -> Any:
    if step.op == "literal":
        return step.value
    if step.type is not None:
        return read_value(step.type, document.get(step.value))
    if step.op in ABSORBING:
        return ABSORBING[step.op](step, operands)
    for value in operands:
        if isinstance(value, Failure):
            return value
    if step.op in NULL_SAFE:
        return NULL_SAFE[step.op](*operands)
    if step.op == "in":
        return operands[0] in step.value
    if None in operands:
        return Failure(step, f"{_sign(step)} does not apply to null.")
    if step.op in DIVIDING and operands[1] == 0:
        return Failure(step, "division by zero.")
    return STRICT[step.op](*operands)


def _choice(step: Step, operands: Sequence[Any]) -> Any:
    condition = _present(step, operands[0])
    return condition if isinstance(condition, Failure) else operands[1 if condition else 2]


def _absorb(step: Step, operands: Sequence[Any]) -> Any:
    """false decides a conjunction and true a disjunction, whatever the other side is."""
    decisive = step.op == "||"
    if any(value is decisive for value in operands):
        return decisive
    present = [_present(step, value) for value in operands]
    return next((value for value in present if isinstance(value, Failure)), not decisive)


def _present(step: Step, value: Any) -> Any:
    return Failure(step, f"null is not {NOUNS['boolean']}.") if value is None else value


def _sign(step: Step) -> str:
    return "-" if step.op == "negative" else step.op


def _quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    """Rounded half away from zero: one digit more, cut off, decides."""
    longer = EXACT.divide_int(EXACT.scaleb(dividend, QUOTIENT_DECIMALS + 1), divisor)
    return EXACT.quantize(EXACT.scaleb(longer, -QUOTIENT_DECIMALS - 1), LAST_DECIMAL)


ABSORBING: dict[str, Callable[[Step, Sequence[Any]], Any]] = {"&&": _absorb, "||": _absorb, "?": _choice}
NULL_SAFE: dict[str, Callable[..., Any]] = {"==": operator.eq, "!=": operator.ne}
DIVIDING = {"/", "%"}
# These take no null.
STRICT: dict[str, Callable[..., Any]] = {
    "!": operator.not_,
    "negative": EXACT.minus,
    "+": EXACT.add,
    "-": EXACT.subtract,
    "*": EXACT.multiply,
    "/": _quotient,
    "%": EXACT.remainder,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
