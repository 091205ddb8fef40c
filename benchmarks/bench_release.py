"""Commits of before against the product as it lies here, by `benchmarks.against`."""

import asyncio
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.against.checkout import Refused, commit_of, last_line
from benchmarks.against.outcome import Outcome, Part
from benchmarks.api import ROOT, end
from benchmarks.data import Bench, Unavailable
from benchmarks.documents import PART
from benchmarks.figures import Figure, LeftOut, at_least, at_most, plain
from benchmarks.processes import postmaster_of

# The commit that figures are held against: what was released before there was this group.
RELEASE = "a086f68"

# The one before answers were made right: what that costs is bounded.
BEFORE, DEAREST, TURNS_BEFORE, DOCUMENTS_BEFORE = "649bfde", 1.1, 10, 20_000

ROWS, TURNS, DOCUMENTS, DRAFTS = 20_000, 3, 100_000, 10_000
QUICK_ROWS, QUICK_TURNS, QUICK_DOCUMENTS, QUICK_DRAFTS = 400, 1, 1_000, 100
FASTEST, ENOUGH = 0.65, 0.42  # of the release's time, or so many milliseconds

MISSED_LOAD = """\
Most of it is the indexes: each row goes into every B-tree of a hot order and, trigram by trigram, into the index of the
search."""
MISSED_BULK = """\
Indexes of the modifications are a third of it, computing and writing their rows a half, reading and checking the
request the rest. By itself, with less other work on the machine, it was 1.23 x."""
MISSED_PAGE = """\
What is left of it is spread thin: HTTP, the token, the statement and its driver, the cursor and the line in the log."""


async def release(bench: Bench) -> AsyncIterator[Figure]:
    """Loads, large saves and plain pages, the two in turns on one server and one processor; processor time counts."""
    outcome = await against(bench, RELEASE, ("plain", "bulk", "load"), TURNS, DOCUMENTS)
    kinds = {kind.kind: kind for kind in outcome.kinds}
    load, bulk, page = kinds["load"], kinds["bulk"], kinds["plain"]
    assert page.api is not None
    documents, drafts = (QUICK_DOCUMENTS, QUICK_DRAFTS) if bench.quick else (DOCUMENTS, DRAFTS)
    name = f"COPY of {documents:,} documents into the mirror with all indexes"
    yield plain(f"rows a second of a {name}", PART * 1000 / load.wall.now, "1/s")
    name = f"{name} against {RELEASE}, times as fast"
    yield at_least(name, _faster(load.both), 1.4, missed=MISSED_LOAD)
    yield plain(f"{name} by the clock", _faster(load.wall), "x")
    name = f"saving {drafts:,} drafts in one request against {RELEASE}, times as fast"
    yield at_least(name, _faster(bulk.both), 1.2, missed=MISSED_BULK)
    yield plain(f"{name} by the clock", _faster(bulk.wall), "x")
    yield plain(f"processor time of the API for a page of 100, no drafts, {RELEASE}", page.api.before, "ms")
    yield plain("processor time of the API for a page of 100, no drafts", page.api.now, "ms")
    yield page_against(page.api)


async def before(bench: Bench) -> AsyncIterator[Figure]:
    """What right answers cost: pages, saves, commits and loads in turns; processor time of API and PostgreSQL."""
    outcome = await against(bench, BEFORE, ("page", "save", "commit", "bulk", "load"), TURNS_BEFORE, DOCUMENTS_BEFORE)
    for kind in outcome.kinds:
        yield at_most(f"processor time of a {kind.kind} against {BEFORE}", kind.both.ratio, DEAREST)


def _faster(part: Part) -> float:
    return 1 / part.ratio


def page_against(api: Part) -> Figure:
    """One of the two has to hold: the ratio, or what it comes to on this machine."""
    return Figure(
        figure=f"processor time of the API for a page of 100, no drafts, against {RELEASE}",
        value=api.ratio,
        unit="x",
        bound=f"at most {FASTEST}, or at most {ENOUGH} ms",
        holds=api.ratio <= FASTEST or api.now <= ENOUGH,
        missed=MISSED_PAGE,
    )


async def against(bench: Bench, revision: str, kinds: Sequence[str], turns: int, documents: int) -> Outcome:
    """What a run of it finds; raises LeftOut where the commit is not to be had, or the processors are out of sight."""
    try:
        commit_of(revision)
    except Refused as error:
        raise LeftOut(str(error)) from error
    if bench.server is not None and await postmaster_of(bench.big.owner) is None:
        raise LeftOut("The server runs elsewhere: what it takes of its processors is not known.")
    with tempfile.TemporaryDirectory(prefix="vanguard-bench-") as folder:
        file = Path(folder, "result.json")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.against", revision, *_words(bench, kinds, turns, documents),
            "--json", str(file), cwd=ROOT, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            _, complained = await process.communicate()
        finally:
            await end(process)
        return _result(file, complained)


def _result(file: Path, complained: bytes) -> Outcome:
    if not file.exists():
        raise Unavailable(last_line(complained.decode(errors="replace")))
    return msgspec.json.decode(file.read_bytes(), type=Outcome)


def _words(bench: Bench, kinds: Sequence[str], turns: int, documents: int) -> list[str]:
    """On a server of its own: there it has everything on one processor."""
    rows, turns, documents, drafts = (
        (QUICK_ROWS, QUICK_TURNS, QUICK_DOCUMENTS, QUICK_DRAFTS) if bench.quick else (ROWS, turns, documents, DRAFTS)
    )
    url = [] if bench.server is None else ["--url", bench.server]
    return [
        "--kinds", ",".join(kinds), "--rows", str(rows), "--turns", str(turns), "--documents", str(documents),
        "--drafts", str(drafts), *url,
    ]  # fmt: skip
