"""From a question to its statement: each dataset's merged view, joined, grouped and ordered.

A merged view has two arms, as everywhere: the mirror without the rows that the caller's modifications cover, and those
with them. The aliases are s0, s1, ... for the sources, in their order, and b1, ... for branches that were taken
together for each of the root's rows. Identifiers come from contracts; whatever a caller wrote is a parameter.

    a listing           s0 with all others joined, filtered, ordered
    figures             s0 with its to-one joins and its branches, filtered, grouped
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.base.statements import QUALIFIER, statement
from app.contracts.filters import LISTS, OPERATORS, Listing, field_type
from app.contracts.model import SQL_TYPES, snake
from app.engine.predicates import Arguments
from app.engine.query.question import Column, Figure, Filter, Leaf, Order, Question, Source
from app.engine.view import OWN, UNION, Composed, conjunction, mirror_image, view_of

RUN = statement("query_previews/run_query")
EXPLAIN = statement("query_previews/explain_query")
FIND_DOUBLED = statement("query_previews/find_doubled")

KEY = "row_key"
DECIMALS, EXACT = 6, 20  # of an average, as KPIs have them; and of what it is rounded from


class Asker(NamedTuple):
    """Whose view it is."""

    organization: str
    user: str


def compose(question: Question, asker: Asker) -> Composed:
    """The statement; one row more than the limit tells whether there are more."""
    return _filled(question, asker, RUN.name)


def explain(question: Question, asker: Asker) -> Composed:
    """The statement that tells its plan."""
    return _filled(question, asker, EXPLAIN.name)


def _filled(question: Question, asker: Asker, name: str) -> Composed:
    arguments = Arguments(asker.organization, question.limit + 1, asker.user)
    query = _listing(question, arguments) if question.listing else _figures(question, arguments)
    return Composed(statement(name).fill(query=query), arguments.values)


def find_doubled(parent: Source, source: Source, asker: Asker) -> Composed:
    """The statement that finds values by which `source` is joined and that several rows of the join's parent have."""
    arguments = Arguments(asker.organization, 1, asker.user)
    assert source.join is not None, "the root has none"
    names = source.join.parent_fields
    fields = [f"s0.{_name(name)}" for name in names]
    text = (
        f"SELECT {', '.join(f'{field}::text' for field in fields)}\n  FROM {_merged(parent, names, arguments)} AS s0"
        f"\n WHERE {conjunction(f'{field} IS NOT NULL' for field in fields)}"
        f"\n GROUP BY {', '.join(fields)}\nHAVING count(*) > 1"
    )
    return Composed(FIND_DOUBLED.fill(query=text), arguments.values)


# -- merged views -----------------------------------------------------------------------------------------------------


def _merged(source: Source, fields: Iterable[str], arguments: Arguments, drafted: frozenset[str] | None = None) -> str:
    """The rows of a dataset as the caller sees them: row_key, and a column for each of the fields.

    Where the caller has no modifications these are the mirror's, and the planner knows what is in them.
    """
    contract = source.of.contract
    wanted = [field for field in fields if field != "id"]
    if drafted is not None and contract.name not in drafted:
        image = mirror_image(contract)
        columns = ", ".join(["m.row_key", *(f"{image.column(name)} AS {_name(name)}" for name in wanted)])
        text = (
            f"SELECT {columns}\n      FROM pfa.mirror AS m\n     WHERE m.organization_id = $1 AND $3::text IS NOT NULL"
        )
        return f"(\n    {QUALIFIER.sub(f'{contract.schema}.', text)}\n       )"
    view = view_of(contract, Listing(), wanted, arguments)
    mirror = ", ".join(["m.row_key", *(f"{view.mirror.column(name)} AS {_name(name)}" for name in wanted)])
    after = ", ".join(["x.row_key", *(f"{view.after.column(name)} AS {_name(name)}" for name in wanted)])
    covered = f"SELECT FROM pfa.modification AS x WHERE {OWN} AND {view.leaves} AND x.row_key = m.row_key"
    arms = [
        f"SELECT {mirror}\n      FROM pfa.mirror AS m\n     WHERE m.organization_id = $1 AND NOT EXISTS ({covered})",
        f"SELECT {after}\n      FROM pfa.modification AS x{view.joins}\n     WHERE {OWN} AND {view.lands}",
    ]
    return f"(\n    {QUALIFIER.sub(f'{contract.schema}.', UNION.join(arms))}\n       )"


def _name(field: str) -> str:
    return KEY if field == "id" else f"c_{snake(field)}"


def _column(column: Column) -> str:
    return f"s{column.source}.{_name(column.field)}"


def _joined(question: Question, arguments: Arguments, sources: Sequence[Source]) -> str:
    """The first source, with those that are joined to it, each with what is joined to that: a row that an inner join
    leaves out is no partner of anybody.
    """
    first = sources[0]
    found = f"{_merged(first, question.used(first.place), arguments, question.drafted)} AS s{first.place}"
    for source in sources[1:]:
        if source.beside != first.place:
            continue
        behind = [each for each in sources if each is source or _hangs(each, source, question)]
        joined = _joined(question, arguments, behind)
        if len(behind) > 1:
            joined = f"({joined})"
        pairs = zip(source.fields, source.others, strict=True)
        on = [f"s{source.place}.{_name(own)} = s{source.beside}.{_name(other)}" for own, other in pairs]
        found += f"\n  {'JOIN' if source.type == 'inner' else 'LEFT JOIN'} {joined} ON {conjunction(on)}"
    return found


def _hangs(each: Source, source: Source, question: Question) -> bool:
    """Whether it is joined to the source, or to what is."""
    while each.place > source.place:
        if each.beside == source.place:
            return True
        each = question.sources[each.beside]
    return False


# -- filters ----------------------------------------------------------------------------------------------------------


def _where(filters: Sequence[Filter], arguments: Arguments, question: Question) -> str:
    found = [_condition(each, arguments, question) for each in filters]
    return f"\n WHERE {conjunction(found)}" if found else ""


def _condition(each: Filter, arguments: Arguments, question: Question) -> str:
    if isinstance(each, Leaf):
        return _leaf(each, arguments, question)
    parts = [_condition(part, arguments, question) for part in each.parts]
    if each.kind == "not":
        return f"(({parts[0]}) IS NOT TRUE)"
    return f"({f' {each.kind.upper()} '.join(parts)})"


def _leaf(leaf: Leaf, arguments: Arguments, question: Question) -> str:
    condition = leaf.condition
    kind = field_type(question.sources[leaf.column.source].of.contract, leaf.column.field)
    assert kind is not None, "conditions are checked when they are read"
    sql_type = "boolean" if condition.op == "isnull" else SQL_TYPES[kind]
    parameter = arguments.add(condition.value, f"{sql_type}[]" if condition.op in LISTS else sql_type)
    return OPERATORS[condition.op].replace("{c}", _column(leaf.column)).replace("{p}", parameter)


# -- a listing --------------------------------------------------------------------------------------------------------


def _listing(question: Question, arguments: Arguments) -> str:
    shown = [f"{_shown(_column(column), column.type)} AS a{n}" for n, column in enumerate(question.columns)]
    ties = [f"s{source.place}.{KEY}" for source in question.sources]
    order = [*(_ordered(_column(order.by), order) for order in question.order if isinstance(order.by, Column)), *ties]
    return (
        f"SELECT {', '.join(shown)}\n  FROM {_joined(question, arguments, question.sources)}"
        f"{_where(question.filters, arguments, question)}\n ORDER BY {', '.join(order)}"
    )


def _shown(value: str, kind: str) -> str:
    """A number in its shortest form."""
    return f"trim_scale({value}::numeric)" if kind == "number" else value


def _ordered(value: str, order: Order) -> str:
    return f"{value} DESC" if order.descending else value


# -- figures ----------------------------------------------------------------------------------------------------------


def _figures(question: Question, arguments: Arguments) -> str:
    keys = [f"{_column(key)}" for key in question.keys]
    figures = {figure.name: _figure(question, figure) for figure in question.figures}
    shown = [
        f"{_shown(key, column.type)} AS a{n}" for n, (key, column) in enumerate(zip(keys, question.keys, strict=True))
    ]
    shown += [
        f"{_shown(figures[figure.name], figure.type)} AS a{n}" for n, figure in enumerate(question.figures, len(keys))
    ]
    of_root = [source for source in question.sources if source.branch == 0]
    source = _joined(question, arguments, of_root)
    for branch in question.branches:
        source += _branch(question, branch, arguments)
    order = [
        _ordered(_column(order.by) if isinstance(order.by, Column) else figures[order.by.name], order)
        for order in question.order
    ]
    grouped = f"\n GROUP BY {', '.join(keys)}" if keys else ""
    ordered = f"\n ORDER BY {', '.join([*order, *keys])}" if order or keys else ""
    return (
        f"SELECT {', '.join(shown)}\n  FROM {source}{_where(question.filters, arguments, question)}{grouped}{ordered}"
    )


def _figure(question: Question, figure: Figure) -> str:
    """The figure of a group."""
    column = figure.column
    if column is None:
        return "count(*)"
    branch = question.sources[figure.source].branch
    if not branch:
        return _aggregate(figure, _column(column))
    part = f"b{branch}.f{question.figures.index(figure)}"
    match figure.function:
        case "count":
            return f"coalesce(sum({part}), 0)::bigint"
        case "average":
            return _average(f"sum({part}_sum)", f"sum({part}_count)")
    return f"{figure.function}({part})"


def _aggregate(figure: Figure, value: str) -> str:
    match figure.function:
        case "countDistinct":
            return f"count(DISTINCT {value})"
        case "average":
            return _average(f"sum({value})", f"count({value})")
    return f"{figure.function}({value})"


def _average(total: str, count: str) -> str:
    # A quotient has as many decimals as its dividend, and few of a large one: with these it is not rounded twice.
    return f"round({total} * 1.{'0' * EXACT} / nullif({count}, 0), {DECIMALS})"


def _branch(question: Question, branch: Source, arguments: Arguments) -> str:
    """The figures of a branch for each row of the root, joined to it."""
    alias = f"b{branch.place}"
    own = [source for source in question.sources if source.branch == branch.place]
    keys = [f"s{branch.place}.{_name(field)}" for field in branch.fields]
    parts = [f"{key} AS k{n}" for n, key in enumerate(keys)]
    for n, figure in enumerate(question.figures):
        if question.sources[figure.source].branch == branch.place:
            parts += _parts(figure, f"f{n}")
    where = _where(question.branch_filters.get(branch.place, ()), arguments, question)
    source = _joined(question, arguments, own)
    text = f"SELECT {', '.join(parts)}\n  FROM {source}{where}\n GROUP BY {', '.join(keys)}"
    word = "JOIN" if branch.type == "inner" else "LEFT JOIN"
    on = [f"{alias}.k{n} = s0.{_name(other)}" for n, other in enumerate(branch.others)]
    return f"\n  {word} (\n{text}\n       ) AS {alias} ON {conjunction(on)}"


def _parts(figure: Figure, name: str) -> list[str]:
    """What a branch's figure is made of, for one row of the root."""
    assert figure.column is not None, "rows of a branch are counted by a field"
    value = _column(figure.column)
    if figure.function == "average":
        return [f"sum({value}) AS {name}_sum", f"count({value}) AS {name}_count"]
    return [f"{_aggregate(figure, value)} AS {name}"]
