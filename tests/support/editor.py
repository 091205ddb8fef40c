"""Somebody at another machine: a program with a live table of its own that does what it is told, line by line.

`python -m tests.support.editor URL TOKEN DATASET [FILE]`, FILE being the cache's.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.children import child, kill
from vanguard_client import Backoff, LiveTable, MemoryDataSet, RestDataSet, SqliteDataSet, Vanguard
from vanguard_client.records import decode, encode

CLIENT = Path(__file__).parents[2] / "clients/python"


class Editor:
    """The other side of a program's pipes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    async def __call__(self, *command: Any) -> Any:
        """Have it do something, and what came of it."""
        assert self._process.stdout is not None
        self.send(*command)
        async with asyncio.timeout(60):
            return decode((await asyncio.to_thread(self._process.stdout.readline)).encode())

    def send(self, *command: Any) -> None:
        """The same without waiting for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(encode(command).decode() + "\n")
        self._process.stdin.flush()

    async def kill(self) -> None:
        """SIGKILL."""
        kill(self._process)
        await asyncio.to_thread(self._process.wait, 60)


@asynccontextmanager
async def editing(url: str, token: str, dataset: str, file: Path | None = None) -> AsyncIterator[Editor]:
    """Such a program, whose table is open."""
    command = [sys.executable, "-m", "tests.support.editor", url, token, dataset, *([str(file)] if file else [])]
    environment = os.environ | {"PYTHONPATH": str(CLIENT)}
    with child(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        editor = Editor(process)
        assert await editor("ready") == "ready"
        yield editor


class Program:
    """What the commands do."""

    def __init__(self, table: LiveTable[dict[str, Any]]) -> None:
        self.table = table
        self.edit: Any = None
        self.remote: list[str] = []
        table.on_remote_change(self.remote.append)

    async def do(self, what: str, *more: Any) -> Any:
        """Do it, and say what came of it."""
        table, edit = self.table, self.edit
        match what, more:
            case "ready", _:
                return "ready"
            case "edit", (id,):
                self.edit = await table.edit_record(id)
                return self.edit.local
            case "set", (field, value):
                edit[field] = value
            case "save", _:
                return await edit.save(*more)
            case "refresh", _:
                return await edit.refresh_snapshot()
            case "revert", _:
                edit.revert()
            case "local", _:
                return edit.local
            case "get", (id,):
                return await table.get(id)
            case "reached", (position,):
                await table.reached(position)
            case "remote", _:
                return self.remote
            case "pairs", (ids,):
                return await self.write_pairs(ids)
        return None

    async def write_pairs(self, ids: list[str]) -> None:
        """Write two fields of each row, always the same number into both, until somebody ends it."""
        for number in count(1):
            for id in ids:
                await self.table.patch(id, {"seats": number % 200, "mileage": number % 200})
            await self.table.flush()


async def run(url: str, token: str, dataset: str, file: str | None = None) -> None:
    """Do what the lines of the standard input say."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Vanguard(url, lambda: token, backoff=Backoff(base=0.05, cap=0.5)))
        cache = MemoryDataSet() if file is None else await stack.enter_async_context(SqliteDataSet(file))
        table = await stack.enter_async_context(LiveTable(RestDataSet(server, "acme", dataset), cache))
        program = Program(table)
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            print(encode(await program.do(*decode(line))).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
