"""The rules that a contract can declare; rules.py says what breaks them."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from app.contracts.expressions import ExpressionError, names_of, parse
from app.contracts.findings import Severity
from app.contracts.patterns import misfit_pattern
from app.contracts.shape import FieldType, Name, Shape
from app.contracts.values import has_type, normalize_datetime, order_of

if TYPE_CHECKING:
    from app.contracts.model import Contract

RuleId = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.:,-]{0,199})?\Z")]
RANGED: tuple[FieldType, ...] = ("number", "integer", "date", "datetime")


class RuleShape(Shape, frozen=True, kw_only=True):
    """What every rule can say: how bad a breach is, the rule's stable id (empty: made of type and fields), and words
    for people in place of the usual ones.
    """

    severity: Severity = Severity.ERROR
    id: RuleId = ""
    message: str | None = None


class Ordered(RuleShape, frozen=True, kw_only=True, tag="ordered"):
    """`first` is not after `second` where both are present."""

    first: Name
    second: Name
    code: str = "INVALID_DATE_ORDER"


class Required(RuleShape, frozen=True, kw_only=True, tag="required"):
    """The fields are present: always, in a new row only, or where `when` has the value `equals`."""

    fields: tuple[Name, ...]
    new_rows_only: bool = False
    when: Name | None = None
    equals: str | bool | int | None = None
    code: str = "MISSING_REQUIRED_FIELD"


class Frozen(RuleShape, frozen=True, kw_only=True, tag="frozen"):
    """While `when` is true before the change, the fields keep their values; with `deletable` false the row stays."""

    when: Name
    fields: tuple[Name, ...]
    deletable: bool = True
    message: str
    code: str = "BUSINESS_RULE_VIOLATION"


class Exclusive(RuleShape, frozen=True, kw_only=True, tag="exclusive"):
    """At most one of the booleans is true."""

    fields: tuple[Name, ...]
    message: str
    code: str = "BUSINESS_RULE_VIOLATION"


class NotNull(RuleShape, frozen=True, kw_only=True, tag="not_null"):
    """The field has a value."""

    field: Name
    code: str = "MISSING_REQUIRED_FIELD"


class Unique(RuleShape, frozen=True, kw_only=True, tag="unique"):
    """No two rows have the same value; any number have none. Decided at the commit, among all that is in flight."""

    field: Name
    code: str = "NOT_UNIQUE"


class Range(RuleShape, frozen=True, kw_only=True, tag="range"):
    """A number or a date lies between `min` and `max`, bounds included; one of them may be left out."""

    field: Name
    min: Any = None
    max: Any = None
    code: str = "INVALID_RANGE"


class Regex(RuleShape, frozen=True, kw_only=True, tag="regex"):
    """The whole text is of the pattern, in the syntax of RE2."""

    field: Name
    pattern: str
    code: str = "INVALID_FORMAT"


class AllowedValues(RuleShape, frozen=True, kw_only=True, tag="allowed_values", dict=True):
    """The value is one of these."""

    field: Name
    values: tuple[Any, ...]
    code: str = "INVALID_ENUM_VALUE"

    @cached_property
    def allowed(self) -> frozenset[Any]:
        """The values, to look one up: 1 equals 1.0."""
        return frozenset(self.values)


class Condition(RuleShape, frozen=True, kw_only=True, tag="expression", dict=True):
    """The expression is true of the row, in the language of expressions/."""

    expression: str
    code: str = "BUSINESS_RULE_VIOLATION"

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names in it, each once; none where it is no expression, which `misfit` says."""
        try:
            return names_of(self.expression)
        except ExpressionError:
            return ()


Rule = Ordered | Required | Frozen | Exclusive | NotNull | Unique | Range | Regex | AllowedValues | Condition


def type_of(rule: Rule) -> str:
    """The type as the contract has it: `not_null`."""
    return str(rule.__struct_config__.tag)


def fields_of(rule: Rule) -> tuple[str, ...]:
    """The fields that a rule looks at: it is checked when a change touches one of them."""
    match rule:
        case Ordered(first=first, second=second):
            return first, second
        case Required(fields=fields, when=when) | Frozen(fields=fields, when=when):
            return fields if when is None or when in fields else (*fields, when)
        case Exclusive() | Condition():
            return rule.fields
        case NotNull() | Unique() | Range() | Regex() | AllowedValues():
            return (rule.field,)


def cell_fields(rule: Rule) -> tuple[str, ...]:
    """The fields whose values keep or break the rule each by itself, whatever the rest of the row."""
    match rule:
        case Required(fields=fields, new_rows_only=False, when=None):
            return fields
        case NotNull() | Range() | Regex() | AllowedValues():
            return (rule.field,)
    return ()


def named(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules, those without an id under one of type and fields; of two such the second gets a number."""
    given: Counter[str] = Counter()
    found = []
    for rule in rules:
        if not rule.id:
            made = ":".join(filter(None, (type_of(rule), ",".join(fields_of(rule)))))
            given[made] += 1
            rule = msgspec.structs.replace(rule, id=made if given[made] == 1 else f"{made}:{given[made]}")
        found.append(rule)
    return tuple(found)


def misfit(rule: Rule, contract: "Contract") -> str | None:
    """Why the rule cannot be one of the contract, or None; its fields are there."""
    match rule:
        case Unique(field=name):
            if contract.key_fields == (name,):
                return "the key is unique anyway."
            return None if contract.by_name[name].indexed else f"{name} is not indexed."
        case Range(field=name):
            return _misfit_range(rule, contract.by_name[name].type)
        case Regex(field=name, pattern=pattern):
            field = contract.by_name[name]
            if field.type != "text":
                return f"{name} is a {field.type}; only texts have a pattern."
            return misfit_pattern(pattern, field.max_length)
        case Ordered(first=first, second=second):
            kinds = contract.by_name[first].type, contract.by_name[second].type
            return (
                f"a {kinds[0]} and a {kinds[1]} have no order." if "datetime" in kinds and len({*kinds}) == 2 else None
            )
        case AllowedValues(field=name, values=values):
            kind = contract.by_name[name].type
            if wrong := [value for value in values if not has_type(kind, value)]:
                return f"{wrong[0]!r} is no {kind}."
            if kind == "datetime" and (longer := [text for text in values if normalize_datetime(text) != text]):
                return f"{longer[0]} has zeros at the end of its fraction."
            return None if values else "it allows no value."
        case Condition():
            return _misfit_condition(rule, contract)
    return None


def _misfit_condition(rule: Condition, contract: "Contract") -> str | None:
    try:
        parse(rule.expression, contract.types)
    except ExpressionError as error:
        return str(error)
    return None if rule.fields else "it looks at no field."


def _misfit_range(rule: Range, kind: FieldType) -> str | None:
    if kind not in RANGED:
        return f"{rule.field} is a {kind}; only numbers, dates and datetimes have a range."
    bounds = [bound for bound in (rule.min, rule.max) if bound is not None]
    if not bounds:
        return "it has neither min nor max."
    if wrong := [bound for bound in bounds if not has_type(kind, bound)]:
        return f"{wrong[0]!r} is no {kind}."
    if len(bounds) == 2 and order_of(kind, rule.min) > order_of(kind, rule.max):
        return "nothing is in its range."
    return None
