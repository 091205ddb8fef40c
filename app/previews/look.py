"""A look at a whole session: all of it is counted, checked and told to the digest, and the first of it is kept."""

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from asyncpg import Record

from app.base import exact_json
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.conflicts import ConflictKind, kind_of
from app.contracts.findings import Finding
from app.contracts.rules import unique_rules
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.uniqueness import Cell, Duplicate, find_duplicates
from app.people import read_names
from app.previews.changes import BATCH, Change, Diff, change_of, read_changes
from app.previews.digest import Digest, told_findings, told_overlaps
from app.previews.findings import Checks, Findings, refused_findings

READ_REFUSED = statement("previews/read_refused")

MAX_SHOWN = 1000  # conflicts and overlaps in one answer
MAX_VALUE = 10_000  # bytes of a refused value that is looked at again


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


class OpenRequest(msgspec.Struct, kw_only=True, rename="camel"):
    """A change request of somebody else in review that has cells of the session, and how many."""

    id: str
    author: str
    author_name: str | None = None
    cells: int = 0


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

    @property
    def following(self) -> Cursor | None:
        """The position that the next page begins behind, None on the last one."""
        return Cursor((self.diffs[-1].field,), self.diffs[-1].id) if self.more else None


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
        self._contract, self._page, self._checks = contract, page, Checks(contract)
        self.digest = Digest()
        self.summary = Summary()
        self.findings = Findings()
        self.conflicts = Shown()
        self.overlaps = Shown()
        self.open_requests: dict[str, OpenRequest] = {}
        self._unique = {rule.field for rule in unique_rules(contract)}
        self._wanted: list[Cell] = []

    def see(self, record: Record) -> None:
        """The next row that the session has a draft of."""
        change = change_of(record)
        findings: list[Finding] = []
        if change.differs:
            self.summary.count(change)
            self._page.add(change)
            findings = self._checks.of(change)
            self.findings.add(change.key, findings)
            self._want(change)
        elif not change.conflicts and not change.overlaps:
            return
        for each in change.conflicts:
            self.conflicts.add(change.key, [{"kind": kind_of(self._contract, change.drafted, each["field"]), **each}])
        self.overlaps.add(change.key, change.overlaps)
        for each in change.overlaps:
            if (request := each["requestId"]) is not None:
                found = self.open_requests.setdefault(request, OpenRequest(id=request, author=each["userId"]))
                found.cells += 1
        self.digest.tell(
            exact_json.encode((change.key, change.op)).decode(),
            record["cells"],
            record["theirs"],
            record["conflicts"],
            told_overlaps(change.overlaps),
            told_findings(findings),
        )

    def _want(self, change: Change) -> None:
        """What the row wants to have for itself."""
        if self._unique and not change.gone:
            cells = (Cell(change.key, field, value) for field, _, value in change.cells if field in self._unique)
            self._wanted += [cell for cell in cells if cell.value is not None]

    def take_wanted(self) -> list[Cell]:
        """The values that have to be unique, of what was seen since this was asked last."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def see_duplicates(self, duplicates: Iterable[Duplicate]) -> None:
        """Those of them that another row has."""
        for cell, other, finding in sorted(duplicates, key=lambda each: each.cell[:2]):
            self.findings.add(cell.id, [finding])
            if finding.blocks:
                conflict = {"kind": ConflictKind.UNIQUE, "field": cell.field, "mine": cell.value, "other": other}
                self.conflicts.add(cell.id, [conflict])
            self.digest.tell(exact_json.encode(cell[:2]).decode(), told_findings([finding]))

    @property
    def people(self) -> set[str]:
        """Who else is at these cells, as far as it is shown."""
        return {each["userId"] for each in self.overlaps.first} | {each.author for each in self.open_requests.values()}

    def name(self, names: Mapping[str, str | None]) -> None:
        """Say what they are called; the digest does not know of it."""
        for overlap in self.overlaps.first:
            overlap["userName"] = names[overlap["userId"]]
        for request in self.open_requests.values():
            request.author_name = names[request.author]

    def see_refused(self, record: Record) -> None:
        """The next cell whose value went into no draft."""
        key, field, value = record["row_key"], record["field"], record["value"]
        findings = refused_findings(self._contract, field, None if value is None else exact_json.decode(value))
        self.findings.add(key, findings)
        self.digest.tell(exact_json.encode([key, field, record["fingerprint"]]).decode(), told_findings(findings))


async def look_at(desk: Desk, user: str, session_id: str, page: DiffPage) -> Look:
    """Everything that the session comes to, under lock 2 of its user."""
    look = Look(desk.contract, page)
    async for batch in read_changes(desk, user, session_id):
        for record in batch:
            look.see(record)
        if wanted := look.take_wanted():
            look.see_duplicates(await find_duplicates(desk, user, wanted, session_id))
    refused = desk.batches(READ_REFUSED, BATCH, user=user, session_id=session_id, longest=MAX_VALUE)
    async for batch in refused:
        for record in batch:
            look.see_refused(record)
    look.name(await read_names(desk.connection, desk.organization, look.people))
    return look


async def read_diffs(desk: Desk, user: str, session_id: str, page: DiffPage, after: Cursor | None) -> None:
    """Fill one page of differences, and look no further."""
    async with aclosing(read_changes(desk, user, session_id, after.key if after else "")) as batches:
        async for batch in batches:
            for record in batch:
                page.add(change_of(record))
            if page.more:
                return
