"""Packed answers: by Accept-Encoding, where it pays, and never where a secret is."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest
import zstandard
from litestar import get
from litestar.response import ServerSentEvent
from litestar.response.base import ASGIResponse

from app import passwords
from app.base import exact_json
from app.web import packing
from app.web.packing import LEAST, MUCH, wanted
from tests.support.world import User, World, line, refused
from tests.test_accounts import PASSWORD
from tests.test_edges import HEALTH, application, http, logged, served

__all__ = ["application", "http", "logged"]

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda packed: zstandard.ZstdDecompressor().decompress(packed),
    "br": brotli.decompress,
    "gzip": gzip.decompress,
}
D = "/api/v1/orgs/acme/datasets/pfa"
LONG = "x" * LEAST


async def raw(
    user: User, path: str, *accepted: str, method: str = "GET", **headers: str
) -> tuple[httpx.Response, bytes]:
    """An answer, and its bytes as they came. No Accept-Encoding where none is named."""
    pairs = [("Authorization", f"Bearer {user.token}"), *headers.items(), *(("Accept-Encoding", a) for a in accepted)]
    message = user.world.http.build_request(method, path, headers=pairs)
    if not accepted:
        del message.headers["Accept-Encoding"]
    response = await user.world.http.send(message, stream=True)
    body = b"".join([chunk async for chunk in response.aiter_raw()])
    await response.aclose()
    return response, body


@pytest.fixture
async def reader(world: World, ann: User) -> User:
    """Somebody with a page that is worth packing."""
    await world.mirror({f"PFA-{number:04}": line(model=f"M{number}") for number in range(30)})
    await ann.draft("PFA-0001", {"model": "M"})
    return ann


# -- what is asked for -------------------------------------------------------------------------------------------------

ACCEPTED: dict[str, tuple[str | None, bool]] = {
    "": (None, False),
    "gzip": ("gzip", False),
    "GZip": ("gzip", False),
    "x-gzip": ("gzip", False),
    "gzip, deflate, br, zstd": ("zstd", False),
    "gzip, deflate, br": ("br", False),
    "gzip;q=1.0, br;q=0.9, zstd;q=0.9": ("gzip", False),
    "br ; q = 0.5, gzip;Q=0.4": ("br", False),
    "zstd;q=0, br;q=0.000, gzip;q=0.001": ("gzip", False),
    "gzip;q=0": (None, False),
    "*": ("zstd", False),
    "*;q=0.1, br": ("br", False),
    "zstd;q=0, *": ("br", False),
    "identity": (None, False),
    "identity, gzip": ("gzip", False),
    "identity;q=0.9, gzip;q=0.5": (None, False),
    "identity;q=0.5, gzip;q=0.5": ("gzip", False),
    "identity;q=0, gzip": ("gzip", True),
    "*;q=0, gzip": ("gzip", True),
    "identity, *;q=0, gzip": ("gzip", False),
    "identity;q=0": (None, False),
    "*;q=0": (None, False),
    "deflate, compress, exi": (None, False),
    "gzip;q=2": (None, False),
    "gzip;q=-1, br;q=": (None, False),
    "gzip;q=0.5;x=1": (None, False),
    "gzip;level=9": (None, False),
    ";,;;q=1,,gzip": ("gzip", False),
    "gzip;q=0.1234, br;q=1.001": (None, False),
    "gzip;q=\u0661": (None, False),
    "gzip" + " " * 500: (None, False),
}


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_the_coding_that_is_wanted_most(accepted: str) -> None:
    assert wanted(accepted) == ACCEPTED[accepted]


async def test_a_page_comes_as_it_is_asked_for(reader: User) -> None:
    plain, body = await raw(reader, f"{D}/rows")
    assert ("Content-Encoding" in plain.headers, plain.headers["Vary"]) == (False, "Accept-Encoding")
    for accepted in (["gzip"], ["br"], ["zstd"], ["gzip;q=0.5", "br;q=0.7"], ["identity;q=0, *"], ["nothing", "gzip"]):
        response, packed = await raw(reader, f"{D}/rows", *accepted)
        coding = response.headers["Content-Encoding"]
        assert coding == wanted(", ".join(accepted))[0]
        assert int(response.headers["Content-Length"]) == len(packed) < len(body) / 4
        data = exact_json.decode(UNPACK[coding](packed))["data"]
        assert data == exact_json.decode(body)["data"]
        assert response.headers["ETag"] == plain.headers["ETag"]
        assert (response.headers["Vary"], response.headers["Cache-Control"]) == ("Accept-Encoding", "private, no-cache")


async def test_head_says_what_get_does(reader: User) -> None:
    for path in (f"{D}/rows?pageSize=7", f"{D}/rows/PFA-0001", "/schema/openapi.json", "/nope", f"{D}/rows?x=1"):
        for accepted in ("gzip", "br", "zstd", "identity"):
            (got, _), (head, none) = [await raw(reader, path, accepted, method=each) for each in ("GET", "HEAD")]
            assert none == b""
            for name in ("Content-Encoding", "Vary", "ETag", "Content-Type"):
                assert got.headers.get(name) == head.headers.get(name), path
            assert abs(int(got.headers["Content-Length"]) - int(head.headers["Content-Length"])) < 5  # queryTime


# -- what is left as it is ---------------------------------------------------------------------------------------------


async def test_a_tag_of_a_list_holds_whatever_the_coding(reader: User) -> None:
    tag = (await raw(reader, f"{D}/rows", "br"))[0].headers["ETag"]
    assert tag.startswith("W/")
    for accepted in ("gzip", "identity"):
        same, body = await raw(reader, f"{D}/rows", accepted, **{"If-None-Match": tag})
        assert (same.status_code, body, same.headers["ETag"]) == (304, b"", tag)
        assert (same.headers["Vary"], "Content-Encoding" in same.headers) == ("Accept-Encoding", False)


async def test_one_row_has_one_row_of_bytes_under_its_tag(reader: User) -> None:
    for _ in range(10):
        await reader.draft("PFA-0001", {"equipment": "E" * 500, "model": "M" * 500})
    plain, body = await raw(reader, f"{D}/rows/PFA-0001")
    assert len(body) > LEAST
    response, same = await raw(reader, f"{D}/rows/PFA-0001", "gzip, br, zstd", "identity;q=0")
    assert (same, response.headers["ETag"]) == (body, plain.headers["ETag"])
    assert not {"Content-Encoding", "Vary"} & {name.title() for name in response.headers}


async def test_what_carries_a_secret_is_never_packed(world: World, ann: User) -> None:
    password = await asyncio.to_thread(passwords.HASHER.hash, PASSWORD)
    await world.db.execute("UPDATE account SET password_hash = $1 WHERE id = 'ann'", password)
    for number in range(60):
        await world.organization(f"org-{number}")
        await world.db.execute("INSERT INTO membership VALUES ($1, 'ann', 'VIEWER')", f"org-{number}")
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    response = await world.http.post(
        "/api/auth/login", json=credentials, headers={"Accept-Encoding": "gzip, identity;q=0"}
    )
    assert (response.status_code, len(response.content) > LEAST) == (200, True)
    assert "accessToken" in response.json()
    assert not {"Content-Encoding", "Vary"} & {name.title() for name in response.headers}
    assert int(response.headers["Content-Length"]) == len(response.content)


@pytest.mark.parametrize(
    ("headers", "packed"),
    [
        ({}, True),
        ({"Cache-Control": "private, no-store"}, False),
        ({"Set-Cookie": "a=b"}, False),
        ({"ETag": '"1"'}, False),
        ({"ETag": 'W/"1"'}, True),
        ({"Content-Encoding": "br"}, False),
        ({"Content-Type": "image/png"}, False),
        ({"Content-Type": "text/event-stream"}, False),
        ({"Content-Type": "application/octet-stream"}, False),
        ({"Content-Type": "Application/Problem+JSON; charset=utf-8"}, True),
        ({"Content-Type": "text/css; charset=utf-8"}, True),
        ({"Content-Type": "text/javascript"}, True),
    ],
)
@pytest.mark.parametrize("size", [0, 1, LEAST - 1, LEAST, MUCH + 1])
async def test_what_is_packed(headers: dict[str, str], packed: bool, size: int) -> None:
    answer = ASGIResponse(body=b"x" * size, media_type="application/json", headers=headers)
    for accepted, least in ((b"gzip", LEAST), (b"gzip, identity;q=0", 1), (b"", MUCH * 2)):
        sent = await answered(answer, accepted)
        found = dict(sent[0]["headers"])
        assert (found.get(b"vary") == b"Accept-Encoding") == packed
        if packed and size >= least:
            assert found[b"content-encoding"] == b"gzip"
            assert gzip.decompress(sent[1]["body"]) == b"x" * size
        else:
            assert found.get(b"content-encoding", b"").decode() == headers.get("Content-Encoding", "")
            assert sent[1]["body"] == b"x" * size
        assert int(found[b"content-length"]) == len(sent[1]["body"])


async def answered(app: Any, accepted: bytes) -> list[Any]:
    """The messages of an answer behind the packing."""
    scope: Any = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", accepted)]}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, None, packing.packing(scope, send))
    return sent


async def test_what_is_long_is_packed_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def pack(body: bytes) -> bytes:
        threads.append(threading.current_thread())
        return b"packed"

    monkeypatch.setitem(packing.CODINGS, "br", pack)
    for size in (MUCH, MUCH + 1):
        await answered(ASGIResponse(body=b"x" * size, media_type="text/plain"), b"br")
    assert [each is threading.main_thread() for each in threads] == [True, False]


@get("/events", opt={"public": True}, include_in_schema=False)
async def events() -> ServerSentEvent:
    """A stream."""
    return ServerSentEvent(iter(["x" * 5000]))


async def test_a_stream_is_left_alone(application: Any, http: httpx.AsyncClient) -> None:
    application.app.register(events)
    for path in ("/events", "/taken"):
        response = await http.request("POST" if path == "/taken" else "GET", path, content=b"{}")
        assert "Content-Encoding" not in response.headers
    assert "Vary" not in (await http.get("/events")).headers


# -- everything else that is text --------------------------------------------------------------------------------------


async def test_other_answers_are_packed_too(reader: User) -> None:
    paths = ["/metrics", "/schema/openapi.json", "/schema", "/schema/assets/swagger-ui-bundle.js", f"{D}/kpis",
             "/api/pfa/acme", f"{D}/drafts", f"{D}/rows?{LONG}=1"]  # fmt: skip
    for path in paths:
        for coding in ("gzip", "br", "zstd"):
            response, packed = await raw(reader, path, coding)
            long = len(UNPACK[coding](packed) if "Content-Encoding" in response.headers else packed) >= LEAST
            assert (response.headers.get("Content-Encoding"), response.headers["Vary"]) == (
                coding if long else None,
                "Accept-Encoding",
            ), path
    response, _ = await raw(reader, "/schema/assets/favicon-32x32.png", "gzip")
    assert not {"Content-Encoding", "Vary"} & {name.title() for name in response.headers}


async def test_refusals_are_packed_like_answers(reader: User) -> None:
    drafts = [{"id": f"missing-{number}", "delta": {"model": "M"}} for number in range(100)]
    response = await reader.post("drafts", {"modifications": drafts}, headers={"Accept-Encoding": "zstd"})
    assert len(refused(response, 422, "VALIDATION_FAILED")["errors"]) == 100
    assert (response.headers["Content-Encoding"], response.headers["Vary"]) == ("zstd", "Accept-Encoding")
    assert int(response.headers["Content-Length"]) == response.num_bytes_downloaded < len(response.content) / 4


async def test_over_the_server() -> None:
    with served() as server:
        await server.listening()
        asked = HEALTH.replace(b"/health", b"/schema/openapi.json")
        _, _, plain = await server.say(asked + b"\r\n")
        for coding, unpack in UNPACK.items():
            for lines in (f"Accept-Encoding: {coding}", f"Accept-Encoding: x;q=0.5\r\nAccept-Encoding: {coding};q=0.1"):
                status, headers, packed = await server.say(asked + lines.encode() + b"\r\n\r\n")
                assert (status, headers["Content-Encoding"], unpack(packed)) == (200, coding, plain)
                assert int(headers["Content-Length"]) == len(packed)
            head = asked.replace(b"GET", b"HEAD") + f"Accept-Encoding: {coding}\r\n\r\n".encode()
            assert (await server.say(head))[1]["Content-Length"] == headers["Content-Length"]
