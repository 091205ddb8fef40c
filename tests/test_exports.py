"""The caller's view as a file: which rows, in which order, and how it is sent. What is in it: test_export_files.py."""

import asyncio
import csv
import io
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import openpyxl
import pytest
from litestar import get
from litestar.params import FromPath
from prometheus_client import REGISTRY

from app import main
from app.base import exact_json
from app.base.errors import RowNotFound
from app.base.settings import read_settings
from app.exports import Column, route, stream_table
from app.exports.download import Download
from app.main import create_routes
from app.web.middleware import Middleware
from app.web.runtime import VanguardRequest
from tests.support.world import FLEET, NEW, SECRET, User, World, asgi, ids, line, open_world, refused, vehicle
from tests.test_edges import served
from tests.test_outage import OURS, blocked, until


async def table(user: User, query: str = "") -> list[list[str]]:
    """A CSV file as the standard library reads it."""
    response = await user.get(f"export?format=csv&{query}")
    assert response.status_code == 200, response.text
    return list(csv.reader(io.StringIO(response.text, newline="")))


async def objects(user: User, query: str = "") -> list[dict[str, Any]]:
    """An NDJSON file, numbers as Decimals."""
    response = await user.get(f"export?format=ndjson&{query}")
    assert response.status_code == 200, response.text
    return [exact_json.decode(each) for each in response.content.splitlines()]


async def test_a_file_has_the_rows_of_the_list(world: World, ann: User) -> None:
    """Given drafts of every kind, then a file has what a list has, whatever is filtered and sorted by."""
    await world.mirror({f"L{n}": line(monthlyRate=n, equipment=f"E{n}") for n in range(1, 7)})
    await ann.draft("L2", op="delete")
    await ann.draft("L3", {"monthlyRate": 99})
    await ann.draft("L4", {"equipment": "drafted"})
    await ann.draft("L5", {"model": "M"})
    assert (await ann.commit("L5")).status_code == 200
    await ann.draft("new", NEW | {"monthlyRate": 50}, op="insert")
    for query in (
        "", "sort=monthlyRate", "sort=-monthlyRate", "sort=equipment,-id", "sort=-forecastCost", "search=drafted",
        "monthlyRate[gt]=3", "equipment[isnull]=false&sort=-equipment", "syncState=draft",
        "syncState=pristine,committed", "category=Nothing", "sort=forecastStart&category=Cranes", "id[in]=L1,new",
    ):  # fmt: skip
        rows = exact_json.decode((await ann.get(f"rows?{query}&include=computed")).content)["data"]
        expected = [{**row["data"], **row["computed"], "pfaId": row["id"]} for row in rows]
        found = await objects(ann, f"{query}&include=computed")
        assert [{name: value for name, value in row.items() if value is not None} for row in found] == [
            {name: value for name, value in row.items() if value is not None} for row in expected
        ], query
        head, *lines = await table(ann, f"{query}&include=computed")
        assert lines == [[text(row[name]) for name in head] for row in found], query


def text(value: Any) -> str:
    """As a cell of CSV shows it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


async def test_ties_come_by_id_and_nulls_where_a_list_has_them(world: World, ann: User) -> None:
    rates = {"D": 1, "A": None, "C": 1, "B": 2}
    await world.mirror({key: line(monthlyRate=rate, equipment=rate and "E") for key, rate in rates.items()})
    await ann.draft("B", {"monthlyRate": 1, "equipment": "E"})
    for sort in ("monthlyRate", "-monthlyRate", "equipment", "-equipment", "monthlyRate,-id", "-category", "id", "-id"):
        found = [row["pfaId"] for row in await objects(ann, f"sort={sort}")]
        assert found == ids(await ann.rows(sort=sort)), sort


async def test_fields_are_the_columns_behind_the_key(world: World, ann: User) -> None:
    await world.mirror({"A": line(model="M")})
    head, row = await table(ann, "fields=planCost,model,category,model")
    assert (head, row) == (["pfaId", "model", "category", "planCost"], ["A", "M", "Cranes", "5913.27"])
    assert await table(ann, "fields=pfaId") == [["pfaId"], ["A"]]
    assert (await table(ann))[0][:3] == ["pfaId", "organization", "areaSilo"]
    assert (await table(ann, "include=computed"))[0][-2:] == ["purchaseCost", "incomplete"]


async def test_another_dataset_has_its_own_columns(world: World, ann: User) -> None:
    await world.mirror({"V": vehicle(seats=-7)}, contract=FLEET)
    await ann.on("fleet").draft("V", {"mileage": 1, "remark": "-1"})
    assert await objects(ann.on("fleet"), "fields=seats,mileage,remark") == [
        {FLEET.key: "V", "seats": -7, "mileage": 1, "remark": "-1"}
    ]
    assert (await table(ann.on("fleet"), "fields=seats,mileage,remark"))[1] == ["V", "-7", "1", "'-1"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("page=2", "page"), ("pageSize=10", "pageSize"), ("after=x", "after"), ("count=none", "count"),
        ("format=pdf", "format"), ("format=csv&format=csv", "format"), ("header=none", "header"), ("bom=1", "bom"),
        ("format=xlsx&bom=true", "bom"), ("format=ndjson&header=labels", "header"), ("include=layers", "include"),
        ("include=deleted", "include"), ("nonsense=1", "nonsense"), ("sort=nonsense", "sort"),
        ("category[gt]=a&monthlyRate=x", "monthlyRate"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_refused(world: World, ann: User, query: str, parameter: str) -> None:
    problem = refused(await ann.get(f"export?{query}"), 400, "INVALID_FILTER")
    assert problem["errors"][0]["parameter"] == parameter


async def test_a_dataset_that_is_not_there_is_told_as_such(world: World, ann: User) -> None:
    refused(await ann.on("nothing").get("export"), 404, "DATASET_NOT_FOUND")
    await world.db.execute("DELETE FROM dataset WHERE name = 'fleet'")
    refused(await ann.on("fleet").get("export"), 404, "DATASET_NOT_FOUND")


async def test_the_head_says_what_comes(world: World, ann: User) -> None:
    await world.mirror({f"L{n}": line() for n in range(50)})
    await world.db.execute("ANALYZE pfa.mirror")
    types = {
        "csv": "text/csv; charset=utf-8",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "ndjson": "application/x-ndjson",
    }
    for ending, media_type in types.items():
        headers = (await ann.get(f"export?format={ending}")).headers
        assert headers["Content-Type"] == media_type
        assert headers["Content-Disposition"] == f'attachment; filename="pfa-2026-03-01.{ending}"'
        assert headers["Cache-Control"] == "private, no-store"
        assert int(headers["X-Estimated-Rows"]) == 50
        assert not {"ETag", "Content-Length", "Content-Encoding"} & {name.title() for name in headers}
        assert (await ann.request("HEAD", f"export?format={ending}")).headers["X-Estimated-Rows"] == "50"


async def test_all_of_a_file_is_of_one_moment(world: World, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a file that is begun, when rows change, come and go, then the rest of it shows none of that."""
    monkeypatch.setattr(route, "MOST_ROWS", 2)
    await world.mirror({key: line(model="before") for key in "ABCDEFGH"})
    await ann.draft("B", {"model": "drafted before"})
    async with reading(ann, "format=ndjson&fields=model") as reader:
        await reader.take()
        await ann.draft("D", {"model": "after"})
        await ann.discard("B")
        await world.db.execute('UPDATE pfa.mirror SET data = data || \'{"model": "after"}\'')
        await world.db.execute("DELETE FROM pfa.mirror WHERE row_key = 'H'")
        await world.mirror({"I": line(model="after")})
        await reader.rest()
    found = {row["pfaId"]: row["model"] for row in map(exact_json.decode, reader.body.splitlines())}
    assert found == dict.fromkeys("ABCDEFGH", "before") | {"B": "drafted before"}


# --- sending


class Reader:
    """A client that reads as it likes: what it does not take is not sent."""

    def __init__(self, user: User, path: str, query: str):
        self.user, self.path, self.query = user, path, query
        self.status, self.body, self.complete = 0, b"", False
        self.headers: dict[str, str] = {}
        self._parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self._gone, self._taken = asyncio.Event(), asyncio.Semaphore(0)

    async def answer(self) -> None:
        """The application's part."""
        path = f"/api/v1/orgs/acme/datasets/pfa/{self.path}"
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": self.query.encode(), "root_path": "",
            "headers": [(b"host", b"a"), (b"authorization", f"Bearer {self.user.token}".encode())],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        await self.user.world.application(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self._parts.put(message)
        await self._taken.acquire()

    async def take(self) -> bool:
        """The next part, the head included; False where there is none any more."""
        message = await self._parts.get()
        self._taken.release()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            return True
        self.body += message["body"]
        self.complete = not message.get("more_body")
        return not self.complete

    async def rest(self) -> None:
        """All that is still to come."""
        while await self.take():
            pass

    def leave(self) -> None:
        """Hang up."""
        self._gone.set()


@asynccontextmanager
async def reading(user: User, query: str, path: str = "export") -> AsyncIterator[Reader]:
    """A file under way, whose head is there; afterwards it has to have ended."""
    reader = Reader(user, path, query)
    task = asyncio.create_task(reader.answer())
    async with asyncio.timeout(30):
        await reader.take()
        yield reader
        reader.leave()
        await task


def sent(ending: str, outcome: str) -> float:
    """How many files ended so."""
    return REGISTRY.get_sample_value("vanguard_exports_total", {"format": ending, "outcome": outcome}) or 0.0


IDLE = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {OURS} AND state <> 'idle'"


async def test_a_client_that_leaves_ends_the_statement(
    world: World, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "MOST_ROWS", 1)
    await world.mirror({key: line() for key in "ABCDEF"})
    before = sent("csv", "left")
    async with reading(ann, "format=csv") as reader:
        await reader.take()
        assert not await world.db.fetchval(IDLE)
    assert (reader.status, reader.complete, sent("csv", "left")) == (200, False, before + 1)
    await until(world, IDLE)
    assert len(await table(ann)) == 7


async def test_a_client_that_leaves_before_the_first_row_ends_the_statement_too(world: World, ann: User) -> None:
    """Given a statement that waits, then it is gone although what it waited for is not there yet."""
    await world.mirror({"A": line()})
    waits = f"SELECT count(*) = 1 FROM pg_stat_activity WHERE {OURS} AND wait_event_type = 'Lock'"
    reader = Reader(ann, "export", "")
    async with blocked(world, "pfa.mirror", "ACCESS EXCLUSIVE"):
        task = asyncio.create_task(reader.answer())
        await until(world, waits)
        reader.leave()
        async with asyncio.timeout(30):
            await task
        await until(world, IDLE)
    assert reader.status == 0
    assert len(await table(ann)) == 2


async def test_as_many_files_as_may_be_are_sent_at_once_and_others_are_served(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a pool of two and one place, when a file is under way, then another is refused and a page is not."""
    monkeypatch.setattr(route, "MOST_ROWS", 1)
    monkeypatch.setattr(main, "WAIT_FOR_EXPORT", 0.05)
    before = sent("csv", "refused")
    async with open_world(database_url, pool_size=2, max_exports=1) as world:
        await world.organization("acme")
        ann, bob = await world.user("ann"), await world.user("bob")
        await world.mirror({key: line() for key in "ABC"})
        async with reading(ann, "format=csv") as reader:
            response = await bob.get("export")
            refused(response, 503, "EXPORTS_BUSY")
            assert int(response.headers["Retry-After"]) > 0
            assert sent("csv", "refused") == before + 1
            assert ids(await bob.rows(sort="id")) == ["A", "B", "C"]
            await reader.rest()
        assert len(await table(bob)) == 4


async def test_whoever_finds_no_place_waits_for_one(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MOST_ROWS", 1)
    async with open_world(database_url, max_exports=1) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        await world.mirror({key: line() for key in "ABC"})
        async with reading(ann, "format=csv") as reader:
            others = [asyncio.create_task(table(ann)) for _ in range(5)]
            await reader.rest()
        assert [len(await other) for other in others] == [4] * 5


async def test_a_client_that_does_not_read_is_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "MOST_ROWS", 1)
    before = sent("csv", "timed_out")
    async with open_world(database_url, export_timeout=0.2) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        await world.mirror({key: line() for key in "ABC"})
        reader = Reader(ann, "export", "format=csv")
        async with asyncio.timeout(30):
            await reader.answer()
        assert (sent("csv", "timed_out"), reader.complete) == (before + 1, False)
        await until(world, IDLE)


async def test_a_file_that_takes_too_long_to_begin_is_told_as_such(database_url: str) -> None:
    async with open_world(database_url, export_timeout=0.2) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        async with blocked(world, "pfa.mirror", "ACCESS EXCLUSIVE"):
            refused(await ann.get("export"), 503, "DATABASE_BUSY")


async def test_a_file_that_breaks_off_does_not_look_complete(world: World) -> None:
    """Over the wire: given a file whose connection to the database is cut, then it has no end."""
    world.clock.at = datetime.now(UTC)
    ann = await world.user("ann")
    await world.db.execute(
        "INSERT INTO pfa.mirror (organization_id, row_key, data, revision)"
        " SELECT 'acme', n::text, jsonb_build_object('pfaId', n::text, 'contract', repeat('x', 3000)), 1"
        " FROM generate_series(1, 10000) AS n"
    )
    # It waits for its client, for good: between two batches it is idle, too.
    stuck = f"{OURS} AND state = 'idle in transaction' AND clock_timestamp() - state_change > interval '0.3 s'"
    with served(world.runtime.settings.database_url) as server:
        await server.listening()
        whole = await exported(server.port, ann)
        assert whole.endswith(b"\r\n0\r\n\r\n")
        reader, writer = await asking(server.port, ann)
        found = await reader.read(1)
        await until(world, f"SELECT count(*) = 1 FROM pg_stat_activity WHERE {stuck}")
        await world.db.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {stuck}")
        async with asyncio.timeout(30):
            found += await reader.read()
        writer.close()
        assert found.startswith(b"HTTP/1.1 200")
        assert len(found) < len(whole)
        assert not found.endswith(b"0\r\n\r\n")

        reader, writer = await asking(server.port, ann)
        await reader.read(1)
        await until(world, f"SELECT count(*) = 1 FROM pg_stat_activity WHERE {stuck}")
        writer.close()
        await until(world, IDLE)
    ended = [each["outcome"] for each in server.lines if each["event"] == "export"]
    assert ended == ["complete", "failed", "left"]
    assert "xxx" not in str(server.lines)


async def asking(port: int, user: User) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a file comes, and on which not much of it is under way unread."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    wire.setblocking(False)
    await asyncio.get_running_loop().sock_connect(wire, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=wire)
    lines = ["GET /api/v1/orgs/acme/datasets/pfa/export HTTP/1.1", "Host: a", "Connection: close"]
    writer.write("\r\n".join([*lines, f"Authorization: Bearer {user.token}", "", ""]).encode())
    return reader, writer


async def exported(port: int, user: User) -> bytes:
    """The whole answer, chunks and all."""
    reader, writer = await asking(port, user)
    async with asyncio.timeout(60):
        found = await reader.read()
    writer.close()
    return found


@pytest.mark.parametrize(("wanted", "pool", "places"), [(2, 10, 2), (3, 4, 3), (4, 4, 3), (2, 2, 1)])
def test_exports_leave_a_connection_to_others(wanted: int, pool: int, places: int) -> None:
    given = {"DATABASE_URL": "postgresql://a/b", "VANGUARD_SECRET": SECRET}
    sizes = {"VANGUARD_MAX_EXPORTS": str(wanted), "VANGUARD_POOL_SIZE": str(pool)}
    assert read_settings(given | sizes).places_of_exports == places


# --- any table


@pytest.fixture
async def tables(world: World) -> AsyncIterator[dict[str, Any]]:
    """What the route /table/{ending} sends: `batches`, whether they were `closed`, how often it was `noted`. `http`
    leads there.
    """
    given: dict[str, Any] = {"batches": [], "closed": False, "noted": 0}

    async def batches() -> AsyncGenerator[Sequence[Sequence[Any]], None]:
        try:
            for batch in given["batches"]:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            given["closed"] = True

    async def note() -> None:
        given["noted"] += 1

    @get("/table/{ending:str}", opt={"public": True}, include_in_schema=False)
    async def table(request: VanguardRequest, ending: FromPath[str]) -> Download:
        columns = [Column(name="id", label="Id"), Column(name="new", label="New value")]
        return stream_table(request, ending, 'a "diff"/1', columns, batches, note)

    # The routes of the tests are the same for all of them: this one has its own.
    routes = create_routes(world.runtime.settings)
    routes.register(table)
    async with httpx.AsyncClient(
        transport=asgi(Middleware(routes, world.runtime)), base_url="http://vanguard.test", timeout=60
    ) as given["http"]:
        yield given


@pytest.mark.parametrize("ending", ["csv", "xlsx", "ndjson"])
async def test_any_table_is_sent_alike(world: World, tables: dict[str, Any], ending: str) -> None:
    tables["batches"] = [[["A", Decimal("1.50")], ["B", None]], [], [["=C", "x"]]]
    response = await tables["http"].get(f"/table/{ending}")
    assert response.headers["Content-Disposition"] == f'attachment; filename="a-diff-1.{ending}"'
    assert tables["closed"]
    assert tables["noted"] == 1
    match ending:
        case "csv":
            assert response.text == "id,new\r\nA,1.50\r\nB,\r\n'=C,x\r\n"
        case "ndjson":
            assert response.text == '{"id":"A","new":1.50}\n{"id":"B","new":null}\n{"id":"=C","new":"x"}\n'
        case _:
            sheet = openpyxl.load_workbook(io.BytesIO(response.content)).active
            found = list(sheet.iter_rows(values_only=True))
            assert found == [("id", "new"), ("A", 1.5), ("B", None), ("=C", "x")]


async def test_what_a_table_raises_before_it_begins_is_an_answer(world: World, tables: dict[str, Any]) -> None:
    tables["batches"] = [RowNotFound("There is no such request.")]
    refused(await tables["http"].get("/table/xlsx"), 404, "ROW_NOT_FOUND")
    assert tables["closed"]
    assert tables["noted"] == 0
    assert world.runtime.exports.free == world.runtime.settings.places_of_exports


async def test_what_a_table_raises_afterwards_breaks_it_off(world: World, tables: dict[str, Any]) -> None:
    tables["batches"] = [[["A", 1]], RowNotFound("There is no such request.")]
    with pytest.raises(AssertionError):  # httpx finds an answer without its end
        await tables["http"].get("/table/csv")
    assert tables["closed"]
    assert tables["noted"] == 1


async def test_a_table_without_rows_has_its_columns(world: World, tables: dict[str, Any]) -> None:
    assert (await tables["http"].get("/table/csv")).text == "id,new\r\n"
    assert (await tables["http"].get("/table/ndjson")).text == ""
