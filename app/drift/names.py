"""How alike two names are: of a field, and of a column that may be it under another name."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from rapidfuzz.distance import Indel

# Words of a text, and of one in camelCase: `IMDBRating` is imdb and rating, `UDF_07` is udf and 07.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
LONGEST = 80  # characters that are compared
SHORTEST = 2  # letters of what can be short for a word
PLAIN = 3  # letters from which it may have any that the word has, in their order: qty, but id for insured is none
VOWELS = frozenset("aeiou")


def alike(one: str, other: str) -> float:
    """0 to 1: the greater of the share of words that both have, short forms included, and of letters in order."""
    these, those = _words(one), _words(other)
    joined = "".join(these), "".join(those)
    if not all(joined):
        return 0.0
    return round(max(_shared(these, those), Indel.normalized_similarity(*joined)), 4)


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFKD", name[:LONGEST]).encode("ascii", "ignore").decode()
    return tuple(word.lower() for word in WORD.findall(plain))


def _shared(these: Sequence[str], those: Sequence[str]) -> float:
    left = list(those)
    for word in these:
        found = next((each for each in left if _same(word, each)), None)
        if found is not None:
            left.remove(found)
    return (len(those) - len(left)) / max(len(these), len(those))


def _same(one: str, other: str) -> bool:
    """Whether they are one word, the one perhaps short for the other: cat and category, qty and quantity."""
    short, long = sorted((one, other), key=len)
    if short == long:
        return True
    if len(short) < SHORTEST or short[0] != long[0] or not short.isalpha():
        return False
    if len(short) < PLAIN and VOWELS & {*short} and not long.startswith(short):
        return False
    letters = iter(long)
    return all(letter in letters for letter in short)
