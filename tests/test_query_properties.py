"""Queries against their model (query_model.py): random rows, drafts and questions, the same answers over HTTP.

The run of CI is short and always the same. To search further, with other examples each time:

    VANGUARD_MODEL_EXAMPLES=5000 pytest --timeout=0 -o faulthandler_timeout=0 -x tests/test_query_properties.py
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import PFA, Contract
from app.web.auth import Role
from tests.support.model import typed
from tests.support.own import moved, ready, registered
from tests.support.queries import (
    CONTRACTS,
    JOINS,
    KINDS,
    Document,
    Law,
    Side,
    Story,
    laws,
    listings,
    stories,
    summaries,
)
from tests.support.query_model import Answer, Dataset, Oracle, Question, Refused
from tests.support.world import User, World, written
from tests.test_model import examples

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

QUERY = "/api/v1/orgs/acme/query"


@pytest.fixture
async def people(world: World) -> list[User]:
    """Ann, who drafts, and bob, who does not."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return [await world.user(name) for name in ("ann", "bob")]


@pytest.fixture
async def contracts(world: World, people: list[User]) -> dict[str, Contract]:
    """The datasets in use, and the joins between them."""
    await ready(world)
    admin = await world.user("ada", role=Role.ADMIN)
    found = {"pfa": PFA}
    for contract in CONTRACTS:
        name = contract["name"]
        await registered(admin, contract)
        await moved(admin.on(name), "promote")
        standing = await world.runtime.datasets.find("acme", name)
        assert standing is not None
        found[name] = standing.contract
    await world.db.executemany(
        "INSERT INTO dataset_join (organization_id, id, version, child, child_fields, parent, parent_fields, rationale,"
        " confidence, statistics, accepted_by, accepted_at)"
        " VALUES ('acme', $1, 1, $2, $3, $4, $5, 'as the test has it', 1, '{}', 'ada', now())",
        [(join.id, join.child, join.child_fields, join.parent, join.parent_fields) for join in JOINS],
    )
    return found


# -- the world as a story has it ---------------------------------------------------------------------------------------


async def lived(world: World, contracts: Mapping[str, Contract], ann: User, story: Story) -> dict[str, Side]:
    """Nothing but the rows of a story, with what ann did to them."""
    await clean(world, contracts)
    sides = {name: Side(contract, dict(story.rows[name])) for name, contract in contracts.items()}
    for side in sides.values():
        await put(world, side.contract, side.mirror)
    for name, side in sides.items():
        await save(ann.on(name), side.draft(story.first.get(name, ())))
        if name in story.committed:
            await commit(ann.on(name))
            side.commit()
        await save(ann.on(name), side.draft(story.then.get(name, ())))
    return sides


async def clean(world: World, contracts: Mapping[str, Contract]) -> None:
    """Nothing is left of the example before, of previews either, of which one can have so many."""
    await world.db.execute("DELETE FROM query_preview")
    for contract in contracts.values():
        await world.db.execute(
            "".join(
                f"DELETE FROM {contract.schema}.{name};" for name in "mirror modification change history step".split()
            )
        )
    await world.db.execute("UPDATE workspace SET revision = revision + 1; UPDATE dataset SET revision = revision + 1")


async def put(world: World, contract: Contract, rows: Mapping[str, Document]) -> None:
    """Rows into the mirror, as they are."""
    texts = [exact_json.encode(row).decode() for row in rows.values()]
    await world.db.execute(
        f"INSERT INTO {contract.schema}.mirror (organization_id, row_key, data, revision)"
        " SELECT 'acme', line.key, line.data::jsonb, 1 FROM unnest($1::text[], $2::text[]) AS line (key, data)",
        [*rows],
        texts,
    )


async def save(user: User, drafts: Sequence[Document]) -> None:
    """Drafts that are all saved."""
    if drafts:
        written(await user.post("drafts", {"modifications": drafts}))


async def commit(user: User) -> None:
    """All drafts, if there are any."""
    response = await user.commit()
    assert response.status_code in (200, 404), response.text


def oracle_of(sides: Mapping[str, Side], *, drafted: bool) -> Oracle:
    """The model of what ann sees, or of what others see."""
    return Oracle(
        {
            name: Dataset(
                KINDS[name],
                {key: computed(side.contract, row) for key, row in (side.hers if drafted else side.mirror).items()},
                frozenset(item.name for item in side.contract.computed),
            )
            for name, side in sides.items()
        },
        JOINS,
    )


def computed(contract: Contract, row: Document) -> Document:
    """A row with what is computed of it."""
    amount = typed("number", row.get("amount"))
    return row | ({"twice": None if amount is None else amount * 2} if "twice" in contract.column_of else {})


# -- questions ---------------------------------------------------------------------------------------------------------


async def previewed(user: User, query: Document) -> Document:
    """What a preview says, or the problem."""
    answer: Document = exact_json.decode((await user.post(f"{QUERY}/preview", {"query": query})).content)
    return answer


async def asked(user: User, query: Document) -> Document:
    """The answer to a query, previewed and run; the problem where it is refused."""
    answer = await previewed(user, query)
    if "code" in answer:
        return answer
    response = await user.post(f"{QUERY}/execute", {name: answer[name] for name in ("previewId", "digest")})
    found: Document = exact_json.decode(response.content)
    return found


async def compare(user: User, oracle: Oracle, query: Document) -> None:
    """A query is answered, or refused, as the model has it."""
    found = await asked(user, query)
    wanted = answer_of(oracle, query)
    if isinstance(wanted, Refused):
        assert found.get("code") in wanted.codes, (query, found)
        return
    assert "code" not in found, (query, found)
    assert shown(oracle, query, wanted.columns, found["data"]) == rows_of(wanted), query
    assert (found["rows"], found["truncated"]) == (len(wanted.rows), wanted.truncated), query
    assert [column["name"] for column in found["columns"]] == [*wanted.columns]


def answer_of(oracle: Oracle, query: Document) -> Answer | Refused:
    """What the model says."""
    try:
        return oracle.answer(query)
    except Refused as refused:
        return refused


def rows_of(answer: Answer) -> list[list[Any]]:
    """An answer's values."""
    return [[row[name] for name in answer.columns] for row in answer.rows]


def shown(oracle: Oracle, query: Document, columns: Sequence[str], rows: Sequence[Document]) -> list[list[Any]]:
    """The values of an answer by their types, as the model has them."""
    kinds = [kind_of(oracle, query, name) for name in columns]
    return [
        [None if row[name] is None else typed(kind, row[name]) for name, kind in zip(columns, kinds, strict=True)]
        for row in rows
    ]


def kind_of(oracle: Oracle, query: Document, name: str) -> Any:
    """The type of a column."""
    for figure in query.get("aggregates", ()):
        if figure["name"] == name and figure["function"] in ("min", "max"):
            return kind_of(oracle, {**query, "aggregates": ()}, figure["field"])
        if figure["name"] == name:
            return "number"
    return Question(oracle, query).kind(name)


@pytest.mark.slow("rows, drafts and queries that nobody wrote, each checked against a model in plain Python")
@examples(50)
@given(stories(), st.lists(st.one_of(listings(), summaries(), summaries()), min_size=1, max_size=4))
async def test_every_answer_is_the_models(
    world: World, contracts: dict[str, Contract], people: list[User], story: Story, queries: list[Document]
) -> None:
    """Given rows and drafts, when a query is asked by who drafted and by who did not, then both get what they see."""
    sides = await lived(world, contracts, people[0], story)
    for user, drafted in zip(people, (True, False), strict=True):
        oracle = oracle_of(sides, drafted=drafted)
        for query in queries:
            await compare(user, oracle, query)


@examples(20)
@given(stories(), st.lists(laws(), min_size=1, max_size=3))
async def test_a_branch_changes_no_figure_of_the_root(
    world: World, contracts: dict[str, Contract], people: list[User], story: Story, laws: list[Law]
) -> None:
    """Given rows and drafts, when figures of a dataset are asked for with its children and without, they are equal."""
    await lived(world, contracts, people[0], story)
    for law in laws:
        alone, beside = [await asked(people[0], query) for query in (law.alone, law.beside)]
        assert [[row[name] for name in law.columns] for row in beside["data"]] == [
            [row[name] for name in law.columns] for row in alone["data"]
        ], law


@examples(40)
@given(st.one_of(listings(), summaries()))
async def test_a_preview_says_its_query_in_words_that_mean_the_same(
    world: World, contracts: dict[str, Contract], people: list[User], query: Document
) -> None:
    """Given the query that a preview answers with, when it is previewed, then it is the same, with the same digest."""
    await clean(world, contracts)
    first = await previewed(people[0], query)
    if "code" not in first:
        again = await previewed(people[0], first["query"])
        assert [again.get(name) for name in ("query", "digest")] == [first["query"], first["digest"]]


# -- queries that once went wrong --------------------------------------------------------------------------------------

LARGE = {"P~1": {"amount": 10**13}, "P~2": {"amount": 10**13 + 1}, "Q%7E~1": {"amount": 10**13 + 1}}
TOLD: dict[str, tuple[dict[str, Document], Document]] = {
    "an average has six digits behind the point, however many there are before it": (
        LARGE,
        {"dataset": "orders", "aggregates": [{"name": "a", "function": "average", "field": "amount"}]},
    ),
    "a field that is asked for twice has one normal form": (
        {"P~1": {"amount": 1}},
        {"dataset": "orders", "fields": ["id"], "filters": {"amount": 1, "and": [{"amount": {"in": [0]}}]}},
    ),
}


@pytest.mark.parametrize("title", TOLD)
async def test_a_query_that_once_went_wrong(
    world: World, contracts: dict[str, Contract], people: list[User], title: str
) -> None:
    orders, query = TOLD[title]
    story = Story({"regions": {}, "items": {}, "pfa": {}, "orders": orders}, {}, frozenset(), {})
    sides = await lived(world, contracts, people[0], story)
    await compare(people[0], oracle_of(sides, drafted=True), query)
