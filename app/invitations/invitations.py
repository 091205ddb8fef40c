"""Inviting an address, withdrawing that, and accepting it.

An invitation is its organization's: it stands when whoever made it has left.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app import accounts
from app.base.database import Connection
from app.base.errors import (
    AccountExists,
    AlreadyExists,
    Forbidden,
    InvitationNotFound,
    NotFound,
    QuotaExceeded,
    Unauthenticated,
)
from app.base.settings import Settings
from app.base.statements import statement
from app.base.turns import Full
from app.engine.audit import Act, Entry, record_in
from app.invitations.links import Link, not_valid
from app.login.attempts import busy
from app.members import lock_members, managed_elsewhere
from app.passwords import check_password, hash_password
from app.web.auth import Account, Principal, Role
from app.web.runtime import Runtime

FIND_MEMBER = statement("invitations/find_member")
FORGET_EXPIRED = statement("invitations/forget_expired")
COUNT_OTHERS = statement("invitations/count_others")
SAVE_INVITATION = statement("invitations/save_invitation")
LIST_INVITATIONS = statement("invitations/list_invitations")
READ_INVITATION = statement("invitations/read_invitation")
TAKE_INVITATION = statement("invitations/take_invitation")
HOLD_ACCOUNT = statement("accounts/hold_account")
ADD_MEMBER = statement("members/add_member")


class Invitation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An address that may become a member, until then."""

    id: uuid.UUID
    email: str
    role: Role
    invited_by: str
    invited_by_name: str | None
    created_at: datetime
    expires_at: datetime


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody who has a link may accept, and how: `known` is an address of an account."""

    link: Link
    email: str
    known: bool


async def invite(
    connection: Connection, organization: str, user: str, email: str, role: Role, at: datetime, settings: Settings
) -> Invitation:
    """Invite an address, in place of what it was invited as before; raises ValidationFailed, AlreadyExists for a
    member's, QuotaExceeded, ManagedOrganization, Forbidden for who is no ADMIN any more.
    """
    email = accounts.checked_email(email)
    await lock_members(connection, organization, user)
    if await connection.value(FIND_MEMBER, organization=organization, email=email) is not None:
        raise AlreadyExists(f"{email} is a member already. Change the role there.")
    await connection.value(FORGET_EXPIRED, organization=organization, at=at)
    if await connection.value(COUNT_OTHERS, organization=organization, email=email) >= settings.max_invitations:
        raise QuotaExceeded(
            f"{settings.max_invitations:,} invitations are open, as many as may be (VANGUARD_MAX_INVITATIONS). "
            "Withdraw some."
        )
    # Whole seconds: the link says them, too.
    created_at = at.replace(microsecond=0)
    invitation, expires_at = uuid.uuid4(), created_at + timedelta(days=settings.invitation_days)
    name = await connection.value(
        SAVE_INVITATION,
        organization=organization, invitation=invitation, email=email, role=role.value, user=user,
        at=created_at, expires_at=expires_at,
    )  # fmt: skip
    await _record(connection, organization, Act.MEMBER_INVITED, user, at, invitation=str(invitation), role=role.value)
    return Invitation(
        id=invitation,
        email=email,
        role=role,
        invited_by=user,
        invited_by_name=name,
        created_at=created_at,
        expires_at=expires_at,
    )


async def withdraw(connection: Connection, organization: str, user: str, invitation: uuid.UUID, at: datetime) -> None:
    """End an open invitation; raises InvitationNotFound."""
    row = await connection.row(TAKE_INVITATION, organization=organization, invitation=invitation, at=at)
    if row is None:
        raise over()
    told = {"invitation": str(invitation), "role": row["role"]}
    await _record(connection, organization, Act.INVITATION_WITHDRAWN, user, at, **told)


async def read_offer(connection: Connection, link: Link, at: datetime) -> Offer:
    """What the link offers; raises InvitationNotFound and ManagedOrganization."""
    row = await connection.row(READ_INVITATION, organization=link.organization, invitation=link.id, at=at)
    if row is None:
        raise not_valid()
    if row["managed"]:
        raise managed_elsewhere(link.organization)
    return Offer(link=link, email=row["email"], known=row["known"])


async def join(connection: Connection, link: Link, account: str, at: datetime) -> Account:
    """Make somebody a member by the link, inside the caller's transaction; returns the account as it is then. Raises
    InvitationNotFound, ManagedOrganization, Forbidden for another's link, Unauthenticated for an account that is gone.
    """
    email = await connection.value(HOLD_ACCOUNT, account=account)
    if email is None:
        raise Unauthenticated("There is no account of this token any more.")
    row = await connection.row(TAKE_INVITATION, organization=link.organization, invitation=link.id, at=at)
    if row is None:
        raise not_valid()
    if row["email"] != email:
        raise Forbidden("This link is for another address than that of your account. Log in as whom it is for.")
    # Who became a member meanwhile stays what the operator made of them.
    given = await connection.value(ADD_MEMBER, organization=link.organization, account=account, role=row["role"])
    if given is not None:
        told = {"invitation": str(link.id), "account": account, "role": given}
        await _record(connection, link.organization, Act.MEMBER_JOINED, account, at, **told)
    return accounts.account_of(await connection.row(accounts.READ_ACCOUNT, account=account, email=None))


async def _lock(connection: Connection, organization: str) -> None:
    try:
        await lock_members(connection, organization)
    except NotFound:
        raise not_valid() from None


async def accept_as(runtime: Runtime, link: Link, principal: Principal) -> Account:
    """Make the bearer of a token a member, with the roles that another token may have: see `join` and `renewable`.
    Whoever may not have one joins nothing.
    """
    async with runtime.database.transaction() as connection:
        await _lock(connection, link.organization)
        account = await join(connection, link, principal.user_id, runtime.clock())
        return await runtime.auth.renewable(principal, account)


async def accept_anew(
    runtime: Runtime, offer: Offer, name: str, password: str, address: str
) -> tuple[Account, datetime]:
    """Make an account with this name and password, and a member of it; raises AccountExists, ValidationFailed,
    LoginsBusy, and what `join` does.

    A hash is dear: it takes a turn as a login does, and nobody gets one whose link is not open then.
    """
    link, email = offer.link, offer.email
    # Before it is told whether the address is known: an ADMIN has the links of all that they invite, and could ask
    # with a password that is refused anyway.
    name = accounts.checked_name(name)
    check_password(password, strict=runtime.settings.is_production, email=email, name=name)
    if offer.known:
        raise _known()
    try:
        async with runtime.hashing.turn(address, email, at_home=False) as work:
            async with runtime.database.connection() as connection:
                if (await read_offer(connection, link, runtime.clock())).known:
                    raise _known()
            password_hash: str = await work(hash_password, password)
    except Full:
        raise busy(runtime.settings) from None
    account = str(uuid.uuid4())
    async with runtime.database.transaction() as connection:
        await _lock(connection, link.organization)
        at = runtime.clock()
        added = await connection.value(
            accounts.ADD_ACCOUNT, account=account, email=email, name=name, password_hash=password_hash
        )
        if added is None:
            raise _known()
        await _record(connection, link.organization, Act.ACCOUNT_ADDED, account, at, account=account, operator=False)
        return await join(connection, link, account, at), at


def over() -> InvitationNotFound:
    """The error for an invitation by its id."""
    return InvitationNotFound("No invitation has this id: it was accepted, withdrawn or replaced, or has expired.")


def _known() -> AccountExists:
    return AccountExists("Log in, and accept the invitation with your token.")


async def _record(
    connection: Connection, organization: str, act: Act, actor: str, at: datetime, **details: Any
) -> None:
    """With no address: the audit is kept for longer than anybody's invitation, or account."""
    await record_in(connection, organization, None, Entry(at=at, actor=actor, action=act, details=details))
