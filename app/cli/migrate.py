"""`vanguard migrate`: the database is brought up to date."""

import time

import click

from app import migrate as database
from app.base.logs import configure_logs
from app.base.settings import read_settings
from app.cli.program import main


@main.command()
@click.option(
    "--restored",
    is_flag=True,
    help="The database was put back to an earlier state. Seen without this option, but for a snapshot of the disks.",
)
def migrate(restored: bool) -> None:
    """Bring the database to the newest revision. What takes its time is told while it is done."""
    settings = read_settings()
    configure_logs("WARNING", "console")
    started = time.monotonic()

    def tell(step: str) -> None:
        click.echo(f"{time.monotonic() - started:6.1f} s  {step}")

    revision = database.migrate(settings.owner_address, tell=tell, restored=restored, retention=settings.retention)
    click.echo(f"The database is at revision {revision}.")
