"""Accounts: somebody whom this installation knows, their password, and what they are where.

An account is named by its id or its email.
"""

import re
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.base.database import Connection, Database
from app.base.errors import AlreadyExists, Code, Culprit, ValidationFailed
from app.base.statements import statement
from app.members import LONGEST_EMAIL, SAVE_MEMBER, keep_admin, normalized, unknown
from app.organizations import lock_organization
from app.web.auth import Account, Role

ADD_ACCOUNT = statement("accounts/add_account")
READ_ACCOUNT = statement("accounts/read_account")
LIST_ACCOUNTS = statement("accounts/list_accounts")
SAVE_PASSWORD = statement("accounts/save_password")
DELETE_ACCOUNT = statement("accounts/delete_account")
LOCK_ADMINISTERED = statement("locks/lock_administered")

EMAIL = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 1000

# RFC 9106's second choice: 64 MiB and three passes.
HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
NO_ROLES: Mapping[str, Role] = MappingProxyType({})


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
        added = await connection.value(
            ADD_ACCOUNT, account=account.id, email=email, name=name, password_hash=hashed, operator=operator
        )
        if added is None:
            raise AlreadyExists(f"There is an account {email} already.")
        for organization, role in sorted(roles.items()):
            await lock_organization(connection, organization)
            await connection.value(SAVE_MEMBER, organization=organization, account=account.id, role=role.value)
    return account


async def find_account(database: Database, account: str) -> Account:
    """The account with its roles; raises MemberNotFound."""
    async with database.connection() as connection:
        return await _account(connection, account)


async def list_accounts(database: Database) -> list[Account]:
    """Every account, by email."""
    async with database.connection() as connection:
        return [account_of(row) for row in await connection.rows(LIST_ACCOUNTS)]


async def set_password(database: Database, account: str, password: str) -> None:
    """Give the account another password. Tokens that it bears stay valid until they expire."""
    hashed = hash_password(password)
    async with database.connection() as connection:
        found = await _account(connection, account)
        await connection.value(SAVE_PASSWORD, account=found.id, password_hash=hashed, replaced=None)


async def remove_account(database: Database, account: str) -> None:
    """Remove the account, its memberships and its tokens; raises LastAdmin where an organization would have none."""
    async with database.transaction() as connection:
        found = await _account(connection, account)
        administered = [row["id"] for row in await connection.rows(LOCK_ADMINISTERED, account=found.id)]
        await keep_admin(connection, found.id, administered)
        await connection.value(DELETE_ACCOUNT, account=found.id)


def account_of(row: Any) -> Account:
    """The account in a row of read_account or list_accounts."""
    roles = {organization: Role(role) for organization, role in row["roles"].items()}
    return Account(id=row["id"], email=row["email"], name=row["name"], operator=row["operator"], roles=roles)


async def _account(connection: Connection, account: str) -> Account:
    row = await connection.row(READ_ACCOUNT, account=account, email=normalized(account))
    if row is None:
        raise unknown(account)
    return account_of(row)


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, message=message, field=field)])
