"""Pages of the grid: every line comes and the end is reached, whatever PEMS says and whoever edits meanwhile."""

import random
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from app.simulator import Fault, Simulator, Writing
from app.upstream.pems.adapter import Pems
from app.upstream.protocol import (
    Failed,
)
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
    Writing(shape="DATARECORD", flags="+/-"),
    Writing(typed=True),
]


@pytest.mark.parametrize("writing", WRITINGS, ids=str)
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


async def test_only_what_was_modified_since_is_read(sim: Simulator, pems: Pems) -> None:
    sim.set_clock(NOW)
    sim.edit("RIO", FIRST, {"model": "Changed"})
    sim.edit("RIO2", FIRST, {"model": "Changed"})

    (page,) = await pull(pems, since=NOW)

    assert [row.document["model"] for row in page.rows] == ["Changed"]
    assert (page.dropped, page.mark) == (1, NOW)
    assert documents(await pull(pems, since=NOW + timedelta(seconds=1))) == {}


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

    assert second == await pems.page(since=None, cursor=first.cursor)
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
        assert list(documents(await pull(pems, most=5))) == IDS


async def test_a_listing_that_stops_short_fails() -> None:
    async with scripted(listing(IDS[:10], RECORDS="25")) as script, connected(script.url) as pems:
        first = await pems.page(since=None, cursor=None)
        with pytest.raises(Failed, match="no line after 10 of 25"):
            await pems.page(since=None, cursor=first.cursor)


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
