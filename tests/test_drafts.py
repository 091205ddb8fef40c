"""Drafting: what a batch saves and refuses, patches of one row, the list of what one has drafted."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.base import exact_json
from app.drafts import MAX_DRAFTS
from tests.support.world import FLEET, User, World, ids, less_position, line, refused, vehicle, written

NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}


async def save(user: User, *modifications: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The answer to a batch of which something was saved."""
    return written(await user.post("drafts", {"modifications": list(modifications), **more}))


async def refuse(user: User, *modifications: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The errors of a batch of which nothing was saved."""
    problem = refused(
        await user.post("drafts", {"modifications": list(modifications), **more}), 422, "VALIDATION_FAILED"
    )
    assert problem["saved"] == []
    errors: list[dict[str, Any]] = problem["errors"]
    return errors


async def drafts(user: User) -> dict[str, dict[str, Any]]:
    """The caller's modifications by id."""
    response = await user.get("drafts")
    assert response.status_code == 200, response.text
    return {row["id"]: row for row in exact_json.decode(response.content)["data"]}


# --- deltas


async def test_a_delta_merges_into_what_was_drafted_before(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1", manufacturer="Kato")})
    first = await save(ann, {"id": "A", "delta": {"model": "M2"}})
    second = await save(ann, {"id": "A", "delta": {"manufacturer": "Terex", "model": "M3"}})
    assert first["saved"][0]["modificationId"] == second["saved"][0]["modificationId"]
    assert second == {
        "saved": [
            {
                "id": "A",
                "modificationId": first["saved"][0]["modificationId"],
                "version": 2,
                "mirrorVersion": 1,
                "syncState": "draft",
            }
        ],
        "errors": [],
    }
    row = await ann.row("A")
    assert row["delta"] == {"model": "M3", "manufacturer": "Terex"}
    assert row["base"] == {"model": "M1", "manufacturer": "Kato"}


async def test_unset_takes_fields_out_of_the_delta(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1", equipment="E1")})
    await ann.draft("A", {"model": "M2", "equipment": "E2"})
    saved = await ann.draft("A", unset=["model", "class"])
    assert saved["syncState"] == "draft"
    row = await ann.row("A")
    assert (row["delta"], row["base"]) == ({"equipment": "E2"}, {"equipment": "E1"})
    assert row["data"]["model"] == "M1"
    # In one draft, unset has the last word.
    await ann.draft("A", {"model": "M3", "equipment": "E3"}, unset=["model"])
    assert (await ann.row("A"))["delta"] == {"equipment": "E3"}


async def test_a_delta_that_is_empty_in_the_end_removes_the_draft(world: World, ann: User) -> None:
    await world.mirror({"A": line(category="Cranes"), "B": line()})
    await ann.draft("A", {"category": "Pumps"})
    saved = await ann.draft("A", unset=["category"])
    assert saved["syncState"] == "pristine"
    assert await drafts(ann) == {}
    row = (await ann.rows(category="Cranes", sort="id"))[0]
    assert (row["id"], row["syncState"], row["version"]) == ("A", "pristine", 0)
    # So does one that says nothing about a row that has no draft.
    assert (await ann.draft("B"))["syncState"] == "pristine"
    assert await drafts(ann) == {}


async def test_an_explicit_null_is_a_value(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M", manufacturer="Kato")})
    await ann.draft("A", {"model": None})
    row = (await ann.rows())[0]
    assert row["data"]["model"] is None
    assert row["modifiedFields"] == ["model"]
    assert ids(await ann.rows(**{"model[isnull]": "true"})) == ["A"]
    assert (await ann.row("A"))["base"] == {"model": "M"}


@pytest.mark.parametrize(
    "digits", ["1.50", "0.1", "12345678901234567890.12", "0", "100000000000000000000", "0.00000000000000000001"]
)
async def test_numbers_keep_their_digits(world: World, ann: User, digits: str) -> None:
    await world.mirror({"A": line()})
    body = f'{{"modifications": [{{"id": "A", "delta": {{"monthlyRate": {digits}}}}}]}}'
    response = await ann.request("POST", "drafts", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    for path in ("rows", "rows/A", "drafts", "rows?fields=monthlyRate", f"rows?monthlyRate={digits}"):
        text = (await ann.get(path)).text.replace(" ", "")
        assert f'"monthlyRate":{digits}' in text, path


async def test_another_users_drafts_are_no_concern_of_mine(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="M")})
    await ann.draft("A", {"model": "ann's"})
    await bob.draft("A", {"model": "bob's"})
    assert [(await user.row("A"))["data"]["model"] for user in (ann, bob)] == ["ann's", "bob's"]
    await bob.discard("A")
    assert (await ann.row("A"))["data"]["model"] == "ann's"
    assert list(await drafts(bob)) == []


# --- inserts and deletions


async def test_a_new_row_joins_the_list_under_its_temporary_id(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(category="Cranes")})
    saved = await ann.draft("tmp-1", NEW, op="insert")
    assert (saved["version"], saved["syncState"]) == (1, "draft")
    page = await ann.page(category="Cranes", sort="id")
    assert ids(page["data"]) == ["A", "tmp-1"]
    assert page["pagination"]["totalRecords"] == 2
    new = page["data"][1]
    assert (new["syncState"], new["mirrorVersion"], new["modifiedBy"]) == ("draft", 0, "ann")
    # Neither plan nor actuals: those come from upstream.
    assert new["data"] == {**NEW, "hasPlan": False, "hasActuals": False}
    assert (await ann.row("tmp-1"))["op"] == "insert"
    assert ids(await bob.rows()) == ["A"]

    # It is drafted on by update, and by insert again.
    await ann.draft("tmp-1", {"model": "M"})
    await ann.draft("tmp-1", {"monthlyRate": 60}, op="insert")
    row = await ann.row("tmp-1")
    assert (row["op"], row["data"]["model"], row["data"]["monthlyRate"]) == ("insert", "M", 60)
    # Deleting it takes the draft back, for there is nothing else.
    assert (await ann.draft("tmp-1", op="delete"))["syncState"] == "pristine"
    refused(await ann.get("rows/tmp-1"), 404, "ROW_NOT_FOUND")


async def test_a_new_row_may_name_its_own_key_and_no_other(world: World, ann: User) -> None:
    await ann.draft("PFA-9", {"pfaId": "PFA-9", **NEW}, op="insert")
    assert ids(await ann.rows(search="pfa-9")) == ["PFA-9"]
    errors = await refuse(ann, {"id": "PFA-8", "op": "insert", "delta": {"pfaId": "PFA-7", **NEW}})
    assert [(error["code"], error["field"]) for error in errors] == [("READ_ONLY_FIELD", "pfaId")]
    errors = await refuse(ann, {"id": "PFA-8", "op": "insert", "delta": {"originalStart": "2026-01-01"}})
    assert [(error["code"], error["field"]) for error in errors] == [("READ_ONLY_FIELD", "originalStart")]


async def test_a_row_that_exists_is_not_inserted_and_one_that_does_not_is_not_updated(
    world: World, ann: User, bob: User
) -> None:
    await world.mirror({"A": line()})
    await bob.draft("bobs", NEW, op="insert")
    errors = await refuse(
        ann,
        {"id": "A", "op": "insert", "delta": NEW},
        {"id": "bobs", "delta": {"model": "M"}},
        {"id": "none", "op": "delete"},
    )
    assert {error["id"]: error["code"] for error in errors} == {
        "A": "ROW_EXISTS", "bobs": "ROW_NOT_FOUND", "none": "ROW_NOT_FOUND",
    }  # fmt: skip
    assert await drafts(ann) == {}


async def test_a_deletion_hides_the_row_until_it_is_withdrawn(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="M1"), "B": line()})
    await ann.draft("A", {"model": "M2"})
    await ann.draft("A", op="delete", changeReason="sold")
    page = await ann.page()
    assert ids(page["data"]) == ["B"]
    assert page["pagination"]["totalRecords"] == 1
    assert ids(await bob.rows(sort="id")) == ["A", "B"]
    shown = (await drafts(ann))["A"]
    assert (shown["op"], shown["syncState"], shown["delta"], shown["changeReason"]) == ("delete", "draft", {}, "sold")

    assert (await ann.draft("A"))["syncState"] == "pristine"
    assert ids(await ann.rows(sort="id")) == ["A", "B"]
    assert (await ann.row("A"))["data"]["model"] == "M1"

    # An edit withdraws it, too.
    await ann.draft("A", op="delete")
    await ann.draft("A", {"model": "M3"})
    row = await ann.row("A")
    assert (row["op"], row["delta"], row["base"]) == ("update", {"model": "M3"}, {"model": "M1"})
    errors = await refuse(ann, {"id": "A", "op": "delete", "delta": {"model": "x"}})
    assert errors[0]["code"] == "INVALID_TYPE"


async def test_a_row_on_its_way_out_takes_no_more_drafts(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    await ann.draft("A", op="delete")
    await ann.commit("A")
    for op in ("update", "insert", "delete"):
        errors = await refuse(ann, {"id": "A", "op": op, "delta": {} if op == "delete" else {"model": "M"}})
        assert errors[0]["code"] == "ROW_DELETED", op
    # For others it is gone already, as far as a draft is concerned.
    assert (await refuse(bob, {"id": "A", "delta": {"model": "M"}}))[0]["code"] == "ROW_NOT_FOUND"


# --- versions


async def test_versions_never_repeat_for_a_user_and_row(world: World, ann: User) -> None:
    """Given a draft that goes and comes, by discard, unset and commit, then each state has a version of its own."""
    await world.mirror({"A": line(model="M0")})
    seen = []
    for n in range(3):
        seen.append((await ann.draft("A", {"model": f"M{n + 1}"}))["version"])
        seen.append((await ann.draft("A", {"class": "Light"}))["version"])
        await ann.discard("A", fields=["class"])
        seen.append((await ann.row("A"))["version"])
        await ann.discard("A")
        seen.append((await ann.draft("A", {"model": "M9"}))["version"])
        await ann.draft("A", unset=["model"])
        assert ((await ann.row("A"))["version"] == 0) == (n == 0)
        seen.append((await ann.draft("A", {"model": f"N{n}"}))["version"])
        await ann.commit("A")
        seen.append((await ann.row("A"))["version"])
    assert seen == sorted(set(seen))


async def test_an_expected_version_guards_each_draft(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    version = (await ann.draft("A", {"model": "M1"}, expectedVersion=0))["version"]
    await ann.draft("A", {"model": "M2"}, expectedVersion=version)
    answer = await save(
        ann,
        {"id": "A", "delta": {"model": "M3"}, "expectedVersion": version},
        {"id": "B", "delta": {"model": "M3"}, "expectedVersion": 0},
    )
    assert [saved["id"] for saved in answer["saved"]] == ["B"]
    current = (await ann.row("A"))["version"]
    assert answer["errors"] == [
        {
            "code": "VERSION_CONFLICT",
            "message": f"The row changed meanwhile: your draft is at version {current} now, the mirror's row at "
            "mirrorVersion 1.",
            "id": "A",
        }
    ]
    assert (await ann.row("A"))["delta"] == {"model": "M2"}
    # A discarded draft is at no version that anybody has seen.
    await ann.discard("A")
    assert (await refuse(ann, {"id": "A", "delta": {}, "expectedVersion": current}))[0]["code"] == "VERSION_CONFLICT"


# --- batches


async def test_what_cannot_be_saved_stands_beside_what_was(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line(), "C": line()})
    batch: list[dict[str, Any]] = [
        {"id": "A", "delta": {"model": "M"}},
        {"id": "B", "delta": {"model": "M", "monthlyRate": -1}},
        {"id": "X", "delta": {"model": "M"}},
        {"id": "C", "op": "delete"},
    ]
    answer = await save(ann, *batch)
    assert [saved["id"] for saved in answer["saved"]] == ["A", "C"]
    assert [(error["id"], error["code"], error.get("field")) for error in answer["errors"]] == [
        ("B", "INVALID_RANGE", "monthlyRate"),
        ("X", "ROW_NOT_FOUND", None),
    ]
    assert set(await drafts(ann)) == {"A", "C"}


async def test_an_atomic_batch_is_saved_whole_or_not_at_all(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    good = {"id": "A", "delta": {"model": "M"}}
    bads: list[dict[str, Any]] = [{"id": "B", "delta": {"nothing": 1}}, {"id": "X", "delta": {"model": "M"}}]
    for bad in bads:
        assert {error["id"] for error in await refuse(ann, good, bad, atomic=True)} == {bad["id"]}
    assert await drafts(ann) == {}
    assert (await ann.page())["data"][0]["version"] == 0
    await save(ann, good, {"id": "B", "delta": {"model": "M"}}, atomic=True)
    assert set(await drafts(ann)) == {"A", "B"}


async def test_a_batch_of_which_nothing_can_be_saved_is_422(world: World, ann: User) -> None:
    """One of the first implementations' faults: every row failed, and the answer was still a plain 200."""
    errors = await refuse(ann, {"id": "X", "delta": {"model": "M"}}, {"id": "Y", "delta": {"model": 1}})
    assert {error["id"]: error["code"] for error in errors} == {"X": "ROW_NOT_FOUND", "Y": "INVALID_TYPE"}


async def test_the_same_id_twice_in_a_batch_is_drafted_in_order(world: World, ann: User) -> None:
    await world.mirror({key: line(model="M0", equipment="E0") for key in "ABCDE"})
    answer = await save(
        ann,
        {"id": "A", "delta": {"model": "M1", "equipment": "E1"}, "changeReason": "first"},
        {"id": "B", "delta": {"model": "M1"}},
        {"id": "A", "delta": {"model": "M2"}, "unset": ["equipment"]},
        {"id": "B", "op": "delete"},
        {"id": "C", "op": "delete"},
        {"id": "C", "delta": {"model": "M1"}},
        {"id": "D", "unset": ["model"]},
        {"id": "D", "delta": {"model": "M1"}},
        {"id": "new", "op": "insert", "delta": NEW},
        {"id": "new", "delta": {"model": "M1"}},
        {"id": "E", "delta": {"model": "M1"}},
        {"id": "E", "delta": {"nothing": "M1"}},
    )
    assert [saved["id"] for saved in answer["saved"]] == ["A", "B", "C", "D", "new"]
    assert [(error["id"], error["code"]) for error in answer["errors"]] == [("E", "UNKNOWN_FIELD")]
    found = await drafts(ann)
    assert {key: (row["op"], row["delta"].get("model")) for key, row in found.items()} == {
        "A": ("update", "M2"),
        "B": ("delete", None),
        "C": ("update", "M1"),
        "D": ("update", "M1"),
        "new": ("insert", "M1"),
    }
    assert found["A"]["delta"] == {"model": "M2"}
    assert found["A"]["changeReason"] == "first"


async def test_a_session_id_groups_drafts(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line(), "C": line()})
    await save(ann, {"id": "A", "delta": {"model": "M"}}, {"id": "B", "delta": {"model": "M"}}, sessionId="s1")
    await save(ann, {"id": "C", "delta": {"model": "M"}}, sessionId="s2")
    await save(ann, {"id": "A", "delta": {"class": "Light"}})
    assert {key: row["sessionId"] for key, row in (await drafts(ann)).items()} == {"A": "s1", "B": "s1", "C": "s2"}
    answer = await ann.post("discard", {"sessionId": "s1"})
    assert written(answer) == {"discarded": 2}
    assert list(await drafts(ann)) == ["C"]


MALFORMED: list[Any] = [
    {},
    {"modifications": []},
    {"modifications": "A"},
    {"modifications": [{}]},
    {"modifications": [{"id": 1}]},
    {"modifications": [{"id": "A", "delta": []}]},
    {"modifications": [{"id": "A", "delta": None}]},
    {"modifications": [{"id": "A", "op": "upsert"}]},
    {"modifications": [{"id": "A", "unset": "model"}]},
    {"modifications": [{"id": "A", "expectedVersion": "1"}]},
    {"modifications": [{"id": "A", "dleta": {}}]},
    {"modifications": [{"id": "A"}], "sessionId": ""},
    {"modifications": [{"id": "A"}], "atomic": 1},
    {"modifications": [{"id": "A"}], "extra": 1},
    {"modifications": [{"id": f"{n}"} for n in range(MAX_DRAFTS + 1)]},
    [],
]


async def test_a_body_of_another_shape_is_400(world: World, ann: User) -> None:
    for body in MALFORMED:
        refused(await ann.post("drafts", body), 400, "MALFORMED_REQUEST")
    for text in (b"", b"{", b"\xff", b'{"modifications": [{"id": "A\\ud800"}]}', b"[" * 5000):
        response = await ann.request("POST", "drafts", content=text, headers={"Content-Type": "application/json"})
        refused(response, 400, "MALFORMED_REQUEST")


async def test_a_large_batch_is_one_save(world: World, ann: User) -> None:
    await world.mirror({f"L{n:04}": line() for n in range(1000)})
    answer = await save(ann, *({"id": f"L{n:04}", "delta": {"category": f"C{n % 7}"}} for n in range(1000)))
    assert [saved["id"] for saved in answer["saved"]] == [f"L{n:04}" for n in range(1000)]
    assert {saved["version"] for saved in answer["saved"]} == {1}
    assert (await ann.page(category="C3", pageSize=1))["pagination"]["totalRecords"] == 143


# --- the list of drafts


async def test_the_list_of_drafts_has_everything_that_is_not_settled(world: World, ann: User, bob: User) -> None:
    """Drafts, deletions, what is pending, and pending with a draft over it; nothing of anybody else."""
    await world.mirror({key: line(model="M0") for key in "ABCDE"})
    await ann.draft("A", {"model": "M1"}, changeReason="why")
    await ann.draft("B", op="delete")
    await ann.draft("C", {"model": "M1"})
    await ann.draft("D", {"model": "M1"})
    assert (await ann.commit("C", "D")).json()["committed"] == 2
    await ann.draft("D", {"class": "Light"})
    await bob.draft("E", {"model": "M1"})
    await ann.draft("new", NEW, op="insert")

    response = await ann.get("drafts")
    body = exact_json.decode(response.content)
    assert body["pagination"] == {"pageSize": 100, "totalRecords": 5, "nextCursor": None}
    assert less_position(body["metadata"]) == {"revision": 0}
    shown = {row["id"]: (row["op"], row["syncState"], row["delta"], row["pending"]) for row in body["data"]}
    added = {**NEW, "hasPlan": False, "hasActuals": False}
    assert shown == {
        "A": ("update", "draft", {"model": "M1"}, {}),
        "B": ("delete", "draft", {}, {}),
        "C": ("update", "committed", {}, {"model": "M1"}),
        "D": ("update", "draft", {"class": "Light"}, {"model": "M1"}),
        "new": ("insert", "draft", added, {}),
    }
    first = body["data"][0]
    assert first["data"] == {**line(model="M1"), "pfaId": "A"}
    assert (first["modifiedBy"], first["modifiedAt"], first["changeReason"]) == (
        "ann",
        "2026-03-01T12:00:00.000Z",
        "why",
    )
    assert (first["mirrorVersion"], first["modifiedFields"], first["conflicts"]) == (1, ["model"], [])
    assert (await bob.get("drafts")).json()["pagination"]["totalRecords"] == 1


async def test_the_list_of_drafts_pages_and_refuses_other_parameters(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line(), "C": line()})
    for key in "ABC":
        await ann.draft(key, {"model": "M"})
    page = (await ann.get("drafts?pageSize=2")).json()
    assert (ids(page["data"]), page["pagination"]["totalRecords"]) == (["A", "B"], 3)
    rest = (await ann.get("drafts", params={"pageSize": 2, "after": page["pagination"]["nextCursor"]})).json()
    assert (ids(rest["data"]), rest["pagination"]["nextCursor"]) == (["C"], None)
    for query in ("page=1", "category=x", "pageSize=0", "pageSize=1001", "pageSize=x", "pageSize=1&pageSize=2"):
        refused(await ann.get(f"drafts?{query}"), 400, "INVALID_FILTER")


# --- PATCH


async def patch(user: User, key: str, body: Any, **headers: str) -> httpx.Response:
    content = {"Content-Type": "application/merge-patch+json"}
    return await user.request("PATCH", f"rows/{key}", content=exact_json.encode(body), headers=content | headers)


async def test_a_patch_drafts_the_fields_that_it_changes(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1", monthlyRate=Decimal("10.00"))})
    whole = (await ann.row("A"))["data"]
    response = await patch(ann, "A", {**whole, "model": "M2", "category": None, "manufacturer": None})
    row = written(response)
    assert row["delta"] == {"model": "M2", "category": None}
    assert row["data"]["category"] is None
    assert response.headers["ETag"] == (await ann.get("rows/A")).headers["ETag"]
    assert row == await ann.row("A")

    # What stands in the draft already is no change either, and neither is the same number in other digits.
    again = await patch(ann, "A", {"model": "M2", "category": None, "monthlyRate": 10})
    assert written(again) == row
    back = await patch(ann, "A", {"model": "M1"})
    assert exact_json.decode(back.content)["delta"] == {"model": "M1", "category": None}


async def test_a_patch_that_changes_nothing_makes_no_version(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1")})
    tag = (await ann.get("rows")).headers["ETag"]
    for body in ({}, {"model": "M1"}, {"equipment": None}, {"pfaId": "A", "hasPlan": True}):
        response = await patch(ann, "A", body)
        assert (response.status_code, response.json()["version"]) == (200, 0)
        assert response.headers["ETag"] == (await ann.get("rows/A")).headers["ETag"]
    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 304


async def test_a_patch_with_if_match_holds_for_the_row_that_was_read(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    read = (await ann.get("rows/A")).headers["ETag"]
    first = await patch(ann, "A", {"model": "M1"}, **{"If-Match": read})
    tag = first.headers["ETag"]
    assert first.status_code == 200
    assert tag not in (read, '"1"')
    problem = refused(await patch(ann, "A", {"model": "M2"}, **{"If-Match": read}), 412, "PRECONDITION_FAILED")
    assert problem["version"] == 1
    for header in (f"W/{tag}", tag.strip('"'), '"x"', '""', '"1"', tag[:-2] + '"', "", ","):
        refused(await patch(ann, "A", {"model": "M2"}, **{"If-Match": header}), 412, "PRECONDITION_FAILED")
    # Stale is stale, even where nothing would change.
    refused(await patch(ann, "A", {"model": "M1"}, **{"If-Match": read}), 412, "PRECONDITION_FAILED")
    assert (await ann.row("A"))["data"]["model"] == "M1"
    assert (await patch(ann, "A", {"model": "M2"}, **{"If-Match": f'"7", {tag}'})).json()["version"] == 2
    assert (await patch(ann, "A", {"model": "M3"}, **{"If-Match": "*"})).json()["version"] == 3


async def test_a_patch_is_checked_like_a_draft(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    bodies: list[tuple[dict[str, Any], str]] = [
        ({"nothing": 1}, "UNKNOWN_FIELD"),
        ({"nothing": None}, "UNKNOWN_FIELD"),
        ({"originalStart": "2020-01-01"}, "READ_ONLY_FIELD"),
        ({"pfaId": None}, "READ_ONLY_FIELD"),
        ({"isActualized": 0}, "INVALID_TYPE"),
        ({"monthlyRate": True}, "INVALID_TYPE"),
        ({"monthlyRate": "10"}, "INVALID_TYPE"),
        ({"model": {"name": "M"}}, "INVALID_TYPE"),
        ({"source": "Lease"}, "INVALID_ENUM_VALUE"),
        ({"monthlyRate": -1}, "INVALID_RANGE"),
    ]
    for body, code in bodies:
        problem = refused(await patch(ann, "A", body), 422, "VALIDATION_FAILED")
        assert [(error["field"], error["code"]) for error in problem["errors"]] == [(*body, code)], body
    refused(await patch(ann, "X", {"model": "M"}), 404, "ROW_NOT_FOUND")
    for text in (["model"], "M", None, 7):
        refused(await patch(ann, "A", text), 400, "MALFORMED_REQUEST")
    assert await drafts(ann) == {}


async def test_a_patch_reaches_a_new_row_and_another_dataset(world: World, ann: User) -> None:
    await ann.draft("tmp", NEW, op="insert")
    assert (await patch(ann, "tmp", {"model": "M"})).json()["op"] == "insert"
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(seats=1)}, contract=FLEET)
    refused(await patch(ann, "A", {"seats": True}), 422, "VALIDATION_FAILED")
    assert (await patch(ann, "A", {"seats": 2})).json()["delta"] == {"seats": 2}


# --- what a request may hold


async def test_an_expected_version_counts_wherever_it_stands_in_a_request(world: World, ann: User) -> None:
    """Given drafts of one row in one request, when one expects another version, then none of them is saved."""
    await world.mirror({"A": line()})
    for stale in (
        [{"id": "A", "delta": {"model": "M"}, "expectedVersion": 77}, {"id": "A", "delta": {"class": "C"}}],
        [{"id": "A", "delta": {"model": "M"}}, {"id": "A", "delta": {"class": "C"}, "expectedVersion": 77}],
        [
            {"id": "A", "delta": {"model": "M"}, "expectedVersion": 0},
            {"id": "A", "delta": {"class": "C"}, "expectedVersion": 77},
        ],
    ):
        problem = refused(await ann.post("drafts", {"modifications": stale}), 422, "VALIDATION_FAILED")
        assert [error["code"] for error in problem["errors"]] == ["VERSION_CONFLICT"]
    assert (await ann.row("A"))["syncState"] == "pristine"


async def test_a_row_has_a_bounded_number_of_drafts_in_a_request(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    many = [{"id": "A", "delta": {"model": f"M{i}"}} for i in range(21)]
    answer = (await ann.post("drafts", {"modifications": [*many, {"id": "B", "delta": {"model": "M"}}]})).json()
    assert [saved["id"] for saved in answer["saved"]] == ["B"]
    assert [(error["id"], error["code"]) for error in answer["errors"]] == [("A", "TOO_MANY_DRAFTS")]


async def test_a_draft_of_countless_fields_is_refused_in_a_line(world: World, ann: User) -> None:
    """Given a draft of more fields than there are, when it is saved, then the refusal does not name them all."""
    await world.mirror({"A": line()})
    for wide in ({"delta": {f"f{i}": 1 for i in range(5000)}}, {"unset": [f"f{i}" for i in range(5000)]}):
        response = await ann.post("drafts", {"modifications": [{"id": "A", **wide}]})
        assert len(refused(response, 422, "VALIDATION_FAILED")["errors"]) == 1


async def test_a_row_that_others_are_deleting_is_not_inserted_over(world: World, ann: User, bob: User) -> None:
    """Given bob's deletion on its way upstream, when ann inserts the row, the old one does not show through hers."""
    await world.mirror({"A": line(isActualized=False)})
    await bob.draft("A", op="delete")
    assert (await bob.commit()).status_code == 200
    new = {"id": "A", "op": "insert", "delta": {"category": "Pumps", "source": "Rental", "dor": "BEO"}}
    problem = refused(await ann.post("drafts", {"modifications": [new]}), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["code"] == "ROW_DELETED"


# --- cells that equal what lies beneath, and cells that are bad


async def test_drop_equal_takes_out_what_equals_what_lies_beneath(world: World, ann: User) -> None:
    """Compared as the contract's type: 1 equals 1.0, absent equals null. Pending counts as beneath."""
    await world.mirror({"A": line(model="M1", monthlyRate=10)})
    await ann.draft("A", {"model": "M2"})
    assert (await ann.commit("A")).status_code == 200
    wanted = {"model": "M2", "monthlyRate": Decimal("10.0"), "manufacturer": None, "equipment": "E"}
    await save(ann, {"id": "A", "delta": wanted}, dropEqual=True)
    row = await ann.row("A")
    assert (row["delta"], row["base"]) == ({"equipment": "E"}, {"equipment": None})
    await save(ann, {"id": "A", "delta": {"equipment": None}}, dropEqual=True)
    assert (await drafts(ann))["A"]["delta"] == {}
    assert (await ann.row("A"))["syncState"] == "committed"


async def test_drop_equal_takes_out_what_was_drafted_before(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1", equipment="E1")})
    await ann.draft("A", {"model": "M2", "equipment": "E2"})
    await save(ann, {"id": "A", "delta": {"model": "M1"}}, dropEqual=True)
    assert (await ann.row("A"))["delta"] == {"equipment": "E2"}
    (saved,) = (await save(ann, {"id": "A", "delta": {"equipment": "E1"}}, dropEqual=True))["saved"]
    assert (saved["version"], saved["syncState"]) == (0, "pristine")
    assert await drafts(ann) == {}


async def test_drop_equal_leaves_new_rows_and_deletions_alone(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1")})
    await save(
        ann, {"id": "N", "op": "insert", "delta": NEW | {"model": None}}, {"id": "A", "op": "delete"}, dropEqual=True
    )
    found = await drafts(ann)
    assert found["N"]["delta"] == NEW | {"model": None, "hasPlan": False, "hasActuals": False}
    assert found["A"]["op"] == "delete"


async def test_partial_cells_saves_the_good_cells_of_a_row(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1"), "B": line(model="M1")})
    answer = await save(
        ann,
        {"id": "A", "delta": {"model": "M2", "monthlyRate": "much", "pfaId": "X", "colour": "red"}},
        {"id": "B", "delta": {"monthlyRate": -1}},
        {"id": "C", "delta": {"model": "M2"}},
        partial="cells",
    )
    assert ids(answer["saved"]) == ["A"]
    assert [(error["id"], error.get("field"), error["code"]) for error in answer["errors"]] == [
        ("A", "monthlyRate", "INVALID_TYPE"),
        ("A", "pfaId", "READ_ONLY_FIELD"),
        ("A", "colour", "UNKNOWN_FIELD"),
        ("B", "monthlyRate", "INVALID_RANGE"),
        ("C", None, "ROW_NOT_FOUND"),
    ]
    assert (await ann.row("A"))["delta"] == {"model": "M2"}


async def test_partial_cells_with_nothing_good_is_refused(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M1")})
    errors = await refuse(ann, {"id": "A", "delta": {"monthlyRate": "much"}}, partial="cells")
    assert [error["code"] for error in errors] == ["INVALID_TYPE"]
    await refuse(ann, {"id": "A", "delta": {"model": "M2", "monthlyRate": "much"}}, partial="cells", atomic=True)
    assert await drafts(ann) == {}
