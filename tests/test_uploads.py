"""Uploads: what `POST D/ingest` and `POST contracts/infer` take for records, and what they refuse."""

import gzip
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.base.places import holder
from app.web.auth import Role
from tests.support.ingesting import work
from tests.support.own import moved, ready, registered
from tests.support.world import User, World, open_world, refused, written

INFER = "/api/v1/orgs/acme/contracts/infer"


@pytest.fixture
async def bob(world: World) -> User:
    """An ADMIN, with a dataset in use."""
    await ready(world)
    bob = (await world.user("bob", role=Role.ADMIN)).on("customers")
    await registered(bob)
    await moved(bob, "promote")
    return bob


@pytest.mark.parametrize("path", ["ingest", INFER])
async def test_where_the_header_has_two_readings_the_delimiter_is_named(bob: User, path: str) -> None:
    csv = {"content": b"customerId;company,tier\nC1;Acme,gold\n", "headers": {"Content-Type": "text/csv"}}
    problem = refused(await bob.request("POST", path, **csv), 400, "MALFORMED_REQUEST")
    assert "delimiter" in problem["detail"]
    refused(await bob.request("POST", path, params={"delimiter": "x"}, **csv), 400, "MALFORMED_REQUEST")
    named = await bob.request("POST", path, params={"delimiter": ";"}, **csv)
    assert named.status_code == (202 if path == "ingest" else 200)


async def test_a_parameter_that_ingestion_does_not_have_takes_nothing_in(bob: User) -> None:
    answer = await bob.request("POST", "ingest", params={"dryRun": "true"}, json={"records": [{"customerId": "C1"}]})
    refused(answer, 400, "INVALID_FILTER")
    assert await bob.rows() == []


@pytest.mark.parametrize("name", ["A-B", "pfa", "x" * 41, "", " ", "things@2", "pfa@1", "1st", "ä"])
async def test_no_contract_is_proposed_under_a_name_that_does_not_register(bob: User, name: str) -> None:
    csv = {"content": b"code,n\nA,1\nB,2\n", "headers": {"Content-Type": "text/csv"}}
    problem = refused(await bob.request("POST", INFER, params={"name": name}, **csv), 400, "INVALID_FILTER")
    assert [error["parameter"] for error in problem["errors"]] == ["name"]


@pytest.mark.parametrize("name", ["x" * 40, "a_b", "id"])
async def test_a_contract_is_proposed_under_the_name_that_is_given(bob: User, name: str) -> None:
    csv = {"content": b"code,n\nA,1\nB,2\n", "headers": {"Content-Type": "text/csv"}}
    contract = (await bob.request("POST", INFER, params={"name": name}, **csv)).json()["contract"]
    assert contract["name"] == name
    await registered(bob, contract)


async def test_what_is_refused_leaves_nothing(world: World, bob: User) -> None:
    async def send(content: bytes, kind: str = "text/csv", **more: str) -> object:
        headers = {"Content-Type": kind, **more}
        answer = await bob.request("POST", "ingest", content=content, headers=headers)
        return answer.status_code, answer.json()["code"]

    assert await send(b"a", "text/plain") == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await send(b"a", **{"Content-Encoding": "br"}) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await send(b"a", **{"Content-Encoding": "gzip"}) == (400, "MALFORMED_REQUEST")
    assert await send(b"customerId\n\xff\n") == (400, "MALFORMED_REQUEST")
    assert await send(b"customerId,customerId\n1,2\n") == (400, "MALFORMED_REQUEST")
    assert await send(b"customerId\n") == (422, "VALIDATION_FAILED")
    assert await send(b"", "application/x-ndjson") == (422, "VALIDATION_FAILED")
    assert await world.db.fetchval("SELECT count(*) FROM received") == 0
    assert await world.db.fetchval("SELECT count(*) FROM sync_run") == 0


async def test_an_upload_with_a_key_is_received_once(world: World, bob: User) -> None:
    csv = {"content": b"customerId\nC1\n", "headers": {"Content-Type": "text/csv", "Idempotency-Key": "k"}}
    first, again = [written(await bob.request("POST", "ingest", **csv), 202) for _ in range(2)]
    assert first["runId"] == again["runId"]
    assert await world.db.fetchval("SELECT count(*) FROM received") == 1
    another = csv | {"content": b"customerId\nC2\n"}
    refused(await bob.request("POST", "ingest", **another), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_an_upload_that_is_repeated_gets_its_first_answer_in_any_mode_of_the_system(
    world: World, bob: User
) -> None:
    csv = {"content": b"customerId\nC1\n", "headers": {"Content-Type": "text/csv", "Idempotency-Key": "k"}}
    first = written(await bob.request("POST", "ingest", **csv), 202)
    await world.db.execute("UPDATE system SET mode = 'READ_ONLY'")
    assert written(await bob.request("POST", "ingest", **csv), 202) == first
    csv["headers"] = {"Content-Type": "text/csv", "Idempotency-Key": "another"}
    refused(await bob.request("POST", "ingest", **csv), 409, "SYSTEM_READ_ONLY")


async def test_an_answer_that_is_kept_for_too_long_is_no_answer(world: World, bob: User) -> None:
    csv = {"content": b"customerId\nC1\n", "headers": {"Content-Type": "text/csv", "Idempotency-Key": "k"}}
    first = written(await bob.request("POST", "ingest", **csv), 202)
    await world.db.execute("UPDATE idempotency_key SET created_at = created_at - interval '1 day 1 second'")
    assert written(await bob.request("POST", "ingest", **csv), 202)["runId"] != first["runId"]


GZIP = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}


async def received(world: World) -> tuple[int, int]:
    """How many records and runs there are."""
    counts = "SELECT (SELECT count(*) FROM received), (SELECT count(*) FROM sync_run)"
    records, runs = await world.db.fetchrow(counts) or (0, 0)
    return int(records), int(runs)


async def test_an_upload_may_be_packed(world: World, bob: User) -> None:
    records = b'{"customerId":"C1"}\n' * 50_000
    written(await bob.request("POST", "ingest", content=gzip.compress(records), headers=GZIP), 202)
    assert await received(world) == (50_000, 1)


async def test_an_upload_is_unpacked_up_to_its_limit_only(database_url: str) -> None:
    async with open_world(database_url, max_upload_bytes=100_000) as world:
        await world.organization("acme")
        await ready(world)
        bob = (await world.user("bob", role=Role.ADMIN)).on("customers")
        await registered(bob)
        bob = bob.on("customers@1")
        bomb = gzip.compress(b"\n" * 100_000_000)
        refused(await bob.request("POST", "ingest", content=bomb, headers=GZIP), 413, "PAYLOAD_TOO_LARGE")
        plain = b'{"customerId":"C1"}\n' * 5_001
        ndjson = {"Content-Type": "application/x-ndjson"}
        refused(await bob.request("POST", "ingest", content=plain, headers=ndjson), 413, "PAYLOAD_TOO_LARGE")
        assert await received(world) == (0, 0)
        packed = gzip.compress(plain[:100_000])
        for broken in (packed[:-1], packed + b"x", packed + packed):
            refused(await bob.request("POST", "ingest", content=broken, headers=GZIP), 400, "MALFORMED_REQUEST")
        written(await bob.request("POST", "ingest", content=plain[:100_000], headers=ndjson), 202)


async def test_a_client_that_leaves_has_left_nothing(world: World, bob: User) -> None:
    """And whoever waits for the rest of its body has no connection of the database."""
    path = "/api/v1/orgs/acme/datasets/customers/ingest"
    messages: list[Any] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"customerId":"C1"}\n' * 10_000, "more_body": True},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        places = world.runtime.settings.pool_size
        holder.set(None)  # beyond what is bob's
        async with AsyncExitStack() as all_of_them:
            for _ in range(places):
                await all_of_them.enter_async_context(world.runtime.database.connection())
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [
            (b"host", b"a"), (b"authorization", f"Bearer {bob.token}".encode()),
            (b"content-type", b"application/x-ndjson"),
        ],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await world.application(scope, receive, send)
    assert sent[0]["status"] == 400
    assert await received(world) == (0, 0)


async def test_records_that_are_none_are_kept_and_put_aside(world: World, bob: User) -> None:
    """Each with its line; those around them become rows."""
    lines = [
        b'{"customerId":"C1"}',
        b'{"customerId":"C2","customerId":"C3"}',
        b'{"customerId":"\\ud800"}',
        b'{"customerId":"C\\u0000"}',
        b"[" * 10_000,
        b'{"customerId":"C4","revenue":1e400}',
        b'{"customerId":{"a":1}}',
        b'{"customerId":"' + b"K" * 300 + b'"}',
        b'{"customerId":"C5"} trailing',
        b'"text"',
        b'{"customerId":"C6"}',
    ]
    sent = {"content": b"\r\n".join(lines), "headers": {"Content-Type": "application/x-ndjson"}}
    run = written(await bob.request("POST", "ingest", **sent), 202)["runId"]
    await work(world)
    counts = (await bob.get(f"sync/runs/{run}")).json()["counts"]
    assert (counts["read"], counts["inserted"], counts["quarantined"]) == (11, 2, 9)
    found = (await bob.get("quarantine")).json()["data"]
    assert [entry["line"] for entry in found] == list(range(2, 11))
    assert all(entry["raw"] for entry in found)
    assert [row["id"] for row in await bob.rows()] == ["C1", "C6"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"records":[{"customerId":"\\ud800"}]}',
        b'{"records":[]}',
        b'{"records":{}}',
        b'{"records":[1]}',
        b'{"records":[{}],"more":1}',
        b"[]",
        b"{",
        b'{"records":[' + b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_list_of_records_is_refused(world: World, bob: User, body: bytes) -> None:
    answer = await bob.request("POST", "ingest", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 422), answer.text
    assert await received(world) == (0, 0)
