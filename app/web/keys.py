"""The public keys of an identity provider, by JWKS address."""

import asyncio
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt
import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm

from app.base.clock import Clock
from app.base.errors import IdentityProviderUnavailable

log = structlog.get_logger(__name__)

# The type and curve that a key must have for an algorithm: a key is never used for another.
KINDS = {"RS256": ("RSA", None), "ES256": ("EC", "P-256")}
LEAST_BITS = 2048  # of an RSA key (NIST SP 800-131A)
LARGEST_DOCUMENT = 256 * 1024  # bytes of a key set
DEADLINE = 5.0  # seconds for a fetch as a whole, however slowly it comes

FRESH = timedelta(minutes=5)  # after it the set is fetched again, beside the requests
LONGEST = timedelta(hours=1)  # after it a key that is known waits for that
PAUSE = timedelta(minutes=1)  # between two fetches for the sake of an unknown key
PAUSE_AFTER_FAILURE = timedelta(seconds=10)


class KeyDocument(msgspec.Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, Any]]


class KeySet:
    """The identity provider's public keys.

    Fetched in the background, one fetch at a time, as long as tokens come: every five minutes, and for an unknown key
    once a minute at most. A known key outlives the provider's absence, for `max_age` at most. `generation` changes with
    the keys: what was verified by another generation has to be verified anew.
    """

    def __init__(self, url: str, clock: Clock, max_age: timedelta):
        self.generation = 0
        self._url, self._clock, self._max_age = url, clock, max_age
        # Packed answers are not unpacked: a small one could become a large one.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._client = httpx.AsyncClient(timeout=DEADLINE, headers=headers)
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}
        self._known: list[dict[str, Any]] | None = None
        self._fetched_at: datetime | None = None
        self._failed_at: datetime | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """End what is under way, and close the connections to the provider."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        await self._client.aclose()

    async def settled(self) -> None:
        """Wait for the fetch that is under way, if there is one."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    def refresh(self) -> None:
        """Begin to fetch the set, unless that is under way."""
        if self._fetching is None or self._fetching.done():
            # What it logs is not of the request that began it.
            self._fetching = asyncio.create_task(self._fetch(), context=Context())

    def holds(self, generation: int) -> bool:
        """Whether what was verified by this generation still counts; looks after the set's age."""
        age = self._age()
        self._look_after(age)
        return generation == self.generation and age is not None and age < LONGEST

    def still_counts(self, generation: int) -> bool:
        """The same for who was let in before and asks for nothing new: in the provider's absence, too."""
        age = self._age()
        self._look_after(age)
        return generation == self.generation and age is not None and age < self._max_age

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """The key; raises InvalidKeyError for an unknown one, IdentityProviderUnavailable where that cannot be told.

        An unknown key waits for nobody: whoever sends ids that there are not would hold requests.
        """
        age = self._age()
        self._look_after(age)
        if (key_id, algorithm) in self._keys and (age is None or age >= LONGEST):
            await self.settled()
            age = self._age()
        key = self._keys.get((key_id, algorithm))
        if key is not None and age is not None and age < self._max_age:
            return key
        if key is None and age is not None and age >= PAUSE and self._failed_at is None:
            self.refresh()
        if self._fetching is not None and not self._fetching.done():
            raise IdentityProviderUnavailable("Your token's key is looked up. Try again at once.", retry_after=1)
        if age is None or self._failed_at is not None or age >= self._max_age:
            raise IdentityProviderUnavailable("Your token cannot be checked now. Try again shortly.", retry_after=10)
        raise jwt.InvalidKeyError

    def _age(self) -> timedelta | None:
        """Of the set; None for none, and for one that was fetched before the clock was put back."""
        return self._since(self._fetched_at)

    def _since(self, moment: datetime | None) -> timedelta | None:
        passed = None if moment is None else self._clock() - moment
        return passed if passed is not None and passed >= timedelta(0) else None

    def _look_after(self, age: timedelta | None) -> None:
        failed = self._since(self._failed_at)
        if (age is None or age >= FRESH) and (failed is None or failed >= PAUSE_AFTER_FAILURE):
            self.refresh()

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                document = msgspec.json.decode(await self._read(), type=KeyDocument)
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            TimeoutError,
        ) as error:
            log.warning("identity provider unavailable", error=type(error).__name__)
            self._failed_at = self._clock()
            return
        if document.keys != self._known:
            self._known, self._keys = (
                document.keys,
                {name: key for data in document.keys for name, key in _usable(data)},
            )
            self.generation += 1
        self._fetched_at, self._failed_at = self._clock(), None

    async def _read(self) -> bytes:
        body = b""
        async with self._client.stream("GET", self._url) as response:
            response.raise_for_status()
            async for part in response.aiter_raw():
                body += part
                if len(body) > LARGEST_DOCUMENT:
                    raise httpx.DecodingError(f"a key set of more than {LARGEST_DOCUMENT:,} bytes")
        return body


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
            key = jwt.PyJWK(data, algorithm=algorithm)
        except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, OverflowError):
            log.warning("unusable key", kid=key_id)
            continue
        if kind == "RSA" and key.key.key_size < LEAST_BITS:
            log.warning("key too short", kid=key_id, bits=key.key.key_size, least=LEAST_BITS)
            continue
        return [((key_id, algorithm), key)]
    return []
