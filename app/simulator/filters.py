"""A grid's filters: what they say, and which lines pass."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from operator import attrgetter, eq, ge, le
from typing import Any

import msgspec

from app.simulator.lines import Column, Line, Value
from app.simulator.store import Unusable
from app.simulator.writing import FLAGS, Writing, read_date, read_number, read_time

Passes = Callable[[Line], bool]
Token = Any  # a Condition, or one of ( ) AND OR

MOST_FILTERS = 50
COMPARE: dict[str, Callable[[Any, Any], bool]] = {"=": eq, ">=": ge, "<=": le}
OTHER = "<>"  # of dataspies only
TRUE = (True, "true", "TRUE", "+", "Y")


class Filter(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """One condition, as it comes. The joiner stands between it and the next one."""

    alias_name: str
    operator: str
    value: Any = None
    joiner: str | None = None
    seqnum: int | None = None
    lparen: Any = None
    rparen: Any = None


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition, checked. The operator is one of those that filters have, or OTHER."""

    column: Column
    operator: str
    value: Value

    def holds(self, held: Any) -> bool:
        """Whether it is true of a field's value."""
        if self.operator == OTHER:
            return bool(held != self.value)
        if self.value is None or held is None:
            return held is self.value
        if self.operator == "BEGINS":
            return str(held).startswith(str(self.value))
        return COMPARE[self.operator](held, self.value)

    def passes(self) -> Passes:
        """The condition as a function of lines, fast enough for a million."""
        value, get, compare = self.value, attrgetter(self.column.name), COMPARE.get(self.operator)
        if value is None or compare is None:
            return lambda line: self.holds(get(line))
        return lambda line: (held := get(line)) is not None and compare(held, value)


def read_filters(filters: Sequence[Filter], writing: Writing, known: Mapping[str, Column]) -> list[Token]:
    """Conditions on known columns, by alias; parentheses and joiners, in the order of reading. Raises Unusable."""
    if len(filters) > MOST_FILTERS:
        raise Unusable(f"{len(filters)} is not a valid number of filters: at most {MOST_FILTERS}")
    tokens: list[Token] = []
    for each in sorted(filters, key=lambda each: each.seqnum or 0):
        tokens += ["("] * (each.lparen in TRUE) + [_condition(each, writing, known)] + [")"] * (each.rparen in TRUE)
        joiner = (each.joiner or "AND").upper()
        if joiner not in ("AND", "OR"):
            raise Unusable(f"{joiner} is not a valid joiner")
        tokens.append(joiner)
    return tokens[:-1]


def read_expression(tokens: Sequence[Token]) -> Passes:
    """Tokens as one function of lines; AND binds tighter. Raises Unusable."""
    rest = list(reversed(tokens))
    passes = _either(rest)
    if rest:
        raise Unusable("A parenthesis of the filters is not a valid one")
    return passes


def read_value(column: Column, value: Any, writing: Writing) -> Value:
    """A filter's value in the column's type; None is empty. Raises Unusable."""
    if not isinstance(value, str | int | Decimal | None):
        raise Unusable(f"A list or an object is not a valid value of {column.alias}")
    text = str(value).strip() if value is not None else ""
    if not text:
        return None
    try:
        if column.kind == "number":
            return read_number(text, writing.numbers if isinstance(value, str) else "plain")
        if column.kind == "flag":
            return FLAGS[text.upper()]
        if column.kind == "date":
            return read_date(text, writing.dates)
        if column.kind == "time":
            return read_time(text, writing)
    except (ValueError, KeyError, InvalidOperation):
        raise Unusable(f"{text[:80]} is not a valid {column.kind}") from None
    return text


def _condition(each: Filter, writing: Writing, known: Mapping[str, Column]) -> Condition:
    column = known.get(each.alias_name)
    if column is None:
        raise Unusable(f"{each.alias_name[:80]} is not a valid alias")
    operator = each.operator.upper()
    if operator not in COMPARE and (operator != "BEGINS" or column.kind not in ("key", "text")):
        raise Unusable(f"{each.operator[:80]} is not a valid operator of {column.alias}")
    value = read_value(column, each.value, writing)
    if value is None and operator != "=":
        raise Unusable(f"Nothing is not a valid value of {column.alias} {operator}")
    return Condition(column=column, operator=operator, value=value)


def _either(rest: list[Token]) -> Passes:
    terms = [_both(rest)]
    while rest and rest[-1] == "OR":
        rest.pop()
        terms.append(_both(rest))
    return terms[0] if len(terms) == 1 else lambda line: any(term(line) for term in terms)


def _both(rest: list[Token]) -> Passes:
    terms = [_one(rest)]
    while rest and rest[-1] == "AND":
        rest.pop()
        terms.append(_one(rest))
    return terms[0] if len(terms) == 1 else lambda line: all(term(line) for term in terms)


def _one(rest: list[Token]) -> Passes:
    first = rest.pop() if rest else None
    if isinstance(first, Condition):
        return first.passes()
    passes = _either(rest) if first == "(" else None
    if passes is None or not rest or rest.pop() != ")":
        raise Unusable("A parenthesis of the filters is not a valid one")
    return passes
