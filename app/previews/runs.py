"""Validation runs: a session has one at a time, and each of its moves is an UPDATE that names the state it expects."""

import uuid
from datetime import datetime
from typing import Any

import msgspec
import structlog
from asyncpg import Record
from prometheus_client import Counter

from app.base.errors import InvalidTransition, RunNotFound
from app.base.statements import statement
from app.contracts.states import SessionState, ValidationState
from app.engine.desk import Desk
from app.engine.sessions import Session
from app.previews.findings import Findings, Message

log = structlog.get_logger(__name__)
RUNS = Counter("vanguard_validation_runs_total", "Validation runs of sessions, by how they ended", ["state"])

READ_RUN = statement("previews/read_run")
ADD_RUN = statement("previews/add_run")
START_RUN = statement("previews/start_run")
FINISH_RUN = statement("previews/finish_run")
OVERRIDE_RUN = statement("previews/override_run")


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Findings by severity."""

    info: int
    warning: int
    error: int
    fatal: int


class Validation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a session's validation ended. `messages` are the worst of `message_count`. `can_proceed`: it passed, and
    nothing was edited since. `reason` and `decided_by`: why its warnings were let pass, and by whom.
    """

    run_id: uuid.UUID
    state: ValidationState
    contract_version: str
    counts: Counts
    messages: list[Message]
    message_count: int
    can_proceed: bool
    finished_at: datetime
    reason: str | None
    decided_by: str | None
    decided_by_name: str | None

    @property
    def kept(self) -> dict[str, Any]:
        """The run as a change request keeps it: a name is told as it is when somebody asks."""
        kept: dict[str, Any] = msgspec.to_builtins(self)
        del kept["decidedByName"]
        return kept


async def begin_run(desk: Desk, session: Session, at: datetime) -> uuid.UUID:
    """A run in progress, under lock 2: the last one again where it failed, else a new one in its place."""
    last = await _find_run(desk, session)
    version = desk.contract.version
    if last is not None and last["state"] == ValidationState.FAILED:
        run_id, was = last["id"], ValidationState.FAILED
    else:
        run_id, was = uuid.uuid4(), ValidationState.NOT_STARTED
        await desk.value(ADD_RUN, session_id=session.id, id=run_id, contract_version=version)
    moved = await desk.value(START_RUN, id=run_id, was=was, contract_version=version, at=at)
    assert moved is not None, "lock 2 holds the state that was read"
    return uuid.UUID(str(run_id))


async def finish_run(desk: Desk, run_id: uuid.UUID, findings: Findings, at: datetime) -> None:
    """The run ends as its findings have it."""
    counts, messages = findings.counts, findings.messages
    moved = await desk.value(FINISH_RUN, id=run_id, state=findings.state, counts=counts, messages=messages, at=at)
    assert moved is not None, "nobody else moves a run that has begun"
    RUNS.labels(findings.state).inc()


async def override_run(desk: Desk, session: Session, user: str, reason: str) -> None:
    """Let the warnings of the present preview pass, under lock 2; raises InvalidTransition where there are none to."""
    if session.state is not SessionState.PREVIEW:
        detail = f"The session is {session.state}: preview it, and override what that says."
        raise InvalidTransition(detail, state=session.state)
    if await desk.value(OVERRIDE_RUN, id=session.run_id, reason=reason, user=user) is None:
        run = await read_validation(desk, session)
        raise InvalidTransition(f"The validation is {run.state}: only warnings are overridden.", state=run.state)
    log.info("warnings overridden", organization=desk.organization, dataset=desk.contract.name, run=str(session.run_id))


async def read_validation(desk: Desk, session: Session) -> Validation:
    """The session's run as it ended; raises RunNotFound before the first preview."""
    run = await _find_run(desk, session)
    if run is None:
        raise RunNotFound("The session was not validated yet. Preview it.")
    counts = msgspec.convert(run["counts"], Counts)
    return Validation(
        run_id=run["id"],
        state=ValidationState(run["state"]),
        contract_version=run["contract_version"],
        counts=counts,
        messages=msgspec.convert(run["messages"], list[Message]),
        message_count=sum(msgspec.structs.astuple(counts)),
        can_proceed=run["state"] == ValidationState.PASSED and run["id"] == session.run_id,
        finished_at=run["finished_at"],
        reason=run["reason"],
        decided_by=run["decided_by"],
        decided_by_name=run["decided_by_name"],
    )


async def _find_run(desk: Desk, session: Session) -> Record | None:
    return await desk.row(READ_RUN, session_id=session.id)
