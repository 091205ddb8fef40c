"""Rules across fields, which block a commit: checked on the merged row, when the change touches a field of the rule."""

from collections.abc import Iterator
from typing import Any

from app.base.errors import Culprit
from app.contracts.model import Contract, Exclusive, Frozen, Ordered, Required, Rule, rule_fields

Document = dict[str, Any]


def unruled_fields(contract: Contract) -> list[str]:
    """The fields that no rule looks at: `check_rules` needs nothing of them."""
    ruled = {name for rule in contract.rules for name in rule_fields(rule)}
    return sorted(contract.by_name.keys() - ruled)


def check_rules(contract: Contract, key: str, before: Document | None, after: Document | None) -> list[Culprit]:
    """What the change of row `key` from `before` to `after` breaks; None stands for no row.

    Numbers and texts compare as their JSON values; dates are texts of one width, so they compare as texts.
    """
    found = []
    for rule in contract.rules:
        touched = {name for name in rule_fields(rule) if _value(before, name) != _value(after, name)}
        if touched or before is None or after is None:
            found += [
                Culprit(id=key, field=field, code=rule.code, message=message)
                for field, message in _broken(rule, before, after)
            ]
    return found


def _value(document: Document | None, name: str) -> Any:
    return None if document is None else document.get(name)


def _broken(rule: Rule, before: Document | None, after: Document | None) -> Iterator[tuple[str, str]]:
    """(field, message) of each breach."""
    if isinstance(rule, Frozen):
        yield from _broken_frozen(rule, before, after)
        return
    if after is None:
        return
    match rule:
        case Ordered(first=first, second=second):
            start, end = after.get(first), after.get(second)
            if _is_after(start, end):
                yield second, f"{second} ({end}) is before {first} ({start})."
        case Required():
            yield from _missing(rule, before, after)
        case Exclusive(fields=fields, message=message):
            if sum(after.get(name) is True for name in fields) > 1:
                yield fields[0], message


def _is_after(start: Any, end: Any) -> bool:
    """Where one is missing, or is no value of its field, there is no order to break."""
    try:
        return bool(start > end)
    except TypeError:
        return False


def _missing(rule: Required, before: Document | None, after: Document) -> Iterator[tuple[str, str]]:
    if rule.new_rows_only and before is not None:
        return
    if rule.when is not None and after.get(rule.when) != rule.equals:
        return
    condition = f" where {rule.when} is {rule.equals}" if rule.when else ""
    for name in rule.fields:
        if after.get(name) is None:
            yield name, f"{name} is required{' in a new row' if rule.new_rows_only else ''}{condition}."


def _broken_frozen(rule: Frozen, before: Document | None, after: Document | None) -> Iterator[tuple[str, str]]:
    if before is None or before.get(rule.when) is not True:
        return
    if after is None:
        if not rule.deletable:
            yield rule.when, rule.message
        return
    for name in rule.fields:
        if before.get(name) != after.get(name):
            yield name, rule.message
