"""`POST D/rows/search`: the question of a list in a body, for filters that no address holds."""

from typing import Annotated, Any

import msgspec
from litestar import post
from litestar.params import JSONBody
from litestar.response.base import ASGIResponse

from app.contracts import Contract
from app.contracts.filters import PARAMETER, Bounds, Listing, parameter_of, read_question, refuse
from app.rows import RowsAnswer, list_rows, page_response
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.etags import not_modified
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers
from app.web.runtime import VanguardRequest, contract_of
from app.web.work import READS

Words = str | list[str]


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a list is asked for, in the words of its query. A filter is a value, a list of values of which one has to
    be equal, null for a row without one, or an object of operators. `if_not` is the ETag that the caller has.
    """

    filters: dict[str, Any] = {}
    search: str | None = None
    sync_state: Words | None = None
    sort: Words | None = None
    page: int | None = None
    page_size: int | None = None
    after: str | None = None
    count: str | None = None
    fields: Words | None = None
    include: Words | None = None
    if_not: Annotated[str, msgspec.Meta(max_length=1000, examples=['W/"7.12.0a1b2c3d4e5f6071"'])] | None = None


def read_search(contract: Contract, question: Question, bounds: Bounds) -> Listing:
    """Check a question; raises InvalidFilter that names the first member at fault."""
    filters: dict[str, list[str]] = {}
    for field, wanted in question.filters.items():
        if PARAMETER.fullmatch(field) is None or "[" in field:
            raise refuse(field, f"{contract.name} has no such field.")
        operators = wanted if isinstance(wanted, dict) else {"eq": wanted}
        if not operators:
            raise refuse(field, "an object has at least one operator.")
        for op, value in operators.items():
            name, values = parameter_of(field, op, value)
            if name in filters:
                raise refuse(name, "it is asked for twice.")
            filters[name] = values
    given = {name: value for name, value in msgspec.to_builtins(question).items() if value is not None}
    words = {
        name: value if isinstance(value, list) else [str(value)]
        for name, value in given.items()
        if name not in ("filters", "ifNot")
    }
    echo = question.filters | {name: given[name] for name in ("search", "syncState") if name in given}
    return read_question(contract, words, filters, echo, bounds)


@post(
    f"{DATASET_PATH}/rows/search",
    opt=require(Action.QUERY) | READS | BATCH,
    status_code=200,
    tags=["rows"],
    summary="A page of your view, asked for in a body",
    responses=answers(RowsAnswer, 404),
)
async def search_rows(
    request: VanguardRequest, org: Organization, dataset: DatasetName, data: JSONBody[Question]
) -> ASGIResponse:
    """As `GET D/rows`, and as little is changed. `ifNot` with the ETag of an answer is answered 304 while it holds."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    listing = read_search(contract, data, runtime.bounds)
    answer = await list_rows(request, runtime, contract, org, listing, known=data.if_not or "")
    return not_modified(answer) if isinstance(answer, str) else page_response(answer, listing, answer.body)


ROUTES = [search_rows]
