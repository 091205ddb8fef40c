"""The grammar, CEL's, and the bounds that a text has to keep before it is parsed."""

from collections.abc import Sequence
from functools import cache

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedToken

MAX_BYTES = 4096
MAX_DEPTH = 32
MAX_NODES = 1000

# Alternatives of a pattern begin with different characters, so that none is tried twice on the same text.
GRAMMAR = r"""
?start: choice
?choice: either | either CHOOSE either _ELSE choice -> choose
?either: both | either OR both -> binary
?both: relation | both AND relation -> binary
?relation: sum | relation (EQUAL | ORDER) sum -> binary | relation IN list -> within
?sum: product | sum (PLUS | MINUS) product -> binary
?product: unary | product (TIMES | DIVIDE | MODULO) unary -> binary
?unary: value | (NOT | MINUS) unary -> prefix
?value: _OPEN choice _CLOSE
      | NAME _OPEN [choice (_COMMA choice)*] _CLOSE -> call
      | NAME -> field
      | NUMBER -> number
      | (TEXT | RAW) -> text
      | (TRUE | FALSE) -> boolean
      | NULL -> null
list: _OPEN_LIST [choice (_COMMA choice)* _COMMA?] _CLOSE_LIST

CHOOSE: "?"
_ELSE: ":"
OR: "||"
AND: "&&"
EQUAL: "==" | "!="
ORDER: "<=" | ">=" | "<" | ">"
IN: "in"
PLUS: "+"
MINUS: "-"
TIMES: "*"
DIVIDE: "/"
MODULO: "%"
NOT: "!"
_OPEN: "("
_CLOSE: ")"
_OPEN_LIST: "["
_CLOSE_LIST: "]"
_COMMA: ","
TRUE: "true"
FALSE: "false"
NULL: "null"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
NUMBER: /0x[0-9a-fA-F]+|[0-9]*\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+([eE][+-]?[0-9]+)?/
RAW.2: /[rR]("{3}[\s\S]*?"{3}|'{3}[\s\S]*?'{3}|"[^"\r\n]*"|'[^'\r\n]*')/
TEXT.2: /"{3}([^\\]|\\[\s\S])*?"{3}|'{3}([^\\]|\\[\s\S])*?'{3}|"([^"\\\r\n]|\\[^\r\n])*"|'([^'\\\r\n]|\\[^\r\n])*'/
COMMENT.2: /\/\/[^\n]*/
SPACE: /[ \t\r\n\f]+/
%ignore COMMENT
%ignore SPACE
"""

OPENING = {"_OPEN", "_OPEN_LIST"}
CLOSING = {"_CLOSE", "_CLOSE_LIST"}
# What a minus sign comes after where it takes away.
OPERANDS = CLOSING | {"NAME", "NUMBER", "TEXT", "RAW", "TRUE", "FALSE", "NULL"}


class ExpressionError(Exception):
    """The text is no expression, or none over these fields; `line` and `column` count from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1):
        super().__init__(f"Line {line}, column {column}: {message}")
        self.line = line
        self.column = column


def read_tree(text: str) -> Tree[Token]:
    """The tree of the text; raises ExpressionError where it is too long, too deep, too large or no expression."""
    _check_text(text)
    parser = _parser()
    try:
        tokens = list(parser.lex(text))
        _check_size(tokens)
        return parser.parse(text)
    except UnexpectedCharacters as error:
        wrong = "this text is not closed." if error.char in "'\"" else f"{error.char!r} begins nothing that there is."
        raise ExpressionError(wrong, error.line, error.column) from None
    except UnexpectedToken as error:
        raise _misfit(error.token, text) from None


@cache
def _parser() -> Lark:
    """Made when the first expression comes: most commands of `vanguard` need none."""
    return Lark(GRAMMAR, parser="lalr", lexer="basic", maybe_placeholders=False)


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ExpressionError("half of a surrogate pair is no character.", *_place(text, error.start)) from None
    if size > MAX_BYTES:
        raise ExpressionError(f"an expression has at most {MAX_BYTES} bytes, and this one {size}.")
    if "\0" in text:
        raise ExpressionError("an expression has no NUL.", *_place(text, text.index("\0")))


def _place(text: str, start: int) -> tuple[int, int]:
    """Line and column of a position."""
    return text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


def _check_size(tokens: Sequence[Token]) -> None:
    """Count what will be nodes, and what will be nested: brackets, signs in a row, choices."""
    nodes = depth = signs = 0
    outside: list[int] = []
    before = ""
    for token in tokens:
        if not token.type.startswith("_"):
            nodes += 1
        if token.type == "NOT" or (token.type == "MINUS" and before not in OPERANDS):
            signs += 1
        elif token.type in OPENING:
            outside.append(depth)
            depth += signs + 1
            signs = 0
        else:
            signs = 0
            if token.type == "CHOOSE":
                depth += 1
            elif token.type in CLOSING and outside:
                depth = outside.pop()
        if nodes > MAX_NODES:
            raise _at(token, f"an expression has at most {MAX_NODES} values and operators.")
        if depth + signs > MAX_DEPTH:
            raise _at(token, f"an expression is nested at most {MAX_DEPTH} deep.")
        before = token.type


def _at(token: Token, message: str) -> ExpressionError:
    return ExpressionError(message, token.line or 1, token.column or 1)


def _misfit(token: Token, text: str) -> ExpressionError:
    if token.type == "$END":
        return ExpressionError("something is missing at the end.", *_place(text, len(text)))
    return _at(token, f"{_shown(token)} does not fit here.")


def _shown(token: Token) -> str:
    return repr(str(token)[:40])
