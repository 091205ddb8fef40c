"""The mode of the system: whether it takes contracts and records. Operators change it."""

from typing import Annotated, Literal

import msgspec
import structlog
from litestar import get, put
from litestar.params import JSONBody

from app.base.statements import statement
from app.engine.audit import INSTALLATION, Act, Entry, record_in
from app.web.auth import require_operator
from app.web.openapi import answers
from app.web.runtime import VanguardRequest

log = structlog.get_logger(__name__)

READ_MODE = statement("system_mode/read_mode")
CHANGE_MODE = statement("system_mode/change_mode")

PATH = "/api/v1/system/mode"
Mode = Literal["READ_ONLY", "INGESTION_READY"]


class ModeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mode that is wanted."""

    mode: Annotated[Mode, msgspec.Meta(examples=["INGESTION_READY"])]


class ModeAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The mode, since when, and who wanted it; null where it was never changed."""

    mode: Mode
    changed_at: str | None
    changed_by: str | None


async def _read(request: VanguardRequest) -> ModeAnswer:
    async with request.runtime.database.connection() as connection:
        row = await connection.row(READ_MODE)
    assert row is not None, "the migration has made the row"
    return ModeAnswer(**dict(row))


@get(PATH, opt=require_operator(), tags=["operations"], summary="The mode of the system", responses=answers(ModeAnswer))
async def get_mode(request: VanguardRequest) -> ModeAnswer:
    """Whether contracts can be registered, and records ingested, replayed and backfilled."""
    return await _read(request)


@put(
    PATH,
    opt=require_operator(),
    tags=["operations"],
    summary="Change the mode of the system",
    responses=answers(ModeAnswer),
)
async def put_mode(request: VanguardRequest, data: JSONBody[ModeRequest]) -> ModeAnswer:
    """READ_ONLY stops registration, ingestion, replay and backfill of all organizations, and nothing else."""
    runtime, user = request.runtime, request.user.user_id
    async with runtime.database.transaction() as connection:
        at = runtime.clock()
        changed = await connection.value(CHANGE_MODE, mode=data.mode, user=user, at=at)
        if changed is not None:
            entry = Entry(at=at, actor=user, action=Act.SYSTEM_MODE_CHANGED, details={"mode": changed})
            await record_in(connection, INSTALLATION, None, entry)
    if changed is not None:
        log.info("system mode changed", mode=changed, user=user)
    return await _read(request)


ROUTES = [get_mode, put_mode]
