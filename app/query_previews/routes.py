"""Questions over HTTP: preview, validate, correct."""

from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Response, post

from app.base import exact_json
from app.base.errors import Culprit, Kind, VanguardError
from app.contracts import PFA
from app.engine.desk import Desk
from app.engine.query.composing import Asker
from app.engine.query.model import Query
from app.query_previews import corrections
from app.query_previews.corrections import CorrectionType, corrected
from app.query_previews.guards import Guard
from app.query_previews.look import Look
from app.query_previews.previews import Preview, keep, read, understand
from app.query_previews.wire import QueryPreviewAnswer
from app.web.auth import Action, require
from app.web.idempotency import answer_once
from app.web.openapi import Organization, answers, answers_with_position, body
from app.web.runtime import VanguardRequest
from app.web.work import READS

T = TypeVar("T")

PATH = "/api/v1/orgs/{org:str}/query"
LONGEST_SENTENCE = 500  # characters

EXAMPLE = {
    "dataset": "pfa",
    "filters": {"source": "Rental"},
    "groupBy": ["category"],
    "aggregates": [{"name": "cost", "function": "sum", "field": "forecastCost"}],
    "order": ["-cost"],
    "limit": 10,
}
Asked = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_SENTENCE)] | Query
Id = Annotated[str, msgspec.Meta(max_length=36)]
INVALID = (Kind.INVALID, Kind.MALFORMED, Kind.MISSING)  # what is wrong with the question itself


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question: structured, or a sentence."""

    query: Asked


class CorrectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What was meant otherwise. JOIN_TYPE takes `{as, type}`, FILTER `{filters}`, METRIC `{name, function, field?}`."""

    preview_id: Id
    type: CorrectionType
    correction: dict[str, Any]


class QuestionFault(Culprit, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is wrong with a question; of a sentence also which `word`, at which `place` counted from 0, and what could
    stand there or is like it.
    """

    word: str | None = None
    place: int | None = None
    expected: list[str] | None = None
    candidates: list[str] | None = None
    examples: list[str] | None = None


OF_SENTENCES = ("word", "place", "expected", "candidates", "examples")


class ValidationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a question can be run as it is; `warnings` say what holds it, or should be known."""

    valid: bool
    warnings: list[Guard]
    errors: list[QuestionFault]


async def _tried(reading: Awaitable[T]) -> T | VanguardError:
    """What it comes to, or why it is refused: that belongs to `work`, so that a key repeats the first answer, whatever
    comes of reading it again. A question is planned in a snapshot of its own, before there is a transaction.
    """
    try:
        return await reading
    except VanguardError as error:
        return error


@post(
    f"{PATH}/preview",
    opt=require(Action.QUERY),
    status_code=200,
    tags=["queries"],
    summary="Preview a question",
    responses=answers_with_position(QueryPreviewAnswer, 404, 409, 422, 429),
)
async def preview_query(
    request: VanguardRequest, org: Organization, data: Annotated[QueryRequest, body({"query": EXAMPLE})]
) -> Response[bytes]:
    """What a question would do: its SQL, what is read and assumed, what it is expected to cost. It is not run yet: that
    takes the preview's id and digest, within 15 minutes.
    """
    runtime, asker = request.runtime, Asker(org, request.user.user_id)
    look = await _tried(understand(runtime, asker, data.query))
    sentence = data.query if isinstance(data.query, str) else None

    async def work(desk: Desk) -> bytes:
        if isinstance(look, VanguardError):
            raise look
        return exact_json.encode(await keep(desk, asker, look, sentence, runtime.clock(), runtime.settings))

    return await answer_once(request, runtime, PFA, org, work)


@post(
    f"{PATH}/validate",
    opt=require(Action.QUERY) | READS,
    status_code=200,
    tags=["queries"],
    summary="Validate a question",
    responses=answers(ValidationAnswer, 404),
)
async def validate_query(
    request: VanguardRequest, org: Organization, data: Annotated[QueryRequest, body({"query": EXAMPLE})]
) -> Response[bytes]:
    """Whether it could be run, without a preview: what is wrong with it, and the guards that hold it."""
    asker = Asker(org, request.user.user_id)
    try:
        look = await understand(request.runtime, asker, data.query)
    except VanguardError as error:
        if error.kind not in INVALID:
            raise
        answer = ValidationAnswer(valid=False, warnings=[], errors=_faults(error))
    else:
        answer = ValidationAnswer(valid=not look.requires_override, warnings=look.guards, errors=[])
    return Response(exact_json.encode(answer), media_type="application/json")


def _faults(error: VanguardError) -> list[QuestionFault]:
    if error.errors:
        return [QuestionFault(**msgspec.structs.asdict(each)) for each in error.errors]
    said = {name: error.extra[name] for name in OF_SENTENCES if name in error.extra}
    return [QuestionFault(code=error.code, message=error.detail, **said)]


@post(
    f"{PATH}/correct",
    opt=require(Action.QUERY),
    status_code=200,
    tags=["queries"],
    summary="Correct a preview",
    responses=answers_with_position(QueryPreviewAnswer, 404, 409, 410, 422, 429),
)
async def correct_query(
    request: VanguardRequest,
    org: Organization,
    data: Annotated[
        CorrectRequest,
        body(
            {
                "previewId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
                "type": "METRIC",
                "correction": {"name": "cost", "function": "average", "field": "forecastCost"},
            }
        ),
    ],
) -> Response[bytes]:
    """Say what was meant otherwise: another type of a join, other filters, another figure. It makes a new preview, and
    is kept beside what was asked.
    """
    runtime, asker = request.runtime, Asker(org, request.user.user_id)

    async def tried() -> tuple[Preview, Look]:
        async with runtime.database.connection() as connection:
            preview = await read(connection, asker, data.preview_id, runtime.clock)
        return preview, await understand(runtime, asker, corrected(preview.query, data.type, data.correction))

    found = await _tried(tried())

    async def work(desk: Desk) -> bytes:
        if isinstance(found, VanguardError):
            raise found
        (preview, look), at = found, runtime.clock()
        made = await keep(desk, asker, look, None, at, runtime.settings)
        await corrections.add(desk, asker, preview, made.preview_id, data.type, data.correction, at)
        return exact_json.encode(made)

    return await answer_once(request, runtime, PFA, org, work)


ROUTES = [preview_query, validate_query, correct_query]
