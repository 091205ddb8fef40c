"""A second PEMS to test against, written from what is known of the vendor's HTTP interface and from nothing else.

It imports nothing of the product and speaks in literal JSON, so that it shares no misconception with the adapter nor
with the simulator. Where sources disagree, what it does is an option of `Vendor`.
"""

import base64
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

Value = str | Decimal | bool | date | None  # a datetime is a date
Line = dict[str, Value]
Key = tuple[str, str]  # organization, pfs_id
Kind = Literal["text", "number", "date", "moment", "flag"]
Matcher = Callable[[Line], bool]
T = TypeVar("T")

# The alias in the grid, the name on the screen, what it holds.
TABLE: Final[tuple[tuple[str, str | None, Kind], ...]] = (
    ("pfs_id", "PFS_ID", "text"),
    ("pfs_a_org", "PFS_A_ORG", "text"),
    ("pfs_f_area", "PFS_F_AREA", "text"),
    ("pfs_f_category", "PFS_F_CATEGORY", "text"),
    ("pfs_f_catdesc", "PFS_F_CATDESC", "text"),
    ("pfs_f_class", "PFS_F_CLASS", "text"),
    ("pfs_f_source", "PFS_F_SOURCE", "text"),
    ("pfs_f_dor", "PFS_F_DOR", "text"),
    ("pfs_f_rental", "PFS_F_RATE", "number"),
    ("pfs_f_purchase", "PFS_F_PRICE", "number"),
    ("pfs_f_manufacturer", "PFS_F_MANUFACT", "text"),
    ("pfs_f_model", "PFS_F_MODEL", "text"),
    ("pfs_p_projcode", None, "text"),
    ("pfs_equipment_tag", "PFS_EQUIPMENT", "text"),
    ("pfs_p_startdate", None, "date"),
    ("pfs_p_enddate", None, "date"),
    ("pfs_f_startdate", "PFS_F_STARTDATE", "date"),
    ("pfs_f_enddate", "PFS_F_ENDDATE", "date"),
    ("pfs_a_startdate", None, "date"),
    ("pfs_a_enddate", None, "date"),
    ("pfs_f_actualized", "PFA_ACT", "flag"),
    ("pfs_f_discontinued", "PFA_DIS", "flag"),
    ("pfs_f_fundstrans", "PFS_FT", "flag"),
    ("pfs_lastmodified", None, "moment"),
)
KINDS: Final[dict[str, Kind]] = {alias: kind for alias, _, kind in TABLE}
KEYS: Final = ("pfs_a_org", "pfs_id")
CODES: Final = {"pfs_f_source": ("Rental", "Purchase"), "pfs_f_dor": ("BEO", "PROJECT")}
NUMBER_OF: Final = {alias: str(101 + 7 * place) for place, alias in enumerate(sorted(KINDS))}  # the aliasnum

GRIDDATA: Final = "/axis/restservices/griddata"
GRIDS: Final = "/axis/restservices/grids"
SCREEN: Final = "/axis/restservices/userdefinedscreenservices"

# How a cell is written: a date, and a date with its time.
DATES: Final = {
    "iso": ("{0:%Y-%m-%d}", "{0:%Y-%m-%d %H:%M:%S}"),
    "15-JAN-2026": ("{0:%d-%b-%Y}", "{0:%d-%b-%Y %H:%M}"),
    "M/D/YYYY HH:MM": ("{0.month}/{0.day}/{0.year} {0:%H:%M}",) * 2,
    "DD/MM/YYYY": ("{0:%d/%m/%Y}", "{0:%d/%m/%Y %H:%M}"),
}
# True, then false. "bare" is JSON's own, without quotes.
FLAGS: Final[dict[str, tuple[str | bool, str | bool]]] = {
    "Y/N": ("Y", "N"),
    "Yes/No": ("Yes", "No"),
    "+/-": ("+", "-"),
    "1/0": ("1", "0"),
    "-1/0": ("-1", "0"),
    "true/false": ("true", "false"),
    "bare": (True, False),
}
MEMBERS: Final[dict[Kind, str]] = {
    "text": "TEXTDATA",
    "flag": "TEXTDATA",
    "number": "NUMERICDATA",
    "date": "DATETIMEDATA",
    "moment": "DATETIMEDATA",
}

DateForm = Literal["iso", "15-JAN-2026", "M/D/YYYY HH:MM", "DD/MM/YYYY"]
NumberForm = Literal["1,234.56", "1.234,56", "plain"]
FlagForm = Literal["Y/N", "Yes/No", "+/-", "1/0", "-1/0", "true/false", "bare"]
YearForm = Literal["epoch", "calendar"]
NumericForm = Literal["object", "bare"]


class Refused(Exception):
    """Answered as an ErrorAlert with these words."""


class Received(NamedTuple):
    """A request as it came.

    A read is a "LIST" of the organization in the header, with the members of its body; a call of the screen has the
    organization and id of its line, and name and value of each pair.
    """

    action: str
    organization: str
    key: str | None
    sent: tuple[tuple[str, Any], ...]


class Canned(NamedTuple):
    """What the next answer is; with an `action`, the next one to that (GET, ADD, UPDATE, DELETE, LIST).

    `done`: the request is carried out all the same, and its answer lost. Status 0 ends the connection without any.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    action: str | None = None
    done: bool = False


class Dataspy(NamedTuple):
    """Which rows it hides, and the aliases that it leaves out."""

    hides: Matcher = lambda line: False
    without: Collection[str] = ()


def envelope(result: Any = None, *, error: str | None = None, question: str | None = None) -> dict[str, Any]:
    """An answer: of ResultData, or of an ErrorAlert, or of a ConfirmationAlert."""
    alerts = [None if words is None else [{"Name": "PEMS", "Message": words}] for words in (error, question)]
    carried = {"ResultData": result, "InfoAlert": None, "WarningAlert": None, "SessionID": None}
    return {
        "ErrorAlert": alerts[0],
        "ConfirmationAlert": alerts[1],
        "Result": carried if alerts == [None, None] else None,
    }


def alerted(
    *, error: str | None = None, question: str | None = None, status: int = 400, action: str | None = None
) -> Canned:
    """An alert to come: an error, or a question that somebody has to confirm."""
    return Canned(json.dumps(envelope(error=error, question=question)).encode(), status, action=action)


def written_number(value: Decimal, form: NumberForm) -> str:
    """As a cell has it, with the value's own decimals."""
    text = f"{value:,f}"
    if form == "plain":
        return text.replace(",", "")
    return text if form == "1,234.56" else text.translate(str.maketrans(",.", ".,"))


def written_numeric(value: Decimal, form: NumericForm) -> Any:
    """NUMERICDATA: the digits without the point and their number after it, or a bare number."""
    if form == "bare":
        return int(value) if value == value.to_integral_value() else float(value)
    places = max(0, -int(value.as_tuple().exponent))
    return {
        "VALUE": int(abs(value).scaleb(places)),
        "NUMOFDEC": places,
        "SIGN": "-" if value < 0 else "+",
        "CURRENCY": None,
        "DRCR": None,
        "UOM": None,
        "qualifier": "OTHER",
    }


def read_numeric(sent: Any, form: NumericForm) -> Decimal:
    """Raises ValueError for whatever is not of that form."""
    if form == "bare":
        if isinstance(sent, bool) or not isinstance(sent, int | Decimal):
            raise ValueError(sent)
        return Decimal(sent)
    members(sent, {"VALUE", "NUMOFDEC", "SIGN"}, {"CURRENCY", "DRCR", "UOM", "qualifier"})
    if sent["SIGN"] not in ("+", "-"):
        raise ValueError(sent)
    return Decimal(f"{sent['SIGN']}{whole(sent['VALUE'])}E-{whole(sent['NUMOFDEC'])}")


def written_datetime(value: date, zone: ZoneInfo, form: YearForm) -> dict[str, Any]:
    """DATETIMEDATA: YEAR is when the year starts at the offset of TIMEZONE, in milliseconds, or its four digits."""
    moment = local(value, zone)
    start = datetime(moment.year, 1, 1, tzinfo=timezone(moment.utcoffset() or timedelta()))
    return {
        "YEAR": int(start.timestamp()) * 1000 if form == "epoch" else moment.year,
        "MONTH": moment.month,
        "DAY": moment.day,
        "HOUR": moment.hour,
        "MINUTE": moment.minute,
        "SECOND": moment.second,
        "SUBSECOND": 0,
        "TIMEZONE": f"{moment:%z}",
        "qualifier": "OTHER",
    }


def read_datetime(sent: Any, form: YearForm) -> datetime:
    """Raises ValueError for whatever is not of that form."""
    parts = ["MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "SUBSECOND"]
    members(sent, {"YEAR", *parts, "TIMEZONE"}, {"qualifier"})
    if not isinstance(sent["TIMEZONE"], str) or not re.fullmatch(r"[+-]\d{4}", sent["TIMEZONE"]):
        raise ValueError(sent)
    zone = datetime.strptime(sent["TIMEZONE"], "%z").tzinfo
    year = whole(sent["YEAR"])
    if (form == "calendar") != (year < 10000):
        raise ValueError(sent)
    if form == "epoch":
        start = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=year)).astimezone(zone)
        if start != datetime(start.year, 1, 1, tzinfo=zone):
            raise ValueError(sent)
        year = start.year
    month, day, hour, minute, second, fraction = (whole(sent[part]) for part in parts)
    return datetime(year, month, day, hour, minute, second, fraction, zone)


def local(value: date, zone: ZoneInfo) -> datetime:
    """The moment in the zone; of a date, its midnight there."""
    if isinstance(value, datetime):
        return value.astimezone(zone)
    return datetime(value.year, value.month, value.day, tzinfo=zone)


def whole(value: Any) -> int:
    """A whole number from 0, which true is not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def members(sent: Any, needed: set[str], allowed: set[str]) -> None:
    """All that is needed, and nothing else but what is allowed."""
    if not isinstance(sent, dict) or not needed <= set(sent) <= needed | allowed:
        raise ValueError(sent)


def same(one: Any, other: Any) -> bool:
    """Equal and of one type: true is not 1."""
    return type(one) is type(other) and bool(one == other)


def member(body: Any, name: str, kind: type[T]) -> T:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, kind):
        raise Refused(f"{found} is not a valid {name}")
    return found


def expect(body: Any, name: str, *allowed: str) -> str:
    found = member(body, name, str)
    if found not in allowed:
        raise Refused(f"{found} is not a valid {name}")
    return found


def only(body: Any, *allowed: str) -> None:
    if not isinstance(body, dict):
        raise Refused(f"{body} is not a valid object")
    for name in body:
        if name not in allowed:
            raise Refused(f"{name} is not a valid member")


def position(body: dict[str, Any], name: str, default: int) -> int:
    """A count, as a number or as its digits."""
    sent = body.get(name, default)
    if isinstance(sent, bool) or not re.fullmatch(r"\d+", str(sent)):
        raise Refused(f"{sent} is not a valid {name}")
    return int(sent)


def parenthesis(sent: Any) -> int:
    """So many are written as a number, by themselves, or as one by what stands for true."""
    if isinstance(sent, int):
        return int(sent)
    text = "" if sent is None else str(sent)
    return len(text) if text and set(text) <= set("()") else int(text.lower() in ("true", "+", "1", "y", "yes"))


@dataclass(kw_only=True, eq=False)
class Vendor:
    """PEMS at `url` while the context lasts.

    Lines are values by the grid's aliases, and by the screen's names for `extra_fields`: name -> value of new lines,
    whose type is the field's. Tests may write to `lines` as they like; `add` and `change` see to the line's version.

    Cells: `shape` (members of a ROW are D or CELL, of a DATARECORD they are DATAFIELD; "grids" has no GRID), `path`,
    `dates`, `numbers`, `flags`, `localize` (whether LOCALIZE_RESULT false is honoured), `zone`, `blank` (what an empty
    cell or text is), `records` (what RECORDS counts), `cursor` (which row of the page CURRENTCURSORPOSITION is).
    Pages: `rows` without a wish, `most_rows` whatever is wished for. `filter_dates`: how filters write a time.
    `dataspies`: by their id; none means that every id is one that hides nothing. `dataspy`: the user's own.

    Screen: `year`, `numeric`, `screen_flags`; `put`: UPDATE blanks what is not sent; `whole_answer`: ADD and UPDATE are
    answered with the whole record, otherwise with its key; `within`: names between ResultData and the record;
    `leave_out`: fields without a value do not appear; `lock`: UPDATE and DELETE need a recordid; `normalizing`: of
    "upper", "trim", "round" (to `decimals`); `defaults`: what null becomes, by alias; `clock`: when things happen.

    `canned` are answers to come, `log` all requests, `failures` the fake's own errors, which are answered with 500.
    `recordids` are the versions of lines, `next_id` is the next new line's.

    Alerts come with `alert_status`; `bom` precedes every body; `auth` is user and password; `tenant` and
    `organizations` are those that there are, by default all.
    """

    lines: dict[Key, Line] = field(default_factory=dict)
    extra_fields: Mapping[str, Value] = field(default_factory=dict)

    shape: Literal["D", "CELL", "DATAFIELD", "grids"] = "D"
    path: str = ""
    dates: DateForm = "M/D/YYYY HH:MM"
    numbers: NumberForm = "1,234.56"
    flags: FlagForm = "Y/N"
    localize: bool = True
    zone: str = "UTC"
    blank: Literal[""] | None = None
    records: Literal["null", "total", "count"] = "total"
    cursor: Literal["first", "last"] = "last"
    rows: int = 50
    most_rows: int | None = None
    filter_dates: str = "%Y-%m-%d %H:%M"
    dataspies: Mapping[str, Dataspy] = field(default_factory=dict)
    dataspy: str | None = None

    year: YearForm = "epoch"
    numeric: NumericForm = "object"
    screen_flags: FlagForm = "true/false"
    put: bool = True
    whole_answer: bool = True
    within: tuple[str, ...] = ()
    leave_out: bool = False
    lock: bool = True
    normalizing: Collection[Literal["upper", "trim", "round"]] = ()
    decimals: int = 2
    defaults: Mapping[str, Value] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    alert_status: Literal[400, 200] = 400
    bom: bool = False
    auth: tuple[str, str] | None = None
    tenant: str | None = None
    organizations: Collection[str] | None = None
    grid_name: str = "CUPFAG"
    grid_id: str = "100541"
    screen_name: str = "CUPFA2"

    canned: list[Canned] = field(default_factory=list, init=False)
    log: list[Received] = field(default_factory=list, init=False)
    failures: list[str] = field(default_factory=list, init=False)
    recordids: dict[Key, int] = field(default_factory=dict, init=False)
    next_id: int = field(default=100001, init=False)
    url: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.path = self.path or (GRIDS if self.shape == "grids" else GRIDDATA)
        self._here = ZoneInfo(self.zone)
        self._one_by_one = threading.RLock()
        self._screen: dict[str, tuple[str, Kind]] = {name: (alias, kind) for alias, name, kind in TABLE if name}
        self._screen |= {name: (name, kind_of(value)) for name, value in self.extra_fields.items()}

    def __enter__(self) -> "Vendor":
        self._server = Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        self._thread.join(60)

    # What tests do

    def add(self, organization: str, pfs_id: str, **values: Value) -> None:
        """A line: what is not named is null, extra fields have the value of new lines."""
        with self._one_by_one:
            self._keep((organization, pfs_id), dict(self.extra_fields) | values)

    def change(self, organization: str, pfs_id: str, **values: Value) -> None:
        """Somebody else changes a line."""
        with self._one_by_one:
            self._keep((organization, pfs_id), self.lines[organization, pfs_id] | values)

    # Answers

    def answer(self, path: str, headers: Message, raw: bytes) -> tuple[int, bytes, Mapping[str, str]] | None:
        """Status, body and headers; None ends the connection."""
        with self._one_by_one:
            body = parsed(raw)
            received = understood(body, headers)
            self.log.append(received)
            canned = self._next_canned(received.action)
            if canned is None:
                return self._respond(path, headers, body)
            if canned.done:
                self._respond(path, headers, body)
            return (canned.status, canned.body, canned.headers) if canned.status else None

    def _next_canned(self, action: str) -> Canned | None:
        for number, canned in enumerate(self.canned):
            if canned.action in (None, action):
                return self.canned.pop(number)
        return None

    def _respond(self, path: str, headers: Message, body: Any) -> tuple[int, bytes, Mapping[str, str]]:
        if path not in (self.path, SCREEN):
            return 404, b"", {}
        status = 200
        try:
            self._admit(headers)
            if not isinstance(body, dict):
                raise Refused("The body is not a valid request")
            answer = envelope(self._call(body) if path == SCREEN else self._list(body))
        except Refused as refused:
            status, answer = self.alert_status, envelope(error=str(refused))
        except Exception as error:
            self.failures.append(repr(error))
            status, answer = 500, envelope(error="Internal error")
        encoded = json.dumps(answer, ensure_ascii=False).encode()
        return status, b"\xef\xbb\xbf" * self.bom + encoded, {"Content-Type": "application/json; charset=utf-8"}

    def _admit(self, headers: Message) -> None:
        if self.auth is not None:
            expected = "Basic " + base64.b64encode(":".join(self.auth).encode()).decode()
            if headers.get("Authorization") != expected:
                raise Refused("Authorization failed")
        tenant, organization = headers.get("tenant"), headers.get("organization")
        if not tenant or self.tenant not in (None, tenant):
            raise Refused(f"{tenant} is not a valid tenant")
        self._known(organization)

    def _known(self, organization: Any) -> str:
        if not isinstance(organization, str) or not organization:
            raise Refused(f"{organization} is not a valid organization")
        if self.organizations is not None and organization not in self.organizations:
            raise Refused(f"{organization} is not a valid organization")
        return organization

    # The grid

    def _list(self, body: dict[str, Any]) -> Any:
        only(
            body,
            *("GRID", "GRID_TYPE", "DATASPY", "REQUEST_TYPE", "ADDON_SORT", "ADDON_FILTER", "MULTIADDON_FILTERS"),
        )
        grid = self._grid(body)
        request = expect(body, "REQUEST_TYPE", "LIST.HEAD_DATA.STORED", "LIST.DATA_ONLY.STORED")
        dataspy, matches = self._dataspy(body.get("DATASPY")), self._matcher(body)
        lines = [named(key, line) for key, line in self.lines.items()]
        lines = self._sorted([line for line in lines if not dataspy.hides(line) and matches(line)], body)

        start = max(1, position(grid, "CURSOR_POSITION", 1))
        asked = position(grid, "NUMBER_OF_ROWS_FIRST_RETURNED", self.rows)
        page = lines[start - 1 :][: asked if self.most_rows is None else min(asked, self.most_rows)]
        plain = self.localize and str(grid.get("LOCALIZE_RESULT", True)).lower() == "false"
        columns = [alias for alias in KINDS if alias not in dataspy.without]
        cells = [{alias: self._cell(alias, line.get(alias), plain) for alias in columns} for line in page]
        counted = {"null": None, "total": len(lines), "count": len(page)}[self.records]
        if self.shape == "grids":
            return self._bare_page(cells, start, len(lines), counted)
        metadata = {
            "RECORDS": counted,
            "CLIENTROWS": len(page),
            "MORERECORDPRESENT": "+" if start - 1 + len(page) < len(lines) else "-",
            "CURRENTCURSORPOSITION": start if self.cursor == "first" else start - 1 + len(page),
        }
        fields = {"FIELDS": headers_of(columns)} if request == "LIST.HEAD_DATA.STORED" else {}
        return {"GRID": {"METADATA": metadata, **fields, "DATA": self._data(cells, start)}}

    def _grid(self, body: dict[str, Any]) -> dict[str, Any]:
        grid = member(body, "GRID", dict)
        only(
            grid,
            *("GRID_NAME", "GRID_ID", "USER_FUNCTION_NAME", "NUMBER_OF_ROWS_FIRST_RETURNED"),
            *("CURSOR_POSITION", "LOCALIZE_RESULT"),
        )
        expect(grid, "GRID_NAME", self.grid_name)
        expect(grid, "GRID_ID", self.grid_id)
        expect(member(body, "GRID_TYPE", dict), "TYPE", "LIST")
        return grid

    def _dataspy(self, sent: Any) -> Dataspy:
        chosen = None if sent is None else member({"DATASPY": sent}, "DATASPY", dict).get("DATASPY_ID")
        chosen = self.dataspy if chosen in (None, "") else str(chosen)
        if chosen is None or not self.dataspies:
            return Dataspy()
        if chosen not in self.dataspies:
            raise Refused(f"{chosen} is not a valid dataspy")
        return self.dataspies[chosen]

    def _sorted(self, lines: list[Line], body: dict[str, Any]) -> list[Line]:
        """Those without a value come first, or last where it descends."""
        if body.get("ADDON_SORT") is None:
            return lines
        sort = member(body, "ADDON_SORT", dict)
        alias, direction = expect(sort, "ALIAS_NAME", *KINDS), expect(sort, "TYPE", "ASC", "DESC")

        def place(line: Line) -> Any:
            value = line.get(alias)
            return (value is not None, 0 if value is None else value)

        return sorted(lines, key=place, reverse=direction == "DESC")

    def _matcher(self, body: dict[str, Any]) -> Matcher:
        """Both kinds of filters, where both are there."""
        matchers: list[Matcher] = []
        if body.get("ADDON_FILTER") is not None:
            only(member(body, "ADDON_FILTER", dict), "ALIAS_NAME", "OPERATOR", "VALUE")
            matchers.append(self._condition(body["ADDON_FILTER"]))
        if body.get("MULTIADDON_FILTERS") is not None:
            matchers.append(self._joined(member(body["MULTIADDON_FILTERS"], "MADDON_FILTER", list)))
        return lambda line: all(matches(line) for matches in matchers)

    def _joined(self, filters: list[Any]) -> Matcher:
        """In the order of SEQNUM; a JOINER stands between its filter and the next one, and AND binds before OR."""
        names = ("ALIAS_NAME", "OPERATOR", "VALUE", "JOINER", "SEQNUM", "LPAREN", "RPAREN")
        for each in filters:
            only(each, *names)
        ordered = sorted(filters, key=lambda each: position(each, "SEQNUM", 0))
        if not ordered or len({str(each.get("SEQNUM")) for each in ordered}) < len(ordered):
            raise Refused("These are not valid filters")
        matchers, words = [self._condition(each) for each in ordered], []
        for number, each in enumerate(ordered):
            words += ["("] * parenthesis(each.get("LPAREN")) + [f"all[{number}](line)"]
            words += [")"] * parenthesis(each.get("RPAREN"))
            words += [expect(each, "JOINER", "AND", "OR").lower()] if number + 1 < len(ordered) else []
        try:
            code = compile(" ".join(words), "filters", "eval")
        except SyntaxError as error:
            raise Refused("These are not valid filters") from error
        return lambda line: bool(eval(code, {"all": matchers, "line": line}))

    def _condition(self, sent: Any) -> Matcher:
        alias, operator = expect(sent, "ALIAS_NAME", *KINDS), expect(sent, "OPERATOR", "=", ">=", "BEGINS")
        text, kind = member(sent, "VALUE", str), KINDS[alias]
        if operator == "BEGINS" and kind != "text":
            raise Refused(f"{operator} is not a valid operator for {alias}")
        wanted = self._filtered(text, alias)

        def matches(line: Line) -> bool:
            have: Any = line.get(alias)
            if have is None:
                return False
            if kind == "moment":
                have = have.astimezone(self._here).replace(tzinfo=None)
            if operator == "BEGINS":
                return bool(have.startswith(wanted))
            return bool(have == wanted if operator == "=" else have >= wanted)

        return matches

    def _filtered(self, text: str, alias: str) -> Any:
        """What a filter compares with: times are the server's own, numbers plain, flags those of the cells."""
        kind = KINDS[alias]
        try:
            if kind == "moment":
                return datetime.strptime(text, self.filter_dates)
            if kind == "date":
                return datetime.strptime(text, self.filter_dates.split()[0]).date()
            if kind == "number":
                return Decimal(text)
            if kind == "flag":
                return self._flag(text, self.flags)
            return text
        except (ValueError, ArithmeticError) as error:
            raise Refused(f"{text} is not a valid value of {alias}") from error

    def _flag(self, sent: Any, form: FlagForm) -> bool:
        """Raises ValueError for another form's."""
        return [same(sent, word) for word in FLAGS[form]].index(True) == 0

    def _cell(self, alias: str, value: Value, plain: bool) -> Any:
        if value is None:
            return self.blank
        if isinstance(value, bool):
            return FLAGS[self.flags][0 if value else 1]
        if isinstance(value, Decimal):
            return written_number(value, "plain" if plain else self.numbers)
        if isinstance(value, date):
            form = DATES["iso" if plain else self.dates][KINDS[alias] == "moment"]
            return form.format(local(value, self._here)).upper()
        return value

    def _data(self, cells: list[dict[str, Any]], start: int) -> Any:
        if self.shape == "DATAFIELD":
            return {"DATARECORD": [datafields(row) for row in cells]}
        if self.shape == "CELL":
            return {"ROW": [{"CELL": [{"ALIAS_NAME": n, "VALUE": v} for n, v in row.items()]} for row in cells]}
        numbered = [sorted((NUMBER_OF[alias], value) for alias, value in row.items()) for row in cells]
        return {
            "ROW": [
                {"id": str(start + place), "D": [{"n": number, "value": value} for number, value in row]}
                for place, row in enumerate(numbered)
            ]
        }

    def _bare_page(self, cells: list[dict[str, Any]], start: int, total: int, counted: int | None) -> Any:
        following = start + len(cells)
        return {
            "DATARECORD": [datafields(row) for row in cells] or None,
            "NEXTCURSORPOSITION": following if following <= total else "",
            "RECORDS": counted,
        }

    # The screen

    def _call(self, body: dict[str, Any]) -> Any:
        only(
            body,
            *("USERDEFINEDSCREENNAME", "USERDEFINEDSERVICEACTION", "USERDEFINEDSCREENFIELDVALUELIST", "recordid"),
        )
        expect(body, "USERDEFINEDSCREENNAME", self.screen_name)
        action = expect(body, "USERDEFINEDSERVICEACTION", "GET", "ADD", "UPDATE", "DELETE")
        sent = self._decoded(body)
        organization, pfs_id = self._known(sent.get("PFS_A_ORG")), sent.get("PFS_ID")
        if action == "ADD":
            return self._record(self._added(organization, pfs_id, sent), action, self.whole_answer)
        key = (organization, str(pfs_id))
        if key not in self.lines:
            raise Refused("Record not found")
        if action == "GET":
            return self._record(key, action, True)
        self._check_lock(key, body.get("recordid"))
        if action == "UPDATE":
            self._update(key, sent)
            return self._record(key, action, self.whole_answer)
        answer = self._record(key, action, False)
        del self.lines[key]
        return answer

    def _check_lock(self, key: Key, sent: Any) -> None:
        if sent is None:
            if self.lock:
                raise Refused("null is not a valid recordid")
        elif str(sent) != str(self.recordids.setdefault(key, 1)):
            raise Refused("This record has been modified by another user")

    def _added(self, organization: str, pfs_id: Value, sent: dict[str, Value]) -> Key:
        key = (organization, self._new_id(organization) if pfs_id is None else str(pfs_id))
        if key in self.lines:
            raise Refused("Record already exists")
        values = dict(self.extra_fields) | sent
        line = {alias: self._normal(alias, kind, values.get(name)) for name, (alias, kind) in self._screen.items()}
        self._keep(key, line)
        return key

    def _new_id(self, organization: str) -> str:
        while (organization, str(self.next_id)) in self.lines:
            self.next_id += 1
        self.next_id += 1
        return str(self.next_id - 1)

    def _update(self, key: Key, sent: Mapping[str, Value]) -> None:
        line = dict(self.lines[key])
        for name, (alias, kind) in self._screen.items():
            if name in sent or self.put:
                line[alias] = self._normal(alias, kind, sent.get(name))
        self._keep(key, line)

    def _keep(self, key: Key, line: Line) -> None:
        """The line of that key from now on, in a new version unless the mark of its last change is given."""
        before = self.lines.get(key, {}).get("pfs_lastmodified")
        if line.get("pfs_lastmodified") in (None, before):
            line["pfs_lastmodified"] = self.clock()
        unnamed: Line = dict.fromkeys(KINDS)
        self.lines[key] = named(key, unnamed | line)
        self.recordids[key] = self.recordids.get(key, 0) + 1

    def _normal(self, alias: str, kind: Kind, value: Value) -> Value:
        """As PEMS keeps it. Keys and codes stay as they are."""
        if isinstance(value, str) and kind == "text" and alias not in (*KEYS, *CODES):
            value = value.strip() if "trim" in self.normalizing else value
            value = value.upper() if "upper" in self.normalizing else value
        if isinstance(value, Decimal) and "round" in self.normalizing:
            value = value.quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_UP)
        return self.defaults.get(alias) if value in (None, "") else value

    def _decoded(self, body: dict[str, Any]) -> dict[str, Value]:
        """Every pair, by its name. What is not a field of the screen, or not in its written form, is refused."""
        listed = member(body, "USERDEFINEDSCREENFIELDVALUELIST", dict)
        only(listed, "USERDEFINEDSCREENFIELDVALUEPAIR")
        decoded: dict[str, Value] = {}
        for pair in member(listed, "USERDEFINEDSCREENFIELDVALUEPAIR", list):
            name = member(pair, "USERDEFINEDSCREENFIELDNAME", str)
            only(pair, "USERDEFINEDSCREENFIELDNAME", "USERDEFINEDSCREENFIELDVALUE")
            if name in decoded or name not in self._screen:
                raise Refused(f"{name} is not a valid field")
            sent = pair.get("USERDEFINEDSCREENFIELDVALUE")
            try:
                decoded[name] = self._value(*self._screen[name], sent)
            except (ValueError, TypeError, ArithmeticError) as error:
                raise Refused(f"{json.dumps(sent, default=str)} is not a valid {name}") from error
        return decoded

    def _value(self, alias: str, kind: Kind, sent: Any) -> Value:
        """Raises ValueError for whatever is not of that kind."""
        members(sent, {MEMBERS[kind]}, set())
        (data,) = sent.values()
        if data is None or (MEMBERS[kind] == "TEXTDATA" and data == ""):
            return None
        if kind == "flag":
            return self._flag(data, self.screen_flags)
        if kind == "number":
            return not_negative(read_numeric(data, self.numeric))
        if kind == "text":
            if not isinstance(data, str) or data not in CODES.get(alias, (data,)):
                raise ValueError(data)
            return data
        moment = read_datetime(data, self.year)
        return moment if kind == "moment" else at_midnight(moment)

    def _record(self, key: Key, action: str, complete: bool) -> Any:
        line = named(key, self.lines[key])
        names = list(self._screen) if complete else ["PFS_ID", "PFS_A_ORG"]
        pairs = [
            {"USERDEFINEDSCREENFIELDNAME": name, "USERDEFINEDSCREENFIELDVALUE": self._data_of(name, line)}
            for name in names
            if not self.leave_out or line.get(self._screen[name][0]) is not None
        ]
        record: dict[str, Any] = {
            "USERDEFINEDSCREENNAME": self.screen_name,
            "USERDEFINEDSERVICEACTION": action,
            "USERDEFINEDSCREENFIELDVALUELIST": {"USERDEFINEDSCREENFIELDVALUEPAIR": pairs},
            "recordid": self.recordids.setdefault(key, 1),
        }
        for name in reversed(self.within):
            record = {name: record}
        return record

    def _data_of(self, name: str, line: Line) -> dict[str, Any]:
        alias, kind = self._screen[name]
        value, data = line.get(alias), MEMBERS[kind]
        if value is None:
            return {data: self.blank if data == "TEXTDATA" else None}
        if isinstance(value, bool):
            return {data: FLAGS[self.screen_flags][0 if value else 1]}
        if isinstance(value, Decimal):
            return {data: written_numeric(value, self.numeric)}
        return {data: written_datetime(value, self._here, self.year) if isinstance(value, date) else value}


def named(key: Key, line: Line) -> Line:
    """The line with its key."""
    return {**line, "pfs_a_org": key[0], "pfs_id": key[1]}


def kind_of(value: Value) -> Kind:
    """What a field holds that begins with this value."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, Decimal):
        return "number"
    if isinstance(value, datetime):
        return "moment"
    return "date" if isinstance(value, date) else "text"


def not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise ValueError(value)
    return value


def at_midnight(moment: datetime) -> date:
    """The day, of a moment without a time."""
    if moment.time() != datetime.min.time():
        raise ValueError(moment)
    return moment.date()


def headers_of(columns: list[str]) -> dict[str, Any]:
    labels = {alias: alias.removeprefix("pfs_").replace("_", " ").title() for alias in columns}
    return {"FIELD": [{"aliasnum": NUMBER_OF[alias], "name": alias, "label": labels[alias]} for alias in columns]}


def datafields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = [{"FIELDNAME": alias, "FIELDLABEL": alias.title(), "FIELDVALUE": value} for alias, value in row.items()]
    return {"DATAFIELD": fields}


def parsed(raw: bytes) -> Any:
    """The JSON, its decimals exact; None where it is none."""
    try:
        return json.loads(raw, parse_float=Decimal)
    except ValueError:
        return None


def understood(body: Any, headers: Message) -> Received:
    """What the log keeps of a request, whatever its body is."""
    organization = headers.get("organization", "")
    if not isinstance(body, dict):
        return Received("", organization, None, ())
    if "USERDEFINEDSERVICEACTION" not in body:
        return Received("LIST", organization, None, tuple(body.items()))
    listed = body.get("USERDEFINEDSCREENFIELDVALUELIST")
    pairs = listed.get("USERDEFINEDSCREENFIELDVALUEPAIR") if isinstance(listed, dict) else None
    sent = [pair for pair in pairs if isinstance(pair, dict)] if isinstance(pairs, list) else []
    values = [(str(p.get("USERDEFINEDSCREENFIELDNAME")), p.get("USERDEFINEDSCREENFIELDVALUE")) for p in sent]
    texts = {name: value.get("TEXTDATA") for name, value in values if isinstance(value, dict)}
    line = texts.get("PFS_A_ORG") or organization
    return Received(str(body["USERDEFINEDSERVICEACTION"]), str(line), texts.get("PFS_ID"), tuple(values))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: "Server"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.vendor.answer(self.path, self.headers, raw)
        if answer is None:
            self.close_connection = True
            return
        status, body, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Nothing here is got: there is no such page."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.connections: set[Any] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """A client that kept one finds it closed, and does not speak to who is gone."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's failure."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.vendor.failures.append(repr(error))


class Example(NamedTuple):
    """A value on the wire, what it means, and the options of `Vendor` that make it so.

    `kind`: that of a cell (date, moment, number, flag), "filter" for a time in a filter, or the screen's member.
    """

    kind: str
    wire: Any
    value: Value
    settings: Mapping[str, Any]


def _flag_examples(kind: str, option: str) -> list[Example]:
    """Every form of a flag, true and false."""
    return [
        Example(kind, word, place == 0, {option: form})
        for form, words in FLAGS.items()
        for place, word in enumerate(words)
    ]


_NO_TIME: Final = {"HOUR": 0, "MINUTE": 0, "SECOND": 0, "SUBSECOND": 0, "TIMEZONE": "-0500", "qualifier": "OTHER"}
_NEW_YORK: Final = {"zone": "America/New_York"}
_PLAIN: Final = {"CURRENCY": None, "DRCR": None, "UOM": None, "qualifier": "OTHER"}

EXAMPLES: Final[tuple[Example, ...]] = (
    Example(
        "DATETIMEDATA",
        {"YEAR": 1609477200000, "MONTH": 12, "DAY": 21, **_NO_TIME},
        date(2021, 12, 21),
        {"year": "epoch", **_NEW_YORK},
    ),
    Example(
        "DATETIMEDATA",
        {"YEAR": 2021, "MONTH": 12, "DAY": 21, **_NO_TIME},
        date(2021, 12, 21),
        {"year": "calendar", **_NEW_YORK},
    ),
    Example(
        "NUMERICDATA",
        {"VALUE": 382550, "NUMOFDEC": 2, "SIGN": "+", **_PLAIN},
        Decimal("3825.50"),
        {"numeric": "object"},
    ),
    Example("NUMERICDATA", 3825.5, Decimal("3825.50"), {"numeric": "bare"}),
    Example("moment", "6/13/2024 15:56", datetime(2024, 6, 13, 15, 56, tzinfo=UTC), {"dates": "M/D/YYYY HH:MM"}),
    Example(
        "moment",
        "6/13/2024 15:56",
        datetime(2024, 6, 13, 19, 56, tzinfo=UTC),
        {"dates": "M/D/YYYY HH:MM", **_NEW_YORK},
    ),
    Example("date", "13/06/2024", date(2024, 6, 13), {"dates": "DD/MM/YYYY"}),
    Example("date", "15-JAN-2026", date(2026, 1, 15), {"dates": "15-JAN-2026"}),
    Example("date", "2026-01-15", date(2026, 1, 15), {"dates": "iso"}),
    Example("filter", "2025-02-06 15:50", datetime(2025, 2, 6, 15, 50, tzinfo=UTC), {}),
    Example("number", "1,234.56", Decimal("1234.56"), {"numbers": "1,234.56"}),
    Example("number", "1.234,56", Decimal("1234.56"), {"numbers": "1.234,56"}),
    Example("number", "1234.56", Decimal("1234.56"), {"numbers": "plain"}),
    *_flag_examples("flag", "flags"),
    *_flag_examples("TEXTDATA", "screen_flags"),
)
