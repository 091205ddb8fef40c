"""Two versions of a dataset side by side, before one takes the place of the other: rows, figures, samples."""

from decimal import Decimal
from typing import Any

import msgspec

from app.base.statements import statement
from app.contracts.aggregates import Aggregate, aggregates
from app.engine.desk import Desk
from app.engine.passage import Passage
from app.engine.view import Composed

COMPARE_ROWS = statement("lifecycle/compare_rows")
SAMPLE_DIFFERENCES = statement("lifecycle/sample_differences")
SUM_FIGURES = statement("lifecycle/sum_figures")

SAMPLES = 20


class Rows(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Rows of both: `differing` have another value in a field that both have."""

    before: int
    after: int
    only_before: int
    only_after: int
    differing: int


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A sum or count that both keep, of all rows."""

    name: str
    before: Decimal | int | None
    after: Decimal | int | None


class Sample(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A row that the versions have otherwise; null where one of them has none."""

    row_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """The version that is used, and the one that is to be. Rows are held against each other by their ids; where the
    key is another, none is the same.
    """

    rows: Rows
    kpis: list[Figure]
    samples: list[Sample]


async def compare_versions(before: Desk, after: Desk) -> Differences:
    """All of it, from the mirrors as they are; takes a pass over both."""
    names = Passage(before.contract, after.contract).names
    schema = before.contract.schema
    found = await after.row(COMPARE_ROWS.fill(other=schema), names=names)
    assert found is not None, "an aggregate returns its row"
    samples = await after.rows(SAMPLE_DIFFERENCES.fill(other=schema), names=names, limit=SAMPLES)
    return Differences(
        rows=Rows(
            before=found["rows_before"],
            after=found["rows_after"],
            only_before=found["only_before"],
            only_after=found["only_after"],
            differing=found["differing"],
        ),
        kpis=await _figures(before, after),
        samples=[Sample(row_id=row["row_key"], before=row["before"], after=row["after"]) for row in samples],
    )


async def _figures(before: Desk, after: Desk) -> list[Figure]:
    """Sums and counts that both contracts keep under the same name."""
    sides = [{each.name: each for each in aggregates(desk.contract, bounds=False)} for desk in (before, after)]
    both = [name for name in sides[0] if name in sides[1] and not sides[0][name].extreme]
    if not both:
        return []
    values = [
        await _sum(desk, [side[name] for name in both]) for desk, side in zip((before, after), sides, strict=True)
    ]
    return [Figure(name=name, before=values[0][name], after=values[1][name]) for name in both]


async def _sum(desk: Desk, wanted: list[Aggregate]) -> dict[str, Any]:
    figures = ", ".join(f"{each.over('m.f_')} AS {each.name}" for each in wanted)
    filled = SUM_FIGURES.fill(figures=figures).within(desk.contract.schema)
    row = await desk.connection.row(Composed(filled, [desk.organization]))
    assert row is not None, "an aggregate returns its row"
    return dict(row)
