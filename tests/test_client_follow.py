"""LiveTable over a backend that tells positions and changes, as a script has it: what no real server does on demand."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tests.support.backends import GatedDataSet, Record
from tests.test_client_table import AT_ONCE, heard, told
from vanguard_client import LiveTable, MemoryDataSet, Refused, Saved, Unavailable, Values
from vanguard_client.events import (
    Conflicting,
    Connected,
    Deleted,
    Disconnected,
    Inserted,
    Reloaded,
    Updated,
    WriteDone,
)
from vanguard_client.pump import Pump
from vanguard_client.source import Change, Link, Loaded, Message, PlainSource, Reset, Row, Tracked, Write, Written


class Scripted(GatedDataSet):
    """A data set that counts its changes, and tells of them what a test has it tell.

    `behind`: by how much the next answers are older than what there is, as of a server that lags. `state` of rows.
    """

    fields: tuple[str, ...] | None = None

    def __init__(self, values: dict[str, Values]) -> None:
        super().__init__(values)
        self.number = 1
        self.past: dict[int, dict[str, Values]] = {1: values}
        self.behind: list[int] = []
        self.states: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.told: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.fetched: list[list[str]] = []

    @property
    def position(self) -> str:
        return f"{self.number:012x}.x"

    async def moved(self) -> str:
        """Something has changed; the position behind it."""
        self.number += 1
        self.past[self.number] = await MemoryDataSet.list_values(self)
        return self.position

    def tell(self, *ids: str, **more: Any) -> None:
        """Tell a change at the present position."""
        self.told.put_nowait(Change(position=self.position, ids=list(ids), **more))

    async def somebody(self, id: str, **fields: Any) -> str:
        """Somebody else writes; the feed has not told it yet."""
        await self.elsewhere(id, **fields)
        return await self.moved()

    async def load(self) -> Loaded:
        await self.reads.passed()
        return self._loaded(None)

    async def fetch(self, ids: Iterable[str]) -> Loaded:
        ids = list(ids)
        await self.reads.passed()
        self.fetched.append(ids)
        return self._loaded(ids)

    def _loaded(self, ids: list[str] | None) -> Loaded:
        number = self.number - (self.behind.pop(0) if self.behind else 0)
        position = f"{number:012x}.x"
        rows = {
            id: Row(
                values=dict(values), position=position, state=self.states.get(id, "settled"),
                version=self.versions.get(id, 0),
            )
            for id, values in self.past[number].items()
            if ids is None or id in ids
        }  # fmt: skip
        return Loaded(rows=rows, position=position, drafted=dict(self.versions))

    async def drafted(self) -> dict[str, int]:
        return dict(self.versions)

    async def write(self, write: Write) -> Written:
        written = await PlainSource(self).write(write)
        return Written(id=written.id, position=await self.moved())

    async def failure(self, id: str) -> Refused:
        return Refused("the system of record says no")

    async def follow(self, since: str) -> AsyncIterator[Message]:
        self.since = since
        while True:
            message = await self.told.get()
            if isinstance(message, Exception):
                raise message
            yield message


@pytest.fixture
def backend() -> Scripted:
    return Scripted({"A": {"name": "Anna's", "rate": 1}, "B": {"name": "Bob's", "rate": 2}})


@pytest.fixture
async def table(backend: Scripted) -> AsyncIterator[LiveTable[Record]]:
    async with LiveTable(backend, MemoryDataSet(), backoff=AT_ONCE) as table:
        yield table
        backend.reads.open()
        backend.writes.open()


async def test_it_is_tracked(backend: Scripted, table: LiveTable[Record]) -> None:
    assert isinstance(backend, Tracked)
    await table.reached(backend.position)
    backend.told.put_nowait(Link(position=backend.position))
    await told(table, Connected)
    assert backend.since == backend.position, "the feed goes on from the very snapshot that was read"


async def test_rows_of_many_changes_are_read_at_once(backend: Scripted, table: LiveTable[Record]) -> None:
    for number in range(50):
        await backend.somebody("A", rate=number + 10)
        backend.tell("A")
        await backend.somebody(f"N{number}", rate=number)
        backend.tell(f"N{number}")
    await table.reached(backend.position)
    assert await table.list() == await backend.list()
    assert len(backend.fetched) < 5


async def test_a_change_that_was_read_already_is_not_read_again(backend: Scripted, table: LiveTable[Record]) -> None:
    await backend.somebody("A", rate=5)
    await table.on_backend_change("A")
    backend.tell("A")
    await table.reached(backend.position)
    assert backend.fetched == [["A"]]


async def test_no_value_goes_back_when_a_server_lags_behind(backend: Scripted, table: LiveTable[Record]) -> None:
    await backend.somebody("A", rate=5)
    backend.tell("A")
    await table.reached(backend.position)
    events = heard(table)
    backend.behind = [1, 1]
    await table.on_backend_change("A")
    assert (await table.get("A") or {})["rate"] == 5
    assert events == []
    assert len(backend.fetched) == 4, "asked again until the answer was not older"


async def test_no_write_is_undone_by_a_server_that_lags_behind(backend: Scripted, table: LiveTable[Record]) -> None:
    events = heard(table)
    backend.behind = [1, 1, 1]
    await table.patch("A", {"rate": 9})
    await table.flush()
    assert (await table.get("A") or {})["rate"] == 9
    assert [event for event in events if isinstance(event, Updated)] == [Updated("A", ["rate"])]


async def test_a_write_stays_laid_over_until_the_feed_has_passed_it(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    """Rows that flicker between a write and its echo are what people complain of most."""
    events = heard(table)
    await table.patch("A", {"rate": 9})
    backend.reads.shut()
    await backend.reads.reached.wait()  # it is written, and cannot be read back yet
    await backend.somebody("A", name="Anne's")
    assert await table.get("A") == {"name": "Anna's", "rate": 9}
    backend.tell("A")
    backend.reads.open()
    await table.reached(backend.position)
    await table.flush()
    assert await table.get("A") == {"name": "Anne's", "rate": 9}
    updates = [event for event in events if isinstance(event, Updated)]
    assert updates == [Updated("A", ["rate"]), Updated("A", ["name"], True)]


async def test_the_echo_of_a_write_whose_answer_is_late_is_no_remote_change(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    remote: list[str] = []
    table.on_remote_change(remote.append)
    backend.writes.shut()
    await table.patch("A", {"rate": 9})
    await backend.writes.reached.wait()
    await backend.somebody("A", rate=9)  # it is there, and the answer is not here
    backend.tell("A")
    await table.reached(backend.position)
    backend.writes.open()
    await table.flush()
    assert (remote, (await table.get("A") or {})["rate"]) == ([], 9)


async def test_nor_is_that_of_a_new_record_of_which_the_backend_makes_more(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    """The feed may be faster than the answer, and tell of fields that nobody sent."""
    remote: list[str] = []
    table.on_remote_change(remote.append)
    backend.writes.shut()
    await table.insert("C", {"name": "Carl's"})
    await backend.writes.reached.wait()
    await backend.somebody("C", name="Carl's", rate=0)
    backend.tell("C")
    await table.reached(backend.position)
    assert await table.get("C") == {"name": "Carl's", "rate": 0}
    backend.writes.open()
    await table.flush()
    assert remote == []


async def test_a_record_that_somebody_makes_before_it_is_sent_is_a_remote_change(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    remote: list[str] = []
    table.on_remote_change(remote.append)
    backend.writes.shut()
    await table.patch("A", {"rate": 9})
    await table.insert("C", {"name": "Carl's"})  # waits behind the other one
    await backend.writes.reached.wait()
    await backend.somebody("C", name="Carol's")
    backend.tell("C")
    await table.reached(backend.position)
    assert remote == ["C"]
    backend.writes.open()
    await table.flush()


async def test_a_reset_loads_anew_and_keeps_edits_and_writes(backend: Scripted, table: LiveTable[Record]) -> None:
    with await table.edit_record("A") as edit:
        edit.rate = 5
        backend.writes.shut()
        await table.patch("B", {"rate": 9})
        events = heard(table)
        await backend.somebody("A", rate=6)
        await backend.somebody("C", rate=7)
        await backend.somebody("B", name="Bill's")
        backend.told.put_nowait(Reset(reason="epoch", position=backend.position))
        await told(table, Reloaded)
        assert await table.list() == {
            "A": {"name": "Anna's", "rate": 6}, "B": {"name": "Bill's", "rate": 9}, "C": {"rate": 7},
        }  # fmt: skip
        shown = [event for event in events if isinstance(event, Updated | Inserted | Deleted)]
        assert shown == [Updated("A", ["rate"], True), Updated("B", ["name"], True), Inserted("C", True)]
        (met,) = [event for event in events if isinstance(event, Conflicting)]
        assert (met.id, met.conflicts[0].theirs, edit.rate) == ("A", 6, 5)
        backend.writes.open()
        await table.flush()
        assert (await backend.get("B") or {})["rate"] == 9


async def test_after_a_reset_positions_may_begin_anew(backend: Scripted, table: LiveTable[Record]) -> None:
    """A database that was restored counts from an earlier number: of its own life, that is nothing old."""
    for rate in range(10):
        await backend.somebody("A", rate=rate)
    await table.on_backend_change("A")
    backend.number, backend.past = 2, {2: {"A": {"rate": "restored"}}}
    backend.told.put_nowait(Reset(reason="epoch", position=backend.position))
    await told(table, Reloaded)
    assert await table.list() == {"A": {"rate": "restored"}}
    await table.on_backend_change("A")
    assert await table.list() == {"A": {"rate": "restored"}}


async def test_a_backend_that_was_put_back_keeps_nobody_waiting_for_what_it_does_not_have(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    """Given that its positions are lower than before and nothing has told that yet, then it is as if it were away."""
    for rate in range(10):
        await backend.somebody("A", rate=rate)
    await table.on_backend_change("A")
    backend.number, backend.past = 2, {2: {"A": {"rate": "restored"}}}
    with pytest.raises(Unavailable, match="lags behind"):
        await table.on_backend_change("A")
    assert (await table.get("A") or {})["rate"] == 9
    backend.tell("B")  # read in vain, until the reset behind it
    backend.told.put_nowait(Reset(reason="epoch", position=backend.position))
    await told(table, Reloaded)
    assert await table.list() == {"A": {"rate": "restored"}}


async def test_what_a_change_does_not_name_is_read_anew(backend: Scripted, table: LiveTable[Record]) -> None:
    await backend.somebody("A", rate=5)
    backend.told.put_nowait(Change(position=backend.position, ids=None))
    await told(table, Reloaded)
    assert await table.list() == await backend.list()


async def test_changes_are_taken_once_the_backend_can_be_read_again(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    await backend.somebody("A", rate=5)
    backend.reads.shut(Unavailable("down"))
    backend.tell("A")
    await backend.reads.reached.wait()
    assert (await table.get("A") or {})["rate"] == 1
    backend.reads.open()
    await table.reached(backend.position)
    assert (await table.get("A") or {})["rate"] == 5


async def test_ones_own_drafts_are_looked_up_when_they_are_told(backend: Scripted, table: LiveTable[Record]) -> None:
    await backend.somebody("A", rate=5)
    backend.versions = {"A": 7, "elsewhere": 8}
    backend.tell(drafts=True)
    await table.reached(backend.position)
    assert (await table.get("A") or {})["rate"] == 5
    await backend.somebody("A", rate=1)
    backend.versions = {"elsewhere": 8}
    backend.tell(drafts=True)
    await table.reached(backend.position)
    assert (await table.get("A") or {})["rate"] == 1
    assert backend.fetched == [["A", "elsewhere"], ["A"]]


async def test_a_connection_that_comes_and_goes_is_told(backend: Scripted, table: LiveTable[Record]) -> None:
    events = heard(table)
    lost = Unavailable("cut")
    for message in (Link(), Link(error=lost), Link()):
        backend.told.put_nowait(message)
    final = Refused("not any more")
    backend.told.put_nowait(final)
    while not [event for event in events if isinstance(event, Disconnected) and event.final]:
        await told(table, Disconnected)
    assert events == [Connected(), Disconnected(lost), Connected(), Disconnected(final, final=True)]
    await table.patch("A", {"rate": 9})
    await table.flush()
    assert (await backend.get("A") or {})["rate"] == 9, "what is written does not depend on it"


async def test_a_feed_that_fails_in_its_own_way_is_told(backend: Scripted, table: LiveTable[Record]) -> None:
    backend.told.put_nowait(ZeroDivisionError("x"))
    event: Any = await told(table, Disconnected)
    assert (event.final, event.error.code) == (True, "BACKEND_FAILED")


# --- settled


async def test_until_settled_waits_until_the_system_of_record_has_it(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    backend.states["A"] = "pending"
    with await table.edit_record("A") as edit:
        edit.rate = 5
        assert await edit.save() == Saved(settled=False)
        edit.rate = 6
        done = told(table, WriteDone)
        saving = asyncio.create_task(edit.save(until="settled"))
        await done
        backend.states["A"] = "settled"
        await backend.somebody("A", name="ANNA'S", rate=6)
        backend.tell("A")
        assert await saving == Saved()
        assert (edit.name, edit.modified_fields) == ("ANNA'S", [])


async def test_what_is_committed_and_not_settled_in_time_is_told_as_that(
    backend: Scripted, table: LiveTable[Record]
) -> None:
    backend.states["A"] = "pending"
    with await table.edit_record("A") as edit:
        edit.rate = 5
        assert await edit.save(until="settled", timeout=0.2) == Saved(settled=False)
        assert edit.modified_fields == []


# --- reading on


async def test_what_waits_is_bounded_and_comes_in_order() -> None:
    asked: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in range(10):
            asked.append(number)
            yield number
        raise KeyError("in the end")

    async with Pump(source(), bound=3) as pump:
        assert await pump.take() == [0, 1, 2]
        assert asked == [0, 1, 2, 3], "no further, as long as nobody takes it"
        taken: list[int] = []
        while len(taken) < 7:
            taken += await pump.take()
        assert taken == list(range(3, 10))
        with pytest.raises(KeyError):
            await pump.take()


async def test_a_source_that_ends_yields_nothing_more() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1

    async with Pump(source()) as pump:
        assert [await pump.take(), await pump.take(), await pump.take()] == [[1], [], []]


# --- at random


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_comes_in_whatever_order_the_table_ends_as_the_backend_is(seed: int) -> None:
    """Writes here and elsewhere, refusals, servers that lag or are away, echoes that are late, resets.

    And a number that only grows in the backend never goes back in the table.
    """
    chance = random.Random(seed)
    backend = Scripted({id: {"grows": 0, "mine": 0} for id in "ABC"})
    async with LiveTable(backend, MemoryDataSet(), backoff=AT_ONCE) as table:
        highest = dict.fromkeys("ABC", 0)
        back: list[str] = []

        async def look() -> None:
            for id, row in (await table.list()).items():
                back.extend([id] if row["grows"] < highest[id] else [])
                highest[id] = row["grows"]

        for number in range(1, 60):
            id = chance.choice("ABC")
            match chance.randrange(9):
                case 0 | 1:
                    await backend.somebody(id, grows=number)
                    backend.tell(id)
                case 2 | 3:
                    await table.patch(id, {"mine": number})
                case 4:
                    backend.refused[id] = Refused("no")
                    await table.patch(id, {"mine": -number})
                case 5:
                    backend.writes.shut(Unavailable("away") if chance.random() < 0.5 else None)
                case 6:
                    backend.behind = [chance.randrange(2)] * chance.randrange(3)
                case 7:
                    reason = chance.choice(["slow", "expired"])
                    backend.told.put_nowait(Reset(reason=reason, position=backend.position))
                case _:
                    backend.writes.open()
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
            await look()
        backend.writes.open()
        backend.behind = []
        backend.refused = {}
        await table.flush()
        backend.tell(*"ABC")
        await table.reached(backend.position)
        assert await table.list() == await backend.list()
        assert (back, table.pending) == ([], 0)
