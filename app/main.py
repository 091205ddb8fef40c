"""create_app(settings): the only place where everything meets."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeAlias

import asyncpg
import msgspec
from litestar import Litestar, Response
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException

from app import (
    audit,
    change_requests,
    commits,
    contract_versions,
    control,
    datasets,
    discards,
    drafts,
    drift_reports,
    edits,
    english,
    exports,
    failures,
    feed,
    grids,
    health,
    history,
    ingestion,
    invitations,
    joins,
    kpis,
    lifecycle,
    login,
    members,
    people,
    pfa,
    previews,
    query_previews,
    rows,
    search,
    sessions,
    status,
    synchronization,
    system_mode,
    undo,
)
from app.base.clock import Clock, now
from app.base.database import Database
from app.base.errors import Forbidden, Unauthenticated, VanguardError
from app.base.listening import end_with_parent
from app.base.logs import configure_logs
from app.base.migrations import head
from app.base.places import Places, Shares
from app.base.settings import Settings, read_settings
from app.base.turns import Turns
from app.contracts import BUILT_IN, Contract
from app.engine.datasets import Datasets
from app.engine.tailer import Tailer
from app.login.attempts import QUEUED, WAITED
from app.web import problems
from app.web.auth import AnyRequest, Auth, reconnects
from app.web.bodies import JsonBody
from app.web.budgets import Bodies
from app.web.middleware import Middleware
from app.web.paging import refuse_query
from app.web.runtime import Runtime, VanguardRequest, take_deprecated
from app.web.schema_page import openapi_config
from app.web.work import begin_work

OWNER_TIMEOUT = 600.0  # seconds: a new version may copy what is drafted on a million rows

WAIT_FOR_EXPORT = 5.0  # seconds for a place: most files are short

Lifespan: TypeAlias = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_app(settings: Settings, *, contracts: Sequence[Contract] = BUILT_IN, clock: Clock = now) -> Middleware:
    """The ASGI application: opens its pool when it starts, closes it when it stops."""
    runtime = create_runtime(settings, contracts=contracts, clock=clock)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with opened(runtime):
            yield

    return Middleware(create_routes(settings, lifespan=[lifespan]), runtime)


def create_runtime(settings: Settings, *, contracts: Sequence[Contract], clock: Clock) -> Runtime:
    """What requests find; its pool is not open yet."""
    database = Database(settings)
    reserve = Database(reserve_settings(settings), shared=False)
    auth = Auth(settings, reserve, clock)
    return Runtime(
        settings=settings,
        database=database,
        reserve=reserve,
        owner=Database(owner_settings(settings)),
        auth=auth,
        datasets=Datasets(reserve, contracts),
        clock=clock,
        migration=head(),
        exports=Places(shares_of_exports(settings)),
        uploads=Places(shares_of_uploads(settings)),
        queries=Places(shares_of_queries(settings)),
        bodies=Bodies(settings),
        hashing=Turns(
            settings.login_hashes,
            settings.login_queue,
            kept=1 if settings.login_hashes > 1 else 0,
            queued=QUEUED,
            waited=WAITED,
        ),
        logins=asyncio.Semaphore(max(1, settings.reserved_connections - 1)),
        tailer=Tailer(database, clock, auth.may_go_on),
    )


def shares_of_exports(settings: Settings) -> Shares:
    """One export at a time for a user: whoever takes it slowly, or not at all, keeps a place for as long."""
    places = settings.places_of_exports
    return Shares(
        places=places,
        user=1,
        user_queue=settings.user_queue,
        organization=max(1, places // 2),
        patience=WAIT_FOR_EXPORT,
        setting="VANGUARD_MAX_EXPORTS",
    )


def shares_of_uploads(settings: Settings) -> Shares:
    """Uploads lie on disk while they come in; half of the places are for one user."""
    places = settings.max_uploads
    return Shares(
        places=places,
        user=max(1, places // 2),
        user_queue=1,
        organization=places,
        patience=settings.pool_timeout,
        setting="VANGUARD_MAX_UPLOADS",
    )


def shares_of_queries(settings: Settings) -> Shares:
    """A question can keep processors busy for as long as it may take; half of the places are for one user."""
    places = settings.places_of_queries
    return Shares(
        places=places,
        user=max(1, places // 2),
        user_queue=settings.user_queue,
        organization=max(1, places - 1),
        patience=settings.pool_timeout,
        setting="VANGUARD_MAX_QUERIES",
    )


def reserve_settings(settings: Settings) -> Settings:
    """Settings of the connections for what is short and everybody waits for."""
    return msgspec.structs.replace(settings, pool_size=settings.reserved_connections)


def owner_settings(settings: Settings) -> Settings:
    """Settings of the few connections that can make schemas: a pool of their own, and time for large tables."""
    return msgspec.structs.replace(
        settings,
        database_url=settings.owner_address,
        pool_size=2,
        statement_timeout=max(settings.statement_timeout, OWNER_TIMEOUT),
    )


@asynccontextmanager
async def opened(runtime: Runtime) -> AsyncIterator[None]:
    """The runtime's pool is open while the block runs; its connections are closed in the end."""
    pools = (runtime.database, runtime.reserve, runtime.owner)
    for pool in pools:
        await pool.open()
    english.warm()
    try:
        await runtime.auth.tokens.open()
        yield
    finally:
        await runtime.tailer.close()
        runtime.hashing.close()
        await runtime.auth.tokens.close()
        for pool in reversed(pools):
            await pool.close()


def create_routes(settings: Settings, *, lifespan: Sequence[Lifespan] = ()) -> Litestar:
    """Every route. They know no runtime: each request brings its own."""
    return Litestar(
        route_handlers=[
            *health.ROUTES,
            *status.ROUTES,
            *login.ROUTES,
            *members.ROUTES,
            *invitations.ROUTES,
            *people.ROUTES,
            *audit.ROUTES,
            *datasets.ROUTES,
            *lifecycle.ROUTES,
            *contract_versions.ROUTES,
            *drift_reports.ROUTES,
            *joins.ROUTES,
            *system_mode.ROUTES,
            *ingestion.ROUTES,
            *rows.ROUTES,
            *search.ROUTES,
            *history.ROUTES,
            *exports.ROUTES,
            *feed.ROUTES,
            *drafts.ROUTES,
            *commits.ROUTES,
            *discards.ROUTES,
            *undo.ROUTES,
            *sessions.ROUTES,
            *edits.ROUTES,
            *grids.ROUTES,
            *kpis.ROUTES,
            *previews.ROUTES,
            *change_requests.ROUTES,
            *pfa.ROUTES,
            *synchronization.ROUTES,
            *control.ROUTES,
            *failures.ROUTES,
            *query_previews.ROUTES,
        ],
        before_request=_admit,
        request_class=VanguardRequest,
        dto=JsonBody,
        lifespan=list(lifespan),
        exception_handlers={
            VanguardError: problems.answer,
            asyncpg.PostgresError: problems.answer_database,
            HTTPException: problems.answer_http,
            Exception: problems.answer_unexpected,
        },
        cors_config=_cors(settings),
        openapi_config=openapi_config(),
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
    )


async def _admit(request: AnyRequest) -> Response[None] | None:
    assert isinstance(request, VanguardRequest)
    take_deprecated(request)
    try:
        await request.runtime.auth.admit(request)
    except (Unauthenticated, Forbidden):
        if not reconnects(request):
            raise
        # A browser's EventSource comes again and again; this is how the standard has it stop.
        return Response(None, status_code=204)
    request.admitted_at = request.runtime.clock()
    refuse_query(request)
    begin_work(request)
    return None


def serve() -> Middleware:
    """The application with its settings from the environment: what the server process imports."""
    end_with_parent()
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format)
    runtime = create_runtime(settings, contracts=BUILT_IN, clock=now)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with opened(runtime):
            _end_streams_on_signals(runtime)
            # What the application is made of stays: without it a full collection takes a few milliseconds, with it 80,
            # in the middle of any request.
            gc.collect()
            gc.freeze()
            yield

    return Middleware(create_routes(settings, lifespan=[lifespan]), runtime)


def _end_streams_on_signals(runtime: Runtime) -> None:
    """The server waits for every answer to end before the application hears that it stops; a stream would never end.

    The event loop learns of a signal by its file descriptor, whatever the handler: the server's own is still called.
    """
    loop = asyncio.get_running_loop()

    def end_streams(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(runtime.tailer.end)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_streams)
        signal.siginterrupt(number, False)


def _cors(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origin:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origin),
        allow_credentials=True,
        allow_headers=[
            *("Authorization", "Content-Encoding", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key"),
            *("Cache-Control", "Last-Event-ID", "X-Request-ID"),
        ],
        expose_headers=["Content-Disposition", "ETag", "X-Estimated-Rows", "X-Request-ID", "Retry-After"],
    )
