"""A contract against another one that somebody shows, or that is registered: the same report as of rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.base.errors import Code, ConfigurationError, Culprit, ValidationFailed
from app.contracts import Contract
from app.contracts.bounds import DEFAULT_LIMITS, bounds, refuse_any
from app.contracts.comparison import Change, Comparison, Kind, compare
from app.contracts.field_ids import with_ids
from app.contracts.model import Field
from app.contracts.registration import read_registration, wire
from app.drift.detection import RENAMES, UNPROVEN, Drift, Found
from app.drift.evolution import Step, Unevolved, evolved
from app.drift.health import health_of
from app.drift.names import alike
from app.drift.reports import Verdict

NOWHERE = "own_0"
# What only the product's own contracts say, and what is given.
GIVEN = ("name", "schema", "version", "upstream", "functions")


def read_schema(contract: Contract, given: Mapping[str, Any]) -> Contract:
    """The contract that a document says; what it leaves out is as the contract has it. Raises ValidationFailed."""
    if not given:
        raise _refused("schema", "It says nothing: the fields at least, as a contract has them.")
    document = {name: value for name, value in wire(contract).items() if name not in ("schema", "version")}
    document |= {name: value for name, value in given.items() if name not in GIVEN} | {"version": contract.version}
    if "fields" in given:
        document = _pruned(contract, document)
    if contract.own:
        return read_registration(document | {"name": contract.name.partition("@")[0]}, schema=NOWHERE)
    refuse_any([*bounds(document, DEFAULT_LIMITS)])
    try:
        return msgspec.convert(document | {"schema": contract.schema}, Contract)
    except (msgspec.ValidationError, ConfigurationError) as error:
        raise _refused("schema", str(error)) from None


def _refused(parameter: str, message: str) -> ValidationFailed:
    return ValidationFailed(
        f"The schema is no contract: {message}",
        errors=[Culprit(code=Code.INVALID_CONTRACT, parameter=parameter, message=message)],
    )


def _pruned(contract: Contract, document: dict[str, Any]) -> dict[str, Any]:
    """Without the parts of ours that name fields which the other one does not have, where it says nothing of them."""
    fields = document["fields"]
    if not isinstance(fields, list):
        return document
    there = [field.get("name") for field in fields if isinstance(field, dict)]
    steps = [
        Step(kind=Kind.REMOVE, path="", field=field.name, old=None, new=None)
        for field in contract.fields
        if field.name not in there
    ]
    try:
        rest = evolved(contract, steps)
    except Unevolved:
        return document
    ours = wire(contract)
    unsaid = [name for name, value in document.items() if name != "fields" and value == ours.get(name)]
    return document | {name: rest[name] for name in unsaid if name in rest}


def compare_with(contract: Contract, other: Contract) -> Drift:
    """All that is different. Fields with ids are known by them; others that are gone and new are one where names and
    types say so.
    """
    old = with_ids(contract, None, highest=max((field.id or 0 for field in contract.fields), default=0))
    said = {field.name: field.id for field in other.fields if field.id is not None and contract.own}
    likely = {} if said else _likely(contract, other)
    ids = {field.name: field.id for field in old.fields}
    fields = tuple(
        msgspec.structs.replace(
            field, id=said.get(field.name) or ids.get(likely[field.name][0] if field.name in likely else field.name)
        )
        for field in other.fields
    )
    new = with_ids(
        msgspec.structs.replace(other, fields=fields), old, highest=max(filter(None, ids.values()), default=0)
    )
    comparison = compare(old, new)
    return drift_of(contract, new, comparison, likely)


def drift_of(
    contract: Contract, new: Contract, comparison: Comparison, likely: Mapping[str, tuple[str, float]] | None = None
) -> Drift:
    """A comparison as a report has it; `likely`: new name -> old name and how certain that is."""
    changes = tuple(_found(contract, new, change, likely or {}) for change in comparison.changes)
    missing = [found.field for found in changes if found.change.kind is Kind.REMOVE and found.field is not None]
    added = sum(found.change.kind is Kind.ADD for found in changes)
    retyped = sum(found.change.kind is Kind.TYPE_CHANGE for found in changes)
    return Drift(changes=changes, health=health_of(contract, missing, new=added, retyped=retyped), rows=0)


def _found(contract: Contract, new: Contract, change: Change, likely: Mapping[str, tuple[str, float]]) -> Found:
    if not change.path.startswith("fields["):
        return Found(change=change, field=None)
    place = int(change.path[7:].partition("]")[0])
    if change.kind is Kind.REMOVE:
        name = contract.fields[place].name
        return Found(change=_without_id(contract, change), field=name, was=name)
    field = new.fields[place]
    if change.kind is Kind.ADD:
        return Found(change=_without_id(contract, change), field=field.name, now=field.name)
    was = next((each.name for each in contract.fields if _is_same(each, field, change, likely)), field.name)
    confidence = likely.get(field.name, (was, 1.0))[1] if change.kind is Kind.RENAME else None
    evidence = {"names": alike(was, field.name)} if change.kind is Kind.RENAME else None
    return Found(
        change=_without_id(contract, change), field=was, was=was, now=field.name,
        confidence=confidence, evidence=evidence,
    )  # fmt: skip


def _is_same(before: Field, now: Field, change: Change, likely: Mapping[str, tuple[str, float]]) -> bool:
    if now.name in likely:
        return before.name == likely[now.name][0]
    if change.kind is Kind.RENAME:
        return before.name == str(change.old)
    return before.name == now.name or (before.id is not None and before.id == now.id)


def _without_id(contract: Contract, change: Change) -> Change:
    """Ids that were made to compare by are nobody's."""
    return change if contract.own else msgspec.structs.replace(change, field_id=None)


def _likely(contract: Contract, other: Contract) -> dict[str, tuple[str, float]]:
    """New name -> the name before that it most certainly is, each once."""
    there = {field.name for field in other.fields}
    gone = [field for field in contract.fields if field.name not in there]
    came = [field for field in other.fields if field.name not in contract.by_name]
    alikes = [(was, now) for was in gone for now in came if was.type == now.type]
    pairs = [(round(UNPROVEN * alike(was.name, now.name), 4), was, now) for was, now in alikes]
    pairs.sort(key=lambda pair: -pair[0])
    found: dict[str, tuple[str, float]] = {}
    for confidence, was, now in pairs:
        if confidence >= RENAMES and now.name not in found and was.name not in {old for old, _ in found.values()}:
            found[now.name] = (was.name, confidence)
    return found


def verdict_of(contract: Contract, candidate: Contract | None, versions: Sequence[Contract], drift: Drift) -> Verdict:
    """Both ways, against the contract and against all its versions; without a candidate by the changes alone."""
    backward = all(found.change.backward for found in drift.changes)
    forward = all(found.change.forward for found in drift.changes)
    others = [] if candidate is None else [compare(version, candidate) for version in versions]
    return Verdict(
        backward=backward,
        forward=forward,
        backward_all=backward and all(each.backward for each in others),
        forward_all=forward and all(each.forward for each in others),
    )
