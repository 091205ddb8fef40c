"""Paths: every id that a row can have is reached by its route, byte for byte, and never another row."""

import unicodedata
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.base.errors import NotFound
from app.contracts.keys import MAX_KEY_BYTES, check_key
from app.web.auth import Role
from app.web.paths import decoded, path_for_routes
from tests.support.world import NEW, User, World, line, refused
from tests.test_edges import logged, served
from tests.test_model import examples

__all__ = ["logged"]

D = "/api/v1/orgs/acme/datasets/pfa"
HARD = [
    "a/b", "PFA-1/", "/PFA-1", "a//b", "//", "/", "a/../b", "a%2Fb", "a%252Fb", "100%", "%", "%zz", "%ff", "a?b#c", "?",
    "#", "..x", "...", ".", "..", " x", "x ", "a b", "a;b", "a+b", "a&b=c", "\\", "a\\b", "\u00e4", "a\u0308",
    "\U0001f600", "\ufffd", "'", '"', "{row_id}", "rows", "stats", "@:!$,*()[]~|^`<>", "x" * MAX_KEY_BYTES,
]  # fmt: skip


def segment(key: str) -> str:
    """The id as a path has it. Whoever leaves dots alone has their segments taken for steps of the path."""
    return quote(key, safe="").replace(".", "%2E")


def neighbours(key: str) -> set[str]:
    """Whom one that reads an id in another way would take it for."""
    near = {key.strip("/"), key.replace("/", ""), f"{key}/", f"/{key}", key.replace("//", "/"), unquote(key)}
    near |= {unquote(unquote(key)), segment(key), key.strip(), key.replace("+", " "), key.partition("/")[0]}
    near |= {unicodedata.normalize(form, key) for form in ("NFC", "NFD", "NFKC")}
    near |= {key.partition(mark)[0] for mark in "?#;"} | {key.replace("\\", "/"), key.casefold()}
    return {each for each in near - {key} if check_key(each) is None}


# -- every id ----------------------------------------------------------------------------------------------------------


async def check_each(ann: User, key: str) -> None:
    """The row is read and edited among its neighbours, and so are they."""
    world = ann.world
    await world.db.execute("DELETE FROM pfa.modification")
    await world.db.execute("DELETE FROM pfa.mirror")
    keys = [key, *sorted(neighbours(key))]
    await world.mirror({each: line(model=str(place)) for place, each in enumerate(keys)})
    for place, each in enumerate(keys):
        path = f"rows/{segment(each)}"
        row = (await ann.get(path)).json()
        assert (row["id"], row["data"]["model"]) == (each, str(place)), keys
        patched = await ann.request("PATCH", path, json={"model": f"of {place}"})
        assert (patched.status_code, patched.json()["id"]) == (200, each), keys
        assert (await ann.request("HEAD", path)).headers["ETag"] == patched.headers["ETag"]
    assert {row["id"]: row["data"]["model"] for row in await ann.rows(pageSize=1000)} == {
        each: f"of {place}" for place, each in enumerate(keys)
    }


@pytest.mark.parametrize("key", HARD)
async def test_an_id_is_read_and_edited_byte_for_byte(world: World, ann: User, key: str) -> None:
    await check_each(ann, key)


PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
KEYS = st.text(PRINTABLE | st.sampled_from("/%?#;+.\\ aä2Ff5"), min_size=1, max_size=20).filter(
    lambda key: check_key(key) is None
)


@examples(40)
@given(KEYS)
async def test_a_random_id_is_never_another(world: World, ann: User, key: str) -> None:
    await check_each(ann, key)


@examples(300)
@given(KEYS)
@example("%2F")
@example("%25/%2f")
def test_a_segment_stays_one_and_is_decoded_once(key: str) -> None:
    _, first, last = path_for_routes(f"/{segment(key)}/x".encode()).split("/")
    assert (decoded({"key": first}), last) == ({"key": key}, "x")


async def test_a_row_that_is_not_there_is_missed_whatever_is_beside_it(world: World, ann: User) -> None:
    await world.mirror({key: line() for key in ("PFA-1", "a/b", "\ufffd", "%", "A B")})
    for path in ("PFA-1%2F", "%2FPFA-1", "PFA-1%00", "pfa-1", "PFA%2D1%20", "a%2Fb%2F", "a%252Fb", "%2525", "A+B"):
        refused(await ann.get(f"rows/{path}"), 404, "ROW_NOT_FOUND")
        refused(await ann.request("PATCH", f"rows/{path}", json={"model": "x"}), 404, "ROW_NOT_FOUND")
    assert not (await ann.get("drafts")).json()["data"]


# -- every parameter of a path, and what is said of a path -------------------------------------------------------------


async def test_every_other_parameter_is_taken_byte_for_byte_too(world: World) -> None:
    admin = await world.user("admin", role=Role.ADMIN)
    for name in ("pat/", "pat", "p%61t", "p/at"):
        await world.db.execute("INSERT INTO account (id, email, name) VALUES ($1, $1 || '@x.example', 'Pat')", name)
        for account in (name, f"{name}@x.example"):
            await world.db.execute(
                "INSERT INTO membership (organization_id, account_id, role) VALUES ('acme', $1, 'ANALYST')", name
            )
            path = f"/api/v1/orgs/acme/members/{segment(account)}"
            assert (await admin.request("PUT", path, json={"role": "VIEWER"})).json()["id"] == name
            assert (await admin.request("DELETE", path)).status_code == 204
    refused(await admin.get(f"{D}%2Frows"), 404, "DATASET_NOT_FOUND")
    refused(await admin.get("/api/v1/orgs/acme/datasets/pfa%2F/rows"), 404, "DATASET_NOT_FOUND")
    refused(await admin.get("/api/v1/orgs/acme%2F/datasets/pfa/rows"), 403, "FORBIDDEN")
    refused(await admin.get(f"{D}/sync/runs/%2F8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11"), 404, "RUN_NOT_FOUND")
    refused(await admin.get("/schema/assets/..%2fswagger-ui.css"), 404, "NOT_FOUND")
    assert (await admin.get("/api/v1/%6Frgs/acme/datasets/%70fa/rows")).status_code == 200


async def test_log_and_answer_tell_the_path_and_nothing_that_was_made_of_it(
    world: World, ann: User, logged: list[Any]
) -> None:
    for method in ("GET", "HEAD", "PATCH"):
        response = await ann.request(method, "rows/a%2Fb%3F%C3%A4", content=b"{}" if method == "PATCH" else None)
        assert response.status_code == 404
        if method != "HEAD":
            assert response.json()["instance"] == f"{D}/rows/a%2Fb%3F%C3%A4"
    asked = await ann.request("OPTIONS", "rows/a%2Fb")
    assert asked.headers["Allow"] == "GET, HEAD, OPTIONS, PATCH"
    told = [(each["method"], each["route"]) for each in logged if each["event"] == "request"]
    route = "/api/v1/orgs/{org}/datasets/{dataset}/rows/{row_id}"
    assert told == [(method, route) for method in ("GET", "HEAD", "PATCH", "OPTIONS")]
    assert "a/b" not in str(logged)
    assert "a%2Fb" not in str(logged)


@pytest.mark.parametrize("path", ["A%", "A%2", "%zz", "%", "%%41", "A%2g", "%ff", "%C3", "%ed%a0%80", "%c0%af"])
async def test_what_is_half_encoded_or_no_utf8_is_nobodys_path(world: World, ann: User, path: str) -> None:
    await world.mirror({key: line() for key in ("A", unquote(path))} if path != "%ed%a0%80" else {"A": line()})
    for method in ("GET", "HEAD", "OPTIONS", "PATCH"):
        url = httpx.URL(f"http://vanguard.test{D}/").copy_with(raw_path=f"{D}/rows/{path}".encode())
        response = await world.http.request(method, url, headers={"Authorization": f"Bearer {ann.token}"})
        if method != "HEAD":
            assert refused(response, 404, "NOT_FOUND")["instance"] == f"{D}/rows/{path}"


@pytest.mark.parametrize("path", ["rows//A", "rows/A/", "rows/A//", "rows/", "//rows/A", "rows/%41/"])
async def test_a_slash_that_is_not_encoded_is_never_left_out(world: World, ann: User, path: str) -> None:
    await world.mirror({"A": line()})
    for method in ("GET", "PATCH"):
        response = await ann.request(method, f"{D}/{path}", json={"model": "x"})
        assert "%2F" in refused(response, 404, "NOT_FOUND")["detail"]
    assert (await ann.get("/health/")).status_code == 200


@pytest.mark.parametrize("path", ["//api/auth/login", "///api/auth/login", "//health", "//metrics", "//schema"])
async def test_nor_is_one_that_comes_first(world: World, path: str) -> None:
    """A proxy that holds a path to bounds would not know it again."""
    url = httpx.URL("http://vanguard.test/").copy_with(raw_path=path.encode())
    for method in ("GET", "POST"):
        assert "%2F" in refused(await world.http.request(method, url, json={}), 404, "NOT_FOUND")["detail"]


def test_what_a_path_becomes_for_routes() -> None:
    cases = {"/a/b": "/a/b", "/a%2fb/": "/a%2Fb/", "/%25": "/%25", "/%61": "/a", "/x//": "/x//", "*": "*", "": ""}
    assert {raw: path_for_routes(raw.encode()) for raw in cases} == cases
    for raw in (b"/%", b"/\xff", b"/%ff", b"/api/", b"//api/x/", b"/%61pi//x", b"//x", b"//"):
        with pytest.raises(NotFound):
            path_for_routes(raw)


# -- new rows ----------------------------------------------------------------------------------------------------------


async def test_a_new_row_has_an_id_that_every_url_can_hold(world: World, ann: User) -> None:
    for key in (".", "..", "a/b", "/", "a/"):
        body = {"modifications": [{"id": key, "op": "insert", "delta": NEW}]}
        problem = refused(await ann.post("drafts", body), 422, "VALIDATION_FAILED")
        assert [(error["code"], error["id"]) for error in problem["errors"]] == [("INVALID_ID", key)]
    for key in ("...", "..x", "100%", "a?b#c", "a\\b", "\u00e4", "%2F"):
        await ann.draft(key, NEW, op="insert")
        assert (await ann.get(f"rows/{segment(key)}")).json()["id"] == key


async def test_a_pulled_row_with_such_an_id_is_drafted_as_any_other(world: World, ann: User) -> None:
    await world.mirror({key: line() for key in (".", "..", "a/b")})
    for key in (".", "..", "a/b"):
        await ann.draft(key, {"model": key})
        await ann.draft(key, op="delete")


# -- the server --------------------------------------------------------------------------------------------------------


async def test_the_server_passes_on_what_was_sent(world: World, database_url: str) -> None:
    """Also dots, which only a client that does not take them for steps can send."""
    ann = await world.user("ann", ttl=10**9)
    await world.mirror({key: line(model=key) for key in (*HARD, "PFA-1", "a", "b", "ab", "A")})
    head = f" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {ann.token}\r\n\r\n".encode()

    async def answer(method: str, path: str | bytes) -> tuple[int, Any]:
        raw = path.encode() if isinstance(path, str) else path
        status, headers, body = await server.say(f"{method} {D}/rows".encode() + raw + head)
        return status, httpx.Response(status, headers=headers, content=body).json()

    with served(database_url) as server:
        await server.listening()
        for key in HARD:
            for path in {f"/{segment(key)}", f"/{quote(key, safe='')}"}:
                status, row = await answer("GET", path)
                assert (status, row.get("id"), row["data"]["model"]) == (200, key, key), path
        assert (await answer("GET", "/ä".encode()))[1]["id"] == "\u00e4", "not encoded, and no other row"
        for path in ("/PFA-1/", "//PFA-1", "/a/b", "/a//b", "/%zz", "/%ff", "/100%", "/../rows/A", "/./A", "/"):
            status, problem = await answer("GET", path)
            assert (status, problem["code"], problem["instance"]) == (404, "NOT_FOUND", f"{D}/rows{path}"), path
