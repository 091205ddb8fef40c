"""RecordEdit: one record while somebody edits it."""

import asyncio
from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import msgspec

from vanguard_client.errors import Conflicted, EditClosed, TimedOut, VanguardError
from vanguard_client.records import Values, changed_fields, pick
from vanguard_client.results import Conflict, Created, Error, FieldConflict, PartialSave, Saved, SaveResult

if TYPE_CHECKING:
    from vanguard_client.source import Op, Row
    from vanguard_client.table import LiveTable
    from vanguard_client.view import Laid

T = TypeVar("T")
Until = Literal["committed", "settled"]


class RecordEdit(Generic[T]):
    """What a record was when its editing began, and what it is to become.

    A field is an attribute (`edit.name = "..."`), or an item (`edit["name"]`) where the edit has an attribute of that
    name itself. What changes elsewhere comes in with `refresh_snapshot` and `save` only. Nothing is validated here.

    It is released at the end of a `with`, by `close`, or when nobody holds it any more.
    """

    def __init__(self, table: "LiveTable[T]", id: str, record: T, snapshot: Values | None, op: "Op") -> None:
        codec = table.codec
        self._table, self._codec, self._id = table, codec, id
        self._op: Op = op  # what the next save does
        self._record, self._local = record, deepcopy(record)
        self._seen = codec.write(record)  # the snapshot as records have it, with their defaults
        self._snapshot = self._seen if snapshot is None else snapshot
        self._time = table.now()
        self._saving = asyncio.Lock()
        self._laid: Laid | None = None  # a write that was not answered in time
        self._sent: Values = {}
        self._refused = False  # a system of record has not taken what was saved
        self._told: list[FieldConflict] = []
        self._open = True

    # --- fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The record has no field {name!r}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        elif hasattr(type(self), name):
            raise AttributeError(f"{name!r} is the edit's own; a field of this name is edit[{name!r}].")
        else:
            try:
                self[name] = value
            except KeyError:
                raise AttributeError(f"The record has no field {name!r}.") from None

    def __getitem__(self, name: str) -> Any:
        if isinstance(self._local, msgspec.Struct):
            if name not in self._local.__struct_fields__:
                raise KeyError(name)
            return getattr(self._local, name)
        local: Any = self._local
        return local[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._check_open()
        if isinstance(self._local, msgspec.Struct):
            if name not in self._local.__struct_fields__:
                raise KeyError(name)
            self._local = msgspec.structs.replace(self._local, **{name: value})
        else:
            local: Any = self._local
            local[name] = value

    # --- what it is about

    @property
    def id(self) -> str:
        """The record's id; of a new one a temporary id until it is saved."""
        return self._id

    @property
    def live_snapshot(self) -> T:
        """What the record was when the edit began, or at the last refresh or save."""
        return self._record

    @property
    def local(self) -> T:
        """What the record is to become."""
        return self._local

    @property
    def snapshot_time(self) -> datetime:
        """When the snapshot was taken."""
        return self._time

    @property
    def age(self) -> timedelta:
        """How long ago that was."""
        return self._table.now() - self._time

    @property
    def modified_fields(self) -> list[str]:
        """The top-level fields in which the local state differs from the snapshot."""
        return [self._codec.name(field) for field in changed_fields(self._seen, self._values())]

    def is_field_modified(self, field: str) -> bool:
        """Whether one of them does."""
        return field in self.modified_fields

    def revert(self) -> None:
        """Make the local state what the snapshot is.

        Where a system of record had not taken what was saved, the next `save` lets go of that.
        """
        self._check_open()
        self._local = deepcopy(self._record)

    # --- the life of it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another edit of the record begin. What was not saved is lost; a write under way is not."""
        self._open = False
        self._table.release(self)

    def take_id(self, id: str) -> None:
        """The record has got its real id; the table calls this."""
        self._id = id

    def _check_open(self) -> None:
        if not self._open:
            raise EditClosed(f"The edit of {self._id!r} was released.")

    # --- save

    async def save(
        self,
        until: Until = "committed",
        timeout: float | None = 60.0,  # noqa: ASYNC109 (what is over is answered, not raised)
    ) -> SaveResult:
        """Write what is modified.

        `committed`: until the backend has it. `settled`: until the system of record behind it has it, too, which gives
        a new record its real id. `timeout`, in seconds, limits the waiting, not the write: what was committed and not
        settled in time is answered as such, and what was not even committed is an Error with TimedOut. The next save
        waits for that write first.
        """
        self._check_open()
        reached: list[SaveResult] = []
        try:
            return await asyncio.wait_for(self._save(until, reached), timeout)
        except TimeoutError:
            late = TimedOut(f"{self._id!r} was not written within {timeout} s. The write goes on in the background.")
            return reached[0] if reached else Error(late)
        except VanguardError as error:
            return Error(error)

    async def _save(self, until: Until, reached: list[SaveResult]) -> SaveResult:
        async with self._saving:
            result: SaveResult | None = None
            if self._laid is not None:
                result = await self._finish(self._laid)
            if result is None or (isinstance(result, Saved | Created) and self.modified_fields):
                self._laid = await self._begin()
                result = Saved(self._is_settled()) if self._laid is None else await self._finish(self._laid)
            if not isinstance(result, Saved | Created):
                return result
            reached.append(result)
            return await self._settle(result) if until == "settled" and not result.settled else result

    async def _begin(self) -> "Laid | None":
        """Stage what there is to write, None if nothing."""
        values = self._values()
        fields = changed_fields(self._seen, values)
        if self._op == "update":
            if not fields and not self._refused:
                return None
            self._sent = pick(values, fields)
            op: Op = "update" if fields else "discard"
            return await self._table.stage(op, self._id, self._sent, pick(self._snapshot, fields))
        if self._op == "replace" and not fields:
            return None
        self._sent = values
        return await self._table.stage(self._op, self._id, values)

    async def _finish(self, laid: "Laid") -> SaveResult:
        """Wait for a write, and take over what came of it."""
        try:
            row = await asyncio.shield(laid.done)
        except Conflicted as error:
            conflict = await self._take_theirs(error.conflicts)
            self._laid = None
            return conflict
        except VanguardError as error:
            self._laid = None
            return Error(error)
        op, missed = self._op, await self._take_row(row)
        self._laid, self._refused = None, False
        if op in ("add", "insert"):
            return Created(self._id, self._is_settled())
        return PartialSave(missed) if missed else Saved(self._is_settled())

    async def _settle(self, result: Saved | Created) -> SaveResult:
        await self._table.wait_until(lambda: self._is_settled() or self._is_failed())
        row = self._table.row(self._id)
        if self._is_failed() and row is not None:
            self._refused = True
            return (
                await self._take_theirs(row.conflicts) if row.conflicts else Error(await self._table.failure(self._id))
            )
        missed = await self._take_row(row)
        if isinstance(result, Created):
            return Created(self._id)
        return PartialSave(missed) if missed else Saved()

    def _is_settled(self) -> bool:
        return self._table.is_settled(self._id)

    def _is_failed(self) -> bool:
        row = self._table.row(self._id)
        return row is not None and row.state == "failed"

    async def _take_row(self, row: "Row | None") -> list[str]:
        """Take over what was written; the fields that are not as they were sent."""
        shown = await self._table.get_value(self._id)
        # What has left the selection by being written is as it was sent, for all that can be known.
        new = {**self._snapshot, **self._sent} if row is None or shown is None else shown
        missed = [] if row is None else self._table.unlike(self._sent, new)
        self._advance(new, sent=self._sent, stay=missed)
        return [self._codec.name(field) for field in missed]

    async def _take_theirs(self, conflicts: Iterable[FieldConflict]) -> Conflict:
        """Take over what others have written, the fields in conflict as they were told: whoever keeps theirs or
        overwrites it has seen that, and nothing newer.
        """
        conflicts = list(conflicts)
        theirs: dict[str, Any] = {}
        for each in conflicts:
            if each.field is not None and (each.field in self._sent or not isinstance(each.theirs, dict)):
                theirs[each.field] = each.theirs
            elif isinstance(each.theirs, dict):
                theirs |= each.theirs
        new = await self._table.get_value(self._id)
        self._advance(None if new is None else {**new, **theirs}, stay=theirs)
        return Conflict([self._named(each) for each in conflicts])

    # --- the snapshot

    async def refresh_snapshot(self) -> list[FieldConflict]:
        """Take over what has changed elsewhere, from the backend.

        Returns the fields that were changed here, too: those stay as they are here. A `save` now overwrites them, a
        `revert` takes theirs. Raises Unavailable.
        """
        self._check_open()
        if self._op in ("add", "insert"):
            return []
        await self._table.refresh([self._id])
        new = await self._table.shown_without(self._id, self._laid)
        conflicts = self._conflicts(new)
        self._advance(new)
        return conflicts

    def new_conflicts(self, new: Values | None) -> list[FieldConflict]:
        """The conflicts with what the record is elsewhere, if they were not told before; the table calls this."""
        conflicts = [] if self._op in ("add", "insert") else self._conflicts(new)
        told, self._told = self._told, conflicts
        return conflicts if conflicts != told else []

    def _conflicts(self, new: Values | None) -> list[FieldConflict]:
        local = self._values()
        if new is None:
            return [FieldConflict(id=self._id, field=None, base=self._snapshot, theirs=None, mine=local)]
        mine, theirs = set(changed_fields(self._seen, local)), self._as_seen(new)
        return [
            FieldConflict(
                id=self._id,
                field=self._codec.name(field),
                base=self._seen.get(field),
                theirs=theirs.get(field),
                mine=local.get(field),
            )
            for field in changed_fields(self._seen, theirs)
            if field in mine and local.get(field) != theirs.get(field)
        ]

    def _advance(self, new: Values | None, sent: Values | None = None, stay: Iterable[str] = ()) -> None:
        """Make `new` the snapshot. Local fields that nobody has touched since, or that were sent, follow it, but for
        those that are to stay.
        """
        self._time = self._table.now()
        self._told = []
        if new is None:
            self._op = "replace"
            return
        self._op = "update"
        local, before = self._values(), self._seen
        self._record = self._codec.read(new, self._id)
        self._snapshot, self._seen = new, self._as_seen(new)
        sent = sent or {}
        for field in [each for each in changed_fields(local, self._seen) if each not in stay]:
            untouched = local.get(field) == before.get(field)
            if untouched or (field in sent and local.get(field) == sent[field]):
                self._follow(field)

    def _follow(self, field: str) -> None:
        name = self._codec.name(field)
        if isinstance(self._local, msgspec.Struct):
            if name in self._local.__struct_fields__:
                self[name] = deepcopy(getattr(self._record, name))
            return
        local: Any = self._local
        if field in self._snapshot:
            local[field] = deepcopy(self._snapshot[field])
        else:
            local.pop(field, None)

    def _values(self) -> Values:
        return self._codec.write(self._local)

    def _as_seen(self, values: Values) -> Values:
        return self._codec.write(self._codec.read(values, self._id))

    def _named(self, conflict: FieldConflict) -> FieldConflict:
        field = conflict.field
        return conflict if field is None else msgspec.structs.replace(conflict, field=self._codec.name(field))
