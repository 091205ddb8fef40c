"""The tailer: the one reader of the feed in a process, which hands what is new to everybody who listens.

It looks at the counters of the organizations that somebody listens to, and reads what is new once, however many listen.
A channel holds an organization's newest entries; each listener has its own place in it, and no queue. Who is further
behind than the channel holds reads from the database, or is told to begin anew.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import datetime
from typing import NamedTuple

import msgspec
import structlog
from asyncpg import Record
from prometheus_client import Counter, Gauge

from app.base.clock import Clock
from app.base.database import Connection, Database
from app.base.errors import DatabaseUnavailable
from app.base.statements import statement
from app.engine.positions import Position, Reason

log = structlog.get_logger(__name__)

READ_EVENTS = statement("feed/read_events")
READ_HEADS = statement("feed/read_heads")
READ_WORKSPACES = statement("feed/read_workspaces")

TICK = 0.025  # seconds between two looks at the counters
DRAFTS_TICK = 0.25  # seconds between two looks at the listeners' own drafts
CLOCK_TICK = 0.25  # seconds between two looks at the clock
HEARTBEAT = 15.0  # seconds without anything, after which a listener is told that the stream is there
PATIENCE = 60.0  # seconds that a listener may take to take what was sent
FAREWELL = 2.0  # the same once it is over
ACCESS_TICK = 4.0  # seconds between two looks at who may still listen
AGAIN = 1.0  # seconds until the database is tried again
BATCH = 1000  # entries that are read at once
KEPT_ENTRIES = 2000  # of an organization
KEPT_BYTES = 8 * 2**20

LISTENERS = Gauge("vanguard_feed_listeners", "Streams of the feed that are open")
DELIVERED = Counter("vanguard_feed_entries_total", "Entries of the feed that were read for listeners")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry; `event` are the members of its JSON object but for the id."""

    number: int
    dataset: str
    audience: "Audience"
    event: bytes


class Audience(NamedTuple):
    """Whom something is told: these accounts (None: every member), and besides every ADMIN, or every ENGINEER."""

    accounts: frozenset[str] | None
    admins: bool
    engineers: bool


def audience_of(row: Record) -> Audience:
    """The audience of a record of read_events, or read_keys."""
    accounts = None if row["audience"] is None else frozenset(row["audience"])
    return Audience(accounts, row["for_admins"], row["for_engineers"])


def entry_of(row: Record) -> Entry:
    """The entry of a record of read_events."""
    return Entry(
        number=row["number"],
        dataset=row["dataset"],
        audience=audience_of(row),
        event=row["event"].encode(),
    )


async def read_entries(connection: Connection, organization: str, after: int, limit: int) -> list[Entry]:
    """What follows a number, in order, whoever may see it."""
    rows = await connection.rows(READ_EVENTS, organization=organization, after=after, limit=limit)
    return [entry_of(row) for row in rows]


class Bearer(NamedTuple):
    """Who holds a stream: an account's id, and who that is among all providers' (`subject`); the token's id, the one
    that it renews, its issue and its end; whose keys signed it; the role that it claims, and that counted.
    """

    user: str
    subject: str
    token_id: str
    session_id: str | None
    issued_at: float
    expires_at: datetime
    provider: str | None
    generation: int
    claimed: str
    role: str


class Listener:
    """Somebody who listens to an organization's feed: woken when there is something new, or it is over.

    `latest` are the revisions of their workspaces. `ending` says why it is over, `reset` why they have to begin anew.
    Whoever sends them something says so by `sends`: what is not taken ends `task`, and where nothing was sent for long,
    `quiet` is set.
    """

    __slots__ = ("bearer", "channel", "ending", "latest", "quiet", "reset", "sending", "since", "task", "wake")

    def __init__(self, channel: "Channel", bearer: Bearer):
        self.channel, self.bearer = channel, bearer
        self.latest: dict[str, int] = {}
        self.ending: str | None = None
        self.reset: Reason | None = None
        self.wake = asyncio.Event()
        self.task = asyncio.current_task()
        self.quiet = self.sending = False
        self.since = asyncio.get_running_loop().time()

    def sends(self, now: float, *, done: bool = False) -> None:
        """Something is sent, or was taken."""
        self.sending, self.since, self.quiet = not done, now, False

    def look_at_clock(self, now: float) -> None:
        """End it where nothing is taken, remind of it where nothing is sent."""
        patience = PATIENCE if self.ending is None else FAREWELL
        if self.sending and now - self.since > patience and self.task is not None:
            self.ending = self.ending or "stalled"
            self.task.cancel()
        elif not self.sending and now - self.since > HEARTBEAT:
            self.quiet = True
            self.wake.set()

    def end(self, reason: str) -> None:
        """It is over."""
        if self.ending is None:
            self.ending = reason
            self.wake.set()


class Channel:
    """An organization's newest entries, numbers `first` + 1 to `head`, and who listens to them."""

    def __init__(self, organization: str, epoch: int, number: int):
        self.organization = organization
        self.epoch = epoch
        self.first = self.head = number
        self.entries: list[Entry] = []
        self.listeners: set[Listener] = set()
        self._bytes = 0

    def after(self, number: int) -> Sequence[Entry] | None:
        """The entries behind a number; None where the channel begins later."""
        return None if number < self.first else self.entries[number - self.first :]

    def add(self, entries: Sequence[Entry]) -> None:
        """Entries that follow the newest one."""
        self.entries.extend(entries)
        self.head = entries[-1].number
        self._bytes += sum(len(entry.event) for entry in entries)
        if len(self.entries) > 2 * KEPT_ENTRIES or self._bytes > 2 * KEPT_BYTES:
            self._trim()
        self._wake()

    def begin_anew(self, epoch: int, number: int, reason: Reason) -> None:
        """What listeners know is not what there is any more."""
        self.epoch, self.first, self.head = epoch, number, number
        self.entries, self._bytes = [], 0
        for listener in self.listeners:
            listener.reset = reason
        self._wake()

    def _trim(self) -> None:
        kept, size = 0, 0
        for entry in reversed(self.entries):
            size += len(entry.event)
            if kept == KEPT_ENTRIES or size > KEPT_BYTES:
                break
            kept += 1
        dropped = len(self.entries) - kept
        self._bytes -= sum(len(entry.event) for entry in self.entries[:dropped])
        del self.entries[:dropped]
        self.first += dropped

    def _wake(self) -> None:
        for listener in self.listeners:
            listener.wake.set()


# Whether each of these, who were let in to an organization, may go on.
ReadAccess = Callable[[Connection, str, Sequence[Bearer]], Awaitable[Sequence[bool]]]


class Tailer:
    """Begins to look when somebody listens, and stops when nobody does."""

    def __init__(self, database: Database, clock: Clock, read_access: ReadAccess):
        self._database, self._clock, self._read_access = database, clock, read_access
        self._channels: dict[str, Channel] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return sum(len(channel.listeners) for channel in self._channels.values())

    def listeners_of(self, subject: str) -> int:
        """How many of them are one bearer's."""
        return sum(listener.bearer.subject == subject for listener in self._all())

    @asynccontextmanager
    async def listening(self, organization: str, at: Position, bearer: Bearer) -> AsyncGenerator[Listener, None]:
        """Listen for the time of the block; `at` is where the feed stood just now."""
        channel = self._channels.get(organization)
        if channel is None:
            channel = self._channels[organization] = Channel(organization, at.epoch, at.number)
        listener = Listener(channel, bearer)
        channel.listeners.add(listener)
        LISTENERS.inc()
        if self._closing:
            listener.end("shutdown")
        else:
            self._go_on("tail", self._tail)
            self._go_on("clock", self._watch_clock)
        try:
            yield listener
        finally:
            LISTENERS.dec()
            channel.listeners.discard(listener)
            if not channel.listeners and self._channels.get(organization) is channel:
                del self._channels[organization]

    def end(self) -> None:
        """The process stops: everybody who listens is told."""
        self._closing = True
        for listener in self._all():
            listener.end("shutdown")

    async def close(self) -> None:
        """Stop looking."""
        self.end()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _all(self) -> list[Listener]:
        return [listener for channel in self._channels.values() for listener in channel.listeners]

    # --- its tasks: one reads, one looks at the clock

    def _go_on(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Each ends by itself when it finds that nobody listens, at its own time."""
        task = self._tasks.get(name)
        if task is None or task.done():
            # Not in the context of whoever asks first: it is work of the service.
            self._tasks[name] = asyncio.create_task(work(), context=Context())

    async def _tail(self) -> None:
        while self._channels:
            try:
                async with self._database.beside() as connection:
                    await self._look(connection)
            except DatabaseUnavailable:
                await asyncio.sleep(AGAIN)
            except Exception:
                log.exception("tailer failed")
                await asyncio.sleep(AGAIN)

    async def _look(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time
        drafts_at = access_at = now()
        while self._channels:
            # First: after an absence of the database nobody is told anything who may not listen any more.
            if now() >= access_at:
                access_at = now() + ACCESS_TICK
                await self._end_refused(connection)
            await self._read_new(connection)
            if now() >= drafts_at:
                drafts_at = now() + DRAFTS_TICK
                await self._read_own(connection)
            await asyncio.sleep(TICK)

    async def _read_new(self, connection: Connection) -> None:
        for row in await connection.rows(READ_HEADS, organizations=list(self._channels)):
            channel = self._channels.get(row["organization_id"])
            if channel is None:
                continue
            if row["epoch"] != channel.epoch:
                channel.begin_anew(row["epoch"], row["number"], Reason.EPOCH)
            elif row["number"] < channel.head:
                channel.begin_anew(row["epoch"], row["number"], Reason.AHEAD)
            elif row["number"] > channel.head:
                await self._read_entries(connection, channel, row["number"])

    async def _read_entries(self, connection: Connection, channel: Channel, head: int) -> None:
        while channel.head < head:
            entries = await read_entries(connection, channel.organization, channel.head, BATCH)
            if not entries or entries[0].number != channel.head + 1:
                channel.begin_anew(channel.epoch, head, Reason.EXPIRED)
                return
            DELIVERED.inc(len(entries))
            channel.add(entries)

    async def _read_own(self, connection: Connection) -> None:
        for channel in list(self._channels.values()):
            of_user: dict[str, list[Listener]] = {}
            for listener in channel.listeners:
                of_user.setdefault(listener.bearer.user, []).append(listener)
            rows = await connection.rows(READ_WORKSPACES, organization=channel.organization, users=list(of_user))
            for row in rows:
                for listener in of_user[row["user_id"]]:
                    if listener.latest.get(row["dataset"], 0) < row["revision"]:
                        listener.latest[row["dataset"]] = row["revision"]
                        listener.wake.set()

    async def _watch_clock(self) -> None:
        while self._channels:
            at, now = self._clock(), asyncio.get_running_loop().time()
            for listener in self._all():
                listener.look_at_clock(now)
                if listener.bearer.expires_at <= at:
                    listener.end("token_expired")
            await asyncio.sleep(CLOCK_TICK)

    async def _end_refused(self, connection: Connection) -> None:
        for channel in list(self._channels.values()):
            listeners = list(channel.listeners)
            bearers = [listener.bearer for listener in listeners]
            allowed = await self._read_access(connection, channel.organization, bearers)
            for listener, may_go_on in zip(listeners, allowed, strict=True):
                if not may_go_on:
                    listener.end("access_revoked")
