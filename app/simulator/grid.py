"""A page of the grid: what is asked for, and the bytes of the answer in whichever way of writing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec.structs import astuple

from app.base import exact_json
from app.simulator.filters import MONTHS, Filter
from app.simulator.lines import COLUMNS, Column, Line, Value
from app.simulator.selection import Selector, Sort
from app.simulator.store import Store, Unusable

Shape = Literal["D", "CELL", "DATARECORD"]
Damage = Mapping[str, Any]  # alias -> the value that is told instead

GRID_NAME, GRID_ID = "CUPFAG", "100541"
HEADED, HEADLESS = "LIST.HEAD_DATA.STORED", "LIST.DATA_ONLY.STORED"
MOST_ROWS = 10_000


class Grid(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """Which grid, and which page of it."""

    grid_name: str = GRID_NAME
    grid_id: str | int = GRID_ID
    number_of_rows_first_returned: int = 100
    cursor_position: int = 1


class Filters(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """The list of filters."""

    maddon_filter: tuple[Filter, ...] = ()


class GridRequest(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A request to the grid."""

    grid: Grid
    request_type: str = HEADED
    addon_sort: Sort | None = None
    addon_filter: Filter | None = None
    multiaddon_filters: Filters | None = None

    @property
    def filters(self) -> list[tuple[Filter, ...]]:
        """The single filter and the list; both have to hold."""
        single = (self.addon_filter,) if self.addon_filter else ()
        several = self.multiaddon_filters.maddon_filter if self.multiaddon_filters else ()
        return [group for group in (single, several) if group]


class Writing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are written. `typed`: numbers and flags as those of JSON; `without`: aliases that no row has."""

    shape: Shape = "D"
    dates: Literal["text", "iso"] = "text"
    numbers: Literal["grouped", "plain"] = "grouped"
    flags: Literal["Y/N", "+/-"] = "Y/N"
    typed: bool = False
    without: tuple[str, ...] = ()


class Writer:
    """Writes lines in one way. What is often the same is written once."""

    def __init__(self, writing: Writing):
        self.writing = writing
        self._columns = [(index, column) for index, column in enumerate(COLUMNS) if column.alias not in writing.without]
        self._texts = [(index, _text(column, writing)) for index, column in self._columns]
        self._template = _template(writing.shape, self._columns)

    def row(self, line: Line, damage: Damage | None = None) -> bytes:
        """The line as JSON text."""
        values = astuple(line)
        texts = [text(values[index]) for index, text in self._texts]
        for place, (_, column) in enumerate(self._columns):
            if damage and column.alias in damage:
                texts[place] = exact_json.encode(damage[column.alias]).decode()
        return (self._template % tuple(texts)).encode()

    def fields(self) -> list[dict[str, str]]:
        """The headers."""
        return [
            {"aliasnum": str(index + 1), "name": column.alias, "label": column.label} for index, column in self._columns
        ]


class Pages:
    """Answers requests to the grid. `kept`: rows once written are kept until their line changes."""

    def __init__(self, store: Store):
        self._store = store
        self._selector = Selector(store)
        self._writers: dict[Writing, Writer] = {}
        self._kept: dict[Writing, dict[str, dict[str, tuple[Line, bytes]]]] = {}

    def render(self, writing: Writing) -> None:
        """Write every row now, and from now on keep what is written."""
        self._kept.setdefault(writing, {})
        for line, _ in self._store.records():
            self._row(line, writing)

    def answer(
        self,
        request: GridRequest,
        writing: Writing,
        *,
        total: bool = True,
        headers: bool = True,
        damage: Callable[[Line], Damage] | None = None,
    ) -> bytes:
        """The body of the answer. Raises Unusable."""
        grid = request.grid
        _check(request)
        found = self._selector.select(request.filters, request.addon_sort)
        offset = max(grid.cursor_position, 1) - 1
        lines = found.page(offset, min(grid.number_of_rows_first_returned, MOST_ROWS))
        last = offset + len(lines)
        metadata = {
            "RECORDS": _count(len(found), writing) if total else None,
            "CLIENTROWS": _count(len(lines), writing),
            "MORERECORDPRESENT": "+" if last < len(found) else "-",
            "CURRENTCURSORPOSITION": _count(last, writing),
        }
        writer = self._writer(writing)
        damages = [damage(line) if damage else None for line in lines]
        rows = [
            writer.row(line, bad) if bad else self._row(line, writing) for line, bad in zip(lines, damages, strict=True)
        ]
        data = b'{"%s":[%s]}' % (b"DATARECORD" if writing.shape == "DATARECORD" else b"ROW", b",".join(rows))
        found_grid: dict[str, Any] = {"METADATA": metadata}
        if headers and request.request_type == HEADED:
            found_grid["FIELDS"] = {"FIELD": writer.fields()}
        return enveloped({"GRID": found_grid | {"DATA": msgspec.Raw(data)}})

    def _row(self, line: Line, writing: Writing) -> bytes:
        if writing not in self._kept:
            return self._writer(writing).row(line)
        kept = self._kept[writing].setdefault(line.organization, {})
        found = kept.get(line.pfa_id)
        if found is None or found[0] is not line:
            found = kept[line.pfa_id] = (line, self._writer(writing).row(line))
        return found[1]

    def _writer(self, writing: Writing) -> Writer:
        if writing not in self._writers:
            self._writers[writing] = Writer(writing)
        return self._writers[writing]


def enveloped(data: Mapping[str, Any]) -> bytes:
    """An answer without errors."""
    result = {"ResultData": data, "InfoAlert": [], "WarningAlert": []}
    return exact_json.encode({"Result": result, "ErrorAlert": [], "ConfirmationAlert": []})


def _check(request: GridRequest) -> None:
    grid = request.grid
    for value, known, what in (
        (grid.grid_name, (GRID_NAME,), "grid"),
        (str(grid.grid_id), (GRID_ID,), "grid id"),
        (request.request_type, (HEADED, HEADLESS), "request type"),
    ):
        if value not in known:
            raise Unusable(f"{value[:80]} is not a valid {what}")
    if grid.cursor_position < 0:
        raise Unusable(f"{grid.cursor_position} is not a valid cursor position")
    if grid.number_of_rows_first_returned < 1:
        raise Unusable(f"{grid.number_of_rows_first_returned} is not a valid number of rows")


def _count(number: int, writing: Writing) -> int | str:
    return number if writing.typed else str(number)


def _template(shape: Shape, columns: Sequence[tuple[int, Column]]) -> str:
    """A row with a place for each value."""
    if shape == "D":
        cells = ",".join(f'{{"n":"{index + 1}","value":%s}}' for index, _ in columns)
        return f'{{"id":"0","D":[{cells}]}}'
    if shape == "CELL":
        cells = ",".join(f'{{"ALIAS_NAME":"{column.alias}","VALUE":%s}}' for _, column in columns)
        return f'{{"id":"0","CELL":[{cells}]}}'
    cells = ",".join(
        f'{{"FIELDNAME":"{column.alias}","FIELDLABEL":"{column.label}","FIELDVALUE":%s}}' for _, column in columns
    )
    return f'{{"DATAFIELD":[{cells}]}}'


class Texts(dict[Value, str]):
    """JSON texts of values that come again and again."""

    def __init__(self, write: Callable[[Any], str]):
        super().__init__({None: '""'})
        self._write = write

    def __missing__(self, value: Value) -> str:
        text = self[value] = self._write(value)
        return text


def _text(column: Column, writing: Writing) -> Callable[[Any], str]:
    """What writes a column's values as JSON text."""
    if column.kind == "number":
        return lambda value: _number(value, writing)
    if column.kind == "key" or column.name == "equipment":
        return _quoted
    if column.kind == "flag":
        yes, no = ("true", "false") if writing.typed else ('"Y"', '"N"') if writing.flags == "Y/N" else ('"+"', '"-"')
        return {True: yes, False: no}.__getitem__
    if column.kind == "date":
        return Texts(lambda value: f'"{value}"' if writing.dates == "iso" else _day(value)).__getitem__
    if column.kind == "time":
        return Texts(lambda value: f'"{time_text(value)}"').__getitem__
    return Texts(_quoted).__getitem__


def _quoted(value: str | None) -> str:
    return exact_json.encode(value).decode() if value is not None else '""'


def _number(value: Decimal | None, writing: Writing) -> str:
    if value is None:
        return '""'
    if writing.typed:
        return f"{value:f}"
    return f'"{value:,f}"' if writing.numbers == "grouped" else f'"{value:f}"'


def _day(value: date) -> str:
    return f'"{value.day:02d}-{MONTHS[value.month - 1]}-{value.year:04d}"'


def time_text(value: datetime) -> str:
    """UTC with seconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
