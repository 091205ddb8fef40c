"""The command `vanguard`."""

import asyncio
import importlib
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import click
import msgspec
import psycopg
import sqlalchemy.exc
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels
from rich.console import Console
from rich.table import Table

from app import __version__, accounts, kpis, members, organizations
from app.base.clock import now
from app.base.database import Database
from app.base.errors import ConfigurationError, DatabaseUnavailable, VanguardError
from app.base.logs import configure_logs
from app.base.settings import Settings, read_settings
from app.contracts import BUILT_IN
from app.dev import run as development
from app.dev import seed
from app.migrate import ROOT
from app.migrate import migrate as migrate_database
from app.simulator import Simulator, read_credentials
from app.web.auth import Auth, Role
from app.worker.start import read_targets, work

T = TypeVar("T")

REFRESH_TIMEOUT = 3600.0  # seconds: a view over a hundred million rows takes minutes

ROLE = click.Choice([role.value for role in Role], case_sensitive=False)

# Granian's own lines go through our logs: one format for everything.
GRANIAN_LOGS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"level": "INFO", "handlers": [], "propagate": True}},
}


class Vanguard(click.Group):
    """A group whose commands fail with one line and a status: 2 for the installation, 1 for a refusal."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            self._fail(str(error), 2)
        except DatabaseUnavailable as error:
            # An operator may know why; a client of the API may not.
            self._fail(f"{error.title}: {error.__cause__ or error.detail}", 1)
        except VanguardError as error:
            self._fail(f"{error.title}: {error.detail}", 1)
        except asyncpg.PostgresError as error:
            self._fail(f"The database refuses: {error.args[0]}. Is it migrated? Run `vanguard migrate`.", 1)
        except psycopg.Error as error:
            self._fail(f"The database refuses: {str(error).splitlines()[0]}", 1)
        except sqlalchemy.exc.DBAPIError as error:
            self._fail(f"The database refuses: {str(error.orig).splitlines()[0]}", 1)

    @staticmethod
    def _fail(message: str, status: int) -> None:
        click.secho(message, fg="red", err=True)
        raise SystemExit(status)


@click.group(cls=Vanguard, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vanguard")
def main() -> None:
    """Plan data merged live with everybody's private drafts.

    Settings are read from VANGUARD_* and DATABASE_URL.
    """


def with_database(call: Callable[[Settings, Database], Awaitable[T]], **changed: Any) -> T:
    """Run a coroutine that needs the database, and close it afterwards; `changed` are other values of settings."""
    settings = msgspec.structs.replace(read_settings(), **changed)
    configure_logs("ERROR", "console")

    async def run() -> T:
        database = Database(settings)
        await database.open()
        try:
            return await call(settings, database)
        finally:
            await database.close()

    return asyncio.run(run())


def print_table(*columns: str, rows: Sequence[tuple[str, ...]]) -> None:
    """A table for people; as wide as it has to be where nobody looks, so that nothing is cut off in a pipe."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    console.print(table, width=None if console.is_terminal else 1000, crop=False)


@main.command()
def serve() -> None:
    """Serve the API. SIGTERM lets the requests under way finish."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format)
    Granian(
        "app.main:serve",
        factory=True,
        interface=Interfaces.ASGI,
        address=settings.host,
        port=settings.port,
        workers=settings.workers,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=30,
        log_level=LogLevels(settings.log_level.lower()),
        log_dictconfig=GRANIAN_LOGS,
    ).serve()


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, envvar="VANGUARD_PORT")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=development.DATA_DIR,
    envvar="VANGUARD_DATA_DIR",
    help="Where the database and the secret are kept; .vanguard in the project, if not given.",
)
@click.option("--rows", type=click.IntRange(1, seed.MOST_ROWS), default=2000, show_default=True, help="Lines of demo.")
@click.option("--demo", is_flag=True, help="Make the demonstration in the database at DATABASE_URL, too.")
def dev(port: int, data_dir: Path, rows: int, demo: bool) -> None:
    """Serve on this machine, with a database and a demonstration of its own."""
    configure_logs("WARNING", "console")
    options = development.Options(port=port, data_dir=data_dir.absolute(), rows=rows, demo=demo)
    sys.exit(development.run(options))


@main.command()
def migrate() -> None:
    """Bring the database to the newest revision."""
    settings = read_settings()
    configure_logs("WARNING", "console")
    click.echo(f"The database is at revision {migrate_database(settings.database_url)}.")


@main.command()
def worker() -> None:
    """Pull from systems of record, push what was committed, keep KPIs and storage in order. As many as wanted.

    SIGTERM lets what is under way finish, ten seconds at most.
    """
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format)
    targets = read_targets(settings)
    asyncio.run(work(settings, targets))


@main.command("refresh-kpis")
@click.option("--every", type=click.IntRange(min=1), help="Go on, and refresh again after so many seconds.")
def refresh_kpis(every: int | None) -> None:
    """Bring the KPIs' views up to the data. They are exact without it, and fast with it.

    SIGTERM lets a refresh under way finish.
    """

    async def refresh(_: Settings, database: Database) -> None:
        stopped = asyncio.Event()
        if every is not None:
            # The first process of a container gets no SIGTERM that it does not ask for.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        while not stopped.is_set():
            for contract in BUILT_IN:
                done = await kpis.refresh_kpis(database, contract)
                click.echo(
                    f"{contract.name}: {done.cells:,} cells of {done.organizations:,} organizations"
                    f" in {done.seconds:.1f} s."
                )
            if every is None:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), every)

    with_database(refresh, statement_timeout=REFRESH_TIMEOUT)


@main.group()
def org() -> None:
    """Organizations."""


@org.command("add")
@click.argument("organization")
@click.option("--name", required=True, help="What people call it.")
def add_organization(organization: str, name: str) -> None:
    """Add ORGANIZATION, a short id, with its built-in datasets."""
    with_database(lambda _, database: organizations.add_organization(database, organization, name))
    click.echo(f"Added the organization {organization}.")


@org.command("list")
def list_organizations() -> None:
    """List organizations."""
    found = with_database(lambda _, database: organizations.list_organizations(database))
    rows = [
        (each.id, each.name, str(each.members), "identity provider" if each.managed else "members") for each in found
    ]
    print_table("ID", "NAME", "MEMBERS", "MANAGED BY", rows=rows)


@main.group()
def account() -> None:
    """Accounts and their roles."""


@account.command("add")
@click.argument("email")
@click.option("--name", required=True, help="What people call them.")
@click.option("--operator", is_flag=True, help="May use the system routes, which belong to no organization.")
@click.option("--org", "organization", help="An organization that they join.")
@click.option("--role", type=ROLE, help="What they are there.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def add_account(
    email: str, name: str, operator: bool, organization: str | None, role: str | None, password_stdin: bool
) -> None:
    """Add an account; asks for its password."""
    if (organization is None) != (role is None):
        raise click.UsageError("--org and --role go together.")
    roles = {organization: Role(role)} if organization is not None else {}
    password = _password(password_stdin)
    with_database(
        lambda _, database: accounts.add_account(
            database, email=email, name=name, password=password, operator=operator, roles=roles
        )
    )
    click.echo(f"Added the account {members.normalized(email)}.")


@account.command("role")
@click.argument("email")
@click.argument("organization")
@click.argument("role", type=ROLE)
def set_role(email: str, organization: str, role: str) -> None:
    """Make EMAIL a member of ORGANIZATION, or change the role there."""
    member = with_database(lambda _, database: members.set_role(database, organization, email, Role(role)))
    click.echo(f"{member.email} is {member.role.value} of {organization}.")


@account.command("remove")
@click.argument("email")
@click.argument("organization", required=False)
def remove_account(email: str, organization: str | None) -> None:
    """Remove EMAIL from ORGANIZATION; without one, the whole account and its tokens."""
    if organization is None:
        with_database(lambda _, database: accounts.remove_account(database, email))
        click.echo(f"Removed the account {email}.")
    else:
        with_database(lambda _, database: members.remove_member(database, organization, email))
        click.echo(f"Removed {email} from {organization}.")


@account.command("password")
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def set_password(email: str, password_stdin: bool) -> None:
    """Give EMAIL another password."""
    password = _password(password_stdin)
    with_database(lambda _, database: accounts.set_password(database, email, password))
    click.echo(f"{email} has a new password.")


@account.command("list")
def list_accounts() -> None:
    """List accounts with their roles."""
    found = with_database(lambda _, database: accounts.list_accounts(database))
    rows = [
        (
            each.email,
            each.name,
            ", ".join(f"{organization}: {role.value}" for organization, role in sorted(each.roles.items())),
            "operator" if each.operator else "",
        )
        for each in found
    ]
    print_table("EMAIL", "NAME", "ROLES", "", rows=rows)


@main.command("seed")
@click.option("--org", "organization", required=True, help="An organization whose dataset is empty.")
@click.option("--rows", type=click.IntRange(1, seed.MOST_ROWS), required=True, help="How many lines.")
@click.option("--dataset", default="pfa", show_default=True)
@click.option("--seed", "number", default=1, show_default=True, help="Another number makes other lines.")
def seed_dataset(organization: str, rows: int, dataset: str, number: int) -> None:
    """Fill an empty dataset with invented lines."""
    url = read_settings().database_url
    configure_logs("ERROR", "console")
    with seed.progress(rows) as watch:
        done = asyncio.run(seed.seed(url, organization, rows, dataset=dataset, number=number, watch=watch))
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in done.seconds.items())
    click.echo(f"{organization} has {rows:,} lines in {dataset}, revision {done.revision} ({phases}).")


@main.command("pems-sim")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="0 takes a free one.")
@click.option(
    "--org",
    "organizations",
    multiple=True,
    default=("RIO=1000", "RIO2=50"),
    show_default=True,
    metavar="CODE=ROWS[:SEED]",
    help="An organization and how many lines it has.",
)
@click.option("--seed", "number", default=1, show_default=True, help="Of the lines and of what goes wrong.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="A file that keeps edits.")
@click.option("--latency", type=click.FloatRange(min=0), default=0, help="Milliseconds until an answer.")
@click.option("--rate", type=click.IntRange(min=1), help="Requests a second; beyond, 429. No limit if not given.")
@click.option("--rendered", is_flag=True, help="Write all rows beforehand, for measurements.")
def pems_sim(
    host: str, port: int, organizations: tuple[str, ...], number: int, state: Path | None, latency: float,
    rate: int | None, rendered: bool,
) -> None:  # fmt: skip
    """Serve a PEMS of invented lines that misbehaves on request. SIGTERM stops it at once.

    User, password and API key are VANGUARD_PEMS_SIM_USER, _PASSWORD and _API_KEY.
    """
    sizes = dict(_organization_lines(each, number) for each in organizations)
    lines = {
        code: (text for _, text in islice(seed.pfa_lines(code.lower(), of), rows)) for code, (rows, of) in sizes.items()
    }
    credentials = read_credentials(os.environ)
    simulator = Simulator(lines, credentials=credentials, journal=state, seed=number, latency=latency, rate=rate)
    if rendered:
        simulator.render()

    async def run() -> None:
        try:
            url = await simulator.start(host, port)
        except OSError as error:
            raise ConfigurationError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
        stopped = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, stopped.set)
        held = ", ".join(f"{code} {rows:,}" for code, rows in simulator.sizes().items())
        click.echo(f"PEMS simulator at {url}, lines: {held}.")
        await stopped.wait()
        await simulator.stop()

    asyncio.run(run())


def _organization_lines(given: str, number: int) -> tuple[str, tuple[int, int]]:
    """CODE=ROWS[:SEED] as the code, the rows and the seed."""
    match = re.fullmatch(r"([A-Z0-9_-]{1,63})=(\d{1,7})(?::(\d{1,9}))?", given)
    if match is None:
        raise click.BadParameter(f"{given} is not CODE=ROWS or CODE=ROWS:SEED, with a code of A-Z, 0-9, - and _.")
    return match[1], (int(match[2]), int(match[3] or number))


@main.command()
@click.option("--only", default="", help="Some figures only: names of groups, comma-separated.")
@click.option("--quick", is_flag=True, help="A rehearsal on 10,000 lines: everything runs, nothing is to be relied on.")
@click.option("--rows", type=click.IntRange(100, seed.MOST_ROWS), help="How many lines, instead of 1,000,000.")
@click.option("--url", help="A server that may be used; databases are made there and dropped again.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the document goes, in any case.")
@click.option("--strict", is_flag=True, help="Fail where a bound does not hold.")
@click.option("--load", is_flag=True, help="Readers and writers at once instead: p50, p95, p99 and errors.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=20, help="With --load: how long.")
@click.option("--readers", type=click.IntRange(min=0), default=8, help="With --load: how many.")
@click.option("--writers", type=click.IntRange(min=0), default=2, help="With --load: how many.")
def bench(
    only: str, quick: bool, rows: int | None, url: str | None, out: Path | None, strict: bool,
    load: bool, seconds: float, readers: int, writers: int,
) -> None:  # fmt: skip
    """Measure how fast it is, on a server of its own."""
    if load and (only or out or strict):
        raise click.UsageError(
            "--load goes with --quick, --rows, --url, --seconds, --readers and --writers; "
            "--only, --out and --strict are about figures."
        )
    suite = _import_suite()
    configure_logs("ERROR", "console")
    if load:
        size = rows or (suite.QUICK_ROWS if quick else suite.ROWS)
        profile = importlib.import_module("benchmarks.load")
        sys.exit(profile.run(url, rows=size, seconds=seconds, readers=readers, writers=writers))
    names = tuple(name.strip() for name in only.split(",") if name.strip())
    sys.exit(suite.run(suite.Options(only=names, quick=quick, rows=rows, url=url, out=out, strict=strict)))


def _import_suite() -> Any:
    """The benchmarks are beside `app/` in a checkout, and not a part of what is installed."""
    if not (ROOT / "benchmarks" / "suite.py").exists():
        raise ConfigurationError("The benchmarks are not here: they are in a checkout of the source. `make bench`.")
    sys.path.insert(0, str(ROOT))
    return importlib.import_module("benchmarks.suite")


@main.command()
@click.argument("email")
@click.option("--operator", is_flag=True, help="With the claim for the system routes, whoever it is.")
@click.option("--ttl", type=click.IntRange(min=1), help="Seconds until it expires; the setting's, if not given.")
def token(email: str, operator: bool, ttl: int | None) -> None:
    """Print an access token for EMAIL."""

    async def issue(settings: Settings, database: Database) -> str:
        found = await accounts.find_account(database, email)
        return Auth(settings, database, now).issue(found, ttl=ttl, operator=operator or None)

    click.echo(with_database(issue))


def _password(from_stdin: bool) -> str:
    """Never from the arguments: other users of the machine can read those."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer
