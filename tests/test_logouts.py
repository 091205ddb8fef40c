"""How sessions end and go on: another password, log out everywhere, a member who is logged out, renewal."""

import asyncio
import random
import string
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest

from app import accounts, passwords
from app.base.errors import InvalidCredentials, ValidationFailed
from app.login import attempts
from app.passwords import check_password
from app.web.auth import Role
from app.web.cookies import SECURE_NAME
from tests.support.streams import Door, served
from tests.support.world import SECRET, User, World, open_world, refused
from tests.test_auth import signed, whoami

OLD, NEW = "a quite ordinary phrase", "another quite ordinary phrase"
EMAIL = "ann@example.com"
MEMBERS = "/api/v1/orgs/acme/members"


@pytest.fixture
async def ann(world: World) -> User:
    """A member with a password."""
    user = await world.user("ann", role=Role.ADMIN)
    await world.db.execute(
        "UPDATE account SET password_hash = $1", await asyncio.to_thread(passwords.hash_password, OLD)
    )
    return user


async def login(world: World, password: str = OLD, email: str = EMAIL) -> httpx.Response:
    return await world.http.post("/api/auth/login", json={"email": email, "password": password})


async def entered(world: World, password: str = OLD) -> User:
    """Logged in, as a browser is, a second later."""
    world.clock.move(seconds=1)
    answer = await login(world, password)
    assert answer.status_code == 200, answer.text
    world.http.cookies.clear()
    return User(world, "ann", "acme", answer.json()["accessToken"])


async def change(user: User, old: str = OLD, new: str = NEW) -> httpx.Response:
    return await user.post("/api/auth/password", {"old": old, "new": new})


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, SECRET, algorithms=["HS256"], audience="vanguard", options={"verify_exp": False})


# -- another password --------------------------------------------------------------------------------------------------


async def test_another_password_ends_all_sessions_and_goes_on_with_a_new_token(world: World, ann: User) -> None:
    here, there = await entered(world), await entered(world)
    world.clock.move(seconds=1)
    answer = await change(here)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    ticket = answer.json()
    assert ticket["user"]["organizations"] == [{"id": "acme", "role": "ADMIN"}]
    assert ticket["accessToken"] in answer.headers["Set-Cookie"]
    for user in (ann, here, there):
        refused(await user.get("/api/auth/me"), 401, "TOKEN_INVALID")
        refused(await user.get(MEMBERS), 401, "TOKEN_INVALID")
    assert (await whoami(world, ticket["accessToken"])).status_code == 200
    assert (await login(world, OLD)).status_code == 401
    assert (await login(world, NEW)).status_code == 200


async def test_elsewhere_within_five_seconds(world: World, ann: User, database_url: str) -> None:
    async with open_world(database_url) as other:
        user = await entered(world)
        other.clock.move(seconds=1)
        assert (await whoami(other, user.token)).status_code == 200
        world.clock.move(seconds=1)
        assert (await change(user)).status_code == 200
        other.clock.move(seconds=5)
        assert (await whoami(other, user.token)).status_code == 401


async def test_a_password_that_an_operator_sets_ends_sessions_as_well(world: World, ann: User) -> None:
    user = await entered(world)
    world.clock.move(seconds=1)
    await accounts.set_password(world.runtime.database, world.runtime.auth, EMAIL, NEW, strict=True)
    world.clock.move(seconds=5)
    refused(await user.get("/api/auth/me"), 401, "TOKEN_INVALID")


async def test_a_wrong_old_password_counts_as_a_login_that_failed(world: World, ann: User) -> None:
    answers = [await change(ann, "not the one that it is") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert (await login(world)).status_code == 429
    assert (await ann.get("/api/auth/me")).status_code == 200


@pytest.mark.parametrize("new", ["short", "x" * 1001, OLD, ""])
async def test_a_password_that_cannot_be_taken_changes_nothing(world: World, ann: User, new: str) -> None:
    assert (await change(ann, OLD, new)).status_code in (400, 422)
    assert (await ann.get("/api/auth/me")).status_code == 200
    assert (await login(world)).status_code == 200


async def test_of_two_changes_at_once_one_counts(world: World, ann: User) -> None:
    user = await entered(world)
    world.clock.move(seconds=1)
    answers = await asyncio.gather(change(user, OLD, NEW), change(user, OLD, f"{NEW} still"))
    assert sorted(answer.status_code for answer in answers) == [200, 401]


async def test_a_login_on_its_way_does_not_outlive_the_password(
    world: World, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a login whose password has been looked at, when the password changes before it is let in, it is not."""
    matches, database, auth = passwords.matches, world.runtime.database, world.runtime.auth
    loop, looked, changed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def look(stored: str, password: str) -> bool:
        right = matches(stored, password)
        loop.call_soon_threadsafe(looked.set)
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(changed.wait(), 30), loop).result(30)
        return right

    monkeypatch.setattr(passwords, "matches", look)
    coming = asyncio.create_task(login(world))
    await asyncio.wait_for(looked.wait(), 30)
    await accounts.set_password(database, auth, EMAIL, NEW, strict=False)
    changed.set()
    refused(await coming, 401, "INVALID_CREDENTIALS")


async def test_nor_does_a_change_on_its_way_undo_what_an_operator_did(
    world: World, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another of its kind: who knows the old password changes it while an operator takes it away."""
    hashed, loop = passwords.hash_password, asyncio.get_running_loop()
    runtime = world.runtime

    def hash_late(password: str) -> str:
        other = accounts.set_password(runtime.database, runtime.auth, EMAIL, "of the operator's own", strict=False)
        monkeypatch.setattr(passwords, "hash_password", hashed)
        asyncio.run_coroutine_threadsafe(other, loop).result(30)
        return hashed(password)

    monkeypatch.setattr(passwords, "hash_password", hash_late)
    with pytest.raises(InvalidCredentials):
        await attempts.change_password(runtime, EMAIL, OLD, NEW, "198.51.100.1")
    assert (await login(world, "of the operator's own")).status_code == 200


@pytest.mark.parametrize(
    "password",
    ["vanguard-demo", "Vanguard-Demo", "correct horse battery", "aaaaaaaaaaaa", "abababababab", "password1234",
     "P@ssw0rd2026!", "qwertyuiop12", "1234567890", "Sommer2026!!", "AnnMiller1990", "ann.miller2026", "Welcome123456",
     "0123456789abcdef", "Juli2026Juli2026", "1q2w3e4r5t6z"],
)  # fmt: skip
def test_weak_and_known_passwords_are_refused_in_production(password: str) -> None:
    with pytest.raises(ValidationFailed):
        check_password(password, strict=True, email="ann.miller@example.com", name="Ann Miller")
    check_password(password, strict=False)


@pytest.mark.parametrize("password", ["xkq9-plum-otter", OLD, NEW, "Tr0ub4dour&3", "äußerst unüblich", "7f3a9c0e1d2b"])
def test_others_are_not(password: str) -> None:
    check_password(password, strict=True, email="ann.miller@example.com", name="Ann Miller")


@pytest.mark.timed
@pytest.mark.parametrize(
    "password",
    ["".join(random.Random(1).choices(string.ascii_lowercase, k=1000)), "abcd1" * 200, "abcdq" * 199 + "abcde",
     "aqbwcedrft" * 99 + "x", "\N{LATIN SMALL LIGATURE FFI}" * 999],
)  # fmt: skip
def test_none_is_looked_at_for_long(password: str) -> None:
    """It is looked at beside all other requests, before anybody has to wait."""
    name = " ".join(f"x{number}" for number in range(10, 60))
    started = time.process_time()
    for _ in range(10):
        with suppress(ValidationFailed):
            check_password(password, strict=True, email="ann.miller@example.com", name=name)
    assert time.process_time() - started < 0.05


async def test_a_demonstrations_password_opens_nothing_in_production(world: World, database_url: str) -> None:
    """A database that was seeded for the demonstration may be served by mistake."""
    await world.user("ann")
    known = await asyncio.to_thread(passwords.hash_password, "vanguard-demo")
    await world.db.execute("UPDATE account SET password_hash = $1", known)
    assert (await login(world, "vanguard-demo")).status_code == 200
    async with open_world(database_url, environment="production") as production:
        refused(await login(production, "vanguard-demo"), 401, "INVALID_CREDENTIALS")


# -- log out everywhere ------------------------------------------------------------------------------------------------


async def test_log_out_everywhere(world: World, ann: User) -> None:
    here, there = await entered(world), await entered(world)
    bob = await world.user("bob")
    world.clock.move(seconds=1)
    answer = await here.post("/api/auth/logout", {"everywhere": True})
    assert answer.status_code == 204
    assert f"{SECURE_NAME}=" in answer.headers["Set-Cookie"]
    for user in (ann, here, there):
        refused(await user.get("/api/auth/me"), 401, "TOKEN_INVALID")
    assert (await bob.get("/api/auth/me")).status_code == 200
    assert (await (await entered(world)).get("/api/auth/me")).status_code == 200


@pytest.mark.parametrize("body", [None, {}, {"everywhere": False}])
async def test_a_logout_is_of_one_token(world: World, ann: User, body: Any) -> None:
    here, there = await entered(world), await entered(world)
    assert (await here.post("/api/auth/logout", body)).status_code == 204
    refused(await here.get("/api/auth/me"), 401, "TOKEN_INVALID")
    assert (await there.get("/api/auth/me")).status_code == 200


@pytest.mark.parametrize("body", [{"everywhere": "yes"}, {"all": True}, [True], 7])
async def test_a_logout_that_cannot_be_read_ends_nothing(world: World, ann: User, body: Any) -> None:
    assert (await ann.post("/api/auth/logout", body)).status_code == 400
    assert (await ann.get("/api/auth/me")).status_code == 200


async def test_an_admin_logs_a_member_out_of_the_organization_and_of_no_other(world: World, ann: User) -> None:
    await world.organization("rival")
    await world.user("bob")
    await world.db.execute(
        "INSERT INTO membership (organization_id, account_id, role) VALUES ('rival', 'bob', 'VIEWER')"
    )
    token = signed(world, sub="bob", orgs={"acme": "ANALYST", "rival": "VIEWER"})
    bob = User(world, "bob", "acme", token)
    assert [each["id"] for each in (await bob.get("/api/auth/me")).json()["organizations"]] == ["acme", "rival"]
    world.clock.move(seconds=1)
    assert (await ann.request("DELETE", f"{MEMBERS}/bob@example.com/tokens")).status_code == 204
    refused(await bob.get("rows"), 401, "TOKEN_INVALID")
    assert [each["id"] for each in (await bob.get("/api/auth/me")).json()["organizations"]] == ["rival"]
    assert (await bob.get("/api/v1/orgs/rival/datasets")).status_code == 200
    again = User(world, "bob", "acme", signed(world, sub="bob", orgs={"acme": "ANALYST"}, jti="again"))
    assert (await again.get("rows")).status_code == 200


async def test_nobody_logs_out_who_is_no_member(world: World, ann: User) -> None:
    """Accounts of others and none at all answer alike."""
    await world.organization("rival")
    eve = await world.user("eve", "rival")
    world.clock.move(seconds=1)
    answers = [await ann.request("DELETE", f"{MEMBERS}/{name}/tokens") for name in ("eve", "missing")]
    for name, answer in zip(("eve", "missing"), answers, strict=True):
        refused(answer, 404, "MEMBER_NOT_FOUND")
        assert name in answer.json()["detail"]
    details = [
        answer.json()["detail"].replace(name, "…") for name, answer in zip(("eve", "missing"), answers, strict=True)
    ]
    assert details[0] == details[1]
    assert (await eve.get("/api/v1/orgs/rival/datasets")).status_code == 200


async def test_what_is_too_old_to_matter_is_forgotten(database_url: str) -> None:
    async with open_world(database_url, max_token_ttl=86_400) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        await ann.post("/api/auth/logout", {"everywhere": True})
        world.clock.move(days=8)
        bob = await world.user("bob")
        await bob.post("/api/auth/logout", {"everywhere": True})
        assert [row["subject"] for row in await world.db.fetch("SELECT subject FROM logout")] == ["bob"]


async def test_a_clock_that_is_put_back_brings_no_token_back(database_url: str) -> None:
    """Given a process whose clock is days ahead for a while, what it finds too old there is not forgotten."""
    async with open_world(database_url, max_token_ttl=86_400) as world:
        world.clock.at = datetime.now(UTC)
        await world.organization("acme")
        bob, carl = await world.user("bob"), await world.user("carl")
        assert (await bob.post("/api/auth/logout", None)).status_code == 204
        elsewhere = User(world, "carl", "acme", signed(world, sub="carl", orgs={"acme": "ANALYST"}))
        world.clock.move(seconds=1)
        assert (await carl.post("/api/auth/logout", {"everywhere": True})).status_code == 204
        world.clock.move(days=9)
        dan = await world.user("dan")
        assert (await dan.post("/api/auth/logout", {"everywhere": True})).status_code == 204
        world.clock.move(days=-9)
        for user in (bob, carl, elsewhere):
            refused(await user.get("rows"), 401, "TOKEN_INVALID")


@pytest.fixture
async def door(world: World) -> AsyncIterator[Door]:
    """A real server, for streams."""
    async with served(world) as opened:
        yield opened


@pytest.mark.parametrize("how", ["everywhere", "password", "admin", "logout of the renewed"])
async def test_streams_end_too(door: Door, world: World, ann: User, how: str) -> None:
    bob = await world.user("bob", role=Role.ADMIN)
    user = await entered(world)
    renewed = User(world, "ann", "acme", (await user.post("/api/auth/renew", None)).json()["accessToken"])
    async with door.opened(user) as stream, door.opened(bob) as other:
        world.clock.move(seconds=1)
        if how == "everywhere":
            assert (await renewed.post("/api/auth/logout", {"everywhere": True})).status_code == 204
        elif how == "password":
            assert (await change(renewed)).status_code == 200
        elif how == "admin":
            assert (await bob.request("DELETE", f"{MEMBERS}/ann/tokens")).status_code == 204
        else:
            assert (await renewed.post("/api/auth/logout", None)).status_code == 204
        assert (await stream.block("end")).data == {"reason": "access_revoked"}
        assert other is not None


# -- renewal -----------------------------------------------------------------------------------------------------------


async def test_a_token_is_renewed_while_it_is_valid(world: World, ann: User) -> None:
    user = await entered(world)
    await world.db.execute("UPDATE membership SET role = 'ANALYST'")
    world.clock.move(hours=7)
    answer = await user.post("/api/auth/renew", None)
    assert answer.status_code == 200
    ticket = answer.json()
    assert ticket["expiresIn"] == 8 * 3600
    assert ticket["user"]["organizations"] == [{"id": "acme", "role": "ANALYST"}]
    assert ticket["accessToken"] in answer.headers["Set-Cookie"]
    world.clock.move(hours=2)
    refused(await user.get("/api/auth/me"), 401, "TOKEN_EXPIRED")
    refused(await user.post("/api/auth/renew", None), 401, "TOKEN_EXPIRED")
    assert (await whoami(world, ticket["accessToken"])).status_code == 200


async def test_a_login_is_renewed_for_a_week_and_no_longer(world: World, ann: User) -> None:
    user = await entered(world)
    for _ in range(24):
        world.clock.move(hours=7)
        answer = await user.post("/api/auth/renew", None)
        if answer.status_code != 200:
            break
        user = User(world, "ann", "acme", answer.json()["accessToken"])
    ticket = claims(user.token)
    assert ticket["exp"] - ticket["auth_time"] <= 7 * 86_400
    world.clock.move(hours=8)
    refused(await user.post("/api/auth/renew", None), 401, "TOKEN_EXPIRED")


async def test_a_logout_ends_what_a_token_was_renewed_by(world: World, ann: User) -> None:
    """And the other way around: whichever is at hand."""
    first = await entered(world)
    second = User(world, "ann", "acme", (await first.post("/api/auth/renew", None)).json()["accessToken"])
    third = User(world, "ann", "acme", (await second.post("/api/auth/renew", None)).json()["accessToken"])
    other = await entered(world)
    assert (await second.post("/api/auth/logout", None)).status_code == 204
    for user in (first, second, third):
        refused(await user.get("/api/auth/me"), 401, "TOKEN_INVALID")
        refused(await user.post("/api/auth/renew", None), 401, "TOKEN_INVALID")
    assert (await other.get("/api/auth/me")).status_code == 200


async def test_a_renewal_does_not_come_before_a_logout_elsewhere(world: World, ann: User, database_url: str) -> None:
    """Given a process that has just looked a token up, when it is logged out in another, it is not renewed there."""
    async with open_world(database_url) as other:
        other.clock.move(seconds=1)
        user = await entered(world)
        there = User(other, "ann", "acme", user.token)
        assert (await there.get("/api/auth/me")).status_code == 200
        world.clock.move(seconds=1)
        assert (await ann.post("/api/auth/logout", {"everywhere": True})).status_code == 204
        other.clock.move(seconds=1)
        refused(await there.post("/api/auth/renew", None), 401, "TOKEN_INVALID")


async def test_nor_does_it_open_an_organization_that_an_admin_has_closed(world: World, ann: User) -> None:
    await world.organization("rival")
    await world.user("bob")
    await world.db.execute(
        "INSERT INTO membership (organization_id, account_id, role) VALUES ('rival', 'bob', 'VIEWER')"
    )
    bob = User(world, "bob", "acme", signed(world, sub="bob", orgs={"acme": "ANALYST", "rival": "VIEWER"}))
    world.clock.move(seconds=1)
    assert (await ann.request("DELETE", f"{MEMBERS}/bob/tokens")).status_code == 204
    world.clock.move(seconds=1)
    ticket = (await bob.post("/api/auth/renew", None)).json()
    assert ticket["user"]["organizations"] == [{"id": "rival", "role": "VIEWER"}]
    renewed = User(world, "bob", "acme", ticket["accessToken"])
    refused(await renewed.get("rows"), 403, "FORBIDDEN")


@pytest.mark.parametrize("how", ["renewed again", "a day later", "by an invitation"])
async def test_nor_does_one_that_was_renewed_since(database_url: str, how: str) -> None:
    """Whoever renews a token that is younger than the ADMIN's logout, but of a login of before."""
    async with open_world(database_url, max_token_ttl=86_400) as world:
        for organization in ("acme", "rival"):
            await world.organization(organization)
        bea = await world.user("bea")
        ann = await world.user("ann", role=Role.ADMIN)
        world.clock.move(seconds=1)
        assert (await ann.request("DELETE", f"{MEMBERS}/bea/tokens")).status_code == 204
        for _ in range(5 if how == "a day later" else 1):
            world.clock.move(hours=7)
            bea = User(world, "bea", "acme", (await bea.post("/api/auth/renew", None)).json()["accessToken"])
        if how == "a day later":
            # Another logout is when old ones are forgotten.
            carl = await world.user("carl")
            assert (await carl.post("/api/auth/logout", {"everywhere": True})).status_code == 204
        path, roles = "/api/auth/renew", []
        if how == "by an invitation":
            rita = await world.user("rita", "rival", Role.ADMIN)
            made = await rita.post("/api/v1/orgs/rival/invitations", {"email": "bea@example.com", "role": "VIEWER"})
            path, roles = made.json()["path"], [{"id": "rival", "role": "VIEWER"}]
        ticket = (await bea.request("POST", path)).json()
        assert ticket["user"]["organizations"] == roles
        bea = User(world, "bea", "acme", ticket["accessToken"])
        refused(await bea.get("rows"), 403, "FORBIDDEN")


async def test_nobody_fills_the_audit_by_renewing(world: World, ann: User) -> None:
    for _ in range(20):
        assert (await ann.post("/api/auth/renew", None)).status_code == 200
    answers = [await ann.post("/api/auth/renew", None) for _ in range(5)]
    for answer in answers:
        refused(answer, 429, "TOO_MANY_REQUESTS")
        assert answer.headers["Retry-After"] == "60"
    assert await world.db.fetchval("SELECT count(*) FROM audit WHERE action = 'token.renewed'") == 20


async def test_who_renews_twice_a_minute_always_may(world: World, ann: User) -> None:
    for _ in range(25):
        assert (await ann.post("/api/auth/renew", None)).status_code == 200
        world.clock.move(seconds=30)


async def test_a_minute_begins_with_its_first_renewal(world: World, ann: User) -> None:
    """And ends by itself, however often somebody asks meanwhile."""
    for _ in range(20):
        assert (await ann.post("/api/auth/renew", None)).status_code == 200
        world.clock.move(seconds=2)
    answer = await ann.post("/api/auth/renew", None)
    refused(answer, 429, "TOO_MANY_REQUESTS")
    assert answer.headers["Retry-After"] == "20"
    world.clock.move(seconds=20)
    assert (await ann.post("/api/auth/renew", None)).status_code == 200


async def test_a_removed_account_and_a_removed_operator_renew_nothing(world: World, ann: User) -> None:
    olga = await world.user("olga", operator=True)
    renewed = (await olga.post("/api/auth/renew", None)).json()["accessToken"]
    assert claims(renewed)["operator"] is True
    await world.db.execute("UPDATE account SET operator = false")
    world.clock.move(seconds=5)
    renewed = (await olga.post("/api/auth/renew", None)).json()["accessToken"]
    assert "operator" not in claims(renewed)
    await accounts.remove_account(world.runtime.database, "olga")
    world.clock.move(seconds=5)
    refused(await olga.post("/api/auth/renew", None), 401, "TOKEN_INVALID")


async def test_a_plain_token_of_an_operator_does_not_become_more(world: World, ann: User) -> None:
    await world.user("olga", operator=True)
    plain = User(world, "olga", "acme", signed(world, sub="olga", operator=False))
    assert "operator" not in claims((await plain.post("/api/auth/renew", None)).json()["accessToken"])
