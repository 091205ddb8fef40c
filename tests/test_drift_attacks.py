"""Drift under people who mean harm, or decide at the same moment: refused, or told, never a 500, never half of it."""

import asyncio
import time
from typing import Any

import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.ingesting import APPENDED, ingested, ndjson, people_of, uploaded, used, work
from tests.support.own import SEMANTICS, customers, moved, registered
from tests.support.world import User, World, open_world, refused, written
from tests.test_drift import DRIFT, RECORDS, RENAMED, RETYPED, looked, record, told, without

QUICK = 10.0  # seconds that a look takes at most, on a machine that has other things to do
ODD = ["a\u0000b", "\u0000", "", " ", 'quo"te', "it's", "x" * 10_000, "\U0001f600" * 100, "a~b", "../x", "id",
       "$where", "'); DROP SCHEMA pfa CASCADE; --", "\u202eabc", "fields[0]", "company ", "Company", "é"]  # fmt: skip
# Values that no field can hold, or that are none of a text's, a number's or a day's.
VALUES: list[Any] = [
    "a\u0000b", "x" * 100_000, 10**40, -(10**29), {"a": {"b": [1]}}, [["x"]], True, "", "\ufffe", "2020-13-45",
]  # fmt: skip


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes records; everybody on `customers`."""
    return await people_of(world)


@pytest.fixture
async def filled(people: dict[str, User]) -> dict[str, User]:
    """With thirty customers."""
    await used(people)
    await ingested(people["ENGINEER"], *RECORDS)
    return people


async def reported(user: User, records: list[dict[str, Any]]) -> str:
    """The report that holds these records."""
    error = refused(await user.post("ingest", {"records": records}), 409, "SCHEMA_DRIFT")
    return str(error["report"])


async def read(user: User, report: str) -> dict[str, Any]:
    found: dict[str, Any] = exact_json.decode((await user.get(f"{DRIFT}/{report}")).content)
    return found


# -- what is shown and sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
async def test_a_column_of_any_name_is_told_and_can_be_accepted(filled: dict[str, User], name: str) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    more = [each | {name: number} for number, each in enumerate(RECORDS)]
    report = await looked(bob, sample=more)
    nameless = "\0" in name  # no field, and no label, can be called so
    added = [] if nameless else [("ADD", "COMPATIBLE")]
    assert [(each["kind"], each["severity"]) for each in report["changes"]] == added
    answer = await carl.post(f"{DRIFT}/{report['id']}/accept", {})
    assert answer.status_code in ((409,) if nameless else (200, 422)), answer.text
    assert (await bob.post("ingest", {"records": more})).status_code == 200
    assert (await bob.get(DRIFT)).status_code == 200


@pytest.mark.parametrize("name", ODD)
async def test_a_field_under_any_name_is_told(filled: dict[str, User], name: str) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    renamed = [without(each, "company") | {name: each["company"]} for each in RECORDS]
    report = await looked(bob, sample=renamed)
    assert told(report) == [("REMOVE" if "\0" in name else "RENAME", "company", "BREAKING")]
    answer = await carl.post(f"{DRIFT}/{report['id']}/accept", {})
    assert answer.status_code in (200, 422), answer.text
    if "\0" in name:
        assert await ingested(bob, *renamed) == {"read": 30, "quarantined": 30}
    else:
        await reported(bob, renamed)


@pytest.mark.parametrize("value", VALUES)
async def test_any_value_is_looked_at(filled: dict[str, User], value: Any) -> None:
    bob = filled["ENGINEER"]
    for name in [*RECORDS[0], "email"]:
        records = [each | {name: value} for each in RECORDS]
        report = await looked(bob, sample=records)
        assert (await bob.get(f"{DRIFT}/{report['id']}")).status_code == 200
        answer = await bob.post("ingest", {"records": records})
        assert answer.status_code in (200, 409), answer.text
        response = await bob.request(
            "POST", "ingest", content=ndjson(records), headers={"Content-Type": "application/x-ndjson"}
        )
        assert response.status_code in (202, 409), response.text


@pytest.mark.timed
@pytest.mark.parametrize("number", [b"1e999999999", b"1e99999999", b"-1e-99999999", b"123456789" * 1000])
async def test_a_number_beyond_all_bounds_takes_no_time(filled: dict[str, User], number: bytes) -> None:
    bob = filled["ENGINEER"]
    line = b'{"customerId": "C%d", "revenue": %b, "email": %b}'
    lines = [line % (each, number, number) for each in range(30)]
    body = b'{"sample": [%b]}' % b",".join(lines)
    began = time.monotonic()
    headers = {"Content-Type": "application/json"}
    answer = await bob.request("POST", DRIFT, content=body, headers=headers)
    assert answer.status_code in (201, 400, 422), answer.text
    answer = await bob.request("POST", "ingest", content=body.replace(b"sample", b"records"), headers=headers)
    assert answer.status_code in (200, 400, 409, 422), answer.text
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await bob.request("POST", "ingest", content=b"\n".join(lines), headers=headers)
    assert answer.status_code in (202, 409), answer.text
    assert time.monotonic() - began < QUICK


@pytest.mark.parametrize(
    "sample",
    [
        [{}],
        [{}] * 10_000,
        [{"customerId": None}] * 20,
        [{"customerId": {"a": 1}} for _ in range(20)],
        [{"customerId": "x" * 1000} for _ in range(20)],
        [{"customerId": ""} for _ in range(20)],
        [{"customerId": "same", "company": "Same"} for _ in range(1000)],
        [{"x": None}],
        [{"": ""}],
    ],
    ids=str,
)
async def test_records_of_nothing_are_looked_at(filled: dict[str, User], sample: list[dict[str, Any]]) -> None:
    report = await looked(filled["ENGINEER"], sample=sample)
    assert report["rows"] == len(sample)


@pytest.mark.parametrize(
    "body",
    [
        {"sample": []},
        {"sample": [1]},
        {"sample": None},
        {"sample": [{}], "version": "1.0"},
        {"sample": [{"a": 1}] * 10_001},
        {"schema": {}},
        {"schema": []},
        {"schema": {"fields": 5}},
        {"schema": {"fields": []}},
        {"schema": {"fields": [5, None, {"name": None}]}},
        {"schema": {"fields": [{"name": {"a": 1}, "type": "text"}]}},
        {"schema": {"fields": [{"name": "a\u0000", "type": "text"}]}},
        {"schema": {"fields": [{"name": f"field{number}", "type": "text"} for number in range(5000)]}},
        {"schema": {"key": "nothing"}},
        {"schema": {"rules": [{"type": "expression", "expression": "(" * 5000}]}},
        {"schema": {"nonsense": "x" * 100_000}},
        {"schema": {"fields": [{"name": "customerId", "type": "text", "id": 10**30}]}},
        {"schema": {"deep": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}},
        {"version": ""},
        {"version": "x" * 21},
        {"version": "1.0; DROP"},
        {"nonsense": 1},
        {},
    ],
    ids=lambda body: str(body)[:60],
)
async def test_garbage_is_refused(filled: dict[str, User], body: dict[str, Any]) -> None:
    answer = await filled["ENGINEER"].post(DRIFT, body)
    assert answer.status_code in (400, 404, 422), answer.text
    assert (await filled["ENGINEER"].get(DRIFT)).json()["data"] == []


@pytest.mark.timed
@pytest.mark.parametrize(
    ("records", "members", "there"),
    [(10_000, 20, 0), (1_000, 190, 0), (1_000, 190, 400), (300, 1_000, 0), (300, 1_000, 400), (1, 100_000, 400)],
)
async def test_a_large_sample_is_looked_at_in_time(
    people: dict[str, User], records: int, members: int, there: int
) -> None:
    """However many columns are new, and fields are gone."""
    fields = customers()["fields"] + [{"name": f"amount{n}of{n * 7}", "type": "text"} for n in range(190)]
    await used(people, fields=fields)
    bob = people["ENGINEER"]
    rows = [record(n) | {f"amount{m}of{m * 7}": f"{n}-{m}" for m in range(190)} for n in range(there)]
    if rows:
        await ingested(bob, *rows)
    names = [f"amount{m}_of_{m * 9}" for m in range(members)]
    sample = [{"customerId": f"C{n:03}"} | dict.fromkeys(names, f"{n}") for n in range(records)]
    began = time.monotonic()
    answer = await bob.post(DRIFT, {"sample": sample})
    spent = time.monotonic() - began
    print(f"{records} x {members}: {spent:.1f} s", answer.status_code, len(answer.content))
    assert answer.status_code in (201, 413, 422), answer.text[:500]
    assert spent < QUICK


# -- decisions ---------------------------------------------------------------------------------------------------------


async def state_of(world: World) -> list[tuple[Any, ...]]:
    """All that a decision can change."""
    selects = (
        "SELECT state, decided_by, made_version FROM drift_report ORDER BY id",
        "SELECT decision, mapped_to FROM drift_change ORDER BY report_id, place",
        "SELECT field, name FROM field_mapping ORDER BY field",
        "SELECT name, contract_version, state FROM dataset ORDER BY name",
    )
    return [tuple(row) for select in selects for row in await world.db.fetch(select)]


async def test_of_two_who_decide_at_once_one_has_decided(world: World, filled: dict[str, User]) -> None:
    bob = filled["ENGINEER"]
    carl = filled["ADMIN"]
    dora = (await world.user("dora", role=Role.ADMIN)).on("customers")
    report = await reported(bob, RENAMED)
    path = f"{DRIFT}/{report}"
    answers = await asyncio.gather(
        carl.post(f"{path}/accept", {}),
        dora.post(f"{path}/accept", {}),
        carl.post(f"{path}/map", {"from": "company", "to": "companyName"}),
        dora.post(f"{path}/map", {"from": "company", "to": "companyName"}),
        carl.post(f"{path}/reject", {"reason": "no"}),
        dora.post(f"{path}/reject", {"reason": "no"}),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
    decided = next(answer.json() for answer in answers if answer.status_code == 200)
    now = await read(bob, report)
    assert {name: now[name] for name in ("state", "decidedBy", "madeVersion")} == {
        name: decided[name] for name in ("state", "decidedBy", "madeVersion")
    }
    mapped = await world.db.fetchval("SELECT count(*) FROM field_mapping")
    versions = await world.db.fetchval("SELECT count(*) FROM contract")
    assert (mapped, versions) == {"accepted": (0, 2), "mapped": (1, 1), "rejected": (0, 1)}[now["state"]]


async def test_a_report_of_another_organization_is_not_there(world: World, filled: dict[str, User]) -> None:
    """Nor one of another dataset."""
    report = await reported(filled["ENGINEER"], RENAMED)
    await world.organization("beta")
    eve = (await world.user("eve", "beta", role=Role.ADMIN)).on("customers")
    await registered(eve)
    await registered(filled["ENGINEER"], customers(name="others"))
    before = await state_of(world)
    for decision, body in (
        ("accept", {}),
        ("map", {"from": "company", "to": "companyName"}),
        ("reject", {"reason": "no"}),
    ):
        refused(await eve.post(f"{DRIFT}/{report}/{decision}", body), 403, "FORBIDDEN")
        refused(
            await eve.post(f"{DRIFT.replace('acme', 'beta')}/{report}/{decision}", body), 404, "DRIFT_REPORT_NOT_FOUND"
        )
        for other in ("others", "pfa"):
            path = f"{DRIFT.replace('customers', other)}/{report}/{decision}"
            refused(await filled["ADMIN"].post(path, body), 404, "DRIFT_REPORT_NOT_FOUND")
        for odd in ("x", "'", report[:-1], report.upper() + "0", "%00", "..%2f"):
            answer = await filled["ADMIN"].post(f"{DRIFT}/{odd}/{decision}", body)
            assert answer.status_code in (400, 404), answer.text
    assert await state_of(world) == before


@pytest.mark.parametrize("decision", ["accept", "map", "reject"])
async def test_a_decision_is_made_once_with_a_key(world: World, filled: dict[str, User], decision: str) -> None:
    body = {"accept": {}, "map": {"from": "company", "to": "companyName"}, "reject": {"reason": "no"}}[decision]
    report = await reported(filled["ENGINEER"], RENAMED)
    carl, headers = filled["ADMIN"], {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(carl.post(f"{DRIFT}/{report}/{decision}", body, headers=headers) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    other = await carl.post(f"{DRIFT}/{report}/reject", {"reason": "another"}, headers=headers)
    refused(other, 409 if other.status_code == 409 else 422, "IDEMPOTENCY_KEY_REUSED")
    refused(await carl.post(f"{DRIFT}/{report}/{decision}", body), 409, "INVALID_TRANSITION")
    assert await world.db.fetchval("SELECT count(*) FROM audit WHERE action LIKE 'drift%'") <= 1


async def test_a_look_is_kept_once_with_a_key(world: World, filled: dict[str, User]) -> None:
    bob, headers = filled["ENGINEER"], {"Idempotency-Key": "once"}
    answers = [await bob.post(DRIFT, {"sample": RENAMED}, headers=headers) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert await world.db.fetchval("SELECT count(*) FROM drift_report") == 1


async def test_records_that_have_drifted_are_refused_with_a_key_until_somebody_decides(
    filled: dict[str, User],
) -> None:
    """No refusal is kept for records that a person can let in."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):
        answer = await bob.post("ingest", {"records": RENAMED}, headers=headers)
        report = refused(answer, 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    answers = [await bob.post("ingest", {"records": RENAMED}, headers=headers) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"from": "company", "to": "revenue"}, 422),  # what another field reads
        ({"from": "company", "to": "customerId"}, 422),
        ({"from": "revenue", "to": "companyName"}, 422),  # no change is about it
        ({"from": "companyName", "to": "companyName"}, 422),
        ({"from": "company", "to": "x" * 501}, 400),
        ({"from": "company", "to": ""}, 400),
        ({"from": "company", "to": "a\u0000"}, 422),
        ({"from": "\u0000", "to": "companyName"}, 422),
        ({"from": None, "to": "companyName"}, 400),
        ({"from": "company"}, 400),
        ({}, 400),
    ],
)
async def test_a_field_is_mapped_to_nothing_odd(
    world: World, filled: dict[str, User], body: dict[str, Any], status: int
) -> None:
    report = await reported(filled["ENGINEER"], RENAMED)
    before = await state_of(world)
    answer = await filled["ADMIN"].post(f"{DRIFT}/{report}/map", body)
    assert answer.status_code == status, answer.text
    assert await state_of(world) == before


async def test_two_fields_are_not_mapped_to_one_column(world: World, filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    drifted = [without(each, "company", "customerSince") | {"name": each["company"], "day": each["customerSince"]}
               for each in RECORDS]  # fmt: skip
    report = await reported(bob, drifted)
    assert written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "name"}))["state"] == "open"
    refused(await carl.post(f"{DRIFT}/{report}/map", {"from": "customerSince", "to": "name"}), 422, "VALIDATION_FAILED")
    assert (
        written(await carl.post(f"{DRIFT}/{report}/map", {"from": "customerSince", "to": "day"}))["state"] == "mapped"
    )
    assert await ingested(bob, *drifted) == {"read": 30, "unchanged": 30}
    # A later drift: another field is not mapped to what a mapping of before reads.
    again = [without(each, "revenue") | {"money": each["name"], "income": record(n + 1)["revenue"]}
             for n, each in enumerate(drifted)]  # fmt: skip
    report = await reported(bob, again)
    refused(await carl.post(f"{DRIFT}/{report}/map", {"from": "revenue", "to": "name"}), 422, "VALIDATION_FAILED")
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "revenue", "to": "income"}))
    assert await world.db.fetchval("SELECT count(DISTINCT name) FROM field_mapping") == 3


async def test_what_is_half_mapped_and_accepted_keeps_what_was_mapped(world: World, filled: dict[str, User]) -> None:
    """The rest makes a version; what was mapped is read from its column, there too."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    drifted = [without(each, "company", "customerSince") | {"name": each["company"], "day": each["customerSince"]}
               for each in RECORDS]  # fmt: skip
    report = await reported(bob, drifted)
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "name"}))
    answer = written(await carl.post(f"{DRIFT}/{report}/accept", {}))
    assert (answer["state"], answer["madeVersion"]) == ("accepted", "2.0")
    assert sorted(each["decision"] for each in answer["changes"]) == ["accepted", "mapped"]
    assert await ingested(bob.on("customers@2"), *drifted) == {"read": 30, "inserted": 30}
    rows = {row["id"]: row["data"] for row in await bob.on("customers@2").rows()}
    assert (rows["C001"]["company"], rows["C001"]["day"]) == ("Company 1", "2020-01-02")


# -- where accepting is refused ----------------------------------------------------------------------------------------


async def test_what_cannot_be_registered_is_not_accepted(database_url: str) -> None:
    """The report stays open, and can be decided on afterwards."""
    async with open_world(database_url, max_datasets=2) as world:
        await world.organization("acme")
        people = await people_of(world)
        await used(people)
        bob, carl = people["ENGINEER"], people["ADMIN"]
        await ingested(bob, *RECORDS)
        report = await reported(bob, RENAMED)
        await registered(bob, customers(name="others"))
        before = await state_of(world)
        answer = await carl.post(f"{DRIFT}/{report}/accept", {})
        refused(answer, answer.status_code, "QUOTA_EXCEEDED")
        await world.db.execute("UPDATE system SET mode = 'READ_ONLY'")
        answer = await carl.post(f"{DRIFT}/{report}/accept", {})
        refused(answer, answer.status_code, "SYSTEM_READ_ONLY")
        assert await state_of(world) == before
        await world.db.execute("UPDATE system SET mode = 'INGESTION_READY'")
        await bob.request("DELETE", "/api/v1/orgs/acme/contracts/others/1.0")
        assert written(await carl.post(f"{DRIFT}/{report}/accept", {}))["madeVersion"] == "2.0"


async def test_a_contract_that_no_registry_takes_is_told(world: World, filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    before = await state_of(world)
    for odd in (
        [{f"more{number}": 1 for number in range(300)} | each for each in RECORDS],  # more fields than there may be
        [each | {"nested": {"a": 1}} for each in RECORDS],
        [each | {"company": "x" * 600} for each in RECORDS],  # longer than its index bears
        [each | {"customerId": True} for each in RECORDS],
        [without(each, "customerId") for each in RECORDS],
    ):
        report = (await looked(bob, sample=odd))["id"]
        refused(await carl.post(f"{DRIFT}/{report}/accept", {}), 422, "VALIDATION_FAILED")
        written(await carl.post(f"{DRIFT}/{report}/reject", {"reason": "no"}))
    assert [each for each in await state_of(world) if each in before] == before


async def test_a_version_that_came_between_makes_the_report_past(world: World, filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = await reported(bob, RENAMED)
    fields = [*customers()["fields"], {"name": "email", "type": "text"}]
    await registered(bob, customers(version="1.1", fields=fields))
    before = await state_of(world)
    refused(await carl.post(f"{DRIFT}/{report}/accept", {}), 409, "SCHEMA_CHANGED")
    assert await state_of(world) == before
    again = await reported(bob, RENAMED)
    assert again != report
    assert written(await carl.post(f"{DRIFT}/{again}/accept", {}))["madeVersion"] == "2.0"


async def test_a_major_version_that_is_there_is_passed_over(world: World, filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    fields = [each for each in customers()["fields"] if each["name"] != "customerSince"]
    await registered(bob, customers(version="2.0", fields=fields))
    report = await reported(bob, RENAMED)
    assert written(await carl.post(f"{DRIFT}/{report}/accept", {}))["madeVersion"] == "3.0"


async def test_records_and_an_acceptance_at_once(world: World, filled: dict[str, User]) -> None:
    """Whoever is first: each answer is one of those that are right, and no record is lost or half taken."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    more = [each | {"email": f"{n}@x.example"} for n, each in enumerate(RECORDS)]
    report = await looked(bob, sample=more)
    answers = await asyncio.gather(
        carl.post(f"{DRIFT}/{report['id']}/accept", {}),
        *(bob.post("ingest", {"records": more}) for _ in range(4)),
    )
    assert {answer.status_code for answer in answers} <= {200, 409}, [answer.text for answer in answers]
    assert answers[0].status_code == 200
    for answer in answers[1:]:
        if answer.status_code == 409:
            assert answer.json()["code"] == "SCHEMA_CHANGED"
    assert await ingested(bob, *more) in (
        {"read": 30, "unchanged": 30}, {"read": 30, "updated": 30},
    )  # fmt: skip
    assert (await bob.row("C001"))["data"]["email"] == "0@x.example"


async def test_many_with_the_same_drift_make_one_report(world: World, filled: dict[str, User]) -> None:
    bob = filled["ENGINEER"]
    answers = await asyncio.gather(*(bob.post("ingest", {"records": RENAMED}) for _ in range(6)))
    assert {refused(answer, 409, "SCHEMA_DRIFT")["report"] for answer in answers} == {
        (await bob.get(DRIFT)).json()["data"][0]["id"]
    }
    assert (await bob.get(DRIFT)).json()["data"][0]["times"] == 6


async def test_many_that_evolve_at_once_make_one_version(world: World, people: dict[str, User]) -> None:
    await used(people, schemaContract={"newFields": "evolve", "types": "evolve"})
    bob = people["ENGINEER"]
    await ingested(bob, *RECORDS)
    more = [each | {"email": f"{n}@x.example", "tier": "bronze"} for n, each in enumerate(RECORDS)]
    answers = await asyncio.gather(*(bob.post("ingest", {"records": more}) for _ in range(5)))
    for answer in answers:
        assert answer.status_code in (200, 409), answer.text
        assert answer.status_code == 200 or answer.json()["code"] == "SCHEMA_CHANGED"
    assert await world.db.fetchval("SELECT count(*) FROM contract") == 2
    assert await ingested(bob, *more) in ({"read": 30, "unchanged": 30}, {"read": 30, "updated": 30})


# -- other datasets ----------------------------------------------------------------------------------------------------


async def test_a_deprecated_dataset_and_one_in_shadow(world: World, people: dict[str, User]) -> None:
    bob, carl = people["ENGINEER"], people["ADMIN"]
    await registered(bob)
    await ingested(bob, *RECORDS)
    report = await reported(bob, RENAMED)  # in SHADOW
    assert (await people["ANALYST"].get(f"{DRIFT}/{report}")).status_code == 404
    written(await carl.post(f"{DRIFT}/{report}/reject", {"reason": "no"}))
    await moved(carl, "promote")
    other = [without(each, "company") | {"label": each["company"]} for each in RECORDS]
    report = await reported(bob, other)
    await moved(carl, "deprecate")
    refused(await carl.post(f"{DRIFT}/{report}/accept", {}), 404, "DATASET_NOT_FOUND")
    refused(await bob.post("ingest", {"records": other}), 404, "DATASET_NOT_FOUND")
    refused(await bob.post(DRIFT, {"sample": RENAMED}), 404, "DATASET_NOT_FOUND")
    # By its address it can be looked at; nothing is changed in place.
    old = DRIFT.replace("customers", "customers@1")
    more = [each | {"email": "x"} for each in RECORDS]
    found = written(await bob.post(old, {"sample": more}), 201)
    refused(await carl.post(f"{old}/{found['id']}/accept", {}), 409, "DATASET_READ_ONLY")
    assert (await carl.get(f"{old}/{found['id']}")).json()["state"] == "open"


async def test_appended_records(people: dict[str, User]) -> None:
    """Rows of one key are many: what is renamed is known by the values that there are."""
    await used(people, ingestion=APPENDED)
    bob, carl = people["ENGINEER"], people["ADMIN"]
    timed = [each | {"seenAt": f"2026-01-01T{n % 24:02}:00:00Z"} for n, each in enumerate(RECORDS)]
    await ingested(bob, *timed)
    renamed = [without(each, "company") | {"name": each["company"]} for each in timed]
    report = await reported(bob, renamed)
    assert told(await read(bob, report)) == [("RENAME", "company", "BREAKING")]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "name"}))
    assert await ingested(bob, *renamed) == {"read": 30, "skipped": 30}


async def test_a_key_of_two_fields(people: dict[str, User]) -> None:
    fields = [each | ({"editable": False} if each["name"] == "customerSince" else {}) for each in customers()["fields"]]
    key = ["customerId", "customerSince"]
    await used(people, key=key, fields=fields, ingestion=SEMANTICS | {"idempotencyKey": key})
    bob, carl = people["ENGINEER"], people["ADMIN"]
    await ingested(bob, *RECORDS)
    report = await reported(bob, RENAMED)
    assert told(await read(bob, report)) == [("RENAME", "company", "BREAKING")]
    assert (await read(bob, report))["changes"][0]["evidence"]["pairs"] == 30
    gone = [without(each, "customerSince") | {"since": each["customerSince"]} for each in RECORDS]
    report = await reported(bob, gone)
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "customerSince", "to": "since"}))
    assert await ingested(bob, *gone) == {"read": 30, "unchanged": 30}


async def test_csv_drifts_as_json_does(world: World, filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]

    def csv(records: list[dict[str, Any]]) -> bytes:
        lines = [",".join(records[0]), *(",".join(map(str, each.values())) for each in records)]
        return "\r\n".join(lines).encode()

    headers = {"Content-Type": "text/csv"}
    for drifted, kind in ((RENAMED, "RENAME"), (RETYPED, "TYPE_CHANGE")):
        answer = await bob.request("POST", "ingest", content=csv(drifted), headers=headers)
        report = refused(answer, 409, "SCHEMA_DRIFT")["report"]
        assert [each["kind"] for each in (await read(bob, report))["changes"]] == [kind]
        if kind == "RENAME":
            # The same drift in JSON is the same report.
            assert await reported(bob, drifted) == report
            written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
            await uploaded(bob, csv([each | {"companyName": "By CSV"} for each in drifted]), "text/csv")
            await work(world)
            assert {row["data"]["company"] for row in await bob.rows()} == {"By CSV"}


async def test_reports_have_a_bound(database_url: str) -> None:
    """Whoever asks again and again is refused; so are records that break the contract, and no others."""
    async with open_world(database_url, max_drift_reports=2) as world:
        await world.organization("acme")
        people = await people_of(world)
        await used(people)
        bob = people["ENGINEER"]
        records = [{"customerId": f"C{n}", "company": f"Company {n}"} for n in range(12)]
        await ingested(bob, *records)
        for _ in range(2):
            written(await bob.post(DRIFT, {"sample": records}), 201)
        error = refused(await bob.post(DRIFT, {"sample": records}), 409, "QUOTA_EXCEEDED")
        assert "VANGUARD_MAX_DRIFT_REPORTS" in error["detail"]
        renamed = [{"customerId": each["customerId"], "companyName": each["company"]} for each in records]
        refused(await bob.post("ingest", {"records": renamed}), 409, "QUOTA_EXCEEDED")
        new = [each | {"colour": "red"} for each in records]
        assert await ingested(bob, *new) == {"read": 12, "quarantined": 12}
