"""Data sets that tests of the client write themselves: its protocols are all that they share with it."""

import asyncio
import builtins
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from vanguard_client import MemoryDataSet, RecordNotFound, Values

Record = dict[str, Any]


class FolderDataSet:
    """A file for each record, by hand and from the protocols alone: it inherits nothing and knows no Codec."""

    record: type[Record] = dict

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, id: str) -> Path:
        return self.folder / f"{id.encode().hex()}.json"

    def _read(self, file: Path) -> Values:
        values: Values = json.loads(file.read_text(), parse_float=Decimal)
        return values

    def _write(self, id: str, values: Values) -> Values:
        self._file(id).write_bytes(msgspec.json.Encoder(decimal_format="number").encode(values))
        return self._read(self._file(id))

    async def list(self) -> Mapping[str, Record]:
        return {bytes.fromhex(file.stem).decode(): self._read(file) for file in sorted(self.folder.glob("*.json"))}

    async def get(self, id: str) -> Record | None:
        return self._read(self._file(id)) if self._file(id).exists() else None

    async def get_some(self) -> tuple[str, Record] | None:
        return next(iter((await self.list()).items()), None)

    async def insert(self, id: str, record: Record) -> Record:
        return await self.get(id) or self._write(id, record)

    async def replace(self, id: str, record: Record) -> Record:
        return self._write(id, {**dict.fromkeys(await self.get(id) or {}), **record})

    async def patch(self, id: str, partial: Mapping[str, Any]) -> Record:
        old = await self.get(id)
        if old is None:
            raise RecordNotFound(id)
        return self._write(id, {**old, **partial})

    async def patch_changed(self, id: str, before: Record, after: Record) -> Record:
        fields = {**before, **after}
        return await self.patch(id, {f: after.get(f) for f in fields if before.get(f) != after.get(f)})

    async def delete(self, id: str) -> None:
        self._file(id).unlink(missing_ok=True)

    async def add(self, record: Record) -> str:
        id = f"F{len(list(self.folder.iterdir())) + 1}"
        self._write(id, record)
        return id

    async def list_values(self) -> dict[str, Values]:
        return dict(await self.list())

    async def get_value(self, id: str) -> Values | None:
        return await self.get(id)

    async def get_some_value(self) -> tuple[str, Values] | None:
        return await self.get_some()

    async def insert_value(self, id: str, values: Values) -> Values:
        return await self.insert(id, values)

    async def replace_value(self, id: str, values: Values) -> Values:
        return await self.replace(id, values)

    async def patch_value(self, id: str, partial: Values) -> Values:
        return await self.patch(id, partial)


class Gate:
    """Something that can be shut: whoever comes waits, or is sent away."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.error: Exception | None = None
        self.reached = asyncio.Event()

    def shut(self, error: Exception | None = None) -> None:
        """From now on nobody passes: with an error whoever comes gets it, without one they wait."""
        self.error = error
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        """Let all pass."""
        self._open.set()

    async def passed(self) -> None:
        """Pass, as soon as that is possible."""
        if not self._open.is_set():
            self.reached.set()
            if self.error is not None:
                raise self.error
            await self._open.wait()


class GatedDataSet(MemoryDataSet[Record]):
    """A data set in memory that can be shut, and that may make something else of what it is sent."""

    def __init__(self, values: Mapping[str, Values] | None = None) -> None:
        super().__init__(values)
        self.reads, self.writes = Gate(), Gate()
        self.refused: dict[str, Exception] = {}  # by id, the next write only
        self.kept: dict[str, Any] = {}  # fields that stay as they are whatever is sent
        self.calls: builtins.list[tuple[str, str]] = []

    async def list_values(self) -> dict[str, Values]:
        await self.reads.passed()
        return await super().list_values()

    async def get_value(self, id: str) -> Values | None:
        await self.reads.passed()
        return await super().get_value(id)

    async def insert_value(self, id: str, values: Values) -> Values:
        await self._write("insert", id)
        return await super().insert_value(id, values)

    async def replace_value(self, id: str, values: Values) -> Values:
        await self._write("replace", id)
        return await super().replace_value(id, values)

    async def patch_value(self, id: str, partial: Values) -> Values:
        await self._write("patch", id)
        return await super().patch_value(id, {**partial, **self.kept})

    async def delete(self, id: str) -> None:
        await self._write("delete", id)
        await super().delete(id)

    async def add_value(self, values: Values) -> str:
        id = f"N{len(self.calls)}"
        await self.insert_value(id, values)
        return id

    async def _write(self, call: str, id: str) -> None:
        await self.writes.passed()
        self.calls.append((call, id))
        if id in self.refused:
            raise self.refused.pop(id)

    async def elsewhere(self, id: str, **fields: Any) -> None:
        """Somebody else writes."""
        await MemoryDataSet.replace_value(self, id, {**(await MemoryDataSet.get_value(self, id) or {}), **fields})
