"""`vanguard serve`, `worker` and `refresh-kpis`: what runs for real."""

import asyncio
import signal
from contextlib import suppress

import click
import structlog
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from app import kpis
from app.base.database import Database
from app.base.listening import alone_at, is_public
from app.base.logs import configure_logs
from app.base.role import check_role_at_start
from app.base.settings import Settings, read_settings
from app.cli.program import main, with_database
from app.contracts import BUILT_IN
from app.worker.start import read_targets, work

log = structlog.get_logger(__name__)

REQUESTS = 1024  # that a process answers at once, beside its streams
BACKLOG = 4096  # connections that wait for a process to take them
LARGEST_HEAD = 128 * 1024  # bytes that a connection can have a process keep: a little above what is looked at
REFRESH_TIMEOUT = 3600.0  # seconds: a view over a hundred million rows takes minutes

# Granian's own lines go through our logs: one format for everything.
GRANIAN_LOGS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"level": "INFO", "handlers": [], "propagate": True}},
}


@main.command()
def serve() -> None:
    """Serve the API. SIGTERM lets the requests under way finish."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format)
    if is_public(settings.host) and not settings.trusted_proxies:
        log.warning("no proxy in front", host=settings.host, see="docs/operations.md#the-proxy")
    asyncio.run(_check_role(settings))
    with alone_at(settings.host, settings.port):
        Granian(
            "app.main:serve",
            factory=True,
            interface=Interfaces.ASGI,
            address=settings.host,
            port=settings.port,
            workers=settings.workers,
            websockets=False,
            http=HTTPModes.auto if settings.http2 else HTTPModes.http1,
            # From the first byte of a connection, or the end of the answer before, to the end of a head.
            http1_settings=HTTP1Settings(
                header_read_timeout=round(settings.head_timeout * 1000), max_buffer_size=LARGEST_HEAD
            ),
            respawn_failed_workers=True,
            workers_kill_timeout=30,
            backlog=BACKLOG,
            # Connections that it has at once; a stream is one for as long as it lasts.
            backpressure=settings.max_streams + REQUESTS,
            log_level=LogLevels(settings.log_level.lower()),
            log_dictconfig=GRANIAN_LOGS,
        ).serve()


async def _check_role(settings: Settings) -> None:
    database = Database(settings)
    await database.open()
    try:
        await check_role_at_start(database)
    finally:
        await database.close()


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
