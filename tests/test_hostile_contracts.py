"""Contracts by somebody who means harm, or knows no better: refused with a path, or bounded; never run, never a 500."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.own import SEMANTICS, customers, moved, ready, registered
from tests.support.whole import whole
from tests.support.world import User, World, committed, open_world, refused

QUICK = 5.0  # seconds that a refusal takes at most, on a machine that has other things to do


@pytest.fixture
async def erin(world: World) -> User:
    """An ENGINEER, in a system that takes contracts."""
    await ready(world)
    return await world.user("erin", role=Role.ENGINEER)


async def register(user: User, contract: Any) -> httpx.Response:
    """The answer to a contract, whatever it is."""
    content = contract if isinstance(contract, bytes) else exact_json.encode(contract)
    return await user.request(
        "POST",
        f"/api/v1/orgs/{user.organization}/contracts",
        content=content,
        headers={"Content-Type": "application/json"},
    )


def with_field(name: str, **more: Any) -> dict[str, Any]:
    """A contract with one field more."""
    contract = customers()
    return contract | {"fields": [*contract["fields"], {"name": name, "type": "text"} | more]}


def with_computed(expression: str, **more: Any) -> dict[str, Any]:
    """A contract with a column computed."""
    return customers(computed=[{"name": "made", "type": "number", "expression": expression} | more])


def with_rule(**rule: Any) -> dict[str, Any]:
    """A contract with a rule."""
    return customers(rules=[{"code": "ODD", "message": "It is odd."} | rule])


INJECTION = """x'); DROP SCHEMA pfa CASCADE; --"""
ODD_NAMES = [
    "", " ", "a b", "Upper", "1st", "a-b", "a.b", "a;b", 'a"b', "a'b", "a$b", "ä", "a\u0000", "a\n", "a/*b", "a--b",
    "café", "\uff21\uff22", "id\u200b", "x" * 41, "_x", "__proto__", "f_id", INJECTION, "\u202eabc", "🐧",
]  # fmt: skip
ODD_DATASETS = [
    "", "pfa", "Pfa", "customers@2", "../x", "a/b", "..", "own-1", "a b", "a;b", "a'b", 'a"b', "a%2fb", "x" * 41,
    "pfa@1", "a\n", "ä", "$comment$", INJECTION,
]  # fmt: skip
# Names that look like something that is there, and are good names of one's own, since no schema is called by them.
PLAIN_DATASETS = ["public", "own_1", "pg_catalog", "vanguard", "information_schema", "select", "dataset", "mirror"]


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_field_of_an_odd_name_is_refused_at_its_path(world: World, erin: User, name: str) -> None:
    before = await whole(world)
    told = refused(await register(erin, with_field(name)), 422, "VALIDATION_FAILED")
    assert any(error["parameter"].startswith("fields[5].name") for error in told["errors"]), told
    assert await whole(world) == before


@pytest.mark.parametrize("name", ODD_DATASETS)
async def test_a_dataset_of_an_odd_name_is_refused(world: World, erin: User, name: str) -> None:
    before = await whole(world)
    answer = await register(erin, customers(name=name))
    assert answer.status_code in (409, 422), answer.text
    if answer.status_code == 422:
        assert any(error["parameter"] == "name" for error in answer.json()["errors"]), answer.text
    assert await whole(world) == before


@pytest.mark.parametrize("name", PLAIN_DATASETS)
async def test_a_dataset_called_like_something_that_is_there_is_apart_from_it(
    world: World, erin: User, name: str
) -> None:
    before = await whole(world)
    await registered(erin, customers(name=name))
    after = await whole(world)
    fresh = {table: found for table, found in after.items() if before.get(table) != found}
    assert not [table for table in fresh if table.startswith(("pfa.", "fleet.", "vanguard."))]
    assert (await erin.on(name).get("rows")).status_code == 200


@pytest.mark.parametrize("place", ["fields", "computed"])
async def test_two_of_one_name_are_refused_at_both_places(erin: User, place: str) -> None:
    contract = customers(computed=[{"name": "made", "type": "number", "expression": "revenue * 2"}])
    contract[place] = [*contract[place], contract[place][-1]]
    told = refused(await register(erin, contract), 422, "VALIDATION_FAILED")
    last = len(contract[place]) - 1
    paths = [error["parameter"] for error in told["errors"]]
    assert {f"{place}[{last - 1}].name", f"{place}[{last}].name"} <= set(paths)


KEYWORDS = ["select", "from", "where", "table", "user", "order", "group", "null", "default", "primary", "end", "all"]


async def test_fields_called_by_keywords_work_from_end_to_end(world: World, erin: User) -> None:
    fields = [{"name": word, "type": "integer", "indexed": True} for word in KEYWORDS]
    fields[0] |= {"type": "enum", "values": ["a", "b"], "dimension": True}
    fields[1] |= {"type": "text"}
    contract = customers(
        name="select",
        key="key",
        fields=[{"name": "key", "type": "text", "editable": False}, *fields],
        hot=[{"sort": "order", "filters": ["where"]}, {"sort": "table"}],
        measures=[{"name": "sum", "kind": "sum", "of": "order"}, {"name": "max", "kind": "max", "of": "end"}],
        computed=[{"name": "limitless", "type": "number", "expression": "order * 2 + end"}],
        ingestion=SEMANTICS | {"idempotencyKey": ["key"]},
    )
    answer = await register(erin, contract)
    assert answer.status_code == 201, answer.text
    boss = (await world.user("boss", role=Role.ADMIN)).on("select")
    await moved(boss, "promote")
    row = {word: number for number, word in enumerate(KEYWORDS)} | {"select": "a", "from": "x'; --"}
    await boss.draft("K1", row, op="insert")
    await boss.draft("K2", row | {"order": 50, "select": "b"}, op="insert")
    await committed(boss)
    await boss.draft("K1", {"order": 70})
    assert [each["id"] for each in await boss.rows(sort="-order", include="computed")] == ["K1", "K2"]
    assert [each["id"] for each in await boss.rows(**{"where": "2", "order[gt]": "60"})] == ["K1"]
    assert [each["id"] for each in await boss.rows(**{"from": "x'; --", "sort": "limitless"})] == ["K2", "K1"]
    kpis = exact_json.decode((await boss.get("kpis", {"groupBy": "select"})).content)
    assert (kpis["totals"]["baseline"]["sum"], kpis["totals"]["mine"]["sum"]) == (55, 120)
    export = await boss.get("export", {"format": "csv"})
    assert export.status_code == 200
    assert "K2" in export.text
    assert (await boss.get("rows/K1/history")).status_code == 200


# -- too much of it ----------------------------------------------------------------------------------------------------

TOO_MUCH: dict[str, Callable[[], Any]] = {
    "fields": lambda: customers(fields=[{"name": f"f{n}", "type": "text", "editable": False} for n in range(10_000)]),
    "values": lambda: with_field("kind", type="enum", values=[f"v{n}" for n in range(20_000)]),
    "a value": lambda: with_field("kind", type="enum", values=["v" * 200_000]),
    "indexed values": lambda: with_field("kind", type="enum", values=["ü" * 3000], indexed=True, dimension=True),
    "indexed columns": lambda: customers(
        fields=[
            *customers()["fields"],
            *({"name": f"f{n}", "type": "number", "indexed": True} for n in range(190)),
        ]
    ),
    "dimensions": lambda: customers(
        fields=[
            *customers()["fields"],
            *({"name": f"f{n}", "type": "boolean", "indexed": True, "dimension": True} for n in range(30)),
        ]
    ),
    "rules": lambda: customers(
        rules=[
            {"type": "required", "field": "company", "code": "A", "message": "m", "id": f"r{n}"} for n in range(5000)
        ]
    ),
    "hot sorts": lambda: customers(hot=[{"sort": "revenue", "filters": ["company", "tier"]}] * 500),
    "a hot sort of long texts": lambda: customers(
        fields=[
            *customers()["fields"],
            *({"name": f"f{n}", "type": "text", "indexed": True, "maxLength": 500} for n in range(6)),
        ],
        hot=[{"sort": "f0", "filters": ["f1", "f2", "f3", "f4", "f5"]}],
    ),
    "nesting": lambda: b'{"name": "customers", "measures": %b}' % (b"[" * 900 + b"]" * 900),
    "more nesting": lambda: b'{"name": "customers", "measures": %b}' % (b"[" * 50_000 + b"]" * 50_000),
    "a title": lambda: customers(title="t" * 300_000),
    "an expression": lambda: with_computed("+".join(["revenue"] * 50_000)),
    "a nested expression": lambda: with_computed("(" * 5000 + "revenue" + ")" * 5000),
    "signs": lambda: with_computed("-" * 5000 + "revenue"),
    "a product": lambda: with_computed(" * ".join(["revenue"] * 200)),
    "a version": lambda: customers(version=f"{10**30}.0"),
    "digits": lambda: customers(maxQuarantined=10**400),
    "a range": lambda: with_field("odd", type="number", minimum=10**3000, maximum=10**3001),
    "a length": lambda: with_field("odd", maxLength=10**12, indexed=True),
    "a scale": lambda: with_field("odd", type="number", scale=10**6),
}


@pytest.mark.timed
@pytest.mark.parametrize("what", TOO_MUCH)
async def test_a_contract_with_too_much_of_something_is_refused_soon_with_its_path(
    world: World, erin: User, what: str
) -> None:
    before, started = await whole(world), time.perf_counter()
    answer = await register(erin, TOO_MUCH[what]())
    assert time.perf_counter() - started < QUICK
    assert answer.status_code in (400, 413, 422), answer.text[:500]
    if answer.status_code == 422:
        assert answer.json()["errors"][0].get("parameter") or "bytes" in answer.text
    assert len(answer.content) < 200_000
    assert await whole(world) == before


RAW = {
    "half of a pair": rb'{"name": "customers", "title": "\ud800"}',
    "a NUL": rb'{"name": "customers", "title": "a\u0000b"}',
    "a NUL in a name": rb'{"na\u0000me": "customers"}',
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "no number": b'{"name": NaN}',
    "an endless one": b'{"maxQuarantined": 1e999999999}',
    "a small one": b'{"maxQuarantined": 1e-999999999}',
    "a list": b"[]",
    "null": b"null",
    "a text": b'"customers"',
    "nothing": b"",
    "open brackets": b"[" * 100_000,
    "open objects": b'{"a":' * 100_000,
    "a name twice": b'{"name": "a", "name": "b"}',
}


@pytest.mark.parametrize("what", RAW)
async def test_a_body_that_is_no_contract_is_refused(world: World, erin: User, what: str) -> None:
    before = await whole(world)
    answer = await register(erin, RAW[what])
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["code"] not in ("INTERNAL_ERROR",)
    assert await whole(world) == before


@pytest.mark.parametrize(
    "member", ["fields", "hot", "measures", "computed", "rules", "ingestion", "key", "atomicGroups"]
)
@pytest.mark.parametrize("value", [None, 1, "x", True, [], {}, [None], [[]], [{}], {"a": 1}, ["x", 1], -1.5])
async def test_a_member_that_is_something_else_is_refused_or_as_good_as_nothing(
    world: World, erin: User, member: str, value: Any
) -> None:
    answer = await register(erin, customers(**{member: value}))
    assert answer.status_code in (201, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["errors"], answer.text


# -- what would be run -------------------------------------------------------------------------------------------------

WORDS = [
    INJECTION,
    "$comment$; DROP SCHEMA pfa CASCADE; $comment$",
    "/*{image}*/ x /*{}*/",
    "-- x",
    "*/ DROP SCHEMA pfa CASCADE; /*",
    "pfa.mirror",
    "{c} {p} $1 %s %(x)s",
    "\\'; \\",
    "E'\\x27'",
    "$$ $1 $body$",
    "\u2028 \ufeff \u202e",
]


@pytest.mark.parametrize("words", WORDS)
async def test_words_are_kept_as_they_are_wherever_a_contract_has_some(world: World, erin: User, words: str) -> None:
    """Title, source, labels, descriptions, values, messages, and texts in expressions and patterns."""
    fields = [dict(field) for field in customers()["fields"]]
    fields[1] |= {"label": words, "description": words}
    fields[2]["values"] = ["gold", words]
    literal = "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"
    contract = customers(
        title=words,
        source=words,
        fields=fields,
        computed=[
            {"name": "odd", "type": "number", "expression": f"company == {literal} ? 1 : 0"},
            {"name": "same", "type": "text", "expression": f"tier == {literal} ? {literal} : 'no'"},
        ],
        measures=[{"name": "odds", "kind": "sum", "of": "odd"}],
    )
    answer = await register(erin, contract)
    assert answer.status_code == 201, answer.text
    boss = (await world.user("boss", role=Role.ADMIN)).on("customers")
    await moved(boss, "promote")
    await boss.draft("C1", {"company": words, "tier": words, "revenue": 1}, op="insert")
    await boss.draft("C2", {"company": "plain", "tier": "gold", "revenue": 1}, op="insert")
    seen = [row["computed"] for row in await boss.rows(include="computed", sort="id")]
    await committed(boss)
    rows = await boss.rows(include="computed", sort="id")
    assert [row["computed"] for row in rows] == seen == [{"odd": 1, "same": words}, {"odd": 0, "same": "no"}]
    assert [row["id"] for row in await boss.rows(tier=words)] == ["C1"]
    assert [row["id"] for row in await boss.rows(company=words, sort="-same")] == ["C1"]
    assert exact_json.decode((await boss.get("kpis", {"groupBy": "tier"})).content)["totals"]["mine"]["odds"] == 1
    assert (await boss.get("export", {"format": "csv"})).status_code == 200
    kept = (await boss.get("/api/v1/orgs/acme/contracts/customers/1.0")).json()["contract"]
    assert (kept["title"], kept["source"], kept["fields"][2]["values"][1]) == (words, words, words)
    odcs = await boss.get("/api/v1/orgs/acme/contracts/customers/1.0", {"format": "odcs"})
    assert odcs.status_code == 200, odcs.text


@pytest.mark.parametrize(
    "expression",
    [
        "revenue / 0", "revenue % 0", "1 / (revenue - revenue)", "revenue / revenue",
        "revenue * 99999999999999999999999999999999", "revenue * revenue * revenue * revenue", "-revenue",
        "revenue > 0 ? revenue / (revenue - 5) : 0", "company == null ? 1 : 2",
    ],
)  # fmt: skip
async def test_what_is_computed_fails_for_the_row_alone(world: World, erin: User, expression: str) -> None:
    """Overflows and divisions by zero are nulls, or refused with the contract; never an error of a save or a list."""
    answer = await register(erin, with_computed(expression))
    if answer.status_code == 422:
        assert answer.json()["errors"][0]["parameter"].startswith("computed[0]")
        return
    assert answer.status_code == 201, answer.text
    boss = (await world.user("boss", role=Role.ADMIN)).on("customers")
    await moved(boss, "promote")
    for number, revenue in enumerate((0, 5, -1, "9" * 30, None)):
        value = revenue if revenue is None else exact_json.decode(str(revenue).encode())
        sent = {"modifications": [{"id": f"C{number}", "op": "insert", "delta": {"revenue": value}}]}
        assert (await boss.post("drafts", sent)).status_code in (200, 422)
    before = [(row["id"], row["computed"]) for row in await boss.rows(include="computed", sort="id")]
    await committed(boss)
    assert [(row["id"], row["computed"]) for row in await boss.rows(include="computed", sort="id")] == before
    assert (await boss.get("rows", {"sort": "-made"})).status_code == 200


@pytest.mark.timed
@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|aa)+$", "(.*a){25}", "a{1000}{1000}", "(?=a)", "\\1", "[", "(", "*", "a" * 100_000, "\\p{L}+"],
)  # fmt: skip
async def test_a_pattern_is_refused_or_judges_a_text_soon(world: World, erin: User, pattern: str) -> None:
    rule = {"type": "pattern", "field": "company", "pattern": pattern, "code": "ODD", "message": "It is odd."}
    started = time.perf_counter()
    answer = await register(erin, with_rule(**rule))
    assert time.perf_counter() - started < QUICK
    assert answer.status_code in (201, 422), answer.text[:500]
    if answer.status_code == 422:
        assert answer.json()["errors"][0]["parameter"].startswith("rules"), answer.text[:500]
        return
    boss = (await world.user("boss", role=Role.ADMIN)).on("customers")
    await moved(boss, "promote")
    started = time.perf_counter()
    sent = {"modifications": [{"id": "C1", "op": "insert", "delta": {"company": "a" * 400 + "!"}}]}
    assert (await boss.post("drafts", sent)).status_code in (200, 422)
    await boss.commit()
    assert time.perf_counter() - started < QUICK


# -- how much an organization has --------------------------------------------------------------------------------------


async def test_an_organization_has_so_many_datasets_and_fields_and_no_more(database_url: str) -> None:
    async with open_world(database_url, max_datasets=2, max_dataset_fields=14) as world:
        await world.organization("acme")
        await world.organization("rival")
        await ready(world)
        erin = await world.user("erin", role=Role.ENGINEER)
        other = await world.user("eve", "rival", Role.ENGINEER)
        first = (await registered(erin, customers(name="one")))["contract"]
        await registered(erin, customers(name="two"))
        told = refused(await register(erin, customers(name="three")), 409, "QUOTA_EXCEEDED")
        assert "VANGUARD_MAX_DATASETS" in told["detail"]
        more = [{"name": f"more{number}", "type": "text"} for number in range(5)]
        wide = first | {"version": "1.1", "fields": [*first["fields"], *more]}
        told = refused(await register(erin, wide), 409, "QUOTA_EXCEEDED")
        assert "VANGUARD_MAX_DATASET_FIELDS" in told["detail"]
        await registered(erin, first | {"version": "1.1", "fields": [*first["fields"], *more[:4]]})
        await registered(other, customers(name="one"))
        assert (await erin.request("DELETE", "/api/v1/orgs/acme/contracts/two/1.0")).status_code == 204
        await registered(erin, customers(name="three"))
