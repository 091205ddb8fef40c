"""Uploads: what `POST D/ingest` and `POST contracts/infer` take for records, and what they refuse."""

import pytest

from app.web.auth import Role
from tests.support.own import moved, ready, registered
from tests.support.world import User, World, refused, written

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
