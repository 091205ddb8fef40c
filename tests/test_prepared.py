"""Prepared statements have a bound: questions that somebody makes up do not fill the database's memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from app.base.database import Connection, Database
from app.base.errors import DatabaseBusy
from app.base.prepared import LARGEST, REMEMBERED, Shapes
from app.base.settings import Settings
from app.base.statements import Statement
from app.contracts import PFA
from app.engine.view import Composed
from benchmarks.memory import growth
from tests.support.world import SECRET, World, line, open_world

OF_THE_TEST = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT % -- of the test'"
NAMED = r"SELECT statement FROM pg_prepared_statements WHERE statement ~ '^SELECT \d+ \+'"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(Settings(database_url=database_url, secret=SECRET, prepared_statements=3))
    await database.open()
    yield database
    await database.close()


# A table that only the test knows.
ITS_OWN = "-- All organizations: the test's own.\nSELECT * FROM public.test -- of the test"


def question(number: int, more: str = "") -> Composed:
    """One of as many texts as there are questions."""
    return Composed(Statement("rows/of_the_test", f"SELECT {number} + $1::int AS found -- of the test{more}"), [1])


async def kept(connection: Connection) -> list[int]:
    """The questions that the server has prepared, by their number."""
    return [int(row["statement"].split()[1]) for row in await connection.raw.fetch(NAMED)]


async def ask(connection: Connection, *numbers: int) -> None:
    for number in numbers:
        assert await connection.value(question(number)) == number + 1


async def test_what_comes_once_is_not_prepared(database: Database) -> None:
    async with database.connection() as connection:
        await ask(connection, *range(500))
        assert await kept(connection) == []
        await ask(connection, 499)
        assert await kept(connection) == [499]


async def test_what_came_to_another_connection_has_come_before(database: Database) -> None:
    async with database.connection() as one, database.connection() as other:
        await ask(one, 1)
        await ask(other, 1)
        assert (await kept(one), await kept(other)) == ([], [1])


async def test_a_connection_keeps_those_that_it_used_last(database: Database) -> None:
    async with database.connection() as connection:
        for number in range(50):
            await ask(connection, number, number)
        # The server hears of the last one that went when the next one comes.
        assert set(await kept(connection)) <= {46, 47, 48, 49}
        await ask(connection, 47, 50, 50, 51, 51)
        assert {47, 50, 51} <= set(await kept(connection))
        assert len(await kept(connection)) <= 4


async def test_what_is_large_is_never_prepared(database: Database) -> None:
    async with database.connection() as connection:
        large = question(1, "x" * LARGEST)
        for _ in range(5):
            assert await connection.value(large) == 2
        assert await kept(connection) == []


def test_a_process_remembers_so_many_shapes() -> None:
    shapes = Shapes()
    assert not shapes.is_common("first")
    for number in range(REMEMBERED - 1):
        assert not shapes.is_common(str(number))
    assert shapes.is_common("first")
    assert not shapes.is_common("another")
    assert not shapes.is_common("0")


@pytest.mark.parametrize("method", ["rows", "row", "value"])
async def test_it_is_prepared_anew_where_a_relation_has_other_columns(
    database: Database, world: World, method: str
) -> None:
    """As by the driver: outside of a transaction at once, in one by whoever runs it again."""
    await world.db.execute("CREATE TABLE public.test AS SELECT 1 AS a; GRANT SELECT ON public.test TO PUBLIC")
    asked = Composed(Statement("rows/of_the_test", ITS_OWN), [])
    async with database.connection() as connection:
        for _ in range(3):
            await getattr(connection, method)(asked)
        await world.db.execute("ALTER TABLE public.test ADD COLUMN b int DEFAULT 2")
        await getattr(connection, method)(asked)
        assert list((await connection.rows(asked))[0].items()) == [("a", 1), ("b", 2)]
        for _ in range(3):
            await connection.rows(asked)
        await world.db.execute("ALTER TABLE public.test ADD COLUMN c int DEFAULT 3")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with connection.transaction():
                await connection.rows(asked)

        async def again() -> Any:
            return dict((await connection.rows(asked))[0])

        await world.db.execute("ALTER TABLE public.test ADD COLUMN d int DEFAULT 4")
        assert await connection.run(again) == {"a": 1, "b": 2, "c": 3, "d": 4}


async def test_what_was_prepared_anew_is_forgotten_like_others(database: Database, world: World) -> None:
    """The driver closes no statement whose text is in its own cache."""
    await world.db.execute("CREATE TABLE public.test AS SELECT 1 AS a; GRANT SELECT ON public.test TO PUBLIC")
    asked = Composed(Statement("rows/of_the_test", ITS_OWN), [])
    async with database.connection() as connection:
        for _ in range(3):
            await connection.rows(asked)
        await world.db.execute("ALTER TABLE public.test ADD COLUMN b int DEFAULT 2")
        for number in range(0, 50, 5):
            await connection.rows(asked)
            await ask(connection, *(each for each in range(number, number + 5) for _ in range(2)))
        assert await connection.raw.fetchval(OF_THE_TEST) <= 4


@pytest.mark.parametrize("composed", [True, False])
async def test_a_connection_ends_whose_statement_was_not_waited_for(
    database: Database, world: World, composed: bool
) -> None:
    """What is prepared waits for locks, too. The server may be done with it just before it is told to end it, and then
    keeps what nobody here knows of.
    """
    await world.db.execute("CREATE TABLE public.test AS SELECT 1 AS a; GRANT SELECT ON public.test TO PUBLIC")
    statement = Statement("rows/of_the_test", ITS_OWN)
    asked = Composed(statement, []) if composed else statement
    async with world.db.acquire() as owner, owner.transaction():
        await owner.execute("LOCK TABLE public.test IN ACCESS EXCLUSIVE MODE")
        async with database.connection() as lent:
            with pytest.raises(DatabaseBusy):
                await Connection(lent.raw, 1e9, prepared=3, timeout=0.2).rows(asked)
    assert lent.raw.is_closed()
    async with database.connection() as lent:
        assert [dict(row) for row in await lent.rows(asked)] == [{"a": 1}]


@pytest.mark.parametrize("times", [1, 2])
async def test_batches_go_on_while_others_are_asked(database: Database, times: int) -> None:
    """The unnamed statement is gone with the next one, and what is under way is not."""
    many = Composed(Statement("rows/of_the_test", "SELECT generate_series(1, 50) AS found -- of the test"), [])
    async with database.connection() as connection:
        for time in range(times):
            found = []
            async with connection.transaction():
                async for rows in connection.batches(many, 5):
                    await ask(connection, *range(time * 100, time * 100 + 4), *range(time * 100, time * 100 + 4))
                    found += [row["found"] for row in rows]
            assert found == [*range(1, 51)]


async def test_connections_beside_each_other_keep_their_own(database: Database) -> None:
    async def work(place: int) -> int:
        async with database.connection() as connection:
            for number in range(100):
                await ask(connection, (number * place) % 17, number)
            return len(await kept(connection))

    assert max(await asyncio.gather(*(work(place) for place in range(1, 9)))) <= 4


async def test_random_listings_do_not_fill_the_memory(database_url: str) -> None:
    """As of docs/operations.md; the figure over 2,000 of them is the benchmark's."""
    async with open_world(database_url) as world:
        await world.organization("acme")
        await world.mirror({"A": line()})
        user = await world.user("ann")
        grown = await growth(world.runtime.database, PFA, "acme", user.id, connections=2, listings=200, seed=7)
    assert grown < 60 * 2**20
