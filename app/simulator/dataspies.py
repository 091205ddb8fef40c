"""Dataspies: which rows and columns a user of the grid does not see."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from app.simulator.filters import OTHER, Condition
from app.simulator.lines import BY_ALIAS, Column, Kind
from app.simulator.store import Unusable

TYPES: dict[Kind, Any] = {"number": Decimal | None, "date": date | None, "flag": bool, "time": datetime}


class Dataspy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`without`: aliases that no row has. `hides`: rows whose alias has this value, of the contract's type."""

    without: tuple[str, ...] = ()
    hides: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for alias in (*self.without, *self.hides):
            if alias not in BY_ALIAS:
                raise ValueError(f"{alias[:80]} is not a valid alias")
        self.conditions()

    def conditions(self) -> list[Condition]:
        """What holds of the rows that are seen."""
        return [_unlike(BY_ALIAS[alias], value) for alias, value in self.hides.items()]


class Dataspies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those that there are, by id, and which one applies where a request names none."""

    dataspies: dict[str, Dataspy] = {}
    default_dataspy: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.default_dataspy not in (None, *self.dataspies):
            raise ValueError(f"{self.default_dataspy} is not a valid dataspy")

    def find(self, key: Any) -> Dataspy:
        """The one of this id, or the default one; raises Unusable."""
        name = self.default_dataspy if key in (None, "") else str(key)
        if name is None:
            return Dataspy()
        if name not in self.dataspies:
            raise Unusable(f"{name[:80]} is not a valid dataspy")
        return self.dataspies[name]


def _unlike(column: Column, value: Any) -> Condition:
    return Condition(
        column=column, operator=OTHER, value=msgspec.convert(value, TYPES.get(column.kind, str | None), strict=False)
    )
