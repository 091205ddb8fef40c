"""One side: a state of the code with a database and an API of its own."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

import psycopg

from benchmarks.against.checkout import Refused, last_line
from benchmarks.documents import COLUMNS, FIRST_REVISION

ORGANIZATION = "acme"
PEOPLE = ("reader", "visitor", "saver", "importer", "committer")

START, STOP, ANSWER, COMMAND = 60.0, 35.0, 120.0, 300.0  # seconds that each may take
SEEDED = 500  # lines a second, at least

VANGUARD = [sys.executable, "-c", "from app.cli import main; main()"]
COPY = f"COPY pfa.mirror ({', '.join(COLUMNS)}) FROM STDIN"
WHERE = [sys.executable, "-c", "import app.cli; print(app.__file__)"]


class Side:
    """One state of the code with a database and an API of its own; `name` is for people."""

    def __init__(self, name: str, directory: Path, database: str):
        self.name, self._directory, self._database = name, directory, database
        self.loading: Loading | None = None
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
    def loads(self, database: str) -> Iterator[None]:
        """Besides, a mirror to load, in a database without anything else, until the block ends."""
        self._vanguard("migrate", database=database)
        _leave_vacuum_to_us(database)
        self.loading = Loading(database)
        try:
            yield
        finally:
            self.loading.close()

    @contextmanager
    def serving(self) -> Iterator["Api"]:
        """`vanguard serve`, until the block ends."""
        self._port = _free_port()
        with tempfile.TemporaryFile() as log, ExitStack() as stack:
            process = subprocess.Popen(
                [*VANGUARD, "serve"], cwd=self._directory, env=self.environment(), stdin=subprocess.DEVNULL,
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
        _leave_vacuum_to_us(self._database)

    def vacuum(self) -> None:
        """What was saved and committed so far leaves nothing behind for the requests that come."""
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")

    @property
    def database_name(self) -> str:
        return name_of(self._database)

    def _vanguard(
        self, *arguments: str, said: str = "", within: float = COMMAND, database: str | None = None
    ) -> str:  # fmt: skip
        return self._run([*VANGUARD, *arguments], said=said, within=within, database=database)

    def _run(
        self, command: Sequence[str], *, said: str = "", within: float = COMMAND, database: str | None = None
    ) -> str:  # fmt: skip
        # A session of its own: Ctrl-C ends this program first, which ends the command.
        try:
            done = subprocess.run(
                command, cwd=self._directory, env=self.environment(database), input=said, capture_output=True,
                text=True, timeout=within, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"`{_words(command)}` of {self.name} took more than {within:.0f} seconds.") from error
        if missing := re.search(r"ModuleNotFoundError: No module named '([^']+)'", done.stderr):
            raise Refused(f"The code of {self.name} needs {missing[1]}, which this environment has not.")
        if done.returncode != 0:
            raise Refused(f"`{_words(command)}` of {self.name} failed: {last_line(done.stderr or done.stdout)}")
        return done.stdout

    def environment(self, database: str | None = None) -> Mapping[str, str]:
        """The settings that it has when nobody says otherwise, but one process and few connections."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VANGUARD_", "COVERAGE_")) and name != "DATABASE_URL"
        }
        path = os.pathsep.join(filter(None, [str(self._directory), os.environ.get("PYTHONPATH")]))
        return inherited | {
            "PYTHONPATH": path,
            "VANGUARD_DATABASE_URL": database or self._database,
            "VANGUARD_SECRET": self._secret,
            "VANGUARD_PORT": str(self._port),
            "VANGUARD_WORKERS": "1",
            "VANGUARD_POOL_SIZE": "2",
        }


class Loading:
    """A side's mirror without rows, with all of its indexes, and a connection of the owner that copies into it."""

    def __init__(self, database: str):
        self._database, self.database_name = database, name_of(database)
        self._connection = self._connected()
        self._connection.execute(FIRST_REVISION)

    def begin(self) -> None:
        """Nothing is in it, and the backend is a fresh one, for the reason that a turn has fresh APIs."""
        self.close()
        self._connection = self._connected()
        self._connection.execute("TRUNCATE pfa.mirror")

    def copy(self, part: bytes) -> None:
        with self._connection.cursor().copy(COPY) as copying:
            copying.write(part)

    def close(self) -> None:
        self._connection.close()

    def _connected(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self._database, autocommit=True)


class Api:
    """A side's API while it runs. Whoever asks it something logs in once."""

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
        return json.loads(self.exchange(method, path, person, body))

    def exchange(self, method: str, path: str, person: str | None = None, body: Any = None) -> bytes:
        """The answer as it came. A body of bytes is JSON already."""
        headers = {} if person is None else {"Authorization": f"Bearer {self.side.token(self, person)}"}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body)
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
        said = last_line(self._log.read().decode(errors="replace"))
        return Refused(f"The API of {self.side.name} does not answer, {why}. It said last: {said}")


def _leave_vacuum_to_us(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for (alter,) in connection.execute(
            "SELECT format('ALTER TABLE %s SET (autovacuum_enabled = false)', oid::regclass) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall():
            connection.execute(alter)


def name_of(database: str) -> str:
    """The database's name, of its address."""
    return database.partition("?")[0].rpartition("/")[2]


def _email(name: str) -> str:
    return f"{name}@against.example"


def _words(command: Sequence[str]) -> str:
    return " ".join(["vanguard", *command[3:5]]) if command[:3] == VANGUARD else "import app"


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
