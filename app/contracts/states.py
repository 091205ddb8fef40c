"""The states of changes, edit sessions, validation runs and change requests, and the ways between them.

The one place that says so, for Python. The database holds sessions, runs and requests to `public.state_transition`,
which a test holds to what stands here; so it does with the statements that move a change.
"""

from enum import StrEnum
from typing import Any, NamedTuple


class ChangeState(StrEnum):
    """Where a change is on its way to the mirror. Each transition is one UPDATE that names the state it expects."""

    IN_REVIEW = "in_review"
    COMMITTED = "committed"
    SYNCING = "syncing"
    CONFLICT = "conflict"
    SYNC_ERROR = "sync_error"
    SYNCED = "synced"
    REJECTED = "rejected"
    DISCARDED = "discarded"


S = ChangeState

# In the outbox: to be pushed, or being pushed.
OUTBOX = frozenset({S.COMMITTED, S.SYNCING})
# Refused by upstream: a person has to look.
REFUSED = frozenset({S.CONFLICT, S.SYNC_ERROR})
# What `pending` is folded of.
UNFINISHED = frozenset({S.IN_REVIEW, *OUTBOX, *REFUSED})
# Nothing comes after these.
ENDED = frozenset(ChangeState) - UNFINISHED
# Ended, or refused: `settled_at` says since when.
SETTLED = ENDED | REFUSED

TRANSITIONS: dict[ChangeState, frozenset[ChangeState]] = {
    # Merged; there already as it is wanted; sent back to its author.
    S.IN_REVIEW: frozenset({S.COMMITTED, S.SYNCED, S.REJECTED}),
    # Claimed by a worker; applied at once where there is no upstream; taken back with a refused one before it.
    S.COMMITTED: frozenset({S.SYNCING, S.SYNCED, S.REJECTED}),
    # As upstream answers: done, again later, refused. Claimed by another worker, once its lease has run out.
    S.SYNCING: frozenset({S.SYNCED, S.COMMITTED, S.CONFLICT, S.SYNC_ERROR, S.SYNCING}),
    # Tried again, drafted over, discarded.
    S.CONFLICT: frozenset({S.COMMITTED, S.REJECTED, S.DISCARDED}),
    S.SYNC_ERROR: frozenset({S.COMMITTED, S.REJECTED, S.DISCARDED}),
    S.SYNCED: frozenset(),
    S.REJECTED: frozenset(),
    S.DISCARDED: frozenset(),
}


class SessionState(StrEnum):
    """Where an edit session is. `active` and `preview` may be edited, `submitted` is locked, the others are over."""

    ACTIVE = "active"
    PREVIEW = "preview"
    SUBMITTED = "submitted"
    ABORTED = "aborted"
    EXPIRED = "expired"


# A row with an edit of such a session belongs to it. One that may be edited is open only until it expires.
EDITABLE = frozenset({SessionState.ACTIVE, SessionState.PREVIEW})
OPEN = EDITABLE | {SessionState.SUBMITTED}

SESSION_TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    SessionState.ACTIVE: frozenset({SessionState.PREVIEW, SessionState.ABORTED, SessionState.EXPIRED}),
    # Back by an edit, on by its submission.
    SessionState.PREVIEW: frozenset(
        {SessionState.ACTIVE, SessionState.SUBMITTED, SessionState.ABORTED, SessionState.EXPIRED}
    ),
    # Its request was rejected or withdrawn.
    SessionState.SUBMITTED: frozenset({SessionState.ACTIVE}),
    SessionState.ABORTED: frozenset(),
    SessionState.EXPIRED: frozenset(),
}


class ValidationState(StrEnum):
    """How a validation run ended: `passed` with nothing above INFO, `partial_pass` with warnings, else `failed`."""

    NOT_STARTED = "not_started"
    IN_PROGRESS = "in_progress"
    PASSED = "passed"
    PARTIAL_PASS = "partial_pass"  # noqa: S105 - no password
    FAILED = "failed"


VALIDATION_TRANSITIONS: dict[ValidationState, frozenset[ValidationState]] = {
    ValidationState.NOT_STARTED: frozenset({ValidationState.IN_PROGRESS}),
    ValidationState.IN_PROGRESS: frozenset(
        {ValidationState.PASSED, ValidationState.PARTIAL_PASS, ValidationState.FAILED}
    ),
    # Its warnings were overridden with a reason, or rejected.
    ValidationState.PARTIAL_PASS: frozenset({ValidationState.PASSED, ValidationState.FAILED}),
    # Validated again.
    ValidationState.FAILED: frozenset({ValidationState.IN_PROGRESS}),
    ValidationState.PASSED: frozenset(),
}


class RequestState(StrEnum):
    """Where a change request is. It can be reviewed while it is `pending_review`, and merged once it is `approved`;
    `merged` waits for its changes to settle upstream.
    """

    PENDING_REVIEW = "pending_review"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    MERGING = "merging"
    MERGED = "merged"
    CLOSED = "closed"


REQUEST_TRANSITIONS: dict[RequestState, frozenset[RequestState]] = {
    RequestState.PENDING_REVIEW: frozenset({RequestState.APPROVED, RequestState.REJECTED, RequestState.WITHDRAWN}),
    # Back where cells of it stayed behind with a version of the contract.
    RequestState.APPROVED: frozenset({RequestState.MERGING, RequestState.PENDING_REVIEW}),
    # Back where the merge failed, or met conflicts.
    RequestState.MERGING: frozenset({RequestState.MERGED, RequestState.PENDING_REVIEW}),
    RequestState.MERGED: frozenset({RequestState.CLOSED}),
    # Submitted again.
    RequestState.REJECTED: frozenset({RequestState.PENDING_REVIEW}),
    RequestState.WITHDRAWN: frozenset({RequestState.PENDING_REVIEW}),
    RequestState.CLOSED: frozenset(),
}


class DatasetState(StrEnum):
    """Where a version of a dataset is in its life."""

    READ_ONLY = "READ_ONLY"
    SHADOW = "SHADOW"
    ACTIVE = "ACTIVE"
    DEPRECATED = "DEPRECATED"


class StateRights(NamedTuple):
    """What a state allows, as public.dataset_state has it.

    `queryable`: by everybody who may read, without asking for this version; `writable`: somebody writes to it, `edited`
    people (drafts, sessions, commits, merges), `filled` pulls and ingestion; `visible` in lists and by its plain name;
    `auto_joined`: looked at for join candidates.
    """

    queryable: bool
    writable: bool
    edited: bool
    filled: bool
    visible: bool
    auto_joined: bool


STATE_RIGHTS: dict[DatasetState, StateRights] = {
    DatasetState.READ_ONLY: StateRights(True, False, False, True, True, True),
    DatasetState.SHADOW: StateRights(False, True, False, True, False, False),
    DatasetState.ACTIVE: StateRights(True, True, True, True, True, True),
    DatasetState.DEPRECATED: StateRights(False, False, False, False, False, False),
}

DATASET_TRANSITIONS: dict[DatasetState, frozenset[DatasetState]] = {
    DatasetState.READ_ONLY: frozenset(),
    DatasetState.SHADOW: frozenset({DatasetState.ACTIVE}),
    # Deprecated; or its promotion rolled back.
    DatasetState.ACTIVE: frozenset({DatasetState.DEPRECATED, DatasetState.SHADOW}),
    DatasetState.DEPRECATED: frozenset({DatasetState.ACTIVE}),
}


class SystemMode(StrEnum):
    """Whether contracts can be registered, and records ingested, replayed and backfilled; it stops nothing else."""

    READ_ONLY = "READ_ONLY"
    INGESTION_READY = "INGESTION_READY"


class ReportState(StrEnum):
    """Where a report of drift is: `open` until a person decides, it applies itself, or the drift is gone; and again
    when the version that accepting it made is deleted.
    """

    OPEN = "open"
    APPLIED = "applied"
    ACCEPTED = "accepted"
    MAPPED = "mapped"
    REJECTED = "rejected"
    GONE = "gone"


REPORT_TRANSITIONS: dict[ReportState, frozenset[ReportState]] = {
    state: frozenset(ReportState) - {ReportState.OPEN} if state is ReportState.OPEN else frozenset()
    for state in ReportState
} | {ReportState.ACCEPTED: frozenset({ReportState.OPEN})}


class JoinState(StrEnum):
    """Where a join is: questions take it while it is `accepted`."""

    ACCEPTED = "accepted"
    DEPRECATED = "deprecated"


JOIN_TRANSITIONS: dict[JoinState, frozenset[JoinState]] = {
    JoinState.ACCEPTED: frozenset({JoinState.DEPRECATED}),
    # Accepted again it is another version.
    JoinState.DEPRECATED: frozenset(),
}


MACHINES: dict[str, dict[Any, frozenset[Any]]] = {
    "session": SESSION_TRANSITIONS,
    "validation": VALIDATION_TRANSITIONS,
    "request": REQUEST_TRANSITIONS,
    "dataset": DATASET_TRANSITIONS,
    "drift": REPORT_TRANSITIONS,
    "join": JOIN_TRANSITIONS,
}

# (machine, from, to) of every way, as public.state_transition has them.
WAYS = frozenset(
    (machine, str(was), str(now)) for machine, ways in MACHINES.items() for was, after in ways.items() for now in after
)
