"""A worker's metrics, at a port of their own: prometheus_client's application behind our token, where there is one."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from app.base.errors import ConfigurationError
from app.base.guessing import holds_token

READ_TIMEOUT = 10.0  # seconds that a client may be silent


class Handler(WSGIRequestHandler):
    """One request; nobody wants a line about it."""

    timeout = READ_TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def metrics(token: str | None) -> WSGIApplication:
    """Prometheus' text format for whoever has the token; for everybody where there is none."""
    application = make_wsgi_app()

    def told(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def start_safely(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # The server would name itself, its version and that of Python.
            ours = [("Server", "vanguard"), ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
            return start(status, [*headers, *ours], *more)

        if token is None or holds_token(token, environment.get("HTTP_AUTHORIZATION", "")):
            found: Iterable[bytes] = application(environment, start_safely)
            return found
        refusal = [("Content-Type", "text/plain; charset=utf-8"), ("WWW-Authenticate", "Bearer")]
        start_safely("401 Unauthorized", refusal)
        return [b"Send VANGUARD_METRICS_TOKEN as `Authorization: Bearer <token>`.\n"]

    return told


@contextmanager
def serving_metrics(host: str, port: int, token: str | None) -> Iterator[int]:
    """Serve them for the time of the block, at the port that is yielded; raises ConfigurationError."""

    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = make_server(host, port, metrics(token), Server, Handler)
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} at {host} cannot be had ({error.strerror}). VANGUARD_METRICS_PORT and VANGUARD_HOST say "
            "another."
        ) from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
