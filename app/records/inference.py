"""A contract inferred from records: it registers as it stands, and every guess is told with its alternatives."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from math import prod
from operator import itemgetter
from typing import Any

import msgspec

from app.base.errors import Code, Culprit, ValidationFailed
from app.contracts.keys import MAX_KEY_BYTES
from app.contracts.model import RECEIVED_AT
from app.contracts.shape import snake
from app.contracts.soundness import INDEXED_BYTES
from app.contracts.values import normalize_datetime
from app.records.columns import Column, Guess, count_columns, guess
from app.records.names import field_names
from app.records.records import SHOWN, Raw
from app.records.sample import WHOLE, draw

MOST_INDEXED = 12
MOST_MEASURES = 3
MOST_GROUPS = 3  # dimensions, of which KPIs have a cell for every combination
MOST_IN_KEY = 3
MOST_TRIED = 8  # columns of which keys of several are made
MOST_GROUP_VALUES = 50
LONGEST_WORD = 60  # bytes of a text that rows are looked for by
LONGEST_NAME = 40
LONGEST_HEADER = 500  # bytes
KEY_KINDS = ("text", "enum", "integer", "date", "datetime")
PERIODS = re.compile(r"^(?:year|month|week|day|quarter|hour|line|row|seq|position)$|(?:Year|Month|Week|Day)$")
# What a key is called, and what is called so that its sum says nothing.
KEYS = re.compile(r"[a-z0-9](?:Id|ID|Key|Code|Number|Nr|No|Uuid|Tag)$|^(?:key|code|nr|no|number|uuid|guid|tag)$")
UNSUMMED = re.compile(
    r"(?:^|_)(?:lat|lon|lng|latitude|longitude|x|y|age|rank|score|year|month|day|week|hour|rate|ratio|percent|pct|share"
    r"|temp|temperature|average|avg|mean|median|min|max|per|code|zip|index|exp)(?:_|$)"
)


class Note(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A guess: `path` leads to it in the contract, `alternatives` are what else it may be."""

    path: str
    message: str
    alternatives: list[str] = []


class Inferred(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A contract as it is registered, and what a person has to look at in it."""

    contract: dict[str, Any]
    notes: list[Note]


class _Part:
    """A field to be: its column, its name, what is guessed of it, and what can be seen in all records."""

    def __init__(self, column: Column, name: str, found: Guess, total: int):
        self.column = column
        self.name = name
        self.guess = found
        self.total = total
        self.kind = str(found.type)
        self.full = column.present == total
        self.unique = column.distinct == column.present and self._texts() == column.present
        self.longest = max((len(text.encode()) for text in column.counts.get(str, ())), default=0)

    def _texts(self) -> int:
        return len({_text(self.kind, value) for counter in self.column.counts.values() for value in counter})

    @property
    def is_plain(self) -> bool:
        """Whether its values can be in a key: texts that an id can have, nothing mixed."""
        texts = self.column.counts.get(str, ())
        return self.longest <= MAX_KEY_BYTES and len(self.column.counts) == 1 and all(map(str.isprintable, texts))

    @property
    def is_key(self) -> bool:
        """Whether it tells all records apart."""
        fits = self.full and self.unique and self.kind in KEY_KINDS and self.is_plain
        return fits and "" not in self.column.counts.get(str, ())

    @property
    def is_counted(self) -> bool:
        """Whether it is whole numbers in a row."""
        if self.kind != "integer":
            return False
        numbers = [int(value) for counter in self.column.counts.values() for value in counter]
        return max(numbers) - min(numbers) == len(numbers) - 1

    @property
    def is_amount(self) -> bool:
        """Whether it is a number that nothing says to be part of a key."""
        looks_so = any("number" in alternatives for _, alternatives in self.guess.told)
        return (self.kind == "integer" or looks_so) and not KEYS.search(self.name) and not PERIODS.search(self.name)

    @property
    def is_group(self) -> bool:
        """Whether few values stand for many records."""
        few = 2 <= self.column.distinct <= MOST_GROUP_VALUES and self.column.distinct * 2 <= self.column.present
        return self.kind in ("enum", "text") and few and self.longest <= LONGEST_WORD


def infer(
    records: Iterable[Mapping[str, Any]], *, name: str, key: Sequence[str] | None = None, textual: bool, whole: bool
) -> Inferred:
    """The contract of a dataset `name` with these records, which are gone through more than once.

    `key` names columns, as the records or the fields call them; `textual`: all values are texts, as those of CSV are;
    `whole`: there are no others. Raises ValidationFailed where there are no records, too many columns, or no key.
    """
    columns, total = count_columns(records, textual=textual)
    if not columns:
        raise ValidationFailed("There is no record that can be read: nothing can be inferred.")
    for column in columns:
        _check_header(column.header)
    names = field_names(column.header for column in columns)
    guesses = [guess(column, textual=textual, whole=whole) for column in columns]
    parts = [_Part(each, names[each.header], found, total) for each, found in zip(columns, guesses, strict=True)]
    fields = [part for part in parts if part.guess.type is not None]
    chosen, why = _given(key, fields, records) if key else _found(fields, records)
    draft = _Draft(fields, chosen)
    return Inferred(
        contract={
            "name": name,
            "version": "1.0",
            "title": name.replace("_", " ").capitalize(),
            "key": chosen[0].name if len(chosen) == 1 else [part.name for part in chosen],
            "fields": [draft.field(part) for part in fields],
            "hot": draft.hot(),
            "measures": [{"name": _total(part), "kind": "sum", "of": part.name} for part in draft.measured],
            "ingestion": {
                "mode": "upsert",
                "idempotencyKey": [part.name for part in chosen],
                "eventTimeColumn": RECEIVED_AT,
                "processingTimeColumn": RECEIVED_AT,
                "dedupeWindow": "0s",
                "conflictResolution": "latest_wins",
            },
        },
        notes=[
            _read(total, whole=whole),
            why,
            *(note for place, part in enumerate(fields) for note in _told_of_field(part, place, chosen)),
            *(_left_out(part) for part in parts if part.guess.type is None),
            *draft.notes(),
            *_told_of_ingestion(fields),
        ],
    )


def infer_upload(raws: Iterable[Raw], *, name: str, key: Sequence[str] | None = None, textual: bool) -> Inferred:
    """The same of an upload: of all its records, or of a sample where they are many."""
    sample = draw(raws, textual=textual)
    found = infer(sample, name=name, key=key, textual=textual, whole=sample.whole)
    if sample.unread:
        message = f"{sample.unread:,} records could not be read, the first of them in {sample.first_unread}"
        found.notes.insert(1, Note(path="", message=message))
    return found


def _check_header(header: str) -> None:
    """Raises ValidationFailed for a name that no label can keep, so that no file could be read by it."""
    if not header.strip() or "\0" in header or len(header.encode()) > LONGEST_HEADER:
        message = f"A name of 1 to {LONGEST_HEADER} bytes without NUL; it is {header[:SHOWN]!r}."
        raise ValidationFailed(f"A column cannot be called so. {message}")


def _read(total: int, *, whole: bool) -> Note:
    if whole:
        return Note(path="", message=f"All {total:,} records were looked at.")
    size = f"{WHOLE // 1_000_000} MB"
    return Note(path="", message=f"There is more than {size} of records: {total:,} were looked at, drawn at random.")


# -- key ---------------------------------------------------------------------------------------------------------------


def _given(key: Sequence[str], parts: list[_Part], records: Iterable[Mapping[str, Any]]) -> tuple[list[_Part], Note]:
    """The key that was asked for, and how well it tells these records apart."""
    chosen = []
    for word in key:
        part = next((part for part in parts if part.name == word), None)
        part = part or next((part for part in parts if part.column.header == word), None)
        if part is None:
            raise _no_key(f"There is no column {word[:SHOWN]!r}.")
        if part.kind == "boolean" or part in chosen:
            raise _no_key(f"{part.name} cannot be in a key {'twice' if part in chosen else 'as a boolean'}.")
        chosen.append(part)
    message = f"{_names(chosen)}, as asked for."
    if without := max(part.total - part.column.present for part in chosen):
        message += f" {without:,} records have none and will be put aside."
    if again := chosen[0].total - len(set(_values(chosen, records))):
        message += f" {again:,} records have one that another record has: of these the last one counts."
    return chosen, Note(path="key", message=message)


def _found(parts: list[_Part], records: Iterable[Mapping[str, Any]]) -> tuple[list[_Part], Note]:
    """The first column that is different in every record and called so, else one that looks so, else up to three."""
    single = [part for part in parts if part.is_key]
    named = [part for part in single if KEYS.search(part.name)]
    plausible = [part for part in single if not part.is_amount or part.is_counted]
    if best := (named or plausible)[:1]:
        others = [part.name for part in single if part not in best]
        return best, Note(path="key", message=f"{best[0].name} is different in every record.", alternatives=others)
    if several := _composite(parts, records):
        message = f"No column tells all records apart, but {_names(several)} together do."
        return several, Note(path="key", message=message, alternatives=[part.name for part in single])
    usable = [part for part in parts if part.kind in KEY_KINDS and not part.is_amount]
    nearest = max(usable, key=lambda part: part.column.distinct, default=None)
    shown = f" {nearest.name} comes nearest, with {nearest.column.distinct:,} values." if nearest else ""
    raise _no_key(f"Neither one column nor {MOST_IN_KEY} together tell all records apart.{shown}")


def _composite(parts: list[_Part], records: Iterable[Mapping[str, Any]]) -> list[_Part]:
    """The fewest columns that are different in every record together, which amounts are by chance; none, if so."""
    usable = (part for part in parts if part.full and part.kind in KEY_KINDS and part.is_plain and not part.is_amount)
    pool = list(islice(usable, MOST_TRIED))
    rows = list(_values(pool, records))
    for size in range(2, MOST_IN_KEY + 1):
        for places in combinations(range(len(pool)), size):
            chosen = [pool[place] for place in places]
            if prod(part.column.distinct for part in chosen) >= len(rows) and _differ(rows, itemgetter(*places)):
                return chosen
    return []


def _values(parts: list[_Part], records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Of every record the values of these columns, as texts: some may be objects."""
    wanted = [(part.kind, part.column.header) for part in parts]
    for record in records:
        yield tuple(_text(kind, record.get(header)) for kind, header in wanted)


def _text(kind: str, value: Any) -> str:
    """A text that is the same of values that are the same in a key: of a moment, in whatever offset it is written."""
    text = str(value)
    if kind == "datetime":
        return normalize_datetime(text) or text
    return "0" if kind == "integer" and text == "-0" else text


def _differ(rows: list[tuple[str, ...]], pick: Callable[[tuple[str, ...]], Any]) -> bool:
    seen = set()
    for row in rows:
        picked = pick(row)
        if picked in seen:
            return False
        seen.add(picked)
    return True


def _no_key(message: str) -> ValidationFailed:
    detail = f"{message} Say which columns are the key, with key=."
    return ValidationFailed(detail, errors=[Culprit(code=Code.INVALID_KEY, parameter="key", message=detail)])


# -- fields ------------------------------------------------------------------------------------------------------------


class _Draft:
    """What is made of the fields beside themselves: indexes, groups, sums, fast sorts; modestly, since each costs."""

    def __init__(self, parts: list[_Part], key: list[_Part]):
        self.key = key
        free = [part for part in parts if part not in key]
        self.grouped = [part for part in free if part.is_group][:MOST_GROUPS]
        numbers = [part for part in free if part.kind in ("number", "integer") and part.column.distinct > 2]
        sums = [part for part in numbers if not UNSUMMED.search(snake(part.name)) and not KEYS.search(part.name)]
        self.measured = [part for part in sums if _total(part)][:MOST_MEASURES]
        self.times = [part for part in free if part.kind in ("date", "datetime")]
        wanted = [*key, *self.grouped, *self.measured, *self.times]
        wanted += [part for part in free if part.kind in ("enum", "boolean")]
        words = [part for part in free if part.kind == "text" and part.longest <= LONGEST_WORD]
        wanted += [part for part in words if part.column.distinct > 1][:1]
        fit = [part for part in wanted if part.guess.members.get("maxLength", 0) <= INDEXED_BYTES]
        self.indexed = list({part.name: part for part in fit}.values())[:MOST_INDEXED]
        self.grouped, self.measured, self.times = (
            [part for part in some if part in self.indexed] for some in (self.grouped, self.measured, self.times)
        )

    def field(self, part: _Part) -> dict[str, Any]:
        """The field as the contract has it, without what goes without saying."""
        found: dict[str, Any] = {"name": part.name, "type": part.kind}
        if part.name != part.column.header:
            found["label"] = part.column.header
        if part in self.key:
            # Rows with other keys will come: no enum.
            found |= {"type": "text" if part.kind == "enum" else part.kind, "editable": False}
        else:
            found |= part.guess.members
        if part in self.indexed:
            found["indexed"] = True
        if part in self.grouped:
            found["dimension"] = True
        return found

    def hot(self) -> list[dict[str, Any]]:
        """The latest first; and by the first group."""
        latest = [{"sort": part.name, "descending": True} for part in self.times[:1]]
        return latest + [{"sort": part.name} for part in self.grouped[:1]]

    def notes(self) -> Iterator[Note]:
        """What is indexed, grouped, summed and sorted fast."""
        message = (
            f"Indexed: {_names(self.indexed)}. Rows are found and sorted by these; each costs a little when rows come."
        )
        yield Note(path="fields", message=message)
        if self.grouped:
            yield Note(
                path="fields", message=f"KPIs are grouped by {_names(self.grouped)}.", alternatives=["no dimension"]
            )
        if self.measured:
            message = f"KPIs show the sums of {_names(self.measured)}."
            yield Note(path="measures", message=message, alternatives=["average", "min", "max", "count", "none"])
        if self.times or self.grouped:
            message = f"Sorted fast: by {_names([*self.times[:1], *self.grouped[:1]])}."
            yield Note(path="hot", message=message, alternatives=["other sorts, up to fifteen"])


def _total(part: _Part) -> str:
    """The name of its sum; none where that would be too long."""
    name = f"total{part.name[0].upper()}{part.name[1:]}"
    return name if len(name) <= LONGEST_NAME else ""


def _told_of_field(part: _Part, place: int, key: list[_Part]) -> Iterator[Note]:
    if part.name != part.column.header:
        header = part.column.header[:SHOWN]
        message = f"The column {header!r} is called {part.name}. Files are read by its label, which is what they say."
        yield Note(path=f"fields[{place}].name", message=message, alternatives=["any other name"])
    if part in key and part.kind == "enum":
        return
    for message, alternatives in part.guess.told:
        yield Note(path=f"fields[{place}].type", message=f"{part.name}: {message}", alternatives=alternatives)


def _left_out(part: _Part) -> Note:
    [(message, alternatives)] = part.guess.told
    return Note(path="fields", message=f"{part.column.header[:SHOWN]!r}: {message}", alternatives=alternatives)


def _names(parts: Iterable[_Part]) -> str:
    return ", ".join(part.name for part in parts)


def _told_of_ingestion(parts: list[_Part]) -> Iterator[Note]:
    """The semantics say nothing of these records: somebody who knows them may."""
    moments = [part.name for part in parts if part.kind == "datetime"]
    for member, message, alternatives in (
        ("mode", "A record of a row that is there changes it.", ["append: each record becomes a row"]),
        ("idempotencyKey", "Two records of one key are about the same thing.", []),
        ("eventTimeColumn", "A record is as late as its receipt.", moments),
        ("processingTimeColumn", "Of two records of one event time the one received later counts.", moments),
        ("dedupeWindow", "No record counts as sent twice.", ["such as 24h"]),
        ("conflictResolution", "The later of two records counts.", ["error: what would change a row is put aside"]),
    ):
        yield Note(path=f"ingestion.{member}", message=message, alternatives=list(alternatives))
