"""Scripts of a statement and its situations, and how long pgbench finds each of these to take.

A script prepares its statement, then executes it once for each situation.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from app.base.database import PLANNING
from app.dev.postgres import embedded_bin_dir
from benchmarks.bench_http import without_password

# What the application's connections are set to.
OPTIONS = " ".join(f"-c {name}={value}" for name, value in {"role": "vanguard_app", **PLANNING}.items())
FEWEST, MOST = 2, 2_000  # times that a situation is run in a round


class Situation(NamedTuple):
    """A statement, its arguments as SQL, and what is run before and after it."""

    statement: str
    arguments: Sequence[str]
    before: str = ""
    after: str = ""


Situations = Mapping[str, Situation]


class Script(NamedTuple):
    """`chosen`, or a rival's name; what is done once; and label -> what is timed."""

    name: str
    setup: str
    runs: Mapping[str, str]

    @property
    def text(self) -> str:
        """The script as it runs in psql, behind any other."""
        runs = [f"{run} -- {label}" for label, run in self.runs.items()]
        return "\n".join([f"-- {self.name}", "DEALLOCATE ALL;", self.setup, *runs, ""])


class Figure(NamedTuple):
    """What was found of one script in one situation."""

    milliseconds: float
    ratio: float  # to the chosen one's, the median of the rounds: both were disturbed alike
    same: bool  # as the chosen one's rows


def script_of(name: str, situations: Situations, first: str = "") -> Script:
    """The script; `first` is what it does before it prepares its statements."""
    names: dict[str, str] = {}
    for each in situations.values():
        names.setdefault(each.statement, f"statement_{len(names) + 1}")
    return Script(
        name,
        first + "\n".join(f"PREPARE {short} AS\n{text.rstrip().removesuffix(';')};" for text, short in names.items()),
        {
            label: f"{each.before}EXECUTE {names[each.statement]} ({', '.join(each.arguments)});{each.after}"
            for label, each in situations.items()
        },
    )


def compare(url: str, scripts: Sequence[Script], *, seconds: float, rounds: int) -> dict[str, dict[str, Figure]]:
    """Situation -> script's name -> its figure; the first script is the chosen one. All take turns."""
    chosen = scripts[0].name
    figures: dict[str, dict[str, Figure]] = {}
    for label in scripts[0].runs:
        looked = {script.name: _look(url, script, label) for script in scripts}
        medians: dict[str, list[float]] = {script.name: [] for script in scripts}
        for _ in range(rounds):
            for script in scripts:
                times = max(FEWEST, min(MOST, int(seconds / looked[script.name][1])))
                medians[script.name].append(statistics.median(_pgbench(url, script, label, times)))
        figures[label] = {
            name: Figure(
                statistics.median(found),
                statistics.median(rival / first for rival, first in zip(found, medians[chosen], strict=True)),
                looked[name][0] == looked[chosen][0],
            )
            for name, found in medians.items()
        }
    return figures


def _look(url: str, script: Script, label: str) -> tuple[Any, float]:
    """The rows that come out, and the seconds that it takes once it is planned."""
    with psycopg.connect(url, options=OPTIONS, autocommit=True) as connection:
        connection.execute(script.setup.encode())
        _rows(connection.execute(script.runs[label].encode()))
        started = time.perf_counter()
        cursor = connection.execute(script.runs[label].encode())
        seconds = time.perf_counter() - started
        return _rows(cursor), seconds


def _rows(cursor: "psycopg.Cursor[Any]") -> Any:
    """The rows of a page; of a batch, how many there are."""
    found: Any = None
    while True:
        names = [column.name for column in cursor.description or ()]
        if "body" in names:
            found = [json.loads(record[names.index("body")]) for record in cursor.fetchall()]
        elif "sync_state" in names:
            found = cursor.rowcount
        if not cursor.nextset():
            return found


def _pgbench(url: str, script: Script, label: str, times: int) -> list[float]:
    """Milliseconds of each run but the first, which prepares and plans."""
    with tempfile.TemporaryDirectory(prefix="vanguard-pgbench-") as directory:
        file = Path(directory, "script.sql")
        once = f"\\if :ready = 0\n{script.setup}\n\\set ready 1\n\\endif\n"
        file.write_text(f"{once}{script.runs[label]}\n", encoding="utf-8")
        address, password = without_password(url)
        done = subprocess.run(
            [program(), "-n", "-M", "simple", "-t", str(times + 1), "-D", "ready=0", "-f", str(file), "-l",
             f"--log-prefix={directory}/log", address],
            env={**os.environ, **password, "PGOPTIONS": OPTIONS},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"pgbench fails on {script.name}, {label}: {done.stderr}")
        (log,) = Path(directory).glob("log*")
        return [int(line.split()[2]) / 1000 for line in log.read_text(encoding="ascii").splitlines()[1:]]


def program() -> str:
    """The wheel's pgbench, or the one on PATH."""
    return shutil.which("pgbench") or str(embedded_bin_dir() / "pgbench")
