"""What a client is told about a dataset, so that it can show and edit rows without knowing the contract."""

import re
from functools import lru_cache
from typing import Any

import msgspec

from app.contracts.filters import operators_of
from app.contracts.findings import BLOCKING
from app.contracts.model import Computed, Contract, Difference, Field, Percent
from app.contracts.rule_types import NotNull, Required, Rule
from app.contracts.rules import rules_of
from app.contracts.shape import FieldType


class ShownColumn(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A column of rows: a field of their `data`, or a computed one.

    `nullable`: a row may lack a value, as far as no rule says otherwise under a condition. `operators`: what it can be
    filtered by, `eq` being plain equality. `fast`: a sort by it alone walks an index, one way at least. `groupable`:
    KPIs group by it. `merge`: what it is merged by: cell, row, theirs, or atomic for a field of an atomic group.
    """

    name: str
    label: str
    description: str
    type: FieldType
    format: str | None
    scale: int | None
    values: tuple[str, ...]
    editable: bool
    nullable: bool
    computed: bool
    filterable: bool
    operators: tuple[str, ...]
    sortable: bool
    fast: bool
    searchable: bool
    groupable: bool
    merge: str
    rules: list[dict[str, Any]]


class FastSort(msgspec.Struct, frozen=True, kw_only=True):
    """A sort that walks an index, as `sort` takes it; `filters`: under filters by equality of all of these."""

    sort: str
    filters: tuple[str, ...]


class ShownMeasure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A figure of KPIs: of a column, or made of the measures `of` and `minus` or `by`."""

    name: str
    label: str
    kind: str
    of: str
    minus: str | None = None
    by: str | None = None


@lru_cache(maxsize=64)
def columns_of(contract: Contract) -> tuple[ShownColumn, ...]:
    """The columns in the order of the contract, computed ones last."""
    needed = {name for rule in contract.rules for name in _never_null(rule)} | {*contract.key_fields}
    fast = {hot.sort for hot in contract.hot if not hot.filters}
    items: tuple[Field | Computed, ...] = (*contract.fields, *contract.computed)
    return tuple(_shown(contract, item, needed, fast) for item in items)


def _shown(contract: Contract, item: Field | Computed, needed: set[str], fast: set[str]) -> ShownColumn:
    field = item if isinstance(item, Field) else None
    return ShownColumn(
        name=item.name,
        label=item.label or label_of(item.name),
        description=item.description,
        type=item.type,
        format=item.format,
        scale=field.scale if field else None,
        values=field.values if field else (),
        editable=field is not None and field.editable,
        nullable=item.name not in needed,
        computed=field is None,
        filterable=True,
        operators=operators_of(item.type),
        sortable=True,
        fast=item.name in fast,
        searchable=item.name in contract.searched,
        groupable=item.name in contract.dimensions,
        merge="atomic" if item.name in contract.cells else field.merge if field else "cell",
        rules=rules_of(contract, item.name),
    )


def _never_null(rule: Rule) -> tuple[str, ...]:
    """The fields that no row may be committed without, whatever else it has."""
    if rule.severity not in BLOCKING:
        return ()
    match rule:
        case NotNull(field=field):
            return (field,)
        case Required(fields=fields, when=None, new_rows_only=False):
            return fields
    return ()


def label_of(name: str) -> str:
    """A name for people: forecastStart -> Forecast start."""
    words = re.sub(r"(?<!^)([A-Z])", r" \1", name).lower()
    return words[:1].upper() + words[1:]


def fast_sorts(contract: Contract) -> tuple[FastSort, ...]:
    """The hot sorts, and the order of ids."""
    hot = (FastSort(sort=f"{'-' * sort.descending}{sort.sort}", filters=sort.filters) for sort in contract.hot)
    return (FastSort(sort="id", filters=()), *hot)


def measures_of(contract: Contract) -> list[ShownMeasure]:
    """What KPIs show, in the order of the contract."""
    found = [ShownMeasure(name=m.name, label=label_of(m.name), kind=m.kind, of=m.of) for m in contract.measures]
    return [*found, *(_derived(figure) for figure in contract.derived)]


def _derived(figure: Difference | Percent) -> ShownMeasure:
    name, label = figure.name, label_of(figure.name)
    if isinstance(figure, Difference):
        return ShownMeasure(name=name, label=label, kind="difference", of=figure.of, minus=figure.minus)
    return ShownMeasure(name=name, label=label, kind="percent", of=figure.of, by=figure.by)
