"""A contract as a document of the standard."""

from typing import Any

from app.contracts.findings import BLOCKING
from app.contracts.model import Contract
from app.contracts.odcs.text import write_yaml
from app.contracts.odcs.words import API_VERSION, LOGICAL, STATUS, custom
from app.contracts.registration import wire_of
from app.contracts.rule_types import NotNull, Required, Unique

# Members that have a word of the standard's.
SAID = frozenset({"name", "version", "title", "key", "fields", "computed"})
SAID_OF_FIELD = frozenset({"name", "type", "label", "description", "values", "minimum", "maximum", "maxLength"})
SAID_OF_COMPUTED = frozenset({"name", "type", "label", "description", "expression"})


def to_odcs(contract: Contract, state: str | None) -> str:
    """YAML of the standard; `state` is the dataset's, None where nobody has set it up."""
    wire = wire_of(contract)
    place = {name: number for number, name in enumerate(contract.key_fields, 1)}
    rules = {"required": _required(contract), "unique": _unique(contract)}
    properties = [
        *(_property(field, place, rules) for field in wire["fields"]),
        *(_computed(item) for item in wire.get("computed", [])),
    ]
    document = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": wire["name"],
        "name": contract.title,
        "version": contract.version,
        **({"status": STATUS[state]} if state else {}),
        "schema": [{"name": wire["name"], "logicalType": "object", "properties": properties}],
    }
    more = {name: value for name, value in wire.items() if name not in SAID}
    return write_yaml(document | ({"customProperties": custom(more)} if more else {}))


def _property(field: dict[str, Any], place: dict[str, int], rules: dict[str, set[str]]) -> dict[str, Any]:
    name, found = field["name"], _named(field)
    if name in place:
        found |= {"primaryKey": True, "primaryKeyPosition": place[name]}
    found |= {word: True for word, fields in rules.items() if name in fields}
    options = {word: field[word] for word in ("maxLength", "minimum", "maximum") if word in field}
    if field["type"] not in ("text", "number", "integer"):
        options = {}  # the standard has none for this type
    if options:
        found["logicalTypeOptions"] = options
    if "values" in field:
        found["enum"] = [{"value": value} for value in field["values"]]
    more = {word: value for word, value in field.items() if word not in SAID_OF_FIELD}
    more |= {"maxLength": field["maxLength"]} if "maxLength" in field and not options else {}
    return found | ({"customProperties": custom(more)} if more else {})


def _computed(item: dict[str, Any]) -> dict[str, Any]:
    more = {"computed": True} | {word: value for word, value in item.items() if word not in SAID_OF_COMPUTED}
    logic = {"transformLogic": item["expression"]} if "expression" in item else {}
    return _named(item) | logic | {"customProperties": custom(more)}


def _named(item: dict[str, Any]) -> dict[str, Any]:
    said = {"businessName": item.get("label"), "description": item.get("description")}
    return {"name": item["name"], "logicalType": LOGICAL[item["type"]]} | {
        word: text for word, text in said.items() if text
    }


def _required(contract: Contract) -> set[str]:
    """Fields that no row may be committed without."""
    found: set[str] = set()
    for rule in contract.rules:
        match rule:
            case NotNull(field=field, severity=severity) if severity in BLOCKING:
                found.add(field)
            case Required(fields=fields, when=None, new_rows_only=False, severity=severity) if severity in BLOCKING:
                found |= {*fields}
    return found


def _unique(contract: Contract) -> set[str]:
    return {rule.field for rule in contract.rules if isinstance(rule, Unique) and rule.severity in BLOCKING}
