"""Findings: what validation says of a cell or a row, as data."""

from enum import StrEnum

import msgspec

from app.base.errors import Culprit


class Severity(StrEnum):
    """How bad a finding is, least first."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    FATAL = "FATAL"

    @property
    def rank(self) -> int:
        """To compare by: `max(severities, key=lambda severity: severity.rank)` is the worst."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
# What a commit does not let through.
BLOCKING = frozenset({Severity.ERROR, Severity.FATAL})


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing that validation has to say.

    `field` is null where it is about the whole row, `rule_id` where no rule of the contract says it but the field's
    type. `contract_version`: the version that judged.
    """

    field: str | None
    severity: Severity
    code: str
    message: str
    rule_id: str | None
    contract_version: str

    @property
    def blocks(self) -> bool:
        """Whether it keeps a change from being committed."""
        return self.severity in BLOCKING

    def culprit(self, key: str, other: str | None = None) -> Culprit:
        """The finding as what is wrong with row `key`."""
        return Culprit(id=key, field=self.field, code=self.code, message=self.message, other=other)
