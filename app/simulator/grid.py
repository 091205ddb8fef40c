"""A page of the grid: what is asked for, and the bytes of the answer in whichever way of writing."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from app.base import exact_json
from app.simulator.columns import KEY, STAND_INS, Cell, Columns
from app.simulator.dataspies import Dataspies
from app.simulator.filters import Filter
from app.simulator.lines import NAMES, Column, Line, Value
from app.simulator.selection import Selection, Selector, Sort
from app.simulator.store import Store, Unusable
from app.simulator.writing import WORDS, Shape, Writing, date_text, number_text, plain_time_text, time_text

Damage = Mapping[str, Any]  # alias -> the value that is told instead

GRID_NAME, GRID_ID = "CUPFAG", "100541"
FUNCTIONS = ("CUPFAG", "CUPFA2")
LIST = "LIST"
HEADED, HEADLESS = "LIST.HEAD_DATA.STORED", "LIST.DATA_ONLY.STORED"
MOST_ROWS = 10_000
LOCALIZED, PLAIN = ("TRUE", "YES", "Y", "+"), ("FALSE", "NO", "N", "-")


class Grid(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """Which grid, and which page of it."""

    grid_name: str = GRID_NAME
    grid_id: str | int = GRID_ID
    user_function_name: str | None = None
    number_of_rows_first_returned: int = 100
    cursor_position: int = 1
    localize_result: Any = None


class GridType(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """What is asked for: a list."""

    type: str = LIST


class Named(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """Which dataspy."""

    dataspy_id: str | int | None = None


class Filters(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """The list of filters."""

    maddon_filter: tuple[Filter, ...] = ()


class GridRequest(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """A request to the grid."""

    grid: Grid
    grid_type: GridType | None = None
    dataspy: Named | None = None
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


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong with one listing.

    `total`, `headers`: they are there. `damage`: what a line says instead; `twice`: whether it comes twice. `gaps`:
    first and last positions that bring no rows. `end`: how many lines there seem to be.
    """

    total: bool = True
    headers: bool = True
    damage: Callable[[Line], Damage] | None = None
    twice: Callable[[Line], bool] | None = None
    gaps: Sequence[tuple[int, int]] = ()
    end: int | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a listing; `last`: the position up to which it is told; `more`: something comes after; `total`."""

    lines: Sequence[Line]
    last: int
    more: bool
    total: int


class Writer:
    """Writes lines in one way. What is often the same is written once."""

    def __init__(self, writing: Writing, localized: bool, cells: Sequence[Cell]):
        """`localized`: in the forms of the locale; else in those that are the same everywhere."""
        self.writing = writing if localized else replace(writing, dates="iso", numbers="plain")
        self._cells = [(n, cell) for n, cell in enumerate(cells, 1) if cell.first not in writing.without]
        self._texts = [(NAMES.index(cell.column.name), _told(cell, self.writing, localized)) for _, cell in self._cells]
        self._template = _template(writing.shape, [(n, cell.column) for n, cell in self._cells])

    def row(self, line: Line, damage: Damage | None = None) -> bytes:
        """The line as JSON text."""
        values = astuple(line)
        texts = [text(values[index]) for index, text in self._texts]
        for place, (_, cell) in enumerate(self._cells):
            if damage and cell.first in damage:
                texts[place] = exact_json.encode(damage[cell.first]).decode()
        return (self._template % tuple(texts)).encode()

    def fields(self) -> list[dict[str, str]]:
        """The headers."""
        return [{"aliasnum": str(n), "name": cell.column.alias, "label": cell.column.label} for n, cell in self._cells]


Manner = tuple[Writing, bool]  # and whether it is localized


class Pages:
    """Answers requests to the grid. `kept`: rows once written are kept until their line changes."""

    def __init__(self, store: Store):
        self._store = store
        self._selector = Selector(store)
        self._writers: dict[Manner, Writer] = {}
        self._kept: dict[Manner, dict[str, dict[str, tuple[Line, bytes]]]] = {}
        self.change(Columns())

    def change(self, columns: Columns) -> None:
        """Let the columns be so from now on."""
        self.columns, self.known = columns, columns.known()
        self._writers.clear()
        for kept in self._kept.values():
            kept.clear()

    def render(self, writing: Writing, *, localized: bool = True) -> None:
        """Write every row now, and from now on keep what is written."""
        self._kept.setdefault((writing, localized), {})
        row = self._row((writing, localized))
        for line, _ in self._store.records():
            row(line)

    def answer(self, request: GridRequest, writing: Writing, dataspies: Dataspies, trouble: Trouble) -> bytes:
        """The body of the answer. Raises Unusable."""
        _check(request)
        localized = not writing.localizes or _localized(request.grid.localize_result)
        dataspy = dataspies.find(request.dataspy.dataspy_id if request.dataspy else None)
        if dataspy.without:
            writing = replace(writing, without=(*writing.without, *dataspy.without))
        found = self._selector.select(request.filters, request.addon_sort, writing, self.known, dataspy.conditions())
        grid = request.grid
        first, rows = max(grid.cursor_position, 1), min(grid.number_of_rows_first_returned, MOST_ROWS)
        page = _page(_doubled(found, trouble), first, rows, trouble)
        return enveloped(self._data(request, (writing, localized), page, trouble))

    def _data(self, request: GridRequest, manner: Manner, page: Page, trouble: Trouble) -> dict[str, Any]:
        writing, writer = manner[0], self._writer(manner)
        rows = msgspec.Raw(b"[%s]" % b",".join(self._rows(page.lines, manner, trouble)))
        if writing.shape == "GRIDS":
            records = {"RECORDS": _records(page, writing, trouble), "DATARECORD": rows if page.lines else None}
            return _next(page, writing) | records
        metadata = {
            "RECORDS": _records(page, writing, trouble),
            "CLIENTROWS": _count(len(page.lines), writing),
            **_more(page, writing),
            "CURRENTCURSORPOSITION": _count(page.last, writing),
        }
        grid: dict[str, Any] = {"METADATA": metadata}
        if trouble.headers and request.request_type == HEADED:
            grid["FIELDS"] = {"FIELD": writer.fields()}
        grid["DATA"] = {"DATARECORD" if writing.shape == "DATAFIELD" else "ROW": rows}
        return {"GRID": grid}

    def _rows(self, lines: Sequence[Line], manner: Manner, trouble: Trouble) -> list[bytes]:
        row = self._row(manner)
        if trouble.damage is None:
            return [row(line) for line in lines]
        writer, damages = self._writer(manner), map(trouble.damage, lines)
        return [writer.row(line, bad) if bad else row(line) for line, bad in zip(lines, damages, strict=True)]

    def _row(self, manner: Manner) -> Callable[[Line], bytes]:
        """What writes lines, or knows how they were written."""
        writer, kept = self._writer(manner), self._kept.get(manner)
        if kept is None:
            return writer.row

        def row(line: Line) -> bytes:
            of = kept.setdefault(line.organization, {})
            found = of.get(line.pfa_id)
            if found is None or found[0] is not line:
                found = of[line.pfa_id] = (line, writer.row(line))
            return found[1]

        return row

    def _writer(self, manner: Manner) -> Writer:
        if manner not in self._writers:
            self._writers[manner] = Writer(*manner, self.columns.cells())
        return self._writers[manner]


def enveloped(data: Mapping[str, Any]) -> bytes:
    """An answer without errors."""
    result = {"ResultData": data, "InfoAlert": None, "WarningAlert": None, "SessionID": None}
    return exact_json.encode({"ErrorAlert": None, "ConfirmationAlert": None, "Result": result})


def _doubled(found: Selection, trouble: Trouble) -> Selection:
    """The listing with some lines twice, one right after the other."""
    if trouble.twice is None:
        return found
    lines = [line for line in found.page(0, len(found)) for _ in range(1 + trouble.twice(line))]
    return Selection(lines=lines, start=0, stop=len(lines))


def _page(found: Selection, first: int, rows: int, trouble: Trouble) -> Page:
    """The page that begins at a position; one that begins in a gap is empty and ends with it."""
    end = len(found) if trouble.end is None else min(len(found), trouble.end)
    last = max(first - 1, min(first - 1 + rows, end))
    lines = found.page(first - 1, last - first + 1)
    around = [gap for gap in trouble.gaps if gap[0] <= first <= gap[1]]
    if around:
        lines, last = (), max(first - 1, min(last, around[0][1]))
    elif trouble.gaps:
        lines = [line for place, line in enumerate(lines, first) if not any(a <= place <= b for a, b in trouble.gaps)]
    return Page(lines=lines, last=last, more=last < end, total=len(found))


def _records(page: Page, writing: Writing, trouble: Trouble) -> int | str | None:
    if writing.records == "null" or not trouble.total:
        return None
    return _count(page.total if writing.records == "total" else len(page.lines), writing)


def _more(page: Page, writing: Writing) -> dict[str, str]:
    """The member that says whether there are more rows."""
    if writing.more == "absent":
        return {}
    return {"MORERECORDPRESENT": {"right": "+" if page.more else "-", "no": "-", "yes": "+"}[writing.more]}


def _next(page: Page, writing: Writing) -> dict[str, str]:
    """The member that says where the next page begins."""
    if writing.more == "absent":
        return {}
    after = str(page.last + 1)
    return {"NEXTCURSORPOSITION": {"right": after if page.more else "", "no": "", "yes": after}[writing.more]}


def _localized(given: Any) -> bool:
    """What LOCALIZE_RESULT says; raises Unusable."""
    word = str(given).upper()
    if given in (None, "") or word in LOCALIZED:
        return True
    if word in PLAIN:
        return False
    raise Unusable(f"{word[:80]} is not a valid LOCALIZE_RESULT")


def _check(request: GridRequest) -> None:
    grid = request.grid
    for value, known, what in (
        (grid.grid_name, (GRID_NAME,), "grid"),
        (str(grid.grid_id), (GRID_ID,), "grid id"),
        (grid.user_function_name or GRID_NAME, FUNCTIONS, "user function"),
        (request.grid_type.type if request.grid_type else LIST, (LIST,), "grid type"),
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
        cells = ",".join(f'{{"n":"{n}","value":%s}}' for n, _ in columns)
        return f'{{"id":"0","D":[{cells}]}}'
    if shape == "CELL":
        cells = ",".join(f'{{"ALIAS_NAME":{_literal(column.alias)},"VALUE":%s}}' for _, column in columns)
        return f'{{"id":"0","CELL":[{cells}]}}'
    cells = ",".join(
        f'{{"FIELDNAME":{_literal(column.alias)},"FIELDLABEL":{_literal(column.label)},"FIELDVALUE":%s}}'
        for _, column in columns
    )
    return f'{{"DATAFIELD":[{cells}]}}'


def _literal(text: str) -> str:
    """As JSON, in a template."""
    return _quoted(text).replace("%", "%%")


class Texts(dict[Value, str]):
    """JSON texts of values that come again and again."""

    def __init__(self, write: Callable[[Any], str]):
        super().__init__({None: '""'})
        self._write = write

    def __missing__(self, value: Value) -> str:
        text = self[value] = self._write(value)
        return text


def _told(cell: Cell, writing: Writing, localized: bool) -> Callable[[Any], str]:
    """What writes a cell's values as JSON text; those of a new column say at most the line's id."""
    says = cell.says
    if isinstance(says, str) and KEY in says:
        return lambda key: _quoted(says.replace(KEY, key))
    if says is not msgspec.UNSET:
        constant = exact_json.encode(says).decode()
        return lambda key: constant
    if cell.form is None:
        return _text(cell.column, writing, localized)
    write, stand_in = _text(replace(cell.column, kind=cell.form), writing, localized), STAND_INS[cell.form]
    return lambda value: '""' if value is None else write(stand_in(value))


def _text(column: Column, writing: Writing, localized: bool) -> Callable[[Any], str]:
    """What writes a column's values as JSON text."""
    if column.kind == "number":
        return lambda value: _number(value, writing)
    if column.kind == "flag":
        yes, no = ("true", "false") if writing.typed else (f'"{word}"' for word in WORDS[writing.flags])
        return {True: yes, False: no}.__getitem__
    if column.kind == "date":
        return Texts(lambda value: f'"{date_text(value, writing.dates)}"').__getitem__
    if column.kind == "time" and localized:
        return Texts(lambda value: f'"{time_text(value, writing)}"').__getitem__
    if column.kind == "time":
        return Texts(lambda value: f'"{plain_time_text(value, writing.zone)}"').__getitem__
    return _quoted if column.kind == "key" or column.name == "equipment" else Texts(_quoted).__getitem__


def _quoted(value: str | None) -> str:
    return exact_json.encode(value).decode() if value is not None else '""'


def _number(value: Decimal | None, writing: Writing) -> str:
    if value is None:
        return '""'
    return f"{value:f}" if writing.typed else f'"{number_text(value, writing.numbers)}"'
