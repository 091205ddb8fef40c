"""The simulator's grid drifts: columns are called otherwise, go, come, change their form or their places."""

import re
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest

from app.simulator import Columns
from tests.test_simulator import (
    ALIASES,
    FIRST,
    RIO,
    Pems,
    alert_of,
    first_cells,
    grid_of,
    rows_of,
    serving,
    simulator,
    where,
)

RATE, MODEL = "pfs_f_rental", "pfs_f_model"


@pytest.fixture
async def pems(anyio_backend: str) -> AsyncIterator[Pems]:
    async with serving(simulator()) as found:
        yield found


async def change(pems: Pems, *changes: dict[str, Any]) -> None:
    answer = await pems.http.post("/sim/columns", json=list(changes))
    assert answer.status_code == 200, answer.text


def fields_of(answer: Any) -> list[tuple[str, str]]:
    """Number and alias of each column, as the headers say."""
    return [(field["aliasnum"], field["name"]) for field in grid_of(answer)["FIELDS"]["FIELD"]]


def numbered(answer: Any, row: int = 0) -> list[tuple[str, Any]]:
    """Number and value of each cell of a row."""
    return [(cell["n"], cell["value"]) for cell in grid_of(answer)["DATA"]["ROW"][row]["D"]]


def count_from_one(each: list[Any]) -> list[tuple[str, Any]]:
    return [(str(n), one) for n, one in enumerate(each, 1)]


# --- renamed


async def test_a_column_is_called_otherwise(pems: Pems) -> None:
    before = rows_of(await pems.grid(RIO))
    await change(pems, {"renamed": {RATE: "pfs_f_rate"}})
    answer = await pems.grid(RIO)
    assert fields_of(answer) == count_from_one([alias if alias != RATE else "pfs_f_rate" for alias in ALIASES])
    assert rows_of(answer) == [
        {alias if alias != RATE else "pfs_f_rate": value for alias, value in row.items()} for row in before
    ]


@pytest.mark.parametrize(
    ("shape", "rows", "cells", "name"),
    [
        ("CELL", "ROW", "CELL", "ALIAS_NAME"),
        ("DATAFIELD", "DATARECORD", "DATAFIELD", "FIELDNAME"),
        ("GRIDS", "DATARECORD", "DATAFIELD", "FIELDNAME"),
    ],
)
async def test_every_shape_calls_it_so(pems: Pems, shape: str, rows: str, cells: str, name: str) -> None:
    await pems.http.post("/sim/writing", json={"shape": shape})
    await change(pems, {"renamed": {RATE: 'a "rate" in %s'}, "dropped": [MODEL]})
    told = (await pems.grid(RIO))["Result"]["ResultData"]
    row = (told if shape == "GRIDS" else told["GRID"]["DATA"])[rows][0]
    names = [cell[name] for cell in row[cells]]
    assert names == ['a "rate" in %s' if alias == RATE else alias for alias in ALIASES if alias != MODEL]


async def test_filters_and_sorts_know_the_new_name_only(pems: Pems) -> None:
    high = where(RATE, ">=", "2,000")
    before = await pems.keys(RIO, high, ADDON_SORT={"ALIAS_NAME": RATE})
    assert 0 < len(before) < 30
    await change(pems, {"renamed": {RATE: "rate", "pfs_id": "line", "pfs_a_org": "code"}})
    of_rio = where("code", "=", "RIO")
    rows = rows_of(await pems.grid(of_rio, where("rate", ">=", "2,000"), ADDON_SORT={"ALIAS_NAME": "rate"}))
    assert [f"{row['code']} {int(row['line'][4:])}" for row in rows] == before
    assert len(rows_of(await pems.grid(of_rio, where("line", "<=", "PFA-0000004")))) == 4
    assert alert_of(await pems.grid(high)) == "pfs_f_rental is not a valid alias"
    assert alert_of(await pems.grid(ADDON_SORT={"ALIAS_NAME": RATE})) == "pfs_f_rental is not a valid alias"
    assert alert_of(await pems.grid(where("rate", "LIKE", "2"))) == "LIKE is not a valid operator of rate"


# --- dropped


async def test_a_column_is_gone_and_the_numbers_after_it_shift(pems: Pems) -> None:
    before = await pems.grid(RIO)
    await change(pems, {"dropped": [RATE, "pfs_udfnum01"]})
    headed, headless = await pems.grid(RIO), await pems.grid(RIO, headed=False)
    left = [alias for alias in ALIASES if alias not in (RATE, "pfs_udfnum01")]
    assert fields_of(headed) == count_from_one(left)
    assert rows_of(headed) == [{alias: row[alias] for alias in left} for row in rows_of(before)]
    assert grid_of(headless)["DATA"] == grid_of(headed)["DATA"]
    assert numbered(headless)[8:10] == [("9", ""), ("10", "JLG")]
    assert alert_of(await pems.grid(where(RATE, "=", "1"))) == "pfs_f_rental is not a valid alias"


# --- added


async def test_a_column_comes_with_a_value_in_each_line(pems: Pems) -> None:
    before = rows_of(await pems.grid(RIO))
    await change(pems, {"added": {"pfs_tag": "TAG-{id}", "pfs_site": 7, "pfs_note": ""}})
    answer = await pems.grid(RIO)
    assert fields_of(answer) == count_from_one([*ALIASES, "pfs_tag", "pfs_site", "pfs_note"])
    assert rows_of(answer) == [
        {**row, "pfs_tag": f"TAG-{row['pfs_id']}", "pfs_site": 7, "pfs_note": ""} for row in before
    ]
    assert alert_of(await pems.grid(where("pfs_tag", "=", "x"))) == "pfs_tag is not a valid alias"


async def test_it_may_stand_before_another_and_shift_the_numbers(pems: Pems) -> None:
    before = numbered(await pems.grid(RIO))
    await change(pems, {"added": {"pfs_tag": "new"}, "before": RATE})
    headless = numbered(await pems.grid(RIO, headed=False))
    assert headless == count_from_one([value for _, value in before[:8]] + ["new"] + [value for _, value in before[8:]])


async def test_one_goes_and_one_comes_and_the_numbers_do_not_tell(pems: Pems) -> None:
    before = [value for _, value in numbered(await pems.grid(RIO))]
    await change(pems, {"dropped": [RATE], "added": {"pfs_tag": "new"}})
    assert numbered(await pems.grid(RIO, headed=False)) == count_from_one([*before[:8], *before[9:], "new"])


# --- retyped


@pytest.mark.parametrize(
    ("alias", "form", "values"),
    [
        (RATE, "text", r"about \d+(\.\d+)?"),
        (RATE, "date", r"\d\d-[A-Z]{3}-20\d\d"),
        ("pfs_f_startdate", "number", r"(\d{1,3},)?\d{1,3}"),
        ("pfs_f_discontinued", "text", r"about (True|False)"),
        ("pfs_equipment_tag", "date", r"\d\d-[A-Z]{3}-20\d\d"),
        (MODEL, "flag", r"Y|N"),
        ("pfs_lastmodified", "number", r"(\d{1,3},)?\d{1,3}"),
    ],
)
async def test_values_come_in_another_form(pems: Pems, alias: str, form: str, values: str) -> None:
    before = rows_of(await pems.grid(RIO))
    await change(pems, {"retyped": {alias: form}})
    after = rows_of(await pems.grid(RIO))
    for old, new in zip(before, after, strict=True):
        assert bool(new[alias]) is bool(old[alias]), "what is empty stays so"
        assert not new[alias] or re.fullmatch(values, new[alias])
        assert {**old, alias: None} == {**new, alias: None}
    assert any(row[alias] for row in after)
    assert rows_of(await pems.grid(RIO)) == after


async def test_they_are_written_as_everything_else(pems: Pems) -> None:
    await pems.http.post("/sim/writing", json={"typed": True, "dates": "iso"})
    await change(
        pems, {"retyped": {MODEL: "number", "pfs_f_category": "date", "pfs_f_class": "flag", "pfs_id": "text"}}
    )
    row = rows_of(await pems.grid(RIO))[0]
    assert isinstance(row[MODEL], int)
    assert isinstance(row["pfs_f_class"], bool)
    assert date.fromisoformat(row["pfs_f_category"])
    assert row["pfs_id"] == FIRST, "this is its form"


# --- swapped


async def test_contents_change_places_under_unchanged_names(pems: Pems) -> None:
    before = await pems.grid(RIO)
    await change(pems, {"swapped": [[RATE, MODEL], ["pfs_f_startdate", "pfs_f_enddate"]]})
    answer = await pems.grid(RIO)
    others = {
        RATE: MODEL, MODEL: RATE, "pfs_f_startdate": "pfs_f_enddate", "pfs_f_enddate": "pfs_f_startdate",
    }  # fmt: skip
    assert grid_of(answer)["FIELDS"] == grid_of(before)["FIELDS"]
    swapped = [{alias: row[others.get(alias, alias)] for alias in row} for row in rows_of(before)]
    assert rows_of(answer) == swapped
    # What a column holds is what filters compare.
    found = rows_of(await pems.grid(RIO, where(RATE, "BEGINS", "4")))
    assert found == [row for row in swapped if row[RATE].startswith("4")] != []


async def test_crosswise_names_say_the_same(pems: Pems) -> None:
    await change(pems, {"swapped": [[RATE, MODEL]]})
    swapped = rows_of(await pems.grid(RIO))
    await change(pems, {"renamed": {RATE: MODEL, MODEL: RATE}})
    renamed = await pems.grid(RIO)
    assert rows_of(renamed) == swapped
    assert [name for _, name in fields_of(renamed)][8:12] == [MODEL, "pfs_f_purchase", "pfs_f_manufacturer", RATE]


async def test_all_of_it_at_once(pems: Pems) -> None:
    before = rows_of(await pems.grid(RIO))
    await change(
        pems,
        {
            "renamed": {RATE: "rate"},
            "dropped": [MODEL],
            "added": {MODEL: "new {id}"},
            "swapped": [[RATE, "pfs_f_purchase"], [MODEL, "pfs_f_class"]],
            "retyped": {"pfs_f_purchase": "text"},
        },
    )
    for old, new in zip(before, rows_of(await pems.grid(RIO)), strict=True):
        assert new["rate"] == old["pfs_f_purchase"]
        assert new["pfs_f_purchase"] == (f"about {old[RATE].replace(',', '')}" if old[RATE] else "")
        assert new["pfs_f_class"] == old[MODEL]
        assert new[MODEL] == f"new {old['pfs_id']}"


# --- when


async def test_it_begins_between_two_pages(pems: Pems) -> None:
    await change(
        pems,
        {"after": 2, "of": "RIO", "renamed": {RATE: "rate", "pfs_a_org": "code"}},
        {"after": 3, "dropped": [MODEL]},
    )
    first, lima = await pems.grid(RIO, rows=2), await pems.grid(where("pfs_a_org", "=", "LIMA"))
    second = await pems.grid(RIO, rows=2, cursor=3)
    third = await pems.grid(rows=2, cursor=5)
    assert fields_of(first) == fields_of(lima) == fields_of(second) == count_from_one(ALIASES)
    # Both have come, and the last one is in place of the other.
    assert fields_of(third) == count_from_one([alias for alias in ALIASES if alias != MODEL])


async def test_everything_is_taken_back(pems: Pems) -> None:
    before = await pems.grid(RIO)
    await change(pems, {"renamed": {RATE: "rate"}}, {"after": 1, "dropped": [RATE]})
    assert (await pems.http.get("/sim/columns")).json()["renamed"] == {RATE: "rate"}
    assert (await pems.http.delete("/sim/columns")).status_code == 200
    assert [await pems.grid(RIO), await pems.grid(RIO)] == [before, before]


# --- beside it


async def test_rows_written_beforehand_are_written_again(pems: Pems) -> None:
    pems.sim.render()
    await change(pems, {"dropped": [RATE]})
    assert RATE not in rows_of(await pems.grid(RIO))[0]


async def test_faults_and_switches_name_a_column_as_it_was(pems: Pems) -> None:
    await change(pems, {"renamed": {RATE: "rate", "pfs_id": "line"}, "dropped": ["pfs_f_area"]})
    await pems.http.post("/sim/writing", json={"without": [MODEL]})
    await pems.http.post("/sim/faults", json=[{"kind": "rows", "values": {RATE: "much"}}, {"kind": "pad"}])
    row = rows_of(await pems.grid())[0]
    assert (row["rate"], row["line"], MODEL in row) == ("much", f"{FIRST} ", False)


async def test_the_screen_is_not_touched(pems: Pems) -> None:
    before = await pems.screen("GET", FIRST, {})
    await change(pems, {"renamed": {RATE: "rate"}, "dropped": [MODEL]})
    assert await pems.screen("GET", FIRST, {}) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"renamed": {"colour": "color"}},
        {"renamed": {RATE: MODEL}},
        {"renamed": {RATE: "x", MODEL: "x"}},
        {"dropped": ["colour"]},
        {"retyped": {"colour": "text"}},
        {"retyped": {RATE: "time"}},
        {"swapped": [[RATE, "colour"]]},
        {"swapped": [[RATE]]},
        {"added": {RATE: "x"}},
        {"added": {"x": 1}, "before": "x"},
        {"added": {"x": 1}, "before": RATE, "dropped": [RATE]},
        {"after": -1},
        {"moved": [RATE]},
    ],
)
async def test_what_columns_cannot_do(pems: Pems, wrong: dict[str, Any]) -> None:
    answer = await pems.http.post("/sim/columns", json=wrong)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert fields_of(await pems.grid(RIO)) == count_from_one(ALIASES)


def test_everything_that_columns_do_is_documented() -> None:
    assert first_cells("Columns that drift") == set(Columns.__struct_fields__) - {"after", "of"}
