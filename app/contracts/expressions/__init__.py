"""The expression language of contracts: parsed once, meaning the same in Python and in SQL. See docs/expressions.md.

`grammar` turns text into a tree, `checking` the tree into steps of known types, `evaluation` and `rendering` take these
steps one after the other, and `formulas` make columns of them: no function here calls itself, so that no text is too
deep for it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from lark import Token

from app.contracts.expressions.checking import Step, check_condition
from app.contracts.expressions.evaluation import EvaluationError, judge
from app.contracts.expressions.formulas import Formula, parse_formula
from app.contracts.expressions.grammar import ExpressionError, read_tree
from app.contracts.expressions.rendering import render

if TYPE_CHECKING:  # the model checks the expressions of its rules
    from app.contracts.model import FieldType


class Expression(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on one row; `fields` are those that it reads, each once, in the order of the text."""

    text: str
    fields: tuple[str, ...]
    steps: tuple[Step, ...]

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Whether the document fulfils it; raises EvaluationError where that cannot be said.

        The document's values are those of app.base.exact_json. A value that is not of its field's type counts as null.
        """
        return judge(self.steps, document)

    def sql(self, column: Callable[[str], str]) -> str:
        """The same condition as SQL, NULL where `holds` raises.

        `column(name)` yields SQL of the field's typed value, such as `Contract.reader`: text, numeric, bigint,
        boolean, date or timestamptz. Nothing else of the text gets into the SQL as it was written.
        """
        return render(self.steps, column)


def parse(text: str, types: "Mapping[str, FieldType]") -> Expression:
    """The expression, over fields of these types; raises ExpressionError that says what is wrong and where."""
    steps = check_condition(read_tree(text), types)
    fields = dict.fromkeys(step.value for step in steps if step.op == "field")
    return Expression(text=text, fields=tuple(fields), steps=steps)


def names_of(text: str) -> tuple[str, ...]:
    """The names of fields in the text, each once, whatever fields there are; raises ExpressionError."""
    return tuple(dict.fromkeys(map(str, _words_of(text))))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with other names of fields, all at once; raises ExpressionError where it is no expression."""
    pieces, place = [], 0
    for word in _words_of(text):
        start = word.start_pos or 0
        pieces += [text[place:start], names.get(str(word), str(word))]
        place = start + len(word)
    return "".join([*pieces, text[place:]])


def _words_of(text: str) -> list[Token]:
    """The names of fields, as they come."""
    found = [node.children[0] for node in read_tree(text).find_data("field")]
    return sorted((word for word in found if isinstance(word, Token)), key=lambda word: word.start_pos or 0)


__all__ = [
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "Formula",
    "names_of",
    "parse",
    "parse_formula",
    "renamed",
]
