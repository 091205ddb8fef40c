"""The digest of a preview: the same while nothing has changed that was looked at, however it is written."""

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from app.base import exact_json
from app.contracts.findings import Finding


def _shortest(text: str) -> int | Decimal:
    """A fraction without the zeros behind its last digit: 1.0 is 1."""
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return Decimal(text) if "." in text else int(text)


_decoder = msgspec.json.Decoder(float_hook=_shortest)


class Digest:
    """Made up of what is told to it, in that order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def tell(self, *parts: str | None) -> None:
        """Something that was seen, as JSON texts of PostgreSQL: the members of an object are in its order."""
        line = ",".join("null" if part is None else _canonical(part) for part in parts)
        self._hash.update(f"[{line}]\n".encode())

    def text(self) -> str:
        """What it is by now."""
        return self._hash.hexdigest()


def _canonical(text: str) -> str:
    return exact_json.encode(_decoder.decode(text)).decode()


def told_overlaps(overlaps: Iterable[Mapping[str, Any]]) -> str:
    """Overlaps but for their state: a push that begins, or is tried again, changes nothing that was looked at."""
    return exact_json.encode(
        [{name: value for name, value in each.items() if name != "state"} for each in overlaps]
    ).decode()


def told_findings(findings: Iterable[Finding]) -> str:
    """What is wrong, but for the words that say so: they can quote a cell that is none of the session's."""
    return exact_json.encode([(each.field, each.severity, each.code, each.rule_id) for each in findings]).decode()
