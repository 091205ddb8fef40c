"""What the rules of a contract say of changes: each row by itself, and its values among all rows."""

from collections.abc import Sequence
from typing import NamedTuple

from app.contracts.findings import Finding
from app.contracts.rules import Document, check_change, unique_rules
from app.engine.desk import Desk
from app.engine.locks import hold_unique_values
from app.engine.uniqueness import Cell, find_duplicates


class Changed(NamedTuple):
    """A row before and after; None stands for no row."""

    id: str
    before: Document | None
    after: Document | None


class Found(NamedTuple):
    """A finding about row `id`; `other`: the row that has its value."""

    id: str
    finding: Finding
    other: str | None = None


async def check_changes(desk: Desk, changed: Sequence[Changed]) -> list[Found]:
    """What changes break that were written just now, and whose transaction locks nothing else afterwards.

    Takes lock 6 where one of them has a value that has to be unique.
    """
    found = [
        Found(key, finding)
        for key, before, after in changed
        for finding in check_change(desk.contract, key, before, after)
    ]
    if wanted := _wanted(desk, changed):
        await hold_unique_values(desk)
        duplicates = await find_duplicates(desk, None, wanted)
        found += [Found(cell.id, finding, other) for cell, other, finding in duplicates]
    return found


def _wanted(desk: Desk, changed: Sequence[Changed]) -> list[Cell]:
    """The cells that have to be unique, as far as the changes touch them."""
    return [
        Cell(key, rule.field, value)
        for rule in unique_rules(desk.contract)
        for key, before, after in changed
        if after is not None
        and (value := after.get(rule.field)) is not None
        and (before is None or before.get(rule.field) != value)
    ]
