"""The records of runs: begun, counted, finished; and what upstream's failures do to the schedule."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from app.base.database import Connection
from app.base.statements import statement
from app.upstream.protocol import Unavailable, UpstreamError
from app.worker.target import Target

OPEN_RUN = statement("worker/open_run")
COUNT_RUN = statement("worker/count_run")
FINISH_RUN = statement("worker/finish_run")
READ_STANDING = statement("worker/read_standing")
FAIL_UPSTREAM = statement("worker/fail_upstream")
HEAL_UPSTREAM = statement("worker/heal_upstream")

LONGEST_ERROR = 2000
DEFECT = "Something went wrong on our side; the worker's log says where. It is tried again."
LONGEST_PAUSE = 3600.0  # seconds that upstream can ask to be left alone


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was begun: now, or by a worker that is gone (`resumed`); by the schedule, or because somebody `asked`.

    `since` is None for a pull of everything.
    """

    id: uuid.UUID
    asked: bool
    resumed: bool
    whole: bool
    since: datetime | None
    cursor: str | None
    mark: datetime | None
    start_revision: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dataset's synchronization stands."""

    revision: int
    watermark: datetime | None
    pulled_whole_at: datetime | None
    pull_failures: int
    failures: int
    open_until: datetime | None


async def read_standing(connection: Connection, target: Target) -> Standing:
    """Where the target stands."""
    row = await connection.row(READ_STANDING, target.organization, target.dataset)
    assert row is not None, "a worker connects its targets before it works on them"
    return Standing(**dict(row))


async def open_run(
    connection: Connection,
    target: Target,
    kind: Literal["pull", "push"],
    at: datetime,
    *,
    whole: bool = False,
    since: datetime | None = None,
) -> Run:
    """The unfinished run, or the one asked for, or a new one."""
    row = await connection.row(OPEN_RUN, target.organization, target.dataset, kind, at, uuid.uuid4(), whole, since)
    assert row is not None, "a run of a dataset that is there can be begun"
    return Run(**dict(row))


async def count(
    connection: Connection,
    target: Target,
    run: Run,
    at: datetime,
    counts: Mapping[str, int],
    *,
    cursor: str | None = None,
    mark: datetime | None = None,
    total: int | None = None,
) -> None:
    """Add to the run's counts, by the names of their columns."""
    await connection.value(COUNT_RUN, target.organization, run.id, at, cursor, mark, total, dict(counts))


async def finish(
    connection: Connection, target: Target, run: Run, at: datetime, code: str | None = None, error: str | None = None
) -> None:
    """The run is over: well, or with an error."""
    text = None if error is None else for_people(error)
    await connection.value(FINISH_RUN, target.organization, run.id, at, code, text)


def pause(error: UpstreamError) -> float | None:
    """Seconds that upstream asked to be left alone, up to an hour; None where it did not ask."""
    if not isinstance(error, Unavailable) or error.retry_after is None:
        return None
    return min(max(error.retry_after, 0.0), LONGEST_PAUSE)


def for_people(error: str) -> str:
    """Upstream's words as they are kept: text that the database can hold, and not pages of it."""
    return error.replace("\0", "")[:LONGEST_ERROR]


async def note_failure(connection: Connection, target: Target, at: datetime, error: UpstreamError) -> None:
    """Upstream failed: enough of it, and the circuit opens."""
    await connection.value(FAIL_UPSTREAM, target.organization, target.dataset, at, pause(error))


async def note_success(connection: Connection, target: Target, run: Run, at: datetime) -> None:
    """Upstream answered."""
    await connection.value(HEAL_UPSTREAM, target.organization, target.dataset, at, run.asked)
