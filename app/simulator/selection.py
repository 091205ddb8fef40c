"""Which lines a grid brings, and in which order."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from app.simulator.filters import COMPARE, Condition, Filter, Passes, Token, read_expression, read_filters
from app.simulator.lines import BY_ALIAS, Column, Line
from app.simulator.store import Store, Unusable
from app.simulator.writing import Writing

REMEMBERED = 8  # selections
ID, ORGANIZATION = "pfa_id", "organization"


class Sort(msgspec.Struct, frozen=True, kw_only=True, rename="upper"):
    """The order, as it comes."""

    alias_name: str
    type: str = "ASC"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a list from one place to another, which are not copied."""

    lines: Sequence[Line]
    start: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def page(self, offset: int, rows: int) -> Sequence[Line]:
        """At most `rows` lines after the first `offset`."""
        first = self.start + offset
        return self.lines[first : max(first, min(first + rows, self.stop))]


class Selector:
    """Selects from a store, and remembers the last selections until something is edited."""

    def __init__(self, store: Store):
        self._store = store
        self._found: dict[Any, tuple[int, list[Line]]] = {}

    def select(
        self,
        groups: Sequence[Sequence[Filter]],
        sort: Sort | None,
        writing: Writing,
        known: Mapping[str, Column],
        dataspy: Sequence[Condition] = (),
    ) -> Selection:
        """Lines that pass every group of filters, on known columns, and the dataspy. Raises Unusable."""
        column, descending = order = _read_sort(sort, known)
        read = [read_filters(group, writing, known) for group in groups]
        codes = tuple(sorted(self._store.tables))
        if any(word in tokens for tokens in read for word in ("OR", "(", ")")):
            together: list[list[Token]] = [*(["(", *tokens, ")"] for tokens in read), *([each] for each in dataspy)]
            lines = self._lines(codes, _joined(together), order)
            return Selection(lines=lines, start=0, stop=len(lines))
        # Conditions that all have to hold: of organizations they choose tables, of ids, in their order, a place.
        conditions = [token for tokens in read for token in tokens if isinstance(token, Condition)]
        of_codes = [each for each in conditions if each.column.name == ORGANIZATION]
        bounds = [each for each in conditions if each.column.name == ID and each.operator in COMPARE and each.value]
        if column.name != ID or descending:
            bounds = []
        others = [*(each for each in conditions if each not in of_codes and each not in bounds), *dataspy]
        codes = tuple(code for code in codes if all(each.holds(code) for each in of_codes))
        return _within(self._lines(codes, _joined([[each] for each in others]), order), bounds)

    def _lines(self, codes: tuple[str, ...], tokens: list[Token], order: tuple[Column, bool]) -> list[Line]:
        column, descending = order
        ordered = self._store.ordered(codes)
        if not tokens and column.name == ID and not descending:
            return ordered
        name = (codes, tuple(tokens), column.name, descending)
        version, found = self._found.pop(name, (-1, []))
        if version != self._store.version:
            passes: Passes = read_expression(tokens) if tokens else lambda line: True
            found = [line for line in ordered if passes(line)]
            if column.name != ID or descending:
                value = attrgetter(column.name)
                found.sort(key=lambda line: ((held := value(line)) is not None, held), reverse=descending)
        self._found[name] = (self._store.version, found)
        if len(self._found) > REMEMBERED:
            del self._found[next(iter(self._found))]
        return found


def _read_sort(sort: Sort | None, known: Mapping[str, Column]) -> tuple[Column, bool]:
    """The column, and whether it descends."""
    if sort is None:
        return BY_ALIAS["pfs_id"], False
    if sort.alias_name not in known:
        raise Unusable(f"{sort.alias_name[:80]} is not a valid alias")
    if sort.type.upper() not in ("ASC", "DESC"):
        raise Unusable(f"{sort.type[:80]} is not a valid order")
    return known[sort.alias_name], sort.type.upper() == "DESC"


def _joined(groups: Sequence[list[Token]]) -> list[Token]:
    return [token for group in groups for token in ("AND", *group)][1:]


def _within(lines: Sequence[Line], bounds: Sequence[Condition]) -> Selection:
    start, stop, key = 0, len(lines), attrgetter(ID)
    for bound in bounds:
        value: Any = bound.value
        if bound.operator in ("=", ">="):
            start = max(start, bisect_left(lines, value, key=key))
        if bound.operator in ("=", "<="):
            stop = min(stop, bisect_right(lines, value, key=key))
    return Selection(lines=lines, start=start, stop=stop)
