"""Words that every route shares: its path parameters, what it may answer, how /schema shows it."""

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from litestar.enums import RequestEncodingType
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Schema,
)
from litestar.params import Body, PathParameter

from app.contracts.filters import MAX_WORD, OPERATORS, SYNC_STATES
from app.web.problems import MEDIA_TYPE, Problem

DATASET_PATH = "/api/v1/orgs/{org:str}/datasets/{dataset:str}"  # D in the documents

Organization = Annotated[
    str, PathParameter(description="Short id of the organization", examples=[Example(value="demo")])
]
DatasetName = Annotated[str, PathParameter(description="Name of the dataset", examples=[Example(value="pfa")])]
RowId = Annotated[
    str,
    PathParameter(
        description="Id of the row, percent-encoded as one part of the path", examples=[Example(value="PFA-0000001")]
    ),
]

EventId = Annotated[
    str, PathParameter(description="Id of an event of the feed", examples=[Example(value="00000000002a.0.kX0v3Qrs.")])
]
SessionId = Annotated[str, PathParameter(description="Id of the session")]


class Nothing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request that has nothing to say."""


def body(example: Any, media_type: str = RequestEncodingType.JSON) -> Any:
    """The marker of a JSON body, with an example for /schema."""
    return Body(media_type=media_type, examples=[Example(value=example)])


REFUSALS = {
    400: "The request cannot be read",
    401: "No valid token",
    403: "Not an organization of yours, or not your role",
    404: "Not found",
    409: "Others were faster",
    410: "Nothing can be read from this position on",
    412: "If-Match does not hold",
    413: "The body is too large",
    415: "The body is packed or called in a way that is not taken",
    422: "Values that cannot be accepted",
    429: "Slow down",
    503: "The database cannot be reached",
}


def answers(
    shape: Any, *refusals: int, status: int = 200, description: str = "Done", media_type: str = "application/json"
) -> dict[int, ResponseSpec]:
    """What a route answers, for its OpenAPI entry; 400, 401, 403, 413, 415 and 503 are everybody's."""
    problems = {
        code: ResponseSpec(Problem, generate_examples=False, media_type=MEDIA_TYPE, description=REFUSALS[code])
        for code in sorted({400, 401, 403, 413, 415, 503, *refusals})
    }
    done = ResponseSpec(shape, generate_examples=False, description=description, media_type=media_type)
    return {status: done, **problems}


def answers_with_position(
    shape: type[msgspec.Struct], *refusals: int, status: int = 200, description: str = "Done"
) -> dict[int, ResponseSpec]:
    """The same of a route that changes something: its answer tells the feed's position behind that, too."""
    return answers(_placed(shape), *refusals, status=status, description=description)


@lru_cache
def _placed(shape: type[msgspec.Struct]) -> type[msgspec.Struct]:
    fields = [("position", Annotated[str, msgspec.Meta(description="The feed's position behind what was written")])]
    return msgspec.defstruct(f"{shape.__name__}Written", fields, bases=(shape,), frozen=True, kw_only=True)


def add_media_type(operation: Operation, media_type: str) -> None:
    """Tell /schema of a file that the route answers on request, instead of JSON."""
    done = (operation.responses or {}).get("200")
    if isinstance(done, OpenAPIResponse):
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
        done.content = {**(done.content or {}), media_type: file}


def parameter(name: str, kind: str, description: str, *, required: bool = False, **schema: Any) -> Parameter:
    """A query parameter for /schema."""
    return Parameter(
        name=name,
        param_in="query",
        description=description,
        required=required,
        schema=Schema(type=OpenAPIType(kind), **schema),
    )


def filter_parameters() -> list[Parameter]:
    """The filters of a list for /schema."""
    return [
        parameter("search", "string", "Any text field contains this, ignoring case", max_length=MAX_WORD),
        parameter("syncState", "string", f"Any of {', '.join(SYNC_STATES)}; comma-separated"),
        Parameter(
            name="filters",
            param_in="query",
            style="form",
            explode=True,
            description="field=value (repeated: any of them), field[op]=value; op is one of "
            + ", ".join(op for op in OPERATORS if op != "eq"),
            schema=Schema(
                type=OpenAPIType.OBJECT, additional_properties=Schema(type=OpenAPIType.STRING), examples=[{}]
            ),
        ),
    ]
