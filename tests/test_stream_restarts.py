"""Streams of real processes that are told to stop, or are killed: they end with a word, and whoever comes back to
another process goes on where they were.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import httpx
import pytest

from app.base import clock
from tests.support.children import VANGUARD, child
from tests.support.feed import happened, now, number, public, save
from tests.support.streams import LIMIT, Follower, Stream, free_port, until_ready
from tests.support.world import FLEET, SECRET, User, World, vehicle
from tests.test_streams import tell

SECONDS = 8.0  # within which a process that is told to stop is gone


@pytest.fixture
async def ann(world: World) -> User:
    """An analyst of a fleet of five vans, at the time of other processes."""
    world.clock.at = clock.now()
    await world.mirror({key: vehicle() for key in "ABCDE"}, contract=FLEET)
    return (await world.user("ann")).on("fleet")


async def commit(user: User, key: str, mileage: int) -> int:
    """A commit; the number of its event."""
    return number((await save(user, key, mileage=mileage))["position"])


async def follower(world: World, name: str) -> Follower:
    """Somebody who wants all that happens from now on."""
    user = await world.user(name)
    return Follower(user, await now(user))


@contextmanager
def process(url: str, port: int, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """`vanguard serve` at the port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VANGUARD_")}
    environment |= {"DATABASE_URL": url, "VANGUARD_SECRET": SECRET, "VANGUARD_PORT": str(port), **settings}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with child(*VANGUARD, "serve", env=environment, start_new_session=True, **quiet) as started:
        yield started


@asynccontextmanager
async def client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever asks at the port."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT) as http:
        yield http


async def gone(started: "subprocess.Popen[str]") -> int:
    """Its status, once it has ended."""
    return await asyncio.to_thread(started.wait, LIMIT)


@pytest.mark.timed
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_process_that_is_told_to_stop_ends_its_streams(
    database_url: str, world: World, ann: User, workers: str
) -> None:
    """Each with a word; and it is gone at once."""
    port, path = free_port(), "/api/v1/orgs/acme/events"
    headers = {"Authorization": f"Bearer {ann.token}"}
    with process(database_url, port, VANGUARD_WORKERS=workers) as started:
        async with client(port) as http, AsyncExitStack() as stack:
            await until_ready(http)
            answers = [await stack.enter_async_context(http.stream("GET", path, headers=headers)) for _ in range(6)]
            streams = [Stream(response) for response in answers]
            for stream in streams:
                assert await stream.until_up_to_date() == []
            for _ in range(20):
                await tell(world, "pull", 20, filling="x" * 20_000)
                for stream in streams:
                    await stream.events(20)
            began = time.monotonic()
            started.send_signal(signal.SIGTERM)
            assert [await stream.ended() for stream in streams] == ["shutdown"] * 6
            assert await gone(started) == 0
            assert time.monotonic() - began < SECONDS


async def test_a_process_that_is_killed_and_one_that_takes_its_place(
    database_url: str, world: World, ann: User
) -> None:
    """Given a reader while others write, when the process is killed, twice, then nothing is missing or twice."""
    port, reader = free_port(), await follower(world, "reader")
    for each in range(2):
        with process(database_url, port) as started:
            async with client(port) as http:
                await until_ready(http)
                listening = asyncio.create_task(reader.listen(http))
                for turn in range(5):
                    last = await commit(ann, "A", 100 * each + turn)
                await reader.until(last)
                os.killpg(started.pid, signal.SIGKILL)
                assert await listening is None
        last = await commit(ann, "B", each)
    with process(database_url, port):
        async with client(port) as http:
            await until_ready(http)
            listening = asyncio.create_task(reader.listen(http))
            await reader.until(last)
            listening.cancel()
    assert reader.events == await happened(reader.user)
    assert len(reader.events) == 12


async def test_two_processes_that_are_replaced_in_turn(database_url: str, world: World, ann: User) -> None:
    """Given readers that go to the other process when one stops, then their story has no gap and never goes back."""
    ports = [free_port(), free_port()]
    readers = [await follower(world, f"r{each}") for each in range(4)]
    writing = True

    async def write() -> None:
        mileage = 0
        while writing:
            mileage += 1
            await commit(ann, "A", mileage)

    async with AsyncExitStack() as stack:
        https = [await stack.enter_async_context(client(port)) for port in ports]
        servers = [stack.enter_context(process(database_url, port)) for port in ports]
        for http in https:
            await until_ready(http)

        async def follow(place: int) -> None:
            for each in itertools.count(place):
                await readers[place].listen(https[each % 2])

        tasks = [asyncio.create_task(work) for work in (write(), *map(follow, range(4)))]
        for place in (0, 1):
            servers[place].send_signal(signal.SIGTERM)
            assert await gone(servers[place]) == 0
            # They have heard something of the other one before that is replaced.
            written = number(await now(ann))
            await asyncio.gather(*(reader.until(written) for reader in readers))
            servers[place] = stack.enter_context(process(database_url, ports[place]))
            await until_ready(https[place])
        writing = False
        await tasks[0]
        last = await commit(ann, "B", 1)
        await asyncio.gather(*(reader.until(last) for reader in readers))
        for task in tasks:
            task.cancel()
    story = [event["revision"] for event in public(await happened(ann))]
    assert story == [*range(1, len(story) + 1)]
    for reader in readers:
        assert [event["revision"] for event in reader.events] == story
        assert reader.connections > 1
