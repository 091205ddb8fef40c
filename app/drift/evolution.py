"""The contract that a drift leads to: its fields as they came, and what cannot stand without them taken out."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.contracts import Contract
from app.contracts.comparison import WIDENINGS, Kind, renamed_part
from app.contracts.model import Difference, HotSort, Percent
from app.contracts.registration import wire
from app.contracts.rule_types import fields_of
from app.contracts.soundness import INDEXED_BYTES, KEY_TYPES
from app.records.names import field_names

# What is said of values, and of no other type's.
OF_VALUES = ("values", "minimum", "maximum", "maxLength", "scale", "dimension")


class Unevolved(Exception):
    """A change that no contract can follow. The message is for people."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A change as far as the next contract has to know it; `old` and `new` as JSON has them."""

    kind: Kind
    path: str
    field: str
    old: Any
    new: Any


def evolved(contract: Contract, steps: Iterable[Step]) -> dict[str, Any]:
    """The document of the next version, without its number; raises Unevolved.

    A renamed field stays the same one, by its id. Of a field that is gone, or of another type, the rules, measures,
    groups and indexes that name it go, too.
    """
    steps = list(steps)
    fields = {field.name: wire(field) for field in contract.fields}
    leaving = {step.field for step in steps if step.kind in (Kind.REMOVE, Kind.RENAME)}
    taken = [name for name in fields if name not in leaving]
    taken += [step.new["name"] for step in steps if step.kind is Kind.ADD]
    names: dict[str, str] = {}
    gone: set[str] = set()
    lost: set[str] = set()
    for step in steps:
        match step.kind:
            case Kind.ADD:
                if step.new.get("type") is None:
                    raise Unevolved(f"{step.field} has objects or lists, which no field holds.")
                fields[step.new["name"]] = dict(step.new)
            case Kind.REMOVE:
                _check_removable(contract, step.field)
                del fields[step.field]
                gone.add(step.field)
            case Kind.RENAME:
                names[step.field] = field_names([*taken, *names.values(), step.new])[step.new]
                fields[step.field] |= {"name": names[step.field], "label": step.new}
            case Kind.TYPE_CHANGE:
                _retype(contract, fields, step)
                if (step.old, step.new) not in WIDENINGS:
                    lost.add(step.field)
            case _:
                _widen(contract, fields[step.field], step)
    return _document(contract, list(fields.values()), names, gone, lost)


def _check_removable(contract: Contract, name: str) -> None:
    if name in {*contract.key_fields, *_times(contract)}:
        raise Unevolved(f"{name} is what rows are known or ordered by. Map it, or register a contract without it.")


def _times(contract: Contract) -> tuple[str, ...]:
    semantics = contract.ingestion
    return () if semantics is None else (semantics.event_time_column, semantics.processing_time_column)


def _retype(contract: Contract, fields: dict[str, dict[str, Any]], step: Step) -> None:
    if step.new not in ("text", "number", "integer", "boolean", "date", "datetime"):
        raise Unevolved(f"{step.field} has values that no field can hold.")
    if step.field in _times(contract) or (step.field in contract.key_fields and step.new not in KEY_TYPES):
        raise Unevolved(f"{step.field} is what rows are known or ordered by, and cannot be a {step.new}.")
    lost = () if (step.old, step.new) in WIDENINGS else OF_VALUES
    fields[step.field] = {name: value for name, value in fields[step.field].items() if name not in lost}
    fields[step.field]["type"] = step.new


def _widen(contract: Contract, field: dict[str, Any], step: Step) -> None:
    member = step.path.rpartition(".")[2]
    if member == "maxLength" and field.get("indexed") and step.new > INDEXED_BYTES:
        raise Unevolved(
            f"{step.field} is indexed, and an index has texts of at most {INDEXED_BYTES} bytes. Register a contract "
            "where it has no index."
        )
    field[member] = step.new


def _document(
    contract: Contract, fields: list[dict[str, Any]], names: dict[str, str], gone: set[str], lost: set[str]
) -> dict[str, Any]:
    derived_gone = _derived_of(contract, gone)
    gone = gone | derived_gone
    without = gone | lost
    computed = [item for item in contract.computed if not without & {*item.fields}]
    without |= {item.name for item in contract.computed if item not in computed}
    measures = [each for each in contract.measures if each.of not in without]
    bounds = [each for each in contract.bounds if each.of not in without]
    figures = {each.name for each in (*measures, *bounds)}
    derived: list[Difference | Percent] = []
    for each in contract.derived:
        made_of = {each.of, each.minus if isinstance(each, Difference) else each.by}
        if made_of <= figures:
            figures.add(each.name)
            derived.append(each)
    parts: dict[str, Iterable[Any]] = {
        "computed": computed,
        # Two are one where they were told apart by a filter that is gone.
        "hot": dict.fromkeys(hot for each in contract.hot if (hot := _hot(each, without)) is not None),
        "atomicGroups": (each for each in contract.atomic_groups if not gone & {*each.fields}),
        "rules": (rule for rule in contract.rules if not without & {*fields_of(rule)}),
        "measures": measures,
        "derived": derived,
        "bounds": bounds,
        "exclusions": (each for each in contract.exclusions if each.field not in without),
    }
    document = wire(contract)
    document |= {name: [wire(renamed_part(each, names)) for each in some] for name, some in parts.items()}
    document["fields"] = [_derived_renamed(each, names) for each in fields if each["name"] not in derived_gone]
    document["key"] = _key(contract, names)
    if contract.ingestion is not None:
        document["ingestion"] = wire(renamed_part(contract.ingestion, names))
    return {name: value for name, value in document.items() if name not in ("schema", "version")}


def _derived_of(contract: Contract, gone: set[str]) -> set[str]:
    """The fields that are derived of those that are gone, or of such ones."""
    found: set[str] = set()
    while more := {each.name for each in contract.fields if (gone | found) & {*each.derived_from}} - found:
        found |= more
    return found


def _derived_renamed(field: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if not field.get("derivedFrom"):
        return field
    return field | {"derivedFrom": [names.get(name, name) for name in field["derivedFrom"]]}


def _hot(hot: HotSort, without: set[str]) -> HotSort | None:
    if hot.sort in without:
        return None
    return msgspec.structs.replace(hot, filters=tuple(name for name in hot.filters if name not in without))


def _key(contract: Contract, names: Mapping[str, str]) -> Any:
    key = tuple(names.get(name, name) for name in contract.key_fields)
    return key[0] if isinstance(contract.key, str) else list(key)
