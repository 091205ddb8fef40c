"""Previews against the model of the merge: random drafts of a session, with pulls and commits of others between."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts import PFA, Contract
from tests.support.model import Document, Model, equal, shown
from tests.support.records import begin_session
from tests.support.world import FLEET, User, World
from tests.test_kpi_model import KpiComparison, Pull
from tests.test_model import (
    EDITED,
    Pool,
    Story,
    answered,
    commits,
    documents,
    examples,
    mirrors,
    saves,
    sorted_conflicts,
    users,
)

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

__all__ = ["users"]  # the fixture

SID = "s-1"
ANN = 0  # her seat: all that she drafts is of the session, and she commits nothing


class Drafting(User):
    """Somebody whose saves name the session."""

    async def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return await super().post(path, body | {"sessionId": SID} if path == "drafts" else body, **options)


class PreviewComparison(KpiComparison):
    """After each step ann previews her session. What she was told by each digest is kept: the same digest tells the
    same, another one something else.
    """

    def __init__(self, world: World, contract: Contract, users: Sequence[User], story: Story):
        super().__init__(world, contract, users, story)
        ann = self.users[ANN]
        self.users[ANN] = Drafting(world, ann.id, ann.organization, ann.token, ann.dataset)
        self.told_by: dict[str, Any] = {}

    async def clean(self) -> None:
        await super().clean()
        await self.world.db.execute("DELETE FROM edit_session")
        await begin_session(self.world, self.users[ANN], SID)

    async def take(self, step: Any) -> None:
        await super().take(step)
        await self.preview()

    async def look_around(self) -> None:
        await self.preview()

    async def preview(self) -> None:
        user, model = self.at(ANN)
        answer = answered(await user.post(f"sessions/{SID}/preview", {"pageSize": 1000}))
        diffs = wanted_diffs(model, user.id)
        assert shown([[*each.values()] for each in answer["diffs"]]) == shown([[*each] for each in diffs])
        assert answer["pagination"]["totalRecords"] == len(diffs)
        conflicts = [{name: value for name, value in each.items() if name != "kind"} for each in answer["conflicts"]]
        assert sorted_conflicts(conflicts) == sorted_conflicts(wanted_conflicts(model, user.id))
        overlaps = [(each["id"], each["field"], each["userId"]) for each in answer["impact"]["overlaps"]]
        assert overlaps == wanted_overlaps(model, user.id)
        totals = answered(await user.get("kpis"))["totals"]
        assert answer["kpis"] == {"before": totals["baseline"], "after": totals["mine"]}
        self.remember(answer)

    def remember(self, answer: Document) -> None:
        findings = [
            {name: each[name] for name in ("id", "field", "severity", "code", "ruleId")}
            for each in answer["validation"]["messages"]
        ]
        overlaps = [
            {name: value for name, value in each.items() if name != "state"} for each in answer["impact"]["overlaps"]
        ]
        told = _by_value([answer["diffs"], findings, answer["conflicts"], overlaps])
        assert self.told_by.setdefault(answer["digest"], told) == told
        assert [digest for digest, other in self.told_by.items() if other == told] == [answer["digest"]]


def _by_value(value: Any) -> Any:
    """A number is told by its value: 1.0 is 1, and true is not."""
    if isinstance(value, list):
        return [_by_value(each) for each in value]
    if isinstance(value, dict):
        return {name: _by_value(each) for name, each in value.items()}
    return ("number", Decimal(value)) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


# -- what a preview has to tell ----------------------------------------------------------------------------------------


def wanted_diffs(model: Model, user: str) -> list[Any]:
    """(id, field, old, new) of what a commit would do, with mine where it would be refused."""
    found: list[Any] = []
    for key, draft in sorted(model.of(user).drafts.items()):
        theirs = model.theirs(user, key)
        if draft.op != "delete":
            cells = wanted_cells(model, user, key, theirs or {})
            found += [(key, name, (theirs or {}).get(name), value) for name, value in sorted(cells.items())]
        elif theirs is not None:
            found.append((key, None, theirs, None))
    return found


def wanted_cells(model: Model, user: str, key: str, theirs: Document) -> Document:
    """The cells that a draft would change, those in conflict included."""
    contract, draft = model.contract, model.of(user).drafts[key]
    op, applied, conflicts = model.merge(user, key)
    mine = draft.delta
    if draft.op == "insert":
        mine = {name: value for name, value in mine.items() if name not in contract.upstream_only}
        mine = (
            mine | contract.initial if op == "insert" else {n: v for n, v in mine.items() if n not in contract.initial}
        )
    disputed = {each["field"] for each in conflicts}
    whole = op == "insert" or None in disputed
    cells = mine if whole else applied | {n: v for n, v in mine.items() if model.cell(n)[0] in disputed}
    return {name: value for name, value in cells.items() if not equal(theirs.get(name), value)}


def wanted_conflicts(model: Model, user: str) -> list[Document]:
    """Those that a commit would find."""
    return [{"id": key, **each} for key in sorted(model.of(user).drafts) for each in model.merge(user, key)[2]]


def wanted_overlaps(model: Model, user: str) -> list[Any]:
    """(id, field, userId) of what others have on their way in the cells of each draft."""
    found: list[Any] = []
    for key, draft in sorted(model.of(user).drafts.items()):
        if draft.op == "delete" and model.theirs(user, key) is None:
            continue
        for change in model.changes:
            if change.key == key and change.user != user:
                cells = {model.cell(name)[0] for name in change.delta}
                if draft.op != "delete":
                    cells &= {model.cell(name)[0] for name in draft.delta}
                names = [None] if change.op == "delete" else sorted(cells)
                found += [(key, name, change.user) for name in names]
    return found


# -- stories -----------------------------------------------------------------------------------------------------------


def stories(pool: Pool) -> st.SearchStrategy[Story]:
    """Ann drafts, bob drafts and commits, and the system of record changes rows."""
    ann, bob = st.just(ANN), st.just(1)
    row = st.tuples(st.sampled_from(pool.keys), documents(pool, wrong=False) | st.none())
    pulls = st.builds(Pull, st.just("acme"), st.lists(row, min_size=1, max_size=3).map(tuple))
    drafting, others = saves(pool, ann), st.one_of(saves(pool, bob), commits(pool, bob), pulls)
    step = st.one_of(drafting, drafting, others, others)
    return st.builds(
        lambda rows, first, steps: Story(rows, [first, *steps]),
        mirrors(pool),
        drafting,
        st.lists(step, min_size=2, max_size=10),
    )


@examples(15)
@given(stories(EDITED["fleet"]))
async def test_previews_where_commits_reach_the_mirror(world: World, users: list[User], story: Story) -> None:
    await PreviewComparison(world, FLEET, users, story).run()


@examples(15)
@given(stories(EDITED["pfa"]))
async def test_previews_where_commits_wait_for_upstream(world: World, users: list[User], story: Story) -> None:
    await PreviewComparison(world, PFA, users, story).run()
