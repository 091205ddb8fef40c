"""What fields are read from since people have decided about drift: read, and taken back."""

from typing import Annotated

import msgspec
from litestar import delete, get
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from app.base.errors import NotFound
from app.base.statements import statement
from app.drift.reports import list_mappings as read_all
from app.drift_reports.routes import DatasetOf
from app.engine.audit import Act, Entry, record
from app.engine.datasets import base_of
from app.engine.desk import Desk
from app.web.auth import Action, require
from app.web.openapi import Organization, answers
from app.web.runtime import VanguardRequest, contract_of

REMOVE_MAPPING = statement("drift/remove_mapping")

PATH = "/api/v1/orgs/{org:str}/contracts/{dataset:str}/mappings"
FieldName = Annotated[str, PathParameter(description="Name of the field", examples=[Example(value="purchasePrice")])]


class MappingAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The column that a field is read from, null where the field is null here; by which report."""

    field: str
    column: str | None
    report_id: str
    mapped_by: str
    mapped_by_name: str | None
    mapped_at: str


class MappingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that are not read as the contract, or the file of upstreams, says."""

    data: list[MappingAnswer]


@get(
    PATH,
    opt=require(Action.QUERY),
    tags=["drift"],
    summary="Mapped fields",
    responses=answers(MappingsAnswer, 404),
)
async def list_mappings(request: VanguardRequest, org: Organization, dataset: DatasetOf) -> MappingsAnswer:
    """By field."""
    contract = await contract_of(request, org, dataset)
    async with request.runtime.desk(contract, org) as desk:
        found = await read_all(desk)
    return MappingsAnswer(
        data=[
            MappingAnswer(
                field=name,
                column=row["name"],
                report_id=str(row["report_id"]),
                mapped_by=row["mapped_by"],
                mapped_by_name=row["mapped_by_name"],
                mapped_at=row["mapped_at"],
            )
            for name, row in sorted(found.items())
        ]
    )


@delete(
    f"{PATH}/{{field:str}}",
    opt=require(Action.DECIDE_DRIFT),
    status_code=204,
    tags=["drift"],
    summary="Take a mapping back",
    responses=answers(None, 404, 409, status=204),
)
async def remove_mapping(request: VanguardRequest, org: Organization, dataset: DatasetOf, field: FieldName) -> None:
    """The field is read as before; the next pull looks for drift by that."""
    runtime, user, at = request.runtime, request.user.user_id, request.runtime.clock()
    contract = await contract_of(request, org, dataset)
    async with runtime.database.transaction() as connection:
        desk = Desk(connection, contract, org)
        base, known = base_of(contract.name), contract.by_name.get(field)
        id_ = (known.id if known else None) or 0
        if await connection.value(REMOVE_MAPPING, organization=org, base=base, field=field, field_id=id_) is None:
            raise NotFound(f"{field[:80]!r} is not mapped.")
        await record(desk, Entry(at=at, actor=user, action=Act.MAPPING_REMOVED, details={"field": field}))


ROUTES = [list_mappings, remove_mapping]
