"""What is wrong with a contract whose parts are well-formed by themselves: all of it, each with its path.

A function a subject. Each looks at names only where they lead somewhere: what leads nowhere is told by `references`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from app.base.errors import Code
from app.contracts.expressions import ExpressionError, parse_formula
from app.contracts.rule_types import fields_of, misfit
from app.contracts.shape import FieldType, snake

if TYPE_CHECKING:  # the model asks here
    from app.contracts.model import Computed, Contract, Field

# Words that D/rows takes as parameters of its own, and the pseudo-field `id`.
RESERVED = frozenset(
    """id search syncState sort sortBy sortOrder page pageSize after count fields include groupBy format header bom
    since limit includeDeprecated""".split()
)
# PostgreSQL's own schemas, that of the control tables, and that of the functions which all datasets share.
TAKEN_SCHEMAS = frozenset({"public", "vanguard", "information_schema"})
# PostgreSQL cuts identifiers off at 63 characters; KPI statements put up to 15 before a column's name.
MAX_COLUMN = 48
# vanguard.as_text reads no longer ones, for they would not fit a B-tree.
INDEXED_BYTES = 500
# Kind of a measure -> the types that it can be of.
MEASURABLE: dict[str, tuple[FieldType, ...]] = {
    "sum": ("number", "integer"),
    "average": ("number", "integer"),
    "min": ("number", "integer", "date", "datetime"),
    "max": ("number", "integer", "date", "datetime"),
    "count": ("text", "enum", "number", "integer", "boolean", "date", "datetime"),
}


# What a key can be made of.
KEY_TYPES: tuple[FieldType, ...] = ("text", "enum", "integer", "number", "date", "datetime")


class Problem(NamedTuple):
    """One thing that is wrong: `path` leads to it in the JSON (`fields[3].maxLength`), `message` says what is wanted,
    what was found, and how it passes.
    """

    path: str
    code: Code
    message: str


class Named(Protocol):
    """A part with a name of its own."""

    @property
    def name(self) -> str: ...


T = TypeVar("T")
Problems = Iterator[Problem]


def problems(contract: "Contract") -> Problems:
    """Everything that is wrong, by subject."""
    for subject in SUBJECTS:
        yield from subject(contract)


def names(contract: "Contract") -> Problems:
    """Fields and computed columns share one room of names, with the words of the API."""
    places: list[tuple[str, Named]] = [*_paths("fields", contract.fields), *_paths("computed", contract.computed)]
    yield from _twice(
        [(f"{path}.name", snake(item.name)) for path, item in places],
        lambda name, other: f"two fields have the same name. {other} is the other one; call one of them otherwise.",
    )
    yield from _twice(
        [(f"{path}.id", str(field.id)) for path, field in _paths("fields", contract.fields) if field.id is not None],
        lambda id_, other: f"two fields have the id {id_}. {other} is that of the other one; leave out one of them.",
    )
    for path, item in places:
        if len(snake(item.name)) > MAX_COLUMN:
            yield Problem(
                f"{path}.name",
                Code.INVALID_NAME,
                f"{item.name}: too long; with its capitals counted twice, a name has at most {MAX_COLUMN} characters.",
            )
        if item.name in RESERVED:
            message = f"{item.name} is a word of the API. Call the field otherwise; `label` is what people see."
            yield Problem(f"{path}.name", Code.INVALID_NAME, message)


def schemas(contract: "Contract") -> Problems:
    """The schema is the dataset's own."""
    if contract.schema in TAKEN_SCHEMAS or contract.schema.startswith("pg_"):
        yield Problem("schema", Code.INVALID_NAME, f"the schema {contract.schema} is taken. Choose another one.")


def keys(contract: "Contract") -> Problems:
    """A row is known by fields that nobody edits; one of upstream by a text."""
    fit = {field.name for field in contract.fields if field.type in KEY_TYPES and not field.editable}
    if not contract.key_fields:
        yield Problem("key", Code.INVALID_KEY, "the key has no field. Name at least one.")
        return
    wrong = [name for name in contract.key_fields if name not in fit]
    if wrong:
        message = f"the key {wrong[0]} is not one of its {', '.join(KEY_TYPES)} fields that nobody edits."
        yield Problem("key", Code.INVALID_KEY, f"{message} Name one that has `editable: false`.")
    if len({*contract.key_fields}) != len(contract.key_fields):
        yield Problem("key", Code.INVALID_KEY, "a field is in the key twice. Name it once.")
    if contract.upstream is not None and not wrong and contract.id_field is None:
        message = "what has an upstream has one text as its key, and no records that are appended."
        yield Problem("key", Code.INVALID_KEY, message)


def types(contract: "Contract") -> Problems:
    """What a field says of its values fits its type."""
    for path, field in _paths("fields", contract.fields):
        if (field.type == "enum") != bool(field.values):
            message = f"{field.name}: exactly the enums list values. Its type is {field.type}, with"
            yield Problem(f"{path}.values", Code.INVALID_FIELD, f"{message} {len(field.values)} values.")
        if field.derived_from and (field.editable or field.type != "boolean"):
            member, wanted = ("editable", "is not editable") if field.editable else ("type", "is a boolean")
            yield Problem(f"{path}.{member}", Code.INVALID_FIELD, f"{field.name}: a derived field {wanted}.")
        if field.scale is not None and field.type != "number":
            message = f"{field.name}: only a number has a scale. Its type is {field.type}; leave out scale."
            yield Problem(f"{path}.scale", Code.INVALID_FIELD, message)
        yield from _ranges(path, field)
        if field.indexed and field.max_length > INDEXED_BYTES:
            message = f"{field.name}: an indexed text has at most {INDEXED_BYTES} bytes."
            hint = f"Its maxLength is {field.max_length}: lower it, or leave it without an index."
            yield Problem(f"{path}.maxLength", Code.INVALID_FIELD, f"{message} {hint}")


def _ranges(path: str, field: "Field") -> Problems:
    bounds = [name for name, bound in (("minimum", field.minimum), ("maximum", field.maximum)) if bound is not None]
    if bounds and field.type not in ("number", "integer"):
        message = f"{field.name}: only numbers have a range. Its type is {field.type}; leave out {bounds[0]}."
        yield Problem(f"{path}.{bounds[0]}", Code.INVALID_FIELD, message)
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        message = f"{field.name}: no number is in its range, from {field.minimum} to {field.maximum}."
        yield Problem(f"{path}.minimum", Code.INVALID_FIELD, message)


def computed(contract: "Contract") -> Problems:
    """A computed column has something that computes it, and is of its type."""
    if contract.functions is None and any(item.function for item in contract.computed):
        yield Problem("functions", Code.INVALID_FIELD, "computed columns without the functions that compute them.")
    for path, item in _paths("computed", contract.computed):
        if (item.function is None) == (item.expression is None):
            message = f"{item.name}: a computed column has a function or an expression. Say one of them."
            yield Problem(path, Code.INVALID_FIELD, message)
        elif item.expression is not None:
            yield from _expressions(contract, path, item, item.expression)


def _expressions(contract: "Contract", path: str, item: "Computed", expression: str) -> Problems:
    for member, said in (("reads", item.reads), ("present", item.present)):
        if said:
            message = f"{item.name}: what an expression reads stands in it. Leave out {member}."
            yield Problem(f"{path}.{member}", Code.INVALID_FIELD, message)
    if contract.by_name.keys() >= {*item.fields}:
        try:
            parse_formula(expression, contract.types, item.type)
        except ExpressionError as error:
            yield Problem(f"{path}.expression", Code.INVALID_FIELD, f"{item.name}: {error}")


def references(contract: "Contract") -> Problems:
    """Who names a field names one that there is."""
    known = contract.by_name
    for path, named in _references(contract):
        for name in dict.fromkeys(named):
            if name not in known:
                yield Problem(
                    path, Code.UNKNOWN_FIELD, f"{name} is no field of it. Add the field, or correct the name."
                )


def _references(contract: "Contract") -> Iterator[tuple[str, Iterable[str]]]:
    for path, field in _paths("fields", contract.fields):
        yield f"{path}.derivedFrom", field.derived_from
    for path, item in _paths("computed", contract.computed):
        yield path, item.fields
    for path, group in _paths("atomicGroups", contract.atomic_groups):
        yield f"{path}.fields", group.fields
    for path, rule in _paths("rules", contract.rules):
        yield path, fields_of(rule)


def hot_sorts(contract: "Contract") -> Problems:
    """Sorts with a B-tree are of columns."""
    columns = _columns(contract)
    for path, hot in _paths("hot", contract.hot):
        for member, named in (("sort", (hot.sort,)), ("filters", hot.filters)):
            for name in named:
                if name not in columns:
                    message = f"hot sort of {name}, which is not indexed. Its field wants `indexed: true`."
                    yield Problem(f"{path}.{member}", Code.NOT_INDEXED, message)
        if len({hot.sort, *hot.filters}) <= len(hot.filters):
            message = "a hot sort names each column once. Leave one of them out."
            yield Problem(f"{path}.filters", Code.DUPLICATE_NAME, message)


def groups(contract: "Contract") -> Problems:
    """A field is in one atomic group at most; a group has a name of its own."""
    places = list(_paths("atomicGroups", contract.atomic_groups))
    yield from _twice(
        [(f"{path}.fields", name) for path, group in places for name in group.fields],
        lambda name, other: f"a field is in two atomic groups. {name} is in {other}, too; leave it out of one.",
    )
    yield from _twice(
        [(f"{path}.name", group.name) for path, group in places],
        lambda name, other: f"two atomic groups have the same name. {name} is that of {other}, too.",
    )
    taken = {*contract.by_name, *(item.name for item in contract.computed)}
    for path, group in places:
        if group.name in taken:
            message = f"an atomic group has the name of a field. Call it otherwise than {group.name}."
            yield Problem(f"{path}.name", Code.DUPLICATE_NAME, message)


def policies(contract: "Contract") -> Problems:
    """How a field merges is said by its group, or by itself where it can be edited."""
    for path, field in _paths("fields", contract.fields):
        grouped = field.name in contract.cells
        if field.merge != "cell" and (grouped or not field.editable):
            why = "is in an atomic group" if grouped else "cannot be edited"
            message = f"{field.name} is merged by {field.merge} and {why}. Leave out `merge`."
            yield Problem(f"{path}.merge", Code.INVALID_FIELD, message)


def rules(contract: "Contract") -> Problems:
    """Each rule fits its fields, and has an id of its own."""
    for path, rule in _paths("rules", contract.rules):
        if contract.by_name.keys() >= set(fields_of(rule)) and (reason := misfit(rule, contract)):
            yield Problem(path, Code.INVALID_RULE, f"rule {rule.id}: {reason}")
    declared = {rule.id: "the field's own" for rule in contract.field_rules}
    yield from _twice(
        [(f"{path}.id", rule.id) for path, rule in _paths("rules", contract.rules)],
        lambda name, other: f"two rules have the id {name}. The other one is {other}; give one of them another `id`.",
        declared,
    )


def measures(contract: "Contract") -> Problems:
    """KPIs are of columns, and each measure of a type that it can be of."""
    columns = _columns(contract)
    for path, field in _paths("fields", contract.fields):
        if field.dimension and not field.indexed:
            yield _unindexed(f"{path}.dimension", field.name)
    for path, exclusion in _paths("exclusions", contract.exclusions):
        if exclusion.field not in columns:
            yield _unindexed(f"{path}.field", exclusion.field)
        elif columns[exclusion.field] != "boolean":
            message = f"{exclusion.field} leaves rows out and is no boolean. It is a {columns[exclusion.field]}."
            yield Problem(f"{path}.field", Code.INVALID_MEASURE, message)
    for path, measure in [*_paths("measures", contract.measures), *_paths("bounds", contract.bounds)]:
        if measure.of not in columns:
            yield _unindexed(f"{path}.of", measure.of)
        elif columns[measure.of] not in MEASURABLE[measure.kind]:
            fit = ", ".join(MEASURABLE[measure.kind])
            message = f"measure {measure.name} is the {measure.kind} of a {columns[measure.of]}. It can be of: {fit}."
            yield Problem(f"{path}.kind", Code.INVALID_MEASURE, message)
    for path, bound in _paths("bounds", contract.bounds):
        if bound.kind not in ("min", "max"):
            message = f"bounds are minima and maxima. {bound.name} is a {bound.kind}; measures can be that."
            yield Problem(f"{path}.kind", Code.INVALID_MEASURE, message)


def _unindexed(path: str, name: str) -> Problem:
    message = f"KPIs of {name}, which is not indexed. Its field wants `indexed: true`."
    return Problem(path, Code.NOT_INDEXED, message)


def figures(contract: "Contract") -> Problems:
    """What is made of measures is made of numbers that come before it; names are told apart."""
    columns = _columns(contract)
    numbers = {
        measure.name
        for measure in contract.measures
        if measure.kind == "count" or columns.get(measure.of) in (None, "number", "integer")
    }
    for path, figure in _paths("derived", contract.derived):
        other = "by" if hasattr(figure, "by") else "minus"
        for member, name in (("of", figure.of), (other, getattr(figure, other))):
            if name not in numbers:
                message = f"{figure.name} is not made of numbers that come before it. {name} is none."
                yield Problem(f"{path}.{member}", Code.INVALID_MEASURE, message)
        numbers.add(figure.name)
    shown: list[tuple[str, Named]] = [*_paths("measures", contract.measures)]
    shown += _paths("derived", contract.derived)
    own = dict.fromkeys(("rows", "drafts"), "a figure that every dataset has")
    yield from _two_of("figures", shown, own)
    yield from _two_of("bounds", list(_paths("bounds", contract.bounds)))
    yield from _two_of("exclusions", list(_paths("exclusions", contract.exclusions)))


def _two_of(what: str, places: Sequence[tuple[str, Named]], taken: dict[str, str] | None = None) -> Problems:
    return _twice(
        [(f"{path}.name", item.name) for path, item in places],
        lambda name, other: f"two of the {what} have the same name. {name} is that of {other}, too.",
        taken,
    )


def _paths(member: str, items: Iterable[T]) -> Iterator[tuple[str, T]]:
    """Each item with its path."""
    return ((f"{member}[{place}]", item) for place, item in enumerate(items))


def _columns(contract: "Contract") -> dict[str, FieldType]:
    """The types of what has a column, by name."""
    indexed = {field.name: field.type for field in contract.fields if field.indexed}
    return indexed | {item.name: item.type for item in contract.computed}


def _twice(
    places: list[tuple[str, str]], message: Callable[[str, str], str], taken: dict[str, str] | None = None
) -> Problems:
    """A problem at every place whose name another one has, or that `taken` has; the message says where the other is."""
    found = Counter(name for _, name in places)
    for path, name in places:
        if taken and name in taken:
            yield Problem(path, Code.DUPLICATE_NAME, message(name, taken[name]))
        elif found[name] > 1:
            other = next((each for each, same in places if same == name and each != path), path)
            yield Problem(path, Code.DUPLICATE_NAME, message(name, other))


SUBJECTS: tuple[Callable[["Contract"], Problems], ...] = (
    names,
    schemas,
    keys,
    computed,
    types,
    hot_sorts,
    groups,
    policies,
    references,
    rules,
    measures,
    figures,
)
