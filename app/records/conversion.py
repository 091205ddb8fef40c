"""A record into a row's document, by the contract: the loop that every record of a run goes through.

What a value has to be is said by `check_value` alone. The readers here let through at sight what it lets through, and
ask it about everything else.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from app.base.errors import Code, Culprit
from app.contracts import Contract
from app.contracts.filters import BOOLEANS, INTEGER, NUMBER
from app.contracts.keys import check_key
from app.contracts.model import RECEIVED_AT, Field, IngestionSemantics
from app.contracts.rule_types import Rule
from app.contracts.rules import judge
from app.contracts.validation import check_value
from app.contracts.values import (
    MAX_DIGITS,
    MAX_INTEGER,
    fits,
    is_date,
    normalize_datetime,
    read_datetime,
    write_datetime,
)
from app.records.records import SHOWN, refuse

LONGEST_MOMENT = 40
MOST_TOLD = 50  # things that are told of what is wrong with a record

Read = Callable[[Any], Any]
Wrong = tuple[str, str, str]  # code, field, message

_is_date = lru_cache(maxsize=8192)(is_date)
_normalized = lru_cache(maxsize=8192)(normalize_datetime)
_moment = lru_cache(maxsize=8192)(read_datetime)
_written = lru_cache(maxsize=64)(write_datetime)


class Converted(msgspec.Struct, frozen=True, gc=False):
    """A record, read by a contract: what is wrong with it (the first MOST_TOLD), and where nothing is, the row's
    document and its times.

    `dropped` are members whose values were put away, `new` those that no field has, with their values, where the
    contract evolves. `refused`: the run ends with this record.
    """

    document: dict[str, Any]
    event_at: datetime.datetime | None
    processed_at: datetime.datetime
    culprits: tuple[Culprit, ...] = ()
    dropped: tuple[str, ...] = ()
    new: tuple[tuple[str, Any], ...] = ()
    refused: bool = False


class MisfitError(Exception):
    """Code and message of what is wrong with a value."""


# -- names -------------------------------------------------------------------------------------------------------------


def fields_by_member(contract: Contract, mapped: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, str]:
    """What a member of a record can be called -> the field: by its name, else by a label that it alone has.

    `mapped`: field -> what its member is called besides, and before anything else.
    """
    labels: dict[str, list[str]] = {}
    for field in contract.fields:
        if field.label and field.label not in contract.by_name:
            labels.setdefault(field.label, []).append(field.name)
    return (
        {name: name for name in contract.by_name}
        | {label: names[0] for label, names in labels.items() if not names[1:]}
        | {member: name for name, member in mapped.items() if member is not None and name in contract.by_name}
    )


def columns_by_header(
    contract: Contract, headers: Iterable[str], mapped: Mapping[str, str | None] = MappingProxyType({})
) -> dict[str, str]:
    """Header of CSV -> the field that its cells are values of; headers of no field are left out. `mapped` as above.

    Raises MalformedRequest where a header is the label of two fields, or two headers are of one field.
    """
    known = fields_by_member(contract, mapped)
    found: dict[str, str] = {}
    for header in headers:
        if header in known:
            found[header] = known[header]
        elif several := [field.name for field in contract.fields if field.label == header]:
            raise refuse(
                f"The column {header[:SHOWN]!r} may be {' or '.join(several[:5])}: call it by the field's name."
            )
    for field in contract.fields:
        if len(same := [header for header, name in found.items() if name == field.name]) > 1:
            shown = " and ".join(repr(header[:SHOWN]) for header in same)
            raise refuse(f"The columns {shown} are both {field.name}: leave one of them out.")
    return found


# -- records -----------------------------------------------------------------------------------------------------------


class Converter:
    """Reads records by a contract that has ingestion semantics. `textual`: all values are texts, as those of CSV are,
    and an empty one is null. `mapped`: field -> the member that it is read from, beside its name and label.
    """

    def __init__(self, contract: Contract, *, textual: bool, mapped: Mapping[str, str | None] = MappingProxyType({})):
        if contract.ingestion is None:
            raise ValueError(f"{contract.name} says nothing of ingestion.")
        self._contract = contract
        self._semantics: IngestionSemantics = contract.ingestion
        self._empty = "" if textual else None
        readers = {field.name: reader_of(field, textual=textual) for field in contract.fields}
        self._readers = {member: (name, readers[name]) for member, name in fields_by_member(contract, mapped).items()}
        self._key = contract.key_fields
        self._required = tuple(dict.fromkeys((*self._key, *self._semantics.idempotency_key)))
        self._rules = tuple((name, rule) for name in contract.by_name for rule in _own_rules(contract, name))
        self._derived = tuple(field for field in contract.fields if field.derived_from)

    def convert(self, record: Mapping[str, Any], received_at: datetime.datetime, *, of_row: bool = False) -> Converted:
        """The row that the record stands for, received at an aware moment. `of_row`: it is a row of another version,
        which has its id and its times already: nothing has to be there but what fits.
        """
        document: dict[str, Any] = {}
        readers, empty = self._readers, self._empty
        misfits: list[Wrong] = []
        wrong: list[Wrong] = []
        unknown: list[tuple[str, Any]] = []
        for member, value in record.items():
            found = readers.get(member)
            if found is None:
                if value is not None and value != empty:
                    unknown.append((member, value))
                continue
            name, read = found
            if name in document:
                wrong.append((Code.DUPLICATE_MEMBER, name, f"{name} comes twice, once as {member[:SHOWN]!r}."))
            elif value is None or value == empty:
                document[name] = None
            else:
                try:
                    document[name] = read(value)
                except MisfitError as error:
                    document[name] = None
                    misfits.append((error.args[0], name, error.args[1]))
        return self._complete(document, received_at, wrong, misfits, unknown, of_row)

    def _complete(
        self,
        document: dict[str, Any],
        received_at: datetime.datetime,
        wrong: list[Wrong],
        misfits: list[Wrong],
        unknown: list[tuple[str, Any]],
        of_row: bool,
    ) -> Converted:
        """The row, once every member is read: what becomes of misfits, its times, what is derived."""
        policy = self._contract.schema_contract
        dropped: list[str] = []
        new: tuple[tuple[str, Any], ...] = ()
        if misfits and policy.types == "drop_value":
            dropped += [name for _, name, _ in misfits]
        else:
            wrong += misfits
        if unknown and policy.new_fields == "evolve":
            new = tuple(unknown)
        elif unknown and policy.new_fields == "drop_value":
            dropped += [member for member, _ in unknown]
        else:
            wrong += [self._unknown(member) for member, _ in unknown[:MOST_TOLD]]
        processed_at = received_at if of_row else self._processed_at(document, received_at)
        event_at = self._event_at(document, received_at)
        self._check_row(document, () if of_row else self._missing(document, event_at), wrong)
        for field in self._derived:
            document[field.name] = all(document.get(name) is not None for name in field.derived_from)
        return Converted(
            document,
            event_at,
            processed_at,
            tuple(self._culprit(document, each) for each in wrong[:MOST_TOLD]) if wrong else (),
            tuple(dropped),
            new,
            refused=bool((misfits and policy.types == "refuse") or (unknown and policy.new_fields == "refuse")),
        )

    def _culprit(self, document: dict[str, Any], wrong: Wrong) -> Culprit:
        code, field, message = wrong
        key = document.get(self._key[0]) if len(self._key) == 1 else None
        return Culprit(id=key[:200] if isinstance(key, str) else None, field=field, code=code, message=message)

    def _unknown(self, member: str) -> Wrong:
        return Code.UNKNOWN_FIELD, member[:SHOWN], f"{self._contract.name} has no field {member[:SHOWN]!r}."

    def _processed_at(self, document: dict[str, Any], received_at: datetime.datetime) -> datetime.datetime:
        """When the record was processed; a field that has nothing of it gets the moment of its receipt."""
        name = self._semantics.processing_time_column
        if name == RECEIVED_AT:
            return received_at
        if (moment := _moment(document.get(name))) is not None:
            return moment
        document[name] = _written(received_at)
        return received_at

    def _event_at(self, document: dict[str, Any], received_at: datetime.datetime) -> datetime.datetime | None:
        name = self._semantics.event_time_column
        return received_at if name == RECEIVED_AT else _moment(document.get(name))

    def _missing(self, document: dict[str, Any], event_at: datetime.datetime | None) -> Iterable[str]:
        """What every record has, and this one has not."""
        times = (self._semantics.event_time_column,) if event_at is None else ()
        return (name for name in dict.fromkeys((*self._required, *times)) if document.get(name) is None)

    def _check_row(self, document: dict[str, Any], missing: Iterable[str], wrong: list[Wrong]) -> None:
        """What the row lacks, and the rules that its values break each by itself."""
        told = {field for _, field, _ in wrong}
        for name in missing:
            if name not in told:
                wrong.append((Code.MISSING_FIELD, name, f"{name} is missing; every record has one."))
        for name, rule in self._rules:
            if name not in told:
                findings = judge(self._contract, rule, None, {name: document.get(name)})
                wrong += [(each.code, name, each.message) for each in findings if each.blocks and each.field == name]
        key = document.get(self._key[0]) if len(self._key) == 1 else None
        if isinstance(key, str) and (reason := check_key(key)) is not None:
            wrong.append((Code.INVALID_ID, self._key[0], reason))


def _own_rules(contract: Contract, name: str) -> list[Rule]:
    """The rules of a field's value, without those that `check_value` stands for."""
    declared = {rule.id for rule in contract.rules}
    return [rule for rule in contract.cell_rules[name] if rule.id in declared]


# -- values ------------------------------------------------------------------------------------------------------------


def _checked(field: Field, value: Any) -> Any:
    if (wrong := check_value(field, value)) is not None:
        raise MisfitError(*wrong)
    return value


def reader_of(field: Field, *, textual: bool) -> Read:
    """What makes a value of a record, which is not null, one of the document; raises MisfitError."""
    return _parsing(field) if textual else _reading(field)


def _reading(field: Field) -> Read:
    """What makes a value of JSON, which is not null, one of the document."""
    match field.type:
        case "text":
            return _reading_text(field)
        case "enum":
            values = dict.fromkeys(field.values)
            return lambda value: value if type(value) is str and value in values else _checked(field, value)
        case "number" | "integer":
            return _reading_number(field)
        case "boolean":
            return lambda value: value if value is True or value is False else _checked(field, value)
        case "date":
            return lambda value: value if _is_short(value) and _is_date(value) else _checked(field, value)
        case "datetime":
            return lambda value: (_is_short(value) and _normalized(value)) or _checked(field, value)


def _is_short(value: Any) -> bool:
    """Whether it is a text that can be a day or a moment: what is longer would fill the caches."""
    return type(value) is str and len(value) <= LONGEST_MOMENT


def _reading_text(field: Field) -> Read:
    # A character has at most four bytes.
    longest = field.max_length // 4

    def read(value: Any) -> Any:
        if type(value) is str and "\0" not in value and len(value) <= longest:
            return value
        return _checked(field, value)

    return read


def _reading_number(field: Field) -> Read:
    whole = field.type == "integer"
    limit = MAX_INTEGER if whole else 10**MAX_DIGITS - 1
    least = -limit if field.minimum is None else max(field.minimum, -limit)
    most = limit if field.maximum is None else min(field.maximum, limit)
    # No digits behind the point but those that are allowed, zeros included: others are counted exactly.
    unit = None if whole or field.scale is None else Decimal((0, (1,), -field.scale))

    def read(value: Any) -> Any:
        if type(value) is int and least <= value <= most:
            return value
        digits = not whole and type(value) is Decimal and (unit is None or value.same_quantum(unit)) and fits(value)
        if digits and least <= value <= most:
            return value
        return _checked(field, value)

    return read


def _parsing(field: Field) -> Read:
    """What makes a text of CSV, which is not empty, a value of the document: as the JSON value that it says.

    A text that says none is told as what it is.
    """
    read = _reading(field)
    match field.type:
        case "number" | "integer":
            return lambda text: read(_number(text))
        case "boolean":
            return lambda text: read(BOOLEANS.get(text.lower(), text))
    return read


def _number(text: str) -> int | Decimal | str:
    if INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if NUMBER.fullmatch(text) else text
