"""The writes of a LiveTable: a bounded queue, taken to the backend one after the other, in their order."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from vanguard_client.backoff import Backoff
from vanguard_client.errors import QueueFull, Refused, VanguardError
from vanguard_client.source import Row, Tracked, Written
from vanguard_client.view import Laid

log = logging.getLogger("vanguard_client")


class Writer:
    """Persists writes in the background. One that is refused leaves the queue and never keeps the next from going."""

    def __init__(
        self,
        source: Tracked,
        backoff: Backoff,
        bound: int,
        *,
        written: Callable[[Laid, Written], Awaitable[Row | None]],
        failed: Callable[[Laid, VanguardError], Awaitable[None]],
        renamed: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._source, self._backoff, self.bound = source, backoff, bound
        self._written, self._failed, self._renamed = written, failed, renamed
        self._queue: deque[Laid] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def waiting(self) -> list[Laid]:
        """What the backend has not answered yet, the first one under way."""
        return list(self._queue)

    def check_room(self) -> None:
        """Raises QueueFull."""
        if len(self._queue) >= self.bound:
            raise QueueFull(self.bound)

    def put(self, laid: Laid) -> None:
        """Queue a write; raises QueueFull."""
        self.check_room()
        self._queue.append(laid)
        self._filled.set()

    async def run(self) -> None:
        """Persist for ever."""
        while True:
            await self._filled.wait()
            while self._queue:
                await self._persist(self._queue[0])
                self._queue.popleft()
            self._filled.clear()

    async def _persist(self, laid: Laid) -> None:
        try:
            written = await self._write(laid)
        except Exception as error:
            await self._give_up(laid, _reason(error))
            return
        try:
            settle(laid, await self._backoff.again(self._written, laid, written))
        except Exception as error:
            settle(laid, _reason(error))

    async def _give_up(self, laid: Laid, reason: VanguardError) -> None:
        try:
            await self._failed(laid, reason)
        except Exception:
            log.exception("a refused write of %r could not be taken back", laid.write.id)
        settle(laid, reason)

    async def _write(self, laid: Laid) -> Written:
        while True:
            id, laid.sent = laid.write.id, True
            try:
                return await self._backoff.again(self._source.write, laid.write)
            except Refused as error:
                # A new record may have got its real id meanwhile.
                if error.code != "ROW_NOT_FOUND" or not await self._renamed(id):
                    raise


def _reason(error: Exception) -> VanguardError:
    """A backend may raise anything: nothing of it may stop the queue."""
    if isinstance(error, VanguardError):
        return error
    log.error("a backend failed in its own way", exc_info=error)
    reason = Refused(f"The backend failed: {type(error).__name__}: {error}", code="BACKEND_FAILED")
    reason.__cause__ = error
    return reason


def settle(laid: Laid, outcome: Row | VanguardError | None) -> None:
    """Tell whoever waits for a write what came of it."""
    if laid.done.done():
        return
    if isinstance(outcome, VanguardError):
        laid.done.set_exception(outcome)
        laid.done.exception()  # nobody may be waiting for it, and that is no fault
    else:
        laid.done.set_result(outcome)
