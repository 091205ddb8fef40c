"""`vanguard serve` in a process of its own, with whom it knows, and the client that asks it."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from benchmarks.processes import family, held, peak, spent

ROOT = Path(__file__).parent.parent
SERVE = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
CLIENT = [sys.executable, "-m", "benchmarks.client"]
LONGEST_ANSWER = 64 * 1024 * 1024
PATIENCE = 30.0


class Unexpected(Exception):
    """The API did not answer as it should have."""


class Api:
    """The server's process and the client's, both started once and used by all figures over HTTP."""

    def __init__(self, server: asyncio.subprocess.Process, client: asyncio.subprocess.Process, port: int):
        self._server, self._client, self.port = server, client, port

    async def turns(self, *turns: Sequence[str], rounds: int, forwards: bool = False) -> list[float]:
        """The median seconds of each alternative on one connection, turn by turn, or always in order."""
        answer = await self._ask({"turns": turns, "rounds": rounds, "forwards": forwards}, 200)
        return [median(taken) for taken in answer["seconds"]]

    async def times(self, request: str, *, rounds: int) -> list[float]:
        """The seconds of each of so many requests, one after another on one connection."""
        answer = await self._ask({"turns": [[request]], "rounds": rounds, "forwards": True}, 200)
        return list(answer["seconds"][0])

    async def flood(self, request: str, *, connections: int, seconds: float, expect: int = 200) -> tuple[int, float]:
        """Requests that went through, and the seconds that they took."""
        answer = await self._ask({"request": request, "connections": connections, "for": seconds}, expect)
        return answer["requests"], answer["seconds"]

    async def exhaust(self, lists: Sequence[Sequence[str]]) -> float:
        """The seconds of all requests, each list on a connection of its own."""
        answer = await self._ask({"lists": lists}, 200)
        return float(answer["seconds"])

    async def _ask(self, job: Mapping[str, Any], expect: int) -> Any:
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(json.dumps({"port": self.port, **job}).encode() + b"\n")
        await self._client.stdin.drain()
        line = await self._client.stdout.readline()
        if not line:
            raise Unexpected("The client of the benchmarks ended: the API hung up on it, or did not answer.")
        answer = json.loads(line)
        if unexpected := set(answer["statuses"]) - {expect}:
            raise Unexpected(f"The API answered {sorted(unexpected)}.")
        return answer

    def processor_seconds(self) -> float | None:
        """What the API has used of the processors so far; None where the system does not tell."""
        try:
            return spent(self._server.pid)
        except OSError:
            return None

    def memory(self) -> int | None:
        """The bytes that the API's processes hold; None where the system is silent."""
        try:
            return sum(held(pid) for pid in family(self._server.pid))
        except OSError:
            return None

    def peak_memory(self) -> list[int] | None:
        """The bytes that each process of the API held at most, the largest first; None where the system is silent."""
        try:
            return sorted((peak(pid) for pid in family(self._server.pid)), reverse=True)
        except OSError:
            return None


def request(method: str, path: str, token: str, body: Any = None, **headers: str) -> str:
    """The text of a request."""
    content = "" if body is None else json.dumps(body, separators=(",", ":"))
    lines = [f"{method} {path} HTTP/1.1", "Host: vanguard", f"Authorization: Bearer {token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content.encode())}"]
    return "\r\n".join([*lines, "", content])


def get(path: str, token: str, params: Iterable[tuple[str, str]] = (), **headers: str) -> str:
    """The text of a GET."""
    return request("GET", f"{path}?{urlencode(list(params))}", token, **headers)


@asynccontextmanager
async def serving(url: str, secret: str, **more: str) -> AsyncIterator[Api]:
    """The API over the database, with the settings that it has when nobody says otherwise, but for `more`."""
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_") and name != "DATABASE_URL"
    }
    settings = {"VANGUARD_DATABASE_URL": url, "VANGUARD_SECRET": secret, "VANGUARD_PORT": str(port), **more}
    quiet = asyncio.subprocess.DEVNULL
    server = await asyncio.create_subprocess_exec(
        *SERVE, cwd=ROOT, env=environment | settings, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    client = None
    try:
        client = await asyncio.create_subprocess_exec(
            *CLIENT, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_ANSWER
        )
        await _until_ready(server, port)
        yield Api(server, client, port)
    finally:
        for process in (client, server):
            if process is not None:
                await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until_ready(server: asyncio.subprocess.Process, port: int) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while server.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.write(b"GET /health/ready HTTP/1.1\r\nHost: vanguard\r\nConnection: close\r\n\r\n")
        head = await reader.readline()
        writer.close()
        if b" 200 " in head:
            return
        await asyncio.sleep(0.05)
    raise Unexpected("`vanguard serve` does not answer. Run it by hand on a database to see why.")


def free_port() -> int:
    """One that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
