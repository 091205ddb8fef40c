"""Records that were put aside: sent through the present contract again, or put away with a reason."""

import uuid
from typing import Annotated

import msgspec
from litestar import Response, post

from app.base import exact_json
from app.base.errors import Code, Culprit, ValidationFailed
from app.base.statements import statement
from app.contract_versions.registry import hold_ingestion_ready
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.locks import lock_filled
from app.ingestion.routes import check_ingested, take
from app.records.records import read_record
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.idempotency import answer_once, answer_rehearsal
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers_with_position, body
from app.web.runtime import VanguardRequest, contract_of
from app.worker.ingestion import AT_ONCE
from app.worker.semantics import Counts, Ingester, Record, note

READ_QUARANTINED = statement("ingestion/read_quarantined")
DISCARD_RECORDS = statement("ingestion/discard_records")

MOST = 1_000
Ids = Annotated[list[Annotated[str, msgspec.Meta(max_length=300)]], msgspec.Meta(min_length=1, max_length=MOST)]


class QuarantineReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """These records, or those of a run; at most 1,000 of them, those first that were looked at longest ago."""

    ids: Ids | None = None
    run_id: uuid.UUID | None = None
    dry_run: bool = False


class ReplayedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records; those that still do not fit stay where they are. `remaining`: of the run, for another
    request.
    """

    read: int
    inserted: int
    updated: int
    unchanged: int
    skipped: int
    quarantined: int
    remaining: int


class DiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records are put away, and why."""

    ids: Ids
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class DiscardedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many were put away now."""

    discarded: int


class _Rehearsed(Exception):
    """Leaves the transaction of a dry run with its answer."""

    def __init__(self, answer: ReplayedAnswer):
        self.answer = answer


@post(
    f"{DATASET_PATH}/quarantine/replay",
    opt=require(Action.INGEST) | BATCH,
    status_code=200,
    tags=["ingestion"],
    summary="Send quarantined records through again",
    responses=answers_with_position(ReplayedAnswer, 404, 409, 422),
)
async def replay_quarantined(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[
        QuarantineReplay, body({"ids": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11:000000003"], "dryRun": True})
    ],
) -> Response[bytes]:
    """Through the contract as it is now; what fits is a row then, and leaves quarantine."""
    runtime, user, at, taken = request.runtime, request.user.user_id, request.runtime.clock(), Counts()
    contract = await contract_of(request, org, dataset)
    check_ingested(contract)
    if (data.ids is None) == (data.run_id is None):
        message = "Say either ids or runId."
        raise ValidationFailed(message, errors=[Culprit(code=Code.INVALID_VALUE, field="ids", message=message)])

    async def work(desk: Desk) -> bytes:
        nonlocal taken
        await hold_ingestion_ready(desk.connection)
        await lock_filled(desk)
        rows = await desk.rows(READ_QUARANTINED, ids=data.ids, run_id=data.run_id, limit=MOST, bytes=AT_ONCE)
        records = [
            Record(row["run_id"], row["first_seen_at"], row["textual"], read_record(row["line"], row["raw"]))
            # As they came: of two about one thing, that of the later one counts.
            for row in sorted(rows, key=lambda row: (row["first_seen_at"], row["run_id"], row["line"]))
        ]
        counts = await take(Ingester(desk), records, at)
        answer = ReplayedAnswer(
            read=counts.rows_read,
            inserted=counts.inserted,
            updated=counts.updated,
            unchanged=counts.unchanged,
            skipped=counts.skipped,
            quarantined=counts.quarantined,
            remaining=max((row["total"] for row in rows), default=0) - len(rows),
        )
        if data.dry_run:
            raise _Rehearsed(answer)
        taken = counts
        settled = {"records": counts.rows_read - counts.quarantined}
        await record(desk, Entry(at=at, actor=user, action=Act.QUARANTINE_REPLAYED, details=settled))
        return exact_json.encode(answer)

    try:
        response = await answer_once(request, runtime, contract, org, work)
    except _Rehearsed as rehearsed:
        return await answer_rehearsal(request, org, rehearsed.answer)
    note(taken)
    return response


@post(
    f"{DATASET_PATH}/quarantine/discard",
    opt=require(Action.INGEST) | BATCH,
    status_code=200,
    tags=["ingestion"],
    summary="Put quarantined records away",
    responses=answers_with_position(DiscardedAnswer, 404, 409, 422),
)
async def discard_quarantined(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[
        DiscardRequest, body({"ids": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11:000000003"], "reason": "A test"})
    ],
) -> Response[bytes]:
    """They stay where they are, with the reason, and are looked at no more."""
    runtime, user, at = request.runtime, request.user.user_id, request.runtime.clock()
    contract = await contract_of(request, org, dataset)
    check_ingested(contract)

    async def work(desk: Desk) -> bytes:
        rows = await desk.rows(DISCARD_RECORDS, ids=data.ids, user=user, reason=data.reason, at=at)
        told = Entry(
            at=at, actor=user, action=Act.QUARANTINE_DISCARDED, reason=data.reason, details={"records": len(rows)}
        )
        await record(desk, told)
        return exact_json.encode(DiscardedAnswer(discarded=len(rows)))

    return await answer_once(request, runtime, contract, org, work)


ROUTES = [replay_quarantined, discard_quarantined]
