"""How much speaks for a join, from 0 to 1: docs/joins.md has the formula, with an example."""

import math
from typing import Literal

import msgspec

Z = 1.96  # standard deviations: 95 of 100 such intervals hold the true share
# What a value that is found counts by itself, and what else speaks for a join; 1 together.
BY_VALUES, BY_NAMES, BY_UNIQUENESS, BY_TYPES = 0.55, 0.20, 0.15, 0.10
OBSERVED = 0.6  # of uniqueness that nobody declared
OTHER_TYPE = 0.5  # of types that differ, as integer and number do
ALIKE = 0.6  # names less alike are unlike
# What is left of the confidence, where that is so.
CONSTANT, TWO_VALUES, REPEATED, SEQUENTIAL, OWN_REFERENCE = 0.3, 0.6, 0.5, 0.5, 0.8

HIGH, MEDIUM = 0.8, 0.5
Risk = Literal["high_confidence", "medium", "low"]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a candidate.

    `found` of the child's `looked` different values are in the parent. `names`: how alike they are, 0 to 1.
    `declared`: the contract says that the parent is unique; `repeated`: it is not. `same_type`: of all fields.
    `different`: how many values the child has. `sequential`: both are integers, and the parent's lie so close that any
    small integer is among them. `own_reference`: both are of one dataset, and the child is called as a reference is.
    """

    found: int
    looked: int
    names: float
    declared: bool
    repeated: bool
    same_type: bool
    different: int
    sequential: bool = False
    own_reference: bool = False


def interval(found: int, looked: int) -> tuple[float, float]:
    """Wilson's interval of a share at 95 %; all from 0 to 1 where nothing was looked at."""
    if looked == 0:
        return 0.0, 1.0
    share, square = found / looked, Z * Z
    middle = (share + square / (2 * looked)) / (1 + square / looked)
    half = Z / (1 + square / looked) * math.sqrt(share * (1 - share) / looked + square / (4 * looked * looked))
    return max(0.0, round(middle - half, 4)), min(1.0, round(middle + half, 4))


def confidence_of(evidence: Evidence) -> float:
    """The lower end of the inclusion, weighed by what else speaks for the join, less what speaks against it."""
    low, _ = interval(evidence.found, evidence.looked)
    unique = 0.0 if evidence.repeated else 1.0 if evidence.declared else OBSERVED
    types = 1.0 if evidence.same_type else OTHER_TYPE
    weight = BY_VALUES + BY_NAMES * evidence.names + BY_UNIQUENESS * unique + BY_TYPES * types
    left = math.prod(markdown for markdown, _ in markdowns(evidence))
    return round(low * weight * left, 4)


def markdowns(evidence: Evidence) -> list[tuple[float, str]]:
    """What is left of the confidence by each thing that speaks against the join, and what that is."""
    found = []
    if evidence.different <= 1:
        found.append((CONSTANT, "the child has one value only"))
    elif evidence.different == 2:
        found.append((TWO_VALUES, "the child has two values only"))
    if evidence.repeated:
        found.append((REPEATED, "the parent has values more than once"))
    if evidence.sequential and evidence.names < ALIKE:
        if evidence.own_reference:
            found.append((OWN_REFERENCE, "the parent counts without large gaps, and its name is not the child's"))
        else:
            found.append((SEQUENTIAL, "the parent counts without large gaps, and the names are unlike"))
    return found


def risk_of(confidence: float) -> Risk:
    """The word for it."""
    return "high_confidence" if confidence >= HIGH else "medium" if confidence >= MEDIUM else "low"
