"""The processor time of APIs and of the backends that serve them."""

import ctypes
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from benchmarks.against.sides import Api
from benchmarks.processes import family

LINUX = platform.system() == "Linux"

Seconds = Mapping[int, float]  # on the processors, by process


class Reading(NamedTuple):
    """What a side's processes have used so far: no API where it has nothing to do with it, no database where that is on
    another machine.
    """

    api: Seconds | None
    database: Seconds | None


class Meter:
    """Reads the processors' time of APIs and of the backends that serve them."""

    def __init__(self, watcher: "psycopg.Connection[Any]"):
        self._watcher = watcher
        row = watcher.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        self.database = "postgres" in command_of(row[0])

    def read(self, api: Api, *, served: bool) -> Reading:
        """As precisely as the system tells. What the API does not serve is loaded beside it."""
        if not served:
            assert api.side.loading is not None
            return Reading(None, self._backends(api.side.loading.database_name) if self.database else None)
        processes = {pid: clock(pid) for pid in family(api.pid)} if LINUX else told_by_ps(api.pid)
        return Reading(processes, self._backends(api.side.database_name) if self.database else None)

    def _backends(self, database: str) -> Seconds:
        found = self._watcher.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'", [database]
        ).fetchall()
        if LINUX:
            return {pid: clock(pid) for (pid,) in found}
        return {pid: told_by_ps(pid)[pid] for (pid,) in found}


def clock(pid: int) -> float:
    """The process's own clock, all of its threads included: /proc counts in hundredths. 0 for one that is gone."""
    found = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(found)) != 0:
        return 0.0
    try:
        return time.clock_gettime_ns(found.value) / 1e9
    except OSError:
        return 0.0


def told_by_ps(pid: int) -> dict[int, float]:
    """The same of the process and its descendants where there is no such clock, in hundredths at best."""
    done = subprocess.run(
        ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "time="], capture_output=True, text=True, check=True, timeout=30
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    found: dict[int, float] = {}
    wanted = {pid}
    while wanted:
        found |= {int(one): seconds_of(taken) for one, _, taken in lines if int(one) in wanted}
        wanted = {int(one) for one, parent, _ in lines if int(parent) in wanted} - found.keys()
    return found


def seconds_of(text: str) -> float:
    """[days-][hours:]minutes:seconds as seconds."""
    days, _, rest = text.rpartition("-")
    seconds = 0.0
    for number in rest.split(":"):
        seconds = seconds * 60 + float(number)
    return int(days or 0) * 86400 + seconds


def command_of(pid: int) -> str:
    """The name of the program that the process runs here; empty where there is none."""
    try:
        done = subprocess.run(
            ["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=30
        )
    except FileNotFoundError:
        try:
            return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8")
        except OSError:
            return ""
    return done.stdout
