"""Drift of records that are sent: seen before one of them is taken."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

import structlog

from app.base.database import Connection
from app.base.errors import QuotaExceeded, SchemaDrift, VanguardError
from app.base.statements import statement
from app.contract_versions.registry import hold_ingestion_ready, register
from app.contracts import Contract
from app.contracts.comparison import COMPATIBLE, Kind
from app.contracts.registration import read_registration
from app.contracts.states import STATE_RIGHTS, ReportState
from app.drift.batch import Batch
from app.drift.detection import Drift, Found, Source, detect, is_suspect
from app.drift.evolution import Step, Unevolved, evolved
from app.drift.records import batch_of, with_keys
from app.drift.reports import Standing, free_columns, keep, read_known, read_mappings
from app.engine.datasets import base_of, version_of
from app.engine.desk import Desk
from app.engine.feed import EventType, tell
from app.engine.locks import read_only
from app.records.records import Raw
from app.web.runtime import VanguardRequest, standing_of

log = structlog.get_logger(__name__)

DECIDE_REPORT = statement("drift/decide_report")

LOOKED_AT = 10_000  # records of an upload
NOWHERE = "own_0"


async def hold_drifted(
    request: VanguardRequest, contract: Contract, organization: str, raws: Iterable[Raw], *, textual: bool
) -> None:
    """Look at the first records before any of them is kept; raises SchemaDrift where a person has to decide, and
    DatasetReadOnly in place of that where the dataset's state takes no records.

    What is compatible makes the next version, where the contract says that it evolves.
    """
    runtime = request.runtime
    async with runtime.desk(contract, organization) as desk:
        mapped = await read_mappings(desk)
    batch = await asyncio.to_thread(_batch, contract, raws, textual, mapped)
    if batch is None:
        return
    async with runtime.desk(contract, organization) as desk:
        known = await read_known(desk, batch)
    drift = await asyncio.to_thread(detect, contract, batch, known, Source.INGEST)
    if not drift.changes:
        return
    state = (await standing_of(request, organization, contract.name, deprecated=True)).state
    if not STATE_RIGHTS[state].filled:
        # Nobody has to decide about what is not taken anyway.
        if drift.severity is COMPATIBLE:
            return
        raise read_only(desk, state)
    at = runtime.clock()

    async def report(connection: Connection) -> Standing:
        await hold_ingestion_ready(connection)
        return await keep(
            Desk(connection, contract, organization), drift, Source.INGEST, at,
            user=request.user.user_id, columns=free_columns(drift, batch.columns, batch.fields),
            most=runtime.settings.max_drift_reports,
        )  # fmt: skip

    try:
        standing = await runtime.database.run(report)
    except QuotaExceeded:
        if drift.severity is COMPATIBLE:
            log.warning("drift is not kept", organization=organization, dataset=contract.name)
            return  # records are taken as they are without a report
        raise
    if standing.holds:
        raise _refused(contract, standing)
    if standing.state is ReportState.OPEN and _evolves(contract, drift):
        await _evolve(request, contract, organization, drift, standing)


def _batch(contract: Contract, raws: Iterable[Raw], textual: bool, mapped: dict[str, str | None]) -> Batch | None:
    """The records that can be read, where anything is suspicious about them."""
    records = [raw.members for raw in islice(raws, LOOKED_AT) if raw.members is not None]
    batch = batch_of(contract, records, textual=textual, mapped=mapped)
    return with_keys(contract, batch) if is_suspect(contract, batch, Source.INGEST) else None


def _refused(contract: Contract, standing: Standing) -> SchemaDrift:
    where = f"POST contracts/{base_of(contract.name)}/drift/{standing.id}"
    if standing.made_version is not None:
        major = version_of(standing.made_version)[0]
        said = (
            f"It was accepted as version {standing.made_version}, which is not promoted yet: send the records to "
            f"{base_of(contract.name)}@{major}, or promote it."
        )
    elif standing.state is ReportState.REJECTED:
        said = f"{standing.decided_by_name or 'Somebody'} has rejected it: {standing.reason}"
    else:
        said = f"An administrator decides: {where}/accept, map or reject. Nothing was taken."
    return SchemaDrift(f"The records are not as the contract has them. {said}", report=str(standing.id))


def _evolves(contract: Contract, drift: Drift) -> bool:
    """Whether the contract says of each change that it follows by itself."""
    policy = contract.schema_contract
    return drift.severity is COMPATIBLE and all(
        (policy.new_fields if found.change.kind is Kind.ADD else policy.types) == "evolve" for found in drift.changes
    )


async def _evolve(
    request: VanguardRequest, contract: Contract, organization: str, drift: Drift, standing: Standing
) -> None:
    """Make the next version. Where that is not possible, the report stays open, and records are taken as before."""
    runtime = request.runtime
    # What no field can hold stays outside.
    steps = [_step(found) for found in drift.changes if _holds(found)]
    major, minor = version_of(contract.version)
    numbers = {"name": base_of(contract.name), "version": f"{major}.{minor + 1}"}
    at, user = runtime.clock(), request.user.user_id

    async def work(connection: Connection) -> None:
        made = await register(connection, organization, wanted, user, at, runtime.settings)
        desk = Desk(connection, made.contract, organization)
        await connection.value(
            DECIDE_REPORT, organization=organization, id=standing.id, state=ReportState.APPLIED, user=None, at=at,
            reason=None, made_version=made.contract.version,
        )  # fmt: skip
        _tell(desk, standing, at, made.contract.version)

    if not steps:
        return
    try:
        wanted = read_registration(evolved(contract, steps) | numbers, schema=NOWHERE)
        await runtime.owner.run(work)
    except (Unevolved, VanguardError) as error:
        log.warning(
            "contract does not evolve", organization=organization, dataset=contract.name, report=str(standing.id),
            code=getattr(error, "code", "UNEVOLVED"),
        )  # fmt: skip


def _tell(desk: Desk, standing: Standing, at: datetime, version: str) -> None:
    tell(
        desk, EventType.DATASET, at,
        event="drift", report=str(standing.id), severity=standing.severity, state=ReportState.APPLIED, version=version,
    )  # fmt: skip


def _holds(found: Found) -> bool:
    return found.change.kind is not Kind.ADD or found.change.new["type"] is not None


def _step(found: Found) -> Step:
    change = found.change
    return Step(kind=change.kind, path=change.path, field=found.field or "", old=change.old, new=change.new)
