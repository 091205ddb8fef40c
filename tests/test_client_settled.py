"""A LiveTable over a dataset with a system of record: committed is one thing, settled another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.base.clock import now
from app.upstream.protocol import Refused as RefusedUpstream
from tests.support.ledger import Ledger
from tests.support.serving import LEDGER, Api
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import User
from tests.test_client_live import opened, within
from tests.test_client_table import heard, told
from vanguard_client import Conflict, Created, Error, LiveTable, PartialSave, Saved, VanguardError
from vanguard_client.events import Deleted, Identified, Inserted, Updated, WriteDone, WriteFailed

NEW = {"depot": "West", "kind": "Van", "seats": 2}


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of two vehicles that are in the mirror already; its worker goes when it is told to."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in (1, 2)})
    async with open_yard(database_url, ledger) as yard:
        yard.world.clock.at = now()
        await yard.work()
        yield yard


@pytest.fixture
async def ann(yard: Yard) -> User:
    return await yard.user("ann")


@pytest.fixture
async def table(yard: Yard, ann: User, database_url: str) -> AsyncIterator[LiveTable[Any]]:
    """Ann's, over a server of its own."""
    async with served(yard, database_url) as api, opened(api, ann) as table:
        yield table


@asynccontextmanager
async def served(yard: Yard, database_url: str) -> AsyncIterator[Api]:
    api = Api(database_url, yard.world, **{LEDGER: "yes"})
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


async def saved(edit: Any, yard: Yard, table: LiveTable[Any], **more: Any) -> Any:
    """What a save until settled comes to, once the worker has been there."""
    done = told(table, WriteDone)
    saving = asyncio.create_task(edit.save(until="settled", **more))
    await within(done)
    await yard.later(seconds=1)
    return await within(saving)


async def test_a_new_record_has_a_temporary_id_until_the_system_of_record_gives_it_one(
    table: LiveTable[Any], yard: Yard
) -> None:
    """Without settlement the temporary id is answered, and an event brings the real one."""
    events = heard(table)
    with table.new_record(NEW) as edit:
        temporary = edit.id
        assert await edit.save() == Created(temporary, settled=False)
        assert (await table.get(temporary) or {})["depot"] == "West"
        identified = told(table, Identified)
        await yard.later(seconds=1)
        assert await within(identified) == Identified(temporary, "L-0003")
        assert (edit.id, table.real_id(temporary)) == ("L-0003", "L-0003")
        edit.seats = 4
        assert await edit.save() == Saved(settled=False)
    rows = await table.list()
    assert sorted(rows) == ["L-0003", "V-1", "V-2"]
    assert (rows["L-0003"]["seats"], await table.get(temporary)) == (4, rows["L-0003"])
    shown = [event for event in events if isinstance(event, Inserted | Deleted)]
    assert shown == [Inserted(temporary)], "one record, whatever it is called"


async def test_until_settled_a_new_record_has_its_real_id(table: LiveTable[Any], yard: Yard) -> None:
    with table.new_record(NEW) as edit:
        assert await saved(edit, yard, table) == Created("L-0003")
        assert (edit.id, edit.plate) == ("L-0003", "L-0003")
    assert yard.ledger.rows["L-0003"]["depot"] == "West"


async def test_what_is_not_settled_in_time_is_answered_as_committed(table: LiveTable[Any], yard: Yard) -> None:
    with table.new_record(NEW) as edit:
        assert await edit.save(until="settled", timeout=3) == Created(edit.id, settled=False)


async def test_a_write_of_a_temporary_id_reaches_the_record_when_it_has_another_by_then(
    table: LiveTable[Any], yard: Yard
) -> None:
    id = await table.add(NEW)
    await yard.later(seconds=1)  # whether the table has heard of it or not
    await table.patch(id, {"seats": 7})
    await within(table.flush())
    assert (await table.get(id) or {})["seats"] == 7
    await yard.later(seconds=1)
    assert yard.ledger.rows["L-0003"]["seats"] == 7


async def test_an_edit_is_saved_when_it_is_settled(table: LiveTable[Any], yard: Yard) -> None:
    with await table.edit_record("V-1") as edit:
        edit.mileage = 150
        assert await saved(edit, yard, table) == Saved()
    assert yard.ledger.rows["V-1"]["mileage"] == 150


async def test_what_the_system_of_record_makes_of_it_is_a_partial_save(table: LiveTable[Any], yard: Yard) -> None:
    yard.ledger.normalize = lambda fields: fields | ({"depot": fields["depot"].upper()} if "depot" in fields else {})
    with await table.edit_record("V-1") as edit:
        edit.depot, edit.seats = "West", 5
        assert await saved(edit, yard, table) == PartialSave(["depot"])
        assert (edit.live_snapshot["depot"], edit.depot, edit.modified_fields) == ("WEST", "West", ["depot"])


async def test_what_the_system_of_record_refuses_is_an_error_in_its_words(table: LiveTable[Any], yard: Yard) -> None:
    yard.ledger.failures["write"] = [RefusedUpstream("Mileage is not plausible")]
    with await table.edit_record("V-1") as edit:
        edit.mileage = 999
        result = await saved(edit, yard, table)
        assert isinstance(result, Error)
        assert "Mileage is not plausible" in str(result.error)
        assert edit.mileage == 999
        edit.mileage = 150
        assert await saved(edit, yard, table) == Saved()
    assert yard.ledger.rows["V-1"]["mileage"] == 150


async def conflicting(edit: Any, yard: Yard, table: LiveTable[Any]) -> None:
    """Somebody has changed the cell in the system of record, and nobody has pulled that yet."""
    edit.mileage = 150
    yard.ledger.put("V-1", mileage=170)
    result = await saved(edit, yard, table)
    assert isinstance(result, Conflict)
    assert [(c.field, c.base, c.theirs, c.mine) for c in result.conflicts] == [("mileage", 100, 170, 150)]
    assert (edit.mileage, edit.live_snapshot["mileage"], edit.modified_fields) == (150, 170, ["mileage"])


async def test_a_conflict_with_the_system_of_record_keep_mine(table: LiveTable[Any], yard: Yard) -> None:
    with await table.edit_record("V-1") as edit:
        await conflicting(edit, yard, table)
        assert await saved(edit, yard, table) == Saved()
    assert yard.ledger.rows["V-1"]["mileage"] == 150


async def test_a_conflict_with_the_system_of_record_use_theirs(table: LiveTable[Any], yard: Yard, ann: User) -> None:
    with await table.edit_record("V-1") as edit:
        await conflicting(edit, yard, table)
        edit.revert()
        assert await within(edit.save()) == Saved()
        assert (edit.mileage, edit.modified_fields) == (170, [])
    row = await ann.row("V-1")
    assert (row["syncState"], row["data"]["mileage"]) == ("pristine", 170)
    assert (await table.get("V-1") or {})["mileage"] == 170


async def test_a_pull_shows(table: LiveTable[Any], yard: Yard) -> None:
    updated = told(table, Updated)
    yard.ledger.put("V-2", mileage=900)
    await yard.later(minutes=15)
    assert await within(updated) == Updated("V-2", ["mileage"], True)


async def test_nothing_fails_on_the_way(table: LiveTable[Any], yard: Yard) -> None:
    events = heard(table)
    for number in range(3):
        await table.patch("V-1", {"mileage": 200 + number})
        await within(table.flush())
        await yard.later(seconds=1)
    failed: list[VanguardError] = [event.error for event in events if isinstance(event, WriteFailed)]
    assert (failed, yard.ledger.rows["V-1"]["mileage"]) == ([], 202)
