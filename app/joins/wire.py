"""Joins as the wire has them."""

from typing import Annotated, Any, Literal

import msgspec

from app.joins.confidence import Risk


class JoinEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a join: the dataset's name without a version, and its fields, which belong to the other's by their
    places.
    """

    dataset: str
    fields: tuple[str, ...]


class JoinInterval(msgspec.Struct, frozen=True, kw_only=True):
    """Where the inclusion lies, at 95 %; one value where all rows were read."""

    low: float
    high: float


class FanOut(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the child for a row of the parent: of all parents on average, and at most."""

    average: float
    greatest: int


class JoinStatistics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was measured. `sampled_rows` of the child were read, with so many `distinct_values`, of which the parent has
    the share `inclusion`; `null_share` of the rows have none. `parent_rows`, `child_rows`: exact where there are few,
    else about.
    """

    sampled_rows: int
    distinct_values: int
    inclusion: float
    null_share: float
    parent_unique: bool
    parent_rows: int
    child_rows: int
    fan_out: FanOut
    cardinality: Literal["many_to_one", "one_to_one"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A join that is suggested: nothing of it is kept. `candidate_id` accepts it; `join_type`: inner where each row of
    the child has a partner; `accepted`: the id of the accepted join of the same fields.
    """

    candidate_id: str
    child: JoinEnd
    parent: JoinEnd
    join_type: Literal["left", "inner"]
    condition: str
    confidence: float
    interval: JoinInterval
    risk: Risk
    reason: str
    assumptions: list[str]
    statistics: JoinStatistics
    accepted: str | None


class CandidatesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Up to 50 candidates, the most certain first."""

    data: list[Candidate]


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A join that was accepted. `version`: 1 of these fields, one more each time that they are accepted again.
    `confidence` and `statistics` are of when it was accepted; `reason`: why it was deprecated; `uses`: queries that ran
    with it.
    """

    id: str
    version: int
    state: Literal["accepted", "deprecated"]
    child: JoinEnd
    parent: JoinEnd
    condition: str
    confidence: float
    statistics: JoinStatistics
    rationale: str
    accepted_by: str
    accepted_by_name: str | None
    accepted_at: str
    deprecated_by: str | None
    deprecated_by_name: str | None
    deprecated_at: str | None
    reason: str | None
    uses: int
    last_used_at: str | None


class JoinWarning(msgspec.Struct, frozen=True, kw_only=True):
    """What does not refuse a join, but should be known: NULLS or FAN_OUT."""

    type: Literal["NULLS", "FAN_OUT"]
    message: str


class AcceptedAnswer(JoinAnswer, frozen=True, kw_only=True, rename="camel"):
    """The join, and what should be known of it."""

    warnings: list[JoinWarning]


class JoinsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of joins, the newest first."""

    data: list[JoinAnswer]
    next_cursor: str | None


class AcceptRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which candidate, and why."""

    candidate_id: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    rationale: Annotated[str, msgspec.Meta(min_length=1, max_length=2000, examples=["Orders name their customer"])]


class DeprecateJoinRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000, examples=["The key has changed"])]


def join_of(row: Any) -> dict[str, Any]:
    """The members of a JoinAnswer, from a row of read_join or list_joins."""
    told = {name: row[name] for name in JoinAnswer.__struct_fields__ if name in row}
    child, parent = (row["child"], row["child_fields"]), (row["parent"], row["parent_fields"])
    both = zip(row["child_fields"], row["parent_fields"], strict=True)
    return told | {
        "id": str(row["id"]),
        "child": JoinEnd(dataset=child[0], fields=tuple(child[1])),
        "parent": JoinEnd(dataset=parent[0], fields=tuple(parent[1])),
        "condition": " AND ".join(f"{child[0]}.{one} = {parent[0]}.{other}" for one, other in both),
        "confidence": float(row["confidence"]),
        "statistics": msgspec.convert(row["statistics"], JoinStatistics, strict=False),
    }
