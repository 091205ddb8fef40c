"""Work of the event loop that is long, in turns with everybody else's."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")
TURN = 500  # items: some milliseconds where each takes ten microseconds


async def in_turns(items: Iterable[T], turn: int = TURN) -> AsyncIterator[T]:
    """The items one by one; after so many of them, and at the end, others have their turn."""
    for count, item in enumerate(items, start=1):
        yield item
        if count % turn == 0:
            await asyncio.sleep(0)
