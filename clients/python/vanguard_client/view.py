"""What a LiveTable shows: the newest rows that the backend has told, in the cache, and over them what waits to be
written. What waits is never in the cache, so that a cache never has what the backend does not.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vanguard_client.events import Changed, Deleted, Event, Identified, Inserted, PendingWrite, Updated
from vanguard_client.protocols import Batched, ValueSet
from vanguard_client.records import Values, changed_fields, pick
from vanguard_client.source import Loaded, Row, Write, older

Shown = tuple[str, Values | None, Values | None, bool]  # id, before, after, whether it came from elsewhere


class Laid:
    """A write that is shown over its row.

    `sent`: the backend may have it, though it has not answered. `landed`: None until it has answered, then from which
    position on the feed has passed the write. `done`: what came of it, the row as the backend has it then (None: not in
    the selection), or why not.
    """

    def __init__(self, write: Write) -> None:
        self.write = write
        self.sent = False
        self.landed: str | None = None
        self.done: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()

    def over(self, row: Values | None) -> Values | None:
        """The row with the write over it."""
        write = self.write
        if write.op == "delete":
            return None
        if write.op in ("insert", "add"):
            return write.values if row is None else row
        if write.op == "replace":
            return {**(row or {}), **write.values}
        return None if row is None else {**row, **write.values}


class View:
    """Rows and what lies over them. Everything that is told goes through `tell`, in the order in which it is shown."""

    def __init__(self, cache: ValueSet, tell: Callable[[Event], None], name: Callable[[str], str]) -> None:
        self._cache, self._tell, self._name = cache, tell, name
        self._lock = asyncio.Lock()
        self._known: dict[str, Row] = {}  # without values, which are in the cache
        self._laid: dict[str, list[Laid]] = {}
        self.names: dict[str, str] = {}  # temporary ids and what they have become
        self.position = ""  # nothing older than this is shown again
        self.moved = asyncio.Condition()  # notified when rows may have changed

    def known(self, id: str) -> Row | None:
        """How the backend has the row, but for its values."""
        return self._known.get(self.real_id(id))

    def real_id(self, id: str) -> str:
        """What a temporary id has become; another one is returned as it is."""
        return self.names.get(id, id)

    def see(self, position: str) -> None:
        """Show nothing older from now on."""
        if older(self.position, position) or not self.position:
            self.position = position

    def is_behind(self, id: str, position: str) -> bool:
        """Whether the row may be otherwise at this position than the table knows."""
        row = self._known.get(id)
        return row is None or not row.position or older(row.position, position)

    async def base(self, id: str) -> Values | None:
        """The row as the backend has it."""
        return await self._cache.get_value(id) if id in self._known else None

    async def shown(self, id: str, without: Laid | None = None) -> Values | None:
        """One row; `without` leaves a write out."""
        async with self._lock:
            id = self.real_id(id)
            return self._over(id, await self.base(id), () if without is None else (without,))

    async def all_shown(self) -> dict[str, Values]:
        """All rows, in the order of the cache, new ones behind."""
        async with self._lock:
            rows = await self._cache.list_values()
            ids = [id for id in {**rows, **self._laid} if id in self._known or id in self._laid]
            shown = {id: self._over(id, rows.get(id) if id in self._known else None) for id in ids}
        return {id: row for id, row in shown.items() if row is not None}

    async def lay(self, id: str, make: Callable[[str, Values | None], Laid | None]) -> Values | None:
        """Show what `make` makes of the row's id and how it is shown; how it is shown then. `make` may raise."""
        async with self._lock:
            id = self.real_id(id)
            before = self._over(id, await self.base(id))
            laid = make(id, before)
            if laid is None:
                return before
            self._laid.setdefault(id, []).append(laid)
            after = laid.over(before)
            self._tell(PendingWrite(id))
            self._tell_changes([(id, before, after, False)])
            return after

    async def lift(self, laid: Laid) -> None:
        """Show the row without a write that the backend does not take. Those behind it have seen what it wanted, which
        is not there: they compare with what it saw instead.
        """
        async with self._lock:
            id = laid.write.id
            base = await self.base(id)
            before = self._over(id, base)
            behind = self._behind(laid)
            self._drop(id, [laid])
            for each in behind:
                _unsee(each.write, laid.write)
            self._tell_changes([(id, before, self._over(id, base), False)])
        await self._notify()

    async def put(self, ids: Iterable[str], loaded: Loaded, *, names: Mapping[str, str] | None = None) -> None:
        """Take over what the backend has told of these rows. `names`: rows whose id is another one now."""
        async with self._lock:
            renamed = {id: await self._rename(temporary, id) for temporary, id in (names or {}).items()}
            puts, gone, changes = {}, list(names or {}), list[Shown]()
            landed: dict[str, list[Laid]] = {}
            for id in dict.fromkeys(ids):
                row, position = _told(loaded, id)
                known = self._known.get(id)
                if known is not None and older(position, known.position):
                    continue
                before = renamed[id] if id in renamed else self._over(id, await self.base(id))
                landed[id] = [each for each in self._laid.get(id, ()) if _has_landed(each, position)]
                after = self._over(id, None if row is None else row.values, landed[id])
                sent = [each for each in self._laid.get(id, ()) if each.sent]
                changes.append((id, before, after, not _is_echo(sent, before, after)))
                if row is None:
                    gone.append(id)
                else:
                    puts[id] = row.values
            await _store(self._cache, puts, gone)
            for id, over in landed.items():
                self._know(id, loaded.rows.get(id))
                self._drop(id, over)
            self._tell_changes(changes)
        await self._notify()

    async def reset(self, loaded: Loaded, *, quiet: bool) -> None:
        """Take over all that the backend has told; what is not among it is gone. `quiet`: nobody is told."""
        async with self._lock:
            old = await self._cache.list_values()
            new = {id: row.values for id, row in loaded.rows.items()}
            ids = list({**old, **new, **self._laid})
            before = {id: self._over(id, old.get(id) if id in self._known else None) for id in ids}
            await _store(self._cache, new, [id for id in old if id not in new])
            self._known = {}
            for id, row in loaded.rows.items():
                self._know(id, row)
            for id, over in list(self._laid.items()):
                _, position = _told(loaded, id)
                self._drop(id, [each for each in over if _has_landed(each, position)])
            if not quiet:
                self._tell_changes([(id, before[id], self._over(id, new.get(id)), True) for id in ids])
        await self._notify()

    def _know(self, id: str, row: Row | None) -> None:
        if row is None:
            self._known.pop(id, None)
        else:
            self._known[id] = Row(
                values={}, position=row.position, version=row.version, state=row.state, conflicts=row.conflicts
            )

    def _over(self, id: str, row: Values | None, without: Iterable[Laid] = ()) -> Values | None:
        for each in self._laid.get(id, ()):
            if each not in without:
                row = each.over(row)
        return row

    def _behind(self, laid: Laid) -> list[Laid]:
        over = self._laid.get(laid.write.id, [])
        return over[over.index(laid) + 1 :] if laid in over else []

    def _drop(self, id: str, over: Iterable[Laid]) -> None:
        rest = [each for each in self._laid.get(id, ()) if each not in over]
        if rest:
            self._laid[id] = rest
        else:
            self._laid.pop(id, None)

    async def _rename(self, temporary: str, id: str) -> Values | None:
        """Move what is known and laid; the row as it was shown."""
        before = self._over(temporary, await self.base(temporary))
        self.names[temporary] = id
        self._tell(Identified(temporary, id))
        self._known.pop(temporary, None)
        for each in self._laid.pop(temporary, []):
            each.write.id = id
            self._laid.setdefault(id, []).append(each)
        return before

    def _tell_changes(self, changes: Iterable[Shown]) -> None:
        told: dict[str, bool] = {}
        for id, before, after, remote in changes:
            fields = changed_fields(before, after)
            if before is None and after is not None:
                self._tell(Inserted(id, remote))
            elif before is not None and after is None:
                self._tell(Deleted(id, remote))
            elif fields:
                self._tell(Updated(id, [self._name(field) for field in fields], remote))
            else:
                continue
            told[id] = remote
        if told:
            self._tell(Changed(list(told), any(told.values())))

    async def _notify(self) -> None:
        async with self.moved:
            self.moved.notify_all()


def _told(loaded: Loaded, id: str) -> tuple[Row | None, str]:
    """A row, None where it is not there, and of which position that is true."""
    row = loaded.rows.get(id)
    return row, loaded.position if row is None else row.position


def _has_landed(laid: Laid, position: str) -> bool:
    return laid.landed is not None and not older(position, laid.landed)


def _is_echo(sent: Iterable[Laid], before: Values | None, after: Values | None) -> bool:
    """Whether what differs is what the backend made of one's own writes: of their fields, or of a new record."""
    fields: set[str] = set()
    for each in sent:
        if each.write.op in ("insert", "add"):
            return True
        fields |= each.write.values.keys()
    return before is not None and after is not None and fields.issuperset(changed_fields(before, after))


def _unsee(write: Write, failed: Write) -> None:
    if write.base is None or failed.base is None:
        return
    unseen = [field for field in failed.values if field in write.base and write.base[field] == failed.values[field]]
    write.base = {**write.base, **pick(failed.base, unseen)}


async def _store(cache: Any, puts: Mapping[str, Values], gone: Iterable[str]) -> None:
    """At once where the cache can, else one after the other."""
    if isinstance(cache, Batched):
        await cache.apply(puts, gone)
        return
    for id in gone:
        await cache.delete(id)
    for id, values in puts.items():
        await cache.replace_value(id, values)
