"""What a client is told about a dataset, so that it needs to know nothing of PFA."""

from typing import Any

import httpx
import msgspec
import pytest

from app.base import exact_json
from app.contracts import PFA, Contract
from app.contracts.columns import columns_of, label_of
from app.contracts.filters import OPERATORS
from app.web.auth import Role
from tests.support.records import begin_session
from tests.support.world import FLEET, User, World, committed, line, refused, vehicle, written


async def ask(user: User, **options: Any) -> httpx.Response:
    """GET D."""
    return await user.get(f"/api/v1/orgs/{user.organization}/datasets/{user.dataset}", **options)


async def told(user: User) -> dict[str, Any]:
    answer = await ask(user)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def columns(user: User) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in (await told(user))["columns"]}


async def test_a_dataset_says_what_it_is(world: World, ann: User) -> None:
    found = await told(ann)
    assert {name: found[name] for name in ("name", "title", "contractVersion", "key")} == {
        "name": "pfa", "title": PFA.title, "contractVersion": PFA.version, "key": "pfaId",
    }  # fmt: skip
    assert (found["revision"], found["requireApproval"]) == (0, False)
    await world.db.execute("UPDATE dataset SET revision = 7, require_approval = TRUE WHERE name = 'pfa'")
    found = await told(ann)
    assert (found["revision"], found["requireApproval"]) == (7, True)
    assert (await told(ann.on("fleet")))["title"] == FLEET.title


async def test_every_field_and_computed_column_is_told_in_the_order_of_the_contract(ann: User) -> None:
    for contract, user in ((PFA, ann), (FLEET, ann.on("fleet"))):
        found = (await told(user))["columns"]
        assert [column["name"] for column in found] == [*contract.by_name, *(item.name for item in contract.computed)]
        computed = {item.name for item in contract.computed}
        assert {column["name"] for column in found if column["computed"]} == computed
        assert not [column["name"] for column in found if column["computed"] and column["editable"]]


async def test_a_column_says_how_it_is_shown_and_edited(ann: User) -> None:
    found = await columns(ann)
    assert found["monthlyRate"] == {
        "name": "monthlyRate", "label": "Monthly rate", "description": "Rental per month", "type": "number",
        "format": "money", "scale": None, "values": [], "editable": True, "nullable": True, "computed": False,
        "filterable": True, "operators": [op for op in OPERATORS if op not in ("contains", "startswith")],
        "sortable": True, "fast": True, "searchable": False, "groupable": False, "merge": "atomic",
        "rules": found["monthlyRate"]["rules"],
    }  # fmt: skip
    assert (found["dor"]["label"], found["dor"]["values"]) == ("DOR", ["BEO", "PROJECT"])
    assert (found["planCost"]["label"], found["planCost"]["format"]) == ("Plan cost", "money")
    assert not found["pfaId"]["editable"]
    assert not found["pfaId"]["nullable"]
    assert found["equipment"]["format"] is None


async def test_a_label_is_made_of_the_name_where_the_contract_has_none() -> None:
    assert label_of("forecastStart") == "Forecast start"
    assert label_of("dor") == "Dor"
    assert label_of("x") == "X"
    assert all(column.label.strip() for column in columns_of(PFA))


async def test_a_column_carries_its_rules_with_their_bounds(ann: User) -> None:
    found = await columns(ann)
    assert {"type": "range", "min": 0, "severity": "ERROR", "id": "monthlyRate:range"} in found["monthlyRate"]["rules"]
    [ordered] = [rule for rule in found["forecastEnd"]["rules"] if rule["type"] == "ordered"]
    assert (ordered["first"], ordered["second"]) == ("forecastStart", "forecastEnd")
    assert found["planCost"]["rules"] == []


def test_a_field_that_a_rule_always_wants_is_not_nullable() -> None:
    """As far as the rule keeps a row from being committed, and says so of every row."""
    document = {
        "depot": {"type": "not_null", "field": "depot"},
        "kind": {"type": "required", "fields": ["kind"]},
        "seats": {"type": "not_null", "field": "seats", "severity": "WARNING"},
        "mileage": {"type": "required", "fields": ["mileage"], "newRowsOnly": True},
        "remark": {"type": "required", "fields": ["remark"], "when": "scrapped", "equals": True},
    }
    contract = fleet(rules=list(document.values()))
    nullable = {column.name: column.nullable for column in columns_of(contract)}
    assert {name: nullable[name] for name in ("plate", *document)} == {
        "plate": False, "depot": False, "kind": False, "seats": True, "mileage": True, "remark": True,
    }  # fmt: skip


def fleet(**other: Any) -> Contract:
    """The fleet's contract with other members."""
    return msgspec.convert(msgspec.to_builtins(FLEET) | other, Contract)


async def test_what_a_column_can_be_asked_for_is_answered(world: World, ann: User) -> None:
    """Given every operator of every column, and every sort, when rows are listed by it, then none is refused."""
    await world.mirror({"A": line()})
    samples = {"text": "a", "number": "1", "integer": "1", "boolean": "true", "date": "2026-01-01"}
    for name, column in (await columns(ann)).items():
        for op in OPERATORS:
            value = "true" if op == "isnull" else (column["values"] or [samples.get(column["type"])])[0]
            parameter = name if op == "eq" else f"{name}[{op}]"
            answer = await ann.get("rows", {parameter: value})
            assert answer.status_code == (200 if op in column["operators"] else 400), (parameter, answer.text)
        for sort in (name, f"-{name}"):
            assert (await ann.get("rows", {"sort": sort})).status_code == 200


async def test_fast_sorts_are_those_that_have_an_index(ann: User) -> None:
    found = await told(ann)
    assert {"sort": "id", "filters": []} in found["fastSorts"]
    assert {"sort": "-forecastStart", "filters": []} in found["fastSorts"]
    assert {"sort": "forecastStart", "filters": ["category", "source"]} in found["fastSorts"]
    fast = {column["name"] for column in found["columns"] if column["fast"]}
    assert fast == {"forecastStart", "forecastEnd", "category", "monthlyRate"}
    vehicles = await columns(ann.on("fleet"))
    assert (vehicles["mileage"]["fast"], vehicles["inspectedOn"]["fast"]) == (True, False), "only within a depot"


async def test_what_can_be_searched_and_grouped_by(ann: User) -> None:
    found = await columns(ann)
    assert {name for name, column in found.items() if column["searchable"]} == set(PFA.searched)
    assert {name for name, column in found.items() if column["groupable"]} == set(PFA.dimensions)


async def test_measures_are_what_kpis_show(world: World, ann: User) -> None:
    await world.mirror({"A": line()})
    for user in (ann, ann.on("fleet")):
        shown = (await user.get("kpis")).json()["totals"]["mine"]
        assert {measure["name"] for measure in (await told(user))["measures"]} == shown.keys() - {"rows", "drafts"}
    measures = {measure["name"]: measure for measure in (await told(ann))["measures"]}
    assert measures["plan"] == {"name": "plan", "label": "Plan", "kind": "sum", "of": "planCost"}
    assert measures["variancePercent"] == {
        "name": "variancePercent", "label": "Variance percent", "kind": "percent", "of": "variance", "by": "plan",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, ["query"]),
        (Role.ANALYST, ["query", "edit"]),
        (Role.ENGINEER, "query edit registerContract ingest synchronize seeShadow".split()),
        (
            Role.ADMIN,
            "query edit registerContract ingest synchronize liftGuards seeShadow review promote "
            "decideDrift decideJoins replay overrideGuards administer".split(),
        ),
    ],
)
async def test_one_is_told_what_ones_role_allows(world: World, role: Role, may: list[str]) -> None:
    assert (await told(await world.user("eve", role=role)))["may"] == may


async def test_its_etag_holds_until_something_of_it_changes(world: World, ann: User) -> None:
    """Whose view it is does not matter, what the caller may do does; a draft is nothing to it, a revision is."""
    await world.mirror({"A": line()})
    admin = await world.user("eve", role=Role.ADMIN)
    tag = (await ask(ann)).headers["ETag"]
    assert tag.startswith('W/"')
    await ann.draft("A", {"model": "M"})
    same = await ask(ann, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert (await ask(admin, headers={"If-None-Match": tag})).status_code == 200
    for change in ("revision = revision + 1", "require_approval = TRUE"):
        await world.db.execute(f"UPDATE dataset SET {change} WHERE name = 'pfa'")
        other = await ask(ann, headers={"If-None-Match": tag})
        assert (other.status_code, other.headers["ETag"] != tag) == (200, True), change
        tag = other.headers["ETag"]


async def test_rows_are_counted_exactly_whether_or_not_the_view_is_there(world: World, ann: User) -> None:
    """Given rows that were counted, then the view tells, and the history what was made and deleted since; a load that
    the history does not tell is counted.
    """
    fleet = ann.on("fleet")
    assert (await told(fleet))["rowCount"] == 0

    async def make(*keys: str, op: str = "insert") -> None:
        for key in keys:
            await fleet.draft(key, vehicle() if op == "insert" else None, op=op)
        await committed(fleet)

    await make("A", "B")
    await fleet.draft("C", vehicle(), op="insert")
    assert (await told(fleet))["rowCount"] == 2, "a draft is not in the mirror"
    await fleet.discard()
    await world.db.execute("REFRESH MATERIALIZED VIEW fleet.kpi")
    assert (await told(fleet))["rowCount"] == 2
    await make("C", "D", "E")
    await make("A", "D", op="delete")
    await fleet.draft("B", {"seats": 9})
    await committed(fleet)
    assert (await told(fleet))["rowCount"] == 3
    await world.mirror({"loaded": vehicle()}, contract=FLEET)
    await world.db.execute("UPDATE dataset SET revision = revision + 1, unrecorded = revision + 1 WHERE name = 'fleet'")
    assert (await told(fleet))["rowCount"] == 4
    await world.db.execute("REFRESH MATERIALIZED VIEW fleet.kpi")
    await make("B", "C", "E", "loaded", op="delete")
    assert (await told(fleet))["rowCount"] == 0


async def settings(user: User, **wanted: Any) -> httpx.Response:
    """PUT D/settings."""
    headers = {"Content-Type": "application/json"}
    return await user.request("PUT", "settings", content=exact_json.encode(wanted), headers=headers)


async def test_who_administers_says_whether_changes_are_reviewed(world: World, ann: User) -> None:
    """Given a dataset that wants change requests, then nobody commits, through no door; drafts go on as before."""
    root = await world.user("root", role=Role.ADMIN)
    await world.mirror({"A": line()})
    await begin_session(world, ann, "s")
    await ann.draft("A", {"model": "M"})
    assert written(await settings(root, requireApproval=True)) == {"requireApproval": True}
    for user in (ann, root):
        assert (await told(user))["requireApproval"] is True
        assert "commit" not in (await told(user))["may"]
    for path, body in (
        ("commit", {"all": True}),
        ("commit", {"all": True, "dryRun": True}),
        ("commit", {"sessionId": "s"}),
        ("/api/pfa/acme/commit", {"pfaIds": ["A"]}),
        ("/api/pfa/acme/commit", {"sessionId": "s"}),
    ):
        refused(await ann.post(path, body), 403, "APPROVAL_REQUIRED")
        refused(await root.post(path, body), 403, "APPROVAL_REQUIRED")
    await ann.draft("A", {"model": "N"})
    assert (await told(root.on("fleet")))["requireApproval"] is False, "it is of one dataset"
    assert written(await settings(root, requireApproval=False)) == {"requireApproval": False}
    await committed(ann)


async def test_settings_that_change_are_audited(world: World) -> None:
    root = await world.user("root", role=Role.ADMIN)
    for wanted in (False, True, True, False):
        assert (await settings(root, requireApproval=wanted)).status_code == 200
    found = await world.db.fetch("SELECT actor, dataset, action, details::text FROM audit ORDER BY id")
    assert [tuple(each) for each in found] == [
        ("root", "pfa", "settings.changed", f'{{"after": {after}, "before": {before}, "setting": "requireApproval"}}')
        for before, after in (("false", "true"), ("true", "false"))
    ]


async def test_settings_are_given_whole_and_by_those_who_may(world: World, ann: User) -> None:
    root = await world.user("root", role=Role.ADMIN)
    engineer = await world.user("erin", role=Role.ENGINEER)
    for user in (ann, engineer):
        refused(await settings(user, requireApproval=True), 403, "FORBIDDEN")
    wrong: list[dict[str, Any]] = [
        {}, {"requireApproval": None}, {"requireApproval": "yes"}, {"requireApproval": True, "more": 1}
    ]  # fmt: skip
    for wanted in wrong:
        refused(await settings(root, **wanted), 400, "MALFORMED_REQUEST")
    refused(await settings(root.on("nothing"), requireApproval=True), 404, "DATASET_NOT_FOUND")
    assert (await told(root))["requireApproval"] is False


async def test_a_dataset_that_is_not_there_is_404(world: World, ann: User) -> None:
    refused(await ask(ann.on("nothing")), 404, "DATASET_NOT_FOUND")
    await world.db.execute("INSERT INTO organization (id, name) VALUES ('bare', 'bare')")
    refused(await ask(await world.user("eve", "bare")), 404, "DATASET_NOT_FOUND")
    refused(await ask(ann, params={"include": "rows"}), 400, "INVALID_FILTER")
