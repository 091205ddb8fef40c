"""/api/pfa/{org}: the second door, under the names of its first clients."""

from typing import Any

from app.base import exact_json
from tests.support.world import User, World, ids, less_position, line, refused, written

DOOR = "/api/pfa/acme"
LINE = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}


async def found(user: User, query: str = "") -> list[str]:
    """The ids that a query string finds, in the answer's order; its total says as many."""
    response = await user.get(f"{DOOR}?{query}")
    assert response.status_code == 200, f"{query}: {response.text}"
    body = response.json()
    assert body["success"] is True
    assert body["pagination"]["totalRecords"] == len(body["data"]), query
    return ids(body["data"])


async def many_lines(world: World) -> None:
    """Six lines that differ in every filter."""
    dates = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01", None]
    for n, key in enumerate("ABCDEF"):
        await world.mirror(
            {
                key: line(
                    category=("Cranes", "Pumps", "Trucks, small")[n % 3],
                    source=("Rental", "Purchase")[n % 2],
                    dor=("BEO", "PROJECT")[n // 3],
                    areaSilo=f"Area {n}",
                    manufacturer=("Kato", "Terex")[n % 2],
                    model=f"M{n}",
                    forecastStart=dates[n],
                    forecastEnd=dates[n] and f"2026-{n + 6:02}-15",
                    isActualized=(True, False, None)[n % 3],
                    isDiscontinued=n == 1,
                    isFundsTransferable=n == 2,
                )
                | {"class": ("Heavy", "Light")[n // 4]}
            }
        )


FILTERS = {
    "": "A B C D E F",
    "category=Cranes": "A D",
    "category=Cranes,Pumps": "A B D E",
    "category=Cranes&category=Pumps": "A B D E",
    "category=Cranes,%20Pumps,": "A B D E",
    "category=": "A B C D E F",
    "category=cranes": "",
    "class=Light": "E F",
    "class=Light,Heavy&category=Pumps": "B E",
    "dor=BEO": "A B C",
    "dor=BEO,PROJECT": "A B C D E F",
    "source=Purchase": "B D F",
    "areaSilo=Area%201,Area%202": "B C",
    "manufacturer=Kato": "A C E",
    "model=M0,M5": "A F",
    "dateRangeStart=2026-03-01": "C D E",
    "dateRangeEnd=2026-08-15": "A B C",
    "dateRangeStart=2026-02-01&dateRangeEnd=2026-08-15": "B C",
    "isActualized=true": "A D",
    "isActualized=false": "B E",
    "isDiscontinued=true": "B",
    "isDiscontinued=false": "A C D E F",
    "isFundsTransferable=true": "C",
    "isFundsTransferable=false": "A B D E F",
    "searchText=kATO": "A C E",
    "searchText=": "A B C D E F",
    "syncState=pristine": "A B C D E F",
    "syncState=draft": "",
    "category=Cranes&source=Rental&isActualized=true&searchText=m0": "A",
    "sortOrder=desc": "F E D C B A",
    "sortBy=model&sortOrder=desc": "F E D C B A",
    "sortBy=source": "B D F A C E",
    "sortBy=areaSilo&sortOrder=asc": "A B C D E F",
    "sortBy=monthlyRate": "A B C D E F",
}


async def test_every_filter_of_the_first_clients_is_applied(world: World, ann: User) -> None:
    """Absent booleans do not filter, lists are comma-separated or repeated, the sort is forecastStart unless asked."""
    await many_lines(world)
    for query, expected in FILTERS.items():
        assert await found(ann, query) == expected.split(), query


async def test_filters_apply_to_merged_values(world: World, ann: User, bob: User) -> None:
    await many_lines(world)
    await ann.draft("B", {"category": "Cranes", "forecastStart": "2026-12-01", "forecastEnd": "2026-12-31"})
    await ann.draft("C", {"isActualized": True})
    await ann.draft("A", op="delete")
    assert await found(ann, "category=Cranes") == ["D", "B"]
    assert await found(ann, "isActualized=true") == ["C", "D"]
    assert await found(ann) == ["C", "D", "E", "B", "F"]
    assert await found(ann, "syncState=draft") == ["C", "B"]
    assert await found(ann, "syncState=draft,pristine&dateRangeEnd=2026-08-15") == ["C"]
    assert await found(bob, "category=Cranes") == ["A", "D"]
    await ann.commit("B")
    assert await found(ann, "syncState=committed") == ["B"]


async def test_a_page_has_the_shape_of_the_first_clients(world: World, ann: User) -> None:
    await many_lines(world)
    await ann.draft("B", {"model": "X"})
    response = await ann.get(f"{DOOR}?category=Cranes,Pumps&page=2&pageSize=2&isDiscontinued=true&category=Cranes")
    assert response.json()["data"] == []
    response = await ann.get(f"{DOOR}?category=Cranes,Pumps&page=1&pageSize=3&sortBy=model&sortOrder=desc")
    body = exact_json.decode(response.content)
    assert set(body) == {"success", "data", "pagination", "metadata"}
    assert body["pagination"] == {"page": 1, "pageSize": 3, "totalRecords": 4, "totalPages": 2}
    assert set(less_position(body["metadata"])) == {"queryTime", "filters"}
    assert body["metadata"]["filters"] == {"category": "Cranes,Pumps"}
    assert ids(body["data"]) == ["B", "E", "D"]
    first, second = body["data"][:2]
    assert {name: first[name] for name in first if name != "data"} == {
        "id": "B", "pfaId": "B", "syncState": "draft", "modifiedAt": "2026-03-01T12:00:00.000Z", "modifiedBy": "ann",
        "modifiedByName": "ann",
    }  # fmt: skip
    assert (first["data"]["pfaId"], first["data"]["model"]) == ("B", "X")
    assert (second["syncState"], second["modifiedAt"], second["modifiedBy"]) == ("pristine", None, None)
    # The other door shows the same rows.
    rows = await ann.rows(category=["Cranes", "Pumps"], sort="-model", pageSize=3)
    assert [row["data"] for row in rows] == [row["data"] for row in body["data"]]
    assert (await ann.get(f"{DOOR}?page=2&pageSize=4")).json()["pagination"]["page"] == 2
    defaults = (await ann.get(DOOR)).json()["pagination"]
    assert (defaults["page"], defaults["pageSize"]) == (1, 100)


async def test_numbers_keep_their_digits_through_this_door(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    body = '{"modifications": [{"pfaId": "A", "delta": {"monthlyRate": 12345678901234567890.10}}]}'
    response = await ann.request("POST", f"{DOOR}/draft", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    text = (await ann.get(DOOR)).text
    assert "12345678901234567890.10" in text


async def test_this_door_has_an_etag_too(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    tag = (await ann.get(DOOR)).headers["ETag"]
    unchanged = await ann.get(DOOR, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)
    await ann.draft("A", {"model": "M"})
    assert (await ann.get(DOOR, headers={"If-None-Match": tag})).status_code == 200


async def test_what_cannot_be_understood_is_refused_by_the_name_that_the_client_knows(world: World, ann: User) -> None:
    refusals = {
        "nothing=1": "nothing",
        "search=x": "search",
        "forecastStart=2026-01-01": "forecastStart",
        "after=x": "after",
        "category[ne]=x": "category[ne]",
        "source=Lease": "source",
        "dor=BEO,NONE": "dor",
        "source=Rental&source=Lease": "source",
        "source=Rental,,Lease": "source",
        "syncState=lost": "syncState",
        "dateRangeStart=soon": "dateRangeStart",
        "dateRangeEnd=2026-02-30": "dateRangeEnd",
        "dateRangeStart=2026-01-01&dateRangeStart=2026-01-02": "dateRangeStart",
        "isActualized=maybe": "isActualized",
        "isDiscontinued=": "isDiscontinued",
        "searchText=a&searchText=b": "searchText",
        "page=0": "page",
        "pageSize=1001": "pageSize",
        "sortBy=nothing": "sortBy",
        "sortOrder=up": "sortOrder",
    }
    for query, parameter in refusals.items():
        problem = refused(await ann.get(f"{DOOR}?{query}"), 400, "INVALID_FILTER")
        assert [error["parameter"] for error in problem["errors"]] == [parameter], query


# --- drafts, commits, discards


async def draft(user: User, *modifications: dict[str, Any], **more: Any) -> dict[str, Any]:
    return written(await user.post(f"{DOOR}/draft", {"modifications": list(modifications), **more}))


async def test_drafts_are_saved_with_the_first_clients_names(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    answer = await draft(ann, {"pfaId": "A", "delta": {"model": "M"}, "changeReason": "why"}, sessionId="s1")
    [row] = (await ann.get("drafts")).json()["data"]
    assert answer == {
        "success": True,
        "sessionId": "s1",
        "saved": [{"pfaId": "A", "modificationId": row["modificationId"], "version": 1}],
        "errors": [],
    }
    assert (row["sessionId"], row["changeReason"], row["delta"]) == ("s1", "why", {"model": "M"})
    # The second delta merges into the first.
    assert (await draft(ann, {"pfaId": "A", "delta": {"class": "Light"}}))["sessionId"] is None
    assert (await ann.row("A"))["delta"] == {"model": "M", "class": "Light"}


async def test_what_cannot_be_saved_is_told_per_line(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    answer = await draft(
        ann,
        {"pfaId": "A", "delta": {"model": "M"}},
        {"pfaId": "B", "delta": {"originalStart": "2026-01-01"}},
        {"pfaId": "X", "delta": {"model": "M"}},
        {"pfaId": "B", "delta": {"model": "M"}, "expectedVersion": 7},
    )
    assert answer["success"] is False
    assert [saved["pfaId"] for saved in answer["saved"]] == ["A"]
    assert [(error["pfaId"], error["code"]) for error in answer["errors"]] == [
        ("B", "READ_ONLY_FIELD"), ("X", "ROW_NOT_FOUND"),
    ]  # fmt: skip
    assert all(error["error"] for error in answer["errors"])
    body = {"modifications": [{"pfaId": "A", "delta": {"class": "L"}, "expectedVersion": 7}]}
    problem = refused(await ann.post(f"{DOOR}/draft", body), 422, "VALIDATION_FAILED")
    assert [error["code"] for error in problem["errors"]] == ["VERSION_CONFLICT"]
    malformed: list[Any] = [
        {"modifications": []},
        {"modifications": [{"pfaId": "A"}]},
        {"modifications": [{"id": "A", "delta": {}}]},
        {"modifications": [{"pfaId": "A", "delta": {}, "op": "delete"}]},
    ]
    for wrong in malformed:
        refused(await ann.post(f"{DOOR}/draft", wrong), 400, "MALFORMED_REQUEST")


async def test_drafts_are_committed_by_session_or_line(world: World, ann: User, bob: User) -> None:
    await world.mirror({key: line(model="M0") for key in "ABC"})
    await draft(ann, {"pfaId": "A", "delta": {"model": "M1"}}, {"pfaId": "B", "delta": {"model": "M1"}}, sessionId="s1")
    await draft(ann, {"pfaId": "C", "delta": {"model": "M1"}})
    stale = {"pfaIds": ["C"], "expectedVersions": {"C": 1}}
    refused(await ann.post(f"{DOOR}/commit", stale), 409, "VERSION_CONFLICT")
    answer = written(await ann.post(f"{DOOR}/commit", {"sessionId": "s1"}))
    assert set(answer) == {"success", "commitId", "committed", "revision"}
    assert (answer["success"], answer["committed"], answer["revision"]) == (True, 2, 0)
    assert await found(ann, "syncState=committed") == ["A", "B"]

    await bob.draft("C", {"model": "bob's"})
    await bob.commit("C")
    problem = refused(await ann.post(f"{DOOR}/commit", {"pfaIds": ["C"]}), 409, "MERGE_CONFLICT")
    assert problem["conflicts"] == [{"id": "C", "field": "model", "base": "M0", "theirs": "bob's", "mine": "M1"}]
    assert await found(ann, "syncState=conflict") == ["C"]

    unclear: list[dict[str, Any]] = [{}, {"sessionId": "s1", "pfaIds": ["A"]}, {"expectedVersions": {}}]
    for body in unclear:
        refused(await ann.post(f"{DOOR}/commit", body), 400, "NOTHING_SELECTED")
    refused(await ann.post(f"{DOOR}/commit", {"sessionId": "s1"}), 404, "NO_DRAFTS")
    refused(await ann.post(f"{DOOR}/commit", {"all": True}), 400, "MALFORMED_REQUEST")


async def test_drafts_are_discarded_by_session_line_or_all(world: World, ann: User) -> None:
    await world.mirror({key: line() for key in "ABCD"})
    await draft(ann, {"pfaId": "A", "delta": {"model": "M"}}, sessionId="s1")
    await draft(ann, *({"pfaId": key, "delta": {"model": "M"}} for key in "BCD"))
    assert written(await ann.post(f"{DOOR}/discard", {"sessionId": "s1"})) == {"success": True, "discarded": 1}
    assert written(await ann.post(f"{DOOR}/discard", {"pfaIds": ["B", "X"]})) == {"success": True, "discarded": 1}
    assert written(await ann.post(f"{DOOR}/discard", {"discardAll": True})) == {"success": True, "discarded": 2}
    assert await found(ann, "syncState=pristine") == ["A", "B", "C", "D"]
    for body in (
        {},
        {"discardAll": False},
        {"discardAll": True, "sessionId": "s1"},
        {"pfaIds": ["A"], "sessionId": "s1"},
    ):
        refused(await ann.post(f"{DOOR}/discard", body), 400, "NOTHING_SELECTED")


async def test_this_door_opens_for_members_only(world: World, ann: User) -> None:
    await world.organization("other")
    await world.mirror({"A": line()}, "other")
    stranger = await world.user("eve", "other")
    bodies: dict[str, Any] = {
        "draft": {"modifications": [{"pfaId": "A", "delta": {"model": "M"}}]},
        "commit": {"pfaIds": ["A"]},
        "discard": {"discardAll": True},
    }
    refused(await stranger.get(DOOR), 403, "FORBIDDEN")
    refused(await stranger.get("/api/pfa/nowhere"), 403, "FORBIDDEN")
    for path, body in bodies.items():
        refused(await stranger.post(f"{DOOR}/{path}", body), 403, "FORBIDDEN")
    assert (await world.http.get(DOOR)).status_code == 401
    assert ids((await stranger.get("/api/pfa/other")).json()["data"]) == ["A"]
    assert await found(ann) == []
