"""Accounts: somebody whom this installation knows, their password, and what they are where.

An account is named by its id or its email.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from app.base.clock import now
from app.base.database import Connection, Database
from app.base.errors import AlreadyExists, Code, Culprit, InvalidCredentials, ValidationFailed
from app.base.statements import statement
from app.engine.audit import Act, Entry, record_everywhere, record_in
from app.members import LONGEST_EMAIL, SAVE_MEMBER, keep_admin, lock_members, normalized, unknown
from app.passwords import check_password, hash_password
from app.web.auth import EVERYWHERE, Account, Auth, Role

ADD_ACCOUNT = statement("accounts/add_account")
READ_ACCOUNT = statement("accounts/read_account")
LIST_ACCOUNTS = statement("accounts/list_accounts")
MARK_OPERATOR = statement("accounts/mark_operator")
SAVE_PASSWORD = statement("accounts/save_password")
DELETE_ACCOUNT = statement("accounts/delete_account")
FORGET_EVERYWHERE = statement("invitations/forget_everywhere")
LOCK_ADMINISTERED = statement("locks/lock_administered")

EMAIL = re.compile(r"[^\s@\x00-\x1f]+@[^\s@\x00-\x1f]+")
LONGEST_NAME = 200
# Control characters, and those that turn the direction of what stands around a name.
UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NO_ROLES: Mapping[str, Role] = MappingProxyType({})


async def add_account(
    database: Database,
    *,
    email: str,
    name: str,
    password: str | None,
    operator: bool = False,
    roles: Mapping[str, Role] = NO_ROLES,
    strict: bool = False,
) -> Account:
    """Add an account with its memberships, or nothing at all; `strict`: with no weak password.

    Without a password it cannot log in here, only bear tokens of an identity provider. An operator is made by the
    database's owner alone.
    """
    email = checked_email(email)
    if password is not None:
        check_password(password, strict=strict, email=email, name=name)
    account = Account(id=str(uuid.uuid4()), email=email, name=name, operator=operator, roles=dict(roles))
    hashed = hash_password(password) if password is not None else None
    async with database.transaction() as connection:
        for organization in sorted(roles):
            await lock_members(connection, organization)
        added = await connection.value(ADD_ACCOUNT, account=account.id, email=email, name=name, password_hash=hashed)
        if added is None:
            raise AlreadyExists(f"There is an account {email} already.")
        if operator:
            await connection.value(MARK_OPERATOR, account=account.id, operator=True)
        for organization, role in sorted(roles.items()):
            await connection.value(SAVE_MEMBER, organization=organization, account=account.id, role=role.value)
        await _record(connection, account, Act.ACCOUNT_ADDED, operator=operator)
        for organization, role in sorted(roles.items()):
            told = {"account": account.id, "role": role.value}
            entry = Entry(at=now(), actor=None, action=Act.MEMBER_JOINED, details=told)
            await record_in(connection, organization, None, entry)
    return account


def checked_email(email: str) -> str:
    """The address as it is stored; raises ValidationFailed for what is none."""
    email = normalized(email)
    if not EMAIL.fullmatch(email) or not email.isprintable() or len(email) > LONGEST_EMAIL:
        raise _invalid("email", f"{email[:LONGEST_EMAIL]} is no email address.")
    return email


def checked_name(name: str) -> str:
    """The name as it is stored; raises ValidationFailed for one that nobody could read."""
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or UNFIT.search(name):
        raise _invalid("name", f"A name has 1 to {LONGEST_NAME} characters, and all of them can be read.")
    return name


async def find_account(database: Database, account: str) -> Account:
    """The account with its roles; raises MemberNotFound."""
    async with database.connection() as connection:
        return await _account(connection, account)


async def list_accounts(database: Database) -> list[Account]:
    """Every account, by email."""
    async with database.connection() as connection:
        return [account_of(row) for row in await connection.rows(LIST_ACCOUNTS)]


async def set_password(database: Database, auth: Auth, account: str, password: str, *, strict: bool) -> None:
    """Give the account another password, which ends its sessions; raises ValidationFailed, MemberNotFound."""
    async with database.transaction() as connection:
        found = await _account(connection, account)
        check_password(password, strict=strict, email=found.email, name=found.name)
        await replace_password(connection, auth, found.id, hash_password(password))
        await _record(connection, found, Act.PASSWORD_CHANGED)


async def replace_password(
    connection: Connection, auth: Auth, account: str, password_hash: str, replaced: str | None = None
) -> datetime:
    """Keep another password's hash, and end the account's tokens: those of before the moment that is returned. Raises
    InvalidCredentials where the hash that goes is not the one to be `replaced`: somebody else was faster.
    """
    saved = await connection.value(SAVE_PASSWORD, account=account, password_hash=password_hash, replaced=replaced)
    if saved is None:
        raise InvalidCredentials("The password has been changed meanwhile.")
    # After the account is locked: whoever was let in by the old password was so before.
    at = auth.now()
    await auth.end_tokens(connection, account, EVERYWHERE, at)
    return at


async def mark_operator(database: Database, account: str, *, operator: bool) -> Account:
    """Make the account an operator of the installation, or one no longer; over a connection of the database's owner."""
    async with database.transaction() as connection:
        found = await _account(connection, account)
        await connection.value(MARK_OPERATOR, account=found.id, operator=operator)
        if found.operator != operator:
            await _record(connection, found, Act.ACCOUNT_OPERATOR_CHANGED, before=found.operator, after=operator)
    return found


async def remove_account(database: Database, account: str) -> None:
    """Remove the account, its memberships, its tokens and what its address is invited to; raises LastAdmin where an
    organization would have none.
    """
    async with database.transaction() as connection:
        found = await _account(connection, account)
        administered = [row["id"] for row in await connection.rows(LOCK_ADMINISTERED, account=found.id)]
        await keep_admin(connection, found.id, administered)
        # An entry for each organization that loses a member by it.
        await _record(connection, found, Act.ACCOUNT_REMOVED)
        await connection.value(DELETE_ACCOUNT, account=found.id)
        await connection.value(FORGET_EVERYWHERE, email=found.email, account=found.id)


def account_of(row: Any) -> Account:
    """The account in a row of read_account or list_accounts."""
    roles = {organization: Role(role) for organization, role in row["roles"].items()}
    return Account(id=row["id"], email=row["email"], name=row["name"], operator=row["operator"], roles=roles)


async def _record(connection: Connection, account: Account, act: Act, **more: Any) -> None:
    """What is done to an account, not by it, in each of its organizations; with nothing that outlives it but its id."""
    entry = Entry(at=now(), actor=None, action=act, details={"account": account.id, **more})
    await record_everywhere(connection, account.roles, entry)


async def _account(connection: Connection, account: str) -> Account:
    row = await connection.row(READ_ACCOUNT, account=account, email=normalized(account))
    if row is None:
        raise unknown(account)
    return account_of(row)


def _invalid(field: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, message=message, field=field)])
