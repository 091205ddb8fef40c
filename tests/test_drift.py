"""Drift of datasets of one's own: what is reported, what records that have drifted come to, and what is decided."""

from typing import Any

import pytest

from tests.support.ingesting import ingested, ndjson, people_of, uploaded, used, work
from tests.support.joining import accepted, candidates, stored, table
from tests.support.own import customers, moved, registered
from tests.support.world import User, World, refused, written

CONTRACTS = "/api/v1/orgs/acme/contracts"
DRIFT = f"{CONTRACTS}/customers/drift"


@pytest.fixture
async def people(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes records; everybody on `customers`."""
    return await people_of(world)


def record(number: int, **more: Any) -> dict[str, Any]:
    return {
        "customerId": f"C{number:03}",
        "company": f"Company {number}",
        "tier": "gold" if number % 2 else "silver",
        "revenue": number * 100,
        "customerSince": f"2020-01-{1 + number % 28:02}",
    } | more


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


RECORDS = [record(number) for number in range(1, 31)]
RENAMED = [without(each, "company") | {"companyName": each["company"]} for each in RECORDS]
RETYPED = [each | {"customerSince": index} for index, each in enumerate(RECORDS)]


@pytest.fixture
async def filled(people: dict[str, User]) -> dict[str, User]:
    """With thirty customers."""
    await used(people)
    await ingested(people["ENGINEER"], *RECORDS)
    return people


async def looked(user: User, **body: Any) -> dict[str, Any]:
    return written(await user.post(DRIFT, body), 201)


async def renamed(bob: User) -> None:
    """Version 2.0, in which the company is firmName, and another field has its name."""
    contract = (await bob.get(f"{CONTRACTS}/customers/1.0")).json()["contract"]
    fields = [each | ({"name": "firmName"} if each["name"] == "company" else {}) for each in contract["fields"]]
    fields.append({"name": "company", "type": "text"})
    await registered(bob, contract | {"version": "2.0", "fields": fields})


def told(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["field"], each["severity"]) for each in report["changes"]]


# -- what is reported --------------------------------------------------------------------------------------------------


async def test_a_sample_as_the_contract_has_it_has_not_drifted(filled: dict[str, User]) -> None:
    report = await looked(filled["ENGINEER"], sample=RECORDS)
    assert (report["changes"], report["severity"], report["state"]) == ([], "COMPATIBLE", "applied")
    assert report["health"] == {"risk": "LOW", "known": 5, "missing": 0, "new": 0, "retyped": 0}
    assert (report["backward"], report["forward"], report["backwardAll"], report["forwardAll"]) == (True,) * 4


@pytest.mark.parametrize(
    ("sample", "changes"),
    [
        ([each | {"email": f"{n}@x.example"} for n, each in enumerate(RECORDS)], [("ADD", "email", "COMPATIBLE")]),
        ([without(each, "revenue") for each in RECORDS], [("REMOVE", "revenue", "BREAKING")]),
        (RENAMED, [("RENAME", "company", "BREAKING")]),
        (RETYPED, [("TYPE_CHANGE", "customerSince", "BREAKING")]),
        ([each | {"tier": "bronze"} for each in RECORDS], [("VALUES_CHANGE", "tier", "COMPATIBLE")]),
        ([each | {"company": "x" * 600} for each in RECORDS], [("LIMIT_CHANGE", "company", "COMPATIBLE")]),
        ([without(each, "customerId") for each in RECORDS], [("REMOVE", "customerId", "BREAKING")]),
    ],
)
async def test_what_is_reported_is_what_was_changed(
    filled: dict[str, User], sample: list[dict[str, Any]], changes: list[Any]
) -> None:
    report = await looked(filled["ENGINEER"], sample=sample)
    assert told(report) == changes
    assert report["severity"] == changes[0][2]


async def test_columns_that_changed_places_are_told_by_what_rows_have(people: dict[str, User]) -> None:
    await used(people, fields=[*customers()["fields"], {"name": "contact", "type": "text"}])
    records = [each | {"contact": f"Person {n}"} for n, each in enumerate(RECORDS)]
    await ingested(people["ENGINEER"], *records)
    swapped = [each | {"company": each["contact"], "contact": each["company"]} for each in records]
    report = await looked(people["ENGINEER"], sample=swapped)
    assert told(report) == [("RENAME", "company", "BREAKING"), ("RENAME", "contact", "BREAKING")]
    assert [(each["from"], each["to"]) for each in report["changes"]] == [
        ("company", "contact"), ("contact", "company"),
    ]  # fmt: skip


async def test_who_uses_a_field_is_counted(filled: dict[str, User]) -> None:
    ann = filled["ANALYST"]
    await ann.draft("C001", {"revenue": 1})
    await ann.draft("C002", {"revenue": 2})
    report = await looked(filled["ENGINEER"], sample=[without(each, "revenue") for each in RECORDS])
    (change,) = report["changes"]
    assert change["uses"] == {
        "drafts": 2, "sessions": 0, "requests": 0, "changes": 0, "joins": 0, "kpis": 1, "indexes": 1, "rules": 0,
    }  # fmt: skip


async def test_accepted_joins_use_the_fields_of_both_sides(filled: dict[str, User]) -> None:
    parents = [{"code": f"C{number:03}"} for number in range(1, 31)]
    await stored(filled, table("parents", "code", "code text"), parents)
    (candidate,) = [
        each for each in await candidates(filled["ADMIN"], "customers", "parents")
        if each["condition"] == "customers.customerId = parents.code"
    ]  # fmt: skip
    join = await accepted(filled["ADMIN"], candidate)
    for joins in (1, 0):
        report = await looked(filled["ENGINEER"], sample=[without(each, "customerId") for each in RECORDS])
        assert [each["uses"]["joins"] for each in report["changes"]] == [joins]
        await filled["ADMIN"].post(f"/api/v1/orgs/acme/joins/{join['id']}/deprecate", {"reason": "as the test has it"})


async def test_a_schema_says_what_rows_break_already(filled: dict[str, User]) -> None:
    """A narrower text is a warning, unless a row is longer."""
    fields = customers()["fields"]
    narrower = [field | ({"maxLength": 100} if field["name"] == "company" else {}) for field in fields]
    report = await looked(filled["ENGINEER"], schema={"fields": narrower})
    assert told(report) == [("LIMIT_CHANGE", "company", "WARNING")]
    assert report["changes"][0]["violations"] == 0
    narrower = [field | ({"maxLength": 9} if field["name"] == "company" else {}) for field in fields]
    report = await looked(filled["ENGINEER"], schema={"fields": narrower})
    assert told(report) == [("LIMIT_CHANGE", "company", "BREAKING")]
    assert report["changes"][0]["violations"] == 21  # from Company 10 on


async def test_a_required_field_breaks_once_rows_exist(people: dict[str, User]) -> None:
    await registered(people["ENGINEER"])
    fields = [*customers()["fields"], {"name": "email", "type": "text"}]
    schema = {"fields": fields, "rules": [{"type": "required", "fields": ["email"]}]}
    report = await looked(people["ENGINEER"], schema=schema)
    assert told(report)[0] == ("ADD", "email", "WARNING")
    await moved(people["ADMIN"], "promote")
    await ingested(people["ENGINEER"], *RECORDS)
    report = await looked(people["ENGINEER"], schema=schema)
    assert told(report)[0] == ("ADD", "email", "BREAKING")
    assert report["changes"][0]["violations"] == 30


async def test_a_renamed_field_of_a_schema_is_told_by_its_name(filled: dict[str, User]) -> None:
    fields = [each | ({"name": "companyName"} if each["name"] == "company" else {}) for each in customers()["fields"]]
    report = await looked(filled["ENGINEER"], schema={"fields": fields})
    assert told(report) == [("RENAME", "company", "BREAKING")]
    (change,) = report["changes"]
    assert (change["from"], change["to"]) == ("company", "companyName")
    assert 0.5 <= change["confidence"] <= 0.7


async def test_versions_are_compared(filled: dict[str, User]) -> None:
    fields = [*customers()["fields"], {"name": "email", "type": "text"}]
    await registered(filled["ENGINEER"], customers(version="1.1", fields=fields))
    report = await looked(filled["ENGINEER"], version="1.0")
    assert told(report) == [("REMOVE", "email", "BREAKING")]
    assert report["state"] == "applied"
    refused(await filled["ENGINEER"].post(DRIFT, {"version": "7.0"}), 404, "CONTRACT_NOT_FOUND")
    refused(await filled["ENGINEER"].post(DRIFT, {}), 422, "VALIDATION_FAILED")
    refused(await filled["ANALYST"].post(DRIFT, {"version": "1.0"}), 403, "FORBIDDEN")


# -- records that are sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drifted", [RENAMED, RETYPED], ids=["renamed", "retyped"])
async def test_records_that_break_the_contract_wait_for_a_person(
    filled: dict[str, User], drifted: list[dict[str, Any]]
) -> None:
    bob = filled["ENGINEER"]
    before = await bob.rows()
    for _ in range(2):
        error = refused(await bob.post("ingest", {"records": drifted}), 409, "SCHEMA_DRIFT")
    response = await bob.request(
        "POST", "ingest", content=ndjson(drifted), headers={"Content-Type": "application/x-ndjson"}
    )
    assert refused(response, 409, "SCHEMA_DRIFT")["report"] == error["report"]
    assert await bob.rows() == before
    report = (await bob.get(f"{DRIFT}/{error['report']}")).json()
    assert (report["source"], report["severity"], report["times"], report["state"]) == ("ingest", "BREAKING", 3, "open")


async def test_a_mapped_member_is_read_as_the_field(filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    renamed = [each | {"companyName": f"New {n}"} for n, each in enumerate(RENAMED)]
    renamed[:28] = RENAMED[:28]
    report = refused(await bob.post("ingest", {"records": renamed}), 409, "SCHEMA_DRIFT")["report"]
    body = {"from": "company", "to": "companyName"}
    refused(await bob.post(f"{DRIFT}/{report}/map", body), 403, "FORBIDDEN")
    refused(await carl.post(f"{DRIFT}/{report}/map", body | {"to": "nothing"}), 422, "VALIDATION_FAILED")
    assert written(await carl.post(f"{DRIFT}/{report}/map", body))["state"] == "mapped"
    refused(await carl.post(f"{DRIFT}/{report}/map", body), 409, "INVALID_TRANSITION")
    assert await ingested(bob, *renamed) == {"read": 30, "updated": 2, "unchanged": 28}
    mappings = f"{DRIFT.removesuffix('/drift')}/mappings"
    (mapping,) = (await bob.get(mappings)).json()["data"]
    assert (mapping["field"], mapping["column"]) == ("company", "companyName")
    assert (await carl.request("DELETE", f"{mappings}/company")).status_code == 204
    refused(await bob.post("ingest", {"records": renamed}), 409, "SCHEMA_DRIFT")


async def test_a_mapped_member_is_read_in_an_upload_too(world: World, filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    await uploaded(bob, ndjson([each | {"companyName": "Renamed"} for each in RENAMED]))
    await work(world)
    assert {row["data"]["company"] for row in await bob.rows()} == {"Renamed"}


async def test_two_columns_of_a_mapped_field_refuse_the_upload(filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    body = b"customerId,company,companyName\nC001,A,B\n"
    error = refused(
        await bob.request("POST", "ingest", content=body, headers={"Content-Type": "text/csv"}),
        400, "MALFORMED_REQUEST",
    )  # fmt: skip
    assert "'company' and 'companyName' are both company" in error["detail"]


async def test_a_mapping_is_of_the_field_whatever_a_version_calls_it(filled: dict[str, User]) -> None:
    """Given a mapped field that the next version renames, and another one that gets its name."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    await renamed(bob)
    await ingested(bob.on("customers@2"), *RENAMED)
    row = (await bob.on("customers@2").row("C001"))["data"]
    assert (row["firmName"], "company" in row) == ("Company 1", False)
    for dataset, field in (("customers", "company"), ("customers@2", "firmName")):
        (mapping,) = (await bob.get(f"{CONTRACTS}/{dataset}/mappings")).json()["data"]
        assert (mapping["field"], mapping["column"]) == (field, "companyName")
    mappings = f"{CONTRACTS}/customers@2/mappings"
    assert (await carl.request("DELETE", f"{mappings}/company")).status_code == 404
    assert (await carl.request("DELETE", f"{mappings}/firmName")).status_code == 204
    assert (await bob.get(f"{CONTRACTS}/customers/mappings")).json()["data"] == []


async def test_two_fields_of_one_name_are_mapped_each_by_itself(filled: dict[str, User]) -> None:
    """Given a mapped field, and the field of the next version that has its name, which is mapped, too."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    await renamed(bob)
    shadow, other = bob.on("customers@2"), carl.on("customers@2")
    sent = [each | {"company": f"New {n}"} for n, each in enumerate(RENAMED)]
    await ingested(shadow, *sent)
    drifted = [without(each, "company") | {"owner": each["company"]} for each in sent]
    report = refused(await shadow.post("ingest", {"records": drifted}), 409, "SCHEMA_DRIFT")["report"]
    drift = f"{CONTRACTS}/customers@2/drift"
    written(await other.post(f"{drift}/{report}/map", {"from": "company", "to": "owner"}))
    assert await ingested(shadow, *drifted) == {"read": 30, "unchanged": 30}
    for dataset, expected in (
        ("customers", {"company": "companyName"}),
        ("customers@2", {"company": "owner", "firmName": "companyName"}),
    ):
        found = (await bob.get(f"{CONTRACTS}/{dataset}/mappings")).json()["data"]
        assert {each["field"]: each["column"] for each in found} == expected


async def test_a_mapping_without_an_id_goes_by_the_name(world: World, filled: dict[str, User]) -> None:
    """As those that were made before there were ids of them, until the field is mapped again."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    await world.db.execute("UPDATE field_mapping SET field_id = 0")
    assert await ingested(bob, *RENAMED) == {"read": 30, "unchanged": 30}
    other = [without(each, "company") | {"enterprise": each["company"]} for each in RECORDS]
    report = refused(await bob.post("ingest", {"records": other}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "enterprise"}))
    assert await world.db.fetchval("SELECT array_agg(name) FROM field_mapping") == ["enterprise"]
    assert await ingested(bob, *other) == {"read": 30, "unchanged": 30}


async def test_accepting_what_breaks_makes_a_version_in_shadow(filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    answer = written(await carl.post(f"{DRIFT}/{report}/accept", {}))
    assert (answer["state"], answer["madeVersion"]) == ("accepted", "2.0")
    error = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")
    assert "2.0" in error["detail"]
    shadow = bob.on("customers@2")
    assert await ingested(shadow, *RENAMED) == {"read": 30, "inserted": 30}
    contract = (await bob.get("/api/v1/orgs/acme/contracts/customers/2.0")).json()["contract"]
    ids = {field["name"]: field["id"] for field in contract["fields"]}
    assert ids["companyName"] == 2


async def test_what_was_accepted_is_open_again_once_its_version_is_deleted(filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    shown = (await looked(bob, sample=RENAMED))["id"]
    for each, version in ((report, "2.0"), (shown, "3.0")):
        assert written(await carl.post(f"{DRIFT}/{each}/accept", {}))["madeVersion"] == version
    assert (await bob.request("DELETE", f"{CONTRACTS}/customers/2.0")).status_code == 204
    assert (await bob.get(f"{DRIFT}/{shown}")).json()["state"] == "accepted"
    error = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")
    assert (error["report"], "An administrator decides" in error["detail"]) == (report, True)
    found = (await bob.get(f"{DRIFT}/{report}")).json()
    assert (found["state"], found["madeVersion"], found["decidedBy"]) == ("open", None, None)
    assert [each["decision"] for each in found["changes"]] == [None]
    written(await carl.post(f"{DRIFT}/{report}/map", {"from": "company", "to": "companyName"}))
    assert await ingested(bob, *RENAMED) == {"read": 30, "unchanged": 30}


async def test_accepting_what_is_compatible_applies_at_once(filled: dict[str, User]) -> None:
    """And what was put aside meanwhile is sent through again."""
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    more = [each | {"email": f"{n}@x.example"} for n, each in enumerate(RECORDS)]
    assert await ingested(bob, *more) == {"read": 30, "quarantined": 30}
    (report,) = (await bob.get(DRIFT)).json()["data"]
    assert (report["severity"], report["state"]) == ("COMPATIBLE", "open")
    answer = written(await carl.post(f"{DRIFT}/{report['id']}/accept", {}))
    assert answer["madeVersion"] == "1.1"
    assert await ingested(bob, *more) == {"read": 30, "updated": 30}
    assert (await bob.row("C001"))["data"]["email"] == "0@x.example"


async def test_a_contract_that_evolves_follows_by_itself(people: dict[str, User]) -> None:
    await used(people, schemaContract={"newFields": "evolve", "types": "evolve"})
    bob = people["ENGINEER"]
    await ingested(bob, *RECORDS)
    more = [each | {"email": f"{n}@x.example", "tier": "bronze"} for n, each in enumerate(RECORDS)]
    assert await ingested(bob, *more) == {"read": 30, "updated": 30}
    (report,) = (await bob.get(DRIFT)).json()["data"]
    assert (report["state"], report["madeVersion"]) == ("applied", "1.1")
    assert (await bob.row("C002"))["data"]["tier"] == "bronze"


async def test_a_new_member_without_a_value_makes_no_field(world: World, people: dict[str, User]) -> None:
    """Nobody knows its type yet. The first value tells."""
    await used(people, schemaContract={"newFields": "evolve"})
    bob = people["ENGINEER"]
    await uploaded(bob, b"customerId,company,size\nC1,A,\nC2,B,\n", "text/csv")
    await work(world)
    assert await ingested(bob, {"customerId": "C3", "size": None}) == {"read": 1, "inserted": 1}
    assert (await bob.get(DRIFT)).json()["data"] == []
    assert len(await bob.rows()) == 3
    assert await ingested(bob, {"customerId": "C1", "size": 5}, {"customerId": "C2", "size": None}) == {
        "read": 2, "updated": 1, "unchanged": 1,
    }  # fmt: skip
    (report,) = (await bob.get(DRIFT)).json()["data"]
    assert (report["state"], report["madeVersion"]) == ("applied", "1.1")
    assert (await bob.row("C1"))["data"]["size"] == 5


async def test_single_values_that_do_not_fit_are_no_drift(filled: dict[str, User]) -> None:
    bob = filled["ENGINEER"]
    wrong = [each | ({"customerSince": "soon"} if n < 9 else {}) for n, each in enumerate(RECORDS)]
    assert await ingested(bob, *wrong) == {"read": 30, "unchanged": 21, "quarantined": 9}
    assert (await bob.get(DRIFT)).json()["data"] == []


async def test_records_may_leave_out_what_they_like(filled: dict[str, User]) -> None:
    bob = filled["ENGINEER"]
    part = [{"customerId": each["customerId"], "revenue": 1} for each in RECORDS]
    assert await ingested(bob, *part) == {"read": 30, "updated": 30}
    assert (await bob.get(DRIFT)).json()["data"] == []


@pytest.mark.parametrize("drifted", [RENAMED, [each | {"email": "x"} for each in RECORDS]], ids=["breaking", "new"])
async def test_a_deprecated_version_takes_no_records_and_tells_of_no_drift(
    filled: dict[str, User], drifted: list[dict[str, Any]]
) -> None:
    await moved(filled["ADMIN"], "deprecate")
    old = filled["ENGINEER"].on("customers@1")
    refused(await old.post("ingest", {"records": drifted}), 409, "DATASET_READ_ONLY")
    assert (await old.get(f"{CONTRACTS}/customers@1/drift")).json()["data"] == []


async def test_what_was_rejected_is_refused_with_the_reason(filled: dict[str, User]) -> None:
    bob, carl = filled["ENGINEER"], filled["ADMIN"]
    report = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")["report"]
    written(await carl.post(f"{DRIFT}/{report}/reject", {"reason": "Send it as before"}))
    error = refused(await bob.post("ingest", {"records": RENAMED}), 409, "SCHEMA_DRIFT")
    assert "Send it as before" in error["detail"]
    assert len((await bob.get(DRIFT)).json()["data"]) == 1


async def test_a_field_that_was_filled_from_another_is_no_drift(people: dict[str, User]) -> None:
    """What was forecast becomes what was forecast before, in all rows: no columns have changed places."""
    await used(people, fields=[*customers()["fields"], {"name": "before", "type": "number"}])
    records = [each | {"before": n} for n, each in enumerate(RECORDS)]
    await ingested(people["ENGINEER"], *records)
    rolled = [each | {"before": each["revenue"], "revenue": 10_000 + n} for n, each in enumerate(records)]
    assert (await looked(people["ENGINEER"], sample=rolled))["changes"] == []


async def test_a_new_member_that_is_only_called_alike_is_no_rename(people: dict[str, User]) -> None:
    """Records may leave out what they like: where no row and no value speaks for it, it is a member more."""
    await used(people)
    new = [{"customerId": each["customerId"], "companySize": n} for n, each in enumerate(RECORDS)]
    assert await ingested(people["ENGINEER"], *new) == {"read": 30, "quarantined": 30}
    (report,) = (await people["ENGINEER"].get(DRIFT)).json()["data"]
    assert (report["severity"], report["state"]) == ("COMPATIBLE", "open")
