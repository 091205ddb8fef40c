"""Pulls everything whenever a line comes in, and answers with the seconds: `python -c TEXT ADDRESS UPSTREAMS`.

It is given to Python as text and not as a file, so that the code is that of the directory it is run in: it knows what
older and newer commits share.
"""

import asyncio
import sys
import time
from datetime import timedelta

import msgspec

from app.base.database import Database
from app.base.settings import Settings
from app.worker.loop import CONNECT, database_clock
from app.worker.pull import pull
from app.worker.start import read_targets
from app.worker.target import Target

DAY = 86_400
NOW = "SELECT now()"


async def main(address: str, upstreams: str) -> None:
    """See the module's text. What is logged goes elsewhere than the answers."""
    answers, sys.stdout = sys.stdout, sys.stderr
    settings = Settings(
        database_url=address, secret="x" * 64, statement_timeout=600, slow_statement_ms=600_000, upstreams=upstreams
    )
    (named,) = read_targets(settings)
    target = msgspec.structs.replace(named, full_every=timedelta())
    database = Database(settings)
    await database.open()
    try:
        await _connect(database, target)
        while await asyncio.to_thread(sys.stdin.readline):
            started = time.perf_counter()
            assert await pull(database, target, database_clock, asyncio.Event()), "nobody else pulls here"
            print(time.perf_counter() - started, file=answers, flush=True)
    finally:
        await target.upstream.close()
        await database.close()


async def _connect(database: Database, target: Target) -> None:
    """Make the upstream known, as a worker does."""
    async with database.transaction() as connection:
        at = await connection.raw.fetchval(NOW)
        await connection.raw.fetchval(CONNECT.text, target.organization, target.dataset, DAY, DAY, at, False)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
