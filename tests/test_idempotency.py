"""Idempotency-Key: a request sent again gets its first answer again, refusals too, for a day."""

import asyncio
from typing import Any

import httpx
import pytest

from app.base.errors import Kind, VanguardError
from app.web.auth import Account, Role
from tests.support.ingesting import NDJSON, people_of, used
from tests.support.world import FLEET, User, World, line, refused, vehicle, written


async def keyed(user: User, path: str, body: Any, key: str = "k1") -> httpx.Response:
    """A POST with an Idempotency-Key."""
    return await user.post(path, body, headers={"Idempotency-Key": key})


def batch(key: str = "A", **delta: Any) -> dict[str, Any]:
    return {"modifications": [{"id": key, "delta": delta}]}


async def test_the_same_request_gets_the_same_answer_and_acts_once(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    first = await keyed(ann, "drafts", batch(model="M"))
    assert first.json()["saved"][0]["version"] == 1
    await ann.discard()
    again = await keyed(ann, "drafts", batch(model="M"))
    assert (again.status_code, again.content, again.headers["Content-Type"]) == (
        200, first.content, first.headers["Content-Type"],
    )  # fmt: skip
    assert (await ann.get("drafts")).json()["data"] == []
    # Another key is another request.
    assert (await keyed(ann, "drafts", batch(model="M"), "k2")).json()["saved"][0]["version"] == 3


async def test_a_commit_is_repeated_without_committing_again(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await ann.draft("A", {"remark": "1"})
    first = await keyed(ann, "commit", {"all": True})
    await ann.draft("A", {"remark": "2"})
    again = await keyed(ann, "commit", {"all": True})
    assert again.content == first.content
    assert (await ann.page())["metadata"]["revision"] == 1
    assert (await ann.row("A"))["delta"] == {"remark": "2"}
    discarded = await keyed(ann, "discard", {"all": True}, "k2")
    assert written(discarded) == {"discarded": 1}
    await ann.draft("A", {"remark": "3"})
    assert written(await keyed(ann, "discard", {"all": True}, "k2")) == {"discarded": 1}
    assert (await ann.row("A"))["delta"] == {"remark": "3"}


async def test_a_key_with_another_request_is_refused(world: World, ann: User, bob: User) -> None:
    """Another body, another path, another dataset; but another user has keys of his own."""
    await world.mirror({"A": line()})
    await world.mirror({"A": vehicle()}, contract=FLEET)
    assert (await keyed(ann, "drafts", batch(model="M"))).status_code == 200
    refused(await keyed(ann, "drafts", batch(model="N")), 422, "IDEMPOTENCY_KEY_REUSED")
    refused(await keyed(ann.on("fleet"), "drafts", batch(model="M")), 422, "IDEMPOTENCY_KEY_REUSED")
    assert (await ann.row("A"))["delta"] == {"model": "M"}
    assert (await keyed(bob, "drafts", batch(model="N"))).status_code == 200
    # The first request is still answered as before.
    assert (await keyed(ann, "drafts", batch(model="M"))).json()["saved"][0]["version"] == 1

    assert (await keyed(ann, "discard", {"ids": ["X"]}, "k2")).status_code == 200
    refused(await keyed(ann, "commit", {"ids": ["X"]}, "k2"), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_the_query_and_the_form_of_an_upload_belong_to_the_request(world: World) -> None:
    """By another delimiter the same bytes are other records, and so they are as NDJSON."""
    people = await people_of(world)
    await used(people)

    async def sent(kind: str, **query: str) -> httpx.Response:
        return await people["ENGINEER"].request(
            "POST",
            "ingest",
            content=b"customerId,company\nC1,A;gold\n",
            params=query,
            headers={"Content-Type": kind, "Idempotency-Key": "k1"},
        )

    first = await sent("text/csv", delimiter=",")
    assert written(first, 202)["runId"]
    for kind, query in (("text/csv", {"delimiter": ";"}), ("text/csv", {}), (NDJSON, {"delimiter": ","})):
        refused(await sent(kind, **query), 422, "IDEMPOTENCY_KEY_REUSED")
    assert (await sent("Text/CSV; charset=utf-8", delimiter=",")).content == first.content
    assert await world.db.fetchval("SELECT count(*) FROM sync_run WHERE kind = 'ingest'") == 1


async def test_a_refusal_is_repeated(world: World, ann: User) -> None:
    """Even when the request would succeed by now: whoever wants it tried again takes a new key."""
    first = await keyed(ann, "drafts", batch(model="M"))
    problem = refused(first, 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["code"] == "ROW_NOT_FOUND"
    await world.mirror({"A": line()})
    again = await keyed(ann, "drafts", batch(model="M"))
    assert (again.content, again.headers["Content-Type"]) == (first.content, first.headers["Content-Type"])
    assert (await ann.get("drafts")).json()["data"] == []
    refused(await keyed(ann, "drafts", batch(model="N")), 422, "IDEMPOTENCY_KEY_REUSED")
    assert (await keyed(ann, "drafts", batch(model="M"), "k2")).status_code == 200

    nothing = await keyed(ann, "commit", {"ids": ["X"]}, "k3")
    refused(nothing, 404, "NO_DRAFTS")
    assert (await keyed(ann, "commit", {"ids": ["X"]}, "k3")).content == nothing.content
    # What cannot be read at all is no request yet, so its key is free.
    refused(await keyed(ann, "commit", {"ids": []}, "k4"), 400, "MALFORMED_REQUEST")
    assert (await keyed(ann, "commit", {"ids": ["A"]}, "k4")).status_code == 200


@pytest.mark.parametrize("error", [each for each in VanguardError.__subclasses__() if each.kind is Kind.THROTTLED])
async def test_who_is_told_to_slow_down_finds_the_key_free(
    world: World, ann: User, error: type[VanguardError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that did not come free in time may be free the moment after, when a refusal would be kept."""
    await world.mirror({"A": line()})
    database = world.runtime.database
    takes = database.run

    async def busy(_: Any) -> Any:
        monkeypatch.setattr(database, "run", takes)
        raise error("Come again.", retry_after=1)

    monkeypatch.setattr(database, "run", busy)
    first = await keyed(ann, "drafts", batch(model="M"))
    refused(first, 429, error.code)
    assert first.headers["Retry-After"] == "1"
    assert (await keyed(ann, "drafts", batch(model="M"))).json()["saved"][0]["version"] == 1


async def test_a_dry_run_leaves_its_key_free(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", {"model": "M"})
    for _ in range(2):
        answer = (await keyed(ann, "commit", {"all": True, "dryRun": True})).json()
        assert (answer["commitId"], answer["committed"]) == (None, 1)
    assert (await keyed(ann, "commit", {"all": True})).json()["committed"] == 1


async def test_a_key_is_kept_for_a_day(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    await keyed(ann, "drafts", batch(model="M"))
    world.clock.move(hours=24)
    later = again(world, ann)
    assert (await keyed(later, "drafts", batch(model="M"))).json()["saved"][0]["version"] == 1
    refused(await keyed(later, "drafts", batch(model="N")), 422, "IDEMPOTENCY_KEY_REUSED")
    world.clock.move(seconds=1)
    assert (await keyed(later, "drafts", batch(model="N"))).json()["saved"][0]["version"] == 2
    assert (await keyed(later, "drafts", batch(model="N"))).json()["saved"][0]["version"] == 2


async def test_expired_keys_are_forgotten_by_and_by(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    for n in range(3):
        await keyed(ann, "drafts", batch(model=f"M{n}"), f"k{n}")
    world.clock.move(days=1, seconds=1)
    await keyed(again(world, ann), "drafts", batch(model="N"), "new")
    assert [row["key"] for row in await world.db.fetch("SELECT key FROM idempotency_key")] == ["new"]


def again(world: World, user: User) -> User:
    """The same person, logged in anew: tokens do not live for a day."""
    account = Account(
        id=user.id, email="", name="", operator=False, roles={user.organization: Role.ANALYST}
    )  # fmt: skip
    return User(world, user.id, user.organization, world.runtime.auth.issue(account), user.dataset)


async def test_two_at_once_are_one(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    answers = await asyncio.gather(*(keyed(ann, "drafts", batch(model="M")) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert (await ann.row("A"))["version"] == 1

    await ann.draft("A", {"model": "N"})
    commits = await asyncio.gather(*(keyed(ann, "commit", {"all": True}, "k2") for _ in range(5)))
    assert {answer.content for answer in commits} == {commits[0].content}
    assert await world.db.fetchval("SELECT count(*) FROM pfa.change") == 1
    others = await asyncio.gather(*(keyed(ann, "drafts", batch(model=f"{n}"), "k3") for n in range(3)))
    assert sorted(answer.status_code for answer in others) == [200, 422, 422]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201, "a\tb"])
async def test_a_key_is_short_and_visible(world: World, ann: User, key: str) -> None:
    await world.mirror({"A": line()})
    problem = refused(await keyed(ann, "drafts", batch(model="M"), key), 400, "MALFORMED_REQUEST")
    assert [error["parameter"] for error in problem["errors"]] == ["Idempotency-Key"]
    assert (await ann.get("drafts")).json()["data"] == []


async def test_the_second_door_keeps_keys_too(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    body = {"modifications": [{"pfaId": "A", "delta": {"model": "M"}}]}
    first = await keyed(ann, "/api/pfa/acme/draft", body)
    assert first.json()["saved"][0]["version"] == 1
    assert (await keyed(ann, "/api/pfa/acme/draft", body)).content == first.content
    assert (await ann.row("A"))["version"] == 1
