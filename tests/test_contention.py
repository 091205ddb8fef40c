"""Many on the same rows at once: everybody sees their own, nobody overwrites unseen, nothing acknowledged is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.base import exact_json
from app.contracts import PFA, Contract
from app.drafts import SAVE_DRAFTS, Draft, save
from app.engine.desk import Desk
from app.engine.locks import lock_rows, raise_workspace
from benchmarks.contention import check_images, contend, report, verify
from tests.support.world import CONTRACTS, FLEET, User, World, ids, line, refused, vehicle

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

both_datasets = pytest.mark.parametrize("contract", CONTRACTS, ids=[contract.name for contract in CONTRACTS])
# A text and a number that nothing is derived from, in each dataset.
TEXT = {"pfa": "equipment", "fleet": "remark"}
NUMBER = {"pfa": "monthlyRate", "fleet": "mileage"}


def fresh(contract: Contract, **fields: Any) -> dict[str, Any]:
    """A valid row of either dataset."""
    return line(**fields) if contract is PFA else vehicle(**fields)


def new(contract: Contract, **fields: Any) -> dict[str, Any]:
    """What a draft needs to insert a row."""
    names = ("category", "source", "dor", "monthlyRate") if contract is PFA else ("depot", "kind")
    return {name: fresh(contract)[name] for name in names} | fields


@asynccontextmanager
async def paused(world: World, table: str) -> AsyncIterator[None]:
    """Nobody writes to the table while the block runs; who wants to waits, and holds the locks taken before."""
    async with world.db.acquire() as holder, holder.transaction():
        await holder.execute(f"LOCK TABLE {table} IN SHARE MODE")
        yield


async def until_waiting(world: World, number: int, *requests: "asyncio.Future[Any]") -> None:
    """Return as soon as so many wait for a lock; they must not have got through."""
    query = (
        "SELECT count(DISTINCT pid) FROM pg_locks"
        " WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    async with asyncio.timeout(20):
        while await world.db.fetchval(query) < number:
            assert not any(request.done() for request in requests), "it did not wait"


def at_once(*requests: Awaitable[Any]) -> "list[asyncio.Future[Any]]":
    return [asyncio.ensure_future(request) for request in requests]


# -- each their own view, and what happens when they meet --------------------------------------------------------------


@both_datasets
async def test_two_users_with_drafts_on_the_same_rows_see_their_own(
    world: World, ann: User, bob: User, contract: Contract
) -> None:
    """In lists, filters, sorts and totals."""
    text, number = TEXT[contract.name], NUMBER[contract.name]
    await world.mirror({key: fresh(contract, **{text: "old", number: 5}) for key in "ABC"}, contract=contract)
    ann, bob = ann.on(contract.name), bob.on(contract.name)
    for user, value in ((ann, 1), (bob, 9)):
        for key in "AB":
            await user.draft(key, {text: user.id, number: value})

    for user, other, order in ((ann, "bob", ["B", "A", "C"]), (bob, "ann", ["C", "B", "A"])):
        page = await user.page(sort=f"{number},-id")
        assert ids(page["data"]) == order
        assert {row["id"]: row["data"][text] for row in page["data"]} == {"A": user.id, "B": user.id, "C": "old"}
        totals = {
            value: (await user.page(**{text: value}))["pagination"]["totalRecords"] for value in (user.id, other, "old")
        }
        assert totals == {user.id: 2, other: 0, "old": 1}
        assert (await user.page(**{f"{number}[lt]": 5}))["pagination"]["totalRecords"] == (2 if user is ann else 0)
        assert (await user.page(syncState="draft"))["pagination"]["totalRecords"] == 2


@both_datasets
async def test_the_second_to_commit_a_differing_cell_is_told_base_theirs_and_mine(
    world: World, ann: User, bob: User, contract: Contract
) -> None:
    """Also while the first one's change is still in the outbox; and nothing of the commit is kept."""
    text = TEXT[contract.name]
    await world.mirror({key: fresh(contract, **{text: "old"}) for key in "AB"}, contract=contract)
    ann, bob = ann.on(contract.name), bob.on(contract.name)
    await ann.draft("A", {text: "ann's"})
    await bob.draft("A", {text: "bob's"})
    await bob.draft("B", {text: "bob's"})
    assert (await ann.commit()).json()["committed"] == 1
    outbox = await world.db.fetchval(f"SELECT count(*) FROM {contract.schema}.change WHERE state = 'committed'")
    assert outbox == (1 if contract.upstream else 0)

    problem = refused(await bob.commit(), 409, "MERGE_CONFLICT")
    conflict = {"id": "A", "field": text, "base": "old", "theirs": "ann's", "mine": "bob's"}
    assert problem["conflicts"] == [conflict]
    rows = {row["id"]: row for row in await bob.rows()}
    assert (rows["A"]["syncState"], rows["A"]["conflicts"]) == ("conflict", [conflict])
    assert (rows["B"]["syncState"], rows["B"]["data"][text]) == ("draft", "bob's")

    assert (await bob.commit(resolutions=[{"id": "A", "field": text, "use": "mine"}])).json()["committed"] == 2
    assert [row["data"][text] for row in await bob.rows(sort="id")] == ["bob's", "bob's"]


@both_datasets
async def test_different_fields_of_a_row_merge(world: World, ann: User, bob: User, contract: Contract) -> None:
    text, number = TEXT[contract.name], NUMBER[contract.name]
    await world.mirror({"A": fresh(contract, **{text: "old", number: 5})}, contract=contract)
    ann, bob = ann.on(contract.name), bob.on(contract.name)
    await ann.draft("A", {text: "ann's"})
    await bob.draft("A", {number: 9})
    answers = await asyncio.gather(ann.commit(), bob.commit())
    assert [answer.json()["committed"] for answer in answers] == [1, 1]
    if contract.upstream is None:
        reader = (await world.user("cy")).on(contract.name)
        row = (await reader.rows())[0]["data"]
    else:
        changes = await world.db.fetch(f"SELECT delta FROM {contract.schema}.change WHERE state = 'committed'")
        row = {name: value for (delta,) in changes for name, value in exact_json.decode(delta).items()}
    assert (row[text], row[number]) == ("ann's", 9)


@both_datasets
@pytest.mark.parametrize("same", [True, False])
async def test_of_two_who_insert_the_same_row_at_once_the_second_meets_the_first(
    world: World, ann: User, bob: User, contract: Contract, same: bool
) -> None:
    """With the same values both are content; else one is told of the cells that differ."""
    text = TEXT[contract.name]
    ann, bob = ann.on(contract.name), bob.on(contract.name)
    saves = (user.draft("N", new(contract, **{text: "x" if same else user.id}), op="insert") for user in (ann, bob))
    await asyncio.gather(*saves)
    # Both stop where the row is made definite, one of them before the key's lock.
    async with paused(world, f"{contract.schema}.change"):
        requests = at_once(ann.commit(), bob.commit())
        await until_waiting(world, 2, *requests)
    answers = await asyncio.gather(*requests)
    if same:
        assert sorted(answer.json()["committed"] for answer in answers) == [0, 1]
    else:
        loser = next(answer for answer in answers if answer.status_code != 200)
        conflicts = refused(loser, 409, "MERGE_CONFLICT")["conflicts"]
        assert [conflict["field"] for conflict in conflicts] == [text]
        assert {conflicts[0]["theirs"], conflicts[0]["mine"]} == {"ann", "bob"}
    inserted = await world.db.fetchval(f"SELECT count(*) FROM {contract.schema}.change WHERE op = 'insert'")
    assert inserted == 1


async def test_who_edits_what_another_deletes_keeps_the_draft_in_conflict(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": vehicle()}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await ann.draft("A", {"remark": "ann's"})
    await bob.draft("A", op="delete")
    assert (await bob.commit()).status_code == 200
    assert (await ann.page())["pagination"]["totalRecords"] == 0
    problem = refused(await ann.commit(), 409, "MERGE_CONFLICT")
    assert [(c["field"], c["theirs"]) for c in problem["conflicts"]] == [(None, None)]
    assert (await ann.get("drafts")).json()["data"][0]["delta"] == {"remark": "ann's"}


# -- interleaved on purpose --------------------------------------------------------------------------------------------


@both_datasets
async def test_a_save_during_anothers_commit_waits_and_starts_from_its_outcome(
    world: World, ann: User, bob: User, contract: Contract
) -> None:
    """Given bob's commit stopped halfway, when ann saves the same cell, then her base is bob's value: no conflict."""
    text = TEXT[contract.name]
    await world.mirror({"A": fresh(contract, **{text: "old"})}, contract=contract)
    ann, bob = ann.on(contract.name), bob.on(contract.name)
    await bob.draft("A", {text: "bob's"})
    async with paused(world, f"{contract.schema}.change"):
        (commit,) = at_once(bob.commit())
        await until_waiting(world, 1, commit)
        (draft,) = at_once(ann.draft("A", {text: "ann's"}))
        await until_waiting(world, 2, commit, draft)
    assert (await commit).status_code == 200
    await draft
    row = await ann.row("A")
    assert (row["base"], row["delta"], row["conflicts"]) == ({text: "bob's"}, {text: "ann's"}, [])
    assert (await ann.commit()).status_code == 200
    assert await check_images(world, contract) == []


@both_datasets
async def test_a_commit_during_anothers_save_waits_and_finds_it(
    world: World, ann: User, bob: User, contract: Contract
) -> None:
    """Given ann's save stopped halfway, when bob commits the same cell, then her draft is in conflict, not lost."""
    text = TEXT[contract.name]
    await world.mirror({"A": fresh(contract, **{text: "old"})}, contract=contract)
    ann, bob = ann.on(contract.name), bob.on(contract.name)
    await bob.draft("A", {text: "bob's"})
    async with paused(world, f"{contract.schema}.modification"):
        (draft,) = at_once(ann.draft("A", {text: "ann's"}))
        await until_waiting(world, 1, draft)
        (commit,) = at_once(bob.commit())
        await until_waiting(world, 2, draft, commit)
    await draft
    assert (await commit).status_code == 200
    assert (await ann.row("A"))["base"] == {text: "old"}
    conflict = refused(await ann.commit(), 409, "MERGE_CONFLICT")["conflicts"][0]
    assert (conflict["base"], conflict["theirs"], conflict["mine"]) == ("old", "bob's", "ann's")
    assert await check_images(world, contract) == []


@both_datasets
async def test_a_save_during_ones_own_commit_is_neither_swallowed_nor_committed(
    world: World, ann: User, contract: Contract
) -> None:
    """Two windows of one user: what is saved while the commit runs stays a draft over it."""
    text, number = TEXT[contract.name], NUMBER[contract.name]
    await world.mirror({"A": fresh(contract, **{text: "old", number: 5})}, contract=contract)
    ann = ann.on(contract.name)
    await ann.draft("A", {text: "first"})
    async with paused(world, f"{contract.schema}.change"):
        (commit,) = at_once(ann.commit())
        await until_waiting(world, 1, commit)
        (draft,) = at_once(ann.draft("A", {number: 9}))
        await until_waiting(world, 2, commit, draft)
    assert (await commit).json()["committed"] == 1
    await draft
    row = await ann.row("A")
    assert (row["delta"], row["data"][text], row["data"][number]) == ({number: 9}, "first", 9)


@both_datasets
async def test_a_draft_is_committed_once(world: World, ann: User, contract: Contract) -> None:
    """However often the button is pressed."""
    await world.mirror({"A": fresh(contract)}, contract=contract)
    ann = ann.on(contract.name)
    await ann.draft("A", {TEXT[contract.name]: "x"})
    answers = await asyncio.gather(*(ann.commit() for _ in range(5)), *(ann.discard() for _ in range(2)))
    assert Counter(answer.status_code for answer in answers[:5]) in ({200: 1, 404: 4}, {404: 5})
    committed = await world.db.fetchval(f"SELECT count(*) FROM {contract.schema}.change")
    discarded = sum(answer.json()["discarded"] for answer in answers[5:])
    assert committed + discarded == 1


# -- in bulk -----------------------------------------------------------------------------------------------------------


async def test_eight_hundred_saves_of_one_user_onto_the_same_rows_all_survive(world: World, ann: User) -> None:
    """Eight clients, each with a field of its own, on a hundred rows in different orders."""
    keys = [f"R{number:02}" for number in range(100)]
    await world.mirror({key: line() for key in keys})
    names = ["areaSilo", "category", "forecastCategory", "class", "manufacturer", "model", "equipment", "monthlyRate"]

    # Without a common factor with 100, so that each visits every row in an order of its own.
    strides = [1, 3, 7, 9, 11, 13, 17, 19]

    async def client(name: str, stride: int) -> list[int]:
        versions = []
        for number in range(100):
            delta = {name: number if name == "monthlyRate" else f"{name} {number}"}
            async with world.runtime.database.transaction() as connection:
                draft = Draft(id=keys[number * stride % 100], delta=delta)
                answer = await save(Desk(connection, PFA, "acme"), "ann", [draft], world.clock())
            versions += [saved.version for saved in answer.saved]
        return versions

    told = await asyncio.gather(*map(client, names, strides))
    assert sorted(version for versions in told for version in versions) == list(range(1, 801))
    survived = Counter(name for row in await ann.rows(pageSize=1000) for name in row["modifiedFields"])
    assert survived == dict.fromkeys(names, 100)
    assert await check_images(world, PFA) == []


@both_datasets
async def test_nothing_that_was_acknowledged_is_lost(world: World, contract: Contract) -> None:
    """Eight users save, commit, discard, insert, delete and resolve: benchmarks/contention.py in short."""
    await world.db.execute("DELETE FROM organization")
    clients = await contend(world, contract, operations=25)
    findings = await verify(world, contract, clients)
    assert not findings, report(contract, clients, 1, findings)
    answers = sum((client.answers for client in clients), Counter())
    assert answers["commit 200"] > 5
    assert answers["commit 409"] > 0


async def test_a_row_that_goes_and_comes_back_while_it_is_drafted_stands_once(
    world: World, ann: User, bob: User
) -> None:
    """Given ann's insert under way, when bob deletes the row before she locks it and inserts it again after, then he
    waits for her, and her page has the row once.
    """
    await world.mirror({"V1": fresh(FLEET)}, contract=FLEET)
    others = bob.on("fleet")
    await others.draft("V1", op="delete")
    database, at = world.runtime.database, world.clock()
    async with database.transaction() as connection:
        # What `save` does, with bob's deletion between its reading of absent keys and its locks.
        version, absent, _ = await raise_workspace(Desk(connection, FLEET, "acme"), "ann", ["V1"])
        assert not absent
        assert (await others.commit()).status_code == 200
        await lock_rows(Desk(connection, FLEET, "acme"), ["V1"], absent=False, inserting=False)
        wanted = [{"id": "V1", "op": "insert", "delta": new(FLEET), "unset": []}]
        await Desk(connection, FLEET, "acme").rows(
            SAVE_DRAFTS,
            user="ann",
            version=version,
            drafts=wanted,
            groups=FLEET.cell_map,
            at=at,
            session_id=None,
            initial={},
            session=None,
            undo_group=None,
            drop_equal=False,
        )
        await others.draft("V1", new(FLEET), op="insert")
        (committing,) = at_once(others.commit())
        await until_waiting(world, 1, committing)
    assert (await committing).status_code == 200
    page = await ann.on("fleet").page()
    assert page["pagination"]["totalRecords"] == len(page["data"]) == 1
    assert await check_images(world, FLEET) == []
