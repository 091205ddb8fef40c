"""Cursors: signed positions in a sort order, good for a day. A forged one is refused like one of another listing.

A cursor is the URL-safe base64 of a signature and of what it signs, [purpose, expires, values, key, incarnation] as
JSON. The incarnation is that of the database which gave the page: what comes after it there may not come here.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from functools import lru_cache

import msgspec

from app.base.clock import Clock
from app.base.errors import InvalidCursor

LIFETIME = timedelta(hours=24)
OWN_KEY = b"vanguard cursor"  # what cursors are signed with is derived from the secret, and signs nothing else
DIGEST = "sha256"
SIGNATURE = 32  # bytes


class Cursor(msgspec.Struct, frozen=True):
    """A position in a sort order: the sort values of the last row as text, its id, and the database's incarnation."""

    values: tuple[str | None, ...]
    key: str
    incarnation: int = 0


class _Signed(msgspec.Struct, frozen=True, array_like=True):
    purpose: str
    expires: float
    values: tuple[str | None, ...]
    key: str
    incarnation: int = 0  # cursors of before did not have it


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Signed)


def write_cursor(secret: str, clock: Clock, purpose: str, cursor: Cursor) -> str:
    """The cursor as opaque text; `purpose` names what it pages through, dataset and sort."""
    expires = (clock() + LIFETIME).timestamp()
    signed = _Signed(purpose, expires, cursor.values, cursor.key, cursor.incarnation)
    return _seal(secret, _encoder.encode(signed)).decode()


def read_cursor(secret: str, clock: Clock, purpose: str, text: str) -> Cursor:
    """The position; raises InvalidCursor for one that is forged, expired, or of another listing."""
    signed = _decoder.decode(_opened(secret, text))
    if signed.expires < clock().timestamp():
        raise InvalidCursor("The cursor has expired. Start again without it.")
    if signed.purpose != purpose:
        raise InvalidCursor("The cursor belongs to another dataset or sort. Start again without it.")
    return Cursor(signed.values, signed.key, signed.incarnation)


def check_incarnation(cursor: Cursor | None, incarnation: int) -> None:
    """Raises InvalidCursor for one that was given before the database was restored; asked once a page is read."""
    if cursor is not None and cursor.incarnation != incarnation:
        raise InvalidCursor("The database has been restored since. Start again without the cursor.")


def _seal(secret: str, content: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(_key(secret), content, DIGEST) + content).rstrip(b"=")


@lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    return hmac.digest(secret.encode(), OWN_KEY, DIGEST)


def _opened(secret: str, text: str) -> bytes:
    """What was sealed. Sealing it again has to give the same text: base64 alone overlooks what is not of it."""
    given = text.encode(errors="replace")
    try:
        content = urlsafe_b64decode(given + b"=" * (-len(given) % 4))[SIGNATURE:]
    except ValueError:
        content = b""
    if not hmac.compare_digest(given, _seal(secret, content)):
        raise InvalidCursor("The cursor was not issued here. Start again without it.")
    return content
