"""The figures of a sentence: `total forecast cost`, a measure by its name, `number of rows`."""

import re
from typing import NamedTuple, get_args

from app.contracts.shape import FieldType
from app.engine.query.model import Function, QueryAggregate
from app.english.misfit import Misfit
from app.english.scope import FieldFound, MeasureFound, Scope
from app.english.sentences import Item, Name

FUNCTIONS: dict[str, Function] = {
    "total": "sum",
    "sum": "sum",
    "average": "average",
    "minimum": "min",
    "maximum": "max",
    "number of distinct": "countDistinct",
    "count of distinct": "countDistinct",
    "how many distinct": "countDistinct",
    "number of": "count",
    "count of": "count",
    "how many": "count",
}
SAID: dict[Function, str] = {
    "sum": "total",
    "average": "average",
    "min": "minimum",
    "max": "maximum",
    "countDistinct": "number of distinct",
    "count": "number of",
}
MOST_LETTERS = 40
NAMED = re.compile(r"[a-z][A-Za-z0-9]{0,39}\Z")
ROWS = ("row", "rows", "record", "records", "line", "lines")
COUNT_OF_TRUE = "counts the rows where {field} is true; say: number of rows where {field} is true"
TYPES: tuple[FieldType, ...] = get_args(FieldType)
NUMBERS: tuple[FieldType, ...] = ("number", "integer")
# What a function can be of; all others of anything.
MEASURED: dict[str, tuple[FieldType, ...]] = {"sum": NUMBERS, "average": NUMBERS} | dict.fromkeys(
    ("min", "max"), tuple(kind for kind in TYPES if kind != "boolean")
)


class Figure(NamedTuple):
    """A function of a field; without a field, the number of rows. `name`: what a measure calls it."""

    function: Function
    field: FieldFound | None
    name: str | None = None

    @property
    def path(self) -> str | None:
        return self.field.path if self.field is not None else None


def function_of(item: Item) -> Function:
    """The function that was said, `sum of` or `sum`."""
    return FUNCTIONS.get(item.function) or FUNCTIONS[item.function.removesuffix(" of")]


def read_figure(scope: Scope, item: Item) -> Figure:
    """The figure that is meant; raises Misfit where none is. Several are a doubt."""
    if item.name is None:
        return Figure("count", None)
    found = _with_function(scope, item, item.name) if item.function else _bare(scope, item.name)
    if not found:
        raise _nothing(scope, item.name)
    first, *more = found
    if more:
        scope.doubt(item.name, [_way(scope, each) for each in found])
    if first.field is not None:
        scope.take(item.name, [first.field])
    return first


def read_aggregate(scope: Scope, item: Item) -> QueryAggregate:
    """The aggregate of a query that a figure is; raises Misfit."""
    figure = read_figure(scope, item)
    name = _called(item.alias) if item.alias is not None else figure.name or default_name(figure.function, figure.path)
    return QueryAggregate(name=name, function=figure.function, field=figure.path)


def default_name(function: Function, path: str | None) -> str:
    """What a figure is called that nobody gave a name: sumForecastCost, countDistinctCustomersRegion, count."""
    words = re.split(r"[._]", path or "")
    return "".join([str(function), *(word[:1].upper() + word[1:] for word in words)])[:MOST_LETTERS]


def _bare(scope: Scope, name: Name) -> list[Figure]:
    """A measure by its name, or the total of a field of numbers; where both are called so, they have to be the same."""
    fields = scope.fields(name)
    found = [_of_measure(each, name) for each in scope.measures(name)]
    found = _more(found, [Figure("sum", field) for field in fields if _fits("sum", field)])
    if fields and not found:
        field = fields[0]
        message = f"{field.field} is of type {field.type}, which has no total; say list, or number of distinct"
        raise Misfit(message, name.text, name.place)
    return found


def _with_function(scope: Scope, item: Item, name: Name) -> list[Figure]:
    function = function_of(item)
    found = [Figure(function, field) for field in scope.fields(name)]
    if function == "count" and not (name.quoted and found) and scope.is_main(without_rows(name)):
        found.append(Figure("count", None))
    if not found:
        measures = [_of_measure(measure, name) for measure in scope.measures(name)]
        found = [figure for figure in measures if figure.function == function]
    fitting = [figure for figure in found if figure.field is None or _fits(figure.function, figure.field)]
    fitting = _more(fitting, _whole(scope, item, name))
    if found and not fitting:
        raise _misfit(function, found[0], name)
    return fitting


def _whole(scope: Scope, item: Item, name: Name) -> list[Figure]:
    """What is called by all of the words, such as a measure averageMileage."""
    if name.quoted or item.function.endswith(" of"):
        return []
    whole = Name(f"{item.function} {name.text}", item.place)
    measures = [_of_measure(each, whole) for each in scope.measures(whole)]
    return measures or [Figure("sum", each) for each in scope.fields(whole) if _fits("sum", each)]


def _more(found: list[Figure], others: list[Figure]) -> list[Figure]:
    """With those of the others that are other figures."""
    known = {(figure.function, figure.path) for figure in found}
    return [*found, *(figure for figure in others if (figure.function, figure.path) not in known)]


def _of_measure(found: MeasureFound, name: Name) -> Figure:
    measure, field = found
    if measure.kind == "count" and field.type == "boolean":
        message = COUNT_OF_TRUE.format(field=field.field)
        raise Misfit(f"the measure {measure.name} {message}", name.text, name.place)
    own = measure.name if not field.source.prefix else None
    return Figure(measure.kind, field, own)


def _fits(function: Function, field: FieldFound) -> bool:
    return field.type in MEASURED.get(function, TYPES)


def _misfit(function: Function, found: Figure, name: Name) -> Misfit:
    assert found.field is not None, "rows can be counted"
    message = f"{found.field.field} is of type {found.field.type}, which has no {SAID[function]}"
    return Misfit(message, name.text, name.place)


def without_rows(name: Name) -> Name:
    """`customers` of `customers rows`."""
    words = name.text.split(" ")
    return name._replace(text=" ".join(words[:-1])) if len(words) > 1 and words[-1].lower() in ROWS else name


def _nothing(scope: Scope, name: Name) -> Misfit:
    if derived := scope.main.lexicon.derived.find(name.text, quoted=name.quoted):
        message = f"{derived[0]} is made of other figures: ask for these"
        return Misfit(message, name.text, name.place)
    message = f"{scope.main.dataset} has no figure and no field that is called so"
    return Misfit(message, name.text, name.place, unknown=True)


def _way(scope: Scope, figure: Figure) -> str:
    """How a figure is said so that it is no other."""
    if figure.field is None:
        return "number of rows"
    return f"{SAID[figure.function]} {scope.way(figure.field)}"


def _called(name: Name) -> str:
    if not NAMED.match(name.text):
        message = "wanted is a name of at most 40 letters and digits that begins with a small letter"
        raise Misfit(message, name.text, name.place)
    return name.text
