"""From one version of a dataset to another: which fields are the same, and which values fit."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from app.contracts import Contract
from app.contracts.validation import check_cell


class Cells(NamedTuple):
    """A document's cells: those that fit the other contract, under its names; and the names of those that do not."""

    fit: dict[str, Any]
    left: list[str]


class Passage:
    """From one contract to another of the same dataset: which fields are the same, and which values fit."""

    def __init__(self, before: Contract, after: Contract):
        self.before, self.after = before, after
        by_id = {field.id: field.name for field in after.fields}
        self.names = {field.name: by_id[field.id] for field in before.fields if field.id in by_id}
        if before is after:  # fields of a built-in contract have no ids
            self.names = {field.name: field.name for field in before.fields}
        self.names_back = {now: was for was, now in self.names.items()}
        # A row is known by the same id only where what ids are made of is the same.
        self.same_keys = _parts(before) == _parts(after)

    @property
    def renamed_fields(self) -> dict[str, str]:
        """The name that fields have now, of those that had another one before."""
        return {was: now for was, now in self.names.items() if was != now}

    def cells(self, document: Mapping[str, Any]) -> Cells:
        """The cells of a document."""
        fit, left = {}, []
        for name, value in document.items():
            now = self.names.get(name)
            if now is None or not (value is None or check_cell(self.after, now, value).storable):
                left.append(name)
            else:
                fit[now] = value
        return Cells(fit, left)

    def renamed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document under the other contract's names, where there are any: for what is over, and only told."""
        return {self.names.get(name, name): value for name, value in document.items()}

    def base(self, base: Mapping[str, Any], data: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> Any:
        """What was seen when cells were touched. Where that is what the row has still, it is what the other version's
        row has: the same value may be written otherwise there.
        """
        found = {}
        for name, value in base.items():
            now = self.names.get(name)
            if now is None:
                continue
            unchanged = data is not None and data.get(name) == value
            found[now] = there.get(now) if unchanged and there is not None else value
        return found


def _parts(contract: Contract) -> tuple[bool, list[tuple[int | None, str] | None]]:
    """What the ids of rows are made of: the fields of the key and, where records are appended, their event time, which
    is None where it is that of their receipt.
    """
    names = contract.key_fields
    if contract.ingestion is not None and contract.appends:
        names += (contract.ingestion.event_time_column,)
    fields = [contract.by_name.get(name) for name in names]
    return contract.appends, [None if field is None else (field.id, field.type) for field in fields]


def passages(line: Sequence[Contract]) -> list[Passage]:
    """From each version of a line to the first one: as far as a row goes by the same id."""
    return list(takewhile(lambda passage: passage.same_keys, [Passage(contract, line[0]) for contract in line]))
