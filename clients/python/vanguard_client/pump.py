"""Reading on while something is worked on."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
BOUND = 1000  # that wait; then the one who sends them waits


class Pump(Generic[T]):
    """What a source yields, read between `async with` whether somebody takes it or not, up to a bound."""

    def __init__(self, source: AsyncIterator[T], bound: int = BOUND) -> None:
        self._source, self._bound = source, bound
        self._waiting: deque[T] = deque()
        self._come, self._room = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="vanguard-pump")
        self._task.add_done_callback(lambda _: self._come.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def take(self) -> list[T]:
        """All that waits, as soon as there is something; nothing once the source has ended, or what it has raised."""
        await self._come.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._room.set()
        if not self._task.done():
            self._come.clear()
        elif not taken:
            await self._task
        return taken

    def holds(self, kind: type[T]) -> bool:
        """Whether something of this kind waits."""
        return any(isinstance(each, kind) for each in self._waiting)

    async def _run(self) -> None:
        async for each in self._source:
            while len(self._waiting) >= self._bound:
                self._room.clear()
                await self._room.wait()
            self._waiting.append(each)
            self._come.set()
