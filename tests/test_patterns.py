"""Every pattern that meets input takes time that grows with the text alone.

What there is, is found in the code; each is run on worst inputs that are derived from its own structure: for every
repeat of it a text of many rounds of that, for every two repeats side by side a text that both can take, each behind
what leads there and before what makes it fail. Processor time of twice the text is at most a little more than twice.
"""

import ast
import importlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from re import _constants as codes
from re import _parser as parser
from typing import Any, NamedTuple

import pytest

from app.contracts.patterns import MAX_WORK, matches, misfit_pattern

ROOT = Path(__file__).parent.parent
# Lengths of texts: a target has at most 16 KB, headers are longer; what is linear up to the last is so in a body.
LENGTHS = (2_000, 20_000, 200_000)
SLOWER = 4  # than what is surely linear, on a machine that is slow itself
NANOSECONDS = 200  # for a character: ten times what most take; the square of 200,000 takes many thousands
SLACK = 0.02  # seconds: a step of a coarse clock, a processor that was lent to others
SURE = re.compile("[a-z]|[0-9]")
REFUSALS = ("\0", "!", "x")
# Calls of re that make, or use, a pattern.
WHOLE = ("match", "fullmatch")
USED_BY_OTHERS = {"app/contracts/odcs/text.py": frozenset({"match"})}  # PyYAML's resolvers match
ANYWHERE = ("search", "sub", "subn", "split", "findall", "finditer")


class Pattern(NamedTuple):
    """A pattern, where it stands, and how it is used: at the beginning of a text, or anywhere in it."""

    place: str
    pattern: str | bytes
    flags: int
    uses: frozenset[str]


def called(node: ast.AST) -> str | None:
    """The method of re that is called."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    whose = node.func.value
    return node.func.attr if isinstance(whose, ast.Name) and whose.id == "re" else None


def value_of(node: ast.expr, module: str) -> Any:
    """A constant expression of a module: literals, f-strings, and names that the module has."""
    names = vars(importlib.import_module(module))
    return eval(compile(ast.Expression(node), module, "eval"), dict(names))  # our own code


def uses_of(place: str, name: str) -> frozenset[str]:
    """How a pattern of that name is used, wherever it is; in every way where that cannot be told."""
    if place in USED_BY_OTHERS:
        return USED_BY_OTHERS[place]
    found = {use for use in (*WHOLE, *ANYWHERE) if any(f"{name}.{use}(" in text for text in SOURCES.values())}
    return frozenset(found or {*WHOLE, "sub"})


def found() -> Iterator[Pattern]:
    """Every pattern of the code."""
    for place, source in SOURCES.items():
        module = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        tree = ast.parse(source)
        names = {
            id(each.value): target.id
            for each in ast.walk(tree)
            if isinstance(each, ast.Assign)
            for target in each.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if (method := called(node)) is not None:
                flags = [*node.args[1:2]] if method == "compile" else []
                flags += [each.value for each in node.keywords if each.arg == "flags"]
                uses = uses_of(place, names.get(id(node), "?")) if method == "compile" else frozenset({method})
                bits = int(value_of(flags[0], module)) if flags else 0
                yield Pattern(f"{place}:{node.lineno}", value_of(node.args[0], module), bits, uses)
            for keyword in node.keywords:
                # A name stands for a pattern of a contract, which RE2 runs, or for what /schema repeats.
                if keyword.arg == "pattern" and not isinstance(keyword.value, ast.Name):
                    pattern = value_of(keyword.value, module)
                    yield Pattern(f"{place}:{node.lineno}", pattern, 0, frozenset({"search"}))


SOURCES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "app").rglob("*.py"))}
INVENTORY = list(found())
IDS = [pattern.place.removeprefix("app/") for pattern in INVENTORY]


# -- worst inputs ------------------------------------------------------------------------------------------------------


def sample(items: Any, groups: dict[int, str]) -> str:
    """A text that a piece of a pattern takes."""
    return "".join(_sample(op, argument, groups) for op, argument in items)


def _sample(op: Any, argument: Any, groups: dict[int, str]) -> str:
    match op:
        case codes.LITERAL:
            return chr(argument)
        case codes.NOT_LITERAL:
            return "a" if argument != ord("a") else "b"
        case codes.ANY:
            return "a"
        case codes.IN:
            return chars_of(argument)[0]
        case codes.BRANCH:
            return sample(argument[1][0], groups)
        case codes.SUBPATTERN:
            text = sample(argument[3], groups)
            groups[argument[0]] = text
            return text
        case codes.MAX_REPEAT | codes.MIN_REPEAT | codes.POSSESSIVE_REPEAT:
            return sample(argument[2], groups) * int(argument[0])
        case codes.ATOMIC_GROUP:
            return sample(argument, groups)
        case codes.GROUPREF:
            return groups.get(argument, "")
    return ""  # anchors and looks


ALPHABET = [chr(each) for each in (*range(0x20, 0x7F), 9, 10, 13, 0, 0xA0, 0xE9, 0x202F, 0x2028, 0x4E00)]


def chars_of(members: Any) -> list[str]:
    """Characters that a set takes."""
    kept = [char for char in ALPHABET if takes(members, ord(char))]
    if not kept:
        op, argument = members[0]
        kept = [chr(argument if op is codes.LITERAL else argument[0])]
    return kept


CATEGORIES: dict[Any, Callable[[str], bool]] = {
    codes.CATEGORY_DIGIT: str.isdigit,
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
}
OPPOSITES = {
    codes.CATEGORY_NOT_DIGIT: codes.CATEGORY_DIGIT,
    codes.CATEGORY_NOT_SPACE: codes.CATEGORY_SPACE,
    codes.CATEGORY_NOT_WORD: codes.CATEGORY_WORD,
}


def takes(members: Any, char: int) -> bool:
    """Whether a set takes the character."""
    negated = bool(members) and members[0][0] is codes.NEGATE
    inside = False
    for op, argument in members:
        if op is codes.LITERAL:
            inside |= char == argument
        elif op is codes.RANGE:
            inside |= argument[0] <= char <= argument[1]
        elif op is codes.CATEGORY:
            opposite = OPPOSITES.get(argument)
            inside |= bool(CATEGORIES[opposite or argument](chr(char))) != (opposite is not None)
    return inside != negated


REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)


def pumps(items: Any, before: str, groups: dict[int, str]) -> Iterator[tuple[str, str]]:
    """What leads to a repeat, and one round of it: of each repeat, of what is in it, and of each choice."""
    for op, argument in items:
        match op:
            case _ if op in REPEATS:
                for one in rounds(argument[2], groups):
                    yield before, one
                yield from pumps(argument[2], before, groups)
            case codes.SUBPATTERN:
                yield from pumps(argument[3], before, groups)
            case codes.ATOMIC_GROUP:
                yield from pumps(argument, before, groups)
            case codes.BRANCH:
                for branch in argument[1]:
                    yield from pumps(branch, before, groups)
            case codes.ASSERT | codes.ASSERT_NOT:
                yield from pumps(argument[1], before, groups)
        before += _sample(op, argument, groups)


def rounds(items: Any, groups: dict[int, str]) -> Iterator[str]:
    """Texts of one round: the shortest one, each choice in it, and single characters that its sets take."""
    yield sample(items, groups)
    for op, argument in items:
        if op is codes.IN:
            chars = chars_of(argument)
            yield from {chars[0], chars[len(chars) // 2], chars[-1]}
        elif op is codes.BRANCH:
            for branch in argument[1]:
                yield sample(branch, groups)
                yield from rounds(branch, groups)
        elif op is codes.SUBPATTERN:
            yield from rounds(argument[3], groups)
        elif op in REPEATS:
            yield sample(argument[2], groups)
            yield from rounds(argument[2], groups)


def worst(pattern: str | bytes, flags: int) -> set[tuple[str, str]]:
    """Beginnings, and what is repeated behind them: a round, or what two repeats have one after the other."""
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    found = {pair for pair in pumps(parser.parse(text, flags), "", {}) if pair[1]}
    ones = sorted({one for _, one in found})
    both = {first + second for first, second in pairwise(ones)}
    return found | {("", one) for one in (*ones, *both)}


def seconds(pattern: re.Pattern[Any], use: str, text: Any) -> float:
    """Processor time of one use, to the last of what is found."""
    began = time.thread_time()
    match use:
        case "sub" | "subn":
            pattern.sub(text[:0], text)
        case "finditer":
            deque(pattern.finditer(text), maxlen=0)
        case _:
            getattr(pattern, use)(text)
    return time.thread_time() - began


def pace() -> float:
    """Nanoseconds that this machine takes now for a character of what is surely linear, each character a match."""
    text = "9a" * 10_000
    return min(seconds(SURE, "findall", text) for _ in range(5)) / len(text) * 1e9


def slow(pattern: re.Pattern[Any], use: str, before: str, one: str, end: str) -> str | None:
    """A text for which the time is beyond its bound, the shorter ones first.

    Processor time is longer, too, where others have emptied the caches: the best of three counts, and what the machine
    does now is asked once a text seems to be beyond.
    """
    for length in LENGTHS:
        text: Any = before + one * (length // len(one)) + end
        if isinstance(pattern.pattern, bytes):
            text = text.encode()
        if seconds(pattern, use, text) <= SLACK + len(text) * NANOSECONDS * 1e-9:
            continue
        bound = SLACK + len(text) * max(NANOSECONDS, SLOWER * pace()) * 1e-9
        if all(seconds(pattern, use, text) > bound for _ in range(3)):
            return f"{use} of {before!r} + {one!r} * {length // len(one)} + {end!r}"
    return None


def slowest(pattern: str | bytes, flags: int, uses: Iterable[str]) -> str | None:
    """The first text of all that is beyond its bound."""
    compiled = re.compile(pattern, flags)
    tried = ((use, *pair, end) for pair in sorted(worst(pattern, flags)) for end in REFUSALS for use in sorted(uses))
    return next((wrong for use, before, one, end in tried if (wrong := slow(compiled, use, before, one, end))), None)


def test_there_are_patterns_to_look_at() -> None:
    assert len(INVENTORY) > 70
    assert {"app/web/middleware.py", "app/contracts/filters.py"} <= {each.place.partition(":")[0] for each in INVENTORY}


@pytest.mark.timed
@pytest.mark.parametrize("pattern", INVENTORY, ids=[pattern.place.removeprefix("app/") for pattern in INVENTORY])
def test_a_pattern_is_linear(pattern: Pattern) -> None:
    wrong = slowest(pattern.pattern, pattern.flags, pattern.uses)
    assert wrong is None, f"{pattern.place}: {pattern.pattern!r}: {wrong}"


@pytest.mark.timed
@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        (r"[+-]?\d*\.?\d+", "fullmatch"),
        (r"a*a*b", "match"),
        (r"(?:\d*,?\d*);", "match"),
        (r"\s+$", "search"),
        (r"[^@]+@[^@]+", "search"),
        (r"(\w*)\s*(\w*)=", "fullmatch"),
    ],
)
def test_the_test_finds_what_is_not(pattern: str, use: str) -> None:
    assert slowest(pattern, 0, [use]) is not None


# -- patterns of contracts ---------------------------------------------------------------------------------------------


@pytest.mark.timed
@pytest.mark.parametrize("pattern", [r"(a+)+", r"(a|a)*b", r"(a*)*c", r"a*a*a*a*a*b", r"(\w+\s?)*;"])
def test_a_pattern_of_a_contract_cannot_go_back(pattern: str) -> None:
    """RE2 runs them, whoever wrote them, on no more text than a field takes."""
    assert misfit_pattern(pattern, 10_000) is None
    text = "a" * 10_000 + "!"
    began = time.thread_time()
    assert not matches(pattern, text)
    assert time.thread_time() - began < MAX_WORK * 1e-8


def test_sql_has_no_pattern_of_a_caller() -> None:
    """Those of statements are constants; PostgreSQL's engine has no bound of its own for one that somebody brings. A
    word that is sought is none: `search_pattern` takes it as it stands.
    """
    for path in sorted((ROOT / "sql").rglob("*.sql")):
        text = re.sub(r"--.*", "", path.read_text())
        for operator in re.finditer(r"(?:!?~\*?|\bSIMILAR TO|\bI?LIKE)\s+(\S+)", text):
            constant = operator[1].startswith(("'", "(", "vanguard.search_pattern("))
            assert constant, f"{path.name}: {operator[0]}"
