"""KPIs against aggregating the merged lines anew."""

import time
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

import asyncpg

from app.base.database import Connection
from app.contracts import PFA, Contract
from app.contracts.aggregates import aggregates
from app.engine.desk import Desk
from app.engine.figures import Wanted
from app.kpis import Kpis, read_kpis, read_wanted
from benchmarks.api import get
from benchmarks.data import ORGANIZATION, PATH, Bench, Person
from benchmarks.figures import Figure, at_least, plain

TOTAL = read_wanted(PFA, [])
GROUPED = read_wanted(PFA, [("groupBy", "category,source")])
TURNS, LONG = 3, 10.0  # of theirs, which take long: no other after one of so many seconds
REPEATED, PATIENCE = 20, 5.0  # reads of ours for each of theirs, within some seconds
PUBLISHED = 185  # milliseconds that the founding document's statistics took on 1,000 lines

OVER_DRAFTS = (
    ("nobody", "no drafts", 500.0),
    ("quiet", "{:,} drafts of a field without an index", 30.0),
    ("spread", "{:,} drafts that move their rows, all over the list", 30.0),
    ("head", "{:,} drafts that move the list's first rows to its end", 30.0),
)

MISSED_PLAN = """\
The statement is planned once for everybody (`force_generic_plan`), as if each user had an equal part of all
modifications. Where a few users have them all, as here, it reads everybody's to find the caller's. Planned for the
caller it takes a third of a millisecond, after a millisecond of planning."""
MISSED_DRAFTS = """\
The stored figures answer for the mirror; what the user's modifications take away and bring is summed up anew for each
request, from their index images. A sum per user that is kept while drafts are saved would make it as fast as without
drafts, and every save slower."""


def live(contract: Contract) -> str:
    """The straightforward way: every line merged, then aggregated by the contract's expressions. $1, $2: whose."""
    figures, flags = aggregates(contract), [contract.column_of[name] for name in TOTAL.excluded]
    columns = {column.name: column for column in (*(each.column for each in figures), *flags)}
    return f"""
SELECT count(*) AS row_count, {", ".join(f"{each.over('v.')} AS {each.name}" for each in figures)}
  FROM (SELECT {", ".join(f"{column.of('d.doc')} AS {name}" for name, column in columns.items())}
          FROM (SELECT m.data || coalesce(x.pending, '{{}}') || coalesce(x.delta, '{{}}') AS doc
                  FROM {contract.schema}.mirror AS m
                  LEFT JOIN {contract.schema}.modification AS x
                    ON x.organization_id = m.organization_id AND x.row_key = m.row_key AND x.user_id = $2
                 WHERE m.organization_id = $1
                OFFSET 0) AS d) AS v
 WHERE {" AND ".join(f"v.{flag.name} IS NOT TRUE" for flag in flags)}"""


def generated(contract: Contract) -> str:
    """The mirror alone, from its generated columns. $1: the organization."""
    flags = [contract.column_of[name].name for name in TOTAL.excluded]
    return f"""
SELECT count(*) AS row_count, {", ".join(each.over("m.f_") for each in aggregates(contract))}
  FROM {contract.schema}.mirror AS m
 WHERE m.organization_id = $1 AND {" AND ".join(f"m.f_{flag} IS NOT TRUE" for flag in flags)}"""


async def kpis(bench: Bench) -> AsyncIterator[Figure]:
    """The total of all measures against both ways to aggregate, its groups, and the route."""
    place = bench.big
    async with place.database.connection() as connection:
        for who, kind, limit in OVER_DRAFTS:
            person, ours, theirs = place.people[who], [], []
            for _ in range(TURNS):
                mine, seconds = await _read(connection, person, TOTAL)
                merged, merged_seconds = await _aggregate(place.owner, live(PFA), ORGANIZATION, person.id)
                _agree(mine.total, merged)
                ours.append(seconds)
                theirs.append(merged_seconds)
                if merged_seconds > LONG:
                    break
            name = kind.format(person.drafts)
            yield plain(f"KPIs, {name}", median(ours) * 1000, "ms")
            yield plain(f"the live aggregate of the merged lines, {name}", median(theirs) * 1000, "ms")
            ratio = median(theirs) / median(ours)
            missed = MISSED_DRAFTS if person.drafts else MISSED_PLAN
            yield at_least(f"KPIs against the live aggregate, times as fast, {name}", ratio, limit, missed=missed)
        _, columns = await _aggregate(place.owner, generated(PFA), ORGANIZATION)
        yield plain("the aggregate over generated columns, the mirror alone", columns * 1000, "ms")
        _, grouped = await _read(connection, place.people["nobody"], GROUPED)
        yield plain("KPIs by category and source, no drafts", grouped * 1000, "ms")
    asking = get(f"{PATH}/kpis", place.people["somebody"].token)
    (seconds,) = await bench.api.turns([asking], rounds=bench.rounds(60))
    name = f"KPIs over HTTP, {place.rows:,} lines (founding document, 1,000 lines: {PUBLISHED} ms)"
    yield plain(name, seconds * 1000, "ms")


async def _read(connection: Connection, person: Person, wanted: Wanted) -> tuple[Kpis, float]:
    """The figures and the median seconds, as the application reads: from rows where its stored figures cannot tell."""
    found = await read_kpis(Desk(connection, PFA, ORGANIZATION), person.id, wanted)  # which plans the statement
    taken: list[float] = []
    deadline = time.monotonic() + PATIENCE
    while len(taken) < REPEATED and (not taken or time.monotonic() < deadline):
        started = time.perf_counter()
        found = await read_kpis(Desk(connection, PFA, ORGANIZATION), person.id, wanted)
        taken.append(time.perf_counter() - started)
    return found, median(taken)


async def _aggregate(owner: "asyncpg.Connection[Any]", query: str, *arguments: Any) -> tuple[asyncpg.Record, float]:
    started = time.perf_counter()
    found = await owner.fetchrow(query, *arguments)
    assert found is not None, "an aggregate returns its row"
    return found, time.perf_counter() - started


def _agree(mine: asyncpg.Record, merged: asyncpg.Record) -> None:
    """Both have to come to the same figures, or there is nothing to compare."""
    for name in ("row_count", *(each.name for each in aggregates(PFA))):
        assert mine[f"mine_{name}"] == merged[name], f"{name}: {mine[f'mine_{name}']}, not {merged[name]}"
