"""The processes of `vanguard dev`: commands of ours beside it, which have no reason to end before it does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple, NoReturn

import httpx

from app.base.migrations import ROOT

PATIENCE = 10.0  # seconds that a process gets to finish what is under way
PAUSE = 0.05  # seconds between two looks

# On Linux they get SIGTERM when we are killed: 1 is PR_SET_PDEATHSIG.
BOUND = "import ctypes; ctypes.CDLL(None).prctl(1, 15); " if sys.platform == "linux" else ""
VANGUARD = [sys.executable, "-c", f"{BOUND}from app.cli import main; main()"]


class Stopped(Exception):
    """It cannot go on; the message says why."""


class Child(NamedTuple):
    """One of them, by its name for people."""

    name: str
    process: "subprocess.Popen[bytes]"


class Children:
    """All of them. They end with the stack, the last one first."""

    def __init__(self, stack: ExitStack):
        self._stack = stack
        self._children: list[Child] = []

    def start(self, name: str, arguments: list[str], environment: Mapping[str, str], *, quiet: bool = False) -> None:
        """Start `vanguard` with arguments; `quiet`: what it says on standard output is not shown."""
        process = self._stack.enter_context(_running([*VANGUARD, *arguments], environment, quiet=quiet))
        self._children.append(Child(name, process))

    def check(self) -> None:
        """Raises Stopped where one has ended by itself."""
        for child in self._children:
            if (status := child.process.poll()) is not None:
                raise Stopped(f"The {child.name} stopped by itself (status {status}).")

    def wait(self) -> NoReturn:
        """Until one has ended by itself: raises Stopped."""
        while True:
            self.check()
            time.sleep(PAUSE)

    def wait_for(self, url: str) -> None:
        """Until the address answers with 200. Raises Stopped where one ends before."""
        with httpx.Client(trust_env=False, timeout=5) as client:
            while True:
                self.check()
                with suppress(httpx.TransportError):
                    if client.get(url).status_code == 200:
                        return
                time.sleep(PAUSE)


@contextmanager
def _running(command: list[str], environment: Mapping[str, str], *, quiet: bool) -> Iterator["subprocess.Popen[bytes]"]:
    """In a session of its own: Ctrl-C is ours to pass on, once and in order."""
    said = subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, stdout=said) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
