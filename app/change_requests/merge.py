"""The merge of an approved request: one transaction, all of it or, where that is asked for, all but what conflicts.

What keeps it from being merged puts the request back to review, with the reason; the mirror is then as it was.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import structlog
from asyncpg import InterfaceError, Record

from app.base.errors import (
    Code,
    Culprit,
    DatabaseUnavailable,
    Forbidden,
    MergeConflict,
    MergeFailed,
    SchemaChanged,
    ValidationFailed,
    VanguardError,
)
from app.base.statements import statement
from app.change_requests.conflicts import Conflict, cells_of, conflicts_of, find_conflicts, give_back
from app.change_requests.requests import (
    LIST_APPROVALS,
    ChangeRequest,
    Person,
    check_way,
    digest_of,
    lock_changes,
    lock_request,
    move_request,
    rewrite_request,
    stale,
    tell,
)
from app.change_requests.resolutions import Proposal, ResolveRequest, resolve, resolve_as_before
from app.change_requests.submission import Digest, check_words
from app.commits import apply_changes
from app.contracts.conflicts import ConflictKind
from app.contracts.findings import Severity
from app.contracts.rules import unruled_fields
from app.contracts.states import RequestState
from app.engine.audit import Act, Entry, record
from app.engine.desk import Desk
from app.engine.feed import EventType, tell_rows
from app.engine.locks import lock_dataset, raise_revision, raise_workspace, read_dataset
from app.engine.modifications import fold, image
from app.engine.requests import Event
from app.engine.validation import Changed, Found, check_changes
from app.previews.findings import Findings
from app.web.problems import log_unexpected

MERGE_CHANGES = statement("change_requests/merge_changes")
FINISH_MERGE = statement("change_requests/finish_merge")

MAX_SHOWN = 1000  # conflicts, culprits and skipped cells in one answer

log = structlog.get_logger(__name__)


class MergeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """`digest` is what was approved. `on_conflict` skip: what conflicts returns to the author's drafts, the rest is
    merged. `resolutions` are proposed, to be approved, where the merge meets these conflicts. `skip_conflict_check`
    (mine, whatever is there now) and `force_merge` (although rules are broken, but for those that are FATAL) are an
    ADMIN's, with a `reason`. `dry_run`: answer, and change nothing.
    """

    digest: Digest
    dry_run: bool = False
    on_conflict: Literal["refuse", "skip"] = "refuse"
    resolutions: Annotated[tuple[Proposal, ...], msgspec.Meta(max_length=10_000)] = ()
    merge_schema: bool = True
    skip_conflict_check: bool = False
    force_merge: bool = False
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)] | None = None


class DryRun(Exception):
    """Leaves the transaction with its answer and nothing else."""

    def __init__(self, answer: dict[str, Any]):
        self.answer = answer


class _Merged(NamedTuple):
    """What a merge wrote: the rows that it changed, those that were as they should be already, the new revision (None
    until upstream has it) and the validation that let it pass.
    """

    changed: list[Record]
    unchanged: list[str]
    commit_id: uuid.UUID
    revision: int | None
    validation: dict[str, Any]
    skipped: list[Conflict]


class _Refused(Exception):
    """Why a request is not merged, with what the merge has met of conflicts and what validation said."""

    def __init__(
        self, error: VanguardError, event: Event, conflicts: Sequence[Conflict] = (), run: dict[str, Any] | None = None
    ):
        self.error, self.event, self.conflicts, self.run = error, event, conflicts, run


async def merge(
    desk: Desk, person: Person, request_id: uuid.UUID, wanted: MergeRequest, at: datetime
) -> dict[str, Any] | VanguardError:
    """What the merge answers, or the error for which the request is in review again, inside the caller's transaction,
    which is to be kept in both cases. A merge of what is merged answers as the first one did.

    Raises ChangeRequestNotFound, Forbidden, InvalidTransition, PreviewStale, SchemaChanged and ValidationFailed for
    what changes nothing; DryRun with the answer of a rehearsal.
    """
    request = await lock_request(desk, person, request_id)
    if not request.is_merged_by(person):
        raise Forbidden("An approver of the change request merges it, or an ADMIN.")
    if request.result is not None:
        return request.result
    check_way(request, RequestState.MERGING)
    _check_wanted(desk, request, person, wanted)
    try:
        async with desk.connection.savepoint():
            return await _merge(desk, person, request, wanted, at)
    except _Refused as refused:
        if wanted.dry_run:
            raise refused.error from None
        return await _put_back(desk, person, request, refused, at, wanted.resolutions)
    except (VanguardError, DryRun):
        raise
    except Exception as failure:
        if wanted.dry_run or not _is_ours(failure):
            raise
        log_unexpected(failure, f"merge of {request.id}")
        error = MergeFailed("Nothing of the change request was applied; it is in review again.")
        return await _put_back(desk, person, request, _Refused(error, Event.MERGE_FAILED), at)


def _check_wanted(desk: Desk, request: ChangeRequest, person: Person, wanted: MergeRequest) -> None:
    if wanted.skip_conflict_check or wanted.force_merge:
        if not person.admin:
            raise Forbidden("skipConflictCheck and forceMerge are for an ADMIN.")
        if wanted.reason is None:
            message = "skipConflictCheck and forceMerge need a reason: it goes into the audit."
            raise ValidationFailed(message, errors=[Culprit(field="reason", code=Code.MISSING_FIELD, message=message)])
    check_words(reason=wanted.reason)
    version = request.validation["contractVersion"]
    if not wanted.merge_schema and version != desk.contract.version:
        raise SchemaChanged(
            f"The request was validated by version {version} of the contract; it is {desk.contract.version} now.",
            validatedBy=version,
            contractVersion=desk.contract.version,
        )


async def _merge(
    desk: Desk, person: Person, request: ChangeRequest, wanted: MergeRequest, at: datetime
) -> dict[str, Any]:
    local = desk.contract.upstream is None
    dataset = await (lock_dataset if local else read_dataset)(desk)
    workspace = await raise_workspace(desk, request.author)
    keys = await lock_changes(desk, request, inserting=True)
    if request.has_rows and not keys:
        raise SchemaChanged(
            "No cell of the request is in this version of the dataset: where ids are made of something else, they stay "
            "with the version before. Edit anew.",
            validatedBy=request.validation["contractVersion"],
            contractVersion=desk.contract.version,
        )
    conflicts = await find_conflicts(desk, request.id)
    seen = {row["digest"] for row in await desk.rows(LIST_APPROVALS, request_id=request.id)}
    if wanted.digest not in {digest_of(request, conflicts), *seen} or not wanted.digest.startswith(
        f"{request.iteration}."
    ):
        raise await stale(desk, request, wanted.digest, conflicts)
    skipped: list[Conflict] = []
    if conflicts and not wanted.skip_conflict_check:
        if wanted.on_conflict == "refuse":
            raise _conflicting(conflicts)
        cells = cells_of(desk.contract, conflicts)
        await give_back(desk, request.id, request.author, cells, session=None, version=workspace.revision, at=at)
        skipped = conflicts
    merged = await _write(desk, request, keys, wanted, skipped, at)
    result = _result(desk, merged, dataset.revision)
    if wanted.dry_run:
        raise DryRun(result)
    await _finish(desk, person, request, wanted, merged, result, at)
    return result


async def _write(
    desk: Desk,
    request: ChangeRequest,
    keys: list[str],
    wanted: MergeRequest,
    skipped: list[Conflict],
    at: datetime,
) -> _Merged:
    """The request's changes are on their way, or in the mirror; raises _Refused."""
    contract, commit_id = desk.contract, uuid.uuid4()
    local = contract.upstream is None
    records = await desk.rows(
        MERGE_CHANGES,
        request_id=request.id,
        groups=contract.cell_map,
        fields=list(contract.by_name),
        commit_id=commit_id,
        at=at,
        unruled_fields=unruled_fields(contract),
        upstream_only=list(contract.upstream_only),
        initial={} if local else contract.initial,
        force=wanted.skip_conflict_check,
    )
    left = [
        each
        for row in records
        if row["conflicts"]
        for each in conflicts_of(contract, row["row_key"], "update", row["conflicts"])
    ]
    if left:
        raise _conflicting(left)
    changed = [row for row in records if row["op"]]
    found = await check_changes(desk, [Changed(row["row_key"], row["before"], row["after"]) for row in changed])
    run = _run(contract.version, found, at)
    if broken := [each for each in found if _blocks(each, wanted)]:
        raise _invalid(broken, run)
    revision = None
    if local and changed:
        revision = await raise_revision(desk)
        await apply_changes(desk, commit_id, revision, keys, "merge", at)
    else:
        await fold(desk, request.author, keys)
        await image(desk, request.author, keys)
    unchanged = [row["row_key"] for row in records if not row["op"]]
    return _Merged(changed, unchanged, commit_id, revision, run, skipped)


async def _finish(
    desk: Desk,
    person: Person,
    request: ChangeRequest,
    wanted: MergeRequest,
    merged: _Merged,
    result: dict[str, Any],
    at: datetime,
) -> None:
    """The request is merged, and closed where there is no upstream to wait for."""
    local = desk.contract.upstream is None
    request = await move_request(desk, request, RequestState.MERGING, at)
    done = await desk.value(
        FINISH_MERGE,
        id=request.id,
        user=person.id,
        at=at,
        commit_id=merged.commit_id,
        revision=result["mergedRevision"],
        result=result,
        validation=merged.validation,
    )
    assert done is not None, "its lock holds the state"
    request = msgspec.structs.replace(request, state=RequestState.MERGED, commit_id=merged.commit_id)
    skipped = len(merged.skipped)
    await tell(desk, request, Event.MERGED, person.id, at, text=wanted.reason, diff=result["diff"], skipped=skipped)
    tell_rows(
        desk,
        EventType.MERGE,
        [row["row_key"] for row in merged.changed],
        at,
        actor=person.id,
        revision=merged.revision,
        commitId=str(merged.commit_id),
        requestId=str(request.id),
    )
    tell_rows(desk, EventType.OVERLAP, merged.unchanged, at, actor=person.id)
    for used, act in (
        (wanted.skip_conflict_check, Act.MERGE_CONFLICT_CHECK_SKIPPED),
        (wanted.force_merge, Act.MERGE_FORCED),
    ):
        if used:
            entry = Entry(
                at=at,
                actor=person.id,
                action=act,
                request_id=request.id,
                commit_id=merged.commit_id,
                reason=wanted.reason,
            )
            await record(desk, entry)
    if local:
        request = await move_request(desk, request, RequestState.CLOSED, at)
        await tell(desk, request, Event.CLOSED, person.id, at)
    log.info("request merged", request=str(request.id), rows=len(merged.changed), skipped=len(merged.skipped))


def _result(desk: Desk, merged: _Merged, before: int) -> dict[str, Any]:
    """What the merge answers; without an upstream all of it is in the mirror, and what changed nothing is, too."""
    local = desk.contract.upstream is None
    revision = (merged.revision or before) if local else None
    ops = Counter(row["op"] for row in merged.changed)
    left_out = [{"id": row["row_key"], "fields": row["left_out"]} for row in merged.changed if row["left_out"]]
    return {
        "status": "closed" if local else "merged",
        "mergedRevision": revision,
        "commitId": str(merged.commit_id),
        "rowsAffected": len(merged.changed),
        "skipped": merged.skipped[:MAX_SHOWN],
        "skippedCount": len(merged.skipped),
        "leftOut": left_out[:MAX_SHOWN],
        "diff": {
            "revisionBefore": before,
            "revisionAfter": revision,
            "rowsAdded": ops["insert"],
            "rowsUpdated": ops["update"],
            "rowsDeleted": ops["delete"],
            "cellsChanged": sum(row["cells"] for row in merged.changed),
        },
        "cleanup": True,
    }


# -- what keeps a request from being merged ----------------------------------------------------------------------------


async def _put_back(
    desk: Desk,
    person: Person,
    request: ChangeRequest,
    refused: _Refused,
    at: datetime,
    proposals: Sequence[Proposal] = (),
) -> VanguardError:
    """The request is in review again, with the reason; conflicts are resolved as is proposed, else as they were before.

    Raises ValidationFailed for a proposal that fits no conflict.
    """
    error = refused.error
    request = await move_request(desk, request, RequestState.MERGING, at)
    request = await move_request(desk, request, RequestState.PENDING_REVIEW, at, error.detail)
    conflicts = list(refused.conflicts)
    if refused.event is Event.CONFLICTED:
        # The merge that was taken back has let its locks go: others may have written since.
        await raise_workspace(desk, request.author)
        await lock_changes(desk, request, inserting=False)
        conflicts = await find_conflicts(desk, request.id)
        if proposals:
            met = [each for each in conflicts if each in refused.conflicts]
            wanted = ResolveRequest(resolutions=tuple(proposals))
            conflicts = await resolve(desk, request, person, met, wanted, at)
        conflicts = await resolve_as_before(desk, request, conflicts, at)
    request = await rewrite_request(desk, request, at, conflicts=conflicts, validation=refused.run)
    await tell(desk, request, refused.event, person.id, at, text=error.detail, conflicts=len(conflicts))
    digest = digest_of(request, await find_conflicts(desk, request.id))
    error.extra |= {"digest": digest, "iteration": request.iteration}
    return error


def _conflicting(conflicts: Sequence[Conflict]) -> _Refused:
    rows = frozenset(each["id"] for each in conflicts)
    error = MergeConflict(
        f"{len(rows)} rows changed meanwhile in cells of the change request. It is in review again, to resolve them.",
        rows=rows,
        conflicts=list(conflicts[:MAX_SHOWN]),
        conflictCount=len(conflicts),
    )
    return _Refused(error, Event.CONFLICTED, conflicts)


def _invalid(broken: Sequence[Found], run: dict[str, Any]) -> _Refused:
    conflicts = [
        {"id": key, "kind": ConflictKind.RULE, "field": finding.field, "message": finding.message}
        if other is None
        else {"id": key, "kind": ConflictKind.UNIQUE, "field": finding.field, "other": other}
        for key, finding, other in broken[:MAX_SHOWN]
    ]
    error = ValidationFailed(
        f"{len(broken)} rules of the contract are broken by now; nothing was merged.",
        errors=[finding.culprit(key, other) for key, finding, other in broken[:MAX_SHOWN]],
        runId=run["runId"],
        conflicts=conflicts,
    )
    return _Refused(error, Event.MERGE_FAILED, conflicts, run)


def _blocks(found: Found, wanted: MergeRequest) -> bool:
    severity = found.finding.severity
    return severity is Severity.FATAL or (severity is Severity.ERROR and not wanted.force_merge)


def _run(version: str, found: Sequence[Found], at: datetime) -> dict[str, Any]:
    """A validation as a session's preview keeps it."""
    findings = Findings()
    for key, finding, _ in found:
        findings.add(key, [finding])
    state = findings.state
    run: dict[str, Any] = msgspec.to_builtins(
        {
            "runId": uuid.uuid4(),
            "state": state,
            "contractVersion": version,
            "counts": findings.counts,
            "messages": findings.messages,
            "messageCount": len(found),
            "canProceed": state == "passed",
            "finishedAt": at,
            "reason": None,
            "decidedBy": None,
        }
    )
    return run


def _is_ours(failure: Exception) -> bool:
    """Whether a merge would fail so again: not for a lost connection, a deadlock or a time that ran out."""
    state = getattr(failure, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in {"22", "23", "42", "54", "XX"}
    return not isinstance(failure, (OSError, TimeoutError, InterfaceError, DatabaseUnavailable))
