"""The audit: who did what, when, and to which cell; added to, read, and nothing else."""

import uuid
from typing import Any

import asyncpg
import pytest

from app.engine.audit import Act, Entry, record, record_in
from app.engine.desk import Desk
from tests.support.world import FLEET, NEW, User, World, committed, vehicle


async def entries(world: World, organization: str = "acme") -> list[dict[str, Any]]:
    """The audit as it stands, the oldest entry first."""
    found = await world.db.fetch("SELECT * FROM audit WHERE organization_id = $1 ORDER BY id", organization)
    return [dict(record) for record in found]


# -- what is recorded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["pfa", "fleet"])
async def test_a_commit_is_recorded_once(world: World, ann: User, dataset: str) -> None:
    user = ann.on(dataset)
    fields = NEW if dataset == "pfa" else vehicle()
    for key in ("A", "B"):
        await user.draft(key, fields, op="insert")
    answer = await committed(user, changeReason="Two more")
    [entry] = await entries(world)
    assert (entry["actor"], entry["action"], entry["dataset"]) == ("ann", "commit", dataset)
    assert (entry["at"], str(entry["commit_id"]), entry["reason"]) == (world.clock(), answer["commitId"], "Two more")
    assert entry["details"] == '{"rows": 2}'


async def test_what_came_to_nothing_is_not_recorded(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": {**vehicle(), "remark": "x"}}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await ann.draft("A", {"remark": "y"})
    assert (await ann.commit("A", dryRun=True)).status_code == 200
    assert await entries(world) == []
    await bob.draft("A", {"remark": "z"})
    await committed(bob, "A")
    assert (await ann.commit("A")).status_code == 409
    assert [entry["actor"] for entry in await entries(world)] == ["bob"]


async def test_many_acts_are_recorded_in_their_order(world: World) -> None:
    request, at = uuid.uuid4(), world.clock()
    told = [
        Entry(at=at, actor="ann", action=Act.REQUEST_RESOLVED, request_id=request, row_key="A", field="seats",
              details={"before": 1, "after": None}),
        Entry(at=at, actor=None, action=Act.REQUEST_MERGED, request_id=request),
    ]  # fmt: skip
    async with world.runtime.database.transaction() as connection:
        await record(Desk(connection, FLEET, "acme"), *told)
        await record_in(connection, "acme", None, Entry(at=at, actor="root", action=Act.AUDIT_EXPORTED))
    found = await entries(world)
    assert [entry["action"] for entry in found] == ["request.resolved", "request.merged", "audit.exported"]
    assert [entry["actor"] for entry in found] == ["ann", None, "root"]
    assert [entry["dataset"] for entry in found] == ["fleet", "fleet", None]
    assert (found[0]["row_key"], found[0]["field"], found[0]["details"]) == (
        "A",
        "seats",
        '{"after": null, "before": 1}',
    )


# -- what the database lets the service do -----------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["UPDATE public.audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_service_can_neither_change_nor_delete_an_entry(world: World, ann: User, sql: str) -> None:
    await ann.on("fleet").draft("A", vehicle(), op="insert")
    await committed(ann.on("fleet"))
    async with world.runtime.database.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.raw.execute(sql)
    assert len(await entries(world)) == 1


@pytest.mark.parametrize(
    ("columns", "values"),
    [("id", "1"), ("row_key", "'A'"), ("dataset, field", "'fleet', 'seats'"), ("details", "'[]'")],
)
async def test_an_entry_has_the_shape_of_an_act(world: World, columns: str, values: str) -> None:
    """No number of one's own, no row without its dataset, no field without its row, details by name."""
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.GeneratedAlwaysError)):
        await world.db.execute(
            f"INSERT INTO audit (organization_id, at, action, {columns}) VALUES ('acme', now(), 'commit', {values})"
        )
