"""Cursors: signed positions in a sort order, good for a day. A forged one is refused like one of another listing.

A cursor is a seal of [purpose, expires, values, key, incarnation] as JSON. The incarnation is that of the database
which gave the page: what comes after it there may not come here.
"""

from datetime import timedelta

import msgspec

from app.base.clock import Clock
from app.base.errors import InvalidCursor
from app.base.seals import seal, unsealed

LIFETIME = timedelta(hours=24)
KIND = b"vanguard cursor"


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
    return seal(secret, KIND, _encoder.encode(signed))


def read_cursor(secret: str, clock: Clock, purpose: str, text: str) -> Cursor:
    """The position; raises InvalidCursor for one that is forged, expired, or of another listing."""
    content = unsealed(secret, KIND, text)
    if content is None:
        raise InvalidCursor("The cursor was not issued here. Start again without it.")
    signed = _decoder.decode(content)
    if signed.expires < clock().timestamp():
        raise InvalidCursor("The cursor has expired. Start again without it.")
    if signed.purpose != purpose:
        raise InvalidCursor("The cursor belongs to another dataset or sort. Start again without it.")
    return Cursor(signed.values, signed.key, signed.incarnation)


def check_incarnation(cursor: Cursor | None, incarnation: int) -> None:
    """Raises InvalidCursor for one that was given before the database was restored; asked once a page is read."""
    if cursor is not None and cursor.incarnation != incarnation:
        raise InvalidCursor("The database has been restored since. Start again without the cursor.")
