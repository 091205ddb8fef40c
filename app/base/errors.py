"""The tree of domain errors. Nothing here knows HTTP: problems.py alone does."""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec


class Culprit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One thing that is wrong: where (`id` of the row, `field`, or request `parameter`) and why."""

    code: str
    message: str
    id: str | None = None
    field: str | None = None
    parameter: str | None = None


class ConfigurationError(Exception):
    """A setting or an installation is not usable; the message says which and what to do."""


class VanguardError(Exception):
    """A refusal that a person can act on.

    `code` is stable and UPPER_SNAKE, `kind` one of the keys of problems.STATUS, `detail` the sentence for this case.
    `extra` goes into the answer beside them.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    title: ClassVar[str] = "Something went wrong on our side"
    kind: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, errors: Sequence[Culprit] = (), retry_after: int | None = None, **extra: Any):
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = extra


class MalformedRequest(VanguardError):
    """The request cannot be read: syntax, unknown parameter, wrong type."""

    code, title, kind = "MALFORMED_REQUEST", "The request cannot be read", "malformed"


class InvalidFilter(MalformedRequest):
    code, title = "INVALID_FILTER", "A filter, sort or page parameter is not usable"


class InvalidCursor(MalformedRequest):
    code, title = "INVALID_CURSOR", "The cursor is not usable"


class NothingSelected(MalformedRequest):
    code, title = "NOTHING_SELECTED", "The request does not say what to act on"


class Unauthenticated(VanguardError):
    code, title, kind = "UNAUTHENTICATED", "Who are you?", "unauthenticated"


class InvalidCredentials(VanguardError):
    code, title, kind = "INVALID_CREDENTIALS", "Email or password is wrong", "unauthenticated"


class Forbidden(VanguardError):
    code, title, kind = "FORBIDDEN", "Not allowed", "forbidden"


class ApprovalRequired(VanguardError):
    code, title, kind = "APPROVAL_REQUIRED", "This dataset wants a change request", "forbidden"


class NotFound(VanguardError):
    code, title, kind = "NOT_FOUND", "There is nothing here", "missing"


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


class NoUpstream(VanguardError):
    code, title, kind = "NO_UPSTREAM", "No system of record is connected", "conflict"


class VersionConflict(VanguardError):
    code, title, kind = "VERSION_CONFLICT", "The draft changed meanwhile", "conflict"


class MergeConflict(VanguardError):
    """`rows`: the ids of all rows in conflict, of which the answer shows a part."""

    code, title, kind = "MERGE_CONFLICT", "Others changed the same cells", "conflict"

    def __init__(self, detail: str, *, rows: frozenset[str], **more: Any):
        super().__init__(detail, **more)
        self.rows = rows


class AlreadyExists(VanguardError):
    code, title, kind = "ALREADY_EXISTS", "It exists already", "conflict"


class LastAdmin(VanguardError):
    code, title, kind = "LAST_ADMIN", "An organization keeps at least one ADMIN", "conflict"


class PreconditionFailed(VanguardError):
    code, title, kind = "PRECONDITION_FAILED", "The row changed meanwhile", "precondition"


class ValidationFailed(VanguardError):
    code, title, kind = "VALIDATION_FAILED", "Some values cannot be accepted", "invalid"


class IdempotencyKeyReused(VanguardError):
    code, title, kind = "IDEMPOTENCY_KEY_REUSED", "The key belongs to another request", "invalid"


class TooManyAttempts(VanguardError):
    code, title, kind = "TOO_MANY_ATTEMPTS", "Slow down", "throttled"


class DatabaseUnavailable(VanguardError):
    code, title, kind = "DATABASE_UNAVAILABLE", "The database cannot be reached", "unavailable"


class DatabaseBusy(VanguardError):
    code, title, kind = "DATABASE_BUSY", "The database is busy", "unavailable"


class IdentityProviderUnavailable(VanguardError):
    code, title, kind = "IDENTITY_PROVIDER_UNAVAILABLE", "The identity provider cannot be reached", "unavailable"
