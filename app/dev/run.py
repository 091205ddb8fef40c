"""`vanguard dev`: the whole product on one machine, with a database, a PEMS and a demonstration of its own.

What it makes stays in the data directory: the next start takes seconds, finds everything as it was, and makes nothing
twice. It ends with Ctrl-C or SIGTERM: the API first, then the worker, the simulated PEMS, the database.
"""

import asyncio
import fcntl
import os
import secrets
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import asyncpg
import msgspec
from rich.console import Console
from rich.table import Table

from app import accounts, organizations
from app.base.clock import now
from app.base.database import Database
from app.base.errors import AlreadyExists, ConfigurationError, MemberNotFound
from app.base.listening import refuse_exposure
from app.base.migrations import ROOT
from app.base.settings import Settings, read_settings
from app.base.statements import statement
from app.contracts import PFA
from app.contracts.states import SystemMode
from app.dev import pems
from app.dev.children import PAUSE, Children, Stopped
from app.dev.postgres import DevDatabaseError, Server
from app.migrate import migrate
from app.web.auth import Role
from app.worker.loop import READ_CLOCK

COUNT_LINES = statement("dev/count_lines").within(PFA.schema)
READ_PULLS = statement("dev/read_pulls")
CHANGE_MODE = statement("system_mode/change_mode")

DATA_DIR = ROOT / ".vanguard"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Said unless the environment says otherwise: a quiet start, and a login that works over plain HTTP.
DEFAULTS = {
    "VANGUARD_ENVIRONMENT": "development",
    "VANGUARD_COOKIE_SECURE": "false",
    "VANGUARD_LOG_LEVEL": "WARNING",
    "VANGUARD_LOG_FORMAT": "console",
    "VANGUARD_HOST": "127.0.0.1",
}

# A page of a pull takes as long as it takes.
PATIENT = {"VANGUARD_SLOW_STATEMENT_MS": "10000"}

Watch = Callable[[str], None]

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
    """What the command line says. `demo`: make the demonstration in a database that is not ours, too. `exposed`: let
    others than this machine come, who know its passwords.
    """

    port: int
    data_dir: Path
    rows: int
    demo: bool
    exposed: bool = False


def run(options: Options, environment: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal says stop; returns the exit status. Raises ConfigurationError where it cannot start."""
    console = Console(highlight=False)
    served = False
    try:
        with _interruptible(), ExitStack() as stack:
            settings, given = _install(options, environment, console, stack)
            pems, children = _prepare_pems(options, settings), Children(stack)
            if pems is not None:
                # What it says of itself we say in the end.
                children.start("PEMS simulator", pems.arguments, given | pems.environment, quiet=True)
                given["VANGUARD_UPSTREAMS"] = str(pems.upstreams)
            with _step(console, "Accounts"):
                asyncio.run(_demonstrate(settings))
            if pems is not None:
                with _step(console, "PEMS simulator"):
                    children.wait_for(f"{pems.address}/sim/faults")
            children.start("worker", ["worker"], PATIENT | given)
            if pems is not None:
                with _step(console, "First pull") as tell:
                    asyncio.run(_until_pulled(settings, children, tell))
            address = _address(settings)
            with _step(console, "API"):
                children.start("API", ["serve"], given)
                children.wait_for(f"{address}/health/ready")
            served = True
            _greet(console, address, pems)
            children.wait()
    except KeyboardInterrupt:
        console.print("Stopped. Everything is kept.")
        return 0 if served else 128 + signal.SIGINT
    except Stopped as why:
        console.print(str(why), style="red", markup=False, soft_wrap=True)
        return 1
    except DevDatabaseError as error:
        raise ConfigurationError(str(error)) from error


def _install(
    options: Options, environment: Mapping[str, str], console: Console, stack: ExitStack
) -> tuple[Settings, dict[str, str]]:
    """Database and schema: settings, and the environment that says the same."""
    given = {**DEFAULTS, **{name: value for name, value in environment.items() if value}}
    # All that this command starts listens there, or at an address of its own that is this machine's.
    if not options.exposed:
        refuse_exposure(given["VANGUARD_HOST"], "VANGUARD_HOST")
    _refuse_taken(given["VANGUARD_HOST"], options.port)
    foreign = given.get("VANGUARD_DATABASE_URL", given.get("DATABASE_URL"))
    with _step(console, f"Data directory {options.data_dir}"):
        secret = _open_directory(options.data_dir, stack)
    with _step(console, "PostgreSQL 18" if foreign is None else "PostgreSQL at DATABASE_URL"):
        url = _start_database(options.data_dir, stack) if foreign is None else foreign
        given |= {"VANGUARD_DATABASE_URL": url, "VANGUARD_PORT": str(options.port)}
        given.setdefault("VANGUARD_SECRET", secret)
        if "VANGUARD_UPSTREAMS" in given:  # children have another working directory
            given["VANGUARD_UPSTREAMS"] = str(Path(given["VANGUARD_UPSTREAMS"]).absolute())
        settings = read_settings(given)
        if foreign is not None and not options.demo and not asyncio.run(_is_complete(settings)):
            raise ConfigurationError(
                "DATABASE_URL names a database that this command did not make. Say --demo to fill it with the "
                "demonstration, whose passwords everybody knows, or unset DATABASE_URL for a database of its own."
            )
    with _step(console, "Migrations"):
        migrate(url, retention=settings.retention)
    return settings, given


def _prepare_pems(options: Options, settings: Settings) -> pems.Pems | None:
    """None where the environment names a file of upstreams: whoever wrote it has another one."""

    def count_rows() -> int:
        return asyncio.run(_count_lines(settings)) or options.rows

    return None if settings.upstreams else pems.prepare(options.data_dir, options.port, count_rows)


@contextmanager
def _interruptible() -> Iterator[None]:
    """The first signal unwinds everything, from wherever it is; further ones find that under way and change nothing.

    What was ignored before stays so, as `nohup` and a script's `&` mean it; SIGTERM never.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    heeded = [each for each in SIGNALS if each == signal.SIGTERM or signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in heeded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _step(console: Console, name: str) -> Iterator[Watch]:
    """A spinner while it lasts, then a line. Yields what shows how far it is."""
    started = time.perf_counter()
    with console.status(name) as status:
        yield lambda done: status.update(f"{name}: {done}")
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
    """Take the directory for this process alone; returns the secret that is kept there.

    Tokens are signed with it: they stay valid over a restart.
    """
    with pems.usable():
        directory.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((directory / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"Another `vanguard dev` runs in {directory}. Name another directory.") from error
        return pems.keep(directory / "secret", lambda: secrets.token_urlsafe(48))


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


async def _demonstrate(settings: Settings) -> None:
    """Make the organizations and accounts that are missing: after an interruption the rest, once all were made none.

    Where it makes them it lets the system take contracts and records: somebody tries it, and nothing else is there.
    """
    if await _is_complete(settings):
        return
    # As the owner, who has just migrated: the service makes no operators.
    database = Database(msgspec.structs.replace(settings, database_role="none"))
    await database.open()
    try:
        await _add_organizations(database)
        async with database.transaction() as connection:
            await connection.value(CHANGE_MODE, mode=SystemMode.INGESTION_READY, user=None, at=now())
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
    there = {organization.id: organization.name for organization in await organizations.list_organizations(database)}
    for organization, name in ORGANIZATIONS.items():
        if there.get(organization, name) != name:
            raise ConfigurationError(
                f"The database has an organization {organization} that is not the demonstration's: nothing is added."
            )
    for organization, name in ORGANIZATIONS.items():
        if organization not in there:
            await organizations.add_organization(database, organization, name)


async def _count_lines(settings: Settings) -> int:
    """How many lines demo has: some where an earlier version, or another data directory, made them."""
    database = Database(settings)
    await database.open()
    try:
        async with database.connection() as connection:
            return int(await connection.value(COUNT_LINES, organization="demo"))
    finally:
        await database.close()


async def _until_pulled(settings: Settings, children: Children, tell: Watch) -> None:
    """Wait until both organizations have been pulled once. Raises Stopped where that fails, or a child ends."""
    database = Database(settings)
    await database.open()
    try:
        async with database.connection() as connection:
            began = await connection.value(READ_CLOCK)
            while True:
                pulls = await connection.rows(
                    READ_PULLS, organizations=list(ORGANIZATIONS), dataset=PFA.name, since=began
                )
                if all(row["pulled"] for row in pulls):
                    return
                for row in pulls:
                    if row["error"] is not None:
                        raise Stopped(f"The first pull of {row['organization_id']} failed: {row['error']}")
                children.check()
                tell(f"{sum(row['rows_read'] for row in pulls):,} rows")
                await asyncio.sleep(PAUSE)
    finally:
        await database.close()


def _address(settings: Settings) -> str:
    """Where to find the API from here; one that listens everywhere is found at localhost."""
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _greet(console: Console, address: str, simulated: pems.Pems | None) -> None:
    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False)

    table = Table("ACCOUNT", "ROLE", "ORGANIZATION", "", box=None, header_style="bold", pad_edge=False)
    for person in PEOPLE:
        table.add_row(person.email, person.role.value, person.organization, "operator" if person.operator else "")
    say(f"\nVanguard is at {address}, its documentation at {address}/schema.")
    if simulated is not None:
        say(f"The PEMS behind it is simulated: {simulated.address}/sim/records has its lines.")
    console.print()
    console.print(table)
    login = shlex.quote(f'{{"email": "analyst@demo.example", "password": "{PASSWORD}"}}')
    say(f"\nThe password of all of them is {PASSWORD}. To try it, paste this:\n")
    say(
        f"TOKEN=$(curl -s {address}/api/auth/login -H 'Content-Type: application/json' -d {login}"
        ' | sed \'s/.*"accessToken":"\\([^"]*\\).*/\\1/\');'
        f' D={address}/api/v1/orgs/demo/datasets/pfa; A="Authorization: Bearer $TOKEN";'
        ' curl -s "$D/rows?pageSize=2" -H "$A"'
    )
    if simulated is not None:
        say("\nThen edit a line, commit it, and see it arrive in PEMS:\n")
        say(
            'curl -s -o /dev/null -X PATCH "$D/rows/PFA-0000001" -H "$A" -H \'Content-Type: application/json\''
            ' -d \'{"model": "Mine"}\';'
            ' curl -s "$D/commit" -H "$A" -H \'Content-Type: application/json\' -d \'{"ids": ["PFA-0000001"]}\'; echo;'
            f" sleep 2; curl -s '{simulated.address}/sim/records?org=DEMO&id=PFA-0000001'"
        )
    console.print("\nCtrl-C stops it; the data is kept.")
