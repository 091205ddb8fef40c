"""Filters of a question: `{field: value | {op: value}}`, conjoined, and `and`, `or`, `not` of such."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from app.base.errors import InvalidFilter
from app.contracts.filters import PARAMETER, Bounds, parameter_of, read_condition
from app.engine.query.faults import Faults, invalid
from app.engine.query.model import DEEPEST
from app.engine.query.names import Names
from app.engine.query.question import Column, Filter, Group, Leaf

Kind = Literal["and", "or"]


def read_filters(given: dict[str, Any], names: Names, bounds: Bounds, faults: Faults) -> tuple[Filter, ...]:
    """The conjoined filters that can be read; of each of the others its first fault."""
    reader = _Reader(names, bounds)
    members = (("filters", {name: wanted}) for name, wanted in given.items())
    found = faults.named(members, lambda member, path: reader.members(member, path, 0))
    return tuple(_flat("and", (each for filters in found for each in filters)))


class _Reader:
    """Counts conditions and values while it reads, so that none is read beyond their bounds."""

    def __init__(self, names: Names, bounds: Bounds):
        self._names, self._bounds = names, bounds
        self._conditions = self._values = 0

    def members(self, given: Any, path: str, depth: int) -> list[Filter]:
        """The filters of an object."""
        if not isinstance(given, dict):
            raise invalid(path, "an object of filters.")
        if depth > DEEPEST or path.count(".and[") > DEEPEST:
            raise invalid(path[:200], f"groups lie at most {DEEPEST} deep in one another.")
        found: list[Filter] = []
        for name, wanted in given.items():
            inside = f"{path}.{name[:80]}"
            if name == "and" or name == "or":
                found.append(self._group(name, wanted, inside, depth))
            elif name == "not":
                found.append(Group("not", (self._conjoined(wanted, inside, depth),)))
            else:
                found += self._leaves(self._names.column(name, inside), wanted, inside)
        return found

    def _group(self, kind: Kind, wanted: Any, path: str, depth: int) -> Filter:
        if not isinstance(wanted, list) or not wanted:
            raise invalid(path, "a list of objects of filters, one at least.")
        # The normal form has `and` where an object has no room for two of a name: that is no deeper.
        below = depth - (kind == "and")
        return _joined(kind, [self._conjoined(each, f"{path}[{n}]", below) for n, each in enumerate(wanted)])

    def _conjoined(self, wanted: Any, path: str, depth: int) -> Filter:
        """An object of filters as one."""
        found = self.members(wanted, path, depth + 1)
        if not found:
            raise invalid(path, "an object of filters has one at least.")
        return _joined("and", found)

    def _leaves(self, column: Column, wanted: Any, path: str) -> list[Leaf]:
        contract = self._names.sources[column.source].of.contract
        operators = wanted if isinstance(wanted, dict) else {"eq": wanted}
        if not operators:
            raise invalid(path, "an object has at least one operator.")
        found = []
        for op, value in operators.items():
            self._count(value)
            if PARAMETER.fullmatch(f"x[{op[:20]}]") is None:
                raise invalid(path, f"{op[:20]!r} is no operator.")
            try:
                parameter, values = parameter_of(column.field, op, value)
                found.append(Leaf(column, read_condition(contract, parameter, values)))
            except InvalidFilter as error:
                raise invalid(path if op == "eq" else f"{path}.{op[:20]}", error.errors[0].message) from None
        return found

    def _count(self, value: Any) -> None:
        self._conditions += 1
        self._values += len(value) if isinstance(value, list) else 1
        if self._conditions > (most := self._bounds.conditions):
            raise invalid("filters", f"at most {most} conditions (VANGUARD_MAX_CONDITIONS).")
        if self._values > (most := self._bounds.values):
            raise invalid("filters", f"at most {most:,} values in all conditions (VANGUARD_MAX_VALUES).")


def _joined(kind: Kind, parts: Iterable[Filter]) -> Filter:
    """One filter; a group of the same word within another is part of that."""
    flat = tuple(_flat(kind, parts))
    return flat[0] if len(flat) == 1 else Group(kind, flat)


def _flat(kind: Kind, filters: Iterable[Filter]) -> Iterator[Filter]:
    """What belongs together anyway, each by itself."""
    for each in filters:
        if isinstance(each, Group) and each.kind == kind:
            yield from _flat(kind, each.parts)
        else:
            yield each
