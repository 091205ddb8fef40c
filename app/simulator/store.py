"""The lines of every organization, their record ids, what was done to them, and the journal that survives a restart."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec

from app.base import exact_json
from app.base.clock import Clock
from app.base.errors import ConfigurationError
from app.simulator.lines import FIELDS, Line, held_of, read_line, read_lines

Who = Literal["client", "somebody"]
Op = Literal["ADD", "UPDATE", "DELETE"]

FIRST_RECORDID = 1  # of a line that nobody has edited
MOST_LISTS = 8  # of ordered lines that are kept
PLACE = attrgetter("pfa_id", "organization")
BEGINNING = b'{"organization":'  # of every line of the journal
ASSIGNED = re.compile(r"PFA-(\d{7,})")


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """An edit that was done: by a client or by somebody in PEMS; record ids before and after; what was given and not so
    before.
    """

    at: datetime
    by: Who
    action: Op
    organization: str
    id: str
    before: int | None
    after: int | None
    fields: dict[str, Any]


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the journal: what a line became, or, without one, that it went."""

    organization: str
    id: str
    recordid: int
    line: Line | None = None


class Unusable(Exception):
    """What is asked for cannot be done; the message says why."""


class NotFound(Unusable):
    """There is no such record."""

    def __init__(self) -> None:
        super().__init__("Record not found")


class Table:
    """An organization's lines."""

    def __init__(self, lines: Iterable[Line]):
        self.lines = {line.pfa_id: line for line in lines}
        self.recordids: dict[str, int] = {}  # of lines that were edited
        self.highest = max(map(_number, self.lines), default=0)

    def put(self, line: Line, recordid: int) -> None:
        self.lines[line.pfa_id] = line
        self.recordids[line.pfa_id] = recordid
        self.highest = max(self.highest, _number(line.pfa_id))

    def remove(self, key: str) -> None:
        del self.lines[key]

    def recordid(self, key: str) -> int:
        return self.recordids.get(key, FIRST_RECORDID)


class Store:
    """What PEMS holds. `version` moves with every edit."""

    def __init__(self, lines: Mapping[str, Iterable[str]], clock: Clock, journal: Path | None = None):
        """`lines`: JSON texts of each organization's lines. Raises ConfigurationError for a journal of no use."""
        self.tables = {code: Table(read_lines(code, texts)) for code, texts in lines.items()}
        self.clock = clock
        self.version = 0
        self.applied: list[Applied] = []
        self._recordid = FIRST_RECORDID
        self._ordered: dict[tuple[str, ...], list[Line]] = {}
        self._journal = self._open(journal) if journal is not None else None

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def find(self, organization: str, key: str) -> tuple[Line, int] | None:
        """The line and its record id."""
        table = self.tables.get(organization)
        line = table.lines.get(key) if table else None
        return (line, table.recordid(key)) if table and line else None

    def records(self, organization: str | None = None) -> Iterator[tuple[Line, int]]:
        """All lines, or an organization's, in the order of organizations and ids."""
        for code, table in self.tables.items():
            if organization in (None, code):
                yield from ((line, table.recordid(line.pfa_id)) for line in self.ordered((code,)))

    def ordered(self, organizations: tuple[str, ...]) -> list[Line]:
        """The lines of these organizations by id, then organization: a list that follows every edit."""
        if organizations not in self._ordered:
            if len(self._ordered) >= MOST_LISTS:
                self._ordered.clear()
            lines = [line for code in organizations for line in self.tables[code].lines.values()]
            self._ordered[organizations] = sorted(lines, key=PLACE)
        return self._ordered[organizations]

    def next_key(self, organization: str) -> str:
        """The id that the organization's next line gets."""
        return f"PFA-{self.tables[organization].highest + 1:07d}"

    def put(self, organization: str, key: str, fields: Mapping[str, Any], by: Who, *, whole: bool = False) -> int:
        """Add the line, or change these fields, by the contract's names; the record id that it has now.

        Its time of modification becomes the clock's, unless it is among the fields. `whole`: fields that are not given
        become empty. Raises Unusable.
        """
        if organization not in self.tables:
            raise Unusable(f"{organization} is not a valid organization")
        if not key:
            raise Unusable("A record needs an id")
        if unknown := sorted(fields.keys() - set(FIELDS)):
            raise Unusable(f"{unknown[0]} is not a valid field")
        found = self.find(organization, key)
        document = held_of(found[0]) if found and not whole else {}
        now = self.clock().replace(microsecond=0)
        document |= {"pemsVersion": now, **fields, "pfaId": key, "organization": organization}
        try:
            line = read_line(exact_json.encode(document))
        except msgspec.ValidationError as error:
            raise Unusable(f"{key} is not a valid record: {error}") from error
        before, after = held_of(found[0]) if found else {}, held_of(line)
        recordid = self._next()
        self.tables[organization].put(line, recordid)
        self._reorder(organization, key, line)
        self._note(Kept(organization=organization, id=key, recordid=recordid, line=line))
        self.applied.append(
            Applied(
                at=now,
                by=by,
                action="UPDATE" if found else "ADD",
                organization=organization,
                id=key,
                before=found[1] if found else None,
                after=recordid,
                fields={n: value for n, value in fields.items() if not found or before.get(n) != after.get(n)},
            )
        )
        return recordid

    def delete(self, organization: str, key: str, by: Who) -> None:
        """Delete the line; raises Unusable where it is not there."""
        found = self.find(organization, key)
        if found is None:
            raise NotFound
        self.tables[organization].remove(key)
        self._reorder(organization, key, None)
        self._note(Kept(organization=organization, id=key, recordid=self._next()))
        self.applied.append(
            Applied(
                at=self.clock().replace(microsecond=0),
                by=by,
                action="DELETE",
                organization=organization,
                id=key,
                before=found[1],
                after=None,
                fields={},
            )
        )

    def _reorder(self, organization: str, key: str, line: Line | None) -> None:
        """Put the line where the one of its key is or would be; None takes it away."""
        for codes, lines in self._ordered.items():
            if organization in codes:
                at = bisect_left(lines, (key, organization), key=PLACE)
                there = at < len(lines) and PLACE(lines[at]) == (key, organization)
                lines[at : at + there] = [line] if line else []

    def _next(self) -> int:
        """Record ids are drawn from one row for all, so that a line that comes back never gets an old one."""
        self.version += 1
        self._recordid += 1
        return self._recordid

    def _note(self, kept: Kept) -> None:
        if self._journal is not None:
            self._journal.write(exact_json.encode(kept) + b"\n")
            self._journal.flush()

    def _open(self, journal: Path) -> BinaryIO:
        try:
            if journal.exists():
                self._replay(journal)
            return journal.open("ab")
        except OSError as error:
            raise ConfigurationError(f"{journal} cannot be used: {error.strerror}.") from error

    def _replay(self, journal: Path) -> None:
        """Do again what the journal says, and cut off a last line that was not written to its end."""
        whole = 0
        with journal.open("rb") as file:
            for number, text in enumerate(file, start=1):
                # A beginning of one of our lines, that is: nobody's shopping list is cut off.
                if not text.endswith(b"\n") and text[: len(BEGINNING)] == BEGINNING[: len(text)]:
                    break
                try:
                    kept = msgspec.json.decode(text, type=Kept)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ConfigurationError(f"Line {number} of {journal} is not the simulator's: {error}.") from error
                self._redo(kept)
                whole += len(text)
        with journal.open("rb+") as file:
            file.truncate(whole)

    def _redo(self, kept: Kept) -> None:
        self._recordid = max(self._recordid, kept.recordid)
        table = self.tables.get(kept.organization)
        if table is None:
            return  # it was served before, and is not this time
        if kept.line is not None:
            table.put(kept.line, kept.recordid)
        elif kept.id in table.lines:
            table.remove(kept.id)


def _number(key: str) -> int:
    found = ASSIGNED.fullmatch(key)
    return int(found[1]) if found else 0
