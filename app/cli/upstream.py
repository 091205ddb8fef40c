"""`vanguard upstream check`: what a system of record looks like from here, before it is connected."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from app.base.errors import ConfigurationError
from app.base.logs import configure_logs
from app.base.settings import read_settings
from app.cli.program import main
from app.upstream.protocol import Report
from app.worker.start import read_targets
from app.worker.target import Target


@main.group()
def upstream() -> None:
    """Look at systems of record."""


@upstream.command()
@click.option("--org", "organization", help="This organization's alone.")
@click.option("--dataset", help="This dataset's alone.")
@click.option("--json", "as_json", is_flag=True, help="For machines, a line of JSON for each.")
def check(organization: str | None, dataset: str | None, *, as_json: bool) -> None:
    """Read a page and a record of each upstream that VANGUARD_UPSTREAMS names, and tell how they are understood.

    Needs no database, and writes nothing anywhere. The status is 1 where something does not fit.
    """
    settings = read_settings()
    configure_logs("ERROR", "console")
    targets = [
        target
        for target in read_targets(settings)
        if organization in (None, target.organization) and dataset in (None, target.dataset)
    ]
    if not targets:
        raise ConfigurationError("VANGUARD_UPSTREAMS names no such upstream.")
    reports = asyncio.run(_check(targets))
    for target, report in reports:
        if as_json:
            told = {"organization": target.organization, "dataset": target.dataset, **msgspec.to_builtins(report)}
            click.echo(msgspec.json.encode(told))
        else:
            _print(target, report)
    sys.exit(0 if all(report.fits for _, report in reports) else 1)


async def _check(targets: Sequence[Target]) -> list[tuple[Target, Report]]:
    found = []
    for target in targets:
        try:
            found.append((target, await target.upstream.check()))
        finally:
            await target.upstream.close()
    return found


def _print(target: Target, report: Report) -> None:
    """The report for people, what does not fit at the end."""
    found = report.found
    click.secho(f"{target.organization}/{target.dataset}: {found['upstream']['url']}", bold=True)
    for name in ("settings", "rights", "timeFilter"):
        if name in found:
            click.echo(f"  {name}: " + ", ".join(f"{key} {_text(value)}" for key, value in found[name].items()))
    for line in found.get("listings", ()):
        counts = ", ".join(f"{key} {_text(line[key])}" for key in ("total", "lines", "ours", "others", "broken"))
        click.echo(f"  grid, {line['organization']}: {counts}")
    _print_lines("columns of the grid", [_column(column) for column in found.get("columns", ())])
    _print_names("columns that nobody has mapped", found.get("unmapped", ()))
    if screen := found.get("screen"):
        _print_lines(f"fields of the screen, record {screen['record']}", [_field(each) for each in screen["fields"]])
        _print_names("fields that nobody has mapped, which are sent back as they came", screen["unmapped"])
    for problem in report.problems:
        click.secho(f"  ! {problem}", fg="yellow")
    click.echo("It fits." if report.fits else f"{len(report.problems)} things to look at.")


def _print_lines(title: str, lines: Sequence[tuple[str, str, str]]) -> None:
    click.echo(f"  {title}:" if lines else "", nl=bool(lines))
    for field, name, told in lines:
        click.echo(f"    {field:<20} {name:<20} {told}")


def _print_names(what: str, names: Sequence[str]) -> None:
    if names:
        click.echo(f"  {what}: {', '.join(names)}")


def _column(column: dict[str, Any]) -> tuple[str, str, str]:
    told = "; ".join(map(_example, column["examples"])) or "empty in all lines that were read"
    return column["field"], column["alias"], told if column["found"] else "NOT SENT"


def _example(example: dict[str, Any]) -> str:
    return _understood(example["received"], example["understood"] if example["problem"] is None else example["problem"])


def _field(field: dict[str, Any]) -> tuple[str, str, str]:
    if not field["found"]:
        return field["field"], field["name"], "NOT SHOWN"
    received = field["received"]
    alone = received.get("TEXTDATA") if list(received) == ["TEXTDATA"] else received or None
    return field["field"], field["name"], _understood(alone, field["understood"])


def _understood(received: Any, understood: Any) -> str:
    same = _text(received) == _text(understood)
    return _text(received) if same else f"{_text(received)} -> {_text(understood)}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return "-" if value is None else str(value)
