"""Who belongs to an organization, and as what: its ADMINs decide.

An account is named by its id or its email.
"""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import delete, get, put
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app.base.clock import now
from app.base.database import Connection, Database
from app.base.errors import Forbidden, LastAdmin, ManagedOrganization, MemberNotFound
from app.base.statements import statement
from app.engine.audit import Act, Entry, record_in
from app.organizations import lock_organization
from app.web.auth import Action, Role, require
from app.web.openapi import Organization, answers
from app.web.runtime import VanguardRequest
from app.web.tokens import SUBJECTS

LIST_MEMBERS = statement("members/list_members")
READ_MEMBER = statement("members/read_member")
READ_CANDIDATE = statement("members/read_candidate")
LIST_ORPHANED = statement("members/list_orphaned")
SAVE_MEMBER = statement("members/save_member")
DELETE_MEMBER = statement("members/delete_member")
FORGET_ADDRESS = statement("invitations/forget_address")

PATH = "/api/v1/orgs/{org:str}/members"
AccountKey = Annotated[
    str, PathParameter(description="The account's id or email", examples=[Example(value="ann@demo.example")])
]
LONGEST_EMAIL = 254
SUBJECT = re.compile(SUBJECTS)  # whom a token can be of


class Member(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An account in an organization."""

    id: str
    email: str
    name: str
    role: Role


def normalized(email: str) -> str:
    """The form in which an email is stored and compared: lower case, and composed as RFC 6532 asks.

    Not folded: `ß` and `ss` are two mailboxes.
    """
    return unicodedata.normalize("NFC", email.strip().lower())


async def read_members(database: Database, organization: str) -> list[Member]:
    """The organization's members, by email."""
    async with database.connection() as connection:
        rows = await connection.rows(LIST_MEMBERS, organization=organization)
    return [_member(row, Role(row["role"])) for row in rows]


async def change_role(
    database: Database, organization: str, account: str, role: Role, *, actor: str, at: datetime
) -> Member:
    """Give a member another role; raises MemberNotFound, LastAdmin where it is the only ADMIN, and Forbidden."""
    async with database.transaction() as connection:
        row = await _locked_member(connection, organization, account, actor)
        await _save_role(connection, organization, row, role, actor, at)
    return _member(row, role)


async def give_role(database: Database, organization: str, account: str, role: Role) -> Member:
    """The same for the operator of the installation, who makes any account a member; ADMINs invite."""
    async with database.transaction() as connection:
        await lock_members(connection, organization)
        row = await connection.row(
            READ_CANDIDATE, organization=organization, account=account, email=normalized(account)
        )
        if row is None:
            raise unknown(account)
        await _save_role(connection, organization, row, role, None, now())
    return _member(row, role)


async def end_membership(
    database: Database, organization: str, account: str, *, actor: str | None = None, at: datetime | None = None
) -> None:
    """End the membership, what the address is invited to and what the member has invited to; raises LastAdmin for the
    only ADMIN, MemberNotFound, and Forbidden for an actor.
    """
    async with database.transaction() as connection:
        row = await _locked_member(connection, organization, account, actor)
        if row["role"] == Role.ADMIN.value:
            await keep_admin(connection, row["id"], [organization])
        await _forget_invitations(connection, organization, row)
        await connection.value(DELETE_MEMBER, organization=organization, account=row["id"])
        told = {"account": row["id"], "role": row["role"]}
        entry = Entry(at=at or now(), actor=actor, action=Act.MEMBER_REMOVED, details=told)
        await record_in(connection, organization, None, entry)


async def _forget_invitations(connection: Connection, organization: str, row: Any) -> None:
    await connection.value(FORGET_ADDRESS, organization=organization, email=row["email"], account=row["id"])


async def lock_members(connection: Connection, organization: str, actor: str | None = None) -> None:
    """For a transaction that changes who belongs to it; raises NotFound, ManagedOrganization where its identity
    provider says that, and Forbidden for an actor who is no ADMIN any more: they waited for whoever changed that.
    """
    if await lock_organization(connection, organization):
        raise managed_elsewhere(organization)
    if actor is None:
        return
    row = await connection.row(READ_MEMBER, organization=organization, account=actor, email=None)
    if row is None or row["role"] != Role.ADMIN.value:
        raise Forbidden("You are no ADMIN of this organization any more.")


def managed_elsewhere(organization: str) -> ManagedOrganization:
    """The error for an organization whose members are not ours to change."""
    return ManagedOrganization(f"Give and take roles of {organization} at its identity provider.")


async def keep_admin(connection: Connection, account: str, organizations: list[str]) -> None:
    """Each of these locked organizations has an ADMIN besides this account; raises LastAdmin."""
    orphaned = [row["id"] for row in await connection.rows(LIST_ORPHANED, account=account, organizations=organizations)]
    if orphaned:
        raise LastAdmin(f"Make somebody else ADMIN of {', '.join(orphaned)} first.")


async def _locked_member(connection: Connection, organization: str, account: str, actor: str | None) -> Any:
    """A member of the organization, whose memberships nobody else changes until the transaction ends."""
    await lock_members(connection, organization, actor)
    return await _found(connection, organization, account)


async def _found(connection: Connection, organization: str, account: str) -> Any:
    row = await connection.row(READ_MEMBER, organization=organization, account=account, email=normalized(account))
    if row is None:
        raise MemberNotFound(f"{account[:LONGEST_EMAIL]} is no member. Members join by an invitation.")
    return row


async def _save_role(
    connection: Connection, organization: str, row: Any, role: Role, actor: str | None, at: datetime
) -> None:
    if row["role"] == Role.ADMIN.value and role is not Role.ADMIN:
        await keep_admin(connection, row["id"], [organization])
        await _forget_invitations(connection, organization, row)
    await connection.value(SAVE_MEMBER, organization=organization, account=row["id"], role=role.value)
    if row["role"] == role.value:
        return
    told: dict[str, str] = {"account": row["id"]}
    if row["role"] is None:
        act, told = Act.MEMBER_JOINED, told | {"role": role.value}
    else:
        act, told = Act.MEMBER_ROLE_CHANGED, told | {"before": row["role"], "after": role.value}
    await record_in(connection, organization, None, Entry(at=at, actor=actor, action=act, details=told))


def _member(row: Any, role: Role) -> Member:
    return Member(id=row["id"], email=row["email"], name=row["name"], role=role)


def unknown(account: str) -> MemberNotFound:
    """The error for an account that there is not."""
    return MemberNotFound(f"There is no account {account[:LONGEST_EMAIL]}.")


# -- on the wire ------------------------------------------------------------------------------------------------------


class Membership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a member shall be."""

    role: Role


class Members(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All members, by email."""

    data: list[Member]


@get(
    PATH,
    opt=require(Action.ADMINISTER),
    tags=["members"],
    summary="Members",
    responses=answers(Members),
)
async def list_members(request: VanguardRequest, org: Organization) -> Members:
    """Everybody who belongs to the organization."""
    return Members(data=await read_members(request.runtime.database, org))


@put(
    f"{PATH}/{{account:str}}",
    opt=require(Action.ADMINISTER),
    tags=["members"],
    summary="Set a role",
    responses=answers(Member, 404, 409),
)
async def set_role(
    request: VanguardRequest, org: Organization, account: AccountKey, data: JSONBody[Membership]
) -> Member:
    """Give a member another role. Counts at once here, within 5 seconds everywhere. An organization keeps at least one
    ADMIN. Somebody else joins by an invitation.
    """
    runtime = request.runtime
    actor, at = request.user.user_id, runtime.clock()
    member = await change_role(runtime.database, org, account, data.role, actor=actor, at=at)
    runtime.auth.forget()
    return member


@delete(
    f"{PATH}/{{account:str}}",
    opt=require(Action.ADMINISTER),
    tags=["members"],
    summary="End a membership",
    responses=answers(None, 404, 409, status=204),
)
async def remove_member(request: VanguardRequest, org: Organization, account: AccountKey) -> None:
    """End a membership. Counts at once here, within 5 seconds everywhere. An organization keeps at least one ADMIN."""
    runtime = request.runtime
    await end_membership(runtime.database, org, account, actor=request.user.user_id, at=runtime.clock())
    runtime.auth.forget()


@delete(
    f"{PATH}/{{account:str}}/tokens",
    opt=require(Action.ADMINISTER),
    tags=["members"],
    summary="Log a member out",
    responses=answers(None, 404, status=204),
)
async def end_tokens(request: VanguardRequest, org: Organization, account: AccountKey) -> None:
    """End all tokens that a member was given so far, as far as this organization goes; elsewhere they count on. At once
    here, within 5 seconds everywhere. In an organization that is managed by its identity provider the account is the
    bearer's id there.
    """
    runtime = request.runtime
    async with runtime.database.transaction() as connection:
        managed = await lock_organization(connection, org)
        if managed and not SUBJECT.fullmatch(account):
            raise unknown(account)  # no token can be of such a bearer
        user = account if managed else (await _found(connection, org, account))["id"]
        await runtime.auth.end_tokens(connection, user, org, runtime.clock())
        told = {"account": user}
        entry = Entry(at=runtime.clock(), actor=request.user.user_id, action=Act.LOGOUT_EVERYWHERE, details=told)
        await record_in(connection, org, None, entry)
    runtime.auth.forget()


ROUTES = [list_members, set_role, remove_member, end_tokens]
