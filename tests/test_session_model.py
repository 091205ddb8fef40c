"""Edit sessions against their model (session_model.py): edits, undo, redo, expiry and abort among drafts outside,
commits of others and pulls: the same answers, rows, pages, totals and KPIs.

The machinery is that of test_model.py, and so are its environment variables:

    VANGUARD_MODEL_EXAMPLES=5000 python -m pytest --timeout=0 -o faulthandler_timeout=0 tests/test_session_model.py -x
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import PFA, Contract
from app.engine.desk import Desk
from app.engine.modifications import fold, image
from app.web.auth import Role
from tests.support.memory import Memory
from tests.support.model import Document, Model, Refused, shown
from tests.support.session_model import Session, SessionModel, Turned
from tests.support.world import FLEET, User, World
from tests.test_kpi_model import Ask, KpiComparison, Pull, Refresh
from tests.test_model import SEATS, Commit, Comparison, Discard, List, Save, Story, answered, examples, refuses

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

YEARS = 10 * 365 * 86400  # seconds: clocks move on through all examples


Choice = TypeVar("Choice")


# -- what happens ------------------------------------------------------------------------------------------------------

# Which session a step names: how many of the user's open ones (of all, where none is open) were begun later, at most; a
# word of the client's, or none.
Place = int | str | None


@dataclass(frozen=True)
class Begin:
    """A session of these rows, or of all."""

    seat: int
    rows: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Edit:
    """Cell edits of a session: (key, field, value)."""

    seat: int
    place: int
    cells: tuple[tuple[str, str, Any], ...]
    group: str | None = None


@dataclass(frozen=True)
class SaveIn(Save):
    """Drafts that may name a session."""

    place: Place = None
    partial: str = "rows"
    drop_equal: bool = False
    group: str | None = None


@dataclass(frozen=True)
class CommitIn(Commit):
    """A commit of a session's rows."""

    place: Place = None


@dataclass(frozen=True)
class DiscardIn(Discard):
    """A discard of a session's rows."""

    place: Place = None


@dataclass(frozen=True)
class Turn:
    """An undo, or a redo, in a session or outside."""

    seat: int
    place: int | None = None
    back: bool = True


@dataclass(frozen=True)
class Extend:
    """A session gets more time."""

    seat: int
    place: int = 0


@dataclass(frozen=True)
class Abort:
    """A session ends."""

    seat: int
    place: int = 0


@dataclass(frozen=True)
class Wait:
    """Time goes by."""

    hours: int


@dataclass(frozen=True)
class CleanUp:
    """An operator ends the sessions whose time is over."""


@dataclass(frozen=True)
class Review:
    """What somebody has on its way waits for a reviewer."""

    seat: int
    key: str


# -- the comparison ----------------------------------------------------------------------------------------------------


class SessionComparison(KpiComparison):
    """The application and its model; every step takes a second."""

    def __init__(self, world: World, contract: Contract, users: Sequence[User], story: Story):
        super().__init__(world, contract, users, story)
        self.models = {
            organization: SessionModel(contract, model.mirror, world.clock)
            for organization, model in self.models.items()
        }
        self.memory = Memory(each_time=1)

    async def take(self, step: Any) -> None:
        self.world.clock.move(seconds=1)
        match step:
            case Begin():
                await self.begin_session(step)
            case Edit():
                await self.edit(step)
            case Turn():
                await self.turn(step)
            case Extend():
                await self.extend(step)
            case Abort():
                await self.abort(step)
            case Wait():
                self.world.clock.move(hours=step.hours)
            case CleanUp():
                await self.clean_up()
            case Review():
                await self.review(step)
            case _:
                await super().take(step)
                if isinstance(step, Pull):
                    await self.look_around()

    def model_of(self, seat: int) -> tuple[User, SessionModel]:
        """Who sits there, before which model."""
        model = self.models[SEATS[seat][0]]
        assert isinstance(model, SessionModel)
        return self.users[seat], model

    def named(self, seat: int, place: Place) -> str | None:
        """The session, or the word, that stands at a place."""
        user, model = self.model_of(seat)
        if not isinstance(place, int):
            return place
        mine = [session for session in model.sessions.values() if session.user == user.id]
        mine = [session for session in mine if model.status(session) == "active"] or mine
        return mine[-1 - min(place, len(mine) - 1)].id if mine else "none"

    def manner(self, step: Save) -> tuple[Document, Document]:
        if not isinstance(step, SaveIn):
            return {}, {}
        word = self.named(step.seat, step.place)
        named = {"sessionId": word} if word else {}
        grouped = {"undoGroup": step.group} if step.group else {}
        how = {"partial": step.partial, "dropEqual": step.drop_equal, **named, **grouped}
        return how, {"word": word, "partial": step.partial, "drop_equal": step.drop_equal, "group": step.group}

    def selection(self, step: Commit | Discard) -> tuple[Document, Document]:
        if isinstance(step, CommitIn | DiscardIn) and step.place is not None:
            word = self.named(step.seat, step.place)
            return {"sessionId": word}, {"word": word}
        return super().selection(step)

    # -- steps --------------------------------------------------------------------------------------------------------

    async def begin_session(self, step: Begin) -> None:
        user, model = self.model_of(step.seat)
        mode = {"mode": "full_table"} if step.rows is None else {"mode": "row_selection", "rows": step.rows}
        response = await user.post("sessions", mode)
        begun = exact_json.decode(response.content)
        try:
            model.begin(user.id, begun.get("id", ""), step.rows)
        except Refused as refused:
            refuses(response, refused)
            return
        assert response.status_code == 201, response.text
        assert begun["rows"] == list(dict.fromkeys(step.rows or ()))
        chosen = [row for row in model.listing(user.id, [("sort", "id")]) if not step.rows or row["id"] in step.rows]
        assert [row["id"] for row in begun["sampleRows"]] == [row["id"] for row in chosen]
        await self.look(step.seat)

    async def edit(self, step: Edit) -> None:
        user, model = self.model_of(step.seat)
        sid = self.named(step.seat, step.place)
        path = f"sessions/{sid}/edits"
        wanted = [{"id": key, "field": name, "value": value} for key, name, value in step.cells]
        if len(wanted) == 1 and step.group is None:
            response = await user.post(path, wanted[0])
        else:
            grouped = {"undoGroup": step.group} if step.group else {}
            response = await user.post(f"{path}/batch", {"edits": wanted, **grouped})
        try:
            results = model.edit(user.id, sid or "", step.cells, step.group)
        except Refused as refused:
            refuses(response, refused)
        else:
            answer = answered(response)
            told = answer.get("results", [answer])
            for one, result in zip(told, results, strict=True):
                assert shown({name: one[name] for name in result}) == shown(result)
        await self.look(step.seat)

    async def turn(self, step: Turn) -> None:
        user, model = self.model_of(step.seat)
        sid = self.named(step.seat, step.place)
        way = "undo" if step.back else "redo"
        response = await user.post(f"sessions/{sid}/{way}" if sid else f"drafts/{way}", {})
        try:
            turned = model.turn_last(user.id, sid, back=step.back)
        except Refused as refused:
            refuses(response, refused)
        else:
            self.same_turn(answered(response), turned)
        await self.look(step.seat)

    @staticmethod
    def same_turn(answer: Document, turned: Turned) -> None:
        assert (answer["steps"], answer["ids"]) == (turned.steps, turned.keys)
        told = sorted((one["id"], one["field"] or "", one["code"]) for one in answer["skipped"])
        assert told == sorted((key, name or "", code) for key, name, code in turned.skipped)

    async def extend(self, step: Extend) -> None:
        user, model = self.model_of(step.seat)
        sid = self.named(step.seat, step.place)
        response = await user.post(f"sessions/{sid}/extend", {})
        try:
            model.extend(user.id, sid or "")
        except Refused as refused:
            refuses(response, refused)
        else:
            answered(response)
        await self.look(step.seat)

    async def abort(self, step: Abort) -> None:
        user, model = self.model_of(step.seat)
        sid = self.named(step.seat, step.place)
        response = await user.request("DELETE", f"sessions/{sid}")
        try:
            turned = model.abort(user.id, sid or "")
        except Refused as refused:
            refuses(response, refused)
        else:
            self.same_turn(answered(response), turned)
        await self.look(step.seat)

    async def clean_up(self) -> None:
        operator = self.users[-1]
        answer = answered(await operator.post("/api/v1/admin/sessions/cleanup", {}))
        ended = [model.clean_up() for model in self.models.values() if isinstance(model, SessionModel)]
        assert answer == {"expired": sum(one for one, _ in ended), "removed": sum(other for _, other in ended)}
        await self.look_around()

    async def review(self, step: Review) -> None:
        user, model = self.model_of(step.seat)
        schema = self.contract.schema
        waiting = [change for change in model.changes if (change.user, change.key) == (user.id, step.key)]
        for change in waiting:
            change.state = "in_review"
        if not waiting:
            return
        await self.world.db.execute(
            f"UPDATE {schema}.change SET state = 'in_review'"
            " WHERE organization_id = $1 AND user_id = $2 AND row_key = $3 AND state = 'committed'",
            user.organization, user.id, step.key,
        )  # fmt: skip
        async with self.world.runtime.database.transaction() as connection:
            desk = Desk(connection, self.contract, user.organization)
            await fold(desk, None, [step.key])
            await image(desk, None, [step.key])
        for name, space in model.workspaces.items():
            if step.key in space.drafts:
                model.look(name, step.key)
        await self.look_around()

    # -- looking around -----------------------------------------------------------------------------------------------

    async def look_around(self) -> None:
        """Everybody."""
        for seat in range(len(SEATS)):
            await self.look(seat)

    async def look(self, seat: int) -> None:
        """The user's modifications, rows, figures and sessions."""
        await Comparison.look(self, seat)
        await self.ask(Ask(seat))
        await self.look_at_sessions(seat)

    async def look_at_sessions(self, seat: int) -> None:
        """The user's sessions are as the model has them."""
        user, model = self.model_of(seat)
        found = {one["id"]: one for one in answered(await user.get("sessions", {"limit": 200}))["data"]}
        mine = {session.id: session for session in model.sessions.values() if session.user == user.id}
        assert found.keys() == mine.keys()
        for sid, session in mine.items():
            assert (found[sid]["status"], found[sid]["edits"]) == (model.status(session), len(session.log))
            if session.log:
                await self.look_at_log(user, session)

    async def look_at_log(self, user: User, session: Session) -> None:
        """The session's log is as the model has it."""
        answer = answered(await user.get(f"sessions/{session.id}/edits", {"limit": 200}))
        names = ("id", "field", "value", "oldValue", "status", "state")
        told = [[shown(one[name]) for name in names] for one in answer["data"]]
        logged = [(one.key, one.name, one.value, one.old, one.status, one.step.state) for one in session.log]
        assert told == [list(map(shown, one)) for one in logged]

    def compare(self, model: Model, found: Document, row: Document) -> None:
        super().compare(model, found, row)
        assert found["sessionId"] == row["sessionId"]


# -- stories -----------------------------------------------------------------------------------------------------------

# Few rows, cells and values, so that the steps of sessions and of everybody else meet.
KEYS = ("A", "A", "A", "B", "B", "new")
CELLS = {
    "fleet": ("depot", "mileage", "mileage", "firstDay", "lastDay", "kind"),
    "pfa": ("category", "equipment", "forecastStart", "forecastEnd", "source", "monthlyRate"),
}
VALUES: dict[str, tuple[Any, ...]] = {
    "text": ("a", "b", None),
    "enum": ("Van", "Truck", "Rental", "Purchase", "truck", None),
    "number": (1, Decimal("1.0"), 2, Decimal("1E+2"), None, -1),
    "date": ("2026-01-01", "2026-01-31", None),
}


class Teller:
    """Invents a part of a story out of a number, the same for the same; of 0 nothing."""

    def __init__(self, contract: Contract, seed: int):
        self.contract, self.random = contract, Random(seed)
        self.names = CELLS[contract.name]

    def part(self) -> tuple[Any, ...]:
        """A step or some."""
        kinds = {
            self.edit: 8, self.edits: 3, self.undo: 6, self.redo: 4, self.back_and_forth: 3, self.save: 7,
            self.discard: 4, self.commit: 2, self.theirs: 3, self.pull: 2, self.begin: 1, self.abort: 1, self.expire: 1,
            self.other: 1,
        }  # fmt: skip
        (make,) = self.random.choices(list(kinds), list(kinds.values()))
        made = make()
        return made if isinstance(made, tuple) else (made,)

    def rows(self) -> dict[str, Document]:
        """What the mirror begins with."""
        return {key: self.row() for key in self.one(*["AB"] * 4, "A")}

    # --- who, where, what

    def seat(self) -> int:
        return self.one(0, 0, 0, 0, 0, 0, 0, 1)

    def one(self, *choices: Choice) -> Choice:
        return self.random.choice(choices)

    def key(self) -> str:
        return self.one(*KEYS)

    def number(self) -> int:
        return self.one(0, 0, 0, 0, 1)

    def place(self) -> Place:
        return self.one(0, 0, 0, 1, None, None, None, "monday")

    def group(self) -> str | None:
        return self.one(None, None, "fill", "fill")

    def value(self, name: str) -> Any:
        declared = self.contract.by_name[name]
        fitting = declared.values or VALUES[declared.type]
        return self.one(*fitting) if self.random.random() < 0.9 else self.one(*VALUES[declared.type], 5, "x")

    def delta(self, most: int = 3) -> Document:
        return {name: self.value(name) for name in self.random.sample(self.names, self.random.randint(1, most))}

    # --- steps

    def begin(self) -> Begin:
        return Begin(self.seat(), self.one(*[None] * 9, ("A",), ("A", "B"), ("new",)))

    def edit(self) -> Edit:
        cells = [self.cell() for _ in range(self.one(1, 1, 1, 2, 3))]
        return Edit(self.seat(), self.number(), tuple(cells), self.group() if len(cells) > 1 else None)

    def cell(self) -> tuple[str, str, Any]:
        name = self.one(*self.names)
        return self.one(
            *[(self.key(), name, self.value(name))] * 19,
            (self.key(), self.one("nothing", self.contract.text_key), 1),
        )

    def edits(self) -> tuple[Any, ...]:
        """Of one cell, or with one undo group."""
        seat, place, key, name = self.seat(), self.number(), self.key(), self.one(*self.names)
        group = self.one(None, "fill")
        return tuple(Edit(seat, place, ((key, name, self.value(name)),), group) for _ in range(self.one(2, 3)))

    def undo(self) -> Turn:
        return Turn(self.seat(), self.one(0, 0, 0, 1, None, None))

    def redo(self) -> Turn:
        return Turn(self.seat(), self.one(0, 0, 0, 1, None, None), back=False)

    def back_and_forth(self) -> tuple[Any, ...]:
        """Undone, and redone after something happened, or not."""
        seat, place = self.seat(), self.one(0, 0, None)
        back = [Turn(seat, place)] * self.one(1, 1, 2)
        between = self.one(self.theirs, self.pull, self.discard, self.save, tuple, tuple)()
        return *back, *(between if isinstance(between, tuple) else (between,)), Turn(seat, place, back=False)

    def draft(self) -> Document:
        key, kind = self.key(), self.one("update", "update", "update", "update", "insert", "delete", "seen")
        if kind == "insert" or (key == "new" and kind == "update" and self.random.random() < 0.5):
            needed: dict[str, Document] = {
                "fleet": {"depot": "a", "kind": "Van"},
                "pfa": {"category": "a", "source": None, "dor": "BEO"},
            }
            return {"id": key, "op": "insert", "delta": needed[self.contract.name] | self.delta(2)}
        if kind == "delete":
            return {"id": key, "op": "delete"}
        draft: Document = {"id": key, "delta": self.delta()}
        if self.random.random() < 0.2:
            draft["unset"] = self.random.sample(self.names, 2)
        if kind == "seen":
            name = self.one("base", "expectedVersion", "expectedMirrorVersion")
            draft[name] = self.delta() if name == "base" else self.one(0, 0, 1)
        return draft

    def save(self) -> SaveIn:
        return SaveIn(
            self.seat(),
            tuple(self.draft() for _ in range(self.one(1, 1, 1, 2, 3))),
            atomic=self.random.random() < 0.1,
            place=self.place(),
            partial=self.one("rows", "cells"),
            drop_equal=self.one(False, True),
            group=self.group(),
        )

    def uses(self) -> tuple[str, ...]:
        return self.one((), ("mine",), ("theirs",), ("mine", "theirs", "value"))

    def commit(self) -> CommitIn:
        skip = self.random.random() < 0.3
        return CommitIn(self.seat(), self.one(None, (self.key(),)), uses=self.uses(), skip=skip, place=self.place())

    def discard(self) -> DiscardIn:
        fields = self.one((), tuple(self.delta(2)), tuple(self.delta(2)))
        return DiscardIn(self.seat(), self.one(None, (self.key(),)), fields, self.place())

    def theirs(self) -> tuple[Any, ...]:
        """Bob drafts, and commits."""
        return Save(1, (self.draft(),)), CommitIn(1, uses=self.uses())

    def pull(self) -> Pull:
        return Pull("acme", ((self.one("A", "B"), self.one(self.row(), self.row(), None)),))

    def row(self) -> Document:
        return {name: value for name, value in self.delta().items() if self.contract.by_name[name].type != "enum"}

    def abort(self) -> tuple[Any, ...]:
        return Abort(self.seat(), self.number()), self.begin()

    def expire(self) -> tuple[Any, ...]:
        end = self.one((), (CleanUp(),), (self.save(), CleanUp()), (self.begin(), self.edit(), CleanUp()))
        return Wait(self.one(25, 25, 750)), *end, self.begin()

    def other(self) -> Any:
        return self.one(
            Extend(self.seat(), self.number()),
            (Wait(13), Extend(0, 0), Wait(13)),
            Review(self.seat(), self.key()),
            Refresh(),
            CleanUp(),
            List(self.seat(), [("sort", self.names[0])], 1),
        )


def stories(contract: Contract) -> st.SearchStrategy[Story]:
    """Rows, a session or two, and a dozen of parts."""
    seeds = st.integers(0, 2**32)
    parts = seeds.map(lambda seed: Teller(contract, seed).part() if seed else ())
    return st.builds(
        _story, seeds.map(lambda seed: Teller(contract, seed).rows()), st.lists(parts, min_size=16, max_size=16)
    )


def _story(rows: dict[str, Document], parts: list[tuple[Any, ...]]) -> Story:
    steps: list[Any] = [Begin(0), *(step for part in parts for step in part), Abort(0), Turn(0)]
    return Story({"acme": rows, "beta": {}}, steps)


@pytest.fixture
async def users(world: World) -> list[User]:
    """Who takes part, and an operator behind them. Thousands of requests need no log line each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    await world.organization("beta")
    seated = [await world.user(name, organization, ttl=YEARS) for organization, name in SEATS]
    return [*seated, await world.user("olga", role=Role.VIEWER, operator=True, ttl=YEARS)]


@examples(8)
@given(stories(FLEET))
async def test_sessions_whose_commits_reach_the_mirror(world: World, users: list[User], story: Story) -> None:
    await SessionComparison(world, FLEET, users, story).run()


@examples(8)
@given(stories(PFA))
async def test_sessions_whose_commits_wait_for_upstream(world: World, users: list[User], story: Story) -> None:
    await SessionComparison(world, PFA, users, story).run()
