"""Logging in with a password, who one is, staying logged in, another password, and out again."""

from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody

from app import accounts, members, passwords
from app.base.errors import Forbidden, MemberNotFound, TokenExpired, ValidationFailed
from app.engine.audit import Act, Entry, record_everywhere
from app.login.attempts import change_password, identify
from app.login.tickets import Ticket, User, listed, ticket, user_of
from app.web.addresses import client_address
from app.web.auth import EVERYWHERE, Principal
from app.web.budgets import LOGIN
from app.web.cookies import SETS_COOKIE, token_cookie
from app.web.openapi import answers, body
from app.web.runtime import VanguardRequest

Password = Annotated[str, msgspec.Meta(max_length=passwords.LONGEST)]


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What somebody knows."""

    email: Annotated[str, msgspec.Meta(max_length=members.LONGEST_EMAIL, examples=["ann@demo.example"])]
    password: Annotated[str, msgspec.Meta(max_length=passwords.LONGEST, examples=["correct horse battery"])]


class PasswordChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The password that one has, and the one that one wants."""

    old: Password
    new: Password


class Leaving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`everywhere`: not with this token only, but with all that one was given so far."""

    everywhere: bool = False


@post(
    "/api/auth/login",
    opt={"public": True, **LOGIN, **SETS_COOKIE},
    status_code=200,
    tags=["auth"],
    summary="Log in",
    security=[{}],
    responses=answers(Ticket, 429, 503),
)
async def login(request: VanguardRequest, data: JSONBody[Credentials]) -> Response[Ticket]:
    """A token for email and password, and the same as a cookie for the event stream.

    A wrong password and an unknown account answer alike. After some failures, and while too many log in at once, one
    has to wait: `Retry-After`. Roles in organizations that are managed by their identity provider are not in it.
    """
    runtime = request.runtime
    if not runtime.auth.issues:
        raise Forbidden("Log in at your identity provider.")
    address = client_address(request.scope, runtime.settings.trusted_proxies)
    entry = await identify(runtime, members.normalized(data.email), data.password, address)
    return ticket(runtime, entry.account, entry.at)


@get("/api/auth/me", tags=["auth"], summary="Who am I", responses=answers(User))
async def me(request: VanguardRequest) -> User:
    """The bearer of the token, with the roles that count: the lesser of the token's and the stored ones."""
    runtime, principal = request.runtime, request.user
    roles = await runtime.auth.organizations(principal)
    if principal.provider is None:
        try:
            return user_of(await accounts.find_account(runtime.database, principal.user_id), roles)
        except MemberNotFound:
            pass
    # Known to the identity provider only.
    return User(id=principal.user_id, email=principal.email, name=principal.name, organizations=listed(roles))


@post(
    "/api/auth/renew",
    opt=LOGIN,
    status_code=200,
    tags=["auth"],
    summary="Stay logged in",
    responses=answers(Ticket, 403, 429),
)
async def renew(request: VanguardRequest) -> Response[Ticket]:
    """A new token for one that is still valid, with the roles of now. Until the login is too old: then log in again."""
    runtime, at = request.runtime, request.runtime.clock()
    principal = ours(request.user)
    left = int(principal.logged_in_at + runtime.settings.renewable_for - at.timestamp())
    if left <= 0:
        raise TokenExpired("This login is too old to be renewed (VANGUARD_RENEWABLE_FOR). Log in again.")
    account = await accounts.find_account(runtime.database, principal.user_id)
    account = await runtime.auth.renewable(principal, account)
    async with runtime.database.transaction() as connection:
        entry = Entry(at=at, actor=account.id, action=Act.TOKEN_RENEWED)
        await record_everywhere(connection, account.roles, entry)
    return ticket(runtime, account, at, principal, ttl=min(left, runtime.settings.token_ttl))


@post(
    "/api/auth/password",
    opt=LOGIN,
    status_code=200,
    tags=["auth"],
    summary="Change one's password",
    responses=answers(Ticket, 403, 422, 429, 503),
)
async def change(request: VanguardRequest, data: JSONBody[PasswordChange]) -> Response[Ticket]:
    """Another password, which ends all tokens that one was given so far; a new one is in the answer.

    A wrong old password counts as a login that failed.
    """
    runtime, principal = request.runtime, ours(request.user)
    account = await accounts.find_account(runtime.database, principal.user_id)
    passwords.check_password(data.new, strict=runtime.settings.is_production, email=account.email, name=account.name)
    if data.new == data.old:
        raise ValidationFailed("This is the password that you have. Choose another.")
    address = client_address(request.scope, runtime.settings.trusted_proxies)
    at = await change_password(runtime, account.email, data.old, data.new, address)
    runtime.auth.forget()
    return ticket(runtime, account, at)


@post(
    "/api/auth/logout",
    opt=LOGIN,
    status_code=204,
    tags=["auth"],
    summary="Log out",
    responses=answers(None, status=204),
)
async def logout(request: VanguardRequest, data: Annotated[Leaving | None, body({})] = None) -> Response[None]:
    """The token is no longer valid, nor those that it was renewed by; with `everywhere` no token of one's is. Here at
    once and elsewhere within 5 seconds.
    """
    runtime, principal, at = request.runtime, request.user, request.runtime.clock()
    organizations = await runtime.auth.organizations(principal)
    async with runtime.database.transaction() as connection:
        act = Act.TOKEN_REVOKED
        if data is not None and data.everywhere:
            act = Act.LOGOUT_EVERYWHERE
            await runtime.auth.end_tokens(connection, principal.subject, EVERYWHERE, at)
        await runtime.auth.revoke(connection, principal)
        # Nobody here is known to be who a provider says.
        whose = {} if principal.provider is None else {"provider": principal.provider}
        entry = Entry(at=at, actor=principal.user_id, action=act, details=whose)
        await record_everywhere(connection, organizations, entry)
    runtime.auth.forget()
    return Response(None, cookies=[token_cookie(runtime.settings, "", 0)], headers={"Cache-Control": "no-store"})


def ours(principal: Principal) -> Principal:
    """The principal, who came by a token of ours; raises Forbidden."""
    if principal.provider is not None:
        raise Forbidden("This token is your identity provider's. Do it there.")
    return principal


ROUTES = [login, me, renew, change, logout]
