"""Questions: an aggregate over merged rows against the mirror's columns, a sentence's preview, candidates of joins."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import asyncpg
import httpx

from app.base import exact_json
from app.contracts.ddl import drop_indexes_ddl, indexes_ddl
from app.engine.query.composing import Asker
from app.query_previews.look import begin
from benchmarks.api import get, serving
from benchmarks.bench_datasets import Ground, ground_of
from benchmarks.data import ORGANIZATION, SECRET, Bench, Person, Place
from benchmarks.figures import Figure, at_least, at_most, plain
from benchmarks.own import use
from benchmarks.timing import clocked, interleaved
from benchmarks.upstream import settings_of

QUERY = f"/api/v1/orgs/{ORGANIZATION}/query"
JOINS = f"/api/v1/orgs/{ORGANIZATION}/joins"
AGGREGATE = {
    "dataset": "pfa",
    "groupBy": ["category"],
    "aggregates": [
        {"name": "lines", "function": "count"},
        {"name": "cost", "function": "sum", "field": "forecastCost"},
    ],
}
BARE = """
SELECT m.f_category, count(*), sum(m.f_forecast_cost)
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
 GROUP BY m.f_category
 ORDER BY m.f_category
"""
SENTENCE = "top 10 categories by forecast cost where source is rental"
REGIONS = ("North", "South", "East", "West")
CLIENTS = """
SELECT 'C' || lpad(n::text, 7, '0'),
       jsonb_build_object('clientId', 'C' || lpad(n::text, 7, '0'), 'code', md5(n::text),
                          'region', (ARRAY['North', 'South', 'East', 'West'])[n % 4 + 1], 'rating', n % 5,
                          'clientSince', ('2020-01-01'::date + (n % 2000)::int)::text)
  FROM generate_series(1, $1::bigint) AS n
"""
ORDERS = """
SELECT 'O' || lpad(n::text, 7, '0'),
       jsonb_build_object('orderId', 'O' || lpad(n::text, 7, '0'),
                          'clientId', 'C' || lpad((n * 7919 % $1::bigint + 1)::text, 7, '0'),
                          'clientCode', md5((n * 104729 % $1::bigint + 1)::text),
                          'amount', n % 1000, 'placedOn', ('2024-01-01'::date + (n % 700)::int)::text)
  FROM generate_series(1, $1::bigint) AS n
"""


async def queries(bench: Bench) -> AsyncIterator[Figure]:
    """Over the big database; joins over datasets of their own."""
    async for figure in _aggregates(bench):
        yield figure
    async for figure in _joins(bench):
        yield figure


async def _aggregates(bench: Bench) -> AsyncIterator[Figure]:
    place, rounds = bench.big, bench.rounds(20)
    async with _client(bench.api.port) as http:
        for who, most in (("nobody", 2.0), ("spread", 3.0)):
            person = place.people[who]
            ours = clocked(await _running(http, person.token, AGGREGATE))
            theirs = clocked(partial(_bare, place, person))
            own, bare = await interleaved(ours, theirs, rounds=rounds, seconds=60, warm_ups=1)
            kind = f"an aggregate of {place.rows:,} lines over HTTP with {person.drafts:,} drafts"
            yield plain(kind, own * 1000, "ms")
            yield at_most(f"{kind}, against the same over the mirror's columns", own / bare, most)
        token = place.people["spread"].token
        sentence = clocked(lambda: _asked(http, token, SENTENCE))
        structured = clocked(lambda: _asked(http, token, AGGREGATE))
        said, given = await interleaved(sentence, structured, rounds=bench.rounds(60), seconds=30)
        yield at_most("a preview of a sentence over HTTP", said * 1000, 50, "ms")
        yield plain("a preview of a structured question over HTTP", given * 1000, "ms")


def _client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)


async def _asked(http: httpx.AsyncClient, token: str, question: Any, route: str = "preview") -> dict[str, Any]:
    body = question if route == "execute" else {"query": question}
    answer = await http.post(f"{QUERY}/{route}", json=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text[:500]
    found: dict[str, Any] = exact_json.decode(answer.content)
    return found


async def _running(http: httpx.AsyncClient, token: str, question: Any) -> Any:
    """What runs the preview of a question."""
    preview = await _asked(http, token, question)
    run = {"previewId": preview["previewId"], "digest": preview["digest"]}
    return lambda: _asked(http, token, run, "execute")


async def _bare(place: Place, person: Person) -> None:
    """The same of the mirror alone, planned as the question is."""
    asker = Asker(ORGANIZATION, person.id)
    async with place.database.snapshot() as connection:
        await begin(connection, settings_of(place.url))
        rows = await connection.raw.fetch(BARE, asker.organization)
    assert rows


# -- joins ------------------------------------------------------------------------------------------------------------


def _contract(name: str, key: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0",
        "title": name,
        "key": key,
        "fields": [{"name": key, "type": "text", "editable": False}, *fields],
        "ingestion": {
            "mode": "upsert",
            "idempotencyKey": [key],
            "eventTimeColumn": "receivedAt",
            "processingTimeColumn": "receivedAt",
            "dedupeWindow": "24h",
            "conflictResolution": "latest_wins",
        },
    } | more


def _clients(name: str) -> dict[str, Any]:
    return _contract(
        name,
        "clientId",
        {"name": "code", "type": "text", "indexed": True},
        {"name": "region", "type": "enum", "values": list(REGIONS), "indexed": True, "dimension": True},
        {"name": "rating", "type": "integer"},
        {"name": "clientSince", "type": "date"},
        hot=[{"sort": "code"}],
    )


def _orders(name: str) -> dict[str, Any]:
    return _contract(
        name,
        "orderId",
        {"name": "clientId", "type": "text", "indexed": True},
        {"name": "clientCode", "type": "text"},
        {"name": "amount", "type": "number", "indexed": True},
        {"name": "placedOn", "type": "date"},
    )


async def _joins(bench: Bench) -> AsyncIterator[Figure]:
    many, few = (2_000, 500) if bench.quick else (1_000_000, 10_000)
    async with ground_of(bench) as ground, serving(ground.mirror.url, SECRET) as api, _client(api.port) as http:
        for size, suffix in ((many, ""), (few, "_few")):
            await _filled(ground, _clients(f"clients{suffix}"), CLIENTS, size)
            await _filled(ground, _orders(f"orders{suffix}"), ORDERS, size)
        await ground.mirror.owner.execute("VACUUM (ANALYZE)")
        large, small = (
            get(f"{JOINS}/candidates", ground.token, [("left", f"orders{suffix}"), ("right", f"clients{suffix}")])
            for suffix in ("", "_few")
        )
        await api.turns([large], [small], rounds=3)
        slow, fast = await api.turns([large], [small], rounds=bench.rounds(20))
        yield plain(f"candidates of two datasets of {many:,} rows over HTTP", slow * 1000, "ms")
        yield at_most(f"against two of {few:,} rows", slow / fast, 1.3)
        found = await _candidates(http, ground.token)
        true = {"orders.clientId = clients.clientId", "orders.clientCode = clients.code"}
        yield at_least("of two true keys, those found", sum(each["condition"] in true for each in found), 2, "keys")
        yield plain("false candidates of a confidence of 0.8 or more", sum(
            each["confidence"] >= 0.8 and each["condition"] not in true for each in found
        ), "candidates")  # fmt: skip
        candidate = next(each for each in found if each["condition"] == "orders.clientId = clients.clientId")
        body = {"candidateId": candidate["candidateId"], "rationale": "benchmark"}
        answer = await http.post(f"{JOINS}/accept", json=body, headers={"Authorization": f"Bearer {ground.token}"})
        assert answer.status_code == 201, answer.text
        joined = {
            "dataset": "orders",
            "joins": [{"dataset": "clients"}],
            "groupBy": ["clients.region"],
            "aggregates": [{"name": "amount", "function": "sum", "field": "amount"}],
        }
        run = await _running(http, ground.token, joined)
        (seconds,) = await interleaved(clocked(run), rounds=bench.rounds(10), seconds=60, warm_ups=1)
        yield plain(f"an aggregate over a join of {many:,} rows to {many:,} over HTTP", seconds * 1000, "ms")


async def _filled(ground: Ground, document: dict[str, Any], rows: str, size: int) -> None:
    contract = await use(ground.database, ground.settings, ground.user, document)
    owner: asyncpg.Connection[Any] = ground.mirror.owner
    await owner.execute(drop_indexes_ddl(contract))
    await owner.execute(
        f"INSERT INTO {contract.schema}.mirror (organization_id, row_key, data, revision) "
        f"SELECT '{ORGANIZATION}', r.*, 1 FROM ({rows.replace('$1', str(size))}) AS r"
    )
    await owner.execute(indexes_ddl(contract))


async def _candidates(http: httpx.AsyncClient, token: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    answer = await http.get(f"{JOINS}/candidates", params={"left": "orders", "right": "clients"}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found
