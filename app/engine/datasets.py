"""Which dataset a name stands for: the built-in ones, an organization's own, and their versions.

A name is `customers`, which stands for the version in use, or `customers@2`. A loaded contract goes by its address: the
plain name for the version in use, else the name with the number.
"""

import re
import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog
from asyncpg import Record
from cachetools import LRUCache, TTLCache

from app.base.database import Connection, Database
from app.base.statements import statement
from app.contracts import Contract, stored_contract
from app.contracts.states import DatasetState

log = structlog.get_logger(__name__)

FIND_VERSION = statement("datasets/find_version")
LIST_OWN = statement("datasets/list_own")
READ_CONTRACT = statement("datasets/read_contract")

NAME = re.compile(r"(?P<base>[a-z][a-z0-9_]{0,39})(?:@(?P<major>[1-9][0-9]{0,5}))?", re.ASCII)
# A state of a built-in dataset is asked for once a second in each process; every write asks for itself.
STATE_SECONDS = 1.0


class Standing(NamedTuple):
    """A version of a dataset as it stands: its contract, major number and state; the major number of the version whose
    place it took.
    """

    contract: Contract
    major: int
    state: DatasetState
    supersedes: int | None = None


def base_of(name: str) -> str:
    """The name without a version: customers@2 -> customers."""
    return name.partition("@")[0]


def version_of(text: str) -> tuple[int, int]:
    """Major and minor number of a contract's version."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


class Datasets:
    """Finds them, and remembers contracts, which never change: another version is another contract."""

    def __init__(self, database: Database, built_in: Iterable[Contract]):
        self._database = database
        self.built_in = {contract.name: contract for contract in built_in}
        self._contracts: LRUCache[tuple[str, str, str], Contract] = LRUCache(512)
        self._states: TTLCache[tuple[str, str], DatasetState] = TTLCache(
            maxsize=10_000, ttl=STATE_SECONDS, timer=time.monotonic
        )

    async def find(self, organization: str, name: str) -> Standing | None:
        """What a name stands for; None where there is no such dataset.

        Of a built-in dataset that is not set up for the organization, statements say so themselves.
        """
        match = NAME.fullmatch(name)
        if match is None:
            return None
        base, major = match["base"], None if match["major"] is None else int(match["major"])
        if base in self.built_in:
            contract = self.built_in[base]
            number = version_of(contract.version)[0]
            if major not in (None, number):
                return None
            return Standing(contract, number, await self._state(organization, base))
        async with self._database.connection() as connection:
            return await self.find_on(connection, organization, base, major)

    async def own(self, connection: Connection) -> list[tuple[str, Contract]]:
        """Every organization's own datasets, each version, with whose it is; for administration alone. One whose
        contract cannot be read is told in the log, and keeps nobody from the others.
        """
        found = []
        for row in await connection.rows(LIST_OWN):
            organization, base, major = row["organization_id"], row["base"], row["major"]
            try:
                standing = await self.find_on(connection, organization, base, major)
            except msgspec.DecodeError as error:
                kind = type(error).__name__
                log.error("contract cannot be read", organization=organization, dataset=f"{base}@{major}", error=kind)
                continue
            if standing is not None:
                found.append((organization, standing.contract))
        return found

    async def find_line(self, organization: str, standing: Standing) -> list[Contract]:
        """The version's contract, and those of the versions before it whose places were taken, one by the other."""
        line, majors = [standing.contract], {standing.major}
        if standing.supersedes is None:
            return line
        async with self._database.connection() as connection:
            while standing.supersedes is not None and standing.supersedes not in majors:
                before = await self.find_on(
                    connection, organization, base_of(standing.contract.name), standing.supersedes
                )
                if before is None:
                    break
                majors.add(before.major)
                line.append(before.contract)
                standing = before
        return line

    async def find_on(
        self, connection: Connection, organization: str, base: str, major: int | None = None
    ) -> Standing | None:
        """The same of an organization's own dataset, over this connection."""
        row = await connection.row(FIND_VERSION, organization=organization, base=base, major=major)
        return None if row is None else await self.standing(connection, organization, base, row)

    async def standing(self, connection: Connection, organization: str, base: str, row: Record) -> Standing | None:
        """The same of its row, as FIND_VERSION has it; None of a built-in one."""
        if row["schema_name"] is None:
            return None
        key = (row["name"], row["schema_name"], row["contract_version"])
        contract = self._contracts.get(key)
        if contract is None:
            numbers = dict(zip(("major", "minor"), version_of(row["contract_version"]), strict=True))
            stored = await connection.row(READ_CONTRACT, organization=organization, base=base, **numbers)
            if stored is None:  # another version since the statement before
                return await self.find_on(connection, organization, base, row["major"])
            contract = stored_contract(stored["document"], schema=stored["schema_name"], name=row["name"])
            self._contracts[key] = contract
        return Standing(contract, row["major"], DatasetState(row["state"]), row["supersedes"])

    async def _state(self, organization: str, name: str) -> DatasetState:
        key = (organization, name)
        state = self._states.get(key)
        if state is None:
            async with self._database.connection() as connection:
                row = await connection.row(FIND_VERSION, organization=organization, base=name, major=None)
            state = DatasetState.ACTIVE if row is None else DatasetState(row["state"])
            self._states[key] = state
        return state

    def forget_state(self, organization: str, name: str) -> None:
        """Ask for the state of a built-in dataset anew: it was changed here."""
        self._states.pop((organization, name), None)
