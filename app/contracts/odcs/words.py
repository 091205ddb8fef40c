"""What both directions share: types, states, and how our own words stand in customProperties."""

from collections.abc import Mapping
from typing import Any

from app.contracts.states import DatasetState

API_VERSION = "v3.2.0"
VENDOR = "vanguard"
# Our type -> the standard's; an enum is a string that has an `enum`.
LOGICAL = {
    "text": "string",
    "enum": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamp",
}
# Our state -> the standard's example; a dataset that is read only is in use. Nothing of ours is retired.
STATUS: dict[str, str] = {
    DatasetState.SHADOW: "draft",
    DatasetState.ACTIVE: "active",
    DatasetState.READ_ONLY: "active",
    DatasetState.DEPRECATED: "deprecated",
}


def custom(words: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Members of ours as customProperties."""
    return [{"property": name, "value": value, "vendor": VENDOR} for name, value in words.items()]


def own(part: Mapping[str, Any]) -> dict[str, Any]:
    """Our members in the customProperties of a part."""
    found = part.get("customProperties") or []
    return {each["property"]: each["value"] for each in found if each.get("vendor") == VENDOR}
