"""The product as it lies here against any commit of it: the processor time of pages, saves and commits, in turns.

    python -m benchmarks.against HEAD~1
    python -m benchmarks.against v0.1.0 --rows 100000 --turns 20 --json file
    python -m benchmarks.against v0.1.0 --kinds plain,bulk,load --documents 100000
    python -m benchmarks.against main --url postgresql://owner:...@localhost/postgres

The commit is checked out beside, and gone again afterwards. Both sides run with this environment's packages on one
PostgreSQL server, each with a database that its own code has migrated and filled, and answer the same requests in the
same order. Both APIs are alive together and are asked a few requests in turn, so that whatever else the machine does
meets both alike; everything stays on one processor. What counts is the processor time of the API's processes and of
those that serve its connections in PostgreSQL.

The kinds of requests: a page over drafts, a plain one of somebody without drafts, a save of one draft, a commit of
five, a bulk of 10,000 drafts saved in one request, and a load, which asks no API: a COPY of 1,000 documents into a
mirror with all of its indexes, as the side's code migrated it.

The status is 1 where a ratio is above the bound, and 2 where nothing could be measured. A side is known by its command
line and its HTTP API alone, which older and newer commits share.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a file: its neighbours are found from the project on
    sys.path[0] = str(Path(__file__).parent.parent.parent)

from benchmarks.against.checkout import Refused, last_line
from benchmarks.against.outcome import Outcome, Part
from benchmarks.against.turns import BOUND, ROWS, SIZES, TURNS, Options, measure
from benchmarks.against.works import KINDS, USUAL, Sizes
from benchmarks.data import Unavailable

FEWEST_ROWS = 200


def report(outcome: Outcome, console: Console) -> None:
    """A table for people."""
    table = Table("", "", "BEFORE", "NOW", "RATIO", "QUARTILES", "", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:6]:
        column.justify = "right"
    for each in outcome.kinds:
        verdict = f"within {outcome.bound:g}" if each.holds else f"slower than {outcome.bound:g}"
        style = "green" if each.holds else "red"
        rows = [(name, found) for name, found in (("API", each.api), ("PostgreSQL", each.database)) if found]
        for number, (name, found) in enumerate(rows):
            _row(table, "" if number else each.kind, name, found)
        _row(table, "", "both", each.both, f"[{style}]{verdict}[/{style}]", style="bold")
        _row(table, "", "clock", each.wall, style="dim")
    edits = " with uncommitted changes" if outcome.uncommitted else ""
    turns, counts = len(outcome.kinds[0].both.turns), {each.kind: each.requests for each in outcome.kinds}
    console.print(table)
    console.print()
    console.print(f"Before is {outcome.before[:10]}, now the working tree: {outcome.now[:10]}{edits}.")
    console.print(
        f"Milliseconds of processor time for a request, medians of {turns} turns of "
        + ", ".join(f"{count} x {name}" for name, count in counts.items())
        + f", on {outcome.rows:,} lines; by the clock, what passed. The quartiles are of the turns' ratios."
    )
    for note in outcome.notes:
        console.print(note)


def _row(table: Table, kind: str, name: str, found: Part, verdict: str = "", *, style: str = "") -> None:
    lower, upper = found.quartiles
    table.add_row(
        kind, name, f"{found.before:.3f}", f"{found.now:.3f}", f"{found.ratio:.3f}", f"{lower:.3f} - {upper:.3f}",
        verdict, style=style,
    )  # fmt: skip


def _read_options() -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", help="the commit to hold the working tree against, as git names it")
    parser.add_argument("--rows", type=_from(FEWEST_ROWS), default=ROWS, help="lines (default: %(default)s)")
    parser.add_argument("--turns", type=_from(1), default=TURNS, help="(default: %(default)s)")
    parser.add_argument(
        "--kinds", type=_kinds, default=USUAL, help=f"of {', '.join(KINDS)} (default: {','.join(USUAL)})"
    )
    parser.add_argument("--requests", type=_from(1), help="of each kind in a turn (default: half a second's worth)")
    parser.add_argument("--drafts", type=_from(1), default=SIZES.drafts, help="of a bulk (default: %(default)s)")
    parser.add_argument(
        "--documents", type=_from(1), default=SIZES.documents, help="loaded in a turn (default: %(default)s)"
    )
    parser.add_argument("--url", help="a server that may be used; databases are made there and dropped again")
    parser.add_argument("--bound", type=float, default=BOUND, help="what a ratio may be (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file for the result")
    given = vars(parser.parse_args())
    file = given.pop("json")
    if file is not None and not file.parent.is_dir():
        parser.error(f"There is no directory {file.parent} for the result.")
    sizes = Sizes(documents=given.pop("documents"), drafts=given.pop("drafts"))
    return Options(**given, sizes=sizes), file


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """The first Ctrl-C unwinds everything; another one finds that under way and changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _kinds(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"no kind {unknown[0]}")
    return names or USUAL


def _from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value

    return number


def main() -> int:
    """See the module's text; returns the exit status."""
    options, file = _read_options()
    # Also where a shell's background job is born deaf to Ctrl-C, and its children with it.
    signal.signal(signal.SIGINT, _stop)
    # What is started inherits it. Two processors are never alike busy: the ratios of turns differed twice as much.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    console, errors = (
        Console(highlight=False, soft_wrap=True),
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True),
    )
    try:
        with errors.status("") as status:
            outcome = measure(options, status.update)
    except (Refused, Unavailable) as error:
        errors.print(str(error), style="red")
        return 2
    except psycopg.Error as error:
        errors.print(f"The database refuses: {last_line(str(error))}", style="red")
        return 2
    except KeyboardInterrupt:
        errors.print("Stopped; nothing is left of it.")
        return 130
    report(outcome, console)
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)) + b"\n")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
