"""Records over values: what every data set of this library has in common."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from vanguard_client.records import Codec, Values, changed_fields, pick

T = TypeVar("T")


class TypedDataSet(ABC, Generic[T]):
    """The methods for records, made of those for values. A data set of one's own may inherit them, and need not."""

    def __init__(self, record: type[T]) -> None:
        self.codec = Codec(record)

    @property
    def record(self) -> type[T]:
        """The type of the records."""
        return self.codec.record

    @abstractmethod
    async def list_values(self) -> dict[str, Values]: ...
    @abstractmethod
    async def get_value(self, id: str) -> Values | None: ...
    @abstractmethod
    async def insert_value(self, id: str, values: Values) -> Values: ...
    @abstractmethod
    async def replace_value(self, id: str, values: Values) -> Values: ...
    @abstractmethod
    async def patch_value(self, id: str, partial: Values) -> Values: ...
    @abstractmethod
    async def delete(self, id: str) -> None: ...

    async def get_some_value(self) -> tuple[str, Values] | None:
        """Any record with its id."""
        return next(iter((await self.list_values()).items()), None)

    async def add_value(self, values: Values) -> str:
        """Insert under a new id."""
        id = str(uuid.uuid4())
        await self.insert_value(id, values)
        return id

    async def list(self) -> dict[str, T]:
        """All records by id."""
        return {id: self.codec.read(values, id) for id, values in (await self.list_values()).items()}

    async def get(self, id: str) -> T | None:
        """One record, None where there is none."""
        values = await self.get_value(id)
        return None if values is None else self.codec.read(values, id)

    async def get_some(self) -> tuple[str, T] | None:
        """Any record with its id."""
        some = await self.get_some_value()
        return None if some is None else (some[0], self.codec.read(some[1], some[0]))

    async def insert(self, id: str, record: T) -> T:
        """The record that is there then: the original, if it was there before."""
        return self.codec.read(await self.insert_value(id, self.codec.write(record)), id)

    async def replace(self, id: str, record: T) -> T:
        """Write all of the record; fields that it does not have become null."""
        return self.codec.read(await self.replace_value(id, self.codec.write(record)), id)

    async def patch(self, id: str, partial: Mapping[str, Any]) -> T:
        """Lay these fields over the record; raises RecordNotFound."""
        return self.codec.read(await self.patch_value(id, self.codec.write(partial)), id)

    async def patch_changed(self, id: str, before: T, after: T) -> T:
        """Patch with the fields in which the two differ; raises RecordNotFound."""
        was, wanted = self.codec.write(before), self.codec.write(after)
        return self.codec.read(await self.patch_value(id, pick(wanted, changed_fields(was, wanted))), id)

    async def add(self, record: T) -> str:
        """Insert under a new id, which is returned."""
        return await self.add_value(self.codec.write(record))
