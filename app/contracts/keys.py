"""The ids of rows, which are made of their keys: docs/contracts.md has the form.

An id is read back into the values of the key, and no two keys have one id.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.contracts.model import Contract, Field
from app.contracts.values import read_datetime, read_value, write_datetime, write_number

MAX_KEY_BYTES = 200
SEPARATOR = "~"
ESCAPED = re.compile(rb"%([0-9A-F]{2})")
COUNT = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
MAX_COUNT = 10**18 - 1
INTEGER = re.compile(r"0|-?[1-9]\d{0,15}", re.ASCII)
NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,20})?", re.ASCII)


class NoRowId(ValueError):
    """A document that no id can be made of; the message says why."""


def check_key(key: str) -> str | None:
    """Why the text cannot be a row's id, or None."""
    if not key:
        return "An id cannot be empty."
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        return f"An id has at most {MAX_KEY_BYTES} bytes."
    if not key.isprintable():
        return "An id has printable characters only."
    return None


def row_id(
    contract: Contract, document: Mapping[str, Any], at: datetime | None = None, count: int | None = None
) -> str:
    """The id of a document's row; raises NoRowId where a value of its key is missing, or not of its type, or long.

    Where records are appended, `at` is the event time and `count` tells apart what else would have one id.
    """
    texts = [_text(contract.by_name[name], document.get(name)) for name in contract.key_fields]
    if contract.appends:
        assert at is not None, "an appended row has its event time"
        assert count is not None, "and a counter"
        texts += [write_datetime(at), str(count)]
    key = texts[0] if contract.id_field is not None else _joined(texts)
    if (reason := check_key(key)) is not None:
        raise NoRowId(reason)
    return key


def key_values(contract: Contract, key: str) -> dict[str, Any] | None:
    """The values of the key's fields that the id is made of; None for what is no id of the contract."""
    if contract.id_field is not None:
        return {contract.id_field: key}
    try:
        texts = [_unescaped(part) for part in key.split(SEPARATOR)]
    except ValueError:
        return None
    fields = [contract.by_name[name] for name in contract.key_fields]
    own, more = texts[: len(fields)], texts[len(fields) :]
    if _joined(texts) != key or len(own) != len(fields) or not _fits(contract, more):
        return None
    values = {field.name: _value(field, text) for field, text in zip(fields, own, strict=True)}
    return None if None in values.values() else values


def _fits(contract: Contract, more: list[str]) -> bool:
    """Whether these come behind the values of the key."""
    if not contract.appends:
        return not more
    moment = read_datetime(more[0]) if len(more) == 2 else None
    return moment is not None and write_datetime(moment) == more[0] and COUNT.fullmatch(more[1]) is not None


# -- values as texts ---------------------------------------------------------------------------------------------------


def _text(field: Field, value: Any) -> str:
    """One text for each value, whatever its digits."""
    found = read_value(field.type, value)
    if found is None:
        wrong = "it is missing" if value is None else f"it is no {field.type}"
        raise NoRowId(f"{field.name} belongs to the key, and {wrong}.")
    match found:
        case Decimal():
            return write_number(found)
        case datetime():
            return write_datetime(found)
    return found if isinstance(found, str) else str(found.isoformat())


def _value(field: Field, text: str) -> Any:
    """The value of a text; None where another text would be written of it, or none."""
    value: Any = text
    if field.type == "integer":
        value = int(text) if INTEGER.fullmatch(text) else None
    elif field.type == "number":
        value = Decimal(text) if NUMBER.fullmatch(text) else None
    try:
        return value if _text(field, value) == text else None
    except NoRowId:
        return None


def _joined(texts: list[str]) -> str:
    key = SEPARATOR.join(map(_escaped, texts))
    return key.replace(".", "%2E") if key in (".", "..") else key


def _escaped(text: str) -> str:
    """What would end a part, a step of a path or a line, by its bytes."""
    try:
        return "".join(
            "".join(f"%{byte:02X}" for byte in each.encode()) if each in "%~/" or not each.isprintable() else each
            for each in text
        )
    except UnicodeEncodeError:
        raise NoRowId("Half of a surrogate pair is no character.") from None


def _unescaped(part: str) -> str:
    return ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), part.encode()).decode()
