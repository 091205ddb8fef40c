"""What people are called: the list of an organization's people, and a name beside each id on the wire.

A new member of an answer that names somebody has to stand in PEOPLE, or in NOBODY with the reason.
"""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from app import members, people
from app.base import exact_json
from app.web.auth import Account, Role
from tests.conftest import new_database
from tests.support.joining import MEASURED
from tests.support.own import moved, ready, registered
from tests.support.querying import executed, previewed
from tests.support.records import add_run, begin_session, connect, quarantine, settle
from tests.support.requests import done, submitted
from tests.support.routes import walk
from tests.support.world import FLEET, User, World, line, open_world, refused, vehicle, written
from tests.test_auth import federated, foreign, provider
from tests.test_plans import PLANNED, nodes_of, touched

__all__ = ["federated", "provider"]

ACME_PEOPLE = "/api/v1/orgs/acme/people"

# Where a person is named, and where the name stands. A list of people has a list of their names, in the same order.
PEOPLE = {
    "modifiedBy": "modifiedByName",
    "actor": "actorName",
    "userId": "userName",
    "user": "userName",
    "by": "byName",
    "author": "authorName",
    "approver": "approverName",
    "approvers": "approverNames",
    "approvedBy": "approvedByNames",
    "draftedBy": "draftedByName",
    "mergedBy": "mergedByName",
    "decidedBy": "decidedByName",
    "registeredBy": "registeredByName",
    "requestedBy": "requestedByName",
    "invitedBy": "invitedByName",
    "owner": "ownerName",
    "createdBy": "createdByName",
    "mappedBy": "mappedByName",
    "acceptedBy": "acceptedByName",
    "deprecatedBy": "deprecatedByName",
}
SUSPECT = re.compile(
    r"(?i).*(by|actor|author|approver|reviewer|owner|user|userid|person|people|account|editor|assignee)s?"
)
# What only looks like somebody.
NOBODY = {
    ("ShownMeasure", "by"): "a column",
    ("Query", "groupBy"): "columns",
    ("ModeAnswer", "changedBy"): "of no organization: operators alone read it, and it is the name already",
    ("Ticket", "user"): "oneself, with a name",
}
# What the contract's fields, and not we, name the members of.
DOCUMENTS = {"base", "delta", "pending", "before", "after", "theirs", "mine", "received", "contract", "columns"}

BIDI = "\u202eeve\u2066\x01\x7f<b onclick=alert(1)>&amp;\"'\\"
FORMULA = '=HYPERLINK("http://x")'


def is_person(name: str, schema: Any) -> bool:
    """Whether a member of an answer names people by their ids: texts, and no objects."""
    return bool(SUSPECT.fullmatch(name)) and "'string'" in str(schema) and "'$ref'" not in str(schema)


def answered(document: dict[str, Any]) -> Iterator[str]:
    """The names of all schemas of what routes answer when all is well."""
    known = document["components"]["schemas"]
    waiting = [
        name
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict)
        for status, answer in operation.get("responses", {}).items()
        if status.startswith("2")
        for name in references(answer)
    ]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            waiting += references(known[name])


def references(schema: Any) -> list[str]:
    """The schemas that one names."""
    return re.findall(r"'#/components/schemas/([^']+)'", str(schema))


async def test_every_schema_that_names_somebody_has_the_name_beside(world: World) -> None:
    document = world.application.app.openapi_schema.to_schema()
    found = set()
    for schema in answered(document):
        properties = document["components"]["schemas"][schema].get("properties", {})
        for name, described in properties.items():
            if not is_person(name, described) or (schema, name) in NOBODY:
                continue
            if "additionalProperties" in str(described):  # {id, name}, as events of the feed have it
                assert (schema, name) == ("feed_reader_Event", "actor")
                continue
            assert name in PEOPLE, f"{schema}.{name}: does it name a person? Then it stands in PEOPLE, else in NOBODY."
            beside = properties.get(PEOPLE[name])
            assert beside is not None, f"{schema}.{name} has no {PEOPLE[name]} beside it."
            assert "'null'" in str(beside), f"{schema}.{PEOPLE[name]} is null where no name is known."
            assert ("'array'" in str(beside)) == ("'array'" in str(described))
            found.add(name)
    assert found == PEOPLE.keys() - {"draftedBy", "approvedBy"}, "these two are in explain, of which no schema tells"


# -- what is answered --------------------------------------------------------------------------------------------------


def told(value: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every member of an answer that names people: where it is, whom, and what they are called."""
    if isinstance(value, list):
        for each in value:
            yield from told(each, at)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in PEOPLE and isinstance(each, str | list) and not (name == "by" and "of" in value):
                # What explains a value tells what is known alone.
                assert PEOPLE[name] in value or at.endswith("/explain"), f"{at}: no {PEOPLE[name]} beside {name}"
                yield f"{at}/{name}", each, value.get(PEOPLE[name])
            elif name in PEOPLE and isinstance(each, dict) and each.keys() == {"id", "name"}:
                yield f"{at}/{name}{{}}", each["id"], each["name"]
            elif name not in DOCUMENTS and not (name == "data" and isinstance(each, dict)):
                yield from told(each, f"{at}/{name}" if name == "explain" else at)


def name_of(person: str | None) -> str | None:
    """What somebody is called in this world."""
    return {"ann": "Ann Alpha", "bob": "Bob Beta", "boss": FORMULA}.get(person or "")


@pytest.fixture(scope="module")
async def house(server_url: str, template: str) -> AsyncIterator[World]:
    """acme, in which ann, bob and boss have done everything that is told with a name; zoe did some of it and has left,
    and eve, of another organization, has put her id wherever one can.
    """
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await world.organization("rival")
            await ready(world)
            ann, bob, zoe = [await world.user(name) for name in ("ann", "bob", "zoe")]
            boss = await world.user("boss", role=Role.ADMIN)
            await world.user("eve", "rival")
            for person in ("ann", "bob", "boss"):
                await world.db.execute("UPDATE account SET name = $2 WHERE id = $1", person, name_of(person))
            await world.db.execute("UPDATE account SET name = 'A stranger' WHERE id = 'eve'")
            invitee = {"email": "nina@example.com", "role": "VIEWER"}
            assert (await boss.post("/api/v1/orgs/acme/invitations", invitee)).status_code == 201
            await world.mirror({key: line() for key in "ABCD"})
            await world.mirror({key: vehicle() for key in "ABC"}, contract=FLEET)
            for user, key in ((bob, "B"), (zoe, "B"), (zoe, "C"), (ann, "D")):
                await user.draft(key, {"model": user.id})
                assert (await user.commit(key)).is_success
            await settle(world, "C", "sync_error", "no")
            await settle(world, "D", "conflict", "no")
            await ann.draft("A", {"model": "x"})
            # A request that is merged, one in review that is approved, and one that names a stranger.
            first = await submitted(ann.on("fleet"), {"id": "A", "delta": {"seats": 5}}, approvers=("bob",))
            await done(bob.on("fleet"), first, "approve")
            await done(bob.on("fleet"), first, "comments", text="Fine.")
            await done(bob.on("fleet"), first, "merge")
            second = await submitted(ann.on("fleet"), {"id": "B", "delta": {"seats": 6}}, approvers=("bob", "boss"))
            await done(bob.on("fleet"), second, "approve")
            await world.db.execute(
                "UPDATE change_request SET approvers = '{bob,eve,zoe}', validation = validation || $2 WHERE id = $1",
                second["id"], exact_json.encode({"decidedBy": "ann", "reason": "so"}).decode(),
            )  # fmt: skip
            await begin_session(world, ann, "s1")
            await ann.post("drafts", {"sessionId": "s1", "modifications": [{"id": "B", "delta": {"model": "mine"}}]})
            assert (await ann.post("sessions/s1/preview", {})).is_success
            await world.db.execute("UPDATE validation_run SET decided_by = 'bob', reason = 'so'")
            await connect(world, paused_at=world.clock(), paused_by="bob")
            for number, asking in enumerate(("ann", "zoe", "eve", None)):
                await add_run(world, id=f"8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d1{number}", requested_by=asking)
            await quarantine(
                world, "Q", {}, {"code": "X", "message": "x"},
                discarded_at=world.clock(), discarded_by="boss", discard_reason="so",
            )  # fmt: skip
            await world.db.execute(
                "INSERT INTO resolution"
                " (organization_id, id, dataset, row_key, field, base, theirs, mine, use, actor, at) VALUES"
                " ('acme', gen_random_uuid(), 'pfa', 'A', 'model', '1', '2', '3', 'mine', 'boss', now())"
            )
            await registered(boss)
            await moved(boss.on("customers"), "promote")
            # A report of drift that somebody asked for and somebody decided, and a field that is mapped by it.
            drift = "/api/v1/orgs/acme/contracts/customers/drift"
            report = written(await boss.post(drift, {"sample": [{"customerId": "C", "companyName": "x"}]}), 201)["id"]
            assert written(await boss.post(f"{drift}/{report}/reject", {"reason": "so"}))["decidedBy"] == "boss"
            await world.db.execute(
                "INSERT INTO field_mapping VALUES ('acme', 'customers', 'company', 'companyName', $1, 'boss', now())",
                report,
            )
            # What ann, and zoe, asked and ran.
            for user in (ann, zoe):
                run = (await executed(user, await previewed(user, {"dataset": "fleet"}))).json()["executionId"]
                KNOWN.setdefault("execution", run)
            joined = await world.db.fetchval(
                "INSERT INTO dataset_join (organization_id, id, version, child, child_fields, parent, parent_fields,"
                " state, rationale, confidence, statistics, accepted_by, accepted_at, deprecated_by, deprecated_at)"
                " VALUES ('acme', gen_random_uuid(), 1, 'pfa', '{dor}', 'customers', '{company}', 'deprecated', 'so',"
                " 1, $1, 'boss', now(), 'ann', now()) RETURNING id",
                MEASURED,
            )
            await members.end_membership(world.runtime.database, "acme", "zoe")
            world.runtime.tailer.end()
            KNOWN.update(request_id=second["id"], merged_id=first["id"], report=report, join_id=str(joined))
            yield world


KNOWN = {
    "row_id": "B",
    "run_id": "8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d10",
    "session_id": "s1",
    "dataset": "pfa",
    "version": "1.0",
}
QUERIES = {
    "/rows": "?include=overlap,layers,deleted",
    "/rows/{row_id}": "?include=overlap,explain",
    "/changes": "?since=earliest",
    "/diff": "",
}


async def everything(user: User) -> list[tuple[str, str, Any, Any]]:
    """Whom each GET of the organization names: its path, the member, the id, the name."""
    found: list[tuple[str, str, Any, Any]] = []
    for dataset in ("pfa", "fleet", "customers"):
        for request in (KNOWN["request_id"], KNOWN["merged_id"]):
            for row in ("A", "B"):
                for route in walk(user.world):
                    if route.method != "GET" or "{org}" not in route.path or route.path.endswith(("events", "export")):
                        continue
                    query = next((QUERIES[end] for end in QUERIES if route.path.endswith(end)), "")
                    names = KNOWN | {"dataset": dataset, "row_id": row, "request_id": request}
                    response = await user.get(route.at("acme", **names) + query)
                    if response.is_success and response.headers["Content-Type"].startswith("application/json"):
                        found += [(route.path, *each) for each in told(response.json())]
    return found


async def test_every_answer_tells_members_by_name_and_nobody_else(house: World) -> None:
    found = [each for name in ("boss", "ann") for each in await everything(again(house, name))]
    for path, member, person, name in found:
        if isinstance(person, list):
            assert name == [name_of(each) for each in person], (path, member)
        else:
            assert name == name_of(person), (path, member, person)
    named = {member.rpartition("/")[2] for _, member, _, name in found if name}
    assert named == PEOPLE.keys() | {"actor{}"}
    unnamed = {person for _, _, person, name in found if name is None and isinstance(person, str)}
    assert unnamed == {"zoe", "eve"}, "who has left, and who never was here"


def again(world: World, name: str) -> User:
    """A member of acme who is in the world already."""
    role = Role.ADMIN if name == "boss" else Role.ANALYST
    account = Account(id=name, email=f"{name}@example.com", name=name, operator=False, roles={"acme": role})
    return User(world, name, "acme", world.runtime.auth.issue(account))


async def test_an_id_that_somebody_gives_tells_nothing_of_a_stranger(house: World) -> None:
    """Approvers are given by whoever submits; the refusal does not tell a stranger from nobody."""
    ann = again(house, "ann").on("fleet")
    session = await ann.post("sessions", {"mode": "full_table"})
    await ann.post("drafts", {"sessionId": session.json()["id"], "modifications": [{"id": "C", "delta": {"seats": 9}}]})
    digest = (await ann.post(f"sessions/{session.json()['id']}/preview", {})).json()["digest"]
    problems = []
    for stranger in ("eve", "xyz"):
        body = {"title": "T", "digest": digest, "approvers": [stranger]}
        response = await ann.post(f"sessions/{session.json()['id']}/submit", body)
        refused(response, 422, "VALIDATION_FAILED")
        assert "stranger" not in response.text
        problems.append(response.json()["errors"][0]["message"].replace(stranger, "_"))
    assert problems[0] == problems[1]
    given = await again(house, "boss").get("/api/v1/orgs/acme/audit", {"actor": "eve"})
    assert given.json()["data"] == []


async def test_a_provider_that_says_it_is_somebodys_id_learns_no_name(federated: World) -> None:
    """An organization's identity provider makes what subjects it likes, an account's of another organization, too."""
    world = federated
    await world.organization("acme")
    await world.organization("rival")
    await world.db.execute("INSERT INTO account (id, email, name) VALUES ('eve', 'eve@example.com', 'A stranger')")
    await world.db.execute(
        "INSERT INTO membership (organization_id, account_id, role) VALUES ('rival', 'eve', 'VIEWER')"
    )
    await world.db.execute("UPDATE organization SET managed_by_identity_provider = TRUE WHERE id = 'acme'")
    forged = User(world, "eve", "acme", foreign(world, sub="eve", name="x"))
    await world.mirror({"A": line()})
    await forged.draft("A", {"model": "x"})
    row = await forged.row("A")
    assert (row["modifiedBy"], row["modifiedByName"]) == ("eve", None)
    assert (await forged.get(ACME_PEOPLE)).json() == {"data": [], "nextCursor": None}
    assert (await forged.commit()).is_success
    events = (await forged.get("/api/v1/orgs/acme/changes", {"since": "earliest"})).json()["data"]
    assert {event["actor"]["name"] for event in events if event["actor"]} == {None}


async def test_whoever_leaves_is_not_named_any_more(world: World) -> None:
    ann, boss = await world.user("ann"), await world.user("boss", role=Role.ADMIN)
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await ann.on("fleet").draft("A", {"seats": 7})
    assert (await ann.on("fleet").commit()).is_success

    async def actor() -> tuple[Any, Any]:
        entry = (await boss.on("fleet").get("rows/A/history")).json()["data"][0]
        return entry["actor"], entry["actorName"]

    assert await actor() == ("ann", "ann")
    await members.end_membership(world.runtime.database, "acme", "ann")
    assert await actor() == ("ann", None)
    await world.db.execute("DELETE FROM account WHERE id = 'ann'")
    assert await actor() == ("ann", None)


# -- the list ----------------------------------------------------------------------------------------------------------


async def people_of(user: User, **params: Any) -> list[tuple[str, str]]:
    """All pages of the list."""
    found: list[tuple[str, str]] = []
    while True:
        response = await user.get(ACME_PEOPLE, params)
        assert response.status_code == 200, response.text
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers
        answer = response.json()
        assert all(each.keys() == {"id", "name"} for each in answer["data"])
        found += [(each["name"], each["id"]) for each in answer["data"]]
        if answer["nextCursor"] is None:
            return found
        params["after"] = answer["nextCursor"]


async def test_people_are_listed_by_name_and_then_by_id(world: World) -> None:
    viewer = await world.user("viewer", role=Role.VIEWER)
    names = {"c": "Same", "b": "Same", "a": "Same", "d": "", "e": BIDI, "f": FORMULA, "g": "Äpfel", "h": "\n"}
    for person, name in names.items():
        await world.user(person)
        await world.db.execute("UPDATE account SET name = $2 WHERE id = $1", person, name)
    await world.organization("rival")
    await world.user("eve", "rival")
    expected = sorted([*((name, person) for person, name in names.items()), ("viewer", "viewer")])
    assert await people_of(viewer) == expected
    for limit in (1, 2, 3):
        assert await people_of(viewer, limit=limit) == expected
    await members.end_membership(world.runtime.database, "acme", "a")
    assert await people_of(viewer, limit=2) == [each for each in expected if each[1] != "a"]


async def test_a_name_is_told_as_it_is_stored(world: World) -> None:
    """Escaped as JSON asks, and never as anything else: whoever shows it, escapes it for where it is shown."""
    ann = await world.user("ann")
    await world.db.execute("UPDATE account SET name = $1 WHERE id = 'ann'", BIDI)
    await world.mirror({"A": line()})
    await ann.draft("A", {"model": "x"})
    texts = [(await ann.get(path)).content for path in ("rows", "rows/A", "drafts", ACME_PEOPLE)]
    for text in texts:
        assert exact_json.encode(BIDI)[1:-1] in text or BIDI in str(exact_json.decode(text))
        assert b"\x01" not in text, "no control character as such"
    assert (await ann.rows())[0]["modifiedByName"] == BIDI


async def test_a_page_of_people_takes_what_pages_take(world: World) -> None:
    ann = await world.user("ann")
    await world.user("bob")
    for query in ({"limit": "0"}, {"limit": "201"}, {"limit": "x"}, {"page": "1"}, {"role": "ADMIN"}):
        refused(await ann.get(ACME_PEOPLE, query), 400, "INVALID_FILTER")
    cursor = (await ann.get(ACME_PEOPLE, {"limit": 1})).json()["nextCursor"]
    refused(await ann.get("change-requests", {"after": cursor}), 400, "INVALID_CURSOR")
    await world.organization("rival")
    eve = await world.user("eve", "rival")
    refused(await eve.get("/api/v1/orgs/rival/people", {"after": cursor}), 400, "INVALID_CURSOR")
    refused(await eve.get(ACME_PEOPLE), 403, "FORBIDDEN")
    await world.db.execute("UPDATE incarnation SET number = number + 1")
    refused(await ann.get(ACME_PEOPLE, {"after": cursor}), 400, "INVALID_CURSOR")


async def test_ten_thousand_people_are_paged_through(world: World, database_url: str) -> None:
    """Beside an organization of a hundred, whose page reads a hundred accounts and no others."""
    ann = await world.user("ann", role=Role.VIEWER)
    await world.organization("small")
    await world.db.execute(
        "INSERT INTO account (id, email, name)"
        " SELECT 'p' || i, 'p' || i || '@example.com', 'Person ' || i % 100 FROM generate_series(1, 20000) AS i"
    )
    await world.db.execute(
        "INSERT INTO membership (organization_id, account_id, role)"
        " SELECT 'acme', 'p' || i, 'VIEWER' FROM generate_series(1, 10000) AS i"
        " UNION ALL SELECT 'small', 'p' || i, 'VIEWER' FROM generate_series(1, 20000, 200) AS i"
    )
    await world.db.execute("VACUUM ANALYZE account")
    await world.db.execute("VACUUM ANALYZE membership")
    found = await people_of(ann, limit=200)
    assert len(found) == 10_001
    assert found == sorted(found)
    for organization, most in (("small", 100), ("acme", 10_001)):
        given = {"organization": organization, "after": "", "after_id": "", "limit": 201}
        connection = await asyncpg.connect(database_url)
        await connection.execute(PLANNED)
        nodes = await nodes_of(connection, people.LIST_PEOPLE.text, people.LIST_PEOPLE.bind(given))
        await connection.close()
        assert max(touched(node) for node in nodes if "Relation Name" in node) <= most
        assert not [
            node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] != "incarnation"
        ]
