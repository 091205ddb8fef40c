"""How much people may hold in drafts: by user and dataset exactly, by organization approximately.

Whoever writes drafts counts them in the same statement, in the workspace's row, whose lock they have. The count is
never less than what is there. Where it would be over a limit, or where something was written that nobody has counted,
what is there is measured, and that decides: nobody is refused for a count.
"""

from collections.abc import Collection
from typing import NamedTuple, Self

import msgspec
from asyncpg import Record

from app.base.errors import QuotaExceeded
from app.base.settings import Settings
from app.base.statements import statement
from app.engine.desk import Desk

DOUBT = statement("quotas/doubt")
MEASURE = statement("quotas/measure")
SUM_HELD = statement("quotas/sum_held")

PORTIONS = 1000  # of an organization's limit: it is looked at when a user passes one of them


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may hold in one dataset, and all users of an organization in all datasets."""

    user_rows: int
    user_bytes: int
    organization_rows: int
    organization_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings have it."""
        return cls(
            user_rows=settings.user_draft_rows,
            user_bytes=settings.user_draft_bytes,
            organization_rows=settings.organization_draft_rows,
            organization_bytes=settings.organization_draft_bytes,
        )


class Held(NamedTuple):
    """What a user holds after a write, `more` of it by the write; `known`: all of it was counted."""

    rows: int
    bytes: int
    known: bool
    more_rows: int
    more_bytes: int


NOTHING = Held(0, 0, True, 0, 0)


def held_after(before: Held, record: Record, *, swept: int = 0) -> Held:
    """After one more write, by its record, and the sweep of what it left empty."""
    empty = swept * EMPTY
    return Held(
        record["held_rows"] - swept,
        record["held_bytes"] - empty,
        record["held_known"],
        before.more_rows + record["more_rows"] - swept,
        before.more_bytes + record["more_bytes"] - empty,
    )


EMPTY = 8  # bytes of an empty document


async def doubt(desk: Desk, users: Collection[str]) -> None:
    """Something was written for them that nobody has counted; under lock 2."""
    await desk.value(DOUBT, users=list(users))


async def check_held(desk: Desk, user: str, quota: Quota | None, held: Held) -> None:
    """Raises QuotaExceeded where a write has made more of what was too much already, or is by it; under lock 2.

    Without `quota` all is let pass. What has become less, or stays as it was, always passes.
    """
    if quota is None or (held.more_rows <= 0 and held.more_bytes <= 0):
        return
    rows, size, measured = held.rows, held.bytes, False
    if not held.known or rows > quota.user_rows or size > quota.user_bytes:
        rows, size = await _measure(desk, user)
        measured = True
    if held.more_rows > 0 and rows > quota.user_rows:
        raise _user_refused(desk, f"{rows:,} rows", f"{quota.user_rows:,}", "VANGUARD_USER_DRAFT_ROWS")
    if held.more_bytes > 0 and size > quota.user_bytes:
        raise _user_refused(desk, f"{size:,} bytes", f"{quota.user_bytes:,}", "VANGUARD_USER_DRAFT_BYTES")
    if (
        measured
        or _passes(rows, held.more_rows, quota.organization_rows)
        or _passes(size, held.more_bytes, quota.organization_bytes)
    ):
        await _check_organization(desk, user, quota, held, measured=measured)


def _passes(held: int, more: int, most: int) -> bool:
    """Whether another portion of an organization's limit has begun by this."""
    portion = max(most // PORTIONS, 1)
    return held // portion > (held - more) // portion


async def _check_organization(desk: Desk, user: str, quota: Quota, held: Held, *, measured: bool) -> None:
    found = await desk.row(SUM_HELD)
    assert found is not None, "a sum is a row"
    rows_over = held.more_rows > 0 and found["rows"] > quota.organization_rows
    bytes_over = held.more_bytes > 0 and found["bytes"] > quota.organization_bytes
    if not rows_over and not bytes_over:
        return
    if not measured:
        await _measure(desk, user)
        await _check_organization(desk, user, quota, held, measured=True)
        return
    told, most, setting = (
        (f"{found['rows']:,} rows", quota.organization_rows, "VANGUARD_ORGANIZATION_DRAFT_ROWS")
        if rows_over
        else (f"{found['bytes']:,} bytes", quota.organization_bytes, "VANGUARD_ORGANIZATION_DRAFT_BYTES")
    )
    raise QuotaExceeded(
        f"The organization's people would have {told} drafted together, and may have {most:,} ({setting}). Nothing was "
        "saved. Commit or discard drafts that nobody needs."
    )


def _user_refused(desk: Desk, held: str, most: str, setting: str) -> QuotaExceeded:
    return QuotaExceeded(
        f"You would have {held} drafted in {desk.contract.name}, and may have {most} ({setting}). Nothing was saved. "
        "Commit or discard drafts first."
    )


async def _measure(desk: Desk, user: str) -> tuple[int, int]:
    found = await desk.row(MEASURE, user=user)
    assert found is not None, "lock 2 is a row"
    return found["rows"], found["bytes"]
