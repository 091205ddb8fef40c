"""The one property of the feed: whoever comes and goes has heard, in the end, exactly what happened, in its order."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest
from psycopg.conninfo import conninfo_to_dict

from app.base.database import Connection, Database, Runnable
from app.base.settings import Settings
from app.contracts import PFA
from app.web.auth import Role
from tests.support.feed import number, page
from tests.support.ledger import Ledger
from tests.support.requests import act, drafted, previewed
from tests.support.streams import Door, Follower, served
from tests.support.syncing import A_CENTURY, LEDGERED, Yard, van
from tests.support.world import SECRET, User, World, committed, line, open_world

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

# Commits to it reach the mirror at once; those to the fleet go to a system of record, and come back.
LOCAL = msgspec.structs.replace(PFA, upstream=None)
ROWS = 12  # few enough to be in each other's way
TURNS = 3  # of each writer


# What a transaction may do behind an entry of the feed: nothing that waits for anybody.
BEHIND = {"feed/append_event", "feed/read_position", "idempotency/keep_answer", "idempotency/forget_old"}


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The statements of every transaction, by their files."""
    found: list[list[str]] = []
    running: dict[int, list[str]] = {}
    begin, clocked = Connection.transaction, Connection._clocked

    @asynccontextmanager
    async def transaction(self: Connection) -> AsyncIterator[None]:
        names: list[str] = []
        running[id(self.raw)] = names
        found.append(names)
        async with begin(self):
            yield
        del running[id(self.raw)]

    async def noted(self: Connection, statement: Runnable, called: Awaitable[Any]) -> Any:
        running.get(id(self.raw), []).append(statement.name)
        return await clocked(self, statement, called)

    monkeypatch.setattr(Connection, "transaction", transaction)
    monkeypatch.setattr(Connection, "_clocked", noted)
    return found


class Scene:
    """Thirty-two who write and a few who listen, over one database."""

    def __init__(self, yard: Yard, door: Door, chance: random.Random):
        self.yard, self.world, self.door, self.chance = yard, yard.world, door, chance
        self.done: Counter[str] = Counter()

    async def commit(self, user: User) -> None:
        """Drafts of some rows and their commit, whatever becomes of it: others may have been faster."""
        for turn in range(TURNS):
            keys = self.chance.sample(range(ROWS), self.chance.randint(1, 3))
            field = "monthlyRate" if user.dataset == "pfa" else "mileage"
            drafts = [{"id": f"R{key}", "delta": {field: self.chance.randrange(10_000)}} for key in keys]
            if self.chance.random() < 0.3:
                fields = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}
                fields = fields if user.dataset == "pfa" else {"depot": "North", "kind": "Van"}
                drafts = [{"id": f"N-{user.id}-{turn}", "op": "insert", "delta": fields}]
            await user.post("drafts", {"modifications": drafts})
            response = await user.commit()
            if response.status_code != 200:
                await user.discard()
            self.done[f"commit {user.dataset} {response.status_code}"] += 1

    async def merge(self, user: User, boss: User) -> None:
        """A change request of some rows, approved and merged, as far as nobody is in its way."""
        for _ in range(TURNS):
            keys = self.chance.sample(range(ROWS), 2)
            field = "purchasePrice" if user.dataset == "pfa" else "seats"
            drafts = [{"id": f"R{key}", "delta": {field: self.chance.randrange(100)}} for key in keys]
            session = await drafted(user, *drafts)
            seen = await previewed(user, session)
            body = {"title": "T", "digest": seen["digest"], "approvers": []}
            response = await user.post(f"sessions/{session['id']}/submit", body)
            if response.status_code == 201:
                of = response.json()
                await act(boss, of, "approve")
                response = await act(boss, of, "merge")
                if response.status_code != 200:
                    await act(user, of, "withdraw")
            if response.status_code != 200:
                await user.request("DELETE", f"sessions/{session['id']}")
                await user.discard()
            self.done[f"merge {user.dataset} {response.status_code}"] += 1

    async def pull(self, *, first: bool) -> None:
        """The system of record changes some rows, and workers pull them and push what was committed; the first one has
        the clock.
        """
        worker = self.yard.new_worker()
        for _ in range(5 * TURNS):
            for key in self.chance.sample(range(ROWS), 2):
                self.yard.ledger.put(f"R{key}", mileage=self.chance.randrange(10_000))
            if first:
                self.world.clock.move(minutes=20)
            await worker.step()
            await worker.idle()
            self.done["pull"] += 1

    async def follow(self, reader: Follower) -> None:
        """Listen, and leave after some blocks; whatever was heard by then is what happened, as far as it goes."""
        while not reader.done:
            await reader.listen(self.door.http, self.chance.choice((0, 1, 1, 2, 3, 5, 9)))
            self.check(reader.events, await self.told(reader.user))

    async def browse(self, reader: Follower) -> None:
        """The same page by page."""
        while not reader.done:
            answer = await page(reader.user, reader.position, limit=self.chance.randint(1, 20))
            reader.events += answer["data"]
            reader.position = answer["nextSince"]
            reader.connections += 1
            self.check(reader.events, await self.told(reader.user))

    async def told(self, user: User) -> list[tuple[Any, ...]]:
        """What is written down and the reader may see."""
        rows = await self.world.db.fetch(
            "SELECT number, type, dataset, revision, keys, row_count FROM feed"
            " WHERE audience IS NULL OR $1 = ANY (audience) ORDER BY number",
            user.id,
        )
        return [tuple(row) for row in rows]

    @staticmethod
    def check(events: list[Any], told: list[tuple[Any, ...]]) -> None:
        heard = [
            (number(e["id"]), e["type"], e["dataset"], e["revision"], e.get("ids"), e["count"]) for e in events
        ]  # fmt: skip
        assert heard == told[: len(heard)]


async def test_whoever_comes_and_goes_hears_all_that_happens(
    database_url: str, server_url: str, transactions: list[list[str]]
) -> None:
    """Given readers that disconnect at random while 32 write, then after each reconnection the events that they have
    are the feed's, none missing, none twice, in its order; and the feed is what the history tells. Nobody has waited
    in a circle, since the feed's counter is the last lock of everybody.
    """
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ledger = Ledger("plate", {f"R{key}": van(mileage=key) for key in range(ROWS)}, page_size=5)
    database = Database(Settings(database_url=database_url, secret=SECRET, environment="test"))
    await database.open()
    async with open_world(database_url, (LOCAL, LEDGERED), token_ttl=A_CENTURY) as world:
        try:
            await play(world, Yard(world, database, ledger), chance)
        finally:
            await database.close()
    appending = [names for names in transactions if "feed/append_event" in names]
    assert len(appending) > 50
    assert [names for names in appending if {*names[names.index("feed/append_event") :]} - BEHIND] == []
    async with asyncpg.create_pool(server_url, min_size=1, max_size=1) as db:
        name = conninfo_to_dict(database_url)["dbname"]
        assert await db.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = $1", name) == 0


async def reader(user: User) -> Follower:
    """Somebody who has read the first event; the last one is a commit of whoever is called so."""
    first = await page(user, "earliest", limit=1)
    follower = Follower(user, first["nextSince"], lambda event: event["actor"] == {"id": "last", "name": "last"})
    follower.events = list(first["data"])
    return follower


async def play(world: World, yard: Yard, chance: random.Random) -> None:
    await world.organization("acme")
    await world.mirror({f"R{key}": line() for key in range(ROWS)}, contract=LOCAL)
    await yard.work()
    people, last = [await world.user(f"w{each}") for each in range(28)], await world.user("last")
    bosses = [await world.user(f"b{each}", role=Role.ADMIN) for each in range(4)]
    async with served(world) as door:
        scene = Scene(yard, door, chance)
        readers = [await reader(await world.user(f"r{each}")) for each in range(6)]
        streams, pages = readers[:4], readers[4:]
        reading = [*map(scene.follow, streams), *map(scene.browse, pages)]
        writing = [scene.commit(user.on(("pfa", "fleet")[place % 2])) for place, user in enumerate(people[:20])]
        for place, user in enumerate(people[20:]):
            dataset = ("pfa", "fleet")[place % 2]
            writing.append(scene.merge(user.on(dataset), bosses[place % 4].on(dataset)))
        writing += [scene.pull(first=each == 0) for each in range(4)]

        async def write() -> None:
            await asyncio.gather(*writing)
            await last.draft("R0", {"monthlyRate": 20_000})
            await committed(last)

        async with asyncio.timeout(90):
            await asyncio.gather(write(), *reading)
        print(dict(scene.done), [each.connections for each in readers])
    for kind in ("commit pfa 200", "commit fleet 200", "merge pfa 200", "pull"):
        assert scene.done[kind], scene.done
    assert not [kind for kind in scene.done if kind.endswith(("500", "503"))], scene.done
    story = await world.db.fetch("SELECT number, dataset, revision, keys FROM feed ORDER BY number")
    assert [row["number"] for row in story] == [*range(1, len(story) + 1)]
    for contract in (LOCAL, LEDGERED):
        revisions = [row["revision"] for row in story if row["dataset"] == contract.name and row["revision"]]
        last = await world.db.fetchval("SELECT revision FROM dataset WHERE name = $1", contract.name)
        assert revisions == [*range(1, last + 1)]
        keys = {row["revision"]: row["keys"] for row in story if row["dataset"] == contract.name and row["revision"]}
        for row in await world.db.fetch(f"SELECT revision, row_key FROM {contract.schema}.history"):
            assert row["row_key"] in keys[row["revision"]]
