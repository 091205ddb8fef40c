"""What a data set can do, as protocols: whatever has these methods is one, no base class needed.

Each comes twice, for records of a type and for bare values (`..._value`). Ids are text.

get      None where there is no such record
get_some any record with its id, None where there is none
insert   of an id that is there: returns what is there, and writes nothing
replace  writes the record whether it is there or not; fields that it does not have become null
patch    lays the fields over the record, top level only; raises RecordNotFound
delete   of what is not there: nothing happens
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from vanguard_client.records import Values

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@runtime_checkable
class Readable(Protocol[T_co]):
    """Records to read."""

    async def list(self) -> Mapping[str, T_co]: ...
    async def get(self, id: str) -> T_co | None: ...
    async def get_some(self) -> tuple[str, T_co] | None: ...


@runtime_checkable
class ReadableValue(Protocol):
    """The same as values."""

    async def list_values(self) -> dict[str, Values]: ...
    async def get_value(self, id: str) -> Values | None: ...
    async def get_some_value(self) -> tuple[str, Values] | None: ...


@runtime_checkable
class Writable(Protocol[T]):
    """Records to write; each returns what the record is then."""

    async def insert(self, id: str, record: T) -> T: ...
    async def replace(self, id: str, record: T) -> T: ...
    async def patch(self, id: str, partial: Mapping[str, Any]) -> T: ...
    async def patch_changed(self, id: str, before: T, after: T) -> T:
        """Write only the fields that differ."""
        ...

    async def delete(self, id: str) -> None: ...


@runtime_checkable
class WritableValue(Protocol):
    """The same with values."""

    async def insert_value(self, id: str, values: Values) -> Values: ...
    async def replace_value(self, id: str, values: Values) -> Values: ...
    async def patch_value(self, id: str, partial: Values) -> Values: ...
    async def delete(self, id: str) -> None: ...


@runtime_checkable
class Insertable(Protocol[T_contra]):
    """Records to add without an id of one's own."""

    async def add(self, record: T_contra) -> str:
        """The id that the record got."""
        ...


class ValueSet(ReadableValue, WritableValue, Protocol):
    """What a cache has to be."""


class DataSet(Readable[T], Writable[T], ReadableValue, WritableValue, Insertable[T], Protocol[T]):
    """What a backend has to be; `record` is the type of its records."""

    @property
    def record(self) -> type[T]: ...


@runtime_checkable
class Batched(Protocol):
    """A cache that takes many writes at once, all or none of them."""

    async def apply(self, puts: Mapping[str, Values], deletes: Iterable[str]) -> None: ...
