"""From a tree to steps: each takes the values of earlier ones, and its type is known.

What is known of a step, too: whether its value can be null, and whether it can fail. SQL has NULL for both, and has to
tell them apart where a null is a value (see `rendering`). And how many digits a number can come to: no more than
PostgreSQL holds, whatever the document says, so that nothing overflows there.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from lark import Token, Tree

from app.contracts.expressions.grammar import ExpressionError
from app.contracts.values import MAX_DECIMALS, MAX_DIGITS, fits, read_date, read_datetime

if TYPE_CHECKING:
    from app.contracts.model import FieldType

Kind = Literal["text", "number", "boolean", "date", "datetime", "null"]

KINDS: "dict[FieldType, Kind]" = {
    "text": "text",
    "enum": "text",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "date": "date",
    "datetime": "datetime",
}
# Digits before and behind the point.
WIDTHS = {"number": (MAX_DIGITS, MAX_DECIMALS), "integer": (16, 0)}
# All digits that a number may come to. PostgreSQL holds 131,072 before the point and 16,383 behind it.
MAX_RESULT = 1000
# Digits behind the point of a quotient, which is rounded half away from zero.
QUOTIENT_DECIMALS = 20

LOGIC = {"&&", "||"}
EQUALITY = {"==", "!="}
ORDERING = {"<", "<=", ">", ">="}
ARITHMETIC = {"+", "-", "*", "/", "%"}

ESCAPE = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([\s\S]))")
ESCAPED = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))
NOUNS = {
    "text": "a text", "number": "a number", "boolean": "true or false", "date": "a date", "datetime": "a datetime",
    "null": "null",
}  # fmt: skip
# How a literal is written that takes a text.
WRITTEN = {"date": 'date("2026-01-31")', "datetime": 'datetime("2026-01-31T08:30:00Z")'}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One operation on the values of the steps numbered `operands`; `op` is its sign, or literal, field, in or ?.

    `value` is a literal's value, a field's name, or the values of a list. `nullable` says that its value can be null,
    `fallible` that it can fail. `whole` and `decimals` bound a number's digits.
    """

    op: str
    kind: Kind
    line: int
    column: int
    operands: tuple[int, ...] = ()
    value: Any = None
    type: "FieldType | None" = None
    nullable: bool = False
    fallible: bool = False
    whole: int = 0
    decimals: int = 0


def check(tree: Tree[Token], types: "Mapping[str, FieldType]") -> tuple[Step, ...]:
    """The steps of an expression, the last one its result; raises ExpressionError where types or names do not fit."""
    checker = _Checker(types)
    for node in _operands_first(tree):
        checker.add(node)
    return tuple(checker.steps)


def check_condition(tree: Tree[Token], types: "Mapping[str, FieldType]") -> tuple[Step, ...]:
    """The steps of an expression that is true or false; raises ExpressionError as `check` does, and for any other."""
    steps = check(tree, types)
    if steps[-1].kind != "boolean":
        raise _wrong(steps[-1], f"a condition is true or false, and this is {NOUNS[steps[-1].kind]}.")
    return steps


def _operands_first(tree: Tree[Token]) -> list[Tree[Token]]:
    """All nodes, each behind those below it."""
    found = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += [child for child in node.children if isinstance(child, Tree)]
    return found[::-1]


def _wrong(at: Step | Token, message: str) -> ExpressionError:
    return ExpressionError(message, at.line or 1, at.column or 1)


class _Checker:
    """Makes steps of nodes. `untaken` holds the numbers of those that are nobody's operands yet."""

    def __init__(self, types: "Mapping[str, FieldType]"):
        self.types = types
        self.steps: list[Step] = []
        self.untaken: list[int] = []
        self.listed: list[Step] = []

    def add(self, node: Tree[Token]) -> None:
        """The step of a node whose operands have theirs."""
        count = sum(isinstance(child, Tree) and child.data != "list" for child in node.children)
        numbers = tuple(self.untaken[len(self.untaken) - count :])
        del self.untaken[len(self.untaken) - count :]
        operands = [self.steps[number] for number in numbers]
        if node.data == "list":
            self.listed = [_listed(operand, operands[0]) for operand in operands]
            self._drop(count)
            return
        word = next(child for child in node.children if isinstance(child, Token))
        match node.data:
            case "field":
                step = self._field(word)
            case "call":
                step = _call(word, operands)
                self._drop(count)
            case "prefix" if word == "-" and operands[0].op == "literal":
                step = _negative(word, operands[0])
                self._drop(count)
            case "prefix":
                step = _prefix(word, operands[0], numbers)
            case "within":
                self._tell_null(numbers, self.listed)
                step = _within(word, self.steps[numbers[0]], numbers, self.listed)
            case "choose":
                self._tell_null(numbers[1:], operands[1:])
                step = _choose(word, [self.steps[number] for number in numbers], numbers)
            case "binary":
                if word in EQUALITY:
                    self._tell_null(numbers, operands)
                step = _binary(word, [self.steps[number] for number in numbers], numbers)
            case _:
                step = _literal(node.data, word)
        self.untaken.append(len(self.steps))
        self.steps.append(step)

    def _drop(self, count: int) -> None:
        """Take back the last steps: literals that have become part of something else."""
        del self.steps[len(self.steps) - count :]

    def _tell_null(self, numbers: Sequence[int], beside: Sequence[Step]) -> None:
        """A null is of the type of what it stands beside."""
        kind = next((step.kind for step in beside if step.kind != "null"), "text")
        for number in numbers:
            if self.steps[number].kind == "null":
                self.steps[number] = msgspec.structs.replace(self.steps[number], kind=kind)

    def _field(self, word: Token) -> Step:
        name = str(word)
        if name not in self.types:
            raise _wrong(word, f"there is no field {name[:80]!r}.")
        kind = self.types[name]
        whole, decimals = WIDTHS.get(kind, (0, 0))
        return _step(word, "field", KINDS[kind], value=name, type=kind, nullable=True, whole=whole, decimals=decimals)


def _step(at: Token, op: str, kind: Kind, **known: Any) -> Step:
    return Step(op=op, kind=kind, line=at.line or 1, column=at.column or 1, **known)


def _prefix(word: Token, operand: Step, numbers: tuple[int, ...]) -> Step:
    kind: Kind = "boolean" if word == "!" else "number"
    _want(word, kind, operand)
    return _step(
        word,
        "!" if word == "!" else "negative",
        kind,
        operands=numbers,
        fallible=_may_fail(operand),
        whole=operand.whole,
        decimals=operand.decimals,
    )


def _binary(word: Token, operands: Sequence[Step], numbers: tuple[int, ...]) -> Step:
    left, right = operands
    op = str(word)
    if op in LOGIC:
        _want(word, "boolean", left, right)
        return _step(word, op, "boolean", operands=numbers, fallible=_may_fail(left, right))
    if op in ARITHMETIC:
        _want(word, "number", left, right)
        whole, decimals = _width(word, left, right)
        fallible = op in ("/", "%") or _may_fail(left, right)
        return _step(word, op, "number", operands=numbers, fallible=fallible, whole=whole, decimals=decimals)
    _agree(word, left, right)
    if op in EQUALITY:
        return _step(word, op, "boolean", operands=numbers, fallible=left.fallible or right.fallible)
    if left.kind == "null":
        raise _wrong(word, f"{op} does not apply to null.")
    return _step(word, op, "boolean", operands=numbers, fallible=_may_fail(left, right))


def _choose(word: Token, operands: Sequence[Step], numbers: tuple[int, ...]) -> Step:
    condition, first, second = operands
    _want(word, "boolean", condition)
    _agree(word, first, second)
    return _step(
        word,
        "?",
        first.kind,
        operands=numbers,
        nullable=first.nullable or second.nullable,
        fallible=_may_fail(condition) or first.fallible or second.fallible,
        whole=max(first.whole, second.whole),
        decimals=max(first.decimals, second.decimals),
    )


def _within(word: Token, operand: Step, numbers: tuple[int, ...], listed: Sequence[Step]) -> Step:
    if listed:
        _agree(word, operand, listed[0])
    values = tuple(step.value for step in listed)
    return _step(word, "in", "boolean", operands=numbers, value=values, fallible=operand.fallible)


def _listed(element: Step, first: Step) -> Step:
    if element.op != "literal" or element.kind == "null":
        raise _wrong(element, "a list holds literals, and no null.")
    if element.kind != first.kind:
        raise _wrong(element, f"a list holds values of one type, and this is {NOUNS[element.kind]}.")
    return element


def _may_fail(*operands: Step) -> bool:
    """Whether an operation that takes no null may fail for its operands."""
    return any(operand.nullable or operand.fallible for operand in operands)


def _want(word: Token, kind: Kind, *operands: Step) -> None:
    for operand in operands:
        if operand.kind != kind:
            raise _wrong(word, f"{word} wants {NOUNS[kind]}, and gets {NOUNS[operand.kind]}.")


def _agree(word: Token, left: Step, right: Step) -> None:
    if left.kind != right.kind:
        given = f"{NOUNS[left.kind]} and {NOUNS[right.kind]}"
        kinds = {left.kind, right.kind}
        written = next((WRITTEN[kind] for kind in WRITTEN if kinds == {kind, "text"}), None)
        hint = f", which is written {written}" if written else ""
        raise _wrong(word, f"{word} wants two values of one type, and gets {given}{hint}.")


def _width(word: Token, left: Step, right: Step) -> tuple[int, int]:
    """Digits before and behind the point that the result may have; raises ExpressionError for too many."""
    match str(word):
        case "*":
            width = left.whole + right.whole, left.decimals + right.decimals
        case "/":
            # The least divisor is 1 in its last decimal; rounding may add a digit.
            width = left.whole + right.decimals + 1, QUOTIENT_DECIMALS
        case "%":
            width = right.whole, max(left.decimals, right.decimals)
        case _:
            width = max(left.whole, right.whole) + 1, max(left.decimals, right.decimals)
    if sum(width) > MAX_RESULT:
        raise _wrong(word, f"the result of {word} may have more than {MAX_RESULT} digits.")
    return width


def _negative(word: Token, literal: Step) -> Step:
    """A negative number is a literal, too."""
    _want(word, "number", literal)
    return msgspec.structs.replace(
        literal, value=literal.value.copy_negate(), line=word.line or 1, column=word.column or 1
    )


def _call(word: Token, arguments: Sequence[Step]) -> Step:
    """A day or a moment: a literal, too."""
    value = arguments[0].value if len(arguments) == 1 and arguments[0].op == "literal" else None
    if word == "date":
        if (day := read_date(value)) is None:
            raise _wrong(word, f"date takes a day of the calendar: {WRITTEN['date']}.")
        return _step(word, "literal", "date", value=day)
    if word == "datetime":
        if (moment := read_datetime(value)) is None:
            raise _wrong(word, f"datetime takes a moment in UTC: {WRITTEN['datetime']}.")
        return _step(word, "literal", "datetime", value=moment)
    raise _wrong(word, f"there is no function {str(word)[:80]!r}; there are date and datetime.")


def _literal(kind: str, word: Token) -> Step:
    match kind:
        case "number":
            return _number(word)
        case "text":
            return _step(word, "literal", "text", value=_text(word))
        case "boolean":
            return _step(word, "literal", "boolean", value=word == "true")
    return _step(word, "literal", "null", nullable=True)


def _number(word: Token) -> Step:
    try:
        value = Decimal(int(word, 16)) if word.startswith("0x") else Decimal(word)
    except InvalidOperation:  # an exponent beyond all bounds
        value = Decimal("NaN")
    if not fits(value):
        raise _wrong(word, f"a number has at most {MAX_DIGITS} digits before the point, and {MAX_DECIMALS} behind it.")
    value = value or Decimal(0)  # which can have any exponent
    decimals = max(0, -int(value.as_tuple().exponent))
    return _step(word, "literal", "number", value=value, whole=max(1, value.adjusted() + 1), decimals=decimals)


def _text(word: Token) -> str:
    raw = word[0] in "rR"
    quoted = word[1:] if raw else str(word)
    quotes = 3 if quoted[:3] in ('"""', "'''") and len(quoted) >= 6 else 1
    inside = quoted[quotes:-quotes]
    return inside if raw else ESCAPE.sub(lambda found: _unescape(word, found), inside)


def _unescape(word: Token, found: re.Match[str]) -> str:
    *digits, octal, letter = found.groups()
    if letter is not None:
        if letter not in ESCAPED:
            raise _wrong(word, f"there is no escape {found[0]!r}.")
        return ESCAPED[letter]
    code = int(octal, 8) if octal else int("".join(each for each in digits if each), 16)
    if code == 0:
        raise _wrong(word, "a text has no NUL.")
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise _wrong(word, f"{found[0]} is no character.")
    return chr(code)
