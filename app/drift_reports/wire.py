"""Reports of drift as the wire has them."""

import uuid
from typing import Annotated, Any, Literal

import msgspec
from asyncpg import Record

from app.base.errors import DriftReportNotFound
from app.base.statements import statement
from app.engine.datasets import base_of
from app.engine.desk import Desk

READ_REPORT = statement("drift/read_report")

Severity = Literal["COMPATIBLE", "WARNING", "BREAKING"]
State = Literal["open", "applied", "accepted", "mapped", "rejected", "gone"]


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """What uses the field: rows of open drafts, open sessions, open change requests, changes that have not reached the
    mirror, accepted joins (0 in reports of before there were any), KPIs, indexes and rules.
    """

    drafts: int
    sessions: int
    requests: int
    changes: int
    joins: int = 0
    kpis: int
    indexes: int
    rules: int


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One change. `from` and `to`: what the column is called, where it is looked for and where it came; `old`, `new`:
    what the contract says, and what it would have to say. `confidence` of a rename, 0 to 1, with its `evidence`;
    `violations`: rows, drafts and changes that break it already; `decision`: accepted, or mapped to `mapped_to`.
    """

    kind: str
    path: str
    field: str | None
    from_: Annotated[str | None, msgspec.Meta(examples=["purchasePrice"])] = msgspec.field(name="from")
    to: str | None
    old: Any
    new: Any
    severity: Severity
    backward: bool
    forward: bool
    rule: str
    remedy: str
    confidence: float | None
    evidence: dict[str, Any] | None
    uses: Uses
    violations: int | None
    decision: Literal["accepted", "mapped"] | None
    mapped_to: str | None


class _Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    dataset: str
    version: str
    source: str
    state: State
    severity: Severity
    backward: bool
    forward: bool
    backward_all: bool
    forward_all: bool
    health: dict[str, Any] | None
    rows: int | None
    run_id: str | None
    at: str
    seen_at: str
    times: int
    created_by: str | None
    created_by_name: str | None
    decided_by: str | None
    decided_by_name: str | None
    decided_at: str | None
    reason: str | None
    made_version: str | None


class ReportSummary(_Report, frozen=True, kw_only=True):
    """A report in a list; `changes` is their number. `source`: sample, schema, version, pull or ingest. `times` and
    `seen_at`: how often, and when last, a pull or records had the same drift.
    """

    changes: int


class ReportAnswer(_Report, frozen=True, kw_only=True):
    """A report. `backward`: what is there fits what came; `forward`: the other way round; `..._all`: of every version
    of the contract. `health`: how the feed is. `made_version`: the version that accepting it made. `columns`: those
    that came and that a field can be mapped to.
    """

    columns: list[str] | None
    changes: list[ChangeAnswer]


class ReportsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of reports, the newest first."""

    data: list[ReportSummary]
    next_cursor: str | None


def summary_of(dataset: str, row: Record) -> ReportSummary:
    """A row of list_reports."""
    told = {name: value for name, value in row.items() if name != "position"}
    return ReportSummary(**_texts(told), dataset=base_of(dataset))


async def read_report(desk: Desk, id_: uuid.UUID) -> ReportAnswer:
    """The report; raises DriftReportNotFound."""
    base = base_of(desk.contract.name)
    row = await desk.connection.row(READ_REPORT, organization=desk.organization, base=base, id=id_)
    if row is None:
        raise no_report(desk, str(id_))
    told = {name: value for name, value in row.items() if name not in ("schema", "changes")}
    changes = [msgspec.convert(change, ChangeAnswer) for change in row["changes"]]
    return ReportAnswer(**_texts(told), dataset=base, changes=changes)


def no_report(desk: Desk, id_: str) -> DriftReportNotFound:
    """The error where there is none of this id."""
    return DriftReportNotFound(f"There is no report of drift {id_[:80]!r} of {base_of(desk.contract.name)}.")


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    ids = ("id", "run_id")
    return {name: str(value) if name in ids and value is not None else value for name, value in row.items()}
