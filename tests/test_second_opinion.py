"""A second opinion: what datacontract-cli says of a change, held against what we say of it.

The changes are ours, one at a time; the verdicts are the tool's, of two versions that judge in two ways. Where we
differ, it stands in a table here, with why. tests/data/datacontract_cli/README.md says how the verdicts came about.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from app.contracts import Contract
from app.contracts.comparison import Compatibility, compare
from app.contracts.odcs import from_odcs
from app.contracts.registration import read_registration
from tests.support.specification import read_model

DATA = Path(__file__).parent / "data" / "datacontract_cli"
COMPATIBLE, WARNING, BREAKING = Compatibility
SEMANTICS = {
    "mode": "upsert",
    "eventTimeColumn": "receivedAt",
    "processingTimeColumn": "receivedAt",
    "dedupeWindow": "24h",
    "conflictResolution": "latest_wins",
}


class Opinion(NamedTuple):
    """As a comparison has it."""

    severity: Compatibility
    backward: bool
    forward: bool


# 1.2.8 says how the rows that fit have moved; which of the two ways is an error, its user chooses. What tightens is
# narrowed in our words, and what loosens widened; `untested` is what no check sees, `undetermined` what it cannot say.
DIRECTIONS = {
    "untested": Opinion(COMPATIBLE, backward=True, forward=True),
    "tightens": Opinion(WARNING, backward=False, forward=True),
    "loosens": Opinion(COMPATIBLE, backward=True, forward=False),
    "undetermined": Opinion(WARNING, backward=False, forward=False),
    "both": Opinion(BREAKING, backward=False, forward=False),
}
# 0.10.41 says how bad a change is, and nothing of directions.
SEVERITIES = {"info": COMPATIBLE, "warning": WARNING, "error": BREAKING}

# Why we differ from 1.2.8 -> in what.
STANDARD_DIFFERENCES: dict[str, tuple[str, ...]] = {
    "Its check wants a column to be there; a row of ours without the field has null.": ("a property more",),
    "Who reads a field breaks without it, so that it takes a new major version, though every row fits.": (
        "a property less",
        "a required property less",
        "another name",
    ),
    "It takes any two types for strangers; every integer is a number, and that is our one widening.": (
        "integer to number",
        "number to integer",
    ),
    "It judges the names of types; ours is the same one on either side.": ("string to time", "another physical type"),
    "A rule is asked where a change touches its fields, so that rows that break it may stay.": (
        "required from now on",
        "required no more",
        "no nulls by a check",
        "unique from now on",
        "unique no more",
        "a pattern",
        "no pattern",
        "another pattern",
        "a higher minimum with a fraction",
        "a whole minimum to one with a fraction",
        "a later first day",
    ),
    "The order of a key is the order within the row's id.": ("a key in another order",),
    "Values of ours have no ids: one went, which narrows, and one came.": ("a value for another under its id",),
    "An enum and a text are two types of ours, and the list of widenings is closed.": (
        "values from now on",
        "values no more",
    ),
    "A text of ours has 500 bytes where nothing is said.": ("a longest text beyond our own",),
    "We have no such limit; it is left out with a note.": ("a shortest text", "an exclusive minimum"),
    "The scale is a word of ours, which it does not judge.": ("digits less",),
}
# Why we differ from 0.10.41 -> in what.
SPECIFICATION_DIFFERENCES: dict[str, tuple[str, ...]] = {
    "It calls every field that is added the same, required or not; rows of before have no value.": (
        "a required field more",
    ),
    "It takes any two types for strangers; every integer is a number, and that is our one widening.": (
        "integer to decimal",
        "decimal to integer",
    ),
    "It judges the names of types; ours is the same one on either side.": ("integer to long",),
    "It does not tell a limit that is widened from one that is narrowed.": (
        "a value more",
        "a value less",
        "a value for another",
        "a longer text",
        "a shorter text",
        "no longest text",
        "a higher minimum",
        "a lower minimum",
        "no minimum",
        "a higher maximum",
        "a lower maximum",
        "no maximum",
    ),
    "A rule is asked where a change touches its fields, so that rows that break it may stay.": (
        "required from now on",
        "required no more",
        "unique from now on",
        "unique no more",
        "a pattern",
        "no pattern",
        "another pattern",
    ),
    "Rows are known by their key, so that another one takes a new major version.": (
        "a field more in the key",
        "a field less in the key",
    ),
    "An enum and a text are two types of ours, and the list of widenings is closed.": (
        "values from now on",
        "values no more",
    ),
    "It has no rule for the scale, and calls a change information.": ("digits less",),
    "We have no such word; what changes there changes no value.": (
        "a shorter shortest text",
        "another format",
        "about persons",
        "another classification",
    ),
}


def data(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
    return found


STANDARD, STANDARD_VERDICTS = data("standard.yaml"), data("standard.verdicts.yaml")
SPECIFICATION, SPECIFICATION_VERDICTS = data("specification.yaml"), data("specification.verdicts.yaml")


def registered(document: dict[str, Any]) -> Contract:
    key = document["key"]
    semantics = SEMANTICS | {"idempotencyKey": key if isinstance(key, list) else [key]}
    return read_registration({"source": "s"} | document | {"ingestion": semantics}, schema="d_1")


def of_standard(properties: list[dict[str, Any]]) -> Contract:
    sku = {"name": "sku", "logicalType": "string", "primaryKey": True, "primaryKeyPosition": 1}
    document = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "shop",
        "version": "1.0",
        "status": "active",
        "schema": [{"name": "shop", "logicalType": "object", "properties": [sku, *properties]}],
    }
    return registered(from_odcs(yaml.safe_dump(document))[0])


def of_specification(fields: dict[str, dict[str, Any]]) -> Contract:
    return registered(read_model("shop", {"sku": {"type": "string", "primaryKey": True}} | fields))


def worst(severities: Iterable[Compatibility]) -> Compatibility:
    return max(severities, key=lambda each: each.rank, default=COMPATIBLE)


def directed(verdict: dict[str, str]) -> Opinion:
    found = [DIRECTIONS[direction] for direction in verdict.values()]
    backward, forward = all(each.backward for each in found), all(each.forward for each in found)
    return Opinion(worst(each.severity for each in found), backward, forward)


def differing(table: dict[str, tuple[str, ...]]) -> set[str]:
    return {what for every in table.values() for what in every}


@pytest.mark.parametrize("what", STANDARD)
def test_we_agree_on_the_rows_that_fit_but_for_what_the_table_says(what: str) -> None:
    found = compare(*(of_standard(STANDARD[what][side]) for side in ("old", "new")))
    ours = Opinion(found.severity, found.backward, found.forward)
    assert (ours != directed(STANDARD_VERDICTS[what])) == (what in differing(STANDARD_DIFFERENCES))


@pytest.mark.parametrize("what", SPECIFICATION)
def test_we_agree_on_how_bad_it_is_but_for_what_the_table_says(what: str) -> None:
    ours = compare(*(of_specification(SPECIFICATION[what][side]) for side in ("old", "new"))).severity
    theirs = worst(SEVERITIES[severity] for severity in SPECIFICATION_VERDICTS[what].values())
    assert (ours is not theirs) == (what in differing(SPECIFICATION_DIFFERENCES))


@pytest.mark.parametrize(
    ("changes", "verdicts", "table"),
    [
        (STANDARD, STANDARD_VERDICTS, STANDARD_DIFFERENCES),
        (SPECIFICATION, SPECIFICATION_VERDICTS, SPECIFICATION_DIFFERENCES),
    ],
)
def test_every_change_has_a_verdict_and_every_difference_is_of_a_change(
    changes: dict[str, Any], verdicts: dict[str, Any], table: dict[str, tuple[str, ...]]
) -> None:
    assert changes.keys() == verdicts.keys()
    assert differing(table) <= changes.keys()
    assert len(differing(table)) == sum(len(every) for every in table.values()), "each has one reason"
