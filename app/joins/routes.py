"""Joins over HTTP: candidates between two datasets, joins that were accepted, and what is decided about both."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.openapi.spec import Example, Operation
from litestar.params import PathParameter

from app.base import exact_json
from app.base.database import Connection
from app.base.errors import DatasetNotFound
from app.base.statements import statement
from app.contracts import PFA
from app.contracts.filters import refuse
from app.contracts.states import STATE_RIGHTS, DatasetState, JoinState
from app.engine.datasets import FIND_VERSION, NAME
from app.engine.desk import Desk
from app.joins.accepted import list_accepted
from app.joins.candidates import Pair, find_candidates
from app.joins.deciding import Deciding, Named, accept, candidate_id, deprecate, read_candidate_id, read_join
from app.joins.wire import (
    AcceptedAnswer,
    AcceptRequest,
    Candidate,
    CandidatesAnswer,
    DeprecateJoinRequest,
    JoinAnswer,
    JoinsAnswer,
    join_of,
)
from app.web.auth import Action, require
from app.web.idempotency import answer_once
from app.web.openapi import Organization, answers, answers_with_position, body, parameter
from app.web.paging import PageOperation, Walk, by_time, read_given, read_page
from app.web.runtime import Runtime, VanguardRequest

LIST_JOINS = statement("joins/list_joins")

PATH = "/api/v1/orgs/{org:str}/joins"
STATES = tuple(state.value for state in JoinState)
JoinId = Annotated[
    str, PathParameter(description="Id of the join", examples=[Example(value="7c9e6679-7425-40de-944b-e07fc1f90ae7")])
]


@dataclass
class JoinsOperation(PageOperation):
    """A page's parameters, and the filters of joins."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [
            *(self.parameters or []),
            parameter("state", "string", "Only these", enum=list(STATES)),
            parameter("dataset", "string", "Only those of this dataset, on either side"),
        ]


@dataclass
class CandidatesOperation(Operation):
    """The two datasets of candidates."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("left", "string", "Name of a dataset", required=True),
            parameter("right", "string", "Name of the other, or of the same", required=True),
        ]


@get(
    PATH,
    opt=require(Action.QUERY),
    tags=["joins"],
    summary="Accepted joins",
    operation_class=JoinsOperation,
    responses=answers(JoinsAnswer),
)
async def list_joins(request: VanguardRequest, org: Organization) -> Response[bytes]:
    """And those that were deprecated, the newest first. Parameters: state, dataset, limit, after."""
    runtime = request.runtime
    limit, given = read_page(request, names=["dataset"], state=STATES)
    walk = Walk(runtime, f"{org}/joins", given.get("after"))
    async with runtime.database.connection() as connection:
        found = await connection.rows(
            LIST_JOINS, organization=org, state=given.get("state"), dataset=given.get("dataset"), after=walk.at,
            after_id=walk.id, limit=limit + 1,
        )  # fmt: skip
    data = [JoinAnswer(**join_of(row)) for row in found[:limit]]
    answer = JoinsAnswer(data=data, next_cursor=walk.following(found, limit, by_time))
    return Response(exact_json.encode(answer), media_type="application/json")


@get(
    f"{PATH}/candidates",
    opt=require(Action.QUERY),
    tags=["joins"],
    summary="What could be joined",
    operation_class=CandidatesOperation,
    responses=answers(CandidatesAnswer, 404),
)
async def list_candidates(request: VanguardRequest, org: Organization) -> CandidatesAnswer:
    """Of two datasets either way, or of one with itself, the most certain first. Nothing of it is kept. Parameters:
    left, right.
    """
    given = read_given(request, "left", "right")
    for name in ("left", "right"):
        if name not in given:
            raise refuse(name, "the name of a dataset.")
    # All figures, and the contracts, are of one moment.
    async with request.runtime.database.snapshot() as connection:
        left, right = [await _desk(request.runtime, connection, org, given[name]) for name in ("left", "right")]
        found = await find_candidates(left, right)
        joins = await list_accepted(connection, org)
    accepted = {(each.child, each.child_fields, each.parent, each.parent_fields): each.id for each in joins}
    secret = request.runtime.settings.secret
    return CandidatesAnswer(data=[_named(each, pair, org, secret, accepted) for pair, each in found])


def _named(
    candidate: Candidate,
    pair: Pair,
    organization: str,
    secret: str,
    accepted: dict[tuple[str, tuple[str, ...], str, tuple[str, ...]], str],
) -> Candidate:
    child, parent = candidate.child.dataset, candidate.parent.dataset
    key = (child, pair.child_fields, parent, pair.parent_fields)
    id_ = candidate_id(secret, Named(organization, *key))
    return msgspec.structs.replace(candidate, candidate_id=id_, accepted=accepted.get(key))


async def _desk(runtime: Runtime, connection: Connection, organization: str, name: str) -> Desk:
    """The version in use of a dataset, as this transaction finds it; raises DatasetNotFound, also for one of a state
    that is not looked at.
    """
    match = NAME.fullmatch(name)
    if match is None or match["major"] is not None:
        raise _no_dataset(name)
    row = await connection.row(FIND_VERSION, organization=organization, base=name, major=None)
    if row is None or row["state"] == DatasetState.SHADOW:
        raise _no_dataset(name)
    if not STATE_RIGHTS[DatasetState(row["state"])].auto_joined:
        raise DatasetNotFound(f"{name} is {row['state']}, and no joins of it are looked for.")
    contract = runtime.datasets.built_in.get(name)
    if contract is None:
        found = await runtime.datasets.standing(connection, organization, name, row)
        if found is None:
            raise _no_dataset(name)
        contract = found.contract
    return Desk(connection, contract, organization)


def _no_dataset(name: str) -> DatasetNotFound:
    return DatasetNotFound(
        f"No dataset in use is called {name[:80]!r} here. Joins are of datasets by their plain names."
    )


@get(
    f"{PATH}/{{join_id:str}}",
    opt=require(Action.QUERY),
    tags=["joins"],
    summary="A join",
    responses=answers(JoinAnswer, 404),
)
async def get_join(request: VanguardRequest, org: Organization, join_id: JoinId) -> Response[bytes]:
    """With why it was accepted, what was measured then, and how often it was used."""
    async with request.runtime.database.connection() as connection:
        found = await read_join(connection, org, join_id)
    return Response(exact_json.encode(found), media_type="application/json")


@post(
    f"{PATH}/accept",
    opt=require(Action.DECIDE_JOINS),
    status_code=201,
    tags=["joins"],
    summary="Accept a candidate",
    responses=answers_with_position(AcceptedAnswer, 404, 409, 422, status=201, description="The join"),
)
async def accept_join(
    request: VanguardRequest,
    org: Organization,
    data: Annotated[AcceptRequest, body({"candidateId": "q5Wb0vT...", "rationale": "Orders name their customer"})],
) -> Response[bytes]:
    """It is measured anew, and refused where the parent is not unique. From then on queries can take it, on merged
    values of both sides.
    """
    runtime = request.runtime

    async def work(desk: Desk) -> bytes:
        named = read_candidate_id(runtime.settings.secret, org, data.candidate_id)
        child, parent = [await _desk(runtime, desk.connection, org, name) for name in (named.child, named.parent)]
        return exact_json.encode(await accept(child, parent, named, data.rationale, _deciding(request, org)))

    return await answer_once(request, runtime, PFA, org, work, status=201)


@post(
    f"{PATH}/{{join_id:str}}/deprecate",
    opt=require(Action.DECIDE_JOINS),
    status_code=200,
    tags=["joins"],
    summary="Deprecate a join",
    responses=answers_with_position(JoinAnswer, 404, 409, 422),
)
async def deprecate_join(
    request: VanguardRequest,
    org: Organization,
    join_id: JoinId,
    data: Annotated[DeprecateJoinRequest, body({"reason": "The key has changed"})],
) -> Response[bytes]:
    """No query takes it any more. Accepted again, the same fields are its next version."""

    async def work(desk: Desk) -> bytes:
        return exact_json.encode(await deprecate(desk.connection, join_id, data.reason, _deciding(request, org)))

    return await answer_once(request, request.runtime, PFA, org, work)


def _deciding(request: VanguardRequest, organization: str) -> Deciding:
    runtime = request.runtime
    return Deciding(organization=organization, user=request.user.user_id, at=runtime.clock(), settings=runtime.settings)


ROUTES = [list_joins, list_candidates, get_join, accept_join, deprecate_join]
