"""The answer that sends a file: part after part as they are made, until it is complete, or nobody wants it any more.

A file that is not complete does not look so: it is broken off, without the end that HTTP demands.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import structlog
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send
from prometheus_client import Counter

from app.base.errors import DatabaseBusy, ExportsBusy, VanguardError
from app.engine.audit import Act, Entry, record_in
from app.exports.columns import Column
from app.exports.formats import Row, Writer
from app.exports.writers import WRITERS
from app.web.headers import is_head
from app.web.runtime import Runtime, VanguardRequest
from app.web.work import take_time

log = structlog.get_logger(__name__)
EXPORTS = Counter("vanguard_exports_total", "Files by how their sending ended", ["format", "outcome"])
ROWS = Counter("vanguard_exported_rows_total", "Rows that were sent in files", ["format"])

T = TypeVar("T")
Batches = AsyncGenerator[Sequence[T], None]
Note = Callable[[], Awaitable[None]]

RETRY_AFTER = 30  # seconds
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def stream_table(
    request: VanguardRequest,
    ending: str,
    name: str,
    columns: Sequence[Column],
    batches: Callable[[], Batches[Row]],
    note: Note,
) -> "Download":
    """The answer that sends a table as the file `<name>.<ending>`, of a format of FORMATS: csv, xlsx or ndjson.

    `batches` is called when the sending begins, and yields lists of rows, each with a value for every column: str, int,
    Decimal, bool, datetime.date, None, or any JSON. It is closed however that ends; what it raises before its first
    batch is answered like any error of a route, and breaks the file off afterwards.
    """
    writer = WRITERS[ending](columns)
    return Download(request.runtime, writer, name, batches, writer.rows, note)


def noted(request: VanguardRequest, organization: str, dataset: str, of: str, ending: str, **entry: Any) -> Note:
    """What records that the caller begins to take something out of a dataset as a file; `entry` is the act's."""
    runtime, user = request.runtime, request.user.user_id

    async def note() -> None:
        if is_head(request.scope):  # of which nothing leaves
            return
        told = {"of": of, "format": ending}
        act = Entry(at=runtime.clock(), actor=user, action=Act.EXPORT_BEGUN, details=told, **entry)
        # The file's own transaction reads only, and is none where the client leaves.
        async with runtime.reserve.connection() as connection:
            await record_in(connection, organization, dataset, act)

    return note


class Stalled(Exception):
    """The client has taken nothing for too long."""


class Download(ASGIResponse):
    """Sends what `write` makes of the batches, between the writer's head and tail. `headers` are read when the first
    batch is there; `note` is called then, before anything of it leaves: without an entry in the audit, no file.

    At most as many as `max_exports` are under way in a process, one for each user: raises ExportsBusy where no place
    came free, TooManyRequests where too many of the user's wait.
    """

    _should_set_content_length: ClassVar[bool] = False

    def __init__(
        self,
        runtime: Runtime,
        writer: Writer,
        name: str,
        batches: Callable[[], Batches[T]],
        write: Callable[[Sequence[T]], bytes],
        note: Note,
        headers: Mapping[str, str] = MappingProxyType({}),
    ):
        disposition = f'attachment; filename="{UNSAFE.sub("-", name)}.{writer.ending}"'
        super().__init__(
            media_type=writer.media_type,
            headers={"Cache-Control": "private, no-store", "Content-Disposition": disposition},
        )
        self._runtime, self._writer, self._batches, self._write = runtime, writer, batches, write
        self._note, self._more_headers = note, headers
        self._limit = runtime.settings.export_timeout
        self._begun = False
        self._rows = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, unless the client leaves or the time is over."""
        take_time(scope)
        started, outcome = time.perf_counter(), "failed"
        sending = asyncio.create_task(self._send(send, head_only=is_head(scope)))
        leaving = asyncio.create_task(_left(receive))
        try:
            outcome = await self._outcome(sending, leaving)
        except VanguardError:
            outcome = "failed" if self._begun else "refused"
            raise
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._tell(outcome, time.perf_counter() - started)
        if outcome == "timed_out" and not self._begun:
            raise DatabaseBusy("The file took too long to begin. Narrow the filter.", retry_after=RETRY_AFTER)

    async def _outcome(self, sending: "asyncio.Task[None]", leaving: "asyncio.Task[None]") -> str:
        """How it ended; raises what went wrong."""
        await asyncio.wait((sending, leaving), timeout=self._limit, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            if isinstance(sending.exception(), Stalled):
                return "stalled"
            sending.result()
            return "complete"
        return "left" if leaving.done() else "timed_out"

    async def _send(self, send: Send, *, head_only: bool) -> None:
        async with self._place(), aclosing(self._parts()) as parts:
            async for part in parts:
                if not self._begun:
                    await self._note()
                    self._begun = True
                    self.headers.update(self._more_headers)
                    await self.start_response(send)
                self._bytes += len(part)
                # Who takes nothing for so long keeps a connection, and the rows as they are now, from everybody else.
                await self._put(send, part)
                if head_only:
                    break
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, send: Send, part: bytes) -> None:
        try:
            async with asyncio.timeout(self._runtime.settings.stall_timeout):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            raise Stalled from None

    def _place(self) -> AbstractAsyncContextManager[None]:
        most = self._runtime.settings.places_of_exports
        detail = f"{most} files are being sent, as many as may be (VANGUARD_MAX_EXPORTS). Try again later."
        return self._runtime.exports.held(ExportsBusy(detail, retry_after=RETRY_AFTER))

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        """The file. Its head waits for the first rows: before they are there, an error can be told as such."""
        held = self._writer.head()
        async with aclosing(self._batches()) as batches:
            async for batch in batches:
                self._rows += len(batch)
                written = await asyncio.to_thread(self._write, batch) if self._writer.slow else self._write(batch)
                yield held + written
                held = b""
        yield held + self._writer.tail()

    def _tell(self, outcome: str, seconds: float) -> None:
        EXPORTS.labels(self._writer.ending, outcome).inc()
        ROWS.labels(self._writer.ending).inc(self._rows)
        log.info(
            "export",
            format=self._writer.ending,
            outcome=outcome,
            rows=self._rows,
            bytes=self._bytes,
            milliseconds=round(seconds * 1000),
        )


async def _left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
