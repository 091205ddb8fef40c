"""An adapter over a simulated PEMS or over a server of a few lines, and what both hold."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from app.contracts import PFA
from app.dev.seed import pfa_lines
from app.simulator import Simulator
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import MAPPING, Auth, PemsConfig
from app.upstream.protocol import Page, Upstream, Write

PASSWORD = "pems-simulator"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST = "PFA-0000001"
DERIVED = {field.name for field in PFA.fields if field.derived_from}


def lines(code: str, rows: int) -> list[str]:
    return [text for _, text in islice(pfa_lines(code.lower(), 1), rows)]


def simulator(**sizes: int) -> Simulator:
    return Simulator({code: lines(code, rows) for code, rows in sizes.items()}, clock=lambda: NOW)


def config(url: str, **members: Any) -> PemsConfig:
    given: dict[str, Any] = {
        "tenant": "SIM",
        "role": "PLANNER",
        "organizations": ("RIO",),
        "auth": Auth(user="pems", password_env="PEMS_TEST_PASSWORD"),
        "requests_per_second": 0,
        "page_size": 10,
        "timeout": 60,
    }
    return PemsConfig(url=url, **(given | members))


@asynccontextmanager
async def connected(url: str, *, folder: Path = Path(), **members: Any) -> AsyncIterator[Pems]:
    """An adapter with the simulator's password, unless `members` of its configuration say another one."""
    with patch.dict(os.environ, {"PEMS_TEST_PASSWORD": PASSWORD}):
        pems = Pems(PFA, config(url, **members), folder=folder, clock=lambda: NOW)
        try:
            yield pems
        finally:
            await pems.close()


async def pull(pems: Upstream, *, since: datetime | None = None, most: int = 1000) -> list[Page]:
    """Every page, as a worker asks for them."""
    pages = [await pems.page(since=since, cursor=None)]
    while pages[-1].cursor is not None:
        assert len(pages) < most, "it does not end"
        pages.append(await pems.page(since=since, cursor=pages[-1].cursor))
    return pages


def documents(pages: list[Page]) -> dict[str, dict[str, Any]]:
    return {row.key: row.document for page in pages for row in page.rows}


def known(sim: Simulator, *codes: str) -> dict[str, dict[str, Any]]:
    """What the simulator holds, without what is derived."""
    held = [document for code in codes for document, _ in sim.records(code)]
    return {line["pfaId"]: {name: line[name] for name in line.keys() - DERIVED} for line in held}


def keys(sim: Simulator, code: str) -> list[str]:
    return list(known(sim, code))


async def update(pems: Pems, key: str, **fields: Any) -> None:
    await pems.write(Write(op="update", key=key, fields=fields), await pems.hold(key))


# --- a server of a few lines


class Script:
    """A server that says what it is told to, and keeps what it was asked: headers in lower case, and the body."""

    def __init__(self, answer: Callable[[Any], bytes]):
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readline():
            headers = {}
            while (line := await reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.asked.append((head.decode().split()[1], headers, body))
            writer.write(self.answer(body))
            await writer.drain()
        writer.close()


@asynccontextmanager
async def scripted(answer: Callable[[Any], bytes]) -> AsyncIterator[Script]:
    script = Script(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()


def said(body: Any, status: str = "200 OK", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode() + content


def grid_answer(ids: list[str], first: int, asked: Any, **metadata: Any) -> bytes:
    aliases = [alias.read for alias in MAPPING.values()]
    rows = []
    for key in ids:
        line = dict.fromkeys(aliases, "") | {"pfs_id": key, "pfs_a_org": "RIO"}
        rows.append({"D": [{"n": number, "value": value} for number, value in enumerate(line.values(), first)]})
    grid: dict[str, Any] = {"METADATA": metadata, "DATA": {"ROW": rows}}
    if asked["REQUEST_TYPE"] == "LIST.HEAD_DATA.STORED":
        fields = [{"aliasnum": number, "name": alias} for number, alias in enumerate(aliases, first)]
        grid["FIELDS"] = {"FIELD": fields}
    return said({"Result": {"ResultData": {"GRID": grid}}})


def listing(ids: list[str], *, first: int = 1, **metadata: Any) -> Callable[[Any], bytes]:
    """A grid of these lines, whose columns are numbered from `first`."""

    def answer(asked: Any) -> bytes:
        start, size = asked["GRID"]["CURSOR_POSITION"] - 1, asked["GRID"]["NUMBER_OF_ROWS_FIRST_RETURNED"]
        return grid_answer(ids[start : start + size], first, asked, **metadata)

    return answer
