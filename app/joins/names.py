"""How alike child and parent are called: words of fields, of their labels and of datasets."""

from collections.abc import Iterable

from app.contracts import Contract
from app.drift.names import alike
from app.engine.datasets import base_of

# Words that say that something is a key, and not of what.
GENERIC = frozenset("code fk guid id ident identifier key nr no num number pk ref reference uuid".split())
GLUED = ("key", "code", "id")  # as ends of words: partkey, customerid
SHORTEST = 3  # letters that are left of a word without such an end
PREFIX = 2  # letters of a first word that says of which table a column is: l_partkey


def likeness(child: Contract, child_field: str, parent: Contract, parent_field: str) -> float:
    """0 to 1. A field that is called by nothing but `id` stands for its dataset, and so does the whole of a key."""
    same = child.name == parent.name
    parents = _names(parent, parent_field)
    if (parent_field,) == parent.key_fields and not same:
        parents.add(_dataset(parent))
    children = _names(child, child_field)
    return max((alike(one, other) for one in children for other in parents), default=0.0)


def is_reference(field: str) -> bool:
    """Whether the last word of a field's name says that it is a key: managerId."""
    return (words := _words(field)) != () and _is_generic(words[-1])


def _names(contract: Contract, field: str) -> set[str]:
    """What a field can be called by: its name and its label, less what only says that it is a key."""
    declared = contract.by_name[field]
    texts = [_telling(field), _telling(declared.label)]
    return {text or _dataset(contract) for text in texts[: 1 + bool(declared.label)]}


def _dataset(contract: Contract) -> str:
    words = base_of(contract.name).split("_")
    return " ".join(word.removesuffix("s") if len(word) > SHORTEST else word for word in words)


def _telling(text: str) -> str:
    words = _words(text)
    kept = [_without_end(word) for word in words if word not in GENERIC]
    if len(kept) > 1 and len(kept[0]) <= PREFIX:
        kept = kept[1:]
    return " ".join(kept)


def _words(text: str) -> tuple[str, ...]:
    """In lower case; an upper-case letter begins one."""
    spaced = "".join(_spaced(text))
    return tuple(spaced.split())


def _spaced(text: str) -> Iterable[str]:
    before = ""
    for each in text:
        if not each.isalnum():
            yield " "
        elif each.isupper() and not before.isupper():
            yield f" {each.lower()}"
        else:
            yield each.lower()
        before = each


def _is_generic(word: str) -> bool:
    return word in GENERIC or _without_end(word) != word


def _without_end(word: str) -> str:
    for end in GLUED:
        if word.endswith(end) and len(word) - len(end) >= SHORTEST:
            return word.removesuffix(end)
    return word
