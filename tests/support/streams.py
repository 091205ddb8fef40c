"""Streams of server-sent events over real HTTP, as a client reads them: block by block, each awaited for so long."""

import asyncio
import math
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import httpx
from granian.constants import Interfaces
from granian.server.embed import Server

from app.base import exact_json
from tests.support.feed import number
from tests.support.world import User, World

LIMIT = 30.0  # seconds that anything may take here
FIELD = re.compile(rb"(event|id|data|retry): (.*)")


class Block(NamedTuple):
    """What stands between two empty lines. `kind` is None for the default type of events, and for a comment."""

    kind: str | None
    id: str | None
    data: Any
    retry: int | None
    comment: str | None

    @property
    def event(self) -> Any:
        """What happened; of this block it has to be that."""
        assert (self.kind, self.id) == (None, self.data["id"]), self
        return self.data


def read_block(text: bytes) -> Block:
    """A block as the standard has it, in the one form that the service sends."""
    assert b"\r" not in text
    if text.startswith(b": "):
        assert b"\n" not in text
        return Block(None, None, None, None, text[2:].decode())
    found: dict[bytes, bytes] = {}
    for each in text.split(b"\n"):
        field = FIELD.fullmatch(each)
        assert field is not None, text
        assert field[1] not in found, text
        found[field[1]] = field[2]
    return Block(
        found[b"event"].decode() if b"event" in found else None,
        found[b"id"].decode() if b"id" in found else None,
        exact_json.decode(found[b"data"]) if b"data" in found else None,
        int(found[b"retry"]) if b"retry" in found else None,
        None,
    )


class Stream:
    """An open stream, whose answer has begun."""

    def __init__(self, response: httpx.Response):
        self.response = response
        self._parts = response.aiter_raw()
        self._rest = b""
        self.last_id: str | None = None

    async def next(self) -> Block | None:
        """The next block, None where the stream has ended as it should; raises httpx.TransportError where it broke."""
        async with asyncio.timeout(LIMIT):
            while b"\n\n" not in self._rest:
                part = await anext(self._parts, None)
                if part is None:
                    assert self._rest == b"", "a stream ends behind a block"
                    return None
                self._rest += part
        text, _, self._rest = self._rest.partition(b"\n\n")
        block = read_block(text)
        self.last_id = block.id or self.last_id
        return block

    async def block(self, kind: str | None = None) -> Block:
        """The next one but for comments and retry; of this kind."""
        while True:
            found = await self.next()
            assert found is not None, "the stream has ended"
            if found.comment is None and found.retry is None:
                assert found.kind == kind, found
                return found

    async def events(self, number: int) -> list[Any]:
        """So many events, with nothing between."""
        return [(await self.block()).event for _ in range(number)]

    async def until_up_to_date(self) -> list[Any]:
        """All that was missed."""
        found: list[Any] = []
        while True:
            block = await self.next()
            assert block is not None, "the stream has ended"
            if block.kind == "uptodate":
                assert block.data == {"position": block.id}
                return found
            if block.kind is None and block.comment is None and block.retry is None:
                found.append(block.event)

    async def ended(self) -> str:
        """Why it ended; events before that are passed over."""
        while True:
            block = await self.next()
            assert block is not None, "it ended without a word"
            if block.kind == "end":
                assert (block.id, await self.next()) == (None, None)
                return str(block.data["reason"])


class Door:
    """A world's application behind a real socket, in this process."""

    def __init__(self, world: World, port: int, http: httpx.AsyncClient):
        self.world, self.port, self.http = world, port, http

    @asynccontextmanager
    async def stream(
        self, user: User, since: str | None = None, *, last_id: str | None = None, of_dataset: bool = False, **more: Any
    ) -> AsyncIterator[Stream]:
        """The organization's stream, or that of the user's dataset, once it is answered."""
        headers = {"Authorization": f"Bearer {user.token}"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        headers = more.pop("headers", headers)
        place = f"/datasets/{user.dataset}" if of_dataset else ""
        params = {} if since is None else {"since": since}
        path = f"/api/v1/orgs/{user.organization}{place}/events"
        async with self.http.stream("GET", path, params=params, headers=headers, **more) as response:
            yield Stream(response)

    @asynccontextmanager
    async def opened(self, user: User, since: str | None = None, **more: Any) -> AsyncIterator[Stream]:
        """The same, read until it is up to date; nothing may have been missed."""
        async with self.stream(user, since, **more) as stream:
            assert stream.response.status_code == 200, await stream.response.aread()
            assert await stream.until_up_to_date() == []
            yield stream

    async def until_listeners(self, number: int) -> None:
        """Wait until so many listen."""
        async with asyncio.timeout(LIMIT):
            while self.world.runtime.tailer.listeners != number:
                await self.world.db.fetchval("SELECT 1")


@asynccontextmanager
async def served(world: World) -> AsyncIterator[Door]:
    """The world's application behind a socket, with the server that `vanguard serve` has: its clock can be moved."""
    port = free_port()
    server = Server(
        world.application,
        port=port,
        interface=Interfaces.ASGINL,
        websockets=False,
        log_enabled=False,
        backpressure=4096,
    )
    serving = asyncio.create_task(server.serve())
    limits = httpx.Limits(max_connections=None)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT, limits=limits) as http:
            await until_ready(http)
            yield Door(world, port, http)
    finally:
        world.runtime.tailer.end()  # as a signal does: the server waits for its streams
        stop: Callable[[], None] = server.stop
        stop()
        await serving


def free_port() -> int:
    """One that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def until_ready(http: httpx.AsyncClient) -> None:
    """Wait until somebody answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)  # nothing listens yet, and nothing tells when


class Follower:
    """Somebody who wants every event: comes back behind the last one that they have, as often as the stream breaks.

    `events` is all that they were told, in the order of its arrival; whatever is reset fails. They want no more once
    `last` says that an event was the last one.
    """

    def __init__(self, user: User, position: str, last: Callable[[Any], bool] = lambda _: False):
        self.user, self.position, self.last = user, position, last
        self.events: list[Any] = []
        self.connections = 0
        self._heard = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether they have heard the last one."""
        return bool(self.events) and self.last(self.events[-1])

    async def until(self, last: int) -> None:
        """Wait until they have heard the event of this number."""
        async with asyncio.timeout(LIMIT):
            while not self.events or number(self.events[-1]["id"]) < last:
                self._heard.clear()
                await self._heard.wait()

    async def listen(self, http: httpx.AsyncClient, most: float = math.inf) -> str | None:
        """Take so many blocks, or all until the stream ends; its last word, None where it has none."""
        self.connections += 1
        headers = {"Authorization": f"Bearer {self.user.token}", "Last-Event-ID": self.position}
        path = f"/api/v1/orgs/{self.user.organization}/events"
        with suppress(httpx.TransportError):
            async with http.stream("GET", path, headers=headers) as response:
                if response.status_code != 200:
                    return None
                stream, taken = Stream(response), 0
                while taken < most and not self.done and (block := await stream.next()) is not None:
                    assert block.kind in (None, "open", "uptodate", "end"), block
                    taken += 1
                    if block.kind == "end":
                        return str(block.data["reason"])
                    if block.kind is None and block.id is not None:
                        self.events.append(block.event)
                        self._heard.set()
                    self.position = block.id or self.position
        return None


class Idle:
    """A client that asks for a stream and reads nothing."""

    def __init__(self, port: int, user: User):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        request = f"GET /api/v1/orgs/acme/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {user.token}\r\n\r\n"
        self.socket.sendall(request.encode())
        self.socket.setblocking(False)

    async def read(self) -> bytes:
        """Some of what there is; nothing where the server has closed."""
        async with asyncio.timeout(LIMIT):
            try:
                return await asyncio.get_running_loop().sock_recv(self.socket, 65536)
            except ConnectionError:
                return b""
