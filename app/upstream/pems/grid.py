"""Answers to a grid request: four shapes of rows become rows of the contract, column by column.

A row is told by id and organization: ids of two organizations may be the same. Of a row that does not say whose it is
nothing is shown but its id, since it may be another organization's.
"""

import json as lenient_json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from app.base.errors import Code, Culprit
from app.contracts import Contract
from app.upstream.pems.config import ORGANIZATION, VERSION, Grid, Locale
from app.upstream.pems.http import is_not_found, read_refused, words_of
from app.upstream.pems.values import Reader, Readers, Unreadable, instant, read_column
from app.upstream.protocol import Broken, Failed, Question, Row

MAX_IDENTITY = 120  # characters; longer ids are told by a digest
MAX_COUNT = 15  # digits


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the contract and where it is found in the grid; aliases in lower case."""

    field: str
    alias: str
    read: Reader


class GridPage(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer held. `identities` of all its lines, in order, of those that were dropped or are broken, too.

    `total` and `more` are None where PEMS does not say; `total` may be of the listing or of this page. `following`: the
    position after it where PEMS names one. `marked`: the key of the row with the latest `mark`; `columns`: the aliases
    that were sent, with lines or in the headers; `unread`: field -> how many of its values cannot be read; `body`: the
    answer itself, with the numbers of its columns.
    """

    rows: tuple[Row, ...]
    broken: tuple[Broken, ...]
    identities: list[str]
    mark: datetime | None
    total: int | None
    more: bool | None
    following: str | None = None
    marked: str | None = None
    columns: frozenset[str] = frozenset()
    unread: Mapping[str, int] = {}
    body: tuple[bytes, dict[str, str] | None] | None = None

    @property
    def dropped(self) -> int:
        """Lines of organizations that nobody asked for."""
        return len(self.identities) - len(self.rows) - len(self.broken)


class HeadersNeeded(Failed):
    """The columns of an answer without headers cannot be told."""

    def __init__(self) -> None:
        super().__init__("The answer of PEMS cannot be read: it does not name its columns.")


class NothingFound(Failed):
    """PEMS says that there is no such row."""


# -- the request's shape -----------------------------------------------------------------------------------------------


class Condition(msgspec.Struct, frozen=True):
    """One condition on the lines, by its operator: `=`, `>=` or `BEGINS`."""

    ALIAS_NAME: str
    OPERATOR: str
    VALUE: str


class _Joined(msgspec.Struct, frozen=True):
    ALIAS_NAME: str
    OPERATOR: str
    VALUE: str
    SEQNUM: int
    JOINER: str = "AND"
    LPAREN: str = "false"
    RPAREN: str = "false"


class _JoinedList(msgspec.Struct, frozen=True):
    MADDON_FILTER: list[_Joined]


class _Sort(msgspec.Struct, frozen=True):
    ALIAS_NAME: str
    TYPE: str = "ASC"


class _Head(msgspec.Struct, frozen=True):
    GRID_NAME: str
    GRID_ID: str
    USER_FUNCTION_NAME: str
    NUMBER_OF_ROWS_FIRST_RETURNED: int
    CURSOR_POSITION: int | str
    LOCALIZE_RESULT: str


class _Dataspy(msgspec.Struct, frozen=True):
    DATASPY_ID: str


class _Type(msgspec.Struct, frozen=True):
    TYPE: str = "LIST"


class GridRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request; it encodes as it stands."""

    GRID: _Head
    GRID_TYPE: _Type = _Type()
    DATASPY: _Dataspy | msgspec.UnsetType = msgspec.UNSET
    REQUEST_TYPE: str
    ADDON_SORT: _Sort
    ADDON_FILTER: Condition | msgspec.UnsetType = msgspec.UNSET
    MULTIADDON_FILTERS: _JoinedList | msgspec.UnsetType = msgspec.UNSET


def grid_request(
    grid: Grid, key: str, conditions: Sequence[Condition], *, position: int | str, size: int, headed: bool
) -> GridRequest:
    """Asks for `size` lines that meet all conditions, from a position on in the order of the alias `key`."""
    joined = [_Joined(item.ALIAS_NAME, item.OPERATOR, item.VALUE, number) for number, item in enumerate(conditions, 1)]
    return GridRequest(
        GRID=_Head(grid.name, grid.id, grid.user_function, size, position, "true" if grid.localize else "false"),
        DATASPY=msgspec.UNSET if grid.dataspy is None else _Dataspy(grid.dataspy),
        REQUEST_TYPE="LIST.HEAD_DATA.STORED" if headed else "LIST.DATA_ONLY.STORED",
        ADDON_SORT=_Sort(key),
        ADDON_FILTER=conditions[0] if len(conditions) == 1 else msgspec.UNSET,
        MULTIADDON_FILTERS=_JoinedList(joined) if len(conditions) > 1 else msgspec.UNSET,
    )


# -- the answer's shape ------------------------------------------------------------------------------------------------


class _Cell(msgspec.Struct, gc=False):
    n: int | str
    value: Any = None


class _NamedCell(msgspec.Struct, gc=False):
    ALIAS_NAME: str
    VALUE: Any = None


class _DataField(msgspec.Struct, gc=False):
    FIELDNAME: str
    FIELDVALUE: Any = None


class _Line(msgspec.Struct, gc=False):
    D: list[_Cell] | None = None
    CELL: list[_NamedCell] | None = None
    DATAFIELD: list[_DataField] | None = None


class _Data(msgspec.Struct):
    ROW: list[_Line] | None = None
    DATARECORD: list[_Line] | None = None


class _Field(msgspec.Struct):
    aliasnum: int | str
    name: str


class _Fields(msgspec.Struct):
    FIELD: list[_Field] = []


class _Metadata(msgspec.Struct):
    RECORDS: int | str | None = None
    CLIENTROWS: int | str | None = None
    MORERECORDPRESENT: str | None = None


class _Grid(msgspec.Struct):
    METADATA: _Metadata | None = None
    FIELDS: _Fields | None = None
    DATA: _Data | None = None


class _ResultData(msgspec.Struct):
    """The rows are in the grid, or stand here beside the next position."""

    GRID: _Grid | None = None
    DATARECORD: list[_Line] | None = None
    NEXTCURSORPOSITION: int | str | msgspec.UnsetType | None = msgspec.UNSET
    RECORDS: int | str | msgspec.UnsetType | None = msgspec.UNSET


class _Result(msgspec.Struct):
    ResultData: _ResultData


class _Answer(msgspec.Struct):
    Result: _Result | None = None
    ErrorAlert: Any = None
    ConfirmationAlert: Any = None


_decoder = msgspec.json.Decoder(_Answer, float_hook=Decimal)


# -- reading -----------------------------------------------------------------------------------------------------------


class GridReader:
    """Reads the answers of one dataset's grid. Remembers the numbers of the columns from the last headers. `nulls`:
    fields that are read from no column, and null.
    """

    def __init__(
        self,
        contract: Contract,
        aliases: Mapping[str, str],
        codes: Collection[str],
        locale: Locale,
        *,
        nulls: Collection[str] = (),
    ):
        self._nulls = dict.fromkeys(nulls)
        self._codes = frozenset(codes)
        self._key = contract.text_key
        readers = Readers(locale)
        self._text = readers.of("text")
        self._readers = {
            field.name: readers.version if field.name == VERSION else readers.of(field.type)
            for field in contract.fields
        }
        self.columns = tuple(
            Column(
                field=field.name,
                alias=aliases[field.name].lower(),
                read=self._readers[field.name],
            )
            for field in contract.fields
            if field.name in aliases
        )
        self._key_alias, self._organization_alias = (
            aliases[name].lower() for name in (contract.text_key, ORGANIZATION)
        )
        self.numbers: dict[str, str] | None = None

    def read(self, body: bytes) -> GridPage:
        """The rows of an answer; raises Failed for what is none, HeadersNeeded."""
        opened = _open(body)
        grid, lines = opened.grid, opened.lines
        if grid.FIELDS is not None:
            self.numbers = {str(field.aliasnum): field.name.lower() for field in grid.FIELDS.FIELD}
        found: list[Row | Broken | None] = [None] * len(lines)
        identities = [""] * len(lines)
        groups: dict[tuple[Any, ...], list[tuple[int, list[Any]]]] = defaultdict(list)
        unread: Counter[str] = Counter()
        for place, line in enumerate(lines):
            if not isinstance(line, _Line):
                found[place], identities[place] = _malformed(line), _digest(line)
                continue
            names, values = _cells(line)
            groups[names].append((place, values))
        for names, members in groups.items():
            aliases = self._aliases(names, headed=grid.FIELDS is not None)
            for (place, _), (identity, row) in zip(
                members, self._read_alike(aliases, [values for _, values in members], unread), strict=True
            ):
                found[place], identities[place] = row, identity
        rows = tuple(row for row in found if isinstance(row, Row))
        mark, marked = _mark(rows)
        return GridPage(
            rows=rows,
            broken=tuple(row for row in found if isinstance(row, Broken)),
            identities=identities,
            mark=mark,
            marked=marked,
            total=opened.total,
            more=opened.more,
            following=opened.following,
            columns=frozenset(
                (
                    *(name for names in groups for name in self._aliases(names, headed=True)),
                    *(field.name.lower() for field in (grid.FIELDS.FIELD if grid.FIELDS is not None else ())),
                )
            ),
            unread=unread,
            body=(body, self.numbers),
        )

    def cells(self, body: bytes) -> dict[str, list[Any]]:
        """What the lines of an answer hold, as it came, by alias; raises what `read` raises."""
        found: dict[str, list[Any]] = defaultdict(list)
        for line in self.lines(body):
            for alias, value in line.items():
                found[alias].append(value)
        return found

    def lines(self, body: bytes, numbers: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """The same line by line; `numbers` of the columns, where the answer has no headers."""
        opened, kept = _open(body), self.numbers
        if opened.grid.FIELDS is not None:
            self.numbers = {str(field.aliasnum): field.name.lower() for field in opened.grid.FIELDS.FIELD}
        elif numbers is not None:
            self.numbers = numbers
        found = []
        for line in opened.lines:
            if isinstance(line, _Line):
                names, values = _cells(line)
                found.append(dict(zip(self._aliases(names, headed=True), values, strict=True)))
        if numbers is not None:
            self.numbers = kept  # of the newest answer
        return found

    def read_as(self, field: str, values: Sequence[Any]) -> list[Any]:
        """What values are as those of a field, whatever column they come from; Unreadable in the place of others."""
        return read_column(self._readers[field], values)

    def _aliases(self, names: tuple[Any, ...], *, headed: bool) -> list[str]:
        """The aliases of a row's cells, of which the first name is the shape."""
        shape, *cells = names
        if shape != "D":
            return [name.lower() for name in cells]
        if self.numbers is None:
            raise HeadersNeeded()
        numbers = [str(cell) for cell in cells]
        if not headed and set(numbers) != self.numbers.keys():
            raise HeadersNeeded()
        return [self.numbers.get(number, number) for number in numbers]

    def _read_alike(
        self, aliases: list[str], lines: list[list[Any]], unread: Counter[str]
    ) -> list[tuple[str, Row | Broken | None]]:
        """Identity and row of each line, None for one of another organization; all have the same cells. What cannot be
        read is counted in `unread`, by field.
        """
        columns = dict(zip(reversed(aliases), reversed(list(zip(*lines, strict=True))), strict=True))
        nothing = (None,) * len(lines)
        keys = read_column(self._text, columns.get(self._key_alias, nothing))
        organizations = read_column(self._text, columns.get(self._organization_alias, nothing))
        present = [column for column in self.columns if column.alias in columns]
        missing = tuple(
            Culprit(code=Code.MISSING_FIELD, field=column.field, message=f"PEMS did not send {column.alias}.")
            for column in self.columns
            if column.alias not in columns
        )
        converted = [read_column(column.read, columns[column.alias]) for column in present]
        wrong = _wrong(present, converted)
        unread.update(reason.field for reasons in wrong.values() for reason in reasons if reason.field is not None)
        names = [column.field for column in present]
        documents = [dict(zip(names, values, strict=True)) | self._nulls for values in zip(*converted, strict=True)]
        answer: list[tuple[str, Row | Broken | None]] = []
        for place, (key, organization) in enumerate(zip(keys, organizations, strict=True)):
            told = isinstance(key, str) and isinstance(organization, str)
            identity = f"{organization}/{key}" if told and len(key) <= MAX_IDENTITY else _digest(lines[place])
            if isinstance(organization, str) and organization not in self._codes:
                answer.append((identity, None))
            elif told and not missing and place not in wrong:
                answer.append((identity, Row(key=key, document=documents[place])))
            elif not isinstance(organization, str):
                answer.append((identity, self._nobodys(key, identity, missing)))
            else:
                readable = key if isinstance(key, str) else None
                reasons = missing + tuple(wrong.get(place, ())) or self._without_key()
                answer.append((identity, _broken(readable, reasons, aliases, lines[place])))
        return answer

    def _without_key(self) -> tuple[Culprit, ...]:
        message = f"{self._key_alias} is empty."
        return (Culprit(code="MISSING_REQUIRED_FIELD", field=self._key, message=message),)

    def _nobodys(self, key: Any, identity: str, missing: tuple[Culprit, ...]) -> Broken:
        """A row that does not say whose it is."""
        readable, message = key if isinstance(key, str) else None, f"{self._organization_alias} cannot be read."
        reasons = missing or (Culprit(code="MISSING_REQUIRED_FIELD", field=ORGANIZATION, message=message),)
        return _broken(readable, reasons, [self._key_alias, "line"], [readable, identity])


class _Opened(msgspec.Struct, frozen=True):
    """The grid, and its lines: each a _Line, or what was received in its place; and what is said about the others."""

    grid: _Grid
    lines: Sequence[Any]
    total: int | None
    more: bool | None
    following: str | None


def _open(body: bytes) -> _Opened:
    """Raises Failed, NothingFound, Question, Refused, Unavailable."""
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError):
        return _open_leniently(body)
    data = _data_of(answer)
    return _opened(data, _lines_of(data))


def _refuse_alerts(alert: Any, question: Any) -> None:
    if words := words_of(alert):
        raise NothingFound(words) if is_not_found(words) else read_refused(words)
    if asked := words_of(question):
        raise Question(asked)


def _data_of(answer: _Answer) -> _ResultData:
    _refuse_alerts(answer.ErrorAlert, answer.ConfirmationAlert)
    if answer.Result is None:
        raise _no_grid()
    return answer.Result.ResultData


def _no_grid() -> Failed:
    return Failed("The answer of PEMS cannot be read: it holds no grid.")


def _no_data() -> Failed:
    return Failed("The answer of PEMS cannot be read: its grid holds no DATA.")


def _open_leniently(body: bytes) -> _Opened:
    """As _open, where a line or two are not as they should be, or not even UTF-8, or an alert stands by no grid."""
    try:
        answer = lenient_json.loads(body.decode("utf-8", "surrogateescape"), parse_float=Decimal)
        _refuse_alerts(answer.get("ErrorAlert"), answer.get("ConfirmationAlert"))
        data = (answer.get("Result") or {}).get("ResultData") or {}
        holder = data["GRID"].get("DATA") or {} if data.get("GRID") else data
        received = holder.pop("ROW", None) or holder.pop("DATARECORD", None)
        found = _data_of(msgspec.convert(answer, _Answer))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise _no_grid() from None
    if not isinstance(received, list):
        raise _no_data()
    return _opened(found, [_line_of(line) for line in received])


def _opened(data: _ResultData, lines: Sequence[Any]) -> _Opened:
    if data.GRID is None:
        named = data.NEXTCURSORPOSITION
        following = None if named is msgspec.UNSET or named is None else str(named).strip()
        more = None if named is msgspec.UNSET else bool(following)
        return _Opened(_Grid(), lines, _count(data.RECORDS), more, following or None)
    metadata = data.GRID.METADATA or _Metadata()
    more = {"+": True, "-": False}.get(metadata.MORERECORDPRESENT or "")
    return _Opened(data.GRID, lines, _count(metadata.RECORDS), more, None)


def _lines_of(data: _ResultData) -> Sequence[_Line]:
    if data.GRID is None:
        if data.DATARECORD is not None:
            return data.DATARECORD
        if data.NEXTCURSORPOSITION is msgspec.UNSET and data.RECORDS is msgspec.UNSET:
            raise _no_grid()
        return ()
    held = data.GRID.DATA or _Data()
    lines = held.ROW if held.ROW is not None else held.DATARECORD
    if lines is not None:
        return lines
    metadata = data.GRID.METADATA or _Metadata()
    if 0 in (_count(metadata.RECORDS), _count(metadata.CLIENTROWS)):
        return ()
    raise _no_data()


def _line_of(received: Any) -> Any:
    try:
        return msgspec.convert(received, _Line)
    except msgspec.ValidationError:
        return received


def _cells(line: _Line) -> tuple[tuple[Any, ...], list[Any]]:
    """The shape with the names of its cells, and their values."""
    if line.D is not None:
        return ("D", *[cell.n for cell in line.D]), [cell.value for cell in line.D]
    if line.CELL is not None:
        return ("CELL", *[cell.ALIAS_NAME for cell in line.CELL]), [cell.VALUE for cell in line.CELL]
    fields = line.DATAFIELD or []
    return ("DATAFIELD", *[cell.FIELDNAME for cell in fields]), [cell.FIELDVALUE for cell in fields]


def _wrong(columns: Sequence[Column], converted: Sequence[list[Any]]) -> dict[int, list[Culprit]]:
    """What cannot be read, by the place of the line."""
    wrong: dict[int, list[Culprit]] = defaultdict(list)
    for column, values in zip(columns, converted, strict=True):
        if not any(issubclass(kind, Unreadable) for kind in set(map(type, values))):
            continue
        for place, value in enumerate(values):
            if isinstance(value, Unreadable):
                message = f"{column.alias}: {value}"
                wrong[place].append(Culprit(code=value.code, field=column.field, message=message))
    return wrong


def _broken(key: str | None, reasons: Sequence[Culprit], aliases: Sequence[str], values: Sequence[Any]) -> Broken:
    named = tuple(msgspec.structs.replace(reason, id=key) for reason in reasons)
    return Broken(key=key, reasons=named, received=_storable(dict(zip(aliases, values, strict=True))))


def _malformed(received: Any) -> Broken:
    reason = Culprit(code=Code.MALFORMED_ROW, message="The line has none of the four shapes.")
    return Broken(key=None, reasons=(reason,), received={"line": _digest(received)})


def _storable(value: Any) -> Any:
    """The same with replacements for the characters that no text of the database may hold."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_storable(member) for member in value]
    return value


def _mark(rows: Sequence[Row]) -> tuple[datetime | None, str | None]:
    """The latest modification, and the key of a row that has it."""
    latest, marked = None, None
    for version in {row.document.get(VERSION) for row in rows} - {None}:
        moment = instant(version)
        if moment is not None and (latest is None or moment > latest):
            latest, marked = moment, version
    return latest, next((row.key for row in rows if marked and row.document.get(VERSION) == marked), None)


def _count(text: int | str | msgspec.UnsetType | None) -> int | None:
    if isinstance(text, str):
        digits = text.replace(",", "").strip()
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_COUNT else None
    return text if isinstance(text, int) else None


def _digest(values: Any) -> str:
    return "#" + blake2b(repr(values).encode("utf-8", "replace"), digest_size=12).hexdigest()
