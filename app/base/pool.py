"""Connections for many: as many as there are places, made when they are needed and kept for whoever comes next."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg

from app.base.places import Holder, Places, Shares
from app.base.prepared import Raw

KEPT = 300.0  # seconds after which a connection is not used again: what lies between may have forgotten it
CLOSING = 1.0  # seconds that connections get to say goodbye
# Schemas of organizations' own datasets that a connection works in before it ends. PostgreSQL keeps what it has read of
# a relation for as long as the connection lives, a third of a megabyte for a dataset; and the statements of more have
# no place in the connection's cache of a hundred anyway.
MOST_SCHEMAS = 50


class Pool:
    """Whoever takes a connection gives it back. The one that was used last is taken first."""

    def __init__(self, connect: Callable[[], Awaitable[Raw]], shares: Shares):
        self._connect = connect
        self._places = Places(shares)
        self._idle: list[tuple[Raw, float]] = []
        self._closed = False

    @property
    def idle(self) -> int:
        """How many connections wait for somebody."""
        return sum(not raw.is_closed() for raw, _ in self._idle)

    async def take(self, whose: Holder | None = None) -> Raw:
        """A connection for `whose` work; raises TooManyRequests where their own requests have all places of theirs,
        TimeoutError where no place came free, and what `connect` raises.
        """
        await self._places.take(whose)
        try:
            return self._kept() or await self._connect()
        except BaseException:
            self._places.release(whose)
            raise

    def give_back(self, raw: Raw, whose: Holder | None = None, *, fit: bool) -> None:
        """One that is not fit, or is left in a transaction, ends: nobody waits for what it is still at. One that has
        worked in many schemas ends, too, and one whose statement took too long.
        """
        fit = fit and not raw.unsure and len(raw.schemas) < MOST_SCHEMAS
        if fit and not self._closed and not raw.is_closed() and not raw.is_in_transaction():
            self._idle.append((raw, time.monotonic()))
        else:
            raw.terminate()
        self._places.release(whose)

    def drop_idle(self) -> None:
        """End those that wait for somebody, where one in use was lost: most often all are. A connection that has read
        the server's farewell and not yet its own end does not show that, and fails whoever takes it.
        """
        idle, self._idle = self._idle, []
        for raw, _ in idle:
            raw.terminate()

    async def close(self) -> None:
        """End every connection; those that do not say goodbye are cut off, those in use when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(raw.close(timeout=CLOSING) for raw, _ in idle), return_exceptions=True)

    def _kept(self) -> "Raw | None":
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")
        while self._idle:
            raw, since = self._idle.pop()
            if not raw.is_closed() and time.monotonic() - since < KEPT:
                return raw
            raw.terminate()
        return None
