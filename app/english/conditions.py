"""Conditions as a tree, which sentences are read to and written from, and as the filters of a query.

A tree has the groups of the query or the sentence, but that a group of one is what is in it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from app.engine.query.model import DEEPEST

GROUPS = ("and", "or", "not")


class Leaf(NamedTuple):
    """One condition: `value` is a list for in and nin, a boolean for isnull."""

    field: Any
    op: str
    value: Any


class Group(NamedTuple):
    """Conditions of which all hold, or one: `word` is and, or."""

    word: str
    parts: tuple["Tree", ...]


class Negation(NamedTuple):
    """A condition that does not hold."""

    part: "Tree"


class Unsaid(NamedTuple):
    """What is no condition, or lies too deep."""

    shown: str


Tree: TypeAlias = Leaf | Group | Negation | Unsaid


def group(word: str, parts: list["Tree"]) -> "Tree":
    """The parts under one word; a single one needs none."""
    return parts[0] if len(parts) == 1 else Group(word, tuple(parts))


def beside(tree: Tree | None, leaf: Leaf) -> Tree:
    """The conditions with one more, unless it is one of them."""
    parts = list(_flat(tree)) if tree is not None else []
    return group("and", parts if leaf in parts else [*parts, leaf])


def tree_of(filters: Mapping[str, Any], dataset: str) -> Tree | None:
    """The conditions of a query's filters, fields of the dataset by their names alone; None where there are none. What
    is conjoined anyway stands side by side.
    """
    return group("and", list(_flat(_tree(filters, f"{dataset}.", 0)))) if filters else None


def _flat(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, Group) and tree.word == "and":
        for part in tree.parts:
            yield from _flat(part)
    else:
        yield tree


def _tree(filters: Any, prefix: str, depth: int) -> Tree:
    # In each of the groups that may lie in one another there can be an and, which the engine does not count.
    if not isinstance(filters, Mapping) or not filters or depth > 2 * DEEPEST:
        return Unsaid(str(filters)[:40])
    parts: list[Tree] = []
    for key, wanted in filters.items():
        if key == "not":
            parts.append(Negation(_tree(wanted, prefix, depth + 1)))
        elif key in GROUPS and isinstance(wanted, list):
            inner = [_tree(each, prefix, depth + 1) for each in wanted]
            parts.append(group(key, inner) if inner else Unsaid(f"{key} []"))
        else:
            parts += _leaves(key.removeprefix(prefix), wanted)
    return group("and", parts)


def _leaves(field: str, wanted: Any) -> list[Tree]:
    operators = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if not operators:
        return [Unsaid(f"{field} {{}}")]
    return [_leaf(field, op, value) for op, value in operators.items()]


def _leaf(field: str, op: str, value: Any) -> Leaf:
    """One operator: null is asked for by isnull, a list by in."""
    if value is None and op in ("eq", "ne"):
        return Leaf(field, "isnull", op == "eq")
    if isinstance(value, list) and op in ("eq", "ne"):
        return Leaf(field, "in" if op == "eq" else "nin", value)
    return Leaf(field, op, value)


def filters_of(tree: Tree | None, dataset: str) -> dict[str, Any]:
    """The filters of a query that stand for the tree: one object in the tree's order, or a list under `and` where that
    is none. A field that is called as a group is has the dataset's name before its own. Raises ValueError for what is
    Unsaid.
    """
    if tree is None:
        return {}
    parts = tree.parts if isinstance(tree, Group) and tree.word == "and" else (tree,)
    found: dict[str, Any] = {}
    if not all(_put(found, part, dataset) for part in parts):
        return {"and": [filters_of(part, dataset) for part in parts]}
    return {name: wanted if name in GROUPS else _short(wanted) for name, wanted in found.items()}


def _put(found: dict[str, Any], part: Tree, dataset: str) -> bool:
    """Put a condition behind what is there; False where there is no place for it."""
    match part:
        case Leaf(field, op, value):
            name = f"{dataset}.{field}" if field in GROUPS else field
            if name in found and (name != next(reversed(found)) or op in found[name]):
                return False
            found.setdefault(name, {})[op] = value
            return True
        case Group(word, parts):
            key = word
            wanted: Any = [filters_of(each, dataset) for each in parts]
        case Negation(inner):
            key = "not"
            wanted = filters_of(inner, dataset)
        case Unsaid():
            raise ValueError("what is no condition has no filters")
    if key in found:
        return False
    found[key] = wanted
    return True


def _short(operators: dict[str, Any]) -> Any:
    """A value alone stands for being equal to it, a list for one of it, null for none."""
    match operators:
        case {"eq": value, **others} if not others:
            return value
        case {"in": value, **others} if not others:
            return value
        case {"isnull": True, **others} if not others:
            return None
    return operators
