"""Pages of the grid: every line comes and the end is reached, whatever PEMS says and whoever edits meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.simulator import Dataspies, Dataspy, Fault, Simulator, Writing
from app.simulator.writing import Shape
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import Grid, Locale
from app.upstream.pems.grid import GridPage
from app.upstream.pems.listing import Place, turn
from app.upstream.protocol import Failed, Refused
from tests.support.pems import (
    FIRST,
    NOW,
    connected,
    documents,
    grid_answer,
    keys,
    known,
    listing,
    pull,
    scripted,
    simulator,
)

SHAPES, RECORDS, MORE = get_args(Shape), ("total", "page", "null"), ("right", "absent", "no", "yes")


@pytest.fixture
async def sim(anyio_backend: str) -> AsyncIterator[Simulator]:
    async with simulator(RIO=25, RIO2=5, LIMA=7) as found:
        yield found


@pytest.fixture
async def pems(sim: Simulator) -> AsyncIterator[Pems]:
    async with connected(sim.url) as found:
        yield found


# --- pulling


WRITINGS = [
    Writing(),
    Writing(shape="CELL", dates="iso", numbers="plain"),
    Writing(shape="DATAFIELD", flags="+/-"),
    Writing(shape="GRIDS", numbers="comma", times="local"),
    Writing(bom=True),
    Writing(typed=True),
]


@pytest.mark.parametrize("writing", WRITINGS, ids=["D", "CELL", "DATAFIELD", "typed", "GRIDS", "bom"])
async def test_a_pull_brings_every_line_as_upstream_has_it(sim: Simulator, pems: Pems, writing: Writing) -> None:
    sim.writing = writing

    pages = await pull(pems)

    assert documents(pages) == known(sim, "RIO")
    assert [page.broken for page in pages] == [()] * len(pages)
    assert sum(page.dropped for page in pages) >= 5
    assert {page.total for page in pages} == {30}
    assert max(filter(None, (page.mark for page in pages))).isoformat(timespec="seconds") == max(
        document["pemsVersion"] for document in known(sim, "RIO").values()
    ).replace("Z", "+00:00")


@pytest.mark.parametrize(
    ("zone", "reach"),
    [(None, 3600), ("UTC", 0), ("Europe/Berlin", 3600), ("America/New_York", 3600), ("Asia/Kolkata", 3600)],
)
async def test_only_what_was_modified_since_is_read(sim: Simulator, zone: str | None, reach: int) -> None:
    """By the minute; where clocks may be set back, an hour more: the same local time comes twice there."""
    sim.writing = Writing(times="local", zone=zone or "UTC")
    sim.set_clock(NOW)
    sim.edit("RIO", FIRST, {"model": "Changed"})
    sim.edit("RIO2", FIRST, {"model": "Changed"})

    async with connected(sim.url, locale=Locale(zone=zone)) as pems:
        (page,) = await pull(pems, since=NOW)

        assert [row.document["model"] for row in page.rows] == ["Changed"]
        assert (page.dropped, page.mark, page.marked, page.doubt) == (1, NOW, FIRST, None)
        assert len(documents(await pull(pems, since=NOW + timedelta(seconds=reach + 59)))) == 1
        assert documents(await pull(pems, since=NOW + timedelta(seconds=reach + 60))) == {}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("minutes", range(-90, 91, 30))
async def test_a_modification_in_the_hour_that_comes_twice_is_not_missed(
    sim: Simulator, zone: str, minutes: int
) -> None:
    """Given clocks that are set back, then what was modified since a mark within that hour comes."""
    back = {
        "Europe/Berlin": datetime(2026, 10, 25, 1, tzinfo=UTC),
        "America/New_York": datetime(2026, 11, 1, 6, tzinfo=UTC),
    }
    at = back[zone] + timedelta(minutes=minutes)
    sim.writing = Writing(times="local", zone=zone)
    sim.set_clock(at)
    sim.edit("RIO", FIRST, {"model": "Changed"})

    async with connected(sim.url, locale=Locale(zone=zone)) as pems:
        for since in (at, at - timedelta(minutes=20)):
            assert FIRST in documents(await pull(pems, since=since))


@pytest.mark.parametrize(
    ("time_format", "value"),
    [
        ("%Y-%m-%d %H:%M", "2026-03-01 11:00"),
        ("%Y-%m-%dT%H:%M:%SZ", "2026-03-01T11:00:00Z"),
        ("%m/%d/%Y %H:%M", "03/01/2026 11:00"),
        ("%d-%b-%Y %H:%M", "01-Mar-2026 11:00"),
    ],
)
async def test_filters_take_times_in_the_form_of_the_setting(time_format: str, value: str) -> None:
    async with (
        scripted(listing([])) as script,
        connected(script.url, locale=Locale(time_format=time_format)) as pems,
    ):
        await pems.page(since=NOW, cursor=None)

    (_, _, body) = script.asked[0]
    assert body["MULTIADDON_FILTERS"]["MADDON_FILTER"][1]["VALUE"] == value


async def test_codes_are_read_one_after_the_other_and_none_twice(sim: Simulator) -> None:
    sim.delete("LIMA", FIRST)
    for number, key in enumerate(keys(sim, "LIMA")):
        sim.delete("LIMA", key)
        sim.put("LIMA", f"L{number}", {"category": "Cranes"})
    for key in keys(sim, "RIO2"):
        sim.delete("RIO2", key)
        sim.put("RIO2", f"R2-{key}", {})

    async with connected(sim.url, organizations=("RIO2", "LIMA", "RIO", "RIO")) as pems:
        pages = await pull(pems)

    assert documents(pages) == known(sim, "RIO", "RIO2", "LIMA")
    assert sum(page.dropped for page in pages) == 0
    assert {page.total for page in pages} == {None}
    # 30 lines that begin with RIO, of which each page repeats one, and 6 of LIMA.
    assert sum(len(page.rows) for page in pages) == 30 + 6 + len(pages) - 2


async def test_a_cursor_works_in_another_process(sim: Simulator, pems: Pems) -> None:
    first = await pems.page(since=None, cursor=None)

    async with connected(sim.url) as other:
        second = await other.page(since=None, cursor=first.cursor)

    again = await pems.page(since=None, cursor=first.cursor)
    assert (second.rows, second.columns, second.cursor) == (again.rows, again.columns, again.cursor)
    assert {row.key for row in second.rows} - {row.key for row in first.rows}


async def test_a_cursor_of_other_codes_begins_anew(sim: Simulator, pems: Pems) -> None:
    cursor = (await pems.page(since=None, cursor=None)).cursor

    async with connected(sim.url, organizations=("LIMA",)) as other:
        page = await other.page(since=None, cursor=cursor)

    assert page.rows[0].document["organization"] == "LIMA"
    assert len(page.rows) == 7


async def test_a_cursor_that_is_none_fails(pems: Pems) -> None:
    with pytest.raises(Failed, match="cursor"):
        await pems.page(since=None, cursor="?")


async def test_a_cursor_is_short_however_long_the_page(sim: Simulator) -> None:
    async with simulator(RIO=3000) as large, connected(large.url, page_size=2000) as pems:
        cursor = (await pems.page(since=None, cursor=None)).cursor

    assert cursor is not None
    assert len(cursor) < 400


async def test_nothing_upstream_is_an_empty_page(sim: Simulator) -> None:
    async with connected(sim.url, organizations=("NONE",)) as pems:
        page = await pems.page(since=None, cursor=None)

    assert (page.rows, page.cursor, page.total) == ((), None, 0)


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 19, 20, 21])
@pytest.mark.parametrize("total", [True, False])
async def test_pages_end_wherever_the_lines_do(rows: int, total: bool) -> None:
    async with simulator(RIO=rows) as sim, connected(sim.url) as pems:
        if not total:
            sim.fault(Fault(kind="no_total"))

        assert documents(await pull(pems, most=4)) == known(sim, "RIO")


# --- lines that come and go


class Editors:
    """People who delete and add lines of two organizations, and know which ones were there all the while.

    They come before every single answer of the grid, those that are asked for again, too, and leave after a while: who
    adds lines faster than they are read is never at the end.
    """

    def __init__(self, sim: Simulator, seed: int, visits: int = 60):
        self.sim = sim
        self.visits = visits
        self.random = random.Random(seed)
        self.there = set(keys(sim, "RIO"))

    def meddle(self, most: int) -> None:
        self.visits -= 1
        if self.visits < 0:
            return
        for _ in range(self.random.randrange(most + 1)):
            code = self.random.choice(("RIO", "RIO", "RIO2"))
            there = keys(self.sim, code)
            if there and self.random.random() < 0.6:
                at = self.random.randrange(len(there))
                for key in there[at : at + self.random.choice((1, 1, 1, 4))]:
                    self.sim.delete(code, key)
                    if code == "RIO":
                        self.there.discard(key)
            else:
                near = self.random.choice(there) if there else "PFA-0000000"
                for number in range(self.random.choice((1, 1, 6))):
                    self.sim.put(code, f"{near}-{number}", {"category": "New"})


def meddled(monkeypatch: pytest.MonkeyPatch, editors: Editors, most: int) -> None:
    work = editors.sim._work

    def meddle(*given: Any) -> bytes:
        editors.meddle(most)
        return work(*given)

    monkeypatch.setattr(editors.sim, "_work", meddle)


@pytest.mark.parametrize("seed", range(40))
async def test_a_line_that_was_there_all_the_while_is_never_passed_over(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    drawn = random.Random(seed)
    async with simulator(RIO=drawn.randrange(10, 80), RIO2=drawn.randrange(20)) as sim:
        editors = Editors(sim, seed)
        sim.writing = Writing(shape=drawn.choice(SHAPES), more=drawn.choice(("right", "right", "absent")))
        if seed % 2:
            sim.fault(Fault(kind="no_total"))
        async with connected(sim.url, page_size=drawn.choice((3, 5, 10, 25))) as pems:
            first = await pems.page(since=None, cursor=None)
            meddled(monkeypatch, editors, drawn.choice((1, 3)))
            pages = [first]
            for _ in range(400):
                if pages[-1].cursor is None:
                    break
                try:
                    pages.append(await pems.page(since=None, cursor=pages[-1].cursor))
                except Failed:  # it gave up, as it may; a worker goes on from the last cursor
                    continue

    assert pages[-1].cursor is None
    assert editors.there - documents(pages).keys() == set()


async def test_deletions_before_the_cursor_do_not_hide_what_follows_it(sim: Simulator, pems: Pems) -> None:
    first = await pems.page(since=None, cursor=None)
    expected = known(sim, "RIO").keys() - {row.key for row in first.rows}
    for row in first.rows:
        sim.delete("RIO", row.key)

    second = await pems.page(since=None, cursor=first.cursor)

    assert {row.key for row in second.rows} <= expected
    assert min(expected) in {row.key for row in second.rows}


async def test_a_list_that_shrank_below_the_cursor_is_read_to_its_end(sim: Simulator, pems: Pems) -> None:
    pages = [await pems.page(since=None, cursor=None)]
    pages.append(await pems.page(since=None, cursor=pages[0].cursor))
    seen = list(documents(pages))
    for key in keys(sim, "RIO2"):
        sim.delete("RIO2", key)
    for key in seen[:-1]:
        sim.delete("RIO", key)
    expected = known(sim, "RIO")

    while pages[-1].cursor is not None:
        pages.append(await pems.page(since=None, cursor=pages[-1].cursor))

    assert len(pages) == 4
    assert expected.keys() <= documents(pages[1:]).keys()


async def test_many_new_lines_before_the_cursor_cost_pages_but_no_line(sim: Simulator, pems: Pems) -> None:
    first = await pems.page(since=None, cursor=None)
    for number in range(35):
        sim.put("RIO", f"AAA-{number:03}", {})

    pages = [first]
    while pages[-1].cursor is not None:
        pages.append(await pems.page(since=None, cursor=pages[-1].cursor))
        assert len(pages) < 20

    assert documents(pages).keys() >= {key for key in known(sim, "RIO") if key.startswith("PFA")}


# --- what is said of the number of lines


IDS = [f"P{number:03}" for number in range(25)]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"RECORDS": None, "MORERECORDPRESENT": "+"},
        {"RECORDS": "25"},
        {"RECORDS": 25, "MORERECORDPRESENT": "+"},
        {"RECORDS": "10", "MORERECORDPRESENT": "+"},
        {"RECORDS": "99", "MORERECORDPRESENT": "-"},
        {"RECORDS": "many"},
    ],
    ids=str,
)
async def test_pages_end_with_the_lines_whatever_is_said_of_their_number(metadata: Mapping[str, Any]) -> None:
    async with scripted(listing(IDS, **metadata)) as script, connected(script.url) as pems:
        pages = await pull(pems, most=5)

    assert list(documents(pages)) == IDS
    contradicts = metadata.get("MORERECORDPRESENT") is not None or metadata.get("RECORDS") == "99"
    assert (pages[-1].doubt is not None) == contradicts
    assert [page.doubt for page in pages[:1]] == [None]


async def test_a_listing_that_stops_short_is_in_doubt() -> None:
    async with scripted(listing(IDS[:10], RECORDS="25")) as script, connected(script.url) as pems:
        pages = await pull(pems, most=3)

    assert list(documents(pages)) == IDS[:10]
    assert pages[-1].doubt == "PEMS announced 25 lines and sent 10."
    assert len(script.asked) < 12


async def test_a_server_that_does_not_turn_pages_fails() -> None:
    def answer(asked: Any) -> bytes:
        return grid_answer(IDS[:10], 1, asked)

    async with scripted(answer) as script, connected(script.url) as pems:
        first = await pems.page(since=None, cursor=None)
        with pytest.raises(Failed, match="whatever position"):
            await pems.page(since=None, cursor=first.cursor)


async def test_headers_are_asked_for_once_a_pull_and_when_columns_change() -> None:
    async with scripted(listing(IDS)) as script, connected(script.url) as pems:
        pages = [await pems.page(since=None, cursor=None)]
        pages.append(await pems.page(since=None, cursor=pages[-1].cursor))
        script.answer = listing(IDS, first=100)
        pages.append(await pems.page(since=None, cursor=pages[-1].cursor))
        pages.append(await pems.page(since=None, cursor=pages[0].cursor))

        async with connected(script.url) as other:
            await other.page(since=None, cursor=pages[0].cursor)

    kinds = [body["REQUEST_TYPE"].split(".")[1] for _, _, body in script.asked]
    assert kinds == ["HEAD_DATA", "DATA_ONLY", "DATA_ONLY", "HEAD_DATA", "DATA_ONLY", "HEAD_DATA"]
    assert documents(pages).keys() == set(IDS)
    assert {broken for page in pages for broken in page.broken} == set()


# --- every way of saying how many lines there are


SIZE = 10
SIZES = (0, 1, 9, 10, 11, 18, 19, 20, 28, 29)


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("records", RECORDS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_line_comes_whatever_is_said_of_the_others(shape: Any, records: Any, more: Any) -> None:
    """Doubtful is a pull just where PEMS contradicts itself: more is to follow and nothing comes, or the opposite."""
    codes = {f"C{rows:02}": rows for rows in SIZES}
    async with simulator(**codes) as sim:
        sim.writing = Writing(shape=shape, records=records, more=more)
        for code, rows in codes.items():
            async with connected(sim.url, organizations=(code,)) as pems:
                sim.clear_counts()
                pages = await pull(pems, most=6)

            assert documents(pages) == known(sim, code), code
            contradicts = more == "yes" or (more == "no" and rows > SIZE)
            assert (pages[-1].doubt is not None) == contradicts, (code, pages[-1].doubt)
            assert all(page.total in (None, rows) for page in pages)
            # Pages that overlap by a line, one that finds nothing more, and looks further down where more is claimed.
            assert sim.counts().requests["grid"] <= rows // (SIZE - 1) + 2 + (22 if more == "yes" else 0)


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kept", [0, 5, 9, 10, 11, 20, 24])
async def test_a_list_that_is_cut_is_in_doubt_while_its_total_tells(shape: Any, more: Any, kept: int) -> None:
    """Nothing says that there is more but RECORDS."""
    async with simulator(RIO=25) as sim, connected(sim.url) as pems:
        sim.writing = Writing(shape=shape, more=more)
        sim.fault(Fault(kind="cut", last=kept))

        pages = await pull(pems, most=6)

        assert list(documents(pages)) == keys(sim, "RIO")[:kept]
        assert pages[-1].doubt == f"PEMS announced 25 lines and sent {kept}."
        assert sim.counts().requests["grid"] <= 4 + 6


@pytest.mark.parametrize("records", ["page", "null"])
async def test_a_list_that_is_cut_where_nobody_tells_is_not_in_doubt(records: Any) -> None:
    """Which is why RECORDS should say the total: nothing contradicts."""
    async with simulator(RIO=25) as sim, connected(sim.url) as pems:
        sim.writing = Writing(records=records)
        sim.fault(Fault(kind="cut", last=12))

        pages = await pull(pems, most=6)

    assert (len(documents(pages)), pages[-1].doubt) == (12, None)


async def test_lines_that_come_twice_are_counted_as_upstream_counts_them(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="duplicates", portion=0.5))

    pages = await pull(pems, most=12)

    assert documents(pages) == known(sim, "RIO")
    assert pages[-1].doubt is None


# --- regions that bring nothing


REGIONS: dict[str, list[tuple[int, int]]] = {
    "beginning": [(1, 7)],
    "first page": [(1, 10)],
    "two pages": [(1, 20)],
    "inside a page": [(3, 5)],
    "end of a page": [(8, 10)],
    "over a page's end": [(8, 14)],
    "second page": [(11, 20)],
    "middle": [(15, 75)],
    "one": [(10, 10)],
    "end": [(90, 100)],
    "last": [(100, 100)],
    "all": [(1, 100)],
    "all but the first": [(2, 100)],
    "all but the last": [(1, 99)],
    "several": [(5, 12), (30, 55), (80, 90)],
    "beginning and end": [(1, 15), (70, 100)],
}
TOTAL = 100


@pytest.mark.parametrize("shape", ["D", "GRIDS"])
@pytest.mark.parametrize("records", ["total", "null"])
@pytest.mark.parametrize("region", REGIONS)
async def test_positions_that_bring_nothing_are_passed_over(region: str, records: Any, shape: Any) -> None:
    gaps = REGIONS[region]
    async with simulator(RIO=TOTAL) as sim, connected(sim.url) as pems:
        sim.writing = Writing(shape=shape, records=records)
        for first, last in gaps:
            sim.fault(Fault(kind="empty", first=first, last=last))

        pages = await pull(pems, most=40)

        there = [
            key
            for place, key in enumerate(keys(sim, "RIO"), 1)
            if not any(first <= place <= last for first, last in gaps)
        ]
        assert list(documents(pages)) == there
        assert sim.counts().requests["grid"] <= 2 * TOTAL // SIZE + 25 * (len(gaps) + 1)
    # At the end of a listing without a total nothing tells that there was more.
    untold = records == "null" and region == "last"
    assert (pages[-1].doubt is None) == untold, pages[-1].doubt


class Positions:
    """Lines by their positions, of which some bring nothing: a page that begins there is empty, of others they are
    missing. It counts requests.
    """

    def __init__(self, total: int, gaps: set[int], *, records: bool, more: bool, named: bool):
        self.total, self.gaps, self.records, self.more, self.named = total, gaps, records, more, named
        self.asked = 0

    async def ask(self, position: int | str, size: int) -> GridPage:
        self.asked += 1
        first = int(position)
        last = min(first + size - 1, self.total)
        if first in self.gaps:
            last = first
            while last + 1 in self.gaps and last < self.total:
                last += 1
        lines = [f"L{place}" for place in range(first, last + 1) if place not in self.gaps and first not in self.gaps]
        following = last < self.total
        return page(
            lines,
            total=self.total if self.records else None,
            more=following if self.more else None,
            following=str(last + 1) if self.named and following else None,
        )


def page(lines: list[str], **said: Any) -> GridPage:
    more = {"total": None, "more": True if said.get("following") else None}
    return GridPage(rows=(), broken=(), identities=lines, mark=None, **(more | said))


async def turned(ask: Any, size: int, most: int = 10_000) -> tuple[list[str], str | None]:
    """All lines that come, once each, and what is doubtful."""
    place, found = Place(code="RIO"), dict[str, None]()
    for _ in range(most):
        turned = await turn(ask, place, size)
        found |= dict.fromkeys(turned.page.identities)
        if turned.following is None:
            return list(found), turned.doubt
        place = turned.following
    raise AssertionError("it does not end")


@settings(max_examples=300, phases=[Phase.generate])
@given(
    total=st.integers(0, 120),
    size=st.integers(2, 30),
    gap=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    records=st.booleans(),
    named=st.booleans(),
)
def test_one_region_wherever_it_is_costs_its_own_lines_alone(
    total: int, size: int, gap: tuple[int, int], records: bool, named: bool
) -> None:
    first, last = min(gap), min(max(gap), total)
    gaps = set(range(first, last + 1))
    positions = Positions(total, gaps, records=records, more=True, named=named)

    found, doubt = asyncio.run(turned(positions.ask, size))

    assert found == [f"L{place}" for place in range(1, total + 1) if place not in gaps]
    assert positions.asked <= 2 * (total // (size - 1)) + 60
    if not gaps:
        assert doubt is None
    if records and gaps and total:
        assert doubt is not None
    # Without a total it tells itself by the pages after it.
    if gaps and last + 2 * size < total:
        assert doubt is not None


@settings(max_examples=300, phases=[Phase.generate])
@given(
    total=st.integers(0, 120),
    size=st.integers(2, 30),
    gaps=st.sets(st.integers(1, 120), max_size=60),
    records=st.booleans(),
    more=st.booleans(),
    named=st.booleans(),
)
def test_however_many_regions_there_are_it_ends_and_what_is_missing_is_in_doubt(
    total: int, size: int, gaps: set[int], records: bool, more: bool, named: bool
) -> None:
    positions = Positions(total, gaps, records=records, more=more, named=named)

    try:
        found, doubt = asyncio.run(turned(positions.ask, size))
    except Failed:
        assert gaps
        assert not records
        assert not more  # a server that says nothing of the others and sends nothing looks as if it turned no pages
        return

    assert found == sorted(found, key=lambda line: int(line[1:]))
    assert set(found) <= {f"L{place}" for place in range(1, total + 1)} - {f"L{place}" for place in gaps}
    assert positions.asked <= 60 * (total + 10)
    if records and len(found) < total:
        assert doubt is not None
    if not gaps:
        assert (len(found), doubt) == (total, None)


# --- whatever a server answers


SAID = st.fixed_dictionaries(
    {
        "total": st.none() | st.integers(-5, 60) | st.sampled_from([10**6, 10**14]),
        "more": st.sampled_from([None, True, False]),
        "following": st.none()
        | st.integers(-2, 60).map(str)
        | st.sampled_from(["", "x", "1" * 5000, "-1", "1.5", " 7", "٣", "999999999"]),
    }
)
ANSWERS = st.tuples(st.lists(st.integers(0, 40).map("L{}".format), max_size=8), SAID)


@settings(max_examples=300, phases=[Phase.generate])
@given(
    known=st.dictionaries(st.integers(1, 60), ANSWERS, max_size=40),
    others=ANSWERS,
    size=st.integers(2, 8),
    changing=st.booleans(),
)
def test_no_server_makes_it_ask_for_ever(
    known: dict[int, tuple[list[str], dict[str, Any]]],
    others: tuple[list[str], dict[str, Any]],
    size: int,
    changing: bool,
) -> None:
    """Whatever it answers at each position, and however it changes its mind, the pull ends or fails."""
    asked = 0

    async def ask(position: int | str, count: int) -> GridPage:
        nonlocal asked
        asked += 1
        assert count == size
        text = str(position)
        place = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
        lines, said = known.get((place + asked if changing else place) % 61, others)
        return page(lines[:size], **said)

    with suppress(Failed):
        asyncio.run(turned(ask, size))
    assert asked < 20_000


def test_a_server_that_forgets_what_it_sent_far_behind_is_given_up() -> None:
    """Given lines that were found far beyond empty positions, and are nowhere any more, then nobody goes back to the
    beginning for them page by page.
    """
    asked = 0

    async def ask(position: int | str, size: int) -> GridPage:
        nonlocal asked
        asked += 1
        lines = ["L1", "L2"] if asked == 1 or (asked < 60 and int(position) > 10**11) else []
        return page(lines, total=10**14)

    with pytest.raises(Failed, match="none of the lines"):
        asyncio.run(turned(ask, 2))
    assert asked < 1_000


@pytest.mark.parametrize("says", [{}, {"more": True}, {"total": 10**14}, {"more": True, "total": 10**14}], ids=str)
@pytest.mark.parametrize("lines", [0, 1, 5, 10])
@pytest.mark.parametrize("following", [None, "1", "11", "x", "next"], ids=str)
def test_a_server_that_always_says_the_same_is_given_up(lines: int, says: dict[str, Any], following: Any) -> None:
    asked = 0

    async def ask(position: int | str, size: int) -> GridPage:
        nonlocal asked
        asked += 1
        return page([f"L{number}" for number in range(lines)], **{"following": following, **says})

    with suppress(Failed):
        _, doubt = asyncio.run(turned(ask, 10))
        # It ended: with fewer lines than there should be, and says so, or there is nothing to say.
        assert (doubt is not None) == bool(says or following)
    assert asked < 300


def test_a_server_that_names_ever_further_positions_and_sends_nothing_is_given_up() -> None:
    asked = 0

    async def ask(position: int | str, size: int) -> GridPage:
        nonlocal asked
        asked += 1
        return page([], more=True, following=str(int(position) + 1_000))

    with pytest.raises(Failed, match="no further line"):
        asyncio.run(turned(ask, 10))
    assert asked < 200


@pytest.mark.parametrize("named", ["x", "1" * 5000, "-5", "1.5"])
def test_a_position_that_is_no_number_fails(named: str) -> None:
    async def ask(position: int | str, size: int) -> GridPage:
        return page([f"L{position}"[:9]], more=True, following=named)

    with pytest.raises(Failed, match="names a position that is no number"):
        asyncio.run(turned(ask, 10))


# --- dataspies


HIDING = {"7": Dataspy(hides={"pfs_f_discontinued": True}, without=("pfs_f_model",)), "9": Dataspy()}


async def test_the_accounts_default_dataspy_applies_unless_another_is_named(sim: Simulator) -> None:
    """It hides lines, which look as if they were deleted, and columns, without which no line can be read."""
    sim.dataspies = Dataspies(dataspies=HIDING, default_dataspy="7")
    sim.edit("RIO", FIRST, {"isDiscontinued": True})

    async with connected(sim.url) as pems:
        hidden = await pull(pems)
        assert await pems.read(FIRST) is None
        assert await pems.exists(FIRST)
    async with connected(sim.url, grid=Grid(dataspy="9")) as pems:
        shown = await pull(pems)

    assert documents(hidden) == {}
    broken = {broken.key: [reason.field for reason in broken.reasons] for page in hidden for broken in page.broken}
    assert FIRST not in broken
    assert broken.keys() < known(sim, "RIO").keys()
    assert set(map(tuple, broken.values())) == {("model",)}
    assert documents(shown) == known(sim, "RIO")


async def test_a_dataspy_that_there_is_not_is_refused(sim: Simulator) -> None:
    async with connected(sim.url, grid=Grid(dataspy="404")) as pems:
        with pytest.raises(Refused, match="404 is not a valid dataspy"):
            await pull(pems)


async def test_the_dataspy_is_named_and_results_are_not_localized() -> None:
    for grid, spy, localized in ((Grid(), None, "false"), (Grid(dataspy="7", localize=True), "7", "true")):
        async with scripted(listing([])) as script, connected(script.url, grid=grid) as pems:
            await pems.page(since=None, cursor=None)

        ((_, _, body),) = script.asked
        assert body["GRID"]["LOCALIZE_RESULT"] == localized
        assert body.get("DATASPY") == (None if spy is None else {"DATASPY_ID": spy})
