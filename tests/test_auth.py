"""Tokens, the identity provider's keys, and the role that counts."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from litestar import Litestar, get

from app.base import exact_json
from app.base.clock import now
from app.base.errors import Unauthenticated, VanguardError
from app.web.auth import ALLOWED, Account, Action, Principal, Role, require_operator
from app.web.cookies import SECURE_NAME
from app.web.problems import answer
from app.web.runtime import VanguardRequest
from app.web.tokens import LONGEST_TOKEN
from tests.conftest import new_database
from tests.support.world import SECRET, User, World, asgi, open_world

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the points of P-256
MEMBERS = "/api/v1/orgs/acme/members"


def claims(world: World, **changes: Any) -> dict[str, Any]:
    """The claims of a good token for ann; None takes a claim out."""
    now = int(world.clock().timestamp())
    good = {
        "sub": "ann",
        "orgs": {"acme": "ADMIN"},
        "iss": "vanguard",
        "aud": "vanguard",
        "iat": now,
        "exp": now + 600,
        "jti": "token-1",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(world: World, **changes: Any) -> str:
    return jwt.encode(claims(world, **changes), SECRET, algorithm="HS256")


async def whoami(world: World, token: str) -> httpx.Response:
    return await world.http.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else exact_json.encode(value)
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@pytest.fixture(scope="module")
async def quiet(server_url: str, template: str) -> AsyncIterator[World]:
    """A world for tests that change nothing in it, with ann as ADMIN of acme."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await world.user("ann", role=Role.ADMIN)
            yield world


# --- which tokens are good


async def test_a_good_token_says_who_one_is(world: World) -> None:
    await world.user("ann", role=Role.ADMIN)
    response = await whoami(world, signed(world))
    assert response.status_code == 200
    assert response.json() == {
        "id": "ann",
        "email": "ann@example.com",
        "name": "ann",
        "organizations": [{"id": "acme", "role": "ADMIN"}],
    }


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "Bearer x", "Bearer a.b.c", "Bearer é", "Bearer a b"]
)
async def test_without_a_token_one_is_nobody(quiet: World, header: str) -> None:
    response = await quiet.http.get("/api/auth/me", headers={b"Authorization": header.encode()})
    assert response.status_code == 401
    missing = not header.startswith("Bearer") or header.strip() == "Bearer"
    assert response.json()["code"] == ("TOKEN_MISSING" if missing else "TOKEN_INVALID")
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="vanguard"')
    assert ('error="invalid_token"' in challenge) is not missing


FORGED: dict[str, Callable[[World], str]] = {
    "alg none": lambda world: jwt.encode(claims(world), "", algorithm="none"),
    "alg None, signed": lambda world: with_header(world, {"alg": "None"}),
    "no alg": lambda world: with_header(world, {}),
    "alg a number": lambda world: with_header(world, {"alg": 1}),
    "another algorithm": lambda world: jwt.encode(claims(world), SECRET, algorithm="HS512"),
    "RS256, which is not configured": lambda world: jwt.encode(claims(world), RSA, algorithm="RS256"),
    "another secret": lambda world: jwt.encode(claims(world), "another secret, of thirty-two bytes", algorithm="HS256"),
    "no signature": lambda world: signed(world).rpartition(".")[0] + ".",
    "padding behind the signature": lambda world: signed(world) + "=",
    "no signature part": lambda world: signed(world).rpartition(".")[0],
    "another payload": lambda world: swap_payload(signed(world), claims(world, sub="bob")),
    "too long": lambda world: signed(world, padding="x" * 9000),
    "a header nested too deeply": lambda world: f"{part(b'[' * 5000)}.{part({})}.x",
    "another audience": partial(signed, aud="another"),
    "another issuer": partial(signed, iss="another"),
    "no sub": partial(signed, sub=None),
    "no iss": partial(signed, iss=None),
    "no aud": partial(signed, aud=None),
    "no iat": partial(signed, iat=None),
    "no exp": partial(signed, exp=None),
    "expired": partial(signed, exp=1),
    "from the future": partial(signed, iat=2_000_000_000),
    "not yet": partial(signed, nbf=2_000_000_000),
    "exp a word": partial(signed, exp="tomorrow"),
    "exp out of any range": partial(signed, exp=1e300),
    "sub a number": partial(signed, sub=7),
    "sub with NUL": partial(signed, sub="ann\0"),
    "sub with a line behind it": partial(signed, sub="ann\n"),
    "orgs a list": partial(signed, orgs=["acme"]),
    "orgs a word": partial(signed, orgs="acme"),
    "an unknown role": partial(signed, orgs={"acme": "KING"}),
    "a role in lower case": partial(signed, orgs={"acme": "admin"}),
    "no role": partial(signed, orgs={"acme": 7}),
    "an impossible organization": partial(signed, orgs={"a'b": "ADMIN"}),
    "operator a word": partial(signed, operator="true"),
    "operator a number": partial(signed, operator=1),
}


def with_header(world: World, header: dict[str, Any]) -> str:
    """A token with any header, signed with the right secret."""
    text = f"{part(header)}.{part(claims(world))}"
    return f"{text}.{part(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256))}"


def swap_payload(token: str, payload: dict[str, Any]) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part(payload)}.{signature}"


@pytest.mark.parametrize("name", FORGED)
async def test_any_other_token_is_worthless(quiet: World, name: str) -> None:
    response = await whoami(quiet, FORGED[name](quiet))
    assert (response.status_code, response.json()["code"]) == (
        401,
        "TOKEN_EXPIRED" if name == "expired" else "TOKEN_INVALID",
    )


async def test_a_token_is_good_until_it_expires_and_no_second_longer(world: World) -> None:
    """Also while it is cached."""
    token = signed(world)
    world.clock.move(seconds=599)
    assert (await whoami(world, token)).status_code == 200
    world.clock.move(seconds=1)
    assert (await whoami(world, token)).status_code == 401


async def test_a_providers_clock_may_be_a_little_ahead(world: World) -> None:
    now = int(world.clock().timestamp())
    assert (await whoami(world, signed(world, iat=now + 5, nbf=now + 5))).status_code == 200
    assert (await whoami(world, signed(world, iat=now + 6))).status_code == 401


# --- the identity provider


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"} | more


class Provider:
    """An identity provider: its keys behind a real HTTP server, which can fail."""

    def __init__(self, server: ThreadingHTTPServer):
        self.url = f"http://127.0.0.1:{server.server_port}/keys"
        self.keys: list[dict[str, Any]] = [public(RSA, "r1"), public(EC, "e1")]
        self.status = 200
        self.body: bytes | None = None
        self.asked = 0

    def settings(self, *algorithms: str) -> dict[str, Any]:
        return {"jwks_url": self.url, "jwt_algorithms": algorithms or ("RS256", "ES256")}


@pytest.fixture
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            body = exact_json.encode({"keys": served.keys}) if served.body is None else served.body
            self.send_response(served.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Provider(server)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join(60)


@pytest.fixture
async def federated(database_url: str, provider: Provider) -> AsyncIterator[World]:
    """A world whose people come from the identity provider."""
    async with open_world(database_url, **provider.settings()) as world:
        yield world


def foreign(world: World, key: Any = RSA, kid: str | None = "r1", algorithm: str = "RS256", **changes: Any) -> str:
    return jwt.encode(claims(world, **changes), key, algorithm=algorithm, headers={"kid": kid} if kid else {})


async def test_tokens_of_the_identity_provider(federated: World, provider: Provider) -> None:
    assert (await whoami(federated, foreign(federated))).json()["id"] == "ann"
    elliptic = foreign(federated, EC, "e1", "ES256", email="ann@provider.example", name="Ann")
    assert (await whoami(federated, elliptic)).json() == {
        "id": "ann",
        "email": "ann@provider.example",
        "name": "Ann",
        "organizations": [],
    }
    assert provider.asked == 1


async def test_tokens_of_others_are_refused_beside_an_identity_provider(federated: World, provider: Provider) -> None:
    for token in (
        foreign(federated, OTHER_RSA),  # another's key under a known id
        foreign(federated, RSA, "e1"),  # another key's id
        foreign(federated, EC, "r1", "ES256"),  # a key for another algorithm
        foreign(federated, kid=None),
        foreign(federated, kid="unknown"),
        foreign(federated, algorithm="RS512"),
        foreign(federated, algorithm="PS256"),
        signed(federated),  # HS256 is not configured here
        confused(federated, RSA),
    ):
        assert (await whoami(federated, token)).status_code == 401


async def test_a_public_key_is_no_secret(database_url: str, provider: Provider) -> None:
    """Given HS256 beside RS256, when somebody signs with the public key as if it were the secret, it is refused."""
    async with open_world(database_url, **provider.settings("HS256", "RS256")) as world:
        assert (await whoami(world, signed(world))).status_code == 200
        assert (await whoami(world, foreign(world))).status_code == 200
        assert (await whoami(world, confused(world, RSA))).status_code == 401


def confused(world: World, key: rsa.RSAPrivateKey) -> str:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{part({'alg': 'HS256', 'kid': 'r1'})}.{part(claims(world))}"
    return f"{text}.{part(hmac.digest(pem, text.encode(), hashlib.sha256))}"


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "kid": "r1", "k": "c2VjcmV0"},
        public(RSA, "r1", use="enc"),
        public(RSA, "r1", alg="RS512"),
        {"kty": "RSA", "kid": "r1", "n": "!", "e": 3},
        {"kty": "RSA", "kid": "r1"},
        {"kty": "RSA", "kid": 1},
        {},
        public(ec.generate_private_key(ec.SECP384R1()), "e1"),
    ],
)
async def test_keys_that_are_not_for_our_signatures_are_passed_over(
    federated: World, provider: Provider, key: dict[str, Any]
) -> None:
    provider.keys = [key, public(OTHER_RSA, "good")]
    await refreshed(federated)
    assert (await whoami(federated, foreign(federated))).status_code == 401
    assert (await whoami(federated, foreign(federated, OTHER_RSA, "good"))).status_code == 200


async def test_a_new_key_is_fetched_at_most_once_a_minute(federated: World, provider: Provider) -> None:
    """Beside the requests: whoever sends an unknown one is told to come again."""
    assert (await whoami(federated, foreign(federated))).status_code == 200
    provider.keys.append(public(OTHER_RSA, "r2"))
    rotated = foreign(federated, OTHER_RSA, "r2")
    for _ in range(3):
        assert (await whoami(federated, rotated)).status_code == 401
    assert provider.asked == 1
    federated.clock.move(minutes=1)
    early = await whoami(federated, rotated)
    assert (early.status_code, early.headers["Retry-After"]) == (503, "1")
    await federated.runtime.auth.tokens.settled()
    assert (await whoami(federated, rotated)).status_code == 200
    assert provider.asked == 2


async def test_a_withdrawn_key_ends_within_the_hour(federated: World, provider: Provider) -> None:
    assert (await whoami(federated, foreign(federated))).status_code == 200
    provider.keys = [public(OTHER_RSA, "r2")]
    federated.clock.move(hours=1)
    assert (await whoami(federated, foreign(federated))).status_code == 401


async def test_a_clock_that_is_put_back_does_not_keep_old_keys(federated: World, provider: Provider) -> None:
    """Given keys that were fetched while the clock was a year ahead, then they are fetched again."""
    federated.clock.move(days=365)
    assert (await whoami(federated, foreign(federated))).status_code == 200
    federated.clock.move(days=-365)
    provider.keys = [public(OTHER_RSA, "r2")]
    assert (await whoami(federated, foreign(federated))).status_code in (401, 503)
    await federated.runtime.auth.tokens.settled()
    assert (await whoami(federated, foreign(federated, OTHER_RSA, "r2"))).status_code == 200
    assert (await whoami(federated, foreign(federated))).status_code == 401


@pytest.mark.timed
async def test_forged_tokens_cost_little_and_push_nobody_out(federated: World, provider: Provider) -> None:
    """Given 2,000 forged tokens, of keys that there are and that there are not, as long as tokens may be, then the
    provider is asked once, what is known about good tokens stays, and nothing is kept of the others.
    """
    good = foreign(federated)
    assert (await whoami(federated, good)).status_code == 200
    auth = federated.runtime.auth
    known = (len(auth.tokens._verified), len(auth._stored))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    long = foreign(federated, other, name="x" * 5000)
    head, body, signature = long.split(".")
    unknown = foreign(federated, other, kid="unknown").split(".")
    assert len(long) < LONGEST_TOKEN
    slowest = 0.0
    for n in range(1000):
        for forged in (f"{head}.{body}{n:04d}.{signature}", f"{unknown[0]}.{unknown[1]}{n:04d}.{unknown[2]}"):
            began = time.process_time()
            with pytest.raises(Unauthenticated):
                await auth.verify(forged)
            slowest = max(slowest, time.process_time() - began)
    assert slowest < 0.05
    assert (len(auth.tokens._verified), len(auth._stored)) == known
    assert provider.asked == 1
    provider.status = 500
    assert (await whoami(federated, good)).status_code == 200


async def test_requests_at_the_same_time_share_one_fetch(federated: World, provider: Provider) -> None:
    answers = await asyncio.gather(*(whoami(federated, foreign(federated, sub=f"user-{n}")) for n in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert provider.asked == 1


@pytest.mark.parametrize("body", [None, b"", b"[]", b"{}", b'{"keys": [1]}', b"\xff"])
async def test_a_provider_that_is_down_stops_only_unknown_keys(
    database_url: str, provider: Provider, body: bytes | None
) -> None:
    provider.status, provider.body = 200 if body is not None else 500, body
    async with open_world(database_url, **provider.settings()) as world:
        response = await whoami(world, foreign(world))
        assert (response.status_code, response.json()["code"]) == (503, "IDENTITY_PROVIDER_UNAVAILABLE")
        assert response.headers["Retry-After"] == "10"
        assert (await whoami(world, foreign(world))).status_code == 503
        assert provider.asked == 1

        provider.status, provider.body = 200, None
        world.clock.move(seconds=10)
        assert (await whoami(world, foreign(world))).status_code == 503
        await world.runtime.auth.tokens.settled()
        assert (await whoami(world, foreign(world))).status_code == 200

        # Down again, for hours: the known key goes on, and not for ever.
        provider.status = 500
        world.clock.move(hours=3)
        assert (await whoami(world, foreign(world, exp=far(world)))).status_code == 200
        assert (await whoami(world, foreign(world, kid="unknown"))).status_code == 503
        world.clock.move(hours=21)
        assert (await whoami(world, foreign(world, exp=far(world)))).status_code == 503


def far(world: World) -> int:
    """A time long after the world's."""
    return int(world.clock().timestamp()) + 10 * 86_400


async def refreshed(world: World) -> None:
    """Six minutes later, by what the provider has then."""
    world.clock.move(minutes=6)
    await whoami(world, foreign(world))
    await world.runtime.auth.tokens.settled()


async def test_a_provider_that_nobody_listens_at(database_url: str, provider: Provider) -> None:
    settings = provider.settings() | {"jwks_url": "http://127.0.0.1:1/keys"}
    async with open_world(database_url, **settings) as world:
        assert (await whoami(world, foreign(world))).status_code == 503


# --- the role that counts


async def test_the_lesser_of_the_tokens_and_the_stored_role_counts(world: World) -> None:
    await world.user("ann", role=Role.ENGINEER)
    for claimed, counts in (("ADMIN", "ENGINEER"), ("ENGINEER", "ENGINEER"), ("VIEWER", "VIEWER")):
        token = signed(world, orgs={"acme": claimed}, jti=claimed)
        assert (await whoami(world, token)).json()["organizations"] == [{"id": "acme", "role": counts}]


async def test_a_lowered_role_counts_within_five_seconds(world: World) -> None:
    """But for what administers: there it counts at once."""
    ann = await world.user("ann", role=Role.ADMIN)
    assert (await ann.get("sync/runs")).status_code != 403
    await world.db.execute("UPDATE membership SET role = 'VIEWER'")
    assert (await ann.get("sync/runs")).status_code != 403, "cached"
    world.clock.move(seconds=5)
    assert (await ann.get("sync/runs")).status_code == 403
    assert (await ann.get(MEMBERS)).status_code == 403
    await world.db.execute("DELETE FROM membership")
    world.clock.move(seconds=5)
    assert (await ann.get("rows")).status_code == 403


async def test_a_change_while_the_old_role_is_read_is_not_overlooked(world: World) -> None:
    """Given a request that is reading the old role, when the role changes here, then the old one is not cached."""
    await world.user("ann", role=Role.ADMIN)
    auth = world.runtime.auth
    principal = await auth.verify(signed(world))
    reading = asyncio.ensure_future(auth.counted(principal, "acme"))
    await asyncio.sleep(0)
    auth.forget()
    assert (await reading).role is Role.ADMIN
    await world.db.execute("UPDATE membership SET role = 'VIEWER'")
    assert (await auth.counted(principal, "acme")).role is Role.VIEWER


async def test_a_missing_organization_answers_like_a_foreign_one(world: World) -> None:
    await world.organization("theirs")
    ann = await world.user("ann", role=Role.ADMIN)
    forged = User(world, "ann", "acme", signed(world, orgs={"theirs": "ADMIN", "missing": "ADMIN"}))
    answers = [await who.get(f"/api/v1/orgs/{org}/members") for who in (ann, forged) for org in ("theirs", "missing")]
    bodies = [response.json() for response in answers]
    for body in bodies:
        del body["instance"], body["requestId"]
    assert {response.status_code for response in answers} == {403}
    assert bodies.count(bodies[0]) == 4
    assert bodies[0]["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    "organization", ["%00", "'", "%22", "a" * 10_000, "%F0%9F%98%80", "acme%2F", "..%2f", "acme%00", "ACME"]
)
async def test_an_absurd_organization_is_just_not_yours(quiet: World, organization: str) -> None:
    response = await User(quiet, "ann", "acme", signed(quiet)).get(f"/api/v1/orgs/{organization}/members")
    assert response.status_code in (403, 404)


# --- revocation


async def test_a_revoked_token_is_worthless_everywhere(world: World, database_url: str) -> None:
    """At once in the process that revoked it, within five seconds in another."""
    ann = await world.user("ann", role=Role.ADMIN)
    async with open_world(database_url) as other:
        headers = {"Authorization": f"Bearer {ann.token}"}
        assert (await other.http.get(MEMBERS, headers=headers)).status_code == 200
        assert (await ann.post("/api/auth/logout", None)).status_code == 204
        for path in (MEMBERS, "/api/auth/me", "/api/v1/orgs/foreign/members"):
            response = await ann.get(path)
            assert (response.status_code, response.json()["code"]) == (401, "TOKEN_INVALID")
        other.clock.move(seconds=5)
        assert (await other.http.get(MEMBERS, headers=headers)).status_code == 401


async def test_a_token_without_an_id_can_be_revoked_too(world: World) -> None:
    one, another = signed(world, jti=None), signed(world, jti=None, name="Ann")
    headers = {"Authorization": f"Bearer {one}"}
    assert (await world.http.post("/api/auth/logout", headers=headers)).status_code == 204
    assert (await whoami(world, one)).status_code == 401
    assert (await whoami(world, another)).status_code == 200


def twin(token: str) -> str:
    """The same with the other signature that is valid: of an elliptic curve s is as good as n - s."""
    text, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{text}.{part(raw[:32] + (ORDER - int.from_bytes(raw[32:], 'big')).to_bytes(32, 'big'))}"


async def test_nor_does_it_come_back_with_another_signature(federated: World) -> None:
    token = foreign(federated, EC, "e1", "ES256", jti=None)
    both = token, twin(token)
    for each in both:
        assert (await whoami(federated, each)).status_code == 200
    headers = {"Authorization": f"Bearer {token}"}
    assert (await federated.http.post("/api/auth/logout", headers=headers)).status_code == 204
    for each in both:
        assert (await whoami(federated, each)).status_code == 401


async def test_what_was_revoked_by_the_digest_of_its_whole_text_stays_revoked(world: World) -> None:
    """As 0.1.0 did it."""
    token = signed(world, jti=None)
    await world.db.execute(
        "INSERT INTO revoked_token (id, expires_at) VALUES ($1, now() + interval '1 day')",
        hashlib.sha256(token.encode()).hexdigest(),
    )
    assert (await whoami(world, token)).status_code == 401


async def test_revocations_are_forgotten_when_the_token_has_expired_anyway(database_url: str) -> None:
    """And each that renews it."""
    async with open_world(database_url, max_token_ttl=86_400) as world:
        await world.organization("acme")
        ann, bob = await world.user("ann"), await world.user("bob")
        await ann.post("/api/auth/logout", None)
        world.clock.move(hours=7)
        assert (await bob.get("/api/auth/me")).status_code == 200
        world.clock.move(hours=18)
        cyd = await world.user("cyd")
        await cyd.post("/api/auth/logout", None)
        assert await world.db.fetchval("SELECT count(*) FROM revoked_token") == 1


# --- who may do what


def test_the_matrix_is_the_table_of_the_handbook() -> None:
    analyst, engineer, admin = {Role.ANALYST}, {Role.ENGINEER}, {Role.ADMIN}
    assert {
        Action.QUERY: {Role.VIEWER} | analyst | engineer | admin,
        Action.EDIT: analyst | engineer | admin,
        Action.REGISTER_CONTRACT: engineer | admin,
        Action.INGEST: engineer | admin,
        Action.SYNCHRONIZE: engineer | admin,
        Action.LIFT_GUARDS: admin,
        Action.SEE_SHADOW: engineer | admin,
        Action.REVIEW: admin,
        Action.PROMOTE: admin,
        Action.DECIDE_DRIFT: admin,
        Action.DECIDE_JOINS: admin,
        Action.REPLAY: admin,
        Action.OVERRIDE_GUARDS: admin,
        Action.ADMINISTER: admin,
    } == ALLOWED
    assert Role.VIEWER < Role.ANALYST < Role.ENGINEER < Role.ADMIN


@pytest.mark.parametrize("role", Role)
async def test_routes_ask_the_matrix(world: World, role: Role) -> None:
    user = await world.user("user", role=role)
    assert (await user.get("rows")).status_code == 200
    edited = await user.post("drafts", {"modifications": [{"id": "missing", "delta": {"model": "M"}}]})
    assert (edited.status_code == 403) is (role not in ALLOWED[Action.EDIT])
    members = await user.get(MEMBERS)
    assert (members.status_code == 403) is (role not in ALLOWED[Action.ADMINISTER])


async def test_every_route_but_a_few_wants_a_token(world: World) -> None:
    document = (await world.http.get("/schema/openapi.json")).json()
    open_to_all = set()
    for path, operations in document["paths"].items():
        for method in operations:
            response = await world.http.request(method.upper(), path)
            if response.status_code != 401:
                open_to_all.add(f"{method} {path}")
    # The link of an invitation stands in the path: who has one proves that by it.
    accepting = "post /api/auth/invitations/{token}/accept"
    assert open_to_all == {"get /health", "get /health/ready", "get /metrics", "post /api/auth/login", accepting}


@get("/system", opt=require_operator())
async def system(request: VanguardRequest) -> str:
    return request.user.user_id


@get("/stream", opt={"cookie": True})
async def stream(request: VanguardRequest) -> str:
    return request.user.user_id


@get("/other")
async def other(request: VanguardRequest) -> str:
    return request.user.user_id


async def test_system_routes_take_an_operators_token(world: World) -> None:
    """Not a role: an organization's ADMIN is nobody there. Nor is the claim enough."""
    await world.user("ann", operator=True)
    await world.user("bob")
    for response, expected in [
        (probe(world, "/system", Authorization=f"Bearer {signed(world)}"), 403),
        (probe(world, "/system", Authorization=f"Bearer {signed(world, operator=False)}"), 403),
        (probe(world, "/system", Authorization=f"Bearer {signed(world, operator=True, orgs=None)}"), 200),
        (probe(world, "/system", Authorization=f"Bearer {signed(world, operator=True, sub='bob', jti='b')}"), 403),
        (probe(world, "/system", Authorization=f"Bearer {signed(world, operator=True, sub='eve', jti='e')}"), 403),
    ]:
        assert await response == expected


async def test_the_cookie_opens_the_event_stream_and_nothing_else(world: World) -> None:
    cookie = f"{SECURE_NAME}={signed(world)}"
    assert await probe(world, "/stream", Cookie=cookie) == 200
    assert await probe(world, "/other", Cookie=cookie) == 401
    assert await probe(world, "/stream", Cookie=f"{SECURE_NAME}=forged") == 401
    assert await probe(world, "/stream", Cookie=cookie, Authorization="Bearer forged") == 401


async def probe(world: World, path: str, **headers: str) -> int:
    """The status of a route that this file declares, behind the gate of all routes."""
    app = Litestar(
        [system, stream, other],
        before_request=world.runtime.auth.admit,
        request_class=VanguardRequest,
        exception_handlers={VanguardError: answer},
        openapi_config=None,
    )
    transport = asgi(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://vanguard.test", timeout=60) as client:
        return (await client.get(path, headers=headers)).status_code


def test_a_principal_without_a_role_may_nothing() -> None:
    principal = Principal(user_id="ann", orgs={}, operator=True, token_id="x", expires_at=now())
    assert not any(principal.may(action) for action in Action)


async def test_what_we_issue_we_accept(world: World) -> None:
    account = Account(id="ann", email="a@b.example", name="Ann", operator=True, roles={"acme": Role.VIEWER})
    principal = await world.runtime.auth.verify(world.runtime.auth.issue(account, ttl=60))
    assert (principal.user_id, principal.orgs, principal.operator) == ("ann", {"acme": Role.VIEWER}, True)
    plain = await world.runtime.auth.verify(world.runtime.auth.issue(account, operator=False))
    assert not plain.operator
    world.clock.move(seconds=60)
    with pytest.raises(Unauthenticated):
        await world.runtime.auth.verify(world.runtime.auth.issue(account, ttl=0))


# --- other origins


async def test_only_listed_origins_may_call_from_a_browser(database_url: str) -> None:
    async with open_world(database_url, cors_origin=("https://app.example",)) as world:
        allowed = await world.http.get("/api/auth/me", headers={"Origin": "https://app.example"})
        assert allowed.status_code == 401
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
        exposed = {name.strip() for name in allowed.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed == {"Content-Disposition", "ETag", "Retry-After", "X-Estimated-Rows", "X-Request-ID"}
        other = await world.http.get("/api/auth/me", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers
        for origin, shown in (("https://app.example", True), ("https://evil.example", False)):
            preflight = await world.http.options(
                MEMBERS,
                headers={
                    "Origin": origin,
                    "Access-Control-Request-Method": "PUT",
                    "Access-Control-Request-Headers": "authorization,content-type",
                },
            )
            assert ("Access-Control-Allow-Origin" in preflight.headers) is shown


async def test_no_origin_is_allowed_by_default(world: World) -> None:
    response = await world.http.get("/health", headers={"Origin": "https://app.example"})
    assert not any(name.startswith("access-control") for name in response.headers)
