"""What came: a batch of rows, column by column, by the names that they have where they come from."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from app.contracts import Contract

Read = Callable[[str, Sequence[Any]], list[Any]]


class Unread:
    """In place of a value that is none of its field's."""


UNREAD = Unread()


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """So many `rows`, transposed: `columns` has a value for each of them, None where there is nothing. `keys`: the ids
    of the rows, None of one that has none; empty before they are asked for.

    `fields`: column -> the field that it is read as. `textual`: all values are texts. `read` takes a field's name and
    values of any column, none of them None, and returns what they are as values of that field, UNREAD where they are
    none. `expected`: field -> what its column is called, of those that have one. `plain`: field -> texts that are
    values of it at sight; others may be, too.
    """

    rows: int
    columns: Mapping[str, Sequence[Any]]
    fields: Mapping[str, str]
    expected: Mapping[str, str]
    textual: bool
    read: Read
    keys: Sequence[str | None] = ()
    plain: Mapping[str, re.Pattern[str]] = {}

    def column_of(self, field: str) -> str | None:
        """The column that a field is read from, None where none came."""
        return next((column for column, name in self.fields.items() if name == field and column in self.columns), None)


class Known(NamedTuple):
    """What is there: rows of the batch's keys, and some others of the dataset, as documents."""

    by_key: Mapping[str, Mapping[str, Any]] = {}
    others: Sequence[Mapping[str, Any]] = ()

    def values(self, field: str) -> list[Any]:
        """What the field has in all of these, less nothing."""
        documents = (*self.by_key.values(), *self.others)
        return [value for document in documents if (value := document.get(field)) is not None]


def of_contract(contract: Contract) -> list[str]:
    """The fields that are read, in their order: not what is derived of others."""
    return [field.name for field in contract.fields if not field.derived_from]
