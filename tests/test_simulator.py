"""The PEMS simulator: it speaks as documented, keeps what it is told, and misbehaves as it is told."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from app.base import exact_json
from app.base.errors import ConfigurationError
from app.cli import main
from app.dev.seed import pfa_lines
from app.simulator import Edit, Fault, Simulator, Step, Unusable, Writing
from tests.support.children import VANGUARD, child

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
        self,
        *filters: dict[str, Any],
        cursor: Any = 1,
        rows: Any = 100,
        headed: bool = True,
        localize: Any = None,
        **more: Any,
    ) -> Any:
        """The whole answer, decoded."""
        body = {
            "GRID": {
                "GRID_NAME": "CUPFAG",
                "GRID_ID": "100541",
                "USER_FUNCTION_NAME": "CUPFAG",
                "NUMBER_OF_ROWS_FIRST_RETURNED": rows,
                "CURSOR_POSITION": cursor,
                **({} if localize is None else {"LOCALIZE_RESULT": localize}),
            },
            "GRID_TYPE": {"TYPE": "LIST"},
            "REQUEST_TYPE": "LIST.HEAD_DATA.STORED" if headed else "LIST.DATA_ONLY.STORED",
            "MULTIADDON_FILTERS": {"MADDON_FILTER": filters},
            **more,
        }
        return told(await self.http.post(GRID, content=exact_json.encode(body)))

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
        return told(await self.http.post(SCREEN, content=exact_json.encode(body)))

    async def recordid(self, key: str = FIRST) -> int:
        recordid: int = service_of(await self.screen("GET", key, {}))["recordid"]
        return recordid


@asynccontextmanager
async def serving(sim: Simulator, **more: Any) -> AsyncIterator[Pems]:
    options = {"headers": HEADERS, "auth": ("pems", "pems-simulator"), "trust_env": False, "timeout": 60, **more}
    async with sim, httpx.AsyncClient(base_url=sim.url, **options) as http:
        yield Pems(sim, http)


@pytest.fixture
async def pems(anyio_backend: str) -> AsyncIterator[Pems]:
    async with serving(simulator()) as found:
        yield found


def told(answer: httpx.Response) -> Any:
    """The envelope: what is no success has another status."""
    assert answer.status_code in (200, 400), answer.text
    envelope = exact_json.decode(answer.content)
    assert (envelope["Result"] is None) is (answer.status_code == 400)
    return envelope


def grid_of(answer: Any) -> Any:
    assert answer["ErrorAlert"] is None
    return answer["Result"]["ResultData"]["GRID"]


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """Rows of shape D with headers, by alias."""
    grid = grid_of(answer)
    names = {field["aliasnum"]: field["name"] for field in grid["FIELDS"]["FIELD"]}
    return [{names[cell["n"]]: cell["value"] for cell in row["D"]} for row in grid["DATA"]["ROW"]]


def service_of(answer: Any) -> Any:
    assert answer["ErrorAlert"] is None
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
    given = [exact_json.decode(text) for text in texts("RIO", 30)]
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
        "pfs_udfchar01": "",
        "pfs_udfnum01": "",
        "pfs_udfdate01": "",
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
        ({"ADDON_SORT": {"ALIAS_NAME": "pfs_id", "TYPE": "UP"}}, "UP is not a valid order"),
        ({"ADDON_FILTER": where("pfs_id", ">=", "")}, "Nothing is not a valid value of pfs_id >="),
        ({"MULTIADDON_FILTERS": {"MADDON_FILTER": [where("pfs_id", "=", "x", "XOR")]}}, "XOR is not a valid joiner"),
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
    pems.sim.writing = Writing(shape="DATAFIELD")
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


async def test_a_grids_order_follows_edits(pems: Pems) -> None:
    """Lists of lines are kept from one request to the next."""
    descending = {"ALIAS_NAME": "pfs_id", "TYPE": "DESC"}
    await pems.keys(BEGINS_RIO), await pems.keys(RIO), await pems.keys(ADDON_SORT=descending)
    pems.sim.delete("RIO2", "PFA-0000001")
    pems.sim.delete("RIO", "PFA-0000030")
    pems.sim.put("RIO", "PFA-0000000", {})
    assert (await pems.keys(BEGINS_RIO))[:3] == ["RIO 0", "RIO 1", "RIO 2"]
    assert (await pems.keys(RIO))[-1] == "RIO 29"
    assert (await pems.keys(ADDON_SORT=descending))[0] == "RIO 29"


# --- the user-defined screen


async def test_a_record_is_read_with_its_editable_fields(pems: Pems) -> None:
    answer = await pems.screen("GET", FIRST, {})
    assert service_of(answer)["recordid"] == 1
    values = values_of(answer)
    assert len(values) == 21
    assert values["PFS_ID"] == {"TEXTDATA": FIRST}
    assert values["PFS_A_ORG"] == {"TEXTDATA": "RIO"}
    assert values["PFS_F_SOURCE"] == {"TEXTDATA": "Rental"}
    assert values["PFS_F_RATE"] == number(1125, 0)
    assert values["PFS_F_PRICE"] == {"NUMERICDATA": None}
    assert values["PFA_DIS"] == {"TEXTDATA": "Y"}
    assert values["PFS_F_STARTDATE"] == day(Y2026, 5, 26)
    assert values["PFS_UDFCHAR01"] == {"TEXTDATA": None}


Y2026 = 1767225600000  # its beginning, UTC


def day(year: int, month: int, day: int, zone: str = "+0000") -> dict[str, Any]:
    parts = {"YEAR": year, "MONTH": month, "DAY": day, "HOUR": 0, "MINUTE": 0, "SECOND": 0, "SUBSECOND": 0}
    return {"DATETIMEDATA": {**parts, "TIMEZONE": zone, "qualifier": "OTHER"}}


def number(value: int, decimals: int, sign: str = "+") -> dict[str, Any]:
    digits = {"VALUE": value, "NUMOFDEC": decimals, "SIGN": sign}
    return {"NUMERICDATA": {**digits, "CURRENCY": None, "DRCR": None, "UOM": "default", "qualifier": "OTHER"}}


async def test_an_update_changes_what_it_names_and_moves_the_mark(pems: Pems) -> None:
    before = pems.sim.record("RIO", FIRST)
    assert before is not None
    fields = {
        "PFS_F_RATE": number(125050, 2),
        "PFS_F_MODEL": {"TEXTDATA": ""},
        "PFS_F_ENDDATE": {"DATETIMEDATA": None},
        "PFS_F_STARTDATE": day(Y2026, 1, 15),
        "PFA_DIS": {"TEXTDATA": "N"},
    }
    answer = await pems.screen("UPDATE", FIRST, fields, recordid=1)
    assert service_of(answer)["recordid"] != 1
    assert pems.sim.record("RIO", FIRST) == before | {
        "monthlyRate": 1250.5,
        "model": None,
        "forecastEnd": None,
        "forecastStart": "2026-01-15",
        "isDiscontinued": False,
        "pemsVersion": "2026-03-01T12:00:30Z",
    }
    assert values_of(answer) == values_of(await pems.screen("GET", FIRST, {}))
    assert (await pems.keys(where("pfs_lastmodified", ">=", "2026-03-01T12:00:30Z"))) == ["RIO 1"]


async def test_a_day_is_that_of_its_time_zone(pems: Pems) -> None:
    fields = {
        "PFS_F_STARTDATE": day(1609477200000, 12, 21, "-0500"),
        "PFS_F_ENDDATE": day(Y2026 - 3_600_000, 1, 1, "+0100"),
    }
    service_of(await pems.screen("UPDATE", FIRST, fields, recordid="1"))
    record = pems.sim.record("RIO", FIRST)
    assert record is not None
    assert (record["forecastStart"], record["forecastEnd"]) == ("2021-12-21", "2026-01-01")


STALE = "This record has been modified by another user"


async def test_a_stale_recordid_is_refused(pems: Pems) -> None:
    recordid = await pems.recordid()
    pems.sim.edit("RIO", FIRST, {"model": "Theirs"})
    mine = {"PFS_F_MODEL": {"TEXTDATA": "Mine"}}
    assert alert_of(await pems.screen("UPDATE", FIRST, mine, recordid=recordid)) == STALE
    assert alert_of(await pems.screen("UPDATE", FIRST, mine)) == STALE
    assert alert_of(await pems.screen("DELETE", FIRST, {}, recordid=recordid)) == STALE
    record = pems.sim.record("RIO", FIRST)
    assert record is not None
    assert record["model"] == "Theirs"
    # One that comes back under its id is another one.
    pems.sim.delete("RIO", FIRST)
    pems.sim.put("RIO", FIRST, {})
    assert alert_of(await pems.screen("UPDATE", FIRST, mine, recordid=recordid)) == STALE


async def test_a_record_is_deleted_once(pems: Pems) -> None:
    deleted = await pems.screen("DELETE", FIRST, {}, recordid=1)
    assert values_of(deleted) == {"PFS_ID": {"TEXTDATA": FIRST}, "PFS_A_ORG": {"TEXTDATA": "RIO"}}
    for action in ("DELETE", "UPDATE", "GET"):
        assert alert_of(await pems.screen(action, FIRST, {}, recordid=1)) == "Record not found"
    # The one of another organization with this id is another one.
    assert await pems.keys(where("pfs_id", "=", FIRST)) == ["LIMA 1", "RIO2 1"]


async def test_ids_are_assigned_and_never_again(pems: Pems) -> None:
    added = await pems.screen("ADD", None, {"PFS_F_MODEL": {"TEXTDATA": "New"}})
    assert values_of(added)["PFS_ID"] == {"TEXTDATA": "PFA-0000031"}
    assert values_of(added)["PFA_ACT"] == {"TEXTDATA": "N"}
    recordid = service_of(added)["recordid"]
    service_of(await pems.screen("DELETE", "PFA-0000031", {}, recordid=recordid))
    again = await pems.screen("ADD", None, {})
    assert values_of(again)["PFS_ID"] == {"TEXTDATA": "PFA-0000032"}
    mine = await pems.screen("ADD", "MINE", {})
    assert values_of(mine)["PFS_ID"] == {"TEXTDATA": "MINE"}
    assert alert_of(await pems.screen("ADD", "MINE", {})) == "Record already exists"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"PFS_F_SOURCE": {"TEXTDATA": "Hire"}}, "Hire is not a valid Source"),
        ({"PFS_F_DOR": {"TEXTDATA": 7}}, "7 is not a valid DOR"),
        ({"PFA_DIS": {"TEXTDATA": "yes"}}, "yes is not a valid Discontinued"),
        ({"PFA_DIS": {"TEXTDATA": "+"}}, "+ is not a valid Discontinued"),
        ({"PFA_DIS": {"TEXTDATA": True}}, "True is not a valid Discontinued"),
        ({"PFS_F_RATE": {"NUMERICDATA": "1,250"}}, "1,250 is not a valid Monthly Rate"),
        (
            {"PFS_F_RATE": {"TEXTDATA": "5"}},
            "PFS_F_RATE in another member than NUMERICDATA is not a valid Monthly Rate",
        ),
        ({"PFS_F_MODEL": {"TEXTDATA": "x" * 4001}}, f"{'x' * 80} is not a valid Model"),
        ({"PFS_F_ENDDATE": {"DATETIMEDATA": {"YEAR": 2026}}}, "{'YEAR': 2026} is not a valid Forecast End"),
        ({"PFS_P_STARTDATE": {"TEXTDATA": "x"}}, "PFS_P_STARTDATE is not a valid field of CUPFA2"),
        ({"PFS_A_ORG": {"TEXTDATA": "OSLO"}}, "OSLO is not a valid organization"),
        ({"PFS_F_RATE": {"NUMERICDATA": True}}, "True is not a valid Monthly Rate"),
        ({"PFS_A_ORG": {"TEXTDATA": 5}}, "The record's PFS_ID or PFS_A_ORG is not a valid text"),
    ],
)
async def test_what_the_screen_does_not_take(pems: Pems, fields: dict[str, Any], said: str) -> None:
    assert alert_of(await pems.screen("UPDATE", FIRST, fields, recordid=1)) == said
    assert pems.sim.counts().applied == []


async def test_another_screen_or_action_is_refused(pems: Pems) -> None:
    assert alert_of(await pems.screen("GET", FIRST, {}, USERDEFINEDSCREENNAME="CUXX")) == "CUXX is not a valid screen"
    assert alert_of(await pems.screen("PATCH", FIRST, {})) == "PATCH is not a valid action"
    assert pems.sim.counts().requests == {"GET": 1, "other": 1}


# --- who may come in


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": "", "X-API-Key": "pems-simulator-key"}, 200),
        ({"Authorization": "", "X-API-Key": "wrong"}, 401),
        ({"Authorization": "Basic cGVtczp3cm9uZw=="}, 401),
        ({"Authorization": ""}, 401),
        ({"tenant": ""}, 400),
        ({"organization": ""}, 400),
        ({"role": ""}, 200),
        ({"Authorization": "Bearer pems-simulator-token"}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
    ],
)
async def test_credentials_and_headers(pems: Pems, headers: dict[str, str], status: int) -> None:
    async with httpx.AsyncClient(base_url=pems.sim.url, trust_env=False, headers=HEADERS, timeout=60) as http:
        basic = {"Authorization": httpx.BasicAuth("pems", "pems-simulator")._auth_header}
        answer = await http.post(GRID, headers=basic | headers, content=b'{"GRID": {}}')
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["ErrorAlert"][0]["Message"] == "Authorization failed"


async def test_more_than_the_rate_is_turned_away() -> None:
    async with serving(simulator(rate=2)) as pems:
        answers = [await pems.http.post(GRID, content=b'{"GRID": {}}') for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"


NESTED = b'{"GRID": ' + b"[" * 100_000
HUGE = b"9" * 5000
HOSTILE = [
    (GRID, b""),
    (GRID, b"\xff\xfe"),
    (GRID, b"[1, 2]"),
    (GRID, NESTED),
    (GRID, b'{"GRID": {"CURSOR_POSITION": -%s}}' % HUGE),
    (GRID, b'{"GRID": {"CURSOR_POSITION": %s}}' % HUGE[:19]),
    (GRID, b'{"GRID": {"NUMBER_OF_ROWS_FIRST_RETURNED": 1e999999999}}'),
    (GRID, b'{"GRID": {}, "ADDON_FILTER": {"ALIAS_NAME": "pfs_f_rental", "OPERATOR": "=", "VALUE": 1e99999999999}}'),
    (GRID, b'{"GRID": {}, "ADDON_FILTER": {"ALIAS_NAME": "pfs_f_rental", "OPERATOR": "=", "VALUE": "NaN"}}'),
    (GRID, b'{"GRID": {}, "ADDON_FILTER": {"ALIAS_NAME": "pfs_f_rental", "OPERATOR": ">=", "VALUE": "sNaN"}}'),
    (GRID, b'{"GRID": {}, "ADDON_FILTER": {"ALIAS_NAME": "pfs_f_rental", "OPERATOR": "=", "VALUE": %s}}' % HUGE),
    (GRID, b'{"GRID": {}, "ADDON_FILTER": {"ALIAS_NAME": "pfs_id", "OPERATOR": "=", "VALUE": {"a": []}}}'),
    (GRID, b'{"GRID": {"LOCALIZE_RESULT": [[{}]]}}'),
    (GRID, b'{"GRID": {}, "DATASPY": {"DATASPY_ID": %s}}' % HUGE),
    (SCREEN, b"{}"),
    (SCREEN, b'{"USERDEFINEDSCREENNAME": "CUPFA2", "USERDEFINEDSERVICEACTION": "X"}'),
]


@pytest.mark.parametrize(("path", "body"), HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_bodies_are_answered(pems: Pems, path: str, body: bytes) -> None:
    answer = await pems.http.post(path, content=body)
    assert answer.status_code == 400 or (answer.status_code == 200 and ("ErrorAlert" in answer.json()))
    assert (await pems.http.get("/sim/faults")).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        HUGE,
        b'{"YEAR": %s, "MONTH": 1, "DAY": 1}' % HUGE[:4000],
        b'{"VALUE": %s, "NUMOFDEC": %s, "SIGN": "+"}' % (HUGE[:4000], HUGE[:19]),
        b"[[[]]]",
        b'"x"',
        b"true",
    ],
)
@pytest.mark.parametrize("member", ["TEXTDATA", "NUMERICDATA", "DATETIMEDATA"])
async def test_hostile_values_are_answered(pems: Pems, member: str, value: bytes) -> None:
    for name in (b"PFS_F_MODEL", b"PFS_F_RATE", b"PFS_F_STARTDATE", b"PFS_ID"):
        pair = b'{"USERDEFINEDSCREENFIELDNAME": "%s", "USERDEFINEDSCREENFIELDVALUE": {"%s": %s}}'
        identity = pair % (b"PFS_A_ORG", b"TEXTDATA", b'"RIO"')
        body = (
            b'{"USERDEFINEDSCREENNAME": "CUPFA2", "USERDEFINEDSERVICEACTION": "ADD",'
            b'"USERDEFINEDSCREENFIELDVALUELIST": {"USERDEFINEDSCREENFIELDVALUEPAIR": [%s, %s]}}'
        ) % (identity, pair % (name, member.encode(), value))
        assert (await pems.http.post(SCREEN, content=body)).status_code in (200, 400)


async def test_what_is_no_request_is_refused(pems: Pems) -> None:
    assert (await pems.http.post(GRID, content=b" " * 3_000_000)).status_code == 413
    assert (await pems.http.get(GRID)).status_code == 405
    assert (await pems.http.head(GRID)).status_code == 405
    assert (await pems.http.post("/axis")).status_code == 404
    assert (await pems.http.get("//[")).status_code == 404
    host, port = pems.sim.url.removeprefix("http://").split(":")
    for sent, told in ((b"NONSENSE\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b"431")):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        assert (await reader.readline()).split()[1] == told
        writer.close()


# --- faults


async def attempt(pems: Pems) -> str:
    """What becomes of an update, in one word."""
    try:
        answer = await pems.screen("UPDATE", FIRST, {"PFS_F_MODEL": {"TEXTDATA": "Mine"}}, recordid=1)
    except httpx.TimeoutException:
        return "timeout"
    except httpx.TransportError:
        return "broken"
    except AssertionError:
        return "status"
    except ValueError:
        return "unreadable"
    if answer["ConfirmationAlert"]:
        return "question"
    return "alert" if answer["ErrorAlert"] else "done"


@pytest.mark.parametrize(
    ("fault", "seen", "done"),
    [
        (Fault(kind="drop_before"), "broken", False),
        (Fault(kind="drop_after"), "broken", True),
        (Fault(kind="late", ms=600_000), "timeout", True),
        (Fault(kind="half"), "broken", True),
        (Fault(kind="alert"), "alert", False),
        (Fault(kind="status", status=503), "status", False),
        (Fault(kind="broken_json"), "unreadable", True),
        (Fault(kind="html"), "unreadable", True),
        (Fault(kind="latency", ms=1), "done", True),
        (Fault(kind="latency", ms=0.5, up_to_ms=1.5), "done", True),
        (Fault(kind="latency", ms=600_000), "timeout", False),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_what_a_client_sees_and_what_was_done(fault: Fault, seen: str, done: bool) -> None:
    async with serving(simulator()) as pems:
        pems.sim.fault(fault)
        if seen == "timeout":
            pems.http.timeout = httpx.Timeout(60, read=0.5)
        assert await attempt(pems) == seen
        pems.http.timeout = httpx.Timeout(60)
        assert pems.sim.counts().faults == {fault.kind: 1}
        record = pems.sim.record("RIO", FIRST)
        assert record is not None
        assert (record["model"] == "Mine") is done
        pems.sim.clear_faults()
        assert await attempt(pems) == ("alert" if done else "done")


async def test_a_status_says_when_to_come_again(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="status", status=429, retry_after=1.5, message="Slow down", count=1))
    answer = await pems.http.post(GRID, content=b'{"GRID": {}}')
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1.5")
    assert answer.json()["ErrorAlert"] == [{"Name": "Error", "Message": "Slow down"}]
    assert (await pems.http.post(GRID, content=b'{"GRID": {}}')).status_code == 200


async def test_faults_are_of_an_endpoint_an_action_a_count_and_a_share(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="alert", at="screen", action="GET", count=2, message="First"))
    said = [(await pems.screen("GET", FIRST, {}))["ErrorAlert"] for _ in range(3)]
    assert [bool(each) for each in said] == [True, True, False]
    pems.sim.fault(Fault(kind="alert", at="screen", count=1))
    assert await pems.keys(RIO) != []
    assert await attempt(pems) == "alert"
    assert pems.sim.faults() == []

    pems.sim.fault(Fault(kind="alert", at="screen", share=0.5))
    hit = [bool((await pems.screen("GET", FIRST, {}))["ErrorAlert"]) for _ in range(100)]
    assert 30 < sum(hit) < 70
    async with serving(simulator()) as same:
        same.sim.fault(Fault(kind="alert", at="screen", share=0.5))
        assert [bool((await same.screen("GET", FIRST, {}))["ErrorAlert"]) for _ in range(100)] == hit


async def test_broken_rows_stay_the_same_until_they_are_mended(pems: Pems) -> None:
    good = rows_of(await pems.grid(BEGINS_RIO))
    pems.sim.render()
    pems.sim.fault(Fault(kind="rows", values={"pfs_f_startdate": "31-FEB-2026"}, ids=(FIRST,), organization="RIO"))
    pems.sim.fault(Fault(kind="rows", values={"pfs_f_rental": "a lot", "pfs_id": ""}, portion=0.3))
    first, second = rows_of(await pems.grid(BEGINS_RIO)), rows_of(await pems.grid(BEGINS_RIO))
    assert first == second
    assert [row["pfs_f_startdate"] for row in first].count("31-FEB-2026") == 1
    assert 0 < [row["pfs_id"] for row in first].count("") < 30
    pems.sim.clear_faults()
    assert rows_of(await pems.grid(BEGINS_RIO)) == good


async def test_an_answer_of_another_kind(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="writing", count=1, writing={"shape": "CELL", "without": ["pfs_f_model"], "typed": True}))
    pems.sim.fault(Fault(kind="no_total", count=1))
    pems.sim.fault(Fault(kind="no_headers", count=1))
    odd = grid_of(await pems.grid(RIO, rows=1))
    assert odd["METADATA"]["RECORDS"] is None
    assert "FIELDS" not in odd
    cells = {cell["ALIAS_NAME"]: cell["VALUE"] for cell in odd["DATA"]["ROW"][0]["CELL"]}
    assert (cells["pfs_f_rental"], "pfs_f_model" in cells) == (1125, False)
    assert len(rows_of(await pems.grid(RIO, rows=1))[0]) == 27


async def test_rows_shift_between_two_pages(pems: Pems) -> None:
    pems.sim.script(
        Step(after=1, of="RIO", edits=(Edit(op="delete", organization="RIO", id="PFA-0000002"),)),
        Step(
            after=2,
            of="RIO",
            edits=(
                Edit(op="put", organization="RIO", id="PFA-0000000", fields={"model": "New"}),
                Edit(op="edit", organization="RIO", id="PFA-0000004", fields={"model": "Other"}),
            ),
        ),
    )
    assert await pems.keys(where("pfs_a_org", "=", "LIMA")) == ["LIMA 1", "LIMA 2", "LIMA 3"]
    assert await pems.keys(RIO, rows=2) == ["RIO 1", "RIO 2"]
    # One went before the place where this page begins: 3 is passed over.
    assert await pems.keys(RIO, rows=2, cursor=3) == ["RIO 4", "RIO 5"]
    # One came: 5 comes again.
    assert await pems.keys(RIO, rows=2, cursor=5) == ["RIO 5", "RIO 6"]
    assert (pems.sim.record("RIO", "PFA-0000004") or {})["model"] == "Other"


# --- steering and inspecting


async def test_everything_can_be_steered_over_http(pems: Pems) -> None:
    http, here = pems.http, {"org": "RIO", "id": FIRST}
    found = exact_json.decode((await http.get("/sim/records", params=here)).content)
    assert found == {"recordid": 1, "document": exact_json.decode(texts("RIO", 1)[0])}
    answer = await http.get("/sim/records", params={"org": "RIO2"})
    dumped = [exact_json.decode(line) for line in answer.content.splitlines()]
    assert [each["document"] for each in dumped] == [exact_json.decode(text) for text in texts("RIO2", 5)]
    assert len((await http.get("/sim/records")).content.splitlines()) == 38

    assert (await http.post("/sim/clock", json={"now": "2026-04-01T00:00:00Z"})).json() == {
        "now": "2026-04-01T00:00:00Z"
    }
    assert (await http.post("/sim/clock", json={"advance": 90})).json() == {"now": "2026-04-01T00:01:30Z"}
    edited = (await http.patch("/sim/records", params=here, json={"monthlyRate": 5.25})).json()
    assert (edited["recordid"], edited["document"]["monthlyRate"]) == (2, 5.25)
    assert edited["document"]["pemsVersion"] == "2026-04-01T00:01:30Z"
    marked = (await http.patch("/sim/records", params=here, json={"pemsVersion": "2026-01-01T02:00:00+02:00"})).json()
    assert marked["document"]["pemsVersion"] == "2026-01-01T00:00:00Z"
    assert (await http.post("/sim/clock", json={})).json() == {"now": "2026-03-01T12:00:30Z"}

    put = (await http.put("/sim/records", params={"org": "RIO", "id": "NEW"}, json={"model": "New"})).json()
    assert (put["document"]["model"], put["document"]["category"]) == ("New", None)
    assert (await http.delete("/sim/records", params={"org": "RIO", "id": "NEW"})).status_code == 200
    assert (await http.delete("/sim/records", params={"org": "RIO", "id": "NEW"})).status_code == 404

    faults = [{"kind": "status", "status": 503, "count": 2}, {"kind": "latency", "ms": 1, "up_to_ms": 2}]
    assert [each["kind"] for each in (await http.post("/sim/faults", json=faults)).json()] == ["status", "latency"]
    assert (await http.post("/sim/faults", json={"kind": "half"})).status_code == 200
    assert len((await http.get("/sim/faults")).json()) == 3
    await http.delete("/sim/faults")
    assert (await http.get("/sim/faults")).json() == []

    step = {"after": 1, "edits": [{"op": "edit", "organization": "RIO", "id": FIRST, "fields": {"model": "Step"}}]}
    assert (await http.post("/sim/script", json=step)).status_code == 200
    assert (await http.post("/sim/writing", json={"shape": "CELL"})).json()["shape"] == "CELL"
    assert (await http.post("/sim/render")).status_code == 200
    assert "CELL" in grid_of(await pems.grid(RIO))["DATA"]["ROW"][0]
    assert (pems.sim.record("RIO", FIRST) or {})["model"] == "Step"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/sim/nothing", b"", 404),
        ("GET", "/sim/records?org=RIO&id=X", b"", 404),
        ("PATCH", "/sim/records?org=RIO&id=X", b"{}", 404),
        ("PATCH", "/sim/records?org=RIO", b"{}", 400),
        ("PATCH", f"/sim/records?org=RIO&id={FIRST}", b'{"monthlyRate": "much"}', 400),
        ("PATCH", f"/sim/records?org=RIO&id={FIRST}", b'{"colour": "red"}', 400),
        ("PUT", "/sim/records?org=OSLO&id=X", b"{}", 400),
        ("PUT", "/sim/records?org=RIO&id=X", b"[]", 400),
        ("POST", "/sim/faults", b'{"kind": "flood"}', 400),
        ("POST", "/sim/faults", b'{"kind": "writing", "writing": {"shape": "E"}}', 400),
        ("POST", "/sim/faults", b"{", 400),
        ("POST", "/sim/script", b'[{"after": 0, "edits": []}]', 400),
        ("POST", "/sim/clock", b'{"now": "2026-04-01T00:00:00"}', 400),
        ("POST", "/sim/clock", b'{"advance": 1e300}', 400),
        ("POST", "/sim/writing", b" " * 2_000_000, 400),
    ],
)
async def test_steering_that_is_not_understood(pems: Pems, method: str, path: str, body: bytes, status: int) -> None:
    answer = await pems.http.request(method, path, content=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert pems.sim.counts().applied == []


async def test_the_log_tells_what_was_done_how_often(pems: Pems) -> None:
    fields = {"PFS_F_RATE": number(5, 0)}
    await pems.grid(RIO)
    await pems.screen("UPDATE", FIRST, fields, recordid=1)
    await pems.screen("UPDATE", FIRST, fields, recordid=1)  # stale: it is not done
    await pems.screen("UPDATE", FIRST, fields, recordid=2)
    await pems.screen("ADD", None, {})
    await pems.screen("DELETE", "PFA-0000002", {}, recordid=1)
    pems.sim.edit("RIO", "PFA-0000003", {"model": "Theirs"})
    log = exact_json.decode((await pems.http.get("/sim/log")).content)
    assert log["requests"] == {"grid": 1, "UPDATE": 3, "ADD": 1, "DELETE": 1}
    assert log["writes"] == {
        "RIO/PFA-0000001": {"ADD": 0, "UPDATE": 2, "DELETE": 0},
        "RIO/PFA-0000031": {"ADD": 1, "UPDATE": 0, "DELETE": 0},
        "RIO/PFA-0000002": {"ADD": 0, "UPDATE": 0, "DELETE": 1},
    }
    assert [(each["by"], each["action"], each["before"], each["after"]) for each in log["applied"]] == [
        ("client", "UPDATE", 1, 2),
        ("client", "UPDATE", 2, 3),
        ("client", "ADD", None, 4),
        ("client", "DELETE", 1, None),
        ("somebody", "UPDATE", 1, 6),
    ]
    assert log["applied"][0] == {
        "at": "2026-03-01T12:00:30Z",
        "by": "client",
        "action": "UPDATE",
        "organization": "RIO",
        "id": FIRST,
        "before": 1,
        "after": 2,
        "fields": {"monthlyRate": 5},
    }
    await pems.http.delete("/sim/log")
    assert pems.sim.counts().writes == {}


def test_time_stands_still_and_goes_on() -> None:
    sim = simulator()
    sim.set_clock(datetime(2026, 5, 1, tzinfo=UTC))
    sim.advance(timedelta(minutes=1))
    assert sim.now() == datetime(2026, 5, 1, 0, 1, tzinfo=UTC)
    sim.set_clock(None)
    assert sim.now() == NOW


# --- the journal


async def test_edits_survive_a_restart(tmp_path: Path) -> None:
    journal = tmp_path / "pems.jsonl"
    async with serving(simulator(journal)) as pems:
        pems.sim.edit("RIO", FIRST, {"monthlyRate": 7})
        pems.sim.delete("RIO", "PFA-0000002")
        service_of(await pems.screen("ADD", None, {"PFS_F_MODEL": {"TEXTDATA": "New"}}))
        pems.sim.delete("RIO", "PFA-0000031")
        before = list(pems.sim.records())
    # A line that a crash cut off was never answered.
    with journal.open("ab") as file:
        file.write(b'{"organization":"RIO","id":"PFA-00000')
    async with serving(simulator(journal)) as pems:
        assert list(pems.sim.records()) == before
        assert pems.sim.recordid("RIO", FIRST) == 2
        assert values_of(await pems.screen("ADD", None, {}))["PFS_ID"] == {"TEXTDATA": "PFA-0000032"}
        assert pems.sim.recordid("RIO", "PFA-0000032") == 6
    # What follows the cut is whole again, and an organization that is not served is passed over.
    sim = Simulator({"RIO2": texts("RIO2", 5)}, journal=journal)
    assert sim.sizes() == {"RIO2": 5}


@pytest.mark.parametrize("text", ["milk\nbread\n", "milk"])
def test_a_journal_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    journal = tmp_path / "shopping.txt"
    journal.write_text(text)
    with pytest.raises(ConfigurationError, match=r"Line 1 of .* is not the simulator's"):
        simulator(journal)
    assert journal.read_text() == text
    with pytest.raises(ConfigurationError, match="cannot be used: No such file or directory"):
        simulator(tmp_path / "nowhere" / "pems.jsonl")


async def test_what_is_asked_of_nobody_is_unusable() -> None:
    sim = simulator()
    for refused in (
        lambda: sim.edit("RIO", "X", {}),
        lambda: sim.delete("OSLO", FIRST),
        lambda: sim.put("RIO", "", {}),
    ):
        with pytest.raises(Unusable):
            refused()


# --- the command


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(how: signal.Signals, tmp_path: Path) -> None:
    """A client that waits for an answer does not keep it."""
    command = [*VANGUARD, "pems-sim", "--port", "0"]
    options = ["--org", "RIO=12", "--org", "OSLO=3:7", "--state", str(tmp_path / "pems.jsonl"), "--rendered"]
    environment = os.environ | {"VANGUARD_PEMS_SIM_API_KEY": "another"}
    with child(*command, *options, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[3].rstrip(",")
        assert line == f"PEMS simulator at {url}, lines: RIO 12, OSLO 3.\n"
        with httpx.Client(
            base_url=url, trust_env=False, headers=HEADERS | {"X-API-Key": "another"}, timeout=60
        ) as http:
            assert (
                http.post(GRID, content=b'{"GRID": {}}').json()["Result"]["ResultData"]["GRID"]["METADATA"]["RECORDS"]
                == "15"
            )
            oslo = exact_json.decode(http.get("/sim/records", params={"org": "OSLO", "id": FIRST}).content)["document"]
            http.post("/sim/faults", json={"kind": "late", "ms": 600_000})
            with pytest.raises(httpx.ReadTimeout):
                http.post(GRID, content=b'{"GRID": {}}', timeout=httpx.Timeout(60, read=0.2))
            process.send_signal(how)
            assert process.wait(60) == 0
    assert oslo == exact_json.decode(next(pfa_lines("oslo", 7))[1])


def test_started_behind_a_scripts_ampersand_it_leaves_ctrl_c_to_others() -> None:
    """SIGTERM stops it all the same."""
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    with child(*ignoring, *VANGUARD, "pems-sim", "--port", "0", "--org", "RIO=1", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3].rstrip(",")
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert httpx.get(f"{url}/sim/faults", trust_env=False, timeout=60).status_code == 200
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize("given", ["rio=5", "RIO", "RIO=", "RIO=5:x", "RIO=12345678"])
def test_an_organization_that_cannot_be_read_is_refused(given: str) -> None:
    done = CliRunner().invoke(main, ["pems-sim", "--org", given])
    assert (done.exit_code, f"{given} is not CODE=ROWS" in done.output) == (2, True)


async def test_a_port_that_is_taken_is_refused() -> None:
    async with simulator() as sim:
        done = await asyncio.to_thread(CliRunner().invoke, main, ["pems-sim", "--port", sim.url.rpartition(":")[2]])
    assert (done.exit_code, "cannot be used" in done.output) == (2, True)
