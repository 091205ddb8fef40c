"""What sentences cannot do, whatever is in them: stop the parser, mean two things, or raise anything but refusals."""

import logging
import re
import string
import time
from collections.abc import Iterator
from contextlib import suppress

import lark
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.base.errors import AmbiguousQuery, UnknownWord, UnreadableQuery, VanguardError
from app.english import is_readable, read_sentence, warm, write_sentence
from app.english.grammar import FLAGS, GRAMMAR, KEYWORDS, PHRASES, RESERVED
from tests.support.english import EVERYTHING, catalogue, contract
from tests.test_english import CASES, REFUSALS, section

pytestmark = pytest.mark.timed

LONGEST = 500
FASTEST = 0.05  # seconds, of the best of several tries: others use the machine, too
TRIES = 7
OTHERS = """category orders customers amount seller customer.region id odd Größe 数量 "where" “and” "odd.by" nowhere
1,000 10 -2.5 2026-01-31 yes Web ( ) , . ? " ' “ | ; -- \u200b 😀 I İ ß
\u0131s i\u017f m\u0131n\u0131mum \u017fince""".split()
WORDS = [*sorted(RESERVED), *OTHERS, "forecast cost", "vendor's country", "\u2028", "a" * 40]
WIDE = catalogue(contract("wide", "wideId", " ".join(f"field{number}Wide:number" for number in range(400))))


def refused(text: str) -> VanguardError | None:
    try:
        read_sentence(text, EVERYTHING)
    except (UnreadableQuery, UnknownWord, AmbiguousQuery) as error:
        return error
    return None


# -- the grammar ------------------------------------------------------------------------------------------------------


class Reserved:
    always_accept = KEYWORDS

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        return stream


def table_of(grammar: str, caplog: pytest.LogCaptureFixture) -> str:
    """What lark tells of conflicts in the table: where one rule could end and another go on, it chooses by itself."""
    level = lark.logger.level
    try:
        lark.logger.setLevel(logging.DEBUG)
        lark.logger.propagate = True
        lark.logger.addHandler(caplog.handler)
        with caplog.at_level(logging.DEBUG, logger=lark.logger.name):
            lark.Lark(grammar, parser="lalr", postlex=Reserved(), g_regex_flags=FLAGS, debug=True)
    finally:
        lark.logger.removeHandler(caplog.handler)
        lark.logger.setLevel(level)
    return caplog.text


def test_no_place_of_the_table_has_two_rules(caplog: pytest.LogCaptureFixture) -> None:
    assert "conflict" not in table_of(GRAMMAR, caplog).lower()


def test_a_conflict_would_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    either = GRAMMAR.replace("both: term (AND term)+", "both: conditions AND conditions")
    assert either != GRAMMAR
    assert "conflict" in table_of(either, caplog).lower()


def test_every_word_that_could_stand_somewhere_has_a_phrase() -> None:
    terminals = set(re.findall(r"^([A-Z]+)(?:\.\d)?: ", GRAMMAR, re.MULTILINE))
    same = {
        "VERB",
        "ALL",
        "BOTTOM",
        "ROWS",
        "MATCHING",
        "ASCENDING",
        "FILLED",
        "OUTSIDE",
        "DIFFERS",
        "QUOTED",
        "GROUPED",
    }
    assert terminals - same <= PHRASES.keys()


def test_the_document_has_the_words_that_end_a_name() -> None:
    told = section("Bounds").split("These words end", 1)[1].split("Others count")[0]
    words = {word for phrase in re.findall(r"`([^`]+)`", told) for word in phrase.split()}
    patterns = [found[2] for found in re.finditer(r"^([A-Z]+)\.\d: /(.+)/$", GRAMMAR, re.M) if found[1] in KEYWORDS]
    known = {word for pattern in patterns for word in re.findall(r"[a-z]{2,}", re.sub(r"\\.", " ", pattern))}
    assert words == known - {"one", "none", "empty"}  # which begin with is


# -- any words --------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_a_soup_of_words_is_read_or_refused(text: str) -> None:
    if (error := refused(text)) is not None:
        assert error.detail
        assert len(error.detail) < 4000
        return
    query = read_sentence(text, EVERYTHING).query
    assert read_sentence(write_sentence(query, EVERYTHING), EVERYTHING).query is not None
    assert is_readable(query, EVERYTHING)


@given(st.text(max_size=600) | st.text(string.printable, max_size=600))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    refused(text)


@given(st.sampled_from([sentence for sentence, _ in CASES]), st.data())
@settings(max_examples=200, deadline=None)
def test_a_sentence_with_a_word_too_much_or_too_few_is_read_or_refused(sentence: str, data: st.DataObject) -> None:
    words = sentence.split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    more = data.draw(st.sampled_from([[], *([word] for word in WORDS)]))
    refused(" ".join([*words[:place], *more, *words[place + data.draw(st.integers(0, 1)) :]]))


@pytest.mark.parametrize(
    "text", ["\0", "list \x07 of orders", "list \ud800 of orders", 'list "\x1b" of orders', "\x85"]
)
def test_control_characters_are_refused(text: str) -> None:
    error = refused(text)
    assert isinstance(error, UnreadableQuery)
    assert "no character of a sentence" in error.detail


def test_a_sentence_has_an_end() -> None:
    assert refused("list all of orders where note is " + "x" * (LONGEST - 33)) is None
    error = refused("list all of orders where note is " + "x" * (LONGEST - 32))
    assert isinstance(error, UnreadableQuery)
    assert "at most 500 characters, and this one 501" in error.detail


# -- time -------------------------------------------------------------------------------------------------------------

# Each repeated until the sentence is as long as it can be.
REPEATED = [
    ("", '"'), ("", '""'), ("", "“"), ("", "("), ("", ","), ("", "and "), ("", "is "), ("", "not "), ("", "total "),
    ("", "how many "), ("", "number of distinct "), ("", "at "), ("", "a "), ("", "a"), ("", "a.b"), ("", "a's "),
    ("", " "), ("", "."), ("", "é"), ("", "1,111"), ("", "is not "), ("", "for "), ("", "İ"), ("", "-"),
    ("list ", "a,"), ("list a", ", field1Wide"), ("list wideId", " and wideId"), ("top ", "1"), ("limit ", "1,111,"),
    ("list all of wide where ", "not "), ("list all of wide where ", "(wideId is a) and "),
    ("list all of wide where wideId is a", " and wideId is a"), ("list wideId where wideId is a", " or wideId is b"),
    ("list all of wide where wideId is ", "x "), ("list all of wide where wideId is ", '"'),
    ("list all of wide where wideId is one of a", ", a"), ("list all of wide where field1Wide is ", "9"),
    ("list all of wide where field1Wide is ", "1,111"), ("list all of wide with wide", ", wide"),
    ("list all of wide where field1Wide is 1", "e1"), ("list all of wide where field1Wide is ", "."),
]  # fmt: skip


def fastest(text: str) -> float:
    """Seconds that reading or refusing takes, at best."""
    found = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        with suppress(UnreadableQuery, UnknownWord, AmbiguousQuery):
            read_sentence(text, WIDE)
        found.append(time.perf_counter() - begun)
    return min(found)


@pytest.mark.parametrize(("begin", "again"), REPEATED)
def test_the_longest_sentences_take_little_time(begin: str, again: str) -> None:
    warm()
    text = (begin + again * LONGEST)[:LONGEST]
    assert fastest(text) < FASTEST
    assert fastest(f'{text[: LONGEST - 1]}"') < FASTEST


def test_ordinary_sentences_take_little_time() -> None:
    warm()
    for sentence in [*(sentence for sentence, _ in CASES), *(sentence for sentence, *_ in REFUSALS)]:
        begun = time.perf_counter()
        refused(sentence)
        if time.perf_counter() - begun >= FASTEST:  # once more: something else ran meanwhile
            assert fastest(sentence) < FASTEST


def test_many_datasets_are_tried_in_little_time() -> None:
    many = catalogue(
        *(
            contract(f"set{number}", f"key{number}", " ".join(f"field{number}x{field}:number" for field in range(30)))
            for number in range(100)
        )
    )
    assert read_sentence("total field7x3 and field7x4 by key7", many).query.dataset == "set7"
    with pytest.raises(UnknownWord):
        read_sentence("total field7x3 and field8x4 by key7", many)
    begun = time.perf_counter()
    with pytest.raises(UnknownWord):
        read_sentence("total field7x3 and field8x4 by key7", many)
    assert time.perf_counter() - begun < 10 * FASTEST
