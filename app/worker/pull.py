"""Pull: pages of upstream into the mirror, resumable after any page.

Each page is a transaction: its rows, what is put into quarantine, the counts and the cursor. The next page is asked for
while one is written.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import stamina
import structlog

from app.base.database import Connection, Database
from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.locks import lock_dataset, lock_rows
from app.upstream.protocol import Broken, Failed, Page, Unavailable, UpstreamError
from app.worker import runs
from app.worker.intake import sort_out
from app.worker.runs import Run
from app.worker.staging import Incoming, Written, stage, write
from app.worker.target import Job, ReadClock, Target, alone

log = structlog.get_logger(__name__)

READ_REVISION = statement("worker/read_revision")
REMEMBER_KEYS = statement("worker/remember_keys")
FORGET_KEYS = statement("worker/forget_keys")
READ_STAGED = statement("worker/read_staged")
LEAVE_ALONE = statement("worker/leave_alone")
QUARANTINE_ROWS = statement("worker/quarantine_rows")
RELEASE_ROWS = statement("worker/release_rows")
RELEASE_UNSEEN = statement("worker/release_unseen")
COUNT_MISSING = statement("worker/count_missing")
COUNT_NAMELESS = statement("worker/count_nameless")
STAGE_MISSING = statement("worker/stage_missing")
SCHEDULE_PULL = statement("worker/schedule_pull")
POSTPONE_PULL = statement("worker/postpone_pull")

ATTEMPTS = 5  # at a page
LONGEST_WAIT = 60.0  # seconds that a page waits because upstream asks for it; beyond, the pull ends
DELETED_AT_ONCE = 1000
LONGEST_TEXT = 2000  # characters of a value in quarantine


class TooManyDeletions(Exception):
    """More of the rows are gone upstream than may be deleted at once."""


async def pull(database: Database, target: Target, read_clock: ReadClock, stopping: asyncio.Event) -> bool:
    """Pull once, to the end or until `stopping`, which leaves the run to be resumed; False where another worker pulls.

    What upstream does wrong ends in the run's record and in the schedule, not in an exception.
    """
    async with alone(database, Job.PULL, target.organization, target.dataset) as connection:
        if connection is None:
            return False
        await _Pull(connection, target, read_clock, stopping).run()
        return True


class _Pull:
    """One run, on the connection that holds the lock."""

    def __init__(self, connection: Connection, target: Target, read_clock: ReadClock, stopping: asyncio.Event):
        self.connection, self.target, self.read_clock, self.stopping = connection, target, read_clock, stopping
        self.desk = Desk(connection, target.contract, target.organization)

    async def run(self) -> None:
        run = await self._open()
        try:
            finished = await self._read_pages(run)
            if finished and run.full:
                finished = await self._delete_missing(run)
            if finished:
                await self._finish(run)
        except UpstreamError as error:
            code = "UPSTREAM_UNAVAILABLE" if isinstance(error, Unavailable) else "UPSTREAM_FAILED"
            await self._fail(run, code, str(error))
            await runs.note_failure(self.desk, await self._now(), error)
        except TooManyDeletions as error:
            await self._fail(run, "TOO_MANY_DELETIONS", str(error))
        except Exception:
            if not self.connection.raw.is_closed():
                await self._fail(run, "INTERNAL_ERROR", runs.DEFECT)
            raise

    async def _open(self) -> Run:
        """Everything, where it is the first time, where upstream cannot tell what is new, and once in `full_every`."""
        at, target = await self._now(), self.target
        known = await runs.read_synchronization(self.desk)
        last = known.pulled_whole_at
        full = (
            not target.upstream.capabilities.incremental
            or known.watermark is None
            or last is None
            or at >= last + target.full_every
        )
        since = None if known.watermark is None else known.watermark - target.overlap
        async with self.connection.raw.transaction():
            run = await runs.open_run(self.desk, "pull", at, full=full, since=since)
            if run.full and not run.resumed:
                await self.desk.value(FORGET_KEYS)
        log.info(
            "pull begins", organization=self.target.organization, dataset=target.dataset, run=str(run.id), full=run.full
        )
        return run

    # --- pages

    async def _read_pages(self, run: Run) -> bool:
        """Take page after page; False where it was stopped."""
        following = asyncio.create_task(self._ask(run, run.cursor, await self._revision()))
        try:
            while True:
                if not await self._wait_for_page(following):
                    return False
                asked, page = following.result()
                if page.cursor is not None:
                    following = asyncio.create_task(self._ask(run, page.cursor, await self._revision()))
                await self._write_page(run, page, asked)
                if page.cursor is None:
                    return True
                if self.stopping.is_set():
                    return False
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _wait_for_page(self, page: "asyncio.Task[tuple[int, Page]]") -> bool:
        """Wait for a page; False where it was stopped meanwhile: upstream may take longer than a worker has to end."""
        stopped = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait((page, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        return page.done()

    async def _ask(self, run: Run, cursor: str | None, revision: int) -> tuple[int, Page]:
        """A page, and the dataset's revision before it was asked for."""
        async for attempt in stamina.retry_context(on=_wait, attempts=ATTEMPTS, wait_initial=0.5, wait_max=20.0):
            with attempt:
                return revision, await self.target.upstream.page(since=run.since, cursor=cursor)
        raise AssertionError("stamina returns or raises")

    async def _write_page(self, run: Run, page: Page, asked: int) -> None:
        at = await self._now()
        good, broken = sort_out(self.target.contract, page)
        keys = list(good)

        async def work() -> None:
            if run.full:
                seen = [*keys, *(each for each in broken if each is not None)]
                await self.desk.value(REMEMBER_KEYS, keys=seen)
            unchanged = await stage(
                self.desk,
                (Incoming(key=key, document=document) for key, document in good.items()),
            )  # fmt: skip
            left_alone, written = await self._write_staged(asked, at)
            await self._put_aside(run, keys, broken, at)
            await runs.count(
                self.desk, run, at,
                {
                    "rows_read": len(good) + len(broken),
                    "unchanged": unchanged,
                    "left_alone": left_alone,
                    "quarantined": len(broken),
                    "dropped": page.dropped,
                    **msgspec.to_builtins(written),
                },
                cursor=page.cursor, mark=page.mark, total=page.total,
            )  # fmt: skip

        await self.connection.run(work)

    async def _write_staged(self, asked: int | None, at: datetime) -> tuple[int, Written]:
        """What is staged into the mirror: how many rows were left alone, and what was written."""
        found = await self.desk.rows(READ_STAGED)
        if not found:
            return 0, Written()
        await lock_dataset(self.desk)
        await lock_rows(
            self.desk,
            [row["row_key"] for row in found],
            absent=any(row["absent"] for row in found),
            inserting=True,
        )
        left_alone = await self.desk.value(LEAVE_ALONE, asked_revision=asked)
        if left_alone == len(found):
            return left_alone, Written()
        return left_alone, await write(self.desk, "pull", at)

    async def _put_aside(self, run: Run, good: list[str], broken: Mapping[str, Broken], at: datetime) -> None:
        await self.desk.value(RELEASE_ROWS, keys=good)
        if broken:
            rows = [
                {
                    "id": key,
                    "reasons": _storable(msgspec.to_builtins(row.reasons)),
                    "received": _storable(row.received),
                }
                for key, row in broken.items()
            ]
            await self.desk.value(QUARANTINE_ROWS, run_id=run.id, at=at, rows=rows)

    # --- the end

    async def _delete_missing(self, run: Run) -> bool:
        """Delete what upstream has no more; False where it was stopped. Raises TooManyDeletions."""
        found = await self.desk.row(COUNT_MISSING, start_revision=run.start_revision)
        assert found is not None, "a count returns its row"
        missing, present, share = found["missing"], found["present"], self.target.deletion_share
        if missing > share * present:
            raise TooManyDeletions(
                f"{missing:,} of {present:,} rows are gone upstream, more than the {share:.0%} that may be deleted at "
                "once. Nothing was deleted. See whether upstream shows all rows to this account; if they are really "
                "gone, raise deletionShare for one pull."
            )
        if missing and await self._count_nameless(run):
            log.warning("pull deletes nothing", organization=self.target.organization, dataset=self.target.dataset)
            return True
        last: str | None = ""
        while missing and last is not None:
            last = await self._delete_some(run, last)
            if self.stopping.is_set() and last is not None:
                return False
        return True

    async def _count_nameless(self, run: Run) -> int:
        """Rows that came without an id that can be read: what seems to be missing may be among them."""
        return int(await self.desk.value(COUNT_NAMELESS, run_id=run.id))

    async def _delete_some(self, run: Run, after: str) -> str | None:
        """Delete some of the missing rows beyond a key; the last one's key, None where there was none."""
        at = await self._now()

        async def work() -> str | None:
            rows = await self.desk.rows(
                STAGE_MISSING, start_revision=run.start_revision, after=after, limit=DELETED_AT_ONCE
            )
            # Nothing that was settled since the pull began: those rows have a later revision.
            _, written = await self._write_staged(run.start_revision, at)
            await runs.count(self.desk, run, at, msgspec.to_builtins(written))
            return max((row["row_key"] for row in rows), default=None)

        return await self.connection.run(work)

    async def _finish(self, run: Run) -> None:
        at = await self._now()
        async with self.connection.raw.transaction():
            await self.desk.value(SCHEDULE_PULL, run_id=run.id, at=at)
            await runs.note_success(self.desk, run, at)
            if run.full:
                await self.desk.value(RELEASE_UNSEEN, run_id=run.id)
                await self.desk.value(FORGET_KEYS)
            await runs.finish(self.desk, run, at)
        log.info("pull ends", organization=self.target.organization, dataset=self.target.dataset)

    async def _fail(self, run: Run, code: str, error: str) -> None:
        """The run is over; the next one comes sooner than the schedule says, and later with each failure in a row."""
        at = await self._now()
        known = await runs.read_synchronization(self.desk)
        wait = min(self.target.pull_every.total_seconds(), 30.0 * 2 ** min(known.pull_failures, 10))
        then = datetime.fromtimestamp(at.timestamp() + wait, at.tzinfo)
        async with self.connection.raw.transaction():
            await self.desk.value(POSTPONE_PULL, until=then)
            await runs.finish(self.desk, run, at, code, error)
        log.warning("pull failed", organization=self.target.organization, dataset=self.target.dataset, code=code)

    async def _now(self) -> datetime:
        return await self.read_clock(self.connection)

    async def _revision(self) -> int:
        return int(await self.desk.value(READ_REVISION))


def _wait(error: Exception) -> bool | float:
    """Whether to ask for a page again: after as long as upstream wants, else after stamina's backoff."""
    if isinstance(error, Unavailable) and error.retry_after is not None:
        return error.retry_after if error.retry_after <= LONGEST_WAIT else False
    return isinstance(error, Unavailable | Failed)


def _storable(value: Any) -> Any:
    """What was received, as jsonb can hold it: without NUL, without numbers beyond its digits, and not for pages."""
    match value:
        case dict():
            return {_storable(name): _storable(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_storable(inner) for inner in value]
        case str():
            return value.replace("\0", "\ufffd")[:LONGEST_TEXT]
        case Decimal() | int() if not isinstance(value, bool):
            return str(value)[:LONGEST_TEXT]
    return value
