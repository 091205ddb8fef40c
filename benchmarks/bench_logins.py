"""Logins while others forge many: how long an honest one takes, from an address that it came from before."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from statistics import median

from app.accounts import add_account
from app.passwords import HASHER, matches
from benchmarks.api import Api, Unexpected, serving
from benchmarks.client import HOST
from benchmarks.data import SECRET, Bench
from benchmarks.figures import Figure, at_most, plain

FORGED = 200
PATIENCE = 60.0
HOME, PASSWORD = "198.51.100.1", "a quite ordinary phrase"


async def logins(bench: Bench) -> AsyncIterator[Figure]:
    """The slowest of a few honest logins in each flood; the clients are addresses behind a proxy that is trusted."""
    email, database = f"{uuid.uuid4()}@bench.example", bench.big.database
    await add_account(database, email=email, name="honest", password=PASSWORD)
    stored = HASHER.hash(PASSWORD)
    yield plain("one password that is looked at", median([_hash(stored) for _ in range(bench.rounds(20))]), "s")
    floods: dict[str, Callable[[int], tuple[str, str]]] = {
        "from one address to many accounts": lambda n: ("192.0.2.1", f"{n}@x.example"),
        "from one address to one account": lambda n: ("192.0.2.2", "x@x.example"),
        "from 200 addresses to as many accounts": lambda n: (f"192.0.2.{n}", f"{n}@x.example"),
        "from 200 addresses to the honest account": lambda n: (f"192.0.2.{n}", email),
        "from the honest address to many accounts": lambda n: (HOME, f"{n}@x.example"),
    }
    async with serving(bench.big.url, SECRET, VANGUARD_TRUSTED_PROXIES=HOST) as api:
        await _enter(api, HOME, email, PASSWORD)
        for flood, nth in floods.items():
            took = [await _honest(api, email, nth) for _ in range(1 if bench.quick else 3)]
            yield at_most(f"an honest login while {FORGED} forged ones are sent at once, {flood}", max(took), 2, "s")


async def _honest(api: Api, email: str, nth: Callable[[int], tuple[str, str]]) -> float:
    """The seconds of an honest login that is sent when the first of the forged ones has its answer."""
    forged = [asyncio.ensure_future(_enter(api, *nth(n), "wrong password")) for n in range(FORGED)]
    await asyncio.wait(forged, return_when=asyncio.FIRST_COMPLETED)
    started = time.perf_counter()
    status = await _enter(api, HOME, email, PASSWORD)
    taken = time.perf_counter() - started
    await asyncio.gather(*forged)
    if status != 200:
        raise Unexpected(f"An honest login was answered {status}.")
    return taken


async def _enter(api: Api, address: str, email: str, password: str) -> int:
    """The status of a login on a connection of its own, with as little work on this side as can be."""
    body = json.dumps({"email": email, "password": password})
    head = (
        f"POST /api/auth/login HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"X-Forwarded-For: {address}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(HOST, api.port)
        writer.write((head + body).encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
    return status


def _hash(stored: str) -> float:
    started = time.perf_counter()
    assert matches(stored, PASSWORD)
    return time.perf_counter() - started
