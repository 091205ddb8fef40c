"""Eight clients save, commit and discard on the same rows; afterwards nothing that was acknowledged is missing.

    python -m benchmarks.contention                 both datasets, 20 seconds each, on a server of its own
    python -m benchmarks.contention --dataset pfa --seconds 60 --url postgresql://...

Each client is a user who does one thing after the other through HTTP messages, and keeps book of what was acknowledged.
Every value that it writes is unique, so that the database can be compared with the books, value by value:

- every acknowledged save is in the draft, or was committed, discarded, or saved over by the same user, and vice versa;
- no version of a draft repeats for a user and row;
- each change's base is what the changes before it had made of the row (a lost update would show here), and the mirror
  is what its history makes of the rows that were there first;
- leaves, lands and the index images of all modifications are what they would be if they were computed now;
- everybody's lists and totals are those of a plain merge and count;
- PostgreSQL has seen no deadlock, and nobody was told of a busy or broken server.

tests/test_contention.py runs the same in short.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.base import exact_json
from app.contracts import Contract
from app.dev.postgres import Server
from app.migrate import migrate
from tests.support.world import CONTRACTS, User, World, line, open_world, vehicle

CLIENTS = 8
ROWS = [f"R{number:03}" for number in range(100)]
# Rows that come and go.
PASSING = [f"N{number}" for number in range(10)]
# The fields that get unique values, text and number, with an index and without; and one that may be discarded alone.
UNIQUE = {"fleet": ("remark", "depot", "mileage"), "pfa": ("equipment", "model", "category", "monthlyRate")}
NUMBERS = {"mileage", "monthlyRate"}
FREE = {"fleet": "remark", "pfa": "equipment"}
WHOLE = {
    "fleet": {"kind": "Van"},
    "pfa": {"source": "Rental", "dor": "BEO"},
}
WEIGHTS = {"save": 50, "commit": 20, "discard": 8, "insert": 6, "delete": 4, "read": 12}

Document = dict[str, Any]


class Draft:
    """What a client believes to have drafted of a row: the unique values of it."""

    def __init__(self, op: str, values: Document):
        self.op, self.values = op, values


class Client:
    """A user with a book of what was acknowledged."""

    def __init__(self, user: User, contract: Contract, number: int, seed: int):
        self.user, self.contract, self.number = user, contract, number
        self.random = random.Random(seed * 1000 + number)
        self.written = 0
        self.drafts: dict[str, Draft] = {}
        # (commit id, row) -> (ops that it may have become, unique values)
        self.committed: dict[tuple[str, str], tuple[set[str], Document]] = {}
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.answers: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.findings: list[str] = []

    async def step(self) -> None:
        """Do one thing."""
        kind = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        started = time.perf_counter()
        await getattr(self, kind)()
        self.seconds[kind].append(time.perf_counter() - started)

    # -- what a client does

    async def save(self) -> None:
        keys = self.random.sample(ROWS, self.random.randint(1, 5))
        await self._save({key: ("update", self._values()) for key in keys})

    async def insert(self) -> None:
        values = self._values(UNIQUE[self.contract.name])
        await self._save({self.random.choice(PASSING): ("insert", values)})

    async def delete(self) -> None:
        await self._save({self.random.choice([*PASSING, *ROWS[:5]]): ("delete", {})})

    async def read(self) -> None:
        fields = UNIQUE[self.contract.name]
        params = self.random.choice(
            [{}, {"sort": f"-{fields[1]}"}, {"syncState": "draft"}, {"search": "c1"}, {f"{fields[1]}[gte]": "c3"}]
        )
        await self._ask("read", self.user.get("rows", {"pageSize": 20, **params}), {200})

    async def commit(self) -> None:
        ids = None if self.random.random() < 0.5 else self._some()
        answer = await self._commit(ids, [])
        if answer.status_code != 409:
            return
        conflicts = exact_json.decode(answer.content)["conflicts"]
        self._check_conflicts(conflicts)
        if self.random.random() < 0.3:
            await self._discard({conflict["id"] for conflict in conflicts})
            return
        uses = [self.random.choice(("mine", "theirs")) for _ in conflicts]
        resolutions = [
            {"id": conflict["id"], "field": conflict["field"], "use": use}
            for conflict, use in zip(conflicts, uses, strict=True)
        ]
        await self._commit(ids, resolutions)

    async def discard(self) -> None:
        if self.random.random() < 0.3:
            ids, field = self._some(), FREE[self.contract.name]
            answer = await self._ask("discard", self.user.post("discard", {"ids": ids, "fields": [field]}), {200})
            if answer.status_code == 200:
                for key in set(ids) & self.drafts.keys():
                    self._drop(key, [field])
        elif self.random.random() < 0.1:
            await self._discard(None)
        else:
            await self._discard(set(self._some()))

    # -- and how it keeps its book

    async def _save(self, wanted: Mapping[str, tuple[str, Document]]) -> None:
        whole = WHOLE[self.contract.name]
        modifications = [
            {"id": key, "op": op, "delta": values | (whole if op == "insert" else {})}
            for key, (op, values) in wanted.items()
        ]
        answer = await self._ask("save", self.user.post("drafts", {"modifications": modifications}), {200, 422})
        body = answer.json()
        for error in body.get("errors", []):
            self.answers[f"save {error['code']}"] += 1
            if error["code"] not in ("ROW_DELETED", "ROW_NOT_FOUND", "ROW_EXISTS"):
                self.findings.append(f"a save was refused: {error}")
        for saved in body["saved"]:
            key = saved["id"]
            # 0 where nothing is left: that is no version.
            self.versions[key] += [saved["version"]] if saved["version"] else []
            op, values = wanted[key]
            before = self.drafts.get(key)
            if op == "delete":
                if before is not None and before.op == "insert":
                    del self.drafts[key]
                else:
                    self.drafts[key] = Draft("delete", {})
            elif before is None or before.op == "delete":
                self.drafts[key] = Draft(op, values)
            else:
                self.drafts[key] = Draft("insert" if op == "insert" else before.op, before.values | values)

    async def _commit(self, ids: list[str] | None, resolutions: list[Document]) -> httpx.Response:
        selection: Document = {"all": True} if ids is None else {"ids": ids}
        body = selection | ({"resolutions": resolutions} if resolutions else {})
        answer = await self._ask("commit", self.user.post("commit", body), {200, 404, 409})
        chosen = [key for key in self.drafts if ids is None or key in ids]
        if answer.status_code == 404 and any(self.drafts[key].op != "delete" for key in chosen):
            self.findings.append(f"{self.user.id} has no drafts of {chosen}")
        if answer.status_code == 200:
            resolved: dict[str, set[str]] = defaultdict(set)
            for resolution in resolutions:
                self._resolve(resolution, resolved)
            commit_id = answer.json()["commitId"]
            for key in chosen:
                if (draft := self.drafts.pop(key, None)) is not None:
                    ops = {draft.op} | resolved[key] | ({"update"} if draft.op == "insert" else set())
                    self.committed[commit_id, key] = (ops, draft.values)
        return answer

    def _resolve(self, resolution: Document, resolved: dict[str, set[str]]) -> None:
        key, field = resolution["id"], resolution["field"]
        if resolution["use"] == "mine":
            resolved[key] |= {"insert"} if field is None else set()
        elif field is None:
            self.drafts.pop(key, None)
        else:
            groups = {group.name: group.fields for group in self.contract.atomic_groups}
            self._drop(key, groups.get(field, (field,)))

    def _drop(self, key: str, fields: Iterable[str]) -> None:
        """Take fields out of a draft; an update with nothing left is gone."""
        draft = self.drafts.get(key)
        if draft is not None:
            draft.values = {name: value for name, value in draft.values.items() if name not in fields}
            if draft.op == "update" and not draft.values:
                del self.drafts[key]

    async def _discard(self, ids: set[str] | None) -> None:
        body: Document = {"all": True} if ids is None else {"ids": sorted(ids)}
        answer = await self._ask("discard", self.user.post("discard", body), {200})
        if answer.status_code == 200:
            self.drafts = {key: draft for key, draft in self.drafts.items() if ids is not None and key not in ids}

    def _check_conflicts(self, conflicts: list[Document]) -> None:
        for conflict in conflicts:
            draft, field = self.drafts.get(conflict["id"]), conflict["field"]
            if draft is None:
                self.findings.append(f"a conflict in what {self.user.id} has not drafted: {conflict}")
            elif field in draft.values and conflict["mine"] != draft.values[field]:
                self.findings.append(f"{self.user.id} drafted {draft.values[field]!r}: {conflict}")
            elif field is not None and conflict["mine"] == conflict["theirs"]:
                self.findings.append(f"no conflict at all: {conflict}")

    async def _ask(self, kind: str, request: Any, expected: set[int]) -> httpx.Response:
        answer: httpx.Response = await request
        self.answers[f"{kind} {answer.status_code}"] += 1
        if answer.status_code not in expected:
            self.findings.append(f"{kind}: {answer.status_code} {answer.text[:1500]}")
        return answer

    def _values(self, fields: Iterable[str] | None = None) -> Document:
        """Values that nobody has written before."""
        known = UNIQUE[self.contract.name]
        self.written += 1
        unique = self.number * 1_000_000 + self.written
        chosen = fields or self.random.sample(known, self.random.randint(1, 2))
        return {name: unique if name in NUMBERS else f"c{self.number}-{unique}" for name in chosen}

    def _some(self) -> list[str]:
        """Some rows, drafted or not."""
        drafted = sorted(self.drafts)
        return sorted({*self.random.sample(drafted, min(len(drafted), 5)), self.random.choice(ROWS)})


async def contend(
    world: World, contract: Contract, *, seconds: float | None = None, operations: int | None = None, seed: int = 1
) -> list[Client]:
    """Fill the dataset, let the clients loose for so long or for so many operations each, and return them."""
    await world.organization("acme")
    fresh = line() if contract.name == "pfa" else vehicle()
    await world.mirror(
        {key: {**fresh, "remark" if contract.name == "fleet" else "equipment": "first"} for key in ROWS},
        contract=contract,
    )
    clients = []
    for number in range(CLIENTS):
        user = await world.user(f"c{number}")
        clients.append(Client(user.on(contract.name), contract, number, seed))
    until = time.monotonic() + seconds if seconds is not None else float("inf")

    async def work(client: Client) -> None:
        done = 0
        while time.monotonic() < until and done != operations:
            await client.step()
            done += 1

    await asyncio.gather(*(work(client) for client in clients))
    return clients


# -- the reckoning -----------------------------------------------------------------------------------------------------


async def verify(world: World, contract: Contract, clients: list[Client]) -> list[str]:
    """What is wrong in the database or in the answers; empty when all is well."""
    findings = [finding for client in clients for finding in client.findings]
    mirror = await _documents(world, f"SELECT row_key, data FROM {contract.schema}.mirror")
    history = await _changes(world, contract)
    findings += _check_versions(clients)
    findings += _check_commits(contract, clients, history)
    findings += await _check_drafts(world, contract, clients, history)
    findings += await _check_replay(world, contract, history, mirror)
    findings += await check_images(world, contract)
    for client in clients:
        findings += await _check_view(world, contract, client, mirror)
    deadlocks = await world.db.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    if deadlocks:
        findings.append(f"{deadlocks} deadlocks")
    return findings


async def _documents(world: World, query: str) -> dict[str, Document]:
    return {key: exact_json.decode(data) for key, data in await world.db.fetch(query)}


async def _changes(world: World, contract: Contract) -> list[Document]:
    """Everything that was committed, in the order in which it counts: out of history, or out of the outbox."""
    if contract.upstream is None:
        query = (
            f"SELECT revision AS number, row_key, actor, op, before, after, commit_id FROM {contract.schema}.history"
        )
    else:
        query = (
            "SELECT id AS number, row_key, user_id AS actor, op, base AS before, delta AS after, commit_id"
            f" FROM {contract.schema}.change WHERE state = 'committed'"
        )
    records = await world.db.fetch(f"{query} ORDER BY 1, 2")
    return [
        dict(record)
        | {name: exact_json.decode(record[name]) if record[name] is not None else None for name in ("before", "after")}
        | {"commit_id": str(record["commit_id"])}
        for record in records
    ]


def _check_versions(clients: list[Client]) -> list[str]:
    return [
        f"{client.user.id} was told the versions {versions} of {key}"
        for client in clients
        for key, versions in client.versions.items()
        if versions != sorted(set(versions))
    ]


def _check_commits(contract: Contract, clients: list[Client], changes: list[Document]) -> list[str]:
    """Every acknowledged value is there, and nothing that was not acknowledged."""
    findings = []
    unique = set(UNIQUE[contract.name])
    found = {(change["commit_id"], change["row_key"]): change for change in changes}
    deleted = {change["row_key"] for change in changes if change["op"] == "delete"}
    for client in clients:
        for place, (ops, values) in client.committed.items():
            change = found.pop(place, None)
            if change is None:
                if values or ("delete" in ops and place[1] not in deleted):
                    findings.append(f"lost: {client.user.id} committed {ops} {place} {values}")
                continue
            written = {name: value for name, value in (change["after"] or {}).items() if name in unique}
            whole = change["op"] == "insert"
            if change["actor"] != client.user.id or change["op"] not in ops:
                findings.append(f"{client.user.id} committed {ops} {place}, and it became {change['op']}")
            elif change["op"] != "delete" and not (values.items() <= written.items() if whole else values == written):
                findings.append(f"{client.user.id} committed {values} in {place}, and it became {written}")
    return findings + [f"nobody committed {place}: {change}" for place, change in found.items()]


async def _check_drafts(world: World, contract: Contract, clients: list[Client], changes: list[Document]) -> list[str]:
    """The drafts are those of the books. A drafted deletion is done with when somebody else has deleted the row."""
    findings = []
    unique = set(UNIQUE[contract.name])
    deleted = {change["row_key"] for change in changes if change["op"] == "delete"}
    records = await world.db.fetch(
        f"SELECT user_id, row_key, draft_op, delta FROM {contract.schema}.modification WHERE draft_op IS NOT NULL"
    )
    found = {(record["user_id"], record["row_key"]): record for record in records}
    for client in clients:
        for key, draft in client.drafts.items():
            record = found.pop((client.user.id, key), None)
            if record is None:
                if draft.op != "delete" or key not in deleted:
                    findings.append(f"lost: {client.user.id} drafted {draft.op} {key} {draft.values}")
                continue
            values = {name: value for name, value in exact_json.decode(record["delta"]).items() if name in unique}
            whole = draft.op == "insert"
            if record["draft_op"] != draft.op or not (
                draft.values.items() <= values.items() if whole else draft.values == values
            ):
                findings.append(f"{client.user.id} drafted {draft.op} {key} {draft.values}, not {dict(record)}")
    return findings + [f"nobody drafted {place}: {dict(record)}" for place, record in found.items()]


async def _check_replay(
    world: World, contract: Contract, changes: list[Document], mirror: dict[str, Document]
) -> list[str]:
    """Each change was made on what the changes before it had left; in the end that is the mirror."""
    findings = []
    fresh = line() if contract.name == "pfa" else vehicle()
    free = FREE[contract.name]
    rows: dict[str, Document] = {key: {contract.text_key: key, **fresh, free: "first"} for key in ROWS}
    for change in changes:
        key, op, before, after = change["row_key"], change["op"], change["before"], change["after"]
        was = rows.get(key)
        if (was is None) != (op == "insert"):
            findings.append(f"{op} of a row that is {'not ' * (was is None)}there: {change}")
            continue
        if op == "insert":
            rows[key] = {**after}
        elif was is not None and op == "update":
            stale = {name: value for name, value in before.items() if was.get(name) != value}
            if stale:
                findings.append(f"made on {stale}, not on {[was.get(name) for name in stale]}: {change}")
            was.update(after)
        elif was is not None:
            # The outbox has an inserted row without its key field.
            if was | {contract.text_key: key} != before | {contract.text_key: key}:
                findings.append(f"deleted {before}, not {was}")
            del rows[key]
    if contract.upstream is None:
        if rows != mirror:
            wrong = [key for key in rows.keys() | mirror.keys() if rows.get(key) != mirror.get(key)]
            findings.append(
                f"the mirror is not what its history says: {[(rows.get(k), mirror.get(k)) for k in wrong[:3]]}"
            )
        commits = {change["number"]: change["commit_id"] for change in changes}
        if len(commits) != len(set(commits.values())) or sorted(commits) != list(range(1, len(commits) + 1)):
            findings.append("the revisions are not one for each commit")
        revision = await world.db.fetchval("SELECT revision FROM dataset WHERE name = $1", contract.name)
        if revision != len(commits):
            findings.append(f"the dataset is at revision {revision}, its history at {len(commits)}")
    return findings


async def check_images(world: World, contract: Contract) -> list[str]:
    """Computed here anew, from the contract's expressions alone."""
    names = [column.name for column in contract.columns]
    mirror = f"ROW({', '.join(f'm.f_{name}' for name in names)})"
    before = f"ROW({', '.join(f'x.b_{name}' for name in names)})"
    after = f"ROW({', '.join(f'x.a_{name}' for name in names)})"
    merged = f"ROW({', '.join(column.of('doc') for column in contract.columns)})"
    words = contract.search_expression
    covers = f"(m.row_key IS NULL OR doc IS NULL OR {mirror} IS DISTINCT FROM {merged})"
    records = await world.db.fetch(f"""
        SELECT x.user_id, x.row_key
          FROM {contract.schema}.modification AS x
          LEFT JOIN {contract.schema}.mirror AS m USING (organization_id, row_key)
         CROSS JOIN LATERAL (
                   SELECT CASE
                              WHEN 'delete' IN (x.draft_op, x.pending_op) THEN NULL
                              WHEN m.row_key IS NOT NULL OR 'insert' IN (x.draft_op, x.pending_op)
                                  THEN coalesce(m.data, '{{}}') || x.pending || x.delta
                          END AS doc
                   OFFSET 0
               ) AS d
         WHERE {before} IS DISTINCT FROM {mirror}
            OR {after} IS DISTINCT FROM {merged}
            OR x.a_search IS DISTINCT FROM {words}
            OR x.leaves <> (m.row_key IS NOT NULL AND {covers})
            OR x.lands <> (doc IS NOT NULL AND {covers})
            OR x.reworded <> (NOT {covers} AND m.search <> {words})
            OR (x.draft_op IS NULL AND x.pending_op IS NULL)
    """)
    return [f"the image of {record['user_id']}'s {record['row_key']} is stale" for record in records]


async def _check_view(world: World, contract: Contract, client: Client, mirror: dict[str, Document]) -> list[str]:
    """The client's lists and totals, against a merge and a count in plain Python."""
    records = await world.db.fetch(
        f"SELECT row_key, draft_op, pending_op, pending, delta FROM {contract.schema}.modification WHERE user_id = $1",
        client.user.id,
    )
    view = {key: dict(data) for key, data in mirror.items()}
    for record in records:
        key, ops = record["row_key"], (record["draft_op"], record["pending_op"])
        if "delete" in ops or (key not in mirror and "insert" not in ops):
            view.pop(key, None)
        else:
            view[key] = mirror.get(key, {}) | exact_json.decode(record["pending"]) | exact_json.decode(record["delta"])
    findings = []
    page = await client.user.page(pageSize=1000, sort="id")
    if {row["id"]: row["data"] for row in page["data"]} != view or len(page["data"]) != len(view):
        findings.append(f"{client.user.id}'s list is not the merge")
    text, number, free = UNIQUE[contract.name][1], UNIQUE[contract.name][-1], FREE[contract.name]
    own = f"c{client.number}-"
    tests: list[tuple[Document, Callable[[Document], bool]]] = [
        ({}, lambda row: True),
        ({f"{text}[startswith]": own}, lambda row: (row.get(text) or "").startswith(own)),
        ({f"{text}[lt]": "c4"}, lambda row: row.get(text) is not None and row[text] < "c4"),
        ({f"{number}[gte]": 3_000_000}, lambda row: row.get(number) is not None and row[number] >= 3_000_000),
        ({"search": "-1"}, lambda row: any("-1" in str(row.get(name, "")) for name in contract.searched)),
        ({free: "first"}, lambda row: row.get(free) == "first"),
        ({f"{free}[isnull]": "true"}, lambda row: row.get(free) is None),
    ]
    for params, test in tests:
        total = (await client.user.page(pageSize=1, **params))["pagination"]["totalRecords"]
        counted = sum(test(row) for row in view.values())
        if total != counted:
            findings.append(f"{client.user.id} is told of {total} rows with {params}, and there are {counted}")
    return findings


# -- as a program ------------------------------------------------------------------------------------------------------


def report(contract: Contract, clients: list[Client], seconds: float, findings: list[str]) -> str:
    """The figures of a run."""
    answers: Counter[str] = Counter()
    times: dict[str, list[float]] = defaultdict(list)
    for client in clients:
        answers += client.answers
        for kind, found in client.seconds.items():
            times[kind] += found
    total = sum(len(found) for found in times.values())
    lines = [
        f"{contract.name}: {total} operations of {len(clients)} clients in {seconds:.1f} s, {total / seconds:.0f}/s"
    ]
    for kind, found in times.items():
        found.sort()
        median, worst = found[len(found) // 2] * 1000, found[int(len(found) * 0.99)] * 1000
        lines.append(f"  {kind:8} {len(found):6}   median {median:6.1f} ms   99 % {worst:7.1f} ms")
    lines.append("  " + ", ".join(f"{kind}: {count}" for kind, count in sorted(answers.items())))
    lines.append(f"  rows committed: {sum(len(client.committed) for client in clients)}")
    lines.append(f"  findings: {len(findings)}")
    return "\n".join([*lines, *(f"    {finding[:1800]}" for finding in findings[:20])])


async def run(url: str, name: str, seconds: float | None, operations: int | None, seed: int) -> bool:
    """One run on a database of its own; whether all was well."""
    contract = next(contract for contract in CONTRACTS if contract.name == name)
    async with open_world(url) as world:
        started = time.perf_counter()
        clients = await contend(world, contract, seconds=seconds, operations=operations, seed=seed)
        elapsed = time.perf_counter() - started
        findings = await verify(world, contract, clients)
    print(report(contract, clients, elapsed, findings), flush=True)
    return not findings


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", choices=[contract.name for contract in CONTRACTS])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--operations", type=int, help="of each client, instead of a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", help="an empty database that may be filled; with --dataset")
    options = parser.parse_args()
    seconds = None if options.operations else options.seconds
    well = True
    with ExitStack() as stack:
        if options.url is None:
            temporary = tempfile.TemporaryDirectory(prefix="vanguard-bench-", ignore_cleanup_errors=True)
            directory = stack.enter_context(temporary)
            server = stack.enter_context(Server(Path(directory, "pg")))
        for name in [options.dataset] if options.dataset else [contract.name for contract in CONTRACTS]:
            url = options.url
            if url is None:
                with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE contention_{name}")
                url = server.url(f"contention_{name}")
            migrate(url, CONTRACTS)
            well &= asyncio.run(run(url, name, seconds, options.operations, options.seed))
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    from app.base.logs import configure_logs

    configure_logs("ERROR", "console")
    main()
