"""What KPIs are computed of: the aggregates behind a contract's measures, and the grains that they are kept at.

A measure is made of aggregates that can be taken back: sums and counts. A minimum or a maximum cannot, so whoever reads
one out of cells has to look whether what was taken away could have been it.
"""

from typing import Literal

import msgspec

from app.contracts.model import Column, Contract, Measure

# The grain of the row that holds an organization's revision.
REVISION_GRAIN = -1

Kind = Literal["sum", "count", "min", "max"]


class Aggregate(msgspec.Struct, frozen=True):
    """One aggregate of one column."""

    kind: Kind
    column: Column

    @property
    def name(self) -> str:
        """Its column in the view and in what KPI statements return."""
        return f"{self.kind}_{self.column.name}"

    @property
    def sql_type(self) -> str:
        """Sums are numeric, counts bigint, a least or greatest value has the type of its column."""
        return {"sum": "numeric", "count": "bigint"}.get(self.kind, self.column.sql_type)

    @property
    def extreme(self) -> bool:
        """Whether it is a minimum or maximum, which cannot be corrected by what was taken away."""
        return self.kind in ("min", "max")

    def over(self, prefix: str, where: str = "") -> str:
        """The aggregate over rows, or over those of them where a condition holds."""
        value = f"{prefix}{self.column.name}"
        if self.kind == "count" and self.column.type == "boolean":
            return f"count(*) FILTER (WHERE {f'{where} AND ' if where else ''}{value})"
        condition = f" FILTER (WHERE {where})" if where else ""
        if self.kind == "sum":
            return f"coalesce(sum({value}){condition}, 0)::numeric"
        return f"{self.kind}({value}){condition}"

    def again(self, prefix: str) -> str:
        """The aggregate over cells that hold it already."""
        function = self.kind if self.extreme else "sum"
        return f"{function}({prefix}{self.name})::{self.sql_type}"


def aggregates(contract: Contract, *, bounds: bool = True) -> tuple[Aggregate, ...]:
    """All that the contract's measures and bounds are made of, each once."""
    measures = (*contract.measures, *(contract.bounds if bounds else ()))
    found = [Aggregate(kind, contract.column_of[measure.of]) for measure in measures for kind in kinds(measure)]
    return tuple(dict.fromkeys(found))


def kinds(measure: Measure) -> tuple[Kind, ...]:
    """The aggregates that a measure is made of: an average is a sum and a count."""
    return ("sum", "count") if measure.kind == "average" else (measure.kind,)


def grain_of(contract: Contract, wanted: tuple[str, ...] | frozenset[str]) -> int:
    """A number for a set of dimensions: one bit each, in the order of the contract."""
    return sum(1 << place for place, name in enumerate(contract.dimensions) if name in wanted)


def coarsest(contract: Contract, wanted: frozenset[str]) -> int:
    """The coarsest grain that is kept and knows the wanted dimensions: themselves up to two, else all."""
    return grain_of(contract, wanted if len(wanted) <= 2 else frozenset(contract.dimensions))
