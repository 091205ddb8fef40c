"""A path as it was sent: it is divided at its own slashes, and each segment is decoded once.

The server decodes a path as a whole, and an encoded slash would separate as well as any other: `rows/A%2FB` would be
two segments, `rows/A%2F` the row `A`. So routes see a path whose segments keep `/` and `%` encoded, and parameters are
decoded where they are read.
"""

import re
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from litestar.types import HTTPScope

from app.base.errors import NotFound

HALF_ENCODED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
ASCII = "".join(map(chr, range(0x21, 0x7F)))


def raw_path(scope: HTTPScope) -> bytes:
    """The path as it was sent. Servers need not tell it."""
    return scope.get("raw_path") or quote(scope["path"]).encode()


def path_for_routes(raw: bytes) -> str:
    """The path with its segments decoded but for `/` and `%`; raises NotFound for one that nobody can have meant."""
    if b"%" in raw and HALF_ENCODED.search(raw):
        raise NotFound("A % in a path begins an encoded byte, such as %2F; the character itself is %25.")
    try:
        path = "/".join(_segment(part) for part in raw.split(b"/")) if b"%" in raw else raw.decode()
    except UnicodeDecodeError:
        raise NotFound("The path is not percent-encoded UTF-8.") from None
    if path.startswith("//") or (path.startswith("/api/") and ("//" in path or path.endswith("/"))):
        raise NotFound("A slash is doubled, or the last character. One that belongs to an id is sent as %2F.")
    return path


def _segment(raw: bytes) -> str:
    return unquote_to_bytes(raw).decode().replace("%", "%25").replace("/", "%2F")


def decoded(parameters: dict[str, Any]) -> dict[str, Any]:
    """Path parameters as they were meant, of those that `path_for_routes` left."""
    return {name: _decoded(value) if isinstance(value, str) else value for name, value in parameters.items()}


def _decoded(value: str) -> str:
    return value.replace("%2F", "/").replace("%25", "%")


def instance(scope: HTTPScope) -> str:
    """The path for an answer: a URI reference (RFC 9457, 3.1.5), as it was sent."""
    return quote(raw_path(scope), safe=ASCII)
