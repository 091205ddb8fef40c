"""The client's data set over REST against the real application: reading, writing, and what goes wrong on the way."""

from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from app.web.auth import Role
from tests.support.world import FLEET, User, World, drafts, line, mirrored, vehicle
from vanguard_client import (
    Backoff,
    Conflict,
    DataSet,
    FeedExpired,
    Forbidden,
    Insertable,
    LiveTable,
    MemoryDataSet,
    Readable,
    ReadableValue,
    RecordNotFound,
    Refused,
    RestDataSet,
    Unauthorized,
    Unavailable,
    Vanguard,
    Writable,
    WritableValue,
)

Record = dict[str, Any]


class Road(httpx.AsyncBaseTransport):
    """The way to the application: what is on `answers` comes instead, and `lost` answers are lost."""

    def __init__(self, world: World) -> None:
        self._way = world.http._transport
        self.requests: list[httpx.Request] = []
        self.answers: list[httpx.Response | Exception] = []
        self.lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        response = await self._way.handle_async_request(request)
        if self.lost:
            await response.aread()
            self.lost -= 1
            raise httpx.ReadError("the connection was cut")
        return response


class Client:
    """Somebody's client, and what it went through."""

    def __init__(self, world: World, user: User) -> None:
        self.road, self.tokens, self.pauses = Road(world), [user.token], list[float]()
        self.asked = 0
        backoff = Backoff(base=1, cap=8, random=lambda: 0.5, sleep=self._sleep)
        http = httpx.AsyncClient(transport=self.road, timeout=60)
        self.server = Vanguard("http://vanguard.test/", self.token, backoff=backoff, http=http)

    def token(self) -> str:
        """The next one, or the last."""
        self.asked += 1
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def fleet(self, **more: Any) -> RestDataSet[Record]:
        return RestDataSet(self.server, "acme", "fleet", **more)

    def pfa(self, **more: Any) -> RestDataSet[Record]:
        return RestDataSet(self.server, "acme", "pfa", **more)


@pytest.fixture
def client(world: World, ann: User) -> Client:
    return Client(world, ann)


@pytest.fixture
async def fleet(client: Client, world: World) -> RestDataSet[Record]:
    """Ann's view of three vehicles."""
    vehicles = {"V1": vehicle(), "V2": vehicle(depot="South"), "V3": vehicle(mileage=Decimal("7.50"))}
    await world.mirror(vehicles, contract=FLEET)
    return client.fleet()


# --- reading


async def test_rows_are_read_with_every_digit(fleet: RestDataSet[Record]) -> None:
    rows = await fleet.list()
    assert sorted(rows) == ["V1", "V2", "V3"]
    assert rows["V2"] == {"plate": "V2", **vehicle(depot="South")}
    assert str(rows["V3"]["mileage"]) == "7.50"
    assert await fleet.get("V1") == rows["V1"]
    assert await fleet.get("V9") is None
    assert await fleet.get_some() == ("V1", rows["V1"])


async def test_a_selection_has_filters_and_fields(fleet: RestDataSet[Record], client: Client) -> None:
    some = client.fleet(
        filters={"depot": ["North", "West"], "mileage[gte]": 10, "inService": True}, fields=["depot", "remark"]
    )
    assert await some.list() == {"V1": {"depot": "North", "remark": None}}
    assert await some.get("V1") == {"depot": "North", "remark": None}
    assert await some.get("V2") is None, "it is there, but not in the selection"


async def test_a_selection_by_id_can_be_asked_for_ids(fleet: RestDataSet[Record], client: Client) -> None:
    some = client.fleet(filters={"id[in]": "V1,V2"}, fields=["depot"])
    assert sorted(await some.list()) == ["V1", "V2"]
    assert (await some.get("V2"), await some.get("V3")) == ({"depot": "South"}, None)


async def test_computed_columns_are_read_where_they_are_asked_for(client: Client, world: World) -> None:
    await world.mirror({"A": line()})
    rows = await client.pfa(fields=["category", "incomplete"]).list()
    assert rows == {"A": {"category": "Cranes", "incomplete": False}}


async def test_any_number_of_rows_is_read_page_by_page(client: Client, world: World) -> None:
    await world.mirror({f"R{number:04}": vehicle() for number in range(2500)}, contract=FLEET)
    loaded = await client.fleet(fields=["depot"]).load()
    assert len(loaded.rows) == 2500
    assert loaded.position


async def test_many_ids_go_in_requests_of_a_size_that_is_taken(client: Client, world: World) -> None:
    ids = [f"{number:03}" + "é" * 90 for number in range(300)]
    await world.mirror({id: vehicle() for id in ids}, contract=FLEET)
    client.road.requests.clear()
    loaded = await client.fleet(fields=["depot"]).fetch([*ids, "Z"])
    assert set(loaded.rows) == set(ids)
    assert max(len(request.url.raw_path) for request in client.road.requests) < 16_384


class Vehicle(msgspec.Struct, rename="camel"):
    """What a program wants to know of a vehicle."""

    depot: str
    mileage: Decimal = Decimal(0)
    in_service: bool | None = None


async def test_rows_are_structs_of_a_type(fleet: RestDataSet[Record], client: Client) -> None:
    typed = RestDataSet(client.server, "acme", "fleet", record=Vehicle)
    assert await typed.get("V3") == Vehicle("North", Decimal("7.50"), True)
    assert await typed.patch("V3", {"in_service": False}) == Vehicle("North", Decimal("7.50"), False)


# --- writing: the protocol


async def test_it_passes_for_a_data_set(fleet: RestDataSet[Record]) -> None:
    data: DataSet[Record] = fleet
    for protocol in (Readable, ReadableValue, Writable, WritableValue, Insertable):
        assert isinstance(data, protocol)


async def test_a_write_is_committed_and_leaves_no_draft(fleet: RestDataSet[Record], world: World, ann: User) -> None:
    assert (await fleet.patch("V1", {"mileage": Decimal("1500.00")}))["mileage"] == 1500
    assert str((await mirrored(world, "V1") or {})["mileage"]) == "1500.00"
    assert await drafts(ann.on("fleet")) == {}


async def test_inserting_what_is_there_returns_the_original(fleet: RestDataSet[Record], world: World) -> None:
    assert await fleet.insert("V1", {"depot": "West", "kind": "Van"}) == {"plate": "V1", **vehicle()}
    assert (await mirrored(world, "V1") or {})["depot"] == "North"
    assert (await fleet.insert("V4", {"depot": "West", "kind": "Van"}))["depot"] == "West"
    assert (await mirrored(world, "V4") or {})["kind"] == "Van"


async def test_replacing_sets_absent_fields_to_null(fleet: RestDataSet[Record], world: World) -> None:
    await fleet.replace("V1", {"depot": "West", "kind": "Bus", "seats": 40})
    row = await mirrored(world, "V1") or {}
    assert {field: value for field, value in row.items() if value is not None} == {
        "plate": "V1", "depot": "West", "kind": "Bus", "seats": 40,
    }  # fmt: skip
    assert (await fleet.replace("V5", {"depot": "West", "kind": "Van"}))["depot"] == "West"


async def test_a_patch_of_what_is_not_there_fails(fleet: RestDataSet[Record]) -> None:
    with pytest.raises(RecordNotFound):
        await fleet.patch("V9", {"depot": "West"})
    with pytest.raises(RecordNotFound):
        await fleet.patch("V9", {})


async def test_deleting_twice_is_deleting_once(fleet: RestDataSet[Record], world: World) -> None:
    await fleet.delete("V1")
    await fleet.delete("V1")
    assert await mirrored(world, "V1") is None


async def test_an_added_row_has_an_id(fleet: RestDataSet[Record], world: World) -> None:
    id = await fleet.add({"depot": "West", "kind": "Van", "plate": "is the id's, not ours to give", "remark": None})
    row = await mirrored(world, id) or {}
    assert (row["plate"], row["depot"], row.get("remark")) == (id, "West", None)


@pytest.mark.parametrize("id", ["a ü&=#?+", "50%", "x,y", "'", "%2F"])
async def test_an_id_is_any_text_that_the_server_takes(fleet: RestDataSet[Record], id: str) -> None:
    await fleet.insert(id, {"depot": "West", "kind": "Van"})
    assert (await fleet.patch(id, {"seats": 4}))["seats"] == 4
    await fleet.delete(id)
    assert await fleet.get(id) is None


async def test_an_id_that_the_server_does_not_take_is_refused(fleet: RestDataSet[Record]) -> None:
    with pytest.raises(Refused) as refused:
        await fleet.insert("a/b", {"depot": "West", "kind": "Van"})
    assert refused.value.code == "INVALID_ID"


# --- writing: refusals


async def test_a_refusal_says_what_was_wrong_and_leaves_no_draft(
    fleet: RestDataSet[Record], world: World, ann: User
) -> None:
    with pytest.raises(Refused) as refused:
        await fleet.patch("V1", {"seats": "many"})
    assert (refused.value.code, refused.value.status) == ("INVALID_TYPE", 422)
    with pytest.raises(Refused) as refused:
        await fleet.patch("V1", {"firstDay": "2026-02-01", "lastDay": "2026-01-01"})
    assert refused.value.errors[0]["code"] == "INVALID_SERVICE"
    assert await drafts(ann.on("fleet")) == {}
    with pytest.raises(Refused, match="no field 'nonsense'"):
        await fleet.patch("V1", {"nonsense": 1})


async def test_a_refused_write_leaves_other_drafts_of_the_row_alone(fleet: RestDataSet[Record], ann: User) -> None:
    await ann.on("fleet").draft("V1", {"remark": "not done yet"})
    with pytest.raises(Refused):
        await fleet.patch("V1", {"firstDay": "2026-02-01", "lastDay": "2026-01-01"})
    assert (await drafts(ann.on("fleet")))["V1"]["delta"] == {"remark": "not done yet"}


async def test_a_conflict_has_all_sides_and_leaves_no_draft(fleet: RestDataSet[Record], ann: User, bob: User) -> None:
    async with LiveTable(fleet, MemoryDataSet()) as table:
        edit = await table.edit_record("V1")
        await bob.on("fleet").draft("V1", {"mileage": 2000})
        await bob.on("fleet").commit("V1")
        edit.mileage = 1800
        result = await edit.save()
        assert isinstance(result, Conflict)
        (told,) = result.conflicts
        assert (told.field, told.base, told.theirs, told.mine) == ("mileage", 1000, 2000, 1800)
        assert await drafts(ann.on("fleet")) == {}
        assert edit.live_snapshot["mileage"] == 2000


async def test_a_viewer_is_refused(fleet: RestDataSet[Record], world: World) -> None:
    viewer = Client(world, await world.user("vic", role=Role.VIEWER))
    assert len(await viewer.fleet().list()) == 3
    with pytest.raises(Forbidden):
        await viewer.fleet().patch("V1", {"seats": 4})


async def test_a_dataset_that_is_not_there_is_refused(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        await RestDataSet(client.server, "acme", "nonsense").list()
    assert refused.value.code == "DATASET_NOT_FOUND"
    assert refused.value.request_id


# --- tokens


async def test_a_token_is_asked_for_once_and_again_when_it_is_not_taken(
    fleet: RestDataSet[Record], client: Client
) -> None:
    await fleet.list()
    await fleet.list()
    assert client.asked == 1
    client.road.answers = [httpx.Response(401, json={"code": "TOKEN_EXPIRED", "detail": "expired"})]
    await fleet.list()
    assert (client.asked, client.pauses) == (2, [])


async def test_a_token_that_is_not_taken_twice_is_told(fleet: RestDataSet[Record], client: Client) -> None:
    client.tokens = ["nonsense"]
    with pytest.raises(Unauthorized):
        await fleet.list()
    assert client.asked == 2


async def test_a_token_may_take_its_time(world: World, ann: User, fleet: RestDataSet[Record]) -> None:
    async def token() -> str:
        return ann.token

    http = httpx.AsyncClient(transport=Road(world), timeout=60)
    async with http, Vanguard("http://vanguard.test", token, http=http) as server:
        assert len(await RestDataSet(server, "acme", "fleet").list()) == 3


async def test_without_a_token_it_is_unavailable(world: World) -> None:
    def token() -> str:
        raise OSError("the identity provider is down")

    http = httpx.AsyncClient(transport=Road(world), timeout=60)
    async with http, Vanguard("http://vanguard.test", token, http=http) as server:
        with pytest.raises(Unavailable, match="identity provider is down"):
            await RestDataSet(server, "acme", "fleet").list()


# --- another try


async def test_whoever_is_too_busy_is_asked_again_and_not_before_they_said(
    fleet: RestDataSet[Record], client: Client
) -> None:
    client.road.answers = [
        httpx.Response(503, headers={"Retry-After": "5"}),
        httpx.Response(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        httpx.ConnectError("nobody there"),
        httpx.Response(200, text="<html>a proxy's"),
    ]
    assert len(await fleet.list()) == 3
    assert client.pauses == [5, 1, 2, 4], "half of a ceiling that doubles, and no less than was said"


async def test_after_five_attempts_it_is_unavailable(fleet: RestDataSet[Record], client: Client) -> None:
    client.road.answers = [httpx.Response(503, json={"detail": "the database is away"})] * 5
    with pytest.raises(Unavailable, match="the database is away"):
        await fleet.list()
    client.road.answers = [httpx.Response(500, json={"code": "INTERNAL_ERROR", "detail": "a defect"})] * 5
    with pytest.raises(Refused, match="a defect"):
        await fleet.list()
    assert len(client.pauses) == 8


async def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_done_twice(
    fleet: RestDataSet[Record], client: Client, world: World
) -> None:
    """Given that each first answer to a draft and to a commit is lost, when a row is written, then it is once."""
    await fleet.describe()
    client.road.lost = 1
    await fleet.add({"depot": "West", "kind": "Van"})
    client.road.requests.clear()
    for _ in range(3):
        client.road.lost = 2
        await fleet.patch("V1", {"seats": (await fleet._read("V1") or {})["seats"] + 1})
    assert (await mirrored(world, "V1") or {})["seats"] == 6
    keys = [r.headers["Idempotency-Key"] for r in client.road.requests if r.method == "POST"]
    assert len(set(keys)) == 6
    assert await world.db.fetchval("SELECT count(*) FROM fleet.history WHERE op = 'insert'") == 1
    assert await world.db.fetchval("SELECT count(*) FROM fleet.history WHERE row_key = 'V1'") == 3


async def test_what_cannot_be_sent_is_refused_and_not_tried_again(world: World) -> None:
    http = httpx.AsyncClient(transport=Road(world), timeout=60)
    async with http, Vanguard("http://vanguard.test", lambda: "line\nbreak", http=http) as server:
        with pytest.raises(Refused):
            await RestDataSet(server, "acme", "fleet").list()


# --- the feed, page by page


async def test_changes_are_read_page_by_page(fleet: RestDataSet[Record], bob: User) -> None:
    loaded = await fleet.load()
    for seats in (4, 5, 6):
        await bob.on("fleet").draft("V1", {"seats": seats})
        await bob.on("fleet").commit("V1")
    page = await fleet.changes(loaded.position, limit=2)
    assert ([each.type for each in page.data], page.up_to_date) == (["commit", "commit"], False)
    assert page.data[0].ids == ["V1"]
    assert page.data[0].actor is not None
    assert page.data[0].actor.name == "bob"
    rest = await fleet.changes(page.next_since)
    assert (len(rest.data), rest.up_to_date) == (1, True)


async def test_a_position_that_nothing_can_be_read_from_is_told_with_the_present_one(
    fleet: RestDataSet[Record],
) -> None:
    with pytest.raises(FeedExpired) as expired:
        await fleet.changes("nonsense")
    assert expired.value.reason == "malformed"
    assert (await fleet.changes(expired.value.position)).data == []


async def test_all_rows_of_a_large_event_can_be_asked_for(client: Client, world: World, bob: User) -> None:
    ids = [f"R{number:04}" for number in range(1500)]
    await world.mirror({id: vehicle() for id in ids}, contract=FLEET)
    fleet = client.fleet()
    position = (await fleet.changes("now")).next_since
    modifications = [{"id": id, "delta": {"seats": 9}} for id in ids]
    assert (await bob.on("fleet").post("drafts", {"modifications": modifications})).status_code == 200
    assert (await bob.on("fleet").commit()).status_code == 200
    (event,) = (await fleet.changes(position)).data
    assert (event.ids, event.count) == (None, 1500)
    assert await fleet.event_ids(event.id) == ids
