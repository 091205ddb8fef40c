"""How large and how deep the document of a contract may be, and what no document may hold."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from app.base import exact_json
from app.base.errors import Code, Culprit, ValidationFailed
from app.contracts.reading import joined
from app.contracts.soundness import Problem, Problems
from app.contracts.values import fits

MAX_DEPTH = 16
MAX_TOLD = 100


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one contract can have at most; `columns` are indexed fields and computed columns together.

    PostgreSQL bears 1,600 columns a table, of which a draft has two for each of these, and 32 in an index.
    `filters`: of one hot sort. Bytes are those of UTF-8; of patterns and expressions those of all together.
    `pattern_instructions` are RE2's: a thousand take some 0.4 ms and 20 KB.
    """

    fields: int = 200
    columns: int = 40
    hot: int = 15
    filters: int = 8
    dimensions: int = 8
    rules: int = 100
    values: int = 1_000
    value_bytes: int = 200
    pattern_bytes: int = 64 * 1024
    pattern_instructions: int = 400_000
    expression_bytes: int = 16 * 1024
    document_bytes: int = 256 * 1024
    others: int = 100


DEFAULT_LIMITS = Limits()


def refuse_any(found: list[Problem]) -> None:
    """Raise ValidationFailed where there is a problem; of very many the first are told."""
    if not found:
        return
    culprits = [Culprit(code=each.code, message=each.message, parameter=each.path or None) for each in found]
    more = f" The first {MAX_TOLD} are told." if len(found) > MAX_TOLD else ""
    things = "one thing" if len(found) == 1 else f"{len(found):,} things"
    detail = f"The contract cannot be registered: {things} to mend.{more}"
    raise ValidationFailed(detail, errors=culprits[:MAX_TOLD])


def bounds(document: Any, limits: Limits) -> Problems:
    """What is beyond all bounds in a document, before anything else is read in it."""
    if not isinstance(document, Mapping):
        yield Problem("", Code.INVALID_CONTRACT, "A contract is a JSON object.")
        return
    found = [*islice(_unstorable(document), MAX_TOLD)]
    yield from found
    if found:
        return
    size = len(exact_json.encode(document))
    if size > limits.document_bytes:
        yield beyond("", "the contract's size in bytes", size, limits.document_bytes)
        return
    yield from _counts(document, limits)


def _unstorable(document: Mapping[str, Any]) -> Problems:
    """What PostgreSQL's jsonb cannot hold, or nobody can read; told by a walk that no depth breaks."""
    waiting: list[tuple[str, Any, int]] = [("", document, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        match value:
            case Mapping() | list() if depth >= MAX_DEPTH:
                yield Problem(path[:200], Code.INVALID_CONTRACT, f"A contract is nested at most {MAX_DEPTH} deep.")
            case Mapping():
                for name in value:
                    if not isinstance(name, str) or not _storable(name):
                        message = "The name of a member is a text without NUL and halves of surrogate pairs."
                        yield Problem(path or "(the contract)", Code.INVALID_CONTRACT, message)
                waiting += [(joined(path, str(name)), each, depth + 1) for name, each in value.items()]
            case list():
                waiting += [(f"{path}[{place}]", each, depth + 1) for place, each in enumerate(value)]
            case str() if not _storable(value):
                message = "A text has neither NUL nor halves of surrogate pairs. Leave them out."
                yield Problem(path, Code.INVALID_CONTRACT, message)
            case bool() | None | str():
                pass
            case int() | Decimal() if fits(value):
                pass
            case _:
                message = "A number has at most 30 digits, and 20 after the point."
                yield Problem(path, Code.INVALID_CONTRACT, message)


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _counts(document: Mapping[str, Any], limits: Limits) -> Problems:
    bounds = {"fields": limits.fields, "computed": limits.columns, "hot": limits.hot, "rules": limits.rules}
    for name, value in document.items():
        most = bounds.get(name, limits.others)
        if isinstance(value, list) and len(value) > most:
            yield beyond(name, name, len(value), most)
    for path, values in _enums(document):
        if len(values) > limits.values:
            yield beyond(path, "values", len(values), limits.values)
        for place, value in enumerate(values):
            if isinstance(value, str) and len(value.encode()) > limits.value_bytes:
                yield beyond(f"{path}[{place}]", "the value's bytes", len(value.encode()), limits.value_bytes)
    for member, most in (("pattern", limits.pattern_bytes), ("expression", limits.expression_bytes)):
        size = sum(len(text.encode()) for text in _texts(document, member))
        if size > most:
            yield beyond("rules", f"the bytes of every {member} together", size, most)


def beyond(path: str, what: str, found: int, most: int) -> Problem:
    """More than there may be."""
    return Problem(path, Code.LIMIT_EXCEEDED, f"Of {what} there may be {most:,}, and there are {found:,}.")


def parts(document: Mapping[str, Any], member: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a list, with their paths."""
    found = document.get(member)
    for place, part in enumerate(found if isinstance(found, list) else ()):
        if isinstance(part, Mapping):
            yield f"{member}[{place}]", part


def _enums(document: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for member in ("fields", "rules"):
        for path, part in parts(document, member):
            if isinstance(values := part.get("values"), list):
                yield f"{path}.values", values


def _texts(document: Mapping[str, Any], member: str) -> Iterator[str]:
    for where in ("rules", "computed"):
        for _, part in parts(document, where):
            if isinstance(text := part.get(member), str):
                yield text
