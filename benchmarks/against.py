"""The product as it lies here against any commit of it: the processor time of pages, saves and commits, in turns.

    python -m benchmarks.against HEAD~1
    python -m benchmarks.against v0.1.0 --rows 100000 --turns 20 --json file
    python -m benchmarks.against main --url postgresql://owner:...@localhost/postgres

The commit is checked out beside, and gone again afterwards. Both sides run with this environment's packages on one
PostgreSQL server, each with a database that its own code has migrated and filled, and answer the same requests in the
same order. Both APIs are alive together and are asked a few requests in turn, so that whatever else the machine does
meets both alike; everything stays on one processor. What counts is the processor time of the API's processes and of
those that serve its connections in PostgreSQL.

The status is 1 where a ratio is above the bound, and 2 where nothing could be measured. A side is known by its command
line and its HTTP API alone, which older and newer commits share.
"""

import argparse
import ctypes
import json
import math
import os
import platform
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median, quantiles
from types import FrameType
from typing import IO, Any, NamedTuple, NoReturn
from urllib.parse import urlencode

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a file: its neighbours are found from the project on
    sys.path[0] = str(Path(__file__).parent.parent)

from benchmarks.api import ROOT
from benchmarks.data import Unavailable, scratch_database, server_at
from benchmarks.processes import family

ROWS, TURNS, BOUND = 20_000, 10, 1.03
FEWEST_ROWS = 200
ORGANIZATION = "acme"
DATASET = f"/api/v1/orgs/{ORGANIZATION}/datasets/pfa"
PEOPLE = ("reader", "saver", "committer")

LISTINGS: Sequence[Mapping[str, str]] = (
    {},
    {"category": "Aerial Lifts"},
    {"monthlyRate[gte]": "5000"},
)
DRAFTED = 500  # rows that the reader has drafts of, all over the list
SAVED = 200  # rows that the saver saves again and again
FIVE = 5  # rows in a commit
BATCH = 500  # rows in a save that is not measured

SLICE = 10  # requests until it is the other side's turn
WARM_UPS = 30
ENOUGH = 0.5  # seconds on the processors that a side takes for its part of a turn
FEWEST, MOST = 20, 2_000  # requests of a kind in a turn
REPEATS = 5  # turns that may be taken again, because a process came or went in them
SETTLED = 0.05  # seconds after which a request has left nothing to do

START, STOP, ANSWER, COMMAND = 60.0, 35.0, 120.0, 300.0  # seconds that each may take
SEEDED = 500  # lines a second, at least

LINUX = platform.system() == "Linux"

VANGUARD = [sys.executable, "-c", "from app.cli import main; main()"]
WHERE = [sys.executable, "-c", "import app.cli; print(app.__file__)"]


class Refused(Exception):
    """It cannot be measured; the message says why."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; `requests` of a kind in a turn, as many as take long enough if None."""

    revision: str
    rows: int = ROWS
    turns: int = TURNS
    requests: int | None = None
    url: str | None = None
    bound: float = BOUND


# -- what is found -----------------------------------------------------------------------------------------------------


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Milliseconds of processor time for a request, turn by turn, and what they come to."""

    before: float
    now: float
    ratio: float
    quartiles: tuple[float, float]
    turns: list[tuple[float, float]]


class Kind(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One kind of request. The database's part is None where its processes are not on this machine."""

    kind: str
    requests: int
    api: Part
    database: Part | None
    both: Part
    holds: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The result of a run."""

    before: str
    now: str
    uncommitted: bool
    rows: int
    bound: float
    notes: list[str]
    kinds: list[Kind]

    @property
    def holds(self) -> bool:
        return all(kind.holds for kind in self.kinds)


def part(turns: Sequence[tuple[float, float]]) -> Part:
    """The ratio is the median of the turns' own: on a busy machine a turn takes up to twice as long as another, but on
    both sides.
    """
    before, now = (median(side) for side in zip(*turns, strict=True))
    ratios = [after / max(earlier, 1e-9) for earlier, after in turns]
    lower, middle, upper = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Part(
        before=round(before, 4), now=round(now, 4), ratio=round(middle, 4),
        quartiles=(round(lower, 4), round(upper, 4)),
        turns=[(round(earlier, 4), round(after, 4)) for earlier, after in turns],
    )  # fmt: skip


# -- the other commit --------------------------------------------------------------------------------------------------


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Ctrl-C is not for it: it ends by itself, or is told to and takes away what it has begun."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(ROOT), *arguments]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Refused("There is no git here, which knows the other commits.") from error
    with process:
        try:
            said, complained = process.communicate(timeout=COMMAND)
        except BaseException:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def commit_of(revision: str) -> str:
    """The commit that the revision means in this checkout."""
    top = git("rev-parse", "--show-toplevel")
    if top.returncode != 0:
        raise Refused(f"This is no git checkout, so there are no other commits: {_last_line(top.stderr)}")
    if Path(top.stdout.strip()).resolve() != ROOT.resolve():
        raise Refused("This is no git checkout of its own, so there are no other commits: it lies inside another one.")
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode != 0:
        raise Refused(f"There is no commit {revision} here. A shallow clone may lack it: `git fetch --unshallow`.")
    return found.stdout.strip()


def uncommitted() -> bool:
    """Whether anything here differs from the commit that is checked out."""
    return bool(git("status", "--porcelain").stdout.strip())


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The commit's files in a directory of their own; gone afterwards, and git knows of them no longer."""
    with tempfile.TemporaryDirectory(prefix="vanguard-against-", ignore_cleanup_errors=True) as made:
        directory = Path(made, "checkout")
        try:
            done = git("worktree", "add", "--quiet", "--detach", str(directory), commit)
            if done.returncode != 0:
                raise Refused(f"The commit cannot be checked out: {_last_line(done.stderr)}")
            yield directory
        finally:
            git("worktree", "remove", "--force", "--force", str(directory))


# -- one side ----------------------------------------------------------------------------------------------------------


class Side:
    """One state of the code with a database and an API of its own; `name` is for people."""

    def __init__(self, name: str, directory: Path, database: str):
        self.name, self._directory, self._database = name, directory, database
        self._secret, self._password = secrets.token_hex(32), secrets.token_hex(16)
        self._port = 0
        self._tokens: dict[str, str] = {}
        self.ids: list[str] = []

    def check(self) -> None:
        """That Python takes the code from this directory, and finds all packages that it needs."""
        found = Path(self._run(WHERE).strip()).resolve()
        if not found.is_relative_to(self._directory.resolve()):
            raise Refused(f"Python does not take {self.name} from its checkout, but from {found.parent}.")

    def fill(self, rows: int) -> None:
        """Migrate, and make lines and people, by the side's own commands."""
        self._vanguard("migrate")
        self._vanguard("org", "add", ORGANIZATION, "--name", "Acme")
        self._vanguard("seed", "--org", ORGANIZATION, "--rows", str(rows), within=COMMAND + rows / SEEDED)
        for name in PEOPLE:
            self._vanguard(
                "account", "add", _email(name), "--name", name, "--org", ORGANIZATION, "--role", "ANALYST",
                "--password-stdin", said=f"{self._password}\n",
            )  # fmt: skip

    @contextmanager
    def serving(self) -> Iterator["Api"]:
        """`vanguard serve`, until the block ends."""
        self._port = _free_port()
        with tempfile.TemporaryFile() as log, ExitStack() as stack:
            process = subprocess.Popen(
                [*VANGUARD, "serve"], cwd=self._directory, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            stack.callback(_end, process)
            connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER)
            stack.callback(connection.close)
            api = Api(self, process, connection, log)
            api.wait()
            yield api

    def token(self, api: "Api", person: str) -> str:
        """An access token, for which the person logs in once."""
        if person not in self._tokens:
            login = {"email": _email(person), "password": self._password}
            self._tokens[person] = api.ask("POST", "/api/auth/login", body=login)["accessToken"]
        return self._tokens[person]

    def leave_vacuum_to_us(self) -> None:
        """By itself it would come to one side first, whose commits then take a third of the other's."""
        with psycopg.connect(self._database, autocommit=True) as connection:
            for (alter,) in connection.execute(
                "SELECT format('ALTER TABLE %s SET (autovacuum_enabled = false)', oid::regclass) FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall():
                connection.execute(alter)

    def vacuum(self) -> None:
        """What was saved and committed so far leaves nothing behind for the requests that come."""
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")

    @property
    def database_name(self) -> str:
        return self._database.partition("?")[0].rpartition("/")[2]

    def _vanguard(self, *arguments: str, said: str = "", within: float = COMMAND) -> str:
        return self._run([*VANGUARD, *arguments], said=said, within=within)

    def _run(self, command: Sequence[str], *, said: str = "", within: float = COMMAND) -> str:
        # A session of its own: Ctrl-C ends this program first, which ends the command.
        try:
            done = subprocess.run(
                command, cwd=self._directory, env=self._environment(), input=said, capture_output=True, text=True,
                timeout=within, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"`{_words(command)}` of {self.name} took more than {within:.0f} seconds.") from error
        if missing := re.search(r"ModuleNotFoundError: No module named '([^']+)'", done.stderr):
            raise Refused(f"The code of {self.name} needs {missing[1]}, which this environment has not.")
        if done.returncode != 0:
            raise Refused(f"`{_words(command)}` of {self.name} failed: {_last_line(done.stderr or done.stdout)}")
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        """The settings that it has when nobody says otherwise, but one process and few connections."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VANGUARD_", "COVERAGE_")) and name != "DATABASE_URL"
        }
        path = os.pathsep.join(filter(None, [str(self._directory), os.environ.get("PYTHONPATH")]))
        return inherited | {
            "PYTHONPATH": path,
            "VANGUARD_DATABASE_URL": self._database,
            "VANGUARD_SECRET": self._secret,
            "VANGUARD_PORT": str(self._port),
            "VANGUARD_WORKERS": "1",
            "VANGUARD_POOL_SIZE": "2",
        }


class Api:
    """A side's API while it runs, and its people at work: request n of a kind is the same on every side."""

    def __init__(
        self, side: Side, process: "subprocess.Popen[bytes]", connection: HTTPConnection, log: IO[bytes]
    ):  # fmt: skip
        self.side, self._process, self._connection, self._log = side, process, connection, log

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> None:
        """Until it is ready."""
        deadline = time.monotonic() + START
        while True:
            with suppress(OSError, HTTPException):
                self._connection.request("GET", "/health/ready")
                answer = self._connection.getresponse()
                answer.read()
                if answer.status == 200:
                    return
            self._connection.close()
            if self._process.poll() is not None:
                raise self._silent(f"it ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._silent(f"it was not ready within {START:.0f} seconds")
            time.sleep(0.05)

    def ask(self, method: str, path: str, person: str | None = None, body: Any = None) -> Any:
        """The decoded answer."""
        return json.loads(self._exchange(method, path, person, body))

    def _exchange(self, method: str, path: str, person: str | None, body: Any) -> bytes:
        headers = {} if person is None else {"Authorization": f"Bearer {self.side.token(self, person)}"}
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(method, path, content, headers)
            answer = self._connection.getresponse()
            got = answer.read()
        except (HTTPException, OSError) as error:
            raise self._silent(f"{method} {path.partition('?')[0]}: {error}") from error
        if answer.status != 200:
            told = got.decode(errors="replace")[:300]
            raise Refused(f"{method} {path.partition('?')[0]} of {self.side.name} answered {answer.status}: {told}")
        return got

    def _silent(self, why: str) -> Refused:
        self._log.seek(0)
        said = _last_line(self._log.read().decode(errors="replace"))
        return Refused(f"The API of {self.side.name} does not answer, {why}. It said last: {said}")

    # -- preparation

    def settle(self, rows: int) -> None:
        """Learn the lines' ids, and give the reader drafts: forecasts a day later."""
        days: dict[str, str] = {}
        params = {"pageSize": "1000", "fields": "forecastStart", "count": "none"}
        while len(self.side.ids) < rows:
            page = self.ask("GET", f"{DATASET}/rows?{urlencode(params)}", "reader")
            self.side.ids += [row["id"] for row in page["data"]]
            days |= {row["id"]: row["data"]["forecastStart"] for row in page["data"]}
            if page["pagination"]["nextCursor"] is None:
                break
            params["after"] = page["pagination"]["nextCursor"]
        dated = [each for each in self.side.ids if days[each]]
        chosen = dated[:: max(1, len(dated) // min(DRAFTED, rows // 4))]
        later = {each: (date.fromisoformat(days[each]) + timedelta(1)).isoformat() for each in chosen}
        self._save("reader", [{"id": each, "delta": {"forecastStart": day}} for each, day in later.items()])

    def lists(self) -> list[Any]:
        """What the listings' first pages hold: on both sides the same, if both make the same lines."""
        pages = [self.ask("GET", page_of(listing), "reader")["data"] for listing in LISTINGS]
        return [[(row["id"], row["data"]) for row in page] for page in pages]

    def _save(self, person: str, drafts: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(drafts), BATCH):
            batch = drafts[start : start + BATCH]
            answer = self.ask("POST", f"{DATASET}/drafts", person, {"modifications": batch})
            if answer["errors"]:
                raise Refused(f"A save of {self.side.name} was refused: {answer['errors'][0]}")

    # -- what is measured

    def page(self, number: int) -> None:
        self._exchange("GET", page_of(LISTINGS[number % len(LISTINGS)]), "reader", None)

    def save(self, number: int) -> None:
        self._save("saver", [self._draft(number % min(SAVED, len(self.side.ids)), number)])

    def prepare_commits(self, first: int, commits: int) -> None:
        """Save what the commits will be of."""
        rows = range(first * FIVE, (first + commits) * FIVE)
        self._save("committer", [self._draft(row, first + row // FIVE) for row in rows])

    def commit(self, number: int) -> None:
        rows = range(number * FIVE, (number + 1) * FIVE)
        body = {"ids": [self._id(row) for row in rows]}
        answer = self.ask("POST", f"{DATASET}/commit", "committer", body)
        if answer["committed"] != FIVE:
            raise Refused(f"A commit of {self.side.name} was of {answer['committed']} rows instead of {FIVE}.")

    def _draft(self, row: int, number: int) -> dict[str, Any]:
        # With both figures a line keeps the contract's rules, whatever its source.
        return {"id": self._id(row), "delta": {"monthlyRate": 1000 + number % 80_000, "purchasePrice": 90_000}}

    def _id(self, row: int) -> str:
        return self.side.ids[row % len(self.side.ids)]


class Work(NamedTuple):
    """A kind of request: what each of them does, and what has to be done before so many, unmeasured."""

    name: str
    request: Callable[[Api, int], None]
    prepare: Callable[[Api, int, int], None]


def _one_of_each(api: Api, first: int, requests: int) -> None:
    """Totals that the commits of before made stale are counted anew."""
    for number in range(len(LISTINGS)):
        api.page(number)


WORKS = (
    Work("page", Api.page, _one_of_each),
    Work("save", Api.save, lambda api, first, requests: None),
    Work("commit", Api.commit, Api.prepare_commits),
)


def page_of(listing: Mapping[str, str]) -> str:
    """The address of a listing's first page."""
    return f"{DATASET}/rows?{urlencode({'sort': 'forecastStart', 'pageSize': '100', **listing})}"


def _email(name: str) -> str:
    return f"{name}@against.example"


def _words(command: Sequence[str]) -> str:
    return " ".join(["vanguard", *command[3:5]]) if command[:3] == VANGUARD else "import app"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "nothing"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and its whole session's end where that does not help."""
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


# -- processor time ----------------------------------------------------------------------------------------------------

Seconds = Mapping[int, float]  # on the processors, by process


class Reading(NamedTuple):
    """What a side's processes have used so far; no database where it is on another machine."""

    api: Seconds
    database: Seconds | None


class Meter:
    """Reads the processors' time of APIs and of the backends that serve them."""

    def __init__(self, watcher: "psycopg.Connection[Any]"):
        self._watcher = watcher
        row = watcher.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        self.database = "postgres" in command_of(row[0])

    def read(self, api: Api) -> Reading:
        """As precisely as the system tells."""
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


# -- turns -------------------------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    """Milliseconds of processor time for one request."""

    api: float
    database: float | None

    @property
    def both(self) -> float:
        return self.api + (self.database or 0.0)


class Changed(Exception):
    """A process came or went: what it used is not known."""


class Turns:
    """Lets both sides do the same, a few requests each in turn, and tells what they used."""

    def __init__(self, sides: Sequence[Side], meter: Meter):
        self._sides, self._meter = sides, meter
        self._apis: Sequence[Api] = ()
        self._done = {work.name: 0 for work in WORKS}
        self._repeats = REPEATS
        self._number = 0

    @contextmanager
    def turn(self) -> Iterator[Sequence[Api]]:
        """Both APIs for one turn. Each has fresh ones: how a process happens to lie in memory makes it faster or slower
        by a few hundredths for its whole life.
        """
        self._number += 1
        for side in self._sides:
            side.vacuum()
        with ExitStack() as stack:
            self._apis = [stack.enter_context(side.serving()) for side in self._sides]
            yield self._apis

    def warm_up(self) -> Mapping[str, float]:
        """The milliseconds that one request of each kind then takes, on the side where it takes more."""
        for work in WORKS:
            self.take(work, WARM_UPS)
        return {work.name: max(each.both for each in self.take(work, WARM_UPS)) for work in WORKS}

    def take(self, work: Work, requests: int) -> list[Taken]:
        """One turn; another one in its place where a process came or went in it."""
        while True:
            try:
                return self._take(work, requests)
            except Changed as error:
                if self._repeats == 0:
                    raise Refused(f"Processes come and go while they are measured: {error}") from error
                self._repeats -= 1

    def _take(self, work: Work, requests: int) -> list[Taken]:
        first = self._done[work.name]
        self._done[work.name] += requests
        for api in self._apis:
            work.prepare(api, first, requests)
        before = self._read()
        for slice_, start in enumerate(range(first, first + requests, SLICE)):
            # Every other slice runs backwards, and begins so in every other turn: nobody always comes second.
            for api in self._apis if (slice_ + self._number) % 2 else reversed(self._apis):
                for number in range(start, min(start + SLICE, first + requests)):
                    work.request(api, number)
        after = self._read()
        return [
            Taken(
                _difference(f"the API of {api.side.name}", old.api, new.api) * 1000 / requests,
                None
                if old.database is None or new.database is None
                else _difference(f"a connection of {api.side.name}", old.database, new.database) * 1000 / requests,
            )
            for api, old, new in zip(self._apis, before, after, strict=True)
        ]

    def _read(self) -> list[Reading]:
        time.sleep(SETTLED)
        return [self._meter.read(api) for api in self._apis]


def _difference(what: str, before: Seconds, after: Seconds) -> float:
    if before.keys() != after.keys():
        raise Changed(f"{what} was another one afterwards.")
    return sum(after.values()) - sum(before.values())


# -- a run -------------------------------------------------------------------------------------------------------------


def measure(options: Options, tell: Callable[[str], None]) -> Outcome:
    """Everything that is made for it is gone afterwards, whatever happens.

    Raises Refused, and Unavailable where there is no server to use.
    """
    commit, here, edited = commit_of(options.revision), commit_of("HEAD"), uncommitted()
    with ExitStack() as stack:
        tell("a server")
        origin = stack.enter_context(server_at(options.url))
        watcher = stack.enter_context(psycopg.connect(origin, autocommit=True))
        directories = {commit[:10]: stack.enter_context(checked_out(commit)), "the working tree": ROOT}
        sides = []
        for name, directory in directories.items():
            tell(f"{name}: a database with {options.rows:,} lines")
            side = Side(name, directory, stack.enter_context(scratch_database(origin)))
            side.check()
            side.fill(options.rows)
            side.leave_vacuum_to_us()
            sides.append(side)
        meter = Meter(watcher)
        turns = Turns(sides, meter)
        tell("drafts")
        with turns.turn() as apis:
            for api in apis:
                api.settle(options.rows)
            before, now = (api.lists() for api in apis)
            requests = {
                name: options.requests or min(max(math.ceil(ENOUGH * 1000 / each), FEWEST), MOST)
                for name, each in turns.warm_up().items()
            }
        taken: dict[str, list[Sequence[Taken]]] = {work.name: [] for work in WORKS}
        for number in range(options.turns):
            tell(f"turn {number + 1} of {options.turns}")
            with turns.turn():
                turns.warm_up()
                for work in WORKS:
                    taken[work.name].append(turns.take(work, requests[work.name]))
    return Outcome(
        before=commit, now=here, uncommitted=edited, rows=options.rows, bound=options.bound,
        notes=[
            *([] if before == now else ["The two list different lines: their pages are not quite the same work."]),
            *([] if meter.database else ["PostgreSQL is not on this machine: only the API's part is known."]),
        ],
        kinds=[kind(name, requests[name], turns_, options.bound) for name, turns_ in taken.items()],
    )  # fmt: skip


def kind(name: str, requests: int, turns: Sequence[Sequence[Taken]], bound: float) -> Kind:
    """What the turns of one kind of request come to."""
    both = part([(before.both, now.both) for before, now in turns])
    database = [
        (before.database, now.database)
        for before, now in turns
        if before.database is not None and now.database is not None
    ]
    return Kind(
        kind=name, requests=requests, api=part([(before.api, now.api) for before, now in turns]),
        database=part(database) if database else None, both=both, holds=both.ratio <= bound,
    )  # fmt: skip


# -- as a program ------------------------------------------------------------------------------------------------------


def report(outcome: Outcome, console: Console) -> None:
    """A table for people."""
    table = Table("", "", "BEFORE", "NOW", "RATIO", "QUARTILES", "", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:6]:
        column.justify = "right"
    for each in outcome.kinds:
        verdict = f"within {outcome.bound:g}" if each.holds else f"slower than {outcome.bound:g}"
        _row(table, each.kind, "API", each.api)
        if each.database is not None:
            _row(table, "", "PostgreSQL", each.database)
        style = "green" if each.holds else "red"
        _row(table, "", "both", each.both, f"[{style}]{verdict}[/{style}]", style="bold")
    edits = " with uncommitted changes" if outcome.uncommitted else ""
    turns, counts = len(outcome.kinds[0].both.turns), {each.kind: each.requests for each in outcome.kinds}
    console.print(table)
    console.print()
    console.print(f"Before is {outcome.before[:10]}, now the working tree: {outcome.now[:10]}{edits}.")
    console.print(
        f"Milliseconds of processor time for a request, medians of {turns} turns of "
        + ", ".join(f"{count} x {name}" for name, count in counts.items())
        + f", on {outcome.rows:,} lines. The quartiles are of the turns' ratios."
    )
    for note in outcome.notes:
        console.print(note)


def _row(table: Table, kind: str, name: str, found: Part, verdict: str = "", *, style: str = "") -> None:
    lower, upper = found.quartiles
    table.add_row(
        kind, name, f"{found.before:.3f}", f"{found.now:.3f}", f"{found.ratio:.3f}", f"{lower:.3f} - {upper:.3f}",
        verdict, style=style,
    )  # fmt: skip


def _read_options() -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", help="the commit to hold the working tree against, as git names it")
    parser.add_argument("--rows", type=_from(FEWEST_ROWS), default=ROWS, help="lines (default: %(default)s)")
    parser.add_argument("--turns", type=_from(1), default=TURNS, help="(default: %(default)s)")
    parser.add_argument("--requests", type=_from(1), help="of each kind in a turn (default: half a second's worth)")
    parser.add_argument("--url", help="a server that may be used; databases are made there and dropped again")
    parser.add_argument("--bound", type=float, default=BOUND, help="what a ratio may be (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file for the result")
    given = vars(parser.parse_args())
    file = given.pop("json")
    if file is not None and not file.parent.is_dir():
        parser.error(f"There is no directory {file.parent} for the result.")
    return Options(**given), file


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """The first Ctrl-C unwinds everything; another one finds that under way and changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value

    return number


def main() -> int:
    """See the module's text; returns the exit status."""
    options, file = _read_options()
    # Also where a shell's background job is born deaf to Ctrl-C, and its children with it.
    signal.signal(signal.SIGINT, _stop)
    # What is started inherits it. Two processors are never alike busy: the ratios of turns differed twice as much.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    console, errors = (
        Console(highlight=False, soft_wrap=True),
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True),
    )
    try:
        with errors.status("") as status:
            outcome = measure(options, status.update)
    except (Refused, Unavailable) as error:
        errors.print(str(error), style="red")
        return 2
    except psycopg.Error as error:
        errors.print(f"The database refuses: {_last_line(str(error))}", style="red")
        return 2
    except KeyboardInterrupt:
        errors.print("Stopped; nothing is left of it.")
        return 130
    report(outcome, console)
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
