"""Members: what ADMINs see and change, and the last of them."""

import asyncio
from typing import Any

import pytest

from app import accounts, members
from app.base.errors import LastAdmin
from app.web.auth import Role
from tests.support.world import User, World, open_world, refused

MEMBERS = "/api/v1/orgs/acme/members"


@pytest.fixture
async def admin(world: World) -> User:
    """An ADMIN of acme."""
    return await world.user("admin", role=Role.ADMIN)


async def put(user: User, account: str, role: Any) -> tuple[int, Any]:
    response = await user.request("PUT", f"{MEMBERS}/{account}", json={"role": role})
    return response.status_code, response.json()


async def delete(user: User, account: str) -> tuple[int, Any]:
    response = await user.request("DELETE", f"{MEMBERS}/{account}")
    return response.status_code, response.json().get("code") if response.content else None


async def test_an_admin_sees_the_members_of_the_organization_and_no_others(world: World, admin: User) -> None:
    await world.organization("theirs")
    await world.user("eve", "theirs", Role.ADMIN)
    await world.user("ann")
    assert (await admin.get(MEMBERS)).json() == {
        "data": [
            {"id": "admin", "email": "admin@example.com", "name": "admin", "role": "ADMIN"},
            {"id": "ann", "email": "ann@example.com", "name": "ann", "role": "ANALYST"},
        ]
    }


@pytest.mark.parametrize("name", ["eve", "eve@example.com", "EVE@Example.com"])
async def test_an_admin_changes_what_a_member_is(world: World, admin: User, name: str) -> None:
    await world.organization("theirs")
    await world.user("eve", "theirs")
    await members.give_role(world.runtime.database, "acme", "eve", Role.ANALYST)
    expected = {"id": "eve", "email": "eve@example.com", "name": "eve", "role": "VIEWER"}
    assert await put(admin, name, "VIEWER") == (200, expected)
    assert expected in (await admin.get(MEMBERS)).json()["data"]
    assert await delete(admin, name) == (204, None)
    assert expected not in (await admin.get(MEMBERS)).json()["data"]
    assert await world.db.fetchval("SELECT role FROM membership WHERE organization_id = 'theirs'") == "ANALYST"


async def test_a_new_role_counts_at_once_here_and_within_five_seconds_elsewhere(
    world: World, admin: User, database_url: str
) -> None:
    ann = await world.user("ann", role=Role.ADMIN)
    async with open_world(database_url) as other:
        headers = {"Authorization": f"Bearer {ann.token}"}
        assert (await ann.get(MEMBERS)).status_code == 200
        assert (await other.http.get(MEMBERS, headers=headers)).status_code == 200
        assert (await put(admin, "ann", "VIEWER"))[0] == 200
        assert (await ann.get(MEMBERS)).status_code == 403
        other.clock.move(seconds=5)
        assert (await other.http.get(MEMBERS, headers=headers)).status_code == 403
    assert (await put(admin, "ann", "ADMIN"))[0] == 200
    assert (await ann.get(MEMBERS)).status_code == 200
    assert await delete(admin, "ann") == (204, None)
    assert (await ann.get("rows")).status_code == 403


async def test_who_is_no_member_cannot_be_removed(world: World, admin: User) -> None:
    await world.organization("theirs")
    await world.user("eve", "theirs")
    for name in ("eve", "nobody", "nobody@example.com", "'", "a" * 5000, "%20"):
        assert await delete(admin, name) == (404, "MEMBER_NOT_FOUND")
    for name in ("nobody", "nobody@example.com"):
        status, body = await put(admin, name, "VIEWER")
        assert (status, body["code"]) == (404, "MEMBER_NOT_FOUND")
    assert await delete(admin, "%00") == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize("role", ["KING", "admin", "", None, 1, ["ADMIN"]])
async def test_an_unknown_role_is_refused(world: World, admin: User, role: Any) -> None:
    status, body = await put(admin, "admin", role)
    assert (status, body["errors"][0]["field"]) == (400, "role")


async def test_the_last_admin_stays(world: World, admin: User) -> None:
    await world.user("ann")
    assert await delete(admin, "admin") == (409, "LAST_ADMIN")
    status, body = await put(admin, "admin", "ENGINEER")
    assert (status, body["code"]) == (409, "LAST_ADMIN")
    assert (await put(admin, "admin", "ADMIN"))[0] == 200
    assert (await put(admin, "ann", "ADMIN"))[0] == 200
    assert (await put(admin, "admin", "ENGINEER"))[0] == 200


@pytest.mark.parametrize("step", ["delete", "put"])
async def test_two_admins_cannot_remove_each_other_at_once(world: World, admin: User, step: str) -> None:
    """Given two ADMINs whose requests wait for the same organization, then one of them stays: the other is none by the
    time that it is their turn.
    """
    other = await world.user("other", role=Role.ADMIN)
    async with world.db.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM organization WHERE id = 'acme' FOR UPDATE")
        requests = [
            asyncio.ensure_future(delete(user, victim) if step == "delete" else put(user, victim, "VIEWER"))
            for user, victim in ((admin, "other"), (other, "admin"))
        ]
        while await world.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < 2:
            assert not any(request.done() for request in requests), "it did not wait"
    statuses = sorted(status for status, _ in await asyncio.gather(*requests))
    assert statuses == [204 if step == "delete" else 200, 403]
    assert await world.db.fetchval("SELECT count(*) FROM membership WHERE role = 'ADMIN'") == 1


async def test_an_account_that_is_somewheres_last_admin_stays(world: World, admin: User) -> None:
    await world.organization("second")
    for name, organization in (("ann", "acme"), ("bob", "second")):
        await world.user(name, organization, Role.ADMIN)
    await members.give_role(world.runtime.database, "second", "admin", Role.ADMIN)
    await accounts.remove_account(world.runtime.database, "bob")
    with pytest.raises(LastAdmin, match="second"):
        await accounts.remove_account(world.runtime.database, "admin")
    await members.give_role(world.runtime.database, "second", "ann", Role.ADMIN)
    await accounts.remove_account(world.runtime.database, "admin")
    assert await world.db.fetch("SELECT account_id FROM membership ORDER BY organization_id") == [("ann",), ("ann",)]


async def test_a_removed_account_is_nobody_at_once_for_who_has_not_cached_it(world: World, admin: User) -> None:
    ann = await world.user("ann", role=Role.ADMIN)
    assert (await admin.get(MEMBERS)).status_code == 200
    await accounts.remove_account(world.runtime.database, "admin@example.com")
    world.clock.move(seconds=5)
    assert (await admin.get(MEMBERS)).status_code == 401
    assert (await admin.get("/api/auth/me")).status_code == 401
    assert (await ann.get(MEMBERS)).status_code == 200


async def test_only_admins_of_the_organization_decide(world: World, admin: User) -> None:
    await world.organization("theirs")
    outsider = await world.user("eve", "theirs", Role.ADMIN)
    engineer = await world.user("engineer", role=Role.ENGINEER)
    for user in (outsider, engineer):
        assert (await user.get(MEMBERS)).status_code == 403
        assert (await put(user, "eve", "ADMIN"))[0] == 403
        assert (await delete(user, "admin"))[0] == 403


# -- who is no ADMIN any more ------------------------------------------------------------------------------------------

INVITATIONS = "/api/v1/orgs/acme/invitations"
ACTS = {
    "promotes himself": ("PUT", f"{MEMBERS}/bob", {"role": "ADMIN"}),
    "removes": ("DELETE", f"{MEMBERS}/carl", None),
    "invites": ("POST", INVITATIONS, {"email": "bob@example.com", "role": "ADMIN"}),
    "logs out": ("DELETE", f"{MEMBERS}/carl/tokens", None),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("how", ["demoted", "removed", "logged out"])
async def test_who_has_just_been_admin_administers_nothing_elsewhere(
    world: World, admin: User, database_url: str, how: str, act: str
) -> None:
    """What another process remembers for seconds would have been enough to become ADMIN for ever."""
    bob, _ = await world.user("bob", role=Role.ADMIN), await world.user("carl")
    method, path, body = ACTS[act]
    async with open_world(database_url) as other:
        world.clock.move(seconds=1)
        there = User(other, "bob", "acme", bob.token)
        assert (await there.get(MEMBERS)).status_code == 200
        if how == "demoted":
            assert (await put(admin, "bob", "VIEWER"))[0] == 200
        elif how == "removed":
            assert (await delete(admin, "bob"))[0] == 204
        else:
            assert (await bob.post("/api/auth/logout", {"everywhere": True})).status_code == 204
        answer = await there.request(method, path, json=body)
    assert answer.status_code == (401 if how == "logged out" else 403), answer.text
    assert await world.db.fetchval("SELECT count(*) FROM invitation") == 0
    assert await world.db.fetchval("SELECT count(*) FROM membership WHERE account_id = 'carl'") == 1


@pytest.mark.parametrize("act", ["promotes himself", "removes", "invites"])
async def test_nor_who_waits_for_the_end_of_being_admin(world: World, admin: User, act: str) -> None:
    """The gate sees an ADMIN, since what demotes him has not committed yet."""
    bob, _ = await world.user("bob", role=Role.ADMIN), await world.user("carl")
    method, path, body = ACTS[act]
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%organization AS o%'"
    async with world.runtime.database.transaction() as connection:
        await members.lock_members(connection, "acme", "admin")
        await connection.value(members.SAVE_MEMBER, organization="acme", account="bob", role="VIEWER")
        asked = asyncio.create_task(bob.request(method, path, json=body))
        async with asyncio.timeout(60):
            while not await world.db.fetchval(waits):  # noqa: ASYNC110 - another server says when
                await asyncio.sleep(0.01)
    refused(await asked, 403, "FORBIDDEN")
    assert await world.db.fetchval("SELECT role FROM membership WHERE account_id = 'bob'") == "VIEWER"
    assert await world.db.fetchval("SELECT count(*) FROM invitation") == 0
