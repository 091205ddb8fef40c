"""What every request passes on its way in and out: its id, its log line, its figures."""

import asyncio
import re
import secrets
import time
from functools import lru_cache

import structlog
from litestar import Litestar
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.types import Message, Receive, Scope, Send
from prometheus_client import Histogram

from app.base import origin
from app.web import edges
from app.web.addresses import client_address
from app.web.problems import route_of
from app.web.protection import protect
from app.web.runtime import Runtime
from app.web.work import LEFT, attend

log = structlog.get_logger(__name__)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUESTS = Histogram("vanguard_request_seconds", "Time of each request", ["method", "route", "status"])
requests_of = lru_cache(maxsize=1024)(REQUESTS.labels)


class Middleware:
    """Wraps the whole application, so that a path that no route has gets an id and a log line too."""

    def __init__(self, app: Litestar, runtime: Runtime):
        self.app = app
        self.runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        given = Headers.from_scope(scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {}).update(request_id=request_id, runtime=self.runtime)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        origin.address.set(client_address(scope, self.runtime.settings.trusted_proxies))
        attendance = attend(scope, receive)
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                attendance.end()
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                protect(message, scope, self.runtime.settings)
            await send(message)

        try:
            await edges.serve(self.app, scope, attendance.receive, send_with_id)
            status = status or LEFT  # an export or a stream whose client left before it began
        except asyncio.CancelledError:
            if not attendance.left:
                raise
            status = LEFT
        finally:
            attendance.close()
            origin.address.set(None)
            status = status or 500
            seconds = time.perf_counter() - started
            # A label for each path would fill the memory.
            route = route_of(scope)
            method = scope["method"] if route != "unknown" else "unknown"
            requests_of(method, route, status).observe(seconds)
            log.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 1))
