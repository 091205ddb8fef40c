"""Who is asking and what they may do: tokens, principals, and the gate of every route.

The gate verifies the token and, where the path has `{org}`, that the bearer belongs to it. `opt=require(Action.EDIT)`
on a handler asks the matrix for more. Handlers find the result in `request.user`.
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import total_ordering
from typing import Annotated, Any

import jwt
import msgspec
import structlog
from cachetools import TLRUCache, TTLCache
from litestar import Request

from app.base.clock import Clock
from app.base.database import Connection, Database
from app.base.errors import Forbidden, Unauthenticated
from app.base.settings import Settings
from app.base.statements import statement
from app.engine.tailer import Bearer
from app.web.keys import KeySet

log = structlog.get_logger(__name__)

READ_STANDINGS = statement("auth/read_standings")
READ_STORED = statement("auth/read_stored")
READ_ORGANIZATIONS = statement("auth/read_organizations")
REVOKE_TOKEN = statement("auth/revoke_token")

COOKIE = "vanguard_token"
LONGEST_TOKEN = 8192
# A provider's clock may be a little ahead of ours. Expiry has no such grace: revocations are kept until then only.
LEEWAY = 5
# A second less than the promise, for the time that the request itself takes.
STORED_SECONDS = 4

# The same words for an organization that does not exist, that is another's, or that one has been removed from.
FOREIGN = "This is not an organization of yours."


@total_ordering
class Role(Enum):
    """What a member is in an organization, from the least to the most."""

    VIEWER = "VIEWER"
    ANALYST = "ANALYST"
    ENGINEER = "ENGINEER"
    ADMIN = "ADMIN"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return RANKS[self] < RANKS[other]


RANKS = {role: rank for rank, role in enumerate(Role)}


class Action(Enum):
    """What a route does, as far as roles are concerned."""

    QUERY = "query"
    EDIT = "edit"
    REGISTER_CONTRACT = "register contracts"
    INGEST = "ingest"
    SYNCHRONIZE = "synchronize"
    LIFT_GUARDS = "lift a pull's guards"
    SEE_SHADOW = "see shadow versions"
    REVIEW = "review"
    PROMOTE = "promote or deprecate datasets"
    REPLAY = "replay or backfill records"
    ADMINISTER = "administer"

    @property
    def word(self) -> str:
        """As the wire has it: `liftGuards`."""
        first, *others = self.name.lower().split("_")
        return first + "".join(map(str.capitalize, others))


def _from(least: Role) -> frozenset[Role]:
    return frozenset(role for role in Role if role >= least)


# The only place that says which role may do what.
ALLOWED: dict[Action, frozenset[Role]] = {
    Action.QUERY: _from(Role.VIEWER),
    Action.EDIT: _from(Role.ANALYST),
    Action.REGISTER_CONTRACT: _from(Role.ENGINEER),
    Action.INGEST: _from(Role.ENGINEER),
    Action.SYNCHRONIZE: _from(Role.ENGINEER),
    Action.LIFT_GUARDS: _from(Role.ADMIN),
    Action.SEE_SHADOW: _from(Role.ENGINEER),
    Action.REVIEW: _from(Role.ADMIN),
    Action.PROMOTE: _from(Role.ADMIN),
    Action.REPLAY: _from(Role.ADMIN),
    Action.ADMINISTER: _from(Role.ADMIN),
}


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom this installation knows, with the stored role in each organization."""

    id: str
    email: str
    name: str
    operator: bool
    roles: dict[str, Role]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The bearer of a verified token.

    `orgs` are the token's claims; `role` is what counts: the role in the organization of the request's path,
    None on a route that has none.
    """

    user_id: str
    orgs: dict[str, Role]
    operator: bool
    token_id: str
    expires_at: datetime
    email: str | None = None
    name: str | None = None
    role: Role | None = None

    def may(self, action: Action) -> bool:
        """Whether the role in the path's organization allows the action."""
        return self.role is not None and self.role in ALLOWED[action]

    def demand(self, action: Action) -> None:
        """Raise Forbidden where the role does not allow the action."""
        if not self.may(action):
            roles = " or ".join(role.value for role in Role if role in ALLOWED[action])
            raise Forbidden(f"To {action.value} takes the role {roles}.")


AnyRequest = Request[Any, Any, Any]
Requirement = Callable[[Principal], None]


def require(action: Action) -> dict[str, Requirement]:
    """What the gate asks on a route under `{org}`: the role there must allow the action."""
    return {"requires": lambda principal: principal.demand(action)}


def require_operator() -> dict[str, Requirement]:
    """What the gate asks on the system routes, which belong to no organization."""

    def requirement(principal: Principal) -> None:
        if not principal.operator:
            raise Forbidden("This takes a token of an operator.")

    return {"requires": requirement}


OrganizationId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z")]
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x7e]{1,255}\Z")]
NumericDate = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token has to say; other claims are ignored, malformed ones make the token worthless."""

    sub: Identifier
    exp: NumericDate
    iat: NumericDate
    nbf: NumericDate = 0
    jti: Identifier | None = None
    orgs: dict[OrganizationId, Role] = {}
    operator: bool = False
    email: str | None = None
    name: str | None = None


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored about a token's bearer in one organization."""

    revoked: bool
    managed: bool
    role: str | None


class Auth:
    """Issues and verifies tokens, and knows the role that counts."""

    def __init__(self, settings: Settings, database: Database, clock: Clock):
        self._settings = settings
        self._database = database
        self._clock = clock
        self._keys = KeySet(settings.jwks_url, clock) if settings.jwks_url else None
        self._verified: TLRUCache[bytes, Principal] = TLRUCache(
            maxsize=10_000, ttu=lambda _, principal, __: principal.expires_at.timestamp(), timer=self._seconds
        )
        self._stored: TTLCache[tuple[str, str | None, str], Stored] = TTLCache(
            maxsize=50_000, ttl=STORED_SECONDS, timer=self._seconds
        )
        self._generation = 0

    async def close(self) -> None:
        """Close the connections to the identity provider."""
        if self._keys is not None:
            await self._keys.close()

    # --- the gate of every route

    async def admit(self, request: AnyRequest) -> None:
        """Set `request.user`, or refuse. Handlers with `opt={"public": True}` are for everybody, and so is OPTIONS.

        `opt={"cookie": True}` takes the login's cookie too, for EventSource, which cannot send a header.
        """
        opt = request.route_handler.opt
        if opt.get("public") or request.method == "OPTIONS":
            return
        principal = await self.verify(bearer(request, self._settings, cookie=bool(opt.get("cookie"))))
        organization = request.path_params.get("org")
        role = await self.access(principal, organization)
        if organization is not None and role is None:
            raise Forbidden(FOREIGN)
        principal = msgspec.structs.replace(principal, role=role)
        if requirement := opt.get("requires"):
            requirement(principal)
        request.scope["user"] = principal

    # --- tokens

    @property
    def issues(self) -> bool:
        """Whether tokens of our own are accepted here; else people log in at their identity provider only."""
        return "HS256" in self._settings.jwt_algorithms

    def issue(self, account: Account, *, ttl: int | None = None, operator: bool | None = None) -> str:
        """A token for the account, good for `ttl` seconds; `operator` overrides what the account is."""
        if not self.issues:
            raise Forbidden("Log in at your identity provider.")
        now = int(self._seconds())
        claims: dict[str, Any] = {
            "sub": account.id,
            "email": account.email,
            "name": account.name,
            "orgs": {organization: role.value for organization, role in account.roles.items()},
            "iss": self._settings.jwt_issuer,
            "aud": self._settings.jwt_audience,
            "iat": now,
            "exp": now + (self._settings.token_ttl if ttl is None else ttl),
            "jti": str(uuid.uuid4()),
        }
        if account.operator if operator is None else operator:
            claims["operator"] = True
        return jwt.encode(claims, self._settings.secret, algorithm="HS256")

    async def verify(self, token: str) -> Principal:
        """The bearer of the token; raises Unauthenticated. Says nothing about revocation: `access` does."""
        if len(token) > LONGEST_TOKEN:
            raise Unauthenticated("The token is too long.")
        digest = hashlib.sha256(token.encode()).digest()
        principal: Principal | None = self._verified.get(digest)
        if principal is None:
            principal = await self._verify(token, digest)
            self._verified[digest] = principal
        return principal

    async def revoke(self, principal: Principal) -> None:
        """Make the principal's token invalid: at once here, within 5 seconds in other processes."""
        async with self._database.connection() as connection:
            await connection.value(
                REVOKE_TOKEN, token_id=principal.token_id, expires_at=principal.expires_at, at=self._clock()
            )
        self.forget()

    async def _verify(self, token: str, digest: bytes) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            claims = msgspec.convert(self._signed(token, await self._key(header)), Claims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError) as error:
            # The reason goes into the log only: it would tell a forger how far they got.
            log.info("token refused", reason=type(error).__name__)
            raise Unauthenticated("The token is not valid.") from None
        now = self._seconds()
        if claims.exp <= now:
            raise Unauthenticated("The token has expired.")
        if max(claims.iat, claims.nbf) > now + LEEWAY:
            raise Unauthenticated("The token is not valid yet.")
        return Principal(
            user_id=claims.sub,
            orgs=claims.orgs,
            operator=claims.operator,
            # Without an id of its own a token is known by its digest, so that it can be revoked all the same.
            token_id=claims.jti or digest.hex(),
            expires_at=datetime.fromtimestamp(claims.exp, UTC),
            email=claims.email,
            name=claims.name,
        )

    async def _key(self, header: Mapping[str, Any]) -> str | jwt.PyJWK:
        """The key for the algorithm that the header names: never a public key where a secret is due, or the reverse."""
        algorithm = header.get("alg")
        if algorithm not in self._settings.jwt_algorithms:
            raise jwt.InvalidAlgorithmError
        if algorithm == "HS256":
            return self._settings.secret
        if self._keys is None or not isinstance(header.get("kid"), str):
            raise jwt.InvalidKeyError
        return await self._keys.find(header["kid"], algorithm)

    def _signed(self, token: str, key: str | jwt.PyJWK) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name] if isinstance(key, jwt.PyJWK) else ["HS256"],
            issuer=self._settings.jwt_issuer,
            audience=self._settings.jwt_audience,
            # Times are compared by `_verify`, against the injected clock.
            options={
                "require": ["sub", "iss", "aud", "iat", "exp"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        return claims

    # --- roles

    async def access(self, principal: Principal, organization: str | None) -> Role | None:
        """The role that counts in the organization: the lesser of the token's and the stored one, or None.

        Raises Unauthenticated for a revoked token, also when `organization` is None.
        """
        # What the token does not name is not looked up: one entry of the cache for all foreign organizations.
        claimed = principal.orgs.get(organization) if organization is not None else None
        stored = await self._read_stored(principal, organization if claimed else None)
        if stored.revoked:
            raise Unauthenticated("The token was revoked.")
        return _effective(claimed, stored.managed, stored.role) if claimed else None

    async def organizations(self, principal: Principal) -> dict[str, Role]:
        """The role that counts in each organization that the token names, by its id."""
        async with self._database.connection() as connection:
            rows = await connection.rows(READ_ORGANIZATIONS, user=principal.user_id, organizations=list(principal.orgs))
        roles = {row["id"]: _effective(principal.orgs[row["id"]], row["managed"], row["role"]) for row in rows}
        return {organization: role for organization, role in roles.items() if role is not None}

    async def may_go_on(self, connection: Connection, organization: str, bearers: Sequence[Bearer]) -> list[bool]:
        """Whether each of these bearers, who were let in to an organization, still has the role of then."""
        rows = await connection.rows(
            READ_STANDINGS,
            organization=organization,
            users=[bearer.user for bearer in bearers],
            token_ids=[bearer.token_id for bearer in bearers],
        )
        return [
            not row["revoked"] and _effective(Role(bearer.claimed), row["managed"], row["role"]) is Role(bearer.role)
            for bearer, row in zip(bearers, rows, strict=True)
        ]

    def forget(self) -> None:
        """Drop what is cached about memberships and revocations: after a change, so that it counts at once here."""
        self._generation += 1
        self._stored.clear()

    async def _read_stored(self, principal: Principal, organization: str | None) -> Stored:
        key = (principal.user_id, organization, principal.token_id)
        stored: Stored | None = self._stored.get(key)
        if stored is not None:
            return stored
        generation = self._generation
        async with self._database.connection() as connection:
            row = await connection.row(
                READ_STORED, user=principal.user_id, organization=organization, token_id=principal.token_id
            )
        assert row is not None, "the statement always answers with one row"
        stored = Stored(revoked=row["revoked"], managed=row["managed"], role=row["role"])
        if generation == self._generation:
            # Else somebody changed it while it was read.
            self._stored[key] = stored
        return stored

    def _seconds(self) -> float:
        return self._clock().timestamp()


def _effective(claimed: Role, managed: bool, stored: str | None) -> Role | None:
    if managed:
        return claimed
    return min(claimed, Role(stored)) if stored is not None else None


def bearer(request: AnyRequest, settings: Settings, *, cookie: bool = False) -> str:
    """The request's token; raises Unauthenticated, and Forbidden for a cookie that another site's page sent."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if cookie and not scheme and (stored := request.cookies.get(COOKIE)):
        _check_site(request, settings)
        return stored
    raise Unauthenticated("Send a token: `Authorization: Bearer <token>`.")


def reconnects(request: AnyRequest) -> bool:
    """Whether a browser comes back to a stream by its cookie."""
    headers = request.headers
    return (
        bool(request.route_handler.opt.get("cookie")) and "last-event-id" in headers and "authorization" not in headers
    )


def _check_site(request: AnyRequest, settings: Settings) -> None:
    """Raises Forbidden where a page of somewhere else asks with our cookie: a browser sends it along unasked."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if origin is not None and origin in settings.cors_origin:
        return
    ours = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if not ours or site not in ("same-origin", "none"):
        raise Forbidden("A page of another site cannot listen with your cookie. Its origin has to be allowed.")
