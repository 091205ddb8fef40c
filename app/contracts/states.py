"""The states of a change, and the ways between them: the one place that says so, for Python; a test holds SQL to it."""

from enum import StrEnum


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
    # Approved and merged; sent back to its author. Nothing does either yet.
    S.IN_REVIEW: frozenset({S.COMMITTED, S.REJECTED}),
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
