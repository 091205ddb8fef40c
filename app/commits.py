"""Commit: drafts become changes, cell by cell and without lost updates.

A dataset with an upstream leaves its changes in the outbox (state committed), one without applies them to the mirror in
the same transaction.
"""

import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from asyncpg import Record
from litestar import Response, post

from app.base import exact_json
from app.base.database import Connection
from app.base.errors import (
    ApprovalRequired,
    Code,
    Culprit,
    MergeConflict,
    NoDrafts,
    ValidationFailed,
    VersionConflict,
)
from app.base.pacing import in_turns
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.findings import Finding
from app.contracts.rules import unruled_fields
from app.contracts.states import REFUSED
from app.contracts.validation import check_key, check_seen, check_value
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import lock_dataset, lock_rows, raise_revision, raise_workspace, read_dataset
from app.engine.modifications import fold, image, take_back
from app.engine.quotas import doubt
from app.engine.selection import Selection, select
from app.engine.validation import Changed, check_changes
from app.web.auth import Action, require
from app.web.budgets import BATCH
from app.web.idempotency import answer_once, answer_rehearsal
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers_with_position, body
from app.web.runtime import Runtime, VanguardRequest, contract_of

RESOLVE_DRAFTS = statement("commits/resolve_drafts")
READ_VERSIONS = statement("commits/read_versions")
TAKE_BASES = statement("commits/take_bases")
FREEZE_DRAFTS = statement("commits/freeze_drafts")
APPLY_CHANGES = statement("commits/apply_changes")
COMPLETE_BASES = statement("worker/complete_bases")
CLOSE_STEPS = statement("undo/close_steps")

MOST = msgspec.Meta(max_length=50_000)  # rows that a commit says something of
MAX_SHOWN = 1000  # conflicts and culprits in one answer


class Resolution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What to do about one cell; `field` is a field, an atomic group (its value an object), or null: the row."""

    id: str
    field: str | None
    use: Literal["mine", "theirs", "value"]
    value: Any = msgspec.UNSET


class CommitRequest(Selection, frozen=True, kw_only=True):
    """What the caller has seen: `expectedVersions`, id -> version of the draft, `expectedMirrorVersions`, id -> version
    of the mirror's row, or `base`, id -> values of fields. `onConflict` skip: what conflicts stays drafted, the rest is
    committed. `dryRun`: answer, and change nothing.
    """

    expected_versions: Annotated[dict[str, int], MOST] = msgspec.field(default_factory=dict)
    expected_mirror_versions: Annotated[dict[str, int], MOST] = msgspec.field(default_factory=dict)
    base: Annotated[dict[str, dict[str, Any]], MOST] = msgspec.field(default_factory=dict)
    change_reason: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    resolutions: Annotated[Sequence[Resolution], msgspec.Meta(max_length=10_000)] = ()
    on_conflict: Literal["refuse", "skip"] = "refuse"
    dry_run: bool = False


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that upstream alone gives to a row: one that is inserted again comes without them."""

    id: str
    fields: list[str]


class Warned(Finding, frozen=True, kw_only=True):
    """What a rule has to say of row `id` that does not keep it from being committed."""

    id: str


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A conflict that stays drafted; `field` is a field, an atomic group (its sides objects), or null: the row."""

    id: str
    field: str | None
    base: Any
    theirs: Any
    mine: Any


class CommitAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`committed` rows that had something to change; `commit_id` is null for a dry run; `left_out` and `warnings` only
    where there are some. `skipped` are the first of `skipped_count` conflicts that stay drafted, where that was asked
    for.
    """

    commit_id: str | None
    committed: int
    revision: int
    skipped: list[Skipped] | msgspec.UnsetType = msgspec.UNSET
    skipped_count: int | msgspec.UnsetType = msgspec.UNSET
    left_out: list[LeftOut] | msgspec.UnsetType = msgspec.UNSET
    warnings: list[Warned] | msgspec.UnsetType = msgspec.UNSET


class _DryRun(Exception):
    """Leaves the transaction with its answer and nothing else."""

    def __init__(self, answer: CommitAnswer):
        self.answer = answer


# -- commit ------------------------------------------------------------------------------------------------------------


async def commit(desk: Desk, user: str, wanted: CommitRequest, at: datetime) -> CommitAnswer:
    """Commit drafts inside the caller's transaction.

    Raises NoDrafts, VersionConflict, MergeConflict, ValidationFailed, ApprovalRequired; then nothing is to be kept.
    """
    local = desk.contract.upstream is None
    dataset = await (lock_dataset if local else read_dataset)(desk)
    if dataset.require_approval:
        raise ApprovalRequired("Submit a change request instead of committing.")
    version, *_ = await raise_workspace(desk, user)
    # What upstream refused is committed again where it is named, or drafted over.
    named = {*(wanted.ids or ()), *(resolution.id for resolution in wanted.resolutions)}
    found, session = await select(desk, user, wanted, at)
    drafts = [draft for draft in found if draft["draft_op"] or draft["row_key"] in named]
    if not drafts:
        raise NoDrafts("None of the rows has a draft of yours.")
    keys = [draft["row_key"] for draft in drafts]
    await lock_rows(desk, keys, absent=any(draft["absent"] for draft in drafts), inserting=True)
    await _check_versions(desk, user, wanted)
    refused = [draft["row_key"] for draft in drafts if draft["pending_state"] in REFUSED]
    if refused:
        await take_back(desk, user, refused, at)
    if wanted.base:
        _check_base(desk.contract, wanted.base)
        await _take_bases(desk, user, wanted.base, keys)
    if wanted.resolutions:
        await _resolve(desk, user, wanted, set(keys), version, at)
    commit_id, revision, skip = uuid.uuid4(), dataset.revision, wanted.on_conflict == "skip"
    frozen = await desk.rows(
        FREEZE_DRAFTS,
        user=user,
        version=version,
        keys=keys,
        groups=desk.contract.cell_map,
        commit_id=commit_id,
        reason=wanted.change_reason,
        at=at,
        unruled_fields=unruled_fields(desk.contract),
        upstream_only=list(desk.contract.upstream_only),
        initial={} if local else desk.contract.initial,
        skip=skip,
    )
    conflicts = [conflict for record in frozen for conflict in record["conflicts"] or ()]
    if conflicts and not skip:
        raise _conflicting(conflicts)
    if conflicts:
        # What is skipped stays drafted, with another base and in other bytes than were counted.
        await doubt(desk, [user])
    changed = [Changed(record["row_key"], record["before"], record["after"]) for record in frozen if record["op"]]
    warnings = await _check_rules(desk, changed)
    if local and changed:
        revision = await raise_revision(desk)
        await apply_changes(desk, commit_id, revision, keys, "commit", at)
    else:
        # These drafts were changed just now, by what upstream refused and by resolutions: their images were not.
        moved = {*refused, *wanted.base, *(resolution.id for resolution in wanted.resolutions)}
        imaged = {record["row_key"] for record in frozen if record["imaged"]} - moved
        if stale := [key for key in keys if key not in imaged]:
            await image(desk, user, stale)
    if changed:
        told = Entry(
            at=at,
            actor=user,
            action=Act.COMMIT,
            commit_id=commit_id,
            reason=wanted.change_reason,
            details={"rows": len(changed)},
        )
        await record(desk, told)
        tell_rows(
            desk,
            EventType.COMMIT,
            [each.id for each in changed],
            at,
            actor=user,
            revision=revision if local else None,
            commitId=str(commit_id),
        )
    if session is not None:
        await desk.rows(CLOSE_STEPS, user=user, session=session.id)
    answer = CommitAnswer(
        commit_id=str(commit_id),
        committed=len(changed),
        revision=revision,
        skipped=[Skipped(**conflict) for conflict in conflicts[:MAX_SHOWN]] if skip else msgspec.UNSET,
        skipped_count=len(conflicts) if skip else msgspec.UNSET,
        left_out=_left_out(frozen),
        warnings=warnings[:MAX_SHOWN] or msgspec.UNSET,
    )
    if wanted.dry_run:
        raise _DryRun(msgspec.structs.replace(answer, commit_id=None, revision=dataset.revision))
    return answer


def _left_out(frozen: Sequence[Record]) -> list[LeftOut] | msgspec.UnsetType:
    found = [LeftOut(id=record["row_key"], fields=record["left_out"]) for record in frozen if record["left_out"]]
    return found[:MAX_SHOWN] or msgspec.UNSET


async def _check_versions(desk: Desk, user: str, wanted: CommitRequest) -> None:
    """Raises VersionConflict where a row is not as the caller saw it, whether or not this commit takes it."""
    drafts, rows = wanted.expected_versions, wanted.expected_mirror_versions
    if not drafts and not rows:
        return
    keys = [key for key in {**drafts, **rows} if check_key(key) is None]
    records = await desk.rows(READ_VERSIONS, user=user, keys=keys)
    found = {record["row_key"]: record for record in records}
    stale = [
        Culprit(id=key[:200], code=Code.VERSION_CONFLICT, message=f"{whose} is at {word} {now} now.")
        for expected, whose, column, word in (
            (drafts, "The draft", "version", "version"),
            (rows, "The mirror's row", "mirror_version", "mirrorVersion"),
        )
        for key, version in expected.items()
        if (now := found[key][column] if key in found else 0) != version
    ]
    if stale:
        raise VersionConflict(f"{len(stale)} of the rows changed since you saw them.", errors=stale[:MAX_SHOWN])


def _check_base(contract: Contract, base: dict[str, dict[str, Any]]) -> None:
    """Raises ValidationFailed for what nobody can have seen."""
    found = (culprit for key, seen in base.items() for culprit in check_seen(contract, key[:200], seen))
    if wrong := list(itertools.islice(found, MAX_SHOWN)):
        raise ValidationFailed("A base does not fit the contract; nothing was committed.", errors=wrong)


async def _take_bases(desk: Desk, user: str, base: dict[str, dict[str, Any]], keys: Sequence[str]) -> None:
    """What was seen of cells goes into the drafts: the three-way check finds what became of them since."""
    bases = [{"id": key, "base": base[key]} for key in keys if key in base]
    await desk.value(TAKE_BASES, user=user, bases=bases, groups=desk.contract.cell_map)


def _conflicting(conflicts: Sequence[dict[str, Any]]) -> MergeConflict:
    rows = {conflict["id"] for conflict in conflicts}
    return MergeConflict(
        f"{len(rows)} rows changed meanwhile in cells that you changed too. Resolve them, or take theirs.",
        rows=frozenset(rows),
        conflicts=conflicts[:MAX_SHOWN],
        conflictCount=len(conflicts),
    )


async def _check_rules(desk: Desk, changed: Sequence[Changed]) -> list[Warned]:
    """What the rules have to say that does not block; raises ValidationFailed for what does."""
    found = await check_changes(desk, changed)
    broken = [finding.culprit(key, other) for key, finding, other in found if finding.blocks]
    if broken:
        raise ValidationFailed(
            f"{len(broken)} rules of the contract are broken; nothing was committed.", errors=broken[:MAX_SHOWN]
        )
    return [Warned(id=key, **msgspec.structs.asdict(finding)) for key, finding, _ in found]


async def apply_changes(
    desk: Desk, commit_id: uuid.UUID, revision: int, keys: list[str], source: str, at: datetime
) -> None:
    """A commit's changes into the mirror, then everybody's changes and modifications of those rows brought up to date;
    `source` is what the history calls it.
    """
    id_field = desk.contract.id_field
    await desk.value(APPLY_CHANGES, commit_id=commit_id, revision=revision, id_field=id_field, source=source, at=at)
    await desk.value(COMPLETE_BASES, revision=revision)
    await fold(desk, None, keys)
    await image(desk, None, keys, revision)


# -- resolutions -------------------------------------------------------------------------------------------------------


async def _resolve(desk: Desk, user: str, wanted: CommitRequest, keys: set[str], version: int, at: datetime) -> None:
    """Carry resolutions out on the drafts; raises ValidationFailed for one that is about nothing drafted."""
    contract, resolutions = desk.contract, wanted.resolutions
    wrong = [
        culprit
        async for resolution in in_turns(resolutions)
        for culprit in _check_resolution(contract, resolution, keys)
    ]
    wrong += _contradictions(contract, resolutions)
    if not wrong:
        rows: dict[str, dict[str, Any]] = {}
        for resolution in resolutions:
            blank = _blank(resolution.id, wanted.base.get(resolution.id, {}))
            _add(rows.setdefault(resolution.id, blank), contract, resolution)
        await doubt(desk, [user])
        records = await desk.rows(
            RESOLVE_DRAFTS,
            user=user,
            resolutions=list(rows.values()),
            groups=contract.cell_map,
            version=version,
            at=at,
        )
        written = {record["row_key"]: set(record["written"]) for record in records}
        wrong = [
            _wrong(resolution.id, resolution.field, "You have not drafted it.")
            for resolution in resolutions
            if resolution.field is not None and not _members(contract, resolution.field) <= written[resolution.id]
        ]
    if wrong:
        raise ValidationFailed(
            "A resolution does not fit your drafts; nothing was committed.", errors=wrong[:MAX_SHOWN]
        )


def _contradictions(contract: Contract, resolutions: Sequence[Resolution]) -> list[Culprit]:
    """Cells that are resolved twice, and rows that are resolved whole and in parts."""
    cells = Counter((r.id, tuple(sorted(_members(contract, r.field))) if r.field else None) for r in resolutions)
    wrong = [
        _wrong(key, members[0] if members else None, "It is resolved twice.")
        for (key, members), times in cells.items()
        if times > 1
    ]
    mixed = {r.id for r in resolutions if r.field is None} & {r.id for r in resolutions if r.field is not None}
    return wrong + [_wrong(key, None, "It is resolved as a whole and in parts.") for key in sorted(mixed)]


def _blank(key: str, seen: dict[str, Any]) -> dict[str, Any]:
    return {"id": key, "whole": None, "mine": [], "theirs": [], "value": {}, "seen": seen}


def _add(row: dict[str, Any], contract: Contract, resolution: Resolution) -> None:
    if resolution.field is None:
        row["whole"] = resolution.use
    elif resolution.use == "value":
        row["value"] |= _values(contract, resolution)
    else:
        row[resolution.use] += sorted(_members(contract, resolution.field))


def _members(contract: Contract, field: str) -> set[str]:
    """The fields of the cell: of an atomic group by its name, or by that of any of its fields."""
    for group in contract.atomic_groups:
        if field == group.name or field in group.fields:
            return set(group.fields)
    return {field}


def _values(contract: Contract, resolution: Resolution) -> dict[str, Any]:
    field = resolution.field
    assert field is not None
    return {field: resolution.value} if field in contract.by_name else dict(resolution.value)


def _check_resolution(contract: Contract, resolution: Resolution, keys: set[str]) -> list[Culprit]:
    key, field = resolution.id, resolution.field
    groups = {group.name for group in contract.atomic_groups}
    if key not in keys:
        return [_wrong(key, field, "The row is not in this commit.")]
    if (resolution.use == "value") != (resolution.value is not msgspec.UNSET):
        return [_wrong(key, field, "A value goes with use value, and only with it.")]
    if field is None:
        return [_wrong(key, field, "A whole row is mine or theirs.")] if resolution.use == "value" else []
    if field not in groups and field not in contract.by_name:
        return [_wrong(key, field, f"{contract.name} has no such field or group.")]
    if resolution.use != "value":
        return []
    if field in groups and not isinstance(resolution.value, dict):
        return [_wrong(key, field, "The value of an atomic group is an object of its fields.")]
    values, members = _values(contract, resolution), _members(contract, field)
    if len(values) > len(members):
        other = next(name for name in values if name not in members)
        return [_wrong(key, other[:80], f"{other[:80]} is no field of {field}.")]
    found = []
    for name, value in values.items():
        if name not in members:
            found.append(_wrong(key, name, f"{name[:80]} is no field of {field}."))
        elif not contract.by_name[name].editable:
            found.append(Culprit(id=key, field=name, code=Code.READ_ONLY_FIELD, message=f"{name} cannot be edited."))
        elif (reason := check_value(contract.by_name[name], value)) is not None:
            found.append(Culprit(id=key, field=name, code=reason[0], message=reason[1]))
    return found


def _wrong(key: str, field: str | None, message: str) -> Culprit:
    return Culprit(id=key[:200], field=field, code=Code.INVALID_RESOLUTION, message=message)


# -- on the wire -------------------------------------------------------------------------------------------------------


async def answer_commit(
    request: VanguardRequest,
    runtime: Runtime,
    contract: Contract,
    organization: str,
    wanted: CommitRequest,
    **more: Any,
) -> Response[bytes]:
    """Commit and answer, with `more` members beside.

    A refused conflict is marked on the drafts, so that lists show it and an edit settles it.
    """
    user = request.user.user_id
    # With an Idempotency-Key a conflict comes back as an answer, not as an exception: so its rows are noted here.
    conflicting: set[str] = set()

    async def work(desk: Desk) -> bytes:
        try:
            answer = await commit(desk, user, wanted, runtime.clock())
        except MergeConflict as conflict:
            conflicting.update(conflict.rows)
            raise
        return exact_json.encode(more | msgspec.to_builtins(answer, builtin_types=(Decimal,)))

    async def mark(connection: Connection) -> None:
        desk, keys = Desk(connection, contract, organization), sorted(conflicting)
        await raise_workspace(desk, user)
        await lock_rows(desk, keys, absent=True, inserting=False)
        if wanted.base:
            await _take_bases(desk, user, wanted.base, keys)
        await image(desk, user, keys)

    try:
        return await answer_once(request, runtime, contract, organization, work)
    except _DryRun as dry_run:
        return await answer_rehearsal(request, organization, dry_run.answer)
    finally:
        if conflicting and not wanted.dry_run:
            await runtime.database.run(mark)


@post(
    f"{DATASET_PATH}/commit",
    opt=require(Action.EDIT) | BATCH,
    status_code=200,
    tags=["drafts"],
    summary="Commit drafts",
    responses=answers_with_position(CommitAnswer, 404, 409, 422),
)
async def commit_drafts(
    request: VanguardRequest,
    org: Organization,
    dataset: DatasetName,
    data: Annotated[CommitRequest, body({"ids": ["PFA-0000001"], "changeReason": "New quote", "dryRun": True})],
) -> Response[bytes]:
    """All of the selection or nothing: 409 with base, theirs and mine where others changed the same cells, unless
    onConflict is skip.
    """
    runtime = request.runtime
    return await answer_commit(request, runtime, await contract_of(request, org, dataset), org, data)


ROUTES = [commit_drafts]
