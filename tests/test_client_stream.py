"""How the client reads a stream: byte by byte as web-platform-tests have it, and over connections that come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from vanguard_client import Backoff, Forbidden, Refused, Unauthorized, Vanguard
from vanguard_client.feed import FeedEvent, FeedMessage, FeedReset, Lost, UpToDate, read_stream

# --- bytes: eventsource/format-*, event-data and others of web-platform-tests, in our words

Told = tuple[str, str]  # type and data
LONG = "x" * 2048
VECTORS: dict[str, tuple[bytes, list[Told]]] = {
    "a byte order mark is no part of the first line": (
        b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", [("message", "1"), ("message", "3")],
    ),
    "two byte order marks are one too many": (
        b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n", [("message", "2"), ("message", "3")],
    ),
    "comments, short and long": (
        f"data:1\r:\0\n:\r\ndata:2\n:{LONG}\rdata:3\n:data:fail\r:{LONG}\ndata:4\n\n".encode(),
        [("message", "1\n2\n3\n4")],
    ),
    "what no empty line ends is not told": (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", [("message", "test1")]),
    "lines of data": (b"data\ndata\n\ndata:test\n\n", [("message", "\n"), ("message", "test")]),
    "an event's type": (b"event:test\ndata:x\n\ndata:x\n\n", [("test", "x"), ("message", "x")]),
    "an empty type is none": (b"event: \ndata:data\n\n", [("message", "data")]),
    "names of fields are exact": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\n"
        b"data:3\rdata:\r\n data:32\ndata:4\n\n",
        [("message", "\0\n 2\n1\n3\n\n4")],
    ),
    "other fields are passed over": (
        b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
        [("message", "test\n\ntest")],
    ),
    "one space is left out": (b"data:\ttest\rdata: \ndata:test\n\n", [("message", "\ttest\n\ntest")]),
    "every kind of line end": (b"data:test\r\ndata\ndata:test\r\n\r", [("message", "test\n\ntest")]),
    "a null character": (b"data:\0\n\n", [("message", "\0")]),
    "a retry that is none": (b"retry:3000\nretry:1000x\ndata:x\n\n", [("message", "x")]),
    "an empty retry": (b"retry\ndata:test\n\n", [("message", "test")]),
    "UTF-8": ("data:ok…\n\n".encode(), [("message", "ok…")]),
    "U+2028 and its like end no line": (
        "data:a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\n\n".encode(),
        [("message", "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei")],
    ),
    "bytes that are no UTF-8": (b"data:a\xffb\n\n", [("message", "a\ufffdb")]),
}  # fmt: skip


class Pieces(httpx.AsyncByteStream):
    """Bytes, so many at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self.content, self.size = content, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), self.size):
            yield self.content[start : start + self.size]


def answer(content: bytes, size: int, kind: str = "text/event-stream") -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": kind}, stream=Pieces(content, size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("name", VECTORS)
async def test_bytes_are_read_as_the_standard_has_it(name: str, size: int) -> None:
    content, told = VECTORS[name]
    for kind in ("text/event-stream", "text/event-stream;charset=windows-1252", "text/event-stream;"):
        read = [(each.event, each.data) async for each in read_stream(answer(content, size, kind))]
        assert read == told


async def test_an_id_lasts_until_there_is_another() -> None:
    content = b"id: 1\ndata: 1\n\ndata: 2\n\nid: 2\ndata:3\n\ndata:4\n\nid\ndata:5\n\n"
    assert [each.id async for each in read_stream(answer(content, 5))] == ["1", "1", "2", "2", ""]


@pytest.mark.parametrize("id", ["\0\0", "x\0", "\0x", "x\0x", " \0"])
async def test_an_id_with_a_null_character_is_none(id: str) -> None:
    content = f"id: {id}\ndata: hello\n\n".encode()
    assert [(each.id, each.data) async for each in read_stream(answer(content, 5))] == [("", "hello")]


# --- connections

Answer = bytes | Callable[[asyncio.StreamWriter], Any]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(number: int, **more: Any) -> bytes:
    id = f"{number:012x}.1.x"
    body = httpx.Request("GET", "http://x", json={"id": id, "type": "commit", "at": "t", "ids": ["A"], **more}).content
    return b"id: %b\ndata: %b\n\n" % (id.encode(), body)


def place(kind: str, number: int, **more: str) -> bytes:
    position = f"{number:012x}.1.x"
    body = httpx.Request("GET", "http://x", json={"position": position, **more}).content
    return b"event: %b\nid: %b\ndata: %b\n\n" % (kind.encode(), position.encode(), body)


def status(code: int, headers: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {code} X\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


class Script:
    """A server that gives one answer after the other, the last one for ever; and what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.heads, self.url = list(answers), list[str](), ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(given, bytes):
                writer.write(given)
            else:
                await given(writer)
            writer.close()
            await writer.wait_closed()

    def asked(self, header: str) -> list[str | None]:
        """The header of each request."""
        found = []
        for head in self.heads:
            lines = dict(line.partition(": ")[::2] for line in head.lower().split("\r\n")[1:])
            found.append(lines.get(header.lower()))
        return found


class Listener:
    """A client of a script."""

    def __init__(self, script: Script, server: Vanguard, pauses: list[float], tokens: list[str]) -> None:
        self.script, self.server, self.pauses, self.tokens = script, server, pauses, tokens

    async def hear(self, count: int, since: str = "now") -> list[FeedMessage]:
        """So many messages."""
        heard: list[FeedMessage] = []
        stream = self.server.events("acme", since)
        async for message in stream:
            heard.append(message)
            if len(heard) == count:
                break
        await stream.aclose()
        return heard


@asynccontextmanager
async def listening(*answers: Answer, heartbeat: float = 15.0) -> AsyncIterator[Listener]:
    script, pauses, tokens = Script(*answers), list[float](), list[str]()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def token() -> str:
        tokens.append(f"token-{len(tokens)}")
        return tokens[-1]

    backoff = Backoff(base=1, cap=16, random=lambda: 0.5, sleep=sleep)
    async with server, Vanguard(script.url, token, backoff=backoff, heartbeat=heartbeat) as vanguard:
        yield Listener(script, vanguard, pauses, tokens)


async def test_what_is_sent_is_heard() -> None:
    sent = (
        HEAD + b"retry: 1500\n\n" + place("open", 1) + event(2) + b": heartbeat\n\n" + place("uptodate", 2) + event(3)
    )
    async with listening(sent) as listener:
        one, uptodate, other = await listener.hear(3, "earliest")
        assert isinstance(one, FeedEvent)
        assert isinstance(other, FeedEvent)
        assert (one.ids, one.id, other.id) == (["A"], "000000000002.1.x", "000000000003.1.x")
        assert uptodate == UpToDate("000000000002.1.x")
        assert listener.script.heads[0].startswith("GET /api/v1/orgs/acme/events?since=earliest ")
        assert listener.script.asked("authorization") == ["bearer token-0"]


async def test_a_connection_that_is_cut_goes_on_where_it_was_with_a_new_token() -> None:
    first = HEAD + place("open", 1) + event(2) + event(3)[:-20]
    async with listening(
        HEAD + place("open", 1), first, HEAD + place("open", 2) + event(3) + place("uptodate", 3)
    ) as listener:
        heard = await listener.hear(5)
        assert [each.id for each in heard if isinstance(each, FeedEvent)] == ["000000000002.1.x", "000000000003.1.x"]
        assert [type(each) for each in heard] == [Lost, FeedEvent, Lost, FeedEvent, UpToDate]
        assert listener.script.asked("last-event-id") == [None, "000000000001.1.x", "000000000002.1.x"]
        assert listener.script.asked("authorization") == ["bearer token-0", "bearer token-1", "bearer token-2"]


async def test_who_loses_the_connection_again_and_again_waits_longer_each_time() -> None:
    async with listening(HEAD, HEAD, HEAD, HEAD + place("open", 1) + place("uptodate", 1)) as listener:
        await listener.hear(6)
        assert listener.pauses == [0.5, 1, 2, 0.5], "and once it was up to date it begins again"


async def test_the_server_says_how_soon_to_come_back() -> None:
    async with listening(HEAD + b"retry: 6000\n\n" + place("open", 1)) as listener:
        await listener.hear(2)
        assert listener.pauses == [3.0]


async def test_two_missed_heartbeats_mean_that_it_is_dead() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + place("open", 1))
        await asyncio.Event().wait()

    async with listening(silent, HEAD + place("open", 1) + event(2), heartbeat=0.05) as listener:
        lost, heard = await listener.hear(2)
        assert isinstance(lost, Lost)
        assert "ReadTimeout" in str(lost.error)
        assert isinstance(heard, FeedEvent)


async def test_heartbeats_keep_it_alive() -> None:
    async def slow(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + place("open", 1))
        for _ in range(5):
            await asyncio.sleep(0.06)
            writer.write(b": heartbeat\n\n")
        writer.write(event(2))
        await writer.drain()

    async with listening(slow, heartbeat=0.1) as listener:
        (heard,) = await listener.hear(1)
        assert isinstance(heard, FeedEvent)


async def test_a_reset_is_told_and_the_stream_goes_on() -> None:
    async with listening(HEAD + place("reset", 9, reason="expired") + event(10)) as listener:
        reset, heard = await listener.hear(2, "000000000001.1.x")
        assert reset == FeedReset("expired", "000000000009.1.x")
        assert isinstance(heard, FeedEvent)
        assert listener.script.asked("last-event-id") == ["000000000001.1.x"]


def end(reason: str) -> bytes:
    return f'event: end\ndata: {{"reason":"{reason}"}}\n\n'.encode()


@pytest.mark.parametrize("reason", ["token_expired", "shutdown", "of a later release"])
async def test_a_stream_that_ends_is_followed_by_the_next(reason: str) -> None:
    async with listening(HEAD + place("open", 1) + end(reason), HEAD + place("open", 1) + event(2)) as listener:
        lost, heard = await listener.hear(2)
        assert isinstance(lost, Lost)
        assert isinstance(heard, FeedEvent)
        assert listener.script.asked("last-event-id") == [None, "000000000001.1.x"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HEAD + place("open", 1) + end("access_revoked"), Forbidden),
        (status(204), Refused),
        (status(403, body=b'{"code":"FORBIDDEN"}'), Forbidden),
        (status(404, body=b'{"code":"DATASET_NOT_FOUND"}'), Refused),
    ],
    ids=["access_revoked", "204", "403", "404"],
)
async def test_who_may_not_listen_any_more_stops(answer: bytes, error: type[Exception]) -> None:
    async with listening(answer) as listener:
        with pytest.raises(error):
            await listener.hear(3)
        assert len(listener.script.heads) == 1


async def test_a_token_that_is_never_taken_is_given_up() -> None:
    async with listening(status(401, body=b'{"code":"TOKEN_EXPIRED"}')) as listener:
        with pytest.raises(Unauthorized):
            await listener.hear(10)
        assert listener.tokens == [f"token-{number}" for number in range(5)], "each time a new one"


@pytest.mark.parametrize(
    "answer",
    [
        status(503, "Retry-After: 7\r\n"),
        status(200, "Content-Type: text/html\r\n", b"<html>"),
        HEAD + b"data: no json\n\n",
        HEAD + b'data: {"id": 7}\n\n',
        b"no HTTP at all\r\n\r\n",
    ],
    ids=["busy", "a page", "no JSON", "no event", "no HTTP"],
)
async def test_what_is_no_stream_is_tried_again(answer: bytes) -> None:
    async with listening(answer, HEAD + place("open", 1) + event(2)) as listener:
        lost, heard = await listener.hear(2)
        assert isinstance(lost, Lost)
        assert isinstance(heard, FeedEvent)
        assert listener.pauses == [7.0 if b"Retry-After" in answer else 0.5]


async def test_an_event_of_a_kind_that_is_not_known_is_passed_over() -> None:
    async with listening(HEAD + place("of a later release", 2) + event(3, later=True)) as listener:
        (heard,) = await listener.hear(1)
        assert isinstance(heard, FeedEvent)
