"""The live merge against its model (model.py): random rows, drafts, commits, discards and listings, the same answers.

Everything goes over HTTP into the application in this process, so that grammar, cursors and problems are part of it.
The run of CI is short and always the same. To search further, with other examples each time:

    VANGUARD_MODEL_EXAMPLES=5000 python -m pytest --timeout=0 -o faulthandler_timeout=0 tests/test_model.py -x

A failure prints the story up to the step that went wrong; such a run looks for a shorter one first, which takes minutes
unless VANGUARD_MODEL_NO_SHRINK=1 forbids it. Put what it tells into TOLD below.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import PFA, Contract
from app.contracts.filters import INCLUDES, field_type
from app.contracts.rule_types import Required
from app.migrate import migrate
from tests.support.memory import Memory
from tests.support.model import Document, Model, Query, Refused, shown
from tests.support.world import CONTRACTS, FLEET, User, World, open_world

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

WANTED = int(os.environ.get("VANGUARD_MODEL_EXAMPLES", "0"))
HURRY = not WANTED or "VANGUARD_MODEL_NO_SHRINK" in os.environ
SEATS = (("acme", "ann"), ("acme", "bob"), ("beta", "ann"))


def examples(number: int) -> settings:
    """So many examples, always the same ones; as many new ones as the environment asks for."""
    return settings(
        max_examples=WANTED or number,
        derandomize=not WANTED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=bool(WANTED),
        phases=[phase for phase in Phase if phase is not Phase.shrink or not HURRY],
    )


# -- what happens ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Save:
    """A batch of drafts; `expectedVersion` and its like are how far they are off the version that is there."""

    seat: int
    drafts: tuple[Document, ...]
    atomic: bool = False


@dataclass(frozen=True)
class Commit:
    """A commit. Where it conflicts, a second one follows: a use for each conflict, in turn."""

    seat: int
    keys: tuple[str, ...] | None = None
    off: int | None = None
    dry_run: bool = False
    uses: tuple[str, ...] = ()
    unasked: tuple[Document, ...] = ()
    skip: bool = False


@dataclass(frozen=True)
class Discard:
    """Discard rows, all, or fields."""

    seat: int
    keys: tuple[str, ...] | None = None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class List:
    """A listing, walked by cursor or by page number."""

    seat: int
    query: Query
    size: int = 100
    by_cursor: bool = True


@dataclass(frozen=True)
class Story:
    """Rows of each organization, and what happens then."""

    rows: dict[str, dict[str, Document]]
    steps: list[Save | Commit | Discard | List] = field(default_factory=list)


# -- values: few, so that ties are common; nasty, so that nothing is lost between two quotes ---------------------------

# Texts that are one but for case and form: with a final sigma, a sharp s, a composed letter, a dotted I, a ligature.
ALIKE = ("ΟΔΟΣ", "οδος", "Maß", "MASS", "MAẞ", "é", "E\u0301", "\u0130", "i\u0307", "\ufb01", "FI")
TEXTS = ("a", "A", "", "Ä", "ä", "ß", "100%", "a_b", "\\", 'it\'s "so"', "x\x1fy", "z,y", "null", "\U0001f600", *ALIKE)
# What is looked for in them.
PARTS = ("ς", "\u03c3", "Σ", "ss", "ẞ", "\u017f", "é", "e\u0301", "e", "\u0301", "\u0130", "i", "\ufb01", "f")
DAYS = ("2026-01-01", "2026-01-31", "2024-02-29", "1999-12-31", "9999-12-31", "0001-01-01")
MOMENTS = (
    "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.000001Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
)  # fmt: skip
NUMBERS = tuple(map(Decimal, ("1", "1.0", "2", "0", "1.10", "0.00", "1E+2", "123456789012345678.05")))
COUNTS = (1, 2, Decimal("2.0"), 0, 10, 200)
WRONG: dict[str, tuple[Any, ...]] = {
    "number": ("1", True, -1, Decimal("1e31")),
    "integer": (Decimal("1.5"), "1", 201),
    "date": ("2026-02-30", 5),
    "datetime": ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.50Z", "2026-01-01", 5),
    "boolean": ("true", 1),
    "enum": ("truck", 1),
    "text": (5, True),
}


USES = st.sampled_from(("mine", "theirs", "value"))


@dataclass(frozen=True)
class Pool:
    """What stories are made of: the rows and fields that they are about, and how many values a field has."""

    contract: Contract
    keys: tuple[str, ...]
    names: tuple[str, ...]
    read_only: tuple[str, ...] = ()
    most: int = 100

    @property
    def seen(self) -> list[str]:
        """What can be filtered and sorted by."""
        computed = [item.name for item in self.contract.computed]
        return [*self.names, *self.read_only, *computed, self.contract.text_key, "id"]


MANY = ("A", "B", "a", "B%", "Ä_")
LISTED = {
    "pfa": Pool(
        PFA,
        MANY,
        tuple(
            "category source dor monthlyRate purchasePrice manufacturer equipment forecastStart forecastEnd "
            "isActualized isDiscontinued isFundsTransferable".split()
        ),
        ("originalStart", "originalEnd", "actualStart", "actualEnd", "hasActuals", "contract"),
    ),
    "fleet": Pool(FLEET, MANY, tuple(field.name for field in FLEET.fields if field.editable)),
}
# Fewer of everything, so that two users meet in one cell; named twice, what breaks no rule comes up more often.
EDITED = {
    "pfa": Pool(
        PFA,
        ("A", "B"),
        tuple("category category equipment monthlyRate source forecastStart forecastEnd isActualized".split()),
        ("contract",),
        most=2,
    ),
    "fleet": Pool(
        FLEET, ("A", "B"), tuple("depot depot mileage seenAt remark scrapped firstDay lastDay".split()), most=2
    ),
}


def values(pool: Pool, name: str) -> st.SearchStrategy[Any]:
    """A value that fits the field, most often not null."""
    declared = pool.contract.by_name[name]
    found: Sequence[Any]
    match declared.type:
        case "text":
            found = TEXTS
        case "enum":
            found = declared.values
        case "date":
            found = DAYS
        case "datetime":
            found = MOMENTS
        case "boolean":
            found = (False, True)
        case "integer":
            found = COUNTS
        case _:
            found = NUMBERS
    few = found[: pool.most]
    return st.sampled_from([*few, *few, None])


def deltas(pool: Pool, names: Sequence[str], most: int, least: int = 0) -> st.SearchStrategy[Document]:
    """Some fields with values."""
    one = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), values(pool, name)))
    return st.lists(one, min_size=least, max_size=most).map(dict)


def documents(pool: Pool, *, wrong: bool) -> st.SearchStrategy[Document]:
    """A mirror's row; `wrong`: also with what a contract would not let pass."""
    names = (*pool.names, *pool.read_only)
    good = deltas(pool, names, 8)
    if not wrong:
        return good
    kinds = {name: pool.contract.by_name[name].type for name in names}
    typed = [(n, value) for n, kind in kinds.items() if kind not in ("text", "enum") for value in WRONG[kind]]
    bad = st.lists(st.sampled_from(typed), max_size=1).map(dict)
    return st.tuples(good, bad).map(lambda both: {**both[0], **both[1]})


def mirrors(pool: Pool, *, wrong: bool = False) -> st.SearchStrategy[dict[str, dict[str, Document]]]:
    """The rows of both organizations, under the same ids."""
    most = len(pool.keys)
    least = 1 if most < len(MANY) else 0
    rows = st.dictionaries(st.sampled_from(pool.keys), documents(pool, wrong=wrong), min_size=least, max_size=most)
    return st.fixed_dictionaries({"acme": rows, "beta": st.one_of(st.just({}), rows)})


def ids(pool: Pool) -> st.SearchStrategy[str]:
    """Ids of rows, and one that no mirror begins with."""
    return st.sampled_from((*pool.keys, "new"))


def updates(pool: Pool, keys: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[Document]:
    """Changes of rows that fit the contract."""
    parts: dict[str, st.SearchStrategy[Any]] = {"id": keys, "delta": deltas(pool, pool.names, 3, least)}
    unset = st.lists(st.sampled_from(pool.names), min_size=1, max_size=2)
    return st.fixed_dictionaries(parts) | st.fixed_dictionaries(parts, optional={"unset": unset})


def inserts(pool: Pool, keys: st.SearchStrategy[str]) -> st.SearchStrategy[Document]:
    """New rows, with what a new row needs, and with their key or without."""
    contract = pool.contract
    new = [rule for rule in contract.rules if isinstance(rule, Required) and rule.new_rows_only]
    needed = {name: values(pool, name) for rule in new for name in rule.fields}
    content = st.builds(_both, st.fixed_dictionaries(needed), deltas(pool, pool.names, 2))
    parts: dict[str, st.SearchStrategy[Any]] = {"id": keys, "op": st.just("insert"), "delta": content}
    found = st.fixed_dictionaries(parts)
    return found | found.map(lambda draft: {**draft, "delta": {**draft["delta"], contract.text_key: draft["id"]}})


def deletes(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Document]:
    """Deletions."""
    return st.fixed_dictionaries({"id": keys, "op": st.just("delete")})


def drafts(pool: Pool) -> st.SearchStrategy[Document]:
    """A draft as a client sends it, right or wrong."""
    contract, keys = pool.contract, ids(pool)
    changing, deleting = updates(pool, keys, 1), deletes(keys)
    wrong = [(name, value) for name in set(pool.names) for value in WRONG[contract.by_name[name].type]]
    wrongs = st.sampled_from([*sorted(wrong, key=str), ("nothing", 1), (contract.text_key, "X")])
    bad = st.builds(lambda key, one: {"id": key, "delta": dict([one])}, keys, wrongs)
    off = st.sampled_from((0, 0, 0, 1, -1))
    words = st.sampled_from(("expectedVersion", "expectedMirrorVersion", "expectedMirrorVersion"))
    versioned = st.builds(_expecting, changing | deleting, words, off)
    based = st.builds(_based, changing | deleting, deltas(pool, pool.names, 3, 1))
    changes = (changing, changing, changing, changing)
    return st.one_of(*changes, inserts(pool, keys), deleting, versioned, based, based, bad)


def _both(one: Document, other: Document) -> Document:
    return {**one, **other}


def _expecting(draft: Document, word: str, off: int) -> Document:
    return {**draft, word: off}


def _based(draft: Document, base: Document) -> Document:
    return {**draft, "base": base}


def saves(pool: Pool, seats: st.SearchStrategy[int]) -> st.SearchStrategy[Save]:
    """Batches."""
    batch = st.lists(drafts(pool), min_size=1, max_size=4).map(tuple)
    return st.builds(Save, seats, batch, st.sampled_from((False, False, True)))


def commits(pool: Pool, seats: st.SearchStrategy[int]) -> st.SearchStrategy[Commit]:
    """Commits of some rows or all."""
    names = [*pool.names, *(group.name for group in pool.contract.atomic_groups), None]
    use = st.sampled_from(("mine", "theirs"))
    unasked = st.fixed_dictionaries({"id": st.sampled_from(pool.keys), "field": st.sampled_from(names), "use": use})
    return st.builds(
        Commit,
        seats,
        chosen(pool),
        st.sampled_from((None, None, None, None, 0, 1)),
        st.sampled_from((False, False, False, False, True)),
        st.lists(USES, max_size=3).map(tuple),
        st.sampled_from(range(5)).flatmap(lambda place: st.just(()) if place else unasked.map(lambda one: (one,))),
        st.sampled_from((False, False, True)),
    )


def chosen(pool: Pool) -> st.SearchStrategy[tuple[str, ...] | None]:
    """All, or some ids."""
    return st.none() | st.none() | st.lists(ids(pool), min_size=1, max_size=2, unique=True).map(tuple)


def discards(pool: Pool, seats: st.SearchStrategy[int]) -> st.SearchStrategy[Discard]:
    """Discards of rows or fields."""
    fields = st.lists(st.sampled_from(pool.names), min_size=1, max_size=3, unique=True).map(tuple)
    return st.builds(Discard, seats, chosen(pool), st.just(()) | fields | fields)


# -- listings ----------------------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """A value as a query has it."""
    if isinstance(value, Decimal) and value == int(value) < 1000:
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def conditions(pool: Pool) -> st.SearchStrategy[list[tuple[str, str]]]:
    """The parameters of one filter."""
    return st.sampled_from(pool.seen).flatmap(lambda name: conditions_on(pool, name))


def conditions_on(pool: Pool, name: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    """The parameters of one filter of this field."""
    contract = pool.contract
    kind = field_type(contract, name)
    if name in ("id", contract.text_key):
        texts = st.sampled_from((*pool.keys, "", "%", "ä"))
    elif kind == "boolean":
        texts = st.sampled_from(("true", "false"))
    elif name not in contract.by_name:
        texts = st.sampled_from(("0", "0.00", "1", "1.10", "10", "65.7"))
    else:
        texts = values(pool, name).filter(lambda value: value is not None).map(text_of)
    some = st.lists(texts.filter(lambda text: "," not in text), min_size=1, max_size=3)
    listed = st.sampled_from(("in", "nin"))
    choices = [
        texts.map(lambda text: [(name, text)]),
        st.lists(texts, min_size=2, max_size=3).map(lambda found: [(name, text) for text in found]),
        texts.map(lambda text: [(f"{name}[ne]", text)]),
        st.builds(lambda op, found: [(f"{name}[{op}]", ",".join(found))], listed, some),
        st.builds(lambda op, found: [(f"{name}[{op}]", text) for text in found], listed, some),
        st.sampled_from(("true", "false")).map(lambda text: [(f"{name}[isnull]", text)]),
    ]
    if kind != "boolean":
        ops = st.sampled_from(("gt", "gte", "lt", "lte"))
        choices.append(st.builds(lambda op, text: [(f"{name}[{op}]", text)], ops, texts))
    if kind in ("text", "enum"):
        parts = texts | st.sampled_from(("", "a", "Ä", "ä", "%", "_", "\\", '"', "u", "\x1f", *PARTS))
        ops = st.sampled_from(("contains", "startswith"))
        choices.append(st.builds(lambda op, text: [(f"{name}[{op}]", text)], ops, parts))
    return st.one_of(choices)


def lists(pool: Pool, seats: st.SearchStrategy[int]) -> st.SearchStrategy[List]:
    """Listings."""
    sorts = st.lists(st.sampled_from(pool.seen), max_size=3, unique=True).flatmap(
        lambda found: st.tuples(*(st.sampled_from((name, f"-{name}")) for name in found))
    )
    wanted = st.sampled_from(("pristine", "draft", "committed", "conflict", "in_review"))
    states = st.lists(wanted, max_size=2, unique=True)
    named = [*pool.contract.by_name, *(item.name for item in pool.contract.computed)]
    projections = st.lists(st.sampled_from(named), max_size=3, unique=True)
    includes = st.lists(st.sampled_from(INCLUDES), max_size=3, unique=True)
    words = st.sampled_from(("a", "Ä", "ä", "%", "_", "\\", '"', "SO", "new", "b%", "y", "\U0001f600", *PARTS))
    filters = st.lists(conditions(pool), max_size=2, unique_by=lambda found: found[0][0])
    nothing: st.SearchStrategy[list[str]] = st.just([])
    queries = st.builds(
        _query,
        filters,
        st.just("") | st.just("") | words,
        nothing | nothing | states,
        sorts,
        nothing | projections,
        nothing | includes,
    )
    return st.builds(List, seats, queries, st.sampled_from((1, 2, 3, 100)), st.booleans())


def _query(
    filters: list[list[tuple[str, str]]],
    search: str,
    states: Iterable[str],
    sort: Iterable[str],
    fields: Iterable[str],
    include: Iterable[str],
) -> Query:
    lists = {
        name: ",".join(words)
        for name, words in (("syncState", states), ("sort", sort), ("fields", fields), ("include", include))
    }
    words = {"search": search, **lists}
    return [*(one for condition in filters for one in condition), *((n, text) for n, text in words.items() if text)]


# -- the comparison ----------------------------------------------------------------------------------------------------


class Comparison:
    """The application and its model, side by side."""

    def __init__(self, world: World, contract: Contract, users: Sequence[User], story: Story):
        self.world, self.contract, self.story = world, contract, story
        self.users = [user.on(contract.name) for user in users]
        self.models = {
            organization: Model(contract, {key: {contract.text_key: key, **row} for key, row in rows.items()})
            for organization, rows in story.rows.items()
        }
        self.memory = Memory(each_time=3)

    async def run(self) -> None:
        """Set the rows up, and go through the story step by step."""
        await self.clean()
        await self.begin()
        await self.go(0, len(self.story.steps))
        try:
            await self.look_around()
        except Exception as error:
            error.add_note(self.told(len(self.story.steps)))
            raise

    async def begin(self) -> None:
        """The rows of the story."""
        for organization, rows in self.story.rows.items():
            await self.world.mirror(rows, organization, self.contract)

    async def go(self, first: int, last: int) -> None:
        """Some steps of the story; after each, what is remembered has to hold."""
        for place in range(first, last):
            try:
                await self.take(self.story.steps[place])
                await self.memory.look(*self.users)
            except Exception as error:
                error.add_note(self.told(place))
                raise

    def move(self, world: World) -> None:
        """Go on at another world, over another database."""
        self.world = world
        self.users = [User(world, user.id, user.organization, user.token, user.dataset) for user in self.users]

    async def restore(self, models: dict[str, Model]) -> None:
        """The database is as it was when the models were; counters go on from another number, and no version comes
        again that the lost time had.
        """
        number = int(await self.world.db.fetchval("SELECT number FROM incarnation"))
        assert number > 2**32
        for organization, model in models.items():
            for user, space in self.models[organization].workspaces.items():
                model.of(user).last = max(space.last, number)
            model.revision, model.number = number, number
        self.models = models

    async def take(self, step: Save | Commit | Discard | List) -> None:
        """One step."""
        match step:
            case Save():
                await self.save(step)
            case Commit():
                await self.commit(step)
            case Discard():
                await self.discard(step)
            case List():
                await self.list(step)

    def told(self, place: int) -> str:
        """The story so far, the step that went wrong last."""
        rows = [f"{organization}: {rows}" for organization, rows in self.story.rows.items() if rows]
        return "\n".join([self.contract.name, *rows, *map(str, self.story.steps[: place + 1])])

    async def clean(self) -> None:
        """Nothing is left of the example before. Revisions go on, as they always do: caches live by them."""
        schema = self.contract.schema
        await self.world.db.execute(
            f"DELETE FROM {schema}.mirror; DELETE FROM {schema}.modification; DELETE FROM {schema}.change;"
            f"DELETE FROM {schema}.history; DELETE FROM {schema}.step; DELETE FROM {schema}.edit;"
            "DELETE FROM edit_session; UPDATE workspace SET revision = revision + 1;"
            "UPDATE dataset SET revision = revision + 1"
        )
        found = "SELECT organization_id, revision FROM dataset WHERE name = $1"
        for organization, revision in await self.world.db.fetch(found, self.contract.name):
            self.models[organization].revision = revision

    def at(self, seat: int) -> tuple[User, Model]:
        """Who sits there, before which model."""
        return self.users[seat], self.models[SEATS[seat][0]]

    # -- steps --------------------------------------------------------------------------------------------------------

    async def save(self, step: Save) -> None:
        user, model = self.at(step.seat)
        wanted = [self.versioned(model, user, draft) for draft in step.drafts]
        more, how = self.manner(step)
        response = await user.post("drafts", {"modifications": wanted, "atomic": step.atomic, **more})
        try:
            saved, faults = model.save(user.id, wanted, atomic=step.atomic, **how)
        except Refused as refused:
            refuses(response, refused)
        else:
            answer = answered(response)
            assert sorted(one["id"] for one in answer["saved"]) == sorted(saved)
            assert {(one["id"], one["code"]) for one in answer["errors"]} == faults
            space = model.of(user.id)
            for one in answer["saved"]:
                key = one["id"]
                assert one["syncState"] == model.sync_state(user.id, key)
                assert one["mirrorVersion"] == model.mirror_versions.get(key, 0)
                if key not in space.versions:
                    assert one["version"] == 0, "nothing is left of it"
                    continue
                assert one["version"] > space.last
                space.versions[key] = one["version"]
            space.last = max([space.last, *(space.versions.get(key) or 0 for key in saved)])
        await self.look(step.seat)

    def manner(self, step: Save) -> tuple[Document, Document]:
        """How a batch is saved: members of the request, and arguments of the model."""
        return {}, {}

    def selection(self, step: Commit | Discard) -> tuple[Document, Document]:
        """Which drafts a step is about: members of the request, and arguments of the model."""
        return {"all": True} if step.keys is None else {"ids": step.keys}, {"keys": step.keys}

    @staticmethod
    def versioned(model: Model, user: User, draft: Document) -> Document:
        """The draft with the versions that it expects."""
        key, versioned = draft["id"], dict(draft)
        for word, version in (
            ("expectedVersion", model.of(user.id).versions.get(key) or 0),
            ("expectedMirrorVersion", model.mirror_versions.get(key, 0)),
        ):
            if word in draft:
                versioned[word] = max(0, version + draft[word])
        return versioned

    async def commit(self, step: Commit) -> None:
        user, model = self.at(step.seat)
        drafted = model.of(user.id).drafts.keys()
        body, among = self.selection(step)
        expected = {}
        if step.off is not None:
            expected = {key: (model.of(user.id).versions[key] or 0) + step.off for key in drafted
                        if step.keys is None or key in step.keys}  # fmt: skip
        unasked = list(step.unasked)
        refused = await self._commit(step, body, among, expected, unasked)
        if refused and refused.conflicts and step.uses:
            await self.look(step.seat)
            settled = {(one["id"], one["field"]) for one in unasked}
            for place, conflict in enumerate(refused.conflicts):
                if (conflict["id"], conflict["field"]) not in settled:
                    unasked.append(self.resolution(conflict, step.uses[place % len(step.uses)]))
            await self._commit(step, body, among, expected, unasked)
        for seat, (organization, _) in enumerate(SEATS):
            if organization == user.organization:
                await self.look(seat)

    async def _commit(
        self,
        step: Commit,
        body: Document,
        among: Document,
        expected: dict[str, int],
        resolutions: list[Document],
    ) -> Refused | None:
        user, model = self.at(step.seat)
        more = {"resolutions": resolutions, "expectedVersions": expected, "dryRun": step.dry_run}
        more |= {"onConflict": "skip"} if step.skip else {}
        response = await user.post("commit", {**body, **more})
        how: Document = {**among, "dry_run": step.dry_run, "skip": step.skip}
        try:
            committed = model.commit(user.id, **how, expected=expected, resolutions=resolutions)
        except Refused as refused:
            refuses(response, refused)
            return refused
        answer = answered(response)
        assert (answer["committed"], answer["revision"]) == (committed, model.revision)
        assert (answer["commitId"] is None) == step.dry_run
        assert ("skipped" in answer) == step.skip
        if step.skip:
            assert answer["skippedCount"] == len(answer["skipped"])
            assert sorted_conflicts(answer["skipped"]) == sorted_conflicts(model.skipped)
        return None

    def resolution(self, conflict: Document, use: str) -> Document:
        """What to do about a conflict."""
        resolved = {"id": conflict["id"], "field": conflict["field"], "use": use}
        if use != "value":
            return resolved
        if conflict["field"] is None:
            return {**resolved, "use": "mine"}
        members = [group.fields for group in self.contract.atomic_groups if group.name == conflict["field"]]
        value: Any = conflict["base"]
        if members:
            value = {name: conflict["theirs"][name] for name in members[0]}
        return {**resolved, "value": value}

    async def discard(self, step: Discard) -> None:
        user, model = self.at(step.seat)
        body, among = self.selection(step)
        if step.fields:
            body["fields"] = step.fields
        response = await user.post("discard", body)
        try:
            discarded = model.discard(user.id, fields=step.fields, **among)
        except Refused as refused:
            refuses(response, refused)
        else:
            assert answered(response)["discarded"] == discarded
        await self.look(step.seat)

    async def list(self, step: List) -> None:
        user, model = self.at(step.seat)
        query = [*step.query, ("pageSize", str(step.size))]
        try:
            wanted = model.listing(user.id, step.query)
        except Refused as refused:
            refuses(await user.get("rows", query), refused)
            return
        found: list[Document] = []
        page, position = 1, query
        while True:
            response = await user.get("rows", position)
            answer = answered(response)
            paging = answer["pagination"]
            found += answer["data"]
            assert len(answer["data"]) <= step.size
            assert paging["totalRecords"] == len(wanted)
            assert paging["totalPages"] == -(-len(wanted) // step.size)
            assert answer["metadata"]["revision"] == model.revision
            if paging["nextCursor"] is None or len(found) > len(wanted):
                break
            page += 1
            position = [*query, ("after", paging["nextCursor"]) if step.by_cursor else ("page", str(page))]
        assert [row["id"] for row in found] == [row["id"] for row in wanted]
        assert [comparable({**row, "base": {}}) for row in found] == [comparable({**row, "base": {}}) for row in wanted]
        for row, other in zip(found, wanted, strict=True):
            assert ("base" in row) == ("base" in other)
            if "base" in row:
                self.same_base(model, row, other)

    @staticmethod
    def same_base(model: Model, found: Document, row: Document) -> None:
        """Of what the draft touches; what else there is in a base is nobody's business."""
        there = row["op"] == "update" and row["id"] in model.mirror
        kept = model.touched(row["delta"]) if there else [*found["base"], *row["base"]]
        bases = [{name: one["base"].get(name) for name in kept} for one in (found, row)]
        assert shown(bases[0]) == shown(bases[1])

    def compare(self, model: Model, found: Document, row: Document) -> None:
        """One modification is as the model has it."""
        self.same_base(model, found, row)
        assert comparable({**found, "base": {}}) == comparable({**row, "base": {}})

    # -- looking around -----------------------------------------------------------------------------------------------

    async def look(self, seat: int) -> None:
        """The user's modifications and whole list are as the model has them; learn the new versions."""
        user, model = self.at(seat)
        space = model.of(user.id)
        response = await user.get("drafts")
        found = {row["id"]: row for row in answered(response)["data"]}
        wanted = model.modifications(user.id)
        assert found.keys() == wanted.keys()
        fresh = {found[key]["version"] for key in wanted if space.versions[key] is None}
        assert len(fresh) <= 1, "one transaction, one version"
        assert all(version > space.last for version in fresh), "a version never comes twice"
        for key, row in wanted.items():
            if space.versions[key] is None:
                space.versions[key] = row["version"] = found[key]["version"]
            self.compare(model, found[key], row)
        space.last = max([space.last, *fresh])
        await self.list(List(seat, [("sort", "id")]))

    async def look_around(self) -> None:
        """Everybody, and each row by itself."""
        for seat in range(len(SEATS)):
            await self.look(seat)
        user, model = self.at(0)
        modified = model.modifications(user.id)
        for key in ("A", "B%", "new"):
            response = await user.get(f"rows/{quote(key)}")
            if key not in model.mirror and key not in modified:
                refuses(response, Refused(404, "ROW_NOT_FOUND"))
                continue
            row = modified.get(key) or model.row(user.id, key)
            answer = answered(response)
            assert comparable({name: answer[name] for name in row if name != "base"}) == (
                comparable({name: row[name] for name in row if name != "base"})
            )


def answered(response: httpx.Response) -> Document:
    """The body of an answer that is none of a problem."""
    assert response.status_code == 200, response.text
    answer: Document = exact_json.decode(response.content)
    return answer


def refuses(response: httpx.Response, refused: Refused) -> None:
    """The answer is the problem that the model has."""
    problem = exact_json.decode(response.content)
    assert (response.status_code, problem.get("code")) == (refused.status, refused.code), response.text
    if refused.faults:
        assert {(one.get("id"), one["code"]) for one in problem["errors"]} == refused.faults
    if refused.conflicts:
        assert sorted_conflicts(problem["conflicts"]) == sorted_conflicts(refused.conflicts)


def sorted_conflicts(conflicts: Iterable[Document]) -> list[Any]:
    """Conflicts in one order, without what is null in their rows."""
    sparse = [
        {name: {n: v for n, v in side.items() if v is not None} if isinstance(side, dict) else side
         for name, side in conflict.items()}
        for conflict in conflicts
    ]  # fmt: skip
    return [shown(one) for one in sorted(sparse, key=lambda one: (one["id"], one["field"] or ""))]


SHOWN = set("id data syncState version mirrorVersion modifiedFields modifiedBy op delta pending base computed".split())


def comparable(row: Document) -> Any:
    """What the model knows of a row."""
    known = {name: value for name, value in row.items() if name in SHOWN}
    return {**shown(known), "conflicts": sorted_conflicts(row["conflicts"])}


# -- the properties ----------------------------------------------------------------------------------------------------


def listing_stories(pool: Pool) -> st.SearchStrategy[Story]:
    """Drafts and commits, then listings."""
    seats = st.sampled_from((0, 0, 0, 1, 2))
    saving = saves(pool, seats)
    return st.builds(
        lambda rows, saved, listed: Story(rows, [*saved, *listed]),
        mirrors(pool, wrong=True),
        st.lists(st.one_of(saving, saving, saving, commits(pool, seats)), max_size=5),
        st.lists(lists(pool, seats), min_size=1, max_size=8),
    )


def editing_stories(pool: Pool) -> st.SearchStrategy[Story]:
    """Drafts, commits and discards of two users who meet on a row, with a listing now and then."""
    seats = st.sampled_from((0, 0, 0, 0, 1, 1, 1, 1, 2))
    saving, committing = saves(pool, seats), commits(pool, seats)
    step = st.one_of(saving, saving, saving, committing, committing, discards(pool, seats), lists(pool, seats))
    one = st.lists(step, max_size=3)
    met = st.one_of(*(meetings(pool, key) for key in (*pool.keys, *pool.keys, "new")))
    return st.builds(
        lambda rows, *parts: Story(rows, [step for part in parts for step in part]),
        mirrors(pool),
        one,
        met,
        one,
        met,
        one,
    )


def meetings(pool: Pool, key: str) -> st.SearchStrategy[list[Any]]:
    """Ann drafts a row, bob drafts and commits the same cell, and ann goes on with hers and commits."""
    return st.sampled_from(pool.names).flatmap(lambda name: _meetings(pool, key, name))


def _meetings(pool: Pool, key: str, name: str) -> st.SearchStrategy[list[Any]]:
    ann, same = st.just(0), st.just(key)
    cell = st.builds(lambda value: {"id": key, "delta": {name: value}}, values(pool, name))
    touching = st.builds(lambda one, two: {**two, "delta": {**two["delta"], **one["delta"]}}, cell, updates(pool, same))
    draft = st.one_of(cell, touching, touching, deletes(same), inserts(pool, same))
    if key == "new":
        draft = inserts(pool, same)
    hers, his = (draft.map(partial(_single, seat)) for seat in (0, 1))
    uses, skips = st.lists(USES, min_size=1, max_size=3).map(tuple), st.sampled_from((False, False, True))
    committing = st.builds(Commit, ann, uses=uses, skip=skips)
    return st.builds(
        lambda *parts: [step for part in parts for step in part],
        st.tuples(hers) | st.tuples(hers, hers) | st.tuples(hers, st.just(Commit(0)), hers),
        st.tuples(his, st.just(Commit(1))),
        st.just([]) | st.lists(hers | discards(pool, ann), max_size=2),
        st.tuples(committing) | st.tuples(commits(pool, ann), committing),
    )


def _single(seat: int, draft: Document) -> Save:
    return Save(seat, (draft,))


@pytest.fixture
async def users(world: World) -> list[User]:
    """Who takes part: ann is in both organizations. Thousands of requests need no log line each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    await world.organization("beta")
    return [await world.user(name, organization) for organization, name in SEATS]


@examples(40)
@given(listing_stories(LISTED["pfa"]))
async def test_listings_of_pfa(world: World, users: list[User], story: Story) -> None:
    await Comparison(world, PFA, users, story).run()


@examples(40)
@given(listing_stories(LISTED["fleet"]))
async def test_listings_of_fleet(world: World, users: list[User], story: Story) -> None:
    await Comparison(world, FLEET, users, story).run()


@pytest.mark.slow("sixty stories that nobody wrote, each checked against a model in plain Python")
@examples(60)
@given(editing_stories(EDITED["fleet"]))
async def test_edits_that_reach_the_mirror(world: World, users: list[User], story: Story) -> None:
    await Comparison(world, FLEET, users, story).run()


@pytest.mark.slow("sixty stories that nobody wrote, each checked against a model in plain Python")
@examples(60)
@given(editing_stories(EDITED["pfa"]))
async def test_edits_that_wait_for_upstream(world: World, users: list[User], story: Story) -> None:
    await Comparison(world, PFA, users, story).run()


@pytest.mark.slow("stories that are lived twice, over three databases each")
@pytest.mark.parametrize("contract", [FLEET, PFA], ids=lambda contract: contract.name)
@examples(3)
@given(data=st.data())
async def test_a_restore_in_the_middle(
    template: str, create_database: Callable[..., str], contract: Contract, data: st.DataObject
) -> None:
    """Given a story that is backed up half-way, when the backup is restored and the second half lived again, then every
    answer is right, and what people remember of either life holds, or is refused.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    story = data.draw(editing_stories(EDITED[contract.name]))
    half, end = len(story.steps) // 2, len(story.steps)
    origin = create_database(template)
    migrate(origin, CONTRACTS)
    async with open_world(origin) as world:
        for organization in ("acme", "beta"):
            await world.organization(organization)
        users = [await world.user(name, organization) for organization, name in SEATS]
        comparison = Comparison(world, contract, users, story)
        await comparison.begin()
        await comparison.go(0, half)
    backup, models = create_database(origin), deepcopy(comparison.models)
    async with open_world(origin) as world:
        comparison.move(world)
        await comparison.go(half, end)
    migrate(backup, CONTRACTS)
    async with open_world(backup) as world:
        comparison.move(world)
        await comparison.restore(models)
        await comparison.memory.look(*comparison.users)
        await comparison.go(half, end)
        await comparison.look_around()


# -- stories that once went wrong --------------------------------------------------------------------------------------

LINE = {"depot": "a", "mileage": 1, "remark": "x", "firstDay": "2026-01-01", "lastDay": "2026-01-31"}
VAN = {"depot": "a", "kind": "Van"}


def saving(seat: int, delta: Document | None = None, key: str = "A", **more: Any) -> Save:
    """One draft."""
    return Save(seat, ({"id": key, "delta": delta or {}, **more},))


def deleting(seat: int) -> Save:
    """A draft of a deletion."""
    return saving(seat, op="delete")


def whole(seat: int, use: str) -> Commit:
    """A commit that resolves the whole row at once."""
    return Commit(seat, unasked=({"id": "A", "field": None, "use": use},))


TOLD: dict[str, tuple[str, dict[str, Document], list[Any]]] = {
    "the last day of the calendar is a day like others": (
        "fleet",
        {"A": {"inspectedOn": "9999-12-31"}, "B": {"inspectedOn": "2026-01-01"}, "C": {"inspectedOn": "0001-01-01"}},
        [
            List(0, [("sort", "-inspectedOn")], 1),
            List(0, [("sort", "inspectedOn")], 1),
            List(0, [("inspectedOn", "9999-12-31")]),
            List(0, [("inspectedOn[lte]", "0001-01-01")]),
        ],
    ),
    "what is deleted is listed as what lies beneath, what is pending included": (
        "pfa",
        {
            "A": {"category": "a", "equipment": "x", "source": "Rental", "monthlyRate": 1, "contract": "old"},
            "B": {"category": "b", "equipment": "y", "source": "Rental", "monthlyRate": 2},
            "Ä_": {"category": "a", "monthlyRate": 3},
        },
        [
            Save(
                0, ({"id": "A", "delta": {"category": "b", "equipment": "y"}}, {"id": "B", "delta": {"category": "c"}})
            ),
            saving(0, {"category": "a", "source": "Rental", "dor": "BEO", "monthlyRate": 9}, "new", op="insert"),
            Commit(0),
            Save(0, tuple({"id": key, "op": "delete"} for key in ("A", "B", "Ä_", "new"))),
            Commit(0, keys=("B",)),
            *(
                List(0, [*query, ("include", "deleted,computed,layers"), *fields], size, by_cursor)
                for query in (
                    [("sort", "category")],
                    [("sort", "-category,equipment")],
                    [("sort", "-monthlyRental")],
                    [("sort", "equipment")],
                    [("category", "b")],
                    [("category", "a"), ("sort", "monthlyRate")],
                    [("category[ne]", "a"), ("sort", "-id")],
                    [("equipment", "y")],
                    [("monthlyRental", "9")],
                    [("search", "y")],
                    [("search", "old")],
                    [("syncState", "draft")],
                    [("syncState", "committed"), ("sort", "category")],
                    [("syncState", "pristine")],
                )
                for fields in ([], [("fields", "category,planCost")])
                for size, by_cursor in ((1, True), (2, False), (100, True))
            ),
        ],
    ),
    "a list of drafts alone counts the drafts alone": (
        "fleet",
        {"A": LINE, "B": LINE},
        [saving(0, {"depot": "b"}), List(0, [("syncState", "draft")]), List(0, [("syncState", "conflict")])],
    ),
    "two new rows of one id conflict, also after a further edit": (
        "fleet",
        {},
        [
            saving(0, VAN, "new", op="insert"),
            saving(1, VAN | {"depot": "b"}, "new", op="insert"),
            Commit(1),
            saving(0, {"seats": 3}, "new"),
            Commit(0),
        ],
    ),
    "a field discarded from a draft whose row is gone leaves the row to insert again": (
        "fleet",
        {"A": {**LINE, **VAN}},
        [
            saving(0, {"depot": "b", "mileage": 2}),
            deleting(1),
            Commit(1),
            Discard(0, fields=("depot",)),
            Commit(0, uses=("mine",)),
        ],
    ),
    "a deletion drafted again over a conflict has seen it": (
        "fleet",
        {"A": LINE},
        [deleting(0), saving(1, {"depot": "b"}), Commit(1), deleting(0), Commit(0)],
    ),
    "an edit instead of a deletion in conflict has seen it": (
        "fleet",
        {"A": LINE},
        [deleting(0), saving(1, {"depot": "b"}), Commit(1), saving(0, {"depot": "c"}), Commit(0)],
    ),
    "an edit instead of a deletion keeps the base of a field that was not there": (
        "pfa",
        {"A": {}},
        [deleting(0), saving(1, {"equipment": "b"}), Commit(1), saving(0, {"equipment": "c"}), Commit(0)],
    ),
    "a whole row taken as mine takes every cell": (
        "fleet",
        {"A": LINE},
        [saving(0, {"depot": "b"}), saving(1, {"depot": "c"}), Commit(1), whole(0, "mine")],
    ),
    "a draft resolved away is a new version of what is pending": (
        "pfa",
        {"A": {"category": "a", "equipment": "x"}},
        [saving(0, {"category": "b"}), Commit(0), saving(0, {"equipment": "y"}), whole(0, "theirs")],
    ),
    "drafts of one row in one request come one after the other": (
        "fleet",
        {"A": LINE},
        [
            saving(0, {"depot": "b"}),
            Save(0, ({"id": "A", "op": "delete"}, {"id": "A", "delta": {"mileage": 5}})),
            Save(0, ({"id": "new", "op": "insert", "delta": VAN}, {"id": "new", "op": "delete"})),
        ],
    ),
    "a row deleted by others is shown with what one has pending": (
        "pfa",
        {"A": {"category": "a", "equipment": "x"}},
        [
            saving(0, {"category": "b"}),
            Commit(0),
            saving(0, {"equipment": "y"}),
            deleting(1),
            Commit(1),
            Commit(0, uses=("mine",)),
            List(0, [("sort", "id")]),
        ],
    ),
    "a row that comes back under a draft has no base for what was not touched": (
        "fleet",
        {"A": {**LINE, **VAN}},
        [
            saving(0, {"mileage": 2}),
            deleting(1),
            Commit(1),
            saving(1, {"depot": "b", "kind": "Van"}, op="insert"),
            Commit(1),
            saving(0, {"depot": "a"}),
            Commit(0, uses=("mine",)),
        ],
    ),
    "a cell given up of a row that is gone leaves the row whole in the conflict": (
        "fleet",
        {"A": LINE},
        [
            saving(0, {"depot": "b", "mileage": 2}),
            deleting(1),
            Commit(1),
            Commit(0, unasked=({"id": "A", "field": "depot", "use": "theirs"},)),
        ],
    ),
    "a new row in conflict is shown with what was drafted, and nothing besides": (
        "pfa",
        {},
        [
            saving(1, {"category": "a", "source": "Rental", "dor": "BEO"}, "new", op="insert"),
            saving(0, {"category": "a", "source": "Rental", "dor": "BEO", "monthlyRate": 1}, "new", op="insert"),
            Commit(0),
            Commit(1),
            saving(1, {"equipment": "x"}, "new"),
        ],
    ),
    "a new row taken as mine without need stays as it was drafted": (
        "pfa",
        {},
        [
            saving(0, {"category": "a", "source": "Rental", "dor": "BEO", "monthlyRate": 1}, op="insert"),
            whole(0, "mine"),
        ],
    ),
    "a row is resolved whole or in parts": (
        "fleet",
        {"A": LINE},
        [
            saving(0, {"mileage": 2}),
            deleting(1),
            Commit(1),
            Commit(0, uses=("mine",), unasked=({"id": "A", "field": "mileage", "use": "mine"},)),
        ],
    ),
    "a new row in place of one's drafted deletion is a new row": (
        "pfa",
        {"A": {"category": "a"}},
        [deleting(0), deleting(1), Commit(1), saving(0, {"category": "b", "source": None, "dor": None}, op="insert")],
    ),
}


@pytest.mark.parametrize("title", TOLD)
async def test_a_story_that_once_went_wrong(world: World, users: list[User], title: str) -> None:
    dataset, rows, steps = TOLD[title]
    contract = {"pfa": PFA, "fleet": FLEET}[dataset]
    await Comparison(world, contract, users, Story({"acme": rows, "beta": {}}, steps)).run()
