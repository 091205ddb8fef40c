"""`vanguard dev`, `seed` and `pems-sim`: the product on one machine, and its data."""

import asyncio
import os
import re
import signal
import sys
from itertools import islice
from pathlib import Path

import click

from app.base.errors import ConfigurationError
from app.base.listening import EXPOSE, refuse_exposure
from app.base.logs import configure_logs
from app.base.settings import read_settings
from app.cli.program import main
from app.dev import run as development
from app.dev import seed
from app.simulator import Simulator, read_credentials


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, envvar="VANGUARD_PORT")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=development.DATA_DIR,
    envvar="VANGUARD_DATA_DIR",
    help="Where the database and the secret are kept; .vanguard in the project, if not given.",
)
@click.option("--rows", type=click.IntRange(1, seed.MOST_ROWS), default=2000, show_default=True, help="Lines of demo.")
@click.option("--demo", is_flag=True, help="Make the demonstration in the database at DATABASE_URL, too.")
@click.option(EXPOSE, "exposed", is_flag=True, help="Listen at VANGUARD_HOST even if others reach it.")
def dev(port: int, data_dir: Path, rows: int, demo: bool, exposed: bool) -> None:
    """Serve on this machine, with a database and a demonstration of its own."""
    configure_logs("WARNING", "console")
    options = development.Options(port=port, data_dir=data_dir.absolute(), rows=rows, demo=demo, exposed=exposed)
    sys.exit(development.run(options))


@main.command("seed")
@click.option("--org", "organization", required=True, help="An organization whose dataset is empty.")
@click.option("--rows", type=click.IntRange(1, seed.MOST_ROWS), required=True, help="How many lines.")
@click.option("--dataset", default="pfa", show_default=True)
@click.option("--seed", "number", default=1, show_default=True, help="Another number makes other lines.")
def seed_dataset(organization: str, rows: int, dataset: str, number: int) -> None:
    """Fill an empty dataset with invented lines."""
    url = read_settings().owner_address
    configure_logs("ERROR", "console")
    with seed.progress(rows) as watch:
        done = asyncio.run(seed.seed(url, organization, rows, dataset=dataset, number=number, watch=watch))
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in done.seconds.items())
    click.echo(f"{organization} has {rows:,} lines in {dataset}, revision {done.revision} ({phases}).")


@main.command("pems-sim")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="0 takes a free one.")
@click.option(
    "--org",
    "organizations",
    multiple=True,
    default=("RIO=1000", "RIO2=50"),
    show_default=True,
    metavar="CODE=ROWS[:SEED]",
    help="An organization and how many lines it has.",
)
@click.option("--seed", "number", default=1, show_default=True, help="Of the lines and of what goes wrong.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="A file that keeps edits.")
@click.option("--latency", type=click.FloatRange(min=0), default=0, help="Milliseconds until an answer.")
@click.option("--rate", type=click.IntRange(min=1), help="Requests a second; beyond, 429. No limit if not given.")
@click.option(
    "--rendered",
    type=click.Choice(["localized", "canonical"]),
    is_flag=False,
    flag_value="localized",
    help="Write all rows beforehand, for measurements; canonical: as with LOCALIZE_RESULT switched off.",
)
@click.option(EXPOSE, "exposed", is_flag=True, help="Listen at --host even if others reach it, who can steer it.")
def pems_sim(
    host: str, port: int, organizations: tuple[str, ...], number: int, state: Path | None, latency: float,
    rate: int | None, rendered: str | None, exposed: bool,
) -> None:  # fmt: skip
    """Serve a PEMS of invented lines that misbehaves on request. SIGTERM stops it at once.

    User, password, API key and token are VANGUARD_PEMS_SIM_USER, _PASSWORD, _API_KEY and _TOKEN.
    """
    if not exposed:
        refuse_exposure(host, "--host")
    sizes = dict(_organization_lines(each, number) for each in organizations)
    lines = {
        code: (text for _, text in islice(seed.pfa_lines(code.lower(), of), rows)) for code, (rows, of) in sizes.items()
    }
    credentials = read_credentials(os.environ)
    simulator = Simulator(lines, credentials=credentials, journal=state, seed=number, latency=latency, rate=rate)
    if rendered:
        simulator.render(localized=rendered == "localized")

    async def run() -> None:
        try:
            url = await simulator.start(host, port)
        except OSError as error:
            raise ConfigurationError(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
        stopped = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            if each == signal.SIGTERM or signal.getsignal(each) != signal.SIG_IGN:  # as with the worker
                asyncio.get_running_loop().add_signal_handler(each, stopped.set)
        held = ", ".join(f"{code} {rows:,}" for code, rows in simulator.sizes().items())
        click.echo(f"PEMS simulator at {url}, lines: {held}.")
        await stopped.wait()
        await simulator.stop()

    asyncio.run(run())


def _organization_lines(given: str, number: int) -> tuple[str, tuple[int, int]]:
    """CODE=ROWS[:SEED] as the code, the rows and the seed."""
    match = re.fullmatch(r"([A-Z0-9_-]{1,63})=(\d{1,7})(?::(\d{1,9}))?", given)
    if match is None:
        raise click.BadParameter(f"{given} is not CODE=ROWS or CODE=ROWS:SEED, with a code of A-Z, 0-9, - and _.")
    return match[1], (int(match[2]), int(match[3] or number))
