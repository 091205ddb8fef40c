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
from typing import Any, get_args

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from app.base import exact_json
from app.base.errors import ConfigurationError
from app.cli import main
from app.dev.seed import pfa_lines
from app.simulator import Dataspy, Edit, Fault, Simulator, Step, Unusable, Writing, faults
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
        path: str = GRID,
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
        return told(await self.http.post(path, content=exact_json.encode(body)))

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


ALIASES = [f"pfs_{each}" for each in (
    "id a_org f_area f_category f_catdesc f_class f_source f_dor f_rental f_purchase f_manufacturer f_model p_projcode "
    "equipment_tag p_startdate p_enddate f_startdate f_enddate a_startdate a_enddate f_actualized f_discontinued "
    "f_fundstrans lastmodified udfchar01 udfnum01 udfdate01"
).split()]  # fmt: skip


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
        ({"GRID": {"USER_FUNCTION_NAME": "CUXX"}}, "CUXX is not a valid user function"),
        ({"GRID_TYPE": {"TYPE": "LOV"}}, "LOV is not a valid grid type"),
        ({"localize": "perhaps"}, "PERHAPS is not a valid LOCALIZE_RESULT"),
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


async def test_columns_may_be_missing(pems: Pems) -> None:
    pems.sim.writing = Writing(without=("pfs_f_model",))
    assert not any("pfs_f_model" in row for row in rows_of(await pems.grid(RIO)))


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


# --- switches of the grid


def cells_of(answer: Any) -> list[dict[str, Any]]:
    """Rows of whichever shape, by alias."""
    data = answer["Result"]["ResultData"]
    if "DATARECORD" in data:
        records = data["DATARECORD"] or []
    elif "DATARECORD" in data["GRID"]["DATA"]:
        records = data["GRID"]["DATA"]["DATARECORD"]
    elif "CELL" in data["GRID"]["DATA"]["ROW"][0]:
        return [{cell["ALIAS_NAME"]: cell["VALUE"] for cell in row["CELL"]} for row in data["GRID"]["DATA"]["ROW"]]
    else:
        return rows_of(answer)
    return [{field["FIELDNAME"]: field["FIELDVALUE"] for field in row["DATAFIELD"]} for row in records]


@pytest.mark.parametrize("shape", ["D", "CELL", "DATAFIELD", "GRIDS"])
@pytest.mark.parametrize("path", [GRID, "/axis/restservices/grids"])
async def test_every_shape_says_the_same_at_both_paths(pems: Pems, shape: Any, path: str) -> None:
    rows = rows_of(await pems.grid(BEGINS_RIO))
    pems.sim.writing = Writing(shape=shape)
    assert cells_of(await pems.grid(BEGINS_RIO, path=path)) == rows


async def test_the_shape_of_grids(pems: Pems) -> None:
    pems.sim.writing = Writing(shape="GRIDS", without=tuple(row for row in ALIASES if row != "pfs_id"))
    first = await pems.grid(RIO, rows=1)
    assert first == {
        "ErrorAlert": None,
        "ConfirmationAlert": None,
        "Result": {
            "ResultData": {
                "NEXTCURSORPOSITION": "2",
                "RECORDS": "30",
                "DATARECORD": [{"DATAFIELD": [{"FIELDNAME": "pfs_id", "FIELDLABEL": "Line", "FIELDVALUE": FIRST}]}],
            },
            "InfoAlert": None,
            "WarningAlert": None,
            "SessionID": None,
        },
    }
    last = (await pems.grid(RIO, cursor=30))["Result"]["ResultData"]
    assert (last["NEXTCURSORPOSITION"], len(last["DATARECORD"])) == ("", 1)
    beyond = (await pems.grid(RIO, cursor=31))["Result"]["ResultData"]
    assert beyond == {"NEXTCURSORPOSITION": "", "RECORDS": "30", "DATARECORD": None}


LOOKED_AT = ("pfs_f_rental", "pfs_f_startdate", "pfs_lastmodified", "pfs_f_discontinued")
ODD = {"monthlyRate": 1234.5, "forecastStart": "2026-01-15", "pemsVersion": "2026-02-28T10:33:20Z"}
NEW_YORK = {"zone": "America/New_York", "times": "local"}


@pytest.mark.parametrize(
    ("writing", "said"),
    [
        ({}, ["1,234.5", "15-JAN-2026", "2026-02-28T10:33:20Z", "Y"]),
        ({"dates": "iso", "times": "local"}, ["1,234.5", "2026-01-15", "2026-02-28 10:33", "Y"]),
        ({"dates": "us", "times": "local"}, ["1,234.5", "1/15/2026", "2/28/2026 10:33", "Y"]),
        ({"dates": "eu", "times": "local"}, ["1,234.5", "15/01/2026", "28/02/2026 10:33", "Y"]),
        (NEW_YORK, ["1,234.5", "15-JAN-2026", "28-FEB-2026 05:33", "Y"]),
        ({"zone": "America/New_York"}, ["1,234.5", "15-JAN-2026", "2026-02-28T10:33:20Z", "Y"]),
        ({"numbers": "plain"}, ["1234.5", "15-JAN-2026", "2026-02-28T10:33:20Z", "Y"]),
        ({"numbers": "comma"}, ["1.234,5", "15-JAN-2026", "2026-02-28T10:33:20Z", "Y"]),
        ({"numbers": "comma_plain"}, ["1234,5", "15-JAN-2026", "2026-02-28T10:33:20Z", "Y"]),
        ({"typed": True}, [1234.5, "15-JAN-2026", "2026-02-28T10:33:20Z", True]),
    ],
)
async def test_cells_are_written_so(pems: Pems, writing: dict[str, Any], said: list[Any]) -> None:
    pems.sim.edit("RIO", FIRST, ODD)
    pems.sim.writing = Writing(**writing)
    row = rows_of(await pems.grid(RIO, rows=1))[0]
    assert [row[alias] for alias in LOOKED_AT] == said


@pytest.mark.parametrize(
    ("flags", "yes", "no"),
    [
        ("Y/N", "Y", "N"),
        ("Yes/No", "Yes", "No"),
        ("+/-", "+", "-"),
        ("1/0", "1", "0"),
        ("-1/0", "-1", "0"),
        ("true/false", "true", "false"),
    ],
)
async def test_flags_are_written_so(pems: Pems, flags: Any, yes: str, no: str) -> None:
    pems.sim.writing = Writing(flags=flags, screen_flags=flags)
    row = rows_of(await pems.grid(RIO, where("pfs_f_discontinued", "=", yes), rows=1))[0]
    assert (row["pfs_f_discontinued"], row["pfs_f_actualized"]) == (yes, no)
    read = values_of(await pems.screen("GET", FIRST, {}))
    assert (read["PFA_DIS"], read["PFA_ACT"]) == ({"TEXTDATA": yes}, {"TEXTDATA": no})
    service_of(await pems.screen("UPDATE", FIRST, {"PFA_ACT": {"TEXTDATA": yes}}, recordid=1))
    assert (pems.sim.record("RIO", FIRST) or {})["isActualized"] is True
    other = "N" if flags != "Y/N" else "No"
    refused = await pems.screen("UPDATE", FIRST, {"PFA_ACT": {"TEXTDATA": other}}, recordid=2)
    assert alert_of(refused) == f"{other} is not a valid Actualized"


@pytest.mark.parametrize("off", [False, "false", "FALSE", "NO", "N", "-"])
async def test_a_request_can_switch_the_locale_off(pems: Pems, off: Any) -> None:
    pems.sim.edit("RIO", FIRST, ODD)
    locale = Writing(dates="us", numbers="comma", flags="+/-", times="local", zone="America/New_York")
    pems.sim.writing = locale
    pems.sim.render()
    local, canonical = (
        ["1.234,5", "1/15/2026", "2/28/2026 05:33", "+"],
        ["1234.5", "2026-01-15", "2026-02-28 05:33:20", "+"],
    )

    async def said(**asked: Any) -> list[Any]:
        row = rows_of(await pems.grid(RIO, rows=1, **asked))[0]
        return [row[alias] for alias in LOOKED_AT]

    assert [await said(), await said(localize=True), await said(localize=off)] == [local, local, canonical]
    pems.sim.render(localized=False)
    assert await said(localize=off) == canonical
    pems.sim.writing = msgspec.structs.replace(locale, localizes=False)
    assert await said(localize=off) == local


@pytest.mark.parametrize(("records", "said"), [("total", "35"), ("page", "7"), ("null", None)])
async def test_what_records_says(pems: Pems, records: Any, said: str | None) -> None:
    pems.sim.writing = Writing(records=records)
    assert grid_of(await pems.grid(BEGINS_RIO, rows=7))["METADATA"]["RECORDS"] == said
    pems.sim.writing = Writing(records=records, shape="GRIDS")
    assert (await pems.grid(BEGINS_RIO, rows=7))["Result"]["ResultData"]["RECORDS"] == said


@pytest.mark.parametrize(
    ("more", "flags", "positions"),
    [
        ("right", ["+", "-"], ["21", ""]),
        ("absent", [None, None], [None, None]),
        ("no", ["-", "-"], ["", ""]),
        ("yes", ["+", "+"], ["21", "31"]),
    ],
)
async def test_what_is_said_of_more_rows(pems: Pems, more: Any, flags: list[Any], positions: list[Any]) -> None:
    pems.sim.writing = Writing(more=more)
    pages = [grid_of(await pems.grid(RIO, cursor=cursor, rows=10))["METADATA"] for cursor in (11, 21)]
    assert [page.get("MORERECORDPRESENT") for page in pages] == flags
    pems.sim.writing = Writing(more=more, shape="GRIDS")
    answers = [(await pems.grid(RIO, cursor=cursor, rows=10))["Result"]["ResultData"] for cursor in (11, 21)]
    assert [answer.get("NEXTCURSORPOSITION") for answer in answers] == positions


async def test_a_body_may_begin_with_a_mark(pems: Pems) -> None:
    pems.sim.writing = Writing(bom=True)
    for body in (b'{"GRID": {}}', b'{"GRID": {"GRID_NAME": "CUXX"}}'):
        content = (await pems.http.post(GRID, content=body)).content
        assert content[:4] == b"\xef\xbb\xbf{"


@pytest.mark.parametrize(
    ("writing", "alias", "value"),
    [
        ({}, "pfs_lastmodified", "2026-02-28 10:33"),
        ({}, "pfs_lastmodified", "28-FEB-2026 10:33"),
        ({}, "pfs_lastmodified", "2026-02-28T10:33:00Z"),
        ({}, "pfs_lastmodified", "2/28/2026 10:33"),
        ({"dates": "eu"}, "pfs_lastmodified", "28/02/2026 10:33"),
        ({"zone": "America/New_York"}, "pfs_lastmodified", "2026-02-28 05:33"),
        ({"zone": "America/New_York"}, "pfs_lastmodified", "2026-02-28T10:33:00Z"),
        ({"dates": "eu"}, "pfs_f_startdate", "01/02/2026"),
        ({"dates": "us"}, "pfs_f_startdate", "2/1/2026"),
        ({}, "pfs_f_startdate", "01-FEB-2026"),
        ({"numbers": "comma"}, "pfs_f_rental", "1.234,5"),
        ({"numbers": "comma"}, "pfs_f_rental", 1234.5),
        ({}, "pfs_f_rental", "1,234.5"),
        ({}, "pfs_udfchar01", "token"),
        ({}, "pfs_udfnum01", "7.5"),
        ({}, "pfs_udfdate01", "02-JAN-2026"),
    ],
)
async def test_filters_are_read_as_the_installation_writes(pems: Pems, writing: Any, alias: str, value: Any) -> None:
    fields = {"forecastStart": "2026-02-01", "monthlyRate": 1234.5, "pemsVersion": "2026-02-28T10:33:00Z"}
    pems.sim.edit("RIO", FIRST, fields | SPARE)
    pems.sim.writing = Writing(**writing)
    assert await pems.keys(RIO, where(alias, "=", value)) == ["RIO 1"]


# --- dataspies


async def test_a_dataspy_hides_rows_and_columns(pems: Pems) -> None:
    hides: dict[str, Any] = {"pfs_f_discontinued": True, "pfs_f_source": "Purchase", "pfs_f_rental": 1250}
    spies = {"7": Dataspy(hides=hides), "8": Dataspy(without=("pfs_f_model",)), "all": Dataspy()}
    async with serving(simulator(dataspies=spies, default_dataspy="7")) as pems:
        seen = [
            document["pfaId"]
            for document, _ in pems.sim.records("RIO")
            if not document["isDiscontinued"] and document["source"] != "Purchase" and document["monthlyRate"] != 1250
        ]
        assert 0 < len(seen) < 30
        assert [row["pfs_id"] for row in rows_of(await pems.grid(RIO))] == seen
        either = [where("pfs_a_org", "=", "RIO", "OR"), where("pfs_a_org", "=", "OSLO")]
        assert [row["pfs_id"] for row in rows_of(await pems.grid(*either))] == seen
        eight = rows_of(await pems.grid(RIO, DATASPY={"DATASPY_ID": 8}))
        assert (len(eight), "pfs_f_model" in eight[0]) == (30, False)
        assert len(await pems.keys(RIO, DATASPY={"DATASPY_ID": "all"})) == 30
        assert alert_of(await pems.grid(DATASPY={"DATASPY_ID": "9"})) == "9 is not a valid dataspy"


async def test_without_dataspies_none_is_known(pems: Pems) -> None:
    assert len(await pems.keys(RIO, DATASPY={})) == 30
    assert alert_of(await pems.grid(DATASPY={"DATASPY_ID": 7})) == "7 is not a valid dataspy"
    body: dict[str, Any] = {"dataspies": {"7": {"hides": {"pfs_f_dor": "PROJECT"}}}, "default_dataspy": "7"}
    assert (await pems.http.post("/sim/dataspies", json=body)).json()["default_dataspy"] == "7"
    assert {row["pfs_f_dor"] for row in rows_of(await pems.grid(RIO))} == {"BEO"}


# --- the fields that the contract does not know

SPARE = {"udfchar01": "token", "udfnum01": 7.5, "udfdate01": "2026-01-02"}


async def test_spare_fields_are_kept_and_told(pems: Pems) -> None:
    before = pems.sim.record("RIO", FIRST)
    assert pems.sim.spare("RIO", FIRST) == dict.fromkeys(SPARE)
    fields = {
        "PFS_UDFCHAR01": {"TEXTDATA": "token"},
        "PFS_UDFNUM01": number(75, 1),
        "PFS_UDFDATE01": day(Y2026, 1, 2),
    }
    answer = values_of(await pems.screen("UPDATE", FIRST, fields, recordid=1))
    assert {name: answer[name] for name in fields} == fields
    assert pems.sim.spare("RIO", FIRST) == SPARE
    assert pems.sim.record("RIO", FIRST) == (before or {}) | {"pemsVersion": "2026-03-01T12:00:30Z"}
    row = rows_of(await pems.grid(RIO, rows=1))[0]
    assert [row[f"pfs_{name}"] for name in SPARE] == ["token", "7.5", "02-JAN-2026"]
    pems.sim.edit("RIO", FIRST, {"udfchar01": '",udfchar01":', "model": "Theirs"})
    assert pems.sim.spare("RIO", FIRST) == SPARE | {"udfchar01": '",udfchar01":'}
    assert "udfchar01" not in (pems.sim.record("RIO", FIRST) or {})
    assert pems.sim.counts().applied[0].fields.keys() == SPARE.keys()
    with pytest.raises(Unusable):
        pems.sim.spare("RIO", "X")


# --- switches of the screen


@pytest.mark.parametrize(
    ("writing", "year", "month", "day_", "zone", "kept"),
    [
        ({}, 1609477200000, 12, 21, "-0500", "2021-12-21"),
        ({}, 1609459200000, 12, 21, "+0000", "2021-12-21"),
        ({}, 1609459200000, 12, 21, "-0500", None),  # the year begins somewhere else
        ({}, 1640062800000, 12, 21, "-0500", None),  # the day itself
        ({}, 1609477200000, 2, 30, "-0500", None),
        ({}, 2021, 12, 21, "-0500", None),
        ({"year": "calendar"}, 2021, 12, 21, "-0500", "2021-12-21"),
        ({"year": "calendar"}, 1609477200000, 12, 21, "-0500", None),
        ({"year": "calendar"}, 0, 12, 21, "-0500", None),
    ],
)
async def test_years_are_read_so(
    pems: Pems, writing: Any, year: int, month: int, day_: int, zone: str, kept: str | None
) -> None:
    pems.sim.writing = Writing(**writing)
    answer = await pems.screen("UPDATE", FIRST, {"PFS_F_STARTDATE": day(year, month, day_, zone)}, recordid=1)
    if kept is None:
        assert "is not a valid Forecast Start" in alert_of(answer)
    else:
        assert (pems.sim.record("RIO", FIRST) or {})["forecastStart"] == kept


async def test_years_are_written_so(pems: Pems) -> None:
    pems.sim.edit("RIO", FIRST, {"forecastStart": "2021-12-21", "forecastEnd": "2022-07-01"})

    async def dates(**writing: Any) -> list[Any]:
        pems.sim.writing = Writing(**writing)
        values = values_of(await pems.screen("GET", FIRST, {}))
        return [values["PFS_F_STARTDATE"], values["PFS_F_ENDDATE"]]

    assert await dates() == [day(1609459200000, 12, 21), day(1640995200000, 7, 1)]
    new_york = [day(1609477200000, 12, 21, "-0500"), day(1641009600000, 7, 1, "-0400")]
    assert await dates(zone="America/New_York") == new_york
    calendar = [day(2021, 12, 21, "-0500"), day(2022, 7, 1, "-0400")]
    assert await dates(zone="America/New_York", year="calendar") == calendar


@pytest.mark.parametrize(
    ("writing", "given", "kept"),
    [
        ({}, {"VALUE": 382550, "NUMOFDEC": 2, "SIGN": "+"}, "3825.50"),
        ({}, {"VALUE": "382550", "NUMOFDEC": "2", "SIGN": "+", "UOM": "x"}, "3825.50"),
        ({}, {"VALUE": 0, "NUMOFDEC": 0, "SIGN": "-"}, "0"),
        ({}, {"VALUE": 5, "NUMOFDEC": 1, "SIGN": "-"}, "-0.5"),
        ({}, {"VALUE": 3825.5, "NUMOFDEC": 2, "SIGN": "+"}, None),
        ({}, {"VALUE": -5, "NUMOFDEC": 0, "SIGN": "-"}, None),
        ({}, {"VALUE": 5, "NUMOFDEC": -1, "SIGN": "+"}, None),
        ({}, {"VALUE": 5, "NUMOFDEC": 99, "SIGN": "+"}, None),
        ({}, {"VALUE": 5, "NUMOFDEC": 0, "SIGN": "plus"}, None),
        ({}, {"VALUE": 5}, None),
        ({}, 3825.5, None),
        ({"screen_numbers": "bare"}, 3825.5, "3825.5"),
        ({"screen_numbers": "bare"}, {"VALUE": 382550, "NUMOFDEC": 2, "SIGN": "+"}, None),
        ({"screen_numbers": "bare"}, 1e300, None),
        ({"screen_numbers": "bare"}, "1,250", None),
    ],
)
async def test_numbers_of_the_screen(pems: Pems, writing: Any, given: Any, kept: str | None) -> None:
    pems.sim.writing = Writing(**writing)
    answer = await pems.screen("UPDATE", FIRST, {"PFS_F_RATE": {"NUMERICDATA": given}}, recordid=1)
    if kept is None:
        assert "is not a valid Monthly Rate" in alert_of(answer)
        return
    assert str((pems.sim.record("RIO", FIRST) or {})["monthlyRate"]) == kept
    value = values_of(answer)["PFS_F_RATE"]
    assert value == ({"NUMERICDATA": given} if writing else number(*DIGITS[kept]))


DIGITS: dict[str, tuple[int, int, str]] = {
    "3825.50": (382550, 2, "+"),
    "0": (0, 0, "+"),
    "-0.5": (5, 1, "-"),
}


@pytest.mark.parametrize("status", [400, 200])
async def test_the_status_of_an_alert(pems: Pems, status: Any) -> None:
    pems.sim.writing = Writing(alerts=status)
    body = {
        "USERDEFINEDSCREENNAME": "CUPFA2",
        "USERDEFINEDSERVICEACTION": "GET",
        "USERDEFINEDSCREENFIELDVALUELIST": {
            "USERDEFINEDSCREENFIELDVALUEPAIR": [
                {"USERDEFINEDSCREENFIELDNAME": "PFS_ID", "USERDEFINEDSCREENFIELDVALUE": {"TEXTDATA": "GONE"}},
                {"USERDEFINEDSCREENFIELDNAME": "PFS_A_ORG", "USERDEFINEDSCREENFIELDVALUE": {"TEXTDATA": "RIO"}},
            ]
        },
    }
    answer = await pems.http.post(SCREEN, json=body)
    assert answer.status_code == status
    assert answer.json() == {
        "ErrorAlert": [{"Name": "Error", "Message": "Record not found"}],
        "ConfirmationAlert": None,
        "Result": None,
    }
    assert (await pems.http.post(GRID, json={"GRID": {"GRID_NAME": "CUXX"}})).status_code == status


async def test_an_update_may_blank_what_is_not_sent(pems: Pems) -> None:
    pems.sim.edit("RIO", FIRST, SPARE)
    before = pems.sim.record("RIO", FIRST)
    assert before is not None
    pems.sim.writing = Writing(update="put")
    service_of(await pems.screen("UPDATE", FIRST, {"PFS_F_MODEL": {"TEXTDATA": "Mine"}}, recordid=2))
    after = pems.sim.record("RIO", FIRST)
    assert after is not None
    assert (after["model"], after["category"], after["isDiscontinued"]) == ("Mine", None, False)
    assert (after["originalStart"], after["contract"]) == (before["originalStart"], before["contract"])
    assert pems.sim.spare("RIO", FIRST) == dict.fromkeys(SPARE)


async def test_what_clients_write_may_be_normalized(pems: Pems) -> None:
    pems.sim.writing = Writing(normalize=True)
    fields = {
        "PFS_F_MODEL": {"TEXTDATA": " m-1 "},
        "PFS_F_MANUFACT": {"TEXTDATA": "Liebherr"},
        "PFS_F_CATEGORY": {"TEXTDATA": " Cranes "},
        "PFS_F_AREA": {"TEXTDATA": "  "},
        "PFS_F_RATE": number(12345, 3),
    }
    wanted = {
        "model": "M-1",
        "manufacturer": "LIEBHERR",
        "category": "Cranes",
        "areaSilo": None,
        "monthlyRate": "12.35",
    }
    added = values_of(await pems.screen("ADD", None, fields))
    assert (added["PFS_F_RATE"], added["PFS_F_DOR"]) == (number(1235, 2), {"TEXTDATA": "PROJECT"})
    for key in ("PFA-0000031", FIRST):
        if key == FIRST:
            await pems.screen("UPDATE", key, {**fields, "PFS_F_DOR": {"TEXTDATA": None}}, recordid=1)
        record = pems.sim.record("RIO", key) or {}
        assert {name: record[name] for name in wanted} | {"monthlyRate": str(record["monthlyRate"])} == wanted
        assert record["dor"] == "PROJECT"
    pems.sim.edit("RIO", FIRST, {"model": " as it is "})
    assert (pems.sim.record("RIO", FIRST) or {})["model"] == " as it is "


@pytest.mark.parametrize("wrong", [{"shape": "DATARECORD"}, {"zone": "Mars/Base"}, {"zone": "../x"}, {"colour": "red"}])
async def test_a_writing_that_there_is_not_is_refused(pems: Pems, wrong: dict[str, Any]) -> None:
    assert (await pems.http.post("/sim/writing", json=wrong)).status_code == 400
    with pytest.raises(msgspec.ValidationError):
        pems.sim.fault(Fault(kind="writing", writing=wrong))


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
    nowhere = await pems.http.post("/axis")
    assert (nowhere.status_code, nowhere.content) == (404, b"")
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
        (Fault(kind="login"), "unreadable", False),
        (Fault(kind="redirect"), "status", False),
        (Fault(kind="confirm"), "question", False),
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


async def pulled(pems: Pems, rows: int = 4) -> list[str]:
    """All keys of RIO by the position that the answers tell."""
    keys: list[str] = []
    cursor = 0
    while True:
        answer = await pems.grid(RIO, cursor=cursor + 1, rows=rows)
        keys += [row["pfs_id"] for row in rows_of(answer)]
        cursor = int(grid_of(answer)["METADATA"]["CURRENTCURSORPOSITION"])
        if grid_of(answer)["METADATA"]["MORERECORDPRESENT"] == "-":
            return keys


def keys_of(*numbers: int) -> list[str]:
    return [f"PFA-{each:07d}" for each in numbers]


async def test_positions_of_a_listing_bring_no_rows(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="empty", first=11, last=20))
    for _ in range(2):
        empty = grid_of(await pems.grid(RIO, cursor=11, rows=5))
        assert empty["DATA"] == {"ROW": []}
        assert empty["METADATA"] == {
            "RECORDS": "30",
            "CLIENTROWS": "0",
            "MORERECORDPRESENT": "+",
            "CURRENTCURSORPOSITION": "15",
        }
    assert await pems.keys(RIO, cursor=8, rows=5) == ["RIO 8", "RIO 9", "RIO 10"]
    # A page that begins in it ends with it: nothing after it is lost to those who go on from there.
    assert grid_of(await pems.grid(RIO, cursor=19, rows=5))["METADATA"]["CURRENTCURSORPOSITION"] == "20"
    assert await pulled(pems) == keys_of(*range(1, 11), *range(21, 31))
    pems.sim.writing = Writing(shape="GRIDS", more="no")
    answer = (await pems.grid(RIO, cursor=11, rows=5))["Result"]["ResultData"]
    assert answer == {"NEXTCURSORPOSITION": "", "RECORDS": "30", "DATARECORD": None}


async def test_a_listing_is_cut(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="cut", last=10))
    metadata = grid_of(await pems.grid(RIO, rows=8))["METADATA"]
    assert (metadata["MORERECORDPRESENT"], metadata["RECORDS"]) == ("+", "30")
    last = await pems.grid(RIO, cursor=9, rows=8)
    assert [row["pfs_id"] for row in rows_of(last)] == keys_of(9, 10)
    assert grid_of(last)["METADATA"] == {
        "RECORDS": "30",
        "CLIENTROWS": "2",
        "MORERECORDPRESENT": "-",
        "CURRENTCURSORPOSITION": "10",
    }
    assert await pems.keys(RIO, cursor=11) == []


async def test_rows_come_twice(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="duplicates", ids=("PFA-0000002", "PFA-0000004"), organization="RIO"))
    assert await pulled(pems, rows=2) == keys_of(1, 2, 2, 3, 4, 4, *range(5, 31))
    assert grid_of(await pems.grid(RIO, rows=2))["METADATA"]["RECORDS"] == "32"
    assert len(await pems.keys(where("pfs_a_org", "=", "LIMA"))) == 3
    pems.sim.clear_faults()
    pems.sim.fault(Fault(kind="duplicates", portion=0.3))
    assert 31 < len(await pulled(pems)) < 60


async def test_ids_are_padded(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="pad", ids=(FIRST,)))
    pems.sim.fault(Fault(kind="rows", ids=(FIRST,), values={"pfs_f_model": "Odd"}))
    first, second = rows_of(await pems.grid(RIO, rows=2))
    assert (first["pfs_id"], first["pfs_f_model"], second["pfs_id"]) == ("PFA-0000001 ", "Odd", "PFA-0000002")


async def test_somebody_has_to_sign_in(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="login", count=1))
    page = await pems.http.post(GRID, content=b'{"GRID": {}}')
    assert (page.status_code, page.headers["Content-Type"], "type='password'" in page.text) == (200, "text/html", True)
    pems.sim.fault(Fault(kind="redirect", count=1))
    away = await pems.http.post(GRID, content=b'{"GRID": {}}')
    assert (away.status_code, away.headers["Location"], away.content) == (302, "/login", b"")
    assert (await pems.http.get("/login")).text == page.text


@pytest.mark.parametrize("status", [400, 200])
async def test_a_write_is_answered_with_a_question(pems: Pems, status: Any) -> None:
    pems.sim.writing = Writing(alerts=status)
    pems.sim.fault(Fault(kind="confirm", name="Sure", message="The budget is exceeded. Continue?"))
    assert len(await pems.keys(RIO)) == 30
    await pems.recordid()
    pairs: dict[str, Any] = {"USERDEFINEDSCREENFIELDVALUEPAIR": []}  # nothing is read of them
    body = {"USERDEFINEDSCREENNAME": "CUPFA2", "USERDEFINEDSERVICEACTION": "ADD"}
    answer = await pems.http.post(SCREEN, json=body | {"USERDEFINEDSCREENFIELDVALUELIST": pairs})
    assert answer.status_code == status
    assert answer.json() == {
        "ErrorAlert": None,
        "ConfirmationAlert": [{"Name": "Sure", "Message": "The budget is exceeded. Continue?"}],
        "Result": None,
    }
    assert pems.sim.counts().applied == []


@pytest.mark.parametrize("text", ["0", "Fri, 01 Jan 2021 00:00:00 GMT", "soon"])
async def test_retry_after_can_say_anything(pems: Pems, text: str) -> None:
    pems.sim.fault(Fault(kind="status", status=503, retry_after_text=text))
    assert (await pems.http.post(GRID, content=b'{"GRID": {}}')).headers["Retry-After"] == text


async def test_faults_of_a_listing_wait_for_a_listing(pems: Pems) -> None:
    pems.sim.fault(Fault(kind="no_total", count=1))
    await pems.recordid()
    assert grid_of(await pems.grid(RIO))["METADATA"]["RECORDS"] is None
    assert pems.sim.faults() == []


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

    spare = {"udfchar01": "token", "udfnum01": None, "udfdate01": None}
    assert (await http.patch("/sim/records", params=here, json={"udfchar01": "token"})).status_code == 200
    assert (await http.get("/sim/spare", params=here)).json() == spare

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
    assert (await http.post("/sim/render", json={"localized": False})).status_code == 200
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
        ("POST", "/sim/faults", b'{"kind": "cut"}', 400),
        ("POST", "/sim/faults", b'{"kind": "status", "retry_after_text": "a\\r\\nb"}', 400),
        ("POST", "/sim/faults", b"{", 400),
        ("POST", "/sim/dataspies", b'{"default_dataspy": "7"}', 400),
        ("POST", "/sim/dataspies", b'{"dataspies": {"7": {"hides": {"x": 1}}}}', 400),
        ("POST", "/sim/dataspies", b'{"dataspies": {"7": {"hides": {"pfs_f_rental": "much"}}}}', 400),
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


# --- the documentation


def first_cells(heading: str) -> set[str]:
    """What is named in the first column of the table below a heading."""
    text = (Path(__file__).parent.parent / "docs" / "simulator.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return {name.strip(" `") for cell in cells for name in cell.split(",")}


def test_every_switch_and_fault_is_documented() -> None:
    assert first_cells("Switches") == set(Writing.__struct_fields__)
    assert first_cells("Faults") == set(get_args(faults.Kind))


# --- the journal


async def test_edits_survive_a_restart(tmp_path: Path) -> None:
    journal = tmp_path / "pems.jsonl"
    async with serving(simulator(journal)) as pems:
        pems.sim.edit("RIO", FIRST, {"monthlyRate": 7, **SPARE})
        pems.sim.delete("RIO", "PFA-0000002")
        service_of(await pems.screen("ADD", None, {"PFS_F_MODEL": {"TEXTDATA": "New"}}))
        pems.sim.delete("RIO", "PFA-0000031")
        before = list(pems.sim.records())
    # A line that a crash cut off was never answered.
    with journal.open("ab") as file:
        file.write(b'{"organization":"RIO","id":"PFA-00000')
    async with serving(simulator(journal)) as pems:
        assert list(pems.sim.records()) == before
        assert pems.sim.spare("RIO", FIRST) == SPARE
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
    options = ["--port", "0", "--rendered", "canonical", "--org", "RIO=1"]
    with child(*ignoring, *VANGUARD, "pems-sim", *options, stdout=subprocess.PIPE) as process:
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
