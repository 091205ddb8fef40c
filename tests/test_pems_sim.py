"""The PEMS simulator: it speaks as documented, keeps what it is told, and misbehaves as it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import json
from app.seed import pfa_lines
from app.upstream.simulator import Simulator, Writing

GRID = "/axis/restservices/griddata"
SCREEN = "/axis/restservices/userdefinedscreenservices"
HEADERS = {"tenant": "SIM", "organization": "RIO", "role": "PLANNER"}
NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
FIRST = "PFA-0000001"
BEGINS_RIO = {"ALIAS_NAME": "pfs_a_org", "OPERATOR": "BEGINS", "VALUE": "RIO", "JOINER": "AND", "SEQNUM": 1}


def texts(code: str, rows: int) -> list[str]:
    return [text for _, text in islice(pfa_lines(code.lower(), 1), rows)]


def simulator(journal: Path | None = None, **more: Any) -> Simulator:
    lines = {"RIO": texts("RIO", 30), "RIO2": texts("RIO2", 5), "LIMA": texts("LIMA", 3)}
    return Simulator(lines, clock=lambda: NOW, journal=journal, **more)


class Pems:
    """A client that says what PEMS's clients say."""

    def __init__(self, sim: Simulator, http: httpx.AsyncClient):
        self.sim = sim
        self.http = http

    async def grid(
        self, *filters: dict[str, Any], cursor: Any = 1, rows: Any = 100, headed: bool = True, **more: Any
    ) -> Any:
        """The whole answer, decoded."""
        body = {
            "GRID": {
                "GRID_NAME": "CUPFAG",
                "GRID_ID": "100541",
                "USER_FUNCTION_NAME": "CUPFAG",
                "NUMBER_OF_ROWS_FIRST_RETURNED": rows,
                "CURSOR_POSITION": cursor,
            },
            "GRID_TYPE": {"TYPE": "LIST"},
            "REQUEST_TYPE": "LIST.HEAD_DATA.STORED" if headed else "LIST.DATA_ONLY.STORED",
            "MULTIADDON_FILTERS": {"MADDON_FILTER": filters},
            **more,
        }
        answer = await self.http.post(GRID, content=json.encode(body))
        assert answer.status_code == 200, answer.text
        return json.decode(answer.content)

    async def keys(self, *filters: dict[str, Any], **more: Any) -> list[str]:
        """Organization and number of each row of the page."""
        rows = rows_of(await self.grid(*filters, **more))
        return [f"{row['pfs_a_org']} {int(row['pfs_id'][4:])}" for row in rows]

    async def screen(self, action: str, key: str | None, fields: dict[str, Any], **more: Any) -> Any:
        """The whole answer, decoded. A field is a member and its data."""
        identity = {"PFS_A_ORG": {"TEXTDATA": "RIO"}} | ({"PFS_ID": {"TEXTDATA": key}} if key else {})
        pairs = [
            {"USERDEFINEDSCREENFIELDNAME": name, "USERDEFINEDSCREENFIELDVALUE": value}
            for name, value in {**identity, **fields}.items()
        ]
        body = {
            "USERDEFINEDSCREENNAME": "CUPFA2",
            "USERDEFINEDSERVICEACTION": action,
            "USERDEFINEDSCREENFIELDVALUELIST": {"USERDEFINEDSCREENFIELDVALUEPAIR": pairs},
            **more,
        }
        answer = await self.http.post(SCREEN, content=json.encode(body))
        assert answer.status_code == 200, answer.text
        return json.decode(answer.content)

    async def recordid(self, key: str = FIRST) -> int:
        recordid: int = service_of(await self.screen("GET", key, {}))["recordid"]
        return recordid


@asynccontextmanager
async def serving(sim: Simulator, **more: Any) -> AsyncIterator[Pems]:
    options = {"headers": HEADERS, "auth": ("pems", "pems-simulator"), "trust_env": False, "timeout": 10, **more}
    async with sim, httpx.AsyncClient(base_url=sim.url, **options) as http:
        yield Pems(sim, http)


@pytest.fixture
async def pems(anyio_backend: str) -> AsyncIterator[Pems]:
    async with serving(simulator()) as found:
        yield found


def grid_of(answer: Any) -> Any:
    assert answer["ErrorAlert"] == []
    return answer["Result"]["ResultData"]["GRID"]


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """Rows of shape D with headers, by alias."""
    grid = grid_of(answer)
    names = {field["aliasnum"]: field["name"] for field in grid["FIELDS"]["FIELD"]}
    return [{names[cell["n"]]: cell["value"] for cell in row["D"]} for row in grid["DATA"]["ROW"]]


def service_of(answer: Any) -> Any:
    assert answer["ErrorAlert"] == []
    return answer["Result"]["ResultData"]["UserDefinedScreenService"]


def values_of(answer: Any) -> dict[str, Any]:
    pairs = service_of(answer)["USERDEFINEDSCREENFIELDVALUELIST"]["USERDEFINEDSCREENFIELDVALUEPAIR"]
    return {pair["USERDEFINEDSCREENFIELDNAME"]: pair["USERDEFINEDSCREENFIELDVALUE"] for pair in pairs}


def alert_of(answer: Any) -> str:
    assert answer["Result"] is None
    message: str = answer["ErrorAlert"][0]["Message"]
    return message


def where(alias: str, operator: str, value: Any, joiner: str = "AND", **more: Any) -> dict[str, Any]:
    return {"ALIAS_NAME": alias, "OPERATOR": operator, "VALUE": value, "JOINER": joiner, **more}


# --- lines


def test_the_lines_are_those_that_a_dataset_is_seeded_with() -> None:
    given = [json.decode(text) for text in texts("RIO", 30)]
    assert [document for document, _ in simulator().records("RIO")] == given


# --- the grid


async def test_a_page_holds_the_lines_whose_organization_begins_so(pems: Pems) -> None:
    answer = await pems.grid(BEGINS_RIO, rows=7)
    assert grid_of(answer)["METADATA"] == {
        "RECORDS": "35",
        "CLIENTROWS": "7",
        "MORERECORDPRESENT": "+",
        "CURRENTCURSORPOSITION": "7",
    }
    first = rows_of(answer)[0]
    assert first == {
        "pfs_id": FIRST,
        "pfs_a_org": "RIO",
        "pfs_f_area": "Area 700 Site Services",
        "pfs_f_category": "Aerial Lifts",
        "pfs_f_catdesc": "Aerial work platforms",
        "pfs_f_class": "Scissor Lift",
        "pfs_f_source": "Rental",
        "pfs_f_dor": "PROJECT",
        "pfs_f_rental": "1,125",
        "pfs_f_purchase": "",
        "pfs_f_manufacturer": "JLG",
        "pfs_f_model": "4394RT",
        "pfs_p_projcode": "23-0087",
        "pfs_equipment_tag": "AWP-700-2949B",
        "pfs_p_startdate": "25-MAR-2026",
        "pfs_p_enddate": "08-APR-2026",
        "pfs_f_startdate": "26-MAY-2026",
        "pfs_f_enddate": "09-JUN-2026",
        "pfs_a_startdate": "",
        "pfs_a_enddate": "",
        "pfs_f_actualized": "N",
        "pfs_f_discontinued": "Y",
        "pfs_f_fundstrans": "N",
        "pfs_lastmodified": "2026-02-23T05:19:00Z",
    }


async def test_pages_follow_one_another_without_a_gap(pems: Pems) -> None:
    everything = await pems.keys(BEGINS_RIO)
    paged: list[str] = []
    while page := await pems.keys(BEGINS_RIO, cursor=len(paged) + 1, rows=4):
        paged += page
    assert paged == everything
    assert everything[:4] == ["RIO 1", "RIO2 1", "RIO 2", "RIO2 2"]
    last = await pems.grid(BEGINS_RIO, cursor=33, rows=4)
    assert grid_of(last)["METADATA"]["MORERECORDPRESENT"] == "-"


async def test_without_headers_rows_are_the_same(pems: Pems) -> None:
    headed, headless = await pems.grid(BEGINS_RIO), await pems.grid(BEGINS_RIO, headed=False)
    assert "FIELDS" not in grid_of(headless)
    assert grid_of(headless)["DATA"] == grid_of(headed)["DATA"]


RIO = where("pfs_a_org", "=", "RIO")


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([], 38),
        ([RIO], 30),
        ([RIO, where("pfs_id", ">=", "PFA-0000011")], 20),
        ([RIO, where("pfs_id", ">=", "PFA-0000011"), where("pfs_id", "<=", "PFA-0000012")], 2),
        ([where("pfs_id", "=", FIRST)], 3),
        ([where("pfs_id", "BEGINS", "PFA-000001")], 10),
        ([where("pfs_a_org", "BEGINS", "L", "OR"), where("pfs_a_org", "=", "RIO2")], 8),
        # AND binds tighter; parentheses bind tightest.
        ([where("pfs_a_org", "=", "LIMA", "OR"), RIO, where("pfs_id", "=", FIRST)], 4),
        (
            [
                where("pfs_a_org", "=", "LIMA", "OR", LPAREN=True),
                where("pfs_a_org", "=", "RIO", RPAREN="true"),
                where("pfs_id", "=", FIRST),
            ],
            2,
        ),
        # The numbers say the order, not the places.
        ([where("pfs_id", "=", FIRST, SEQNUM=2), where("pfs_a_org", "=", "LIMA", "OR", SEQNUM=1)], 5),
    ],
)
async def test_filters(pems: Pems, filters: list[dict[str, Any]], count: int) -> None:
    assert len(await pems.keys(*filters)) == count


@pytest.mark.parametrize(
    ("condition", "field", "holds"),
    [
        (where("pfs_f_rental", ">=", "1,125"), "monthlyRate", lambda value: value is not None and value >= 1125),
        (where("pfs_f_rental", "=", ""), "monthlyRate", lambda value: value is None),
        (where("pfs_f_startdate", "<=", "26-MAY-2026"), "forecastStart", lambda v: v is not None and v <= "2026-05-26"),
        (where("pfs_f_startdate", ">=", "2026-05-26"), "forecastStart", lambda v: v is not None and v >= "2026-05-26"),
        (where("pfs_f_discontinued", "=", "Y"), "isDiscontinued", lambda value: value),
        (where("pfs_f_discontinued", "=", "-"), "isDiscontinued", lambda value: not value),
        (where("pfs_f_category", "BEGINS", "Cr"), "category", lambda value: value.startswith("Cr")),
        # 2026-01-01T00:00:00Z in another zone: by time, not by text.
        (where("pfs_lastmodified", ">=", "2026-01-01T02:00:00+02:00"), "pemsVersion", lambda v: v >= "2026-01-01"),
        (where("pfs_lastmodified", "<=", "01-JAN-2026"), "pemsVersion", lambda v: v <= "2026-01-01T00:00:00Z"),
    ],
)
async def test_filters_compare_by_the_fields_type(pems: Pems, condition: Any, field: str, holds: Any) -> None:
    meant = [document["pfaId"] for document, _ in pems.sim.records("RIO") if holds(document[field])]
    assert 0 < len(meant) < 30
    found = rows_of(await pems.grid(RIO, condition))
    assert [row["pfs_id"] for row in found] == meant
    single = rows_of(await pems.grid(RIO, ADDON_FILTER=condition))
    assert single == found


async def test_rows_are_sorted_by_any_alias(pems: Pems) -> None:
    down = rows_of(await pems.grid(RIO, ADDON_SORT={"ALIAS_NAME": "pfs_lastmodified", "TYPE": "DESC"}))
    marks = [row["pfs_lastmodified"] for row in down]
    assert marks == sorted(marks, reverse=True)
    later = where("pfs_id", ">=", "PFA-0000021")
    assert (await pems.keys(RIO, later, ADDON_SORT={"ALIAS_NAME": "pfs_id", "TYPE": "DESC"}))[:2] == [
        "RIO 30",
        "RIO 29",
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cursor": -1}, "-1 is not a valid cursor position"),
        ({"rows": 0}, "0 is not a valid number of rows"),
        ({"GRID": {"GRID_NAME": "CUXX"}}, "CUXX is not a valid grid"),
        ({"REQUEST_TYPE": "LOV"}, "LOV is not a valid request type"),
        ({"ADDON_SORT": {"ALIAS_NAME": "x"}}, "x is not a valid alias"),
        ({"ADDON_FILTER": where("pfs_id", "LIKE", "x")}, "LIKE is not a valid operator of pfs_id"),
        ({"ADDON_FILTER": where("pfs_f_startdate", "=", "31-FEB-2026")}, "31-FEB-2026 is not a valid date"),
        ({"ADDON_FILTER": where("pfs_id", "=", "x", LPAREN=True)}, "A parenthesis of the filters is not a valid one"),
        ({"ADDON_FILTER": where("pfs_id", "=", "x", RPAREN=True)}, "A parenthesis of the filters is not a valid one"),
    ],
)
async def test_what_the_grid_does_not_understand(pems: Pems, asked: dict[str, Any], said: str) -> None:
    assert alert_of(await pems.grid(**asked)) == said


async def test_the_other_shapes_say_the_same(pems: Pems) -> None:
    rows = rows_of(await pems.grid(BEGINS_RIO))
    pems.sim.writing = Writing(shape="CELL")
    cells = grid_of(await pems.grid(BEGINS_RIO))["DATA"]["ROW"]
    assert [{cell["ALIAS_NAME"]: cell["VALUE"] for cell in row["CELL"]} for row in cells] == rows
    pems.sim.writing = Writing(shape="DATARECORD")
    records = grid_of(await pems.grid(BEGINS_RIO))["DATA"]["DATARECORD"]
    assert [{field["FIELDNAME"]: field["FIELDVALUE"] for field in row["DATAFIELD"]} for row in records] == rows


async def test_values_are_written_otherwise_on_request(pems: Pems) -> None:
    pems.sim.writing = Writing(dates="iso", numbers="plain", flags="+/-", without=("pfs_f_model",))
    first = rows_of(await pems.grid(BEGINS_RIO))[0]
    assert "pfs_f_model" not in first
    names = ("pfs_f_rental", "pfs_f_startdate", "pfs_f_discontinued")
    assert [first[name] for name in names] == ["1125", "2026-05-26", "+"]
    pems.sim.writing = Writing(typed=True)
    first = rows_of(await pems.grid(BEGINS_RIO))[0]
    assert [first[name] for name in names] == [1125, "26-MAY-2026", True]


async def test_rows_written_beforehand_follow_edits(pems: Pems) -> None:
    before = await pems.grid(BEGINS_RIO)
    pems.sim.render()
    assert await pems.grid(BEGINS_RIO) == before
    pems.sim.edit("RIO", FIRST, {"monthlyRate": 7})
    pems.sim.delete("RIO", "PFA-0000002")
    pems.sim.put("RIO", "PFA-0000031", {"model": "New"})
    rows = {row["pfs_id"]: row for row in rows_of(await pems.grid(RIO))}
    assert (rows[FIRST]["pfs_f_rental"], rows["PFA-0000031"]["pfs_f_model"]) == ("7", "New")
    assert len(rows) == 30
    assert "PFA-0000002" not in rows
