"""Expressions that make a value of a row: what a computed column has."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from app.contracts.expressions.checking import KINDS, NOUNS, Step, check
from app.contracts.expressions.evaluation import Failure, evaluate
from app.contracts.expressions.grammar import ExpressionError, read_tree
from app.contracts.expressions.rendering import render
from app.contracts.values import MAX_DECIMALS, MAX_DIGITS, MAX_INTEGER

if TYPE_CHECKING:
    from app.contracts.model import FieldType

# A text that a B-tree takes. A number that filters and cursors read: two fields, multiplied.
MAX_BYTES = 500
MAX_WHOLE = 2 * MAX_DIGITS
MAX_FRACTION = 2 * MAX_DECIMALS


class Formula(msgspec.Struct, frozen=True, kw_only=True):
    """A value of `type` for each row; `fields` are those that it reads, each once, in the order of the text."""

    text: str
    type: "FieldType"
    fields: tuple[str, ...]
    steps: tuple[Step, ...]

    def value(self, document: Mapping[str, Any]) -> Any:
        """The document's value: str, Decimal, bool, date or an aware datetime. None also where it fails, and for what
        is too long: a text above 500 bytes, an integer that not every client can hold.
        """
        found = evaluate(self.steps, document)
        match found:
            case Failure():
                return None
            case str():
                return found if len(found.encode()) <= MAX_BYTES else None
            case Decimal() if self.type == "integer":
                return found if abs(found) <= MAX_INTEGER else None
        return found

    def sql(self, column: Callable[[str], str]) -> str:
        """The same as SQL, which never raises; `column(name)` yields SQL of the field's typed value."""
        value = render(self.steps, column)
        match self.type:
            case "text":
                return f"CASE WHEN octet_length({value}) <= {MAX_BYTES} THEN {value} END"
            case "integer":
                return f"CASE WHEN abs({value}) <= {MAX_INTEGER} THEN ({value})::bigint END"
        return value


def parse_formula(text: str, types: "Mapping[str, FieldType]", kind: "FieldType") -> Formula:
    """The expression of a column of this type; raises ExpressionError that says what is wrong and where."""
    steps = check(read_tree(text), types)
    fields = tuple(dict.fromkeys(step.value for step in steps if step.op == "field"))
    if reason := _misfit(steps[-1], kind, fields):
        raise ExpressionError(reason, steps[-1].line, steps[-1].column)
    return Formula(text=text, type=kind, fields=fields, steps=steps)


def _misfit(result: Step, kind: "FieldType", fields: tuple[str, ...]) -> str | None:
    if kind == "enum":
        return "an expression makes no enum; its type is text."
    if result.kind != KINDS[kind]:
        return f"the column is {NOUNS[KINDS[kind]]}, and this is {NOUNS[result.kind]}."
    if kind == "integer" and result.decimals:
        return "an integer has no digits behind the point, and this may have some."
    if result.whole > MAX_WHOLE or result.decimals > MAX_FRACTION:
        return f"a column has at most {MAX_WHOLE} digits before the point and {MAX_FRACTION} behind it."
    return None if fields else "it looks at no field."
