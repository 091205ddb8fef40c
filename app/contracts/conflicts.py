"""Conflicts as data: what sort one is, and how it is shown."""

from enum import StrEnum
from typing import Any

import msgspec

from app.contracts.model import Contract


class ConflictKind(StrEnum):
    """What sort of conflict it is: a cell, an atomic group, or the row of a cell that is merged by it, that three sides
    have otherwise; a row that one side deleted, or that two inserted; a value that another row has; a rule that only
    both sides together break.
    """

    CELL = "cell"
    GROUP = "group"
    ROW = "row"
    ROW_DELETED = "row_deleted"
    ROW_INSERTED = "row_inserted"
    UNIQUE = "unique"
    RULE = "rule"


class ShownConflict(msgspec.Struct, frozen=True, kw_only=True):
    """Where a row is not as it was when it was drafted. `field` null means the whole row; of cells, groups and rows
    there are the three sides, of a unique value the row `other` that has it, of a rule its `message`.
    """

    id: str
    kind: ConflictKind
    field: str | None
    base: Any | msgspec.UnsetType = msgspec.UNSET
    theirs: Any | msgspec.UnsetType = msgspec.UNSET
    mine: Any | msgspec.UnsetType = msgspec.UNSET
    other: str | msgspec.UnsetType = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET


def kind_of(contract: Contract, op: str, field: str | None) -> ConflictKind:
    """What sort of conflict a change of this op has in a field, an atomic group, or (None) the whole row."""
    if field is None:
        return ConflictKind.ROW_DELETED
    if op == "insert":
        return ConflictKind.ROW_INSERTED
    if field in contract.by_name and contract.by_name[field].merge == "row":
        return ConflictKind.ROW
    return ConflictKind.GROUP if any(group.name == field for group in contract.atomic_groups) else ConflictKind.CELL
