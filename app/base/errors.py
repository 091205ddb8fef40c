"""The tree of domain errors. Nothing here knows HTTP: web/problems.py alone does.

    VanguardError
    |-- MalformedRequest: InvalidFilter, InvalidCursor, NothingSelected
    |-- Unauthenticated: TokenMissing, TokenExpired; InvalidCredentials
    |-- Forbidden: WrongIdentityProvider; ApprovalRequired
    |-- NotFound: DatasetNotFound, RowNotFound, MemberNotFound, NoDrafts, NothingFailed, RunNotFound, SessionNotFound,
    |             ChangeRequestNotFound, CommitNotFound, ResolutionNotFound, EventNotFound, ContractNotFound,
    |             InvitationNotFound, JoinNotFound
    |-- NoUpstream, HasUpstream, SyncPaused, RunOver, VersionConflict, MergeConflict, AlreadyExists, LastAdmin,
    |   ManagedOrganization, AccountExists
    |-- InvalidTransition: DatasetTransitionRefused; RowInOtherSession, SessionFull, NothingToUndo, NothingToRedo
    |-- PreviewStale, SchemaChanged, NothingToRevert
    |-- DatasetReadOnly, SystemReadOnly, VersionInUse, QuotaExceeded
    |-- PreconditionFailed
    |-- FeedExpired
    |-- ValidationFailed, GroupSplit, InvalidCandidate, NotUnique, IdempotencyKeyReused
    |-- InvalidQuery: GroupByMissing, FanOut, AmbiguousJoin; QueryTooLarge
    |-- UnreadableQuery, UnknownWord, AmbiguousQuery
    |-- BodyTimedOut
    |-- TooManyAttempts, TooManyRequests, TooManyKeys
    |-- MergeFailed
    `-- DatabaseUnavailable, DatabaseBusy, BodiesBusy, ExportsBusy, LoginsBusy, StreamsBusy, UploadsBusy,
                             IdentityProviderUnavailable

What framework and server refuse by themselves has its classes in web/problems.py.

ConfigurationError stands apart: it is told to operators, never to callers.
"""

from collections.abc import Sequence
from enum import StrEnum, auto
from typing import Any, ClassVar

import msgspec


class Kind(StrEnum):
    """What sort of refusal an error is; web/problems.py gives each its status."""

    MALFORMED = auto()
    UNAUTHENTICATED = auto()
    FORBIDDEN = auto()
    MISSING = auto()
    NOT_ALLOWED = auto()
    CONFLICT = auto()
    PRECONDITION = auto()
    BODY_TIMED_OUT = auto()
    GONE = auto()
    TOO_LARGE = auto()
    TARGET_TOO_LONG = auto()
    UNSUPPORTED = auto()
    INVALID = auto()
    THROTTLED = auto()
    HEADERS_TOO_LARGE = auto()
    INTERNAL = auto()
    UNAVAILABLE = auto()
    TIMED_OUT = auto()


class Code(StrEnum):
    """What can be wrong with one thing; beside these, the rules of a contract name their own."""

    AMBIGUOUS_VALUE = "AMBIGUOUS_VALUE"
    CELL_NOT_FOUND = "CELL_NOT_FOUND"
    CONFLICTING_RECORD = "CONFLICTING_RECORD"
    DUPLICATE_MEMBER = "DUPLICATE_MEMBER"
    DUPLICATE_NAME = "DUPLICATE_NAME"
    DUPLICATE_ROW = "DUPLICATE_ROW"
    INCOMPATIBLE_CHANGE = "INCOMPATIBLE_CHANGE"
    INVALID_APPROVER = "INVALID_APPROVER"
    INVALID_CONTRACT = "INVALID_CONTRACT"
    INVALID_ENUM_VALUE = "INVALID_ENUM_VALUE"
    INVALID_FIELD = "INVALID_FIELD"
    INVALID_FILTER = "INVALID_FILTER"
    INVALID_ID = "INVALID_ID"
    INVALID_KEY = "INVALID_KEY"
    INVALID_MEASURE = "INVALID_MEASURE"
    INVALID_NAME = "INVALID_NAME"
    INVALID_PARAMETER = "INVALID_PARAMETER"
    INVALID_RANGE = "INVALID_RANGE"
    INVALID_RESOLUTION = "INVALID_RESOLUTION"
    INVALID_RULE = "INVALID_RULE"
    INVALID_SEMANTICS = "INVALID_SEMANTICS"
    INVALID_TYPE = "INVALID_TYPE"
    INVALID_VALUE = "INVALID_VALUE"
    INVALID_VERSION = "INVALID_VERSION"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    MALFORMED_ROW = "MALFORMED_ROW"
    MISSING_FIELD = "MISSING_FIELD"
    MISSING_MEMBER = "MISSING_MEMBER"
    NOT_INDEXED = "NOT_INDEXED"
    READ_ONLY_FIELD = "READ_ONLY_FIELD"
    REFUSED_MEMBER = "REFUSED_MEMBER"
    ROW_DELETED = "ROW_DELETED"
    ROW_EXISTS = "ROW_EXISTS"
    ROW_IN_OTHER_SESSION = "ROW_IN_OTHER_SESSION"
    ROW_NOT_FOUND = "ROW_NOT_FOUND"
    ROW_NOT_IN_SESSION = "ROW_NOT_IN_SESSION"
    TOO_MANY_DRAFTS = "TOO_MANY_DRAFTS"
    RULE_FAILED = "RULE_FAILED"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    UNKNOWN_MEMBER = "UNKNOWN_MEMBER"
    VERSION_CONFLICT = "VERSION_CONFLICT"


class Culprit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One thing that is wrong: where (`id` of the row, `field`, or request `parameter`) and why.

    `other`: the id of the row that has the value already.
    """

    code: str
    message: str
    id: str | None = None
    field: str | None = None
    parameter: str | None = None
    other: str | None = None


class ConfigurationError(Exception):
    """A setting or an installation is not usable; the message says which and what to do."""


class VanguardError(Exception):
    """A refusal that a person can act on.

    `code` is stable and UPPER_SNAKE, `kind` what sort of refusal it is, `detail` the sentence for this case.
    `extra` goes into the answer beside them.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    title: ClassVar[str] = "Something went wrong on our side"
    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, detail: str, *, errors: Sequence[Culprit] = (), retry_after: int | None = None, **extra: Any):
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = extra


class MalformedRequest(VanguardError):
    """The request cannot be read: syntax, unknown parameter, wrong type."""

    code, title, kind = "MALFORMED_REQUEST", "The request cannot be read", Kind.MALFORMED


class InvalidFilter(MalformedRequest):
    code, title = "INVALID_FILTER", "A filter, sort or page parameter is not usable"


class InvalidCursor(MalformedRequest):
    code, title = "INVALID_CURSOR", "The cursor is not usable"


class NothingSelected(MalformedRequest):
    code, title = "NOTHING_SELECTED", "The request does not say what to act on"


class Unauthenticated(VanguardError):
    """There is no token that counts; `challenge` is its `error` in the answer's header (RFC 6750)."""

    code, title, kind = "TOKEN_INVALID", "The token is not valid", Kind.UNAUTHENTICATED
    challenge: ClassVar[str | None] = "invalid_token"


class TokenMissing(Unauthenticated):
    code, title = "TOKEN_MISSING", "Who are you?"
    challenge = None


class TokenExpired(Unauthenticated):
    code, title = "TOKEN_EXPIRED", "The token has expired"


class InvalidCredentials(VanguardError):
    code, title, kind = "INVALID_CREDENTIALS", "Email or password is wrong", Kind.UNAUTHENTICATED


class Forbidden(VanguardError):
    code, title, kind = "FORBIDDEN", "Not allowed", Kind.FORBIDDEN


class WrongIdentityProvider(Forbidden):
    code, title = "WRONG_IDENTITY_PROVIDER", "This organization takes tokens of its identity provider only"


class ApprovalRequired(VanguardError):
    code, title, kind = "APPROVAL_REQUIRED", "This dataset wants a change request", Kind.FORBIDDEN


class InvalidQuery(VanguardError):
    code, title, kind = "INVALID_QUERY", "The question cannot be asked", Kind.INVALID


class GroupByMissing(InvalidQuery):
    code, title = "GROUP_BY_MISSING", "A field stands beside aggregates"


class FanOut(InvalidQuery):
    """A figure would be multiplied by a join."""

    code, title = "FAN_OUT", "A figure would count rows several times"


class AmbiguousJoin(InvalidQuery):
    code, title = "AMBIGUOUS_JOIN", "Several joins lead there"


class NotFound(VanguardError):
    code, title, kind = "NOT_FOUND", "There is nothing here", Kind.MISSING


class DatasetNotFound(NotFound):
    code, title = "DATASET_NOT_FOUND", "No such dataset"


class RowNotFound(NotFound):
    code, title = "ROW_NOT_FOUND", "No such row"


class MemberNotFound(NotFound):
    code, title = "MEMBER_NOT_FOUND", "No such member"


class NoDrafts(NotFound):
    code, title = "NO_DRAFTS", "There is nothing to commit"


class NothingFailed(NotFound):
    code, title = "NOTHING_FAILED", "There is nothing to retry"


class RunNotFound(NotFound):
    code, title = "RUN_NOT_FOUND", "No such run"


class SessionNotFound(NotFound):
    code, title = "SESSION_NOT_FOUND", "No such session"


class ChangeRequestNotFound(NotFound):
    code, title = "CHANGE_REQUEST_NOT_FOUND", "No such change request"


class CommitNotFound(NotFound):
    code, title = "COMMIT_NOT_FOUND", "No such commit"


class ResolutionNotFound(NotFound):
    code, title = "RESOLUTION_NOT_FOUND", "No such resolution"


class ContractNotFound(NotFound):
    code, title = "CONTRACT_NOT_FOUND", "No such contract"


class DriftReportNotFound(NotFound):
    code, title = "DRIFT_REPORT_NOT_FOUND", "No such report of drift"


class PreviewNotFound(NotFound):
    code, title = "PREVIEW_NOT_FOUND", "There is no such preview"


class ExecutionNotFound(NotFound):
    code, title = "EXECUTION_NOT_FOUND", "There is no such execution"


class InvitationNotFound(NotFound):
    code, title = "INVITATION_NOT_FOUND", "No such invitation"


class JoinNotFound(NotFound):
    code, title = "JOIN_NOT_FOUND", "No such join"


class InvalidTransition(VanguardError):
    """`state` is the one that the session, the change request or the dataset is in."""

    code, title, kind = "INVALID_TRANSITION", "That is not possible in this state", Kind.CONFLICT


class DatasetTransitionRefused(InvalidTransition):
    """There is no such way between states of a dataset."""

    kind = Kind.MALFORMED


class RowInOtherSession(VanguardError):
    code, title, kind = "ROW_IN_OTHER_SESSION", "The row belongs to another session of yours", Kind.CONFLICT


class SessionFull(VanguardError):
    code, title, kind = "SESSION_FULL", "The session has as many edits as it can hold", Kind.CONFLICT


class NothingToUndo(VanguardError):
    code, title, kind = "NOTHING_TO_UNDO", "There is nothing to undo", Kind.CONFLICT


class NothingToRedo(VanguardError):
    code, title, kind = "NOTHING_TO_REDO", "There is nothing to redo", Kind.CONFLICT


class PreviewStale(VanguardError):
    """`digest` is the one that fits now; beside it stands what has changed."""

    code, title, kind = "PREVIEW_STALE", "What you saw has changed since", Kind.CONFLICT


class PreviewExpired(VanguardError):
    code, title, kind = "PREVIEW_EXPIRED", "The preview's time is over", Kind.GONE


class OverrideRequired(VanguardError):
    """`warnings`: the guards that hold it."""

    code, title, kind = "OVERRIDE_REQUIRED", "A guard holds the question", Kind.CONFLICT


class QueryTooLarge(VanguardError):
    code, title, kind = "QUERY_TOO_LARGE", "The question takes more than may be", Kind.INVALID


class SchemaChanged(VanguardError):
    code, title, kind = "SCHEMA_CHANGED", "The contract has another version by now", Kind.CONFLICT


class SchemaDrift(VanguardError):
    """`report` is the id of the report that somebody has to decide on."""

    code, title, kind = "SCHEMA_DRIFT", "What came is not as the contract has it", Kind.CONFLICT


class DatasetReadOnly(VanguardError):
    """`state` is the one that the dataset is in."""

    code, title, kind = "DATASET_READ_ONLY", "The dataset takes no such writes in its state", Kind.CONFLICT


class SystemReadOnly(VanguardError):
    code, title, kind = "SYSTEM_READ_ONLY", "The system takes no contracts and no records", Kind.CONFLICT


class VersionInUse(VanguardError):
    code, title, kind = "VERSION_IN_USE", "Somebody uses this version", Kind.CONFLICT


class QuotaExceeded(VanguardError):
    code, title, kind = "QUOTA_EXCEEDED", "There is as much as there may be", Kind.CONFLICT


class NothingToRevert(VanguardError):
    code, title, kind = "NOTHING_TO_REVERT", "There is nothing to revert", Kind.CONFLICT


class NoUpstream(VanguardError):
    code, title, kind = "NO_UPSTREAM", "No system of record is connected", Kind.CONFLICT


class HasUpstream(VanguardError):
    code, title, kind = "HAS_UPSTREAM", "The dataset has a system of record", Kind.CONFLICT


class SyncPaused(VanguardError):
    code, title, kind = "SYNC_PAUSED", "Synchronization is paused", Kind.CONFLICT


class RunOver(VanguardError):
    code, title, kind = "RUN_OVER", "The run is over", Kind.CONFLICT


class VersionConflict(VanguardError):
    code, title, kind = "VERSION_CONFLICT", "The draft changed meanwhile", Kind.CONFLICT


class MergeConflict(VanguardError):
    """`rows`: the ids of all rows in conflict, of which the answer shows a part."""

    code, title, kind = "MERGE_CONFLICT", "Others changed the same cells", Kind.CONFLICT

    def __init__(self, detail: str, *, rows: frozenset[str], **more: Any):
        super().__init__(detail, **more)
        self.rows = rows


class AlreadyExists(VanguardError):
    code, title, kind = "ALREADY_EXISTS", "It exists already", Kind.CONFLICT


class AccountExists(VanguardError):
    code, title, kind = "ACCOUNT_EXISTS", "There is an account of this address", Kind.CONFLICT


class LastAdmin(VanguardError):
    code, title, kind = "LAST_ADMIN", "An organization keeps at least one ADMIN", Kind.CONFLICT


class ManagedOrganization(VanguardError):
    code, title, kind = "MANAGED_ORGANIZATION", "Its identity provider says who belongs to it", Kind.CONFLICT


class PreconditionFailed(VanguardError):
    code, title, kind = "PRECONDITION_FAILED", "The row changed meanwhile", Kind.PRECONDITION


class EventNotFound(NotFound):
    code, title = "EVENT_NOT_FOUND", "No such event"


class FeedExpired(VanguardError):
    code, title, kind = "FEED_EXPIRED", "The feed cannot go on from there", Kind.GONE


class ValidationFailed(VanguardError):
    code, title, kind = "VALIDATION_FAILED", "Some values cannot be accepted", Kind.INVALID


class GroupSplit(VanguardError):
    """`fields` are those of the group."""

    code, title, kind = "GROUP_SPLIT", "These fields are merged together or not at all", Kind.INVALID


class InvalidCandidate(VanguardError):
    code, title, kind = "INVALID_CANDIDATE", "That is no candidate of a join", Kind.INVALID


class NotUnique(VanguardError):
    code, title, kind = "NOT_UNIQUE", "The parent of the join is not unique", Kind.INVALID


class UnreadableQuery(VanguardError):
    """`word` begins at `place` of the sentence; `expected` could stand there; `examples` can be read."""

    code, title, kind = "UNREADABLE_QUERY", "The question cannot be read", Kind.INVALID


class UnknownWord(VanguardError):
    """`word` begins at `place` of the sentence; `candidates` are names like it."""

    code, title, kind = "UNKNOWN_WORD", "A word of the question names nothing", Kind.INVALID


class AmbiguousQuery(VanguardError):
    """`candidates` says each of the things that are meant so that it is the only one."""

    code, title, kind = "AMBIGUOUS_QUERY", "The question could mean several things", Kind.INVALID


class MergeFailed(VanguardError):
    code, title, kind = "MERGE_FAILED", "The merge failed, and nothing was applied", Kind.INTERNAL


class IdempotencyKeyReused(VanguardError):
    code, title, kind = "IDEMPOTENCY_KEY_REUSED", "The key belongs to another request", Kind.INVALID


class BodyTimedOut(VanguardError):
    code, title, kind = "BODY_TIMED_OUT", "The body took too long to come", Kind.BODY_TIMED_OUT


class RefusedBefore(VanguardError):
    """The key's first answer was a refusal too large to be kept, and the request would pass by now."""

    code, title, kind = "REFUSED_BEFORE", "The request was refused the first time", Kind.CONFLICT


class TooManyKeys(VanguardError):
    code, title, kind = "TOO_MANY_KEYS", "No more answers can be kept for you", Kind.THROTTLED


class TooManyAttempts(VanguardError):
    code, title, kind = "TOO_MANY_ATTEMPTS", "Slow down", Kind.THROTTLED


class TooManyRequests(VanguardError):
    """Of any kind; failed logins are TooManyAttempts."""

    code, title, kind = "TOO_MANY_REQUESTS", "Slow down", Kind.THROTTLED


class DatabaseUnavailable(VanguardError):
    code, title, kind = "DATABASE_UNAVAILABLE", "The database cannot be reached", Kind.UNAVAILABLE


class DatabaseBusy(VanguardError):
    code, title, kind = "DATABASE_BUSY", "The database is busy", Kind.UNAVAILABLE


class BodiesBusy(VanguardError):
    code, title, kind = "BODIES_BUSY", "Too many bodies at once", Kind.UNAVAILABLE


class UploadsBusy(VanguardError):
    code, title, kind = "UPLOADS_BUSY", "Too many uploads at once", Kind.UNAVAILABLE


class ExportsBusy(VanguardError):
    code, title, kind = "EXPORTS_BUSY", "Too many exports at once", Kind.UNAVAILABLE


class QueriesBusy(VanguardError):
    code, title, kind = "QUERIES_BUSY", "As many questions run as may", Kind.UNAVAILABLE


class LoginsBusy(VanguardError):
    code, title, kind = "LOGINS_BUSY", "Too many logins at once", Kind.UNAVAILABLE


class StreamsBusy(VanguardError):
    code, title, kind = "STREAMS_BUSY", "Too many streams are open", Kind.UNAVAILABLE


class IdentityProviderUnavailable(VanguardError):
    code, title, kind = "IDENTITY_PROVIDER_UNAVAILABLE", "The identity provider cannot be reached", Kind.UNAVAILABLE
