"""The feed as Vanguard sends it: server-sent events, over as many connections as it takes."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse
import msgspec

from vanguard_client.errors import Forbidden, Refused, Unauthorized, Unavailable

if TYPE_CHECKING:
    from vanguard_client.server import Vanguard


class Actor(msgspec.Struct, frozen=True):
    """Who did it; `name` is None for somebody whom the server does not know."""

    id: str
    name: str | None = None


class FeedEvent(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What happened, as docs/feed.md of Vanguard tells it. `id` is the position behind it.

    `ids` is None where there are more than 1,000 rows. `from_` and `to` are there for `drafts` only.
    """

    id: str
    type: str
    at: str
    dataset: str | None = None
    revision: int | None = None
    actor: Actor | None = None
    count: int | None = None
    ids: list[str] | None = None
    keys: dict[str, str] = {}
    details: dict[str, Any] = {}
    from_: int | None = None
    to: int | None = None


class UpToDate(msgspec.Struct, frozen=True):
    """All that was missed has been told."""

    position: str


class FeedReset(msgspec.Struct, frozen=True):
    """The feed cannot be told from where it was asked for: read anew what you show, and go on."""

    reason: str
    position: str


class Lost(msgspec.Struct, frozen=True):
    """The connection is gone, and another one is tried."""

    error: Unavailable


FeedMessage = FeedEvent | UpToDate | FeedReset | Lost


class _Place(msgspec.Struct):
    reason: str = ""
    position: str = ""


async def read_stream(response: httpx.Response) -> AsyncIterator[httpx_sse.ServerSentEvent]:
    """The server-sent events of an answer, but for empty ones."""
    # Always UTF-8, whatever the header says, and a byte order mark is no part of the first line.
    response.encoding = "utf-8-sig"
    async for each in httpx_sse.EventSource(response).aiter_sse():
        if each.data or each.id or each.retry is not None:
            yield each


class Stream:
    """One feed, from a position on, `earliest`, or `now`. A token is asked for at each connection.

    A connection that is silent for two heartbeats is dead. Where one ended the next begins, by the id of the last
    message.
    """

    def __init__(self, server: "Vanguard", path: str, since: str) -> None:
        self._server, self._path, self._last = server, path, since
        self._backoff = server.backoff
        self._attempt = 0  # connections in a row that did not come to be up to date
        self._unauthorized = 0

    async def messages(self) -> AsyncGenerator[FeedMessage, None]:
        """All that is told, for ever. Raises Refused when the caller may not listen any more."""
        while True:
            try:
                async with self._server.connect(self._path, self._last) as response:
                    async for message in self._read(response):
                        yield message
                lost = Unavailable("The stream has ended.")
            except Unavailable as error:
                lost = error
            except Unauthorized:
                self._unauthorized += 1
                if self._unauthorized >= self._server.attempts:
                    raise
                lost = Unavailable("The token was not taken.")
            except (httpx.TransportError, httpx.StreamError, httpx_sse.SSEError, httpx.DecodingError) as error:
                lost = Unavailable(f"The stream was lost: {type(error).__name__} {error}".rstrip())
            yield Lost(lost)
            await self._backoff.pause(self._attempt, lost.retry_after)
            self._attempt += 1

    async def _read(self, response: httpx.Response) -> AsyncIterator[FeedMessage]:
        """The messages of one connection."""
        self._unauthorized = 0
        async for each in read_stream(response):
            if each.retry is not None and each.retry > 0:
                self._backoff = replace(self._server.backoff, base=each.retry / 1000)
            message = self._message(each)
            self._last = each.id or self._last
            if message is not None:
                yield message

    def _message(self, told: httpx_sse.ServerSentEvent) -> FeedMessage | None:
        """What a server-sent event says; None for nothing that is to be told. An unknown kind is passed over."""
        if not told.data:
            return None
        try:
            if told.event == "message":
                return msgspec.json.decode(told.data, type=FeedEvent)
            place = msgspec.json.decode(told.data, type=_Place)
        except msgspec.DecodeError as error:
            raise Unavailable(f"The stream has what is no event: {error}") from error
        if told.event == "uptodate":
            self._attempt = 0
            return UpToDate(place.position)
        if told.event == "reset":
            return FeedReset(place.reason, place.position)
        if told.event == "end" and place.reason == "access_revoked":
            raise Forbidden("Access to the feed was taken away.", code="FORBIDDEN")
        if told.event == "end":
            raise Unavailable(f"The stream was ended: {place.reason}.")
        return None


def check_answer(response: httpx.Response) -> None:
    """Raises Refused where a stream's answer says that there will be none, Unavailable for what is no stream."""
    if response.status_code == 204:
        raise Refused("The feed may not be listened to any more.", code="FORBIDDEN", status=204)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise Unavailable(f"The answer is no stream of events but {kind or 'nothing'}: something stands between.")
