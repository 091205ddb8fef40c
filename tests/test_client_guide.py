"""The client's documents: every example runs as it stands, against a real server, and prints what it says."""

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import ALONE, Api, serving
from tests.support.world import line
from vanguard_client import LiveTable, MemoryDataSet, RestDataSet, Vanguard

CLIENT = Path(__file__).parents[1] / "clients/python"
GUIDE = CLIENT / "docs/guide.md"
DOCUMENTS = (CLIENT / "README.md", GUIDE)


def examples(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)


def promised(example: str) -> list[str]:
    """What its prints say that they print."""
    return re.findall(r"^ *print\(.*\)  # (.+)$", example, re.M)


async def run(example: str, names: dict[str, Any]) -> list[str]:
    """What an example prints."""
    printed = StringIO()
    code = compile(example, "an example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with redirect_stdout(printed):
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running
    return printed.getvalue().splitlines()


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    """A server with the organization demo and its lines. They have no system of record: what is committed is there."""
    async with serving(database_url, **{ALONE: "yes"}) as api:
        await api.world.organization("demo")
        lines = {"PFA-0000001": line(), "PFA-0000002": line(model="LTM 1050"), "PFA-0000003": line(category="Pumps")}
        await api.world.mirror(lines, "demo")
        yield api


@pytest.fixture
async def names(api: Api, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """What the examples speak of."""
    ann, bob = await api.world.user("ann", "demo"), await api.world.user("bob", "demo")
    moved = asyncio.Event()

    async def until(holds: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                moved.clear()
                await moved.wait()

    async with (
        Vanguard(api.url, token=lambda: ann.token) as server,
        Vanguard(api.url, token=lambda: bob.token) as another,
    ):

        async def somebody_else_changes(id: str, **fields: Any) -> None:
            await RestDataSet(another, "demo", "pfa").patch(id, fields)

        shown: list[Any] = []
        yield {
            "url": api.url, "fresh_token": lambda: ann.token, "server": server, "moved": moved, "folder": tmp_path,
            "highlight": shown.append, "show_error": shown.append, "show_warning": shown.append,
            "user_wants_to_retry": lambda error: False, "somebody_else_changes": somebody_else_changes, "until": until,
        }  # fmt: skip


async def test_every_example_of_the_guide_prints_what_it_says(names: dict[str, Any]) -> None:
    struct, *others = examples(GUIDE)
    await run(struct, names)
    cranes = RestDataSet(names["server"], "demo", "pfa", record=names["Line"], filters={"category": "Cranes"})
    names["cranes"] = cranes
    async with LiveTable(cranes, MemoryDataSet()) as table:
        table.on_event(lambda event: names["moved"].set())
        for example in others:
            names |= {"table": table, "cranes": cranes}
            assert await run(example, names) == promised(example), example


async def test_the_example_of_the_readme_runs(names: dict[str, Any], api: Api) -> None:
    (example,) = examples(CLIENT / "README.md")
    await run(example.replace("https://vanguard.example", api.url), names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_line_of_an_example_is_cut_off(document: Path) -> None:
    assert max(len(each) for example in examples(document) for each in example.splitlines()) <= 120
