"""The edge: every status that framework and server give, made on purpose; HEAD, OPTIONS and 405 of every route."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import httpx
import pytest
import structlog
from litestar import get, post
from litestar.exceptions import HTTPException, ImproperlyConfiguredException, NotAuthorizedException
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from app.base.errors import DatabaseUnavailable, TokenMissing
from app.base.settings import Settings
from app.main import create_app
from app.web import edges, problems
from app.web.auth import Role
from app.web.middleware import Middleware
from tests.support.children import VANGUARD, child
from tests.support.world import LONGEST_TTL, SECRET, User, World, asgi, line, open_world, refused
from tests.test_accounts import free_port

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"  # nothing listens there
HIDDEN = "WORDS-OF-AN-ERROR"
OWN = {401: "TOKEN_MISSING", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED",
       413: "PAYLOAD_TOO_LARGE", 414: "TARGET_TOO_LONG", 415: "UNSUPPORTED_MEDIA_TYPE", 429: "TOO_MANY_REQUESTS",
       431: "HEADERS_TOO_LARGE", 503: "SERVICE_UNAVAILABLE", 504: "TIMED_OUT"}  # fmt: skip
STATUSES = [status.value for status in HTTPStatus if status >= 400]


# -- routes that fail --------------------------------------------------------------------------------------------------


@get("/on-purpose/{status:int}", opt={"public": True}, include_in_schema=False)
async def give(status: FromPath[int]) -> None:
    """What the framework would raise."""
    headers = {"Allow": "GET", "Retry-After": "7", "WWW-Authenticate": "Other", "X-Inside": HIDDEN}
    detail = HIDDEN if status >= 500 else "Said of the request."
    raise HTTPException(detail=detail, status_code=status, headers=headers)


ERRORS: dict[str, Exception] = {
    "any": ValueError(HIDDEN),
    "configuration": ImproperlyConfiguredException(HIDDEN),
    "unauthorized": NotAuthorizedException(HIDDEN),
    "database": asyncpg.exceptions.FeatureNotSupportedError(HIDDEN),
    "group": ExceptionGroup(HIDDEN, [ValueError(HIDDEN)]),
}


@get("/raise/{name:str}", opt={"public": True}, include_in_schema=False)
async def fail(name: FromPath[str]) -> Any:
    """An error of any kind, or an answer that cannot be written."""
    if name == "unwritable":
        return {"a": object()}
    raise ERRORS[name]


async def halves() -> AsyncIterator[bytes]:
    """An answer that breaks off."""
    yield b"half"
    raise ValueError(HIDDEN)


@get("/half", opt={"public": True}, include_in_schema=False)
async def half() -> Stream:
    """An answer that breaks off."""
    return Stream(halves())


@post("/taken", opt={"public": True}, include_in_schema=False, status_code=200)
async def taken(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
    """The body."""
    return data


@pytest.fixture(scope="module")
def application() -> Middleware:
    """The application without its database, with routes that fail."""
    made = create_app(Settings(database_url=NOWHERE, secret=SECRET, environment="test", max_body_bytes=1024))
    for handler in (give, fail, half, taken):
        made.app.register(handler)
    return made


@pytest.fixture
async def http(application: Middleware) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=asgi(application), base_url="http://vanguard.test", timeout=60) as client:
        yield client


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """The log's lines of the test, with the id of their request."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines
    structlog.configure(**before)


def check(response: httpx.Response, lines: list[Any], status: int, code: str, route: str = "unknown") -> dict[str, Any]:
    """Line, body and log say the same; the log is claimed where it was written, and nowhere else."""
    problem = refused(response, status, code)
    assert problem["requestId"] == response.headers["X-Request-ID"] != ""
    assert int(response.headers["Content-Length"]) == response.num_bytes_downloaded
    assert HIDDEN not in response.text + str(response.headers)
    if status in (429, 503, 504):
        assert int(response.headers["Retry-After"]) > 0
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    (request,) = [each for each in lines if each["event"] == "request"]
    assert (request["status"], request["route"]) == (status, route)
    told = [each for each in lines if each["event"] == "unexpected error"]
    assert ("logged" in problem["detail"]) == bool(told) == (status >= 500 and code in CLAIMING)
    for each in told:
        assert each["place"]
        assert HIDDEN not in str(each)
    assert {each["request_id"] for each in [request, *told]} == {problem["requestId"]}
    return problem


CLAIMING = {"INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMED_OUT"}


# -- the framework -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
async def test_every_status_of_the_framework(http: httpx.AsyncClient, logged: list[Any], status: int) -> None:
    response = await http.get(f"/on-purpose/{status}")
    code = OWN.get(status, "MALFORMED_REQUEST" if status < 500 else "INTERNAL_ERROR")
    headers = response.headers.copy()
    if status != 401:  # this route says it with every status
        del response.headers["WWW-Authenticate"]
    check(response, logged, status, code, "/on-purpose/{status}")
    assert (headers["Allow"], headers["Retry-After"]) == ("GET, HEAD", "7")


@pytest.mark.parametrize("name", ["any", "configuration", "unauthorized", "database", "group", "unwritable"])
async def test_what_nobody_expected_is_logged_with_its_place_and_told_without(
    http: httpx.AsyncClient, logged: list[Any], name: str
) -> None:
    response = await http.get(f"/raise/{name}")
    status, code = (401, "TOKEN_MISSING") if name == "unauthorized" else (500, "INTERNAL_ERROR")
    check(response, logged, status, code, "/raise/{name}")
    if status == 500 and name != "unwritable":
        assert "raise ERRORS[name]" in next(each["place"] for each in logged if "place" in each)


class Case(NamedTuple):
    """A request and its refusal."""

    request: str
    status: int
    code: str
    route: str = "unknown"
    options: Mapping[str, Any] = {}


CASES = [
    Case("GET /nope", 404, "NOT_FOUND"),
    Case("GET /schema/nope", 404, "NOT_FOUND", "/schema/{path}"),
    Case("GET /schema/assets/nope", 404, "NOT_FOUND", "/schema/assets/{name}"),
    *(Case(f"GET {path}", 404, "NOT_FOUND") for path in ("//", "/%00", "/%ff", "/health/x", "/on-purpose/x")),
    *(Case(f"{method} /health", 405, "METHOD_NOT_ALLOWED") for method in ("PUT", "BREW", "TRACE", "CONNECT")),
    Case("GET /health", 400, "MALFORMED_REQUEST", options={"headers": {"Host": "a b"}}),
    Case("GET /api/auth/me", 401, "TOKEN_MISSING", "/api/auth/me"),
    Case("GET /api/auth/me", 401, "TOKEN_MISSING", "/api/auth/me", {"headers": {"Cookie": b'\xff=\xff;;="'}}),
    Case("GET /health/ready", 503, "DATABASE_UNAVAILABLE", "/health/ready"),
    Case("POST /taken", 400, "MALFORMED_REQUEST", "/taken"),
    Case("POST /taken", 400, "MALFORMED_REQUEST", "/taken", {"content": b"<a/>"}),
    Case("POST /taken", 400, "MALFORMED_REQUEST", "/taken", {"content": b"{}", "headers": {"Content-Length": "x"}}),
    Case("POST /taken", 413, "PAYLOAD_TOO_LARGE", "/taken", {"content": b" " * 2000}),
    Case(
        "POST /taken", 400, "MALFORMED_REQUEST", "/taken",
        {"content": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}},
    ),
    Case(
        "POST /taken", 415, "UNSUPPORTED_MEDIA_TYPE", "/taken",
        {"content": b"{}", "headers": {"Content-Encoding": "br"}},
    ),
    Case(f"GET /health?{'x' * 16_384}", 414, "TARGET_TOO_LONG"),
    Case(f"GET /{'x' * 16_384}", 414, "TARGET_TOO_LONG"),
    Case(
        "GET /health", 431, "HEADERS_TOO_LARGE",
        options={"headers": {f"X-{number}": "" for number in range(edges.MAX_HEADERS)}},
    ),
    Case("GET /health", 431, "HEADERS_TOO_LARGE", options={"headers": {"X": "x" * 32_768}}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.status} {case.request[:30]}")
async def test_what_is_refused_before_a_handler_runs(
    application: Middleware, http: httpx.AsyncClient, logged: list[Any], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx._urlparse, "MAX_URL_LENGTH", 10**6)
    if case.code == "DATABASE_UNAVAILABLE":
        await application.runtime.reserve.open()
    method, _, path = case.request.partition(" ")
    response = await http.request(method, path, **case.options)
    problem = check(response, logged, case.status, case.code, case.route)
    assert len(problem["instance"]) <= edges.LONGEST_INSTANCE
    if case.status == 405:
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_what_reads_as_json_is_taken_whatever_it_is_called(http: httpx.AsyncClient) -> None:
    for name in ("text/plain", "application/x-www-form-urlencoded", "", "x"):
        headers = {"Content-Type": name}
        assert (await http.post("/taken", content=b'{"a":1}', headers=headers)).json() == {"a": 1}


# -- what no handler of errors sees ------------------------------------------------------------------------------------


async def test_an_error_of_an_error_handler_is_answered(
    http: httpx.AsyncClient, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one before a route is found: whatever leaves the framework."""

    def broken(*_: Any) -> None:
        raise RuntimeError(HIDDEN)

    monkeypatch.setattr(problems, "_translate", broken)
    check(await http.get("/nope"), logged, 500, "INTERNAL_ERROR")


async def called(
    application: Middleware, path: str, method: str = "GET", receive: Callable[[], Awaitable[Any]] | None = None
) -> list[Any]:
    """The messages of an answer, past httpx."""
    sent: list[Any] = []
    scope: Any = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("vanguard.test", 80), "state": {},
    }  # fmt: skip

    async def nothing() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    called: Any = application
    await called(scope, receive or nothing, send)
    assert scope["method"] == method
    return sent


async def test_an_answer_that_broke_off_is_logged_and_stays_without_an_end(
    application: Middleware, logged: list[Any]
) -> None:
    """The server closes such a connection, which is how the client learns of it."""
    sent = await called(application, "/half")
    assert (sent[0]["status"], [message["body"] for message in sent[1:]]) == (200, [b"half"])
    assert sent[-1]["more_body"]
    told = next(each for each in logged if each["event"] == "unexpected error")
    assert (told["error"], HIDDEN in str(told)) == ("ValueError", False)
    assert "in halves" in told["place"]


async def test_head_ends_with_its_head_however_long_the_answer(application: Middleware) -> None:
    sent = await called(application, "/half", "HEAD")
    assert [message.get("body") for message in sent] == [None, b""]
    assert not sent[-1]["more_body"]


async def test_a_client_that_goes_in_the_middle_of_a_body_is_no_defect(
    application: Middleware, logged: list[Any]
) -> None:
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return messages.pop()

    start, body = await called(application, "/taken", "POST", receive)
    assert (start["status"], json.loads(body["body"])["status"]) == (400, 400)
    assert [each["event"] for each in logged] == ["request"]


# -- the database ------------------------------------------------------------------------------------------------------


async def test_who_gets_no_connection_comes_again(database_url: str) -> None:
    """And so does who gets no answer: both are times that ran out."""
    async with open_world(database_url, reserved_connections=2, pool_timeout=0.05) as world:
        held = world.runtime.reserve.connection
        async with held(), held():
            problem = refused(response := await world.http.get("/health/ready"), 503, "DATABASE_UNAVAILABLE")
            assert response.headers["Retry-After"] == "2"
            assert "logged" not in problem["detail"]
        with pytest.raises(DatabaseUnavailable):
            async with held():
                raise TimeoutError
        assert (await world.http.get("/health/ready")).status_code == 200


# -- HEAD, OPTIONS, 405 ------------------------------------------------------------------------------------------------

LEFT_OUT = {"x-request-id", "date", "content-length"}  # the length holds a time that varies
NAMES = {
    "{org}": "acme",
    "{dataset}": "pfa",
    "{row_id}": "A",
    "{run_id}": str(UUID(int=0)),
    "{session_id}": "none",
    "{request_id}": str(UUID(int=0)),
    "{commit_id}": str(UUID(int=0)),
    "{resolution_id}": str(UUID(int=0)),
    "{event_id}": "none",
    "{account}": "ann",
    "{invitation_id}": str(UUID(int=0)),
    "{token}": "none",
    "{version}": "1.0",
    "{report}": str(UUID(int=0)),
    "{execution}": str(UUID(int=0)),
    "{join_id}": str(UUID(int=0)),
    "{field}": "model",
    "{name}": "swagger-ui.css",
    "{path}": "nope",
}


def methods_of(world: World) -> dict[str, set[str]]:
    """Path -> the methods that its routes have."""
    found: dict[str, set[str]] = {}
    for route in world.application.app.routes:
        path = route.path_format
        for name, value in NAMES.items():
            path = path.replace(name, value)
        assert "{" not in path, path
        methods: set[str] = set(getattr(route, "methods", ()))
        found.setdefault(path, set()).update(methods | {"HEAD"} if "GET" in methods else methods)
    return found


@pytest.fixture
async def admin(world: World) -> User:
    await world.mirror({"A": line()})
    return await world.user("ann", role=Role.ADMIN)


async def test_every_get_answers_head(admin: User) -> None:
    admin.world.runtime.tailer.end()  # a stream of events would not end by itself
    paths = [path for path, methods in methods_of(admin.world).items() if "GET" in methods]
    assert len(paths) > 15
    for path in paths:
        got, head = await admin.get(path), await admin.request("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        # What is made while it is sent has no length.
        assert int(head.headers.get("Content-Length", 1)) > 0, path
        kept = [{n: v for n, v in each.headers.items() if n not in LEFT_OUT} for each in (got, head)]
        assert kept[0] == kept[1], path


async def test_head_of_a_refusal_and_of_what_did_not_change(admin: User, logged: list[Any]) -> None:
    world, given = admin.world, {"X-Request-ID": "mine"}
    for path, status in {
        "/nope": 404,
        "/api/auth/me": 401,
        "/api/auth/login": 405,
        "/schema/openapi.json": 200,
    }.items():
        got = await world.http.request("PUT" if status == 405 else "GET", path, headers=given)
        head = await world.http.head(path, headers=given)
        assert (head.status_code, head.content) == (got.status_code, b"") == (status, b"")
        assert head.headers == got.headers
    page = await admin.get("rows")
    for method in ("GET", "HEAD"):
        same = await admin.request(method, "rows", headers={"If-None-Match": page.headers["ETag"]})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", page.headers["ETag"])
    methods = [each["method"] for each in logged if each["event"] == "request" and each["status"] == 304]
    assert methods == ["GET", "HEAD"]


async def test_options_and_405_list_the_methods_of_a_path(admin: User) -> None:
    """For everybody: it says nothing that /schema does not."""
    for path, methods in methods_of(admin.world).items():
        asked = await admin.world.http.options(path)
        assert (asked.status_code, asked.content) == (204, b""), path
        wrong = await admin.world.http.request("BREW", path)
        refused(wrong, 405, "METHOD_NOT_ALLOWED")
        for response in (asked, wrong, await admin.request("OPTIONS", path), await admin.request("TRACE", path)):
            assert response.headers["Allow"] == ", ".join(sorted(methods)), path
    assert methods_of(admin.world)["/api/v1/orgs/acme/datasets/pfa/rows/A"] == {"GET", "HEAD", "OPTIONS", "PATCH"}
    refused(await admin.world.http.options("/nope"), 404, "NOT_FOUND")


async def test_a_preflight_is_answered_as_before_and_refused_as_a_problem(database_url: str, logged: list[Any]) -> None:
    async with open_world(database_url, cors_origin=("https://app.example",)) as world:
        for origin in ("https://app.example", "https://evil.example"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "HEAD"}
            response = await world.http.options("/api/auth/me", headers=headers)
            if origin == "https://app.example":
                assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (204, origin)
                logged.clear()
            else:
                check(response, logged, 400, "MALFORMED_REQUEST")
                assert "Access-Control-Allow-Origin" not in response.headers


# -- the server --------------------------------------------------------------------------------------------------------


class Served(NamedTuple):
    """A server of its own and, once it has ended, its log."""

    port: int
    lines: list[Any]

    async def listening(self) -> None:
        """Wait until it does."""
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)  # nothing listens yet, and nothing tells when
                else:
                    writer.close()
                    return

    async def say(self, request: bytes, *, broken_off: bool = False) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of the answer to these bytes. The end of the answer is that of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            if broken_off:
                writer.write_eof()
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        first, *rest = head.split(b"\r\n")
        pairs = [(name.strip(), value.strip()) for name, _, value in (each.partition(b":") for each in rest)]
        return int(first.split()[1]), httpx.Headers(pairs), body


@contextmanager
def served(database_url: str = NOWHERE) -> Iterator[Served]:
    """`vanguard serve`, whose database is not there unless one is given."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
    environment |= {"DATABASE_URL": database_url, "VANGUARD_SECRET": SECRET, "VANGUARD_PORT": str(port)}
    environment["VANGUARD_MAX_TOKEN_TTL"] = str(LONGEST_TTL)
    with child(*VANGUARD, "serve", env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        yield (server := Served(port, []))
        process.send_signal(signal.SIGTERM)
        server.lines.extend(json.loads(each) for each in process.stderr.read().splitlines())


HEAD = b"Host: a\r\nConnection: close\r\n"
LOGIN = b"POST /api/auth/login HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\n" + HEAD


def named(count: int) -> bytes:
    """So many headers, with the two of HEAD."""
    return b"".join(b"X-%d: x\r\n" % number for number in range(count - 2))


# What the server refuses before it asks us, with nothing but a status.
BARE = {
    "a byte of an address that is no UTF-8": (b"GET /\xff HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
    "a NUL in an address": (b"GET /\0 HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
    "no version": (b"GET /health\r\n\r\n", 400),
    "a version that is none": (b"GET /health HTTP/3.0\r\n" + HEAD + b"\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", 400),
    "a header's name with a space": (HEALTH + b"A B: c\r\n\r\n", 400),
    "a header without a colon": (HEALTH + b"nonsense\r\n\r\n", 400),
    "a NUL in a header": (HEALTH + b"X: a\0b\r\n\r\n", 400),
    "a length that is none": (LOGIN + b"Content-Length: x\r\n\r\n{}", 400),
    "a length below none": (LOGIN + b"Content-Length: -1\r\n\r\n{}", 400),
    "two lengths": (LOGIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "an encoding of transfers that is not chunked": (LOGIN + b"Transfer-Encoding: gzip\r\n\r\n{}", 400),
    "an address beyond the server's bound": (b"GET /h?" + b"x" * 65_532 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
    "headers beyond the server's bound": (HEALTH + named(101) + b"\r\n", 431),
}  # fmt: skip

# What comes through to us: a request, its status and code, and the route in the log.
THROUGH: dict[str, tuple[bytes, int, str, str]] = {
    "another method": (b"BREW /health HTTP/1.1\r\n" + HEAD + b"\r\n", 405, "METHOD_NOT_ALLOWED", "unknown"),
    "a method in lower case": (b"get /health HTTP/1.1\r\n" + HEAD + b"\r\n", 405, "METHOD_NOT_ALLOWED", "unknown"),
    "TRACE": (b"TRACE /health HTTP/1.1\r\n" + HEAD + b"\r\n", 405, "METHOD_NOT_ALLOWED", "unknown"),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\n" + HEAD + b"\r\n", 404, "NOT_FOUND", "unknown"),
    "an address with %00": (b"GET /%00 HTTP/1.1\r\n" + HEAD + b"\r\n", 404, "NOT_FOUND", "unknown"),
    "an address with %ff": (b"GET /%ff HTTP/1.1\r\n" + HEAD + b"\r\n", 404, "NOT_FOUND", "unknown"),
    "an address that is half encoded": (b"GET /%z HTTP/1.1\r\n" + HEAD + b"\r\n", 404, "NOT_FOUND", "unknown"),
    "OPTIONS of the server": (b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n", 404, "NOT_FOUND", "unknown"),
    "a host that is none": (b"GET /health HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n",
                            400, "MALFORMED_REQUEST", "unknown"),
    "no token": (b"GET /api/auth/me HTTP/1.1\r\n" + HEAD + b"Cookie: \xff=\xff;;=\r\n\r\n",
                 401, "TOKEN_MISSING", "/api/auth/me"),
    "no body": (LOGIN + b"\r\n", 400, "MALFORMED_REQUEST", "/api/auth/login"),
    "half a body": (LOGIN + b"Content-Length: 9\r\n\r\n{", 400, "MALFORMED_REQUEST", "/api/auth/login"),
    "a broken chunk": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", 400, "MALFORMED_REQUEST",
                       "/api/auth/login"),
    "a body that is announced too long": (LOGIN + b"Content-Length: 99999999999\r\n\r\n{", 413, "PAYLOAD_TOO_LARGE",
                                          "/api/auth/login"),
    "a body that is compressed": (LOGIN + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n\x8b\x02", 415,
                                  "UNSUPPORTED_MEDIA_TYPE", "/api/auth/login"),
    "two names of a body": (LOGIN + b"Content-Type: text/a\r\nContent-Type: text/a\r\nContent-Length: 2\r\n\r\n{}", 400,
                            "MALFORMED_REQUEST", "unknown"),
    "two hosts": (HEALTH + b"Host: b\r\n\r\n", 400, "MALFORMED_REQUEST", "unknown"),
    "a body that is packed badly": (LOGIN + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 400,
                                    "MALFORMED_REQUEST", "/api/auth/login"),
    "two packings of a body": (LOGIN + b"Content-Encoding: gzip\r\n" * 2 + b"Content-Length: 2\r\n\r\n{}", 415,
                               "UNSUPPORTED_MEDIA_TYPE", "/api/auth/login"),
    "the longest address that gets here": (b"GET /h?" + b"x" * 65_531 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414,
                                           "TARGET_TOO_LONG", "unknown"),
    "as many headers as get here": (HEALTH + named(100) + b"\r\n", 431, "HEADERS_TOO_LARGE", "unknown"),
    "as large headers as get here": (HEALTH + b"X: " + b"x" * 129_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE",
                                     "unknown"),
    "slashes before a path": (b"GET //health HTTP/1.1\r\n" + HEAD + b"\r\n", 404, "NOT_FOUND", "unknown"),
    "a database that is not there": (b"GET /health/ready HTTP/1.1\r\n" + HEAD + b"\r\n", 503, "DATABASE_UNAVAILABLE",
                                     "/health/ready"),
}  # fmt: skip

# What is no error at all.
TAKEN = {
    "HTTP/1.0": b"GET /health HTTP/1.0\r\n\r\n",
    "HEAD": b"HEAD /health HTTP/1.1\r\n" + HEAD + b"\r\n",
    "the absolute form": b"GET http://elsewhere/health HTTP/1.1\r\n" + HEAD + b"\r\n",
    "slashes more than needed": b"GET /health// HTTP/1.1\r\n" + HEAD + b"\r\n",
    "bytes that are no UTF-8 in a header": HEALTH + b"X: \xff\r\n\r\n",
    "as many headers as are taken": HEALTH + named(edges.MAX_HEADERS) + b"\r\n",
    "as large headers as are taken": HEALTH + b"X: " + b"x" * (32_768 - 50) + b"\r\n\r\n",
}


async def test_what_the_server_makes_of_bytes() -> None:
    with served() as server:
        await server.listening()
        for name, (request, status) in BARE.items():
            answer = await server.say(request)
            assert (answer[0], answer[2]) == (status, b""), name
            assert not {"Content-Type", "X-Request-ID"} & {each.title() for each in answer[1]}, name
        ids = {}
        for name, (request, status, code, route) in THROUGH.items():
            told, headers, body = await server.say(request, broken_off=name == "half a body")
            problem = refused(httpx.Response(told, headers=headers, content=body), status, code)
            assert problem["requestId"] == headers["X-Request-ID"], name
            assert "logged" not in problem["detail"], name
            ids[problem["requestId"]] = (route, status)
        for name, request in TAKEN.items():
            told, headers, body = await server.say(request)
            assert (told, int(headers["Content-Length"]) > 0) == (200, True), name
            assert bool(body) == (name != "HEAD")
    lines = {each["request_id"]: each for each in server.lines if each["event"] == "request"}
    assert {id_: (lines[id_]["route"], lines[id_]["status"]) for id_ in ids} == ids
    assert len(lines) == len(THROUGH) + len(TAKEN), "what the server answers by itself leaves no line"
    assert not [each for each in server.lines if each["level"] == "error"]


def test_every_kind_of_refusal_has_a_status_of_its_own_words() -> None:
    """No two statuses of the table share a code, and 401 says how to come in."""
    codes = [kind.code for kind, _ in problems.FRAMEWORKS.values()]
    assert len(set(codes)) == len(codes)
    assert problems.FRAMEWORKS[401][0] is TokenMissing
    for status, (kind, _) in problems.FRAMEWORKS.items():
        assert problems.STATUS[kind.kind] == status
