"""The role that the service acts as: policies and grants hold it, and they hold no superuser and no owner."""

from contextlib import suppress

import asyncpg

from app.base.database import Connection, Database
from app.base.errors import ConfigurationError, DatabaseUnavailable
from app.base.statements import statement

READ_ROLE = statement("health/read_role")
HOW = "VANGUARD_DATABASE_ROLE is vanguard_app, or a role that is a member of that and of no other."


async def check_role(connection: Connection) -> None:
    """Raises ConfigurationError where it may do more than the service ever has to, or less."""
    found = await connection.row(READ_ROLE)
    assert found is not None, "everybody acts as some role"
    reasons = {
        "superuser": "is a superuser, or can become one",
        "exempt": "is held by no policy (BYPASSRLS), or can become a role that is not",
        "owner": "owns the tables, or is a member of the role that does",
        "everything": "may read or write everything (pg_read_all_data and its like)",
    }
    for word, reason in reasons.items():
        if found[word]:
            raise ConfigurationError(f"The service would act as {found['role']}, which {reason}. {HOW}")
    if not found["service"]:
        raise ConfigurationError(f"The service would act as {found['role']}, which is no member of vanguard_app. {HOW}")


async def check_role_at_start(database: Database) -> None:
    """The same before anything is served. A database that is away, or not migrated yet, is waited for as always."""
    with suppress(DatabaseUnavailable, asyncpg.UndefinedTableError, asyncpg.InvalidParameterValueError):
        async with database.connection() as connection:
            await check_role(connection)
