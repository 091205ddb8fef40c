"""`benchmarks/against/`. Which side is faster is not asked here; that it measures, refuses and cleans up is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest

from benchmarks.against import checkout, clocks
from benchmarks.against.checkout import Refused
from benchmarks.against.outcome import Outcome, Taken, averaged, kind, part
from benchmarks.against.sides import Side
from benchmarks.against.turns import MOST, SIZES, Options, requests_of
from benchmarks.against.works import FIVE, works
from benchmarks.api import ROOT
from tests.support.children import child

MODULE = [sys.executable, "-m", "benchmarks.against"]
FILE = [sys.executable, str(ROOT / "benchmarks" / "against")]
PATIENCE = 300.0


def commit() -> str:
    """The commit that is checked out; skips where there is none."""
    try:
        return checkout.commit_of("HEAD")
    except Refused as error:
        pytest.skip(str(error))


@contextmanager
def running(*words: str, directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """The program, which keeps what it needs for a while in the directory."""
    # Not under the eyes of coverage, which would look for the other checkout's files afterwards.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment["TMPDIR"] = str(directory)
    with child(*words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def knows_checkouts_in(directory: Path) -> bool:
    return str(directory.resolve()) in checkout.git("worktree", "list", "--porcelain").stdout


# --- a run


@pytest.mark.slow("the program that measures one commit against another does so")
def test_a_commit_is_measured_against_itself(server_url: str, tmp_path: Path) -> None:
    """Given few lines and requests, when HEAD is held against the tree, then every kind has a ratio, nothing stays."""
    head, before = commit(), databases(server_url)
    file = tmp_path / "result.json"
    few = ["--rows", "200", "--turns", "1", "--requests", "4", "--bound", "100"]
    few += ["--kinds", "page,plain,save,commit,bulk,load", "--drafts", "50", "--documents", "1500"]
    with running(*MODULE, "HEAD", *few, "--url", server_url, "--json", str(file), directory=tmp_path) as process:
        said, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complained
    outcome = msgspec.json.decode(file.read_bytes(), type=Outcome)
    assert (outcome.before, outcome.now, outcome.rows) == (head, head, 200)
    assert [(each.kind, each.requests, each.holds) for each in outcome.kinds] == [
        ("page", 4, True), ("plain", 4, True), ("save", 4, True), ("commit", 4, True), ("bulk", 5, True),
        ("load", 2, True),
    ]  # fmt: skip
    for each in outcome.kinds:
        assert (each.api is None) == (each.kind == "load")
        assert each.both.ratio > 0
        assert each.wall.before > 0
        assert len(each.both.turns) == 1
        parts = [part.now for part in (each.api, each.database) if part is not None]
        assert each.both.now == pytest.approx(sum(parts), abs=0.001)
    for word in (
        "page",
        "plain",
        "save",
        "commit",
        "bulk",
        "load",
        "API",
        "both",
        "within 100",
        head[:10],
        "the working tree",
    ):
        assert word in said
    assert databases(server_url) <= before
    assert not knows_checkouts_in(tmp_path)
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_that_is_told_to_stop_leaves_nothing(server_url: str, tmp_path: Path) -> None:
    """Given a run that has begun to fill a database, when SIGTERM comes, then database and checkout go, too."""
    commit()
    before = databases(server_url)
    with running(*MODULE, "HEAD", "--rows", "200", "--url", server_url, directory=tmp_path) as process:
        while not (made := databases(server_url) - before) and process.poll() is None:
            time.sleep(0.05)
        checked_out = knows_checkouts_in(tmp_path)
        process.send_signal(signal.SIGTERM)
        _, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert complained.splitlines()[-1] == "Stopped; nothing is left of it."
    assert made
    assert not made & databases(server_url)
    assert checked_out
    assert not knows_checkouts_in(tmp_path)
    assert not list(tmp_path.iterdir())


# --- refusals


@pytest.mark.parametrize("words", [MODULE, FILE], ids=["module", "file"])
def test_an_unknown_revision_is_told_in_one_line(words: list[str], tmp_path: Path) -> None:
    commit()
    with running(*words, "no-such-branch", directory=tmp_path) as process:
        said, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said == ""
    (line,) = complained.strip().splitlines()
    assert "There is no commit no-such-branch here" in line


def test_without_git_there_are_no_other_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    with pytest.raises(Refused, match="no git checkout"):
        checkout.commit_of("HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="no git here"):
        checkout.commit_of("HEAD")


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "cli.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    with pytest.raises(Refused, match="older needs nowhere_to_be_found, which this environment has not"):
        Side("older", tmp_path, "postgresql://").check()


def test_code_from_elsewhere_is_not_measured(tmp_path: Path) -> None:
    """Given a directory without the code, then what is installed does not take its place."""
    with pytest.raises(Refused, match="does not take older from its checkout"):
        Side("older", tmp_path, "postgresql://").check()


def test_a_kind_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with running(*MODULE, "HEAD", "--kinds", "page,speed", directory=tmp_path) as process:
        _, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "no kind speed" in complained


# --- figures


def test_a_ratio_is_the_median_of_the_turns() -> None:
    """Given a machine that is twice as slow in one turn, then the ratio is that of all of them."""
    found = part([(1.0, 1.1), (2.0, 2.2), (1.0, 1.2), (1.0, 1.1), (1.0, 1.0)])
    assert (found.before, found.now, found.ratio, found.quartiles) == (1.0, 1.1, 1.1, (1.1, 1.1))
    assert part([(2.0, 3.0)]).quartiles == (1.5, 1.5)


def test_takes_of_one_turn_are_averaged_side_by_side() -> None:
    takes = [[Taken(1.0, 2.0, 3.0), Taken(None, 4.0, 5.0)], [Taken(2.0, 4.0, 5.0), Taken(None, 6.0, 7.0)]]
    assert averaged(takes) == [Taken(1.5, 3.0, 4.0), Taken(None, 5.0, 6.0)]


@pytest.mark.parametrize("each", [0.1, 5.0])
def test_no_row_is_committed_twice_in_a_turn(each: float) -> None:
    """However quick a commit is, or how many are asked for: a second one of the same row would find no draft."""
    (commit,) = works(("commit",), SIZES)
    for requests in (None, 5_000):
        assert requests_of(commit, each, Options(revision="HEAD", rows=400, requests=requests)) * FIVE <= 400
    (save,) = works(("save",), SIZES)
    assert requests_of(save, 0.1, Options(revision="HEAD", rows=400)) == MOST


def test_what_is_above_the_bound_does_not_hold() -> None:
    slower = kind("page", 10, [(Taken(1.0, 1.0, 3.0), Taken(1.1, 1.0, 3.6))] * 3, 1.03)
    assert (slower.both.ratio, slower.holds) == (1.05, False)
    assert slower.database is not None
    assert slower.database.ratio == 1.0
    assert slower.wall.ratio == 1.2
    faster = kind("page", 10, [(Taken(1.0, None, 2.0), Taken(0.9, None, 2.0))] * 3, 1.03)
    assert (faster.both.ratio, faster.database, faster.holds) == (0.9, None, True)
    outcome = Outcome(before="a", now="b", uncommitted=False, rows=1, bound=1.03, notes=[], kinds=[faster, slower])
    assert not outcome.holds


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:01.25", 1.25), ("00:02:03", 123.0), ("1-02:03:04", 93784.0), ("61:00.50", 3660.5)]
)
def test_what_ps_tells_is_understood(text: str, seconds: float) -> None:
    assert clocks.seconds_of(text) == seconds


def test_processes_that_are_gone_have_used_nothing() -> None:
    with child(sys.executable, "-c", "pass") as process:
        process.wait(60)
        assert clocks.clock(process.pid) == 0.0


@pytest.mark.skipif(not clocks.LINUX, reason="this system has no clocks of other processes")
def test_a_clock_and_ps_tell_the_same() -> None:
    assert clocks.clock(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)
    assert clocks.told_by_ps(os.getpid())[os.getpid()] == pytest.approx(time.process_time(), abs=1.5)
