"""`GET /api/v1/admin/status`: how every dataset of every organization stands, for operators."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import get

from app.base.database import Connection
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.ddl import index_names
from app.contracts.images import qualified
from app.engine.desk import Desk
from app.web.auth import require_operator
from app.web.openapi import answers
from app.web.runtime import VanguardRequest

READ_STATUS = statement("status/read_status")
FIND_INDEXES = statement("status/find_indexes")
LIST_ORGANIZATIONS = statement("worker/list_organizations")


class Kpis(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The view of KPIs: the `revision` that it stands at, None before its first refresh, and for how many seconds there
    have been changes that it does not know. Answers are exact all the same.
    """

    revision: int | None
    stale_seconds: float | None


class DatasetStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset of an organization. `rows` are those of the revision of `kpis`; `outbox_age` is in seconds;
    `analyzed_at` is when the planner's statistics of the mirror were taken, `missing_indexes` what the contract wants
    and the database does not have; `circuit` is None where no worker connects the dataset with a system of record.
    """

    organization: str
    dataset: str
    contract_version: str
    revision: int
    rows: int | None
    drafts: int
    sessions: int
    outbox: int
    outbox_age: float | None
    failed: int
    kpis: Kpis
    missing_indexes: list[str]
    analyzed_at: str | None
    circuit: str | None


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every dataset of every organization, by dataset and organization."""

    datasets: list[DatasetStatus]


@get(
    "/api/v1/admin/status",
    opt=require_operator(),
    tags=["operations"],
    summary="How every dataset stands",
    responses=answers(StatusAnswer),
)
async def get_status(request: VanguardRequest) -> StatusAnswer:
    """Of all organizations: revisions, rows, drafts, what waits, KPIs, indexes, statistics, circuits."""
    runtime = request.runtime
    at = runtime.clock()
    found = []
    async with runtime.database.connection() as connection:
        for contract in runtime.datasets.built_in.values():
            rows = await connection.rows(LIST_ORGANIZATIONS, dataset=contract.name)
            found += await _statuses(connection, contract, [row["id"] for row in rows], at)
        for organization, contract in await runtime.datasets.own(connection):
            found += await _statuses(connection, contract, [organization], at)
    return StatusAnswer(datasets=found)


async def _statuses(
    connection: Connection, contract: Contract, organizations: list[str], at: datetime
) -> list[DatasetStatus]:
    wanted = index_names(contract)
    there = {row["name"] for row in await connection.rows(qualified(FIND_INDEXES, contract), names=wanted)}
    missing = [name for name in wanted if name not in there]
    found = []
    for organization in organizations:
        record = await Desk(connection, contract, organization).row(READ_STATUS, at=at)
        if record is not None:
            found.append(_status(contract, organization, dict(record), missing))
    return found


def _status(contract: Contract, organization: str, record: dict[str, Any], missing: list[str]) -> DatasetStatus:
    return DatasetStatus(
        organization=organization,
        dataset=contract.name,
        contract_version=contract.version,
        revision=record["revision"],
        rows=record["rows"],
        drafts=record["drafts"],
        sessions=record["sessions"],
        outbox=record["outbox"],
        outbox_age=record["oldest"],
        failed=record["failed"],
        kpis=Kpis(revision=record["rows_at"], stale_seconds=record["stale"]),
        missing_indexes=missing,
        analyzed_at=record["analyzed_at"],
        circuit=record["circuit"],
    )


ROUTES = [get_status]
