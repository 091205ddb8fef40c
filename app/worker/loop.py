"""The worker: what is due is done, again and again. As many may run as one likes.

A tick (`step`) looks at what is due and begins it; `run` does that twice a second, so that a commit is on its way
within a second. Time is asked of the database, or of a test.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import structlog
from asyncpg import Record
from prometheus_client import Counter, Gauge

from app.base.database import Connection, Database
from app.base.errors import DatabaseUnavailable
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.images import qualified
from app.engine.datasets import Datasets
from app.engine.desk import Desk
from app.worker.check import check
from app.worker.ingestion import ingest
from app.worker.pull import pull
from app.worker.push import push
from app.worker.target import ReadClock, Target
from app.worker.upkeep import (
    Retention,
    end_own_sessions,
    end_requests,
    end_sessions,
    forget,
    forget_own,
    refresh_kpis,
    refresh_own_kpis,
)

log = structlog.get_logger(__name__)

CONNECT = statement("worker/connect")
READ_CLOCK = statement("worker/read_clock")
READ_DUE = statement("worker/read_due")
MEASURE = statement("worker/measure")
FIND_WORK = statement("ingestion/find_work")

TICK = 0.5  # seconds
LONG_TICK = 10.0  # after a step that failed
KPIS_EVERY = timedelta(seconds=30)
FORGET_EVERY = timedelta(hours=1)
SESSIONS_EVERY = timedelta(seconds=30)
REQUESTS_EVERY = timedelta(seconds=5)
MEASURE_EVERY = timedelta(seconds=15)
PAUSE = timedelta(seconds=30)  # after a defect, before the same is begun again
GRACE = 7.0  # seconds that what is under way gets to finish; the process is gone within ten
CLOSING = 0.5  # seconds to break off what did not
LONGEST_STEP = 30.0  # seconds: a connection that went silent is given up, and another one made

LONG = frozenset({"pull", "ingest"})  # jobs that take as long as there is something to take

LABELS = ["organization", "dataset"]
LAG = Gauge("vanguard_sync_lag_seconds", "Seconds since the last pull that succeeded began", LABELS)
OUTBOX = Gauge("vanguard_outbox_changes", "Changes that wait to be pushed", LABELS)
FAILED = Gauge("vanguard_failed_changes", "Changes that wait for a person", LABELS)
DRIFT = Gauge("vanguard_drift_open", "Reports of drift that hold a pull, and that nobody has decided on", LABELS)
CIRCUIT = Gauge("vanguard_circuit_open", "1 while nobody asks upstream anything", LABELS)

DEFECTS = Counter("vanguard_job_defects_total", "Jobs that ended with an error that nobody expected", ["job"])

Work = Callable[[], Coroutine[Any, Any, object]]


async def database_clock(connection: Connection) -> datetime:
    """The database's time: the same for all workers, whatever their own clocks say."""
    at = await connection.value(READ_CLOCK)
    assert isinstance(at, datetime)
    return at


class Worker:
    """Synchronizes targets, and keeps the contracts' datasets in order.

    Jobs are named by what they are about; a job of a name that is still running is not begun again. At most `jobs` run
    at the same time, each with a connection of its own, and pulls and ingestion never more than half of them: pushes
    are what people wait for.
    """

    def __init__(
        self,
        database: Database,
        targets: Iterable[Target],
        contracts: Sequence[Contract],
        retention: Retention,
        *,
        read_clock: ReadClock = database_clock,
        chance: Callable[[], float] = random.random,
        jobs: int = 8,
    ):
        self.database, self.contracts, self.retention = database, contracts, retention
        self.read_clock, self.chance, self.jobs = read_clock, chance, jobs
        self.datasets = Datasets(database, contracts)
        self.targets = {(target.organization, target.dataset): target for target in targets}
        self.stopping = asyncio.Event()
        self._connected = False
        self._running: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[str, ...], datetime] = {}
        self._turns = count(1)
        self._begun: dict[tuple[str, ...], int] = {}
        self._ends: dict[tuple[str, ...], asyncio.Event] = {}

    async def run(self) -> None:
        """Work until `stopping` is set; then what is under way gets a few seconds, whatever it waits for."""
        steps = asyncio.create_task(self._steps())
        try:
            await self.stopping.wait()
            await asyncio.wait({steps, *self._running.values()}, timeout=GRACE)
        finally:
            late = {steps, *self._running.values()}
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=CLOSING)

    async def _steps(self) -> None:
        while not self.stopping.is_set():
            rest = TICK
            try:
                async with asyncio.timeout(LONGEST_STEP):
                    await self.step()
            except (DatabaseUnavailable, TimeoutError):
                log.warning("worker waits for the database")
            except Exception as error:
                # Such as a statement that took too long, or tables that are still to be migrated: a worker that ends
                # would help nobody.
                _tell("step", error)
                rest = LONG_TICK
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), rest)

    async def step(self) -> None:
        """Begin what is due."""
        async with self.database.connection() as connection:
            at = await self.read_clock(connection)
            await self._connect(connection, at)
            for contract in self.contracts:
                await self._begin_due(connection, contract, at)
            if self._is_time(("measure",), at, MEASURE_EVERY):
                for contract in self.contracts:
                    await self._measure(connection, contract, at)
        await self._begin_own(at)
        for contract in self.contracts:
            if self._is_time(("kpis", contract.name), at, KPIS_EVERY):
                self._begin(("kpis", contract.name), at, partial(refresh_kpis, self.database, contract))
            if self._is_time(("sessions", contract.name), at, SESSIONS_EVERY):
                self._begin(
                    ("sessions", contract.name), at, partial(end_sessions, self.database, contract, self.read_clock)
                )
            if self._is_time(("requests", contract.name), at, REQUESTS_EVERY):
                self._begin(
                    ("requests", contract.name), at, partial(end_requests, self.database, contract, self.read_clock)
                )
            if self._is_time(("forget", contract.name), at, FORGET_EVERY):
                self._begin(
                    ("forget", contract.name), at,
                    partial(forget, self.database, contract, self.retention, self.read_clock),
                )  # fmt: skip

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def close(self) -> None:
        """Close the connections to the upstreams."""
        for target in self.targets.values():
            await target.upstream.close()

    # --- what is due

    async def _connect(self, connection: Connection, at: datetime) -> None:
        """Say which datasets are connected, once; those that the database does not know are passed over until then."""
        if self._connected or not self._is_time(("connect",), at, PAUSE):
            return
        known = True
        for target in self.targets.values():
            every, full = (max(1, int(each.total_seconds())) for each in (target.pull_every, target.full_every))
            desk = Desk(connection, target.contract, target.organization)
            connected = await desk.value(CONNECT, pull_every=every, full_every=full, at=at, paused=target.start_paused)
            if connected is None:
                log.warning("no such dataset", organization=target.organization, dataset=target.dataset)
                known = False
        self._connected = known

    async def _begin_due(self, connection: Connection, contract: Contract, at: datetime) -> None:
        organizations = [organization for organization, dataset in self.targets if dataset == contract.name]
        if not organizations:
            return
        due = await connection.rows(
            qualified(READ_DUE, contract), organizations=organizations, dataset=contract.name, at=at
        )
        # Who had a turn longest ago comes first, or those that fail again and again would keep the others waiting.
        for row in sorted(due, key=lambda row: self._begun.get((row["organization_id"], contract.name), 0)):
            target = self.targets[row["organization_id"], contract.name]
            self._end_runs(target, row)
            if row["pull"]:
                work = partial(pull, self.database, target, self.read_clock, self.stopping)
                self._begin_run("pull", target, at, work)
            if row["push"]:
                work = partial(push, self.database, target, self.read_clock, self.chance, self.stopping)
                self._begin_run("push", target, at, work)
            if row["check"]:
                name = ("check", target.organization, target.dataset)
                self._begin(name, at, partial(check, self.database, target, self.read_clock))

    async def _begin_own(self, at: datetime) -> None:
        """What is due of organizations' own datasets, found by one statement, however many there are."""
        async with self.database.connection() as connection:
            rows = await connection.rows(FIND_WORK, at=at)
            # Who had a turn longest ago comes first. Contracts are looked for where there is a place for the work only.
            for row in sorted(rows, key=lambda row: self._begun.get((row["organization_id"], row["schema_name"]), 0)):
                name = (row["work"], row["organization_id"], row["schema_name"])
                if at < self._not_before.get(name, at) or not self._may_begin(name, at):
                    continue
                found = await self.datasets.find_on(connection, row["organization_id"], row["base"], row["major"])
                if found is not None:
                    self._begin_work(row["work"], row["organization_id"], found.contract, at)
        if self._is_time(("forget", "own"), at, FORGET_EVERY):
            work = partial(forget_own, self.database, self.datasets, self.retention, self.read_clock)
            self._begin(("forget", "own"), at, work)

    def _begin_work(self, work: str, organization: str, contract: Contract, at: datetime) -> None:
        name = (work, organization, contract.schema)
        if work == "ingest":
            self._begin(
                name, at, partial(ingest, self.database, organization, contract, self.read_clock, self.stopping)
            )
        elif work == "kpis":
            if self._begin(name, at, partial(refresh_own_kpis, self.database, organization, contract)):
                self._not_before[name] = at + KPIS_EVERY
        elif self._begin(name, at, partial(end_own_sessions, self.database, organization, contract, self.read_clock)):
            self._not_before[name] = at + SESSIONS_EVERY

    def _end_runs(self, target: Target, due: Record) -> None:
        """Tell those under way here that were stopped or paused; whoever waits for upstream would learn it too late."""
        for kind in ("pull", "push"):
            ends = self._ends.get((kind, target.organization, target.dataset))
            if due[f"end_{kind}"] and ends is not None:
                ends.set()

    def _begin_run(
        self, kind: str, target: Target, at: datetime, work: Callable[..., Coroutine[Any, Any, object]]
    ) -> None:
        name, ends = (kind, target.organization, target.dataset), asyncio.Event()
        if self._begin(name, at, partial(work, ends)):
            self._ends[name] = ends

    def _is_time(self, name: tuple[str, ...], at: datetime, every: timedelta) -> bool:
        if at < self._not_before.get(name, at):
            return False
        self._not_before[name] = at + every
        return True

    def _may_begin(self, name: tuple[str, ...], at: datetime) -> bool:
        if name in self._running or at < self._not_before.get(("pause", *name), at):
            return False
        long = sum(kind in LONG for kind, *_ in self._running)
        return len(self._running) < self.jobs and (name[0] not in LONG or long < max(1, self.jobs // 2))

    def _begin(self, name: tuple[str, ...], at: datetime, work: Work) -> bool:
        if not self._may_begin(name, at):
            return False
        task = asyncio.create_task(self._guarded(name, at, work))
        self._running[name], self._begun[name[1:]] = task, next(self._turns)
        task.add_done_callback(lambda _: self._running.pop(name, None))
        return True

    async def _guarded(self, name: tuple[str, ...], at: datetime, work: Work) -> None:
        """A defect in one job stops no other, and is not repeated at once."""
        try:
            await work()
        except DatabaseUnavailable:
            log.warning("job waits for the database", job="/".join(name))
        except Exception as error:
            _tell("/".join(name), error)
            self._not_before["pause", *name] = at + PAUSE

    async def _measure(self, connection: Connection, contract: Contract, at: datetime) -> None:
        organizations = [organization for organization, dataset in self.targets if dataset == contract.name]
        measured = qualified(MEASURE, contract)
        for row in await connection.rows(measured, organizations=organizations, dataset=contract.name, at=at):
            labels = (row["organization_id"], contract.name)
            LAG.labels(*labels).set(row["lag"] if row["lag"] is not None else float("nan"))
            OUTBOX.labels(*labels).set(row["outbox"])
            FAILED.labels(*labels).set(row["failed"])
            CIRCUIT.labels(*labels).set(row["open"])
            DRIFT.labels(*labels).set(row["drift"])


def _tell(job: str, error: Exception) -> None:
    """A defect, in the log and in the metrics; without its message, which can hold row data."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place is not None else ""
    log.error("job failed", job=job, error=type(error).__name__, place=where)
    DEFECTS.labels(job.partition("/")[0]).inc()
