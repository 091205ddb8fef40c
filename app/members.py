"""Who belongs to an organization, and as what: its ADMINs decide."""

from typing import Annotated

import msgspec
from litestar import delete, get, put
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app import accounts
from app.accounts import Member
from app.web.auth import Action, Role, require
from app.web.openapi import Here, Organization, answers

PATH = "/api/v1/orgs/{org:str}/members"
AccountKey = Annotated[
    str, PathParameter(description="The account's id or email", examples=[Example(value="ann@demo.example")])
]


class Membership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a member shall be."""

    role: Role


class Members(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All members, by email."""

    data: list[Member]


@get(
    PATH,
    guards=[require(Action.ADMINISTER)],
    tags=["members"],
    summary="Members",
    responses=answers(Members),
)
async def list_members(runtime: Here, org: Organization) -> Members:
    """Everybody who belongs to the organization."""
    return Members(data=await accounts.members(runtime.database, org))


@put(
    f"{PATH}/{{account:str}}",
    guards=[require(Action.ADMINISTER)],
    tags=["members"],
    summary="Set a role",
    responses=answers(Member, 404, 409),
)
async def set_role(runtime: Here, org: Organization, account: AccountKey, data: JSONBody[Membership]) -> Member:
    """Make an account a member, or change its role. Counts at once here, within 5 seconds everywhere.

    An organization keeps at least one ADMIN.
    """
    member = await accounts.set_role(runtime.database, org, account, data.role)
    runtime.auth.forget()
    return member


@delete(
    f"{PATH}/{{account:str}}",
    guards=[require(Action.ADMINISTER)],
    tags=["members"],
    summary="End a membership",
    responses=answers(None, 404, 409, status=204),
)
async def remove_member(runtime: Here, org: Organization, account: AccountKey) -> None:
    """End a membership. Counts at once here, within 5 seconds everywhere. An organization keeps at least one ADMIN."""
    await accounts.remove_member(runtime.database, org, account)
    runtime.auth.forget()


ROUTES = [list_members, set_role, remove_member]
