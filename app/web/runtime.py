"""What the application holds for every request; handlers find it in theirs, `request.runtime`."""

import asyncio
from typing import Any

import msgspec
from cachetools import LRUCache
from litestar import Request

from app import __version__
from app.base.clock import Clock
from app.base.database import Database, Lent
from app.base.errors import DatasetNotFound
from app.base.settings import Settings
from app.contracts import Contract
from app.contracts.filters import Listing
from app.engine.desk import Desk
from app.engine.tailer import Tailer
from app.web.auth import Auth, Principal
from app.web.bodies import unpacked
from app.web.headers import listed
from app.web.paths import decoded


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Made once by create_app.

    `contracts` by dataset name; `base_counts`: filter -> (revision, mirror rows that pass); `totals`: filter and user
    -> (revision, workspace revision, rows of that user's view that pass); `listings`: dataset and query string -> what
    it asks for. `migration`: the newest, which the database has to have. `exports`: a place for each that may be under
    way. `tailer`: the reader of the feed.
    """

    settings: Settings
    database: Database
    auth: Auth
    contracts: dict[str, Contract]
    clock: Clock
    migration: str
    base_counts: LRUCache[bytes, tuple[int, int]] = msgspec.field(default_factory=lambda: LRUCache(4096))
    totals: LRUCache[bytes, tuple[int, int, int]] = msgspec.field(default_factory=lambda: LRUCache(16384))
    listings: LRUCache[tuple[str, bytes], Listing] = msgspec.field(default_factory=lambda: LRUCache(512))
    exports: asyncio.Semaphore
    tailer: Tailer
    version: str = __version__

    def desk(self, contract: Contract, organization: str) -> "AtDesk":
        """A desk outside any transaction: one statement, one snapshot."""
        return AtDesk(self.database.connection(), contract, organization)


class AtDesk:
    """A desk, for the time of a block."""

    __slots__ = ("_contract", "_lent", "_organization")

    def __init__(self, lent: Lent, contract: Contract, organization: str):
        self._lent = lent
        self._contract = contract
        self._organization = organization

    async def __aenter__(self) -> Desk:
        return Desk(await self._lent.__aenter__(), self._contract, self._organization)

    async def __aexit__(self, *left: Any) -> None:
        await self._lent.__aexit__(*left)


class VanguardRequest(Request[Principal, Any, Any]):
    """A request with what web/middleware.py gave it."""

    _unpacked: bytes | None = None

    @property
    def runtime(self) -> Runtime:
        """What the application holds. Litestar would take longer to inject it than for all the rest that it does."""
        runtime: Runtime = self.scope["state"]["runtime"]
        return runtime

    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters, byte for byte as they were meant."""
        given: dict[str, Any] = self.scope["path_params"]
        return decoded(given) if "%" in self.scope["path"] else given

    async def body(self) -> bytes:
        """The body as it was before it was packed, so that it is the same request either way."""
        if self._unpacked is None:
            packed, coding = await super().body(), listed(self.scope, b"content-encoding")
            self._unpacked = unpacked(packed, coding, self.runtime.settings.max_body_bytes)
        return self._unpacked


def contract_of(runtime: Runtime, dataset: str) -> Contract:
    """The contract of a dataset by its name on the wire; raises DatasetNotFound."""
    try:
        return runtime.contracts[dataset]
    except KeyError:
        raise DatasetNotFound(f"No dataset is called {dataset[:80]!r} here.") from None
