"""The three-way table of docs/merging.md for what a change request merges, row by row, over HTTP.

Ann submits, bob commits meanwhile, boss approves and merges. Without an upstream theirs is in the mirror by then, with
one it lies in the outbox.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from app.base import exact_json
from app.contracts import PFA, Contract
from app.web.auth import Role
from tests.conftest import new_database
from tests.support.model import lay
from tests.support.requests import Answer, act, cells, done, merged, not_merged, request, submitted
from tests.support.sessions import shown
from tests.support.world import CONTRACTS, FLEET, User, World, line, mirrored, open_world, refused, vehicle

both_datasets = pytest.mark.parametrize("contract", CONTRACTS, ids=[contract.name for contract in CONTRACTS])


@dataclass
class People:
    """Who takes part, each row of the world being one test's own."""

    world: World
    users: dict[str, User]
    keys: "count[int]" = field(default_factory=lambda: count(1))

    def on(self, contract: Contract) -> tuple[User, User, User]:
        """Ann, who submits, bob, who commits meanwhile, and boss, who reviews and merges."""
        ann, bob, boss = (self.users[name].on(contract.name) for name in ("ann", "bob", "boss"))
        return ann, bob, boss

    async def row(self, contract: Contract, **fields: Any) -> str:
        """The id of a new row of the mirror."""
        key = self.new()
        await self.world.mirror({key: fresh(contract, **fields)}, contract=contract)
        return key

    def new(self) -> str:
        """An id that no row has."""
        return f"R{next(self.keys)}"


@pytest.fixture(scope="module")
async def people(server_url: str, template: str) -> AsyncIterator[People]:
    """One world for all rows of the table."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            users = {name: await world.user(name) for name in ("ann", "bob")}
            yield People(world, users | {"boss": await world.user("boss", role=Role.ADMIN)})


def fresh(contract: Contract, **fields: Any) -> Answer:
    """A valid row of either dataset."""
    return (
        line(**fields) if contract is PFA else vehicle(**{"firstDay": "2026-02-01", "lastDay": "2026-07-31", **fields})
    )


# -- cells -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A cell of a dataset: its name in a conflict, the row's fields with the value A, and drafts of the values."""

    name: str
    values: dict[str, Answer]
    drafts: dict[str, Answer]


def text(name: str) -> Cell:
    """A cell of one field."""
    values = {letter: {name: letter} for letter in "ABC"}
    return Cell(name, values, values)


def days(name: str, first: str, last: str) -> Cell:
    """An atomic group, of which B and C change another field each."""
    a, b, c = (
        {first: start, last: end}
        for start, end in (("2026-02-01", "2026-07-31"), ("2026-03-01", "2026-07-31"), ("2026-02-01", "2026-09-30"))
    )
    return Cell(name, {"A": a, "B": b, "C": c}, {"A": a, "B": {first: b[first]}, "C": {last: c[last]}})


CELLS = {
    ("fleet", "cell"): text("remark"),
    ("fleet", "group"): days("service", "firstDay", "lastDay"),
    ("pfa", "cell"): text("equipment"),
    ("pfa", "group"): days("forecastDates", "forecastStart", "forecastEnd"),
}
CELL_TABLE = [
    # base, theirs, mine, result
    ("A", "A", "A", "A"),
    ("A", "A", "B", "B"),
    ("A", "B", "A", "B"),
    ("A", "B", "B", "B"),
    ("A", "B", "C", "conflict"),
]


@both_datasets
@pytest.mark.parametrize("kind", ["cell", "group"])
@pytest.mark.parametrize(("base", "theirs", "mine", "result"), CELL_TABLE, ids=["".join(row[:3]) for row in CELL_TABLE])
async def test_a_cell_is_merged_by_the_table(
    people: People, contract: Contract, kind: str, base: str, theirs: str, mine: str, result: str
) -> None:
    ann, bob, boss = people.on(contract)
    cell = CELLS[contract.name, kind]
    key = await people.row(contract, **cell.values[base])
    found = await submitted(ann, {"id": key, "delta": cell.drafts[mine]})
    if theirs != base:
        await bob.draft(key, cell.drafts[theirs])
        assert (await bob.commit(key)).status_code == 200
    before = await outcome(people, contract, key)

    if result == "conflict":
        told = await not_merged(boss, found, 409, "MERGE_CONFLICT")
        sides = {side: cell.values[value] for side, value in (("base", base), ("theirs", theirs), ("mine", mine))}
        if kind == "cell":
            sides = {side: value[cell.name] for side, value in sides.items()}
        assert told["conflicts"] == [{"id": key, "kind": kind, "field": cell.name, **sides}]
        assert await outcome(people, contract, key) == before
        await put_back(ann, found, key)
        return

    answer = await merged(boss, found)
    changed = result != theirs
    assert answer["rowsAffected"] == answer["diff"]["rowsUpdated"] == int(changed)
    wanted = cell.drafts[mine] if changed else {}
    assert answer["diff"]["cellsChanged"] == len(wanted)
    after = await outcome(people, contract, key)
    assert after == {**(before or {}), **cell.values[result]}
    if contract.upstream:
        await in_outbox(people, key, {"update": (cell.values[theirs], wanted)} if changed else {})


# -- rows --------------------------------------------------------------------------------------------------------------

NEW: dict[str, Answer] = {
    "fleet": {"depot": "North", "kind": "Van", "remark": "X"},
    "pfa": {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50, "equipment": "X"},
}
ROW_TABLE = [
    # base, theirs, mine, result: of a row, of no row
    ("row", "row", "edited", "edited"),
    ("row", "row", "deleted", None),
    ("row", "deleted", "edited", "row_deleted"),
    ("row", "edited", "deleted", "row_deleted"),
    ("row", "deleted", "deleted", None),
    (None, None, "inserted X", "inserted X"),
    (None, "inserted X", "inserted X", "inserted X"),
    (None, "inserted X", "inserted Y", "row_inserted"),
]


def draft(contract: Contract, key: str, what: str) -> Answer:
    """A draft of a row: edited, deleted, inserted with X or Y."""
    name = CELLS[contract.name, "cell"].name
    if what == "deleted":
        return {"id": key, "op": "delete"}
    if what == "edited":
        return {"id": key, "delta": {name: "edited"}}
    return {"id": key, "op": "insert", "delta": NEW[contract.name] | {name: what[-1]}}


@both_datasets
@pytest.mark.parametrize(("base", "theirs", "mine", "result"), ROW_TABLE, ids=lambda value: str(value or "no row"))
async def test_a_row_is_merged_by_the_table(
    people: People, contract: Contract, base: str | None, theirs: str | None, mine: str, result: str | None
) -> None:
    ann, bob, boss = people.on(contract)
    key = people.new() if base is None else await people.row(contract)
    found = await submitted(ann, draft(contract, key, mine))
    if theirs != base:
        other = draft(contract, key, str(theirs))
        await bob.draft(key, other.get("delta"), op=other.get("op", "update"))
        assert (await bob.commit(key)).status_code == 200
    before = await outcome(people, contract, key)

    if result in ("row_deleted", "row_inserted"):
        told = await not_merged(boss, found, 409, "MERGE_CONFLICT")
        (conflict,) = told["conflicts"]
        assert (conflict["id"], conflict["kind"]) == (key, result)
        if result == "row_inserted":
            name = CELLS[contract.name, "cell"].name
            sides = {"field": name, "base": None, "theirs": "X", "mine": "Y"}
            assert conflict == {"id": key, "kind": result, **sides}
        else:
            assert conflict["field"] is None
            assert (conflict["theirs"] is None, conflict["mine"] is None) == (theirs == "deleted", mine == "deleted")
        assert await outcome(people, contract, key) == before
        await put_back(ann, found, key)
        return

    answer = await merged(boss, found)
    after = await outcome(people, contract, key)
    if theirs == mine:
        assert (answer["rowsAffected"], after) == (0, before)
        if contract.upstream:
            await in_outbox(people, key, {})
        return
    word = {"edited": "rowsUpdated", "deleted": "rowsDeleted", "inserted X": "rowsAdded"}[mine]
    assert (answer["rowsAffected"], answer["diff"][word]) == (1, 1)
    if result is None:
        assert after is None
    else:
        assert after is not None
        assert after.items() >= draft(contract, key, mine)["delta"].items()
    if contract.upstream:
        op = {"edited": "update", "deleted": "delete", "inserted X": "insert"}[mine]
        wanted = draft(contract, key, mine).get("delta", {})
        name = CELLS["pfa", "cell"].name
        touched = {"update": {name: (before or {}).get(name)}, "delete": before, "insert": {}}[op]
        await in_outbox(people, key, {op: (touched, wanted | (PFA.initial if op == "insert" else {}))})


async def outcome(people: People, contract: Contract, key: str) -> Answer | None:
    """The row with everything that is committed: in the mirror, or on its way there."""
    row = await mirrored(people.world, key, contract)
    for change in await on_their_way(people, contract, key):
        row = lay(row, change["op"], change["delta"])
    return row


async def on_their_way(people: People, contract: Contract, key: str) -> list[Answer]:
    """The committed changes of a row, in their order."""
    rows = await people.world.db.fetch(
        f"SELECT id, user_id, op, base, delta FROM {contract.schema}.change"
        " WHERE row_key = $1 AND state = 'committed' ORDER BY id",
        key,
    )
    return [dict(row) | {side: exact_json.decode(row[side]) for side in ("base", "delta")} for row in rows]


async def in_outbox(people: People, key: str, wanted: dict[str, tuple[Any, Answer]]) -> None:
    """What is merged lies in the outbox behind what others have committed, with theirs as its base."""
    changes = await on_their_way(people, PFA, key)
    mine = [change for change in changes if change["user_id"] == "ann"]
    assert mine == changes[len(changes) - len(mine) :]
    assert {change["op"]: (change["base"], change["delta"]) for change in mine} == wanted


async def put_back(author: User, of: Answer, key: str) -> None:
    """The request is in review again, and its row is still the author's under review."""
    now = await request(author, of)
    assert (now["status"], now["iteration"], now["conflictCount"]) == ("pending_review", 2, 1)
    assert (await author.row(key))["syncState"] == "in_review"


# -- what the plan of the first merges names ---------------------------------------------------------------------------


@both_datasets
async def test_conflict_detection(people: People, contract: Contract) -> None:
    """Cells conflict, not rows: of two that changed, the one that both wrote; it shows before anybody merges."""
    ann, bob, boss = people.on(contract)
    name, other = CELLS[contract.name, "cell"].name, "depot" if contract is FLEET else "model"
    one, two = await people.row(contract, **{name: "A"}), await people.row(contract, **{name: "A"})
    found = await submitted(ann, {"id": one, "delta": {name: "B"}}, {"id": two, "delta": {name: "B"}})
    await bob.draft(one, {other: "theirs"})
    await bob.draft(two, {other: "theirs", name: "C"})
    assert (await bob.commit(one, two)).status_code == 200
    conflict = {"id": two, "kind": "cell", "field": name, "base": "A", "theirs": "C", "mine": "B"}
    now = await request(boss, found)
    assert (now["conflicts"], now["conflictCount"], now["status"]) == ([conflict], 1, "pending_review")
    assert now["digest"] != found["digest"]
    assert (await boss.get(f"change-requests/{found['id']}/conflicts")).json()["conflicts"] == [conflict]


async def test_successful_merge(people: People) -> None:
    """A merge tells what it did: revision and versions are those of now, and the counts are of what changed."""
    ann, _, boss = people.on(FLEET)
    edited, deleted, added = await people.row(FLEET), await people.row(FLEET), people.new()
    found = await submitted(
        ann,
        {"id": edited, "delta": {"seats": 5, "remark": "five"}},
        {"id": deleted, "op": "delete"},
        {"id": added, "op": "insert", "delta": NEW["fleet"]},
    )
    before = (await boss.page())["metadata"]["revision"]
    answer = await merged(boss, found)
    assert answer["diff"] == {
        "revisionBefore": before, "revisionAfter": before + 1, "rowsAdded": 1, "rowsUpdated": 1, "rowsDeleted": 1,
        "cellsChanged": 2 + len(NEW["fleet"]) + 1,
    }  # fmt: skip
    assert (answer["status"], answer["mergedRevision"], answer["rowsAffected"]) == ("closed", before + 1, 3)
    assert (await boss.page())["metadata"]["revision"] == before + 1
    assert [(await boss.row(key))["mirrorVersion"] for key in (edited, added)] == [2, 1]
    assert (await boss.get(f"rows/{deleted}")).status_code == 404
    history = (await boss.row(edited))["history"]
    assert (history[0]["source"], history[0]["actor"], history[0]["revision"]) == ("merge", "ann", before + 1)
    now = await request(ann, found)
    assert (now["status"], now["commitId"], now["mergedBy"]) == ("closed", answer["commitId"], "boss")
    assert (await shown(ann, found["sessionId"]))["status"] == "submitted"


@both_datasets
async def test_conflict_handling(people: People, contract: Contract) -> None:
    """A conflict refuses all of the merge, is resolved and approved anew, and then nothing of either is lost."""
    ann, bob, boss = people.on(contract)
    name, other = CELLS[contract.name, "cell"].name, "depot" if contract is FLEET else "model"
    one, two = await people.row(contract, **{name: "A"}), await people.row(contract, **{name: "A"})
    found = await submitted(ann, {"id": one, "delta": {name: "B"}}, {"id": two, "delta": {name: "B"}})
    await done(boss, found, "approve")
    await bob.draft(two, {other: "theirs", name: "C"})
    assert (await bob.commit(two)).status_code == 200
    told = refused(await act(boss, found, "merge"), 409, "MERGE_CONFLICT")
    assert (told["conflictCount"], told["iteration"]) == (1, 2)
    assert (await outcome(people, contract, one) or {})[name] == "A"
    refused(await act(boss, found, "merge"), 409, "INVALID_TRANSITION")
    fixed = await done(ann, found, "resolutions", default="mine")
    assert (fixed["status"], fixed["conflictCount"], fixed["approvals"]) == ("pending_review", 0, [])
    answer = await merged(boss, found)
    assert answer["rowsAffected"] == 2
    for key, fields in ((one, {name: "B"}), (two, {name: "B", other: "theirs"})):
        assert (await outcome(people, contract, key) or {}).items() >= fields.items()


async def test_validation_blocking(people: People) -> None:
    """What breaks a rule by now is not merged; the run that says so is kept with the request."""
    ann, bob, boss = people.on(FLEET)
    key, other = await people.row(FLEET), await people.row(FLEET)
    found = await submitted(ann, {"id": key, "delta": {"seats": None}}, {"id": other, "delta": {"remark": "B"}})
    await bob.draft(key, {"kind": "Bus"})
    assert (await bob.commit(key)).status_code == 200
    before = [await mirrored(people.world, each) for each in (key, other)]
    told = await not_merged(boss, found, 422, "VALIDATION_FAILED")
    assert [(each["id"], each["field"]) for each in told["errors"]] == [(key, "seats")]
    now = await request(ann, found)
    assert (now["status"], now["iteration"], now["reason"]) == ("pending_review", 2, told["detail"])
    assert (now["validation"]["runId"], now["validation"]["state"]) == (told["runId"], "failed")
    assert [await mirrored(people.world, each) for each in (key, other)] == before
    assert (await ann.row(other))["syncState"] == "in_review"


@both_datasets
async def test_idempotency(people: People, contract: Contract) -> None:
    """Merging twice, with the same key or without one, answers alike and does it once."""
    ann, _, boss = people.on(contract)
    name = CELLS[contract.name, "cell"].name
    key = await people.row(contract, **{name: "A"})
    found = await submitted(ann, {"id": key, "delta": {name: "B"}})
    digest = (await done(boss, found, "approve"))["digest"]
    path, headers = f"change-requests/{found['id']}/merge", {"Idempotency-Key": f"merge-{key}"}
    first = await boss.post(path, {"digest": digest}, headers=headers)
    assert first.status_code == 200, first.text
    for again in (
        await boss.post(path, {"digest": digest}, headers=headers),
        await boss.post(path, {"digest": digest}),
        await boss.post(path, {"digest": "1.other"}),
    ):
        assert (again.status_code, again.json()) == (200, first.json())
    assert len(await on_their_way(people, contract, key)) == (1 if contract.upstream else 0)
    audited = "SELECT count(*) FROM audit WHERE request_id = $1::text::uuid AND action = 'request.merged'"
    assert await people.world.db.fetchval(audited, found["id"]) == 1
    assert await cells(ann, found) == [(key, name, "A", "B")]
