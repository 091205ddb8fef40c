"""`GET .../events`: the feed as a stream of server-sent events.

A stream holds no connection of the pool: it takes one to catch up, a batch at a time, and lives on what the tailer
reads after that.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import structlog
from litestar import get
from litestar.openapi.spec import Operation
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send
from prometheus_client import Counter

from app.base.errors import FeedExpired, StreamsBusy, TooManyRequests
from app.base.places import holder
from app.engine.positions import Position, Reason, Standing
from app.engine.tailer import Bearer, Entry, Listener
from app.feed.changes import NOW, ORGANIZATION_PATH, reader_of, start_of
from app.feed.reader import Reader, Told
from app.web.auth import Action, require
from app.web.headers import is_head
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, parameter
from app.web.paging import read_given
from app.web.runtime import Runtime, VanguardRequest
from app.web.work import take_time

log = structlog.get_logger(__name__)

STREAMS = Counter("vanguard_streams_total", "Streams of the feed by how they ended", ["outcome"])
RESETS = Counter("vanguard_stream_resets_total", "Streams that had to begin anew, by why", ["reason"])

CATCH_UP = 200  # entries that are read at once of what was missed
PORTION = 2**18  # bytes that are sent at once, more or less: what somebody slow makes us hold
EVENT_STREAM = "text/event-stream"
RETRY_AFTER = 30  # seconds
RETRY = (1000, 3000)  # milliseconds until a client connects again: not all of them at once
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


Put = Callable[[bytes], Awaitable[None]]  # sends a part of the stream


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A block of a stream, for /schema: `data` is JSON."""

    data: str
    event: str | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET
    retry: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class EventsOperation(Operation):
    """The parameters for /schema: the handler reads them itself."""

    def __post_init__(self) -> None:
        since = parameter("since", "string", "Without Last-Event-ID: a position, earliest or now", default=NOW)
        self.parameters = [*(self.parameters or []), since]


def block(kind: str | None, id_: bytes, data: bytes) -> bytes:
    """An event of a stream. Data is JSON, so it has no line ends."""
    named = b"" if kind is None else b"event: %b\n" % kind.encode()
    return b"%bid: %b\ndata: %b\n\n" % (named, id_, data)


def blocks(told: Iterable[Told]) -> bytes:
    """What happened, in the default type of events."""
    return b"".join([b"id: %b\ndata: %b\n\n" % each for each in told])


def portion(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The first of the entries, which are sent at once."""
    size = 0
    for place, entry in enumerate(entries, start=1):
        size += len(entry.event)
        if size > PORTION:
            return entries[:place]
    return entries


class Stream(ASGIResponse):
    """Sends what a reader is told, until the client leaves or may listen no more."""

    _should_set_content_length: ClassVar[bool] = False

    def __init__(self, runtime: Runtime, reader: Reader, bearer: Bearer, since: str):
        super().__init__(media_type=EVENT_STREAM, headers=HEADERS)
        self._runtime, self._reader, self._bearer, self._since = runtime, reader, bearer, since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events, as long as the client is there."""
        take_time(scope)
        # What streams read is small, and max_streams bounds it: a stream waits for no other request of its user.
        holder.set(None)
        if is_head(scope):
            await self.start_response(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        started, outcome = time.perf_counter(), "failed"
        sending = asyncio.create_task(self._serve(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            outcome = "left" if not sending.done() else "stalled" if sending.cancelled() else sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            STREAMS.labels(outcome).inc()
            log.info("stream", outcome=outcome, seconds=round(time.perf_counter() - started, 1))

    async def _serve(self, send: Send) -> str:
        """How it ended; raises what keeps it from beginning."""
        reader, runtime = self._reader, self._runtime
        async with runtime.database.connection() as connection:
            standing = await reader.standing(connection)
        # Nobody comes in between: of many at once no more are let in than may be.
        if runtime.tailer.listeners >= runtime.settings.max_streams:
            raise StreamsBusy(
                f"{runtime.settings.max_streams:,} streams are open, as many as may be (VANGUARD_MAX_STREAMS). "
                "Try again later.",
                retry_after=RETRY_AFTER,
            )
        if runtime.tailer.listeners_of(self._bearer.subject) >= (most := runtime.settings.user_streams):
            raise TooManyRequests(
                f"You have {most} streams open (VANGUARD_USER_STREAMS). Close one of them first.",
                retry_after=RETRY_AFTER,
            )
        async with runtime.tailer.listening(reader.organization, standing.position, self._bearer) as listener:
            await self.start_response(send)

            async def put(part: bytes, *, more: bool = True) -> None:
                if part:
                    listener.sends(time.monotonic())
                    await send({"type": "http.response.body", "body": part, "more_body": more})
                    listener.sends(time.monotonic(), done=True)

            await self._open(put, listener, standing)
            await self._catch_up(put, listener)
            await self._follow(put, listener)
            await put(b'event: end\ndata: {"reason":"%b"}\n\n' % (listener.ending or "").encode(), more=False)
            return listener.ending or "ended"

    async def _open(self, put: Put, listener: Listener, standing: Standing) -> None:
        """The first block has an id: who loses the connection right after it goes on from there."""
        reader = self._reader
        listener.latest = dict(standing.position.own)
        await put(b"retry: %d\n\n" % random.randint(*RETRY))  # noqa: S311 - spreads load, guards nothing
        try:
            reader.start(start_of(self._since, reader.organization, reader.user, standing))
        except FeedExpired as expired:
            reader.start(standing.position)
            await put(_reset(reader, expired.extra["reason"]))
        else:
            await put(_told_position("open", reader))

    async def _catch_up(self, put: Put, listener: Listener) -> None:
        """What was missed: from the database as far as the channel does not have it, batch by batch."""
        reader, channel = self._reader, listener.channel
        while reader.number < channel.head and listener.ending is None:
            await put(await self._missed(listener))
        await put(blocks(reader.take_own(listener.latest)) + _told_position("uptodate", reader))

    async def _missed(self, listener: Listener) -> bytes:
        reader, channel = self._reader, listener.channel
        entries = channel.after(reader.number)
        if entries is not None:
            return blocks(reader.take_all(portion(entries)))
        try:
            async with self._runtime.database.connection() as connection:
                return blocks(await reader.read(connection, channel.first, CATCH_UP))
        except FeedExpired as expired:
            _begin_anew(reader, listener)
            return _reset(reader, expired.extra["reason"])

    async def _follow(self, put: Put, listener: Listener) -> None:
        """What happens from now on, until it is over."""
        reader, channel = self._reader, listener.channel
        while listener.ending is None:
            listener.wake.clear()
            entries = channel.after(reader.number)
            if listener.reset is not None or entries is None:
                reason = listener.reset or Reason.SLOW
                _begin_anew(reader, listener)
                await put(_reset(reader, reason))
                continue
            told = reader.take_all(portion(entries)) + reader.take_own(listener.latest)
            if told:
                await put(blocks(told))
            elif listener.quiet:
                await put(b": heartbeat\n\n")
            else:
                await listener.wake.wait()


def _begin_anew(reader: Reader, listener: Listener) -> None:
    """The reader goes on from where the channel is now, and has to load anew what was before."""
    listener.reset = None
    reader.start(Position(listener.channel.epoch, listener.channel.head, listener.latest))


def _told_position(kind: str, reader: Reader) -> bytes:
    position = reader.position.encode()
    return block(kind, position, b'{"position":"%b"}' % position)


def _reset(reader: Reader, reason: str) -> bytes:
    RESETS.labels(reason).inc()
    position = reader.position.encode()
    return block("reset", position, b'{"reason":"%b","position":"%b"}' % (reason.encode(), position))


async def _left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def stream(request: VanguardRequest, organization: str, dataset: str | None) -> Stream:
    """The stream of what a caller may see; raises InvalidFilter, DatasetNotFound."""
    runtime, user = request.runtime, request.user
    reader = await reader_of(request, organization, dataset)
    since = request.headers.get("last-event-id") or read_given(request, "since").get("since", NOW)
    assert user.role is not None, "the gate let somebody in, with a role"
    bearer = Bearer(
        user=user.user_id,
        subject=user.subject,
        token_id=user.token_id,
        session_id=user.session_id,
        issued_at=user.issued_at,
        expires_at=user.expires_at,
        provider=user.provider,
        generation=user.generation,
        claimed=user.orgs[organization].value,
        role=user.role.value,
    )
    return Stream(runtime, reader, bearer, since)


EVENTS: dict[str, Any] = {
    "opt": {**require(Action.QUERY), "cookie": True},
    "tags": ["feed"],
    "operation_class": EventsOperation,
}


@get(
    f"{ORGANIZATION_PATH}/events",
    summary="What happens in an organization, as it happens",
    responses=answers(Block, description="A stream of server-sent events", media_type=EVENT_STREAM),
    **EVENTS,
)
async def get_organization_events(request: VanguardRequest, org: Organization) -> Stream:
    """Server-sent events; they resume from Last-Event-ID or `since`. A browser authenticates by the login's cookie."""
    return await stream(request, org, None)


@get(
    f"{DATASET_PATH}/events",
    summary="What happens in a dataset, as it happens",
    responses=answers(Block, 404, description="A stream of server-sent events", media_type=EVENT_STREAM),
    **EVENTS,
)
async def get_events(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Stream:
    """The organization's stream, of one dataset alone; positions go for both."""
    return await stream(request, org, dataset)


ROUTES = [get_organization_events, get_events]
