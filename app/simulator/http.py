"""Just enough of an HTTP server that its connections can be broken anywhere."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

import h11

LONGEST_BODY = 1_000_000
LONGEST_HEAD = 64_000
READ = 65_536


class Request(NamedTuple):
    """A request; names of headers are lower case. `body` is None where it is too long."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None


class Answer(NamedTuple):
    """An answer; `half`: the connection ends in its middle."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    half: bool = False


class Dropped(Exception):
    """The connection is to break now, without an answer."""


Handler = Callable[[Request], Awaitable[Answer]]


class HttpServer:
    """Serves a handler until it is stopped, which does not wait for anybody."""

    def __init__(self, handler: Handler):
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """The port that it listens at; raises OSError."""
        self._server = await asyncio.start_server(self._connected, host, port)
        port = int(self._server.sockets[0].getsockname()[1])
        return port

    async def stop(self) -> None:
        """Close the door and every connection."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(Client(reader, writer)))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: "Client") -> None:
        try:
            while (request := await connection.receive()) is not None:
                answer = await self._handler(request)
                if not await connection.send(answer):
                    break
        except (Dropped, OSError):
            connection.abort()
        except asyncio.CancelledError:
            connection.abort()
            raise
        except h11.RemoteProtocolError as error:
            await connection.refuse(error)
        finally:
            connection.close()


class Client:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self._head = False  # of an answer, all that is asked for
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)

    async def receive(self) -> Request | None:
        """The next request; None where there is none. Raises OSError, h11.RemoteProtocolError."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        self._head = head.method == b"HEAD"
        body, length = [], 0
        while isinstance(event := await self._event(), h11.Data):
            length += len(event.data)
            # What is too long is read to its end: a client that is still writing hears no answer.
            if length <= LONGEST_BODY:
                body.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            return None
        path, _, query = head.target.decode("ascii").partition("?")
        return Request(
            method=head.method.decode("ascii"),
            path=path,
            query=dict(parse_qsl(query)),
            headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
            body=b"".join(body) if length <= LONGEST_BODY else None,
        )

    async def send(self, answer: Answer) -> bool:
        """Whether another request may follow."""
        headers = [
            ("Content-Type", answer.media_type),
            ("Content-Length", str(len(answer.body))),
            *answer.headers,
        ]
        self._write(h11.Response(status_code=answer.status, headers=headers))
        if self._head:
            self._write(h11.EndOfMessage())
            return False
        if answer.half:
            self._write(h11.Data(data=answer.body[: len(answer.body) // 2]))
            await self._writer.drain()
            return False
        self._write(h11.Data(data=answer.body))
        self._write(h11.EndOfMessage())
        await self._writer.drain()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say that this was no HTTP, where something can still be said."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            headers = [("Content-Length", "0"), ("Connection", "close")]
            self._write(h11.Response(status_code=status, headers=headers))
            self._write(h11.EndOfMessage())

    def abort(self) -> None:
        """Break it off; what was not sent yet is lost."""
        self._writer.transport.abort()

    def close(self) -> None:
        """End it once everything is sent."""
        self._writer.close()

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(READ))

    def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
