"""Who uses the fields that a drift is about, and what breaks a narrower contract already."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.base.statements import statement
from app.contracts import Contract
from app.contracts.comparison import BREAKING, WARNING, Change, Kind
from app.engine.desk import Desk

COUNT_USES = statement("drift/count_uses")
COUNT_VIOLATIONS = statement("drift/count_violations")

BROKEN = "There are rows, drafts or requests that break it already."


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """What uses a field: rows of open drafts, open sessions, open change requests, changes that have not reached the
    mirror; accepted joins; and parts of the contract: KPIs, indexes, rules.
    """

    drafts: int = 0
    sessions: int = 0
    requests: int = 0
    changes: int = 0
    joins: int = 0
    kpis: int = 0
    indexes: int = 0
    rules: int = 0


async def uses_of(desk: Desk, fields: Sequence[str]) -> dict[str, Uses]:
    """The uses of each field, unfinished work included, whoever's it is."""
    known = [name for name in dict.fromkeys(fields) if name in desk.contract.by_name]
    rows = await desk.rows(COUNT_USES, fields=known) if known else []
    return {
        row["field"]: Uses(
            drafts=row["drafts"],
            sessions=row["sessions"],
            requests=row["requests"],
            changes=row["changes"],
            joins=row["joins"],
            **uses_in_contract(desk.contract, row["field"]),
        )
        for row in rows
    }


def uses_in_contract(contract: Contract, name: str) -> dict[str, int]:
    """How many KPIs, indexes and rules of the contract name a field, or what is computed of it."""
    computed = {item.name for item in contract.computed if name in item.fields}
    names = {name} | computed
    kpis = sum(measure.of in names for measure in (*contract.measures, *contract.bounds))
    kpis += (name in contract.dimensions) + (name in contract.flags)
    indexes = sum(hot.sort in names or bool(names & {*hot.filters}) for hot in contract.hot)
    rules = sum(name in fields for _, fields in contract.watches)
    return {"kpis": kpis, "indexes": indexes, "rules": rules}


async def violations_of(desk: Desk, change: Change, name: str) -> int | None:
    """How many rows, drafts and changes under way break what a change narrows, or lack what it requires, by the name
    that the field has here; None where it narrows nothing.
    """
    limits = _limits(change) if change.severity is WARNING else None
    if limits is None:
        return None
    return int(await desk.value(COUNT_VIOLATIONS, field=name, limits=limits))


def _limits(change: Change) -> dict[str, Any] | None:
    """What values have to be, in the words of sql/drift/count_violations.sql."""
    match change.kind, change.path.rpartition(".")[2]:
        case Kind.ADD, _:
            return {"required": True}
        case Kind.VALUES_CHANGE, _:
            return {"values": list(change.new)}
        case Kind.LIMIT_CHANGE, "maxLength":
            return {"bytes": change.new}
        case Kind.LIMIT_CHANGE, ("minimum" | "maximum" | "scale") as member:
            return {member: change.new}
        case Kind.TYPE_CHANGE, _ if change.new == "integer":
            return {"scale": 0}
    return None


def made_worse(change: Change, violations: int | None) -> Change:
    """A change that something breaks already is BREAKING."""
    if not violations:
        return change
    return msgspec.structs.replace(change, severity=BREAKING, rule=f"{change.rule} {BROKEN}", backward=False)


def shown(uses: Mapping[str, Uses], name: str | None) -> dict[str, int]:
    """The uses of a field as a report has them."""
    found: dict[str, int] = msgspec.structs.asdict(uses.get(name or "", Uses()))
    return found
