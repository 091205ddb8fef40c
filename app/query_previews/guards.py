"""What is wrong with a question though it can be read: guards that an ADMIN can lift with a reason, and warnings."""

from collections.abc import Sequence
from math import prod

import msgspec

from app.engine.query.plans import Plan
from app.engine.query.question import Filter, Question, leaves

MOST_FAN_OUT = 1000  # rows of a listing for a row of the dataset that is asked about
MOST_ROWS = 10_000_000  # that are read of a dataset, or listed
LARGE = 1_000_000  # rows of a dataset that is better filtered
LOW_CONFIDENCE = 0.5


class Guard(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing to know before the question is run; with `requires_override` it is not run without one."""

    type: str
    message: str
    requires_override: bool


def guards(question: Question, plan: Plan, rows: Sequence[int], asked: int) -> list[Guard]:
    """The guards of a question; `rows` are about how many each source's dataset has, `asked` those of the first one
    that pass its filters.

    What a join of many yields the planner cannot know of merged views: the accepted join does.
    """
    found = []
    branches = question.branches if question.listing else ()
    expected = max(plan.greatest, int(asked * prod(source.join.fan_out for source in branches if source.join)))
    if expected > MOST_ROWS:
        words = (
            f"About {expected:,} rows on the way, more than {MOST_ROWS:,}. Filter, or join fewer datasets; or have "
            "an ADMIN override this with a reason."
        )
        found.append(Guard(type="TOO_MANY_ROWS", message=words, requires_override=True))
    each = prod(source.join.most for source in branches if source.join)
    if each > MOST_FAN_OUT:
        words = (
            f"Up to {each:,} rows for a row of {question.sources[0].alias}, more than {MOST_FAN_OUT:,}. Ask for "
            "figures instead of rows, or have an ADMIN override this with a reason."
        )
        found.append(Guard(type="FAN_OUT_LIMIT", message=words, requires_override=True))
    filtered = {leaf.column.source for each in _all_filters(question) for leaf in leaves(each)}
    for source in question.sources:
        if rows[source.place] > LARGE and source.place not in filtered:
            words = f"{source.alias} has about {rows[source.place]:,} rows, and no filter: all of them are read."
            found.append(Guard(type="UNFILTERED", message=words, requires_override=False))
        if source.join is not None and source.join.confidence < LOW_CONFIDENCE:
            words = f"The join to {source.alias} was accepted at a confidence of {source.join.confidence:.2f}."
            found.append(Guard(type="LOW_CONFIDENCE", message=words, requires_override=False))
    return found


def _all_filters(question: Question) -> list[Filter]:
    return [*question.filters, *(each for parts in question.branch_filters.values() for each in parts)]
