"""Structured logs: JSON lines (or coloured text for a person), each with the request id."""

import json
import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_encoder = json.JSONEncoder(default=repr)


class Lines:
    """Writes to stderr at once, under the name of a module. That nobody reads it any more is no reason to fail."""

    def __init__(self, name: str = ""):
        self.name, self._file = name, sys.stderr

    def write(self, line: str) -> None:
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError:
            pass

    debug = info = warning = error = critical = write


def configure_logs(level: str, style: str) -> None:
    """Send structlog and the standard library's logs to stderr; `style` is json or console."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without locals: a local variable can hold a row or a password.
    if style == "console":
        rendering: list[Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        rendering = [structlog.processors.format_exc_info, _render]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.StackInfoRenderer()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # httpx logs every request's address at INFO; a key set's address may carry a tenant's name.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Our own lines do not pass through the standard library, which takes longer than everything else about them.
    structlog.configure(
        processors=[*shared, *rendering],
        logger_factory=Lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger().level),
        cache_logger_on_first_use=True,
    )


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _encoder.encode(event)
