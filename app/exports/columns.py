"""The columns of a file."""

import msgspec

from app.contracts import Contract
from app.contracts.columns import columns_of
from app.contracts.filters import Listing
from app.contracts.shape import FieldType
from app.engine.export import cells_of


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column: `name` on the wire, `label` for people; `type` of its values, None where they can be of any."""

    name: str
    label: str
    type: FieldType | None = None


def exported(contract: Contract, listing: Listing) -> tuple[Column, ...]:
    """The columns of a listing's rows."""
    shown = {column.name: column for column in columns_of(contract)}
    found = [shown[cell.name] for cell in cells_of(contract, listing)]
    return tuple(Column(name=each.name, label=each.label, type=each.type) for each in found)
