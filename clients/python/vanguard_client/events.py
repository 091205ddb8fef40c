"""What a LiveTable tells: to `on_event`, and the ids of remote changes to `on_remote_change`.

`remote` says that it came from elsewhere; what this table wrote itself is not.
"""

import msgspec

from vanguard_client.errors import VanguardError
from vanguard_client.results import FieldConflict


class Inserted(msgspec.Struct, frozen=True, tag=True):
    """The table shows a record that it did not show before."""

    id: str
    remote: bool = False


class Updated(msgspec.Struct, frozen=True, tag=True):
    """These fields of a record show other values now."""

    id: str
    fields: list[str]
    remote: bool = False


class Deleted(msgspec.Struct, frozen=True, tag=True):
    """The table does not show the record any more: it is gone, or has left the selection."""

    id: str
    remote: bool = False


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Comes once behind the events of one moment, with the ids of them all."""

    ids: list[str]
    remote: bool = False


class PendingWrite(msgspec.Struct, frozen=True, tag=True):
    """A write is shown, and waits for the backend."""

    id: str


class WriteDone(msgspec.Struct, frozen=True, tag=True):
    """The backend has it."""

    id: str


class WriteFailed(msgspec.Struct, frozen=True, tag=True):
    """The backend does not take it, and it is shown no more. The writes behind it go on."""

    id: str
    error: VanguardError


class Identified(msgspec.Struct, frozen=True, tag=True):
    """A new record has got its real id."""

    temporary: str
    id: str


class Conflicting(msgspec.Struct, frozen=True, tag=True):
    """A change from elsewhere meets what an open edit has changed; `refresh_snapshot` returns the same."""

    id: str
    conflicts: list[FieldConflict]


class Connected(msgspec.Struct, frozen=True, tag=True):
    """The feed is followed, and all that was missed has been caught up with."""


class Disconnected(msgspec.Struct, frozen=True, tag=True):
    """The feed is not followed. `final`: nor will it be again by itself; else it is tried."""

    error: VanguardError
    final: bool = False


class Reloaded(msgspec.Struct, frozen=True, tag=True):
    """The feed could not go on from where it was (`reason`), so that everything was read anew."""

    reason: str


Event = (
    Inserted
    | Updated
    | Deleted
    | Changed
    | PendingWrite
    | WriteDone
    | WriteFailed
    | Identified
    | Conflicting
    | Connected
    | Disconnected
    | Reloaded
)
