"""Joins: what is suggested between two datasets, with which figures, and what an ADMIN makes of it."""

import asyncio
from typing import Any
from unicodedata import category

import pytest

from app import organizations
from app.contracts import stored_contract
from app.contracts.keys import row_id
from app.joins import deciding, sampling
from app.joins.accepted import count_uses, list_accepted
from app.joins.texts import text_of
from app.web.auth import Role
from tests.support.ingesting import people_of
from tests.support.joining import (
    JOINS,
    accepted,
    by_condition,
    candidates,
    contract_text,
    deleted,
    filled,
    stored,
    table,
)
from tests.support.own import moved, registered
from tests.support.world import User, World, open_world, refused, written

CUSTOMERS = table("customers", "customerId", "customerId text", "name text", "city text")
ORDERS = table("orders", "number", "number integer", "customerId text", "shippedTo text", "paid boolean", "on date")
ON = "orders.customerId = customers.customerId"


def customer(number: int, **more: Any) -> dict[str, Any]:
    return {"customerId": f"C-{number:03}", "name": f"Company {number}", "city": f"City {number % 7}"} | more


def order(number: int, **more: Any) -> dict[str, Any]:
    """Every second of 100 customers has two orders."""
    return {
        "number": number,
        "customerId": f"C-{number * 2 % 100:03}",
        "shippedTo": f"C-{number % 90:03}",
        "paid": number % 2 == 0,
        "on": f"2026-01-{1 + number % 28:02}",
    } | more


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role."""
    return await people_of(world)


@pytest.fixture
async def shop(people: dict[str, User]) -> dict[str, User]:
    """A hundred customers, and two hundred orders of theirs."""
    await stored(people, CUSTOMERS, map(customer, range(100)))
    await stored(people, ORDERS, map(order, range(200)))
    return people


# -- candidates --------------------------------------------------------------------------------------------------------


async def test_what_holds_the_values_of_a_key_is_suggested_with_figures(shop: dict[str, User]) -> None:
    found = by_condition(await candidates(shop["VIEWER"], "orders", "customers"))
    candidate = found[ON]
    assert candidate["child"] == {"dataset": "orders", "fields": ["customerId"]}
    assert candidate["parent"] == {"dataset": "customers", "fields": ["customerId"]}
    assert candidate["statistics"] == {
        "sampledRows": 200, "distinctValues": 50, "inclusion": 1, "nullShare": 0, "parentUnique": True,
        "parentRows": 100, "childRows": 200, "fanOut": {"average": 2, "greatest": 4}, "cardinality": "many_to_one",
    }  # fmt: skip
    assert (candidate["joinType"], candidate["interval"], candidate["accepted"]) == (
        "inner",
        {"low": 1, "high": 1},
        None,
    )
    assert (candidate["risk"], float(candidate["confidence"])) == ("high_confidence", 0.9286)
    assert candidate["reason"] == (
        "50 of 50 values of orders.customerId are in customers.customerId, its key; the names are alike by 1.00."
    )
    assert candidate["assumptions"] == [
        "Measured of the mirror, without what people have drafted: a query joins merged values."
    ]


async def test_candidates_are_the_same_from_either_side_and_the_most_certain_comes_first(
    shop: dict[str, User],
) -> None:
    found = await candidates(shop["VIEWER"], "orders", "customers")
    assert found == await candidates(shop["VIEWER"], "customers", "orders")
    assert [each["condition"] for each in found] == [ON, "orders.shippedTo = customers.customerId"]
    assert found == sorted(found, key=lambda each: -each["confidence"])


async def test_two_roles_to_one_parent_are_two_candidates(shop: dict[str, User]) -> None:
    found = by_condition(await candidates(shop["VIEWER"], "orders", "customers"))
    other = found["orders.shippedTo = customers.customerId"]
    assert other["statistics"]["inclusion"] == 1
    assert 0.5 <= other["confidence"] < found[ON]["confidence"]


async def test_what_some_rows_lack_or_do_not_find_is_joined_left(people: dict[str, User]) -> None:
    """A quarter of the orders has no customer, and a tenth of the others one that is gone."""
    await stored(people, CUSTOMERS, map(customer, range(90)))
    orders = [order(n, customerId=None if n % 4 == 0 else f"C-{n % 100:03}") for n in range(400)]
    await stored(people, ORDERS, orders)
    found = by_condition(await candidates(people["VIEWER"], "orders", "customers"))[ON]
    statistics = found["statistics"]
    assert (float(statistics["nullShare"]), statistics["distinctValues"]) == (0.25, 75)
    assert float(statistics["inclusion"]) == round(67 / 75, 4)
    assert found["joinType"] == "left"


async def test_a_dataset_is_joined_with_itself(people: dict[str, User]) -> None:
    employees = table("employees", "employeeNo", "employeeNo integer", "name text", "managerNo integer")
    await stored(
        people, employees, [{"employeeNo": n, "name": f"N{n}", "managerNo": n // 5 or None} for n in range(1, 101)]
    )
    found = await candidates(people["VIEWER"], "employees", "employees")
    assert [each["condition"] for each in found] == ["employees.managerNo = employees.employeeNo"]
    assert found[0]["risk"] == "medium"


async def test_composite_keys_are_found_by_the_ids_of_rows(people: dict[str, User]) -> None:
    """A text with what separates the parts of an id is one of them, and so is one that is not printable."""
    supplies = table("supplies", ["part", "supplier"], "part text", "supplier integer", "cost number")
    lines = table("lines", "line", "line integer", "supplierNo integer", "partNo text")
    parts = ["a~b", "c/d", "50%", "New\u00a0York", "~\u2028/\U000e0001%", "plain"]
    await stored(
        people, supplies, [{"part": part, "supplier": n, "cost": n * 7.5} for part in parts for n in range(10)]
    )
    await stored(people, lines, [{"line": n, "partNo": parts[n % 6], "supplierNo": n % 10} for n in range(200)])
    found = by_condition(await candidates(people["VIEWER"], "lines", "supplies"))
    candidate = found["lines.partNo = supplies.part AND lines.supplierNo = supplies.supplier"]
    assert (candidate["statistics"]["inclusion"], candidate["statistics"]["distinctValues"]) == (1, 30)
    assert candidate["risk"] == "high_confidence"
    join = await accepted(people["ADMIN"], candidate)
    assert join["child"] == {"dataset": "lines", "fields": ["partNo", "supplierNo"]}


async def test_a_text_is_escaped_as_in_the_id_that_is_made_of_it(world: World) -> None:
    """Every character that Unicode knows, but for halves of pairs and most of those for private use."""
    document = table("regions", "code", "code enum")
    document["fields"][0]["values"] = ["x"]
    contract = stored_contract(contract_text(document), schema="regions", name="regions")
    known = [each for each in map(chr, range(1, 0x110000)) if category(each) not in ("Cn", "Co", "Cs")]
    known += "\ue000\uf8ff\U000f0000\U000ffffd\U00100000\U0010fffd"
    values = [".", "..", "...", *("".join(known[start : start + 10]) for start in range(0, len(known), 10))]
    text = text_of(contract, ("code",), "m", as_id=True)
    rows = await world.db.fetch(
        f"SELECT {text} FROM unnest($1::text[]) WITH ORDINALITY AS v (v, n)"
        " CROSS JOIN LATERAL (SELECT jsonb_build_object('code', v.v) AS data) AS m ORDER BY v.n",
        values,
    )
    assert [row[0] for row in rows] == [row_id(contract, {"code": value}) for value in values]


@pytest.mark.parametrize("kind", ["enum", "text"])
async def test_a_key_of_an_enum_is_found_by_the_id_that_is_made_of_it(people: dict[str, User], kind: str) -> None:
    words = ["N/A", "S~B", "50%", "..", "."]
    regions, visits = table("regions", "code", "code enum"), table("visits", "n", "n integer", f"code {kind}")
    regions["fields"][0]["values"] = words
    if kind == "enum":
        visits["fields"][1]["values"] = words
    await stored(people, regions, [{"code": word} for word in words])
    await stored(people, visits, [{"n": n, "code": words[n % 5]} for n in range(12)])
    found = by_condition(await candidates(people["VIEWER"], "visits", "regions"))
    assert found["visits.code = regions.code"]["statistics"]["inclusion"] == 1


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("integer", range(-50, 50)),
        ("number", [n / 4 for n in range(100)]),
        ("date", [f"2026-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(84)]),
        ("datetime", [f"2026-01-01T{n % 24:02}:00:{n % 60:02}.5Z" for n in range(100)]),
        ("text", [f"'\"; DROP TABLE {n} --" for n in range(100)]),
    ],
)
async def test_values_of_every_type_are_probed(people: dict[str, User], key: str, values: Any) -> None:
    values = list(values)
    await stored(people, table("days", "code", f"code {key}", "label text"), [{"code": each} for each in values])
    uses = table("uses", "n", "n integer", f"dayCode {key}")
    await stored(people, uses, [{"n": n, "dayCode": values[n % len(values)]} for n in range(200)])
    found = by_condition(await candidates(people["VIEWER"], "uses", "days"))
    assert found["uses.dayCode = days.code"]["statistics"]["inclusion"] == 1


async def test_a_number_is_found_among_integers_and_an_enum_among_texts(people: dict[str, User]) -> None:
    kinds = table("kinds", "kindId", "kindId integer", "word text")
    await stored(people, kinds, [{"kindId": n * 1000, "word": f"W{n}"} for n in range(40)])
    words = [f"W{n}" for n in range(20)]
    uses = table("uses", "n", "n text", "kind number")
    uses["fields"].append({"name": "word", "type": "enum", "values": words})
    await stored(people, uses, [{"n": f"U{n}", "kind": n % 20 * 1000.0, "word": words[n % 20]} for n in range(100)])
    found = by_condition(await candidates(people["VIEWER"], "uses", "kinds"))
    assert {"uses.kind = kinds.kindId", "uses.word = kinds.word"} <= found.keys()
    assert found["uses.word = kinds.word"]["assumptions"][1] == "Nobody declared that kinds.word is unique."


async def test_a_parent_is_unique_by_a_rule_or_found_by_an_index(people: dict[str, User]) -> None:
    people_table = table(
        "persons", "personId", "personId integer", "email text indexed", "badge integer indexed",
        hot=[{"sort": "badge"}], rules=[{"type": "unique", "field": "email"}],
    )  # fmt: skip
    await stored(people, people_table, [{"personId": n, "email": f"{n}@x.example", "badge": n * 31} for n in range(50)])
    visits = table("visits", "n", "n text", "visitor text", "badge integer")
    await stored(people, visits, [{"n": f"V{n}", "visitor": f"{n % 50}@x.example", "badge": n % 50 * 31}
                                  for n in range(100)])  # fmt: skip
    found = by_condition(await candidates(people["VIEWER"], "visits", "persons"))
    assert {"visits.visitor = persons.email", "visits.badge = persons.badge"} <= found.keys()
    assert "unique by a rule" in found["visits.visitor = persons.email"]["reason"]
    assert "unique as far as was seen" in found["visits.badge = persons.badge"]["reason"]


async def test_constants_two_values_and_counting_are_marked_down(people: dict[str, User]) -> None:
    parents = table("parents", "parentNo", "parentNo integer")
    await stored(people, parents, [{"parentNo": n} for n in range(200)])
    children = table("children", "n", "n text", "one integer", "two integer", "size integer", "parent integer")
    await stored(people, children, [{"n": f"N{n}", "one": 1, "two": n % 2, "size": n % 50, "parent": n % 50}
                                    for n in range(200)])  # fmt: skip
    found = by_condition(await candidates(people["VIEWER"], "children", "parents"))
    true, *false = (found[f"children.{name} = parents.parentNo"] for name in ("parent", "one", "two", "size"))
    assert true["risk"] == "high_confidence"
    assert {each["risk"] for each in false} == {"low"}
    words = ["one value only", "two values only", "counts without large gaps"]
    assert all(word in each["reason"] for word, each in zip(words, false, strict=True))


async def test_booleans_and_what_nobody_finds_are_no_candidates(shop: dict[str, User]) -> None:
    found = await candidates(shop["VIEWER"], "orders", "customers")
    assert {field for each in found for field in each["child"]["fields"]} == {"customerId", "shippedTo"}


async def test_records_that_are_appended_are_no_parents_by_their_keys(people: dict[str, User]) -> None:
    """Each event is a row of its own, however often its key comes."""
    events = table("events", "device", "device text", "seen datetime")
    events["ingestion"] = events["ingestion"] | {"mode": "append", "eventTimeColumn": "seen", "dedupeWindow": "0s"}
    await stored(people, events, [{"device": f"D{n % 20}", "seen": f"2026-01-01T00:{n:02}:00Z"} for n in range(60)])
    await stored(people, table("devices", "device", "device text"), [{"device": f"D{n}"} for n in range(20)])
    found = await candidates(people["VIEWER"], "events", "devices")
    assert [each["condition"] for each in found] == ["events.device = devices.device"]


@pytest.mark.parametrize("orders", [[], [order(n, customerId=None, shippedTo=None) for n in range(20)]])
async def test_nothing_is_suggested_of_nothing(people: dict[str, User], orders: list[dict[str, Any]]) -> None:
    """Neither of an empty dataset nor of columns of nulls."""
    await stored(people, CUSTOMERS, map(customer, range(20)))
    await stored(people, ORDERS, orders)
    assert await candidates(people["VIEWER"], "orders", "customers") == []
    assert await candidates(people["VIEWER"], "orders", "pfa") == []


async def test_what_is_no_dataset_in_use_is_not_looked_at(shop: dict[str, User]) -> None:
    path = f"{JOINS}/candidates"
    await registered(shop["ENGINEER"], table("shadows", "code", "code text"))
    for name in ("nothing", "shadows", "orders@1", "or'ders", "x" * 500):
        refused(await shop["ADMIN"].get(path, {"left": name, "right": "customers"}), 404, "DATASET_NOT_FOUND")
        refused(await shop["ADMIN"].get(path, {"left": "customers", "right": name}), 404, "DATASET_NOT_FOUND")
    await moved(shop["ADMIN"].on("orders"), "deprecate")
    refused(await shop["ADMIN"].get(path, {"left": "orders", "right": "customers"}), 404, "DATASET_NOT_FOUND")
    refused(await shop["ADMIN"].get(path, {"left": "customers"}), 400, "INVALID_FILTER")
    refused(await shop["ADMIN"].get(path, {"left": "customers", "right": "pfa", "x": "1"}), 400, "INVALID_FILTER")


# -- accepting ---------------------------------------------------------------------------------------------------------


async def first(user: User) -> dict[str, Any]:
    return by_condition(await candidates(user, "orders", "customers"))[ON]


async def unaccepted(admin: User, candidate: dict[str, Any]) -> dict[str, Any]:
    """The problem with a candidate that is none any more."""
    body = {"candidateId": candidate["candidateId"], "rationale": "so"}
    return refused(await admin.post(f"{JOINS}/accept", body), 422, "INVALID_CANDIDATE")


async def test_an_accepted_join_is_there_for_everybody(shop: dict[str, User]) -> None:
    candidate = await first(shop["ADMIN"])
    join = await accepted(shop["ADMIN"], candidate, rationale="Orders name their customer")
    assert (join["version"], join["state"], join["condition"], join["warnings"]) == (1, "accepted", ON, [])
    assert (join["rationale"], join["acceptedBy"], join["acceptedByName"]) == (
        "Orders name their customer", "admin", "admin",
    )  # fmt: skip
    assert (join["uses"], join["lastUsedAt"], join["deprecatedAt"]) == (0, None, None)
    assert join["confidence"] == candidate["confidence"]
    assert join["statistics"] == candidate["statistics"]
    told = (await shop["VIEWER"].get(f"{JOINS}/{join['id']}")).json()
    assert told["id"] == join["id"]
    assert "warnings" not in told
    assert (await first(shop["VIEWER"]))["accepted"] == join["id"]
    assert [each["id"] for each in (await shop["VIEWER"].get(JOINS)).json()["data"]] == [join["id"]]


async def test_the_id_of_a_candidate_is_always_the_same(shop: dict[str, User]) -> None:
    assert (await first(shop["ADMIN"]))["candidateId"] == (await first(shop["VIEWER"]))["candidateId"]


async def test_a_join_is_accepted_once_at_a_time_and_has_versions(shop: dict[str, User]) -> None:
    admin, candidate = shop["ADMIN"], await first(shop["ADMIN"])
    body = {"candidateId": candidate["candidateId"], "rationale": "so"}
    join = await accepted(admin, candidate)
    assert refused(await admin.post(f"{JOINS}/accept", body), 409, "ALREADY_EXISTS")["join"] == join["id"]
    written(await admin.post(f"{JOINS}/{join['id']}/deprecate", {"reason": "no more"}))
    again = await accepted(admin, candidate)
    assert (again["version"], again["id"] == join["id"]) == (2, False)
    listed = (await admin.get(JOINS, {"state": "deprecated"})).json()["data"]
    assert [(each["version"], each["reason"], each["deprecatedByName"]) for each in listed] == [(1, "no more", "admin")]


async def test_two_who_accept_the_same_at_once_make_one_join(shop: dict[str, User], world: World) -> None:
    candidate = await first(shop["ADMIN"])
    other = await world.user("boss", role=Role.ADMIN)
    body = {"candidateId": candidate["candidateId"], "rationale": "so"}
    answers = await asyncio.gather(*(user.post(f"{JOINS}/accept", body) for user in (shop["ADMIN"], other) * 2))
    assert sorted(each.status_code for each in answers) == [201, 409, 409, 409]
    assert len((await other.get(JOINS)).json()["data"]) == 1


async def test_a_key_makes_one_join_of_a_request_that_is_sent_twice(shop: dict[str, User]) -> None:
    candidate, headers = await first(shop["ADMIN"]), {"Idempotency-Key": "k1"}
    join = await accepted(shop["ADMIN"], candidate)
    path = f"{JOINS}/{join['id']}/deprecate"
    once = written(await shop["ADMIN"].post(path, {"reason": "no more"}, headers=headers))
    assert written(await shop["ADMIN"].post(path, {"reason": "no more"}, headers=headers)) == once


async def test_a_key_repeats_the_first_answer_whatever_becomes_of_the_datasets(shop: dict[str, User]) -> None:
    """A join, and a refusal."""
    admin, path = shop["ADMIN"], f"{JOINS}/accept"
    body = {"candidateId": (await first(admin))["candidateId"], "rationale": "so"}
    keys = [{"Idempotency-Key": "k1"}, {"Idempotency-Key": "k2"}]
    once = written(await admin.post(path, body, headers=keys[0]), 201)
    refusal = refused(await admin.post(path, body | {"candidateId": "x"}, headers=keys[1]), 422, "INVALID_CANDIDATE")
    refused(await admin.post(path, body, headers=keys[1]), 422, "IDEMPOTENCY_KEY_REUSED")
    await moved(admin.on("customers"), "deprecate")
    assert written(await admin.post(path, body, headers=keys[0]), 201) == once
    again = await admin.post(path, body | {"candidateId": "x"}, headers=keys[1])
    assert again.json() == refusal
    refused(await admin.post(path, body), 404, "DATASET_NOT_FOUND")


async def test_a_parent_that_is_not_unique_is_refused(people: dict[str, User]) -> None:
    """Emails looked unique when the candidate was suggested; one has come twice since."""
    persons = table("persons", "personId", "personId integer", "email text")
    await stored(people, persons, [{"personId": n, "email": f"{n}@x.example"} for n in range(50)])
    await stored(people, table("visits", "n", "n text", "email text"),
                 [{"n": f"V{n}", "email": f"{n % 50}@x.example"} for n in range(100)])  # fmt: skip
    found = by_condition(await candidates(people["VIEWER"], "visits", "persons"))["visits.email = persons.email"]
    written(
        await people["ENGINEER"].on("persons").post("ingest", {"records": [{"personId": 99, "email": "7@x.example"}]})
    )
    body = {"candidateId": found["candidateId"], "rationale": "so"}
    problem = refused(await people["ADMIN"].post(f"{JOINS}/accept", body), 422, "NOT_UNIQUE")
    assert problem["detail"].startswith("persons.email is not unique: 1 rows have")
    assert (await people["ADMIN"].get(JOINS)).json()["data"] == []


async def test_nulls_and_fan_out_are_warned_of(people: dict[str, User]) -> None:
    await stored(people, CUSTOMERS, map(customer, range(20)))
    orders = [order(n, customerId=None if n % 5 == 0 else f"C-{n % 3:03}") for n in range(600)]
    await stored(people, ORDERS, orders)
    found = by_condition(await candidates(people["VIEWER"], "orders", "customers"))[ON]
    join = await accepted(people["ADMIN"], found)
    assert [each["type"] for each in join["warnings"]] == ["NULLS", "FAN_OUT"]
    assert join["warnings"][0]["message"].startswith("20.0% of the rows have no orders.customerId")


async def test_rows_without_a_partner_are_in_no_fan_out(people: dict[str, User]) -> None:
    """However many name the same customer, who is not there."""
    await stored(people, CUSTOMERS, map(customer, range(2)))
    names = ["C-000"] * 3 + ["C-001"] + ["unknown"] * 1095
    await stored(people, ORDERS, [order(n, customerId=name, shippedTo=None) for n, name in enumerate(names)])
    candidate = await first(people["ADMIN"])
    assert candidate["statistics"]["fanOut"] == {"average": 2, "greatest": 3}
    join = await accepted(people["ADMIN"], candidate)
    assert (join["statistics"], join["warnings"]) == (candidate["statistics"], [])


async def test_what_is_no_candidate_is_refused(shop: dict[str, User], world: World) -> None:
    admin, candidate = shop["ADMIN"], await first(shop["ADMIN"])
    await world.organization("other")
    stranger = await world.user("zoe", "other", Role.ADMIN)
    good = candidate["candidateId"]
    for bad in ("x", "'; --", good[:-1], good + "A", good.swapcase(), "é" * 50, "A" * 10_000):
        body = {"candidateId": bad, "rationale": "so"}
        refused(await admin.post(f"{JOINS}/accept", body), 422, "INVALID_CANDIDATE")
    foreign = await stranger.post("/api/v1/orgs/other/joins/accept", {"candidateId": good, "rationale": "so"})
    refused(foreign, 422, "INVALID_CANDIDATE")
    for body in ({"candidateId": good}, {"candidateId": good, "rationale": ""}, {"candidateId": "", "rationale": "x"}):
        refused(await admin.post(f"{JOINS}/accept", body), 400, "MALFORMED_REQUEST")


async def test_a_candidate_of_fields_that_are_gone_is_refused(shop: dict[str, User]) -> None:
    candidate = await first(shop["ADMIN"])
    fields = [each for each in ORDERS["fields"] if each["name"] != "customerId"]
    await registered(shop["ENGINEER"], ORDERS | {"version": "2.0", "fields": fields})
    await moved(shop["ADMIN"].on("orders@2"), "promote")
    body = {"candidateId": candidate["candidateId"], "rationale": "so"}
    refused(await shop["ADMIN"].post(f"{JOINS}/accept", body), 422, "INVALID_CANDIDATE")


async def test_a_version_that_takes_over_while_a_candidate_is_measured_is_told(
    shop: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = await first(shop["ADMIN"])
    lock = organizations.lock_organization

    async def late(*given: Any) -> bool:
        await registered(shop["ENGINEER"], table("customers", "customerId", "customerId text", version="2.0"))
        await moved(shop["ADMIN"].on("customers@2"), "promote")
        return await lock(*given)

    monkeypatch.setattr(deciding, "lock_organization", late)
    body = {"candidateId": candidate["candidateId"], "rationale": "so"}
    refused(await shop["ADMIN"].post(f"{JOINS}/accept", body), 409, "SCHEMA_CHANGED")
    assert (await shop["ADMIN"].get(JOINS)).json()["data"] == []


@pytest.mark.parametrize(
    ("dataset", "told"),
    [("customers", "customers has no rows by now."), ("orders", "orders has no values of customerId by now.")],
)
async def test_a_candidate_of_what_is_empty_by_now_is_refused(
    shop: dict[str, User], world: World, dataset: str, told: str
) -> None:
    candidate = await first(shop["ADMIN"])
    await deleted(world, dataset)
    assert (await unaccepted(shop["ADMIN"], candidate))["detail"] == told


async def test_a_candidate_of_which_less_than_a_share_is_found_by_now_is_refused(
    shop: dict[str, User], world: World
) -> None:
    """Fifteen of the fifty customers that have orders are left; then fourteen."""
    admin, candidate = shop["ADMIN"], await first(shop["ADMIN"])
    await deleted(world, "customers", "m.row_key >= 'C-030'")
    join = await accepted(admin, candidate)
    assert float(join["statistics"]["inclusion"]) == 0.3
    written(await admin.post(f"{JOINS}/{join['id']}/deprecate", {"reason": "no more"}))
    await deleted(world, "customers", "m.row_key >= 'C-028'")
    problem = await unaccepted(admin, candidate)
    assert problem["detail"].startswith("14 of 50 values of customerId are in customers by now")


async def test_an_organization_has_so_many_accepted_joins(database_url: str) -> None:
    async with open_world(database_url, max_joins=1) as world:
        await world.organization("acme")
        people = await people_of(world)
        await stored(people, CUSTOMERS, map(customer, range(100)))
        await stored(people, ORDERS, map(order, range(200)))
        admin, found = people["ADMIN"], await candidates(people["ADMIN"], "orders", "customers")
        join = await accepted(admin, found[0])
        body = {"candidateId": found[1]["candidateId"], "rationale": "so"}
        refused(await admin.post(f"{JOINS}/accept", body), 409, "QUOTA_EXCEEDED")
        written(await admin.post(f"{JOINS}/{join['id']}/deprecate", {"reason": "no more"}))
        await accepted(admin, found[1])


# -- lists, and the end of a join --------------------------------------------------------------------------------------


async def test_a_join_is_deprecated_once(shop: dict[str, User]) -> None:
    admin, join = shop["ADMIN"], await accepted(shop["ADMIN"], await first(shop["ADMIN"]))
    path = f"{JOINS}/{join['id']}/deprecate"
    ended = written(await admin.post(path, {"reason": "The key has changed"}))
    assert (ended["state"], ended["reason"], ended["deprecatedBy"]) == ("deprecated", "The key has changed", "admin")
    assert refused(await admin.post(path, {"reason": "again"}), 409, "INVALID_TRANSITION")["state"] == "deprecated"
    for unknown in ("7c9e6679-7425-40de-944b-e07fc1f90ae7", "x", "'"):
        refused(await admin.post(f"{JOINS}/{unknown}/deprecate", {"reason": "x"}), 404, "JOIN_NOT_FOUND")
        refused(await admin.get(f"{JOINS}/{unknown}"), 404, "JOIN_NOT_FOUND")
    assert (await first(admin))["accepted"] is None


async def test_joins_are_listed_by_pages_and_filters(shop: dict[str, User], world: World) -> None:
    for each in await candidates(shop["ADMIN"], "orders", "customers"):
        world.clock.move(seconds=1)
        await accepted(shop["ADMIN"], each)
    page = (await shop["VIEWER"].get(JOINS, {"limit": 1})).json()
    following = (await shop["VIEWER"].get(JOINS, {"limit": 1, "after": page["nextCursor"]})).json()
    conditions = [each["condition"] for each in (*page["data"], *following["data"])]
    assert (conditions, following["nextCursor"]) == (["orders.shippedTo = customers.customerId", ON], None)
    for given, count in (({"dataset": "orders"}, 2), ({"dataset": "customers"}, 2), ({"dataset": "pfa"}, 0),
                         ({"state": "accepted"}, 2), ({"state": "deprecated"}, 0)):  # fmt: skip
        assert len((await shop["VIEWER"].get(JOINS, given)).json()["data"]) == count, given
    refused(await shop["VIEWER"].get(JOINS, {"state": "x"}), 400, "INVALID_FILTER")
    refused(await shop["VIEWER"].get(JOINS, {"after": "x"}), 400, "INVALID_CURSOR")


async def test_uses_are_counted_and_deprecated_joins_are_out_of_use(shop: dict[str, User], world: World) -> None:
    join, other = [
        await accepted(shop["ADMIN"], each) for each in await candidates(shop["ADMIN"], "orders", "customers")
    ]
    written(await shop["ADMIN"].post(f"{JOINS}/{other['id']}/deprecate", {"reason": "no more"}))
    unknown = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    async with world.runtime.database.transaction() as connection:
        (found,) = await list_accepted(connection, "acme")
        assert (found.id, found.version, found.child, found.child_fields) == (join["id"], 1, "orders", ("customerId",))
        assert (found.parent, found.parent_fields, found.confidence) == ("customers", ("customerId",), 0.9286)
        await count_uses(connection, "acme", [join["id"], unknown, join["id"]], world.clock())
        await count_uses(connection, "other", [join["id"]], world.clock())
        await count_uses(connection, "acme", [], world.clock())
    told = (await shop["VIEWER"].get(f"{JOINS}/{join['id']}")).json()
    assert (told["uses"], told["lastUsedAt"]) == (1, "2026-03-01T12:00:00.000Z")


# -- large datasets ----------------------------------------------------------------------------------------------------

MANY = 40_000
PARENTS = (
    f"SELECT 'C-' || i, jsonb_build_object('customerId', 'C-' || i, 'name', 'N' || i) FROM generate_series(1, {MANY}) i"
)
CHILDREN = f"""
SELECT 'O' || i,
       jsonb_build_object('number', i, 'customerId', CASE WHEN i % 10 > 0 THEN 'C-' || i * 7 % {MANY + 4000} END)
  FROM generate_series(1, {MANY}) AS i
"""
# Nine of ten are of one customer, who is not there.
CROWD = f"""
SELECT 'O' || i, jsonb_build_object(
           'number', i,
           'customerId', CASE WHEN i % 10 > 0 THEN 'unknown' ELSE 'C-' || lpad((i / 10 % 100)::text, 3, '0') END)
  FROM generate_series(1, {MANY}) AS i
"""


@pytest.fixture
async def large(people: dict[str, User], world: World) -> dict[str, User]:
    """More rows than are ever read: forty thousand customers and orders of theirs, some of whom are gone."""
    await stored(people, CUSTOMERS, [])
    await stored(people, ORDERS, [])
    await filled(world, "customers", PARENTS)
    await filled(world, "orders", CHILDREN)
    return people


async def test_of_a_large_dataset_a_sample_is_read_and_probed_in_the_whole_index(large: dict[str, User]) -> None:
    """The true inclusion and share of nulls are within what a sample tells."""
    found = by_condition(await candidates(large["VIEWER"], "orders", "customers"))[ON]
    statistics, interval = found["statistics"], found["interval"]
    assert 5_000 < statistics["sampledRows"] < 20_000
    assert abs(statistics["childRows"] - MANY) < MANY / 5
    assert abs(statistics["parentRows"] - MANY) < MANY / 5
    assert interval["low"] < 40 / 44 < interval["high"]
    assert abs(float(statistics["nullShare"]) - 0.1) < 0.02
    assert (found["joinType"], statistics["parentUnique"]) == ("left", True)
    assert "random pages of the table" in found["assumptions"][1]
    assert found == by_condition(await candidates(large["VIEWER"], "orders", "customers"))[ON]  # the same pages


async def test_a_large_dataset_is_counted_in_full_before_its_join_is_accepted(large: dict[str, User]) -> None:
    found = by_condition(await candidates(large["VIEWER"], "orders", "customers"))[ON]
    join = await accepted(large["ADMIN"], found)
    assert (join["statistics"]["childRows"], float(join["statistics"]["nullShare"])) == (MANY, 0.1)
    assert join["statistics"]["fanOut"]["greatest"] == 1


@pytest.mark.parametrize("most", [MANY, MANY - 1])
async def test_every_row_with_a_partner_is_in_the_fan_out_of_an_accepted_join(
    people: dict[str, User], world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Of a child of so many rows; of a larger one it is an estimate."""
    monkeypatch.setattr(deciding, "ALL_ROWS", most)
    await stored(people, CUSTOMERS, map(customer, range(100)))
    await stored(people, ORDERS, [])
    await filled(world, "orders", CROWD)
    candidate = await first(people["ADMIN"])
    statistics = (await accepted(people["ADMIN"], candidate))["statistics"]
    if most < MANY:
        assert statistics == candidate["statistics"]
        return
    assert (statistics["sampledRows"], statistics["childRows"], statistics["distinctValues"]) == (MANY, MANY, 101)
    assert (float(statistics["inclusion"]), float(statistics["nullShare"])) == (round(100 / 101, 4), 0)
    assert statistics["fanOut"] == {"average": 40, "greatest": 40}


async def test_where_others_have_most_of_the_rows_ones_own_are_found_by_their_ids(
    people: dict[str, User], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A built-in dataset is shared: random pages have hardly a row of a small organization, and none is another's."""
    monkeypatch.setattr(sampling, "SAMPLE", 200)
    monkeypatch.setattr(sampling, "ENOUGH", 100)
    await world.organization("other")
    for organization, many in (("other", 20_000), ("acme", 300)):
        await world.db.execute(
            "INSERT INTO fleet.mirror (organization_id, row_key, data, revision)"
            " SELECT $1::text, $1 || i, jsonb_build_object('depot', $1 || i % 90), 1"
            " FROM generate_series(1, $2::int) AS i",
            organization, many,
        )  # fmt: skip
    await world.db.execute("ANALYZE fleet.mirror")
    await stored(people, table("depots", "code", "code text"), [{"code": f"acme{n}"} for n in range(90)])
    found = by_condition(await candidates(people["VIEWER"], "fleet", "depots"))["fleet.depot = depots.code"]
    assert (found["statistics"]["sampledRows"], found["statistics"]["inclusion"]) == (200, 1)
    assert "the first by their ids" in found["assumptions"][1]
