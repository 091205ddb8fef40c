"""Soundness: everything that is wrong with a contract is told, each at its path in the JSON."""

import msgspec
import pytest

from app.base.errors import ConfigurationError
from app.contracts import BUILT_IN, Contract
from app.contracts.model import AtomicGroup, Field, HotSort, Measure
from app.contracts.rule_types import NotNull, Unique, named
from app.contracts.soundness import Problem, problems
from tests.support.world import FLEET


class Unchecked(Contract, frozen=True, kw_only=True, dict=True):
    """A contract that nobody has asked for its soundness."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "rules", named(self.rules))


def told(**changes: object) -> list[Problem]:
    """What is wrong with the fleet's contract once it is changed."""
    members = {name: getattr(FLEET, name) for name in FLEET.__struct_fields__}
    return list(problems(Unchecked(**members | changes)))


def places(**changes: object) -> list[tuple[str, str]]:
    return [(problem.path, problem.code.value) for problem in told(**changes)]


@pytest.mark.parametrize("contract", [*BUILT_IN, FLEET], ids=lambda contract: contract.name)
def test_nothing_is_wrong_with_what_is_in_use(contract: Contract) -> None:
    assert list(problems(contract)) == []


def test_everything_is_told_at_its_path() -> None:
    extra = (
        Field(name="sort", type="enum"),
        Field(name="long", type="text", indexed=True, max_length=900, minimum=1),
        Field(name="seats", type="integer", minimum=2, maximum=1),
    )
    at = len(FLEET.fields)
    assert places(
        fields=(*FLEET.fields, *extra),
        schema="pg_temp",
        key="nothing",
        hot=(HotSort(sort="remark", filters=("depot", "weight")),),
        rules=(NotNull(field="weight"), Unique(field="remark")),
        atomic_groups=(AtomicGroup(name="depot", fields=("seats", "weight")),),
        measures=(Measure(name="rows", kind="sum", of="depot"),),
        derived=(),
    ) == [
        ("fields[3].name", "DUPLICATE_NAME"),
        (f"fields[{at + 2}].name", "DUPLICATE_NAME"),
        (f"fields[{at}].name", "INVALID_NAME"),
        ("schema", "INVALID_NAME"),
        ("key", "INVALID_KEY"),
        (f"fields[{at}].values", "INVALID_FIELD"),
        (f"fields[{at + 1}].minimum", "INVALID_FIELD"),
        (f"fields[{at + 1}].maxLength", "INVALID_FIELD"),
        (f"fields[{at + 2}].minimum", "INVALID_FIELD"),
        ("hot[0].sort", "NOT_INDEXED"),
        ("hot[0].filters", "NOT_INDEXED"),
        ("atomicGroups[0].name", "DUPLICATE_NAME"),
        ("atomicGroups[0].fields", "UNKNOWN_FIELD"),
        ("rules[0]", "UNKNOWN_FIELD"),
        ("rules[1]", "INVALID_RULE"),
        ("measures[0].kind", "INVALID_MEASURE"),
        ("measures[0].name", "DUPLICATE_NAME"),
    ]


def test_what_collides_is_told_at_both_places_with_the_other_one() -> None:
    twice = told(fields=(*FLEET.fields, Field(name="depot", type="text")))
    at = len(FLEET.fields)
    assert [problem.path for problem in twice] == ["fields[1].name", f"fields[{at}].name"]
    assert f"fields[{at}].name is the other one" in twice[0].message
    assert "fields[1].name is the other one" in twice[1].message


def test_a_hot_sort_names_a_column_once() -> None:
    assert places(hot=(HotSort(sort="depot", filters=("depot",)),)) == [("hot[0].filters", "DUPLICATE_NAME")]


def test_who_makes_a_contract_is_told_the_first() -> None:
    with pytest.raises(ConfigurationError, match=r"^Contract fleet 1\.0: the key nothing is not one of its"):
        msgspec.structs.replace(FLEET, key="nothing")
