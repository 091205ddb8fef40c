"""Ids of fields: what a field is through all versions of a dataset, whatever it is called."""

import pytest

from app.contracts import Contract
from app.contracts.field_ids import with_ids
from app.contracts.model import Field


def contract(**ids: int | None) -> Contract:
    """A contract with these fields, by their ids."""
    fields = tuple(Field(name=name, type="text", editable=name != "key", id=id_) for name, id_ in ids.items())
    return Contract(name="things", version="1.0", title="Things", schema="things", key="key", fields=fields)


def ids(made: Contract) -> dict[str, int | None]:
    return {field.name: field.id for field in made.fields}


NEW: dict[str, int | None] = {"key": None, "a": None, "b": None}
OLD: dict[str, int | None] = {"key": 1, "a": 2, "b": 3}


@pytest.mark.parametrize(
    ("before", "highest", "given", "expected"),
    [
        pytest.param(None, 0, NEW, {"key": 1, "a": 2, "b": 3}, id="the first version"),
        pytest.param(None, 0, {"key": 2, "a": None}, {"key": 2, "a": 3}, id="a first version that says some"),
        pytest.param(OLD, 3, NEW, OLD, id="nothing new"),
        pytest.param(OLD, 3, {"b": None, "key": None, "a": None}, {"b": 3, "key": 1, "a": 2}, id="another order"),
        pytest.param(OLD, 3, {**NEW, "c": None}, {**OLD, "c": 4}, id="one more"),
        pytest.param(OLD, 9, {**NEW, "c": None}, {**OLD, "c": 10}, id="one more, after others that are gone"),
        pytest.param(OLD, 3, {"key": None, "c": None, "b": None}, {"key": 1, "c": 4, "b": 3}, id="no silent rename"),
        pytest.param(OLD, 3, {"key": None, "c": 2, "b": None}, {"key": 1, "c": 2, "b": 3}, id="a rename"),
        pytest.param(
            OLD, 3, {"key": None, "c": 2, "b": None, "a": None}, {"key": 1, "c": 2, "b": 3, "a": 4},
            id="a rename, and another field of the old name",
        ),
        pytest.param(OLD, 3, {"key": None, "a": 3, "b": 2}, {"key": 1, "a": 3, "b": 2}, id="two that change names"),
        pytest.param(OLD, 3, {"key": None, "a": 3}, {"key": 1, "a": 3}, id="one goes, and another takes its name"),
        pytest.param({"key": 1}, 3, NEW, {"key": 1, "a": 4, "b": 5}, id="a name that comes again is another field"),
    ],
)  # fmt: skip
def test_a_field_keeps_its_id_and_a_new_one_gets_the_next(
    before: dict[str, int | None] | None, highest: int, given: dict[str, int | None], expected: dict[str, int]
) -> None:
    made = with_ids(contract(**given), None if before is None else contract(**before), highest=highest)
    assert ids(made) == expected
    assert ids(with_ids(made, made, highest=max(expected.values()))) == expected, "given once, they stay"
