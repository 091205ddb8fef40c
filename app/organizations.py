"""Organizations: the tenants."""

import re
from collections.abc import Sequence

import msgspec

from app.base.clock import now
from app.base.database import Connection, Database
from app.base.errors import AlreadyExists, Code, Culprit, NotFound, ValidationFailed
from app.base.statements import statement
from app.contracts import BUILT_IN, Contract
from app.engine.audit import Act, Entry, record_in

ADD_ORGANIZATION = statement("organizations/add_organization")
LIST_ORGANIZATIONS = statement("organizations/list_organizations")
SAVE_MANAGED = statement("organizations/save_managed")
LIST_HELD = statement("quotas/list_held")
LOCK_ORGANIZATION = statement("locks/lock_organization")

ORGANIZATION_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Organization(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tenant; `managed` where its identity provider alone says who belongs to it; `provider` is the issuer that it
    names.
    """

    id: str
    name: str
    managed: bool
    provider: str | None
    members: int


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What a user holds of an organization: rows with their bytes in drafts, keys with bytes of answers."""

    organization: str
    user: str
    rows: int
    bytes: int
    keys: int
    answers: int


async def add_organization(
    database: Database, organization: str, name: str, contracts: Sequence[Contract] = BUILT_IN
) -> None:
    """Add an organization with the built-in datasets, empty."""
    if not ORGANIZATION_ID.fullmatch(organization):
        message = "An organization's id has 1 to 63 of a-z, 0-9, - and _, and begins with a letter or digit."
        raise ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, message=message, field="id")])
    names, versions = [contract.name for contract in contracts], [contract.version for contract in contracts]
    async with database.transaction() as connection:
        added = await connection.rows(
            ADD_ORGANIZATION, organization=organization, name=name, datasets=names, versions=versions
        )
        if not added:
            raise AlreadyExists(f"There is an organization {organization} already.")
        entry = Entry(at=now(), actor=None, action=Act.ORGANIZATION_ADDED, details={"name": name})
        await record_in(connection, organization, None, entry)


async def list_organizations(database: Database) -> list[Organization]:
    """Every organization, by id."""
    async with database.connection() as connection:
        return [Organization(**row) for row in await connection.rows(LIST_ORGANIZATIONS)]


async def list_held(database: Database, organization: str | None, most: int) -> list[Holding]:
    """Who holds how much, of one organization or of all, the most first."""
    async with database.connection() as connection:
        return [Holding(**row) for row in await connection.rows(LIST_HELD, organization=organization, limit=most)]


async def lock_organization(connection: Connection, organization: str) -> bool:
    """For a transaction that changes who belongs to it. Returns whether its identity provider says that; raises
    NotFound.
    """
    managed: bool | None = await connection.value(LOCK_ORGANIZATION, organization=organization)
    if managed is None:
        raise NotFound(f"There is no organization {organization}.")
    return managed


async def manage(database: Database, organization: str, *, managed: bool, provider: str | None) -> None:
    """Say who decides who belongs to an organization, and whose tokens count there: a provider's issuer, None for that
    of the only one; raises NotFound.
    """
    async with database.transaction() as connection:
        before = await lock_organization(connection, organization)
        await connection.value(SAVE_MANAGED, organization=organization, managed=managed, identity_provider=provider)
        told = {"before": before, "after": managed, "identityProvider": provider}
        entry = Entry(at=now(), actor=None, action=Act.ORGANIZATION_MANAGED, details=told)
        await record_in(connection, organization, None, entry)
