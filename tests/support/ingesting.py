"""Datasets that are ingested, as tests need them: people, uploads, and a worker that takes them."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from app.base import exact_json
from app.base.database import Connection
from app.web.auth import Role
from app.worker.loop import Worker
from app.worker.target import ReadClock
from tests.support.own import SEMANTICS, customers, moved, ready, registered
from tests.support.syncing import KEPT
from tests.support.world import CONTRACTS, User, World, written

TIMED = SEMANTICS | {"eventTimeColumn": "seenAt", "processingTimeColumn": "receivedAt"}
APPENDED = TIMED | {"mode": "append", "dedupeWindow": "1h"}
SEEN = {"name": "seenAt", "type": "datetime", "editable": False}
NDJSON = "application/x-ndjson"


async def people_of(world: World) -> dict[str, User]:
    """Somebody in each role, in a system that takes records; everybody on `customers`."""
    await ready(world)
    return {role.value: (await world.user(role.value.lower(), role=role)).on("customers") for role in Role}


async def used(people: dict[str, User], **more: Any) -> None:
    """A dataset that is in use, with a moment in each record where its semantics ask for one."""
    contract = customers(**more)
    if contract["ingestion"]["eventTimeColumn"] == "seenAt":
        contract["fields"] = [*contract["fields"], SEEN]
    await registered(people["ENGINEER"], contract)
    await moved(people["ADMIN"], "promote")


async def ingested(engineer: User, *records: dict[str, Any]) -> dict[str, Any]:
    """What became of records, without the run's id."""
    answer = written(await engineer.post("ingest", {"records": list(records)}))
    assert answer.pop("runId")
    return {name: count for name, count in answer.items() if count}


def ndjson(records: Iterable[dict[str, Any]]) -> bytes:
    """The records, one a line."""
    return b"\n".join(exact_json.encode(record) for record in records)


async def uploaded(engineer: User, body: bytes, kind: str = NDJSON, **options: Any) -> str:
    """The run that will take an upload."""
    headers = {"Content-Type": kind} | options.pop("headers", {})
    response = await engineer.request("POST", "ingest", content=body, headers=headers, **options)
    run: str = written(response, 202)["runId"]
    return run


async def run_of(user: User, run: str) -> dict[str, Any]:
    """A run as it stands: state, code of its error, counts that are not 0, report."""
    found = json.loads((await user.get(f"sync/runs/{run}")).content)
    return {
        "state": found["state"],
        "code": (found["error"] or {}).get("code"),
        "counts": {name: count for name, count in found["counts"].items() if count},
    }


def world_clock(world: World) -> ReadClock:
    """The world's clock, as a worker reads it."""

    async def read(_: Connection) -> datetime:
        return world.clock.at

    return read


async def work(world: World, steps: int = 3) -> None:
    """What a worker does until nothing is left."""
    worker = Worker(world.runtime.database, [], CONTRACTS, KEPT, read_clock=world_clock(world))
    for _ in range(steps):
        await worker.step()
        await worker.idle()
