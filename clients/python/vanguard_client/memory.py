"""A data set in memory."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from vanguard_client.errors import RecordNotFound
from vanguard_client.records import Values, canonical, replacement
from vanguard_client.typed import TypedDataSet

T = TypeVar("T")


class MemoryDataSet(TypedDataSet[T]):
    """Records in a dict; `values` are copied, on the way in as on the way out."""

    @overload
    def __init__(self: "MemoryDataSet[dict[str, Any]]", values: Mapping[str, Values] | None = None) -> None: ...
    @overload
    def __init__(self, values: Mapping[str, Values] | None = None, *, record: type[T]) -> None: ...
    def __init__(self, values: Mapping[str, Values] | None = None, *, record: Any = dict) -> None:
        super().__init__(record)
        self._rows: dict[str, Values] = canonical(dict(values or {}))

    async def list_values(self) -> dict[str, Values]:
        """All rows."""
        rows: dict[str, Values] = canonical(self._rows)
        return rows

    async def get_value(self, id: str) -> Values | None:
        """One row."""
        row: Values | None = canonical(self._rows.get(id))
        return row

    async def insert_value(self, id: str, values: Values) -> Values:
        """Insert, unless it is there."""
        return canonical(self._rows[id]) if id in self._rows else self._put(id, values)

    async def replace_value(self, id: str, values: Values) -> Values:
        """Write all of it."""
        return self._put(id, replacement(self._rows.get(id), values))

    async def patch_value(self, id: str, partial: Values) -> Values:
        """Lay fields over it."""
        if id not in self._rows:
            raise RecordNotFound(id)
        return self._put(id, {**self._rows[id], **partial})

    async def delete(self, id: str) -> None:
        """Delete it, if it is there."""
        self._rows.pop(id, None)

    async def apply(self, puts: Mapping[str, Values], deletes: Iterable[str]) -> None:
        """Many writes at once."""
        for id in deletes:
            self._rows.pop(id, None)
        self._rows.update(canonical(dict(puts)))

    def _put(self, id: str, values: Values) -> Values:
        self._rows[id] = canonical(values)
        row: Values = canonical(values)
        return row
