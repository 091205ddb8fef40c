"""Sentences, and the question that each stands for."""

import re
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.base.errors import AmbiguousQuery, FanOut, UnknownWord, UnreadableQuery
from app.contracts.filters import BOUNDS
from app.engine.query.model import Query
from app.engine.query.reading import read_query
from app.english import AskedValue, Reading, is_readable, read_sentence, write_sentence
from tests.support.english import CUSTOMERS, EVERYTHING, FLEET, ORDERS, SHIPMENTS, VENDORS, catalogue

SUPPORT = Path(__file__).parent / "support"
DOCUMENT = Path(__file__).parent.parent / "docs" / "english.md"
SHOP = catalogue(CUSTOMERS, ORDERS, VENDORS, SHIPMENTS)
ROW = re.compile(r"^\| `(?P<sentence>.+?)` \| `(?P<question>.+)` \|$", re.MULTILINE)
REFUSED = re.compile(r"^\| `(?P<sentence>.+?)` \| `(?P<code>[A-Z_]+)` \| (?P<because>.+) \|$", re.MULTILINE)
MOST_ROWS = 10**9


def section(heading: str) -> str:
    """A chapter of the document."""
    return re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1], flags=re.M)[0]


def documented() -> list[tuple[str, str]]:
    found = [
        (match["sentence"], match["question"])
        for table in DOCUMENT.read_text(encoding="utf-8").split("| sentence | question |")[1:]
        for match in ROW.finditer(table.split("\n\n")[0])
    ]
    assert len(found) > 12
    return found


def query_of(told: str) -> Query:
    return msgspec.json.decode(told, type=Query)


def told(file: str) -> list[tuple[str, str]]:
    """Sentences of a file, each with what stands below it."""
    lines = [line for line in (SUPPORT / file).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return [(sentence, said.strip()) for sentence, said in zip(lines[::2], lines[1::2], strict=True)]


CASES = told("english_sentences.txt")


@pytest.mark.parametrize(("sentence", "question"), [*CASES, *documented()], ids=lambda told: str(told)[:60])
def test_a_sentence_is_a_question(sentence: str, question: str) -> None:
    reading = read_sentence(sentence, EVERYTHING)
    assert reading.query == query_of(question)
    with suppress(FanOut):  # the engine takes it, unless a figure would count rows several times
        read_query(reading.query, EVERYTHING, BOUNDS, MOST_ROWS)
    assert is_readable(reading.query, EVERYTHING)


def test_there_are_enough_sentences() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("sentence", [sentence for sentence, _ in CASES])
def test_blanks_and_the_end_do_not_count(sentence: str) -> None:
    query = read_sentence(sentence, EVERYTHING).query
    spread = sentence if '"' in sentence else sentence.replace(" ", " \n\t")
    for said in (f"  {sentence} ", f"{sentence}.", f"{sentence} ?", spread, spread.replace("\n", "\u2003")):
        assert read_sentence(said, EVERYTHING).query == query


def test_capitals_do_not_count_in_names_and_words_of_the_grammar() -> None:
    said = "TOP 3 CHANNELS BY TOTAL AMOUNT OF ORDERS WHERE PAID IS YES"
    assert read_sentence(said, SHOP).query == read_sentence(said.lower(), SHOP).query


@pytest.mark.parametrize(
    "sentence",
    [
        "list amount of orders where amount \u0131s 2",
        "list amount of orders where amount İs 2",
        "list amount of orders where amount i\u017f 2",
        "list amount of orders where date \u017fince 2026-01-31",
        "m\u0131n\u0131mum amount of orders",
        "total amount of order\u017f by channel l\u0131m\u0131t 5",
        "l\u0131st amount of orders",
        "top \u0661 channels by turnover",
    ],
)
def test_a_letter_that_is_none_of_the_grammars_makes_another_word(sentence: str) -> None:
    """Python takes a dotless i, and one with a dot on its capital, for an i, and a long s for an s, in any case."""
    with pytest.raises((UnreadableQuery, UnknownWord)):
        read_sentence(sentence, SHOP)


@pytest.mark.parametrize(
    "said", ["customerId", "customer id", "Customer-ID", "customer_id", "customer ids", '"customerId"', "“customerId”"]
)
def test_a_name_can_be_written_in_many_ways(said: str) -> None:
    assert read_sentence(f"list {said} of orders", SHOP).query.fields == ("customerId",)


def test_a_label_is_a_name() -> None:
    assert read_sentence("list dor and PROJECT CODE of pfa", EVERYTHING).query.fields == ("dor", "contract")
    assert read_sentence('list "Customer since" of customers', SHOP).query.fields == ("since1",)


def test_the_dataset_is_the_one_that_all_words_fit() -> None:
    assert read_sentence("list date where carrier is empty", SHOP).query.dataset == "shipments"
    assert read_sentence("list date where channel is empty", SHOP).query.dataset == "orders"
    with pytest.raises(AmbiguousQuery) as caught:
        read_sentence("list date", SHOP)
    assert caught.value.extra["candidates"] == ["list date of orders", "list date of shipments"]


def test_each_candidate_is_a_sentence_that_is_one_question() -> None:
    for sentence in ("list date", "how many orders", "show me customers", "total amount by customer.region"):
        with pytest.raises(AmbiguousQuery) as caught:
            read_sentence(sentence, EVERYTHING)
        found = [read_sentence(candidate, EVERYTHING).query for candidate in caught.value.extra["candidates"]]
        assert len(found) > 1
        assert all(one != other for place, one in enumerate(found) for other in found[:place])


@pytest.mark.parametrize(
    ("sentence", "filters"),
    [
        ("top 5 customers by revenue", {"revenue": {"isnull": False}}),
        ("bottom 5 customers by revenue and name", {"revenue": {"isnull": False}}),
        ("top 5 customers by id", {}),
        ("top 5 orders by customer.id", {"customers.id": {"isnull": False}}),
        ("top 5 orders by amount where amount is not empty", {"amount": {"isnull": False}}),
        ("top 5 odd rows by odd.and", {"odd.and": {"isnull": False}}),
        (
            "top 5 orders by amount where paid is yes or note is empty",
            {"or": [{"paid": True}, {"note": None}], "amount": {"isnull": False}},
        ),
        (
            "top 5 channels by turnover where amount between 1 and 2",
            {"amount": {"gte": 1, "lte": 2, "isnull": False}},
        ),
        ("turnover, average amount and number of amount by channel top 5", {"amount": {"isnull": False}}),
        ("top 5 channels by maximum customer.revenue", {"customers.revenue": {"isnull": False}}),
        ("turnover by channel ordered by turnover descending limit 5", {}),
        # Of these each group has a figure, or the other figures would lose rows.
        ("top 5 channels by number of note", {}),
        ("top 5 channels by number of distinct note", {}),
        ("top 5 channels by turnover and number of rows", {}),
        ("top 5 channels by turnover and total quantity", {}),
        ("top 5 regions of customers by total orders.amount", {}),
    ],
)
def test_what_has_no_value_is_not_ranked(sentence: str, filters: dict[str, Any]) -> None:
    query = read_sentence(sentence, EVERYTHING).query
    assert query.filters == filters
    assert is_readable(query, EVERYTHING)


def test_conditions_as_deep_as_they_may_be_are_ranked() -> None:
    deep = f"{'not (' * 10}not paid is yes{')' * 10}"
    (tree, ranked) = read_sentence(f"top 5 orders by amount where {deep}", SHOP).query.filters.items()
    assert (tree[0], ranked) == ("not", ("amount", {"isnull": False}))


# -- values ---------------------------------------------------------------------------------------------------------


def test_words_that_stand_as_values_are_asked_for() -> None:
    sentence = 'list amount of orders where channel is web and note is none of great gift, "literal" or x'
    reading = read_sentence(sentence, SHOP)
    assert reading.query.filters == {"channel": "web", "note": {"nin": ["great gift", "literal", "x"]}}
    assert [(asked.dataset, asked.field, asked.word, asked.place) for asked in reading.asked] == [
        ("orders", "channel", "web", sentence.index("web")),
        ("orders", "note", "great gift", sentence.index("great")),
        ("orders", "note", "x", len(sentence) - 1),
    ]
    found = {reading.asked[0].place: "Web", reading.asked[1].place: "Great gift!"}
    assert reading.with_values(found).filters == {
        "channel": "Web",
        "note": {"nin": ["Great gift!", "literal", "x"]},
    }
    assert reading.query.filters["channel"] == "web", "a reading stays as it is"


def test_values_of_joined_datasets_and_in_groups_are_asked_for() -> None:
    sentence = "turnover of orders where paid is yes or (customer.region is emea and not customer's name is not ACME)"
    reading = read_sentence(sentence, SHOP)
    assert [(asked.dataset, asked.field, asked.word) for asked in reading.asked] == [
        ("customers", "region", "emea"),
        ("customers", "name", "ACME"),
    ]
    query = reading.with_values({asked.place: asked.word.title() for asked in reading.asked})
    assert query.filters == {
        "or": [{"paid": True}, {"customers.region": "Emea", "not": {"customers.name": {"ne": "Acme"}}}]
    }


@pytest.mark.parametrize("condition", ["contains web", "starts with web", "above web", 'is "web"', "is empty"])
def test_what_is_no_whole_value_is_not_asked_for(condition: str) -> None:
    assert read_sentence(f"list amount of orders where note {condition}", SHOP).asked == ()


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("amount is 1,000", 1000),
        ("amount is -1,234,567.50", Decimal("-1234567.5")),
        ("amount is 1e3", Decimal(1000)),
        ("amount is 0.10", Decimal("0.1")),
        ("quantity is 7", 7),
        ("quantity is 1,000", 1000),
        ("paid is TRUE", True),
        ("paid is No", False),
        ("date is 2026-02-28", "2026-02-28"),
        ('date is "2026-02-28"', "2026-02-28"),
        ("sentAt is 2026-01-31T10:30:00.50+02:00", "2026-01-31T08:30:00.5Z"),
        ("sentAt is 2026-01-31 08:30:00Z", "2026-01-31T08:30:00Z"),
        ("note is 1,000", "1,000"),
        ("note is two  words", "two words"),
        ('note is "two  words"', "two  words"),
        ('note is "say ""so"""', 'say "so"'),
        ('note is “straight " inside”', 'straight " inside'),
        ("note is it's", "it's"),
        ('note is ""', ""),
        ("note is A/B-12:x@y.example", "A/B-12:x@y.example"),
        ('note is "and, or (where)"', "and, or (where)"),
        ("note is \u0131s i\u017f l\u0131st", "\u0131s i\u017f l\u0131st"),
    ],
)
def test_a_value_has_the_type_of_its_field(said: str, value: Any) -> None:
    found = read_sentence(f"list amount of orders where {said}", SHOP).query.filters[said.split()[0]]
    assert (found, type(found)) == (value, type(value))


# -- refusals -------------------------------------------------------------------------------------------------------

ERRORS = {error.code: error for error in (UnreadableQuery, UnknownWord, AmbiguousQuery)}
REFUSALS = [(sentence, *said.split(" ", 1)) for sentence, said in told("english_refused.txt")]


def documented_refusals() -> list[tuple[str, str, str]]:
    rows = REFUSED.finditer(section("What is refused"))
    found = [(match["sentence"], match["code"], match["because"]) for match in rows]
    assert len(found) > 8
    return found


@pytest.mark.parametrize(("sentence", "code", "because"), [*REFUSALS, *documented_refusals()], ids=lambda it: it[:60])
def test_a_sentence_is_refused_with_a_hint(sentence: str, code: str, because: str) -> None:
    with pytest.raises(ERRORS[code]) as caught:
        read_sentence(sentence, EVERYTHING)
    error = caught.value
    told = " ".join([error.detail, *error.extra.get("expected", ())])
    assert because in told
    word, place = error.extra["word"], error.extra["place"]
    assert word.split()[:1] == sentence[place:].lstrip('"“').split()[: 1 if word else 0] or word in sentence
    assert len(error.extra.get("candidates", ())) <= 10
    for example in error.extra.get("examples", ()):
        assert read_sentence(example, EVERYTHING)


def test_there_are_enough_refusals() -> None:
    assert len(REFUSALS) >= 40


def test_examples_are_of_the_dataset_that_is_meant() -> None:
    with pytest.raises(UnreadableQuery) as caught:
        read_sentence("show the kind of vehicles in fleet where", EVERYTHING)
    assert caught.value.extra["examples"] == [
        "total seats of fleet by depot ordered by total seats descending limit 10",
        "list plate and depot of fleet limit 10",
    ]
    with pytest.raises(UnknownWord) as caught_too:
        read_sentence("list wheels", catalogue(FLEET))
    assert "fleet" in caught_too.value.extra["examples"][0]


def test_without_datasets_there_is_nothing_to_ask() -> None:
    with pytest.raises(UnreadableQuery, match="no dataset to ask about") as caught:
        read_sentence("total amount", catalogue())
    assert caught.value.extra["examples"] == []


def test_a_reading_without_words_is_its_query() -> None:
    reading = read_sentence("list all of vendors", SHOP)
    assert reading == Reading(query=Query(dataset="vendors"), asked=())
    assert reading.with_values({}) == reading.query


def test_the_canonical_sentence() -> None:
    query = read_sentence("top 5 channels by turnover where channel is Web", SHOP).query
    said = (
        'turnover of orders by channel where channel is "Web" and amount is not empty '
        "ordered by turnover descending limit 5"
    )
    assert write_sentence(query, SHOP) == said


def test_asked_values_have_a_shape() -> None:
    (asked,) = read_sentence("list amount where channel is Web", SHOP).asked
    assert asked == AskedValue(dataset="orders", field="channel", word="Web", place=29, path=("channel",))
