"""The live merge as a list and as one row."""

from decimal import Decimal

from tests.world import User, World, line


def ids(rows: list[dict[str, object]]) -> list[object]:
    return [row["id"] for row in rows]


async def test_a_list_shows_the_mirror_with_the_callers_drafts_in_their_place(world: World, ann: User, bob: User) -> None:
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
        "modifiedFields": [], "modifiedAt": None, "modifiedBy": None, "conflicts": [],
    }  # fmt: skip

    await ann.draft("A", {"monthlyRate": Decimal("12.3400")})
    row = (await ann.rows())[0]
    assert (row["syncState"], row["version"], row["modifiedFields"], row["modifiedBy"]) == ("draft", 1, ["monthlyRate"], "ann")
    assert str(row["data"]["monthlyRate"]) == "12.3400"


async def test_an_etag_holds_until_something_changes(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    first = await ann.get("rows")
    tag = first.headers["ETag"]
    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 304
    assert (await bob.get("rows", headers={"If-None-Match": tag})).status_code == 200
    await ann.draft("A", {"model": "M"})
    assert (await ann.get("rows", headers={"If-None-Match": tag})).status_code == 200
