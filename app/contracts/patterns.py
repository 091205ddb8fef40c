"""Regular expressions of contracts, run by RE2: its time grows with the text alone, whatever the pattern."""

from functools import lru_cache
from typing import Any

import re2

MAX_PATTERN_BYTES = 1024
# Instructions of the compiled pattern by bytes of the longest text, of which each takes up to ten nanoseconds.
MAX_WORK = 20_000_000
GIVEN_UP = 100_000
REMEMBERED = 10_000
REMEMBERED_LENGTH = 500


def misfit_pattern(pattern: str, max_length: int) -> str | None:
    """Why texts of at most so many bytes cannot be held against the pattern, in RE2's words where they are its; or
    None.
    """
    try:
        if len(pattern.encode()) > MAX_PATTERN_BYTES:
            return f"the pattern has more than {MAX_PATTERN_BYTES} bytes."
        size = _compiled(pattern).programsize
    except UnicodeEncodeError:
        return "the pattern is no text."
    except re2.error as error:
        return f"RE2 refuses the pattern: {error.args[0].decode(errors='replace')}."
    if size * max_length > MAX_WORK:
        return f"the pattern is too large for texts of {max_length} bytes; repeat less, or set a smaller maxLength."
    return None


def size_of(pattern: str) -> int:
    """Instructions of the compiled pattern, which takes so much time and memory; of one that RE2 gives up on, those
    that it makes until then; none of one that is refused before.
    """
    try:
        return int(_compiled(pattern).programsize) if len(pattern.encode()) <= MAX_PATTERN_BYTES else 0
    except UnicodeEncodeError:
        return 0
    except re2.error as error:
        return GIVEN_UP if error.args[0].startswith(b"pattern too large") else 0


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text is of the pattern. What was found of short texts is remembered."""
    return _remembered(pattern, text) if len(text) <= REMEMBERED_LENGTH else _matches(pattern, text)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).fullmatch(text.encode()) is not None


_remembered = lru_cache(maxsize=REMEMBERED)(_matches)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    # Nobody asks for groups, and without them RE2 seldom leaves its automaton.
    options.never_capture = True
    return re2.compile(pattern.encode(), options)
