"""What a user, or an organization, may hold: drafts and kept answers. What is over is a clear refusal, and what makes
it less always passes.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from app.migrate import alembic_config, sqlalchemy_url
from app.organizations import list_held
from app.web.auth import Role
from app.web.idempotency import FORGET_OLD, RETENTION
from tests.support.requests import done, submitted
from tests.support.sessions import begin
from tests.support.world import FLEET, User, World, drafts, open_world, refused, vehicle, written

KEYS = [f"V{n:02d}" for n in range(40)]
QUOTA: dict[str, Any] = {
    "user_draft_rows": 5,
    "user_draft_bytes": 4096,
    "organization_draft_rows": 12,
    "organization_draft_bytes": 9000,
}


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[World]:
    """A world with room for very little, and vehicles in it."""
    async with open_world(database_url, **QUOTA) as world:
        await world.organization("acme")
        await world.mirror({key: vehicle() for key in KEYS}, contract=FLEET)
        yield world


@pytest.fixture
async def dora(small: World) -> User:
    """Somebody who drafts."""
    return (await small.user("dora")).on("fleet")


async def save(user: User, *keys: str, **delta: Any) -> httpx.Response:
    """One draft of each row."""
    drafted = [{"id": key, "delta": delta or {"mileage": 7}} for key in keys]
    return await user.post("drafts", {"modifications": drafted})


async def held(world: World, user: str = "dora") -> tuple[int, int, bool]:
    """What is counted of the user."""
    row: Any = await world.db.fetchrow(
        "SELECT held_rows, held_bytes, held_known FROM workspace WHERE user_id = $1 AND dataset = 'fleet'", user
    )
    return tuple(row)


async def there(world: World, user: str = "dora") -> tuple[int, int]:
    """What is there."""
    row: Any = await world.db.fetchrow(
        "SELECT count(*), coalesce(sum(pg_column_size(delta || '{}')), 0)::bigint FROM fleet.modification"
        " WHERE user_id = $1",
        user,
    )
    return tuple(row)


async def test_what_is_over_is_refused_whole_and_names_the_limit(small: World, dora: User) -> None:
    written(await save(dora, *KEYS[:4]))
    problem = refused(await save(dora, *KEYS[4:6]), 409, "QUOTA_EXCEEDED")
    assert "6 rows" in problem["detail"]
    assert "may have 5 (VANGUARD_USER_DRAFT_ROWS)" in problem["detail"]
    assert sorted(await drafts(dora)) == KEYS[:4]
    written(await save(dora, KEYS[4]))
    assert (await held(small))[:2] == await there(small)
    # Another dataset has room of its own; another user, too.
    await small.mirror({"A": {}}, contract=FLEET)
    written(await save((await small.user("eve")).on("fleet"), *KEYS[:5]))


async def test_bytes_are_bounded_as_rows_are(small: World, dora: User) -> None:
    written(await save(dora, "V00", "V01", remark="x" * 1900))
    problem = refused(await save(dora, "V02", remark="x" * 1900), 409, "QUOTA_EXCEEDED")
    assert "VANGUARD_USER_DRAFT_BYTES" in problem["detail"]
    assert "may have 4,096" in problem["detail"]
    # A smaller draft over a larger one makes room, however it is said.
    written(await save(dora, "V00", remark="x"))
    written(await save(dora, "V02", remark="x" * 1900))
    assert (await held(small))[:2] == await there(small)


async def test_what_makes_it_less_passes_when_the_limit_was_lowered(small: World, dora: User) -> None:
    written(await save(dora, *KEYS[:5], remark="y" * 500))
    lowered: dict[str, Any] = {"user_draft_rows": 1, "user_draft_bytes": 1024}
    async with open_world(str(small.runtime.settings.database_url), **lowered) as world:
        same = User(world, dora.id, dora.organization, dora.token, dora.dataset)
        refused(await save(same, "V09"), 409, "QUOTA_EXCEEDED")
        refused(await save(same, "V00", remark="y" * 501), 409, "QUOTA_EXCEEDED")
        written(await save(same, "V00", remark="y" * 500))
        written(await save(same, "V00", remark="y"))
        written(await same.discard("V01"))
        written(await same.post("discard", {"ids": ["V02"], "fields": ["remark"]}))
        assert (await same.commit("V03")).status_code == 200
        assert sorted(await drafts(same)) == ["V00", "V04"]
        written(await same.discard())
        written(await save(same, "V09"))


async def test_many_at_once_at_the_edge_come_to_the_limit(small: World, dora: User) -> None:
    answers = await asyncio.gather(*(save(dora, key) for key in KEYS[:10]))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [409] * 5
    assert len(await drafts(dora)) == 5
    assert (await held(small))[:2] == await there(small)


async def test_what_is_committed_makes_room_again(small: World, dora: User) -> None:
    for start in (0, 5, 10, 15):
        written(await save(dora, *KEYS[start : start + 5]))
        assert (await dora.commit()).status_code == 200
    assert await held(small) == (0, 0, True)


async def test_edits_of_a_session_count(small: World, dora: User) -> None:
    session = await begin(dora)
    path = f"sessions/{session['id']}/edits"
    wanted = [{"id": key, "field": "mileage", "value": 5} for key in KEYS[:6]]
    refused(await dora.post(f"{path}/batch", {"edits": wanted}), 409, "QUOTA_EXCEEDED")
    assert await drafts(dora) == {}
    assert (await dora.get(path)).json()["data"] == []
    written(await dora.post(f"{path}/batch", {"edits": wanted[:5]}))
    refused(await dora.post(path, wanted[5]), 409, "QUOTA_EXCEEDED")
    # What is the same as beneath takes the draft away, and makes room.
    written(await dora.post(path, {"id": "V00", "field": "mileage", "value": 1000}))
    written(await dora.post(path, wanted[5]))


async def test_a_patch_of_a_row_counts(small: World, dora: User) -> None:
    written(await save(dora, *KEYS[:5]))
    headers = {"Content-Type": "application/merge-patch+json"}
    patched = await dora.request("PATCH", "rows/V05", content=b'{"mileage": 8}', headers=headers)
    refused(patched, 409, "QUOTA_EXCEEDED")


async def test_undo_and_redo_do_not_go_beyond(small: World, dora: User) -> None:
    written(await save(dora, *KEYS[:5]))
    session = await begin(dora)
    assert (await dora.post("drafts/undo", {})).status_code == 200
    # Redo outside of the session, after the room was taken within it.
    written(
        await dora.post(
            f"sessions/{session['id']}/edits/batch",
            {"edits": [{"id": key, "field": "mileage", "value": 5} for key in KEYS[10:13]]},
        )
    )
    refused(await dora.post("drafts/redo", {}), 409, "QUOTA_EXCEEDED")
    assert len(await drafts(dora)) == 3
    assert (await dora.post(f"sessions/{session['id']}/undo", {})).status_code == 200
    assert (await dora.post("drafts/redo", {})).status_code == 200
    assert len(await drafts(dora)) == 5


async def test_what_was_written_uncounted_is_measured(small: World, dora: User) -> None:
    written(await save(dora, *KEYS[:2]))
    await small.db.execute("UPDATE workspace SET held_rows = 1000, held_bytes = 1000000")
    written(await save(dora, "V02"))
    assert (await held(small)) == (*await there(small), True)
    await small.db.execute("UPDATE workspace SET held_rows = 0, held_bytes = 0, held_known = FALSE")
    refused(await save(dora, *KEYS[3:6]), 409, "QUOTA_EXCEEDED")


async def test_an_organization_shares_a_limit(small: World) -> None:
    people = [(await small.user(name)).on("fleet") for name in ("p", "q", "r", "s")]
    for person in people[:2]:
        written(await save(person, *KEYS[:5]))
    written(await save(people[2], *KEYS[:2]))
    problem = refused(await save(people[3], "V00"), 409, "QUOTA_EXCEEDED")
    assert "13 rows" in problem["detail"]
    assert "may have 12 (VANGUARD_ORGANIZATION_DRAFT_ROWS)" in problem["detail"]
    # What is there already can be changed, and taken away; another organization does not notice.
    written(await save(people[2], "V00", mileage=9))
    await small.organization("beta")
    await small.mirror({"V00": vehicle()}, "beta", FLEET)
    written(await save((await small.user("zoe", "beta")).on("fleet"), "V00"))
    written(await people[0].discard())
    written(await save(people[3], "V00"))


async def test_a_request_that_comes_back_to_drafts_is_not_refused_and_is_measured(small: World, dora: User) -> None:
    rita = (await small.user("rita", role=Role.ADMIN)).on("fleet")
    request = await submitted(dora, *({"id": key, "delta": {"mileage": 5}} for key in KEYS[:5]))
    refused(await save(dora, "V09"), 409, "QUOTA_EXCEEDED")
    await done(rita, request, "reject", comment="No.")
    assert not (await held(small))[2]
    refused(await save(dora, "V09"), 409, "QUOTA_EXCEEDED")
    assert len(await drafts(dora)) == 5


async def test_operators_see_who_holds_how_much(small: World, dora: User) -> None:
    written(await save(dora, *KEYS[:3]))
    eve = (await small.user("eve")).on("fleet")
    written(await eve.post("drafts", {"modifications": [{"id": "V00", "delta": {"mileage": 1}}]}))
    written(await eve.post("commit", {"all": True}, headers={"Idempotency-Key": "k"}))
    found = await list_held(small.runtime.database, None, 10)
    shown = {each.user: each for each in found}
    assert (shown["dora"].rows, shown["dora"].keys, shown["eve"].rows, shown["eve"].keys) == (3, 0, 0, 1)
    assert shown["dora"].bytes > 0
    assert shown["eve"].answers > 0
    assert await list_held(small.runtime.database, "beta", 10) == []
    assert len(await list_held(small.runtime.database, "acme", 1)) == 1


# -- kept answers ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def keeping(database_url: str) -> AsyncIterator[World]:
    """A world that keeps few answers."""
    limits: dict[str, Any] = {
        "user_keys": 3,
        "user_key_bytes": 4096,
        "organization_key_bytes": 6000,
        "max_refusal_bytes": 1024,
    }
    async with open_world(database_url, **limits) as world:
        await world.organization("acme")
        await world.mirror({key: vehicle() for key in KEYS}, contract=FLEET)
        yield world


@pytest.fixture
async def kim(keeping: World) -> User:
    """Somebody who sends keys."""
    return (await keeping.user("kim")).on("fleet")


async def keyed(user: User, key: str, *rows: str, **delta: Any) -> httpx.Response:
    """The same with an Idempotency-Key."""
    drafted = [{"id": row, "delta": delta or {"mileage": 7}} for row in rows]
    return await user.post("drafts", {"modifications": drafted}, headers={"Idempotency-Key": key})


async def count_kept(world: World, user: str = "kim") -> tuple[int, int]:
    """What is counted, after a look at what is there."""
    counted: Any = await world.db.fetchrow("SELECT keys, bytes FROM kept_answers WHERE user_id = $1", user)
    present: Any = await world.db.fetchrow(
        "SELECT count(*), coalesce(sum(octet_length(answer)), 0) FROM idempotency_key WHERE user_id = $1", user
    )
    assert tuple(counted) == tuple(present)
    return tuple(counted)


async def test_a_large_refusal_is_kept_as_its_digest(keeping: World, kim: User) -> None:
    missing = [f"N{n}" for n in range(30)]
    first = refused(await keyed(kim, "k", *missing), 422, "VALIDATION_FAILED")
    row: Any = await keeping.db.fetchrow(
        "SELECT status, answer, octet_length(answer_digest) AS digest FROM idempotency_key"
    )
    assert tuple(row) == (422, None, 32)
    assert await count_kept(keeping) == (1, 0)
    # The same request is told the same anew, as things are by now.
    again = refused(await keyed(kim, "k", *missing), 422, "VALIDATION_FAILED")
    assert again["errors"] == first["errors"]
    refused(await keyed(kim, "k", "V00"), 422, "IDEMPOTENCY_KEY_REUSED")
    # What was refused does not pass later under its old key.
    await keeping.mirror({key: vehicle() for key in missing}, contract=FLEET)
    problem = refused(await keyed(kim, "k", *missing), 409, "REFUSED_BEFORE")
    assert "422" in problem["detail"]
    assert await drafts(kim) == {}
    assert await count_kept(keeping) == (1, 0)
    written(await keyed(kim, "other", *missing[:2]))


async def test_keys_are_bounded_before_anything_is_done(keeping: World, kim: User) -> None:
    for n in range(3):
        written(await keyed(kim, f"k{n}", f"V0{n}"))
    answer = await keyed(kim, "k3", "V03")
    problem = refused(answer, 429, "TOO_MANY_KEYS")
    assert "VANGUARD_USER_KEYS" in problem["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert sorted(await drafts(kim)) == ["V00", "V01", "V02"]
    assert (await count_kept(keeping))[0] == 3
    # What is kept is repeated, without a key all goes on, and a day later there is room.
    written(await keyed(kim, "k0", "V00"))
    written(await save(kim, "V03"))
    keeping.clock.move(days=1, seconds=1)
    later = User(keeping, kim.id, kim.organization, (await keeping.user("lee")).token, "fleet")
    written(await keyed(later, "k4", "V04"))
    assert (await count_kept(keeping, "kim"))[0] == 0


async def test_the_oldest_refusals_go_first(keeping: World, kim: User) -> None:
    written(await keyed(kim, "good", "V00"))
    for n in range(2):
        refused(await keyed(kim, f"bad{n}", "N1"), 422, "VALIDATION_FAILED")
    written(await keyed(kim, "more", "V01"))
    kept = {row["key"] for row in await keeping.db.fetch("SELECT key FROM idempotency_key")}
    assert kept == {"good", "more"}
    await count_kept(keeping)


async def test_bytes_of_answers_are_bounded_for_user_and_organization(keeping: World, kim: User) -> None:
    written(await keyed(kim, "k0", *KEYS))
    assert (await count_kept(keeping))[1] > 4096
    refused(await keyed(kim, "k1", "V00"), 429, "TOO_MANY_KEYS")
    lou = (await keeping.user("lou")).on("fleet")
    written(await keyed(lou, "k0", *KEYS[:20]))
    problem = refused(await keyed(lou, "k1", "V00"), 429, "TOO_MANY_KEYS")
    assert "VANGUARD_ORGANIZATION_KEY_BYTES" in problem["detail"]
    # Who has next to nothing is not asked about the others.
    written(await keyed((await keeping.user("max")).on("fleet"), "k0", "V00"))


async def test_requests_with_keys_at_once_are_counted(keeping: World, kim: User) -> None:
    answers = await asyncio.gather(*(keyed(kim, f"k{n % 2}", f"V0{n % 2}") for n in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await count_kept(keeping))[0] == 2


async def test_an_expired_key_is_counted_once(keeping: World, kim: User) -> None:
    written(await keyed(kim, "k", *KEYS[:10]))
    await keeping.db.execute("UPDATE idempotency_key SET created_at = created_at - interval '2 days'")
    written(await keyed(kim, "k", "V00"))
    assert (await count_kept(keeping))[0] == 1


async def test_a_key_that_is_forgotten_while_it_is_claimed_anew_is_counted(keeping: World, kim: User) -> None:
    """The claim waits for whoever forgets it, and finds it gone: it is a new key."""
    written(await keyed(kim, "k", "V00"))
    await keeping.db.execute("UPDATE idempotency_key SET created_at = created_at - interval '2 days'")
    async with asyncio.timeout(20), keeping.db.acquire() as other:
        forgetting = other.transaction()
        await forgetting.start()
        await other.execute(FORGET_OLD.text, "acme", keeping.clock() - RETENTION)
        again = asyncio.create_task(keyed(kim, "k", "V00"))
        # Nothing tells when it waits.
        while not await keeping.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await forgetting.commit()
        written(await again)
    assert (await count_kept(keeping))[0] == 1


async def test_a_filled_database_is_counted_when_it_is_upgraded(database_url: str) -> None:
    """Given drafts, deletions and keys of a release that counted nothing, then migrating counts them."""
    async with open_world(database_url) as world:
        await world.organization("acme")
        await world.organization("beta")
        await world.mirror({key: vehicle() for key in KEYS}, contract=FLEET)
        kim = (await world.user("kim")).on("fleet")
        written(await keyed(kim, "k0", *KEYS[:20], remark="r"))
        written(await kim.post("drafts", {"modifications": [{"id": "V01", "op": "delete"}]}))
        refused(await keyed(kim, "k1", "N"), 422, "VALIDATION_FAILED")
        before: Any = await world.db.fetchrow("SELECT held_rows, held_bytes, held_known FROM workspace")
    engine = create_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0012")
        command.upgrade(config, "head")
    async with open_world(database_url) as world:
        assert await held(world, "kim") == tuple(before)
        assert (await held(world, "kim"))[:2] == await there(world, "kim")
        assert (await count_kept(world))[0] == 2
