"""A document of the standard as what registers: a contract in JSON, and notes on what was left out or made of it."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from app.base import exact_json
from app.base.errors import Code
from app.contracts.bounds import MAX_TOLD, refuse_any
from app.contracts.odcs.text import read_yaml
from app.contracts.odcs.words import STATUS, own
from app.contracts.soundness import RESERVED, Problem
from app.contracts.states import DatasetState
from app.contracts.values import MAX_INTEGER, has_type

# The standard's types that have one of ours; a time of day is a text.
TYPES = {
    "string": "text",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "datetime",
    "time": "text",
}
# What is read of a document, of an object and of a property; anything else is noted as left out.
READ = frozenset({"apiVersion", "kind", "id", "name", "version", "status", "schema", "customProperties"})
READ_OF_OBJECT = frozenset({"id", "name", "businessName", "logicalType", "properties", "customProperties"})
READ_OF_PROPERTY = frozenset(
    """id name businessName description logicalType logicalTypeOptions required unique primaryKey primaryKeyPosition
    transformLogic enum quality customProperties""".split()
)
# What says nothing where it is said: the standard's own defaults.
SILENT: tuple[Any, ...] = (None, "", [], {}, False, -1)
NAME = re.compile(r"[a-z][A-Za-z0-9]{0,39}")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What became of something in the document; `path` leads to it there."""

    path: str
    message: str


def from_odcs(text: str, name: str | None = None) -> tuple[dict[str, Any], list[Note]]:
    """The contract as read_registration takes it, and notes; `name` picks one of several objects.

    Raises ValidationFailed where the text is no YAML, or no document of the standard.
    """
    document = read_yaml(text)
    refuse_any([*islice(_invalid(document), MAX_TOLD + 1)])
    place, chosen = _chosen(document, name)
    reading = _Reading(chosen, f"schema[{place}]")
    reading.leave_out(document, READ, "")
    reading.leave_out(chosen, READ_OF_OBJECT, reading.path)
    reading.state(document.get("status"))
    words = own(document)
    made = reading.contract()
    rules = [*words.get("rules", []), *reading.rules(words.get("rules", []))]
    found = words | made | {"version": reading.version(document["version"])}
    found["title"] = document.get("name", chosen.get("businessName", chosen["name"]))
    if "ingestion" not in words:
        message = "The standard has no semantics of ingestion, which have to be said. Add a customProperty of the"
        reading.note("customProperties", f"{message} vendor vanguard, `ingestion`, with all six members.")
    return found | ({"rules": rules} if rules else {}), reading.notes


@cache
def _validator() -> Any:
    return jsonschema_rs.validator_for(exact_json.decode(files(__package__).joinpath("schema.json").read_bytes()))


def _invalid(document: Any) -> Iterator[Problem]:
    """What the standard's own schema says, once for each place."""
    told: set[tuple[str, str]] = set()
    for error in _validator().iter_errors(document):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        problem = Problem(path.lstrip("."), Code.INVALID_CONTRACT, f"The standard's schema says: {error.message[:300]}")
        if problem[::2] not in told:
            told.add((problem.path, problem.message))
            yield problem
    if isinstance(document, Mapping) and str(document.get("apiVersion")).startswith("v2"):
        yield Problem("apiVersion", Code.INVALID_CONTRACT, "Of the standard, 3.x is read.")


def _chosen(document: Mapping[str, Any], name: str | None) -> tuple[int, dict[str, Any]]:
    objects = document.get("schema") or []
    found = [(place, each) for place, each in enumerate(objects) if name is None or each["name"] == name]
    if len(found) != 1:
        names = ", ".join(each["name"] for each in objects)
        message = f"A contract is about one object. Name one of: {names or 'none, for there is none'}."
        refuse_any([Problem("schema", Code.INVALID_CONTRACT, message)])
    return found[0]


def _camel(name: str) -> str:
    """A name as ours are: rcvr_cntry_code -> rcvrCntryCode."""
    if NAME.fullmatch(name):
        return name
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name) or ["field"]
    made = words[0].lower() + "".join(word[:1].upper() + word[1:].lower() for word in words[1:])
    return (made if made[0].isalpha() else f"f{made}")[:40]


class _Reading:
    """One object on its way; what is noted is collected."""

    def __init__(self, chosen: Mapping[str, Any], path: str):
        self.chosen = chosen
        self.path = path
        self.notes: list[Note] = []
        self.properties: list[Mapping[str, Any]] = chosen.get("properties") or []
        self.names = [self._name(prop["name"], place) for place, prop in enumerate(self.properties)]

    def note(self, path: str, message: str) -> None:
        self.notes.append(Note(path=path, message=message))

    def at(self, place: int, member: str = "") -> str:
        return f"{self.path}.properties[{place}]" + (f".{member}" if member else "")

    def leave_out(self, part: Mapping[str, Any], read: frozenset[str], path: str) -> None:
        """Note what is not read, but for what says nothing."""
        left = [word for word, value in part.items() if word not in read and value not in SILENT]
        if left:
            self.note(path, f"Here is nothing for these, which are left out: {', '.join(left)}.")
        foreign = [each["property"] for each in part.get("customProperties") or [] if each.get("vendor") != "vanguard"]
        if foreign:
            where = f"{path}.customProperties".lstrip(".")
            self.note(where, f"Words of others are left out: {', '.join(foreign)[:200]}.")

    def state(self, status: str | None) -> None:
        if status is not None and status not in ("proposed", STATUS[DatasetState.SHADOW]):
            self.note("status", f"{status[:40]}: a registered contract begins in SHADOW, whatever it was elsewhere.")

    def version(self, text: str) -> str:
        """Ours has no patch."""
        found = re.fullmatch(r"v?([0-9]+\.[0-9]+)\.[0-9]+", text)
        if found is None:
            return text
        self.note("version", f"{text} is {found[1]} here: versions are major.minor.")
        return found[1]

    def contract(self) -> dict[str, Any]:
        """Name, key, fields and computed columns."""
        fields, computed = [], []
        for place, prop in enumerate(self.properties):
            self.leave_out(prop, READ_OF_PROPERTY, self.at(place))
            if own(prop).get("computed") is True:
                computed.append(self._computed(prop, place))
            elif (found := self._field(prop, place)) is not None:
                fields.append(found)
        name = re.sub(r"[^a-z0-9_]", "_", self.chosen["name"].lower())[:40]
        if name != self.chosen["name"]:
            self.note(f"{self.path}.name", f"It is called {name} here: small letters, digits and _.")
        key = self._key()
        return (
            {"name": name, "fields": fields}
            | ({"key": key} if key else {})
            | ({"computed": computed} if computed else {})
        )

    def rules(self, given: list[Any]) -> Iterator[dict[str, Any]]:
        """What properties demand and no rule of `given` says already."""
        said = {
            (rule.get("type"), name)
            for rule in given
            if isinstance(rule, Mapping)
            for name in (rule.get("field"), *(rule.get("fields") or ()))
        }
        for place, (prop, name) in enumerate(zip(self.properties, self.names, strict=True)):
            if own(prop).get("computed") is True or prop.get("logicalType", "string") not in TYPES:
                continue
            nulls = [each for each in prop.get("quality") or [] if _no_nulls(each)]
            if (prop.get("required") or nulls) and not {("not_null", name), ("required", name)} & said:
                yield {"type": "not_null", "field": name}
            if prop.get("unique") and not prop.get("primaryKey") and ("unique", name) not in said:
                yield {"type": "unique", "field": name}
            for check in prop.get("quality") or []:
                if not _no_nulls(check):
                    self.note(
                        self.at(place, "quality"), "Of checks, `nullValues mustBe 0` is read; others are left out."
                    )
            yield from self._options(prop, name, place)

    def _name(self, name: str, place: int) -> str:
        made = _camel(name)
        if made in RESERVED:
            made = _camel(f"{self.chosen['name']}_{made}")
        if made != name:
            self.note(self.at(place, "name"), f"{name[:80]} is called {made} here.")
        return made

    def _field(self, prop: Mapping[str, Any], place: int) -> dict[str, Any] | None:
        logical = prop.get("logicalType")
        if logical is None:
            self.note(self.at(place), "It has no logicalType, and is a text.")
        if logical not in TYPES and logical is not None:
            self.note(self.at(place), f"There is no type {logical} here; the property is left out.")
            return None
        kind = TYPES[logical or "string"]
        found = self._labelled(prop, place) | {"type": kind} | own(prop)
        options = prop.get("logicalTypeOptions") or {}
        bounds = ("minimum", "maximum") if kind in ("number", "integer") else ("maxLength",) if kind == "text" else ()
        found |= {word: int(options[word]) for word in bounds if word in options and _whole(options[word])}
        if prop.get("enum") and kind == "text":
            found |= {"type": "enum", "values": [each["value"] for each in prop["enum"]]}
            if any(each.keys() - {"value"} for each in prop["enum"]):
                self.note(self.at(place, "enum"), "Of values, the values are read; their words are left out.")
        if prop.get("unique") and not prop.get("primaryKey"):
            found.setdefault("indexed", True)
        if prop.get("primaryKey"):
            found["editable"] = False
        if logical == "time":
            self.note(self.at(place), "A time of day is a text here.")
        return found

    def _computed(self, prop: Mapping[str, Any], place: int) -> dict[str, Any]:
        logic = {"expression": prop["transformLogic"]} if "transformLogic" in prop else {}
        more = {word: value for word, value in own(prop).items() if word != "computed"}
        return self._labelled(prop, place) | {"type": TYPES.get(prop.get("logicalType", ""), "text")} | logic | more

    def _labelled(self, prop: Mapping[str, Any], place: int) -> dict[str, Any]:
        label = prop.get("businessName") or (prop["name"] if self.names[place] != prop["name"] else "")
        said = {"label": label, "description": prop.get("description")}
        return {"name": self.names[place]} | {word: text for word, text in said.items() if text}

    def _key(self) -> str | list[str] | None:
        """The primary key; several fields in their positions."""
        keys = [
            (prop.get("primaryKeyPosition", -1), place)
            for place, prop in enumerate(self.properties)
            if prop.get("primaryKey")
        ]
        names = [self.names[place] for _, place in sorted(keys)]
        if not names:
            self.note(f"{self.path}.properties", "None is a primaryKey, and a contract has a key.")
            return None
        return names[0] if len(names) == 1 else names

    def _options(self, prop: Mapping[str, Any], name: str, place: int) -> Iterator[dict[str, Any]]:
        """Patterns and ranges that are rules here."""
        options, kind = prop.get("logicalTypeOptions") or {}, TYPES[prop.get("logicalType", "string")]
        left = {word for word, value in options.items() if value not in SILENT} - {"maxLength"}
        if "pattern" in left:
            left.discard("pattern")
            self.note(
                self.at(place, "logicalTypeOptions.pattern"), "It is read as RE2 has it, and is about the whole text."
            )
            yield {"type": "regex", "field": name, "pattern": options["pattern"]}
        bounds = {word: options[word] for word in ("minimum", "maximum") if word in left}
        if kind in ("number", "integer"):
            left -= bounds.keys()
            bounds = {word: value for word, value in bounds.items() if not _whole(value)}
        elif kind == "date" and all(has_type("date", value) for value in bounds.values()):
            left -= bounds.keys()
        else:
            bounds = {}
        if bounds:
            yield {"type": "range", "field": name} | {word[:3]: value for word, value in bounds.items()}
        if left:
            where = self.at(place, "logicalTypeOptions")
            self.note(where, f"Here is nothing for these, which are left out: {', '.join(sorted(left))}.")


def _no_nulls(check: Mapping[str, Any]) -> bool:
    return check.get("metric") == "nullValues" and check.get("mustBe") == 0 and check.get("unit", "rows") == "rows"


def _whole(value: Any) -> bool:
    """Whether it can be a bound of a field; others are those of a rule."""
    return isinstance(value, int | Decimal) and -MAX_INTEGER <= value <= MAX_INTEGER and value == int(value)
