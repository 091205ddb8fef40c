"""The public keys of an identity provider, by JWKS address."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import msgspec
import structlog

from app.base.clock import Clock
from app.base.errors import IdentityProviderUnavailable

log = structlog.get_logger(__name__)

# The type and curve that a key must have for an algorithm: a key is never used for another.
KINDS = {"RS256": ("RSA", None), "ES256": ("EC", "P-256")}


class KeyDocument(msgspec.Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, Any]]


class KeySet:
    """The identity provider's public keys.

    Fetched when an unknown key is met, at most once a minute, and once an hour for the sake of those that were
    withdrawn. Requests that need a fetch at the same time share it. A known key outlives the provider's absence.
    """

    FRESH = timedelta(hours=1)
    PAUSE = timedelta(minutes=1)
    PAUSE_AFTER_FAILURE = timedelta(seconds=10)

    def __init__(self, url: str, clock: Clock):
        self._url = url
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=5, headers={"Accept": "application/json"})
        self._lock = asyncio.Lock()
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}
        self._stale_at = self._again_at = datetime.min.replace(tzinfo=UTC)
        self._down = False

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._client.aclose()

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """The key; raises InvalidKeyError for an unknown one, IdentityProviderUnavailable where that cannot be told."""
        key = self._keys.get((key_id, algorithm))
        if key is not None and (self._is_ahead(self._stale_at, self.FRESH) or self._lock.locked()):
            return key
        async with self._lock:
            # Somebody else may have fetched while this request waited.
            known = (key_id, algorithm) in self._keys and self._is_ahead(self._stale_at, self.FRESH)
            if not known and not self._is_ahead(self._again_at, self.PAUSE):
                await self._fetch()
        key = self._keys.get((key_id, algorithm))
        if key is None and self._down:
            raise IdentityProviderUnavailable("Your token cannot be checked now. Try again shortly.", retry_after=10)
        if key is None:
            raise jwt.InvalidKeyError
        return key

    def _is_ahead(self, moment: datetime, most: timedelta) -> bool:
        """Whether the moment is to come; one that is further ahead than it can be set was set before the clock was put
        back.
        """
        return timedelta(0) < moment - self._clock() <= most

    async def _fetch(self) -> None:
        try:
            response = await self._client.get(self._url)
            response.raise_for_status()
            document = msgspec.json.decode(response.content, type=KeyDocument)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("identity provider unavailable", error=type(error).__name__)
            self._down, self._again_at = True, self._clock() + self.PAUSE_AFTER_FAILURE
            return
        self._keys = {name: key for data in document.keys for name, key in _usable(data)}
        self._down, now = False, self._clock()
        self._stale_at, self._again_at = now + self.FRESH, now + self.PAUSE


def _usable(data: dict[str, Any]) -> list[tuple[tuple[str, str], jwt.PyJWK]]:
    """The key under its id and the one algorithm that fits its type; nothing for one that is not for signatures."""
    key_id = data.get("kid")
    for algorithm, (kind, curve) in KINDS.items():
        fits = data.get("kty") == kind and (curve is None or data.get("crv") == curve)
        if not fits or not isinstance(key_id, str):
            continue
        if data.get("use", "sig") != "sig" or data.get("alg", algorithm) != algorithm:
            continue
        try:
            return [((key_id, algorithm), jwt.PyJWK(data, algorithm=algorithm))]
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            log.warning("unusable key", kid=key_id)
    return []
