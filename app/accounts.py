"""Organizations, accounts and memberships: what administrators change, over HTTP or at the command line.

Nothing here knows HTTP. An account is named by its id or its email.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.base.database import Connection, Database
from app.base.errors import AlreadyExists, Culprit, LastAdmin, MemberNotFound, NotFound, ValidationFailed
from app.base.statements import statement
from app.contracts import BUILT_IN, Contract
from app.web.auth import Account, Role

ADD_ORGANIZATION = statement("organizations/add_organization")
LIST_ORGANIZATIONS = statement("organizations/list_organizations")
ADD_ACCOUNT = statement("accounts/add_account")
READ_ACCOUNT = statement("accounts/read_account")
LIST_ACCOUNTS = statement("accounts/list_accounts")
SAVE_PASSWORD = statement("accounts/save_password")
DELETE_ACCOUNT = statement("accounts/delete_account")
LOCK_ORGANIZATION = statement("locks/lock_organization")
LOCK_ADMINISTERED = statement("locks/lock_administered")
LIST_MEMBERS = statement("members/list_members")
READ_MEMBER = statement("members/read_member")
LIST_ORPHANED = statement("members/list_orphaned")
SAVE_MEMBER = statement("members/save_member")
DELETE_MEMBER = statement("members/delete_member")

ORGANIZATION_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
EMAIL = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")
LONGEST_EMAIL = 254
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 1000

# RFC 9106's second choice: 64 MiB and three passes.
HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
NO_ROLES: Mapping[str, Role] = MappingProxyType({})


class Member(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An account in an organization."""

    id: str
    email: str
    name: str
    role: Role


class Organization(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tenant; `managed` where its identity provider alone says who belongs to it."""

    id: str
    name: str
    managed: bool
    members: int


def normalized(email: str) -> str:
    """The form in which an email is stored and compared."""
    return email.strip().lower()


def hash_password(password: str) -> str:
    """The hash to store; slow by design. Raises ValidationFailed for a password that is too short or too long."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise _invalid("password", f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    return HASHER.hash(password)


def matches(stored: str, password: str) -> bool:
    """Whether the password belongs to the stored hash; slow by design."""
    try:
        return HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


async def add_organization(
    database: Database, organization: str, name: str, contracts: Sequence[Contract] = BUILT_IN
) -> None:
    """Add an organization with the built-in datasets, empty."""
    if not ORGANIZATION_ID.fullmatch(organization):
        raise _invalid(
            "id", "An organization's id has 1 to 63 of a-z, 0-9, - and _, and begins with a letter or digit."
        )
    names, versions = [contract.name for contract in contracts], [contract.version for contract in contracts]
    async with database.connection() as connection:
        added = await connection.rows(ADD_ORGANIZATION, organization, name, names, versions)
    if not added:
        raise AlreadyExists(f"There is an organization {organization} already.")


async def organizations(database: Database) -> list[Organization]:
    """Every organization, by id."""
    async with database.connection() as connection:
        return [Organization(**row) for row in await connection.rows(LIST_ORGANIZATIONS)]


async def add_account(
    database: Database,
    *,
    email: str,
    name: str,
    password: str | None,
    operator: bool = False,
    roles: Mapping[str, Role] = NO_ROLES,
) -> Account:
    """Add an account with its memberships, or nothing at all.

    Without a password it cannot log in here, only bear tokens of an identity provider.
    """
    email = normalized(email)
    if not EMAIL.fullmatch(email) or len(email) > LONGEST_EMAIL:
        raise _invalid("email", f"{email} is no email address.")
    account = Account(id=str(uuid.uuid4()), email=email, name=name, operator=operator, roles=dict(roles))
    hashed = hash_password(password) if password is not None else None
    async with database.transaction() as connection:
        added = await connection.value(ADD_ACCOUNT, account.id, email, name, hashed, operator)
        if added is None:
            raise AlreadyExists(f"There is an account {email} already.")
        for organization, role in sorted(roles.items()):
            await _lock(connection, organization)
            await connection.value(SAVE_MEMBER, organization, account.id, role.value)
    return account


async def find_account(database: Database, account: str) -> Account:
    """The account with its roles; raises MemberNotFound."""
    async with database.connection() as connection:
        return await _account(connection, account)


async def accounts(database: Database) -> list[Account]:
    """Every account, by email."""
    async with database.connection() as connection:
        return [account_of(row) for row in await connection.rows(LIST_ACCOUNTS)]


async def set_password(database: Database, account: str, password: str) -> None:
    """Give the account another password. Tokens that it bears stay valid until they expire."""
    hashed = hash_password(password)
    async with database.connection() as connection:
        found = await _account(connection, account)
        await connection.value(SAVE_PASSWORD, found.id, hashed, None)


async def remove_account(database: Database, account: str) -> None:
    """Remove the account, its memberships and its tokens; raises LastAdmin where an organization would have none."""
    async with database.transaction() as connection:
        found = await _account(connection, account)
        administered = [row["id"] for row in await connection.rows(LOCK_ADMINISTERED, found.id)]
        await _keep_admin(connection, found.id, administered)
        await connection.value(DELETE_ACCOUNT, found.id)


async def members(database: Database, organization: str) -> list[Member]:
    """The organization's members, by email."""
    async with database.connection() as connection:
        rows = await connection.rows(LIST_MEMBERS, organization)
    return [_member(row, Role(row["role"])) for row in rows]


async def set_role(database: Database, organization: str, account: str, role: Role) -> Member:
    """Make the account a member in this role; raises LastAdmin where it was the only ADMIN."""
    async with database.transaction() as connection:
        row = await _locked_member(connection, organization, account)
        if row["role"] == Role.ADMIN.value and role is not Role.ADMIN:
            await _keep_admin(connection, row["id"], [organization])
        await connection.value(SAVE_MEMBER, organization, row["id"], role.value)
    return _member(row, role)


async def remove_member(database: Database, organization: str, account: str) -> None:
    """End the membership; raises LastAdmin for the only ADMIN, MemberNotFound for somebody who is no member."""
    async with database.transaction() as connection:
        row = await _locked_member(connection, organization, account)
        if row["role"] is None:
            raise _unknown(account)
        if row["role"] == Role.ADMIN.value:
            await _keep_admin(connection, row["id"], [organization])
        await connection.value(DELETE_MEMBER, organization, row["id"])


def account_of(row: Any) -> Account:
    """The account in a row of read_account or list_accounts."""
    roles = {organization: Role(role) for organization, role in row["roles"].items()}
    return Account(id=row["id"], email=row["email"], name=row["name"], operator=row["operator"], roles=roles)


async def _account(connection: Connection, account: str) -> Account:
    row = await connection.row(READ_ACCOUNT, account, normalized(account))
    if row is None:
        raise _unknown(account)
    return account_of(row)


async def _locked_member(connection: Connection, organization: str, account: str) -> Any:
    """The account as seen from the organization, whose memberships nobody else changes until the transaction ends."""
    await _lock(connection, organization)
    row = await connection.row(READ_MEMBER, organization, account, normalized(account))
    if row is None:
        raise _unknown(account)
    return row


async def _lock(connection: Connection, organization: str) -> None:
    if await connection.value(LOCK_ORGANIZATION, organization) is None:
        raise NotFound(f"There is no organization {organization}.")


async def _keep_admin(connection: Connection, account: str, organizations: list[str]) -> None:
    orphaned = [row["id"] for row in await connection.rows(LIST_ORPHANED, account, organizations)]
    if orphaned:
        raise LastAdmin(f"Make somebody else ADMIN of {', '.join(orphaned)} first.")


def _member(row: Any, role: Role) -> Member:
    return Member(id=row["id"], email=row["email"], name=row["name"], role=role)


def _unknown(account: str) -> MemberNotFound:
    return MemberNotFound(f"There is no account {account[:LONGEST_EMAIL]}.")


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(code="INVALID_VALUE", message=message, field=field)])
