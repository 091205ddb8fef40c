"""Does a delta fit its contract? Unknown and read-only fields, types, enums, ranges; rules.py has what spans fields."""

from decimal import Decimal
from typing import Any, NamedTuple

from app.base.errors import Code, Culprit
from app.contracts.findings import Finding, Severity
from app.contracts.keys import SEPARATOR, key_values
from app.contracts.keys import check_key as check_key
from app.contracts.model import Contract, Field
from app.contracts.rules import check_value_rules
from app.contracts.values import (
    MAX_DECIMALS,
    MAX_DIGITS,
    MAX_INTEGER,
    decimals,
    fits,
    has_type,
    is_date,
    normalize_datetime,
)


def check_new_key(contract: Contract, key: str) -> str | None:
    """Why the text cannot be the id of a new row, or None: also what does not come through every URL (docs/api.md)."""
    if "/" in key:
        return "The id of a new row has no slash."
    if key in (".", ".."):
        return "The id of a new row is not . or .., which URLs take for steps of a path."
    return check_key(key) or _check_key_values(contract, key)


def _check_key_values(contract: Contract, key: str) -> str | None:
    """Why the key's fields cannot have the values that the id is made of."""
    if contract.id_field is not None:
        return None
    values = key_values(contract, key)
    if values is None:
        form = SEPARATOR.join((*contract.key_fields, *(["event time", "counter"] if contract.appends else [])))
        return f"The id of a new row is made of its key: {form}."
    wrong = (check_value(contract.by_name[name], value) for name, value in values.items())
    return next((found[1] for found in wrong if found is not None), None)


def check_delta(contract: Contract, key: str, delta: dict[str, Any], *, inserting: bool) -> list[Culprit]:
    """What is wrong with the delta of row `key`, a culprit a field; empty when all is well.

    A new row may carry its own key, equal to what its id is made of; every other read-only field is refused.
    """
    culprits = []
    own = (key_values(contract, key) if inserting else None) or {}
    for name, value in delta.items():
        field = contract.by_name.get(name)
        if field is None:
            found: tuple[str, str] = Code.UNKNOWN_FIELD, f"{contract.name} has no field {name[:80]!r}."
        elif name in own and has_type(field.type, value) and value == own[name]:
            continue
        elif not field.editable:
            found = Code.READ_ONLY_FIELD, f"{name} cannot be edited."
        else:
            wrong = check_value(field, value)
            if wrong is None:
                continue
            found = wrong
        culprits.append(Culprit(id=key, field=name[:80], code=found[0], message=found[1]))
    return culprits


class Checked(NamedTuple):
    """`storable`: the value can lie in a document, so that an edit keeps it, whatever is wrong with it."""

    storable: bool
    findings: list[Finding]


def check_cell(contract: Contract, name: str, value: Any) -> Checked:
    """One cell by itself, as somebody edits it: what its type and the rules of this field alone say.

    Whether there is such a field, and whether it can be edited, is asked before.
    """
    wrong = None if value is None else _check_type(contract.by_name[name], value)
    if wrong is None:
        return Checked(True, check_value_rules(contract, name, value))
    code, message = wrong
    finding = Finding(
        field=name,
        severity=Severity.ERROR,
        code=code,
        message=message,
        rule_id=None,
        contract_version=contract.version,
    )
    return Checked(False, [finding])


def check_value(field: Field, value: Any) -> tuple[str, str] | None:
    """Code and message of what is wrong with the value of a field; null is always a value."""
    if value is None:
        return None
    if field.type == "enum":
        return _check_enum(field, value)
    return _check_type(field, value) or _check_range(field, value)


def check_seen(contract: Contract, key: str, base: dict[str, Any]) -> list[Culprit]:
    """What nobody can have seen of row `key`. What was seen need not fit the contract any more."""
    if len(base) > len(contract.fields):
        message = f"{contract.name} has {len(contract.fields)} fields; the base names more."
        return [Culprit(id=key, code=Code.UNKNOWN_FIELD, message=message)]
    found = []
    for name, value in base.items():
        if name not in contract.by_name:
            message = f"{contract.name} has no field {name[:80]!r}."
            found.append(Culprit(id=key, field=name[:80], code=Code.UNKNOWN_FIELD, message=message))
        elif not is_cell(value):
            message = "A base is a text without NUL, a number in bounds, true, false or null, as the row showed it."
            found.append(Culprit(id=key, field=name, code=Code.INVALID_TYPE, message=message))
    return found


def is_cell(value: Any) -> bool:
    """Whether some field could have the value: a text, a number in bounds, true, false or null."""
    match value:
        case None | bool():
            return True
        case str():
            return "\0" not in value
        case int() | Decimal():
            return fits(value)
    return False


def _check_type(field: Field, value: Any) -> tuple[str, str] | None:
    match field.type:
        case "text" | "enum":
            return _check_text(field, value)
        case "number" | "integer":
            return _check_number(field, value)
        case "boolean":
            return None if isinstance(value, bool) else (Code.INVALID_TYPE, f"{field.name} is true or false.")
        case "date":
            return None if is_date(value) else (Code.INVALID_TYPE, f"{field.name} is a date, YYYY-MM-DD.")
        case "datetime":
            return _check_datetime(field, value)


def _check_text(field: Field, value: Any) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return Code.INVALID_TYPE, f"{field.name} is a text."
    if "\0" in value:
        return Code.INVALID_TYPE, f"{field.name} may not hold the character NUL."
    if len(value.encode()) > field.max_length:
        return Code.INVALID_RANGE, f"{field.name} has at most {field.max_length} bytes."
    return None


def _check_datetime(field: Field, value: Any) -> tuple[str, str] | None:
    """One moment is one text: two would be a conflict of people who agree."""
    canonical = normalize_datetime(value) if isinstance(value, str) else None
    if canonical is None:
        return Code.INVALID_TYPE, f"{field.name} is a moment in UTC, such as 2026-01-31T08:30:00Z."
    return None if value == canonical else (Code.INVALID_TYPE, f"{field.name} is in UTC: write {canonical}.")


def _check_enum(field: Field, value: Any) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return Code.INVALID_TYPE, f"{field.name} is one of {', '.join(field.values)}."
    if value not in field.values:
        return Code.INVALID_ENUM_VALUE, f"{field.name} is one of {', '.join(field.values)}."
    return None


def _check_number(field: Field, value: Any) -> tuple[str, str] | None:
    whole = field.type == "integer"
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return Code.INVALID_TYPE, f"{field.name} is {'a whole number' if whole else 'a number'}."
    if not fits(value):
        return Code.INVALID_RANGE, f"{field.name} has at most {MAX_DIGITS} digits, and {MAX_DECIMALS} after the point."
    if whole and value != int(value):
        return Code.INVALID_TYPE, f"{field.name} is a whole number."
    if field.scale is not None and decimals(value) > field.scale:
        return Code.INVALID_RANGE, f"{field.name} has at most {field.scale} digits after the point."
    if whole and not -MAX_INTEGER <= value <= MAX_INTEGER:
        return Code.INVALID_RANGE, f"{field.name} is a whole number of at most 15 digits."
    return None


def _check_range(field: Field, value: Any) -> tuple[str, str] | None:
    if field.minimum is not None and value < field.minimum:
        return Code.INVALID_RANGE, f"{field.name} is at least {field.minimum}."
    if field.maximum is not None and value > field.maximum:
        return Code.INVALID_RANGE, f"{field.name} is at most {field.maximum}."
    return None
