"""The digest of a preview: the same while nothing has changed that was looked at, however it is written."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.base import exact_json
from app.contracts.findings import Finding

# A text, or a number with a fraction.
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![0-9])[0-9]+\.[0-9]+')


class Digest:
    """Made up of what is told to it, in that order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def tell(self, *parts: str | None) -> None:
        """Something that was seen, as JSON texts. Those of PostgreSQL are equal where the values are, but for the zeros
        behind a fraction.
        """
        line = ",".join(["null" if part is None else part for part in parts])
        if "." in line:
            line = TOKEN.sub(_shortest, line)
        self._hash.update(f"[{line}]\n".encode())

    def text(self) -> str:
        """What it is by now."""
        return self._hash.hexdigest()


def _shortest(token: re.Match[str]) -> str:
    text = token[0]
    return text if text[0] == '"' else text.rstrip("0").rstrip(".")


def told_overlaps(overlaps: Iterable[Mapping[str, Any]]) -> str | None:
    """Overlaps but for their state: a push that begins, or is tried again, changes nothing that was looked at."""
    told = [{name: value for name, value in each.items() if name != "state"} for each in overlaps]
    return _text(told) if told else None


def told_findings(findings: Iterable[Finding]) -> str | None:
    """What is wrong, but for the words that say so: they can quote a cell that is none of the session's."""
    told = [(each.field, each.severity, each.code, each.rule_id) for each in findings]
    return _text(told) if told else None


def _text(value: Any) -> str:
    return exact_json.encode(value).decode()
