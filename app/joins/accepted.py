"""Accepted joins, as questions take them."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from app.base.database import Connection
from app.base.statements import statement
from app.engine.query.catalogue import AcceptedJoin

LIST_ACCEPTED = statement("joins/list_accepted")
COUNT_USES = statement("joins/count_uses")


async def list_accepted(connection: Connection, organization: str) -> tuple[AcceptedJoin, ...]:
    """The joins that are accepted, and not deprecated, by the names of their datasets and fields."""
    rows = await connection.rows(LIST_ACCEPTED, organization=organization)
    return tuple(
        AcceptedJoin(
            id=str(row["id"]),
            version=row["version"],
            child=row["child"],
            child_fields=tuple(row["child_fields"]),
            parent=row["parent"],
            parent_fields=tuple(row["parent_fields"]),
            confidence=float(row["confidence"]),
            fan_out=float(row["fan_out"]),
            most=row["most"],
            accepted_at=row["accepted_at"],
        )
        for row in rows
    )


async def count_uses(connection: Connection, organization: str, ids: Sequence[str], at: datetime) -> None:
    """Count one use more of each of these joins; of others of the organization, and of none, nothing happens."""
    if ids:
        wanted = [uuid.UUID(each) for each in sorted({*ids})]
        await connection.rows(COUNT_USES, organization=organization, ids=wanted, at=at)
