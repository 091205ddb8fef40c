"""Logging in with a password, and out again."""

import asyncio
import hashlib
import ipaddress
import math
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody

from app import accounts, members
from app.base.database import Connection
from app.base.errors import Forbidden, InvalidCredentials, MemberNotFound, TooManyAttempts
from app.base.settings import Settings
from app.base.statements import statement
from app.web.auth import COOKIE, Account, Role
from app.web.budgets import LOGIN
from app.web.openapi import answers
from app.web.runtime import Runtime, VanguardRequest

READ_FAILURES = statement("login/read_failures")
COUNT_FAILURE = statement("login/count_failure")
CLEAR_FAILURES = statement("login/clear_failures")

# Failures that are free: for an email from an address, and for an address whatever the email.
FREE_FAILURES, FREE_FAILURES_OF_ADDRESS = 5, 100
FIRST_WAIT, LONGEST_WAIT = 10, 900
WINDOW = timedelta(minutes=15)

# The password of nobody, with the hasher's parameters: an unknown account takes as long as a wrong password.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$C/GsvxF8116hGgVBlZitNA$T99VCaAUHviTDGWTP+NlmOCUFQCCbIBti8ukWZ1NyhU"

# Each hash takes 64 MiB and tens of milliseconds of every core: two at a time, the others wait, requests go on.
HASHING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What somebody knows."""

    email: Annotated[str, msgspec.Meta(max_length=members.LONGEST_EMAIL, examples=["ann@demo.example"])]
    password: Annotated[str, msgspec.Meta(max_length=accounts.LONGEST_PASSWORD, examples=["correct horse battery"])]


class OrganizationRole(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An organization that one belongs to, and as what."""

    id: str
    role: Role


class User(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who one is."""

    id: str
    email: str | None
    name: str | None
    organizations: list[OrganizationRole]


class Ticket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token and whose it is; it expires in `expires_in` seconds."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int
    user: User


@post(
    "/api/auth/login",
    opt={"public": True, **LOGIN},
    status_code=200,
    tags=["auth"],
    summary="Log in",
    security=[{}],
    responses=answers(Ticket, 429),
)
async def login(request: VanguardRequest, data: JSONBody[Credentials]) -> Response[Ticket]:
    """A token for email and password, and the same as a cookie for the event stream.

    A wrong password and an unknown account answer alike. After some failures one has to wait: `Retry-After`.
    """
    runtime = request.runtime
    if not runtime.auth.issues:
        raise Forbidden("Log in at your identity provider.")
    account = await _identify(runtime, data, _address(request))
    token, seconds = runtime.auth.issue(account), runtime.settings.token_ttl
    ticket = Ticket(access_token=token, expires_in=seconds, user=_user(account, account.roles))
    cookies = [_cookie(runtime.settings, token, seconds)]
    return Response(ticket, cookies=cookies, headers={"Cache-Control": "no-store"})


@get("/api/auth/me", tags=["auth"], summary="Who am I", responses=answers(User))
async def me(request: VanguardRequest) -> User:
    """The bearer of the token, with the roles that count: the lesser of the token's and the stored ones."""
    runtime = request.runtime
    principal = request.user
    roles = await runtime.auth.organizations(principal)
    try:
        return _user(await accounts.find_account(runtime.database, principal.user_id), roles)
    except MemberNotFound:
        # Known to the identity provider only.
        return User(id=principal.user_id, email=principal.email, name=principal.name, organizations=_listed(roles))


@post("/api/auth/logout", status_code=204, tags=["auth"], summary="Log out", responses=answers(None, status=204))
async def logout(request: VanguardRequest) -> Response[None]:
    """The token is no longer valid, here at once and elsewhere within 5 seconds."""
    runtime = request.runtime
    await runtime.auth.revoke(request.user)
    return Response(None, cookies=[_cookie(runtime.settings, "", 0)])


async def _identify(runtime: Runtime, credentials: Credentials, address: str) -> Account:
    """The account of these credentials; raises InvalidCredentials or TooManyAttempts."""
    email = members.normalized(credentials.email)
    # No email is a pair, too, and another one than the address alone.
    pair, alone = _digest(email or " ", address), _digest("", address)
    loop = asyncio.get_running_loop()
    async with runtime.database.connection() as connection:
        await _refuse_impatience(connection, pair, alone, runtime.clock())
        row = await connection.row(accounts.READ_ACCOUNT, account=None, email=email)
    stored = row["password_hash"] if row is not None else None
    # No connection is held while passwords are hashed.
    right = await loop.run_in_executor(HASHING, accounts.matches, stored or NOBODY, credentials.password)
    forgotten = runtime.clock() - WINDOW
    async with runtime.database.connection() as connection:
        if row is None or stored is None or not right:
            await connection.value(COUNT_FAILURE, pair=pair, alone=alone, at=runtime.clock(), before=forgotten)
            raise InvalidCredentials("Check both and try again.")
        # Many guesses sent at once pass the first check together: the right one among them has to be told nothing.
        if await _refuse_impatience(connection, pair, alone, runtime.clock()):
            await connection.value(CLEAR_FAILURES, pair=pair, before=forgotten)
    if accounts.HASHER.check_needs_rehash(stored):
        hashed = await loop.run_in_executor(HASHING, accounts.HASHER.hash, credentials.password)
        async with runtime.database.connection() as connection:
            await connection.value(accounts.SAVE_PASSWORD, account=row["id"], password_hash=hashed, replaced=stored)
    return accounts.account_of(row)


async def _refuse_impatience(connection: Connection, pair: bytes, alone: bytes, now: datetime) -> bool:
    """Whether there were failures; raises TooManyAttempts while one has to wait.

    An attempt that is refused here tells nothing about the password, so it neither counts nor prolongs the wait: a
    program that keeps trying is not locked out for ever.
    """
    rows = await connection.rows(READ_FAILURES, pair=pair, alone=alone)
    waits = [_wait(row["failures"], row["pair"], now - row["last_at"]) for row in rows]
    if (wait := max(waits, default=0)) > 0:
        raise TooManyAttempts(f"Too many attempts failed. Try again in {wait} seconds.", retry_after=wait)
    return any(row["pair"] for row in rows)


def _wait(failures: int, pair: bool, passed: timedelta) -> int:
    """Seconds still to wait: none for the first failures, then twice as long for each further one."""
    beyond = failures - (FREE_FAILURES if pair else FREE_FAILURES_OF_ADDRESS)
    if beyond < 0:
        return 0
    wait = min(FIRST_WAIT << min(beyond, 10), LONGEST_WAIT)
    return max(math.ceil(wait - passed.total_seconds()), 0)


def _address(request: VanguardRequest) -> str:
    """The client's address; of an IPv6 address the network, since everybody has 2^64 of them."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def _digest(email: str, address: str) -> bytes:
    return hashlib.sha256(f"{email}\0{address}".encode()).digest()


def _user(account: Account, roles: dict[str, Role]) -> User:
    return User(id=account.id, email=account.email, name=account.name, organizations=_listed(roles))


def _listed(roles: dict[str, Role]) -> list[OrganizationRole]:
    return [OrganizationRole(id=organization, role=role) for organization, role in sorted(roles.items())]


def _cookie(settings: Settings, token: str, seconds: int) -> Cookie:
    return Cookie(
        key=COOKIE,
        value=token,
        max_age=seconds,
        path="/api/v1",
        httponly=True,
        samesite="strict",
        secure=settings.cookie_secure,
    )


ROUTES = [login, me, logout]
