"""Runs of ingestion: records that were received become rows, portion by portion, resumable after each.

A portion is a transaction: its rows, what is put aside, the counts, and how far the run has come.

A contract that ends a run over a record (`refuse`), or over too many that are put aside (`maxQuarantined`), has all of
its records looked through before the first is taken, so that the run fails whole, or not at all. Whether a record
conflicts with a row (`conflictResolution: error`) is known only when it is taken: where that counts, the run is one
transaction.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec
import structlog

from app.base import exact_json
from app.base.database import Database
from app.base.errors import DatasetNotFound, DatasetReadOnly, SchemaChanged
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.states import DatasetState, SystemMode
from app.engine.datasets import Datasets, base_of
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.engine.passage import Passage
from app.records.records import Raw, read_record
from app.worker import runs
from app.worker.semantics import Counts, Ingester, Record, Refused, Standing, note
from app.worker.target import Job, ReadClock, alone

log = structlog.get_logger(__name__)

OPEN_RUN = statement("ingestion/open_run")
COUNT_RUN = statement("ingestion/count_run")
READ_RECEIVED = statement("ingestion/read_received")
READ_VERSION = statement("ingestion/read_version")
READ_MODE = statement("system_mode/read_mode")
FINISH_RUN = statement("worker/finish_run")
READ_ENDING = statement("worker/read_ending")

PORTION = 2_000  # records
AT_ONCE = 16 * 2**20  # bytes of records that are read together, and one record beyond
ROWS, RECEIVED = "rows", "received"  # what a backfill is made of, one after the other
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
NOBODY = uuid.UUID(int=0)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way: `parameters` say what it is about, `cursor` how far it has come."""

    id: uuid.UUID
    kind: str
    parameters: dict[str, Any]
    cursor: str | None
    requested_at: datetime
    quarantined: int


class Portion(NamedTuple):
    """Records, and the cursor behind them."""

    records: list[Record]
    cursor: str


async def ingest(
    database: Database,
    organization: str,
    contract: Contract,
    read_clock: ReadClock,
    stopping: asyncio.Event,
) -> bool:
    """Do the dataset's runs that wait, one after another; False where another worker does them."""
    async with alone(database, Job.INGEST, organization, contract.schema) as connection:
        if connection is None:
            return False
        desk = Desk(connection, contract, organization)
        while not stopping.is_set():
            at = await read_clock(connection)
            found = await desk.row(OPEN_RUN, at=at)
            if found is None:
                break
            if not await _Ingestion(database, desk, msgspec.convert(dict(found), Run), read_clock, stopping).run():
                break
        return True


class Ending(NamedTuple):
    """What a run ends with, both None where all went well."""

    code: str | None = None
    error: str | None = None


class _Left(Exception):
    """Nothing more is taken: the run ends so, or, with None, another worker goes on with it."""

    def __init__(self, ending: Ending | None):
        super().__init__()
        self.ending = ending


class _Ingestion:
    """One run."""

    def __init__(self, database: Database, desk: Desk, run: Run, read_clock: ReadClock, stopping: asyncio.Event):
        self.desk, self._run, self.read_clock, self.stopping = desk, run, read_clock, stopping
        self.contract = contract = desk.contract
        self.datasets = Datasets(database, ())
        self.ingester = Ingester(desk, settled=run.kind == "backfill")
        self.size = int(run.parameters.get("batchSize", PORTION))
        policy, semantics = contract.schema_contract, self.ingester.semantics
        limited = contract.max_quarantined is not None
        self.may_fail = limited or "refuse" in (policy.new_fields, policy.types)
        self.together = limited and semantics.mode == "upsert" and semantics.conflict_resolution == "error"

    async def run(self) -> bool:
        """To its end, or until the worker stops, which leaves it to be resumed. False where the contract is another by
        now: the worker's next step goes on with that.
        """
        told = {"organization": self.desk.organization, "dataset": self.contract.name, "run": str(self._run.id)}
        log.info("ingestion begins", **told)
        ending: Ending | None = Ending()
        try:
            await self._take_all()
        except _Left as left:
            ending = left.ending
        except Refused as refused:
            ending = Ending(refused.code, str(refused))
        except DatasetReadOnly as refused:
            ending = Ending(refused.code, refused.detail)
        except (SchemaChanged, DatasetNotFound):
            # Another contract, or the version has another name since a promotion.
            return False
        except Exception:
            if not self.desk.connection.raw.is_closed():
                await self._finish(Ending("INTERNAL_ERROR", runs.DEFECT))
            raise
        if ending is not None:
            await self._finish(ending)
            log.info("ingestion ends", code=ending.code, **told)
        return True

    async def _take_all(self) -> None:
        await self._go_on()
        if self.may_fail:
            await self._look_through()
        if self.together:
            note(await self.desk.connection.run(self._take_together))
            return
        async for portion in self._portions(self._run.cursor):
            await self._go_on()
            note(await self.desk.connection.run(partial(self._take, portion)))

    async def _look_through(self) -> None:
        """Raises Refused where the run would end over what its records say, before one of them is taken."""
        broken = self._run.quarantined
        async for portion in self._portions(self._run.cursor):
            await self._go_on()
            broken += await self.ingester.count_broken(portion.records)
            self._guard(broken)

    async def _take(self, portion: Portion) -> Counts:
        at = await self.read_clock(self.desk.connection)
        counts = await self.ingester.take(portion.records, at)
        await self._count(counts, at, portion.cursor)
        return counts

    async def _take_together(self) -> Counts:
        """All records. The run's record is left alone until the end, so that somebody can stop it."""
        at, total = await self.read_clock(self.desk.connection), Counts()
        async for portion in self._portions(None):
            await self._go_on()
            total += await self.ingester.take(portion.records, at)
            self._guard(total.quarantined)
        await self._count(total, at, None)
        return total

    async def _count(self, counts: Counts, at: datetime, cursor: str | None) -> None:
        told = msgspec.to_builtins(counts)
        await self.desk.value(COUNT_RUN, run_id=self._run.id, at=at, cursor=cursor, counts=told, report=None)

    def _guard(self, broken: int) -> None:
        most = self.contract.max_quarantined
        if most is not None and broken > most:
            raise Refused(
                "TOO_MANY_QUARANTINED",
                f"More than {most:,} of its records cannot become rows, and the contract lets no more be put aside "
                "(maxQuarantined). Nothing was taken.",
            )

    async def _go_on(self) -> None:
        """Raises _Left where the worker stops, somebody wants the run to end, or the system takes no more."""
        if self.stopping.is_set():
            raise _Left(None)
        left = "Nothing of it stays." if self.together else "What it had done until then stays."
        ending = await self.desk.row(READ_ENDING, run_id=self._run.id)
        if ending is not None and ending["stopped"]:
            raise _Left(Ending(runs.STOPPED, f"{ending['stopped_by']} stopped it. {left}"))
        if self._run.kind == "backfill" and (await read_dataset(self.desk)).state is not DatasetState.SHADOW:
            raise _Left(Ending("INVALID_TRANSITION", f"The version is in SHADOW no more. {left}"))
        if await self._mode() is not SystemMode.INGESTION_READY:
            raise _Left(Ending("SYSTEM_READ_ONLY", f"The system went READ_ONLY. {left}"))

    async def _mode(self) -> SystemMode:
        row = await self.desk.connection.row(READ_MODE)
        assert row is not None, "the migration has made the row"
        return SystemMode(row["mode"])

    async def _finish(self, ending: Ending) -> None:
        at = await self.read_clock(self.desk.connection)
        report = runs.storable(self.ingester.proposals.report())
        told = {"error_code": ending.code, "error": ending.error, "report": report}
        await self.desk.value(FINISH_RUN, run_id=self._run.id, at=at, **told)

    # --- where records come from

    async def _portions(self, cursor: str | None) -> AsyncGenerator[Portion, None]:
        stage, _, after = (cursor or "").partition(":")
        used = await version_in_use(self.datasets, self.desk) if self._run.kind == "backfill" else None
        if used is not None and stage != RECEIVED:
            async for portion in rows_of_version(self.desk, used, self._run.id, after, self.size):
                yield portion
            after = ""
        if used is None or takes_received(self.contract):
            async for portion in received(self.desk, self._run, after, self.size):
                yield portion


def takes_received(contract: Contract) -> bool:
    """Whether a version that has the rows of another is filled from received records, too: where records are appended
    without a window, nothing would tell one from the row that it has become there.
    """
    semantics = contract.ingestion
    return semantics is not None and (semantics.mode == "upsert" or bool(semantics.window))


async def received(desk: Desk, run: Run, after: str, size: int) -> AsyncGenerator[Portion, None]:
    """Records as they were received, from a cursor on: of the run itself, or of the time that it is about."""
    own = run.kind == "ingest"
    since, until = (datetime.fromisoformat(run.parameters[end]) for end in ("since", "until"))
    place = (BEGINNING, NOBODY, -1)
    if after:
        at, run_id, line = after.split("|")
        place = (datetime.fromisoformat(at), uuid.UUID(run_id), int(line))
    while True:
        rows = await desk.connection.rows(
            READ_RECEIVED,
            organization=desk.organization,
            base=base_of(desk.contract.name),
            since=since,
            until=until,
            run_id=run.id if own else None,
            after_at=place[0],
            after_run=place[1],
            after_line=place[2],
            limit=size,
            bytes=AT_ONCE,
        )
        if not rows:
            return
        last = rows[-1]
        place = (last["received_at"], last["run_id"], last["line"])
        yield Portion(
            [
                Record(row["run_id"], row["received_at"], row["textual"], read_record(row["line"], row["record"]))
                for row in rows
            ],
            f"{RECEIVED}:{place[0].isoformat()}|{place[1]}|{place[2]}",
        )


async def rows_of_version(
    desk: Desk, used: Contract, run_id: uuid.UUID, after: str, size: int
) -> AsyncGenerator[Portion, None]:
    """Rows of the version in use, under the names that their fields have here, from a cursor on."""
    passage = Passage(used, desk.contract)
    names, fields = passage.names, frozenset(passage.names.values())
    source = Desk(desk.connection, used, desk.organization)
    count, _, key = after.partition("|")
    line = int(count or 0)
    while True:
        rows: Sequence[Any] = await source.rows(READ_VERSION, after=key, limit=size)
        if not rows:
            return
        records = []
        for row in rows:
            line += 1
            members = {names[name]: value for name, value in row["data"].items() if name in names}
            raw = Raw(line, exact_json.encode(members), members)
            at = row["event_at"] or row["processed_at"] or row["updated_at"]
            same = (row["row_key"], row["event_key"]) if passage.same_keys else (None, None)
            standing = Standing(same[0], row["event_at"], row["processed_at"], same[1], fields)
            records.append(Record(run_id, at, False, raw, standing))
        key = rows[-1]["row_key"]
        yield Portion(records, f"{ROWS}:{line}|{key}")


async def version_in_use(datasets: Datasets, desk: Desk) -> Contract | None:
    """The contract of the version that has the plain name, where that is another one."""
    found = await datasets.find_on(desk.connection, desk.organization, base_of(desk.contract.name))
    return None if found is None or found.contract.schema == desk.contract.schema else found.contract
