"""Drift of a pull: the columns that come are watched, and nothing is written of a page whose columns have drifted.

A page whose columns are those that are known costs a comparison of their names. Rows are looked at where a column is
missing or new, where most values of one cannot be read, and where most rows would change: columns may have changed
places.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from app.base.statements import statement
from app.contracts.comparison import Kind
from app.contracts.states import ReportState
from app.drift.batch import UNREAD, Batch
from app.drift.detection import FEW, MOSTLY, Drift, Source, detect
from app.drift.records import with_keys
from app.drift.reports import Standing, free_columns, keep, read_known, read_mappings
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.upstream.protocol import Page, Upstream

READ_COLUMNS = statement("drift/read_columns")
NOTE_COLUMNS = statement("drift/note_columns")
CLOSE_GONE = statement("drift/close_gone")
DEMAND_FULL = statement("worker/demand_full")

TOLD = 5  # changes that a message names


class Drifted(Exception):
    """Columns have drifted, and a person has to decide. The message is for people."""

    code = "SCHEMA_DRIFT"


class Moved(Exception):
    """Leaves the transaction of a page whose columns changed places."""

    def __init__(self, drift: Drift):
        self.drift = drift


async def lay_over(desk: Desk, upstream: Upstream) -> None:
    """Have upstream read as people have decided."""
    upstream.lay_over(await read_mappings(desk))


class Watch:
    """Of one pull. `beside`: the columns that upstream sends and nobody reads, None before the first pull."""

    def __init__(self, desk: Desk, upstream: Upstream):
        self.desk, self.upstream = desk, upstream
        self.beside: frozenset[str] | None = None

    async def begin(self) -> None:
        """Before the first page is asked for."""
        await lay_over(self.desk, self.upstream)
        columns = await self.desk.value(READ_COLUMNS)
        self.beside = None if columns is None else frozenset(columns)

    async def look(self, page: Page, run_id: uuid.UUID, at: datetime) -> None:
        """Look at a page before it is written; raises Drifted."""
        if not page.columns:
            return
        expected = frozenset(self.upstream.columns.values())
        beside = page.columns - expected
        strange = beside - (beside if self.beside is None else self.beside)
        unread = any(count >= FEW for count in page.unread.values())
        if strange or unread or not expected <= page.columns:
            drift = await self._detect(page)
            if drift.changes:
                await self.hold(drift, page, run_id, at)
        if self.beside is None or not beside <= self.beside:
            self.beside = (self.beside or frozenset()) | beside
            await self.desk.value(NOTE_COLUMNS, columns=sorted(self.beside))

    @staticmethod
    def is_moved(changed: int, rows: int, present: int) -> bool:
        """Whether so much of a page is not as the mirror has it that its columns may have changed places."""
        return changed >= FEW and changed >= MOSTLY * rows and present >= FEW

    async def look_closely(self, page: Page) -> None:
        """Raises Moved where columns changed places."""
        drift = await self._detect(page)
        if any(found.change.kind is Kind.RENAME for found in drift.changes):
            raise Moved(drift)

    async def hold(self, drift: Drift, page: Page, run_id: uuid.UUID, at: datetime) -> None:
        """Keep the report; raises Drifted unless it applies itself."""

        fields = {column: field for field, column in self.upstream.columns.items()}

        async def work() -> Standing:
            columns = free_columns(drift, page.columns, fields)
            standing = await keep(self.desk, drift, Source.PULL, at, run_id=run_id, columns=columns, settled=True)
            if standing.holds:
                await self.close_gone(at, but=standing.id)
                # What was modified since says too little about whether the drift is over.
                await self.desk.value(DEMAND_FULL)
            return standing

        standing = await self.desk.connection.run(work)
        if standing.holds:
            raise Drifted(_words(drift, standing))

    async def close_gone(self, at: datetime, but: uuid.UUID | None = None) -> None:
        """A pull has read everything, and nothing had drifted, or another report says what has: those that nobody has
        decided on are past.
        """
        base = base_of(self.desk.contract.name)
        gone = await self.desk.connection.rows(
            CLOSE_GONE, organization=self.desk.organization, base=base, at=at, but=but
        )  # fmt: skip
        for row in gone:
            tell(
                self.desk, EventType.DATASET, at,
                event="drift", report=str(row["id"]), severity=row["severity"], state=ReportState.GONE,
            )  # fmt: skip

    async def _detect(self, page: Page) -> Drift:
        expected = dict(self.upstream.columns)
        cells = self.upstream.cells(page)
        fields = {column: field for field, column in expected.items() if column in cells}
        known_beside = self.beside or frozenset()
        batch = Batch(
            rows=len(next(iter(cells.values()), [])),
            columns={name: values for name, values in cells.items() if name in fields or name not in known_beside},
            fields=fields,
            expected=expected,
            textual=True,
            read=self._read,
        )
        batch = with_keys(self.desk.contract, batch)
        drift = detect(self.desk.contract, batch, await read_known(self.desk, batch), Source.PULL)
        if self.beside is None:
            # Nobody knows what is new.
            drift = msgspec.structs.replace(
                drift, changes=tuple(found for found in drift.changes if found.change.kind is not Kind.ADD)
            )  # fmt: skip
        return drift

    def _read(self, field: str, values: Sequence[Any]) -> list[Any]:
        return [UNREAD if isinstance(value, Exception) else value for value in self.upstream.read_as(field, values)]


def _words(drift: Drift, standing: Standing) -> str:
    """What a run's record says."""
    told = [_said(found.change.kind, found.was, found.now) for found in drift.changes[:TOLD]]
    more = len(drift.changes) - len(told)
    what = ", ".join(told) + (f" and {more} more" if more > 0 else "")
    if standing.state is ReportState.REJECTED:
        who = standing.decided_by_name or "Somebody"
        return f"Upstream sends what was rejected: {what}. {who} rejected it in report {standing.id}: {standing.reason}"
    return (
        f"The columns of upstream have changed: {what}. Nothing of this page was written. An administrator decides on "
        f"report {standing.id}: accept, map or reject it."
    )


def _said(kind: Kind, was: str | None, now: str | None) -> str:
    match kind:
        case Kind.RENAME:
            return f"{was} seems to be {now}"
        case Kind.REMOVE:
            return f"{was} is gone"
        case Kind.ADD:
            return f"{now} is new"
    return f"{was or now} is of another type"
