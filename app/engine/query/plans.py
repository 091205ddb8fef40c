"""What PostgreSQL expects of a statement: its EXPLAIN, read."""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.base import exact_json


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Estimates: `rows` of the answer, `widest` of it without its limit, `greatest` of what is read of any relation,
    `cost` in the planner's units.

    What a join of merged views yields the planner guesses: it has no statistics of two arms together.
    """

    rows: int
    widest: int
    greatest: int
    cost: float


def read_plan(text: str) -> Plan:
    """Of `EXPLAIN (FORMAT JSON)`."""
    root: dict[str, Any] = exact_json.decode(text)[0]["Plan"]
    return Plan(
        rows=int(root["Plan Rows"]),
        widest=int(root["Plans"][0]["Plan Rows"]) if root["Node Type"] == "Limit" else int(root["Plan Rows"]),
        greatest=max((int(node["Plan Rows"]) for node in _nodes(root) if "Relation Name" in node), default=0),
        cost=float(root["Total Cost"]),
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)
