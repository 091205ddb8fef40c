"""The parts of a sentence as the grammar finds them, before anybody knows what its words name.

`place` is where a part begins, in characters from the start of the text.
"""

from typing import NamedTuple

from app.english.conditions import Tree


class Name(NamedTuple):
    """Words that name something; quoted ones are meant literally."""

    text: str
    place: int
    quoted: bool = False


class Value(NamedTuple):
    """Words that stand as a value; `grouped` where digits have commas between them: 1,000."""

    text: str
    place: int
    quoted: bool = False
    grouped: bool = False


class Item(NamedTuple):
    """What is asked for, grouped or ordered by: a name alone, or `function` of it as it was said (`total`, `sum of`).

    Without a name it is the number of rows. `alias`: what the figure is to be called.
    """

    function: str
    name: Name | None
    alias: Name | None
    place: int


class Key(NamedTuple):
    """What rows are ordered by."""

    item: Item
    descending: bool


class Joined(NamedTuple):
    """`with matching customers as buyer joined to orders using "id"`."""

    dataset: Name
    inner: bool
    alias: Name | None
    origin: Name | None
    join: Name | None


class Count(NamedTuple):
    """How many rows, and of which end of their order: `top`, `bottom`, or neither."""

    number: int
    end: str
    place: int


class Sentence(NamedTuple):
    """A whole one. `listing`: it begins with list; `everything`: it asks for all fields; `ranked`: it begins with top,
    or bottom.
    """

    listing: bool
    everything: bool
    items: tuple[Item, ...]
    ranked: Count | None
    by: tuple[Item, ...] = ()
    dataset: Name | None = None
    joins: tuple[Joined, ...] = ()
    where: Tree | None = None
    order: tuple[Key, ...] = ()
    limit: Count | None = None
