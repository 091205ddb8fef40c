"""Positions in the feed: how far somebody has read.

As text, of unreserved characters only: `<number, 12 hex digits>.<epoch>.<whose>.<own>`. Whose is a digest of
organization and user; own is each dataset's name and the revision of the user's workspace there, joined by `~`. The
text is opaque to callers, but for what stands before the first dot: of two positions of one caller, the greater is the
later one.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
from asyncpg import Record

from app.base.database import Connection
from app.base.errors import FeedExpired
from app.base.statements import statement

READ_POSITION = statement("feed/read_position")
TEXT = re.compile(
    r"(?P<number>[0-9a-f]{12})\.(?P<epoch>[0-9a-f]{1,15})\.(?P<whose>[\w-]{8})\.(?P<own>[\w~-]*)", re.ASCII
)
LONGEST = 4000  # characters of a position that is looked at


class Reason(StrEnum):
    """Why nothing can be read from a position on."""

    EXPIRED = "expired"
    AHEAD = "ahead"
    EPOCH = "epoch"
    MALFORMED = "malformed"
    FOREIGN = "foreign"
    SLOW = "slow"  # on a stream only


class Position(msgspec.Struct, frozen=True):
    """`number`: of the last entry of the organization that was read; `epoch`: of which life of the database that is;
    `own`: revisions of the reader's workspaces, by dataset.
    """

    epoch: int
    number: int
    own: Mapping[str, int]

    def text(self, organization: str, user: str) -> str:
        """As it is given to that user."""
        return f"{self.number:012x}{self.behind(organization, user)}"

    def behind(self, organization: str, user: str) -> str:
        """What stands behind the number: the same for all entries, as long as the user's own drafts stay."""
        own = "~".join(f"{dataset}~{revision}" for dataset, revision in self.own.items())
        return f".{self.epoch:x}.{whose(organization, user)}.{own}"


class Standing(msgspec.Struct, frozen=True):
    """Where the feed of an organization stands for one user: the newest position, and the oldest entry that is kept
    (None where none is).
    """

    position: Position
    oldest: int | None

    def keeps(self, number: int) -> bool:
        """Whether all that follows an entry is kept: numbers have no gaps."""
        return number >= self.position.number or (self.oldest is not None and self.oldest <= number + 1)


@lru_cache(maxsize=4096)
def whose(organization: str, user: str) -> str:
    """A digest that tells one caller's positions from another's."""
    return urlsafe_b64encode(sha256(f"{organization} {user}".encode()).digest()[:6]).decode()


async def read_standing(connection: Connection, organization: str, user: str) -> Standing:
    """Where the feed stands now."""
    row = await connection.row(READ_POSITION, organization=organization, user=user)
    assert row is not None, "a statement without FROM returns its row"
    return Standing(position_of(row), row["oldest"])


async def read_position(connection: Connection, organization: str, user: str) -> str:
    """The newest position as text. Read before something in several statements, it loses nothing of that."""
    return (await read_standing(connection, organization, user)).position.text(organization, user)


def position_in(row: Record | Mapping[str, Any], dataset: str) -> Position:
    """The position of a list's record, with incarnation, feed_number and the workspace_revision in a dataset."""
    own = {dataset: row["workspace_revision"]} if row["workspace_revision"] else {}
    return Position(row["incarnation"], row["feed_number"] or 0, own)


def position_of(row: Record) -> Position:
    """The position of a record with epoch, number and own."""
    return Position(row["epoch"], row["number"], row["own"])


def check_position(text: str, organization: str, user: str, standing: Standing) -> Position:
    """The position that the text tells; raises FeedExpired where nothing can be read from it on."""
    given, now = _parsed(text), standing.position
    if given is None:
        raise expired(Reason.MALFORMED, organization, user, now)
    position, owner = given
    if owner != whose(organization, user):
        raise expired(Reason.FOREIGN, organization, user, now)
    if position.epoch != now.epoch:
        raise expired(Reason.EPOCH, organization, user, now)
    if position.number > now.number or any(now.own.get(name, 0) < read for name, read in position.own.items()):
        raise expired(Reason.AHEAD, organization, user, now)
    if not standing.keeps(position.number):
        raise expired(Reason.EXPIRED, organization, user, now)
    return position


def expired(reason: Reason, organization: str, user: str, now: Position) -> FeedExpired:
    """The error that tells why, and the present position."""
    return FeedExpired(
        WHY[reason] + " Load what you show anew, and read on from `position`.",
        reason=reason,
        position=now.text(organization, user),
    )


WHY = {
    Reason.EXPIRED: "What followed this position is not kept any more.",
    Reason.AHEAD: "The feed has not come to this position.",
    Reason.EPOCH: "The position is of another life of this database, from before it was restored.",
    Reason.MALFORMED: "This is no position of the feed.",
    Reason.FOREIGN: "The position is of another organization, or somebody else's.",
    Reason.SLOW: "You read too slowly.",
}


def _parsed(text: str) -> tuple[Position, str] | None:
    found = TEXT.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return None
    parts = found["own"].split("~") if found["own"] else []
    names, revisions = parts[::2], parts[1::2]
    if len(names) != len(revisions) or not all(re.fullmatch("[0-9]{1,18}", each) for each in revisions):
        return None
    own = dict(zip(names, map(int, revisions), strict=True))
    return Position(int(found["epoch"], 16), int(found["number"], 16), own), found["whose"]


def position_of_event(text: str) -> Position | None:
    """The position that an event's id is; None for what is no id."""
    found = _parsed(text)
    return None if found is None else found[0]
