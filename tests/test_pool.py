"""The pool: nobody gets what somebody else is still at, and every place comes back."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import psycopg
import pytest

from app.base import pool as pools
from app.base.database import Database
from app.base.errors import DatabaseUnavailable, Forbidden
from app.base.places import Places, Shares
from app.base.pool import Pool
from app.base.settings import Settings
from tests.support.world import SECRET, World

PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(Settings(database_url=database_url, secret=SECRET, pool_size=2))
    await database.open()
    yield database
    await database.close()


async def pid(database: Database) -> Any:
    async with database.connection() as connection:
        return await connection.raw.fetchval(PID)


def pool_of(database: Database) -> Pool:
    assert database._pool is not None
    return database._pool


async def test_a_connection_is_used_again(database: Database) -> None:
    assert pool_of(database).idle == 0
    assert await pid(database) == await pid(database)
    assert pool_of(database).idle == 1


async def test_there_are_no_more_than_places(database: Database) -> None:
    held, pair = 0, asyncio.Barrier(2)

    async def work() -> Any:
        nonlocal held
        async with database.connection() as connection:
            held += 1
            await pair.wait()
            assert held == 2
            found = await connection.raw.fetchval(PID)
            await pair.wait()
            held -= 1
            return found

    found = await asyncio.gather(*(work() for _ in range(20)))
    assert (len(set(found)), pool_of(database).idle) == (2, 2)


async def test_who_waits_too_long_is_told(database_url: str) -> None:
    database = Database(Settings(database_url=database_url, secret=SECRET, pool_size=2, pool_timeout=0.05))
    await database.open()
    async with database.connection(), database.connection():
        with pytest.raises(DatabaseUnavailable):
            await pid(database)
    await pid(database)
    await database.close()


async def test_a_refusal_leaves_the_connection_as_it_was(database: Database) -> None:
    before = await pid(database)
    for error in (Forbidden("no"), ValueError("no")):
        with pytest.raises(type(error)):
            async with database.transaction():
                raise error
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.connection() as connection:
            await connection.raw.fetchval("SELECT 1 / 0")
    assert await pid(database) == before


async def test_a_statement_that_was_broken_off_takes_its_connection_along(database: Database) -> None:
    before = await pid(database)
    begun = asyncio.Event()

    async def wait() -> None:
        async with database.connection() as connection:
            begun.set()
            await connection.raw.fetchval("SELECT pg_sleep(60)")

    waiting = asyncio.create_task(wait())
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool_of(database).idle == 0
    assert before not in await asyncio.gather(pid(database), pid(database))


async def test_where_one_connection_was_lost_those_that_wait_are_not_used_again(
    database: Database, database_url: str
) -> None:
    """They went with it, most often, and may not have heard of their own end."""
    pair = asyncio.Barrier(2)

    async def both() -> Any:
        async with database.connection() as connection:
            await pair.wait()
            return await connection.raw.fetchval(PID)

    before = await asyncio.gather(both(), both())
    assert pool_of(database).idle == 2

    async def lose() -> None:
        async with database.connection() as connection:
            lost = await connection.raw.fetchval(PID)
            with psycopg.connect(database_url) as other:
                other.execute("SELECT pg_terminate_backend(%s, 60000)", [lost])
            await connection.raw.fetchval("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await lose()
    assert pool_of(database).idle == 0
    assert await pid(database) not in before


async def test_a_connection_is_not_fit_where_the_database_is_away_for_another(database: Database) -> None:
    """Given two connections in one task, when the inner one is lost, then the outer one is not used again either."""
    before = await pid(database)

    async def lose_inner() -> None:
        async with database.connection(), database.connection():
            raise ConnectionResetError

    with pytest.raises(DatabaseUnavailable):
        await lose_inner()
    assert pool_of(database).idle == 0
    assert await pid(database) != before


@contextmanager
def unheard_of_driver() -> Iterator[None]:
    """The driver waits for its COPY by itself, and asyncio tells that nobody has heard how that ended; nothing else."""
    loop, told = asyncio.get_running_loop(), list[str]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(f"{context['message']}: {context['exception']!r}"))
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    lost = "ConnectionDoesNotExistError('connection was closed in the middle of operation"
    assert all(each.startswith(f"Future exception was never retrieved: {lost}") for each in told), told


async def test_a_copy_that_finds_the_servers_farewell_is_a_lost_connection(
    database: Database, database_url: str
) -> None:
    """Given a service that stands still while the server answers it and then ends its connection, when it goes on and
    copies rows, then the connection is lost, and nobody takes it for one that is still at work.
    """

    def stand_still(backend: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as other:
            state = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
            while other.execute(state, [backend]).fetchone() != ("active", "ClientRead"):  # it has answered
                pass
            other.execute("SELECT pg_terminate_backend(%s, 60000)", [backend])

    async def copy() -> None:
        async with database.transaction() as connection:
            await connection.raw.execute("CREATE TEMP TABLE copied (a int)")
            # Once the driver has asked what columns there are, and before it hears of them.
            asyncio.get_running_loop().call_soon(stand_still, connection.raw.get_server_pid())
            await connection.raw.copy_records_to_table("copied", records=[(1,)])

    with unheard_of_driver():
        with pytest.raises(DatabaseUnavailable):
            await copy()
        await asyncio.sleep(0)  # the driver lets go of what it waited for
    assert pool_of(database).idle == 0


async def test_a_transaction_that_was_left_open_ends_with_its_connection(database: Database) -> None:
    async with database.connection() as connection:
        await connection.raw.execute("BEGIN")
    assert pool_of(database).idle == 0


async def test_an_old_connection_is_not_used_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await pid(database)
    monkeypatch.setattr(pools, "KEPT", 0.0)
    assert await pid(database) != before


async def test_a_place_comes_back_where_no_connection_can_be_made() -> None:
    async def fail() -> Any:
        raise ConnectionRefusedError

    pool = Pool(fail, Shares(places=1, user=1, user_queue=0, organization=1, patience=1))
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await pool.take()


async def test_a_closed_pool_gives_nothing_away(database: Database) -> None:
    async with database.connection() as connection:
        await pid(database)
        await database.close()
        assert pool_of(database).idle == 0
        assert await connection.raw.fetchval("SELECT 1") == 1
    assert connection.raw.is_closed()
    with pytest.raises(DatabaseUnavailable):
        await pid(database)


async def test_a_connection_that_has_worked_in_many_schemas_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL would keep for it what it has read of each."""
    monkeypatch.setattr(pools, "MOST_SCHEMAS", 3)
    first = await pid(database)
    for schema in ("own_1", "own_2", "own_1", "own_2"):
        async with database.connection() as connection:
            connection.raw.schemas.add(schema)
    assert await pid(database) == first
    async with database.connection() as connection:
        connection.raw.schemas.add("own_3")
    assert await pid(database) != first


async def test_a_time_without_an_end_is_the_last_one(world: World) -> None:
    async with world.runtime.database.connection() as connection:
        (found,) = await connection.raw.fetch(
            "SELECT 'infinity'::timestamptz AS last, '-infinity'::timestamptz AS first"
        )
    assert (found["last"], found["first"]) == (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))


@pytest.mark.anyio
async def test_who_gave_up_waiting_is_passed_over_though_they_have_not_gone_yet() -> None:
    """A place comes free in the moment between a cancellation and its arrival: it is the next one's, and not lost."""
    places = Places(Shares(places=1, user=1, user_queue=9, organization=1, patience=20.0))
    await places.take(None)
    gives_up, next_one = [asyncio.create_task(places.take(None)) for _ in range(2)]
    await asyncio.sleep(0)  # both wait
    gives_up.cancel()
    places.release(None)
    await next_one
    assert (await asyncio.gather(gives_up, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert places.free == 0
    places.release(None)
    assert places.free == 1
