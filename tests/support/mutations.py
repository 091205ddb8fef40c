"""Statements with a fence taken down: PostgreSQL's parse tree, changed in one place, and put back.

It knows nothing of the proof, and not what binds a relation: it takes what compares an organization, or the place of a
row, and what is given as one.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from pglast import ast, enums, parse_sql

Node = Any

TRUE = ast.A_Const(isnull=False, val=ast.Boolean(boolval=True))
COLUMNS = {"organization_id", "ctid", "place"}
GIVEN = {"organization", "organizations"}


class Mutation(NamedTuple):
    """One change: what it is, in words; `made` makes it for the time of a block."""

    told: str
    made: AbstractContextManager[None]


class Slot(NamedTuple):
    """Where a node hangs: an attribute of its parent, at a place of that where it is a list."""

    parent: Node
    name: str
    path: tuple[int, ...] = ()

    def node(self) -> Node:
        """What hangs there."""
        found = getattr(self.parent, self.name)
        for place in self.path:
            found = found[place]
        return found

    @contextmanager
    def put(self, node: Node) -> Iterator[None]:
        """Another node hangs there for the time of a block."""
        was = getattr(self.parent, self.name)
        setattr(self.parent, self.name, _with(was, self.path, node))
        try:
            yield
        finally:
            setattr(self.parent, self.name, was)


def _with(was: Node, path: Sequence[int], node: Node) -> Node:
    if not path:
        return node
    place, *rest = path
    return tuple(_with(each, rest, node) if at == place else each for at, each in enumerate(was))


def parsed(text: str) -> list[Node]:
    """The statements of a text, each hanging in what PostgreSQL calls a raw one."""
    return [*parse_sql(text)]


def mutations(statement: Node, names: Sequence[str]) -> Iterator[Mutation]:
    """Every way to take the fence down in one place; `names` are those of the parameters."""
    other = _other(names)
    for slot in slots(statement):
        node = slot.node()
        if _binds(node, names):
            yield Mutation(f"without {_told(node)}", slot.put(TRUE))
            if isinstance(node, ast.A_Expr):
                yield Mutation(f"the contrary of {_told(node)}", Slot(node, "name").put(NOT_EQUAL))
            for inner in slots(node, into_queries=False):
                if _is_given(inner.node(), names):
                    yield Mutation(f"another parameter in {_told(node)}", inner.put(other))
        match node:
            case ast.BoolExpr() if node.boolop == AND and any(_binds(each, names) for each in node.args or ()):
                yield Mutation(f"OR for the AND with {_told(node)}", Slot(node, "boolop").put(OR))
            case ast.JoinExpr() if any(each.sval in COLUMNS for each in node.usingClause or ()):
                kept = tuple(each for each in node.usingClause or () if each.sval not in COLUMNS)
                yield Mutation("USING without the organization", Slot(node, "usingClause").put(kept))
            case ast.FuncCall() if node.args and _is_given(node.args[0], names) and _last(node.funcname) in OF_ONE:
                yield Mutation(f"{_last(node.funcname)}() of another", Slot(node, "args", (0,)).put(other))
            case ast.InsertStmt():
                for written in _written(node):
                    yield Mutation("INSERT for another", written.put(other))


AND, OR = enums.BoolExprType.AND_EXPR, enums.BoolExprType.OR_EXPR
NOT_EQUAL = (ast.String(sval="<>"),)
OF_ONE = {
    "theirs", "in_flight", "in_outbox", "waits", "beneath", "refused", "open_sessions",
    "name_of", "names_of", "empty_received", "forget_audit", "forget_feed", "forget_history",
}  # fmt: skip


def _written(node: Node) -> Iterator[Slot]:
    """Where an INSERT says whose its rows are."""
    columns = [each.name for each in node.cols or ()]
    key = "id" if node.relation.relname == "organization" else "organization_id"
    if key in columns:
        place = columns.index(key)
        for query in _arms(node.selectStmt):
            if query.targetList:
                yield Slot(query.targetList[place], "val")
            for row in range(len(query.valuesLists or ())):
                yield Slot(query, "valuesLists", (row, place))


def _arms(query: Node) -> Iterator[Node]:
    if query.larg is None:
        yield query
    else:
        yield from _arms(query.larg)
        yield from _arms(query.rarg)


def _binds(node: Node, names: Sequence[str]) -> bool:
    """Whether it compares what says whose a row is; an organization itself is found by its id."""
    if isinstance(node, ast.A_Expr):
        sides = [*_sides(node.lexpr), *_sides(node.rexpr)]
        is_itself = any(_is_given(each, names) for each in sides) and any(_is_called(each, {"id"}) for each in sides)
        return _last(node.name) == "=" and (is_itself or any(map(_is_whose, sides)))
    if isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.ANY_SUBLINK:
        return any(map(_is_whose, _sides(node.testexpr)))
    return False


def _sides(node: Node) -> Iterator[Node]:
    if isinstance(node, ast.RowExpr):
        yield from node.args or ()
    elif type(node) is tuple:
        for each in node:
            yield from _sides(each)
    elif isinstance(node, ast.TypeCast | ast.CollateClause):
        yield from _sides(node.arg)
    else:
        yield node


def _is_whose(node: Node) -> bool:
    return _is_called(node, COLUMNS)


def _is_called(node: Node, names: set[str]) -> bool:
    return isinstance(node, ast.ColumnRef) and _last(node.fields) in names


def _last(names: Sequence[Node] | None) -> str:
    return str(getattr((names or ("",))[-1], "sval", ""))


def _is_given(node: Node, names: Sequence[str]) -> bool:
    while isinstance(node, ast.TypeCast):
        node = node.arg
    number = node.number or 0 if isinstance(node, ast.ParamRef) else 0
    return 0 < number <= len(names) and names[number - 1] in GIVEN


def _other(names: Sequence[str]) -> Node:
    """A parameter that is not the organization's."""
    others = [number for number, name in enumerate(names, 1) if name not in GIVEN]
    return ast.ParamRef(number=others[0] if others else len(names) + 1)


def slots(node: Node, *, into_queries: bool = True) -> Iterator[Slot]:
    """Every place beneath a node where another one hangs."""
    for name in node:
        yield from _hanging(Slot(node, name), into_queries)


def _hanging(slot: Slot, into_queries: bool) -> Iterator[Slot]:
    node = slot.node()
    if isinstance(node, tuple):
        for place in range(len(node)):
            yield from _hanging(slot._replace(path=(*slot.path, place)), into_queries)
    elif isinstance(node, ast.Node):
        yield slot
        if into_queries or not isinstance(node, ast.SelectStmt):
            yield from slots(node, into_queries=into_queries)


def _told(node: Node) -> str:
    columns = [slot.node() for slot in slots(node, into_queries=False) if _is_whose(slot.node())]
    return ", ".join(".".join(field.sval for field in each.fields) for each in columns) or "an organization"
