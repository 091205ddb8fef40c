"""Values as texts, and where a text is looked for: SQL of contract-checked names.

A value has one text, whatever its type: that of the ids of rows (app/contracts/keys.py), so that a key is found by the
id that it makes.
"""

from collections.abc import Sequence

from app.contracts import Contract
from app.contracts.ddl import sorts
from app.contracts.keys import SEPARATOR
from app.contracts.model import Field

LONGEST = 500  # bytes of a text that a reader of fields takes
NUMBERS = frozenset({"integer", "number"})
TEXTS = frozenset({"text", "enum"})
# What can be said of a key of several fields: the characters that end a part of it, and their own.
ESCAPES = (("%", "%25"), (SEPARATOR, "%7E"), ("/", "%2F"))
WHOLE = "^-?[0-9]{1,18}$"  # digits that surely make a bigint


def can_join(field: Field) -> bool:
    """Whether rows are told apart by such a field anywhere."""
    if field.type == "boolean" or field.derived_from:
        return False
    return field.type != "text" or field.max_length <= LONGEST


def compatible(one: Field, other: Field) -> bool:
    """Whether a value of the one can be a value of the other."""
    return one.type == other.type or any({one.type, other.type} <= kinds for kinds in (NUMBERS, TEXTS))


def text_of(contract: Contract, names: Sequence[str], alias: str) -> str:
    """SQL that yields the text of these fields' values in a row of the mirror; NULL where one of them is null."""
    if len(names) == 1:
        return _text(contract, names[0], alias)
    return f" || '{SEPARATOR}' || ".join(_escaped(contract, name, alias) for name in names)


def _text(contract: Contract, name: str, alias: str) -> str:
    if name == contract.id_field:
        return f'{alias}.row_key COLLATE "C"'
    column = contract.column_of.get(name)
    kind = contract.by_name[name].type
    # A number is read in a third of the time of an integer, and has the same text.
    reader = {"enum": "text", "integer": "number"}.get(kind, kind)
    value = f"{alias}.f_{column.name}" if column else f"vanguard.as_{reader}({alias}.data, '{name}')"
    match kind:
        case "integer" if column:
            value = f"{value}::text"
        case "integer" | "number":
            value = f"trim_scale({value})::text"
        case "date":
            value = f"{value}::text"
        case "datetime":
            value = f"vanguard.datetime_text({value})"
    return f'{value} COLLATE "C"'


def _escaped(contract: Contract, name: str, alias: str) -> str:
    text = _text(contract, name, alias)
    if contract.by_name[name].type not in TEXTS:
        return text
    for each, instead in ESCAPES:
        text = f"replace({text}, '{each}', '{instead}')"
    return f'({text}) COLLATE "C"'


def is_id(contract: Contract, names: Sequence[str]) -> bool:
    """Whether the text of these fields is the id of their row."""
    return not contract.appends and tuple(names) == contract.key_fields


def has_index(contract: Contract, name: str) -> bool:
    """Whether the mirror has a B-tree that begins by the field."""
    return any(not hot.filters and hot.sort == name for hot in sorts(contract)) and name in contract.by_name


def found_in(contract: Contract, names: Sequence[str]) -> str:
    """SQL that counts up to two rows of the parent whose text is `v.value`: by the ids of rows, or by an index, else
    one of all that there are.
    """
    if not (is_id(contract, names) or has_index(contract, names[0])):
        text = text_of(contract, names, "p")
        return (
            f"(v.value IN (SELECT {text} FROM {contract.schema}.mirror AS p"
            f" WHERE p.organization_id = $1 AND {text} IS NOT NULL))::int"
        )
    if is_id(contract, names):
        condition = "p.row_key = v.value"
    else:
        column = contract.column_of[names[0]]
        condition = f"p.f_{column.name} = {_typed(column.type)}"
    return (
        f"(SELECT count(*) FROM (SELECT FROM {contract.schema}.mirror AS p"
        f" WHERE p.organization_id = $1 AND {condition} LIMIT 2) AS two)"
    )


def _typed(kind: str) -> str:
    match kind:
        case "integer":
            return f"CASE WHEN v.value ~ '{WHOLE}' THEN v.value::bigint END"
        case "number":
            return "v.value::numeric"
        case "date":
            return "vanguard.as_date(jsonb_build_object('v', v.value), 'v')"
        case "datetime":
            return "vanguard.as_datetime(jsonb_build_object('v', v.value), 'v')"
    return "v.value"
