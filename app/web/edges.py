"""What routes never see: HEAD and OPTIONS, the path as it was sent, requests too large to be looked at, and errors that
no handler answered.
"""

import re

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Send
from litestar.types.asgi_types import Receive
from litestar.utils.scope.state import ScopeState

from app.base.errors import MalformedRequest, VanguardError
from app.base.settings import Settings
from app.web.bodies import ACCEPT_PATCH
from app.web.headers import check_once, mark_head
from app.web.packing import packing
from app.web.paths import instance, path_for_routes, raw_path
from app.web.problems import (
    LOGGED,
    MEDIA_TYPE,
    HeadersTooLarge,
    TargetTooLong,
    every_method,
    log_unexpected,
    problem,
    route_of,
)

# A little below the server's own bounds, behind which it answers without a body: 100 headers, 131,072 bytes of head; of
# a target it takes 65,534 (docs/errors.md).
MAX_HEADERS = 96
LONGEST_INSTANCE = 1000  # characters of a path that is told
PARAMETER = re.compile(r"{[^}]*}")


async def serve(app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Let the application answer, HEAD as if it were GET, and answer where it does not."""
    method = scope["method"]
    if method == "HEAD":
        scope["method"], send = "GET", _without_body(send)
        mark_head(scope)
    send = packing(scope, send)
    if method == "OPTIONS":
        send = _with_every_method(scope, send)
    try:
        await _answer(app, scope, receive, send)
    except Exception as error:
        log_unexpected(error, route_of(scope))
        # What has begun is broken off: the server closes the connection. It would log the message of an error, too.
        if not ScopeState.from_scope(scope).response_started:
            await _tell(VanguardError(LOGGED), scope, send)
    finally:
        scope["method"] = method


async def _answer(app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send) -> None:
    try:
        check_size(scope)
        check_once(scope)
        scope["path"] = path_for_routes(raw_path(scope))
    except VanguardError as refused:
        await _tell(refused, scope, send)
    else:
        await app(scope, receive, send)


def check_size(scope: HTTPScope) -> None:
    """Raises TargetTooLong or HeadersTooLarge for a request that is not looked at."""
    settings: Settings = scope["state"]["runtime"].settings
    most = settings.max_target_bytes
    if len(raw_path(scope)) + len(scope["query_string"]) > most:
        raise TargetTooLong(
            f"Path and query have at most {most:,} bytes (VANGUARD_MAX_TARGET_BYTES). A list with longer filters is "
            "asked for in a body: POST .../rows/search."
        )
    sizes = [len(name) + len(value) for name, value in scope["headers"]]
    if len(sizes) > MAX_HEADERS:
        raise HeadersTooLarge(f"A request has at most {MAX_HEADERS} headers. Send fewer.")
    if sum(sizes) > settings.max_header_bytes:
        most = settings.max_header_bytes
        raise HeadersTooLarge(f"Headers have at most {most:,} bytes together (VANGUARD_MAX_HEADER_BYTES). Send fewer.")


async def _tell(error: VanguardError, scope: HTTPScope, send: Send) -> None:
    request_id = str(scope["state"].get("request_id", ""))
    status, body, headers = problem(error, instance(scope)[:LONGEST_INSTANCE], request_id)
    headers |= {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body))}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _without_body(send: Send) -> Send:
    """The head alone; the answer ends with it, however long its body would be."""
    ended = False

    async def send_head(message: Message) -> None:
        nonlocal ended
        if message["type"] != "http.response.body":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def _with_every_method(scope: HTTPScope, send: Send) -> Send:
    """OPTIONS: the methods of all routes of the path, and the refusal of a preflight in the form of every other."""
    refused = False

    async def send_options(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            headers = MutableScopeHeaders.from_message(message)
            if "Allow" in headers and "path_template" in scope:
                headers["Allow"] = allowed = _methods(scope["litestar_app"], scope["path_template"])
                headers.update(ACCEPT_PATCH if "PATCH" in allowed else {})
            if refused := headers.get("Content-Type", "").startswith("text/") and message["status"] >= 400:
                await _tell(MalformedRequest("This origin, method or header is not allowed here."), scope, send)
        if not refused:
            await send(message)

    return send_options


def _methods(app: Litestar, template: str) -> str:
    """What a path takes: Litestar has a route for each handler, and lets the last of a path answer OPTIONS."""
    shape = PARAMETER.sub("{}", template)
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    found = {method for route in routes if PARAMETER.sub("{}", route.path_format) == shape for method in route.methods}
    return every_method(", ".join(found))
