"""Times that can be compared: taken turn by turn, so that whatever else the machine does meets all of them alike."""

import time
from collections.abc import Awaitable, Callable
from statistics import median

Clocked = Callable[[], Awaitable[float]]

WARM_UPS = 5


def clocked(work: Callable[[], Awaitable[object]]) -> Clocked:
    """The work as something that tells its seconds."""

    async def run() -> float:
        started = time.perf_counter()
        await work()
        return time.perf_counter() - started

    return run


async def interleaved(*calls: Clocked, rounds: int, seconds: float = 15, warm_ups: int = WARM_UPS) -> list[float]:
    """The median seconds of each call over `rounds`, fewer when they take longer than `seconds` in all.

    Every other round runs backwards: nobody always comes second.
    """
    for call in calls:
        for _ in range(warm_ups):
            await call()
    times: list[list[float]] = [[] for _ in calls]
    deadline = time.monotonic() + seconds
    for number in range(rounds):
        turns = list(zip(calls, times, strict=True))
        for call, taken in turns if number % 2 else reversed(turns):
            taken.append(await call())
        if time.monotonic() > deadline and number >= 2:
            break
    return [median(taken) for taken in times]
