"""XLSX, written as a stream: one sheet after another into a ZIP that is never read back.

A cell holds its text, so that no table of texts has to be kept. Sheets come first in the archive, and what lists them
last, when it is known how many there are.
"""

import datetime
import re
import zipfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import IO, Any, cast

from app.base import exact_json
from app.contracts.shape import FieldType
from app.contracts.values import read_date, read_datetime, write_datetime
from app.exports.cells import plain
from app.exports.columns import Column
from app.exports.formats import Row, Writer

MOST_ROWS = 1_048_576  # of a sheet
MOST_BYTES = 2_000_000_000  # of a sheet before it is packed: more would take another form of ZIP
LONGEST = 32_767  # UTF-16 units of a text in a cell
CUT = "… [cut]"
DIGITS = 15  # that a spreadsheet keeps of a number
EXPONENT = 307  # of ten, beyond which it has no numbers
FIRST_DAY = datetime.date(1900, 3, 1)  # before it, spreadsheets do not agree which day is which
DAY_ZERO = datetime.date(1899, 12, 30).toordinal()
MOMENT_ZERO = datetime.datetime(1899, 12, 30, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)

# What XML cannot hold, or not as it is; and what Excel would take for an escaped character.
SPECIAL = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}

DECLARED = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"

# Three styles: as it is, a day, and a moment.
STYLES = f"""\
{DECLARED}<styleSheet xmlns="{MAIN}"><numFmts count="2"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/>\
<numFmt numFmtId="165" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss.000"/></numFmts>\
<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>\
<fills count="2"><fill><patternFill patternType="none"/></fill>\
<fill><patternFill patternType="gray125"/></fill></fills>\
<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>\
<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>\
<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>\
<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>\
<xf numFmtId="165" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>\
<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"""


class Workbook(Writer):
    """A spreadsheet with as many sheets as the rows need, each with the columns' names in its first row.

    Numbers, days, moments and booleans are cells of their kind; a number of more digits than a spreadsheet keeps is a
    text, and so is a day that it does not know, or a moment between two milliseconds.
    """

    ending, media_type, form, slow = "xlsx", f"{TYPES}.sheet", "array", True

    def __init__(self, columns: Sequence[Column]):
        super().__init__(columns)
        self._letters = [_letters(place) for place in range(len(columns))]
        self._types = [column.type for column in columns]
        self._out = _Out()
        # An output that cannot be read or wound back is all that it needs.
        self._archive = _Archive(cast(IO[bytes], self._out), "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._sheet: IO[bytes] | None = None
        self._sheets = self._row = self._bytes = 0

    def head(self) -> bytes:
        """The beginning of the first sheet."""
        self._begin_sheet()
        return self._out.take()

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Rows by their values."""
        while rows:
            if self._row >= MOST_ROWS or self._bytes >= MOST_BYTES:
                self._end_sheet()
                self._begin_sheet()
            room = MOST_ROWS - self._row
            self._write("".join([self._written(row) for row in rows[:room]]))
            rows = rows[room:]
        return self._out.take()

    def lines(self, lines: Sequence[str]) -> bytes:
        """Arrays."""
        return self.rows([exact_json.decode(line) for line in lines])

    def tail(self) -> bytes:
        """The last sheet's end, and what lists the sheets."""
        self._end_sheet()
        for name, text in _parts(self._sheets).items():
            with self._archive.open(name, "w") as part:
                part.write(text.encode())
        self._archive.close()
        return self._out.take()

    def _begin_sheet(self) -> None:
        self._sheets += 1
        self._row = self._bytes = 0
        self._sheet = self._archive.open(f"xl/worksheets/sheet{self._sheets}.xml", "w")
        self._write(f'{DECLARED}<worksheet xmlns="{MAIN}"><sheetData>')
        self._write(self._written([column.name for column in self.columns], named=True))

    def _end_sheet(self) -> None:
        self._write("</sheetData></worksheet>")
        assert self._sheet is not None
        self._sheet.close()

    def _write(self, text: str) -> None:
        assert self._sheet is not None, "head comes first"
        self._bytes += self._sheet.write(text.encode())

    def _written(self, row: Row, *, named: bool = False) -> str:
        """A row's XML; `named`: its texts are names, whatever the columns hold."""
        self._row += 1
        number = str(self._row)
        cells = [
            f'<c r="{letters}{number}"{_cell(value, None if named else kind)}'
            for letters, kind, value in zip(self._letters, self._types, row, strict=True)
            if value is not None
        ]
        return f'<row r="{number}">{"".join(cells)}</row>'


class _Archive(zipfile.ZipFile):
    """One that nobody wants any more is not completed."""

    def __del__(self) -> None:
        pass


class _Out:
    """Where the archive is written to; `take` hands on what came since."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


# -- cells ------------------------------------------------------------------------------------------------------------


def _cell(value: Any, kind: FieldType | None) -> str:
    """The rest of a cell's XML, behind its place."""
    match value:
        case str() if kind in SERIALS:
            style, serial_of = SERIALS[kind]
            serial = serial_of(value)
            return _text(value) if serial is None else f' s="{style}"><v>{serial}</v></c>'
        case str():
            return _text(value)
        case bool():
            return f' t="b"><v>{value:d}</v></c>'
        case int() | Decimal():
            number = plain(value)
            return f"><v>{number}</v></c>" if _is_exact(number) else _text(number)
        case datetime.datetime():
            return _cell(write_datetime(value), "datetime")
        case datetime.date():
            return _cell(value.isoformat(), "date")
        case _:
            return _text(plain(value))


def _text(text: str) -> str:
    if _is_plain(text):
        return f' t="inlineStr"><is><t>{_fitted(text)}</t></is></c>'
    return f' t="inlineStr"><is><t xml:space="preserve">{SPECIAL.sub(_escaped, _fitted(text))}</t></is></c>'


def _is_plain(text: str) -> bool:
    """Whether it needs no care, as nearly all texts: by what is fast to find out."""
    if not text.isprintable() or "&" in text or "<" in text or ">" in text or "_x" in text:
        return False
    return text[:1] != " " and text[-1:] != " "


def _escaped(found: re.Match[str]) -> str:
    return ENTITIES.get(found[0]) or f"_x{ord(found[0]):04X}_"


def _fitted(text: str) -> str:
    """As much of it as a cell holds."""
    if len(text) <= LONGEST // 2:
        return text
    units = text.encode("utf-16-le")
    if len(units) <= 2 * LONGEST:
        return text
    return units[: 2 * (LONGEST - len(CUT))].decode("utf-16-le", "ignore") + CUT


def _is_exact(number: str) -> bool:
    """Whether a spreadsheet keeps the number, whose digits are all there, as it is."""
    if len(number) <= DIGITS:
        return True
    whole, _, fraction = number.lstrip("-").partition(".")
    digits = f"{whole}{fraction}".strip("0")
    return len(digits) <= DIGITS and len(whole) <= EXPONENT and len(fraction) <= EXPONENT


@lru_cache(maxsize=65_536)
def _serial(text: str) -> int | None:
    """The number of a day in a spreadsheet; None for what is none."""
    day = read_date(text)
    return None if day is None or day < FIRST_DAY else day.toordinal() - DAY_ZERO


def _moment(text: str) -> str | None:
    """The same of a moment, in days and their fraction; None for one that would not be the same again."""
    moment = read_datetime(text)
    if moment is None or moment.date() < FIRST_DAY or moment.microsecond % 1000:
        return None
    days, rest = divmod(moment - MOMENT_ZERO, DAY)
    return plain(days + (Decimal(rest // datetime.timedelta(milliseconds=1)) / 86_400_000).quantize(Decimal("1e-10")))


# Type -> its style, and what makes a number of its text.
SERIALS: dict[FieldType | None, tuple[int, Callable[[str], int | str | None]]] = {
    "date": (1, _serial),
    "datetime": (2, _moment),
}


def _letters(place: int) -> str:
    """The name of a column in a spreadsheet: A to Z, AA and on."""
    first, last = divmod(place, 26)
    return (_letters(first - 1) if first else "") + chr(ord("A") + last)


# -- what lists the sheets --------------------------------------------------------------------------------------------


def _parts(sheets: int) -> dict[str, str]:
    """The other files of the archive."""
    numbers = range(1, sheets + 1)
    types = [
        ("workbook", "sheet.main"),
        ("styles", "styles"),
        *((f"worksheets/sheet{n}", "worksheet") for n in numbers),
    ]
    overrides = [f'<Override PartName="/xl/{name}.xml" ContentType="{TYPES}.{kind}+xml"/>' for name, kind in types]
    listed = [f'<sheet name="Rows{f" {n}" if n > 1 else ""}" sheetId="{n}" r:id="rId{n}"/>' for n in numbers]
    related = [_related(f"rId{n}", "worksheet", f"worksheets/sheet{n}.xml") for n in numbers]
    return {
        "xl/workbook.xml": f'{DECLARED}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">'
        f"<sheets>{''.join(listed)}</sheets></workbook>",
        "xl/styles.xml": STYLES,
        "xl/_rels/workbook.xml.rels": _relations(*related, _related("rIdStyles", "styles", "styles.xml")),
        "_rels/.rels": _relations(_related("rId1", "officeDocument", "xl/workbook.xml")),
        "[Content_Types].xml": f'{DECLARED}<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{"".join(overrides)}</Types>',
    }


def _related(id_: str, kind: str, target: str) -> str:
    return f'<Relationship Id="{id_}" Type="{OFFICE}/{kind}" Target="{target}"/>'


def _relations(*related: str) -> str:
    return f'{DECLARED}<Relationships xmlns="{PACKAGE}/relationships">{"".join(related)}</Relationships>'
