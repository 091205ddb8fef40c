"""Places of something scarce, shared fairly: connections of a pool, files that are sent.

A user has a few at a time, their further requests wait for these. An organization has at most its share while others
wait, and never the last free place beyond it: whoever comes next finds one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from app.base.errors import TooManyRequests, VanguardError

RETRY_AFTER = 1  # seconds: what one waits for are one's own requests, most often short
FEW = 4  # with fewer places than that none is kept for whoever comes next


class Holder(msgspec.Struct, frozen=True):
    """Whose request it is that holds or wants a place; `statement_timeout`: seconds that a statement of it may take,
    None for as long as any.
    """

    user: str
    organization: str | None
    statement_timeout: float | None = None


# Set by the gate for the time of a request. None: work of the service itself, which nobody's share is counted against.
holder: ContextVar[Holder | None] = ContextVar("holder", default=None)


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """How many `places` there are, and what is whose: at most `user` of them for one user, of whose further requests at
    most `user_queue` wait; `organization`: the places that one organization may hold while others wait. Whoever waits
    for longer than `patience` seconds is refused. `setting`: what says how many a user has.
    """

    places: int
    user: int
    user_queue: int
    organization: int
    patience: float
    setting: str = "VANGUARD_USER_CONNECTIONS"


class Places:
    """Whoever takes a place releases it. `free`: how many nobody has."""

    def __init__(self, shares: Shares):
        self._shares = shares
        self.free = shares.places
        self._kept = 1 if shares.places >= FEW else 0
        self._by_user = Counter[str]()
        self._by_organization = Counter[str | None]()
        self._waiting: dict[asyncio.Future[None], Holder | None] = {}  # in the order in which they came

    async def take(self, whose: Holder | None) -> None:
        """A place for `whose` work; raises TooManyRequests where their own requests have all places of theirs, and
        TimeoutError where none came free.
        """
        if self._waiting or not self._may_have(whose):
            await self._wait(whose)
        else:
            self._occupy(whose)

    def release(self, whose: Holder | None) -> None:
        """It is free for others."""
        self.free += 1
        if whose is not None:
            _less(self._by_user, whose.user)
            _less(self._by_organization, whose.organization)
        if self._waiting:
            self._hand_out()

    @asynccontextmanager
    async def held(self, busy: VanguardError) -> AsyncGenerator[None, None]:
        """A place for whose request it is, for the time of the block; raises TooManyRequests, and `busy` where none
        came free.
        """
        whose = holder.get()
        try:
            await self.take(whose)
        except TimeoutError:
            raise busy from None
        try:
            yield
        finally:
            self.release(whose)

    async def _wait(self, whose: Holder | None) -> None:
        if whose is not None and self._queued(whose) >= self._shares.user_queue:
            raise self._too_many()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = whose
        self._hand_out()
        try:
            async with asyncio.timeout(self._shares.patience):
                await turn
        except BaseException as error:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled():
                self.release(whose)  # it came at the moment of giving up
            if isinstance(error, TimeoutError) and whose is not None and self._has_all(whose):
                raise self._too_many() from None
            raise

    def _hand_out(self) -> None:
        """Give free places to those that wait, in their order: first to whose organization is below its share."""
        for beyond in (False, True):
            for turn, whose in list(self._waiting.items()):
                if not self.free:
                    return
                if turn.done():
                    continue  # cancelled, and not awake yet to leave the queue
                if self._may_have(whose) if beyond else self._below_share(whose) and not self._has_all(whose):
                    del self._waiting[turn]
                    self._occupy(whose)
                    turn.set_result(None)

    def _may_have(self, whose: Holder | None) -> bool:
        """Whether a place is free for them: the last one is not for whoever has their share."""
        if self._below_share(whose):
            return self.free > 0 and not self._has_all(whose)
        return self.free > self._kept and not self._has_all(whose)

    def _has_all(self, whose: Holder | None) -> bool:
        return whose is not None and self._by_user[whose.user] >= self._shares.user

    def _below_share(self, whose: Holder | None) -> bool:
        return whose is None or self._by_organization[whose.organization] < self._shares.organization

    def _queued(self, whose: Holder) -> int:
        return sum(each is not None and each.user == whose.user for each in self._waiting.values())

    def _occupy(self, whose: Holder | None) -> None:
        self.free -= 1
        if whose is not None:
            self._by_user[whose.user] += 1
            self._by_organization[whose.organization] += 1

    def _too_many(self) -> TooManyRequests:
        user, queue = self._shares.user, self._shares.user_queue
        return TooManyRequests(
            f"{user} of your requests are at work ({self._shares.setting}) and others wait for them, at most {queue} "
            f"(VANGUARD_USER_QUEUE) for {self._shares.patience:g} seconds. Wait for answers before you ask for more.",
            retry_after=RETRY_AFTER,
        )


def _less(held: "Counter[Any]", name: str | None) -> None:
    held[name] -= 1
    if not held[name]:
        del held[name]  # else every user there ever was would stay
