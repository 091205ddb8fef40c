"""A grid's page in a session: rows as a list has them, what the session has edited of them, what is wrong there."""

from typing import Any

import msgspec
from asyncpg import Record
from litestar import get
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.columns import ShownColumn, columns_of
from app.contracts.findings import Finding
from app.contracts.rules import check_change, unruled_fields
from app.engine.desk import Desk
from app.engine.sessions import Session, read_session
from app.rows import ListOperation, PageAnswer, Row, list_rows, listing_of, page_response
from app.web.auth import Action, require
from app.web.etags import not_modified
from app.web.openapi import DATASET_PATH, DatasetName, Organization, SessionId, answers
from app.web.runtime import VanguardRequest, contract_of

READ_ISSUES = statement("grids/read_issues")


class GridRow(Row, frozen=True, kw_only=True, rename="camel"):
    """A row with the fields that the session has drafted, and what is wrong with it there."""

    edited_fields: list[str]
    validation_issues: list[Finding]


class GridAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of rows, with the columns that they have."""

    data: list[GridRow]
    columns: list[ShownColumn]
    pagination: dict[str, Any]
    metadata: dict[str, Any]


async def with_issues(desk: Desk, user: str, session: Session, page: PageAnswer) -> bytes:
    """The page's rows as a JSON array, with `editedFields` and `validationIssues`."""
    keys = page.keys or []
    records = await desk.rows(
        READ_ISSUES,
        user=user,
        session=session.id,
        keys=keys,
        unruled_fields=unruled_fields(desk.contract),
    )
    found = {record["row_key"]: record for record in records}
    # Rows are rendered by PostgreSQL: they are cut apart and not read, so that every number keeps its digits.
    rows = msgspec.json.decode(page.body, type=list[msgspec.Raw])
    return b"[%b]" % b",".join(
        b"%b,%b" % (bytes(row)[:-1], _more(desk.contract, found[key])) for key, row in zip(keys, rows, strict=True)
    )


def _more(contract: Contract, record: Record) -> bytes:
    """What comes before a row's last brace."""
    issues = _issues(contract, record)
    refused = [each["field"] for each in record["refused"]]
    edited = sorted({*record["edited"], *refused})
    return exact_json.encode({"editedFields": edited, "validationIssues": issues})[1:]


def _issues(contract: Contract, record: Record) -> list[Finding]:
    found = []
    if record["before"] is not None or record["after"] is not None:
        found = check_change(contract, record["row_key"], record["before"], record["after"])
    refused = [msgspec.convert(finding, Finding) for each in record["refused"] for finding in each["findings"]]
    return sorted([*found, *refused], key=lambda finding: finding.field or "")


@get(
    f"{DATASET_PATH}/sessions/{{session_id:str}}/rows",
    opt=require(Action.QUERY),
    tags=["sessions"],
    summary="A grid's page in a session",
    operation_class=ListOperation,
    responses=answers(GridAnswer, 404),
)
async def get_grid(
    request: VanguardRequest, org: Organization, dataset: DatasetName, session_id: SessionId
) -> ASGIResponse:
    """As D/rows, with the columns, and for each row what the session has edited and what is wrong with it."""
    runtime, user = request.runtime, request.user.user_id
    contract = await contract_of(request, org, dataset)
    async with runtime.desk(contract, org) as desk:
        session = await read_session(desk, user, session_id, runtime.clock())
    listing = listing_of(request, contract)
    page = await list_rows(request, runtime, contract, org, listing, keyed=True)
    if isinstance(page, str):
        return not_modified(page)
    async with runtime.desk(contract, org) as desk:
        rows = await with_issues(desk, user, session, page)
    return page_response(page, listing, rows, b',"columns":%b' % exact_json.encode(columns_of(contract)))


ROUTES = [get_grid]
