"""The feed, page by page: every event from its real cause, in the order of commits, none missing and none twice."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from app.base import exact_json
from app.base.migrations import ROOT
from app.dev import seed
from app.engine.feed import EventType
from app.upstream.protocol import Refused, Unavailable
from app.web.auth import Role
from app.worker.guards import Shares
from tests.support.feed import ask, brief, briefly, happened, in_order, now, number, only, page, public, save
from tests.support.ledger import Ledger
from tests.support.records import connect, engineer
from tests.support.requests import act, done, merged, submitted
from tests.support.sessions import begin, edit, ended
from tests.support.syncing import Yard, open_yard, van
from tests.support.world import FLEET, User, World, committed, line, refused, vehicle
from tests.test_contention import at_once, until_waiting

DATASET = "/api/v1/orgs/acme/datasets/fleet"
NEW_VAN = {"depot": "North", "kind": "Van"}


@pytest.fixture
async def fleet(world: World) -> None:
    """Five vans in the fleet, which has no upstream."""
    await world.mirror({key: vehicle() for key in "ABCDE"}, contract=FLEET)


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """The fleet behind a ledger of seven vans, pulled once."""
    ledger = Ledger("plate", {f"V-{each}": van(mileage=each * 100) for each in range(1, 8)})
    async with open_yard(database_url, ledger, shares=Shares(deletions=0.5)) as yard:
        await yard.work()
        yield yard


async def fill(world: World, entries: int, audience: str = "NULL") -> None:
    """So many entries of acme; `audience` is SQL over their number i."""
    await world.db.execute("INSERT INTO feed_counter VALUES ('acme', $1)", entries)
    await world.db.execute(
        "INSERT INTO feed (organization_id, number, at, type, dataset, audience)"
        f" SELECT 'acme', i, now(), 'pull', 'fleet', {audience} FROM generate_series(1, $1) AS i",
        entries,
    )


# -- order and pages ---------------------------------------------------------------------------------------------------


async def test_an_event_tells_what_happened_when_where_and_by_whom(world: World, ann: User, fleet: None) -> None:
    """All of its members, in this order, and nothing else."""
    answer = await save(ann.on("fleet"), "A", "B", mileage=1)
    (event,) = await happened(await world.user("bob"))
    assert list(event) == ["id", "type", "at", "dataset", "revision", "actor", "count", "ids", "details"]
    assert event == {
        "id": event["id"],
        "type": "commit",
        "at": "2026-03-01T12:00:00.000Z",
        "dataset": "fleet",
        "revision": answer["revision"],
        "actor": {"id": "ann", "name": "ann"},
        "count": 2,
        "ids": ["A", "B"],
        "details": {"commitId": answer["commitId"]},
    }


async def test_pages_of_any_size_are_the_same_story(ann: User, bob: User, fleet: None) -> None:
    """In the order of commits; `nextSince` goes on, and only the last page says that it is all."""
    for mileage, key in enumerate("ABCDEAB"):
        await save((ann if mileage % 2 else bob).on("fleet"), key, mileage=mileage)
    reader = await ann.world.user("reader", role=Role.VIEWER)
    story = await happened(reader)
    assert [(event["actor"]["id"], *event["ids"]) for event in story] == list(
        zip(["bob", "ann"] * 4, "ABCDEAB", strict=False)
    )
    assert in_order(story)
    for limit in (1, 2, 3, 6, 7, 8):
        assert await happened(reader, limit=limit) == story
    first = await page(reader, "earliest", limit=7)
    assert (first["nextSince"], first["upToDate"]) == (story[-1]["id"], True)
    assert (await page(reader, "earliest", limit=6))["upToDate"] is False
    for before, event in enumerate(story, start=1):
        assert await happened(reader, event["id"]) == story[before:]


async def test_a_page_is_100_events_unless_said_otherwise(world: World, ann: User) -> None:
    await fill(world, 150)
    response = (await ask(ann, "earliest")).json()
    assert (len(response["data"]), response["upToDate"]) == (100, False)


async def test_earliest_and_now(ann: User, fleet: None) -> None:
    reader = await ann.world.user("reader")
    nothing = await page(reader, "earliest")
    assert (nothing["data"], nothing["upToDate"]) == ([], True)
    assert (await page(reader, "now")) == nothing
    await save(ann.on("fleet"), "A", mileage=1)
    assert briefly(await happened(reader, nothing["nextSince"])) == [("commit", "ann", ["A"])]
    assert briefly(await happened(reader, "earliest")) == [("commit", "ann", ["A"])]
    assert await happened(reader, "now") == []


async def test_a_dataset_tells_what_happened_there(ann: User, fleet: None) -> None:
    """And its positions are the organization's, too."""
    await ann.world.mirror({"P": line()})
    await save(ann.on("fleet"), "A", mileage=1)
    await save(ann, "P", model="M")
    await save(ann.on("fleet"), "B", mileage=1)
    reader = await ann.world.user("reader")
    everything = await happened(reader)
    assert [(event["dataset"], *event["ids"]) for event in everything] == [("fleet", "A"), ("pfa", "P"), ("fleet", "B")]
    for dataset in ("pfa", "fleet"):
        its = [event for event in everything if event["dataset"] == dataset]
        for limit in (1, 100):
            assert await happened(reader.on(dataset), of_dataset=True, limit=limit) == its
    assert await happened(reader.on("pfa"), everything[0]["id"], of_dataset=True) == [everything[1]]
    seen = await page(reader.on("pfa"), "earliest", of_dataset=True)
    assert await happened(reader, seen["nextSince"]) == []


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("", "since"),
        ("limit=5", "since"),
        ("since=now&limit=0", "limit"),
        ("since=now&limit=1001", "limit"),
        ("since=now&limit=-1", "limit"),
        ("since=now&limit=1.0", "limit"),
        ("since=now&limit=%D9%A3", "limit"),
        ("since=now&limit=", "limit"),
        ("since=now&since=now", "since"),
        ("since=now&after=x", "after"),
        ("since=now&dataset=pfa", "dataset"),
    ],
)
async def test_what_cannot_be_asked_names_the_parameter(ann: User, query: str, parameter: str) -> None:
    problem = refused(await ann.get(f"/api/v1/orgs/acme/changes?{query}"), 400, "INVALID_FILTER")
    assert problem["errors"][0]["parameter"] == parameter


async def test_changes_are_private_and_kept_by_nobody(ann: User) -> None:
    response = await ask(ann, "now")
    assert response.headers["Cache-Control"] == "private, no-cache"
    refused(await ann.get("/api/v1/orgs/acme/datasets/none/changes?since=now"), 404, "DATASET_NOT_FOUND")


# -- positions ---------------------------------------------------------------------------------------------------------

FORM = re.compile(r"[0-9a-f]{12}\.[A-Za-z0-9._~-]*")


async def check_gone(user: User, position: str, reason: str) -> None:
    """The position is refused for this reason, and with the present one it goes on."""
    problem = refused(await ask(user, position), 410, "FEED_EXPIRED")
    assert (problem["reason"], problem["position"]) == (reason, await now(user)), position
    assert (await page(user, problem["position"]))["data"] == []


async def test_a_position_is_text_for_any_url(ann: User, fleet: None) -> None:
    await save(ann.on("fleet"), "A", mileage=1)
    for since in ("earliest", "now"):
        assert FORM.fullmatch((await page(ann, since))["nextSince"])


async def test_what_is_not_kept_any_more(world: World, fleet: None) -> None:
    """Given that the first two of three are forgotten, a reader who had read both goes on, one who had not cannot."""
    writer, ann = await world.user("writer", ttl=10**8), await world.user("ann", ttl=10**8)
    positions = [await now(ann)]
    for key in "ABC":
        await save(writer.on("fleet"), key, mileage=1)
        world.clock.move(days=1)
        positions.append(await now(ann))
    story = public(await happened(ann))
    before = world.clock.at - timedelta(days=1, seconds=1)
    assert await world.db.fetchval("SELECT forget_feed('acme', $1, 100)", before) == 2
    for position in positions[:2]:
        await check_gone(ann, position, "expired")
    assert public(await happened(ann, positions[2])) == story[2:]
    assert public(await happened(ann, positions[3])) == []
    assert public(await happened(ann, "earliest")) == story[2:]
    world.clock.move(days=365)
    assert await world.db.fetchval("SELECT forget_feed('acme', $1, 100)", world.clock.at) == 1
    await check_gone(ann, positions[2], "expired")
    assert await happened(ann, positions[3]) == []
    assert await happened(ann, "earliest") == []
    await save(writer.on("fleet"), "D", mileage=1)
    assert briefly(public(await happened(ann, positions[3]))) == [("commit", "writer", ["D"])]


async def test_a_position_that_the_feed_has_not_come_to(ann: User, fleet: None) -> None:
    """Of the organization's entries, and of the caller's own drafts."""
    await save(ann.on("fleet"), "A", mileage=1)
    position = await now(ann)
    head, _, rest = position.partition(".")
    await check_gone(ann, f"{int(head, 16) + 1:012x}.{rest}", "ahead")
    await check_gone(ann, f"ffffffffffff.{rest}", "ahead")
    own = re.sub(r"fleet~(\d+)", lambda found: f"fleet~{int(found[1]) + 1}", position)
    assert own != position
    await check_gone(ann, own, "ahead")
    await check_gone(ann, f"{position}~pfa~1", "ahead")


async def test_a_position_from_before_the_database_was_restored(world: World, ann: User, fleet: None) -> None:
    await save(ann.on("fleet"), "A", mileage=1)
    position = await now(ann)
    event = (await happened(ann))[0]["id"]
    await world.db.execute("UPDATE incarnation SET number = number + 1000")
    await check_gone(ann, position, "epoch")
    refused(await ann.on("fleet").get(f"changes/{event}/ids"), 404, "EVENT_NOT_FOUND")


async def test_a_position_belongs_to_one_person_in_one_organization(world: World, ann: User, bob: User) -> None:
    await world.organization("other")
    elsewhere = await world.user("cyd", "other")
    for stranger in (bob, elsewhere):
        await check_gone(ann, await now(stranger), "foreign")
        await check_gone(stranger, await now(ann), "foreign")
    refused(await ann.get("/api/v1/orgs/other/changes?since=now"), 403, "FORBIDDEN")


HOSTILE = [
    "",
    " ",
    "0",
    "NOW",
    "null",
    "-1",
    "000000000001",
    "000000000001.",
    "000000000001...",
    "000000000001.0.aaaaaaaa",
    "00000000001.0.aaaaaaaa.",
    "0000000000001.0.aaaaaaaa.",
    "00000000000G.0.aaaaaaaa.",
    "00000000000A.0.aaaaaaaa.",
    "000000000001.-1.aaaaaaaa.",
    "000000000001.0.aaaaaaaa.pfa",
    "000000000001.0.aaaaaaaa.pfa~",
    "000000000001.0.aaaaaaaa.pfa~x",
    "000000000001.0.aaaaaaaa.pfa~-1",
    "000000000001.0.aaaaaaaa.pfa~1~",
    "000000000001.0.aaaaaaaa.pfa~9999999999999999999",
    "000000000001.0.aaaaaaaa.\n",
    "000000000001.0.aaaaaaaa.\r\nSet-Cookie: a=b",
    "\u0660" * 12 + ".0.aaaaaaaa.",
    "000000000001.0.\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4.",
    "000000000001.0.aaaaaaaa.pfa~\u0661",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "'; DROP TABLE feed; --",
    "000000000001.0.aaaaaaaa." + "a~1~" * 999 + "b~1",
    "x" * 10_000,
]


@pytest.mark.parametrize("position", HOSTILE, ids=range(len(HOSTILE)))
async def test_what_is_no_position(ann: User, position: str) -> None:
    """Whatever it is, it is refused with a position to go on from; with a NUL, it is no text."""
    await check_gone(ann, position, "malformed")
    if position:
        assert (await ann.get(f"changes/{quote(position, safe='')}/ids")).status_code == 404


async def test_a_position_with_a_nul(ann: User) -> None:
    assert (await ann.get("/api/v1/orgs/acme/changes?since=%00")).status_code in (400, 410)


async def test_positions_of_lists_say_what_they_show(ann: User, bob: User, fleet: None) -> None:
    """GET D/rows, GET D and D/drafts: what came before is in them, what comes after is told."""
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await save(bob, "A", mileage=1)
    await ann.draft("C", {"mileage": 3})
    places = {
        "rows": (await ann.page())["metadata"]["position"],
        "search": (await ann.page(search="van"))["metadata"]["position"],
        "dataset": (await ann.get(DATASET)).json()["position"],
        "drafts": (await ann.get("drafts")).json()["metadata"]["position"],
    }
    assert len(set(places.values())) == 1, places
    assert await happened(ann, places["rows"]) == []
    await save(bob, "B", mileage=2)
    await ann.draft("C", {"mileage": 4})
    told = await happened(ann, places["rows"])
    assert [brief(event) for event in told] == [("commit", "bob", ["B"]), ("drafts", "ann", None)]


async def test_a_write_answers_the_position_behind_it(ann: User, bob: User, fleet: None) -> None:
    """Whatever was written; the same answer again, where a key repeats it; and a refusal tells none."""
    ann = ann.on("fleet")
    await ann.draft("B", {"mileage": 2})
    writes = [
        ("POST", "drafts", {"modifications": [{"id": "A", "delta": {"mileage": 1}}]}),
        ("PATCH", "rows/A", {"mileage": 2}),
        ("PATCH", "rows/A", {"mileage": 2}),
        ("POST", "drafts/undo", {}),
        ("POST", "drafts/redo", {}),
        ("POST", "discard", {"ids": ["B"]}),
        ("POST", "commit", {"all": True, "dryRun": True}),
        ("POST", "commit", {"all": True}),
        ("POST", "discard", {"all": True}),
        ("POST", "sessions", {"mode": "full_table"}),
    ]
    positions = [await now(ann)]
    for method, path, body in writes:
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = f"{len(positions)}"
        for _ in range(2 if method == "POST" else 1):
            response = await ann.request(method, path, content=exact_json.encode(body), headers=headers)
            assert response.status_code in (200, 201), response.text
            last = response.json()["position"]
            assert last == response.json()["position"]
        positions.append(last)
        assert await now(ann) == last
        assert await happened(ann, last) == [], path
    assert [number(position) for position in positions] == sorted(map(number, positions))
    problem = refused(await ann.commit(), 404, "NO_DRAFTS")
    assert "position" not in problem


async def test_what_is_read_while_others_write_loses_and_repeats_nothing(world: World, fleet: None) -> None:
    """Given eight who commit all the time, a list's position stands between the commits that it shows and the others:
    the events up to there made its revision, those after it later ones. So does the position of a commit's answer.
    """
    writers = [(await world.user(f"w{each}")).on("fleet") for each in range(8)]
    await world.mirror({f"W{each}": vehicle() for each in range(8)}, contract=FLEET)
    reader = (await world.user("reader")).on("fleet")
    answers: list[dict[str, Any]] = []

    async def write(place: int) -> None:
        for mileage in range(8):
            answers.append(await save(writers[place], f"W{place}", mileage=mileage))

    async def look() -> list[tuple[str, int, dict[str, Any]]]:
        seen = []
        while not writing.done():
            found = await reader.page()
            rows = {row["id"]: row["data"]["mileage"] for row in found["data"]}
            seen.append((found["metadata"]["position"], found["metadata"]["revision"], rows))
            dataset = (await reader.get(DATASET)).json()
            seen.append((dataset["position"], dataset["revision"], {}))
            drafts = (await reader.get("drafts")).json()["metadata"]
            seen.append((drafts["position"], drafts["revision"], {}))
        return seen

    writing = asyncio.gather(*map(write, range(8)))
    seen = await look()
    await writing
    story = await happened(reader)
    assert [event["revision"] for event in story] == [*range(1, 65)]
    values = {answer["revision"]: answer for answer in answers}
    for position, revision, rows in seen:
        after = await happened(reader, position)
        assert after == story[revision:]
        for key in rows:
            later = [event for event in after if key in event["ids"]]
            assert rows[key] == (7 - len(later) if len(later) < 8 else 1000) or not key.startswith("W")
    for event in story:
        answer = values[event["revision"]]
        assert event["details"]["commitId"] == answer["commitId"]
        assert number(answer["position"]) == number(event["id"])
    assert len({position for position, *_ in seen}) > 3, "the reader saw several states"


# -- the rows of a large event -----------------------------------------------------------------------------------------


async def test_an_event_of_1000_rows_names_them_and_a_larger_one_is_asked(world: World, ann: User) -> None:
    await world.mirror({f"V{each:04}": vehicle() for each in range(1001)}, contract=FLEET)
    ann = ann.on("fleet")
    keys = [f"V{each:04}" for each in range(1001)]
    for some in (keys[:1000], keys):
        body = {"modifications": [{"id": key, "delta": {"seats": 200 - len(some) % 7}} for key in some]}
        assert (await ann.post("drafts", body)).status_code == 200
        await committed(ann)
    small, large = only(await happened(ann), "commit")
    assert (small["count"], small["ids"]) == (1000, keys[:1000])
    assert (large["count"], "ids" in large) == (1001, False)

    for event, expected in ((small, keys[:1000]), (large, keys)):
        for limit in (1000, 300, 10_000):
            found, cursor, totals = list[str](), None, set()
            while True:
                params = {"limit": limit} | ({"after": cursor} if cursor else {})
                answer = (await ann.get(f"changes/{event['id']}/ids", params)).json()
                found += answer["data"]
                totals.add(answer["total"])
                if (cursor := answer["nextCursor"]) is None:
                    break
            assert (found, totals) == (expected, {len(expected)})
    assert len((await ann.get(f"changes/{large['id']}/ids")).json()["data"]) == 1000


async def test_ids_of_what_is_not_there(world: World, ann: User, bob: User, fleet: None) -> None:
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await save(ann, "A", mileage=1)
    await begin(ann)
    commit, session = public(await happened(ann))
    path = f"changes/{commit['id']}/ids"
    assert (await ann.get(path)).json() == {"data": ["A"], "total": 1, "nextCursor": None}
    refused(await ann.on("pfa").get(path), 404, "EVENT_NOT_FOUND")
    for user in (ann, bob):
        refused(await user.get(f"changes/{session['id']}/ids"), 404, "EVENT_NOT_FOUND")
    refused(await ann.get(f"changes/{'f' * 12}{commit['id'][12:]}/ids"), 404, "EVENT_NOT_FOUND")
    refused(await ann.get(path, {"limit": 10_001}), 400, "INVALID_FILTER")
    refused(await ann.get(path, {"after": "x"}), 400, "INVALID_CURSOR")
    await world.db.execute("SELECT forget_feed('acme', $1, 100)", world.clock.at + timedelta(days=1))
    refused(await ann.get(path), 404, "EVENT_NOT_FOUND")


# -- every type, from its cause ----------------------------------------------------------------------------------------


async def test_a_pull_tells_the_rows_that_it_changed(yard: Yard) -> None:
    """A page of the ledger has three rows."""
    ann = await yard.user("ann")
    first = await happened(ann)
    assert briefly(first) == [
        ("pull", None, ["V-1", "V-2", "V-3"]),
        ("pull", None, ["V-4", "V-5", "V-6"]),
        ("pull", None, ["V-7"]),
    ]
    assert [event["details"] for event in first] == [{}, {}, {}]
    yard.ledger.put("V-2", mileage=1)
    yard.ledger.put("V-6", mileage=1)
    yard.ledger.remove("V-7")
    yard.ledger.put("V-8", **van())
    await yard.later(days=1)
    later = await happened(ann, first[-1]["id"])
    assert sorted(key for event in later for key in event["ids"]) == ["V-2", "V-6", "V-7", "V-8"]
    assert {event["type"] for event in later} == {"pull"}
    assert [event["revision"] for event in first + later] == [*range(1, await yard.revision() + 1)]


async def test_a_commit_goes_on_its_way_and_its_push_comes_back(yard: Yard) -> None:
    ann = await yard.user("ann")
    since = await now(ann)
    answer = await save(ann, "V-1", "V-2", mileage=5)
    await yard.work()
    commit, *pushes = public(await happened(ann, since))
    assert (brief(commit), commit["revision"]) == (("commit", "ann", ["V-1", "V-2"]), None)
    assert commit["details"] == {"commitId": answer["commitId"]}
    assert {event["type"] for event in pushes} == {"push"}
    assert sorted(key for event in pushes for key in event["ids"]) == ["V-1", "V-2"]
    assert pushes[-1]["revision"] == await yard.revision()
    for event in pushes:
        assert event["details"] == {"synced": event["count"], "conflict": 0, "syncError": 0}
        assert "keys" not in event


async def test_a_new_row_is_told_with_both_of_its_ids(yard: Yard) -> None:
    ann = await yard.user("ann")
    await ann.draft("new-1", NEW_VAN, op="insert")
    yard.ledger.new_key = "V-100"
    since = await now(ann)
    await committed(ann)
    await yard.work()
    commit, push = public(await happened(ann, since))
    assert brief(commit) == ("commit", "ann", ["new-1"])
    assert (brief(push), push["keys"]) == (("push", None, ["V-100", "new-1"]), {"new-1": "V-100"})


async def test_what_upstream_refuses_and_what_differs_there_are_conflicts(yard: Yard) -> None:
    ann = await yard.user("ann")
    for key in ("V-1", "V-2", "V-3"):
        await ann.draft(key, {"mileage": 5})
    await committed(ann)
    yard.ledger.put("V-1", mileage=7)
    yard.ledger.poison["write", "V-2"] = Refused("No")
    since = await now(ann)
    await yard.work()
    # What is settled together is told together: which of them that is, their answers decide.
    story = public(await happened(ann, since))
    for type_, names, counted in (
        ("push", ["V-1", "V-2", "V-3"], {"synced": 1, "conflict": 1, "syncError": 1}),
        ("conflict", ["V-1", "V-2"], {"conflict": 1, "syncError": 1}),
    ):
        its = only(story, type_)
        assert sorted(name for event in its for name in event["ids"]) == names
        assert {word: sum(event["details"][word] for event in its) for word in its[0]["details"]} == counted
        assert {event["revision"] is None for event in its} == {type_ == "conflict"}


async def failed(yard: Yard, user: User, *keys: str) -> str:
    """Changes of these rows that upstream refused; the position behind that."""
    for key in keys:
        await user.draft(key, {"mileage": 5})
        yard.ledger.poison["write", key] = Refused("No")
    await committed(user, *keys)
    await yard.work()
    return await now(user)


async def test_whoever_deals_with_a_refusal_moves_the_overlap(yard: Yard) -> None:
    """By an edit, by letting go, by another try, by another commit."""
    ann = await yard.user("ann")
    root = await yard.user("root", role=Role.ADMIN)
    since = await failed(yard, ann, "V-1", "V-2", "V-3", "V-4")
    await ann.draft("V-1", {"mileage": 6})
    assert (await ann.discard("V-2")).status_code == 200
    assert (await root.post("sync/retry", {"all": True})).json()["retried"] == 2
    overlaps = public(await happened(ann, since))
    assert [(event["type"], event["actor"]["id"], event["ids"]) for event in overlaps] == [
        ("overlap", "ann", ["V-1"]),
        ("overlap", "ann", ["V-2"]),
        ("overlap", "root", ["V-3", "V-4"]),
    ]
    assert [(event["revision"], event["details"]) for event in overlaps] == [(None, {})] * 3


async def test_rows_in_review_overlap_until_they_leave_it(world: World, ann: User, fleet: None) -> None:
    """Submitted, withdrawn, submitted and sent back, submitted again."""
    ann, bob = ann.on("fleet"), (await world.user("bob")).on("fleet")
    root = (await world.user("root", role=Role.ADMIN)).on("fleet")
    of = await submitted(ann, {"id": "A", "delta": {"mileage": 1}}, {"id": "B", "delta": {"mileage": 1}})
    await done(ann, of, "withdraw")
    other = await submitted(ann, {"id": "C", "delta": {"mileage": 1}})
    await done(root, other, "reject", comment="No")
    assert briefly(await happened(bob)) == [
        ("overlap", "ann", ["A", "B"]),
        ("overlap", "ann", ["A", "B"]),
        ("overlap", "ann", ["C"]),
        ("overlap", "ann", ["C"]),
    ]


async def test_a_change_request_is_told_to_those_who_may_read_it(world: World, ann: User, fleet: None) -> None:
    """Its author, its approvers and every ADMIN: what happened, and what it is then. A merge is told to all."""
    ann = ann.on("fleet")
    people = {
        "ann": ann,
        "bob": await world.user("bob"),
        "eve": await world.user("eve", role=Role.ENGINEER),
        "app": await world.user("app", role=Role.ADMIN),
        "root": await world.user("root", role=Role.ADMIN),
    }
    boss = people["app"].on("fleet")
    of = await submitted(ann, {"id": "A", "delta": {"mileage": 1}}, approvers=("app",))
    await done(boss, of, "comments", text="Well")
    answer = await merged(boss, of)
    for name, user in people.items():
        events = await happened(user)
        requests = only(events, "request")
        expected = [] if name in ("bob", "eve") else ["submitted", "commented", "approved", "merged", "closed"]
        assert [event["details"]["event"] for event in requests] == expected, name
        (merge,) = only(events, "merge")
        assert (brief(merge), merge["revision"]) == (("merge", "app", ["A"]), answer["mergedRevision"])
        assert merge["details"] == {"commitId": answer["commitId"], "requestId": of["id"]}
    told = only(await happened(boss), "request")
    assert [event["details"]["status"] for event in told] == ["pending_review"] * 2 + ["approved"] + ["closed"] * 2
    assert {event["details"]["requestId"] for event in told} == {of["id"]}
    assert {(event["count"], "ids" in event, event["revision"]) for event in told} == {(None, False, None)}


async def test_a_merge_with_an_upstream_goes_on_its_way(yard: Yard) -> None:
    ann, root = await yard.user("ann"), await yard.user("root", role=Role.ADMIN)
    of = await submitted(ann, {"id": "V-1", "delta": {"mileage": 1}})
    since = await now(root)
    await merged(root, of)
    (merge,) = only(await happened(root, since), "merge")
    assert (brief(merge), merge["revision"]) == (("merge", "root", ["V-1"]), None)
    await yard.work()
    await yard.later(hours=1)
    story = public(await happened(root, since))
    assert [event["type"] for event in story if event["type"] != "request"] == ["merge", "push"]
    assert [event["details"]["event"] for event in only(story, "request")] == ["approved", "merged", "closed"]


async def test_a_session_is_told_to_its_owner_alone(world: World, ann: User, bob: User, fleet: None) -> None:
    """Begun, extended, looked at, edited again, ended; another one submitted."""
    ann = ann.on("fleet")
    session = await begin(ann)
    path = f"sessions/{session['id']}"
    assert (await ann.post(f"{path}/extend", {})).status_code == 200
    await edit(ann, session, "A", "mileage", 5)
    assert (await ann.post(f"{path}/preview", {})).status_code == 200
    await edit(ann, session, "A", "mileage", 6)
    await ended(ann, session)
    told = only(await happened(ann), "session")
    assert [event["details"] for event in told] == [
        {"sessionId": session["id"], "status": status}
        for status in ("active", "active", "preview", "active", "aborted")
    ]
    await submitted(ann, {"id": "A", "delta": {"mileage": 1}})
    root = await world.user("root", role=Role.ADMIN)
    for other in (bob, root):
        assert only(await happened(other), "session", "drafts") == []
    assert only(await happened(ann), "session")[-1]["details"]["status"] == "submitted"


async def test_a_session_whose_time_is_over(yard: Yard) -> None:
    ann = await yard.user("ann")
    session = await begin(ann)
    since = await now(ann)
    await yard.later(days=2)
    (event,) = only(await happened(ann, since), "session")
    assert event["details"] == {"sessionId": session["id"], "status": "expired"}


async def test_a_dataset_that_is_used_otherwise(world: World, ann: User) -> None:
    await connect(world)
    root, erin = await world.user("root", role=Role.ADMIN), await engineer(world)
    for wanted in (True, True, False):
        response = await root.request(
            "PUT", "settings", content=exact_json.encode({"requireApproval": wanted}),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        assert response.status_code == 200, response.text
    for verb in ("resume", "pause", "pause", "resume"):
        assert (await erin.post(f"sync/{verb}", {})).status_code == 200
    events = await happened(ann)
    assert [(event["type"], event["actor"]["id"], event["dataset"], event["details"]) for event in events] == [
        ("dataset", "root", "pfa", {"event": "settings_changed"}),
        ("dataset", "root", "pfa", {"event": "settings_changed"}),
        ("dataset", "erin-of-acme", "pfa", {"event": "paused"}),
        ("dataset", "erin-of-acme", "pfa", {"event": "resumed"}),
    ]


async def test_a_load_is_told_as_one(world: World, ann: User, database_url: str) -> None:
    """Thousands of lines, with a revision and without rows: everything may be otherwise."""
    await seed.seed(database_url, "acme", 2000)
    (event,) = await happened(ann)
    assert (brief(event), event["details"]) == (("dataset", None, None), {"event": "loaded"})
    assert (event["revision"], event["count"]) == (
        await world.db.fetchval("SELECT max(revision) FROM pfa.mirror"),
        None,
    )


async def test_your_own_drafts_are_told_as_one_and_nobody_elses(ann: User, bob: User, fleet: None) -> None:
    """From where the reader was to the version of the last save; twice, where that is asked twice."""
    ann = ann.on("fleet")
    since = {user.id: await now(user) for user in (ann, bob)}
    before = (await ann.draft("A", {"mileage": 1}))["version"]
    await ann.draft("B", {"mileage": 1})
    last = (await ann.draft("A", {"mileage": 2}))["version"]
    answer = await page(ann, since["ann"])
    (event,) = answer["data"]
    assert list(event) == ["id", "type", "at", "dataset", "revision", "actor", "count", "details", "from", "to"]
    assert brief(event) == ("drafts", "ann", None)
    assert (event["dataset"], event["revision"], event["count"], event["details"]) == ("fleet", None, None, {})
    assert (event["from"], event["to"]) == (0, last)
    assert event["from"] < before < last
    assert answer["nextSince"] == event["id"]
    assert await happened(ann, event["id"]) == []
    assert await happened(ann.on("pfa"), since["ann"], of_dataset=True) == []
    assert len(await happened(ann, since["ann"], of_dataset=True)) == 1
    assert await happened(bob, since["bob"]) == []
    await ann.discard()
    (again,) = await happened(ann, event["id"])
    assert again["from"] == event["to"]


async def test_drafts_that_a_pull_touches_are_told(yard: Yard) -> None:
    """A conflict that a pull brings is the drafting user's: the row's change is everybody's."""
    ann, bob = await yard.user("ann"), await yard.user("bob")
    await ann.draft("V-1", {"mileage": 5})
    since = {user.id: await now(user) for user in (ann, bob)}
    yard.ledger.put("V-1", mileage=7)
    await yard.later(hours=1)
    assert briefly(await happened(bob, since["bob"])) == [("pull", None, ["V-1"])]
    assert briefly(public(await happened(ann, since["ann"]))) == [("pull", None, ["V-1"])]


# -- what is no event --------------------------------------------------------------------------------------------------


async def count(world: World, organization: str = "acme") -> int:
    """The number of the newest entry, which is that of all: there are no gaps."""
    found = await world.db.fetchrow(
        "SELECT count(*), coalesce(max(number), 0),"
        "       coalesce((SELECT number FROM feed_counter WHERE organization_id = $1), 0)"
        "  FROM feed WHERE organization_id = $1",
        organization,
    )
    assert found is not None
    assert len(set(found)) == 1
    return int(found[0])


async def test_a_pull_of_rows_that_are_as_they_were_is_no_event(yard: Yard) -> None:
    before = await count(yard.world)
    await yard.later(hours=1)
    await yard.later(days=1)
    assert await count(yard.world) == before


async def test_a_push_that_is_put_off_is_no_event(yard: Yard) -> None:
    """Upstream is away: what waited waits."""
    ann = await yard.user("ann")
    await save(ann, "V-1", mileage=5)
    before = await count(yard.world)
    yard.ledger.failures["hold"] = [Unavailable("Nobody is there") for _ in range(5)]
    await yard.work()
    assert (await yard.states(), await count(yard.world)) == (["committed"], before)


async def test_what_changes_nothing_is_no_event(world: World, ann: User, fleet: None) -> None:
    """Drafts, equal values, dry runs, refusals, and what was broken off."""
    ann, root = ann.on("fleet"), (await world.user("root", role=Role.ADMIN)).on("fleet")
    await ann.draft("A", {"mileage": 5})
    await ann.draft("B", {"mileage": 1000})
    assert (await ann.post("commit", {"all": True, "dryRun": True})).status_code == 200
    assert (await committed(ann, "B"))["committed"] == 0
    refused(await ann.commit("C"), 404, "NO_DRAFTS")
    await ann.draft("D", {"lastDay": "2026-01-01", "firstDay": "2026-02-01"})
    refused(await ann.commit(), 422, "VALIDATION_FAILED")
    refused(await ann.post("commit", {"all": True, "expectedVersions": {"A": 99}}), 409, "VERSION_CONFLICT")
    await ann.discard("D")
    await ann.draft("A", {"mileage": 1000})
    await ann.discard()
    response = await root.request(
        "PUT", "settings", content=b'{"requireApproval": false}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200
    assert await count(world) == 0


async def test_what_a_merge_gives_up_is_no_event(world: World, ann: User, fleet: None) -> None:
    """A dry run; and one that meets a conflict tells that the request went back, and not that rows were merged."""
    ann, bob = ann.on("fleet"), (await world.user("bob")).on("fleet")
    root = (await world.user("root", role=Role.ADMIN)).on("fleet")
    of = await submitted(ann, {"id": "A", "delta": {"mileage": 1}}, {"id": "B", "delta": {"mileage": 1}})
    await done(root, of, "approve")
    before = await count(world)
    await done(root, of, "merge", dryRun=True)
    assert await count(world) == before
    await save(bob, "A", mileage=2)
    since = await now(root)
    refused(await act(root, of, "merge"), 409, "MERGE_CONFLICT")
    events = await happened(root, since)
    assert [(event["type"], event["details"]["status"]) for event in events] == [("request", "pending_review")]
    assert only(await happened(root), "merge") == []


async def test_a_request_that_is_repeated_by_its_key_is_told_once(world: World, ann: User, fleet: None) -> None:
    ann = ann.on("fleet")
    await ann.draft("A", {"mileage": 1})
    for _ in range(3):
        response = await ann.post("commit", {"all": True}, headers={"Idempotency-Key": "k"})
        assert response.status_code == 200
    assert await count(world) == 1


async def test_whoever_waits_for_the_counter_waits_for_a_commit_and_nobody_else_does(
    world: World, ann: User, bob: User, fleet: None
) -> None:
    """Given a transaction that is about to commit, then others that append wait for it; who reads, who drafts and who
    is of another organization does not. Afterwards all are there.
    """
    await world.organization("other")
    cyd, root = (await world.user("cyd", "other")).on("fleet"), await world.user("root", role=Role.ADMIN)
    await world.mirror({"A": vehicle()}, "other", FLEET)
    await save(ann.on("fleet"), "A", mileage=1)
    of = await submitted(bob.on("fleet"), {"id": "B", "delta": {"mileage": 1}})
    await done(root.on("fleet"), of, "approve")
    before, since = await count(world), await now(root)
    await ann.on("fleet").draft("C", {"mileage": 5})
    async with world.db.acquire() as holder, holder.transaction():
        await holder.execute("UPDATE feed_counter SET number = number WHERE organization_id = 'acme'")
        writing = at_once(
            ann.on("fleet").commit(), act(root.on("fleet"), of, "merge"), bob.post("sessions", {"mode": "full_table"})
        )
        await until_waiting(world, 3, *writing)
        assert (await bob.on("fleet").draft("D", {"mileage": 7}))["version"]
        assert len(await bob.on("fleet").rows()) == 5
        assert await happened(root, since) == []
        await save(cyd, "A", mileage=9)
    assert [response.status_code for response in await asyncio.gather(*writing)] == [200, 200, 201]
    assert await count(world) == before + 5
    assert sorted(event["type"] for event in await happened(root, since)) == ["commit", "merge", "request", "request"]


# -- who sees what -----------------------------------------------------------------------------------------------------


async def test_an_organization_hears_nothing_of_another(world: World, ann: User, fleet: None) -> None:
    await world.organization("other")
    cyd = (await world.user("cyd", "other")).on("fleet")
    await world.mirror({"A": vehicle()}, "other", FLEET)
    await save(ann.on("fleet"), "A", mileage=1)
    await save(cyd, "A", mileage=2)
    await save(cyd, "A", mileage=3)
    assert briefly(public(await happened(ann))) == [("commit", "ann", ["A"])]
    assert briefly(public(await happened(cyd))) == [("commit", "cyd", ["A"])] * 2


async def test_what_is_not_for_the_reader_is_passed_over_at_once(world: World, ann: User, bob: User) -> None:
    """Given thousands of entries that are somebody else's, a page of few asks the database once or twice."""
    await fill(world, 5000, audience="CASE WHEN i IN (1, 4000) THEN NULL ELSE ARRAY['bob'] END")
    pages, since = 0, "earliest"
    found: list[int] = []
    while True:
        pages += 1
        answer = await page(ann, since, limit=2)
        found += [number(event["id"]) for event in answer["data"]]
        since = answer["nextSince"]
        if answer["upToDate"]:
            break
    assert (found, pages) == ([1, 4000], 2)
    assert len(await happened(bob, limit=1000)) == 5000


def test_every_type_is_one_that_is_written_down() -> None:
    """The table of docs/feed.md has those of EventType, and each has its test here."""
    text = (ROOT / "docs/feed.md").read_text()
    table = text[text.index("| type | what happened") : text.index("A write that changes nothing")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [each.value for each in EventType]
