"""Access tokens: what they say, who signed them, and what is remembered of those that were verified."""

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, Literal, TypeVar

import jwt
import msgspec
import structlog
from cachetools import LRUCache

from app.base.clock import Clock
from app.base.errors import Forbidden, TokenExpired, Unauthenticated
from app.base.origin import tell_whose
from app.base.settings import Settings
from app.web.keys import KeySet

log = structlog.get_logger(__name__)

B = TypeVar("B")

LONGEST_TOKEN = 8192
# RFC 7515: base64url without padding. With it the same signature could be written in another way.
COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
# A provider's clock may be a little ahead of ours. Expiry has no such grace: revocations are kept until then only.
LEEWAY = 5
REMEMBERED = 10_000  # verified tokens
LONGEST_MEMORY = 3600  # seconds
OURS = 0  # the generation of our own secret, which is the same as long as we run

OrganizationId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z")]
SUBJECTS = r"^[\x20-\x7e]{1,255}\Z"
Identifier = Annotated[str, msgspec.Meta(pattern=SUBJECTS)]
NumericDate = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
RoleName = Literal["VIEWER", "ANALYST", "ENGINEER", "ADMIN"]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token has to say; other claims are ignored, malformed ones make the token worthless.

    `sid` is the token that a renewed one goes back to, `auth_time` when its bearer logged in.
    """

    sub: Identifier
    exp: NumericDate
    iat: NumericDate
    nbf: NumericDate = 0
    jti: Identifier | None = None
    sid: Identifier | None = None
    auth_time: NumericDate | None = None
    orgs: dict[OrganizationId, RoleName] = {}
    operator: bool = False
    email: str | None = None
    name: str | None = None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was signed by whom it says: `provider` is its issuer, None for ourselves. `generation`: of the keys
    that said so; `at`: when, in seconds. `digest` is of what was signed, `former_digest` of the signature, too.
    """

    claims: Claims
    provider: str | None
    generation: int
    digest: str
    former_digest: str
    at: float


class Tokens(Generic[B]):
    """Issues and verifies tokens. Knows of no account: app/web/auth.py does, and makes of each verified token its
    `bearer`, once.
    """

    def __init__(self, settings: Settings, clock: Clock, bearer: Callable[[Verified], B]):
        self._settings, self._clock, self._bearer = settings, clock, bearer
        max_age = timedelta(seconds=settings.jwks_max_age)
        self._providers = {issuer: KeySet(url, clock, max_age) for issuer, url in settings.providers.items()}
        self._verified: LRUCache[bytes, tuple[Verified, B]] = LRUCache(REMEMBERED)

    async def open(self) -> None:
        """Fetch the providers' keys, as far as they answer."""
        for keys in self._providers.values():
            keys.refresh()
        await self.settled()

    async def close(self) -> None:
        """Close the connections to the providers."""
        for keys in self._providers.values():
            await keys.close()

    async def settled(self) -> None:
        """Wait until no keys are being fetched."""
        for keys in self._providers.values():
            await keys.settled()

    @property
    def issues(self) -> bool:
        """Whether tokens of our own are accepted here; else people log in at their identity provider only."""
        return "HS256" in self._settings.jwt_algorithms

    @property
    def only_provider(self) -> str | None:
        """The identity provider, where there is just one."""
        return next(iter(self._providers)) if len(self._providers) == 1 else None

    def issue(self, claims: Mapping[str, Any], at: datetime, ttl: float) -> str:
        """A token of our own, good for `ttl` seconds from `at` on; raises Forbidden where none are accepted."""
        if not self.issues:
            raise Forbidden("Log in at your identity provider.")
        token_id, now = str(uuid.uuid4()), at.timestamp()
        ours = {
            "iss": self._settings.jwt_issuer,
            "aud": self._settings.jwt_audience,
            # To the microsecond: a token of the same second as the end of all earlier ones is one or the other.
            "iat": now,
            "exp": int(now + ttl),
            "jti": token_id,
            "sid": token_id,
            "auth_time": now,
        }
        return jwt.encode(ours | dict(claims), self._settings.secret, algorithm="HS256")

    async def verify(self, token: str) -> B:
        """The token's bearer; raises Unauthenticated, IdentityProviderUnavailable."""
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated("The token is too long.")
        digest = hashlib.sha256(token.encode()).digest()
        known: tuple[Verified, B] | None = self._verified.get(digest)
        if known is None or not self._remembers(known[0]):
            self._verified.pop(digest, None)
            verified = await self._verify(token)
            tell_whose(verified.claims.sub)
            self._check_times(verified.claims)
            known = self._verified[digest] = verified, self._bearer(verified)
        elif known[0].claims.exp <= self._seconds():
            tell_whose(known[0].claims.sub)
            raise TokenExpired("Log in again, or renew a token before it expires.")
        return known[1]

    def still_counts(self, provider: str | None, generation: int) -> bool:
        """Whether the keys by which somebody was let in are still their issuer's."""
        if provider is None:
            return generation == OURS
        keys = self._providers.get(provider)
        return keys is not None and keys.still_counts(generation)

    def _remembers(self, verified: Verified) -> bool:
        """No longer than an hour, nor beyond its keys; and what was verified ahead of the clock is verified anew."""
        if not 0 <= self._seconds() - verified.at < LONGEST_MEMORY:
            return False
        return verified.provider is None or self._providers[verified.provider].holds(verified.generation)

    async def _verify(self, token: str) -> Verified:
        try:
            if not COMPACT.fullmatch(token):
                raise jwt.DecodeError
            header = jwt.get_unverified_header(token)
            provider = self._provider(header, token)
            keys = None if provider is None else self._providers[provider]
            key = await self._key(keys, header)
            generation = OURS if keys is None else keys.generation
            claims = msgspec.convert(self._signed(token, key, provider or self._settings.jwt_issuer), Claims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError) as error:
            # The reason goes into the log only: it would tell a forger how far they got.
            log.info("token refused", reason=type(error).__name__)
            raise Unauthenticated("Log in again.") from None
        return Verified(
            claims=claims,
            provider=provider,
            generation=generation,
            # Of an elliptic curve anybody can make a second signature from the first: a token is what was signed.
            digest=_digest(token.rpartition(".")[0]),
            former_digest=_digest(token),
            at=self._seconds(),
        )

    def _provider(self, header: Mapping[str, Any], token: str) -> str | None:
        """The issuer whose keys are asked, None for our own secret: never a public key where a secret is due, or the
        reverse.
        """
        if header.get("alg") not in self._settings.jwt_algorithms:
            raise jwt.InvalidAlgorithmError
        if header["alg"] == "HS256":
            return None
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        if not isinstance(issuer, str) or issuer not in self._providers:
            raise jwt.InvalidIssuerError
        return issuer

    async def _key(self, keys: KeySet | None, header: Mapping[str, Any]) -> str | jwt.PyJWK:
        if keys is None:
            return self._settings.secret
        if not isinstance(header.get("kid"), str):
            raise jwt.InvalidKeyError
        return await keys.find(header["kid"], header["alg"])

    def _signed(self, token: str, key: str | jwt.PyJWK, issuer: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name] if isinstance(key, jwt.PyJWK) else ["HS256"],
            issuer=issuer,
            audience=self._settings.jwt_audience,
            # Times are compared by `_check_times`, against the injected clock.
            options={
                "require": ["sub", "iss", "aud", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        return claims

    def _check_times(self, claims: Claims) -> None:
        now, longest = self._seconds(), self._settings.max_token_ttl
        if claims.exp <= now:
            raise TokenExpired("Log in again, or renew a token before it expires.")
        if max(claims.iat, claims.nbf) > now + LEEWAY:
            raise Unauthenticated("The token is not valid yet.")
        if claims.exp - claims.iat > longest:
            raise Unauthenticated(f"A token is good for {longest:,} seconds at most (VANGUARD_MAX_TOKEN_TTL).")

    def _seconds(self) -> float:
        return self._clock().timestamp()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def expires_at(claims: Claims) -> datetime:
    """From when on the token counts no more."""
    return datetime.fromtimestamp(claims.exp, UTC)
