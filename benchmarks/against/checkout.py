"""The other commit: what it is, and its files in a directory of their own."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.api import ROOT

PATIENCE = 300.0  # seconds that git gets


class Refused(Exception):
    """It cannot be measured; the message says why."""


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Ctrl-C is not for it: it ends by itself, or is told to and takes away what it has begun."""
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(ROOT), *arguments]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Refused("There is no git here, which knows the other commits.") from error
    with process:
        try:
            said, complained = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def commit_of(revision: str) -> str:
    """The commit that the revision means in this checkout."""
    top = git("rev-parse", "--show-toplevel")
    if top.returncode != 0:
        raise Refused(f"This is no git checkout, so there are no other commits: {last_line(top.stderr)}")
    if Path(top.stdout.strip()).resolve() != ROOT.resolve():
        raise Refused("This is no git checkout of its own, so there are no other commits: it lies inside another one.")
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode != 0:
        raise Refused(f"There is no commit {revision} here. A shallow clone may lack it: `git fetch --unshallow`.")
    return found.stdout.strip()


def uncommitted() -> bool:
    """Whether anything here differs from the commit that is checked out."""
    return bool(git("status", "--porcelain").stdout.strip())


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The commit's files in a directory of their own; gone afterwards, and git knows of them no longer."""
    with tempfile.TemporaryDirectory(prefix="vanguard-against-", ignore_cleanup_errors=True) as made:
        directory = Path(made, "checkout")
        try:
            done = git("worktree", "add", "--quiet", "--detach", str(directory), commit)
            if done.returncode != 0:
                raise Refused(f"The commit cannot be checked out: {last_line(done.stderr)}")
            yield directory
        finally:
            git("worktree", "remove", "--force", "--force", str(directory))


def last_line(text: str) -> str:
    """What a program said in the end, where it tells what is wrong."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "nothing"
