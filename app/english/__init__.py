"""Sentences of a documented grammar as structured queries, and queries as sentences: docs/english.md.

`grammar` finds the parts of a sentence, `scope` and `figures` what its words name, `reading` makes the query of them,
`writing` goes the other way. A sentence that could mean two things is asked back, one that means nothing is refused.
"""

from app.english.grammar import warm
from app.english.readable import is_readable, normal_form
from app.english.reading import AskedValue, Reading, read_sentence
from app.english.writing import write_sentence

__all__ = ["AskedValue", "Reading", "is_readable", "normal_form", "read_sentence", "warm", "write_sentence"]
