"""The model of queries itself, on cases that were worked out by hand: who tests the tests."""

from decimal import Decimal
from typing import Any

import pytest

from tests.support.query_model import Dataset, Join, Oracle, Refused, passes

Document = dict[str, Any]

CUSTOMERS: dict[str, Document] = {
    "C1": {"name": "Ann", "city": "Bern", "credit": 100},
    "C2": {"name": "bob", "city": "Bern", "credit": Decimal("50.5")},
    "C3": {"name": "Cid", "credit": 7},
}
ORDERS: dict[str, Document] = {
    "O1": {"customer": "C1", "amount": 10, "seller": "S1", "paid": True},
    "O2": {"customer": "C1", "amount": 20, "seller": "S1", "paid": False},
    "O3": {"customer": "C2", "amount": Decimal("0.5"), "seller": "S2"},
    "O4": {"customer": "nobody", "amount": 1000},
    "O5": {"amount": None},
}
VISITS: dict[str, Document] = {
    "V1": {"customer": "C1"},
    "V2": {"customer": "C1"},
    "V3": {"customer": "C1"},
    "V4": {"customer": "C3"},
}
SELLERS: dict[str, Document] = {"S1": {"name": "Sue", "rank": 1}, "S2": {"name": "Tom", "rank": 2}}


def oracle(*more: Join) -> Oracle:
    """Customers with their orders and visits, orders with their sellers."""
    fields = {
        "customers": {"customerId": "text", "name": "text", "city": "text", "credit": "number"},
        "orders": {"customer": "text", "amount": "number", "seller": "text", "paid": "boolean"},
        "visits": {"customer": "text"},
        "sellers": {"sellerId": "text", "name": "text", "rank": "integer"},
    }
    rows: dict[str, dict[str, Document]] = {
        "customers": {key: {"customerId": key, **row} for key, row in CUSTOMERS.items()},
        "orders": ORDERS,
        "visits": VISITS,
        "sellers": {key: {"sellerId": key, **row} for key, row in SELLERS.items()},
    }
    joins = (
        Join("1", "orders", ("customer",), "customers", ("customerId",)),
        Join("2", "orders", ("seller",), "sellers", ("sellerId",)),
        Join("3", "visits", ("customer",), "customers", ("customerId",)),
    )
    return Oracle({name: Dataset(fields[name], rows[name]) for name in fields}, (*joins, *more))


def rows(query: Document) -> list[tuple[Any, ...]]:
    """The rows of an answer by the places of its columns."""
    answer = oracle().answer(query)
    return [tuple(row[name] for name in answer.columns) for row in answer.rows]


def figure(function: str, field: str | None = None, name: str = "x") -> Document:
    return {"name": name, "function": function} | ({"field": field} if field else {})


ORDERS_JOIN = {"dataset": "orders", "as": "o"}
SELLERS_JOIN = {"dataset": "sellers", "as": "s", "from": "o"}
CUSTOMER_JOIN = {"dataset": "customers", "as": "c"}


def test_a_listing_has_all_fields_in_the_order_of_ids() -> None:
    assert rows({"dataset": "customers"}) == [
        ("C1", "C1", "Ann", "Bern", 100),
        ("C2", "C2", "bob", "Bern", Decimal("50.5")),
        ("C3", "C3", "Cid", None, 7),
    ]


def test_a_join_to_the_parent_keeps_rows_without_one_unless_it_is_inner() -> None:
    query = {"dataset": "orders", "fields": ["id", "c.name"], "joins": [CUSTOMER_JOIN]}
    left = [("O1", "Ann"), ("O2", "Ann"), ("O3", "bob"), ("O4", None), ("O5", None)]
    assert rows(query) == left
    assert rows(query | {"joins": [CUSTOMER_JOIN | {"type": "inner"}]}) == left[:3]


def test_a_join_to_children_multiplies_the_rows_of_a_listing() -> None:
    query = {"dataset": "customers", "fields": ["id", "o.id"], "joins": [ORDERS_JOIN]}
    assert rows(query) == [("C1", "O1"), ("C1", "O2"), ("C2", "O3"), ("C3", None)]


def test_filters_of_a_listing_come_after_its_joins() -> None:
    query = {"dataset": "orders", "fields": ["id"], "joins": [CUSTOMER_JOIN], "filters": {"c.name": None}}
    assert rows(query) == [("O4",), ("O5",)]


def test_nulls_are_last_ascending_and_first_descending_and_texts_go_by_code_points() -> None:
    query = {"dataset": "customers", "fields": ["id"]}
    assert rows(query | {"order": ["city", "-id"]}) == [("C2",), ("C1",), ("C3",)]
    assert rows(query | {"order": ["-city"]}) == [("C3",), ("C1",), ("C2",)]
    assert rows(query | {"order": ["-name"]}) == [("C2",), ("C3",), ("C1",)]


def test_a_limit_says_whether_there_was_more() -> None:
    for limit, truncated in ((2, True), (3, False)):
        answer = oracle().answer({"dataset": "customers", "limit": limit})
        assert (len(answer.rows), answer.truncated) == (limit, truncated)


def test_figures_of_all_rows_are_one_row_over_nothing_too() -> None:
    figures = [
        figure("count", None, "n"),
        figure("count", "paid", "p"),
        figure("sum", "amount", "s"),
        figure("average", "amount", "a"),
        figure("min", "amount", "l"),
    ]
    query = {"dataset": "orders", "aggregates": figures}
    assert rows(query) == [(5, 2, Decimal("1030.5"), Decimal("257.625"), Decimal("0.5"))]
    assert rows(query | {"filters": {"id": "O9"}}) == [(0, 0, None, None, None)]
    assert rows(query | {"filters": {"id": "O9"}, "groupBy": ["seller"]}) == []


def test_an_average_is_rounded_half_away_from_zero() -> None:
    values = {"A": Decimal("0.0000005"), "B": Decimal("-0.0000005"), "C": Decimal(1)}
    found = Oracle({"x": Dataset({"n": "number"}, {key: {"n": n} for key, n in values.items()})}, ())
    query = {"dataset": "x", "groupBy": ["id"], "aggregates": [figure("average", "n")]}
    assert [row["x"] for row in found.answer(query).rows] == [Decimal("0.000001"), Decimal("-0.000001"), 1]


def test_groups_are_by_value_and_by_what_parents_have() -> None:
    query = {
        "dataset": "orders",
        "joins": [CUSTOMER_JOIN],
        "groupBy": ["c.city"],
        "aggregates": [figure("sum", "amount"), figure("max", "c.name", "m"), figure("countDistinct", "c.name", "d")],
    }
    assert rows(query) == [("Bern", Decimal("30.5"), "bob", 2), (None, 1000, None, 0)]
    assert rows(query | {"order": ["-x"]}) == [(None, 1000, None, 0), ("Bern", Decimal("30.5"), "bob", 2)]


def test_two_branches_stand_beside_each_other_and_multiply_nothing() -> None:
    query = {
        "dataset": "customers",
        "joins": [ORDERS_JOIN, {"dataset": "visits", "as": "v"}],
        "groupBy": ["city"],
        "aggregates": [
            figure("sum", "credit", "credit"),
            figure("sum", "o.amount", "amount"),
            figure("count", "v.id", "visits"),
            figure("average", "o.amount", "average"),
        ],
    }
    assert rows(query) == [
        ("Bern", Decimal("150.5"), Decimal("30.5"), 3, Decimal("10.166667")),
        (None, 7, None, 1, None),
    ]


def test_a_filter_of_a_branch_goes_before_its_figures() -> None:
    query = {
        "dataset": "customers",
        "joins": [ORDERS_JOIN],
        "aggregates": [figure("count"), figure("sum", "o.amount", "s")],
    }
    assert rows(query | {"filters": {"o.amount": {"gt": 10}}}) == [(3, 20)]
    inner = {"joins": [ORDERS_JOIN | {"type": "inner"}]}
    assert rows(query | inner) == [(2, Decimal("30.5"))]
    assert rows(query | inner | {"filters": {"o.amount": {"gt": 10}}}) == [(1, 20)]
    assert rows(query | {"filters": {"city": "Bern", "or": [{"o.paid": True}, {"o.amount": {"lt": 1}}]}}) == [
        (2, Decimal("10.5"))
    ]


def test_parents_of_a_branch_serve_its_conditions_and_extremes() -> None:
    query = {
        "dataset": "customers",
        "joins": [ORDERS_JOIN, SELLERS_JOIN],
        "filters": {"s.rank": {"lte": 1}},
        "aggregates": [figure("count"), figure("sum", "o.amount", "s"), figure("max", "s.name", "m")],
    }
    assert rows(query) == [(3, 30, "Sue")]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"aggregates": [figure("sum", "c.credit")]}, "FAN_OUT"),
        ({"aggregates": [figure("count", "c.credit")]}, "FAN_OUT"),
        ({"aggregates": [figure("count")], "fields": ["seller"]}, "GROUP_BY_MISSING"),
    ],
)
def test_what_a_join_to_the_parent_cannot_say(more: Document, code: str) -> None:
    with pytest.raises(Refused) as refused:
        oracle().answer({"dataset": "orders", "joins": [CUSTOMER_JOIN], **more})
    assert refused.value.codes == {code}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"groupBy": ["o.seller"], "aggregates": [figure("count")]}, "FAN_OUT"),
        ({"aggregates": [figure("countDistinct", "o.seller")]}, "FAN_OUT"),
        ({"aggregates": [figure("sum", "s.rank")]}, "FAN_OUT"),
        ({"aggregates": [figure("count")], "filters": {"or": [{"o.paid": True}, {"city": "Bern"}]}}, "INVALID_QUERY"),
        ({"aggregates": [figure("count")], "filters": {"not": {"o.paid": True, "city": "Bern"}}}, "INVALID_QUERY"),
    ],
)
def test_what_a_branch_cannot_say(more: Document, code: str) -> None:
    with pytest.raises(Refused) as refused:
        oracle().answer({"dataset": "customers", "joins": [ORDERS_JOIN, SELLERS_JOIN], **more})
    assert refused.value.codes == {code}


def test_a_branch_of_a_parent_fans_out() -> None:
    query = {
        "dataset": "orders",
        "joins": [CUSTOMER_JOIN, {"dataset": "visits", "from": "c"}],
        "aggregates": [figure("count")],
    }
    with pytest.raises(Refused) as refused:
        oracle().answer(query)
    assert refused.value.codes == {"FAN_OUT"}


def test_of_two_joins_one_has_to_be_named() -> None:
    again = Join("9", "orders", ("seller",), "customers", ("customerId",))
    query = {"dataset": "orders", "fields": ["id"], "joins": [CUSTOMER_JOIN | {"type": "inner"}]}
    with pytest.raises(Refused) as refused:
        oracle(again).answer(query)
    assert refused.value.codes == {"AMBIGUOUS_JOIN"}
    named = query | {"joins": [CUSTOMER_JOIN | {"join": "9", "type": "inner"}]}
    assert oracle(again).answer(named).rows == []


@pytest.mark.parametrize(("root", "joined"), [("visits", "orders"), ("orders", "visits")])
def test_a_parent_that_is_not_unique_is_refused_from_either_side(root: str, joined: str) -> None:
    again = Join("9", "visits", ("customer",), "orders", ("customer",))
    with pytest.raises(Refused) as refused:
        oracle(again).answer({"dataset": root, "fields": ["id"], "joins": [{"dataset": joined}]})
    assert refused.value.codes == {"NOT_UNIQUE"}


@pytest.mark.parametrize(
    ("kind", "op", "given", "passing"),
    [
        ("text", "eq", "A", ["A"]),
        ("text", "ne", "A", ["a", "B", None]),
        ("text", "in", ["A", "B"], ["A", "B"]),
        ("text", "nin", ["A", "B"], ["a", None]),
        ("text", "eq", None, [None]),
        ("text", "ne", None, ["A", "a", "B"]),
        ("text", "isnull", True, [None]),
        ("text", "isnull", False, ["A", "a", "B"]),
        ("text", "gt", "A", ["a", "B"]),
        ("text", "lte", "B", ["A", "B"]),
        ("text", "contains", "a", ["A", "a"]),
        ("text", "startswith", "b", ["B"]),
    ],
)
def test_what_passes_an_operator(kind: str, op: str, given: Any, passing: list[Any]) -> None:
    assert [value for value in ("A", "a", "B", None) if passes(kind, op, value, given)] == passing


def test_not_is_true_where_its_condition_is_not() -> None:
    query = {"dataset": "customers", "fields": ["id"]}
    assert rows(query | {"filters": {"not": {"city": "Bern"}}}) == [("C3",)]
    assert rows(query | {"filters": {"not": {"city": {"ne": "Bern"}}}}) == [("C1",), ("C2",)]
    assert rows(query | {"filters": {"or": [{"city": None}, {"and": [{"name": {"contains": "BO"}}]}]}}) == [
        ("C2",),
        ("C3",),
    ]
