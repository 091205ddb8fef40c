"""The live merge as a list and as one row."""

from decimal import Decimal
from typing import Any

import pytest

from app.base import exact_json
from app.contracts import PFA
from app.contracts.filters import read_listing
from app.contracts.images import json_object
from app.contracts.model import SQL_TYPES, Column
from app.contracts.shape import FieldType
from app.engine.page import PageComposer
from tests.support.world import FLEET, User, World, ids, line, refused, vehicle


async def test_a_list_shows_the_mirror_with_the_callers_drafts_in_their_place(
    world: World, ann: User, bob: User
) -> None:
    """Given two lines, when ann moves one to another category, then her filters, totals and sorts see it there."""
    await world.mirror({"A": line(category="Cranes"), "B": line(category="Pumps")})
    await ann.draft("A", {"category": "Pumps"})

    page = await ann.page(category="Pumps", sort="id")
    assert ids(page["data"]) == ["A", "B"]
    assert page["pagination"]["totalRecords"] == 2
    assert (await ann.page(category="Cranes"))["pagination"]["totalRecords"] == 0

    theirs = await bob.page(category="Pumps")
    assert ids(theirs["data"]) == ["B"]
    assert theirs["pagination"]["totalRecords"] == 1


async def test_a_row_says_what_was_modified(world: World, ann: User) -> None:
    await world.mirror({"A": line(monthlyRate=Decimal("1000.10"))})
    pristine = (await ann.rows())[0]
    assert pristine["data"]["monthlyRate"] == Decimal("1000.10")
    assert {key: pristine[key] for key in pristine if key != "data"} == {
        "id": "A", "syncState": "pristine", "version": 0, "mirrorVersion": 1,
        "modifiedFields": [], "modifiedAt": None, "modifiedBy": None,
        "modifiedByName": None, "conflicts": [],
    }  # fmt: skip

    await ann.draft("A", {"monthlyRate": Decimal("12.3400")})
    row = (await ann.rows())[0]
    assert (row["syncState"], row["version"], row["modifiedFields"], row["modifiedBy"]) == (
        "draft",
        1,
        ["monthlyRate"],
        "ann",
    )
    assert str(row["data"]["monthlyRate"]) == "12.3400"


# --- sorts, totals, pages


async def test_sorts_put_nulls_last_ascending_and_first_descending_and_ties_by_id(world: World, ann: User) -> None:
    """Given values with ties, null and absent ones, then each sort has its one order, whoever wrote the values."""
    rates = {"A": 20, "B": None, "C": 10, "D": 20, "E": "absent", "F": 5}
    bare = {name: value for name, value in line().items() if name != "monthlyRate"}
    await world.mirror(
        {key: bare | ({} if rate == "absent" else {"monthlyRate": rate}) for key, rate in rates.items() if key != "F"}
        | {"F": line(monthlyRate=999)}
    )
    await ann.draft("F", {"monthlyRate": 5})
    for key, category in {"A": "Pumps", "B": "Pumps", "C": "Cranes", "D": "Cranes", "E": "Cranes"}.items():
        await ann.draft(key, {"category": category, "equipment": category})
    await ann.draft("F", {"category": None})

    orders = {
        "monthlyRate": "F C A D B E",
        "-monthlyRate": "B E A D C F",
        "monthlyRate,-id": "F C D A E B",
        "-monthlyRate,-id": "E B D A C F",
        "category": "C D E A B F",
        "-category": "F A B C D E",
        "category,-monthlyRate": "E D C B A F",
        "-category,monthlyRate": "F A B C D E",
        "-category,-monthlyRate": "F B A E D C",
        "equipment,monthlyRate": "C D E A B F",
        "-equipment,-monthlyRate": "F B A E D C",
        "isActualized,-forecastCost,id": "A D C F B E",
        "id": "A B C D E F",
        "-id": "F E D C B A",
        "": "A B C D E F",
    }
    for sort, order in orders.items():
        assert ids(await ann.rows(sort=sort)) == order.split(), sort
    assert ids(await ann.rows(sort=["-category", "monthlyRate"])) == orders["-category,monthlyRate"].split()
    assert ids(await ann.rows(sortBy="monthlyRate")) == orders["monthlyRate"].split()
    assert ids(await ann.rows(sortBy="monthlyRate", sortOrder="desc")) == orders["-monthlyRate"].split()


async def test_pages_cut_the_merged_order_and_count_it(world: World, ann: User, bob: User) -> None:
    """Given six lines, when ann deletes one, moves one to the end and adds one, then her pages and totals say so."""
    await world.mirror({f"L{n}": line(monthlyRate=n) for n in range(1, 7)})
    await ann.draft("L2", op="delete")
    await ann.draft("L3", {"monthlyRate": 99})
    await ann.draft("new", line_of_a_new_row(), op="insert")

    pages = [await ann.page(sort="monthlyRate", page=page, pageSize=3) for page in (1, 2, 3)]
    assert [ids(page["data"]) for page in pages] == [["L1", "L4", "L5"], ["L6", "new", "L3"], []]
    assert [page["pagination"]["page"] for page in pages] == [1, 2, 3]
    assert [page["pagination"]["nextCursor"] is None for page in pages] == [False, True, True]
    for page in pages:
        totals = {key: page["pagination"][key] for key in ("pageSize", "totalRecords", "totalPages")}
        assert totals == {"pageSize": 3, "totalRecords": 6, "totalPages": 2}
    theirs = await bob.page(sort="-monthlyRate", pageSize=4)
    assert ids(theirs["data"]) == ["L6", "L5", "L4", "L3"]
    assert theirs["pagination"]["totalRecords"] == 6
    assert (await ann.page(monthlyRate="3"))["pagination"]["totalPages"] == 0


def line_of_a_new_row() -> dict[str, object]:
    """What a user may write into a new line."""
    return {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}


async def test_totals_are_exact_estimated_or_left_out(world: World, ann: User) -> None:
    await world.mirror({f"L{n}": line(category="Cranes" if n % 2 else "Pumps") for n in range(10)})
    await world.db.execute("ANALYZE pfa.mirror")
    await ann.draft("L1", {"category": "Pumps"})
    exact = await ann.page(category="Cranes", count="exact", pageSize=2)
    assert exact["pagination"]["totalRecords"] == 4

    none = await ann.page(category="Cranes", count="none", pageSize=2)
    assert none["data"] == exact["data"]
    assert (none["pagination"]["totalRecords"], none["pagination"]["totalPages"]) == (None, None)
    assert none["pagination"]["nextCursor"] is not None

    estimated = await ann.page(category="Cranes", count="estimated", pageSize=2)
    assert estimated["data"] == exact["data"]
    assert estimated["pagination"]["totalRecords"] in range(2, 10)
    # The planner's statistics move without any revision.
    answer = await ann.get("rows", {"count": "estimated"}, headers={"If-None-Match": "*"})
    assert (answer.status_code, "ETag" in answer.headers) == (200, False)
    # The caller's own part is exact: with nothing but drafts asked for, so is all of it.
    drafts = await ann.page(syncState="draft", count="estimated", sort="equipment")
    assert drafts["pagination"]["totalRecords"] == 1


async def test_a_count_is_used_again_at_its_revision_and_at_no_other(world: World, ann: User, bob: User) -> None:
    """A line that comes without a revision shows that the count was kept; the next revision counts anew."""

    async def total(user: User) -> int:
        answer: int = (await user.page(category="Cranes"))["pagination"]["totalRecords"]
        return answer

    await world.mirror({"A": line(), "B": line(category="Pumps")})
    assert await total(ann) == 1
    await world.mirror({"C": line()})
    assert (await total(ann), await total(bob)) == (1, 1)
    await ann.draft("B", {"category": "Cranes"})
    assert (await total(ann), await total(bob)) == (2, 1)

    await world.db.execute("UPDATE dataset SET revision = revision + 1 WHERE name = 'pfa'")
    assert (await total(ann), await total(bob)) == (3, 2)


async def test_fields_projects_the_data(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M", monthlyRate=Decimal("1.50")), "B": line(category="Pumps")})
    await ann.draft("B", {"model": "N"})
    rows = await ann.rows(fields=["monthlyRate,model", "category"], sort="id")
    assert [row["data"] for row in rows] == [
        {"monthlyRate": Decimal("1.50"), "model": "M", "category": "Cranes"},
        {"monthlyRate": 1000, "model": "N", "category": "Pumps"},
    ]
    assert str(rows[0]["data"]["monthlyRate"]) == "1.50"
    assert rows[1]["modifiedFields"] == ["model"]
    # What a filter or a sort looks at need not be shown; a field that the line lacks is null.
    rows = await ann.rows(fields="purchasePrice", category="Pumps", sort="monthlyRate")
    assert [row["data"] for row in rows] == [{"purchasePrice": None}]


# --- computed columns


async def test_computed_columns_are_shown_of_merged_values(world: World, ann: User, bob: User) -> None:
    """Given a rental and a purchase, when ann drafts dates, a rate, a price or a model, then costs follow."""
    await world.mirror({key: line() for key in "ABC"} | {"D": line(source="Purchase", purchasePrice=99)})
    await ann.draft("A", {"forecastEnd": "2026-08-31"})
    await ann.draft("B", {"monthlyRate": Decimal("12.3400"), "model": "M"})
    await ann.draft("C", {"model": "M"})
    await ann.draft("D", {"purchasePrice": Decimal("1000.005")})
    await ann.draft("new", line_of_a_new_row(), op="insert")
    for sort in ("id", "-id", "forecastStart", "-planCost", "equipment"):
        rows = await ann.rows(include="computed", sort=sort)
        shown = {row["id"]: {name: str(value) for name, value in row["computed"].items()} for row in rows}
        assert shown == {
            "A": costs("5913.27", "6931.67", "0", "1000", "None", "False"),
            "B": costs("72.97", "72.97", "0", "12.34", "None", "False"),
            "C": costs("5913.27", "5913.27", "0", "1000", "None", "False"),
            "D": costs("1000.01", "1000.01", "0", "None", "1000.01", "False"),
            "new": costs("0", "0", "0", "50", "None", "True"),
        }, sort
    assert all("computed" not in row for row in await ann.rows())
    theirs = await bob.rows(include="computed", sort="id")
    assert [str(row["computed"]["planCost"]) for row in theirs] == ["5913.27"] * 3 + ["99"]


def costs(*values: str) -> dict[str, str]:
    """The computed columns of a line, as they are written."""
    names = "planCost forecastCost actualCost monthlyRental purchaseCost incomplete".split()
    return dict(zip(names, values, strict=True))


async def test_computed_columns_that_fields_names_are_shown(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M")})
    shown: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
        ({"fields": "planCost"}, {}, {"planCost"}),
        ({"fields": "incomplete,model,planCost"}, {"model": "M"}, {"planCost", "incomplete"}),
        ({"fields": "model", "include": "computed"}, {"model": "M"}, set(costs(*"abcdef"))),
        ({"fields": ["planCost", "model"], "include": "overlap"}, {"model": "M"}, {"planCost"}),
    ]
    for params, data, computed in shown:
        [row] = await ann.rows(**params)
        assert (row["data"], set(row["computed"])) == (data, computed), params
        assert ("overlap" in row) == ("overlap" in str(params))
    assert "computed" not in (await ann.rows(fields="model"))[0]


async def test_a_contract_without_computed_columns_has_none_to_show(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(), "B": vehicle()}, contract=FLEET)
    await ann.draft("B", {"remark": "x"})
    assert [row["computed"] for row in await ann.rows(include="computed")] == [{}, {}]
    assert (await ann.row("A", include="computed"))["computed"] == {}


async def test_one_row_shows_what_is_computed_of_what_it_shows(world: World, ann: User, bob: User) -> None:
    """Also of a row that is drafted for deletion, that is new, or that was deleted under the draft."""
    await world.mirror({key: line() for key in "AB"})
    await ann.draft("A", {"monthlyRate": 2000})
    assert str((await ann.row("A", include="computed"))["computed"]["planCost"]) == "11826.54"
    assert str((await bob.row("A", include="computed"))["computed"]["planCost"]) == "5913.27"
    await ann.draft("B", op="delete")
    assert str((await ann.row("B", include="computed"))["computed"]["planCost"]) == "5913.27"
    await ann.draft("new", line_of_a_new_row(), op="insert")
    assert (await ann.row("new", include="computed"))["computed"]["monthlyRental"] == 50
    both = await ann.row("A", include=["overlap", "computed"])
    assert (both["overlap"], both["computed"]["incomplete"]) == ([], False)
    assert "computed" not in await ann.row("A")

    plain = (await ann.get("rows/A")).headers["ETag"]
    shown = (await ann.get("rows/A?include=computed")).headers["ETag"]
    assert plain != shown
    assert (await ann.get("rows/A?include=computed", headers={"If-None-Match": shown})).status_code == 304
    patched = await ann.request("PATCH", "rows/A", json={"model": "M"}, headers={"If-Match": shown})
    assert patched.status_code == 200


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("number", "12.3400::numeric", "12.34"),
        ("number", "0.00::numeric", "0"),
        ("number", "1e29::numeric", "1" + "0" * 29),
        ("number", "-0.10000000000000000001::numeric", "-0.10000000000000000001"),
        ("integer", "9007199254740991::bigint", "9007199254740991"),
        ("boolean", "TRUE", "true"),
        ("date", "date '0001-02-03'", '"0001-02-03"'),
        ("text", "E'\\u00df\\n\"'::text", '"\u00df\\n\\""'),
        ("enum", "'Van'::text", '"Van"'),
        *((kind, f"NULL::{SQL_TYPES[kind]}", "null") for kind in SQL_TYPES),
    ],
)
async def test_a_computed_value_of_each_type_is_written_as_json(
    world: World, kind: FieldType, value: str, written: str
) -> None:
    sql = json_object([(Column("one", kind, ""), value), (Column("other", kind, ""), value)])
    assert await world.db.fetchval(f"SELECT {sql}") == (f'{{"one":{written},"other":{written}}}')


# --- layers


async def test_layers_say_what_each_row_is_made_of(world: World, ann: User, bob: User) -> None:
    """Given pristine, drafted, committed and new rows, then a list shows of each what GET D/drafts does."""
    await world.mirror({key: line(model="M1") for key in "ABCD"})
    await ann.draft("A", {"model": "M2", "forecastStart": "2026-03-01"})
    await ann.draft("B", {"model": "M2"})
    await ann.commit("B")
    await ann.draft("B", {"model": "M3"})
    await ann.draft("C", {"model": "M2"})
    await ann.commit("C")
    await ann.draft("new", line_of_a_new_row(), op="insert")
    names = ("op", "base", "delta", "pending")
    drafts = {row["id"]: row for row in (await ann.get("drafts")).json()["data"]}
    nothing: dict[str, Any] = {"op": None, "base": {}, "delta": {}, "pending": {}}
    for sort in ("id", "-id", "forecastStart", "model", "category,-planCost"):
        rows = {row["id"]: row for row in await ann.rows(include="layers", sort=sort)}
        assert {key: {name: row[name] for name in names} for key, row in rows.items()} == {
            "D": nothing, **{key: {name: row[name] for name in names} for key, row in drafts.items()}
        }, sort  # fmt: skip
    assert rows["A"]["base"] == {"model": "M1", "forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"}
    assert (rows["B"]["op"], rows["B"]["delta"], rows["B"]["pending"]) == ("update", {"model": "M3"}, {"model": "M2"})
    assert (rows["C"]["op"], rows["C"]["delta"], rows["C"]["pending"]) == ("update", {}, {"model": "M2"})
    assert rows["new"]["op"] == "insert"
    assert all({name: row[name] for name in names} == nothing for row in await bob.rows(include="layers"))
    assert not [row for row in await ann.rows() if set(names) & row.keys()]


async def test_layers_keep_their_digits_and_are_not_projected(world: World, ann: User) -> None:
    await world.mirror({"A": line(monthlyRate=Decimal("1000.10"), model=None)})
    await ann.draft("A", {"monthlyRate": Decimal("12.3400"), "model": 'M"\u00df'})
    [row] = await ann.rows(include=["layers", "computed"], fields="model")
    assert row["data"] == {"model": 'M"\u00df'}
    assert str(row["delta"]["monthlyRate"]) == "12.3400"
    assert str(row["base"]["monthlyRate"]) == "1000.10"
    assert str(row["computed"]["monthlyRental"]) == "12.34"


# --- deleted rows


async def test_deleted_rows_are_listed_in_their_places_on_request(world: World, ann: User, bob: User) -> None:
    """Given rows that ann deletes, when she includes them, then pages, totals and cursors have them as they were."""
    await world.mirror({key: line(monthlyRate=rate) for key, rate in {"A": 1, "B": 2, "C": 3, "D": 4}.items()})
    await ann.draft("B", op="delete")
    await ann.draft("C", op="delete")
    await ann.draft("A", {"monthlyRate": 5})

    assert ids(await ann.rows(sort="monthlyRate")) == ["D", "A"]
    page = await ann.page(sort="monthlyRate", include="deleted")
    assert [(row["id"], row["op"]) for row in page["data"]] == [
        ("B", "delete"), ("C", "delete"), ("D", None), ("A", "update"),
    ]  # fmt: skip
    assert page["pagination"]["totalRecords"] == 4
    deleted = page["data"][0]
    assert (deleted["syncState"], deleted["modifiedFields"], deleted["data"]["monthlyRate"]) == ("draft", [], 2)
    assert "delta" not in deleted

    found, after = [], None
    while True:
        page = await ann.page(sort="-monthlyRate", include="deleted", pageSize=1, **({"after": after} if after else {}))
        found += ids(page["data"])
        assert page["pagination"]["totalRecords"] == 4
        after = page["pagination"]["nextCursor"]
        if after is None:
            break
    assert found == ["A", "D", "C", "B"]
    assert ids(await bob.rows(include="deleted", sort="id")) == ["A", "B", "C", "D"]


async def test_a_deletion_on_its_way_is_listed_until_the_row_is_gone(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    await ann.draft("A", op="delete")
    await ann.commit("A")
    [row, other] = await ann.rows(include="deleted", sort="id")
    assert (row["id"], row["op"], row["syncState"], other["op"]) == ("A", "delete", "committed", None)
    assert [r["id"] for r in await ann.rows(include="deleted", syncState="committed")] == ["A"]
    assert await ann.rows(include="deleted", syncState="draft") == []

    fleet = ann.on("fleet")
    await world.mirror({"A": vehicle()}, contract=FLEET)
    await fleet.draft("A", op="delete")
    assert ids(await fleet.rows(include="deleted")) == ["A"]
    await fleet.commit("A")
    assert await fleet.rows(include="deleted") == []


async def test_a_deleted_row_is_what_lies_beneath_what_is_pending_included(world: World, ann: User) -> None:
    """As GET D/drafts shows it: so it is sorted, filtered, searched, computed and counted."""
    await world.mirror({"A": line(category="Cranes", equipment="old"), "B": line(category="Pumps")})
    await ann.draft("A", {"category": "Lifts", "equipment": "new", "monthlyRate": 2000})
    await ann.draft("N", line_of_a_new_row(), op="insert")
    await ann.commit()
    for key in ("A", "N"):
        await ann.draft(key, op="delete")
    drafts = {row["id"]: row["data"] for row in (await ann.get("drafts")).json()["data"]}
    asked: list[tuple[dict[str, str], list[str]]] = [
        ({"category": "Lifts"}, ["A"]),
        ({"category": "Cranes"}, ["N"]),
        ({"equipment": "new"}, ["A"]),
        ({"equipment": "old"}, []),
        ({"search": "NEW"}, ["A"]),
        ({"search": "old"}, []),
        ({"planCost": "11826.54"}, ["A"]),
        ({"sort": "category"}, ["N", "A", "B"]),
        ({"sort": "-monthlyRental"}, ["A", "B", "N"]),
    ]
    for params, expected in asked:
        page = await ann.page(include=["deleted", "computed"], **params)
        assert (ids(page["data"]), page["pagination"]["totalRecords"]) == (expected, len(expected)), params
        for row in page["data"]:
            assert row["id"] == "B" or row["data"] == drafts[row["id"]]
    costs_of = {row["id"]: str(row["computed"]["planCost"]) for row in page["data"]}
    assert costs_of == {"A": "11826.54", "B": "5913.27", "N": "0"}


async def test_totals_with_and_without_deleted_rows_are_remembered_apart(world: World, ann: User) -> None:
    await world.mirror({key: line() for key in "ABC"})
    await ann.draft("A", op="delete")

    async def total(**params: Any) -> int:
        return int((await ann.page(**params))["pagination"]["totalRecords"])

    for _ in range(2):
        assert [await total(), await total(include="deleted"), await total(include="deleted,layers")] == [2, 3, 3]
        assert await total(include="deleted", count="estimated", syncState="draft") == 1
    await ann.draft("B", op="delete")
    assert [await total(include="deleted"), await total()] == [3, 1]
    await ann.discard("A")
    assert [await total(), await total(include="deleted")] == [2, 3]


async def test_whoever_extends_a_page_gets_the_keys_of_its_rows(world: World, ann: User) -> None:
    await world.mirror({key: line(monthlyRate=rate) for key, rate in {"A": 3, "B": 2, "C": 1}.items()})
    await ann.draft("A", {"monthlyRate": 0})
    listing = read_listing(PFA, [("sort", "monthlyRate"), ("pageSize", "2")])
    async with world.runtime.desk(PFA, "acme") as desk:
        for keyed in (True, False):
            page = PageComposer(PFA, listing, "acme", "ann", keyed).page(None, counted=False, base_count=False)
            record = await desk.connection.row(page)
            assert record is not None
            assert ids(exact_json.decode(record["body"])) == ["A", "C"]
            assert record["keys"] == (["A", "C"] if keyed else None)


# --- ETag


async def test_an_etag_holds_until_ones_own_drafts_change(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    first = await ann.get("rows")
    tag = first.headers["ETag"]
    unchanged = await ann.get("rows", headers={"If-None-Match": f'"x", {tag}'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)
    assert (await ann.get("rows", headers={"If-None-Match": "*"})).status_code == 304
    assert (await ann.get("rows", headers={"If-None-Match": '"x"'})).status_code == 200

    await bob.draft("A", {"model": "B"})
    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 304
    await ann.draft("A", {"model": "M"})
    second = await ann.get("rows", headers={"If-None-Match": tag})
    assert second.status_code == 200
    assert second.json()["data"][0]["data"]["model"] == "M"
    await ann.discard("A")
    third = await ann.get("rows", headers={"If-None-Match": second.headers["ETag"]})
    assert third.status_code == 200
    assert third.headers["ETag"] not in (tag, second.headers["ETag"])


async def test_an_etag_is_one_users_and_one_datasets(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    tag = (await ann.get("rows")).headers["ETag"]
    assert (await bob.get("rows", headers={"If-None-Match": tag})).status_code == 200
    assert (await ann.on("fleet").get("rows", headers={"If-None-Match": tag})).status_code == 200


async def test_an_etag_ends_with_a_commit_of_somebody_else_that_reaches_the_mirror(
    world: World, ann: User, bob: User
) -> None:
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"A": vehicle()}, contract=FLEET)
    tag = (await ann.get("rows")).headers["ETag"]
    await bob.draft("A", {"remark": "washed"})
    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 304
    assert (await bob.commit()).status_code == 200
    fresh = await ann.get("rows", headers={"If-None-Match": tag})
    assert fresh.status_code == 200
    assert fresh.json()["data"][0]["data"]["remark"] == "washed"
    assert fresh.json()["metadata"]["revision"] == 1


# --- one row


async def test_a_row_alone_shows_its_layers(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="M1", forecastStart="2026-02-01", forecastEnd="2026-07-31")})
    pristine = await ann.row("A")
    assert {key: pristine[key] for key in ("op", "base", "delta", "pending", "history", "version")} == {
        "op": None, "base": {}, "delta": {}, "pending": {}, "history": [], "version": 0,
    }  # fmt: skip

    await ann.draft("A", {"model": "M2", "forecastStart": "2026-03-01"})
    drafted = await ann.row("A")
    assert drafted["op"] == "update"
    assert drafted["delta"] == {"model": "M2", "forecastStart": "2026-03-01"}
    # An atomic group is touched as a whole.
    assert drafted["base"] == {"model": "M1", "forecastStart": "2026-02-01", "forecastEnd": "2026-07-31"}
    assert drafted["data"]["model"] == "M2"
    assert drafted["modifiedFields"] == ["forecastStart", "model"]
    assert drafted["modifiedAt"] == "2026-03-01T12:00:00.000Z"
    answer = await ann.get("rows/A")
    assert answer.headers["ETag"].startswith('"')
    assert (await ann.get("rows/A", headers={"If-None-Match": answer.headers["ETag"]})).status_code == 304
    assert (await bob.row("A"))["data"]["model"] == "M1"

    await ann.draft("A", op="delete")
    deleted = await ann.row("A")
    assert (deleted["op"], deleted["delta"], deleted["syncState"]) == ("delete", {}, "draft")
    assert deleted["data"]["model"] == "M1"
    assert ids(await ann.rows()) == []


async def test_a_row_tells_its_history_the_newest_first(world: World, ann: User, bob: User) -> None:
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"A": vehicle(mileage=10)}, contract=FLEET)
    await ann.draft("A", {"mileage": 11})
    first = (await ann.commit("A", changeReason="drove home")).json()
    world.clock.move(minutes=5)
    await bob.draft("A", {"mileage": 12, "remark": "r"})
    second = (await bob.commit("A")).json()

    history = (await ann.row("A"))["history"]
    assert history == [
        {
            "revision": 2, "state": "synced", "op": "update", "source": "commit", "commitId": second["commitId"],
            "before": {"mileage": 11, "remark": None}, "after": {"mileage": 12, "remark": "r"},
            "actor": "bob", "actorName": "bob", "changeReason": None, "at": "2026-03-01T12:05:00.000Z", "error": None,
            "kept": None,
        },
        {
            "revision": 1, "state": "synced", "op": "update", "source": "commit", "commitId": first["commitId"],
            "before": {"mileage": 10}, "after": {"mileage": 11},
            "actor": "ann", "actorName": "ann", "changeReason": "drove home",
            "at": "2026-03-01T12:00:00.000Z", "error": None, "kept": None,
        },
    ]  # fmt: skip
    assert (await bob.row("A"))["mirrorVersion"] == 3


async def test_a_rows_history_goes_on_with_what_is_on_its_way_upstream(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(model="M1")})
    await ann.draft("A", {"model": "M2"})
    commit_id = (await ann.commit("A", changeReason="typo")).json()["commitId"]
    for reader in (ann, bob):
        [entry] = (await reader.row("A"))["history"]
        assert entry == {
            "revision": None, "state": "committed", "op": "update", "source": "commit", "commitId": commit_id,
            "before": {"model": "M1"}, "after": {"model": "M2"},
            "actor": "ann", "actorName": "ann", "changeReason": "typo", "at": "2026-03-01T12:00:00.000Z", "error": None,
            "kept": None,
        }  # fmt: skip


async def test_a_row_that_is_not_there_is_404(world: World, ann: User, bob: User) -> None:
    await bob.draft("new", line_of_a_new_row(), op="insert")
    assert (await bob.row("new"))["op"] == "insert"
    for key in ("new", "nothing", "x" * 500, "a%01b"):
        refused(await ann.get(f"rows/{key}"), 404, "ROW_NOT_FOUND")
    refused(await bob.get("rows/new?include=all"), 400, "INVALID_FILTER")


async def test_overlap_says_who_else_has_the_row_on_its_way(world: World, ann: User, bob: User) -> None:
    """Drafts are private; what is committed and not yet in the mirror is shown to whoever asks."""
    await world.mirror({"A": line(), "B": line()})
    await bob.draft("A", {"model": "M", "class": "Light"})
    assert [row["overlap"] for row in await ann.rows(include="overlap")] == [[], []]
    await bob.commit("A")
    since = "2026-03-01T12:00:00.000Z"
    bob_s = {"userId": "bob", "userName": "bob", "state": "committed"}
    expected = [bob_s | {"op": "update", "fields": ["class", "model"], "since": since}]
    assert [row["overlap"] for row in await ann.rows(include="overlap", sort="id")] == [expected, []]
    assert (await ann.row("A", include="overlap"))["overlap"] == expected
    assert (await bob.row("A", include="overlap"))["overlap"] == []
    assert "overlap" not in await ann.row("A")
    # Others' commits are in nobody's revision here, so such a page has no ETag to hold on to.
    assert "ETag" not in (await ann.get("rows?include=overlap")).headers


async def test_all_that_can_be_included_goes_together(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    await ann.draft("B", {"model": "M"})
    await bob.draft("A", {"model": "N"})
    await bob.commit("A")
    rows = await ann.rows(include=["layers,overlap", "computed"], sort="forecastStart")
    assert [row["id"] for row in rows] == ["A", "B"]
    assert [row["op"] for row in rows] == [None, "update"]
    assert [len(row["overlap"]) for row in rows] == [1, 0]
    assert [str(row["computed"]["planCost"]) for row in rows] == ["5913.27", "5913.27"]


# --- which dataset


@pytest.mark.parametrize("path", ["rows", "rows/A", "drafts"])
async def test_a_dataset_that_nobody_knows_is_404(world: World, ann: User, path: str) -> None:
    refused(await ann.on("nothing").get(path), 404, "DATASET_NOT_FOUND")


async def test_a_dataset_that_the_organization_lacks_is_404(world: World) -> None:
    await world.db.execute("INSERT INTO organization (id, name) VALUES ('bare', 'bare')")
    eve = await world.user("eve", "bare")
    refused(await eve.get("rows"), 404, "DATASET_NOT_FOUND")
    refused(await eve.get("drafts"), 404, "DATASET_NOT_FOUND")
    batch = {"modifications": [{"id": "A", "delta": line_of_a_new_row(), "op": "insert"}]}
    for path, body in {"drafts": batch, "commit": {"all": True}, "discard": {"all": True}}.items():
        refused(await eve.post(path, body), 404, "DATASET_NOT_FOUND")


async def test_a_total_that_was_counted_is_used_at_its_own_revisions_only(world: World, ann: User, bob: User) -> None:
    """Given totals that were just counted, when a draft or a commit of others changes them, they are counted anew."""
    fleet, others = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"V1": {"depot": "A"}, "V2": {"depot": "A"}}, contract=FLEET)

    async def totals(user: User, **filters: str) -> int:
        return int((await user.page(**filters))["pagination"]["totalRecords"])

    assert [await totals(fleet, depot="A") for _ in range(2)] == [2, 2]
    await fleet.draft("V1", {"depot": "B"})
    assert [await totals(fleet, depot="A") for _ in range(2)] == [1, 1]
    assert [await totals(fleet, syncState="draft") for _ in range(2)] == [1, 1]
    assert [await totals(fleet, syncState="pristine") for _ in range(2)] == [1, 1]
    assert [await totals(fleet) for _ in range(2)] == [2, 2]
    assert await totals(others, depot="A") == 2
    await others.draft("V3", {"depot": "A", "kind": "Van"}, op="insert")
    assert (await others.commit()).status_code == 200
    assert await totals(fleet, depot="A") == 2
    assert await totals(others, depot="A") == 3
