"""Programs that tests start: they heed signals whatever this one ignores, and are gone when the block ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

VANGUARD = (sys.executable, "-c", "from app.cli import main; main()")
SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 20.0  # seconds between SIGTERM and SIGKILL


@contextmanager
def child(*command: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """The program, speaking text. `options` are Popen's."""
    with _heeding():
        process = subprocess.Popen(command, text=True, **options)
    with process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            if process.poll() is None:
                kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL, to all of its group where it has one of its own."""
    (os.killpg if os.getpgid(process.pid) == process.pid else os.kill)(process.pid, signal.SIGKILL)


@contextmanager
def _heeding() -> Iterator[None]:
    """What a program is started with ignored stays ignored, such as SIGINT behind a script's `&`; not here."""
    ignored = [each for each in SIGNALS if signal.getsignal(each) is signal.SIG_IGN]
    for each in ignored:
        signal.signal(each, signal.SIG_DFL)
    try:
        yield
    finally:
        for each in ignored:
            signal.signal(each, signal.SIG_IGN)
