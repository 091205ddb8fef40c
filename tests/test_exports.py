"""The caller's view as a file."""

import csv
import io
from decimal import Decimal
from typing import Any

from app.base import exact_json
from tests.support.world import NEW, User, World, line


async def table(user: User, query: str = "") -> list[list[str]]:
    """A CSV file as the standard library reads it."""
    response = await user.get(f"export?format=csv&{query}")
    assert response.status_code == 200, response.text
    return list(csv.reader(io.StringIO(response.text, newline="")))


async def objects(user: User, query: str = "") -> list[dict[str, Any]]:
    """An NDJSON file, numbers as Decimals."""
    response = await user.get(f"export?format=ndjson&{query}")
    assert response.status_code == 200, response.text
    return [exact_json.decode(each) for each in response.content.splitlines()]


async def test_a_file_has_the_rows_of_the_list(world: World, ann: User) -> None:
    """Given drafts of every kind, then a file has what a list has, whatever is filtered and sorted by."""
    await world.mirror({f"L{n}": line(monthlyRate=n, equipment=f"E{n}") for n in range(1, 7)})
    await ann.draft("L2", op="delete")
    await ann.draft("L3", {"monthlyRate": 99})
    await ann.draft("L4", {"equipment": "drafted"})
    await ann.draft("L5", {"model": "M"})
    assert (await ann.commit("L5")).status_code == 200
    await ann.draft("new", NEW | {"monthlyRate": Decimal("50.00")}, op="insert")
    for query in (
        "", "sort=monthlyRate", "sort=-monthlyRate", "sort=equipment,-id", "sort=-forecastCost", "search=drafted",
        "monthlyRate[gt]=3", "equipment[isnull]=false&sort=-equipment", "syncState=draft",
        "syncState=pristine,committed", "category=Nothing", "sort=forecastStart&category=Cranes", "id[in]=L1,new",
    ):  # fmt: skip
        rows = exact_json.decode((await ann.get(f"rows?{query}&include=computed")).content)["data"]
        expected = [{**row["data"], **row["computed"], "pfaId": row["id"]} for row in rows]
        found = await objects(ann, f"{query}&include=computed")
        assert [{name: value for name, value in row.items() if value is not None} for row in found] == [
            {name: value for name, value in row.items() if value is not None} for row in expected
        ], query
        head, *lines = await table(ann, f"{query}&include=computed")
        assert lines == [[text(row[name]) for name in head] for row in found], query


def text(value: Any) -> str:
    """As a cell of CSV shows it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
