"""PFA documents of `vanguard seed` as COPY wants them: what is timed is the server, not a client that encodes."""

from collections.abc import Iterator
from itertools import islice

from app.contracts import PFA
from app.dev.seed import LINES

NUMBER = 1  # of the seed
PART = 1_000  # documents
COLUMNS = ("organization_id", "row_key", "data")
# What a mirror needs besides: parts do not say the revision.
FIRST_REVISION = "ALTER TABLE pfa.mirror ALTER COLUMN revision SET DEFAULT 1"


def parts(organization: str, documents: int) -> Iterator[bytes]:
    """COLUMNS of so many lines, in the text format of COPY, in parts of 1,000."""
    lines = islice(LINES[PFA.name](organization, NUMBER), documents)
    while part := list(islice(lines, PART)):
        yield "".join(f"{organization}\t{key}\t{_escaped(text)}\n" for key, text in part).encode()


def _escaped(text: str) -> str:
    # JSON has no tab and no line break outside of its own escapes.
    return text.replace("\\", "\\\\")
