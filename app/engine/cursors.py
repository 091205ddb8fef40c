"""Cursors: signed positions in a sort order, good for a day. A forged one is refused like one of another listing."""

from datetime import timedelta
from typing import Any

import jwt
import msgspec

from app.base.clock import Clock
from app.base.errors import InvalidCursor

LIFETIME = timedelta(hours=24)
AUDIENCE = "cursor"  # keeps a cursor from ever passing as an access token, and the other way round

# The same for every cursor, so it does not travel.
HEADER = jwt.encode({}, "0" * 32, algorithm="HS256").partition(".")[0]


class Cursor(msgspec.Struct, frozen=True):
    """A position in a sort order: the sort values of the last row as text, and its id."""

    values: tuple[str | None, ...]
    key: str


def write_cursor(secret: str, clock: Clock, purpose: str, cursor: Cursor) -> str:
    """The cursor as opaque text; `purpose` names what it pages through, dataset and sort."""
    claims = {"aud": AUDIENCE, "exp": clock() + LIFETIME, "for": purpose, "v": cursor.values, "k": cursor.key}
    return jwt.encode(claims, secret, algorithm="HS256").partition(".")[2]


def read_cursor(secret: str, clock: Clock, purpose: str, text: str) -> Cursor:
    """The position; raises InvalidCursor for one that is forged, expired, or of another listing."""
    try:
        claims: dict[str, Any] = jwt.decode(
            f"{HEADER}.{text}",
            secret,
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"verify_exp": False, "require": ["exp"]},
        )
    except (jwt.InvalidTokenError, UnicodeError):
        raise InvalidCursor("The cursor was not issued here. Start again without it.") from None
    if claims["exp"] < clock().timestamp():
        raise InvalidCursor("The cursor has expired. Start again without it.")
    if claims["for"] != purpose:
        raise InvalidCursor("The cursor belongs to another dataset or sort. Start again without it.")
    return Cursor(tuple(claims["v"]), claims["k"])
