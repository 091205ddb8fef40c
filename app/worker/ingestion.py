"""Runs of ingestion: records that were received become rows, portion by portion, resumable after each.

A portion is a transaction: its rows, what is put aside, the counts, and how far the run has come. A contract that ends
a run over a record (`refuse`), or over too many that are put aside, has the whole run in one transaction: it fails
whole.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import structlog

from app.base import exact_json
from app.base.database import Database
from app.base.errors import DatasetReadOnly, SchemaChanged
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.states import SystemMode
from app.engine.datasets import Datasets, base_of
from app.engine.desk import Desk
from app.engine.passage import Passage
from app.records.records import Raw, read_record
from app.worker import runs
from app.worker.semantics import SHOWN, Counts, Ingester, Record, Refused, note
from app.worker.target import Job, ReadClock, alone

log = structlog.get_logger(__name__)

OPEN_RUN = statement("ingestion/open_run")
COUNT_RUN = statement("ingestion/count_run")
READ_RECEIVED = statement("ingestion/read_received")
READ_VERSION = statement("ingestion/read_version")
READ_MODE = statement("system_mode/read_mode")
FINISH_RUN = statement("worker/finish_run")

PORTION = 2_000
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
NOBODY = uuid.UUID(int=0)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way: `parameters` say what it is about, `cursor` how far it has come."""

    id: uuid.UUID
    kind: str
    parameters: dict[str, Any]
    cursor: str | None
    requested_at: datetime
    rows_read: int
    ends: bool


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


class _Ingestion:
    """One run."""

    def __init__(self, database: Database, desk: Desk, run: Run, read_clock: ReadClock, stopping: asyncio.Event):
        self.desk, self._run, self.read_clock, self.stopping = desk, run, read_clock, stopping
        self.datasets = Datasets(database, ())
        self.ingester = Ingester(desk)
        self.size = int(run.parameters.get("batchSize", PORTION))

    async def run(self) -> bool:
        """To its end, or until the worker stops, which leaves it to be resumed. False where the contract is another by
        now: the worker's next step goes on with that.
        """
        connection, run = self.desk.connection, self._run
        contract = self.desk.contract
        whole = contract.max_quarantined is not None or "refuse" in (
            contract.schema_contract.new_fields,
            contract.schema_contract.types,
        )
        log.info("ingestion begins", organization=self.desk.organization, dataset=contract.name, run=str(run.id))
        try:
            if whole:
                async with connection.transaction():
                    ended = await self._take_all(run.cursor)
            else:
                ended = await self._take_all(run.cursor)
        except Refused as refused:
            await self._finish(refused.code, str(refused))
        except DatasetReadOnly as refused:
            await self._finish(refused.code, refused.detail)
        except SchemaChanged:
            return False
        except Exception:
            if not connection.raw.is_closed():
                await self._finish("INTERNAL_ERROR", runs.DEFECT)
            raise
        else:
            if ended is not None:
                await self._finish(*ended)
        return True

    async def _take_all(self, cursor: str | None) -> tuple[str | None, str | None] | None:
        """Code and words that the run ends with, both None where it went well; None where the worker stops."""
        total = Counts()
        if self._run.ends:
            return runs.STOPPED, "Somebody stopped it. What it had done until then stays."
        async for portion in self._portions(cursor):
            if await self._mode() is not SystemMode.INGESTION_READY:
                return "SYSTEM_READ_ONLY", "The system went READ_ONLY. What was done until then stays."
            ends, counts = await self._take(portion)
            total = total + counts
            note(counts)
            self._guard(total)
            if ends:
                return runs.STOPPED, "Somebody stopped it. What it had done until then stays."
            if self.stopping.is_set():
                return None
        return None, None

    async def _take(self, portion: Portion) -> tuple[bool, Counts]:
        at = await self.read_clock(self.desk.connection)

        async def work() -> tuple[bool, Counts]:
            counts = await self.ingester.take(portion.records, at)
            ends = await self.desk.value(
                COUNT_RUN, run_id=self._run.id, at=at, cursor=portion.cursor, counts=msgspec.to_builtins(counts)
            )
            return bool(ends), counts

        if self.desk.connection.raw.is_in_transaction():
            return await work()
        return await self.desk.connection.run(work)

    def _guard(self, total: Counts) -> None:
        most = self.desk.contract.max_quarantined
        if most is not None and total.quarantined > most:
            raise Refused(
                "TOO_MANY_QUARANTINED",
                f"{total.quarantined:,} of the first {total.rows_read:,} records cannot become rows; the contract lets "
                f"{most:,} be put aside (maxQuarantined). Nothing was taken.",
            )

    async def _mode(self) -> SystemMode:
        row = await self.desk.connection.row(READ_MODE)
        assert row is not None, "the migration has made the row"
        return SystemMode(row["mode"])

    async def _finish(self, code: str | None, error: str | None) -> None:
        at = await self.read_clock(self.desk.connection)
        new = sorted(self.ingester.new_fields.items(), key=lambda item: -item[1])[:SHOWN]
        report = {"newFields": dict(new)} if new else None
        await self.desk.value(FINISH_RUN, run_id=self._run.id, at=at, error_code=code, error=error, report=report)
        log.info(
            "ingestion ends",
            organization=self.desk.organization,
            dataset=self.desk.contract.name,
            run=str(self._run.id),
            code=code,
        )

    # --- where records come from

    async def _portions(self, cursor: str | None) -> AsyncIterator[Portion]:
        stage, _, after = (cursor or "").partition(":")
        if self._run.kind == "backfill" and stage != "received":
            async for portion in rows_of_version(self.datasets, self.desk, self._run.id, after, self.size):
                yield portion
            after = ""
        async for portion in received(self.desk, self._run, after, self.size):
            yield portion


async def received(desk: Desk, run: Run, after: str, size: int) -> AsyncIterator[Portion]:
    """Records as they were received, from a cursor on: of the run itself, or of the time that it is about."""
    own = run.kind == "ingest"
    since = datetime.fromisoformat(run.parameters["since"]) if "since" in run.parameters else BEGINNING
    until = datetime.fromisoformat(run.parameters["until"]) if "until" in run.parameters else END
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
            f"received:{place[0].isoformat()}|{place[1]}|{place[2]}",
        )


async def rows_of_version(
    datasets: Datasets, desk: Desk, run_id: uuid.UUID, after: str, size: int
) -> AsyncIterator[Portion]:
    """Rows of the version in use, under the names that their fields have here; nothing where there is none."""
    used = await version_in_use(datasets, desk)
    if used is None:
        return
    names = Passage(used, desk.contract).names
    source = Desk(desk.connection, used, desk.organization)
    line = 0
    while True:
        rows: Sequence[Any] = await source.rows(READ_VERSION, after=after, limit=size)
        if not rows:
            return
        records = []
        for row in rows:
            line += 1
            members = {names[name]: value for name, value in row["data"].items() if name in names}
            raw = Raw(line, exact_json.encode(members), members)
            records.append(Record(run_id, row["processed_at"] or row["updated_at"], False, raw))
        after = rows[-1]["row_key"]
        yield Portion(records, f"rows:{after}")


async def version_in_use(datasets: Datasets, desk: Desk) -> Contract | None:
    """The contract of the version that has the plain name, where that is another one."""
    found = await datasets.find_on(desk.connection, desk.organization, base_of(desk.contract.name))
    return None if found is None or found.contract.schema == desk.contract.schema else found.contract
