"""YAML as JSON has it: bounded, without tags, dates and words that YAML takes for something else."""

import re
from collections.abc import Hashable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from app.base.errors import Code
from app.contracts.bounds import refuse_any
from app.contracts.soundness import Problem

MAX_BYTES = 512 * 1024
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_NUMBER = 60

STRING, NUMBER, INTEGER = (f"tag:yaml.org,2002:{name}" for name in ("str", "float", "int"))
BREAKS = re.compile("[\n\r\x85\u2028\u2029]")
# The scalars of YAML 1.2's core schema that JSON has, too.
RESOLVERS = (
    ("bool", re.compile(r"(?:true|false)\Z"), "tf"),
    ("null", re.compile(r"(?:null|~|)\Z"), ["n", "~", ""]),
    ("int", re.compile(r"[-+]?[0-9]+\Z"), "-+0123456789"),
    ("float", re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"), "-+.0123456789"),
)


class _Loader(yaml.CSafeLoader):
    """Reads what JSON can hold, numbers with a fraction as Decimal; a member comes once."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own form

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The members of an object."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != STRING:
                raise yaml.constructor.ConstructorError(None, None, "the name of a member is a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} comes twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | Decimal:
        """Of few enough digits that reading them takes no time."""
        try:
            if len(node.value) <= MAX_NUMBER:
                return int(node.value) if node.tag == INTEGER else Decimal(node.value)
        except (ValueError, InvalidOperation):
            pass
        raise yaml.constructor.ConstructorError(None, None, f"{node.value[:20]!r} is no number here", node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes what any YAML would take for something else than a text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whatever stands twice is written twice."""
        return True


for _name, _pattern, _first in RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, list(_first))
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, list(_first))
for _tag in (NUMBER, INTEGER):
    _Loader.add_constructor(_tag, _Loader.construct_number)


def _write_decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    text = f"{value:f}"
    return dumper.represent_scalar(NUMBER, text if "." in text else f"{text}.0")


def _write_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """In double quotes where it has what a reader would take for the end of a line."""
    return dumper.represent_scalar(STRING, value, style='"' if BREAKS.search(value) else None)


_Dumper.add_representer(Decimal, _write_decimal)
_Dumper.add_representer(str, _write_text)


def write_yaml(document: Any) -> str:
    """The document as YAML, members in their order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def read_yaml(text: str) -> Any:
    """The value of one YAML document; raises ValidationFailed where it is none, or beyond bounds."""
    try:
        if len(text.encode()) > MAX_BYTES:
            refuse_any([Problem("", Code.LIMIT_EXCEEDED, f"A document has at most {MAX_BYTES:,} bytes.")])
        refuse_any([*_unbounded(text)])
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader
    except UnicodeEncodeError:
        refuse_any([Problem("", Code.INVALID_CONTRACT, "Half of a surrogate pair is no character.")])
    except yaml.YAMLError as error:
        refuse_any([Problem("", Code.INVALID_CONTRACT, f"This is no YAML that can be read: {_words(error)}.")])


def _words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{place}"


def _unbounded(text: str) -> Iterator[Problem]:
    """Count nodes and depth by the parser's events, an alias as all that it stands for; nothing is built."""
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    nodes = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                yield Problem("", Code.INVALID_CONTRACT, f"*{event.anchor} stands in itself, or for nothing.")
                return
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(opened) > MAX_DEPTH or nodes > MAX_NODES:
            message = f"A document has at most {MAX_NODES:,} values, aliases written out, nested {MAX_DEPTH} deep."
            yield Problem("", Code.LIMIT_EXCEEDED, message)
            return
