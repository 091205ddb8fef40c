"""The newest revision of migrations/, which a database has to have."""

from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@cache
def head() -> str:
    """By the names of files, which are one behind the other: to ask Alembic takes a third of a second of imports, and
    nothing that serves needs it otherwise. tests/test_migrations.py holds it to what Alembic says.
    """
    return max(path.name.partition("_")[0] for path in (ROOT / "migrations" / "versions").glob("[0-9]*_*.py"))
