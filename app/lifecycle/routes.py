"""The life of a dataset over HTTP: its state, and the ways from one to another."""

from typing import Annotated, Any

import msgspec
import structlog
from litestar import Response, get, post
from prometheus_client import Counter

from app.base import exact_json
from app.base.statements import statement
from app.contracts.states import STATE_RIGHTS, DatasetState
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.lifecycle.transitions import Outcome, Wanted, carry_out
from app.web.auth import Action, require
from app.web.idempotency import answer_once, answer_rehearsal
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, answers_with_position, body
from app.web.runtime import VanguardRequest, standing_of

log = structlog.get_logger(__name__)

LIST_TRANSITIONS = statement("versions/list_transitions")

TRANSITIONS = Counter("vanguard_dataset_transitions_total", "Datasets that went to another state", ["action"])

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=2000, examples=["Reviewed with the cost team"])]
State = Annotated[str, msgspec.Meta(pattern=r"^(READ_ONLY|SHADOW|ACTIVE|DEPRECATED)\Z")]


class Rehearsed(Exception):
    """Leaves the transaction of a dry run with its answer and nothing else."""

    def __init__(self, outcome: Outcome):
        self.outcome = outcome


class TransitionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Why, and from which state alone; `dry_run` says what would happen."""

    reason: Reason
    from_state: State | None = None
    dry_run: bool = False


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """An account; `name` null where it is gone."""

    id: str
    name: str | None


class Transition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a version went through; `undone_at`: when a promotion was rolled back."""

    version: str
    action: str
    from_state: str | None
    to_state: str
    actor: Person | None
    reason: str | None
    at: str
    undone_at: str | None


class StateAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset's state and what it allows; `history`: of all its versions, the newest first."""

    state: str
    version: str
    queryable: bool
    writable: bool
    visible: bool
    auto_joined: bool
    history: list[Transition]


@get(
    f"{DATASET_PATH}/state",
    opt=require(Action.QUERY),
    tags=["datasets"],
    summary="The state of a dataset",
    responses=answers(StateAnswer, 404),
)
async def get_state(request: VanguardRequest, org: Organization, dataset: DatasetName) -> StateAnswer:
    """What the state allows, and how the dataset came to it. Of a DEPRECATED one, too."""
    found = await standing_of(request, org, dataset, deprecated=True)
    async with request.runtime.desk(found.contract, org) as desk:
        base = base_of(found.contract.name)
        rows = await desk.connection.rows(LIST_TRANSITIONS, organization=org, base=base)
    rights = STATE_RIGHTS[found.state]
    shadow = request.user.may(Action.SEE_SHADOW)
    return StateAnswer(
        state=found.state.value,
        version=found.contract.version,
        queryable=rights.queryable,
        writable=rights.writable,
        visible=rights.visible,
        auto_joined=rights.auto_joined,
        history=[
            Transition(
                version=row["version"],
                action=row["action"],
                from_state=row["from_state"],
                to_state=row["to_state"],
                actor=None if row["actor"] is None else Person(id=row["actor"], name=row["name"]),
                reason=row["reason"],
                at=row["at"],
                undone_at=row["undone_at"],
            )
            for row in rows
            if shadow or row["to_state"] != DatasetState.SHADOW or row["action"] == "rollback"
        ],
    )


async def _answer(
    request: VanguardRequest, organization: str, dataset: str, action: str, data: TransitionRequest
) -> Response[bytes]:
    runtime = request.runtime
    found = await standing_of(request, organization, dataset, deprecated=True)
    wanted = Wanted(action, request.user.user_id, data.reason, runtime.clock(), data.from_state)

    async def work(desk: Desk) -> bytes:
        outcome = await carry_out(desk, wanted)
        if data.dry_run:
            raise Rehearsed(outcome)
        return exact_json.encode(outcome)

    try:
        answer = await answer_once(request, runtime, found.contract, organization, work, database=runtime.owner)
    except Rehearsed as rehearsed:
        return await answer_rehearsal(request, organization, rehearsed.outcome)
    runtime.datasets.forget_state(organization, found.contract.name)
    TRANSITIONS.labels(action).inc()
    log.info("dataset changed its state", organization=organization, dataset=found.contract.name, action=action)
    return answer


TRANSITION: dict[str, Any] = {
    "opt": require(Action.PROMOTE),
    "status_code": 200,
    "tags": ["datasets"],
    "responses": answers_with_position(Outcome, 404, 409, 422),
}
EXAMPLE = {"reason": "Reviewed with the cost team", "dryRun": True}


@post(f"{DATASET_PATH}/promote", summary="Put a version in SHADOW to use", **TRANSITION)
async def promote(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[TransitionRequest, body(EXAMPLE)],
) -> Response[bytes]:
    """The version becomes ACTIVE; the one that was is DEPRECATED in the same step, and what people have under way
    follows. A dry run compares the two.
    """
    return await _answer(request, org, dataset, "promote", data)


@post(f"{DATASET_PATH}/deprecate", summary="Put a dataset out of use", **TRANSITION)
async def deprecate(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[TransitionRequest, body(EXAMPLE)],
) -> Response[bytes]:
    """It is hidden, and nothing changes in it any more; who asks for it by its version still reads it."""
    return await _answer(request, org, dataset, "deprecate", data)


@post(f"{DATASET_PATH}/restore", summary="Put a DEPRECATED dataset to use again", **TRANSITION)
async def restore(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[TransitionRequest, body(EXAMPLE)],
) -> Response[bytes]:
    """Where no other version is ACTIVE."""
    return await _answer(request, org, dataset, "restore", data)


@post(f"{DATASET_PATH}/rollback", summary="Undo a promotion", **TRANSITION)
async def roll_back(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[TransitionRequest, body(EXAMPLE)],
) -> Response[bytes]:
    """Within 24 hours. The version goes back to SHADOW, the one before it is used again, and what was committed since
    becomes drafts of its authors there.
    """
    return await _answer(request, org, dataset, "rollback", data)


ROUTES = [get_state, promote, deprecate, restore, roll_back]
