"""Ingestion: records into the mirror, by the semantics of the contract.

Records are taken in the order in which they came, and each is held against what is there at that moment: what comes out
does not depend on how they are cut into portions. docs/ingestion.md tells the rules.
"""

import bisect
import uuid
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from prometheus_client import Counter

from app.base import exact_json
from app.base.errors import Code, Culprit
from app.base.pacing import in_turns
from app.base.statements import statement
from app.contracts.keys import MAX_COUNT, NoRowId, row_id
from app.drift.reports import read_mappings
from app.engine.desk import Desk
from app.engine.locks import lock_filled, lock_rows
from app.records.conversion import Converted, Converter
from app.records.proposals import Proposals
from app.records.records import Raw, stored
from app.worker import runs
from app.worker.staging import stage_ingested, write

READ_ROWS = statement("ingestion/read_rows")
FIND_EVENTS = statement("ingestion/find_events")
MOVE_TIMES = statement("ingestion/move_times")
QUARANTINE_RECORDS = statement("ingestion/quarantine_records")
RELEASE_RECORDS = statement("ingestion/release_records")
MAKE_STAGING = statement("worker/make_staging")
CLEAR_STAGED = statement("ingestion/clear_staged")

RECORDS = Counter("vanguard_ingested_records_total", "Records that were ingested, by what became of them", ["outcome"])

RECORDS_A_TURN = 20  # each may have more than a thousand members
NEVER = datetime.min.replace(tzinfo=UTC)

Times = tuple[datetime, datetime]


class Refused(Exception):
    """The contract ends the run with this record, or with so many put aside. The message is for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Standing(NamedTuple):
    """A row of the version in use, as it stands there. `key` and `event_key`: None where ids are not the same here;
    `fields`: those of this version that it speaks of, the ones that are empty there included.
    """

    key: str | None
    event_at: datetime | None
    processed_at: datetime | None
    event_key: str | None
    fields: frozenset[str]


class Record(NamedTuple):
    """A record as it was received: with which run, on which line, when. `standing`: it is a row of another version."""

    run_id: uuid.UUID
    received_at: datetime
    textual: bool
    raw: Raw
    standing: Standing | None = None

    @property
    def id(self) -> str:
        """What it is called in quarantine."""
        return f"{self.run_id}:{self.raw.line:09}"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of records, of each one thing: `skipped` were older than what is there, or the same event again.
    `conflicts`: modifications that came into conflict.
    """

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
    """A record that is a row's document; `id`: of the row, without the counter where records are appended."""

    record: Record
    converted: Converted
    id: str


class _Row(msgspec.Struct, gc=False):
    """A row as records leave it; `found`: as they found it, None where there was none."""

    document: dict[str, Any]
    times: Times
    found: dict[str, Any] | None = None
    found_times: Times | None = None
    event_key: str | None = None


class Ingester:
    """Takes records into one dataset, over one connection.

    `settled`: rows have had what is no later than they are. So it is of records, where rows are brought over from
    another version.
    """

    def __init__(self, desk: Desk, *, settled: bool = False):
        assert desk.contract.ingestion is not None, "only an organization's own dataset is ingested"
        self.desk, self.contract, self.semantics = desk, desk.contract, desk.contract.ingestion
        self.proposals = Proposals(desk.contract)
        self.settled = settled
        self._converters: dict[bool, Converter] = {}
        self._derived = tuple(field for field in desk.contract.fields if field.derived_from)

    async def take(self, records: Sequence[Record], at: datetime) -> Counts:
        """Take records, or rows of another version, inside the caller's transaction; raises Refused, DatasetReadOnly
        and SchemaChanged.
        """
        good, broken = await self._read(records)
        for read in good:
            for member, value in read.converted.new:
                self.proposals.add(member, value, textual=read.record.textual)
        await self.desk.connection.value(MAKE_STAGING)
        await lock_filled(self.desk)
        if any(record.standing and record.standing.key for record in records):
            rows, tally = await self._bring(good)
        else:
            rows, tally = await (self._append(good) if self.contract.appends else self._upsert(good, broken))
        conflicts = await self._write(rows, at)
        await self._put_aside(broken, at)
        kept = {record.id for record, _ in broken}
        await self.desk.value(RELEASE_RECORDS, ids=[record.id for record in records if record.id not in kept])
        return Counts(rows_read=len(records), quarantined=len(broken), conflicts=conflicts, **tally)

    async def count_broken(self, records: Sequence[Record]) -> int:
        """How many of the records cannot become rows, whatever is there; raises Refused."""
        return len((await self._read(records))[1])

    # --- records

    async def _read(self, records: Iterable[Record]) -> tuple[list[_Read], list[tuple[Record, tuple[Culprit, ...]]]]:
        good: list[_Read] = []
        broken: list[tuple[Record, tuple[Culprit, ...]]] = []
        if not self._converters:
            mapped = await read_mappings(self.desk)
            self._converters = {
                textual: Converter(self.contract, textual=textual, mapped=mapped) for textual in (False, True)
            }
        async for record in in_turns(records, RECORDS_A_TURN):
            raw = record.raw
            if raw.members is None:
                culprit = Culprit(code=raw.code or Code.MALFORMED_ROW, message=raw.message or "It cannot be read.")
                broken.append((record, (culprit,)))
                continue
            standing = record.standing
            converted = self._converters[record.textual].convert(
                raw.members, record.received_at, of_row=standing is not None
            )
            if converted.refused:
                why = converted.culprits[0]
                raise Refused("RECORD_REFUSED", f"Line {raw.line}: {why.message} The contract refuses such records.")
            if converted.culprits:
                broken.append((record, converted.culprits))
                continue
            try:
                key = standing.key if standing is not None and standing.key else self._id_of(converted)
                good.append(_Read(record, converted, key))
            except NoRowId as reason:
                broken.append((record, (self._no_id(str(reason)),)))
        return good, broken

    def _id_of(self, converted: Converted) -> str:
        """Raises NoRowId. An appended row has room for any counter."""
        if not self.contract.appends:
            return row_id(self.contract, converted.document)
        if converted.event_at is None:
            raise NoRowId("It has no event time, which belongs to the id where records are appended.")
        return row_id(self.contract, converted.document, converted.event_at, MAX_COUNT).rpartition("~")[0]

    def _no_id(self, reason: str) -> Culprit:
        return Culprit(code=Code.INVALID_ID, field=self.contract.key_fields[0], message=reason)

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
                received=[runs.storable(_shown(record.raw)) async for record, _ in in_turns(some, RECORDS_A_TURN)],
                reasons=[runs.storable(msgspec.to_builtins(culprits)) for _, culprits in some],
                seen=[record.received_at for record, _ in some],
            )

    # --- rows of the version in use

    async def _bring(self, good: Sequence[_Read]) -> tuple[dict[str, _Row], Tally[str]]:
        """Rows that have the same ids here. What they say, empty cells included, is what people and records have come
        to there: it is so here, too, unless a later record has been here.
        """
        keys = sorted({read.id for read in good})
        await lock_rows(self.desk, keys, absent=True, inserting=True)
        there = {row["row_key"]: row for row in await self.desk.rows(READ_ROWS, keys=keys)}
        rows: dict[str, _Row] = {}
        tally: Tally[str] = Tally()
        for record, converted, key in good:
            standing = record.standing
            assert standing is not None, "they come by themselves"
            times = (standing.event_at or NEVER, standing.processed_at or NEVER)
            document, row = _less_nulls(converted.document), there.get(key)
            if row is None:
                rows[key] = _Row(self._derive(document), times, event_key=standing.event_key)
                tally["inserted"] += 1
                continue
            if times < (was := _times_of(row)):
                tally["skipped"] += 1
                continue
            document |= {name: value for name, value in row["data"].items() if name not in standing.fields}
            document = self._derive(document)
            if _are_alike(document, row["data"]):
                rows[key] = _Row(row["data"], times, row["data"], was)
                tally["unchanged"] += 1
            else:
                rows[key] = _Row(document, times, row["data"], was)
                tally["updated"] += 1
        return rows, tally

    def _derive(self, document: dict[str, Any]) -> dict[str, Any]:
        """With what is derived of the others."""
        for field in self._derived:
            document[field.name] = all(document.get(name) is not None for name in field.derived_from)
        return document

    # --- upsert

    async def _upsert(
        self, good: Sequence[_Read], broken: list[tuple[Record, tuple[Culprit, ...]]]
    ) -> tuple[dict[str, _Row], Tally[str]]:
        """A row for each key; a later record takes the place of an earlier one, field by field."""
        keys = sorted({read.id for read in good})
        await lock_rows(self.desk, keys, absent=True, inserting=True)
        rows = {
            row["row_key"]: _Row(row["data"], _times_of(row), row["data"], _times_of(row))
            for row in await self.desk.rows(READ_ROWS, keys=keys)
        }
        tally: Tally[str] = Tally()
        for record, converted, key in good:
            times = (converted.event_at or NEVER, converted.processed_at)
            row = rows.get(key)
            if row is None:
                rows[key] = _Row(_less_nulls(converted.document), times)
                tally["inserted"] += 1
            elif times < row.times or (self.settled and times == row.times):
                tally["skipped"] += 1
            elif not (news := self._news(row.document, converted.document)):
                row.times = times
                tally["unchanged"] += 1
            elif self.semantics.conflict_resolution == "error":
                broken.append((record, (self._conflicting(key, news),)))
            else:
                row.document, row.times = row.document | news, times
                tally["updated"] += 1
        return rows, tally

    def _news(self, document: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """What the record says and the row does not, with what is derived of the two together."""
        news = {name: value for name, value in named.items() if document.get(name) != value}
        if self._derived:
            both = {**document, **news}
            for field in self._derived:
                news[field.name] = all(both.get(name) is not None for name in field.derived_from)
            news = {name: value for name, value in news.items() if document.get(name) != value}
        return news

    def _conflicting(self, key: str, news: Mapping[str, Any]) -> Culprit:
        field = min(news)
        message = f"The row {key[:80]!r} has another {field} already, and the contract takes no second one."
        return Culprit(id=key, code=Code.CONFLICTING_RECORD, field=field, message=message)

    # --- append

    async def _append(self, good: Sequence[_Read]) -> tuple[dict[str, _Row], Tally[str]]:
        """A row for each record; the same event again, within the window, is skipped."""
        events = [(read.id.rpartition("~")[0], read.converted.event_at or NEVER) for read in good]
        await lock_rows(self.desk, [], absent=True, inserting=True)
        window = self.semantics.window
        found = await self.desk.rows(
            FIND_EVENTS,
            event_keys=[key for key, _ in events],
            times=[at for _, at in events],
            window=window,
            ids=[read.id for read in good],
        )
        standing = {row["place"]: row for row in found}
        taken: dict[str, list[datetime]] = defaultdict(list)
        counters: dict[str, int] = {}
        rows: dict[str, _Row] = {}
        for place, (read, (key, event_at)) in enumerate(zip(good, events, strict=True), start=1):
            if standing[place]["near"] or _is_near(taken[key], event_at, window):
                continue
            bisect.insort(taken[key], event_at)
            counter = counters.get(read.id, standing[place]["counter"])
            counters[read.id] = counter + 1
            document, times = _less_nulls(read.converted.document), (event_at, read.converted.processed_at)
            rows[f"{read.id}~{counter}"] = _Row(document, times, event_key=key)
        return rows, Tally(inserted=len(rows), skipped=len(good) - len(rows))

    # --- the mirror

    async def _write(self, rows: Mapping[str, _Row], at: datetime) -> int:
        """Returns how many modifications came into conflict."""
        changed, moved = [], []
        for key, row in rows.items():
            if row.document != row.found:
                changed.append((key, row.document, _moment(row.times[0]), _moment(row.times[1]), row.event_key))
            elif row.times != row.found_times:
                moved.append({"id": key, "event_at": _moment(row.times[0]), "processed_at": _moment(row.times[1])})
        if moved:
            await self.desk.rows(MOVE_TIMES, rows=moved)
        if not changed:
            return 0
        await stage_ingested(self.desk, changed)
        written = await write(self.desk, "ingest", at)
        await self.desk.value(CLEAR_STAGED)
        return written.conflicts


def _times_of(row: Any) -> Times:
    return row["event_at"] or NEVER, row["processed_at"] or NEVER


def _are_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """What is not there is null."""
    return all(one.get(name) == other.get(name) for name in one.keys() | other.keys())


def _moment(at: datetime) -> datetime | None:
    return None if at is NEVER else at


def _less_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    """A new row's document: what it has nothing of is not there."""
    return {name: value for name, value in document.items() if value is not None}


def _is_near(taken: list[datetime], at: datetime, window: Any) -> bool:
    """Whether one of these moments, in their order, is less than the window away."""
    place = bisect.bisect_left(taken, at)
    return (place < len(taken) and taken[place] - at < window) or (place > 0 and at - taken[place - 1] < window)


def _shown(raw: Raw) -> Any:
    """What was received, as quarantine shows it."""
    return raw.members if raw.members is not None else exact_json.decode(raw.record)
