"""How long requests hold the event loop: the processor time that one callback takes without a pause.

Processor time of the loop's own thread, so that a busy machine spoils nothing; what waits in a thread, or for the
database, does not count.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Held:
    """The longest callback since `watching` began."""

    seconds = 0.0
    where = ""


@contextmanager
def watching() -> Iterator[Held]:
    """What callbacks of the loop take for the time of the block."""
    held, run, own = Held(), asyncio.Handle._run, time.thread_time

    def timed(handle: asyncio.Handle) -> Any:
        began = own()
        try:
            return run(handle)
        finally:
            if (seconds := own() - began) > held.seconds:
                held.seconds, held.where = seconds, repr(handle)[:200]

    with _patched(timed):
        yield held


@contextmanager
def _patched(run: Any) -> Iterator[None]:
    before = asyncio.Handle._run
    try:
        vars_of: Any = asyncio.Handle
        vars_of._run = run
        yield
    finally:
        vars_of._run = before
