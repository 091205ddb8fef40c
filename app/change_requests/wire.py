"""What the routes of change requests have in common: who asks, ids, one request as the answer, pages."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

from litestar import Response
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from app.base import exact_json
from app.base.errors import ChangeRequestNotFound, VanguardError
from app.change_requests import reading
from app.change_requests.requests import Person
from app.engine.desk import Desk
from app.web.auth import Action
from app.web.etags import PRIVATE
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH
from app.web.runtime import VanguardRequest, contract_of

REQUESTS_PATH = f"{DATASET_PATH}/change-requests"
REQUEST_PATH = f"{REQUESTS_PATH}/{{request_id:str}}"
EXAMPLE = "0b6fca28-7d0a-4a61-9a5e-1f6a3f1f2f11"

RequestId = Annotated[str, PathParameter(description="Id of the change request", examples=[Example(value=EXAMPLE)])]
CommitId = Annotated[str, PathParameter(description="Id of the commit", examples=[Example(value=EXAMPLE)])]
ResolutionId = Annotated[str, PathParameter(description="Id of the resolution", examples=[Example(value=EXAMPLE)])]


def person_of(request: VanguardRequest) -> Person:
    """Who asks."""
    return Person(request.user.user_id, request.user.may(Action.REVIEW))


def read_id(text: str, error: type[VanguardError], message: str) -> uuid.UUID:
    """The id of a path; raises `error` for what is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise error(message) from None


def request_id_of(text: str) -> uuid.UUID:
    return read_id(text, ChangeRequestNotFound, "There is no such change request, or it is not yours to read.")


Act = Callable[[Desk, Person, datetime, timedelta], Awaitable[Any]]


async def answer(request: VanguardRequest, org: str, dataset: str, act: Act, *, status: int = 200) -> Response[bytes]:
    """Act once, and answer the request as it is then."""
    runtime, person = request.runtime, person_of(request)
    lifetime = timedelta(seconds=runtime.settings.session_ttl)

    async def work(desk: Desk) -> bytes:
        done = await act(desk, person, runtime.clock(), lifetime)
        return exact_json.encode(await reading.detail_of(desk, person, done))

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work, status=status)


def json_of(answer: Any) -> Response[bytes]:
    return Response(exact_json.encode(answer), media_type="application/json", headers=PRIVATE)
