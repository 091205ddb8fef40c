"""Bodies: exact numbers, strict shapes, names and packings, our errors, and a schema that shows them."""

import gzip
import json
import tracemalloc
import zlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from litestar import Litestar, patch, post
from litestar.params import JSONBody
from litestar.testing import TestClient

from app.base import exact_json
from app.base.errors import MalformedRequest, VanguardError
from app.web.bodies import JsonBody, unpacked
from app.web.problems import PayloadTooLarge, answer
from tests.support.world import User, World, line, open_world, refused


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A struct as handlers declare them."""

    row_id: str
    delta: dict[str, Any] = {}


def depths() -> range:
    """The deepest that a reader of JSON gets, and the levels above."""

    def is_too_deep(depth: int) -> bool:
        try:
            exact_json.decode(b"[" * depth + b"]" * depth)
        except RecursionError:
            return True
        return False

    first = bisect_left(range(200_000), True, key=is_too_deep)
    return range(first - 40, first)


@post("/change", status_code=200)
async def change(data: JSONBody[Change]) -> str:
    return repr(data.delta)


@patch("/merge")
async def merge(data: JSONBody[dict[str, Any]]) -> str:
    return repr(data)


@post("/optional", status_code=200)
async def optional(data: JSONBody[Change | None] = None) -> str:
    return repr(data)


@post("/answer", status_code=200)
async def echo(data: JSONBody[Change]) -> Change:
    return data


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    """A small application with the bodies of the real one."""
    app = Litestar([change, merge, optional, echo], dto=JsonBody, exception_handlers={VanguardError: answer})
    with TestClient(app) as client:
        yield client


def test_numbers_keep_their_digits(client: TestClient[Litestar]) -> None:
    sent = '{"rowId": "A", "delta": {"rate": 12.3400, "big": 12345678901234567890.1, "n": 1, "list": [0.10]}}'
    expected = {"rate": Decimal("12.3400"), "big": Decimal("12345678901234567890.1"), "n": 1, "list": [Decimal("0.10")]}
    assert client.post("/change", content=sent).text == repr(expected)
    assert client.patch("/merge", content='{"rate": 0.30}').text == repr({"rate": Decimal("0.30")})


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ('{"rowId": 1}', "rowId"),
        ('{"rowId": "A", "row_id": "A"}', "row_id"),
        ('{"rowId": "A", "delta": []}', "delta"),
        ("{}", "rowId"),
        ("[]", None),
    ],
)
def test_another_shape_is_refused_with_its_place(client: TestClient[Litestar], sent: str, field: str | None) -> None:
    response = client.post("/change", content=sent)
    assert (response.status_code, response.json()["code"]) == (400, "MALFORMED_REQUEST")
    assert response.json()["errors"][0].get("field") == field


@pytest.mark.parametrize("sent", ["{", "nul", "[" * 100_000, b"\xff", '{"rowId": "\\ud800"}'])
def test_what_is_not_json_is_refused(client: TestClient[Litestar], sent: str | bytes) -> None:
    assert client.post("/change", content=sent).status_code == 400


def test_a_body_may_be_left_out_where_the_handler_says_so(client: TestClient[Litestar]) -> None:
    assert client.post("/optional").text == "None"
    assert client.post("/change").status_code == 400


def test_answers_are_left_alone(client: TestClient[Litestar]) -> None:
    assert client.post("/answer", content='{"rowId": "A"}').json() == {"rowId": "A", "delta": {}}


def test_the_schema_shows_the_struct(client: TestClient[Litestar]) -> None:
    document = client.get("/schema/openapi.json").json()
    body = document["paths"]["/change"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["$ref"] == "#/components/schemas/Change"
    assert set(document["components"]["schemas"]["Change"]["properties"]) == {"rowId", "delta"}


# -- a member twice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "member"),
    [
        ('{"rowId": "A", "rowId": "A"}', "rowId"),
        ('{"rowId": "A", "row\\u0049d": "B"}', "rowId"),
        ('{"rowId": "A", "delta": {"x": 1, "y": 2, "x": 3}}', "x"),
        ('{"rowId": "A", "delta": {"x": [[{"y": {"z": null, "z": null}}]]}}', "z"),
        ('{"rowId": "A", "delta": {"\\"x\\":": 1, "\\"x\\":": 1}}', '"x":'),
        ('{"rowId": "A", "delta": {' + ", ".join([f'"{"x" * 999}": 1'] * 2) + "}}", "x" * 200),
    ],
)
def test_a_member_that_comes_twice_is_named(client: TestClient[Litestar], sent: str, member: str) -> None:
    problem = client.post("/change", content=sent).json()
    assert (problem["status"], problem["code"]) == (400, "MALFORMED_REQUEST")
    assert [(error["code"], error["field"]) for error in problem["errors"]] == [("DUPLICATE_MEMBER", member)]


def test_a_member_that_comes_twice_does_not_pass_beside_what_is_nested_deeply() -> None:
    """Who looks for it ends some levels before who reads the values."""
    for depth in depths():
        deep = b"[" * depth + b"]" * depth
        with pytest.raises(MalformedRequest):
            exact_json.read(b'{"deep": %b, "a": 1, "a": 2}' % deep, dict[str, Any])


@pytest.mark.parametrize(
    "delta",
    [
        '{"a": {"x": 1}, "b": {"x": 1}}',
        '{"a": [{"x": 1}, {"x": 1}], "x": 1}',
        '{"a": "\\"a\\": 1, \\"a\\": 2", "A": 1, "": 0, "\u00e4": 1, "a\u0308": 2}',
        '{"big": %s, "small": 1e-999, "minus": -0}' % ("9" * 400 + ".5"),
        "[" * 200 + "]" * 200,
    ],
)
def test_what_only_looks_like_twice_is_taken(delta: str) -> None:
    assert exact_json.read(b'{"a":%b}' % delta.encode(), dict[str, Any])


@pytest.mark.parametrize(("digits", "blanks", "taken"), [(4000, 0, True), (640, 10**5, True), (641, 10**5, False)])
def test_a_whole_number_in_a_long_body_has_few_digits(digits: int, blanks: int, taken: bool) -> None:
    body = b'{"a":%b}' % (b"1" * digits + b" " * blanks)
    if taken:
        assert exact_json.read(body, dict[str, Any]) == {"a": int("1" * digits)}
        return
    with pytest.raises(MalformedRequest) as refused:
        exact_json.read(body, dict[str, Any])
    assert refused.value.detail == "Integer value out of range at [...]."


@pytest.mark.parametrize("depth", [900, 1000, 1100, 5000, 100_000])
def test_deep_nesting_is_refused_or_taken_and_never_breaks(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        inner = opening * depth + b"1" + closing * depth
        with suppress(MalformedRequest):
            exact_json.read(b'{"x":%b}' % inner, dict[str, Any])


# -- the name of a patch -----------------------------------------------------------------------------------------------


async def patch_as(user: User, *content_type: str) -> Any:
    headers = {"Content-Type": content_type[0]} if content_type else {}
    return await user.request("PATCH", "rows/A", content=b'{"model":"M"}', headers=headers)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/merge-patch+json", "application/json", "Application/JSON", "application/json; charset=utf-8",
        'application/merge-patch+json;charset="UTF-8"', "application/json; profile=x; charset=Utf-8", "", " ",
    ],
)  # fmt: skip
async def test_a_patch_is_a_merge_patch_by_its_name(world: World, ann: User, content_type: str) -> None:
    await world.mirror({"A": line()})
    assert (await patch_as(ann, content_type)).status_code == 200


async def test_a_patch_without_a_name_is_a_merge_patch(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    response = await patch_as(ann)
    assert "Content-Type" not in response.request.headers
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json-patch+json", "text/plain", "application/x-www-form-urlencoded", "application/vnd.x+json", "x",
        "application/merge-patch+json; charset=latin-1", "application/json;charset=utf-16", "*/*", "text/json",
        "application/json, application/json", "x" * 5000,
    ],
)  # fmt: skip
async def test_a_patch_of_another_name_is_refused(world: World, ann: User, content_type: str) -> None:
    await world.mirror({"A": line()})
    response = await patch_as(ann, content_type)
    assert len(refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")["detail"]) < 200
    assert response.headers["Accept-Patch"] == "application/merge-patch+json, application/json"
    assert (await ann.row("A"))["syncState"] == "pristine"


async def test_options_tells_what_a_patch_may_be(ann: User) -> None:
    accepted = "application/merge-patch+json, application/json"
    assert (await ann.request("OPTIONS", "rows/A")).headers["Accept-Patch"] == accepted
    assert "Accept-Patch" not in (await ann.request("OPTIONS", "rows")).headers


@pytest.mark.parametrize("piece", ["[]", "{}", "[[[[[]]]]]", '"[["', "1", '{"a":1,"b":2}', '","'])
async def test_a_body_has_only_so_many_values(ann: User, piece: str) -> None:
    """The most that are taken are read, and found to be no patch."""
    most = ann.world.runtime.settings.max_body_values // (1 + sum(map(piece.count, "[{,")))
    for outer, status, code in ((0, 400, "MALFORMED_REQUEST"), (1, 413, "PAYLOAD_TOO_LARGE")):
        content = f"[{','.join([piece] * (most + outer))}]"
        problem = refused(await ann.request("PATCH", "rows/A", content=content), status, code)
    assert "VANGUARD_MAX_BODY_VALUES" in problem["detail"]
    assert "200,000" in problem["detail"]


# -- packed bodies -----------------------------------------------------------------------------------------------------

MOST = 5000


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[User]:
    """Somebody where bodies are small."""
    async with open_world(database_url, max_body_bytes=MOST) as world:
        await world.organization("acme")
        await world.mirror({"A": line()})
        yield await world.user("ann")


def saving(model: str = "M") -> bytes:
    return exact_json.encode({"modifications": [{"id": "A", "delta": {"model": model}}]})


def filled(size: int) -> bytes:
    """A body of so many bytes."""
    body = saving()
    return body + b" " * (size - len(body))


async def send(user: User, content: bytes, *codings: str, **headers: str) -> Any:
    pairs = [("Content-Encoding", coding) for coding in codings] + list(headers.items())
    pairs += [("Authorization", f"Bearer {user.token}"), ("Content-Type", "application/json")]
    return await user.world.http.post("/api/v1/orgs/acme/datasets/pfa/drafts", content=content, headers=pairs)


@pytest.mark.parametrize(
    "codings", [["gzip"], ["GZIP"], ["x-gzip"], ["identity, gzip"], ["identity", "gzip"], [" gzip ,"]]
)
async def test_a_packed_body_is_read_as_it_was(small: User, codings: list[str]) -> None:
    assert (await send(small, gzip.compress(saving()), *codings)).status_code == 200
    assert (await small.row("A"))["delta"] == {"model": "M"}
    assert (await send(small, gzip.compress(filled(MOST)), *codings)).status_code == 200


@pytest.mark.parametrize("codings", [["identity"], [""], ["identity", "identity"], []])
async def test_a_body_that_is_not_packed_may_say_so(small: User, codings: list[str]) -> None:
    assert (await send(small, saving(), *codings)).status_code == 200


@pytest.mark.parametrize(
    "codings", [["br"], ["deflate"], ["zstd"], ["gzip, gzip"], ["gzip", "br"], ["x" * 5000], ["*"]]
)
async def test_another_packing_is_refused_with_the_one_that_is_taken(small: User, codings: list[str]) -> None:
    for content in (saving(), gzip.compress(saving())):
        response = await send(small, content, *codings)
        assert len(refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")["detail"]) < 200
        assert response.headers["Accept-Encoding"] == "gzip"


PACKED = gzip.compress(saving(), mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        saving(), PACKED[:-1], PACKED[:20], PACKED[:1], PACKED + b"x", PACKED + PACKED, PACKED + b"\0",
        zlib.compress(saving()), PACKED[:-8] + b"\0" * 8, b"x" + PACKED, gzip.compress(b"{", mtime=0),
        gzip.compress(b"\xff", mtime=0), gzip.compress(PACKED, mtime=0),
    ],
)  # fmt: skip
async def test_what_is_packed_badly_is_refused(small: User, content: bytes) -> None:
    refused(await send(small, content, "gzip"), 400, "MALFORMED_REQUEST")
    assert (await small.row("A"))["syncState"] == "pristine"


async def test_no_more_is_unpacked_than_a_body_may_have(small: User) -> None:
    for size in (MOST + 1, 10**6):
        problem = refused(await send(small, gzip.compress(filled(size)), "gzip"), 413, "PAYLOAD_TOO_LARGE")
        assert "5,000 bytes" in problem["detail"]
    refused(await send(small, gzip.compress(filled(MOST + 1)) + b"x", "gzip"), 413, "PAYLOAD_TOO_LARGE")
    bomb = gzip.compress(bytes(10**8))
    tracemalloc.start()
    with pytest.raises(PayloadTooLarge):
        unpacked(bomb, "gzip", MOST)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


async def test_packed_or_not_it_is_the_same_request(small: User) -> None:
    key = {"Idempotency-Key": "one"}
    first = await send(small, saving(), **key)
    again = await send(small, gzip.compress(saving(), 1), "gzip", **key)
    assert (first.status_code, again.content) == (200, first.content)
    refused(await send(small, gzip.compress(saving("N")), "gzip", **key), 422, "IDEMPOTENCY_KEY_REUSED")
    patched = await small.request(
        "PATCH",
        "rows/A",
        content=gzip.compress(json.dumps({"model": "P"}).encode()),
        headers={"Content-Encoding": "gzip"},
    )
    assert patched.json()["data"]["model"] == "P"


async def test_a_body_that_may_be_left_out_may_be_packed(small: User) -> None:
    assert (await small.request("POST", "/api/auth/logout", headers={"Content-Encoding": "gzip"})).status_code == 204
