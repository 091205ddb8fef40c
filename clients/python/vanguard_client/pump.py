"""Reading on while something is worked on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
BOUND = 1000  # that wait; then the one who sends them waits


async def batches(source: AsyncIterator[T], bound: int = BOUND) -> AsyncIterator[list[T]]:
    """What a source yields, in lists of all that has come meanwhile, of `bound` at most.

    What the source raises is raised behind the last list.
    """
    waiting: asyncio.Queue[T | None] = asyncio.Queue(bound)

    async def pump() -> None:
        try:
            async for each in source:
                await waiting.put(each)
        finally:
            with suppress(asyncio.QueueFull):
                waiting.put_nowait(None)

    task = asyncio.create_task(pump(), name="vanguard-pump")
    try:
        while True:
            batch = [await waiting.get()]
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            told = [each for each in batch if each is not None]
            if told:
                yield told
            if None in batch or (task.done() and waiting.empty()):
                await task
                return
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
