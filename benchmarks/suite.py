"""`vanguard bench`: runs the groups of figures one after another, and tells, keeps and documents what they measure.

A group is an asynchronous generator of figures over a prepared Bench. What it has yielded counts, even if it fails
afterwards; the next group runs in any case.
"""

import asyncio
import json
import os
import platform
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from app import __version__
from app.base.errors import ConfigurationError
from benchmarks import (
    bench_commits,
    bench_datasets,
    bench_drafts,
    bench_drift,
    bench_edits,
    bench_exports,
    bench_feed,
    bench_fences,
    bench_founding,
    bench_http,
    bench_identity,
    bench_kpis,
    bench_load,
    bench_logins,
    bench_queries,
    bench_release,
    bench_requests,
    bench_rows,
    bench_sessions,
    bench_sync,
    report,
)
from benchmarks.api import ROOT
from benchmarks.data import Bench, prepared
from benchmarks.figures import Figure, LeftOut
from benchmarks.processes import OtherWork, postmaster_of

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
ROWS, QUICK_ROWS = 1_000_000, 10_000
MUCH = 0.1  # of the processors, for other work

Run = Callable[[Bench], AsyncIterator[Figure]]


class Group(NamedTuple):
    """Figures that are measured together; `figures`: how many there will be, for the progress bar."""

    title: str
    run: Run
    figures: int


# In the order in which they run: what writes comes after what reads, and memory is looked at in the end.
# A worker carries out what earlier figures have committed: it comes last.
GROUPS: Mapping[str, Group] = {
    "pages": Group("A page over drafts", bench_rows.pages, 10),
    "scale": Group("A page over lines", bench_rows.scale, 3),
    "depth": Group("A page deep in the list", bench_rows.depth, 2),
    "totals": Group("Totals after a save", bench_rows.totals, 6),
    "founding": Group("The founding query", bench_founding.founding, 11),
    "kpis": Group("KPIs", bench_kpis.kpis, 15),
    "http": Group("Pages over HTTP", bench_http.http, 14),
    "counts": Group("Totals over HTTP", bench_http.counts, 2),
    "unmodified": Group("304", bench_http.unmodified, 1),
    "packed": Group("1,000 lines, packed", bench_http.packed, 7),
    "published": Group("The founding document's figures", bench_founding.published, 6),
    "exports": Group("Exports", bench_exports.exports, 9),
    "fences": Group("Fences", bench_fences.fences, 9),
    "identity": Group("The second fence", bench_identity.identity, 3),
    "logins": Group("Logins in a flood", bench_logins.logins, 6),
    "drafts": Group("Saving and discarding one draft", bench_drafts.one_draft, 2),
    "batches": Group("Saving many drafts", bench_drafts.many_drafts, 3),
    "edits": Group("Cell edits", bench_edits.edits, 3),
    "sessions": Group("Previewing a session", bench_sessions.previews, 3),
    "requests": Group("Change requests", bench_requests.requests, 4),
    "commits": Group("Committing", bench_commits.commits, 4),
    "feed": Group("The feed", bench_feed.feed, 14),
    "datasets": Group("Datasets of one's own", bench_datasets.datasets, 20),
    "queries": Group("Questions", bench_queries.queries, 11),
    "floor": Group("COPY into the mirror", bench_load.floor, 3),
    "release": Group("Against the release", bench_release.release, 8),
    "before": Group("What right answers cost", bench_release.before, 5),
    "sync": Group("Pull", bench_sync.pulls, 7),
    "drift": Group("Looking for drift", bench_drift.drift, 10),
    "sync-push": Group("Push", bench_sync.pushes, 5),
    "sync-pages": Group("Pages during a pull", bench_sync.pages, 5),
    "memory": Group("Memory", bench_http.memory, 2),
    "sync-memory": Group("Memory of a worker", bench_sync.memory, 4),
}


@dataclass(frozen=True)
class Options:
    """What the command line says; `out` is the document's file."""

    only: Sequence[str] = ()
    quick: bool = False
    rows: int | None = None
    url: str | None = None
    out: Path | None = None
    strict: bool = False

    @property
    def size(self) -> int:
        return self.rows or (QUICK_ROWS if self.quick else ROWS)

    @property
    def document(self) -> Path | None:
        """Where the document goes: the project's own only after the real thing."""
        if self.out is not None:
            return self.out
        return None if self.only or self.quick or self.size != ROWS else DOCUMENT


@dataclass
class Outcome:
    """What a run has measured, group by group, what failed, and what could not be had here."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    points: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    @property
    def missed(self) -> list[Figure]:
        """The figures that do not keep their bound."""
        return [each for figures in self.figures.values() for each in figures if each.holds is False]

    @property
    def notes(self) -> dict[str, str]:
        """What is to be said of a group besides its figures."""
        failed = {name: f"The rest could not be measured: {why}" for name, why in self.failures.items()}
        return failed | {name: f"Left out: {why}" for name, why in self.left_out.items()}


def selected(only: Sequence[str], groups: Mapping[str, Group]) -> dict[str, Group]:
    """The groups of these names, or all; raises ConfigurationError for a name that there is not."""
    if unknown := [name for name in only if name not in groups]:
        raise ConfigurationError(f"There are no figures called {unknown[0]}. There are {', '.join(groups)}.")
    return {name: group for name, group in groups.items() if not only or name in only}


def run(options: Options) -> int:
    """Measure; returns the exit status: 1 where a group failed, or where `strict` and a bound does not hold."""
    groups = selected(options.only, GROUPS)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    outcome, about = asyncio.run(_measure(options, groups, console))
    print_figures(console, outcome, groups)
    write_results(outcome, RESULTS)
    console.print(f"\nThe figures are in {_shown(RESULTS)}.", soft_wrap=True)
    if options.document is not None:
        report.write(options.document, about, outcome.figures, outcome.notes, outcome.points, GROUPS)
        console.print(f"The document is {_shown(options.document)}.", soft_wrap=True)
    else:
        console.print("docs/benchmarks.md stays as it is: it has the figures of a whole run on 1,000,000 lines.")
    return _conclude(console, options, outcome, about)


def _conclude(console: Console, options: Options, outcome: Outcome, about: report.About) -> int:
    for name, failure in outcome.failures.items():
        console.print(f"[red]{name} failed: {failure}", soft_wrap=True)
    if outcome.missed:
        names = "; ".join(figure.figure for figure in outcome.missed)
        console.print(f"[yellow]{len(outcome.missed)} bounds do not hold: {names}.", soft_wrap=True)
    elif not outcome.failures:
        console.print("[green]Every bound holds.")
    if (about.others or 0) > MUCH:
        console.print(f"{report.told_of_others(about)} Measure again when there is none.")
    if options.quick:
        console.print("This was a rehearsal on few lines: its figures say nothing about speed.")
    strict = options.strict and not options.quick
    return 1 if outcome.failures or (strict and outcome.missed) else 0


async def _measure(options: Options, groups: Mapping[str, Group], console: Console) -> tuple[Outcome, report.About]:
    with _bars(console) as bars:
        preparing = bars.add_task("Preparing", total=None, note="")

        def tell(what: str) -> None:
            bars.update(preparing, note=what)

        async with prepared(options.size, options.url, quick=options.quick, tell=tell) as bench:
            bars.update(preparing, total=1, completed=1, note=f"{options.size:,} lines")
            others = OtherWork(await postmaster_of(bench.big.owner))
            outcome = await measure(bench, groups, bars)
            about = await _about(bench, others.share())
            outcome.points = bench.points
            bars.add_task("Cleaning up", total=None, note="")
        return outcome, about


async def measure(bench: Bench, groups: Mapping[str, Group], bars: Progress) -> Outcome:
    """Every group in turn, whatever becomes of the ones before."""
    outcome = Outcome()
    for name, group in groups.items():
        bar = bars.add_task(group.title, total=group.figures, note="")
        figures = outcome.figures.setdefault(name, [])
        try:
            async for figure in group.run(bench):
                figures.append(figure)
                bars.update(bar, advance=1, note=_told(figure))
            bars.update(bar, total=len(figures), completed=len(figures), note="")
        except LeftOut as reason:
            outcome.left_out[name] = str(reason)
            bars.update(bar, total=len(figures), completed=len(figures), note="left out")
        except Exception as error:
            outcome.failures[name] = f"{type(error).__name__}: {error}".strip(": ")
            bars.update(bar, note="[red]failed")
            if not bars.console.is_terminal:
                traceback.print_exc()
        _log(bars, bar, name, outcome)
    return outcome


def _log(bars: Progress, bar: TaskID, name: str, outcome: Outcome) -> None:
    """Where nobody watches the bars, a line for each group."""
    if not bars.console.is_terminal:
        task = bars.tasks[bar]
        ended = "failed" if name in outcome.failures else f"{len(outcome.figures[name])} figures"
        print(f"{task.description:34} {task.elapsed or 0:6.1f} s   {ended}", file=sys.stderr, flush=True)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:34}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


async def _about(bench: Bench, others: float | None) -> report.About:
    version = await bench.big.owner.fetchval("SELECT split_part(current_setting('server_version'), ' ', 1)")
    return report.About(
        date=datetime.now(UTC).date().isoformat(),
        processor=processor(),
        postgresql=str(version),
        python=platform.python_version(),
        vanguard=__version__,
        rows=bench.big.rows,
        others=others,
    )


def processor() -> str:
    """What the machine calls its processor, and how many there are."""
    count = len(_affinity())
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {count} cores"
    return f"{platform.processor() or platform.machine()}, {count} cores"


def _affinity() -> Sequence[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


# -- telling -----------------------------------------------------------------------------------------------------------


def print_figures(console: Console, outcome: Outcome, groups: Mapping[str, Group]) -> None:
    """The figures as a table, those with a bound coloured."""
    table = Table("FIGURE", "VALUE", "BOUND", "", box=None, header_style="bold", pad_edge=False)
    for name, group in groups.items():
        table.add_row(f"[bold]{group.title}[/bold] [dim]{name}[/dim]")
        for figure in outcome.figures.get(name, ()):
            table.add_row(f"  {figure.figure}", shown(figure), figure.bound or "", _verdict(figure))
        if name in outcome.failures:
            table.add_row(f"  [red]{outcome.failures[name]}")
        if name in outcome.left_out:
            table.add_row(f"  [dim]{outcome.notes[name]}")
    console.print()
    console.print(table)


def shown(figure: Figure) -> str:
    """The value with its unit, as many digits as mean something."""
    return f"{report.rounded(figure.value)} {figure.unit}"


def _verdict(figure: Figure) -> str:
    if figure.holds is None:
        return ""
    return "[green]holds[/green]" if figure.holds else "[red]does not hold[/red]"


def _told(figure: Figure) -> str:
    return f"{figure.figure}: {shown(figure)}"


def write_results(outcome: Outcome, file: Path) -> None:
    """The figures for machines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    found = [
        {
            "figure": figure.figure,
            "value": round(figure.value, 4),
            "unit": figure.unit,
            "bound": figure.bound,
            "holds": figure.holds,
        }
        for figures in outcome.figures.values()
        for figure in figures
    ]
    file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _shown(file: Path) -> str:
    return str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)
