"""How long a request holds the event loop: the processor time that one callback takes without a pause.

Processor time of the loop's own thread, so that a busy machine spoils little; what waits in a thread, or for the
database, does not count. Nor does the counting of lines, which takes as long as the lines themselves.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import httpx


class Held:
    """The longest callback so far."""

    seconds = 0.0


@contextmanager
def watching() -> Iterator[Held]:
    """What callbacks take that begin in the time of the block."""
    held, run, own = Held(), asyncio.Handle._run, time.thread_time

    def timed(handle: asyncio.Handle) -> Any:
        counting = sys.gettrace()
        sys.settrace(None)
        began = own()
        try:
            return run(handle)
        finally:
            held.seconds = max(held.seconds, own() - began)
            sys.settrace(counting)

    with patch.object(asyncio.Handle, "_run", timed):
        yield held


@contextmanager
def set_aside() -> Iterator[None]:
    """What is there is no collector's business for the time of the block; within another one, only waste is collected,
    which is soon done.
    """
    gc.collect()
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def held_by(
    ask: Callable[..., Awaitable[httpx.Response]], *words: Any, most: float = 0, times: int = 3, **options: Any
) -> tuple[httpx.Response, float]:
    """Ask, and the seconds of the longest callback: the least of so many times, for others on the machine empty the
    caches now and then, or the first that is at `most` so much. The application's own objects are set aside, as they
    are where it is served.
    """
    with set_aside():
        longest = []
        for _ in range(times):
            with watching() as held:
                # A task of its own: the callback that is under way is not watched.
                response = await asyncio.create_task(_asked(ask(*words, **options)))
            longest.append(held.seconds)
            if held.seconds <= most:
                break
    return response, min(longest)


async def _asked(asking: Awaitable[httpx.Response]) -> httpx.Response:
    return await asking
