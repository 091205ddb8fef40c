"""docs/queries.md: its example is set up as the document has it, and every question is answered as it says."""

import re
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.conftest import new_database
from tests.support.own import SEMANTICS, customers, moved, ready, registered
from tests.support.querying import answered, join, previewed, refused_preview
from tests.support.world import User, open_world, written

DOCUMENT = (Path(__file__).parent.parent / "docs/queries.md").read_text(encoding="utf-8")
TEXT = {"type": "text", "indexed": True}
NUMBER = {"type": "number", "indexed": True}
FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "customers": {"customerId": {"type": "text", "editable": False}, "company": TEXT, "tier": TEXT, "credit": NUMBER},
    "orders": {
        "orderId": {"type": "text", "editable": False},
        "customer": TEXT,
        "amount": NUMBER,
        "shipped": {"type": "date"},
    },
}


class Example(NamedTuple):
    """A question of the document, and what follows it: a table, the members of a preview, or a status and a code."""

    query: dict[str, Any]
    table: list[list[str]] | None = None
    preview: dict[str, Any] | None = None
    refusal: tuple[int, str] | None = None


def rows_of(text: str) -> list[list[str]]:
    """The cells of a table of Markdown."""
    lines = [line for line in text.strip().splitlines() if not re.fullmatch(r"[|\s-]+", line) or line.count("-") < 3]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def examples() -> list[Example]:
    """In their order."""
    blocks = re.findall(r"^```json\n(.*?)^```\n\n(.*?)(?=^```|^#|\Z)", DOCUMENT, re.M | re.S)
    found = []
    for place, (block, following) in enumerate(blocks):
        read = exact_json.decode(block)
        if "query" not in read:
            continue
        if following.startswith("|"):
            found.append(Example(read["query"], table=rows_of(following.partition("\n\n")[0])))
        elif match := re.match(r"(\d{3}) `(\w+)`", following):
            found.append(Example(read["query"], refusal=(int(match[1]), match[2])))
        else:
            found.append(Example(read["query"], preview=exact_json.decode(blocks[place + 1][0])))
    return found


EXAMPLES = examples()


def value_of(cell: str, kind: str) -> Any:
    if not cell:
        return None
    return Decimal(cell) if kind == "number" else cell


@pytest.fixture(scope="module")
async def ann(server_url: str, template: str) -> AsyncIterator[User]:
    """An ANALYST, beside the datasets and the join of the example."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await ready(world)
            boss = await world.user("boss", role=Role.ADMIN)
            section = DOCUMENT.partition("## An example")[2]
            for name, table in zip(FIELDS, re.findall(r"^\|(?:.+\n)+", section, re.M), strict=False):
                await dataset(boss, name, *rows_of(table))
            await join(world, "orders.customer", "customers.customerId")
            yield await world.user("ann")


async def dataset(boss: User, name: str, head: list[str], *rows: list[str]) -> None:
    """One that is in use, and has these rows."""
    fields = FIELDS[name]
    assert head == [*fields]
    contract = {
        "name": name, "title": name, "key": head[0], "fields": [{"name": each} | fields[each] for each in head],
        "hot": [], "measures": [], "ingestion": SEMANTICS | {"idempotencyKey": [head[0]]},
    }  # fmt: skip
    await registered(boss, customers(**contract))
    await moved(boss.on(name), "promote")
    records = [
        {each: value_of(cell, fields[each]["type"]) for each, cell in zip(head, row, strict=True) if cell}
        for row in rows
    ]
    body = exact_json.encode({"records": records})
    answer = await boss.on(name).request("POST", "ingest", content=body, headers={"Content-Type": "application/json"})
    assert written(answer)["inserted"] == len(rows)


def test_the_document_has_its_examples() -> None:
    kinds = [[*filter(None, each[1:])] for each in EXAMPLES]
    assert all(len(each) == 1 for each in kinds)
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_a_question_is_answered_as_the_document_says(ann: User, example: Example) -> None:
    if example.refusal is not None:
        await refused_preview(ann, example.query, *example.refusal)
        return
    if example.preview is not None:
        preview = await previewed(ann, example.query)
        assert {name: preview[name] for name in example.preview} == example.preview
        return
    assert example.table is not None
    answer = await answered(ann, example.query)
    head, *rows = example.table
    kinds = {column["name"]: column["type"] for column in answer["columns"]}
    assert [*kinds] == head
    number = {"number", "integer"}
    wanted = [
        {name: value_of(cell, "number" if kinds[name] in number else "") for name, cell in zip(head, row, strict=True)}
        for row in rows
    ]
    assert answer["data"] == wanted
