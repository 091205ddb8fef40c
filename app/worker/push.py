"""Push: the outbox to upstream, in order for each row, each change exactly once or a reason why not.

Changes are claimed in small lots, a few are on their way at the same time, and what became of them is settled together:
the change, the mirror, its history and everybody's modifications in one transaction.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

import msgspec
import structlog
from prometheus_client import Counter

from app.base.database import Connection, Database
from app.base.errors import DatabaseUnavailable, DatasetReadOnly
from app.base.statements import statement
from app.contracts.validation import check_key
from app.engine.desk import Desk
from app.engine.locks import hold_filled, raise_workspaces
from app.engine.modifications import fold
from app.upstream.likeness import alike
from app.upstream.protocol import (
    Broken,
    Failed,
    Held,
    OutcomeUnknown,
    Question,
    Refused,
    Row,
    Stale,
    Unavailable,
    UpstreamError,
    Write,
)
from app.worker import runs
from app.worker.drift import lay_over
from app.worker.intake import fit
from app.worker.runs import Run
from app.worker.settle import Change, Ended, Outcome, settle
from app.worker.target import Job, ReadClock, Target, alone

log = structlog.get_logger(__name__)

T = TypeVar("T")

SETTLED = Counter(
    "vanguard_push_changes_total", "Changes by what became of them", ["organization", "dataset", "outcome"]
)

FIND_DUE = statement("worker/find_due")
CLAIM_CHANGES = statement("worker/claim_changes")
JUDGE_CHANGE = statement("worker/judge_change")
MARK_SENT = statement("worker/mark_sent")
FIND_KNOWN = statement("worker/find_known")
HASTEN_CHANGES = statement("worker/hasten_changes")

ATTEMPTS = 10  # that count; then a change waits for a person
LONGEST_WAIT = 300.0  # seconds between two attempts
SETTLE_EVERY = 0.1  # seconds: a settlement costs as much for ten changes as for two
LOOK_AGAIN = 0.5  # seconds until the outbox is looked at again, while nothing ends
LOT = 4  # changes claimed at once, for each that can be on its way
CONFLICT = "Somebody has changed the same cells upstream, or the row is gone there."
NEAR = (
    "The new row was sent, and no answer came. Rows like it have appeared upstream since: if one of them is it, "
    "discard this change; if none is, retry it."
)
MOST_NEAR = 10  # rows that a person is shown
LONGEST_WORDS = 1900  # characters of upstream's own
RETREADS = 3  # times that a row is held again because somebody changed it in between


class _LostClaim(Exception):
    """The lease ran out, and another worker has the change now."""


async def push(
    database: Database,
    target: Target,
    read_clock: ReadClock,
    chance: Callable[[], float],
    stopping: asyncio.Event,
    ends: asyncio.Event | None = None,
) -> bool:
    """Push until nothing is due or `stopping`; False where another worker pushes there.

    `chance` draws from 0 to 1, for the jitter of backoffs. `ends` is set when somebody stops the run or pauses the
    dataset: what is on its way is settled, and nothing else begun.
    """
    async with alone(database, Job.PUSH, target.organization, target.dataset) as connection:
        if connection is None:
            return False
        await _Push(database, connection, target, read_clock, chance, stopping, ends or asyncio.Event()).run()
        return True


class _Push:
    """One run. Claims and settlements go over the connection that holds the lock."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        target: Target,
        read_clock: ReadClock,
        chance: Callable[[], float],
        stopping: asyncio.Event,
        ends: asyncio.Event,
    ):
        self.database, self.connection, self.target = database, connection, target
        self.read_clock, self.chance, self.stopping, self.ends = read_clock, chance, stopping, ends
        self.contract, self.organization = target.contract, target.organization
        self.desk = Desk(connection, target.contract, target.organization)
        # Keys that upstream gave in this run, before the mirror has them: no other new row may take them for its own.
        self.given: set[str] = set()

    async def run(self) -> None:
        at = await self._now()
        await lay_over(self.desk, self.target.upstream)
        run = await runs.open_run(self.desk, "push", at)
        if run is None:
            return
        if run.ends:
            self.ends.set()
        elif run.asked:
            await self.desk.value(HASTEN_CHANGES, at=at)
        working: dict[asyncio.Task[Outcome], Change] = {}
        try:
            error = await self._work(run, working)
        except Exception:
            if not self.connection.raw.is_closed():
                await runs.finish(self.desk, run, await self._now(), "INTERNAL_ERROR", runs.DEFECT)
            raise
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
        at = await self._now()
        if error is not None:
            await runs.finish(self.desk, run, at, "UPSTREAM_UNAVAILABLE", str(error))
        elif self.ends.is_set() and (ending := await runs.read_ending(self.desk, run, at)) is not None:
            await runs.finish(self.desk, run, at, ending.code, ending.error)
        else:
            await runs.finish(self.desk, run, at)

    async def _work(self, run: Run, working: "dict[asyncio.Task[Outcome], Change]") -> Unavailable | None:
        """Claim, carry out and settle until nothing is due, or upstream is gone: then that error."""
        claim, waiting, ended, gone = uuid.uuid4(), list[Change](), list[Ended](), None
        clock = asyncio.get_running_loop().time
        settled_at = clock()
        while True:
            if gone is None and not self._leaving and len(waiting) < self.target.concurrency:
                waiting += await self._claim(claim)
            if gone is None:
                self._begin(waiting, working, claim)
            # The next ones are on their way while these are settled, several in one transaction.
            if ended and (not working or clock() >= settled_at + SETTLE_EVERY):
                await self._settle(run, claim, ended)
                ended, settled_at = [], clock()
                continue
            if not working:
                break
            # Not for ever: what is committed meanwhile does not wait for a slow answer.
            patience = SETTLE_EVERY if ended else LOOK_AGAIN
            done, _ = await asyncio.wait(working, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            ended += [(working.pop(task), task.result()) for task in done]
            gone = gone or next((o.unavailable for _, o in ended if o.unavailable is not None), None)
        # What was claimed and not begun goes back as it was.
        await self._settle(run, claim, [(change, Outcome(state="committed", counted=False)) for change in waiting])
        return gone

    @property
    def _leaving(self) -> bool:
        """Whether to begin nothing more: the worker stops, or this run has to end."""
        return self.stopping.is_set() or self.ends.is_set()

    def _begin(self, waiting: list[Change], working: "dict[asyncio.Task[Outcome], Change]", claim: uuid.UUID) -> None:
        for change in list(waiting):
            if len(working) >= self.target.concurrency or self._leaving:
                return
            if self._may_begin(change, working.values()):
                waiting.remove(change)
                working[asyncio.create_task(self._carry_out(change, claim))] = change

    def _may_begin(self, change: Change, working: Collection[Change]) -> bool:
        """Not a new row that has to be looked for beside one that is being written: it could be taken for that."""
        new = [each for each in (change, *working) if self._gets_key(each)]
        return not self._gets_key(change) or len(new) == 1 or all(each.sent_at is None for each in new)

    # --- claims and settlements, over the connection that holds the lock

    async def _claim(self, claim: uuid.UUID) -> list[Change]:
        at = await self._now()
        due = await self.desk.rows(FIND_DUE, at=at, limit=LOT * self.target.concurrency, claim=claim)
        if not due:
            return []

        async def work() -> list[Change]:
            await hold_filled(self.desk)
            await raise_workspaces(self.desk, {row["user_id"] for row in due})
            ids, until = [row["id"] for row in due], at + self.target.lease
            records = await self.desk.rows(CLAIM_CHANGES, ids=ids, at=at, until=until, claim=claim)
            # User by user: the workspace of somebody else who came to these rows is not locked here.
            keys = {record["user_id"]: list[str]() for record in records}
            for record in records:
                keys[record["user_id"]].append(record["row_key"])
            for user, own in keys.items():
                await fold(self.desk, user, own)
            return sorted((Change(**dict(record)) for record in records), key=lambda change: change.id)

        try:
            return await self.connection.run(work)
        except DatasetReadOnly:
            # Since a moment ago: what is on its way is settled, and nothing else begun.
            self.ends.set()
            return []

    async def _settle(self, run: Run, claim: uuid.UUID, ended: list[Ended]) -> None:
        if not ended:
            return
        at = await self._now()

        async def work() -> list[str]:
            mine = await settle(self.desk, claim, ended, at)
            states = [outcome.state for _, outcome in mine]
            counts = {
                "synced": states.count("synced"),
                "conflicts": states.count("conflict"),
                "sync_errors": states.count("sync_error"),
                "normalized": sum(bool(outcome.kept) for _, outcome in mine),
                "retried": sum(o.state == "committed" and o.retry_at is not None for _, o in mine),
            }
            if await runs.count(self.desk, run, at, counts):
                self.ends.set()
            if gone := next((o.unavailable for _, o in ended if o.unavailable is not None), None):
                await runs.note_failure(self.desk, at, gone)
            elif any(state != "committed" for state in states):
                await runs.note_success(self.desk, run, at)
            return [str(state) for state in states]

        for state in await self.connection.run(work):
            SETTLED.labels(self.organization, self.target.dataset, state).inc()

    # --- one change; these run side by side

    async def _carry_out(self, change: Change, claim: uuid.UUID) -> Outcome:
        """Never raises what upstream or its adapter does wrong: it is an outcome."""
        try:
            if self._gets_key(change):
                return await self._add(change, claim)
            return await self._change(change, claim)
        except _LostClaim:
            return Outcome(state="committed", counted=False)
        except Question as error:
            words = f"{error} (a question; somebody has to do this in the system of record, or otherwise here)"
            return Outcome(state="sync_error", error=words, code="QUESTION")
        except Refused as error:
            return Outcome(state="sync_error", error=str(error), code="REFUSED")
        except Unavailable as error:
            retry_at = await self._later(change, runs.pause(error))
            return Outcome(state="committed", error=str(error), retry_at=retry_at, counted=False, unavailable=error)
        except UpstreamError as error:
            return await self._failed(change, str(error), unknown=isinstance(error, OutcomeUnknown))
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # A defect of the adapter, or a row that the database cannot hold: it must not stop the whole outbox.
            log.error("change failed", organization=self.organization, change=change.id, error=type(error).__name__)
            return await self._failed(change, runs.DEFECT, unknown=True)

    async def _failed(self, change: Change, error: str, *, unknown: bool) -> Outcome:
        """Another attempt, until there were enough of them."""
        # A new row that may be there is looked for until the answer is no: nobody else will find it.
        may_be_there = self._gets_key(change) and (unknown or change.sent_at is not None)
        if change.attempts >= ATTEMPTS and not may_be_there:
            words = f"{error[:LONGEST_WORDS]} (after {change.attempts} attempts)"
            return Outcome(state="sync_error", error=words, code="ATTEMPTS")
        retry_at = await self._later(change, None)
        if unknown and may_be_there:
            # As long as upstream may still be at it, looking for the row proves nothing.
            retry_at = max(retry_at, await self._lease())
        return Outcome(state="committed", error=error, retry_at=retry_at)

    def _gets_key(self, change: Change) -> bool:
        """Whether it is a new row whose key upstream gives."""
        return change.op == "insert" and self.contract.text_key not in change.delta

    async def _change(self, change: Change, claim: uuid.UUID) -> Outcome:
        """A change of a row whose key is known: read, compare, write, read back."""
        for _ in range(RETREADS):
            held = await self._read(change, self.target.upstream.hold(change.row_key))
            verdict, fields = await self._judge(change, claim, self._as_sent(change, held))
            if verdict == "conflict":
                return await self._outcome("conflict", change, change.row_key)
            if verdict == "write":
                op = "update" if change.op == "insert" and held is not None else change.op
                try:
                    await self.target.upstream.write(Write(op=op, key=change.row_key, fields=fields), held)
                except Stale:
                    continue
            return await self._outcome("synced", change, change.row_key)
        raise Failed("Somebody changes the row upstream all the time.")

    async def _read(self, change: Change, reading: Awaitable[T]) -> T:
        """What is read. Of a change that may be there a read that is refused decides nothing: raises Failed then."""
        try:
            return await reading
        except (Refused, Question) as error:
            if not change.written and change.sent_at is None:
                raise
            raise Failed(str(error)) from error

    def _as_sent(self, change: Change, held: Held | None) -> Held | None:
        """The row, with the values that an earlier attempt may have written as they were sent: upstream may have made
        something else of them, which is nobody's edit.
        """
        if held is None or not change.written or change.op == "delete":
            return held
        kinds = {name: field.type for name, field in self.contract.by_name.items()}
        sent = {
            name: value
            for name, value in change.delta.items()
            if held.document.get(name) != change.base.get(name) and alike(kinds[name], value, held.document.get(name))
        }
        return msgspec.structs.replace(held, document=held.document | sent)

    async def _add(self, change: Change, claim: uuid.UUID) -> Outcome:
        """A new row whose key upstream gives: looked for first, where it may have been sent before."""
        write = Write(op="insert", key=None, fields=change.delta, token=_token(change))
        key: str | None = None
        near: tuple[Row, ...] = ()
        if change.sent_at is not None:
            key, near = await self._find_created(change, write, change.sent_at)
        if key is None and near:
            return Outcome(state="sync_error", error=NEAR, code="NEAR_MATCH", near=near)
        if key is None and change.sent_at is not None and change.attempts > ATTEMPTS:
            raise Refused(
                f"Upstream does not say that it adds the row, and does not have it (after {ATTEMPTS} attempts)."
            )
        if key is None:
            async with self.database.connection() as connection:
                at, desk = await self.read_clock(connection), self._desk(connection)
                until = at + self.target.lease
                if await desk.value(MARK_SENT, change_id=change.id, claim=claim, at=at, until=until) is None:
                    raise _LostClaim
            key = await self.target.upstream.write(write, None)
            self.given.add(key)
        if (reason := check_key(key)) is not None:
            words = f"Upstream gave the new row a key that cannot be used. {reason}"
            return Outcome(state="sync_error", error=words, code="REFUSED")
        return await self._outcome("synced", change, key)

    async def _find_created(
        self, change: Change, write: Write, sent_at: datetime
    ) -> tuple[str | None, tuple[Row, ...]]:
        """The row that an earlier attempt left, if it did: one that came since it was sent. Where none is certain,
        those that may be it, so that it is not sent twice.
        """
        found = await self._read(change, self.target.upstream.find_created(write, sent_at))
        if found.certain:
            free = sorted(set(found.certain) - await self._known(found.certain, sent_at))
            if free:
                self.given.add(free[0])
                return free[0], ()
            others = self.target.upstream.find_created(write, sent_at, others=found.certain)
            found = await self._read(change, others)
        known = await self._known([row.key for row in found.near], sent_at)
        near = [row for row in found.near if row.key not in known and row.key not in change.near]
        return None, tuple(near[:MOST_NEAR])

    async def _known(self, keys: Sequence[str], sent_at: datetime) -> set[str]:
        """Those of the keys that belong to another row than the one that was sent then."""
        async with self.database.connection() as connection:
            records = await self._desk(connection).rows(FIND_KNOWN, keys=list(keys), sent_at=sent_at)
        return {record["row_key"] for record in records} | self.given

    async def _judge(self, change: Change, claim: uuid.UUID, held: Held | None) -> tuple[str, dict[str, Any]]:
        """What there is to write over what is held. Raises _LostClaim where another has the change by now."""
        document = None if held is None else held.document
        by_name = self.contract.by_name
        # What is derived is not upstream's to hold, and would always differ.
        delta = {name: value for name, value in change.delta.items() if not by_name[name].derived_from}
        async with self.database.connection() as connection:
            row = await self._desk(connection).row(
                JUDGE_CHANGE,
                op=change.op,
                base=change.base,
                delta=delta,
                document=document,
                groups=self.contract.cell_map,
                change_id=change.id,
                claim=claim,
            )
        if row is None:
            raise _LostClaim
        return row["verdict"], row["fields"]

    async def _outcome(self, state: Literal["synced", "conflict"], change: Change, key: str) -> Outcome:
        """The outcome, with the row as upstream has it now.

        What was written and cannot be read back was written all the same. Raises Unavailable, Failed for a conflict.
        """
        error = CONFLICT if state == "conflict" else None
        try:
            row = await self.target.upstream.read(key)
        except UpstreamError as failure:
            if state == "conflict":
                raise
            return Outcome(state=state, key=key, unavailable=failure if isinstance(failure, Unavailable) else None)
        document: dict[str, Any] | msgspec.UnsetType | None = None
        if isinstance(row, Row):
            document = fit(self.contract, row) or msgspec.UNSET
        elif isinstance(row, Broken):
            document = msgspec.UNSET
        kept = self._kept(change, document) if state == "synced" and isinstance(document, dict) else {}
        return Outcome(state=state, key=key, document=document, error=error, kept=kept)

    def _kept(self, change: Change, document: Mapping[str, Any]) -> dict[str, Any]:
        """What upstream made of the fields that were sent."""
        if change.op == "delete":
            return {}
        by_name = self.contract.by_name
        kept = {
            name: document.get(name)
            for name, value in change.delta.items()
            if by_name[name].editable and document.get(name) != value
        }
        if kept:
            log.info("kept otherwise", organization=self.organization, change=change.id, fields=sorted(kept))
        return kept

    async def _later(self, change: Change, asked: float | None) -> datetime:
        """When to try again: twice as late each time, with jitter, so that not all come back at once."""
        async with self.database.connection() as connection:
            at = await self.read_clock(connection)
        wait = asked if asked is not None else min(LONGEST_WAIT, 2.0 ** min(change.attempts - 1, 20))
        return at + timedelta(seconds=wait * (1 + self.chance()) / 2 if asked is None else wait)

    async def _lease(self) -> datetime:
        """Until when upstream may still work on what is sent now."""
        async with self.database.connection() as connection:
            return await self.read_clock(connection) + self.target.lease

    def _desk(self, connection: Connection) -> Desk:
        """At a connection of one's own: changes are carried out side by side."""
        return Desk(connection, self.contract, self.organization)

    async def _now(self) -> datetime:
        return await self.read_clock(self.connection)


def _token(change: Change) -> str:
    """What a new row carries where upstream has room for it: of no other change, in whatever database."""
    return f"VG-{change.commit_id.hex[:16] if change.commit_id else '0'}-{change.id}".upper()
