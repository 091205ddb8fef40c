"""What keeps a database in order: KPIs brought up to the data, sessions ended, what is old forgotten.

One worker at a time.
"""

from datetime import datetime, timedelta
from functools import partial

import msgspec
import structlog

from app.base.database import Connection, Database
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.images import qualified
from app.engine.audit import INSTALLATION
from app.engine.datasets import Datasets, base_of
from app.engine.desk import Desk
from app.engine.requests import close_requests, forget_requests
from app.engine.sessions import expire_sessions, forget_sessions
from app.worker.target import Job, ReadClock, alone

log = structlog.get_logger(__name__)

READ_LAG = statement("kpis/read_lag")
REFRESH_KPIS = statement("kpis/refresh_kpis")
LIST_ORGANIZATIONS = statement("worker/list_organizations")
FORGET_CHANGES = statement("worker/forget_changes")
FORGET_HISTORY = statement("worker/forget_history")
FORGET_AUDIT = statement("worker/forget_audit")
FORGET_FEED = statement("worker/forget_feed")
FORGET_RUNS = statement("worker/forget_runs")
FORGET_RECEIVED = statement("ingestion/forget_received")
NOTE_KPIS = statement("ingestion/note_kpis")
FORGET_INVITATIONS = statement("invitations/forget_expired")
FORGET_REPORTS = statement("drift/forget_reports")
FORGET_QUERIES = statement("query_previews/forget_old")
FORGET_STEPS = statement("worker/forget_steps")
READ_RETENTION = statement("worker/read_retention")

AT_ONCE = 5000  # rows that a statement forgets


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished changes, history, the audit, the feed, records of runs, what sessions and undo go by, requests,
    records as they were received, decided reports of drift, and executions and corrections of questions are kept.
    """

    changes: timedelta
    history: timedelta
    audit: timedelta
    feed: timedelta
    runs: timedelta
    sessions: timedelta
    requests: timedelta
    received: timedelta = timedelta(days=30)
    drift: timedelta = timedelta(days=365)
    queries: timedelta = timedelta(days=90)


async def warn_of_retention(connection: Connection, retention: Retention) -> None:
    """Tell where the database keeps something longer than this worker is set to: `vanguard migrate` stores how long."""
    wanted = msgspec.structs.asdict(retention)
    for row in await connection.rows(READ_RETENTION):
        if timedelta(days=row["days"]) > wanted[row["kind"]]:
            log.warning("kept longer than set", kind=row["kind"], days=row["days"], set=wanted[row["kind"]].days)


async def refresh_kpis(database: Database, contract: Contract) -> bool:
    """Refresh the view where it is behind; False where there was nothing to do, or another worker does it."""
    async with alone(database, Job.UPKEEP, "kpis", contract.name) as connection:
        if connection is None or not await connection.value(qualified(READ_LAG, contract), dataset=contract.name):
            return False
        await connection.value(qualified(REFRESH_KPIS, contract))
        return True


async def refresh_own_kpis(database: Database, organization: str, contract: Contract) -> bool:
    """The same of an organization's own dataset, which notes how far its view has come."""
    async with alone(database, Job.UPKEEP, "kpis", contract.schema) as connection:
        if connection is None:
            return False
        desk = Desk(connection, contract, organization)
        await desk.value(REFRESH_KPIS)
        await desk.value(NOTE_KPIS, schema=contract.schema)
        return True


async def end_own_sessions(database: Database, organization: str, contract: Contract, read_clock: ReadClock) -> int:
    """End the sessions of an organization's own dataset whose time is over; returns how many did."""
    async with alone(database, Job.UPKEEP, "sessions", contract.schema) as connection:
        if connection is None:
            return 0
        expired = await expire_sessions(database, contract, organization, await read_clock(connection))
        log.info("sessions expired", dataset=contract.name, sessions=expired)
        return expired


async def forget_own(database: Database, datasets: Datasets, retention: Retention, read_clock: ReadClock) -> int:
    """What `forget` does, of all organizations' own datasets; and records that were received long ago, and what the
    audit has of the installation.
    """
    async with alone(database, Job.UPKEEP, "retention", "own") as connection:
        if connection is None:
            return 0
        await warn_of_retention(connection, retention)
        at = await read_clock(connection)
        forgotten, gone = 0, AT_ONCE
        for organization, contract in await datasets.own(connection):
            forgotten += await _forget(Desk(connection, contract, organization), retention, at)
        while gone == AT_ONCE:
            gone = await connection.value(FORGET_RECEIVED, before=at - retention.received, limit=AT_ONCE)
            forgotten += gone
        gone = AT_ONCE
        while gone == AT_ONCE:
            before = at - retention.audit
            gone = await connection.value(FORGET_AUDIT, organization=INSTALLATION, before=before, limit=AT_ONCE)
            forgotten += gone
        if forgotten:
            log.info("forgot what is old", dataset="own", rows=forgotten)
        return forgotten


async def end_sessions(database: Database, contract: Contract, read_clock: ReadClock) -> int:
    """End the sessions whose time is over; returns how many did."""
    async with alone(database, Job.UPKEEP, "sessions", contract.name) as connection:
        if connection is None:
            return 0
        at = await read_clock(connection)
        expired = 0
        for row in await connection.rows(LIST_ORGANIZATIONS, dataset=contract.name):
            expired += await expire_sessions(database, contract, row["id"], at)
        if expired:
            log.info("sessions expired", dataset=contract.name, sessions=expired)
        return expired


async def end_requests(database: Database, contract: Contract, read_clock: ReadClock) -> int:
    """Close the merged requests that upstream has; returns how many there were."""
    async with alone(database, Job.UPKEEP, "requests", contract.name) as connection:
        if connection is None:
            return 0
        at = await read_clock(connection)
        closed = 0
        for row in await connection.rows(LIST_ORGANIZATIONS, dataset=contract.name):
            desk = Desk(connection, contract, row["id"])
            closed += await connection.run(partial(close_requests, desk, at))
        if closed:
            log.info("change requests closed", dataset=contract.name, requests=closed)
        return closed


async def forget(database: Database, contract: Contract, retention: Retention, read_clock: ReadClock) -> int:
    """Forget what is older than it is kept; returns how many changes, sessions, requests, entries of history, audit and
    feed, invitations that nobody accepted, and previews, corrections and executions of questions, went.
    """
    async with alone(database, Job.UPKEEP, "retention", contract.name) as connection:
        if connection is None:
            return 0
        at = await read_clock(connection)
        forgotten = 0
        for row in await connection.rows(LIST_ORGANIZATIONS, dataset=contract.name):
            forgotten += await _forget(Desk(connection, contract, row["id"]), retention, at)
            forgotten += await connection.value(FORGET_INVITATIONS, organization=row["id"], at=at)
            forgotten += await _forget_queries(connection, row["id"], at - retention.queries, at)
        if forgotten:
            log.info("forgot what is old", dataset=contract.name, rows=forgotten)
        return forgotten


async def _forget_queries(connection: Connection, organization: str, before: datetime, at: datetime) -> int:
    forgotten, gone = 0, AT_ONCE
    told = {"organization": organization, "before": before, "at": at, "limit": AT_ONCE}
    while gone >= AT_ONCE:
        gone = await connection.value(FORGET_QUERIES, **told)
        forgotten += gone
    return forgotten


async def _forget(desk: Desk, retention: Retention, at: datetime) -> int:
    forgotten = 0
    for forget_some, kept in (
        (FORGET_CHANGES, retention.changes),
        (FORGET_HISTORY, retention.history),
        (FORGET_AUDIT, retention.audit),
        (FORGET_FEED, retention.feed),
    ):
        gone = AT_ONCE
        while gone == AT_ONCE:
            gone = await desk.value(forget_some, before=at - kept, limit=AT_ONCE)
            forgotten += gone
    base = base_of(desk.contract.name)
    told = {"organization": desk.organization, "base": base, "before": at - retention.drift}
    forgotten += int(await desk.connection.value(FORGET_REPORTS, **told))
    await desk.value(FORGET_RUNS, before=at - retention.runs)
    await desk.value(FORGET_STEPS, before=at - retention.sessions)
    forgotten += await forget_sessions(desk, at - retention.sessions)
    return forgotten + await forget_requests(desk, at - retention.requests)
