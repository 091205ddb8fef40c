"""Pages over HTTP, against pgbench with the same statement; totals, 304, and what memory all of it takes."""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.base.database import PLANNING, Connection
from app.dev.postgres import DevDatabaseError, embedded_bin_dir
from app.engine.view import Composed
from app.web.packing import CODINGS
from benchmarks.api import get, request
from benchmarks.data import LISTING, PATH, Bench, Place, Unavailable
from benchmarks.figures import Figure, at_least, at_most, plain
from benchmarks.processes import family, left, postmaster_of, spent

CLIENTS = 4
UNCOUNTED = (*LISTING, ("count", "none"))
# What the application's connections are set to, as far as it makes a difference to a page.
SESSION = ("role", *PLANNING, "timezone", "datestyle")
BLANK = "\\ "  # as PGOPTIONS wants it
READ_SETTING = "SELECT current_setting($1)"
MEGABYTE = 2**20

MISSED_PGBENCH = """\
Client, API and PostgreSQL share the processors. Whatever the API does for a request (HTTP, token, filters, headers) is
taken from the backends, which pgbench has to themselves. It takes two thirds of what it took, and another event loop
(uvloop) takes 3 % less. What is left is spread thin: "Where the time of a page goes" below has it. Two thirds of it are
the server, its event loop and the driver, and it would take others, outside Python, for more."""


MISSED_304 = """\
A 304 saves the page, and nothing else: the request, the token, and a statement that reads the two revisions. To save
that statement, too, each process would have to be told of every write by every other. The cheaper a page is, the less
there is to save."""


class Load(NamedTuple):
    """What went through in a second, and the processor time (ms) of each: of the API and of PostgreSQL, where known."""

    rate: float
    api: float | None
    server: float | None


async def http(bench: Bench) -> AsyncIterator[Figure]:
    """Pages through the API and through pgbench, in turns, four clients each."""
    place = bench.big
    postmaster = await postmaster_of(place.owner)
    for who in ("nobody", "somebody"):
        drafts = f"{place.people[who].drafts} drafts"
        page = get(f"{PATH}/rows", place.people[who].token, UNCOUNTED)
        ours, theirs = [], []
        await bench.api.flood(page, connections=CLIENTS, seconds=bench.seconds(2))
        for _ in range(3):
            ours.append(await _flooded(bench, page, postmaster))
            theirs.append(await pgbench(place, place.page(who), postmaster, seconds=bench.seconds(4)))
        rate, theirs_rate = median(load.rate for load in ours), median(load.rate for load in theirs)
        yield plain(f"pages a second over HTTP, {CLIENTS} clients, {drafts}", rate, "1/s")
        yield plain(f"pages a second of pgbench, {CLIENTS} clients, {drafts}", theirs_rate, "1/s")
        api, server, alone = (
            _median([load.api for load in ours]),
            _median([load.server for load in ours]),
            _median([load.server for load in theirs]),
        )
        more = None if api is None or server is None or alone is None else api + server - alone
        yield _against_pgbench(drafts, rate / theirs_rate, more)
        if more is not None:
            yield plain(f"processor time of a page over HTTP beyond pgbench's, {drafts}", more, "ms")
        for what, taken in (("the API", api), ("PostgreSQL", server), ("PostgreSQL under pgbench", alone)):
            if taken is not None:
                yield plain(f"processor time that {what} takes for a page, {drafts}", taken, "ms")


def _against_pgbench(kind: str, share: float, more: float | None) -> Figure:
    """One of the two has to hold: what the machine's cores leave of the throughput, or what a request costs them."""
    return Figure(
        figure=f"page over HTTP against pgbench, {kind}",
        value=share,
        unit="x",
        bound="at least 0.8, or at most 0.5 ms more processor time",
        holds=share >= 0.8 or (more is not None and more <= 0.5),
        missed=MISSED_PGBENCH,
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


async def _flooded(bench: Bench, page: str, postmaster: int | None) -> Load:
    before, api = _spent(postmaster), bench.api.processor_seconds()
    done, seconds = await bench.api.flood(page, connections=CLIENTS, seconds=bench.seconds(4))
    after, api_after = _spent(postmaster), bench.api.processor_seconds()
    return Load(done / seconds, _each(api, api_after, done), _each(before, after, done))


def _each(before: float | None, after: float | None, done: int) -> float | None:
    return None if before is None or after is None else (after - before) * 1000 / done


def _spent(postmaster: int | None) -> float | None:
    try:
        return None if postmaster is None else spent(postmaster)
    except OSError:
        return None


# -- pgbench -----------------------------------------------------------------------------------------------------------


async def pgbench(place: Place, page: Composed, postmaster: int | None, *, seconds: float) -> Load:
    """The statement in prepared mode, with the application's session settings; its own processor time left out."""
    async with place.database.connection() as connection:
        options = await session_options(connection)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".sql") as script:
        script.write(pgbench_script(page))
        script.flush()
        variables = [word for n, value in enumerate(page.arguments, start=1) for word in ("-D", f"v{n}={value}")]
        address, password = without_password(place.url)
        before, there = _spent(postmaster), [] if postmaster is None else family(postmaster)
        process = await asyncio.create_subprocess_exec(
            pgbench_program(), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1",
            "-T", str(max(1, round(seconds))), "-f", script.name, *variables, address,
            env=os.environ | password | {"PGOPTIONS": options},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        if postmaster is not None:
            await left(postmaster, there)
        after = _spent(postmaster)
    rate = re.search(rb"tps = ([\d.]+)", output)
    done = re.search(rb"transactions actually processed: (\d+)", output)
    if process.returncode or rate is None or done is None:
        raise Unavailable(f"pgbench fails: {errors.decode(errors='replace').strip()}")
    return Load(float(rate[1]), None, _each(before, after, int(done[1])))


def without_password(url: str) -> tuple[str, dict[str, str]]:
    """The address as everybody may see it in a list of processes, and the environment that holds its password."""
    parts = conninfo_to_dict(url)
    password = parts.pop("password", None)
    return make_conninfo("", **parts), {} if password is None else {"PGPASSWORD": str(password)}


def pgbench_script(page: Composed) -> str:
    """The statement with :v1 for $1. Any other colon before a letter would count as a variable, in JSON texts, too."""
    text = re.sub(r"--.*", "", page.statement.text)
    text = re.sub(r"(?<!:):(?=[A-Za-z_])", ": ", text)
    return re.sub(r"\$(\d+)", r":v\1", text)


def pgbench_program() -> str:
    """The wheel's, or what is installed."""
    try:
        beside = embedded_bin_dir() / "pgbench"
    except DevDatabaseError:
        beside = Path("pgbench")
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    if found is None:
        raise Unavailable("There is no pgbench here. It comes with PostgreSQL's server, or with the extra `dev`.")
    return found


async def session_options(connection: Connection) -> str:
    """The connection's own settings, as a client of libpq says them."""
    settings = {name: await connection.raw.fetchval(READ_SETTING, name) for name in SESSION}
    return " ".join(f"-c {name}={value.replace(' ', BLANK)}" for name, value in settings.items())


# -- totals and 304 ----------------------------------------------------------------------------------------------------


async def counts(bench: Bench) -> AsyncIterator[Figure]:
    """The exact total, while nothing was written since it was counted, against no total at all."""
    for who in ("nobody", "somebody"):
        person = bench.big.people[who]
        none, exact = (get(f"{PATH}/rows", person.token, [*LISTING, ("count", how)]) for how in ("none", "exact"))
        await bench.api.turns([none], [exact], rounds=10)
        without, counted = await bench.api.turns([none], [exact], rounds=bench.rounds(300))
        yield at_most(f"exact total with a warm revision against none, {person.drafts} drafts", counted / without, 1.2)


async def unmodified(bench: Bench) -> AsyncIterator[Figure]:
    """304 against the page, four connections each, in turns."""
    person = bench.big.people["somebody"]
    page = get(f"{PATH}/rows", person.token, UNCOUNTED)
    tag = get(f"{PATH}/rows", person.token, UNCOUNTED, If_None_Match=await _etag(bench, person.token))
    ratios = []
    for _ in range(4):
        sent = await bench.api.flood(page, connections=CLIENTS, seconds=bench.seconds(2))
        saved = await bench.api.flood(tag, connections=CLIENTS, seconds=bench.seconds(2), expect=304)
        ratios.append((saved[0] / saved[1]) / (sent[0] / sent[1]))
    yield at_least("304 against the page, throughput", median(ratios), 2.5, missed=MISSED_304)


async def packed(bench: Bench) -> AsyncIterator[Figure]:
    """1,000 lines with each coding and without one: what goes over the wire, and how long it takes."""
    params, token = [*UNCOUNTED, ("pageSize", "1000")], bench.big.people["somebody"].token
    plain_page = get(f"{PATH}/rows", token, params)
    whole = int(await _header(bench, plain_page, "Content-Length"))
    yield plain("bytes of 1,000 lines over HTTP", whole / 1000, "kB")
    for coding in CODINGS:
        page = get(f"{PATH}/rows", token, params, Accept_Encoding=coding)
        if await _header(bench, page, "Content-Encoding") != coding:
            raise Unavailable(f"The API does not send {coding}.")
        length = int(await _header(bench, page, "Content-Length"))
        yield at_most(f"bytes of 1,000 lines over HTTP with {coding} against none", length / whole, 0.2)
        without, with_it = await bench.api.turns([plain_page], [page], rounds=bench.rounds(60))
        yield plain(f"1,000 lines over HTTP with {coding} against none, by the clock", with_it / without, "x")


async def _etag(bench: Bench, token: str) -> str:
    """The tag of the page as it stands, from an answer's head."""
    return await _header(bench, get(f"{PATH}/rows", token, UNCOUNTED), "ETag")


async def _header(bench: Bench, request: str, name: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.api.port)
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    found = re.search(rf"^{name}: (.+?)\r$", head, re.IGNORECASE | re.MULTILINE)
    if found is None:
        raise Unavailable(f"The API sends no {name}.")
    return found[1]


# -- memory ------------------------------------------------------------------------------------------------------------


async def memory(bench: Bench) -> AsyncIterator[Figure]:
    """What the API's process held at most, over everything that it was asked. Comes last."""
    place = bench.big
    for who in ("nobody", "somebody", "quiet", "spread"):
        page = get(f"{PATH}/rows", place.people[who].token, [*LISTING, ("pageSize", "1000")])
        await bench.api.turns([page], rounds=bench.rounds(40))
    many = min(10_000, place.rows)
    drafts = [{"id": f"PFA-{n:07d}", "delta": {"equipment": f"MEMORY-{n}"}} for n in range(1, many + 1)]
    saving = request("POST", f"{PATH}/drafts", place.people["writer"].token, {"modifications": drafts})
    discarding = request("POST", f"{PATH}/discard", place.people["writer"].token, {"all": True})
    await bench.api.turns([saving, discarding], rounds=2)
    held = bench.api.peak_memory()
    if held is None:
        raise Unavailable("This system does not tell what a process held at most: the figure needs Linux.")
    yield at_most("peak memory of the API's process", held[0] / MEGABYTE, 250, "MB")
    if len(held) > 1:
        yield plain("peak memory of the process that watches over it", held[1] / MEGABYTE, "MB")
