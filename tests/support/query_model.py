"""What a query comes to, in plain Python: joins as loops over dictionaries, no SQL.

Written from the specification of queries, not from the composer, so that the two can disagree; test_query_properties.py
compares them. It knows fields by their types, and nothing else of the application.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.support.model import fold, typed

Document = dict[str, Any]
Query = Mapping[str, Any]
# One row of the dataset that is asked about with its partners, by alias: "" is its own, None no partner.
Joined = dict[str, "Row | None"]

ROOT = ""
PLACES = 6  # digits behind the point of an average
AT_OWN_GRAIN = ("sum", "count", "average")


class Refused(Exception):
    """A query that is not answered; any of these codes is right where there are several things wrong with it."""

    def __init__(self, codes: Iterable[str]):
        super().__init__(sorted(codes))
        self.codes = set(codes)


@dataclass(frozen=True)
class Dataset:
    """Types of fields, and merged rows by their ids. `computed`: fields that are shown where they are named alone."""

    fields: Mapping[str, str]
    rows: Mapping[str, Document]
    computed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Join:
    """An accepted join: at most one row of the parent has the values of the child's fields, or it is refused."""

    id: str
    child: str
    child_fields: tuple[str, ...]
    parent: str
    parent_fields: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row by the values that filters see; None where there is none, or one of another type."""

    id: str
    values: Mapping[str, Any]

    def get(self, field: str) -> Any:
        """The value of a field; `id` is the row's."""
        return self.id if field == "id" else self.values[field]


@dataclass(frozen=True)
class Place:
    """A dataset's part in a query. `own`, `other`: the fields of the two sides that are equal, this one's first.

    `branch`: the alias of the branch that it is in, ROOT where it is reached by to-one joins alone.
    """

    alias: str
    dataset: str
    origin: str = ROOT
    own: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    to_one: bool = True
    inner: bool = False
    branch: str = ROOT


@dataclass(frozen=True)
class Answer:
    """Rows by the names of their columns."""

    columns: tuple[str, ...]
    rows: list[Document]
    truncated: bool


class Oracle:
    """An organization's datasets as one caller sees them, and the joins between them."""

    def __init__(self, datasets: Mapping[str, Dataset], joins: Sequence[Join]):
        self.datasets, self.joins = datasets, joins
        self.found: dict[tuple[str, tuple[str, ...]], Mapping[tuple[Any, ...], Sequence[Row]]] = {}
        self.rows = {
            name: [read(dataset, *each) for each in dataset.rows.items()] for name, dataset in datasets.items()
        }

    def index(self, dataset: str, fields: tuple[str, ...]) -> Mapping[tuple[Any, ...], Sequence[Row]]:
        """Rows by the values of these fields, looked for once."""
        if (dataset, fields) in self.found:
            return self.found[dataset, fields]
        found: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows[dataset]:
            found.setdefault(tuple(row.get(name) for name in fields), []).append(row)
        self.found[dataset, fields] = found
        return found

    def answer(self, query: Query) -> Answer:
        """The rows of a query in their order; raises Refused."""
        question = Question(self, query)
        question.check()
        return question.figures() if query.get("aggregates") else question.listing()


def read(dataset: Dataset, key: str, document: Document) -> Row:
    """A row by its typed values."""
    return Row(key, {name: typed(kind, document.get(name)) for name, kind in dataset.fields.items()})


class Question:
    """One query over an oracle's datasets."""

    def __init__(self, oracle: Oracle, query: Query):
        self.oracle, self.query = oracle, query
        self.places = {ROOT: Place(ROOT, query["dataset"])}
        self.wrong: set[str] = set()
        for join in query.get("joins", ()):
            place = self.place(join)
            self.places[place.alias] = place
        self.branches = [place for place in self.places.values() if not place.to_one]

    # -- what the words mean ------------------------------------------------------------------------------------------

    def place(self, join: Mapping[str, Any]) -> Place:
        """Where a join puts its dataset; raises Refused where no join leads there. Of several, the first stands in."""
        alias, origin = join.get("as", join["dataset"]), self.places[join.get("from", ROOT)]
        ways = [
            way
            for accepted in self.oracle.joins
            if join.get("join") in (None, accepted.id)
            for way in directions(accepted, origin.dataset, join["dataset"])
        ]
        if not ways:
            raise Refused({"INVALID_QUERY"})
        if len(ways) > 1:
            self.wrong.add("AMBIGUOUS_JOIN")
        own, other, to_one = ways[0]
        return Place(
            alias,
            join["dataset"],
            origin.alias,
            own,
            other,
            to_one,
            inner=join.get("type", "left") == "inner",
            branch=origin.branch if to_one else alias,
        )

    def split(self, name: str) -> tuple[str, str]:
        """The alias and the field of a name."""
        alias, point, field = name.rpartition(".")
        return (alias, field) if point else (ROOT, name)

    def kind(self, name: str) -> str:
        """The type of a field."""
        alias, field = self.split(name)
        return "text" if field == "id" else self.oracle.datasets[self.places[alias].dataset].fields[field]

    def branch_of(self, name: str) -> str:
        """The branch that a field is of."""
        return self.places[self.split(name)[0]].branch

    def value(self, joined: Joined, name: str) -> Any:
        """The value of a field; None of a row that is not there."""
        alias, field = self.split(name)
        row = joined[alias]
        return None if row is None else row.get(field)

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns of a listing: the id and all fields of documents where none is named."""
        root = self.oracle.datasets[self.query["dataset"]]
        return tuple(self.query.get("fields", ())) or (
            "id",
            *(name for name in root.fields if name not in root.computed),
        )

    # -- what is refused ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises Refused for what would be a wrong sum, or has no meaning."""
        if any(place.origin for place in self.branches):
            self.wrong.add("FAN_OUT")
        if any(self.doubles(place) for place in self.joined()):
            self.wrong.add("NOT_UNIQUE")
        if self.query.get("aggregates"):
            self.check_figures()
        if self.wrong:
            raise Refused(self.wrong)

    def doubles(self, place: Place) -> bool:
        """Whether several rows of the parent have the same values in the view that the caller has."""
        parent, fields = (
            (place.dataset, place.other) if place.to_one else (self.places[place.origin].dataset, place.own)
        )
        return any(len(rows) > 1 for key, rows in self.oracle.index(parent, fields).items() if None not in key)

    def check_figures(self) -> None:
        """Note what is wrong with groups and figures."""
        keys = self.query.get("groupBy", ())
        if any(name not in keys for name in self.query.get("fields", ())):
            self.wrong.add("GROUP_BY_MISSING")
        if any(self.branch_of(name) for name in keys):
            self.wrong.add("FAN_OUT")
        if any(self.fans_out(aggregate) for aggregate in self.query["aggregates"]):
            self.wrong.add("FAN_OUT")
        if any(len(self.parts(condition)) > 1 for condition in conjuncts(self.query.get("filters", {}))):
            self.wrong.add("INVALID_QUERY")

    def fans_out(self, aggregate: Mapping[str, Any]) -> bool:
        """Whether a figure would count a value more than once, or has no grain of its own."""
        if "field" not in aggregate:
            return False
        place = self.places[self.split(aggregate["field"])[0]]
        at_own_grain = place.alias == place.branch
        if aggregate["function"] == "countDistinct":
            return bool(place.branch)
        return aggregate["function"] in AT_OWN_GRAIN and not at_own_grain

    def parts(self, condition: Mapping[str, Any]) -> set[str]:
        """The branches that a condition is about, ROOT being what is in none."""
        return {self.branch_of(name) for name in names(condition)}

    # -- rows ---------------------------------------------------------------------------------------------------------

    def listing(self) -> Answer:
        """Rows as they are joined."""
        found: list[Joined] = [{ROOT: row} for row in self.oracle.rows[self.query["dataset"]]]
        for place in self.joined():
            found = [more for joined in found for more in self.extend(joined, place)]
        found = [joined for joined in found if self.holds(self.query.get("filters", {}), joined)]
        for alias in reversed(self.places):
            sort(found, id_of, alias)
        self.sort(found, self.value)
        rows = [{name: self.value(joined, name) for name in self.fields} for joined in found]
        return self.cut(self.fields, rows)

    def joined(self, branch: str | None = None) -> Iterable[Place]:
        """The joins in their order; those of one branch, ROOT being what is in none."""
        for place in self.places.values():
            if place.alias and branch in (None, place.branch):
                yield place

    def extend(self, joined: Joined, place: Place) -> Iterable[Joined]:
        """A row with each of its partners; with none where it has none, unless the join is inner."""
        partners = self.partners(joined[place.origin], place)
        if not partners and not place.inner:
            return [{**joined, place.alias: None}]
        return [{**joined, place.alias: partner} for partner in partners]

    def partners(self, row: Row | None, place: Place) -> Sequence[Row]:
        """The rows whose fields are equal; null is equal to nothing."""
        wanted = tuple(row and row.get(name) for name in place.own)
        return [] if None in wanted else self.oracle.index(place.dataset, place.other).get(wanted, [])

    # -- figures ------------------------------------------------------------------------------------------------------

    def figures(self) -> Answer:
        """Figures of each group, those of a branch by its own rows."""
        keys, wanted = self.query.get("groupBy", ()), self.query["aggregates"]
        groups: dict[tuple[Any, ...], list[tuple[Joined, dict[str, list[Joined]]]]] = {} if keys else {(): []}
        for joined in self.root_rows():
            beside = {branch.alias: self.branch_rows(joined, branch) for branch in self.branches}
            if all(beside[branch.alias] for branch in self.branches if branch.inner):
                groups.setdefault(tuple(self.value(joined, name) for name in keys), []).append((joined, beside))
        rows = []
        for key, members in groups.items():
            row = dict(zip(keys, key, strict=True))
            rows.append(row | {figure["name"]: self.figure(figure, members) for figure in wanted})
        for name in reversed(keys):
            sort(rows, dict.__getitem__, name)
        self.sort(rows, dict.__getitem__)
        return self.cut((*keys, *(figure["name"] for figure in wanted)), rows)

    def root_rows(self) -> Iterable[Joined]:
        """Rows of the dataset that is asked about, with what to-one joins bring, as the filters leave them."""
        found: list[Joined] = [{ROOT: row} for row in self.oracle.rows[self.query["dataset"]]]
        for place in self.joined(ROOT):
            found = [more for joined in found for more in self.extend(joined, place)]
        return [joined for joined in found if self.all_hold(ROOT, joined)]

    def branch_rows(self, joined: Joined, branch: Place) -> list[Joined]:
        """The rows of a branch that hang from one row, as the filters leave them."""
        found = [{**joined, branch.alias: row} for row in self.partners(joined[ROOT], branch)]
        for place in self.joined(branch.alias):
            if place is not branch:
                found = [more for one in found for more in self.extend(one, place)]
        return [one for one in found if self.all_hold(branch.alias, one)]

    def all_hold(self, branch: str, joined: Joined) -> bool:
        """Whether a row passes the conditions that are about its branch."""
        mine = [one for one in conjuncts(self.query.get("filters", {})) if self.parts(one) == {branch}]
        return all(self.holds(condition, joined) for condition in mine)

    def figure(self, figure: Mapping[str, Any], members: Sequence[tuple[Joined, dict[str, list[Joined]]]]) -> Any:
        """One figure of a group."""
        name = figure.get("field")
        if name is None:
            return len(members)
        branch = self.branch_of(name)
        rows = [row for joined, beside in members for row in (beside[branch] if branch else [joined])]
        return FIGURES[figure["function"]]([value for row in rows if (value := self.value(row, name)) is not None])

    # -- order and limit ----------------------------------------------------------------------------------------------

    def sort(self, rows: list[Any], value: Callable[[Any, str], Any]) -> None:
        """By the keys of the query; what is equal stays as it is."""
        for key in reversed(self.query.get("order", ())):
            sort(rows, value, key.removeprefix("-"), descending=key.startswith("-"))

    def cut(self, columns: Sequence[str], rows: list[Document]) -> Answer:
        """The first rows, and whether there were more."""
        limit = self.query.get("limit", len(rows))
        return Answer(tuple(columns), rows[:limit], len(rows) > limit)

    # -- conditions ---------------------------------------------------------------------------------------------------

    def holds(self, condition: Mapping[str, Any], joined: Joined) -> bool:
        """Whether a row passes: true or not, nothing between them."""
        return all(self.member_holds(name, wanted, joined) for name, wanted in condition.items())

    def member_holds(self, name: str, wanted: Any, joined: Joined) -> bool:
        match name:
            case "and":
                return all(self.holds(one, joined) for one in wanted)
            case "or":
                return any(self.holds(one, joined) for one in wanted)
            case "not":
                return not self.holds(wanted, joined)
        value, kind = self.value(joined, name), self.kind(name)
        operators = wanted if isinstance(wanted, dict) else {"in" if isinstance(wanted, list) else "eq": wanted}
        return all(passes(kind, op, value, given) for op, given in operators.items())


def directions(join: Join, origin: str, dataset: str) -> Iterable[tuple[tuple[str, ...], tuple[str, ...], bool]]:
    """The ways in which a join leads from one dataset to another: the fields of both, and whether to one row."""
    if (join.child, join.parent) == (origin, dataset):
        yield join.child_fields, join.parent_fields, True
    elif (join.parent, join.child) == (origin, dataset):
        yield join.parent_fields, join.child_fields, False


def conjuncts(filters: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The conditions that all have to hold."""
    for name, wanted in filters.items():
        if name == "and" or (name == "or" and len(wanted) == 1):
            yield from (one for each in wanted for one in conjuncts(each))
        else:
            yield {name: wanted}


def names(condition: Mapping[str, Any]) -> Iterable[str]:
    """The fields that a condition is about."""
    for name, wanted in condition.items():
        match name:
            case "and" | "or":
                yield from (found for one in wanted for found in names(one))
            case "not":
                yield from names(wanted)
            case _:
                yield name


def passes(kind: str, op: str, value: Any, given: Any) -> bool:
    """Whether a value passes an operator."""
    if op == "isnull":
        return (value is None) == bool(given)
    if given is None:
        return (value is None) == (op == "eq")
    if op in ("in", "nin"):
        return (value in [typed(kind, one) for one in given]) == (op == "in")
    if op == "ne":
        return bool(value != typed(kind, given))
    if value is None:
        return False
    return bool(COMPARISONS[op](value, typed(kind, given)))


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": lambda value, given: value == given,
    "gt": lambda value, given: value > given,
    "gte": lambda value, given: value >= given,
    "lt": lambda value, given: value < given,
    "lte": lambda value, given: value <= given,
    "contains": lambda value, given: fold(given) in fold(value),
    "startswith": lambda value, given: fold(value).startswith(fold(given)),
}


def id_of(joined: Joined, alias: str) -> str | None:
    """The id of a row's partner."""
    row = joined[alias]
    return None if row is None else row.id


def sort(rows: list[Any], value: Callable[[Any, str], Any], name: str, *, descending: bool = False) -> None:
    """By one value; what is equal stays as it is. Descending, nothing comes first."""
    rows.sort(key=lambda row: order(value(row, name)), reverse=descending)


def order(value: Any) -> tuple[bool, Any]:
    """What rows are sorted by: nothing comes last."""
    return value is None, 0 if value is None else value


def average(values: Sequence[Decimal]) -> Decimal | None:
    """Sum by count to six places, half away from zero."""
    if not values:
        return None
    exact = sum((Fraction(value) for value in values), Fraction(0)) / len(values)
    whole = int(abs(exact) * 10**PLACES + Fraction(1, 2))
    return Decimal(f"{whole if exact >= 0 else -whole}E-{PLACES}")


def total(values: Sequence[Decimal]) -> Decimal | None:
    """The sum, exactly; of nothing, nothing."""
    exact = sum((Fraction(value) for value in values), Fraction(0))
    return plain(exact) if values else None


def plain(exact: Fraction) -> Decimal:
    """A fraction that a Decimal can say; numbers have at most 20 digits behind the point."""
    return Decimal(f"{int(exact * 10**20)}E-20")


FIGURES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "count": len,
    "countDistinct": lambda values: len(set(values)),
    "sum": total,
    "average": average,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}
