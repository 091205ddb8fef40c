"""A look at a session's drafts, row by row: what differs from theirs, what conflicts, what others have on their way."""

from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
from asyncpg import Record

from app.base import exact_json
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.findings import Finding
from app.contracts.rules import unruled_fields
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.previews.digest import Digest, told_findings, told_overlaps
from app.previews.findings import Findings, cell_findings, refused_findings, row_findings

READ_CHANGES = statement("previews/read_changes")
READ_REFUSED = statement("previews/read_refused")

BATCH = 500  # rows: some milliseconds, in which nobody else gets a turn
MAX_SHOWN = 1000  # conflicts and overlaps in one answer


class Change(msgspec.Struct, frozen=True):
    """What a row's draft comes to. `cells` are (field, old, new); `row` is the one that is deleted, `before` the fields
    of theirs that rules look at, None where none has to; `gone`: the row that is updated is not there any more.
    """

    key: str
    op: Literal["insert", "update", "delete"]
    gone: bool
    unchecked: bool
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


class Summary(msgspec.Struct, kw_only=True, rename="camel"):
    """How much changes. A row that is deleted has no cells."""

    rows_changed: int = 0
    rows_added: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    cells_changed: int = 0

    @property
    def diffs(self) -> int:
        """How many differences these are."""
        return self.cells_changed + self.rows_deleted

    def count(self, change: Change) -> None:
        """One row more."""
        self.rows_changed += 1
        self.rows_added += change.op == "insert"
        self.rows_updated += change.op == "update"
        self.rows_deleted += change.op == "delete"
        self.cells_changed += len(change.cells)


class DiffPage:
    """A page of differences behind a position, filled in their order."""

    def __init__(self, size: int, after: Cursor | None):
        self._size, self._after = size, after
        self.diffs: list[Diff] = []
        self.more = False

    def add(self, change: Change) -> None:
        """The next row's; those before the page are passed over, and those behind it are not kept."""
        if self.more:
            return
        for diff in change.diffs:
            if self._after is not None and not _is_behind(diff, self._after):
                continue
            if len(self.diffs) == self._size:
                self.more = True
                return
            self.diffs.append(diff)

    def following(self, incarnation: int) -> Cursor | None:
        """The position that the next page begins behind, None on the last one."""
        if not self.more:
            return None
        return Cursor((self.diffs[-1].field,), self.diffs[-1].id, incarnation)


def _is_behind(diff: Diff, after: Cursor) -> bool:
    """Both are in the order of their bytes, which Python's texts have, too. Where a row is deleted that had cells, or
    the other way round, what there is of it comes all over again.
    """
    (field,) = after.values
    if diff.id != after.key:
        return diff.id > after.key
    if diff.field is None or field is None:
        return diff.field != field
    return diff.field > field


class Shown:
    """Things with an id, of which all are counted and the first are kept."""

    def __init__(self) -> None:
        self.first: list[dict[str, Any]] = []
        self.count = 0

    def add(self, key: str, found: list[dict[str, Any]]) -> None:
        """Those of a row."""
        self.count += len(found)
        self.first += [{"id": key, **each} for each in found[: MAX_SHOWN - len(self.first)]]


class Look:
    """All that is seen is counted and goes into the digest; what an answer shows is kept."""

    def __init__(self, contract: Contract, page: DiffPage):
        self._contract, self._page = contract, page
        self.digest = Digest()
        self.summary = Summary()
        self.findings = Findings()
        self.conflicts = Shown()
        self.overlaps = Shown()

    def see(self, record: Record) -> None:
        """The next row that the session has a draft of."""
        change = change_of(record)
        findings: list[Finding] = []
        if change.differs:
            self.summary.count(change)
            self._page.add(change)
            findings = _findings_of(self._contract, change)
            self.findings.add(change.key, findings)
        self.conflicts.add(change.key, change.conflicts)
        self.overlaps.add(change.key, change.overlaps)
        if change.differs or change.conflicts or change.overlaps:
            self.digest.tell(
                exact_json.encode([change.key, change.op]).decode(),
                record["cells"],
                record["theirs"],
                record["conflicts"],
                told_overlaps(change.overlaps),
                told_findings(findings),
            )

    def see_refused(self, record: Record) -> None:
        """The next cell whose value went into no draft."""
        key, field, value = record["row_key"], record["field"], record["value"] or "null"
        findings = refused_findings(self._contract, field, exact_json.decode(value))
        self.findings.add(key, findings)
        self.digest.tell(exact_json.encode([key, field]).decode(), value, told_findings(findings))


def change_of(record: Record) -> Change:
    """A row as `previews/read_changes` tells it."""
    return Change(
        record["row_key"],
        record["op"],
        record["gone"],
        record["unchecked"],
        _decoded(record["cells"]) or [],
        _decoded(record["theirs"]),
        _decoded(record["before"]),
        _decoded(record["conflicts"]) or [],
        _decoded(record["overlaps"]) or [],
    )


def _decoded(text: str | None) -> Any:
    return None if text is None else exact_json.decode(text)


def _findings_of(contract: Contract, change: Change) -> list[Finding]:
    """A row that is gone has no merged one: its conflict is all that there is to say."""
    if change.gone:
        return []
    new = {field: value for field, _, value in change.cells}
    found: list[Finding] = []
    if change.op == "delete":
        found = row_findings(contract, change.before, None)
    elif change.op == "insert":
        found = row_findings(contract, None, {contract.key: change.key, **new})
    elif change.before is not None:
        found = row_findings(contract, change.before, change.before | new)
    return found + cell_findings(contract, new, found) if change.unchecked else found


def read_changes(desk: Desk, user: str, session_id: str, from_key: str = "") -> AsyncIterator[Any]:
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
    )


async def look_at(desk: Desk, user: str, session_id: str, page: DiffPage) -> Look:
    """Everything that the session comes to, under lock 2 of its user."""
    look = Look(desk.contract, page)
    async for batch in read_changes(desk, user, session_id):
        for record in batch:
            look.see(record)
    async for batch in desk.batches(READ_REFUSED, BATCH, user=user, session_id=session_id):
        for record in batch:
            look.see_refused(record)
    return look


async def read_diffs(desk: Desk, user: str, session_id: str, page: DiffPage, after: Cursor | None) -> None:
    """Fill one page of differences, and look no further."""
    async for batch in read_changes(desk, user, session_id, after.key if after else ""):
        for record in batch:
            page.add(change_of(record))
        if page.more:
            return
