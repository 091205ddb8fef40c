"""Seals: text that says what only we can have said, since it is signed with our secret.

A seal is the URL-safe base64 of a signature and of what it signs. Each kind has a key of its own, derived from the
secret, so that what was sealed as one thing is worthless as another.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache

DIGEST = "sha256"
SIGNATURE = 32  # bytes


def seal(secret: str, kind: bytes, content: bytes) -> str:
    """The content, sealed."""
    return _sealed(secret, kind, content).decode()


def unsealed(secret: str, kind: bytes, text: str) -> bytes | None:
    """What was sealed, None where we did not. Sealing it again has to give the same text: base64 alone overlooks what
    is not of it.
    """
    given = text.encode(errors="replace")
    try:
        content = urlsafe_b64decode(given + b"=" * (-len(given) % 4))[SIGNATURE:]
    except ValueError:
        content = b""
    return content if hmac.compare_digest(given, _sealed(secret, kind, content)) else None


def _sealed(secret: str, kind: bytes, content: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(_key(secret, kind), content, DIGEST) + content).rstrip(b"=")


@lru_cache(maxsize=16)
def _key(secret: str, kind: bytes) -> bytes:
    return hmac.digest(secret.encode(), kind, DIGEST)
