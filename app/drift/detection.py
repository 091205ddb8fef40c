"""What is different between a contract and a batch of rows: fields that came or went, are called or written otherwise.

What is wrong with single values is not drift: rows that hold them are put aside. docs/drift.md has the figures.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import msgspec

from app.contracts import Contract
from app.contracts.comparison import (
    ADDED,
    COMPATIBLE,
    REKEYED,
    REMOVED,
    RENAMED,
    WIDENED,
    Change,
    Compatibility,
    Kind,
    change_of,
    retyped,
)
from app.contracts.model import Field
from app.contracts.values import MAX_INTEGER, decimals, fits
from app.drift.batch import UNREAD, Batch, Known, of_contract
from app.drift.health import Health, health_of
from app.drift.names import alike
from app.records.columns import LONGEST_VALUE, MOST_VALUES, NUMBER, Column, Guess, guess
from app.records.names import field_names

FEW = 10  # values, and pairs of values: fewer say nothing where nobody asked
OFTEN = 0.1  # of the values: so many have to be beyond a limit before it is one no more
MOSTLY = 0.5  # of the values: so many have to be unreadable before a field has another type
SURE = 0.9  # of the pairs: a column that says what rows have in another field is that field
RENAMES = 0.5  # confidence from which two names are reported as one field
BY_VALUES, BY_NAMES = 0.8, 0.2  # what values and names weigh where there are both
UNPROVEN = 0.7  # confidence at most, by names alone
OVERLAP = 0.8  # weight of values that occur in both, where no row can be compared with itself
TELLING = 3  # different values: fewer are alike by chance
LIKE = 0.7  # of names: what is less alike is no evidence by itself
PROBED = 20  # rows, and values, that are looked at before more are
READ = 500  # values of a column that are read as those of a field that it may be
LONGEST_NUMBER = 60  # characters
STEP = 500  # bytes: limits of texts are raised by so much


class Source(StrEnum):
    """What was held against the contract: rows that somebody showed, another contract, another version, a pull's page,
    or records that were sent.
    """

    SAMPLE = "sample"
    SCHEMA = "schema"
    VERSION = "version"
    PULL = "pull"
    INGEST = "ingest"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A change, of which field, and what its column is called: `was` where the contract looks for it, `now` where it
    came; None where there is none. `confidence`, 0 to 1, of a rename, and the `evidence` for it.
    """

    change: Change
    field: str | None
    was: str | None = None
    now: str | None = None
    confidence: float | None = None
    evidence: dict[str, Any] | None = None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """All that is different, and how the feed is by that."""

    changes: tuple[Found, ...]
    health: Health
    rows: int

    @property
    def severity(self) -> Compatibility:
        """That of the worst change."""
        return max((found.change.severity for found in self.changes), key=lambda each: each.rank, default=COMPATIBLE)


def detect(contract: Contract, batch: Batch, known: Known, source: Source) -> Drift:
    """Hold a batch against a contract. What is `known` of the dataset tells a field that is called otherwise.

    Of a pull a column is there or not; of a sample it is gone where no row has it, though rows that are there do;
    records that are sent may leave out what they like.
    """
    absent = [name for name in of_contract(contract) if name in batch.expected and batch.column_of(name) is None]
    strange = _strange(batch, source)
    renames, displaced = _renames(contract, batch, known, absent, strange)
    if source is Source.INGEST:
        # Records may leave out what they like: that a new member is called alike says too little to refuse them.
        renames = {field: each for field, each in renames.items() if {"pairs", "common"} & each.evidence.keys()}
    changes: list[Found] = []
    for place, field in enumerate(contract.fields):
        path, gone = f"fields[{place}]", field.name in absent and _is_gone(contract, field, known, source)
        if (rename := renames.get(field.name)) is not None:
            changes.append(_renamed(contract, place, batch, rename))
        elif gone or field.name in displaced:
            change = change_of(Kind.REMOVE, path, field, None, _gone(contract, field), field.id)
            changes.append(Found(change=change, field=field.name, was=batch.expected[field.name]))
        elif (column := batch.column_of(field.name)) is not None:
            for member, kind, old, new, why in _misfits(field, _values(batch, column), batch, source):
                change = change_of(kind, f"{path}.{member}", old, new, why, field.id)
                changes.append(Found(change=change, field=field.name, was=column, now=column))
    taken = {rename.column for rename in renames.values()}
    added = [column for column in strange if column not in taken]
    changes += _added(contract, batch, added)
    retypes = sum(found.change.kind is Kind.TYPE_CHANGE for found in changes)
    missing = [*absent, *displaced]
    return Drift(
        changes=tuple(changes), health=health_of(contract, missing, new=len(added), retyped=retypes), rows=batch.rows
    )


def is_suspect(contract: Contract, batch: Batch, source: Source) -> bool:
    """Whether it is worth while to look what is there: columns are missing or new, or values do not fit."""
    if source is Source.SAMPLE or _strange(batch, source):
        return True
    came = {name for column, name in batch.fields.items() if column in batch.columns}
    if source is Source.PULL and any(name not in came for name in batch.expected):
        return True
    for column, name in batch.fields.items():
        if column not in batch.columns or _all_fit(name, batch.columns[column], batch):
            continue
        if _misfits(contract.by_name[name], _values(batch, column), batch, source):
            return True
    return False


def _strange(batch: Batch, source: Source) -> list[str]:
    """The columns that no field has. Of records only those with a value: another one loses nothing, and says nothing of
    what it holds.
    """
    columns = [column for column in batch.columns if column not in batch.fields]
    return [column for column in columns if source is not Source.INGEST or _values(batch, column)]


def _values(batch: Batch, column: str) -> list[Any]:
    return [value for value in batch.columns[column] if value is not None]


def _all_fit(name: str, values: Sequence[Any], batch: Batch) -> bool:
    """Whether texts are values of the field, all of them: each different one is looked at once. Of others nothing is
    said: 1 and true are the same to a set.
    """
    if not set(map(type, values)) <= {str, type(None)}:
        return False
    different, plain = set(values) - {None}, batch.plain.get(name)
    doubtful = [text for text in different if plain is None or plain.fullmatch(text) is None]
    return all(value is not UNREAD for value in batch.read(name, doubtful))


# -- fields that are gone or new ---------------------------------------------------------------------------------------


def _is_gone(contract: Contract, field: Field, known: Known, source: Source) -> bool:
    if source is not Source.SAMPLE:
        return source is Source.PULL
    nothing_known = not known.by_key and not known.others
    return nothing_known or field.name in contract.key_fields or bool(known.values(field.name))


def _gone(contract: Contract, field: Field) -> Any:
    return REKEYED if field.name in contract.key_fields else REMOVED


def _added(contract: Contract, batch: Batch, columns: Sequence[str]) -> Iterator[Found]:
    names = field_names([*contract.by_name, *columns])
    place = len(contract.fields)
    for column in columns:
        values = _values(batch, column)
        kind = _kind(column, values, textual=batch.textual)
        new: dict[str, Any] = {"name": names[column], "type": kind.type, **kind.members}
        if names[column] != column:
            new["label"] = column
        change = change_of(Kind.ADD, f"fields[{place}]", None, new, ADDED)
        yield Found(change=change, field=names[column], now=column)
        place += 1


def _kind(name: str, values: Sequence[Any], *, textual: bool) -> Guess:
    column = Column(name)
    for value in values:
        column.add(value)
    return guess(column, textual=textual, whole=False)


# -- fields that are called otherwise ----------------------------------------------------------------------------------


class Rename(NamedTuple):
    """A column that is a field, and why."""

    field: str
    column: str
    confidence: float
    evidence: dict[str, Any]


def _renamed(contract: Contract, place: int, batch: Batch, rename: Rename) -> Found:
    field = contract.fields[place]
    expected = batch.expected[field.name]
    why = RENAMED._replace(remedy="Map it, or: Declare a new major version.")
    change = change_of(Kind.RENAME, f"fields[{place}].name", expected, rename.column, why, field.id)
    return Found(
        change=change,
        field=field.name,
        was=expected,
        now=rename.column,
        confidence=rename.confidence,
        evidence=rename.evidence,
    )


class _Look:
    """A batch beside what is known, with what is asked for again and again."""

    def __init__(self, batch: Batch, known: Known):
        self.batch = batch
        found = ((place, known.by_key.get(key)) for place, key in enumerate(batch.keys) if key is not None)
        self.rows = [(place, row) for place, row in found if row is not None]
        self.some = self.rows[:: len(self.rows) // PROBED + 1]
        self.values = cache(lambda column: _values(batch, column))
        self.there = cache(lambda field: frozenset(known.values(field)))

    def pairs(self, field: str, column: str, *, some: bool = False) -> list[tuple[Any, Any]]:
        """What rows of the batch, or some of them, say in a column, beside what the same rows have in a field, where
        both have something.
        """
        rows = self.some if some else self.rows
        if not rows:
            return []
        cells = self.batch.columns[column]
        both = [(cells[place], row.get(field)) for place, row in rows]
        both = [(came, there) for came, there in both if came is not None and there is not None]
        return list(zip(self.batch.read(field, [came for came, _ in both]), [there for _, there in both], strict=True))

    def may_be(self, field: str, column: str) -> bool:
        """Whether a row of some says the same in both, or none of them has something in both."""
        pairs = self.pairs(field, column, some=True)
        return not pairs or any(came == there for came, there in pairs)


def _renames(
    contract: Contract, batch: Batch, known: Known, absent: Sequence[str], strange: Sequence[str]
) -> tuple[dict[str, Rename], list[str]]:
    """Field -> the column that is most certainly it; and the fields whose column is another one's now, of which nobody
    knows where they are.
    """
    look = _Look(batch, known)
    own = _doubtful(contract, look)
    found = [_likeness(look, field, column) for field in absent for column in strange]
    found += [_moved(look, field, column) for field in (*absent, *own) for column in own.values()]
    renames = _exchanged(own, _chosen(found, {}))
    displaced = _displaced(own, renames)
    # Where a column is another field's now, its own may be among those that nobody knows.
    renames |= _chosen([_likeness(look, field, column) for field in displaced for column in strange], renames)
    return renames, _displaced(own, renames)


def _chosen(found: Sequence[Rename], before: Mapping[str, Rename]) -> dict[str, Rename]:
    """The most certain of them first, each field and each column once."""
    chosen: dict[str, Rename] = {}
    taken = {rename.column for rename in before.values()}
    for rename in sorted(found, key=lambda each: -each.confidence):
        if rename.confidence >= RENAMES and rename.field not in chosen and rename.column not in taken:
            chosen[rename.field] = rename
            taken.add(rename.column)
    return chosen


def _exchanged(own: Mapping[str, str], renames: dict[str, Rename]) -> dict[str, Rename]:
    """Less those of fields whose own column is nobody else's now: one was filled from the other, which is no drift."""
    while stray := [field for field in renames if field in own and own[field] not in _columns(renames)]:
        for field in stray:
            del renames[field]
    return renames


def _columns(renames: Mapping[str, Rename]) -> set[str]:
    return {rename.column for rename in renames.values()}


def _displaced(own: Mapping[str, str], renames: Mapping[str, Rename]) -> list[str]:
    taken = _columns(renames)
    return [field for field, column in own.items() if column in taken and field not in renames]


def _likeness(look: _Look, field: str, column: str) -> Rename:
    """How certain it is that a column is the field: docs/drift.md has the formula."""
    if not look.may_be(field, column):
        return Rename(field, column, 0.0, {})
    values = look.values(column)[:READ]
    if not _is_readable(look.batch.read(field, values[:PROBED])):
        return Rename(field, column, 0.0, {})
    pairs, ours = look.pairs(field, column), look.there(field)
    names = max(alike(name, column) for name in {field, look.batch.expected[field]})
    evidence: dict[str, Any] = {"names": names}
    if not pairs and not ours & {*look.batch.read(field, values[:PROBED])} and (names < LIKE or len(ours) < TELLING):
        return Rename(field, column, round(UNPROVEN * names, 4) if names >= LIKE else 0.0, evidence)
    read = look.batch.read(field, values)
    if not _is_readable(read):
        return Rename(field, column, 0.0, evidence)
    if len(pairs) >= FEW or (pairs and len(pairs) == len(look.rows)):
        same = sum(came == there for came, there in pairs)
        telling = min(1.0, len({came for came, there in pairs if came == there}) / TELLING)
        evidence |= {"pairs": len(pairs), "same": same}
        certain = BY_VALUES * telling * same / len(pairs) + BY_NAMES * names
        # Few different values are alike by chance: then names decide more.
        confidence = certain if telling == 1.0 else max(certain, UNPROVEN * names * same / len(pairs))
        return Rename(field, column, round(confidence, 4), evidence)
    theirs = {value for value in read if value is not UNREAD}
    if len(theirs) >= TELLING and len(ours) >= TELLING:
        common = len(theirs & ours)
        evidence |= {"values": len(theirs), "common": common}
        overlap = BY_VALUES * OVERLAP * common / len(theirs) + BY_NAMES * names
        # Rows that are not there yet have values that are not there yet.
        return Rename(field, column, round(max(overlap, UNPROVEN * names * (names >= SURE)), 4), evidence)
    return Rename(field, column, round(UNPROVEN * names, 4), evidence)


def _is_readable(read: Sequence[Any]) -> bool:
    return sum(value is not UNREAD for value in read) >= SURE * len(read)


def _doubtful(contract: Contract, look: _Look) -> dict[str, str]:
    """Field -> its column, where that does not say what rows have in it."""
    found = {}
    for field in of_contract(contract):
        column = look.batch.column_of(field)
        if column is None or field in contract.key_fields:
            continue
        pairs = look.pairs(field, column)
        if len(pairs) >= FEW and sum(came == there for came, there in pairs) < MOSTLY * len(pairs):
            found[field] = column
    return found


def _moved(look: _Look, field: str, column: str) -> Rename:
    """How certain it is that another field's column has come to say what rows have in this one: by values alone."""
    if not look.may_be(field, column):
        return Rename(field, column, 0.0, {})
    pairs = look.pairs(field, column)
    same = [came for came, there in pairs if came == there]
    evidence = {"pairs": len(pairs), "same": len(same), "names": alike(field, column)}
    certain = len(pairs) >= FEW and len(same) >= SURE * len(pairs) and len(set(same)) >= TELLING
    return Rename(field, column, round(len(same) / len(pairs), 4) if certain else 0.0, evidence)


# -- fields of another type --------------------------------------------------------------------------------------------

Misfit = tuple[str, Kind, Any, Any, Any]  # member, kind, old, new, judgement


def _misfits(field: Field, values: Sequence[Any], batch: Batch, source: Source) -> list[Misfit]:
    """What a field would have to be, so that its values fit; nothing where they do, or too few do not."""
    if not values:
        return []
    read = batch.read(field.name, values)
    wrong = [value for value, found in zip(values, read, strict=True) if found is UNREAD]
    # What no field can hold is wrong by itself.
    wrong = [value for value in wrong if not (type(value) is str and "\0" in value)]
    if not wrong:
        return []
    found = _fitting(field, wrong, values, textual=batch.textual)
    if not found or source is Source.SAMPLE:
        return found
    least = OFTEN if found[0][-1].severity is COMPATIBLE else MOSTLY
    return found if len(wrong) >= FEW and len(wrong) >= least * len(values) else []


def _fitting(field: Field, wrong: Sequence[Any], values: Sequence[Any], *, textual: bool) -> list[Misfit]:
    if limits := _beyond(field, wrong, textual=textual):
        return limits
    found = _kind(field.name, values, textual=textual)
    kind = found.type or "nested"
    if kind == field.type:
        return []
    longer = found.members.get("maxLength", 0)
    limit: list[Misfit] = [_longer(field, longer)] if longer > field.max_length else []
    return [("type", Kind.TYPE_CHANGE, field.type, kind, retyped(field.type, kind)), *limit]


def _beyond(field: Field, wrong: Sequence[Any], *, textual: bool) -> list[Misfit]:
    """The limits that have to be wider, where values are beyond them, and nothing else is wrong with them."""
    if field.type in ("enum", "text"):
        texts = {value for value in wrong if type(value) is str}
        if not texts or any(type(value) is not str for value in wrong):
            return []
        longest = max(len(text.encode("utf-8", "replace")) for text in texts)
        if field.type == "text":
            return [_longer(field, longest)] if longest > field.max_length else []
        if len(texts) > MOST_VALUES or longest > LONGEST_VALUE:
            return []
        return [("values", Kind.VALUES_CHANGE, field.values, (*field.values, *sorted(texts)), WIDENED)]
    if field.type not in ("integer", "number"):
        return []
    numbers = [number for value in wrong if (number := _number(value, textual=textual)) is not None]
    return _beyond_numbers(field, numbers) if len(numbers) == len(wrong) else []


def _longer(field: Field, longest: int) -> Misfit:
    return "maxLength", Kind.LIMIT_CHANGE, field.max_length, -(-longest // STEP) * STEP, WIDENED


def _beyond_numbers(field: Field, numbers: Sequence[int | Decimal]) -> list[Misfit]:
    if not all(map(fits, numbers)):
        return []
    least, most = Decimal(min(numbers)), Decimal(max(numbers))
    if max(abs(least), abs(most)) > MAX_INTEGER:
        return []
    found: list[Misfit] = []
    if field.type == "integer" and any(number != int(number) for number in numbers):
        found.append(("type", Kind.TYPE_CHANGE, "integer", "number", WIDENED))
    if field.minimum is not None and least < field.minimum:
        found.append(("minimum", Kind.LIMIT_CHANGE, field.minimum, math.floor(least), WIDENED))
    if field.maximum is not None and most > field.maximum:
        found.append(("maximum", Kind.LIMIT_CHANGE, field.maximum, math.ceil(most), WIDENED))
    if field.scale is not None and (digits := max(map(decimals, numbers))) > field.scale:
        found.append(("scale", Kind.LIMIT_CHANGE, field.scale, digits, WIDENED))
    return found


def _number(value: Any, *, textual: bool) -> int | Decimal | None:
    """The number that a value is, or of CSV says; None where it is none."""
    if textual and type(value) is str and len(value) <= LONGEST_NUMBER and NUMBER.fullmatch(value):
        return Decimal(value)
    return value if type(value) is int or type(value) is Decimal else None
