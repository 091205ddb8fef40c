"""Exports: rows a second over HTTP against COPY, the first byte, and what the server's process holds meanwhile."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from statistics import median
from typing import NamedTuple

from app.base.statements import statement
from app.contracts import PFA
from app.contracts.filters import read_listing
from app.engine.export import ExportComposer
from benchmarks.api import get
from benchmarks.client import CHUNK, HOST
from benchmarks.data import ORGANIZATION, PATH, SORTED, Bench
from benchmarks.figures import Figure, at_least, at_most, plain

BEGIN = statement("exports/begin")
WHO = "somebody"
END = b"\r\n0\r\n\r\n"
MEGABYTE = 2**20

MISSED_COPY = """\
PostgreSQL writes a line of each row, the server passes lines on, a client takes them. On few cores these three take
turns, where COPY has PostgreSQL alone at work."""
MISSED_XLSX = """\
Every cell is an element of XML, and all of it is packed. Half of the time goes into these elements, which Python
writes."""


class Sent(NamedTuple):
    """A file that came: after so many seconds, after how many its first byte, and what the server grew by meanwhile."""

    seconds: float
    first: float
    grown: int


async def exports(bench: Bench) -> AsyncIterator[Figure]:
    """The whole view of a person with 500 drafts, by id, in turns with COPY of the same rows."""
    place, rows = bench.big, bench.big.rows
    csv, copied = [], []
    await _sent(bench, "csv")
    for _ in range(1 if bench.quick else 3):
        csv.append(await _sent(bench, "csv"))
        copied.append(await _copied(bench))
    sorted_by = [await _sent(bench, "csv", *SORTED, whole=False) for _ in range(3)]
    ndjson, xlsx = await _sent(bench, "ndjson"), await _sent(bench, "xlsx")
    drafts = f"{rows:,} rows, {place.people[WHO].drafts} of them drafted"
    rate, floor = rows / median(each.seconds for each in csv), rows / median(copied)
    yield plain(f"export as CSV over HTTP, {drafts}", rate, "rows/s")
    yield plain("COPY of the same rows as CSV", floor, "rows/s")
    yield at_least("export as CSV against COPY of the same rows", rate / floor, 0.5, missed=MISSED_COPY)
    yield at_most("first byte of an export by id", median(each.first for each in csv), 0.5, "s")
    yield at_most("first byte of an export by a hot sort", median(each.first for each in sorted_by), 0.5, "s")
    yield plain("export as NDJSON over HTTP", rows / ndjson.seconds, "rows/s")
    yield plain("export as XLSX over HTTP", rows / xlsx.seconds, "rows/s")
    yield at_least("export as XLSX against CSV", rows / xlsx.seconds / rate, 0.1, missed=MISSED_XLSX)
    grown = max(each.grown for each in (*csv, ndjson, xlsx))
    yield at_most("growth of the API's processes during an export", grown / MEGABYTE, 50, "MB")


async def _sent(bench: Bench, ending: str, *more: tuple[str, str], whole: bool = True) -> Sent:
    request = get(f"{PATH}/export", bench.big.people[WHO].token, [("format", ending), *more], Connection="close")
    return await asyncio.to_thread(_download, bench, request.encode(), whole)


def _download(bench: Bench, request: bytes, whole: bool) -> Sent:
    before = most = bench.api.memory() or 0
    started = time.perf_counter()
    with socket.create_connection((HOST, bench.api.port), timeout=600) as wire:
        wire.sendall(request)
        part = last = wire.recv(CHUNK)
        first = time.perf_counter() - started
        assert part.startswith(b"HTTP/1.1 200"), part[:200]
        received = 0
        while whole and (part := wire.recv(CHUNK)):
            last = (last + part)[-len(END) :]
            received += len(part)
            if received > 32 * MEGABYTE:
                received, most = 0, max(most, bench.api.memory() or 0)
    assert not whole or last.endswith(END), "the file broke off"
    return Sent(time.perf_counter() - started, first, max(most, bench.api.memory() or 0) - before)


async def _copied(bench: Bench) -> float:
    """The seconds of COPY: the same rows and cells in the same order, as they are."""
    place = bench.big
    rows = ExportComposer(PFA, read_listing(PFA, []), ORGANIZATION, place.people[WHO].id).rows("composite")
    cells = f"SELECT v.*{rows.text.partition(' AS line')[2]}".rstrip().rstrip(";")

    async def sink(part: bytes) -> None:
        pass

    async with place.database.transaction() as connection:
        await connection.row(BEGIN, seconds=600.0, walk=True)
        started = time.perf_counter()
        await connection.raw.copy_from_query(cells, *rows.arguments, output=sink, format="csv")
        return time.perf_counter() - started
