"""Executions over HTTP: run a preview, and read what was run."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from asyncpg import Record
from litestar import Response, get, post
from litestar.openapi.spec import Example, Operation
from litestar.params import PathParameter

from app.base import exact_json
from app.base.errors import ExecutionNotFound
from app.base.statements import statement
from app.engine.query.composing import Asker
from app.query_previews.execution import WRITERS, Json, QueryDownload, check_digest, longest, start
from app.query_previews.previews import read
from app.query_previews.routes import PATH, Id
from app.query_previews.wire import AnswerColumn
from app.web.auth import Action, require
from app.web.openapi import Organization, add_media_type, answers, body
from app.web.paging import PageOperation, Walk, by_time, read_page
from app.web.runtime import Runtime, VanguardRequest
from app.web.work import READS

LIST_EXECUTIONS = statement("query_previews/list_executions")
READ_INCARNATION = statement("query_previews/read_incarnation")

ExecutionId = Annotated[
    str,
    PathParameter(description="Id of the execution", examples=[Example(value="7c9e6679-7425-40de-944b-e07fc1f90ae7")]),
]
Digest = Annotated[str, msgspec.Meta(max_length=64)]


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a question is run though a guard holds it."""

    reason: Annotated[str, msgspec.Meta(pattern=r"\S", max_length=2000)]


class ExecuteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A preview by its id and digest; nothing else says what is run."""

    preview_id: Id
    digest: Digest
    format: Literal["json", "csv", "ndjson"] = "json"
    override: Override | None = None


class QueryAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The rows, each an object by the columns' names. `truncated`: there were more than the question's limit."""

    execution_id: str
    columns: list[AnswerColumn]
    data: list[dict[str, Any]]
    rows: int
    truncated: bool


class ExecutionAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A question that was run. `cost` and `estimated_rows` as they were expected; `outcome` is null while it runs, and
    `lost` where the service was killed meanwhile; `seconds` and `rows` are what it took and answered.
    """

    id: str
    user_id: str
    user_name: str | None
    preview_id: str
    query: dict[str, Any]
    sentence: str | None
    digest: str
    format: str
    joins: list[str]
    cost: float
    estimated_rows: int
    override_reason: str | None
    at: str
    outcome: str | None
    seconds: float | None
    rows: int | None
    truncated: bool | None


class ExecutionsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of executions, the newest first."""

    data: list[ExecutionAnswer]
    next_cursor: str | None


@dataclass
class ExecuteOperation(Operation):
    """The other forms of an answer, for /schema."""

    def __post_init__(self) -> None:
        for writer in WRITERS.values():
            if writer is not Json:
                add_media_type(self, writer.media_type)


@post(
    f"{PATH}/execute",
    opt=require(Action.QUERY) | READS,
    status_code=200,
    tags=["queries"],
    summary="Run a preview",
    operation_class=ExecuteOperation,
    responses=answers(QueryAnswer, 404, 409, 410, 422, 429, description="The rows, streamed"),
)
async def execute_query(
    request: VanguardRequest,
    org: Organization,
    data: Annotated[
        ExecuteRequest, body({"previewId": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "digest": f"{'0f' * 32}"})
    ],
) -> QueryDownload:
    """The answer as JSON, CSV or NDJSON, of one snapshot and within bounds of time, rows, memory and files. A guard is
    overridden by an ADMIN, with a reason.
    """
    runtime, asker = request.runtime, Asker(org, request.user.user_id)
    async with runtime.database.connection() as connection:
        preview = await read(connection, asker, data.preview_id, runtime.clock)
    check_digest(preview, data.digest)
    reason = None if data.override is None else data.override.reason
    return QueryDownload(runtime, await start(request, asker, preview, data.format, reason))


@get(
    f"{PATH}/executions",
    opt=require(Action.QUERY),
    tags=["queries"],
    summary="What was run",
    operation_class=PageOperation,
    responses=answers(ExecutionsAnswer),
)
async def list_executions(request: VanguardRequest, org: Organization) -> Response[bytes]:
    """Your own questions that were run; an ADMIN sees everybody's."""
    runtime = request.runtime
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/executions", given.get("after"))
    async with runtime.database.connection() as connection:
        walk.check(await connection.value(READ_INCARNATION))
        found = await connection.rows(
            LIST_EXECUTIONS,
            organization=org, user=_whose(request), after=walk.at, after_id=walk.id, limit=limit + 1, id=None,
            lost_before=_lost_before(runtime),
        )  # fmt: skip
    data = [_answer(row) for row in found[:limit]]
    answer = ExecutionsAnswer(data=data, next_cursor=walk.following(found, limit, by_time))
    return Response(exact_json.encode(answer), media_type="application/json")


@get(
    f"{PATH}/executions/{{execution:str}}",
    opt=require(Action.QUERY),
    tags=["queries"],
    summary="A question that was run",
    responses=answers(ExecutionAnswer, 404),
)
async def get_execution(request: VanguardRequest, org: Organization, execution: ExecutionId) -> Response[bytes]:
    """One of your own; an ADMIN reads everybody's."""
    try:
        id_ = uuid.UUID(execution)
    except ValueError:
        raise _no_execution(execution) from None
    runtime = request.runtime
    async with runtime.database.connection() as connection:
        row = await connection.row(
            LIST_EXECUTIONS,
            organization=org, user=_whose(request), after=None, after_id=None, limit=1, id=id_,
            lost_before=_lost_before(runtime),
        )  # fmt: skip
    if row is None:
        raise _no_execution(execution)
    return Response(exact_json.encode(_answer(row)), media_type="application/json")


def _whose(request: VanguardRequest) -> str | None:
    return None if request.user.may(Action.ADMINISTER) else request.user.user_id


def _lost_before(runtime: Runtime) -> datetime:
    """Nothing takes twice as long as an answer may."""
    return runtime.clock() - timedelta(seconds=2 * longest(runtime.settings))


def _no_execution(id_: str) -> ExecutionNotFound:
    return ExecutionNotFound(f"You have run nothing with the id {id_[:80]!r}.")


def _answer(row: Record) -> ExecutionAnswer:
    told = {name: value for name, value in row.items() if name != "position"}
    ids = {name: str(told[name]) for name in ("id", "preview_id")}
    return ExecutionAnswer(
        **told | ids | {"digest": row["digest"].hex(), "joins": [str(each) for each in row["joins"]]}
    )


ROUTES = [execute_query, list_executions, get_execution]
