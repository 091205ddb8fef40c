"""`vanguard worker`: a worker as its settings and the file of upstreams describe it, until a signal says stop."""

import asyncio
import gc
import signal
from contextlib import AsyncExitStack
from datetime import time, timedelta
from pathlib import Path

import msgspec
import structlog

from app.base.database import Database
from app.base.errors import ConfigurationError
from app.base.role import check_role_at_start
from app.base.settings import Settings
from app.contracts import BUILT_IN, Contract
from app.upstream.directory import Entry, open_upstream, read_directory
from app.worker.guards import Shares
from app.worker.loop import Worker
from app.worker.metrics import serving_metrics
from app.worker.target import Target
from app.worker.upkeep import Retention

log = structlog.get_logger(__name__)

# Seconds: a refresh of KPIs over a hundred million rows takes minutes.
STATEMENT_TIMEOUT = 3600.0


def read_targets(settings: Settings, contracts: tuple[Contract, ...] = BUILT_IN) -> list[Target]:
    """What the file of upstreams names; nothing without one. Raises ConfigurationError."""
    if settings.upstreams is None:
        return []
    by_name = {contract.name: contract for contract in contracts}
    return [_target(entry, by_name) for entry in read_directory(Path(settings.upstreams))]


def _target(entry: Entry, contracts: dict[str, Contract]) -> Target:
    wanted = entry.target
    contract = contracts.get(wanted.dataset)
    if contract is None or contract.upstream != wanted.kind:
        raise ConfigurationError(
            f"{entry.file}, {entry.where}: there is no dataset {wanted.dataset} of the kind {wanted.kind}."
        )
    return Target(
        organization=wanted.organization,
        contract=contract,
        upstream=open_upstream(entry, contract),
        pull_every=timedelta(seconds=wanted.pull_every),
        full_every=timedelta(seconds=wanted.full_every),
        overlap=timedelta(seconds=wanted.overlap),
        shares=Shares(
            deletions=wanted.deletion_share,
            inserts=wanted.insert_share,
            changes=wanted.change_share,
            quarantine=wanted.quarantine_share,
        ),
        concurrency=wanted.concurrency,
        lease=timedelta(seconds=wanted.lease),
        longest_run=timedelta(seconds=wanted.longest_run),
        full_at=None if wanted.full_at is None else time.fromisoformat(wanted.full_at),
        full_at_zone=wanted.zone,
        start_paused=wanted.start_paused,
    )


async def work(settings: Settings, targets: list[Target], contracts: tuple[Contract, ...] = BUILT_IN) -> None:
    """Work until SIGTERM or SIGINT; stops within ten seconds of it."""
    database = Database(msgspec.structs.replace(settings, statement_timeout=STATEMENT_TIMEOUT))
    retention = Retention(
        changes=timedelta(days=settings.keep_changes_days),
        history=timedelta(days=settings.keep_history_days),
        audit=timedelta(days=settings.keep_audit_days),
        feed=timedelta(days=settings.keep_feed_days),
        runs=timedelta(days=settings.keep_runs_days),
        sessions=timedelta(days=settings.keep_sessions_days),
        requests=timedelta(days=settings.keep_requests_days),
        drift=timedelta(days=settings.keep_drift_days),
        received=timedelta(days=settings.keep_received_days),
        queries=timedelta(days=settings.keep_query_days),
    )
    worker = Worker(database, targets, contracts, retention, jobs=settings.pool_size // 2)
    for number in (signal.SIGTERM, signal.SIGINT):
        # In the background of a script Ctrl-C is meant for others: SIGINT is ignored there, and stays so.
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, worker.stopping.set)
    async with AsyncExitStack() as stack:
        if settings.metrics_port:
            served = serving_metrics(settings.host, settings.metrics_port, settings.metrics_token)
            stack.enter_context(served)
        await database.open()
        stack.push_async_callback(database.close)
        await check_role_at_start(database)
        stack.push_async_callback(worker.close)
        # What the worker is made of stays, and is not looked through again and again.
        gc.collect()
        gc.freeze()
        log.info("worker begins", targets=len(targets))
        await worker.run()
        log.info("worker ends")
