"""What KPIs promise, in plain Python: figures of the model's rows (model.py), counted one by one, with fractions.

Written from docs/api.md and the formulae of the contract, not from the statements.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from app.contracts import Contract
from app.contracts.model import Difference, Measure
from tests.support.model import Document, Model, Query

Rows = dict[str, Document]


class Kpis:
    """The answer to one question: rows of the mirror and of a user's view that pass, with the figures over them."""

    def __init__(self, model: Model, user: str, query: Query, keys: Sequence[str], include: Iterable[str]):
        self.model, self.contract, self.user, self.keys = model, model.contract, user, tuple(keys)
        filtered = {name.partition("[")[0] for name, _ in query}
        self.left_out = [
            exclusion.field
            for exclusion in self.contract.exclusions
            if exclusion.name not in include and exclusion.field not in filtered
        ]
        known = {*model.mirror, *model.of(user).drafts, *(change.key for change in model.changes)}
        self.baseline = self._passing(query, {key: model.mirror.get(key) for key in known})
        self.mine = self._passing(query, {key: model.view(user, key) for key in known})

    def _passing(self, query: Query, rows: dict[str, Document | None]) -> Rows:
        return {
            key: row
            for key, row in rows.items()
            if row is not None
            and not any(self.model.value(key, row, flag) is True for flag in self.left_out)
            and self.model.wanted(self.user, key, row, query)
        }

    # -- the answer ---------------------------------------------------------------------------------------------------

    def totals(self) -> Document:
        """baseline, mine and difference of all rows."""
        return self._sets(lambda _, __: True)

    def groups(self) -> list[Document]:
        """The same for each combination of the keys' values, in their order, null last."""
        found = {self._key_of(key, row) for rows in (self.baseline, self.mine) for key, row in rows.items()}
        order = sorted(found, key=lambda values: [(value is None, value or 0) if not isinstance(value, str)
                                                  else (False, value) for value in values])  # fmt: skip
        return [
            {
                "key": dict(zip(self.keys, map(plain, values), strict=True)),
                **self._sets(lambda key, row, values=values: self._key_of(key, row) == values),
            }
            for values in order
        ]

    def bounds(self) -> Document:
        """The contract's bounds of all rows."""
        sides = {"baseline": self.baseline, "mine": self.mine}
        return {
            side: {bound.name: plain(self._measured(bound, rows)) for bound in self.contract.bounds}
            for side, rows in sides.items()
        }

    # -- figures ------------------------------------------------------------------------------------------------------

    def _key_of(self, key: str, row: Document) -> tuple[Any, ...]:
        return tuple(self.model.value(key, row, name) for name in self.keys)

    def _sets(self, among: Callable[..., bool]) -> Document:
        baseline, mine = (
            self._figures({key: row for key, row in rows.items() if among(key, row)})
            for rows in (self.baseline, self.mine)
        )
        baseline["drafts"] = 0
        difference = {name: later(mine[name], baseline[name]) for name in mine}
        return {
            side: {name: plain(value) for name, value in figures.items()}
            for side, figures in (("baseline", baseline), ("mine", mine), ("difference", difference))
        }

    def _figures(self, rows: Rows) -> Document:
        drafted = self.model.of(self.user).drafts
        found: Document = {"rows": len(rows), "drafts": sum(key in drafted for key in rows)}
        for measure in self.contract.measures:
            found[measure.name] = self._measured(measure, rows)
        for figure in self.contract.derived:
            of = found[figure.of]
            if isinstance(figure, Difference):
                found[figure.name] = later(of, found[figure.minus])
            else:
                by = found[figure.by]
                defined = of is not None and by is not None and by > 0
                found[figure.name] = round(Fraction(of) * 100 / Fraction(by), 6) if defined else 0
        return found

    def _measured(self, measure: Measure, rows: Rows) -> Any:
        found = [self.model.value(key, row, measure.of) for key, row in rows.items()]
        values = [value for value in found if value is not None]
        boolean = kind_of(self.contract, measure.of) == "boolean"
        match measure.kind:
            case "count":
                return sum(value is True for value in values) if boolean else len(values)
            case "sum":
                return sum(map(Fraction, values), Fraction())
            case "average":
                return round(sum(map(Fraction, values), Fraction()) / len(values), 6) if values else None
            case "min":
                return min(values, default=None)
            case "max":
                return max(values, default=None)


def kind_of(contract: Contract, name: str) -> str:
    """The type of what is measured."""
    return contract.column_of[name].type


def later(value: Any, other: Any) -> Any:
    """What a value has more than another: days of dates, seconds of moments."""
    if value is None or other is None:
        return None
    if isinstance(value, datetime.datetime):
        return Fraction((value - other) // datetime.timedelta(microseconds=1), 10**6)
    return (value - other).days if isinstance(value, datetime.date) else Fraction(value) - Fraction(other)


def plain(value: Any) -> Any:
    """A value to compare: numbers as fractions, whatever their digits; days as their text."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(member) for member in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat().rstrip("0" if value.microsecond else "") + "Z"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | str) else Fraction(value)
