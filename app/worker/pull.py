"""Pull: pages of upstream into the mirror, resumable after any page.

Each page is a transaction: its rows, what is put into quarantine, the counts and the cursor. The next page is asked for
while one is written.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import stamina
import structlog

from app.base.database import Connection, Database
from app.base.errors import DatasetReadOnly
from app.base.statements import statement
from app.engine.desk import Desk
from app.engine.locks import lock_filled, lock_rows
from app.upstream.protocol import Broken, Failed, Page, Unavailable, UpstreamError
from app.worker import runs
from app.worker.drift import Drifted, Moved, Watch
from app.worker.guards import Kind, Tally, TooMuch, check, check_deletions
from app.worker.intake import sort_out, twice
from app.worker.runs import Run
from app.worker.schedule import is_full_due
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
COUNT_ASIDE = statement("worker/count_aside")
COUNT_MISSING = statement("worker/count_missing")
COUNT_NAMELESS = statement("worker/count_nameless")
COUNT_PRESENT = statement("worker/count_present")
FIND_ASIDE = statement("worker/find_aside")
FIND_MISSING = statement("worker/find_missing")
SAMPLE_MISSING = statement("worker/sample_missing")
READ_DOUBT = statement("worker/read_doubt")
NOTE_DOUBT = statement("worker/note_doubt")
TAKE_OUT_TWICE = statement("worker/take_out_twice")
READ_DROPPED = statement("worker/read_dropped")
READ_WITNESS = statement("worker/read_witness")
DEMAND_FULL = statement("worker/demand_full")
SCHEDULE_PULL = statement("worker/schedule_pull")
POSTPONE_PULL = statement("worker/postpone_pull")
SKIP_PULL = statement("worker/skip_pull")

ATTEMPTS = 5  # at a page
LONGEST_WAIT = 60.0  # seconds that a page waits because upstream asks for it; beyond, the pull ends
DELETED_AT_ONCE = 1000
FEW_MISSING = 100  # rows of which each is looked for before it is deleted
SAMPLE = 20  # of more of them, as many are
LONGEST_TEXT = 2000  # characters of a value in quarantine


class Unwitnessed(Exception):
    """What was modified since a time does not hold the row that was modified at that time."""


async def pull(
    database: Database,
    target: Target,
    read_clock: ReadClock,
    stopping: asyncio.Event,
    ends: asyncio.Event | None = None,
) -> bool:
    """Pull once, to the end or until `stopping`, which leaves the run to be resumed; False where another worker pulls.

    `ends` is set when somebody stops the run or pauses the dataset, so that it need not wait for upstream to notice.
    What upstream does wrong ends in the run's record and in the schedule, not in an exception.
    """
    async with alone(database, Job.PULL, target.organization, target.dataset) as connection:
        if connection is None:
            return False
        await _Pull(connection, target, read_clock, stopping, ends or asyncio.Event()).run()
        return True


class _Pull:
    """One run, on the connection that holds the lock."""

    def __init__(
        self,
        connection: Connection,
        target: Target,
        read_clock: ReadClock,
        stopping: asyncio.Event,
        ends: asyncio.Event,
    ):
        self.connection, self.target, self.read_clock = connection, target, read_clock
        self.stopping, self.ends = stopping, ends
        self.desk = Desk(connection, target.contract, target.organization)
        self.tally = Tally(present=0)
        self.watch = Watch(self.desk, target.upstream)
        self.announces_ours = False  # whether the total that upstream announces is of our rows alone

    async def run(self) -> None:
        run = await self._open()
        if run is None:
            return
        try:
            finished = not self.ends.is_set() and await self._read_pages(run)
            if finished and run.full:
                finished = not self.ends.is_set() and await self._delete_missing(run)
            if finished:
                await self._finish(run)
            elif (ending := await runs.read_ending(self.desk, run, await self._now())) is not None:
                await self._end(run, ending)
        except DatasetReadOnly as error:
            await self._end(
                run, runs.Ending(code=runs.CLOSED, error=f"{error.detail} What it had done until then stays.")
            )
        except UpstreamError as error:
            await self._fail(run, runs.code_of(error), str(error))
            await runs.note_failure(self.desk, await self._now(), error)
        except (TooMuch, Drifted) as error:
            await self._fail(run, error.code, str(error))
        except Unwitnessed as error:
            await self.desk.value(DEMAND_FULL)
            await self._fail(run, "WATERMARK_ROW_MISSING", str(error), again=True)
        except Exception:
            if not self.connection.raw.is_closed():
                await self._fail(run, "INTERNAL_ERROR", runs.DEFECT)
            raise

    async def _open(self) -> Run | None:
        """Everything, where it is the first time, where upstream cannot tell what is new, and as the schedule says."""
        at, target = await self._now(), self.target
        await self.watch.begin()
        known = await runs.read_synchronization(self.desk)
        last = known.pulled_whole_at
        full = (
            not target.upstream.capabilities.incremental
            or known.watermark is None
            or last is None
            or known.full_wanted
            or is_full_due(target, last, at)
        )
        since = None if known.watermark is None else known.watermark - target.overlap
        async with self.connection.transaction():
            run = await runs.open_run(self.desk, "pull", at, full=full, since=since, longest=target.longest_run)
            if run is None:
                return None
            if run.full and not run.resumed:
                await self.desk.value(FORGET_KEYS)
        self.tally = run.tally or Tally(present=await self.desk.value(COUNT_PRESENT))
        self.announces_ours = run.full and await self.desk.value(READ_DROPPED) == 0
        if run.ends:
            self.ends.set()
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
                if self._leaving:
                    return False
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @property
    def _leaving(self) -> bool:
        """Whether to go no further: the worker stops, or this run has to end."""
        return self.stopping.is_set() or self.ends.is_set()

    async def _wait_for_page(self, page: "asyncio.Task[tuple[int, Page]]") -> bool:
        """Wait for a page; False where it was stopped meanwhile: upstream may take longer than a worker has to end."""
        events = [asyncio.create_task(event.wait()) for event in (self.stopping, self.ends)]
        try:
            await asyncio.wait((page, *events), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        return page.done()

    async def _ask(self, run: Run, cursor: str | None, revision: int) -> tuple[int, Page]:
        """A page, and the dataset's revision before it was asked for."""
        async for attempt in stamina.retry_context(on=_wait, attempts=ATTEMPTS, wait_initial=0.5, wait_max=20.0):
            with attempt:
                return revision, await self.target.upstream.page(since=run.since, cursor=cursor)
        raise AssertionError("stamina returns or raises")

    async def _write_page(self, run: Run, page: Page, asked: int) -> None:
        at = await self._now()
        await self.watch.look(page, run.id, at)
        good, broken = sort_out(self.target.contract, page)
        keys = list(good)
        if self.announces_ours and page.total is not None and not page.dropped:
            # What is announced is counted before the first row is written.
            await self._guard_announced(run, page.total)

        async def work() -> Tally:
            unchanged = await stage(
                self.desk,
                (Incoming(key=key, document=document) for key, document in good.items()),
            )  # fmt: skip
            if self.watch.is_moved(len(good) - unchanged, len(good), self.tally.present):
                await self.watch.look_closely(page)
            out = broken | await self._take_out_twice(run)
            aside = await self._put_aside(run, [key for key in keys if key not in out], out, at)
            self._guard(run, {"quarantine": aside}, _commonest(out))
            if run.full:
                await self.desk.value(REMEMBER_KEYS, keys=[*keys, *broken])
            left_alone, written = await self._write_staged(asked, at, guarded=run)
            tally = self.tally.plus(inserts=written.inserted, changes=written.updated, quarantine=aside)
            ends = await runs.count(
                self.desk, run, at,
                {
                    "rows_read": len(good) + len(broken),
                    "unchanged": unchanged,
                    "left_alone": left_alone,
                    "quarantined": len(out),
                    "dropped": page.dropped,
                    **msgspec.to_builtins(written),
                },
                page=page, tally=tally, seen=[*keys, *broken],
            )  # fmt: skip
            if ends:
                self.ends.set()
            return tally

        try:
            self.tally = await self.connection.run(work)
        except Moved as moved:
            await self.watch.hold(moved.drift, page, run.id, at)
            raise AssertionError("columns that changed places hold a pull") from None

    async def _guard_announced(self, run: Run, total: int) -> None:
        """Raises TooMuch where more rows are announced than may be new: neither in the mirror nor put aside."""
        more = total - self.tally.present - self.tally.inserts
        if more > 0:
            self._guard(run, {"inserts": more - int(await self.desk.value(COUNT_ASIDE))})

    def _guard(self, run: Run, more: Mapping[Kind, int], why: str = "") -> None:
        check(self.target.shares, run.allow, self.tally, more, why)

    async def _take_out_twice(self, run: Run) -> dict[str, Broken]:
        """Rows of another organization with a key that came before: nobody can tell them apart by it."""
        names = [field.name for field in self.target.contract.fields if field.identifies]
        if not names:
            return {}
        records = await self.desk.rows(TAKE_OUT_TWICE, identifying=names, full=run.full)
        return {record["row_key"]: twice(self.target.contract, record["row_key"], record["data"]) for record in records}

    async def _write_staged(self, asked: int, at: datetime, *, guarded: Run | None = None) -> tuple[int, Written]:
        """What is staged into the mirror: how many rows were left alone, and what was written. Raises TooMuch where it
        is more than the run may do.
        """
        found = await self.desk.rows(READ_STAGED)
        if guarded is not None:
            absent = sum(row["absent"] for row in found)
            self._guard(guarded, {"inserts": absent, "changes": len(found) - absent})
        if not found:
            return 0, Written()
        await lock_filled(self.desk)
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

    async def _put_aside(self, run: Run, good: list[str], broken: Mapping[str, Broken], at: datetime) -> int:
        """Put what is broken into quarantine, and take out what is good; how many of those were not there before."""
        await self.desk.value(RELEASE_ROWS, keys=good)
        aside = len(broken) - int(await self.desk.value(FIND_ASIDE, keys=list(broken))) if broken else 0
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
        return aside

    # --- the end

    async def _delete_missing(self, run: Run) -> bool:
        """Delete what upstream has no more; False where it was stopped. Raises TooMuch.

        Only on evidence: nothing is deleted after a list of which upstream says that it is not whole, or of which rows
        are there that did not come.
        """
        found = await self.desk.row(COUNT_MISSING, start_revision=run.start_revision)
        assert found is not None, "a count returns its row"
        missing = found["missing"]
        if not missing:
            return True
        check_deletions(self.target.shares, run.allow, missing, found["present"])
        doubt = await self._doubt(run)
        if doubt is None and missing > FEW_MISSING:
            sample = await self.desk.rows(SAMPLE_MISSING, start_revision=run.start_revision, limit=SAMPLE)
            doubt = await self._look_for([row["row_key"] for row in sample])
        if doubt is not None:
            await self._tell_doubt(run, f"{doubt} Nothing was deleted.")
            return True
        last: str | None = ""
        while last is not None:
            last = await self._delete_some(run, last, each=missing <= FEW_MISSING)
            if self._leaving and last is not None:
                return False
        return True

    async def _doubt(self, run: Run) -> str | None:
        """Why it is not certain that all rows came."""
        doubt: str | None = await self.desk.value(READ_DOUBT, run_id=run.id)
        if doubt is None and await self._count_nameless(run):
            doubt = "Rows came without an id that can be read."
        return doubt

    async def _count_nameless(self, run: Run) -> int:
        """Rows that came without an id that can be read: what seems to be missing may be among them."""
        return int(await self.desk.value(COUNT_NAMELESS, run_id=run.id))

    async def _look_for(self, keys: Sequence[str]) -> str | None:
        """Whether rows that did not come may be there all the same: then the list was not whole."""
        for key in keys:
            if await self._may_exist(key):
                return f"Of the rows that did not come, upstream has one all the same, or cannot say: {key[:80]}."
        return None

    async def _may_exist(self, key: str) -> bool:
        """Whether upstream has the row, or fails at this one: then nobody knows, and no other row waits for that."""
        try:
            return await self.target.upstream.exists(key)
        except Failed:
            return True

    async def _tell_doubt(self, run: Run, doubt: str) -> None:
        log.warning("pull deletes nothing", organization=self.target.organization, dataset=self.target.dataset)
        await self.desk.value(NOTE_DOUBT, run_id=run.id, doubt=runs.for_people(doubt))

    async def _delete_some(self, run: Run, after: str, *, each: bool) -> str | None:
        """Delete some of the missing rows beyond a key; the last one's key, None where there was none.

        `each` is looked for before: those that are there stay.
        """
        rows = await self.desk.rows(FIND_MISSING, start_revision=run.start_revision, after=after, limit=DELETED_AT_ONCE)
        keys = [row["row_key"] for row in rows]
        gone = [key for key in keys if not (each and await self._may_exist(key))]
        if len(gone) < len(keys):
            stay = len(keys) - len(gone)
            words = f"Of {len(keys):,} rows that did not come, upstream has {stay:,} all the same, or cannot say."
            await self._tell_doubt(run, f"{words} They stay.")
        at = await self._now()

        async def work() -> None:
            await stage(self.desk, (Incoming(key=key, document=None) for key in gone))
            # Nothing that was settled since the pull began: those rows have a later revision.
            _, written = await self._write_staged(run.start_revision, at)
            if await runs.count(self.desk, run, at, msgspec.to_builtins(written)):
                self.ends.set()

        if gone:
            await self.connection.run(work)
        return max(keys, default=None)

    async def _finish(self, run: Run) -> None:
        """The run is over, and the watermark moves. Raises Unwitnessed."""
        at = await self._now()
        if run.since is not None and (witness := await self.desk.value(READ_WITNESS, run_id=run.id)) is not None:
            raise Unwitnessed(
                f"What was modified since {run.since:%Y-%m-%d %H:%M} UTC does not hold {witness[:80]}, which was. It "
                "is gone upstream, or time filters are understood otherwise there: see the settings of their format "
                "and zone. The next pull reads everything."
            )
        async with self.connection.transaction():
            await self.desk.value(SCHEDULE_PULL, run_id=run.id, at=at)
            await runs.note_success(self.desk, run, at)
            if run.full:
                await self.watch.close_gone(at)
                await self.desk.value(RELEASE_UNSEEN, run_id=run.id)
                await self.desk.value(FORGET_KEYS)
            await runs.finish(self.desk, run, at)
        log.info("pull ends", organization=self.target.organization, dataset=self.target.dataset)

    async def _end(self, run: Run, ending: runs.Ending) -> None:
        """It was stopped or paused, took too long, or may not go on in the dataset's state. Only what took too long is
        a failure; a pause leaves it due.
        """
        if ending.code == runs.TOO_LONG:
            await self._fail(run, ending.code, ending.error)
            return
        at = await self._now()
        async with self.connection.transaction():
            if ending.code == runs.STOPPED:
                await self.desk.value(SKIP_PULL, at=at)
            await runs.finish(self.desk, run, at, ending.code, ending.error)
        log.info("pull stopped", organization=self.target.organization, dataset=self.target.dataset, code=ending.code)

    async def _fail(self, run: Run, code: str, error: str, *, again: bool = False) -> None:
        """The run is over; the next one comes sooner than the schedule says, and later with each failure in a row, or
        at once.
        """
        at = await self._now()
        known = await runs.read_synchronization(self.desk)
        wait = 0.0 if again else min(self.target.pull_every.total_seconds(), 30.0 * 2 ** min(known.pull_failures, 10))
        then = datetime.fromtimestamp(at.timestamp() + wait, at.tzinfo)
        async with self.connection.transaction():
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


def _commonest(broken: Mapping[str, Broken]) -> str:
    """What most of the rows suffer from."""
    messages = Counter(reason.message for row in broken.values() for reason in row.reasons)
    return f"Most of them: {messages.most_common(1)[0][0][:200]}" if messages else ""


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
