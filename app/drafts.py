"""Drafting: save a batch, patch one row, see what one has drafted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from asyncpg import Record
from litestar import Response, get, patch, post
from litestar.openapi.spec import Operation

from app.base import exact_json
from app.base.database import Connection
from app.base.errors import Code, Culprit, RowInOtherSession, ValidationFailed
from app.base.pacing import in_turns
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.keys import check_key, key_values
from app.contracts.validation import check_delta, check_new_key, check_seen
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.engine.feed import reached
from app.engine.locks import Workspace, lock_rows, raise_workspace
from app.engine.modifications import image, sweep, take_back
from app.engine.positions import position_in, read_position
from app.engine.quotas import NOTHING, Held, Quota, check_held, held_after
from app.engine.sessions import Session, begin_editing, find_open_session
from app.rows import check_row_id, read_row
from app.web.auth import Action, require
from app.web.bodies import MERGE_PATCH
from app.web.budgets import BATCH
from app.web.etags import PRIVATE, require_match, row_etag
from app.web.idempotency import answer_once, placed
from app.web.openapi import (
    DATASET_PATH,
    DatasetName,
    Organization,
    RowId,
    answers,
    answers_with_position,
    body,
    parameter,
)
from app.web.paging import PAGE_SIZE, Walk, read_page
from app.web.runtime import VanguardRequest, contract_of

SAVE_DRAFTS = statement("drafts/save_drafts")
READ_SAVED = statement("drafts/read_saved")
READ_DRAFTS = statement("drafts/read_drafts")
MAX_DRAFTS = 10_000
MAX_REPEATS = 20  # drafts of one row in one request
MAX_ERRORS = 10_000
Version = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Reason = Annotated[str, msgspec.Meta(max_length=2000)]
UndoGroup = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

MESSAGES = {
    Code.VERSION_CONFLICT: "The row changed meanwhile: your draft is at version {version} now, the mirror's row at "
    "mirrorVersion {mirror_version}.",
    Code.ROW_NOT_FOUND: "There is no such row. Use op insert to create it.",
    Code.ROW_EXISTS: "The row exists already. Use op update to change it.",
    Code.ROW_DELETED: "The row has been deleted, or its deletion is on its way.",
    Code.ROW_IN_OTHER_SESSION: "The row belongs to an open session of yours: name it, or abort it.",
}


class Draft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One row's draft: `delta` goes over what was drafted before, `unset` takes fields out of it.

    What the caller saw: `expected_version` of its draft, `expected_mirror_version` of the mirror's row, or `base`, the
    values of fields.
    """

    id: str
    op: Literal["update", "insert", "delete"] = "update"
    delta: dict[str, Any] = {}
    unset: tuple[str, ...] = ()
    expected_version: Version | None = None
    expected_mirror_version: Version | None = None
    base: dict[str, Any] | None = None
    change_reason: Reason | None = None


class Saving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How a batch is saved. `session_id` names an open session, or is a word of the client's; `atomic`: all or nothing;
    `partial`: the good rows of it, or the good cells of each row; `drop_equal`: cells that equal what lies beneath them
    are taken out; requests with one `undo_group` are undone as one.
    """

    session_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    atomic: bool = False
    partial: Literal["rows", "cells"] = "rows"
    drop_equal: bool = False
    undo_group: UndoGroup | None = None


class SaveRequest(Saving, frozen=True, kw_only=True):
    """A batch, and how it is saved."""

    modifications: Annotated[Sequence[Draft], msgspec.Meta(min_length=1, max_length=MAX_DRAFTS)]


class Saved(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A draft that was saved, as the row is then; pristine at version 0 where nothing is left of it."""

    id: str
    modification_id: str
    version: int
    mirror_version: int
    sync_state: str


SAVE_EXAMPLE = {
    "modifications": [
        {
            "id": "PFA-0000001",
            "delta": {"monthlyRate": 1250.5, "forecastEnd": "2027-03-31"},
            "changeReason": "New quote",
        },
        {
            "id": "new-1",
            "op": "insert",
            "delta": {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 900},
        },
    ]
}


class DraftsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The caller's modifications: rows as in a list, with op, base, delta and pending beside."""

    data: list[dict[str, Any]]
    pagination: dict[str, Any]
    metadata: dict[str, Any]


class SaveAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of each draft of a batch."""

    saved: list[Saved]
    errors: list[Culprit]


async def save(
    desk: Desk,
    user: str,
    drafts: Sequence[Draft],
    at: datetime,
    how: Saving = Saving(),  # noqa: B008 - it is frozen
    held: Workspace | None = None,
    quota: Quota | None = None,
) -> SaveAnswer:
    """Save a batch inside the caller's transaction. `held`: the rows are held already.

    Raises QuotaExceeded, ValidationFailed where nothing could be saved, or where `how` is atomic and anything failed,
    RowInOtherSession where all of it belongs to others, and InvalidTransition for a session that is locked.
    """
    drafts, errors = await check(desk.contract, drafts, by_cell=how.partial == "cells")
    saved: dict[str, Saved] = {}
    if drafts and not (how.atomic and errors):
        held = held or await hold(desk, user, list({draft.id: None for draft in drafts}))
        session = await find_open_session(desk, user, how.session_id, at)
        if session is not None:
            session = await begin_editing(desk, session, at)
            drafts, strangers = _only_of(session, drafts)
            errors += strangers
        if drafts:
            batch = Batch(version=held.revision, at=at, how=how, session=session.id if session else None)
            saved, problems, holds = await write_drafts(desk, user, drafts, batch, held.refused)
            await check_held(desk, user, quota, holds)
            errors += problems
    if errors and (how.atomic or not saved):
        raise refusal(errors)
    return SaveAnswer(saved=list(saved.values()), errors=errors)


def refusal(errors: Sequence[Culprit]) -> ValidationFailed | RowInOtherSession:
    """Nothing was saved, for these reasons."""
    if all(error.code == Code.ROW_IN_OTHER_SESSION for error in errors):
        return RowInOtherSession("Nothing was saved: name the session, or abort it.", errors=errors, saved=[])
    return ValidationFailed(
        f"{len(errors)} of the values or rows cannot be accepted; nothing was saved.", errors=errors, saved=[]
    )


def _only_of(session: Session, drafts: Sequence[Draft]) -> tuple[list[Draft], list[Culprit]]:
    """The drafts of rows that the session is about, and what is said of the others."""
    mine = [draft for draft in drafts if session.takes(draft.id)]
    keys = {draft.id: None for draft in drafts if not session.takes(draft.id)}
    message = "The session is about other rows."
    return mine, [Culprit(id=key, code=Code.ROW_NOT_IN_SESSION, message=message) for key in keys]


async def hold(desk: Desk, user: str, keys: Sequence[str]) -> Workspace:
    """Locks 2, 3 and 4 for drafts of these rows: what is read from here on stays as it is until they are saved."""
    held = await raise_workspace(desk, user, keys)
    await lock_rows(desk, keys, absent=bool(held.absent), inserting=False)
    return held


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a request have in common: the `version` that their drafts get, and the open `session`."""

    version: int
    at: datetime
    how: Saving
    session: str | None


async def write_drafts(
    desk: Desk, user: str, drafts: Sequence[Draft], batch: Batch, refused: Sequence[str]
) -> tuple[dict[str, Saved], list[Culprit], Held]:
    """What was saved, by id, what could not be, and what the user holds then; whoever gets that has it checked. What
    upstream refused stays so where nothing is saved over it.
    """
    if not refused:
        return await _save_in_turn(desk, user, drafts, batch, ())
    try:
        async with desk.connection.savepoint():
            saved, errors, holds = await _save_in_turn(desk, user, drafts, batch, refused)
            if vain := [error for error in errors if error.id in refused and error.id not in saved]:
                raise _TakenBackInVain(vain)
            return saved, errors, holds
    except _TakenBackInVain as in_vain:
        vain = in_vain.errors
    keys = {error.id for error in vain}
    others = [draft for draft in drafts if draft.id not in keys]
    refused = [key for key in refused if key not in keys]
    if not others:
        return {}, vain, NOTHING
    saved, errors, holds = await write_drafts(desk, user, others, batch, refused)
    return saved, [*vain, *errors], holds


class _TakenBackInVain(Exception):
    """Leaves the savepoint with what could not be saved of rows where upstream had refused a change."""

    def __init__(self, errors: list[Culprit]):
        self.errors = errors


async def _save_in_turn(
    desk: Desk, user: str, drafts: Sequence[Draft], batch: Batch, taken_back: Sequence[str]
) -> tuple[dict[str, Saved], list[Culprit], Held]:
    """The same, and what upstream refused is taken back in any case."""
    contract, how = desk.contract, batch.how
    saved: dict[str, Saved] = {}
    errors: list[Culprit] = []
    refused: set[str] = set()
    shapes: Shapes = {}
    holds = NOTHING
    if taken_back:
        await take_back(desk, user, taken_back, batch.at)
    for turn in _rounds(drafts):
        turn = [draft for draft in turn if draft.id not in refused]
        records = await desk.rows(
            SAVE_DRAFTS,
            user=user,
            version=batch.version,
            drafts=[_wanted(contract, draft, shapes) for draft in turn],
            groups=contract.cell_map,
            at=batch.at,
            session_id=how.session_id,
            initial=contract.initial,
            session=batch.session,
            undo_group=how.undo_group,
            drop_equal=how.drop_equal,
        )
        if empty := [record["id"] for record in records if record["empty"]]:
            await sweep(desk, user, empty)
        if (first := next((record for record in records if not record["problem"]), None)) is not None:
            holds = held_after(holds, first, swept=len(empty))
        outcome = {record["id"]: record for record in records}
        refused |= {key for key, record in outcome.items() if record["problem"]}
        errors += [_problem(outcome[draft.id]) for draft in turn if draft.id in refused]
        saved |= {draft.id: _saved(outcome[draft.id]) for draft in turn if draft.id not in refused}
    if taken_back:
        await image(desk, user, taken_back)
        records = await desk.rows(READ_SAVED, user=user, keys=list(taken_back))
        saved |= {record["id"]: _saved(record) for record in records if record["id"] in saved}
    return saved, errors, holds


async def check(
    contract: Contract, drafts: Sequence[Draft], *, by_cell: bool = False
) -> tuple[list[Draft], list[Culprit]]:
    """The drafts of rows that fit the contract, and what is wrong with the others. `by_cell`: a bad cell of a row takes
    out nothing but itself.
    """
    if by_cell:
        drafts, cells = await _good_cells(contract, drafts)
        good, others = await check(contract, drafts)
        return good, [*cells, *others][:MAX_ERRORS]
    wrong: dict[str, list[Culprit]] = {}
    times = Counter(draft.id for draft in drafts)
    async for draft in in_turns(drafts):
        if times[draft.id] > MAX_REPEATS:
            message = f"A request has at most {MAX_REPEATS} drafts of one row."
            wrong[draft.id] = [Culprit(id=draft.id[:200], code=Code.TOO_MANY_DRAFTS, message=message)]
        elif found := _check(contract, draft):
            wrong.setdefault(draft.id, []).extend(found)
    good = [draft for draft in drafts if draft.id not in wrong]
    return good, [culprit for culprits in wrong.values() for culprit in culprits][:MAX_ERRORS]


async def _good_cells(contract: Contract, drafts: Sequence[Draft]) -> tuple[list[Draft], list[Culprit]]:
    """The drafts without their bad cells, those left out of which nothing remains; and what is wrong with the cells."""
    good: list[Draft] = []
    errors: list[Culprit] = []
    async for draft in in_turns(drafts):
        many = len(draft.delta) > len(contract.fields)  # refused as a whole, and not looked at
        bad = [] if many else check_delta(contract, draft.id, draft.delta, inserting=draft.op == "insert")
        names = {culprit.field for culprit in bad}
        errors += bad
        kept = {name: value for name, value in draft.delta.items() if name[:80] not in names} if bad else draft.delta
        if kept or not bad or draft.unset or draft.op != "update":
            good.append(msgspec.structs.replace(draft, delta=kept))
    return good, errors


def _rounds(drafts: Sequence[Draft]) -> Iterator[list[Draft]]:
    """Batches with each row once: the drafts of a row are saved one after the other. Any version of the draft that one
    of them expects is that of before the request; the mirror's row stays as it is meanwhile, and is expected of all.
    """
    rows: dict[str, list[Draft]] = {}
    for draft in drafts:
        rows.setdefault(draft.id, []).append(draft)
    for turn in range(max(len(same) for same in rows.values())):
        yield [_turn_of(same, turn) for same in rows.values() if turn < len(same)]


def _turn_of(same: list[Draft], turn: int) -> Draft:
    if len(same) == 1:
        return same[0]
    return msgspec.structs.replace(
        same[turn],
        expected_version=None if turn else _expected_of(draft.expected_version for draft in same),
        expected_mirror_version=_expected_of(draft.expected_mirror_version for draft in same),
    )


def _expected_of(versions: Iterable[int | None]) -> int | None:
    """The version that the drafts of one row expect; when they differ, one that no row has."""
    expected = set(versions) - {None}
    return expected.pop() if len(expected) == 1 else -1 if expected else None


def _check(contract: Contract, draft: Draft) -> list[Culprit]:
    reason = check_new_key(contract, draft.id) if draft.op == "insert" else check_key(draft.id)
    if reason is not None:
        return [Culprit(id=draft.id[:200], code=Code.INVALID_ID, message=reason)]
    if max(len(draft.delta), len(draft.unset)) > len(contract.fields):
        message = f"{contract.name} has {len(contract.fields)} fields; the draft names more."
        return [Culprit(id=draft.id, code=Code.UNKNOWN_FIELD, message=message)]
    found = check_delta(contract, draft.id, draft.delta, inserting=draft.op == "insert")
    if draft.op == "delete" and (draft.delta or draft.unset):
        found.append(Culprit(id=draft.id, code=Code.INVALID_TYPE, message="A deletion carries no delta and no unset."))
    if draft.base is not None and draft.op == "insert":
        message = "A new row has no base: there was nothing to see."
        found.append(Culprit(id=draft.id, code=Code.INVALID_TYPE, message=message))
    found += check_seen(contract, draft.id, draft.base or {})
    for name in draft.unset:
        if name not in contract.by_name:
            message = f"{contract.name} has no field {name[:80]!r}."
            found.append(Culprit(id=draft.id, field=name[:80], code=Code.UNKNOWN_FIELD, message=message))
    if "\0" in (draft.change_reason or ""):
        message = "A reason may not hold the character NUL."
        found.append(Culprit(id=draft.id, code=Code.INVALID_TYPE, message=message))
    return found


class Wanted(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A draft as save_drafts.sql reads it; `touched` are its fields, with those of the same atomic groups."""

    id: str
    op: str
    delta: dict[str, Any]
    unset: tuple[str, ...] = ()
    expected_version: int | None = None
    expected_mirror_version: int | None = None
    base: dict[str, Any] | None = None
    change_reason: str | None = None
    touched: list[str]


# The fields of a delta -> those that it touches: the drafts of a batch mostly have the same.
Shapes = dict[tuple[str, ...], list[str]]


def _wanted(contract: Contract, draft: Draft, shapes: Shapes) -> Wanted:
    """Without an upstream to give it another, a new row's id is its key."""
    delta, unset = draft.delta, draft.unset
    shape = tuple([name for name in delta if name not in unset]) if unset else tuple(delta)
    if shape not in shapes:
        shapes[shape] = contract.touched(shape)
    if draft.op == "insert" and contract.upstream is None:
        delta = (key_values(contract, draft.id) or {}) | delta
        unset = tuple(name for name in unset if name not in contract.key_fields)
    return Wanted(
        id=draft.id,
        op=draft.op,
        delta=delta,
        unset=unset,
        expected_version=draft.expected_version,
        expected_mirror_version=draft.expected_mirror_version,
        base=draft.base,
        change_reason=draft.change_reason,
        touched=shapes[shape],
    )


def _problem(record: Any) -> Culprit:
    message = MESSAGES[record["problem"]].format(version=record["version"], mirror_version=record["mirror_version"])
    return Culprit(id=record["id"], code=record["problem"], message=message)


def _saved(record: Any) -> Saved:
    return Saved(
        id=record["id"],
        modification_id=record["modification_id"],
        version=record["version"],
        mirror_version=record["mirror_version"],
        sync_state=record["sync_state"],
    )


@post(
    f"{DATASET_PATH}/drafts",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["drafts"],
    summary="Save drafts",
    responses=answers_with_position(SaveAnswer, 404, 409, 422),
)
async def save_drafts(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[SaveRequest, body(SAVE_EXAMPLE)],
) -> Response[bytes]:
    """Each delta merges into what you drafted before. What cannot be saved is listed beside what was."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)

    async def work(desk: Desk) -> bytes:
        quota = Quota.of(runtime.settings)
        answer = await save(desk, request.user.user_id, data.modifications, runtime.clock(), data, quota=quota)
        return exact_json.encode(answer)

    return await answer_once(request, runtime, contract, org, work)


@dataclass
class DraftsOperation(Operation):
    """The parameters for /schema, as in rows.py."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("pageSize", "integer", "Rows a page", minimum=1, maximum=1000, default=100),
            parameter("after", "string", "nextCursor of the page before"),
        ]


@get(
    f"{DATASET_PATH}/drafts",
    opt=require(Action.QUERY),
    tags=["drafts"],
    summary="What you have drafted",
    operation_class=DraftsOperation,
    responses=answers(DraftsAnswer, 404),
)
async def get_drafts(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Response[bytes]:
    """Your modifications by id: drafts, deletions, and what is pending. Parameters: pageSize, after."""
    runtime = request.runtime
    contract, user = await contract_of(request, org, dataset), request.user.user_id
    size, given = read_page(request, PAGE_SIZE)
    walk = Walk(runtime, f"{org}/{contract.edition}/drafts", given.get("after") or None)
    async with runtime.desk(contract, org) as desk:
        page = await desk.row(READ_DRAFTS, user=user, after=walk.key or "", limit=size)
    if page is None:
        raise desk.not_set_up
    walk.check(page["incarnation"])
    following = walk.next(None if page["last_key"] is None else Cursor((), page["last_key"]))
    pagination = {"pageSize": size, "totalRecords": page["total"], "nextCursor": following}
    body = b'{"data":%b,"pagination":%b,"metadata":%b}' % (
        page["body"],
        exact_json.encode(pagination),
        exact_json.encode({"revision": page["revision"], "position": position_in(page, contract.name).text(org, user)}),
    )
    return Response(body, media_type="application/json", headers=PRIVATE)


@patch(
    f"{DATASET_PATH}/rows/{{row_id:str}}",
    opt=require(Action.EDIT) | BATCH,
    tags=["rows"],
    summary="Patch one row",
    responses=answers(dict[str, Any], 404, 409, 412, 422),
)
async def patch_row(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    row_id: RowId,
    data: Annotated[dict[str, Any], body({"monthlyRate": 1350.5, "model": None}, MERGE_PATCH)],
) -> Response[bytes]:
    """JSON merge patch (RFC 7396) on the merged row: each field that it changes is drafted, a removed one as null.

    With If-Match, only while the row is as it was read: your draft, the mirror's row, and what is on its way to it.
    """
    runtime = request.runtime
    contract, user = await contract_of(request, org, dataset), request.user.user_id
    at = runtime.clock()

    async def work(connection: Connection) -> tuple[Record, str]:
        desk = Desk(connection, contract, org)
        check_row_id(row_id)
        held = await hold(desk, user, [row_id])
        row = await read_row(desk, user, row_id)
        require_match(request, row_etag(row["body"]), row["version"])
        delta = {
            name: value
            for name, value in data.items()
            if name not in contract.by_name or not _same(row["doc"].get(name), value)
        }
        if not delta:
            raise _NothingToSave
        quota = Quota.of(runtime.settings)
        await save(desk, user, [Draft(id=row_id, delta=delta)], at, Saving(atomic=True), held, quota)
        return await read_row(desk, user, row_id), await reached(desk, user)

    try:
        row, position = await runtime.database.run(work)
    except _NothingToSave:
        async with runtime.desk(contract, org) as desk:
            position = await read_position(desk.connection, org, user)
            row = await read_row(desk, user, row_id)
    headers = {"ETag": row_etag(row["body"]), **PRIVATE}
    return Response(placed(row["body"].encode(), position), media_type="application/json", headers=headers)


class _NothingToSave(Exception):
    """Leaves the transaction with nothing done: no revision moves."""


def _same(old: Any, new: Any) -> bool:
    """Equal as JSON values; for Python, true is 1 as well."""
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


ROUTES = [save_drafts, get_drafts, patch_row]
