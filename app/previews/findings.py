"""What validation has to say of a session: of merged rows, of cells, and how all of it is counted."""

from collections.abc import Iterable
from typing import Any

import msgspec

from app.base.errors import Code
from app.contracts import Contract
from app.contracts.findings import BLOCKING, Finding, Severity
from app.contracts.rule_types import Rule
from app.contracts.rules import check_change, judge
from app.contracts.states import ValidationState
from app.contracts.validation import check_cell
from app.previews.changes import Change

MAX_MESSAGES = 1000  # in one answer, and in a run's record
Document = dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A finding with the `id` of its row."""

    id: str
    field: str | None
    severity: Severity
    code: str
    message: str
    rule_id: str | None
    contract_version: str


class Findings:
    """The findings of a session: all are counted, of each severity the first are kept."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Severity, 0)
        self._kept: dict[Severity, list[Message]] = {severity: [] for severity in Severity}

    def add(self, key: str, findings: Iterable[Finding]) -> None:
        """What was found in a row."""
        for finding in findings:
            self._counts[finding.severity] += 1
            kept = self._kept[finding.severity]
            if len(kept) < MAX_MESSAGES:
                kept.append(Message(id=key, **msgspec.structs.asdict(finding)))

    @property
    def counts(self) -> dict[str, int]:
        """How many there are, by severity in small letters."""
        return {severity.lower(): count for severity, count in self._counts.items()}

    @property
    def messages(self) -> list[Message]:
        """The worst of them, as many as are shown."""
        return [message for severity in reversed(Severity) for message in self._kept[severity]][:MAX_MESSAGES]

    @property
    def state(self) -> ValidationState:
        """How the validation ends that found them."""
        if any(self._counts[severity] for severity in BLOCKING):
            return ValidationState.FAILED
        return ValidationState.PARTIAL_PASS if self._counts[Severity.WARNING] else ValidationState.PASSED


class Checks:
    """The checks of a contract, by the cells that a change is about: in one session those are mostly the same."""

    def __init__(self, contract: Contract):
        self._contract = contract
        self._rules: dict[tuple[str, ...], list[Rule]] = {}

    def of(self, change: Change) -> list[Finding]:
        """What there is to say of a row, by field. Of one that is gone its conflict is all: it is merged with nothing.

        As check_change finds it, which does not know yet what differs.
        """
        if change.gone:
            return []
        contract, before = self._contract, change.before
        new = {field: value for field, _, value in change.cells}
        if change.op != "update":
            found = check_change(contract, change.key, before, new if change.op == "insert" else None)
        elif before is not None:
            after = before | new
            found = [each for rule in self._touched(tuple(new)) for each in judge(contract, rule, before, after)]
        else:
            found = []
        if unknown := new.keys() - contract.by_name.keys():
            found += [_unknown(contract, name) for name in unknown]
        return sorted(found, key=lambda each: each.field or "") if found else found

    def _touched(self, names: tuple[str, ...]) -> list[Rule]:
        """The rules that look at one of the cells."""
        if names not in self._rules:
            self._rules[names] = [rule for rule, fields in self._contract.watches if not fields.isdisjoint(names)]
        return self._rules[names]


def refused_findings(contract: Contract, field: str, value: Any) -> list[Finding]:
    """What is wrong with a value that went into no draft, None where it is too long to look at: an error at least,
    whatever the contract says by now.
    """
    found = _cells_findings(contract, {field: value})
    if any(each.blocks for each in found):
        return found
    message = f"{field} could not take the value that was entered. Enter it again."
    return [*found, _error(contract, field, Code.INVALID_TYPE, message)]


def _cells_findings(contract: Contract, cells: Document) -> list[Finding]:
    """What is wrong with values by themselves, which no save has checked."""
    found = []
    for name, value in cells.items():
        if name in contract.by_name:
            found += check_cell(contract, name, value).findings
        else:
            found.append(_unknown(contract, name))
    return found


def _unknown(contract: Contract, name: str) -> Finding:
    return _error(contract, name, Code.UNKNOWN_FIELD, f"{contract.name} has no field {name[:80]!r}.")


def _error(contract: Contract, field: str, code: str, message: str) -> Finding:
    return Finding(
        field=field,
        severity=Severity.ERROR,
        code=code,
        message=message,
        rule_id=None,
        contract_version=contract.version,
    )
