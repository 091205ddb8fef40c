"""LiveTables over a server of its own: what others do shows, what is edited persists, through restarts and kills."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.base import exact_json
from app.base.clock import now
from tests.support.editor import editing
from tests.support.serving import Api, serving
from tests.support.world import FLEET, User, committed, vehicle
from tests.test_client_table import heard, told
from vanguard_client import (
    Backoff,
    Conflict,
    Error,
    LiveTable,
    MemoryDataSet,
    QueueFull,
    RestDataSet,
    Saved,
    SqliteDataSet,
    Vanguard,
)
from vanguard_client.events import (
    Conflicting,
    Connected,
    Deleted,
    Disconnected,
    Inserted,
    Reloaded,
    Updated,
    WriteFailed,
)

Record = dict[str, Any]
SOON = Backoff(base=0.05, cap=0.5)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    """A server, with three vehicles."""
    async with serving(database_url) as api:
        vehicles = {"V1": vehicle(), "V2": vehicle(), "V3": vehicle(depot="South")}
        await api.world.mirror(vehicles, contract=FLEET)
        yield api


@pytest.fixture
async def ann(api: Api) -> User:
    return (await api.world.user("ann")).on("fleet")


@pytest.fixture
async def bob(api: Api) -> User:
    return (await api.world.user("bob")).on("fleet")


@asynccontextmanager
async def opened(api: Api, user: User, cache: Any = None, **more: Any) -> AsyncIterator[LiveTable[Record]]:
    """A table of the user's fleet, following."""
    selection = {name: more.pop(name) for name in ("filters", "fields") if name in more}
    heartbeat = more.pop("heartbeat", 15.0)
    async with Vanguard(api.url, lambda: user.token, backoff=SOON, heartbeat=heartbeat) as server:
        data = RestDataSet(server, "acme", user.dataset, **selection)
        table = LiveTable(data, MemoryDataSet() if cache is None else cache, backoff=SOON, **more)
        connected = told(table, Connected)
        async with table:
            await within(connected)
            yield table


async def within(waited: Any, seconds: float = 60) -> Any:
    return await asyncio.wait_for(waited, seconds)


async def change(user: User, id: str, **fields: Any) -> str:
    """Somebody commits, in a process of theirs; the position behind it."""
    await user.draft(id, fields)
    answer = await user.commit(id)
    assert answer.status_code == 200, answer.text
    position: str = answer.json()["position"]
    return position


# --- changes from elsewhere


async def test_what_others_commit_shows(api: Api, ann: User, bob: User) -> None:
    async with opened(api, ann) as table:
        remote: list[str] = []
        table.on_remote_change(remote.append)
        events = heard(table)
        await change(bob, "V1", seats=5)
        await bob.draft("V4", {"depot": "West", "kind": "Van"}, op="insert")
        await bob.draft("V2", op="delete")
        await within(table.reached((await committed(bob))["position"]))
        assert (await table.get("V1") or {})["seats"] == 5
        assert sorted(await table.list()) == ["V1", "V3", "V4"]
        assert sorted(remote) == ["V1", "V2", "V4"]
        assert Updated("V1", ["seats"], True) in events
        assert {Inserted("V4", True), Deleted("V2", True)} <= {e for e in events if isinstance(e, Inserted | Deleted)}


async def test_what_is_committed_right_after_the_rows_were_read_is_not_missed(api: Api, ann: User, bob: User) -> None:
    """The table is open before its stream is: nothing falls between."""
    async with Vanguard(api.url, lambda: ann.token, backoff=SOON) as server:
        for seats in range(4, 9):
            async with LiveTable(RestDataSet(server, "acme", "fleet"), MemoryDataSet(), backoff=SOON) as table:
                await within(table.reached(await change(bob, "V1", seats=seats)))
                assert (await table.get("V1") or {})["seats"] == seats


async def test_two_tables_of_one_account_end_alike(api: Api, ann: User) -> None:
    """They share their drafts: the later save counts, nothing is lost without a word, and no draft is left."""
    async with opened(api, ann) as one, opened(api, ann) as other:
        failed: list[Any] = []
        for table in (one, other):
            table.on_event(lambda event: failed.append(event) if isinstance(event, WriteFailed) else None)
        for number in range(10, 30):
            await one.patch("V1", {"seats": number})
            await other.patch("V1", {"mileage": number})
            await other.patch("V2", {"seats": number})
            await one.patch("V2", {"seats": number + 100})
        await within(one.flush())
        await within(other.flush())
        position = (await ann.page())["metadata"]["position"]
        await within(one.reached(position))
        await within(other.reached(position))
        view = {row["id"]: row["data"] for row in await ann.rows()}
        assert (view["V1"]["seats"], view["V1"]["mileage"]) == (29, 29)

        async def alike() -> None:
            while True:
                if await one.list() == await other.list() == view:
                    return
                await asyncio.sleep(0.05)  # drafts are told in their own time, behind the position's number

        await within(alike())
        assert {event.id for event in failed} <= {"V2"}
        assert await api.world.db.fetchval("SELECT count(*) FROM fleet.modification") == 0


async def test_the_drafts_of_others_do_not_show_and_ones_own_do(api: Api, ann: User, bob: User) -> None:
    async with opened(api, ann) as table:
        await bob.draft("V1", {"seats": 5})
        updated = told(table, Updated)
        await ann.draft("V1", {"seats": 6})
        assert await within(updated) == Updated("V1", ["seats"], True), "from another tab of ann's"
        updated = told(table, Updated)
        await ann.discard("V1")
        await within(updated)
        assert (await table.get("V1") or {})["seats"] == 3


async def test_a_row_that_leaves_the_selection_is_gone_and_one_that_comes_is_there(
    api: Api, ann: User, bob: User
) -> None:
    async with opened(api, ann, filters={"depot": "North"}, fields=["seats", "depot"]) as table:
        assert sorted(await table.list()) == ["V1", "V2"]
        await change(bob, "V1", depot="South")
        await within(table.reached(await change(bob, "V3", depot="North", seats=9)))
        assert await table.list() == {"V2": {"seats": 3, "depot": "North"}, "V3": {"seats": 9, "depot": "North"}}


async def test_ones_own_draft_takes_a_row_out_of_the_selection_and_back(api: Api, ann: User) -> None:
    async with opened(api, ann, filters={"depot": "North"}) as table:
        deleted = told(table, Deleted)
        await ann.draft("V1", {"depot": "South"})
        assert await within(deleted) == Deleted("V1", True)
        inserted = told(table, Inserted)
        await ann.discard("V1")
        assert await within(inserted) == Inserted("V1", True)


async def test_a_draft_of_before_the_table_is_discarded(api: Api, ann: User) -> None:
    await ann.draft("V1", {"depot": "South"})
    async with opened(api, ann, filters={"depot": "North"}) as table:
        assert sorted(await table.list()) == ["V2"]
        inserted = told(table, Inserted)
        await ann.discard("V1")
        assert await within(inserted) == Inserted("V1", True)


async def test_a_record_edited_so_that_it_leaves_the_selection_is_saved(api: Api, ann: User) -> None:
    async with opened(api, ann, filters={"depot": "North"}) as table:
        with await table.edit_record("V1") as edit:
            edit.depot = "South"
            assert await edit.save() == Saved()
            assert await table.get("V1") is None
            assert (edit.depot, edit.modified_fields) == ("South", [])


async def test_an_event_too_large_to_name_its_rows_shows_all_of_them(api: Api, ann: User, bob: User) -> None:
    many = {f"R{number:04}": vehicle() for number in range(1200)}
    await api.world.mirror(many, contract=FLEET)
    async with opened(api, ann, fields=["seats"]) as table:
        modifications = [{"id": id, "delta": {"seats": 9}} for id in many]
        assert (await bob.post("drafts", {"modifications": modifications})).status_code == 200
        await within(table.reached((await committed(bob))["position"]))
        assert [id for id, row in (await table.list()).items() if row["seats"] == 9] == list(many)


async def test_ones_own_writes_are_no_remote_changes_and_do_not_flicker(api: Api, ann: User) -> None:
    async with opened(api, ann) as table:
        remote: list[str] = []
        table.on_remote_change(remote.append)
        seen: list[Any] = []
        table.on_event(lambda e: seen.append(e) if isinstance(e, Updated | Inserted | Deleted) else None)
        for number in range(10, 20):
            await table.patch("V1", {"seats": number})
        await table.insert("V4", {"depot": "West", "kind": "Van"})
        await table.delete("V2")
        await within(table.flush())
        position = (await ann.page())["metadata"]["position"]
        await within(table.reached(position))
        assert [each for each in seen if each.remote] == []
        assert len([each for each in seen if each.id == "V1"]) == 10
        assert remote == []


# --- two tables


async def test_two_tables_in_two_processes_edit_one_record(api: Api, ann: User, bob: User) -> None:
    """Untouched fields flow in; a conflicting field is reported by refresh_snapshot and by save; both ways out work."""
    async with opened(api, ann) as table, editing(api.url, bob.token, "fleet") as there:
        with await table.edit_record("V1") as edit:
            await there("edit", "V1")

            # Another field: it flows in.
            edit.seats = 5
            await there("set", "mileage", 2000)
            assert await there("save") == {"type": "Saved", "settled": True}
            assert await edit.refresh_snapshot() == []
            assert (edit.mileage, edit.seats, edit.modified_fields) == (2000, 5, ["seats"])
            assert await edit.save() == Saved()
            assert await there("refresh") == []
            assert (await there("local"))["seats"] == 5

            # The same field: told by refresh_snapshot; keep mine.
            edit.seats = 6
            await there("set", "seats", 7)
            assert (await there("save"))["type"] == "Saved"
            (conflict,) = await edit.refresh_snapshot()
            assert (conflict.field, conflict.base, conflict.theirs, conflict.mine) == ("seats", 5, 7, 6)
            assert await edit.save() == Saved()

            # The same field: told by save, on the other side; use theirs.
            await there("set", "seats", 8)
            refused = await there("save")
            assert refused["type"] == "Conflict"
            assert refused["conflicts"] == [{"id": "V1", "field": "seats", "base": 7, "theirs": 6, "mine": 8}]
            await there("revert")
            assert (await there("local"))["seats"] == 6
            assert (await there("save"))["type"] == "Saved"

            # And keep mine after a refused save.
            edit.mileage = 3000
            await there("set", "mileage", 4000)
            assert (await there("save"))["type"] == "Saved"
            result = await edit.save()
            assert isinstance(result, Conflict)
            assert result.fields == ["mileage"]
            assert await edit.save() == Saved()
        position = await change(bob, "V2", seats=1)
        await within(table.reached(position))
        await there("reached", position)
        mirror = await api.world.db.fetchval("SELECT data::text FROM fleet.mirror WHERE row_key = 'V1'")
        row = exact_json.decode(mirror)
        assert (row["seats"], row["mileage"]) == (6, 3000)
        assert await table.get("V1") == await there("get", "V1") == row
        assert await api.world.db.fetchval("SELECT count(*) FROM fleet.modification") == 0, "no draft is left"


async def test_an_open_edit_is_told_of_what_meets_it(api: Api, ann: User, bob: User) -> None:
    async with opened(api, ann) as table:
        with await table.edit_record("V1") as edit:
            edit.seats = 5
            met = told(table, Conflicting)
            await change(bob, "V1", seats=6)
            event = await within(met)
            assert [(c.field, c.base, c.theirs, c.mine) for c in event.conflicts] == [("seats", 3, 6, 5)]


# --- the server goes away


async def test_writes_queue_while_the_server_is_down_up_to_the_bound_and_persist_after_the_restart(
    api: Api, ann: User
) -> None:
    async with opened(api, ann, queue=5) as table:
        lost = told(table, Disconnected)
        await api.stop()
        await within(lost)
        for number in range(10, 15):
            await table.patch("V1", {"seats": number})
        with pytest.raises(QueueFull):
            await table.patch("V1", {"seats": 15})
        with await table.edit_record("V2") as edit:
            edit.seats = 9
            result = await edit.save()
            assert isinstance(result, Error)
            assert isinstance(result.error, QueueFull)
        assert (await table.get("V1") or {})["seats"] == 14
        connected = told(table, Connected)
        await api.start()
        await within(table.flush())
        await within(connected)
    assert (await ann.row("V1"))["data"]["seats"] == 14
    history = await api.world.db.fetchval("SELECT count(*) FROM fleet.history WHERE row_key = 'V1'")
    assert history == 5, "each write once"


async def test_what_happened_while_the_server_was_down_shows_after_the_restart(api: Api, ann: User, bob: User) -> None:
    async with opened(api, ann) as table:
        await api.kill()
        position = await change(bob, "V1", seats=5)
        await api.start()
        await within(table.reached(position))
        assert (await table.get("V1") or {})["seats"] == 5


async def test_a_server_that_says_nothing_is_left_after_two_heartbeats(api: Api, ann: User, bob: User) -> None:
    async with opened(api, ann, heartbeat=0.5) as table:
        lost = told(table, Disconnected)
        api.freeze()
        event = await within(lost)
        assert "ReadTimeout" in str(event.error)
        api.thaw()
        await within(table.reached(await change(bob, "V1", seats=5)))


async def test_what_the_feed_does_not_have_any_more_is_loaded_anew_and_edits_stay(
    api: Api, ann: User, bob: User
) -> None:
    async with opened(api, ann) as table:
        with await table.edit_record("V1") as edit:
            edit.seats = 5
            await api.stop()
            await change(bob, "V1", seats=6, mileage=9)
            await bob.draft("V2", op="delete")
            await committed(bob)
            await api.world.db.execute("DELETE FROM feed")
            met, reloaded = told(table, Conflicting), told(table, Reloaded)
            await api.start()
            assert await within(reloaded) == Reloaded("expired")
            assert (await within(met)).conflicts[0].theirs == 6
            assert sorted(await table.list()) == ["V1", "V3"]
            assert (edit.seats, edit.mileage) == (5, 1000), "as it was typed"
            (conflict,) = await edit.refresh_snapshot()
            assert (conflict.theirs, edit.mileage) == (6, 9)


async def test_a_membership_that_is_taken_away_ends_the_feed(api: Api, ann: User) -> None:
    async with opened(api, ann) as table:
        lost = told(table, Disconnected)
        await api.world.db.execute("DELETE FROM membership WHERE account_id = 'ann'")
        event = await within(lost)
        assert (event.final, event.error.code) == (True, "FORBIDDEN")


async def test_a_token_that_expires_is_followed_by_another(api: Api, ann: User, bob: User) -> None:
    """The first ones, of the request and of the stream, are good for two seconds."""
    api.world.clock.at = now()
    tokens = [(await api.world.user("eve", ttl=2)).token] * 2

    def token() -> str:
        return tokens.pop() if tokens else ann.token

    async with Vanguard(api.url, token, backoff=SOON) as server:
        table = LiveTable(RestDataSet(server, "acme", "fleet"), MemoryDataSet(), backoff=SOON)
        lost = told(table, Disconnected)
        async with table:
            await within(lost)
            await within(table.reached(await change(bob, "V1", seats=5)))
            assert (await table.get("V1") or {})["seats"] == 5


# --- the client goes away


@pytest.mark.slow("a client that is killed at moments that nobody chose leaves nothing half-written")
async def test_a_client_that_is_killed_leaves_nothing_half_written(api: Api, ann: User, tmp_path: Path) -> None:
    """Two fields of each row are always written together: so they stand in the mirror, and in the client's file."""
    chance = random.Random(16)
    file = tmp_path / "cache.db"
    for _ in range(8):
        async with editing(api.url, ann.token, "fleet", file) as there:
            there.send("pairs", ["V1", "V2", "V3"])
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            await there.kill()
        with sqlite3.connect(file) as cache:
            assert cache.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            cached = [exact_json.decode(data) for (data,) in cache.execute("SELECT data FROM record")]
        mirror = await api.world.db.fetch("SELECT data::text FROM fleet.mirror")
        rows = [*cached, *(exact_json.decode(row["data"]) for row in mirror)]
        assert len(rows) == 6
        assert [row for row in rows if (row["seats"], row["mileage"]) not in [(3, 1000), (row["seats"],) * 2]] == []
    async with SqliteDataSet(file) as cache_again, opened(api, ann, cache_again) as table:
        assert await table.list() == {row["id"]: row["data"] for row in await ann.rows()}


# --- all at once


@pytest.mark.slow("what a table shows is compared with what is there, through kills and restarts")
@pytest.mark.parametrize("seed", range(2))
async def test_a_table_shows_what_is_there_whatever_happens(api: Api, ann: User, bob: User, seed: int) -> None:
    """Given others who commit, and a server that is stopped and killed, when it is quiet, then the table is the view.

    And no value that grows goes back.
    """
    chance = random.Random(seed)
    carol = (await api.world.user("carol")).on("fleet")
    async with opened(api, ann, heartbeat=0.5) as table:
        highest: dict[str, int] = {}
        back: list[Any] = []

        def look(id: str) -> None:
            looking.append(asyncio.create_task(look_at(id)))

        async def look_at(id: str) -> None:
            row = await table.get(id)
            if row is not None:
                if row["mileage"] < highest.get(id, 0):
                    back.append((id, row["mileage"], highest[id]))
                highest[id] = max(row["mileage"], highest.get(id, 0))

        looking: list[asyncio.Task[None]] = []
        table.on_remote_change(look)
        numbers = count(2000)
        for _ in range(6):
            for _ in range(chance.randrange(3, 8)):
                user, id = chance.choice([bob, carol]), chance.choice(["V1", "V2", "V3"])
                await change(user, id, mileage=next(numbers), depot=chance.choice(["North", "South", "West"]))
                if chance.random() < 0.3:
                    await table.patch(chance.choice(["V1", "V2", "V3"]), {"seats": chance.randrange(1, 99)})
                if chance.random() < 0.2:
                    await ann.draft("V1", {"remark": f"remark {chance.random()}"})
            match chance.randrange(3):
                case 0:
                    await api.stop()
                    await change(bob, "V2", mileage=next(numbers))
                    await api.start()
                case 1:
                    await api.kill()
                    await api.start()
            await within(table.flush())
            await within(table.reached((await ann.page())["metadata"]["position"]))
            view = {row["id"]: row["data"] for row in await ann.rows()}
            shown = await table.list()
            if shown != view:
                # One's own drafts are told four times a second at most.
                await within(told(table, Updated))
                shown = await table.list()
            assert shown == view
        await asyncio.gather(*looking)
        assert back == []
