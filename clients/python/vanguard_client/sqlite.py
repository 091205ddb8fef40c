"""A data set in one file."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from vanguard_client.errors import RecordNotFound
from vanguard_client.records import Values, decode, encode, replacement
from vanguard_client.typed import TypedDataSet

T = TypeVar("T")
R = TypeVar("R")

CREATE = "CREATE TABLE IF NOT EXISTS record (name TEXT, id TEXT, data TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID"
LIST = "SELECT id, data FROM record WHERE name = ? ORDER BY id"
SOME = "SELECT id, data FROM record WHERE name = ? ORDER BY id LIMIT 1"
READ = "SELECT data FROM record WHERE name = ? AND id = ?"
WRITE = "INSERT OR REPLACE INTO record (name, id, data) VALUES (?, ?, ?)"
DELETE = "DELETE FROM record WHERE name = ? AND id = ?"


class SqliteDataSet(TypedDataSet[T]):
    """Records in a SQLite file, under a name: one file can hold several data sets, and several processes can have it
    open. Each write is a transaction, so that a process that is killed leaves all of it or nothing.

    Open it with `async with`, or call `close()` in the end. The file is worked on in a thread of its own.
    """

    @overload
    def __init__(self: "SqliteDataSet[dict[str, Any]]", file: str | Path, name: str = "records") -> None: ...
    @overload
    def __init__(self, file: str | Path, name: str = "records", *, record: type[T]) -> None: ...
    def __init__(self, file: str | Path, name: str = "records", *, record: Any = dict) -> None:
        super().__init__(record)
        self.name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vanguard-sqlite")
        self._connection = self._thread.submit(_open, str(file)).result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the file, once what is under way is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def list_values(self) -> dict[str, Values]:
        """All rows by id."""
        return await self._ask(lambda db: {id: decode(data) for id, data in db.execute(LIST, (self.name,))})

    async def get_some_value(self) -> tuple[str, Values] | None:
        """The first one."""
        row = await self._ask(lambda db: db.execute(SOME, (self.name,)).fetchone())
        return None if row is None else (row[0], decode(row[1]))

    async def get_value(self, id: str) -> Values | None:
        """One row."""
        return await self._ask(lambda db: self._read(db, id))

    async def insert_value(self, id: str, values: Values) -> Values:
        """Insert, unless it is there."""
        return await self._change(id, lambda old: values if old is None else old)

    async def replace_value(self, id: str, values: Values) -> Values:
        """Write all of it."""
        return await self._change(id, lambda old: replacement(old, values))

    async def patch_value(self, id: str, partial: Values) -> Values:
        """Lay fields over it."""

        def lay(old: Values | None) -> Values:
            if old is None:
                raise RecordNotFound(id)
            return {**old, **partial}

        return await self._change(id, lay)

    async def delete(self, id: str) -> None:
        """Delete it, if it is there."""
        await self._ask(lambda db: db.execute(DELETE, (self.name, id)).rowcount)

    async def apply(self, puts: Mapping[str, Values], deletes: Iterable[str]) -> None:
        """Many writes in one transaction."""
        written = [(self.name, id, encode(values).decode()) for id, values in puts.items()]
        gone = [(self.name, id) for id in deletes]

        def change(db: sqlite3.Connection) -> None:
            db.executemany(DELETE, gone)
            db.executemany(WRITE, written)

        await self._run(change)

    def _read(self, db: sqlite3.Connection, id: str) -> Values | None:
        row = db.execute(READ, (self.name, id)).fetchone()
        values: Values | None = None if row is None else decode(row[0])
        return values

    async def _change(self, id: str, make: Callable[[Values | None], Values]) -> Values:
        """Read and write in one transaction."""

        def change(db: sqlite3.Connection) -> Values:
            text = encode(make(self._read(db, id))).decode()
            db.execute(WRITE, (self.name, id, text))
            values: Values = decode(text)
            return values

        return await self._run(change)

    async def _ask(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """One statement, which is a transaction of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._connection)

    async def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """In a transaction that begins by locking, so that what is read is what is written over."""

        def transact(db: sqlite3.Connection) -> R:
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise
            return result

        return await self._ask(transact)


def _open(file: str) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(CREATE)
    return connection
