"""What a pull may do at once: it stops where more of the rows would come, change, go aside or go than is plausible.

An id padded with a blank makes every row a new one, a decimal sign changes each, a column that is missing puts all of
them aside: upstream answers, and the mirror would be wrong. A few rows, and a mirror of few, are exempt.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

Kind = Literal["deletions", "inserts", "changes", "quarantine"]

FEW = 100  # rows: fewer may always come, and a mirror of fewer can take anything
CODES: Mapping[Kind, str] = {
    "deletions": "TOO_MANY_DELETIONS",
    "inserts": "TOO_MANY_INSERTS",
    "changes": "TOO_MANY_CHANGES",
    "quarantine": "TOO_MANY_QUARANTINED",
}
WHAT: Mapping[Kind, tuple[str, str]] = {
    "deletions": ("are gone upstream", "deletionShare"),
    "inserts": ("would be new", "insertShare"),
    "changes": ("would change", "changeShare"),
    "quarantine": ("break the contract and would be put aside", "quarantineShare"),
}


class TooMuch(Exception):
    """More than may happen at once. The message is for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Of the rows, how many a pull may delete, insert, change and put aside; 0 to 1."""

    deletions: float = 0.1
    inserts: float = 0.1
    changes: float = 0.5
    quarantine: float = 0.1


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that the mirror had when the pull began, and what it has done since.

    One that failed hands its tally on, so that many pulls do not do bit by bit what one may not.
    """

    present: int
    inserts: int = 0
    changes: int = 0
    quarantine: int = 0

    def plus(self, *, inserts: int, changes: int, quarantine: int) -> "Tally":
        """With so many rows more."""
        return Tally(
            present=self.present,
            inserts=self.inserts + inserts,
            changes=self.changes + changes,
            quarantine=self.quarantine + quarantine,
        )

    @property
    def stands(self) -> str:
        """What was done, in words."""
        return f"{self.inserts:,} new and {self.changes:,} changed rows of earlier pages stand"


REMEDY = (
    "See whether upstream shows all rows and columns to this account as it should; if it does, an administrator can "
    'let one pull pass: POST sync/pull with "allow": ["{}"].'
)


def check(shares: Shares, allowed: Collection[str], tally: Tally, more: Mapping[Kind, int], why: str = "") -> None:
    """Raises TooMuch where so many more, by kind, are more than may be: of a mirror of more than a few rows, and unless
    somebody has allowed it for this pull.
    """
    if tally.present < FEW:
        return
    for kind, rows in more.items():
        found, share = getattr(tally, kind) + rows, getattr(shares, kind)
        # Pulls that failed may have changed a row several times: a share of all of them still means any number.
        if share < 1 and found >= FEW and rows and kind not in allowed and found > share * tally.present:
            said = (_words(kind, found, tally.present, share), why, f"{tally.stands}.", REMEDY.format(kind))
            raise TooMuch(CODES[kind], " ".join(filter(None, said)))


def check_deletions(shares: Shares, allowed: Collection[str], missing: int, present: int) -> None:
    """Raises TooMuch where more rows are missing than may be deleted at once."""
    if missing > shares.deletions * present and "deletions" not in allowed:
        words = _words("deletions", missing, present, shares.deletions)
        raise TooMuch(CODES["deletions"], f"{words} Nothing was deleted. {REMEDY.format('deletions')}")


def _words(kind: Kind, found: int, present: int, share: float) -> str:
    what, setting = WHAT[kind]
    return f"{found:,} of {present:,} rows {what}, more than the {share:.0%} that may be at once ({setting})."
