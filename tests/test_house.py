"""The house: what holds for every file of the project, whatever is in it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST_LINE = 120
LINED = {".md", ".py", ".sql", ".template"}


def tracked() -> list[Path]:
    """The project's files: those that git knows, or all that are there where the sources came without it."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, timeout=60)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [file for file in ROOT.rglob("*") if file.is_file() and not hidden(file.relative_to(ROOT))]


def hidden(file: Path) -> bool:
    return any(part.startswith(".") or part in ("build", "dist", "node_modules") for part in file.parts)


def long_lines(file: Path) -> list[str]:
    """Where a file has a line that is too long; a table of Markdown may have any."""
    tables = file.suffix in (".md", ".template")
    return [
        f"{file.relative_to(ROOT)}:{number}: {len(line)} characters"
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONGEST_LINE and not (tables and line.startswith("|"))
    ]


@pytest.mark.parametrize("suffix", sorted(LINED))
def test_no_line_is_too_long(suffix: str) -> None:
    found = [line for file in tracked() if file.suffix == suffix for line in long_lines(file)]
    assert not found, "\n".join(found)
