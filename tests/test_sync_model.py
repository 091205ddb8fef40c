r"""Synchronization against what has to hold in the end, whatever happened: random edits on both sides, and faults.

Stories are made of seeds: the run of CI is short and always the same. To search further:

    VANGUARD_MODEL_EXAMPLES=2000 VANGUARD_MODEL_FIRST=15 \
        python -m pytest --timeout=0 -o faulthandler_timeout=0 tests/test_sync_model.py
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import stamina
import structlog

from app.base import exact_json
from app.upstream.protocol import Failed, OutcomeUnknown, Refused, Unavailable
from app.worker.guards import Shares
from app.worker.pull import pull
from app.worker.push import push
from tests.support.ledger import Ledger
from tests.support.memory import Memory
from tests.support.syncing import Yard, open_yard, van

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

WANTED = int(os.environ.get("VANGUARD_MODEL_EXAMPLES", "0"))
FIRST = int(os.environ.get("VANGUARD_MODEL_FIRST", "0"))
KEYS = ("A", "B", "C")
NAMES = ("ann", "bob")
CELLS = ("mileage", "remark", "seats")


# -- what happens ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """Somebody drafts: cells of a row, a new row, a deletion."""

    user: str
    key: str
    op: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commit:
    """Somebody commits all; where it conflicts, once more with this resolution."""

    user: str
    use: str | None


@dataclass(frozen=True)
class Discard:
    """Somebody discards all."""

    user: str


@dataclass(frozen=True)
class Theirs:
    """Somebody upstream writes a cell (the row comes into being where it is not there), or deletes a row."""

    key: str
    cell: str | None


@dataclass(frozen=True)
class Sync:
    """A pull or a push, with a failure at one of upstream's methods, and something that happens in the middle."""

    job: str
    trouble: tuple[str, str] | None = None
    middle: tuple[str, str, tuple[Any, ...]] | None = None
    later: int = 0


Step = Draft | Commit | Discard | Theirs | Sync


@dataclass(frozen=True)
class Story:
    """What happens, in order; `trims`: upstream trims the texts that it is given."""

    steps: list[Step] = field(default_factory=list)
    trims: bool = False


class Teller:
    """Invents stories, the same for a seed. Weighted by hand, so that edits meet runs, and runs meet trouble."""

    def __init__(self, seed: int):
        self.random = Random(seed)

    def story(self) -> Story:
        """A dozen or two of chunks."""
        chunks = [self.chunk() for _ in range(self.random.randint(8, 20))]
        return Story([step for chunk in chunks for step in chunk], trims=self.random.random() < 0.3)

    def chunk(self) -> tuple[Step, ...]:
        (make,) = self.random.choices((self.acts, lambda: (self.push(),), lambda: (self.pull(),)), (5, 3, 2))
        return make()

    def acts(self) -> tuple[Step, ...]:
        user, use = self.random.choice(NAMES), self.random.choice((None, "mine", "theirs"))
        (kind,) = self.random.choices(("edit", "draft", "commit", "discard", "theirs"), (6, 1, 1, 1, 4))
        match kind:
            case "edit":
                return self.draft(user), Commit(user, use)
            case "draft":
                return (self.draft(user),)
            case "commit":
                return (Commit(user, use),)
            case "discard":
                return (Discard(user),)
        return (Theirs(self.random.choice(KEYS), self.random.choice((*CELLS, *CELLS, None))),)

    def draft(self, user: str) -> Draft:
        (op,) = self.random.choices(("update", "insert", "delete"), (6, 2, 1))
        keys = ("new", "new", "A") if op == "insert" else (*KEYS, *KEYS, "new")
        cells = self.random.sample(CELLS, self.random.randint(1, 2)) if op == "update" else []
        return Draft(user, self.random.choice(keys), op, tuple(cells))

    def push(self) -> Sync:
        trouble = self.random.choice(
            (None, None, ("write", "lost"), ("write", "lost"), ("write", "unknown"), ("write", "refused"),
             ("write", "failed"), ("hold", "unavailable"), ("read", "failed"), ("find_created", "failed"))
        )  # fmt: skip
        return Sync(
            "push", trouble, self.middle(("hold", "write", "read", "find_created"), ("pull", "whole")), self.wait()
        )

    def pull(self) -> Sync:
        return Sync(self.random.choice(("pull", "whole")), None, self.middle(("page",), ("push",)), self.wait())

    def middle(self, methods: tuple[str, ...], jobs: tuple[str, ...]) -> tuple[str, str, tuple[Step, ...]] | None:
        if self.random.random() < 0.4:
            return None
        inner = (Sync(self.random.choice(jobs)),) if self.random.random() < 0.5 else self.acts()
        return self.random.choice(("before", "after")), self.random.choice(methods), inner

    def wait(self) -> int:
        return self.random.choice((0, 0, 5, 130, 700))


# -- the comparison ----------------------------------------------------------------------------------------------------


class Telling:
    """A story as it is told to the application and to a ledger. No value is written twice: each can be counted."""

    def __init__(self, yard: Yard, story: Story):
        self.yard, self.story, self.ledger, self.number = yard, story, yard.ledger, 0
        self.memory = Memory(each_time=6)

    async def run(self) -> None:
        """Tell it, heal everything, wait until all is quiet, and look."""
        await self.clean()
        for step in self.story.steps:
            await self.take(step)
        await self.heal()
        await self.look()

    async def clean(self) -> None:
        await self.yard.world.db.execute(
            "DELETE FROM fleet.mirror; DELETE FROM fleet.modification; DELETE FROM fleet.change;"
            "DELETE FROM fleet.history; DELETE FROM fleet.pulled; DELETE FROM sync_run; DELETE FROM quarantine;"
            "DELETE FROM synchronization; UPDATE workspace SET revision = revision + 1;"
            "UPDATE dataset SET revision = revision + 1, unrecorded = revision + 1"
        )
        fresh = Ledger("plate", {key: van(mileage=1, remark="old") for key in KEYS}, page_size=2)
        fresh.at = self.yard.world.clock()
        fresh.marks = dict.fromkeys(fresh.rows, fresh.at)
        self.ledger.__dict__.update(fresh.__dict__)
        if self.story.trims:
            self.ledger.normalize = lambda fields: {
                name: value.strip() if isinstance(value, str) else value for name, value in fields.items()
            }
        self.yard.worker = self.yard.new_worker()
        await self.yard.work()

    # --- steps

    async def take(self, step: Step) -> None:
        await self.carry_out(step)
        # Whatever tag somebody has from before, in the middle of a run too, stands for what it was seen with.
        await self.memory.look(*self.yard.users.values())

    async def carry_out(self, step: Step) -> None:
        user = self.yard.users[step.user] if isinstance(step, Draft | Commit | Discard) else None
        match step:
            case Draft():
                assert user is not None
                draft: dict[str, Any] = {"id": step.key, "op": step.op}
                if step.op == "update":
                    draft["delta"] = {cell: self.value(cell) for cell in step.cells}
                elif step.op == "insert":
                    draft["delta"] = {"depot": "South", "kind": "Van", "mileage": self.value("mileage")}
                response = await user.post("drafts", {"modifications": [draft]})
                assert response.status_code in (200, 422), response.text
            case Commit():
                assert user is not None
                response = await user.commit()
                if response.status_code == 409 and step.use:
                    conflicts = exact_json.decode(response.content)["conflicts"]
                    wanted = [{"id": each["id"], "field": each["field"], "use": step.use} for each in conflicts]
                    response = await user.commit(resolutions=wanted)
                assert response.status_code in (200, 404, 409, 422), response.text
            case Discard():
                assert user is not None
                assert (await user.discard()).status_code in (200, 404)
            case Theirs():
                self.edit(step.key, step.cell)
            case Sync():
                await self.sync(step)

    def edit(self, key: str, cell: str | None) -> None:
        self.ledger.at = self.yard.world.clock()
        if cell is not None:
            fields = {} if key in self.ledger.rows else van()
            self.ledger.put(key, **fields | {cell: self.value(cell)})
        elif key in self.ledger.rows:
            self.ledger.remove(key)

    def value(self, cell: str) -> Any:
        """One that nobody wrote before; seats are few, and written again."""
        self.number += 1
        return {"mileage": 1000 + self.number, "remark": f" r{self.number} ", "seats": self.number % 4}[cell]

    async def sync(self, step: Sync) -> None:
        yard, ledger = self.yard, self.ledger
        yard.world.clock.move(seconds=1 + step.later)
        ledger.at = yard.world.clock()
        if step.trouble:
            method, kind = step.trouble
            if kind == "lost":
                ledger.lost = 1
            elif method == "write" or kind in ("failed", "unavailable"):
                ledger.failures[method] = [ERRORS[kind]()]
        if step.middle:
            place, method, inner = step.middle
            hooks = ledger.before if place == "before" else ledger.after
            hooks[method] = [self.telling(inner)]
        await self.work(step.job)
        ledger.before.clear()
        ledger.after.clear()
        ledger.failures.clear()
        ledger.lost = 0

    def telling(self, steps: tuple[Step, ...]) -> Callable[[], Awaitable[None]]:
        async def hook() -> None:
            for step in steps:
                await (self.work(step.job) if isinstance(step, Sync) else self.take(step))
            await self.memory.look(*self.yard.users.values())

        return hook

    async def work(self, job: str) -> None:
        yard = self.yard
        if job == "push":
            await push(yard.database, yard.target, yard.read_clock, lambda: 1.0, asyncio.Event())
            return
        if job == "whole":
            await yard.world.db.execute("UPDATE synchronization SET pulled_whole_at = NULL")
        await pull(yard.database, yard.target, yard.read_clock, asyncio.Event())

    # --- the end

    async def heal(self) -> None:
        for _ in range(15):
            await self.yard.later(minutes=7)
        await self.yard.later(days=1)

    async def look(self) -> None:
        await self.yard.check()
        assert await self.yard.mirror() == self.ledger.rows
        changes = [dict(row) for row in await self.yard.world.db.fetch("SELECT * FROM fleet.change ORDER BY id")]
        for change in changes:
            change["delta"] = exact_json.decode(change["delta"])
            self.check_change(change, changes)
        for op, key, fields in self.ledger.writes:
            assert any(
                change["row_key"] == key
                and fields.items() <= change["delta"].items()
                and op in (change["op"], "update")
                for change in changes
            ), (op, key, fields)
        await self.check_history()
        created = [key for op, key, _ in self.ledger.writes if op == "insert" and key.startswith("L-")]
        synced = [change["row_key"] for change in changes if change["temporary_key"] and change["state"] == "synced"]
        assert sorted(created) == sorted(synced)

    async def check_history(self) -> None:
        """The mirror never goes back: no value comes twice into a row that was there all the while."""
        entries = await self.yard.world.db.fetch("SELECT row_key, op, after FROM fleet.history ORDER BY revision")
        gone = {entry["row_key"] for entry in entries if entry["op"] == "delete"}
        seen = set()
        for entry in entries:
            if entry["row_key"] not in gone:
                after = exact_json.decode(entry["after"])
                for cell in after.keys() & {"mileage", "remark"}:
                    assert (entry["row_key"], cell, after[cell]) not in seen, (entry["row_key"], cell, after[cell])
                    seen.add((entry["row_key"], cell, after[cell]))

    def check_change(self, change: dict[str, Any], changes: list[dict[str, Any]]) -> None:
        """Over, or with a person; and what was synced was written once."""
        refused = {
            other["row_key"] for other in changes
            if other["id"] < change["id"] and other["state"] in ("conflict", "sync_error")
        }  # fmt: skip
        match change["state"]:
            case "synced":
                for cell in change["delta"].keys() & {"mileage", "remark"}:
                    times = [
                        key for _, key, fields in self.ledger.writes
                        if cell in fields and fields[cell] == change["delta"][cell]
                    ]  # fmt: skip
                    assert times == [change["row_key"]], (change, cell)
            case "conflict" | "sync_error":
                assert change["last_error"], change
            case "committed":
                assert change["row_key"] in refused, change
            case state:
                assert state in ("rejected", "discarded"), change


ERRORS: dict[str, Callable[[], Exception]] = {
    "failed": lambda: Failed("500"),
    "unavailable": lambda: Unavailable("Nobody is there"),
    "refused": lambda: Refused("No"),
    "unknown": lambda: OutcomeUnknown("No answer"),
}


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """Two people, and a ledger that each story fills anew."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with stamina.set_testing(True, attempts=100, cap=True):
        async with open_yard(database_url, Ledger("plate"), shares=Shares(deletions=1.0)) as yard:
            for name in NAMES:
                await yard.user(name)
            yield yard


async def test_whatever_happened_both_sides_agree_in_the_end(yard: Yard) -> None:
    for seed in range(WANTED or 15):
        story = Teller(seed + FIRST).story()
        try:
            await Telling(yard, story).run()
        except AssertionError as surprise:
            surprise.add_note(f"seed {seed + FIRST}: {story}")
            raise
