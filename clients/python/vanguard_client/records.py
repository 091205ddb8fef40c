"""Records: a dict or a msgspec struct for programs, *values* for data sets.

Values are what JSON knows, with every digit: a number with a fraction is a `Decimal`. An absent field equals null.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

import msgspec

from vanguard_client.errors import InvalidRecord

T = TypeVar("T")
Values = dict[str, Any]

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: Any) -> bytes:
    """JSON; raises InvalidRecord for what JSON cannot say."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRecord(f"This cannot be written as JSON: {error}.") from error


def decode(text: bytes | str) -> Any:
    """The value of JSON text, fractions as Decimal; raises InvalidRecord."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, InvalidOperation, RecursionError, UnicodeError) as error:
        raise InvalidRecord(f"This is no JSON: {error}.") from error


def canonical(value: Any) -> Any:
    """A value as it comes back after it was sent: dates are text, fractions Decimals, all of it new objects."""
    return decode(encode(value))


def same(one: Values | None, other: Values | None, field: str) -> bool:
    """Whether a field has the same value in both."""
    return bool((one or {}).get(field) == (other or {}).get(field))


def changed_fields(before: Values | None, after: Values | None) -> list[str]:
    """The fields that differ, in the order in which they first come."""
    return [field for field in {**(before or {}), **(after or {})} if not same(before, after, field)]


def replacement(old: Values | None, new: Values) -> Values:
    """What a record becomes when it is replaced: absent fields are null."""
    return {**dict.fromkeys(old or {}), **new}


def pick(values: Values, fields: Iterable[str]) -> Values:
    """Only these fields, null where they are absent."""
    return {field: values.get(field) for field in fields}


class Codec(Generic[T]):
    """Between records of one type and values.

    Fields have the record's own names in whatever a program sees, and the wire's (a struct's `rename`) in values.
    """

    def __init__(self, record: type[T]) -> None:
        self.record = record
        struct: Any = record if _is_struct(record) else None
        self._fields = None if struct is None else msgspec.structs.fields(struct)
        self.wire = {field.name: field.encode_name for field in self._fields or ()}
        self._names = {wire: name for name, wire in self.wire.items()}

    def name(self, wire: str) -> str:
        """A field's name in the record; the same where the record has no such field."""
        return self._names.get(wire, wire)

    def wire_name(self, name: str) -> str:
        """A field's name in values."""
        return self.wire.get(name, name)

    def read(self, values: Values, id: str = "") -> T:
        """A record of values, whose fields that the type does not know are left out; raises InvalidRecord."""
        if self._fields is None:
            copied: T = canonical(values)
            return copied
        known = {name: values[name] for name in self._names if name in values}
        try:
            return msgspec.convert(known, self.record)
        except msgspec.ValidationError as error:
            # Absent equals null: where a field cannot be null, its default stands in.
            present = {name: value for name, value in known.items() if value is not None}
            try:
                return msgspec.convert(present, self.record)
            except msgspec.ValidationError:
                raise InvalidRecord(f"The row {id!r} is no {self.record.__name__}: {error}.") from error

    def write(self, record: T | Mapping[str, Any]) -> Values:
        """The values of a record, or of a mapping of some of its fields by the record's own names."""
        if isinstance(record, msgspec.Struct):
            given = {name: getattr(record, name) for name in record.__struct_fields__}
            given = {name: value for name, value in given.items() if value is not msgspec.UNSET}
        elif isinstance(record, Mapping):
            given = dict(record)
        else:
            raise InvalidRecord(f"A record is a {self.record.__name__}, not a {type(record).__name__}.")
        values: Values = canonical({self.wire_name(name): value for name, value in given.items()})
        return values


def _is_struct(record: type[Any]) -> bool:
    return isinstance(record, type) and issubclass(record, msgspec.Struct)
