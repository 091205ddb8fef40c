"""No test hangs: where a test waits for longer than its limit, it fails, and the next one begins.

pytest-timeout's alarm breaks off whatever holds the main thread, servers that a fixture starts included. A coroutine is
cancelled a little earlier: an alarm would leave it behind in the event loop that all tests share. Whoever cannot be
broken off, and whoever does not let go once the test is over, ends the process with everybody's stack; xdist goes on in
a new one.
"""

import asyncio
import faulthandler
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

SLOW = 400.0  # seconds: the limit of a slow test
EARLIER = 0.9  # of a test's limit: what a coroutine gets
LETTING_GO = 60.0  # seconds for the end of a test's fixtures, the session's with the last test


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests have a limit of their own, unless `--timeout` says another one."""
    for item in items:
        if item.get_closest_marker("slow") and config.option.timeout is None:
            item.add_marker(pytest.mark.timeout(SLOW))


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """With `-m slow`, what each of them buys."""
    if config.option.markexpr != "slow":
        return []
    marked = {item.nodeid.partition("[")[0]: item.get_closest_marker("slow") for item in items}
    return [f"{name}: {marker.args[0]}" for name, marker in marked.items() if marker is not None]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Coroutines have their limit inside, where they wait; and no alarm breaks off the report of a failure."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _limited(pyfuncitem.obj, _limit_of(pyfuncitem) * EARLIER)
    try:
        return (yield)
    finally:
        pyfuncitem.config.hook.pytest_timeout_cancel_timer(item=pyfuncitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """The failure of a test ends all its timers; what comes after it has one more."""
    stderr = item.config.stash[fault_handler_stderr_fd_key]  # not the one that is captured
    faulthandler.dump_traceback_later(LETTING_GO, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _limit_of(item: pytest.Item) -> float:
    """Seconds: a test's own, the command line's, or everybody's; 0 is none."""
    own, said = item.get_closest_marker("timeout"), item.config.option.timeout
    return float(own.args[0] if own is not None else item.config.getini("timeout") if said is None else said)


def _limited(test: Callable[..., Awaitable[object]], seconds: float) -> Callable[..., Awaitable[object]]:
    @functools.wraps(test)
    async def limited(**fixtures: Any) -> None:
        async with asyncio.timeout(seconds or None):
            await test(**fixtures)

    return limited
