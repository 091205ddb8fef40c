"""Logging in and out: the token, the cookie, the answer to guesses."""

import asyncio
from functools import cache
from threading import Event
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from app import accounts, login
from app.accounts import HASHER, add_account
from app.base.exact_json import encode
from app.web.auth import COOKIE, Account, Role
from tests.support.world import World, asgi, open_world
from tests.test_auth import Provider, provider, quiet, whoami

__all__ = ["provider", "quiet"]

PASSWORD = "correct horse battery"


@pytest.fixture
async def ann(world: World) -> Account:
    """An account with a password, ADMIN of acme."""
    account = await add_account(
        world.runtime.database, email="Ann@Demo.example", name="Ann", password=None, roles={"acme": Role.ADMIN}
    )
    await world.db.execute("UPDATE account SET password_hash = $1", hashed())
    return account


@cache
def hashed() -> str:
    """The hash of PASSWORD, worked out once."""
    return accounts.hash_password(PASSWORD)


async def enter(world: World, email: str, password: str, address: str = "192.0.2.1") -> httpx.Response:
    """Log in from an address."""
    transport = asgi(world.application, client=(address, 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://vanguard.test", timeout=60) as client:
        return await client.post("/api/auth/login", json={"email": email, "password": password})


async def test_a_login_gives_a_token_and_says_whose_it_is(world: World, ann: Account) -> None:
    response = await enter(world, " ann@DEMO.example ", PASSWORD)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    answer = response.json()
    token = answer.pop("accessToken")
    user = {
        "id": ann.id,
        "email": "ann@demo.example",
        "name": "Ann",
        "organizations": [{"id": "acme", "role": "ADMIN"}],
    }
    assert answer == {"tokenType": "Bearer", "expiresIn": 8 * 3600, "user": user}
    assert (await whoami(world, token)).json() == user
    world.clock.move(hours=8)
    assert (await whoami(world, token)).status_code == 401


@pytest.mark.parametrize("secure", [True, False])
async def test_the_cookie_is_for_this_site_and_no_script(database_url: str, secure: bool) -> None:
    async with open_world(database_url, cookie_secure=secure) as world:
        await add_account(world.runtime.database, email="ann@demo.example", name="Ann", password=PASSWORD)
        response = await enter(world, "ann@demo.example", PASSWORD)
        cookie, *attributes = response.headers["Set-Cookie"].split("; ")
        assert cookie == f"{COOKIE}={response.json()['accessToken']}"
        expected = {"HttpOnly", "SameSite=strict", "Path=/api/v1", "Max-Age=28800"}
        assert set(attributes) == expected | ({"Secure"} if secure else set())


async def test_a_logout_ends_the_token_and_clears_the_cookie(world: World, ann: Account) -> None:
    headers = {"Authorization": f"Bearer {(await enter(world, ann.email, PASSWORD)).json()['accessToken']}"}
    response = await world.http.post("/api/auth/logout", headers=headers)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Set-Cookie"].startswith(f'{COOKIE}=""; ')
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert (await world.http.get("/api/auth/me", headers=headers)).status_code == 401
    again = await enter(world, ann.email, PASSWORD)
    assert (await whoami(world, again.json()["accessToken"])).status_code == 200


async def test_wrong_and_unknown_answer_alike(world: World, ann: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """And take alike long: each verifies one hash, with the same parameters."""
    await world.user("no-password")
    verified: list[str] = []
    matches = accounts.matches

    def watched(stored: str, password: str) -> bool:
        verified.append(stored)
        return matches(stored, password)

    monkeypatch.setattr(accounts, "matches", watched)
    bodies = []
    for email in (ann.email, "unknown@demo.example", "no-password@example.com"):
        response = await enter(world, email, "wrong password")
        assert response.status_code == 401
        body = response.json()
        assert body.pop("requestId")
        bodies.append(body)
    assert bodies[0]["code"] == "INVALID_CREDENTIALS"
    assert bodies.count(bodies[0]) == 3
    assert len(verified) == 3
    assert verified[1:] == [login.NOBODY, login.NOBODY]
    assert not any(HASHER.check_needs_rehash(stored) for stored in verified)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"email": "a@b.example"}',
        b'{"email": 1, "password": "x"}',
        b'{"email": "a@b.example", "password": "x", "more": 1}',
        b'{"email": "a@b.example", "password": null}',
        b'{"email": "\\ud800", "password": "x"}',
        b'{"email": "a\\u0000@b.example", "password": "x"}',
        b'{"email": "\xff", "password": "x"}',
        encode({"email": "a" * 300, "password": "x"}),
        encode({"email": "a@b.example", "password": "x" * 1001}),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(quiet: World, body: bytes) -> None:
    response = await quiet.http.post("/api/auth/login", content=body)
    assert (response.status_code, response.json()["code"]) == (400, "MALFORMED_REQUEST")


async def test_a_password_may_hold_anything(world: World) -> None:
    password = "\0'\"\\ \N{PILE OF POO} \x1b and more"
    await add_account(world.runtime.database, email="ann@demo.example", name="Ann", password=password)
    assert (await enter(world, "ann@demo.example", password)).status_code == 200


async def test_an_older_hash_is_renewed(world: World, ann: Account) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await world.db.execute("UPDATE account SET password_hash = $1", weak)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    stored = await world.db.fetchval("SELECT password_hash FROM account")
    assert not HASHER.check_needs_rehash(stored)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    assert await world.db.fetchval("SELECT password_hash FROM account") == stored


async def test_a_stored_hash_that_is_none_opens_nothing(world: World, ann: Account) -> None:
    await world.db.execute("UPDATE account SET password_hash = $1", PASSWORD)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 401


async def test_where_only_the_identity_provider_issues_tokens_nobody_logs_in(
    database_url: str, provider: Provider
) -> None:
    async with open_world(database_url, **provider.settings("RS256")) as world:
        response = await enter(world, "ann@demo.example", PASSWORD)
        assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")


# --- guessing


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are compared at once, for tests that count."""
    monkeypatch.setattr(accounts, "matches", lambda stored, password: (stored, password) == (hashed(), PASSWORD))


async def guess(world: World, email: str, times: int = 1, **more: Any) -> list[int]:
    return [(await enter(world, email, "wrong password", **more)).status_code for _ in range(times)]


async def failures(world: World, count: int, address: str = "192.0.2.1", email: str = "") -> None:
    """As if so many logins had just failed."""
    await world.db.execute(
        "INSERT INTO login_failure VALUES ($1, $2, $3)", login._digest(email, address), count, world.clock()
    )


@pytest.mark.usefixtures("quick")
async def test_guessing_is_slowed_down(world: World, ann: Account) -> None:
    """Given five failures, then even the right password has to wait, and twice as long after each further failure."""
    assert await guess(world, ann.email, 5) == [401] * 5
    for wait in (10, 20, 40):
        for password in (PASSWORD, "wrong password"):
            refused = await enter(world, ann.email, password)
            assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_ATTEMPTS")
            assert refused.headers["Retry-After"] == str(wait)
        world.clock.move(seconds=wait - 1)
        assert (await enter(world, ann.email, PASSWORD)).headers["Retry-After"] == "1"
        world.clock.move(seconds=1)
        assert await guess(world, ann.email) == [401]


@pytest.mark.usefixtures("quick")
async def test_the_wait_has_an_end(world: World, ann: Account) -> None:
    await failures(world, 1_000_000, email=ann.email)
    assert (await enter(world, ann.email, PASSWORD)).headers["Retry-After"] == "900"
    world.clock.move(minutes=15)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("quick")
async def test_a_success_forgives(world: World, ann: Account) -> None:
    for _ in range(2):
        assert await guess(world, ann.email, 4) == [401] * 4
        assert (await enter(world, ann.email, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("quick")
async def test_old_failures_do_not_count(world: World, ann: Account) -> None:
    assert await guess(world, ann.email, 4) == [401] * 4
    world.clock.move(minutes=15, seconds=1)
    assert await guess(world, ann.email, 5) == [401] * 5
    assert await guess(world, ann.email) == [429]


@pytest.mark.usefixtures("quick")
async def test_others_do_not_wait(world: World, ann: Account) -> None:
    """Neither the same person elsewhere nor somebody else here."""
    assert await guess(world, ann.email, 6) == [401] * 5 + [429]
    assert (await enter(world, ann.email, PASSWORD, address="192.0.2.2")).status_code == 200
    assert await guess(world, "bob@demo.example") == [401]


@pytest.mark.parametrize("email", ["unknown@demo.example", "UNKNOWN@demo.example "])
@pytest.mark.usefixtures("quick")
async def test_unknown_accounts_are_slowed_down_alike(world: World, email: str) -> None:
    assert await guess(world, "unknown@demo.example", 5) == [401] * 5
    assert await guess(world, email) == [429]


@pytest.mark.usefixtures("quick")
async def test_one_address_cannot_walk_through_emails(world: World, ann: Account) -> None:
    await failures(world, 99)
    assert await guess(world, "a@demo.example") == [401]
    assert await guess(world, "b@demo.example") == [429]
    assert (await enter(world, ann.email, PASSWORD)).headers["Retry-After"] == "10"
    assert await guess(world, "b@demo.example", address="192.0.2.2") == [401]


@pytest.mark.usefixtures("quick")
async def test_a_success_does_not_forgive_the_address(world: World, ann: Account) -> None:
    await failures(world, 99)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    assert await guess(world, "a@demo.example", 2) == [401, 429]


@pytest.mark.usefixtures("quick")
async def test_an_ipv6_network_counts_as_one_address(world: World, ann: Account) -> None:
    for host in range(1, 6):
        assert await guess(world, ann.email, address=f"2001:db8::{host}") == [401]
    assert await guess(world, ann.email, address="2001:db8::ffff") == [429]
    assert await guess(world, ann.email, address="2001:db8:0:1::1") == [401]


async def test_many_guesses_at_once_tell_nothing(world: World, ann: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given guesses that passed the first check together, when the right one comes out last, it is told to wait."""
    loop, checked, others_failed = asyncio.get_running_loop(), asyncio.Event(), Event()

    def slow_when_right(_: str, password: str) -> bool:
        if password == PASSWORD:
            loop.call_soon_threadsafe(checked.set)
            assert others_failed.wait(30)
        return password == PASSWORD

    monkeypatch.setattr(accounts, "matches", slow_when_right)
    right = asyncio.ensure_future(enter(world, ann.email, PASSWORD))
    await checked.wait()
    assert await guess(world, ann.email, 5) == [401] * 5
    others_failed.set()
    assert (await right).status_code == 429


async def test_many_logins_at_once_are_all_let_in(world: World, ann: Account) -> None:
    answers = await asyncio.gather(*(enter(world, ann.email, PASSWORD) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.usefixtures("quick")
async def test_two_processes_count_together(world: World, ann: Account, database_url: str) -> None:
    async with open_world(database_url) as other:
        assert await guess(world, ann.email, 3) + await guess(other, ann.email, 3) == [401] * 5 + [429]
        assert await guess(world, ann.email) == [429]


@pytest.mark.usefixtures("quick")
async def test_what_is_too_old_to_count_is_deleted(world: World, ann: Account) -> None:
    await guess(world, "bob@demo.example")
    world.clock.move(minutes=16)
    await guess(world, ann.email)
    assert await world.db.fetchval("SELECT count(*) FROM login_failure") == 3
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    assert await world.db.fetchval("SELECT count(*) FROM login_failure") == 1, "the address keeps its failure"
