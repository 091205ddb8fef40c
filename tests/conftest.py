"""The server under test: TEST_DATABASE_URL's, or one from VANGUARD_TEST_PG_BINDIR, from the wheel, from Docker.

Every xdist worker starts a server of its own, in well under two seconds: roles belong to a whole server.
"""

import os
import re
import shutil
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import stamina
import structlog
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.base import fence
from app.base.database import Connection
from app.dev.postgres import DevDatabaseError, Server, embedded_bin_dir
from app.migrate import migrate
from tests.support.cases import pytest_configure
from tests.support.limits import (
    pytest_collection_modifyitems,
    pytest_pyfunc_call,
    pytest_report_collectionfinish,
    pytest_runtest_teardown,
)
from tests.support.moves import hold_moves
from tests.support.roles import forget_freely
from tests.support.warm import ESTIMATES, Warm
from tests.support.world import CONTRACTS, User, World, open_world

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_report_collectionfinish",
    "pytest_runtest_teardown",
]

# Nothing here has to outlive a power cut: it is kept in memory, where there is room. A copy of the template takes a
# third of the time then. No autovacuum: while it reads a table, nothing that was written since is visible to all, and a
# plan that a test made sure of by VACUUM ANALYZE is another one.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "autovacuum": "off",
}
MEMORY = Path("/dev/shm")
ENOUGH = 4 * 2**30  # bytes; two servers take less than half of it


def pytest_itemcollected(item: pytest.Item) -> None:
    """What asks a database of the server under test is marked: with another server nothing else is another."""
    if isinstance(item, pytest.Function) and {"server_url", "bin_dir"} & {*item.fixturenames}:
        item.add_marker(pytest.mark.database)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for the whole session, so that fixtures of any scope can be asynchronous."""
    return "asyncio"


@pytest.fixture(autouse=True)
def logs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test sets logs to, by a command of `vanguard` too, ends with it: no logger keeps what it first got."""
    configure = structlog.configure

    def configure_for_now(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", configure_for_now)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def authorities_read_once() -> Iterator[None]:
    """Every client of HTTP reads all authorities that the system trusts, in seventy milliseconds, and each test of PEMS
    makes one or more. Here those that name the same files share what was read.
    """
    create = ssl.create_default_context
    kept: dict[Any, ssl.SSLContext] = {}

    def create_once(*words: Any, **options: Any) -> ssl.SSLContext:
        places = [os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
        asked = (*words, *sorted(options.items()), *places)
        return kept[asked] if asked in kept else kept.setdefault(asked, create(*words, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def fence_up() -> Iterator[None]:
    """No test runs a statement that is not proved to be of the caller's organization."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_timed", fence.guarded(Connection._timed))
        yield


@pytest.fixture(scope="session")
def bin_dir() -> Path | None:
    """The programs of the PostgreSQL under test; None for the embedded ones."""
    given = os.environ.get("VANGUARD_TEST_PG_BINDIR")
    return Path(given) if given else None


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory for a server. pytest's own has a name too long for a socket, and is closed again by the next run."""
    with new_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def server_url(bin_dir: Path | None) -> Iterator[str]:
    """The address of a database from which others can be created."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    if bin_dir is None and not _has_embedded():
        from testcontainers.postgres import PostgresContainer  # only here: it looks for Docker's settings on import

        with PostgresContainer("postgres:18", driver=None) as container:
            yield container.get_connection_url()
        return
    with new_directory() as directory, Server(directory / "pg", bin_dir=bin_dir, settings=FAST) as server:
        yield server.url("postgres")


@contextmanager
def new_directory() -> Iterator[Path]:
    """A directory for a server, with a short name; gone in the end."""
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    place = MEMORY if roomy else None
    with tempfile.TemporaryDirectory(prefix="vanguard-test-", dir=place, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@contextmanager
def new_database(server_url: str, template: str | None = None) -> Iterator[str]:
    """The address of a new database, empty or copied from the one at the address `template`; dropped in the end."""
    name = f"vanguard_test_{uuid.uuid4().hex[:12]}"
    origin = "template0" if template is None else str(conninfo_to_dict(template)["dbname"])
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(origin)
            )
        )
        try:
            yield re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\1/{name}", server_url)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def create_database(server_url: str) -> Iterator[Callable[..., str]]:
    """`create_database(template=None)` returns a new database's address; all are dropped after the test."""
    with ExitStack() as databases:
        yield lambda template=None: databases.enter_context(new_database(server_url, template))


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """A migrated database with the contracts of the tests, to copy from."""
    with new_database(server_url) as url:
        migrate(url, CONTRACTS)
        hold_moves(url, CONTRACTS)
        forget_freely(url)
        yield url


@pytest.fixture(scope="session")
async def warm_database(server_url: str, template: str, anyio_backend: str) -> AsyncIterator[Warm]:
    """Migrated databases, for one test after the other. Asynchronous, so that the event loop lasts as long: connections
    belong to it.
    """
    warm = Warm(lambda: new_database(server_url, template))
    yield warm
    warm.drop()


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, server_url: str, template: str, warm_database: Warm
) -> Iterator[str]:  # fmt: skip
    """A migrated database that holds nothing, for the time of the test."""
    if ESTIMATES.fullmatch(request.path.stem):
        with new_database(server_url, template) as url:
            yield url
        return
    with warm_database.lent() as url:
        yield url


@pytest.fixture
async def world(database_url: str, warm_database: Warm) -> AsyncIterator[World]:
    """The application over an empty database, with the organization acme."""
    async with open_world(database_url, warm=warm_database) as world:
        await world.organization("acme")
        yield world


@pytest.fixture
async def ann(world: World) -> User:
    """An analyst of acme."""
    return await world.user("ann")


@pytest.fixture
async def bob(world: World) -> User:
    """Another analyst of acme."""
    return await world.user("bob")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Nobody waits between two attempts."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def _has_embedded() -> bool:
    try:
        return embedded_bin_dir().is_dir()
    except DevDatabaseError:
        return False
