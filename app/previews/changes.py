"""What a session's drafts come to, row by row: the cells that differ from theirs, conflicts, and overlaps."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal

import msgspec
from asyncpg import Record

from app.base import exact_json
from app.base.statements import statement
from app.contracts.rules import unruled_fields
from app.engine.desk import Desk

READ_CHANGES = statement("previews/read_changes")

BATCH = 500  # rows: some milliseconds, in which nobody else gets a turn


class Change(msgspec.Struct, frozen=True):
    """What a row's draft comes to. `cells` that differ are (field, old, new); `row` is the one that is deleted.

    `drafted` is the draft's own op. `before` has the fields of theirs that rules look at, None where none has to.
    `gone`: the row to be updated is not there any more.
    """

    key: str
    drafted: Literal["insert", "update", "delete"]
    op: Literal["insert", "update", "delete"]
    gone: bool
    cells: list[tuple[str, Any, Any]]
    row: dict[str, Any] | None
    before: dict[str, Any] | None
    conflicts: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]

    @property
    def differs(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.cells) or self.op != "update"

    @property
    def diffs(self) -> list["Diff"]:
        """The differences, by field."""
        if self.op == "delete":
            return [Diff(id=self.key, field=None, old=self.row, new=None)]
        return [Diff(id=self.key, field=field, old=old, new=new) for field, old, new in self.cells]


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """One cell, as theirs has it now and as the draft wants it; `field` null is a row that is deleted."""

    id: str
    field: str | None
    old: Any
    new: Any


def change_of(record: Record) -> Change:
    """A row as `previews/read_changes` tells it."""
    return Change(
        record["row_key"],
        record["drafted"],
        record["op"],
        record["gone"],
        _decoded(record["cells"], []),
        _decoded(record["theirs"], None),
        _decoded(record["before"], None),
        _decoded(record["conflicts"], []),
        _decoded(record["overlaps"], []),
    )


def _decoded(text: str | None, nothing: Any) -> Any:
    return nothing if text is None else exact_json.decode(text)


def read_changes(desk: Desk, user: str, session_id: str, from_key: str = "") -> AsyncGenerator[Sequence[Record], None]:
    """What the session's drafts come to, in batches of records and in the order of their rows; in a transaction."""
    contract = desk.contract
    return desk.batches(
        READ_CHANGES,
        BATCH,
        user=user,
        session_id=session_id,
        from_key=from_key,
        groups=contract.cell_map,
        ruled_fields=sorted(contract.ruled),
        unruled_fields=unruled_fields(contract),
        upstream_only=list(contract.upstream_only),
        initial=contract.initial,
        most=None,
    )
