"""What a dataset's state refuses, on every route that writes and in every job of a worker; and who reads it.

Routes are found by walking the application. One that is new has to be entered here, with what it takes.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import pytest

from app.base import exact_json
from app.contracts.states import DatasetState
from app.web.auth import Role
from app.worker.target import Job
from tests.conftest import new_database
from tests.support.ledger import Ledger
from tests.support.own import customers, moved, ready, registered
from tests.support.requests import done, drafted, submitted
from tests.support.routes import Route, walk
from tests.support.sessions import begin, edit
from tests.support.syncing import LEDGERED, Yard, open_yard, van
from tests.support.world import User, World, committed, open_world, refused, written

D = "/api/v1/orgs/{org}/datasets/{dataset}"
SESSION = f"{D}/sessions/{{session_id}}"
REQUEST = f"{D}/change-requests/{{request_id}}"
EDITED = {"modifications": [{"id": "C1", "delta": {"company": "Other"}}]}
EDIT = {"id": "C5", "field": "company", "value": "x"}


class Write(NamedTuple):
    """What a route takes that writes: its body, who sends it, and which request it is about."""

    body: Any
    user: str = "erin"
    request: str = "pending"


# What people write: each is refused where the state takes no edits.
WRITES = {
    f"PATCH {D}/rows/{{row_id}}": Write({"company": "Other"}),
    f"POST {D}/drafts": Write(EDITED),
    f"POST {D}/drafts/undo": Write({}),
    f"POST {D}/drafts/redo": Write({}),
    f"POST {D}/commit": Write({"all": True}),
    f"POST {D}/discard": Write({"all": True}),
    f"POST {D}/sessions": Write({"mode": "full_table"}),
    f"DELETE {SESSION}": Write(None),
    f"POST {SESSION}/extend": Write({}),
    f"POST {SESSION}/edits": Write(EDIT),
    f"POST {SESSION}/edits/batch": Write({"edits": [EDIT]}),
    f"POST {SESSION}/undo": Write({}),
    f"POST {SESSION}/redo": Write({}),
    f"POST {SESSION}/preview": Write({}),
    f"POST {SESSION}/validation/override": Write({"reason": "Agreed"}),
    f"POST {SESSION}/submit": Write({"title": "Mine", "digest": "x"}),
    f"POST {REQUEST}/approve": Write({"digest": "x"}, "boss"),
    f"POST {REQUEST}/reject": Write({"comment": "No"}, "boss"),
    f"POST {REQUEST}/merge": Write({"digest": "x"}, "boss", "approved"),
    f"POST {REQUEST}/revert": Write({"title": "Back"}, "boss", "closed"),
    f"POST {REQUEST}/resolutions": Write({"default": "theirs"}, "boss"),
    f"POST {REQUEST}/withdraw": Write({}),
    f"POST {REQUEST}/resubmit": Write({}, request="rejected"),
    f"POST {D}/commits/{{commit_id}}/revert": Write({"title": "Back"}),
}
# What is no edit of the dataset: words about a request, how it is kept, where it goes.
OTHERS = {
    f"POST {REQUEST}/comments",
    f"DELETE {D}/resolutions/{{resolution_id}}",
    f"PUT {D}/settings",
    *(f"POST {D}/{action}" for action in ("promote", "deprecate", "restore", "rollback")),
    # Ingestion fills a READ_ONLY dataset, too: tests/test_ingestion.py.
    *(f"POST {D}/{path}" for path in ("ingest", "replay", "backfill", "quarantine/replay", "quarantine/discard")),
}
REFUSING = [state for state in DatasetState if state is not DatasetState.ACTIVE]


class Place(NamedTuple):
    """A dataset with something of every kind in it: people, and what the names in paths stand for."""

    world: World
    people: dict[str, User]
    names: dict[str, str]
    requests: dict[str, str]

    async def put(self, state: DatasetState) -> None:
        """The dataset in this state, with all that it has."""
        await self.world.db.execute(
            "UPDATE dataset SET state = $1, deprecated_at = CASE WHEN $1 = 'DEPRECATED' THEN now() END"
            " WHERE name = 'customers'",
            state.value,
        )

    async def everything(self) -> Mapping[str, str]:
        """A digest of every table of the dataset, and of those that hold sessions and requests."""
        schema = await self.world.db.fetchval("SELECT schema_name FROM dataset WHERE name = 'customers'")
        tables = await self.world.db.fetch(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND (table_schema = $1 OR table_schema = 'public'"
            " AND table_name NOT IN ('idempotency', 'idempotency_key'))",
            schema,
        )
        digests = " UNION ALL ".join(
            f"SELECT '{table}', md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} AS t" for (table,) in tables
        )
        return dict(await self.world.db.fetch(digests))


@pytest.fixture(scope="module")
async def place(server_url: str, template: str) -> AsyncIterator[Place]:
    """A dataset in use: with rows, drafts, an open session, and requests in every state that people act upon."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await ready(world)
            people = {
                name: (await world.user(name, role=role)).on("customers")
                for name, role in (
                    ("vera", Role.VIEWER), ("ann", Role.ANALYST), ("erin", Role.ENGINEER), ("boss", Role.ADMIN),
                )
            }  # fmt: skip
            await registered(people["erin"])
            await moved(people["boss"], "promote")
            erin, boss = people["erin"], people["boss"]
            for key in ("C1", "C2", "C3", "C4", "C5"):
                await erin.draft(key, {"company": f"Firm {key}", "tier": "gold", "revenue": 5}, op="insert")
            commit = await committed(erin)
            requests = {}
            for state, key in (("pending", "C2"), ("approved", "C3"), ("rejected", "C4"), ("closed", "C1")):
                asked = await submitted(erin, {"id": key, "delta": {"revenue": 7}}, title=state)
                requests[state] = asked["id"]
                if state in ("approved", "closed"):
                    await done(boss, asked, "approve")
                if state == "closed":
                    await done(boss, asked, "merge")
                if state == "rejected":
                    await done(boss, asked, "reject", comment="No")
            session = await begin(erin)
            await edit(erin, session, "C5", "company", "Edited")
            await erin.draft("C1", {"company": "Drafted"})
            names = {"row_id": "C1", "session_id": session["id"], "commit_id": commit["commitId"]}
            world.runtime.tailer.end()  # a stream tells what there is, and is over
            yield Place(world, people, names, requests)


def writing(world: World) -> list[Route]:
    """The routes below a dataset that are no questions, but for those of its system of record: `customers` has none."""
    below = (route for route in walk(world) if route.path.startswith(D) and "/sync/" not in route.path)
    return [route for route in below if not route.reads]


async def digest_of(place: Place, request: str) -> str:
    """What an approval or a merge of a request takes, so that nothing but the state is in its way."""
    await place.put(DatasetState.ACTIVE)
    found = await place.people["boss"].get(f"change-requests/{place.requests[request]}")
    return str(found.json()["digest"])


async def send(place: Place, route: Route, dataset: str, digests: Mapping[str, str]) -> Any:
    """The answer to a route's write."""
    body, user, request = WRITES[route.name]
    if body and body.get("digest") and request in digests:
        body = body | {"digest": digests[request]}
    at = route.at("acme", **place.names, dataset=dataset, request_id=place.requests[request])
    content = None if body is None else exact_json.encode(body)
    return await place.people[user].request(
        route.method, at, content=content, headers={"Content-Type": "application/json"}
    )


async def test_every_route_that_writes_is_entered_here(place: Place) -> None:
    assert {route.name for route in writing(place.world)} == WRITES.keys() | OTHERS


@pytest.mark.parametrize("state", REFUSING)
async def test_a_dataset_that_takes_no_edits_refuses_all_that_people_write(place: Place, state: DatasetState) -> None:
    """On every route, of what is there: 404 would say nothing. Afterwards every table is as it was."""
    digest = {name: await digest_of(place, name) for name in ("pending", "approved")}
    await place.put(state)
    before = await place.everything()
    for route in writing(place.world):
        if route.name in WRITES:
            answer = await send(place, route, "customers@1", digest)
            assert (answer.status_code, answer.json()["code"]) == (409, "DATASET_READ_ONLY"), (route.name, answer.text)
            assert answer.json()["state"] == state.value
    assert await place.everything() == before


# -- what a worker does ------------------------------------------------------------------------------------------------

LINES = {"A": van(seats=1), "B": van(seats=2)}


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """The fleet behind a system of record, pulled once; people of acme, and an ADMIN."""
    async with open_yard(database_url, Ledger(LEDGERED.text_key, LINES)) as yard:
        await yard.user("ann")
        await yard.user("boss", role=Role.ADMIN)
        await yard.work()
        yield yard


async def kept(yard: Yard) -> tuple[Any, ...]:
    """What no job may touch in a dataset that takes nothing."""
    return await yard.mirror(), await yard.changes(), await yard.revision(), await yard.quarantine()


def test_the_jobs_of_a_worker_are_these() -> None:
    """One that is new is asked here what it does to a DEPRECATED dataset."""
    assert {job.name for job in Job} == {"PULL", "PUSH", "CHECK", "UPKEEP", "INGEST"}


async def test_a_deprecated_dataset_is_neither_pulled_nor_pushed_until_it_is_restored(yard: Yard) -> None:
    ann, boss = yard.users["ann"], yard.users["boss"]
    await ann.draft("A", {"seats": 9})
    await committed(ann)
    await moved(boss, "deprecate")
    before = await kept(yard)
    yard.ledger.put("C", **van(seats=3))
    for path in ("sync/pull", "sync/push", "sync/retry"):
        body = {"all": True} if path == "sync/retry" else {}
        refused(await boss.on("fleet@1").post(path, body), 409, "DATASET_READ_ONLY")
    await yard.later(days=2)
    assert await kept(yard) == before
    assert yard.ledger.rows["A"]["seats"] == 1
    assert written(await boss.on("fleet@1").post("sync/check", {}), 202)["runId"]
    await moved(boss, "restore")
    await yard.later(days=2)
    assert yard.ledger.rows["A"]["seats"] == 9
    assert sorted(await yard.mirror()) == ["A", "B", "C"]
    await yard.check()


async def test_a_pull_under_way_writes_nothing_more_once_its_dataset_is_deprecated(yard: Yard) -> None:
    boss = yard.users["boss"]
    for number in range(5):
        yard.ledger.put(f"N{number}", **van(seats=number))
    before = await yard.mirror()

    async def deprecate() -> None:
        await moved(boss, "deprecate")

    yard.ledger.after["page"] = [deprecate]
    assert (await boss.post("sync/pull", {"full": True})).status_code == 202
    await yard.work()
    assert await yard.mirror() == before
    assert [run["error_code"] for run in await yard.runs()].count("DATASET_READ_ONLY") == 1
    await moved(boss, "restore")
    await yard.later(days=2)
    assert len(await yard.mirror()) == 7


async def test_what_was_on_its_way_when_its_dataset_was_deprecated_is_settled_and_nothing_else(yard: Yard) -> None:
    """Upstream has it already: what became of it is the truth, and nobody's edit."""
    ann, boss = yard.users["ann"], yard.users["boss"]
    await ann.draft("A", {"seats": 8})
    await committed(ann)

    async def deprecate() -> None:
        await ann.draft("B", {"seats": 9})
        await committed(ann)
        await moved(boss, "deprecate")

    yard.ledger.after["write"] = [deprecate]
    await yard.work()
    await yard.later(days=2)
    assert (yard.ledger.rows["A"]["seats"], yard.ledger.rows["B"]["seats"]) == (8, 2)
    assert await yard.changes() == [("A", "update", "synced"), ("B", "update", "committed")]
    assert (await yard.mirror())["A"]["seats"] == 8


async def test_sessions_end_and_requests_close_whatever_the_state(yard: Yard) -> None:
    """Time goes on in a DEPRECATED dataset, too; rows and what people have drafted stay."""
    ann, boss = yard.users["ann"], yard.users["boss"]
    session = await drafted(ann, {"id": "A", "delta": {"seats": 5}})
    await moved(boss, "deprecate")
    before = await kept(yard)
    await yard.later(days=2)
    assert await kept(yard) == before
    assert (await ann.on("fleet@1").get(f"sessions/{session['id']}")).json()["status"] == "expired"
    assert [row["delta"] for row in (await ann.on("fleet@1").get("drafts")).json()["data"]] == [{"seats": 5}]


async def test_the_same_dataset_of_another_organization_goes_on(yard: Yard) -> None:
    boss = yard.users["boss"]
    await yard.world.organization("rival", [LEDGERED])
    other = (await yard.world.user("eve", "rival", Role.ADMIN)).on("fleet")
    await moved(boss, "deprecate")
    await other.draft("A", van(seats=1), op="insert")
    assert (await other.commit()).status_code == 200
    assert (await other.get("rows")).status_code == 200
    assert (await boss.get("rows")).status_code == 404


# -- who reads it ------------------------------------------------------------------------------------------------------


def reading(world: World) -> list[Route]:
    """The routes below a dataset that only ask."""
    return [route for route in walk(world) if route.path.startswith(D) and route.reads]


async def ask(user: User, place: Place, route: Route, dataset: str, **params: str) -> Any:
    """The answer to a question about what there is."""
    names = {**place.names, "dataset": dataset, "request_id": place.requests["pending"]}
    if route.path.endswith(("/changes", "/events")):
        params |= {"since": "earliest"}
    asked = {} if route.method == "GET" else {"content": b"{}", "headers": {"Content-Type": "application/json"}}
    return await user.request(route.method, route.at("acme", **names), params=params, **asked)


async def test_a_version_in_shadow_is_404_on_every_route_to_those_who_may_not_see_it(place: Place) -> None:
    """Just like a dataset that there is not."""
    await place.put(DatasetState.SHADOW)
    for route in reading(place.world):
        for name in ("vera", "ann"):
            for dataset in ("customers", "customers@1"):
                for params in ({}, {"includeDeprecated": "true"}):
                    answer = await ask(place.people[name], place, route, dataset, **params)
                    code = answer.json()["code"]
                    assert (answer.status_code, code) in ((404, "DATASET_NOT_FOUND"), (403, "FORBIDDEN")), route.name
                    if code == "FORBIDDEN":
                        nowhere = await ask(place.people[name], place, route, "no_such_thing", **params)
                        assert nowhere.json()["detail"] == answer.json()["detail"]
        for name in ("erin", "boss"):
            answer = await ask(place.people[name], place, route, "customers")
            assert answer.status_code == 200 or answer.json()["code"] not in ("DATASET_NOT_FOUND",), route.name


async def test_a_version_in_shadow_is_told_nowhere_to_those_who_may_not_see_it(world: World) -> None:
    await ready(world)
    people = {role: (await world.user(role.value.lower(), role=role)).on("secret_thing") for role in Role}
    await registered(people[Role.ENGINEER], customers(name="secret_thing"))
    for role, user in people.items():
        told = ""
        for path in ("datasets", "contracts", "changes?since=earliest", "datasets?includeDeprecated=true"):
            answer = await user.get(f"/api/v1/orgs/acme/{path}")
            assert answer.status_code == 200, answer.text
            told += answer.text
        told += (await user.get("/api/auth/me")).text
        assert ("secret_thing" in told) == (role >= Role.ENGINEER), role


@pytest.mark.parametrize("state", [DatasetState.READ_ONLY, DatasetState.ACTIVE])
async def test_one_that_is_used_is_read_by_everybody(place: Place, state: DatasetState) -> None:
    await place.put(state)
    for route in reading(place.world):
        for user in place.people.values():
            answer = await ask(user, place, route, "customers")
            assert answer.status_code < 500
            assert answer.status_code == 200 or answer.json()["code"] != "DATASET_NOT_FOUND", (route.name, answer.text)


async def test_a_deprecated_one_is_read_by_who_asks_for_it_alone(place: Place) -> None:
    await place.put(DatasetState.DEPRECATED)
    for route in reading(place.world):
        for user in place.people.values():
            plain = await ask(user, place, route, "customers")
            if route.path != f"{D}/state" and plain.status_code != 403:
                assert (plain.status_code, plain.json()["code"]) == (404, "DATASET_NOT_FOUND"), route.name
            named = await ask(user, place, route, "customers@1")
            asked = await ask(user, place, route, "customers", includeDeprecated="true")
            for answer in (named, asked):
                assert answer.status_code < 500
                assert answer.status_code == 200 or answer.json()["code"] != "DATASET_NOT_FOUND", route.name
    listed = [each["name"] for each in (await place.people["vera"].get("/api/v1/orgs/acme/datasets")).json()["data"]]
    assert listed == ["fleet", "pfa"]


async def test_a_contract_that_says_read_only_starts_there_and_stays(world: World) -> None:
    await ready(world)
    erin, boss = [
        (await world.user(name, role=role)).on("customers")
        for name, role in (("erin", Role.ENGINEER), ("boss", Role.ADMIN))
    ]
    assert (await registered(erin, customers(readOnly=True)))["state"] == "READ_ONLY"
    refused(await erin.post("drafts", EDITED), 409, "DATASET_READ_ONLY")
    for action in ("promote", "deprecate", "restore", "rollback"):
        refused(await boss.post(action, {"reason": "as the test has it"}), 400, "INVALID_TRANSITION")
    assert (await (await world.user("vera", role=Role.VIEWER)).on("customers").get("rows")).status_code == 200
