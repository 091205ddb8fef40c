"""Every act on a change request, from every state and by everybody: exactly the ways of the table pass."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

import httpx
import pytest

from app.contracts.states import REQUEST_TRANSITIONS, RequestState
from app.web.auth import Role
from tests.conftest import new_database
from tests.support.requests import Answer, done, merged, request, submitted, told
from tests.support.world import FLEET, User, World, line, open_world, refused, vehicle

S = RequestState

# What each act sends beside the digest, and to which state it leads; None: it moves nothing.
ACTS: dict[str, tuple[Answer, RequestState | None]] = {
    "approve": ({}, S.APPROVED),
    "reject": ({"comment": "No"}, S.REJECTED),
    "withdraw": ({}, S.WITHDRAWN),
    "resubmit": ({}, S.PENDING_REVIEW),
    "merge": ({}, S.CLOSED),
    "resolutions": ({"default": "mine"}, None),
    "comments": ({"text": "Hm"}, None),
    "revert": ({"title": "Back"}, None),
}
CREATING = {"comments", "revert"}
# The words of `may` for them.
WORDS = {"resolutions": "resolve", "comments": "comment"}

# Who may act where amy is the named approver: 403 else, and 404 for whoever may not even read it.
NAMED = {
    "approve": {"amy"},
    "reject": {"amy", "boss"},
    "withdraw": {"ann"},
    "resubmit": {"ann"},
    "merge": {"amy", "boss"},
    "resolutions": {"ann", "amy", "boss"},
    "comments": {"ann", "amy", "boss"},
    "revert": {"ann", "amy", "boss"},
}
# Where nobody is named, an ADMIN reviews.
UNNAMED = {act: people - {"amy"} for act, people in NAMED.items()} | {"approve": {"boss"}}
READING = ("", "/diff", "/conflicts", "/comments", "/audit", "/audit?format=zip")


def passes(state: RequestState, act: str) -> bool:
    """Whether there is such a way in the table; a merge of what is merged answers as the first did."""
    ways, is_merged = REQUEST_TRANSITIONS[state], state in (S.MERGED, S.CLOSED)
    match act:
        case "comments":
            return True
        case "revert":
            return is_merged
        case "resolutions":
            return state is S.PENDING_REVIEW
        case "resubmit":
            return state in (S.REJECTED, S.WITHDRAWN) and S.PENDING_REVIEW in ways
        case "merge":
            return is_merged or S.MERGING in ways
        case _:
            return ACTS[act][1] in ways


@dataclass
class People:
    """Ann, who submits, amy, who is asked, boss, an ADMIN, bob, who has nothing to do with it, and vic, a viewer."""

    world: World
    users: dict[str, User]
    keys: "count[int]" = field(default_factory=lambda: count(1))

    async def request_in(self, state: RequestState, *approvers: str) -> tuple[Answer, str]:
        """A request of ann's in this state, and the row that it is about."""
        key, dataset = f"R{next(self.keys)}", "pfa" if state is S.MERGED else "fleet"
        if dataset == "pfa":
            await self.world.mirror({key: line(equipment="A")})
        else:
            await self.world.mirror({key: vehicle(remark="A")}, contract=FLEET)
        ann, reviewer = (self.users[name].on(dataset) for name in ("ann", approvers[0] if approvers else "boss"))
        edit = {"id": key, "delta": {"equipment" if dataset == "pfa" else "remark": "B"}}
        found = await submitted(ann, edit, approvers=approvers)
        match state:
            case S.APPROVED | S.MERGING:
                await done(reviewer, found, "approve")
            case S.REJECTED:
                await done(reviewer, found, "reject", comment="No")
            case S.WITHDRAWN:
                await done(ann, found, "withdraw")
            case S.MERGED | S.CLOSED:
                await merged(reviewer, found)
        if state is S.MERGING:  # which nobody sees but the transaction that merges
            await self.world.db.execute(
                "UPDATE change_request SET state = 'merging' WHERE id = $1::text::uuid", found["id"]
            )
        now = await request(ann, found)
        assert now["status"] == state
        return now, key

    async def act(self, name: str, of: Answer, act: str) -> httpx.Response:
        """Do it, with the digest that ann sees."""
        body = dict(ACTS[act][0])
        if act in ("approve", "merge"):
            body["digest"] = of["digest"]
        return await self.users[name].on(of["dataset"]).post(f"change-requests/{of['id']}/{act}", body)

    async def meanwhile(self, key: str) -> None:
        """Bob commits another value of the same cell, so that there is something to resolve."""
        bob = self.users["bob"].on("fleet")
        await bob.draft(key, {"remark": "C"})
        assert (await bob.commit(key)).status_code == 200


@pytest.fixture(scope="module")
async def people(server_url: str, template: str) -> AsyncIterator[People]:
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            roles = {"ann": Role.ANALYST, "amy": Role.ANALYST, "boss": Role.ADMIN, "bob": Role.ENGINEER}
            users = {name: await world.user(name, role=role) for name, role in roles.items()}
            yield People(world, users | {"vic": await world.user("vic", role=Role.VIEWER)})


every_state = pytest.mark.parametrize("state", list(S))


@every_state
async def test_what_the_table_does_not_have_is_refused(people: People, state: RequestState) -> None:
    """And nothing changes by it, whoever tries."""
    found, key = await people.request_in(state, "amy")
    for act in ACTS:
        if passes(state, act):
            continue
        for name in NAMED[act]:
            problem = refused(await people.act(name, found, act), 409, "INVALID_TRANSITION")
            assert problem["state"] == state
    assert await request(people.users["ann"].on(found["dataset"]), found) == found
    assert (await people.users["ann"].on(found["dataset"]).row(key))["syncState"] == shown_as(state)


@pytest.mark.parametrize(("state", "act"), [(state, act) for state in S for act in ACTS if passes(state, act)])
async def test_what_the_table_has_passes(people: People, state: RequestState, act: str) -> None:
    found, key = await people.request_in(state, "amy")
    ann = people.users["ann"].on(found["dataset"])
    if act == "resolutions":
        await people.meanwhile(key)
    (name, *_) = sorted(NAMED[act])
    response = await people.act(name, found, act)
    if (state, act) == (S.MERGED, "revert"):
        refused(response, 409, "NOTHING_TO_REVERT")  # nothing of it has reached the mirror
        return
    answer = told(response, 201 if act in CREATING else 200)
    now = await request(ann, found)
    target = ACTS[act][1]
    assert now["status"] == (state if target is None or state in (S.MERGED, S.CLOSED) else target)
    if act == "revert":
        assert (answer["reverts"], answer["status"]) == (found["id"], "pending_review")
    if act == "merge" and state is not S.APPROVED:
        assert now == found
    assert now["iteration"] == found["iteration"] + (act in ("resolutions", "resubmit"))


@every_state
async def test_who_may_not_is_told_so_in_every_state(people: People, state: RequestState) -> None:
    """403 for whoever may read it, 404 for whoever may not; a viewer is stopped before."""
    for approvers, allowed in (("amy",), NAMED), ((), UNNAMED):
        found, _ = await people.request_in(state, *approvers)
        readers = {"ann", "boss", *approvers}
        for act, able in allowed.items():
            for name in people.users.keys() - able:
                code = "FORBIDDEN" if name in readers or (name == "vic" and act != "comments") else None
                response = await people.act(name, found, act)
                refused(response, 403 if code else 404, code or "CHANGE_REQUEST_NOT_FOUND")
        assert await request(people.users["ann"].on(found["dataset"]), found) == found


@every_state
async def test_a_request_says_what_its_reader_may_do(people: People, state: RequestState) -> None:
    for approvers, allowed in (("amy",), NAMED), ((), UNNAMED):
        found, _ = await people.request_in(state, *approvers)
        for name in ("ann", "boss", *approvers):
            may = (await request(people.users[name].on(found["dataset"]), found))["may"]
            repeated = {"merge"} if state in (S.MERGED, S.CLOSED) else set()  # answers as before: nothing to offer
            wanted = {act for act in ACTS if name in allowed[act] and passes(state, act)} - repeated
            assert set(may) == {WORDS.get(act, act) for act in wanted}


@pytest.mark.parametrize("path", READING)
async def test_author_approvers_and_administrators_read_it(people: People, path: str) -> None:
    found, _ = await people.request_in(S.PENDING_REVIEW, "amy")
    for name, user in people.users.items():
        response = await user.on("fleet").get(f"change-requests/{found['id']}{path}")
        if name in ("ann", "amy", "boss"):
            assert response.status_code == 200, response.text
        else:
            refused(response, 404, "CHANGE_REQUEST_NOT_FOUND")
        listed = (await user.on("fleet").get("change-requests", {"limit": 200})).json()["data"]
        assert (found["id"] in [each["id"] for each in listed]) == (name in ("ann", "amy", "boss"))


async def test_all_named_approvers_have_to_approve(people: People) -> None:
    found, _ = await people.request_in(S.PENDING_REVIEW, "amy", "bob")
    amy, bob = people.users["amy"].on("fleet"), people.users["bob"].on("fleet")
    half = await done(amy, found, "approve")
    assert (half["status"], [each["approver"] for each in half["approvals"]]) == ("pending_review", ["amy"])
    refused(await people.act("amy", half, "merge"), 409, "INVALID_TRANSITION")
    assert (await done(amy, found, "approve"))["status"] == "pending_review", "twice the same is once"
    assert (await done(bob, found, "approve"))["status"] == "approved"


async def test_nobody_reviews_their_own(people: People) -> None:
    """Not even an ADMIN, and nobody names themselves."""
    await people.world.mirror({"OWN": vehicle()}, contract=FLEET)
    boss = people.users["boss"].on("fleet")
    found = await submitted(boss, {"id": "OWN", "delta": {"remark": "B"}})
    for act in ("approve", "reject"):
        refused(await people.act("boss", found, act), 403, "FORBIDDEN")
    await done(boss, found, "withdraw")
    problem = refused(
        await boss.post(f"change-requests/{found['id']}/resubmit", {"approvers": ["boss"]}), 422, "VALIDATION_FAILED"
    )
    assert [(each["field"], each["code"]) for each in problem["errors"]] == [("approvers", "INVALID_APPROVER")]


def shown_as(state: RequestState) -> str:
    """What the author's row shows of a request's state."""
    return {
        S.PENDING_REVIEW: "in_review", S.APPROVED: "in_review", S.MERGING: "in_review", S.REJECTED: "draft",
        S.WITHDRAWN: "draft", S.MERGED: "committed", S.CLOSED: "pristine",
    }[state]  # fmt: skip
