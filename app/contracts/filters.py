"""The grammar of `D/rows`: query parameters in, a checked Listing out.

Nothing of what a caller wrote becomes SQL text: field names and operators are looked up, values become parameters.
"""

import datetime
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from app.base.errors import Code, Culprit, InvalidFilter
from app.contracts.model import SQL_TYPES, Contract
from app.contracts.shape import FieldType
from app.contracts.values import MAX_DECIMALS, MAX_DIGITS, MAX_INTEGER, is_date, normalize_datetime, read_datetime

PARAMETER = re.compile(r"(?P<field>[A-Za-z]\w*)(?:\[(?P<op>[a-z]+)\])?")
INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
# Digits are read in one way only: two in a row (\d+\.?\d*) would take minutes to refuse a long text.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
BOOLEANS = {"true": True, "false": False}
INCLUDES = ("overlap", "computed", "layers", "deleted")
SYNC_STATES = ("pristine", "draft", "in_review", "committed", "syncing", "conflict", "sync_error")
MAX_PAGE_SIZE = 1000
MAX_OFFSET = 10_000_000
MAX_WORD = 1000  # characters: folding takes the square of a run of combining marks, five seconds for 10,000 of them
MAX_VALUE = 16 * 1024  # characters of a value: a target has no more, a body could; before any pattern looks at it
MAX_PARAMETERS = 200
MAX_SORTS = 5

# What an operator makes of a column `{c}` and a parameter `{p}`. Comparisons with NULL are never true; ne and nin keep
# nulls. A parameter is folded in a query of its own: once, and not for each row.
OPERATORS = {
    "eq": "{c} = {p}",
    "ne": "{c} IS DISTINCT FROM {p}",
    "in": "{c} = ANY ({p})",
    "nin": "({c} IS NULL OR {c} <> ALL ({p}))",
    "gt": "{c} > {p}",
    "gte": "{c} >= {p}",
    "lt": "{c} < {p}",
    "lte": "{c} <= {p}",
    "contains": "strpos(vanguard.fold({c}), (SELECT vanguard.fold({p}))) > 0",
    "startswith": "starts_with(vanguard.fold({c}), (SELECT vanguard.fold({p})))",
    "isnull": "({c} IS NULL) = {p}",
}
PAGING = {"page", "pageSize", "after", "count", "sort", "sortBy", "sortOrder", "fields", "include"}
WORDS = PAGING | {"search", "syncState"}  # what is no filter
TEXT_ONLY = {"contains", "startswith"}
LISTS = {"in", "nin"}
WHOLE = {"eq", "ne", *LISTS}  # these compare with whole values, so that an enum's have to exist
ORDERED_ONLY = {"gt", "gte", "lt", "lte"}


def operators_of(kind: FieldType) -> tuple[str, ...]:
    """What a field of this type can be filtered by."""
    refused = (set() if SQL_TYPES[kind] == "text" else TEXT_ONLY) | (ORDERED_ONLY if kind == "boolean" else set())
    return tuple(op for op in OPERATORS if op not in refused)


class Bounds(msgspec.Struct, frozen=True):
    """How many conditions a question may have, and how many values all of them together."""

    conditions: int = 40
    values: int = 2000


BOUNDS = Bounds()


class Condition(msgspec.Struct, frozen=True):
    """One filter: `value` is a list for in and nin, a boolean for isnull, else a value of the field's type."""

    field: str
    op: str
    value: Any


class Sort(msgspec.Struct, frozen=True):
    """One sort key. Nulls come last ascending and first descending, as PostgreSQL has it."""

    field: str
    descending: bool = False


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a list request asks for: `after` the cursor as it came, `echo` the filters as they were understood.

    `fields` are those of the documents, None for all of them; `computed` the computed columns that are shown, None
    where none is asked for.
    """

    conditions: tuple[Condition, ...] = ()
    search: str | None = None
    sync_states: tuple[str, ...] = ()
    sort: tuple[Sort, ...] = ()
    page: int = 1
    page_size: int = 100
    after: str | None = None
    count: str = "exact"
    fields: tuple[str, ...] | None = None
    computed: tuple[str, ...] | None = None
    layers: bool = False
    overlap: bool = False
    deleted: bool = False
    echo: dict[str, Any] = {}

    @property
    def tagged(self) -> bool:
        """Whether revisions stand for the page: others' changes in flight and estimates move by themselves."""
        return not self.overlap and self.count != "estimated"


def read_parameters(query_string: bytes) -> list[tuple[str, str]]:
    """The query string, strictly: raises InvalidFilter for what is not UTF-8, or too much."""
    try:
        return parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except UnicodeDecodeError:
        raise InvalidFilter("The query string is not percent-encoded UTF-8.") from None
    except ValueError:
        raise InvalidFilter(f"At most {MAX_PARAMETERS} parameters.") from None


def refuse(parameter: str, message: str) -> InvalidFilter:
    """The error for one parameter."""
    shown = parameter[:80]
    return InvalidFilter(
        f"{shown}: {message}", errors=[Culprit(code=Code.INVALID_FILTER, parameter=shown, message=message)]
    )


def read_listing(contract: Contract, parameters: Iterable[tuple[str, str]], bounds: Bounds = BOUNDS) -> Listing:
    """Check the query parameters of a list request; raises InvalidFilter that names the first one at fault."""
    given: dict[str, list[str]] = {}
    for name, value in parameters:
        given.setdefault(name, []).append(value)
    words = {name: values for name, values in given.items() if name in WORDS}
    filters = {name: _divided(name, values) for name, values in given.items() if name not in WORDS}
    echo = {name: values[0] if len(values) == 1 else values for name, values in given.items() if name not in PAGING}
    return read_question(contract, words, filters, echo, bounds)


def read_question(
    contract: Contract,
    words: dict[str, list[str]],
    filters: dict[str, list[str]],
    echo: dict[str, Any],
    bounds: Bounds = BOUNDS,
) -> Listing:
    """The same of WORDS and of filters that are apart from them, each by its parameter, the values of a list one by
    one; raises InvalidFilter.
    """
    for name, values in words.items():
        for value in values:
            _check_value(name, value)
    _check_bounds(filters, bounds)
    given = _Words(words)
    sort = _sort(contract, given)
    include = read_include(words.get("include", []), INCLUDES)
    fields = _fields(contract, given)
    listing = Listing(
        search=_word("search", given.one("search") or "") or None,
        sync_states=_sync_states(given),
        sort=sort,
        page=given.number("page", 1, 1, 2**31),
        page_size=given.number("pageSize", 100, 1, MAX_PAGE_SIZE),
        after=given.one("after"),
        count=given.choice("count", "exact", ("exact", "estimated", "none")),
        fields=_documented(contract, fields),
        computed=_computed(contract, fields, whole="computed" in include),
        layers="layers" in include,
        overlap="overlap" in include,
        deleted="deleted" in include,
        conditions=tuple(read_condition(contract, name, values) for name, values in filters.items()),
        echo=echo,
    )
    if listing.after is not None and "page" in words:
        raise refuse("page", "a cursor (after) and a page number exclude each other.")
    if (listing.page - 1) * listing.page_size > MAX_OFFSET:
        raise refuse("page", f"pages reach {MAX_OFFSET} rows deep; go on with the cursor in nextCursor.")
    return listing


def _check_value(parameter: str, value: str) -> None:
    if len(value) > MAX_VALUE:
        raise refuse(parameter, f"a value has at most {MAX_VALUE:,} characters.")
    if "\0" in value or (not value.isprintable() and "\x1f" in value):
        raise refuse(parameter, "a value may not hold control characters.")


def _check_bounds(filters: dict[str, list[str]], bounds: Bounds) -> None:
    """A question's cost grows with all of its conditions and values, however they are spread over parameters."""
    names = list(filters)
    if len(names) > (most := bounds.conditions):
        detail = f"at most {most} filters in one question (VANGUARD_MAX_CONDITIONS). Ask in several."
        raise refuse(names[most], detail)
    total = 0
    for name, values in filters.items():
        total += len(values)
        if total > (most := bounds.values):
            detail = f"at most {most:,} values in all filters of one question (VANGUARD_MAX_VALUES). Ask in several."
            raise refuse(name, detail)


def _divided(parameter: str, values: list[str]) -> list[str]:
    """The values of a list in the query: comma-separated, repeated or both."""
    if not parameter.endswith(("[in]", "[nin]")):
        return values
    return [part for value in values for part in value.split(",")]


def read_include(values: Iterable[str], choices: tuple[str, ...]) -> frozenset[str]:
    """What is to be shown beside rows: comma-separated, repeated, or both; raises InvalidFilter."""
    found = frozenset(_parts(values))
    if unknown := found - set(choices):
        raise refuse("include", f"{min(unknown)[:80]!r} is none of {', '.join(choices)}.")
    return found


def _parts(values: Iterable[str]) -> list[str]:
    """Repeated, comma-separated, or both."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


class _Words:
    """The parameters that are not filters."""

    def __init__(self, given: dict[str, list[str]]):
        self.given = given

    def one(self, name: str) -> str | None:
        values = self.given.get(name, [])
        if len(values) > 1:
            raise refuse(name, "it can be given once.")
        return values[0] if values else None

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.one(name)
        if text is None:
            return default
        if not INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise refuse(name, f"a whole number from {least} to {most}.")
        return int(text)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.one(name)
        if value is not None and value not in choices:
            raise refuse(name, f"one of {', '.join(choice for choice in choices if choice)}.")
        return default if value is None else value

    def many(self, name: str) -> list[str]:
        return _parts(self.given.get(name, []))


def _sort(contract: Contract, words: _Words) -> tuple[Sort, ...]:
    keys = [Sort(key.removeprefix("-"), key.startswith("-")) for key in words.many("sort")]
    by, order = words.one("sortBy"), words.choice("sortOrder", "asc", ("asc", "desc"))
    if by is None and "sortOrder" in words.given:
        raise refuse("sortOrder", "it goes with sortBy; sort takes - for descending.")
    if by is not None:
        if keys:
            raise refuse("sortBy", "sort and sortBy exclude each other.")
        keys = [Sort(by, order == "desc")]
    if len(keys) > MAX_SORTS:
        raise refuse("sort", f"at most {MAX_SORTS} sort keys.")
    for key in keys:
        if key.field != "id" and field_type(contract, key.field) is None:
            raise refuse("sort" if by is None else "sortBy", f"{contract.name} has no field {key.field[:80]!r}.")
    if len({key.field for key in keys}) != len(keys):
        raise refuse("sort", "a field can be a sort key once.")
    return tuple(keys)


def _sync_states(words: _Words) -> tuple[str, ...]:
    states = words.many("syncState")
    if unknown := set(states) - set(SYNC_STATES):
        raise refuse("syncState", f"{sorted(unknown)[0][:80]!r} is none of {', '.join(SYNC_STATES)}.")
    return tuple(sorted(set(states)))


def _fields(contract: Contract, words: _Words) -> tuple[str, ...]:
    """The fields and computed columns that are asked for by name."""
    names = words.many("fields")
    for name in names:
        if name == "id" or field_type(contract, name) is None:
            raise refuse("fields", f"{contract.name} has no field {name[:80]!r}.")
    return tuple(dict.fromkeys(names))


def _documented(contract: Contract, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Those of them that documents have; None where none was asked for by name, and all are wanted."""
    return tuple(name for name in names if name in contract.by_name) if names else None


def _computed(contract: Contract, names: tuple[str, ...], *, whole: bool) -> tuple[str, ...] | None:
    """The computed columns among them, or all; None where none is asked for."""
    wanted = tuple(item.name for item in contract.computed if whole or item.name in names)
    return wanted if wanted or whole else None


def field_type(contract: Contract, name: str) -> FieldType | None:
    """The type of a field, a computed column or the pseudo-field id; None for anything else."""
    if name == "id":
        return "text"
    if name in contract.by_name:
        return contract.by_name[name].type
    return contract.column_of[name].type if name in contract.column_of else None


def parameter_of(field: str, op: str, value: Any) -> tuple[str, list[str]]:
    """An operator's parameter in the query, and its values as texts, of what a body has. Null is asked for by isnull;
    raises InvalidFilter.
    """
    name = field if op == "eq" else f"{field}[{op}]"
    if value is None:
        if op not in ("eq", "ne"):
            raise refuse(name, "null has no place here.")
        return f"{field}[isnull]", ["true" if op == "eq" else "false"]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise refuse(name, "a list has at least one value.")
    return name, [_text(name, each) for each in values]


def _text(parameter: str, value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | Decimal():
            return str(value)
    raise refuse(parameter, "a value is a text, a number, true or false.")


def read_condition(contract: Contract, parameter: str, values: list[str]) -> Condition:
    """The filter of one parameter, `field` or `field[op]`; raises InvalidFilter."""
    for value in values:
        _check_value(parameter, value)
    match = PARAMETER.fullmatch(parameter)
    kind = field_type(contract, match["field"]) if match else None
    if match is None or kind is None:
        raise refuse(parameter, f"{contract.name} has no such field or parameter.")
    name, op = match["field"], match["op"] or "eq"
    if op not in OPERATORS or (op == "eq" and match["op"]):
        raise refuse(parameter, f"{op[:20]!r} is none of the operators {', '.join(o for o in OPERATORS if o != 'eq')}.")
    if op not in operators_of(kind):
        raise refuse(parameter, f"{op} does not apply to a {kind}.")
    if op == "isnull":
        return Condition(name, op, _value(parameter, "boolean", _single(parameter, values)))
    if op in TEXT_ONLY:
        return Condition(name, op, _word(parameter, _single(parameter, values)))
    choices = contract.by_name[name].values if op in WHOLE and name in contract.by_name else ()
    if op == "eq" and len(values) > 1:
        op = "in"
    elif op == "ne" and len(values) > 1:
        op = "nin"
    if op not in LISTS:
        return Condition(name, op, _value(parameter, kind, _single(parameter, values), choices))
    return Condition(name, op, [_value(parameter, kind, value, choices) for value in values])


def _single(parameter: str, values: list[str]) -> str:
    if len(values) != 1:
        raise refuse(parameter, "it can be given once.")
    return values[0]


def _word(parameter: str, text: str) -> str:
    if len(text) > MAX_WORD:
        raise refuse(parameter, f"at most {MAX_WORD} characters.")
    return text


def _value(parameter: str, kind: FieldType, text: str, choices: Sequence[str] = ()) -> Any:
    """A filter's value in the field's type; one of the choices, if there are any."""
    value = parse(kind, text)
    if value is None:
        expected = {
            "number": "a number",
            "integer": "a whole number",
            "date": "a date, YYYY-MM-DD",
            "datetime": "a moment with its offset, such as 2026-01-31T08:30:00Z (a + is %2B in a URL)",
        }
        raise refuse(parameter, f"{text[:80]!r} is not {expected.get(kind, 'true or false')}.")
    if choices and value not in choices:
        raise refuse(parameter, f"{text[:80]!r} is none of {', '.join(choices)}.")
    return value


def parse(kind: FieldType, text: str) -> Any:
    """The value that a text stands for in a field's type; None when it stands for none."""
    match kind:
        case "text" | "enum":
            return text
        case "boolean":
            return BOOLEANS.get(text.lower())
        case "date":
            return datetime.date.fromisoformat(text) if is_date(text) else None
        case "datetime":
            return read_datetime(normalize_datetime(text))
        case "integer":
            return int(text) if INTEGER.fullmatch(text) and abs(int(text)) <= MAX_INTEGER else None
        case "number":
            return _decimal(text)


def _decimal(text: str) -> Decimal | None:
    # Decimal alone would also take NaN, spaces, underscores and the digits of any script.
    if not NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > MAX_DECIMALS * 2 or value.adjusted() > MAX_DIGITS * 2:
        return None
    return value
