"""Change requests against their model (request_model.py): submissions, reviews, resolutions, merges and reverts among
drafts in sessions and outside, commits of others and pulls: the same answers, rows, states and conflicts.

The machinery is that of test_session_model.py, and so are its environment variables:

    VANGUARD_MODEL_EXAMPLES=5000 python -m pytest --timeout=0 -o faulthandler_timeout=0 tests/test_request_model.py -x
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import PFA, Contract
from app.web.auth import Role
from tests.support.model import Document, Model, Refused, equal, shown
from tests.support.request_model import Request, RequestModel, Resolved
from tests.support.world import FLEET, User, World
from tests.test_model import Story, answered, examples, refuses, sorted_conflicts
from tests.test_session_model import YEARS, Begin, SaveIn, SessionComparison, Teller, users

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

__all__ = ["users"]  # the fixture

BOSS = "boss"  # an ADMIN who drafts nothing
PLACES = (0, 1)  # the seats of those who do


# -- what happens ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submit:
    """The session at a place goes under review; `approvers`: nobody, the other one, the other one and boss."""

    seat: int
    place: int = 0
    approvers: int = 0


@dataclass(frozen=True)
class About:
    """Something about a request: how many of those that it fits were made later, at most."""

    number: int = 0


@dataclass(frozen=True)
class Approve(About):
    """All, or all but some cells: which row, which of its cells (None: all of them), and whether the group is named.
    `stale`: by the digest of before.
    """

    who: int = 0
    excluded: tuple[tuple[int, int | None, bool], ...] = ()
    stale: bool = False


@dataclass(frozen=True)
class Reject(About):
    """Back to its author."""


@dataclass(frozen=True)
class Withdraw(About):
    """Its author takes it back."""


@dataclass(frozen=True)
class Resubmit(About):
    """Under review again."""


@dataclass(frozen=True)
class Resolve(About):
    """A use for some of the conflicts, in turn, and one for the others."""

    uses: tuple[str | None, ...] = ()
    default: str | None = None


@dataclass(frozen=True)
class Merge(About):
    """Into the mirror."""

    skip: bool = False
    dry_run: bool = False
    stale: bool = False


@dataclass(frozen=True)
class Revert(About):
    """Undo a merge by a request of the one who sits there."""

    seat: int = 0


# The states of the requests that a step is about, most often.
FITTING: dict[type, tuple[str, ...]] = {
    Approve: ("pending_review",),
    Reject: ("pending_review",),
    Withdraw: ("pending_review",),
    Resolve: ("pending_review",),
    Resubmit: ("rejected", "withdrawn"),
    Merge: ("approved",),
    Revert: ("closed",),
}


# -- the comparison ----------------------------------------------------------------------------------------------------


class RequestComparison(SessionComparison):
    """The application and its model. `seen`: the digest of each request by what there is to see of it."""

    def __init__(self, world: World, contract: Contract, users: Sequence[User], boss: User, story: Story):
        super().__init__(world, contract, users, story)
        self.boss = boss.on(contract.name)
        self.models = {
            organization: RequestModel(contract, model.mirror, world.clock)
            for organization, model in self.models.items()
        }
        self.digests: dict[str, dict[str, str]] = {}  # of each request: digest -> what there is to see
        self.first: dict[str, str] = {}  # the digest of each request's submission
        self.approved: dict[str, set[str]] = {}  # the digests that somebody approved

    async def clean(self) -> None:
        await self.world.db.execute(
            f"DELETE FROM change_request; DELETE FROM resolution;DELETE FROM {self.contract.schema}.change"
        )
        await super().clean()

    def is_held(self, model: Model, key: str) -> bool:
        return any(change.key == key and change.state != "in_review" for change in model.changes)

    @property
    def model(self) -> RequestModel:
        """Acme's: what happens in reviews happens there."""
        model = self.models["acme"]
        assert isinstance(model, RequestModel)
        return model

    def named(self, seat: int, place: int | str | None) -> str | None:
        """An open session: one that is locked, or over, is the matter of other tests."""
        if not isinstance(place, int):
            return place
        user, model = self.model_of(seat)
        mine = [each for each in model.sessions.values() if each.user == user.id and model.status(each) == "active"]
        return mine[-1 - min(place, len(mine) - 1)].id if mine else None

    async def take(self, step: Any) -> None:
        match step:
            case Submit() | About():
                self.world.clock.move(seconds=1)
                await self.about(step)
            case _:
                await super().take(step)
        await self.look_at_requests()

    async def about(self, step: Submit | About) -> None:
        """Something about a request, and what everybody sees then."""
        if isinstance(step, Submit):
            await self.submit(step)
        elif self.model.requests:
            request = self.find(step)
            match step:
                case Approve():
                    await self.approve(request, step)
                case Resolve():
                    await self.resolve(request, step)
                case Merge():
                    await self.merge(request, step)
                case Revert():
                    await self.revert(request, step)
                case Reject():
                    response = await self.send(self.reviewer(request, 0), request, "reject", {"comment": "No"})
                    self.same(response, lambda: self.model.send_back(request.id, "rejected"))
                case Withdraw():
                    response = await self.send(self.author(request), request, "withdraw", {})
                    self.same(response, lambda: self.model.send_back(request.id, "withdrawn"))
                case Resubmit():
                    response = await self.send(self.author(request), request, "resubmit", {})
                    self.same(response, lambda: self.model.resubmit(request.id))
        for seat in PLACES:
            await self.look(seat)

    def find(self, step: About) -> Request:
        """The request that a step is about."""
        every = list(self.model.requests.values())
        fitting = [each for each in every if each.state in FITTING[type(step)]] or every
        return fitting[-1 - min(step.number, len(fitting) - 1)]

    def author(self, request: Request) -> User:
        """Who made it."""
        return next(user for user in self.users if (user.organization, user.id) == ("acme", request.author))

    def reviewer(self, request: Request, who: int) -> User:
        """One of those who are to approve it."""
        if not request.approvers:
            return self.boss
        name = request.approvers[who % len(request.approvers)]
        return self.boss if name == BOSS else next(each for each in self.users[:2] if each.id == name)

    async def send(self, user: User, request: Request, act: str, body: Document) -> httpx.Response:
        return await user.post(f"change-requests/{request.id}/{act}", body)

    async def detail(self, request: Request) -> Document:
        """The request as it is now."""
        return answered(await self.boss.get(f"change-requests/{request.id}"))

    @staticmethod
    def same(response: httpx.Response, act: Any, status: int = 200) -> bool:
        """Whether both do it; else both refuse it alike."""
        try:
            act()
        except Refused as refused:
            refuses(response, Refused(refused.status, refused.code, conflicts=without_kinds(response, refused)))
            return False
        assert response.status_code == status, response.text
        return True

    # -- steps --------------------------------------------------------------------------------------------------------

    async def submit(self, step: Submit) -> None:
        user, model = self.model_of(step.seat)
        sid = self.named(step.seat, step.place)
        if sid is None or user.organization != "acme":
            return
        seen = answered(await user.post(f"sessions/{sid}/preview", {}))
        other = next(each.id for each in self.users[:2] if each.id != user.id)
        approvers = ((), (other,), (other, BOSS))[step.approvers]
        body = {"title": "Request", "digest": seen["digest"], "approvers": list(approvers)}
        response = await user.post(f"sessions/{sid}/submit", body)
        told = exact_json.decode(response.content)
        assert isinstance(model, RequestModel)
        if self.same(response, lambda: model.submit(user.id, sid, told.get("id", ""), approvers), 201):
            self.first[told["id"]] = told["digest"]

    async def approve(self, request: Request, step: Approve) -> None:
        user, model = self.reviewer(request, step.who), self.model
        now = (await self.detail(request))["digest"]
        excluded = self.excluded(request, step)
        digest = self.first[request.id] if step.stale else now
        body = {"digest": digest, "except": [{"id": key, "field": name} for key, name in excluded]}
        response = await self.send(user, request, "approve", body)
        if digest != now and request.state == "pending_review":
            refuses(response, Refused(409, "PREVIEW_STALE"))
        elif self.same(response, lambda: model.approve(user.id, request.id, excluded)):
            told = answered(response)["digest"]
            self.approved.setdefault(request.id, set()).add(told)
            assert excluded or told == now, "an approval changes nothing"

    def excluded(self, request: Request, step: Approve) -> list[tuple[str, str | None]]:
        """The cells that a step names."""
        changes, found = self.model.under_review(request.id), []
        for row, cell, grouped in step.excluded if changes else ():
            change = changes[row % len(changes)]
            names = sorted(change.delta)
            name = None if cell is None or not names else names[cell % len(names)]
            found.append((change.key, self.model.cell(name)[0] if name and grouped else name))
        return found

    async def resolve(self, request: Request, step: Resolve) -> None:
        model, chosen, wanted = self.model, [], []
        for place, conflict in enumerate(model.conflicts(request.id) if request.state == "pending_review" else ()):
            use = step.uses[place] if place < len(step.uses) else None
            if use is None and step.default is not None:
                use = "theirs" if conflict["field"] is None and step.default == "base" else step.default
                if use == step.default:
                    chosen.append(Resolved(conflict, use))
                    continue
            if use is None:
                continue
            if conflict["field"] is None and use in ("base", "value"):
                use = "mine"
            value = self.value_for(conflict) if use == "value" else None
            more = {"value": value} if use == "value" else {}
            wanted.append({"id": conflict["id"], "field": conflict["field"], "use": use, **more})
            chosen.append(Resolved(conflict, use, value))
        body = {"resolutions": wanted, **({"default": step.default} if step.default else {})}
        response = await self.send(self.author(request), request, "resolutions", body)
        self.same(response, lambda: model.resolve_request(request.id, chosen))

    def value_for(self, conflict: Document) -> Any:
        """A value that none of the sides has, or may have."""
        members = self.model.groups.get(conflict["field"])
        if members:
            return {members[0]: conflict["theirs"][members[0]], members[1]: conflict["mine"][members[1]]}
        return conflict["base"]

    async def merge(self, request: Request, step: Merge) -> None:
        now = await self.detail(request)
        digest = self.first[request.id] if step.stale else now["digest"]
        known = {now["digest"], *self.approved.get(request.id, ())}
        fits = digest in known and digest.startswith(f"{request.iteration}.")
        body = {"digest": digest, "dryRun": step.dry_run, "onConflict": "skip" if step.skip else "refuse"}
        before, cells = await self.mirror(), self.model.cells(request.id)
        conflicts = len(self.model.conflicts(request.id))
        response = await self.send(self.boss, request, "merge", body)
        if request.state in ("merged", "closed"):
            assert answered(response)["commitId"] == now["commitId"]
            return
        if request.state == "approved" and not fits:
            refuses(response, Refused(409, "PREVIEW_STALE"))
            return
        done: list[Any] = []

        def act() -> None:
            done.extend(self.model.merge_request(request.id, skip=step.skip, dry_run=step.dry_run))

        if self.same(response, act):
            answer = answered(response)
            assert (answer["rowsAffected"], answer["skippedCount"]) == (len(done), conflicts)
            await self.nothing_lost(before, cells if not step.dry_run else [])
        else:
            assert await self.mirror() == before

    async def mirror(self) -> dict[str, Document]:
        """Acme's rows."""
        rows = await self.world.db.fetch(
            f"SELECT row_key, data::text FROM {self.contract.schema}.mirror WHERE organization_id = 'acme'"
        )
        return {row["row_key"]: exact_json.decode(row["data"]) for row in rows}

    async def nothing_lost(self, before: dict[str, Document], cells: list[Any]) -> None:
        """What a merge changed is what the request showed: the old value was there, and the new one is."""
        after = await self.mirror()
        told = {(key, name): (old, new) for key, name, old, new in cells}
        for key in before.keys() | after.keys():
            if key not in after:
                assert (key, None) in told
                continue
            for name, value in after[key].items():
                was = before.get(key, {}).get(name)
                if not equal(was, value) and name != self.contract.text_key:
                    assert shown([was, value]) == shown([*told[key, name]]), (key, name)

    async def revert(self, request: Request, step: Revert) -> None:
        user = self.users[step.seat]
        if request.state == "merged":
            return
        response = await self.send(user, request, "revert", {"title": "Back"})
        if user.id not in (request.author, *request.approvers):
            refuses(response, Refused(404, "CHANGE_REQUEST_NOT_FOUND"))
            return
        told = exact_json.decode(response.content)
        new, sid = told.get("id", ""), told.get("sessionId", "")
        if self.same(response, lambda: self.model.revert(user.id, request.id, new, sid), 201):
            self.first[new] = told["digest"]

    # -- looking around -----------------------------------------------------------------------------------------------

    async def look_at_requests(self) -> None:
        """Every request is as the model has it; the same is told by the same digest."""
        for request in self.model.requests.values():
            told = await self.detail(request)
            assert (told["status"], told["iteration"]) == (request.state, request.iteration)
            approved = [each["approver"] for each in told["approvals"]]
            assert sorted(approved) == sorted(request.approvals.get(request.iteration, ()))
            if request.state in ("pending_review", "approved"):
                await self.look_at_cells(request, told)

    async def look_at_cells(self, request: Request, told: Document) -> None:
        wanted = self.model.conflicts(request.id)
        assert sorted_conflicts(told["conflicts"]) == sorted_conflicts(wanted)
        answer = answered(await self.boss.get(f"change-requests/{request.id}/diff", {"limit": 200}))
        cells = [[each[name] for name in ("id", "field", "old", "new")] for each in answer["data"]]
        assert sparse(cells) == sparse([[*each] for each in self.model.cells(request.id)])
        content = repr((request.iteration, sparse(cells), sorted_conflicts(told["conflicts"])))
        digests = self.digests.setdefault(request.id, {})
        assert digests.setdefault(told["digest"], content) == content
        assert [digest for digest, other in digests.items() if other == content] == [told["digest"]]

    async def look_at_sessions(self, seat: int) -> None:
        """The user's sessions are in the states that the model has; a preview is an active one."""
        user, model = self.model_of(seat)
        found = {one["id"]: one for one in answered(await user.get("sessions", {"limit": 200}))["data"]}
        mine = {session.id: session for session in model.sessions.values() if session.user == user.id}
        assert found.keys() == mine.keys()
        states = {sid: one["status"].replace("preview", "active") for sid, one in found.items()}
        assert states == {sid: model.status(session) for sid, session in mine.items()}


def without_kinds(response: httpx.Response, refused: Refused) -> list[Document]:
    """The conflicts of a refusal, with kinds only where the answer has some."""
    told = exact_json.decode(response.content).get("conflicts", [])
    kinds = any("kind" in each for each in told)
    return [each if kinds else {n: v for n, v in each.items() if n != "kind"} for each in refused.conflicts]


def sparse(cells: list[Any]) -> list[Any]:
    """Cells with rows without their nulls."""
    return [
        shown([{n: v for n, v in side.items() if v is not None} if isinstance(side, dict) else side for side in cell])
        for cell in cells
    ]


# -- stories -----------------------------------------------------------------------------------------------------------


class RequestTeller(Teller):
    """Invents what happens to requests, too."""

    def part(self) -> tuple[Any, ...]:
        kinds = {
            self.submission: 10, self.save: 4, self.theirs: 6, self.pull: 4, self.commit: 1, self.discard: 1,
            self.approval: 6, self.merging: 8, self.back: 4, self.resolving: 6, self.undoing: 4,
        }  # fmt: skip
        (make,) = self.random.choices(list(kinds), list(kinds.values()))
        made = make()
        return made if isinstance(made, tuple) else (made,)

    def seat(self) -> int:
        return self.one(0, 0, 0, 1)

    def submission(self) -> tuple[Any, ...]:
        """Drafts in a session, submitted, and the next session; perhaps drafted over, and approved."""
        seat, approvers = self.seat(), self.one(0, 0, 0, 1, 2)
        drafts = tuple(self.draft() for _ in range(self.one(1, 1, 2, 3)))
        saved = tuple(self.in_session(seat, draft) for draft in drafts)
        then = self.one((), (), (self.approval(),), (self.approval(), Merge()), (self.save(),))
        return *saved, Submit(seat, 0, approvers), Begin(seat), *then

    @staticmethod
    def in_session(seat: int, draft: Document) -> SaveIn:
        return SaveIn(seat, (draft,), place=0)

    def number(self) -> int:
        return self.one(0, 0, 0, 0, 1, 2)

    def approval(self) -> Approve:
        cells = tuple(
            (self.number(), self.one(None, 0, 0, 1, 2), self.random.random() < 0.8)
            for _ in range(self.one(0, 0, 0, 1, 1, 2))
        )
        return Approve(self.number(), self.number(), cells, self.random.random() < 0.1)

    def merging(self) -> tuple[Any, ...]:
        """Approved, and merged after something happened, or not."""
        number = self.number()
        between = self.one(tuple, tuple, self.theirs, self.pull, self.save)()
        how = Merge(number, self.random.random() < 0.35, self.random.random() < 0.15, self.random.random() < 0.1)
        first = self.one((), (Approve(number),), (Approve(number), Approve(number, 1)))
        return *first, *(between if isinstance(between, tuple) else (between,)), how

    def back(self) -> tuple[Any, ...]:
        """Sent back, edited or not, and submitted again."""
        number = self.number()
        between = self.one(tuple, tuple, self.theirs, self.pull, self.save)()
        again = self.one((), (Resubmit(),), (Resubmit(), self.approval(), Merge()))
        return (
            self.one(Reject(number), Withdraw(number)),
            *(between if isinstance(between, tuple) else (between,)),
            *again,
        )

    def resolving(self) -> tuple[Any, ...]:
        """Resolved, and merged."""
        uses = tuple(self.one("mine", "theirs", "base", "value", None) for _ in range(3))
        resolved = Resolve(self.number(), uses, self.one(None, None, "mine", "theirs", "base"))
        return resolved, *self.one((), (Approve(), Merge()))

    def undoing(self) -> tuple[Any, ...]:
        """Reverted, and merged, after something happened or not."""
        between = self.one(tuple, tuple, self.theirs, self.pull)()
        then = self.one((), (Approve(), Merge()), (Approve(), Merge(), Revert(0, self.seat())))
        return Revert(self.number(), self.seat()), *(between if isinstance(between, tuple) else (between,)), *then


def stories(contract: Contract) -> st.SearchStrategy[Story]:
    """Rows, a session each, and a dozen of parts."""
    seeds = st.integers(0, 2**32)
    parts = seeds.map(lambda seed: RequestTeller(contract, seed).part() if seed else ())
    return st.builds(
        _story, seeds.map(lambda seed: RequestTeller(contract, seed).rows()), st.lists(parts, min_size=12, max_size=12)
    )


def _story(rows: dict[str, Document], parts: list[tuple[Any, ...]]) -> Story:
    steps: list[Any] = [Begin(0), Begin(1), *(step for part in parts for step in part)]
    return Story({"acme": rows, "beta": {}}, steps)


@pytest.fixture
async def boss(world: World) -> User:
    """An ADMIN of acme."""
    return await world.user(BOSS, role=Role.ADMIN, ttl=YEARS)


@examples(5)
@given(stories(FLEET))
async def test_requests_that_reach_the_mirror(world: World, users: list[User], boss: User, story: Story) -> None:
    await RequestComparison(world, FLEET, users, boss, story).run()


@examples(5)
@given(stories(PFA))
async def test_requests_that_wait_for_upstream(world: World, users: list[User], boss: User, story: Story) -> None:
    await RequestComparison(world, PFA, users, boss, story).run()
