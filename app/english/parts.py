"""What the parser makes of each rule of the grammar, while it goes along: no tree is walked, however deep."""

import re
from typing import Any, NamedTuple

from lark import Token, Transformer

from app.english.conditions import Group, Leaf, Negation, Tree
from app.english.misfit import Misfit
from app.english.sentences import Count, Item, Joined, Key, Name, Sentence, Value

# What the words that compare with a value say.
OPERATORS = {
    "is": "eq",
    "equals": "eq",
    "=": "eq",
    "is not": "ne",
    "!=": "ne",
    "<>": "ne",
    "not": "ne",
    "above": "gt",
    "over": "gt",
    "greater than": "gt",
    "more than": "gt",
    ">": "gt",
    "at least": "gte",
    ">=": "gte",
    "below": "lt",
    "under": "lt",
    "less than": "lt",
    "<": "lt",
    "at most": "lte",
    "<=": "lte",
    "contains": "contains",
    "starts with": "startswith",
    # Of dates and moments; reading makes comparisons of them.
    "after": "after",
    "since": "since",
    "before": "before",
    "until": "until",
}
MAX_DIGITS = 9
QUOTES = "; where it is part of a name or a value, put that in quotes"
SPACES = re.compile(r"\s+")


class Parts(Transformer[Token, Any]):
    """A method a rule; docs/english.md says what each means."""

    def name(self, words: list[Token]) -> Name:
        return Name(*_joined(words))

    def value(self, words: list[Token]) -> Value:
        return Value(*_joined(words), grouped=len(words) == 1 and words[0].type == "GROUPED")

    def literal(self, words: list[Token]) -> Value:
        return Value(*_joined(words))

    def bare(self, parts: list[Any]) -> Item:
        name, _, alias = parts
        return Item("", name, alias, name.place)

    def figure(self, parts: list[Any]) -> Item:
        function, name, _, alias = parts
        return Item(_plain(function), name, alias, start(function))

    def rows(self, parts: list[Any]) -> Item:
        counted, _, alias = parts
        return Item("number of", None, alias, start(counted))

    def items(self, parts: list[Any]) -> tuple[Item, ...]:
        return tuple(part for part in parts if isinstance(part, Item))

    def key(self, parts: list[Any]) -> Key:
        item, direction = parts
        return Key(item, direction is not None and direction.type == "DESCENDING")

    def joined(self, parts: list[Any]) -> Joined:
        matching, dataset, _, alias, _, origin, _, join = parts
        return Joined(dataset, matching is not None, alias, origin, join and Name(*_joined([join])))

    def compared(self, parts: list[Any]) -> Tree:
        name, operator, value = parts
        return Leaf(name, OPERATORS[_plain(operator).removeprefix("is ") or "is"], value)

    def listed(self, parts: list[Any]) -> Tree:
        name, operator, values = parts
        return Leaf(name, "in" if operator.type == "AMONG" else "nin", values)

    def empty(self, parts: list[Any]) -> Tree:
        name, operator = parts
        return Leaf(name, "isnull", operator.type == "EMPTY")

    def between(self, parts: list[Any]) -> Tree:
        name, _, least, _, most = parts
        return Group("between", (Leaf(name, "gte", least), Leaf(name, "lte", most)))

    def values(self, parts: list[Any]) -> tuple[Value, ...]:
        found = tuple(part for part in parts if isinstance(part, Value))
        for value in found:
            if value.grouped:
                message = "in a list, a comma stands between values: write a number without commas, 1000 for 1,000"
                raise Misfit(message, value.text, value.place)
        return found

    def both(self, parts: list[Any]) -> Tree:
        return Group("and", tuple(parts[::2]))

    def either(self, parts: list[Any]) -> Tree:
        return Group("or", tuple(parts[::2]))

    def negated(self, parts: list[Any]) -> Tree:
        return Negation(parts[1])

    def inner(self, parts: list[Any]) -> Tree:
        tree: Tree = parts[1]
        return tree

    def asked(self, parts: list[Any]) -> Sentence:
        verb, items = parts
        return Sentence(verb is not None and _plain(verb).startswith("list"), False, items, None)

    def everything(self, parts: list[Any]) -> Sentence:
        return Sentence(True, True, (), None)

    def ranked(self, parts: list[Any]) -> Sentence:
        _, end, number, items = parts
        return Sentence(False, False, items, _count(end, number))

    def by(self, parts: list[Any]) -> "_Clause":
        return _Clause("by", parts[1], parts[0])

    def dataset(self, parts: list[Any]) -> "_Clause":
        return _Clause("dataset", parts[1], parts[0])

    def joins(self, parts: list[Any]) -> "_Clause":
        return _Clause("joins", tuple(part for part in parts if isinstance(part, Joined)), parts[0])

    def where(self, parts: list[Any]) -> "_Clause":
        return _Clause("where", parts[1], parts[0])

    def order(self, parts: list[Any]) -> "_Clause":
        return _Clause("order", tuple(part for part in parts if isinstance(part, Key)), parts[0])

    def count(self, parts: list[Any]) -> "_Clause":
        return _Clause("limit", _count(*parts), parts[0])

    def start(self, parts: list[Any]) -> Sentence:
        sentence, *clauses = parts
        said: dict[str, Any] = {}
        for clause in clauses:
            if clause.part in said:
                raise Misfit(f"{_plain(clause.word)} stands here a second time{QUOTES}", *shown(clause.word))
            said[clause.part] = clause.value
        found: Sentence = sentence._replace(**said)
        return found


class _Clause(NamedTuple):
    """What a clause says about a part of the sentence, and the word that it begins with."""

    part: str
    value: Any
    word: Token


def start(token: Token) -> int:
    return token.start_pos or 0


def _plain(token: Token) -> str:
    """A word of the grammar in small letters, with one blank between its words."""
    return SPACES.sub(" ", token.lower())


def shown(token: Token) -> tuple[str, int]:
    return str(token)[:80], start(token)


def _joined(words: list[Token]) -> tuple[str, int, bool]:
    """Text, place, and whether it is quoted."""
    first = words[0]
    if first.type == "QUOTED":
        return first[1:-1].replace('""', '"') if first[0] == '"' else first[1:-1], start(first), True
    return " ".join(words), start(first), False


def _count(end: Token, number: Token) -> Count:
    digits = number.replace(",", "")
    if len(digits) > MAX_DIGITS or int(digits) < 1:
        raise Misfit("a whole number above 0 is wanted here, with at most 9 digits", *shown(number))
    return Count(int(digits), end.lower() if end.type in ("TOP", "BOTTOM") else "", start(end))
