"""Logging in and out: the token, the cookie, the answer to guesses."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from subprocess import PIPE
from threading import Barrier, Event, Lock
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from prometheus_client import REGISTRY

from app import passwords
from app.accounts import add_account
from app.base.exact_json import encode
from app.login import attempts
from app.login.attempts import Attempt
from app.passwords import HASHER
from app.web.auth import Account, Role
from app.web.cookies import NAME, SECURE_NAME
from tests.support.children import child, kill
from tests.support.world import SECRET, World, asgi, open_world
from tests.test_auth import Provider, provider, quiet, whoami

__all__ = ["provider", "quiet"]

PASSWORD = "a quite ordinary phrase"


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
    return passwords.hash_password(PASSWORD)


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
        assert cookie == f"{SECURE_NAME if secure else NAME}={response.json()['accessToken']}"
        expected = {"Path=/", "Secure"} if secure else {"Path=/api/v1"}
        assert set(attributes) == expected | {"HttpOnly", "SameSite=strict", "Max-Age=28800"}


async def test_a_logout_ends_the_token_and_clears_the_cookie(world: World, ann: Account) -> None:
    headers = {"Authorization": f"Bearer {(await enter(world, ann.email, PASSWORD)).json()['accessToken']}"}
    response = await world.http.post("/api/auth/logout", headers=headers)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Set-Cookie"].startswith(f'{SECURE_NAME}=""; ')
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert (await world.http.get("/api/auth/me", headers=headers)).status_code == 401
    again = await enter(world, ann.email, PASSWORD)
    assert (await whoami(world, again.json()["accessToken"])).status_code == 200


async def test_wrong_and_unknown_answer_alike(world: World, ann: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """And take alike long: each verifies one hash, with the same parameters."""
    await world.user("no-password")
    verified: list[str] = []
    matches = passwords.matches

    def watched(stored: str, password: str) -> bool:
        verified.append(stored)
        return matches(stored, password)

    monkeypatch.setattr(passwords, "matches", watched)
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
    assert verified[1:] == [attempts.NOBODY, attempts.NOBODY]
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
    response = await quiet.http.post("/api/auth/login", content=body, headers={"Content-Type": "application/json"})
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
    monkeypatch.setattr(passwords, "matches", lambda stored, password: (stored, password) == (hashed(), PASSWORD))


async def guess(world: World, email: str, times: int = 1, **more: Any) -> list[int]:
    return [(await enter(world, email, "wrong password", **more)).status_code for _ in range(times)]


async def failures(world: World, count: int, kind: int, email: str = "", address: str = "192.0.2.1") -> None:
    """As if so many logins had just failed."""
    digest = Attempt.of(SECRET, email, address).digests[kind - 1]
    await world.db.execute(
        "INSERT INTO login_attempt VALUES ($1, $2, $3, $4, $4) ON CONFLICT (digest) DO UPDATE"
        " SET failures = excluded.failures, last_at = excluded.last_at, open_at = excluded.open_at",
        digest, kind, count, world.clock(),
    )  # fmt: skip


async def counted(world: World, kind: int) -> list[int]:
    """The failures of one kind, as they stand."""
    rows = await world.db.fetch("SELECT failures FROM login_attempt WHERE kind = $1 ORDER BY 1", kind)
    return [row["failures"] for row in rows]


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
    await failures(world, 1_000_000, attempts.PAIR, ann.email)
    assert await guess(world, ann.email, 2) == [401, 429]
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
    await failures(world, 99, attempts.ADDRESS)
    assert await guess(world, "a@demo.example") == [401]
    assert await guess(world, "b@demo.example") == [429]
    assert (await enter(world, ann.email, PASSWORD)).headers["Retry-After"] == "10"
    assert await guess(world, "b@demo.example", address="192.0.2.2") == [401]


@pytest.mark.usefixtures("quick")
async def test_a_success_does_not_forgive_the_address(world: World, ann: Account) -> None:
    await failures(world, 98, attempts.ADDRESS)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    assert await counted(world, attempts.ADDRESS) == [98], "only the attempt itself is taken back"
    assert await guess(world, "a@demo.example", 3) == [401, 401, 429]


@pytest.mark.usefixtures("quick")
async def test_many_people_behind_one_address_log_in(world: World, ann: Account) -> None:
    """Given an office with one address, then logins that succeed come to no wait."""
    for _ in range(150):
        assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    assert await counted(world, attempts.ADDRESS) == [0]


@pytest.mark.usefixtures("quick")
async def test_an_account_under_attack_slows_down_and_its_owner_does_not(world: World, ann: Account) -> None:
    """Given guesses from many addresses, each new one, then strangers share a budget, and ann logs in from home."""
    assert (await enter(world, ann.email, PASSWORD, address="198.51.100.1")).status_code == 200
    codes = [
        (await enter(world, ann.email, "wrong password", address=f"192.0.2.{n}")).status_code for n in range(1, 24)
    ]
    assert codes == [401] * 20 + [429] * 3
    refused = await enter(world, ann.email, PASSWORD, address="203.0.113.1")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10"), "the right one tells nothing there"
    assert (await enter(world, ann.email, PASSWORD, address="198.51.100.1")).status_code == 200
    world.clock.move(seconds=10)
    assert (await enter(world, ann.email, PASSWORD, address="203.0.113.1")).status_code == 200
    assert await guess(world, "bob@demo.example", address="192.0.2.1") == [401], "nobody else waits"


@pytest.mark.usefixtures("quick")
async def test_the_wait_of_an_account_is_short(world: World, ann: Account) -> None:
    await failures(world, 1_000_000, attempts.EMAIL, ann.email)
    assert await guess(world, ann.email) == [401]
    assert (await enter(world, ann.email, PASSWORD, address="192.0.2.2")).headers["Retry-After"] == "300"


@pytest.mark.usefixtures("quick")
async def test_a_neighbour_does_not_lock_out_who_is_at_home(world: World, ann: Account) -> None:
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    await failures(world, 99, attempts.ADDRESS)
    assert await guess(world, "a@demo.example", 2) == [401, 429]
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("quick")
async def test_a_neighbour_does_not_learn_who_is_at_home(world: World, ann: Account) -> None:
    """Given an address that waits, then a wrong password for somebody at home gets what everybody gets, and as late."""
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    await failures(world, 99, attempts.ADDRESS)
    assert await guess(world, "a@demo.example") == [401]
    answers, took = [], []
    for email in (ann.email, "unknown@demo.example"):
        began = time.perf_counter()
        answers += [await enter(world, email, "wrong password")]
        took += [time.perf_counter() - began]
    for answer in answers:
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
    bodies = [{**answer.json(), "requestId": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert min(took) >= attempts.MASKED * 0.99
    world.clock.move(seconds=10)
    await world.db.execute("DELETE FROM login_attempt WHERE kind = $1", attempts.ADDRESS)
    for email in (ann.email, "unknown@demo.example"):
        assert await guess(world, email, 6) == [401] * 5 + [429], "nor do the counts of afterwards tell"


@pytest.mark.usefixtures("quick")
async def test_whoever_is_at_home_is_slowed_down_too(world: World, ann: Account) -> None:
    """A guess from the address of somebody's own is counted, also while strangers there wait."""
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    await failures(world, 99, attempts.ADDRESS)
    assert await guess(world, "a@demo.example") == [401]
    assert await guess(world, ann.email, 5) == [429] * 5
    assert (await enter(world, ann.email, PASSWORD)).status_code == 429
    world.clock.move(seconds=10)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("quick")
async def test_an_address_is_forgotten(world: World, ann: Account) -> None:
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    assert await world.db.fetchval("SELECT count(*) FROM login_address") == 1
    world.clock.move(days=90)
    await failures(world, 1000, attempts.ADDRESS)
    assert await guess(world, "a@demo.example") == [401]
    assert await guess(world, ann.email) == [429], "at home no longer"
    assert await world.db.fetchval("SELECT count(*) FROM login_address") == 0, "by the attempt of somebody else"


@pytest.mark.usefixtures("quick")
async def test_an_account_has_a_bound_of_addresses(world: World, ann: Account) -> None:
    for n in range(1, 31):
        world.clock.move(seconds=1)
        assert (await enter(world, ann.email, PASSWORD, address=f"192.0.2.{n}")).status_code == 200
    assert await world.db.fetchval("SELECT count(*) FROM login_address") == attempts.ADDRESSES_OF_ACCOUNT
    kept = await world.db.fetchval("SELECT min(seen_at) FROM login_address")
    assert kept == world.clock() - timedelta(seconds=attempts.ADDRESSES_OF_ACCOUNT - 1), "the newest"
    await world.db.execute("DELETE FROM account WHERE id = $1", ann.id)
    assert await world.db.fetchval("SELECT count(*) FROM login_address") == 0


@pytest.mark.usefixtures("quick")
async def test_a_clock_that_is_put_back_locks_nobody_out(world: World, ann: Account) -> None:
    """Given failures that were counted while the clock was a year ahead, then they are as if they were not."""
    await failures(world, 99, attempts.ADDRESS)
    world.clock.move(days=365)
    assert await guess(world, ann.email, 6) == [401] * 5 + [429]
    world.clock.move(days=-365)
    assert await guess(world, ann.email, 6) == [401] * 5 + [429], "counting begins anew"
    world.clock.move(seconds=-20)
    assert (await enter(world, ann.email, PASSWORD)).headers["Retry-After"] == "30", "a little is no other time"
    world.clock.move(seconds=30)
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("quick")
async def test_digests_tell_no_email(world: World, ann: Account) -> None:
    """Nor an address, of which there are few enough to try all: they are keyed."""
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    stored = await world.db.fetch("SELECT digest FROM login_attempt UNION SELECT address FROM login_address")
    assert {bytes(row[0]) for row in stored} <= set(Attempt.of(SECRET, ann.email, "192.0.2.1").digests)
    assert not {bytes(row[0]) for row in stored} & set(Attempt.of(SECRET + "!", ann.email, "192.0.2.1").digests)


@pytest.mark.usefixtures("quick")
async def test_an_ipv6_network_counts_as_one_address(world: World, ann: Account) -> None:
    for host in range(1, 6):
        assert await guess(world, ann.email, address=f"2001:db8::{host}") == [401]
    assert await guess(world, ann.email, address="2001:db8::ffff") == [429]
    assert await guess(world, ann.email, address="2001:db8:0:1::1") == [401]


async def until(holds: Callable[[], bool]) -> None:
    """Let the others go on until it holds."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - of queues and threads, which tell nobody
            await asyncio.sleep(0.001)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, *, until: int = 0) -> Iterator[list[str]]:
    """The passwords that are looked at. The first `until` are held until so many are looked at together."""
    seen: list[str] = []
    gate = Barrier(until) if until else None

    def look(_: str, password: str) -> bool:
        seen.append(password)
        if gate is not None and len(seen) <= until:
            gate.wait(30)
        return password == PASSWORD

    with monkeypatch.context() as patched:
        patched.setattr(passwords, "matches", look)
        yield seen


async def test_many_guesses_at_once_tell_nothing(
    world: World, ann: Account, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given 200 guesses that are sent at once to two processes, then five are looked at, and no more: not even when the
    first five are held until all of them are under way.
    """
    more: dict[str, Any] = {"login_queue": 200, "login_hashes": 6}
    async with open_world(database_url, **more) as one, open_world(database_url, **more) as other:
        with watched(monkeypatch, until=5) as seen:
            guesses = [(process, f"guess {n}") for n in range(100) for process in (one, other)]
            answers = await asyncio.gather(*(enter(process, ann.email, each) for process, each in guesses))
            codes = Counter(answer.status_code for answer in answers)
            assert codes == {401: 5, 429: 195}
            assert len(seen) == 5
            assert all(int(answer.headers["Retry-After"]) == 10 for answer in answers if answer.status_code == 429)
            assert (await enter(one, ann.email, PASSWORD)).status_code == 429
    assert await counted(world, attempts.PAIR) == [5]


async def test_guesses_from_many_addresses_at_once_share_the_accounts_budget(
    world: World, ann: Account, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {"login_queue": 200, "login_hashes": 11}
    async with open_world(database_url, **more) as one, open_world(database_url, **more) as other:
        with watched(monkeypatch, until=20) as seen:
            guesses = [(process, f"192.0.2.{n}") for n in range(100) for process in (one, other)]
            answers = await asyncio.gather(
                *(enter(process, ann.email, "wrong password", address=address) for process, address in guesses)
            )
            assert Counter(answer.status_code for answer in answers) == {401: 20, 429: 180}
            assert len(seen) == 20
    assert await counted(world, attempts.EMAIL) == [20]


async def test_an_attempt_that_is_refused_takes_no_others_budget(world: World, ann: Account) -> None:
    """Given an address that waits, then what it sends does not use up what strangers have for an account."""
    await failures(world, 1000, attempts.ADDRESS)
    await world.db.execute("UPDATE login_attempt SET open_at = open_at + interval '10 seconds'")
    async with world.runtime.database.connection() as connection:
        attempt = Attempt.of(SECRET, ann.email, "192.0.2.1")
        assert not await attempts._count_shared(world.runtime, connection, attempt)
        assert await counted(world, attempts.EMAIL) == []
        assert not connection.raw.is_in_transaction()


async def test_an_attempt_whose_process_is_killed_counts_and_expires(
    world: World, ann: Account, database_url: str, tmp_path: Path
) -> None:
    """Given a process that is killed while it looks at a password, then the attempt stays one of five, for a quarter of
    an hour.
    """
    script = tmp_path / "attempt.py"
    script.write_text(KILLED.format(url=database_url, secret=SECRET, email=ann.email))
    with child(
        sys.executable, str(script), stdout=PIPE, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "looking\n"
        kill(process)
        process.wait(30)
    assert await counted(world, attempts.PAIR) == [1]
    assert await guess(world, ann.email, 5) == [401] * 4 + [429]
    world.clock.move(minutes=15, seconds=1)
    assert await guess(world, ann.email, 6) == [401] * 5 + [429]


KILLED = """
import asyncio, time
from app import passwords
from tests.support.world import open_world
from tests.test_login import enter

def look(stored, password):
    print("looking", flush=True)
    time.sleep(100)

async def main():
    passwords.matches = look
    async with open_world("{url}") as world:
        await enter(world, "{email}", "wrong password")

asyncio.run(main())
"""


async def test_a_client_that_leaves_frees_no_turn_before_its_hash_ends(
    world: World, ann: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given clients that leave at once, then no more passwords are looked at at a time; and what they sent counts."""
    looking, ended, at_once, most = Event(), Event(), 0, 0
    lock = Lock()

    def look(_: str, password: str) -> bool:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        looking.set()
        assert ended.wait(60)
        with lock:
            at_once -= 1
        return password == PASSWORD

    monkeypatch.setattr(passwords, "matches", look)
    left = [asyncio.ensure_future(enter(world, ann.email, "x", address=f"192.0.2.{n}")) for n in range(6)]
    assert await asyncio.to_thread(looking.wait, 60)
    await until(lambda: at_once == 1 and world.runtime.hashing.waiting == 5)
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert world.runtime.hashing.waiting == 0
    honest = asyncio.ensure_future(enter(world, ann.email, PASSWORD))
    await until(lambda: world.runtime.hashing.waiting == 1)
    ended.set()
    assert (await honest).status_code == 200
    assert most == 1, "of two, one is kept for who is at home"
    assert await counted(world, attempts.EMAIL) == [1]


async def test_beyond_the_queue_one_is_told_at_once(
    world: World, ann: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given all turns taken and the queue full of one address, then it is told; another gets a place, and who is at
    home has a queue of their own.
    """
    assert (await enter(world, ann.email, PASSWORD, address="198.51.100.1")).status_code == 200
    ended = Event()

    def look(_: str, password: str) -> bool:
        assert ended.wait(60)
        return password == PASSWORD

    monkeypatch.setattr(passwords, "matches", look)
    flood = [asyncio.ensure_future(enter(world, f"{n}@x.example", "x")) for n in range(30)]
    done, _ = await asyncio.wait(flood, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    await until(lambda: sum(each.done() for each in flood) == 21)
    busy = next(iter(done)).result()
    assert (busy.status_code, busy.json()["code"], busy.headers["Retry-After"]) == (503, "LOGINS_BUSY", "2")
    assert "2 logins" in busy.json()["detail"]
    assert "8 wait" in busy.json()["detail"]
    other = asyncio.ensure_future(enter(world, "new@x.example", "x", address="192.0.2.9"))
    await until(lambda: sum(each.done() for each in flood) == 22)
    home = asyncio.ensure_future(enter(world, ann.email, PASSWORD, address="198.51.100.1"))
    await until(lambda: world.runtime.hashing._free == 0)
    ended.set()
    assert (await home).status_code == 200
    assert (await other).status_code == 401
    assert Counter([(await each).status_code for each in flood]) == {401: 8, 503: 22}


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
    assert await world.db.fetchval("SELECT count(*) FROM login_attempt") == 3
    world.clock.move(minutes=61)
    await guess(world, ann.email, address="192.0.2.2")
    assert await world.db.fetchval("SELECT count(*) FROM login_attempt") == 3, "those of the second one"


async def test_a_stranger_makes_rows_only_in_turn(world: World, ann: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a flood, then what was refused at once has left nothing in the database."""
    ended, looked = Event(), 0

    def look(_: str, __: str) -> bool:
        nonlocal looked
        looked += 1
        return not ended.wait(60)

    monkeypatch.setattr(passwords, "matches", look)
    flood = [asyncio.ensure_future(enter(world, f"{n}@x.example", "x", address=f"10.0.0.{n}")) for n in range(50)]
    await until(lambda: sum(each.done() for each in flood) == 41 and looked == 1)
    assert await world.db.fetchval("SELECT count(*) FROM login_attempt") == 3
    ended.set()
    await asyncio.gather(*flood)
    assert await world.db.fetchval("SELECT count(*) FROM login_attempt") == 9 * 3


@pytest.mark.usefixtures("quick")
async def test_clocks_that_differ_by_a_little_refuse_nobody(world: World, ann: Account) -> None:
    """Given two processes, when the one behind counts after the other, then neither email nor address waits."""
    assert await guess(world, ann.email) == [401]
    world.clock.move(milliseconds=-5)
    assert await guess(world, ann.email) == [401]
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200


@pytest.mark.usefixtures("quick")
async def test_an_account_that_waits_and_an_unknown_one_answer_alike(world: World, ann: Account) -> None:
    """Under attack from many addresses: nothing is looked at then, and nothing is held back."""
    answers = []
    for email in (ann.email, "unknown@demo.example"):
        for n in range(1, 21):
            assert await guess(world, email, address=f"192.0.2.{n}") == [401]
        answers += [await enter(world, email, PASSWORD, address="203.0.113.1")]
    bodies = [{**answer.json(), "requestId": ""} for answer in answers]
    assert bodies[0] == bodies[1]
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(429, "10")] * 2


async def test_a_full_queue_does_not_tell_who_is_at_home(
    world: World, ann: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a flood that fills it, then a wrong password gets what others get, as late; the right one is let in."""
    assert (await enter(world, ann.email, PASSWORD)).status_code == 200
    ended = Event()

    def look(_: str, password: str) -> bool:
        assert password != "x" or ended.wait(60)
        return password == PASSWORD

    monkeypatch.setattr(passwords, "matches", look)
    flood = [asyncio.ensure_future(enter(world, f"{n}@x.example", "x", address=f"10.0.0.{n}")) for n in range(1, 10)]
    await until(lambda: world.runtime.hashing.waiting == 8)
    began = asyncio.get_running_loop().time()
    unknown = await enter(world, "unknown@demo.example", "wrong password")
    assert asyncio.get_running_loop().time() - began >= attempts.MASKED * 0.99
    home = asyncio.ensure_future(enter(world, ann.email, "wrong password"))
    right = asyncio.ensure_future(enter(world, ann.email, PASSWORD))
    bodies = [{**answer.json(), "requestId": ""} for answer in (unknown, await home)]
    assert asyncio.get_running_loop().time() - began >= 2 * attempts.MASKED * 0.99
    assert bodies[0] == bodies[1]
    assert bodies[0]["code"] == "LOGINS_BUSY"
    assert (await right).status_code == 200
    ended.set()
    assert {(await each).status_code for each in flood} == {401}


@pytest.mark.usefixtures("quick")
async def test_what_becomes_of_a_login_is_counted(world: World, ann: Account) -> None:
    def of(outcome: str) -> float:
        return REGISTRY.get_sample_value("vanguard_logins_total", {"outcome": outcome}) or 0

    before = {outcome: of(outcome) for outcome in ("let_in", "wrong", "slowed_down")}
    assert await guess(world, ann.email, 6) == [401] * 5 + [429]
    assert (await enter(world, ann.email, PASSWORD, address="192.0.2.2")).status_code == 200
    assert {outcome: of(outcome) - count for outcome, count in before.items()} == {
        "let_in": 1, "wrong": 5, "slowed_down": 1,
    }  # fmt: skip


async def test_an_older_hash_is_renewed_in_the_same_turn(
    world: World, ann: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given many who come with older hashes, then no more are worked out at a time than there are turns."""
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await world.db.execute("UPDATE account SET password_hash = $1", weak)
    at_once, most, lock = 0, 0, Lock()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*values: Any) -> Any:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            try:
                return function(*values)
            finally:
                with lock:
                    at_once -= 1

        return count

    hasher = SimpleNamespace(hash=counting(HASHER.hash), check_needs_rehash=HASHER.check_needs_rehash)
    monkeypatch.setattr(passwords, "matches", counting(PasswordHasher().verify))
    monkeypatch.setattr(passwords, "HASHER", hasher)
    answers = await asyncio.gather(*(enter(world, ann.email, PASSWORD, address=f"192.0.2.{n}") for n in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert most <= 2


@pytest.mark.usefixtures("quick")
async def test_logins_leave_a_connection_to_the_guards(world: World, ann: Account) -> None:
    """Given logins that the database keeps waiting, then who has a token already goes on."""
    bob = await world.user("bob")
    await failures(world, 1, attempts.PAIR, ann.email)
    async with world.db.acquire() as locking, locking.transaction():
        await locking.execute("SELECT FROM login_attempt FOR UPDATE")
        kept = [asyncio.ensure_future(enter(world, ann.email, PASSWORD)) for _ in range(5)]
        await until(lambda: world.runtime.logins.locked() and world.runtime.hashing.waiting > 0)
        assert (await bob.get("/api/v1/orgs/acme/datasets/pfa")).status_code == 200
        assert not any(each.done() for each in kept)
    assert {(await each).status_code for each in kept} == {200}


@pytest.mark.usefixtures("quick")
async def test_a_login_does_not_wait_for_the_database_for_ever(world: World, ann: Account, database_url: str) -> None:
    """Given one that the database keeps waiting, then those behind it are told as soon as they are of a pool."""
    async with open_world(database_url, pool_timeout=0.1) as hurried:
        await failures(hurried, 1, attempts.PAIR, ann.email)
        async with world.db.acquire() as locking, locking.transaction():
            await locking.execute("SELECT FROM login_attempt FOR UPDATE")
            kept = asyncio.ensure_future(enter(hurried, ann.email, PASSWORD))
            await until(lambda: hurried.runtime.hashing._free == 1 and hurried.runtime.logins.locked())
            refused = await enter(hurried, "bob@demo.example", PASSWORD)
            assert (refused.status_code, refused.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert (await kept).status_code == 200
