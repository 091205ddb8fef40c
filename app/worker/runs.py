"""The records of runs: begun, counted, finished; and what upstream's failures do to the schedule."""

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec

from app.base.statements import statement
from app.contracts.values import fits
from app.engine.desk import Desk
from app.upstream.protocol import Page, Unavailable, UpstreamError
from app.worker.guards import Tally

OPEN_RUN = statement("worker/open_run")
COUNT_RUN = statement("worker/count_run")
FINISH_RUN = statement("worker/finish_run")
READ_ENDING = statement("worker/read_ending")
READ_SYNCHRONIZATION = statement("worker/read_synchronization")
FAIL_UPSTREAM = statement("worker/fail_upstream")
HEAL_UPSTREAM = statement("worker/heal_upstream")

LONGEST_ERROR = 2000
DEFECT = "Something went wrong on our side; the worker's log says where. It is tried again."
LONGEST_PAUSE = 3600.0  # seconds that upstream can ask to be left alone
STOPPED, PAUSED, TOO_LONG, CLOSED = (
    "STOPPED",
    "SYNC_PAUSED",
    "RUN_TOO_LONG",
    "DATASET_READ_ONLY",
)  # why a run ends before it is done


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was begun: now, or by a worker that is gone (`resumed`); by the schedule, or because somebody `asked`.

    `since` is None for a pull of everything. `allow`: the guards of a pull that do not hold for this one; `tally`: of
    this pull so far, or of those that failed before it. `until`: its time is over then. `ends`: it was stopped or
    paused, or its time was over, before it was begun.
    """

    id: uuid.UUID
    asked: bool
    resumed: bool
    full: bool
    since: datetime | None
    cursor: str | None
    mark: datetime | None
    start_revision: int
    allow: tuple[str, ...]
    until: datetime | None
    ends: bool
    tally: Tally | None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run ends before it is done, and what is told about it."""

    code: str
    error: str


class Synchronization(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dataset's synchronization stands."""

    revision: int
    watermark: datetime | None
    pulled_whole_at: datetime | None
    pull_failures: int
    full_wanted: bool
    failures: int
    open_until: datetime | None


async def read_synchronization(desk: Desk) -> Synchronization:
    """Where it stands."""
    row = await desk.row(READ_SYNCHRONIZATION)
    assert row is not None, "a worker connects its targets before it works on them"
    return Synchronization(**dict(row))


async def open_run(
    desk: Desk,
    kind: Literal["pull", "push", "check"],
    at: datetime,
    *,
    full: bool = False,
    since: datetime | None = None,
    longest: timedelta | None = None,
) -> Run | None:
    """The unfinished run, or the one asked for, or a new one; None where it was paused or stopped meanwhile."""
    row = await desk.row(OPEN_RUN, kind=kind, at=at, run_id=uuid.uuid4(), full=full, since=since, longest=longest)
    return None if row is None else msgspec.convert(dict(row), Run)


async def count(
    desk: Desk,
    run: Run,
    at: datetime,
    counts: Mapping[str, int],
    *,
    page: Page | None = None,
    tally: Tally | None = None,
    seen: Collection[str] = (),
) -> bool:
    """Add to the run's counts, by the names of their columns; and note how far a page leads, and which rows it had.
    Returns whether the run has to end here.
    """
    ends = await desk.value(
        COUNT_RUN,
        run_id=run.id,
        at=at,
        counts=dict(counts),
        cursor=None if page is None else page.cursor,
        mark=None if page is None else page.mark,
        marked=None if page is None else page.marked,
        total=None if page is None else page.total,
        doubt=None if page is None or page.doubt is None else for_people(page.doubt),
        tally=None if tally is None else msgspec.to_builtins(tally),
        seen=list(seen),
    )
    return bool(ends) or _is_late(run, at)


async def read_ending(desk: Desk, run: Run, at: datetime) -> Ending | None:
    """Why the run ends before it is done; None where nobody wants that, and it is to go on some time."""
    row = await desk.row(READ_ENDING, run_id=run.id)
    if row is not None and row["stopped"]:
        return Ending(code=STOPPED, error=f"{row['stopped_by']} stopped it. What it had done until then stays.")
    if row is not None and row["closed"]:
        return Ending(code=CLOSED, error=f"The dataset is {row['closed']}. What it had done until then stays.")
    if row is not None and row["paused"]:
        who = row["paused_by"] or "The worker's configuration"
        return Ending(code=PAUSED, error=f"{who} paused synchronization. What it had done until then stays.")
    if _is_late(run, at):
        return Ending(
            code=TOO_LONG,
            error="It took longer than longestRun of the file of upstreams allows. What it had done until then stays. "
            "See whether upstream is slow; if it has that much to send, raise longestRun.",
        )
    return None


def _is_late(run: Run, at: datetime) -> bool:
    return run.until is not None and at >= run.until


async def finish(
    desk: Desk,
    run: Run,
    at: datetime,
    code: str | None = None,
    error: str | None = None,
    report: Mapping[str, Any] | None = None,
) -> None:
    """The run is over: well, or with an error."""
    text = None if error is None else for_people(error)
    await desk.value(FINISH_RUN, run_id=run.id, at=at, error_code=code, error=text, report=report)


def code_of(error: UpstreamError) -> str:
    """What a run's record says of upstream's failure."""
    return "UPSTREAM_UNAVAILABLE" if isinstance(error, Unavailable) else "UPSTREAM_FAILED"


def pause(error: UpstreamError) -> float | None:
    """Seconds that upstream asked to be left alone, up to an hour; None where it did not ask."""
    if not isinstance(error, Unavailable) or error.retry_after is None:
        return None
    return min(max(error.retry_after, 0.0), LONGEST_PAUSE)


def for_people(error: str) -> str:
    """Upstream's words as they are kept: text that the database can hold, and not pages of it."""
    return _text_of(error)[:LONGEST_ERROR]


def storable(value: Any) -> Any:
    """What was sent, as jsonb can hold it: numbers beyond those of a field as texts."""
    match value:
        case str():
            return for_people(value)
        case dict():
            return {_text_of(name): storable(member) for name, member in value.items()}
        case list():
            return [storable(member) for member in value]
        case int() | Decimal() if not fits(value):
            return str(value)[:LONGEST_ERROR]
    return value


def _text_of(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


async def note_failure(desk: Desk, at: datetime, error: UpstreamError) -> None:
    """Upstream failed: enough of it, and the circuit opens."""
    await desk.value(FAIL_UPSTREAM, at=at, pause=pause(error))


async def note_success(desk: Desk, run: Run, at: datetime) -> None:
    """Upstream answered."""
    await desk.value(HEAL_UPSTREAM, at=at, asked=run.asked)
