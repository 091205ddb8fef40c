"""LiveTable: a data set that reads from a cache, writes in the background, and follows what changes elsewhere."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakValueDictionary

import msgspec

from vanguard_client.backoff import Backoff
from vanguard_client.edit import RecordEdit
from vanguard_client.errors import (
    EditInProgress,
    RecordNotFound,
    Refused,
    TableClosed,
    Unsaved,
    VanguardError,
)
from vanguard_client.events import (
    Conflicting,
    Deleted,
    Event,
    Identified,
    Inserted,
    Updated,
    WriteDone,
    WriteFailed,
)
from vanguard_client.follower import Follower
from vanguard_client.protocols import DataSet, ValueSet
from vanguard_client.records import Values, changed_fields, pick, replacement
from vanguard_client.source import (
    Op,
    Row,
    Tracked,
    Write,
    Written,
    source_of,
)
from vanguard_client.typed import TypedDataSet
from vanguard_client.view import Laid, View
from vanguard_client.writer import Writer, settle

T = TypeVar("T")
log = logging.getLogger("vanguard_client")


class LiveTable(TypedDataSet[T]):
    """A cache of a backend, both of them data sets.

    Open it with `async with`, which reads the backend into the cache. What is read comes from the cache, with one's own
    writes laid over it. What is written is shown at once and persisted in the background: up to `queue` writes wait,
    beyond them it is QueueFull. A backend that tells what changes (`Tracked`, such as one over REST) is followed.

    Leaving it waits `patience` seconds for writes, and raises Unsaved for those that the backend has not answered then.
    """

    def __init__(
        self,
        backend: DataSet[T],
        cache: ValueSet,
        *,
        queue: int = 256,
        patience: float = 10.0,
        backoff: Backoff | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(backend.record)
        self._source: Tracked = source_of(backend)
        self._cache, self._bound, self._patience, self.now = cache, queue, patience, now
        self._backoff = backoff or Backoff()
        self._callbacks: list[Callable[[Event], object]] = []
        self._edits: WeakValueDictionary[str, RecordEdit[T]] = WeakValueDictionary()
        self._temporary: set[str] = set()  # ids of new records that the backend has not told the real ones of
        self._tasks: list[asyncio.Task[None]] = []
        self._view: View | None = None
        self._writer: Writer | None = None
        self._follower: Follower | None = None

    # --- open and closed

    async def __aenter__(self) -> Self:
        if self._view is not None:
            raise TableClosed("A table is opened once.")
        self._view = View(self._cache, self._tell, self.codec.name)
        self._writer = Writer(
            self._source, self._backoff, self._bound,
            written=self._written, failed=self._failed, renamed=self._is_renamed,
        )  # fmt: skip
        self._follower = Follower(self._source, self._view, self._backoff, self._tell, self._tell_conflicts)
        position = await self._follower.load()
        self._tasks = [
            asyncio.create_task(self._writer.run(), name="vanguard-writes"),
            asyncio.create_task(self._follower.follow(position), name="vanguard-feed"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unsaved: list[str] = []
        try:
            if kind is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.flush(), self._patience)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
            for edit in list(self._edits.values()):
                edit.close()
            for laid in self._open_writer.waiting:
                unsaved.append(laid.write.id)
                settle(laid, TableClosed("The table was closed before the backend has answered."))
        if unsaved and kind is None:
            raise Unsaved(unsaved)

    async def flush(self) -> None:
        """Wait until the backend has answered every write, whatever the answer is."""
        while waiting := [laid.done for laid in self._open_writer.waiting]:
            await asyncio.wait(waiting)
            await asyncio.sleep(0)

    @property
    def pending(self) -> int:
        """How many writes the backend has not answered yet."""
        return len(self._open_writer)

    @property
    def _open_view(self) -> View:
        if self._view is None or not self._tasks:
            raise TableClosed("The table is not open: use it inside `async with`.")
        return self._view

    @property
    def _open_follower(self) -> Follower:
        if self._follower is None or not self._tasks:
            raise TableClosed("The table is not open: use it inside `async with`.")
        return self._follower

    @property
    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise TableClosed("The table is not open: use it inside `async with`.")
        return self._writer

    # --- a data set

    async def list_values(self) -> dict[str, Values]:
        """All rows as they are shown."""
        return await self._open_view.all_shown()

    async def get_value(self, id: str) -> Values | None:
        """One row as it is shown."""
        return await self._open_view.shown(id)

    async def insert_value(self, id: str, values: Values) -> Values:
        """Show it, and persist it in the background; of a row that is shown already, nothing."""
        return await self._lay(id, lambda old: ("insert", values) if old is None else None) or values

    async def replace_value(self, id: str, values: Values) -> Values:
        """Show it, and persist it in the background."""

        def make(old: Values | None) -> tuple[Op, Values] | None:
            if old is None:
                return "replace", values
            new = replacement(old, values)
            return ("update", pick(new, fields)) if (fields := changed_fields(old, new)) else None

        return await self._lay(id, make) or values

    async def patch_value(self, id: str, partial: Values) -> Values:
        """Show it, and persist in the background what differs; raises RecordNotFound."""

        def make(old: Values | None) -> tuple[Op, Values] | None:
            if old is None:
                raise RecordNotFound(id)
            fields = [field for field in partial if old.get(field) != partial[field]]
            return ("update", pick(partial, fields)) if fields else None

        return await self._lay(id, make) or partial

    async def delete(self, id: str) -> None:
        """Show it no more, and delete it in the background."""
        await self._lay(id, lambda old: None if old is None else ("delete", {}))

    async def add_value(self, values: Values) -> str:
        """Add it and wait until the backend has given it an id, which may be a temporary one."""
        laid = await self.stage("add", temporary_id(), values)
        await laid.done
        return laid.write.id

    async def _lay(self, id: str, make: Callable[[Values | None], tuple[Op, Values] | None]) -> Values | None:
        def lay(id: str, old: Values | None) -> Laid | None:
            made = make(old)
            return None if made is None else self._queue(made[0], id, made[1], old)

        return await self._open_view.lay(id, lay)

    async def stage(self, op: Op, id: str, values: Values, base: Values | None = None) -> Laid:
        """Show a write and queue it, for a RecordEdit; raises QueueFull."""
        staged: list[Laid] = []

        def lay(id: str, old: Values | None) -> Laid:
            staged.append(self._queue(op, id, values, base))
            return staged[0]

        await self._open_view.lay(id, lay)
        return staged[0]

    def _queue(self, op: Op, id: str, values: Values, seen: Values | None) -> Laid:
        base = pick(seen or {}, values) if op == "update" else None
        laid = Laid(Write(op=op, id=id, values=values, base=base, key=uuid.uuid4().hex))
        self._open_writer.put(laid)
        return laid

    # --- edits

    async def edit_record(self, id: str) -> RecordEdit[T]:
        """Begin to edit a record; raises RecordNotFound, and EditInProgress while another edit of it is open."""
        id = self.real_id(id)
        if id in self._edits:
            raise EditInProgress(id)
        values = await self.get_value(id)
        if values is None:
            raise RecordNotFound(id)
        return self._register(RecordEdit(self, id, self.codec.read(values, id), values, "update"))

    def new_record(self, record: T, id: str | None = None) -> RecordEdit[T]:
        """Begin a record that `save` creates. Without an id of one's own it has a temporary one until then."""
        given = temporary_id() if id is None else id
        return self._register(RecordEdit(self, given, record, None, "add" if id is None else "insert"))

    def _register(self, edit: RecordEdit[T]) -> RecordEdit[T]:
        if edit.id in self._edits:
            raise EditInProgress(edit.id)
        self._edits[edit.id] = edit
        return edit

    def release(self, edit: RecordEdit[T]) -> None:
        """Let another edit of the record begin; `RecordEdit.close` does this."""
        if self._edits.get(edit.id) is edit:
            del self._edits[edit.id]

    def real_id(self, id: str) -> str:
        """The id that a temporary one has become; another one is returned as it is."""
        return self._open_view.real_id(id)

    # --- what is told

    def on_event(self, callback: Callable[[Event], object]) -> Self:
        """Call back with every event, at once and in order. Returns the table."""
        self._callbacks.append(callback)
        return self

    def on_remote_change(self, callback: Callable[[str], object]) -> Self:
        """Call back with the id of each record that a change from elsewhere makes look otherwise, never for what this
        table wrote. Returns the table.
        """

        def call(event: Event) -> None:
            if isinstance(event, Inserted | Updated | Deleted) and event.remote:
                callback(event.id)

        return self.on_event(call)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Identified):
            self._temporary.discard(event.temporary)
            if (edit := self._edits.pop(event.temporary, None)) is not None:
                edit.take_id(event.id)
                self._edits[event.id] = edit
        for callback in list(self._callbacks):
            try:
                callback(event)
            except Exception:
                log.exception("a callback failed at %r", event)

    # --- what the backend has

    async def on_backend_change(self, id: str) -> None:
        """Something has changed this record in the backend: read it again. Raises Unavailable."""
        await self.refresh([self.real_id(id)])

    async def refresh(self, ids: Iterable[str]) -> None:
        """Read records again; raises Unavailable. What is on its way to the backend stays laid over them."""
        await self._open_follower.refresh([self.real_id(id) for id in ids])

    async def _tell_conflicts(self, ids: Iterable[str] | None) -> None:
        for id in list(self._edits) if ids is None else ids:
            edit = self._edits.get(id)
            if edit is not None and (conflicts := edit.new_conflicts(await self.get_value(id))):
                self._tell(Conflicting(id, conflicts))

    async def reached(self, position: str) -> None:
        """Wait until the table shows all that its backend's feed has told up to a position."""
        await self._open_follower.reached(position)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that can change whenever rows are read."""
        moved = self._open_view.moved
        async with moved:
            await moved.wait_for(holds)

    def row(self, id: str) -> Row | None:
        """How the backend has a record, but for its values: whether it is settled, what conflicts."""
        return self._open_view.known(id)

    def is_settled(self, id: str) -> bool:
        """Whether the record is where it is to be, the system of record included. One that is not shown counts so."""
        row = self.row(id)
        return id not in self._temporary and (row is None or row.state == "settled")

    def unlike(self, sent: Values, now: Values) -> list[str]:
        """The fields that are not as they were sent, of those that the backend is asked for."""
        read = self._source.fields
        return [field for field in sent if (read is None or field in read) and now.get(field) != sent[field]]

    async def shown_without(self, id: str, laid: Laid | None) -> Values | None:
        """A row as it would be shown without one of the writes."""
        return await self._open_view.shown(id, without=laid)

    async def failure(self, id: str) -> Refused:
        """Why the system of record has not taken the record."""
        return await self._source.failure(id)

    async def _written(self, laid: Laid, written: Written) -> Row | None:
        """The backend has it: read the row again, since it may have made something else of it."""
        view, write = self._open_view, laid.write
        laid.landed = written.position
        view.see(written.position)
        names = {write.id: written.id} if written.id != write.id else None
        await self._open_follower.refresh([written.id], names)
        row, values = view.known(written.id), await view.base(written.id)
        if write.op in ("add", "insert") and row is not None and row.state != "settled":
            self._temporary.add(written.id)
        self._tell(WriteDone(written.id))
        return None if row is None or values is None else msgspec.structs.replace(row, values=values)

    async def _is_renamed(self, id: str) -> bool:
        """Whether a temporary id has become a real one, or does so before patience ends."""
        if id not in self._temporary:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait_until(lambda: self.real_id(id) != id), self._patience)
        return self.real_id(id) != id

    async def _failed(self, laid: Laid, error: VanguardError) -> None:
        # What the backend has is read first, so that what comes into sight is the newest.
        with suppress(VanguardError):
            await self.refresh([laid.write.id])
        await self._open_view.lift(laid)
        self._tell(WriteFailed(laid.write.id, error))


def temporary_id() -> str:
    """An id for a new record, until the backend gives it one."""
    return f"new-{uuid.uuid4()}"
