"""How rows become a file: a writer for each format, of values, and of lines that PostgreSQL has written."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from app.base import exact_json
from app.engine.export import Form
from app.exports.cells import neutral, plain
from app.exports.columns import Column

Row = Sequence[Any]  # str, int, Decimal, bool, datetime.date, None, or any JSON


class Writer(ABC):
    """Writes one file. `slow`: it takes long, and so is done in a thread; `form`: how it wants a dataset's rows."""

    ending: ClassVar[str]
    media_type: ClassVar[str]
    form: ClassVar[Form]
    slow: ClassVar[bool] = False

    def __init__(self, columns: Sequence[Column]):
        self.columns = columns

    def head(self) -> bytes:
        """What stands before the first row."""
        return b""

    @abstractmethod
    def rows(self, rows: Sequence[Row]) -> bytes:
        """Rows by their values."""

    @abstractmethod
    def lines(self, lines: Sequence[str]) -> bytes:
        """Rows of a dataset, as PostgreSQL has written them in this form."""

    def tail(self) -> bytes:
        """What stands behind the last row."""
        return b""


class Csv(Writer):
    """RFC 4180 in UTF-8: null is nothing, an empty text `""`. What a spreadsheet would take for a formula is neutral.

    A composite value is a line of it already, but for the parentheses around it and the doubled backslashes.
    """

    ending, media_type, form = "csv", "text/csv", "composite"

    def __init__(self, columns: Sequence[Column], *, labels: bool = False, mark: bool = False):
        super().__init__(columns)
        self._labels, self._mark = labels, mark

    def head(self) -> bytes:
        """The names; before them a byte order mark where it is wanted."""
        names = self.rows([[column.label if self._labels else column.name for column in self.columns]])
        return b"\xef\xbb\xbf" + names if self._mark else names

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Rows by their values."""
        return "".join([f"{','.join([_csv(value) for value in row])}\r\n" for row in rows]).encode()

    def lines(self, lines: Sequence[str]) -> bytes:
        """Composite values."""
        inner = "\r\n".join([line[1:-1] for line in lines])
        return f"{inner}\r\n".replace("\\\\", "\\").encode()


def _csv(value: Any) -> str:
    if value is None:
        return ""
    text = neutral(value) if isinstance(value, str) else plain(value)
    if text and not any(each in text for each in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


class Ndjson(Writer):
    """A JSON object a line, of every column; null where there is no value."""

    ending, media_type, form = "ndjson", "application/x-ndjson", "object"

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Rows by their values."""
        names = [column.name for column in self.columns]
        return b"".join([exact_json.encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows])

    def lines(self, lines: Sequence[str]) -> bytes:
        """Objects."""
        return ("\n".join(lines) + "\n").encode()
