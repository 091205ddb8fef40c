"""What JSON misses of the shape of a contract, part by part: msgspec would stop at the first.

Every struct, list and member is looked at by itself, so that each misfit is told at its path.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import inspect

from app.base.errors import Code
from app.contracts.model import Duration, Version
from app.contracts.rule_types import RuleId
from app.contracts.shape import Name, SchemaName
from app.contracts.soundness import Problem

SHOWN = 80


def _pattern_of(kind: Any) -> str:
    return str(get_args(kind)[1].pattern)


# What texts of a pattern are, in words.
PATTERNS = {
    _pattern_of(Name): "a name of up to 40 letters and digits that begins with a small letter, such as eventTime",
    _pattern_of(SchemaName): "a name of up to 40 small letters, digits and _ that begins with a letter",
    _pattern_of(Duration): "a number with s, m, h or d behind it, such as 30s, 15m, 24h or 7d",
    _pattern_of(Version): "major.minor, such as 1.0",
    _pattern_of(RuleId): "a name of up to 200 letters, digits and _ . : , -",
}
TYPES: dict[type[inspect.Type], str] = {
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.StrType: "a text",
    inspect.NoneType: "null",
}


def read_shape(value: Any, wanted: Any, path: str, told: list[Problem]) -> Any:
    """The value without the members that `wanted` does not have; what is wrong is added to `told`.

    Where something is of the wrong type or missing, the value cannot be converted.
    """
    kinds = _structs(wanted)
    if kinds and isinstance(value, Mapping):
        kind = _kind(value, kinds, path, told)
        return value if kind is None else _read_struct(value, kind, path, told)
    item = _item(wanted)
    if item is not None and isinstance(value, list | tuple) and value:
        return [read_shape(each, item, f"{path}[{place}]", told) for place, each in enumerate(value)]
    if not _fits(value, wanted):
        told.append(Problem(path, Code.INVALID_TYPE, f"This is {_words(wanted)}, not {shown(value)}."))
    return value


def shown(value: Any) -> str:
    """A value in a message, cut off where it is long."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case str():
            return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}..."
    return str(value)[:SHOWN]


def _read_struct(value: Mapping[str, Any], kind: type[msgspec.Struct], path: str, told: list[Problem]) -> Any:
    members = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    tag = kind.__struct_config__.tag_field
    for name in value:
        if name not in members and name != tag:
            message = f"There is no member {shown(name)} here. There are: {', '.join(members)}."
            told.append(Problem(joined(path, name), Code.UNKNOWN_MEMBER, message))
    for name, field in members.items():
        if field.required and name not in value:
            message = f"{name} is missing. It is {_words(field.type)}."
            told.append(Problem(joined(path, name), Code.MISSING_MEMBER, message))
    read = {
        name: read_shape(value[name], field.type, joined(path, name), told)
        for name, field in members.items()
        if name in value
    }
    return read if tag is None else {tag: value[tag]} | read


def _kind(
    value: Mapping[str, Any], kinds: Mapping[Any, type[msgspec.Struct]], path: str, told: list[Problem]
) -> type[msgspec.Struct] | None:
    """The struct that the value's tag names, or the only one."""
    first = next(iter(kinds.values()))
    tag = first.__struct_config__.tag_field
    if tag is None:
        return first
    if tag not in value:
        message = f"{tag} is missing. It is one of {', '.join(kinds)}."
        told.append(Problem(joined(path, tag), Code.MISSING_MEMBER, message))
        return None
    named = value[tag]
    found = kinds.get(named) if isinstance(named, str) else None
    if found is None:
        message = f"This is one of {', '.join(kinds)}, not {shown(named)}."
        told.append(Problem(joined(path, tag), Code.INVALID_TYPE, message))
    return found


def joined(path: str, member: str) -> str:
    """The path of a member; one that is no name is cut off."""
    return f"{path}.{member[:SHOWN]}" if path else member[:SHOWN]


def _structs(wanted: Any) -> dict[Any, type[msgspec.Struct]]:
    """Tag -> struct, of those that the value can be."""
    found = [each for each in _alternatives(wanted) if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    return {each.__struct_config__.tag: each for each in found}


def _item(wanted: Any) -> Any:
    """The type of the items, where the value can be a list; else None."""
    lists = (get_args(each)[0] for each in _alternatives(wanted) if get_origin(each) is tuple)
    return next(lists, None)


def _alternatives(wanted: Any) -> Iterator[Any]:
    if get_origin(wanted) is Annotated:
        yield from _alternatives(get_args(wanted)[0])
    elif get_origin(wanted) is not None and get_origin(wanted) is not tuple and get_args(wanted):
        for each in get_args(wanted):
            yield from _alternatives(each)
    else:
        yield wanted


def _fits(value: Any, wanted: Any) -> bool:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True


def _words(wanted: Any) -> str:
    """What a value of the type is."""
    return _said(inspect.type_info(wanted))


def _said(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner):
            return _said(inner)
        case inspect.UnionType(types=types):
            return " or ".join(_said(each) for each in types)
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.EnumType(cls=cls):
            return f"one of {', '.join(str(each.value) for each in cls if isinstance(each, Enum))}"
        case inspect.StrType(pattern=str(pattern)):
            return PATTERNS.get(pattern, f"a text of the pattern {pattern}")
        case inspect.StrType(max_length=int(most)):
            return f"a text of at most {most} characters"
        case inspect.IntType(ge=int(least), le=int(most)):
            return f"a whole number from {least} to {most}"
        case inspect.IntType(ge=int(least)):
            return f"a whole number from {least} on"
        case inspect.VarTupleType(item_type=item, min_length=least):
            return f"a list of at least {least}, each {_said(item)}" if least else f"a list, each {_said(item)}"
        case inspect.StructType():
            return "an object"
    return TYPES.get(type(kind), "a value")
