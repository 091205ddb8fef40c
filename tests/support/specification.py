"""The Data Contract Specification 1.2, as far as its fields have words of ours: a model becomes what registers."""

from collections.abc import Mapping
from typing import Any

TYPES = {
    "string": "text",
    "text": "text",
    "varchar": "text",
    "decimal": "number",
    "numeric": "number",
    "number": "number",
    "float": "number",
    "double": "number",
    "int": "integer",
    "integer": "integer",
    "long": "integer",
    "bigint": "integer",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "datetime",
}
# Its word -> ours.
SAME = {
    "title": "label",
    "description": "description",
    "maxLength": "maxLength",
    "minimum": "minimum",
    "maximum": "maximum",
    "scale": "scale",
}
RULES = {"required": "not_null", "unique": "unique"}


def read_model(name: str, fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The contract of a model without its ingestion, which the specification does not know."""
    key = [field for field, words in fields.items() if words.get("primaryKey")]
    rules = [rule for field, words in fields.items() for rule in _rules(field, words)]
    made = {"name": name, "version": "1.0", "title": name, "source": name, "key": key}
    return made | {"fields": [_field(*each) for each in fields.items()], "rules": rules}


def _field(name: str, words: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "type": TYPES[words["type"]]}
    found |= {ours: words[theirs] for theirs, ours in SAME.items() if theirs in words}
    found |= {"type": "enum", "values": words["enum"]} if "enum" in words else {}
    found |= {"indexed": True} if words.get("unique") else {}
    return found | ({"editable": False} if words.get("primaryKey") else {})


def _rules(name: str, words: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [{"type": kind, "field": name} for word, kind in RULES.items() if words.get(word)]
    return found + ([{"type": "regex", "field": name, "pattern": words["pattern"]}] if "pattern" in words else [])
