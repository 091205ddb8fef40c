"""Conditions of a listing as SQL: contract-checked columns, and parameters that are placed.

Nothing of what a caller wrote becomes SQL text: field names and operators were looked up, values become parameters.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from app.contracts.filters import LISTS, OPERATORS, Condition, field_type
from app.contracts.model import SQL_TYPES, Contract


class Arguments:
    """The arguments of a composed statement; `add` answers with the placeholder."""

    def __init__(self, *fixed: Any):
        self.values: list[Any] = list(fixed)

    def add(self, value: Any, sql_type: str) -> str:
        """`$n::type` for the value."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


class Predicate(msgspec.Struct, frozen=True):
    """A condition whose parameter is placed, still open in its column: the arms of a page name it differently."""

    field: str
    template: str

    def on(self, column: Callable[[str], str]) -> str:
        """SQL over the column that an arm has for the field."""
        return self.template.replace("{c}", column(self.field))


def place(contract: Contract, conditions: Iterable[Condition], arguments: Arguments) -> list[Predicate]:
    """Give each condition its parameter."""
    placed = []
    for condition in conditions:
        kind = field_type(contract, condition.field)
        assert kind is not None, "conditions are checked when they are read"
        sql_type = "boolean" if condition.op == "isnull" else SQL_TYPES[kind]
        parameter = arguments.add(condition.value, f"{sql_type}[]" if condition.op in LISTS else sql_type)
        placed.append(Predicate(condition.field, OPERATORS[condition.op].replace("{p}", parameter)))
    return placed
