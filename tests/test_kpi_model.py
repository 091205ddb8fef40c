"""KPIs against their model (kpi_model.py): random rows, drafts, commits, pulls and refreshes, the same figures.

The machinery is that of test_model.py, and so are its environment variables:

    VANGUARD_MODEL_EXAMPLES=5000 python -m pytest --timeout=0 -o faulthandler_timeout=0 tests/test_kpi_model.py -x
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.statements import statement
from app.commits import APPLY_CHANGES, COMPLETE_BASES
from app.contracts import PFA, Contract
from app.engine.desk import Desk
from app.engine.feed import EventType, tell, tell_rows
from app.engine.modifications import image
from tests.support.kpi_model import Kpis, plain
from tests.support.model import Change, Document, Model, Query, Refused
from tests.support.world import FLEET, User, World
from tests.test_model import (
    SEATS,
    Comparison,
    Pool,
    Story,
    answered,
    commits,
    conditions,
    conditions_on,
    discards,
    documents,
    examples,
    mirrors,
    refuses,
    saves,
    saving,
    users,
)

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

__all__ = ["users"]  # the fixture

RAISE_REVISION = statement("locks/raise_revision")


# -- what happens ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refresh:
    """The view is brought up to the mirror."""


@dataclass(frozen=True)
class Pull:
    """The mirror changes from outside, with history: a row's new fields, or None where it goes."""

    organization: str
    rows: tuple[tuple[str, Document | None], ...]


@dataclass(frozen=True)
class Load:
    """New rows come into the mirror without history, as a first load does."""

    organization: str
    rows: tuple[tuple[str, Document], ...]


@dataclass(frozen=True)
class Ask:
    """A question."""

    seat: int
    query: Query = ()
    keys: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


Step = Any

KEYS = ("A", "B", "C", "D", "Ä_")
POOLS = {
    "pfa": Pool(
        PFA,
        KEYS,
        tuple(
            "category category source source dor areaSilo monthlyRate purchasePrice manufacturer equipment "
            "forecastStart forecastEnd forecastEnd isActualized isDiscontinued isFundsTransferable".split()
        ),
        tuple("originalStart originalEnd actualStart actualEnd hasActuals contract".split()),
        most=3,
    ),
    "fleet": Pool(
        FLEET,
        KEYS,
        tuple(
            "depot depot kind seats mileage mileage inspectedOn inspectedOn inService scrapped leased seenAt".split()
        ),
        most=3,
    ),
}
# Few fields and values, so that rows share groups and extreme values, and one of them goes away.
NARROW = {
    "pfa": Pool(
        PFA,
        KEYS,
        ("category", "category", "dor", "forecastStart", "forecastEnd", "isDiscontinued"),
        ("originalStart", "originalEnd"),
        most=2,
    ),
    "fleet": Pool(FLEET, KEYS, ("depot", "depot", "inspectedOn", "seenAt", "mileage", "scrapped"), most=2),
}


# -- the comparison ----------------------------------------------------------------------------------------------------


class KpiComparison(Comparison):
    """The application and its model, and what is known of the view: the revision of each organization's cells."""

    views: dict[str, int | None]

    async def clean(self) -> None:
        await super().clean()
        await self.world.db.execute("UPDATE dataset SET unrecorded = revision")
        self.views = dict.fromkeys(self.models)

    async def look(self, seat: int) -> None:
        """Nothing: test_model.py looks at rows."""

    async def look_around(self) -> None:
        """Everybody's whole figures."""
        for seat in range(len(SEATS)):
            await self.ask(Ask(seat))

    async def take(self, step: Step) -> None:
        match step:
            case Refresh():
                await self.refresh()
            case Pull():
                await self.pull(step)
            case Load():
                await self.load(step)
            case Ask():
                await self.ask(step)
            case _:
                await super().take(step)

    async def refresh(self) -> None:
        await self.world.db.execute(f"SELECT {self.contract.schema}.refresh_kpi()")
        self.views = {organization: model.revision for organization, model in self.models.items()}

    async def pull(self, step: Pull) -> None:
        """The rows become changes of one more commit, which goes the way of all others."""
        model, contract, at = self.models[step.organization], self.contract, self.world.clock()
        changes = []
        for key, document in dict(step.rows).items():
            if key in model.mirror:
                if document is None and not self.is_held(model, key):
                    changes.append(Change("pull", key, "delete", {}))
                elif document:
                    changes.append(Change("pull", key, "update", document))
            elif document is not None:
                changes.append(Change("pull", key, "insert", document))
        if not changes:
            return
        commit = uuid.uuid4()
        model.revision += 1
        async with self.world.runtime.database.transaction() as connection:
            desk = Desk(connection, contract, step.organization)
            await desk.rows(RAISE_REVISION)
            await connection.raw.executemany(
                f"INSERT INTO {contract.schema}.change"
                " (organization_id, row_key, user_id, op, base, delta, state, commit_id)"
                " VALUES ($1, $2, 'pull', $3, '{}', $4, 'committed', $5)",
                [(step.organization, change.key, change.op, change.delta, commit) for change in changes],
            )
            await desk.value(
                APPLY_CHANGES,
                commit_id=commit,
                revision=model.revision,
                id_field=contract.id_field,
                source="pull",
                at=at,
            )
            await desk.value(COMPLETE_BASES, revision=model.revision)
            keys = [change.key for change in changes]
            await image(desk, None, keys, model.revision)
            tell_rows(desk, EventType.PULL, keys, at, revision=model.revision)
        for change in changes:
            model.reach_mirror(change)

    def is_held(self, model: Model, key: str) -> bool:
        """Whether no pull takes the row away: it has a change on its way."""
        return any(change.key == key for change in model.changes)

    async def load(self, step: Load) -> None:
        model, contract = self.models[step.organization], self.contract
        rows = {key: row for key, row in step.rows if key not in model.mirror}
        if not rows:
            return
        await self.world.mirror(rows, step.organization, contract)
        async with self.world.runtime.database.transaction() as connection:
            desk = Desk(connection, contract, step.organization)
            revision = await desk.value(RAISE_REVISION)
            await desk.rows(statement("dev/mark_unrecorded"))
            await image(desk, None, list(rows))
            tell(desk, EventType.DATASET, self.world.clock(), revision=revision, event="loaded")
        model.revision += 1
        self.views[step.organization] = None
        for key, row in rows.items():
            model.reach_mirror(Change("load", key, "insert", row))

    async def ask(self, step: Ask) -> None:
        user, model = self.at(step.seat)
        query = [*step.query, *(("groupBy", key) for key in step.keys), *(("include", name) for name in step.include)]
        response = await user.get("kpis", query)
        if any("\x1f" in value for _, value in step.query):
            refuses(response, Refused(400, "INVALID_FILTER"))
            return
        answer, wanted = answered(response), Kpis(model, user.id, step.query, step.keys, step.include)
        assert plain(answer["totals"]) == wanted.totals()
        assert plain(answer["groups"]) == (wanted.groups() if step.keys else [])
        assert plain(answer["bounds"]) == wanted.bounds()
        assert answer["metadata"]["revision"] == model.revision
        self.of_view(step, answer["metadata"]["viewRevision"])

    def of_view(self, step: Ask, told: int | None) -> None:
        """Rows are counted where the view cannot tell; the view's cells are read where nothing has changed."""
        user, model = self.at(step.seat)
        known = {*self.contract.dimensions, *self.contract.flags}
        asked = {name.partition("[")[0] for name, value in step.query if value or name != "search"}
        view = self.views[user.organization]
        if not asked <= known or view is None:
            assert told is None
        elif told is None:
            modified = model.of(user.id).drafts or any(change.user == user.id for change in model.changes)
            assert modified or view != model.revision, "nothing can be in doubt"
        else:
            assert told == view


# -- stories -----------------------------------------------------------------------------------------------------------


def asks(pool: Pool, seats: st.SearchStrategy[int]) -> st.SearchStrategy[Ask]:
    """Questions, most of them such as the view can answer."""
    contract = pool.contract
    dimensions, excluded = contract.dimensions, [exclusion.name for exclusion in contract.exclusions]
    names = [name for name in contract.cell_keys if name in pool.names]
    known = st.sampled_from(names).flatmap(lambda name: conditions_on(pool, name))
    others = known if pool in NARROW.values() else conditions(pool)
    filters = st.lists(st.one_of(known, known, others), max_size=2, unique_by=lambda found: found[0][0])
    states = st.lists(st.sampled_from(("pristine", "draft", "committed", "conflict")), max_size=2, unique=True)
    often = st.sampled_from(range(6))
    search = often.flatmap(lambda place: st.just("") if place else st.sampled_from(("a", "%", "Ä")))
    wanted = often.flatmap(lambda place: st.just([]) if place else states)
    keys = st.lists(st.sampled_from(dimensions), max_size=len(dimensions), unique=True).map(tuple)
    include = st.lists(st.sampled_from(excluded), max_size=2, unique=True).map(tuple)
    return st.builds(Ask, seats, st.builds(_query, filters, search, wanted), keys, include)


def _query(filters: list[list[tuple[str, str]]], search: str, states: Iterable[str]) -> Query:
    words = {"search": search, "syncState": ",".join(states)}
    return [*(one for condition in filters for one in condition), *((n, text) for n, text in words.items() if text)]


def pulls(pool: Pool) -> st.SearchStrategy[Pull]:
    """Changes of some rows from outside, values that do not parse among them."""
    documents_or_none = st.one_of(documents(pool, wrong=True), documents(pool, wrong=True), st.none())
    row = st.tuples(st.sampled_from(pool.keys), documents_or_none)
    return st.builds(Pull, organizations(), st.lists(row, min_size=1, max_size=3).map(tuple))


def loads(pool: Pool) -> st.SearchStrategy[Load]:
    """Some rows more."""
    row = st.tuples(st.sampled_from(pool.keys), documents(pool, wrong=True))
    return st.builds(Load, organizations(), st.lists(row, min_size=1, max_size=2).map(tuple))


def organizations() -> st.SearchStrategy[str]:
    """Most often that of ann and bob."""
    return st.sampled_from(("acme", "acme", "acme", "beta"))


def stories(dataset: str) -> st.SearchStrategy[Story]:
    """Of few fields or of many."""
    return _stories(NARROW[dataset]) | _stories(POOLS[dataset])


def _stories(pool: Pool) -> st.SearchStrategy[Story]:
    """A view of the rows, then anything, with many questions."""
    seats = st.sampled_from((0, 0, 0, 0, 1, 2))
    asking, drafting, committing = asks(pool, seats), saves(pool, seats), commits(pool, seats)
    step = st.one_of(
        drafting, drafting, drafting, committing, committing, discards(pool, seats), pulls(pool), pulls(pool),
        loads(pool), st.just(Refresh()), asking, asking, asking, asking, asking,
    )  # fmt: skip
    first = st.sampled_from(([Refresh()], [Refresh()], []))
    return st.builds(
        lambda rows, first, steps, last: Story(rows, [*first, *steps, *last]),
        mirrors(pool, wrong=True),
        first,
        st.lists(step, max_size=12),
        st.lists(asking, min_size=1, max_size=4),
    )


@examples(20)
@given(stories("fleet"))
async def test_figures_of_the_fleet(world: World, users: list[User], story: Story) -> None:
    await KpiComparison(world, FLEET, users, story).run()


@examples(20)
@given(stories("pfa"))
async def test_figures_of_pfa(world: World, users: list[User], story: Story) -> None:
    await KpiComparison(world, PFA, users, story).run()


# -- stories that once went wrong --------------------------------------------------------------------------------------

OLD, NEW = {"depot": "a", "inspectedOn": "2026-01-01"}, {"depot": "a", "inspectedOn": "2026-01-31"}
LONG = {"depot": "a", "mileage": Decimal("123456789012345678901234567890.12345678901234567890")}

TOLD: dict[str, tuple[Contract, dict[str, Document], Sequence[Step]]] = {
    "a row drafted out of a filter by a value that is not there takes its extreme value along": (
        FLEET,
        {"A": OLD, "B": NEW},
        [Refresh(), saving(0, {"depot": None}), Ask(0, [("depot", "a")]), Ask(0, [("depot", "a")], ("depot",))],
    ),
    "a row pulled out of a filter by a value that is not there takes its extreme value along": (
        FLEET,
        {"A": OLD, "B": NEW},
        [Refresh(), Pull("acme", (("A", {"depot": None}),)), Ask(0, [("depot", "a")]), Ask(1, [("depot[ne]", "b")])],
    ),
    "sums, averages and differences of many digits are exact": (
        FLEET,
        {"A": LONG, "B": LONG, "C": {"depot": "b", "mileage": 1}},
        [Refresh(), Ask(0), saving(0, {"mileage": Decimal("0.00000000000000000001")}), Ask(0), Ask(0, (), ("depot",))],
    ),
}


@pytest.mark.parametrize("title", TOLD)
async def test_figures_that_once_were_wrong(world: World, users: list[User], title: str) -> None:
    contract, rows, steps = TOLD[title]
    await KpiComparison(world, contract, users, Story({"acme": rows, "beta": {}}, list(steps))).run()
