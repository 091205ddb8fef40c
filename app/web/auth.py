"""Who is asking and what they may do: principals, and the gate of every route. What tokens say: app/web/tokens.py.

The gate verifies the token and, where the path has `{org}`, that the bearer belongs to it. `opt=require(Action.EDIT)`
on a handler asks the matrix for more. Handlers find the result in `request.user`.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import total_ordering
from typing import Any

import msgspec
from cachetools import LRUCache
from litestar import Request

from app.base.clock import Clock
from app.base.database import Connection, Database
from app.base.errors import Forbidden, TokenMissing, TooManyRequests, Unauthenticated, WrongIdentityProvider
from app.base.origin import tell_whose
from app.base.settings import Settings
from app.base.statements import statement
from app.engine.tailer import Bearer
from app.web.cookies import check_sender, check_site, cookie_name
from app.web.tokens import LEEWAY, Tokens, Verified, expires_at

READ_STANDINGS = statement("auth/read_standings")
READ_STORED = statement("auth/read_stored")
READ_ORGANIZATIONS = statement("auth/read_organizations")
REVOKE_TOKEN = statement("auth/revoke_token")
END_TOKENS = statement("auth/end_tokens")

# A second less than the promise, for the time that the request itself takes.
STORED_SECONDS = 4
# Renewals of one bearer, and the seconds: each is an entry of the audit.
RENEWALS, RENEWALS_SECONDS = 20, 60
REMEMBERED = 50_000  # bearers in an organization
ACCOUNT = "account:"  # before the id of a removed account, among revoked tokens
EVERYWHERE = ""  # the scope of a logout that counts in all organizations, and outside of them

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
    DECIDE_DRIFT = "decide on drift"
    DECIDE_JOINS = "decide on joins"
    REPLAY = "replay or backfill records"
    OVERRIDE_GUARDS = "override the guards of a question"
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
    Action.DECIDE_DRIFT: _from(Role.ADMIN),
    Action.DECIDE_JOINS: _from(Role.ADMIN),
    Action.REPLAY: _from(Role.ADMIN),
    Action.OVERRIDE_GUARDS: _from(Role.ADMIN),
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
    None on a route that has none. `operator`: claimed by the token and, once the gate let it pass, stored as well.
    `former_id`: under which a token without an id was revoked by 0.1.0, and by processes that are not replaced yet.
    `provider` is the issuer of an identity provider's token, None for one of our own; `generation` that of its keys.
    `issued_at`, at the earliest by our clock, and `logged_in_at` are seconds.
    """

    user_id: str
    orgs: dict[str, Role]
    operator: bool
    token_id: str
    expires_at: datetime
    issued_at: float = 0.0
    logged_in_at: float = 0.0
    session_id: str | None = None
    former_id: str | None = None
    provider: str | None = None
    generation: int = 0
    email: str | None = None
    name: str | None = None
    role: Role | None = None

    @property
    def subject(self) -> str:
        """Who it is among all bearers: two providers may each know somebody by one id."""
        return self.user_id if self.provider is None else f"{self.provider} {self.user_id}"

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


def require(action: Action) -> dict[str, Any]:
    """What the gate asks on a route under `{org}`: the role there must allow the action. To administer takes the
    role of now: who was ADMIN a few seconds ago could make themselves one again.
    """
    return {"requires": lambda principal: principal.demand(action), "fresh": action is Action.ADMINISTER}


def require_operator() -> dict[str, Requirement]:
    """What the gate asks on the system routes, which belong to no organization."""

    def requirement(principal: Principal) -> None:
        if not principal.operator:
            raise Forbidden("This takes a token of an operator.")

    return {"requires": requirement}


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored about a token's bearer, in one organization or in none. `at`: when it was read, in seconds."""

    revoked: bool
    tokens_valid_from: datetime | None
    operator: bool
    managed: bool
    identity_provider: str | None
    role: str | None
    at: float


class Auth:
    """Whose token it is, and the role that counts."""

    def __init__(self, settings: Settings, database: Database, clock: Clock):
        self.tokens = Tokens(settings, clock, self._bearer)
        self._settings = settings
        self._database = database
        self._clock = clock
        self._stored: LRUCache[tuple[str, str | None, str], Stored] = LRUCache(REMEMBERED)
        # When a bearer's minute began, and how many renewals it has seen.
        self._renewals: LRUCache[str, tuple[float, int]] = LRUCache(REMEMBERED)
        self._generation = 0

    def now(self) -> datetime:
        """By the clock that tokens are compared with."""
        return self._clock()

    # --- the gate of every route

    async def admit(self, request: AnyRequest) -> None:
        """Set `request.user`, or refuse. Handlers with `opt={"public": True}` are for everybody, and so is OPTIONS.

        `opt={"cookie": True}` takes the login's cookie too, for EventSource, which cannot send a header.
        """
        opt = request.route_handler.opt
        if opt.get("sets_cookie"):
            check_sender(request, self._settings)
        if opt.get("public") or request.method == "OPTIONS":
            return
        principal = await self.verify(bearer(request, self._settings, cookie=bool(opt.get("cookie"))))
        await self._let_in(request, principal)

    async def admit_again(self, request: AnyRequest) -> None:
        """Refuse who was admitted and would not be any more. A token that ran out since was good when it was sent."""
        if isinstance(principal := request.scope.get("user"), Principal):
            await self._let_in(request, principal)

    async def _let_in(self, request: AnyRequest, principal: Principal) -> None:
        opt = request.route_handler.opt
        organization = request.path_params.get("org")
        # What the token does not name may be any text of theirs.
        tell_whose(principal.user_id, organization if organization in principal.orgs else None)
        principal = await self.counted(principal, organization, fresh=bool(opt.get("fresh")))
        if organization is not None and principal.role is None:
            raise Forbidden(FOREIGN)
        if requirement := opt.get("requires"):
            requirement(principal)
        request.scope["user"] = principal

    # --- tokens

    @property
    def issues(self) -> bool:
        """Whether tokens of our own are accepted here."""
        return self.tokens.issues

    def issue(
        self,
        account: Account,
        *,
        ttl: float | None = None,
        operator: bool | None = None,
        at: datetime | None = None,
        before: Principal | None = None,
    ) -> str:
        """A token for the account, good for `ttl` seconds from `at` on; `operator` False leaves out what the account
        is. With `before` it renews that token: it ends with the same logout.
        """
        claims: dict[str, Any] = {
            "sub": account.id,
            "email": account.email,
            "name": account.name,
            "orgs": {organization: role.value for organization, role in account.roles.items()},
        }
        if account.operator if operator is None else operator:
            claims["operator"] = True
        if before is not None:
            claims |= {"sid": before.session_id or before.token_id, "auth_time": before.logged_in_at}
        return self.tokens.issue(claims, at or self._clock(), self._settings.token_ttl if ttl is None else ttl)

    async def verify(self, token: str) -> Principal:
        """The bearer of the token; raises Unauthenticated. Says nothing about revocation: `counted` does."""
        return await self.tokens.verify(token)

    def _bearer(self, verified: Verified) -> Principal:
        # An id says which of its issuer's tokens it is: two providers may both count from 1.
        alone = verified.provider in (None, self.tokens.only_provider)
        return _principal(verified, "" if alone else f"{verified.provider} ")

    async def revoke(self, connection: Connection, principal: Principal) -> None:
        """Make the principal's token invalid, and those that renewed it: at once here after `forget`, within 5 seconds
        in other processes.
        """
        at = self._clock()
        await connection.value(
            REVOKE_TOKEN,
            token_ids=token_ids(principal),
            # No token of the same login outlives this: it cannot be renewed any more.
            expires_at=max(principal.expires_at, at + self._longest),
            at=at,
        )

    async def end_tokens(self, connection: Connection, subject: str, scope: str, at: datetime) -> None:
        """Make all tokens invalid that a bearer was given before `at`, everywhere or in one organization; `forget` has
        it count at once here.
        """
        # As long as a login of before can be renewed, which must not open again what was closed.
        before = at - max(self._longest, timedelta(seconds=self._settings.renewable_for))
        await connection.value(END_TOKENS, subject=subject, scope=scope, at=at, before=before)

    @property
    def _longest(self) -> timedelta:
        return timedelta(seconds=max(self._settings.max_token_ttl, self._settings.token_ttl))

    # --- roles

    async def counted(self, principal: Principal, organization: str | None, *, fresh: bool = False) -> Principal:
        """The principal with what counts: the role in the organization, the lesser of the token's and the stored one,
        None for none; and whether it is an operator. `fresh`: as it is now, and not as it was seconds ago, where
        another token is given for this one.

        Raises Unauthenticated for a token that has ended, also when `organization` is None; WrongIdentityProvider where
        a member came by another way than the organization's own.
        """
        # What the token does not name is not looked up: one entry of the cache for all foreign organizations.
        claimed = principal.orgs.get(organization) if organization is not None else None
        stored = await self._read_stored(principal, organization if claimed else None, fresh)
        if stored.revoked or _has_ended(principal.issued_at, stored.tokens_valid_from):
            raise Unauthenticated("Its bearer has logged out, or has another password. Log in again.")
        role = None
        if claimed is not None:
            role = self._role(principal.provider, claimed, stored.managed, stored.identity_provider, stored.role)
        if role is None and principal.provider is None and stored.managed and stored.role is not None:
            raise WrongIdentityProvider("Log in at the organization's identity provider, and send its token.")
        # Where several providers are known, each speaks for the organizations that name it, and for nothing else.
        ours = principal.provider in (None, self.tokens.only_provider)
        operator = principal.operator and stored.operator and ours
        return msgspec.structs.replace(principal, role=role, operator=operator)

    async def renewable(self, principal: Principal, account: Account) -> Account:
        """The account with the roles that another token may have which is given for this one: none in an organization
        that an ADMIN has logged its bearer out of since the login. Raises Unauthenticated, and TooManyRequests for
        one who asks all the time.
        """
        now = self._clock().timestamp()
        began, renewals = self._renewals.get(principal.subject, (now, 0))
        if not 0 <= now - began < RENEWALS_SECONDS:
            began, renewals = now, 0
        if renewals >= RENEWALS:
            raise TooManyRequests(
                f"A token is renewed {RENEWALS} times a minute at most. Renew it shortly before it expires.",
                retry_after=math.ceil(began + RENEWALS_SECONDS - now),
            )
        self._renewals[principal.subject] = began, renewals + 1
        await self.counted(principal, None, fresh=True)
        async with self._database.connection() as connection:
            rows = await connection.rows(
                READ_ORGANIZATIONS,
                user=principal.user_id,
                organizations=list(account.roles),
                # The token may have been renewed after that logout, and is younger than it.
                issued_at=datetime.fromtimestamp(principal.logged_in_at, UTC),
            )
        return msgspec.structs.replace(account, roles={row["id"]: account.roles[row["id"]] for row in rows})

    async def organizations(self, principal: Principal) -> dict[str, Role]:
        """The role that counts in each organization that the token names, by its id."""
        async with self._database.connection() as connection:
            rows = await connection.rows(
                READ_ORGANIZATIONS,
                user=principal.user_id,
                organizations=list(principal.orgs),
                issued_at=datetime.fromtimestamp(principal.issued_at, UTC),
            )
        roles = {
            row["id"]: self._role(
                principal.provider, principal.orgs[row["id"]], row["managed"], row["identity_provider"], row["role"]
            )
            for row in rows
        }
        return {organization: role for organization, role in roles.items() if role is not None}

    async def may_go_on(self, connection: Connection, organization: str, bearers: Sequence[Bearer]) -> list[bool]:
        """Whether each of these bearers, who were let in to an organization, still has the role of then."""
        rows = await connection.rows(
            READ_STANDINGS,
            organization=organization,
            users=[bearer.user for bearer in bearers],
            token_ids=[bearer.token_id for bearer in bearers],
            session_ids=[bearer.session_id for bearer in bearers],
            subjects=[bearer.subject for bearer in bearers],
        )
        return [
            not row["revoked"]
            and not _has_ended(bearer.issued_at, row["tokens_valid_from"])
            and self.tokens.still_counts(bearer.provider, bearer.generation)
            and Role(bearer.role)
            is self._role(bearer.provider, Role(bearer.claimed), row["managed"], row["identity_provider"], row["role"])
            for bearer, row in zip(bearers, rows, strict=True)
        ]

    def forget(self) -> None:
        """Drop what is cached about memberships and revocations: after a change, so that it counts at once here."""
        self._generation += 1
        self._stored.clear()

    def _role(
        self, provider: str | None, claimed: Role, managed: bool, own_provider: str | None, stored: str | None
    ) -> Role | None:
        """The role that counts; a provider's token counts where the organization names that provider, or none and there
        is one only.
        """
        if provider is None and managed:
            return None
        if provider is not None and provider != (own_provider or self.tokens.only_provider):
            return None
        if managed:
            return claimed
        return min(claimed, Role(stored)) if stored is not None else None

    async def _read_stored(self, principal: Principal, organization: str | None, fresh: bool) -> Stored:
        key = (principal.subject, organization, principal.token_id)
        stored: Stored | None = self._stored.get(key)
        now = self._clock().timestamp()
        # What was read ahead of the clock is read anew: it was put back since.
        if not fresh and stored is not None and 0 <= now - stored.at < STORED_SECONDS:
            return stored
        generation = self._generation
        async with self._database.connection() as connection:
            row = await connection.row(
                READ_STORED,
                user=principal.user_id,
                organization=organization,
                token_ids=token_ids(principal),
                subject=principal.subject,
            )
        assert row is not None, "the statement always answers with one row"
        stored = Stored(**row, at=now)
        if generation == self._generation:
            # Else somebody changed it while it was read.
            self._stored[key] = stored
        return stored


def _principal(verified: Verified, whose: str) -> Principal:
    claims = verified.claims
    # Without an id of its own a token is known by its digest, so that it can be revoked all the same; and so is one
    # whose id would revoke an account.
    given = None if claims.jti is None or claims.jti.startswith(ACCOUNT) else claims.jti
    return Principal(
        user_id=claims.sub,
        orgs={organization: Role(role) for organization, role in claims.orgs.items()},
        operator=claims.operator,
        token_id=whose + (given or verified.digest),
        expires_at=expires_at(claims),
        # At the earliest: a provider's clock may be ahead of ours, by which logouts are.
        issued_at=claims.iat if verified.provider is None else claims.iat - LEEWAY,
        logged_in_at=claims.iat if claims.auth_time is None else claims.auth_time,
        # Only ours say what they renew.
        session_id=claims.sid if verified.provider is None else None,
        former_id=None if given else whose + verified.former_digest,
        provider=verified.provider,
        generation=verified.generation,
        email=claims.email,
        name=claims.name,
    )


def token_ids(principal: Principal) -> list[str]:
    """Under which a revocation is looked up."""
    ids = (principal.token_id, principal.session_id, principal.former_id)
    return [each for each in ids if each is not None]


def _has_ended(issued_at: float, tokens_valid_from: datetime | None) -> bool:
    return tokens_valid_from is not None and issued_at < tokens_valid_from.timestamp()


def bearer(request: AnyRequest, settings: Settings, *, cookie: bool = False) -> str:
    """The request's token; raises Unauthenticated, and Forbidden for a cookie that another site's page sent."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if cookie and not scheme and (stored := request.cookies.get(cookie_name(settings))):
        check_site(request, settings)
        return stored
    raise TokenMissing("Send a token: `Authorization: Bearer <token>`.")


def reconnects(request: AnyRequest) -> bool:
    """Whether a browser comes back to a stream by its cookie."""
    headers = request.headers
    return (
        bool(request.route_handler.opt.get("cookie")) and "last-event-id" in headers and "authorization" not in headers
    )
