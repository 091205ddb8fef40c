"""Running a question: by a preview that still fits, within bounds of time, rows, memory and files, and recorded."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import structlog
from asyncpg import Record
from litestar.types import Receive, Scope, Send
from prometheus_client import Counter, Histogram

from app.base import exact_json
from app.base.database import Connection
from app.base.errors import (
    DatabaseBusy,
    NotUnique,
    OverrideRequired,
    PreviewStale,
    QueriesBusy,
    QueryTooLarge,
)
from app.base.settings import Settings
from app.base.statements import statement
from app.contracts.values import write_datetime, write_number
from app.engine.audit import Act, Entry, record_in
from app.engine.query.composing import Asker, compose, find_doubled
from app.engine.query.question import Column as Shown
from app.engine.query.question import Figure, Question, Source
from app.exports.columns import Column
from app.exports.download import Download
from app.exports.formats import Csv, Ndjson, Row, Writer
from app.joins.accepted import count_uses
from app.query_previews.look import Look, begin, hold_again, look_at
from app.query_previews.previews import Preview
from app.query_previews.wire import AnswerColumn, columns_of
from app.web.auth import Action
from app.web.runtime import Runtime, VanguardRequest

log = structlog.get_logger(__name__)
QUERIES = Counter("vanguard_queries_total", "Questions by how their run ended", ["outcome"])
QUERY_SECONDS = Histogram("vanguard_query_seconds", "How long questions ran")

BEGIN_EXECUTION = statement("query_previews/begin_execution")
END_EXECUTION = statement("query_previews/end_execution")

# What is fetched and written at once, while nobody else gets a turn: rows, values, and bytes were all texts as long as
# may be.
MOST_ROWS, MOST_VALUES, MOST_BYTES = 1000, 10_000, 2 * 2**20
SHORT = 40  # bytes of what is no text
RETRY_AFTER = 10  # seconds


class Json(Writer):
    """`{columns, data, rows, truncated}`, each row an object by the columns' names."""

    ending, media_type, form = "json", "application/json", "object"

    def __init__(self, columns: Sequence[Column]):
        super().__init__(columns)
        self.answer: Answer | None = None
        self._begun = False

    def head(self) -> bytes:
        """The columns."""
        assert self.answer is not None, "whoever answers sets it"
        told = exact_json.encode({"executionId": str(self.answer.id), "columns": self.answer.shown})
        return told[:-1] + b',"data":['

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Objects, with commas between them."""
        names = [column.name for column in self.columns]
        return self._behind([exact_json.encode(dict(zip(names, row, strict=True))) for row in rows])

    def lines(self, lines: Sequence[str]) -> bytes:
        """Objects, as PostgreSQL has written them."""
        return self._behind([line.encode() for line in lines])

    def _behind(self, objects: Sequence[bytes]) -> bytes:
        comma = b"," if self._begun and objects else b""
        self._begun = self._begun or bool(objects)
        return comma + b",".join(objects)

    def tail(self) -> bytes:
        """How many rows there are, and whether there were more."""
        assert self.answer is not None, "whoever answers sets it"
        return b'],"rows":%d,"truncated":%b}' % (self.answer.rows, b"true" if self.answer.truncated else b"false")


WRITERS: dict[str, type[Writer]] = {writer.ending: writer for writer in (Json, Csv, Ndjson)}


class Answer:
    """The rows of one execution: `rows` that were answered, and whether there were more."""

    def __init__(self, runtime: Runtime, asker: Asker, look: Look):
        self.id = uuid.uuid4()
        self.shown: list[AnswerColumn] = columns_of(look.question)
        self.rows = 0
        self.truncated = False
        self._runtime, self._asker, self._look = runtime, asker, look

    async def batches(self) -> AsyncGenerator[list[Row], None]:
        """Raises PreviewStale, NotUnique, QueryTooLarge and DatabaseBusy."""
        settings = self._runtime.settings
        async with self._runtime.database.snapshot() as connection:
            await begin(connection, settings)
            again = await hold_again(self._runtime, connection, self._asker, self._look.question.query)
            check_fits(again.digest, self._look.digest)
            question = again.question
            try:
                await _check_unique(connection, question, self._asker)
                found = connection.batches(compose(question, self._asker), batch_of(question))
                async with aclosing(found) as batches:
                    async for records in batches:
                        if rows := self._taken(records):
                            yield rows
            except (asyncpg.ConfigurationLimitExceededError, asyncpg.OutOfMemoryError) as error:
                raise QueryTooLarge(
                    f"The question needs more than {settings.query_files_mb:,} MB of temporary files "
                    "(VANGUARD_QUERY_FILES_MB). Filter, or group by less."
                ) from error
            except asyncpg.QueryCanceledError as error:
                raise DatabaseBusy(
                    f"The question took more than {settings.query_timeout:g} seconds (VANGUARD_QUERY_TIMEOUT). "
                    "Filter, or join fewer datasets.",
                    retry_after=RETRY_AFTER,
                ) from error

    def _taken(self, records: Sequence[Record]) -> list[Row]:
        left = self._look.question.limit - self.rows
        self.truncated = self.truncated or len(records) > left
        rows = [_row(record) for record in records[:left]]
        self.rows += len(rows)
        return rows


def batch_of(question: Question) -> int:
    """How many rows are fetched at once."""
    longest = sum(_longest(question, each) for each in question.shown)
    return max(1, min(MOST_ROWS, MOST_VALUES // len(question.shown), MOST_BYTES // longest))


def _longest(question: Question, shown: Shown | Figure) -> int:
    """Bytes of a value."""
    column = shown.column if isinstance(shown, Figure) else shown
    if column is None or shown.type != "text":
        return SHORT
    field = question.sources[column.source].of.contract.by_name.get(column.field)
    return SHORT if field is None else field.max_length


def _row(record: Record) -> Row:
    return [_value(value) for value in record.values()]


def _value(value: Any) -> Any:
    """As documents have it; a sum of whole numbers is one."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else Decimal(write_number(value))
    if hasattr(value, "tzinfo"):
        return write_datetime(value)
    return value


def check_digest(preview: Preview, given: str) -> None:
    """Raises PreviewStale where the digest is none of this preview."""
    if preview.digest.hex() != given:
        raise PreviewStale("The digest is not this preview's. Send both as they were answered, or preview it again.")


def check_fits(now: bytes, then: bytes) -> None:
    """Raises PreviewStale where a preview was made of other versions than there are."""
    if now != then:
        raise PreviewStale(
            "A contract or a join that the question reads has another version since it was previewed. Preview it again."
        )


async def _check_unique(connection: Connection, question: Question, asker: Asker) -> None:
    """Raises NotUnique where a join's parent has a value in several rows of the caller's view."""
    for source in question.sources[1:]:
        parent = source if source.to_one else question.sources[source.beside]
        if _is_key(parent, source):
            continue
        doubled = await connection.row(find_doubled(parent, source, asker))
        if doubled is not None:
            assert source.join is not None, "the root has none"
            values = ", ".join(str(value)[:80] for value in doubled.values())
            raise NotUnique(
                f"Several rows of {parent.alias} in your view have {', '.join(source.join.parent_fields)} = {values}: "
                "each row that belongs to one of them would count several times. Mend them, or ask without the join."
            )


def _is_key(parent: Source, source: Source) -> bool:
    """Whether the rows' ids are made of the join's fields, so that no two can have the same."""
    assert source.join is not None, "the root has none"
    contract = parent.of.contract
    return not contract.appends and {*contract.key_fields} == {*source.join.parent_fields}


def longest(settings: Settings) -> float:
    """Seconds that an answer takes at most, the client's slowness included."""
    return settings.query_timeout + settings.stall_timeout


class QueryDownload(Download):
    """Sends the answer of a question, and records how that ended."""

    def __init__(self, runtime: Runtime, run: "Run"):
        columns = [Column(name=each.name, label=each.label, type=each.type) for each in run.answer.shown]
        writer = WRITERS[run.format](columns)
        if isinstance(writer, Json):
            writer.answer = run.answer
        root = run.look.question.sources[0].of.contract.name
        super().__init__(
            runtime, writer, f"{root}-query-{runtime.clock().date()}", run.answer.batches, writer.rows, _nothing
        )
        if run.format == "json":
            del self.headers["Content-Disposition"]
        self._limit = longest(runtime.settings)
        self._run = run
        self._ended = ("failed", 0.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, unless the client leaves or the time is over; then record how it ended."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await end(self._runtime, self._run, *self._ended)

    def _place(self) -> AbstractAsyncContextManager[None]:
        most = self._runtime.settings.places_of_queries
        detail = f"{most} questions run, as many as may at once (VANGUARD_MAX_QUERIES). Try again later."
        return self._runtime.queries.held(QueriesBusy(detail, retry_after=RETRY_AFTER))

    def _tell(self, outcome: str, seconds: float) -> None:
        self._ended = (outcome, seconds)
        QUERIES.labels(outcome).inc()
        QUERY_SECONDS.observe(seconds)
        log.info(
            "query",
            format=self._writer.ending,
            outcome=outcome,
            rows=self._run.answer.rows,
            bytes=self._bytes,
            milliseconds=round(seconds * 1000),
        )


async def _nothing() -> None:
    """It was recorded before it ran."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. `reason`: why a guard was overridden, None where none was."""

    asker: Asker
    look: Look
    preview: Preview
    answer: Answer
    format: str
    reason: str | None


async def start(request: VanguardRequest, asker: Asker, preview: Preview, format_: str, reason: str | None) -> Run:
    """Look at the question anew, and record that it is run.

    Raises PreviewStale where it is another one by now, OverrideRequired where a guard holds it and nobody gave a
    reason, Forbidden where somebody gave one who may not; and what reading the question does.
    """
    runtime = request.runtime
    if reason is not None:
        request.user.demand(Action.OVERRIDE_GUARDS)
    async with runtime.database.snapshot() as connection:
        await begin(connection, runtime.settings)
        again = await hold_again(runtime, connection, asker, preview.query)
        check_fits(again.digest, preview.digest)
        look = await look_at(connection, asker, again)
    held = [each for each in look.guards if each.requires_override]
    if held and reason is None:
        words = " ".join(each.message for each in held)
        raise OverrideRequired(words, warnings=[msgspec.to_builtins(each) for each in held])
    run = Run(
        asker=asker,
        look=look,
        preview=preview,
        answer=Answer(runtime, asker, look),
        format=format_,
        reason=reason if held else None,
    )
    await runtime.reserve.run(lambda connection: _record(connection, runtime, run))
    return run


async def _record(connection: Connection, runtime: Runtime, run: Run) -> None:
    at, organization, look = runtime.clock(), run.asker.organization, run.look
    joins = sorted({source.join.id for source in look.question.sources if source.join})
    await connection.rows(
        BEGIN_EXECUTION,
        organization=organization,
        id=run.answer.id,
        user=run.asker.user,
        preview_id=run.preview.id,
        query=look.question.query,
        sentence=run.preview.sentence,
        digest=look.digest,
        format=run.format,
        joins=[uuid.UUID(each) for each in joins],
        cost=look.plan.cost,
        estimated_rows=look.plan.rows,
        override_reason=run.reason,
        at=at,
    )
    await count_uses(connection, organization, joins, at)
    datasets = list(dict.fromkeys(source.of.contract.name for source in look.question.sources))
    details = {"execution": str(run.answer.id), "datasets": datasets, "format": run.format}
    action = Act.QUERY_EXECUTED if run.reason is None else Act.QUERY_OVERRIDDEN
    act = Entry(at=at, actor=run.asker.user, action=action, reason=run.reason, details=details)
    await record_in(connection, organization, None, act)


async def end(runtime: Runtime, run: Run, outcome: str, seconds: float) -> None:
    """Record how an execution ended."""
    async with runtime.reserve.connection() as connection:
        await connection.rows(
            END_EXECUTION,
            organization=run.asker.organization,
            id=run.answer.id,
            outcome=outcome,
            seconds=round(seconds, 6),
            rows=run.answer.rows,
            truncated=run.answer.truncated if outcome == "complete" else None,
        )
