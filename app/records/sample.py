"""What inference looks at: all records of an upload while they are few, else a random sample of them."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from app.base import exact_json
from app.records.records import Raw

WHOLE = 10_000_000  # bytes of records that are kept
MOST = 500_000  # records that are kept


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Records as JSON, in the order in which they were drawn, to go through as often as wanted.

    `read` of an upload could be read; `unread` could not, `first_unread` says why of the first one. With a `header` the
    records are kept as their cells alone.
    """

    header: tuple[str, ...] | None
    kept: list[bytes]
    read: int
    unread: int
    first_unread: str | None

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return len(self.kept) == self.read

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in self.kept:
            found = exact_json.decode(record)
            yield found if self.header is None else dict(zip(self.header, found, strict=True))


def draw(raws: Iterable[Raw], *, textual: bool, limit: int = WHOLE, most: int = MOST) -> Sample:
    """A sample of the records, of CSV where they are `textual`; of the same upload always the same one.

    A reservoir whose size follows from `limit`: each record had the same chance. Long ones that come late make it
    smaller, each time by a random record.
    """
    # Chance, not secrecy; and the same for everybody, so that an upload is inferred the same twice.
    chance = random.Random(0)  # noqa: S311
    kept: list[bytes] = []
    size = read = unread = 0
    first_unread: str | None = None
    header: tuple[str, ...] | None = None
    for raw in raws:
        if raw.members is None:
            unread += 1
            first_unread = first_unread or f"line {raw.line}: {raw.message}"
            continue
        read += 1
        place = len(kept) if len(kept) == read - 1 else chance.randrange(read)
        if place >= len(kept) and len(kept) < read - 1:
            continue
        if textual and header is None:
            header = tuple(raw.members)
        record = exact_json.encode(list(raw.members.values())) if textual else raw.record
        size += len(record)
        if place == len(kept):
            kept.append(record)
        else:
            size -= len(kept[place])
            kept[place] = record
        while size > limit or len(kept) > most:
            place = chance.randrange(len(kept))
            size -= len(kept[place])
            kept[place] = kept[-1]
            kept.pop()
    return Sample(header=header, kept=kept, read=read, unread=unread, first_unread=first_unread)
