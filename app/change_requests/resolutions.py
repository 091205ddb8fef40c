"""Resolutions: what a conflict of a request comes to. They rewrite its cells, which are then approved anew; what was
done about a conflict is remembered, and done again where the same three sides meet in the same cell.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from app.base.errors import Code, Culprit, InvalidTransition, ResolutionNotFound, ValidationFailed
from app.base.statements import statement
from app.change_requests.conflicts import Conflict, find_conflicts, members_of
from app.change_requests.requests import (
    ChangeRequest,
    Person,
    digest_of,
    lock_changes,
    lock_request,
    read_request,
    rewrite_request,
    stale,
    tell,
)
from app.contracts import Contract
from app.contracts.states import RequestState
from app.contracts.validation import check_value
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import raise_workspace
from app.engine.modifications import fold, image
from app.engine.requests import Event

RESOLVE_CHANGES = statement("change_requests/resolve_changes")
REMEMBER_RESOLUTIONS = statement("change_requests/remember_resolutions")
FIND_RESOLUTIONS = statement("change_requests/find_resolutions")
LIST_RESOLUTIONS = statement("change_requests/list_resolutions")
FORGET_RESOLUTION = statement("change_requests/forget_resolution")

MAX_SHOWN = 1000  # culprits in one answer

Use = Literal["mine", "theirs", "base", "value"]


class Proposal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do about one conflict; `field` as the conflict has it, `value` an object for an atomic group."""

    id: str
    field: str | None
    use: Use
    value: Any = msgspec.UNSET


class ResolveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do about conflicts one by one, and by `default` about all others; with `digest` only about those that
    were seen.
    """

    resolutions: Annotated[tuple[Proposal, ...], msgspec.Meta(max_length=10_000)] = ()
    default: Literal["mine", "theirs", "base"] | None = None
    digest: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class Remembered(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was done about a conflict of these three sides, and will be done again."""

    id: uuid.UUID
    row_id: str
    field: str | None
    base: Any
    theirs: Any
    mine: Any
    use: Use
    value: Any
    actor: str
    actor_name: str | None
    at: datetime
    used: int
    used_at: datetime | None


async def propose(
    desk: Desk, person: Person, request_id: uuid.UUID, wanted: ResolveRequest, at: datetime
) -> ChangeRequest:
    """Carry resolutions out on a request in review: its next iteration, to be approved anew.

    Raises ChangeRequestNotFound, InvalidTransition, PreviewStale, and ValidationFailed for what resolves no conflict.
    """
    request = await lock_request(desk, person, request_id)
    if request.state is not RequestState.PENDING_REVIEW:
        raise InvalidTransition(
            f"The change request is {request.state}: conflicts are resolved in review.", state=request.state
        )
    await raise_workspace(desk, request.author)
    await lock_changes(desk, request, inserting=False)
    conflicts = await find_conflicts(desk, request.id)
    if wanted.digest is not None and wanted.digest != digest_of(request, conflicts):
        raise await stale(desk, request, wanted.digest, conflicts)
    left = await resolve(desk, request, person, conflicts, wanted, at)
    await rewrite_request(desk, request, at, conflicts=left)
    return await read_request(desk, person, request.id)


async def resolve(
    desk: Desk,
    request: ChangeRequest,
    person: Person,
    conflicts: Sequence[Conflict],
    wanted: ResolveRequest,
    at: datetime,
) -> list[Conflict]:
    """Carry resolutions out, remember them and tell; returns the conflicts that are left. The request is to be
    rewritten afterwards. Under its lock, 2 and 4; raises ValidationFailed.
    """
    chosen = _choose(desk.contract, conflicts, wanted)
    await _carry_out(desk, request, chosen, at)
    await desk.rows(
        REMEMBER_RESOLUTIONS,
        resolutions=[_told(conflict, use, value) for conflict, use, value in chosen],
        actor=person.id,
        at=at,
    )
    cells = [{"id": each["id"], "field": each["field"], "use": use} for each, use, _ in chosen[:MAX_SHOWN]]
    await tell(desk, _next(request), Event.RESOLVED, person.id, at, resolutions=cells, count=len(chosen))
    return await find_conflicts(desk, request.id)


async def resolve_as_before(
    desk: Desk, request: ChangeRequest, conflicts: Sequence[Conflict], at: datetime
) -> list[Conflict]:
    """Do about conflicts what was done about the same ones before, and tell; returns those that are left. Under the
    request's lock, 2 and 4, which the conflicts were found under.
    """
    known = {
        (row["row_key"], row["field"]): row
        for row in await desk.rows(FIND_RESOLUTIONS, conflicts=[_told(each, "mine", None) for each in conflicts], at=at)
    }
    again = [each for each in conflicts if (each["id"], each["field"]) in known]
    if not again:
        return list(conflicts)
    rows = [known[each["id"], each["field"]] for each in again]
    chosen = [(each, row["use"], row["value"]) for each, row in zip(again, rows, strict=True)]
    await _carry_out(desk, request, chosen, at)
    told = [
        {"id": each["id"], "field": each["field"], "use": row["use"], "resolution": str(row["id"])}
        for each, row in zip(again[:MAX_SHOWN], rows[:MAX_SHOWN], strict=True)
    ]
    # Of the one who decided last, since nobody did now.
    await tell(desk, _next(request), Event.RESOLVED_AS_BEFORE, rows[0]["actor"], at, resolutions=told, count=len(again))
    return await find_conflicts(desk, request.id)


def _next(request: ChangeRequest) -> ChangeRequest:
    """The request in the iteration that these resolutions begin."""
    return msgspec.structs.replace(request, iteration=request.iteration + 1)


def _choose(
    contract: Contract, conflicts: Sequence[Conflict], wanted: ResolveRequest
) -> list[tuple[Conflict, Use, Any]]:
    """What is done about which conflict; raises ValidationFailed."""
    found = {(each["id"], each["field"]): each for each in conflicts}
    named: dict[tuple[str, str | None], Proposal] = {}
    wrong: list[Culprit] = []
    for proposal in wanted.resolutions:
        place = (proposal.id, proposal.field)
        if place in named:
            wrong.append(_wrong(proposal.id, proposal.field, "It is resolved twice."))
        elif place not in found:
            wrong.append(_wrong(proposal.id, proposal.field, "There is no such conflict."))
        else:
            named[place] = proposal
            wrong += _check(contract, found[place], proposal.use, proposal.value)
    chosen: list[tuple[Conflict, Use, Any]] = [
        (found[place], each.use, None if each.value is msgspec.UNSET else each.value) for place, each in named.items()
    ]
    if wanted.default is not None:
        others = [each for place, each in found.items() if place not in named]
        wrong += [bad for each in others for bad in _check(contract, each, wanted.default, msgspec.UNSET)]
        chosen += [(each, wanted.default, None) for each in others]
    if not chosen and not wrong:
        wrong = [_wrong("", None, "There is nothing to resolve.")]
    if wrong:
        raise ValidationFailed(
            "A resolution does not fit the conflicts; nothing was changed.", errors=wrong[:MAX_SHOWN]
        )
    return chosen


def _check(contract: Contract, conflict: Conflict, use: Use, value: Any) -> list[Culprit]:
    key, field = conflict["id"], conflict["field"]
    if (use == "value") != (value is not msgspec.UNSET):
        return [_wrong(key, field, "A value goes with use value, and only with it.")]
    if field is None:
        return [_wrong(key, field, "A whole row is mine or theirs.")] if use not in ("mine", "theirs") else []
    members = members_of(contract, field)
    if any(name not in contract.by_name for name in members):
        return [_wrong(key, field, "The contract has no such field any more: take theirs.")] if use != "theirs" else []
    if use != "value":
        return []
    given = value if len(members) > 1 or field not in contract.by_name else {field: value}
    if not isinstance(given, dict) or not given.keys() <= set(members):
        return [_wrong(key, field, "The value of an atomic group is an object of its fields.")]
    return [
        Culprit(id=key, field=name, code=reason[0], message=reason[1])
        for name, each in given.items()
        if (reason := check_value(contract.by_name[name], each)) is not None
    ]


def _wrong(key: str, field: str | None, message: str) -> Culprit:
    return Culprit(id=key[:200], field=field and field[:200], code=Code.INVALID_RESOLUTION, message=message)


async def _carry_out(
    desk: Desk, request: ChangeRequest, chosen: Sequence[tuple[Conflict, Use, Any]], at: datetime
) -> None:
    """The request's changes are those that the resolutions make of them; under its lock, 2 and 4."""
    contract = desk.contract
    rows: dict[str, dict[str, Any]] = {}
    for conflict, use, value in chosen:
        key, field = conflict["id"], conflict["field"]
        row = rows.setdefault(key, {"id": key, "whole": None, "mine": [], "theirs": [], "base": [], "value": {}})
        if field is None:
            row["whole"] = use
        elif use == "value":
            row["value"] |= {field: value} if field in contract.by_name else value
        else:
            row[use] += members_of(contract, field)
    await desk.rows(
        RESOLVE_CHANGES,
        request_id=request.id,
        resolutions=list(rows.values()),
        groups=contract.cell_map,
        at=at,
        unwritable=[] if contract.upstream is None else [*contract.upstream_only, *contract.initial],
    )
    tell_rows(desk, EventType.OVERLAP, list(rows), at, actor=request.author)
    await fold(desk, request.author, list(rows))
    await image(desk, request.author, list(rows))


def _told(conflict: Conflict, use: Use, value: Any) -> dict[str, Any]:
    """A conflict and what was done about it, as it is remembered."""
    sides = {side: conflict.get(side) for side in ("base", "theirs", "mine")}
    return {"id": conflict["id"], "field": conflict["field"], **sides, "use": use, "value": value}


# -- what is remembered ------------------------------------------------------------------------------------------------


async def list_remembered(desk: Desk, after: uuid.UUID | None, limit: int) -> list[Remembered]:
    """What will be done again, by id."""
    rows = await desk.rows(LIST_RESOLUTIONS, after=after, limit=limit)
    return [Remembered(**row) for row in rows]


async def forget_resolution(desk: Desk, person: Person, resolution: uuid.UUID, at: datetime) -> None:
    """Do not do it again; raises ResolutionNotFound."""
    row = await desk.row(FORGET_RESOLUTION, id=resolution)
    if row is None:
        raise ResolutionNotFound("There is no such resolution.")
    entry = Entry(at=at, actor=person.id, action=Act.RESOLUTION_FORGOTTEN, row_key=row["row_key"], field=row["field"])
    await record(desk, entry)
