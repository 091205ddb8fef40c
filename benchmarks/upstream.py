"""`vanguard pems-sim` in a process of its own, databases that pull from it, and `vanguard worker`."""

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from app import organizations
from app.base.database import Database
from app.base.settings import Settings
from app.contracts import PFA
from app.dev import seed
from app.migrate import migrate
from app.worker.loop import CONNECT, database_clock
from app.worker.pull import pull
from app.worker.start import read_targets
from app.worker.target import Target
from benchmarks.api import PATIENCE, ROOT, Unexpected, end
from benchmarks.data import ORGANIZATION, SECRET, scratch_database

VANGUARD = [sys.executable, "-c", "from app.cli import main; main()"]
CODE = ORGANIZATION.upper()  # what PEMS calls it: the lines of `vanguard seed` say so
NUMBER = 1  # of the seed: the same lines as benchmarks.data makes
USER = "pems"
LANES = 4  # edits of the simulator's lines at the same time
LOADING = 10_000  # lines that the simulator makes in a second, at least

RUN = "SELECT * FROM sync_run WHERE organization_id = $1 AND kind = $2 ORDER BY started_at DESC LIMIT 1"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Simulator:
    """The simulator's process and its address."""

    def __init__(self, process: Process, url: str):
        self.process, self.url = process, url

    async def documents(self) -> list[tuple[str, str]]:
        """Key and JSON text of every line, as a mirror holds it."""
        reader = msgspec.json.Decoder(_Kept)
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=300) as client:
            answer = await client.get("/sim/records", params={"org": CODE})
        answer.raise_for_status()
        texts = [reader.decode(line).document for line in answer.content.splitlines()]
        return [(msgspec.json.decode(text, type=_Named).pfa_id, bytes(text).decode()) for text in texts]

    async def change(self, numbers: Sequence[int], price: int) -> None:
        """Somebody gives these lines another price, counted from 1."""
        await asyncio.gather(*(self._change(numbers[lane::LANES], price) for lane in range(LANES)))

    async def _change(self, numbers: Sequence[int], price: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=60) as client:
            for number in numbers:
                named = {"org": CODE, "id": f"PFA-{number:07d}"}
                answer = await client.patch("/sim/records", params=named, content=b'{"purchasePrice":%d}' % price)
                answer.raise_for_status()

    async def requests(self) -> dict[str, int]:
        """How often it was asked for what: `grid`, or the screen's action."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=60) as client:
            return dict((await client.get("/sim/log")).json()["requests"])


class _Kept(msgspec.Struct):
    document: msgspec.Raw


class _Named(msgspec.Struct, rename="camel"):
    pfa_id: str


@asynccontextmanager
async def simulating(lines: int, *options: str) -> AsyncIterator[Simulator]:
    """A simulator of the first so many lines, without limits; more `options` of the command."""
    process = await create_subprocess_exec(
        *VANGUARD, "pems-sim", "--port", "0", "--org", f"{CODE}={lines}:{NUMBER}", *options,
        cwd=ROOT, env=_environment() | {"VANGUARD_PEMS_SIM_USER": USER, "VANGUARD_PEMS_SIM_PASSWORD": SECRET},
        stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE + lines / LOADING):
            told = re.search(r"http://\S+?:\d+", (await process.stdout.readline()).decode())
        if told is None:
            raise Unexpected("`vanguard pems-sim` does not start. Run it by hand to see why.")
        yield Simulator(process, told[0])
    finally:
        await end(process)


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_") and name != "DATABASE_URL"
    }


@contextmanager
def upstreams(simulator: Simulator, **more: Any) -> Iterator[Path]:
    """The file of upstreams that names the simulator, for the organization; `more` of its members."""
    with tempfile.TemporaryDirectory(prefix="vanguard-bench-") as folder:
        Path(folder, "password").write_text(SECRET, encoding="utf-8")
        entry = {
            "organization": ORGANIZATION, "dataset": PFA.name, "kind": PFA.upstream, "url": simulator.url,
            "tenant": "BENCH", "role": "BENCH", "organizations": [CODE], "requestsPerSecond": 0,
            "auth": {"user": USER, "passwordFile": "password"}, "changeShare": 1,
        }  # fmt: skip
        file = Path(folder, "upstreams.json")
        file.write_text(json.dumps({"upstreams": [entry | more]}), encoding="utf-8")
        yield file


class Mirror:
    """A database with one organization, whose lines come from the simulator."""

    def __init__(self, url: str, owner: "asyncpg.Connection[Any]"):
        self.url, self.owner = url, owner

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Connections of the application. What they did stands in the table's statistics when they are gone."""
        database = Database(settings_of(self.url))
        await database.open()
        try:
            yield database
        finally:
            await database.close()
        await self._left_alone()

    async def _left_alone(self) -> None:
        """Wait until nobody else is connected."""
        for _ in range(3000):
            if not await self.owner.fetchval(OTHERS):
                return
            await asyncio.sleep(0.01)
        raise Unexpected("Somebody stays connected to the database of the benchmarks.")

    async def pull(self, target: Target) -> tuple[float, Mapping[str, Any]]:
        """Pull once; the seconds, and the run's record."""
        async with self.database() as database:
            started = time.perf_counter()
            assert await pull(database, target, database_clock, asyncio.Event()), "nobody else pulls here"
            seconds = time.perf_counter() - started
        run = await self.run("pull")
        assert run is not None
        assert run["state"] == "succeeded", run["error"]
        return seconds, run

    async def run(self, kind: str) -> Mapping[str, Any] | None:
        """The record of the last run."""
        return await last_run(self.owner, kind)


async def last_run(owner: "asyncpg.Connection[Any]", kind: str) -> Mapping[str, Any] | None:
    """The record of the organization's last run."""
    found: Mapping[str, Any] | None = await owner.fetchrow(RUN, ORGANIZATION, kind)
    return found


def settings_of(url: str, file: Path | None = None) -> Settings:
    """The settings of a worker there."""
    return Settings(
        database_url=url, secret=SECRET, statement_timeout=600, slow_statement_ms=600_000,
        upstreams=None if file is None else str(file),
    )  # fmt: skip


@asynccontextmanager
async def new_mirror(origin: str, lines: int = 0) -> AsyncIterator[Mirror]:
    """A new database on the same server, with so many seeded lines; dropped afterwards."""
    with scratch_database(origin) as url:
        migrate(url)
        owner = await asyncpg.connect(url, server_settings={"application_name": "vanguard bench"})
        try:
            mirror = Mirror(url, owner)
            async with mirror.database() as database:
                await organizations.add_organization(database, ORGANIZATION, ORGANIZATION)
            if lines:
                await seed.seed(url, ORGANIZATION, lines, number=NUMBER)
            yield mirror
        finally:
            await owner.close()


@asynccontextmanager
async def connected(
    url: str, owner: "asyncpg.Connection[Any]", simulator: Simulator, **more: Any
) -> AsyncIterator[Target]:
    """The organization's target, known to the database as a worker makes it known. Each pull is one of everything."""
    with upstreams(simulator, **more) as file:
        (named,) = read_targets(settings_of(url, file))
    target = msgspec.structs.replace(named, full_every=timedelta())
    at = await owner.fetchval("SELECT now()")
    await owner.fetchval(CONNECT.text, target.organization, target.dataset, 86400, 86400, at, False)
    try:
        yield target
    finally:
        await target.upstream.close()


@asynccontextmanager
async def working(url: str, simulator: Simulator) -> AsyncIterator[Process]:
    """`vanguard worker` over the database, with the settings that it has when nobody says otherwise."""
    with upstreams(simulator) as file:
        settings = {"VANGUARD_DATABASE_URL": url, "VANGUARD_SECRET": SECRET, "VANGUARD_UPSTREAMS": str(file)}
        process = await create_subprocess_exec(
            *VANGUARD, "worker", cwd=ROOT, env=_environment() | settings,
            stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            await end(process)


async def one_pull(worker: Process, owner: "asyncpg.Connection[Any]", patience: float) -> Mapping[str, Any]:
    """Wait until the worker's first pull has ended well; its record."""
    async with asyncio.timeout(patience):
        while worker.returncode is None:
            run = await last_run(owner, "pull")
            if run is not None and run["finished_at"] is not None:
                assert run["state"] == "succeeded", run["error"]
                return run
            await asyncio.sleep(0.1)
    raise Unexpected("`vanguard worker` ended. Run it by hand to see why.")
