"""Answers are packed where it pays: zstd, br or gzip, as Accept-Encoding has it.

What is left as it is: short answers; what is packed already, or not made of text; whatever carries a secret, since its
length would tell what the secret has in common with a text of the caller's choice; and an answer with a strong ETag,
which stands for one row of bytes (a single row, with the tag for If-Match).
"""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache

import brotli
import zstandard
from isal import isal_zlib
from litestar.types import HTTPResponseStartEvent, HTTPScope, Message, Send

from app.web.headers import listed

LEAST = 1200  # bytes: with its head of some 300, less goes in one packet either way
MUCH = 2_000_000  # bytes: these take two milliseconds, in which the event loop does something else
LONGEST_HEADER = 500  # characters of Accept-Encoding that are read
TEXT = re.compile(
    r"(text/(?!event-stream)|application/(json|javascript|[\w.-]+\+(json|xml))|image/svg\+xml)", re.IGNORECASE
)
WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
VARY = (b"vary", b"Accept-Encoding")

# In the order of the server's preference. Levels: docs/decisions.md has what others cost.
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda body: zstandard.ZstdCompressor(level=1).compress(body),
    "br": lambda body: bytes(brotli.compress(body, quality=1)),
    "gzip": lambda body: isal_zlib.compress(body, 1, 31),
}
SAME = {"x-gzip": "gzip"}


def packing(scope: HTTPScope, send: Send) -> Send:
    """Packs an answer that comes in one piece. Others, such as streams, pass as they are."""
    held: HTTPResponseStartEvent | None = None

    async def send_packed(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start" and varies(message):
            message["headers"] = [*message["headers"], VARY]
            if message["status"] != 304:
                held = message
                return
        elif message["type"] == "http.response.body" and held is not None:
            start, held = held, None
            if not message.get("more_body"):
                message["body"] = await _packed(scope, start, message["body"])
            await send(start)
        await send(message)

    return send_packed


def varies(start: HTTPResponseStartEvent) -> bool:
    """Whether such an answer is packed where it is long enough and that is asked for, or says that it would be."""
    headers = dict(start["headers"])
    if b"set-cookie" in headers or b"no-store" in headers.get(b"cache-control", b""):
        return False
    if b"content-encoding" in headers or not headers.get(b"etag", b"W/").startswith(b"W/"):
        return False
    if start["status"] == 304:
        return True
    return b"content-length" in headers and _is_text(headers.get(b"content-type", b""))


@lru_cache(maxsize=64)
def _is_text(media_type: bytes) -> bool:
    return TEXT.match(media_type.decode("latin-1")) is not None


async def _packed(scope: HTTPScope, start: HTTPResponseStartEvent, body: bytes) -> bytes:
    """The body as it goes out; `start` gets the headers that go with it."""
    accepted = listed(scope, b"accept-encoding")
    coding, needed = wanted(accepted) if accepted else (None, False)
    if coding is None or not body or (len(body) < LEAST and not needed):
        return body
    pack = CODINGS[coding]
    packed = await asyncio.to_thread(pack, body) if len(body) > MUCH else pack(body)
    headers = [header for header in start["headers"] if header[0] != b"content-length"]
    length = str(len(packed)).encode()
    start["headers"] = [*headers, (b"content-encoding", coding.encode()), (b"content-length", length)]
    return packed


def wanted(accepted: str) -> tuple[str | None, bool]:
    """The coding that Accept-Encoding (RFC 9110, 12.5.3) asks for, and whether it forbids to send without one."""
    return _wanted(accepted) if len(accepted) <= LONGEST_HEADER else (None, False)


@lru_cache(maxsize=256)
def _wanted(accepted: str) -> tuple[str | None, bool]:
    weights = _weights(accepted)
    rest = weights.get("*", 0.0)
    plain = weights.get("identity")
    best = max(CODINGS, key=lambda coding: weights.get(coding, rest))  # of equals the first
    weight = weights.get(best, rest)
    if not weight or weight < (plain or 0.0):
        return None, False
    return best, (rest if plain is None and "*" in weights else plain) == 0


def _weights(accepted: str) -> dict[str, float]:
    """Coding -> weight; what cannot be read is left out."""
    found = {}
    for part in accepted.lower().split(","):
        coding, _, parameter = (word.strip() for word in part.partition(";"))
        name, _, value = (word.strip() for word in parameter.partition("="))
        if coding and (not parameter or (name == "q" and WEIGHT.fullmatch(value))):
            found[SAME.get(coding, coding)] = float(value) if parameter else 1.0
    return found
