"""What a save answers is what the row has then, and can be sent back: with the next save, and with the commit."""

from typing import Any

import pytest

from tests.support.world import FLEET, NEW, User, World, committed, line, refuse_upstream, refused, vehicle


async def save(user: User, *drafts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was saved, by id, after a look at the rows: they have just that."""
    answer = await user.post("drafts", {"modifications": list(drafts)})
    assert answer.status_code == 200, answer.text
    saved = {entry["id"]: entry for entry in answer.json()["saved"]}
    for key, entry in saved.items():
        told = (entry["version"], entry["mirrorVersion"], entry["syncState"])
        row = await user.get(f"rows/{key}")
        if row.status_code == 404:
            assert told == (0, 0, "pristine"), key
        else:
            shown = row.json()
            assert told == (shown["version"], shown["mirrorVersion"], shown["syncState"]), key
    return saved


def back(saved: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {key: entry["version"] for key, entry in saved.items()}


@pytest.mark.parametrize(
    "emptying",
    [{"unset": ["model"]}, {"delta": {"model": "again"}, "unset": ["model"]}],
    ids=["unset", "laid over and unset"],
)
async def test_a_save_that_leaves_nothing_answers_version_0(world: World, ann: User, emptying: dict[str, Any]) -> None:
    await world.mirror({"A": line()})
    await save(ann, {"id": "A", "delta": {"model": "M"}})
    saved = await save(ann, {"id": "A", **emptying})
    assert saved["A"]["version"] == 0
    again = await save(ann, {"id": "A", "delta": {"model": "M"}, "expectedVersion": saved["A"]["version"]})
    assert again["A"]["version"] > 0


async def test_an_insert_that_is_dropped_and_made_again(world: World, ann: User) -> None:
    made = await save(ann, {"id": "new", "op": "insert", "delta": NEW})
    dropped = await save(ann, {"id": "new", "op": "delete", "expectedVersion": made["new"]["version"]})
    assert dropped["new"]["version"] == 0
    again = await save(ann, {"id": "new", "op": "insert", "delta": NEW, "expectedVersion": 0})
    assert again["new"]["version"] > made["new"]["version"]
    both = await save(
        ann,
        {"id": "two", "op": "insert", "delta": NEW},
        {"id": "two", "op": "delete"},
        {"id": "two", "op": "insert", "delta": {**NEW, "model": "M"}},
        {"id": "one", "op": "insert", "delta": NEW},
        {"id": "one", "op": "delete"},
    )
    assert (both["two"]["version"] > 0, both["one"]["version"]) == (True, 0)


async def test_what_is_left_of_a_row_on_its_way_keeps_its_version(world: World, ann: User) -> None:
    """Given a committed change with an emptied draft over it, then the save tells the version that the row has, and a
    commit that expects it goes through, though there is nothing to commit of that row.
    """
    await world.mirror({"A": line(), "B": line()})
    await save(ann, {"id": "A", "delta": {"model": "M"}})
    await committed(ann)
    await save(ann, {"id": "A", "delta": {"equipment": "E"}})
    left = await save(ann, {"id": "A", "unset": ["equipment"]}, {"id": "B", "delta": {"model": "M"}})
    assert left["A"]["version"] == left["B"]["version"] > 0
    assert (await committed(ann, expectedVersions=back(left)))["committed"] == 1


async def test_a_commit_with_exactly_the_versions_that_were_answered(world: World, ann: User) -> None:
    """Emptied, dropped, changed twice, never touched: whatever was answered is expected, and nothing else."""
    await world.mirror({key: line() for key in "ABC"})
    seen = await save(ann, *({"id": key, "delta": {"model": "M"}} for key in "ABC"))
    seen |= await save(ann, {"id": "new", "op": "insert", "delta": NEW})
    seen |= await save(ann, {"id": "A", "unset": ["model"]}, {"id": "new", "op": "delete"})
    seen |= await save(ann, {"id": "B", "delta": {"model": "N"}})
    for wrong in ({"A": seen["C"]["version"]}, {"C": 0}, {"new": 1}, {"nobody's": 1}):
        problem = refused(await ann.commit(expectedVersions=back(seen) | wrong), 409, "VERSION_CONFLICT")
        assert [error["id"] for error in problem["errors"]] == list(wrong)
    assert (await committed(ann, expectedVersions=back(seen)))["committed"] == 2


async def test_a_commit_of_some_rows_looks_at_all_that_it_expects(world: World, ann: User) -> None:
    """A row that the commit does not take is expected all the same, and may stand where it was said to."""
    await world.mirror({key: line() for key in "AB"})
    seen = await save(ann, *({"id": key, "delta": {"model": "M"}} for key in "AB"))
    assert (await committed(ann, "A", expectedVersions=back(seen)))["committed"] == 1
    refused(await ann.commit("B", expectedVersions=back(seen)), 409, "VERSION_CONFLICT")  # A's draft has gone its way


async def test_discarded_fields(world: World, ann: User) -> None:
    await world.mirror({"A": line(), "B": line()})
    seen = await save(ann, {"id": "A", "delta": {"model": "M"}}, {"id": "B", "delta": {"model": "M", "class": "C"}})
    await ann.discard(fields=["model"])
    rows = {key: (await ann.row(key))["version"] for key in "AB"}
    assert rows["A"] == 0
    assert rows["B"] > seen["B"]["version"]
    for key, version in rows.items():
        await save(ann, {"id": key, "delta": {"model": "N"}, "expectedVersion": version})


@pytest.mark.parametrize("state", ["conflict", "sync_error"])
async def test_a_save_over_what_upstream_refused(world: World, ann: User, state: str) -> None:
    """It is a draft again, and the answer says so."""
    await world.mirror({"A": line(model="0"), "B": line(model="0")})
    await save(ann, *({"id": key, "delta": {"model": "M"}} for key in "AB"))
    await committed(ann)
    for key in "AB":
        await refuse_upstream(world, key, state)
    await world.db.execute("UPDATE pfa.mirror SET data = data || '{\"model\": \"theirs\"}' WHERE row_key = 'B'")
    saved = await save(ann, {"id": "A", "delta": {"class": "C"}}, {"id": "B", "delta": {"class": "C"}})
    assert [saved[key]["syncState"] for key in "AB"] == ["draft", "conflict"]
    emptied = await save(ann, {"id": "A", "unset": ["class", "model"]})
    assert emptied["A"]["version"] == 0


@pytest.mark.parametrize(
    "wrong", [{"delta": {"class": "C"}, "expectedVersion": 7}, {"op": "insert", "delta": NEW}], ids=["stale", "there"]
)
async def test_what_upstream_refused_stays_so_where_nothing_is_saved_over_it(
    world: World, ann: User, wrong: dict[str, Any]
) -> None:
    """Given a refused change, when a request saves other rows and not this one, then this one is as it was."""
    await world.mirror({key: line() for key in "ABC"})
    await save(ann, *({"id": key, "delta": {"model": "M"}} for key in "AC"))
    await committed(ann)
    for key in "AC":
        await refuse_upstream(world, key, "sync_error")
    before = (await ann.get("rows/A")).content
    batch = [{"id": "A", **wrong}, *({"id": key, "delta": {"class": "C"}} for key in "BC")]
    answer = (await ann.post("drafts", {"modifications": batch})).json()
    assert [error["id"] for error in answer["errors"]] == ["A"]
    assert [(saved["id"], saved["syncState"]) for saved in answer["saved"]] == [("B", "draft"), ("C", "draft")]
    assert (await ann.get("rows/A")).content == before


async def test_a_row_of_the_mirror_never_has_a_version_twice(world: World, ann: User) -> None:
    """Given a row that is changed, deleted and inserted again, then it is at a version that it never had."""
    ann = ann.on("fleet")
    await world.mirror({"V": vehicle()}, contract=FLEET)
    seen = [(await ann.row("V"))["mirrorVersion"]]
    for _ in range(3):
        await ann.draft("V", {"mileage": 2000 + len(seen)})
        await committed(ann)
        seen.append((await ann.row("V"))["mirrorVersion"])
        await ann.draft("V", op="delete")
        await committed(ann)
        await ann.draft("V", vehicle(), op="insert", expectedMirrorVersion=0)
        await committed(ann)
        seen.append((await ann.row("V"))["mirrorVersion"])
    assert seen == sorted(set(seen))
    for stale in seen[:-1]:
        refused(
            await ann.post(
                "drafts", {"modifications": [{"id": "V", "delta": {"seats": 5}, "expectedMirrorVersion": stale}]}
            ),
            422, "VALIDATION_FAILED",
        )  # fmt: skip
