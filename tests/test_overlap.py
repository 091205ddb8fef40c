"""Overlap: who else has a row in review or on its way, and that the feed tells each time it is another one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.upstream.protocol import Refused
from app.web.auth import Role
from tests.support.feed import happened, now, only
from tests.support.ledger import Ledger
from tests.support.requests import done, merged, submitted
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import FLEET, User, World, committed, vehicle, written

ANNOUNCED = ("overlap", "commit", "merge", "push", "conflict")
SECRET = "A-VALUE-OF-ANN"

Overlaps = dict[str, list[dict[str, Any]]]
Theirs = tuple[str, str, str, list[str]]  # who, state, operation, fields


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """The fleet behind a ledger of five vans, pulled once."""
    ledger = Ledger("plate", {f"V-{each}": van(mileage=each * 100) for each in range(1, 6)})
    async with open_yard(database_url, ledger) as yard:
        await yard.work()
        yield yard


async def overlaps(user: User) -> Overlaps:
    """Of each row that has any."""
    return {row["id"]: row["overlap"] for row in await user.rows(include="overlap") if row["overlap"]}


def briefly(found: Overlaps) -> dict[str, list[Theirs]]:
    return {
        key: [(each["userId"], each["state"], each["op"], each["fields"]) for each in theirs]
        for key, theirs in found.items()
    }


class Watcher:
    """Somebody who keeps a list with overlaps up to date by nothing but the feed."""

    def __init__(self, user: User):
        self._user = user
        self._seen: Overlaps = {}
        self._position = ""

    async def begin(self) -> None:
        self._position, self._seen = await now(self._user), await overlaps(self._user)

    async def moved(self) -> dict[str, list[Theirs]]:
        """What there is now; the feed has named every row whose overlap was another one before."""
        events = only(await happened(self._user, self._position), *ANNOUNCED)
        before = self._seen
        await self.begin()
        other = {key for key in before.keys() | self._seen.keys() if before.get(key) != self._seen.get(key)}
        assert other <= {key for event in events for key in event["ids"]}
        return briefly(self._seen)


# -- what it says ------------------------------------------------------------------------------------------------------


async def test_it_says_who_and_which_fields_and_no_value(world: World, ann: User, bob: User) -> None:
    """Given an update, a deletion and a new row of somebody else's, in review, then their values stay private."""
    await world.mirror({key: vehicle() for key in "ABC"}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await submitted(
        ann,
        {"id": "A", "delta": {"depot": SECRET, "mileage": 987_654}},
        {"id": "B", "op": "delete"},
        {"id": "D", "op": "insert", "delta": {"depot": SECRET, "kind": "Van"}},
    )
    assert briefly(await overlaps(bob)) == {
        "A": [("ann", "in_review", "update", ["depot", "mileage"])],
        "B": [("ann", "in_review", "delete", [])],
    }
    for path in ("rows?include=overlap", "rows/A?include=overlap", "rows?include=overlap,layers,computed"):
        text = (await bob.get(path)).text
        assert "in_review" in text
        assert SECRET not in text
        assert "987654" not in text


async def test_drafts_and_ones_own_changes_overlap_nothing(world: World, ann: User, bob: User) -> None:
    """Whatever is drafted, also in a session, is nobody else's business; what one has submitted one knows."""
    await world.mirror({key: vehicle() for key in "AB"}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await ann.draft("A", {"mileage": 1})
    assert await overlaps(bob) == {}
    await submitted(bob, {"id": "B", "delta": {"mileage": 1}})
    assert await overlaps(bob) == {}
    assert list(await overlaps(ann)) == ["B"]


async def test_several_people_stand_in_the_order_in_which_they_came(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": vehicle()}, contract=FLEET)
    eve = (await world.user("eve", role=Role.VIEWER)).on("fleet")
    for user, field in ((bob, "mileage"), (ann, "seats")):
        await submitted(user.on("fleet"), {"id": "A", "delta": {field: 1}})
        world.clock.move(minutes=1)
    found = await overlaps(eve)
    assert briefly(found) == {
        "A": [("bob", "in_review", "update", ["mileage"]), ("ann", "in_review", "update", ["seats"])]
    }
    assert [each["since"] for each in found["A"]] == ["2026-03-01T12:00:00.000Z", "2026-03-01T12:01:00.000Z"]


async def test_another_organization_has_rows_and_people_of_its_own(world: World, ann: User) -> None:
    """The same id there is another row."""
    await world.organization("globex")
    for organization in ("acme", "globex"):
        await world.mirror({"A": vehicle()}, organization, contract=FLEET)
    greta = (await world.user("greta", "globex")).on("fleet")
    await submitted(ann.on("fleet"), {"id": "A", "delta": {"mileage": 1}})
    assert await overlaps(greta) == {}
    assert await happened(greta) == []


async def test_a_page_with_it_is_always_sent_whole(world: World, ann: User, bob: User) -> None:
    """No ETag, and no 304 for one: what others do moves no revision of the reader's."""
    await world.mirror({"A": vehicle()}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    plain = (await bob.get("rows")).headers["ETag"]
    for tag in (plain, "*"):
        answer = await bob.get("rows?include=overlap", headers={"If-None-Match": tag})
        assert (answer.status_code, "ETag" in answer.headers) == (200, False)
    await submitted(ann, {"id": "A", "delta": {"mileage": 1}})
    assert (await bob.get("rows", headers={"If-None-Match": plain})).status_code == 304
    assert list(await overlaps(bob)) == ["A"]


# -- when the feed tells of it -----------------------------------------------------------------------------------------


async def test_each_move_from_the_submission_to_the_mirror_is_told(yard: Yard) -> None:
    """Submitted, withdrawn, submitted, merged, pushed; committed without a review, and pushed."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    root = await yard.user("root", role=Role.ADMIN)
    watcher = Watcher(bob)
    await watcher.begin()
    of = await submitted(ann, {"id": "V-4", "delta": {"mileage": 1}})
    assert await watcher.moved() == {"V-4": [("ann", "in_review", "update", ["mileage"])]}
    await done(ann, of, "withdraw")
    assert await watcher.moved() == {}
    of = await submitted(ann, {"id": "V-1", "delta": {"mileage": 1}}, {"id": "V-2", "op": "delete"})
    assert await watcher.moved() == {
        "V-1": [("ann", "in_review", "update", ["mileage"])],
        "V-2": [("ann", "in_review", "delete", [])],
    }
    await merged(root, of)
    assert await watcher.moved() == {
        "V-1": [("ann", "committed", "update", ["mileage"])],
        "V-2": [("ann", "committed", "delete", [])],
    }
    await yard.work()
    assert await watcher.moved() == {}
    await ann.draft("V-3", {"mileage": 1})
    assert await watcher.moved() == {}
    await committed(ann, "V-3")
    assert await watcher.moved() == {"V-3": [("ann", "committed", "update", ["mileage"])]}
    await yard.work()
    assert await watcher.moved() == {}


async def test_each_move_of_what_upstream_refuses_is_told(yard: Yard) -> None:
    """A conflict and a refusal; drafted again, tried again, discarded, settled."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    root = await yard.user("root", role=Role.ADMIN)
    watcher = Watcher(bob)
    await watcher.begin()
    for key in ("V-1", "V-2", "V-3"):
        await ann.draft(key, {"mileage": 5})
    await committed(ann)
    yard.ledger.put("V-1", mileage=7)
    yard.ledger.poison["write", "V-2"] = yard.ledger.poison["write", "V-3"] = Refused("No")
    await yard.work()
    refused = [("ann", "sync_error", "update", ["mileage"])]
    assert await watcher.moved() == {
        "V-1": [("ann", "conflict", "update", ["mileage"])], "V-2": refused, "V-3": refused,
    }  # fmt: skip
    await ann.draft("V-1", {"mileage": 6})
    assert await watcher.moved() == {"V-2": refused, "V-3": refused}
    assert written(await ann.discard("V-2"))["discarded"] == 1
    assert await watcher.moved() == {"V-3": refused}
    assert (await root.post("sync/retry", {"all": True})).json()["retried"] == 1
    assert await watcher.moved() == {"V-3": [("ann", "committed", "update", ["mileage"])]}
    del yard.ledger.poison["write", "V-3"]
    await yard.work()
    assert await watcher.moved() == {}


async def test_a_review_that_ends_at_once_is_told(world: World, ann: User, bob: User) -> None:
    """Sent back, or merged into a mirror without an upstream."""
    await world.mirror({key: vehicle() for key in "AB"}, contract=FLEET)
    ann, bob = ann.on("fleet"), bob.on("fleet")
    root = (await world.user("root", role=Role.ADMIN)).on("fleet")
    watcher = Watcher(bob)
    await watcher.begin()
    of = await submitted(ann, {"id": "A", "delta": {"mileage": 1}})
    assert list(await watcher.moved()) == ["A"]
    await done(root, of, "reject", comment="No")
    assert await watcher.moved() == {}
    of = await submitted(ann, {"id": "B", "delta": {"seats": 2}})
    assert list(await watcher.moved()) == ["B"]
    await merged(root, of)
    assert await watcher.moved() == {}
