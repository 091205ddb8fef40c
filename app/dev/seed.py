"""Invented lines of the built-in dataset, as many as one likes: for demonstrations, benchmarks and plan tests.

The same seed makes the same lines, whatever the day, the machine and the number asked for: the first thousand of a
million are the thousand.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.base import exact_json
from app.base.clock import now
from app.base.errors import ConfigurationError
from app.base.statements import statement
from app.contracts import BUILT_IN, PFA, Contract
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.engine.feed import APPEND_EVENT, EventType

LOCK_DATASET = statement("locks/lock_dataset")
HOLD_ABSENT_KEYS = statement("locks/hold_absent_keys")
RAISE_REVISION = statement("locks/raise_revision")
READ_OCCUPANCY = statement("dev/read_occupancy")
MARK_UNRECORDED = statement("dev/mark_unrecorded")
REFRESH_KPIS = statement("kpis/refresh_kpis")

MOST_ROWS = 9_999_999  # the seven digits of a line's id
MANY_ROWS = 50_000  # above, it pays to make the indexes afterwards
STRIDE = 2_000  # lines between two looks at the progress

# Plans begin within four years from FIRST_DAY; actuals are known up to TODAY, which stands still so that the lines do.
FIRST_DAY = date(2024, 7, 1)
SPAN = 4 * 365 + 1
TODAY = (date(2026, 3, 1) - FIRST_DAY).days

Lines = Callable[[str, int], Iterator[tuple[str, str]]]
Watch = Callable[[str, int], None]


class Class(msgspec.Struct, frozen=True):
    """A class of equipment: monthly rate and price of its smallest model, and each maker's models, small ones first."""

    name: str
    rate: int
    price: int
    models: dict[str, list[str]]


class Category(msgspec.Struct, frozen=True):
    """A category: its tag, how common it is, the share that is rented, and how many days it is needed for."""

    name: str
    description: str
    tag: str
    weight: int
    rented: float
    days: tuple[int, int]
    classes: list[Class]


class World(msgspec.Struct, frozen=True):
    """What lines can be about."""

    areas: list[str]
    projects: list[str]
    categories: list[Category]


class Model(NamedTuple):
    """A model as lines need it: its part of the document, and the levels that the line's own figures move around."""

    text: str
    tag: str
    rented: float
    rate: float
    price: float
    shortest: int
    longest: int


class NotEmpty(ConfigurationError):
    """The dataset has rows or drafts already."""


class Seeded(NamedTuple):
    """What was done, and the seconds of each phase."""

    rows: int
    revision: int
    seconds: dict[str, float]


def pfa_lines(organization: str, seed: int) -> Iterator[tuple[str, str]]:
    """Id and JSON text of one line after another, without end: all draw from one stream of numbers."""
    # random() is the one draw that Python promises to repeat in later versions.
    draw = random.Random(seed).random  # noqa: S311 - nothing is kept secret with it
    world = msgspec.json.decode((Path(__file__).parent / "seed.json").read_bytes(), type=World)
    areas, projects, shares = world.areas, world.projects, _shares(world)
    days = [f'"{FIRST_DAY + timedelta(day)}"' for day in range(SPAN + 2000)]
    minutes = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(24 * 60)]
    pems_organization = exact_json.encode(organization.upper()).decode()
    number = 0
    while True:
        number += 1
        key = f"PFA-{number:07d}"
        models = shares[int(draw() * len(shares))]
        model = models[int(draw() * len(models))]
        area = areas[int(draw() * len(areas))]

        # The figure that the source asks for is missing in one line of 200; a rented line may know the price as well.
        rental, level, complete = draw() < model.rented, 0.85 + 0.3 * draw(), draw() >= 0.005
        rate = _amount(model.rate * level, 5, draw()) if rental and complete else "null"
        priced = draw() < 0.25 if rental else complete
        price = _amount(model.price * level, 50, draw()) if priced else "null"

        # The plan, the forecast that drifted from it, and what came of it so far.
        planned, forecast, half = draw() >= 0.005, draw() >= 0.02, draw() < 0.5
        first = int(draw() * SPAN)
        last = first + model.shortest + int((model.longest - model.shortest) * draw() * draw())
        begin = max(0, first + _drift(draw(), draw()))
        end = max(begin, last + begin - first + _drift(draw(), draw()))
        known = forecast and begin < TODAY and draw() < 0.88
        began = min(max(0, begin + int(draw() * 10) - 3), TODAY)
        ended = max(began, min(end + int(draw() * 21) - 10, TODAY))
        actualized, fate = known and draw() < 0.86, draw()

        yield (
            key,
            f'{{"pfaId":"{key}","organization":{pems_organization},"areaSilo":"{area}",{model.text},'
            f'"source":"{"Rental" if rental else "Purchase"}","dor":"{"BEO" if draw() < 0.35 else "PROJECT"}",'
            f'"monthlyRate":{rate},"purchasePrice":{price},'
            f'"contract":"{projects[int(draw() * draw() * len(projects))]}",'
            f'"equipment":"{model.tag}-{area[5:8]}-{int(draw() * 9000) + 1000}{"ABCD"[int(draw() * 4)]}",'
            f'"originalStart":{days[first] if planned else "null"},'
            f'"originalEnd":{days[last] if planned or half else "null"},'
            f'"forecastStart":{days[begin] if forecast else "null"},'
            f'"forecastEnd":{days[end] if forecast or half else "null"},'
            f'"actualStart":{days[began] if known else "null"},"actualEnd":{days[ended] if known else "null"},'
            f'"isActualized":{"true" if actualized else "false"},'
            f'"isDiscontinued":{"true" if fate < 0.04 else "false"},'
            f'"isFundsTransferable":{"true" if 0.04 <= fate < 0.07 else "false"},'
            f'"pemsVersion":{days[TODAY - 1 - int(draw() * 180)][:-1]}T{minutes[int(draw() * 1440)]}:00Z",'
            f'"hasPlan":{"true" if planned else "false"},"hasActuals":{"true" if known else "false"}}}',
        )


LINES: Mapping[str, Lines] = MappingProxyType({PFA.name: pfa_lines})


async def seed(
    url: str,
    organization: str,
    rows: int,
    *,
    dataset: str = PFA.name,
    contracts: tuple[Contract, ...] = BUILT_IN,
    number: int = 1,
    watch: Watch = lambda phase, done: None,
) -> Seeded:
    """Fill the organization's empty dataset with `rows` lines of the seed `number`, all of them or none.

    Connects as the owner of the tables, who may drop their indexes. `watch` is told the phase and the lines so far.
    Raises ConfigurationError where there is no such dataset, NotEmpty where something is in it already.
    """
    contract = next((each for each in contracts if each.name == dataset and dataset in LINES), None)
    if contract is None:
        raise ConfigurationError(f"There are no lines to invent for {dataset}, only for {', '.join(LINES)}.")
    try:
        connection = await asyncpg.connect(url, server_settings={"application_name": "vanguard seed", "jit": "off"})
    except OSError as error:
        raise ConfigurationError(f"The database cannot be reached: {error}.") from error
    try:
        return await _seed(connection, contract, organization, rows, number, watch)
    finally:
        await connection.close()


async def _seed(
    connection: "asyncpg.Connection[Any]", contract: Contract, organization: str, rows: int, number: int, watch: Watch
) -> Seeded:
    seconds: dict[str, float] = {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        started = time.perf_counter()
        watch(name, 0 if name == "copy" else rows)
        yield
        seconds[name] = time.perf_counter() - started

    # The documents are JSON text already: the format's version before it is all that is missing.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda text: b"\x01" + text.encode(),
        decoder=lambda stored: stored[1:],
    )
    async with connection.transaction():
        empty = await _lock(connection, contract, organization)
        revision = await connection.fetchval(RAISE_REVISION.text, organization, contract.name)
        later = empty and rows > MANY_ROWS
        if later:
            await connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
            await connection.execute(drop_indexes_ddl(contract))
        await connection.execute(MARK_UNRECORDED.text, organization, contract.name)
        with phase("copy"):
            await _copy(connection, contract, organization, rows, number, revision, watch)
        if later:
            with phase("indexes"):
                await connection.execute(indexes_ddl(contract))
        await connection.fetchval(APPEND_EVENT.text, *_loaded(contract, organization, revision))
    # Index-only scans live on the visibility map, plans on statistics: both at once, not when autovacuum comes by.
    with phase("vacuum"):
        await connection.execute(f"VACUUM (ANALYZE) {contract.schema}.mirror")
    with phase("kpis"):
        await connection.execute(REFRESH_KPIS.within(contract.schema).text)
    return Seeded(rows, revision, seconds)


def _loaded(contract: Contract, organization: str, revision: int) -> Sequence[Any]:
    """What the feed tells of it: anything may be otherwise."""
    absent = ("actor", "row_count", "keys", "renamed", "request_id", "session_id")
    return APPEND_EVENT.bind(
        {
            "organization": organization,
            "dataset": contract.name,
            "at": now(),
            "type": EventType.DATASET,
            "revision": revision,
            "details": '{"event": "loaded"}',
        }
        | dict.fromkeys(absent)
    )


async def _lock(connection: "asyncpg.Connection[Any]", contract: Contract, organization: str) -> bool:
    """Lock the dataset; whether the mirror holds nobody's rows."""
    if await connection.fetchrow(LOCK_DATASET.text, organization, contract.name) is None:
        raise ConfigurationError(
            f"There is no organization {organization} with a dataset {contract.name}. Add it: vanguard org add."
        )
    await connection.fetchval(HOLD_ABSENT_KEYS.text, organization, contract.name)
    found = await connection.fetchrow(READ_OCCUPANCY.within(contract.schema).text, organization)
    assert found is not None, "a statement without FROM returns its row"
    if found["occupied"]:
        raise NotEmpty(f"{organization} has rows or drafts in {contract.name} already: seed an empty one.")
    return bool(found["empty"])


async def _copy(
    connection: "asyncpg.Connection[Any]",
    contract: Contract,
    organization: str,
    rows: int,
    number: int,
    revision: int,
    watch: Watch,
) -> None:
    def records() -> Iterator[tuple[str, str, str, int]]:
        for done, (key, text) in enumerate(islice(LINES[contract.name](organization, number), rows)):
            if done % STRIDE == 0:
                watch("copy", done)
            yield organization, key, text, revision

    await connection.copy_records_to_table(
        "mirror",
        schema_name=contract.schema,
        columns=["organization_id", "row_key", "data", "revision"],
        records=records(),
    )


@contextmanager
def progress(rows: int) -> Iterator[Watch]:
    """A bar for each phase, with the rate, where a person looks at stderr; nothing elsewhere."""
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    started = time.monotonic()

    def watch(phase: str, done: int) -> None:
        if not bars.tasks or bars.tasks[-1].description != phase:
            for task in bars.tasks:
                bars.update(task.id, total=rows, completed=rows)
            # How far the database is with indexes and statistics, it does not say.
            bars.add_task(phase, total=rows if phase == "copy" else None, note="")
        if phase == "copy":
            rate = done / max(time.monotonic() - started, 0.001)
            bars.update(bars.tasks[-1].id, completed=done, note=f"{done:,} of {rows:,} rows, {rate:,.0f} a second")

    with bars:
        yield watch


def _shares(world: World) -> list[list[Model]]:
    """The models of each category, the category as often as it weighs. Texts are quoted here, once."""
    shares = []
    for category in world.categories:
        models = [
            _model(category, kind, maker, name, 1 + 0.45 * size)
            for kind in category.classes
            for maker, names in kind.models.items()
            for size, name in enumerate(names)
        ]
        shares += [models] * category.weight
    return shares


def _model(category: Category, kind: Class, maker: str, name: str, size: float) -> Model:
    fields = {
        "category": category.name,
        "forecastCategory": category.description,
        "class": kind.name,
        "manufacturer": maker,
        "model": name,
    }
    text = exact_json.encode(fields).decode()[1:-1]
    return Model(text, category.tag, category.rented, kind.rate * size, kind.price * size, *category.days)


def _amount(value: float, step: int, chance: float) -> str:
    """A round amount, one of six with cents: text, since a float would not keep its digits."""
    units = max(step, int(value / step) * step)
    return str(units) if chance >= 0.16 else f"{units}.{int(chance * 600) + 1:02d}"


def _drift(chance: float, far: float) -> int:
    """Days that a forecast moved: often none, mostly later."""
    if chance < 0.4:
        return 0
    return int(120 * far * far) if chance < 0.85 else -int(30 * far)
