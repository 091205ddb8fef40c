"""Unique values: whether another row has one, or is about to get it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from app.base.statements import Statement, statement
from app.contracts import Contract
from app.contracts.findings import Finding
from app.contracts.rule_types import Unique
from app.contracts.rules import unique_rules
from app.engine.desk import Desk

FIND_DUPLICATES = statement("uniqueness/find_duplicates")


class Cell(NamedTuple):
    """A value that row `id` wants to have."""

    id: str
    field: str
    value: Any


class Duplicate(NamedTuple):
    """A cell whose value row `other` has."""

    cell: Cell
    other: str
    finding: Finding


async def find_duplicates(
    desk: Desk, user: str | None, wanted: Iterable[Cell], session_id: str | None = None
) -> list[Duplicate]:
    """Which of these values another row has in the user's view, or is about to get from anybody. With a session, that
    view has no drafts but those of the session.

    Without locks it is advice. A commit asks under lock 6, once its changes are written, and without a user, so that no
    drafts count. A row can come once for each field; fields that need not be unique are passed over. A statement for
    each field, and a few index lookups for each cell.
    """
    cells: dict[str, dict[str, Cell]] = defaultdict(dict)
    for cell in wanted:
        cells[cell.field][cell.id] = cell
    found = []
    for rule in unique_rules(desk.contract):
        if of_field := cells[rule.field]:
            asked = [{"id": cell.id, rule.field: cell.value} for cell in of_field.values()]
            records = await desk.rows(
                find_duplicates_of(desk.contract, rule), user=user, cells=asked, session_id=session_id
            )
            found += [
                _duplicate(desk.contract, rule, of_field[record["row_key"]], record["other"]) for record in records
            ]
    return found


def find_duplicates_of(contract: Contract, rule: Unique) -> Statement:
    """The statement for the field of the rule."""
    column = contract.column_of[rule.field].name
    return FIND_DUPLICATES.fill(
        given=contract.comparable(rule.field, "item.cell"),
        mirrored=f"f_{column}",
        now=contract.comparable(rule.field, "now.document"),
        changed=contract.comparable(rule.field, "c.delta"),
        otherwise=f"x.a_{column} IS DISTINCT FROM x.b_{column} AND x.a_{column} IS DISTINCT FROM w.value",
        landed=f"a_{column}",
    )


def _duplicate(contract: Contract, rule: Unique, cell: Cell, other: str) -> Duplicate:
    finding = Finding(
        field=rule.field,
        severity=rule.severity,
        code=rule.code,
        message=f"{rule.message} (row {other})" if rule.message else f"Row {other} has this {rule.field}.",
        rule_id=rule.id,
        contract_version=contract.version,
    )
    return Duplicate(cell, other, finding)
