"""What a column of an upload is: its values counted, and the type that all of them have."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from app.base.errors import ValidationFailed
from app.contracts.bounds import DEFAULT_LIMITS
from app.contracts.filters import BOOLEANS
from app.contracts.shape import FieldType
from app.contracts.values import MAX_INTEGER, fits, is_date, normalize_datetime

# A number that nothing is lost of: no plus, no leading zeros, at most 15 digits, and an exponent only where a point or
# a sign tells it from a code such as 12E4.
NUMBER = re.compile(r"-?(?:0|[1-9]\d*|(?=\.\d))(?:\.\d+(?:e[+-]?\d{1,2})?|e[+-]\d{1,2})?", re.ASCII | re.IGNORECASE)
INTEGER = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
MAX_DIGITS = 15
# What looks like one of these, and is read as text all the same.
LIKE_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:[. ]\d{3})+|\d+),\d+", re.ASCII)
SHORT_DATE = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](?:\d{4}|\d{2})(?:[ T].*)?", re.ASCII)
OTHER_DATE = re.compile(r"\d{4}[./]\d{1,2}[./]\d{1,2}", re.ASCII)
LOCAL_MOMENT = re.compile(r"\d{4}[./-]\d{1,2}[./-]\d{1,2}[ T]\d{1,2}:\d{2}.*", re.ASCII)
COMPACT_DATE = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
NULL_WORDS = frozenset(
    {"na", "n/a", "#n/a", "n.a.", "nan", "null", "nil", "none", "-", "--", "?", "missing", "unknown"}
)
YES_AND_NO = ({"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
MOST_VALUES = 20  # of an enum
EACH = 10  # records that a value of an enum has, on average
LONGEST_VALUE = 60
LONGEST_TEXT = 500  # bytes of a text whose contract says nothing
MOSTLY = 0.9

Told = tuple[str, list[str]]  # a sentence, and the alternatives


class Column:
    """A column's values, counted by what they are in JSON; `nested` are objects and lists."""

    def __init__(self, header: str):
        self.header = header
        self.counts: dict[type, Counter[Any]] = {}
        self.nested = 0

    def add(self, value: Any) -> None:
        """Counts a value that is not null."""
        kind = type(value)
        if kind is dict or kind is list:
            self.nested += 1
            return
        counter = self.counts.get(kind)
        if counter is None:
            counter = self.counts[kind] = Counter()
        counter[value] += 1

    @property
    def present(self) -> int:
        """Records that have a value."""
        return sum(counter.total() for counter in self.counts.values()) + self.nested

    @property
    def distinct(self) -> int:
        """Values that differ."""
        return sum(len(counter) for counter in self.counts.values())


class Guess(msgspec.Struct, kw_only=True):
    """The type of a column, None where no field can hold it, with what else its field says and what is to be told."""

    type: FieldType | None
    members: dict[str, Any] = {}
    told: list[Told] = []


def count_columns(records: Iterable[Mapping[str, Any]], *, textual: bool) -> tuple[list[Column], int]:
    """The columns in the order in which they come, and how many records there are; an empty text of CSV is null.

    Raises ValidationFailed for more columns than a contract has fields.
    """
    columns: dict[str, Column] = {}
    empty = "" if textual else None
    total = 0
    for record in records:
        total += 1
        for header, value in record.items():
            column = columns.get(header)
            if column is None:
                column = columns[header] = Column(header)
            if value is not None and value != empty:
                column.add(value)
        if len(columns) > DEFAULT_LIMITS.fields:
            most = DEFAULT_LIMITS.fields
            raise ValidationFailed(
                f"The records have more than {most} different members; a contract has {most} fields."
            )
    return list(columns.values()), total


def guess(column: Column, *, textual: bool, whole: bool) -> Guess:
    """The type that a column's values have; where they differ, that of most."""
    families = {
        "text": column.counts.get(str, Counter()).total(),
        "number": sum(column.counts[kind].total() for kind in (int, Decimal) if kind in column.counts),
        "boolean": column.counts.get(bool, Counter()).total(),
        "nested": column.nested,
    }
    most = max(families, key=lambda family: families[family])
    if families[most] == 0:
        return Guess(type="text", told=[("No record has a value: it is a text until one is seen.", ["any other type"])])
    match most:
        case "nested":
            message = "It has objects or lists, which no field holds: it is left out, and records that have it are put"
            return Guess(type=None, told=[(f"{message} aside.", ["schemaContract.newFields: drop_value"])])
        case "text":
            found = _of_texts(column.counts[str], textual=textual, whole=whole)
        case "number":
            found = _of_numbers([value for kind in (int, Decimal) for value in column.counts.get(kind, ())])
        case _:
            found = Guess(type="boolean")
    if others := [family for family, times in families.items() if times and family != most]:
        times = sum(families[family] for family in others)
        message = f"{times:,} of {column.present:,} values are not of type {found.type}: their records are put aside."
        found.told.append((message, [*others, "schemaContract.types: drop_value"]))
    return found


def _of_numbers(values: Iterable[int | Decimal]) -> Guess:
    values = list(values)
    if beyond := sum(1 for value in values if not fits(value)):
        told = [(f"{beyond:,} values are beyond what a number can be: records that have them are put aside.", ["text"])]
        return Guess(type="number", told=told)
    if all(type(value) is int and abs(value) <= MAX_INTEGER for value in values):
        return Guess(type="integer", told=_told_of_integers([str(value) for value in values]))
    return Guess(type="number")


def _told_of_integers(texts: list[str]) -> list[Told]:
    if set(texts) == {"0", "1"}:
        return [("It has 0 and 1 only: whole numbers, unless they are written false and true.", ["boolean"])]
    if all(COMPACT_DATE.fullmatch(text) for text in texts):
        return [("Its numbers could be days: write them YYYY-MM-DD for a date.", ["date", "text"])]
    return []


# -- texts -------------------------------------------------------------------------------------------------------------


def _of_texts(texts: Counter[str], *, textual: bool, whole: bool) -> Guess:
    kind = _type_of(texts, textual=textual)
    if kind == "integer":
        return Guess(type=kind, told=_told_of_integers(list(texts)))
    if kind is not None:
        return Guess(type=kind)
    told = _told_of_texts(texts, textual=textual)
    if _is_enum(texts):
        values = sorted(texts)
        if whole:
            message = f"It has {len(values)} different values, and takes no others. As a text it would."
            return Guess(type="enum", members={"values": values}, told=[*told, (message, ["text"])])
        told.append((f"The sample has {len(values)} different values; the rest may have others.", ["enum"]))
    longest = max(len(text.encode()) for text in texts)
    if longest > LONGEST_TEXT or (not whole and longest * 2 > LONGEST_TEXT):
        most = -(-longest * 2 // 1000) * 1000
        told.append((f"The longest text has {longest:,} bytes; it may have {most:,}.", ["another maxLength"]))
        return Guess(type="text", members={"maxLength": most}, told=told)
    return Guess(type="text", told=told)


def _type_of(texts: Iterable[str], *, textual: bool) -> FieldType | None:
    """The type beside text that all of the texts have. In JSON what is a number or a boolean is no string."""
    kinds: list[tuple[FieldType, Callable[[str], Any]]] = [("date", is_date), ("datetime", normalize_datetime)]
    if textual:
        kinds = [("boolean", _is_boolean), ("integer", _is_integer), ("number", _is_number), *kinds]
    return next((kind for kind, test in kinds if all(test(text) for text in texts)), None)


def _is_boolean(text: str) -> bool:
    return text.lower() in BOOLEANS


def _is_integer(text: str) -> bool:
    return len(text) <= MAX_DIGITS + 1 and INTEGER.fullmatch(text) is not None and len(text.lstrip("-")) <= MAX_DIGITS


def _is_number(text: str) -> bool:
    if len(text) > 2 * MAX_DIGITS or not NUMBER.fullmatch(text):
        return False
    mantissa = text.lower().partition("e")[0]
    return sum(map(str.isdigit, mantissa)) <= MAX_DIGITS and fits(Decimal(text))


def _is_enum(texts: Counter[str]) -> bool:
    few = 2 <= len(texts) <= MOST_VALUES and texts.total() >= EACH * len(texts)
    return few and all(len(text.encode()) <= LONGEST_VALUE and "\0" not in text for text in texts)


def _told_of_texts(texts: Counter[str], *, textual: bool) -> list[Told]:
    """What the texts look like without being it, and what to do for it."""
    told: list[Told] = []
    rest = {text: times for text, times in texts.items() if text.strip().lower() not in NULL_WORDS}
    if len(rest) < len(texts) and rest:
        words = sorted(text for text in texts if text not in rest)
        kind = _type_of(rest, textual=textual)
        shown = ", ".join(repr(word[:20]) for word in words[:3])
        message = f"{texts.total() - sum(rest.values()):,} values are {shown}, which are texts."
        if kind is not None:
            message += f" With nothing in their place its type is {kind}."
        told.append((message, [kind or "null, where there is nothing"]))
        if kind is not None:
            return told
    return told + _likeness(rest or texts, textual=textual)


def _likeness(texts: Mapping[str, int], *, textual: bool) -> list[Told]:
    if textual and all(LIKE_NUMBER.fullmatch(text) for text in texts):
        message = (
            "It looks like numbers with leading zeros, a plus sign, an exponent or more than 15 digits: a text keeps"
        )
        return [(f"{message} them.", ["integer" if all(text.isdigit() for text in texts) else "number"])]
    if textual and all(DECIMAL_COMMA.fullmatch(text) for text in texts):
        return [("It looks like numbers with a comma: write a point for a number.", ["number"])]
    if all(SHORT_DATE.fullmatch(text) for text in texts):
        return [_short_dates(texts)]
    if all(OTHER_DATE.fullmatch(text) for text in texts):
        return [("It looks like days: write them YYYY-MM-DD for a date.", ["date"])]
    if all(LOCAL_MOMENT.fullmatch(text) for text in texts):
        return [
            ("It looks like moments without an offset: write them 2026-01-31T08:30:00Z for a datetime.", ["datetime"])
        ]
    if {text.lower() for text in texts} in YES_AND_NO:
        return [("It looks like yes and no: write true and false for a boolean.", ["boolean"])]
    total = sum(texts.values())
    for kind in ("number", "date"):
        test = _is_number if kind == "number" else is_date
        fit = sum(times for text, times in texts.items() if test(text)) if textual or kind == "date" else 0
        if fit >= MOSTLY * total:
            odd = next(text for text in texts if not test(text))
            return [(f"{total - fit:,} of {total:,} values are not of type {kind}, such as {odd[:40]!r}.", [kind])]
    return []


def _short_dates(texts: Iterable[str]) -> Told:
    """Days of which nobody can tell the month, unless one of the two is always above 12 or not."""
    pairs = [(int(found[1]), int(found[2])) for text in texts if (found := SHORT_DATE.fullmatch(text))]
    orders = []
    if all(second <= 12 for _, second in pairs):
        orders.append("date, read as day before month")
    if all(first <= 12 for first, _ in pairs):
        orders.append("date, read as month before day")
    if len(orders) == 2:
        message = "It looks like days, and nothing tells day and month apart: write them YYYY-MM-DD for a date."
    else:
        message = "It looks like days in another form: write them YYYY-MM-DD for a date."
    return message, orders or ["date"]
