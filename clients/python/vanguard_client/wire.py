"""What the API says, in this library's words, and the other way round."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

from vanguard_client.records import Values
from vanguard_client.results import FieldConflict
from vanguard_client.source import Row

Filter = str | int | Decimal | float | bool | date
Filters = Mapping[str, Filter | Sequence[Filter]]
State = Literal["settled", "draft", "pending", "failed"]

IDS = 100  # in one request, which has 200 parameters at most
BYTES = 12_000  # of ids in one request, whose target has 16 KB at most
STATES: dict[str, State] = {
    "pristine": "settled",
    "draft": "draft",
    "in_review": "pending",
    "committed": "pending",
    "syncing": "pending",
    "conflict": "failed",
    "sync_error": "failed",
}


def values_of(row: Mapping[str, Any]) -> Values:
    """A row's fields, and its computed columns where they were asked for."""
    return {**row["data"], **row.get("computed", {})}


def rows_of(page: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of a list by id."""
    return {
        row["id"]: Row(
            values=values_of(row),
            position=position_of(page),
            version=row["version"],
            state=STATES.get(row["syncState"], "pending"),
            conflicts=conflicts_of(row["conflicts"]),
        )
        for row in page["data"]
    }


def position_of(answer: Mapping[str, Any]) -> str:
    """Of a list, or of a write; empty where a server tells none."""
    return str(answer.get("metadata", answer).get("position") or "")


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """As many ids as one request takes, and again."""
    some: list[str] = []
    size = 0
    for id in ids:
        length = len(segment(id)) + len("&id=")
        if some and (len(some) >= IDS or size + length > BYTES):
            yield some
            some, size = [], 0
        some.append(id)
        size += length
    if some:
        yield some


def conflicts_of(told: Iterable[Mapping[str, Any]]) -> list[FieldConflict]:
    """Conflicts of a row or of a refused commit."""
    return [
        FieldConflict(id=each["id"], field=each["field"], base=each["base"], theirs=each["theirs"], mine=each["mine"])
        for each in told
    ]


def segment(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="").replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def parameters_of(filters: Filters) -> list[tuple[str, str]]:
    """Query parameters; a list of values is repeated ones."""
    return [(name, _text(value)) for name, given in filters.items() for value in _each(given)]


def _each(given: Filter | Sequence[Filter]) -> Sequence[Filter]:
    return [given] if isinstance(given, str | int | Decimal | float | date) else given


def _text(value: Filter) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)
