"""What can go wrong.

VanguardError
  RecordNotFound      a patch, or an edit, of a record that is not there
  InvalidRecord       a row does not fit the record type
  EditInProgress      the record has an edit already
  EditClosed          the edit was released
  TableClosed         the table is not open
  QueueFull           as many writes wait as may
  Unsaved             the table was closed before its writes reached the backend
  TimedOut            it may still happen, but not in the time that was given
  Unavailable         nobody answers, or is too busy: worth another try
  Refused             the answer is no, and will be
    Unauthorized      the token is not taken
    Forbidden         it is, but not for this
    Conflicted        others have changed the same fields
    FeedExpired       the feed does not go back that far
"""

from collections.abc import Sequence
from typing import Any

from vanguard_client.results import FieldConflict


class VanguardError(Exception):
    """Anything that this library raises by itself."""


class RecordNotFound(VanguardError):
    """There is no record of this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no record {id!r}.")
        self.id = id


class InvalidRecord(VanguardError):
    """A row does not fit the type that records have, or a record cannot be written as JSON."""


class EditInProgress(VanguardError):
    """The record is being edited through the same table; release that edit first."""

    def __init__(self, id: str) -> None:
        super().__init__(f"The record {id!r} is being edited already. Release that edit first.")
        self.id = id


class EditClosed(VanguardError):
    """The edit was released, or its table closed."""


class TableClosed(VanguardError):
    """The table is not open: use it inside `async with`."""


class QueueFull(VanguardError):
    """As many writes wait for the backend as may. Nothing of this write is kept: try again once some are through."""

    def __init__(self, bound: int) -> None:
        super().__init__(f"{bound} writes wait for the backend already, and no more may. This one was not taken.")
        self.bound = bound


class Unsaved(VanguardError):
    """The table was closed while these records had writes that the backend has not answered."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(f"Closed with writes that the backend has not answered: {', '.join(ids[:10])}.")
        self.ids = list(ids)


class TimedOut(VanguardError):
    """The time that was given is over. A write that was taken goes on in the background."""


class Unavailable(VanguardError):
    """Nobody answers, or is too busy to. `retry_after`: seconds that the server asked to be left alone for."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(VanguardError):
    """The answer is no, and would be again. `errors` names each culprit: `code`, `message`, `field` and so on."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "REFUSED",
        status: int | None = None,
        errors: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.status, self.errors, self.request_id = code, status, list(errors), request_id


class Unauthorized(Refused):
    """The token is not taken, and neither is a new one."""


class Forbidden(Refused):
    """Not for this caller."""


class Conflicted(Refused):
    """Others have changed the same fields since; nothing was written."""

    def __init__(self, conflicts: Sequence[FieldConflict], **more: Any) -> None:
        fields = ", ".join(each.field or "the whole record" for each in conflicts)
        super().__init__(f"Others have changed it since: {fields}.", **{"code": "MERGE_CONFLICT", **more})
        self.conflicts = list(conflicts)


class FeedExpired(Refused):
    """The feed cannot go on from a position. `reason` says why; `position` is the present one."""

    def __init__(self, message: str, *, reason: str, position: str, **more: Any) -> None:
        super().__init__(message, **more)
        self.reason, self.position = reason, position
