"""How long to wait before another try."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from vanguard_client.errors import Unavailable

R = TypeVar("R")
log = logging.getLogger("vanguard_client")


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential with full jitter: any time up to a ceiling that doubles, from `base` to `cap` seconds.

    `random` (0 to 1) and `sleep` are there to be replaced in tests.
    """

    base: float = 0.5
    cap: float = 30.0
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def pause(self, attempt: int, at_least: float | None = None) -> None:
        """Wait after the attempt of this number, from 0; `at_least` what a server has asked for, in seconds."""
        ceiling = min(self.cap, self.base * 2 ** min(attempt, 30))
        await self.sleep(max(self.random() * ceiling, at_least or 0.0))

    async def again(self, call: Callable[..., Awaitable[R]], *arguments: object) -> R:
        """The call's result, after as many tries as it takes while it raises Unavailable."""
        for attempt in count():
            try:
                return await call(*arguments)
            except Unavailable as error:
                log.info("tried again later: %s", error)
                await self.pause(attempt, error.retry_after)
        raise AssertionError("there is always another try")
