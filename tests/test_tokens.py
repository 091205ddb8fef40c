"""What was trusted once is not trusted for ever: keys, lifetimes, providers of organizations."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from app.accounts import find_account
from app.base.errors import ConfigurationError
from app.base.places import Holder
from app.base.settings import Settings, check
from app.web.auth import Role
from app.web.keys import LARGEST_DOCUMENT
from tests.support.world import SECRET, User, World, open_world, refused
from tests.test_auth import OTHER_RSA, RSA, Provider, federated, foreign, provider, public, signed, whoami

__all__ = ["federated", "provider"]

MEMBERS = "/api/v1/orgs/acme/members"
OURS, THEIRS = "https://login.acme.example", "https://login.rival.example"


async def later(world: World, **time: float) -> None:
    """After so much time, once the provider's keys have been looked after."""
    world.clock.move(**time)
    await whoami(world, foreign(world, jti="later"))
    await world.runtime.auth.tokens.settled()


async def once_settled(world: World, token: str) -> int:
    """The status of a request after those that begin to fetch keys."""
    await whoami(world, token)
    await world.runtime.auth.tokens.settled()
    return (await whoami(world, token)).status_code


# -- a key that was withdrawn ------------------------------------------------------------------------------------------


async def test_a_withdrawn_key_ends_every_token_that_was_seen_before(federated: World, provider: Provider) -> None:
    """Without any new key being met: the tokens themselves have it looked after."""
    seen = foreign(federated, exp=signed_far(federated))
    assert (await whoami(federated, seen)).status_code == 200
    provider.keys = [public(OTHER_RSA, "r2")]
    federated.clock.move(minutes=6)
    assert await once_settled(federated, seen) == 401


async def test_a_key_that_changes_under_its_id_ends_them_too(federated: World, provider: Provider) -> None:
    seen = foreign(federated, exp=signed_far(federated))
    assert (await whoami(federated, seen)).status_code == 200
    provider.keys = [public(OTHER_RSA, "r1")]
    federated.clock.move(minutes=6)
    assert await once_settled(federated, seen) == 401
    assert (await whoami(federated, foreign(federated, OTHER_RSA, "r1"))).status_code == 200


async def test_a_withdrawn_key_ends_after_a_quiet_night_with_the_first_request(
    federated: World, provider: Provider
) -> None:
    """Not with the second: what is an hour old is not trusted before it is looked up."""
    seen = foreign(federated, exp=signed_far(federated))
    assert (await whoami(federated, seen)).status_code == 200
    provider.keys = []
    federated.clock.move(hours=8)
    assert (await whoami(federated, seen)).status_code == 401


async def test_the_same_keys_again_end_nothing(federated: World, provider: Provider) -> None:
    seen = foreign(federated, exp=signed_far(federated))
    generations = set()
    for _ in range(3):
        assert await once_settled(federated, seen) == 200
        generations |= {keys.generation for keys in federated.runtime.auth.tokens._providers.values()}
        federated.clock.move(minutes=6)
    assert len(generations) == 1
    assert provider.asked == 3


async def test_a_verified_token_is_remembered_for_an_hour_at_most(federated: World) -> None:
    seen = foreign(federated, exp=signed_far(federated))
    assert (await whoami(federated, seen)).status_code == 200
    entry = next(iter(federated.runtime.auth.tokens._verified.values()))
    await later(federated, minutes=59)
    assert (await whoami(federated, seen)).status_code == 200
    assert entry in federated.runtime.auth.tokens._verified.values()
    await later(federated, minutes=2)
    assert (await whoami(federated, seen)).status_code == 200
    assert entry not in federated.runtime.auth.tokens._verified.values()


async def test_a_stored_role_is_not_kept_by_a_clock_that_is_put_back(world: World) -> None:
    """Another of its kind: what was read ahead of the clock would have counted until the clock came by again."""
    ann = await world.user("ann", role=Role.ADMIN, ttl=10 * 86_400)
    world.clock.move(days=1)
    assert (await ann.get(MEMBERS)).status_code == 200
    world.clock.move(days=-1)
    await world.db.execute("UPDATE membership SET role = 'VIEWER'")
    assert (await ann.get(MEMBERS)).status_code == 403


def signed_far(world: World) -> int:
    """Hours ahead."""
    return int(world.clock().timestamp()) + 80_000


# -- how long a token may be good for ----------------------------------------------------------------------------------


async def test_a_token_of_more_than_a_day_is_refused_whoever_signed_it(database_url: str, provider: Provider) -> None:
    settings = provider.settings("HS256", "RS256")
    async with open_world(database_url, **settings, max_token_ttl=86_400) as world:
        now = int(world.clock().timestamp())
        for sign in (signed, foreign):
            assert (await whoami(world, sign(world, exp=now + 86_400))).status_code == 200
            answer = await whoami(world, sign(world, exp=now + 86_401))
            refused(answer, 401, "TOKEN_INVALID")
            assert "VANGUARD_MAX_TOKEN_TTL" in answer.json()["detail"]


def test_logins_within_the_longest_lifetime() -> None:
    with pytest.raises(ConfigurationError, match="VANGUARD_MAX_TOKEN_TTL"):
        check(Settings(database_url="", secret=SECRET, token_ttl=86_401))


# -- where keys come from ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["http://login.example/keys", "ftp://login.example/keys", "//login.example/keys", "https://", "file:///etc/keys",
     "http://127.0.0.1.login.example/keys", "http://localhost.login.example/keys", "http://0.0.0.0/keys", "keys"],
)  # fmt: skip
def test_keys_come_by_a_way_on_which_nobody_can_change_them(url: str) -> None:
    settings = Settings(database_url="", secret=SECRET, jwt_algorithms=("RS256",), jwks_url=url)
    with pytest.raises(ConfigurationError, match="https"):
        check(settings)


@pytest.mark.parametrize(
    "url",
    ["https://login.example/keys", "http://127.0.0.1:1/keys", "http://[::1]:8080/keys", "http://localhost:8080/keys"],
)
def test_or_from_this_machine(url: str) -> None:
    check(Settings(database_url="", secret=SECRET, jwt_algorithms=("RS256",), jwks_url=url))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"identity_providers": ("https://a.example",)}, "a space and the address"),
        ({"identity_providers": ("a https://a.example/k", "a https://b.example/k")}, "twice"),
        ({"identity_providers": ("a https://a.example/k",), "jwks_url": "https://a.example/k"}, "not both"),
        ({"identity_providers": ("vanguard https://a.example/k",), "jwt_algorithms": ("HS256", "RS256")}, "ours"),
        ({"identity_providers": ("a http://a.example/k",)}, "https"),
        ({"jwt_algorithms": ("RS256",)}, "VANGUARD_JWKS_URL"),
    ],
)
def test_providers_that_cannot_be_meant(settings: dict[str, Any], said: str) -> None:
    given = {"jwt_algorithms": ("RS256",)} | settings
    with pytest.raises(ConfigurationError, match=said):
        check(Settings(database_url="", secret=SECRET, **given))


async def test_a_short_key_signs_nothing(federated: World, provider: Provider) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    provider.keys = [public(short, "short"), public(RSA, "r1")]
    with capture_logs() as logs:
        await later(federated, minutes=6)
    assert [each["bits"] for each in logs if each["event"] == "key too short"] == [1024]
    assert (await whoami(federated, foreign(federated, short, "short"))).status_code == 401
    assert (await whoami(federated, foreign(federated))).status_code == 200


@contextmanager
def serving(answer: Any) -> Iterator[str]:
    """The address of a provider that answers as it likes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()


async def test_a_set_that_is_too_large_is_not_read(database_url: str) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                sent += handler.wfile.write(b" " * 65_536)
        except OSError:
            handler.close_connection = True

    with serving(endless) as url:
        async with open_world(database_url, jwt_algorithms=("RS256",), jwks_url=url) as world:
            refused(await whoami(world, foreign(world)), 503, "IDENTITY_PROVIDER_UNAVAILABLE")
    assert LARGEST_DOCUMENT < sent < 100 * LARGEST_DOCUMENT


async def test_a_set_that_cannot_be_read_is_asked_for_no_oftener(database_url: str) -> None:
    """Nested so deeply that reading it ends in another error than one of JSON."""
    asked = 0

    def nest(handler: BaseHTTPRequestHandler) -> None:
        nonlocal asked
        asked += 1
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"keys":[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}")

    with serving(nest) as url:
        async with open_world(database_url, jwt_algorithms=("RS256",), jwks_url=url) as world:
            for _ in range(5):
                refused(await whoami(world, foreign(world)), 503, "IDENTITY_PROVIDER_UNAVAILABLE")
                await world.runtime.auth.tokens.settled()
    assert asked == 1


async def test_a_fetch_has_a_deadline_as_a_whole(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily it drips; and a redirect is not followed."""
    monkeypatch.setattr("app.web.keys.DEADLINE", 0.2)
    over = Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not over.wait(0.01):
                handler.wfile.write(b" ")
        except OSError:
            handler.close_connection = True

    with serving(drip) as url:
        async with open_world(database_url, jwt_algorithms=("RS256",), jwks_url=url) as world:
            refused(await whoami(world, foreign(world)), 503, "IDENTITY_PROVIDER_UNAVAILABLE")
        over.set()


async def test_keys_are_not_fetched_from_where_a_redirect_leads(database_url: str, provider: Provider) -> None:
    def lead_away(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", provider.url)
        handler.end_headers()

    with serving(lead_away) as url:
        async with open_world(database_url, jwt_algorithms=("RS256",), jwks_url=url) as world:
            refused(await whoami(world, foreign(world)), 503, "IDENTITY_PROVIDER_UNAVAILABLE")
    assert provider.asked == 0


async def test_an_unknown_key_waits_for_nobody(database_url: str) -> None:
    """Given a provider that does not answer any more, then tokens of unknown keys are answered, and those of known keys
    are served.
    """
    hang, answers, over = Event(), Event(), Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if hang.is_set():
            answers.set()
            over.wait(30)
        body = httpx.Response(200, json={"keys": [public(RSA, "r1")]}).content
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with serving(answer) as url:
        async with open_world(database_url, jwt_algorithms=("RS256",), jwks_url=url) as world:
            await world.organization("acme")
            assert (await whoami(world, foreign(world))).status_code == 200
            hang.set()
            world.clock.move(minutes=6)
            for _ in range(20):
                first = await whoami(world, foreign(world, kid="unknown"))
                assert (first.status_code, first.headers["Retry-After"]) == (503, "1")
                assert (await whoami(world, foreign(world))).status_code == 200
            assert await asyncio.to_thread(answers.wait, 30), "it is being asked all the while"
            over.set()
            await world.runtime.auth.tokens.settled()


# -- whose tokens count where ------------------------------------------------------------------------------------------


class Houses:
    """Two organizations, two providers, and tokens of each."""

    def __init__(self, world: World):
        self.world = world

    def token(self, issuer: str, **changes: Any) -> str:
        """Of ann, who is ADMIN everywhere as far as her provider goes."""
        orgs = {"acme": "ADMIN", "rival": "ADMIN"}
        key, kid = (RSA, "r1") if issuer == OURS else (OTHER_RSA, "r2")
        return foreign(self.world, key, kid, iss=issuer, **({"orgs": orgs} | changes))

    async def status(self, token: str, organization: str = "acme") -> int:
        """Of the members' list there."""
        await self.world.runtime.auth.tokens.settled()
        self.world.runtime.auth.forget()
        headers = {"Authorization": f"Bearer {token}"}
        return (await self.world.http.get(f"/api/v1/orgs/{organization}/members", headers=headers)).status_code

    async def manage(self, organization: str, managed: bool, provider: str | None) -> None:
        """As an operator would."""
        await self.world.db.execute(
            "UPDATE organization SET managed_by_identity_provider = $2, identity_provider = $3 WHERE id = $1",
            organization, managed, provider,
        )  # fmt: skip


@pytest.fixture
async def houses(database_url: str, provider: Provider) -> AsyncIterator[Houses]:
    """With passwords beside both providers."""
    rival_keys = httpx.Response(200, json={"keys": [public(OTHER_RSA, "r2")]}).content

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(rival_keys)))
        handler.end_headers()
        handler.wfile.write(rival_keys)

    with serving(answer) as url:
        providers = (f"{OURS} {provider.url}", f"{THEIRS} {url}")
        async with open_world(database_url, jwt_algorithms=("HS256", "RS256"), identity_providers=providers) as world:
            await world.organization("acme")
            await world.organization("rival")
            yield Houses(world)


async def test_a_managed_organization_takes_its_providers_tokens_only(houses: Houses) -> None:
    world = houses.world
    await world.user("ann", role=Role.ADMIN)
    await houses.manage("acme", True, OURS)
    assert await houses.status(houses.token(OURS)) == 200
    assert await houses.status(houses.token(OURS, sub="somebody-without-an-account")) == 200
    assert await houses.status(houses.token(THEIRS)) == 403
    assert await houses.status(signed(world)) == 403
    # A member who came by a password is told where to go; a stranger is told nothing.
    ours = await User(world, "ann", "acme", signed(world)).get(MEMBERS)
    refused(ours, 403, "WRONG_IDENTITY_PROVIDER")
    theirs = await User(world, "ann", "acme", houses.token(THEIRS)).get(MEMBERS)
    refused(theirs, 403, "FORBIDDEN")


async def test_a_provider_speaks_for_the_organizations_that_name_it_and_for_no_other(houses: Houses) -> None:
    """Another of its kind: with two providers, the one could sign for members of the other's organization."""
    world = houses.world
    await world.user("ann", role=Role.ADMIN)
    assert await houses.status(signed(world)) == 200
    for issuer in (OURS, THEIRS):
        assert await houses.status(houses.token(issuer)) == 403
    await houses.manage("acme", False, OURS)
    assert await houses.status(houses.token(OURS)) == 200
    assert await houses.status(houses.token(THEIRS)) == 403
    assert await houses.status(signed(world)) == 200
    await houses.manage("acme", True, None)
    for token in (houses.token(OURS), houses.token(THEIRS), signed(world)):
        assert await houses.status(token) == 403


async def test_nor_does_it_use_up_what_somebody_of_another_has(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections and bodies at once are a bearer's: a provider names anybody's id."""
    await houses.manage("acme", True, OURS)
    await houses.manage("rival", True, THEIRS)
    holders: list[str] = []

    def hold(user: str, organization: str | None, timeout: float | None = None) -> Holder:
        holders.append(user)
        return Holder(user, organization, timeout)

    monkeypatch.setattr("app.web.work.Holder", hold)
    for issuer, organization in ((OURS, "acme"), (THEIRS, "rival")):
        await houses.status(houses.token(issuer), organization)
        assert await houses.status(houses.token(issuer), organization) == 200
    assert len(set(holders)) == 2


async def test_the_audit_says_which_provider_named_an_actor(houses: Houses) -> None:
    world = houses.world
    await world.user("boss", operator=True)
    headers = bearing(houses.token(THEIRS, sub="boss", orgs={}))
    await houses.status(houses.token(THEIRS))
    assert (await world.http.post("/api/auth/logout", headers=headers, json={"everywhere": True})).status_code == 204
    told = await world.db.fetchval("SELECT details ->> 'provider' FROM audit WHERE actor = 'boss'")
    assert told == THEIRS


async def test_one_provider_does_not_make_operators_of_another(houses: Houses) -> None:
    """Nor does any of several: an operator is whom this installation says, by a token of its own."""
    world = houses.world
    await world.user("ann", operator=True)
    ours = await world.http.get("/api/v1/system/mode", headers=bearing(signed(world, operator=True)))
    assert ours.status_code == 200
    theirs = await world.http.get("/api/v1/system/mode", headers=bearing(houses.token(THEIRS, operator=True)))
    assert theirs.status_code == 403


@pytest.mark.parametrize("body", [{}, {"everywhere": True}])
async def test_nor_one_that_has_the_same_id_there(houses: Houses, body: Any) -> None:
    """Ids are their issuer's: one that counts its tokens would end others', and so would one that copies an id."""
    world = houses.world
    await world.user("ann")
    mine, others = houses.token(THEIRS, jti="1"), (houses.token(OURS, jti="1"), signed(world, jti="1"))
    assert (await whoami(world, mine)).status_code in (200, 503)
    await world.runtime.auth.tokens.settled()
    world.clock.move(seconds=1)
    assert (await world.http.post("/api/auth/logout", headers=bearing(mine), json=body)).status_code == 204
    assert (await whoami(world, mine)).status_code == 401
    for token in others:
        assert (await whoami(world, token)).status_code == 200


async def test_a_logout_at_one_provider_ends_no_token_of_another(houses: Houses) -> None:
    world = houses.world
    await world.user("ann")
    other = houses.token(THEIRS, jti="another")
    tokens = (houses.token(OURS, jti="ours"), signed(world, jti="password"))
    world.clock.move(seconds=1)
    everywhere = await world.http.post(
        "/api/auth/logout", headers=bearing(houses.token(THEIRS)), json={"everywhere": True}
    )
    assert everywhere.status_code == 204
    world.runtime.auth.forget()
    assert (await whoami(world, other)).status_code == 401
    for token in tokens:
        assert (await whoami(world, token)).status_code == 200


@pytest.mark.parametrize("how", ["everywhere", "by an ADMIN"])
async def test_a_providers_clock_that_is_ahead_brings_no_token_over_a_logout(houses: Houses, how: str) -> None:
    """A token may say that it was issued seconds from now, and ends by a logout until then all the same."""
    await houses.manage("acme", True, OURS)
    clock = houses.world.clock
    ahead = houses.token(OURS, iat=int(clock().timestamp()) + 4, jti="ahead")
    assert await houses.status(ahead) == 200
    clock.move(seconds=2)
    if how == "everywhere":
        other = bearing(houses.token(OURS, jti="other"))
        answer = await houses.world.http.post("/api/auth/logout", headers=other, json={"everywhere": True})
    else:
        admin = User(houses.world, "admin", "acme", houses.token(OURS, sub="admin", jti="admin"))
        answer = await admin.request("DELETE", f"{MEMBERS}/ann/tokens")
    assert answer.status_code == 204
    assert await houses.status(ahead) == 401
    clock.move(seconds=5)
    assert await houses.status(ahead) == 401
    assert await houses.status(houses.token(OURS, jti="later")) == 200


async def test_a_token_cannot_have_an_id_that_revokes_an_account(houses: Houses) -> None:
    """Ids of tokens and of removed accounts are in one table."""
    world = houses.world
    await world.user("ann")
    await world.http.post("/api/auth/logout", headers=bearing(houses.token(THEIRS, sub="eve", jti="account:ann")))
    world.runtime.auth.forget()
    assert (await whoami(world, signed(world))).status_code == 200


async def test_an_issuer_that_is_not_configured_is_nobody(houses: Houses) -> None:
    for issuer in ("https://evil.example", "vanguard", "", None):
        token = foreign(houses.world, RSA, "r1", iss=issuer)
        assert (await whoami(houses.world, token)).status_code == 401
    # Nor do the keys of one sign for the other.
    assert (await whoami(houses.world, foreign(houses.world, RSA, "r1", iss=THEIRS))).status_code in (401, 503)


@pytest.mark.parametrize("who", ["x" * 256, "-%00", "%C3%A4", "%0A"])
async def test_who_can_bear_no_token_is_not_logged_out(houses: Houses, who: str) -> None:
    """An ADMIN names bearers by any text, which is stored: long ones do not fit an index."""
    await houses.manage("acme", True, OURS)
    await houses.status(houses.token(OURS))
    admin = User(houses.world, "ann", "acme", houses.token(OURS))
    answer = await admin.request("DELETE", f"{MEMBERS}/{who}/tokens")
    assert answer.status_code in (400, 404), answer.text
    assert await houses.world.db.fetchval("SELECT count(*) FROM logout") == 0
    assert (await admin.request("DELETE", f"{MEMBERS}/{'x' * 255}/tokens")).status_code == 204


async def test_members_of_a_managed_organization_are_not_written_here(houses: Houses) -> None:
    world = houses.world
    await world.user("ann", role=Role.ADMIN)
    await world.user("bob")
    await houses.manage("acme", True, OURS)
    admin = User(world, "ann", "acme", houses.token(OURS))
    refused(await admin.request("PUT", f"{MEMBERS}/bob", json={"role": "ADMIN"}), 409, "MANAGED_ORGANIZATION")
    refused(await admin.request("DELETE", f"{MEMBERS}/bob"), 409, "MANAGED_ORGANIZATION")
    assert await world.db.fetchval("SELECT role FROM membership WHERE account_id = 'bob'") == "ANALYST"


async def test_a_login_does_not_carry_roles_of_managed_organizations(houses: Houses) -> None:
    """Which would decide alone there."""
    world = houses.world
    await world.user("ann", role=Role.ADMIN)
    await world.db.execute(
        "INSERT INTO membership (organization_id, account_id, role) VALUES ('rival', 'ann', 'VIEWER')"
    )
    await houses.manage("acme", True, OURS)
    account = await find_account(world.runtime.database, "ann")
    assert account.roles == {"rival": Role.VIEWER}


def bearing(token: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token}"}
