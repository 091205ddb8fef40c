"""Edit sessions against their model (session_model.py): edits, undo, redo, expiry and abort among drafts outside,
commits of others and pulls: the same answers, rows, pages, totals and KPIs.

The machinery is that of test_model.py, and so are its environment variables:

    VANGUARD_MODEL_EXAMPLES=5000 python -m pytest --timeout=0 -o faulthandler_timeout=0 tests/test_session_model.py -x
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import PFA, Contract
from app.engine.desk import Desk
from app.engine.modifications import fold, image
from app.web.auth import Role
from tests.support.model import Document, Model, Refused, shown
from tests.support.session_model import Session, SessionModel, Turned
from tests.support.world import FLEET, User, World
from tests.test_kpi_model import Ask, KpiComparison, Pull, Refresh
from tests.test_model import (
    EDITED,
    SEATS,
    WRONG,
    Commit,
    Comparison,
    Discard,
    List,
    Pool,
    Save,
    Story,
    answered,
    deletes,
    documents,
    drafts,
    examples,
    inserts,
    mirrors,
    refuses,
    updates,
    values,
)

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

YEARS = 10 * 365 * 86400  # seconds: clocks move on through all examples


# -- what happens ------------------------------------------------------------------------------------------------------

# Which session a step names: the number of one of the user's sessions (the last where there are fewer), a word of the
# client's, or none.
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
        self.models: dict[str, SessionModel] = {  # type: ignore[assignment] # these models know of sessions
            organization: SessionModel(contract, model.mirror, world.clock)
            for organization, model in self.models.items()
        }

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
        return self.users[seat], self.models[SEATS[seat][0]]

    def named(self, seat: int, place: Place) -> str | None:
        """The session, or the word, that stands at a place."""
        user, model = self.model_of(seat)
        if not isinstance(place, int):
            return place
        mine = [session.id for session in model.sessions.values() if session.user == user.id]
        return mine[min(place, len(mine) - 1)] if mine else "none"

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
        ended = [model.clean_up() for model in self.models.values()]
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


def cells(pool: Pool, keys: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str, Any]]:
    """An edit: most often a value that fits, or one that breaks a rule, or that no document holds."""
    contract = pool.contract
    right = st.sampled_from(pool.names).flatmap(lambda name: st.tuples(keys, st.just(name), values(pool, name)))
    pairs = [(name, value) for name in sorted(set(pool.names)) for value in WRONG[contract.by_name[name].type]]
    odd = st.sampled_from([*pairs, ("nothing", 1), (contract.key, "X")])
    wrong = st.builds(lambda key, pair: (key, *pair), keys, odd)
    return st.one_of(right, right, right, right, wrong)


def stories(pool: Pool) -> st.SearchStrategy[Story]:
    """Sessions of ann, and what happens around them."""
    seats = st.sampled_from((0, 0, 0, 0, 0, 0, 1))
    keys = st.sampled_from((*pool.keys, *pool.keys, "new"))
    one, places = st.sampled_from((0, 0, 0, 1)), st.sampled_from((0, 0, 0, 1, None, None, "monday"))
    groups = st.sampled_from((None, None, "fill", "fill"))
    editing = st.builds(Edit, seats, one, st.lists(cells(pool, keys), min_size=1, max_size=3).map(tuple), groups)
    batch = st.lists(drafts(pool), min_size=1, max_size=3).map(tuple)
    saving = st.builds(
        SaveIn, seats, batch, st.sampled_from((False, False, False, True)), places,
        st.sampled_from(("rows", "rows", "cells")), st.booleans(), groups,
    )  # fmt: skip
    turning = st.builds(Turn, seats, st.sampled_from((0, 0, 0, 1, None, None)), st.sampled_from((True, True, False)))
    ids = st.none() | st.none() | st.lists(keys, min_size=1, max_size=2, unique=True).map(tuple)
    uses = st.lists(st.sampled_from(("mine", "theirs", "value")), max_size=2).map(tuple)
    committing = st.builds(lambda seat, ids, place, uses: CommitIn(seat, ids, uses=uses, place=place),
                           seats, ids, places, uses)  # fmt: skip
    fields = st.just(()) | st.lists(st.sampled_from(pool.names), min_size=1, max_size=2, unique=True).map(tuple)
    discarding = st.builds(lambda seat, ids, fields, place: DiscardIn(seat, ids, fields, place),
                           seats, ids, fields, places)  # fmt: skip
    his = st.one_of(updates(pool, keys, 1), updates(pool, keys, 1), deletes(keys), inserts(pool, keys))
    theirs = his.map(lambda draft: (Save(1, (draft,)), CommitIn(1, uses=("mine",))))
    pulled = st.one_of(documents(pool, wrong=False), documents(pool, wrong=False), st.none())
    pull = st.lists(st.tuples(st.sampled_from(pool.keys), pulled), min_size=1, max_size=2).map(
        lambda rows: Pull("acme", tuple(rows))
    )
    rows = st.none() | st.none() | st.lists(keys, min_size=1, max_size=2).map(tuple)
    ending = st.one_of(
        st.builds(Abort, seats, one), st.builds(Abort, seats, one), st.builds(Begin, seats, rows),
        st.builds(Extend, seats, one), st.builds(Wait, st.sampled_from((1, 13, 13, 25, 25, 750))), st.just(CleanUp()),
        st.builds(Review, seats, keys), st.just(Refresh()),
    )  # fmt: skip
    listing = st.builds(List, seats, st.sampled_from(([("sort", pool.names[0])], [("syncState", "draft")])), st.just(1))
    step = st.one_of(
        *[editing.map(_alone)] * 5, *[turning.map(_alone)] * 5, *[saving.map(_alone)] * 3,
        committing.map(_alone), discarding.map(_alone), theirs, pull.map(_alone), *[ending.map(_alone)] * 2,
        listing.map(_alone),
    )  # fmt: skip
    first = st.lists(saving.map(_alone), max_size=1)
    return st.builds(
        lambda rows, first, begin, steps, last: Story(
            rows, [each for part in [*first, (begin,), *steps, (Abort(0), last)] for each in part]
        ),
        mirrors(pool),
        first,
        st.builds(Begin, st.just(0), st.none() | st.none() | rows),
        st.lists(step, min_size=3, max_size=14),
        turning,
    )


def _alone(step: Any) -> tuple[Any, ...]:
    return (step,)


@pytest.fixture
async def users(world: World) -> list[User]:
    """Who takes part, and an operator behind them. Thousands of requests need no log line each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    await world.organization("beta")
    seated = [await world.user(name, organization, ttl=YEARS) for organization, name in SEATS]
    return [*seated, await world.user("olga", role=Role.VIEWER, operator=True, ttl=YEARS)]


@pytest.mark.slow("thirty stories of sessions that nobody wrote, each checked against a model in plain Python")
@examples(30)
@given(stories(EDITED["fleet"]))
async def test_sessions_whose_commits_reach_the_mirror(world: World, users: list[User], story: Story) -> None:
    await SessionComparison(world, FLEET, users, story).run()


@pytest.mark.slow("thirty stories of sessions that nobody wrote, each checked against a model in plain Python")
@examples(30)
@given(stories(EDITED["pfa"]))
async def test_sessions_whose_commits_wait_for_upstream(world: World, users: list[User], story: Story) -> None:
    await SessionComparison(world, PFA, users, story).run()
