"""Records that were sent, as a batch."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from app.contracts import Contract
from app.contracts.keys import NoRowId, row_id
from app.contracts.model import Field
from app.drift.batch import UNREAD, Batch
from app.records.conversion import MisfitError, fields_by_member, reader_of

Records = Sequence[Mapping[str, Any]]

# Texts that every integer, and every number, may have.
WHOLE = re.compile(r"-?\d{1,15}", re.ASCII)
PLAIN = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
MOST_COLUMNS = 400  # that are looked at: twice as many as a contract can have fields


def batch_of(
    contract: Contract, records: Records, *, textual: bool, mapped: Mapping[str, str | None] | None = None
) -> Batch:
    """The records by the members that they have; `textual`: all values are texts, as those of CSV are.

    Of members with more names than MOST_COLUMNS the first ones are looked at.
    `mapped`: field -> the member that it is read from beside its name and label, None where it is read from none.
    """
    columns = _transposed(records)
    if textual:
        columns = {
            name: [value or None for value in values] if "" in values else values for name, values in columns.items()
        }
    known = fields_by_member(contract, mapped or {})
    readers = {field.name: reader_of(field, textual=textual) for field in contract.fields}

    def read(name: str, values: Sequence[Any]) -> list[Any]:
        return _read(contract.by_name[name], readers[name], values, textual=textual)

    return Batch(
        rows=len(records),
        columns=columns,
        fields={name: known[name] for name in columns if name in known},
        expected={
            field.name: (mapped or {}).get(field.name) or field.label or field.name
            for field in contract.fields
            if not field.derived_from and not (mapped and field.name in mapped and mapped[field.name] is None)
        },
        textual=textual,
        read=read,
        plain={field.name: found for field in contract.fields if textual and (found := plain_of(field)) is not None},
    )


def plain_of(field: Field) -> re.Pattern[str] | None:
    """Texts that say a number of the field whatever their digits are; None where it has bounds, or is of another type.

    To read a text as a number, and to hold that against a field, takes ten times as long.
    """
    if field.type not in ("integer", "number") or field.minimum is not None or field.maximum is not None:
        return None
    return PLAIN if field.type == "number" and field.scale is None else WHOLE


def _transposed(records: Records) -> dict[str, Sequence[Any]]:
    """Column by column, in the order in which they come first; None where a record has no such member."""
    layouts = dict.fromkeys(map(tuple, records))
    # PostgreSQL holds no name with NUL: who sends one has it put aside with its record.
    found = dict.fromkeys(name for layout in layouts for name in layout)
    names = dict.fromkeys(islice((name for name in found if "\0" not in name), MOST_COLUMNS))
    if len(layouts) == 1 and len(names) == len(found):
        return dict(zip(names, zip(*(record.values() for record in records), strict=True), strict=True))
    return {name: [record.get(name) for record in records] for name in names}


def _read(field: Field, reader: Any, values: Sequence[Any], *, textual: bool) -> list[Any]:
    """Whole columns that fit at sight are taken as they are."""
    kinds = set(map(type, values))
    if field.type == "text" and kinds == {str} and 4 * max(map(len, values)) <= field.max_length:
        return list(values)
    if not textual and kinds <= {bool} and field.type == "boolean":
        return list(values)
    if kinds == {str}:
        # Each different text once.
        found = {value: _try(reader, value) for value in dict.fromkeys(values)}
        return [found[value] for value in values]
    return [_try(reader, value) for value in values]


def _try(reader: Any, value: Any) -> Any:
    try:
        return reader(value)
    except MisfitError:
        return UNREAD


def with_keys(contract: Contract, batch: Batch) -> Batch:
    """The same with the ids of its rows, None where one has none, or shares its key with others as appended ones do."""
    if contract.appends:
        return msgspec.structs.replace(batch, keys=[None] * batch.rows)
    columns = []
    for name in contract.key_fields:
        column = batch.column_of(name)
        values = [None] * batch.rows if column is None else batch.columns[column]
        there = [value for value in values if value is not None]
        read = iter(batch.read(name, there))
        columns.append([None if value is None else next(read) for value in values])
    keys: list[str | None] = []
    for parts in zip(*columns, strict=True):
        try:
            keys.append(row_id(contract, dict(zip(contract.key_fields, parts, strict=True))))
        except NoRowId:
            keys.append(None)
    return msgspec.structs.replace(batch, keys=keys)
