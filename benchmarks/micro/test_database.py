"""The application's own functions against PostgreSQL, on 5,000 seeded lines and a user with 100 drafts."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from app.base.database import Connection, Database
from app.commits import CommitRequest, commit
from app.contracts import PFA
from app.contracts.filters import read_listing
from app.drafts import Draft, save
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.page import PageComposer
from app.rows import read_row
from benchmarks.micro.conftest import Transaction

AT = datetime(2026, 3, 1, tzinfo=UTC)
ROUNDS = 50
SIZES = pytest.mark.parametrize("size", [1, 100])


def drafts(size: int) -> list[Draft]:
    """Drafts that move their rows, spread over the lines."""
    return [
        Draft(id=f"PFA-{number * 40 + 1:07d}", delta={"forecastStart": f"2024-01-{number % 28 + 1:02d}"})
        for number in range(size)
    ]


@pytest.fixture(scope="module", autouse=True)
def _drafted(loop: asyncio.AbstractEventLoop, database: Database) -> None:
    """The reader has 100 drafts."""

    async def draft() -> None:
        async with database.transaction() as connection:
            await save(Desk(connection, PFA, "acme"), "reader", drafts(100), AT)

    loop.run_until_complete(draft())


def reading(loop: asyncio.AbstractEventLoop, database: Database, read: Callable[[Connection], Any]) -> Any:
    """What `read` yields with a connection of the pool."""

    async def work() -> Any:
        async with database.connection() as connection:
            return await read(connection)

    return loop.run_until_complete(work())


@pytest.mark.parametrize("cursor", [None, Cursor(("2026-03-01",), "PFA-0002500")], ids=["first", "deep"])
@pytest.mark.parametrize("user", ["nobody", "reader"])
def test_a_page_of_100_is_read(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, database: Database, cursor: Cursor | None, user: str
) -> None:
    composer = PageComposer(PFA, read_listing(PFA, [("sort", "forecastStart")]), "acme", user)
    page = composer.page(cursor, counted=True, base_count=False)
    found = benchmark(lambda: reading(loop, database, lambda connection: connection.row(page)))
    assert found["reached"] == 101


def test_one_row_with_its_layers_is_read(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, database: Database
) -> None:
    key = drafts(1)[0].id
    found = benchmark(
        lambda: reading(loop, database, lambda connection: read_row(Desk(connection, PFA, "acme"), "reader", key))
    )
    assert found["op"] == "update"


@SIZES
def test_drafts_are_saved(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, transaction: Transaction, size: int
) -> None:
    """Each round in a transaction that is rolled back; begin and rollback are not counted."""
    wanted = drafts(size)
    answer = benchmark.pedantic(
        lambda connection: loop.run_until_complete(save(Desk(connection, PFA, "acme"), "writer", wanted, AT)),
        setup=lambda: ((transaction.begin(),), {}),
        teardown=transaction.roll_back,
        rounds=ROUNDS,
        warmup_rounds=2,
    )
    assert len(answer.saved) == size


@SIZES
def test_drafts_are_committed(
    benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, transaction: Transaction, size: int
) -> None:
    """Frozen into changes; saved beforehand in the same transaction, which is not counted."""
    wanted = drafts(size)

    def saved() -> tuple[tuple[Connection], dict[str, Any]]:
        connection = transaction.begin()
        loop.run_until_complete(save(Desk(connection, PFA, "acme"), "writer", wanted, AT))
        return (connection,), {}

    answer = benchmark.pedantic(
        lambda connection: loop.run_until_complete(
            commit(Desk(connection, PFA, "acme"), "writer", CommitRequest(all=True), AT)
        ),
        setup=saved,
        teardown=transaction.roll_back,
        rounds=ROUNDS,
        warmup_rounds=2,
    )
    assert answer.committed == size
