"""Streams of the feed over real HTTP: what is sent, to whom, until when, and what becomes of those who are slow."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.accounts import add_account
from app.dev.postgres import Server
from app.engine import tailer
from app.migrate import migrate
from app.web.auth import Role
from app.web.cookies import SECURE_NAME
from tests.conftest import FAST
from tests.support.feed import brief, briefly, happened, now, number, save
from tests.support.requests import done, submitted
from tests.support.sessions import begin
from tests.support.streams import LIMIT, Block, Door, Idle, Stream, served
from tests.support.world import CONTRACTS, FLEET, User, World, committed, line, open_world, refused, vehicle
from tests.test_contention import paused
from tests.test_outage import cut, own_server


@pytest.fixture
async def door(world: World) -> AsyncIterator[Door]:
    """The application behind a socket, and five vans in the fleet."""
    await world.mirror({key: vehicle() for key in "ABCDE"}, contract=FLEET)
    async with served(world) as door:
        yield door


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may go on is looked at all the time."""
    monkeypatch.setattr(tailer, "ACCESS_TICK", 0.02)
    monkeypatch.setattr(tailer, "CLOCK_TICK", 0.02)


async def commit(user: User, key: str = "A", **delta: Any) -> str:
    """A commit in the fleet that changes something; the position behind it."""
    user = user.on("fleet")
    row = await user.row(key)
    answer = await save(user, key, **(delta or {"mileage": row["data"]["mileage"] + 1}))
    return str(answer["position"])


# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_a_stream_from_its_first_byte(door: Door, ann: User, bob: User) -> None:
    """Retry, open, what was missed, uptodate, what happens: each a block, each but the first with an id."""
    before = await now(bob)
    await commit(ann, "A", mileage=1)
    async with door.stream(bob, before) as stream:
        first = [await stream.next() for _ in range(4)]
        retry, opened, missed, up_to_date = (block for block in first if block is not None)
        assert 1000 <= (retry.retry or 0) <= 3000
        assert opened == Block("open", before, {"position": before}, None, None)
        assert brief(missed.event) == ("commit", "ann", ["A"])
        assert up_to_date == Block("uptodate", missed.id, {"position": missed.id}, None, None)
        await commit(ann, "B", mileage=2)
        assert brief((await stream.block()).event) == ("commit", "ann", ["B"])
        assert await happened(bob, "earliest") == [missed.data, *(await happened(bob, missed.id or ""))]


async def test_an_answer_that_nobody_keeps_packs_or_holds_back(door: Door, ann: User) -> None:
    headers = {"Authorization": f"Bearer {ann.token}", "Accept-Encoding": "gzip, br, zstd"}
    async with door.opened(ann, headers=headers) as stream:
        found = stream.response.headers
        assert found["Content-Type"].partition(";")[0] == "text/event-stream"
        assert found["Cache-Control"] == "no-store, no-transform"
        assert found["X-Accel-Buffering"] == "no"
        assert "X-Request-ID" in found
        assert {"Content-Length", "Content-Encoding", "ETag"} & {name.title() for name in found} == set()


async def test_head_tells_of_a_stream_and_ends(door: Door, ann: User) -> None:
    response = await door.http.head("/api/v1/orgs/acme/events", headers={"Authorization": f"Bearer {ann.token}"})
    assert (response.status_code, response.headers["Content-Type"].partition(";")[0]) == (200, "text/event-stream")
    assert door.world.runtime.tailer.listeners == 0


async def test_where_a_stream_begins(door: Door, ann: User, bob: User) -> None:
    """Behind Last-Event-ID, else behind since, else now: whatever of these is nothing counts for nothing."""
    positions = [await now(bob)]
    for mileage in (1, 2, 3):
        await commit(ann, mileage=mileage)
        positions.append(await now(bob))
    story = await happened(bob, positions[0])
    for since, last_id, expected in [
        (None, None, []),
        ("now", None, []),
        ("earliest", None, story),
        (positions[1], None, story[1:]),
        (None, positions[2], story[2:]),
        ("earliest", positions[2], story[2:]),
        (positions[0], positions[3], []),
        ("earliest", "", story),
        (None, "", []),
    ]:
        async with door.stream(bob, since, last_id=last_id) as stream:
            assert await stream.until_up_to_date() == expected, (since, last_id)
            assert stream.last_id == positions[3]


async def test_the_stream_of_a_dataset(door: Door, ann: User, bob: User) -> None:
    """Tells what happens there alone; its positions are the organization's."""
    await door.world.mirror({"P": line(), "Q": line()})
    since = await now(bob)
    async with door.opened(bob.on("pfa"), of_dataset=True) as stream, door.opened(bob) as everything:
        for key in ("P", "Q"):
            await commit(ann, "A")
            await ann.draft(key, {"model": "M"})
            await committed(ann, key)
        assert [brief(event) for event in await stream.events(2)] == [
            ("commit", "ann", ["P"]),
            ("commit", "ann", ["Q"]),
        ]
        story = await everything.events(4)
    assert [event["dataset"] for event in story] == ["fleet", "pfa"] * 2
    async with door.stream(bob.on("pfa"), since, of_dataset=True) as stream:
        assert await stream.until_up_to_date() == [story[1], story[3]]
    async with door.stream(bob, last_id=story[1]["id"]) as stream:
        assert await stream.until_up_to_date() == story[2:]


async def test_what_cannot_be_asked(door: Door, ann: User) -> None:
    token = {"Authorization": f"Bearer {ann.token}"}
    for path, headers, status, code in [
        ("/api/v1/orgs/acme/events", {}, 401, "TOKEN_MISSING"),
        ("/api/v1/orgs/acme/events", {"Authorization": "Bearer x"}, 401, "TOKEN_INVALID"),
        ("/api/v1/orgs/acme/events?since=now&since=now", token, 400, "INVALID_FILTER"),
        ("/api/v1/orgs/acme/events?limit=1", token, 400, "INVALID_FILTER"),
        ("/api/v1/orgs/acme/datasets/none/events", token, 404, "DATASET_NOT_FOUND"),
        ("/api/v1/orgs/other/events", token, 403, "FORBIDDEN"),
        ("/api/v1/orgs/other/events", token | {"Last-Event-ID": "x"}, 403, "FORBIDDEN"),
    ]:
        refused(await door.http.get(path, headers=headers), status, code)


async def test_a_stream_begins_anew_where_its_position_is_none(door: Door, world: World, ann: User, bob: User) -> None:
    """It is told why, and where to go on from; then it goes on by itself."""
    old = await now(bob)
    await commit(ann)
    position = await now(bob)
    head, _, rest = position.partition(".")
    await world.db.execute("SELECT forget_feed('acme', $1, 10)", world.clock.at + timedelta(days=1))
    for wrong, reason in [
        (old, "expired"),
        (f"ff{head[2:]}.{rest}", "ahead"),
        (f"{head}.7{rest}", "epoch"),
        (await now(ann), "foreign"),
        ("x", "malformed"),
        ("x" * 9000, "malformed"),
        ("\u00e4", "malformed"),
    ]:
        last_id = wrong.encode()  # as a header has it
        async with door.stream(
            bob, headers={"Authorization": f"Bearer {bob.token}", "Last-Event-ID": last_id}
        ) as stream:
            assert await stream.block("reset") == Block(
                "reset", position, {"reason": reason, "position": position}, None, None
            )
            assert await stream.until_up_to_date() == []
            await commit(ann)
            (event,) = await stream.events(1)
            position = event["id"]


HEARTBEAT = Block(None, None, None, None, "heartbeat")


async def test_a_stream_that_is_quiet_says_that_it_is_there(
    door: Door, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailer, "HEARTBEAT", 0.05)
    monkeypatch.setattr(tailer, "CLOCK_TICK", 0.02)
    async with door.opened(ann) as stream:
        for _ in range(3):
            assert await stream.next() == HEARTBEAT
        await commit(await door.world.user("cyd"))
        while (block := await stream.next()) == HEARTBEAT:
            pass
        assert block is not None
        assert brief(block.event) == ("commit", "cyd", ["A"])


PRINTABLE = ['a"b', "a\\b", "<script>", "\U0001f600", "a b", "data: x", ": ", "\u00e4", "a'b", "&amp;"]
HOSTILE = [
    *PRINTABLE,
    *("a\nb", "a\r\nb", "\n\nevent: x\n\n", "\r", "\t", "a\u2028b", "a\u2029b", "a\u0085b", "\u202eb", "\x0b\x0c\x1c"),
]
NAME = "Eve\r\n\r\nevent: end\r\ndata: {}\r\n\r\n\u2028"


async def test_hostile_names_stay_in_their_line(door: Door, world: World, bob: User) -> None:
    """Ids of rows, and the name of whoever changed them, arrive as they are; nothing of them is an end of a line."""
    await world.mirror({key: vehicle() for key in PRINTABLE}, contract=FLEET)
    eve = (await world.user("eve")).on("fleet")
    await world.db.execute("UPDATE account SET name = $1 WHERE id = 'eve'", NAME)
    async with door.opened(bob) as stream:
        body = {"modifications": [{"id": key, "delta": {"seats": 7}} for key in PRINTABLE]}
        assert (await eve.post("drafts", body)).json()["errors"] == []
        await committed(eve)
        event = (await stream.block()).event
        assert sorted(event["ids"]) == sorted(PRINTABLE)
        assert event["actor"] == {"id": "eve", "name": NAME}
        # What no draft may be called, a system of record may call its rows.
        await world.db.execute("UPDATE feed_counter SET number = number + 1")
        await world.db.execute(
            "INSERT INTO feed (organization_id, number, at, type, dataset, row_count, keys, renamed, details)"
            " VALUES ('acme', 2, now(), 'push', 'fleet', 20, $1, $2, $3)",
            HOSTILE,
            json.dumps(dict.fromkeys(HOSTILE, NAME)),
            json.dumps({NAME: NAME}),
        )
        other = (await stream.block()).event
        assert (other["ids"], other["keys"]) == (HOSTILE, dict.fromkeys(HOSTILE, NAME))
        assert other["details"] == {NAME: NAME}
    assert await happened(bob) == [event, other]


async def test_your_own_drafts_reach_your_other_tabs(door: Door, ann: User, bob: User) -> None:
    """And nobody else; once for what is saved in a quarter of a second, up to the last of it."""
    async with door.opened(ann) as one, door.opened(ann) as other, door.opened(bob) as stranger:
        versions = [(await ann.on("fleet").draft("A", {"mileage": mileage}))["version"] for mileage in range(10)]
        for tab in (one, other):
            told, reached = list[Any](), 0
            while reached < versions[-1]:
                (event,) = await tab.events(1)
                assert (event["type"], event["from"], event["count"]) == ("drafts", reached, None)
                reached = event["to"]
                told.append(event)
            assert len(told) < 10
            assert "ids" not in told[0]
            resumed = told[0]["id"]
        await commit(await door.world.user("cyd"), "B")
        assert briefly(await stranger.events(1)) == [("commit", "cyd", ["B"])]
    async with door.stream(ann, last_id=resumed) as stream:
        missed = await stream.until_up_to_date()
        assert [event["type"] for event in missed] == ["commit"] + ["drafts"] * (told[0]["to"] < versions[-1])


async def test_who_hears_of_sessions_and_change_requests(door: Door, world: World, ann: User, bob: User) -> None:
    ann, root = ann.on("fleet"), (await world.user("root", role=Role.ADMIN)).on("fleet")
    async with door.opened(root) as admin, door.opened(bob) as other, door.opened(ann) as author:
        await begin(ann)
        of = await submitted(ann, {"id": "A", "delta": {"mileage": 1}})
        await done(root, of, "reject", comment="No")
        await commit(await world.user("cyd"), "E")
        heard: dict[str, list[str]] = {}
        for name, stream in (("admin", admin), ("other", other), ("author", author)):
            heard[name] = []
            while (event := (await stream.block()).event)["type"] != "commit":
                heard[name].append(event["type"])
    assert heard["admin"] == ["overlap", "request", "overlap", "request"]
    assert heard["other"] == ["overlap", "overlap"]
    # Drafts are told in their own time, perhaps later.
    assert {*heard["author"], "drafts"} == {"session", "drafts", "overlap", "request"}


async def test_many_at_once_hear_the_same(door: Door, world: World, ann: User) -> None:
    """Given thirty who come while others write, then each hears everything behind their position, once."""
    since = await now(ann)
    writers = [await world.user(f"w{each}") for each in range(4)]
    readers = [await world.user(f"r{each}") for each in range(30)]
    positions = [await now(reader) for reader in readers]

    async def write(place: int) -> None:
        for _ in range(10):
            await commit(writers[place], "ABCD"[place])

    async def read(place: int) -> list[int]:
        async with door.stream(readers[place], positions[place]) as stream:
            found = await stream.until_up_to_date()
            return [number(event["id"]) for event in found + await stream.events(40 - len(found))]

    told = await asyncio.gather(*map(read, range(30)), *map(write, range(4)))
    expected = [number(event["id"]) for event in await happened(ann, since) if event["type"] == "commit"]
    assert len(expected) == 40
    assert told[:30] == [expected] * 30


async def test_who_comes_right_after_nobody_listened(door: Door, ann: User, bob: User) -> None:
    """At any moment: while what reads for listeners still notices that there are none."""
    position = await now(bob)
    for pause in (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3):
        async with door.stream(bob, position) as stream:
            assert await stream.until_up_to_date() == []
            await commit(ann)
            (event,) = await stream.events(1)
            position = event["id"]
        await door.until_listeners(0)
        await asyncio.sleep(pause)


async def test_a_long_absence_is_caught_up_in_order(door: Door, world: World, bob: User, ann: User) -> None:
    """More than a batch, and more than is kept in memory; what happens meanwhile comes behind it."""
    await world.db.execute("INSERT INTO feed_counter VALUES ('acme', 5000)")
    await world.db.execute(
        "INSERT INTO feed (organization_id, number, at, type, dataset)"
        " SELECT 'acme', i, now(), 'pull', 'fleet' FROM generate_series(1, 5000) AS i"
    )
    async with door.stream(bob, "earliest") as stream:
        opened = await stream.block("open")
        assert number(opened.id or "") == 0
        await commit(ann)
        found = await stream.until_up_to_date()
        if len(found) == 5000:
            found += await stream.events(1)
    assert [number(event["id"]) for event in found] == [*range(1, 5002)]


# -- who may listen, and until when ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("way", ["removed", "less", "more", "logout", "everywhere"])
async def test_access_that_is_taken_away_ends_the_stream(
    door: Door, world: World, ann: User, bob: User, way: str
) -> None:
    """A membership that goes or changes, in either direction, and a logout; the streams of others go on."""
    root, eve = await world.user("root", role=Role.ADMIN), await world.user("eve")
    path = "/api/v1/orgs/acme/members/ann"
    async with door.opened(ann) as stream, door.opened(bob) as other:
        match way:
            case "removed":
                response = await root.request("DELETE", path)
            case "less":
                response = await root.request("PUT", path, json={"role": "VIEWER"})
            case "more":
                response = await root.request("PUT", path, json={"role": "ENGINEER"})
            case "logout":
                response = await ann.post("/api/auth/logout", {})
            case _:
                await world.db.execute("INSERT INTO revoked_token VALUES ('account:ann', now() + interval '1 hour')")
        if way != "everywhere":
            assert response.status_code < 300, response.text
        if way == "more":
            # The token claims what it claims: nothing more comes of it, and nothing less.
            await commit(eve)
            assert briefly(await stream.events(1)) == [("commit", "eve", ["A"])]
        else:
            assert await stream.ended() == "access_revoked"
            await commit(eve)
        assert briefly(await other.events(1)) == [("commit", "eve", ["A"])]


@pytest.mark.usefixtures("hurried")
async def test_a_stream_lasts_as_long_as_its_token(door: Door, world: World, ann: User, bob: User) -> None:
    cyd = await world.user("cyd", ttl=3600)
    async with door.opened(cyd) as stream, door.opened(bob) as other:
        world.clock.move(seconds=3599)
        await commit(ann)
        assert briefly(await stream.events(1)) == [("commit", "ann", ["A"])]
        world.clock.move(seconds=2)
        assert await stream.ended() == "token_expired"
        await commit(ann)
        assert briefly(await other.events(2)) == [("commit", "ann", ["A"])] * 2
    headers = {"Authorization": f"Bearer {cyd.token}"}
    refused(await door.http.get("/api/v1/orgs/acme/events", headers=headers), 401, "TOKEN_EXPIRED")


async def test_nobody_hears_a_word_after_the_database_was_away(door: Door, world: World, ann: User) -> None:
    """Given that a membership goes while the reader of the feed has no connection, the stream's end comes first."""
    async with door.opened(ann) as stream:
        await world.db.execute("DELETE FROM membership WHERE account_id = 'ann'")
        await cut(world)
        await tell(world, "pull")
        assert (await stream.block("end")).data == {"reason": "access_revoked"}


def cookie(user: User, **headers: str) -> dict[str, str]:
    """What a browser sends."""
    return {"Cookie": f"{SECURE_NAME}={user.token}"} | {name.replace("_", "-"): text for name, text in headers.items()}


async def test_a_browser_comes_by_its_cookie_to_streams_alone(door: Door, ann: User) -> None:
    for path in ("events", "datasets/fleet/events"):
        async with door.http.stream("GET", f"/api/v1/orgs/acme/{path}", headers=cookie(ann)) as response:
            assert response.status_code == 200
            assert await Stream(response).until_up_to_date() == []
    for path in ("changes?since=now", "datasets/fleet/rows", "datasets/fleet/changes?since=now"):
        refused(await door.http.get(f"/api/v1/orgs/acme/{path}", headers=cookie(ann)), 401, "TOKEN_MISSING")
    refused(await door.http.get("/api/auth/me", headers=cookie(ann)), 401, "TOKEN_MISSING")
    # A header that is none is not made good by a cookie.
    wrong = cookie(ann, Authorization="Basic x")
    refused(await door.http.get("/api/v1/orgs/acme/events", headers=wrong), 401, "TOKEN_MISSING")


async def test_the_cookie_of_the_login_opens_streams(database_url: str) -> None:
    async with open_world(database_url, cookie_secure=False) as world:
        await world.organization("acme")
        database, roles = world.runtime.database, {"acme": Role.VIEWER}
        await add_account(database, email="v@demo.example", name="V", password="correct horse", roles=roles)
        async with served(world) as door:
            login = {"email": "v@demo.example", "password": "correct horse"}
            assert (await door.http.post("/api/auth/login", json=login)).status_code == 200
            async with door.http.stream("GET", "/api/v1/orgs/acme/events") as response:
                assert response.status_code == 200
                assert await Stream(response).until_up_to_date() == []
            door.http.cookies.clear()
            refused(await door.http.get("/api/v1/orgs/acme/events"), 401, "TOKEN_MISSING")


async def test_a_page_of_another_site_cannot_listen_with_your_cookie(database_url: str) -> None:
    async with open_world(database_url, cors_origin=("https://plan.example",)) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        async with served(world) as door:
            host = f"127.0.0.1:{door.port}"
            allowed: list[dict[str, str]] = [
                {},
                {"Origin": f"http://{host}"},
                {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"},
                {"Sec-Fetch-Site": "same-origin"},
                {"Sec-Fetch-Site": "none"},
                {"Origin": "https://plan.example", "Sec-Fetch-Site": "cross-site"},
                {"Origin": "https://plan.example", "Sec-Fetch-Site": "same-site"},
            ]
            forbidden = [
                {"Origin": "https://evil.example"},
                {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
                {"Origin": f"http://{host}.evil.example"},
                {"Origin": f"http://evil.example/{host}"},
                {"Origin": f"http://{host}", "Sec-Fetch-Site": "cross-site"},
                {"Origin": "null"},
                {"Origin": ""},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site"},
                {"Origin": "https://plan.example.evil.example", "Sec-Fetch-Site": "cross-site"},
            ]
            for headers in allowed:
                async with door.stream(ann, headers=cookie(ann) | headers) as stream:
                    assert stream.response.status_code == 200, headers
            for headers in forbidden:
                path = "/api/v1/orgs/acme/events"
                refused(await door.http.get(path, headers=cookie(ann) | headers), 403, "FORBIDDEN")
            # A token in the header is nothing that a browser sends by itself.
            async with door.stream(ann, headers={"Authorization": f"Bearer {ann.token}"} | forbidden[0]) as stream:
                assert stream.response.status_code == 200


async def test_a_page_elsewhere_may_read_the_stream_by_fetch(database_url: str) -> None:
    """With Authorization, Last-Event-ID and Cache-Control, from an origin that is allowed."""
    async with open_world(database_url, cors_origin=("https://plan.example",)) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        async with served(world) as door:
            path, origin = "/api/v1/orgs/acme/events", {"Origin": "https://plan.example"}
            asked = {
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization,cache-control,last-event-id",
            }
            preflight = await door.http.options(path, headers=origin | asked)
            assert preflight.status_code == 204
            named = {each.strip() for each in preflight.headers["Access-Control-Allow-Headers"].lower().split(",")}
            assert {"authorization", "cache-control", "last-event-id"} <= named
            assert preflight.headers["Access-Control-Allow-Origin"] == "https://plan.example"
            headers = origin | {"Authorization": f"Bearer {ann.token}", "Last-Event-ID": await now(ann)}
            async with door.opened(ann, headers=headers) as stream:
                found = stream.response.headers
                assert found["Access-Control-Allow-Origin"] == "https://plan.example"
                assert found["Access-Control-Allow-Credentials"] == "true"
            elsewhere = await door.http.options(path, headers={"Origin": "https://evil.example"} | asked)
            assert "Access-Control-Allow-Origin" not in elsewhere.headers


async def test_a_browser_that_comes_back_and_may_not_is_told_to_stop(door: Door, world: World, ann: User) -> None:
    """204, which an EventSource takes for the end; whoever comes for the first time, or with a header, hears why."""
    position = await now(ann)
    short = await world.user("short", ttl=60)
    await world.organization("other")
    world.clock.move(seconds=61)
    path = "/api/v1/orgs/acme/events"
    for user, place in ((short, path), (ann, "/api/v1/orgs/other/events"), (ann, "/api/v1/orgs/none/events")):
        back = await door.http.get(place, headers=cookie(user, Last_Event_ID=position))
        assert (back.status_code, back.content) == (204, b"")
        assert (await door.http.get(place, headers=cookie(user))).status_code in (401, 403)
        bearer = {"Authorization": f"Bearer {user.token}", "Last-Event-ID": position}
        assert (await door.http.get(place, headers=bearer)).status_code in (401, 403)
    # Without a cookie any more, as after a logout.
    assert (await door.http.get(path, headers={"Last-Event-ID": position})).status_code == 204
    # And nowhere else.
    refused(await door.http.get("/api/auth/me", headers={"Last-Event-ID": position}), 401, "TOKEN_MISSING")


# -- who is slow, and what a process can bear --------------------------------------------------------------------------


async def test_as_many_streams_as_may_be(database_url: str) -> None:
    """Of many who come at once no more are let in; who leaves makes room."""
    async with open_world(database_url, max_streams=5) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        async with served(world) as door, AsyncExitStack() as stack:
            streams = await asyncio.gather(*(stack.enter_async_context(door.stream(ann)) for _ in range(12)))
            statuses = sorted(stream.response.status_code for stream in streams)
            assert statuses == [200] * 5 + [503] * 7
            for stream in streams:
                if stream.response.status_code == 503:
                    await stream.response.aread()
                    refused(stream.response, 503, "STREAMS_BUSY")
                    assert int(stream.response.headers["Retry-After"]) > 0
            last = next(stream for stream in streams if stream.response.status_code == 200)
            await last.response.aclose()
            await door.until_listeners(4)
            async with door.opened(ann):
                pass


async def test_streams_hold_no_connection_of_the_pool(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a pool of two, fifty streams, and requests that have both connections and wait, then what happens is told
    all the same, and so is who may not listen any more.
    """
    monkeypatch.setattr(tailer, "ACCESS_TICK", 0.02)
    async with open_world(database_url, pool_size=2) as world:
        await world.organization("acme")
        await world.mirror({"A": vehicle(), "B": vehicle()}, contract=FLEET)
        people = [await world.user(f"p{each}") for each in range(50)]
        async with served(world) as door, AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(door.opened(user)) for user in people]
            await asyncio.gather(*(commit(people[each], "A", seats=each) for each in range(1)))
            for stream in streams[1:]:
                assert briefly(await stream.events(1)) == [("commit", "p0", ["A"])]
            async with paused(world, "fleet.modification"):
                waiting = [asyncio.ensure_future(people[each].on("fleet").draft("B", {"seats": 9})) for each in (1, 2)]
                async with asyncio.timeout(LIMIT):
                    while await world.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < 2:
                        pass
                await tell(world, "pull")
                for stream in streams[3:]:
                    assert briefly(await stream.events(1)) == [("pull", None, None)]
                await world.db.execute("DELETE FROM membership WHERE account_id = 'p49'")
                assert await streams[49].ended() == "access_revoked"
                assert not any(each.done() for each in waiting)
            await asyncio.gather(*waiting)


async def tell(world: World, type_: str, entries: int = 1, **details: Any) -> None:
    """Entries of the feed, as transactions append them, at once."""
    await world.db.execute(
        "WITH counted AS (INSERT INTO feed_counter AS c VALUES ('acme', $2)"
        " ON CONFLICT (organization_id) DO UPDATE SET number = c.number + $2 RETURNING number)"
        " INSERT INTO feed (organization_id, number, at, type, dataset, details)"
        " SELECT 'acme', c.number - $2 + i, now(), $1, 'fleet', $3::jsonb"
        "   FROM counted AS c CROSS JOIN generate_series(1, $2) AS i",
        type_,
        entries,
        json.dumps(details),
    )


async def test_who_is_too_slow_begins_anew_and_nothing_grows(
    door: Door, world: World, ann: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given one who reads nothing while more happens than is kept in memory, then another hears all of it, the memory
    has its bound, and the slow one is told to load anew once they read, and hears what happens from then on.
    """
    monkeypatch.setattr(tailer, "KEPT_ENTRIES", 50)
    async with door.opened(bob) as other:
        slow = Idle(door.port, ann)
        await door.until_listeners(2)
        channel = world.runtime.tailer._channels["acme"]
        for _ in range(30):
            await tell(world, "pull", 40, filling="x" * 4000)
            await other.events(40)
            assert len(channel.entries) <= 100 + 40
        text = b""
        while b"event: reset" not in text:
            part = await slow.read()
            assert part, "closed"
            text += part
        await tell(world, "push")
        while b'"push"' not in text:
            text += await slow.read()
        assert text.count(b'"slow"') == 1
        assert len(text) < 30 * 40 * 4000
        told = text[text.index(b"event: reset") :]
        assert b'"pull"' not in told, "nothing from before comes after"
        slow.socket.close()
        await door.until_listeners(1)


@pytest.mark.parametrize("over", [False, True], ids=["for long", "whose stream is over"])
async def test_who_takes_nothing_is_let_go(
    door: Door, world: World, ann: User, bob: User, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    """After a minute, or sooner where the stream is over: a process that stops does not wait for them."""
    monkeypatch.setattr(tailer, "FAREWELL" if over else "PATIENCE", 0.3)
    monkeypatch.setattr(tailer, "CLOCK_TICK", 0.02)
    monkeypatch.setattr(tailer, "ACCESS_TICK", 0.02)
    async with door.opened(bob) as other:
        stalled = Idle(door.port, ann)
        await door.until_listeners(2)
        for _ in range(20):
            await tell(world, "pull", 20, filling="x" * 20_000)
            await other.events(20)
        if over:
            await world.db.execute("DELETE FROM membership WHERE account_id = 'ann'")
        await door.until_listeners(1)
        while await stalled.read():
            pass
        await tell(world, "push")
        assert briefly(await other.events(1)) == [("push", None, None)]


async def test_who_leaves_is_nobody_any_more(door: Door, ann: User) -> None:
    """However they leave: with a farewell, or in the middle."""
    for _ in range(3):
        async with door.opened(ann):
            await door.until_listeners(1)
        await door.until_listeners(0)
    idle = Idle(door.port, ann)
    await door.until_listeners(1)
    idle.socket.close()
    await door.until_listeners(0)


# -- the database ------------------------------------------------------------------------------------------------------


async def test_a_restored_database_is_another_life(door: Door, world: World, ann: User, bob: User) -> None:
    await commit(ann)
    async with door.opened(bob) as stream:
        await world.db.execute("UPDATE incarnation SET number = number + 1000")
        block = await stream.block("reset")
        assert (block.data["reason"], block.data["position"]) == ("epoch", await now(bob))
        await commit(ann)
        assert brief((await stream.block()).event) == ("commit", "ann", ["A"])


async def test_a_stream_outlives_every_connection_of_the_database(
    door: Door, world: World, ann: User, bob: User
) -> None:
    async with door.opened(bob) as stream:
        for mileage in range(3):
            await cut(world)
            async with asyncio.timeout(LIMIT):
                while (await ann.on("fleet").get("rows")).status_code != 200:
                    pass
            await commit(ann, mileage=mileage)
            assert brief((await stream.block()).event) == ("commit", "ann", ["A"])


@own_server
async def test_a_database_that_is_started_again_under_open_streams(short_dir: Path, bin_dir: Path | None) -> None:
    """They stay; who comes meanwhile is told to come again; and when it is back, all goes on where it was."""
    server = Server(short_dir / "pg", bin_dir=bin_dir, settings=FAST)
    with server:
        server.create_database()
        migrate(server.url(), CONTRACTS)
        url = server.url()
    async with AsyncExitStack() as stack:
        with server:
            world = await stack.enter_async_context(open_world(url))
            await world.organization("acme")
            await world.mirror({"A": vehicle()}, contract=FLEET)
            ann, bob = await world.user("ann"), await world.user("bob")
            door = await stack.enter_async_context(served(world))
            stream = await stack.enter_async_context(door.opened(bob))
            await commit(ann)
            assert briefly(await stream.events(1)) == [("commit", "ann", ["A"])]
        headers = {"Authorization": f"Bearer {bob.token}"}
        refused(await door.http.get("/api/v1/orgs/acme/events", headers=headers), 503, "DATABASE_UNAVAILABLE")
        with server:
            async with asyncio.timeout(LIMIT):
                while (await door.http.get("/health/ready")).status_code != 200:
                    pass
            await commit(ann)
            assert briefly(await stream.events(1)) == [("commit", "ann", ["A"])]
            async with door.stream(bob, last_id=stream.last_id) as again:
                assert await again.until_up_to_date() == []
            await world.db.close()
