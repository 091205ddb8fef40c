"""The PEMS adapter against the simulator: pages while lines come and go, writes with their lock, and every refusal.

What the simulator never answers comes from a server of a few lines.
"""

import asyncio
import json
import random
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from app.contracts import PFA
from app.dev.seed import pfa_lines
from app.simulator import Fault, Simulator, Writing
from app.upstream.pems.adapter import Pems
from app.upstream.pems.config import MAPPING, Alias, Auth, Grid, PemsConfig
from app.upstream.pems.http import PemsClient
from app.upstream.protocol import (
    Broken,
    Failed,
    Held,
    OutcomeUnknown,
    Page,
    Refused,
    Row,
    Stale,
    Unavailable,
    Upstream,
    UpstreamError,
    Write,
)

PASSWORD = "pems-simulator"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIRST = "PFA-0000001"
DERIVED = {field.name for field in PFA.fields if field.derived_from}
NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": Decimal("1234.50"), "equipment": "CRN-1"}


def lines(code: str, rows: int) -> list[str]:
    return [text for _, text in islice(pfa_lines(code.lower(), 1), rows)]


def simulator(**sizes: int) -> Simulator:
    return Simulator({code: lines(code, rows) for code, rows in sizes.items()}, clock=lambda: NOW)


def config(url: str, **members: Any) -> PemsConfig:
    given: dict[str, Any] = {
        "tenant": "SIM",
        "role": "PLANNER",
        "organizations": ("RIO",),
        "auth": Auth(user="pems", password_env="PEMS_TEST_PASSWORD"),
        "requests_per_second": 0,
        "page_size": 10,
        "timeout": 60,
    }
    return PemsConfig(url=url, **(given | members))


@asynccontextmanager
async def connected(url: str, **members: Any) -> AsyncIterator[Pems]:
    pems = Pems(PFA, config(url, **members), clock=lambda: NOW)
    try:
        yield pems
    finally:
        await pems.close()


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEMS_TEST_PASSWORD", PASSWORD)


@pytest.fixture
async def sim(anyio_backend: str) -> AsyncIterator[Simulator]:
    async with simulator(RIO=25, RIO2=5, LIMA=7) as found:
        yield found


@pytest.fixture
async def pems(sim: Simulator) -> AsyncIterator[Pems]:
    async with connected(sim.url) as found:
        yield found


async def pull(pems: Upstream, *, since: datetime | None = None, most: int = 1000) -> list[Page]:
    """Every page, as a worker asks for them."""
    pages = [await pems.page(since=since, cursor=None)]
    while pages[-1].cursor is not None:
        assert len(pages) < most, "it does not end"
        pages.append(await pems.page(since=since, cursor=pages[-1].cursor))
    return pages


def documents(pages: list[Page]) -> dict[str, dict[str, Any]]:
    return {row.key: row.document for page in pages for row in page.rows}


def known(sim: Simulator, *codes: str) -> dict[str, dict[str, Any]]:
    """What the simulator holds, without what is derived."""
    held = [document for code in codes for document, _ in sim.records(code)]
    return {line["pfaId"]: {name: line[name] for name in line.keys() - DERIVED} for line in held}


def keys(sim: Simulator, code: str) -> list[str]:
    return list(known(sim, code))


async def update(pems: Pems, key: str, **fields: Any) -> None:
    await pems.write(Write(op="update", key=key, fields=fields), await pems.hold(key))


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


# --- rows that cannot be read


async def test_damaged_rows_are_broken_and_the_others_come(sim: Simulator, pems: Pems) -> None:
    damage = {"pfs_f_rental": "much", "pfs_f_startdate": "31-FEB-2026"}
    sim.fault(Fault(kind="rows", values=damage, ids=(FIRST,)))

    pages = await pull(pems)

    (broken,) = [broken for page in pages for broken in page.broken]
    assert broken.key == FIRST
    assert {reason.field for reason in broken.reasons} == {"monthlyRate", "forecastStart"}
    assert damage.items() <= broken.received.items()
    assert documents(pages).keys() == known(sim, "RIO").keys() - {FIRST}


@pytest.mark.parametrize("shape", ["D", "CELL", "DATARECORD"])
async def test_a_column_that_goes_missing_breaks_every_row(sim: Simulator, pems: Pems, shape: Any) -> None:
    await pems.page(since=None, cursor=None)
    sim.writing = Writing(shape=shape, without=("pfs_f_class",))

    pages = await pull(pems)

    assert documents(pages) == {}
    broken = {broken.key: broken.reasons for page in pages for broken in page.broken}
    assert broken.keys() == known(sim, "RIO").keys()
    assert {reason.field for reasons in broken.values() for reason in reasons} == {"class"}


async def test_a_column_that_goes_missing_within_a_pull_is_noticed(sim: Simulator, pems: Pems) -> None:
    first = await pems.page(since=None, cursor=None)
    sim.writing = Writing(without=("pfs_f_class",))

    second = await pems.page(since=None, cursor=first.cursor)

    assert second.rows == ()
    assert {reason.field for broken in second.broken for reason in broken.reasons} == {"class"}


async def test_lines_whose_id_cannot_be_read_do_not_stop_a_pull(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="rows", values={"pfs_id": 7}))

    pages = await pull(pems, most=6)

    assert {broken.key for page in pages for broken in page.broken} == {None}
    assert len({json.dumps(broken.received, default=str) for page in pages for broken in page.broken}) == 25


async def test_an_answer_that_does_not_name_its_columns_fails(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="no_headers"))

    with pytest.raises(Failed, match="does not name its columns"):
        await pems.page(since=None, cursor=None)


async def test_a_line_that_does_not_say_whose_it_is_shows_nothing_but_its_id(sim: Simulator, pems: Pems) -> None:
    """It may be another organization's: PEMS sends RIO2's lines, too, to whom asks for RIO."""
    sim.fault(Fault(kind="rows", values={"pfs_a_org": ""}, ids=(FIRST,)))

    broken = [broken for page in await pull(pems) for broken in page.broken]

    assert broken
    for each in broken:
        assert (each.key, [reason.field for reason in each.reasons]) == (FIRST, ["organization"])
        assert each.received.keys() == {"pfs_id", "line"}
        assert each.received["pfs_id"] == FIRST


# --- one row


async def test_a_row_is_read_as_a_pull_brings_it(sim: Simulator, pems: Pems) -> None:
    row = await pems.read(FIRST)

    assert isinstance(row, Row)
    assert row.document == known(sim, "RIO")[FIRST]
    assert row in (await pems.page(since=None, cursor=None)).rows
    assert await pems.read("nothing") is None


async def test_a_row_that_cannot_be_read_is_broken(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="rows", values={"pfs_f_rental": "much"}))

    row = await pems.read(FIRST)

    assert isinstance(row, Broken)
    assert (row.key, row.reasons[0].field) == (FIRST, "monthlyRate")


async def test_a_held_row_has_the_editable_fields_and_the_token(sim: Simulator, pems: Pems) -> None:
    held = await pems.hold(FIRST)

    assert held is not None
    assert held.token == str(sim.recordid("RIO", FIRST))
    document = known(sim, "RIO")[FIRST]
    editable = {field.name for field in PFA.fields if field.editable}
    assert held.document == {name: document[name] for name in editable | {"pfaId", "organization"}}
    assert await pems.hold("nothing") is None


async def test_a_row_of_a_further_code_is_found_and_written_there(sim: Simulator) -> None:
    sim.put("LIMA", "L-1", {"category": "Cranes"})

    async with connected(sim.url, organizations=("RIO", "LIMA")) as pems:
        row = await pems.read("L-1")
        await update(pems, "L-1", model="M")

    assert isinstance(row, Row)
    assert row.document["organization"] == "LIMA"
    assert known(sim, "LIMA")["L-1"]["model"] == "M"
    assert sim.record("RIO", "L-1") is None


async def test_a_held_row_that_lacks_a_field_fails_rather_than_to_seem_empty(sim: Simulator) -> None:
    other = {"model": Alias(read="pfs_f_model", write="PFS_F_OTHER")}

    async with connected(sim.url, mapping=other) as pems:
        with pytest.raises(Failed, match="does not show PFS_F_OTHER"):
            await pems.hold(FIRST)


# --- writing


VALUES: dict[str, Any] = {
    "areaSilo": 'Silo, 7 "é" ',
    "category": "Cranes",
    "source": "Purchase",
    "dor": "PROJECT",
    "monthlyRate": Decimal("1234567.0123"),
    "purchasePrice": 7,
    "equipment": None,
    "forecastStart": "2028-02-29",
    "forecastEnd": None,
    "isActualized": True,
    "isDiscontinued": False,
}


async def test_every_type_is_written_and_read_back(sim: Simulator, pems: Pems) -> None:
    before = known(sim, "RIO")[FIRST]

    await update(pems, FIRST, **VALUES)

    row, held = await pems.read(FIRST), await pems.hold(FIRST)
    assert isinstance(row, Row)
    assert held is not None
    assert row.document | VALUES == row.document
    assert held.document | VALUES == held.document
    unchanged = before.keys() - VALUES.keys() - {"pemsVersion"}
    assert {name: row.document[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert known(sim, "RIO")[FIRST] == row.document


async def test_only_what_is_said_is_written(sim: Simulator, pems: Pems) -> None:
    await update(pems, FIRST, model="M")

    assert sim.counts().writes == {f"RIO/{FIRST}": {"ADD": 0, "UPDATE": 1, "DELETE": 0}}


async def test_a_row_that_changed_since_it_was_held_is_stale(sim: Simulator, pems: Pems) -> None:
    held = await pems.hold(FIRST)
    sim.edit("RIO", FIRST, {"model": "Theirs"})

    for op in ("update", "delete"):
        with pytest.raises(Stale, match="modified by another user"):
            await pems.write(Write(op=op, key=FIRST, fields={"model": "Mine"} if op == "update" else {}), held)

    assert known(sim, "RIO")[FIRST]["model"] == "Theirs"


async def test_a_row_is_deleted(sim: Simulator, pems: Pems) -> None:
    assert await pems.write(Write(op="delete", key=FIRST, fields={}), await pems.hold(FIRST)) == FIRST

    assert sim.record("RIO", FIRST) is None
    assert await pems.hold(FIRST) is None


async def test_a_row_that_is_gone_cannot_be_written(sim: Simulator, pems: Pems) -> None:
    held = await pems.hold(FIRST)
    sim.delete("RIO", FIRST)

    with pytest.raises(Stale, match="Record not found"):
        await pems.write(Write(op="update", key=FIRST, fields={"model": "M"}), held)


async def test_a_new_row_gets_its_id_from_upstream(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(Write(op="insert", key=None, fields={**NEW, "hasPlan": False, "contract": None}), None)

    assert key == "PFA-0000026"
    row = await pems.read(key)
    assert isinstance(row, Row)
    assert row.document.items() >= NEW.items()
    assert row.document["organization"] == "RIO"


async def test_a_new_row_may_bring_its_id_and_say_its_organization(sim: Simulator) -> None:
    async with connected(sim.url, organizations=("RIO", "LIMA")) as pems:
        fields = {**NEW, "pfaId": "MY-1", "organization": "LIMA"}
        assert await pems.write(Write(op="insert", key="MY-1", fields=fields), None) == "MY-1"
        assert await pems.find_created(fields) == ["MY-1"]
        with pytest.raises(Stale, match="already exists"):
            await pems.write(Write(op="insert", key="MY-1", fields=fields), None)
        with pytest.raises(Refused, match="ROME is none of those"):
            await pems.write(Write(op="insert", key=None, fields={**NEW, "organization": "ROME"}), None)

    assert known(sim, "LIMA")["MY-1"]["category"] == "Cranes"


async def test_what_cannot_be_written_is_refused_before_anything_is(sim: Simulator) -> None:
    fields = {**NEW, "equipment": "CRN-1"}
    async with connected(sim.url, mapping={"equipment": Alias(read="pfs_equipment_tag")}) as pems:
        with pytest.raises(Refused, match="equipment cannot be written"):
            await pems.write(Write(op="insert", key=None, fields=fields), None)

    assert sim.counts().requests == {}


async def test_what_pems_alone_gives_to_a_line_is_left_out_of_a_new_one(sim: Simulator, pems: Pems) -> None:
    """A line that is inserted again, by a commit of an earlier release, has the whole row."""
    fields = {**NEW, "originalStart": "2026-01-01", "pemsVersion": "1", "contract": "C", "hasPlan": True}
    key = await pems.write(Write(op="insert", key="PFA-9000001", fields=fields), None)

    row = await pems.read(key)
    assert isinstance(row, Row)
    assert (row.key, row.document["originalStart"], row.document["equipment"]) == ("PFA-9000001", None, "CRN-1")


async def test_created_rows_are_found_by_all_their_values(sim: Simulator, pems: Pems) -> None:
    fields = {**NEW, "isDiscontinued": None, "purchasePrice": None, "model": "", "forecastStart": "2026-05-01"}
    keys = [await pems.write(Write(op="insert", key=None, fields=fields), None) for _ in range(2)]
    for differing in ({"monthlyRate": Decimal("1234.51")}, {"forecastStart": None}, {"isDiscontinued": True}):
        await pems.write(Write(op="insert", key=None, fields=fields | differing), None)

    assert await pems.find_created(fields) == keys
    assert await pems.find_created({**fields, "monthlyRate": Decimal("1234.5000")}) == keys
    assert await pems.find_created({**fields, "equipment": "CRN-2"}) == []


async def test_a_row_of_which_nothing_was_said_is_found_empty(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(Write(op="insert", key=None, fields={}), None)

    assert await pems.find_created({}) == [key]


async def test_created_rows_without_a_text_are_looked_for_on_every_page(sim: Simulator, pems: Pems) -> None:
    key = await pems.write(Write(op="insert", key=None, fields={"monthlyRate": Decimal("0.01")}), None)

    assert await pems.find_created({"monthlyRate": Decimal("0.010")}) == [key]


# --- refusals


def calls(pems: Pems) -> dict[str, Callable[[], Any]]:
    held = Held(document={"organization": "RIO"}, token="1")
    return {
        "page": lambda: pems.page(since=None, cursor=None),
        "read": lambda: pems.read(FIRST),
        "find": lambda: pems.find_created(NEW),
        "hold": lambda: pems.hold(FIRST),
        "insert": lambda: pems.write(Write(op="insert", key=None, fields=NEW), None),
        "update": lambda: pems.write(Write(op="update", key=FIRST, fields={"model": "M"}), held),
        "delete": lambda: pems.write(Write(op="delete", key=FIRST, fields={}), held),
    }


READS, WRITES = ("page", "read", "find", "hold"), ("insert", "update", "delete")

# fault -> what a read raises, and a write.
TROUBLE: list[tuple[Fault, type[UpstreamError], type[UpstreamError]]] = [
    (Fault(kind="status", status=401), Unavailable, Unavailable),
    (Fault(kind="status", status=403), Unavailable, Unavailable),
    (Fault(kind="status", status=429), Unavailable, Unavailable),
    (Fault(kind="status", status=503), Unavailable, Unavailable),
    (Fault(kind="status", status=502), Unavailable, OutcomeUnknown),
    (Fault(kind="status", status=504), Unavailable, OutcomeUnknown),
    (Fault(kind="status", status=500), Failed, OutcomeUnknown),
    (Fault(kind="status", status=404), Failed, Refused),
    (Fault(kind="drop_before"), Unavailable, OutcomeUnknown),
    (Fault(kind="drop_after"), Unavailable, OutcomeUnknown),
    (Fault(kind="half"), Unavailable, OutcomeUnknown),
    (Fault(kind="broken_json"), Failed, OutcomeUnknown),
    (Fault(kind="html"), Failed, OutcomeUnknown),
    (Fault(kind="alert", message="The system is busy"), Failed, Refused),
    (Fault(kind="alert", message="Authorization failed"), Unavailable, Refused),
    (Fault(kind="alert", message="7 is not a valid class"), Failed, Refused),
    (Fault(kind="alert", message="This record has been modified by another user"), Failed, Stale),
]


@pytest.mark.parametrize(("fault", "of_a_read", "of_a_write"), TROUBLE, ids=lambda case: str(case)[:60])
async def test_trouble_is_told_apart(
    sim: Simulator, pems: Pems, fault: Fault, of_a_read: type[UpstreamError], of_a_write: type[UpstreamError]
) -> None:
    sim.fault(fault)

    for name, call in calls(pems).items():
        with pytest.raises(UpstreamError) as trouble:
            await call()
        assert type(trouble.value) is (of_a_read if name in READS else of_a_write), name
        assert fault.kind != "alert" or str(trouble.value) == f"Error: {fault.message}"


async def test_what_was_done_though_no_answer_came_can_be_seen(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="drop_after", action="ADD"))
    with pytest.raises(OutcomeUnknown):
        await pems.write(Write(op="insert", key=None, fields=NEW), None)

    assert await pems.find_created(NEW) == ["PFA-0000026"]


async def test_an_answer_that_takes_too_long(sim: Simulator) -> None:
    sim.fault(Fault(kind="latency", ms=600_000))

    # Long enough to connect in, on any machine.
    async with connected(sim.url, timeout=1.5) as pems:
        asked = calls(pems)
        troubles = await asyncio.gather(*(call() for call in asked.values()), return_exceptions=True)
    for name, trouble in zip(asked, troubles, strict=True):
        assert type(trouble) is (Unavailable if name in READS else OutcomeUnknown)
        assert "within 1.5 seconds" in str(trouble)


async def test_nobody_there(sim: Simulator) -> None:
    url = sim.url
    await sim.stop()

    async with connected(url) as pems:
        for call in calls(pems).values():
            with pytest.raises(Unavailable, match="cannot be reached"):
                await call()


@pytest.mark.parametrize("message", ["Record not found", "Error - record not found."])
async def test_a_record_that_is_not_there_is_no_trouble(sim: Simulator, pems: Pems, message: str) -> None:
    sim.fault(Fault(kind="alert", at="screen", message=message))

    assert await pems.hold(FIRST) is None


async def test_words_are_cut_to_a_length_that_can_be_shown(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="alert", message="x" * 5000))

    with pytest.raises(Refused) as refusal:
        await calls(pems)["update"]()

    assert len(str(refusal.value)) == 500


async def test_how_long_to_wait_is_handed_on(sim: Simulator, pems: Pems) -> None:
    sim.fault(Fault(kind="status", status=429, retry_after=7, count=1))

    with pytest.raises(Unavailable) as refusal:
        await pems.hold(FIRST)

    assert refusal.value.retry_after == 7


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_not_tried_again_at_once(sim: Simulator, pems: Pems, status: int) -> None:
    """Or the account would be locked."""
    sim.fault(Fault(kind="status", status=status, count=1))

    with pytest.raises(Unavailable, match=f"answered {status}: it refuses this account") as refusal:
        await pems.page(since=None, cursor=None)

    assert refusal.value.retry_after == 300


# --- credentials


async def test_a_key_opens_as_a_password_does(sim: Simulator, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("pems-simulator-key\n")

    pems = Pems(PFA, config(sim.url, auth=Auth(api_key_file="key")), folder=tmp_path)

    assert await pems.hold(FIRST) is not None
    await pems.close()


@pytest.mark.parametrize(
    "auth", [Auth(user="pems", password_env="WRONG"), Auth(api_key_env="WRONG")], ids=["user", "key"]
)
async def test_wrong_credentials_are_unavailable_and_never_told(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, auth: Auth
) -> None:
    secret = "wr0ng-and-secret"
    monkeypatch.setenv("WRONG", secret)
    caplog.set_level(0)
    faults = [None, Fault(kind="status", status=500), Fault(kind="drop_before"), Fault(kind="html")]

    async with connected(sim.url, auth=auth) as pems:
        for fault in faults:
            sim.clear_faults()
            if fault is not None:
                sim.fault(fault)
            for call in calls(pems).values():
                with pytest.raises(UpstreamError) as trouble:
                    await call()
                told = "".join(traceback.format_exception(trouble.value)) + repr(vars(trouble.value))
                assert secret not in told
                assert trouble.value.__cause__ is trouble.value.__context__ is None
        assert secret not in repr(pems) + repr(vars(pems)) + repr(pems._client._client.headers) + caplog.text


# --- what the simulator never answers


class Script:
    """A server that says what it is told to, and keeps what it was asked: headers in lower case, and the body."""

    def __init__(self, answer: Callable[[Any], bytes]):
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readline():
            headers = {}
            while (line := await reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.asked.append((head.decode().split()[1], headers, body))
            writer.write(self.answer(body))
            await writer.drain()
        writer.close()


@asynccontextmanager
async def scripted(answer: Callable[[Any], bytes]) -> AsyncIterator[Script]:
    script = Script(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()


def said(body: Any, status: str = "200 OK", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode() + content


def grid_answer(ids: list[str], first: int, asked: Any, **metadata: Any) -> bytes:
    aliases = [alias.read for alias in MAPPING.values()]
    rows = []
    for key in ids:
        line = dict.fromkeys(aliases, "") | {"pfs_id": key, "pfs_a_org": "RIO"}
        rows.append({"D": [{"n": number, "value": value} for number, value in enumerate(line.values(), first)]})
    grid: dict[str, Any] = {"METADATA": metadata, "DATA": {"ROW": rows}}
    if asked["REQUEST_TYPE"] == "LIST.HEAD_DATA.STORED":
        fields = [{"aliasnum": number, "name": alias} for number, alias in enumerate(aliases, first)]
        grid["FIELDS"] = {"FIELD": fields}
    return said({"Result": {"ResultData": {"GRID": grid}}})


def listing(ids: list[str], *, first: int = 1, **metadata: Any) -> Callable[[Any], bytes]:
    """A grid of these lines, whose columns are numbered from `first`."""

    def answer(asked: Any) -> bytes:
        start, size = asked["GRID"]["CURSOR_POSITION"] - 1, asked["GRID"]["NUMBER_OF_ROWS_FIRST_RETURNED"]
        return grid_answer(ids[start : start + size], first, asked, **metadata)

    return answer


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


async def test_requests_carry_what_the_configuration_says_over_one_connection() -> None:
    grid = Grid(name="G", id="7", user_function="F", screen="S", data_path="/g", screen_path="/s")
    names = {"pfaId": Alias(read="my_id", write="MY_ID")}

    async with (
        scripted(lambda _: said({"ErrorAlert": [{"Message": "Record not found"}]})) as script,
        connected(f"{script.url}/eam/", organizations=("LIMA", "RIO"), grid=grid, mapping=names) as pems,
    ):
        assert await pems.hold(FIRST) is None
        with pytest.raises(Failed):
            await pems.page(since=NOW, cursor=None)

    assert script.connections == 1
    assert [(path, headers["organization"]) for path, headers, _ in script.asked] == [
        ("/eam/s", "LIMA"),
        ("/eam/s", "RIO"),
        ("/eam/g", "LIMA"),
    ]
    _, headers, body = script.asked[-1]
    assert (headers["tenant"], headers["role"]) == ("SIM", "PLANNER")
    assert headers["authorization"].startswith("Basic ")
    assert body["GRID"] == {
        "GRID_NAME": "G",
        "GRID_ID": "7",
        "USER_FUNCTION_NAME": "F",
        "NUMBER_OF_ROWS_FIRST_RETURNED": 10,
        "CURSOR_POSITION": 1,
    }
    assert body["ADDON_SORT"] == {"ALIAS_NAME": "my_id", "TYPE": "ASC"}
    joined = {"JOINER": "AND", "LPAREN": "false", "RPAREN": "false"}
    assert body["MULTIADDON_FILTERS"]["MADDON_FILTER"] == [
        {"ALIAS_NAME": "pfs_a_org", "OPERATOR": "BEGINS", "VALUE": "LIMA", "SEQNUM": 1, **joined},
        {"ALIAS_NAME": "pfs_lastmodified", "OPERATOR": ">=", "VALUE": "2026-03-01T12:00:00Z", "SEQNUM": 2, **joined},
    ]
    assert script.asked[0][2]["USERDEFINEDSCREENNAME"] == "S"


async def test_credentials_do_not_follow_a_redirect() -> None:
    async with scripted(lambda _: said({})) as elsewhere:
        moved = said(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/axis")
        async with scripted(lambda _: moved) as script, connected(script.url) as pems:
            with pytest.raises(Failed, match="answered 307"):
                await pems.page(since=None, cursor=None)

    assert elsewhere.asked == []


async def test_a_proxy_of_the_environment_is_not_used(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(lambda _: said({})) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with connected(sim.url) as pems:
            assert await pems.hold(FIRST) is not None

    assert proxy.asked == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sun, 01 Mar 2026 12:01:30 -0000", 90),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    answer = said(b"", "503 Service Unavailable", Retry_After=header)
    async with scripted(lambda _: answer) as script, connected(script.url) as pems:
        with pytest.raises(Unavailable) as refusal:
            await pems.hold(FIRST)

    assert refusal.value.retry_after == seconds


RECORD: dict[str, Any] = {"Result": {"ResultData": {"UserDefinedScreenService": {"recordid": 1}}}}

# an answer to a write -> what it raises, None where it was done.
ODD: list[tuple[Any, type[UpstreamError] | None]] = [
    (said({}), OutcomeUnknown),
    (said({"Result": None}), OutcomeUnknown),
    (said([]), OutcomeUnknown),
    (said(b"7"), OutcomeUnknown),
    (said(b"\xff"), OutcomeUnknown),
    (said({"Result": None, "ConfirmationAlert": [{"Name": "Sure", "Message": "Do it?"}]}), Refused),
    (said({"Result": {}, "ErrorAlert": [{"Message": "No"}]}), Refused),
    (said({"Result": {}, "ErrorAlert": {"Message": "No"}}), Refused),
    (said({"Result": {}, "ErrorAlert": "No"}), Refused),
    (said({"ErrorAlert": [{"Message": "Not so"}]}, "400 Bad Request"), Refused),
    (said({"ErrorAlert": [{"Message": "modified by another user"}]}, "409 Conflict"), Stale),
    (said(b"Not found", "404 Not Found"), Failed),
    (said(b"", "408 Request Timeout"), Unavailable),
    (said(b"x", "200 OK", Content_Encoding="gzip"), OutcomeUnknown),
    (said(RECORD), None),
    (said({"Result": {"ResultData": None}}), None),
]


@pytest.mark.parametrize(("answer", "raised"), ODD, ids=lambda case: str(case)[:60])
async def test_an_odd_answer_to_a_write_is_not_taken_for_another(
    answer: bytes, raised: type[UpstreamError] | None
) -> None:
    async with scripted(lambda _: answer) as script, connected(script.url) as pems:
        if raised is None:
            assert await calls(pems)["update"]() == FIRST
            with pytest.raises(OutcomeUnknown):  # a new row, and its id is not said
                await calls(pems)["insert"]()
            return
        with pytest.raises(UpstreamError) as trouble:
            await calls(pems)["update"]()
    assert type(trouble.value) is raised


@pytest.mark.parametrize("body", [b"7", b"{}", json.dumps(RECORD).encode(), b'{"Result": {"ResultData": null}}'])
async def test_an_odd_answer_to_a_hold_fails(body: bytes) -> None:
    async with scripted(lambda _: said(body)) as script, connected(script.url) as pems:
        with pytest.raises(Failed):
            await pems.hold(FIRST)


# --- how often


async def test_requests_are_spaced_so_that_no_second_has_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are sent: on the way one may be late and meet the next one."""
    loop, send = asyncio.get_running_loop(), PemsClient._send
    at: list[float] = []

    async def sent(self: PemsClient, *arguments: Any) -> Any:
        at.append(loop.time())
        return await send(self, *arguments)

    def answer(_: Any) -> bytes:
        return said({"ErrorAlert": [{"Message": "Record not found"}]})

    rate = 50
    monkeypatch.setattr(PemsClient, "_send", sent)
    async with scripted(answer) as script, connected(script.url, requests_per_second=rate) as pems:
        await asyncio.gather(*(pems.hold(FIRST) for _ in range(rate + 15)))

    assert len(at) == rate + 15
    assert at[-1] - at[0] >= (rate + 14) / rate - 0.1
    most = max(sum(start <= other < start + 1 for other in at) for start in at)
    assert most <= rate + 1
