"""Contracts that organizations register: from JSON, with every error at its path, and back to what registers again."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from app.base.errors import Code
from app.contracts import BUILT_IN
from app.contracts.bounds import DEFAULT_LIMITS, Limits, beyond, bounds, parts
from app.contracts.bounds import refuse_any as refuse_any
from app.contracts.ddl import INDEX, index_scripts, landings, sorts
from app.contracts.model import RECEIVED_AT, Contract, IngestionSemantics
from app.contracts.patterns import size_of
from app.contracts.reading import read_shape, shown
from app.contracts.rule_types import Regex, named
from app.contracts.soundness import INDEXED_BYTES, Problem, Problems, problems

# What only contracts that come with the product say.
REFUSED = {
    "schema": "The schema is given to a dataset by the service.",
    "functions": "Functions in SQL come with the product alone; a computed column has an `expression`.",
    "upstream": "Systems of record are connected by whoever runs the service.",
}
REFUSED_OF_COMPUTED = {
    "function": "Functions in SQL come with the product alone. Write an `expression`.",
    "reads": "What an expression reads is seen in it.",
    "present": "What an expression reads is seen in it.",
}
MERGE_KEY = "mergeKey"
# PostgreSQL cuts identifiers off there.
MAX_IDENTIFIER = 63
# A row of a B-tree has at most 2,704 bytes; organization, account, id of the row and what is no text have the rest.
INDEX_BYTES = 2_000
RULE_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,59}")
LONGEST_ID = 200
# Indexes that every dataset has.
TAKEN_INDEXES = ("mirror_pkey",)


class _Unasked(Contract, frozen=True, kw_only=True, dict=True):
    """A contract that nobody has asked for its soundness."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "rules", named(self.rules))


def read_registration(document: Any, *, schema: str, limits: Limits = DEFAULT_LIMITS) -> Contract:
    """The contract of a decoded JSON document, numbers with a fraction as Decimal, for a dataset in `schema`.

    Raises ValidationFailed with a culprit for each thing that is wrong, `parameter` being its path. How parts fit
    together is asked when each is well-formed by itself.
    """
    refuse_any([*bounds(document, limits)])
    told: list[Problem] = []
    clean, key_word = _merge_key(_without_refused(document, told), told)
    clean = read_shape(clean, Contract, "", told)
    whole = [problem for problem in told if problem.code in (Code.INVALID_TYPE, Code.MISSING_MEMBER)]
    if all(problem.path.startswith("ingestion") for problem in whole):
        draft = clean | {"schema": schema} | ({"ingestion": None} if whole else {})
        told += _misfits(msgspec.convert(draft, _Unasked), limits)
    refuse_any([_worded(problem, key_word) for problem in told])
    return msgspec.convert(clean | {"schema": schema}, Contract)


def wire_of(contract: Contract) -> dict[str, Any]:
    """The contract as it is told, and as it registers again: without its schema and what has its default."""
    members: dict[str, Any] = wire(contract)
    return {name: value for name, value in members.items() if name != "schema"} | {"name": plain_name(contract)}


def plain_name(contract: Contract) -> str:
    """The dataset's name; a loaded contract has its address, `customers@2`."""
    return contract.name.partition("@")[0]


def wire(part: Any) -> Any:
    """A part of a contract as JSON has it, without what has its default."""
    match part:
        case msgspec.Struct():
            tag = part.__struct_config__.tag
            members = {
                field.encode_name: wire(getattr(part, field.name))
                for field in msgspec.structs.fields(part)
                if field.required or getattr(part, field.name) != field.default
            }
            return members if tag is None else {"type": tag} | members
        case tuple():
            return [wire(each) for each in part]
        case str():
            return str(part)
    return part


# --- words that only the product's own contracts have, or that have another name


def _without_refused(document: Mapping[str, Any], told: list[Problem]) -> dict[str, Any]:
    clean = {name: value for name, value in document.items() if name not in REFUSED}
    told += [_refused(name, why) for name, why in REFUSED.items() if name in document]
    for path, part in parts(document, "computed"):
        told += [_refused(f"{path}.{name}", why) for name, why in REFUSED_OF_COMPUTED.items() if name in part]
        if part.get("expression") is None:
            message = "expression is missing. It computes the column, such as `price * quantity`."
            told.append(Problem(f"{path}.expression", Code.MISSING_MEMBER, message))
    if isinstance(clean.get("computed"), list):
        clean["computed"] = [_without(part, REFUSED_OF_COMPUTED) for part in clean["computed"]]
    # The service gives it; what is read has to have one.
    return clean | {"schema": "s"}


def _without(part: Any, names: Mapping[str, str]) -> Any:
    return {name: each for name, each in part.items() if name not in names} if isinstance(part, Mapping) else part


def _refused(path: str, why: str) -> Problem:
    return Problem(path, Code.REFUSED_MEMBER, f"A registered contract may not say this. {why}")


def _merge_key(document: dict[str, Any], told: list[Problem]) -> tuple[dict[str, Any], str]:
    """The document with the one word for the key of a record, and the word that it had."""
    semantics = document.get("ingestion")
    if semantics is None:
        semantics = {}
    if not isinstance(semantics, Mapping) or MERGE_KEY not in semantics:
        return document | {"ingestion": semantics}, "idempotencyKey"
    if "idempotencyKey" in semantics:
        message = "mergeKey is another word for idempotencyKey. Leave out one of them."
        told.append(Problem(f"ingestion.{MERGE_KEY}", Code.REFUSED_MEMBER, message))
        return document | {"ingestion": _without(semantics, {MERGE_KEY: ""})}, "idempotencyKey"
    key = semantics[MERGE_KEY]
    return document | {"ingestion": _without(semantics, {MERGE_KEY: ""}) | {"idempotencyKey": key}}, MERGE_KEY


def _worded(problem: Problem, key_word: str) -> Problem:
    """The problem with the word that the document has."""
    return problem._replace(path=problem.path.replace("ingestion.idempotencyKey", f"ingestion.{key_word}"))


# --- how the parts fit together


def _misfits(contract: Contract, limits: Limits) -> Problems:
    large = [*_large_patterns(contract, limits)]
    if large:  # nobody compiles the rest
        yield from large
        return
    found = [*problems(contract)]
    yield from found
    yield from _names(contract)
    yield from _totals(contract, limits)
    yield from _rules(contract)
    if contract.ingestion is not None:
        yield from _semantics(contract, contract.ingestion)
    if not found:  # indexes are of columns that are there
        yield from _indexes(contract)


def _large_patterns(contract: Contract, limits: Limits) -> Problems:
    """The first pattern with which all are too large together; those behind it are not compiled."""
    size = 0
    for place, rule in enumerate(contract.rules):
        if isinstance(rule, Regex):
            size += size_of(rule.pattern)
            if size > limits.pattern_instructions:
                what = "instructions of every pattern together, compiled up to this one,"
                yield beyond(f"rules[{place}].pattern", what, size, limits.pattern_instructions)
                return


def _names(contract: Contract) -> Problems:
    if contract.name in {built_in.name for built_in in BUILT_IN}:
        message = f"{contract.name} comes with the product. Choose another name."
        yield Problem("name", Code.INVALID_NAME, message)
    fields = [(f"fields[{place}].name", field.name) for place, field in enumerate(contract.fields)]
    computed = [(f"computed[{place}].name", item.name) for place, item in enumerate(contract.computed)]
    for path, name in (*fields, *computed):
        if name == RECEIVED_AT:
            message = f"{RECEIVED_AT} is the moment of receipt, which is no field. Choose another name."
            yield Problem(path, Code.INVALID_NAME, message)


def _totals(contract: Contract, limits: Limits) -> Problems:
    indexed = sum(field.indexed for field in contract.fields) + len(contract.computed)
    if indexed > limits.columns:
        yield beyond("fields", "indexed fields and computed columns", indexed, limits.columns)
    if len(contract.dimensions) > limits.dimensions:
        yield beyond("fields", "dimensions", len(contract.dimensions), limits.dimensions)
    for place, hot in enumerate(contract.hot):
        if len(hot.filters) > limits.filters:
            yield beyond(f"hot[{place}].filters", "filters", len(hot.filters), limits.filters)


def _rules(contract: Contract) -> Problems:
    for place, rule in enumerate(contract.rules):
        if len(rule.id) > LONGEST_ID:
            message = f"An id has at most {LONGEST_ID} characters, and one made of the fields' names more. Say `id`."
            yield Problem(f"rules[{place}].id", Code.INVALID_RULE, message)
        if not RULE_CODE.fullmatch(rule.code):
            message = f"A code has up to 60 capitals, digits and _, such as INVALID_RANGE, not {shown(rule.code)}."
            yield Problem(f"rules[{place}].code", Code.INVALID_RULE, message)


def _semantics(contract: Contract, semantics: IngestionSemantics) -> Problems:
    columns = (
        ("eventTimeColumn", semantics.event_time_column),
        ("processingTimeColumn", semantics.processing_time_column),
    )
    for member, name in columns:
        if name == RECEIVED_AT:
            continue
        if name not in contract.by_name:
            message = f"{name} is no field of it. Name a datetime field, or {RECEIVED_AT}."
            yield Problem(f"ingestion.{member}", Code.UNKNOWN_FIELD, message)
        elif contract.by_name[name].type != "datetime":
            message = f"{name} is a {contract.by_name[name].type}. Name a datetime field, or {RECEIVED_AT}."
            yield Problem(f"ingestion.{member}", Code.INVALID_SEMANTICS, message)
    yield from _idempotency(contract, semantics)


def _idempotency(contract: Contract, semantics: IngestionSemantics) -> Problems:
    """Rows are found by their key, so that records are told apart by nothing else."""
    named, key = semantics.idempotency_key, contract.key_fields
    for place, name in enumerate(named):
        if name not in contract.by_name:
            message = f"{name} is no field of it. Add the field, or correct the name."
            yield Problem(f"ingestion.idempotencyKey[{place}]", Code.UNKNOWN_FIELD, message)
        elif name in named[:place]:
            yield Problem(f"ingestion.idempotencyKey[{place}]", Code.DUPLICATE_NAME, f"{name} is named twice.")
    if set(named) != set(key):
        message = f"It names the fields of the key: {', '.join(key)}, not {', '.join(named)}. Change one of the two."
        yield Problem("ingestion.idempotencyKey", Code.INVALID_SEMANTICS, message)


def _indexes(contract: Contract) -> Problems:
    """Each index has a name of its own, not cut off, and rows that a page of it holds."""
    names = _names_of(index_scripts(contract))
    found = Counter([*names, *TAKEN_INDEXES])
    for place, name in enumerate(names):
        # The scripts begin with those of the hot sorts, in their order.
        path = f"hot[{place}]" if place < len(contract.hot) else "hot"
        if len(name) > MAX_IDENTIFIER:
            message = f"Its index would be called {name}, longer than {MAX_IDENTIFIER} characters."
            yield Problem(path, Code.INVALID_NAME, f"{message} Name fewer filters, or call the fields shorter.")
        elif found[name] > 1:
            message = f"An index {name} would be there twice: columns of sorts are called alike when put together."
            yield Problem(path, Code.DUPLICATE_NAME, f"{message} Leave one out, or rename a field.")
    for hot, also in ((hot, landings(contract).get(hot, ())) for hot in sorts(contract)):
        width = sum(_bytes(contract, name) for name in {hot.sort, *hot.filters, *also})
        if width > INDEX_BYTES:
            path = f"hot[{contract.hot.index(hot)}]" if hot in contract.hot else "hot"
            message = (
                f"Its columns have up to {width:,} bytes together, and an index {INDEX_BYTES:,}. Lower a maxLength,"
            )
            yield Problem(path, Code.LIMIT_EXCEEDED, f"{message} or name fewer filters.")


def _names_of(scripts: list[str]) -> list[str]:
    return [name for script in scripts for name in INDEX.findall(script)]


def _bytes(contract: Contract, name: str) -> int:
    """How long a value of the column can be."""
    field = contract.by_name.get(name)
    if field is not None and field.type == "enum":
        return max(len(value.encode()) for value in field.values)
    kind = contract.column_of[name].type if field is None else field.type
    return (field.max_length if field else INDEXED_BYTES) if kind == "text" else 32
