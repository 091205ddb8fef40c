"""Turns for work that is dear and that strangers can ask for: few at a time, a short queue, nobody's own.

Whoever waits stands in a lane of an address, and in it in one of an account. Turns go round the addresses, and within
an address round its accounts. Those who are at home (an account at an address where it was let in before) stand beside
them, and every second turn is theirs while anybody else waits.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

from prometheus_client import Gauge, Histogram

T = TypeVar("T")
Place: TypeAlias = "asyncio.Future[None]"


class Work(Protocol):
    """Runs a function beside the event loop, for whoever has a turn."""

    async def __call__(self, function: Callable[..., T], /, *values: Any) -> T:
        """What the function returns."""


class Full(Exception):
    """The queue is full, of others who have no more of it; or it filled up with them, and the place went to one."""


class Lanes:
    """Who waits, by address and account."""

    def __init__(self, most: int):
        self._most = most
        self._lanes: OrderedDict[str, OrderedDict[str, deque[Place]]] = OrderedDict()
        self.size = 0

    def has_room(self, address: str, account: str) -> bool:
        """Whether somebody could enter; see `enter`."""
        return self.size < self._most or self._longest(address, account) is not None

    def enter(self, address: str, account: str) -> Place:
        """A place, which is done when it is one's turn. Where all are taken the newest of the longest lane goes, unless
        it has no more than the newcomer's: then this raises Full.
        """
        if self.size >= self._most:
            longest = self._longest(address, account)
            if longest is None:
                raise Full
            # Whoever stands there finds out by itself, and leaves.
            gone = self._lanes[longest[0]][longest[1]][-1]
            self.leave(*longest, gone)
            gone.set_exception(Full())
        place: Place = asyncio.get_running_loop().create_future()
        self._lanes.setdefault(address, OrderedDict()).setdefault(account, deque()).append(place)
        self.size += 1
        return place

    def leave(self, address: str, account: str, place: Place) -> None:
        """Give the place up; nothing where it is gone already."""
        accounts = self._lanes.get(address)
        waiting = accounts.get(account) if accounts is not None else None
        if accounts is None or waiting is None or place not in waiting:
            return
        waiting.remove(place)
        self.size -= 1
        if not waiting:
            del accounts[account]
        if not accounts:
            del self._lanes[address]

    def next(self) -> "Place | None":
        """Whose turn it is; they leave. The address goes behind the others, and so does the account in it."""
        if not self._lanes:
            return None
        address, accounts = self._lanes.popitem(last=False)
        account, waiting = accounts.popitem(last=False)
        place = waiting.popleft()
        self.size -= 1
        if waiting:
            accounts[account] = waiting
        if accounts:
            self._lanes[address] = accounts
        return place

    def _longest(self, address: str, account: str) -> tuple[str, str] | None:
        """The address that has most places, and the account that has most of these; None where a newcomer would have as
        many.
        """
        counts = {key: sum(self._count(key).values()) for key in self._lanes}
        longest = max(counts, key=counts.__getitem__, default=address)
        if counts.get(longest, 0) <= counts.get(address, 0) + 1:
            # No address has much more than the newcomer's: what is left is to share that among its accounts.
            longest, fewer = address, self._count(address).get(account, 0) + 1
        else:
            fewer = 0
        accounts = self._count(longest)
        most = max(accounts, key=accounts.__getitem__, default=account)
        return (longest, most) if accounts.get(most, 0) > fewer else None

    def _count(self, address: str) -> dict[str, int]:
        """How many wait in each lane of the address."""
        return {account: len(waiting) for account, waiting in self._lanes.get(address, OrderedDict()).items()}


class Turns:
    """`at_once` turns at a time, and as many who wait as `queue`, those at home and strangers each for themselves.
    `kept`: turns that strangers do not take, so that somebody at home need not wait for theirs to end.

    `queued` counts who waits, `waited` takes their seconds.
    """

    def __init__(self, at_once: int, queue: int, *, kept: int = 0, queued: Gauge, waited: Histogram):
        self.at_once = at_once
        self.queue = queue
        self._free = at_once
        self._kept = kept
        self._home, self._strangers = Lanes(queue), Lanes(queue)
        self._home_is_next = True
        self._queued, self._waited = queued, waited
        self._threads = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="turn")

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._home.size + self._strangers.size

    def has_room(self, address: str, account: str) -> bool:
        """Whether a stranger would be let into the queue now."""
        return self._free > self._kept or self._strangers.has_room(address, account)

    def close(self) -> None:
        """Let the threads go; what they are at comes to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def turn(self, address: str, account: str, *, at_home: bool) -> AsyncIterator[Work]:
        """One's turn for the time of the block, with what runs functions in a thread; raises Full.

        A thread cannot be broken off: the turn of somebody who leaves while it works is over when it ends.
        """
        with self._queued.track_inprogress(), self._waited.time():
            if at_home:
                await self._take(self._home, account, account, self._free > 0)
            else:
                await self._take(self._strangers, address, account, self._free > self._kept)
        under_way: asyncio.Future[Any] | None = None

        async def work(function: Callable[..., T], /, *values: Any) -> T:
            nonlocal under_way
            under_way = asyncio.get_running_loop().run_in_executor(self._threads, function, *values)
            done: T = await asyncio.shield(under_way)
            return done

        try:
            yield work
        finally:
            if under_way is None or under_way.done():
                self._give_back()
            else:
                under_way.add_done_callback(self._end)

    async def _take(self, lanes: Lanes, address: str, account: str, is_free: bool) -> None:
        if is_free:
            self._free -= 1
            return
        place = lanes.enter(address, account)
        try:
            await place
        except asyncio.CancelledError:
            lanes.leave(address, account, place)
            # The turn came at the very moment of leaving: it is somebody else's.
            if place.done() and not place.cancelled() and place.exception() is None:
                self._give_back()
            raise

    def _end(self, ended: "asyncio.Future[Any]") -> None:
        if not ended.cancelled():
            ended.exception()  # nobody is there to hear of it
        self._give_back()

    def _give_back(self) -> None:
        """Pass a turn on. Nobody waits for one that is free for them, so who comes next need not look."""
        while self.waiting:
            home = bool(self._home.size) and (self._home_is_next or not self._strangers.size)
            if not home and not self._home.size and self._free < self._kept:
                break  # it is kept
            place = (self._home if home else self._strangers).next()
            if place is not None and not place.done():
                self._home_is_next = not home
                place.set_result(None)
                return
        self._free += 1
