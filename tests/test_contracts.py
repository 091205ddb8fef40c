"""Contracts as data: what cannot be one is refused with the reason, and any that can serves the same API."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.base.errors import ConfigurationError
from app.contracts import BUILT_IN, PFA, read_contract
from app.contracts.ddl import dataset_ddl, drop_indexes_ddl, indexes_ddl
from app.contracts.model import Column, snake
from tests.support.world import FLEET, User, World, ids, refused, vehicle

EXTRA = {"name": "extra", "type": "text", "editable": False}
Change = Callable[[dict[str, Any]], Any]


def declared() -> dict[str, Any]:
    """The fleet's contract as it stands in its file."""
    document: dict[str, Any] = json.loads((Path(__file__).parent / "support" / "fleet.json").read_text())
    return document


def field(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One of its fields."""
    found: dict[str, Any] = next(field for field in document["fields"] if field["name"] == name)
    return found


def add_field(**more: Any) -> Change:
    return lambda document: document["fields"].append({"name": "extra", "type": "text"} | more)


def add_rule(**rule: Any) -> Change:
    return lambda document: document["rules"].append(rule)


def computed(**more: Any) -> Change:
    return lambda document: document.update(computed=[{"name": "extra", "type": "number"} | more])


# What is wrong -> (how, the words of the refusal).
BAD: dict[str, tuple[Change, str]] = {
    "an unknown member": (lambda d: d.update(colour="red"), "unknown field `colour`"),
    "an unknown member of a field": (add_field(colour="red"), "unknown field `colour`"),
    "an unknown member of a rule": (
        add_rule(type="ordered", first="firstDay", second="lastDay", x=1),
        "unknown field `x`",
    ),
    "an unknown type of rule": (add_rule(type="lucky", fields=["depot"]), "Invalid value 'lucky'"),
    "a rule without a type": (add_rule(fields=["depot"]), "missing required field `type`"),
    "an unknown type of field": (add_field(type="money"), "Invalid enum value 'money'"),
    "an upstream that is no name": (lambda d: d.update(upstream="R/3"), "matching regex"),
    "an unknown kind of measure": (lambda d: d["measures"][0].update(kind="median"), "Invalid enum value 'median'"),
    "a version that is none": (lambda d: d.update(version="one"), "matching regex"),
    "a version in other digits": (lambda d: d.update(version="\u0661.\u0660"), "matching regex"),
    "a version with a zero before": (lambda d: d.update(version="01.0"), "matching regex"),
    "no key": (lambda d: d.pop("key"), "missing required field `key`"),
    "a name that SQL would not take": (add_field(name="x;DROP"), "matching regex"),
    "a name and a new line": (add_field(name="extra\n"), "matching regex"),
    "a schema and a new line": (lambda d: d.update(schema="fleet\n"), "matching regex"),
    "a rule's id and a new line": (add_rule(type="not_null", field="depot", id="a\n"), "matching regex"),
    "a name in upper case": (add_field(name="Extra"), "matching regex"),
    "a schema that SQL would not take": (lambda d: d.update(schema="a.b"), "matching regex"),
    "a schema that is taken": (lambda d: d.update(schema="public"), "the schema public is taken"),
    "a schema of PostgreSQL's": (lambda d: d.update(schema="pg_catalog"), "the schema pg_catalog is taken"),
    "a field twice": (add_field(name="depot"), "two fields have the same name"),
    "an id of two fields": (
        lambda d: [add_field(id=7)(d), field(d, "depot").update(id=7)],
        "two fields have the id 7",
    ),
    "an id that counts from nothing": (add_field(id=0), "Expected `int` >= 1"),
    "a word of the API as a field": (add_field(name="syncState"), "syncState is a word of the API"),
    "a key that is no field": (lambda d: d.update(key="number"), "the key number is not one of its"),
    "a key that is a boolean": (lambda d: d.update(key="leased"), "the key leased is not one of its"),
    "a key of nothing": (lambda d: d.update(key=[]), "the key has no field"),
    "a key that has a field twice": (lambda d: d.update(key=["plate", "plate"]), "a field is in the key twice"),
    "a key with a field that can be edited": (lambda d: d.update(key=["plate", "depot"]), "the key depot is not one"),
    "a key of two fields, and an upstream": (
        lambda d: d.update(key=["plate", "extra"], upstream="pems", fields=[*d["fields"], EXTRA]),
        "what has an upstream has one text as its key",
    ),
    "a key that can be edited": (
        lambda d: field(d, "plate").pop("editable"),
        "the key plate is not one of its",
    ),
    "an enum without values": (add_field(type="enum"), "extra: exactly the enums list values"),
    "values of a text": (add_field(values=["a"]), "extra: exactly the enums list values"),
    "a name that PostgreSQL would cut off": (add_field(name="aB" * 17), "aBaBaB"),
    "a derived field that can be edited": (
        add_field(type="boolean", derivedFrom=["firstDay"]),
        "extra: a derived field is not editable",
    ),
    "a derived field of nothing": (
        add_field(type="boolean", derivedFrom=["noDay"], editable=False),
        "noDay is no field of it",
    ),
    "a scale of an integer": (add_field(type="integer", scale=0), "extra: only a number has a scale"),
    "a scale below zero": (add_field(type="number", scale=-1), "Expected `int` >= 0"),
    "a scale of more digits than there are": (add_field(type="number", scale=21), "Expected `int` <= 20"),
    "a range of a text": (add_field(minimum=1), "extra: only numbers have a range"),
    "a range with nothing in it": (add_field(type="number", minimum=2, maximum=1), "extra: no number is in its range"),
    "an index over a long text": (
        add_field(indexed=True, maxLength=501),
        "extra: an indexed text has at most 500 bytes",
    ),
    "a hot sort without a column": (lambda d: d["hot"].append({"sort": "remark"}), "hot sort of remark"),
    "a hot filter without a column": (
        lambda d: d["hot"].append({"sort": "mileage", "filters": ["remark"]}),
        "hot sort of remark, which is not indexed",
    ),
    "computed columns without functions": (
        lambda d: d.update(computed=[{"name": "cost", "type": "number", "function": "cost", "reads": ["mileage"]}]),
        "computed columns without the functions",
    ),
    "a computed column of nothing at all": (computed(), "extra: a computed column has a function or an expression"),
    "a computed column of two things": (
        lambda d: [computed(function="cost", expression="mileage")(d), d.update(functions="costs")],
        "extra: a computed column has a function or an expression",
    ),
    "a computed column that says twice what it reads": (
        computed(expression="mileage", reads=["mileage"]),
        "extra: what an expression reads stands in it",
    ),
    "a computed column of an unknown field": (
        computed(expression="weight"),
        "weight is no field of it",
    ),
    "a computed column of itself": (computed(expression="extra + 1"), "extra is no field of it"),
    "a computed column of no expression": (computed(expression="mileage +"), "extra: Line 1, column 10: something is"),
    "a computed column of another type": (
        computed(expression="mileage > 1"),
        "extra: Line 1, column 9: the column is a number, and this is true or false",
    ),
    "a computed enum": (computed(type="enum", expression="kind"), "an expression makes no enum; its type is text"),
    "a computed integer that may be none": (
        computed(type="integer", expression="seats / 2"),
        "an integer has no digits behind the point, and this may have some",
    ),
    "a computed integer of a number": (
        computed(type="integer", expression="mileage"),
        "an integer has no digits behind the point, and this may have some",
    ),
    "a computed number that is too long": (
        computed(expression="mileage * mileage * mileage"),
        "a column has at most 60 digits before the point and 40 behind it",
    ),
    "a computed constant": (computed(expression="1 + 1"), "it looks at no field"),
    "a computed null": (computed(expression="null"), "the column is a number, and this is null"),
    "a computed column of nothing": (
        lambda d: d.update(
            computed=[{"name": "cost", "type": "number", "function": "cost", "reads": ["weight"]}], functions="f"
        ),
        "weight is no field of it",
    ),
    "a field in two groups": (
        lambda d: d["atomicGroups"].append({"name": "second", "fields": ["firstDay"]}),
        "a field is in two atomic groups",
    ),
    "two groups of one name": (
        lambda d: d["atomicGroups"].append({"name": "service", "fields": ["seats"]}),
        "two atomic groups have the same name",
    ),
    "a group of nothing": (
        lambda d: d["atomicGroups"].append({"name": "second", "fields": ["nothing"]}),
        "nothing is no field of it",
    ),
    "a group with a field's name": (
        lambda d: d["atomicGroups"].append({"name": "depot", "fields": ["seats"]}),
        "an atomic group has the name of a field",
    ),
    "an order of nothing": (add_rule(type="ordered", first="firstDay", second="noDay"), "noDay is no field of it"),
    "a requirement of nothing": (add_rule(type="required", fields=["nothing"]), "nothing is no field of it"),
    "a requirement when nothing": (add_rule(type="required", fields=["depot"], when="no"), "no is no field of it"),
    "something frozen when nothing": (
        add_rule(type="frozen", when="no", fields=["depot"], message="m"),
        "no is no field of it",
    ),
    "an exclusion of nothing": (add_rule(type="exclusive", fields=["no"], message="m"), "no is no field of it"),
    "a severity that there is not": (
        add_rule(type="not_null", field="depot", severity="BAD"),
        "Invalid enum value 'BAD' - at `$.rules[4].severity`",
    ),
    "an id that is none": (add_rule(type="not_null", field="depot", id="a b"), "matching regex"),
    "an id twice": (
        lambda d: d["rules"].extend([{"type": "not_null", "field": name, "id": "x"} for name in ("depot", "kind")]),
        "two rules have the id x",
    ),
    "an id that another rule is given": (
        lambda d: d["rules"].extend(
            [{"type": "not_null", "field": "depot"}, {"type": "not_null", "field": "kind", "id": "not_null:depot"}]
        ),
        "two rules have the id not_null:depot",
    ),
    "an id that a field's range has": (
        add_rule(type="not_null", field="depot", id="seats:range"),
        "two rules have the id seats:range",
    ),
    "a rule without a field": (add_rule(type="not_null"), "missing required field `field`"),
    "a rule of nothing": (add_rule(type="not_null", field="nothing"), "nothing is no field of it"),
    "a unique key": (add_rule(type="unique", field="plate"), "rule unique:plate: the key is unique anyway"),
    "a unique field without an index": (add_rule(type="unique", field="remark"), "remark is not indexed"),
    "a range rule of a text": (
        add_rule(type="range", field="depot", min=1),
        "Contract fleet 1.0: rule range:depot: depot is a text; only numbers, dates and datetimes have a range.",
    ),
    "a range of booleans": (add_rule(type="range", field="leased", min=False), "leased is a boolean"),
    "a range without bounds": (add_rule(type="range", field="mileage"), "it has neither min nor max"),
    "a range of the wrong type": (add_rule(type="range", field="mileage", min="1"), "'1' is no number"),
    "a range by truth": (add_rule(type="range", field="mileage", min=True), "True is no number"),
    "a range by half an integer": (add_rule(type="range", field="seats", min=0.5), "Decimal('0.5') is no integer"),
    "a range beyond numbers": (add_rule(type="range", field="mileage", max=10**30), "is no number"),
    "a range from no day": (add_rule(type="range", field="firstDay", min="2026-02-30"), "'2026-02-30' is no date"),
    "a range beyond the calendar": (add_rule(type="range", field="firstDay", max="10000-01-01"), "is no date"),
    "a range rule with nothing in it": (
        add_rule(type="range", field="firstDay", min="2026-02-01", max="2026-01-31"),
        "nothing is in its range",
    ),
    "no allowed values": (add_rule(type="allowed_values", field="seats", values=[]), "it allows no value"),
    "an allowed value of another type": (add_rule(type="allowed_values", field="seats", values=[1, "2"]), "'2' is no"),
    "an allowed list": (add_rule(type="allowed_values", field="depot", values=[["a"]]), "['a'] is no text"),
    "an allowed null": (add_rule(type="allowed_values", field="depot", values=[None]), "None is no text"),
    "a pattern of a number": (add_rule(type="regex", field="seats", pattern="1"), "seats is a integer; only texts"),
    "a pattern that refers back": (
        add_rule(type="regex", field="depot", pattern=r"(a)\1"),
        r"rule regex:depot: RE2 refuses the pattern: invalid escape sequence: \1.",
    ),
    "a pattern that looks ahead": (
        add_rule(type="regex", field="depot", pattern="(?=a)b"),
        "RE2 refuses the pattern: invalid perl operator: (?=.",
    ),
    "a pattern that is none": (add_rule(type="regex", field="depot", pattern="("), "missing ): (."),
    "a pattern that repeats too often": (
        add_rule(type="regex", field="depot", pattern="(?:(?:a{99}){99}){99}"),
        "invalid repetition size",
    ),
    "a long pattern": (
        add_rule(type="regex", field="depot", pattern="é" * 513),
        "the pattern has more than 1024 bytes",
    ),
    "a pattern that is large when it is compiled": (
        add_rule(type="regex", field="depot", pattern="(?:" + "[ab]*a" * 20 + "){1000}c"),
        "the pattern is too large for texts of 500 bytes",
    ),
    "a pattern that is too much for long texts": (
        add_rule(type="regex", field="remark", pattern=r"\pL{100}"),
        "the pattern is too large for texts of 2000 bytes",
    ),
    "a pattern that is no text": (add_rule(type="regex", field="depot", pattern="\ud800"), "bad.json"),
    "an expression that is none": (
        add_rule(type="expression", expression="seats >"),
        "rule expression: Line 1, column 8: something is missing at the end.",
    ),
    "an expression of nothing": (add_rule(type="expression", expression="weight > 1"), "weight is no field of it"),
    "an expression that is a number": (
        add_rule(type="expression", expression="seats + 1"),
        "rule expression:seats: Line 1, column 7: a condition is true or false, and this is a number.",
    ),
    "an expression that compares what it cannot": (
        add_rule(type="expression", expression="seats > depot", id="r"),
        "rule r: Line 1, column 7:",
    ),
    "an expression about no field": (add_rule(type="expression", expression="1 < 2"), "it looks at no field"),
    "an expression of a computed column": (add_rule(type="expression", expression="id == plate"), "id is no field"),
    "a second expression that is none": (
        lambda d: d["rules"].extend(
            {"type": "expression", "expression": text, "id": name} for text, name in (("leased", "a"), ("seats", "b"))
        ),
        "rule b: Line 1, column 1:",
    ),
    "an expression 10,000 deep": (
        add_rule(type="expression", expression="(" * 10_000 + "leased" + ")" * 10_000),
        "an expression has at most 4096 bytes",
    ),
    "an expression that is deep": (
        add_rule(type="expression", expression="!" * 2_000 + "leased"),
        "an expression is nested at most 32 deep",
    ),
    "a measure of nothing": (lambda d: d["measures"][0].update(of="weight"), "KPIs of weight, which is not indexed"),
    "a measure without an index": (lambda d: d["measures"][0].update(of="lastDay"), "KPIs of lastDay, which is not"),
    "a dimension without an index": (add_field(dimension=True), "KPIs of extra, which is not indexed"),
    "a sum of dates": (lambda d: d["measures"][0].update(of="inspectedOn"), "measure mileage is the sum of a date"),
    "a least boolean": (lambda d: d["measures"][-2].update(of="inService"), "is the min of a boolean"),
    "a measure twice": (lambda d: d["measures"][-3].update(name="seats"), "two of the figures have the same name"),
    "a measure called rows": (lambda d: d["measures"][-3].update(name="rows"), "two of the figures have the same name"),
    "a bound that is a sum": (
        lambda d: d.update(bounds=[{"name": "all", "kind": "sum", "of": "mileage"}]),
        "bounds are minima and maxima",
    ),
    "an exclusion by a text": (
        lambda d: d.update(exclusions=[{"name": "north", "field": "depot"}]),
        "depot leaves rows out and is no boolean",
    ),
    "a difference of dates": (
        lambda d: d.update(derived=[{"type": "difference", "name": "x", "of": "mileage", "minus": "oldestInspection"}]),
        "x is not made of numbers that come before it",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_contract_is_refused_with_the_reason(tmp_path: Path, what: str) -> None:
    change, reason = BAD[what]
    document = declared()
    change(document)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError) as refusal:
        read_contract(path)
    assert reason in str(refusal.value)
    assert "bad.json" in str(refusal.value) or "Contract " in str(refusal.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": "fleet"'])
def test_a_file_that_is_no_contract_is_refused_by_its_name(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"broken\.json"):
        read_contract(path)


def test_the_contracts_that_come_with_the_product_are_good() -> None:
    assert [contract.name for contract in BUILT_IN] == ["pfa"]
    assert PFA.upstream == "pems"
    assert FLEET.upstream is None


def test_pfa_declares_what_its_reference_says() -> None:
    """The record fields, indexed columns, dimensions, groups and measures of the equipment cost plan."""
    editable = {field.name for field in PFA.fields if field.editable}
    assert editable == set(
        """areaSilo category forecastCategory class source dor monthlyRate purchasePrice manufacturer model equipment
        forecastStart forecastEnd isActualized isDiscontinued isFundsTransferable""".split()
    )
    assert {field.name for field in PFA.fields} - editable == set(
        """pfaId organization contract originalStart originalEnd actualStart actualEnd pemsVersion hasPlan
        hasActuals""".split()
    )
    assert set(PFA.column_of) == set(
        """category class source dor areaSilo manufacturer model forecastStart forecastEnd monthlyRate isActualized
        isDiscontinued isFundsTransferable hasActuals planCost forecastCost actualCost
        originalStart originalEnd actualStart actualEnd monthlyRental purchaseCost incomplete""".split()
    )
    dimensions = {field.name for field in PFA.fields if field.dimension}
    assert dimensions == {"category", "class", "source", "dor", "areaSilo"}
    assert {group.name: group.fields for group in PFA.atomic_groups} == {
        "forecastDates": ("forecastStart", "forecastEnd"),
        "sourcing": ("source", "monthlyRate", "purchasePrice"),
    }
    assert {measure.of for measure in PFA.measures if measure.kind == "sum"} == {
        "planCost",
        "forecastCost",
        "actualCost",
        "monthlyRental",
        "purchaseCost",
    }
    assert PFA.dimensions == ("areaSilo", "category", "class", "source", "dor")
    assert PFA.flags == ("isDiscontinued", "isFundsTransferable")
    assert PFA.by_name["source"].values == ("Rental", "Purchase")
    assert PFA.by_name["dor"].values == ("BEO", "PROJECT")


def test_a_contract_compiles_to_relations_of_its_own() -> None:
    text = "\n".join([*dataset_ddl(FLEET, ""), indexes_ddl(FLEET)])
    assert "pfa." not in text
    assert "CREATE SCHEMA IF NOT EXISTS fleet;" in text
    assert "f_inspected_on date GENERATED ALWAYS AS" in text
    assert "VIRTUAL" not in text
    assert "b_mileage numeric" in text
    assert "a_mileage numeric" in text
    assert "f_remark" not in text
    assert "CREATE INDEX IF NOT EXISTS mirror_depot_inspected_on ON fleet.mirror" in text
    assert "DROP INDEX IF EXISTS fleet.mirror_mileage;" in drop_indexes_ddl(FLEET)


def test_names_of_fields_become_names_of_columns() -> None:
    assert [snake(name) for name in ("category", "areaSilo", "isFundsTransferable", "aB")] == [
        "category", "area_silo", "is_funds_transferable", "a_b",
    ]  # fmt: skip


def test_a_field_can_be_called_as_the_document_is_in_sql() -> None:
    column = Column("doc", "text", "(vanguard.as_text(doc, 'doc') || E'doc' || vanguard.as_text(doc, 'x'))")
    assert column.of("d.data") == "(vanguard.as_text(d.data, 'doc') || E'doc' || vanguard.as_text(d.data, 'x'))"


async def test_a_dataset_of_another_shape_serves_the_same_api(world: World, ann: User, bob: User) -> None:
    """Given the fleet, which has no upstream, then lists, drafts, commits and discards are the ones of PFA."""
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror(
        {
            "B-1": vehicle(depot="North", mileage=10, seats=50, kind="Bus", remark="Clean"),
            "B-2": vehicle(depot="South", mileage=20),
            "B-3": vehicle(depot="South", mileage=None),
        },
        contract=FLEET,
    )
    assert ids(await ann.rows(sort="-mileage", depot="South")) == ["B-3", "B-2"]
    assert ids(await ann.rows(search="CLEAN")) == ["B-1"]
    assert ids(await ann.rows(**{"seats[gte]": "4"})) == ["B-1"]

    await ann.draft("B-2", {"depot": "North", "firstDay": "2026-01-01"})
    await ann.draft("B-3", op="delete")
    await ann.draft("B-4", {"depot": "North", "kind": "Van"}, op="insert")
    assert ids(await ann.rows(depot="North", sort="id")) == ["B-1", "B-2", "B-4"]
    assert ids(await bob.rows(depot="North", sort="id")) == ["B-1"]
    answer = (await ann.commit()).json()
    assert (answer["committed"], answer["revision"]) == (3, 1)

    # Without an upstream a commit goes to the mirror, where everybody sees it.
    page = await bob.page(sort="id")
    assert [(row["id"], row["syncState"], row["mirrorVersion"]) for row in page["data"]] == [
        ("B-1", "pristine", 1), ("B-2", "pristine", 2), ("B-4", "pristine", 1),
    ]  # fmt: skip
    assert page["data"][2]["data"] == {"plate": "B-4", "depot": "North", "kind": "Van"}
    assert (await ann.get("drafts")).json()["data"] == []
    refused(await bob.get("rows/B-3"), 404, "ROW_NOT_FOUND")
    # The other dataset of the organization has seen nothing of it.
    assert (await ann.on("pfa").page())["metadata"]["revision"] == 0
