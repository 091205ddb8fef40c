"""What is over opens nothing: every route, by each way in that has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from datetime import timedelta
from typing import Any

import pytest

from app import accounts, members, passwords
from app.web.auth import EVERYWHERE, Role
from tests.support.ingesting import people_of, used
from tests.support.routes import walk
from tests.support.world import User, World, open_world, refused, written
from tests.test_auth import Provider, foreign, provider

__all__ = ["provider"]

OURS = "https://login.acme.example"
End = Callable[[World, User], Coroutine[Any, Any, None]]


async def removed_member(world: World, user: User) -> None:
    await members.end_membership(world.runtime.database, "acme", user.id)


async def removed_account(world: World, user: User) -> None:
    await accounts.remove_account(world.runtime.database, user.id)


async def changed_password(world: World, user: User) -> None:
    hashed = await asyncio.to_thread(passwords.hash_password, "another quite ordinary phrase")
    world.clock.move(seconds=1)
    async with world.runtime.database.transaction() as connection:
        await accounts.replace_password(connection, world.runtime.auth, user.id, hashed)


async def logged_out(world: World, user: User) -> None:
    principal = await world.runtime.auth.verify(user.token)
    async with world.runtime.database.transaction() as connection:
        await world.runtime.auth.revoke(connection, principal)


async def logged_out_everywhere(world: World, user: User) -> None:
    world.clock.move(seconds=1)
    async with world.runtime.database.transaction() as connection:
        await world.runtime.auth.end_tokens(connection, user.id, EVERYWHERE, world.clock())


async def logged_out_by_an_admin(world: World, user: User) -> None:
    world.clock.move(seconds=1)
    async with world.runtime.database.transaction() as connection:
        await world.runtime.auth.end_tokens(connection, user.id, "acme", world.clock())


async def expired(world: World, user: User) -> None:
    world.clock.move(days=400)


async def managed(world: World, user: User) -> None:
    await world.db.execute("UPDATE organization SET managed_by_identity_provider = TRUE WHERE id = 'acme'")


ENDS: dict[str, tuple[End, int, str]] = {
    "removed member": (removed_member, 403, "FORBIDDEN"),
    "removed account": (removed_account, 401, "TOKEN_INVALID"),
    "changed password": (changed_password, 401, "TOKEN_INVALID"),
    "logged out": (logged_out, 401, "TOKEN_INVALID"),
    "logged out everywhere": (logged_out_everywhere, 401, "TOKEN_INVALID"),
    "logged out by an ADMIN": (logged_out_by_an_admin, 401, "TOKEN_INVALID"),
    "expired": (expired, 401, "TOKEN_EXPIRED"),
    "managed by an identity provider": (managed, 403, "WRONG_IDENTITY_PROVIDER"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_what_has_ended_opens_no_route(world: World, name: str) -> None:
    """An ADMIN who is an operator, so that nothing else stands in the way."""
    end, status, code = ENDS[name]
    await world.user("boss", role=Role.ADMIN)
    user = await world.user("ann", role=Role.ADMIN, operator=True, ttl=300 * 86_400)
    assert (await user.get("/api/v1/orgs/acme/members")).status_code == 200
    assert (await user.get("/api/v1/system/mode")).status_code == 200
    await end(world, user)
    world.runtime.auth.forget()
    everywhere = code in ("TOKEN_INVALID", "TOKEN_EXPIRED") and name != "logged out by an ADMIN"
    for route in walk(world):
        if route.public or not ("{org}" in route.path or everywhere):
            continue
        answer = await user.request(route.method, route.at("acme"), json={})
        # A browser's stream that comes back is told so in its own way (docs/feed.md).
        refused(answer, status, code)


@pytest.mark.parametrize("name", [name for name in ENDS if name != "expired"])
@pytest.mark.parametrize("path", ["drafts", "ingest"])
async def test_what_ends_while_a_body_comes_in_is_over_once_it_is_here(world: World, name: str, path: str) -> None:
    """A body of JSON, and an upload."""
    end, status, code = ENDS[name]
    people = await people_of(world)
    await used(people)
    user = people["ENGINEER"]
    kind, pieces = {
        "drafts": ("application/json", (b'{"modifications": [{"id": "A",', b'"op": "insert", "delta": {}}]}')),
        "ingest": ("text/csv", (b"customerId,company\n", b"C1,Acme\n")),
    }[path]

    async def slow() -> AsyncIterator[bytes]:
        yield pieces[0]
        # Somebody else's doing, and not that of this request.
        await asyncio.create_task(end(world, user), context=Context())
        world.clock.move(seconds=5)
        yield pieces[1]

    answer = await user.request("POST", path, content=slow(), headers={"Content-Type": kind})
    refused(answer, status, code)


async def test_a_token_may_run_out_while_an_upload_comes_in(world: World) -> None:
    people = await people_of(world)
    await used(people)

    async def slow() -> AsyncIterator[bytes]:
        yield b"customerId,company\n"
        world.clock.move(hours=9)
        yield b"C1,Acme\n"

    engineer = people["ENGINEER"]
    written(await engineer.request("POST", "ingest", content=slow(), headers={"Content-Type": "text/csv"}), 202)
    refused(await engineer.get("rows"), 401, "TOKEN_EXPIRED")


async def test_a_withdrawn_key_opens_no_route(database_url: str, provider: Provider) -> None:
    async with open_world(database_url, **provider.settings()) as world:
        await world.organization("acme")
        await world.db.execute(
            "INSERT INTO account (id, email, name, operator) VALUES ('ann', 'a@b.example', 'ann', TRUE)"
        )
        await world.db.execute(
            "INSERT INTO membership (organization_id, account_id, role) VALUES ('acme', 'ann', 'ADMIN')"
        )
        far = int((world.clock() + timedelta(hours=20)).timestamp())
        user = User(world, "ann", "acme", foreign(world, exp=far, operator=True))
        assert (await user.get("/api/v1/orgs/acme/members")).status_code == 200
        assert (await user.get("/api/v1/system/mode")).status_code == 200
        provider.keys = []
        world.clock.move(minutes=6)
        await user.get("/api/auth/me")
        await world.runtime.auth.tokens.settled()
        for route in walk(world):
            if not route.public:
                refused(await user.request(route.method, route.at("acme"), json={}), 401, "TOKEN_INVALID")


async def test_another_providers_token_opens_no_route_of_a_managed_organization(
    database_url: str, provider: Provider
) -> None:
    providers = (f"{OURS} {provider.url}", f"https://login.rival.example {provider.url}")
    async with open_world(database_url, jwt_algorithms=("HS256", "RS256"), identity_providers=providers) as world:
        await world.organization("acme")
        await world.db.execute(
            "UPDATE organization SET managed_by_identity_provider = TRUE, identity_provider = $1", OURS
        )
        rival = User(world, "ann", "acme", foreign(world, iss="https://login.rival.example"))
        own = User(world, "ann", "acme", foreign(world, iss=OURS, jti="own"))
        assert (await own.get("/api/v1/orgs/acme/members")).status_code == 200
        for route in walk(world):
            if "{org}" in route.path:
                refused(await rival.request(route.method, route.at("acme"), json={}), 403, "FORBIDDEN")


async def test_an_expired_invitation_opens_nothing(world: World) -> None:
    """By neither of its two ways."""
    boss = await world.user("boss", role=Role.ADMIN)
    made = (await boss.post("/api/v1/orgs/acme/invitations", {"email": "nina@example.com", "role": "ADMIN"})).json()
    await world.organization("theirs")
    nina = await world.user("nina", "theirs", ttl=30 * 86_400)
    world.clock.move(days=8)
    refused(await nina.post(made["path"], None), 404, "INVITATION_NOT_FOUND")
    newcomer = {"name": "Nina", "password": "a quite ordinary phrase"}
    refused(await world.http.post(made["path"], json=newcomer), 404, "INVITATION_NOT_FOUND")
    assert await world.db.fetchval("SELECT count(*) FROM membership WHERE organization_id = 'acme'") == 1
