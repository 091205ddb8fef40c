"""Reports of drift: kept with their changes and with who uses the fields, told to the feed and to metrics."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog
from asyncpg import Record
from prometheus_client import Counter

from app.base import exact_json
from app.base.errors import QuotaExceeded
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.comparison import BREAKING, COMPATIBLE, Change, Compatibility, Kind
from app.contracts.states import ReportState
from app.drift.batch import Batch, Known
from app.drift.detection import Drift, Found, Source
from app.drift.impact import made_worse, shown, uses_of, violations_of
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell

log = structlog.get_logger(__name__)

SEE_REPORT = statement("drift/see_report")
ADD_REPORT = statement("drift/add_report")
COUNT_REPORTS = statement("drift/count_reports")
DECIDE_REPORT = statement("drift/decide_report")
LIST_MAPPINGS = statement("drift/list_mappings")
READ_KNOWN = statement("drift/read_known")

REPORTS = Counter("vanguard_drift_reports_total", "Reports of drift, by what was compared and how bad it is",
                  ["source", "severity"])  # fmt: skip

OTHERS = 1_000  # rows of a dataset that are looked at beside those that came
# What a field can be mapped out of, or be null after.
MAPPABLE = frozenset({Kind.REMOVE, Kind.RENAME, Kind.TYPE_CHANGE})
COMPARED = 1_000  # rows that came of which those that are there are looked for


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A report as those who go on, or do not, have to know it; `new`: it was not there before."""

    id: uuid.UUID
    state: ReportState
    severity: Compatibility
    new: bool
    reason: str | None = None
    decided_by_name: str | None = None
    made_version: str | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing is written because of it."""
        return self.severity is BREAKING and self.state is not ReportState.APPLIED


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the two ways between contracts: with the one that was compared, and with all before it."""

    backward: bool
    forward: bool
    backward_all: bool
    forward_all: bool


async def read_known(desk: Desk, batch: Batch) -> Known:
    """What is there of the batch's rows, and some other rows of the dataset."""
    keys = list(dict.fromkeys(key for key in batch.keys if key is not None))[:COMPARED]
    rows = await desk.rows(READ_KNOWN, keys=keys, limit=OTHERS)
    by_key = {row["row_key"]: row["data"] for row in rows if row["row_key"] is not None}
    return Known(by_key, [row["data"] for row in rows if row["row_key"] is None])


async def read_mappings(desk: Desk) -> dict[str, str | None]:
    """Field -> the column that it is read from here, None where it is null."""
    return {name: row["name"] for name, row in (await list_mappings(desk)).items()}


async def list_mappings(desk: Desk) -> dict[str, Record]:
    """The mappings of the fields that the desk's version has, by its names for them."""
    contract = desk.contract
    rows = await desk.connection.rows(LIST_MAPPINGS, organization=desk.organization, base=base_of(contract.name))
    names = {field.id: field.name for field in contract.fields}
    found = ((names.get(row["field_id"]) if row["field_id"] else row["field"], row) for row in rows)
    return {name: row for name, row in found if name is not None}


async def weigh(desk: Desk, changes: Sequence[Found]) -> tuple[list[Found], list[dict[str, Any]]]:
    """The changes, worse where something breaks them already; and each as it is kept."""
    uses = await uses_of(desk, [found.field for found in changes if found.field is not None])
    weighed, kept = [], []
    for found in changes:
        violations = await violations_of(desk, found.change, found.field or "")
        worse = msgspec.structs.replace(found, change=made_worse(found.change, violations))
        weighed.append(worse)
        kept.append(_kept(worse, shown(uses, found.field), violations))
    return weighed, kept


def _kept(found: Found, uses: Mapping[str, int], violations: int | None) -> dict[str, Any]:
    change: Change = found.change
    return {
        "kind": change.kind,
        "path": change.path,
        "field": found.field,
        "was": found.was,
        "now": found.now,
        "old": change.old,
        "new": change.new,
        "severity": change.severity,
        "backward": change.backward,
        "forward": change.forward,
        "rule": change.rule,
        "remedy": change.remedy,
        "confidence": found.confidence,
        "evidence": found.evidence,
        "uses": dict(uses),
        "violations": violations,
    }


def free_columns(drift: Drift, columns: Iterable[str], fields: Mapping[str, str]) -> list[str]:
    """The columns that a field can be mapped to: of those that came, none that another field is read from rightly.
    `fields`: column -> the field that it is read as.
    """
    odd = {found.field for found in drift.changes if found.change.kind in MAPPABLE}
    return sorted(column for column in columns if fields.get(column) is None or fields[column] in odd)


async def see(desk: Desk, drift: Drift, source: Source, at: datetime, run_id: uuid.UUID | None) -> Standing | None:
    """The report of the same drift, where it was seen before and is not past."""
    row = await desk.connection.row(
        SEE_REPORT,
        organization=desk.organization,
        base=base_of(desk.contract.name),
        source=source,
        version=desk.contract.version,
        digest=digest_of(drift.changes),
        at=at,
        rows=drift.rows,
        run_id=run_id,
    )
    if row is None:
        return None
    told = {**dict(row), "state": ReportState(row["state"]), "severity": Compatibility(row["severity"])}
    return Standing(**told, new=False)


async def keep(
    desk: Desk,
    drift: Drift,
    source: Source,
    at: datetime,
    *,
    verdict: Verdict | None = None,
    run_id: uuid.UUID | None = None,
    user: str | None = None,
    columns: Sequence[str] | None = None,
    schema: Contract | None = None,
    settled: bool = False,
    told: bool = False,
    most: int | None = None,
) -> Standing:
    """Keep a report, inside the caller's transaction, unless the same drift of a pull or of records is kept already.

    `columns`: what a field can be mapped to; `schema`: the contract that was held against ours; `settled`: there is
    nothing to decide, where nothing is worse than COMPATIBLE; `told`: whatever it is. `most`: reports that the
    organization may have; raises QuotaExceeded.
    """
    if source in (Source.PULL, Source.INGEST) and (seen := await see(desk, drift, source, at, run_id)) is not None:
        return seen
    if most is not None and await desk.connection.value(COUNT_REPORTS, organization=desk.organization) >= most:
        raise QuotaExceeded(
            f"The organization has {most:,} reports of drift, as many as it may have (VANGUARD_MAX_DRIFT_REPORTS). "
            "Decide on those that are open; what is decided is forgotten some time later."
        )
    weighed, kept = await weigh(desk, drift.changes)
    drift = msgspec.structs.replace(drift, changes=tuple(weighed))
    changes = [found.change for found in weighed]
    backward, forward = all(each.backward for each in changes), all(each.forward for each in changes)
    verdict = verdict or Verdict(backward=backward, forward=forward, backward_all=backward, forward_all=forward)
    applied = told or not changes or (settled and drift.severity is COMPATIBLE)
    state = ReportState.APPLIED if applied else ReportState.OPEN
    report = {
        "version": desk.contract.version,
        "source": source,
        "state": state,
        "severity": drift.severity,
        **msgspec.structs.asdict(verdict),
        "backward": verdict.backward and backward,
        "health": msgspec.to_builtins(drift.health),
        "rows": drift.rows,
        "run_id": None if run_id is None else str(run_id),
        "columns": None if columns is None else sorted(columns),
        "schema": None if schema is None else exact_json.encode(schema).decode(),
        "created_by": user,
    }
    id_ = uuid.uuid4()
    added = await desk.connection.value(
        ADD_REPORT,
        organization=desk.organization,
        base=base_of(desk.contract.name),
        id=id_,
        report=report,
        changes=kept,
        digest=digest_of(weighed),
        at=at,
    )
    if added is None:  # somebody else was faster: theirs is the report
        seen = await see(desk, drift, source, at, run_id)
        assert seen is not None, "what is in the way of a new report is the same one"
        return seen
    tell(
        desk, EventType.DATASET, at, actor=user,
        event="drift", report=str(id_), severity=drift.severity, state=state, changes=len(changes),
    )  # fmt: skip
    REPORTS.labels(source, drift.severity).inc()
    log.info(
        "drift found", organization=desk.organization, dataset=desk.contract.name, report=str(id_), source=source,
        severity=drift.severity, changes=len(changes),
    )  # fmt: skip
    return Standing(id=id_, state=state, severity=drift.severity, new=True)


def digest_of(changes: Sequence[Found]) -> bytes:
    """What tells one drift from another: what changed, and how, whatever the evidence."""
    told = sorted(
        exact_json.encode([found.change.kind, found.change.path, found.field, found.was, found.now, found.change.new])
        for found in changes
    )
    return hashlib.sha256(b"\n".join(told)).digest()
