"""Random datasets, drafts and structured queries over them, for tests against query_model.py."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, reduce
from typing import Any

from hypothesis import strategies as st

from app.contracts import PFA, Contract
from app.contracts.keys import key_values
from tests.support.model import lay
from tests.support.query_model import ROOT, Join

Document = dict[str, Any]

SEMANTICS = {
    "mode": "upsert",
    "eventTimeColumn": "receivedAt",
    "processingTimeColumn": "receivedAt",
    "dedupeWindow": "0s",
    "conflictResolution": "latest_wins",
}


def contract(name: str, key: Sequence[str], *fields: Document, **more: Any) -> Document:
    """A contract that registers as it stands, none of whose rules refuses what is drafted here."""
    return {
        "name": name,
        "version": "1.0",
        "title": name.capitalize(),
        "source": "/",
        "key": list(key),
        "fields": [{"editable": each["name"] not in key} | each for each in fields],
        "ingestion": SEMANTICS | {"idempotencyKey": list(key)},
    } | more


def of(name: str, kind: str, *, indexed: bool = False, **more: Any) -> Document:
    """A field."""
    return {"name": name, "type": kind, "indexed": indexed} | more


CONTRACTS = (
    contract(
        "regions",
        ["code"],
        of("code", "text"),
        of("name", "text", indexed=True),
        of("zone", "enum", indexed=True, values=["N", "S", "Ä"]),
        of("size", "integer", indexed=True),
        of("rate", "number"),
        of("open", "boolean"),
        of("founded", "date"),
        of("seen", "datetime", indexed=True),
    ),
    contract(
        "orders",
        ["place", "number"],
        of("place", "text"),
        of("number", "integer"),
        of("region", "text", indexed=True),
        of("home", "text"),
        of("parentPlace", "text"),
        of("parentNumber", "integer"),
        of("amount", "number", indexed=True),
        of("kind", "enum", values=["N", "S", "Ä"]),
        of("paid", "boolean", indexed=True),
        of("day", "date", indexed=True),
        of("at", "datetime"),
        computed=[{"name": "twice", "type": "number", "expression": "amount * 2"}],
    ),
    contract(
        "items",
        ["sku"],
        of("sku", "text"),
        of("orderPlace", "text", indexed=True),
        of("orderNumber", "integer", indexed=True),
        of("region", "text"),
        of("quantity", "integer"),
        of("price", "number", indexed=True),
        of("color", "text"),
        of("flag", "boolean"),
    ),
)
# What of the lines that come with the product takes part: those are committed to a system of record, and wait for it.
LINES = ("areaSilo", "category", "forecastCategory", "purchasePrice", "originalStart", "hasActuals")
DRAFTED = {
    "regions": ("name", "zone", "size", "rate", "open", "founded", "seen"),
    "orders": ("region", "home", "parentPlace", "parentNumber", "amount", "kind", "paid", "day", "at"),
    "items": ("orderPlace", "orderNumber", "region", "quantity", "price", "color", "flag"),
    "pfa": ("areaSilo", "category", "forecastCategory"),
}
JOINS = (
    Join("00000000-0000-4000-8000-000000000001", "orders", ("region",), "regions", ("code",)),
    Join("00000000-0000-4000-8000-000000000002", "orders", ("home",), "regions", ("code",)),
    Join(
        "00000000-0000-4000-8000-000000000003", "orders", ("parentPlace", "parentNumber"), "orders", ("place", "number")
    ),
    Join("00000000-0000-4000-8000-000000000004", "items", ("orderPlace", "orderNumber"), "orders", ("place", "number")),
    Join("00000000-0000-4000-8000-000000000005", "items", ("region",), "regions", ("code",)),
    Join("00000000-0000-4000-8000-000000000006", "pfa", ("areaSilo",), "regions", ("code",)),
    # Unique where it was accepted, but no key: rows and drafts make it otherwise.
    Join("00000000-0000-4000-8000-000000000007", "pfa", ("category",), "items", ("color",)),
)
KEYS = {
    "regions": ("A", "a", "Ä", "new"),
    "orders": ("P~1", "P~2", "Q%7E~1", "Q%7E~-1"),
    "items": ("I1", "I2", "I3", "i4", "i5"),
    "pfa": ("L1", "L2", "L3"),
}


def kinds_of(name: str) -> dict[str, str]:
    """Types of the fields of a dataset that take part."""
    if name == "pfa":
        return {each: PFA.by_name[each].type for each in LINES}
    (found,) = (each for each in CONTRACTS if each["name"] == name)
    return {each["name"]: each["type"] for each in (*found["fields"], *found.get("computed", ()))}


KINDS = {name: kinds_of(name) for name in KEYS}

# Few values, so that rows meet; some that differ by case, by form or by digits alone.
TEXTS = ("a", "A", "", "Ä", "a\u0308", "ß", "100%", "it's", "z,y", "\U0001f600", "\uff5e")
VALUES: dict[str, tuple[Any, ...]] = {
    "text": TEXTS,
    "enum": ("N", "S", "Ä"),
    "integer": (0, 1, 2, -7, 9_007_199_254_740_991),
    "number": tuple(map(Decimal, ("0", "1", "1.0", "2.50", "-0.005", "0.1", "12345678901234567890.05"))),
    "boolean": (True, False),
    "date": ("2026-01-01", "2026-01-31", "0001-01-01", "9999-12-31"),
    "datetime": ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999999Z"),
}
# What a mirror may have besides, which no draft can: it is no value.
WRONG: dict[str, tuple[Any, ...]] = {
    "text": (5, True),
    "enum": (1,),
    "integer": (Decimal("1.5"), "1", 2**53),
    "number": ("1", True, Decimal("1e31")),
    "boolean": ("true", 1),
    "date": ("2026-02-30", 5),
    "datetime": ("2026-01-01T01:00:00+01:00", "2026-01-01", 5),
}
# What holds the values of a parent's key, now and then another one.
REFERENCES: dict[str, tuple[Any, ...]] = {
    "region": ("A", "A", "A", "a", "Ä", "new", "nobody"),
    "home": ("A", "A", "Ä"),
    "areaSilo": ("A", "A", "a", "new"),
    "parentPlace": ("P", "P", "Q~"),
    "parentNumber": (1, 1, 2, -1),
    "orderPlace": ("P", "P", "P", "Q~", "R"),
    "orderNumber": (1, 1, 1, 2, -1),
}


# -- rows and drafts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """A change of one row."""

    op: str
    key: str
    delta: Document


@dataclass(frozen=True)
class Story:
    """Rows of the mirrors; what ann drafts first and commits where it says so, and what she drafts then."""

    rows: Mapping[str, Mapping[str, Document]]
    first: Mapping[str, Sequence[Draft]]
    committed: frozenset[str]
    then: Mapping[str, Sequence[Draft]]


@dataclass
class Side:
    """A dataset as the mirror has it and as ann sees it, who alone drafts."""

    contract: Contract
    mirror: dict[str, Document]
    hers: dict[str, Document] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mirror = {key: {**self.named(key), **row} for key, row in self.mirror.items()}
        self.hers = dict(self.mirror)

    def named(self, key: str) -> Document:
        """What an id says of its row."""
        return key_values(self.contract, key) or {self.contract.text_key: key}

    def draft(self, drafts: Sequence[Draft]) -> list[Document]:
        """Those that can be drafted, one of a row, as a request has them; they are drafted then."""
        found: dict[str, Document] = {}
        for each in drafts:
            there = each.key in self.hers
            fits = each.key not in self.mirror and not there if each.op == "insert" else there
            if not fits or each.key in found or (each.op == "insert" and self.contract.upstream):
                continue
            found[each.key] = {"id": each.key, "op": each.op} | ({"delta": each.delta} if each.delta else {})
            new = self.named(each.key) if each.op == "insert" else {}
            after = lay(self.hers.pop(each.key, None), each.op, {**new, **each.delta})
            if after is not None:
                self.hers[each.key] = after
        return list(found.values())

    def commit(self) -> None:
        """Others see it, unless it waits for a system of record."""
        if self.contract.upstream is None:
            self.mirror = dict(self.hers)


def values(name: str, dataset: str) -> st.SearchStrategy[Any]:
    """A value that fits a field, null among them."""
    found = REFERENCES.get(name) or VALUES[KINDS[dataset][name]]
    return st.sampled_from((*found, None))


def documents(dataset: str, names: Sequence[str], least: int = 0) -> st.SearchStrategy[Document]:
    """Some fields with values."""
    one = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), values(name, dataset)))
    return st.lists(one, min_size=least, max_size=len(names)).map(dict)


def filled(dataset: str) -> st.SearchStrategy[Document]:
    """A row of the mirror, most of its fields with values, one now and then with what is none."""
    names = LINES if dataset == "pfa" else DRAFTED[dataset]
    wrong = [{name: value} for name in names for value in WRONG[KINDS[dataset][name]]]
    found = st.fixed_dictionaries({name: values(name, dataset) for name in names})
    return st.builds(operator.or_, found, st.just({}) | st.just({}) | st.sampled_from(wrong))


def drafts(dataset: str) -> st.SearchStrategy[Sequence[Draft]]:
    """Changes of rows, some of which cannot be drafted."""
    keys, deltas = st.sampled_from(KEYS[dataset]), documents(dataset, DRAFTED[dataset], 1)
    update = st.builds(Draft, st.just("update"), keys, deltas)
    insert = st.builds(Draft, st.just("insert"), keys, deltas)
    delete = st.builds(Draft, st.just("delete"), keys, st.just({}))
    return st.lists(st.one_of(update, update, insert, delete), max_size=4)


def stories() -> st.SearchStrategy[Story]:
    """Rows and drafts of all datasets."""
    rows = {
        name: st.dictionaries(st.sampled_from(keys), filled(name), min_size=len(keys) - 1, max_size=len(keys))
        for name, keys in KEYS.items()
    }
    drafted = st.fixed_dictionaries({name: drafts(name) for name in KEYS})
    return st.builds(Story, st.fixed_dictionaries(rows), drafted, st.frozensets(st.sampled_from(sorted(KEYS))), drafted)


# -- queries -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scope:
    """The fields that a query can name, with their types, by the branch that they are in."""

    query: Document
    parts: Mapping[str, Mapping[str, str]]

    @property
    def kinds(self) -> dict[str, str]:
        """All of them."""
        return {name: kind for part in self.parts.values() for name, kind in part.items()}


@st.composite
def scopes(draw: st.DrawFn, most: int = 3) -> Scope:
    """A dataset with up to so many joins, most of which can be aggregated over."""
    root = draw(st.sampled_from(sorted(KEYS)))
    datasets, branches = {ROOT: root}, {ROOT: ROOT}
    joins: list[Document] = []
    for number in range(draw(st.integers(0, most))):
        origin, alias = draw(st.sampled_from(sorted(datasets))), f"j{number}"
        ways = [way for way in WAYS[datasets[origin]] if origin == ROOT or way[2] or draw(ONE_IN_FIVE)]
        if not ways:
            continue
        join, dataset, to_one = draw(st.sampled_from(ways))
        several = len({way[0] for way in WAYS[datasets[origin]] if way[1] == dataset}) > 1
        words = {"dataset": dataset, "as": alias, "type": draw(st.sampled_from(("left", "left", "inner")))}
        if origin:
            words["from"] = origin
        if draw(st.booleans()) or (several and not draw(ONE_IN_FIVE)):
            words["join"] = join
        joins.append(words)
        datasets[alias], branches[alias] = dataset, branches[origin] if to_one else alias
    parts: dict[str, dict[str, str]] = {}
    for alias, dataset in datasets.items():
        parts.setdefault(branches[alias], {}).update(named(dataset, alias))
    return Scope({"dataset": root} | ({"joins": joins} if joins else {}), parts)


def named(dataset: str, alias: str) -> dict[str, str]:
    """The fields of a dataset as a query names them."""
    return {f"{alias}.{name}" if alias else name: kind for name, kind in (KINDS[dataset] | {"id": "text"}).items()}


# Where joins lead from a dataset: which one, to which, and whether to one row. With itself it is joined to one.
WAYS = {
    name: [(join.id, join.parent, True) for join in JOINS if join.child == name]
    + [(join.id, join.child, False) for join in JOINS if join.parent == name != join.child]
    for name in KEYS
}
ONE_IN_FIVE = st.sampled_from((True, False, False, False, False))


@st.composite
def conditions(draw: st.DrawFn, kinds: Mapping[str, str], depth: int = 2) -> Document:
    """One condition, or a group of them within which there are groups."""
    shape = draw(SHAPES) if depth else "one"
    if shape == "one":
        name = draw(st.sampled_from(sorted(kinds)))
        return {name: draw(compared(kinds[name]))}
    within = [draw(conditions(kinds, depth - 1)) for _ in range(draw(st.integers(1, 3 if shape != "not" else 1)))]
    match shape:
        case "not":
            return {"not": within[0]}
        case "both":
            return reduce(operator.or_, within)
    return {shape: within}


SHAPES = st.sampled_from(("one", "one", "one", "and", "or", "or", "or", "not", "not", "both"))


@cache
def compared(kind: str) -> st.SearchStrategy[Any]:
    """What a field is to be."""
    found = st.sampled_from(VALUES[kind] + (("A", "P", "I1") if kind == "text" else ()))
    several = st.lists(found, min_size=1, max_size=3)
    ops = ["eq", "ne", *(("gt", "gte", "lt", "lte") if kind != "boolean" else ())]
    operators: list[st.SearchStrategy[Any]] = [st.tuples(st.sampled_from(ops), found)] * 2
    operators += [st.tuples(st.sampled_from(("in", "nin")), several)]
    operators += [st.tuples(st.just("isnull"), st.booleans())]
    if kind in ("text", "enum"):
        parts = st.sampled_from(("a", "A", "Ä", "ä", "SS", "%", "n"))
        operators += [st.tuples(st.sampled_from(("contains", "startswith")), parts)]
    return st.one_of(found, several, st.none(), st.lists(st.one_of(operators), min_size=1, max_size=2).map(dict))


@st.composite
def filters(draw: st.DrawFn, scope: Scope) -> Document:
    """Conditions that are conjoined, most of them of one branch each."""
    found: list[Document] = []
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2)))):
        part = scope.kinds if draw(ONE_IN_FIVE) else scope.parts[draw(st.sampled_from(sorted(scope.parts)))]
        found.append(draw(conditions(part)))
    return reduce(operator.or_, found, {})


@st.composite
def listings(draw: st.DrawFn) -> Document:
    """Rows: some fields, or all; in some order."""
    scope = draw(scopes())
    names = st.sampled_from(sorted(scope.kinds))
    least = 1 if scope.query["dataset"] == "pfa" else 0  # of which not all fields take part
    fields = draw(st.lists(names, min_size=least, max_size=5, unique=True))
    order = draw(st.lists(names, max_size=2, unique=True))
    return assembled(draw, scope, {"fields": fields} if fields else {}, order)


@st.composite
def summaries(draw: st.DrawFn) -> Document:
    """Figures, of all rows or by groups."""
    scope = draw(scopes())
    root = sorted(scope.parts[ROOT])
    wide = draw(ONE_IN_FIVE)
    keys = draw(st.lists(st.sampled_from(sorted(scope.kinds) if wide else root), max_size=2, unique=True))
    figures = [draw(aggregates(scope, f"f{number}")) for number in range(draw(st.integers(1, 4)))]
    sortable = [*keys, *(str(each["name"]) for each in figures)]
    order = draw(st.lists(st.sampled_from(sortable), max_size=2, unique=True))
    words: Document = {"aggregates": figures} | ({"groupBy": keys} if keys else {})
    if draw(ONE_IN_FIVE) and keys:
        words["fields"] = [draw(st.sampled_from(keys if draw(st.booleans()) else root))]
    return assembled(draw, scope, words, order)


def assembled(draw: st.DrawFn, scope: Scope, words: Document, order: Sequence[str]) -> Document:
    """A query with its conditions, order and limit."""
    optional = {
        "filters": draw(filters(scope)),
        "order": [draw(st.sampled_from(("", "-"))) + name for name in order],
        "limit": draw(st.sampled_from((None, None, 1, 2, 5))),
    }
    return scope.query | words | {name: value for name, value in optional.items() if value}


FUNCTIONS = ("count", "count", "sum", "sum", "average", "min", "max", "countDistinct")
FITTING: dict[str, tuple[str, ...]] = dict.fromkeys(("sum", "average"), ("number", "integer"))
FITTING |= dict.fromkeys(("min", "max"), ("number", "integer", "date", "datetime", "text", "enum"))


@st.composite
def aggregates(draw: st.DrawFn, scope: Scope, name: str, *, sound: bool = False) -> Document:
    """A figure, most often, or always, one that can be said of its field."""
    function = draw(st.sampled_from(FUNCTIONS if ROOT in scope.parts else FUNCTIONS[:-1]))
    if function == "count" and ROOT in scope.parts and draw(st.booleans()):
        return {"name": name, "function": function}
    wild = not sound and draw(ONE_IN_FIVE)
    fields = [
        each
        for part, kinds in scope.parts.items()
        for each, kind in kinds.items()
        if kind in FITTING.get(function, (kind,)) and (wild or at_grain(function, part, each))
    ]
    return {"name": name, "function": function, "field": draw(st.sampled_from(sorted(fields)))}


def at_grain(function: str, part: str, name: str) -> bool:
    """Whether a function can be said of a field: of its own rows, or an extreme."""
    alias = name.rpartition(".")[0]
    if function == "countDistinct":
        return part == ROOT
    return function in ("min", "max") or alias == part


@dataclass(frozen=True)
class Law:
    """Figures of a dataset alone, and with branches beside them that may change none of those."""

    alone: Document
    beside: Document
    columns: tuple[str, ...]


@st.composite
def laws(draw: st.DrawFn) -> Law:
    """Figures by groups, then with one or two branches, their conditions and figures."""
    root = draw(st.sampled_from(("regions", "orders")))
    scope = Scope({"dataset": root}, {ROOT: named(root, ROOT)})
    keys = draw(st.lists(st.sampled_from(sorted(scope.kinds)), max_size=2, unique=True))
    figures = [draw(aggregates(scope, f"f{number}", sound=True)) for number in range(draw(st.integers(1, 4)))]
    alone = assembled(draw, scope, {"aggregates": figures} | ({"groupBy": keys} if keys else {}), keys[:1])
    joins, filters, more = [], [alone.get("filters", {})], []
    for alias in ("b1", "b2")[: draw(st.integers(1, 2))]:
        join, dataset, _ = draw(st.sampled_from([way for way in WAYS[root] if not way[2]]))
        branch = Scope({}, {alias: named(dataset, alias)})
        joins.append({"dataset": dataset, "as": alias, "join": join})
        filters += draw(st.lists(conditions(branch.kinds), max_size=1))
        more += draw(st.lists(aggregates(branch, f"{alias}f", sound=True), max_size=1))
    together = {"joins": joins, "filters": {"and": [each for each in filters if each]}, "aggregates": figures + more}
    beside = alone | {name: value for name, value in together.items() if value != {"and": []}}
    return Law(alone, beside, (*keys, *(figure["name"] for figure in figures)))
