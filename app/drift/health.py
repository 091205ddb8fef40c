"""How a feed is, by how much of it is not as the contract has it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from app.contracts import Contract
from app.drift.batch import of_contract

# Beyond which a feed is at high, or at medium risk: missing fields as a share of those that are known, new fields,
# fields of another type.
HIGH = (0.20, 5, 3)
MEDIUM = (0.10, 2, 1)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`risk` LOW, MEDIUM or HIGH, and what it is made of: fields that are missing, new, and of another type, of so many
    that are known.
    """

    risk: Literal["LOW", "MEDIUM", "HIGH"]
    known: int
    missing: int
    new: int
    retyped: int


def health_of(contract: Contract, missing: Sequence[str], *, new: int, retyped: int) -> Health:
    """HIGH also where the key is missing, or what a cost is made of."""
    known = len(of_contract(contract))
    vital = {*contract.key_fields, *costs(contract)}
    share = len(missing) / known if known else 0.0
    risk: Literal["LOW", "MEDIUM", "HIGH"] = "LOW"
    if any(found > most for found, most in zip((share, new, retyped), MEDIUM, strict=True)):
        risk = "MEDIUM"
    if any(found > most for found, most in zip((share, new, retyped), HIGH, strict=True)) or vital & {*missing}:
        risk = "HIGH"
    return Health(risk=risk, known=known, missing=len(missing), new=new, retyped=retyped)


def costs(contract: Contract) -> set[str]:
    """The fields that KPIs sum up, or that what they sum up is computed of."""
    measured = {measure.of for measure in (*contract.measures, *contract.bounds)}
    read = {name for item in contract.computed if item.name in measured for name in item.fields}
    return {name for name in measured | read if name in contract.by_name}
