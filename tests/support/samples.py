"""The text between the image markers of sql/: what a contract of few columns compiles to, so that the files read well.

`python -m tests.support.samples` writes anew what differs, each part as one line: break it where that gets too long.
"""

import re

import msgspec

from app.base.statements import MARKER, ROOT, STATEMENTS, Statement
from app.contracts import PFA
from app.contracts.images import parts
from app.contracts.model import Measure

# The built-in contract cut down to a text, a date and a computed number; its columns are among those of the schema pfa.
SAMPLE = msgspec.structs.replace(
    PFA,
    fields=tuple(
        msgspec.structs.replace(field, indexed=field.name in ("source", "forecastStart"))
        for field in PFA.fields
        if field.name in ("pfaId", "source", "monthlyRate", "forecastStart")
    ),
    computed=tuple(item for item in PFA.computed if item.name == "monthlyRental"),
    hot=(),
    atomic_groups=(),
    rules=(),
    measures=(Measure(name="monthlyRental", kind="sum", of="monthlyRental"),),
    derived=(),
    bounds=(),
    exclusions=(),
)


def with_samples(statement: Statement) -> str:
    """The file's text as it should be: a marker of an image holds the sample's part, broken into lines as it likes."""
    known = parts(SAMPLE)

    def sampled(match: re.Match[str]) -> str:
        inside = match[0].partition("*/")[2].removesuffix("/*{}*/")
        part = known.get(match[1], inside)
        return match[0] if inside.split() == part.split() else f"/*{{{match[1]}}}*/{part}/*{{}}*/"

    return MARKER.sub(sampled, statement.text)


if __name__ == "__main__":
    for name, statement in STATEMENTS.items():
        (ROOT / f"{name}.sql").write_text(with_samples(statement), encoding="utf-8")
