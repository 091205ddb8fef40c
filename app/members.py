"""Who belongs to an organization, and as what: its ADMINs decide."""

from typing import Annotated

import msgspec
from litestar import delete, get, put
from litestar.params import Parameter

from app import accounts
from app.accounts import Member
from app.auth import Action, Role, require
from app.runtime import Runtime

PATH = "/api/v1/orgs/{org:str}/members"
AccountKey = Annotated[str, Parameter(description="The account's id or email")]


class Membership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a member shall be."""

    role: Role


class Members(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All members, by email."""

    data: list[Member]


@get(PATH, tags=["members"], summary="Members", guards=[require(Action.ADMINISTER)])
async def list_members(org: str, runtime: Runtime) -> Members:
    """Everybody who belongs to the organization."""
    return Members(data=await accounts.members(runtime.database, org))


@put(f"{PATH}/{{account:str}}", tags=["members"], summary="Set a role", guards=[require(Action.ADMINISTER)])
async def set_role(org: str, account: AccountKey, data: Membership, runtime: Runtime) -> Member:
    """Make an account a member, or change its role. Counts at once here, within 5 seconds everywhere.

    An organization keeps at least one ADMIN.
    """
    member = await accounts.set_role(runtime.database, org, account, data.role)
    runtime.auth.forget()
    return member


@delete(f"{PATH}/{{account:str}}", tags=["members"], summary="End a membership", guards=[require(Action.ADMINISTER)])
async def remove_member(org: str, account: AccountKey, runtime: Runtime) -> None:
    """End a membership. Counts at once here, within 5 seconds everywhere."""
    await accounts.remove_member(runtime.database, org, account)
    runtime.auth.forget()


ROUTES = [list_members, set_role, remove_member]
