"""The index image of a row, as text for the statements that write modifications: column lists and expressions.

The files of sql/ hold the text of a contract with few columns between their markers; here is the same for any contract.
"""

from collections.abc import Sequence
from functools import lru_cache

from app.base.statements import Statement
from app.contracts.model import Column, Contract, snake


def qualified(statement: Statement, contract: Contract) -> Statement:
    """The statement on the contract's schema, its image markers filled with the contract's columns.

    Raises KeyError for a marker of another kind: whoever composes a statement fills its markers first.
    """
    return _qualified(statement, _Key(contract))


class _Key:
    """A contract by identity: its content is immutable, and hashing all of it at every call would be waste."""

    __slots__ = ("contract",)

    def __init__(self, contract: Contract):
        self.contract = contract

    def __hash__(self) -> int:
        return id(self.contract)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.contract is self.contract


@lru_cache(maxsize=1024)
def _qualified(statement: Statement, key: _Key) -> Statement:
    if statement.markers:
        available = parts(key.contract)
        statement = statement.fill(**{name: available[name] for name in statement.markers})
    return statement.within(key.contract.schema)


def parts(contract: Contract) -> dict[str, str]:
    """Marker -> text.

    before_image: the mirror's columns (alias m) under the names of a before-image
    before_columns, before_names: those names, with the alias m and without
    image: the columns of the document doc, under the names of an after-image; a column that layer (what a modification
        lays over the mirror's row) does not touch is the before-image's. Without a mirror row, or without a merged one,
        layer is NULL
    computed_image: the same for computed columns, each behind a comma, made of those
    differs: whether the indexed columns of the two images differ, so that the modification covers its row
    image_columns: the columns that a modification keeps of both
    take_image, set_image: their assignments out of the aliases excluded and imaged
    kpi_before, kpi_was: what KPIs need of a mirror row (alias m, and was) under the names of a before-image
    kpi_after: the same under the names of an after-image
    computed_shown: the computed columns of the document d.doc, as the text of a JSON object
    kpi_no_before, kpi_no_after: NULLs in their place
    kpi_befores, kpi_afters: their names
    Those of KPIs begin with a comma, for a contract may have none.
    """
    kpi = contract.kpi_columns
    names = [column.name for column in contract.columns]
    before = ["b_search", *(f"b_{name}" for name in names)]
    after = ["a_search", *(f"a_{name}" for name in names)]
    kept = [*before[1:], *after]

    fields = [field for field in contract.fields if field.indexed]
    images = [_image("search", contract.search_expression, contract.searched)]
    images += [_image(snake(field.name), contract.reader(field.name, "doc"), (field.name,)) for field in fields]
    known = {field.name: f"a_{snake(field.name)}" for field in fields}
    computed = [
        _image(snake(item.name), contract.computing(item, "doc", known), item.fields) for item in contract.computed
    ]
    return {
        "before_image": _list(["m.search AS b_search", *(f"m.f_{name} AS b_{name}" for name in names)]),
        "before_columns": _list([f"m.{name}" for name in before]),
        "before_names": _list(before),
        "image": _list(images),
        "computed_image": "".join(f", {image}" for image in computed),
        "computed_shown": json_object(
            [(contract.column_of[item.name], contract.computing(item, "d.doc")) for item in contract.computed]
        ),
        "differs": f"({_list(before[1:])}) IS DISTINCT FROM ({_list(after[1:])})" if names else "FALSE",
        "image_columns": _list(kept),
        "take_image": _list([f"{name} = excluded.{name}" for name in kept]),
        "set_image": _list([f"{name} = imaged.{name}" for name in kept]),
        "kpi_before": _more([f"m.f_{column.name} AS b_{column.name}" for column in kpi]),
        "kpi_was": _more([f"was.f_{column.name} AS b_{column.name}" for column in kpi]),
        "kpi_after": _more([f"m.f_{column.name} AS a_{column.name}" for column in kpi]),
        "kpi_no_before": _more([f"NULL::{column.sql_type} AS b_{column.name}" for column in kpi]),
        "kpi_no_after": _more([f"NULL::{column.sql_type} AS a_{column.name}" for column in kpi]),
        "kpi_befores": _more([f"b_{column.name}" for column in kpi]),
        "kpi_afters": _more([f"a_{column.name}" for column in kpi]),
    }


def json_object(columns: Sequence[tuple[Column, str]]) -> str:
    """SQL that writes columns, each with the SQL that yields its value, as the text of a JSON object."""
    members = []
    for place, (column, value) in enumerate(columns):
        comma = "," if place else ""
        members.append(f"""'{comma}"{column.field}":', {_json(column, value)}""")
    written = ["'{'", *members, "'}'"]
    return f"concat({_list(written)})"


def _json(column: Column, value: str) -> str:
    """A number as figures have it, in its shortest form."""
    match column.type:
        case "number":
            written = f"trim_scale({value})::text"
        case "integer" | "boolean":
            written = f"({value})::text"
        case "datetime":
            written = f"to_json(vanguard.datetime_text({value}))::text"
        case _:
            written = f"to_json({value})::text"
    return f"coalesce({written}, 'null')"


def _image(name: str, expression: str, reads: tuple[str, ...]) -> str:
    fields = _list([f"'{field}'" for field in reads])
    several = f"ARRAY[{fields}]" if reads else "'{}'::text[]"
    touched = f"layer ? {fields}" if len(reads) == 1 else f"layer ?| {several}"
    return f"CASE WHEN NOT {touched} THEN b_{name} ELSE {expression} END AS a_{name}"


def _list(items: list[str]) -> str:
    return ", ".join(items)


def _more(items: list[str]) -> str:
    return "".join(f", {item}" for item in items)
