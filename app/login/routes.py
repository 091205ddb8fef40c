"""Logging in with a password, who one is, and out again."""

from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody

from app import accounts, members
from app.base.errors import Forbidden, MemberNotFound
from app.base.settings import Settings
from app.login.attempts import identify
from app.web.addresses import client_address
from app.web.auth import COOKIE, Account, Role
from app.web.budgets import LOGIN
from app.web.openapi import answers
from app.web.runtime import VanguardRequest


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
    responses=answers(Ticket, 429, 503),
)
async def login(request: VanguardRequest, data: JSONBody[Credentials]) -> Response[Ticket]:
    """A token for email and password, and the same as a cookie for the event stream.

    A wrong password and an unknown account answer alike. After some failures, and while too many log in at once, one
    has to wait: `Retry-After`.
    """
    runtime = request.runtime
    if not runtime.auth.issues:
        raise Forbidden("Log in at your identity provider.")
    address = client_address(request.scope, runtime.settings.trusted_proxies)
    account = await identify(runtime, members.normalized(data.email), data.password, address)
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
