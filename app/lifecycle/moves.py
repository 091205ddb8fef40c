"""What people have under way goes with them when another version takes a dataset's name.

Drafts, what is under review, and the logs of open sessions follow, field by field: by the fields' ids, whatever they
are called, where the value fits. What does not follow stays where it was, and is reported. Nothing is dropped.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import Record

from app.base.statements import statement
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.engine.locks import raise_workspaces
from app.engine.modifications import fold, image
from app.engine.passage import Passage
from app.engine.quotas import doubt
from app.engine.requests import Event, tell_of

READ_MODIFICATIONS = statement("lifecycle/read_modifications")
ADD_MODIFICATIONS = statement("lifecycle/add_modifications")
LEAVE_MODIFICATIONS = statement("lifecycle/leave_modifications")
READ_CHANGES = statement("lifecycle/read_changes")
MOVE_CHANGES = statement("lifecycle/move_changes")
MOVE_EDITS = statement("lifecycle/move_edits")
CHANGE_CONTENT = statement("lifecycle/change_content")
LIST_COMMITS = statement("lifecycle/list_commits")

AT_ONCE = 1000
SHOWN = 100  # of what stays behind


class Left(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Cells of somebody's that stay behind in the version before: a field that is there no more, or a value that does
    not fit any more. `request_id`: they were under review.
    """

    user: str
    user_name: str | None = None
    row_id: str
    fields: list[str]
    request_id: str | None = None


class Moved(msgspec.Struct, kw_only=True, rename="camel"):
    """What followed and what stayed: counts, and the first hundred of `left`."""

    drafts: int = 0
    changes: int = 0
    edits: int = 0
    left_cells: int = 0
    left: list[Left] = []

    def leave(self, user: str, key: str, fields: Sequence[str], request: UUID | None = None) -> None:
        """Note cells that stay behind."""
        if not fields:
            return
        self.left_cells += len(fields)
        if len(self.left) < SHOWN:
            request_id = None if request is None else str(request)
            self.left.append(Left(user=user, row_id=key, fields=list(fields), request_id=request_id))


class _Held(msgspec.Struct):
    """Cells of somebody's changes of a row that stay behind, and what was seen when they were touched."""

    delta: dict[str, Any] = {}
    base: dict[str, Any] = {}


async def move_edits(before: Desk, after: Desk, at: datetime) -> Moved:
    """Take everything that people have under way from one version to another, inside the caller's transaction, which
    holds lock 1 of both against everybody.
    """
    passage, moved = Passage(before.contract, after.contract), Moved()
    if not passage.same_keys:
        return await leave_edits(before)
    held: dict[tuple[str, str], _Held] = {}
    keys = await _move_changes(before, after, passage, moved, held, at)
    keys |= await _move_modifications(before, after, passage, moved, held)
    for some in _portions(sorted(keys)):
        await fold(after, None, some)
        await image(after, None, some)
    statement_ = MOVE_EDITS.fill(other=after.contract.schema)
    moved.edits = int(await before.value(statement_, base=base_of(after.contract.name), names=passage.names) or 0)
    return moved


async def leave_edits(before: Desk) -> Moved:
    """What people have under way in a version stays there, all of it: what it is."""
    moved = Moved()
    async for changes in _changes(before):
        for row in changes:
            if row["state"] == "in_review":
                moved.leave(row["user_id"], row["row_key"], _cells(row), row["change_request_id"])
    async for row in _modifications(before, before):
        if row["draft_op"] is not None:
            moved.leave(row["user_id"], row["row_key"], _cells(row))
    return moved


def _cells(row: Record) -> list[str]:
    """The cells of a draft, or of a change: those of the whole row where it deletes that."""
    return sorted(row["delta"] or row["base"])


async def _modifications(before: Desk, after: Desk) -> AsyncIterator[Record]:
    read = READ_MODIFICATIONS.fill(other=after.contract.schema)
    user, key, full = "", "", True
    while full:
        rows = await before.rows(read, after_user=user, after_key=key, limit=AT_ONCE)
        for row in rows:
            yield row
            user, key = row["user_id"], row["row_key"]
        full = len(rows) == AT_ONCE


async def _changes(before: Desk) -> AsyncIterator[Sequence[Record]]:
    last, full = 0, True
    while full:
        rows = await before.rows(READ_CHANGES, after=last, limit=AT_ONCE)
        yield rows
        full = len(rows) == AT_ONCE
        last = rows[-1]["id"] if rows else last


async def _move_modifications(
    before: Desk, after: Desk, passage: Passage, moved: Moved, held: dict[tuple[str, str], _Held]
) -> set[str]:
    coming, staying, keys, left_keys = [], [], set(), set()
    async for row in _modifications(before, after):
        draft = passage.cells(row["delta"])
        left = draft.left
        moved.leave(row["user_id"], row["row_key"], left)
        whole = row["draft_op"] in ("insert", "delete")
        drafted = row["draft_op"] if draft.fit or whole else None
        # What stays of changes under review is a draft again.
        kept = held.get((row["user_id"], row["row_key"]), _Held())
        staying.append(
            {
                "user_id": row["user_id"],
                "row_key": row["row_key"],
                "stays": bool(left or kept.delta),
                "delta": kept.delta | {name: row["delta"][name] for name in left},
                "base": {name: row["base"][name] for name in left if name in row["base"]} | kept.base,
            }
        )
        if left or kept.delta:
            left_keys.add(row["row_key"])
        if drafted is None and row["pending_op"] is None:
            continue
        keys.add(row["row_key"])
        moved.drafts += drafted is not None
        coming.append(
            {
                "user_id": row["user_id"],
                "row_key": row["row_key"],
                "id": row["id"],
                "pending_op": row["pending_op"],
                "pending": passage.cells(row["pending"]).fit,
                "pending_state": row["pending_state"],
                "draft_op": drafted,
                "delta": draft.fit,
                "base": passage.base(row["base"], row["data"], row["there"]),
                "version": row["version"],
                "session_id": row["session_id"],
                "change_reason": row["change_reason"],
                "modified_at": row["modified_at"],
            }
        )
    for some in _portions(coming):
        await after.rows(ADD_MODIFICATIONS, modifications=some)
    for some in _portions(staying):
        await before.rows(LEAVE_MODIFICATIONS, modifications=some)
    for some in _portions(sorted(left_keys)):
        await image(before, None, some)
    return keys


async def _move_changes(
    before: Desk,
    after: Desk,
    passage: Passage,
    moved: Moved,
    held: dict[tuple[str, str], _Held],
    at: datetime,
) -> set[str]:
    """Changes under review follow as far as they fit; those that are over, as they were told."""
    move = MOVE_CHANGES.fill(other=after.contract.schema)
    keys: set[str] = set()
    touched: set[UUID] = set()
    async for rows in _changes(before):
        await before.rows(move, changes=[_change(row, passage, moved, held, keys, touched) for row in rows])
    if touched:
        for row in await after.rows(CHANGE_CONTENT, ids=sorted(touched), at=at):
            text = f"Cells stayed behind when version {after.contract.version} of the contract took over."
            await tell_of(
                after, row["id"], Event.RESUBMITTED, None, at,
                iteration=row["iteration"], commit_id=row["commit_id"], text=text,
            )  # fmt: skip
    return keys


def _change(
    row: Record,
    passage: Passage,
    moved: Moved,
    held: dict[tuple[str, str], _Held],
    keys: set[str],
    touched: set[UUID],
) -> dict[str, Any]:
    if row["state"] != "in_review":
        return {"id": row["id"], "base": passage.renamed(row["base"]), "delta": passage.renamed(row["delta"])}
    cells = passage.cells(row["delta"])
    keys.add(row["row_key"])
    moved.changes += 1
    if cells.left:
        moved.leave(row["user_id"], row["row_key"], cells.left, row["change_request_id"])
        touched.add(row["change_request_id"])
        kept = held.setdefault((row["user_id"], row["row_key"]), _Held())
        kept.delta |= {name: row["delta"][name] for name in cells.left}
        kept.base = {name: row["base"][name] for name in cells.left if name in row["base"]} | kept.base
    return {"id": row["id"], "base": passage.base(row["base"], None, None), "delta": cells.fit}


class _Committed(msgspec.Struct):
    """What somebody committed to a row, commit after commit."""

    op: str = "update"
    delta: dict[str, Any] = {}
    reason: str | None = None


class _Row(msgspec.Struct):
    """A row that people committed to: as it stands, under the names of the other version; as that has it; what each of
    them wants of it, and which cells of each do not fit there.
    """

    own: dict[str, Any] | None
    there: dict[str, Any] | None
    wanted: dict[str, _Committed] = {}
    left: dict[str, set[str]] = {}


async def commits_as_drafts(before: Desk, after: Desk, revision: int, at: datetime) -> Moved:
    """What people committed to a version beyond a revision, and still stands there, becomes drafts of its authors on
    another one, as far as that has it otherwise. Of each cell the last one counts.
    """
    passage, moved = Passage(before.contract, after.contract), Moved()
    if not passage.same_keys:
        return await leave_commits(before, revision)
    read = LIST_COMMITS.fill(other=after.contract.schema)
    rows: dict[str, _Row] = {}
    for entry in await before.rows(read, revision=revision):
        own = None if entry["own"] is None else passage.cells(entry["own"]).fit
        _fold(rows.setdefault(entry["row_key"], _Row(own, entry["data"])), entry, passage)
    coming = [
        draft
        for key, row in rows.items()
        for user, committed in row.wanted.items()
        if (draft := _draft(user, key, row, committed, at, passage)) is not None
    ]
    for key, row in rows.items():
        for user, fields in row.left.items():
            moved.leave(user, key, sorted(fields))
    moved.drafts = len(coming)
    authors = {each["user_id"] for each in coming}
    await raise_workspaces(after, authors)
    await doubt(after, authors)
    for some in _portions(coming):
        await after.rows(ADD_MODIFICATIONS, modifications=some)
        await image(after, None, [each["row_key"] for each in some])
    return moved


async def leave_commits(before: Desk, revision: int) -> Moved:
    """What people committed to a version beyond a revision stays in it, all of it: what it is."""
    moved = Moved()
    read = LIST_COMMITS.fill(other=before.contract.schema)
    cells: dict[tuple[str, str], set[str]] = {}
    for entry in await before.rows(read, revision=revision):
        mine = cells.setdefault((entry["actor"], entry["row_key"]), set())
        mine.update(entry["after"] or entry["before"] or {})
    for (user, key), fields in cells.items():
        moved.leave(user, key, sorted(fields))
    return moved


def _fold(row: _Row, entry: Record, passage: Passage) -> None:
    """One committed change of a row after those before it."""
    actor, there = entry["actor"], row.there
    if entry["op"] == "delete":
        row.wanted.clear()
        row.left.clear()
        if there is not None:
            row.wanted[actor] = _Committed(op="delete", reason=entry["change_reason"])
        return
    deleted = any(each.op == "delete" for each in row.wanted.values())
    if deleted:
        row.wanted.clear()
    changed = entry["after"] or {}
    cells = passage.cells(changed)
    for other in row.wanted.values():
        other.delta = {
            name: value for name, value in other.delta.items() if passage.names_back.get(name) not in changed
        }
    for fields in row.left.values():
        fields.difference_update(changed)
    row.left.setdefault(actor, set()).update(cells.left)
    # Who changed a row that somebody else has brought: that it is there is the other one's draft.
    bringer = next((user for user, each in row.wanted.items() if each.op == "insert"), actor)
    mine = row.wanted.setdefault(bringer, _Committed())
    if entry["op"] == "insert" and there is None:
        mine.op = "insert"
    elif entry["op"] == "insert" and deleted:
        # The row that was deleted is there, with cells that the new one does not have.
        mine.delta = dict.fromkeys(there or {})
    mine.delta = {**mine.delta, **cells.fit}
    mine.reason = entry["change_reason"]


def _draft(
    user: str, key: str, row: _Row, committed: _Committed, at: datetime, passage: Passage
) -> dict[str, Any] | None:
    """The draft of it; None where there is nothing to be done, or no row to do it to: then its cells are left. What
    records have said since does not stand any more.
    """
    if (row.own is None) != (committed.op == "delete"):
        return None
    there, own = row.there or {}, row.own or {}
    delta = {
        name: value for name, value in committed.delta.items() if there.get(name) != value and own.get(name) == value
    }
    if committed.op == "update" and row.there is None:
        row.left.setdefault(user, set()).update(passage.names_back[name] for name in delta)
    if committed.op == "update" and (row.there is None or not delta):
        return None
    return {
        "user_id": user,
        "row_key": key,
        "id": None,
        "pending_op": None,
        "pending": {},
        "pending_state": None,
        "draft_op": committed.op,
        "delta": delta,
        "base": there if committed.op == "delete" else {name: there.get(name) for name in delta},
        "version": None,
        "session_id": None,
        "change_reason": committed.reason,
        "modified_at": at,
    }


def _portions(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), AT_ONCE):
        yield list(items[start : start + AT_ONCE])
