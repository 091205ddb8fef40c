"""The shipped proxy as a process, in front of whatever listens at a port; and clients as bare connections."""

import asyncio
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.children import child

CONF = Path(__file__).resolve().parents[2] / "proxy" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
LIMIT = 20.0  # seconds that anything may take that happens at once on an idle machine

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class Proxy(NamedTuple):
    """A running proxy."""

    port: int
    directory: Path

    def log(self) -> list[dict[str, Any]]:
        """What it said of requests that did not get through."""
        return [json.loads(line) for line in (self.directory / "stdout").read_text().splitlines()]

    async def said_of(self, status: int) -> dict[str, Any]:
        """Its line for the first refusal with the status; it comes when the connection ends."""
        async with asyncio.timeout(LIMIT):
            while True:
                if found := [line for line in self.log() if line["status"] == status]:
                    return found[0]
                await asyncio.sleep(0.02)


class Answer(NamedTuple):
    """What came of a connection until it ended, or until the head and body of one answer were there."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def problem(self) -> Any:
        """The refusal; fails where it is none of ours."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        told = json.loads(self.body)
        assert told.keys() == {"type", "title", "status", "detail", "instance", "code", "requestId"}
        assert told["type"] == f"urn:vanguard:error:{told['code']}"
        assert told["status"] == self.status
        assert told["requestId"] == self.headers["X-Request-ID"]
        assert ("Retry-After" in self.headers) == (self.status in (429, 503, 504))
        return told


def conf_with(changes: Mapping[str, str]) -> str:
    """The shipped configuration with other words in some places; each has to stand in it once."""
    text = CONF.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextmanager
def proxied(
    upstream: int, directory: Path, words: Mapping[str, str] = MappingProxyType({}), **changes: str
) -> Iterator[Proxy]:
    """The proxy in front of the port, as it is shipped but for addresses, and for `changes` of directives' values.

    `words` stand in place of others.
    """
    assert NGINX is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    places = "".join(
        f"    {kind}_temp_path {directory / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )  # fmt: skip
    own = {
        "server api:8000;": f"server 127.0.0.1:{upstream};",
        "listen 8000 ": f"listen 127.0.0.1:{port} ",
        "\nhttp {\n": f"\nhttp {{\n{places}",
        "/dev/stdout": str(directory / "stdout"),
    }
    values = {_directive(name): f"\n{name} {value};" for name, value in changes.items()}
    (directory / "nginx.conf").write_text(conf_with({**own, **values, **words}))
    # Its processes are whoever runs the tests: nobody else may enter the directory.
    options = f"daemon off; user root; pid {directory / 'pid'};"
    command = (NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-g", options)
    with (directory / "stderr").open("w") as said, child(*command, stdout=said, stderr=said) as process:
        until = time.monotonic() + LIMIT
        while True:
            assert process.poll() is None, (directory / "stderr").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until
                time.sleep(0.02)
        yield Proxy(port, directory)


def _directive(name: str) -> str:
    """`name value;` where it stands first in the configuration, with the beginning of its line."""
    found = re.search(rf"\n *{name} [^;]*;", CONF.read_text())
    assert found is not None, name
    return found[0]


class Line:
    """A connection that says and hears bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    async def say(self, words: bytes) -> None:
        """Send it; nothing where the other side has closed."""
        with suppress(ConnectionError):
            self._writer.write(words)
            await self._writer.drain()

    async def hear(self) -> Answer | None:
        """One answer; None where the connection ends without one."""
        async with asyncio.timeout(LIMIT):
            try:
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                parts = [line.partition(":") for line in head[1:-2]]
                headers = httpx.Headers([(name, value.strip()) for name, _, value in parts])
                body = await self._reader.readexactly(int(headers.get("Content-Length", 0)))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        return Answer(int(head[0].split()[1]), headers, body)

    async def some(self) -> bytes:
        """The next bytes; none where the connection has ended."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self._reader.read(65536)
            except ConnectionError:
                return b""

    async def ended(self) -> None:
        """Return once the other side has closed; whatever it says until then is lost."""
        while await self.some():
            pass

    def close(self) -> None:
        """End it."""
        self._writer.transport.abort()


async def dial(port: int, source: str = "127.0.0.1") -> Line:
    """A connection from an address of this machine."""
    async with asyncio.timeout(LIMIT):
        return Line(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))


async def ask(port: int, request: bytes, source: str = "127.0.0.1") -> Answer | None:
    """What is answered to the bytes."""
    line = await dial(port, source)
    try:
        await line.say(request)
        return await line.hear()
    finally:
        line.close()


@contextmanager
def lines_closed(lines: list[Line]) -> Iterator[list[Line]]:
    """All of them end with the block, also those that are added in it."""
    try:
        yield lines
    finally:
        for line in lines:
            line.close()
