"""What every answer says to browsers: nothing is guessed, framed or kept that is somebody's; and a page runs only what
it is made of.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.accounts import add_account
from app.web.auth import Role
from app.web.protection import PAGE_POLICY
from tests.support.browser import find_chromium, running
from tests.support.streams import served
from tests.support.world import User, World, asgi, line, open_world
from tests.test_edges import methods_of

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
PROXY = "10.0.0.1"
TLS = "Strict-Transport-Security"


def check_protected(answer: httpx.Response, path: str) -> None:
    """What holds for every answer, by what it is."""
    headers, about = answer.headers, f"{answer.request.method} {path}: {answer.status_code}"
    for name in ("X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy", "Cache-Control"):
        assert len(headers.get_list(name)) == 1, (about, name)
    assert headers["X-Content-Type-Options"] == "nosniff", about
    assert headers["Referrer-Policy"] == "no-referrer", about
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin", about
    page = headers.get("Content-Type", "").startswith("text/html")
    assert headers["Content-Security-Policy"] == (PAGE_POLICY if page else DATA_POLICY), about
    assert "X-Powered-By" not in headers, about
    kept = headers["Cache-Control"]
    if path.startswith("/schema/assets/") and answer.status_code == 200:
        assert kept == "public, max-age=86400", about
    elif "ETag" in headers:
        assert kept == "private, no-cache", about
    else:
        assert {"no-store", "no-cache"} & set(kept.split(", ")), about
        assert "public" not in kept, about
    if path.startswith("/api/auth/") or "/members" in path or answer.status_code >= 400:
        assert "no-store" in kept, about


@pytest.fixture
async def admin(world: World) -> User:
    await world.mirror({"A": line()})
    return await world.user("ann", role=Role.ADMIN)


async def test_every_answer_of_every_route_is_protected(admin: User) -> None:
    """What it answers, refuses, does not know; to HEAD, OPTIONS and methods that it does not take."""
    world = admin.world
    world.runtime.tailer.end()  # a stream of events would not end by itself
    seen = set()
    for path, methods in methods_of(world).items():
        for method in sorted(methods | {"GET", "OPTIONS", "BREW", "TRACE"}):
            if (method, path) == ("POST", "/api/auth/logout"):
                continue
            for user in (admin, None):
                ask = admin.request if user else world.http.request
                answer = await ask(method, path)
                check_protected(answer, path)
                seen.add(answer.status_code)
    assert {200, 204, 400, 401, 403, 404, 405, 415} <= seen


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nope", {}, 404),
        ("GET", "/%00", {}, 404),
        ("GET", "/api//x", {}, 404),
        ("GET", "/" + "x" * 20_000, {}, 414),
        ("GET", "/health", {"X": "x" * 60_000}, 431),
        ("GET", "/health", {f"X-{number}": "x" for number in range(99)}, 431),
        ("POST", "/api/auth/login", {"Content-Type": "text/plain"}, 415),
        ("POST", "/api/auth/login", {"Content-Type": "application/json"}, 400),
        ("POST", "/api/auth/login", {"Content-Type": "application/json", "Origin": "https://evil.example"}, 403),
        ("OPTIONS", "/api/auth/me", {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}, 204),
        ("OPTIONS", "/api/auth/me", {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}, 400),
    ],
)
async def test_what_no_route_answers_is_protected_as_well(
    database_url: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with open_world(database_url, cors_origin=("https://app.example",)) as world:
        answer = await world.http.request(method, path, headers=headers)
        assert answer.status_code == status
        check_protected(answer, path)


async def test_an_error_that_nobody_expected_is_protected(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.runtime.settings.__class__, "environment", property(lambda _: 1 / 0))
    answer = await world.http.get("/health")
    assert answer.status_code == 500
    check_protected(answer, "/health")


async def test_lists_are_asked_about_by_their_tag_and_files_are_kept_by_nobody(admin: User) -> None:
    page = await admin.get("rows")
    same = await admin.get("rows", headers={"If-None-Match": page.headers["ETag"]})
    assert (page.headers["Cache-Control"], same.status_code) == ("private, no-cache", 304)
    check_protected(same, "rows")
    for format_ in ("csv", "xlsx", "ndjson"):
        file = await admin.get("export", params={"format": format_})
        assert file.headers["Cache-Control"] == "private, no-store"
        assert file.headers["Content-Disposition"].startswith("attachment; ")
        check_protected(file, "export")
    assert (await admin.get("export", params={"format": "csv"})).headers["Content-Type"] == "text/csv; charset=utf-8"


async def test_whoever_came_over_tls_is_told_to_come_so_again(database_url: str) -> None:
    async def told(peer: str, said: str | None, **settings: Any) -> str | None:
        async with open_world(database_url, **{"trusted_proxies": (PROXY,)} | settings) as world:
            transport = asgi(world.application, client=(peer, 5000))
            async with httpx.AsyncClient(transport=transport, base_url="http://vanguard.test", timeout=60) as http:
                headers = {} if said is None else {"X-Forwarded-Proto": said}
                answers = [await http.get(path, headers=headers) for path in ("/health", "/api/auth/me", "/%z")]
        found: str | None = answers[0].headers.get(TLS)
        assert {answer.headers.get(TLS) for answer in answers} == {found}
        return found

    assert await told(PROXY, "https") == "max-age=31536000"
    assert await told(PROXY, "https", hsts_seconds=60) == "max-age=60"
    assert await told(PROXY, "https", hsts_seconds=0) is None
    assert await told(PROXY, "http") is None
    assert await told(PROXY, None) is None
    assert await told("192.0.2.1", "https") is None, "anybody can say so"
    assert await told(PROXY, "https", trusted_proxies=()) is None


async def test_answers_differ_by_origin_where_origins_are_allowed(database_url: str) -> None:
    async with open_world(database_url, cors_origin=("https://app.example", "http://localhost:3000")) as world:
        for path in ("/health", "/api/auth/me", "/nope", "/schema/openapi.json", "/schema/assets/page.css"):
            for origin in (None, "https://app.example", "http://localhost:3000", "https://evil.example", "null"):
                answer = await world.http.get(path, headers={"Origin": origin} if origin else {})
                assert answer.headers.get_list("Vary", split_commas=True).count("Origin") == 1, (path, origin)
                allowed = origin in world.runtime.settings.cors_origin
                assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None), path
    async with open_world(database_url) as world:
        answer = await world.http.get("/health", headers={"Origin": "https://app.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "vanguard.test@evil.example"])
async def test_no_answer_has_an_address_made_of_the_host_that_was_said(admin: User, host: str) -> None:
    """Nor of what proxies are said to have been asked for: a link that is handed on would lead there."""
    headers = {"Host": host, "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    admin.world.runtime.tailer.end()
    for path, methods in methods_of(admin.world).items():
        if "GET" in methods:
            answer = await admin.get(path, headers=headers)
            assert "evil" not in answer.text, path
            assert "evil" not in repr(answer.headers), path
            assert not answer.has_redirect_location, path


# -- a real browser ----------------------------------------------------------------------------------------------------

CHROMIUM = find_chromium()
PASSWORD = "correct horse battery="  # a form makes the last character, between a name and a value
WATCH = """
window.broken = [];
new ReportingObserver((reports) => broken.push(...reports.map((each) => each.body.blockedURL)),
                      {types: ["csp-violation"], buffered: true}).observe();
window.until = (holds) => new Promise((resolve, reject) => {
    const began = Date.now();
    const look = setInterval(() => {
        if (holds()) { clearInterval(look); resolve(true); }
        if (Date.now() - began > 40000) { clearInterval(look); reject(document.body.innerHTML.slice(0, 500)); }
    }, 20);
});
"""
# In each way that a page has to run what stands in it, or elsewhere.
INJECT = """
window.ran = [];
const script = document.createElement("script");
script.textContent = "ran.push('a script in the page')";
document.body.append(script);
document.body.insertAdjacentHTML("beforeend", "<img src='/nope.png' onerror='ran.push(1)'>");
document.body.insertAdjacentHTML("beforeend", "<a id='link' href='javascript:ran.push(2)'>x</a>");
document.getElementById("link").click();
const other = document.createElement("script");
other.src = "data:text/javascript,ran.push(3)";
document.body.append(other);
const json = document.createElement("script");
json.src = "/schema/openapi.json";
json.onload = () => ran.push(4);
document.body.append(json);
new Promise((resolve) => setTimeout(() => { setTimeout("ran.push(5)"); setTimeout(() => resolve(ran), 500); }, 500))
"""
LOGIN = """
fetch("/api/auth/login", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(%s)})
    .then((response) => response.status)
"""
FORM = """
const form = document.createElement("form");
form.method = "POST", form.enctype = "text/plain", form.action = "%s/api/auth/login";
const field = document.createElement("input");
field.name = %s, field.value = '"}';
form.append(field), document.body.append(form), form.submit()
"""
LISTEN = """fetch("/api/v1/orgs/acme/events").then((response) => response.status)"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: on Debian, apt install chromium")
async def test_the_page_works_in_chromium_and_runs_nothing_else(database_url: str, short_dir: Path) -> None:
    assert CHROMIUM is not None
    async with open_world(database_url, cookie_secure=False) as world, served(world) as door:
        await world.organization("acme")
        email, roles = "ann@demo.example", {"acme": Role.VIEWER}
        await add_account(world.runtime.database, email=email, name="Ann", password=PASSWORD, roles=roles)
        home = f"http://127.0.0.1:{door.port}"
        async with running(CHROMIUM, short_dir / "profile") as browser:
            # A form of a page elsewhere, whose body reads as JSON, sets no cookie.
            elsewhere = await browser.open("about:blank")
            name = json.dumps(json.dumps({"email": email, "password": PASSWORD})[: -len('="}')])
            await elsewhere.run(FORM % (home, name))
            page = await browser.open(f"{home}/schema")
            await page.run(WATCH)
            assert await page.run("until(() => document.querySelectorAll('.opblock').length > 50)")
            assert await page.run("until(() => document.querySelector('#page .info .title').innerText.length)")
            await page.run("document.querySelector('.opblock-summary-control').click()")
            assert await page.run("until(() => document.querySelector('.opblock.is-open .opblock-body'))")
            assert await page.run("broken") == []
            assert await page.run(LISTEN) == 401, "the form has logged nobody in"
            assert await page.run(INJECT) == []
            assert len(await page.run("broken")) >= 4
            # What it is there for: requests to this host, with its cookie.
            assert await page.run(LOGIN % json.dumps({"email": email, "password": PASSWORD})) == 200
            world.runtime.tailer.end()
            assert await page.run(LISTEN) == 200
            plain = await browser.open("about:blank")
            assert len(await plain.run(INJECT)) >= 3, "where there is no policy it runs"
