"""create_app(settings): the only place where everything meets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import asyncpg
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.exceptions import HTTPException

from app import (
    audit,
    change_requests,
    commits,
    control,
    datasets,
    discards,
    drafts,
    edits,
    exports,
    failures,
    grids,
    health,
    history,
    kpis,
    login,
    members,
    pfa,
    previews,
    rows,
    sessions,
    status,
    synchronization,
    undo,
)
from app.base.clock import Clock, now
from app.base.database import Database
from app.base.errors import VanguardError
from app.base.logs import configure_logs
from app.base.settings import Settings, read_settings
from app.contracts import BUILT_IN, Contract
from app.migrate import head
from app.web import problems
from app.web.auth import AnyRequest, Auth
from app.web.bodies import JsonBody
from app.web.middleware import Middleware
from app.web.paging import refuse_query
from app.web.runtime import Runtime, VanguardRequest
from app.web.schema_page import openapi_config

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
    return Runtime(
        settings=settings,
        database=database,
        auth=Auth(settings, database, clock),
        contracts={contract.name: contract for contract in contracts},
        clock=clock,
        migration=head(),
        exports=asyncio.Semaphore(settings.places_of_exports),
    )


@asynccontextmanager
async def opened(runtime: Runtime) -> AsyncIterator[None]:
    """The runtime's pool is open while the block runs; its connections are closed in the end."""
    await runtime.database.open()
    try:
        yield
    finally:
        await runtime.auth.close()
        await runtime.database.close()


def create_routes(settings: Settings, *, lifespan: Sequence[Lifespan] = ()) -> Litestar:
    """Every route. They know no runtime: each request brings its own."""
    return Litestar(
        route_handlers=[
            *health.ROUTES,
            *status.ROUTES,
            *login.ROUTES,
            *members.ROUTES,
            *audit.ROUTES,
            *datasets.ROUTES,
            *rows.ROUTES,
            *history.ROUTES,
            *exports.ROUTES,
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


async def _admit(request: AnyRequest) -> None:
    assert isinstance(request, VanguardRequest)
    await request.runtime.auth.admit(request)
    refuse_query(request)


def serve() -> Middleware:
    """The application with its settings from the environment: what the server process imports."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format)
    return create_app(settings)


def _cors(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origin:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origin),
        allow_credentials=True,
        allow_headers=[
            *("Authorization", "Content-Encoding", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key"),
            "X-Request-ID",
        ],
        expose_headers=["Content-Disposition", "ETag", "X-Estimated-Rows", "X-Request-ID", "Retry-After"],
    )
