"""What breaks the rules of a contract: checked on the merged row, when the change touches a field of the rule."""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.base.errors import Code, Culprit
from app.contracts.expressions import EvaluationError
from app.contracts.findings import Finding, Severity
from app.contracts.keys import key_values
from app.contracts.model import Contract, Field
from app.contracts.patterns import matches
from app.contracts.rule_types import (
    AllowedValues,
    Condition,
    Exclusive,
    Frozen,
    NotNull,
    Ordered,
    Range,
    Regex,
    Required,
    Rule,
    Unique,
    fields_of,
    type_of,
)
from app.contracts.values import has_type, normalize_datetime, order_of

Document = dict[str, Any]
MAX_SHOWN = 200  # characters of an expression, a pattern or a list of values in a message
Breach = tuple[str | None, str]  # field, or None for the whole row, and message


class _Unchecked(Exception):
    """The rule cannot be checked on this row; the message says why."""


def unruled_fields(contract: Contract) -> list[str]:
    """The fields that no rule looks at: `check_rules` needs nothing of them."""
    return sorted(contract.by_name.keys() - contract.ruled)


def unique_rules(contract: Contract) -> tuple[Unique, ...]:
    """The rules that the database has to decide."""
    return tuple(rule for rule in contract.rules if isinstance(rule, Unique))


# -- on the wire -------------------------------------------------------------------------------------------------------


def rules_of(contract: Contract, field: str) -> list[dict[str, Any]]:
    """What a grid shows of the rules that look at a field, first those that the field itself declares."""
    return [shown(rule) for rule, fields in contract.watches if field in fields]


def shown(rule: Rule) -> dict[str, Any]:
    """A rule as its type and bounds: `{"type": "range", "min": 0, "max": 10, "severity": "ERROR", "id": "..."}`.

    A rule of several fields names them; a message only where the contract has one.
    """
    looked_at = fields_of(rule)
    said = {
        member.encode_name: list(value) if isinstance(value, tuple) else value
        for member in msgspec.structs.fields(rule)
        if member.name not in ("field", "code", "severity", "id")
        and (value := getattr(rule, member.name)) != member.default
    }
    fields = {"fields": list(looked_at)} if len(looked_at) > 1 else {}
    return {"type": type_of(rule)} | fields | said | {"severity": rule.severity.value, "id": rule.id}


# -- checks ------------------------------------------------------------------------------------------------------------


def check_rules(contract: Contract, key: str, before: Document | None, after: Document | None) -> list[Culprit]:
    """What keeps the change of row `key` from being committed; None stands for no row."""
    return [finding.culprit(key) for finding in check_change(contract, key, before, after) if finding.blocks]


def check_change(contract: Contract, key: str, before: Document | None, after: Document | None) -> list[Finding]:
    """`check_row` in the order of the contract, on documents that may lack the key, as that of a new row does."""
    if not contract.ruled.isdisjoint(contract.key_fields):
        own = key_values(contract, key) or {}
        before, after = (document if document is None else own | document for document in (before, after))
    return list(_findings(contract, before, after))


def check_row(contract: Contract, before: Document | None, after: Document | None) -> list[Finding]:
    """What the change of a row from `before` to `after` breaks, by field; None stands for no row.

    A rule is asked when the change touches one of its fields, or the row comes or goes. `unique` is left to
    engine/uniqueness.py. Numbers and texts compare as their JSON values; dates are texts of one width, so they compare
    as texts, which moments are not.
    """
    return sorted(_findings(contract, before, after), key=lambda finding: finding.field or "")


def check_value_rules(contract: Contract, name: str, value: Any) -> list[Finding]:
    """What a value breaks by itself, whatever the rest of its row."""
    alone = {name: value}
    rules = contract.cell_rules[name]
    return [found for rule in rules for found in judge(contract, rule, None, alone) if found.field == name]


def _findings(contract: Contract, before: Document | None, after: Document | None) -> Iterator[Finding]:
    changed = contract.ruled
    if before is not None and after is not None:
        changed = frozenset(name for name in contract.ruled if before.get(name) != after.get(name))
    for rule, fields in contract.watches:
        if not fields.isdisjoint(changed):
            yield from judge(contract, rule, before, after)


def judge(contract: Contract, rule: Rule, before: Document | None, after: Document | None) -> Iterator[Finding]:
    """The findings of one rule. One that cannot be checked is an error at least: it never counts as kept."""
    try:
        breaches = list(_breaches(contract, rule, before, after))
    except Exception as error:
        told = isinstance(error, _Unchecked | EvaluationError)
        reason = str(error).removesuffix(".") if told else type(error).__name__
        severity = max(rule.severity, Severity.ERROR, key=lambda each: each.rank)
        message = f"The rule {rule.id} could not be checked: {reason}."
        yield _finding(contract, rule, _place(rule), severity, Code.RULE_FAILED, message)
        return
    for field, message in breaches:
        yield _finding(contract, rule, field, rule.severity, rule.code, rule.message or message)


def _place(rule: Rule) -> str | None:
    """Where to look: a condition on several fields is about the whole row."""
    fields = fields_of(rule)
    return None if isinstance(rule, Condition) and len(fields) > 1 else fields[0]


def _finding(contract: Contract, rule: Rule, field: str | None, severity: Severity, code: str, message: str) -> Finding:
    return Finding(
        field=field,
        severity=severity,
        code=code,
        message=message,
        rule_id=rule.id,
        contract_version=contract.version,
    )


def _breaches(contract: Contract, rule: Rule, before: Document | None, after: Document | None) -> Iterator[Breach]:
    if isinstance(rule, Frozen):
        yield from _broken_frozen(rule, before, after)
        return
    if after is None:
        return
    match rule:
        case Ordered(first=first, second=second):
            start, end = after.get(first), after.get(second)
            kind = contract.by_name[first].type
            if _is_after(order_of(kind, start), order_of(kind, end)):
                yield second, f"{second} ({end}) is before {first} ({start})."
        case Required():
            yield from _missing(rule, before, after)
        case Exclusive(fields=fields, message=message):
            if sum(after.get(name) is True for name in fields) > 1:
                yield fields[0], message
        case NotNull(field=field):
            if after.get(field) is None:
                yield field, f"{field} is required."
        case Range() | Regex() | AllowedValues():
            value = after.get(rule.field)
            if value is not None:
                yield from _broken_by_value(contract.by_name[rule.field], rule, value)
        case Condition(expression=expression):
            if not contract.conditions[rule.id].holds(after):
                yield _place(rule), f"It has to be true that {_shortened(expression)}"


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= MAX_SHOWN else f"{words[:MAX_SHOWN]}..."


def _is_after(start: Any, end: Any) -> bool:
    """Where one is missing, or is no value of its field, there is no order to break."""
    try:
        return bool(start > end)
    except TypeError:
        return False


def _missing(rule: Required, before: Document | None, after: Document) -> Iterator[Breach]:
    if rule.new_rows_only and before is not None:
        return
    if rule.when is not None and after.get(rule.when) != rule.equals:
        return
    condition = f" where {rule.when} is {rule.equals}" if rule.when else ""
    for name in rule.fields:
        if after.get(name) is None:
            yield name, f"{name} is required{' in a new row' if rule.new_rows_only else ''}{condition}."


def _broken_frozen(rule: Frozen, before: Document | None, after: Document | None) -> Iterator[Breach]:
    if before is None or before.get(rule.when) is not True:
        return
    if after is None:
        if not rule.deletable:
            yield rule.when, rule.message
        return
    for name in rule.fields:
        if before.get(name) != after.get(name):
            yield name, rule.message


def _broken_by_value(field: Field, rule: Range | Regex | AllowedValues, value: Any) -> Iterator[Breach]:
    name = field.name
    if not has_type(field.type, value):
        raise _Unchecked(f"{name} is no {field.type}")
    match rule:
        case Range(min=least, max=most):
            placed = order_of(field.type, value)
            if least is not None and placed < order_of(field.type, least):
                yield name, f"{name} is at least {least}."
            if most is not None and placed > order_of(field.type, most):
                yield name, f"{name} is at most {most}."
        case Regex(pattern=pattern):
            if len(value.encode()) > field.max_length:
                raise _Unchecked(f"{name} has more than {field.max_length} bytes")
            if not matches(pattern, value):
                yield name, f"{name} has another form than {_shortened(pattern)}"
        case AllowedValues(values=values):
            written = normalize_datetime(value) if field.type == "datetime" else value
            if written not in rule.allowed:
                yield name, f"{name} is one of {_shortened(', '.join(map(str, values)))}."
