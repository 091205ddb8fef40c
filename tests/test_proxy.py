"""The shipped proxy, run as it is: what it refuses, what it passes on and as what, who is held and who is served."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.base import clock
from app.base.settings import Settings
from app.web.auth import Role
from app.web.protection import ALWAYS, POLICY
from tests.support.proxy import CONF, LIMIT, Answer, Line, ask, dial, lines_closed, needs_nginx, proxied
from tests.support.streams import free_port, until_ready
from tests.support.world import SECRET, World
from tests.test_stream_restarts import process

pytestmark = needs_nginx

HOST = b"Host: vanguard.example\r\n"
OTHER = "127.0.0.2"  # another address of this machine
FRAME = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Upstream:
    """A service of a few lines: keeps the heads that it was sent, and answers when it is let to."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.released = asyncio.Event()
        self.released.set()
        self.asked = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                async with self.asked:
                    self.heads.append(head)
                    self.asked.notify_all()
                length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
                await reader.readexactly(int(length[1]) if length else 0)
                await self.released.wait()
                writer.write(FRAME)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def has(self, count: int) -> None:
        """Return once so many requests have come."""
        async with asyncio.timeout(LIMIT), self.asked:
            await self.asked.wait_for(lambda: len(self.heads) >= count)


@asynccontextmanager
async def upstream() -> AsyncIterator[tuple[Upstream, int]]:
    """It, and the port where it listens."""
    found = Upstream()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, backlog=4096)
    try:
        yield found, int(server.sockets[0].getsockname()[1])
    finally:
        found.released.set()
        server.close()


def get(path: str = "/health", *headers: bytes) -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


def post(path: str, length: int, *headers: bytes) -> bytes:
    """The head alone."""
    more = b"".join(h + b"\r\n" for h in headers)
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + HOST + more + b"Content-Length: %d\r\n\r\n" % length


LOGIN = "/api/auth/login"
DRAFTS = "/api/v1/orgs/acme/datasets/pfa/drafts"
INGEST = "/api/v1/orgs/acme/datasets/mine/ingest"
EVENTS = "/api/v1/orgs/acme/events"

# What never gets to the service: a request, and the status and code of its refusal.
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", 400, "MALFORMED_REQUEST"),
    "a version that is none": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 400, "MALFORMED_REQUEST"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "MALFORMED_REQUEST"),
    "a host that is none": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "MALFORMED_REQUEST"),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST * 2 + b"\r\n", 400, "MALFORMED_REQUEST"),
    "a length that is none": (get("/", b"Content-Length: x"), 400, "MALFORMED_REQUEST"),
    "two lengths": (get("/", b"Content-Length: 2", b"Content-Length: 3"), 400, "MALFORMED_REQUEST"),
    "length and chunks": (get("/", b"Content-Length: 2", b"Transfer-Encoding: chunked"), 400, "MALFORMED_REQUEST"),
    "another encoding of transfers": (get("/", b"Transfer-Encoding: gzip"), 400, "MALFORMED_REQUEST"),
    "a NUL in a path": (get("/%00"), 400, "MALFORMED_REQUEST"),
    "half an escape": (get("/%z"), 400, "MALFORMED_REQUEST"),
    "a path above the root": (get("/../etc/passwd"), 400, "MALFORMED_REQUEST"),
    "a quotation mark in a path": (get('/%00"\\'), 400, "MALFORMED_REQUEST"),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405, "METHOD_NOT_ALLOWED"),
    "a target of 20 KB": (get("/" + "x" * 20_480), 414, "TARGET_TOO_LONG"),
    "a header of 20 KB": (get("/", b"X: " + b"x" * 20_480), 431, "HEADERS_TOO_LARGE"),
    "headers of 60 KB": (get("/", *[b"X: " + b"x" * 9_000] * 7), 431, "HEADERS_TOO_LARGE"),
    "a login of more than 4 KB": (post(LOGIN, 4097), 413, "PAYLOAD_TOO_LARGE"),
    "the same, spelled otherwise": (post("/api/./auth/%6cogin", 4097), 413, "PAYLOAD_TOO_LARGE"),
    "a login in chunks": (get(LOGIN, b"Transfer-Encoding: chunked") + b"1001\r\n" + b"x" * 4097 + b"\r\n", 413,
                          "PAYLOAD_TOO_LARGE"),
    "a body of more than 8 MB": (post(DRAFTS, 8 * 2**20 + 1), 413, "PAYLOAD_TOO_LARGE"),
    "an upload of more than 1 GB": (post(INGEST, 2**30 + 1), 413, "PAYLOAD_TOO_LARGE"),
    "metrics": (get("/metrics"), 404, "NOT_FOUND"),
    "metrics with a question": (get("/metrics?a=b"), 404, "NOT_FOUND"),
    "metrics, spelled otherwise": (get("/%6d%65trics"), 404, "NOT_FOUND"),
    "metrics with slashes behind": (get("/metrics//"), 404, "NOT_FOUND"),
    "metrics with slashes before": (get("///metrics"), 404, "NOT_FOUND"),
    "a login with a slash before": (post("//api/auth/login", 2), 404, "NOT_FOUND"),
    "an acceptance with one": (post("//api/auth/invitations/a-secret/accept", 2), 404, "NOT_FOUND"),
    "an upload with an encoded one": (post("/%2F" + INGEST[1:], 2), 404, "NOT_FOUND"),
    "metrics by a detour": (get("/x/../metrics"), 404, "NOT_FOUND"),
    "metrics of a whole address": (get("http://vanguard.example/metrics"), 404, "NOT_FOUND"),
}  # fmt: skip

# What gets there: a request, and its first line as the service sees it.
PASSED: dict[str, tuple[bytes, bytes]] = {
    "a path as it was sent": (get("/a%2Fb/%C3%A9//c/./d?x=%20&y"), b"GET /a%2Fb/%C3%A9//c/./d?x=%20&y HTTP/1.1"),
    "a target of 16 KB": (get("/" + "x" * 16_383), b"GET /" + b"x" * 16_383 + b" HTTP/1.1"),
    "a token of 16 KB": (get("/", b"Authorization: Bearer " + b"x" * 16_384), b"GET / HTTP/1.1"),
    "a long target and a long token": (get("/" + "x" * 16_383, b"Authorization: Bearer " + b"x" * 8_000),
                                       b"GET /" + b"x" * 16_383 + b" HTTP/1.1"),
    "a login of 4 KB": (post(LOGIN, 4096) + b"x" * 4096, b"POST " + LOGIN.encode() + b" HTTP/1.1"),
    "a body of 8 MB": (post(DRAFTS, 8 * 2**20) + bytes(8 * 2**20), b"POST " + DRAFTS.encode() + b" HTTP/1.1"),
    "an upload of 9 MB": (post(INGEST, 9 * 2**20) + bytes(9 * 2**20), b"POST " + INGEST.encode() + b" HTTP/1.1"),
    "a dataset's metrics": (get("/api/v1/orgs/acme/metrics"), b"GET /api/v1/orgs/acme/metrics HTTP/1.1"),
    "PATCH": (get("/").replace(b"GET", b"PATCH"), b"PATCH / HTTP/1.1"),
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSED)
async def test_what_it_refuses_has_the_form_of_our_refusals(name: str, tmp_path: Path) -> None:
    request, status, code = REFUSED[name]
    async with upstream() as (service, port):
        with proxied(port, tmp_path) as proxy:
            answer = await ask(proxy.port, request)
            assert answer is not None
            assert (answer.status, answer.problem["code"]) == (status, code)
            assert answer.headers["Cache-Control"] == "no-store"
            for header, value in (*ALWAYS, POLICY):
                assert answer.headers[header.decode()] == value.decode()
            assert answer.headers["Server"] == "nginx", "no version"
            assert "Strict-Transport-Security" not in answer.headers, "this is no TLS"
            assert service.heads == []
            said = await proxy.said_of(status)
    assert said["request_id"] == answer.headers["X-Request-ID"]
    assert said["client"] == "127.0.0.1"


@pytest.mark.anyio
@pytest.mark.parametrize("name", PASSED)
async def test_what_it_passes_on_arrives_as_it_was_sent(name: str, tmp_path: Path) -> None:
    request, first = PASSED[name]
    async with upstream() as (service, port):
        with proxied(port, tmp_path) as proxy:
            assert (await answered(ask(proxy.port, request))).status == 200
            assert [head.partition(b"\r\n")[0] for head in service.heads] == [first]
            assert proxy.log() == []


async def answered(asked: Any) -> Answer:
    """The answer; fails where there is none."""
    found = await asked
    assert isinstance(found, Answer)
    return found


@pytest.mark.anyio
async def test_the_clients_address_arrives_whatever_it_says_itself(tmp_path: Path) -> None:
    forged = [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: 5.6.7.8", b"X-Real-IP: 1.2.3.4",
              b"Forwarded: for=1.2.3.4", b"X-Forwarded-Proto: https"]  # fmt: skip
    async with upstream() as (service, port):
        with proxied(port, tmp_path) as proxy:
            for path, source in itertools.product(("/", LOGIN, INGEST, EVENTS), ("127.0.0.1", OTHER)):
                await answered(ask(proxy.port, get(path, *forged), source))
                lines = [line for line in service.heads[-1].lower().split(b"\r\n") if b"for" in line or b"real" in line]
                assert sorted(lines) == [b"x-forwarded-for: " + source.encode(), b"x-forwarded-proto: http"]
                assert b"host: vanguard.example" in service.heads[-1].lower().split(b"\r\n")


@pytest.mark.anyio
async def test_a_service_that_is_away_or_silent_is_told_so(tmp_path: Path) -> None:
    async with upstream() as (service, port):
        with proxied(port, tmp_path, proxy_read_timeout="1s") as proxy:
            service.released.clear()
            silent = await answered(ask(proxy.port, get()))
            assert (silent.status, silent.problem["code"]) == (504, "TIMED_OUT")
    with proxied(free_port(), tmp_path) as proxy:
        away = await answered(ask(proxy.port, get('/x?q="')))
        assert (away.status, away.problem["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert away.problem["instance"] == "/x"


# -- many of one address -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "most"), [("/health", 100), (EVENTS, 200), (INGEST, 4)])
async def test_one_address_has_so_many_at_once_and_others_theirs(path: str, most: int, tmp_path: Path) -> None:
    async with upstream() as (service, port):
        with proxied(port, tmp_path) as proxy, lines_closed([]) as lines:
            service.released.clear()
            for _ in range(most):
                lines.append(await dial(proxy.port))
                await lines[-1].say(get(path))
            await service.has(most)
            refused = await answered(ask(proxy.port, get(path)))
            assert (refused.status, refused.problem["code"]) == (429, "TOO_MANY_REQUESTS")
            other = asyncio.create_task(answered(ask(proxy.port, get(path), OTHER)))
            await service.has(most + 1)
            service.released.set()
            assert (await other).status == 200
            for line in lines:
                assert (await answered(line.hear())).status == 200
            assert (await answered(ask(proxy.port, get(path)))).status == 200, "it is free again"


@pytest.mark.anyio
async def test_an_ipv6_network_is_one_client(tmp_path: Path) -> None:
    """As a load balancer tells addresses, by the lines of the configuration that are there for it."""
    async with upstream() as (service, port):
        balanced = {
            "#set_real_ip_from 192.0.2.0/24;": "set_real_ip_from 127.0.0.1;",
            "#real_ip_header": "real_ip_header",
        }
        with proxied(port, tmp_path, balanced) as proxy, lines_closed([]) as lines:

            def of(address: str) -> bytes:
                return get(INGEST, b"X-Forwarded-For: " + address.encode())

            service.released.clear()
            for number in range(4):
                lines.append(await dial(proxy.port))
                await lines[-1].say(of(f"2001:db8::{number + 1}:7:8:9"))
            await service.has(4)
            assert (await answered(ask(proxy.port, of("2001:db8::ffff:1:1:1")))).status == 429
            for beside in ("2001:db8:0:1::1", "192.0.2.7"):
                lines.append(await dial(proxy.port))
                await lines[-1].say(of(beside))
            await service.has(6)
            assert b"x-forwarded-for: 192.0.2.7" in b"".join(service.heads).lower()


@pytest.mark.anyio
async def test_logins_of_one_address_come_a_few_a_second(tmp_path: Path) -> None:
    async with upstream() as (service, port):
        with proxied(port, tmp_path) as proxy:
            began = time.monotonic()
            answers = await asyncio.gather(*[answered(ask(proxy.port, post(LOGIN, 2) + b"{}")) for _ in range(60)])
            most = 21 + 5 * (time.monotonic() - began) + 1
            assert 21 <= len(service.heads) <= most
            assert {answer.status for answer in answers} == {200, 429}
            refused = next(answer for answer in answers if answer.status == 429)
            assert (refused.problem["code"], refused.headers["Retry-After"]) == ("TOO_MANY_REQUESTS", "1")
            assert (await answered(ask(proxy.port, post(LOGIN, 2) + b"{}", OTHER))).status == 200
            assert (await answered(ask(proxy.port, get()))).status == 200


@pytest.mark.anyio
async def test_acceptances_come_with_the_logins_and_no_log_has_their_links(tmp_path: Path) -> None:
    accept = "/api/auth/invitations/a-secret/accept"
    async with upstream() as (service, port):
        with proxied(port, tmp_path) as proxy:
            asked = [answered(ask(proxy.port, post(path, 2) + b"{}")) for path in [accept, LOGIN] * 30]
            began = time.monotonic()
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200, 429}
            assert len(service.heads) <= 21 + 5 * (time.monotonic() - began) + 1
            assert (await answered(ask(proxy.port, post(accept, 4097), OTHER))).status == 413
            assert (await proxy.said_of(413))["status"] == 413
            said = (proxy.directory / "stderr").read_text() + (proxy.directory / "stdout").read_text()
    (tmp_path / "down").mkdir()
    with proxied(port, tmp_path / "down") as proxy:
        for path in (accept, LOGIN):
            assert (await answered(ask(proxy.port, post(path, 2) + b"{}"))).status == 503
        said += (proxy.directory / "stderr").read_text() + (proxy.directory / "stdout").read_text()
    assert LOGIN in said, "of another path the log tells what went wrong"
    assert "a-secret" not in said


# -- slow and silent ones ----------------------------------------------------------------------------------------------


async def drip(line: Line, words: bytes, every: float) -> None:
    """A byte at a time, until the other side has had enough."""
    ended = asyncio.create_task(line.ended())
    for byte in itertools.chain(words, itertools.repeat(ord("x"))):
        await line.say(bytes([byte]))
        if (await asyncio.wait([ended], timeout=every))[0]:
            return


SLOW: dict[str, tuple[bytes, float]] = {
    "silent": (b"", 60.0),
    "half a line": (b"GET /hea", 60.0),
    "half a head": (b"GET /health HTTP/1.1\r\n" + HOST, 60.0),
    "a head byte by byte": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: ", 0.2),
    "empty lines before the first": (b"\r\n" * 5, 0.2),
    "no body": (post(DRAFTS, 100_000), 60.0),
    "half a body": (post(DRAFTS, 100_000) + b"x" * 50_000, 60.0),
    "a chunk that stops": (get(DRAFTS, b"Transfer-Encoding: chunked") + b"ffff\r\nxxx", 60.0),
    "a login that stops": (post(LOGIN, 4000) + b"{", 60.0),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", SLOW)
async def test_who_does_not_go_on_is_ended_and_the_service_never_hears_of_it(name: str, tmp_path: Path) -> None:
    words, every = SLOW[name]
    async with upstream() as (service, port):
        with (
            proxied(port, tmp_path, client_header_timeout="1s", client_body_timeout="1s") as proxy,
            lines_closed([await dial(proxy.port)]) as (line,),
        ):
            async with asyncio.timeout(LIMIT):
                await line.say(words)
                await (drip(line, b"", every) if every < 1 else line.ended())
            assert service.heads == []
            assert (await answered(ask(proxy.port, get()))).status == 200


@pytest.mark.anyio
async def test_a_kept_connection_that_says_nothing_more_is_ended(tmp_path: Path) -> None:
    async with upstream() as (_, port):
        with (
            proxied(port, tmp_path, keepalive_timeout="1s") as proxy,
            lines_closed([await dial(proxy.port)]) as (line,),
        ):
            await line.say(get())
            assert (await answered(line.hear())).status == 200
            assert await line.hear() is None


@pytest.mark.timed
@pytest.mark.anyio
async def test_silent_connections_beyond_all_places_make_room(tmp_path: Path) -> None:
    """Three times as many as nginx has places for: those that wait for a request are ended first."""
    async with upstream() as (_, port):
        with (
            proxied(port, tmp_path, worker_processes="1", worker_connections="512") as proxy,
            lines_closed([]) as lines,
        ):
            for number in range(1_536):
                lines.append(await dial(proxy.port))
                if number % 256 == 255:
                    began = time.monotonic()
                    assert (await answered(ask(proxy.port, get(), OTHER))).status == 200
                    assert time.monotonic() - began < 1


@pytest.mark.anyio
async def test_an_answer_that_nobody_takes_holds_the_service_back_and_fills_no_disk(tmp_path: Path) -> None:
    given = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal given
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
                given += 65_536
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with proxied(port, tmp_path, send_timeout="2s") as proxy, lines_closed([await dial(proxy.port)]) as (line,):
        await line.say(get("/api/v1/orgs/acme/datasets/pfa/export"))
        async with asyncio.timeout(LIMIT):
            before = -1
            while given != before:
                before = given
                await asyncio.sleep(0.5)
            assert given < 64 * 2**20
            assert not [path for path in (tmp_path / "proxy").rglob("*") if path.is_file()]
    server.close()


# -- a real service behind it ------------------------------------------------------------------------------------------


@pytest.fixture
async def behind(world: World, database_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, int]]:
    """The proxy's port; `vanguard serve` is behind it."""
    world.clock.at = clock.now()
    with process(database_url, port := free_port()):
        async with client(port) as http:
            await until_ready(http)
        with proxied(port, tmp_path) as proxy:
            yield world, proxy.port


@asynccontextmanager
async def client(port: int, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever asks at the port."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT, **options) as http:
        yield http


@pytest.mark.timed
@pytest.mark.anyio
async def test_health_answers_beside_two_thousand_silent_connections(behind: tuple[World, int]) -> None:
    _, port = behind
    with lines_closed([]) as lines:
        lines += [await dial(port) for _ in range(2_000)]
        async with client(port) as http:
            for _ in range(3):
                began = time.monotonic()
                assert (await http.get("/health")).status_code == 200
                assert time.monotonic() - began < 1


@pytest.mark.timed
@pytest.mark.anyio
async def test_slow_ones_of_one_address_leave_an_honest_client_of_another_alone(behind: tuple[World, int]) -> None:
    world, port = behind
    ann = await world.user("ann")
    halves = (post(DRAFTS, 8 * 2**20) + b"x" * 9_000, get()[:-2], post(LOGIN, 4000) + b"{")
    with lines_closed([]) as lines:
        for half in halves * 100:
            lines.append(await dial(port, OTHER))
            await lines[-1].say(half)
        async with client(port, headers={"Authorization": f"Bearer {ann.token}"}) as http:
            for _ in range(5):
                began = time.monotonic()
                page = await http.get("/api/v1/orgs/acme/datasets/pfa/rows")
                assert page.status_code == 200, page.text
                assert time.monotonic() - began < 2


@pytest.mark.anyio
async def test_a_login_an_upload_and_a_stream_pass(behind: tuple[World, int]) -> None:
    world, port = behind
    ann = await world.user("ann", role=Role.ENGINEER)
    async with client(port, headers={"Authorization": f"Bearer {ann.token}"}) as http:
        forged = await http.post(LOGIN, json={"email": "nobody@acme.example", "password": "x" * 20})
        assert forged.json()["code"] == "INVALID_CREDENTIALS", "an answer of the service, as it is"

        async def lines() -> AsyncIterator[bytes]:
            yield b"id,name\n"
            for number in range(200):
                yield b"".join(b"%d,%s\n" % (number * 1_000 + each, b"x" * 40) for each in range(1_000))

        csv = {"Content-Type": "text/csv"}
        inferred = await http.post("/api/v1/orgs/acme/contracts/infer?key=id", content=lines(), headers=csv)
        assert inferred.status_code == 200, inferred.text
        async with http.stream("GET", EVENTS, headers={"Accept": "text/event-stream"}) as stream:
            assert stream.status_code == 200
            first = await anext(stream.aiter_bytes())
            assert first, "it came while the stream is open"


# -- one configuration and another -------------------------------------------------------------------------------------


def test_its_bounds_are_those_of_the_settings() -> None:
    """Who raises one has to raise the other; the files say so beside each other."""
    default = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    text = CONF.read_text()
    assert default["max_body_bytes"] == 8 * 2**20
    assert "client_max_body_size 8m; " in text
    assert default["max_upload_bytes"] == 2**30
    assert "client_max_body_size 1g; " in text
    assert default["max_target_bytes"] == 16_384
    assert "16,384 bytes" in text
    assert default["stall_timeout"] == 60
    assert "send_timeout 60s; " in text


def test_compose_publishes_the_proxy_and_nothing_else() -> None:
    services = yaml.safe_load((CONF.parents[1] / "docker-compose.yml").read_text())["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"proxy"}
    assert any("/etc/nginx/nginx.conf:ro" in volume for volume in services["proxy"]["volumes"])
    assert services["api"]["environment"]["VANGUARD_TRUSTED_PROXIES"]


# -- TLS ---------------------------------------------------------------------------------------------------------------


def certificate(directory: Path) -> None:
    """One of its own for 127.0.0.1, as `fullchain.pem` and `privkey.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(clock.now() - timedelta(days=1)).not_valid_after(clock.now() + timedelta(days=1))
    (directory / "fullchain.pem").write_bytes(made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    (directory / "privkey.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )  # fmt: skip


@pytest.mark.anyio
async def test_over_tls_the_service_is_told_so_and_refusals_ask_to_come_so_again(tmp_path: Path) -> None:
    """By the lines of the configuration that are there for it."""
    certificate(tmp_path)
    port = free_port()
    lines = {"#listen 8443 ssl": f"listen 127.0.0.1:{port} ssl", "/etc/nginx/tls/": f"{tmp_path}/"}
    text = CONF.read_text()
    block = text[text.index("        #listen 8443") : text.index("        limit_req zone=rate")]
    shown = block
    for old, new in lines.items():
        shown = shown.replace(old, new)
    shown = shown.replace("#", "")
    async with upstream() as (service, behind):
        with proxied(behind, tmp_path, {block: shown}):
            async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=False, timeout=LIMIT) as http:
                assert (await http.get("/health")).status_code == 200
                assert b"x-forwarded-proto: https" in service.heads[-1].lower().split(b"\r\n")
                refused = await http.get("/metrics")
    assert refused.status_code == 404
    seconds = Settings(database_url="", secret=SECRET).hsts_seconds
    assert refused.headers["Strict-Transport-Security"] == f"max-age={seconds}"
