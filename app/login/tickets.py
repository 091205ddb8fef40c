"""What somebody gets who logged in: a token, whose it is, and the cookie for the event stream."""

from datetime import datetime

import msgspec
from litestar import Response

from app.web.auth import Account, Principal, Role
from app.web.cookies import token_cookie
from app.web.runtime import Runtime


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


def ticket(
    runtime: Runtime, account: Account, at: datetime, before: Principal | None = None, *, ttl: int | None = None
) -> Response[Ticket]:
    """A token of the account from `at` on, good for `ttl` seconds or as long as a login is; with `before` it renews
    that token.
    """
    seconds = runtime.settings.token_ttl if ttl is None else ttl
    operator = None if before is None else before.operator
    token = runtime.auth.issue(account, ttl=seconds, at=at, operator=operator, before=before)
    told = Ticket(access_token=token, expires_in=seconds, user=user_of(account, account.roles))
    return Response(
        told, cookies=[token_cookie(runtime.settings, token, seconds)], headers={"Cache-Control": "no-store"}
    )


def user_of(account: Account, roles: dict[str, Role]) -> User:
    """The account, with the roles that count."""
    return User(id=account.id, email=account.email, name=account.name, organizations=listed(roles))


def listed(roles: dict[str, Role]) -> list[OrganizationRole]:
    """Roles by their organization's id."""
    return [OrganizationRole(id=organization, role=role) for organization, role in sorted(roles.items())]
