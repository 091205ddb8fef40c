"""TPC-H: its tables as datasets, its keys as joins, its questions as queries, with the answers that are published.

tests/support/tpch_questions.py is the table of all 22 questions: as queries, or why they are none.
"""

from collections.abc import AsyncIterator, Iterator
from itertools import combinations_with_replacement
from typing import Any

import duckdb
import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.conftest import new_database
from tests.support.own import ready
from tests.support.querying import answered
from tests.support.tpch import FOREIGN_KEYS, KEYS, answers, fill, generated, plain, wire
from tests.support.tpch_questions import QUESTIONS, Row, Said, Unsaid
from tests.support.world import User, open_world, written

pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.slow("86,000 rows that nobody here has made up, with their keys and with answers that others publish"),
]

ORGANIZATION = "/api/v1/orgs/acme"
SURE = 0.8  # from here on a candidate is said to be of high confidence
FALSE = 1  # candidates at that confidence that no key is declared for: sizes, 1 to 50, look like numbers of suppliers

Candidate = dict[str, Any]
Ends = tuple[str, tuple[str, ...], str, tuple[str, ...]]

DECLARED: set[Ends] = {
    (child, tuple(map(wire, fields)), parent, tuple(map(wire, KEYS[parent]))) for child, fields, parent in FOREIGN_KEYS
}


@pytest.fixture(scope="module")
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables where they come from."""
    with generated() as connection:
        yield connection


@pytest.fixture(scope="module")
async def ada(server_url: str, template: str, tables: duckdb.DuckDBPyConnection) -> AsyncIterator[User]:
    """An ADMIN of a world with the eight tables."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await ready(world)
            ada = await world.user("ada", role=Role.ADMIN)
            await fill(world, tables, await world.user("eve", role=Role.ENGINEER), ada)
            yield ada


@pytest.fixture(scope="module")
async def suggested(ada: User) -> dict[Ends, Candidate]:
    """What is suggested between any two of the datasets, and between each and itself."""
    found = {}
    for left, right in combinations_with_replacement(KEYS, 2):
        response = await ada.get(f"{ORGANIZATION}/joins/candidates", {"left": left, "right": right})
        assert response.status_code == 200, response.text
        for candidate in exact_json.decode(response.content)["data"]:
            child, parent = candidate["child"], candidate["parent"]
            ends = (child["dataset"], tuple(child["fields"]), parent["dataset"], tuple(parent["fields"]))
            found[ends] = candidate
    return found


@pytest.fixture(scope="module")
async def analyst(ada: User, suggested: dict[Ends, Candidate]) -> User:
    """Who asks, after the declared keys were accepted as joins."""
    for ends in sorted(DECLARED):
        body = {"candidateId": suggested[ends]["candidateId"], "rationale": "TPC-H declares it"}
        written(await ada.post(f"{ORGANIZATION}/joins/accept", body), 201)
    return await ada.world.user("ann")


async def test_each_table_is_a_dataset_with_all_of_its_rows(ada: User, tables: duckdb.DuckDBPyConnection) -> None:
    for table in KEYS:
        (rows,) = tables.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
        assert (await ada.on(table).page(pageSize=1))["pagination"]["totalRecords"] == rows, table


async def test_every_declared_key_is_suggested(suggested: dict[Ends, Candidate]) -> None:
    assert suggested.keys() >= DECLARED


async def test_few_that_are_not_declared_are_of_high_confidence(suggested: dict[Ends, Candidate]) -> None:
    sure = {ends for ends, candidate in suggested.items() if candidate["confidence"] >= SURE}
    assert len(sure - DECLARED) <= FALSE, sure - DECLARED


def test_every_question_is_a_query_or_has_a_reason_why_it_is_none() -> None:
    assert [*QUESTIONS] == [*range(1, 23)]
    assert [number for number, found in QUESTIONS.items() if isinstance(found, Unsaid)] == [
        2,
        9,
        11,
        13,
        17,
        18,
        20,
        21,
        22,
    ]


@pytest.mark.parametrize("number", [number for number, found in QUESTIONS.items() if isinstance(found, Said)])
async def test_a_question_has_the_answer_that_is_published(
    analyst: User, tables: duckdb.DuckDBPyConnection, number: int
) -> None:
    said = QUESTIONS[number]
    assert isinstance(said, Said)
    answer = await answered(analyst, said.query)
    rows: list[Row] = [tuple(row[name] for name in said.columns) for row in answer["data"]]
    assert [tuple(map(plain, row)) for row in said.read(rows)] == answers(tables)[number]
