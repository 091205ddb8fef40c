"""No lost update between reading a row and the first touch: what a caller says that it saw is held against what is.

By If-Match, by `expectedMirrorVersion`, by `base` for single cells; on a save and on a commit; where the other's value
has reached the mirror (fleet), and where it waits in the outbox (pfa).
"""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.contracts import PFA, Contract
from tests.support.world import FLEET, NEW, User, World, committed, line, mirrored, refused, vehicle


class Pair:
    """Ann, who has read row A, and bob, who commits what she has not seen."""

    def __init__(self, world: World, ann: User, bob: User, contract: Contract):
        self.world, self.contract = world, contract
        self.ann, self.bob = ann.on(contract.name), bob.on(contract.name)
        self.field, self.other, self.number = {
            "pfa": ("model", "equipment", "monthlyRate"),
            "fleet": ("remark", "depot", "mileage"),
        }[contract.name]
        self.start, self.end = ("forecastStart", "forecastEnd") if contract is PFA else ("firstDay", "lastDay")
        self.group = "forecastDates" if contract is PFA else "service"

    async def begin(self, **fields: Any) -> None:
        """Row A, and ann reads it."""
        row = {self.field: "0", self.start: "2026-02-01", self.end: "2026-07-31", **fields}
        whole = line(**row) if self.contract is PFA else vehicle(**row)
        await self.world.mirror({"A": whole}, contract=self.contract)
        answer = await self.ann.get("rows/A")
        self.tag, self.seen = answer.headers["ETag"], answer.json()

    async def theirs(self, delta: dict[str, Any] | None = None, **more: Any) -> None:
        """Bob drafts and commits."""
        await self.bob.draft("A", delta, **more)
        await committed(self.bob, "A")

    async def save(self, **draft: Any) -> dict[str, Any]:
        """What becomes of one draft of ann's."""
        answer = await self.ann.post("drafts", {"modifications": [{"id": "A", **draft}]})
        assert answer.status_code in (200, 422), answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def conflicts(self) -> list[tuple[Any, ...]]:
        """Field, base, theirs and mine of the row's."""
        row = await self.ann.row("A")
        assert bool(row["conflicts"]) == (row["syncState"] == "conflict")
        return [tuple(found[side] for side in ("field", "base", "theirs", "mine")) for found in row["conflicts"]]


@pytest.fixture(params=["fleet", "pfa"])
async def pair(request: pytest.FixtureRequest, world: World, ann: User, bob: User) -> Pair:
    """On the dataset whose commits reach the mirror at once, and on the one where they wait."""
    return Pair(world, ann, bob, {"fleet": FLEET, "pfa": PFA}[request.param])


async def patch(user: User, body: dict[str, Any], tag: str) -> httpx.Response:
    headers = {"Content-Type": "application/merge-patch+json", "If-Match": tag}
    return await user.request("PATCH", "rows/A", json=body, headers=headers)


# -- If-Match ----------------------------------------------------------------------------------------------------------


async def test_a_patch_of_what_somebody_changed_meanwhile_is_412(pair: Pair) -> None:
    """Given that ann read the row and bob committed another value, in the mirror or on its way, then her patch with the
    tag that she read is refused, and nothing of it is saved.
    """
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    refused(await patch(pair.ann, {pair.field: "ann's"}, pair.tag), 412, "PRECONDITION_FAILED")
    assert (await pair.ann.row("A"))["delta"] == {}
    fresh = (await pair.ann.get("rows/A")).headers["ETag"]
    assert (await patch(pair.ann, {pair.field: "ann's"}, fresh)).status_code == 200
    assert (await committed(pair.ann))["committed"] == 1


async def test_a_tag_moves_with_whatever_the_row_shows(pair: Pair) -> None:
    """Drafts, other cells, deletions, another's change in flight: each is another tag; what is somebody else's draft
    is not shown, and moves none.
    """
    await pair.begin()
    tags = [pair.tag]

    async def moved(moves: bool = True) -> None:
        tag = (await pair.ann.get("rows/A")).headers["ETag"]
        assert (tag != tags[-1]) == moves
        tags.append(tag)

    await pair.bob.draft("A", {pair.other: "West"})
    await moved(False)
    await pair.ann.draft("A", {pair.field: "1"})
    await moved()
    await pair.ann.discard("A", fields=[pair.field])
    await moved()
    assert tags[-1] == pair.tag
    await committed(pair.bob, "A")
    await moved()
    await pair.theirs({pair.number: 5})
    await moved()
    await pair.theirs(op="delete")
    if pair.contract is PFA:
        await moved()
    else:
        assert (await pair.ann.get("rows/A")).status_code == 404


async def test_a_tag_with_the_overlap_is_good_for_a_patch(pair: Pair) -> None:
    """A grid that shows who else has the row sends what it got, and is not refused for what is no state of the row."""
    await pair.begin()
    tag = (await pair.ann.get("rows/A", {"include": "overlap"})).headers["ETag"]
    assert tag != pair.tag
    assert (await patch(pair.ann, {pair.field: "1"}, tag)).status_code == 200
    refused(await patch(pair.ann, {pair.field: "2"}, tag), 412, "PRECONDITION_FAILED")


# -- expectedMirrorVersion ---------------------------------------------------------------------------------------------


async def test_a_save_can_expect_the_row_of_the_mirror(pair: Pair) -> None:
    """What has reached the mirror refuses the draft; what is on its way becomes a conflict: she has not seen it."""
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    saved = await pair.save(delta={pair.field: "ann's"}, expectedMirrorVersion=pair.seen["mirrorVersion"])
    if pair.contract is FLEET:
        (error,) = saved["errors"]
        assert (error["code"], error["message"]) == (
            "VERSION_CONFLICT",
            "The row changed meanwhile: your draft is at version 0 now, the mirror's row at mirrorVersion 2.",
        )
        assert (await pair.ann.row("A"))["delta"] == {}
    else:
        assert saved["saved"][0]["syncState"] == "conflict"
        assert await pair.conflicts() == [(pair.field, "0", "bob's", "ann's")]
        refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
    again = (await pair.ann.row("A"))["mirrorVersion"]
    saved = await pair.save(delta={pair.other: "South"}, expectedMirrorVersion=again)
    assert saved["saved"][0]["mirrorVersion"] == again


async def test_a_new_row_can_expect_that_there_is_none(pair: Pair) -> None:
    await pair.begin()
    new = NEW if pair.contract is PFA else vehicle()
    draft = {"id": "B", "op": "insert", "delta": new, "expectedMirrorVersion": 0}
    answer = (await pair.ann.post("drafts", {"modifications": [draft]})).json()
    assert (answer["saved"][0]["mirrorVersion"], answer["saved"][0]["syncState"]) == (0, "draft")


@pytest.mark.parametrize("seen", ["version", "base"])
async def test_a_deletion_of_a_row_that_was_changed_meanwhile(pair: Pair, seen: str) -> None:
    """Deleting what one has not seen is a conflict of the whole row."""
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    said = {"expectedMirrorVersion": pair.seen["mirrorVersion"]} if seen == "version" else {"base": {pair.field: "0"}}
    saved = await pair.save(op="delete", **said)
    if seen == "version" and pair.contract is FLEET:
        assert saved["errors"][0]["code"] == "VERSION_CONFLICT"
        return
    assert saved["saved"][0]["syncState"] == "conflict"
    ((field, base, theirs, mine),) = await pair.conflicts()
    assert (field, base[pair.field], theirs[pair.field], mine) == (None, "0", "bob's", None)
    refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
    # Having seen it, she deletes it all the same.
    assert (await pair.save(op="delete"))["saved"][0]["syncState"] == "draft"
    assert (await committed(pair.ann))["committed"] == 1


# -- base of cells -----------------------------------------------------------------------------------------------------


async def test_a_stale_base_is_a_conflict_of_that_cell(pair: Pair) -> None:
    """Only of that cell: what bob changed elsewhere in the row is no matter. It ends as any other conflict does."""
    await pair.begin()
    await pair.theirs({pair.field: "bob's", pair.number: 7})
    saved = await pair.save(delta={pair.field: "ann's", pair.other: "East"}, base={pair.field: "0"})
    assert saved["saved"][0]["syncState"] == "conflict"
    assert await pair.conflicts() == [(pair.field, "0", "bob's", "ann's")]
    problem = refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
    assert [(found["field"], found["base"], found["theirs"]) for found in problem["conflicts"]] == [
        (pair.field, "0", "bob's")
    ]
    mine = [{"id": "A", "field": pair.field, "use": "mine"}]
    assert (await committed(pair.ann, resolutions=mine))["committed"] == 1


async def test_a_base_that_still_holds_is_an_ordinary_draft(pair: Pair) -> None:
    """Absent is null, and a number is its value, whatever its digits."""
    await pair.begin(**{pair.number: 10})
    unheard = next(name for name in pair.contract.by_name if name not in pair.seen["data"])
    base = {pair.field: "0", pair.number: Decimal("10.00"), unheard: None}
    draft = {"id": "A", "delta": {pair.field: "1", pair.number: 11}, "base": base}
    saved = await pair.ann.post("drafts", {"modifications": [draft]})
    assert saved.json()["saved"][0]["syncState"] == "draft", saved.text
    assert (await committed(pair.ann))["committed"] == 1


async def test_the_same_value_as_theirs_is_no_conflict(pair: Pair) -> None:
    await pair.begin()
    await pair.theirs({pair.field: "both"})
    assert (await pair.save(delta={pair.field: "both"}, base={pair.field: "0"}))["saved"][0]["syncState"] == "draft"
    assert (await committed(pair.ann))["committed"] == 0


async def test_ones_own_draft_is_what_one_saw(pair: Pair) -> None:
    """A grid sends the value that the cell showed: ann's own of before. The base stays what it was then."""
    await pair.begin()
    await pair.save(delta={pair.field: "1"}, base={pair.field: "0"})
    saved = await pair.save(delta={pair.field: "2"}, base={pair.field: "1"})
    assert saved["saved"][0]["syncState"] == "draft"
    row = await pair.ann.row("A")
    assert (row["base"], row["delta"]) == ({pair.field: "0"}, {pair.field: "2"})
    await pair.theirs({pair.field: "bob's"})
    refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")


async def test_a_draft_in_another_window_is_not_overwritten_unseen(pair: Pair) -> None:
    """Given that one window drafted 1 and then 2, when the other one says that it saw 1, then it is a conflict."""
    await pair.begin()
    for value in ("1", "2"):
        await pair.save(delta={pair.field: value})
    assert (await pair.save(delta={pair.field: "3"}, base={pair.field: "1"}))["saved"][0]["syncState"] == "conflict"
    assert await pair.conflicts() == [(pair.field, "1", "0", "3")]


async def test_what_one_committed_oneself_is_seen_too(pair: Pair) -> None:
    """Pending shows in the row, and is theirs for the next draft."""
    await pair.begin()
    await pair.save(delta={pair.field: "1"})
    await committed(pair.ann)
    assert (await pair.save(delta={pair.field: "2"}, base={pair.field: "1"}))["saved"][0]["syncState"] == "draft"
    assert (await committed(pair.ann))["committed"] == 1


async def test_a_base_of_one_member_counts_for_its_group(pair: Pair) -> None:
    """Ann moves the end, having seen the start; bob moved the start: a conflict of the group."""
    await pair.begin()
    await pair.theirs({pair.start: "2026-03-01"})
    base = {pair.start: "2026-02-01", pair.end: "2026-07-31"}
    saved = await pair.save(delta={pair.end: "2026-09-30"}, base=base)
    assert saved["saved"][0]["syncState"] == "conflict"
    ((field, found, theirs, mine),) = await pair.conflicts()
    assert (field, found[pair.start], theirs[pair.start]) == (pair.group, "2026-02-01", "2026-03-01")
    assert mine == {pair.start: "2026-02-01", pair.end: "2026-09-30"}


async def test_a_conflict_that_was_seen_ends_with_its_theirs_as_base(pair: Pair) -> None:
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    await pair.save(delta={pair.field: "ann's"}, base={pair.field: "0"})
    saved = await pair.save(delta={pair.field: "ann's"}, base={pair.field: "bob's"})
    assert saved["saved"][0]["syncState"] == "draft"
    assert (await committed(pair.ann))["committed"] == 1


async def test_what_nobody_can_have_seen_is_refused(pair: Pair) -> None:
    await pair.begin()
    for base, field in (({"nothing": 1}, "nothing"), ({pair.field: "a\0"}, pair.field), ({pair.field: {}}, pair.field)):
        problem = refused(
            await pair.ann.post("drafts", {"modifications": [{"id": "A", "delta": {pair.field: "1"}, "base": base}]}),
            422, "VALIDATION_FAILED",
        )  # fmt: skip
        assert [error["field"] for error in problem["errors"]] == [field]
        await pair.save(delta={pair.field: "1"})
        problem = refused(await pair.ann.commit("A", base={"A": base}), 422, "VALIDATION_FAILED")
        assert [error["field"] for error in problem["errors"]] == [field]
    new = NEW if pair.contract is PFA else vehicle()
    draft = {"id": "B", "op": "insert", "delta": new, "base": {pair.field: "0"}}
    problem = refused(await pair.ann.post("drafts", {"modifications": [draft]}), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["message"] == "A new row has no base: there was nothing to see."
    # What was seen need not fit the contract any more.
    assert (await pair.save(delta={pair.field: "1"}, base={pair.number: "cheap"}))["saved"]


@pytest.mark.parametrize("way", ["a cell", "a deletion", "another cell of the group"])
async def test_a_conflict_is_settled_as_it_was_shown(pair: Pair, way: str) -> None:
    """Given a conflict with what bob committed, when he commits again before ann writes over it, then she is in
    conflict with that: she has seen only the first. Where it has reached the mirror, her row shows it already.
    """
    await pair.begin()
    field, was, first, then = pair.field, "0", "bob's", "bob's again"
    if way == "another cell of the group":
        field, was, first, then = pair.start, "2026-02-01", "2026-03-01", "2026-04-01"
    await pair.theirs({field: first})
    mine = {"op": "delete"} if way == "a deletion" else {"delta": {field: "2026-01-01" if field == pair.start else "1"}}
    await pair.save(**mine, base={field: was})
    await pair.theirs({field: then})
    shown = (await pair.ann.row("A"))["conflicts"][0]["theirs"]
    assert (shown if field == pair.field and way == "a cell" else shown[field]) == (first, then)[pair.contract is FLEET]
    if way == "another cell of the group":
        mine = {"delta": {pair.end: "2026-09-30"}}
    saved = await pair.save(**mine)
    if pair.contract is PFA:
        assert saved["saved"][0]["syncState"] == "conflict"
        ((_, base, theirs, _),) = await pair.conflicts()
        sides = (base, theirs) if way == "a cell" else (base[field], theirs[field])
        assert sides == (first, then)
        refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
        saved = await pair.save(**mine)
    assert saved["saved"][0]["syncState"] == "draft"
    assert (await committed(pair.ann))["committed"] == 1


# -- commits -----------------------------------------------------------------------------------------------------------


async def test_a_commit_can_expect_the_row_of_the_mirror(pair: Pair) -> None:
    """In whichever order the other rows came: nothing is committed."""
    await pair.begin()
    await pair.save(delta={pair.other: "West"})
    assert (await pair.ann.commit("A", expectedMirrorVersions={"A": 1}, dryRun=True)).status_code == 200
    await pair.theirs({pair.field: "bob's"})
    answer = await pair.ann.commit("A", expectedMirrorVersions={"A": 1, "X": 0})
    if pair.contract is PFA:  # it has not reached the mirror
        assert answer.status_code == 200
        return
    problem = refused(answer, 409, "VERSION_CONFLICT")
    assert [error["message"] for error in problem["errors"]] == ["The mirror's row is at mirrorVersion 2 now."]
    assert (await mirrored(pair.world, "A") or {})["depot"] != "West"
    assert (await committed(pair.ann, expectedMirrorVersions={"A": 2}))["committed"] == 1


async def test_a_commit_can_say_what_was_seen_of_cells(pair: Pair) -> None:
    """Given a draft that took bob's value for its base, when ann says that she saw another, then the commit is a
    conflict; it stays one until she settles it.
    """
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    await pair.save(delta={pair.field: "ann's", pair.other: "West"})
    seen = {"A": {pair.field: "0"}}
    refused(await pair.ann.commit("A", base=seen, dryRun=True), 409, "MERGE_CONFLICT")
    assert await pair.conflicts() == []
    problem = refused(await pair.ann.commit("A", base=seen), 409, "MERGE_CONFLICT")
    assert [(found["field"], found["base"], found["theirs"]) for found in problem["conflicts"]] == [
        (pair.field, "0", "bob's")
    ]
    assert await pair.conflicts() == [(pair.field, "0", "bob's", "ann's")]
    refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
    mine = [{"id": "A", "field": pair.field, "use": "mine"}]
    assert (await committed(pair.ann, resolutions=mine))["committed"] == 1


async def test_a_commit_that_saw_its_own_draft_or_what_is_there_goes_through(pair: Pair) -> None:
    await pair.begin()
    await pair.save(delta={pair.field: "1", pair.other: "West"})
    whole = (await pair.ann.row("A"))["data"]
    assert (await pair.ann.commit("A", base={"A": whole, "X": {}})).json()["committed"] == 1


async def test_a_commit_of_a_deletion_that_saw_another_row(pair: Pair) -> None:
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    await pair.save(op="delete")
    problem = refused(await pair.ann.commit("A", base={"A": {pair.field: "0"}}), 409, "MERGE_CONFLICT")
    assert problem["conflicts"][0]["field"] is None
    refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
    assert (await pair.ann.commit("A", base={"A": {pair.field: "bob's"}})).json()["committed"] == 1


# -- several drafts of a row in one request ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "second",
    [{"delta": {"f": "2"}, "base": {"f": "1"}}, {"delta": {"f": "2"}}, {"op": "delete"}],
    ids=["that saw the first", "that says nothing", "a deletion"],
)
async def test_a_conflict_that_the_same_request_brings_about_was_seen_by_nobody(
    pair: Pair, second: dict[str, Any]
) -> None:
    """Given a queue of edits that is sent at once, when the first of a cell is stale, then the next does not settle the
    conflict of which its author cannot know.
    """
    await pair.begin()
    await pair.theirs({pair.field: "bob's"})
    named = {part: {pair.field: value["f"]} if isinstance(value, dict) else value for part, value in second.items()}
    batch = [{"id": "A", "delta": {pair.field: "1"}, "base": {pair.field: "0"}}, {"id": "A", **named}]
    answer = (await pair.ann.post("drafts", {"modifications": batch})).json()
    assert answer["saved"][0]["syncState"] == "conflict"
    ((_, base, theirs, _),) = await pair.conflicts()
    whole = "op" in second
    assert (base[pair.field], theirs[pair.field]) == ("0", "bob's") if whole else (base, theirs) == ("0", "bob's")
    refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")


async def test_every_draft_of_a_request_expects_the_row_of_the_mirror(pair: Pair) -> None:
    """The second of a row as much as the first: what bob has on its way, ann has not seen."""
    await pair.begin()
    version = pair.seen["mirrorVersion"]
    await pair.theirs({pair.field: "bob's"})
    batch = [
        {"id": "A", "delta": {name: "ann's"}, "expectedMirrorVersion": version} for name in (pair.other, pair.field)
    ]
    answer = (await pair.ann.post("drafts", {"modifications": batch})).json()
    if pair.contract is FLEET:
        assert {error["code"] for error in answer["errors"]} == {"VERSION_CONFLICT"}
    else:
        assert answer["saved"][0]["syncState"] == "conflict"
        assert await pair.conflicts() == [(pair.field, "0", "bob's", "ann's")]


# -- a conflict that moves again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["mine", "value"])
async def test_a_resolution_settles_what_the_conflict_showed(pair: Pair, use: str) -> None:
    """Given a conflict with bob's first value, when his second is on its way, then resolving the first is a conflict
    with the second. In the mirror it shows at once, and the version that was seen is the fence.
    """
    await pair.begin()
    await pair.save(delta={pair.field: "ann's"})
    await pair.theirs({pair.field: "bob1"})
    refused(await pair.ann.commit("A"), 409, "MERGE_CONFLICT")
    seen = (await pair.ann.row("A"))["mirrorVersion"]
    await pair.theirs({pair.field: "bob2"})
    resolution = {"id": "A", "field": pair.field, "use": use, **({"value": "new"} if use == "value" else {})}
    answer = await pair.ann.commit("A", resolutions=[resolution], expectedMirrorVersions={"A": seen})
    if pair.contract is FLEET:
        refused(answer, 409, "VERSION_CONFLICT")
    else:
        (conflict,) = refused(answer, 409, "MERGE_CONFLICT")["conflicts"]
        assert (conflict["base"], conflict["theirs"]) == ("bob1", "bob2")
    assert (await pair.conflicts())[0][2] == "bob2"
    assert (await committed(pair.ann, resolutions=[resolution]))["committed"] == 1


async def test_a_resolution_beside_a_base_settles_what_was_seen(pair: Pair) -> None:
    """A commit that resolves at once what it says that it saw; the own draft's value is nothing of theirs."""
    await pair.begin()
    await pair.theirs({pair.field: "bob1"})
    await pair.save(delta={pair.field: "ann's"})
    await pair.theirs({pair.field: "bob2"})
    mine = [{"id": "A", "field": pair.field, "use": "mine"}]
    answer = await pair.ann.commit("A", base={"A": {pair.field: "bob1"}}, resolutions=mine)
    assert refused(answer, 409, "MERGE_CONFLICT")["conflicts"][0]["theirs"] == "bob2"
    assert (await committed(pair.ann, base={"A": {pair.field: "ann's"}}, resolutions=mine))["committed"] == 1
