"""What a save comes to, and what a conflict is."""

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from vanguard_client.errors import VanguardError


class FieldConflict(msgspec.Struct, frozen=True, kw_only=True):
    """A field that was changed here and elsewhere.

    `field` is None for the whole record, then `theirs` is None if it is gone there. The name of an atomic group stands
    for its fields, with objects as values.
    """

    id: str
    field: str | None
    base: Any
    theirs: Any
    mine: Any


class Saved(msgspec.Struct, frozen=True, tag=True):
    """What was edited is written. `settled` is False while it is on its way to the system of record."""

    settled: bool = True


class Created(msgspec.Struct, frozen=True, tag=True):
    """The record exists. While `settled` is False its id is a temporary one, and `Identified` brings the real one."""

    id: str
    settled: bool = True


class PartialSave(msgspec.Struct, frozen=True, tag=True):
    """These fields are not as they were sent. The snapshot has what they are, the local state what was sent."""

    fields: list[str]


class Conflict(msgspec.Struct, frozen=True, tag=True):
    """Nothing was written, since others changed the same fields.

    The snapshot has theirs by now: `save()` again keeps mine, `revert()` takes theirs.
    """

    conflicts: list[FieldConflict]

    @property
    def fields(self) -> list[str]:
        """The fields in conflict; none for a conflict of the whole record."""
        return [each.field for each in self.conflicts if each.field is not None]


class Error(msgspec.Struct, frozen=True, tag=True):
    """It was not written, or not in the time that was given. The local state is as it was."""

    error: "VanguardError"


SaveResult = Saved | Created | PartialSave | Conflict | Error
