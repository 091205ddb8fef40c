"""What becomes of the grid's columns when they drift: what they are called, what they hold, in which form and order."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from zlib import crc32

import msgspec
from msgspec.structs import replace

from app.simulator.lines import BY_ALIAS, COLUMNS, Column, Kind, Value

Form = Literal["text", "number", "date", "flag"]
FORMS: dict[Kind, Form] = {"key": "text", "text": "text", "number": "number", "date": "date", "flag": "flag"}
KEY = "{id}"  # in the text of a new column: the line's id


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A column as it is told: `column` has its alias and content of now; `first` is the alias that it had at first.

    `form`: another one than its own. `says`: of a new column, in every line.
    """

    column: Column
    first: str
    form: Form | None = None
    says: Any = msgspec.UNSET


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the columns do from now on, or after so many answers of the grid; by the aliases that they had at first.

    `of`: only answers count that filter the organization by it. `renamed`: by alias, another one. `dropped`: those that
    are gone. `added`: by alias, what every line says, with KEY in it; they stand `before` a column, or at the end.
    `retyped`: by alias, the form of what is said instead. `swapped`: pairs whose contents change places, in turn.
    """

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    of: str | None = None
    renamed: dict[str, str] = {}
    dropped: tuple[str, ...] = ()
    added: dict[str, Any] = {}
    before: str | None = None
    retyped: dict[str, Form] = {}
    swapped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError."""
        pairs = [alias for pair in self.swapped for alias in pair]
        for alias in (*self.renamed, *self.dropped, *self.retyped, *pairs):
            if alias not in BY_ALIAS:
                raise ValueError(f"{alias[:80]} is not a valid alias")
        cells = self.cells()
        if self.before not in (None, *(cell.first for cell in cells if cell.says is msgspec.UNSET)):
            raise ValueError(f"{str(self.before)[:80]} is not a valid alias to stand before")
        if len({cell.column.alias for cell in cells}) < len(cells):
            raise ValueError("Two columns have the same alias")

    def cells(self) -> list[Cell]:
        """The columns in their order."""
        held = dict(BY_ALIAS)
        for one, other in self.swapped:
            held[one], held[other] = held[other], held[one]
        kept = [self._cell(column, held[column.alias]) for column in COLUMNS if column.alias not in self.dropped]
        place = next((place for place, cell in enumerate(kept) if cell.first == self.before), len(kept))
        return [*kept[:place], *(_added(alias, says) for alias, says in self.added.items()), *kept[place:]]

    def known(self) -> Mapping[str, Column]:
        """What filters and sorts can name: not the new ones."""
        return {cell.column.alias: cell.column for cell in self.cells() if cell.says is msgspec.UNSET}

    def _cell(self, named: Column, held: Column) -> Cell:
        """Under the one's name, what the other one holds."""
        alias, form = self.renamed.get(named.alias, named.alias), self.retyped.get(named.alias)
        return Cell(
            column=replace(held, alias=alias, label=named.label),
            first=named.alias,
            form=None if form == FORMS.get(held.kind) else form,
        )


def _added(alias: str, says: Any) -> Cell:
    column = Column(name="pfa_id", field="pfaId", alias=alias, screen=None, kind="text", label=alias)
    return Cell(column=column, first=alias, says=says)


def _sum(value: Value) -> int:
    return crc32(str(value).encode())


# What is said instead of a value: always the same for the same one.
STAND_INS: dict[Form, Callable[[Value], Value]] = {
    "text": lambda value: f"about {value}",
    "number": lambda value: Decimal(_sum(value) % 100_000),
    "date": lambda value: date(2020, 1, 1) + timedelta(days=_sum(value) % 3_650),
    "flag": lambda value: _sum(value) % 2 == 0,
}
