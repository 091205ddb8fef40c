"""Paging by cursor: every row once, in the order of the list, whatever is null, tied or drafted."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import InvalidCursor
from app.engine.cursors import LIFETIME, Cursor, read_cursor, write_cursor
from tests.support.world import FLEET, SECRET, Clock, User, World, ids, line, refused, vehicle

SORTS = [
    "",
    "id",
    "-id",
    "monthlyRate",
    "-monthlyRate",
    "-monthlyRate,-id",
    "category,-monthlyRate",
    "-category,monthlyRate,-forecastStart",
    "isActualized,-category",
    "-isActualized,forecastStart",
    "forecastStart,-id",
    "forecastCost,category",
    "equipment",
    "-equipment,purchasePrice",
    "hasPlan,-originalStart,equipment",
    "id,category",
    "category,id,monthlyRate",
]


async def walk(user: User, size: int, **params: Any) -> list[str]:
    """The ids of all pages, by following nextCursor."""
    found: list[str] = []
    page = await user.page(pageSize=size, **params)
    while True:
        found += ids(page["data"])
        assert len(page["data"]) <= size
        cursor = page["pagination"]["nextCursor"]
        if cursor is None:
            return found
        assert len(page["data"]) == size
        page = await user.page(pageSize=size, after=cursor, **params)
        assert page["pagination"]["page"] is None


async def test_a_walk_by_cursor_is_the_list(world: World, ann: User) -> None:
    """Given rows with nulls, ties, texts and numbers of all kinds, and drafts that move, null, insert and delete rows,
    then the pages of a walk are together the whole list, in every sort and direction.
    """
    await world.mirror(dict(lines_of_all_kinds()))
    await ann.draft("L00", {"monthlyRate": 12345678901234567890, "category": "Pumps"})
    await ann.draft("L03", {"category": None, "equipment": 'é, "quoted"\\'})
    await ann.draft("L04", {"equipment": None, "purchasePrice": 7, "isActualized": None})
    await ann.draft("L05", op="delete")
    await ann.draft("L06", {"forecastStart": None, "monthlyRate": None})
    await ann.draft("new", {"category": "Cranes", "equipment": "x"}, op="insert")
    await ann.draft("L08", {"class": "Light"})
    await ann.commit("L08")
    everything = await ann.rows()
    assert len(everything) == 14
    for sort in SORTS:
        whole = ids(await ann.rows(sort=sort))
        assert sorted(whole) == sorted(ids(everything))
        for size in (1, 4):
            assert await walk(ann, size, sort=sort) == whole, (sort, size)


def lines_of_all_kinds() -> Iterator[tuple[str, dict[str, Any]]]:
    for n in range(14):
        yield (
            f"L{n:02}",
            line(
                category=("Cranes", "Pumps", None)[n % 3],
                monthlyRate=(None, 1, 0.5, 1, 10)[n % 5],
                forecastStart=("2026-02-01", None, "9999-12-31")[n % 3],
                isActualized=(True, False, None)[n % 3],
                equipment=(None, "a", "b")[n % 3],
                purchasePrice=(3, None)[n % 2],
                hasPlan=n % 2 == 0,
                originalStart=(None, "2026-01-01", "2025-01-01")[n % 3],
            ),
        )


async def test_a_walk_keeps_to_its_filters(world: World, ann: User) -> None:
    await world.mirror(
        {f"L{n:02}": line(category="Cranes" if n % 2 else "Pumps", equipment=f"{n % 3}") for n in range(12)}
    )
    await ann.draft("L01", {"category": "Pumps"})
    await ann.draft("L04", {"category": "Cranes"})
    cranes = ["L03", "L04", "L05", "L07", "L09", "L11"]
    assert await walk(ann, 2, category="Cranes", sort="id") == cranes
    assert await walk(ann, 1, category="Cranes", sort="-forecastStart,id") == cranes
    assert await walk(ann, 2, category="Cranes", equipment=["0", "1"], sort="-id") == ["L09", "L07", "L04", "L03"]
    assert await walk(ann, 1, search="cranes", sort="id") == cranes
    assert await walk(ann, 1, syncState="draft", sort="-category") == ["L01", "L04"]
    assert await walk(ann, 5, syncState="pristine", sort="-id", count="none") == [
        f"L{n:02}" for n in range(11, -1, -1) if n not in (1, 4)
    ]


async def test_a_walk_goes_on_from_a_position_whatever_changed_behind_it(world: World, ann: User) -> None:
    """A cursor is a position in the order, not a number of rows: nothing that stands behind it is skipped."""
    await world.mirror({f"L{n}": line(monthlyRate=n) for n in range(1, 7)})
    first = await ann.page(sort="monthlyRate", pageSize=3)
    assert ids(first["data"]) == ["L1", "L2", "L3"]
    await ann.draft("L3", op="delete")
    await ann.draft("L1", {"monthlyRate": 5.5})
    second = await ann.page(sort="monthlyRate", pageSize=3, after=first["pagination"]["nextCursor"])
    assert ids(second["data"]) == ["L4", "L5", "L1"]
    assert second["pagination"]["totalRecords"] == 5
    third = await ann.page(sort="monthlyRate", pageSize=3, after=second["pagination"]["nextCursor"])
    assert ids(third["data"]) == ["L6"]


async def test_a_numbered_page_hands_over_to_the_cursor(world: World, ann: User) -> None:
    await world.mirror({f"L{n}": line() for n in range(5)})
    page = await ann.page(page=2, pageSize=2, sort="id")
    assert ids(page["data"]) == ["L2", "L3"]
    rest = await ann.page(pageSize=2, sort="id", after=page["pagination"]["nextCursor"])
    assert ids(rest["data"]) == ["L4"]


async def test_another_dataset_walks_alike(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror(
        {f"V{n}": vehicle(seats=(1, None, 9)[n % 3], firstDay=(None, "2026-01-01")[n % 2]) for n in range(9)},
        contract=FLEET,
    )
    await ann.draft("V0", {"seats": None, "firstDay": "2020-01-01"})
    for sort in ("seats", "-seats,firstDay", "firstDay,-seats", "-inspectedOn"):
        assert await walk(ann, 2, sort=sort) == ids(await ann.rows(sort=sort)), sort


async def test_a_cursor_is_good_for_its_own_listing_only(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    await world.mirror({"A": vehicle(), "B": vehicle()}, contract=FLEET)
    cursor = (await ann.page(pageSize=1, sort="category"))["pagination"]["nextCursor"]
    assert ids(await bob.rows(pageSize=1, sort="category", after=cursor)) == ["B"]

    head, rest = cursor[:43], cursor[43:]
    forged = [
        "x", ".", head, f"{head}{rest[::-1]}", f"x{cursor}", f"{head}.{rest}", "é", "x" * 5000,
        ann.token, ann.token.partition(".")[2],
    ]  # fmt: skip
    for text in forged:
        refused(await ann.get("rows", params={"after": text, "sort": "category", "pageSize": 1}), 400, "INVALID_CURSOR")
    assert ids(await ann.rows(after="", pageSize=1)) == ["A"]
    for params in ({"sort": "-category"}, {"sort": "class"}, {"sort": "category,class"}, {}):
        refused(await ann.get("rows", params={"after": cursor, **params}), 400, "INVALID_CURSOR")
    refused(await ann.on("fleet").get("rows", params={"after": cursor}), 400, "INVALID_CURSOR")
    refused(await ann.get("drafts", params={"after": cursor}), 400, "INVALID_CURSOR")
    # Nor does it open a door: a cursor is no token.
    for token in (cursor, f"x.{cursor}", f"x.{rest}.{head}"):
        answer = await ann.world.http.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


async def test_a_cursor_is_good_for_a_day(world: World) -> None:
    ann = await world.user("ann", ttl=7 * 24 * 3600)
    await world.mirror({"A": line(), "B": line()})
    cursor = (await ann.page(pageSize=1))["pagination"]["nextCursor"]
    world.clock.move(hours=24)
    assert ids(await ann.rows(pageSize=1, after=cursor)) == ["B"]
    world.clock.move(seconds=1)
    problem = refused(await ann.get("rows", params={"pageSize": 1, "after": cursor}), 400, "INVALID_CURSOR")
    assert "expired" in problem["detail"]


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_drafts_are_walked_by_cursor(world: World, ann: User, size: int) -> None:
    await world.mirror({f"L{n}": line() for n in range(5)})
    for n in (3, 1, 4):
        await ann.draft(f"L{n}", {"model": "M"})
    await ann.draft("L0", op="delete")
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await ann.get("drafts", params={"pageSize": size, **after})).json()
        found += ids(page["data"])
        assert page["pagination"]["totalRecords"] == 4
        if page["pagination"]["nextCursor"] is None:
            break
        after = {"after": page["pagination"]["nextCursor"]}
    assert found == ["L0", "L1", "L3", "L4"]


# -- the text of a cursor ----------------------------------------------------------------------------------------------

PURPOSE = "acme/pfa?category,id"
POSITION = Cursor(("Cranes", None, ""), "PFA-1")


def written(position: Cursor = POSITION) -> str:
    return write_cursor(SECRET, Clock(), PURPOSE, position)


def refuse(text: str, secret: str = SECRET, purpose: str = PURPOSE) -> None:
    with pytest.raises(InvalidCursor):
        read_cursor(secret, Clock(), purpose, text)


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8")), max_size=5), st.text(st.characters(codec="utf-8")))
def test_what_is_written_is_read(values: list[str | None], key: str) -> None:
    """Nothing, texts and keys of any characters; in a text that needs no escaping in an address."""
    position = Cursor(tuple(values), key)
    text = written(position)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert text.isascii()
    assert read_cursor(SECRET, Clock(), PURPOSE, text) == position


@given(st.text() | st.binary().map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_no_other_text_is_a_cursor(text: str) -> None:
    refuse(text)


def test_a_cursor_is_its_text_to_the_letter() -> None:
    """Not one letter more, fewer, or another, though base64 would overlook some of them."""
    good = written()
    for at in range(len(good)):
        refuse(good[:at])
        refuse(good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :])
        for extra in ("=", ".", "\n", " ", "é", "\ud800"):
            refuse(good[:at] + extra + good[at:])
    refuse(f"{good}=")
    refuse(good * 2)
    refuse(good + "A" * 100_000)


def test_another_key_signs_nothing() -> None:
    """Nor does the secret itself, or one that is derived from it for something else."""
    refuse(written(), secret=SECRET.upper())
    content = urlsafe_b64decode(written() + "==")[32:]
    for key in (b"", SECRET.encode(), hmac.digest(SECRET.encode(), b"vanguard", "sha256")):
        refuse(urlsafe_b64encode(hmac.digest(key, content, "sha256") + content).rstrip(b"=").decode())


def test_a_cursor_of_before_is_refused() -> None:
    """Until 0.1.0 it was a JWT without its header, which the secret signed."""
    at = Clock()() + LIFETIME
    claims = {"aud": "cursor", "exp": at, "for": PURPOSE, "v": POSITION.values, "k": POSITION.key}
    old = jwt.encode(claims, SECRET, algorithm="HS256")
    refuse(old)
    refuse(old.partition(".")[2])


def test_a_cursor_expires_by_the_clock() -> None:
    clock = Clock()
    text = write_cursor(SECRET, clock, PURPOSE, POSITION)
    clock.at += timedelta(hours=24)
    assert read_cursor(SECRET, clock, PURPOSE, text) == POSITION
    clock.at += timedelta(milliseconds=1)
    with pytest.raises(InvalidCursor, match="expired"):
        read_cursor(SECRET, clock, PURPOSE, text)


def test_a_cursor_has_one_purpose() -> None:
    for purpose in ("", "acme/pfa?category", "acme/pfa?-category,id", "acme2/pfa?category,id", PURPOSE.upper()):
        refuse(written(), purpose=purpose)
