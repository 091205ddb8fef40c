"""A PEMS, the application, workers as processes of their own that can be killed, and people who go about their work.

The simulator runs in the test's process, so that its log proves what was written there and how often.
"""

import asyncio
import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from app.base import exact_json
from app.base.clock import Clock, now
from app.base.logs import configure_logs
from app.base.settings import Settings
from app.dev.seed import pfa_lines
from app.simulator import Applied, Fault, Simulator
from app.upstream.pems import http
from app.web.auth import Role
from app.worker.start import read_targets, work
from tests.support.world import SECRET, User, World, open_world

CODE, NEIGHBOUR = "RIO", "RIO2"  # codes that begin alike: only the first is connected
EMPTY = "LIMA"  # nobody has lines there at first
# Seconds. The simulator works on nothing for longer than the lease, by far: a busy machine makes everything later.
TIMEOUT, LEASE = 0.5, 4.0
PASSWORD = "pems-simulator"

Document = dict[str, Any]

# On its way, and not behind an earlier change of its row that upstream refused: that one waits for a person.
UNDER_WAY = """state IN ('committed', 'syncing')
    AND NOT EXISTS (SELECT FROM pfa.change AS r
                     WHERE r.row_key = c.row_key AND r.id < c.id AND r.state IN ('conflict', 'sync_error'))"""

_processes = multiprocessing.get_context("forkserver")
# What a worker imports is imported once: another one is there in a twentieth of a second.
_processes.set_forkserver_preload(["tests.support.crashing"])


class Site:
    """PEMS, Vanguard, and what lies between them: the file of upstreams."""

    def __init__(self, world: World, pems: Simulator, url: str, folder: Path):
        self.world, self.pems, self.url, self.folder = world, pems, url, folder
        self.upstreams = folder / "upstreams.json"
        self.log = folder / "worker.log"
        self._boss: User | None = None

    def connect(self, **changed: Any) -> None:
        """Write the file of upstreams; workers that are started from now on go by it."""
        (self.folder / "password").write_text(PASSWORD)
        entry = {
            "organization": "acme",
            "dataset": "pfa",
            "kind": "pems",
            "url": self.pems.url,
            "tenant": "SIM",
            "role": "PLANNER",
            "organizations": [CODE],
            "auth": {"user": "pems", "passwordFile": "password"},
            "requestsPerSecond": 0,
            "pageSize": 40,
            "timeout": TIMEOUT,
            "lease": LEASE,
            "pullEvery": 1,
            "fullEvery": 4,
            "overlap": 2,
            "deletionShare": 0.5,
            "insertShare": 1,
            "changeShare": 1,
            "quarantineShare": 1,
        }
        self.upstreams.write_bytes(exact_json.encode({"upstreams": [entry | changed]}))

    def settings(self) -> Settings:
        """Those of a worker."""
        return Settings(database_url=self.url, secret=SECRET, environment="test", upstreams=str(self.upstreams))

    async def user(self, name: str) -> User:
        """Somebody who may edit, commit and synchronize."""
        self.world.clock.at = now()
        return await self.world.user(name, role=Role.ADMIN)

    async def until(self, question: str, *arguments: Any, within: float = 60) -> None:
        """Ask the database until it says yes."""
        async with asyncio.timeout(within):
            # Nothing tells a test when another process is done.
            while not await self.world.db.fetchval(question, *arguments):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def connected(self) -> None:
        """Wait until a worker has been there and the first pull is over."""
        await self.until("SELECT EXISTS (SELECT FROM synchronization WHERE pulled_whole_at IS NOT NULL)")

    async def until_quiet(self, *, full: bool = True) -> None:
        """Have pushed what waits, then pulled; a worker has to be there, and nobody may edit any more."""
        boss = await self.boss()
        empty = f"NOT EXISTS (SELECT FROM pfa.change AS c WHERE {UNDER_WAY})"
        idle = "NOT EXISTS (SELECT FROM sync_run WHERE state IN ('requested', 'running'))"
        # What failed often waits for minutes. Of new rows that may be there nobody but time makes less.
        await self.world.db.execute(
            "UPDATE pfa.change SET next_attempt_at = least(next_attempt_at, now() + make_interval(secs => $1))"
            " WHERE state = 'committed'",
            LEASE,
        )
        async with asyncio.timeout(60):
            while not await self.world.db.fetchval(f"SELECT {empty} AND {idle}"):
                await boss.post("sync/push", {})
                await self.until(f"SELECT {idle}")
            # A pull that failed says nothing of whether the mirror is right: only one that came through counts.
            while True:
                asked = await boss.post("sync/pull", {"full": full})
                assert asked.status_code == 202, asked.text
                await self.until(f"SELECT {idle}")
                if await self._succeeded(asked.json()["runId"]):
                    return

    async def _succeeded(self, run: str) -> bool:
        return bool(await self.world.db.fetchval("SELECT state = 'succeeded' FROM sync_run WHERE id = $1::uuid", run))

    async def boss(self) -> User:
        """Somebody who asks for pulls and pushes, and edits nothing."""
        self.world.clock.at = now()
        if self._boss is None:
            self._boss = await self.user("boss")
        return self._boss

    async def mirror(self) -> dict[str, Document]:
        """The mirror's documents by key."""
        rows = await self.world.db.fetch("SELECT row_key, data FROM pfa.mirror WHERE organization_id = 'acme'")
        return {row["row_key"]: exact_json.decode(row["data"]) for row in rows}

    def records(self, code: str = CODE) -> dict[str, Document]:
        """What PEMS holds, as the mirror should have it."""
        return {document["pfaId"]: document for document, _ in self.pems.records(code)}

    def keys(self, code: str = CODE) -> list[str]:
        """The ids of the lines that PEMS holds."""
        return list(self.records(code))

    async def changes(self) -> list[Document]:
        """Every change, in order."""
        rows = await self.world.db.fetch("SELECT * FROM pfa.change WHERE organization_id = 'acme' ORDER BY id")
        return [
            dict(row) | {"delta": exact_json.decode(row["delta"]), "base": exact_json.decode(row["base"])}
            for row in rows
        ]

    def written(self) -> list[Applied]:
        """Each edit that a client has done in PEMS, in turn."""
        return [each for each in self.pems.counts().applied if each.by == "client"]


@asynccontextmanager
async def open_site(
    url: str, folder: Path, rows: int = 200, seed: int = 1, clock: Clock = now, **entry: Any
) -> AsyncIterator[Site]:
    """A site over a database of its own, nothing pulled yet; `entry` differs from the file's usual one."""
    lines = {
        CODE: [text for _, text in islice(pfa_lines("rio", seed), rows)],
        NEIGHBOUR: [text for _, text in islice(pfa_lines("rio2", seed), 30)],
        EMPTY: [],
    }
    async with Simulator(lines, seed=seed, clock=clock) as pems, open_world(url) as world:
        await world.organization("acme")
        site = Site(world, pems, url, folder)
        site.connect(**entry)
        yield site


# -- workers -----------------------------------------------------------------------------------------------------------


def run_worker(settings: Settings, log: str) -> None:
    """What `vanguard worker` does, in a process that is already there. A login page keeps it away for a second only:
    with two minutes nobody would be killed in the middle of anything.
    """
    http.LOGIN_SECONDS = 1.0
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    configure_logs("INFO", "json")
    asyncio.run(work(settings, read_targets(settings)))


class Workplace(Protocol):
    """What a worker's process needs to know."""

    @property
    def log(self) -> Path:
        """Where it writes what it does."""

    def settings(self) -> Settings:
        """What it goes by."""


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, site: Workplace):
        self.process: ForkServerProcess = _processes.Process(
            target=run_worker, args=(site.settings(), str(site.log)), daemon=True
        )
        self.process.start()

    async def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.process.kill()
        await self.ended()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    async def ended(self) -> int | None:
        """Wait until it is gone; its exit code."""
        await asyncio.to_thread(self.process.join, 60)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode


@asynccontextmanager
async def working(site: Site, number: int = 1) -> AsyncIterator[list[WorkerProcess]]:
    """Workers that are killed in the end."""
    workers = [WorkerProcess(site) for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            if worker.process.is_alive():
                await worker.kill()


# -- what happens meanwhile --------------------------------------------------------------------------------------------

WEATHER = [
    Fault(kind="latency", ms=0, up_to_ms=60, share=0.5),
    Fault(kind="latency", at="screen", ms=600, up_to_ms=1200, share=0.03),
    Fault(kind="late", ms=600, up_to_ms=1200, share=0.02),
    Fault(kind="status", status=500, share=0.02),
    Fault(kind="status", status=503, share=0.01),
    Fault(kind="status", status=429, retry_after=1, share=0.01),
    Fault(kind="drop_before", share=0.02),
    Fault(kind="drop_after", share=0.03),
    Fault(kind="half", share=0.02),
    Fault(kind="broken_json", share=0.01),
    Fault(kind="html", share=0.01),
    Fault(kind="alert", at="screen", message="The field is not a valid one today", share=0.01),
    Fault(kind="confirm", at="screen", message="There are open lines. Go on?", share=0.01),
    Fault(kind="login", share=0.002),
    Fault(kind="redirect", share=0.002),
]
ANSWERS = {200, 404, 409, 422}  # what a planner meets whose rows others edit and delete


class Planner:
    """Somebody who edits, adds, deletes and commits, and sees to what was refused; nobody else writes these values."""

    def __init__(self, site: Site, user: User, seed: int):
        self.site, self.user, self.random = site, user, random.Random(seed)
        self.count = 0
        self.answers: Counter[int] = Counter()

    async def act(self) -> None:
        """One thing or another."""
        acts: list[Callable[[], Any]] = [self.edit] * 8 + [self.add, self.add_with_key, self.delete]
        acts += [self.see_to_failed] * 2
        await self.random.choice(acts)()

    async def edit(self) -> None:
        """Edit a line or two and commit them."""
        keys = self._some(self.random.choice((1, 1, 2)))
        for key in keys:
            await self._draft(key, self._fields(), "update")
        await self._commit(*keys)

    async def add(self) -> None:
        """Add a line whose id PEMS gives, and sometimes edit it before it has one."""
        key = self._name("T")
        await self._draft(key, self._new_line(), "insert")
        await self._commit(key)
        if self.random.random() < 0.5:
            await self._draft(key, {"manufacturer": self._name("m")}, "update")
            await self._commit(key)

    async def add_with_key(self) -> None:
        """Add a line under an id of one's own."""
        key = self._name("NEW-")
        await self._draft(key, self._new_line() | {"pfaId": key}, "insert")
        await self._commit(key)

    async def delete(self) -> None:
        """Delete a line."""
        (key,) = self._some(1)
        await self._draft(key, {}, "delete")
        await self._commit(key)

    async def see_to_failed(self) -> None:
        """Overwrite, let go or try again what upstream refused."""
        await self._post("sync/push", {})
        for key, op in (await self._failed())[:10]:
            choice = self.random.randrange(4)
            if choice == 0:
                await self._post("discard", {"ids": [key]})
            elif choice == 1:
                await self._post("sync/retry", {"rowIds": [key]})
            elif choice == 2 and op != "delete":
                await self._draft(key, self._fields(), "update")
                await self._commit(key)

    async def let_go(self) -> None:
        """Discard all that is drafted or was refused."""
        await self._post("discard", {"all": True})

    async def _failed(self) -> list[tuple[str, str]]:
        rows = await self.site.world.db.fetch(
            "SELECT row_key, op FROM pfa.change WHERE user_id = $1 AND state IN ('conflict', 'sync_error')",
            self.user.id,
        )
        return [(row["row_key"], row["op"]) for row in rows]

    async def _draft(self, key: str, delta: Document, op: str) -> None:
        await self._post("drafts", {"modifications": [{"id": key, "delta": delta, "op": op}]})

    async def _commit(self, *keys: str) -> None:
        for key in keys:
            await self._post("commit", {"ids": [key]})

    async def _post(self, path: str, body: Any) -> None:
        self.site.world.clock.at = now()
        response = await self.user.post(path, body)
        self.answers[response.status_code] += 1
        assert response.status_code in {*ANSWERS, 202}, response.text

    def _some(self, number: int) -> list[str]:
        keys = self.site.keys()
        return self.random.sample(keys, min(number, len(keys)))

    def _name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.user.id}-{self.count}"

    def _fields(self) -> Document:
        fields: Document = {"model": self._name("m")}
        if self.random.random() < 0.3:
            fields["areaSilo"] = self.random.choice(("North", "South"))
        return fields

    def _new_line(self) -> Document:
        return {
            "category": "Cranes", "class": "Heavy", "source": "Rental", "dor": "BEO", "model": self._name("m"),
            "monthlyRate": self.random.randrange(1, 1000), "forecastStart": "2026-02-01", "forecastEnd": "2026-07-31",
        }  # fmt: skip


class Somebody:
    """Somebody in PEMS, who edits, adds and deletes lines there."""

    def __init__(self, site: Site, seed: int):
        self.site, self.pems, self.random, self.count = site, site.pems, random.Random(seed), 0

    def act(self) -> None:
        """One thing or another."""
        self.count += 1
        code = NEIGHBOUR if self.random.random() < 0.1 else CODE
        # A line whose ADD nobody heard the answer of is known by its values only: whoever edits it makes it another.
        added = {each.id for each in self.site.written() if each.action == "ADD"}
        keys = [key for key in self.site.keys(code) if key not in added]
        key, chance = self.random.choice(keys), self.random.random()
        if chance < 0.15:
            self.pems.edit(code, key, {"model": f"theirs-{self.count}"})
        elif chance < 0.8:
            self.pems.edit(code, key, {"equipment": f"theirs-{self.count}", "monthlyRate": self.count})
        elif chance < 0.92:
            self.pems.put(code, f"PFA-{self.count:07d}x", {"category": "Cranes", "model": f"theirs-{self.count}"})
        else:
            self.pems.delete(code, key)


@asynccontextmanager
async def busy(site: Site, seed: int, *, planners: int = 2, pause: float = 0.03) -> AsyncIterator[list[Planner]]:
    """Planners and somebody in PEMS go about their work as long as the block runs."""
    people = [Planner(site, await site.user(f"planner{n}"), seed + n) for n in range(planners)]
    other, over = Somebody(site, seed), asyncio.Event()

    async def keep_on(act: Callable[[], Any]) -> None:
        while not over.is_set():
            result = act()
            if result is not None:
                await result
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as tasks:
        for act in (*(planner.act for planner in people), other.act):
            tasks.create_task(keep_on(act))
        try:
            yield people
        finally:
            over.set()


async def let_all_go(site: Site, planners: list[Planner]) -> None:
    """Discard what was refused, and then what was refused of the changes behind it; a worker has to be there."""
    while await site.world.db.fetchval(
        "SELECT EXISTS (SELECT FROM pfa.change WHERE state IN ('committed', 'conflict', 'sync_error'))"
    ):
        for planner in planners:
            await planner.let_go()
        await site.until_quiet()
