"""Readers of reports: login roles of the database that see one organization, by its policies.

Which one is written here, by the owner of the tables: docs/operations.md#reports. Every function wants a connection of
the owner.
"""

import asyncpg
import msgspec

from app.base.clock import now
from app.base.database import Connection, Database
from app.base.errors import ConfigurationError, NotFound
from app.base.statements import statement
from app.engine.audit import Act, Entry, record_in

READ_ROLE = statement("readers/read_role")
SAVE_READER = statement("readers/save_reader")
REMOVE_READER = statement("readers/remove_reader")
LIST_READERS = statement("readers/list_readers")


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A login role and what it reads; `there` is whether the server has it."""

    role: str
    organization: str
    there: bool


async def save_reader(database: Database, organization: str, role: str) -> None:
    """Let a login role read the organization, and no other; raises NotFound, or ConfigurationError
    for a role that no policy would hold.
    """
    async with database.transaction() as connection:
        found = await connection.row(READ_ROLE, role=role)
        if found is None:
            raise NotFound(f"The server has no role {role}. Make it: CREATE ROLE ... LOGIN PASSWORD '...'.")
        if not found["enters"]:
            raise ConfigurationError(f"{role} cannot log in. What is seen depends on who logs in.")
        if found["above"]:
            raise ConfigurationError(
                f"{role} would see all organizations: it is, or can become, a superuser, an owner, the service, or one "
                "that reads everything (pg_read_all_data)."
            )
        try:
            before = await connection.value(SAVE_READER, role=role, organization=organization)
        except asyncpg.ForeignKeyViolationError:
            raise NotFound(f"There is no organization {organization}.") from None
        except asyncpg.InsufficientPrivilegeError as error:
            if '"vanguard_read"' not in str(error):
                raise
            raise ConfigurationError(
                "The owner may not grant vanguard_read. A superuser, or whoever made that role, says: "
                "GRANT vanguard_read TO owner WITH ADMIN OPTION."
            ) from None
        if before == organization:
            return
        if before is not None:
            await _record(connection, before, Act.READER_REMOVED, role)
        await _record(connection, organization, Act.READER_ADDED, role)


async def remove_reader(database: Database, organization: str, role: str) -> None:
    """The role reads the organization no more; raises NotFound."""
    async with database.transaction() as connection:
        if await connection.value(REMOVE_READER, role=role, organization=organization) is None:
            raise NotFound(f"{role} is no reader of {organization}.")
        await _record(connection, organization, Act.READER_REMOVED, role)


async def list_readers(database: Database) -> list[Reader]:
    """Every reader, by organization."""
    async with database.connection() as connection:
        return [Reader(**row) for row in await connection.rows(LIST_READERS)]


async def _record(connection: Connection, organization: str, act: Act, role: str) -> None:
    await record_in(connection, organization, None, Entry(at=now(), actor=None, action=act, details={"role": role}))
