"""What every command of `vanguard` stands on: the group, its errors, the database, tables for people."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

import asyncpg
import click
import msgspec
from rich.console import Console
from rich.table import Table

from app import __version__
from app.base import origin
from app.base.database import Database
from app.base.errors import ConfigurationError, DatabaseUnavailable, VanguardError
from app.base.logs import configure_logs
from app.base.settings import Settings, read_settings

T = TypeVar("T")

WIDEST = 10_000  # characters of a line of a table that nobody looks at
# The module of app/cli that has the command: it is imported when the command is called. All of them take more than a
# second, and what serves needs nothing of what migrates.
MODULES = {
    "account": "accounts",
    "audit": "audit",
    "dev": "development",
    "drift": "drift",
    "export-audit": "audit",
    "migrate": "migrate",
    "org": "organizations",
    "pems-sim": "development",
    "refresh-kpis": "service",
    "seed": "development",
    "serve": "service",
    "token": "accounts",
    "upstream": "upstream",
    "watch": "watch",
    "worker": "service",
}
# Entry points of this group are commands that stand outside app/, such as the benchmarks.
COMMANDS = "vanguard.commands"


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
        except Exception as error:
            # The other driver, and what Alembic makes of its errors: most commands never import them.
            import psycopg
            from sqlalchemy.exc import DBAPIError

            cause = error.orig if isinstance(error, DBAPIError) else error
            if not isinstance(cause, psycopg.Error):
                raise
            self._fail(f"The database refuses: {str(cause).splitlines()[0]}", 1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those of app/cli, and those that entry points bring."""
        return sorted({*MODULES, *super().list_commands(ctx), *entry_points(group=COMMANDS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Where an entry point leads to a module that is not there, a command that says so."""
        if cmd_name in MODULES:
            import_module(f"app.cli.{MODULES[cmd_name]}")
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        for entry in entry_points(group=COMMANDS, name=cmd_name):
            try:
                command: click.Command = entry.load()
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != entry.module.partition(".")[0]:
                    raise
                return _missing(cmd_name, entry.module)
            return command
        return None

    @staticmethod
    def _fail(message: str, status: int) -> None:
        click.secho(message, fg="red", err=True)
        raise SystemExit(status)


def _missing(name: str, module: str) -> click.Command:
    def refuse() -> None:
        raise ConfigurationError(f"{module} is not here: it is in a checkout of the source.")

    return click.Command(
        name, callback=refuse, short_help="Not here.", context_settings={"ignore_unknown_options": True}
    )


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
        origin.by.set(origin.COMMAND_LINE)
        database = Database(settings)
        await database.open()
        try:
            return await call(settings, database)
        finally:
            await database.close()

    return asyncio.run(run())


def with_owner(call: Callable[[Settings, Database], Awaitable[T]]) -> T:
    """The same as the owner of the tables, for what the service may not do: at VANGUARD_OWNER_URL, if set."""
    try:
        return with_database(call, database_role="none", database_url=read_settings().owner_address)
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"The database's owner alone may do this: set VANGUARD_OWNER_URL to its address. ({error.args[0]})"
        ) from error


def print_table(*columns: str, rows: Sequence[tuple[str, ...]]) -> None:
    """A table for people; as wide as it has to be where nobody looks, so that nothing is cut off in a pipe."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    console.print(table, crop=False)
