"""`GET /api/v1/orgs/{org}/audit`: who did what, when, and to which cell; and the same of a period, for a file.

What was done is in the audit (app/engine/audit.py), what became of each cell in the history of its dataset.
"""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from asyncpg import Record
from litestar import Response, get

from app.base import exact_json
from app.base.database import Connection, Database
from app.base.errors import NotFound
from app.base.statements import Statement, statement
from app.contracts import BUILT_IN, Contract
from app.contracts.filters import refuse
from app.engine.audit import Act, Entry, record_in
from app.engine.cursors import Cursor
from app.engine.datasets import base_of, version_of
from app.engine.desk import Desk
from app.engine.passage import Passage, passages
from app.history import HistoryEntry, entry_of
from app.organizations import list_organizations
from app.web.auth import Action, require
from app.web.etags import PRIVATE
from app.web.openapi import Organization, answers, parameter
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import VanguardRequest, standing_of

LIST_ENTRIES = statement("audit/list_entries")
LIST_CHANGES = statement("audit/list_changes")
LIST_EVERYWHERE = statement("audit/list_everywhere")
EXPORT_ENTRIES = statement("audit/export_entries")
EXPORT_CHANGES = statement("audit/export_changes")
LIST_OWN = statement("audit/list_own")

PATH = "/api/v1/orgs/{org:str}/audit"
AT_ONCE = 1000  # lines of an export that are read at a time
# What each filter asks of an entry, once it is given.
NARROWED = {
    "dataset": "split_part(a.dataset, '@', 1) = $2",
    "actor": "a.actor = $3",
    "action": "a.action = $4",
    # Of a row, by the names of the versions that there are.
    "key": "a.row_key = $5 AND a.dataset = ANY (ARRAY(SELECT d.name FROM public.dataset AS d"
    " WHERE d.organization_id = $1 AND d.base = $2))",
    "fields": "a.field = ANY ($6)",
    "request_id": "a.request_id = $7",
    "commit_id": "a.commit_id = $8",
}
# The same of an entry anywhere.
NARROWED_EVERYWHERE = {"actor": "a.actor = $2", "action": "a.action = $3"}
FILTERS = ("dataset", "actor", "id", "field", "requestId", "commitId", "since", "until")
ACT, CHANGE = "act", "change"
FAR = 2**63 - 1  # beyond every number

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ActEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="kind", tag=ACT):
    """What somebody did. `actor` is null for nobody; `id` and `field` are the cell that it was about, `details` what
    the action has beside, `address` the client's, null for what nobody asked for over the network.
    """

    at: str
    actor: str | None
    actor_name: str | None
    action: Act
    dataset: str | None
    id: str | None
    field: str | None
    request_id: str | None
    commit_id: str | None
    reason: str | None
    details: dict[str, Any]
    address: str | None


class ChangeEntry(HistoryEntry, frozen=True, kw_only=True, rename="camel", tag_field="kind", tag=CHANGE):
    """What became of the cells of a row."""

    dataset: str
    id: str


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of the audit, the newest entry first."""

    data: list[ActEntry | ChangeEntry]
    next_cursor: str | None


class Place(NamedTuple):
    """Where an entry stands: at one time acts come before changes, those of a newer version before those of an older
    one, and then the higher number. `version`: the major one of a change.
    """

    at: datetime
    kind: str
    version: int
    number: int


@dataclass
class AuditOperation(PageOperation):
    """A page's parameters, and the filters of the audit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parameters = [
            *(self.parameters or []),
            parameter("dataset", "string", "Only what was done to this dataset"),
            parameter("actor", "string", "Only what this account did"),
            parameter("action", "string", "Only these", enum=list(Act)),
            parameter("id", "string", "Only this row, and what became of its cells; goes with dataset"),
            parameter("field", "string", "Only this field of the row; goes with id"),
            parameter("requestId", "string", "Only what belongs to this change request", format="uuid"),
            parameter("commitId", "string", "Only what belongs to this commit", format="uuid"),
            parameter("since", "string", "From this time on", format="date-time"),
            parameter("until", "string", "Before this time", format="date-time"),
        ]


@get(
    PATH,
    opt=require(Action.ADMINISTER),
    tags=["audit"],
    summary="Who did what",
    operation_class=AuditOperation,
    responses=answers(AuditAnswer, 404),
)
async def get_audit(request: VanguardRequest, org: Organization) -> Response[bytes]:
    """The newest first; of one row with what became of its cells."""
    runtime = request.runtime
    limit, given = read_page(request, names=FILTERS, action=tuple(Act))
    standing = await standing_of(request, org, given["dataset"]) if "dataset" in given else None
    wanted = _read_wanted(given)
    line = []
    if standing is not None and wanted["key"] is not None:
        line = passages(await runtime.datasets.find_line(org, standing))
    walk = Walk(runtime, f"{org}/audit", given.get("after"))
    behind = _place_of(walk.cursor) if walk.cursor else None
    async with runtime.database.connection() as connection:
        entries = await _list_entries(connection, org, wanted, line, behind, limit + 1)
        walk.check(entries[0]["incarnation"])
        found = [(Place(each["position"], ACT, 0, each["id"]), _act_of(each)) for each in entries if each["id"]]
        if wanted["action"] is None:
            for passage in line:
                found += await _list_changes(connection, org, passage, wanted, behind, limit + 1)
            found.sort(key=_order, reverse=True)
    following = walk.following(found, limit, lambda last: _cursor_of(last[0]))
    body = exact_json.encode({"data": [entry for _, entry in found[:limit]], "nextCursor": following})
    return Response(body, media_type="application/json", headers=PRIVATE)


def _read_wanted(given: Mapping[str, str]) -> dict[str, Any]:
    """The filters by the statements' names; raises InvalidFilter."""
    for name, beside in (("id", "dataset"), ("field", "id")):
        if name in given and beside not in given:
            raise refuse(name, f"it goes with {beside}.")
    return {
        "dataset": base_of(given["dataset"]) if "dataset" in given else None,
        "actor": given.get("actor"),
        "action": given.get("action"),
        "key": given.get("id"),
        "field": given.get("field"),
        "request_id": _read_id(given, "requestId"),
        "commit_id": _read_id(given, "commitId"),
        "since": _read_moment(given, "since"),
        "until": _read_moment(given, "until"),
    }


def _read_id(given: Mapping[str, str], name: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(given[name]) if name in given else None
    except ValueError:
        raise refuse(name, "an id, such as 8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11.") from None


def _read_moment(given: Mapping[str, str], name: str) -> datetime | None:
    try:
        return msgspec.convert(given[name], Moment).astimezone(UTC) if name in given else None
    except (msgspec.ValidationError, OverflowError):
        raise refuse(name, "a time with its zone, such as 2026-03-01T12:00:00Z.") from None


def _place_of(cursor: Cursor) -> Place:
    at, kind, *version = cursor.values  # cursors of before did not have it
    return Place(datetime.fromisoformat(str(at)), str(kind), int(str(version[0])) if version else FAR, int(cursor.key))


def _cursor_of(place: Place) -> Cursor:
    return Cursor((place.at.isoformat(), place.kind, str(place.version)), str(place.number))


def _order(found: tuple[Place, Any]) -> tuple[datetime, bool, int, int]:
    place, _ = found
    return place.at, place.kind == ACT, place.version, place.number


async def _list_entries(
    connection: Connection,
    organization: str,
    wanted: Mapping[str, Any],
    line: Sequence[Passage],
    behind: Place | None,
    limit: int,
) -> Sequence[Record]:
    """One record at least, which has no id where there is no entry. A field has the names that it had."""
    field = wanted["field"]
    names = None if field is None else sorted({field} | {passage.names_back.get(field) or field for passage in line})
    asked = {name: value for name, value in wanted.items() if name != "field"} | {"fields": names}
    given = [NARROWED[name] for name in NARROWED if asked[name] is not None]
    return await connection.rows(
        LIST_ENTRIES.fill(given=" AND ".join(given) or "TRUE"),
        organization=organization,
        **asked,
        before=behind and behind.at,
        # Of one time, all acts come before the changes.
        before_id=behind.number if behind and behind.kind == ACT else 0,
        limit=limit,
    )


async def _list_changes(
    connection: Connection,
    organization: str,
    passage: Passage,
    wanted: Mapping[str, Any],
    behind: Place | None,
    limit: int,
) -> list[tuple[Place, Any]]:
    """Of one version, under the names that fields have now."""
    contract, field = passage.before, wanted["field"]
    major, _ = version_of(contract.version)
    if field is not None and (field := passage.names_back.get(field)) is None:
        return []
    before_revision = FAR
    if behind is not None and behind.kind == CHANGE and major >= behind.version:
        before_revision = behind.number if major == behind.version else 0
    asked = {name: wanted[name] for name in ("key", "actor", "request_id", "commit_id", "since", "until")}
    records = await Desk(connection, contract, organization).rows(
        LIST_CHANGES,
        **asked,
        field=field,
        before=behind and behind.at,
        before_revision=before_revision,
        limit=limit,
    )
    return [
        (
            Place(each["position"], CHANGE, major, each["revision"]),
            _change_of(each, contract.name, wanted["key"], passage.renamed_fields),
        )
        for each in records
    ]


def _act_of(record: Record) -> dict[str, Any]:
    return {
        "kind": ACT,
        "at": record["at"],
        "actor": record["actor"],
        "actorName": record["actor_name"],
        "action": record["action"],
        "dataset": record["dataset"],
        "id": record["row_key"],
        "field": record["field"],
        "requestId": record["request_id"],
        "commitId": record["commit_id"],
        "reason": record["reason"],
        "details": record["details"],
        "address": record["address"],
    }


def _change_of(record: Record, dataset: str, key: str, renamed: Mapping[str, str]) -> dict[str, Any]:
    return {"kind": CHANGE, "dataset": dataset, "id": key} | entry_of(record, renamed)


# -- for operators -----------------------------------------------------------------------------------------------------


async def list_everywhere(
    database: Database,
    *,
    organization: str | None = None,
    actor: str | None = None,
    action: Act | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    most: int,
) -> list[dict[str, Any]]:
    """The newest entries of all organizations and of the installation, or of one; each with its `organization`.

    Raises NotFound.
    """
    if organization:
        await _check_there(database, organization)
    wanted = {"actor": actor, "action": action}
    given = [NARROWED_EVERYWHERE[name] for name, value in wanted.items() if value is not None]
    async with database.connection() as connection:
        records = await connection.rows(
            LIST_EVERYWHERE.fill(given=" AND ".join(given) or "TRUE"),
            organization=organization, **wanted, since=since, until=until, limit=most,
        )  # fmt: skip
    return [{"organization": each["organization"], **_act_of(each)} for each in records]


async def _check_there(database: Database, organization: str) -> None:
    if organization not in {each.id for each in await list_organizations(database)}:
        raise NotFound(f"There is no organization {organization}.")


# -- for a file --------------------------------------------------------------------------------------------------------


async def export(
    database: Database, organization: str, since: datetime, until: datetime, contracts: Sequence[Contract] = BUILT_IN
) -> AsyncIterator[list[bytes]]:
    """The audit of a period and what became of all cells in it, as lines of JSON, some at a time: acts by their time,
    then the changes of each dataset by revision: of these contracts, then of each version of the organization's own
    datasets. Raises NotFound.
    """
    await _check_there(database, organization)
    period = {"organization": organization, "since": since, "until": until, "limit": AT_ONCE}
    after: dict[str, Any] = {"after": since, "after_id": 0}
    while records := await _read_some(database, EXPORT_ENTRIES, period | after):
        yield [exact_json.encode(_act_of(each)) for each in records]
        after = {"after": records[-1]["position"], "after_id": records[-1]["id"]}
    own = await _read_some(database, LIST_OWN, {"organization": organization})
    places = [(each.name, each.schema) for each in contracts] + [(each["name"], each["schema_name"]) for each in own]
    for name, schema in places:
        after = {"after": 0, "after_key": ""}
        while records := await _read_some(database, EXPORT_CHANGES.within(schema), period | after):
            yield [exact_json.encode(_change_of(each, name, each["row_key"], {})) for each in records]
            after = {"after": records[-1]["revision"], "after_key": records[-1]["row_key"]}


async def _read_some(database: Database, wanted: Statement, given: Mapping[str, Any]) -> Sequence[Record]:
    """No transaction is held while lines are written, however long that takes."""
    async with database.connection() as connection:
        return await connection.rows(wanted, **given)


async def note_export(
    database: Database, organization: str, at: datetime, since: datetime, until: datetime, lines: int
) -> None:
    """That the audit was exported is an act of its own; who did it, the machine's own records know."""
    told = {"since": since, "until": until, "lines": lines}
    async with database.connection() as connection:
        entry = Entry(at=at, actor=None, action=Act.AUDIT_EXPORTED, details=told)
        await record_in(connection, organization, None, entry)


ROUTES = [get_audit]
