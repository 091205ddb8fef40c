"""Turns: few at a time, a short queue, and nobody takes it from the others."""

import asyncio
from collections import Counter as Counts
from collections.abc import Iterator
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram

from app.base.turns import Full, Lanes, Turns

REGISTRY = CollectorRegistry()
QUEUED = Gauge("queued", "Who waits", registry=REGISTRY)
WAITED = Histogram("waited", "How long", registry=REGISTRY)


@pytest.fixture
def turns() -> Iterator[Turns]:
    """Two at a time, and six who wait."""
    made = Turns(2, 6, queued=QUEUED, waited=WAITED)
    yield made
    made.close()


class Hall:
    """People who want a turn, in which order they got it, and who was told that the queue is full."""

    def __init__(self, turns: Turns):
        self.turns = turns
        self.served: list[str] = []
        self.refused: list[str] = []
        self.leave = asyncio.Event()
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str, at_home: bool = False) -> None:
        """Somebody called `address/account/number` comes, and the others after them."""
        for name in names:
            self.tasks[name] = asyncio.ensure_future(self._wait(name, at_home))
            await self.settle()

    async def over(self) -> None:
        """Everybody leaves when they have had their turn."""
        self.leave.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def settle(self) -> None:
        """Let everybody do what they can."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _wait(self, name: str, at_home: bool) -> None:
        address, account, _ = name.split("/")
        try:
            async with self.turns.turn(address, account, at_home=at_home):
                self.served.append(name)
                await self.leave.wait()
        except Full:
            self.refused.append(name)


async def test_turns_go_round_addresses_and_their_accounts(turns: Turns) -> None:
    hall = Hall(turns)
    await hall.come("x/x/1", "x/x/2")
    await hall.come("a/one/1", "a/one/2", "a/two/1", "b/one/1", "c/one/1")
    assert REGISTRY.get_sample_value("queued") == turns.waiting == 5
    await hall.over()
    assert hall.served[2:] == ["a/one/1", "b/one/1", "c/one/1", "a/two/1", "a/one/2"]
    assert REGISTRY.get_sample_value("queued") == turns.waiting == 0


async def test_who_is_at_home_has_every_second_turn(turns: Turns) -> None:
    hall = Hall(turns)
    await hall.come("x/x/1", "x/x/2")
    await hall.come("a/a/1", "b/b/1", "c/c/1")
    await hall.come("h/ann/1", "h/bob/1", "h/ann/2", at_home=True)
    await hall.over()
    assert hall.served[2:] == ["h/ann/1", "a/a/1", "h/bob/1", "b/b/1", "h/ann/2", "c/c/1"]


async def test_a_turn_is_kept_for_who_is_at_home() -> None:
    """Strangers never have the last one, and have their turns even while many at home come."""
    turns = Turns(2, 6, kept=1, queued=QUEUED, waited=WAITED)
    hall = Hall(turns)
    await hall.come("a/a/1", "b/b/1", "c/c/1")
    assert hall.served == ["a/a/1"]
    await hall.come("h/ann/1", at_home=True)
    assert hall.served == ["a/a/1", "h/ann/1"], "at once"
    await hall.come("h/bob/1", "h/cid/1", "h/dan/1", at_home=True)
    await hall.over()
    assert hall.served[2:] == ["h/bob/1", "b/b/1", "h/cid/1", "c/c/1", "h/dan/1"]
    assert (turns.waiting, turns._free) == (0, 2)
    turns.close()


async def test_a_full_queue_takes_from_whoever_has_most(turns: Turns) -> None:
    hall = Hall(turns)
    await hall.come("x/x/1", "x/x/2")
    await hall.come(*(f"a/one/{n}" for n in range(1, 9)))
    assert hall.refused == ["a/one/7", "a/one/8"], "six wait"
    await hall.come("a/two/1")
    assert hall.refused[2:] == ["a/one/6"], "accounts of one address share what it has"
    await hall.come("b/one/1", "b/one/2", "b/one/3")
    assert hall.refused[3:] == ["a/one/5", "a/one/4", "a/one/3"]
    await hall.come("b/one/4", "a/one/9")
    assert hall.refused[6:] == ["b/one/4", "a/one/9"], "both have three"
    assert not turns.has_room("b", "one")
    assert turns.has_room("c", "one")
    await hall.over()
    assert len(hall.served) == 8


async def test_one_each_is_nobodys_to_take(turns: Turns) -> None:
    hall = Hall(turns)
    await hall.come("x/x/1", "x/x/2", *(f"{address}/a/1" for address in "abcdef"))
    await hall.come("g/a/1")
    assert hall.refused == ["g/a/1"]
    assert not turns.has_room("g", "a")
    await hall.come("h/ann/1", at_home=True)
    assert hall.refused == ["g/a/1"], "who is at home has a queue of their own"
    await hall.over()


async def test_whoever_leaves_takes_no_turn(turns: Turns) -> None:
    """While they wait, when it is just theirs, and both at once."""
    hall = Hall(turns)
    await hall.come("x/x/1", "x/x/2", "a/a/1", "b/b/1", "c/c/1")
    hall.tasks["a/a/1"].cancel()
    await hall.settle()
    assert turns.waiting == 2
    # A turn comes free, and whose it is leaves before they know.
    hall.tasks["x/x/1"].cancel()
    await asyncio.sleep(0)
    hall.tasks["b/b/1"].cancel()
    await hall.settle()
    assert hall.served == ["x/x/1", "x/x/2", "c/c/1"]
    await hall.over()
    assert (turns.waiting, turns._free) == (0, 2)


async def test_a_turn_ends_with_its_work(turns: Turns) -> None:
    """Given work that cannot be broken off, when who asked for it leaves, then the turn is not free before it ends."""
    begun, ended = Event(), Event()

    def work() -> None:
        begun.set()
        assert ended.wait(60)
        raise ValueError("nobody hears of it")

    async def ask() -> None:
        async with turns.turn("a", "a", at_home=False) as run:
            await run(work)

    asked = asyncio.ensure_future(ask())
    assert await asyncio.to_thread(begun.wait, 60)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert turns._free == 1
    ended.set()
    async with asyncio.timeout(60):
        while turns._free < 2:  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.001)


async def test_work_that_fails_gives_its_turn_back(turns: Turns) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with turns.turn("a", "a", at_home=False) as run:
                await run(divmod, 1, 0)
    assert turns._free == 2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(["come", "next"])), max_size=40)
)
def test_lanes_keep_count_and_share(steps: list[tuple[str, str, str]]) -> None:
    """Whatever comes and goes: no more than may wait, everybody who left is gone, and nobody is refused while another
    address has two more than they.
    """

    async def play() -> None:
        lanes, standing = Lanes(4), dict[asyncio.Future[None], tuple[str, str]]()
        for address, account, what in steps:
            if what == "next":
                place = lanes.next()
                assert (place is None) == (not standing)
                if place is not None:
                    del standing[place]
                continue
            counts = Counts(each for each, _ in standing.values())
            room = lanes.has_room(address, account)
            try:
                place = lanes.enter(address, account)
            except Full:
                assert not room
                assert len(standing) == 4
                assert max(counts.values()) <= counts[address] + 1
                continue
            assert room
            gone = [each for each in standing if each.done()]
            for each in gone:
                assert isinstance(each.exception(), Full)
                assert counts[standing[each][0]] >= counts[address]
                del standing[each]
            standing[place] = (address, account)
            assert lanes.size == len(standing) <= 4

    asyncio.run(play())
