"""The conflicts of a request: where its base, the rows as they are now, and its cells differ three ways."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from app.base import exact_json
from app.base.errors import Code, Culprit, GroupSplit, ValidationFailed
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.conflicts import kind_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.quotas import doubt

READ_CONFLICTS = statement("change_requests/read_conflicts")
READ_CHANGES = statement("change_requests/read_changes")
GIVE_BACK = statement("change_requests/give_back")

MAX_SHOWN = 1000  # culprits in one answer

Conflict = dict[str, Any]
# Of each row the fields of whole cells, or None for all of the row.
Cells = dict[str, list[str] | None]


def conflicts_of(contract: Contract, key: str, op: str, told: str | None) -> list[Conflict]:
    """The conflicts of a row as a statement tells them, with its id and their kinds."""
    if told is None:
        return []
    found: list[Conflict] = exact_json.decode(told)
    return [{"id": key, "kind": kind_of(contract, op, each["field"]), **each} for each in found]


async def find_conflicts(desk: Desk, request_id: uuid.UUID, keys: Sequence[str] | None = None) -> list[Conflict]:
    """The conflicts of a request's changes under review, in the order of rows and fields."""
    contract = desk.contract
    rows = await desk.rows(
        READ_CONFLICTS,
        request_id=request_id,
        groups=contract.cell_map,
        fields=list(contract.by_name),
        keys=None if keys is None else list(keys),
    )
    return [each for row in rows for each in conflicts_of(contract, row["row_key"], row["op"], row["conflicts"])]


def cells_of(contract: Contract, conflicts: Sequence[Mapping[str, Any]]) -> Cells:
    """The cells that stand in conflict."""
    cells: Cells = {}
    for conflict in conflicts:
        add_cell(contract, cells, conflict["id"], conflict["field"])
    return cells


def add_cell(contract: Contract, cells: Cells, key: str, field: str | None) -> None:
    """One cell more: a field, an atomic group, or None for the row."""
    fields = cells.setdefault(key, [])
    if field is None or fields is None:
        cells[key] = None
    else:
        fields += [name for name in members_of(contract, field) if name not in fields]


def members_of(contract: Contract, field: str) -> list[str]:
    """The fields of a cell: of an atomic group by its name, else the field itself."""
    return next((list(group.fields) for group in contract.atomic_groups if group.name == field), [field])


async def named_cells(desk: Desk, request_id: uuid.UUID, wanted: Sequence[tuple[str, str | None]]) -> Cells:
    """The cells of a request that a person names, (id of the row, field or group or None).

    Raises ValidationFailed for what is none of the request's cells, GroupSplit for a part of an atomic group.
    """
    contract = desk.contract
    named = list({key for key, _ in wanted})
    rows = await desk.rows(READ_CHANGES, request_id=request_id, keys=named)
    deltas = {row["row_key"]: (row["op"], row["delta"]) for row in rows}
    cells: Cells = {}
    wrong = []
    for key, field in wanted:
        op, delta = deltas.get(key, ("", {}))
        members = [] if field is None else members_of(contract, field)
        if not op or (field is not None and (op == "delete" or delta.keys().isdisjoint(members))):
            message = "This is no cell of the change request."
            wrong.append(Culprit(id=key[:200], field=field and field[:200], code=Code.CELL_NOT_FOUND, message=message))
        else:
            add_cell(contract, cells, key, field)
    if wrong:
        raise ValidationFailed(f"{len(wrong)} of the cells are none of the change request's.", errors=wrong[:MAX_SHOWN])
    for key, fields in cells.items():
        _check_groups(contract, key, fields, deltas[key][1])
    return cells


def _check_groups(contract: Contract, key: str, fields: list[str] | None, delta: Mapping[str, Any]) -> None:
    if fields is None:
        return
    for group in contract.atomic_groups:
        changed = [name for name in group.fields if name in delta]
        if set(changed) & set(fields) and not set(changed) <= set(fields):
            raise GroupSplit(
                f"The fields {', '.join(group.fields)} are merged together or not at all.",
                fields=list(group.fields),
                errors=[
                    Culprit(id=key, field=name, code=Code.CELL_NOT_FOUND, message=f"It belongs to {group.name}.")
                    for name in changed
                    if name not in fields
                ],
            )


async def give_back(
    desk: Desk,
    request_id: uuid.UUID,
    author: str,
    cells: Cells | None,
    *,
    session: str | None,
    version: int,
    at: Any,
) -> list[str]:
    """Cells of a request, or all of it, are drafts of its author again; returns the keys, which are to be folded and
    imaged. Under the request's lock, 2 and 4.
    """
    await doubt(desk, [author])
    rows = await desk.rows(
        GIVE_BACK,
        user=author,
        request_id=request_id,
        cells=cells,
        session=session,
        version=version,
        at=at,
        groups=desk.contract.cell_map,
    )
    keys = [row["row_key"] for row in rows]
    tell_rows(desk, EventType.OVERLAP, keys, at, actor=author)
    return keys
