"""Versions of contracts at once with everything else: one outcome, as if one came after the other.

Nothing is lost, nothing half-made, nothing of one version in another.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from app.base import exact_json
from app.base.database import Connection
from app.web.auth import Role
from tests.support.own import SEMANTICS, customers, moved, ready, registered
from tests.support.whole import whole
from tests.support.world import User, World, committed, refused
from tests.test_contention import at_once, until_waiting

REASON = {"reason": "as the test has it"}


async def people_of(world: World, organization: str = "acme") -> dict[str, User]:
    """Somebody in each role, on `customers`."""
    return {
        role.value: (await world.user(f"{role.value.lower()}-of-{organization}", organization, role)).on("customers")
        for role in Role
    }


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Those of acme, in a system that takes contracts."""
    await ready(world)
    return await people_of(world)


async def register(user: User, contract: dict[str, Any], **options: Any) -> httpx.Response:
    """The answer to a contract, whatever it is."""
    return await user.post(f"/api/v1/orgs/{user.organization}/contracts", contract, **options)


async def used(people: dict[str, User], **more: Any) -> dict[str, Any]:
    """The contract of a dataset that is in use."""
    contract: dict[str, Any] = (await registered(people["ENGINEER"], customers(**more)))["contract"]
    await moved(people["ADMIN"], "promote")
    return contract


def renamed(contract: dict[str, Any], version: str = "2.0") -> dict[str, Any]:
    """A breaking version of it: `company` has another name."""
    fields = [dict(field) for field in contract["fields"]]
    fields[1]["name"] = "companyName"
    return contract | {"version": version, "fields": fields}


def wider(contract: dict[str, Any], version: str, **field: Any) -> dict[str, Any]:
    """A compatible version of it: one field more."""
    return contract | {"version": version, "fields": [*contract["fields"], {"name": "region", "type": "text"} | field]}


async def sound(world: World) -> None:
    """No schema without a contract, no contract without a schema and a dataset, each version in its own."""
    schemas = {name for (name,) in await world.db.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'own%'")}
    contracts = {name for (name,) in await world.db.fetch("SELECT DISTINCT schema_name FROM contract")}
    datasets = {
        row["schema_name"]: (row["base"], row["contract_version"])
        for row in await world.db.fetch("SELECT * FROM dataset WHERE schema_name IS NOT NULL")
    }
    assert schemas == contracts == set(datasets)
    for row in await world.db.fetch(
        "SELECT DISTINCT ON (schema_name) schema_name, dataset, major || '.' || minor AS version FROM contract"
        " ORDER BY schema_name, minor DESC"
    ):
        assert datasets[row["schema_name"]] == (row["dataset"], row["version"]), dict(row)


# -- at once -----------------------------------------------------------------------------------------------------------


async def test_two_organizations_register_a_dataset_of_the_same_name_at_the_same_time(
    world: World, people: dict[str, User]
) -> None:
    await world.organization("rival")
    others = await people_of(world, "rival")
    both = [people, others]
    answers = await asyncio.gather(*(register(each["ENGINEER"], customers()) for each in both))
    assert [answer.status_code for answer in answers] == [201, 201], [answer.text for answer in answers]
    await sound(world)
    for each in both:
        await moved(each["ADMIN"], "promote")
        await each["ANALYST"].draft("C1", {"company": each["ADMIN"].organization}, op="insert")
        await committed(each["ANALYST"])
    for each in both:
        organization = each["ADMIN"].organization
        assert [row["data"]["company"] for row in await each["VIEWER"].rows()] == [organization]
        other = "acme" if organization == "rival" else "rival"
        for path in ("contracts", "datasets", "changes?since=earliest", "audit"):
            told = await each["ADMIN"].get(f"/api/v1/orgs/{organization}/{path}")
            assert told.status_code == 200
            assert f"-of-{other}" not in told.text


async def test_an_organization_that_registers_the_same_twice_at_once_has_it_once(
    world: World, people: dict[str, User]
) -> None:
    answers = await asyncio.gather(*(register(people[role], customers()) for role in ("ENGINEER", "ADMIN") * 3))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"ALREADY_EXISTS"}
    await sound(world)


@asynccontextmanager
async def held(world: World, name: str = "customers") -> AsyncIterator[None]:
    """Nobody takes lock 1 of the dataset while the block runs: who wants to waits in line."""
    async with world.db.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM dataset WHERE name = $1 FOR NO KEY UPDATE", name)
        yield


async def in_line(world: World, *requests: Callable[[], Awaitable[httpx.Response]], name: str) -> list[httpx.Response]:
    """The requests in this order, each begun when those before it wait for the dataset; their answers."""
    async with held(world, name):
        begun: list[asyncio.Future[Any]] = []
        for request in requests:
            begun += at_once(request())
            await until_waiting(world, len(begun), *begun)
    return list(await asyncio.gather(*begun))


async def test_a_minor_version_registered_while_its_major_version_is_promoted_is_of_that(
    world: World, people: dict[str, User]
) -> None:
    """By then it goes by another name."""
    contract = await used(people)
    boss, erin = people["ADMIN"], people["ENGINEER"]
    second = (await registered(erin, renamed(contract)))["contract"]
    answers = await in_line(
        world,
        lambda: boss.on("customers@2").post("promote", REASON),
        lambda: register(erin, wider(second, "2.1")),
        name="customers@2",
    )
    assert [answer.status_code for answer in answers] == [200, 201], [answer.text for answer in answers]
    assert answers[1].json()["address"] == "customers"
    await sound(world)
    assert (await boss.get("state")).json()["version"] == "2.1"


async def test_a_minor_version_registered_while_its_promotion_is_rolled_back_is_of_that(
    world: World, people: dict[str, User]
) -> None:
    contract = await used(people)
    boss, erin = people["ADMIN"], people["ENGINEER"]
    second = (await registered(erin, renamed(contract)))["contract"]
    await moved(boss.on("customers@2"), "promote")
    answers = await in_line(
        world,
        lambda: boss.post("rollback", REASON),
        lambda: register(erin, wider(second, "2.1")),
        name="customers",
    )
    assert [answer.status_code for answer in answers] == [200, 201], [answer.text for answer in answers]
    assert answers[1].json()["address"] == "customers@2"
    await sound(world)
    assert (await boss.get("state")).json()["version"] == "1.0"


async def test_a_minor_version_registered_while_its_major_version_is_deleted_finds_none(
    world: World, people: dict[str, User]
) -> None:
    boss, erin = people["ADMIN"], people["ENGINEER"]
    first = (await registered(erin))["contract"]
    path = "/api/v1/orgs/acme/contracts/customers/1.0"
    async with held(world):
        begun = at_once(boss.request("DELETE", path))
        await until_waiting(world, 1, *begun)
        begun += at_once(register(erin, wider(first, "1.1")))
        await until_waiting(world, 2, *begun)
    deleted, late = await asyncio.gather(*begun)
    assert deleted.status_code == 204, deleted.text
    refused(late, 422, "VALIDATION_FAILED")
    await sound(world)


async def test_a_version_that_is_promoted_meanwhile_is_not_deleted(world: World, people: dict[str, User]) -> None:
    boss = people["ADMIN"]
    await registered(people["ENGINEER"])
    path = "/api/v1/orgs/acme/contracts/customers/1.0"
    promoted, deleted = await in_line(
        world, lambda: boss.post("promote", REASON), lambda: boss.request("DELETE", path), name="customers"
    )
    assert promoted.status_code == 200, promoted.text
    refused(deleted, 409, "VERSION_IN_USE")
    await sound(world)


async def test_of_two_promotions_at_once_one_is_refused(world: World, people: dict[str, User]) -> None:
    contract = await used(people)
    await registered(people["ENGINEER"], renamed(contract))
    boss = people["ADMIN"].on("customers@2")
    answers = await asyncio.gather(*(boss.post("promote", REASON) for _ in range(4)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 3}, [a.text for a in answers]
    await sound(world)


# -- while people work -------------------------------------------------------------------------------------------------


class Busy:
    """Somebody who edits one row, again and again, by what the field is called at the moment; `acknowledged`: what was
    answered with success, in order.
    """

    def __init__(self, user: User, key: str):
        self.user, self.key = user, key
        self.field, self.number = "company", 0
        self.acknowledged: list[str] = []
        self.answers: Counter[str] = Counter()
        self.once = asyncio.Event()

    async def edit(self) -> None:
        """One edit, under the name that the field has."""
        self.number += 1
        value = f"{self.user.id}-{self.number}"
        wanted = {"modifications": [{"id": self.key, "delta": {self.field: value}}]}
        if self._told(await self.user.post("drafts", wanted)):
            self.acknowledged.append(value)
            self.once.set()

    def _told(self, answer: httpx.Response) -> bool:
        body = exact_json.decode(answer.content)
        self.answers[body.get("code", "OK")] += 1
        if answer.status_code == 422 and body["errors"][0]["code"] == "UNKNOWN_FIELD":
            self.field = "companyName" if self.field == "company" else "company"
            return False
        assert answer.status_code == 200 or body["code"] in ("SCHEMA_CHANGED", "NO_DRAFTS"), answer.text
        return answer.status_code == 200

    async def act(self) -> None:
        """What this one does."""
        await self.edit()


class Committer(Busy):
    """One who commits; `committed`: what was."""

    committed: tuple[str, ...] = ()

    async def act(self) -> None:
        """An edit and its commit."""
        await self.edit()
        drafted = self.acknowledged[-1:]
        if self._told(await self.user.commit()):
            self.committed += tuple(drafted)


class Submitter(Busy):
    """One who submits, and has it merged by somebody else."""

    def __init__(self, user: User, key: str, boss: User):
        super().__init__(user, key)
        self.boss = boss

    async def act(self) -> None:
        """An edit in a session, its request, its approval and its merge, as far as that goes."""
        begun = await self.user.post("sessions", {"mode": "full_table"})
        if not self._told_of(begun, 201):
            return
        session = begun.json()["id"]
        self.number += 1
        value = f"{self.user.id}-{self.number}"
        edit = {"sessionId": session, "modifications": [{"id": self.key, "delta": {self.field: value}}]}
        saved = await self.user.post("drafts", edit)
        if self._told(saved):
            self.acknowledged.append(value)
            self.once.set()
        preview = await self.user.post(f"sessions/{session}/preview", {})
        if not saved.is_success or not self._told_of(preview, 200):
            await self._let_go(session, value)
            return
        wanted = {"title": value, "digest": preview.json()["digest"]}
        sent = await self.user.post(f"sessions/{session}/submit", wanted)
        if not self._told_of(sent, 201) or not await self._merged(f"change-requests/{sent.json()['id']}"):
            await self._let_go(session, value)

    async def _merged(self, request: str) -> bool:
        """Approved and merged by the other one, however often a version comes between; False for one with conflicts,
        which goes back.
        """
        verbs = {"pending_review": "approve", "approved": "merge"}
        while (found := (await self.boss.get(request)).json())["status"] in verbs:
            verb = verbs[found["status"]]
            answer = await self.boss.post(f"{request}/{verb}", {"digest": found["digest"]})
            if not self._told_of(answer, 200) and answer.json()["code"] == "MERGE_CONFLICT":
                while (await self.boss.post(f"{request}/reject", {"comment": "No"})).status_code != 200:
                    pass
                return False
        return True

    async def _let_go(self, session: str, value: str) -> None:
        """End a session with all that is in it."""
        while (await self.user.request("DELETE", f"sessions/{session}")).status_code == 409:
            pass
        while (await self.user.discard()).status_code == 409:
            pass
        if value in self.acknowledged:
            self.acknowledged.remove(value)

    def _told_of(self, answer: httpx.Response, status: int) -> bool:
        self.answers[answer.json().get("code", "OK")] += 1
        assert answer.status_code < 500, answer.text
        return answer.status_code == status


@asynccontextmanager
async def busy(workers: list[Busy]) -> AsyncIterator[None]:
    """They work as long as the block runs, and once at least before it begins and before it ends."""
    over = asyncio.Event()

    async def keep_on(worker: Busy) -> None:
        while not over.is_set():
            await worker.act()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for worker in workers:
            worker.once.clear()
            tasks.create_task(keep_on(worker))
        for worker in workers:
            await worker.once.wait()
        try:
            yield
            for worker in workers:
                worker.once.clear()
            for worker in workers:
                await worker.once.wait()
        finally:
            over.set()


async def told_in(world: World, schema: str, field: str) -> set[str]:
    """Every value of a field that came into a version's mirror, as its history tells."""
    rows = await world.db.fetch(f"SELECT after ->> $1 FROM {schema}.history WHERE after ? $1", field)
    return {row[0] for row in rows}


async def names_in(world: World, schema: str) -> set[str]:
    """Every field that anything in a version names."""
    rows = await world.db.fetch(
        f"SELECT jsonb_object_keys(data) FROM {schema}.mirror"
        f" UNION SELECT jsonb_object_keys(after) FROM {schema}.history"
        f" UNION SELECT jsonb_object_keys(delta) FROM {schema}.modification"
        f" UNION SELECT jsonb_object_keys(pending) FROM {schema}.modification"
        f" UNION SELECT jsonb_object_keys(delta) FROM {schema}.change WHERE state = 'in_review'"
    )
    return {row[0] for row in rows}


async def filled(world: World, before: str, after: str) -> None:
    """Rows of one version in the other one, as a backfill brings them."""
    await world.db.execute(
        f"INSERT INTO {after}.mirror (organization_id, row_key, data, revision)"
        f" SELECT organization_id, row_key, data - 'company' || jsonb_build_object('companyName', data -> 'company'), 1"
        f" FROM {before}.mirror"
    )


async def test_a_breaking_version_promoted_and_rolled_back_while_people_work(
    world: World, people: dict[str, User]
) -> None:
    """Every acknowledged edit is in a mirror, on its way there, or drafted by its author in the version in use."""
    contract = await used(people)
    boss, erin = people["ADMIN"], people["ENGINEER"]
    users = [(await world.user(f"user{number}")).on("customers") for number in range(8)]
    for number in range(len(users)):
        await boss.draft(f"R{number}", {"company": "-", "tier": "gold"}, op="insert")
    await committed(boss)
    await registered(erin, renamed(contract))
    schemas = [name for (name,) in await world.db.fetch("SELECT schema_name FROM contract ORDER BY major")]
    await filled(world, *schemas)
    workers: list[Busy] = [
        *(Busy(user, f"R{number}") for number, user in enumerate(users[:4])),
        *(Committer(user, f"R{number}") for number, user in enumerate(users[4:6], start=4)),
        *(Submitter(user, f"R{number}", boss) for number, user in enumerate(users[6:], start=6)),
    ]
    names = {field["name"] for field in contract["fields"]}
    for action, address, field in (("promote", "customers@2", "companyName"), ("rollback", "customers", "company")):
        async with busy(workers):
            outcome = await moved(boss.on(address), action)
        assert outcome["moved"]["left"] == []
        assert await names_in(world, schemas[0]) <= names
        assert await names_in(world, schemas[1]) <= names - {"company"} | {"companyName"}
        told = await told_in(world, schemas[0], "company") | await told_in(world, schemas[1], "companyName")
        for worker in workers:
            row = (await worker.user.row(worker.key))["data"]
            last = worker.acknowledged[-1] if worker.acknowledged else row[field]
            assert last in (row[field], *told), (action, worker.key, worker.answers)
            if type(worker) is Busy:
                assert row[field] == last
            if isinstance(worker, Committer):
                assert told >= set(worker.committed)
        await sound(world)
    print([dict(worker.answers) for worker in workers])


# -- killed in the middle ----------------------------------------------------------------------------------------------


class Killer:
    """Ends the connection of a statement just before it is run: of the `fatal`-th from now on."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch):
        self.world, self.fatal, self.number = world, 0, 0
        execute, timed = asyncpg.Connection.execute, Connection._timed

        async def executed(raw: Any, *words: Any, **options: Any) -> Any:
            await self._count(raw)
            return await execute(raw, *words, **options)

        async def run(connection: Connection, *words: Any) -> Any:
            await self._count(connection.raw)
            return await timed(connection, *words)

        patch.setattr(asyncpg.Connection, "execute", executed)
        patch.setattr(Connection, "_timed", run)

    def arm(self, fatal: int) -> None:
        """The one that dies is the so-manieth from here."""
        self.number, self.fatal = 0, fatal

    async def _count(self, raw: Any) -> None:
        if not self.fatal or raw.get_settings().application_name != "vanguard" or not raw.is_in_transaction():
            return
        self.number += 1
        if self.number == self.fatal:
            await self.world.db.fetchval("SELECT pg_terminate_backend($1, 5000)", raw.get_server_pid())


@pytest.mark.parametrize("step", ["first", "major", "minor", "promote", "rollback", "deprecate", "delete"])
async def test_a_connection_that_is_lost_at_any_statement_leaves_nothing_half_made(
    world: World, people: dict[str, User], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever was to be done is not, and is done when it is asked for again."""
    boss, erin, ann = people["ADMIN"], people["ENGINEER"], people["ANALYST"]
    contract = customers()
    if step != "first":
        contract = await used(people)
        await ann.draft("C1", {"company": "Acme", "tier": "gold"}, op="insert")
        await committed(ann)
        await ann.draft("C1", {"company": "Drafted"})
    if step in ("promote", "rollback", "delete"):
        await registered(erin, renamed(contract))
    if step == "rollback":
        await moved(boss.on("customers@2"), "promote")
    asked: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
        "first": lambda: register(erin, contract),
        "major": lambda: register(erin, renamed(contract)),
        "minor": lambda: register(erin, wider(contract, "1.1", indexed=True)),
        "promote": lambda: boss.on("customers@2").post("promote", REASON),
        "rollback": lambda: boss.post("rollback", REASON),
        "deprecate": lambda: boss.post("deprecate", REASON),
        "delete": lambda: boss.request("DELETE", "/api/v1/orgs/acme/contracts/customers/2.0"),
    }
    before = await whole(world)
    killer = Killer(world, monkeypatch)
    number = 0
    while True:
        number += 1
        killer.arm(number)
        answer = await asked[step]()
        killer.arm(0)
        if answer.is_success:
            break
        assert answer.status_code == 503, (number, answer.text)
        assert await whole(world) == before, number
    assert number > 8, "it runs more statements than that"
    await sound(world)


# -- what is right afterwards ------------------------------------------------------------------------------------------

COUNTED = {
    "fields": [
        {"name": "code", "type": "text", "editable": False},
        {"name": "company", "type": "text", "indexed": True},
        {"name": "tier", "type": "enum", "values": ["gold", "silver"], "indexed": True, "dimension": True},
        {"name": "seats", "type": "integer", "indexed": True},
        {"name": "region", "type": "text"},
    ],
    "key": "code",
    "ingestion": SEMANTICS | {"idempotencyKey": ["code"]},
    "hot": [{"sort": "seats"}],
    "measures": [{"name": "seats", "kind": "sum", "of": "seats"}, {"name": "most", "kind": "max", "of": "seats"}],
}
QUESTIONS = [
    {"sort": "-seats"},
    {"seats[gt]": "3", "sort": "seats,-company"},
    {"search": "firm"},
    {"search": "firm", "sort": "seats"},
    {"tier": "gold", "include": "layers,computed"},
    {"region": "North"},
]


async def ask_all(user: User) -> None:
    """Questions of every kind, so that each connection has prepared what it runs."""
    for question in QUESTIONS:
        assert (await user.get("rows", question)).status_code == 200
    for path in ("kpis", "kpis?groupBy=tier", "drafts", "export?format=csv", "rows/R1", "rows/R1/history", "state"):
        answer = await user.get(path)
        assert answer.status_code == 200, (path, answer.text)


async def check_view(world: World, user: User, schema: str) -> None:
    """Lists, filters and KPIs of a user are what their rows come to, by plain arithmetic; the rows what is stored."""
    mine = {row["id"]: row["data"] for row in await user.rows(pageSize=1000)}
    mirror = {
        row["row_key"]: exact_json.decode(row["data"])
        for row in await world.db.fetch(f"SELECT row_key, data::text FROM {schema}.mirror")
    }
    wanted = dict(mirror)
    for layer in await world.db.fetch(f"SELECT * FROM {schema}.modification WHERE user_id = $1", user.id):
        delta = exact_json.decode(layer["pending"]) | exact_json.decode(layer["delta"])
        wanted[layer["row_key"]] = wanted.get(layer["row_key"], {}) | delta
    assert mine == {key: {**row} for key, row in wanted.items()}
    more = {key for key, row in mine.items() if (row.get("seats") or 0) > 3}
    assert {row["id"] for row in await user.rows(**{"seats[gt]": "3"})} == more
    north = {key for key, row in mine.items() if row.get("region") == "North"}
    assert {row["id"] for row in await user.rows(region="North")} == north
    seats = [row["data"].get("seats") for row in await user.rows(sort="-seats", pageSize=1000)]
    some = [each for each in seats if each is not None]
    assert seats == [None] * (len(seats) - len(some)) + sorted(some, reverse=True)
    answer = exact_json.decode((await user.get("kpis", {"groupBy": "tier"})).content)
    for side, rows in (("baseline", mirror), ("mine", mine)):
        total = [row["seats"] for row in rows.values() if row.get("seats") is not None]
        figures = answer["totals"][side]
        assert (figures["rows"], figures["seats"], figures["most"]) == (len(rows), sum(total), max(total)), side


async def test_a_minor_version_applied_while_people_save_shows_in_every_view_at_once(
    world: World, people: dict[str, User]
) -> None:
    """An integer becomes a number, a field gets an index: other columns, under drafts and prepared statements."""
    ann = people["ANALYST"]
    contract = await used(people, **COUNTED)
    schema = await world.db.fetchval("SELECT schema_name FROM contract")
    for number in range(8):
        row = {"company": f"Firm {number}", "tier": "gold" if number % 2 else "silver", "seats": number}
        await ann.draft(f"R{number}", row | ({"region": "North"} if number < 4 else {}), op="insert")
    await committed(ann)
    await ann.draft("R1", {"seats": 40, "region": "South"})
    users = [(await world.user(f"user{number}")).on("customers") for number in range(4)]
    await asyncio.gather(*(ask_all(user) for user in (*users, ann)))
    fields = [dict(field) for field in contract["fields"]]
    fields[3]["type"] = "number"
    fields[4]["indexed"] = True
    workers = [Saver(user, f"R{number}") for number, user in enumerate(users, start=2)]
    async with busy(list[Busy](workers)):
        await registered(people["ENGINEER"], contract | {"version": "1.1", "fields": fields})
    await asyncio.gather(*(ask_all(user) for user in (*users, ann)))
    await ann.draft("R0", {"seats": Decimal("3.5"), "region": "North"})
    for user in (*users, ann):
        await check_view(world, user, schema)
    await committed(ann)
    for user in (*users, ann):
        await check_view(world, user, schema)
    for worker in workers:
        assert (await worker.user.row(worker.key))["data"]["seats"] == worker.last


class Saver(Busy):
    """One who edits the number."""

    last = 0

    async def edit(self) -> None:
        self.number += 1
        wanted = {"modifications": [{"id": self.key, "delta": {"seats": self.number}}]}
        if self._told(await self.user.post("drafts", wanted)):
            self.last = self.number
            self.once.set()
