"""No request holds the event loop for long: 50 ms for one of 16 KB, 100 ms for a question of 64 KB, 300 ms for a body
of 8 MB.

The bodies are the dearest of many that were tried, each of so many values or bytes as are taken.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from app.web.auth import Account, Role
from benchmarks import held
from tests.support.ingesting import people_of, used
from tests.support.world import User, World, line, refused, written

pytestmark = [pytest.mark.anyio, pytest.mark.timed]

TARGET, BODY = 16 * 1024, 8 * 2**20
SHORT, MIDDLE, LONG = 0.05, 0.1, 0.3  # seconds


def filled(head: bytes, items: Iterable[bytes], tail: bytes, *, values: int = 200_000) -> bytes:
    """A body of so many items as are taken: by its bytes, and by its values."""
    size, count, kept = len(head) + len(tail), head.count(b"[") + head.count(b"{"), []
    for item in items:
        size += len(item) + 1
        count += 1 + item.count(b",") + item.count(b"[") + item.count(b"{")
        if size > BODY or count > values:
            break
        kept.append(item)
    return head + b",".join(kept) + tail


def each(form: bytes, most: int = 10**9) -> Iterator[bytes]:
    """The form with a number of its own in each."""
    return (form.replace(b"#", b"%d" % number) for number in itertools.islice(itertools.count(), most))


MODIFICATIONS = b'{"modifications":['
ONE = MODIFICATIONS + b'{"id":"D","delta":'
WRONG = b",".join(b'"%b":[]' % name for name in (b"category", b"source", b"dor", b"monthlyRate", b"model", b"class"))
LONG_INTEGER, LONG_FRACTION = b"1" * 640, b"1." + b"1" * 9000
DRAFTS = {
    "many that are not there": filled(MODIFICATIONS, each(b'{"id":"x#","delta":{"model":"x"}}', 10_000), b"]}"),
    "many new ones": filled(
        MODIFICATIONS, each(b'{"id":"n#","op":"insert","delta":{"model":"%b"}}' % (b"x" * 400), 10_000), b"]}"
    ),
    "many that are wrong": filled(MODIFICATIONS, each(b'{"id":"x#","delta":{%b}}' % WRONG, 10_000), b"]}"),
    "many bad cells": filled(MODIFICATIONS, each(b'{"id":"x#","delta":{%b}}' % WRONG, 10_000), b'],"partial":"cells"}'),
    "many fields": filled(ONE + b"{", each(b'"f#":1'), b"}}]}"),
    "many fields in base": filled(MODIFICATIONS + b'{"id":"D","base":{', each(b'"f#":1'), b"}}]}"),
    "one field again and again": filled(ONE + b"{", itertools.repeat(b'"f":1'), b"}}]}"),
    "fields to unset": filled(MODIFICATIONS + b'{"id":"D","unset":[', each(b'"#"'), b"]}]}"),
    "empty lists": filled(ONE + b'{"model":[', itertools.repeat(b"[]"), b"]}}]}"),
    "small objects": filled(ONE + b'{"model":[', itertools.repeat(b'{"a":1}'), b"]}}]}"),
    "deep lists": filled(ONE + b'{"model":[', itertools.repeat(b"[" * 300 + b"]" * 300), b"]}}]}"),
    "fractions": filled(ONE + b'{"model":[', itertools.repeat(b"1.5"), b"]}}]}"),
    "long whole numbers": filled(ONE + b'{"model":[', itertools.repeat(LONG_INTEGER), b"]}}]}"),
    "whole numbers that are too long": filled(ONE + b'{"model":[', itertools.repeat(b"1" * 4200), b"]}}]}"),
    "long fractions": filled(MODIFICATIONS, each(b'{"id":"x#","delta":{"monthlyRate":%b}}' % LONG_FRACTION), b"]}"),
    "the longest fraction": ONE + b'{"monthlyRate":1.%b}}]}' % (b"1" * (BODY - 100)),
    "the longest text": ONE + b'{"model":"%b"}}]}' % (b"\\n" * (BODY // 2 - 50)),
    "the longest name": ONE + b'{"%b":1}}]}' % (b"x" * (BODY - 60)),
    "nothing but zeros": b"\0" * BODY,
    "nothing but blanks": b" " * BODY,
    "commas": b"[" + b"1," * (BODY // 2 - 2) + b"1]",
}
COMMITS = {
    "many ids": filled(b'{"ids":[', each(b'"x#"', 50_000), b"]}"),
    "too many ids": filled(b'{"ids":[', each(b'"x#"'), b"]}"),
    "versions": filled(b'{"all":true,"expectedVersions":{', each(b'"x#":1', 50_000), b"}}"),
    "too many versions": filled(b'{"all":true,"expectedVersions":{', each(b'"x#":1'), b"}}"),
    "bases": filled(b'{"all":true,"base":{', each(b'"x#":{"y":1}', 50_000), b"}}"),
    "a large base": filled(b'{"all":true,"base":{"D":{', each(b'"f#":1'), b"}}}"),
    "resolutions": filled(
        b'{"all":true,"resolutions":[',
        itertools.repeat(
            b'{"id":"D","field":"sourcing","use":"value","value":{%b}}' % b",".join(each(b'"q#":1', 60)), 10_000
        ),
        b"]}",
    ),
}
RECORD = b'{"customerId":"c#","company":"%b"}'
RECORDS = {
    "many members": filled(
        b'{"records":[', each(b'{"customerId":"c#",%b}' % b",".join(b'"q%d":1' % n for n in range(900))), b"]}"
    ),
    "members of their own": filled(
        b'{"records":[', each(b'{"customerId":"c#",%b}' % b",".join(b'"q#_%d":1' % n for n in range(500))), b"]}"
    ),
    "large texts": filled(b'{"records":[', each(RECORD % (b"x" * 7000), 1000), b"]}"),
    "texts with NUL": filled(b'{"records":[', each(RECORD % (b"\\u0000" * 1300), 1000), b"]}"),
    "long numbers": filled(b'{"records":[', each(b'{"customerId":"c#","revenue":%b}' % LONG_INTEGER, 1000), b"]}"),
    "deep ones": filled(b'{"records":[', each(b'{"customerId":"c#","a":%b}' % (b"[" * 190 + b"]" * 190), 1000), b"]}"),
    "more than are taken at once": filled(b'{"records":[', each(RECORD % b"x"), b"]}"),
    "empty ones": filled(b'{"records":[', itertools.repeat(b"{}"), b"]}"),
}


@pytest.mark.parametrize("name", DRAFTS)
async def test_saving_drafts(world: World, ann: User, name: str) -> None:
    await world.mirror({"D": line()})
    await held_by(sent, ann, "POST", "drafts", DRAFTS[name], most=LONG)


async def test_many_drafts_are_refused_whole(ann: User) -> None:
    """In turns with others, and still all or nothing."""
    body = filled(MODIFICATIONS, each(b'{"id":"n#","op":"insert","delta":{"model":"x"}}', 9_999), b"")
    body += b',{"id":"bad","op":"insert","delta":{"model":1}}],"atomic":true}'
    problem = refused(await sent(ann, "POST", "drafts", body), 422, "VALIDATION_FAILED")
    assert [error["id"] for error in problem["errors"]] == ["bad"]
    assert (await ann.get("drafts")).json()["pagination"]["totalRecords"] == 0


@pytest.mark.parametrize("name", COMMITS)
async def test_committing(world: World, ann: User, name: str) -> None:
    await world.mirror({"D": line()})
    await ann.draft("D", {"model": "M"})
    await held_by(sent, ann, "POST", "commit", COMMITS[name], most=LONG)


async def test_patching(world: World, ann: User) -> None:
    await world.mirror({"D": line()})
    body = filled(b"{", each(b'"f#":1'), b"}")
    response = await held_by(sent, ann, "PATCH", "rows/D", body, most=LONG)
    refused(response, 422, "VALIDATION_FAILED")


async def test_editing_cells(world: World, ann: User) -> None:
    await world.mirror({f"R{number}": line() for number in range(10_000)})
    session = (await ann.post("sessions", {"mode": "full_table"})).json()["id"]
    edits = each(b'{"id":"R#","field":"model","value":"%b"}' % (b"x" * 700), 10_000)
    body = filled(b'{"edits":[', edits, b"]}")
    response = await held_by(sent, ann, "POST", f"sessions/{session}/edits/batch", body, most=LONG)
    results = written(response)["results"]
    assert [result["editId"] for result in results] == sorted((each["editId"] for each in results), key=int)


@pytest.mark.parametrize("name", RECORDS)
async def test_ingesting(world: World, name: str) -> None:
    people = await people_of(world)
    await used(people)
    response = await held_by(sent, people["ENGINEER"], "POST", "ingest", RECORDS[name], most=LONG)
    assert response.status_code in (200, 202), response.text


# -- 16 KB -------------------------------------------------------------------------------------------------------------


def spread(name: str, values: Iterable[str]) -> str:
    """A query of one parameter with so many values as there is room for."""
    query = f"{name}="
    for value in values:
        if len(query) + len(value) > TARGET - 200:
            break
        query += value + ","
    return query[:-1]


NUMBERS = [str(number) for number in range(10_000)]
QUERIES = {
    "a long number": f"monthlyRate={'1' * 15_000}x",
    "a number with a fraction": f"monthlyRate=1.{'1' * 15_000}",
    "many numbers": spread("monthlyRate[in]", NUMBERS[:1000]),
    "too many numbers": spread("monthlyRate[in]", NUMBERS),
    "many texts": spread("category[in]", NUMBERS[:1000]),
    "many dates": spread("forecastStart[in]", ["2026-01-01"] * 1000),
    "sort keys": spread("sort", itertools.repeat("-category")),
    "fields": spread("fields", itertools.repeat("model")),
    "states": spread("syncState", itertools.repeat("draft")),
    "things to include": spread("include", itertools.repeat("computed")),
    "parameters": "&".join(f"x{number}=1" for number in range(1900)),
    "empty parameters": "&" * 16_000,
    "values of one parameter": "&".join(itertools.repeat("category=a", 190)),
    "combining marks": "search=" + "%CC%A3%CC%81" * 160,
    "percents": "search=" + "%41" * 5000,
    "not UTF-8": "search=" + "%FF" * 5000,
    "a cursor": "after=" + "A" * 15_000,
    "a name": "x" * 15_000 + "=1",
    "an operator": f"category[{'x' * 15_000}]=1",
    "includeDeprecated": "&".join(["includeDeprecated=true"] * 700),
}


@pytest.mark.parametrize(
    "path", ["rows", "kpis", "export", "changes", "drafts", "/api/pfa/acme", "/api/pfa/acme/stats"]
)
async def test_queries(world: World, ann: User, path: str) -> None:
    await world.mirror({"D": line()})
    for query in QUERIES.values():
        response = await held_by(ann.get, f"{path}?{query}", most=SHORT)
        assert response.status_code < 500, response.text


def asked(more: bytes) -> bytes:
    """A question of rows, with further members."""
    return b'{"query":{"dataset":"pfa",%b}}' % more


def many(form: bytes, most: int) -> bytes:
    """The form so often, with a number of its own in each, and commas between."""
    return b",".join(each(form, most))


QUESTIONS = {
    "conditions": asked(b'"filters":{"or":[%b]}' % many(b'{"monthlyRate":#}', 3000)),
    "numbers": asked(b'"filters":{"monthlyRate":{"in":[%b]}}' % many(b"#", 2000)),
    "too many numbers": asked(b'"filters":{"monthlyRate":{"in":[%b]}}' % many(b"#", 9000)),
    "a long number": asked(b'"filters":{"monthlyRate":%b}' % (b"1" * 60_000)),
    "deep groups": asked(b'"filters":{"category":"a",%b%b}' % (b'"not":{' * 2000, b"}" * 2000)),
    "a wide tree": asked(b'"filters":{"and":[%b]}' % many(b'{"or":[{"category":"#"},{"not":{"model":"#"}}]}', 20)),
    "figures": asked(b'"aggregates":[%b]' % many(b'{"name":"n#","function":"sum","field":"forecastCost"}', 100)),
    "fields that are not there": asked(b'"fields":[%b]' % many(b'"f#"', 100)),
    "joins": asked(b'"joins":[%b]' % many(b'{"dataset":"pfa","as":"a#"}', 8)),
    "members": asked(many(b'"m#":1', 5000)),
    "a sentence": b'{"query":"%b"}' % (b"rental " * 71),
    "a sentence of conditions": b'{"query":"lines where %b"}' % b" and ".join([b"category is a"] * 27),
    "a sentence in quotes": b'{"query":"%b"}' % (b"'" * 499),
    "a sentence with marks": b'{"query":"%b"}' % (b"\\u0323\\u0301" * 240),
}


@pytest.mark.parametrize("name", QUESTIONS)
async def test_questions(world: World, ann: User, name: str) -> None:
    """Read and composed, and here proved as well."""
    await world.mirror({"D": line()})
    for way in ("validate", "preview"):
        path = f"/api/v1/orgs/acme/query/{way}"
        response = await held_by(sent, ann, "POST", path, QUESTIONS[name], most=MIDDLE)
        assert response.status_code < 500, response.text


async def test_paths(world: World, ann: User) -> None:
    await world.mirror({"D": line()})
    for path in (
        "rows/" + "x" * 15_000,
        "rows/" + "%2F" * 5000,
        "rows/" + "%" * 15_000,
        "rows/" + "a/" * 7500,
        "/api/" + "/" * 15_000,
        "/api" * 3700,
        "rows/" + "%C3%A9" * 2500 + "/history",
    ):
        response = await held_by(ann.get, path, most=SHORT)
        assert response.status_code in (400, 404, 414), response.text


HEADERS: dict[str, Any] = {
    "If-None-Match": ", ".join(f'"{number}"' for number in range(20_000)),
    "If-Match": '"' * 15_000,
    "Accept-Encoding": ", ".join(["gzip;q=0.5"] * 1500),
    "Accept": ", ".join(["application/json;q=0.5"] * 700),
    "Cookie": "; ".join(f"c{number}=1" for number in range(1600)),
    "Content-Type": "application/json" + "; a=b" * 3000,
    "Content-Encoding": ", ".join(["identity"] * 1600),
    "X-Request-ID": "a" * 15_999 + "!",
    "Idempotency-Key": "a" * 15_999,
    "Authorization": "Bearer " + "a" * 5000 + "." + "b" * 5000 + "." + "c" * 5000,
    "Origin": "https://" + "a" * 15_000,
}


@pytest.mark.parametrize("name", HEADERS)
async def test_headers(world: World, ann: User, name: str) -> None:
    await world.mirror({"D": line()})
    for method, path, body in (("GET", "rows", None), ("PATCH", "rows/D", b"{}"), ("GET", "events?x=1", None)):
        given = {name: HEADERS[name]}
        if name == "Authorization":
            url = f"/api/v1/orgs/acme/datasets/pfa/{path}"
            response = await held_by(world.http.request, method, url, headers=given, content=body, most=SHORT)
        else:
            response = await held_by(ann.request, method, path, headers=given, content=body, most=SHORT)
        assert response.status_code < 500, response.text


async def test_a_token_of_many_organizations(world: World, ann: User) -> None:
    """As long as one may be: what it names is read at the first request, and looked up where that is asked."""
    roles = {"acme": Role.ANALYST} | {f"o{number}": Role.VIEWER for number in range(200)}
    account = Account(id="ann", email="ann@example.com", name="ann", operator=False, roles=roles)
    await world.mirror({"D": line()})
    for path in ("rows", "/api/auth/me"):
        somebody = User(world, "ann", "acme", world.runtime.auth.issue(account))
        response = await held_by(somebody.get, path, most=SHORT)
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity"])
async def test_large_answers(world: World, ann: User, coding: str) -> None:
    """A page of a thousand, packed, and exports of more than one batch."""
    await world.mirror({f"R{number:05}": line(model=f"M {number}") for number in range(3_000)})
    headers = {"Accept-Encoding": coding}
    for path in ("rows?pageSize=1000&include=layers,computed", "export?format=csv", "export?format=xlsx"):
        response = await held_by(ann.get, path, headers=headers, most=SHORT)
        assert response.status_code == 200, response.text


@pytest.fixture(scope="module", autouse=True)
def looked_through_once() -> Iterator[None]:
    """Modules and other tests are much more than one request makes."""
    with held.set_aside():
        yield


async def held_by(ask: Any, *words: Any, most: float, **options: Any) -> Any:
    """The answer, after a look at how long the loop was held for it."""
    response, seconds = await held.held_by(ask, *words, most=most, times=15, **options)
    assert seconds <= most, f"the event loop was held for {seconds:.3f} s: {response.text[:200]}"
    return response


async def sent(user: User, method: str, path: str, body: bytes) -> Any:
    """The body, as JSON."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    return await user.request(method, path, content=body, headers={"Content-Type": kind})
