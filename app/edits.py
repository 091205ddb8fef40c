"""Cell edits of a session: checked at once, kept also where they are invalid, and logged.

What a rule objects to goes into the draft all the same, for the person is still typing. What no document can hold, such
as a text in a number, stays in the log, and shows as an issue of its row.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from typing import Annotated, Any, Literal, get_args

import msgspec
from asyncpg import Record
from litestar import Response, get, post
from prometheus_client import Counter

from app.base import exact_json
from app.base.errors import Code, Culprit, SessionFull
from app.base.pacing import in_turns
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.findings import BLOCKING, Finding, Severity
from app.contracts.model import Field
from app.contracts.rule_types import Rule
from app.contracts.rules import judge, unique_rules
from app.contracts.validation import check_cell, check_key, is_cell
from app.contracts.values import MAX_DIGITS
from app.drafts import Batch, Draft, Saving, UndoGroup, refusal, write_drafts
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.locks import lock_rows, raise_workspace, read_dataset
from app.engine.quotas import Quota, check_held
from app.engine.sessions import Session, begin_editing, read_session
from app.engine.uniqueness import Cell as UniqueCell
from app.engine.uniqueness import find_duplicates
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.etags import PRIVATE
from app.web.idempotency import answer_once
from app.web.openapi import DATASET_PATH, DatasetName, Organization, SessionId, answers, answers_with_position, body
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import VanguardRequest, contract_of

READ_CELLS = statement("edits/read_cells")
LOG_EDITS = statement("edits/log_edits")
LIST_EDITS = statement("edits/list_edits")

EDITS = Counter("vanguard_session_edits_total", "Cell edits by what became of them", ["dataset", "status"])
MAX_EDITS = 10_000
MAX_KEPT = 100_000  # bytes of a text that its field cannot take
EDITS_PATH = f"{DATASET_PATH}/sessions/{{session_id:str}}/edits"


Status = Literal["saved", "kept_invalid", "refused"]


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a cell becomes; `client_ts` is when the client says that it was typed, a time with a zone."""

    id: str
    field: str
    value: Any
    client_ts: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a time that is none in UTC: the calendar begins, or ends, between the two."""
        if self.client_ts is not None:
            try:
                self.client_ts.astimezone(UTC)
            except OverflowError:
                raise ValueError("clientTs is a time from the year 1 to 9999, in UTC") from None


class EditBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Edits in their order; all of them are one step of undo, with other requests of the same `undo_group`."""

    edits: Annotated[Sequence[Edit], msgspec.Meta(min_length=1, max_length=MAX_EDITS)]
    undo_group: UndoGroup | None = None


class Validation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the contract says of an edit: the worst `severity`, with the rule that found it, and every message."""

    valid: bool
    severity: Severity | None
    messages: list[str]
    rule_id: str | None
    contract_version: str


class EditResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of an edit. A refused one is in no log and has no `edit_id`; `code` says why."""

    edit_id: str | None
    id: str
    field: str
    status: Status
    code: str | None
    old_value: Any
    server_ts: datetime
    validation: Validation


class EditsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A result for each edit, in their order; `version` is that of the drafts that were changed."""

    results: list[EditResult]
    version: int


class LoggedEdit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An edit in the log; `state` is that of its step: done, undone, or closed. Times are ISO 8601."""

    edit_id: str
    id: str
    field: str
    status: Literal["saved", "kept_invalid"]
    old_value: Any
    value: Any
    validation: Validation
    client_ts: str | None
    server_ts: str
    state: str


class LogAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of the log, the oldest edit first; `next_cursor` is null on the last one."""

    data: list[LoggedEdit]
    next_cursor: str | None


class Cell(msgspec.Struct, kw_only=True):
    """An edit on its way: what was there, what is wrong with it, and why it is refused, if it is."""

    edit: Edit
    old_value: Any = None
    held: bool = False
    findings: list[Finding] = []
    refused: Culprit | None = None

    @property
    def status(self) -> Status:
        """What becomes of it."""
        return "refused" if self.refused else status_of(self.findings)


class Place(msgspec.Struct, kw_only=True):
    """A row about to be edited: as it lies beneath the draft (None for a new one), and as the edits make it."""

    before: dict[str, Any] | None
    doc: dict[str, Any]
    elsewhere: bool
    op: str | None

    def differs(self, fields: Iterable[str]) -> bool:
        """Whether one of the fields is another than beneath the draft."""
        return self.before is None or any(self.before.get(name) != self.doc.get(name) for name in fields)


async def edit(
    desk: Desk, user: str, session_id: str, wanted: EditBatch, at: datetime, most: int, quota: Quota | None = None
) -> tuple[int, list[EditResult]]:
    """Check, keep and log edits inside the caller's transaction: the drafts' version, and a result for each.

    `most`: bytes that a session holds. Raises SessionNotFound, InvalidTransition, SessionFull, QuotaExceeded, and where
    every edit is refused ValidationFailed or RowInOtherSession; then nothing is to be kept.
    """
    keys = [key for key in dict.fromkeys(each.id for each in wanted.edits) if check_key(key) is None]
    held = await raise_workspace(desk, user, keys)
    session = await begin_editing(desk, await read_session(desk, user, session_id, at), at)
    await lock_rows(desk, keys, absent=bool(held.absent), inserting=False)
    places = await _read_places(desk, user, session, wanted.edits, keys, at)
    cells = [_judge(desk.contract, session, places, each) async for each in in_turns(wanted.edits)]
    await _check_rows(desk.contract, places, cells)
    drafts = _drafts(cells)
    if drafts:
        batch = Batch(
            version=held.revision,
            at=at,
            how=Saving(session_id=session.id, undo_group=wanted.undo_group, drop_equal=True),
            session=session.id,
        )
        refused = [key for key in held.refused if key in drafts]
        _, problems, holds = await write_drafts(desk, user, list(drafts.values()), batch, refused)
        await check_held(desk, user, quota, holds)
        _refuse_rows(cells, problems)
    await _check_unique(desk, user, cells)
    if all(cell.refused for cell in cells):
        raise refusal([cell.refused for cell in cells if cell.refused])
    became = Tally([cell.status async for cell in in_turns(cells)])
    for status in get_args(Status):
        EDITS.labels(desk.contract.name, status).inc(became[status])
    first = await _log(desk, user, session, wanted.undo_group, cells, held.revision, at, most)
    numbers = _numbers(cells, first)
    return held.revision, [_result(desk.contract, cell, next(numbers), at) async for cell in in_turns(cells)]


async def _read_places(
    desk: Desk, user: str, session: Session, edits: Sequence[Edit], keys: list[str], at: datetime
) -> dict[str, Place]:
    contract = desk.contract
    asked = contract.ruled | {each.field for each in edits}
    records = await desk.rows(
        READ_CELLS,
        user=user,
        keys=keys,
        unasked=[name for name in contract.by_name if name not in asked],
        session=session.id,
        at=at,
    )
    return {record["row_key"]: _place(record) for record in records}


def _place(record: Record) -> Place:
    before, doc = record["before"], record["doc"]
    if before is None and not record["new"]:
        before = dict(doc)
    return Place(before=before, doc=doc, elsewhere=record["elsewhere"], op=record["op"])


def _judge(contract: Contract, session: Session, places: Mapping[str, Place], wanted: Edit) -> Cell:
    """The edit by itself; a value that can be held is in its place's document from here on."""
    place = places.get(wanted.id)
    if (refused := _refusal(contract, session, place, wanted)) is not None:
        return Cell(edit=wanted, refused=refused)
    assert place is not None, "an edit of no row is refused"
    checked = check_cell(contract, wanted.field, wanted.value)
    cell = Cell(
        edit=wanted,
        old_value=place.doc.get(wanted.field),
        held=checked.storable,
        findings=list(checked.findings),
    )
    if checked.storable:
        place.doc[wanted.field] = wanted.value
    return cell


def _refusal(contract: Contract, session: Session, place: Place | None, wanted: Edit) -> Culprit | None:
    """Why the cell cannot be edited at all."""
    field = contract.by_name.get(wanted.field)
    if field is None:
        code, message = Code.UNKNOWN_FIELD, f"{contract.name} has no field {wanted.field[:80]!r}."
    elif not field.editable:
        code, message = Code.READ_ONLY_FIELD, f"{wanted.field} cannot be edited."
    elif (reason := _unkept(field, wanted.value)) is not None:
        code, message = Code.INVALID_TYPE, reason
    elif place is None:
        code, message = Code.ROW_NOT_FOUND, "There is no such row in your view."
    elif not session.takes(wanted.id):
        code, message = Code.ROW_NOT_IN_SESSION, "The session is about other rows."
    elif place.elsewhere:
        code, message = Code.ROW_IN_OTHER_SESSION, "The row belongs to another open session of yours."
    elif place.op == "delete":
        code, message = Code.ROW_DELETED, "The row is drafted for deletion, or its deletion is on its way."
    else:
        return None
    return Culprit(id=wanted.id[:200], field=wanted.field[:80], code=code, message=message)


def _unkept(field: Field, value: Any) -> str | None:
    """Why not even the log keeps a value, or None: it shows each of them again, with all of its digits."""
    if not is_cell(value):
        return f"A cell holds a text, a number of up to {MAX_DIGITS} digits, true, false or null."
    if isinstance(value, str) and len(value.encode()) > max(field.max_length, MAX_KEPT):
        return f"A text of more than {MAX_KEPT:,} bytes is not kept."
    return None


async def _check_rows(contract: Contract, places: Mapping[str, Place], cells: Sequence[Cell]) -> None:
    """What rules say of each row as all of the edits make it: told with each edit of a field of the rule."""
    edited: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.refused is None:
            edited.setdefault(cell.edit.id, []).append(cell)
    watching: dict[tuple[str, ...], list[tuple[Rule, frozenset[str]]]] = {}
    async for key, mine in in_turns(edited.items()):
        names = tuple([cell.edit.field for cell in mine])
        if names not in watching:
            watching[names] = [watch for watch in contract.watches if not watch[1].isdisjoint(names)]
        place = places[key]
        for rule, fields in watching[names]:
            if place.differs(fields):
                for finding in judge(contract, rule, place.before, place.doc):
                    _tell([cell for cell in mine if cell.edit.field in fields], finding)


def _tell(cells: Sequence[Cell], finding: Finding) -> None:
    for cell in cells:
        if finding not in cell.findings:
            cell.findings.append(finding)


async def _check_unique(desk: Desk, user: str, cells: Sequence[Cell]) -> None:
    """Advice, once the drafts are written, so that they count as well; the commit decides."""
    unique = {rule.field for rule in unique_rules(desk.contract)}
    asked = {
        (cell.edit.id, cell.edit.field): cell
        for cell in cells
        if cell.held and cell.refused is None and cell.edit.field in unique and cell.edit.value is not None
    }
    wanted = [UniqueCell(key, field, cell.edit.value) for (key, field), cell in asked.items()]
    for duplicate in await find_duplicates(desk, user, wanted):
        asked[duplicate.cell.id, duplicate.cell.field].findings.append(duplicate.finding)


def _drafts(cells: Sequence[Cell]) -> dict[str, Draft]:
    """A draft for each row with values that can be held; of a cell that is edited twice the last."""
    deltas: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if cell.held:
            deltas.setdefault(cell.edit.id, {})[cell.edit.field] = cell.edit.value
    return {key: Draft(id=key, delta=delta) for key, delta in deltas.items()}


def _refuse_rows(cells: Sequence[Cell], problems: Sequence[Culprit]) -> None:
    wrong = {problem.id: problem for problem in problems}
    for cell in cells:
        if cell.refused is None and cell.edit.id in wrong:
            cell.refused = wrong[cell.edit.id]


async def _log(
    desk: Desk,
    user: str,
    session: Session,
    undo_group: str | None,
    cells: Sequence[Cell],
    step: int,
    at: datetime,
    most: int,
) -> int:
    """The id of the first edit that was logged; the others follow it. Raises SessionFull."""
    logged = [
        {
            "id": cell.edit.id,
            "field": cell.edit.field,
            "oldValue": cell.old_value,
            "value": cell.edit.value,
            "held": cell.held,
            "findings": cell.findings,
            "clientTs": cell.edit.client_ts and cell.edit.client_ts.astimezone(UTC),
        }
        for cell in cells
        if cell.refused is None
    ]
    encoded = exact_json.encode(logged)
    first = await desk.value(
        LOG_EDITS,
        user=user,
        session=session.id,
        step=step,
        undo_group=undo_group,
        edits=msgspec.Raw(encoded),
        bytes=len(encoded),
        most=most,
        at=at,
    )
    if first is None:
        raise SessionFull(f"A session holds {most:,} bytes of edits. Nothing of this request was saved.")
    return int(first)


def _is_valid(findings: Sequence[Finding]) -> bool:
    return not any(finding.severity in BLOCKING for finding in findings)


def _numbers(cells: Sequence[Cell], first: int) -> Iterator[int | None]:
    """The ids of logged edits, which follow each other; a refused one has none."""
    number = count(first)
    return (None if cell.refused else next(number) for cell in cells)


def _result(contract: Contract, cell: Cell, number: int | None, at: datetime) -> EditResult:
    refused = cell.refused
    return EditResult(
        edit_id=None if number is None else str(number),
        id=cell.edit.id[:200],
        field=cell.edit.field[:80],
        status=cell.status,
        code=refused.code if refused else None,
        old_value=cell.old_value,
        server_ts=at,
        validation=_refused(contract, refused) if refused else validation_of(contract, cell.findings),
    )


def status_of(findings: Sequence[Finding]) -> Literal["saved", "kept_invalid"]:
    """What is said of an edit that was kept."""
    return "saved" if _is_valid(findings) else "kept_invalid"


def _refused(contract: Contract, refused: Culprit) -> Validation:
    return Validation(
        valid=False,
        severity=Severity.ERROR,
        messages=[refused.message],
        rule_id=None,
        contract_version=contract.version,
    )


def validation_of(contract: Contract, findings: Sequence[Finding]) -> Validation:
    """The findings of one cell in one."""
    if not findings:
        return _clean(contract.version)
    worst = max(findings, key=lambda finding: finding.severity.rank)
    return Validation(
        valid=_is_valid(findings),
        severity=worst.severity,
        messages=[finding.message for finding in findings],
        rule_id=worst.rule_id,
        contract_version=worst.contract_version,
    )


@lru_cache(maxsize=64)
def _clean(version: str) -> Validation:
    return Validation(valid=True, severity=None, messages=[], rule_id=None, contract_version=version)


# -- on the wire -------------------------------------------------------------------------------------------------------


@post(
    EDITS_PATH,
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["sessions"],
    summary="Edit a cell",
    responses=answers_with_position(EditResult, 404, 409, 422),
)
async def save_edit(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[Edit, body({"id": "PFA-0000001", "field": "monthlyRate", "value": 1250.5})],
) -> Response[bytes]:
    """An invalid value is kept and reported. A field that nobody edits, or a row that is not there, is refused."""
    runtime = request.runtime

    async def work(desk: Desk) -> bytes:
        wanted = EditBatch(edits=[data])
        most, quota = runtime.settings.session_max_bytes, Quota.of(runtime.settings)
        _, results = await edit(desk, request.user.user_id, session_id, wanted, runtime.clock(), most, quota)
        return exact_json.encode(results[0])

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work)


@post(
    f"{EDITS_PATH}/batch",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["sessions"],
    summary="Edit many cells",
    responses=answers_with_position(EditsAnswer, 404, 409, 422),
)
async def save_edits(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    session_id: SessionId,
    data: Annotated[
        EditBatch, body({"edits": [{"id": "PFA-0000001", "field": "monthlyRate", "value": 1250.5}], "undoGroup": "1"})
    ],
) -> Response[bytes]:
    """As if each came by itself, in their order, but that rules see the rows as all of them make them."""
    runtime = request.runtime

    async def work(desk: Desk) -> bytes:
        most, quota = runtime.settings.session_max_bytes, Quota.of(runtime.settings)
        version, results = await edit(desk, request.user.user_id, session_id, data, runtime.clock(), most, quota)
        return exact_json.encode(EditsAnswer(results=results, version=version))

    return await answer_once(request, runtime, await contract_of(request, org, dataset), org, work)


@get(
    EDITS_PATH,
    opt=require(Action.QUERY),
    tags=["sessions"],
    summary="The log of a session's edits",
    operation_class=PageOperation,
    responses=answers(LogAnswer, 404),
)
async def get_edits(
    request: VanguardRequest, org: Organization, dataset: DatasetName, session_id: SessionId
) -> Response[bytes]:
    """The oldest first, also those that were undone. Parameters: limit, after."""
    runtime, user = request.runtime, request.user.user_id
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/{contract.edition}/sessions/{session_id}/edits", given.get("after"))
    async with runtime.desk(contract, org) as desk:
        session = await read_session(desk, user, session_id, runtime.clock())
        walk.check((await read_dataset(desk)).incarnation)
        after = int(walk.key or 0)
        found = await desk.rows(LIST_EDITS, user=user, session=session.id, after=after, limit=limit + 1)
    following = walk.following(found, limit, lambda last: Cursor((), str(last["id"])))
    answer = LogAnswer(data=[_logged(contract, record) for record in found[:limit]], next_cursor=following)
    return Response(exact_json.encode(answer), media_type="application/json", headers=PRIVATE)


def _logged(contract: Contract, record: Record) -> LoggedEdit:
    findings = msgspec.convert(record["findings"], list[Finding])
    return LoggedEdit(
        edit_id=str(record["id"]),
        id=record["row_key"],
        field=record["field"],
        status=status_of(findings),
        old_value=record["old_value"],
        value=record["value"],
        validation=validation_of(contract, findings),
        client_ts=record["client_ts"],
        server_ts=record["at"],
        state=record["state"],
    )


ROUTES = [save_edit, save_edits, get_edits]
