"""The grammar of sentences, which docs/english.md tells in tables, and the parser that is made of it.

A name and a value are whatever words stand between two words of the grammar. Those of KEYWORDS are such everywhere, the
others only where they can stand. No rule can be read in two ways: the parser's table has no conflict.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from app.engine.query.model import DEEPEST
from app.english.misfit import Misfit
from app.english.parts import QUOTES, Parts, shown
from app.english.sentences import Sentence

MAX_SENTENCE = 500  # characters

# ~ closes a word of the grammar: "island" does not begin with "is". No pattern is tried twice on the same text.
GRAMMAR = (
    r"""
start: head clause*

head: [VERB] items -> asked
    | [VERB] ALL -> everything
    | [VERB] (TOP | BOTTOM) INT items -> ranked

clause: BY items -> by
      | OF name -> dataset
      | WITH joined (_sep joined)* -> joins
      | WHERE conditions -> where
      | ORDERED key (_sep key)* -> order
      | (LIMIT | TOP | BOTTOM) INT -> count

items: item (_sep item)*
item: name [AS name] -> bare
    | FUNCTION name [AS name] -> figure
    | ROWS [AS name] -> rows
key: item [ASCENDING | DESCENDING]
joined: [MATCHING] name [AS name] [JOINED name] [USING QUOTED]
_sep: COMMA | AND | COMMA AND

?conditions: term | both | either
both: term (AND term)+
either: term (OR term)+
?term: primary | NOT primary -> negated
?primary: condition | OPEN conditions CLOSE -> inner
condition: name (EQUALS | DIFFERS | COMPARED | SIGN | CONTAINS | STARTS) value -> compared
         | name (AMONG | OUTSIDE) values -> listed
         | name (EMPTY | FILLED) -> empty
         | name BETWEEN value AND value -> between
values: value (COMMA value)* [COMMA] OR value
      | OPEN value (COMMA value)* CLOSE

name: NAME+ | QUOTED
value: (VALUE | GROUPED)+ | QUOTED -> literal

VERB.9: /(show(\s+me)?|list|give\s+me|what\s+(is|are))(\s+the)?~/
ALL.9: /all(?=\s+(of|in|from)~)/
TOP.9: /top(?=\s+\d)/
BOTTOM.9: /bottom(?=\s+\d)/
LIMIT.9: /(limit|first)(?=\s+\d)/
ROWS.9: /(how\s+many|number\s+of|count\s+of)\s+(rows|records|lines)~/
FUNCTION.8: /((total|sum|average|minimum|maximum)(\s+of)?|(how\s+many|number\s+of|count\s+of)(\s+distinct)?)~/
BY.7: /(by|per|for\s+each)~/
OF.7: /(of|in|from)~/
WITH.7: /with~/
MATCHING.7: /matching~/
AS.7: /as~/
JOINED.7: /joined\s+to~/
USING.7: /using~/
WHERE.7: /where~/
ORDERED.7: /(ordered|sorted)\s+by~/
ASCENDING.7: /ascending~/
DESCENDING.7: /descending~/
FILLED.9: /is\s+not\s+empty~/
EMPTY.9: /is\s+empty~/
OUTSIDE.9: /is\s+(not\s+one|none)\s+of~/
AMONG.9: /is\s+one\s+of~/
BETWEEN.8: /(is\s+)?between~/
COMPARED.8: /(is\s+)?(above|over|(greater|more|less)\s+than|at\s+(least|most)|below|under|before|after|since|until)~/
SIGN.8: /(>=?|<=?)~/
CONTAINS.8: /contains~/
STARTS.8: /starts\s+with~/
DIFFERS.7: /(is\s+not|!=|<>)~/
EQUALS.6: /(is|equals|=)~/
AND.7: /and~/
OR.7: /or~/
NOT.7: /not~/
COMMA: ","
OPEN: "("
CLOSE: ")"
INT.5: /(\d{1,3}(,\d{3})+|\d+)~/
GROUPED.5: /-?\d{1,3}(,\d{3})+(\.\d+)?~/
QUOTED.5: /"([^"]|"")*"|“[^“”]*”/
NAME: /WORD/
VALUE: /WORD/
%ignore /\s+/
""".replace(r"\s+", r"(?u:\s+)")
    .replace("~", r'(?u:(?![^\s,()"“”]))')
    .replace("WORD", r'(?u:[^\s,()"“”]+)')
)
# The letters of the grammar are those of ASCII, whatever their case: a dotless i is none. Blanks are any.
FLAGS = re.IGNORECASE | re.ASCII

# What ends a name or a value wherever it stands.
KEYWORDS = tuple(
    """BY OF WITH WHERE ORDERED FILLED EMPTY OUTSIDE AMONG BETWEEN COMPARED SIGN CONTAINS STARTS DIFFERS EQUALS
    AND OR NOT""".split()
)
# Sentences, and one that is none, that lead through most states of the parser.
WARMING = (
    "show me the top 10 a b by total c as d, e and number of rows where (f is 1 or not g is one of 1, 2 or 3) limit 5",
    'list all of a with matching b as c joined to d using "e" and f where g between 1,000 and h sorted by j descending',
    'list "a" and b of c where d is empty and e contains f and g is "h" and i is none of (j) ordered by k top 3',
    "a as b by c where d above 1,000 and e",
    "number of",
)
PATTERN = re.compile(r"^[A-Z]+\.\d: /(.+)/$", re.MULTILINE)
# The words of the grammar: a name that is to be read anywhere has none of them, or stands in quotes.
RESERVED = frozenset(
    word for pattern in PATTERN.findall(GRAMMAR) for word in re.findall(r"[a-z]{2,}", re.sub(r"\\.", " ", pattern))
) | frozenset({"row", "record", "line"})
# What could stand somewhere, in plain words and in the order in which it is told.
PHRASES = {
    "NAME": "the name of a field, a figure or a dataset",
    "VALUE": "a value",
    "INT": "a whole number",
    "BY": "by",
    "OF": "of and a dataset",
    "WITH": "with and a dataset that is joined",
    "WHERE": "where",
    "ORDERED": "ordered by",
    "LIMIT": "limit and a number",
    "TOP": "top and a number",
    "FUNCTION": "total, average, minimum, maximum or number of",
    "EQUALS": "is",
    "AMONG": "is one of",
    "EMPTY": "is empty",
    "COMPARED": "above, below, at least, at most, before, after, since or until",
    "SIGN": "one of > >= < <=",
    "BETWEEN": "between",
    "CONTAINS": "contains",
    "STARTS": "starts with",
    "AND": "and",
    "OR": "or",
    "NOT": "not",
    "COMMA": "a comma",
    "OPEN": "(",
    "CLOSE": ")",
    "AS": "as and a name",
    "DESCENDING": "descending",
    "USING": "using and the id of a join in quotes",
    "JOINED": "joined to",
    "$END": "the end of the sentence",
}
# What only conditions have.
CONDITIONS = KEYWORDS[KEYWORDS.index("FILLED") : KEYWORDS.index("AND")]
MIXED = "and and or stand beside one another; put parentheses around what belongs together"
WORD = re.compile(r'[^\s,()"“”]+')
PIECES = re.compile(r'"[^"]*"|“[^“”]*”|[()]')
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
FINAL = ".?! \t\r\n"  # what ends a sentence, and is no part of it


def parse(text: str) -> Sentence:
    """The parts of a sentence; raises Misfit that says what does not fit, where, and what would."""
    _check(text)
    said = text.rstrip(FINAL)
    try:
        found: Any = _parser().parse(said)  # what Parts makes of the first rule, and no tree
    except UnexpectedInput as error:
        raise _misfit(error, said) from None
    assert isinstance(found, Sentence)
    return found


@cache
def warm() -> None:
    """Make the parser, and the parts of its lexer that it makes when it first needs them."""
    for sentence in WARMING:
        with suppress(Misfit):
            parse(sentence)


@cache
def _parser() -> Lark:
    return Lark(
        GRAMMAR,
        parser="lalr",
        lexer="contextual",
        postlex=_Reserved(),
        transformer=Parts(),
        maybe_placeholders=True,
        g_regex_flags=FLAGS,
    )


class _Reserved:
    """Keeps the words of KEYWORDS such in every place: the lexer would take them for names where none can stand."""

    always_accept = KEYWORDS

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


def _check(text: str) -> None:
    if len(text) > MAX_SENTENCE:
        message = (
            f"a sentence has at most {MAX_SENTENCE} characters, and this one {len(text):,}; ask in a structured query"
        )
        raise Misfit(message, "", MAX_SENTENCE)
    if (control := CONTROL.search(text)) is not None:
        raise Misfit(f"{control[0]!r} is no character of a sentence", "", control.start())
    depth = 0
    for found in PIECES.finditer(text):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth > DEEPEST:
            raise Misfit(f"parentheses lie at most {DEEPEST} deep in one another", "(", found.start())


def _misfit(error: UnexpectedInput, text: str) -> Misfit:
    """What the parser met, and what it could go on with."""
    if isinstance(error, UnexpectedCharacters):
        place = error.pos_in_stream or 0
        wrong = "this quote is not closed" if text[place] in '"“”' else f"{text[place]!r} begins nothing"
        return Misfit(wrong, text[place], place)
    assert isinstance(error, UnexpectedToken), "the other kinds are of other parsers"
    accepted = set(error.accepts or error.expected)
    expected = tuple(phrase for name, phrase in PHRASES.items() if name in accepted)
    token = error.token
    if token.type == "$END":
        return Misfit("something is missing at the end", "", len(text), expected=expected)
    word, place = shown(token)
    if token.type in ("AND", "OR") and accepted & {"$END", "CLOSE"} and "COMMA" not in accepted:
        return Misfit(MIXED, word, place)
    if "WHERE" in accepted and token.type in CONDITIONS:
        return Misfit("a condition stands behind where", word, place)
    quotes = QUOTES if token.type in KEYWORDS else ""
    return Misfit(f"this does not fit here{quotes}", word, place, expected=expected)
