"""What is different between two versions of a contract, how bad that is, and which version may say so.

Fields are known by their ids where the newer contract says them, else by their names. What names a renamed field is
compared as if it named the new one, so that a rename is one change.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import msgspec

from app.base import exact_json
from app.base.errors import Code
from app.contracts.expressions import renamed
from app.contracts.findings import BLOCKING
from app.contracts.model import Computed, Contract, Field, Measure
from app.contracts.registration import plain_name, wire
from app.contracts.rule_types import NotNull, Required, Rule, fields_of, type_of
from app.contracts.soundness import Problem

T = TypeVar("T")


class Kind(StrEnum):
    """What sort of change it is; CHANGE is any other member of any part."""

    ADD = "ADD"
    REMOVE = "REMOVE"
    RENAME = "RENAME"
    TYPE_CHANGE = "TYPE_CHANGE"
    VALUES_CHANGE = "VALUES_CHANGE"
    LIMIT_CHANGE = "LIMIT_CHANGE"
    KEY_CHANGE = "KEY_CHANGE"
    INGESTION_CHANGE = "INGESTION_CHANGE"
    CHANGE = "CHANGE"


class Compatibility(StrEnum):
    """How bad a change is, least first."""

    COMPATIBLE = "COMPATIBLE"
    WARNING = "WARNING"
    BREAKING = "BREAKING"

    @property
    def rank(self) -> int:
        """To compare by."""
        return [*Compatibility].index(self)


class Judgement(NamedTuple):
    """Why a change is as bad as it is. `backward`: rows of before fit the newer contract; `forward`: who reads by the
    older contract can read rows of the newer one.
    """

    severity: Compatibility
    backward: bool
    forward: bool
    rule: str
    remedy: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One difference. `path` leads into the newer contract, that of something removed into the older one; `old` and
    `new` are what stands there, null where nothing does.
    """

    kind: Kind
    path: str
    field_id: int | None
    old: Any
    new: Any
    severity: Compatibility
    backward: bool
    forward: bool
    rule: str
    remedy: str

    @property
    def words(self) -> str:
        """The change in a sentence, with how to make it pass."""
        old, new = (exact_json.encode(each).decode()[:200] for each in (self.old, self.new))
        return f"{self.rule} It was {old} and is {new}. {self.remedy}".rstrip()


class Comparison(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All that is different; `severity` is that of the worst change, COMPATIBLE where there is none."""

    from_version: str
    to_version: str
    severity: Compatibility
    backward: bool
    forward: bool
    changes: tuple[Change, ...]

    @property
    def narrowed(self) -> tuple[Change, ...]:
        """Those that rows of before may violate: what they come to is seen by counting."""
        return tuple(change for change in self.changes if change.severity is Compatibility.WARNING)


COMPATIBLE, WARNING, BREAKING = Compatibility
MAJOR = "Declare a new major version."
COUNT = "Declare a new major version, or mend the rows that do not fit."

FINE = Judgement(COMPATIBLE, True, True, "This changes no value.")
ADDED = Judgement(COMPATIBLE, True, True, "A nullable field is added.")
ADDED_REQUIRED = Judgement(WARNING, False, True, "A required field is added, and rows of before have no value.", COUNT)
REMOVED = Judgement(BREAKING, True, False, "A field is removed.", f"Keep it, or: {MAJOR}")
RENAMED = Judgement(BREAKING, False, False, "A field is renamed.", f"Change its label instead, or: {MAJOR}")
WIDENED = Judgement(COMPATIBLE, True, False, "Every value of before is still one.")
NARROWED = Judgement(WARNING, False, True, "Values of before may not be ones any more.", COUNT)
EXCHANGED = NARROWED._replace(forward=False)
RETYPED = Judgement(
    BREAKING, False, False, "A value of the one type is none of the other.", f"Add a field, or: {MAJOR}"
)
DERIVED = Judgement(BREAKING, False, True, "Rows of before hold what was derived otherwise.", MAJOR)
REKEYED = Judgement(BREAKING, False, False, "Rows are known by something else.", MAJOR)
SENT_OTHERWISE = Judgement(BREAKING, False, False, "Records become rows in another way.", MAJOR)
MOVED = Judgement(BREAKING, False, False, "It would be another dataset.", "Register it under a name of its own.")

# The closed list of types that take in all values of another; a date is no moment.
WIDENINGS = frozenset({("integer", "number")})


def compare(old: Contract, new: Contract) -> Comparison:
    """Every difference but for version and schema, in the order of the newer contract's members."""
    origin = _origin(old, new)
    names = {was.name: name for name, was in origin.items() if was is not None}
    changes = tuple(_changes(_Pair(old, new, origin, names)))
    return Comparison(
        from_version=old.version,
        to_version=new.version,
        severity=max((change.severity for change in changes), key=lambda each: each.rank, default=COMPATIBLE),
        backward=all(change.backward for change in changes),
        forward=all(change.forward for change in changes),
        changes=changes,
    )


def may_apply(comparison: Comparison, declared: str, *, fits: bool = False) -> list[Problem]:
    """Why the declared version cannot be the next one, or cannot make these changes; `fits`: no row of before violates
    what is narrowed.
    """
    major, minor = (int(part) for part in comparison.from_version.split("."))
    following = {f"{major}.{minor + 1}": False, f"{major + 1}.0": True}
    if declared not in following:
        message = f"After {comparison.from_version} comes {' or '.join(following)}, not {declared}."
        return [Problem("version", Code.INVALID_VERSION, message)]
    if following[declared]:
        return []
    allowed = (COMPATIBLE, WARNING) if fits else (COMPATIBLE,)
    return [
        Problem(change.path, Code.INCOMPATIBLE_CHANGE, change.words)
        for change in comparison.changes
        if change.severity not in allowed
    ]


class _Pair(NamedTuple):
    """Two contracts. `origin`: name in the newer -> the field that it was; `names`: name of before -> name of now."""

    old: Contract
    new: Contract
    origin: Mapping[str, Field | None]
    names: Mapping[str, str]


Changes = Iterator[Change]


def change_of(kind: Kind, path: str, old: Any, new: Any, why: Judgement, field_id: int | None = None) -> Change:
    """A change that is judged so; parts of contracts are told as JSON has them."""
    return Change(
        kind=kind,
        path=path,
        field_id=field_id,
        old=wire(old),
        new=wire(new),
        severity=why.severity,
        backward=why.backward,
        forward=why.forward,
        rule=why.rule,
        remedy=why.remedy,
    )


def _changes(pair: _Pair) -> Changes:
    yield from _whole(pair)
    yield from _fields(pair)
    yield from _computed(pair)
    yield from _parts(pair, "hot", lambda hot: (hot.sort, hot.descending, hot.filters))
    yield from _parts(pair, "rules", lambda rule: rule.id)
    for member in ("atomic_groups", "measures", "derived", "bounds", "exclusions"):
        yield from _parts(pair, member, lambda part: part.name)
    yield from _ingestion(pair)


WHOLE = {
    "upstream": MOVED,
    "functions": SENT_OTHERWISE,
    "read_only": SENT_OTHERWISE,
    "title": FINE,
    "source": FINE,
    "schema_contract": FINE,
    "max_quarantined": FINE,
}


def _whole(pair: _Pair) -> Changes:
    names = plain_name(pair.old), plain_name(pair.new)
    if len({*names}) > 1:
        yield change_of(Kind.CHANGE, "name", *names, MOVED)
    for member, why in WHOLE.items():
        was, now = getattr(pair.old, member), getattr(pair.new, member)
        if was != now:
            yield change_of(Kind.CHANGE, _camel(Contract, member), was, now, why)
    was, now = tuple(pair.names.get(name, name) for name in pair.old.key_fields), pair.new.key_fields
    if was != now:
        yield change_of(Kind.KEY_CHANGE, "key", pair.old.key, pair.new.key, REKEYED)


def _fields(pair: _Pair) -> Changes:
    for place, now in enumerate(pair.new.fields):
        was = pair.origin[now.name]
        if was is None:
            why = ADDED_REQUIRED if now.name in _required(pair.new) else ADDED
            yield change_of(Kind.ADD, f"fields[{place}]", None, now, why, now.id)
        else:
            yield from _field(was, renamed_part(was, pair.names), now, f"fields[{place}]")
    kept = {was.name for was in pair.origin.values() if was is not None}
    for place, was in enumerate(pair.old.fields):
        if was.name not in kept:
            yield change_of(Kind.REMOVE, f"fields[{place}]", was, None, REMOVED, was.id)


def _field(was: Field, then: Field, now: Field, path: str) -> Changes:
    """`then` is the field of before, with today's names of those that it names."""
    known = was.id if was.id is not None else now.id
    if was.name != now.name:
        yield change_of(Kind.RENAME, f"{path}.name", was.name, now.name, RENAMED, known)
    if was.type != now.type:
        yield change_of(Kind.TYPE_CHANGE, f"{path}.type", was.type, now.type, retyped(was.type, now.type), known)
    for member in Field.__struct_fields__:
        old, new = getattr(then, member), getattr(now, member)
        if member in ("name", "type", "id") or old == new:
            continue
        if member == "values" and was.type != now.type:
            continue  # the type says it
        kind, why = _judged(member, old, new, now)
        yield change_of(kind, f"{path}.{_camel(Field, member)}", getattr(was, member), new, why, known)


def _judged(member: str, old: Any, new: Any, field: Field) -> tuple[Kind, Judgement]:
    match member:
        case "values":
            return Kind.VALUES_CHANGE, _bounded(set(old) <= set(new), set(new) <= set(old))
        case "max_length" if field.type == "text":
            return Kind.LIMIT_CHANGE, WIDENED if new > old else NARROWED
        case "minimum":
            return Kind.LIMIT_CHANGE, WIDENED if new is None or (old is not None and new < old) else NARROWED
        case "maximum" | "scale":
            return Kind.LIMIT_CHANGE, WIDENED if new is None or (old is not None and new > old) else NARROWED
        case "derived_from":
            return Kind.CHANGE, DERIVED
    return Kind.CHANGE, FINE


def _bounded(all_stay: bool, none_come: bool) -> Judgement:
    """Values, of which all of before stay, or none come; both where only the order is another one."""
    if all_stay:
        return FINE if none_come else WIDENED
    return NARROWED if none_come else EXCHANGED


def retyped(old: str, new: str) -> Judgement:
    """How bad it is that values of the one type become values of the other."""
    if (old, new) in WIDENINGS:
        return WIDENED
    if (new, old) in WIDENINGS:
        return NARROWED
    # Each value of an enum is a text, though an index and a rule see another type.
    return RETYPED._replace(backward=(old, new) == ("enum", "text"), forward=(old, new) == ("text", "enum"))


def _required(contract: Contract) -> set[str]:
    """The fields that some or all rows cannot be committed without."""
    found: set[str] = set()
    for rule in (rule for rule in contract.rules if rule.severity in BLOCKING):
        match rule:
            case Required(fields=fields):
                found |= {*fields}
            case NotNull(field=field):
                found.add(field)
    return found


def _computed(pair: _Pair) -> Changes:
    before = {item.name: (place, renamed_part(item, pair.names)) for place, item in enumerate(pair.old.computed)}
    for place, now in enumerate(pair.new.computed):
        path = f"computed[{place}]"
        if now.name not in before:
            yield change_of(Kind.ADD, path, None, now, ADDED)
            continue
        was = before.pop(now.name)[1]
        if was.type != now.type:
            yield change_of(Kind.TYPE_CHANGE, f"{path}.type", was.type, now.type, retyped(was.type, now.type))
        for member in Computed.__struct_fields__:
            old, new = getattr(was, member), getattr(now, member)
            if member != "type" and old != new:
                yield change_of(Kind.CHANGE, f"{path}.{_camel(Computed, member)}", old, new, FINE)
    for place, was in before.values():
        yield change_of(Kind.REMOVE, f"computed[{place}]", was, None, REMOVED)


def _parts(pair: _Pair, member: str, known_by: Callable[[Any], Hashable]) -> Changes:
    """Parts of a list, whose order says nothing: no value is changed by any of them."""
    shown = _camel(Contract, member)
    before = {}
    for place, part in enumerate(getattr(pair.old, member)):
        was = renamed_part(part, pair.names)
        before[known_by(was)] = (place, was)
    for place, now in enumerate(getattr(pair.new, member)):
        _, was = before.pop(known_by(now), (0, None))
        if was != now:
            kind = Kind.ADD if was is None else Kind.CHANGE
            yield change_of(kind, f"{shown}[{place}]", was, now, FINE)
    for place, was in before.values():
        yield change_of(Kind.REMOVE, f"{shown}[{place}]", was, None, FINE)


# What decides whether a record is a row, and which one.
DECIDING = frozenset({"mode", "idempotency_key", "event_time_column"})


def _ingestion(pair: _Pair) -> Changes:
    was, now = pair.old.ingestion, pair.new.ingestion
    if was is None or now is None:
        if was is not now:
            yield change_of(Kind.INGESTION_CHANGE, "ingestion", was, now, SENT_OTHERWISE)
        return
    then = renamed_part(was, pair.names)
    for member in now.__struct_fields__:
        if getattr(then, member) != getattr(now, member):
            why = SENT_OTHERWISE if member in DECIDING else FINE
            path = f"ingestion.{_camel(type(now), member)}"
            yield change_of(Kind.INGESTION_CHANGE, path, getattr(was, member), getattr(now, member), why)


# --- what is called otherwise


def _origin(old: Contract, new: Contract) -> dict[str, Field | None]:
    """Name in the newer contract -> the field that it was. Who has an id is known by nothing else; a field that was
    dropped and comes again under its name is another one.
    """
    known = {field.id: field for field in old.fields if field.id is not None}
    claimed = {field.id for field in new.fields if field.id is not None}
    named = {field.name: field for field in old.fields if field.id is None or field.id not in claimed}
    return {
        field.name: named.get(field.name) if field.id is None or not known else known.get(field.id)
        for field in new.fields
    }


# The members of parts that name fields, and nothing else.
NAMING = (
    "sort filters fields first second when field reads present derived_from idempotency_key event_time_column "
    "processing_time_column"
).split()


def renamed_part(part: T, names: Mapping[str, str]) -> T:
    """The part with today's names of the fields that it names."""
    if not isinstance(part, msgspec.Struct) or all(name == now for name, now in names.items()):
        return part
    naming = {*NAMING, *(("of",) if isinstance(part, Measure) else ())} & {*part.__struct_fields__}
    changes: dict[str, Any] = {member: _names(getattr(part, member), names) for member in naming}
    if isinstance(expression := getattr(part, "expression", None), str):
        changes["expression"] = renamed(expression, names)
    found = msgspec.structs.replace(part, **changes)
    if isinstance(part, Rule) and isinstance(found, Rule):
        made, now = (f"{type_of(rule)}:{','.join(fields_of(rule))}" for rule in (part, found))
        if part.id == made or part.id.startswith(f"{made}:"):
            found = msgspec.structs.replace(found, id=now + part.id.removeprefix(made))
    return found


def _names(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, tuple):
        return tuple(names.get(name, name) for name in value)
    return value if value is None else names.get(value, value)


def _camel(kind: type[msgspec.Struct], member: str) -> str:
    """The member's name on the wire."""
    return kind.__struct_encode_fields__[kind.__struct_fields__.index(member)]
