"""Datasets of an organization's own: ingestion against COPY, a page against the built-in one's, and many of them."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import asyncpg
import msgspec

from app import accounts
from app.base.clock import now
from app.base.database import Database
from app.base.settings import Settings
from app.contracts import BUILT_IN, Contract
from app.migrate import migrate
from app.web.auth import Auth, Role
from app.worker.ingestion import ingest
from app.worker.loop import Worker, database_clock
from app.worker.upkeep import Retention, refresh_own_kpis
from benchmarks.api import Api, get, serving
from benchmarks.bench_http import MEGABYTE
from benchmarks.client import Wire
from benchmarks.data import ORGANIZATION, PATH, SECRET, Bench, Unavailable
from benchmarks.figures import Figure, at_least, at_most, plain
from benchmarks.own import FLAT, NAME, PLACES, records, take_records, use
from benchmarks.processes import anonymous
from benchmarks.timing import clocked, interleaved
from benchmarks.upstream import Mirror, new_mirror, settings_of

RECORDS, QUICK_RECORDS = 300_000, 2_000
PART = 1_000  # records that COPY is given at once
MANY, FEW, QUICK_MANY = 500, 5, 20
OWN = f"/api/v1/orgs/{ORGANIZATION}/datasets"
PAGE = [("sort", "orderedOn"), ("count", "none"), ("pageSize", "100")]
PFA_PAGE = [("sort", "forecastStart"), ("count", "none"), ("pageSize", "100")]
LONG = timedelta(days=30)
KEPT = Retention(changes=LONG, history=LONG, audit=LONG, feed=LONG, runs=LONG, sessions=LONG, requests=LONG)

MISSED_MEMORY = """\
PostgreSQL keeps what it has read of a relation for as long as a connection lives. Ours ends after fifty datasets, so
that what it holds has a bound, whatever their number. A lower one would keep this bound, and plan every page anew where
twenty datasets are used by turns; docs/decisions.md has the figures."""

COPIED = """
CREATE SCHEMA bench;
DO $$
BEGIN
    EXECUTE (SELECT string_agg(format('CREATE TABLE bench.%I (LIKE {schema}.%I INCLUDING ALL) WITH (%s)', c.relname,
                                      c.relname, coalesce(array_to_string(c.reloptions, ', '), 'fillfactor=100')), ';')
               FROM pg_class AS c
              WHERE c.oid IN ('{schema}.mirror'::regclass, '{schema}.history'::regclass));
END
$$;
"""
SAME = """
SELECT (SELECT count(*) FROM {schema}.mirror AS m JOIN bench.mirror AS c USING (organization_id, row_key, data)
         WHERE m.event_at = c.event_at),
       (SELECT count(*) FROM {schema}.history AS m
          JOIN bench.history AS c USING (organization_id, row_key, op, after, a_place, a_state, a_amount))
"""
MIRROR = ("organization_id", "row_key", "data", "revision", "updated_at", "event_at", "processed_at")
HISTORY = ("organization_id", "revision", "row_key", "op", "after", "source", "at", "a_place", "a_state", "a_amount")
BACKENDS = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'vanguard' AND backend_type = 'client backend'
"""
BEHIND = "SELECT count(*) FROM public.dataset WHERE schema_name IS NOT NULL AND revision > kpi_revision"


class Ground(NamedTuple):
    """A database of the group's own, its people, and how own datasets are made in it."""

    mirror: Mirror
    database: Database
    settings: Settings
    user: str
    token: str


@asynccontextmanager
async def ground_of(bench: Bench, lines: int = 0) -> AsyncIterator[Ground]:
    async with new_mirror(bench.small.url, lines) as mirror:
        settings = msgspec.structs.replace(settings_of(mirror.url), max_datasets=1_000, max_dataset_fields=100_000)
        database = Database(settings)
        await database.open()
        try:
            account = await accounts.add_account(
                database, email="owner@bench.example", name="owner", password=None, roles={ORGANIZATION: Role.ADMIN}
            )
            await take_records(mirror.owner)
            token = Auth(settings, database, now).issue(account, ttl=24 * 3600)
            yield Ground(mirror, database, settings, account.id, token)
        finally:
            await database.close()


async def datasets(bench: Bench) -> AsyncIterator[Figure]:
    """All of it on databases and APIs of its own."""
    for part in (ingestion, many):
        async for figure in part(bench):
            yield figure


# -- ingestion, and a page of what came of it --------------------------------------------------------------------------


async def ingestion(bench: Bench) -> AsyncIterator[Figure]:
    """An upload over HTTP and the worker's run over it, between the halves of a COPY of the same; then pages."""
    count = QUICK_RECORDS if bench.quick else RECORDS
    async with ground_of(bench, count) as ground, serving(ground.mirror.url, SECRET) as api:
        contract = await use(ground.database, ground.settings, ground.user)
        owner, at = ground.mirror.owner, now()
        await owner.execute(COPIED.format(schema=contract.schema))
        lines = list(records(count))
        copied = await _copy(owner, lines[: count // 2], at)
        body = b"\n".join(lines)
        started = time.perf_counter()
        run = await asyncio.to_thread(_upload, api.port, ground.token, body)
        received = time.perf_counter() - started
        started = time.perf_counter()
        assert await ingest(ground.database, ORGANIZATION, contract, database_clock, asyncio.Event())
        taken = time.perf_counter() - started
        copied += await _copy(owner, lines[count // 2 :], at)
        ended = await owner.fetchrow("SELECT state, inserted FROM public.sync_run WHERE id = $1", run)
        assert ended is not None
        assert tuple(ended) == ("succeeded", count)
        assert tuple(await owner.fetchrow(SAME.format(schema=contract.schema)) or ()) == (count, count), (
            "both are equal"
        )
        yield plain(f"rows a second of ingesting {count:,} records that were received", count / taken, "1/s")
        yield plain("rows a second of all the way, from the upload of NDJSON on", count / (received + taken), "1/s")
        yield plain("rows a second of COPY into an equal mirror and an equal history", count / copied, "1/s")
        name = "ingesting against COPY into an equal mirror and history, with the same indexes and generated columns"
        yield at_least(name, copied / taken, 0.5)
        yield plain("all the way from the upload against COPY", copied / (received + taken), "x")
        async for figure in _pages(bench, ground, api, count):
            yield figure


async def _copy(owner: "asyncpg.Connection[Any]", lines: Sequence[bytes], at: datetime) -> float:
    """The seconds of COPY into the mirror and the history, of texts that were made before."""
    seconds = 0.0
    for table, columns, row in (("mirror", MIRROR, _mirror_row), ("history", HISTORY, _history_row)):
        parts = [b"".join(row(line, at) for line in some) for some in _parts(lines)]
        started = time.perf_counter()
        await owner.copy_to_table(table, schema_name="bench", columns=columns, source=_streamed(parts))
        seconds += time.perf_counter() - started
    return seconds


def _parts(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    rest = iter(lines)
    while some := list(islice(rest, PART)):
        yield some


async def _streamed(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _mirror_row(line: bytes, at: datetime) -> bytes:
    seen, received = _member(line, b'"seenAt":"', b'"'), at.isoformat().encode()
    return b"\t".join((ORGANIZATION.encode(), _key(line), line, b"1", received, seen, received)) + b"\n"


def _history_row(line: bytes, at: datetime) -> bytes:
    place, state = _member(line, b'"place":"', b'"'), _member(line, b'"state":"', b'"')
    head = (ORGANIZATION.encode(), b"1", _key(line), b"insert", line, b"ingest", at.isoformat().encode())
    return b"\t".join((*head, place, state, _member(line, b'"amount":', b","))) + b"\n"


def _key(line: bytes) -> bytes:
    return _member(line, b'"shipmentId":"', b'"')


def _member(line: bytes, before: bytes, behind: bytes) -> bytes:
    return line.partition(before)[2].partition(behind)[0]


def _upload(port: int, token: str, body: bytes) -> uuid.UUID:
    """Send records as NDJSON; the run that the worker is to do."""
    wire = Wire(port)
    head = (
        f"POST {OWN}/{NAME}/ingest HTTP/1.1\r\nHost: vanguard\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/x-ndjson\r\nIdempotency-Key: {uuid.uuid4()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = wire.fetch(head.encode() + body)
    assert wire.status == 202, answer
    wire.socket.close()
    return uuid.UUID(answer.partition(b'"runId":"')[2].partition(b'"')[0].decode())


async def _pages(bench: Bench, ground: Ground, api: Api, rows: int) -> AsyncIterator[Figure]:
    await ground.mirror.owner.execute("VACUUM (ANALYZE)")
    own = get(f"{OWN}/{NAME}/rows", ground.token, PAGE)
    filtered = get(f"{OWN}/{NAME}/rows", ground.token, [("place", PLACES[0]), *PAGE])
    pfa = get(f"{PATH}/rows", ground.token, PFA_PAGE)
    await api.turns([own], [filtered], [pfa], rounds=10)
    own_page, filtered_page, pfa_page = await api.turns([own], [filtered], [pfa], rounds=bench.rounds(400))
    yield plain(f"a page of 100 of the own dataset over HTTP, {rows:,} rows", own_page * 1000, "ms")
    yield plain(f"a page of 100 of PFA over HTTP, {rows:,} rows", pfa_page * 1000, "ms")
    yield at_most("a page of the own dataset against one of PFA of the same size", own_page / pfa_page, 1.2)
    yield plain("a page of the own dataset under a filter against one of PFA", filtered_page / pfa_page, "x")


# -- many --------------------------------------------------------------------------------------------------------------


class Server(NamedTuple):
    """A database with so many own datasets, the API and the worker over it."""

    ground: Ground
    api: Api
    worker: Worker
    contracts: Sequence[Contract]


@asynccontextmanager
async def _server(bench: Bench, count: int) -> AsyncIterator[Server]:
    async with ground_of(bench) as ground, serving(ground.mirror.url, SECRET) as api:
        contracts = []
        for number in range(count):
            document = FLAT | {"name": f"own{number}"}
            contracts.append(await use(ground.database, ground.settings, ground.user, document))
        await ground.mirror.owner.execute("VACUUM (ANALYZE)")
        worker = Worker(ground.database, [], BUILT_IN, KEPT)
        yield Server(ground, api, worker, contracts)


async def many(bench: Bench) -> AsyncIterator[Figure]:
    """A server with many own datasets, each of them empty, against one with a few: what does not grow with rows."""
    count = QUICK_MANY if bench.quick else MANY
    async with _server(bench, FEW) as few, _server(bench, count) as large:
        against = f"{count} datasets against {FEW}"
        for server in (few, large):
            await _settle(server)
        steps = [clocked(server.worker.step) for server in (few, large)]
        small, big = await interleaved(*steps, rounds=bench.rounds(200))
        yield plain(f"a worker's idle step, {count} datasets", big * 1000, "ms")
        yield at_most(f"a worker's idle step, {against}", big / small, 1.5)
        small, big = await interleaved(*(_migrating(server) for server in (few, large)), rounds=bench.rounds(20))
        yield plain(f"vanguard migrate with nothing to do, {count} datasets", big * 1000, "ms")
        yield at_most(f"vanguard migrate with nothing to do, {against}", big / small, 1.5)
        small, big = await interleaved(*(_refreshing(server) for server in (few, large)), rounds=bench.rounds(100))
        yield plain(f"a KPI refresh of one empty dataset, {count} datasets", big * 1000, "ms")
        yield at_most(f"a KPI refresh of one dataset, {against}", big / small, 1.5)
        small, big = [await _memory(server) for server in (few, large)]
        yield plain(f"most memory of a connection while it served each of {FEW} datasets", small / MEGABYTE, "MB")
        yield plain(f"most memory of a connection while they served each of {count} datasets", big / MEGABYTE, "MB")
        yield at_most(f"most memory of a connection, {against}", big / small, 1.5, missed=MISSED_MEMORY)


async def _settle(server: Server) -> None:
    """Let the worker do what is due, KPIs of each dataset once, until it has nothing to do."""
    while await server.ground.mirror.owner.fetchval(BEHIND):
        await server.worker.step()
        await server.worker.idle()
    await server.worker.step()
    await server.worker.idle()


def _migrating(server: Server) -> Any:
    async def run() -> float:
        started = time.perf_counter()
        await asyncio.to_thread(migrate, server.ground.mirror.url)
        return time.perf_counter() - started

    return run


def _refreshing(server: Server) -> Any:
    contract = server.contracts[-1]
    return clocked(lambda: refresh_own_kpis(server.ground.database, ORGANIZATION, contract))


async def _memory(server: Server) -> int:
    """The most that a backend of the API held by itself, while every dataset was looked at as a grid does."""
    token, most = server.ground.token, 0
    for contract in server.contracts:
        path = f"{OWN}/{contract.name}"
        asked = [
            get(f"{path}/rows", token, PAGE),
            get(f"{path}/rows", token, [("place", PLACES[0]), *PAGE]),
            get(f"{path}/rows", token, [("sort", "amount"), ("search", "x"), ("count", "exact")]),
            get(path, token),
            get(f"{path}/kpis", token),
            get(f"{path}/drafts", token),
        ]
        await server.api.turns(asked, rounds=1)
        for row in await server.ground.mirror.owner.fetch(BACKENDS):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                most = max(most, anonymous(row["pid"]))
    if not most:
        raise Unavailable("This system does not tell what a process holds.")
    return most
