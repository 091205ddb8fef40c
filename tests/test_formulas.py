"""Computed columns by an expression: what they come to, in Python, in the mirror, in drafts and in KPIs."""

from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import Contract
from app.contracts.expressions import ExpressionError, Formula, parse_formula
from app.contracts.model import SQL_TYPES, FieldType
from app.contracts.values import write_datetime
from app.migrate import migrate
from tests.conftest import new_database
from tests.support.world import FLEET, User, World, committed, ids, open_world, refused, vehicle
from tests.test_expressions import CONTRACT, DOCUMENTS, TYPES, expressions
from tests.test_model import examples

COMPUTED = [
    {"name": "perSeat", "type": "number", "expression": "seats > 0 ? mileage / seats : null", "format": "money"},
    {"name": "rows", "type": "integer", "expression": "seats - seats % 4 + 0"},
    {"name": "used", "type": "boolean", "expression": "inService && !(remark == 'doc, data (doc,') && mileage > 0"},
    {"name": "place", "type": "text", "expression": "depot == null ? 'no doc' : depot"},
    {"name": "due", "type": "date", "expression": "inspectedOn == null ? firstDay : inspectedOn"},
    {"name": "heard", "type": "datetime", "expression": "seenAt > datetime('2026-01-01T00:00:00Z') ? seenAt : null"},
]
DEPOT: Contract = msgspec.convert(
    msgspec.to_builtins(FLEET)
    | {
        "name": "depot",
        "schema": "depot",
        "computed": COMPUTED,
        "hot": [{"sort": "perSeat"}, {"sort": "place", "descending": True}, {"sort": "heard"}],
        "measures": [
            {"name": "perSeat", "kind": "sum", "of": "perSeat"},
            {"name": "used", "kind": "count", "of": "used"},
            {"name": "lastHeard", "kind": "max", "of": "heard"},
        ],
        "derived": [],
        "bounds": [{"name": "firstDue", "kind": "min", "of": "due"}],
    },
    Contract,
)


def column(name: str) -> str:
    return CONTRACT.reader(name, "doc")


@pytest.fixture(scope="module")
def depot_template(server_url: str) -> Iterator[str]:
    with new_database(server_url) as url:
        migrate(url, (DEPOT,))
        yield url


@pytest.fixture
def depot_url(server_url: str, depot_template: str) -> Iterator[str]:
    with new_database(server_url, depot_template) as url:
        yield url


@pytest.fixture
async def world(depot_url: str) -> AsyncIterator[World]:
    async with open_world(depot_url, (DEPOT,)) as world:
        await world.organization("acme", (DEPOT,))
        yield world


@pytest.fixture
async def ann(world: World) -> User:
    return (await world.user("ann")).on("depot")


ROWS: dict[str, dict[str, Any]] = {
    "A": vehicle(mileage=1000, seats=3, inspectedOn="2026-02-01", seenAt="2026-01-01T00:00:00.5Z"),
    "B": vehicle(mileage=10, seats=0, depot=None, firstDay="2026-01-01", seenAt="2025-12-31T23:59:59Z"),
    "C": vehicle(mileage=None, seats=9, inService=None, remark="doc, data (doc,"),
    "D": vehicle(mileage="many", seats=-7, inService=False, inspectedOn="never", seenAt="yesterday"),
    "E": {},
}


async def test_a_row_shows_what_the_expressions_come_to(world: World, ann: User) -> None:
    """Of the mirror, of drafts, of a new row: the same as in Python."""
    await world.mirror(ROWS, contract=DEPOT)
    for key in ("A", "B"):
        row = {name: value for name, value in ROWS[key].items() if name != "scrapped"}
        await ann.draft(f"{key}2", row, op="insert")
    await ann.draft("A", {"seats": 4, "seenAt": "2026-03-01T00:00:00Z"})
    rows = await ann.rows(include="computed")
    assert len(rows) == 7
    for row in rows:
        expected = {name: formula.value(row["data"]) for name, formula in DEPOT.formulas.items()}
        assert row["computed"] == {name: shown(value) for name, value in expected.items()}, row["id"]
    assert {row["id"]: row["computed"]["perSeat"] for row in rows if row["id"] in "AB"} == {"A": 250, "B": None}


def shown(value: Any) -> Any:
    """A value as an answer has it."""
    match value:
        case datetime():
            return write_datetime(value)
        case date():
            return value.isoformat()
    return value


async def test_computed_columns_are_filtered_sorted_and_paged_by(world: World, ann: User) -> None:
    await world.mirror(ROWS, contract=DEPOT)
    assert ids(await ann.rows(**{"perSeat[gt]": "333.3"})) == ["A"]
    assert ids(await ann.rows(used="true")) == ["A", "B"]
    assert ids(await ann.rows(rows="8")) == ["C"]
    assert ids(await ann.rows(place="no doc")) == ["B", "E"]
    assert ids(await ann.rows(**{"heard[isnull]": "false"})) == ["A"]
    assert ids(await ann.rows(due="2026-01-01")) == ["B"]
    for sort in ("perSeat", "-place", "heard", "-heard", "due,-rows"):
        wanted = ids(await ann.rows(sort=sort))
        found: list[str] = []
        cursor = None
        for _ in range(len(ROWS)):
            page = await ann.page(sort=sort, pageSize=1, **({"after": cursor} if cursor else {}))
            found += ids(page["data"])
            cursor = page["pagination"]["nextCursor"]
        assert (found, cursor) == (wanted, None), sort


async def test_kpis_follow_the_expressions(world: World, ann: User) -> None:
    await world.mirror(ROWS, contract=DEPOT)
    await ann.draft("A", {"mileage": 30, "seenAt": "2026-06-01T08:00:00.25Z", "inspectedOn": "2025-01-01"})
    answer = exact_json.decode((await ann.get("kpis")).content)
    base, mine = answer["totals"]["baseline"], answer["totals"]["mine"]
    assert (base["perSeat"], base["used"], base["lastHeard"]) == (
        Decimal("333.33333333333333333333"), 2, "2026-01-01T00:00:00.5Z",
    )  # fmt: skip
    assert (mine["perSeat"], mine["used"], mine["lastHeard"]) == (10, 2, "2026-06-01T08:00:00.25Z")
    assert answer["totals"]["difference"]["lastHeard"] == Decimal("13075199.75")
    assert [answer["bounds"][side]["firstDue"] for side in ("baseline", "mine")] == ["2026-01-01", "2025-01-01"]
    await committed(ann)
    assert exact_json.decode((await ann.get("kpis")).content)["totals"]["baseline"]["perSeat"] == 10


async def test_a_file_has_them(world: World, ann: User) -> None:
    await world.mirror({"A": ROWS["A"]}, contract=DEPOT)
    text = (await ann.get("export", {"format": "csv", "fields": "perSeat,rows,used,place,due,heard"})).text
    assert text == (
        "plate,perSeat,rows,used,place,due,heard\r\n"
        "A,333.33333333333333333333,0,true,North,2026-02-01,2026-01-01T00:00:00.5Z\r\n"
    )


async def test_a_computed_column_cannot_be_drafted(world: World, ann: User) -> None:
    await world.mirror({"A": ROWS["A"]}, contract=DEPOT)
    body = {"modifications": [{"id": "A", "delta": {"perSeat": 1}}]}
    assert refused(await ann.post("drafts", body), 422, "VALIDATION_FAILED")["errors"][0]["code"] == "UNKNOWN_FIELD"


# -- the same in Python and in PostgreSQL ------------------------------------------------------------------------------

KINDS: dict[str, tuple[FieldType, ...]] = {
    "number": ("number", "integer"), "text": ("text",), "boolean": ("boolean",), "date": ("date",),
    "datetime": ("datetime",),
}  # fmt: skip


@st.composite
def formulas(draw: st.DrawFn) -> tuple[str, FieldType]:
    """An expression, and the type of a column that it may make."""
    of = draw(st.sampled_from(sorted(KINDS)))
    return draw(expressions(of, 3)), draw(st.sampled_from(KINDS[of]))


@pytest.fixture(scope="module")
def database(server_url: str, template: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with the readers."""
    with new_database(server_url, template) as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.mark.no_cover
@examples(20)
@given(st.lists(formulas(), min_size=10, max_size=30), st.lists(DOCUMENTS, min_size=3, max_size=10))
def test_a_generated_column_has_what_python_has(
    database: psycopg.Connection[Any], given: list[tuple[str, FieldType]], documents: list[dict[str, Any]]
) -> None:
    """Generated and indexed: what is not immutable, raises or is too long for a B-tree would be refused."""
    made = [formula for text, kind in given if (formula := parsed(text, kind)) is not None]
    columns = "".join(
        f", c{place} {SQL_TYPES[formula.type]} GENERATED ALWAYS AS ({formula.sql(column)}) STORED"
        for place, formula in enumerate(made)
    )
    database.execute(f"CREATE TEMPORARY TABLE row (doc jsonb, place integer{columns})".encode())
    try:
        for place in range(len(made)):
            database.execute(f"CREATE INDEX ON row (c{place})".encode())
        for place, document in enumerate(documents):
            database.execute(
                "INSERT INTO row (doc, place) VALUES (%s::text::jsonb, %s)",
                (exact_json.encode(document).decode(), place),
            )
        found = database.execute("SELECT * FROM row ORDER BY place", prepare=False).fetchall()
    finally:
        database.execute("DROP TABLE row")
    for document, row in zip(documents, found, strict=True):
        for formula, value in zip(made, row[2:], strict=True):
            assert value == formula.value(document), (formula.text, document)


def parsed(text: str, kind: FieldType) -> Formula | None:
    """The formula; None where a column cannot have it, for one of the reasons that there are."""
    try:
        return parse_formula(text, TYPES, kind)
    except ExpressionError as error:
        told = ("a column has", "looks at no field", "no digits behind", "more than")
        return None if any(why in str(error) for why in told) else pytest.fail(str(error))
