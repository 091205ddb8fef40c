"""`vanguard dev`: the whole product on one machine, with a database and a demonstration of its own.

What it makes stays in the data directory: the next start takes seconds, finds everything as it was, and makes nothing
twice. It ends with Ctrl-C or SIGTERM, the API first, then the database.
"""

import asyncio
import fcntl
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from app import accounts, seed
from app.auth import Role
from app.db import Database
from app.devdb import DevDatabaseError, Server
from app.errors import AlreadyExists, ConfigurationError, MemberNotFound
from app.migrate import ROOT, migrate
from app.settings import Settings, read_settings

DATA_DIR = ROOT / ".vanguard"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 10.0  # seconds that requests under way get to finish
OTHER_ROWS = 200

# Said unless the environment says otherwise: a quiet start, and a login that works over plain HTTP.
DEFAULTS = {
    "VANGUARD_ENVIRONMENT": "development",
    "VANGUARD_COOKIE_SECURE": "false",
    "VANGUARD_LOG_LEVEL": "WARNING",
    "VANGUARD_LOG_FORMAT": "console",
    "VANGUARD_HOST": "127.0.0.1",
}

PASSWORD = "vanguard-demo"  # noqa: S105 - everybody may know it
ORGANIZATIONS = {"demo": "Demonstration", "other": "Another demonstration"}


class Person(NamedTuple):
    """An account of the demonstration."""

    email: str
    name: str
    organization: str
    role: Role
    operator: bool = False


# Who comes last is made last: where this account is, the demonstration is complete.
LAST = Person("admin@demo.example", "Administrator", "demo", Role.ADMIN, operator=True)
PEOPLE = (
    Person("viewer@demo.example", "Viewer", "demo", Role.VIEWER),
    Person("analyst@demo.example", "Analyst", "demo", Role.ANALYST),
    Person("analyst2@demo.example", "Second analyst", "demo", Role.ANALYST),
    Person("engineer@demo.example", "Engineer", "demo", Role.ENGINEER),
    Person("analyst@other.example", "Analyst elsewhere", "other", Role.ANALYST),
    LAST,
)


class Options(NamedTuple):
    """What the command line says. `demo`: make the demonstration in a database that is not ours, too."""

    port: int
    data_dir: Path
    rows: int
    demo: bool


def run(options: Options, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal says stop; returns the exit status. Raises ConfigurationError where it cannot start."""
    console = Console(highlight=False)
    served = False
    try:
        with _interruptible(), ExitStack() as stack:
            settings, passed_on = _install(options, environment, console, stack)
            address = _address(settings)
            with _step(console, "API"):
                server = stack.enter_context(_api(passed_on))
                served = _answers(server, address)
            if served:
                _greet(console, address)
            console.print(f"The API stopped by itself (status {server.wait()}).", style="red")
            return 1
    except KeyboardInterrupt:
        console.print("Stopped. Everything is kept.")
        return 0 if served else 128 + signal.SIGINT
    except DevDatabaseError as error:
        raise ConfigurationError(str(error)) from error


def _install(
    options: Options, environment: Mapping[str, str], console: Console, stack: ExitStack
) -> tuple[Settings, dict[str, str]]:
    """Database, schema and demonstration, ready to be served: settings, and the environment that says the same."""
    given = {**DEFAULTS, **{name: value for name, value in environment.items() if value}}
    _refuse_taken(given["VANGUARD_HOST"], options.port)
    foreign = given.get("VANGUARD_DATABASE_URL", given.get("DATABASE_URL"))
    with _step(console, f"Data directory {options.data_dir}"):
        secret = _open_directory(options.data_dir, stack)
    with _step(console, "PostgreSQL 18" if foreign is None else "PostgreSQL at DATABASE_URL"):
        url = _start_database(options.data_dir, stack) if foreign is None else foreign
        given |= {"VANGUARD_DATABASE_URL": url, "VANGUARD_PORT": str(options.port)}
        given.setdefault("VANGUARD_SECRET", secret)
        settings = read_settings(given)
        if foreign is not None and not options.demo and not asyncio.run(_is_complete(settings)):
            raise ConfigurationError(
                "DATABASE_URL names a database that this command did not make. Say --demo to fill it with the "
                "demonstration, whose passwords everybody knows, or unset DATABASE_URL for a database of its own."
            )
    with _step(console, "Migrations"):
        migrate(url)
    with _step(console, "Demonstration") as tell:
        asyncio.run(_demonstrate(settings, options.rows, tell))
    return settings, given


@contextmanager
def _interruptible() -> Iterator[None]:
    """The first signal unwinds everything, from wherever it is; further ones find that under way and change nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, stop) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _step(console: Console, name: str) -> Iterator[seed.Watch]:
    """A spinner while it lasts, then a line. Yields what shows how far it is."""
    started = time.perf_counter()
    with console.status(name) as status:
        yield lambda phase, done: status.update(f"{name}: {phase}, {done:,} rows")
    console.print(f"{name:<50} {time.perf_counter() - started:5.1f} s", soft_wrap=True)


def _refuse_taken(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} of {host} cannot be used: {os.strerror(error.errno or 0)}. "
            "Name another one: --port, or VANGUARD_PORT."
        ) from error


def _open_directory(directory: Path, stack: ExitStack) -> str:
    """Take the directory for this process alone; returns the secret that is kept there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((directory / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _secret(directory / "secret")
    except BlockingIOError as error:
        raise ConfigurationError(f"Another `vanguard dev` runs in {directory}. Name another directory.") from error
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be used: {error.strerror}.") from error


def _secret(file: Path) -> str:
    """What tokens are signed with, made once: they stay valid over a restart."""
    with suppress(FileNotFoundError):
        return file.read_text(encoding="ascii")
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    secret = secrets.token_urlsafe(48)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as new:
        new.write(secret)
    unfinished.replace(file)
    return secret


def _start_database(directory: Path, stack: ExitStack) -> str:
    server = Server(directory / "pg")
    # Before it starts: a signal in between must not leave it running.
    stack.callback(server.stop)
    server.start()
    server.create_database()
    return server.url()


async def _is_complete(settings: Settings) -> bool:
    """Whether the demonstration is there. A database without our tables or role has none."""
    database = Database(settings)
    await database.open()
    try:
        found = await accounts.find_account(database, LAST.email)
    except (MemberNotFound, asyncpg.UndefinedTableError, asyncpg.InvalidParameterValueError):
        return False
    finally:
        await database.close()
    return found.roles.get(LAST.organization) is LAST.role


async def _demonstrate(settings: Settings, rows: int, watch: seed.Watch) -> None:
    """Make what is missing of the demonstration: after an interruption the rest, once it is complete nothing."""
    if await _is_complete(settings):
        return
    database = Database(settings)
    await database.open()
    try:
        await _add_organizations(database)
        for number, (organization, lines) in enumerate({"demo": rows, "other": OTHER_ROWS}.items(), start=1):
            with suppress(seed.NotEmpty):
                await seed.seed(settings.database_url, organization, lines, number=number, watch=watch)
        for person in PEOPLE:
            with suppress(AlreadyExists):
                await accounts.add_account(
                    database,
                    email=person.email,
                    name=person.name,
                    password=PASSWORD,
                    operator=person.operator,
                    roles={person.organization: person.role},
                )
    finally:
        await database.close()


async def _add_organizations(database: Database) -> None:
    """Add those of the demonstration; raises ConfigurationError where somebody else's has the name of one."""
    there = {organization.id: organization.name for organization in await accounts.organizations(database)}
    for organization, name in ORGANIZATIONS.items():
        if there.get(organization, name) != name:
            raise ConfigurationError(
                f"The database has an organization {organization} that is not the demonstration's: nothing is added."
            )
    for organization, name in ORGANIZATIONS.items():
        if organization not in there:
            await accounts.add_organization(database, organization, name)


@contextmanager
def _api(environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """`vanguard serve`, in a session of its own: Ctrl-C is ours to pass on, once and in order."""
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    with subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True) as server:
        try:
            yield server
        finally:
            server.terminate()
            try:
                server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def _address(settings: Settings) -> str:
    """Where to find the API from here; one that listens everywhere is found at localhost."""
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _answers(server: "subprocess.Popen[bytes]", address: str) -> bool:
    """Wait until the API is ready; False where it ended before."""
    with httpx.Client(base_url=address, trust_env=False, timeout=5) as client:
        while server.poll() is None:
            with suppress(httpx.TransportError):
                if client.get("/health/ready").status_code == 200:
                    return True
            time.sleep(0.05)
    return False


def _greet(console: Console, address: str) -> None:
    table = Table("ACCOUNT", "ROLE", "ORGANIZATION", "", box=None, header_style="bold", pad_edge=False)
    for person in PEOPLE:
        table.add_row(person.email, person.role.value, person.organization, "operator" if person.operator else "")
    login = shlex.quote(f'{{"email": "analyst@demo.example", "password": "{PASSWORD}"}}')
    console.print(f"\nVanguard is at {address}, its documentation at {address}/schema.\n", soft_wrap=True)
    console.print(table)
    console.print(f"\nThe password of all of them is {PASSWORD}. To try it, paste this:\n", soft_wrap=True)
    console.print(
        f"TOKEN=$(curl -s {address}/api/auth/login -H 'Content-Type: application/json' -d {login}"
        ' | sed \'s/.*"accessToken":"\\([^"]*\\).*/\\1/\');'
        f" curl -s '{address}/api/v1/orgs/demo/datasets/pfa/rows?pageSize=2' -H \"Authorization: Bearer $TOKEN\"",
        soft_wrap=True,
        markup=False,
    )
    console.print("\nCtrl-C stops it; the data is kept.")
