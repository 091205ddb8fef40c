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
# What ids of rows have by its bytes: the characters that end a part of one, their own, and what is not printable, as
# ranges of a regular expression. Characters that Unicode does not know yet are left out.
ESCAPES = (("%", "%25"), (SEPARATOR, "%7E"), ("/", "%2F"))
UNPRINTABLE = (
    r"\u0001-\u001f\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200f"
    r"\u2028-\u202f\u205f-\u2064\u2066-\u206f\u3000\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
    r"\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
WHOLE = "^-?[0-9]{1,18}$"  # digits that surely make a bigint


def can_join(field: Field) -> bool:
    """Whether rows are told apart by such a field anywhere."""
    if field.type == "boolean" or field.derived_from:
        return False
    return field.type != "text" or field.max_length <= LONGEST


def compatible(one: Field, other: Field) -> bool:
    """Whether a value of the one can be a value of the other."""
    return one.type == other.type or any({one.type, other.type} <= kinds for kinds in (NUMBERS, TEXTS))


def text_of(contract: Contract, names: Sequence[str], alias: str, *, as_id: bool = False) -> str:
    """SQL that yields the text of these fields' values in a row of the mirror; NULL where one of them is null. `as_id`:
    as an id has it that is made of them, which of several has parts that can be told apart.
    """
    if len(names) == 1:
        return _escaped(contract, names[0], alias, alone=True) if as_id else _text(contract, names[0], alias)
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


def _escaped(contract: Contract, name: str, alias: str, *, alone: bool = False) -> str:
    """`alone`: the id is nothing else, and cannot be a step of a path that means another place."""
    text = _text(contract, name, alias)
    if contract.by_name[name].type not in TEXTS:
        return text
    escaped = text
    for each, instead in ESCAPES:
        escaped = f"replace({escaped}, '{each}', '{instead}')"
    step = f" WHEN {text} IN ('.', '..') THEN replace({text}, '.', '%2E')" if alone else ""
    return f"(CASE WHEN {text} ~ '[{UNPRINTABLE}]' THEN {_by_bytes(text)}{step} ELSE {escaped} END) COLLATE \"C\""


def _by_bytes(text: str) -> str:
    """The same with each character by itself, which takes longer."""
    code = r"regexp_replace(upper(encode(convert_to(s.c, 'UTF8'), 'hex')), '(..)', '%\1', 'g')"
    return (
        f"(SELECT string_agg(CASE WHEN s.c ~ '[%{SEPARATOR}/{UNPRINTABLE}]' THEN {code} ELSE s.c END, '' ORDER BY s.n)"
        f" FROM string_to_table({text}, NULL) WITH ORDINALITY AS s (c, n))"
    )


def is_made(contract: Contract, names: Sequence[str]) -> bool:
    """Whether the id of a row is made of these fields, and not the text of one as it is."""
    return is_id(contract, names) and contract.id_field is None


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
