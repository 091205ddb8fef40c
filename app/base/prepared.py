"""Composed statements on a connection: the few that are asked for again and again are prepared, others are not.

A generic plan of a page takes the server about a megabyte for as long as the statement is prepared. Each question has a
text of its own, so that without a bound whoever makes questions up would fill the database's memory.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
from cachetools import LRUCache

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    Prepared: TypeAlias = PreparedStatement[Any]
    Driver: TypeAlias = asyncpg.Connection[Any]
else:
    Driver = asyncpg.Connection

LARGEST = 12 * 1024  # characters of a text that is prepared: its plan grows with it
REMEMBERED = 1024  # shapes of a process


class Shapes:
    """The shapes that a process has met lately: one that comes a second time is worth preparing."""

    def __init__(self) -> None:
        self._met: LRUCache[int, bool] = LRUCache(REMEMBERED)

    def is_common(self, text: str) -> bool:
        """Whether it came before, not long ago."""
        if len(text) > LARGEST:
            return False
        key = hash(text)
        common = key in self._met
        self._met[key] = True
        return common


class Raw(Driver):
    """A connection of asyncpg, with what we remember of it.

    `schemas`: of organizations' own datasets that it has worked in. `unsure`: whether the server may have prepared what
    nobody here waited for, and so nobody will have it forget. Statements of sql/ asyncpg keeps prepared itself.
    """

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.schemas = set[str]()
        self.unsure = False
        self._kept: OrderedDict[str, Prepared] = OrderedDict()

    async def composed(self, text: str, shapes: Shapes, most: int, seconds: float | None) -> "Prepared":
        """The statement of a composed text, to be run at once: one that is not among the `most` that are kept is gone
        with the next one.
        """
        kept = self._kept.get(text)
        if kept is not None:
            self._kept.move_to_end(text)
            return kept
        if not shapes.is_common(text):
            return await self.prepare(text, name="", timeout=seconds)
        made = await self.prepare(text, timeout=seconds)
        self._kept[text] = made
        if len(self._kept) > most:
            self._kept.popitem(last=False)  # asyncpg has the server forget it
        return made

    async def copy_records_to_table(self, *given: Any, **named: Any) -> str:
        """As the driver has it. Where the server's farewell came before COPY was sent, the driver takes that for one
        that is under way for ever: the connection ends here, so that it is lost as any other is.
        """
        try:
            return await super().copy_records_to_table(*given, **named)
        except asyncpg.InternalClientError:
            self.terminate()
            raise

    def forget_composed(self) -> None:
        """Keep none: what they read has other columns than when they were prepared."""
        self._kept.clear()
