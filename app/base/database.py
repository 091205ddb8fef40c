"""The pool, the codecs and the transactions. Statements come from statements.py; nothing here writes SQL of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import asyncpg
import stamina
import structlog
from prometheus_client import Counter, Histogram

from app.base import exact_json, fence
from app.base.errors import DatabaseBusy, DatabaseUnavailable
from app.base.places import Shares, holder
from app.base.pool import Pool
from app.base.prepared import Raw, Shapes
from app.base.settings import Settings

log = structlog.get_logger(__name__)
T = TypeVar("T")
DURATION = Histogram("vanguard_statement_seconds", "Time of each statement, by its file", ["statement"])
duration_of = lru_cache(maxsize=1024)(DURATION.labels)
SLOW = Counter("vanguard_slow_statements_total", "Statements over the configured bound", ["statement"])

EPOCH = date(2000, 1, 1).toordinal()  # PostgreSQL counts days from here
EPOCH_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)
INFINITY = 2**63 - 1  # as PostgreSQL stores it, and one less for what is before all time
MICROSECOND = timedelta(microseconds=1)

# How statements are planned, wherever they are: here, in tests of plans, in benchmarks.
PLANNING: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    # A generic plan expects the average user. Where a few have all the drafts it would read everybody's, and start
    # workers for it: a KPI answer of 2 ms took 180. Every table has an index by its organization, so nothing has to be
    # read from end to end.
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "work_mem": "32MB",
    "jit": "off",
}

CHECK_CLIENT = "500"  # milliseconds between two looks whether somebody still waits for a statement

RETRIED = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # A relation has other columns than when the statement was prepared here. Outside of transactions the driver itself
    # prepares it anew.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)

# What a connection says when it is gone: the pool replaces it, the caller is told to come again.
LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TooManyConnectionsError,
    # Or that it cannot be made: the database is not there (yet), or does not let us in.
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)


TOOK_TOO_LONG = (
    "The answer was broken off after {seconds:.0f} seconds. Narrow the filter, sort by a fast field, or export."
)


class Runnable(Protocol):
    """What a connection runs: a statement of sql/, or one that was composed and brings its values."""

    @property
    def name(self) -> str:
        """Its file, for metrics and logs."""

    @property
    def text(self) -> str:
        """SQL with `$1` and on."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of `$1` and on; those without one are values that a condition was composed with."""

    @property
    def composed(self) -> bool:
        """Whether there are as many texts of it as questions, and only some are worth preparing."""

    def bind(self, given: Mapping[str, Any], /) -> Sequence[Any]:
        """The values of `$1` and on."""


class Connection:
    """An asyncpg connection that takes statements by their file, with named values, and times each one.

    `timeout`: seconds that each statement may take; None: as long as any may. `prepared`: how many composed statements
    it keeps prepared.
    """

    def __init__(
        self, raw: Raw, slow_ms: float, shapes: Shapes | None = None, prepared: int = 0, timeout: float | None = None
    ):
        self.raw = raw
        self._slow_ms, self._timeout = slow_ms, timeout
        self._shapes, self._prepared = shapes or Shapes(), prepared
        self._put_off: list[tuple[Runnable, dict[str, Any]]] = []

    async def rows(self, statement: Runnable, /, **given: Any) -> Sequence[asyncpg.Record]:
        """All rows of the statement; like the others it raises TypeError for a value that is missing or unknown."""
        found: Sequence[asyncpg.Record] = await self._timed(statement, "fetch", given)
        return found

    async def row(self, statement: Runnable, /, **given: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        found: asyncpg.Record | None = await self._timed(statement, "fetchrow", given)
        return found

    async def value(self, statement: Runnable, /, **given: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._timed(statement, "fetchval", given)

    async def batches(
        self, statement: Runnable, size: int, /, **given: Any
    ) -> AsyncGenerator[Sequence[asyncpg.Record], None]:
        """All rows of the statement, `size` at a time and of one snapshot; inside a transaction. Each batch is timed by
        itself, and between two of them others get their turn.
        """
        cursor = await self._timed(statement, "cursor", given)
        while rows := await self._clocked(statement, cursor.fetch(size)):
            yield rows
            await asyncio.sleep(0)

    def put_off(self, statement: Runnable, /, **given: Any) -> None:
        """Run the statement at the end of the transaction, in the order of these calls; the same one once."""
        assert self.raw.is_in_transaction(), "nothing would end by running it"
        if (statement, given) not in self._put_off:
            self._put_off.append((statement, given))

    async def finish(self) -> Any:
        """Run what was put off, before the transaction ends; the first column of the last one, None for nothing."""
        found = None
        while self._put_off:
            statement, given = self._put_off.pop(0)
            found = await self.value(statement, **given)
        return found

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A READ COMMITTED transaction of this connection. What was put off ends it."""
        try:
            async with self.raw.transaction():
                yield
                await self.finish()
        finally:
            self._put_off.clear()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of a transaction that can fail by itself: then nothing that it put off is run."""
        before = len(self._put_off)
        try:
            async with self.raw.transaction():
                yield
        except BaseException:
            del self._put_off[before:]
            raise

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` in a transaction of this connection, and again after what RETRIED says."""
        async for attempt in stamina.retry_context(on=RETRIED, attempts=3, wait_initial=0.02, wait_max=0.1):
            with attempt:
                async with self.transaction():
                    return await work()
        raise AssertionError("stamina returns or raises")

    async def _timed(self, statement: Runnable, method: str, given: Mapping[str, Any]) -> Any:
        values = statement.bind(given)
        if statement.composed:
            return await self._clocked(statement, self._composed(statement.text, method, values))
        return await self._clocked(statement, getattr(self.raw, method)(statement.text, *values, timeout=self._timeout))

    async def _composed(self, text: str, method: str, values: Sequence[Any]) -> Any:
        try:
            return await self._once(text, method, values)
        except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
            self.raw.forget_composed()
            if self.raw.is_in_transaction():
                raise
        # Once more, as the driver does with what it prepares itself. Not by way of its cache: while a text is there, it
        # closes no statement of that text, ours neither.
        return await self._once(text, method, values)

    async def _once(self, text: str, method: str, values: Sequence[Any]) -> Any:
        prepared = await self.raw.composed(text, self._shapes, self._prepared, self._timeout)
        return await getattr(prepared, method)(*values, timeout=self._timeout)

    async def _clocked(self, statement: Runnable, called: Awaitable[Any]) -> Any:
        started = time.perf_counter()
        try:
            return await called
        except TimeoutError:
            # asyncpg has the server end it, which may have prepared it before.
            self.raw.unsure = True
            raise DatabaseBusy(TOOK_TOO_LONG.format(seconds=time.perf_counter() - started), retry_after=10) from None
        finally:
            seconds = time.perf_counter() - started
            duration_of(statement.name).observe(seconds)
            if seconds * 1000 > self._slow_ms:
                SLOW.labels(statement.name).inc()
                log.warning("slow statement", statement=statement.name, milliseconds=round(seconds * 1000))


class Fenced(Connection):
    """In development: no statement runs before it is proved to be of the caller's organization (app/base/fence)."""

    _timed = fence.guarded(Connection._timed)


class Lent:
    """A connection of the pool, for the time of a block."""

    __slots__ = ("_database", "_pool", "_raw", "_whose")

    def __init__(self, database: "Database", pool: Pool):
        self._database = database
        self._pool = pool

    async def __aenter__(self) -> Connection:
        self._whose = whose = holder.get() if self._database.shared else None
        try:
            self._raw = await self._pool.take(whose)
        except Exception as error:
            if _is_lost(error):
                raise _unavailable(error) from error
            raise
        return self._database.at(self._raw, None if whose is None else whose.statement_timeout)

    async def __aexit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        lost = error is not None and _is_lost(error, self._raw)
        # A refusal leaves the connection as it was. What was broken off leaves it busy, and so may misuse. Where the
        # database is away for another connection, it is for this one, too.
        refused = isinstance(error, Exception) and not isinstance(error, asyncpg.InterfaceError | DatabaseUnavailable)
        self._pool.give_back(self._raw, self._whose, fit=error is None or (refused and not lost))
        if error is not None and lost:
            self._pool.drop_idle()
            raise _unavailable(error) from error


class Database:
    """The application's pool; connections act as the role `vanguard_app`, whoever logs in.

    `shared`: by users and organizations, each with a share; else nobody's requests are counted.
    """

    def __init__(self, settings: Settings, *, shared: bool = True):
        self._settings = settings
        self.shared = shared
        self._pool: Pool | None = None
        self._shapes = Shapes()
        fenced = settings.environment == "development" and fence.is_up()
        self._connection: type[Connection] = Fenced if fenced else Connection

    async def open(self) -> None:
        """Make the pool. It connects when it is first used, so that a service outlives its database's absence."""
        self._pool = Pool(self._connect, _shares(self._settings))

    async def close(self) -> None:
        """Close every connection; those that do not answer are cut off."""
        if self._pool is not None:
            await self._pool.close()

    async def _connect(self) -> Raw:
        milliseconds = str(int(self._settings.statement_timeout * 1000))
        raw: Raw = await asyncpg.connect(
            self._settings.database_url,
            connection_class=Raw,
            command_timeout=self._settings.statement_timeout + 5,
            timeout=10,
            # A generic plan of a page takes the server about a megabyte.
            statement_cache_size=100,
            max_cacheable_statement_size=64 * 1024,
            server_settings={
                "application_name": "vanguard",
                "role": self._settings.database_role,
                **PLANNING,
                "statement_timeout": milliseconds,
                "lock_timeout": milliseconds,
                "idle_in_transaction_session_timeout": "60000",
                # A statement whose service or connection is gone ends by itself: nobody is left to cancel it.
                "client_connection_check_interval": CHECK_CLIENT,
                "timezone": "UTC",
                "datestyle": "ISO",
            },
        )
        try:
            await _prepare(raw)
        except BaseException:
            raw.terminate()
            raise
        return raw

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Connection]:
        """A connection of one's own for the time of the block, beside the pool; raises DatabaseUnavailable."""
        raw = None
        try:
            raw = await self._connect()
            yield self.at(raw)
        except Exception as error:
            if _is_lost(error, raw):
                raise _unavailable(error) from error
            raise
        finally:
            if raw is not None:
                raw.terminate()

    def connection(self) -> "Lent":
        """A connection outside any transaction: one statement, one snapshot; raises DatabaseUnavailable if lost."""
        assert self._pool is not None, "the database was not opened"
        return Lent(self, self._pool)

    def at(self, raw: Raw, timeout: float | None = None) -> Connection:
        """The connection as statements are run over it."""
        settings = self._settings
        return self._connection(raw, settings.slow_statement_ms, self._shapes, settings.prepared_statements, timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction; it commits at the end of the block and rolls back on any exception."""
        committing = False
        try:
            async with self.connection() as connection, connection.transaction():
                yield connection
                await connection.finish()
                committing = True
        except DatabaseUnavailable as error:
            if committing:
                error.detail = (
                    "The connection broke while saving: it is not known whether it was saved. "
                    "Send it again with the same Idempotency-Key, or look before you do."
                )
            raise

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A REPEATABLE READ transaction that writes nothing: all of its statements see the same."""
        async with (
            self.connection() as connection,
            connection.raw.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, and once more after what RETRIED says."""
        async for attempt in stamina.retry_context(on=RETRIED, attempts=2, wait_initial=0.02, wait_max=0.1):
            with attempt:
                async with self.transaction() as connection:
                    return await work(connection)
        raise AssertionError("stamina returns or raises")


def _shares(settings: Settings) -> Shares:
    return Shares(
        places=settings.pool_size,
        user=settings.user_connections,
        user_queue=settings.user_queue,
        organization=max(1, int(settings.pool_size * settings.organization_share)),
        patience=settings.pool_timeout,
    )


def _is_lost(error: BaseException, raw: "Raw | None" = None) -> bool:
    if isinstance(error, LOST):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg reports the loss of a connection in use this way; misuse of the driver is our defect.
        return "closed" in str(error) or "released" in str(error)
    # The server's farewell has been read, and the end of the connection has not.
    return isinstance(error, asyncpg.InternalClientError) and raw is not None and raw.is_closed()


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    log.warning("database connection lost", error=type(error).__name__)
    return DatabaseUnavailable("Nothing was saved. Try again in a moment.", retry_after=2)


def _moment(microseconds: int) -> datetime:
    """The moment so many microseconds from 2000 on; what PostgreSQL calls infinity is the last one, or the first."""
    if abs(microseconds) >= INFINITY:
        return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)
    return EPOCH_MOMENT + timedelta(microseconds=microseconds)


async def _prepare(raw: Raw) -> None:
    await raw.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + exact_json.encode(value),
        decoder=lambda stored: exact_json.decode(stored[1:]),
    )
    # asyncpg's own codec takes 9999-12-31, which systems of record write for "no end", for infinity.
    await raw.set_type_codec(
        "date",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda day: (day.toordinal() - EPOCH,),
        decoder=lambda stored: date.fromordinal(stored[0] + EPOCH),
    )
    # Nor is the first or the last moment of its calendar infinity.
    await raw.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda moment: ((moment - EPOCH_MOMENT) // MICROSECOND,),
        decoder=lambda stored: _moment(stored[0]),
    )
