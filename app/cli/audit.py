"""`vanguard audit`: who did what, anywhere; `vanguard export-audit`: that and what became of each cell, into a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import click

from app import accounts, audit
from app.base import exact_json
from app.base.clock import now
from app.base.database import Database
from app.base.errors import MemberNotFound
from app.base.settings import Settings
from app.cli.program import main, print_table, with_database
from app.engine.audit import Act

EXPORT_TIMEOUT = 3600.0  # seconds: the first lines of a period may stand far behind in the history
MOST = 100_000  # entries that are listed; a file has all
# A transaction is told by the time of its beginning: in this time those before it have ended.
SETTLED = timedelta(minutes=10)


class Time(click.ParamType[datetime]):
    """A time in ISO 8601, or a day that begins; UTC where it has no zone."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """As a time of UTC."""
        if isinstance(value, datetime):
            return value
        try:
            given = datetime.fromisoformat(str(value))
            return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value} is no time such as 2026-03-01 or 2026-03-01T12:00:00Z.", param, ctx)


@main.command("audit")
@click.option("--org", "organization", help="Only of this organization; '' for the installation.")
@click.option("--actor", help="Only what this account did: its id or its email.")
@click.option(
    "--action",
    type=click.Choice([act.value for act in Act]),
    metavar="ACTION",
    help="Only these; docs/audit.md has them.",
)
@click.option("--since", type=Time(), help="From this time on.")
@click.option("--until", type=Time(), help="Before this time.")
@click.option("--most", type=click.IntRange(1, MOST), default=50, show_default=True, help="So many entries.")
@click.option("--json", "as_lines", is_flag=True, help="As lines of JSON.")
def list_audit(
    organization: str | None,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    most: int,
    as_lines: bool,
) -> None:
    """List who did what, from where, in all organizations and in the installation, the newest first."""

    async def read(_: Settings, database: Database) -> list[dict[str, Any]]:
        return await audit.list_everywhere(
            database,
            organization=organization,
            actor=await _account(database, actor) if actor is not None else None,
            action=Act(action) if action is not None else None,
            since=since,
            until=until,
            most=most,
        )

    found = with_database(read)
    if as_lines:
        for each in found:
            click.echo(exact_json.encode(each))
        return
    rows = [
        (
            each["at"],
            each["organization"],
            each["actor"] or "",
            each["actorName"] or "",
            each["action"],
            each["dataset"] or "",
            each["address"] or "",
            exact_json.encode(each["details"]).decode() if each["details"] else "",
        )
        for each in found
    ]
    print_table("AT", "ORGANIZATION", "ACTOR", "NAME", "ACTION", "DATASET", "ADDRESS", "DETAILS", rows=rows)


async def _account(database: Database, actor: str) -> str:
    """The id of an account by its email; what is none may be the id of somebody who is gone, or whom only an identity
    provider knows.
    """
    try:
        return (await accounts.find_account(database, actor)).id
    except MemberNotFound:
        return actor


@main.command("export-audit")
@click.argument("organization")
@click.option("--since", type=Time(), required=True, help="From this time on.")
@click.option("--until", type=Time(), help="Before this time; the beginning of today in UTC, if not given.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that is there once it is complete; standard output, if not given.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file.")
def export_audit(
    organization: str, since: datetime, until: datetime | None, output: Path | None, overwrite: bool
) -> None:
    """Write the audit of ORGANIZATION and the history of its rows as lines of JSON, before they are forgotten."""
    at = now()
    until = until or at.replace(hour=0, minute=0, second=0, microsecond=0)
    if until > at - SETTLED:
        raise click.UsageError("--until has to lie ten minutes back: what is under way may be of an earlier time.")
    if since >= until:
        raise click.UsageError("--since has to be earlier than --until.")
    if output is not None and output.exists() and not overwrite:
        raise click.UsageError(f"{output} is there already; --overwrite replaces it.")

    async def write(_: Settings, database: Database) -> int:
        lines = 0
        with _opened(output) as file:
            async for some in audit.export(database, organization, since, until):
                file.write(b"\n".join(some) + b"\n")
                lines += len(some)
        await audit.note_export(database, organization, now(), since, until, lines)
        return lines

    lines = with_database(write, statement_timeout=EXPORT_TIMEOUT)
    click.echo(f"Exported {lines:,} lines of {organization}, from {since:%F %T} to before {until:%F %T} UTC.", err=True)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """A file takes its name once all of it is written."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
