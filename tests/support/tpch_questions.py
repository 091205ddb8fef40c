"""The 22 questions of TPC-H as queries, or why one is none; names are those of tpch.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Document = dict[str, Any]
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Said:
    """A question as a query: `columns` in the order of the published answer, and what is left to do with the rows."""

    query: Document
    columns: tuple[str, ...]
    read: Callable[[list[Row]], list[Row]] = field(default=list)


@dataclass(frozen=True)
class Unsaid:
    """Why a question is none of the language."""

    reason: str


def inner(dataset: str, origin: str = "", alias: str = "") -> Document:
    """A join that drops what has no partner, as those of SQL do."""
    words = {"dataset": dataset, "type": "inner", "from": origin, "as": alias}
    return {name: word for name, word in words.items() if word}


def total(name: str, of: str) -> Document:
    """A sum."""
    return {"name": name, "function": "sum", "field": of}


def shares_of(nation: str) -> Callable[[list[Row]], list[Row]]:
    """By the first column, the part that one value of the second has in the third."""

    def read(rows: list[Row]) -> list[Row]:
        whole: dict[Any, Decimal] = {}
        part: dict[Any, Decimal] = {}
        for key, name, amount in rows:
            whole[key] = whole.get(key, Decimal(0)) + amount
            part[key] = part.get(key, Decimal(0)) + (amount if name == nation else 0)
        return [(key, part[key] / whole[key]) for key in whole]

    return read


def promoted(rows: list[Row]) -> list[Row]:
    """What of the second column is where the first is true, in percent."""
    return [(100 * sum(amount for promo, amount in rows if promo) / sum(amount for _, amount in rows),)]


def beside(rows: list[Row]) -> list[Row]:
    """Counts of true and false beside each other."""
    found: dict[Any, dict[bool, int]] = {}
    for mode, urgent, count in rows:
        found.setdefault(mode, {})[urgent] = count
    return [(mode, counts[True], counts[False]) for mode, counts in found.items()]


def between(first: Any, last: Any) -> Document:
    """Both included."""
    return {"gte": first, "lte": last}


def since(first: str, end: str) -> Document:
    """The end excluded."""
    return {"gte": first, "lt": end}


def boxed(brand: str, size: str, kinds: str, least: int, largest: int) -> Document:
    """One of three kinds of parts in question 19."""
    return {
        "part.pBrand": brand,
        "part.pContainer": [f"{size} {kind}" for kind in kinds.split()],
        "part.pSize": between(1, largest),
        "lQuantity": between(least, least + 10),
    }


FRANCE_GERMANY = [
    {"n1.nName": "FRANCE", "n2.nName": "GERMANY"},
    {"n1.nName": "GERMANY", "n2.nName": "FRANCE"},
]

QUESTIONS: dict[int, Said | Unsaid] = {
    1: Said(
        {
            "dataset": "lineitem",
            "filters": {"lShipdate": {"lte": "1998-09-02"}},
            "groupBy": ["lReturnflag", "lLinestatus"],
            "aggregates": [
                total("quantity", "lQuantity"),
                total("base", "lExtendedprice"),
                total("sold", "lSold"),
                total("charged", "lCharged"),
                {"name": "averageQuantity", "function": "average", "field": "lQuantity"},
                {"name": "averagePrice", "function": "average", "field": "lExtendedprice"},
                {"name": "averageDiscount", "function": "average", "field": "lDiscount"},
                {"name": "lines", "function": "count"},
            ],
            "order": ["lReturnflag", "lLinestatus"],
        },
        (
            *("lReturnflag", "lLinestatus", "quantity", "base", "sold", "charged"),
            *("averageQuantity", "averagePrice", "averageDiscount", "lines"),
        ),
    ),
    2: Unsaid("the least cost of each part is asked for again as a condition: a query within the query"),
    3: Said(
        {
            "dataset": "lineitem",
            "joins": [inner("orders"), inner("customer", "orders")],
            "filters": {
                "customer.cMktsegment": "BUILDING",
                "orders.oOrderdate": {"lt": "1995-03-15"},
                "lShipdate": {"gt": "1995-03-15"},
            },
            "groupBy": ["lOrderkey", "orders.oOrderdate", "orders.oShippriority"],
            "aggregates": [total("revenue", "lSold")],
            "order": ["-revenue", "orders.oOrderdate"],
            "limit": 10,
        },
        ("lOrderkey", "revenue", "orders.oOrderdate", "orders.oShippriority"),
    ),
    # There is a line: an inner branch, of which no figure is asked.
    4: Said(
        {
            "dataset": "orders",
            "joins": [inner("lineitem")],
            "filters": {"oOrderdate": since("1993-07-01", "1993-10-01"), "lineitem.lReceivedLate": True},
            "groupBy": ["oOrderpriority"],
            "aggregates": [{"name": "orders", "function": "count"}],
            "order": ["oOrderpriority"],
        },
        ("oOrderpriority", "orders"),
    ),
    # Conditions compare with values, not with other fields: that both are of one nation is said nation by nation.
    5: Said(
        {
            "dataset": "lineitem",
            "joins": [
                inner("orders"),
                inner("customer", "orders"),
                inner("supplier"),
                inner("nation", "supplier"),
                inner("region", "nation"),
            ],
            "filters": {
                "region.rName": "ASIA",
                "orders.oOrderdate": since("1994-01-01", "1995-01-01"),
                "or": [{"customer.cNationkey": each, "supplier.sNationkey": each} for each in (8, 9, 12, 18, 21)],
            },
            "groupBy": ["nation.nName"],
            "aggregates": [total("revenue", "lSold")],
            "order": ["-revenue"],
        },
        ("nation.nName", "revenue"),
    ),
    6: Said(
        {
            "dataset": "lineitem",
            "filters": {
                "lShipdate": since("1994-01-01", "1995-01-01"),
                "lDiscount": between(Decimal("0.05"), Decimal("0.07")),
                "lQuantity": {"lt": 24},
            },
            "aggregates": [total("revenue", "lSaved")],
        },
        ("revenue",),
    ),
    7: Said(
        {
            "dataset": "lineitem",
            "joins": [
                inner("supplier"),
                inner("nation", "supplier", "n1"),
                inner("orders"),
                inner("customer", "orders"),
                inner("nation", "customer", "n2"),
            ],
            "filters": {"lShipdate": between("1995-01-01", "1996-12-31"), "or": FRANCE_GERMANY},
            "groupBy": ["n1.nName", "n2.nName", "lShipyear"],
            "aggregates": [total("revenue", "lSold")],
            "order": ["n1.nName", "n2.nName", "lShipyear"],
        },
        ("n1.nName", "n2.nName", "lShipyear", "revenue"),
    ),
    # By nation; the share of one of them is the reader's to work out.
    8: Said(
        {
            "dataset": "lineitem",
            "joins": [
                inner("part"),
                inner("supplier"),
                inner("nation", "supplier", "n2"),
                inner("orders"),
                inner("customer", "orders"),
                inner("nation", "customer", "n1"),
                inner("region", "n1"),
            ],
            "filters": {
                "part.pType": "ECONOMY ANODIZED STEEL",
                "region.rName": "AMERICA",
                "orders.oOrderdate": between("1995-01-01", "1996-12-31"),
            },
            "groupBy": ["orders.oOrderyear", "n2.nName"],
            "aggregates": [total("volume", "lSold")],
            "order": ["orders.oOrderyear"],
        },
        ("orders.oOrderyear", "n2.nName", "volume"),
        shares_of("BRAZIL"),
    ),
    9: Unsaid("the profit multiplies fields of two datasets; a computed column reads its own row alone"),
    10: Said(
        {
            "dataset": "lineitem",
            "joins": [inner("orders"), inner("customer", "orders"), inner("nation", "customer")],
            "filters": {"orders.oOrderdate": since("1993-10-01", "1994-01-01"), "lReturnflag": "R"},
            "groupBy": [
                "customer.cCustkey",
                "customer.cName",
                "customer.cAcctbal",
                "customer.cPhone",
                "nation.nName",
                "customer.cAddress",
                "customer.cComment",
            ],
            "aggregates": [total("revenue", "lSold")],
            "order": ["-revenue"],
            "limit": 20,
        },
        (
            "customer.cCustkey",
            "customer.cName",
            "revenue",
            "customer.cAcctbal",
            "nation.nName",
            "customer.cAddress",
            "customer.cPhone",
            "customer.cComment",
        ),
    ),
    11: Unsaid("a condition on a figure (HAVING), whose bound is itself a query"),
    # The two counts stand in two rows instead of two columns.
    12: Said(
        {
            "dataset": "lineitem",
            "joins": [inner("orders")],
            "filters": {
                "lShipmode": ["MAIL", "SHIP"],
                "lReceivedLate": True,
                "lShippedEarly": True,
                "lReceiptdate": since("1994-01-01", "1995-01-01"),
            },
            "groupBy": ["lShipmode", "orders.oUrgent"],
            "aggregates": [{"name": "lines", "function": "count"}],
            "order": ["lShipmode"],
        },
        ("lShipmode", "orders.oUrgent", "lines"),
        beside,
    ),
    13: Unsaid("figures of figures: how many customers have so many orders"),
    # The quotient of the two groups is the reader's to work out.
    14: Said(
        {
            "dataset": "lineitem",
            "joins": [inner("part")],
            "filters": {"lShipdate": since("1995-09-01", "1995-10-01")},
            "groupBy": ["part.pPromo"],
            "aggregates": [total("revenue", "lSold")],
        },
        ("part.pPromo", "revenue"),
        promoted,
    ),
    # The greatest by order and limit, which would leave out a second one that is as great.
    15: Said(
        {
            "dataset": "supplier",
            "joins": [inner("lineitem")],
            "filters": {"lineitem.lShipdate": since("1996-01-01", "1996-04-01")},
            "groupBy": ["sSuppkey", "sName", "sAddress", "sPhone"],
            "aggregates": [total("revenue", "lineitem.lSold")],
            "order": ["-revenue"],
            "limit": 1,
        },
        ("sSuppkey", "sName", "sAddress", "sPhone", "revenue"),
    ),
    # There is no pattern with two words in an order; here no comment has them in the other one.
    16: Said(
        {
            "dataset": "partsupp",
            "joins": [inner("part"), inner("supplier")],
            "filters": {
                "part.pBrand": {"ne": "Brand#45"},
                "part.pSize": [49, 14, 23, 45, 19, 3, 36, 9],
                "not": {
                    "or": [
                        {"part.pType": {"startswith": "MEDIUM POLISHED"}},
                        {"and": [{"supplier.sComment": {"contains": each}} for each in ("Customer", "Complaints")]},
                    ]
                },
            },
            "groupBy": ["part.pBrand", "part.pType", "part.pSize"],
            "aggregates": [{"name": "suppliers", "function": "countDistinct", "field": "psSuppkey"}],
            "order": ["-suppliers", "part.pBrand", "part.pType", "part.pSize"],
        },
        ("part.pBrand", "part.pType", "part.pSize", "suppliers"),
    ),
    17: Unsaid("a bound that is another one for each part: a query within the query"),
    18: Unsaid("a condition on a figure (HAVING)"),
    19: Said(
        {
            "dataset": "lineitem",
            "joins": [inner("part")],
            "filters": {
                "lShipmode": ["AIR", "AIR REG"],
                "lShipinstruct": "DELIVER IN PERSON",
                "or": [
                    boxed("Brand#12", "SM", "CASE BOX PACK PKG", 1, 5),
                    boxed("Brand#23", "MED", "BAG BOX PKG PACK", 10, 10),
                    boxed("Brand#34", "LG", "CASE BOX PACK PKG", 20, 15),
                ],
            },
            "aggregates": [total("revenue", "lSold")],
        },
        ("revenue",),
    ),
    20: Unsaid("a bound that is another one for each part and supplier: a query within the query"),
    21: Unsaid("there is, and there is no, other line of the same order: a query within the query"),
    22: Unsaid("whoever has no orders, and an average as a bound: a query within the query"),
}
