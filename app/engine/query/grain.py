"""At whose grain a figure is taken, so that no join multiplies it.

A to-one join adds columns to the root's rows, and no rows. Of a to-many join there are many rows for each of the
root's: a branch. Figures of a branch are taken for each row of the root before they are joined to it, and so figures of
the root are the same with and without it. Whatever cannot be had that way is refused with FAN_OUT.
"""

from collections.abc import Sequence

from app.base.errors import FanOut
from app.engine.query.faults import invalid
from app.engine.query.question import Figure, Filter, Question, Source, leaves

# A least or greatest value, and how many different ones there are, are the same however often each comes.
UNMULTIPLIED = ("min", "max", "countDistinct")


def fan_out(detail: str) -> FanOut:
    """The refusal, with what to ask instead."""
    return FanOut(detail)


def apart(
    sources: Sequence[Source], grouped: bool, filters: Sequence[Filter]
) -> tuple[tuple[Filter, ...], dict[int, tuple[Filter, ...]]]:
    """The filters of the root's rows, and those of each branch's. A listing has them all on what was joined."""
    if not grouped:
        return tuple(filters), {}
    own: list[Filter] = []
    of_branches: dict[int, list[Filter]] = {}
    for each in filters:
        branches = {sources[leaf.column.source].branch for leaf in leaves(each)}
        if branches == {0}:
            own.append(each)
        elif len(branches) == 1:
            of_branches.setdefault(branches.pop(), []).append(each)
        else:
            names = ", ".join(dict.fromkeys(leaf.column.name for leaf in leaves(each)))
            raise invalid(
                "filters",
                f"{names} stand in one group, and belong to rows of different grain. What is asked of "
                f"{_aliases(sources, branches)} stands by itself beside aggregates.",
            )
    return tuple(own), {branch: tuple(parts) for branch, parts in of_branches.items()}


def _aliases(sources: Sequence[Source], branches: set[int]) -> str:
    return " and ".join(sources[branch].alias for branch in sorted(branches) if branch)


def check(question: Question) -> None:
    """Raises FanOut where a figure would be multiplied."""
    if question.listing:
        return
    for key in question.keys:
        source = question.sources[key.source]
        if source.branch:
            raise fan_out(
                f"{key.name} is of {question.sources[source.branch].alias}, of which there are many for each row of "
                f"{question.sources[0].alias}. To group by it, ask about {question.sources[source.branch].alias}."
            )
    for figure in question.figures:
        _check_figure(question, figure)


def _check_figure(question: Question, figure: Figure) -> None:
    source = question.sources[figure.source]
    column = figure.column
    if column is None:
        return
    if source.branch and figure.function == "countDistinct":
        raise fan_out(
            f"{figure.name}: different values of {column.name} can be the same for several rows of "
            f"{question.sources[0].alias}, so that they cannot be added. Ask about {source.alias}."
        )
    if not _has_grain(source) and figure.function not in UNMULTIPLIED:
        raise fan_out(
            f"{figure.name}: a row of {source.alias} can belong to several of "
            f"{question.sources[source.branch].alias}, and {column.name} would be counted for each. Ask about "
            f"{source.alias}, or take its min or max."
        )


def _has_grain(source: Source) -> bool:
    """Whether rows are the source's own: the root's, or a branch's."""
    return source.place == source.branch
