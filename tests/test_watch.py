"""`vanguard watch`: what happens in all organizations, on a terminal, in a pipe, and while the database is away."""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import IO, Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.base.database import Database
from app.base.settings import Settings
from app.cli import main
from app.cli.watch import Follower, Found
from tests.support.children import VANGUARD, child
from tests.support.world import FLEET, SECRET, User, World, committed, vehicle

LIMIT = 30.0  # seconds
HOSTILE = "A\x1b[2J\x9b31m\u202eB\n"  # clears the screen, colours it, turns the line around, and begins another
SPELLED = r"A\x1b[2J\x9b31m\u202eB\n"

Child = subprocess.Popen[str]


@pytest.fixture
async def vans(world: World, ann: User) -> User:
    """Ann at the fleet of acme, which has no upstream."""
    await world.mirror({key: vehicle() for key in "ABCDE"}, contract=FLEET)
    return ann.on("fleet")


async def commit(user: User, *keys: str) -> None:
    """One event of these rows."""
    for key in keys:
        await user.draft(key, {"mileage": 7})
    await committed(user, *keys)


async def tell(world: World, **members: Any) -> None:
    """An entry as some transaction could have appended it."""
    entry = {"organization": "acme", "type": "pull", "dataset": "fleet", "actor": None, "ids": []} | members
    number = await world.db.fetchval(
        "INSERT INTO feed_counter AS c VALUES ($1, 1) ON CONFLICT (organization_id) DO UPDATE SET number = c.number + 1"
        " RETURNING number",
        entry["organization"],
    )
    await world.db.execute(
        "INSERT INTO feed (organization_id, number, at, type, dataset, actor, row_count, keys)"
        " VALUES ($1, $2, '2026-03-01T12:00:00Z', $3, $4, $5, cardinality($6::text[]), $6)",
        entry["organization"], number, entry["type"], entry["dataset"], entry["actor"], entry["ids"],
    )  # fmt: skip


def environment(url: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": url, "VANGUARD_SECRET": SECRET, "TERM": "xterm", "COLUMNS": "", "LINES": ""}


@contextmanager
def watching(url: str, *options: str) -> Iterator[Child]:
    """`vanguard watch` in a pipe, from the earliest event on."""
    pipe = subprocess.PIPE
    command = (*VANGUARD, "watch", "--since", "earliest", *options)
    with child(*command, stdout=pipe, stderr=pipe, env=environment(url)) as process:
        yield process


async def lines(process: Child, number: int) -> list[str]:
    """The next so many lines of its output."""
    assert process.stdout is not None
    return [await read_line(process.stdout) for _ in range(number)]


async def read_line(stream: IO[str]) -> str:
    return (await asyncio.wait_for(asyncio.to_thread(stream.readline), LIMIT)).rstrip("\n")


async def interrupted(process: Child) -> tuple[str, str]:
    """What it still says after Ctrl-C, which ends it well."""
    process.send_signal(signal.SIGINT)
    said, complained = await asyncio.to_thread(process.communicate, timeout=LIMIT)
    assert process.returncode == 0
    return said, complained


def followed(world: World, *organizations: str, earliest: bool = False) -> AsyncIterator[Found]:
    return Follower(world.runtime.database, organizations, earliest=earliest).follow()


def briefly(found: Found) -> list[tuple[str, int]]:
    return [(event.organization, event.number) for event in found.events]


# -- lines -------------------------------------------------------------------------------------------------------------


async def test_an_event_is_a_line_as_it_happens_and_ctrl_c_ends_it(world: World, vans: User, database_url: str) -> None:
    """In a pipe there are lines, at once; nothing is said of the interruption."""
    await commit(vans, "A")
    with watching(database_url) as process:
        (first,) = await lines(process, 1)
        assert first.startswith("2026-03-01T12:00:00.000Z  acme/fleet  commit  ann  1 row: A, revision ")
        await commit(vans, "B", "C", "D", "E")
        (second,) = await lines(process, 1)
        assert "  commit  ann  4 rows: B C D and 1 more, revision " in second
        assert await interrupted(process) == ("", "")


async def test_a_line_of_json_has_all_members(world: World, vans: User, database_url: str) -> None:
    await commit(vans, "A")
    with watching(database_url, "--json") as process:
        event = json.loads((await lines(process, 1))[0])
        assert {name: event[name] for name in ("organization", "number", "type", "dataset", "count", "ids")} == {
            "organization": "acme", "number": 1, "type": "commit", "dataset": "fleet", "count": 1, "ids": ["A"],
        }  # fmt: skip
        assert event["actor"] == {"id": "ann", "name": "ann"}
        assert await interrupted(process) == ("", "")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["acme pull fleet", "acme commit pfa", "acme commit fleet", "globex pull fleet"]),
        (["--org", "globex"], ["globex pull fleet"]),
        (["--org", "globex", "--org", "acme", "--dataset", "pfa"], ["acme commit pfa"]),
        (["--type", "pull"], ["acme pull fleet", "globex pull fleet"]),
        (["--user", "bob"], ["acme commit fleet"]),
        (["--user", "BOB@example.com", "--user", "a stranger"], ["acme commit pfa", "acme commit fleet"]),
    ],
)
async def test_filters_are_repeated_for_more_and_combined_for_less(
    world: World, ann: User, bob: User, database_url: str, options: list[str], shown: list[str]
) -> None:
    await world.organization("globex")
    await tell(world)
    await tell(world, type="commit", dataset="pfa", actor="a stranger")
    await tell(world, type="commit", actor=bob.id)
    await tell(world, organization="globex")
    await world.organization("the-last")
    with watching(database_url, "--json", *options) as process:
        found = [json.loads(each) for each in await lines(process, len(shown))]
        assert [f"{each['organization']} {each['type']} {each['dataset']}" for each in found] == shown
        assert await interrupted(process) == ("", "")


@pytest.mark.parametrize("option", ["--plain", "--json"])
async def test_nothing_that_a_terminal_obeys_gets_through(
    world: World, ann: User, database_url: str, option: str
) -> None:
    """Given a row's id and a name with control characters, when it is shown, then they are spelled out."""
    await world.db.execute("UPDATE account SET name = $1 WHERE id = 'ann'", HOSTILE)
    await tell(world, actor="ann", ids=[HOSTILE, "Überlänge 起重机"])
    with watching(database_url, option) as process:
        (line,) = await lines(process, 1)
        assert line.isprintable()
        if option == "--json":
            event = json.loads(line)
            assert (event["ids"], event["actor"]["name"]) == ([HOSTILE, "Überlänge 起重机"], HOSTILE)
        else:
            assert f"pull  {SPELLED}  2 rows: {SPELLED} Überlänge 起重机" in line
        await interrupted(process)


async def test_a_reader_that_has_enough_ends_it_without_a_traceback(world: World, ann: User, database_url: str) -> None:
    """As `| head -1` does."""
    await tell(world)
    with watching(database_url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        await lines(process, 1)
        process.stdout.close()
        await tell(world)
        await asyncio.to_thread(process.wait, LIMIT)
        assert process.stderr.read() == ""


def test_an_organization_that_there_is_not_is_said(database_url: str) -> None:
    answer = CliRunner(env=environment(database_url)).invoke(main, ["watch", "--org", "nowhere"])
    assert (answer.exit_code, answer.output) == (1, "There is nothing here: There is no organization nowhere.\n")


def test_drafts_cannot_be_watched(database_url: str) -> None:
    """They are private, and no entry of the feed."""
    answer = CliRunner(env=environment(database_url)).invoke(main, ["watch", "--type", "drafts"])
    assert answer.exit_code == 2
    assert "'drafts' is not one of" in answer.output


def test_a_database_that_is_away_from_the_beginning_is_an_error(database_url: str) -> None:
    nowhere = make_conninfo("", **conninfo_to_dict(database_url) | {"dbname": "nowhere"})
    url = f"postgresql:///?{'&'.join(nowhere.split())}"
    answer = CliRunner(env=environment(url)).invoke(main, ["watch"])
    assert answer.exit_code == 1
    assert answer.output.count("\n") == 1


# -- following ---------------------------------------------------------------------------------------------------------


async def test_it_begins_now_unless_it_is_told_otherwise(world: World, ann: User) -> None:
    await tell(world)
    seen = followed(world)
    assert briefly(await anext(seen)) == []
    await tell(world)
    assert briefly(await anext(seen)) == [("acme", 2)]
    assert briefly(await anext(seen)) == []


async def test_an_organization_of_later_is_seen_from_its_beginning(world: World) -> None:
    seen = followed(world)
    assert briefly(await anext(seen)) == []
    await world.organization("globex")
    await tell(world, organization="globex")
    assert briefly(await anext(seen)) == [("globex", 1)]


async def test_much_comes_in_parts_without_a_pause(world: World) -> None:
    await world.db.execute("INSERT INTO feed_counter VALUES ('acme', 2500)")
    await world.db.execute(
        "INSERT INTO feed (organization_id, number, at, type, dataset)"
        " SELECT 'acme', n, now(), 'pull', 'fleet' FROM generate_series(1, 2500) AS n"
    )
    seen = followed(world, earliest=True)
    parts = [await anext(seen) for _ in range(3)]
    assert [number for part in parts for _, number in briefly(part)] == list(range(1, 2501))
    assert [part.more for part in parts] == [True, True, False]


async def test_what_retention_took_first_is_told(world: World) -> None:
    await tell(world)
    seen = followed(world)
    await anext(seen)
    for _ in range(3):
        await tell(world)
    await world.db.execute("DELETE FROM feed WHERE number < 4")
    found = [await anext(seen), await anext(seen)]
    assert found[0].notes == ["acme: events were forgotten before they were read."]
    assert [briefly(each) for each in found] == [[], [("acme", 4)]]


async def test_a_restored_database_is_told(world: World) -> None:
    for _ in range(3):
        await tell(world)
    seen = followed(world)
    await anext(seen)
    await world.db.execute("DELETE FROM feed WHERE number = 3")
    await world.db.execute("UPDATE feed_counter SET number = 2")
    assert (await anext(seen)).notes == ["acme: the database was restored. What follows is of its new life."]
    await tell(world)
    assert briefly(await anext(seen)) == [("acme", 3)]


async def test_a_database_that_goes_away_is_waited_for(server_url: str, database_url: str) -> None:
    """Given a database that is called otherwise for a while, when it is back, then nothing is missing."""
    name = str(conninfo_to_dict(database_url)["dbname"])
    database = Database(Settings(database_url=database_url, secret=SECRET))
    await database.open()
    try:
        seen = Follower(database, [], earliest=False).follow()
        assert await anext(seen) == ([], [], False)
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            rename(server, name, f"{name}_away")
            assert (await anext(seen)).notes == ["The database is away. It is tried again."]
            rename(server, f"{name}_away", name)
        async with asyncio.timeout(LIMIT):
            while not (found := await anext(seen)).notes:
                pass
        assert found.notes == ["The database is there again."]
    finally:
        await database.close()


def rename(server: "psycopg.Connection[Any]", old: str, new: str) -> None:
    server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


# -- a terminal --------------------------------------------------------------------------------------------------------


@contextmanager
def terminal(url: str, *options: str) -> Iterator[tuple[Child, int]]:
    """`vanguard watch` on a terminal of 100 x 20, and the terminal's other end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 100, 0, 0))
    try:
        command = (*VANGUARD, "watch", "--since", "earliest", *options)
        with child(*command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(url)) as process:
            os.close(theirs)
            yield process, ours
    finally:
        os.close(ours)


async def shown(end: int, wanted: str) -> str:
    """What the terminal gets, until the text is among it."""
    text = b""
    async with asyncio.timeout(LIMIT):
        while wanted.encode() not in text:
            text += await asyncio.to_thread(os.read, end, 65536)
    return text.decode()


async def test_a_terminal_shows_the_newest_events_and_is_put_back(world: World, ann: User, database_url: str) -> None:
    """Another screen while it runs; what stood there before is there again afterwards."""
    await world.db.execute("UPDATE account SET name = $1 WHERE id = 'ann'", HOSTILE)
    for number in range(30):
        await tell(world, ids=[f"row-{number}"], actor="ann")
    with terminal(database_url) as (process, end):
        text = await shown(end, "row-29")
        assert text.startswith("\x1b[?1049h")
        assert "30 events  pull 30" in text
        assert "row-12 " not in text
        assert r"A\x1b[2J" in text
        assert "\x1b[2J" not in text.replace("\x1b[?1049h\x1b[H", "")
        assert "\x9b" not in text
        assert "\u202e" not in text
        await tell(world, type="commit", ids=["row-30"])
        assert "31 events  pull 30, commit 1" in await shown(end, "row-30")
        process.send_signal(signal.SIGINT)
        assert "\x1b[?1049l" in await shown(end, "\x1b[?25h")
        assert await asyncio.to_thread(process.wait, LIMIT) == 0


async def test_plain_means_lines_on_a_terminal_too(world: World, ann: User, database_url: str) -> None:
    await tell(world, ids=["row-1"])
    with terminal(database_url, "--plain") as (process, end):
        text = await shown(end, "row-1")
        assert "\x1b" not in text
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, LIMIT) == 0
