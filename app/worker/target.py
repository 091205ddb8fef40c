"""What a worker synchronizes: a dataset of an organization and the upstream behind it; and who does it, alone."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import Enum

import msgspec

from app.base.database import Connection, Database
from app.base.statements import statement
from app.contracts import Contract
from app.upstream.protocol import Upstream
from app.worker.guards import Shares

TAKE = statement("worker/take")
GIVE_BACK = statement("worker/give_back")
MAKE_STAGING = statement("worker/make_staging")

# What time it is for leases and schedules: the database's clock, or a test's.
ReadClock = Callable[[Connection], Awaitable[datetime]]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset of an organization, its upstream, and how they are synchronized.

    `shares`: what a pull may do at once; `concurrency`: changes that are pushed at the
    same time; `lease`: how long upstream may still work on a request of ours that nobody waits for any more.
    `longest_run`: a pull that takes longer ends. `full_at`: when clocks in `full_at_zone` show this, a full pull is due
    with the next one, instead of after `full_every`. `start_paused`: whether a dataset begins so that is connected for
    the first time.
    """

    organization: str
    contract: Contract
    upstream: Upstream
    pull_every: timedelta = timedelta(minutes=15)
    full_every: timedelta = timedelta(days=1)
    overlap: timedelta = timedelta(minutes=10)
    shares: Shares = Shares()
    concurrency: int = 4
    lease: timedelta = timedelta(minutes=2)
    longest_run: timedelta = timedelta(hours=4)
    full_at: time | None = None
    full_at_zone: tzinfo = UTC
    start_paused: bool = False

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.contract.name


class Job(Enum):
    """What is done by one worker at a time; the value is the class of its advisory lock (2 is that of absent keys)."""

    PULL = 3
    PUSH = 4
    UPKEEP = 5
    CHECK = 6
    INGEST = 7


@asynccontextmanager
async def alone(database: Database, job: Job, organization: str, dataset: str) -> AsyncIterator[Connection | None]:
    """The connection of whoever does this job there alone, None where another does.

    The lock lives as long as the connection: all that must not be done twice goes over this one.
    """
    async with database.connection() as connection:
        if not await connection.value(TAKE, job=job.value, organization=organization, dataset=dataset):
            yield None
            return
        try:
            await connection.value(MAKE_STAGING)
            yield connection
            await connection.value(GIVE_BACK, job=job.value, organization=organization, dataset=dataset)
        except BaseException:
            # Whatever state it is in: its end gives the lock back.
            connection.raw.terminate()
            raise
