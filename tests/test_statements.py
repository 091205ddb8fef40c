"""Every file of sql/: loads, is documented, prepares on every contract's schema, and returns what Python reads."""

import re
from collections.abc import AsyncIterator, Iterator
from keyword import iskeyword
from typing import Any

import asyncpg
import pytest

from app.base.statements import ROOT, STATEMENTS, Statement, read_statement, statement
from app.contracts import Contract
from app.contracts.filters import read_listing
from app.contracts.images import parts, qualified
from app.engine.page import PageComposer
from tests.conftest import new_database
from tests.support.samples import with_samples
from tests.support.world import CONTRACTS

Connection = asyncpg.Connection


@pytest.fixture(scope="module")
def prepared_url(server_url: str, template: str) -> Iterator[str]:
    """One database for the whole file: preparing a statement changes nothing."""
    with new_database(server_url, template) as url:
        yield url


@pytest.fixture
async def connection(prepared_url: str) -> AsyncIterator["Connection[Any]"]:
    """A connection that acts as the application does."""
    connection = await asyncpg.connect(prepared_url)
    await connection.execute("SET ROLE vanguard_app")
    await connection.execute(statement("worker/make_staging").text)
    yield connection
    await connection.close()


RUNNABLE = sorted(name for name in STATEMENTS if not name.startswith("schema/"))

# What Python reads of the records, beside the files' own headers.
STANDING = {"revision", "require_approval", "state", "schema_name", "contract_version", "incarnation"}
COLUMNS = {
    "drafts/save_drafts": {
        "id", "problem", "modification_id", "version", "mirror_version", "sync_state", "empty", "held_rows",
        "held_bytes", "held_known", "more_rows", "more_bytes",
    },
    "undo/turn_steps": {
        "row_key", "changed", "skipped", "code", "held_rows", "held_bytes", "held_known", "more_rows", "more_bytes",
    },
    "idempotency/claim_key": {"expired", "keys", "bytes"},
    "drafts/read_drafts": {"revision", "workspace_revision", "incarnation", "feed_number", "total", "body", "last_key"},
    "kpis/read_kpis": {
        "revision", "workspace_revision", "view_revision", "grouped", "base_row_count", "mine_row_count", "mine_drafts",
        "base_sum_plan_cost", "mine_sum_plan_cost", "doubtful",
    },
    "migrate/read_shape": {"shape"},
    "migrate/read_folding": {"folding"},
    "kpis/read_views": {"organizations", "cells"},
    "locks/lock_dataset": STANDING,
    "locks/hold_dataset": STANDING,
    "locks/read_dataset": STANDING,
    "locks/raise_workspace": {"revision", "state", "incarnation", "feed_number", "absent", "refused"},
    "commits/freeze_drafts": {"row_key", "op", "before", "after", "conflicts", "imaged", "left_out"},
    "commits/resolve_drafts": {"row_key", "written"},
    "selection/select_drafts": {"row_key", "version", "draft_op", "pending_state", "absent", "elsewhere"},
    "rows/read_page": {
        "revision", "workspace_revision", "incarnation", "feed_number", "body", "keys", "reached", "last_key",
        "last_values", "base_count", "left_count", "landed_count",
    },
    "rows/read_row": {"body", "doc", "version", "op", "computed"},
    "exports/read_rows": {"line"},
    "etags/read_revisions": {"revision", "workspace_revision"},
}  # fmt: skip


def on_contract(item: Statement, contract: Contract) -> Statement:
    """The statement as the application runs it: images filled from the contract, other markers as the file has them."""
    known = parts(contract)
    if item.markers and item.markers <= known.keys():
        return qualified(item, contract)
    return item.within(contract.schema)


@pytest.mark.parametrize("name", RUNNABLE)
async def test_a_statement_runs_as_it_stands(connection: "Connection[Any]", name: str) -> None:
    """Given a file of sql/, when PostgreSQL prepares it, then its parameters and columns are the documented ones."""
    item = statement(name)
    prepared = await connection.prepare(on_contract(item, CONTRACTS[0]).text)
    columns = {attribute.name for attribute in prepared.get_attributes()}
    header = header_of(item)
    documented = {int(number) for number in re.findall(r"\$(\d+)", header)}
    assert documented == set(range(1, len(prepared.get_parameters()) + 1)), "the header explains each parameter"
    assert len(item.parameters) == len(prepared.get_parameters()), "and names it"
    assert COLUMNS.get(name, columns) == columns
    if {"row_key", "id", "revision"} & columns:
        assert all(column in header for column in columns), "the header names what comes out"
    if not (item.markers - parts(CONTRACTS[1]).keys()):
        await connection.prepare(on_contract(item, CONTRACTS[1]).text)


@pytest.mark.parametrize("name", RUNNABLE)
async def test_a_file_runs_in_psql_as_it_is(connection: "Connection[Any]", name: str) -> None:
    """The text between its markers is one that fits the built-in schema: nothing is filled, nothing qualified."""
    prepared = await connection.prepare((ROOT / f"{name}.sql").read_text(encoding="utf-8"))
    assert len(prepared.get_parameters()) == len(statement(name).parameters)


def header_of(item: Statement) -> str:
    """The comment that a file starts with."""
    lines = []
    for text in item.text.splitlines():
        if not text.startswith("--"):
            break
        lines.append(text)
    return "\n".join(lines)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_file_says_what_it_does(name: str) -> None:
    header = header_of(statement(name))
    assert len(header) > 40
    assert (ROOT / f"{name}.sql").read_text(encoding="utf-8").endswith("\n")


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_line_is_longer_than_120_characters(name: str) -> None:
    assert [line for line in statement(name).text.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_parameter_can_be_given_by_its_name(name: str) -> None:
    """Given the names in a header, when Python calls by them, then the values come in the order of the numbers."""
    names = statement(name).parameters
    assert all(each.isidentifier() and each.islower() and not iskeyword(each) for each in names)
    given = {each: number for number, each in enumerate(names, 1)}
    assert statement(name).bind(dict(reversed(given.items()))) == tuple(range(1, len(names) + 1))


def test_a_parameter_that_is_missing_or_unknown_is_said_at_once() -> None:
    item = read_statement("rows/lock", "-- Lock rows. $1 organization, $2 keys (text[]).\nSELECT $1, $2;\n")
    assert item.parameters == ("organization", "keys")
    with pytest.raises(TypeError, match=r"^rows/lock misses keys$"):
        item.bind({"organization": "acme"})
    with pytest.raises(TypeError, match=r"^rows/lock has no key, user$"):
        item.bind({"organization": "acme", "keys": [], "user": "ann", "key": "A"})
    with pytest.raises(TypeError, match=r"^rows/lock misses keys and has no key$"):
        item.bind({"organization": "acme", "key": "A"})


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("$1 organization, $3 keys", "not 1, 2 and on"),
        ("$2 keys", "not 1, 2 and on"),
        ("$0 organization, $1 keys", "not 1, 2 and on"),
        ("$1 keys, $2 keys", "two parameters one name"),
        ("$1 organization, $2 (text[] keys)", r"no name for \$2"),
        ("$1 organization, $2\n-- keys", r"no name for \$2"),
        ("$1 from, $2 keys", r"no name for \$1"),
        ("$1 organization, $2 keys. Beyond $1 and on.", r"two names for \$1"),
    ],
)
def test_a_header_that_does_not_name_each_parameter_once_is_refused(header: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^rows/thing: .*{said}"):
        read_statement("rows/thing", f"-- Read a thing. {header}\nSELECT 1;\n")


def test_a_header_may_come_back_to_a_parameter_and_a_body_needs_no_names() -> None:
    text = "-- Read. $1 organization, $2 keys (of $1), $2: each once.\nSELECT $1, $2; -- $2 again\n"
    assert read_statement("rows/thing", text).parameters == ("organization", "keys")
    assert read_statement("schema/thing", text).parameters == ()
    assert read_statement("rows/thing", "SELECT $1;").parameters == ()


def test_a_filled_statement_on_another_schema_keeps_its_parameters() -> None:
    page = statement("rows/read_page")
    filled = page.fill(**dict.fromkeys(page.markers, "TRUE")).within("fleet")
    assert filled.parameters == page.parameters == ("organization", "dataset", "user", "offset", "limit")


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_the_text_between_image_markers_is_the_samples(name: str) -> None:
    """Else `python -m tests.support.samples` writes it anew."""
    assert with_samples(statement(name)) == statement(name).text


def test_what_is_missing_is_counted_as_it_is_found() -> None:
    """The condition stands in all three statements: a function would be planned anew for each row."""
    texts = [statement(f"worker/{name}_missing").text for name in ("count", "find", "sample")]
    conditions = [re.findall(r"CASE\n.*?\n +END", text, re.DOTALL) for text in texts]
    assert conditions[0] == conditions[1] == conditions[2] != []


def test_a_missing_file_or_marker_fails_at_once() -> None:
    with pytest.raises(KeyError):
        statement("rows/no_such_file")
    with pytest.raises(KeyError, match="markers"):
        statement("rows/estimate_count").fill()
    with pytest.raises(KeyError, match="markers"):
        statement("rows/estimate_count").fill(filter="TRUE", other="TRUE")


def test_statements_follow_their_dataset_to_its_schema() -> None:
    for name in RUNNABLE:
        assert "pfa." not in statement(name).within("fleet").text


LISTINGS: list[list[tuple[str, str]]] = [
    [],
    [("sort", "-id")],
    [("search", "x"), ("syncState", "pristine,draft")],
    [("fields", "depot,seats"), ("include", "overlap")],
    [("include", "computed,layers"), ("sort", "mileage")],
    [("include", "deleted,layers"), ("sort", "-remark,seats"), ("depot", "a"), ("search", "x"), ("syncState", "draft")],
    [("depot", "a"), ("depot", "b"), ("seats[gt]", "3"), ("remark[contains]", "x"), ("sort", "-remark,depot")],
    [("inspectedOn[isnull]", "true"), ("kind[ne]", "Bus"), ("page", "7"), ("pageSize", "1000")],
]


@pytest.mark.parametrize("parameters", LISTINGS)
async def test_composed_pages_prepare_on_another_contract(
    connection: "Connection[Any]", parameters: list[tuple[str, str]]
) -> None:
    listing = read_listing(CONTRACTS[1], parameters)
    composer = PageComposer(CONTRACTS[1], listing, "acme", "ann")
    for counted in (False, True):
        page = composer.page(None, counted=counted, base_count=counted)
        prepared = await connection.prepare(page.statement.text)
        assert len(prepared.get_parameters()) == len(page.arguments)
    estimate = composer.estimate()
    await connection.fetch(estimate.statement.text, *estimate.arguments)


@pytest.mark.parametrize("sql", ["UPDATE pfa.history SET op = op", "DELETE FROM pfa.history", "TRUNCATE pfa.history"])
async def test_history_can_be_added_to_and_nothing_else(connection: "Connection[Any]", sql: str) -> None:
    """The application's role may insert and read history, not change it."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(sql)
