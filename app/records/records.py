"""Records of an upload, as they come: NDJSON or CSV in chunks of bytes, in constant memory.

What cannot be read of one record is told with that record, and the next one is read. What makes all that follows
unreadable (another encoding, a header without names, a line without an end) is an error that names the line.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from app.base import exact_json
from app.base.errors import Code, Culprit, MalformedRequest

MAX_RECORD = 1_000_000  # bytes of a line, characters of a CSV record of several
MAX_COLUMNS = 1_600  # as many as a table of PostgreSQL has
PIECE = 256 * 1024  # bytes that are looked through at once
DELIMITERS = ",;\t|"
DEEPEST = 100  # levels of objects and lists in a record
SHOWN = 80  # characters of a name in a message

BOM = b"\xef\xbb\xbf"
# An escaped NUL, which no escaped backslash before u0000 is.
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# The limit is the process's, and beyond the one that is told with the line.
csv.field_size_limit(2 * MAX_RECORD)

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder()


class Raw(msgspec.Struct, frozen=True, gc=False):
    """A record as it was received, from `line` on, counted from 1.

    `record` is its JSON text: of NDJSON the line, of CSV an object of header and text. `members` is what it says,
    numbers with a fraction as Decimal. Of a record that cannot be read `members` is None, `code` and `message` say why,
    and `record` is a JSON string of the text that was received, with U+2400 for NUL.
    """

    line: int
    record: bytes
    members: dict[str, Any] | None
    code: str | None = None
    message: str | None = None


def stored(raw: Raw) -> bytes:
    """The record as it is kept; of one that cannot be read with the reason, as [text, code, message]."""
    if raw.members is not None:
        return raw.record
    return b"[%b,%b]" % (raw.record, _encoder.encode([raw.code, raw.message])[1:-1])


def read_record(line: int, record: bytes) -> Raw:
    """The record of what `stored` kept of it."""
    members = _decoder.decode(record)
    if isinstance(members, dict):
        return Raw(line, record, members)
    text, code, message = members
    return Raw(line, _encoder.encode(text), None, code, message)


def raw_of(line: int, members: dict[str, Any]) -> Raw:
    """The record of an object that came in a body of JSON: where it stood, counted from 1."""
    record = exact_json.encode(members)
    wrong = _misfit(record, members, nul=b"\\u0000" in record)
    return Raw(line, record, members) if wrong is None else _unread(line, record.decode(), *wrong)


# -- NDJSON ------------------------------------------------------------------------------------------------------------


def read_ndjson(chunks: Iterable[bytes]) -> Iterator[Raw]:
    """The records of NDJSON, a JSON object a line; empty lines are none.

    Raises MalformedRequest for another encoding than UTF-8, and for a line of more than MAX_RECORD bytes.
    """
    number = 0
    for block in _blocks(chunks):
        _text_of(block, number)
        nul = b"\\u0000" in block
        for line in block.splitlines():
            number += 1
            try:
                members = _decoder.decode(line)
                wrong = _misfit(line, members, nul=nul)
            except (msgspec.DecodeError, ValueError, InvalidOperation, RecursionError) as error:
                if line.strip():
                    yield _unread(number, line.decode(), Code.MALFORMED_ROW, f"The line is not JSON: {_why(error)}.")
                continue
            if wrong is not None:
                yield _unread(number, line.decode(), *wrong)
            else:
                yield Raw(number, line, members)


def _why(error: Exception) -> str:
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case InvalidOperation():
            return "a number has an exponent beyond all bounds"
    return str(error)[:200]


def _misfit(line: bytes, members: Any, *, nul: bool) -> tuple[str, str] | None:
    """Code and message of what is wrong with a line that is JSON."""
    if type(members) is not dict:
        return Code.MALFORMED_ROW, "The line is no JSON object."
    if len(members) > MAX_COLUMNS:
        return Code.MALFORMED_ROW, f"A record has at most {MAX_COLUMNS:,} members."
    if line.count(b"{") + line.count(b"[") > DEEPEST and _is_deep(members):
        return Code.MALFORMED_ROW, f"The record is nested more than {DEEPEST} levels deep."
    if nul and NUL.search(line):
        return Code.MALFORMED_ROW, "The record holds the character NUL."
    if not _plain(line, len(members)) and (twice := _repeated(line)) is not None:
        return Code.DUPLICATE_MEMBER, f"The member {twice[:SHOWN]!r} comes twice in one object."
    return None


def _is_deep(members: Any) -> bool:
    """Whether there is anything below DEEPEST levels. Who reads the record later may have less room than was here."""
    level = [members]
    for _ in range(DEEPEST):
        level = [
            each
            for value in level
            for each in (value.values() if type(value) is dict else value)
            if type(each) is dict or type(each) is list
        ]
    return bool(level)


def _plain(line: bytes, members: int) -> bool:
    """Whether an object of so many members can have none twice, told by its colons: one a member at least."""
    if line.count(b":") == members:
        return True
    return line.count(b'":') == members and b" :" not in line and b"\t:" not in line


class _RepeatedError(Exception):
    pass


def _check_members(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) < len(members):
        raise _RepeatedError(next(name for name, times in Counter(name for name, _ in members).items() if times > 1))


# msgspec keeps the last of two members of a name, and can ask nobody. Values are of no interest here.
_members = json.JSONDecoder(object_pairs_hook=_check_members, parse_float=str, parse_int=str, strict=False)


def _repeated(line: bytes) -> str | None:
    try:
        _members.decode(line.decode())
    except _RepeatedError as error:
        return str(error)
    return None


# -- CSV ---------------------------------------------------------------------------------------------------------------


def read_csv(chunks: Iterable[bytes], *, delimiter: str | None = None) -> Iterator[Raw]:
    """The records of CSV with a header (RFC 4180): members by header, all of them texts; empty lines are none.

    The delimiter is the one of DELIMITERS that makes most columns of the header, unless it is given. Raises
    MalformedRequest for another encoding than UTF-8, a header whose columns cannot be told apart, and a line or record
    of more than MAX_RECORD.
    """
    lines = _Lines(chunks)
    header, delimiter = _read_header(lines, delimiter)
    columns = len(header)
    reader = csv.reader(lines.walk, delimiter=delimiter, strict=True)
    while True:
        lines.taken.clear()
        start = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"The quotes of the record do not fit: {error}."
        else:
            if len(row) == columns:
                members = dict(zip(header, row, strict=True))
                record = _encoder.encode(members)
                if b"\\u0000" not in record or not NUL.search(record):
                    yield Raw(start, record, members)
                    continue
                message = "The record holds the character NUL."
            elif not row:
                continue
            else:
                message = f"The record has {len(row)} cells, the header {columns}."
        yield _unread(start, "".join(lines.taken), Code.MALFORMED_ROW, message)


class _Lines:
    """Lines of text with their ends; `number` of them are read, `taken` those of the record that is being read."""

    def __init__(self, chunks: Iterable[bytes]):
        self.number = 0
        self.taken: list[str] = []
        self.walk = self._walk(chunks)

    def _walk(self, chunks: Iterable[bytes]) -> Iterator[str]:
        taken, size = self.taken, 0
        for block in _blocks(chunks):
            for line in io.StringIO(_text_of(block, self.number), newline=""):
                size = size + len(line) if taken else len(line)
                if size > MAX_RECORD:
                    first = self.number + 1 - len(taken)
                    raise refuse(f"The record of line {first} has no end: a quote is not closed.", first)
                self.number += 1
                taken.append(line)
                yield line


def _read_header(lines: _Lines, delimiter: str | None) -> tuple[list[str], str]:
    """The names of the columns, and what is between them; raises MalformedRequest."""
    if delimiter is not None and (len(delimiter) != 1 or delimiter not in DELIMITERS):
        raise refuse(f"The delimiter is one of {', '.join(map(repr, DELIMITERS))}.")
    quotes = 0
    for line in lines.walk:
        if len(lines.taken) == 1 and not line.strip("\r\n"):
            lines.taken.clear()
            continue
        quotes += line.count('"')
        if quotes % 2 == 0:
            break
    number = lines.number + 1 - len(lines.taken)
    if not lines.taken:
        raise refuse("The upload has no header.")
    cells = {each: _cells(lines.taken, each) for each in (delimiter or DELIMITERS)}
    most = max(map(len, cells.values()))
    found = [each for each, row in cells.items() if len(row) == most]
    if most == 0:
        raise refuse(f"The quotes of the header, line {number}, do not fit.", number)
    if most > 1 and len(found) > 1:
        ways = " and by ".join(map(repr, found))
        raise refuse(f"The header, line {number}, can be read by {ways}: say which with delimiter=.", number)
    _check_header(cells[found[0]], number)
    return cells[found[0]], found[0]


def _cells(lines: list[str], delimiter: str) -> list[str]:
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return []


def _check_header(header: list[str], line: int) -> None:
    if any("\0" in name for name in header):
        raise refuse("The header holds the character NUL. Is the upload UTF-16? It has to be UTF-8.", line)
    if len(header) > MAX_COLUMNS:
        raise refuse(f"The header has {len(header):,} columns; {MAX_COLUMNS:,} are possible.", line)
    if unnamed := [number for number, name in enumerate(header, 1) if not name.strip()]:
        raise refuse(f"Column {unnamed[0]} of the header, line {line}, has no name.", line)
    if twice := [name for name, times in Counter(header).items() if times > 1]:
        raise refuse(f"Two columns of the header, line {line}, are called {twice[0][:SHOWN]!r}.", line)


# -- bytes -------------------------------------------------------------------------------------------------------------


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The upload in blocks of whole lines, without a byte order mark; raises MalformedRequest for a line too long."""
    kept, number = b"", 0
    for piece in _pieces(chunks):
        # A CR at the end may be half of a CR LF.
        if not kept.endswith(b"\r") and len(kept) + _head(piece) > MAX_RECORD:
            raise refuse(f"Line {number + 1} has more than {MAX_RECORD:,} bytes.", number + 1)
        kept += piece
        end = max(kept.rfind(b"\n"), kept.rfind(b"\r", 0, -1)) + 1
        if end:
            yield kept[:end]
            number += len(kept[:end].splitlines())
            kept = kept[end:]
    if kept:
        yield kept


def _head(piece: bytes) -> int:
    """Bytes until the first end of a line; lines that begin behind it are shorter than a piece so far."""
    ends = [end for end in (piece.find(b"\n"), piece.find(b"\r")) if end >= 0]
    return min(ends, default=len(piece))


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The upload in pieces of one size, without a byte order mark; raises MalformedRequest for other encodings."""
    first = True
    for data in _gathered(chunks):
        if first and data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0")):
            raise refuse("The upload is UTF-16 or UTF-32; it has to be UTF-8.", 1)
        if first:
            data, first = data.removeprefix(BOM), False
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, small ones together: a line that came byte by byte would be copied as often."""
    gathered: list[bytes] = []
    size = 0
    for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _text_of(block: bytes, lines: int) -> str:
    """The block, which comes after so many lines, as text; raises MalformedRequest that names the line."""
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        number = lines + len((block[: error.start] + b".").splitlines())
        raise refuse(f"Line {number} is not UTF-8.", number) from None


def _unread(line: int, text: str, code: str, message: str) -> Raw:
    return Raw(line, _encoder.encode(text.replace("\0", "\u2400")), None, code, message)


def refuse(message: str, line: int | None = None) -> MalformedRequest:
    """The error for an upload as a whole, at a line of it."""
    parameter = None if line is None else f"line {line}"
    return MalformedRequest(message, errors=[Culprit(code=Code.MALFORMED_ROW, parameter=parameter, message=message)])
