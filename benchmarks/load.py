"""Readers and writers at once, for a bounded time: how long each endpoint takes, and what went wrong.

    python -m benchmarks.load                                       on a server and a `vanguard serve` of its own
    python -m benchmarks.load --rows 1000000 --readers 16 --writers 4 --seconds 60
    python -m benchmarks.load --url http://127.0.0.1:8000 --org demo --email analyst@demo.example
    python -m benchmarks.load --url https://... --org trial --token "$(vanguard token ann@example.com)" --json file

It saves, commits and discards drafts: what it is pointed at has to be made for that. Every client does one thing after
another. A conflict is an outcome, not an error. Times are the client's, waiting for its own processor included: so its
share of a processor is told, and near 1 the figures are about the client. `vanguard bench --load` is the first form.
"""

import argparse
import asyncio
import getpass
import math
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from app.accounts import add_account
from app.base import exact_json
from app.base.clock import now
from app.base.database import Database
from app.base.logs import configure_logs
from app.base.settings import Settings
from app.dev.seed import seed
from app.migrate import migrate
from app.organizations import add_organization
from app.web.auth import Auth, Role
from benchmarks.api import ROOT, serving
from benchmarks.data import SECRET, scratch_database, server_at

ROWS, READERS, WRITERS, SECONDS = 50_000, 8, 2, 20.0
ORGANIZATION = "load"
RESULT = ROOT / "benchmarks" / "results" / "latest-load.json"
# Rows that all writers with a token of their own write to, and rows that each has for itself.
SHARED, OWN = 50, 250
BATCH, COMMITTED = 50, 5

READS = {"first page": 30, "next page": 30, "filters": 15, "search": 5, "If-None-Match": 15, "one row": 5}
KPIS = {"KPIs": 5}
WRITES = {"save 1": 50, "save 50": 5, "patch": 20, "discard": 5, "commit 5": 20}

# Times are kept by their magnitude, 1 % apart, from 10 microseconds on: a run of days takes no more memory.
FINEST, STEP = 1e-5, math.log(1.01)


class Endpoint(msgspec.Struct, kw_only=True, rename="camel"):
    """What was found of one kind of request: milliseconds, and how often each answer came, by status and code."""

    name: str
    requests: int
    p50: float
    p95: float
    p99: float
    outcomes: dict[str, int]
    errors: dict[str, int]


class Load(msgspec.Struct, kw_only=True, rename="camel"):
    """The result of a run. The processors are how many, or what share of one, the client took and the API; None where
    that is not known.
    """

    seconds: float
    readers: int
    writers: int
    requests: int
    per_second: float
    errors: int
    client_processor: float
    api_processor: float | None
    endpoints: list[Endpoint]


class Book:
    """What came back of one kind of request."""

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def note(self, seconds: float, outcome: str, *, error: bool) -> None:
        """One answer, or none."""
        self.times[max(0, math.ceil(math.log(seconds / FINEST) / STEP))] += 1
        (self.errors if error else self.outcomes)[outcome] += 1

    def percentile(self, share: float) -> float:
        """The milliseconds within which this share was answered."""
        wanted, seen = share * self.times.total(), 0
        for magnitude, times in sorted(self.times.items()):
            seen += times
            if seen >= wanted:
                return round(FINEST * math.exp(magnitude * STEP) * 1000, 3)
        return 0.0

    def told(self, name: str) -> Endpoint:
        """As it is reported."""
        return Endpoint(
            name=name, requests=self.times.total(), p50=self.percentile(0.5), p95=self.percentile(0.95),
            p99=self.percentile(0.99), outcomes=dict(self.outcomes), errors=dict(self.errors),
        )  # fmt: skip


class Client(ABC):
    """A user who does one thing after another."""

    weights: Mapping[str, int]

    def __init__(self, http: httpx.AsyncClient, dataset: str, token: str, number: int, books: Mapping[str, Book]):
        self.http, self.dataset, self.books = http, dataset, books
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.random = random.Random(number)

    @abstractmethod
    def deeds(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """What it can do, by name."""

    async def work(self, until: float) -> None:
        """Everything once: a short run on a slow server leaves nothing out. Then by weight, until the time is over."""
        deeds = self.deeds()
        weights = [self.weights[name] for name in deeds]
        for deed in deeds.values():
            await deed()
        while time.monotonic() < until:
            (name,) = self.random.choices(list(deeds), weights)
            await deeds[name]()

    async def ask(
        self, name: str, method: str, path: str, body: Any = None, *, expected: Sequence[int] = (200,), **options: Any
    ) -> httpx.Response | None:
        """Send a request and note what came; None where it is of no use."""
        book, started = self.books[name], time.perf_counter()
        content = None if body is None else exact_json.encode(body)
        headers = self.headers | options.pop("headers", {})
        try:
            answer = await self.http.request(
                method, f"{self.dataset}/{path}", content=content, headers=headers, **options
            )
        except httpx.TransportError as error:
            book.note(time.perf_counter() - started, type(error).__name__, error=True)
            await asyncio.sleep(0.1)  # else a server that is gone is asked as fast as the processor can
            return None
        outcome = outcome_of(answer)
        good = answer.status_code in expected and not outcome.startswith("200 ")
        book.note(time.perf_counter() - started, outcome, error=not good)
        return answer if good else None


def outcome_of(answer: httpx.Response) -> str:
    """The status, with the code of the problem where there is one; also that of a row which a batch could not save."""
    with suppress(msgspec.DecodeError, AttributeError, IndexError, KeyError):
        if answer.status_code >= 400:
            return f"{answer.status_code} {exact_json.decode(answer.content)['code']}"
        if answer.request.method == "POST":
            return f"{answer.status_code} {exact_json.decode(answer.content)['errors'][0]['code']}"
    return str(answer.status_code)


class Reader(Client):
    """Pages through lists."""

    weights = READS | KPIS

    def __init__(self, *arguments: Any, categories: Sequence[str], keys: Sequence[str], kpis: bool):
        super().__init__(*arguments)
        self.categories, self.keys, self.kpis = categories, keys, kpis
        self.sort = self.random.choice(["forecastStart", "-forecastStart", "monthlyRate", "id"])
        self.following: str | None = None
        self.etag = "*none*"

    def deeds(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        return {
            "first page": self.first,
            "next page": self.next,
            "filters": lambda: self.list("filters", {"category": self._category(), "monthlyRate[gte]": "5000"}),
            "search": lambda: self.list("search", {"search": self._category()[:6], "pageSize": "20"}),
            "If-None-Match": self.unmodified,
            "one row": lambda: self.ask("one row", "GET", f"rows/{self.random.choice(self.keys)}"),
        } | ({"KPIs": lambda: self.ask("KPIs", "GET", "kpis")} if self.kpis else {})

    async def list(self, name: str, params: Mapping[str, str], **options: Any) -> httpx.Response | None:
        """A page in the reader's order."""
        return await self.ask(name, "GET", "rows", params={"sort": self.sort, **params}, **options)

    async def first(self) -> None:
        self._keep(await self.list("first page", {}))

    async def next(self) -> None:
        if self.following is None:
            await self.first()
        else:
            self._keep(await self.list("next page", {"after": self.following}))

    async def unmodified(self) -> None:
        answer = await self.list("If-None-Match", {}, headers={"If-None-Match": self.etag}, expected=(200, 304))
        self._keep(answer)

    def _keep(self, answer: httpx.Response | None) -> None:
        if answer is not None and answer.status_code == 200:
            self.etag = answer.headers["ETag"]
            self.following = exact_json.decode(answer.content)["pagination"]["nextCursor"]

    def _category(self) -> str:
        return self.random.choice(self.categories)


class Writer(Client):
    """Saves drafts, and commits or discards them."""

    weights = WRITES

    def __init__(self, *arguments: Any, keys: Sequence[str]):
        super().__init__(*arguments)
        self.keys = keys
        self.drafted: set[str] = set()

    def deeds(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        return {
            "save 1": lambda: self.save("save 1", 1),
            "save 50": lambda: self.save("save 50", min(BATCH, len(self.keys))),
            "patch": self.patch,
            "discard": self.discard,
            "commit 5": self.commit,
        }

    async def save(self, name: str, size: int) -> None:
        chosen = self.random.sample(self.keys, size)
        answer = await self.ask(
            name, "POST", "drafts", {"modifications": [{"id": key, "delta": self._delta()} for key in chosen]}
        )
        if answer is not None:
            self.drafted.update(chosen)

    async def patch(self) -> None:
        key = self.random.choice(self.keys)
        if await self.ask("patch", "PATCH", f"rows/{key}", self._delta()) is not None:
            self.drafted.add(key)

    async def commit(self) -> None:
        while len(self.drafted) < min(COMMITTED, len(self.keys)):
            known = len(self.drafted)
            await self.save("save 1", 1)
            if len(self.drafted) == known:
                return
        chosen = self._some()
        answer = await self.ask("commit 5", "POST", "commit", {"ids": chosen}, expected=(200, 409))
        if answer is not None and answer.status_code == 200:
            self.drafted.difference_update(chosen)
        elif answer is not None:
            await self._give_up(chosen)

    async def discard(self) -> None:
        if self.drafted:
            await self._give_up(self._some())

    async def _give_up(self, keys: Sequence[str]) -> None:
        if await self.ask("discard", "POST", "discard", {"ids": keys}) is not None:
            self.drafted.difference_update(keys)

    def _some(self) -> list[str]:
        return self.random.sample(sorted(self.drafted), min(COMMITTED, len(self.drafted)))

    def _delta(self) -> dict[str, Any]:
        """A cell that is sorted by, and one without an index; no rule of the contract minds them."""
        return {"monthlyRate": self.random.randrange(1_000, 90_000), "equipment": f"L-{self.random.randrange(10**6)}"}


async def run_load(
    base_url: str,
    organization: str,
    tokens: Sequence[str],
    *,
    seconds: float = SECONDS,
    readers: int = READERS,
    writers: int = WRITERS,
    dataset: str = "pfa",
    api_seconds: Callable[[], float | None] = lambda: None,
) -> Load:
    """Let readers and writers loose on a running Vanguard; `tokens` of its analysts are dealt out in turn.

    `api_seconds` tells what the API has used of the processors so far.

    Raises httpx.HTTPError where it cannot be reached, or does not let the first of them in.
    """
    books: dict[str, Book] = {}
    path = f"/api/v1/orgs/{organization}/datasets/{dataset}"
    # As many connections as clients: nobody waits for one.
    limits = httpx.Limits(max_connections=readers + writers, max_keepalive_connections=readers + writers)
    async with httpx.AsyncClient(base_url=base_url, timeout=60, trust_env=False, limits=limits) as http:
        keys, categories, kpis = await _look(http, path, tokens[0], SHARED + OWN * writers)
        for name in [*READS, *(KPIS if kpis else {}), *WRITES]:
            books[name] = Book()
        clients: list[Client] = [
            Reader(
                http, path, tokens[(writers + n) % len(tokens)], n, books, categories=categories, keys=keys, kpis=kpis
            )
            for n in range(readers)
        ]
        for n in range(writers):
            # Two clients of one user would take each other's drafts away.
            common = keys[:SHARED] if writers <= len(tokens) else []
            rows = [*common, *keys[SHARED + n :: writers]]
            clients.append(Writer(http, path, tokens[n % len(tokens)], readers + n, books, keys=rows))
        before = api_seconds()
        started, used = time.monotonic(), time.process_time()
        await asyncio.gather(*(client.work(started + seconds) for client in clients))
        elapsed, used = time.monotonic() - started, time.process_time() - used
        after = api_seconds()
    endpoints = [book.told(name) for name, book in books.items()]
    requests = sum(endpoint.requests for endpoint in endpoints)
    return Load(
        seconds=round(elapsed, 2), readers=readers, writers=writers, requests=requests,
        per_second=round(requests / elapsed, 1),
        errors=sum(sum(endpoint.errors.values()) for endpoint in endpoints),
        client_processor=round(used / elapsed, 2),
        api_processor=None if before is None or after is None else round((after - before) / elapsed, 2),
        endpoints=endpoints,
    )  # fmt: skip


async def _look(http: httpx.AsyncClient, path: str, token: str, wanted: int) -> tuple[list[str], list[str], bool]:
    """Ids to write to, categories to ask for, and whether there are KPIs."""
    headers = {"Authorization": f"Bearer {token}"}
    keys: list[str] = []
    categories: set[str] = set()
    params = {"pageSize": "1000", "fields": "category", "count": "none"}
    while len(keys) < wanted:
        answer = (await http.get(f"{path}/rows", params=params, headers=headers)).raise_for_status()
        page = exact_json.decode(answer.content)
        keys += [row["id"] for row in page["data"]]
        categories |= {row["data"]["category"] for row in page["data"] if row["data"].get("category")}
        if page["pagination"]["nextCursor"] is None:
            break
        params["after"] = page["pagination"]["nextCursor"]
    routes = exact_json.decode((await http.get("/schema/openapi.json")).raise_for_status().content)["paths"]
    return keys[:wanted], sorted(categories), "/api/v1/orgs/{org}/datasets/{dataset}/kpis" in routes


# -- a Vanguard of its own ---------------------------------------------------------------------------------------------


async def own_load(
    url: str | None = None,
    *,
    rows: int = ROWS,
    seconds: float = SECONDS,
    readers: int = READERS,
    writers: int = WRITERS,
) -> Load:
    """The load on a `vanguard serve` over a database of its own, on the PostgreSQL server at the address or one of its
    own; every client is a user.
    """
    with server_at(url) as origin, scratch_database(origin) as database:
        migrate(database)
        tokens = await _fill(Settings(database_url=database, secret=SECRET), rows, readers + writers)
        async with serving(database, SECRET) as api:
            return await run_load(
                f"http://127.0.0.1:{api.port}", ORGANIZATION, tokens,
                seconds=seconds, readers=readers, writers=writers, api_seconds=api.processor_seconds,
            )  # fmt: skip


async def _fill(settings: Settings, rows: int, users: int) -> list[str]:
    """Lines, and users with tokens."""
    database = Database(settings)
    await database.open()
    try:
        await add_organization(database, ORGANIZATION, "Load")
        await seed(settings.database_url, ORGANIZATION, rows)
        auth, roles = Auth(settings, database, now), {ORGANIZATION: Role.ANALYST}
        names = [f"user{number}" for number in range(users)]
        return [
            auth.issue(await add_account(database, email=f"{name}@load.example", name=name, password=None, roles=roles))
            for name in names
        ]
    finally:
        await database.close()


def run(
    url: str | None, *, rows: int = ROWS, seconds: float = SECONDS, readers: int = READERS, writers: int = WRITERS
) -> int:
    """What `vanguard bench --load` does; returns the exit status."""
    return tell(asyncio.run(own_load(url, rows=rows, seconds=seconds, readers=readers, writers=writers)), RESULT)


# -- as a program ------------------------------------------------------------------------------------------------------


def tell(load: Load, file: Path | None) -> int:
    """Show the result, and keep it in the file; the exit status is 1 where there were errors."""
    report(load, Console())
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(exact_json.encode(load)) + b"\n")
    return 1 if load.errors else 0


def report(load: Load, console: Console) -> None:
    """A table for people."""
    table = Table("", "requests", "p50 ms", "p95 ms", "p99 ms", "outcomes", "errors", box=None, pad_edge=False)
    for column in table.columns[1:5]:
        column.justify = "right"
    for each in load.endpoints:
        table.add_row(
            each.name, f"{each.requests:,}", f"{each.p50:.1f}", f"{each.p95:.1f}", f"{each.p99:.1f}",
            _listed(each.outcomes), _listed(each.errors), style="red" if each.errors else None,
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{load.readers} readers, {load.writers} writers, {load.seconds:.1f} s: {load.requests:,} requests, "
        f"{load.per_second:,.0f} a second, {load.errors} errors. The client took {load.client_processor:.2f} of a "
        "processor, and waiting for it is in the times"
        + ("." if load.api_processor is None else f"; the API took {load.api_processor:.2f}.")
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items()))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a Vanguard that runs already; its data is written to")
    parser.add_argument("--org", default="demo", help="with --url: the organization (default: %(default)s)")
    parser.add_argument("--token", action="append", help="with --url: an analyst's token; may be given more than once")
    parser.add_argument("--email", help="with --url: an analyst's account, whose password is asked for")
    parser.add_argument("--rows", type=int, default=ROWS, help="without --url: lines to seed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long (default: %(default)s)")
    parser.add_argument("--readers", type=int, default=READERS, help="(default: %(default)s)")
    parser.add_argument("--writers", type=int, default=WRITERS, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="a file for the result")
    options = parser.parse_args()
    configure_logs("ERROR", "console")
    size = {"seconds": options.seconds, "readers": options.readers, "writers": options.writers}
    if options.url is None:
        load = asyncio.run(own_load(rows=options.rows, **size))
    else:
        tokens = options.token or [_log_in(options.url, options.email or parser.error("Give --token or --email."))]
        load = asyncio.run(run_load(options.url, options.org, tokens, **size))
    raise SystemExit(tell(load, options.json))


def _log_in(url: str, email: str) -> str:
    body = {"email": email, "password": getpass.getpass()}
    answer = httpx.post(f"{url}/api/auth/login", json=body).raise_for_status()
    return str(answer.json()["accessToken"])


if __name__ == "__main__":
    main()
