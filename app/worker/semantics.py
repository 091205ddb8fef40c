"""Ingestion: records into the mirror, by the semantics of the contract.

Records are taken in the order in which they came, and each is held against what is there at that moment: what comes out
does not depend on how they are cut into portions. docs/ingestion.md tells the rules.
"""

import bisect
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from prometheus_client import Counter

from app.base import exact_json
from app.base.errors import Code, Culprit
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.keys import NoRowId, row_id
from app.engine.desk import Desk
from app.engine.locks import lock_filled, lock_rows
from app.records.conversion import Converted, Converter
from app.records.records import Raw, stored
from app.worker import runs
from app.worker.staging import Written, stage_ingested, write

READ_ROWS = statement("ingestion/read_rows")
FIND_EVENTS = statement("ingestion/find_events")
MOVE_TIMES = statement("ingestion/move_times")
QUARANTINE_RECORDS = statement("ingestion/quarantine_records")
RELEASE_RECORDS = statement("ingestion/release_records")
MAKE_STAGING = statement("worker/make_staging")
CLEAR_STAGED = statement("ingestion/clear_staged")

RECORDS = Counter("vanguard_ingested_records_total", "Records that were ingested, by what became of them", ["outcome"])

NEVER = datetime.min.replace(tzinfo=UTC)
SHOWN = 20  # new fields that a run's report tells

Times = tuple[datetime, datetime]


class Refused(Exception):
    """The contract ends the run with this record, or with so many put aside. The message is for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Record(NamedTuple):
    """A record as it was received: with which run, on which line, when."""

    run_id: uuid.UUID
    received_at: datetime
    textual: bool
    raw: Raw

    @property
    def id(self) -> str:
        """What it is called in quarantine."""
        return f"{self.run_id}:{self.raw.line:09}"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of records: `skipped` were older than what is there, or the same event again."""

    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    quarantined: int = 0
    conflicts: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        names = self.__struct_fields__
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})


def note(counts: Counts) -> None:
    """Tell the metrics what became of records, once that is certain."""
    for outcome in ("inserted", "updated", "unchanged", "skipped", "quarantined"):
        RECORDS.labels(outcome).inc(getattr(counts, outcome))


class _Read(NamedTuple):
    """A record that is a row's document."""

    record: Record
    converted: Converted


class _Row(msgspec.Struct, gc=False):
    """A row as records find it, and as they leave it."""

    document: dict[str, Any]
    times: Times
    there: bool
    changed: bool = False
    moved: bool = False
    event_key: str | None = None


class Ingester:
    """Takes records into one dataset, over one connection; `new_fields`: names that no field has -> how often."""

    def __init__(self, desk: Desk):
        assert desk.contract.ingestion is not None, "only an organization's own dataset is ingested"
        self.desk, self.contract, self.semantics = desk, desk.contract, desk.contract.ingestion
        self.new_fields: dict[str, int] = defaultdict(int)
        self._converters = {textual: Converter(desk.contract, textual=textual) for textual in (False, True)}

    async def take(self, records: Sequence[Record], at: datetime) -> Counts:
        """Take records, inside the caller's transaction; raises Refused and DatasetReadOnly."""
        good, broken = self._read(records)
        await self.desk.connection.value(MAKE_STAGING)
        await lock_filled(self.desk)
        if self.contract.appends:
            rows, skipped, unchanged = await self._append(good)
        else:
            rows, skipped, unchanged = await self._upsert(good, broken)
        written = await self._write(rows, at)
        await self._put_aside(broken, at)
        kept = {record.id for record, _ in broken}
        await self.desk.value(RELEASE_RECORDS, ids=[record.id for record in records if record.id not in kept])
        counts = Counts(
            rows_read=len(records),
            inserted=written.inserted,
            updated=written.updated,
            unchanged=unchanged,
            skipped=skipped,
            quarantined=len(broken),
            conflicts=written.conflicts,
        )
        return counts

    # --- records

    def _read(self, records: Iterable[Record]) -> tuple[list[_Read], list[tuple[Record, tuple[Culprit, ...]]]]:
        good: list[_Read] = []
        broken: list[tuple[Record, tuple[Culprit, ...]]] = []
        for record in records:
            raw = record.raw
            if raw.members is None:
                culprit = Culprit(code=raw.code or Code.MALFORMED_ROW, message=raw.message or "It cannot be read.")
                broken.append((record, (culprit,)))
                continue
            converted = self._converters[record.textual].convert(raw.members, record.received_at)
            if converted.refused:
                why = converted.culprits[0]
                raise Refused("RECORD_REFUSED", f"Line {raw.line}: {why.message} The contract refuses such records.")
            for name, _ in converted.new:
                self.new_fields[name] += 1
            if converted.culprits:
                broken.append((record, converted.culprits))
            else:
                good.append(_Read(record, converted))
        return good, broken

    async def _put_aside(self, broken: Sequence[tuple[Record, tuple[Culprit, ...]]], at: datetime) -> None:
        by_run: dict[tuple[uuid.UUID, bool], list[tuple[Record, tuple[Culprit, ...]]]] = defaultdict(list)
        for record, culprits in broken:
            by_run[record.run_id, record.textual].append((record, culprits))
        for (run_id, textual), some in by_run.items():
            await self.desk.value(
                QUARANTINE_RECORDS,
                run_id=run_id,
                at=at,
                textual=textual,
                ids=[record.id for record, _ in some],
                lines=[record.raw.line for record, _ in some],
                raws=[stored(record.raw) for record, _ in some],
                received=[runs.storable(_shown(record.raw)) for record, _ in some],
                reasons=[runs.storable(msgspec.to_builtins(culprits)) for _, culprits in some],
            )

    # --- upsert

    async def _upsert(
        self, good: Sequence[_Read], broken: list[tuple[Record, tuple[Culprit, ...]]]
    ) -> tuple[dict[str, _Row], int, int]:
        """A row for each key; a later record takes the place of an earlier one, field by field."""
        keyed = []
        for read in good:
            try:
                keyed.append((row_id(self.contract, read.converted.document), read))
            except NoRowId as reason:
                broken.append((read.record, (self._no_id(str(reason)),)))
        keys = sorted({key for key, _ in keyed})
        await lock_rows(self.desk, keys, absent=True, inserting=True)
        rows = {
            row["row_key"]: _Row(row["data"], (row["event_at"] or NEVER, row["processed_at"] or NEVER), there=True)
            for row in await self.desk.rows(READ_ROWS, keys=keys)
        }
        skipped = unchanged = 0
        for key, (record, converted) in keyed:
            times = (converted.event_at or NEVER, converted.processed_at)
            row = rows.get(key)
            if row is None:
                document = {name: value for name, value in converted.document.items() if value is not None}
                rows[key] = _Row(document, times, there=False, changed=True)
                continue
            if times < row.times:
                skipped += 1
                continue
            news = {name: value for name, value in converted.document.items() if row.document.get(name) != value}
            if news and self.semantics.conflict_resolution == "error":
                broken.append((record, (self._conflicting(key, news),)))
                continue
            row.moved = row.moved or times != row.times
            row.times = times
            if news:
                row.document = row.document | news
                row.changed = True
            else:
                unchanged += 1
        return rows, skipped, unchanged

    def _no_id(self, reason: str) -> Culprit:
        return Culprit(code=Code.INVALID_ID, field=self.contract.key_fields[0], message=reason)

    def _conflicting(self, key: str, news: Mapping[str, Any]) -> Culprit:
        field = min(news)
        message = f"The row {key[:80]!r} has another {field} already, and the contract takes no second one."
        return Culprit(id=key, code=Code.CONFLICTING_RECORD, field=field, message=message)

    # --- append

    async def _append(self, good: Sequence[_Read]) -> tuple[dict[str, _Row], int, int]:
        """A row for each record; the same event again, within the window, is skipped."""
        events = [(_event_key(self.contract, read.converted.document), read) for read in good]
        await lock_rows(self.desk, [], absent=True, inserting=True)
        window = self.semantics.window
        found = await self.desk.rows(
            FIND_EVENTS,
            event_keys=[key for key, _ in events],
            times=[read.converted.event_at or NEVER for _, read in events],
            window=window,
        )
        standing = {row["place"]: row for row in found}
        taken: dict[str, list[datetime]] = defaultdict(list)
        counters: dict[tuple[str, datetime], int] = {}
        rows: dict[str, _Row] = {}
        skipped = 0
        for place, (key, (_, converted)) in enumerate(events, start=1):
            event_at = converted.event_at or NEVER
            if standing[place]["near"] or _is_near(taken[key], event_at, window):
                skipped += 1
                continue
            bisect.insort(taken[key], event_at)
            counter = counters.get((key, event_at), standing[place]["counter"])
            counters[key, event_at] = counter + 1
            id_ = row_id(self.contract, converted.document, event_at, counter)
            document = {name: value for name, value in converted.document.items() if value is not None}
            rows[id_] = _Row(document, (event_at, converted.processed_at), there=False, changed=True, event_key=key)
        return rows, skipped, 0

    # --- the mirror

    async def _write(self, rows: Mapping[str, _Row], at: datetime) -> Written:
        changed = [
            (key, row.document, _moment(row.times[0]), row.times[1], row.event_key)
            for key, row in rows.items()
            if row.changed
        ]
        moved = [
            {"id": key, "event_at": _moment(row.times[0]), "processed_at": row.times[1]}
            for key, row in rows.items()
            if row.moved and not row.changed
        ]
        if moved:
            await self.desk.rows(MOVE_TIMES, rows=moved)
        if not changed:
            return Written()
        await stage_ingested(self.desk, changed)
        written = await write(self.desk, "ingest", at)
        await self.desk.value(CLEAR_STAGED)
        return written


def _moment(at: datetime) -> datetime | None:
    return None if at is NEVER else at


def _event_key(contract: Contract, document: Mapping[str, Any]) -> str:
    """What an appended record is about, as its id begins."""
    id_ = row_id(contract, document, NEVER, 0)
    return id_.rpartition("~")[0].rpartition("~")[0]


def _is_near(taken: list[datetime], at: datetime, window: Any) -> bool:
    """Whether one of these moments, in their order, is less than the window away."""
    place = bisect.bisect_left(taken, at)
    return (place < len(taken) and taken[place] - at < window) or (place > 0 and at - taken[place - 1] < window)


def _shown(raw: Raw) -> Any:
    """What was received, as quarantine shows it."""
    return raw.members if raw.members is not None else exact_json.decode(raw.record)
