"""Write the text between the image markers of sql/: `python -m tests.support.samples` after a contract changed."""

from app.base.statements import MARKER, ROOT, STATEMENTS, Statement
from app.contracts import PFA
from app.contracts.images import parts


def with_samples(statement: Statement) -> str:
    """The file's text as it should be: what a marker of an image holds is what the built-in contract compiles to."""
    known = parts(PFA)
    return MARKER.sub(
        lambda match: f"/*{{{match[1]}}}*/{known[match[1]]}/*{{}}*/" if match[1] in known else match[0], statement.text
    )


if __name__ == "__main__":
    for name, statement in STATEMENTS.items():
        (ROOT / f"{name}.sql").write_text(with_samples(statement), encoding="utf-8")
