"""`vanguard bench`, which comes to the command line by an entry point of pyproject.toml."""

import sys
from pathlib import Path

import click

from app.base.logs import configure_logs
from app.dev import seed
from benchmarks import load as load_profile
from benchmarks import suite


@click.command()
@click.option("--only", default="", help="Some figures only: names of groups, comma-separated.")
@click.option("--quick", is_flag=True, help="A rehearsal on 10,000 lines: everything runs, nothing is to be relied on.")
@click.option("--rows", type=click.IntRange(100, seed.MOST_ROWS), help="How many lines, instead of 1,000,000.")
@click.option("--url", help="A server that may be used; databases are made there and dropped again.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the document goes, in any case.")
@click.option("--strict", is_flag=True, help="Fail where a bound does not hold.")
@click.option("--load", is_flag=True, help="Readers and writers at once instead: p50, p95, p99 and errors.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=20, help="With --load: how long.")
@click.option("--readers", type=click.IntRange(min=0), default=8, help="With --load: how many.")
@click.option("--writers", type=click.IntRange(min=0), default=2, help="With --load: how many.")
def bench(
    only: str, quick: bool, rows: int | None, url: str | None, out: Path | None, strict: bool,
    load: bool, seconds: float, readers: int, writers: int,
) -> None:  # fmt: skip
    """Measure how fast it is, on a server of its own."""
    if load and (only or out or strict):
        raise click.UsageError(
            "--load goes with --quick, --rows, --url, --seconds, --readers and --writers; "
            "--only, --out and --strict are about figures."
        )
    configure_logs("ERROR", "console")
    if load:
        size = rows or (suite.QUICK_ROWS if quick else suite.ROWS)
        sys.exit(load_profile.run(url, rows=size, seconds=seconds, readers=readers, writers=writers))
    names = tuple(name.strip() for name in only.split(",") if name.strip())
    sys.exit(suite.run(suite.Options(only=names, quick=quick, rows=rows, url=url, out=out, strict=strict)))
