"""How long questions are kept: previews until nobody can run them, executions and corrections as the setting says."""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.contracts import PFA
from app.web.auth import Role
from app.worker.upkeep import forget
from tests.support.querying import executed, path, previewed
from tests.support.syncing import KEPT
from tests.support.world import World, line, refused

DAYS = timedelta(days=90)


async def kept(world: World, organization: str) -> list[int]:
    """How many previews, corrections and executions an organization has."""
    return [
        await world.db.fetchval(f"SELECT count(*) FROM {table} WHERE organization_id = $1", organization)
        for table in ("query_preview", "query_correction", "query_execution")
    ]


async def ask(world: World, organization: str) -> str:
    """One question, corrected and run; the id of its execution."""
    user = await world.user(f"ann-of-{organization}", organization)
    preview = await previewed(user, {"dataset": "pfa"})
    filters = {"previewId": preview["previewId"], "type": "FILTER", "correction": {"filters": {"category": "Cranes"}}}
    assert (await user.post(path(user, "correct"), filters)).status_code == 200
    return str((await executed(user, preview)).json()["executionId"])


async def test_a_worker_forgets_what_is_old(world: World) -> None:
    """To the microsecond, and of every organization."""
    await world.organization("rival")
    for organization in ("acme", "rival"):
        await world.mirror({"A": line()}, organization)
        run = await ask(world, organization)
    began = world.clock()

    async def read_clock(_: Any) -> datetime:
        return world.clock()

    async def tidy(at: timedelta) -> list[list[int]]:
        world.clock.at = began + at
        await forget(world.runtime.database, PFA, msgspec.structs.replace(KEPT, queries=DAYS), read_clock)
        return [await kept(world, organization) for organization in ("acme", "rival")]

    assert await tidy(timedelta(minutes=15)) == [[2, 1, 1]] * 2
    assert await tidy(timedelta(minutes=15, microseconds=1)) == [[0, 1, 1]] * 2
    assert await tidy(DAYS) == [[0, 1, 1]] * 2
    boss = await world.user("boss", "rival", Role.ADMIN)
    assert (await boss.get(path(boss, f"executions/{run}"))).status_code == 200
    assert await tidy(DAYS + timedelta(microseconds=1)) == [[0, 0, 0]] * 2
    refused(await boss.get(path(boss, f"executions/{run}")), 404, "EXECUTION_NOT_FOUND")


async def test_whoever_asks_again_forgets_their_own_expired_previews(world: World) -> None:
    ann, bob = await world.user("ann"), await world.user("bob")
    for user in (ann, bob):
        await previewed(user, {"dataset": "pfa"})
    world.clock.move(minutes=16)
    await previewed(ann, {"dataset": "pfa"})
    found = await world.db.fetch("SELECT user_id FROM query_preview ORDER BY user_id")
    assert [row["user_id"] for row in found] == ["ann", "bob"]
