"""The login's cookie: what it is called, whose pages may have it set, and whose may bring it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app import accounts
from app.base.exact_json import encode
from app.web.auth import Role
from app.web.cookies import NAME, SECURE_NAME
from tests.support.streams import served
from tests.support.world import World, asgi, open_world, refused
from tests.test_invitations import invite

EMAIL, PASSWORD = "ann@demo.example", "correct horse battery"
PROXY = "10.0.0.1"
OURS = "vanguard.test"
THEIRS = "https://plan.example"
# What a form of a page elsewhere can send, and what a script can without asking before (the Fetch standard, 2.2.2).
UNASKED = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]


@asynccontextmanager
async def world_with_ann(url: str, **settings: Any) -> AsyncIterator[World]:
    """Ann has an account, as a VIEWER of acme."""
    async with open_world(url, **settings) as world:
        await world.organization("acme")
        roles = {"acme": Role.VIEWER}
        await accounts.add_account(world.runtime.database, email=EMAIL, name="Ann", password=PASSWORD, roles=roles)
        yield world


async def login(world: World, peer: str = "192.0.2.1", **headers: str) -> httpx.Response:
    """Log in with these headers, whose names are written with underscores; one that is empty is not sent."""
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    async with httpx.AsyncClient(
        transport=asgi(world.application, client=(peer, 5000)), base_url=f"http://{OURS}", timeout=60
    ) as http:
        sent = {name: text for name, text in given.items() if text}
        return await http.post("/api/auth/login", content=encode({"email": EMAIL, "password": PASSWORD}), headers=sent)


@pytest.mark.parametrize(
    "media_type",
    [
        *UNASKED,
        "",
        "application/json-patch+json",
        "application/jsonx",
        "text/plain; application/json",
        "text/plain;charset=application/json",
        "application/json, text/plain",
        "text/json",
        "*/*",
        "application/json; charset=utf-16",
    ],
)
async def test_a_login_is_json_and_says_so(database_url: str, media_type: str) -> None:
    async with world_with_ann(database_url) as world:
        response = await login(world, Content_Type=media_type)
        refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")
        assert response.headers["Accept-Post"] == "application/json"
        assert "Set-Cookie" not in response.headers


async def test_json_is_known_by_any_of_its_spellings(database_url: str) -> None:
    async with world_with_ann(database_url) as world:
        for media_type in ("application/json", "Application/JSON", "application/json; charset=UTF-8"):
            assert (await login(world, Content_Type=media_type)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""} | {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": f"http://{OURS}", "Sec_Fetch_Site": "cross-site"},
        {"Origin": f"http://{OURS}.evil.example"},
        {"Origin": f"http://x.{OURS}"},
        {"Origin": f"http://{OURS}:8443"},
        {"Origin": f"evil://{OURS}"},
        {"Origin": OURS},
        {"Origin": f"{THEIRS}.evil.example"},
        {"Origin": f"{THEIRS}:444"},
        {"Origin": "http://plan.example"},
    ],
)
async def test_a_page_elsewhere_logs_nobody_in(database_url: str, headers: dict[str, str]) -> None:
    """Who is logged in as somebody else, unseen, works for them."""
    async with world_with_ann(database_url, cors_origin=(THEIRS,)) as world:
        response = await login(world, **headers)
        refused(response, 403, "FORBIDDEN")
        assert "Set-Cookie" not in response.headers


async def test_our_pages_allowed_ones_and_programs_log_in(database_url: str) -> None:
    async with world_with_ann(database_url, cors_origin=(THEIRS,)) as world:
        for headers in (
            {},
            {"Origin": f"http://{OURS}", "Sec_Fetch_Site": "same-origin"},
            {"Origin": f"https://{OURS}"},
            {"Sec_Fetch_Site": "none"},
            {"Origin": THEIRS, "Sec_Fetch_Site": "cross-site"},
        ):
            response = await login(world, **headers)
            assert response.status_code == 200, headers
            assert response.headers["Set-Cookie"].startswith(f"{SECURE_NAME}=")


async def test_over_tls_the_same_host_without_it_is_another_site(database_url: str) -> None:
    """Whoever is on the line writes that page."""
    async with world_with_ann(database_url, trusted_proxies=(PROXY,)) as world:
        plain, tls = {"Origin": f"http://{OURS}"}, {"Origin": f"https://{OURS}"}
        for said in ("https", "http, https", "HTTPS"):
            refused(await login(world, PROXY, X_Forwarded_Proto=said, **plain), 403, "FORBIDDEN")
            assert (await login(world, PROXY, X_Forwarded_Proto=said, **tls)).status_code == 200
        for peer, said in ((PROXY, "http"), (PROXY, "https, http"), (PROXY, ""), ("192.0.2.1", "https")):
            assert (await login(world, peer, X_Forwarded_Proto=said, **plain)).status_code == 200, (peer, said)


@pytest.mark.parametrize("secure", [True, False])
async def test_a_cookie_of_the_other_name_is_nobodys(database_url: str, secure: bool) -> None:
    """A neighbour under the same domain can plant `vanguard_token`, and cannot plant `__Host-vanguard_token`."""
    async with world_with_ann(database_url, cookie_secure=secure) as world, served(world) as door:
        token = (await login(world)).json()["accessToken"]
        right, wrong = (SECURE_NAME, NAME) if secure else (NAME, SECURE_NAME)
        path = "/api/v1/orgs/acme/events"
        for cookie in (f"{wrong}={token}", f"x{right}={token}", f"{wrong}={token}; {right}=forged"):
            assert (await door.http.get(path, headers={"Cookie": cookie})).status_code == 401
        for cookie in (f"{right}={token}", f"{wrong}=planted; {right}={token}"):
            async with door.http.stream("GET", path, headers={"Cookie": cookie}) as response:
                assert response.status_code == 200


async def test_an_invitation_is_accepted_from_our_pages_alone(world: World) -> None:
    """Who accepts as somebody new is logged in: by a form of a page elsewhere, as somebody else."""
    made = await invite(await world.user("admin", role=Role.ADMIN))
    newcomer = encode({"name": "Nina", "password": PASSWORD})
    elsewhere = {"Content-Type": "application/json", "Origin": "https://evil.example"}
    refused(await world.http.post(made["path"], content=newcomer, headers=elsewhere), 403, "FORBIDDEN")
    for media_type in (*UNASKED, None):
        headers = {} if media_type is None else {"Content-Type": media_type}
        answer = await world.http.post(made["path"], content=newcomer, headers=headers)
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
        assert "Set-Cookie" not in answer.headers
    answer = await world.http.post(made["path"], content=newcomer, headers={"Content-Type": "application/json"})
    assert answer.headers["Set-Cookie"].startswith(f"{SECURE_NAME}=")


async def test_whoever_sends_a_token_has_been_let_in_already(world: World) -> None:
    """No browser sends it by itself, so that nothing is asked of the page; what is not a bearer's token is none."""
    ann = await world.user("ann")
    for authorization, status in ((f"Bearer {ann.token}", 200), ("Basic YTpi", 401), ("", 401)):
        headers = {"Origin": "https://evil.example", "Authorization": authorization}
        answer = await world.http.post("/api/auth/renew", headers=headers)
        assert answer.status_code == status, authorization
        assert ("Set-Cookie" in answer.headers) == (status == 200)
