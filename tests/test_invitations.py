"""Invitations: who is asked to join, and by which link they do."""

import asyncio
import json
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import structlog

from app import accounts, members, passwords
from app.base.errors import ConfigurationError
from app.base.seals import seal
from app.base.settings import Settings, check
from app.base.statements import Statement
from app.contracts import PFA
from app.engine.cursors import KIND as CURSOR
from app.invitations import invitations
from app.invitations.links import KIND, write_link
from app.web import auth
from app.web.auth import Account, Role
from app.worker.upkeep import Retention, forget
from tests.support.world import SECRET, User, World, open_world, refused, written

PATH = "/api/v1/orgs/acme/invitations"
MEMBERS = "/api/v1/orgs/acme/members"
PASSWORD = "tangerine gramophone"
NEWCOMER = {"name": "Nina Newcomer", "password": PASSWORD}


@pytest.fixture
async def admin(world: World) -> User:
    """An ADMIN of acme."""
    return await world.user("admin", role=Role.ADMIN)


async def invite(user: User, email: str = "nina@example.com", role: str = "ANALYST", **headers: str) -> dict[str, Any]:
    """A new invitation, with its link."""
    answer = await user.post(PATH.replace("acme", user.organization), {"email": email, "role": role}, headers=headers)
    return written(answer, 201)


async def accept(
    world: World, made: dict[str, Any] | str, body: Any = None, token: str | None = None
) -> httpx.Response:
    """Accept by the link: with a login's token, or as somebody new."""
    path = f"/api/auth/invitations/{made}/accept" if isinstance(made, str) else made["path"]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await world.http.post(path, json=body, headers=headers)


async def stranger(world: World, name: str = "nina", **roles: Role) -> User:
    """Somebody with an account, and a token that says so."""
    email = f"{name}@example.com"
    await world.db.execute("INSERT INTO account (id, email, name) VALUES ($1, $2, $1)", name, email)
    account = Account(id=name, email=email, name=name, operator=False, roles=roles)
    return User(world, name, "acme", world.runtime.auth.issue(account))


async def roles_of(world: World) -> dict[str, str]:
    """Who is what in acme, by email."""
    return dict(
        await world.db.fetch(
            "SELECT a.email, m.role FROM membership m JOIN account a ON a.id = m.account_id"
            " WHERE m.organization_id = 'acme'"
        )
    )


async def acts(world: World) -> list[tuple[str, str | None, dict[str, Any]]]:
    """What the audit tells of invitations."""
    rows = await world.db.fetch(
        "SELECT action, actor, details FROM audit WHERE action ~ '^(invitation|member|account)[.]' ORDER BY id"
    )
    return [(row["action"], row["actor"], json.loads(row["details"])) for row in rows]


def tampered(token: str, change: Callable[[bytes], bytes]) -> str:
    """A token with other bytes in it."""
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return urlsafe_b64encode(change(raw)).rstrip(b"=").decode()


# -- inviting ----------------------------------------------------------------------------------------------------------


async def test_an_admin_invites_an_address_and_gets_a_link(world: World, admin: User) -> None:
    response = await admin.post(PATH, {"email": " Nina@EXAMPLE.com ", "role": "ENGINEER"})
    assert response.headers["Cache-Control"] == "no-store"
    made = written(response, 201)
    token = made.pop("token")
    assert made == {
        "id": str(uuid.UUID(made["id"])),
        "email": "nina@example.com",
        "role": "ENGINEER",
        "invitedBy": "admin",
        "invitedByName": "admin",
        "createdAt": "2026-03-01T12:00:00Z",
        "expiresAt": "2026-03-08T12:00:00Z",
        "path": f"/api/auth/invitations/{token}/accept",
        "link": None,
    }
    assert await roles_of(world) == {"admin@example.com": "ADMIN"}, "inviting makes nobody a member"
    listed = (await admin.get(PATH)).json()
    shown = {name: value for name, value in made.items() if name not in ("path", "link")}
    assert listed == {"data": [shown], "nextCursor": None}


async def test_nothing_of_a_link_is_stored(world: World, admin: User) -> None:
    """Whoever reads the database, or a backup of it, joins nothing; not even by what an Idempotency-Key keeps."""
    made = await invite(admin, **{"Idempotency-Key": "k"})
    tables = await world.db.fetch(
        "SELECT quote_ident(table_name) AS name FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    stored = ""
    for table in tables:
        stored += "".join(row["text"] for row in await world.db.fetch(f"SELECT t::text AS text FROM {table['name']} t"))
        if table["name"] == "idempotency_key":
            rows = await world.db.fetch("SELECT convert_from(answer, 'UTF8') AS body FROM idempotency_key")
            stored += rows[0]["body"]
    assert made["id"] in stored
    signature = made["token"][:20]
    assert signature not in stored
    assert signature.encode().hex() not in stored


async def test_a_link_leads_to_the_page_of_the_installation_and_never_to_a_host_that_asks(
    world: World, database_url: str, admin: User
) -> None:
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Origin": "https://evil.example"}
    made = await invite(admin, **forged)
    assert "evil" not in json.dumps(made)
    async with open_world(database_url, invitation_page="https://vanguard.example/join?l=en") as other:
        ally = User(other, "admin", "acme", admin.token)
        made = await invite(ally, **forged)
        # Behind a #: no server and no Referer gets to see it.
        assert made["link"] == f"https://vanguard.example/join?l=en#{made['token']}"


@pytest.mark.parametrize(
    "page",
    ["vanguard.example", "http://vanguard.example/join", "javascript:alert(1)", "https://a.example/#x", "https:///"],
)
def test_a_page_for_links_is_https_and_has_no_fragment(page: str) -> None:
    with pytest.raises(ConfigurationError, match="VANGUARD_INVITATION_PAGE"):
        check(Settings(database_url="", secret=SECRET, invitation_page=page))
    check(Settings(database_url="", secret=SECRET, invitation_page="http://localhost:5173/join"))


async def test_known_and_unknown_addresses_answer_alike_and_take_the_same_work(
    world: World, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stranger(world, "known")
    await world.organization("theirs")
    await world.user("elsewhere", "theirs")
    run: list[str] = []
    original = Statement.bind

    def bound(self: Statement, given: Any) -> Any:
        run.append(self.name)
        return original(self, given)

    monkeypatch.setattr(Statement, "bind", bound)
    assert (await admin.get(PATH)).status_code == 200, "who asks is remembered"
    told = []
    for name in ("known", "unknown", "elsewhere"):
        run.clear()
        response = await admin.post(PATH, {"email": f"{name}@example.com", "role": "VIEWER"})
        made = written(response, 201)
        own = {made["id"]: "ID", made["token"]: "TOKEN", name: "NAME"}
        text = json.dumps(made)
        for value, label in own.items():
            text = text.replace(value, label)
        headers = {n: v for n, v in response.headers.items() if n not in ("x-request-id", "content-length")}
        told.append((response.status_code, text, headers, list(run)))
    assert told[0] == told[1] == told[2]


async def test_a_member_is_not_invited(world: World, admin: User) -> None:
    """Nor is one invited to where one is oneself: a role above one's own, or a weaker one, comes by no link."""
    await world.user("ann")
    for email in ("ann@example.com", "ANN@example.com", "admin@example.com"):
        refused(await admin.post(PATH, {"email": email, "role": "VIEWER"}), 409, "ALREADY_EXISTS")
    assert (await admin.get(PATH)).json()["data"] == []


@pytest.mark.parametrize(
    "email",
    [
        "",
        "nobody",
        "a@",
        "@b",
        "a b@c",
        "a@b@c",
        "a\u0000@b",
        "a\u200b@b.example",
        "a@b.example\u202e",
        "a\n@b",
        "ä" * 251 + "@b.c",
    ],
)
async def test_what_is_no_address_is_refused(admin: User, email: str) -> None:
    response = await admin.post(PATH, {"email": email, "role": "VIEWER"})
    assert response.status_code in (400, 422), response.text
    assert response.json()["errors"][0]["field"] == "email"


async def test_an_address_is_one_whatever_its_case_and_composition_and_a_lookalike_is_another(
    world: World, admin: User
) -> None:
    first = await invite(admin, "J\u00fcrgen@Example.com")
    second = await invite(admin, "ju\u0308rgen@example.COM")
    lookalike = await invite(admin, "j\u00fcrg\u0435n@example.com")  # a Cyrillic letter
    assert first["email"] == second["email"] != lookalike["email"]
    listed = [each["id"] for each in (await admin.get(PATH)).json()["data"]]
    assert sorted(listed) == sorted([second["id"], lookalike["id"]])
    await world.db.execute("INSERT INTO account (id, email, name) VALUES ('j', $1, 'j')", second["email"])
    account = Account(id="j", email=second["email"], name="j", operator=False, roles={})
    token = world.runtime.auth.issue(account)
    refused(await accept(world, lookalike, token=token), 403, "FORBIDDEN")
    assert (await accept(world, second, token=token)).status_code == 200


async def test_a_second_invitation_takes_the_place_of_the_first_whose_link_is_dead(world: World, admin: User) -> None:
    first = await invite(admin, role="ADMIN")
    second = await invite(admin, role="VIEWER")
    refused(await accept(world, first, NEWCOMER), 404, "INVITATION_NOT_FOUND")
    assert (await accept(world, second, NEWCOMER)).json()["user"]["organizations"] == [{"id": "acme", "role": "VIEWER"}]


async def test_an_idempotency_key_repeats_the_link(world: World, admin: User) -> None:
    key = {"Idempotency-Key": "once"}
    made = await invite(admin, **key)
    assert await invite(admin, **key) == made
    assert await world.db.fetchval("SELECT count(*) FROM invitation") == 1
    assert (await accept(world, made, NEWCOMER)).status_code == 200
    assert await invite(admin, **key) == made
    refused(await accept(world, made, NEWCOMER), 404, "INVITATION_NOT_FOUND")


async def test_an_organization_has_no_more_than_so_many_open(world: World, database_url: str, admin: User) -> None:
    async with open_world(database_url, max_invitations=2) as other:
        ally = User(other, "admin", "acme", admin.token)
        await invite(ally, "a@example.com")
        await invite(ally, "b@example.com")
        refused(await ally.post(PATH, {"email": "c@example.com", "role": "VIEWER"}), 409, "QUOTA_EXCEEDED")
        await invite(ally, "b@example.com")
        answers = await asyncio.gather(
            *(ally.request("DELETE", f"{PATH}/{each['id']}") for each in (await ally.get(PATH)).json()["data"])
        )
        assert {answer.status_code for answer in answers} == {204}
        asked = [ally.post(PATH, {"email": f"{n}@example.com", "role": "VIEWER"}) for n in range(6)]
        assert sorted(answer.status_code for answer in await asyncio.gather(*asked)) == [201, 201, 409, 409, 409, 409]
        other.clock.move(days=7)
        fresh = await other.user("fresh", role=Role.ADMIN)
        await invite(fresh, "z@example.com")
        assert await other.db.fetchval("SELECT count(*) FROM invitation") == 1, "what has expired went with it"


async def test_open_invitations_are_paged_by_address(world: World, admin: User) -> None:
    await world.organization("theirs")
    eve = await world.user("eve", "theirs", Role.ADMIN)
    await invite(eve, "secret@example.com")
    for number in range(5):
        await invite(admin, f"{number}@example.com")
    shown, after = [], None
    while True:
        page = (await admin.get(PATH, params={"limit": 2} | ({"after": after} if after else {}))).json()
        shown += [each["email"] for each in page["data"]]
        assert not any("token" in each or "path" in each for each in page["data"])
        if (after := page["nextCursor"]) is None:
            break
        refused(await eve.get(PATH.replace("acme", "theirs"), params={"after": after}), 400, "INVALID_CURSOR")
    assert shown == [f"{number}@example.com" for number in range(5)]
    for query in ({"limit": 0}, {"limit": 201}, {"after": "x"}, {"email": "x"}):
        assert (await admin.get(PATH, params=query)).status_code == 400


# -- accepting ---------------------------------------------------------------------------------------------------------


async def test_somebody_new_makes_an_account_and_is_a_member(world: World, admin: User) -> None:
    made = await invite(admin, role="ENGINEER")
    response = await accept(world, made, NEWCOMER)
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert "HttpOnly" in response.headers["Set-Cookie"]
    ticket = response.json()
    user = ticket["user"]
    assert user == {
        "id": user["id"],
        "email": "nina@example.com",
        "name": "Nina Newcomer",
        "organizations": [{"id": "acme", "role": "ENGINEER"}],
    }
    nina = User(world, user["id"], "acme", ticket["accessToken"])
    assert await nina.rows() == []
    login = await world.http.post("/api/auth/login", json={"email": "nina@example.com", "password": PASSWORD})
    assert login.json()["user"] == user
    assert await acts(world) == [
        ("member.invited", "admin", {"invitation": made["id"], "role": "ENGINEER"}),
        ("account.added", user["id"], {"account": user["id"], "operator": False}),
        ("member.joined", user["id"], {"invitation": made["id"], "account": user["id"], "role": "ENGINEER"}),
    ]
    assert (await admin.get(PATH)).json()["data"] == []


async def test_somebody_with_an_account_accepts_by_their_login(world: World, admin: User) -> None:
    await world.organization("theirs")
    nina = await world.user("nina", "theirs", Role.ADMIN)
    made = await invite(admin, role="VIEWER")
    assert (await nina.get("/api/v1/orgs/acme/datasets")).status_code == 403
    ticket = (await accept(world, made, token=nina.token)).json()
    assert ticket["user"]["organizations"] == [{"id": "acme", "role": "VIEWER"}, {"id": "theirs", "role": "ADMIN"}]
    joined = User(world, "nina", "acme", ticket["accessToken"])
    assert (await joined.get("/api/v1/orgs/acme/datasets")).status_code == 200
    assert (await joined.get(MEMBERS)).status_code == 403
    # It is the login that it was: it ends no later, and with the same logout.
    assert (await joined.post("/api/auth/logout", {})).status_code == 204
    assert (await nina.get("/api/auth/me")).status_code == 401


async def test_a_new_token_lives_no_longer_than_the_one_that_it_was_given_for(world: World, admin: User) -> None:
    nina = await stranger(world)
    made = await invite(admin)
    world.clock.move(hours=7)
    ticket = (await accept(world, made, token=nina.token)).json()
    assert ticket["expiresIn"] == 3600


async def test_a_link_alone_is_not_enough_where_there_is_an_account(world: World, admin: User) -> None:
    """Whoever has the link would else choose a password of somebody else's account."""
    nina = await stranger(world)
    made = await invite(admin)
    before = await world.db.fetchrow("SELECT * FROM account WHERE id = 'nina'")
    refused(await accept(world, made, NEWCOMER), 409, "ACCOUNT_EXISTS")
    assert await world.db.fetchrow("SELECT * FROM account WHERE id = 'nina'") == before
    assert (await accept(world, made, token=nina.token)).status_code == 200, "the link is still good"


async def test_a_link_is_for_the_address_that_was_invited(world: World, admin: User) -> None:
    """What is stored counts, not what a token says; and nobody is told whose link it is."""
    made = await invite(admin)
    eve = await stranger(world, "eve")
    forged = Account(id="eve", email="nina@example.com", name="Nina", operator=True, roles={"acme": Role.ADMIN})
    for token in (eve.token, admin.token, world.runtime.auth.issue(forged)):
        answer = refused(await accept(world, made, token=token), 403, "FORBIDDEN")
        assert "nina" not in json.dumps({name: answer[name] for name in ("detail", "title")})
    assert await roles_of(world) == {"admin@example.com": "ADMIN"}
    assert (await accept(world, made, NEWCOMER)).status_code == 200


@pytest.mark.parametrize(
    ("body", "token", "status", "code"),
    [
        (None, None, 401, "TOKEN_MISSING"),
        ({}, None, 401, "TOKEN_MISSING"),
        (None, "x", 401, "TOKEN_INVALID"),
        (NEWCOMER, "x", 400, "MALFORMED_REQUEST"),
        ({"name": "N"}, None, 400, "MALFORMED_REQUEST"),
        ({"name": "N", "password": "short"}, None, 422, "VALIDATION_FAILED"),
        ({"name": "N", "password": "x" * 1001}, None, 400, "MALFORMED_REQUEST"),
        ({"name": " ", "password": PASSWORD}, None, 422, "VALIDATION_FAILED"),
        ({"name": "a\u0000b", "password": PASSWORD}, None, 422, "VALIDATION_FAILED"),
        ({"name": "a\u202eb", "password": PASSWORD}, None, 422, "VALIDATION_FAILED"),
        ({"name": "N", "password": PASSWORD, "role": "ADMIN"}, None, 400, "MALFORMED_REQUEST"),
        ({"name": "N", "password": PASSWORD, "email": "eve@example.com"}, None, 400, "MALFORMED_REQUEST"),
        ([], None, 400, "MALFORMED_REQUEST"),
        ({"name": "N", "password": "x" * 5000}, None, 413, "PAYLOAD_TOO_LARGE"),
    ],
)  # fmt: skip
async def test_what_cannot_be_accepted_leaves_the_link_as_it_is(
    world: World, admin: User, body: Any, token: str | None, status: int, code: str
) -> None:
    made = await invite(admin)
    refused(await accept(world, made, body, token), status, code)
    assert (await accept(world, made, NEWCOMER)).status_code == 200


async def test_whoever_renews_too_often_finds_the_link_as_it_is(
    world: World, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await invite(admin)
    nina = await stranger(world)
    with monkeypatch.context() as patch:
        patch.setattr(auth, "RENEWALS", 0)
        answer = await accept(world, made, token=nina.token)
    refused(answer, 429, "TOO_MANY_REQUESTS")
    assert int(answer.headers["Retry-After"]) > 0
    assert await roles_of(world) == {"admin@example.com": "ADMIN"}
    assert (await accept(world, made, token=nina.token)).status_code == 200
    assert (await roles_of(world))["nina@example.com"] == "ANALYST"


async def test_wrong_expired_withdrawn_and_used_links_answer_alike(world: World, admin: User) -> None:
    used, withdrawn, replaced, other = [await invite(admin, f"{n}@example.com") for n in range(4)]
    assert (await accept(world, used, NEWCOMER)).status_code == 200
    assert (await admin.request("DELETE", f"{PATH}/{withdrawn['id']}")).status_code == 204
    assert (await invite(admin, "2@example.com"))["token"] != replaced["token"]
    token = other["token"]
    at = world.clock.at
    secret = world.runtime.settings.secret
    real = uuid.UUID(other["id"])
    bad = [
        used["token"],
        withdrawn["token"],
        replaced["token"],
        token[:-1],
        token + "A",
        token + "=",
        token[:40],
        token.swapcase(),
        "x",
        "x" * 5000,
        "%20" + token,
        tampered(token, lambda raw: raw.replace(b"acme", b"evil")),
        tampered(token, lambda raw: b"\0" * 32 + raw[32:]),
        tampered(token, lambda raw: raw[:32] + raw[32:].replace(b"[", b"[ ")),
        write_link(secret, "theirs", real, at.replace(year=2030)),
        write_link(secret, "acme", uuid.uuid4(), at.replace(year=2030)),
        write_link(secret[::-1], "acme", real, at.replace(year=2030)),
        # What is sealed as something else, or not ours to begin with.
        seal(secret, CURSOR, urlsafe_b64decode(token + "=" * (-len(token) % 4))[32:]),
        world.runtime.auth.issue(Account(id="x", email="x", name="x", operator=False, roles={})),
    ]
    await world.organization("theirs")
    told = []
    for each in bad:
        answer = await accept(world, each, NEWCOMER)
        refused(answer, 404, "INVITATION_NOT_FOUND")
        told.append({name: value for name, value in answer.json().items() if name not in ("instance", "requestId")})
    world.clock.move(days=7)
    expired = (await accept(world, other, NEWCOMER)).json()
    told.append({name: value for name, value in expired.items() if name not in ("instance", "requestId")})
    assert all(each == told[0] for each in told)
    assert KIND != CURSOR


async def test_a_link_that_expires_in_the_database_first_is_dead_whatever_it_says(world: World, admin: User) -> None:
    made = await invite(admin)
    await world.db.execute("UPDATE invitation SET expires_at = $1", world.clock.at)
    refused(await accept(world, made, NEWCOMER), 404, "INVITATION_NOT_FOUND")
    refused(await admin.request("DELETE", f"{PATH}/{made['id']}"), 404, "INVITATION_NOT_FOUND")
    assert (await admin.get(PATH)).json()["data"] == []


async def test_looking_at_a_link_does_not_use_it(world: World, admin: User) -> None:
    """As mail readers and messengers do."""
    made = await invite(admin)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert (await world.http.request(method, made["path"])).status_code == 405
    assert (await world.http.request("OPTIONS", made["path"])).status_code in (204, 405)
    assert (await accept(world, made, NEWCOMER)).status_code == 200


async def test_no_page_of_elsewhere_logs_somebody_in_as_whom_it_made(world: World, admin: User) -> None:
    """A form can send a body that happens to be JSON, and the answer would set the cookie."""
    made = await invite(admin)
    body = json.dumps(NEWCOMER).encode()
    refusals: list[tuple[dict[str, str], int, str]] = [
        ({"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Type": "application/json", "Origin": "https://evil.example"}, 403, "FORBIDDEN"),
        ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403, "FORBIDDEN"),
    ]
    for headers, status, code in refusals:
        refused(await world.http.post(made["path"], content=body, headers=headers), status, code)
    assert (await accept(world, made, NEWCOMER)).status_code == 200


async def test_of_two_who_accept_at_once_one_does(world: World, admin: User) -> None:
    made = await invite(admin)
    answers = await asyncio.gather(*(accept(world, made, NEWCOMER) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers)[0] == 200
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.json()["code"] for answer in answers if answer.status_code != 200} <= {
        "INVITATION_NOT_FOUND",
        "ACCOUNT_EXISTS",
    }
    assert await world.db.fetchval("SELECT count(*) FROM account WHERE email = 'nina@example.com'") == 1
    nina = await stranger(world, "bob")
    second = await invite(admin, "bob@example.com")
    answers = await asyncio.gather(*(accept(world, second, token=nina.token) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404]
    assert [act for act, _, _ in await acts(world)].count("member.joined") == 2


async def during_hash(
    world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Coroutine[Any, Any, Any]]
) -> None:
    """Have something happen while a password is hashed."""
    hashed = passwords.hash_password
    loop = asyncio.get_running_loop()

    def meanwhile(password: str) -> str:
        asyncio.run_coroutine_threadsafe(act(), loop).result(30)
        return hashed(password)

    monkeypatch.setattr(invitations, "hash_password", meanwhile)


async def test_an_account_that_is_made_meanwhile_is_not_taken_over(
    world: World, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await invite(admin)
    await during_hash(world, monkeypatch, lambda: stranger(world))
    refused(await accept(world, made, NEWCOMER), 409, "ACCOUNT_EXISTS")
    assert await world.db.fetchval("SELECT password_hash FROM account WHERE id = 'nina'") is None
    assert (await admin.get(PATH)).json()["data"], "the link is still good"


async def test_what_is_withdrawn_while_somebody_accepts_is_not_accepted(
    world: World, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await invite(admin)
    await during_hash(world, monkeypatch, lambda: admin.request("DELETE", f"{PATH}/{made['id']}"))
    refused(await accept(world, made, NEWCOMER), 404, "INVITATION_NOT_FOUND")
    assert await world.db.fetchval("SELECT count(*) FROM account WHERE email = 'nina@example.com'") == 0


async def test_what_fails_on_the_way_leaves_the_link_usable(world: World, admin: User) -> None:
    made = await invite(admin)
    nina = await stranger(world)
    await world.db.execute("ALTER TABLE membership ADD CONSTRAINT no CHECK (account_id <> 'nina')")
    assert (await accept(world, made, token=nina.token)).status_code >= 500
    await world.db.execute("ALTER TABLE membership DROP CONSTRAINT no")
    assert [act for act, _, _ in await acts(world)] == ["member.invited"]
    assert (await accept(world, made, token=nina.token)).status_code == 200


async def test_a_process_that_dies_while_somebody_accepts_leaves_the_link_usable(
    world: World, admin: User, database_url: str
) -> None:
    """The connection ends between taking the invitation and the commit."""
    made = await invite(admin)
    nina = await stranger(world)
    holder = await asyncpg.connect(database_url)
    await holder.execute("BEGIN; LOCK TABLE membership IN SHARE ROW EXCLUSIVE MODE")
    asked = asyncio.create_task(accept(world, made, token=nina.token))
    waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%public.membership%'"
    async with asyncio.timeout(60):
        while (pid := await world.db.fetchval(waits)) is None:  # noqa: ASYNC110 - another server says when
            await asyncio.sleep(0.01)
    await world.db.execute("SELECT pg_terminate_backend($1)", pid)
    assert (await asked).status_code == 503
    await holder.execute("ROLLBACK")
    await holder.close()
    assert (await accept(world, made, token=nina.token)).status_code == 200


async def test_an_existing_member_keeps_the_role_that_the_operator_gave(world: World, admin: User) -> None:
    made = await invite(admin, role="VIEWER")
    nina = await stranger(world)
    await members.give_role(world.runtime.database, "acme", "nina", Role.ADMIN)
    ticket = (await accept(world, made, token=nina.token)).json()
    assert ticket["user"]["organizations"] == [{"id": "acme", "role": "ADMIN"}]
    assert [act for act, _, _ in await acts(world)] == ["member.invited", "member.joined"]
    refused(await accept(world, made, token=nina.token), 404, "INVITATION_NOT_FOUND")


@pytest.mark.parametrize("body", [NEWCOMER | {"password": "short"}, NEWCOMER | {"name": " "}, {"name": "N"}, [], 7])
async def test_what_makes_no_account_tells_of_none(world: World, admin: User, body: Any) -> None:
    """An ADMIN could try links of their own with what is refused anyway."""
    await stranger(world)
    answers = [await accept(world, await invite(admin, f"{name}@example.com"), body) for name in ("nina", "nobody")]
    assert len({(answer.status_code, answer.json()["code"], answer.json()["detail"]) for answer in answers}) == 1


# -- what moves while an invitation is open ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "demoted", "account removed"])
async def test_an_invitation_ends_when_whoever_made_it_is_no_admin_any_more(
    world: World, admin: User, how: str
) -> None:
    """Else they come back by one that they wrote to themselves. Those of others stand."""
    other = await world.user("other", role=Role.ADMIN)
    made, theirs = await invite(admin), await invite(other, "second@example.com")
    database = world.runtime.database
    if how == "removed":
        await members.end_membership(database, "acme", "admin")
    elif how == "demoted":
        await members.give_role(database, "acme", "admin", Role.ENGINEER)
    else:
        await accounts.remove_account(database, "admin")
    world.runtime.auth.forget()
    assert [each["id"] for each in (await other.get(PATH)).json()["data"]] == [theirs["id"]]
    refused(await accept(world, made, NEWCOMER), 404, "INVITATION_NOT_FOUND")
    assert (await other.request("DELETE", f"{PATH}/{theirs['id']}")).status_code == 204
    assert (await acts(world))[-1] == (
        "invitation.withdrawn", "other", {"invitation": theirs["id"], "role": "ANALYST"}
    )  # fmt: skip


async def test_whoever_was_removed_does_not_come_back_by_an_older_link(world: World, admin: User) -> None:
    """Neither who was removed from the organization, nor whose account was from the installation."""
    made, second = await invite(admin), await invite(admin, "bob@example.com")
    await stranger(world)
    await members.give_role(world.runtime.database, "acme", "nina", Role.ANALYST)
    await members.end_membership(world.runtime.database, "acme", "nina")
    refused(await accept(world, made, token=(await world_token(world, "nina"))), 404, "INVITATION_NOT_FOUND")
    bob = await stranger(world, "bob")
    await accounts.remove_account(world.runtime.database, "bob")
    world.runtime.auth.forget()
    for body, token in ((NEWCOMER, None), (None, bob.token)):
        refused(await accept(world, second, body, token), 404, "INVITATION_NOT_FOUND")
    third = await invite(admin, "bob@example.com")
    refused(await accept(world, third, token=bob.token), 401, "TOKEN_INVALID")


async def world_token(world: World, name: str) -> str:
    account = await accounts.find_account(world.runtime.database, name)
    return world.runtime.auth.issue(account)


async def test_tokens_that_have_ended_accept_nothing(world: World, admin: User) -> None:
    made = await invite(admin)
    nina = await stranger(world)
    away = await world_token(world, "nina")
    assert (await User(world, "nina", "acme", away).post("/api/auth/logout", {})).status_code == 204
    refused(await accept(world, made, token=away), 401, "TOKEN_INVALID")
    world.clock.move(seconds=1)
    await accounts.set_password(world.runtime.database, world.runtime.auth, "nina", PASSWORD, strict=False)
    refused(await accept(world, made, token=nina.token), 401, "TOKEN_INVALID")
    world.clock.move(hours=9)
    refused(await accept(world, made, token=nina.token), 401, "TOKEN_EXPIRED")
    assert await roles_of(world) == {"admin@example.com": "ADMIN"}


async def test_a_logout_elsewhere_counts_at_once_where_a_token_is_given_for_one(
    world: World, admin: User, database_url: str
) -> None:
    made = await invite(admin)
    nina = await stranger(world)
    assert (await nina.get("/api/auth/me")).status_code == 200, "what is stored is remembered here"
    async with open_world(database_url) as other:
        there = User(other, "nina", "acme", nina.token)
        assert (await there.post("/api/auth/logout", {"everywhere": True})).status_code == 204
    refused(await accept(world, made, token=nina.token), 401, "TOKEN_INVALID")


async def test_an_organization_that_its_identity_provider_manages_invites_nobody(world: World, admin: User) -> None:
    made = await invite(admin)
    nina = await stranger(world)
    await world.db.execute("UPDATE organization SET managed_by_identity_provider = true WHERE id = 'acme'")
    for body, token in ((NEWCOMER, None), (None, nina.token)):
        refused(await accept(world, made, body, token), 409, "MANAGED_ORGANIZATION")
    assert await roles_of(world) == {"admin@example.com": "ADMIN"}
    await world.db.execute("UPDATE organization SET managed_by_identity_provider = false WHERE id = 'acme'")
    assert (await accept(world, made, token=nina.token)).status_code == 200


async def test_an_organization_that_is_gone_takes_its_invitations_along(world: World, admin: User) -> None:
    await world.organization("brief")
    made = await invite(await world.user("bea", "brief", Role.ADMIN))
    await world.db.execute("DELETE FROM organization WHERE id = 'brief'")
    refused(await accept(world, made, NEWCOMER), 404, "INVITATION_NOT_FOUND")


async def test_where_tokens_are_an_identity_providers_nobody_accepts_here(
    world: World, admin: User, database_url: str
) -> None:
    made = await invite(admin)
    async with open_world(database_url, jwt_algorithms=("RS256",), jwks_url="http://127.0.0.1:9/keys") as other:
        refused(await accept(other, made, NEWCOMER), 403, "FORBIDDEN")


# -- what it costs, and what it tells ----------------------------------------------------------------------------------


async def test_no_hash_is_worked_out_for_a_link_that_is_not_open(
    world: World, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes: list[str] = []
    monkeypatch.setattr(invitations, "hash_password", lambda password: hashes.append(password))
    made = await invite(admin)
    await stranger(world)
    refused(await accept(world, made, NEWCOMER), 409, "ACCOUNT_EXISTS")
    assert (await admin.request("DELETE", f"{PATH}/{made['id']}")).status_code == 204
    for token in (made["token"], "x", made["token"][:-2]):
        refused(await accept(world, token, NEWCOMER), 404, "INVITATION_NOT_FOUND")
    assert hashes == []


async def test_hashes_take_turns_with_logins(world: World, admin: User, database_url: str) -> None:
    async with open_world(database_url, login_hashes=1, login_queue=1) as other:
        made = await invite(User(other, "admin", "acme", admin.token))
        hashing = other.runtime.hashing
        async with hashing.turn("192.0.2.1", "somebody", at_home=False):
            waiting = [asyncio.create_task(accept(other, made, NEWCOMER)) for _ in range(3)]
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                refused(task.result(), 503, "LOGINS_BUSY")
            assert len(done) < 3
        answers = [task.result() for task in waiting if task in done or await task]
        assert [answer.status_code for answer in answers].count(200) == 1


async def test_no_line_of_the_log_has_a_link_in_it(world: World, admin: User) -> None:
    made = await invite(admin)
    with structlog.testing.capture_logs() as lines:
        await accept(world, made, {"name": "N", "password": "short"})
        await accept(world, made["token"][:-1], NEWCOMER)
        await accept(world, made, NEWCOMER)
        await world.http.get(made["path"])
        await world.http.get(made["path"] + "/")
    assert lines
    assert made["token"][:20] not in repr(lines)
    assert PASSWORD not in repr(lines)


async def test_what_nobody_accepted_is_forgotten(world: World, admin: User) -> None:
    await invite(admin)
    days = timedelta(days=1)
    retention = Retention(
        changes=days, history=days, audit=days, feed=days, runs=days, sessions=days, requests=days, received=days
    )

    async def read_clock(_: Any) -> Any:
        return world.clock.at

    await forget(world.runtime.database, PFA, retention, read_clock)
    assert await world.db.fetchval("SELECT count(*) FROM invitation") == 1
    world.clock.move(days=7)
    await forget(world.runtime.database, PFA, retention, read_clock)
    assert await world.db.fetchval("SELECT count(*) FROM invitation") == 0


# -- PUT and DELETE of members -----------------------------------------------------------------------------------------


async def test_members_are_changed_and_nobody_is_added(world: World, admin: User) -> None:
    """Others' accounts and those that there are not answer alike."""
    await world.organization("theirs")
    await world.user("eve", "theirs")
    await stranger(world, "loner")
    told = []
    for method, body in (("PUT", {"role": "VIEWER"}), ("DELETE", None)):
        for name in ("eve", "eve@example.com", "loner", "loner@example.com", "nobody", "nobody@example.com"):
            answer = await admin.request(method, f"{MEMBERS}/{name}", json=body)
            refused(answer, 404, "MEMBER_NOT_FOUND")
            told.append(answer.json()["detail"].replace(name, "NAME"))
    assert len(set(told)) == 1
    assert await roles_of(world) == {"admin@example.com": "ADMIN"}
