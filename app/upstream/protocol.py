"""What a system of record has to offer, in words of the contract: no adapter's names, formats or transport beyond it.

Values are those of JSON as app.base.exact_json decodes it: str, bool, int, Decimal, None; dates as `YYYY-MM-DD`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from app.base.errors import Culprit


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream can do.

    `incremental`: it can be asked for the rows that were modified since a time; without it each pull is a full one.
    `inserts`, `deletes`: rows can be added and deleted there. `assigns_keys`: a row can be added without its key.
    """

    incremental: bool
    inserts: bool
    deletes: bool
    assigns_keys: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row as upstream has it: every field that it holds, by the contract's names, null where it is empty.

    Types are the contract's; whether the values are in range is not the adapter's to say.
    """

    key: str
    document: dict[str, Any]


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot be read: why, and what was received, by upstream's own names.

    `key` is None where the key itself cannot be read.
    """

    key: str | None
    reasons: tuple[Culprit, ...]
    received: dict[str, Any]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows of a pull.

    Rows may come again in a later page; between the first page and the last none is passed over that was there all the
    while. `cursor` leads to the page after it, None after the last. `dropped` rows belong to others. `mark`: the latest
    time of modification among the rows, by upstream's clock, and `marked` the key of the row that has it. `total`: how
    many rows the pull will bring, where known. `doubt`: what upstream says against itself, in words: then some rows may
    be missing. `columns`: what the columns that came are called there, none where that is not known; `unread`: field ->
    how many of its values cannot be read; `record`: what the adapter needs to look at the page once more.
    """

    rows: tuple[Row, ...]
    broken: tuple[Broken, ...]
    dropped: int
    cursor: str | None
    mark: datetime | None
    total: int | None
    marked: str | None = None
    doubt: str | None = None
    columns: frozenset[str] = frozenset()
    unread: Mapping[str, int] = {}
    record: Any = None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is about to be written: at least its editable fields, and the token that its write has to show.

    `record`: what the adapter needs of it, in upstream's own shape.
    """

    document: dict[str, Any]
    token: str | None
    record: Any = None


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one row.

    `fields`: of an insert the whole new row, of an update those that differ, of a deletion none. `key` is None for a
    new row whose key upstream assigns; `token` is a text by which `find_created` knows it again, where upstream has
    room for it.
    """

    op: Literal["insert", "update", "delete"]
    key: str | None
    fields: Mapping[str, Any]
    token: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream looks like, for people: whether it `fits` what is configured, what does not, and what was found
    (what JSON can hold, in whatever shape the kind of upstream has).
    """

    fits: bool
    problems: list[str]
    found: dict[str, Any]


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that a write of a new row without a key may have left.

    `certain`: keys of those that are it, by their token or all of their values. `near`: those that appeared since, and
    are like it: upstream may have made something else of its values.
    """

    certain: tuple[str, ...] = ()
    near: tuple[Row, ...] = ()


class Upstream(Protocol):
    """A system of record behind one dataset of one organization. Calls may overlap; each has a time limit.

    Every method raises Unavailable, Failed, Refused, Question.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Field -> what its column is called, of all that are read."""

    def lay_over(self, mapping: Mapping[str, str | None]) -> None:
        """Read these fields from these columns instead of what is configured, all others as that is; with None for a
        column the field is null in every row.
        Raises ConfigurationError for one that rows are known by and that is read from none.
        """

    def cells(self, page: Page) -> dict[str, list[Any]]:
        """All that a page's rows hold, as it came, by column, null of those that have none; {} where that is gone."""

    def read_as(self, field: str, values: Sequence[Any]) -> list[Any]:
        """What values of any column are as those of a field; in the place of one that is none stands an Exception."""

    async def page(self, *, since: datetime | None, cursor: str | None) -> Page:
        """A page of the rows modified at or after `since`, or of all; the first one without a cursor.

        A cursor stays good when this process ends, and for another one.
        """

    async def read(self, key: str) -> Row | Broken | None:
        """One row as a pull brings it; None where there is none."""

    async def hold(self, key: str) -> Held | None:
        """The row to compare with and to write over; None where there is none."""

    async def write(self, write: Write, held: Held | None) -> str:
        """Carry the change out; returns the row's key. `held` is what `hold` gave, None for an insert.

        Raises Stale, OutcomeUnknown beside the others: all but the last mean that nothing was written.
        """

    async def find_created(self, write: Write, sent_at: datetime, *, others: Collection[str] = ()) -> Created:
        """The rows that a write of a new row without a key may have left, which was sent then at first. `others` are
        none of it. Near ones are looked for where none is certain.
        """

    async def exists(self, key: str) -> bool:
        """Whether there is such a row, however it is hidden from pulls."""

    async def check(self) -> Report:
        """What it looks like from here, before anything is connected: reads a little, and writes nothing."""

    async def close(self) -> None:
        """Close its connections."""


class UpstreamError(Exception):
    """Upstream did not do what was asked. The message is for people: upstream's own words, and never a secret."""


class Unavailable(UpstreamError):
    """Nobody is there, or it wants to be left alone: a refused connection, 401, 403, 429, 502, 503, 504.

    Nothing was done.
    `retry_after`: seconds that upstream asked for; `refused`: it is there, and refuses this account.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, refused: bool = False):
        super().__init__(message)
        self.retry_after = retry_after
        self.refused = refused


class Failed(UpstreamError):
    """It failed at this: an error of its own, or an answer that cannot be read. Another attempt may do better."""


class OutcomeUnknown(UpstreamError):
    """The write was sent and no answer came: whether it was done, only reading tells."""


class Refused(UpstreamError):
    """It says no, and will say it again: a person has to look."""


class Question(UpstreamError):
    """It asks something before it does it; nothing was written. A person has to see the question."""


class Stale(UpstreamError):
    """The row was changed since it was held."""
