"""What is measured on: a database with many lines and one with few, and people with drafts of every kind in both.

Everything is made with the application's own means: migrations, `vanguard seed`, accounts, and drafts by its own save.
"""

import os
import signal
import tempfile
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
import psycopg
from psycopg import sql

from app import accounts, organizations
from app.base.clock import now
from app.base.database import Database
from app.base.errors import ConfigurationError
from app.base.settings import Settings
from app.contracts import PFA
from app.contracts.filters import read_listing
from app.dev import seed
from app.dev.postgres import DevDatabaseError, Server, embedded_bin_dir
from app.drafts import MAX_DRAFTS, Draft, save
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.page import PageComposer
from app.engine.view import Composed
from app.migrate import migrate
from app.web.auth import Auth, Role
from benchmarks.api import ROOT, Api, serving

SECRET = uuid.uuid4().hex * 2  # of this run
ROLES = ["vanguard_app", "vanguard_read"]
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
AT = datetime(2026, 3, 1, tzinfo=UTC)
AWAY = "2034-01-01"  # after everything that there is

ORGANIZATION = "acme"
NEIGHBOURS = ("north", "south")
FEW = 1_000
PATH = f"/api/v1/orgs/{ORGANIZATION}/datasets/{PFA.name}"

# A common category: over a hundred lines of the first thousand, and a ninth of a million.
LISTING: Sequence[tuple[str, str]] = (("category", "Aerial Lifts"), ("sort", "forecastStart"))
SORTED: Sequence[tuple[str, str]] = (("sort", "forecastStart"),)

Tell = Callable[[str], None]
Delta = Callable[[int, str], dict[str, Any]]  # of the draft's number and the line's id


class Unavailable(ConfigurationError):
    """The benchmarks cannot run here; the message says what to do."""


@dataclass(frozen=True)
class Person:
    """Somebody with drafts."""

    id: str
    token: str
    drafts: int


@dataclass
class Place:
    """One database: the application's pool, a connection of the owner, and the people by what they drafted.

    nobody    nothing
    somebody  500 drafts all over the list, forecasts a day later
    near      as many where the list of LISTING begins: every other line, its forecast a day later
    quiet     many drafts of a field without an index
    several   a tenth of the many, as below
    spread    many drafts that move their lines, all over the list
    head      as many, of the lines that LISTING begins with, which go to its end
    writer    nothing that stays: saves and discards; so do editor, and committer and founder, who commit, too
    """

    url: str
    rows: int
    database: Database
    owner: "asyncpg.Connection[Any]"
    people: dict[str, Person] = field(default_factory=dict)

    def page(
        self,
        who: str,
        params: Sequence[tuple[str, str]] = LISTING,
        cursor: Cursor | None = None,
        organization: str = ORGANIZATION,
        counted: bool = False,
    ) -> Composed:
        """The application's statement of a page whose total is known, or that counts what the user's drafts change."""
        composer = PageComposer(PFA, read_listing(PFA, params), organization, self.people[who].id)
        return composer.page(cursor, counted=counted, base_count=False)


@dataclass
class Bench:
    """What a group of figures gets. `plot` notes a point (milliseconds) of a line in one of the document's plots.

    server: the address of the server that was named, if any.
    """

    big: Place
    small: Place
    quick: bool
    api: Api
    points: dict[str, dict[str, list[tuple[float, float]]]]
    server: str | None = None

    def rounds(self, wanted: int) -> int:
        """Fewer where everything only has to run."""
        return max(3, wanted // 20) if self.quick else wanted

    def seconds(self, wanted: float) -> float:
        """Shorter likewise."""
        return wanted / 8 if self.quick else wanted

    def plot(self, name: str, line: str, at: float, seconds: float) -> None:
        self.points.setdefault(name, defaultdict(list))[line].append((at, seconds * 1000))


@asynccontextmanager
async def prepared(rows: int, url: str | None, *, quick: bool, tell: Tell) -> AsyncIterator[Bench]:
    """Both databases with everybody in them, and the API serving the big one; all of it is gone afterwards."""
    async with AsyncExitStack() as stack:
        origin = stack.enter_context(server_at(url))
        small = await _place(stack, origin, min(FEW, rows), (), quick=quick, tell=tell)
        big = await _place(stack, origin, rows, NEIGHBOURS, quick=quick, tell=tell)
        tell("the API")
        api = await stack.enter_async_context(serving(big.url, SECRET))
        yield Bench(big, small, quick, api, {}, url)


# -- servers and databases ---------------------------------------------------------------------------------------------


@contextmanager
def server_at(url: str | None) -> Iterator[str]:
    """The address of a server to make databases on: the one that is given, or one of the benchmarks' own."""
    with _unwound_by_signals(), ExitStack() as stack:
        origin = url or stack.enter_context(_own_server())
        stack.enter_context(_role_as_found(origin))
        yield origin


@contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: what was made is taken away again. `nohup` keeps SIGHUP away."""
    heeded = [each for each in SIGNALS if each == signal.SIGTERM or signal.getsignal(each) != signal.SIG_IGN]
    before = {each: signal.signal(each, _stop) for each in heeded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """The first signal unwinds everything; another one finds that under way and changes nothing."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _own_server() -> Iterator[str]:
    """A server of the benchmarks' own, on the disk that the project is on: /tmp can be memory."""
    try:
        embedded_bin_dir()
    except DevDatabaseError as error:
        raise Unavailable(
            "There is no PostgreSQL at hand: `make venv` brings one, or name a server of yours with --url."
        ) from error
    directory = ROOT / ".vanguard"
    directory.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=directory, ignore_cleanup_errors=True) as made,
        ExitStack() as stack,
    ):
        server = Server(Path(made, "pg"), settings=server_settings(machine_memory()))
        # Before it starts: a signal in between must not leave it running.
        stack.callback(server.stop)
        try:
            server.start()
        except DevDatabaseError as error:
            raise Unavailable(str(error)) from error
        yield server.url("postgres")


def server_settings(memory: int) -> Mapping[str, str]:
    """For a server that has the machine to itself. What makes a commit durable stays as PostgreSQL has it."""
    megabytes = memory // 2**20
    return {
        "shared_buffers": f"{min(megabytes // 4, 4096)}MB",
        "effective_cache_size": f"{megabytes // 2}MB",
        "work_mem": "32MB",
        "maintenance_work_mem": f"{min(megabytes // 16, 1024)}MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
    }


def machine_memory() -> int:
    """Bytes; of the container, where it has fewer."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


@contextmanager
def _connected(url: str) -> Iterator["psycopg.Connection[Any]"]:
    try:
        connection = psycopg.connect(url, autocommit=True)
    except psycopg.OperationalError as error:
        raise Unavailable(f"The server of --url cannot be reached: {str(error).splitlines()[0]}") from error
    with connection:
        yield connection


@contextmanager
def _role_as_found(origin: str) -> Iterator[None]:
    """The migration makes roles, which belong to the whole server: those that were not there go again."""
    with _connected(origin) as connection:
        rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [ROLES]).fetchall()
    found = {str(name) for (name,) in rows}
    yield
    for role in ROLES:
        if role not in found:
            with _connected(origin) as connection, suppress(psycopg.errors.DependentObjectsStillExist):
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def _create_database(origin: str, name: str) -> None:
    with _connected(origin) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise Unavailable("The benchmarks make databases of their own there: the role needs CREATEDB.") from error


@contextmanager
def scratch_database(origin: str) -> Iterator[str]:
    """The address of a new database on the same server; dropped afterwards."""
    name = f"vanguard_bench_{uuid.uuid4().hex[:12]}"
    # Already while it is made: a signal may come between its being there and our knowing.
    try:
        _create_database(origin, name)
        yield address_of(origin, name)
    finally:
        with _connected(origin) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def address_of(origin: str, database: str) -> str:
    """The address with another database in it."""
    head, mark, query = origin.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{database}{mark}{query}"


# -- lines, people, drafts ---------------------------------------------------------------------------------------------


async def _place(
    stack: AsyncExitStack, origin: str, rows: int, neighbours: Sequence[str], *, quick: bool, tell: Tell
) -> Place:
    tell(f"a database for {rows:,} lines")
    url = stack.enter_context(scratch_database(origin))
    migrate(url)
    settings = Settings(database_url=url, secret=SECRET, statement_timeout=600, slow_statement_ms=600_000)
    database = Database(settings)
    await database.open()
    stack.push_async_callback(database.close)
    owner = await asyncpg.connect(url, server_settings={"application_name": "vanguard bench"})
    stack.push_async_callback(owner.close)
    place = Place(url, rows, database, owner)
    # The big one first: into an empty table lines go without indexes, which are made afterwards.
    for number, (organization, lines) in enumerate(
        [(ORGANIZATION, rows), *((each, max(rows // 50, 1)) for each in neighbours)], start=1
    ):
        await organizations.add_organization(database, organization, organization)
        await seed.seed(url, organization, lines, number=number, watch=_watching(organization, tell))
    tell("people and their drafts")
    await _people(place, settings, many=max(rows // 20, 50))
    await place.owner.execute(f"VACUUM (ANALYZE) {PFA.schema}.modification")
    await place.owner.execute("CHECKPOINT")
    return place


def _watching(organization: str, tell: Tell) -> seed.Watch:
    return lambda phase, done: tell(f"{organization}: {phase}, {done:,} lines")


async def _people(place: Place, settings: Settings, many: int) -> None:
    listed = await _keys(place, "AND m.f_category = $2 ORDER BY m.f_forecast_start, m.row_key LIMIT $3", many)
    keys = await _keys(place, "AND $2::text IS NOT NULL ORDER BY m.row_key LIMIT $3", place.rows)
    near = (listed if len(listed) >= FEW else keys)[:FEW:2]
    few = keys[:: max(1, len(keys) // (FEW // 2))][: FEW // 2]
    days = await _days(place)

    def later(by: Callable[[int], int]) -> Delta:
        return lambda number, key: {"forecastStart": (days[key] + timedelta(by(number))).isoformat()}

    def remarked(number: int, key: str) -> dict[str, Any]:
        return {"equipment": f"DRAFT-{number}"}

    def sent_away(number: int, key: str) -> dict[str, Any]:
        return {"forecastStart": AWAY}

    scattered = keys[:: len(keys) // many][:many]
    drafts: dict[str, tuple[list[str], Delta]] = {
        "nobody": ([], remarked),
        "somebody": (few, later(lambda number: 1)),
        "near": (near, later(lambda number: 1)),
        "quiet": (scattered, remarked),
        "several": (scattered[::10], later(lambda number: 30 + number % 60)),
        "spread": (scattered, later(lambda number: 30 + number % 60)),
        "head": (listed[:many], sent_away),
        **{name: ([], remarked) for name in ("writer", "editor", "committer", "founder")},
    }
    auth = Auth(settings, place.database, now)
    for name, (rows, delta) in drafts.items():
        account = await accounts.add_account(
            place.database, email=f"{name}@bench.example", name=name, password=None,
            roles={ORGANIZATION: Role.ANALYST},
        )  # fmt: skip
        place.people[name] = Person(account.id, auth.issue(account, ttl=24 * 3600), len(rows))
        await save_drafts(place, name, [Draft(id=key, delta=delta(n, key)) for n, key in enumerate(rows)])


async def save_drafts(place: Place, who: str, drafts: Sequence[Draft]) -> None:
    """Through the application's save, as many at once as a request may have."""
    for start in range(0, len(drafts), MAX_DRAFTS):
        async with place.database.transaction() as connection:
            batch = drafts[start : start + MAX_DRAFTS]
            answer = await save(Desk(connection, PFA, ORGANIZATION), place.people[who].id, batch, AT)
        assert not answer.errors, answer.errors[0]


async def _keys(place: Place, rest: str, limit: int) -> list[str]:
    records = await place.owner.fetch(
        f"SELECT m.row_key FROM {PFA.schema}.mirror AS m WHERE m.organization_id = $1 {rest}",
        ORGANIZATION, dict(LISTING)["category"], limit,
    )  # fmt: skip
    return [record["row_key"] for record in records]


async def _days(place: Place) -> dict[str, date]:
    """The forecast's first day of every line; one without gets a day."""
    records = await place.owner.fetch(
        f"SELECT row_key, coalesce(f_forecast_start, date '2025-06-01') FROM {PFA.schema}.mirror"
        " WHERE organization_id = $1", ORGANIZATION,
    )  # fmt: skip
    return dict(records)
