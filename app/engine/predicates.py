"""Conditions of a listing as SQL: contract-checked columns, and parameters that are placed.

Nothing of what a caller wrote becomes SQL text: field names and operators were looked up, values become parameters.
"""

from typing import Any

import msgspec

from app.contracts.filters import LISTS, OPERATORS, Listing, field_type
from app.contracts.model import SQL_TYPES, Contract


class Arguments:
    """The arguments of a composed statement; `add` answers with the placeholder."""

    def __init__(self, *fixed: Any):
        self.values: list[Any] = list(fixed)

    def add(self, value: Any, sql_type: str) -> str:
        """`$n::type` for the value."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


class Image(msgspec.Struct, frozen=True):
    """Where a relation has the fields of a row: its key, a column `prefix...` for each indexed field, the document for
    any other; and the text that is searched.
    """

    contract: Contract
    prefix: str
    key: str
    document: str
    search: str

    def column(self, name: str) -> str:
        """SQL that yields the field."""
        if name == "id":
            return self.key
        column = self.contract.column_of.get(name)
        return f"{self.prefix}{column.name}" if column else self.contract.reader(name, self.document)


class Predicate(msgspec.Struct, frozen=True):
    """A condition whose parameter is placed, still open in its column: each image names it differently."""

    field: str
    template: str

    def on(self, image: Image) -> str:
        """SQL over the column that the image has for the field."""
        return self.template.replace("{c}", image.column(self.field))


class Filters(msgspec.Struct, frozen=True):
    """A listing's filters: its conditions, and the pattern that it searches for."""

    predicates: tuple[Predicate, ...]
    pattern: str | None

    def on(self, image: Image) -> list[str]:
        """SQL over the columns of the image."""
        found = [predicate.on(image) for predicate in self.predicates]
        return [*found, f"{image.search} LIKE {self.pattern}"] if self.pattern else found


def place(contract: Contract, listing: Listing, arguments: Arguments) -> Filters:
    """Give each filter of the listing its parameter."""
    placed = []
    for condition in listing.conditions:
        kind = field_type(contract, condition.field)
        assert kind is not None, "conditions are checked when they are read"
        sql_type = "boolean" if condition.op == "isnull" else SQL_TYPES[kind]
        parameter = arguments.add(condition.value, f"{sql_type}[]" if condition.op in LISTS else sql_type)
        placed.append(Predicate(condition.field, OPERATORS[condition.op].replace("{p}", parameter)))
    pattern = None
    if listing.search is not None:
        pattern = f"vanguard.search_pattern({arguments.add(listing.search, 'text')})"
    return Filters(tuple(placed), pattern)
