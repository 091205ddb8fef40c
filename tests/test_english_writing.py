"""Queries as sentences: what is written is read as the same query, whatever it is about and whatever its names are."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from app.base.errors import AmbiguousQuery, VanguardError
from app.contracts.filters import BOUNDS, operators_of
from app.contracts.shape import FieldType
from app.engine.query.catalogue import Catalogue
from app.engine.query.model import DEEPEST, Function, Query, QueryAggregate, QueryJoin
from app.engine.query.reading import read_query
from app.english import is_readable, normal_form, read_sentence, write_sentence
from app.english.conditions import GROUPS
from app.english.lexicon import lexicon_of
from app.english.shortest import is_idle
from tests.support.english import EVERYTHING, ODD, ORDERS

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    ["Rental", 'say "so"', "and", "where x is y", "“odd”", "a, b or c", "()", "", " ", "1,000", "it's."]
)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "enum": TEXTS,
    "number": st.integers(-(10**9), 10**9) | st.decimals(-1000, 1000, places=3),
    "integer": st.integers(-(10**9), 10**9),
    "boolean": st.booleans(),
    "date": st.dates().map(str),
    "datetime": st.sampled_from(["2026-01-31T08:30:00Z", "1999-12-31T23:59:59.5Z"]),
}
FUNCTIONS: list[Function] = ["count", "countDistinct", "sum", "average", "min", "max"]
MOST_ROWS = 10**9 - 1
SUMMED = ("number", "integer")


@st.composite
def joined(draw: st.DrawFn, dataset: str) -> tuple[QueryJoin, ...]:
    """Up to two joins, the second of the first's dataset or of the first one's."""
    found: list[QueryJoin] = []
    aliases = {dataset: dataset}
    for number in range(draw(st.integers(0, 2))):
        choices = [
            (alias, each, {each.child, each.parent} - {of} or {of})
            for alias, of in aliases.items()
            for each in EVERYTHING.joins
            if of in (each.child, each.parent)
        ]
        if not choices:
            break
        origin, join, (other,) = draw(st.sampled_from(choices))
        alias = draw(st.sampled_from([f"with{number}", f"by{number}", f"buyer{number}"]))
        if other not in aliases and draw(st.booleans()):
            alias = other
        aliases[alias] = other
        kind: Any = draw(st.sampled_from(["left", "inner"]))
        found.append(
            QueryJoin(dataset=other, alias=alias, from_=None if origin == dataset else origin, join=join.id, type=kind)
        )
    return tuple(found)


@st.composite
def conditions(draw: st.DrawFn, types: dict[str, FieldType]) -> dict[str, Any]:
    path = draw(st.sampled_from(sorted(types)))
    kind = types[path]
    op = draw(st.sampled_from(operators_of(kind)))
    value: Any = draw(VALUES[kind])
    if op in ("in", "nin"):
        value = draw(st.lists(VALUES[kind], min_size=1, max_size=3))
    if op == "isnull":
        value = draw(st.booleans())
    name = f"odd.{path}" if path in ("and", "or", "not") else path
    return {name: value if op == "eq" and draw(st.booleans()) else {op: value}}


def filters(types: dict[str, FieldType]) -> st.SearchStrategy[dict[str, Any]]:
    return st.just({}) | st.recursive(
        conditions(types),
        lambda inner: (
            st.builds(lambda parts: {"and": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda parts: {"or": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda part: {"not": part}, inner)
        ),
        max_leaves=4,
    )


@st.composite
def queries(draw: st.DrawFn, catalogue: Catalogue = EVERYTHING) -> Query:
    """Any question that the engine takes."""
    dataset = draw(st.sampled_from(sorted(catalogue.datasets)))
    joins = draw(joined(dataset))
    types = dict(lexicon_of(catalogue.datasets[dataset].contract).types)
    for join in joins:
        own = lexicon_of(catalogue.datasets[join.dataset].contract).types
        types |= {f"{join.alias}.{name}": kind for name, kind in own.items()}
    paths = st.lists(st.sampled_from(sorted(types)), unique=True, max_size=3)
    chosen = draw(paths)
    query = Query(
        dataset=dataset, joins=joins, filters=draw(filters(types)), limit=draw(st.none() | st.integers(1, 10**9 - 1))
    )
    if draw(st.booleans()):
        order = draw(paths)
        return msgspec.structs.replace(query, fields=tuple(chosen), order=tuple(map(draw_direction(draw), order)))
    aggregates = [draw(aggregate(types, number)) for number in range(draw(st.integers(1, 3)))]
    order = draw(st.lists(st.sampled_from([*chosen, *(each.name for each in aggregates)]), unique=True, max_size=2))
    return msgspec.structs.replace(
        query,
        group_by=tuple(path for path in chosen if path not in {each.name for each in aggregates}),
        aggregates=tuple({each.name: each for each in aggregates}.values()),
        order=tuple(map(draw_direction(draw), order)),
    )


def draw_direction(draw: st.DrawFn) -> Any:
    return lambda key: f"-{key}" if draw(st.booleans()) else key


@st.composite
def aggregate(draw: st.DrawFn, types: dict[str, FieldType], number: int) -> QueryAggregate:
    path = draw(st.sampled_from(sorted(types)))
    kind = types[path]
    fitting = [each for each in FUNCTIONS if kind in SUMMED or each not in ("sum", "average")]
    fitting = [each for each in fitting if kind != "boolean" or each not in ("min", "max")]
    function = draw(st.sampled_from(fitting))
    field = None if function == "count" and draw(st.booleans()) else path
    name = draw(st.sampled_from([f"figure{number}", "cost", "turnover", "by", "odds", "total", "count"]))
    return QueryAggregate(name=name, function=function, field=field)


def asked_back(query: Query, sentence: str) -> bool:
    """Whether a join of the query changes nothing, so that its sentence is asked back: without it, or with those that
    match alone; both can be said, but for another such join.
    """
    idle = [join for join in query.joins if is_idle(query, join, EVERYTHING)]
    if idle:
        assert not is_readable(query, EVERYTHING)
        with pytest.raises(AmbiguousQuery, match="nothing of it is asked for") as caught:
            read_sentence(sentence, EVERYTHING)
        without, matching = caught.value.extra["candidates"]
        if len(query.joins) == 1:
            assert read_sentence(without, EVERYTHING).query.joins == ()
            assert [join.type for join in read_sentence(matching, EVERYTHING).query.joins] == ["inner"]
    return bool(idle)


@pytest.mark.parametrize(
    ("sentence", "idle"),
    [
        ("list name of customers with orders", False),
        ("list all of orders with shipments limit 5", False),
        ("number of rows of customers with orders", True),
        ("total revenue of customers by region with orders", True),
        ("list amount of orders with customers", True),
        ('list "name" of vendors with vendors as home', True),  # itself: the way is to the one
        ("list name of customers with matching orders", False),
    ],
)
def test_a_join_is_idle_where_it_changes_no_row(sentence: str, idle: bool) -> None:
    """Many partners are many rows of a listing, and none of a figure; one partner is no row more."""
    if idle:
        with pytest.raises(AmbiguousQuery, match="nothing of it is asked for"):
            read_sentence(sentence, EVERYTHING)
    else:
        assert is_readable(read_sentence(sentence, EVERYTHING).query, EVERYTHING)


@given(queries())
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read_as_the_same(query: Query) -> None:
    sentence = write_sentence(query, EVERYTHING)
    if len(sentence) > 500:
        assert not is_readable(query, EVERYTHING)
        return
    note(sentence)
    if asked_back(query, sentence):
        return
    reading = read_sentence(sentence, EVERYTHING)
    assert reading.query == normal_form(query, EVERYTHING)
    assert reading.asked == ()
    assert write_sentence(reading.query, EVERYTHING) == sentence


@given(queries())
@settings(max_examples=150, deadline=None)
def test_the_engine_takes_both_for_one_question(query: Query) -> None:
    """The engine's own normal form, of which digests are made, with all that it adds: its sentence is read as it is."""
    try:
        question = read_query(query, EVERYTHING, BOUNDS, MOST_ROWS)
    except VanguardError:
        return
    sentence = write_sentence(question.query, EVERYTHING)
    if len(sentence) > 500:
        return
    note(sentence)
    if asked_back(question.query, sentence):
        return
    reading = read_sentence(sentence, EVERYTHING)
    again = read_query(reading.query, EVERYTHING, BOUNDS, MOST_ROWS).query
    itself = read_query(question.query, EVERYTHING, BOUNDS, MOST_ROWS).query
    assert again == itself
    assert msgspec.json.encode(again) == msgspec.json.encode(itself)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(GROUPS), inner),
    max_leaves=8,
)
WORDS = st.text(min_size=1, max_size=8) | st.sampled_from(["orders", "amount", "-amount", "customers.name", "and", "."])


@given(
    st.builds(
        Query,
        dataset=WORDS,
        fields=st.lists(WORDS, max_size=3).map(tuple),
        filters=st.dictionaries(WORDS | st.sampled_from(GROUPS), JSON, max_size=3),
        joins=st.lists(
            st.builds(
                QueryJoin, dataset=WORDS, alias=st.none() | WORDS, from_=st.none() | WORDS, join=st.none() | WORDS
            ),
            max_size=2,
        ).map(tuple),
        group_by=st.lists(WORDS, max_size=2).map(tuple),
        aggregates=st.lists(
            st.builds(QueryAggregate, name=WORDS, function=st.sampled_from(FUNCTIONS), field=st.none() | WORDS),
            max_size=2,
        ).map(tuple),
        order=st.lists(WORDS, max_size=2).map(tuple),
        limit=st.none() | st.integers(1),
    )
)
@settings(max_examples=150, deadline=None)
def test_any_query_has_a_sentence(query: Query) -> None:
    sentence = write_sentence(query, EVERYTHING)
    assert sentence
    if is_readable(query, EVERYTHING):
        assert read_sentence(sentence, EVERYTHING).query == normal_form(query, EVERYTHING)


@pytest.mark.parametrize("kind", ["and", "or", "not"])
def test_filters_of_any_depth_have_a_sentence(kind: str) -> None:
    filters: dict[str, Any] = {"amount": 1}
    for _ in range(300):
        filters = {kind: filters if kind == "not" else [filters, {"amount": 2}]}
    query = Query(dataset="orders", filters=filters)
    assert write_sentence(query, EVERYTHING)
    assert not is_readable(query, EVERYTHING)


@pytest.mark.parametrize("depth", range(DEEPEST + 1))
def test_filters_as_deep_as_they_may_be_are_read(depth: int) -> None:
    filters: dict[str, Any] = {"amount": 1, "quantity": 2}
    for level in range(depth):
        filters = {"or": [filters, {"paid": True}]} if level % 2 else {"not": filters}
    assert is_readable(Query(dataset="orders", fields=("amount",), filters=filters), EVERYTHING)


# -- names ------------------------------------------------------------------------------------------------------------


ODD_FIELDS = lexicon_of(ODD).types


@pytest.mark.parametrize("name", ODD_FIELDS)
def test_every_field_can_be_said_whatever_it_is_called(name: str) -> None:
    kind = ODD_FIELDS[name]
    filters = {f"odd.{name}" if name in GROUPS else name: {"isnull": False}}
    count = QueryAggregate(name="count", function="countDistinct", field=name)
    for query in (
        Query(dataset="odd", fields=(name,), order=(f"-{name}",)),
        Query(dataset="odd", fields=("id", name) if name != "id" else ("id",), filters=filters),
        Query(dataset="odd", group_by=(name,), aggregates=(count,), order=(name, "-count")),
        Query(dataset="customers", joins=(QueryJoin(dataset="odd"),), fields=(f"odd.{name}",)),
        Query(dataset="customers", joins=(QueryJoin(dataset="odd", alias="by"),), order=(f"by.{name}",)),
    ):
        assert is_readable(query, EVERYTHING), write_sentence(query, EVERYTHING)
    if kind in SUMMED:
        total = QueryAggregate(name="total", function="sum", field=name)
        assert is_readable(Query(dataset="odd", aggregates=(total,), order=("total",)), EVERYTHING)


@pytest.mark.parametrize("label", ["Größe", "数量", "GRÖSSE", "gro\u0308\u00dfe"])
def test_a_label_is_said_in_any_language(label: str) -> None:
    assert read_sentence(f"list {label} of odd", EVERYTHING).query.fields[0] in ("groesse", "amount")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ('"is empty"', "by"),
        ('"the ""list"""', "list"),
        ('"where"', "where"),  # the name comes before the label of another field
        ('"odd.nowhere"', "nowhere"),
        ("\"O'Hara's\"", "oddRowsOf"),
        ("O'Hara's", "oddRowsOf"),
        ("startsOn", "startsOn"),
        ('"rows"', "rows"),
    ],
)
def test_odd_names_are_said_in_quotes(said: str, field: str) -> None:
    assert read_sentence(f"list {said} of odd", EVERYTHING).query.fields == (field,)


@pytest.mark.parametrize("name", ["iS", "bY", "orderedBy", "tHan", "wITH", "rECORDS"])
def test_what_is_given_a_name_can_be_called_as_a_word_of_the_grammar_in_any_case(name: str) -> None:
    total = QueryAggregate(name=name, function="sum", field=f"{name}.amount")
    query = Query(dataset="shipments", joins=(QueryJoin(dataset="orders", alias=name),), aggregates=(total,))
    for each in (query, msgspec.structs.replace(query, order=(f"-{name}",), limit=3)):
        assert is_readable(each, EVERYTHING), write_sentence(each, EVERYTHING)


def test_a_measure_and_a_field_of_one_name_are_asked_back() -> None:
    """The measure cost is an average: the word alone could be the total of the field, too."""
    with pytest.raises(AmbiguousQuery) as caught:
        read_sentence("cost of odd", EVERYTHING)
    assert caught.value.extra["candidates"] == ['average "odd.cost"', 'total "odd.cost"']
    for candidate in caught.value.extra["candidates"]:
        assert len(read_sentence(f"{candidate} of odd", EVERYTHING).query.aggregates) == 1


# -- the form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (Query(dataset="orders", fields=("id", *ORDERS.by_name), limit=5), "list all of orders limit 5"),
        (Query(dataset="orders", fields=("orders.amount",)), "list amount of orders"),
        (
            Query(
                dataset="orders",
                joins=(QueryJoin(dataset="customers", alias="customers", from_="orders", join="j-customer"),),
            ),
            "list all of orders with customers",
        ),
        (
            Query(dataset="orders", filters={"note": ["a"], "amount": {"gt": Decimal("1.50")}, "date": None}),
            'list all of orders where note is one of ("a") and amount above 1.50 and date is empty',
        ),
        (
            Query(dataset="orders", filters={"not": {"or": [{"paid": True}, {"not": {"not": {"quantity": 1}}}]}}),
            "list all of orders where not (paid is true or not (not quantity is 1))",
        ),
        (Query(dataset="nowhere", fields=("x",)), 'list "x" of "nowhere"'),
        (Query(dataset="orders", filters={"amount": {"gt": "many"}}), 'list all of orders where amount above "many"'),
        (Query(dataset="orders", filters={"amount": {"near": 1}}), "list all of orders where amount near 1"),
    ],
)
def test_the_canonical_sentence(query: Query, sentence: str) -> None:
    assert write_sentence(query, EVERYTHING) == sentence


@pytest.mark.parametrize(
    "query",
    [
        Query(dataset="nowhere"),
        Query(dataset="orders", fields=("colour",)),
        Query(dataset="orders", filters={"amount": {"gt": "many"}}),
        Query(dataset="orders", filters={"amount": {"near": 1}}),
        Query(dataset="orders", filters={"and": []}),
        Query(dataset="orders", filters={"note": "\0"}),
        Query(dataset="orders", filters={"note": "x" * 500}),
        Query(dataset="orders", joins=(QueryJoin(dataset="vendors"),)),
        Query(dataset="orders", group_by=("paid",)),
        Query(dataset="orders", limit=10**12),
    ],
)
def test_what_no_sentence_says_is_told(query: Query) -> None:
    assert not is_readable(query, EVERYTHING)
