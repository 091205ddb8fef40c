"""The desk: where one organization's dataset is worked on."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from asyncpg import Record

from app.base.database import Connection
from app.base.errors import DatasetNotFound
from app.base.statements import Statement
from app.contracts import Contract
from app.contracts.images import qualified
from app.engine.positions import Position


class Desk:
    """A connection, the contract and the organization, bound together.

    Statements are qualified for the dataset's schema, and their image markers filled from its contract; those that name
    `organization` or `dataset` get them here. A composed statement has all that already, and runs on the connection.

    `positions`: where the feed stood, by user, when their workspace was raised here; `raised`: whose were.
    """

    __slots__ = ("connection", "contract", "organization", "positions", "raised")

    def __init__(self, connection: Connection, contract: Contract, organization: str):
        self.connection = connection
        self.contract = contract
        self.organization = organization
        self.positions: dict[str, Position] = {}
        self.raised: set[str] = set()
        if contract.own:
            connection.raw.schemas.add(contract.schema)

    async def rows(self, statement: Statement, /, **given: Any) -> Sequence[Record]:
        """All rows of the statement."""
        return await self.connection.rows(qualified(statement, self.contract), **self._complete(statement, given))

    def batches(self, statement: Statement, size: int, /, **given: Any) -> AsyncGenerator[Sequence[Record], None]:
        """All rows of the statement, `size` at a time and of one snapshot; inside a transaction."""
        return self.connection.batches(qualified(statement, self.contract), size, **self._complete(statement, given))

    async def row(self, statement: Statement, /, **given: Any) -> Record | None:
        """The first row, or None."""
        return await self.connection.row(qualified(statement, self.contract), **self._complete(statement, given))

    async def value(self, statement: Statement, /, **given: Any) -> Any:
        """The first column of the first row, or None."""
        return await self.connection.value(qualified(statement, self.contract), **self._complete(statement, given))

    @property
    def not_set_up(self) -> DatasetNotFound:
        """The error where the organization has no such dataset."""
        return DatasetNotFound("The dataset is not set up for this organization.")

    def _complete(self, statement: Statement, given: dict[str, Any]) -> dict[str, Any]:
        for name, own in (("organization", self.organization), ("dataset", self.contract.name)):
            if name in given:
                raise TypeError(f"{statement.name}: the desk itself gives {name}")
            if name in statement.parameters:
                given[name] = own
        return given
