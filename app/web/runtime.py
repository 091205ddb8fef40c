"""What the application holds for every request; handlers find it in theirs, `request.runtime`."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
from cachetools import LRUCache
from litestar import Request
from litestar.types import Empty

from app import __version__
from app.base import exact_json
from app.base.clock import Clock
from app.base.database import Database, Lent
from app.base.errors import DatasetNotFound
from app.base.places import Places
from app.base.settings import Settings
from app.base.turns import Turns
from app.contracts import Contract
from app.contracts.filters import Bounds, Listing, refuse
from app.contracts.states import DatasetState
from app.engine.datasets import Datasets, Standing
from app.engine.desk import Desk
from app.engine.tailer import Tailer
from app.web.auth import Action, Auth, Principal
from app.web.bodies import check_values, unpacked
from app.web.budgets import Bodies, Intake
from app.web.headers import listed
from app.web.paths import decoded
from app.web.problems import PayloadTooLarge

DEPRECATED = "includeDeprecated"
# What the gate has read may be STORED_SECONDS old, and what has ended counts for five seconds at most.
SOON = timedelta(seconds=1)


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Made once by create_app.

    `reserve`: connections for what everything else waits for, logins, guards and readiness, however busy `database` is;
    `owner`: those that can make schemas; `datasets` finds what a dataset's name stands for; `base_counts`: filter
    -> (revision, mirror rows that pass);
    `totals`: filter and user -> (revision, workspace revision, rows of that user's view that pass); `listings`: dataset
    and query string -> what it asks for. `migration`: the newest, which the database has to have. `exports`,
    `uploads`, `queries`: a place for each that may be under way; `bodies`: those that come in; `hashing`: turns of
    passwords that are looked at; `logins`: those that ask the database. `tailer`: the reader of the feed.
    """

    settings: Settings
    database: Database
    reserve: Database
    owner: Database
    auth: Auth
    datasets: Datasets
    clock: Clock
    migration: str
    base_counts: LRUCache[bytes, tuple[int, int]] = msgspec.field(default_factory=lambda: LRUCache(4096))
    totals: LRUCache[bytes, tuple[int, int, int]] = msgspec.field(default_factory=lambda: LRUCache(16384))
    listings: LRUCache[tuple[str, bytes], Listing] = msgspec.field(default_factory=lambda: LRUCache(512))
    exports: Places
    uploads: Places
    queries: Places
    bodies: Bodies
    hashing: Turns
    logins: asyncio.Semaphore
    tailer: Tailer
    version: str = __version__

    @property
    def bounds(self) -> Bounds:
        """What a question may ask for at once."""
        return Bounds(self.settings.max_conditions, self.settings.max_values)

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
    # Whether it is known that no object of the body has a member twice.
    members_checked: bool = False
    # Whether the query says includeDeprecated=true (`take_deprecated` takes it out of the query).
    includes_deprecated: bool = False
    # Of a body that was put down on disk while it came in, in place of the body itself.
    digest: bytes | None = None
    # When the gate let it pass.
    admitted_at: datetime | None = None

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
        return await self._body_of(self.intake.allowance.most)

    @property
    def intake(self) -> Intake:
        """How the body comes in."""
        found: Intake = self.scope["state"]["attendance"].intake
        return found

    async def bounded_body(self) -> bytes:
        """The same where the route itself takes a body of any size; raises PayloadTooLarge."""
        most = self.runtime.settings.max_body_bytes
        if self._unpacked is None and self._body is Empty:
            pieces, size = [], 0
            async for piece in self.stream():
                size += len(piece)
                if size > most:
                    raise PayloadTooLarge(f"A body of JSON has at most {most:,} bytes. Send records as NDJSON.")
                pieces.append(piece)
            self._body = b"".join(pieces)
        return await self._body_of(most)

    async def is_here(self) -> None:
        """The body has come; where it took long, its sender may have been logged out or removed meanwhile."""
        if self.admitted_at is not None and self.runtime.clock() - self.admitted_at >= SOON:
            await self.runtime.auth.admit_again(self)

    async def _body_of(self, most: int) -> bytes:
        if self._unpacked is None:
            packed, coding = await super().body(), listed(self.scope, b"content-encoding")
            await self.is_here()
            plain = unpacked(packed, coding, most)
            if plain is not packed:
                self.intake.unpack(len(plain))
            check_values(plain, self.runtime.settings.max_body_values)
            if len(plain) > exact_json.LONG:  # others have their turn before each of the steps that take long
                await asyncio.sleep(0)
                self.members_checked = exact_json.check_members(plain)
                await asyncio.sleep(0)
            self._unpacked = plain
        return self._unpacked


def take_deprecated(request: VanguardRequest) -> None:
    """Take `includeDeprecated` out of the query of a route that names a dataset, or lists them: it says which one is
    meant, and is no filter. Raises InvalidFilter where it is neither true nor false.
    """
    query = request.scope["query_string"]
    if DEPRECATED.encode() not in query or "org" not in request.path_params:
        return
    others = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name != DEPRECATED.encode():
            others.append(part)
        elif value not in (b"true", b"false"):
            raise refuse(DEPRECATED, "true or false.")
        else:
            request.includes_deprecated = value == b"true"
    request.scope["query_string"] = b"&".join(others)


async def contract_of(request: VanguardRequest, organization: str, dataset: str) -> Contract:
    """The contract of a dataset by its name in the path; raises DatasetNotFound.

    A SHADOW version is there for those who may see it; a DEPRECATED one where it is asked for: by its number, or with
    includeDeprecated.
    """
    return (await standing_of(request, organization, dataset)).contract


async def standing_of(
    request: VanguardRequest, organization: str, dataset: str, *, deprecated: bool = False
) -> Standing:
    """The same with its state; `deprecated`: one is asked for anyway."""
    found = await request.runtime.datasets.find(organization, dataset)
    if found is None or (found.state is DatasetState.SHADOW and not request.user.may(Action.SEE_SHADOW)):
        raise DatasetNotFound(f"No dataset is called {dataset[:80]!r} here.")
    asked = deprecated or request.includes_deprecated or "@" in dataset
    if found.state is DatasetState.DEPRECATED and not asked:
        name = f"{dataset}@{found.major}"
        raise DatasetNotFound(f"{dataset} is DEPRECATED. Ask for it by {name}, or with includeDeprecated=true.")
    return found
