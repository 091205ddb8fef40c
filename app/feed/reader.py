"""Who reads the feed, and what they are shown of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import msgspec

from app.base import exact_json
from app.base.clock import Clock
from app.base.database import Connection
from app.contracts import Contract
from app.engine.desk import Desk
from app.engine.feed import EventType
from app.engine.locks import read_dataset
from app.engine.positions import Position, Reason, Standing, expired, read_standing
from app.engine.tailer import READ_EVENTS, Audience, Entry, entry_of
from app.engine.view import Composed

SEES = (
    "(f.audience IS NULL OR $4::text = ANY (f.audience) OR (f.for_admins AND $5::boolean) "
    "OR (f.for_engineers AND $6::boolean))"
)
SEEN = READ_EVENTS.fill(seen=SEES)
SEEN_OF_DATASET = READ_EVENTS.fill(seen=f"{SEES} AND f.dataset = $7")

Told = tuple[bytes, bytes]  # an event's id, and its JSON


class Reader:
    """Somebody who reads an organization's feed, of one dataset or of all: what they may see, as they see it.

    `own` are the revisions of their workspaces that they have been told of.
    """

    def __init__(
        self,
        organization: str,
        user: str,
        name: str | None,
        clock: Clock,
        *,
        admin: bool,
        engineer: bool,
        contract: Contract | None,
    ):
        self.organization, self.user, self.admin, self.engineer = organization, user, admin, engineer
        self.dataset = None if contract is None else contract.name
        self._name, self._contract = name, contract
        self._clock = clock
        self.epoch = 0
        self.number = 0
        self.own: dict[str, int] = {}
        self._behind = b""

    async def standing(self, connection: Connection) -> Standing:
        """Where the feed stands for them; raises DatasetNotFound where the organization does not have the dataset."""
        if self._contract is not None:
            await read_dataset(Desk(connection, self._contract, self.organization))
        return await read_standing(connection, self.organization, self.user)

    def start(self, position: Position) -> None:
        """Read on from here."""
        self.epoch, self.number, self.own = position.epoch, position.number, dict(position.own)
        self._seal()

    @property
    def position(self) -> str:
        """How far they have read, as text."""
        return f"{self.number:012x}{self._behind.decode()}"

    def may_see(self, audience: Audience) -> bool:
        """Whether they belong to those whom something is told."""
        told, admins, engineers = audience
        return told is None or self.user in told or (self.admin and admins) or (self.engineer and engineers)

    def sees(self, entry: Entry) -> bool:
        """Whether the entry is for them, and what they read."""
        return self.dataset in (None, entry.dataset) and self.may_see(entry.audience)

    async def read(self, connection: Connection, head: int, limit: int) -> list[Told]:
        """Go on to the entry `head`, or until there are `limit` events: what they are told of them. Raises FeedExpired
        where retention was faster.
        """
        seen = [self.organization, self.number, limit, self.user, self.admin, self.engineer]
        if self.dataset is None:
            rows = await connection.rows(Composed(SEEN, seen))
        else:
            rows = await connection.rows(Composed(SEEN_OF_DATASET, [*seen, self.dataset]))
        # Afterwards: what is kept now was kept when it was read.
        standing = await read_standing(connection, self.organization, self.user)
        if not standing.keeps(self.number):
            raise expired(Reason.EXPIRED, self.organization, self.user, standing.position)
        found = self.take_all([entry for row in rows if (entry := entry_of(row)).number <= head])
        if len(found) < limit:
            self.number = head
        return found

    def take_all(self, entries: Sequence[Entry]) -> list[Told]:
        """Go on to the last of the entries: those that they see."""
        found = [self.take(entry) for entry in entries if self.sees(entry)]
        if entries:
            self.number = entries[-1].number
        return found

    def take(self, entry: Entry) -> Told:
        """Go on to the entry: its id, and the event."""
        self.number = entry.number
        id_ = b"%012x%b" % (entry.number, self._behind)
        return id_, b'{"id":"%b",%b}' % (id_, entry.event)

    def take_own(self, latest: Mapping[str, int]) -> list[Told]:
        """Go on to what became of the reader's own drafts: one event a dataset."""
        found = []
        for dataset, revision in latest.items():
            told = self.own.get(dataset, 0)
            if revision > told and self.dataset in (None, dataset):
                self.own[dataset] = revision
                self._seal()
                event = exact_json.encode(self._drafts(dataset, told, revision))
                found.append((self.position.encode(), event))
        return found

    def _drafts(self, dataset: str, told: int, revision: int) -> dict[str, Any]:
        return {
            "id": self.position,
            "type": EventType.DRAFTS,
            "at": self._clock().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "dataset": dataset,
            "revision": None,
            "actor": {"id": self.user, "name": self._name},
            "count": None,
            "details": {},
            "from": told,
            "to": revision,
        }

    def _seal(self) -> None:
        self._behind = Position(self.epoch, 0, self.own).behind(self.organization, self.user).encode()


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that happened, for /schema. `ids` of up to 1,000 of `count` rows; `keys`: {temporary id: id} of new
    rows that got theirs from upstream; `from_` and `to` only of your own drafts.
    """

    id: str
    type: EventType
    at: str
    dataset: str
    revision: int | None
    actor: dict[str, str | None] | None
    count: int | None
    ids: list[str] | msgspec.UnsetType = msgspec.UNSET
    keys: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    details: dict[str, Any]
    from_: int | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="from")
    to: int | msgspec.UnsetType = msgspec.UNSET
