"""`POST D/rows/search`: the question of `GET D/rows` in a body, with the same answer."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.world import FLEET, User, World, ids, line, open_world, refused, vehicle

LINES = {
    "A": line(category="Cranes", model="X, the first", monthlyRate=Decimal("10.5")),
    "B": line(category="Trucks", model="x", monthlyRate=20, hasPlan=True),
    "C": line(category="Cranes", model="Y"),
    "D": line(category="Trucks", model="Z", monthlyRate=7),
}
# A question in a body, and the same one in a query.
SAME: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"filters": {"category": "Cranes"}}, [("category", "Cranes")]),
    ({"filters": {"category": {"eq": "Cranes"}}}, [("category", "Cranes")]),
    ({"filters": {"category": {"ne": "Cranes"}}}, [("category[ne]", "Cranes")]),
    ({"filters": {"category": ["Cranes", "Trucks"]}}, [("category", "Cranes"), ("category", "Trucks")]),
    ({"filters": {"category": {"in": ["Cranes", "Trucks"]}}}, [("category[in]", "Cranes,Trucks")]),
    ({"filters": {"category": {"nin": ["Cranes"]}}}, [("category[nin]", "Cranes")]),
    ({"filters": {"monthlyRate": {"gte": 7, "lt": 20}}}, [("monthlyRate[gte]", "7"), ("monthlyRate[lt]", "20")]),
    ({"filters": {"monthlyRate": Decimal("10.5")}}, [("monthlyRate", "10.5")]),
    ({"filters": {"monthlyRate": None}}, [("monthlyRate[isnull]", "true")]),
    ({"filters": {"monthlyRate": {"ne": None}}}, [("monthlyRate[isnull]", "false")]),
    ({"filters": {"monthlyRate": {"isnull": False}}}, [("monthlyRate[isnull]", "false")]),
    ({"filters": {"hasPlan": True}}, [("hasPlan", "true")]),
    ({"filters": {"id": ["A", "C"]}, "sort": "-id"}, [("id", "A"), ("id", "C"), ("sort", "-id")]),
    ({"filters": {"model": {"contains": "FIRST"}}}, [("model[contains]", "FIRST")]),
    ({"search": "x", "sort": ["category", "-id"]}, [("search", "x"), ("sort", "category,-id")]),
    ({"syncState": "draft"}, [("syncState", "draft")]),
    ({"syncState": ["draft", "pristine"]}, [("syncState", "draft"), ("syncState", "pristine")]),
    ({"page": 2, "pageSize": 3}, [("page", "2"), ("pageSize", "3")]),
    ({"count": "none", "fields": ["model", "planCost"]}, [("count", "none"), ("fields", "model,planCost")]),
    ({"include": "layers,computed"}, [("include", "layers,computed")]),
    ({"include": ["deleted", "overlap"]}, [("include", "deleted,overlap")]),
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"filters": {"nope": 1}}, "nope"),
    ({"filters": {"model": {}}}, "model"),
    ({"filters": {"model[ne]": "x"}}, "model[ne]"),
    ({"filters": {"page": 1}}, "page"),
    ({"filters": {"sort": "id"}}, "sort"),
    ({"filters": {"model": {"like": "x"}}}, "model[like]"),
    ({"filters": {"model": {"contains": ["x", "y"]}}}, "model[contains]"),
    ({"filters": {"model": {"gt": None}}}, "model[gt]"),
    ({"filters": {"model": {"in": []}}}, "model[in]"),
    ({"filters": {"model": {"eq": {"in": ["x"]}}}}, "model"),
    ({"filters": {"model": [["x"]]}}, "model"),
    ({"filters": {"model": [None]}}, "model"),
    ({"filters": {"model": {"isnull": True, "eq": None}}}, "model[isnull]"),
    ({"filters": {"monthlyRate": "1x"}}, "monthlyRate"),
    ({"filters": {"hasPlan": 1}}, "hasPlan"),
    ({"filters": {"source": "Nothing of the kind"}}, "source"),
    # Longer than any address: it held the event loop, by hundreds of milliseconds in a body of 8 MB.
    *(({"filters": {name: "1" * 16_385}}, name) for name in ("monthlyRate", "model", "id", "hasPlan")),
    ({"filters": {"model": {"in": ["x", "1" * 16_385]}}}, "model[in]"),
    *(({name: "," * 16_385}, name) for name in ("sort", "fields", "include", "syncState", "after", "search")),
    ({"filters": {"model": "\0"}}, "model"),
    ({"sort": "nope"}, "sort"),
    ({"page": 0}, "page"),
    ({"page": 2, "after": "x"}, "page"),
    ({"pageSize": 1001}, "pageSize"),
    ({"count": "all"}, "count"),
    ({"include": "everything"}, "include"),
    ({"syncState": "nope"}, "syncState"),
]


@pytest.fixture
async def ann(world: World) -> User:
    """An analyst with a draft of a line, a new one, and one that she takes away."""
    await world.mirror(LINES)
    user = await world.user("ann")
    await user.draft("A", {"model": "drafted"})
    await user.draft("N", {"category": "Trucks", "model": "new"}, op="insert")
    await user.draft("D", op="delete")
    return user


def shown(body: bytes) -> dict[str, Any]:
    """An answer without what differs by its time or its words."""
    answer: dict[str, Any] = exact_json.decode(body)
    del answer["metadata"]["queryTime"], answer["metadata"]["filters"]
    return answer


@pytest.mark.parametrize(("body", "query"), SAME, ids=lambda value: str(value)[:60])
async def test_a_body_is_answered_as_the_same_query(
    ann: User, body: dict[str, Any], query: list[tuple[str, str]]
) -> None:
    listed, found = await ann.get("rows", query), await ann.post("rows/search", body)
    assert (found.status_code, listed.status_code) == (200, 200), found.text
    assert shown(found.content) == shown(listed.content)
    assert found.headers.get("ETag") == listed.headers.get("ETag")
    assert found.headers["Cache-Control"] == listed.headers["Cache-Control"]


@pytest.mark.parametrize(("body", "parameter"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_is_wrong_with_a_question_is_named(ann: User, body: dict[str, Any], parameter: str) -> None:
    problem = refused(await ann.post("rows/search", body), 400, "INVALID_FILTER")
    assert [error["parameter"] for error in problem["errors"]] == [parameter]


@pytest.mark.parametrize("body", [{"filter": {}}, {"filters": []}, {"page": "1"}, {"sort": 1}, [], {"ifNot": 7}])
async def test_a_question_of_another_shape_is_refused(ann: User, body: Any) -> None:
    refused(await ann.post("rows/search", body), 400, "MALFORMED_REQUEST")


async def test_a_comma_belongs_to_the_value_of_a_list(ann: User) -> None:
    """In a body nothing has to be divided."""
    await ann.draft("B", {"model": "a, b"})
    found = await ann.post("rows/search", {"filters": {"model": {"in": ["a, b", "Y"]}}, "sort": "id"})
    assert ids(exact_json.decode(found.content)["data"]) == ["B", "C"]


async def test_pages_are_walked_by_cursor(ann: User) -> None:
    question: dict[str, Any] = {
        "filters": {"category": ["Cranes", "Trucks"]},
        "sort": "-model",
        "pageSize": 1,
        "count": "none",
    }
    found: list[str] = []
    after: dict[str, Any] = {}
    while True:
        answer = exact_json.decode((await ann.post("rows/search", {**question, **after})).content)
        found += ids(answer["data"])
        if answer["pagination"]["nextCursor"] is None:
            break
        after = {"after": answer["pagination"]["nextCursor"]}
    assert found == ids(await ann.rows(**{"sort": "-model", "category[in]": "Cranes,Trucks"}))


async def test_a_question_that_knows_its_answer_is_answered_304(ann: User) -> None:
    question: dict[str, Any] = {"filters": {"category": "Cranes"}}
    etag = (await ann.post("rows/search", question)).headers["ETag"]
    for known in (etag, f'"x", {etag}', "*"):
        again = await ann.post("rows/search", question | {"ifNot": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    # What the header says is for other methods (RFC 9110, 13.1.2).
    assert (await ann.post("rows/search", question, headers={"If-None-Match": etag})).status_code == 200
    await ann.draft("C", {"model": "another"})
    moved = await ann.post("rows/search", question | {"ifNot": etag})
    assert (moved.status_code, moved.headers["ETag"] != etag) == (200, True)


async def test_the_filters_are_told_as_they_came(ann: User) -> None:
    filters = {"model": {"ne": "x"}, "monthlyRate": None}
    question = {"filters": filters, "search": "y", "syncState": "pristine"}
    answer = exact_json.decode((await ann.post("rows/search", question | {"page": 1})).content)
    assert answer["metadata"]["filters"] == {**filters, "search": "y", "syncState": "pristine"}


async def test_a_field_may_be_called_as_a_word_of_the_query(world: World) -> None:
    """Filters are apart from the words here."""
    await world.mirror({"A": vehicle(), "B": vehicle()}, contract=FLEET)
    ann = (await world.user("ann")).on("fleet")
    found = await ann.post("rows/search", {"filters": {"id": "B"}, "sort": "id"})
    assert ids(exact_json.decode(found.content)["data"]) == ["B"]


async def test_it_takes_what_no_address_holds(ann: User) -> None:
    keys = [*(f"{'L' * 190}{number:06}" for number in range(1900)), "B", "C"]
    assert len(urlencode({"id": ",".join(keys)})) > 300_000
    found = await ann.post("rows/search", {"filters": {"id": {"in": keys}}, "sort": "id"})
    assert ids(exact_json.decode(found.content)["data"]) == ["B", "C"]
    problem = refused(await ann.get("rows", {"id": ",".join(keys[:100])}), 414, "TARGET_TOO_LONG")
    assert "16,384" in problem["detail"]
    assert "rows/search" in problem["detail"]


async def test_it_changes_nothing_and_a_viewer_may_ask(world: World, ann: User) -> None:
    vera = await world.user("vera", role=Role.VIEWER)
    before = await world.db.fetchval("SELECT sum(revision) FROM workspace")
    assert (await vera.post("rows/search", {}, headers={"Idempotency-Key": "k"})).status_code == 200
    assert await world.db.fetchval("SELECT sum(revision) FROM workspace") == before
    assert await world.db.fetchval("SELECT count(*) FROM idempotency_key") == 0


# -- how much one question may ask -------------------------------------------------------------------------------------


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[User]:
    async with open_world(database_url, max_conditions=3, max_values=5) as world:
        await world.organization("acme")
        await world.mirror(LINES)
        yield await world.user("ann")


@pytest.mark.parametrize("path", ["rows", "kpis", "export"])
async def test_conditions_and_values_are_bounded_over_all_parameters(narrow: User, path: str) -> None:
    """Not by parameter: forty times as much as one may ask is asked in forty of them."""
    for query in (
        [("model[ne]", "x"), ("id[ne]", "x"), ("class[ne]", "x")],
        [("model[in]", "a,b,c,d,e")],
        [("model[in]", "a,b,c"), ("id", "a"), ("id", "b")],
    ):
        assert (await narrow.get(path, query)).status_code == 200
    more = [("model[ne]", "x"), ("id[ne]", "x"), ("monthlyRate", "1"), ("hasPlan", "true")]
    assert "at most 3 filters" in refused(await narrow.get(path, more), 400, "INVALID_FILTER")["detail"]
    more = [("model[in]", "a,b,c"), ("id", "a"), ("id", "b"), ("id", "c")]
    assert "at most 5 values" in refused(await narrow.get(path, more), 400, "INVALID_FILTER")["detail"]


async def test_the_first_clients_door_has_the_same_bounds(narrow: User) -> None:
    query = [("category", "Cranes,Trucks,Cranes"), ("class", "a,b,c")]
    problem = refused(await narrow.get("/api/pfa/acme", query), 400, "INVALID_FILTER")
    assert "at most 5 values" in problem["detail"]


async def test_a_question_in_a_body_has_the_same_bounds(narrow: User) -> None:
    filters: dict[str, Any] = {"model": {"ne": "x", "contains": "y"}, "id": ["a", "b"]}
    assert (await narrow.post("rows/search", {"filters": filters})).status_code == 200
    more = {"filters": filters | {"monthlyRate": 1}}
    assert "at most 3 filters" in refused(await narrow.post("rows/search", more), 400, "INVALID_FILTER")["detail"]
    more = {"filters": {"id": list("abcdef")}}
    assert "at most 5 values" in refused(await narrow.post("rows/search", more), 400, "INVALID_FILTER")["detail"]
