"""What the micro-benchmarks share: the server of the tests, and a small world that is made once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest

from app.base.database import Database
from app.base.settings import Settings
from app.contracts import BUILT_IN
from app.dev.seed import seed
from app.organizations import add_organization
from tests.conftest import bin_dir, new_database, server_url, template
from tests.support.world import SECRET

__all__ = ["bin_dir", "server_url", "template"]

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]
LINES = 5_000


def result(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that waits for nothing returns, without the cost of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("it waits for something")


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of all that waits for the database."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture(scope="session")
def database(server_url: str, template: str, loop: asyncio.AbstractEventLoop) -> Iterator[Database]:
    """The application's own pool over 5,000 seeded lines of the organization acme."""

    async def filled(url: str) -> Database:
        database = Database(Settings(database_url=url, secret=SECRET))
        await database.open()
        await add_organization(database, "acme", "acme", BUILT_IN)
        await seed(url, "acme", LINES)
        return database

    with new_database(server_url, template) as url:
        database = loop.run_until_complete(filled(url))
        yield database
        loop.run_until_complete(database.close())


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings of a service that is never connected."""
    return Settings(database_url="postgresql://nowhere", secret=SECRET)


class Transaction:
    """A transaction of the application that is rolled back, so that each round finds the same rows."""

    def __init__(self, loop: asyncio.AbstractEventLoop, database: Database):
        self._loop, self._database = loop, database
        self._block: Any = None

    def begin(self) -> Any:
        """Its connection."""
        self._block = self._database.transaction()
        return self._loop.run_until_complete(self._block.__aenter__())

    def roll_back(self, *_: Any) -> None:
        """End it as an exception does."""
        error = _Enough()
        try:
            self._loop.run_until_complete(self._block.__aexit__(_Enough, error, None))
        except _Enough:
            return


class _Enough(Exception):
    """The round is over."""


@pytest.fixture
def transaction(loop: asyncio.AbstractEventLoop, database: Database) -> Transaction:
    """Not begun yet."""
    return Transaction(loop, database)
