"""Each tuned statement beside the rival that lost, timed by pgbench in turns.

python -m benchmarks.pgbench                       all of them, on a server of its own with 200,000 lines
python -m benchmarks.pgbench cursor total          some of them
python -m benchmarks.pgbench cursor --show         prints the scripts, which run in psql
python -m benchmarks.pgbench --figures             times, and writes the figures into each README.md
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from app.base.logs import configure_logs
from benchmarks.data import scratch_database, server_at
from benchmarks.pgbench.comparisons import COMPARISONS, HOME, scripts_of
from benchmarks.pgbench.scripts import Figure, compare
from benchmarks.pgbench.world import LINES, ORGANIZATION, fill

SLUGS = list(COMPARISONS)
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)

Figures = Mapping[str, Mapping[str, Figure]]


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pgbench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slugs", nargs="*", choices=[[], *SLUGS], metavar="SLUG", help=", ".join(SLUGS))
    parser.add_argument("--url", help="a database of yours: empty, or filled by an earlier run")
    parser.add_argument("--rows", type=int, default=LINES, help="lines to seed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each script in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="turns that the scripts take (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="print the scripts, and time nothing")
    parser.add_argument("--figures", action="store_true", help="write what is found into README.md")
    options = parser.parse_args()
    configure_logs("ERROR", "console")
    if options.show:
        for script in (script for slug in options.slugs or SLUGS for script in scripts_of(slug)):
            print(script.text)
        return
    console = Console()
    with ExitStack() as stack:
        url = options.url or stack.enter_context(scratch_database(stack.enter_context(server_at(None))))
        console.print("Lines and drafts ...", style="dim")
        fill(url, options.rows)
        size = data_size(url)
        for slug in options.slugs or SLUGS:
            figures = compare(url, scripts_of(slug), seconds=options.seconds, rounds=options.rounds)
            console.print(table(slug, figures))
            if options.figures:
                write_figures(HOME / slug / "README.md", figures, size)


def data_size(url: str) -> str:
    """What the figures were found on."""
    with psycopg.connect(url) as connection:
        lines = connection.execute("SELECT count(*) FROM pfa.mirror WHERE organization_id = %s", [ORGANIZATION])
        (count,) = lines.fetchone() or (0,)
        version = connection.info.server_version // 10_000
    return f"{count:,} lines, PostgreSQL {version}, {datetime.now(UTC).date()}"


def table(slug: str, figures: Figures) -> Table:
    """Milliseconds, and how many times the chosen one's."""
    names = list(next(iter(figures.values())))
    shown = Table("", *names, title=slug, title_justify="left", title_style="bold")
    for column in shown.columns[1:]:
        column.justify = "right"
    for label, found in figures.items():
        shown.add_row(label, *cells(found))
    return shown


def cells(found: Mapping[str, Figure]) -> Sequence[str]:
    """One situation's figures, the chosen one first."""
    chosen, *rivals = found.values()
    return [
        f"{chosen.milliseconds:.2f} ms",
        *(
            f"{rival.milliseconds:.2f} ms, {_times(rival.ratio)}" + ("" if rival.same else ", other rows")
            for rival in rivals
        ),
    ]


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def write_figures(readme: Path, figures: Figures, size: str) -> None:
    """Put the figures between the README's markers."""
    names = list(next(iter(figures.values())))
    lines = [
        f"| {size} | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {label} | {' | '.join(cells(found))} |" for label, found in figures.items()),
    ]
    text = readme.read_text(encoding="utf-8")
    readme.write_text(FIGURES.sub("\n".join([*lines, ""]).replace("\\", "\\\\"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
