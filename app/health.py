"""Is it alive, is it ready, how is it doing."""

import asyncpg
import structlog
from litestar import Response, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import __version__
from app.base.errors import ConfigurationError, DatabaseUnavailable, Forbidden, TokenMissing, Unauthenticated
from app.base.guessing import holds_token
from app.base.role import check_role
from app.base.statements import statement
from app.web.addresses import is_local
from app.web.openapi import answers
from app.web.runtime import VanguardRequest

log = structlog.get_logger(__name__)
READ_REVISION = statement("health/read_revision")


@get("/health", tags=["operations"], summary="Alive", opt={"public": True}, security=[{}])
async def health(request: VanguardRequest) -> dict[str, str]:
    """Answers while the process runs, whatever the database does."""
    runtime = request.runtime
    return {
        "status": "ok",
        "timestamp": runtime.clock().isoformat(),
        "environment": runtime.settings.environment,
        "version": __version__,
    }


@get("/health/ready", tags=["operations"], summary="Ready to serve", opt={"public": True}, security=[{}])
async def ready(request: VanguardRequest) -> dict[str, str]:
    """Answers 503 while the database cannot be reached, misses a migration, or lets the service do too much."""
    runtime = request.runtime
    try:
        async with runtime.reserve.connection() as connection:
            revision = await connection.value(READ_REVISION)
            await check_role(connection)
    except ConfigurationError as error:
        log.error("role is not the service's", error=str(error))
        raise DatabaseUnavailable("The service acts as a role that is not its own. Its log says which.") from error
    except (asyncpg.UndefinedTableError, asyncpg.InvalidParameterValueError):
        # An empty database has neither that table nor the role to log in as.
        revision = None
    if revision != runtime.migration:
        log.warning("migrations are not current", revision=revision, head=runtime.migration)
        raise DatabaseUnavailable("The database misses a migration. Run `vanguard migrate`.")
    return {"status": "ready", "revision": revision}


@get(
    "/metrics",
    tags=["operations"],
    summary="Figures for Prometheus",
    opt={"public": True},
    security=[{}],
    responses=answers(str, media_type="text/plain"),
)
async def metrics(request: VanguardRequest) -> Response[bytes]:
    """Prometheus' text format, for whoever sends VANGUARD_METRICS_TOKEN; where none is set, for this machine alone."""
    _check_reader(request)
    # Litestar adds the charset itself.
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST.partition("; charset=")[0])


def _check_reader(request: VanguardRequest) -> None:
    token = request.runtime.settings.metrics_token
    if token is None:
        if not is_local(request.scope):
            raise Forbidden("Without VANGUARD_METRICS_TOKEN metrics are told to the machine that serves them alone.")
    elif not holds_token(token, request.headers.get("authorization", "")):
        refusal = Unauthenticated if "authorization" in request.headers else TokenMissing
        raise refusal("Send VANGUARD_METRICS_TOKEN: `Authorization: Bearer <token>`.")


ROUTES = [health, ready, metrics]
