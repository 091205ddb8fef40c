"""Fields that a contract lacks, guessed from the members that its records had beside it."""

from typing import Any

from app.contracts import Contract
from app.records.columns import Column, guess
from app.records.names import field_names

MOST = 20  # members
LONGEST = 500  # bytes of what a label can keep
ENOUGH = 10_000  # values of each


class Proposals:
    """Collects members that no field has, and what they may be as fields of a new version.

    The first 20 members, by the first 10,000 values of each.
    """

    def __init__(self, contract: Contract):
        self._contract = contract
        self._columns: dict[str, Column] = {}
        self._counts: dict[str, int] = {}
        self._textual = False

    def add(self, member: str, value: Any, *, textual: bool) -> None:
        """A value of such a member, which is not null; `textual`: all values are texts, as those of CSV are."""
        count = self._counts.get(member, 0)
        if count == 0 and (len(self._counts) >= MOST or not _can_be_label(member)):
            return
        self._counts[member] = count + 1
        if count < ENOUGH:
            self._textual = self._textual or textual
            self._columns.setdefault(member, Column(member)).add(value)

    def report(self) -> dict[str, Any] | None:
        """`newFields` for the record of a run: each as a contract's document has it; None where there are none.

        What no field can hold is not proposed.
        """
        names = field_names([*self._contract.by_name, *self._columns])
        found = []
        for member, column in self._columns.items():
            kind = guess(column, textual=self._textual, whole=False)
            if kind.type is None:
                continue
            field: dict[str, Any] = {"name": names[member], "type": kind.type, **kind.members}
            found.append(field if names[member] == member else field | {"label": member})
        return {"newFields": found} if found else None


def _can_be_label(member: str) -> bool:
    return bool(member.strip()) and "\0" not in member and len(member.encode("utf-8", "replace")) <= LONGEST
