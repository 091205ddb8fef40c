"""RecordEdit over any backend: what is modified, what a save comes to, and what happens when others were there too."""

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.support.backends import GatedDataSet, Record
from tests.test_client_table import AT_ONCE, heard, opened
from vanguard_client import (
    Conflict,
    Created,
    EditClosed,
    EditInProgress,
    Error,
    FieldConflict,
    LiveTable,
    MemoryDataSet,
    PartialSave,
    QueueFull,
    RecordEdit,
    RecordNotFound,
    Refused,
    Saved,
    TimedOut,
)
from vanguard_client.events import Conflicting, Identified, WriteFailed

ANNAS = {"name": "Anna's", "rate": 1, "address": {"street": "s", "city": "c"}}
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def backend() -> GatedDataSet:
    return GatedDataSet({"A": ANNAS, "B": {"name": "Bob's", "rate": 2}})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def table(backend: GatedDataSet, clock: Clock) -> AsyncIterator[LiveTable[Record]]:
    async with opened(backend, now=clock) as table:
        yield table


@pytest.fixture
async def edit(table: LiveTable[Record]) -> AsyncIterator[RecordEdit[Record]]:
    """Of the record A."""
    with await table.edit_record("A") as edit:
        yield edit


def conflict(field: str | None, base: Any, theirs: Any, mine: Any) -> FieldConflict:
    return FieldConflict(id="A", field=field, base=base, theirs=theirs, mine=mine)


# --- what is modified


async def test_an_edit_begins_with_nothing_modified(edit: RecordEdit[Record]) -> None:
    assert (edit.id, edit.live_snapshot, edit.local, edit.modified_fields) == ("A", ANNAS, ANNAS, [])
    assert edit.snapshot_time == START


async def test_fields_are_attributes_and_items(edit: RecordEdit[Record]) -> None:
    edit.name = "Anne's"
    edit["rate"] = edit["rate"] + 1
    edit["local"] = "of the record"
    assert (edit.name, edit.rate, edit["local"]) == ("Anne's", 2, "of the record")
    assert edit.modified_fields == ["name", "rate", "local"]
    assert [edit.is_field_modified(field) for field in ("name", "address")] == [True, False]
    assert edit.live_snapshot == ANNAS
    with pytest.raises(AttributeError, match="no field 'nothing'"):
        _ = edit.nothing
    with pytest.raises(AttributeError, match=r"edit\['local'\]"):
        edit.__setattr__("local", {})


async def test_a_field_that_is_as_it_was_is_not_modified(edit: RecordEdit[Record]) -> None:
    edit.rate = 2
    edit.rate = 1.0
    edit.more = None
    assert edit.modified_fields == []


async def test_a_nested_change_reports_its_parent(edit: RecordEdit[Record]) -> None:
    edit.address["city"] = "d"
    assert edit.modified_fields == ["address"]
    assert edit.live_snapshot == ANNAS


async def test_reverting_makes_the_record_what_it_was(edit: RecordEdit[Record]) -> None:
    edit.name, edit.address["city"], edit.more = "x", "y", 1
    edit.revert()
    assert (edit.local, edit.modified_fields) == (ANNAS, [])
    edit.address["city"] = "z"
    edit.revert()
    assert edit.local == ANNAS


async def test_nothing_is_validated(edit: RecordEdit[Record]) -> None:
    edit.rate = "john@"
    assert edit.local["rate"] == "john@"


# --- how it lives


async def test_a_record_has_one_edit_at_a_time(table: LiveTable[Record]) -> None:
    with await table.edit_record("A"):
        with pytest.raises(EditInProgress, match="'A'"):
            await table.edit_record("A")
        (await table.edit_record("B")).close()
    (await table.edit_record("A")).close()


async def test_an_edit_that_nobody_holds_is_released(table: LiveTable[Record]) -> None:
    edit = await table.edit_record("A")
    del edit
    gc.collect()
    (await table.edit_record("A")).close()


async def test_a_released_edit_says_so(table: LiveTable[Record]) -> None:
    with await table.edit_record("A") as edit:
        edit.rate = 2
    for use in (edit.save, edit.refresh_snapshot):
        with pytest.raises(EditClosed):
            await use()
    with pytest.raises(EditClosed):
        edit.rate = 3
    with pytest.raises(EditClosed):
        edit.revert()
    assert edit.rate == 2


async def test_closing_the_table_releases_its_edits(backend: GatedDataSet) -> None:
    async with opened(backend) as table:
        edit = await table.edit_record("A")
    with pytest.raises(EditClosed):
        await edit.save()


async def test_only_what_is_there_can_be_edited(table: LiveTable[Record]) -> None:
    with pytest.raises(RecordNotFound):
        await table.edit_record("Z")


# --- saving


async def test_saving_writes_what_is_modified(edit: RecordEdit[Record], backend: GatedDataSet, clock: Clock) -> None:
    await backend.elsewhere("A", other=1)
    edit.rate = 5
    clock.at += timedelta(minutes=5)
    assert await edit.save() == Saved()
    assert await backend.get("A") == {**ANNAS, "rate": 5, "other": 1}
    assert edit.modified_fields == []
    assert edit.local == edit.live_snapshot == {**ANNAS, "rate": 5, "other": 1}
    assert edit.snapshot_time == clock.at


async def test_saving_nothing_writes_nothing(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    assert await edit.save() == Saved()
    assert backend.calls == []


async def test_an_edit_can_be_saved_again_and_again(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    for rate in (5, 6, 7):
        edit.rate = rate
        assert await edit.save() == Saved()
    assert await backend.get("A") == {**ANNAS, "rate": 7}


async def test_what_is_typed_while_a_save_is_under_way_stays(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    backend.writes.shut()
    edit.rate, edit.name = 5, "Anne's"
    saving = asyncio.create_task(edit.save())
    await backend.writes.reached.wait()
    edit.rate = 6
    backend.writes.open()
    assert await saving == Saved()
    assert (edit.rate, edit.name, edit.modified_fields, edit.live_snapshot["rate"]) == (6, "Anne's", ["rate"], 5)
    assert await edit.save() == Saved()
    assert await backend.get("A") == {**ANNAS, "rate": 6, "name": "Anne's"}


async def test_what_did_not_persist_as_sent_is_told_and_stays_for_another_try(
    edit: RecordEdit[Record], backend: GatedDataSet
) -> None:
    backend.kept["rate"] = 3
    edit.rate, edit.name = 5, "Anne's"
    assert await edit.save() == PartialSave(["rate"])
    assert (edit.live_snapshot["rate"], edit.rate, edit.modified_fields) == (3, 5, ["rate"])
    backend.kept.clear()
    assert await edit.save() == Saved()
    assert await backend.get("A") == {**ANNAS, "rate": 5, "name": "Anne's"}


async def test_what_is_refused_stays_local(
    edit: RecordEdit[Record], table: LiveTable[Record], backend: GatedDataSet
) -> None:
    refusal = backend.refused["A"] = Refused("rate is too high", code="VALIDATION_FAILED")
    edit.rate = 500
    assert await edit.save() == Error(refusal)
    assert (edit.rate, edit.modified_fields, edit.live_snapshot) == (500, ["rate"], ANNAS)
    assert await table.get("A") == ANNAS
    edit.rate = 5
    assert await edit.save() == Saved()


async def test_a_full_queue_is_an_error_of_the_save(backend: GatedDataSet) -> None:
    async with opened(backend, queue=1) as table:
        backend.writes.shut()
        await table.patch("B", {"rate": 5})
        with await table.edit_record("A") as edit:
            edit.rate = 5
            result = await edit.save()
            assert isinstance(result, Error)
            assert isinstance(result.error, QueueFull)
            backend.writes.open()
            await table.flush()
            assert await edit.save() == Saved()


async def test_what_is_not_saved_in_time_is_an_error_and_goes_on(
    edit: RecordEdit[Record], table: LiveTable[Record], backend: GatedDataSet
) -> None:
    backend.writes.shut()
    edit.rate = 5
    result = await edit.save(timeout=0.01)
    assert isinstance(result, Error)
    assert isinstance(result.error, TimedOut)
    assert (edit.modified_fields, (await table.get("A") or {})["rate"]) == (["rate"], 5)
    backend.writes.open()
    assert await edit.save() == Saved()
    assert [call for call in backend.calls if call[1] == "A"] == [("patch", "A")], "the next save waits for that write"


async def test_a_late_refusal_is_what_the_next_save_tells(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    backend.writes.shut()
    edit.rate = 5
    await edit.save(timeout=0.01)
    assert await edit.refresh_snapshot() == []
    refusal = backend.refused["A"] = Refused("no")
    backend.writes.open()
    assert await edit.save() == Error(refusal)
    assert edit.modified_fields == ["rate"]
    assert await edit.save() == Saved()


# --- new records


async def test_a_new_record_has_a_temporary_id_until_it_is_saved(
    table: LiveTable[Record], backend: GatedDataSet
) -> None:
    events = heard(table)
    with table.new_record({"name": "Brand new", "rate": 1}) as edit:
        temporary = edit.id
        assert (edit.modified_fields, await table.get(temporary)) == ([], None)
        edit.name = "Even better"
        assert edit.modified_fields == ["name"]
        result = await edit.save()
        assert isinstance(result, Created)
        assert edit.id == result.id != temporary
        assert await backend.get(result.id) == await table.get(result.id) == {"name": "Even better", "rate": 1}
        assert Identified(temporary, result.id) in events
        edit.rate = 2
        assert await edit.save() == Saved()
        with pytest.raises(EditInProgress):
            await table.edit_record(result.id)
    assert await backend.get(result.id) == {"name": "Even better", "rate": 2}


async def test_a_new_record_may_bring_its_id(table: LiveTable[Record], backend: GatedDataSet) -> None:
    with table.new_record({"name": "C"}, id="C") as edit:
        assert await edit.save() == Created("C")
    with table.new_record({"name": "other"}, id="C") as edit:
        result = await edit.save()
        assert isinstance(result, Error)
        assert isinstance(result.error, Refused)
        assert result.error.code == "ROW_EXISTS"
    assert await backend.get("C") == {"name": "C"}


async def test_a_new_record_that_is_refused_can_be_saved_again(table: LiveTable[Record], backend: GatedDataSet) -> None:
    with table.new_record({"name": "C"}, id="C") as edit:
        backend.refused["C"] = Refused("no")
        assert isinstance(await edit.save(), Error)
        assert await table.get("C") is None
        assert await edit.save() == Created("C")
        edit.revert()
        assert edit.local == {"name": "C"}


# --- others


async def test_fields_that_are_not_touched_flow_in(
    edit: RecordEdit[Record], table: LiveTable[Record], backend: GatedDataSet, clock: Clock
) -> None:
    edit.rate = 5
    await backend.elsewhere("A", name="Anne's", more=1)
    clock.at += timedelta(seconds=1)
    assert await edit.refresh_snapshot() == []
    assert edit.local == {**ANNAS, "rate": 5, "name": "Anne's", "more": 1}
    assert (edit.modified_fields, edit.live_snapshot["name"], edit.snapshot_time) == (["rate"], "Anne's", clock.at)
    assert (await table.get("A") or {})["name"] == "Anne's"


async def test_a_field_that_both_changed_is_reported_and_stays(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=6)
    assert await edit.refresh_snapshot() == [conflict("rate", 1, 6, 5)]
    assert (edit.rate, edit.live_snapshot["rate"], edit.modified_fields) == (5, 6, ["rate"])
    assert await edit.refresh_snapshot() == [], "the snapshot has advanced"


async def test_both_the_same_is_no_conflict(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=5)
    assert await edit.refresh_snapshot() == []
    assert edit.modified_fields == []


async def test_keep_mine_after_a_refresh(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=6)
    await edit.refresh_snapshot()
    assert await edit.save() == Saved()
    assert (await backend.get("A") or {})["rate"] == 5


async def test_use_theirs_after_a_refresh(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=6)
    await edit.refresh_snapshot()
    edit.revert()
    assert (edit.rate, await edit.save()) == (6, Saved())
    assert (await backend.get("A") or {})["rate"] == 6


async def test_a_save_over_what_was_not_seen_is_a_conflict_and_writes_nothing(
    edit: RecordEdit[Record], table: LiveTable[Record], backend: GatedDataSet
) -> None:
    edit.rate, edit.name = 5, "Anne's"
    await backend.elsewhere("A", rate=6, more=1)
    result = await edit.save()
    assert result == Conflict([conflict("rate", 1, 6, 5)])
    assert result.fields == ["rate"]
    assert await backend.get("A") == await table.get("A") == {**ANNAS, "rate": 6, "more": 1}
    assert edit.local == {**ANNAS, "rate": 5, "name": "Anne's", "more": 1}


async def test_keep_mine_after_a_conflict(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=6)
    assert isinstance(await edit.save(), Conflict)
    assert await edit.save() == Saved()
    assert (await backend.get("A") or {})["rate"] == 5


async def test_mine_does_not_overwrite_what_came_after_the_conflict(
    edit: RecordEdit[Record], backend: GatedDataSet
) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=6)
    assert isinstance(await edit.save(), Conflict)
    await backend.elsewhere("A", rate=7)
    assert await edit.save() == Conflict([conflict("rate", 6, 7, 5)])


async def test_use_theirs_after_a_conflict(edit: RecordEdit[Record], backend: GatedDataSet) -> None:
    edit.rate = 5
    await backend.elsewhere("A", rate=6)
    assert isinstance(await edit.save(), Conflict)
    edit.revert()
    assert (edit.rate, edit.modified_fields, await edit.save()) == (6, [], Saved())


async def test_a_record_that_is_gone_is_a_conflict_of_all_of_it(
    edit: RecordEdit[Record], backend: GatedDataSet
) -> None:
    edit.rate = 5
    await MemoryDataSet.delete(backend, "A")
    assert await edit.refresh_snapshot() == [conflict(None, ANNAS, None, {**ANNAS, "rate": 5})]
    assert await edit.save() == Saved()
    assert await backend.get("A") == {**ANNAS, "rate": 5}, "keep mine: it is there again"


async def test_a_record_that_is_gone_stays_gone_when_theirs_is_used(
    edit: RecordEdit[Record], backend: GatedDataSet
) -> None:
    edit.rate = 5
    await MemoryDataSet.delete(backend, "A")
    (told,) = [await edit.save()]
    assert isinstance(told, Conflict)
    assert [each.field for each in told.conflicts] == [None]
    edit.revert()
    assert await edit.save() == Saved()
    assert await backend.get("A") is None


async def test_a_change_that_meets_an_open_edit_is_told_once(
    edit: RecordEdit[Record], table: LiveTable[Record], backend: GatedDataSet
) -> None:
    events = heard(table)
    edit.rate = 5
    await backend.elsewhere("A", name="Anne's")
    await table.on_backend_change("A")
    await backend.elsewhere("A", rate=6)
    await table.on_backend_change("A")
    await table.on_backend_change("A")
    assert [e for e in events if isinstance(e, Conflicting)] == [Conflicting("A", [conflict("rate", 1, 6, 5)])]
    assert edit.live_snapshot["rate"] == 1, "nothing changes under the editor's hands"
    assert await edit.refresh_snapshot() == [conflict("rate", 1, 6, 5)]


async def test_saving_is_no_conflict_with_oneself(
    edit: RecordEdit[Record], table: LiveTable[Record], backend: GatedDataSet
) -> None:
    events = heard(table)
    backend.writes.shut()
    edit.rate = 5
    saving = asyncio.create_task(edit.save())
    await backend.writes.reached.wait()
    await table.on_backend_change("A")
    backend.writes.open()
    assert await saving == Saved()
    await table.on_backend_change("A")
    assert not [e for e in events if isinstance(e, Conflicting | WriteFailed)]


# --- structs


class Bakery(msgspec.Struct, rename="camel", kw_only=True):
    name: str = ""
    profit_margin: float = 0.0
    tags: list[str] = []


class Frozen(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """The same, but cannot be changed itself."""

    name: str = ""
    profit_margin: float = 0.0
    tags: list[str] = []


@pytest.fixture(params=[Bakery, Frozen])
async def typed(request: pytest.FixtureRequest) -> AsyncIterator[RecordEdit[Bakery]]:
    backend = MemoryDataSet({"A": {"name": "Anna's", "profitMargin": None, "beyond": 1}}, record=request.param)
    async with LiveTable(backend, MemoryDataSet(), backoff=AT_ONCE) as table:
        with await table.edit_record("A") as edit:
            yield edit


async def test_a_struct_is_edited_by_its_own_names(typed: RecordEdit[Bakery]) -> None:
    typed.name = "Anne's"
    typed.profit_margin = 0.25
    typed.tags.append("x")
    assert typed.modified_fields == ["name", "profit_margin", "tags"]
    assert (typed.live_snapshot.name, typed.local.name) == ("Anna's", "Anne's")
    assert await typed.save() == Saved()
    assert (typed.live_snapshot.profit_margin, typed.modified_fields) == (0.25, [])
    with pytest.raises(AttributeError, match="no field 'profitMargin'"):
        typed.profitMargin = 1


async def test_a_default_that_stands_in_for_null_is_not_modified(typed: RecordEdit[Bakery]) -> None:
    assert (typed.profit_margin, typed.modified_fields) == (0.0, [])
    typed.name = "x"
    assert await typed.save() == Saved()


async def test_what_the_type_does_not_know_is_left_alone(typed: RecordEdit[Bakery]) -> None:
    typed.name = "x"
    await typed.save()
    assert await typed._table.get_value("A") == {"name": "x", "profitMargin": None, "beyond": 1}


async def test_a_value_of_another_type_can_be_typed_in(typed: RecordEdit[Bakery]) -> None:
    typed.profit_margin = "a quarter"
    assert typed["profit_margin"] == "a quarter"
    typed.revert()
    assert typed.profit_margin == 0.0
