"""The contract: what a dataset is, declared as data. Everything that knows a field's name learned it here."""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from app.base.errors import ConfigurationError
from app.contracts.expressions import Expression, ExpressionError, Formula, names_of, parse, parse_formula
from app.contracts.rule_types import AllowedValues, Condition, Range, Rule, cell_fields, fields_of, named
from app.contracts.shape import FieldType as FieldType
from app.contracts.shape import Name, SchemaName, Shape
from app.contracts.shape import snake as snake
from app.contracts.soundness import problems

SQL_TYPES: dict[str, str] = {
    "text": "text",
    "enum": "text",
    "number": "numeric",
    "integer": "bigint",
    "boolean": "boolean",
    "date": "date",
    "datetime": "timestamptz",
}

# How a field merges: by itself, by the row, or giving way.
Policy = Literal["cell", "row", "theirs"]


class Field(Shape, frozen=True, kw_only=True):
    """One top-level field of a row's document.

    `minimum`, `maximum` bound numbers and integers, inclusively; `max_length` counts the UTF-8 bytes of a text (an
    indexed one above 500 would not fit its B-tree);
    `derived_from` names dates that must all be present for the boolean to be true (filled when rows are ingested).
    `identifies`: upstream knows a row by it, beside the key, so that a new row can bring it.
    `merge` says what a draft of it conflicts with: `cell`, another change of the field; `row`, any change of what can
    be edited in the row; `theirs`, nothing, since another change wins.
    `label` is its name for people, made of `name` where it is empty; `format` a word for clients that show it, such as
    money. `id` is the field's own through all versions of an organization's dataset, whatever it is called; `scale`:
    how many digits a number has after the point.
    """

    name: Name
    type: FieldType
    editable: bool = True
    indexed: bool = False
    dimension: bool = False
    values: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    max_length: int = 500
    derived_from: tuple[Name, ...] = ()
    identifies: bool = False
    merge: Policy = "cell"
    label: str = ""
    description: str = ""
    format: Name | None = None
    id: Annotated[int, msgspec.Meta(ge=1)] | None = None
    scale: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None


class Computed(Shape, frozen=True, kw_only=True):
    """A column to filter and sort by, computed by the SQL function `<schema>.<function>`: of the values of the fields
    `reads`, in their order, then of whether each of the fields `present` has a value that can be read. Or by an
    `expression` of the rules' language, which alone an organization's own contract may have.
    """

    name: Name
    type: FieldType
    function: SchemaName | None = None
    expression: str | None = None
    reads: tuple[Name, ...] = ()
    present: tuple[Name, ...] = ()
    label: str = ""
    description: str = ""
    format: Name | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it is computed of, each once; none where its expression is none, which is told elsewhere."""
        if self.expression is not None:
            return _names(self.expression)
        return tuple(dict.fromkeys((*self.reads, *self.present)))


def _names(expression: str) -> tuple[str, ...]:
    try:
        return names_of(expression)
    except ExpressionError:
        return ()


class Measure(Shape, frozen=True, kw_only=True):
    """What a KPI shows: `kind` over an indexed field or computed column.

    A count is of the rows that have a value, of a boolean those where it is true; an average is the sum by the count.
    """

    name: Name
    kind: Literal["sum", "count", "min", "max", "average"]
    of: Name


class Difference(Shape, frozen=True, kw_only=True, tag="difference"):
    """A figure made of two measures: `of` less `minus`."""

    name: Name
    of: Name
    minus: Name


class Percent(Shape, frozen=True, kw_only=True, tag="percent"):
    """A figure made of two others: `of` by `by`, times 100; 0 where `by` is not above 0."""

    name: Name
    of: Name
    by: Name


class Exclusion(Shape, frozen=True, kw_only=True):
    """KPIs leave out the rows where the boolean `field` is true, unless they are asked to include `name`."""

    name: Name
    field: Name


class AtomicGroup(Shape, frozen=True, kw_only=True):
    """Fields that a merge treats as one cell, under this name."""

    name: Name
    fields: tuple[Name, ...]


class HotSort(Shape, frozen=True, kw_only=True):
    """A sort that gets a B-tree, alone or behind filters by equality; the row's id always comes last, ascending.

    The other direction of the same sort can use the B-tree too, but has to sort each group of ties by id.
    """

    sort: Name
    descending: bool = False
    filters: tuple[Name, ...] = ()


Duration = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,8})(s|m|h|d)\Z")]
# Major and minor, each written in one way.
Version = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\Z")]
# What an organization's own contract names instead of a field: when the record was received.
RECEIVED_AT = "receivedAt"


class IngestionSemantics(Shape, frozen=True, kw_only=True, dict=True):
    """What becomes of records that are sent; an organization's own contract has all six.

    `append` makes a row of each record, `upsert` one of each key. `idempotency_key` (the field's word: merge key) names
    the fields by which two records are about the same thing; `event_time_column` and `processing_time_column` name
    datetime fields, or `receivedAt`, which is none. A record with the key of one whose event time is less than
    `dedupe_window` away (30s, 15m, 24h, 7d) is the same event again. `latest_wins` takes the later of two, `error` puts
    aside what would change a row.
    """

    mode: Literal["append", "upsert"]
    idempotency_key: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    event_time_column: Name
    processing_time_column: Name
    dedupe_window: Duration
    conflict_resolution: Literal["latest_wins", "error"]

    @cached_property
    def window(self) -> timedelta:
        """The dedupe window."""
        seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
        return timedelta(seconds=int(self.dedupe_window[:-1]) * seconds[self.dedupe_window[-1]])


class SchemaContract(Shape, frozen=True, kw_only=True):
    """What becomes of records that do not fit: `new_fields` are members that the contract does not have, `types` values
    that are not of their field's type. `evolve` makes a version with it;
    `quarantine_row` puts the record aside, `drop_value` the value away, `refuse` ends the run.
    """

    new_fields: Literal["evolve", "quarantine_row", "drop_value", "refuse"] = "quarantine_row"
    types: Literal["evolve", "quarantine_row", "drop_value", "refuse"] = "quarantine_row"


class Contract(Shape, frozen=True, kw_only=True, dict=True):
    """The declaration of a dataset.

    `schema` is the PostgreSQL schema that holds it; `upstream` names the kind of system of record behind it, or is null
    where a commit goes straight to the mirror; `functions` names the file under sql/schema/ with its computed columns.
    `key` names the field, or the fields, by which a row is the same row: its id is made of them.
    KPIs show `measures` and what `derived` makes of them for every group, `bounds` for the total alone. `source` says
    where an organization's records come from (an address or a word, for people); with `read_only` people write nothing;
    a run of `ingestion` that puts more than `max_quarantined` records aside fails as a whole.
    """

    name: SchemaName
    version: Version
    title: str
    schema: SchemaName
    # Without the pattern of a name: msgspec 0.22 crashes over the union of such a text and a list of such texts.
    key: str | tuple[str, ...]
    upstream: SchemaName | None = None
    functions: SchemaName | None = None
    fields: tuple[Field, ...]
    computed: tuple[Computed, ...] = ()
    hot: tuple[HotSort, ...] = ()
    atomic_groups: tuple[AtomicGroup, ...] = ()
    rules: tuple[Rule, ...] = ()
    measures: tuple[Measure, ...] = ()
    derived: tuple[Difference | Percent, ...] = ()
    bounds: tuple[Measure, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    source: Annotated[str, msgspec.Meta(max_length=500)] = ""
    read_only: bool = False
    ingestion: IngestionSemantics | None = None
    schema_contract: SchemaContract = SchemaContract()
    max_quarantined: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "rules", named(self.rules))
        problem = next(problems(self), None)
        if problem is not None:
            raise ConfigurationError(f"Contract {self.name} {self.version}: {problem.message}")

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The document's fields by name."""
        return {field.name: field for field in self.fields}

    @cached_property
    def key_fields(self) -> tuple[str, ...]:
        """The fields by which a row is the same row."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def text_key(self) -> str:
        """The field that is the key where there is but one, as of all that has an upstream."""
        return self.key_fields[0]

    @property
    def appends(self) -> bool:
        """Whether each record that is ingested is a row of its own."""
        return self.ingestion is not None and self.ingestion.mode == "append"

    @cached_property
    def id_field(self) -> str | None:
        """The text field whose value is the row's id, as it is for all that has an upstream; None where the id is made
        of the key (keys.py).
        """
        name, *more = self.key_fields
        return None if more or self.appends or self.by_name[name].type != "text" else name

    @property
    def own(self) -> bool:
        """Whether it is an organization's own."""
        return self.ingestion is not None

    @cached_property
    def edition(self) -> str:
        """What tells one version from another, `customers own_7 1.2`; of a built-in one the name: there is but one."""
        return f"{self.name} {self.schema} {self.version}" if self.own else self.name

    @property
    def types(self) -> dict[str, FieldType]:
        """The types of the document's fields by name."""
        return {field.name: field.type for field in self.fields}

    @cached_property
    def columns(self) -> tuple["Column", ...]:
        """The indexed fields and the computed ones, in the order of the contract: the index image of a row."""

        indexed = [
            Column(field.name, field.type, self.reader(field.name, "doc")) for field in self.fields if field.indexed
        ]
        computed = [Column(item.name, item.type, self.computing(item, "doc")) for item in self.computed]
        return (*indexed, *computed)

    @cached_property
    def column_of(self) -> dict[str, "Column"]:
        """The columns by the field's name."""
        return {column.field: column for column in self.columns}

    @cached_property
    def merged_sorts(self) -> tuple[str, ...]:
        """The fields that a hot sort ascends by: a page merges two indexes of that order."""
        return tuple(dict.fromkeys(hot.sort for hot in self.hot if not hot.descending))

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """The fields that KPIs group by."""
        return tuple(field.name for field in self.fields if field.dimension)

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """The booleans that take rows out of KPIs."""
        return tuple(exclusion.field for exclusion in self.exclusions)

    @cached_property
    def cell_keys(self) -> tuple[str, ...]:
        """What tells one cell of KPIs from another: dimensions and flags."""
        return tuple(dict.fromkeys((*self.dimensions, *self.flags)))

    @cached_property
    def kpi_columns(self) -> tuple["Column", ...]:
        """What KPIs need of a row: its dimensions, flags and measured columns."""
        named = {*self.dimensions, *self.flags, *(measure.of for measure in (*self.measures, *self.bounds))}
        return tuple(column for column in self.columns if column.field in named)

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """The text fields, which `search=` looks through."""
        return tuple(field.name for field in self.fields if field.type == "text")

    @cached_property
    def cells(self) -> dict[str, AtomicGroup]:
        """Field name -> the atomic group that it belongs to, for grouped fields only."""
        return {name: group for group in self.atomic_groups for name in group.fields}

    @cached_property
    def cell_map(self) -> dict[str, dict[str, object]]:
        """How fields merge, as vanguard.touched and three_way read it: of those that are no cell of their own."""
        grouped = {name: group.name for name, group in self.cells.items()}
        cells: dict[str, dict[str, object]] = {
            name: {"cell": grouped.get(name, name), "fields": list(fields)} for name, fields in self.watched.items()
        }
        policies = {field.name: {"policy": field.merge} for field in self.fields if field.merge != "cell"}
        return {name: cells.get(name, {}) | policies.get(name, {}) for name in {**cells, **policies}}

    @cached_property
    def watched(self) -> dict[str, tuple[str, ...]]:
        """Field name -> the fields whose values count where it is merged, for those that are not alone: of its atomic
        group, or all of the row that can be edited.
        """
        editable = tuple(field.name for field in self.fields if field.editable)
        by_row = {field.name: editable for field in self.fields if field.merge == "row"}
        return {name: group.fields for name, group in self.cells.items()} | by_row

    @cached_property
    def field_rules(self) -> tuple[Rule, ...]:
        """What the fields themselves demand: their enum values, minimum and maximum, as rules."""
        found: list[Rule] = []
        for field in self.fields:
            if field.values:
                found.append(AllowedValues(id=f"{field.name}:values", field=field.name, values=field.values))
            if field.minimum is not None or field.maximum is not None:
                found.append(Range(id=f"{field.name}:range", field=field.name, min=field.minimum, max=field.maximum))
        return tuple(found)

    @cached_property
    def conditions(self) -> dict[str, Expression]:
        """Id -> the parsed expression of each rule that has one."""
        return {rule.id: parse(rule.expression, self.types) for rule in self.rules if isinstance(rule, Condition)}

    @cached_property
    def formulas(self) -> dict[str, Formula]:
        """Name -> the parsed expression of each computed column that has one."""
        return {
            item.name: parse_formula(item.expression, self.types, item.type)
            for item in self.computed
            if item.expression is not None
        }

    @cached_property
    def watches(self) -> tuple[tuple[Rule, frozenset[str]], ...]:
        """Every rule, with the fields that it looks at."""
        return tuple((rule, frozenset(fields_of(rule))) for rule in (*self.field_rules, *self.rules))

    @cached_property
    def ruled(self) -> frozenset[str]:
        """The fields that a rule looks at."""
        return frozenset(name for _, fields in self.watches for name in fields)

    @cached_property
    def cell_rules(self) -> dict[str, tuple[Rule, ...]]:
        """Field name -> the rules that its value keeps or breaks by itself."""
        return {name: tuple(rule for rule, _ in self.watches if name in cell_fields(rule)) for name in self.by_name}

    @cached_property
    def upstream_only(self) -> tuple[str, ...]:
        """What upstream alone gives to a row: no new row can bring it, not even one that was there before."""
        if self.upstream is None:
            return ()
        fields = (field for field in self.fields if not (field.editable or field.identifies or field.derived_from))
        return tuple(field.name for field in fields if field.name not in self.key_fields)

    @cached_property
    def initial(self) -> dict[str, bool]:
        """What is derived of a new row: the dates that it would come from arrive from upstream, later."""
        return {field.name: False for field in self.fields if field.derived_from}

    def touched(self, names: Collection[str]) -> list[str]:
        """The fields whose base a draft of these needs, as vanguard.touched finds them."""
        watched = self.watched
        return list(dict.fromkeys(field for name in names for field in watched.get(name, (name,))))

    def reader(self, name: str, doc: str) -> str:
        """SQL that yields the typed value of a field out of the document `doc`, indexed or not."""
        field = self.by_name[name]
        kind = "text" if field.type == "enum" else field.type
        if kind == "text" and not field.indexed:
            return f"(vanguard.as_long_text({doc}, '{name}') COLLATE \"C\")"
        return f"vanguard.as_{kind}({doc}, '{name}')"

    def comparable(self, name: str, doc: str) -> str:
        """The same for an indexed field, as its column compares: texts in the C collation."""
        collation = ' COLLATE "C"' if SQL_TYPES[self.by_name[name].type] == "text" else ""
        return f"({self.reader(name, doc)}{collation})"

    def presence(self, name: str, doc: str) -> str:
        """SQL that tells whether `reader` yields a value."""
        if (kind := self.by_name[name].type) in ("date", "datetime"):
            return f"vanguard.has_{kind}({doc}, '{name}')"
        return f"{self.reader(name, doc)} IS NOT NULL"

    def computing(self, item: Computed, doc: str, known: Mapping[str, str] = MappingProxyType({})) -> str:
        """SQL that computes a column out of the document `doc`; `known` has columns that hold a field's value."""
        if item.expression is not None:
            return self.formulas[item.name].sql(lambda name: known.get(name) or self.reader(name, doc))
        values = [known.get(name) or self.reader(name, doc) for name in item.reads]
        present = [f"{known[name]} IS NOT NULL" if name in known else self.presence(name, doc) for name in item.present]
        return f"{self.schema}.{item.function}({', '.join((*values, *present))})"

    @cached_property
    def search_expression(self) -> str:
        """The text that `search=` looks through, over the document `doc`; a match never spans two fields."""
        texts = " || E'\\x1f' || ".join(f"coalesce(doc ->> '{name}', '')" for name in self.searched)
        nothing = "''"  # a dataset of numbers and days alone
        return f"vanguard.fold({texts or nothing})"


# The document in an expression, or a text between quotes, where a field can be called doc.
DOCUMENT = re.compile(r"'[^']*'|\bdoc\b")


class Column(msgspec.Struct, frozen=True):
    """A typed column of the index image: `name` in snake case, `expression` over the document `doc`."""

    field: str
    type: FieldType
    expression: str

    @property
    def name(self) -> str:
        """The column's name without prefix: `f_` in the mirror, `b_` and `a_` in a modification stand before it."""
        return snake(self.field)

    @property
    def sql_type(self) -> str:
        """The column's type, texts in the C collation."""
        return f'{SQL_TYPES[self.type]} COLLATE "C"' if SQL_TYPES[self.type] == "text" else SQL_TYPES[self.type]

    def of(self, doc: str) -> str:
        """The expression over another name for the document."""
        return DOCUMENT.sub(lambda found: doc if found[0] == "doc" else found[0], self.expression)
