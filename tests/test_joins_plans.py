"""The plans of joins: a sample of pages, probes of the parent's index, and nothing that grows with a dataset."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from app.base.database import Connection
from app.base.statements import statement
from app.joins.sampling import SAMPLE
from tests.support.ingesting import people_of
from tests.support.joining import accepted, by_condition, candidates, filled, stored, table
from tests.support.world import User, World
from tests.test_plans import PLANNED, nodes_of, on, touched

MANY = 40_000
PARENTS = f"""
SELECT 'P' || i, jsonb_build_object('code', 'P' || i, 'badge', i * 3, 'name', 'N' || i)
  FROM generate_series(1, {MANY}) AS i
"""
CHILDREN = f"""
SELECT 'C' || i, jsonb_build_object('n', 'C' || i, 'code', 'P' || i * 7 % {MANY}, 'badge', i * 3, 'text', 'T' || i % 9)
  FROM generate_series(1, {MANY}) AS i
"""


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, with two datasets of more rows than are ever read, and what the planner knows of them."""
    people = await people_of(world)
    badge = {"hot": [{"sort": "badge"}]}
    await stored(people, table("parents", "code", "code text", "badge integer indexed", "name text", **badge), [])
    await stored(people, table("children", "n", "n text", "code text", "badge integer", "text text"), [])
    await filled(world, "parents", PARENTS)
    await filled(world, "children", CHILDREN)
    await world.db.execute("VACUUM ANALYZE")
    return people


@pytest.fixture
async def planner(database_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(PLANNED)
    yield connection
    await connection.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[Any]]]:
    """Name, text and values of every statement of joins that is run."""
    found: list[tuple[str, str, list[Any]]] = []
    rows, row = Connection.rows, Connection.row

    async def noting_rows(connection: Connection, statement: Any, /, **given: Any) -> Any:
        if statement.name.startswith("joins/"):
            found.append((statement.name, statement.text, list(statement.bind(given))))
        return await rows(connection, statement, **given)

    async def noting_row(connection: Connection, statement: Any, /, **given: Any) -> Any:
        if statement.name.startswith("joins/"):
            found.append((statement.name, statement.text, list(statement.bind(given))))
        return await row(connection, statement, **given)

    monkeypatch.setattr(Connection, "rows", noting_rows)
    monkeypatch.setattr(Connection, "row", noting_row)
    return found


async def test_what_is_read_for_candidates_is_bounded(
    people: dict[str, User], planner: "asyncpg.Connection[Any]", asked: list[tuple[str, str, list[Any]]]
) -> None:
    """Pages are sampled, and each different value costs one probe of an index: by ids, and by a hot sort."""
    conditions = {each["condition"] for each in await candidates(people["VIEWER"], "children", "parents")}
    assert {"children.code = parents.code", "children.badge = parents.badge"} <= conditions
    used = set()
    for name, text, values in list(asked):
        arguments = [list(map(str, each)) if isinstance(each, list) else each for each in values]
        nodes = await nodes_of(planner, text, arguments)
        its = on(nodes, "mirror")
        assert not [node for node in its if node["Node Type"] == "Seq Scan"], name
        sampled = [node for node in its if node["Node Type"] == "Sample Scan"]
        if name in ("joins/profile_values", "joins/probe_values"):
            assert sum(map(touched, sampled)) <= 2 * SAMPLE, name
            assert max(node["Temp Written Blocks"] for node in nodes) == 0
        probes = [node for node in its if node["Node Type"].startswith("Index")]
        assert all(node["Actual Rows"] <= 2 for node in probes) or name == "joins/measure_size", name
        used |= {node["Index Name"] for node in probes}
        if name == "joins/measure_size":
            assert sum(map(touched, its)) <= SAMPLE + 1
    assert used == {"mirror_pkey", "mirror_badge"}


async def test_each_row_of_a_child_is_read_once_before_a_join_is_accepted(
    people: dict[str, User], planner: "asyncpg.Connection[Any]", asked: list[tuple[str, str, list[Any]]]
) -> None:
    """By the index of ids, and for each different value one probe of the parent's."""
    found = by_condition(await candidates(people["VIEWER"], "children", "parents"))["children.code = parents.code"]
    asked.clear()
    await accepted(people["ADMIN"], found)
    probes = [(text, values) for name, text, values in asked if name == "joins/probe_values"]
    ((text, values),) = probes
    its = on(await nodes_of(planner, text, values), "mirror")
    assert {node["Node Type"] for node in its} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
    child, parent = sorted(its, key=lambda node: int(node["Actual Loops"]))
    assert (child["Actual Loops"], touched(child)) == (1, MANY)
    assert (parent["Index Name"], parent["Actual Loops"]) == ("mirror_pkey", MANY)
    assert parent["Actual Rows"] <= 1


async def test_few_statements_are_run(people: dict[str, User], asked: list[tuple[str, str, list[Any]]]) -> None:
    """Two of each dataset; then for each parent a first look, and a second one where that promises something."""
    await candidates(people["VIEWER"], "children", "parents")
    names = [name for name, _, _ in asked]
    assert (names.count("joins/measure_size"), names.count("joins/profile_values")) == (2, 2)
    assert names.count("joins/probe_values") <= 2 * 4


@pytest.mark.parametrize(
    ("name", "given", "index"),
    [
        ("joins/list_accepted", {}, "dataset_join_"),
        ("joins/list_joins", {"state": None, "dataset": None, "after": None, "after_id": None, "limit": 50},
         "dataset_join_at"),
        ("joins/read_join", {"id": "00000000-0000-0000-0000-000000000007"}, "dataset_join_pkey"),
        ("joins/count_uses", {"ids": ["00000000-0000-0000-0000-000000000007"], "at": "2026-01-01Z"},
         "dataset_join_pkey"),
    ],
)  # fmt: skip
async def test_joins_are_read_by_indexes(
    world: World, planner: "asyncpg.Connection[Any]", name: str, given: dict[str, Any], index: str
) -> None:
    await world.db.execute(
        "INSERT INTO dataset_join (organization_id, id, version, child, child_fields, parent, parent_fields, rationale,"
        " confidence, statistics, accepted_by, accepted_at)"
        " SELECT 'acme', ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 1, 'c' || i, '{a}', 'p', '{b}',"
        " 'so', 1, '{}', 'ann', timestamptz '2026-01-01Z' + i * interval '1 minute' FROM generate_series(1, 1000) AS i"
    )
    await world.db.execute("ANALYZE dataset_join")
    wanted = statement(name)
    nodes = await nodes_of(planner, wanted.text, wanted.bind({"organization": "acme"} | given))
    assert any(index in node.get("Index Name", "") for node in nodes)
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
