"""What Linux tells of processes: the processors that they used, the memory that they held. OSError elsewhere."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

TICKS = os.sysconf("SC_CLK_TCK")
PAUSE = 0.02  # seconds between two looks at who has left
LOOKS = 100  # until a family has stayed the same: it does in one, unless somebody connects and leaves all the time


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, the first being the state."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def spent(pid: int) -> float:
    """Seconds on the processors so far of the process and its descendants, those that have ended included.

    What a process took is found with its parent once that has noticed its end. Where processes come and go between the
    two looks, one would be missing from both, or stand in both: it is looked at again until they stay the same.
    """
    for _ in range(LOOKS):
        found = family(pid)
        seconds = sum(_used(each) for each in found)
        if family(pid) == found:
            break
    return seconds


def _used(pid: int) -> float:
    """Its own seconds, and those of its children whose end it has noticed; none of one that is gone."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS


async def left(pid: int, before: Sequence[int]) -> None:
    """Wait until the descendants that were not there before are gone again: leaving takes them time, too.

    Not for long: one that came for something else may stay.
    """
    for _ in range(LOOKS):
        if not set(family(pid)) - set(before):
            return
        await asyncio.sleep(PAUSE)


def peak(pid: int) -> int:
    """The bytes that it held at most."""
    return _bytes(pid, "VmHWM:")


def held(pid: int) -> int:
    """The bytes that it holds."""
    return _bytes(pid, "VmRSS:")


def anonymous(pid: int) -> int:
    """The bytes that it holds by itself: without files, and what it shares with others."""
    return _bytes(pid, "RssAnon:")


def _bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = _children(pid)
    for child in found:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found += _children(child)
    return [pid, *found]


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


async def postmaster_of(connection: "asyncpg.Connection[Any]") -> int | None:
    """The server's main process, where it runs on this machine and may be looked at."""
    return parent_of_backend(await connection.fetchval("SELECT pg_backend_pid()"))


def parent_of_backend(pid: int) -> int | None:
    """The same of a backend's process."""
    try:
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() != "postgres":
            return None
        parent = int(_stat(pid)[1])
        family(parent)
        return parent
    except OSError:
        return None


class OtherWork:
    """How much of the machine went elsewhere while it was measured on."""

    def __init__(self, postmaster: int | None):
        self._postmaster = postmaster
        self._before = self._look()

    def share(self) -> float | None:
        """Of the processors' time since the beginning; None where the system, or a server far away, does not tell."""
        after = self._look()
        if self._before is None or after is None:
            return None
        whole, busy, ours = (now - then for now, then in zip(after, self._before, strict=True))
        return max(0.0, busy - ours) / whole if whole > 0 else None

    def _look(self) -> tuple[float, float, float] | None:
        """Seconds of all processors so far: whole, busy, and busy with the benchmarks."""
        if self._postmaster is None:
            return None
        try:
            fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
            ours = spent(os.getpid()) + spent(self._postmaster)
        except OSError:
            return None
        ticks = [int(field) for field in fields]
        idle = ticks[3] + ticks[4]
        return sum(ticks) / TICKS, (sum(ticks) - idle) / TICKS, ours
