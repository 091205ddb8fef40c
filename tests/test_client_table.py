"""LiveTable over any backend: what it shows, how it writes, and what it tells."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.backends import GatedDataSet, Record
from vanguard_client import (
    Backoff,
    Conflicted,
    LiveTable,
    MemoryDataSet,
    QueueFull,
    RecordNotFound,
    Refused,
    TableClosed,
    Unavailable,
    Unsaved,
)
from vanguard_client.events import (
    Changed,
    Deleted,
    Event,
    Inserted,
    PendingWrite,
    Updated,
    WriteDone,
    WriteFailed,
)

AT_ONCE = Backoff(random=lambda: 0.0)


@pytest.fixture
def backend() -> GatedDataSet:
    """Two bakeries."""
    return GatedDataSet({"A": {"name": "Anna's", "rate": 1}, "B": {"name": "Bob's", "rate": 2}})


@pytest.fixture
def cache() -> MemoryDataSet[Record]:
    return MemoryDataSet()


@pytest.fixture
async def table(backend: GatedDataSet, cache: MemoryDataSet[Record]) -> AsyncIterator[LiveTable[Record]]:
    """Open, over the bakeries."""
    async with opened(backend, cache) as table:
        yield table


@asynccontextmanager
async def opened(backend: GatedDataSet, cache: Any = None, **more: Any) -> AsyncIterator[LiveTable[Record]]:
    """A table whose backend is let through in the end."""
    cache = MemoryDataSet() if cache is None else cache
    async with LiveTable(backend, cache, **{"backoff": AT_ONCE, **more}) as table:
        try:
            yield table
        finally:
            backend.reads.open()
            backend.writes.open()


def heard(table: LiveTable[Record]) -> list[Event]:
    """What the table tells from now on."""
    events: list[Event] = []
    table.on_event(events.append)
    return events


def told(table: LiveTable[Record], kind: Any) -> "asyncio.Future[Event]":
    """The next event of this kind."""
    found: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
    table.on_event(lambda event: found.set_result(event) if isinstance(event, kind) and not found.done() else None)
    return found


# --- reading


async def test_opening_fills_the_cache_from_the_backend(
    table: LiveTable[Record], cache: MemoryDataSet[Record], backend: GatedDataSet
) -> None:
    assert await cache.list() == await table.list() == await backend.list()


async def test_opening_removes_from_the_cache_what_is_gone(backend: GatedDataSet) -> None:
    cache = MemoryDataSet({"A": {"name": "stale"}, "Z": {"name": "gone"}})
    async with opened(backend, cache) as table:
        assert await table.list() == await cache.list() == await backend.list()


async def test_reading_asks_the_cache_alone(table: LiveTable[Record], backend: GatedDataSet) -> None:
    backend.reads.shut()
    assert await table.get("A") == {"name": "Anna's", "rate": 1}
    assert await table.get("C") is None
    assert await table.get_some() is not None


async def test_a_closed_table_says_so(backend: GatedDataSet) -> None:
    table = LiveTable(backend, MemoryDataSet())
    for call in (table.list(), table.get("A"), table.patch("A", {"rate": 2}), table.edit_record("A")):
        with pytest.raises(TableClosed, match="async with"):
            await call
    async with table:
        pass
    with pytest.raises(TableClosed):
        await table.list()


async def test_a_backend_that_cannot_be_read_keeps_a_table_from_opening(backend: GatedDataSet) -> None:
    backend.reads.shut(ConnectionError("down"))
    with pytest.raises(Unavailable, match="down"):
        async with LiveTable(backend, MemoryDataSet()):
            pass


# --- writing


async def test_a_write_shows_at_once_and_persists_behind(
    table: LiveTable[Record], backend: GatedDataSet, cache: MemoryDataSet[Record]
) -> None:
    backend.writes.shut()
    events = heard(table)
    assert await table.patch("A", {"rate": 9}) == {"name": "Anna's", "rate": 9}
    assert await table.get("A") == {"name": "Anna's", "rate": 9}
    assert await backend.get("A") == await cache.get("A") == {"name": "Anna's", "rate": 1}
    assert events == [PendingWrite("A"), Updated("A", ["rate"]), Changed(["A"])]
    assert table.pending == 1
    backend.writes.open()
    await table.flush()
    assert await backend.get("A") == await cache.get("A") == {"name": "Anna's", "rate": 9}
    assert events[3:] == [WriteDone("A")]
    assert table.pending == 0


async def test_every_kind_of_write_shows_at_once(table: LiveTable[Record], backend: GatedDataSet) -> None:
    backend.writes.shut()
    await table.insert("C", {"name": "C"})
    await table.insert("B", {"name": "other"})
    await table.replace("A", {"rate": 5})
    await table.replace("D", {"name": "D"})
    await table.delete("B")
    shown = {"A": {"name": None, "rate": 5}, "C": {"name": "C"}, "D": {"name": "D"}}
    assert await table.list() == shown
    assert backend.calls == []
    backend.writes.open()
    await table.flush()
    assert await backend.list() == await table.list() == shown


async def test_what_changes_nothing_is_not_written(table: LiveTable[Record], backend: GatedDataSet) -> None:
    events = heard(table)
    await table.patch("A", {"rate": 1})
    await table.replace("A", {"name": "Anna's", "rate": 1})
    await table.insert("A", {"name": "other"})
    await table.delete("Z")
    await table.flush()
    assert (backend.calls, events) == ([], [])


async def test_a_patch_of_what_is_not_shown_fails_at_once(table: LiveTable[Record], backend: GatedDataSet) -> None:
    with pytest.raises(RecordNotFound):
        await table.patch("Z", {"rate": 1})
    assert table.pending == 0


async def test_writes_of_a_record_keep_their_order(table: LiveTable[Record], backend: GatedDataSet) -> None:
    backend.writes.shut()
    for rate in range(10, 20):
        await table.patch("A", {"rate": rate})
    backend.writes.open()
    await table.flush()
    assert await backend.get("A") == {"name": "Anna's", "rate": 19}


async def test_a_write_that_is_refused_is_rolled_back_and_does_not_stop_the_next(
    table: LiveTable[Record], backend: GatedDataSet
) -> None:
    refusal = Refused("no", code="VALIDATION_FAILED")
    backend.refused["A"] = refusal
    backend.writes.shut()
    await table.patch("A", {"rate": 9})
    await table.patch("B", {"rate": 8})
    events = heard(table)
    backend.writes.open()
    await table.flush()
    assert await table.list() == await backend.list() == {
        "A": {"name": "Anna's", "rate": 1}, "B": {"name": "Bob's", "rate": 8},
    }  # fmt: skip
    assert events == [
        Updated("A", ["rate"]), Changed(["A"]), WriteFailed("A", refusal), WriteDone("B"),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), ValueError("x")])
async def test_a_backend_that_raises_anything_at_all_does_not_stop_the_next(
    table: LiveTable[Record], backend: GatedDataSet, error: Exception
) -> None:
    backend.refused["A"] = error
    events = heard(table)
    await table.patch("A", {"rate": 9})
    await table.patch("B", {"rate": 8})
    await table.flush()
    (failed,) = [event for event in events if isinstance(event, WriteFailed)]
    assert isinstance(failed.error, Refused)
    assert (failed.id, failed.error.code, failed.error.__cause__) == ("A", "BACKEND_FAILED", error)
    assert (await table.get("B") or {})["rate"] == 8


async def test_a_write_behind_a_refused_one_compares_with_what_was_there_before(
    table: LiveTable[Record], backend: GatedDataSet
) -> None:
    """The second has seen what the first wanted, which nobody ever had: that is no conflict."""
    backend.writes.shut()
    await table.patch("A", {"rate": 9})
    await backend.writes.reached.wait()
    await table.patch("A", {"rate": 8})
    backend.refused["A"] = Refused("no")
    backend.writes.open()
    await table.flush()
    assert await table.get("A") == await backend.get("A") == {"name": "Anna's", "rate": 8}


async def test_a_patch_does_not_overwrite_what_it_has_not_seen(table: LiveTable[Record], backend: GatedDataSet) -> None:
    await backend.elsewhere("A", rate=5, name="Anne's")
    events = heard(table)
    await table.patch("A", {"rate": 9})
    await table.flush()
    (failed,) = [event for event in events if isinstance(event, WriteFailed)]
    assert isinstance(failed.error, Conflicted)
    (conflict,) = failed.error.conflicts
    assert (conflict.field, conflict.base, conflict.theirs, conflict.mine) == ("rate", 1, 5, 9)
    assert await table.get("A") == await backend.get("A") == {"name": "Anne's", "rate": 5}


# --- the queue


async def test_as_many_writes_wait_as_may_and_then_it_is_said(backend: GatedDataSet) -> None:
    async with opened(backend, queue=3) as table:
        backend.writes.shut(ConnectionError("down"))
        for rate in (10, 11, 12):
            await table.patch("A", {"rate": rate})
        events = heard(table)
        with pytest.raises(QueueFull, match="3 writes wait"):
            await table.patch("B", {"rate": 13})
        assert await table.get("B") == {"name": "Bob's", "rate": 2}
        assert (events, table.pending) == ([], 3)
        backend.writes.open()
        await table.flush()
        await table.patch("B", {"rate": 13})
    assert await backend.list() == {"A": {"name": "Anna's", "rate": 12}, "B": {"name": "Bob's", "rate": 13}}


async def test_256_writes_wait_unless_it_is_said_otherwise(table: LiveTable[Record], backend: GatedDataSet) -> None:
    backend.writes.shut()
    for rate in range(256):
        await table.patch("A", {"rate": -rate - 1})
    with pytest.raises(QueueFull):
        await table.patch("A", {"rate": 0})


async def test_a_backend_that_is_down_is_tried_until_it_is_up(backend: GatedDataSet) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            backend.writes.open()

    async with opened(backend, backoff=Backoff(base=1, cap=20, random=lambda: 0.5, sleep=sleep)) as table:
        backend.writes.shut(TimeoutError("down"))
        await table.patch("A", {"rate": 9})
        await table.flush()
    assert await backend.get("A") == {"name": "Anna's", "rate": 9}
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10], "half of a ceiling that doubles, up to 20"


async def test_closing_waits_for_writes(backend: GatedDataSet) -> None:
    async with opened(backend) as table:
        backend.writes.shut()
        await table.patch("A", {"rate": 9})
    assert await backend.get("A") == {"name": "Anna's", "rate": 9}


async def test_closing_tells_what_was_not_written(backend: GatedDataSet) -> None:
    table = await LiveTable(backend, MemoryDataSet(), patience=0).__aenter__()
    backend.writes.shut()
    await table.patch("A", {"rate": 9})
    await table.patch("B", {"rate": 9})
    with pytest.raises(Unsaved, match="A, B") as unsaved:
        await table.__aexit__(None, None, None)
    assert unsaved.value.ids == ["A", "B"]


# --- changes from elsewhere


async def test_a_change_from_elsewhere_shows_when_it_is_told(table: LiveTable[Record], backend: GatedDataSet) -> None:
    remote: list[str] = []
    assert table.on_remote_change(remote.append) is table
    events = heard(table)
    await backend.elsewhere("A", rate=5)
    await table.on_backend_change("A")
    assert await table.get("A") == {"name": "Anna's", "rate": 5}
    await backend.elsewhere("C", name="C")
    await table.on_backend_change("C")
    await MemoryDataSet.delete(backend, "B")
    await table.on_backend_change("B")
    assert sorted(await table.list()) == ["A", "C"]
    assert remote == ["A", "C", "B"]
    assert events == [
        Updated("A", ["rate"], True), Changed(["A"], True),
        Inserted("C", True), Changed(["C"], True),
        Deleted("B", True), Changed(["B"], True),
    ]  # fmt: skip


async def test_what_is_as_it_was_is_not_told(table: LiveTable[Record]) -> None:
    events = heard(table)
    await table.on_backend_change("A")
    await table.on_backend_change("Z")
    assert events == []


async def test_ones_own_echo_is_no_remote_change(table: LiveTable[Record], backend: GatedDataSet) -> None:
    remote: list[str] = []
    table.on_remote_change(remote.append)
    await table.patch("A", {"rate": 9})
    await table.insert("C", {"name": "C"})
    await table.delete("B")
    await table.flush()
    for id in "ABC":
        await table.on_backend_change(id)
    assert remote == []


async def test_a_refresh_does_not_overwrite_a_write_in_flight(table: LiveTable[Record], backend: GatedDataSet) -> None:
    backend.writes.shut()
    await table.patch("A", {"rate": 9})
    await backend.writes.reached.wait()
    events = heard(table)
    await backend.elsewhere("A", name="Anne's")
    await table.on_backend_change("A")
    assert await table.get("A") == {"name": "Anne's", "rate": 9}
    backend.writes.open()
    await table.flush()
    await table.on_backend_change("A")
    assert await table.get("A") == await backend.get("A") == {"name": "Anne's", "rate": 9}
    assert [event for event in events if isinstance(event, Updated)] == [Updated("A", ["name"], True)], "no flicker"


async def test_of_two_writes_in_flight_the_second_stays_when_the_first_has_landed(
    table: LiveTable[Record], backend: GatedDataSet
) -> None:
    backend.writes.shut()
    await table.patch("A", {"rate": 8})
    await backend.writes.reached.wait()
    await table.patch("A", {"rate": 9})
    seen: list[Any] = []
    table.on_event(lambda event: seen.append(event) if isinstance(event, Updated) else None)
    backend.writes.open()
    await table.flush()
    assert (seen, await table.get("A")) == ([], {"name": "Anna's", "rate": 9})


async def test_a_callback_that_fails_stops_nothing(table: LiveTable[Record], backend: GatedDataSet) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("of the program's own")

    table.on_event(fail)
    events = heard(table)
    await table.patch("A", {"rate": 9})
    await table.flush()
    assert events[-1] == WriteDone("A")


async def test_what_a_backend_makes_of_a_write_is_shown(table: LiveTable[Record], backend: GatedDataSet) -> None:
    backend.kept["rate"] = 7
    await table.patch("A", {"rate": 9})
    await table.flush()
    assert await table.get("A") == {"name": "Anna's", "rate": 7}


async def test_a_table_is_opened_once(backend: GatedDataSet) -> None:
    async with LiveTable(backend, MemoryDataSet()) as table:
        with pytest.raises(TableClosed):
            await table.__aenter__()


async def test_an_added_record_is_shown_under_a_temporary_id_until_the_backend_gives_it_one(
    table: LiveTable[Record], backend: GatedDataSet
) -> None:
    backend.writes.shut()
    shown = told(table, PendingWrite)
    adding = asyncio.create_task(table.add({"name": "new"}))
    await shown
    (temporary,) = set(await table.list()) - {"A", "B"}
    backend.writes.open()
    real = await adding
    assert await backend.get(real) == {"name": "new"}
    assert sorted(await table.list()) == ["A", "B", real]
    assert temporary != real
    assert await table.get(temporary) == {"name": "new"}, "whoever still knows it by its temporary id finds it"
