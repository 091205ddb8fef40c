"""A small world to test in: the application over a database of its own, organizations, people, lines."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from litestar import Litestar

from app.base import exact_json
from app.base.settings import Settings
from app.contracts import PFA, Contract, read_contract
from app.main import create_routes, create_runtime, opened
from app.web.auth import Account, Role
from app.web.middleware import Middleware
from app.web.runtime import Runtime
from tests.support.warm import Warm

FLEET = read_contract(Path(__file__).parent / "fleet.json")
# Every type of rule; tests of rules make its schema themselves.
LAB = read_contract(Path(__file__).parent / "lab.json")
CONTRACTS = (PFA, FLEET)
SECRET = "a secret for tests, and for nothing else"
POSITION = re.compile(r"[0-9a-f]{12}[.][A-Za-z0-9._~-]+")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        """Move on by timedelta's words."""
        self.at += timedelta(**by)


class User:
    """Somebody with a token; paths are below the organization's dataset unless they begin with a slash."""

    def __init__(self, world: "World", id_: str, organization: str, token: str, dataset: str = "pfa"):
        self.world, self.id, self.organization, self.token, self.dataset = world, id_, organization, token, dataset

    def on(self, dataset: str) -> "User":
        """The same person on another dataset."""
        return User(self.world, self.id, self.organization, self.token, dataset)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request, with the token."""
        if not path.startswith("/"):
            path = f"/api/v1/orgs/{self.organization}/datasets/{self.dataset}/{path}"
        headers = {"Authorization": f"Bearer {self.token}"} | dict(options.pop("headers", {}))
        return await self.world.http.request(method, path, headers=headers, **options)

    async def get(self, path: str, params: Any = None, **options: Any) -> httpx.Response:
        """GET."""
        return await self.request("GET", path, params=params, **options)

    async def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """POST of a JSON body, Decimals with their digits."""
        headers = {"Content-Type": "application/json"} | dict(options.pop("headers", {}))
        return await self.request("POST", path, content=exact_json.encode(body), headers=headers, **options)

    # What tests do most, down to the answer's body; each asserts the status that it stands for.

    async def rows(self, **params: Any) -> list[dict[str, Any]]:
        """The rows of a list."""
        return list((await self.page(**params))["data"])

    async def page(self, **params: Any) -> dict[str, Any]:
        """A list's whole answer, numbers as Decimals."""
        response = await self.get("rows", params=[(key, v) for key, value in params.items() for v in _each(value)])
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = exact_json.decode(response.content)
        return answer

    async def row(self, key: str, **params: Any) -> dict[str, Any]:
        """One row with its layers."""
        response = await self.get(f"rows/{key}", params=params)
        assert response.status_code == 200, response.text
        row: dict[str, Any] = exact_json.decode(response.content)
        return row

    async def draft(self, key: str, delta: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Save one draft."""
        response = await self.post("drafts", {"modifications": [{"id": key, "delta": delta or {}, **more}]})
        saved: dict[str, Any] = written(response)["saved"][0]
        return saved

    async def commit(self, *keys: str, **more: Any) -> httpx.Response:
        """Commit these drafts, or all."""
        return await self.post("commit", {**({"ids": list(keys)} if keys else {"all": True}), **more})

    async def discard(self, *keys: str, **more: Any) -> httpx.Response:
        """Discard these drafts, or all."""
        return await self.post("discard", {**({"ids": list(keys)} if keys else {"all": True}), **more})


def ids(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of rows, in their order."""
    return [row["id"] for row in rows]


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that a refusal tells, after a look at its status and code."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].startswith("application/problem+json")
    body: dict[str, Any] = exact_json.decode(response.content)
    assert (body["status"], body["code"]) == (status, code), response.text
    return body


def written(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    """What a write that succeeded answers, but for the feed's position behind it."""
    assert response.status_code == status, response.text
    return less_position(exact_json.decode(response.content))


def less_position(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The other members of an object that tells the feed's position, after a look at that."""
    assert POSITION.fullmatch(answer["position"]), answer
    return {name: value for name, value in answer.items() if name != "position"}


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


LONGEST_TTL = 36_500 * 86_400  # seconds


class World:
    """The application, its database, and whom it knows."""

    def __init__(
        self,
        application: Middleware,
        runtime: Runtime,
        http: httpx.AsyncClient,
        db: "asyncpg.Pool[Any]",
        clock: Clock,
    ):
        self.application, self.runtime, self.http, self.db, self.clock = application, runtime, http, db, clock

    async def organization(self, id_: str, contracts: Sequence[Contract] = CONTRACTS) -> None:
        """An organization with these datasets."""
        await self.db.execute("INSERT INTO organization (id, name) VALUES ($1, $1)", id_)
        for contract in contracts:
            await self.db.execute(
                "INSERT INTO dataset (organization_id, name, contract_version) VALUES ($1, $2, $3)",
                id_, contract.name, contract.version,
            )  # fmt: skip

    async def user(self, name: str, organization: str = "acme", role: Role = Role.ANALYST, **more: Any) -> User:
        """A member of the organization, logged in."""
        await self.db.execute(
            "INSERT INTO account (id, email, name) VALUES ($1, $1 || '@example.com', $1) ON CONFLICT DO NOTHING", name
        )
        await self.db.execute(
            "INSERT INTO membership (organization_id, account_id, role) VALUES ($1, $2, $3)",
            organization, name, role.value,
        )  # fmt: skip
        if more.get("operator"):
            await self.db.execute("UPDATE account SET operator = true WHERE id = $1", name)
        email = f"{name}@example.com"
        account = Account(id=name, email=email, name=name, operator=False, roles={organization: role})
        return User(self, name, organization, self.runtime.auth.issue(account, **more))

    async def mirror(
        self, documents: Mapping[str, Mapping[str, Any]], organization: str = "acme", contract: Contract = PFA
    ) -> None:
        """Put lines into the mirror, as a pull would; in one statement, for each prepares its generated columns."""
        texts = [exact_json.encode({contract.text_key: key, **data}).decode() for key, data in documents.items()]
        await self.db.execute(
            f"INSERT INTO {contract.schema}.mirror (organization_id, row_key, data, revision)"
            " SELECT $1, line.key, line.data::jsonb, 1"
            " FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS line (key, data, place) ORDER BY line.place",
            organization, [*documents], texts,
        )  # fmt: skip


def asgi(application: Any, **options: Any) -> httpx.ASGITransport:
    """HTTP messages straight to the application; Any, since httpx and litestar each type ASGI in their own way."""
    return httpx.ASGITransport(app=application, **options)


@asynccontextmanager
async def open_world(
    url: str, contracts: Sequence[Contract] = CONTRACTS, *, warm: Warm | None = None, **settings: Any
) -> AsyncIterator[World]:
    """The application over the database at the address, in this process, with real HTTP messages."""
    clock = Clock()
    # Tests move the clock further than a token lasts.
    wanted: dict[str, Any] = {"environment": "test", "max_token_ttl": LONGEST_TTL} | settings
    given = Settings(database_url=url, secret=SECRET, **wanted)
    runtime = create_runtime(given, contracts=contracts, clock=clock)
    if warm is not None and warm.url == url:
        for name in ("database", "reserve", "owner"):
            warm.lend(name, getattr(runtime, name))
    application = Middleware(_routes(given.cors_origin, given.max_body_bytes), runtime)
    transport = asgi(application)
    async with (
        opened(runtime),
        httpx.AsyncClient(transport=transport, base_url="http://vanguard.test", timeout=60) as http,
        asyncpg.create_pool(url, min_size=0, max_size=3) as db,
    ):
        yield World(application, runtime, http, db, clock)


@lru_cache
def _routes(cors_origin: tuple[str, ...], max_body_bytes: int) -> Litestar:
    """Made once for all worlds with these settings: it takes longer than most tests, and knows no runtime."""
    return create_routes(
        Settings(database_url="", secret=SECRET, cors_origin=cors_origin, max_body_bytes=max_body_bytes)
    )


def line(**fields: Any) -> dict[str, Any]:
    """A valid PFA line."""
    return {
        "category": "Cranes",
        "class": "Heavy",
        "source": "Rental",
        "dor": "BEO",
        "areaSilo": "North",
        "monthlyRate": 1000,
        "originalStart": "2026-01-01",
        "originalEnd": "2026-06-30",
        "forecastStart": "2026-02-01",
        "forecastEnd": "2026-07-31",
        "isActualized": False,
        "isDiscontinued": False,
        "isFundsTransferable": False,
        "hasPlan": True,
        "hasActuals": False,
    } | fields


def vehicle(**fields: Any) -> dict[str, Any]:
    """A valid vehicle of the fleet, the dataset without an upstream."""
    return {"depot": "North", "kind": "Van", "seats": 3, "mileage": 1000, "inService": True, "scrapped": False} | fields


def instrument(**fields: Any) -> dict[str, Any]:
    """An instrument of the laboratory that keeps all of its rules."""
    return {"owner": "Ann", "keeper": "Bob", "room": "R1", "boughtOn": "2026-01-01", "code": "AB-1"} | fields


NEW = {"category": "Cranes", "source": "Rental", "dor": "BEO", "monthlyRate": 50}


async def committed(user: User, *keys: str, **more: Any) -> dict[str, Any]:
    """The answer to a commit that succeeds, with the feed's position behind it."""
    response = await user.commit(*keys, **more)
    return written(response) | {"position": response.json()["position"]}


async def drafts(user: User) -> dict[str, dict[str, Any]]:
    """The caller's modifications by id."""
    response = await user.get("drafts")
    return {row["id"]: row for row in exact_json.decode(response.content)["data"]}


async def mirrored(world: World, key: str, contract: Contract = FLEET) -> dict[str, Any] | None:
    """A row of the mirror as it stands."""
    text = await world.db.fetchval(f"SELECT data::text FROM {contract.schema}.mirror WHERE row_key = $1", key)
    row: dict[str, Any] | None = text and exact_json.decode(text)
    return row


async def changes(world: World) -> list[tuple[Any, ...]]:
    """The changes of the pfa dataset, in order: row, user, op, base, delta, state."""
    rows = await world.db.fetch(
        "SELECT row_key, user_id, op, base::text, delta::text, state FROM pfa.change ORDER BY id"
    )
    return [
        (r["row_key"], r["user_id"], r["op"], exact_json.decode(r["base"]), exact_json.decode(r["delta"]), r["state"])
        for r in rows
    ]


async def refuse_upstream(world: World, key: str, state: str) -> None:
    """What a push leaves behind when upstream refuses a row's changes."""
    await world.db.execute(
        "UPDATE pfa.change SET state = $2, settled_at = $3 WHERE row_key = $1 AND state = 'committed'",
        key, state, world.clock(),
    )  # fmt: skip
    await world.db.execute("UPDATE pfa.modification SET pending_state = $2 WHERE row_key = $1", key, state)
