"""PostgreSQL's parse trees, as pglast has them, by the names of their nodes: nothing is imported of it."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

Node = Any  # of pglast.ast, which is there in development only


def conjuncts(node: Node) -> Iterator[Node]:
    """The conditions all of which have to be met."""
    if type(node).__name__ == "BoolExpr" and node.boolop == 0:
        for each in node.args:
            yield from conjuncts(each)
    elif node is not None:
        yield node


def is_false(node: Node) -> bool:
    return type(node).__name__ == "A_Const" and getattr(node.val, "boolval", None) is False


def pairs(one: Node, other: Node) -> Iterator[tuple[Node, Node]]:
    """What an equality says is equal: of rows each pair."""
    if type(one).__name__ == type(other).__name__ == "RowExpr":
        yield from zip(one.args, other.args, strict=False)
    else:
        yield one, other


def bare(node: Node) -> Node:
    """Without casts and collations that leave a text what it is: others may make one of two."""
    while True:
        match type(node).__name__:
            case "TypeCast" if _is_built_in(node.typeName.names, "text") and not node.typeName.typmods:
                node = node.arg
            case "CollateClause" if _is_built_in(node.collname, "C"):
                node = node.arg
            case _:
                return node


def _is_built_in(names: Iterable[Node], name: str) -> bool:
    """Whether it is PostgreSQL's own of that name, and no other schema's."""
    return [each.sval for each in names] in ([name], ["pg_catalog", name])


def joined(names: Iterable[Node]) -> str:
    return "".join(each.sval for each in names)


def colnames(alias: Node) -> list[str]:
    return [each.sval for each in (alias.colnames or ())] if alias else []


def tree(node: Node, stop: str = "") -> Iterator[Node]:
    """A node and all beneath it, but for what is beneath one of the kind `stop`."""
    left = [node]
    while left:
        node = left.pop()
        kind: Any = type(node)
        if kind is tuple or kind is list:
            left.extend(node)
        elif members := _members(kind):
            yield node
            if kind.__name__ != stop:
                left += [found for name in members if (found := getattr(node, name)) is not None]


@cache
def _members(kind: Any) -> tuple[str, ...]:
    """The attributes of a kind of node; none of what is no node."""
    return tuple(getattr(kind, "__slots__", ())) if getattr(kind, "__module__", "") == "pglast.ast" else ()
